;;; faults.el --- Let each operation of the disk fail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; make faults SCENES="background batch" ERRORS="ENOSPC" SAMPLE=20 SEED=1
;;
;; Runs in an Emacs with test/c/faulty-disk.c.  Of each scene the operations of
;; the disk are counted that can fail with an error; then the scene is done again
;; for each of them, which fails, alone or with all that follow.  After that the
;; disk is well again.  Then
;;
;;   a message whose command has returned has arrived, or is in the outbox, whole
;;   one whose command has failed has not arrived, nor will it, unless that was said
;;   no message has arrived twice; none against the word of the user
;;   what needs the user was said
;;   the next message goes its way, and Emacs lives
;;
;; With SAMPLE only so many of each scene are tried, chosen by SEED.  ONLY="4 on"
;; tries that one.  PLANT=gone loads plant-gone.el, a fault that must be found.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-sink)
(setenv "RECORD_ROOT" (getenv "FAULT_ROOT"))
(require 'scenes)
(require 'smtpmail-native-batch)
(require 'smtpmail-native-command)
(require 'smtpmail-native-leftovers)

(defconst faults-errors
  '("ENOSPC" "EDQUOT" "EIO" "EROFS" "EACCES" "EMFILE" "ENOMEM" "EINTR" "ENOLCK"
    "EAGAIN" "SHORT")
  "Errors of test/c/faulty-disk.c.")

(defconst faults-scenes
  '((background (faults-send "a") (faults-settle))
    (waiting (setq smtpmail-native-background nil) (faults-send "a"))
    (batch (faults-batch "a"))
    (batch-queue (faults-batch "a" "--queue"))
    (queue (setq smtpmail-queue-mail t) (faults-send "a")
           (faults-do "flush" #'smtpmail-native-act-flush) (faults-settle))
    (undo (setq smtpmail-native-undo-seconds 600) (faults-send "a")
          (faults-do "undone" #'smtpmail-native-undo-send) (faults-settle))
    (hold (setq smtpmail-native-undo-seconds 600) (faults-send "a")
          (faults-act "held" #'smtpmail-native-act-hold) (faults-settle))
    (delete (setq smtpmail-queue-mail t) (faults-send "a")
            (faults-act "deleted" #'smtpmail-native-act-delete)
            (faults-settle))
    (retry (setq smtpmail-queue-mail t) (faults-send "a")
           (faults-act "retried" #'smtpmail-native-act-retry) (faults-settle))
    (edit (setq smtpmail-queue-mail t) (faults-send "a")
          (faults-act "undone" #'smtpmail-native-command-edit)
          (faults-settle))
    (later (faults-send "a" "X-Smtpmail-Native: later=+1h\n")
           (faults-act "retried" #'smtpmail-native-act-retry)
           (faults-settle))
    (copy (faults-send "a" "Fcc: SENT\n") (faults-settle)))
  "Scenes: (NAME . FORMS).  SENT stands for a mailbox on the same disk.")

(defconst faults--root (file-name-as-directory (getenv "FAULT_ROOT"))
  "The directory whose operations fail.")

(defvar faults--events nil
  "What the user knows of the scene, the last first: (WHAT ID . ERROR).")

(defvar faults--said nil
  "What Emacs has said since the scene began, the last first.")

(defvar faults--directory nil
  "Where the files of this run are.")

;;;; The disk

(defun faults--order (format &rest args)
  "Give the disk the order FORMAT with ARGS."
  (let ((file-name-handler-alist nil))
    (delete-file (concat "/FAULT/" (apply #'format format args)))))

(defun faults--log ()
  "Return what the disk has told since it was asked last, a list of lines."
  (let ((file (getenv "FAULT_LOG")))
    (prog1 (split-string (smtpmail-native-test-text file) "\n" t)
      (write-region "" nil file nil 'silent))))

;;;; What a user does

(defun faults--try (what id function)
  "Do WHAT to the message ID by FUNCTION, and note what came of it."
  (condition-case err
      (progn (funcall function)
             (push (list what id) faults--events))
    ((error quit) (push (cons 'failed (cons what (cons id err)))
                        faults--events))))

(defun faults-send (id &optional header)
  "Send the message ID with the lines HEADER besides."
  (faults--try "sent" id
               (lambda ()
                 (scenes-send
                  id (and header
                          (string-replace
                           "SENT" (expand-file-name "sent" faults--directory)
                           header))))))

(defun faults-do (what function)
  "Call FUNCTION as the user, which does WHAT to the message \"a\"."
  (faults--try what "a" (lambda () (scenes-as-user function))))

(defun faults-act (what function)
  "Call FUNCTION with the entry of the message \"a\", which does WHAT to it."
  (when (assoc "sent" faults--events)
    (faults--try what "a"
                 (lambda ()
                   (let ((id (scenes-entry "a")))
                     (scenes-as-user (lambda () (funcall function id))))))))

(defun faults-batch (id &rest args)
  "Send the message ID by a script with ARGS."
  (let ((file (make-temp-file "faults")))
    (write-region (format "To: %s@example.org\nMessage-ID: <%s@x>\n\nHello\n"
                          id id)
                  nil file nil 'silent)
    (let ((exit (alist-get 'exit (smtpmail-native-batch--send
                                  (append args (list "-t" "--file" file))))))
      (delete-file file)
      (push (if (eql exit 0)
                (list "sent" id)
              (list 'failed "sent" id 'exit exit))
            faults--events))))

(defun faults-settle ()
  "Wait until nothing is under way."
  (scenes-settle)
  (smtpmail-native-sink-settle))

;;;; Afterwards

(defun faults--fresh ()
  "Forget what this Emacs knows of its outbox."
  (smtpmail-native-sink-settle-down)
  (dolist (buffer (buffer-list))
    (when (eq (buffer-local-value 'major-mode buffer) 'message-mode)
      (with-current-buffer buffer (set-buffer-modified-p nil))
      (kill-buffer buffer))))

(defun faults--draft-p ()
  "Return non-nil if the user has the message as a draft."
  (seq-some (lambda (buffer)
              (with-current-buffer buffer
                (and (derived-mode-p 'message-mode)
                     (string-match-p "Hello" (buffer-string)))))
            (buffer-list)))

(defun faults--left ()
  "Return what is in the outbox, an alist of (MESSAGE-ID . ENTRY)."
  (mapcar (lambda (entry)
            (cons (plist-get (smtpmail-native-entry-envelope entry)
                             :message-id)
                  entry))
          (and (file-directory-p smtpmail-native-outbox-directory)
               (smtpmail-native-outbox-list))))

(defun faults--arrived (folder)
  "Return the Message-IDs that have arrived by the log in FOLDER."
  (smtpmail-native-sink-log folder "arrived"))

(defun faults--event (what)
  "Return the event of WHAT being done to the message \"a\"."
  (seq-find (lambda (event) (equal event (list what "a"))) faults--events))

(defun faults--failure (what)
  "Return the error with which WHAT failed, or nil."
  (cdddr (seq-find (lambda (event)
                     (and (eq (car event) 'failed) (equal (cadr event) what)))
                   faults--events)))

(defun faults--warned-p ()
  "Return non-nil if the user was told of something out of the ordinary."
  (seq-some (lambda (text)
              (not (string-match-p
                    "\\`\\(In the outbox\\|Sending\\|Sent \\|Queued\\|Mark\\)"
                    text)))
            faults--said))

(defun faults--doubt-told-p (failure)
  "Return non-nil if FAILURE or words say that a message may have arrived."
  (or (memq (car failure) '(smtpmail-native-unknown-outcome))
      (equal failure '(exit 76))
      (seq-some (lambda (text)
                  (string-match-p "may have been\\|[Uu]nconfirmed" text))
                faults--said)))

(defun faults--judge (arrived left draft)
  "Return what is wrong, a list of texts.
ARRIVED are the Message-IDs that have, LEFT is what is in the outbox; with
DRAFT non-nil the user has a draft."
  (let* ((times (seq-count (lambda (id) (equal id "<a@x>")) arrived))
         (here (alist-get "<a@x>" left nil nil #'equal))
         (failure (faults--failure "sent"))
         (stopped (seq-some #'faults--event '("held" "deleted" "undone")))
         (wrong nil))
    (cl-flet ((say (text) (push text wrong)))
      (when (> times 1) (say "arrived twice"))
      (when (and stopped (> times 0)) (say "sent against the user's word"))
      (when (and here (smtpmail-native-entry-problem here))
        (say (smtpmail-native-entry-problem here)))
      (when (and (faults--event "undone") (not draft))
        (say "there is no draft"))
      (when (and (seq-some #'faults--event '("deleted" "undone")) here)
        (say "has come back"))
      (cond
       ((faults--event "sent")
        (when (and (= times 0) (null here) (not draft)
                   ;; That it is not safe yet is no reason to keep it.
                   (not (faults--event "deleted"))
                   (not (faults--failure "deleted")))
          (say "lost")))
       ((faults--doubt-told-p failure))
       ((> times 0) (say (format "arrived after %S" failure)))
       ((and here (not (faults--warned-p)))
        (say (format "stays silently after %S" failure))))
      (when (and here (smtpmail-native-entry-needs-user-p here)
                 (not (faults--warned-p)))
        (say "needs the user, who knows nothing"))
      (unless (member "<h@x>" arrived)
        (say "the next message did not arrive")))
    (nreverse wrong)))

(defun faults--copy-problem (scene arrived)
  "Return what is wrong with the copy of SCENE when ARRIVED have, or nil."
  (when (and (eq (car scene) 'copy) (member "<a@x>" arrived))
    (let ((copies (with-temp-buffer
                    (insert (smtpmail-native-test-text
                             (expand-file-name "sent" faults--directory)))
                    (how-many "^Message-ID: <a@x>" (point-min)))))
      (cond ((= copies 1) nil)
            ((faults--warned-p) nil)
            (t (format "%d copies" copies))))))

;;;; One run

(defun faults--reset ()
  "Give the options that scenes set their values."
  (setq smtpmail-native-background t
        smtpmail-queue-mail nil
        smtpmail-native-undo-seconds 0
        smtpmail-native-send-later 'outbox
        smtpmail-native-outcome-back-off '(600)
        smtpmail-native-queue-last-result nil
        faults--events nil
        faults--said nil))

(defun faults--recover (folder)
  "Send the next message with a disk that is well; take up what is left.
FOLDER has the log of the server."
  (setq smtpmail-native-background t
        smtpmail-queue-mail nil
        smtpmail-native-undo-seconds 0)
  (faults-send "h")
  (ignore-errors
    (with-timeout (10)
      (while (not (member "<h@x>" (faults--arrived folder)))
        (accept-process-output nil 0.02))))
  (faults-settle)
  (smtpmail-native-sink-settle-down)
  ;; A new session.
  (smtpmail-native-leftovers-empty-trash)
  (smtpmail-native-leftovers-adopt)
  (smtpmail-native-wait-flush)
  (faults-settle)
  (smtpmail-native-test-disk-idle))

(defun faults--run (scene error n how folder)
  "Do SCENE while its Nth operation fails with ERROR, HOW `once' or `on'.
With N = 0 none does.  FOLDER has the log of the server.  Return (COUNT HIT
. FAULTS): of operations, what has failed, and what is wrong."
  (let* ((faults--directory (make-temp-file faults--root t))
         (smtpmail-native-outbox-directory
          (expand-file-name "outbox/" faults--directory))
         (smtpmail-queue-dir (expand-file-name "queue/" faults--directory))
         (smtpmail-native-idle-seconds (if (equal error "EAGAIN") 0 10))
         (warning-minimum-level :emergency)
         (inhibit-message t)
         (before (length (faults--arrived folder)))
         (count 0) (hit nil) (wrong nil))
    (faults--reset)
    (faults--log)
    (write-region (format "%s %s %d %s" (car scene) error n how) nil
                  (expand-file-name "now" faults--root) nil 'silent)
    (condition-case err
        (progn
          (unwind-protect
              (progn
                (faults--order "%s/%d/%s" error n how)
                (eval (cons 'progn (cdr scene)) t))
            (faults--order "off"))
          (dolist (line (faults--log))
            (if (string-match "\\`total \\([0-9]+\\)" line)
                (setq count (string-to-number (match-string 1 line)))
              (setq hit (string-replace faults--directory "" line))))
          (let ((draft (faults--draft-p)))
            (faults--recover folder)
            (let ((arrived (nthcdr before (faults--arrived folder))))
              (setq wrong (append (faults--judge arrived (faults--left) draft)
                                  (ensure-list
                                   (faults--copy-problem scene arrived)))))))
      (error (push (error-message-string err) wrong)))
    (ignore-errors (faults--fresh))
    (delete-directory faults--directory t)
    (cons count (cons hit wrong))))

;;;; All of them

(defun faults--tries (error count sample)
  "Return what to try of COUNT operations with ERROR, a list of (N . HOW).
At most SAMPLE of them, unless that is 0; with ONLY in the environment, like
\"4 on\", that one.  A signal that comes again and
again is no fault: who is interrupted tries again."
  (let ((all (append (cl-loop for n from 1 to count collect (cons n 'once))
                     (unless (equal error "EINTR")
                       (cl-loop for n from 1 to count
                                collect (cons n 'on))))))
    (when (getenv "ONLY")
      (pcase-let ((`(,n ,how) (split-string (getenv "ONLY"))))
        (setq all (list (cons (string-to-number n) (intern how))))))
    (while (and (> sample 0) (> (length all) sample))
      (setq all (delq (nth (random (length all)) all) all)))
    all))

(defun faults--scene (scene error sample folder)
  "Try SCENE with ERROR, SAMPLE operations; return (RUNS . FAULTS).
FOLDER has the log of the server."
  (pcase-let* ((`(,count ,_ . ,wrong) (faults--run scene error 0 'once folder))
               (runs 1) (faults 0))
    (when wrong
      (error "The scene %s fails by itself: %S" (car scene) wrong))
    (pcase-dolist (`(,n . ,how) (faults--tries error count sample))
      (pcase-let ((`(,_ ,hit . ,wrong) (faults--run scene error n how folder)))
        (setq runs (1+ runs))
        (when wrong
          (setq faults (1+ faults))
          (message "%s %s %d %s, %s: %s\n  %S\n  %S" (car scene) error n how
                   hit (string-join wrong "; ") faults--events
                   (seq-take faults--said 6)))))
    (cons runs faults)))

(defun faults--names (variable all)
  "Return the words in the environment VARIABLE, or ALL if there are none."
  (or (split-string (or (getenv variable) "") " " t) all))

(defun faults--listen (text &rest args)
  "Note TEXT, a format for ARGS, that is said to the user."
  (when text
    (push (apply #'format-message text args) faults--said)))

(defun faults--listen-to-notice (notice)
  "Note NOTICE, which stays."
  (push (format "Notice: %s" (if (stringp notice)
                                 notice
                               (smtpmail-native-notice-line notice)))
        faults--said))

(defun faults--listen-to-warning (_type text &rest _)
  "Note TEXT, a warning."
  (push text faults--said))

(defun faults-run ()
  "Run what the environment asks for, and end Emacs."
  (let* ((folder (file-name-as-directory (make-temp-file "faults" t)))
         (process-environment
          (seq-remove (lambda (pair) (string-prefix-p "LD_PRELOAD=" pair))
                      process-environment))
         (sink (smtpmail-native-sink-start folder "--life" "36000"))
         (sample (string-to-number (or (getenv "SAMPLE") "0")))
         (runs 0) (faults 0))
    (random (or (getenv "SEED") "1"))
    (when (getenv "PLANT")
      (load (concat "plant-" (getenv "PLANT")) nil t))
    (advice-add 'display-warning :before #'faults--listen-to-warning)
    (advice-add 'smtpmail-native-notices-put :before #'faults--listen-to-notice)
    (setq smtpmail-smtp-service (cdr sink)
          create-lockfiles nil)
    (dolist (name (faults--names "SCENES" (mapcar (lambda (scene)
                                                    (symbol-name (car scene)))
                                                  faults-scenes)))
      (dolist (error (faults--names "ERRORS" faults-errors))
        (pcase-let ((`(,more . ,wrong)
                     (unwind-protect
                         (progn
                           (advice-add 'message :before #'faults--listen)
                           (faults--scene (assq (intern name) faults-scenes)
                                          error sample folder))
                       (advice-remove 'message #'faults--listen))))
          (cl-incf runs more)
          (cl-incf faults wrong)
          (message "%s %s: %d runs, %d faults" name error more wrong))))
    (delete-process (car sink))
    (delete-directory folder t)
    (message "faults: %d passed, %d failed" (- runs faults) faults)
    (kill-emacs (if (and (= faults 0) (> runs 0)) 0 1))))

(provide 'faults)
;;; faults.el ends here
