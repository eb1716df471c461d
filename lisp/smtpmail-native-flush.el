;;; smtpmail-native-flush.el --- All that waits is sent now  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A flush is one decision of yours about all messages that wait at that moment,
;; and it is kept as one: a mark in the outbox, and not a word in each entry.
;; Each entry that the mark covers may go on once.  Should Emacs end before that
;; is done, the next session finds the mark and goes on.

;;; Code:

(require 'smtpmail-native-attempt)
(require 'smtpmail-native-data)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-index)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-schedule)

(defvar smtpmail-native-flush--mark nil
  "What the flush that goes on covers, or nil: a plist.
:last is a string that sorts after the entries it covers, and :time the
seconds after which no other one that it covers was made.")

(defvar smtpmail-native-flush--taken (make-hash-table :test #'equal)
  "Ids of the entries that the flush has let go on: once each.")

(defvar smtpmail-native-flush--count 0
  "How many entries the last flush has let go on.")

(defun smtpmail-native-flush-count ()
  "Return how many entries the last flush has let go on so far."
  smtpmail-native-flush--count)

(defun smtpmail-native-flush--dated-p (id)
  "Return non-nil if ID tells when its entry was made.
That of what smtpmail has queued does not."
  (<= ?0 (aref id 0) ?9))

(defun smtpmail-native-flush-covers-p (entry)
  "Return non-nil if the flush that goes on covers ENTRY and sends it."
  (and smtpmail-native-flush--mark
       (let ((id (smtpmail-native-entry-id entry)))
         (if (smtpmail-native-flush--dated-p id)
             (string< id (plist-get smtpmail-native-flush--mark :last))
           (<= (or (plist-get (smtpmail-native-entry-envelope entry) :created)
                   0)
               (plist-get smtpmail-native-flush--mark :time))))
       (smtpmail-native-entry-flushable-p entry)
       t))

;;;; The mark

(defun smtpmail-native-flush--file ()
  "Return the file of the mark."
  (concat (smtpmail-native-outbox-root) "flush"))

(defun smtpmail-native-flush--steps (step)
  "Have the disk do STEP with the file of the mark, durably.
Without the mark only this Emacs goes on with the flush, and so a failure is
no error."
  (ignore-errors
    (smtpmail-native-disk-hand-in
     (smtpmail-native-flush--file)
     (list step (list 'sync
                      (directory-file-name (smtpmail-native-outbox-root))))
     #'ignore)))

(defun smtpmail-native-flush--read ()
  "Return what the mark of an earlier session says, or nil."
  (let ((mark (ignore-errors
                (smtpmail-native-outbox-locally
                  (smtpmail-native-data-read (smtpmail-native-flush--file)
                                             'utf-8-emacs)))))
    (and (proper-list-p mark)
         (stringp (plist-get mark :last))
         (numberp (plist-get mark :time))
         (list :last (plist-get mark :last) :time (plist-get mark :time)))))

;;;; Going on

(defun smtpmail-native-flush--new-p (entry)
  "Return non-nil if ENTRY may go on, and has not in this flush."
  (let ((id (smtpmail-native-entry-id entry)))
    (not (or (gethash id smtpmail-native-flush--taken)
             (smtpmail-native-attempt-sending id)
             (not (smtpmail-native-flush-covers-p entry))))))

(defun smtpmail-native-flush--take (entry)
  "Return non-nil if ENTRY may go on, for the first time in this flush."
  (when (smtpmail-native-flush--new-p entry)
    (puthash (smtpmail-native-entry-id entry) t smtpmail-native-flush--taken)))

(defun smtpmail-native-flush--permit (ids)
  "Let the entries IDS go on."
  (smtpmail-native-schedule-permit ids #'smtpmail-native-entry-flushable-p))

(defun smtpmail-native-flush-note (id)
  "Let the entry ID go on if the flush covers it.
For `smtpmail-native-changed-functions'."
  (let ((entry (and smtpmail-native-flush--mark
                    id
                    (smtpmail-native-index-entry id))))
    (when (and entry (smtpmail-native-flush--take entry))
      (setq smtpmail-native-flush--count (1+ smtpmail-native-flush--count))
      (smtpmail-native-flush--permit (list id)))))

(defun smtpmail-native-flush--go-on (mark)
  "Let all entries that MARK covers go on."
  (setq smtpmail-native-flush--mark mark)
  (clrhash smtpmail-native-flush--taken)
  (setq smtpmail-native-flush--count
        (smtpmail-native-index-count #'smtpmail-native-flush--new-p))
  (if (or noninteractive (not (smtpmail-native-index-fresh-p)))
      (smtpmail-native-flush--permit
       (smtpmail-native-index-select #'smtpmail-native-flush--take))
    (smtpmail-native-schedule-walk (smtpmail-native-flush--walker))))

(defvar smtpmail-native-flush--step 64
  "How many entries of a flush are let go on at a time.")

(defun smtpmail-native-flush--walker ()
  "Return a function that lets a few entries go on each time it is called.
It returns nil when it has come to the end.  All at once would keep you
waiting for a tenth of a second."
  (let ((mark smtpmail-native-flush--mark)
        (begun nil)
        (ids nil))
    (lambda ()
      (unless begun
        (setq ids (smtpmail-native-index-select #'smtpmail-native-flush--new-p)
              begun t))
      (when (eq mark smtpmail-native-flush--mark)
        (let ((some nil))
          (dotimes (_ smtpmail-native-flush--step)
            (let ((entry (and ids (smtpmail-native-index-entry (pop ids)))))
              (when (and entry (smtpmail-native-flush--take entry))
                (push (smtpmail-native-entry-id entry) some))))
          (smtpmail-native-flush--permit (nreverse some))
          ids)))))

(defun smtpmail-native-flush-begin ()
  "Send all that waits now; what is not known yet is sent when it is read."
  (let* ((now (current-time))
         (last (format-time-string "%Y%m%dT%H%M%S.%6N" now t))
         (time (float-time now)))
    ;; What is there was made before now, whatever the clock has done since.
    (smtpmail-native-index-map
     (lambda (entry)
       (let ((id (smtpmail-native-entry-id entry))
             (created (plist-get (smtpmail-native-entry-envelope entry)
                                 :created)))
         (when (and (smtpmail-native-flush--dated-p id) (string< last id))
           (setq last (concat id "~")))
         (when created
           (setq time (max time created))))))
    (smtpmail-native-flush--go-on (list :last last :time time)))
  (when (smtpmail-native-outbox-area "queue")
    (smtpmail-native-flush--steps
     (list 'write (smtpmail-native-flush--file)
           (smtpmail-native-data-print smtpmail-native-flush--mark))))
  ;; None of them is one that only a flush sends any more.
  (smtpmail-native-index-changed nil))

(defun smtpmail-native-flush-resume ()
  "Go on with the flush that an earlier session has not finished, if any."
  (let ((mark (and (null smtpmail-native-flush--mark)
                   (smtpmail-native-flush--read))))
    (when mark
      (smtpmail-native-flush--go-on mark))))

(defun smtpmail-native-flush--left-p ()
  "Return non-nil if an entry that the flush covers is still queued.
Another Emacs, which goes on with the same mark, has it in its hands, and
should that one end early, the mark is needed."
  (> (smtpmail-native-index-count
      (lambda (entry)
        (and (eq (plist-get (smtpmail-native-entry-state entry) :hold) 'queue)
             (smtpmail-native-flush-covers-p entry))))
     0))

(defun smtpmail-native-flush--other-p (mark)
  "Return non-nil if the file has the mark of another Emacs, and not MARK.
That one has begun a flush since, which may cover more."
  (let ((there (and (null (smtpmail-native-disk-pending
                           (smtpmail-native-flush--file)))
                    (smtpmail-native-flush--read))))
    (and there (not (equal there mark)))))

(defun smtpmail-native-flush-end ()
  "End the flush: each entry that it covers has had its turn.
For `smtpmail-native-schedule-idle-hook'."
  (let ((mark smtpmail-native-flush--mark))
    (when mark
      (let ((left (smtpmail-native-flush--left-p)))
        (smtpmail-native-flush-stop)
        (unless (or left (smtpmail-native-flush--other-p mark))
          (smtpmail-native-flush--steps
           (list 'delete (smtpmail-native-flush--file)))))
      (smtpmail-native-index-changed nil))))

(defun smtpmail-native-flush-stop ()
  "Do not go on with the flush in this session; the next one goes on."
  (setq smtpmail-native-flush--mark nil)
  (clrhash smtpmail-native-flush--taken))

(add-hook 'smtpmail-native-changed-functions #'smtpmail-native-flush-note)
(add-hook 'smtpmail-native-schedule-idle-hook #'smtpmail-native-flush-end)

(provide 'smtpmail-native-flush)
;;; smtpmail-native-flush.el ends here
