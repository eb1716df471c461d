;;; smtpmail-native-copy-tests.el --- The copy of a mail that was sent  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Fcc and Gcc are filed when the server has accepted the mail, not before.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-copy-tests--slow
  (smtpmail-native-test-script
   (smtpmail-native-test-ehlo)
   (butlast smtpmail-native-test-mail 3) "pause 300" "S: 250 2.0.0 queued"
   "C: QUIT" "S: 221 bye")
  "The same, but the last answer takes a moment.")

(ert-deftest smtpmail-native-copy-tests-fcc-after ()
  "Fcc of `message-mode' is filed when the server has accepted, not before."
  (smtpmail-native-test-with-mode smtpmail-native-copy-tests--slow
    (let ((copy (expand-file-name "copy" folder)))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Fcc: %s\n" copy)))
        (should (equal (smtpmail-native-test-text copy) ""))
        (smtpmail-native-test-drained))
      (should (string-match-p "^Subject: test$"
                              (smtpmail-native-test-text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-handler ()
  "The handler of the time of sending is used, as mu4e sets it."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((filed nil))
      (smtpmail-native-test-in-background
        (let ((message-fcc-handler-function
               (lambda (file) (setq filed (list file (buffer-string))))))
          (kill-buffer (smtpmail-native-test-send-message
                        "Fcc: /sent\n")))
        (should-not filed)
        (smtpmail-native-test-drained))
      (should (equal (car filed) "/sent"))
      (should (string-match-p "^Hello$" (cadr filed)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-rebound ()
  "A program that rebinds `message-do-fcc' around the sending, as notmuch does."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((filed nil)
          (original (symbol-function 'message-do-fcc)))
      (smtpmail-native-test-in-background
        (cl-letf (((symbol-function 'message-do-fcc)
                   (lambda () (setq filed (message-fetch-field "subject")))))
          (kill-buffer (smtpmail-native-test-send-message)))
        (should-not filed)
        (should (eq (symbol-function 'message-do-fcc) original))
        (smtpmail-native-test-drained))
      (should (equal filed "test"))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-gcc ()
  "A Gcc in `message-sent-hook' waits, too."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((filed nil))
      (cl-letf (((symbol-function 'gnus-inews-do-gcc)
                 (lambda (&rest _)
                   (setq filed (message-fetch-field "gcc")))))
        (let ((message-sent-hook '(gnus-inews-do-gcc)))
          (smtpmail-native-test-in-background
            (kill-buffer (smtpmail-native-test-send-message
                          "Gcc: nnml:sent\n"))
            (should-not filed)
            (smtpmail-native-test-drained))
          (should (equal filed "nnml:sent")))
        (smtpmail-native-copy-release))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-fails ()
  "A copy that cannot be filed is a warning, and no failure to send."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((warnings nil))
      (cl-letf (((symbol-function 'display-warning)
                 (lambda (_type text &rest _) (push text warnings))))
        (smtpmail-native-test-in-background
          (let ((message-fcc-handler-function (lambda (_) (error "Disk full"))))
            (kill-buffer (smtpmail-native-test-send-message
                          "Fcc: /sent\n")))
          (smtpmail-native-test-drained)))
      (should (string-match-p "was sent, but .*Disk full" (car warnings)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-after-restart ()
  "A later Emacs files the copy from the draft."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((copy (expand-file-name "copy" folder))
          (smtpmail-queue-mail t))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Fcc: %s\n" copy))))
      ;; As good as another Emacs: this one has forgotten.
      (clrhash smtpmail-native-copy--kept)
      (smtpmail-native-queue-flush)
      (smtpmail-native-test-drained)
      (should (string-match-p "^Subject: test$"
                              (smtpmail-native-test-text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-draft-secret ()
  "The draft of a mail that is to be encrypted does not get to the disk."
  (smtpmail-native-test-with-mode '("close")
    (let ((smtpmail-queue-mail t)
          (id nil))
      (with-temp-buffer
        (message-mode)
        (insert "To: bob@example.org\nFcc: /x\nMessage-ID: <1@x>\n"
                mail-header-separator
                "\n<#secure method=pgpmime mode=signencrypt>\nSecret\n")
        (smtpmail-native-test-in-background
          (setq id (plist-get
                    (smtpmail-native-queue-send
                     (smtpmail-native-message-prepare) 'queue)
                    :id)))
        (smtpmail-native-copy-expect id "<1@x>")
        (message-do-fcc))
      (let ((entry (smtpmail-native-outbox-get id)))
        (should (plist-get (smtpmail-native-entry-state entry) :copy))
        (should-not (smtpmail-native-outbox-draft entry))))))

(provide 'smtpmail-native-copy-tests)
;;; smtpmail-native-copy-tests.el ends here
