;;; damage.el --- Damaged files in the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; make damage N=1000 SEED=1, with PLANT=types a fault that must be found
;;
;; Each run damages one file of a real entry in one way: octets, length, types,
;; syntax, kind of file, what belongs to another.  Then the outbox is flushed, shown,
;; and one command is called with that entry.
;;
;;   Emacs lives, and says nothing but what is meant for people
;;   the other message is sent, once
;;   what may have been delivered is not sent, nothing is sent twice
;;   the damaged entry is not lost, and not held by a clock that was wrong
;;   nothing in a file is evaluated

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-sink)
(require 'smtpmail-native-command)
(require 'smtpmail-native-list)

(defvar damage-evil nil
  "Non-nil when something in a file was evaluated.")

(defvar damage--said nil
  "What was said in this run, the last first.")

(defconst damage--doubt
  '(:attempt 1 :kind network :stage end-of-data :in-doubt t :text "gone"
    :recipients (("bob@example.org" t 250 "" "ok")))
  "The receipt of an attempt without an answer.")

(defconst damage--states
  `((queued (:status held :hold queue) nil)
    (ready (:status ready :next nil :tries 1 :text "later" :settled 1) nil)
    (held (:status held :hold user) nil)
    (doubt (:status ready :settled 0) ,damage--doubt)
    (unknown (:status unknown :doubt t :settled 1 :text "gone") ,damage--doubt)
    (refused (:status refused :settled 1 :text "no"
              :results (("bob@example.org" refused 550 "5.1.1" "no")))
             (:attempt 1 :kind reply :code 550 :stage rcpt :text "no"
              :recipients (("bob@example.org" nil 550 "5.1.1" "no")))))
  "What entries there are: (NAME STATE RECEIPT).")

(defconst damage--values
  '(nil t 0 -1 1.5 1.0e+INF 99999999999999999999 "" "x" "a\0b\r\nc" sym (a . b)
    (1 2 3) [1 2] ("x" . "y") (("x" sent)) (:a :b) lambda)
  "What stands where something else is expected.")

(defconst damage--texts
  '("#1=(:status . #1#)" "#1=(#1# #1#)" "#.(setq damage-evil t)"
    "(:status ready :next #.(setq damage-evil t))" "#s(hash-table data (a b))"
    "#[(x) \"\" [] 1]" "(:status ready" ")" "\"" "(quote" "'" "?\\N{BULLET}"
    "(setq damage-evil t)" "(setq smtpmail-native-envelope (setq damage-evil t))"
    "#@1000 " "((((((((((((((((((((((((" "\0\0\0\0" "nil" "t" "()" ";")
  "What no Emacs has written.")

;;;; How a file is damaged

(defun damage--text (file)
  "Return the octets of FILE."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally file)
    (buffer-string)))

(defun damage--write (file octets)
  "Let FILE have OCTETS."
  (let ((coding-system-for-write 'no-conversion))
    (with-file-modes #o600
      (write-region octets nil file nil 'silent))))

(defun damage--replace (object)
  "Return OBJECT with one part of it replaced by another value."
  (if (or (atom object) (= 0 (random 4)))
      (nth (random (length damage--values)) damage--values)
    (let* ((copy (copy-sequence object))
           (n (random (safe-length copy))))
      (setcar (nthcdr n copy) (damage--replace (nth n copy)))
      copy)))

(defun damage--clock (text)
  "Return TEXT with times of a clock that was ten years wrong."
  (condition-case nil
      (let* ((object (car (read-from-string text)))
             (envelope (and (eq (car object) 'setq)
                            (cadr (car (last object)))))
             (time (truncate (+ (float-time)
                                (* (1- (* 2 (random 2))) 315360000)))))
        (cond (envelope (plist-put envelope :created time))
              ((plist-get object :status)
               (setq object (plist-put (plist-put object :next time)
                                       :since time))))
        (prin1-to-string object))
    (error text)))

(defconst damage--octet-ways
  `((clock . ,#'damage--clock)
    (flip . ,(lambda (text)
               (if (equal text "") "x"
                 (let ((text (copy-sequence text)))
                   (aset text (random (length text)) (random 256))
                   text))))
    (cut . ,(lambda (text) (substring text 0 (random (1+ (length text))))))
    (take . ,(lambda (text)
               (let ((at (random (1+ (length text)))))
                 (concat (substring text 0 at)
                         (substring text (min (length text)
                                              (+ at 1 (random 20))))))))
    (double . ,(lambda (text) (concat text text)))
    (zeros . ,(lambda (text) (make-string (length text) 0)))
    (empty . ,(lambda (_) ""))
    (crlf . ,(lambda (text) (string-replace "\n" "\r\n" text)))
    (foreign . ,(lambda (_) (nth (random (length damage--texts))
                                 damage--texts)))
    (types . ,(lambda (text)
                (condition-case nil
                    (prin1-to-string
                     (damage--replace (car (read-from-string text))))
                  (error "(1)")))))
  "Functions of octets.")

(defconst damage--file-ways
  `((huge . ,(lambda (file)
               (damage--write file (concat (damage--text file)
                                           (make-string 17000000 ?\()))))
    (missing . ,#'delete-file)
    (link . ,(lambda (file)
               (delete-file file)
               (make-symbolic-link "/etc/passwd" file)))
    (dangling . ,(lambda (file)
                   (delete-file file)
                   (make-symbolic-link "/nonexistent" file)))
    (directory . ,(lambda (file) (delete-file file) (make-directory file)))
    (fifo . ,(lambda (file)
               (delete-file file)
               (call-process "mkfifo" nil nil nil file)))
    (open . ,(lambda (file) (set-file-modes file #o666)))
    (other . ,(lambda (file)
                (let* ((files (remove file (directory-files
                                            (file-name-directory file) t
                                            "\\`[^.]")))
                       (other (nth (random (length files)) files)))
                  (copy-file other file t))))
    (beside . ,(lambda (file)
                 (let ((name (concat (file-name-directory file)
                                     (nth (random 4) '("lock" "x" "state.new"
                                                       "message.ascii")))))
                   (ignore-errors (delete-file name))
                   (make-directory name)))))
  "Functions of a file.")

