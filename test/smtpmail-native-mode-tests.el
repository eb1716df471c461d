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

(defmacro smtpmail-native-mode-tests--with-advice (advice &rest body)
  "Run BODY while `smtpmail-via-smtp' has the function ADVICE around it."
  (declare (indent 1) (debug t))
  `(unwind-protect
       (progn
         (advice-add 'smtpmail-via-smtp :around ,advice '((name . mine)))
         ,@body)
     (advice-remove 'smtpmail-via-smtp 'mine)))

(defun smtpmail-native-mode-tests--send ()
  "Send a mail to Bob by `smtpmail-send-it'."
  (with-temp-buffer
    (smtpmail-native-test-insert)
    (smtpmail-send-it)))

(ert-deftest smtpmail-native-mode-tests-defadvice ()
  "Old advice that reads the From field of the buffer, as the wiki has it."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((right port))
      (setq smtpmail-smtp-server "nowhere.invalid"
            smtpmail-smtp-service 1)
      (with-suppressed-warnings ((obsolete defadvice ad-deactivate))
        (eval `(progn
                 (defadvice smtpmail-via-smtp
                     (before smtpmail-native-mode-tests-old
                             (recipient smtpmail-text-buffer) activate)
                   (with-current-buffer smtpmail-text-buffer
                     (save-restriction
                       (message-narrow-to-headers)
                       (when (string-match-p "alice@"
                                             (message-fetch-field "from"))
                         (setq smtpmail-smtp-server "localhost"
                               smtpmail-smtp-service ,right)))))
                 t)
              t))
      (unwind-protect
          (smtpmail-native-mode-tests--send)
        (eval '(progn (ad-remove-advice 'smtpmail-via-smtp 'before
                                        'smtpmail-native-mode-tests-old)
                      (ad-activate 'smtpmail-via-smtp))
              t)))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-advised-sender ()
  "Advice may choose the envelope sender, for this mail alone."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo)
       "C: MAIL FROM:<bounces@example.org>*" (cdr smtpmail-native-test-mail))
    (smtpmail-native-mode-tests--with-advice
        (lambda (function &rest args)
          (setq smtpmail-mail-address "bounces@example.org")
          (apply function args))
      (smtpmail-native-mode-tests--send))
    (should-not smtpmail-mail-address)
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-advice-refuses ()
  "A text that advice returns is an error, and nothing is sent."
  (smtpmail-native-test-with-mode '("close")
    (smtpmail-native-mode-tests--with-advice
        (lambda (&rest _) "No account for this sender")
      (should (equal (should-error (smtpmail-native-mode-tests--send)
                                   :type 'smtpmail-native-error)
                     '(smtpmail-native-error "No account for this sender"))))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-mode-tests-advice-second-server ()
  "Advice hears of a failure as a text, and may try another server."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (smtpmail-native-mode-tests--with-advice
        (lambda (function &rest args)
          (when (let ((smtpmail-smtp-service nil))
                  (stringp (apply function args)))
            (apply function args)))
      (smtpmail-native-mode-tests--send))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-advice-after ()
  "What advice returns when the mail has gone is no failure."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (smtpmail-native-mode-tests--with-advice
        (lambda (function &rest args)
          (apply function args)
          "I have sent it")
      (smtpmail-native-mode-tests--send))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-advice-copies ()
  "Advice that sends a buffer of its own hears what comes of it; so do we."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) "C: MAIL *" "S: 550 5.7.1 not you" "C: QUIT")
    (smtpmail-native-mode-tests--with-advice
        (lambda (function recipients buffer &rest more)
          (with-temp-buffer
            (insert-buffer-substring buffer)
            (apply function recipients (current-buffer) more)))
      (should (string-match-p "550 5.7.1 not you"
                              (cadr (should-error
                                     (smtpmail-native-mode-tests--send)
                                     :type 'smtpmail-native-error)))))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-local-variables ()
  "The server may be that of a local variable of the mail."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((right port))
      (setq smtpmail-smtp-service 1)
      (with-temp-buffer
        (setq-local smtpmail-smtp-service right)
        (smtpmail-native-test-insert)
        (smtpmail-send-it)))
    (smtpmail-native-test-verdict server)))

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

(ert-deftest smtpmail-native-mode-tests-alone ()
  "The mode alone, as an init file with autoloads turns it on, shows what waits."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (smtpmail-native-outbox-set entry :status 'held :hold 'queue)
      (smtpmail-native-outbox-wait entry nil)
      (smtpmail-native-outbox-release entry))
    (let ((ran (smtpmail-native-test-emacs
                (expand-file-name "lisp" smtpmail-native-test-folder)
                "--eval"
                (prin1-to-string
                 `(let ((noninteractive nil)
                        (after-init-time (current-time)))
                    (autoload 'smtpmail-native-mode "smtpmail-native-mode")
                    (setq smtpmail-native-outbox-directory
                          ,smtpmail-native-outbox-directory)
                    (smtpmail-native-mode 1)
                    (with-timeout (,smtpmail-native-test-seconds)
                      (while (member (bound-and-true-p
                                      smtpmail-native-mode-line)
                                     '(nil ""))
                        (accept-process-output nil 0.05)))
                    (princ (bound-and-true-p smtpmail-native-mode-line)))))))
      (should (string-suffix-p " Mail:1 queued" (cdr ran))))))

