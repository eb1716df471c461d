;;; smtpmail-native-attempt.el --- One delivery  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; An attempt begins with an entry that is claimed, goes on by the events of the
;; module, and ends with the entry settled and let go of, and one hook call.
;; What it has led to is always read from the receipt, whether it has just been
;; written or was found on the disk later by another Emacs: see
;; `smtpmail-native-settle'.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-job)
(require 'smtpmail-native-mechanism)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-trust)

(defvar smtpmail-native-queue-last-result nil
  "What the module told of the last message, a plist; for scripts.
It has :kind, :stage, :code, :enhanced, :text, :in-doubt, :octets, :reply,
:mechanism, :tls and :recipients, the latter a list
of (ADDRESS ACCEPTED CODE ENHANCED TEXT).  Nothing here reads it.")

(defvar smtpmail-native-attempt-ended-functions nil
  "Functions that are called at the end of each attempt in the background.
The arguments are the entry, which may be gone, and a plist: :again, the
time in seconds of the next look at it where its state does not say so, and
:secret, non-nil if a secret that was just typed has turned out to be right.")

(defconst smtpmail-native-attempt--later 300
  "Seconds until an attempt is tried again that could not even begin.")

(defconst smtpmail-native-attempt--certificates 3
  "How many certificates of one server are accepted for one message.
A server that shows another one each time would be tried for ever.")

(cl-defstruct (smtpmail-native-sending (:copier nil))
  "An attempt that is under way."
  (entry nil :documentation "Its entry, claimed.")
  (key nil :documentation "The key of its account.")
  (job nil :documentation "Id of the module's job, nil before it has one.")
  (attempt 0 :documentation "Its number.")
  (partial nil :documentation "Non-nil if the accepted recipients get it alone.")
  (found nil :documentation "The credentials, see `smtpmail-native-auth-find'.")
  (start nil :documentation "When it began, seconds.")
  (sent 0 :documentation "Octets so far.")
  (total 0 :documentation "Octets in all.")
  (waiter nil :documentation "Non-nil if a caller waits for the result.")
  (cancelled nil :documentation "Non-nil if the user has cancelled it.")
  (result nil :documentation "Plist of the module, when all is over."))

