;;; smtpmail-native-draft-tests.el --- From an entry back to a message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; An entry is deleted only when its draft is known to be good.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-draft)

(defconst smtpmail-native-draft-tests--message
  "From: alice@example.org\nTo: bob@example.org\nSubject: x\n\nThe message\n"
  "The message of an entry.")

(defun smtpmail-native-draft-tests--entry (&optional draft)
  "Return the id of a new entry that is held, with DRAFT."
  (let ((entry (smtpmail-native-test-commit
                smtpmail-native-draft-tests--message nil draft)))
    (smtpmail-native-outbox-set entry :status 'held :hold 'user)
    (smtpmail-native-outbox-wait entry smtpmail-native-test-seconds)
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-entry-id entry)))

(defun smtpmail-native-draft-tests--edit (id)
  "Edit the entry ID, and return the text of the draft."
  (save-window-excursion
    (with-current-buffer (smtpmail-native-act-take-back
                          id #'smtpmail-native-draft-restore)
      (prog1 (buffer-string)
        (set-buffer-modified-p nil)
        (delete-auto-save-file-if-necessary t)
        (kill-buffer)))))

(ert-deftest smtpmail-native-draft-tests-lost ()
  "A draft that was lost with the power is none: the message is edited."
  (let ((message-auto-save-directory nil)
        (text (concat "To: bob@example.org\n" mail-header-separator
                      "\nThe draft\n")))
    (dolist (content (list "" "\0\0\0\0" (make-string (length text) 0) "\n\n"
                           (substring text 0 30) text))
      (smtpmail-native-test-with-outbox
        (let ((id (smtpmail-native-draft-tests--entry text)))
          (write-region content nil
                        (smtpmail-native-outbox-file
                         (smtpmail-native-outbox-get id) "draft")
                        nil 'silent)
          (should (string-match-p (if (equal content text)
                                      "^The draft$"
                                    "^The message$")
                                  (smtpmail-native-draft-tests--edit id)))
          (should-not (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-draft-tests-no-draft ()
  "An entry of which nothing can be read is not deleted."
  (smtpmail-native-test-with-outbox
    (let* ((message-auto-save-directory nil)
           (id (smtpmail-native-draft-tests--entry)))
      (cl-letf (((symbol-function 'smtpmail-native-draft--insert-octets)
                 #'ignore))
        (should-error (smtpmail-native-draft-tests--edit id)
                      :type 'smtpmail-native-outbox-error))
      (should (equal (smtpmail-native-outbox-ids) (list id))))))

(ert-deftest smtpmail-native-draft-tests-saved ()
  "The saved draft is synced before the entry goes; else the entry stays."
  (dolist (way '(good unsaved unsynced))
    (smtpmail-native-test-with-outbox
      (let* ((message-auto-save-directory (expand-file-name "drafts/" folder))
             (id (smtpmail-native-draft-tests--entry))
             (hand-in (symbol-function 'smtpmail-native-disk-hand-in))
             (there nil))
        (make-directory message-auto-save-directory)
        (cl-letf (((symbol-function 'do-auto-save)
                   (if (eq way 'unsaved)
                       #'ignore
                     (symbol-function 'do-auto-save)))
                  ((symbol-function 'smtpmail-native-disk-hand-in)
                   (lambda (key steps tell)
                     (when (string-prefix-p message-auto-save-directory key)
                       (setq there (smtpmail-native-outbox-ids))
                       (when (eq way 'unsynced)
                         (setq steps '((sync "/no/such/file")))))
                     (funcall hand-in key steps tell))))
          (if (eq way 'good)
              (smtpmail-native-draft-tests--edit id)
            (should-error (smtpmail-native-draft-tests--edit id)
                          :type 'smtpmail-native-outbox-error)))
        (unless (eq way 'unsaved)
          (should (equal there (list id))))
        (should (equal (smtpmail-native-outbox-ids)
                       (and (not (eq way 'good)) (list id))))))))

(provide 'smtpmail-native-draft-tests)
;;; smtpmail-native-draft-tests.el ends here
