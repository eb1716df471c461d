;;; smtpmail-native-mode-tests.el --- Other programs, unchanged  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each program that sends by smtpmail, through the mode to the scripted server.

;;; Code:

(require 'ert)
(require 'feedmail)
(require 'smtpmail-native-test-helper)

;;;; Programs

(ert-deftest smtpmail-native-mode-tests-mail-mode ()
  "`mail-send' of `mail-mode'."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (with-temp-buffer
      (mail-mode)
      (smtpmail-native-test-insert)
      (set-buffer-modified-p t)
      (mail-send))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-message-mode ()
  "`message-send'."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (kill-buffer (smtpmail-native-test-send-message))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-method-header ()
  "X-Message-SMTP-Method names another server than the variables do."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((smtpmail-smtp-server "nowhere.invalid")
          (smtpmail-smtp-service 1))
      (kill-buffer (smtpmail-native-test-send-message
                    (format "X-Message-SMTP-Method: smtp localhost %d\n" port))))
    (smtpmail-native-test-verdict server)
    (should-not (string-match-p "X-Message-SMTP"
                                (smtpmail-native-test-delivered folder)))))

(ert-deftest smtpmail-native-mode-tests-feedmail ()
  "Feedmail calls `smtpmail-via-smtp' and wants to hear at once."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((feedmail-buffer-eating-function #'feedmail-buffer-to-smtpmail)
          (feedmail-confirm-outgoing nil)
          (feedmail-enable-queue nil)
          (feedmail-nuke-bcc t)
          (mail-interactive nil))
      (with-temp-buffer
        (smtpmail-native-test-insert "From: alice@example.org\n")
        (feedmail-send-it)))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-direct ()
  "A direct call returns nil, or a string that tells what went wrong."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 550 5.1.1 no such user" "C: QUIT")
    (with-temp-buffer
      (insert "From: alice@example.org\nTo: bob@example.org\n\nHello\n")
      (should (string-match-p "550 5.1.1 no such user"
                              (smtpmail-via-smtp '("bob@example.org")
                                                 (current-buffer)))))
    (smtpmail-native-test-verdict server)
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-mode-tests-direct-as-it-is ()
  "A direct call sends the buffer octet by octet."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (insert "From: alice@example.org\nX-A: \303\244\nTo: x@y\n\n\344\n.\n")
      (should-not (smtpmail-via-smtp '("bob@example.org") (current-buffer))))
    (smtpmail-native-test-verdict server)
    (should (equal (smtpmail-native-test-delivered folder)
                   (concat "From: alice@example.org\r\nX-A: \303\244\r\n"
                           "To: x@y\r\n\r\n\344\r\n.\r\n")))))

(ert-deftest smtpmail-native-mode-tests-resend ()
  "A mail that begins with Resent- fields goes to those whom they name."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (with-temp-buffer
      (insert "Resent-From: alice@example.org\nResent-To: bob@example.org\n"
              "From: carol@example.org\nTo: dave@example.org\nSubject: x\n"
              mail-header-separator "\nHello\n")
      (funcall send-mail-function))
    (smtpmail-native-test-verdict server)))

;;;; Advice that chooses the account

(defun smtpmail-native-mode-tests--advised (how before)
  "Send while `smtpmail-via-smtp' has advice HOW that chooses the server.
BEFORE non-nil means that it had it before the mode was turned on."
  (smtpmail-native-test-with-server smtpmail-native-test-one
    (let* ((choose (lambda (&rest _)
                     (setq smtpmail-smtp-server "localhost"
                           smtpmail-smtp-service port)))
           (advice (if (eq how :around)
                       (lambda (function &rest args)
                         (funcall choose)
                         (apply function args))
                     choose)))
      (setq smtpmail-smtp-server "nowhere.invalid")
      (unwind-protect
          (progn
            (when before
              (advice-add 'smtpmail-via-smtp how advice))
            (smtpmail-native-mode 1)
            (unless before
              (advice-add 'smtpmail-via-smtp how advice))
            (with-temp-buffer
              (smtpmail-native-test-insert)
              (smtpmail-send-it))
            (smtpmail-native-test-verdict server))
        (advice-remove 'smtpmail-via-smtp advice)
        (smtpmail-native-mode -1)))))

(ert-deftest smtpmail-native-mode-tests-advice ()
  "Advice runs first and counts, whenever it was added."
  (dolist (how '(:before :around))
    (smtpmail-native-mode-tests--advised how t)
    (smtpmail-native-mode-tests--advised how nil)))

(ert-deftest smtpmail-native-mode-tests-off ()
  "Turned off, the mode leaves nothing behind."
  (let ((before (mapcar #'symbol-function
                        '(smtpmail-via-smtp smtpmail-send-it
                          smtpmail-send-queued-mail))))
    (smtpmail-native-mode 1)
    (smtpmail-native-mode -1)
    (should (equal before
                   (mapcar #'symbol-function
                           '(smtpmail-via-smtp smtpmail-send-it
                             smtpmail-send-queued-mail))))))

(ert-deftest smtpmail-native-mode-tests-without-module ()
  "Where the module cannot be loaded, stock smtpmail sends."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 250 ok" "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT"
       "S: 221 bye")
    (let ((stock nil)
          ;; Unlike ours, Emacs's own look-up needs a hosts file for "localhost".
          (smtpmail-smtp-server "127.0.0.1"))
      (cl-letf (((symbol-function 'smtpmail-native-load-available-p) #'ignore)
                ((symbol-function 'smtpmail-try-auth-methods) #'ignore))
        (advice-add 'smtpmail-send-data :before (lambda (&rest _) (setq stock t))
                    '((name . noticed)))
        (unwind-protect
            (with-temp-buffer
              (smtpmail-native-test-insert)
              (smtpmail-send-it))
          (advice-remove 'smtpmail-send-data 'noticed)))
      (should stock))
    (smtpmail-native-test-verdict server)))

(provide 'smtpmail-native-mode-tests)
;;; smtpmail-native-mode-tests.el ends here