(defvar smtpmail-native-attempt--active (make-hash-table :test #'equal)
  "The attempts under way in this Emacs, by the id of their entry.")

(defvar smtpmail-native-attempt--counts (make-hash-table :test #'equal)
  "How many attempts of an account are under way, by its key; none is nil.")

(defun smtpmail-native-attempt--enter (sending)
  "Note that SENDING is under way."
  (let ((id (smtpmail-native-entry-id (smtpmail-native-sending-entry sending)))
        (key (smtpmail-native-sending-key sending)))
    (smtpmail-native-attempt--leave id)
    (puthash id sending smtpmail-native-attempt--active)
    (cl-incf (gethash key smtpmail-native-attempt--counts 0))))

(defun smtpmail-native-attempt--leave (id)
  "Note that the attempt for the entry ID is over, if there is one."
  (let ((sending (gethash id smtpmail-native-attempt--active)))
    (when sending
      (remhash id smtpmail-native-attempt--active)
      (let ((key (smtpmail-native-sending-key sending)))
        (when (= 0 (cl-decf (gethash key smtpmail-native-attempt--counts)))
          (remhash key smtpmail-native-attempt--counts))))))

(defun smtpmail-native-attempt-count (key)
  "Return how many attempts for the account KEY are under way in this Emacs."
  (gethash key smtpmail-native-attempt--counts 0))

(defun smtpmail-native-attempt-sending (id)
  "Return the `smtpmail-native-sending' of the entry ID, or nil.
There is one while this Emacs sends the entry."
  (gethash id smtpmail-native-attempt--active))

(defun smtpmail-native-attempt-any-p ()
  "Return non-nil if an attempt is under way in this Emacs."
  (> (hash-table-count smtpmail-native-attempt--active) 0))

(defun smtpmail-native-attempt-sendings ()
  "Return all attempts that are under way in this Emacs."
  (hash-table-values smtpmail-native-attempt--active))

(defun smtpmail-native-attempt-change (id function)
  "Call FUNCTION with the entry ID, claimed, and return its value.
Return nil if the entry is gone or another Emacs works on it."
  (let* ((sending (smtpmail-native-attempt-sending id))
         (entry (if sending
                    (smtpmail-native-sending-entry sending)
                  (smtpmail-native-outbox-get id))))
    (cond (sending (funcall function entry))
          ((and entry (smtpmail-native-outbox-claim entry))
           (unwind-protect
               (funcall function entry)
             (smtpmail-native-outbox-release entry))))))

;;;; The end of an attempt

(defun smtpmail-native-attempt--ended (entry &rest plist)
  "Call the functions that wait for the end of an attempt for ENTRY with PLIST."
  (smtpmail-native-tell-each 'smtpmail-native-attempt-ended-functions
                             entry plist))

(defun smtpmail-native-attempt--record (sending result)
  "Put down what RESULT, a plist of the module, means for SENDING.
Where that cannot be written, the receipt stays for the next look."
  (let ((entry (smtpmail-native-sending-entry sending))
        (unrecorded (plist-get result :unrecorded)))
    (when unrecorded
      (smtpmail-native-quiet-warn
       (format "Cannot record the outcome of a delivery attempt: %s"
               (smtpmail-native-error-text unrecorded))))
    (condition-case err
        (smtpmail-native-settle
         entry
         (append (list :attempt (smtpmail-native-sending-attempt sending)
                       :partial (smtpmail-native-sending-partial sending))
                 result)
         (smtpmail-native-sending-cancelled sending)
         (smtpmail-native-identity-who
          (smtpmail-native-sending-found sending)))
      (smtpmail-native-outbox-error
       (smtpmail-native-quiet-warn (cadr err))))))

(declare-function smtpmail-native-log-outcome "smtpmail-native-log"
                  (entry result seconds))

(defun smtpmail-native-attempt--log (sending result)
  "Put into the log, if there is one, what RESULT means for SENDING."
  (when smtpmail-native-log-file
    (require 'smtpmail-native-log)
    (smtpmail-native-quiet-guard
     "Cannot write the log" #'smtpmail-native-log-outcome
     (smtpmail-native-sending-entry sending) result
     (- (float-time) (smtpmail-native-sending-start sending)))))

(defun smtpmail-native-attempt-trusted-p (entry result ask)
  "Return non-nil if ENTRY is to be tried again after RESULT of a certificate.
ASK non-nil means that the user can be asked now."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (count (or (plist-get (smtpmail-native-entry-state entry)
                               :certificates)
                    0)))
    (when (and (eq (plist-get result :kind) 'certificate)
               (< count smtpmail-native-attempt--certificates)
               (smtpmail-native-trust-judge (plist-get envelope :host)
                                            (plist-get envelope :port)
                                            result ask))
      (smtpmail-native-outbox-note entry :certificates (1+ count))
      t)))

