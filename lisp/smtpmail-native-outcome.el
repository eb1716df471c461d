;;; smtpmail-native-outcome.el --- A receipt becomes the new state of an entry  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What a receipt means for each recipient, and for the entry: sent, refused,
;; held, tried again and when, or in doubt.  Pure: nothing is read, written or
;; told here.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'smtpmail-native-verdict)

;;;; Each recipient

(defun smtpmail-native-outcome--fate (code)
  "Return what the reply CODE to one recipient means for the recipient."
  (cond ((and code (>= code 500)) 'refused)
        ((and code (>= code 400)) 'deferred)))

(defun smtpmail-native-outcome-answers (receipt)
  "Return what RECEIPT tells of each recipient that the server answered for.
The value is an alist as in :results of `smtpmail-native-outbox-set'."
  (let ((sent (eq (plist-get receipt :kind) 'ok))
        (doubt (plist-get receipt :in-doubt))
        (answers nil))
    (pcase-dolist (`(,address ,accepted ,code ,enhanced ,text)
                   (plist-get receipt :recipients))
      (let ((outcome (cond ((eq accepted 'delivered) 'sent) ; LMTP
                           ((and accepted doubt) 'unknown)
                           ((and accepted sent) 'sent)
                           ((not accepted)
                            (smtpmail-native-outcome--fate code)))))
        (when outcome
          (push (list (decode-coding-string address 'utf-8) outcome code
                      enhanced (smtpmail-native-error-text text))
                answers))))
    (nreverse answers)))

(defun smtpmail-native-outcome-merge (results answers)
  "Return RESULTS, an alist of recipients, brought up to date by ANSWERS."
  (if (null results)
      answers
    (let ((new (smtpmail-native-entry-by-address answers)))
      (append (seq-remove (lambda (result)
                            (gethash (encode-coding-string (car result) 'utf-8)
                                     new))
                          results)
              answers))))

;;;; The new state

(defconst smtpmail-native-outcome-back-off '(60 120 300 900 1800 3600)
  "Seconds until the next try after each failure; the last one for all others.")

(defun smtpmail-native-outcome-deferral (entry text now)
  "Return the change of state that lets ENTRY be tried again later.
TEXT says what failed at the time NOW.  After `smtpmail-native-expire' it is
held, and you decide."
  (let* ((tries (1+ (or (plist-get (smtpmail-native-entry-state entry) :tries)
                        0)))
         (pause (or (nth (1- tries) smtpmail-native-outcome-back-off)
                    (car (last smtpmail-native-outcome-back-off)))))
    (if (smtpmail-native-entry-old-p entry now)
        (list :status 'held :hold 'expired :next nil :tries tries :text text)
      (list :status 'ready :hold nil :next (truncate (+ now pause))
            :tries tries :text text))))

(defun smtpmail-native-outcome--why (receipt)
  "Return why RECEIPT holds its entry for a secret, a symbol."
  (cond ((plist-get receipt :passphrase-wanted) 'passphrase)
        ((eq (plist-get receipt :kind) 'auth) 'refused)
        (t 'demanded)))

(defun smtpmail-native-outcome--failure (entry receipt cancelled who now)
  "Return the change of state of ENTRY after the failed attempt of RECEIPT.
CANCELLED, WHO and NOW are as in `smtpmail-native-outcome-settle'."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (text (smtpmail-native-verdict-describe
                (append receipt (list :stream (plist-get envelope :stream)))
                (plist-get envelope :host) (plist-get envelope :port)))
         (verdict (smtpmail-native-verdict receipt)))
    (cond
     ;; An expired token is fetched again, once.
     ((and (plist-get receipt :second-chance)
           (not cancelled)
           (not (plist-get (smtpmail-native-entry-state entry) :renewed)))
      (list :status 'ready :hold nil :next nil :renewed t :text text))
     ;; The server does not keep it until it is time; we do.
     ((and (plist-get receipt :release-unsupported) (not cancelled))
      (list :status 'ready :hold nil :next nil :here t :text nil))
     ((and (plist-get receipt :eight-bit-unsupported) (not cancelled))
      (list :encode t))
     ((eq verdict 'unknown)
      (list :status 'unknown :hold nil :next nil :doubt t :text text))
     ((eq verdict 'refused)
      (list :status 'refused :hold nil :next nil :text text))
     (cancelled
      (list :status 'held :hold 'user :next nil :text text))
     ((memq verdict '(password certificate settings))
      (list :status 'held :hold verdict :next nil :text text
            :by (append who
                        (and (eq verdict 'password)
                             (list :why (smtpmail-native-outcome--why
                                         receipt))))))
     ((eq verdict 'cancelled)
      (list :status 'ready :hold nil :next nil :text text))
     (t (append (smtpmail-native-outcome-deferral entry text now)
                (list :suspect
                      (smtpmail-native-verdict-suspect-p receipt)))))))

(defun smtpmail-native-outcome--rest (entry text more cancelled now)
  "Return the change of state of ENTRY, which is still to go to some recipients.
TEXT says what the server answered for them; MORE, CANCELLED and NOW are as in
`smtpmail-native-outcome--amount'."
  (cond
   (cancelled
    (list :status 'held :hold 'user :next nil
          :text (if more "You stopped it before all recipients were sent to"
                  text)))
   (more
    (list :status 'ready :hold nil :next nil :more t :text nil))
   (t (smtpmail-native-outcome-deferral entry text now))))

(defun smtpmail-native-outcome--amount (entry results more cancelled now)
  "Return the change of the state of ENTRY that RESULTS amount to.
They are the answers for its recipients.  MORE non-nil means that the
server takes no more of them at a time, and CANCELLED that the user wants it
to go to no more of them.  NOW is the time."
  (let* ((rest (seq-remove (lambda (result) (eq (cadr result) 'sent)) results))
         (text (mapconcat (lambda (result)
                            (format "<%s>: %s %s" (nth 0 result) (nth 2 result)
                                    (nth 4 result)))
                          rest "; ")))
    (cond
     ((smtpmail-native-entry-unanswered entry results)
      (smtpmail-native-outcome--rest
       entry (concat "Not yet accepted for all recipients: " text)
       more cancelled now))
     (rest
      (list :status 'refused :hold nil :next nil
            :text (concat "Not accepted for all recipients: " text)))
     (t (list :status 'sent :hold nil :next nil :doubt nil :text nil)))))

(defun smtpmail-native-outcome--none-p (receipt answers)
  "Return non-nil if RECEIPT says `ok', and no recipient in ANSWERS has it.
The module never writes that; what it means can only be told by the user."
  (and (eq (plist-get receipt :kind) 'ok)
       (not (plist-get receipt :in-doubt))
       (not (seq-some (lambda (answer) (eq (cadr answer) 'sent)) answers))))

(defun smtpmail-native-outcome--user-held-p (state)
  "Return non-nil if the user has held an entry of STATE.
One that is queued stays so on the disk while a flush sends it."
  (and (eq (plist-get state :status) 'held)
       (eq (plist-get state :hold) 'user)))

(defun smtpmail-native-outcome-settle (entry receipt cancelled who now)
  "Return what RECEIPT means for ENTRY: a change of its state, or nil.
CANCELLED non-nil means that the user has cancelled the attempt, as does a
state that the user has set to `held' meanwhile.  WHO is a plist that tells
who made it, see :by of `smtpmail-native-outbox-set'; NOW is the time.
The value is nil if the receipt has been settled before.  An attempt without
a receipt has led to nothing: the end of data has never been sent.
A change with :encode non-nil is for an entry whose message has to be
encoded first."
  (let* ((state (smtpmail-native-entry-state entry))
         (cancelled (or cancelled
                        (smtpmail-native-outcome--user-held-p state)))
         (settled (or (plist-get state :settled) 0))
         (attempt (and receipt
                       ;; One that cannot be read is the last one.
                       (or (plist-get receipt :attempt) (1+ settled)))))
    (when (and receipt (> attempt settled))
      ;; In an all-or-nothing attempt, a refusal is not final for its
      ;; recipient: the next attempt is again for all recipients.
      (let* ((each (or (eq (plist-get receipt :kind) 'ok)
                       (plist-get receipt :in-doubt)
                       (and (plist-get receipt :partial)
                            (eq (plist-get receipt :stage) 'rcpt))))
             (all (smtpmail-native-outcome-answers receipt))
             (answers (and each all))
             (results (smtpmail-native-outcome-merge (plist-get state :results)
                                                     answers)))
        (append
         (list :settled attempt :undo nil :more nil :results results
               :network (smtpmail-native-verdict-offline-p receipt)
               :replies (and (not each) all))
         (cond
          ((smtpmail-native-outcome--none-p receipt answers)
           (list :status 'unknown :hold nil :next nil :doubt t
                 :text "It was sent, and the receipt does not say to whom"))
          ((and answers (not (plist-get receipt :in-doubt)))
           (smtpmail-native-outcome--amount
            entry results (plist-get receipt :more) cancelled now))
          (t (smtpmail-native-outcome--failure
              entry receipt cancelled who now))))))))

(provide 'smtpmail-native-outcome)
;;; smtpmail-native-outcome.el ends here
