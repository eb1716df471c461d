;;; smtpmail-native-stock-index.el --- The index of smtpmail's queue  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; smtpmail keeps queued mail in `smtpmail-queue-dir': a file of octets, a file
;; of the same name with ".el" appended, and a line with the name in an index.
;; Programs count these lines, and smtpmail sends what they name.  So the index
;; has a line for each message of the outbox that only a flush sends.  Whatever
;; is sent by itself, now or later, or may have arrived has no line: smtpmail
;; would send it again.
;;
;; What the index holds is remembered: neither it nor the outbox is read again
;; for a change that it does not concern.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-flush)
(require 'smtpmail-native-index)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-quiet)

(defvar smtpmail-queue-dir)
(defvar smtpmail-queue-index-file)

(defvar smtpmail-native-stock-index--timer nil
  "The timer that writes the index, or nil.")

(defun smtpmail-native-stock-index--index ()
  "Return the file name of the index."
  (require 'smtpmail)
  (expand-file-name smtpmail-queue-index-file smtpmail-queue-dir))

(defun smtpmail-native-stock-index-lines ()
  "Return the lines of the index, without empty ones."
  (let ((index (smtpmail-native-stock-index--index)))
    (and (file-readable-p index)
         (with-temp-buffer
           (insert-file-contents index)
           (split-string (buffer-string) "[ \t\r]*\n[ \t\r]*" t)))))

(defun smtpmail-native-stock-index-id (line queue)
  "Return the id of the entry that LINE of the index is for, or nil.
QUEUE is the directory of the entries of our outbox."
  (let ((file (if (and (string-prefix-p queue line)
                       (not (string-match-p "/\\.\\.?/" line)))
                  line ; as it nearly always is
                (expand-file-name line))))
    (and (string-prefix-p queue file)
         (substring file (length queue)
                    (string-match-p "/" file (length queue))))))

(defun smtpmail-native-stock-index--queue ()
  "Return the directory of the entries of our outbox."
  (concat (smtpmail-native-outbox-root) "queue/"))

(defun smtpmail-native-stock-index-queued-p (line)
  "Return non-nil if LINE of the index is for a message that smtpmail has queued.
It may also be for one of an outbox, this one or that of another Emacs."
  (not (or (smtpmail-native-stock-index-id line (smtpmail-native-stock-index--queue))
           (and (equal (file-name-nondirectory line) "message")
                (file-exists-p (expand-file-name
                                "state" (file-name-directory
                                         (expand-file-name line))))))))

(defun smtpmail-native-stock-index-any-p ()
  "Return non-nil if there is a message that smtpmail itself has queued."
  (seq-some #'smtpmail-native-stock-index-queued-p
            (smtpmail-native-stock-index-lines)))

(defun smtpmail-native-stock-index--waiting-p (entry)
  "Return non-nil if only a flush sends ENTRY, which may be nil.
smtpmail would send to all recipients, even to those that have received it."
  (and entry
       (smtpmail-native-entry-queued-p entry)
       (not (smtpmail-native-entry-unsettled-p entry))
       (null (plist-get (smtpmail-native-entry-state entry) :results))
       (not (smtpmail-native-flush-covers-p entry))))

(cl-defstruct (smtpmail-native-stock-index--seen (:copier nil))
  "The index as it was last read or written."
  (stamp nil :documentation "What tells that it is still so.")
  (ids nil :documentation "A hash table of the entries that have a line.")
  (others nil :documentation "The lines that are not ours."))

(defvar smtpmail-native-stock-index--seen nil
  "The index as it was last read or written, or nil.")

(defun smtpmail-native-stock-index--stamp ()
  "Return what tells whether the index is still the same."
  (let* ((index (smtpmail-native-stock-index--index))
         (attributes (file-attributes index)))
    (list index (smtpmail-native-stock-index--queue)
          (file-attribute-modification-time attributes)
          (file-attribute-size attributes)
          (file-attribute-inode-number attributes))))

(defun smtpmail-native-stock-index--see ()
  "Return the index as it is, a `smtpmail-native-stock-index--seen'."
  (let ((stamp (smtpmail-native-stock-index--stamp)))
    (unless (and smtpmail-native-stock-index--seen
                 (equal stamp (smtpmail-native-stock-index--seen-stamp
                               smtpmail-native-stock-index--seen)))
      (let ((ids (make-hash-table :test #'equal))
            (queue (smtpmail-native-stock-index--queue))
            (others nil))
        (dolist (line (smtpmail-native-stock-index-lines))
          (let ((id (smtpmail-native-stock-index-id line queue)))
            (if id
                (puthash id t ids)
              (push line others))))
        (setq smtpmail-native-stock-index--seen
              (make-smtpmail-native-stock-index--seen
               :stamp stamp :ids ids :others (nreverse others)))))
    smtpmail-native-stock-index--seen))

(defun smtpmail-native-stock-index--text (ids)
  "Return the lines of the index for the entries IDS."
  (let ((queue (smtpmail-native-stock-index--queue)))
    (mapconcat (lambda (id) (concat queue id "/message\n")) ids "")))

(defun smtpmail-native-stock-index--write (text append)
  "Replace the index by TEXT, or with APPEND non-nil put TEXT at its end.
Signal `smtpmail-native-outbox-error' if it cannot be written."
  (let* ((index (file-truename (smtpmail-native-stock-index--index)))
         (fresh (make-temp-name (concat index ".")))
         (coding-system-for-write 'utf-8-unix)
         ;; It names what smtpmail itself has queued, too.
         (write-region-inhibit-fsync
          (null (smtpmail-native-stock-index--seen-others
                 smtpmail-native-stock-index--seen))))
    (condition-case err
        (unwind-protect
            (progn
              (with-file-modes #o700
                (make-directory (file-name-directory index) t))
              (with-file-modes #o600
                (write-region text nil (if append index fresh) append 'silent))
              (unless append
                (rename-file fresh index t)))
          (ignore-errors (delete-file fresh)))
      (file-error
       (smtpmail-native-error-signal
        'smtpmail-native-outbox-error
        (format "Cannot write the index of queued mail: %s"
                (error-message-string err)))))))

(defun smtpmail-native-stock-index--cut-off-p ()
  "Return non-nil if the last line of the index lacks its end."
  (let* ((index (smtpmail-native-stock-index--index))
         (size (or (file-attribute-size (file-attributes index)) 0)))
    (and (> size 0)
         (with-temp-buffer
           (insert-file-contents-literally index nil (1- size) size)
           (not (equal (buffer-string) "\n"))))))

(defun smtpmail-native-stock-index--change (seen added removed left)
  "Change the index, which was SEEN, and SEEN itself.
Its entries ADDED are new, REMOVED have left; LEFT are the other lines."
  (let ((ids (smtpmail-native-stock-index--seen-ids seen))
        (others (smtpmail-native-stock-index--seen-others seen)))
    (dolist (id removed) (remhash id ids))
    (dolist (id added) (puthash id t ids))
    (setf (smtpmail-native-stock-index--seen-others seen) left)
    (cond
     ((or removed (not (equal left others)))
      (smtpmail-native-stock-index--write
       (concat (mapconcat (lambda (line) (concat line "\n")) left "")
               (smtpmail-native-stock-index--text
                (sort (hash-table-keys ids) #'string<)))
       nil))
     ;; Ten thousand lines need not be written for one.
     (added
      (smtpmail-native-stock-index--write
       (concat (if (smtpmail-native-stock-index--cut-off-p) "\n" "")
               (smtpmail-native-stock-index--text (sort added #'string<)))
       t)))
    (when (or added removed (not (equal left others)))
      (setf (smtpmail-native-stock-index--seen-stamp seen)
            (smtpmail-native-stock-index--stamp)))))

(defun smtpmail-native-stock-index--update (added removed gone)
  "Bring the index up to date; its entries ADDED are new, REMOVED have left.
These are lists of ids.  GONE are other lines that have left."
  (let ((seen smtpmail-native-stock-index--seen)
        (done nil))
    (unwind-protect
        (progn
          (smtpmail-native-stock-index--change
           seen added removed
           (seq-difference (smtpmail-native-stock-index--seen-others seen)
                           gone))
          (setq done t))
      ;; After a quit or an error the index is not what SEEN says, and a line
      ;; that stayed would have smtpmail send a message once more.
      (unless done
        (setq smtpmail-native-stock-index--seen nil)))))

(defun smtpmail-native-stock-index--entry (id)
  "Return the entry ID as it is known, or else as its files say, or nil."
  (or (smtpmail-native-index-entry id)
      (smtpmail-native-outbox-get id)))

(defun smtpmail-native-stock-index-write (changed &optional gone)
  "Bring the index of smtpmail's queue up to date.
CHANGED is a list of the ids of entries that may have changed; or t for
all, for which the outbox is read; or `known' for those that have been read.
Lines that are not ours stay, but for those in the list GONE.  The directory
of the queue is made only when a message is queued.  Signal
`smtpmail-native-outbox-error' if the index cannot be written."
  (let ((ids (smtpmail-native-stock-index--seen-ids (smtpmail-native-stock-index--see)))
        (whole (smtpmail-native-index-known-p))
        (added nil)
        (removed nil))
    (cl-flet ((judge (id entry)
                (let ((waits (smtpmail-native-stock-index--waiting-p entry)))
                  (cond ((and waits (not (gethash id ids))) (push id added))
                        ((and (gethash id ids) (not waits))
                         (push id removed))))))
      (if (listp changed)
          (dolist (id (delete-dups changed))
            (judge id (smtpmail-native-stock-index--entry id)))
        (let* ((seen (make-hash-table :test #'equal))
               (look (lambda (entry)
                       (let ((id (smtpmail-native-entry-id entry)))
                         (puthash id t seen)
                         (judge id entry)))))
          (if (and (eq changed t) (not whole))
              (mapc look (smtpmail-native-outbox-list))
            (smtpmail-native-index-map look))
          ;; What has not been read yet is told of when it has been.
          (when (or whole (eq changed t))
            (maphash
             (lambda (id _)
               (unless (gethash id seen)
                 (judge id (and (eq changed t)
                                (smtpmail-native-outbox-get id)))))
             ids)))))
    (smtpmail-native-stock-index--update added removed gone)))

(defconst smtpmail-native-stock-index--pause 0.5
  "Least seconds between a change and the index that tells of it.")

(defvar smtpmail-native-stock-index--cost 0
  "Seconds that the last writing of the index took.")

(defvar smtpmail-native-stock-index--changed nil
  "Ids of entries that may have changed since the index was written.
The value is `known' for all that are known.")

(defun smtpmail-native-stock-index--on-timer ()
  "Write the index."
  (let ((changed smtpmail-native-stock-index--changed)
        (start (float-time)))
    (setq smtpmail-native-stock-index--changed nil)
    (smtpmail-native-stock-index-write changed)
    (setq smtpmail-native-stock-index--cost (- (float-time) start))))

(defun smtpmail-native-stock-index--listed-p (id)
  "Return non-nil if the entry ID has a line in the index, as it was last seen.
The value is `unknown' if that was not seen."
  (if smtpmail-native-stock-index--seen
      (gethash id (smtpmail-native-stock-index--seen-ids
                   smtpmail-native-stock-index--seen))
    'unknown))

(defun smtpmail-native-stock-index-note (id)
  "Have the index written soon if the entry ID has to get or lose its line.
With ID nil any may have.  For `smtpmail-native-changed-functions', which
runs often."
  (unless (and id
               (eq (smtpmail-native-stock-index--listed-p id)
                   (and (smtpmail-native-stock-index--waiting-p
                         (smtpmail-native-index-entry id))
                        t)))
    (cond ((null id) (setq smtpmail-native-stock-index--changed 'known))
          ((listp smtpmail-native-stock-index--changed)
           (push id smtpmail-native-stock-index--changed)))
    (unless (memq smtpmail-native-stock-index--timer timer-list)
      (setq smtpmail-native-stock-index--timer
            (smtpmail-native-quiet-timer
             ;; While many are sent it must not be written all the time.
             (max smtpmail-native-stock-index--pause
                  (* 10 smtpmail-native-stock-index--cost))
             #'smtpmail-native-stock-index--on-timer)))))

(provide 'smtpmail-native-stock-index)
;;; smtpmail-native-stock-index.el ends here
