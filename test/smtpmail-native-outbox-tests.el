;;; smtpmail-native-outbox-tests.el --- The durable spool  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Entries and their files, and what can be wrong with them.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-outbox-tests--envelope
  '(:sender "alice@example.org" :recipients ("bob@example.org")
    :host "localhost" :port 25 :subject "test" :message-id "<1@x>")
  "What an entry of these tests has on its envelope.")

(defmacro smtpmail-native-outbox-tests--with (&rest body)
  "Run BODY with an empty outbox in a new folder, `folder'."
  (declare (indent 0) (debug t))
  `(let* ((folder (file-name-as-directory (make-temp-file "smtpmail-native" t)))
          (smtpmail-native-outbox-directory (expand-file-name "outbox/" folder))
          (inhibit-message t))
     (smtpmail-native-load)
     (unwind-protect
         (progn ,@body)
       (delete-directory folder t))))

(defun smtpmail-native-outbox-tests--commit (&optional text envelope)
  "Commit an entry with the message TEXT and ENVELOPE, return it claimed."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert (or text "Subject: x\n\nbody\n"))
    (smtpmail-native-outbox-commit
     (current-buffer)
     (or envelope smtpmail-native-outbox-tests--envelope)
     '(:status ready))))

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
  (smtpmail-native-outbox-tests--with
    (let* ((entry (smtpmail-native-outbox-tests--commit "a\r\n\377.\n"))
           (again (smtpmail-native-outbox-tests--again entry)))
      (should-not (smtpmail-native-entry-problem again))
      (should (equal (smtpmail-native-entry-envelope again)
                     (append smtpmail-native-outbox-tests--envelope
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
  (smtpmail-native-outbox-tests--with
    (let ((ids (mapcar (lambda (_)
                         (let ((entry (smtpmail-native-outbox-tests--commit)))
                           (smtpmail-native-outbox-release entry)
                           (smtpmail-native-entry-id entry)))
                       (make-list 10 nil))))
      (should (equal ids (smtpmail-native-outbox-ids)))
      (should (equal ids (mapcar #'smtpmail-native-entry-id
                                 (smtpmail-native-outbox-list)))))))

(ert-deftest smtpmail-native-outbox-tests-nasty-text ()
  "Text of all kinds survives, properties do not."
  (smtpmail-native-outbox-tests--with
    (let* ((print-length 2) (print-level 2) (print-escape-nonascii t)
           (nasty (list "\"quotes\" and \\backslashes\\" "new\nline\0" "Grüße ∀"
                        "\377\200" "\303\266"
                        (propertize "face" 'face (list (current-buffer)))
                        ""))
           (envelope (append (list :subject (car nasty) :nasty nasty
                                   :pair '("a" . "b"))
                             smtpmail-native-outbox-tests--envelope))
           (entry (smtpmail-native-outbox-tests--commit nil envelope))
           (again (smtpmail-native-outbox-tests--again entry)))
      (should-not (smtpmail-native-entry-problem again))
      (should (equal (plist-get (smtpmail-native-entry-envelope again) :nasty)
                     nasty))
      (should (equal (plist-get (smtpmail-native-entry-envelope again) :pair)
                     '("a" . "b")))
      (smtpmail-native-outbox-set entry :text (nth 5 nasty) :results
                                  (list (cons (nth 2 nasty) nasty)))
      (let ((state (smtpmail-native-entry-state
                    (smtpmail-native-outbox-tests--again entry))))
        (should (equal (plist-get state :text) "face"))
        (should (equal (car (plist-get state :results))
                       (cons (nth 2 nasty) nasty))))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-stock-form ()
  "The envelope has the form that smtpmail of Emacs 28 reads: no evaluation."
  (smtpmail-native-outbox-tests--with
    (let* ((entry (smtpmail-native-outbox-tests--commit))
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
  (smtpmail-native-outbox-tests--with
    (let ((entry (smtpmail-native-outbox-tests--commit)))
      (smtpmail-native-outbox-remove entry)
      (should-not (smtpmail-native-outbox-list))
      (should-not (smtpmail-native-entry-claim entry))
      (should-not (directory-files
                   (expand-file-name "trash" smtpmail-native-outbox-directory)
                   nil "\\`[^.]"))
      ;; To claim what is gone is no error.
      (should-not (smtpmail-native-outbox-claim entry)))))

;;;; Claims

