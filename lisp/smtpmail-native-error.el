;;; smtpmail-native-error.el --- Conditions, and how a failure is worded  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; All errors of this package are children of `smtpmail-native-error'.  Their
;; data is (TEXT), the whole message for people.

;;; Code:

(define-error 'smtpmail-native-error "Mail not sent")
(define-error 'smtpmail-native-usage-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-module-error "Mail not sent"
  'smtpmail-native-usage-error)
(define-error 'smtpmail-native-malformed-message "Mail not sent"
  'smtpmail-native-usage-error)
(define-error 'smtpmail-native-connection-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-tls-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-auth-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-refused "Mail refused"
  'smtpmail-native-error)
(define-error 'smtpmail-native-deferred "Mail not sent for now"
  'smtpmail-native-error)
(define-error 'smtpmail-native-cancelled "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-outbox-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-unknown-outcome "Mail may have been sent"
  'smtpmail-native-error)

(defun smtpmail-native-error-signal (condition text)
  "Signal CONDITION with the message TEXT."
  (signal condition (list text)))

(defun smtpmail-native-error-text (octets)
  "Return OCTETS, text of a server or nil, as a string that is safe to show.
It is decoded as UTF-8; control and formatting characters, which could
disguise what it says, and octets that are no UTF-8 are shown in hex."
  (replace-regexp-in-string
   "[[:multibyte:][:cntrl:]]"
   (lambda (char)
     (if (or (memq (get-char-code-property (aref char 0) 'general-category)
                   '(Cc Cf Cs Co Cn Zl Zp))
             (> (aref char 0) #x10ffff))
         (format "\\x%x" (let ((c (aref char 0)))
                           (if (> c #x3fff7f) (- c #x3fff00) c)))
       char))
   (decode-coding-string (or octets "") 'utf-8) t t))

(defconst smtpmail-native-error--stages
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

(defun smtpmail-native-error-words (result)
  "Return what the server has said, from RESULT, a plist of the module.
It is the code and the text; the latter alone if it names recipients with
the replies to each, or if it is not the server's."
  (let ((code (or (plist-get result :code) 0)))
    (concat (if (and (> code 0) (not (eq (plist-get result :stage) 'rcpt)))
                (format "%d " code)
              "")
            (smtpmail-native-error-text (plist-get result :text)))))

(defun smtpmail-native-error-demand (result)
  "Return what the server demands by RESULT, a plist of the module, or nil.
The value is `auth', or `tls' (RFC 3207 4)."
  (when (and (eq (plist-get result :kind) 'reply)
             (eql (plist-get result :code) 530)
             (not (plist-get result :in-doubt)))
    (let ((case-fold-search t))
      (if (string-match-p "STARTTLS" (or (plist-get result :text) ""))
          'tls
        'auth))))

(defconst smtpmail-native-error--enhanced
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

(defun smtpmail-native-error--hint (result)
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
     ((eq (smtpmail-native-error-demand result) 'tls)
      "see `smtpmail-stream-type' and `smtpmail-starttls-credentials'")
     ((and (eq (smtpmail-native-error-demand result) 'auth)
           (memq stage '(mail rcpt data)))
      "the server wants authentication, see `smtpmail-auth-credentials'")
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
                         smtpmail-native-error--enhanced))))))))

(defun smtpmail-native-error-describe (result host port)
  "Return the message for RESULT, a plist of the module, of HOST and PORT.
It starts with what failed, then the server, then the server's own words
with control characters escaped, then what to do where that is known."
  (let* ((doubt (plist-get result :in-doubt))
         (stage (plist-get result :stage))
         (kind (plist-get result :kind))
         (hint (smtpmail-native-error--hint result)))
    (concat
     (cond (doubt "No answer to the end of the message from")
           ((and (eq kind 'timeout) (not (memq stage '(resolve connect))))
            (format "Timeout (%s) with" stage))
           ((and (memq kind '(network protocol tls cancelled file system))
                 (memq stage '(mail rcpt data end-of-data)))
            (format "Failure (%s) with" stage))
           ((eq kind 'too-large) "Message too large for")
           (t (or (cdr (assq stage smtpmail-native-error--stages)) "Failure at")))
     (format " %s:%s: " host port)
     (smtpmail-native-error-words result)
     (if hint (format " (%s)" hint) ""))))

(defun smtpmail-native-error-condition (result)
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

(provide 'smtpmail-native-error)
;;; smtpmail-native-error.el ends here
