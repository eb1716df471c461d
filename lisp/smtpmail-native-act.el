;;; smtpmail-native-act.el --- The word of the user on an entry  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each command on an entry, with its own conditions.

;;; Code:

(require 'seq)
(require 'smtpmail-native-ask)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)

(defmacro smtpmail-native-act--with-claim (entry claimed &rest body)
  "Run BODY with ENTRY bound to CLAIMED, a claimed entry, and let go of it."
  (declare (indent 2) (debug (symbolp form body)))
  `(let ((,entry ,claimed))
     (unwind-protect
         (progn ,@body)
       (smtpmail-native-outbox-release ,entry)
       (smtpmail-native-tell-changed (smtpmail-native-entry-id ,entry)))))

(defun smtpmail-native-act--claimed (id)
  "Return the entry ID, claimed; signal an error if it cannot be."
  (let ((entry (smtpmail-native-outbox-get id)))
    (unless entry
      (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                    "This mail is not in the outbox any more"))
    (unless (smtpmail-native-outbox-claim entry)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (if (gethash id smtpmail-native-attempt--active)
           "This mail is being sent; cancel it first"
         "Another Emacs works on this mail")))
    entry))

(defun smtpmail-native-act--settled (entry)
  "Return ENTRY, which is claimed, with what was left of it settled.
Signal `smtpmail-native-usage-error' if that shows what the user could not
know: that it has arrived, or may have."
  (let ((known (plist-get (smtpmail-native-entry-state entry) :status))
        (done nil))
    (unwind-protect
        (progn
          (when (smtpmail-native-entry-unsettled-p entry)
            (smtpmail-native-schedule-recover entry)
            (let ((status (plist-get (smtpmail-native-entry-state entry)
                                     :status)))
              (when (or (eq status 'sent)
                        (and (eq status 'unknown) (not (eq known 'unknown))))
                (smtpmail-native-error-signal
                 'smtpmail-native-usage-error
                 (if (eq status 'sent)
                     "This mail has been sent already"
                   "This mail may have been sent by an Emacs that has ended; \
look whether it arrived before you send it again")))))
          (setq done t))
      (unless done
        (smtpmail-native-outbox-release entry)))
    (if (smtpmail-native-entry-claim entry)
        entry
      (smtpmail-native-act--claimed (smtpmail-native-entry-id entry)))))

(defun smtpmail-native-act--durable (entry)
  "Wait a moment until what was done to ENTRY survives a loss of power.
The user may be told of it only then."
  (when (eq (smtpmail-native-outbox-wait entry smtpmail-native-outbox-patience)
            'slow)
    (smtpmail-native-tell-slow)))

(defun smtpmail-native-act-retry (id)
  "Send the entry ID now, whatever it waits for, and whatever came of it.
The user has asked for that, and so may be asked for a password.  Signal
`smtpmail-native-usage-error' if it cannot be sent."
  (let ((entry (smtpmail-native-act--settled
                (smtpmail-native-act--claimed id))))
    (when (smtpmail-native-entry-problem entry)
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "This mail is damaged: %s"
               (smtpmail-native-entry-problem entry))))
    (let ((state (smtpmail-native-entry-state entry)))
      ;; Refused and doubtful recipients are tried again, those that have got
      ;; the mail are not.
      (smtpmail-native-outbox-set
       entry
       :renewed nil :certificates nil
       :now (and (smtpmail-native-entry-release-time entry) t)
       :results (seq-filter (lambda (result) (eq (cadr result) 'sent))
                            (plist-get state :results)))
      (cond
       ((smtpmail-native-entry-secret-refused-p state)
        (smtpmail-native-ask-asking entry))
       ((eq (plist-get state :hold) 'certificate)
        (smtpmail-native-ask-trusting entry))
       (t (smtpmail-native-attempt entry t))))))

(defun smtpmail-native-act--user-holds (entry)
  "Hold ENTRY, which is claimed, until the user says otherwise."
  (smtpmail-native-outbox-set entry :status 'held :hold 'user :next nil
                              :undo nil))

(defun smtpmail-native-act-hold (id)
  "Hold the entry ID until the user says otherwise.
Signal `smtpmail-native-usage-error' if it is not waiting for anything."
  (smtpmail-native-act--with-claim entry
      (smtpmail-native-act--settled (smtpmail-native-act--claimed id))
    (unless (memq (plist-get (smtpmail-native-entry-state entry) :status)
                  '(ready held))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       "This mail is kept, and is not sent by itself"))
    (smtpmail-native-act--user-holds entry)
    (smtpmail-native-act--durable entry)))

(defun smtpmail-native-act-take-back (id restore)
  "Call the function RESTORE with the entry ID, claimed, and delete the entry.
Return what RESTORE returns.  When that signals an error or the user quits,
the entry is kept; it is held then if it would have been sent by itself.
Signal `smtpmail-native-usage-error' if it is gone, under way, or sent."
  (smtpmail-native-act--with-claim entry
      (smtpmail-native-act--settled (smtpmail-native-act--claimed id))
    (when (and (eq (plist-get (smtpmail-native-entry-state entry) :status)
                   'ready)
               (null (smtpmail-native-entry-problem entry)))
      (smtpmail-native-act--user-holds entry))
    (prog1 (funcall restore entry)
      (remhash id smtpmail-native-tell--traces)
      (smtpmail-native-attempt-forget-doubt id)
      (smtpmail-native-outbox-remove entry)
      (smtpmail-native-act--durable entry))))

(defun smtpmail-native-act-cancel (id)
  "Stop sending the entry ID; it is held then, unless it has been sent.
Return nil if it is not under way in this Emacs."
  (let ((sending (gethash id smtpmail-native-attempt--active)))
    (when sending
      (setf (smtpmail-native-sending-cancelled sending) t)
      ;; Should this Emacs end before the attempt does, the next one knows.
      (unless (smtpmail-native-sending-waiter sending)
        (condition-case err
            (progn
              (smtpmail-native-outbox-set
               (smtpmail-native-sending-entry sending)
               :status 'held :hold 'user)
              (smtpmail-native-act--durable
               (smtpmail-native-sending-entry sending)))
          (smtpmail-native-outbox-error
           (display-warning 'smtpmail-native (cadr err)))))
      (smtpmail-native-channel-cancel (smtpmail-native-sending-job sending)))))

(defun smtpmail-native-act-delete (id)
  "Delete the entry ID without sending it."
  (smtpmail-native-act--with-claim entry (smtpmail-native-act--claimed id)
    (remhash id smtpmail-native-tell--traces)
    (smtpmail-native-attempt-forget-doubt id)
    (smtpmail-native-outbox-remove entry)
    (smtpmail-native-act--durable entry)))

(defun smtpmail-native-act-mark-sent (id)
  "Take it that the entry ID has arrived: file its copy and delete it."
  (smtpmail-native-act--with-claim entry (smtpmail-native-act--claimed id)
    (smtpmail-native-outbox-set entry :status 'sent :next nil)
    (smtpmail-native-attempt-finish entry)
    (smtpmail-native-act--durable entry)))

(defun smtpmail-native-act-flush ()
  "Send at once all that waits, also what `smtpmail-queue-mail' has held.
What the user holds, what was refused and what may have arrived is left
alone.  Return the number of entries that are to be sent."
  (let ((count 0)
        entry)
    (dolist (id (smtpmail-native-outbox-ids))
      (when (and (not (gethash id smtpmail-native-attempt--active))
                 (setq entry (smtpmail-native-outbox-get id))
                 (smtpmail-native-entry-flushable-p entry))
        (setq count (1+ count))
        (smtpmail-native-schedule-let-go-on entry
                                            #'smtpmail-native-entry-flushable-p)))
    ;; Also when there is none: others may have left something to be settled.
    (smtpmail-native-schedule-resume)
    count))

(defun smtpmail-native-act-undo-candidate ()
  "Return the id of the newest entry whose sending can still be undone."
  (seq-find (lambda (id)
              (let ((entry (smtpmail-native-outbox-get id)))
                (and entry
                     (plist-get (smtpmail-native-entry-state entry) :undo)
                     (not (gethash id smtpmail-native-attempt--active)))))
            (reverse (smtpmail-native-outbox-ids))))

;;;; Leaving Emacs

(defun smtpmail-native-act--may-quit-p ()
  "Ask whether Emacs may end while mails are being sent."
  (let ((count (hash-table-count smtpmail-native-attempt--active)))
    (or (= count 0)
        noninteractive
        (y-or-n-p
         (format "%s being sent; nothing will be lost, the next Emacs goes on.  \
Quit? "
                 (if (= count 1) "A mail is" (format "%d mails are" count)))))))

(provide 'smtpmail-native-act)
;;; smtpmail-native-act.el ends here
