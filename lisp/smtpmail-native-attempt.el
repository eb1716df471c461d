;;; smtpmail-native-attempt.el --- One delivery  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; An attempt begins with an entry that is claimed, goes on by the events of the
;; module, and ends with the entry settled and let go of.  What it has led to is
;; always read from the receipt, whether it has just been written or was found
;; on the disk later by another Emacs: see `smtpmail-native-attempt-settle'.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-job)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-seven-bit)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-trust)
(require 'smtpmail-native-verdict)

(defvar smtpmail-native-queue-last-result nil
  "What the module told of the last mail, a plist; for scripts.
It has :kind, :stage, :code, :enhanced, :text, :in-doubt, :octets, :reply,
:mechanism, :tls and :recipients, the latter a list
of (ADDRESS ACCEPTED CODE ENHANCED TEXT).")

(defvar smtpmail-native-attempt-file-functions nil
  "Functions that file copies of a mail when it has been sent.
The argument is its entry.  They tell failures themselves.")

(defvar smtpmail-native-attempt-ended-functions nil
  "Functions that are called at the end of each attempt in the background.
The arguments are the entry, which may be gone, and a plist: :again, the
time in seconds of the next look at it where its state does not say so, and
:secret, non-nil if a secret that was just typed has turned out to be right.
None of them may signal an error.")

(cl-defstruct (smtpmail-native-sending (:copier nil))
  "An attempt that is under way."
  (entry nil :documentation "Its entry, claimed.")
  (job nil :documentation "Id of the module's job.")
  (attempt 0 :documentation "Its number.")
  (partial nil :documentation "Non-nil if it is for those who are accepted.")
  (found nil :documentation "The credentials, see `smtpmail-native-auth-find'.")
  (start nil :documentation "When it began, seconds.")
  (sent 0 :documentation "Octets so far.")
  (total 0 :documentation "Octets in all.")
  (waiter nil :documentation "Non-nil if a caller waits for the result.")
  (cancelled nil :documentation "Non-nil if the user has cancelled it.")
  (result nil :documentation "Plist of the module, when all is over."))

