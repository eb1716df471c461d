;;; smtpmail-native-queue.el --- A new message enters  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A message is an entry of the outbox before anything else happens to it.

;;; Code:

(require 'seq)
(require 'smtpmail-native-act)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-copy)
(require 'smtpmail-native-copy-file)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-job)
(require 'smtpmail-native-load)
(require 'smtpmail-native-message)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-wait)
(require 'smtpmail-native-watch)
(require 'smtpmail-native-wishes)

(defvar smtpmail-queue-mail)

;;;; Into the outbox

(defun smtpmail-native-queue-envelope (mail account &optional found)
  "Return the envelope of MAIL, a plist of message.el, for ACCOUNT.
FOUND are the credentials with which it is sent, if they are known."
  (append (list :sender (plist-get mail :sender)
                :recipients (plist-get mail :recipients)
                :subject (plist-get mail :subject)
                :message-id (plist-get mail :message-id)
                :from (plist-get mail :from)
                :fcc (plist-get mail :fcc)
                :wishes (plist-get mail :wishes)
                :utf-8 (and (plist-get mail :utf-8) t)
                :binary (plist-get mail :binary)
                :identity (smtpmail-native-identity account found)
                :created (truncate (float-time)))
          account))

(defun smtpmail-native-queue--commit (mail envelope state)
  "Make an entry of MAIL with ENVELOPE and STATE; return it, claimed.
It survives a loss of power then.  This is the one point that decides what
\\[keyboard-quit] does: before it, the entry is withdrawn and the quit goes
on; after it, the message is in the outbox.  The caller has bound
`inhibit-quit', so that there is nothing between."
  (let* ((until (+ (float-time) smtpmail-native-outbox-patience))
         (entry (smtpmail-native-outbox-commit
                 (plist-get mail :buffer) envelope state nil
                 (plist-get mail :draft)))
         (kept nil))
    (unwind-protect
        (let ((durable (smtpmail-native-outbox-make-durable
                        entry (if noninteractive
                                  nil
                                (max 0 (- until (float-time)))))))
          (unless quit-flag
            (setq kept t)
            (when (eq durable 'slow)
              ;; After what the caller has to say.
              (smtpmail-native-quiet-timer 0 #'smtpmail-native-tell-slow))))
      (unless kept
        (smtpmail-native-wait-withdraw entry)))
    (unless kept
      (setq quit-flag nil)
      (signal 'quit nil))
    entry))

(defmacro smtpmail-native-queue--entering (&rest body)
  "Run BODY, which calls `smtpmail-native-queue--commit', without a quit.
One that comes after the commit is too late, and does not go on: the caller
would take the message for unsent."
  (declare (indent 0) (debug t))
  `(let ((inhibit-quit t))
     (prog1 (progn ,@body)
       (setq quit-flag nil))))

(defun smtpmail-native-queue-later-p (mail)
  "Return non-nil if MAIL is to wait in the outbox until its time.
MAIL is a plist of `smtpmail-native-message-prepare', or an envelope."
  (let ((release (plist-get (plist-get mail :wishes) :release)))
    (and release
         (eq smtpmail-native-send-later 'outbox)
         (> release (float-time)))))

(defun smtpmail-native-queue--keep (mail envelope state)
  "Put MAIL with ENVELOPE into the outbox in STATE; return the entry's id."
  (smtpmail-native-queue--entering
    (let ((entry (smtpmail-native-queue--commit mail envelope state)))
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-index-put entry)
      (smtpmail-native-entry-id entry))))

(defun smtpmail-native-queue--hold (mail account)
  "Put MAIL for ACCOUNT into the outbox until a flush; return the entry's id."
  (smtpmail-native-queue--keep mail
                               (smtpmail-native-queue-envelope mail account)
                               '(:status held :hold queue)))

(defun smtpmail-native-queue--schedule (mail account)
  "Put MAIL for ACCOUNT into the outbox until its time; return the entry's id."
  (smtpmail-native-queue--keep mail
                               (smtpmail-native-queue-envelope mail account)
                               '(:status ready)))

(defun smtpmail-native-queue--find (account)
  "Return the credentials for ACCOUNT; ask for what is missing.
It is asked before there is an entry: after \\[keyboard-quit] the draft is
intact."
  (let ((inhibit-quit nil))
    (smtpmail-native-identity-find account
                                   :ask (smtpmail-native-tell-attended-p))))

(defun smtpmail-native-queue--delay (mail account)
  "Put MAIL for ACCOUNT into the outbox for `smtpmail-native-undo-seconds'.
Return the entry's id."
  (let ((found (smtpmail-native-queue--find account))
        (id nil))
    (unwind-protect
        (smtpmail-native-queue--entering
          (setq id (smtpmail-native-queue--keep
                    mail (smtpmail-native-queue-envelope mail account found)
                    (list :status 'ready :undo t
                          :next (ceiling (+ (float-time)
                                            smtpmail-native-undo-seconds)))))
          (smtpmail-native-identity-give id found)
          id)
      (unless id
        (smtpmail-native-auth-release found)))))

(defun smtpmail-native-queue--begin (entry found)
  "Begin to send ENTRY, just committed, with FOUND.
It waits if the account has no free session; FOUND is cleared then."
  (let ((id (smtpmail-native-entry-id entry)))
    (if (or (plist-get found :typed)
            (smtpmail-native-go-free-p
             (smtpmail-native-entry-envelope entry)))
        (smtpmail-native-attempt-begin entry found)
      (smtpmail-native-auth-release found)
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-index-put entry)
      (smtpmail-native-schedule-look-at (list id)))
    id))

(defun smtpmail-native-queue--send-now (mail account)
  "Put MAIL for ACCOUNT into the outbox and begin to send it.
Return the entry's id.  What hinders the begin is signalled, and nothing is
left then."
  (let ((found (smtpmail-native-queue--find account))
        (entry nil)
        (begun nil))
    (unwind-protect
        (smtpmail-native-queue--entering
          (setq entry (smtpmail-native-queue--commit
                       mail (smtpmail-native-queue-envelope mail account found)
                       '(:status ready)))
          (prog1 (smtpmail-native-queue--begin entry found)
            (setq begun t)))
      (unless begun
        (smtpmail-native-auth-release found)
        (when entry
          (smtpmail-native-wait-withdraw entry))))))

(defun smtpmail-native-queue--send-waiting (mail account)
  "Send MAIL for ACCOUNT, and wait for the outcome.
Return the result of the module if the server has taken the message; for the
recipients that it has refused, the entry stays in the outbox.  Else
signal a child of `smtpmail-native-error'; the message is not in the outbox
any more, unless its outcome is unknown."
  (let ((entry nil)
        (result nil))
    (unwind-protect
        (progn
          (let ((inhibit-quit t))
            (setq entry (smtpmail-native-outbox-commit
                         (plist-get mail :buffer)
                         (smtpmail-native-queue-envelope mail account)
                         '(:status ready :wait t))))
          (setq result (smtpmail-native-wait-try entry)))
      (when entry
        (smtpmail-native-wait-end entry)))
    (unless (eq (plist-get result :kind) 'ok)
      (smtpmail-native-wait-complain entry result))
    result))

;;;; Without the module

(defun smtpmail-native-queue--built (_file)
  "Begin to send what waits for the module, if it can be used now."
  (when (smtpmail-native-load-available-p)
    (smtpmail-native-watch-ensure)))

(defun smtpmail-native-queue--lack (how)
  "Return why the module cannot send a message now, or nil if it can.
The value is one of `smtpmail-native-load-try'; the message then only
enters the outbox.  Signal `smtpmail-native-module-error' where that is of
no use: the sender waits, as HOW says, or there will never be a module."
  (let ((state (smtpmail-native-load-try)))
    (cond ((eq (car state) 'loaded) nil)
          ((or (eq how 'wait) noninteractive (eq (car state) 'unsupported))
           (ignore (smtpmail-native-load)))
          (t state))))

(defun smtpmail-native-queue--wait-for-module (mail account how)
  "Put MAIL for ACCOUNT into the outbox, to be sent when there is a module.
HOW is that of `smtpmail-native-queue-send'.  Return the entry's id."
  (add-hook 'smtpmail-native-load-built-functions
            #'smtpmail-native-queue--built)
  (if (eq how 'queue)
      (smtpmail-native-queue--hold mail account)
    (smtpmail-native-queue--schedule mail account)))

(defun smtpmail-native-queue--offer-build (lack)
  "Offer to build the module, if that helps against LACK; return when it is.
The value says for people until when a message waits.  The message is in the
outbox already, and so a quit is a no."
  (let ((building (condition-case nil
                      (let ((inhibit-quit nil))
                        (smtpmail-native-load-offer-build lack))
                    (quit nil))))
    (cond (building "the module is built")
          ((eq (car lack) 'restart) "you restart Emacs")
          (t (format "the module can be used.  %s"
                     (smtpmail-native-load-problem lack))))))

;;;; By one of these ways

(defun smtpmail-native-queue--way (mail how)
  "Return the function that puts MAIL into the outbox as HOW says.
HOW is `background' or `queue'."
  (cond ((eq how 'queue) #'smtpmail-native-queue--hold)
        ((smtpmail-native-queue-later-p mail)
         #'smtpmail-native-queue--schedule)
        ((> smtpmail-native-undo-seconds 0) #'smtpmail-native-queue--delay)
        (t #'smtpmail-native-queue--send-now)))

(defun smtpmail-native-queue-send (mail how)
  "Send MAIL, a plist of `smtpmail-native-message-prepare', as HOW says.
HOW is `wait' for the outcome; `background'; or `queue', to hold the message
until the queue is flushed.  One that is to be sent later only goes into the
outbox.  The buffer of its octets is the caller's.  The server is that of
smtpmail's variables now.  Return a plist: with `wait' the result of the
module, (:id ID) where nothing was waited for, with :lack, a value of
`smtpmail-native-load-try', if it has to wait for the module.  Signal a child
of `smtpmail-native-error' if the message has not been sent or committed;
after `smtpmail-native-unknown-outcome' it may have been delivered."
  (let ((lack (smtpmail-native-queue--lack how))
        (account (smtpmail-native-job-account-for
                  (or (plist-get mail :author) (plist-get mail :from) ""))))
    (smtpmail-native-act-ask-before-quit)
    (unless (or lack (eq how 'wait)
                (and noninteractive (not (eq how 'background))))
      (smtpmail-native-watch-ensure))
    (cond
     (lack
      (list :lack lack
            :id (smtpmail-native-queue--wait-for-module mail account how)))
     ((and (eq how 'wait) (not (smtpmail-native-queue-later-p mail)))
      (smtpmail-native-queue--send-waiting mail account))
     (t
      (list :id (funcall (smtpmail-native-queue--way mail how)
                         mail account))))))

;;;; What a program hands over

(defun smtpmail-native-queue--rest (result)
  "Return the replies in RESULT for recipients without the message.
They are those of `smtpmail-native-outcome-answers'."
  (seq-remove (lambda (answer) (eq (cadr answer) 'sent))
              (smtpmail-native-outcome-answers result)))

(defun smtpmail-native-queue--people (addresses)
  "Return the first of ADDRESSES, and how many there are besides."
  (concat (car addresses)
          (if (cdr addresses) (format " and %d more" (length (cdr addresses)))
            "")))

(defun smtpmail-native-queue--told (mail seconds result)
  "Return the line that tells that MAIL was sent, in SECONDS.
RESULT, a plist of the module, may leave out some recipients, and have notes."
  (let* ((rest (mapcar #'car (smtpmail-native-queue--rest result)))
         (sent (seq-difference (plist-get mail :recipients) rest)))
    (format "Sent %s (%.1f s)%s%s"
            (smtpmail-native-entry-title-of
             (list :recipients sent :subject (plist-get mail :subject)))
            seconds
            (if rest (concat ", but not to "
                             (smtpmail-native-queue--people rest))
              "")
            (smtpmail-native-tell-notes (plist-get result :notes)))))

(defun smtpmail-native-queue--tell (format &rest args)
  "Say FORMAT with ARGS once the caller, such as Message mode, says it is done."
  (if noninteractive
      (apply #'message format args)
    (apply #'smtpmail-native-quiet-timer 0 #'smtpmail-native-tell-say
           format args)))

(defun smtpmail-native-queue--tell-entered (recipients)
  "Say that the message to RECIPIENTS is in the outbox, and what happens next."
  (let ((people (smtpmail-native-error-text
                 (smtpmail-native-queue--people recipients))))
    (if (> smtpmail-native-undo-seconds 0)
        (smtpmail-native-queue--tell
         "In the outbox: sending to %s in %d s; type %s to undo"
         people smtpmail-native-undo-seconds
         (substitute-command-keys "\\[smtpmail-native-undo-send]"))
      (smtpmail-native-queue--tell "In the outbox: sending to %s" people))))

(defun smtpmail-native-queue--enter (mail how)
  "Put MAIL into the outbox as HOW says; file its copies when it is sent.
HOW is that of `smtpmail-native-queue-send'.  Return non-nil if the user has
been told all there is: it has to wait for the module."
  (let ((lack nil))
    (smtpmail-native-queue--entering
      (let ((entered (smtpmail-native-queue-send mail how)))
        (setq lack (plist-get entered :lack))
        (smtpmail-native-copy-expect (plist-get entered :id)
                                     (plist-get mail :key))))
    (when lack
      (smtpmail-native-queue--tell
       "In the outbox: message to %s, until %s"
       (smtpmail-native-error-text
        (smtpmail-native-queue--people (plist-get mail :recipients)))
       (smtpmail-native-queue--offer-build lack))
      t)))

(defun smtpmail-native-queue--complain-of-rest (result)
  "Signal in batch mode that RESULT leaves out some of the recipients.
No one would look into the outbox for them."
  (let ((rest (smtpmail-native-queue--rest result)))
    (when (and rest noninteractive)
      (smtpmail-native-error-signal
       (if (seq-every-p (lambda (answer) (eq (cadr answer) 'refused)) rest)
           'smtpmail-native-refused
         'smtpmail-native-deferred)
       (format "Not accepted for all recipients: %s"
               (mapconcat (lambda (answer)
                            (format "<%s>: %s %s" (nth 0 answer) (nth 2 answer)
                                    (nth 4 answer)))
                          rest "; "))))))

(defun smtpmail-native-queue-hand-over (mail)
  "Send MAIL, a plist of `smtpmail-native-message-prepare', as is wanted now."
  (let ((start (float-time))
        (people (plist-get mail :recipients)))
    (cond
     (smtpmail-queue-mail
      (unless (smtpmail-native-queue--enter mail 'queue)
        (smtpmail-native-queue--tell
         "Queued: message to %s; type %s to send queued mail"
         (smtpmail-native-error-text (smtpmail-native-queue--people people))
         (substitute-command-keys "\\[smtpmail-native-flush-queue]"))))
     ((smtpmail-native-queue-later-p mail)
      (unless (smtpmail-native-queue--enter mail 'background)
        (smtpmail-native-queue--tell
         "In the outbox until %s: message to %s"
         (smtpmail-native-tell-date
          (plist-get (plist-get mail :wishes) :release))
         (smtpmail-native-error-text (smtpmail-native-queue--people people)))))
     ((and smtpmail-native-background (not noninteractive))
      (unless (smtpmail-native-queue--enter mail 'background)
        (smtpmail-native-queue--tell-entered people)))
     (t
      (let ((result (smtpmail-native-queue-send mail 'wait)))
        (smtpmail-native-queue--complain-of-rest result)
        (message "%s" (smtpmail-native-queue--told
                       mail (- (float-time) start) result)))))))

(defun smtpmail-native-queue-buffer (hand-over)
  "Send the message in the current buffer by calling HAND-OVER with it.
HAND-OVER gets a plist as `smtpmail-native-queue-hand-over' does.  The buffer
is not altered."
  (when (smtpmail-native-tell-attended-p)
    (smtpmail-native-auth-save-pending))
  (condition-case err
      ;; The body goes from here into the outbox.
      (let ((mail (smtpmail-native-message-prepare-lean nil nil nil nil)))
        (unwind-protect
            (funcall hand-over
                     (smtpmail-native-copy-prepare mail))
          (kill-buffer (plist-get mail :buffer))))
    (smtpmail-native-error
     ;; In batch mode the backtrace truncates the text, so print it here.
     (when noninteractive
       (message "%s" (smtpmail-native-error-line err)))
     (smtpmail-native-error-leave err))))

(provide 'smtpmail-native-queue)
;;; smtpmail-native-queue.el ends here
