;;; smtpmail-native-act.el --- The word of the user on an entry  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each command on an entry, with its own conditions, which the entry is asked
;; about and not the buffer that shows it.  What you say is on the disk before
;; you are told that it is done.

;;; Code:

(require 'seq)
(require 'smtpmail-native-ask)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-flush)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-watch)

;;;; Claims and the disk

(defun smtpmail-native-act--fail (text)
  "Signal that a command cannot be done; TEXT says why."
  (smtpmail-native-error-signal 'smtpmail-native-usage-error text))

(defun smtpmail-native-act--durable (entry)
  "Wait until what was done to ENTRY survives a loss of power.
Signal `smtpmail-native-outbox-error' if it cannot."
  (when (eq (smtpmail-native-outbox-wait entry smtpmail-native-outbox-patience)
            'slow)
    (smtpmail-native-tell-slow)))

(defmacro smtpmail-native-act--with-claim (entry claimed &rest body)
  "Run BODY with ENTRY bound to CLAIMED, a claimed entry, and let go of it."
  (declare (indent 2) (debug (symbolp form body)))
  `(let ((,entry ,claimed))
     (unwind-protect
         (progn ,@body)
       (when (smtpmail-native-entry-claim ,entry)
         (smtpmail-native-outbox-release ,entry)
         (smtpmail-native-index-put ,entry)))))

(defun smtpmail-native-act--claimed (id)
  "Return the entry ID, claimed; signal an error if it cannot be."
  (let ((entry (smtpmail-native-outbox-get id)))
    (unless entry
      (smtpmail-native-act--fail "This message is no longer in the outbox"))
    (unless (smtpmail-native-outbox-claim entry)
      (smtpmail-native-act--fail
       (if (smtpmail-native-attempt-sending id)
           "This message is being sent; cancel it first"
         "This message is in use by this or another Emacs process")))
    entry))

(defun smtpmail-native-act--settled (entry)
  "Return ENTRY, which is claimed, with what was left of it settled.
Signal `smtpmail-native-usage-error' if that shows that it has been sent, or
may have been, which the user could not know."
  (let ((doubt (smtpmail-native-entry-doubt-p entry))
        (done nil))
    (unwind-protect
        (progn
          (when (smtpmail-native-entry-unsettled-p entry)
            (smtpmail-native-go-recover entry)
            (cond
             ((eq (smtpmail-native-entry-status entry) 'sent)
              (smtpmail-native-act--fail
               "This message has already been sent"))
             ((and (smtpmail-native-entry-doubt-p entry) (not doubt))
              (smtpmail-native-act--fail
               "An earlier Emacs session may have sent this message; check \
whether it was delivered before sending it again"))))
          (setq done t))
      (unless done
        (smtpmail-native-outbox-release entry)))
    (if (smtpmail-native-entry-claim entry)
        entry
      (smtpmail-native-act--claimed (smtpmail-native-entry-id entry)))))

;;;; Send it

(defun smtpmail-native-act-retry (id &optional word)
  "Send the entry ID now, whatever it waits for.
The user has asked for that, and so may be asked for a password.  WORD
non-nil is the user's word to send it although it may have been delivered.
Return nil if the user quits; then the entry is as it was.  Signal
`smtpmail-native-usage-error' if it cannot be sent."
  (let ((entry (smtpmail-native-act--settled
                (smtpmail-native-act--claimed id)))
        (refusal nil))
    (setq refusal
          (cond
           ((smtpmail-native-entry-problem entry)
            (format "This message is damaged: %s"
                    (smtpmail-native-entry-problem entry)))
           ((and (smtpmail-native-entry-doubt-p entry) (not word))
            "This message may have been delivered; check whether it was \
before sending it again")))
    (when refusal
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-act--fail refusal))
    (smtpmail-native-ask-send
     entry
     (list :renewed nil :certificates nil :doubt nil
           :now (and (smtpmail-native-entry-release-time entry) t)
           :since (truncate (float-time))
           ;; Refused and doubtful recipients are tried again; recipients that
           ;; have received the message are not.
           :results (seq-filter (lambda (result) (eq (cadr result) 'sent))
                                (plist-get (smtpmail-native-entry-state entry)
                                           :results))))))

(defun smtpmail-native-act-flush ()
  "Send at once all that waits, also what `smtpmail-queue-mail' has held.
What the user holds, what was refused and what may have been delivered is
left alone.  It goes on by itself if you quit.  Return the number of entries
that are known to be sent."
  (smtpmail-native-flush-begin)
  (if (and (smtpmail-native-index-fresh-p) (not noninteractive))
      ;; Few have come since then, and those are read in a moment.
      (smtpmail-native-quiet-timer 0 #'smtpmail-native-watch-look)
    (smtpmail-native-watch-look)
    (smtpmail-native-index-complete 1))
  (smtpmail-native-flush-count))

(defun smtpmail-native-act-change-server (id account)
  "Let the entry ID go through the server of ACCOUNT from now on, and send it.
ACCOUNT is that of `smtpmail-native-job-account-for'.  Signal
`smtpmail-native-usage-error' for a message that may have been delivered, or
is being sent."
  (smtpmail-native-act--with-claim entry
      (smtpmail-native-act--settled (smtpmail-native-act--claimed id))
    (when (smtpmail-native-entry-problem entry)
      (smtpmail-native-act--fail
       (format "This message is damaged: %s"
               (smtpmail-native-entry-problem entry))))
    (when (smtpmail-native-entry-doubt-p entry)
      (smtpmail-native-act--fail
       "This message may have been delivered; check whether it was before \
sending it again"))
    (apply #'smtpmail-native-outbox-set-envelope entry
           ;; The other server's user means nothing to this one.
           :identity (smtpmail-native-identity account)
           :account (plist-get account :account)
           account)
    (smtpmail-native-act--durable entry))
  (smtpmail-native-identity-forget id)
  (smtpmail-native-act-retry id))

;;;; Do not send it

(defun smtpmail-native-act--user-holds (entry)
  "Hold ENTRY, which is claimed, until the user says otherwise."
  (smtpmail-native-outbox-set entry :status 'held :hold 'user :by nil
                              :next nil :undo nil))

(defun smtpmail-native-act-hold (id)
  "Hold the entry ID until the user says otherwise.
Signal `smtpmail-native-usage-error' if it is not waiting for anything."
  (smtpmail-native-act--with-claim entry
      (smtpmail-native-act--settled (smtpmail-native-act--claimed id))
    (unless (and (memq (smtpmail-native-entry-status entry) '(ready held))
                 (not (smtpmail-native-entry-doubt-p entry)))
      (smtpmail-native-act--fail
       "Only a waiting message can be held; this one is not sent without you"))
    (smtpmail-native-act--user-holds entry)
    (smtpmail-native-act--durable entry)))

(defun smtpmail-native-act-cancel (id)
  "Stop sending the entry ID; it is held then, unless it has been sent.
Return nil if it is not being sent by this Emacs."
  (let ((sending (smtpmail-native-attempt-sending id)))
    (when sending
      (setf (smtpmail-native-sending-cancelled sending) t)
      (when (smtpmail-native-sending-job sending)
        (smtpmail-native-channel-cancel (smtpmail-native-sending-job sending)))
      ;; Should this Emacs end before the attempt does, the next one knows.
      (unless (smtpmail-native-sending-waiter sending)
        (let ((entry (smtpmail-native-sending-entry sending)))
          (condition-case err
              (progn
                (smtpmail-native-outbox-set entry :status 'held :hold 'user)
                (smtpmail-native-act--durable entry))
            (smtpmail-native-outbox-error
             (smtpmail-native-quiet-warn (cadr err))))))
      t)))

;;;; Take it out

(defun smtpmail-native-act--remove (entry)
  "Delete ENTRY, which is claimed; it is gone for good then."
  (let ((id (smtpmail-native-entry-id entry)))
    (smtpmail-native-settle-forget id)
    (smtpmail-native-outbox-remove entry)
    (smtpmail-native-index-drop id)
    (smtpmail-native-act--durable entry)))

(defun smtpmail-native-act-take-back (id restore)
  "Call the function RESTORE with the entry ID, claimed, and delete the entry.
Return what RESTORE returns.  When that signals an error or the user quits,
the entry is kept; it is held then if it would have been sent by itself.
Signal `smtpmail-native-usage-error' if it is gone, being sent, or sent."
  (smtpmail-native-act--with-claim entry
      (smtpmail-native-act--settled (smtpmail-native-act--claimed id))
    (when (eq (smtpmail-native-entry-status entry) 'ready)
      (smtpmail-native-act--user-holds entry))
    (prog1 (funcall restore entry)
      (smtpmail-native-act--remove entry))))

(defun smtpmail-native-act-delete (id)
  "Delete the entry ID without sending it.
Should an Emacs that has ended have sent it, its copy is filed first."
  (smtpmail-native-act--with-claim entry (smtpmail-native-act--claimed id)
    (when (smtpmail-native-entry-unsettled-p entry)
      ;; A disk that is full must not keep it from being deleted.
      (ignore-error smtpmail-native-outbox-error
        (smtpmail-native-settle entry)))
    (if (eq (smtpmail-native-entry-status entry) 'sent)
        (smtpmail-native-settle-finish entry)
      (when (smtpmail-native-entry-delivered-p entry)
        (smtpmail-native-settle-file-copies entry))
      (smtpmail-native-act--remove entry))))

(defun smtpmail-native-act-mark-sent (id)
  "File the copy of the entry ID, which was delivered, and delete it.
Signal `smtpmail-native-usage-error' if it is known what became of it."
  (smtpmail-native-act--with-claim entry (smtpmail-native-act--claimed id)
    (unless (and (smtpmail-native-entry-doubt-p entry)
                 (null (smtpmail-native-entry-problem entry)))
      (smtpmail-native-act--fail
       "Only an unconfirmed message can be marked as sent"))
    (smtpmail-native-outbox-set entry :status 'sent :doubt nil :next nil)
    (smtpmail-native-act--durable entry)
    (smtpmail-native-settle-finish entry)))

(defun smtpmail-native-act-undo-candidate ()
  "Return the id of the newest entry whose sending can still be undone."
  (car (last (smtpmail-native-index-select
              (lambda (entry)
                (and (smtpmail-native-entry-undo-p entry)
                     (not (smtpmail-native-attempt-sending
                           (smtpmail-native-entry-id entry)))))))))

;;;; Leaving Emacs

(defun smtpmail-native-act--waiting ()
  "Return what would wait if Emacs ended now, a list of (WORDS . COUNT).
Nothing of it would be lost."
  (let ((counts (list (cons "being sent" 0) (cons "waiting to be sent" 0)
                      (cons "in its undo time" 0)
                      (cons "scheduled for later" 0)
                      (cons "queued" 0))))
    (smtpmail-native-index-map
     (lambda (entry)
       (let ((words
              (cond
               ((smtpmail-native-attempt-sending
                 (smtpmail-native-entry-id entry))
                "being sent")
               ((and (smtpmail-native-entry-queued-p entry)
                     (not (smtpmail-native-flush-covers-p entry)))
                "queued")
               ((smtpmail-native-entry-queued-p entry) "waiting to be sent")
               ((or (not (eq (smtpmail-native-entry-status entry) 'ready))
                    (smtpmail-native-entry-doubt-p entry))
                nil)
               ((smtpmail-native-entry-release-time entry)
                "scheduled for later")
               ((smtpmail-native-entry-undo-p entry) "in its undo time")
               (t "waiting to be sent"))))
         (when words
           (setcdr (assoc words counts) (1+ (cdr (assoc words counts))))))))
    (seq-filter (lambda (pair) (> (cdr pair) 0)) counts)))

(defun smtpmail-native-act--send-before-quit ()
  "Send what waits, and return non-nil when that is over.
What is scheduled for later stays."
  (smtpmail-native-act-flush)
  (smtpmail-native-tell-say "Sending; type C-g to stay in Emacs")
  (condition-case nil
      (progn
        (smtpmail-native-channel-await
         (lambda () (not (smtpmail-native-schedule-busy-p))) nil)
        t)
    (quit nil)))

(defun smtpmail-native-act-ask-before-quit ()
  "Have Emacs ask before it ends while messages wait."
  (add-hook 'kill-emacs-query-functions #'smtpmail-native-act-may-quit-p))

(defun smtpmail-native-act-may-quit-p ()
  "Ask whether Emacs may end while messages wait; return non-nil if so."
  (let* ((waiting (and (smtpmail-native-tell-attended-p)
                       (smtpmail-native-act--waiting)))
         ;; What only you send by a flush is nothing to be asked about.
         (urgent (seq-remove (lambda (pair) (equal (car pair) "queued"))
                             waiting)))
    (or (null urgent)
        (pcase (car (read-multiple-choice
                     (format "Messages in the outbox: %s.  Nothing will be \
lost; the next session goes on.  Quit?"
                             (mapconcat (lambda (pair)
                                          (format "%d %s" (cdr pair)
                                                  (car pair)))
                                        waiting ", "))
                     '((?y "quit" "End Emacs; its next session sends them.")
                       (?s "send now"
                           "Send now what can be sent, and then end Emacs.")
                       (?n "stay" "Do not end Emacs."))))
          (?y t)
          (?s (smtpmail-native-act--send-before-quit))))))

(provide 'smtpmail-native-act)
;;; smtpmail-native-act.el ends here