(defun damage--do (file)
  "Damage FILE in some way; return the name of the way."
  (pcase-let* ((kind (random 4))
               (ways (if (= kind 0) damage--file-ways damage--octet-ways))
               (`(,name . ,way) (if (= kind 1)
                                    (assq 'types damage--octet-ways)
                                  (nth (random (length ways)) ways))))
    (if (= kind 0)
        (funcall way file)
      (damage--write file (funcall way (damage--text file))))
    name))

;;;; One run

(defun damage--entry (state)
  "Make an entry in STATE of `damage--states'; return its directory."
  (let* ((id (smtpmail-native-sink-put (nth 1 state) "<a@x>"))
         (directory (smtpmail-native-outbox-file
                     (smtpmail-native-entry-make :id id))))
    (damage--write (expand-file-name "draft" directory)
                   "To: bob@example.org\nSubject: test\n--text follows this \
line--\nHello\n")
    (when (nth 2 state)
      (smtpmail-native-test-write (expand-file-name "receipt" directory)
                                  (nth 2 state)))
    directory))

(defconst damage--commands
  `((retry . ,(lambda (id) (smtpmail-native-act-retry id t)))
    (hold . ,#'smtpmail-native-act-hold)
    (edit . ,(lambda (id) (save-window-excursion
                            (smtpmail-native-command-edit id))))
    (mark-sent . ,#'smtpmail-native-act-mark-sent)
    (delete . ,#'smtpmail-native-act-delete))
  "What the user may do to an entry.")

(defun damage--command (id)
  "Call some command with the entry ID; return what is wrong, or nil."
  (pcase-let ((`(,name . ,function) (nth (random (length damage--commands))
                                         damage--commands)))
    (condition-case err
        (progn
          (let ((noninteractive nil)
                (inhibit-interaction t))
            (funcall function id))
          nil)
      ((smtpmail-native-error user-error inhibited-interaction quit) nil)
      (error (format "%s: %s" name (error-message-string err))))))

