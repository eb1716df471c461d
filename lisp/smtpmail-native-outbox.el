;;; smtpmail-native-outbox.el --- The durable spool  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Files only; what they mean is decided elsewhere.  The outbox is a folder:
;;
;;   incoming/ID/   an entry that is being written
;;   queue/ID/      an entry that counts: one rename brings it here
;;   trash/ID/      an entry that is being deleted
;;   unfiled/ID.eml a mail that was sent, but whose copy could not be filed
;;
;; An entry is a folder that holds
;;
;;   message        the octets to be sent, which never change
;;   message.el     envelope and server, in the form that smtpmail reads
;;   state          what has become of it so far, replaced as a whole
;;   receipt        what came of the last attempt, written by the module
;;   lock           whoever has it locked may change the entry; the lock ends
;;                  with its Emacs, even one that is killed
;;   draft          the mail as it was written, if it may be kept
;;
;; Several Emacsen may share the folder.  Everybody reads; who writes holds the
;; claim of the entry.

;;; Code:

(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)

(declare-function smtpmail-native-module-claim "smtpmail-native-module" (file))
(declare-function smtpmail-native-module-release "smtpmail-native-module"
                  (claim))

(defcustom smtpmail-native-outbox-directory
  (locate-user-emacs-file "smtpmail-native/outbox/")
  "Folder that holds the mails which are on their way.
Several Emacsen may share it.  It has to be on this machine's file systems."
  :group 'smtpmail-native
  :type 'directory)

(defconst smtpmail-native-outbox--stock-variables
  '(smtpmail-smtp-server smtpmail-smtp-service smtpmail-smtp-user
    smtpmail-stream-type)
  "What smtpmail reads from the file of a queued mail, beside the recipients.")

;;;; Files

(defun smtpmail-native-outbox--fail (err doing)
  "Signal that DOING something with the outbox has led to the file error ERR."
  (smtpmail-native-error-signal
   'smtpmail-native-outbox-error
   (format "%s the outbox %s: %s" doing
           (abbreviate-file-name smtpmail-native-outbox-directory)
           (error-message-string err))))

(defmacro smtpmail-native-outbox--locally (&rest body)
  "Do BODY, which concerns files of the outbox and no others.
They are neither remote nor compressed, which is asked of each step with a
file otherwise, and takes longer than the step."
  (declare (indent 0) (debug t))
  `(let ((file-name-handler-alist nil))
     ,@body))

(defun smtpmail-native-outbox--area (name)
  "Return the folder NAME of the outbox, made for this user alone."
  (let ((folder (file-name-as-directory
                 (expand-file-name name smtpmail-native-outbox-directory))))
    (unless (file-directory-p folder)
      (when (file-remote-p folder)
        (smtpmail-native-error-signal
         'smtpmail-native-usage-error
         (format "`smtpmail-native-outbox-directory' must be on this machine: %s"
                 folder)))
      (condition-case err
          (with-file-modes #o700
            (make-directory folder t))
        (file-error (smtpmail-native-outbox--fail err "Cannot make"))))
    folder))

(defun smtpmail-native-outbox-file (entry &optional name)
  "Return the file NAME of ENTRY, or its folder."
  (expand-file-name
   (or name "")
   (expand-file-name (smtpmail-native-entry-id entry)
                     (expand-file-name (smtpmail-native-entry-area entry)
                                       smtpmail-native-outbox-directory))))

