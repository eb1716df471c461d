;;; smtpmail-native-stock-tests.el --- The queue that is shared with smtpmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What the index says, what smtpmail can send, and what is taken from it.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-stock-tests--index ()
  "Return the lines of the index."
  (smtpmail-native-stock--lines))

(ert-deftest smtpmail-native-stock-tests-queue ()
  "`smtpmail-queue-mail' holds the mail; the index has a line; a flush sends."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((smtpmail-queue-mail t))
      (with-temp-buffer
        (smtpmail-native-test-insert)
        (smtpmail-send-it)))
    (smtpmail-native-test-wait
     (lambda () (= (length (smtpmail-native-stock-tests--index)) 1)))
    (should (file-exists-p (car (smtpmail-native-stock-tests--index))))
    (smtpmail-send-queued-mail)
    (smtpmail-native-test-drained)
    (smtpmail-native-test-wait
     (lambda () (null (smtpmail-native-stock-tests--index))))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-stock-tests-queue-stock ()
  "Stock smtpmail can send what waits in the outbox."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok"
       "C: RCPT TO:<bob@example.org>" "S: 250 ok" "C: DATA" "S: 354 go" "data"
       "S: 250 ok" "C: QUIT" "S: 221 bye")
    ;; Unlike ours, Emacs's own look-up needs a hosts file for "localhost".
    (let ((smtpmail-queue-mail t)
          (smtpmail-smtp-server "127.0.0.1"))
      (with-temp-buffer
        (smtpmail-native-test-insert)
        (smtpmail-send-it)))
    (smtpmail-native-stock-write-index)
    (smtpmail-native-mode -1)
    (cl-letf (((symbol-function 'smtpmail-try-auth-methods) #'ignore))
      (smtpmail-send-queued-mail))
    (smtpmail-native-test-verdict server)
    (should (string-match-p "smtpmail may have sent it"
                            (smtpmail-native-entry-problem
                             (car (smtpmail-native-outbox-list)))))))

(defun smtpmail-native-stock-tests--queue-stock (name text form)
  "Queue TEXT as smtpmail does, as NAME with FORM in its file of variables.
Each may be nil, and is missing then."
  (let ((file (expand-file-name name smtpmail-queue-dir)))
    (make-directory smtpmail-queue-dir t)
    (when text
      (write-region text nil file nil 'silent))
    (when form
      (write-region form nil (concat file ".el") nil 'silent))
    (write-region (concat file "\n") nil
                  (expand-file-name smtpmail-queue-index-file
                                    smtpmail-queue-dir)
                  t 'silent)
    file))

(ert-deftest smtpmail-native-stock-tests-adopt ()
  "What stock smtpmail has queued is sent, and its files are gone."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((file (smtpmail-native-stock-tests--queue-stock
                 "2026-11-25_1"
                 "From: alice@example.org\nTo: x@y\n\nHello\n"
                 "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")))
      (smtpmail-send-queued-mail)
      (smtpmail-native-test-drained)
      (smtpmail-native-test-verdict server)
      (should-not (file-exists-p file))
      (should-not (file-exists-p (concat file ".el")))
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-stock-tests--index)))))))

(ert-deftest smtpmail-native-stock-tests-adopt-damaged ()
  "What is damaged is kept for the user, and the others go on."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
          (text "From: alice@example.org\nTo: bob@example.org\n\nHello\n"))
      (smtpmail-native-stock-tests--queue-stock "lost" nil form)
      (smtpmail-native-stock-tests--queue-stock "bad" text "(message \"no\")")
      (let ((good (smtpmail-native-stock-tests--queue-stock "good" text form)))
        (rename-file good (concat good ":2,S")))
      (should (= (smtpmail-native-stock-adopt) 3))
      (let ((entries (smtpmail-native-outbox-list)))
        (should (= (length entries) 3))
        (should (= (seq-count #'smtpmail-native-entry-problem entries) 1))
        (should (= (seq-count (lambda (entry)
                                (eq (plist-get (smtpmail-native-entry-state
                                                entry)
                                               :hold)
                                    'user))
                              entries)
                   1)))
      (smtpmail-native-queue-flush)
      (smtpmail-native-test-verdict server)
      (smtpmail-native-test-wait
       (lambda () (= (length (smtpmail-native-outbox-ids)) 2))))))

(ert-deftest smtpmail-native-stock-tests-adopt-twice ()
  "An adoption that was interrupted before the originals went is no second mail."
  (smtpmail-native-test-with-mode '("close")
    (let* ((text "From: alice@example.org\nTo: x@y\n\nHello\n")
           (form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
           (file (smtpmail-native-stock-tests--queue-stock "1" text form)))
      (cl-letf (((symbol-function 'delete-file)
                 (lambda (&rest _) (error "Killed"))))
        (cl-letf (((symbol-function 'display-warning) #'ignore))
          (smtpmail-native-stock-adopt)))
      (should (file-exists-p file))
      (smtpmail-native-stock-adopt)
      (should (= (length (smtpmail-native-outbox-ids)) 1))
      (should-not (file-exists-p file)))))

(provide 'smtpmail-native-stock-tests)
;;; smtpmail-native-stock-tests.el ends here
