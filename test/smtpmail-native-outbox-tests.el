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

(ert-deftest smtpmail-native-outbox-tests-leaving ()
  "An entry that the disk is about to delete is gone for this Emacs.
No other one can have it, and if it cannot be deleted it is back, claimed."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (id (smtpmail-native-entry-id entry))
           (handlers nil)
           (failed nil))
      (cl-letf (((symbol-function 'smtpmail-native-disk-submit)
                 (lambda (steps handler)
                   (push (cons (car (nth 1 steps)) handler) handlers))))
        (smtpmail-native-outbox-remove entry
                                       (lambda (&rest args)
                                         (setq failed args))))
      (should-not (smtpmail-native-entry-claim entry))
      (should-not (smtpmail-native-outbox-ids))
      (should-not (smtpmail-native-outbox-get id))
      (should-not (smtpmail-native-outbox-claim entry))
      (should-not (smtpmail-native-outbox-lock
                   (smtpmail-native-outbox-file entry)))
      (funcall (alist-get 'area handlers) '(:kind file :text "no disk"))
      (should (equal failed (list entry "no disk")))
      (should (smtpmail-native-entry-claim entry))
      (should (equal (smtpmail-native-outbox-ids) (list id)))
      (smtpmail-native-outbox-release entry)
      (funcall (alist-get 'sync handlers) '(:kind ok)))))

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
    (cl-letf (((symbol-function 'smtpmail-native-outbox--parts)
               (lambda (&rest _) (list "state" "x" "state" "y"))))
      (let ((err (should-error (smtpmail-native-test-commit)
                               :type 'smtpmail-native-outbox-error)))
        (should (string-match-p "state: File exists" (cadr err)))))
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

;;;; What a stranger has put there

(defun smtpmail-native-outbox-tests--plant (entry name what)
  "Put WHAT in the place of the file NAME of ENTRY.
That is text, or a function that is called with the name of the file."
  (let ((file (smtpmail-native-outbox-file entry name)))
    (when (file-exists-p file)
      (delete-file file))
    (if (functionp what)
        (funcall what file)
      (with-file-modes #o600
        (write-region what nil file nil 'silent)))))

(defvar smtpmail-native-outbox-tests--evaluated nil
  "Whether anything that was planted has been evaluated.")

(defconst smtpmail-native-outbox-tests--planted
  (list (lambda (file) (call-process "mkfifo" nil nil nil file))
        (lambda (file) (make-directory file))
        (lambda (file) (make-symbolic-link "/dev/zero" file))
        (lambda (file)
          (write-region "(:status ready)" nil file nil 'silent)
          (set-file-modes file #o666))
        (make-string 1000000 ?\()
        (concat "(:status ready :next " (make-string 1000000 ?9) ")")
        "#1=(:status ready . #1#)"
        "(:status #.(setq smtpmail-native-outbox-tests--evaluated t))"
        "#s(hash-table data (:status ready))"
        "(:status ready :text #(\"x\" 0 1 (face (:eval (error)))))"
        "(:status ready :next \"soon\")" "(:status ready :next ready)"
        "(:status ready :results (5))" "(:status ready :copy 5)"
        "(:status ready :results ((\"bob@x\" sent \"250\")))"
        "(:status (ready))" "(:status no-such-status)"
        "(setq smtpmail-native-envelope (:sender \"a\" :recipients (1) :host \
\"x\" :port 25))"
        "(setq smtpmail-native-envelope (:sender \"a\" :recipients (\"b\") \
:host \"x\" :port 25 :wishes (:release \"now\")))"
        "(:kind ok :attempt \"1\")" "(:kind ok :recipients ((nil)))")
  "What may stand in a file of the outbox.")

(defun smtpmail-native-outbox-tests--check-planted (entry name other)
  "Check ENTRY, in whose file NAME something was planted.
OTHER non-nil means that it is not even a file of ours."
  (pcase name
    ("state" (should (eq (plist-get (smtpmail-native-entry-state entry) :status)
                         'held)))
    ("receipt" (should (plist-get (smtpmail-native-entry-receipt entry)
                                  :in-doubt)))
    ("message.el" (should (smtpmail-native-entry-problem entry)))
    ;; Any text may be a message, or a draft.
    ("message" (when other
                 (should (smtpmail-native-entry-problem entry))
                 (should-error (with-temp-buffer
                                 (smtpmail-native-outbox-insert-message
                                  entry)))))
    ("draft" (when other
               (should-not (smtpmail-native-outbox-draft entry)))))
  ;; All that reads it goes on.
  (smtpmail-native-entry-due-p entry (float-time))
  (smtpmail-native-entry-needs-user-p entry))

(ert-deftest smtpmail-native-outbox-tests-planted ()
  "Nothing that is planted is evaluated, hangs Emacs, or spoils the list."
  (setq smtpmail-native-outbox-tests--evaluated nil)
  (dolist (name '("state" "message.el" "receipt" "draft" "message"))
    (dolist (what smtpmail-native-outbox-tests--planted)
      (smtpmail-native-test-with-outbox
        (let* ((bad (smtpmail-native-test-commit nil nil "To: x\n\nx"))
               (good (smtpmail-native-test-commit))
               (all nil))
          (mapc #'smtpmail-native-outbox-release (list bad good))
          (smtpmail-native-outbox-tests--plant bad name what)
          (should (< (car (benchmark-run 1
                            (setq all (smtpmail-native-outbox-list))))
                     5))
          (should (equal (mapcar #'smtpmail-native-entry-id all)
                         (mapcar #'smtpmail-native-entry-id (list bad good))))
          (should-not (smtpmail-native-entry-problem (cadr all)))
          (smtpmail-native-outbox-tests--check-planted (car all) name
                                                       (functionp what))))))
  (should-not smtpmail-native-outbox-tests--evaluated))

(ert-deftest smtpmail-native-outbox-tests-trust ()
  "Directories that others may write to are not used, and named."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (id (smtpmail-native-entry-id entry))
           (queue (expand-file-name "queue" smtpmail-native-outbox-directory)))
      (smtpmail-native-outbox-release entry)
      (dolist (directory (list (directory-file-name
                                smtpmail-native-outbox-directory)
                               queue))
        (dolist (modes '(#o770 #o707 #o777 #o1777))
          (set-file-modes directory modes)
          (let ((err (should-error (smtpmail-native-outbox-ids)
                                   :type 'smtpmail-native-outbox-error)))
            (should (string-match-p "may write to it" (cadr err))))
          (should-error (smtpmail-native-test-commit)
                        :type 'smtpmail-native-outbox-error))
        (set-file-modes directory #o755)
        (should (equal (smtpmail-native-outbox-ids) (list id)))
        (set-file-modes directory #o700))
      ;; An entry is damaged, and the others are not.
      (set-file-modes (expand-file-name id queue) #o777)
      (should (string-match-p "may write to it"
                              (smtpmail-native-entry-problem
                               (car (smtpmail-native-outbox-list)))))
      (set-file-modes (expand-file-name id queue) #o700)
      (when (= (user-uid) 0)
        (call-process "chown" nil nil nil "65534" (expand-file-name id queue))
        (should (string-match-p "another user"
                                (smtpmail-native-entry-problem
                                 (car (smtpmail-native-outbox-list)))))
        (call-process "chown" nil nil nil "65534" queue)
        (should-error (smtpmail-native-outbox-ids)
                      :type 'smtpmail-native-outbox-error)))))

(ert-deftest smtpmail-native-outbox-tests-planted-origin ()
  "What is deleted with an entry is in smtpmail's queue, whatever it says."
  (smtpmail-native-test-with-outbox
    (let* ((smtpmail-queue-dir (expand-file-name "queued/" folder))
           (outside (expand-file-name "important" folder))
           (inside (expand-file-name "queued/1" folder))
           (climbing (expand-file-name "queued/../important" folder))
           (entry nil))
      (make-directory smtpmail-queue-dir)
      (dolist (file (list outside inside))
        (write-region "x" nil file nil 'silent))
      (setq entry (smtpmail-native-test-commit
                   nil (append (list :origin (list outside inside climbing))
                               smtpmail-native-test-envelope)))
      (smtpmail-native-outbox-remove entry)
      (smtpmail-native-test-disk-idle)
      (should (file-exists-p outside))
      (should-not (file-exists-p inside)))))

;;;; Until the disk has done it

(ert-deftest smtpmail-native-outbox-tests-pending ()
  "A new state is read at once, and the claim kept until it is on the disk."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (id (smtpmail-native-entry-id entry))
           (file (smtpmail-native-outbox-file entry "state"))
           (steps nil)
           (handler nil))
      (cl-letf (((symbol-function 'smtpmail-native-disk-submit)
                 (lambda (what tell) (setq steps what handler tell))))
        (smtpmail-native-outbox-set entry :status 'held :hold 'user))
      (should (equal (mapcar #'car steps) '(write sync)))
      (smtpmail-native-outbox-release entry)
      ;; Another Emacs must not read the old one.
      (should-not (smtpmail-native-outbox-lock
                   (smtpmail-native-outbox-file entry)))
      (should (equal (smtpmail-native-test-text file) "(:status ready)\n"))
      (let ((again (smtpmail-native-outbox-get id)))
        (should (eq (plist-get (smtpmail-native-entry-state again) :hold)
                    'user))
        (should (eq (smtpmail-native-outbox-wait again 0.01) 'slow))
        ;; This Emacs goes on with it.
        (should (smtpmail-native-outbox-claim again))
        (smtpmail-native-outbox-release again)
        (smtpmail-native-disk-submit steps handler)
        (should (eq (smtpmail-native-outbox-wait
                     again smtpmail-native-test-seconds)
                    t)))
      (should (string-match-p "held" (smtpmail-native-test-text file)))
      (should-not (smtpmail-native-outbox-claimed-p id)))))

(ert-deftest smtpmail-native-outbox-tests-no-module ()
  "Without the module Lisp does the same steps, in the same order."
  (smtpmail-native-test-with-outbox
    (let* ((entry (smtpmail-native-test-commit))
           (id (smtpmail-native-entry-id entry))
           (trash (expand-file-name "trash" smtpmail-native-outbox-directory)))
      (cl-letf (((symbol-function 'smtpmail-native-load-try)
                 (lambda () '(missing))))
        (should (eq (smtpmail-native-outbox-make-durable entry 1) t))
        (smtpmail-native-outbox-set entry :status 'held :hold 'user)
        (should (eq (smtpmail-native-outbox-wait entry 1) t))
        (should (eq (plist-get (smtpmail-native-entry-state
                                (smtpmail-native-outbox-get id))
                               :hold)
                    'user))
        (smtpmail-native-outbox-remove entry))
      (should-not (directory-files trash nil "\\`[^.]"))
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-outbox-tests-no-module-failure ()
  "Where Lisp does the steps, a failure to delete is told before it returns."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit))
          (failed nil))
      (write-region "" nil (expand-file-name "trash"
                                             smtpmail-native-outbox-directory)
                    nil 'silent)
      (cl-letf (((symbol-function 'smtpmail-native-load-try)
                 (lambda () '(missing))))
        (smtpmail-native-outbox-remove
         entry (lambda (entry reason)
                 (should (smtpmail-native-entry-claim entry))
                 (setq failed reason))))
      (should (stringp failed))
      (should (smtpmail-native-outbox-ids))
      (should-not (smtpmail-native-outbox-claimed-p
                   (smtpmail-native-entry-id entry))))))

(ert-deftest smtpmail-native-outbox-tests-known-durable ()
  "The module syncs what is not known to be on the disk, and only that."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit)))
      (should-not (smtpmail-native-outbox-durable-p entry))
      (cl-letf (((symbol-function 'smtpmail-native-disk-await)
                 (lambda (&rest _) 'slow)))
        (should (eq (smtpmail-native-outbox-make-durable entry 0) 'slow)))
      (should-not (smtpmail-native-outbox-durable-p entry))
      (smtpmail-native-test-disk-idle)
      (smtpmail-native-outbox-make-durable entry nil)
      (should (smtpmail-native-outbox-durable-p entry))
      (should (plist-get (smtpmail-native-job entry nil) :durable))
      ;; The encoded message may still wait for the disk.
      (smtpmail-native-outbox-note entry :ascii 10)
      (should-not (smtpmail-native-outbox-durable-p entry))
      (smtpmail-native-outbox-note entry :ascii nil)
      (smtpmail-native-outbox-remove entry)
      (should-not (smtpmail-native-outbox-durable-p entry)))))

(ert-deftest smtpmail-native-outbox-tests-deleted-under-way ()
  "An outbox that is deleted under way: the user hears which message it was."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit))
          (told nil))
      (delete-directory smtpmail-native-outbox-directory t)
      (cl-letf (((symbol-function 'smtpmail-native-quiet-warn)
                 (lambda (text &rest _) (push text told))))
        (smtpmail-native-outbox-set entry :status 'held)
        (smtpmail-native-test-disk-idle))
      (should (= (length told) 1))
      (should (string-match-p "\\`Deleted.* not sent: \u201ctest\u201d to bob@example.org: "
                              (car told)))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-outbox-tests-no-directory ()
  "What has the name of a directory of the outbox, and is none, is an error.
Nothing is then looked for, written or moved anywhere else."
  (dolist (name '("incoming" "queue" "trash" "unfiled" ""))
    (dolist (plant '(file fifo link))
      (ert-info ((format "%s %s" name plant))
        (smtpmail-native-test-with-outbox
          (let* ((entry (smtpmail-native-test-commit))
                 (default-directory (file-name-as-directory
                                     (expand-file-name "elsewhere" folder)))
                 (planted (directory-file-name
                           (expand-file-name
                            name smtpmail-native-outbox-directory))))
            (make-directory default-directory)
            (smtpmail-native-outbox-release entry)
            (when (file-directory-p planted)
              (rename-file planted (concat planted ".was")))
            (pcase plant
              ('file (write-region "" nil planted nil 'silent))
              ('fifo (call-process "mkfifo" nil nil nil planted))
              ('link (make-symbolic-link "nowhere" planted)))
            (should-error (smtpmail-native-outbox-make-area name)
                          :type 'smtpmail-native-outbox-error)
            (pcase name
              ((or "" "incoming" "queue")
               (should-error (smtpmail-native-test-commit)
                             :type 'smtpmail-native-outbox-error))
              ("trash"
               (should (smtpmail-native-outbox-claim entry))
               (smtpmail-native-outbox-remove entry)
               (should-not (smtpmail-native-outbox-ids))
               (should-error (smtpmail-native-outbox-wait entry nil)
                             :type 'smtpmail-native-outbox-error)
               (should (smtpmail-native-entry-claim entry))
               (smtpmail-native-outbox-release entry)
               (should (smtpmail-native-outbox-ids))))
            (should-not (directory-files
                         default-directory nil
                         directory-files-no-dot-files-regexp))))))))

(ert-deftest smtpmail-native-outbox-tests-too-long ()
  "A message or draft that was made endless is not read."
  (smtpmail-native-test-with-outbox
    (let ((entry (smtpmail-native-test-commit nil nil "To: b@x\n")))
      (unwind-protect
          (progn
            (dolist (name '("message" "draft"))
              (should (= 0 (call-process
                            "truncate" nil nil nil "-s" "40G"
                            (smtpmail-native-outbox-file entry name)))))
            (cl-letf (((symbol-function 'insert-file-contents)
                       (lambda (&rest _) (error "It was read")))
                      ((symbol-function 'insert-file-contents-literally)
                       (lambda (&rest _) (error "It was read"))))
              (should-not (smtpmail-native-outbox-draft entry))
              (with-temp-buffer
                (should-error (smtpmail-native-outbox-insert-message entry)
                              :type 'file-error))))
        (smtpmail-native-outbox-release entry)))))

(provide 'smtpmail-native-outbox-tests)
;;; smtpmail-native-outbox-tests.el ends here
