;;; smtpmail-native-options.el --- User options  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; All options.  This file is at the bottom of all others, so that each command
;; can be autoloaded from its own file.

;;; Code:

;; Emacs 31 takes the directory lisp/ of a repository for the whole package.
;; The main file is beside it then, and these are the autoloads for it.
;;;###autoload
(let ((top (expand-file-name
            "../" (file-name-directory (or load-file-name buffer-file-name)))))
  (when (file-exists-p (expand-file-name "smtpmail-native.el" top))
    (add-to-list 'load-path (directory-file-name top))))
;;;###autoload (autoload 'smtpmail-native-send-it "smtpmail-native" "Send the message in the current buffer; for `send-mail-function'.")

;;;; Groups

(defgroup smtpmail-native nil
  "Send mail by a native transport, in the background."
  :group 'mail
  :link '(info-link "(smtpmail-native)")
  :link '(custom-group-link :tag "SMTP library (smtpmail)" smtpmail))

(defgroup smtpmail-native-account nil
  "Servers, credentials and connections."
  :group 'smtpmail-native)

(defgroup smtpmail-native-safety nil
  "Encryption, certificates and authentication."
  :group 'smtpmail-native)

(defgroup smtpmail-native-outbox nil
  "What happens to a message between sending and delivery."
  :group 'smtpmail-native)

(defgroup smtpmail-native-faces nil
  "Faces of the outbox and the mode line."
  :group 'smtpmail-native
  :group 'faces)

;;;; The classic variables

;; You may set these before or after this file is loaded.  A value that is
;; there already stays.

(defcustom smtpmail-auth-credentials nil
  "List of credentials, one for each mail server, or a netrc file.
Each element is (HOST PORT USER PASSWORD).  HOST is a string and is
compared without regard to case.  PORT is an integer, a string of digits,
or the name of a service such as \"submission\".  The first element for a
server counts.  If USER or PASSWORD is nil, Emacs looks in auth-source
and then asks for it.
The value can also be a string, the name of a netrc file."
  :type '(choice (repeat :tag "Credentials"
                         (list (string :tag "Host")
                               (choice :tag "Port" integer string)
                               (choice :tag "User" (const :tag "Ask" nil)
                                       string)
                               (choice :tag "Password" (const :tag "Ask" nil)
                                       string)))
                 (file :tag "Netrc file"))
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.1.0"))

(defcustom smtpmail-starttls-credentials nil
  "List of mail servers that require STARTTLS, with client certificates.
Each element is (HOST PORT KEYFILE CERTFILE), with HOST and PORT as in
`smtpmail-auth-credentials'.  KEYFILE and CERTFILE are the names of the
PEM files of a client certificate; nil or \"\" means no certificate.
Emacs sends nothing to such a server without TLS."
  :type '(repeat (list (string :tag "Host")
                       (choice :tag "Port" integer string)
                       (choice :tag "Key" (const :tag "None" nil) file)
                       (choice :tag "Certificate" (const :tag "None" nil)
                               file)))
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.1.0"))

;;;; Account

(defcustom smtpmail-native-timeout 60
  "Number of seconds to wait for each reply of the server.
The reply to the end of a message may take ten times as long."
  :type 'number
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.1.0"))

(defcustom smtpmail-native-proxy nil
  "URL of the proxy through which Emacs reaches mail servers, or nil.
The URL is socks5://HOST:PORT (SOCKS 5) or http://HOST:PORT (CONNECT).
If the proxy requires a login, put USER:PASSWORD@ before HOST, and write
special characters as %XX.  The proxy resolves the names of servers.
Local sockets do not use it."
  :type '(choice (const :tag "None" nil) string)
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-accounts nil
  "List of accounts, one of which sends a message, by its From address.
Each element is (PATTERN . PLIST).  PATTERN is an address; \"@DOMAIN\" for
all addresses of a domain; a pattern with \"*\" and \"?\"; or (regexp REGEXP).
Case does not matter, and the first element that fits the address in
Resent-From or From counts.  PLIST has these properties; the option in
parentheses counts for one that is missing:
 :name            what the account is called (PATTERN)
 :server, :port   (`smtpmail-smtp-server', `smtpmail-smtp-service')
 :stream          (`smtpmail-stream-type')
 :user            (`smtpmail-smtp-user')
 :auth-mechanisms (`smtpmail-native-auth-mechanisms')
 :helo            (`smtpmail-native-helo-name')
 :proxy           (`smtpmail-native-proxy')
 :source-address  (`smtpmail-native-source-address')
If no element fits, Emacs asks you, and in batch mode signals an error.
A server that a program chooses for a message, by binding the variables of
smtpmail or by the field X-Message-SMTP-Method, comes before the accounts."
  :type '(alist :key-type (choice (string :tag "Address, @domain or pattern")
                                  (list :tag "Regexp" (const regexp) regexp))
                :value-type (plist :key-type symbol :value-type sexp))
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.4.0"))

(defcustom smtpmail-native-helo-name nil
  "Full name with which Emacs introduces itself to mail servers, or nil.
This is the name in the command EHLO.  The value nil means the name of
this machine with `smtpmail-local-domain', if that is set; or else its
name, if it has a full one; or else the address of this end of the
connection, in brackets, as in [192.0.2.1].  Set this option if a server
complains about the name."
  :type '(choice (const :tag "Name or address of this machine" nil) string)
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-source-address nil
  "IP address of this machine to connect from, a string, or nil.
If nil, the system chooses an address for each connection."
  :type '(choice (const :tag "Chosen by the system" nil) string)
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-chunking nil
  "Non-nil means use CHUNKING (RFC 3030) where the server offers it.
Some servers are known to have faulty implementations."
  :type 'boolean
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-avoid-extensions nil
  "Alist of SMTP extensions to avoid with certain servers.
Each element is (HOST EXTENSION...), with HOST as in
`smtpmail-smtp-server'.  EXTENSION is a symbol or string such as
PIPELINING, CHUNKING, SIZE or PIPECONNECT."
  :type '(alist :key-type string :value-type (repeat (choice symbol string)))
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-idle-seconds 10
  "Number of seconds to keep an idle connection for further messages."
  :type 'number
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-max-sessions 2
  "Maximal number of simultaneous connections for one account.
Emacs uses one connection unless there is much to send."
  :type 'natnum
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

;;;; Safety

(defcustom smtpmail-native-cleartext-auth 'loopback
  "Whether Emacs may authenticate over a connection without TLS.
The value `loopback' allows it for servers on this machine only, t for
all servers, and nil for none.  Where it is not allowed, Emacs does not
send the message."
  :type '(choice (const :tag "To this machine" loopback)
                 (const :tag "Always" t)
                 (const :tag "Never" nil))
  :group 'smtpmail-native-safety
  :package-version '(smtpmail-native . "0.1.0"))

(defcustom smtpmail-native-secret-timeout 30
  "Number of seconds for which a function may look for a secret.
This is for functions in auth-source entries, as the value of `:secret' or
`:passphrase'.  Such a function returns the secret, a string.  If it has to
wait for it, it should take one argument instead, a function: it returns
at once, and calls its argument later with the secret, or with nil if it
has none.  When the time is over, the message waits and Emacs tries again
later."
  :type 'number
  :group 'smtpmail-native-account
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-auth-mechanisms nil
  "List of SASL mechanisms to try, in this order, or nil.
The elements are names, as symbols or strings.  The value nil means
SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS, SCRAM-SHA-256, SCRAM-SHA-1,
CRAM-MD5, PLAIN and LOGIN, or EXTERNAL if there is a client certificate
and no password.  If the first element is XOAUTH2 or OAUTHBEARER, the
password is an OAuth 2.0 token.  If it is GSSAPI or EXTERNAL, Emacs does
not ask for a password.  DIGEST-MD5 and NTLM are insecure and used only
if they are in this list."
  :type '(repeat (choice (const "SCRAM-SHA-256-PLUS")
                         (const "SCRAM-SHA-1-PLUS")
                         (const "SCRAM-SHA-256")
                         (const "SCRAM-SHA-1")
                         (const "CRAM-MD5")
                         (const "PLAIN")
                         (const "LOGIN")
                         (const "XOAUTH2")
                         (const "OAUTHBEARER")
                         (const "EXTERNAL")
                         (const "GSSAPI")
                         (const "DIGEST-MD5")
                         (const "NTLM")
                         symbol string))
  :group 'smtpmail-native-safety
  :package-version '(smtpmail-native . "0.1.0"))

;;;; Outbox

(defcustom smtpmail-native-background t
  "Non-nil means send messages in the background.
`smtpmail-native-send-it' then returns as soon as the message is in the
outbox.  In batch mode Emacs always waits for the outcome."
  :type 'boolean
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-undo-seconds 0
  "Number of seconds to hold a message before it is sent.
During this time, \\[smtpmail-native-undo-send] turns the message back
into a draft.  This applies to messages sent in the background."
  :type 'natnum
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-partial-recipients nil
  "Non-nil means send even if the server refuses some recipients.
The accepted recipients then receive the message, and the outbox keeps it
for the others.  If nil, one refused recipient means that no recipient
receives the message."
  :type 'boolean
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-expire (* 3 24 60 60)
  "Number of seconds to retry a message that cannot be delivered.
After that time Emacs holds the message until you act.  The value nil
means to retry forever."
  :type '(choice (const :tag "Forever" nil) natnum)
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-sent-functions nil
  "Abnormal hook run after the server has accepted a message.
Each function gets one argument, a plist with :id, :message-id, :subject,
:from, :sender, :recipients, :host, :port, :results and :file.  FILE
contains the message as sent; Emacs deletes it afterwards.  RESULTS is a
list of (ADDRESS OUTCOME CODE ENHANCED-CODE TEXT)."
  :type 'hook
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-failed-functions nil
  "Abnormal hook run after an attempt to send a message has failed.
Each function gets one argument, a plist as for
`smtpmail-native-sent-functions' with these additional keys: :status is
`ready' (Emacs will retry), `held', `refused' or `unknown'; :hold and
:text give the reason.  The hook runs for messages sent in the
background; otherwise Emacs signals the failure."
  :type 'hook
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-log-file nil
  "File that gets a line for the outcome of each attempt, or nil for no log.
The lines are JSON; \\[smtpmail-native-log] shows them.  They name senders and
recipients, and hold no password.  Several Emacs sessions may share the file,
which only you can read."
  :type '(choice (const :tag "No log" nil) file)
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.4.0"))

(defcustom smtpmail-native-log-max-bytes (* 1024 1024)
  "Number of bytes that `smtpmail-native-log-file' may have.
Then it becomes the file of that name with \".1\" at its end, which replaces
the one before, and a new one begins."
  :type 'natnum
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.4.0"))

;;;; Building

(defcustom smtpmail-native-build-directory nil
  "Directory where Emacs puts the module that it builds, or nil.
If nil, it is the directory of the sources or, if that is not writable,
\"smtpmail-native\" in `user-emacs-directory'."
  :type '(choice (const :tag "Directory of the sources" nil) directory)
  :group 'smtpmail-native
  :package-version '(smtpmail-native . "0.1.0"))

;;;; Outbox, certificates and delivery options

(defcustom smtpmail-native-outbox-directory
  (locate-user-emacs-file "smtpmail-native/outbox/")
  "Directory that holds the messages which have not been sent yet.
Several Emacs sessions may share it.  It must be on a file system of this
machine, belong to you, and not be writable by others."
  :type 'directory
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.1.0"))

(defcustom smtpmail-native-tls-pins nil
  "Alist of mail servers and the certificates that they must present.
Each element is (HOST . PINS).  PINS is a SHA-256 fingerprint of the
certificate or of its public key, in hexadecimal digits with or without
colons, or a list of them.  A match replaces all other checks, even those
of dates and name.  If the server presents another certificate, Emacs
sends nothing and does not ask.
The command `smtpmail-native-pin-certificate' adds an element."
  :type '(alist :key-type (string :tag "Host")
                :value-type (choice (string :tag "Fingerprint")
                                    (repeat (string :tag "Fingerprint"))))
  :group 'smtpmail-native-safety
  :package-version '(smtpmail-native . "0.1.0"))

(defcustom smtpmail-native-dsn-notify nil
  "When to ask for a delivery report (RFC 3461, section 4.1).
The value is a list of `success', `failure' and `delay'; `never'; or nil to
leave it to the servers, which report failures.  If a server does not
support reports on demand, the message is sent without asking."
  :type '(choice (const :tag "As servers do" nil)
                 (const :tag "Never" never)
                 (set (const success) (const failure) (const delay)))
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-dsn-return nil
  "What a report of failure returns of the message (RFC 3461, section 4.3).
The value is `full', `headers', or nil to leave it to the servers."
  :type '(choice (const :tag "As servers do" nil) (const full) (const headers))
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-require-tls nil
  "Non-nil means require TLS from server to server (RFC 8689).
A message is then refused if the server does not support REQUIRETLS.  The
field \"TLS-Required: No\" makes an exception of a message, and asks all
servers on the route to deliver it even without TLS."
  :type 'boolean
  :group 'smtpmail-native-safety
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-send-later-key nil
  "Key in Message mode for the command `smtpmail-native-send-later', or nil.
The value is a string as for `kbd'.  It counts for the messages that you
begin after you have set it."
  :type '(choice (const :tag "None" nil) (string :tag "Key"))
  :set (lambda (symbol value)
         (set-default symbol value)
         (if value
             (add-hook 'message-mode-hook #'smtpmail-native-options-bind-key)
           (remove-hook 'message-mode-hook
                        #'smtpmail-native-options-bind-key)))
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.4.0"))

(defun smtpmail-native-options-bind-key ()
  "Give the key that you want to the command that sends a message later.
For `message-mode-hook'."
  (when smtpmail-native-send-later-key
    (local-set-key (kbd smtpmail-native-send-later-key)
                   'smtpmail-native-send-later)))

(defcustom smtpmail-native-send-later 'outbox
  "Where a message waits that asks to be sent later.
In the `outbox' it can be changed and undone until then, and is sent when an
Emacs runs.  With `server', it is sent at once if the server supports
FUTURERELEASE (RFC 4865) for that long; otherwise it waits in the outbox."
  :type '(choice (const outbox) (const server))
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(defcustom smtpmail-native-copy-functions
  '(notmuch-maildir-message-do-fcc mu4e--fcc-handler)
  "Functions that may file a copy in another session than wrote the message.
Add the name of a function of your own that is the value of
`message-fcc-handler-function', or that takes the place of
`message-do-fcc', if messages wait in the outbox when you leave Emacs.  The
functions of Emacs and your present `message-fcc-handler-function' need not
be here."
  :type '(repeat function)
  :group 'smtpmail-native-outbox
  :package-version '(smtpmail-native . "0.2.0"))

(provide 'smtpmail-native-options)
;;; smtpmail-native-options.el ends here
