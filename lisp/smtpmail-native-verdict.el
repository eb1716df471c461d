;;; smtpmail-native-verdict.el --- What an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Pure: from what the module tells of an attempt, and the state of the entry, to
;; the new state, and to the words, the condition and the exit code.  Policy on
;; outcomes is here and nowhere else.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

(defconst smtpmail-native-verdict-back-off '(60 120 300 900 1800 3600)
  "Seconds until the next try after each failure; the last one for all others.")

;;;; The words of a failure

(defconst smtpmail-native-verdict--stages
  '((queued . "Cannot begin to send by")
    (resolve . "Cannot find")
    (connect . "Cannot connect to")
    (greeting . "Not welcome at")
    (ehlo . "EHLO failed at")
    (starttls . "STARTTLS failed at")
    (handshake . "No TLS with")
    (auth . "Authentication failed at")
    (mail . "Sender refused by")
    (rcpt . "Recipient refused by")
    (data . "DATA refused by")
    (content . "Message interrupted on its way to")
    (end-of-data . "Message refused by")
    (quit . "QUIT failed at"))
  "What failed, by stage; the server's name follows.")

(defun smtpmail-native-verdict-words (result)
  "Return what the server has said, from RESULT, a plist of the module.
It is the code and the text; the latter alone if it names recipients with
the replies to each, or if it is not the server's."
  (let ((code (or (plist-get result :code) 0)))
    (concat (if (and (> code 0) (not (eq (plist-get result :stage) 'rcpt)))
                (format "%d " code)
              "")
            (smtpmail-native-error-text (plist-get result :text)))))

(defun smtpmail-native-verdict-demand (result)
  "Return what the server demands by RESULT, a plist of the module, or nil.
The value is `auth', or `tls' (RFC 3207 4)."
  (when (and (eq (plist-get result :kind) 'reply)
             (eql (plist-get result :code) 530)
             (not (plist-get result :in-doubt)))
    (let ((case-fold-search t))
      (if (string-match-p "STARTTLS" (or (plist-get result :text) ""))
          'tls
        'auth))))

(defconst smtpmail-native-verdict--enhanced
  '(("1.1" . "check this address")
    ("1.2" . "check the domain of this address")
    ("1.3" . "check this address")
    ("1.6" . "this mailbox has moved")
    ("1.7" . "check your own address")
    ("1.8" . "check your own address")
    ("1.10" . "this domain takes no mail")
    ("2.1" . "this mailbox is disabled")
    ("2.2" . "this mailbox is full")
    ("2.3" . "the message is too large for this mailbox")
    ("3.4" . "the message is too large for this server")
    ("6.3" . "the message has to be encoded in another way")
    ("6.7" . "the address is not ASCII, and cannot be delivered to")
    ("7.3" . "the message has to be encrypted otherwise")
    ("7.8" . "check user and password of this server")
    ("7.9" . "see `smtpmail-native-auth-mechanisms'")
    ("7.11" . "see `smtpmail-stream-type'")
    ("7.13" . "your account is disabled")
    ("7.15" . "the server has been overrun, it will take some time")
    ("7.23" . "your domain does not allow this server to send its mail (SPF)")
    ("7.26" . "your domain does not allow this server to send its mail")
    ("7.30" . "a server on the way cannot promise TLS"))
  "What the user can do about subject and detail of an enhanced status code.
The codes are from RFC 3463, 4954, 5248, 7372 and 8689.")

(defun smtpmail-native-verdict--hint (result)
  "Return what the user can do about RESULT, or nil."
  (let ((kind (plist-get result :kind))
        (stage (plist-get result :stage)))
    (cond
     ((plist-get result :in-doubt)
      "look whether it arrived before you send it again")
     ((eq kind 'cleartext)
      "see `smtpmail-native-cleartext-auth', or use STARTTLS")
     ((and (eq kind 'certificate)
           (string-match-p " is pinned, and the server shows another "
                           (or (plist-get result :text) "")))
      "if the server has a new one, change `smtpmail-native-tls-pins'")
     ((eq kind 'certificate)
      "if it is right, add its authority to `gnutls-trustfiles', or its \
fingerprint to `smtpmail-native-tls-pins'")
     ((and (eq kind 'unsupported) (eq stage 'starttls))
      "see `smtpmail-stream-type' and `smtpmail-starttls-credentials'")
     ((and (eq kind 'unsupported) (eq stage 'auth))
      "see `smtpmail-native-auth-mechanisms'")
     ((eq (smtpmail-native-verdict-demand result) 'tls)
      "see `smtpmail-stream-type' and `smtpmail-starttls-credentials'")
     ((and (eq (smtpmail-native-verdict-demand result) 'auth)
           (memq stage '(mail rcpt data)))
      "the server wants authentication, see `smtpmail-auth-credentials'")
     ((and (eq kind 'auth) (plist-get result :password-untested))
      "see `smtpmail-native-auth-mechanisms'; your password was not tested")
     ((eq kind 'auth)
      "check user and password of this server")
     ((eq kind 'resolve)
      "check `smtpmail-smtp-server' and the network")
     ((and (eq kind 'timeout) (memq stage '(greeting connect)))
      "check the port; a server with TLS from the start needs \
`smtpmail-stream-type' ssl")
     ((eq kind 'reply)
      (let ((enhanced (or (plist-get result :enhanced) "")))
        (and (> (length enhanced) 2)
             (cdr (assoc (substring enhanced 2)
                         smtpmail-native-verdict--enhanced))))))))

(defun smtpmail-native-verdict-describe (result host port)
  "Return the message for RESULT, a plist of the module, of HOST and PORT.
It starts with what failed, then the server, then the server's own words
with control characters escaped, then what to do where that is known."
  (let* ((doubt (plist-get result :in-doubt))
         (stage (plist-get result :stage))
         (kind (plist-get result :kind))
         (hint (smtpmail-native-verdict--hint result)))
    (concat
     (cond (doubt "No answer to the end of the message from")
           ((and (eq kind 'timeout) (not (memq stage '(resolve connect))))
            (format "Timeout (%s) with" stage))
           ((and (memq kind '(network protocol tls cancelled file system))
                 (memq stage '(mail rcpt data end-of-data)))
            (format "Failure (%s) with" stage))
           ((eq kind 'too-large) "Message too large for")
           (t (or (cdr (assq stage smtpmail-native-verdict--stages)) "Failure at")))
     (format " %s:%s: " host port)
     (smtpmail-native-verdict-words result)
     (if hint (format " (%s)" hint) ""))))

(defun smtpmail-native-verdict-condition (result)
  "Return the condition that RESULT, a plist of the module, stands for.
The value is nil when the mail was sent."
  (let ((kind (plist-get result :kind))
        (code (or (plist-get result :code) 0)))
    (cond
     ((eq kind 'ok) nil)
     ((plist-get result :in-doubt) 'smtpmail-native-unknown-outcome)
     ((memq kind '(resolve network timeout protocol))
      'smtpmail-native-connection-error)
     ((memq kind '(tls certificate)) 'smtpmail-native-tls-error)
     ((memq kind '(auth cleartext)) 'smtpmail-native-auth-error)
     ((and (eq kind 'unsupported) (eq (plist-get result :stage) 'auth))
      'smtpmail-native-auth-error)
     ((and (eq kind 'unsupported) (memq (plist-get result :stage) '(mail rcpt)))
      'smtpmail-native-refused)
     ((eq kind 'unsupported) 'smtpmail-native-tls-error)
     ((eq kind 'too-large) 'smtpmail-native-refused)
     ((eq kind 'cancelled) 'smtpmail-native-cancelled)
     ((eq kind 'usage) 'smtpmail-native-usage-error)
     ((and (eq kind 'reply)
           (or (= code 530) (equal (plist-get result :enhanced) "5.7.8")))
      'smtpmail-native-auth-error)
     ((and (eq kind 'reply) (>= code 500)) 'smtpmail-native-refused)
     ((eq kind 'reply) 'smtpmail-native-deferred)
     (t 'smtpmail-native-error))))

(defun smtpmail-native-verdict--reply-exit-code (result)
  "Return the exit code for RESULT, which is a refusal by the server."
  (if (eql (plist-get result :code) 530) 77 69))

(defun smtpmail-native-verdict-exit-code (result)
  "Return the exit code for RESULT, a plist of the module.
75 stands only where nothing was sent and a later try may help."
  (cond
   ((plist-get result :in-doubt) 76)
   ((<= 400 (or (plist-get result :code) 0) 499) 75)
   (t
    (pcase (plist-get result :kind)
      ('ok 0)
      ('usage 64)
      ('resolve 68)
      ((or 'network 'timeout 'cancelled) 75)
      ('reply (smtpmail-native-verdict--reply-exit-code result))
      ('too-large 69)
      ('unsupported (if (eq (plist-get result :stage) 'auth) 77 69))
      ((or 'auth 'certificate 'cleartext) 77)
      ((or 'protocol 'tls) 76)
      ('file 74)
      (_ 70)))))

;;;; Each recipient

(defun smtpmail-native-verdict--fate (code)
  "Return what the reply CODE to one recipient means for the recipient."
  (cond ((and code (>= code 500)) 'refused)
        ((and code (>= code 400)) 'deferred)))

(defun smtpmail-native-verdict-answers (receipt)
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
                            (smtpmail-native-verdict--fate code)))))
        (when outcome
          (push (list (decode-coding-string address 'utf-8) outcome code
                      enhanced (smtpmail-native-error-text text))
                answers))))
    (nreverse answers)))

(defun smtpmail-native-verdict-merge (results answers)
  "Return RESULTS, an alist of recipients, brought up to date by ANSWERS."
  (let ((new (smtpmail-native-entry-by-address answers)))
    (append (seq-remove (lambda (result)
                          (gethash (encode-coding-string (car result) 'utf-8)
                                   new))
                        results)
            answers)))

;;;; The new state

(defun smtpmail-native-verdict--kind (receipt)
  "Return what RECEIPT of a failed attempt means for its entry.
The value is `unknown', `deferred', `refused', `password', `certificate'
or `cancelled'."
  (let ((kind (plist-get receipt :kind))
        (code (or (plist-get receipt :code) 0)))
    (cond
     ((plist-get receipt :in-doubt) 'unknown)
     ((eq kind 'cancelled) 'cancelled)
     ((or (and (eq kind 'auth) (not (plist-get receipt :password-untested)))
          (plist-get receipt :passphrase-wanted))
      'password)
     ((eq kind 'certificate) 'certificate)
     ;; RFC 4954 6: whatever the command, the credentials were no good.
     ((and (eq kind 'reply)
           (or (= code 530) (equal (plist-get receipt :enhanced) "5.7.8")))
      'password)
     ((or (memq kind '(usage too-large cleartext unsupported auth))
          (and (eq kind 'reply) (>= code 500)))
      'refused)
     (t 'deferred))))

(defun smtpmail-native-verdict-explain (entry receipt)
  "Return a text for people about RECEIPT of a failed attempt for ENTRY."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (smtpmail-native-verdict-describe receipt (plist-get envelope :host)
                                      (plist-get envelope :port))))

(defun smtpmail-native-verdict--deferral (entry text)
  "Return the change of the state of ENTRY that lets it be tried again later.
TEXT says what has failed.  When it has been tried for
`smtpmail-native-expire' the user is to decide."
  (let* ((state (smtpmail-native-entry-state entry))
         (tries (1+ (or (plist-get state :tries) 0)))
         (now (float-time))
         (envelope (smtpmail-native-entry-envelope entry))
         ;; One that was to be sent later was not tried before.
         (created (max (or (plist-get envelope :created) now)
                       (or (plist-get (plist-get envelope :wishes) :release)
                           0)))
         (pause (or (nth (1- tries) smtpmail-native-verdict-back-off)
                    (car (last smtpmail-native-verdict-back-off)))))
    (if (and smtpmail-native-expire
             (> (- now created) smtpmail-native-expire))
        (list :status 'held :hold 'expired :next nil :tries tries :text text)
      (list :status 'ready :next (truncate (+ now pause))
            :tries tries :text text))))

(defun smtpmail-native-verdict--failure (entry receipt cancelled)
  "Return the change of state of ENTRY after the failed attempt of RECEIPT.
CANCELLED non-nil means that the user wants it to be held."
  (let ((text (smtpmail-native-verdict-explain entry receipt))
        (verdict (smtpmail-native-verdict--kind receipt)))
    (cond
     ;; A token that has expired is fetched anew, once.
     ((and (plist-get receipt :second-chance)
           (not cancelled)
           (not (plist-get (smtpmail-native-entry-state entry) :renewed)))
      (list :status 'ready :hold nil :next nil :renewed t :text text))
     ;; The server does not keep it until it is time; we do.
     ((and (plist-get receipt :release-unsupported) (not cancelled))
      (list :status 'ready :hold nil :next nil :here t :undo t :text nil))
     ((and (plist-get receipt :eight-bit-unsupported) (not cancelled))
      (list :encode t))
     ((memq verdict '(refused unknown))
      (list :status verdict :hold nil :next nil :text text))
     (cancelled
      (list :status 'held :hold 'user :next nil :text text))
     ((memq verdict '(password certificate))
      (list :status 'held :hold verdict :next nil
            :refused (eq (plist-get receipt :kind) 'auth)
            :passphrase (plist-get receipt :passphrase-wanted)
            :text text))
     ((eq verdict 'cancelled)
      (list :status 'ready :next nil :text text))
     (t (smtpmail-native-verdict--deferral entry text)))))

(defun smtpmail-native-verdict--amount (entry results more)
  "Return the change of the state of ENTRY that RESULTS amount to.
They are the answers for its recipients.  MORE non-nil means that the
server takes no more of them at a time."
  (let* ((rest (seq-remove (lambda (result) (eq (cadr result) 'sent)) results))
         (text (mapconcat (lambda (result)
                            (format "<%s>: %s %s" (nth 0 result) (nth 2 result)
                                    (nth 4 result)))
                          rest "; ")))
    (cond
     (more
      (list :status 'ready :hold nil :next nil :more t :text nil))
     ((smtpmail-native-entry-unanswered entry results)
      (smtpmail-native-verdict--deferral
       entry (concat "Not yet taken for all recipients: " text)))
     (rest
      (list :status 'refused :hold nil :next nil
            :text (concat "Not taken for all recipients: " text)))
     (t (list :status 'sent :hold nil :next nil :text nil)))))

(defun smtpmail-native-verdict-settle (entry receipt cancelled)
  "Return what RECEIPT means for ENTRY: a change of its state, or nil.
CANCELLED non-nil means that the user has cancelled the attempt, as does a
state of `held' that was put down during it.  The value is nil if the
receipt has been settled before.  An attempt without a receipt has led to
nothing: the end of data has never been sent.  A change with :encode non-nil
is for an entry whose message has to be encoded first."
  (let* ((state (smtpmail-native-entry-state entry))
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
             (all (smtpmail-native-verdict-answers receipt))
             (answers (and each all))
             (results (smtpmail-native-verdict-merge (plist-get state :results)
                                                     answers)))
        (append
         (list :settled attempt :undo nil :more nil :results results
               :replies (and (not each) all))
         (if (and answers (not (plist-get receipt :in-doubt)))
             (smtpmail-native-verdict--amount
              entry results (plist-get receipt :more))
           (smtpmail-native-verdict--failure
            entry receipt
            (or cancelled (eq (plist-get state :status) 'held)))))))))

(provide 'smtpmail-native-verdict)
;;; smtpmail-native-verdict.el ends here