(defun damage--listen (text &rest args)
  "Note TEXT, a format for ARGS."
  (when text
    (push (apply #'format-message text args) damage--said)))

(defun damage--listen-to-notice (notice)
  "Note NOTICE."
  (push (if (stringp notice) notice (smtpmail-native-notice-line notice))
        damage--said))

(defun damage--listen-to-warning (_type text &rest _)
  "Note TEXT, a warning."
  (push text damage--said))

(defun damage--judge (state file how arrived directory)
  "Return what is wrong after a flush, a list of texts.
The entry in DIRECTORY was in STATE, and its FILE was damaged as HOW says;
ARRIVED are the Message-IDs that have."
  (let ((times (seq-count (lambda (id) (not (equal id "<h@x>"))) arrived))
        (vague (memq how '(flip take cut double types other foreign missing
                                empty zeros huge link dangling directory fifo)))
        (wrong nil))
    (unless (= 1 (seq-count (lambda (id) (equal id "<h@x>")) arrived))
      (push "the other one has not arrived once" wrong))
    (when (> times 1)
      (push "arrived twice" wrong))
    (when (and (eq how 'clock) (= times 0) (memq (car state) '(queued ready)))
      (push "a wrong clock has held it" wrong))
    ;; What says so must be there.
    (when (and (> times 0)
               (memq (car state) '(doubt unknown refused held))
               (not (and vague (member file '("state" "receipt")))))
      (push "was sent" wrong))
    (when (and (= times 0) (not (file-directory-p directory)))
      (push "is lost" wrong))
    (when damage-evil
      (setq damage-evil nil)
      (push "was evaluated" wrong))
    (dolist (text damage--said)
      (when (string-match-p "Wrong type arg\\|Args out of\\|[Vv]oid\\|void-\\|\
Invalid \\(?:function\\|read\\)\\|Error of smtp\\|Error in `" text)
        (push text wrong)))
    wrong))

(defun damage--run (folder)
  "Damage one file; FOLDER has the log of the server.
Return (WHAT . FAULTS)."
  (let* ((directory (file-name-as-directory (make-temp-file "damage" t)))
         (smtpmail-native-outbox-directory (expand-file-name "outbox/" directory))
         (smtpmail-queue-dir (expand-file-name "queue/" directory))
         (default-directory directory)
         (before (length (smtpmail-native-sink-log folder "arrived")))
         (state (nth (random (length damage--states)) damage--states))
         (victim (damage--entry state))
         (files (directory-files victim nil "\\`[^.]"))
         (file (nth (random (length files)) files))
         (how nil) (wrong nil))
    (setq damage--said nil)
    (smtpmail-native-sink-put '(:status held :hold queue) "<h@x>")
    (setq how (damage--do (expand-file-name file victim)))
    (condition-case err
        (progn
          (smtpmail-native-index-clear)
          (let ((noninteractive nil))
            (save-window-excursion (smtpmail-native-outbox))
            (smtpmail-native-act-flush)
            (smtpmail-native-sink-settle)
            (smtpmail-native-test-disk-idle))
          (setq wrong
                (damage--judge state file how
                               (nthcdr before (smtpmail-native-sink-log
                                               folder "arrived"))
                               victim))
          (let ((text (damage--command
                       (file-name-nondirectory (directory-file-name victim)))))
            (when text (push text wrong)))
          (smtpmail-native-sink-settle)
          (let ((noninteractive nil))
            (save-window-excursion (smtpmail-native-outbox))))
      (error (push (error-message-string err) wrong)))
    (ignore-errors (smtpmail-native-sink-settle-down))
    (dolist (buffer (buffer-list))
      (when (with-current-buffer buffer (derived-mode-p 'message-mode))
        (with-current-buffer buffer (set-buffer-modified-p nil))
        (kill-buffer buffer)))
    (delete-directory directory t)
    (cons (format "%s %s %s" (car state) file how) wrong)))

(defun damage-run ()
  "Damage N files as SEED says, both of the environment, and end Emacs."
  (let ((count (string-to-number (or (getenv "N") "1000")))
        (faults 0))
    (random (or (getenv "SEED") "1"))
    (when (getenv "PLANT")
      (load (concat "plant-" (getenv "PLANT")) nil t))
    (smtpmail-native-sink-with '("--life" "36000")
      (advice-add 'message :before #'damage--listen)
      (advice-add 'display-warning :before #'damage--listen-to-warning)
      (advice-add 'smtpmail-native-notices-put :before
                  #'damage--listen-to-notice)
      (let ((auto-save-default nil)
            (message-auto-save-directory nil))
        (dotimes (n count)
          (pcase-let ((`(,what . ,wrong) (damage--run folder)))
            (when wrong
              (setq faults (1+ faults))
              (princ (format "%d: %s: %S\n" n what wrong)
                     #'external-debugging-output))))))
    (advice-remove 'message #'damage--listen)
    (message "damage: %d passed, %d failed" (- count faults) faults)
    (kill-emacs (if (and (= faults 0) (> count 0)) 0 1))))

(provide 'damage)
;;; damage.el ends here
