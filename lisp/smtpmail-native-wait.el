;;; smtpmail-native-wait.el --- Waiting for an outcome  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; For scripts, for `smtpmail-native-background' nil, and for looks at a server.
;; Emacs stays alive meanwhile.

;;; Code:

(require 'smtpmail-native-act)
(require 'smtpmail-native-ask)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-job)
(require 'smtpmail-native-load)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-verdict)

(defvar smtpmail-retries)

(defconst smtpmail-native-wait--large 262144
  "Octets from which on the progress of a message is shown.")

(defconst smtpmail-native-wait--garbage (* 64 1024 1024)
  "Octets of garbage that a batch Emacs may make before it collects it.")

;;;; One attempt

(defun smtpmail-native-wait--reporter (sending reporter)
  "Show the progress of SENDING by REPORTER, which may be nil.
Return the reporter, a new one if there is much to send."
  (let ((total (smtpmail-native-sending-total sending)))
    (when (and (not noninteractive) (> total smtpmail-native-wait--large))
      (let ((reporter (or reporter
                          (make-progress-reporter "Sending mail..." 0 total))))
        (progress-reporter-update reporter
                                  (smtpmail-native-sending-sent sending))
        reporter))))

(defun smtpmail-native-wait--stop (sending done)
  "Cancel SENDING and wait a moment for its end, which DONE tells.
If it does not come, the attempt goes on in the background, and keeps its
entry."
  (let ((inhibit-quit t))
    (setf (smtpmail-native-sending-cancelled sending) t)
    (smtpmail-native-channel-cancel (smtpmail-native-sending-job sending))
    (smtpmail-native-channel-await done 5)
    (unless (smtpmail-native-sending-result sending)
      (setf (smtpmail-native-sending-waiter sending) nil))))

(defun smtpmail-native-wait--watch (sending)
  "Wait for the end of SENDING and return its result, a plist of the module.
Emacs stays alive meanwhile; `C-g' cancels it, and the result tells what
has become of the message."
  (let* ((reporter nil)
         (done (lambda ()
                 (setq reporter (smtpmail-native-wait--reporter
                                 sending reporter))
                 (smtpmail-native-sending-result sending))))
    (unwind-protect
        (condition-case nil
            (let ((inhibit-quit nil))
              (smtpmail-native-channel-await done nil))
          (quit (smtpmail-native-wait--stop sending done)))
      ;; A throw out of the wait, like that of `with-timeout', ends it, too.
      (when (and (null (smtpmail-native-sending-result sending))
                 (smtpmail-native-sending-waiter sending))
        (smtpmail-native-wait--stop
         sending (lambda () (smtpmail-native-sending-result sending)))))
    (or (smtpmail-native-sending-result sending)
        (list :kind 'cancelled :stage 'end-of-data :in-doubt t
              :text "cancelled, but the SMTP session has not ended"))))

(defun smtpmail-native-wait--attempt (entry found)
  "Send ENTRY, which is claimed, with FOUND, and wait for what comes of it.
Return the result of the module."
  (let ((sending nil))
    (unwind-protect
        (setq sending (smtpmail-native-attempt-begin
                       entry found :waiter t))
      ;; Once it has begun the end of the attempt clears them.
      (unless sending
        (smtpmail-native-auth-release found)))
    (smtpmail-native-wait--watch sending)))

;;;; Until it is over

(defun smtpmail-native-wait--once-more-p (result found tries)
  "Return non-nil if RESULT invites another try while its sender waits.
FOUND are the credentials that were used, TRIES the tries so far."
  (let ((kind (plist-get result :kind))
        (code (or (plist-get result :code) 0))
        (stage (plist-get result :stage)))
    (and (eq kind 'reply)
         (not (plist-get result :in-doubt))
         ;; In batch the next look for credentials says where it was done.
         (or (and (smtpmail-native-verdict-login-p result)
                  (not (plist-get found :password))
                  (not (memq (plist-get found :source) '(classic mechanism))))
             (and (<= 400 code 499) (/= code 421)
                  (eq stage 'mail)
                  (< tries (or smtpmail-retries 0)))))))

(defun smtpmail-native-wait--go-on-p (entry result)
  "Return non-nil if ENTRY is to be tried again at once after RESULT.
There is a fresh token, or there are recipients that the server has not
taken only because of their number."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (or (plist-get result :second-chance) (plist-get state :more))
         (eq (plist-get state :status) 'ready))))

(defun smtpmail-native-wait--next (entry result found tries asked)
  "Return how ENTRY goes on after RESULT of an attempt with FOUND, or nil.
TRIES and ASKED are how often it was tried and a secret was asked for.  The
value is (AGAIN . VALUE): (demand . WORDS) to find credentials for a server
that says WORDS, (again) to try once more, (found . FOUND) to do so with
these credentials, or (answer . FOUND) where the user has typed something."
  (let (answer)
    (cond
     ((smtpmail-native-wait--once-more-p result found tries)
      (if (>= (plist-get result :code) 500)
          (cons 'demand (smtpmail-native-verdict-words result))
        (smtpmail-native-channel-await #'ignore 1)
        '(again)))
     ((smtpmail-native-wait--go-on-p entry result)
      '(again))
     ;; The server has not seen them: they need not be typed again.
     ((smtpmail-native-ask-trust entry result)
      (cons 'found found))
     ((and (smtpmail-native-tell-attended-p)
           (< asked 3)
           (setq answer (smtpmail-native-ask-waiting
                         result (smtpmail-native-entry-envelope entry) found)))
      (cons 'answer (and (consp answer) answer))))))

(defun smtpmail-native-wait-try (entry)
  "Send ENTRY, which is claimed, and wait for what comes of it.
Return the result of the module.  A temporary refusal of the sender is
tried again after a second, `smtpmail-retries' times in all; a wrong
password or passphrase is asked for again, three times in all."
  (let ((tries 0)
        (asked 0)
        (next '(begin))
        (demanded nil)
        (result nil)
        (found nil))
    (unwind-protect
        (while next
          (when (eq (car next) 'demand)
            (setq demanded (cdr next)))
          (setq found (or (and (memq (car next) '(found answer)) (cdr next))
                          (smtpmail-native-identity-find
                           (smtpmail-native-entry-envelope entry)
                           :demanded demanded
                           :ask (smtpmail-native-tell-attended-p)))
                ;; What was typed for this attempt is the first answer.
                asked (cond ((eq (car next) 'answer) (1+ asked))
                            ((and (plist-get found :typed) (= asked 0)) 1)
                            (t asked))
                tries (1+ tries)
                result (smtpmail-native-wait--attempt entry found)
                next (smtpmail-native-wait--next entry result found tries
                                                 asked)))
      ;; After a refused certificate they are still there.
      (unless (smtpmail-native-attempt-sending (smtpmail-native-entry-id entry))
        (smtpmail-native-auth-release found)))
    result))

(defun smtpmail-native-wait-complain (entry result)
  "Signal what RESULT of ENTRY says has gone wrong."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (smtpmail-native-error-signal
     (smtpmail-native-verdict-condition result)
     (smtpmail-native-verdict-describe
      (append result (list :stream (plist-get envelope :stream)))
      (plist-get envelope :host) (plist-get envelope :port)))))

(defun smtpmail-native-wait--keep-back (entry reason)
  "Hold ENTRY, which is claimed and could not be deleted for REASON, a text.
Its sender is told that it was not sent, and may send it again: nothing here
may send it, too.  Where not even that can be written, this Emacs keeps the
claim of it."
  (let ((held (condition-case nil
                  (progn
                    (smtpmail-native-outbox-set
                     entry :status 'held :hold 'interrupted :next nil
                     :undo nil :wait nil
                     :text "not sent: it was withdrawn, but could not be \
deleted")
                    (smtpmail-native-outbox-wait
                     entry smtpmail-native-outbox-patience)
                    t)
                (smtpmail-native-error nil))))
    (smtpmail-native-quiet-warn
     (format "%s.  A message to %s stays in the outbox and is not sent; \
delete it there"
             reason (smtpmail-native-entry-people entry)))
    (when held
      (smtpmail-native-outbox-release entry))
    (smtpmail-native-index-put entry)))

(defun smtpmail-native-wait-withdraw (entry)
  "Delete ENTRY, which has not been sent; its sender still has the message.
Return when that survives a loss of power, or soon.  No error is signalled:
what cannot be deleted is held."
  (let ((id (smtpmail-native-entry-id entry)))
    (smtpmail-native-settle-forget id)
    (condition-case err
        (progn
          (smtpmail-native-outbox-remove
           entry #'smtpmail-native-wait--keep-back)
          (smtpmail-native-index-drop id)
          (smtpmail-native-outbox-wait entry smtpmail-native-outbox-patience))
      (smtpmail-native-error
       (if (not (smtpmail-native-outbox-gone-p entry))
           (smtpmail-native-wait--keep-back entry (cadr err))
         (smtpmail-native-quiet-warn (cadr err))
         (smtpmail-native-outbox-release entry)
         (smtpmail-native-index-drop id))))))

(defun smtpmail-native-wait-end (entry)
  "Let go of ENTRY, whose sender does not wait any more.
It is deleted if it has not been sent, because the sender still has it.
What may have been sent stays, and so does what is still being sent."
  (let ((inhibit-quit t)
        (state (smtpmail-native-entry-state entry)))
    (cond
     ((smtpmail-native-attempt-sending (smtpmail-native-entry-id entry)))
     ((eq (plist-get state :status) 'sent)
      (smtpmail-native-settle-finish entry))
     ((or (smtpmail-native-entry-doubt-p entry)
          (smtpmail-native-entry-delivered-p entry))
      (condition-case err
          (smtpmail-native-outbox-set entry :wait nil)
        (smtpmail-native-outbox-error
         (smtpmail-native-quiet-warn (cadr err))))
      (if (smtpmail-native-entry-delivered-p entry)
          (smtpmail-native-settle-conclude entry)
        (smtpmail-native-outbox-release entry)
        (smtpmail-native-index-put entry)))
     (t (smtpmail-native-wait-withdraw entry)))))

;;;; Other things to wait for

(defun smtpmail-native-wait-flush ()
  "Do `smtpmail-native-act-flush' and wait until all that is over.
Each entry is tried once, and so the time is bounded by those of the
attempts.  Signal `smtpmail-native-error' if the outbox cannot be used."
  (smtpmail-native-load)
  ;; Many small collections would serve no one: there is no user.
  (let ((gc-cons-threshold (if noninteractive
                               (max gc-cons-threshold
                                    smtpmail-native-wait--garbage)
                             gc-cons-threshold)))
    (setq smtpmail-native-go-draining noninteractive)
    (unwind-protect
        (progn
          (smtpmail-native-act-flush)
          (smtpmail-native-channel-await
           (lambda ()
             (not (smtpmail-native-schedule-busy-p)))
           nil))
      (setq smtpmail-native-go-draining nil))))

(defun smtpmail-native-wait-probe (account &optional unpinned found)
  "Look at the server of ACCOUNT and return the result, a plist.
ACCOUNT is that of `smtpmail-native-job-account'.  Only greeting, EHLO
and TLS are tried, and a login with the credentials FOUND, if non-nil.
UNPINNED non-nil means that its certificate is verified as if none had been
accepted.  Signal a child of `smtpmail-native-error' when that cannot begin."
  (smtpmail-native-load)
  (let ((result nil)
        (host (plist-get account :host)))
    (smtpmail-native-tell-new-trace host nil)
    (let ((job (smtpmail-native-channel-submit
                ;; What stands first counts.
                (append (if unpinned '(:probe t :pins nil) '(:probe t))
                        (and found (smtpmail-native-job-credentials found))
                        (smtpmail-native-job-connection account))
                (lambda (kind plist)
                  (pcase kind
                    ('trace (smtpmail-native-tell-trace-line host nil plist))
                    ('done (setq result plist)))))))
      (unwind-protect
          (smtpmail-native-channel-await (lambda () result) nil)
        (unless result
          (smtpmail-native-channel-cancel job))))
    result))

(provide 'smtpmail-native-wait)
;;; smtpmail-native-wait.el ends here