(defvar smtpmail-native-attempt--active (make-hash-table :test #'equal)
  "The attempts under way in this Emacs, by the id of their entry.")

(defvar smtpmail-native-attempt--kept (make-hash-table :test #'equal)
  "Credentials that were found a moment ago, by account.")

(defvar smtpmail-native-attempt--doubts (make-hash-table :test #'equal)
  "Attempts that ended at a certificate, by the id of the entry.
Each is (RESULT . FOUND), FOUND being the credentials, which nobody has seen:
they serve again when the user has accepted the certificate.")

(defconst smtpmail-native-attempt--certificates 3
  "How many certificates of one server are accepted for one mail.
A server that shows another one each time would be tried for ever.")

(defun smtpmail-native-attempt-sending (id)
  "Return the `smtpmail-native-sending' of the entry ID, or nil.
There is one while this Emacs sends the entry."
  (gethash id smtpmail-native-attempt--active))

(defun smtpmail-native-attempt-sendings ()
  "Return all attempts that are under way in this Emacs."
  (hash-table-values smtpmail-native-attempt--active))

(defun smtpmail-native-attempt-change (id function)
  "Call FUNCTION with the entry ID, claimed, and return its value.
Return nil if the entry is gone or another Emacs works on it."
  (let* ((sending (gethash id smtpmail-native-attempt--active))
         (entry (if sending
                    (smtpmail-native-sending-entry sending)
                  (smtpmail-native-outbox-get id))))
    (cond (sending (funcall function entry))
          ((and entry (smtpmail-native-outbox-claim entry))
           (unwind-protect
               (funcall function entry)
             (smtpmail-native-outbox-release entry))))))

(defun smtpmail-native-attempt-doubt (id)
  "Return at which certificate the last attempt for the entry ID has ended.
The value is (RESULT . FOUND), or nil; FOUND are the credentials, which have
not been shown to the server."
  (gethash id smtpmail-native-attempt--doubts))

(defun smtpmail-native-attempt-take-doubt (id)
  "Forget at which certificate the last attempt for the entry ID has ended.
Return the credentials, which are the caller's now, or nil."
  (prog1 (cdr (gethash id smtpmail-native-attempt--doubts))
    (remhash id smtpmail-native-attempt--doubts)))

;;;; The end of an attempt

(defun smtpmail-native-attempt--encode (entry)
  "Encode the message of ENTRY for a server that takes only ASCII.
Return the change of its state: it is tried again at once, or refused if it
cannot be encoded."
  (condition-case err
      (with-temp-buffer
        (set-buffer-multibyte nil)
        (smtpmail-native-outbox-insert-message entry)
        (smtpmail-native-seven-bit-encode)
        (smtpmail-native-outbox-encode-message entry (current-buffer))
        (list :status 'ready :hold nil :next nil :more t :text nil))
    (smtpmail-native-refused
     (list :status 'refused :hold nil :next nil :text (cadr err)))))

(defun smtpmail-native-attempt-settle (entry &optional receipt cancelled)
  "Record the outcome of the last attempt for ENTRY, which is claimed.
RECEIPT defaults to the one on the disk.  CANCELLED is as in
`smtpmail-native-verdict-settle'.  Return nil, and do nothing, if it is
recorded already.  All changes are written in one step: if Emacs is killed
before that, the next session repeats it."
  (let* ((receipt (or receipt (smtpmail-native-entry-receipt entry)))
         (change (smtpmail-native-verdict-settle entry receipt cancelled)))
    (when change
      (when (plist-get change :encode)
        (setq change (append (smtpmail-native-attempt--encode entry)
                             (list :settled (plist-get change :settled)
                                   :undo nil
                                   :results (plist-get change :results)
                                   :replies (plist-get change :replies)))))
      (apply (if (eq (plist-get change :status) 'sent)
                 ;; The receipt says so, and the entry is deleted in a moment.
                 #'smtpmail-native-outbox-note
               #'smtpmail-native-outbox-set)
             entry change)
      (unless (plist-get receipt :attempt)
        (smtpmail-native-outbox-forget-receipt entry))
      t)))

(defun smtpmail-native-attempt--file-copies (entry)
  "Append the message of ENTRY to the files of its Fcc fields.
It has been sent, and so a failure is only told."
  (dolist (file (plist-get (smtpmail-native-entry-envelope entry) :fcc))
    (condition-case err
        (with-temp-buffer
          (set-buffer-multibyte nil)
          (insert "Fcc: " (encode-coding-string file 'utf-8) "\n")
          (smtpmail-native-outbox-insert-message entry)
          (goto-char (point-min))
          (search-forward "\n\n")
          (let ((coding-system-for-write 'no-conversion))
            (mail-do-fcc (copy-marker (1- (point))))))
      (error
       (smtpmail-native-tell-unfiled
        entry (format "in %s: %s" file (error-message-string err)))))))

(defun smtpmail-native-attempt-forget-doubt (id)
  "Forget at which certificate the last attempt for the entry ID has ended."
  (let ((doubt (gethash id smtpmail-native-attempt--doubts)))
    (remhash id smtpmail-native-attempt--doubts)
    (smtpmail-native-auth-release (cdr doubt))))

(defun smtpmail-native-attempt-finish (entry)
  "File the copies of ENTRY, which has been sent, run the hook, delete it."
  (unless (plist-get (smtpmail-native-entry-state entry) :finished)
    (smtpmail-native-attempt--file-copies entry)
    (with-demoted-errors "smtpmail-native: the copy was not filed: %S"
      (run-hook-with-args 'smtpmail-native-attempt-file-functions entry))
    (smtpmail-native-tell-run-hook 'smtpmail-native-sent-functions entry))
  (remhash (smtpmail-native-entry-id entry) smtpmail-native-tell--traces)
  (smtpmail-native-attempt-forget-doubt (smtpmail-native-entry-id entry))
  ;; An error would look as if it had not been sent.
  (condition-case err
      (smtpmail-native-outbox-remove entry)
    (smtpmail-native-outbox-error
     (display-warning 'smtpmail-native
                      (format "The mail was sent.  %s" (cadr err)))
     (ignore-errors
       (smtpmail-native-outbox-set entry :status 'sent :finished t))
     (smtpmail-native-outbox-release entry))))

(defun smtpmail-native-attempt--ended (entry &rest plist)
  "Call the functions that wait for the end of an attempt for ENTRY with PLIST."
  (run-hook-with-args 'smtpmail-native-attempt-ended-functions entry plist))

(defun smtpmail-native-attempt-conclude (entry &optional seconds)
  "Do what the state of ENTRY, just settled, asks for, and let go of it.
SECONDS is how long the attempt took, if this Emacs made it."
  (let ((id (smtpmail-native-entry-id entry)))
    (unwind-protect
        (if (eq (plist-get (smtpmail-native-entry-state entry) :status) 'sent)
            (let ((people (smtpmail-native-entry-people entry)))
              (smtpmail-native-attempt-finish entry)
              (smtpmail-native-tell-say
               "Sent to %s%s" people
               (if seconds (format " in %.1f s" seconds) "")))
          (smtpmail-native-tell entry))
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-tell-changed id))))

(defun smtpmail-native-attempt--judge-credentials (result found later)
  "Tell the source of the credentials FOUND what RESULT says of them.
LATER non-nil means that the user must not be asked anything now.  That is
no matter of the mail, and so an error is only told."
  (unwind-protect
      (condition-case err
          (cond ((smtpmail-native-auth-string (plist-get result :mechanism))
                 (smtpmail-native-auth-worked found later))
                ((plist-get result :passphrase-wanted)
                 (smtpmail-native-attempt-forget-kept)
                 (smtpmail-native-auth-wrong-passphrase found))
                ((or (plist-get result :second-chance)
                     (and (eq (plist-get result :kind) 'auth)
                          (eql (plist-get result :code) 535)
                          (not (plist-get result :password-untested))))
                 (smtpmail-native-attempt-forget-kept)
                 (smtpmail-native-auth-failed found)))
        (error (message "smtpmail-native: %s" (error-message-string err))))
    (smtpmail-native-auth-release found)))

(defun smtpmail-native-attempt--settle-result (sending result)
  "Put down what RESULT, a plist of the module, means for SENDING.
Where that cannot be written, the receipt stays for the next look."
  (let ((entry (smtpmail-native-sending-entry sending))
        (unrecorded (plist-get result :unrecorded)))
    (when unrecorded
      (display-warning
       'smtpmail-native
       (format "What came of a mail could not be written down: %s"
               (smtpmail-native-error-text unrecorded))))
    (condition-case err
        (smtpmail-native-attempt-settle
         entry
         (append (list :attempt (smtpmail-native-sending-attempt sending)
                       :partial (smtpmail-native-sending-partial sending))
                 result)
         (smtpmail-native-sending-cancelled sending))
      (smtpmail-native-outbox-error
       (display-warning 'smtpmail-native (cadr err))))))

(defun smtpmail-native-attempt-trusted-p (entry result ask)
  "Return non-nil if ENTRY is to be tried again after RESULT of a certificate.
ASK non-nil means that the user can be asked now; an answer counts for all
mails that wait for it."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (host (plist-get envelope :host))
         (port (plist-get envelope :port))
         (count (or (plist-get (smtpmail-native-entry-state entry)
                               :certificates)
                    0)))
    (when (and (eq (plist-get result :kind) 'certificate)
               (< count smtpmail-native-attempt--certificates)
               (smtpmail-native-trust-judge host port result ask))
      (smtpmail-native-outbox-note entry :certificates (1+ count))
      (when ask
        (smtpmail-native-schedule-trust-changed host port))
      t)))

(defun smtpmail-native-attempt--conclude-doubt (sending result)
  "Do what RESULT, which ended SENDING at a certificate, asks for.
If that will do it is tried again at once, else the question waits."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (id (smtpmail-native-entry-id entry))
         (found (smtpmail-native-sending-found sending))
         ;; It is not if the user has cancelled it meanwhile.
         (held (eq (plist-get (smtpmail-native-entry-state entry) :hold)
                   'certificate)))
    (if (and held (smtpmail-native-attempt-trusted-p entry result nil))
        (smtpmail-native-attempt entry nil found)
      (smtpmail-native-attempt-forget-doubt id)
      (if (and held (smtpmail-native-tell-attended-p))
          (puthash id (cons result found) smtpmail-native-attempt--doubts)
        (smtpmail-native-auth-release found))
      (smtpmail-native-attempt-conclude
       entry (- (float-time) (smtpmail-native-sending-start sending))))))

(defun smtpmail-native-attempt--news-p (result found)
  "Return non-nil if RESULT shows that a secret of FOUND, just typed, is right."
  (or (and (plist-get found :typed)
           (smtpmail-native-auth-string (plist-get result :mechanism)))
      (and (plist-get found :asked)
           (not (plist-get result :passphrase-wanted)))))

(defun smtpmail-native-attempt--done (sending result)
  "Take RESULT, a plist of the module, as the end of SENDING."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (found (smtpmail-native-sending-found sending))
         (doubt (eq (plist-get result :kind) 'certificate))
         (result (append result
                         (list :second-chance
                               (smtpmail-native-mechanism-second-chance-p
                                result found)))))
    (remhash (smtpmail-native-entry-id entry) smtpmail-native-attempt--active)
    (setq smtpmail-native-queue-last-result result)
    (unwind-protect
        (progn
          (unless doubt
            (smtpmail-native-outbox-note entry :certificates nil)
            (smtpmail-native-attempt--judge-credentials
             result found (not (smtpmail-native-sending-waiter sending))))
          (smtpmail-native-attempt--settle-result sending result))
      (setf (smtpmail-native-sending-result sending) result))
    (cond
     ((smtpmail-native-sending-waiter sending))
     (doubt
      (smtpmail-native-attempt--conclude-doubt sending result))
     (t
      (smtpmail-native-attempt-conclude
       entry (- (float-time) (smtpmail-native-sending-start sending)))))
    (smtpmail-native-attempt--ended
     entry :secret (smtpmail-native-attempt--news-p result found))))

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
       (smtpmail-native-tell-changed id))
      ('done (smtpmail-native-attempt--done sending plist)))))

(defun smtpmail-native-attempt--submit (sending job)
  "Give JOB, that of SENDING, to the module.
The caller lets go of the entry if that signals an error, and so a quit must
not interrupt after the job was submitted."
  (let ((id (smtpmail-native-entry-id
             (smtpmail-native-sending-entry sending))))
    (puthash id sending smtpmail-native-attempt--active)
    (condition-case err
        (setf (smtpmail-native-sending-job sending)
              (smtpmail-native-channel-submit
               job (lambda (kind plist)
                     (smtpmail-native-attempt--handle sending kind plist))))
      (error
       (remhash id smtpmail-native-attempt--active)
       (signal (car err) (cdr err))))))

(defun smtpmail-native-attempt-begin (entry found &optional waiter)
  "Begin to send ENTRY, which is claimed, with the credentials FOUND.
WAITER non-nil means that the caller waits.  Return a
`smtpmail-native-sending'.  Signal a child of `smtpmail-native-error' when
it cannot begin; then the entry is still claimed."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (state (smtpmail-native-entry-state entry))
         (id (smtpmail-native-entry-id entry))
         (job (smtpmail-native-job entry found))
         (sending (make-smtpmail-native-sending
                   :entry entry :attempt (plist-get job :attempt)
                   :found found :waiter waiter
                   :partial smtpmail-native-partial-recipients
                   :start (float-time)
                   :total (or (plist-get envelope :size) 0)))
         (inhibit-quit t))
    (unless (and (eq (plist-get state :status) 'ready)
                 (null (plist-get state :next))
                 (null (plist-get state :undo))
                 (eq (plist-get state :wait) waiter))
      (smtpmail-native-outbox-set entry :status 'ready :hold nil :next nil
                                  :undo nil :wait waiter))
    (smtpmail-native-tell-new-trace (plist-get envelope :host) id)
    (smtpmail-native-attempt--submit sending job)
    (smtpmail-native-tell-changed id)
    sending))

(defun smtpmail-native-attempt-forget-kept ()
  "Forget the credentials that are kept for a drain of the outbox."
  (maphash (lambda (_key found) (smtpmail-native-auth-release found))
           smtpmail-native-attempt--kept)
  (clrhash smtpmail-native-attempt--kept))

(defun smtpmail-native-attempt--kept-credentials (envelope)
  "Find the credentials for ENVELOPE as silently as may be.
Those that were found a moment ago serve again: a look into auth-source for
each of a hundred mails takes longer than to send them."
  (let* ((key (smtpmail-native-entry-account-key envelope))
         (kept (gethash key smtpmail-native-attempt--kept)))
    (unless kept
      (setq kept (smtpmail-native-job-find envelope nil nil))
      (when (= (hash-table-count smtpmail-native-attempt--kept) 0)
        (run-at-time 5 nil #'smtpmail-native-attempt-forget-kept))
      (puthash key kept smtpmail-native-attempt--kept))
    (smtpmail-native-auth-copy kept)))

(defun smtpmail-native-attempt-hold (entry hold text)
  "Hold ENTRY, which is claimed, for the reason HOLD and let go of it.
TEXT is told to the user.  Return nil."
  (smtpmail-native-outbox-set entry :status 'held :hold hold :next nil
                              :undo nil :wait nil :text text)
  (smtpmail-native-attempt-conclude entry)
  nil)

(defun smtpmail-native-attempt--leave-ready (entry text)
  "Let go of ENTRY, which is claimed, and tell TEXT."
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-tell-say "Mail to %s: %s.  It still waits"
                            (smtpmail-native-entry-people entry) text))

(defun smtpmail-native-attempt--find (entry ask)
  "Return the credentials for ENTRY; the user may be asked if ASK is non-nil."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (demanded (eq (plist-get (smtpmail-native-entry-state entry) :hold)
                      'password)))
    (if (or ask demanded)
        (smtpmail-native-job-find envelope demanded ask)
      (smtpmail-native-attempt--kept-credentials envelope))))

(defun smtpmail-native-attempt (entry &optional ask found)
  "Send ENTRY, which is claimed, in the background.
ASK non-nil means that the user may be asked for a password.  FOUND are
the credentials if they are known already.  What hinders it is told to
the user; no error is signalled."
  (let ((found found)
        (inhibited inhibit-quit)
        (begun nil))
    (unwind-protect
        (condition-case err
            (let ((inhibit-quit t))
              (unless found
                (setq found (let ((inhibit-quit inhibited))
                              (smtpmail-native-attempt--find entry ask))))
              (smtpmail-native-attempt-begin entry found)
              (setq begun t))
          (smtpmail-native-auth-error
           (if smtpmail-native-attempt--once
               ;; Another Emacs may know the password, or can ask for it.
               (smtpmail-native-attempt--leave-ready entry (cadr err))
             (smtpmail-native-attempt-hold entry 'password (cadr err))))
          (smtpmail-native-outbox-error
           (display-warning 'smtpmail-native (cadr err))
           (smtpmail-native-attempt--ended
            entry :again (+ (float-time) smtpmail-native-attempt--rescan)))
          (quit
           (smtpmail-native-attempt-hold entry 'password
                                         "No password was given"))
          (error
           (smtpmail-native-attempt-hold
            entry 'error (if (memq 'smtpmail-native-error
                                   (get (car err) 'error-conditions))
                             (cadr err)
                           (error-message-string err)))))
      (unless begun
        (smtpmail-native-auth-release found)
        (smtpmail-native-outbox-release entry)))))

(provide 'smtpmail-native-attempt)
;;; smtpmail-native-attempt.el ends here
