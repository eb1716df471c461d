;;; smtpmail-native-go.el --- One entry is sent if it may be  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Whether one entry can be sent now, and what is done about it: it is claimed,
;; what another Emacs has left of it is settled, and it is sent, held, put off
;; or left alone.  What waits for what is the matter of the schedule.

;;; Code:

(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-settle)

(defconst smtpmail-native-go--in-flight 64
  "How many messages of an account the module has at a time.
It needs to know the next one before the last one is done, to send both
without a pause.")

(defvar smtpmail-native-go-draining nil
  "Non-nil while a batch Emacs sends what waits, each message once.
What it lacks another Emacs may have, and so it holds nothing for that.")

(defvar smtpmail-native-go--tried (make-hash-table :test #'equal)
  "What this Emacs could not send either: values of :by, a list, by entry id.
All are kept: several sessions, each with another wrong password, would take
turns for ever.")

;;;; What another Emacs has left

(defun smtpmail-native-go-recover (entry)
  "Settle what another Emacs has left of ENTRY, which is claimed.
Return non-nil if it is still claimed and may be sent."
  (let* ((news (smtpmail-native-settle entry))
         (waited (plist-get (smtpmail-native-entry-state entry) :wait))
         (status (plist-get (smtpmail-native-entry-state entry) :status)))
    (cond
     ((and waited (eq status 'ready))
      (smtpmail-native-attempt-hold
       entry (list :status 'held :hold 'interrupted :next nil
                   :text "Not sent: Emacs exited while you were waiting for \
the result"))
      nil)
     ((not (or news waited (eq status 'sent)))
      t)
     ((and (eq status 'ready)
           (null (plist-get (smtpmail-native-entry-state entry) :next)))
      t)
     (t
      ;; Its own Emacs did not live to tell.
      (when (and waited (not (eq status 'sent)))
        (smtpmail-native-outbox-set entry :wait nil))
      (smtpmail-native-settle-conclude entry)
      nil))))

;;;; Sessions

(defun smtpmail-native-go-key-free-p (key)
  "Return non-nil if one more message for the account KEY may begin."
  (< (smtpmail-native-attempt-count key) smtpmail-native-go--in-flight))

(defun smtpmail-native-go-free-p (envelope)
  "Return non-nil if one more message for the account of ENVELOPE may begin."
  (smtpmail-native-go-key-free-p
   (smtpmail-native-entry-account-key envelope)))

;;;; One entry

(defun smtpmail-native-go--trial-p (entry)
  "Return non-nil if this Emacs may be able to send ENTRY, and has not tried.
It is held for what another one lacks."
  (and (smtpmail-native-entry-other-way-p entry
                                          smtpmail-native-identity-instance)
       (not (member (plist-get (smtpmail-native-entry-state entry) :by)
                    (gethash (smtpmail-native-entry-id entry)
                             smtpmail-native-go--tried)))))

(defun smtpmail-native-go-try-p (entry now)
  "Return non-nil if there is something to be done for ENTRY at the time NOW."
  (or (smtpmail-native-entry-due-p entry now)
      (and (smtpmail-native-entry-unsettled-p entry)
           (not (smtpmail-native-settle-stuck-p entry)))
      (smtpmail-native-go--trial-p entry)))

(defun smtpmail-native-go--attempt (entry)
  "Try ENTRY, which is claimed, for which another Emacs lacked something."
  (let ((by (plist-get (smtpmail-native-entry-state entry) :by)))
    (push by (gethash (smtpmail-native-entry-id entry)
                      smtpmail-native-go--tried))
    (smtpmail-native-attempt entry :trial t)))

(defun smtpmail-native-go--expire (entry)
  "Hold ENTRY, which is claimed and was not sent in time."
  (smtpmail-native-attempt-hold
   entry (list :status 'held :hold 'expired :next nil
               :text (or (plist-get (smtpmail-native-entry-state entry) :text)
                         "Not sent in time"))))

(defun smtpmail-native-go--release (entry)
  "Let go of ENTRY, which is claimed, and note how it is."
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-index-put entry))

(defun smtpmail-native-go--try-claimed (entry)
  "Do for ENTRY, which is claimed, what `smtpmail-native-go-try' does.
Its files have just been read again: it may have changed since."
  (let ((now (float-time))
        (envelope (smtpmail-native-entry-envelope entry)))
    (cond
     ((and (smtpmail-native-entry-unsettled-p entry)
           (not (smtpmail-native-go-recover entry)))
      nil)
     ((smtpmail-native-go--trial-p entry)
      (ignore (smtpmail-native-go--attempt entry)))
     ((not (smtpmail-native-entry-due-p entry now))
      (ignore (smtpmail-native-go--release entry)))
     ((smtpmail-native-entry-old-p entry now)
      (ignore (smtpmail-native-go--expire entry)))
     ((smtpmail-native-go-free-p envelope)
      (ignore (smtpmail-native-attempt
               entry :trial (and smtpmail-native-go-draining 'tell))))
     (t
      (smtpmail-native-go--release entry)
      (smtpmail-native-entry-account-key envelope)))))

(defun smtpmail-native-go--claim (id)
  "Return the entry ID, claimed and read again.
The value is nil if it is gone or in use."
  (let ((entry (smtpmail-native-entry-make :id id)))
    (or (smtpmail-native-outbox-claim entry)
        (progn
          (when (smtpmail-native-outbox-gone-p entry)
            (smtpmail-native-index-drop id))
          nil))))

(defun smtpmail-native-go-try (id)
  "Send the entry ID if it is due and no other Emacs works on it.
Return the key of its account if that has no free session, else nil."
  (let* ((known (smtpmail-native-index-entry id))
         (now (float-time)))
    (cond
     ((or (null known)
          (smtpmail-native-attempt-sending id)
          (not (smtpmail-native-go-try-p known now)))
      nil)
     ((and (smtpmail-native-entry-due-p known now)
           (not (smtpmail-native-entry-unsettled-p known))
           (not (smtpmail-native-go-free-p
                 (smtpmail-native-entry-envelope known))))
      (smtpmail-native-entry-account-key
       (smtpmail-native-entry-envelope known)))
     (t
      (let ((entry (smtpmail-native-go--claim id))
            (done nil))
        (when entry
          (unwind-protect
              (prog1 (smtpmail-native-go--try-claimed entry)
                (setq done t))
            (unless done
              (smtpmail-native-outbox-release entry)))))))))

;;;; One that may go on

(defun smtpmail-native-go--grant (entry note)
  "Make ENTRY, which is claimed, due now.
NOTE is the function that changes its state."
  (funcall note entry :status 'ready :hold nil :by nil :renewed nil :next nil
           :undo nil :since (truncate (float-time))))

(defun smtpmail-native-go--permitted (id wanted)
  "Return the entry ID, claimed, if it may go on and satisfies WANTED, or nil.
WANTED is checked after claiming, because another Emacs may have changed it."
  (let ((entry (and (not (smtpmail-native-attempt-sending id))
                    (smtpmail-native-go--claim id)))
        (good nil))
    (unwind-protect
        (and entry
             (setq good (and (funcall wanted entry)
                             (not (smtpmail-native-entry-unsettled-p entry))))
             entry)
      (when (and entry (not good))
        (smtpmail-native-go--release entry)))))

(defun smtpmail-native-go--send-permitted (id wanted)
  "Begin to send the entry ID, if it can be claimed and satisfies WANTED.
Nothing is written for that: should Emacs end, its receipt tells how far it
came, and without one it is where it was.  Return non-nil if it has begun."
  (let ((entry (smtpmail-native-go--permitted id wanted))
        (done nil))
    (when entry
      (unwind-protect
          (progn
            (smtpmail-native-go--grant entry #'smtpmail-native-outbox-note)
            (setq done t)
            (smtpmail-native-attempt entry
                                     :trial smtpmail-native-go-draining))
        (unless done
          (smtpmail-native-outbox-release entry)))
      (smtpmail-native-attempt-sending id))))

(defun smtpmail-native-go--write-permitted (id wanted)
  "Make the entry ID, if it satisfies WANTED, due now; return t then."
  (let ((entry (smtpmail-native-go--permitted id wanted)))
    (when entry
      (unwind-protect
          (smtpmail-native-go--grant entry #'smtpmail-native-outbox-set)
        (smtpmail-native-outbox-release entry))
      (smtpmail-native-index-put entry)
      t)))

(defun smtpmail-native-go-on (id wanted)
  "Send the entry ID if it satisfies WANTED when it is claimed.
Return the key of its account if that has no free session, t if it is due
now and to be looked at, else nil."
  (let* ((known (smtpmail-native-index-entry id))
         (key (and known
                   (smtpmail-native-entry-account-key
                    (smtpmail-native-entry-envelope known)))))
    (cond
     ((and known (not (smtpmail-native-go-key-free-p key)))
      key)
     ;; What could not begin, and is not held for that, is tried as what is due.
     ((and known (smtpmail-native-go--send-permitted id wanted))
      nil)
     (t (smtpmail-native-go--write-permitted id wanted)))))

(provide 'smtpmail-native-go)
;;; smtpmail-native-go.el ends here