(defun smtpmail-native-attempt--end-at-certificate (sending result)
  "Do what RESULT, which ended SENDING at a certificate, asks for.
If that will do it is tried again at once, else the question waits."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (id (smtpmail-native-entry-id entry))
         (found (smtpmail-native-sending-found sending))
         ;; It is not if the user has cancelled it meanwhile.
         (held (eq (smtpmail-native-entry-hold entry) 'certificate)))
    (if (and held (smtpmail-native-attempt-trusted-p entry result nil))
        (smtpmail-native-attempt entry :found found)
      (smtpmail-native-identity-forget id)
      (if (and held (smtpmail-native-tell-attended-p))
          (smtpmail-native-identity-show id result found)
        (smtpmail-native-auth-release found))
      (smtpmail-native-settle-conclude
       entry (- (float-time) (smtpmail-native-sending-start sending))))))

(defun smtpmail-native-attempt--done (sending result)
  "Take RESULT, a plist of the module, as the end of SENDING."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (found (smtpmail-native-sending-found sending))
         (certificate (eq (plist-get result :kind) 'certificate))
         (waiter (smtpmail-native-sending-waiter sending))
         (secret (smtpmail-native-identity-news-p result found))
         (result (append
                  result
                  (list :second-chance
                        (smtpmail-native-mechanism-second-chance-p
                         result found)))))
    (smtpmail-native-attempt--leave (smtpmail-native-entry-id entry))
    (setq smtpmail-native-queue-last-result result)
    (unless certificate
      (smtpmail-native-outbox-note entry :certificates nil))
    (smtpmail-native-attempt--record sending result)
    (smtpmail-native-attempt--log sending result)
    (unless certificate
      (smtpmail-native-identity-judge result found (not waiter)))
    (setf (smtpmail-native-sending-result sending) result)
    (cond
     (waiter)
     (certificate
      (smtpmail-native-attempt--end-at-certificate sending result))
     (t
      (smtpmail-native-settle-conclude
       entry (- (float-time) (smtpmail-native-sending-start sending))
       (plist-get result :notes))))
    (smtpmail-native-attempt--ended entry :secret secret)))

;;;; The begin of an attempt

(defun smtpmail-native-attempt--handle (sending kind plist)
  "Take the event of KIND with PLIST for SENDING."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (id (smtpmail-native-entry-id entry)))
    (pcase kind
      ('trace (smtpmail-native-tell-trace-line
               (plist-get (smtpmail-native-entry-envelope entry) :host)
               id plist))
      ('progress
       (setf (smtpmail-native-sending-sent sending) (plist-get plist :sent)
             (smtpmail-native-sending-total sending) (plist-get plist :total))
       (smtpmail-native-index-changed id))
      ('done (smtpmail-native-attempt--done sending plist)))))

(defun smtpmail-native-attempt--change (entry change)
  "Change the state of ENTRY by CHANGE; return the change that undoes that.
Nothing is written, and the value is nil, where that is how it is already."
  (let ((state (smtpmail-native-entry-state entry))
        (old nil)
        (new change)
        (differs nil))
    (while new
      (let ((key (pop new))
            (value (pop new)))
        (setq old (append (list key (plist-get state key)) old)
              differs (or differs
                          (not (equal value (plist-get state key)))))))
    (when differs
      (apply #'smtpmail-native-outbox-set entry change)
      old)))

(defun smtpmail-native-attempt--submit (sending change)
  "Change the entry of SENDING by CHANGE, and give its job to the module.
On an error the entry is as it was."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (id (smtpmail-native-entry-id entry))
         (job nil)
         (undo nil)
         (done nil))
    (unwind-protect
        (progn
          (setq undo (smtpmail-native-attempt--change entry change)
                job (smtpmail-native-job entry
                                         (smtpmail-native-sending-found
                                          sending)))
          (setf (smtpmail-native-sending-attempt sending)
                (plist-get job :attempt)
                (smtpmail-native-sending-partial sending)
                (plist-get job :partial))
          (smtpmail-native-tell-new-trace (plist-get job :host) id)
          (smtpmail-native-attempt--enter sending)
          (setf (smtpmail-native-sending-job sending)
                (smtpmail-native-channel-submit
                 job (lambda (kind plist)
                       (smtpmail-native-attempt--handle sending kind plist))))
          (setq done t))
      (unless done
        (smtpmail-native-attempt--leave id)
        (when undo
          (ignore-errors
            (apply #'smtpmail-native-outbox-set entry undo)))))))

(defun smtpmail-native-attempt--new (entry waiter)
  "Return a new `smtpmail-native-sending' for ENTRY.
WAITER non-nil means that the caller waits for its end."
  (make-smtpmail-native-sending
   :entry entry :waiter waiter :start (float-time)
   :key (smtpmail-native-entry-account-key
         (smtpmail-native-entry-envelope entry))
   :total (or (plist-get (smtpmail-native-entry-envelope entry) :size) 0)))

(defun smtpmail-native-attempt--go (sending found change)
  "Begin SENDING with the credentials FOUND, and change its entry by CHANGE.
A quit must not come between: the caller lets go of the entry on an error."
  (let ((inhibit-quit t))
    (setf (smtpmail-native-sending-found sending) found)
    (smtpmail-native-attempt--submit
     sending
     (append change
             (list :status 'ready :hold nil :by nil :next nil :undo nil
                   :wait (smtpmail-native-sending-waiter sending))))
    (smtpmail-native-index-put (smtpmail-native-sending-entry sending))
    sending))

(defun smtpmail-native-attempt-begin (entry found &rest keys)
  "Begin to send ENTRY, which is claimed, with the credentials FOUND.
KEYS is a plist: :waiter non-nil means that the caller waits; :change is a
change of the state of ENTRY that is made together with the begin.  Return a
`smtpmail-native-sending'.  Signal a child of `smtpmail-native-error' when
it cannot begin; then ENTRY is still claimed, and as it was."
  (smtpmail-native-attempt--go
   (smtpmail-native-attempt--new entry (plist-get keys :waiter))
   found (plist-get keys :change)))

;;;; What hinders it

(defun smtpmail-native-attempt--text (err)
  "Return the text of the error ERR."
  (if (memq 'smtpmail-native-error (get (car err) 'error-conditions))
      (cadr err)
    (error-message-string err)))

(defun smtpmail-native-attempt-hold (entry change)
  "Change the state of ENTRY, which is claimed, by CHANGE; let go of it.
CHANGE holds it or puts it off.  That is told."
  (condition-case err
      (progn
        (apply #'smtpmail-native-outbox-set entry :undo nil :wait nil change)
        (smtpmail-native-settle-conclude entry))
    (smtpmail-native-outbox-error
     (smtpmail-native-attempt--put-off entry (cadr err)))))

(defun smtpmail-native-attempt--put-off (entry text)
  "Let go of ENTRY, which is claimed; TEXT is why it cannot be tried now.
That is no fact of ENTRY, and so nothing is written; it is told once."
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-tell-once text "Still waiting: %s: %s"
                             (smtpmail-native-entry-title entry) text)
  (smtpmail-native-attempt--ended
   entry :again (+ (float-time) smtpmail-native-attempt--later)))

(defun smtpmail-native-attempt--hindered (entry err found trial)
  "Do what the error ERR, which hinders an attempt for ENTRY, asks for.
FOUND are the credentials, or nil.  TRIAL is as in
`smtpmail-native-attempt'.  Let go of ENTRY."
  (let ((text (smtpmail-native-attempt--text err))
        (who (smtpmail-native-identity-who found))
        (conditions (get (car err) 'error-conditions)))
    (cond
     (trial
      (smtpmail-native-outbox-release entry)
      (when (eq trial 'tell)
        (smtpmail-native-tell-say "Still waiting: %s: %s"
                                  (smtpmail-native-entry-title entry) text)))
     ;; A place that cannot be asked now may be asked later.
     ((memq 'smtpmail-native-lookup-error conditions)
      (smtpmail-native-attempt-hold
       entry (append (smtpmail-native-outcome-deferral entry text (float-time))
                     (list :by (append who '(:why lookup))))))
     ((memq 'smtpmail-native-auth-error conditions)
      (smtpmail-native-attempt-hold
       entry (list :status 'held :hold 'password :next nil :text text
                   :by (append who '(:why missing)))))
     ((memq 'smtpmail-native-outbox-error conditions)
      (smtpmail-native-attempt--put-off entry text))
     ((memq 'smtpmail-native-usage-error conditions)
      (smtpmail-native-attempt-hold
       entry (list :status 'held :hold 'error :next nil :text text :by who)))
     ;; No descriptors, threads or memory.
     (t (smtpmail-native-attempt--put-off entry text)))))

(defun smtpmail-native-attempt--find (entry keys)
  "Return the credentials for ENTRY; KEYS as in `smtpmail-native-attempt'."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (demanded (eq (smtpmail-native-entry-hold entry) 'password)))
    (or (plist-get keys :found)
        (smtpmail-native-identity-take (smtpmail-native-entry-id entry))
        (if (or demanded (plist-get keys :ask))
            (smtpmail-native-identity-find
             envelope :demanded demanded :ask (plist-get keys :ask)
             :later (not (plist-get keys :ask)))
          (smtpmail-native-identity-kept envelope)))))

(defun smtpmail-native-attempt--fetched (sending found err keys)
  "Go on with SENDING, whose secret has come: FOUND, or the error ERR.
KEYS as in `smtpmail-native-attempt'."
  (let ((entry (smtpmail-native-sending-entry sending)))
    (smtpmail-native-attempt--leave (smtpmail-native-entry-id entry))
    (if (smtpmail-native-sending-cancelled sending)
        (progn
          (smtpmail-native-auth-release found)
          (smtpmail-native-attempt-hold
           entry '(:status held :hold user :next nil :text "cancelled")))
      (smtpmail-native-attempt--try sending found err keys))
    (smtpmail-native-attempt--ended entry)))

(defun smtpmail-native-attempt--fetch (sending found keys)
  "Let the secret of FOUND come, and go on with SENDING then.
KEYS as in `smtpmail-native-attempt'."
  (smtpmail-native-attempt--enter sending)
  (smtpmail-native-auth-complete
   found
   (lambda (found err)
     (smtpmail-native-quiet-call #'smtpmail-native-attempt--fetched
                                 sending found err keys))))

(defun smtpmail-native-attempt--try (sending found err keys)
  "Begin SENDING with FOUND, or do what ERR, which hinders that, asks for.
KEYS as in `smtpmail-native-attempt'."
  (let ((entry (smtpmail-native-sending-entry sending)))
    (condition-case failure
        (cond
         (err (signal (car err) (cdr err)))
         ((and (plist-get keys :trial)
               (smtpmail-native-entry-tried-p entry found))
          (smtpmail-native-auth-release found)
          (smtpmail-native-outbox-release entry))
         ((plist-get found :pending)
          (smtpmail-native-attempt--fetch sending found keys))
         (t (smtpmail-native-attempt--go sending found
                                         (plist-get keys :change))))
      (error
       (smtpmail-native-auth-release found)
       (smtpmail-native-attempt--hindered entry failure found
                                          (plist-get keys :trial))))))

(defun smtpmail-native-attempt (entry &rest keys)
  "Send ENTRY, which is claimed, in the background.
What hinders it is told to the user; no error is signalled.  KEYS is a plist:
 :ask     non-nil if a command that you have given is behind it, so that it
          may ask for a password; if you quit, ENTRY is left as it was
 :found   the credentials if they are known already
 :change  a change of the state of ENTRY, made when it has begun
 :trial   non-nil to leave ENTRY as it is where this Emacs lacks what it
          needs, since another one may have it; `tell' to say so"
  (let ((found nil)
        (failure nil)
        (done nil))
    (unwind-protect
        (progn
          (condition-case err
              (setq found (smtpmail-native-attempt--find entry keys))
            (error (setq failure err)))
          (let ((inhibit-quit t))
            (setq done t)
            (smtpmail-native-attempt--try
             (smtpmail-native-attempt--new entry nil) found failure keys)))
      (unless done
        (smtpmail-native-auth-release found)
        (smtpmail-native-outbox-release entry)))))

(provide 'smtpmail-native-attempt)
;;; smtpmail-native-attempt.el ends here