(ert-deftest smtpmail-native-mode-tests-no-setting ()
  "The mode changes no setting; `report-emacs-bug' looks at this one."
  (let ((send-mail-function #'smtpmail-send-it)
        (message-send-mail-function #'message-smtpmail-send-it)
        (smtpmail-native-mode nil))
    (smtpmail-native-mode 1)
    (unwind-protect
        (progn
          (should (eq send-mail-function #'smtpmail-send-it))
          (should (eq message-send-mail-function #'message-smtpmail-send-it)))
      (smtpmail-native-mode -1))))

(ert-deftest smtpmail-native-mode-tests-no-recipient ()
  "A direct call without recipients sends nothing, whatever the header says."
  (smtpmail-native-test-with-mode '("close")
    (with-temp-buffer
      (insert "From: alice@example.org\nTo: bob@example.org\n\nHello\n")
      (should (string-match-p "no recipient"
                              (smtpmail-via-smtp nil (current-buffer)))))))

(ert-deftest smtpmail-native-mode-tests-bare-name ()
  "A direct call may name recipients without a domain."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((smtpmail-sendto-domain "example.org"))
      (with-temp-buffer
        (insert "From: alice@example.org\n\nGr\u00fc\u00dfe\n")
        (should-not (smtpmail-via-smtp '("bob") (current-buffer)))))
    (smtpmail-native-test-verdict server)
    (should (string-match-p "Gr\303\274\303\237e"
                            (smtpmail-native-test-delivered folder)))))

(ert-deftest smtpmail-native-mode-tests-method-unknown ()
  "A method that would lose its server is refused, and the draft stays.
Newer versions of `message-mode' call a function by the name of the method,
and do not tell it the server that the field names."
  (smtpmail-native-test-with-mode '("close")
    (should-error
     (smtpmail-native-test-send-message
      "X-Message-SMTP-Method: smtp-native mail.example.org 587 alice\n"))
    (should (null (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-mode-tests-agent ()
  "What the Gnus agent queues is its own affair, and so are its copies."
  (smtpmail-native-test-with-mode '("close")
    (let* ((copy (expand-file-name "copy" folder))
           (queued nil)
           (message-fcc-handler-function #'rmail-output)
           (message-send-mail-real-function
            (lambda () (setq queued (buffer-string)))))
      (write-region "" nil copy nil 'silent)
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Fcc: %s\n" copy))))
      (should (string-match-p "^Hello$" queued))
      (should-not (smtpmail-native-outbox-ids))
      (should (string-match-p "^Hello$" (smtpmail-native-test-text copy))))))

(ert-deftest smtpmail-native-mode-tests-foreign-mechanism ()
  "A mechanism that only smtpmail has leads through the mode to smtpmail."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 250 ok" "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT"
       "S: 221 bye")
    (let ((stock nil))
      (cl-letf (((symbol-function 'smtpmail-native-mechanism-foreign)
                 (lambda () "x-mine"))
                ((symbol-function 'smtpmail-try-auth-methods) #'ignore))
        (advice-add 'smtpmail-send-data :before (lambda (&rest _) (setq stock t))
                    '((name . noticed)))
        (unwind-protect
            (smtpmail-native-mode-tests--send)
          (advice-remove 'smtpmail-send-data 'noticed)))
      (should stock))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-broken-module ()
  "A module that cannot be loaded is told once, and smtpmail sends."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 250 ok" "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT"
       "S: 221 bye")
    (let ((copy (expand-file-name "package" folder)))
      (make-directory copy)
      (copy-directory (expand-file-name "lisp" smtpmail-native-test-folder)
                      (file-name-as-directory copy))
      (copy-file (expand-file-name "smtpmail-native.el"
                                   smtpmail-native-test-folder)
                 (file-name-as-directory copy))
      (with-temp-file (expand-file-name
                       (concat "smtpmail-native-module" module-file-suffix)
                       copy)
        (insert "smtpmail-native-module-abi=0123\0"))
      (let ((ran (smtpmail-native-test-emacs
                  copy "-l" "smtpmail-native" "--eval"
                  (prin1-to-string
                   `(progn
                      (setq smtpmail-smtp-server "localhost"
                            smtpmail-smtp-service ,port
                            network-security-level 'low
                            auth-sources nil
                            user-mail-address "alice@example.org")
                      (smtpmail-native-mode 1)
                      (with-temp-buffer
                        (insert "To: bob@example.org\nSubject: x\n"
                                mail-header-separator "\nHello\n")
                        (smtpmail-send-it)))))))
        (should (equal (car ran) 0))
        (should (= (cl-count-if (lambda (line)
                                  (string-match-p "smtpmail itself sends" line))
                                (split-string (cdr ran) "\n"))
                   1))))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-terminal ()
  "A mail with Fcc from an Emacs with a terminal, the mode on, nothing asked."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo)
       (butlast smtpmail-native-test-mail 3) "pause 300" "S: 250 2.0.0 queued"
       "C: QUIT" "S: 221 bye")
    (let* ((copy (expand-file-name "copy" folder))
           (early (expand-file-name "early" folder))
           (form
            `(progn
               (require 'smtpmail-native)
               (require 'message)
               (setq smtpmail-smtp-server "localhost"
                     smtpmail-smtp-service ,port
                     smtpmail-queue-dir ,smtpmail-queue-dir
                     smtpmail-native-outbox-directory
                     ,smtpmail-native-outbox-directory
                     user-mail-address "alice@example.org"
                     auth-sources nil
                     message-auto-save-directory nil
                     send-mail-function #'smtpmail-send-it
                     message-send-mail-function #'smtpmail-send-it)
               (smtpmail-native-mode 1)
               (message-mail "bob@example.org" "test")
               (message-goto-body)
               (insert "Typed in a terminal.\n")
               (goto-char (point-min))
               (insert "Fcc: " ,copy "\n")
               (message-send)
               ;; The mailbox is made at once, and is empty.
               (unless (member (file-attribute-size (file-attributes ,copy))
                               '(nil 0))
                 (write-region "" nil ,early))
               (while (smtpmail-native-outbox-ids)
                 (sit-for 0.05))
               (set-buffer-modified-p nil)
               (kill-emacs))))
      (smtpmail-native-test-terminal form)
      (smtpmail-native-test-verdict server)
      (should-not (file-exists-p early))
      (should-not (file-exists-p smtpmail-queue-dir))
      (should (string-match-p "^Typed in a terminal\\.$"
                              (smtpmail-native-test-text copy))))))

(provide 'smtpmail-native-mode-tests)
;;; smtpmail-native-mode-tests.el ends here
