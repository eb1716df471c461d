;;; smtpmail-native-outbox-write.el --- Entries come, change and go  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What is promised to survive the end of Emacs is written here; what is to
;; survive a loss of power is synced by the thread of disk.el, in this order:
;;
;;   a new entry    its files, its directory, queue/ (and before all of that the
;;                  names of directories that were made above it)
;;   a new state    the file, then the rename over the old one, the directory
;;   an end         the rename to trash/, both directories, then the files,
;;                  the receipt last
;;
;; Nothing here waits for the disk but `smtpmail-native-outbox-make-durable'
;; and `smtpmail-native-outbox-wait'.  Until a new state is on the disk it is in
;; memory, and no other Emacs can claim the entry.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-body)
(require 'smtpmail-native-data)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-quiet)

(defvar smtpmail-queue-dir)

(declare-function smtpmail-native-module-release "smtpmail-native-module"
                  (claim))

(defconst smtpmail-native-outbox-patience 1
  "Seconds that a command waits until a loss of power does no harm.
It waits longer only until what it does survives the end of Emacs.")

(defun smtpmail-native-outbox--tell (entry reason)
  "Tell that something of ENTRY did not get to the disk, and give the REASON."
  (let ((title (smtpmail-native-entry-title entry)))
    (smtpmail-native-quiet-warn
     (if (smtpmail-native-outbox-gone-p entry)
         (format "Deleted from the outbox by another program, and not sent: \
%s: %s" title reason)
       (format "May not survive a loss of power: %s: %s" title reason)))))

(defun smtpmail-native-outbox--hand-in (entry steps &optional tell)
  "Have the disk do STEPS of `smtpmail-native-disk-submit' for ENTRY.
Where no caller waits, TELL is called with the reason of a failure, by
default to warn the user.  Signal `smtpmail-native-outbox-error' if STEPS
cannot be handed in."
  (condition-case err
      (smtpmail-native-disk-hand-in
       (smtpmail-native-outbox-file entry) steps
       (or tell
           (lambda (reason) (smtpmail-native-outbox--tell entry reason))))
    (smtpmail-native-error
     (smtpmail-native-outbox-signal "Cannot write to" (cadr err)))))

(defun smtpmail-native-outbox--await (pending seconds)
  "Wait at most SECONDS for PENDING, what the disk does; return t or `slow'.
Signal `smtpmail-native-outbox-error' if it failed."
  (let ((failure (smtpmail-native-disk-await pending seconds)))
    (cond ((null failure) t)
          ((eq failure 'slow) failure)
          (t (smtpmail-native-outbox-signal "Cannot write to" failure)))))

(defun smtpmail-native-outbox-wait (entry seconds)
  "Wait until all that was done to ENTRY is safe from a loss of power.
Without SECONDS wait as long as it takes.  Return t, or `slow' if SECONDS
were not enough.  Signal `smtpmail-native-outbox-error' with the reason
that the disk gave if it cannot be.  Timers run meanwhile; a quit ends the
wait and nothing else."
  (let ((pending (smtpmail-native-outbox-pending entry)))
    (condition-case err
        (smtpmail-native-outbox--await pending seconds)
      (smtpmail-native-outbox-error
       (when (smtpmail-native-disk-pending-leaving pending)
         (smtpmail-native-outbox--take-back entry pending))
       (signal (car err) (cdr err))))))

;;;; A new entry

(defun smtpmail-native-outbox--new-id ()
  "Return the name of a new entry; later ones sort after it."
  (format "%s-%x-%04x" (format-time-string "%Y%m%dT%H%M%S.%6N" nil t)
          (emacs-pid) (random #x10000)))

(defun smtpmail-native-outbox--write (octets file)
  "Write OCTETS, a buffer of `smtpmail-native-body-octets', to the new FILE.
It is not synced here.  Signal `smtpmail-native-outbox-error' if that fails."
  (condition-case err
      (let ((write-region-inhibit-fsync t)
            (write-region-annotate-functions nil)
            (write-region-post-annotation-function nil)
            (create-lockfiles nil)) ; the claim is the lock
        (with-file-modes #o600
          (smtpmail-native-body-write octets file)))
    (file-error (smtpmail-native-outbox-fail err "Cannot write to"))))

(defconst smtpmail-native-outbox--whole 1048576
  "Octets that a message may have to be handed to the disk as a string.
A longer one is written from its buffer, which takes no memory.")

(defun smtpmail-native-outbox--parts (entry draft)
  "Return what the new ENTRY is made of beside its message: (NAME OCTETS...).
DRAFT is that of its files, unibyte, or nil."
  `("message.el" ,(encode-coding-string
                   (smtpmail-native-data-print
                    (smtpmail-native-entry-stock-form
                     (smtpmail-native-entry-envelope entry)))
                   'utf-8-emacs-unix)
    "state" ,(encode-coding-string
              (smtpmail-native-data-print (smtpmail-native-entry-state entry))
              'utf-8-emacs-unix)
    ,@(and draft (list "draft" draft))))

(defun smtpmail-native-outbox--do (entry &rest steps)
  "Have the disk do STEPS, on which all depends, for the new ENTRY; wait for it.
Signal `smtpmail-native-outbox-error' if it fails."
  (let ((failure (smtpmail-native-disk-finish
                  (smtpmail-native-outbox--hand-in entry steps))))
    (when failure
      ;; Making the directories again gives the clearest error.
      (smtpmail-native-outbox-make-area "incoming")
      (smtpmail-native-outbox-make-area "queue")
      (smtpmail-native-outbox-signal "Cannot write to" failure))))

(defun smtpmail-native-outbox--build (entry octets draft)
  "Make the files of the new ENTRY of OCTETS and DRAFT; return it, claimed.
No file has to replace another one: the entry counts when all are there."
  (let* ((inhibit-quit t)
         (root (smtpmail-native-outbox-root))
         (directory (concat root "incoming/" (smtpmail-native-entry-id entry)))
         (target (directory-file-name (smtpmail-native-outbox-file entry)))
         (whole (<= (smtpmail-native-body-size octets)
                    smtpmail-native-outbox--whole))
         (claim (smtpmail-native-outbox-new-claim))
         (created nil)
         (done nil))
    (unwind-protect
        (progn
          (smtpmail-native-outbox--do
           entry
           `(create ,directory ,claim ,(and whole target)
                    ,@(smtpmail-native-outbox--parts entry draft)
                    ,@(and whole
                           (list "message"
                                 (smtpmail-native-body-string octets)))))
          (setq created t)
          (unless whole
            (smtpmail-native-outbox--write octets (concat directory "/message"))
            (smtpmail-native-outbox--do entry
                                        (list 'area (concat root "queue"))
                                        (list 'rename directory target)))
          (setf (smtpmail-native-entry-claim entry) claim)
          (setq done t))
      (unless done
        (when created
          (smtpmail-native-disk-hand-in
           directory (list (list 'remove directory)) #'ignore))
        (when claim
          (smtpmail-native-module-release claim))))
    entry))

(defun smtpmail-native-outbox-commit (octets envelope state &optional id copy)
  "Make a new entry of OCTETS, ENVELOPE and STATE.
OCTETS is a unibyte buffer, full or lean: see `smtpmail-native-body-octets'.
Return it, claimed if there is a module.  From here on it survives the end
of this Emacs; see `smtpmail-native-outbox-make-durable' for a loss of power.
ENVELOPE is a plist of
  :sender, :recipients   addresses, text
  :host, :port, :stream, :user, :helo
                         the server, as smtpmail's variables say now
  :subject, :message-id, :from
                         for people
  :fcc                   files for a copy
  :wishes                as `smtpmail-native-wishes' returns it
  :utf-8                 non-nil if its header is not ASCII
  :binary                non-nil if its octets must go as they are
  :created               time, an integer of seconds
  :origin                files of smtpmail's queue that it was made from, which
                         `smtpmail-native-outbox-remove' deletes
STATE is the first plist of `smtpmail-native-outbox-set'.  ID is the name
of the entry; the value is nil if there is one of that name already.  COPY
is a plist, see `smtpmail-native-copy-prepare': :directory, that of its buffer;
:text, the message as it was
written, if that may be kept; and :plan, the property :copy of the state.
Signal `smtpmail-native-outbox-error' when that is not possible; nothing
is left then."
  (smtpmail-native-outbox-local-root)
  (let* ((given id)
         (plan (plist-get copy :plan))
         (draft (and (plist-get copy :text)
                     (encode-coding-string (plist-get copy :text)
                                           'utf-8-emacs-unix)))
         (entry (smtpmail-native-entry-make
                 :id (or id (smtpmail-native-outbox--new-id))
                 :state (append state (and plan (list :copy plan)))
                 :envelope (append envelope
                                   (list :size
                                         (smtpmail-native-body-size octets))
                                   (and draft
                                        (list :draft-size (length draft)
                                              :draft-directory
                                              (plist-get copy :directory)))))))
    (smtpmail-native-outbox-locally
      (unless (and given
                   (file-exists-p (smtpmail-native-outbox-file entry)))
        (smtpmail-native-outbox--build entry octets draft)))))

(defun smtpmail-native-outbox-make-durable (entry seconds)
  "Wait at most SECONDS until ENTRY, just committed, survives a loss of power.
The value and the rest are as in `smtpmail-native-outbox-wait'."
  (prog1 (smtpmail-native-outbox--await
          (smtpmail-native-outbox--hand-in
           entry
           (list (list 'sync-all
                       (directory-file-name
                        (smtpmail-native-outbox-file entry)))
                 (list 'sync (concat (smtpmail-native-outbox-root) "queue"))))
          seconds)
    (unless (smtpmail-native-outbox-pending entry)
      (puthash (smtpmail-native-outbox-file entry) t
               smtpmail-native-outbox-durable))))

;;;; Changes

(defun smtpmail-native-outbox-note (entry &rest plist)
  "Change the state of ENTRY by PLIST in memory only."
  (let ((state (copy-sequence (smtpmail-native-entry-state entry))))
    (while plist
      (setq state (plist-put state (pop plist) (pop plist))))
    (setf (smtpmail-native-entry-state entry) state)))

(defun smtpmail-native-outbox--replace (entry name text content)
  "Have the disk write TEXT into the file NAME of ENTRY.
CONTENT is what TEXT means, for readers before that is done."
  (let ((pending (smtpmail-native-outbox--hand-in
                  entry
                  (list (list 'write (smtpmail-native-outbox-file entry name)
                              (encode-coding-string text 'utf-8-emacs-unix))
                        (list 'sync (directory-file-name
                                     (smtpmail-native-outbox-file entry)))))))
    (setf (alist-get name (smtpmail-native-disk-pending-contents pending)
                     nil nil #'equal)
          content)))

(defun smtpmail-native-outbox-set (entry &rest plist)
  "Change the state of ENTRY by PLIST, and have it written to the disk.
The entry must be claimed.  All of this Emacs reads the new state from here
on; call `smtpmail-native-outbox-wait' before you tell the user of it.  The
state's properties are
  :status    `ready' to be sent at :next; `held'; `refused'; `unknown';
             or `sent', when only the copy is to be filed
  :hold      why it is held: `queue', `user', `password', `certificate',
             `expired', `interrupted', or `error' if it could not begin
  :doubt     non-nil if it may have been delivered already: set with `unknown',
             cleared by the user's word with a begun attempt, or by `sent'
  :by        who tried what it is held for, a plist of :instance, an Emacs
             session, :user, :source, and :why, see `smtpmail-native-entry-why'
  :since     when the user last said that it be sent, for its age
  :filed     non-nil if its copies have been filed
  :next      time of the next try, seconds, or nil for at once
  :undo      non-nil while the user may still undo the sending
  :wait      non-nil if its sender waits, and will hear what comes of it
  :now       non-nil if the user has sent it before its time
  :here      non-nil if the server does not keep it until its time
  :more      non-nil while the server is to get it once more at once, for
             recipients beyond its limit for one transaction
  :ascii     octets of the file message.ascii, if that is what is sent
  :settled   number of the last attempt whose receipt has been settled
  :tries     how many failed
  :suspect   non-nil if the last one failed as if the settings were wrong
  :network   non-nil if the last one did not reach the server
  :results   alist of what became of each recipient that has been answered:
             (ADDRESS OUTCOME CODE ENHANCED TEXT), OUTCOME being `sent',
             `refused' or `deferred'
  :replies   the same, for the last attempt, where a refusal ended it for all:
             these recipients have not been dealt with
  :text      why the last attempt failed, for people
  :finished  non-nil if it has been sent and only could not be deleted
  :copy      plist of how the sent copy is filed"
  (apply #'smtpmail-native-outbox-note entry plist)
  (let ((state (smtpmail-native-entry-state entry)))
    (smtpmail-native-outbox--replace
     entry "state" (smtpmail-native-data-print state) state)))

(defun smtpmail-native-outbox-set-envelope (entry &rest plist)
  "Change the envelope of ENTRY, which is claimed, by PLIST; have it written.
Call `smtpmail-native-outbox-wait' before you tell the user of it."
  (let ((envelope (copy-sequence (smtpmail-native-entry-envelope entry))))
    (while plist
      (setq envelope (plist-put envelope (pop plist) (pop plist))))
    (setf (smtpmail-native-entry-envelope entry) envelope)
    (smtpmail-native-outbox--replace
     entry "message.el"
     (smtpmail-native-data-print (smtpmail-native-entry-stock-form envelope))
     envelope)))

(defun smtpmail-native-outbox-encode-message (entry octets)
  "Let ENTRY, which is claimed, send OCTETS, a unibyte buffer, from now on.
They are its message in ASCII.  Signal `smtpmail-native-outbox-error' if
they cannot be written."
  (let ((file (smtpmail-native-outbox-file entry "message.ascii")))
    (smtpmail-native-outbox--write octets file)
    ;; The state, which is synced after it, makes it count.
    (smtpmail-native-outbox--hand-in entry (list (list 'sync file)))
    (smtpmail-native-outbox-note entry :ascii (buffer-size octets))))

(defun smtpmail-native-outbox-forget-receipt (entry)
  "Put the receipt of ENTRY aside, which cannot be read."
  (let ((file (smtpmail-native-outbox-file entry "receipt")))
    (setf (smtpmail-native-entry-receipt entry) nil)
    (ignore-errors (rename-file file (concat file ".damaged") t))))

(defun smtpmail-native-outbox-save-draft (entry text)
  "Keep TEXT, the message of ENTRY as it was written, beside it."
  (smtpmail-native-outbox--replace entry "draft" text text))

(defun smtpmail-native-outbox-forget-origin (entry)
  "Let ENTRY, in memory, not be one that was made from files of smtpmail."
  (setf (smtpmail-native-entry-envelope entry)
        (plist-put (copy-sequence (smtpmail-native-entry-envelope entry))
                   :origin nil)))

;;;; The end

(defun smtpmail-native-outbox--origin (entry)
  "Return the files of smtpmail's queue that ENTRY was made from.
A name that leads elsewhere is none of them, whatever the entry says."
  (let* ((origin (plist-get (smtpmail-native-entry-envelope entry) :origin))
         (queue (and origin
                     (bound-and-true-p smtpmail-queue-dir)
                     (file-name-as-directory
                      (expand-file-name smtpmail-queue-dir)))))
    (and queue
         (seq-filter
          (lambda (file)
            (member (file-name-directory (expand-file-name file))
                    (mapcar (lambda (name)
                              (file-name-as-directory
                               (expand-file-name name queue)))
                            '("." "../cur" "../new"))))
          origin))))

(defun smtpmail-native-outbox--trash-of (entry)
  "Return where in the trash ENTRY goes."
  (concat (smtpmail-native-outbox-root) "trash/"
          (smtpmail-native-entry-id entry)))

(defun smtpmail-native-outbox--removal (entry gone)
  "Return the steps by which ENTRY becomes GONE, in the trash."
  (let ((origin (smtpmail-native-outbox--origin entry))
        (trash (directory-file-name (file-name-directory gone))))
    ;; A new message does not wait until an old one has gone.  The origin first:
    ;; else it would be taken from there again.
    `((aside)
      ,@(mapcar (lambda (file) (list 'delete file)) origin)
      (area ,trash)
      ;; One step, so that no half of it is ever taken for an entry.
      (rename ,(smtpmail-native-outbox-file entry) ,gone)
      ,@(mapcar (lambda (directory)
                  (list 'sync (directory-file-name directory)))
                (seq-uniq
                 (append (mapcar #'file-name-directory origin)
                         (list trash
                               (concat (smtpmail-native-outbox-root)
                                       "queue"))))))))

(defun smtpmail-native-outbox--take-back (entry pending)
  "Let ENTRY have the claim that PENDING, whose work failed, has still got.
PENDING is nil if it failed before ENTRY gave up its claim.  Return non-nil
if ENTRY is still there; else what is left of it is trash."
  (let ((claim (and pending (smtpmail-native-disk-pending-take-end pending)))
        (there (not (smtpmail-native-outbox-gone-p entry))))
    (when claim
      (if there
          (setf (smtpmail-native-entry-claim entry) claim)
        (smtpmail-native-module-release claim)))
    there))

(defun smtpmail-native-outbox-remove (entry &optional failed)
  "Have the disk delete ENTRY, which must be claimed, and let go of it.
For this Emacs it is gone from here on.
Call `smtpmail-native-outbox-wait' before you tell the user of it, which
signals `smtpmail-native-outbox-error' if it cannot be deleted; where no
caller waits, FAILED is called with ENTRY and the reason, a text.  ENTRY is
in the outbox then as it was, and claimed.  Signal the same error if the
disk cannot be asked."
  (let ((directory (smtpmail-native-outbox-file entry))
        (gone (smtpmail-native-outbox--trash-of entry))
        (pending nil))
    (remhash directory smtpmail-native-outbox-durable)
    ;; A state that is still being written matters no more.
    (smtpmail-native-disk-forget directory)
    (setq pending
          (smtpmail-native-outbox--hand-in
           entry (smtpmail-native-outbox--removal entry gone)
           (lambda (reason)
             (when (smtpmail-native-outbox--take-back entry pending)
               (funcall (or failed #'smtpmail-native-outbox--tell)
                        entry reason)))))
    (setf (smtpmail-native-disk-pending-leaving pending) t)
    (smtpmail-native-outbox-release entry)
    ;; A task of its own, because no caller waits for it.
    (smtpmail-native-outbox-discard gone)))

(defun smtpmail-native-outbox-discard (directory)
  "Have the disk delete DIRECTORY, which is in the trash.
Where it came from is synced before anything in it is deleted: should the
power be lost in between, what comes back is whole."
  (smtpmail-native-disk-hand-in
   directory
   (list '(aside)
         (list 'sync (directory-file-name (file-name-directory directory)))
         (list 'sync (concat (smtpmail-native-outbox-root) "queue"))
         (list 'remove (directory-file-name directory)))
   #'ignore)) ; the next session deletes it

(defun smtpmail-native-outbox-set-aside (entry)
  "Keep the message of ENTRY outside of the queue, for the user.
Return the name of the file.  Signal a `file-error' if that is not
possible."
  (let ((file (expand-file-name (concat (smtpmail-native-entry-id entry) ".eml")
                                (smtpmail-native-outbox-make-area "unfiled"))))
    (copy-file (smtpmail-native-outbox-message-file entry) file t)
    (smtpmail-native-disk-hand-in
     file (list (list 'sync file)
                (list 'sync (directory-file-name (file-name-directory file))))
     #'ignore)
    file))

(provide 'smtpmail-native-outbox-write)
;;; smtpmail-native-outbox-write.el ends here
