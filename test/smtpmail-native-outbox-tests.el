;;; smtpmail-native-outbox-tests.el --- The durable spool  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Entries and their files, and what can be wrong with them.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-outbox-tests--again (entry)
  "Return ENTRY as it is on the disk."
  (smtpmail-native-outbox-get (smtpmail-native-entry-id entry)))

(defun smtpmail-native-outbox-tests--put (entry name text)
  "Write TEXT into the file NAME of ENTRY."
  (let ((coding-system-for-write 'no-conversion))
    (write-region text nil (smtpmail-native-outbox-file entry name)
                  nil 'silent)))

;;;; A good life

(ert-deftest smtpmail-native-outbox-tests-commit ()
  "What is committed is read back, and nobody else may read it."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit "a\r\n\377.\n"))
           (again (smtpmail-native-outbox-tests--again entry)))
      (should-not (smtpmail-native-entry-problem again))
      (should (equal (smtpmail-native-entry-envelope again)
                     (append smtpmail-native-test-envelope
                             '(:size 6))))
      (should (equal (smtpmail-native-entry-state again) '(:status ready)))
      (should (equal (with-temp-buffer
                       (set-buffer-multibyte nil)
                       (smtpmail-native-outbox-insert-message again)
                       (buffer-string))
                     "a\r\n\377.\n"))
      (dolist (area '("" "queue" "incoming"))
        (should (= (file-modes (expand-file-name
                                area smtpmail-native-outbox-directory))
                   #o700)))
      (should (= (file-modes (smtpmail-native-outbox-file entry)) #o700))
      (dolist (name '("message" "message.el" "state" "lock"))
        (should (= (file-modes (smtpmail-native-outbox-file entry name))
                   #o600)))
      (should-not (directory-files
                   (expand-file-name "incoming" smtpmail-native-outbox-directory)
                   nil "\\`[^.]"))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-order ()
  "Later entries stand behind earlier ones."
  (smtpmail-native-test-with-outbox
    (let ((ids (mapcar (lambda (_)
                         (let ((entry (smtpmail-native-test-commit)))
                           (smtpmail-native-outbox-release entry)
                           (smtpmail-native-entry-id entry)))
                       (make-list 10 nil))))
      (should (equal ids (smtpmail-native-outbox-ids)))
      (should (equal ids (mapcar #'smtpmail-native-entry-id
                                 (smtpmail-native-outbox-list)))))))

(ert-deftest smtpmail-native-outbox-tests-nasty-text ()
  "Text of all kinds survives, properties do not."
  (smtpmail-native-test-with-outbox
    (let* ((print-length 2) (print-level 2) (print-escape-nonascii t)
           (nasty (list "\"quotes\" and \\backslashes\\" "new\nline\0" "Grüße ∀"
                        "\377\200" "\303\266"
                        (propertize "face" 'face (list (current-buffer)))
                        ""))
           (envelope (append (list :subject (car nasty) :nasty nasty
                                   :pair '("a" . "b"))
                             smtpmail-native-test-envelope))
           (entry (smtpmail-native-test-commit nil envelope))
           (again (smtpmail-native-outbox-tests--again entry)))
      (should-not (smtpmail-native-entry-problem again))
      (should (equal (plist-get (smtpmail-native-entry-envelope again) :nasty)
                     nasty))
      (should (equal (plist-get (smtpmail-native-entry-envelope again) :pair)
                     '("a" . "b")))
      (smtpmail-native-outbox-set entry :text (nth 5 nasty)
                                  :nasty nasty :results
                                  (list (list (nth 2 nasty) 'sent 250
                                              (nth 3 nasty) (nth 1 nasty))))
      (smtpmail-native-test-disk-idle)
      (let ((state (smtpmail-native-entry-state
                    (smtpmail-native-outbox-tests--again entry))))
        (should (equal (plist-get state :text) "face"))
        (should (equal (plist-get state :nasty) nasty))
        (should (equal (car (plist-get state :results))
                       (list (nth 2 nasty) 'sent 250 (nth 3 nasty)
                             (nth 1 nasty)))))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-stock-form ()
  "The envelope has the form that smtpmail of Emacs 28 reads: no evaluation."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (form (with-temp-buffer
                   (insert-file-contents
                    (smtpmail-native-outbox-file entry "message.el"))
                   (read (current-buffer))))
           (value (lambda (variable) (cadr (memq variable form)))))
      (should (eq (car form) 'setq))
      (should (equal (funcall value 'smtpmail-recipient-address-list)
                     '("bob@example.org")))
      (should (equal (funcall value 'smtpmail-smtp-server) "localhost"))
      (should (equal (funcall value 'smtpmail-smtp-service) 25))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-remove ()
  "A removed entry is gone, and so are its files."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (smtpmail-native-outbox-remove entry)
      (should-not (smtpmail-native-outbox-list))
      (should-not (smtpmail-native-entry-claim entry))
      (smtpmail-native-test-disk-idle)
      (should-not (directory-files
                   (expand-file-name "trash" smtpmail-native-outbox-directory)
                   nil "\\`[^.]"))
      ;; To claim what is gone is no error.
      (should-not (smtpmail-native-outbox-claim entry)))))

;;;; Claims

(ert-deftest smtpmail-native-outbox-tests-claim ()
  "There is one claim at a time, in this Emacs too."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (again (smtpmail-native-outbox-tests--again entry)))
      (should-not (smtpmail-native-outbox-claim again))
      (should (smtpmail-native-outbox-claimed-p
               (smtpmail-native-entry-id entry)))
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-outbox-release entry)
      (should (smtpmail-native-outbox-claim again))
      (smtpmail-native-outbox-release again)
      (should-not (smtpmail-native-outbox-claimed-p
                   (smtpmail-native-entry-id entry))))))

(ert-deftest smtpmail-native-outbox-tests-claim-vanishes ()
  "An entry that is taken away before its lock is opened is no error."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (smtpmail-native-outbox-release entry)
      (delete-directory (smtpmail-native-outbox-file entry) t)
      (should-not (smtpmail-native-module-claim
                   (smtpmail-native-disk-encode
                    (smtpmail-native-outbox-file entry "lock")))))))

(ert-deftest smtpmail-native-outbox-tests-claim-of-another-emacs ()
  "Another Emacs's claim counts, and ends when that is killed."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (id (smtpmail-native-entry-id entry))
           (again (smtpmail-native-outbox-tests--again entry))
           (other nil))
      (smtpmail-native-outbox-release entry)
      (unwind-protect
          (progn
            (setq other
                  (make-process
                   :name "other" :noquery t
                   :buffer (generate-new-buffer " *other*")
                   :command
                   (list (expand-file-name invocation-name invocation-directory)
                         "-Q" "--batch" "-L" smtpmail-native-test-folder
                         "-l" "smtpmail-native" "--eval"
                         (prin1-to-string
                          `(let ((smtpmail-native-outbox-directory
                                  ,smtpmail-native-outbox-directory))
                             (princ (if (smtpmail-native-outbox-claim
                                         (smtpmail-native-outbox-get ,id))
                                        "claimed\n" "refused\n"))
                             (while t (accept-process-output nil 1)))))))
            ;; Emacs may say other things first.
            (should (equal (smtpmail-native-test-wait
                            (lambda ()
                              (with-current-buffer (process-buffer other)
                                (goto-char (point-min))
                                (and (re-search-forward
                                      "^\\(?:claimed\\|refused\\)$" nil t)
                                     (match-string 0)))))
                           "claimed"))
            (should-not (smtpmail-native-outbox-claim again))
            (signal-process other 'KILL)
            (should (smtpmail-native-test-wait
                     (lambda () (smtpmail-native-outbox-claim again))))
            (smtpmail-native-outbox-release again))
        (delete-process other)
        (kill-buffer (process-buffer other))))))

;;;; Damage

(ert-deftest smtpmail-native-outbox-tests-damaged-message ()
  "A message that is missing or cut off is told, and kept."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (smtpmail-native-outbox-tests--put entry "message" "Sub")
      (should (string-match-p
               "3 octets instead of"
               (smtpmail-native-entry-problem
                (smtpmail-native-outbox-tests--again entry))))
      (delete-file (smtpmail-native-outbox-file entry "message"))
      (should (string-match-p
               "missing"
               (smtpmail-native-entry-problem
                (smtpmail-native-outbox-tests--again entry))))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-damaged-envelope ()
  "An envelope that cannot be used is told; nothing in it is evaluated."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (dolist (text '("" "(setq" "nil" "(setq smtpmail-native-envelope nil)"
                      "(progn (setq smtpmail-native-tests-evaluated t))"
                      "(setq smtpmail-native-envelope (:sender 1))"
                      "(setq a . b)" "\0\0\0\0" "#1=(setq a . #1#)"
                      "(setq smtpmail-native-envelope '(:sender \"a\" . 1))"))
        (smtpmail-native-outbox-tests--put entry "message.el" text)
        (let ((again (smtpmail-native-outbox-tests--again entry)))
          (should (string-match-p "message.el"
                                  (smtpmail-native-entry-problem again)))
          (should-not (smtpmail-native-entry-envelope again))))
      (should-not (boundp 'smtpmail-native-tests-evaluated))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-damaged-state ()
  "A message whose state is missing or garbage is held: it was never sent."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (dolist (text '("" "(:status" "\0\0\0" "ready" "(:status ready :next)"
                      "(:status . ready)" "(:next 3)" "(1 2 3)"
                      "(:status \"ready\")" nil))
        (if text
            (smtpmail-native-outbox-tests--put entry "state" text)
          (delete-file (smtpmail-native-outbox-file entry "state")))
        (should (eq (plist-get (smtpmail-native-entry-state
                                (smtpmail-native-outbox-tests--again entry))
                               :status)
                    'held)))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-damaged-receipt ()
  "A receipt that is garbage leaves the outcome in doubt."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (should-not (smtpmail-native-entry-receipt
                   (smtpmail-native-outbox-tests--again entry)))
      (dolist (text '("" "(:attempt 1 :kind" "\0\0\0" "ok" "(:kind . ok)"))
        (smtpmail-native-outbox-tests--put entry "receipt" text)
        (should (plist-get (smtpmail-native-entry-receipt
                            (smtpmail-native-outbox-tests--again entry))
                           :in-doubt)))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-foreign ()
  "Foreign files do not hinder other entries, and are left alone."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (queue (expand-file-name "queue/" smtpmail-native-outbox-directory))
           (foreign (expand-file-name "a file" queue))
           (empty (expand-file-name "zz" queue)))
      (write-region "x" nil foreign nil 'silent)
      (write-region "x" nil (expand-file-name ".hidden" queue) nil 'silent)
      (make-symbolic-link "nowhere" (expand-file-name "link" queue))
      (make-directory empty)
      (let ((entries (smtpmail-native-outbox-list)))
        (should (equal (mapcar #'smtpmail-native-entry-id entries)
                       (list (smtpmail-native-entry-id entry) "zz")))
        (should (smtpmail-native-entry-problem (nth 1 entries))))
      (should (file-exists-p foreign))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-unwritable ()
  "An outbox that cannot be made is a clear error."
  (smtpmail-native-test-with-outbox
    (write-region "x" nil (directory-file-name smtpmail-native-outbox-directory)
                  nil 'silent)
    (let ((err (should-error (smtpmail-native-test-commit)
                             :type 'smtpmail-native-outbox-error)))
      (should (string-match-p "outbox" (cadr err))))
    (delete-file (directory-file-name smtpmail-native-outbox-directory))
    (smtpmail-native-outbox-release
     (smtpmail-native-test-commit))))

(ert-deftest smtpmail-native-outbox-tests-no-permission ()
  "A folder that must not be written is a clear error."
  (skip-unless (/= (user-uid) 0))
  (smtpmail-native-test-with-outbox
    (smtpmail-native-outbox-release (smtpmail-native-test-commit))
    (let ((incoming (expand-file-name "incoming"
                                      smtpmail-native-outbox-directory)))
      (set-file-modes incoming #o500)
      (should-error (smtpmail-native-test-commit)
                    :type 'smtpmail-native-outbox-error)
      (set-file-modes incoming #o700))))

(ert-deftest smtpmail-native-outbox-tests-failed-commit ()
  "A commit that fails in the middle leaves nothing behind, and no claim."
  (smtpmail-native-test-with-outbox
    (cl-letf (((symbol-function 'smtpmail-native-entry-stock-form)
               (lambda (_) (signal 'file-error '("Writing" "No space left")))))
      (let ((err (should-error (smtpmail-native-test-commit)
                               :type 'smtpmail-native-outbox-error)))
        (should (string-match-p "No space left" (cadr err)))))
    (dolist (area '("incoming" "queue"))
      (should-not (directory-files
                   (expand-file-name area smtpmail-native-outbox-directory)
                   nil "\\`[^.]")))))

(ert-deftest smtpmail-native-outbox-tests-full-disk ()
  "A full disk is a clear error, and harms no entry that is there."
  (skip-unless (and (= (user-uid) 0) (executable-find "mount")))
  (smtpmail-native-test-with-outbox
    (make-directory smtpmail-native-outbox-directory)
    (skip-unless (= 0 (call-process "mount" nil nil nil "-t" "tmpfs"
                                    "-o" "size=256k,mode=0700" "tmpfs"
                                    smtpmail-native-outbox-directory)))
    (unwind-protect
        (let ((entry (smtpmail-native-test-commit))
              (filler (expand-file-name "filler"
                                        smtpmail-native-outbox-directory)))
          (let ((err (should-error (smtpmail-native-test-commit
                                    (make-string 400000 ?x))
                                   :type 'smtpmail-native-outbox-error)))
            (should (string-match-p "[Nn]o space" (cadr err))))
          (should (= 1 (length (smtpmail-native-outbox-ids))))
          (ignore-errors
            (write-region (make-string 400000 ?x) nil filler nil 'silent))
          (smtpmail-native-outbox-set entry :text (make-string 9000 ?x))
          (let ((err (should-error (smtpmail-native-outbox-wait entry 30)
                                   :type 'smtpmail-native-outbox-error)))
            (should (string-match-p "[Nn]o space" (cadr err))))
          ;; The old state is still there, and a delivered mail can be removed.
          (should (equal (smtpmail-native-entry-state
                          (smtpmail-native-outbox-tests--again entry))
                         '(:status ready)))
          (delete-file filler)
          (smtpmail-native-outbox-set entry :status 'held)
          (smtpmail-native-outbox-remove entry)
          (should-not (smtpmail-native-outbox-ids))
          (smtpmail-native-test-disk-idle))
      (call-process "umount" nil nil nil smtpmail-native-outbox-directory))))

(provide 'smtpmail-native-outbox-tests)
;;; smtpmail-native-outbox-tests.el ends here
