;;; smtpmail-native-outbox.el --- The durable spool  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Files only; what they mean is decided elsewhere.  The outbox is a directory:
;;
;;   incoming/ID/   an entry that is being written
;;   queue/ID/      an entry that counts: one rename brings it here
;;   trash/ID/      an entry that is being deleted
;;   unfiled/ID.eml a message that was sent, but whose copy could not be filed
;;
;; An entry is a directory that holds
;;
;;   message        the octets to be sent, which never change
;;   message.ascii  the same, encoded for a server that takes only ASCII
;;   message.el     envelope and server, in the form that smtpmail reads
;;   state          what has become of it so far, replaced as a whole
;;   receipt        what came of the last attempt, written by the module
;;   lock           the Emacs that has it locked may change the entry; the lock
;;                  ends with that Emacs, even if it is killed
;;   draft          the message as it was written, if it may be kept
;;
;; Several Emacs sessions may share the directory.  All of them read; the one
;; that writes holds the claim of the entry.
;;
;; Another program may have written any of these files.  Directories and files
;; that are not ours, or that others may write to, are not used; what is read is
;; plain data of known types.
;;
;; This file makes the directories, reads entries and claims them; see
;; smtpmail-native-outbox-write.el for the rest.

;;; Code:

(require 'cl-lib)
(require 'smtpmail-native-data)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-options)

(declare-function smtpmail-native-module-claim "smtpmail-native-module" (file))
(declare-function smtpmail-native-module-entry "smtpmail-native-module"
                  (directory max))
(declare-function smtpmail-native-module-release "smtpmail-native-module"
                  (claim))

;;;; Directories

(defun smtpmail-native-outbox-signal (doing reason)
  "Signal that DOING something with the outbox fails for REASON, a text."
  (smtpmail-native-error-signal
   'smtpmail-native-outbox-error
   (format "%s the outbox %s: %s" doing
           (abbreviate-file-name smtpmail-native-outbox-directory) reason)))

(defun smtpmail-native-outbox-fail (err doing)
  "Signal that DOING something with the outbox has led to the file error ERR."
  (smtpmail-native-outbox-signal doing (error-message-string err)))

(defmacro smtpmail-native-outbox-locally (&rest body)
  "Do BODY, which concerns files of the outbox and no others.
They are neither remote nor compressed, which is asked of each step with a
file otherwise, and takes longer than the step."
  (declare (indent 0) (debug t))
  `(let ((file-name-handler-alist nil))
     ,@body))

(defun smtpmail-native-outbox--make-directory (directory)
  "Make DIRECTORY and the missing ones above it, for this user only."
  (let ((directory (directory-file-name directory))
        (missing nil))
    (while (not (file-exists-p directory))
      (push directory missing)
      (setq directory (directory-file-name (file-name-directory directory))))
    (condition-case err
        (with-file-modes #o700
          (dolist (one missing)
            (make-directory one)
            ;; Done before all that is handed in later.
            (smtpmail-native-disk-hand-in
             one
             (list (list 'sync (directory-file-name (file-name-directory one))))
             #'ignore)))
      ;; Another Emacs may have been faster.
      (file-already-exists nil)
      (file-error (smtpmail-native-outbox-fail err "Cannot make")))))

(defun smtpmail-native-outbox--check (directory)
  "Return DIRECTORY if it may be trusted, nil if it is missing.
Signal `smtpmail-native-outbox-error' if it is not ours, if others may write
to it, or if something else has its name."
  (let ((problem (smtpmail-native-data-file-problem directory t)))
    ;; By the name of a directory nothing else is found.
    (when (and (eq problem smtpmail-native-data-missing)
               (file-attributes (directory-file-name directory)))
      (setq problem "it is not a directory"))
    (unless (eq problem smtpmail-native-data-missing)
      (when problem
        (smtpmail-native-error-signal
         'smtpmail-native-outbox-error
         (format "Cannot use the outbox: %s of %s"
                 problem (abbreviate-file-name directory))))
      directory)))

(defvar smtpmail-native-outbox--root nil
  "What `smtpmail-native-outbox-directory' last was: (VALUE . EXPANDED).")

(defun smtpmail-native-outbox-root ()
  "Return the directory of the outbox, expanded, with its slash."
  (unless (eq (car smtpmail-native-outbox--root)
              smtpmail-native-outbox-directory)
    (setq smtpmail-native-outbox--root
          (cons smtpmail-native-outbox-directory
                (file-name-as-directory
                 (expand-file-name smtpmail-native-outbox-directory "~/")))))
  (cdr smtpmail-native-outbox--root))

(defun smtpmail-native-outbox-local-root ()
  "Return `smtpmail-native-outbox-root'; signal an error if it is remote."
  (let ((outbox (smtpmail-native-outbox-root)))
    (when (file-remote-p outbox)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "`smtpmail-native-outbox-directory' must be on this machine: %s"
               outbox)))
    outbox))

