;;; smtpmail-native-verdict.el --- What an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Pure: from what the module tells of an attempt to the verdict on it, the words
;; for people, the condition and the exit code.  A new kind of outcome is a new
;; row of one table.

;;; Code:

(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

;;;; The table

(defun smtpmail-native-verdict-anonymous-p (result)
  "Return non-nil if RESULT is a refusal of a client that has not logged in.
The server offered to authenticate, and no credentials were known.  A reply
that names the mailbox or its domain as the reason is about something else."
  (and (eq (plist-get result :kind) 'reply)
       (memq (plist-get result :stage) '(mail rcpt))
       (>= (or (plist-get result :code) 0) 500)
       (not (member (plist-get result :offered) '(nil "")))
       (member (plist-get result :mechanism) '(nil ""))
       (not (string-match-p
             "\\`5\\.\\(?:1\\.\\(?:1\\|2\\|3\\|6\\|10\\)\\|2\\.[0-9]+\\|3\\.4\\|\
6\\.[0-9]+\\)\\'"
             (or (plist-get result :enhanced) "")))))

(defun smtpmail-native-verdict--clear-port-p (result)
  "Return non-nil if RESULT is of a TLS handshake with a server in clear.
A server that talks SMTP first answers a handshake with text.  A handshake
after STARTTLS is another matter: then the greeting is known."
  (member (plist-get result :greeting) '(nil "")))

(defconst smtpmail-native-verdict--table
  '(((:flag :in-doubt)
     :verdict unknown :condition smtpmail-native-unknown-outcome :exit 76
     :hint "check whether it was delivered before you send it again")
    ((:kind ok) :verdict sent :condition nil :exit 0)
    ((:kind cancelled)
     :verdict cancelled :condition smtpmail-native-cancelled :exit 75)
    ((:code (400 . 499)) :exit 75)
    ;; Authentication.
    ((:flag :passphrase-wanted) :verdict password)
    ((:kind auth :flag :password-untested)
     :verdict refused
     :hint "see `smtpmail-native-auth-mechanisms'; your password was not \
tested")
    ((:kind auth :words "app\\(?:lication\\)?[- ]?specific\\|app password\\|\
badcredentials")
     :hint "this account needs an app password or an OAuth 2.0 token, see \
`smtpmail-native-auth-mechanisms'")
    ((:kind auth :words "authorization code")
     :hint "this account needs the authorization code of its settings instead \
of the password")
    ((:kind auth :words "basic auth\\(?:entication\\)? is disabled\\|\
5\\.7\\.139\\|smtpclientauthentication is disabled")
     :hint "this account takes no passwords; use an OAuth 2.0 token, see \
`smtpmail-native-auth-mechanisms'")
    ((:kind auth :words "too many")
     :hint "wait some minutes before you try again")
    ((:kind auth)
     :verdict password :condition smtpmail-native-auth-error :exit 77
     :hint "check the user name and password for this server")
    ((:kind cleartext)
     :verdict refused :condition smtpmail-native-auth-error :exit 77
     :hint "see `smtpmail-native-cleartext-auth', or use STARTTLS")
    ((:kind unsupported :stage auth)
     :verdict refused :condition smtpmail-native-auth-error :exit 77
     :hint "see `smtpmail-native-auth-mechanisms' and `smtpmail-auth-supported'")
    ;; TLS.
    ((:kind certificate
      :words " does not match your pin for ")
     :hint "if the server has a new certificate, update \
`smtpmail-native-tls-pins'")
    ((:kind certificate)
     :verdict certificate :condition smtpmail-native-tls-error :exit 77
     :hint "if you trust it, add its CA to `gnutls-trustfiles' or its \
fingerprint to `smtpmail-native-tls-pins'")
    ((:kind tls :stage handshake
      :words "unexpected\\|unsupported version\\|packet"
      :test smtpmail-native-verdict--clear-port-p)
     :suspect t
     :hint "this port speaks SMTP in clear first: set `smtpmail-stream-type' \
to `starttls'")
    ((:kind tls)
     :verdict deferred :condition smtpmail-native-tls-error :exit 76)
    ((:kind unsupported :stage starttls)
     :hint "see `smtpmail-stream-type' and `smtpmail-starttls-credentials'")
    ((:kind unsupported :stage (mail rcpt))
     :verdict refused :condition smtpmail-native-refused :exit 69)
    ((:kind unsupported)
     :verdict refused :condition smtpmail-native-tls-error :exit 69)
    ;; The way to the server.
    ((:kind resolve :words "not known\\|nodename nor servname\\|no such host")
     :suspect t)
    ((:kind resolve)
     :verdict deferred :condition smtpmail-native-connection-error :exit 68
     :hint "check `smtpmail-smtp-server' and the network")
    ((:kind (timeout protocol) :stage greeting :not-stream (ssl tls))
     :suspect t)
    ((:kind (timeout protocol) :stage (greeting connect) :not-stream (ssl tls))
     :hint "check the port; for TLS from the start set `smtpmail-stream-type' \
to `ssl'")
    ;; It waits for a handshake, and not for ever.
    ((:kind network :stage greeting :not-stream (ssl tls))
     :suspect t
     :hint "check the port; for TLS from the start set `smtpmail-stream-type' \
to `ssl'")
    ((:kind (timeout network))
     :verdict deferred :condition smtpmail-native-connection-error :exit 75)
    ((:kind protocol)
     :verdict deferred :condition smtpmail-native-connection-error :exit 76)
    ;; What we ourselves gave.
    ((:kind usage)
     :verdict refused :condition smtpmail-native-usage-error :exit 64)
    ((:kind too-large)
     :verdict refused :condition smtpmail-native-refused :exit 69)
    ((:kind file) :verdict deferred :condition smtpmail-native-error :exit 74)
    ((:kind system) :verdict deferred :condition smtpmail-native-error :exit 70)
    ;; Replies: what the server demands (RFC 3207 4, RFC 4954 6)...
    ((:kind reply :code 530 :words "starttls")
     :verdict settings :condition smtpmail-native-auth-error :exit 78
     :hint "set `smtpmail-stream-type' to nil or `starttls'; see also \
`smtpmail-starttls-credentials'")
    ((:kind reply :code 530 :stage (mail rcpt data))
     :hint "the server requires authentication, see \
`smtpmail-auth-credentials'")
    ((:kind reply :code 530)
     :verdict password :condition smtpmail-native-auth-error :exit 77)
    ((:kind reply :code (500 . 599) :enhanced "7.8")
     :verdict password :condition smtpmail-native-auth-error :exit 77
     :hint "check the user name and password for this server")
    ((:kind reply :code (500 . 599) :words "\\_<[eh][eh]lo\\_>")
     :verdict refused :condition smtpmail-native-refused :exit 69
     :hint "see `smtpmail-native-helo-name'")
    ((:kind reply :code (500 . 599) :stage ehlo)
     :hint "see `smtpmail-native-helo-name'")
    ((:kind reply :code (400 . 499) :words "\\_<[eh][eh]lo\\_>")
     :hint "see `smtpmail-native-helo-name'")
    ((:test smtpmail-native-verdict-anonymous-p)
     :verdict password :condition smtpmail-native-auth-error :exit 77
     :hint "no credentials for HOST were found; \
M-x smtpmail-native-explain-credentials shows where Emacs looked")
    ;; ...and what RFC 3463, 4954, 5248, 6710, 7372 and 8689 say of details.
    ((:kind reply :enhanced "1.1") :hint "check this address")
    ((:kind reply :enhanced "1.2") :hint "check the domain of this address")
    ((:kind reply :enhanced "1.3") :hint "check this address")
    ((:kind reply :enhanced "1.6") :hint "this mailbox has moved")
    ((:kind reply :enhanced "1.7") :hint "check your own address")
    ((:kind reply :enhanced "1.8") :hint "check your own address")
    ((:kind reply :enhanced "1.10") :hint "this domain does not accept mail")
    ((:kind reply :enhanced "2.1") :hint "this mailbox is disabled")
    ((:kind reply :enhanced "2.2") :hint "this mailbox is full")
    ((:kind reply :enhanced "2.3")
     :hint "the message is too large for this mailbox")
    ((:kind reply :enhanced "3.4")
     :hint "the message is too large for this server")
    ((:kind reply :enhanced "6.3")
     :hint "the message must be encoded differently")
    ((:kind reply :enhanced "6.7")
     :hint "the address is not ASCII, and the server cannot deliver to it")
    ((:kind reply :enhanced "7.3")
     :hint "the server cannot do the required security conversion")
    ((:kind reply :enhanced "7.8")
     :hint "check the user name and password for this server")
    ((:kind reply :enhanced "7.9") :hint "see `smtpmail-native-auth-mechanisms'")
    ((:kind reply :enhanced "7.11") :hint "see `smtpmail-stream-type'")
    ((:kind reply :enhanced "7.13") :hint "your account is disabled")
    ((:kind reply :enhanced "7.15")
     :hint "the server accepts only messages of higher priority at present")
    ((:kind reply :enhanced "7.23")
     :hint "the sender's domain does not authorize this server (SPF)")
    ((:kind reply :enhanced "7.26")
     :hint "several checks of the sender's domain failed")
    ((:kind reply :enhanced "7.30")
     :hint "a server on the route does not support REQUIRETLS")
    ((:kind reply :code (500 . 599))
     :verdict refused :condition smtpmail-native-refused :exit 69)
    ((:kind reply)
     :verdict deferred :condition smtpmail-native-deferred :exit 75)
    (() :verdict deferred :condition smtpmail-native-error :exit 70))
  "What an outcome means: a list of (PATTERN . COLUMNS).
The first row that matches and has a column counts for that column.
PATTERN is a plist, and all that it has must hold:
 :kind, :stage  a symbol or a list of them, as the module says
 :code          a reply code, or (FIRST . LAST)
 :enhanced      subject and detail of the enhanced status code
 :words         a regexp for the text, without regard to case
 :flag          a property of the result that is non-nil
 :not-stream    types of connection that it is not
 :test          a function of the result
COLUMNS is a plist:
 :verdict    `sent', `unknown', `cancelled', `deferred', `refused', `password',
             `certificate' or `settings'
 :condition  the condition to be signalled, or nil
 :exit       the exit code in batch, one of sysexits.h
 :hint       what you can do, a text; HOST in it stands for the server
 :suspect    non-nil if another try will hardly help: the settings look wrong")

(defun smtpmail-native-verdict--matches-p (pattern result)
  "Return non-nil if all of PATTERN, of the table, holds for RESULT."
  (let ((matches t)
        (case-fold-search t))
    (while (and pattern matches)
      (let ((key (pop pattern))
            (value (pop pattern)))
        (setq matches
              (pcase key
                ((or :kind :stage)
                 (memq (plist-get result key) (ensure-list value)))
                (:code
                 (let ((code (or (plist-get result :code) 0)))
                   (if (consp value) (<= (car value) code (cdr value))
                     (= code value))))
                (:enhanced
                 (let ((given (or (plist-get result :enhanced) "")))
                   (and (> (length given) 2)
                        (equal (substring given 2) value))))
                (:words
                 (string-match-p value (or (plist-get result :text) "")))
                (:flag (plist-get result value))
                (:not-stream (not (memq (plist-get result :stream) value)))
                (:test (funcall value result))))))
    matches))

(defun smtpmail-native-verdict--column (column result)
  "Return what the table has for RESULT in COLUMN, a keyword."
  (plist-get (cdr (seq-find (lambda (row)
                              (and (plist-member (cdr row) column)
                                   (smtpmail-native-verdict--matches-p
                                    (car row) result)))
                            smtpmail-native-verdict--table))
             column))

(defun smtpmail-native-verdict (result)
  "Return what RESULT, a plist of the module, means for its entry, a symbol.
See `smtpmail-native-verdict--table'."
  (smtpmail-native-verdict--column :verdict result))

(defun smtpmail-native-verdict-suspect-p (result)
  "Return non-nil if RESULT looks like a mistake in the settings."
  (smtpmail-native-verdict--column :suspect result))

(defun smtpmail-native-verdict-condition (result)
  "Return the condition that RESULT, a plist of the module, stands for.
The value is nil when the message was sent."
  (smtpmail-native-verdict--column :condition result))

(defun smtpmail-native-verdict-exit-code (result)
  "Return the exit code for RESULT, a plist of the module.
75 stands only where nothing was sent and a later try may help."
  (smtpmail-native-verdict--column :exit result))

(defun smtpmail-native-verdict-login-p (result)
  "Return non-nil if RESULT asks for credentials, and none were used."
  (and (eq (plist-get result :kind) 'reply)
       (not (plist-get result :in-doubt))
       (eq (smtpmail-native-verdict result) 'password)
       (or (eql (plist-get result :code) 530)
           (smtpmail-native-verdict-anonymous-p result))))

(defun smtpmail-native-verdict-offline-p (result)
  "Return non-nil if RESULT may mean that there is no network.
The name could not be resolved, or the server not be reached."
  (or (eq (plist-get result :kind) 'resolve)
      (and (memq (plist-get result :kind) '(network timeout))
           (memq (plist-get result :stage) '(resolve connect)))))

(defun smtpmail-native-verdict-secret-p (result)
  "Return non-nil if RESULT says that a password was wrong."
  (and (eq (plist-get result :kind) 'auth)
       (eql (plist-get result :code) 535)
       (not (plist-get result :password-untested))))

;;;; The words of a failure

(defconst smtpmail-native-verdict--stages
  '((queued "Cannot start sending to %s")
    (resolve "Cannot find %s")
    (connect "Cannot connect to %s")
    (greeting "%s refused the SMTP session"
              "%s did not accept the SMTP session yet")
    (ehlo "EHLO failed at %s")
    (starttls "STARTTLS failed at %s")
    (handshake "Cannot set up TLS with %s")
    (auth "Cannot authenticate to %s")
    (mail "%s refused the sender" "%s did not accept the sender yet")
    (rcpt "%s refused the recipient" "%s did not accept the recipient yet")
    (data "%s refused the message" "%s did not accept the message yet")
    (content "Interrupted while sending the message to %s")
    (end-of-data "%s refused the message" "%s did not accept the message yet")
    (quit "QUIT failed at %s"))
  "What failed, by stage, for good and for now; %s is the server.")

(defun smtpmail-native-verdict-words (result)
  "Return what the server has said, from RESULT, a plist of the module.
It is the code and the text; only the latter if it names recipients with
the replies to each, or if it is not the server's."
  (let ((code (or (plist-get result :code) 0)))
    (concat (if (and (> code 0) (not (eq (plist-get result :stage) 'rcpt)))
                (format "%d " code)
              "")
            (smtpmail-native-error-text (plist-get result :text)))))

(defun smtpmail-native-verdict--what (result)
  "Return a format for what failed by RESULT, a plist of the module."
  (let* ((stage (plist-get result :stage))
         (kind (plist-get result :kind))
         (texts (cdr (assq stage smtpmail-native-verdict--stages)))
         (name (upcase (symbol-name (or stage 'session)))))
    (cond ((plist-get result :in-doubt) "%s did not confirm the message")
          ((and (eq kind 'timeout) (not (memq stage '(resolve connect))))
           (format "%%s did not reply in time (%s)" name))
          ((and (memq kind '(network protocol tls cancelled file system))
                (memq stage '(mail rcpt data end-of-data)))
           (format "Error in %s with %%s" name))
          ((eq kind 'too-large) "The message is too large for %s")
          ((and (<= 400 (or (plist-get result :code) 0) 499) (cadr texts)))
          (t (or (car texts) "Error with %s")))))

(defun smtpmail-native-verdict-describe (result host port)
  "Return the text for RESULT, a plist of the module, of HOST and PORT.
It starts with what failed and where, then the server's own words with
control characters escaped, then what you can do where that is known."
  (let* ((server (format "%s:%s" host port))
         (hint (smtpmail-native-verdict--column :hint result)))
    (concat
     (format (smtpmail-native-verdict--what result) server)
     ": "
     (smtpmail-native-verdict-words result)
     (if hint
         (format " (%s)" (replace-regexp-in-string "\\<HOST\\>" server hint
                                                   t t))
       ""))))

(provide 'smtpmail-native-verdict)
;;; smtpmail-native-verdict.el ends here
