;;; smtpmail-native-leftovers-tests.el --- What killed sessions left  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Half of an entry is brought into the queue or deleted, and told once.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-leftovers-tests--incoming (entry &optional age)
  "Move ENTRY, which is let go of, back to where it was written.
Make it AGE seconds old, two minutes by default, and return its directory."
  (let ((directory (expand-file-name
                    (concat "incoming/" (smtpmail-native-entry-id entry))
                    smtpmail-native-outbox-directory)))
    (rename-file (directory-file-name (smtpmail-native-outbox-file entry))
                 directory)
    (set-file-times directory (time-subtract nil (or age 120)))
    directory))

(defun smtpmail-native-leftovers-tests--incoming-ids ()
  "Return the names in incoming/."
  (directory-files (expand-file-name "incoming" smtpmail-native-outbox-directory)
                   nil "\\`[^.]"))

(ert-deftest smtpmail-native-leftovers-tests-adopt ()
  "A message whose Emacs ended before the commit is held, half a one listed."
  (smtpmail-native-test-with-outbox
    (let* ((whole (smtpmail-native-test-commit))
           (half (smtpmail-native-test-commit))
           (busy (smtpmail-native-test-commit))
           (young (smtpmail-native-test-commit)))
      (mapc #'smtpmail-native-outbox-release (list whole half young))
      (smtpmail-native-leftovers-tests--incoming whole)
      (let ((directory (smtpmail-native-leftovers-tests--incoming half)))
        (write-region "S" nil (expand-file-name "message" directory)
                      nil 'silent)
        (set-file-times directory (time-subtract nil 120)))
      (smtpmail-native-leftovers-tests--incoming busy)
      (smtpmail-native-leftovers-tests--incoming young 0)
      (should (= (smtpmail-native-leftovers-adopt) 2))
      (smtpmail-native-test-disk-idle)
      (should (equal (smtpmail-native-outbox-ids)
                     (mapcar #'smtpmail-native-entry-id (list whole half))))
      (dolist (entry (list whole half))
        (let ((again (smtpmail-native-outbox-get
                      (smtpmail-native-entry-id entry))))
          (should (eq (and (smtpmail-native-entry-problem again) t)
                      (eq entry half)))
          (should (eq (plist-get (smtpmail-native-entry-state again) :status)
                      'held))
          (should (eq (plist-get (smtpmail-native-entry-state again) :hold)
                      'interrupted))
          ;; Nobody has kept the claim.
          (should-not (smtpmail-native-outbox-claimed-p
                       (smtpmail-native-entry-id entry)))))
      ;; The next look finds nothing any more.
      (should (= (smtpmail-native-leftovers-adopt) 0))
      (should (equal (smtpmail-native-leftovers-tests--incoming-ids)
                     (mapcar #'smtpmail-native-entry-id (list busy young))))
      (smtpmail-native-outbox-release busy))))

(ert-deftest smtpmail-native-leftovers-tests-nothing ()
  "What holds no message is deleted, and not found again for ever."
  (smtpmail-native-test-with-outbox
    (dolist (what '(empty lock zero draft))
      (let* ((entry (smtpmail-native-test-commit))
             (directory nil))
        (smtpmail-native-outbox-release entry)
        (setq directory (smtpmail-native-leftovers-tests--incoming entry))
        (dolist (file (directory-files directory t "\\`[^.]"))
          (delete-file file))
        (pcase what
          ('lock (write-region "" nil (expand-file-name "lock" directory)
                               nil 'silent))
          ('zero (write-region "" nil (expand-file-name "message" directory)
                               nil 'silent))
          ('draft (write-region "To: bob\n\nHello" nil
                                (expand-file-name "draft" directory)
                                nil 'silent)))
        (set-file-times directory (time-subtract nil 120))
        (should (= (smtpmail-native-leftovers-adopt) (if (eq what 'draft) 1 0)))
        (should-not (smtpmail-native-leftovers-tests--incoming-ids))
        (when (eq what 'draft)
          (should (equal (smtpmail-native-outbox-draft
                          (car (smtpmail-native-outbox-list)))
                         "To: bob\n\nHello")))))))

(ert-deftest smtpmail-native-leftovers-tests-trash ()
  "What an interrupted deletion left is deleted, nothing else."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (other (smtpmail-native-test-commit))
           (trash (expand-file-name "trash" smtpmail-native-outbox-directory)))
      (with-file-modes #o700
        (make-directory trash))
      (smtpmail-native-outbox-release entry)
      (rename-file (directory-file-name (smtpmail-native-outbox-file entry))
                   (expand-file-name (smtpmail-native-entry-id entry) trash))
      (smtpmail-native-leftovers-empty-trash)
      (smtpmail-native-test-disk-idle)
      (should-not (directory-files trash nil "\\`[^.]"))
      (should (equal (smtpmail-native-outbox-ids)
                     (list (smtpmail-native-entry-id other))))
      (smtpmail-native-outbox-release other))))

(ert-deftest smtpmail-native-leftovers-tests-unfiled ()
  "Messages that were set aside are listed; without any there is no directory."
  (smtpmail-native-test-with-outbox
    (should-not (smtpmail-native-leftovers-unfiled))
    (let ((entry (smtpmail-native-test-commit)))
      (smtpmail-native-outbox-set-aside entry)
      (smtpmail-native-outbox-release entry)
      (should (equal (mapcar #'file-name-nondirectory
                             (smtpmail-native-leftovers-unfiled))
                     (list (concat (smtpmail-native-entry-id entry) ".eml")))))))

(provide 'smtpmail-native-leftovers-tests)
;;; smtpmail-native-leftovers-tests.el ends here