(defun smtpmail-native-outbox-area (name &optional checked)
  "Return the directory NAME of the outbox, or nil if it is missing.
Signal `smtpmail-native-outbox-error' if it is not to be trusted, or the
outbox is not, unless that was CHECKED before."
  (let ((outbox (smtpmail-native-outbox-local-root)))
    (smtpmail-native-outbox-locally
      (and (or checked (smtpmail-native-outbox--check outbox))
           (smtpmail-native-outbox--check
            (concat outbox name "/"))))))

(defun smtpmail-native-outbox-make-area (name &optional checked)
  "Return the directory NAME of the outbox, made if it is missing.
CHECKED is as in `smtpmail-native-outbox-area'."
  (or (smtpmail-native-outbox-area name checked)
      (progn
        (smtpmail-native-outbox--make-directory
         (concat (smtpmail-native-outbox-root) name))
        (smtpmail-native-outbox-area name))))

(defun smtpmail-native-outbox-file (entry &optional name)
  "Return the file NAME of ENTRY, or its directory."
  (concat (smtpmail-native-outbox-root) (smtpmail-native-entry-area entry) "/"
          (smtpmail-native-entry-id entry) (and name "/") name))

(defun smtpmail-native-outbox-gone-p (entry)
  "Return non-nil if ENTRY is not in the outbox any more.
A disk that does not say is no proof of that."
  (smtpmail-native-outbox-locally
    (condition-case nil
        (progn
          (access-file (directory-file-name (smtpmail-native-outbox-file entry))
                       "Looking for it")
          nil)
      (file-missing t)
      (file-error nil))))

(defun smtpmail-native-outbox-pending (entry)
  "Return what the disk has still to do for ENTRY, or nil."
  (smtpmail-native-disk-pending (smtpmail-native-outbox-file entry)))

(defun smtpmail-native-outbox--leaving ()
  "Return the names of all entries that are gone for this Emacs already."
  (let ((ids nil))
    (smtpmail-native-disk-map-pending
     (lambda (key pending)
       (when (smtpmail-native-disk-pending-leaving pending)
         (push (file-name-nondirectory key) ids))))
    ids))

(defun smtpmail-native-outbox-leaving-p (entry)
  "Return non-nil if ENTRY is gone as soon as the disk has done its work.
For this Emacs it is gone already; no other one can have it."
  (let ((pending (smtpmail-native-outbox-pending entry)))
    (and pending
         (smtpmail-native-disk-pending-leaving pending))))

(defun smtpmail-native-outbox--unwritten (entry name)
  "Return what the disk is about to write into the file NAME of ENTRY, or nil."
  (let ((pending (smtpmail-native-outbox-pending entry)))
    (and pending
         (cdr (assoc name (smtpmail-native-disk-pending-contents pending))))))