(defun smtpmail-native-outbox-encode (file)
  "Return FILE expanded and in the coding system of file names."
  (encode-coding-string (expand-file-name file)
                        (or file-name-coding-system
                            default-file-name-coding-system
                            'utf-8)))

(defun smtpmail-native-outbox--write (file text)
  "Replace FILE by TEXT, a string, for this user alone.
It is not synced to the disk here: the module does that before it connects."
  (let ((coding-system-for-write 'utf-8-emacs-unix)
        (write-region-inhibit-fsync t)
        (create-lockfiles nil) ; the claim is the lock
        (new (concat file ".new")))
    (smtpmail-native-outbox--locally
      (with-file-modes #o600
        (write-region text nil new nil 'silent))
      (rename-file new file t))))

(defun smtpmail-native-outbox--read (file coding)
  "Return the one Lisp object in FILE, which has the coding system CODING.
The value is nil if there is no such file.  Nothing is evaluated."
  (condition-case nil
      (with-temp-buffer
        (set-buffer-multibyte (not (eq coding 'no-conversion)))
        (let ((coding-system-for-read coding))
          (insert-file-contents file))
        (read (current-buffer)))
    (file-missing nil)))

(defun smtpmail-native-outbox--plain (object)
  "Return OBJECT with the properties of its strings left out.
They may hold what can be printed but not be read."
  (cond ((stringp object) (substring-no-properties object))
        ((proper-list-p object)
         (mapcar #'smtpmail-native-outbox--plain object))
        ((consp object) (cons (smtpmail-native-outbox--plain (car object))
                              (smtpmail-native-outbox--plain (cdr object))))
        (t object)))

(defun smtpmail-native-outbox--print (object)
  "Return the printed form of OBJECT, in full, with a newline."
  (let ((print-length nil)
        (print-level nil)
        (print-circle nil)
        (print-quoted t)
        (print-escape-newlines t)
        (print-escape-nonascii nil)
        (print-escape-multibyte nil)
        (print-escape-control-characters nil))
    (concat (prin1-to-string (smtpmail-native-outbox--plain object)) "\n")))

;;;; Envelopes

(defun smtpmail-native-outbox--print-envelope (envelope)
  "Return the text of message.el for ENVELOPE."
  (smtpmail-native-outbox--print
   (list 'setq
         'smtpmail-recipient-address-list (plist-get envelope :recipients)
         'smtpmail-smtp-server (plist-get envelope :host)
         'smtpmail-smtp-service (plist-get envelope :port)
         'smtpmail-smtp-user (plist-get envelope :user)
         'smtpmail-stream-type (plist-get envelope :stream)
         'smtpmail-native-envelope envelope)))

(defun smtpmail-native-outbox-read-stock (file)
  "Return what FILE says, in the form of smtpmail, as an alist.
That is ((VARIABLE . VALUE)...).  FILE is read and not evaluated.  Signal
an error if it has another form."
  (let ((form (smtpmail-native-outbox--read file 'utf-8-emacs))
        (alist nil))
    (unless (and (eq (car-safe form) 'setq) (proper-list-p form))
      (error "It is not of the form (setq VARIABLE VALUE...)"))
    (setq form (cdr form))
    (while form
      (push (cons (car form)
                  (if (eq (car-safe (cadr form)) 'quote)
                      (car-safe (cdr-safe (cadr form)))
                    (cadr form)))
            alist)
      (setq form (cddr form)))
    (nreverse alist)))

;;;; Reading

(defun smtpmail-native-outbox--part (entry name reader)
  "Return what READER returns for the file NAME of ENTRY.
On an error note the problem and return nil."
  (condition-case err
      (funcall reader (smtpmail-native-outbox-file entry name))
    (error
     (setf (smtpmail-native-entry-problem entry)
           (format "the file %s cannot be used: %s" name
                   (error-message-string err)))
     nil)))

(defun smtpmail-native-outbox--check-message (entry)
  "Note in ENTRY if its message is not all there."
  (let* ((file (smtpmail-native-outbox-file entry "message"))
         (size (file-attribute-size
                (ignore-errors (file-attributes file))))
         (wanted (plist-get (smtpmail-native-entry-envelope entry) :size))
         ;; It may have been killed before the new one was in its place.
         (wanted (if (equal size (plist-get (smtpmail-native-entry-state entry)
                                            :size))
                     size
                   wanted)))
    (when (and (null size)
               (not (file-exists-p (smtpmail-native-outbox-file
                                    entry "message.el"))))
      (setf (smtpmail-native-entry-problem entry)
            "its message and message.el are gone; smtpmail may have sent it \
from its own queue"))
    (unless (smtpmail-native-entry-problem entry)
      (setf (smtpmail-native-entry-problem entry)
            (cond ((null size) "its message is missing")
                  ((and wanted (/= size wanted))
                   (format "its message has %d octets instead of %d"
                           size wanted)))))))

(defun smtpmail-native-outbox--plist (entry name coding key otherwise)
  "Return the plist in the file NAME of ENTRY, of the coding system CODING.
If it cannot be read or has no symbol for KEY, return OTHERWISE."
  (let ((plist (condition-case nil
                   (smtpmail-native-outbox--read
                    (smtpmail-native-outbox-file entry name) coding)
                 (error nil))))
    (if (smtpmail-native-entry-plist-p plist key)
        plist
      otherwise)))

(defun smtpmail-native-outbox-load (entry)
  "Read the files of ENTRY anew, and return it."
  (smtpmail-native-outbox--locally
    (smtpmail-native-outbox--load entry)))

(defun smtpmail-native-outbox--load (entry)
  "Do what `smtpmail-native-outbox-load' does with ENTRY."
  (setf (smtpmail-native-entry-problem entry) nil)
  (setf (smtpmail-native-entry-envelope entry)
        (smtpmail-native-outbox--part
         entry "message.el"
         (lambda (file)
           (smtpmail-native-entry-check-envelope
            (cdr (assq 'smtpmail-native-envelope
                       (smtpmail-native-outbox-read-stock file)))))))
  ;; A state or receipt that is cut off was lost with the machine's power: what
  ;; it said is unknown, the mail itself is not harmed.
  (setf (smtpmail-native-entry-state entry)
        (smtpmail-native-outbox--plist
         entry "state" 'utf-8-emacs :status
         '(:status unknown :text "its state cannot be read")))
  (setf (smtpmail-native-entry-receipt entry)
        (and (file-exists-p (smtpmail-native-outbox-file entry "receipt"))
             (smtpmail-native-outbox--plist
              entry "receipt" 'no-conversion :kind
              '(:in-doubt t :kind system :stage end-of-data
                :text "the receipt cannot be read"))))
  (smtpmail-native-outbox--check-message entry)
  entry)

(defun smtpmail-native-outbox-get (id &optional area)
  "Return the entry ID of the outbox, read from its files, or nil.
AREA is the directory of the outbox that holds it, by default \"queue\"."
  (smtpmail-native-outbox--locally
    (let ((entry (smtpmail-native-entry-make :id id :area (or area "queue"))))
      (and (file-directory-p (smtpmail-native-outbox-file entry))
           (smtpmail-native-outbox-load entry)))))

(defun smtpmail-native-outbox-ids ()
  "Return the names of all entries, the oldest first."
  (condition-case err
      (and (file-directory-p smtpmail-native-outbox-directory)
           (directory-files (smtpmail-native-outbox--area "queue")
                            nil "\\`[^.]"))
    (file-error (smtpmail-native-outbox--fail err "Cannot read"))))

(defun smtpmail-native-outbox-list ()
  "Return all entries of the outbox, the oldest first."
  (delq nil (mapcar #'smtpmail-native-outbox-get
                    (smtpmail-native-outbox-ids))))

;;;; Claims

(defun smtpmail-native-outbox--lock (folder)
  "Claim the entry in FOLDER; return the claim, or nil if another has it.
Signal `smtpmail-native-error' if nobody can claim it."
  (smtpmail-native-load)
  (smtpmail-native-module-claim
   (smtpmail-native-outbox-encode (expand-file-name "lock" folder))))

(defun smtpmail-native-outbox-claim (entry)
  "Claim ENTRY for this Emacs, and read its files anew.
Return ENTRY, or nil if it is gone or somebody works on it: another Emacs,
or another place of this one."
  (smtpmail-native-load) ; its own file may be a compressed one
  (smtpmail-native-outbox--locally
    (let ((folder (smtpmail-native-outbox-file entry)))
      (and (file-directory-p folder)
           (setf (smtpmail-native-entry-claim entry)
                 (smtpmail-native-outbox--lock folder))
           (smtpmail-native-outbox-load entry)))))

(defun smtpmail-native-outbox-release (entry)
  "Let go of ENTRY."
  (let ((claim (smtpmail-native-entry-claim entry)))
    (when claim
      (setf (smtpmail-native-entry-claim entry) nil)
      (smtpmail-native-module-release claim))))

(defun smtpmail-native-outbox-claimed-p (id)
  "Return non-nil if somebody, here or elsewhere, works on the entry ID."
  (let ((entry (smtpmail-native-entry-make :id id)))
    (not (when (smtpmail-native-outbox-claim entry)
           (smtpmail-native-outbox-release entry)
           t))))

;;;; Writing

(defun smtpmail-native-outbox--new-id ()
  "Return the name of a new entry; later ones sort behind."
  (format "%s-%x-%04x" (format-time-string "%Y%m%dT%H%M%S.%6N" nil t)
          (emacs-pid) (random #x10000)))

(defun smtpmail-native-outbox--fill (folder octets envelope state)
  "Write an entry of OCTETS, ENVELOPE and STATE into FOLDER.
OCTETS is a unibyte buffer."
  (with-current-buffer octets
    (let ((coding-system-for-write 'no-conversion)
          (write-region-inhibit-fsync t)
          (create-lockfiles nil)
          (write-region-annotate-functions nil))
      (with-file-modes #o600
        (write-region nil nil (expand-file-name "message" folder)
                      nil 'silent))))
  (smtpmail-native-outbox--write
   (expand-file-name "message.el" folder)
   (smtpmail-native-outbox--print-envelope envelope))
  (smtpmail-native-outbox--write (expand-file-name "state" folder)
                                 (smtpmail-native-outbox--print state)))

(defun smtpmail-native-outbox-commit (octets envelope state &optional id)
  "Make a new entry of OCTETS, a unibyte buffer, ENVELOPE and STATE.
Return it, claimed.  From here on it survives the end of this Emacs.
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
of the entry; the value is nil if there is one of that name already.
Signal `smtpmail-native-outbox-error' when that is not possible; nothing
is left behind then."
  (let* ((id (or id (smtpmail-native-outbox--new-id)))
         (folder (expand-file-name id (smtpmail-native-outbox--area
                                       "incoming")))
         (entry (smtpmail-native-entry-make
                 :id id
                 :envelope (append envelope
                                   (list :size (buffer-size octets)))
                 :state state))
         (target (progn (smtpmail-native-outbox--area "queue")
                        (smtpmail-native-outbox-file entry)))
         (made nil)
         (done nil))
    (unless (file-directory-p target)
      (unwind-protect
          (condition-case err
              (progn
                (with-file-modes #o700
                  (make-directory folder))
                (setq made t)
                (setf (smtpmail-native-entry-claim entry)
                      (or (smtpmail-native-outbox--lock folder)
                          (signal 'file-error (list "Locked" folder))))
                (smtpmail-native-outbox--fill
                 folder octets (smtpmail-native-entry-envelope entry) state)
                (rename-file folder (directory-file-name target))
                (setq done t)
                entry)
            (file-error (smtpmail-native-outbox--fail err "Cannot write to")))
        (unless done
          (smtpmail-native-outbox-release entry)
          ;; Another Emacs may be filling a folder of that name.
          (when made
            (ignore-errors (delete-directory folder t))))))))

(defun smtpmail-native-outbox-note (entry &rest plist)
  "Change the state of ENTRY by PLIST in memory alone."
  (let ((state (copy-sequence (smtpmail-native-entry-state entry))))
    (while plist
      (setq state (plist-put state (pop plist) (pop plist))))
    (setf (smtpmail-native-entry-state entry) state)))

(defun smtpmail-native-outbox-set (entry &rest plist)
  "Change the state of ENTRY by PLIST, and write it to the disk.
The entry has to be claimed.  Signal `smtpmail-native-outbox-error' if it
cannot be written; the entry keeps the new state in memory all the same.
The state's properties are
  :status    `ready' to be sent at :next; `held'; `refused'; `unknown';
             or `sent', when only the copy is to be filed
  :hold      why it is held: `queue', `user', `password', `certificate',
             `expired', `interrupted', or `error' if it could not begin
  :next      time of the next try, seconds, or nil for at once
  :undo      non-nil while the user may still undo the sending
  :wait      non-nil if its sender waits, and will hear what comes of it
  :now       non-nil if the user has sent it before its time
  :here      non-nil if the server does not keep it until its time
  :more      non-nil while the server is to get it once more at once, for
             recipients of whom it takes no more at a time
  :size      octets of the message, if it is not as it was committed
  :settled   number of the last attempt whose receipt has been settled
  :tries     how many failed
  :results   alist of what became of each recipient that has been answered:
             (ADDRESS OUTCOME CODE ENHANCED TEXT), OUTCOME being `sent',
             `refused' or `deferred'
  :replies   the same, for the last attempt, where it was to be all or nobody:
             these recipients have not been dealt with
  :text      why the last attempt failed, for people
  :finished  non-nil if it has been sent and only could not be deleted
  :copy      plist of how the sent copy is filed"
  (apply #'smtpmail-native-outbox-note entry plist)
  (condition-case err
      (smtpmail-native-outbox--write
       (smtpmail-native-outbox-file entry "state")
       (smtpmail-native-outbox--print (smtpmail-native-entry-state entry)))
    (file-error (smtpmail-native-outbox--fail err "Cannot write to"))))

(defun smtpmail-native-outbox-replace-message (entry octets)
  "Give ENTRY, which is claimed, OCTETS, a unibyte buffer, for its message.
The module syncs it before it connects.  Signal
`smtpmail-native-outbox-error' if it cannot be written."
  (let* ((file (smtpmail-native-outbox-file entry "message"))
         (new (concat file ".new")))
    (condition-case err
        (with-current-buffer octets
          (let ((coding-system-for-write 'no-conversion)
                (write-region-annotate-functions nil)
                (create-lockfiles nil))
            (with-file-modes #o600
              (write-region nil nil new nil 'silent)))
          ;; The state allows both sizes, and so there is no moment at which
          ;; the entry is damaged.
          (smtpmail-native-outbox-set entry :size (buffer-size))
          (rename-file new file t))
      (file-error (smtpmail-native-outbox--fail err "Cannot write to")))))

(defun smtpmail-native-outbox-forget-receipt (entry)
  "Put the receipt of ENTRY aside, which cannot be read."
  (let ((file (smtpmail-native-outbox-file entry "receipt")))
    (setf (smtpmail-native-entry-receipt entry) nil)
    (ignore-errors (rename-file file (concat file ".damaged") t))))

(defun smtpmail-native-outbox-save-draft (entry text)
  "Keep TEXT, the mail of ENTRY as it was written, beside it."
  (condition-case err
      (smtpmail-native-outbox--write
       (smtpmail-native-outbox-file entry "draft") text)
    (file-error (smtpmail-native-outbox--fail err "Cannot write to"))))

(defun smtpmail-native-outbox-draft (entry)
  "Return the mail of ENTRY as it was written, a string, or nil."
  (let ((file (smtpmail-native-outbox-file entry "draft")))
    (and (file-readable-p file)
         (with-temp-buffer
           (let ((coding-system-for-read 'utf-8-emacs-unix))
             (insert-file-contents file))
           (buffer-string)))))

(defun smtpmail-native-outbox-insert-message (entry)
  "Insert the octets of ENTRY's message behind point of a unibyte buffer.
Signal a `file-error' if they cannot be read."
  (insert-file-contents-literally
   (smtpmail-native-outbox-file entry "message")))

(defun smtpmail-native-outbox-forget-origin (entry)
  "Let ENTRY, in memory, not be one that was made from files of smtpmail."
  (setf (smtpmail-native-entry-envelope entry)
        (plist-put (copy-sequence (smtpmail-native-entry-envelope entry))
                   :origin nil)))

(defun smtpmail-native-outbox-set-aside (entry)
  "Keep the message of ENTRY outside of the queue, for the user.
Return the name of the file, which is nobody's concern here any more.
Signal a `file-error' if that is not possible."
  (let ((file (expand-file-name (concat (smtpmail-native-entry-id entry) ".eml")
                                (smtpmail-native-outbox--area "unfiled"))))
    (copy-file (smtpmail-native-outbox-file entry "message") file t)
    file))

(defun smtpmail-native-outbox--delete (folder)
  "Delete FOLDER, which holds the files of an entry and no folders."
  (smtpmail-native-outbox--locally
    (let ((delete-by-moving-to-trash nil))
      (dolist (file (directory-files folder t "\\`[^.]" t))
        (delete-file file))
      (delete-directory folder))))

(defun smtpmail-native-outbox-remove (entry)
  "Delete ENTRY, which has to be claimed, and let go of it.
Signal `smtpmail-native-outbox-error' if it cannot be deleted."
  (let* ((id (smtpmail-native-entry-id entry))
         (gone (expand-file-name id (smtpmail-native-outbox--area "trash"))))
    (condition-case err
        (progn
          ;; Else it would be taken from there again.
          (dolist (file (plist-get (smtpmail-native-entry-envelope entry)
                                   :origin))
            (delete-file file))
          ;; One step, so that no half of it is ever taken for an entry.
          (smtpmail-native-outbox--locally
            (rename-file (directory-file-name
                          (smtpmail-native-outbox-file entry))
                         gone))
          (smtpmail-native-outbox-release entry)
          (ignore-errors (smtpmail-native-outbox--delete gone)))
      (file-error (smtpmail-native-outbox--fail err "Cannot delete from")))))

;;;; Cleaning up

(defun smtpmail-native-outbox--abandoned (area age)
  "Return claims of the folders in AREA of the outbox that nobody works on.
The value is a list of (FOLDER . CLAIM).  Leave out folders that are
younger than AGE, in seconds: their Emacs may not have claimed them yet."
  (delq nil
        (mapcar
         (lambda (folder)
           (let ((changed (file-attribute-modification-time
                           (file-attributes folder))))
             (and changed
                  (file-directory-p folder)
                  (>= (float-time (time-since changed)) age)
                  (let ((claim (ignore-errors
                                 (smtpmail-native-outbox--lock folder))))
                    (and claim (cons folder claim))))))
         (let ((folder (expand-file-name area smtpmail-native-outbox-directory)))
           (and (file-directory-p folder)
                (directory-files folder t "\\`[^.]"))))))

(defun smtpmail-native-outbox-adopt-unfinished ()
  "Bring mails whose Emacs ended while it committed them into the queue.
They are held, because nobody was told that they are on their way.  Return
the folders in which a mail is not all there; they stay where they are."
  (let ((broken nil))
    (pcase-dolist (`(,folder . ,claim)
                   (smtpmail-native-outbox--abandoned "incoming" 60))
      (let* ((id (file-name-nondirectory folder))
             (target (progn
                       (smtpmail-native-outbox--area "queue")
                       (directory-file-name
                        (smtpmail-native-outbox-file
                         (smtpmail-native-entry-make :id id)))))
             (entry nil))
        (unwind-protect
            (condition-case nil
                (progn
                  (smtpmail-native-outbox--write
                   (expand-file-name "state" folder)
                   (smtpmail-native-outbox--print
                    '(:status held :hold interrupted)))
                  (setq entry (smtpmail-native-outbox-get id "incoming"))
                  (if (smtpmail-native-entry-problem entry)
                      (push folder broken)
                    (rename-file folder target)))
              (error (push folder broken)))
          (smtpmail-native-module-release claim))))
    broken))

(defun smtpmail-native-outbox-empty-trash ()
  "Delete what is left of entries whose deletion was interrupted."
  (pcase-dolist (`(,folder . ,claim)
                 (smtpmail-native-outbox--abandoned "trash" 0))
    (smtpmail-native-module-release claim)
    (ignore-errors (delete-directory folder t))))

(provide 'smtpmail-native-outbox)
;;; smtpmail-native-outbox.el ends here
