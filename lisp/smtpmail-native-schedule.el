;;; smtpmail-native-schedule.el --- What is next  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Which entry is sent when: those that are ready and wait for a session, those
;; whose time comes, and what another Emacs has left.  All that concerns many
;; entries is done from a timer, a slice at a time.
;;
;; Nothing is sent by itself before `smtpmail-native-schedule-start': the mode,
;; the first message that is sent in the background, or a command calls it.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-leftovers)
(require 'smtpmail-native-load)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-tell)

(defconst smtpmail-native-schedule--rescan 300
  "Seconds after which the outbox is looked through again.")

(defconst smtpmail-native-schedule--in-flight 64
  "How many messages of an account the module has at a time.
It needs to know the next one before the last one is done, to send both
without a pause.")

(defvar smtpmail-native-schedule--started nil
  "Non-nil if this Emacs sends by itself what waits in the outbox.")

(defvar smtpmail-native-schedule-draining nil
  "Non-nil while a batch Emacs sends what waits, each message once.
What it lacks another Emacs may have, and so it holds nothing for that.")

(defvar smtpmail-native-schedule--looking nil
  "Non-nil while all entries are looked at, to be sent if they are due.")

(defvar smtpmail-native-schedule--ready nil
  "Ids of the entries to be sent if they are due, in order.")

(defvar smtpmail-native-schedule--waiting nil
  "Accounts without a free session, and the entries that wait for one.
An alist of (KEY FRONT . BACK): the items FRONT, then those of BACK from its
end on.  So ten thousand of them cost no more to go on with than one.  An
item is as in `smtpmail-native-schedule--go'.")

(defvar smtpmail-native-schedule--permits nil
  "Entries that may go on if they are what was meant: (ID . PREDICATE).")

