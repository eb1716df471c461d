;;; smtpmail-native-network.el --- Mail goes when the network is back  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A message that failed for the network is not kept waiting for its next try
;; once there may be a network again.  The module watches the routes, links and
;; the clock of the system while there is such a message, and only then.
;;
;; News are no proof: a new link may lead nowhere yet.  So they are given a
;; moment to settle, and then one message of each account is tried; when that
;; one has reached its server, the others of the account follow.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-schedule)

(declare-function sleep-event-state "ext:system-sleep" (event) t)

(defconst smtpmail-native-network--moment 1
  "Seconds without news after which they have settled.
Up to twice as much is added at random: not all machines of a house that gets
its network back knock at the server at the same time.")

(defconst smtpmail-native-network--longest 10
  "Seconds after which news have settled even if there are more.")

(defconst smtpmail-native-network--pause 20
  "Seconds at least between two times that news make messages go.")

(defvar smtpmail-native-network--watched nil
  "Non-nil while the module watches, or has said that it cannot.")

(defvar smtpmail-native-network--first nil
  "When the first of the news came that have not settled, seconds, or nil.")

(defvar smtpmail-native-network--last nil
  "When news made messages go last, seconds, or nil.")

(defvar smtpmail-native-network--timer nil
  "The timer that makes messages go, or nil.")

(defvar smtpmail-native-network--probed nil
  "Keys of the accounts of which one message is tried for all.")

;;;; Sending what waited

(defun smtpmail-native-network--waits-p (entry)
  "Return non-nil if ENTRY failed for the network and waits for its next try."
  (and (smtpmail-native-entry-offline-p entry)
       (not (smtpmail-native-attempt-sending (smtpmail-native-entry-id entry)))
       (not (smtpmail-native-entry-due-p entry (float-time)))))

(defun smtpmail-native-network--let-go (id)
  "Make the entry ID, if it still waits for the network, due now.
Its age and the number of its tries stay as they are: this is not your word."
  (unless (smtpmail-native-attempt-sending id)
    (condition-case nil
        (smtpmail-native-attempt-change
         id (lambda (entry)
              (when (smtpmail-native-network--waits-p entry)
                (smtpmail-native-outbox-set entry :next nil)
                (smtpmail-native-index-put entry))))
      ;; Its next try comes anyway.
      (smtpmail-native-error nil))))

(defun smtpmail-native-network--go (ids)
  "Let the entries IDS go, in the slices of the schedule."
  (smtpmail-native-schedule-walk
   (lambda ()
     (when ids
       (smtpmail-native-network--let-go (pop ids)))
     ids)))

(defun smtpmail-native-network--key (entry)
  "Return the key of the account of ENTRY."
  (smtpmail-native-entry-account-key (smtpmail-native-entry-envelope entry)))

(defun smtpmail-native-network--try ()
  "Let the oldest message of each account go that failed for the network."
  (setq smtpmail-native-network--first nil
        smtpmail-native-network--last (float-time)
        smtpmail-native-network--probed nil)
  (smtpmail-native-network--go
   (seq-filter
    (lambda (id)
      (let ((key (smtpmail-native-network--key
                  (smtpmail-native-index-entry id))))
        (unless (member key smtpmail-native-network--probed)
          (push key smtpmail-native-network--probed))))
    (smtpmail-native-index-select #'smtpmail-native-network--waits-p))))

(defun smtpmail-native-network--ended (entry _plist)
  "Let the others of the account of ENTRY go if it has reached its server.
For `smtpmail-native-attempt-ended-functions'."
  (when smtpmail-native-network--probed
    (let ((key (smtpmail-native-network--key entry)))
      (when (member key smtpmail-native-network--probed)
        (setq smtpmail-native-network--probed
              (delete key smtpmail-native-network--probed))
        (unless (smtpmail-native-entry-offline-p entry)
          (smtpmail-native-network--go
           (smtpmail-native-index-select
            (lambda (other)
              (and (smtpmail-native-network--waits-p other)
                   (equal key (smtpmail-native-network--key other)))))))))))

;;;; News

(defun smtpmail-native-network--delay (now)
  "Return in how many seconds after NOW the messages go for news of NOW."
  (let ((moment (* smtpmail-native-network--moment
                   (1+ (/ (random 2000) 1000.0))))
        ;; A clock that was set back does not count.
        (rest (and smtpmail-native-network--last
                   (<= smtpmail-native-network--last now)
                   (- (+ smtpmail-native-network--last
                         smtpmail-native-network--pause)
                      now))))
    (max moment (or rest 0))))

(defun smtpmail-native-network-news ()
  "Let messages go soon that failed for the network: it may be back."
  (cond
   ((not smtpmail-native-schedule--started)
    (smtpmail-native-network-stop))
   ((= 0 (smtpmail-native-index-count #'smtpmail-native-entry-offline-p))
    (smtpmail-native-network-stop))
   (t
    (let* ((now (float-time))
           (waits (memq smtpmail-native-network--timer timer-list))
           (first (or smtpmail-native-network--first now)))
      (unless (and waits
                   (not (<= 0 (- now first) smtpmail-native-network--longest)))
        (when waits
          (cancel-timer smtpmail-native-network--timer))
        (setq smtpmail-native-network--first first
              smtpmail-native-network--timer
              (smtpmail-native-quiet-timer
               (smtpmail-native-network--delay now)
               #'smtpmail-native-network--try)))))))

(defun smtpmail-native-network--on-sleep (event)
  "Take the end of a suspend as news.
EVENT is one of `system-sleep-event-functions', of Emacs 31."
  (when (eq (sleep-event-state event) 'post-wake)
    (smtpmail-native-quiet-call #'smtpmail-native-network-news)))

;;;; Begin and end

(defun smtpmail-native-network-note (id)
  "Have the network watched if the entry ID waits for it.
For `smtpmail-native-changed-functions'."
  (when (and id
             smtpmail-native-schedule--started
             (not smtpmail-native-network--watched))
    (let ((entry (smtpmail-native-index-entry id)))
      (when (and entry (smtpmail-native-entry-offline-p entry))
        (setq smtpmail-native-network--watched t)
        ;; Only if the user has enabled `system-sleep' does this tell.
        (add-hook 'system-sleep-event-functions
                  #'smtpmail-native-network--on-sleep)
        (smtpmail-native-channel-network #'smtpmail-native-network-news)))))

(defun smtpmail-native-network-stop ()
  "End the watch, and let nothing go because of news any more."
  (when smtpmail-native-network--timer
    (cancel-timer smtpmail-native-network--timer))
  (when smtpmail-native-network--watched
    (remove-hook 'system-sleep-event-functions
                 #'smtpmail-native-network--on-sleep)
    (smtpmail-native-channel-network nil))
  (setq smtpmail-native-network--watched nil
        smtpmail-native-network--first nil
        smtpmail-native-network--probed nil))

(add-hook 'smtpmail-native-changed-functions #'smtpmail-native-network-note)
(add-hook 'smtpmail-native-attempt-ended-functions
          #'smtpmail-native-network--ended)

(provide 'smtpmail-native-network)
;;; smtpmail-native-network.el ends here
