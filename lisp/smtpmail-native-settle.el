;;; smtpmail-native-settle.el --- What has become of an entry  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The end of an attempt, whichever Emacs made it: its receipt becomes the new
;; state of the entry, copies are filed when the first recipient has got the
;; message, and an entry that was sent goes.

;;; Code:

(require 'cl-lib)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-seven-bit)
(require 'smtpmail-native-tell)

(defvar smtpmail-native-settle-file-functions nil
  "Functions that file copies of a message when a recipient has got it.
The argument is its entry.  They tell failures themselves.")

(defun smtpmail-native-settle--encode (entry)
  "Encode the message of ENTRY for a server that takes only ASCII.
Return the change of its state: it is tried again at once, or refused if it
cannot be encoded."
  (condition-case err
      (with-temp-buffer
        (set-buffer-multibyte nil)
        (smtpmail-native-outbox-insert-message entry)
        (smtpmail-native-seven-bit-encode)
        (smtpmail-native-outbox-encode-message entry (current-buffer))
        (list :status 'ready :hold nil :next nil :more t :text nil))
    (smtpmail-native-refused
     (list :status 'refused :hold nil :next nil :text (cadr err)))))

(defun smtpmail-native-settle (entry &optional receipt cancelled who)
  "Record the outcome of the last attempt for ENTRY, which is claimed.
RECEIPT defaults to the one on the disk.  CANCELLED and WHO are as in
`smtpmail-native-outcome-settle'.  Return nil, and do nothing, if it is
recorded already.  All changes are written in one step: if Emacs is killed
before that, the next session repeats it."
  (let* ((receipt (or receipt (smtpmail-native-entry-receipt entry)))
         (change (smtpmail-native-outcome-settle entry receipt cancelled who
                                                 (float-time))))
    (when change
      (when (plist-get change :encode)
        (cl-remf change :encode)
        (setq change (append change (smtpmail-native-settle--encode entry))))
      (apply (if (eq (plist-get change :status) 'sent)
                 ;; The receipt says so, and the entry is deleted in a moment.
                 #'smtpmail-native-outbox-note
               #'smtpmail-native-outbox-set)
             entry change)
      (unless (plist-get receipt :attempt)
        (smtpmail-native-outbox-forget-receipt entry))
      t)))

(defun smtpmail-native-settle-file-copies (entry)
  "File the copies of ENTRY, which some recipient has got, once."
  (unless (plist-get (smtpmail-native-entry-state entry) :filed)
    (smtpmail-native-tell-each 'smtpmail-native-settle-file-functions entry)
    (smtpmail-native-outbox-note entry :filed t)))

(defun smtpmail-native-settle-forget (id)
  "Forget what this Emacs knows of the attempts for the entry ID."
  (smtpmail-native-tell-forget-trace id)
  (smtpmail-native-identity-forget id))

(defconst smtpmail-native-settle--later 300
  "Seconds until what could not be deleted is deleted again.")

(defvar smtpmail-native-settle--stuck (make-hash-table :test #'equal)
  "Entries that were sent and could not be deleted, by id.
The value is `waits' until that is tried again, then `told'.")

(defun smtpmail-native-settle-stuck-p (entry)
  "Return non-nil if ENTRY cannot be deleted now, which was tried."
  (eq 'waits (gethash (smtpmail-native-entry-id entry)
                      smtpmail-native-settle--stuck)))

(defun smtpmail-native-settle--once-more (id)
  "Let the entry ID, which could not be deleted, be looked at again."
  (when (eq 'waits (gethash id smtpmail-native-settle--stuck))
    (puthash id 'told smtpmail-native-settle--stuck)
    (smtpmail-native-index-changed id)))

(defun smtpmail-native-settle-try-stuck ()
  "Let all entries that could not be deleted be looked at again."
  (maphash (lambda (id _) (smtpmail-native-settle--once-more id))
           smtpmail-native-settle--stuck))

(defun smtpmail-native-settle--cannot-finish (entry reason)
  "Tell that ENTRY was sent, but cannot be deleted for REASON; note it there.
ENTRY is claimed.  A later look deletes it, and does nothing else."
  (let ((id (smtpmail-native-entry-id entry)))
    (unless (gethash id smtpmail-native-settle--stuck)
      (smtpmail-native-quiet-warn
       (format
        "The message was sent, but cannot be deleted from the outbox: %s"
        reason)))
    ;; At once it would fail again, and again.
    (puthash id 'waits smtpmail-native-settle--stuck)
    (smtpmail-native-quiet-timer smtpmail-native-settle--later
                                 #'smtpmail-native-settle--once-more id)
    (ignore-errors
      (smtpmail-native-outbox-set entry :status 'sent :finished t))
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-index-put entry)))

(defun smtpmail-native-settle-finish (entry)
  "File the copies of ENTRY, which has been sent, run the hook, delete it."
  (let ((id (smtpmail-native-entry-id entry)))
    (unless (plist-get (smtpmail-native-entry-state entry) :finished)
      (smtpmail-native-settle-file-copies entry)
      (smtpmail-native-tell-run-hook 'smtpmail-native-sent-functions entry))
    (smtpmail-native-settle-forget id)
    ;; An error would look as if it had not been sent.
    (condition-case err
        (progn
          (smtpmail-native-outbox-remove
           entry #'smtpmail-native-settle--cannot-finish)
          (smtpmail-native-index-drop id))
      (smtpmail-native-outbox-error
       (smtpmail-native-settle--cannot-finish entry (cadr err))))))

(defun smtpmail-native-settle-conclude (entry &optional seconds notes)
  "Do what the state of ENTRY, just settled, asks for, and let go of it.
SECONDS is how long the attempt took, and NOTES is what is worth knowing of
it, a string or nil, if this Emacs made it."
  (if (eq (plist-get (smtpmail-native-entry-state entry) :status) 'sent)
      (progn
        (smtpmail-native-settle-finish entry)
        (smtpmail-native-tell-sent entry seconds notes))
    (when (and (smtpmail-native-entry-delivered-p entry)
               (not (plist-get (smtpmail-native-entry-state entry) :filed)))
      (smtpmail-native-settle-file-copies entry)
      (smtpmail-native-quiet-guard "Cannot note that a copy was filed"
                                   #'smtpmail-native-outbox-set entry))
    (smtpmail-native-quiet-guard "Error of smtpmail-native"
                                 #'smtpmail-native-tell entry)
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-index-put entry)))

(provide 'smtpmail-native-settle)
;;; smtpmail-native-settle.el ends here