(defvar smtpmail-native-schedule--tried (make-hash-table :test #'equal)
  "What this Emacs could not send either: values of :by, a list, by entry id.
All are kept: several sessions, each with another wrong password, would take
turns for ever.")

(defvar smtpmail-native-schedule--tell-held nil
  "Non-nil if it is still to be told how many entries need the user.")

(defvar smtpmail-native-schedule--timer nil
  "The timer of the next entry that is due, or nil.")

(defvar smtpmail-native-schedule--look-timer nil
  "The timer of the next look through the outbox, or nil.")

(defvar smtpmail-native-schedule--advance-timer nil
  "The timer that goes on with `smtpmail-native-schedule--advance', or nil.")

;;;; What another Emacs has left

(defun smtpmail-native-schedule-recover (entry)
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

(defun smtpmail-native-schedule--key-free-p (key)
  "Return non-nil if one more message for the account KEY may begin."
  (< (smtpmail-native-attempt-count key) smtpmail-native-schedule--in-flight))

(defun smtpmail-native-schedule-free-p (envelope)
  "Return non-nil if one more message for the account of ENVELOPE may begin."
  (smtpmail-native-schedule--key-free-p
   (smtpmail-native-entry-account-key envelope)))

;;;; One entry

(defun smtpmail-native-schedule--trial-p (entry)
  "Return non-nil if this Emacs may be able to send ENTRY, and has not tried.
It is held for what another one lacks."
  (and (smtpmail-native-entry-other-way-p entry
                                          smtpmail-native-identity-instance)
       (not (member (plist-get (smtpmail-native-entry-state entry) :by)
                    (gethash (smtpmail-native-entry-id entry)
                             smtpmail-native-schedule--tried)))))

(defun smtpmail-native-schedule--try-p (entry now)
  "Return non-nil if there is something to be done for ENTRY at the time NOW."
  (or (smtpmail-native-entry-due-p entry now)
      (smtpmail-native-entry-unsettled-p entry)
      (smtpmail-native-schedule--trial-p entry)))

(defun smtpmail-native-schedule--attempt (entry)
  "Try ENTRY, which is claimed, for which another Emacs lacked something."
  (let ((by (plist-get (smtpmail-native-entry-state entry) :by)))
    (push by (gethash (smtpmail-native-entry-id entry)
                      smtpmail-native-schedule--tried))
    (smtpmail-native-attempt entry :trial t)))

(defun smtpmail-native-schedule--expire (entry)
  "Hold ENTRY, which is claimed and was not sent in time."
  (smtpmail-native-attempt-hold
   entry (list :status 'held :hold 'expired :next nil
               :text (or (plist-get (smtpmail-native-entry-state entry) :text)
                         "Not sent in time"))))

(defun smtpmail-native-schedule--let-go (entry)
  "Let go of ENTRY, which is claimed, and note how it is."
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-index-put entry))

(defun smtpmail-native-schedule--try-claimed (entry)
  "Do for ENTRY, which is claimed, what `smtpmail-native-schedule--try' does.
Its files have been read anew: what was true of it before may be no more."
  (let ((now (float-time))
        (envelope (smtpmail-native-entry-envelope entry)))
    (cond
     ((and (smtpmail-native-entry-unsettled-p entry)
           (not (smtpmail-native-schedule-recover entry)))
      nil)
     ((smtpmail-native-schedule--trial-p entry)
      (ignore (smtpmail-native-schedule--attempt entry)))
     ((not (smtpmail-native-entry-due-p entry now))
      (ignore (smtpmail-native-schedule--let-go entry)))
     ((smtpmail-native-entry-old-p entry now)
      (ignore (smtpmail-native-schedule--expire entry)))
     ((smtpmail-native-schedule-free-p envelope)
      (ignore (smtpmail-native-attempt
               entry :trial (and smtpmail-native-schedule-draining 'tell))))
     (t
      (smtpmail-native-schedule--let-go entry)
      (smtpmail-native-entry-account-key envelope)))))

(defun smtpmail-native-schedule--claim (id)
  "Return the entry ID, claimed and read anew.
The value is nil if it is gone or in use."
  (let ((entry (smtpmail-native-entry-make :id id)))
    (or (smtpmail-native-outbox-claim entry)
        (progn
          (unless (file-exists-p (directory-file-name
                                  (smtpmail-native-outbox-file entry)))
            (smtpmail-native-index-drop id))
          nil))))

(defun smtpmail-native-schedule--try (id)
  "Send the entry ID if it is due and no other Emacs works on it.
Return the key of its account if that has no free session, else nil."
  (let* ((known (smtpmail-native-index-entry id))
         (now (float-time)))
    (cond
     ((or (null known)
          (smtpmail-native-attempt-sending id)
          (not (smtpmail-native-schedule--try-p known now)))
      nil)
     ((and (smtpmail-native-entry-due-p known now)
           (not (smtpmail-native-entry-unsettled-p known))
           (not (smtpmail-native-schedule-free-p
                 (smtpmail-native-entry-envelope known))))
      (smtpmail-native-entry-account-key
       (smtpmail-native-entry-envelope known)))
     (t
      (let ((entry (smtpmail-native-schedule--claim id))
            (done nil))
        (when entry
          (unwind-protect
              (prog1 (smtpmail-native-schedule--try-claimed entry)
                (setq done t))
            (unless done
              (smtpmail-native-outbox-release entry)))))))))

;;;; Those that wait

(defun smtpmail-native-schedule-busy-p ()
  "Return non-nil while something is under way, or about to be, in this Emacs."
  (or smtpmail-native-schedule--permits
      smtpmail-native-schedule--ready
      smtpmail-native-schedule--waiting
      (and smtpmail-native-schedule--looking
           (smtpmail-native-index-busy-p))
      (smtpmail-native-attempt-any-p)))

(defun smtpmail-native-schedule-look-at (ids)
  "Have the entries IDS sent if they are due, after all others, and soon."
  (setq smtpmail-native-schedule--ready
        (nconc smtpmail-native-schedule--ready ids))
  (when ids
    (smtpmail-native-schedule--later)))

(defun smtpmail-native-schedule--wait-for (key item)
  "Let ITEM wait until the account KEY has a free session."
  (let ((account (assoc key smtpmail-native-schedule--waiting)))
    (if account
        (push item (cddr account))
      (push (list key (list item)) smtpmail-native-schedule--waiting))))

(defun smtpmail-native-schedule--next-waiting ()
  "Return the next item whose account has a free session, or nil.
It does not wait any more then."
  (let ((account (seq-find (lambda (account)
                             (smtpmail-native-schedule--key-free-p
                              (car account)))
                           smtpmail-native-schedule--waiting)))
    (when account
      (unless (cadr account)
        (setf (cadr account) (nreverse (cddr account))
              (cddr account) nil))
      (prog1 (pop (cadr account))
        (unless (or (cadr account) (cddr account))
          (setq smtpmail-native-schedule--waiting
                (delq account smtpmail-native-schedule--waiting)))))))

(defun smtpmail-native-schedule--tell-held ()
  "Say how many messages need the user, once all have been looked at."
  (when (and smtpmail-native-schedule--tell-held
             (not (smtpmail-native-index-busy-p)))
    (setq smtpmail-native-schedule--tell-held nil)
    (let ((count (smtpmail-native-index-count
                  #'smtpmail-native-entry-needs-user-p)))
      (when (> count 0)
        (smtpmail-native-tell-say
         "%d message%s in the outbox need%s attention; \
type M-x smtpmail-native-outbox"
         count (if (= count 1) "" "s") (if (= count 1) "s" ""))))))

;;;; Going on

(defun smtpmail-native-schedule--go (item)
  "Send what ITEM stands for if it can be, or let it wait for a session.
It is the id of an entry that may be due, or (ID . PREDICATE) of one that may
go on."
  (let ((key (apply #'smtpmail-native-quiet-guard
                    "Cannot send a message that waits"
                    (if (consp item)
                        (list #'smtpmail-native-schedule--let-go-on
                              (car item) (cdr item))
                      (list #'smtpmail-native-schedule--try item)))))
    (when (and key (not (consp item)))
      (smtpmail-native-schedule--wait-for key item))))

(defun smtpmail-native-schedule--step (until)
  "Do one thing that is to be done; return nil if there is none.
Reading ends at the time UNTIL."
  (let (item)
    (cond
     ;; A session that is free is kept busy before others are let go on.
     ((setq item (smtpmail-native-schedule--next-waiting))
      (smtpmail-native-schedule--go item)
      t)
     ((setq item (pop smtpmail-native-schedule--permits))
      (smtpmail-native-schedule--go item)
      t)
     ((setq item (pop smtpmail-native-schedule--ready))
      (smtpmail-native-schedule--go item)
      t)
     ((smtpmail-native-index-busy-p)
      (smtpmail-native-index-step until)
      t)
     (t
      (setq smtpmail-native-schedule--looking nil)
      nil))))

(defun smtpmail-native-schedule--advance ()
  "Send entries that are due, as far as there are free sessions.
Give Emacs back after a moment, and go on from a timer."
  (let ((until (+ (float-time) smtpmail-native-index-slice))
        (more t))
    (while (and more (or noninteractive (< (float-time) until)))
      (setq more (smtpmail-native-schedule--step until)))
    (smtpmail-native-schedule--tell-held)
    (when more
      (smtpmail-native-schedule--later))))

(defun smtpmail-native-schedule--later ()
  "Go on with `smtpmail-native-schedule--advance' in a moment."
  (unless (memq smtpmail-native-schedule--advance-timer timer-list)
    (setq smtpmail-native-schedule--advance-timer
          (smtpmail-native-quiet-timer 0.01
                                       #'smtpmail-native-schedule--advance))))

(defun smtpmail-native-schedule-at (time)
  "Have what is due sent at TIME, in seconds."
  (when (and smtpmail-native-schedule--started
             (or (not (memq smtpmail-native-schedule--timer timer-list))
                 (< time (float-time
                          (timer--time smtpmail-native-schedule--timer)))))
    (when smtpmail-native-schedule--timer
      (cancel-timer smtpmail-native-schedule--timer))
    (setq smtpmail-native-schedule--timer
          (smtpmail-native-quiet-timer (max 0.01 (- time (float-time)))
                                       #'smtpmail-native-schedule--due))))

(defun smtpmail-native-schedule--due ()
  "Send what is due by now, and set the timer for the next."
  (let ((now (float-time))
        (next nil))
    (smtpmail-native-schedule-look-at
     (smtpmail-native-index-select
      (lambda (entry)
        (unless (smtpmail-native-attempt-sending
                 (smtpmail-native-entry-id entry))
          (or (smtpmail-native-schedule--try-p entry now)
              (let ((time (smtpmail-native-entry-next-look entry now)))
                (when time
                  (setq next (min time (or next time))))
                nil))))))
    (when next
      (smtpmail-native-schedule-at next))
    (smtpmail-native-schedule--advance)))

(defun smtpmail-native-schedule-note (id)
  "See when the entry ID, to which something has happened, is sent.
For `smtpmail-native-changed-functions'."
  (let ((entry (and id
                    (or smtpmail-native-schedule--started
                        smtpmail-native-schedule--looking)
                    (not (smtpmail-native-attempt-sending id))
                    (smtpmail-native-index-entry id)))
        (now (float-time)))
    (when entry
      (if (smtpmail-native-schedule--try-p entry now)
          (smtpmail-native-schedule-look-at (list id))
        (let ((next (smtpmail-native-entry-next-look entry now)))
          (when next
            (smtpmail-native-schedule-at next)))))))

(defun smtpmail-native-schedule--ended (entry plist)
  "Go on after the end of an attempt for ENTRY, about which PLIST tells more.
For `smtpmail-native-attempt-ended-functions'."
  (let ((again (plist-get plist :again))
        (id (smtpmail-native-entry-id entry)))
    (cond
     (again
      (when smtpmail-native-schedule--started
        (smtpmail-native-quiet-timer (- again (float-time))
                                     #'smtpmail-native-schedule-look-at
                                     (list id))))
     ((and (eq (smtpmail-native-entry-status entry) 'ready)
           (or (plist-get (smtpmail-native-entry-state entry) :renewed)
               (plist-get (smtpmail-native-entry-state entry) :more))
           (smtpmail-native-index-entry id))
      (smtpmail-native-schedule-look-at (list id))))
    (when (plist-get plist :secret)
      (smtpmail-native-schedule-unlock (smtpmail-native-entry-envelope entry)))
    (when smtpmail-native-schedule--waiting
      (smtpmail-native-schedule--later))))

(add-hook 'smtpmail-native-changed-functions #'smtpmail-native-schedule-note)
(add-hook 'smtpmail-native-attempt-ended-functions
          #'smtpmail-native-schedule--ended)

;;;; Those that may go on

(defun smtpmail-native-schedule--grant (entry note)
  "Make ENTRY, which is claimed, due now.
NOTE is the function that changes its state."
  (funcall note entry :status 'ready :hold nil :by nil :renewed nil :next nil
           :undo nil :since (truncate (float-time))))

(defun smtpmail-native-schedule--permitted (id wanted)
  "Return the entry ID, claimed, if it may go on and satisfies WANTED, or nil.
WANTED is checked after claiming, because another Emacs may have changed it."
  (let ((entry (and (not (smtpmail-native-attempt-sending id))
                    (smtpmail-native-schedule--claim id)))
        (good nil))
    (unwind-protect
        (and entry
             (setq good (and (funcall wanted entry)
                             (not (smtpmail-native-entry-unsettled-p entry))))
             entry)
      (when (and entry (not good))
        (smtpmail-native-outbox-release entry)
        (smtpmail-native-index-put entry)))))

(defun smtpmail-native-schedule--send-permitted (id wanted)
  "Begin to send the entry ID, if it can be claimed and satisfies WANTED.
Nothing is written for that: should Emacs end, its receipt tells how far it
came, and without one it is where it was.  Return non-nil if it has begun."
  (let ((entry (smtpmail-native-schedule--permitted id wanted))
        (done nil))
    (when entry
      (unwind-protect
          (progn
            (smtpmail-native-schedule--grant entry #'smtpmail-native-outbox-note)
            (setq done t)
            (smtpmail-native-attempt entry
                                     :trial smtpmail-native-schedule-draining))
        (unless done
          (smtpmail-native-outbox-release entry)))
      (smtpmail-native-attempt-sending id))))

(defun smtpmail-native-schedule--write-permitted (id wanted)
  "Have the entry ID, if it satisfies WANTED, sent like others that are due."
  (let ((entry (smtpmail-native-schedule--permitted id wanted)))
    (when entry
      (unwind-protect
          (smtpmail-native-schedule--grant entry #'smtpmail-native-outbox-set)
        (smtpmail-native-outbox-release entry))
      (smtpmail-native-index-put entry)
      (smtpmail-native-schedule-look-at (list id)))))

(defun smtpmail-native-schedule--let-go-on (id wanted)
  "Send the entry ID if it satisfies WANTED, or let it wait for a session."
  (let* ((known (smtpmail-native-index-entry id))
         (key (and known
                   (smtpmail-native-entry-account-key
                    (smtpmail-native-entry-envelope known)))))
    (cond
     ((and known (not (smtpmail-native-schedule--key-free-p key)))
      (smtpmail-native-schedule--wait-for key (cons id wanted)))
     ;; What could not begin, and is not held for that, is tried as what is due.
     ((not (and known (smtpmail-native-schedule--send-permitted id wanted)))
      (smtpmail-native-schedule--write-permitted id wanted)))))

(defun smtpmail-native-schedule-permit (ids wanted)
  "Send each of the entries IDS for which WANTED holds when it is claimed.
It is done a slice at a time, by itself."
  (setq smtpmail-native-schedule--permits
        (nconc smtpmail-native-schedule--permits
               (mapcar (lambda (id) (cons id wanted)) ids)))
  (when ids
    (smtpmail-native-schedule--later)))

(defun smtpmail-native-schedule-unlock (envelope)
  "Send what was held for a password of the account of ENVELOPE."
  (let ((key (smtpmail-native-entry-account-key envelope)))
    (smtpmail-native-tell-again (cons 'password key))
    (smtpmail-native-schedule-permit
     (smtpmail-native-index-select
      (lambda (entry)
        (and (smtpmail-native-entry-locked-p entry)
             (equal key (smtpmail-native-entry-account-key
                         (smtpmail-native-entry-envelope entry))))))
     #'smtpmail-native-entry-locked-p)))

(defun smtpmail-native-schedule-trust-changed (host port)
  "Send what was held for the certificate of HOST at PORT.
HOST is a string, PORT an integer.  What is still not to be trusted is held
again."
  (smtpmail-native-schedule-permit
   (smtpmail-native-index-select
    (lambda (entry)
      (let ((envelope (smtpmail-native-entry-envelope entry)))
        (when (and (smtpmail-native-entry-untrusted-p entry)
                   (equal (plist-get envelope :port) port)
                   (string= (downcase (plist-get envelope :host))
                            (downcase host)))
          (smtpmail-native-tell-again (smtpmail-native-tell-hold-key entry))
          t))))
   #'smtpmail-native-entry-untrusted-p))

(provide 'smtpmail-native-schedule)
;;; smtpmail-native-schedule.el ends here