(ert-deftest smtpmail-native-outbox-tests-claim ()
  "There is one claim at a time, in this Emacs too."
  (smtpmail-native-outbox-tests--with
    (let* ((entry (smtpmail-native-outbox-tests--commit))
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
  (smtpmail-native-outbox-tests--with
    (let ((entry (smtpmail-native-outbox-tests--commit)))
      (smtpmail-native-outbox-release entry)
      (delete-directory (smtpmail-native-outbox-file entry) t)
      (should-not (smtpmail-native-module-claim
                   (smtpmail-native-outbox-encode
                    (smtpmail-native-outbox-file entry "lock")))))))

(ert-deftest smtpmail-native-outbox-tests-claim-of-another-emacs ()
  "Another Emacs's claim counts, and ends when that is killed."
  (smtpmail-native-outbox-tests--with
    (let* ((entry (smtpmail-native-outbox-tests--commit))
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
  (smtpmail-native-outbox-tests--with
    (let ((entry (smtpmail-native-outbox-tests--commit)))
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
  (smtpmail-native-outbox-tests--with
    (let ((entry (smtpmail-native-outbox-tests--commit)))
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
  "A state that is missing or garbage is that of an unknown outcome."
  (smtpmail-native-outbox-tests--with
    (let ((entry (smtpmail-native-outbox-tests--commit)))
      (dolist (text '("" "(:status" "\0\0\0" "ready" "(:status ready :next)"
                      "(:status . ready)" "(:next 3)" "(1 2 3)"
                      "(:status \"ready\")" nil))
        (if text
            (smtpmail-native-outbox-tests--put entry "state" text)
          (delete-file (smtpmail-native-outbox-file entry "state")))
        (should (eq (plist-get (smtpmail-native-entry-state
                                (smtpmail-native-outbox-tests--again entry))
                               :status)
                    'unknown)))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-damaged-receipt ()
  "A receipt that is garbage leaves the outcome in doubt."
  (smtpmail-native-outbox-tests--with
    (let ((entry (smtpmail-native-outbox-tests--commit)))
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
  (smtpmail-native-outbox-tests--with
    (let* ((entry (smtpmail-native-outbox-tests--commit))
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
  (smtpmail-native-outbox-tests--with
    (write-region "x" nil (directory-file-name smtpmail-native-outbox-directory)
                  nil 'silent)
    (let ((err (should-error (smtpmail-native-outbox-tests--commit)
                             :type 'smtpmail-native-outbox-error)))
      (should (string-match-p "outbox" (cadr err))))
    (delete-file (directory-file-name smtpmail-native-outbox-directory))
    (smtpmail-native-outbox-release
     (smtpmail-native-outbox-tests--commit))))

(ert-deftest smtpmail-native-outbox-tests-no-permission ()
  "A folder that must not be written is a clear error."
  (skip-unless (/= (user-uid) 0))
  (smtpmail-native-outbox-tests--with
    (smtpmail-native-outbox-release (smtpmail-native-outbox-tests--commit))
    (let ((incoming (expand-file-name "incoming"
                                      smtpmail-native-outbox-directory)))
      (set-file-modes incoming #o500)
      (should-error (smtpmail-native-outbox-tests--commit)
                    :type 'smtpmail-native-outbox-error)
      (set-file-modes incoming #o700))))

(ert-deftest smtpmail-native-outbox-tests-failed-commit ()
  "A commit that fails in the middle leaves nothing behind, and no claim."
  (smtpmail-native-outbox-tests--with
    (cl-letf (((symbol-function 'smtpmail-native-outbox--print-envelope)
               (lambda (_) (signal 'file-error '("Writing" "No space left")))))
      (let ((err (should-error (smtpmail-native-outbox-tests--commit)
                               :type 'smtpmail-native-outbox-error)))
        (should (string-match-p "No space left" (cadr err)))))
    (dolist (area '("incoming" "queue"))
      (should-not (directory-files
                   (expand-file-name area smtpmail-native-outbox-directory)
                   nil "\\`[^.]")))))

(ert-deftest smtpmail-native-outbox-tests-full-disk ()
  "A full disk is a clear error, and harms no entry that is there."
  (skip-unless (and (= (user-uid) 0) (executable-find "mount")))
  (smtpmail-native-outbox-tests--with
    (make-directory smtpmail-native-outbox-directory)
    (skip-unless (= 0 (call-process "mount" nil nil nil "-t" "tmpfs"
                                    "-o" "size=256k" "tmpfs"
                                    smtpmail-native-outbox-directory)))
    (unwind-protect
        (let ((entry (smtpmail-native-outbox-tests--commit))
              (filler (expand-file-name "filler"
                                        smtpmail-native-outbox-directory)))
          (let ((err (should-error (smtpmail-native-outbox-tests--commit
                                    (make-string 400000 ?x))
                                   :type 'smtpmail-native-outbox-error)))
            (should (string-match-p "[Nn]o space" (cadr err))))
          (should (= 1 (length (smtpmail-native-outbox-ids))))
          (ignore-errors
            (write-region (make-string 400000 ?x) nil filler nil 'silent))
          (should-error (smtpmail-native-outbox-set
                         entry :text (make-string 9000 ?x))
                        :type 'smtpmail-native-outbox-error)
          ;; The old state is still there, and a delivered mail can be removed.
          (should (equal (smtpmail-native-entry-state
                          (smtpmail-native-outbox-tests--again entry))
                         '(:status ready)))
          (delete-file filler)
          (smtpmail-native-outbox-set entry :status 'held)
          (smtpmail-native-outbox-remove entry)
          (should-not (smtpmail-native-outbox-ids)))
      (call-process "umount" nil nil nil smtpmail-native-outbox-directory))))

;;;; Cleaning up

(defun smtpmail-native-outbox-tests--incoming (entry)
  "Move ENTRY, which is let go of, back to where it was written.
Make it look old, and return its folder."
  (let ((folder (expand-file-name
                 (concat "incoming/" (smtpmail-native-entry-id entry))
                 smtpmail-native-outbox-directory)))
    (rename-file (directory-file-name (smtpmail-native-outbox-file entry))
                 folder)
    (set-file-times folder (time-subtract nil 120))
    folder))

(ert-deftest smtpmail-native-outbox-tests-adopt ()
  "A mail whose Emacs ended before the commit is held; half a one stays."
  (smtpmail-native-outbox-tests--with
    (let* ((whole (smtpmail-native-outbox-tests--commit))
           (half (smtpmail-native-outbox-tests--commit))
           (busy (smtpmail-native-outbox-tests--commit))
           (young (smtpmail-native-outbox-tests--commit)))
      (mapc #'smtpmail-native-outbox-release (list whole half young))
      (smtpmail-native-outbox-tests--incoming whole)
      (let ((folder (smtpmail-native-outbox-tests--incoming half)))
        (write-region "S" nil (expand-file-name "message" folder) nil 'silent)
        (set-file-times folder (time-subtract nil 120))
        (smtpmail-native-outbox-tests--incoming busy)
        (set-file-times (smtpmail-native-outbox-tests--incoming young))
        (should (equal (smtpmail-native-outbox-adopt-unfinished)
                       (list folder)))
        (should (file-exists-p (expand-file-name "message" folder))))
      (should (equal (smtpmail-native-outbox-ids)
                     (list (smtpmail-native-entry-id whole))))
      (let ((again (smtpmail-native-outbox-tests--again whole)))
        (should-not (smtpmail-native-entry-problem again))
        (should (equal (smtpmail-native-entry-state again)
                       '(:status held :hold interrupted)))
        ;; Nobody has kept the claim.
        (should (smtpmail-native-outbox-claim again))
        (smtpmail-native-outbox-release again))
      (smtpmail-native-outbox-release busy))))

(ert-deftest smtpmail-native-outbox-tests-trash ()
  "What an interrupted deletion left is deleted, nothing else."
  (smtpmail-native-outbox-tests--with
    (let* ((entry (smtpmail-native-outbox-tests--commit))
           (other (smtpmail-native-outbox-tests--commit))
           (trash (expand-file-name "trash" smtpmail-native-outbox-directory)))
      (make-directory trash)
      (smtpmail-native-outbox-release entry)
      (rename-file (directory-file-name (smtpmail-native-outbox-file entry))
                   (expand-file-name (smtpmail-native-entry-id entry) trash))
      (smtpmail-native-outbox-empty-trash)
      (should-not (directory-files trash nil "\\`[^.]"))
      (should (equal (smtpmail-native-outbox-ids)
                     (list (smtpmail-native-entry-id other))))
      (smtpmail-native-outbox-release other))))

(provide 'smtpmail-native-outbox-tests)
;;; smtpmail-native-outbox-tests.el ends here
