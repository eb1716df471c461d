;;; smtpmail-native-queue.el --- A new message enters  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A message is an entry of the outbox before anything else happens to it.

;;; Code:

(require 'smtpmail-native-act)
(require 'smtpmail-native-ask)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-copy)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-job)
(require 'smtpmail-native-load)
(require 'smtpmail-native-message)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-wait)

(defvar smtpmail-queue-mail)
(defvar smtpmail-native-send-later)

(defun smtpmail-native-queue-envelope (mail account)
  "Return the envelope of MAIL, a plist of message.el, for ACCOUNT."
  (append (list :sender (plist-get mail :sender)
                :recipients (plist-get mail :recipients)
                :subject (plist-get mail :subject)
                :message-id (plist-get mail :message-id)
                :from (plist-get mail :from)
                :fcc (plist-get mail :fcc)
                :wishes (plist-get mail :wishes)
                :utf-8 (and (plist-get mail :utf-8) t)
                :binary (plist-get mail :binary)
                :created (truncate (float-time)))
          account))

(defun smtpmail-native-queue-make-durable (entry &optional wait)
  "Make ENTRY survive a loss of power, and wait a moment for that.
With WAIT, wait as long as it takes, as batch mode always does.  Return
non-nil if it does.  No error is signalled; a failure is a warning."
  (condition-case err
      (if (eq (smtpmail-native-outbox-make-durable
               entry (if (or wait noninteractive)
                         nil
                       smtpmail-native-outbox-patience))
              t)
          t
        (smtpmail-native-tell-slow)
        nil)
    (smtpmail-native-outbox-error
     (display-warning 'smtpmail-native (cadr err))
     nil)))

(defun smtpmail-native-queue--leave (entry)
  "Make ENTRY durable and let go of it."
  (smtpmail-native-queue-make-durable entry)
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-tell-changed (smtpmail-native-entry-id entry)))

(defun smtpmail-native-queue-later-p (mail)
  "Return non-nil if MAIL is to wait in the outbox until its time.
MAIL is a plist of `smtpmail-native-message-prepare', or an envelope."
  (let ((release (plist-get (plist-get mail :wishes) :release)))
    (and release
         (eq smtpmail-native-send-later 'outbox)
         (> release (float-time)))))

(defun smtpmail-native-queue--send-later (octets envelope hold)
  "Commit OCTETS with ENVELOPE, not to be sent yet.
HOLD is the reason, or nil for its own time, or `smtpmail-native-undo-seconds'
from now.  Return the entry's id."
  (let* ((next (and (not hold)
                    (max (ceiling (+ (float-time)
                                     smtpmail-native-undo-seconds))
                         (or (plist-get (plist-get envelope :wishes) :release)
                             0))))
         (inhibit-quit t)
         (entry (smtpmail-native-outbox-commit
                 octets envelope
                 (if hold
                     (list :status 'held :hold hold)
                   (list :status 'ready :next next :undo t)))))
    (smtpmail-native-queue--leave entry)
    (when next
      (smtpmail-native-schedule-at next))
    (smtpmail-native-entry-id entry)))

(defun smtpmail-native-queue--send-now (octets envelope)
  "Commit OCTETS with ENVELOPE and begin to send them in the background.
Return the entry's id.  What hinders the begin is signalled, and nothing is
left behind then."
  ;; Whoever does not want to tell the password still has the draft.
  (let ((found (smtpmail-native-job-find
                envelope nil (smtpmail-native-tell-attended-p)))
        (entry nil)
        (begun nil))
    (unwind-protect
        ;; A quit that came behind the commit would leave the caller unaware.
        (let ((inhibit-quit t))
          (setq entry (smtpmail-native-outbox-commit octets envelope
                                                     '(:status ready)))
          (if (or (plist-get found :typed)
                  (smtpmail-native-schedule-free-p envelope))
              (progn
                ;; First: what comes of it must not be heard before the
                ;; caller, which files the copy, has heard of the entry.
                (smtpmail-native-queue-make-durable entry)
                (smtpmail-native-attempt-begin entry found))
            (smtpmail-native-auth-release found)
            (smtpmail-native-queue--leave entry)
            (smtpmail-native-schedule-look-at
             (list (smtpmail-native-entry-id entry))))
          (setq begun t))
      (unless begun
        (smtpmail-native-auth-release found)
        (when entry
          (smtpmail-native-wait-withdraw entry))))
    (smtpmail-native-entry-id entry)))

(defun smtpmail-native-queue--send-waiting (octets envelope)
  "Send OCTETS with ENVELOPE, and wait for the outcome.
Return the result of the module if the server has taken the mail; for the
recipients whom it has refused then, the entry stays in the outbox.  Else
signal a child of `smtpmail-native-error'; the mail is not in the outbox
any more, unless its outcome is unknown."
  (let ((entry nil)
        (result nil))
    (unwind-protect
        (progn
          (let ((inhibit-quit t))
            (setq entry (smtpmail-native-outbox-commit
                         octets envelope '(:status ready :wait t))))
          (setq result (smtpmail-native-wait-try entry)))
      (when entry
        (smtpmail-native-wait-end entry)))
    (unless (eq (plist-get result :kind) 'ok)
      (smtpmail-native-wait-complain entry result))
    result))

(defun smtpmail-native-queue-send (mail how)
  "Send MAIL, a plist of `smtpmail-native-message-prepare', by way of HOW.
HOW is `wait' for the outcome; `background'; or `queue', to hold the mail
until the queue is flushed.  One that is to be sent later only goes into the
outbox.  The buffer of its octets is the caller's.  The server is that of
smtpmail's variables now.  Return a plist: with `wait' the result of the
module, (:id ID) where nothing was waited for.  Signal a child of
`smtpmail-native-error' if the mail has not been sent or committed; after
`smtpmail-native-unknown-outcome' it may have arrived."
  (smtpmail-native-load)
  (let ((octets (plist-get mail :buffer))
        (envelope (smtpmail-native-queue-envelope
                   mail (smtpmail-native-job-account))))
    (add-hook 'kill-emacs-query-functions #'smtpmail-native-act--may-quit-p)
    (pcase how
      ((guard (smtpmail-native-queue-later-p envelope))
       (list :id (smtpmail-native-queue--send-later
                  octets envelope (and (eq how 'queue) 'queue))))
      ('wait (smtpmail-native-queue--send-waiting octets envelope))
      ('queue (list :id (smtpmail-native-queue--send-later
                         octets envelope 'queue)))
      ((guard (> smtpmail-native-undo-seconds 0))
       (list :id (smtpmail-native-queue--send-later octets envelope nil)))
      (_ (list :id (smtpmail-native-queue--send-now octets envelope))))))

;;;; What a program hands over

(defun smtpmail-native-queue--told (recipients seconds)
  "Return the line that tells of a mail to RECIPIENTS, which took SECONDS."
  (format "Sent to %s%s in %.1f s" (car recipients)
          (if (cdr recipients) (format " and %d more" (length (cdr recipients)))
            "")
          seconds))

(defun smtpmail-native-queue--tell-undo (recipients)
  "Tell how the mail to RECIPIENTS can be brought back, and for how long.
It is told in a moment, because the caller says that it is done."
  (run-at-time 0 nil #'smtpmail-native-tell-say
               "Mail to %s leaves in %d s; %s brings it back"
               (smtpmail-native-error-text (car recipients))
               smtpmail-native-undo-seconds
               (substitute-command-keys "\\[smtpmail-native-undo-send]")))

(defun smtpmail-native-queue--enter (mail how)
  "Put MAIL into the outbox by way of HOW; its copies are filed when it is sent.
HOW is that of `smtpmail-native-queue-send'."
  (smtpmail-native-copy-expect
   (plist-get (smtpmail-native-queue-send mail how) :id)
   (plist-get mail :key)))

(defun smtpmail-native-queue-hand-over (mail)
  "Send MAIL, a plist of `smtpmail-native-message-prepare', as is wanted now."
  (let ((start (float-time))
        (people (plist-get mail :recipients)))
    (cond
     (smtpmail-queue-mail
      (smtpmail-native-queue--enter mail 'queue)
      (message "Queued mail to %s" (car people)))
     ((smtpmail-native-queue-later-p mail)
      (smtpmail-native-queue--enter mail 'background)
      (message "Mail to %s waits in the outbox until %s"
               (smtpmail-native-error-text (car people))
               (smtpmail-native-tell-date
                (plist-get (plist-get mail :wishes) :release))))
     ((and smtpmail-native-background (not noninteractive))
      (smtpmail-native-queue--enter mail 'background)
      (when (> smtpmail-native-undo-seconds 0)
        (smtpmail-native-queue--tell-undo people)))
     (t
      (smtpmail-native-queue-send mail 'wait)
      (message "%s" (smtpmail-native-queue--told people
                                                 (- (float-time) start)))))))

(defun smtpmail-native-queue-buffer (hand-over)
  "Send the mail in the current buffer by calling HAND-OVER with it.
HAND-OVER gets a plist as `smtpmail-native-queue-hand-over' does.  The buffer
is not altered."
  (condition-case err
      (let ((mail (smtpmail-native-message-prepare)))
        (unwind-protect
            (funcall hand-over
                     (append (list :key (smtpmail-native-copy-key)) mail))
          (kill-buffer (plist-get mail :buffer))))
    (smtpmail-native-error
     ;; In batch mode the backtrace truncates the text, so print it here.
     (when noninteractive
       (message "%s: %s" (get (car err) 'error-message) (cadr err)))
     (signal (car err) (cdr err)))))

(provide 'smtpmail-native-queue)
;;; smtpmail-native-queue.el ends here
