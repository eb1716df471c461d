;;; smtpmail-native-schedule.el --- What is next  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Which entry is sent when: entries that wait for a session, entries whose time
;; comes, and what another Emacs has left.  All that concerns many
;; entries is done from a timer, a slice at a time.
;;
;; Nothing is sent by itself before `smtpmail-native-schedule-start': the mode,
;; the first message that is sent in the background, or a command calls it.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-fifo)
(require 'smtpmail-native-go)
(require 'smtpmail-native-index)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-spare)
(require 'smtpmail-native-tell)

(defconst smtpmail-native-schedule--rescan 300
  "Seconds after which the outbox is looked through again.")

(defvar smtpmail-native-schedule--started nil
  "Non-nil if this Emacs sends by itself what waits in the outbox.")

(defvar smtpmail-native-schedule--looking nil
  "Non-nil while all entries are looked at, to be sent if they are due.")

(defvar smtpmail-native-schedule--ready (smtpmail-native-fifo-make)
  "Ids of the entries to be sent if they are due.")

(defvar smtpmail-native-schedule--waiting nil
  "Accounts without a free session, and the entries that wait for one.
An alist of (KEY . FIFO); an item is as in `smtpmail-native-schedule--go'.")

(defvar smtpmail-native-schedule--permits (smtpmail-native-fifo-make)
  "Entries that may go on if they are what was meant: (ID . PREDICATE).
A function is called in its turn, and again after all others if it returns
non-nil.")

(defvar smtpmail-native-schedule-idle-hook nil
  "Hook that is run when all that could be sent has had its turn.")

(defvar smtpmail-native-schedule--tell-left nil
  "Non-nil if it is still to be told what an earlier session has left.")

(defvar smtpmail-native-schedule--timer nil
  "The timer of the next entry that is due, or nil.")

(defvar smtpmail-native-schedule--look-timer nil
  "The timer of the next look through the outbox, or nil.")

(defvar smtpmail-native-schedule--advance-timer nil
  "The timer that goes on with `smtpmail-native-schedule--advance', or nil.")


;;;; Waiting for a session

(defun smtpmail-native-schedule-busy-p ()
  "Return non-nil while something is under way, or about to be, in this Emacs."
  (or (not (smtpmail-native-fifo-empty-p smtpmail-native-schedule--permits))
      (not (smtpmail-native-fifo-empty-p smtpmail-native-schedule--ready))
      smtpmail-native-schedule--waiting
      (and smtpmail-native-schedule--looking
           (smtpmail-native-index-busy-p))
      (smtpmail-native-attempt-any-p)))

(defun smtpmail-native-schedule-look-at (ids)
  "Have the entries IDS sent if they are due, after all others, and soon."
  (dolist (id ids)
    (smtpmail-native-fifo-put smtpmail-native-schedule--ready id))
  (when ids
    (smtpmail-native-schedule--later)))

(defun smtpmail-native-schedule--wait-for (key item)
  "Let ITEM wait until the account KEY has a free session."
  (let ((account (assoc key smtpmail-native-schedule--waiting)))
    (unless account
      (setq account (cons key (smtpmail-native-fifo-make)))
      (push account smtpmail-native-schedule--waiting))
    (smtpmail-native-fifo-put (cdr account) item)))

(defun smtpmail-native-schedule--next-waiting ()
  "Return the next item whose account has a free session, or nil.
It does not wait any more then."
  (let ((account (seq-find (lambda (account)
                             (smtpmail-native-go-key-free-p
                              (car account)))
                           smtpmail-native-schedule--waiting)))
    (when account
      (prog1 (smtpmail-native-fifo-take (cdr account))
        (when (smtpmail-native-fifo-empty-p (cdr account))
          (setq smtpmail-native-schedule--waiting
                (delq account smtpmail-native-schedule--waiting)))))))

(defun smtpmail-native-schedule--counted (count singular plural)
  "Return COUNT with the noun and verb SINGULAR or PLURAL, or nil if it is 0."
  (pcase count
    (0 nil)
    (1 (concat "1 " singular))
    (_ (format "%d %s" count plural))))

(defun smtpmail-native-schedule--tell-left ()
  "Say what an earlier session has left, once all has been looked at."
  (when (and smtpmail-native-schedule--tell-left
             (not (smtpmail-native-index-busy-p)))
    (setq smtpmail-native-schedule--tell-left nil)
    (let* ((needy (smtpmail-native-index-count
                   #'smtpmail-native-entry-needs-user-p))
           (waiting (smtpmail-native-index-count
                     (lambda (entry)
                       (or (smtpmail-native-entry-queued-p entry)
                           (and (eq (smtpmail-native-entry-status entry) 'ready)
                                (not (smtpmail-native-attempt-sending
                                      (smtpmail-native-entry-id entry))))))))
           (parts (delq nil
                        (list (smtpmail-native-schedule--counted
                               waiting "message waits" "messages wait")
                              (smtpmail-native-schedule--counted
                               needy "message needs attention"
                               "messages need attention")))))
      (when parts
        (smtpmail-native-tell-say
         "%s in the outbox; type M-x smtpmail-native-outbox"
         (string-join parts ", "))))))

;;;; Going on

(defun smtpmail-native-schedule--go (item)
  "Send what ITEM stands for if it can be, or let it wait for a session.
It is the id of an entry that may be due, (ID . PREDICATE) of one that may go
on, or a function as in `smtpmail-native-schedule--permits'."
  (let ((key (apply #'smtpmail-native-quiet-guard
                    "Cannot send a message that waits"
                    (cond
                     ((functionp item) (list item))
                     ((consp item)
                      (list #'smtpmail-native-go-on (car item) (cdr item)))
                     (t (list #'smtpmail-native-go-try item))))))
    (cond ((functionp item) (when key (smtpmail-native-schedule-walk item)))
          ((consp key) (smtpmail-native-schedule--wait-for key item))
          (key (smtpmail-native-schedule-look-at (list (car item)))))))

(defun smtpmail-native-schedule--step (until)
  "Do one thing that is to be done; return nil if there is none.
Reading ends at the time UNTIL."
  (let (item)
    (cond
     ;; A session that is free is kept busy before others are let go on.
     ((setq item (smtpmail-native-schedule--next-waiting))
      (smtpmail-native-schedule--go item)
      t)
     ((setq item (smtpmail-native-fifo-take smtpmail-native-schedule--permits))
      (smtpmail-native-schedule--go item)
      t)
     ((setq item (smtpmail-native-fifo-take smtpmail-native-schedule--ready))
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
    (smtpmail-native-schedule--tell-left)
    (if (not more)
        (smtpmail-native-schedule--idle)
      (smtpmail-native-spare-begin)
      (smtpmail-native-schedule--later))))

(defun smtpmail-native-schedule--idle ()
  "Run `smtpmail-native-schedule-idle-hook' if there is nothing to do."
  (unless (or (smtpmail-native-schedule-busy-p)
              (smtpmail-native-index-busy-p))
    (smtpmail-native-spare-end)
    (smtpmail-native-tell-each 'smtpmail-native-schedule-idle-hook)))

(defun smtpmail-native-schedule--later ()
  "Go on with `smtpmail-native-schedule--advance' in a moment."
  (unless (memq smtpmail-native-schedule--advance-timer timer-list)
    (setq smtpmail-native-schedule--advance-timer
          (smtpmail-native-quiet-timer 0.001
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
          (or (smtpmail-native-go-try-p entry now)
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
      (if (smtpmail-native-go-try-p entry now)
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
    (if smtpmail-native-schedule--waiting
        (smtpmail-native-schedule--later)
      (smtpmail-native-schedule--idle))))

(add-hook 'smtpmail-native-changed-functions #'smtpmail-native-schedule-note)
(add-hook 'smtpmail-native-attempt-ended-functions
          #'smtpmail-native-schedule--ended)

;;;; Permits

(defun smtpmail-native-schedule-permit (ids wanted)
  "Send each of the entries IDS for which WANTED holds when it is claimed.
It is done a slice at a time, by itself."
  (dolist (id ids)
    (smtpmail-native-fifo-put smtpmail-native-schedule--permits
                              (cons id wanted)))
  (when ids
    (smtpmail-native-schedule--later)))

(defun smtpmail-native-schedule-walk (function)
  "Call FUNCTION in its turn, until it returns nil, to let entries go on."
  (smtpmail-native-fifo-put smtpmail-native-schedule--permits function)
  (smtpmail-native-schedule--later))

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
