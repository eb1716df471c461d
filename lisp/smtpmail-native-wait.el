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
(require 'smtpmail-native-job)
(require 'smtpmail-native-load)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-schedule)
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
If it does not come, the attempt goes on behind the back of its sender, and
keeps its entry."
  (let ((inhibit-quit t))
    (setf (smtpmail-native-sending-cancelled sending) t)
    (smtpmail-native-channel-cancel (smtpmail-native-sending-job sending))
    (smtpmail-native-channel-await done 5)
    (unless (smtpmail-native-sending-result sending)
      (setf (smtpmail-native-sending-waiter sending) nil))))

(defun smtpmail-native-wait--watch (sending)
  "Wait for the end of SENDING and return its result, a plist of the module.
Emacs stays alive meanwhile; `C-g' cancels it, and the result tells what
has become of the mail."
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
              :text "cancelled, and the session does not end"))))

(defun smtpmail-native-wait--attempt (entry found)
  "Send ENTRY, which is claimed, with FOUND, and wait for what comes of it.
Return the result of the module."
  (let ((sending nil))
    (unwind-protect
        (setq sending (smtpmail-native-attempt-begin entry found t))
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
         (or (and (eq (smtpmail-native-verdict-demand result) 'auth)
                  (not (plist-get found :password))
                  (not (memq (plist-get found :source) '(classic mechanism))))
             (and (<= 400 code 499) (/= code 421)
                  (eq stage 'mail)
                  (< tries (or smtpmail-retries 0)))))))

(defun smtpmail-native-wait--go-on-p (entry result)
  "Return non-nil if ENTRY is to be tried again at once after RESULT.
There is a fresh token, or there are recipients whom the server has not
taken only because of their number."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (or (plist-get result :second-chance) (plist-get state :more))
         (eq (plist-get state :status) 'ready))))

(defun smtpmail-native-wait-try (entry)
  "Send ENTRY, which is claimed, and wait for what comes of it.
Return the result of the module.  A temporary refusal of the sender is
tried again after a second, `smtpmail-retries' times in all; a wrong
password or passphrase is asked for again, three times in all."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (tries 0)
        (asked 0)
        (answer nil)
        (demanded nil)
        (result nil)
        (in-use nil))
    (unwind-protect
        (while (null result)
          (let* ((found (if (consp answer)
                            answer
                          (smtpmail-native-job-find
                           envelope demanded (smtpmail-native-tell-attended-p))))
                 ;; What was typed for this attempt is the first answer.
                 (typed (and (plist-get found :typed) (null answer))))
            (setq in-use found
                  tries (1+ tries)
                  asked (if (and typed (= asked 0)) 1 asked)
                  answer nil
                  result (smtpmail-native-wait--attempt entry found))
            (cond
             ((smtpmail-native-wait--once-more-p result found tries)
              (if (eql (plist-get result :code) 530)
                  (setq demanded (smtpmail-native-verdict-words result))
                (smtpmail-native-channel-await #'ignore 1))
              (setq result nil))
             ((smtpmail-native-wait--go-on-p entry result)
              (setq result nil))
             ((smtpmail-native-ask-trust entry result)
              ;; Nobody has seen them: what was typed need not be typed again.
              (setq answer found
                    result nil))
             ((and (smtpmail-native-tell-attended-p) (< asked 3)
                   (setq answer (smtpmail-native-ask-waiting
                                 result envelope found)))
              (setq asked (1+ asked)
                    result nil)))))
      ;; After a refused certificate they are still there.
      (unless (gethash (smtpmail-native-entry-id entry)
                       smtpmail-native-attempt--active)
        (smtpmail-native-auth-release in-use)))
    result))

(defun smtpmail-native-wait-complain (entry result)
  "Signal what RESULT of ENTRY says has gone wrong."
  (smtpmail-native-error-signal
   (smtpmail-native-verdict-condition result)
   (smtpmail-native-verdict-explain entry result)))

(defun smtpmail-native-wait-withdraw (entry)
  "Delete ENTRY, which has not been sent; its sender still has the mail."
  (let ((id (smtpmail-native-entry-id entry)))
    (remhash id smtpmail-native-tell--traces)
    (smtpmail-native-attempt-forget-doubt id)
    (condition-case err
        (smtpmail-native-outbox-remove entry)
      (smtpmail-native-error
       (smtpmail-native-outbox-release entry)
       (display-warning 'smtpmail-native (cadr err))))
    (smtpmail-native-tell-changed id)))

(defun smtpmail-native-wait-end (entry)
  "Let go of ENTRY, whose sender does not wait any more; return its status.
It is deleted if it has not been sent, because the sender still has it.
What may have been sent stays, and so does what is still under way."
  (let* ((inhibit-quit t)
         (id (smtpmail-native-entry-id entry))
         (sending (gethash id smtpmail-native-attempt--active))
         (status (plist-get (smtpmail-native-entry-state entry) :status)))
    (cond
     (sending 'active)
     ((eq status 'sent)
      (smtpmail-native-attempt-finish entry)
      (smtpmail-native-tell-changed id)
      status)
     ((or (eq status 'unknown)
          (assq 'sent (mapcar #'cdr (plist-get
                                     (smtpmail-native-entry-state entry)
                                     :results))))
      (condition-case err
          (smtpmail-native-outbox-set entry :wait nil)
        (smtpmail-native-outbox-error
         (display-warning 'smtpmail-native (cadr err))))
      (if (eq status 'unknown)
          (smtpmail-native-outbox-release entry)
        (smtpmail-native-attempt-conclude entry))
      (smtpmail-native-tell-changed id)
      status)
     (t
      (smtpmail-native-wait-withdraw entry)
      status))))

;;;; Other things to wait for

(defun smtpmail-native-wait-flush ()
  "Do `smtpmail-native-act-flush' and wait until all that is over.
Each entry is tried once, and so the time is bounded by those of the
attempts.  Signal `smtpmail-native-error' if the outbox cannot be used."
  (smtpmail-native-load)
  (let ((smtpmail-native-attempt--once t)
        ;; There is no user whom many small collections would serve.
        (gc-cons-threshold (if noninteractive
                               (max gc-cons-threshold
                                    smtpmail-native-wait--garbage)
                             gc-cons-threshold)))
    (smtpmail-native-act-flush)
    (smtpmail-native-channel-await
     (lambda ()
       (not (smtpmail-native-schedule-busy-p)))
     nil)))

(defun smtpmail-native-wait-probe (account &optional unpinned)
  "Look at the server of ACCOUNT and return the result, a plist.
ACCOUNT is that of `smtpmail-native-job-account'.  Only greeting, EHLO
and TLS are tried.  UNPINNED non-nil means that its certificate is verified
as if none had been accepted.  Signal a child of `smtpmail-native-error'
when that cannot begin."
  (smtpmail-native-load)
  (let ((result nil)
        (host (plist-get account :host)))
    (smtpmail-native-tell-new-trace host nil)
    (let ((job (smtpmail-native-channel-submit
                ;; What stands first counts.
                (append (if unpinned '(:probe t :pins nil) '(:probe t))
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