(defvar smtpmail-native-outbox-durable (make-hash-table :test #'equal)
  "Directories of entries that this Emacs has made durable.")

(defun smtpmail-native-outbox-durable-p (entry)
  "Return non-nil if ENTRY is known to survive a loss of power as it is."
  (and (gethash (smtpmail-native-outbox-file entry)
                smtpmail-native-outbox-durable)
       ;; What was encoded since may still wait for the disk.
       (null (plist-get (smtpmail-native-entry-state entry) :ascii))))

;;;; Reading

(defun smtpmail-native-outbox--problem (entry format &rest args)
  "Note FORMAT with ARGS as the problem of ENTRY, unless it has one."
  (unless (smtpmail-native-entry-problem entry)
    (setf (smtpmail-native-entry-problem entry)
          (apply #'format format args))))

(defun smtpmail-native-outbox-read-stock (file)
  "Return what FILE says, in the form of smtpmail, as an alist.
That is ((VARIABLE . VALUE)...).  FILE is read and not evaluated.  Signal
an error if it has another form."
  (smtpmail-native-entry-stock-variables
   (smtpmail-native-data-read file 'utf-8-emacs)))

(defun smtpmail-native-outbox--files (entry)
  "Return what the module reads of ENTRY, see `smtpmail-native-module-entry'.
The value is nil without the module, and where that does not use them."
  (and (smtpmail-native-load-loaded-p)
       (smtpmail-native-module-entry
        (smtpmail-native-disk-encode (smtpmail-native-outbox-file entry))
        smtpmail-native-data-max)))

(defun smtpmail-native-outbox--data (entry name octets coding)
  "Return the Lisp object in the file NAME of ENTRY, in the coding system CODING.
OCTETS are what the module has read, if that is a string; else the file is
looked at here, by which an error says what is wrong with it."
  (if (stringp octets)
      (smtpmail-native-data-parse octets coding)
    (smtpmail-native-data-read (smtpmail-native-outbox-file entry name)
                               coding)))

(defun smtpmail-native-outbox--read-envelope (entry octets)
  "Return the envelope of ENTRY, or nil, and note the problem.
OCTETS are as in `smtpmail-native-outbox--data'."
  (condition-case err
      (let* ((envelope (cdr (assq 'smtpmail-native-envelope
                                  (smtpmail-native-entry-stock-variables
                                   (smtpmail-native-outbox--data
                                    entry "message.el" octets
                                    'utf-8-emacs)))))
             (wrong (smtpmail-native-entry-type-problem envelope 'envelope)))
        (if wrong
            (error "%s" wrong)
          envelope))
    (error
     (smtpmail-native-outbox--problem entry
                                      "the file message.el cannot be used: %s"
                                      (error-message-string err))
     nil)))

(defun smtpmail-native-outbox--read-state (entry octets)
  "Return the state of ENTRY; OCTETS are as in `smtpmail-native-outbox--data'.
One that is missing or cut off was lost with the machine's power before
anybody was told of it, or by accident.  The message is not harmed, and
nothing says that it was sent, but it may have been held: the user decides.
One with wrong types is nothing that Emacs wrote, and a problem."
  (let ((held (lambda (reason)
                (list :status 'held :hold 'interrupted
                      :text (format "its state cannot be read: %s" reason)))))
    (condition-case err
        (let* ((state (smtpmail-native-outbox--data entry "state" octets
                                                    'utf-8-emacs))
               (wrong (smtpmail-native-entry-type-problem state 'state)))
          (if (null wrong)
              state
            (smtpmail-native-outbox--problem
             entry "the file state cannot be used: %s" wrong)
            (funcall held wrong)))
      (error (funcall held (error-message-string err))))))

(defun smtpmail-native-outbox--read-receipt (entry files)
  "Return the receipt of ENTRY, or nil if it has none.
FILES is a value of `smtpmail-native-outbox--files'.  Where it cannot be used
there was an attempt, and its outcome is unknown."
  (let ((octets (and files (aref files 2))))
    (and (or octets
             (and (null files)
                  (file-attributes
                   (smtpmail-native-outbox-file entry "receipt"))))
         (condition-case nil
             (let ((receipt (smtpmail-native-outbox--data
                             entry "receipt" octets 'no-conversion)))
               (if (smtpmail-native-entry-type-problem receipt 'receipt)
                   (error "Wrong types")
                 receipt))
           (error '(:in-doubt t :kind system :stage end-of-data
                    :text "the receipt cannot be read"))))))

(defun smtpmail-native-outbox-message-file (entry)
  "Return the file of ENTRY that is sent now."
  (smtpmail-native-outbox-file
   entry (if (plist-get (smtpmail-native-entry-state entry) :ascii)
             "message.ascii"
           "message")))

(defun smtpmail-native-outbox--message-size (entry)
  "Return how many octets the file of ENTRY that is sent now must have, or nil."
  (or (plist-get (smtpmail-native-entry-state entry) :ascii)
      (plist-get (smtpmail-native-entry-envelope entry) :size)))

(defun smtpmail-native-outbox--check-message (entry files)
  "Note in ENTRY if its message is not all there.
FILES is a value of `smtpmail-native-outbox--files'."
  (let* ((file (smtpmail-native-outbox-message-file entry))
         (state (smtpmail-native-entry-state entry))
         (known (and files
                     (null (plist-get state :ascii))
                     (integerp (aref files 3))
                     (aref files 3)))
         (size (or known (file-attribute-size (file-attributes file))))
         (wanted (smtpmail-native-outbox--message-size entry))
         (wrong (and size (null known)
                     (smtpmail-native-data-file-problem file))))
    (cond
     (wrong
      (smtpmail-native-outbox--problem entry "its message: %s" wrong))
     (size
      (unless (or (null wanted) (= size wanted)
                  ;; An earlier version encoded it in its place.
                  (equal size (plist-get state :size)))
        (smtpmail-native-outbox--problem
         entry "its message has %d octets instead of %d" size wanted)))
     ((file-exists-p (smtpmail-native-outbox-file entry "message.el"))
      (smtpmail-native-outbox--problem entry "its message is missing"))
     (t
      (setf (smtpmail-native-entry-problem entry)
            "its message and message.el are gone; smtpmail may have sent it \
from its own queue")))))

(defun smtpmail-native-outbox--read (entry)
  "Read the files of ENTRY into it, and note what is wrong with them."
  (let* ((files (smtpmail-native-outbox--files entry))
         (problem (and (null files)
                       (smtpmail-native-data-file-problem
                        (smtpmail-native-outbox-file entry) t))))
    (setf (smtpmail-native-entry-problem entry) problem
          (smtpmail-native-entry-envelope entry) nil
          (smtpmail-native-entry-receipt entry) nil
          (smtpmail-native-entry-state entry)
          (list :status 'held :hold 'interrupted :text problem))
    (unless problem
      (setf (smtpmail-native-entry-envelope entry)
            (or (smtpmail-native-outbox--unwritten entry "message.el")
                (smtpmail-native-outbox--read-envelope
                 entry (and files (aref files 0))))
            (smtpmail-native-entry-state entry)
            (or (smtpmail-native-outbox--unwritten entry "state")
                (smtpmail-native-outbox--read-state
                 entry (and files (aref files 1))))
            (smtpmail-native-entry-receipt entry)
            (smtpmail-native-outbox--read-receipt entry files))
      (smtpmail-native-outbox--check-message entry files))))

(defun smtpmail-native-outbox-load (entry)
  "Read the files of ENTRY again, and return it.
What the disk does not let us read is a problem of ENTRY, for now."
  (condition-case err
      (smtpmail-native-outbox-locally
        (smtpmail-native-outbox--read entry))
    (file-error
     (setf (smtpmail-native-entry-problem entry) (error-message-string err))))
  entry)

(defun smtpmail-native-outbox--there-p (entry)
  "Return non-nil if ENTRY has a directory, or the disk does not say."
  (let ((directory (smtpmail-native-outbox-file entry)))
    (or (file-directory-p directory)
        (not (or (smtpmail-native-outbox-gone-p entry)
                 (file-exists-p (directory-file-name directory)))))))

(defun smtpmail-native-outbox-get (id &optional area)
  "Return the entry ID of the outbox, read from its files, or nil.
AREA is the directory of the outbox that holds it, by default \"queue\"."
  (smtpmail-native-outbox-locally
    (let ((entry (smtpmail-native-entry-make :id id :area (or area "queue"))))
      (and (not (smtpmail-native-outbox-leaving-p entry))
           (smtpmail-native-outbox--there-p entry)
           (smtpmail-native-outbox-load entry)))))

(defun smtpmail-native-outbox-ids ()
  "Return the names of all entries, the oldest first.
Signal `smtpmail-native-outbox-error' if the outbox cannot be read, or is
not to be trusted."
  (condition-case err
      (let ((queue (smtpmail-native-outbox-area "queue")))
        (and queue
             (let ((ids (smtpmail-native-outbox-locally
                          (directory-files queue nil "\\`[^.]"))))
               (dolist (id (smtpmail-native-outbox--leaving) ids)
                 (setq ids (delete id ids))))))
    (file-error (smtpmail-native-outbox-fail err "Cannot read"))))

(defun smtpmail-native-outbox-list ()
  "Return all entries of the outbox, the oldest first."
  (delq nil (mapcar #'smtpmail-native-outbox-get
                    (smtpmail-native-outbox-ids))))

(defun smtpmail-native-outbox-insert-message (entry)
  "Insert the octets of ENTRY's message after point of a unibyte buffer.
Signal an error if they cannot be read.  A file that has become far longer
than the message cannot: to read it may take all memory."
  (let* ((file (smtpmail-native-outbox-message-file entry))
         (size (file-attribute-size (file-attributes file)))
         (problem (or (smtpmail-native-data-file-problem file)
                      (and (> size
                              (max smtpmail-native-data-max
                                   (or (smtpmail-native-outbox--message-size
                                        entry)
                                       size)))
                           "it is too long"))))
    (when problem
      (signal 'file-error (list "Cannot read the message" problem file)))
    (insert-file-contents-literally file)))

(defun smtpmail-native-outbox-draft (entry)
  "Return the message of ENTRY as it was written, a string, or nil.
One that is empty or zeros, or has not all bytes, was lost with the power."
  (or (smtpmail-native-outbox--unwritten entry "draft")
      (let ((file (smtpmail-native-outbox-file entry "draft"))
            (size (plist-get (smtpmail-native-entry-envelope entry)
                             :draft-size)))
        (condition-case nil
            (smtpmail-native-outbox-locally
              (let ((there (file-attribute-size (file-attributes file))))
                (and there
                     (memql size (list nil there))
                     (with-temp-buffer
                       (smtpmail-native-data-insert
                        file 'utf-8-emacs-unix (or size
                                                   smtpmail-native-data-max))
                       (goto-char (point-min))
                       (and (re-search-forward "[^\0 \t\n\r]" nil t)
                            (buffer-string))))))
          (error nil)))))

;;;; Claims

(defun smtpmail-native-outbox-lock (directory)
  "Claim the entry in DIRECTORY; return the claim, or nil if another has it.
Signal `smtpmail-native-error' if it cannot be claimed."
  (smtpmail-native-load)
  (smtpmail-native-module-claim
   (smtpmail-native-disk-encode (expand-file-name "lock" directory))))

(defun smtpmail-native-outbox-new-claim ()
  "Return a claim that holds nothing yet, for the step `create' of the disk.
Without the module there is none, and the value is nil: any Emacs that has
it may take the entry as soon as it is there."
  (and (eq (car (smtpmail-native-load-try)) 'loaded)
       (smtpmail-native-module-claim nil)))

(defun smtpmail-native-outbox-claim (entry)
  "Claim ENTRY for this Emacs, and read its files again.
Return ENTRY, or nil if it is gone or is claimed: by another Emacs, or by
other code of this one."
  (smtpmail-native-load) ; its own file may be a compressed one
  (smtpmail-native-outbox-locally
    (let ((inhibit-quit t)
          (pending (smtpmail-native-outbox-pending entry))
          (directory (smtpmail-native-outbox-file entry)))
      (and (not (smtpmail-native-outbox-leaving-p entry))
           (file-directory-p directory)
           (setf (smtpmail-native-entry-claim entry)
                 (or (and pending
                          (smtpmail-native-disk-pending-take-end pending))
                     (smtpmail-native-outbox-lock directory)))
           (smtpmail-native-outbox-load entry)))))

(defun smtpmail-native-outbox-release (entry)
  "Let go of ENTRY, as soon as all that was done to it is on the disk.
Until then this Emacs can claim it again, and no other one can."
  (let* ((inhibit-quit t)
         (claim (smtpmail-native-entry-claim entry))
         (pending (smtpmail-native-outbox-pending entry)))
    (when claim
      (setf (smtpmail-native-entry-claim entry) nil)
      (if pending
          (setf (smtpmail-native-disk-pending-end pending) claim)
        (smtpmail-native-module-release claim)))))

(defun smtpmail-native-outbox-claimed-p (id)
  "Return non-nil if this or another Emacs works on the entry ID."
  (let ((entry (smtpmail-native-entry-make :id id)))
    (not (when (ignore-errors (smtpmail-native-outbox-claim entry))
           (smtpmail-native-outbox-release entry)
           t))))

(provide 'smtpmail-native-outbox)
;;; smtpmail-native-outbox.el ends here
