;;; smtpmail-native-disk.el --- What must be on the disk, in order  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A file is safe from a loss of power when it has been synced, and a name when
;; its directory has been.  The module has one thread that does so, in the order
;; in which it is asked; Emacs goes on meanwhile.

;;; Code:

(require 'cl-lib)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-data)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)

(declare-function smtpmail-native-module-release "smtpmail-native-module"
                  (claim))

(defun smtpmail-native-disk-encode (file)
  "Return FILE expanded and in the coding system of file names."
  (let ((file (if (eq (aref file 0) ?/) file (expand-file-name file))))
    (if (multibyte-string-p file)
        (encode-coding-string file (or file-name-coding-system
                                       default-file-name-coding-system
                                       'utf-8))
      file)))

(defun smtpmail-native-disk--encode-step (step)
  "Return STEP with file names as the module wants them."
  (pcase step
    (`(create ,directory ,claim ,target . ,parts)
     `(create ,(smtpmail-native-disk-encode directory) ,claim
              ,(and target (smtpmail-native-disk-encode target))
              ,@parts))
    (`(write ,file ,octets)
     (list 'write (smtpmail-native-disk-encode file) octets))
    (`(append ,file ,octets ,limit)
     (list 'append (smtpmail-native-disk-encode file) octets limit))
    (`(,operation . ,files)
     (cons operation (mapcar #'smtpmail-native-disk-encode files)))))

;;;; Without the module

;; It is enough for a new entry to be safe until the module can be used.

(defun smtpmail-native-disk--sync-file (file)
  "Sync FILE; a directory only where the system has a program that can."
  (if (file-regular-p file)
      (let ((write-region-inhibit-fsync nil)
            (create-lockfiles nil))
        (write-region "" nil file t 'silent))
    (let ((program (executable-find "sync"))
          (default-directory "/"))
      (when program
        (ignore-errors (call-process program nil nil nil file))))))

(defun smtpmail-native-disk--area (directory)
  "Make DIRECTORY unless it is there; signal a `file-error' if it is not ours.
It may be a link of the user, who keeps the outbox elsewhere."
  (with-file-modes #o700
    (make-directory directory t))
  (let ((problem (smtpmail-native-data-file-problem
                  (file-name-as-directory (file-truename directory)) t)))
    (when problem
      (signal 'file-error (list "Cannot use it" problem directory)))))

(defun smtpmail-native-disk--remove (directory)
  "Delete DIRECTORY, which holds the files of an entry and no directories.
The receipt goes last: as long as it is there it tells what was sent."
  (when (file-directory-p directory)
    (let ((delete-by-moving-to-trash nil)
          (files (directory-files directory t
                                  directory-files-no-dot-files-regexp t)))
      (dolist (file (append (delete (expand-file-name "receipt" directory)
                                    files)
                            (list (expand-file-name "receipt" directory))))
        (when (file-attributes file)
          (delete-file file)))
      (delete-directory directory))))

(defun smtpmail-native-disk--write (file octets)
  "Replace FILE by OCTETS, a unibyte string, synced, for this user only."
  (let ((coding-system-for-write 'no-conversion)
        (write-region-inhibit-fsync nil)
        (create-lockfiles nil) ; the claim is the lock
        (new (concat file ".new")))
    (with-file-modes #o600
      (write-region octets nil new nil 'silent))
    (rename-file new file t)))

(defun smtpmail-native-disk--create (directory target parts)
  "Make DIRECTORY with the files of PARTS, synced; rename it to TARGET, or not.
PARTS is a list (NAME OCTETS...).  On failure nothing is left."
  (let ((done nil))
    (dolist (name (list directory target))
      (when name
        (smtpmail-native-disk--area
         (directory-file-name (file-name-directory name)))))
    (with-file-modes #o700
      (make-directory directory))
    (unwind-protect
        (let ((rest parts))
          (while rest
            (smtpmail-native-disk--write
             (expand-file-name (pop rest) directory) (pop rest)))
          (when target
            (rename-file directory target))
          (setq done t))
      (unless done
        (ignore-errors (delete-directory directory t))))))

(defun smtpmail-native-disk--run (steps)
  "Do STEPS of `smtpmail-native-disk-submit' in Lisp.
Return what came of them as an event of the module would."
  (condition-case err
      (let ((file-name-handler-alist nil))
        (dolist (step steps)
          (pcase step
            (`(create ,directory ,_claim ,target . ,parts)
             (smtpmail-native-disk--create directory target parts))
            (`(area ,directory) (smtpmail-native-disk--area directory))
            (`(write ,file ,octets)
             (smtpmail-native-disk--write file octets))
            (`(append ,file ,octets ,_limit)
             (let ((coding-system-for-write 'no-conversion))
               (with-file-modes #o600
                 (write-region octets nil file t 'silent))))
            (`(sync ,file) (smtpmail-native-disk--sync-file file))
            (`(sync-all ,directory)
             (dolist (file (directory-files directory t "\\`[^.]"))
               (smtpmail-native-disk--sync-file file)))
            (`(rename ,from ,to) (rename-file from to t))
            (`(delete ,file) (when (file-attributes file) (delete-file file)))
            (`(remove ,directory)
             (smtpmail-native-disk--remove directory))))
        '(:kind ok))
    (file-error (list :kind 'file :text (error-message-string err)))))

;;;; Asking

(defun smtpmail-native-disk-submit (steps handler)
  "Have STEPS done in their order; call HANDLER with what came of them.
A step is
  (create DIRECTORY CLAIM TARGET NAME OCTETS...)
                        make the new DIRECTORY and its files NAME with OCTETS,
                        let CLAIM hold it, rename it to TARGET if that is
                        non-nil; or leave nothing
  (area DIRECTORY)      make it unless it is there, and check that it is ours
  (write FILE OCTETS)   replace FILE by OCTETS, which are synced first
  (sync FILE)           a file or a directory
  (sync-all DIRECTORY)  the files in it, then itself
  (rename FROM TO)
  (delete FILE)         a missing one is fine
  (remove DIRECTORY)    with its files; a missing one is fine
  (append FILE OCTETS LIMIT)
                        add OCTETS to a log; one that would get longer than
                        LIMIT becomes FILE.1 before
  (aside)               what follows holds up nothing that is handed in later
The first step that fails ends them.  HANDLER gets a plist: :kind `ok', or
`file' with the reason as :text.  It is called at once where there is no
module, else when events are handed on."
  (if (eq (car (smtpmail-native-load-try)) 'loaded)
      (smtpmail-native-channel-disk
       (mapcar #'smtpmail-native-disk--encode-step steps) handler)
    (funcall handler (smtpmail-native-disk--run steps))))

;;;; What is pending

;; A task belongs to an object, such as an entry of the outbox.  Until all tasks
;; of an object are done its files are not what Emacs takes them for, and so
;; no other code may have it.

(cl-defstruct (smtpmail-native-disk-pending
               (:constructor smtpmail-native-disk--make-pending)
               (:copier nil))
  "What the disk has still to do for an object."
  (count 0 :documentation "How many tasks.")
  (contents nil :documentation "Alist of what is being written, for readers.")
  (end nil :documentation "Claim of the module to be released at the end.")
  (leaving nil :documentation "Non-nil if the object is gone when that is done.")
  (tell nil :documentation "Function that is told of a failure, or nil.")
  (failure nil :documentation "The reason why a task failed, a text."))

(defvar smtpmail-native-disk--pending (make-hash-table :test #'equal)
  "The `smtpmail-native-disk-pending' of all objects, by their keys.")

(defun smtpmail-native-disk-pending (key)
  "Return what the disk has still to do for the object KEY, or nil."
  (gethash key smtpmail-native-disk--pending))

(defun smtpmail-native-disk-map-pending (function)
  "Call FUNCTION with each object and what the disk has still to do for it."
  (maphash function smtpmail-native-disk--pending))

(defun smtpmail-native-disk-pending-take-end (pending)
  "Return the claim of PENDING, which is the caller's from here, or nil."
  (prog1 (smtpmail-native-disk-pending-end pending)
    (setf (smtpmail-native-disk-pending-end pending) nil)))

(defun smtpmail-native-disk--end (key pending plist)
  "Note that a task of PENDING, whose key is KEY, ended as PLIST says."
  (let ((inhibit-quit t)
        (text (and (not (eq (plist-get plist :kind) 'ok))
                   (smtpmail-native-error-text (plist-get plist :text)))))
    (when (eq pending (gethash key smtpmail-native-disk--pending))
      (when text
        (setf (smtpmail-native-disk-pending-failure pending) text))
      (when (= 0 (cl-decf (smtpmail-native-disk-pending-count pending)))
        (remhash key smtpmail-native-disk--pending)
        ;; What could not be deleted stays claimed for the handlers.
        (unless (and (smtpmail-native-disk-pending-failure pending)
                     (smtpmail-native-disk-pending-leaving pending))
          (let ((claim (smtpmail-native-disk-pending-take-end pending)))
            (when claim
              (smtpmail-native-module-release claim)))))
      (when (and text (smtpmail-native-disk-pending-tell pending))
        (funcall (smtpmail-native-disk-pending-tell pending) text)))))

(defun smtpmail-native-disk-forget (key)
  "Let no task that the disk has for the object KEY matter any more.
Waits for such a task end.  What the disk does for the object from here on
is another matter."
  (let ((pending (gethash key smtpmail-native-disk--pending)))
    (when pending
      (setf (smtpmail-native-disk-pending-count pending) 0)
      (remhash key smtpmail-native-disk--pending))))

(defun smtpmail-native-disk-hand-in (key steps tell)
  "Have the disk do STEPS for the object KEY, after all that it does already.
Return the `smtpmail-native-disk-pending' of the object.  Should they fail
while no caller waits, TELL is called with the reason, a text.  Signal
`smtpmail-native-error' if they cannot be handed in."
  (let* ((inhibit-quit t)
         (pending (or (gethash key smtpmail-native-disk--pending)
                      (puthash key (smtpmail-native-disk--make-pending)
                               smtpmail-native-disk--pending)))
         (done nil))
    (cl-incf (smtpmail-native-disk-pending-count pending))
    (setf (smtpmail-native-disk-pending-tell pending) tell)
    (unwind-protect
        (progn
          (smtpmail-native-disk-submit
           steps
           (lambda (plist) (smtpmail-native-disk--end key pending plist)))
          (setq done t))
      (unless done
        (smtpmail-native-disk--end key pending '(:kind ok))))
    pending))

(defvar smtpmail-native-disk-awaited nil
  "Non-nil while a command waits for the disk.
What a timer then asks of it would keep Emacs from the rest.")

(defun smtpmail-native-disk-await (pending seconds)
  "Wait at most SECONDS until all tasks of PENDING are done.
PENDING may be nil.  Without SECONDS wait as long as it takes.  Return nil
if all is well, `slow' if SECONDS were not enough, or the reason of a
failure, a text.  Timers run meanwhile; a quit ends the wait and nothing
else."
  (when pending
    (let ((smtpmail-native-disk-awaited t)
          (tell (smtpmail-native-disk-pending-tell pending)))
      (unwind-protect
          (progn
            (setf (smtpmail-native-disk-pending-tell pending) nil)
            (smtpmail-native-channel-await
             (lambda ()
               (= (smtpmail-native-disk-pending-count pending) 0))
             seconds)
            (if (> (smtpmail-native-disk-pending-count pending) 0)
                'slow
              (smtpmail-native-disk-pending-failure pending)))
        (setf (smtpmail-native-disk-pending-tell pending) tell)))))

(defun smtpmail-native-disk-finish (pending)
  "Wait until all tasks of PENDING are done, however long that takes.
Return nil if all is well, or the reason of a failure, a text.  Timers run
meanwhile.  Where `inhibit-quit' is bound a quit waits, too."
  (let ((quit nil)
        (failure nil))
    (while (eq 'slow (setq failure
                           (smtpmail-native-disk-await pending nil)))
      (setq quit t
            quit-flag nil))
    (when quit
      (setq quit-flag t))
    failure))

(provide 'smtpmail-native-disk)
;;; smtpmail-native-disk.el ends here
