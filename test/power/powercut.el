;;; powercut.el --- Lose the power at each step of a scene  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Records scenes, and makes of each moment all states of the files that a loss
;; of power may leave: see model.el.  In each of them the outbox is taken up as a
;; new session does, with a server that takes everything.  Then
;;
;;   a message whose command had returned has arrived, or is in the outbox, whole
;;   no message has arrived more often than the user had asked for
;;   what the user had deleted or held before has not arrived, nor come back

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-recorder)
(require 'model)

(defconst powercut-scenes
  '((sent nil
          (scenes-send "a") (scenes-sent) (scenes-send "b" "Fcc: sent\n")
          (scenes-sent))
    (silent ("--stall" "1000" "--silence" "60000")
            (scenes-send "a") (scenes-send "b"))
    (dropped ("--drop" "120" "--seed" "5")
             (setq smtpmail-native-outcome-back-off '(0))
             (scenes-send "a") (scenes-send "b") (scenes-send "c")
             (scenes-pause 1))
    (deferred ("--defer" "300" "--seed" "2")
              (setq smtpmail-native-outcome-back-off '(0))
              (scenes-send "a") (scenes-send "b") (scenes-sent))
    (word nil
          (setq smtpmail-native-undo-seconds 600)
          (scenes-send "a")
          (scenes-act "a" #'smtpmail-native-act-hold "held-")
          (scenes-send "b")
          (scenes-act "b" #'smtpmail-native-act-delete "deleted-")
          (scenes-send "c")
          (scenes-mark "word-a")
          (scenes-act "a" #'smtpmail-native-act-retry "retried-")
          (scenes-settle))
    (queued nil
            (setq smtpmail-queue-mail t)
            (scenes-send "a") (scenes-send "b")
            (scenes-as-user #'smtpmail-native-act-flush)
            (scenes-sent)))
  "Scenes: (NAME OPTIONS-OF-THE-SERVER . FORMS).")

(defun powercut--log (file)
  "Return the Message-IDs that have arrived by the record FILE, in order."
  (delq nil (mapcar (lambda (event)
                      (pcase event (`(server "arrived" ,id) id)))
                    (smtpmail-native-recorder-read file))))

;;;; A state of the files

(defun powercut--make (tree directory)
  "Make the files of TREE in DIRECTORY."
  (with-file-modes #o700
    (make-directory directory)
    (pcase-dolist (`(,name . ,content) tree)
      (let ((file (expand-file-name name directory)))
        (cond ((equal name "."))
              ((eq content t) (make-directory file))
              (t (let ((coding-system-for-write 'no-conversion)
                       (write-region-inhibit-fsync t))
                   (write-region content nil file nil 'silent))))))))

(defun powercut--take-up (directory)
  "Take up the outbox in DIRECTORY, as a new session does.
Return what is left in it, an alist of (MESSAGE-ID . ENTRY)."
  (let ((smtpmail-native-outbox-directory
         (expand-file-name "mail/outbox/" directory))
        (smtpmail-queue-dir (expand-file-name "queued-mail/" directory))
        ;; A copy is filed there, too.
        (default-directory (file-name-as-directory directory))
        (warning-minimum-log-level :emergency)
        (inhibit-message t))
    (when (file-directory-p smtpmail-native-outbox-directory)
      (smtpmail-native-leftovers-empty-trash)
      (smtpmail-native-leftovers-adopt)
      (smtpmail-native-wait-flush)
      (smtpmail-native-test-disk-idle)
      (mapcar (lambda (entry)
                (cons (plist-get (smtpmail-native-entry-envelope entry)
                                 :message-id)
                      entry))
              (smtpmail-native-outbox-list)))))

;;;; What the user knew

(defun powercut--marks (events)
  "Return the names of the marks in EVENTS, the first first."
  (delq nil (mapcar (lambda (event)
                      (pcase event (`(mark ,name) name)))
                    events)))

(defun powercut--judge (marks before after left)
  "Return what is wrong, a list of texts.
MARKS is what the user knew.  BEFORE has the Message-IDs that had arrived
when the power failed, AFTER those that have since; LEFT is an alist of the
entries in the outbox."
  (let ((faults nil))
    (dolist (id '("a" "b" "c"))
      (let* ((message-id (format "<%s@x>" id))
             (told (lambda (word) (member (concat word "-" id) marks)))
             (here (alist-get message-id left nil nil #'equal))
             (old (seq-count (lambda (one) (equal one message-id)) before))
             (new (seq-count (lambda (one) (equal one message-id)) after))
             (stopped (and (or (funcall told "deleted") (funcall told "held"))
                           (not (funcall told "word"))))
             (say (lambda (text) (push (format "%s: %s" id text) faults))))
        (when (and (funcall told "returned")
                   (not (funcall told "asked-deleted"))
                   (= (+ old new) 0)
                   (or (null here) (smtpmail-native-entry-problem here)))
          (funcall say (if here
                           (smtpmail-native-entry-problem here)
                         "lost")))
        (when (> (+ old new) 1)
          (funcall say "arrived twice"))
        (when (and stopped (> new 0))
          (funcall say "sent against the word of the user"))
        (when (and (funcall told "deleted") here)
          (funcall say "has come back"))))
    faults))

;;;; All of it

(defun powercut--known (so-far)
  "Return what is known when the events SO-FAR, the last one first, were.
That is the list of marks, and that of the Message-IDs that have arrived."
  (list (powercut--marks (reverse so-far))
        (delq nil (mapcar (lambda (event)
                            (pcase event (`(server "arrived" ,id) id)))
                          so-far))))

(defun powercut--states (events)
  "Return the states that a loss of power may leave during EVENTS.
They are a hash table: its keys are trees, a value is the list of what was
known at the moments that may leave that tree."
  (let ((model (make-model))
        (states (make-hash-table :test #'equal))
        (so-far nil))
    (dolist (event events)
      (model-apply model event)
      (push event so-far)
      (let ((known (powercut--known so-far)))
        (dolist (tree (model-states model))
          (cl-pushnew known (gethash tree states) :test #'equal))))
    states))

(defun powercut--look (tree known folder)
  "Take up TREE in FOLDER; return what is wrong by KNOWN, a list of texts.
Each text tells at which moment the power failed, too."
  (let* ((directory (expand-file-name "state" folder))
         (record (expand-file-name "record" folder))
         (before (length (powercut--log record)))
         (left nil))
    (powercut--make tree directory)
    (setq left (powercut--take-up directory))
    (delete-directory directory t)
    (let ((after (nthcdr before (powercut--log record))))
      (mapcan (lambda (moment)
                (mapcar (lambda (fault)
                          (format "after %s: %s" (car (last (car moment)))
                                  fault))
                        (powercut--judge (nth 0 moment) (nth 1 moment)
                                         after left)))
              known))))

(defun powercut--run (scene)
  "Run SCENE of `powercut-scenes'; return (STATES . FAULTS), two numbers."
  (pcase-let* ((`(,name ,options . ,forms) scene)
               (folder (file-name-as-directory (make-temp-file "powercut" t)))
               (record (expand-file-name "record" folder))
               (calm (expand-file-name "calm" folder))
               (started (apply #'smtpmail-native-sink-start folder
                               "--log" record "--calm" calm options))
               (count 0)
               (faults 0))
    (unwind-protect
        (progn
          (smtpmail-native-recorder-run folder (cdr started) forms)
          (write-region "" nil calm nil 'silent)
          (maphash
           (lambda (tree known)
             (let ((wrong (powercut--look tree known folder)))
               (setq count (1+ count))
               (when wrong
                 (setq faults (1+ faults))
                 (when (< faults 4)
                   (message "%s: %s\n%S" name (string-join wrong "; ") tree)))))
           (powercut--states (smtpmail-native-recorder-read record))))
      (delete-process (car started))
      (delete-directory folder t))
    (message "%s: %d states, %d faults" name count faults)
    (cons count faults)))

(defun powercut-run ()
  "Run all scenes, or those that the command line names, and end Emacs."
  (let* ((names (mapcar #'intern command-line-args-left))
         (results (mapcar #'powercut--run
                          (seq-filter (lambda (scene)
                                        (or (null names)
                                            (memq (car scene) names)))
                                      powercut-scenes)))
         (faults (apply #'+ (mapcar #'cdr results)))
         (states (apply #'+ (mapcar #'car results))))
    (setq command-line-args-left nil)
    (message "powercut: %d passed, %d failed" (- states faults) faults)
    (kill-emacs (if (and (= faults 0) (> states 0)) 0 1))))

(provide 'powercut)
;;; powercut.el ends here
