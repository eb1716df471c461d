;;; smtpmail-native-index.el --- What is known of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The entries of the outbox in memory, as small as possible, for code that only
;; look: the schedule, the outbox buffer, the mode line.  What this Emacs does to
;; an entry it puts here; what others do is found by looking: the directory of an
;; entry whose time has not changed is not read again.  Ten thousand entries are
;; read a slice at a time.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-fifo)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-tell)

(defconst smtpmail-native-index-slice 0.01
  "Seconds for which Emacs is kept busy with the outbox at a time.")

(defconst smtpmail-native-index--least 8
  "How many entries are read in a slice, however long that takes.")

(defvar smtpmail-native-changed-functions nil
  "Functions that are called when something has happened to an entry.
The argument is its id, or nil when it may concern all of them.")

(defvar smtpmail-native-index--directory nil
  "The outbox that `smtpmail-native-index--entries' are of.")

(defvar smtpmail-native-index--entries (make-hash-table :test #'equal)
  "The entries of the outbox as they were last read, by id.")

(defvar smtpmail-native-index--stamps (make-hash-table :test #'equal)
  "When the directory of an entry had last been changed as it was read, by id.")

(defvar smtpmail-native-index--unread (smtpmail-native-fifo-make)
  "Ids of entries that have to be looked at.")

(defvar smtpmail-native-index--known nil
  "When the entries of the outbox were last looked through, seconds, or nil.")

(defvar smtpmail-native-index-watched nil
  "Non-nil while the system tells which entries come and go.")

(defconst smtpmail-native-index--fresh 2
  "Seconds for which what was seen counts without that.")

(defvar smtpmail-native-index--wanted (make-hash-table :test #'equal)
  "How the entries in `smtpmail-native-index--unread' are looked at, by id.
The value is `read', or `check' to read only what has changed.")

;;;; What is kept

(defun smtpmail-native-index--light-envelope (envelope)
  "Return what is kept of ENVELOPE."
  (let ((recipients (plist-get envelope :recipients)))
    (and envelope
         (list :recipients (list (car recipients))
               :others (length (cdr recipients))
               :subject (plist-get envelope :subject)
               :host (plist-get envelope :host)
               :port (plist-get envelope :port)
               :user (plist-get envelope :user)
               :account (plist-get envelope :account)
               :size (plist-get envelope :size)
               :created (plist-get envelope :created)
               :wishes (let ((release (plist-get (plist-get envelope :wishes)
                                                 :release)))
                         (and release (list :release release)))))))

(defun smtpmail-native-index--light (entry)
  "Return what is kept of ENTRY, an entry whose lists are short."
  (let ((state (copy-sequence (smtpmail-native-entry-state entry)))
        (attempt (plist-get (smtpmail-native-entry-receipt entry) :attempt)))
    (when (plist-get state :results)
      (setq state (plist-put state :results
                             (seq-take
                              (seq-filter (lambda (result)
                                            (eq (cadr result) 'sent))
                                          (plist-get state :results))
                              1))))
    (dolist (key '(:replies :copy))
      (when (plist-get state key)
        (setq state (plist-put state key nil))))
    (smtpmail-native-entry-make
     :id (smtpmail-native-entry-id entry)
     :envelope (smtpmail-native-index--light-envelope
                (smtpmail-native-entry-envelope entry))
     :state state
     :receipt (and (smtpmail-native-entry-receipt entry)
                   (list :attempt attempt))
     :problem (smtpmail-native-entry-problem entry))))

(defun smtpmail-native-index--here ()
  "Forget everything if the outbox is another one now."
  (let ((directory (smtpmail-native-outbox-root)))
    (unless (equal directory smtpmail-native-index--directory)
      (smtpmail-native-index-clear)
      (setq smtpmail-native-index--directory directory))))

(defun smtpmail-native-index-clear ()
  "Forget all that is known."
  (setq smtpmail-native-index--directory nil
        smtpmail-native-index--known nil)
  (smtpmail-native-fifo-clear smtpmail-native-index--unread)
  (clrhash smtpmail-native-index--entries)
  (clrhash smtpmail-native-index--stamps)
  (clrhash smtpmail-native-index--wanted))

;;;; Looking

(defun smtpmail-native-index-entry (id)
  "Return what is known of the entry ID, or nil."
  (smtpmail-native-index--here)
  (gethash id smtpmail-native-index--entries))

(defun smtpmail-native-index-map (function)
  "Call FUNCTION with each entry that is known, in any order."
  (smtpmail-native-index--here)
  (maphash (lambda (_id entry) (funcall function entry))
           smtpmail-native-index--entries))

(defun smtpmail-native-index-select (predicate)
  "Return the ids of the entries for which PREDICATE holds, the oldest first."
  (let ((ids nil))
    (smtpmail-native-index-map
     (lambda (entry)
       (when (funcall predicate entry)
         (push (smtpmail-native-entry-id entry) ids))))
    (sort ids #'string<)))

(defun smtpmail-native-index-count (predicate)
  "Return for how many entries PREDICATE holds."
  (let ((count 0))
    (smtpmail-native-index-map
     (lambda (entry)
       (when (funcall predicate entry)
         (setq count (1+ count)))))
    count))

(defun smtpmail-native-index-known-p ()
  "Return non-nil if all entries have been read, except new ones."
  (smtpmail-native-index--here)
  (and smtpmail-native-index--known
       (not (smtpmail-native-index-busy-p))))

(defun smtpmail-native-index-fresh-p ()
  "Return non-nil if all entries are known as they were a moment ago."
  (and (smtpmail-native-index-known-p)
       (or smtpmail-native-index-watched
           (<= 0 (- (float-time) smtpmail-native-index--known)
               smtpmail-native-index--fresh))))

(defun smtpmail-native-index-busy-p ()
  "Return non-nil if there are entries that have to be looked at."
  (not (smtpmail-native-fifo-empty-p smtpmail-native-index--unread)))

;;;; Changes

(defun smtpmail-native-index-changed (id)
  "Run the hook that says that something has happened to the entry ID."
  (smtpmail-native-tell-each 'smtpmail-native-changed-functions id))

(defun smtpmail-native-index--drop (id)
  "Forget the entry ID, which is gone."
  (remhash id smtpmail-native-index--entries)
  (remhash id smtpmail-native-index--stamps))

(defun smtpmail-native-index-put (entry)
  "Note that ENTRY is now as it is in memory, and tell that."
  (smtpmail-native-index--here)
  (let ((id (smtpmail-native-entry-id entry)))
    (puthash id (smtpmail-native-index--light entry)
             smtpmail-native-index--entries)
    (remhash id smtpmail-native-index--stamps)
    (smtpmail-native-index-changed id)))

(defun smtpmail-native-index-drop (id)
  "Note that the entry ID is gone, and tell that."
  (smtpmail-native-index--here)
  (smtpmail-native-index--drop id)
  (smtpmail-native-index-changed id))

;;;; Looking

(defun smtpmail-native-index--stamp (id)
  "Return when the directory of the entry ID was last changed, or nil.
A change of the last two seconds is none to rely on: the next one might have
the same time."
  (let ((changed (file-attribute-modification-time
                  (smtpmail-native-outbox-locally
                    (file-attributes
                     (concat smtpmail-native-index--directory "queue/" id))))))
    (and changed
         (> (float-time (time-since changed)) 2)
         changed)))

(defun smtpmail-native-index-want (id &optional how)
  "Have the entry ID looked at; HOW is as in `smtpmail-native-index--wanted'."
  (smtpmail-native-index--here)
  (unless (gethash id smtpmail-native-index--wanted)
    (smtpmail-native-fifo-put smtpmail-native-index--unread id))
  (unless (and (eq how 'check)
               (gethash id smtpmail-native-index--wanted))
    (puthash id (or how 'read) smtpmail-native-index--wanted)))

(defun smtpmail-native-index-look ()
  "Find out which entries there are, and have all of them looked at.
Return the number of those that are gone.  Signal
`smtpmail-native-outbox-error' if the outbox cannot be read."
  (smtpmail-native-index--here)
  (let ((ids (smtpmail-native-outbox-ids))
        (there (make-hash-table :test #'equal))
        (gone nil))
    (dolist (id ids)
      (puthash id t there)
      (unless (gethash id smtpmail-native-index--wanted)
        (puthash id 'check smtpmail-native-index--wanted)))
    (smtpmail-native-fifo-fill smtpmail-native-index--unread ids)
    (setq smtpmail-native-index--known (float-time))
    (maphash (lambda (id _entry)
               (unless (gethash id there)
                 (push id gone)))
             smtpmail-native-index--entries)
    (mapc #'smtpmail-native-index--drop gone)
    (when gone
      (smtpmail-native-index-changed nil))
    (length gone)))

(defun smtpmail-native-index--same-p (old new)
  "Return non-nil if the entries OLD and NEW, or nil, say the same."
  (and old
       (equal (smtpmail-native-entry-state old)
              (smtpmail-native-entry-state new))
       (equal (smtpmail-native-entry-receipt old)
              (smtpmail-native-entry-receipt new))
       (equal (smtpmail-native-entry-problem old)
              (smtpmail-native-entry-problem new))))

(defun smtpmail-native-index--read (id check)
  "Read the entry ID, unless CHECK is non-nil and it has not changed.
Return its id if others have to hear of it."
  (let ((stamp (smtpmail-native-index--stamp id))
        (old (gethash id smtpmail-native-index--entries)))
    (unless (and check old stamp
                 (equal stamp (gethash id smtpmail-native-index--stamps)))
      (let* ((entry (smtpmail-native-outbox-get id))
             (new (and entry (smtpmail-native-index--light entry))))
        (if (null new)
            (smtpmail-native-index--drop id)
          (puthash id new smtpmail-native-index--entries)
          ;; What could not be read may be so the next time.
          (if (and stamp (null (smtpmail-native-entry-problem new)))
              (puthash id stamp smtpmail-native-index--stamps)
            (remhash id smtpmail-native-index--stamps)))
        (unless (if new (smtpmail-native-index--same-p old new) (null old))
          id)))))

(defun smtpmail-native-index-step (until)
  "Look at entries until the time UNTIL, in seconds; return non-nil if more.
A few are looked at in any case."
  (smtpmail-native-index--here)
  (let ((count 0))
    (while (and (smtpmail-native-index-busy-p)
                (or (< count smtpmail-native-index--least)
                    (< (float-time) until)))
      (let* ((id (smtpmail-native-fifo-take smtpmail-native-index--unread))
             (how (gethash id smtpmail-native-index--wanted)))
        (remhash id smtpmail-native-index--wanted)
        (setq count (1+ count))
        (when (smtpmail-native-index--read id (eq how 'check))
          (smtpmail-native-index-changed id))))
    (smtpmail-native-index-busy-p)))

(defun smtpmail-native-index-complete (seconds)
  "Look at all entries now, for SECONDS at most; return non-nil if that is all.
Emacs stays alive meanwhile."
  (let ((until (+ (float-time) seconds))
        (more t))
    (while (and (setq more (smtpmail-native-index-step
                            (+ (float-time) smtpmail-native-index-slice)))
                (< (float-time) until))
      (unless noninteractive
        (redisplay)))
    (not more)))

(defun smtpmail-native-index-ensure (seconds)
  "Have all entries known, as they were a moment ago; take SECONDS at most."
  (unless (smtpmail-native-index-fresh-p)
    (smtpmail-native-index-look)
    (smtpmail-native-index-complete seconds)))

(provide 'smtpmail-native-index)
;;; smtpmail-native-index.el ends here
