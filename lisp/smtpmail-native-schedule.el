;;; smtpmail-native-schedule.el --- What is next  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Which entry is sent when: those that are ready and wait for a session, timers,
;; and what an Emacs that has ended has left.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-load)
(require 'smtpmail-native-leftovers)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-tell)

(defconst smtpmail-native-attempt--rescan 600
  "Seconds after which entries that another Emacs holds are looked at again.")

(defconst smtpmail-native-schedule--in-flight 32
  "How many mails of an account the module has at a time.
It needs to know the next one before the last one is done, to send both
without a pause.")

(defconst smtpmail-native-schedule--slice 0.02
  "Seconds for which Emacs is kept busy with the outbox at a time.")

(defvar smtpmail-native-schedule--ready nil
  "Ids of the entries to be looked at and sent if they are due, in order.")

(defvar smtpmail-native-schedule--waiting nil
  "Accounts without a free session, and the entries that wait for one.
An alist of (KEY FRONT . BACK): the ids FRONT, then those of BACK from its
end on.  So ten thousand of them cost no more to go on with than one.")

(defvar smtpmail-native-schedule--held nil
  "How many entries that need the user have been seen since Emacs started.
The value is nil once that was told.")

(defvar smtpmail-native-schedule--timer nil
  "The timer of the next look at the outbox, or nil.")

(defvar smtpmail-native-attempt--once nil
  "Non-nil while no entry is to be looked at again by itself.")

(defvar smtpmail-native-schedule--advance-timer nil
  "The timer that goes on with `smtpmail-native-schedule--ready', or nil.")

;;;; What another Emacs has left

(defun smtpmail-native-schedule-recover (entry)
  "Settle what another Emacs has left of ENTRY, which is claimed.
Return non-nil if it is still claimed and may be sent."
  (let* ((news (smtpmail-native-attempt-settle entry))
         (state (smtpmail-native-entry-state entry))
         (waited (plist-get state :wait))
         (ready (eq (plist-get state :status) 'ready)))
    (cond
     ((and waited ready)
      (smtpmail-native-attempt-hold
       entry 'interrupted
       "Emacs ended while its sender waited, and it was not sent"))
     ((not (or news waited (eq (plist-get state :status) 'sent)))
      t)
     ((and ready (null (plist-get state :next)))
      t)
     (t
      ;; Its own Emacs did not live to tell.
      (when (and waited (not (eq (plist-get state :status) 'sent)))
        (smtpmail-native-outbox-set entry :wait nil))
      (smtpmail-native-attempt-conclude entry)
      nil))))

;;;; Sessions

(defun smtpmail-native-schedule--count (key)
  "Return how many mails for the account KEY the module has."
  (let ((count 0))
    (maphash (lambda (_id sending)
               (when (equal key (smtpmail-native-entry-account-key
                                 (smtpmail-native-entry-envelope
                                  (smtpmail-native-sending-entry sending))))
                 (setq count (1+ count))))
             smtpmail-native-attempt--active)
    count))

(defun smtpmail-native-schedule--key-free-p (key)
  "Return non-nil if one more mail for the account KEY may begin."
  (< (smtpmail-native-schedule--count key) smtpmail-native-schedule--in-flight))

(defun smtpmail-native-schedule-free-p (envelope)
  "Return non-nil if one more mail for the account of ENVELOPE may begin."
  (smtpmail-native-schedule--key-free-p
   (smtpmail-native-entry-account-key envelope)))

;;;; One entry

(defun smtpmail-native-schedule--try (id)
  "Send the entry ID if it is due and nobody works on it.
Return the key of its account if that has no free session, a time in
seconds when the entry is to be looked at again, or nil."
  (let* ((entry (and (not (gethash id smtpmail-native-attempt--active))
                     (smtpmail-native-outbox-get id)))
         (envelope (and entry (smtpmail-native-entry-envelope entry)))
         (unsettled (and entry (smtpmail-native-entry-unsettled-p entry)))
         (due (and entry (smtpmail-native-entry-due-p entry (float-time)))))
    (cond
     ((null entry) nil)
     ((not (or due unsettled))
      (smtpmail-native-schedule--count-held entry)
      (smtpmail-native-entry-next-look entry))
     ((and due (not unsettled) (not (smtpmail-native-schedule-free-p envelope)))
      (smtpmail-native-entry-account-key envelope))
     ;; Another Emacs has it, and may end before it is done.
     ((not (smtpmail-native-outbox-claim entry))
      (+ (float-time) smtpmail-native-attempt--rescan))
     (t
      (let ((done nil))
        (unwind-protect
            (prog1 (smtpmail-native-schedule--try-claimed entry)
              (setq done t))
          (unless done
            (smtpmail-native-outbox-release entry))))))))

(defun smtpmail-native-schedule--try-claimed (entry)
  "Do for ENTRY, which is claimed, what `smtpmail-native-schedule--try' does.
Its files have been read anew: what was true of it before may be no more."
  (cond
   ((and (smtpmail-native-entry-unsettled-p entry)
         (not (smtpmail-native-schedule-recover entry)))
    (smtpmail-native-schedule--count-held entry)
    (smtpmail-native-entry-next-look entry))
   ((not (smtpmail-native-entry-due-p entry (float-time)))
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-entry-next-look entry))
   ((smtpmail-native-schedule-free-p (smtpmail-native-entry-envelope entry))
    (ignore (smtpmail-native-attempt entry)))
   (t
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-entry-account-key
     (smtpmail-native-entry-envelope entry)))))

;;;; Those that wait

(defun smtpmail-native-schedule-busy-p ()
  "Return non-nil while something is under way, or about to be, in this Emacs."
  (or smtpmail-native-schedule--ready
      smtpmail-native-schedule--waiting
      (> (hash-table-count smtpmail-native-attempt--active) 0)))

(defun smtpmail-native-schedule-look-at (ids)
  "See to it that the entries IDS are looked at, behind all others."
  (setq smtpmail-native-schedule--ready
        (nconc smtpmail-native-schedule--ready ids)))

(defun smtpmail-native-schedule--wait-for (key id)
  "Let the entry ID wait until the account KEY has a free session."
  (let ((account (assoc key smtpmail-native-schedule--waiting)))
    (if account
        (push id (cddr account))
      (push (list key (list id)) smtpmail-native-schedule--waiting))))

(defun smtpmail-native-schedule--next-waiting ()
  "Return the id of the next entry whose account has a free session, or nil.
It does not wait any more then."
  (let ((account (seq-find (lambda (account)
                             (smtpmail-native-schedule--key-free-p (car account)))
                           smtpmail-native-schedule--waiting)))
    (when account
      (unless (cadr account)
        (setf (cadr account) (nreverse (cddr account))
              (cddr account) nil))
      (prog1 (pop (cadr account))
        (unless (or (cadr account) (cddr account))
          (setq smtpmail-native-schedule--waiting
                (delq account smtpmail-native-schedule--waiting)))))))

(defun smtpmail-native-schedule--count-held (entry)
  "Count ENTRY if it needs the user, and if that is still to be told."
  (when (and smtpmail-native-schedule--held
             (smtpmail-native-entry-needs-user-p entry))
    (setq smtpmail-native-schedule--held (1+ smtpmail-native-schedule--held))))

(defun smtpmail-native-schedule--tell-held ()
  "Say how many mails wait for the user, once all have been looked at.
To read all of a large outbox for that would stop Emacs."
  (let ((count smtpmail-native-schedule--held))
    (when (and count (null smtpmail-native-schedule--ready))
      (setq smtpmail-native-schedule--held nil)
      (when (> count 0)
        (smtpmail-native-tell-say
         "%d mail%s in the outbox need%s you: M-x smtpmail-native-outbox"
         count (if (= count 1) "" "s") (if (= count 1) "s" ""))))))

;;;; Timers

(defun smtpmail-native-schedule--advance ()
  "Send entries that are due, as far as there are free sessions.
Give Emacs back after a moment, and go on from a timer."
  (let ((until (+ (float-time) smtpmail-native-schedule--slice))
        id)
    (while (and (or noninteractive (< (float-time) until))
                (setq id (or (smtpmail-native-schedule--next-waiting)
                             (pop smtpmail-native-schedule--ready))))
      (let ((result (condition-case err
                        (smtpmail-native-schedule--try id)
                      (error
                       (display-warning 'smtpmail-native
                                        (error-message-string err))
                       (+ (float-time) smtpmail-native-attempt--rescan)))))
        (cond ((consp result) (smtpmail-native-schedule--wait-for result id))
              (result (smtpmail-native-schedule-at result)))))
    (smtpmail-native-schedule--tell-held)
    (when id
      (smtpmail-native-schedule--later))))

(defun smtpmail-native-schedule--later ()
  "Go on with `smtpmail-native-schedule--advance' in a moment."
  (unless (memq smtpmail-native-schedule--advance-timer timer-list)
    (setq smtpmail-native-schedule--advance-timer
          (run-at-time 0.01 nil #'smtpmail-native-schedule-on-timer
                       #'smtpmail-native-schedule--advance))))

(defun smtpmail-native-schedule-on-timer (function)
  "Call FUNCTION; an error is a warning."
  (condition-case err
      (funcall function)
    (error (display-warning 'smtpmail-native (error-message-string err)))))

(defun smtpmail-native-schedule-at (time)
  "See to it that the outbox is looked at by TIME, in seconds."
  (when (and (not smtpmail-native-attempt--once)
             (or (not (memq smtpmail-native-schedule--timer timer-list))
                 (< time (float-time
                          (timer--time smtpmail-native-schedule--timer)))))
    (when smtpmail-native-schedule--timer
      (cancel-timer smtpmail-native-schedule--timer))
    (setq smtpmail-native-schedule--timer
          (run-at-time (max 0.01 (- time (float-time))) nil
                       #'smtpmail-native-schedule-on-timer
                       #'smtpmail-native-schedule-resume))))

(defun smtpmail-native-schedule-resume ()
  "Look through the outbox: settle what was left, send what is due.
Signal `smtpmail-native-outbox-error' if it cannot be read."
  (let ((ids (smtpmail-native-outbox-ids)))
    (when ids
      (smtpmail-native-load)
      (setq smtpmail-native-schedule--ready ids
            smtpmail-native-schedule--waiting nil)
      (smtpmail-native-schedule--advance))))

(defun smtpmail-native-schedule-start ()
  "Take up what an earlier Emacs has left in the outbox.
Nothing is done without the module, and no error is signalled."
  (when (and (smtpmail-native-load-available-p)
             (file-directory-p smtpmail-native-outbox-directory))
    (smtpmail-native-schedule-on-timer
     (lambda ()
       (smtpmail-native-leftovers-empty-trash)
       (smtpmail-native-leftovers-adopt)
       (setq smtpmail-native-schedule--held 0)
       (smtpmail-native-schedule-resume)
       (smtpmail-native-schedule--tell-held)
       (smtpmail-native-tell-changed nil)))))

;;;; Those that may go on

(defun smtpmail-native-schedule-let-go-on (entry wanted)
  "Make ENTRY due now, if it is ours to do and the predicate WANTED holds.
Another Emacs may have done something to it since it was read.  An error is
a warning, so that other entries are not held up."
  (condition-case err
      (when (and (or (plist-get (smtpmail-native-entry-state entry) :next)
                     (plist-get (smtpmail-native-entry-state entry) :hold))
                 (smtpmail-native-outbox-claim entry))
        (unwind-protect
            (when (and (funcall wanted entry)
                       (not (smtpmail-native-entry-unsettled-p entry)))
              (smtpmail-native-outbox-set entry :status 'ready :hold nil
                                          :refused nil :passphrase nil
                                          :renewed nil :next nil :undo nil))
          (smtpmail-native-outbox-release entry)))
    (error (display-warning 'smtpmail-native (error-message-string err)))))

(defun smtpmail-native-schedule-locked ()
  "Return the entries that are held for want of a password."
  (seq-filter #'smtpmail-native-entry-locked-p (smtpmail-native-outbox-list)))

(defun smtpmail-native-schedule--go-on-with (entries wanted)
  "Send each of ENTRIES that satisfies WANTED when it is claimed."
  (dolist (entry entries)
    (smtpmail-native-schedule-let-go-on entry wanted))
  (smtpmail-native-schedule-look-at (mapcar #'smtpmail-native-entry-id entries))
  (when entries
    (smtpmail-native-schedule--later)))

(defun smtpmail-native-schedule--unlock (envelope)
  "Send what was held for a password of the account of ENVELOPE."
  (let ((key (smtpmail-native-entry-account-key envelope)))
    (smtpmail-native-schedule--go-on-with
     (seq-filter (lambda (entry)
                   (equal key (smtpmail-native-entry-account-key
                               (smtpmail-native-entry-envelope entry))))
                 (smtpmail-native-schedule-locked))
     #'smtpmail-native-entry-locked-p)))

(defun smtpmail-native-schedule-trust-changed (host port)
  "Send what was held for the certificate of HOST at PORT.
HOST is a string, PORT an integer.  What is still not to be trusted is held
again."
  (smtpmail-native-schedule--go-on-with
   (seq-filter (lambda (entry)
                 (let ((envelope (smtpmail-native-entry-envelope entry)))
                   (and (smtpmail-native-entry-untrusted-p entry)
                        (equal (plist-get envelope :port) port)
                        (string= (downcase (plist-get envelope :host))
                                 (downcase host)))))
               (smtpmail-native-outbox-list))
   #'smtpmail-native-entry-untrusted-p))

(defun smtpmail-native-schedule--attempt-ended (entry plist)
  "Go on after the end of an attempt for ENTRY, about which PLIST tells more.
For `smtpmail-native-attempt-ended-functions'."
  (let* ((state (smtpmail-native-entry-state entry))
         (next (or (plist-get plist :again)
                   (plist-get state :next)
                   (smtpmail-native-entry-release-time entry))))
    (when (and (eq (plist-get state :status) 'ready)
               (not (smtpmail-native-attempt-sending
                     (smtpmail-native-entry-id entry))))
      (cond (next (smtpmail-native-schedule-at next))
            ((or (plist-get state :renewed) (plist-get state :more))
             ;; The function that has the token is not called in a filter.
             (smtpmail-native-schedule-look-at
              (list (smtpmail-native-entry-id entry)))
             (smtpmail-native-schedule--later))))
    (smtpmail-native-schedule--advance)
    (when (plist-get plist :secret)
      (smtpmail-native-schedule--unlock
       (smtpmail-native-entry-envelope entry)))))

(add-hook 'smtpmail-native-attempt-ended-functions
          #'smtpmail-native-schedule--attempt-ended)

(provide 'smtpmail-native-schedule)
;;; smtpmail-native-schedule.el ends here
