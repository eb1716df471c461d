;;; smtpmail-native.el --- Native transport for smtpmail  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The smtpmail-native developers

;; Author: The smtpmail-native developers
;; Version: 0.2.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: mail
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Sends mail by a dynamic module: connections, TLS and SASL are done in C, in
;; worker threads.  In the init file:
;;
;;   (add-to-list 'load-path "~/src/smtpmail-native")
;;   (require 'smtpmail-native)
;;   (setq send-mail-function #'smtpmail-native-send-it
;;         message-send-mail-function #'smtpmail-native-send-it
;;         smtpmail-smtp-server "mail.example.org"
;;         smtpmail-smtp-service 587
;;         smtpmail-auth-credentials
;;         '(("mail.example.org" 587 "alice" nil))
;;         smtpmail-starttls-credentials
;;         '(("mail.example.org" 587 nil nil)))
;;
;; README.org is the manual.

;;; Code:

(eval-and-compile
  (add-to-list 'load-path
               (expand-file-name
                "lisp" (file-name-directory
                        (or load-file-name
                            (bound-and-true-p byte-compile-current-file)
                            buffer-file-name)))))

;;;; The classic variables

;; Users set them before or after this file is loaded; they are bound here only
;; to be known, and never given another value.
(defvar smtpmail-auth-credentials nil
  "Who the user is, for each mail server.
A list of (HOST PORT USER PASSWORD).  HOST is a string, compared without
regard to case; PORT an integer, a string of digits, or the name of a
service like \"submission\".  The first entry for a server counts.  USER
and PASSWORD may be nil: then they are asked for.  The value may also be
the name of a netrc file.")

(defvar smtpmail-starttls-credentials nil
  "Servers that must be talked to by STARTTLS.
A list of (HOST PORT KEYFILE CERTFILE), HOST and PORT as in
`smtpmail-auth-credentials'.  KEYFILE and CERTFILE name the PEM files of a
client certificate; nil or \"\" for none.  No mail is sent to such a server
without TLS.")

;;;; Options

(defgroup smtpmail-native nil
  "Native transport for mail."
  :group 'mail
  :link '(url-link "https://www.gnu.org/software/emacs/manual/html_mono/smtpmail.html"))

(defcustom smtpmail-native-timeout 60
  "Seconds that the server may take for each answer.
For the answer to the end of the message it is ten times as long."
  :type 'number)

(defcustom smtpmail-native-cleartext-auth 'loopback
  "Whether a connection without TLS may be used to authenticate.
The value `loopback' allows it to servers on this machine only, t to all,
nil to none.  Where it is not allowed no mail is sent."
  :type '(choice (const :tag "To this machine" loopback)
                 (const :tag "Always" t)
                 (const :tag "Never" nil)))

(defcustom smtpmail-native-auth-mechanisms nil
  "SASL mechanisms that may be used, in this order.
A list of names, strings or symbols.  The value nil stands for
SCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS, SCRAM-SHA-256, SCRAM-SHA-1,
CRAM-MD5, PLAIN, LOGIN, or with a client certificate and no password for
EXTERNAL.  If XOAUTH2 or OAUTHBEARER is the first one, passwords are
OAuth 2.0 tokens.  If GSSAPI or EXTERNAL is, none is asked for.
DIGEST-MD5 and NTLM are only used when they are named here."
  :type '(repeat (choice symbol string)))

(defcustom smtpmail-native-build-directory nil
  "Where the module is built when Emacs is asked to.
The value nil stands for the folder of this package or, if that cannot be
written, \"smtpmail-native\" in the user's folder for Emacs."
  :type '(choice (const :tag "Folder of the package" nil) directory))

(defcustom smtpmail-native-background t
  "Whether mail is sent in the background.
Then `smtpmail-native-send-it' returns as soon as the mail is in the
outbox.  A batch Emacs always waits for the outcome."
  :type 'boolean)

(defcustom smtpmail-native-undo-seconds 0
  "Seconds for which a mail is held before it is sent.
So long `smtpmail-native-undo-send' brings it back.  This is for mail that
is sent in the background."
  :type 'natnum)

(defcustom smtpmail-native-partial-recipients nil
  "Whether a mail is sent when the server refuses some of its recipients.
With nil nobody gets it then.  With t those get it whom the server has
accepted, and the outbox keeps the mail for the rest alone."
  :type 'boolean)

(defcustom smtpmail-native-expire (* 3 24 60 60)
  "Seconds for which a mail that cannot be sent is tried again.
Then it is held, and the user decides.  The value nil stands for ever."
  :type '(choice (const :tag "For ever" nil) natnum))

(defcustom smtpmail-native-idle-seconds 10
  "Seconds for which a connection is kept open for further mails."
  :type 'number)

(defcustom smtpmail-native-max-sessions 2
  "How many connections for one account there may be at a time.
One is used unless there is much to send."
  :type 'natnum)

(defcustom smtpmail-native-proxy nil
  "URL of the proxy through which mail servers are reached, or nil.
It is socks5://HOST:PORT (SOCKS 5) or http://HOST:PORT (CONNECT), with
USER:PASSWORD@ before HOST if the proxy wants to know who you are, where
octets of special meaning are written as %XX.  The names of servers are
resolved by the proxy.  A local socket is reached without it."
  :type '(choice (const :tag "None" nil) string))

(defcustom smtpmail-native-source-address nil
  "IP address, as a string, of this machine to connect from, or nil.
With nil the system chooses one for each connection."
  :type '(choice (const :tag "The system chooses" nil) string))

(defcustom smtpmail-native-chunking nil
  "Whether mail is sent in chunks where the server offers CHUNKING.
See RFC 3030; some servers are said to do it badly."
  :type 'boolean)

(defcustom smtpmail-native-avoid-extensions nil
  "Extensions of SMTP that are not used with servers that do them badly.
An alist of (HOST EXTENSION...): HOST is a name as in
`smtpmail-smtp-server', an extension one such as PIPELINING, CHUNKING, SIZE
or PIPECONNECT, a symbol or string."
  :type '(alist :key-type string :value-type (repeat (choice symbol string))))

(defcustom smtpmail-native-sent-functions nil
  "Functions that are called when a mail has been taken by the server.
The argument is a plist, which has :id, :message-id, :subject, :from,
:sender, :recipients, :host, :port, :results and :file, the file with the
octets of the message, which is deleted afterwards.  :results is a list
of (ADDRESS OUTCOME CODE ENHANCED-CODE TEXT)."
  :type 'hook)

(defcustom smtpmail-native-failed-functions nil
  "Functions that are called when an attempt to send a mail has failed.
The argument is a plist as for `smtpmail-native-sent-functions', and has
also :status (`ready' to be tried again, `held', `refused' or `unknown'),
:hold and :text, the reason.  This is for mail that is sent in the
background; else the failure is signalled."
  :type 'hook)

(require 'nadvice)
(require 'seq)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-error)
(require 'smtpmail-native-queue)
(require 'smtpmail-native-copy)
(require 'smtpmail-native-mode)

;;;; Commands

(defun smtpmail-native--told (recipients seconds)
  "Return the line that tells of a mail to RECIPIENTS, which took SECONDS."
  (format "Sent to %s%s in %.1f s" (car recipients)
          (if (cdr recipients) (format " and %d more" (length (cdr recipients)))
            "")
          seconds))

(defun smtpmail-native--tell-undo (recipients)
  "Tell how the mail to RECIPIENTS can be brought back, and for how long.
It is told in a moment, because the caller says that it is done."
  (run-at-time 0 nil #'smtpmail-native-queue-say
               "Mail to %s leaves in %d s; %s brings it back"
               (smtpmail-native-error-text (car recipients))
               smtpmail-native-undo-seconds
               (substitute-command-keys "\\[smtpmail-native-undo-send]")))

(defun smtpmail-native--leave (mail how)
  "Put MAIL into the outbox by way of HOW; its copies are filed when it is sent.
HOW is that of `smtpmail-native-queue-send'."
  (smtpmail-native-copy-expect
   (plist-get (smtpmail-native-queue-send mail how) :id)
   (plist-get mail :key)))

(defun smtpmail-native--hand-over (mail)
  "Send MAIL, a plist of `smtpmail-native-message-prepare', as is wanted now."
  (let ((start (float-time))
        (people (plist-get mail :recipients)))
    (cond
     (smtpmail-queue-mail
      (smtpmail-native--leave mail 'queue)
      (message "Queued mail to %s" (car people)))
     ((smtpmail-native-queue-later-p mail)
      (smtpmail-native--leave mail 'background)
      (message "Mail to %s waits in the outbox until %s"
               (smtpmail-native-error-text (car people))
               (smtpmail-native-queue-date
                (plist-get (plist-get mail :wishes) :release))))
     ((and smtpmail-native-background (not noninteractive))
      (smtpmail-native--leave mail 'background)
      (when (> smtpmail-native-undo-seconds 0)
        (smtpmail-native--tell-undo people)))
     (t
      (smtpmail-native-queue-send mail 'wait)
      (message "%s" (smtpmail-native--told people
                                           (- (float-time) start)))))))

(defun smtpmail-native-stock-send-p ()
  "Send the mail in the current buffer by stock smtpmail, if that has to be.
So it is when a mechanism of `smtpmail-auth-supported' is one that only
stock smtpmail has, by a method of `smtpmail-try-auth-method' that somebody
has added.  Return non-nil, and tell the user why, if it was sent."
  (let ((mechanism (smtpmail-native-auth-foreign-mechanism)))
    (when mechanism
      (message "Stock smtpmail sends this mail: only it has the mechanism %s, \
see `smtpmail-auth-supported'" mechanism)
      (require 'smtpmail)
      ;; Whatever advice leads from there to here is passed by.
      (funcall (advice--cd*r (symbol-function 'smtpmail-send-it)))
      t)))

;;;###autoload
(defun smtpmail-native-send-it ()
  "Send the mail in the current buffer; for `send-mail-function'.
The buffer holds header, `mail-header-separator' and body, and is not
altered.  Server, port, TLS and credentials are those of smtpmail's
variables.

Return as soon as the mail is in the outbox, if
`smtpmail-native-background' says so; it is sent from there, whatever
happens to this Emacs.  Else wait until the server has taken it for all
recipients; Emacs stays alive meanwhile, and \\[keyboard-quit] cancels.
With `smtpmail-queue-mail' it waits in the outbox until the queue is
flushed.  A mechanism that somebody has added to smtpmail, and that this
package does not have, makes stock smtpmail send the mail.

Signal a child of `smtpmail-native-error' if the mail was not sent or put
into the outbox; after `smtpmail-native-unknown-outcome' it may have
arrived."
  (unless (smtpmail-native-stock-send-p)
    (condition-case err
        (let ((mail (smtpmail-native-message-prepare)))
          (unwind-protect
              (smtpmail-native-mode-hand-over
               (append (list :key (smtpmail-native-copy-key)) mail))
            (kill-buffer (plist-get mail :buffer))))
      (smtpmail-native-error
       ;; The backtrace of a batch Emacs shows only the beginning of the text.
       (when noninteractive
         (message "%s: %s" (get (car err) 'error-message) (cadr err)))
       (signal (car err) (cdr err))))))

;;;###autoload
(defun message-send-mail-with-smtp-native ()
  "Send the mail in the current buffer by `smtpmail-native-send-it'.
A `message-mode' that knows methods by name finds this one for the header
X-Message-SMTP-Method."
  (run-hooks 'message-send-mail-hook)
  (smtpmail-native-send-it))

(defun smtpmail-native--insert-certificate (certificate)
  "Insert what CERTIFICATE, a plist of the module, says."
  (let ((reasons (smtpmail-native-error-text (plist-get certificate :reasons))))
    (insert (format "Certificate:  %s\n"
                    (smtpmail-native-error-text
                     (plist-get certificate :subject)))
            (format "  issuer:     %s\n"
                    (smtpmail-native-error-text
                     (plist-get certificate :issuer)))
            (format-time-string "  valid from: %F %T\n"
                                (plist-get certificate :not-before))
            (format-time-string "  valid to:   %F %T\n"
                                (plist-get certificate :not-after))
            (format "  SHA-256:    %s\n" (plist-get certificate :sha256))
            (format "  its key:    %s\n" (plist-get certificate :spki-sha256))
            (format "  verified:   %s\n"
                    (cond ((plist-get certificate :pinned) "no, it is pinned")
                          ((equal reasons "") "yes")
                          (t reasons))))))

(defun smtpmail-native--insert-info (account result)
  "Insert what RESULT tells of the server of ACCOUNT."
  (let* ((tls (plist-get result :tls))
         (certificate (plist-get tls :certificate))
         (capabilities (mapcar #'smtpmail-native-error-text
                               (split-string
                                (or (plist-get result :capabilities) "")
                                "\n" t)))
         (case-fold-search t))
    (insert (format "Server:       %s:%s\n" (plist-get account :host)
                    (plist-get account :port)))
    (unless (eq (plist-get result :kind) 'ok)
      (insert (format "Failure:      %s\n"
                      (smtpmail-native-error-describe
                       result (plist-get account :host)
                       (plist-get account :port)))))
    (insert (format "Greeting:     %s\n" (smtpmail-native-error-text
                                          (plist-get result :greeting)))
            (if tls
                (format "TLS:          %s, %s\n" (plist-get tls :protocol)
                        (plist-get tls :cipher))
              "TLS:          none\n"))
    (when certificate
      (smtpmail-native--insert-certificate certificate))
    (insert "Mechanisms:   "
            (or (seq-some (lambda (line)
                            (and (string-match "\\`AUTH[ =]\\(.*\\)" line)
                                 (match-string 1 line)))
                          capabilities)
                "none offered")
            "\nCapabilities:\n")
    (dolist (line capabilities)
      (insert "  " line "\n"))))

;;;###autoload
(defun smtpmail-native-server-info ()
  "Show what the mail server says of itself.
That is its greeting, capabilities and mechanisms, the version and cipher of
TLS, and its certificate.  Nothing secret is sent."
  (interactive)
  (let* ((account (smtpmail-native-queue-account))
         (result (smtpmail-native-queue-probe account))
         (buffer (get-buffer-create "*smtpmail-native server info*")))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (smtpmail-native--insert-info account result)
        (goto-char (point-min)))
      (special-mode))
    (display-buffer buffer)))

(autoload 'smtpmail-native-explain-credentials "smtpmail-native-explain"
  "Show with which credentials a mail would be sent, and why." t)

(defun smtpmail-native--shown-certificate (account)
  "Return the certificate that the server of ACCOUNT shows, whatever it is.
Signal a child of `smtpmail-native-error' if it shows none."
  (let* ((host (plist-get account :host))
         (port (plist-get account :port))
         (result (smtpmail-native-queue-probe account t)))
    (or (plist-get (plist-get result :tls) :certificate)
        (smtpmail-native-error-signal
         'smtpmail-native-tls-error
         (if (eq (plist-get result :kind) 'ok)
             (format "%s:%s uses no TLS" host port)
           (smtpmail-native-error-describe result host port))))))

;;;###autoload
(defun smtpmail-native-pin-certificate ()
  "Show the certificate of the mail server, and trust it from now on.
After a question its fingerprint goes into `smtpmail-native-tls-pins', and is
saved where that is possible.  Nothing secret is sent.  Signal a child of
`smtpmail-native-error' if the server shows none."
  (interactive)
  (let* ((account (smtpmail-native-queue-account))
         (host (plist-get account :host))
         (shown (smtpmail-native--shown-certificate account)))
    (with-help-window "*smtpmail-native certificate*"
      (with-current-buffer standard-output
        (smtpmail-native--insert-certificate shown)))
    (when (yes-or-no-p (format "Trust just this certificate for %s? " host))
      (smtpmail-native-trust-add-pin host (plist-get shown :sha256))
      (smtpmail-native-queue-trust-changed host (plist-get account :port)))))

;;;; The outbox

(autoload 'smtpmail-native-outbox "smtpmail-native-list"
  "Show the mails that are on their way, and let the user see to them." t)
(autoload 'smtpmail-native-flush-queue "smtpmail-native-list"
  "Send all mails of the outbox that wait, also those that are queued." t)
(autoload 'smtpmail-native-undo-send "smtpmail-native-list"
  "Bring back the newest mail that has not left yet, as a draft." t)
(autoload 'smtpmail-native-unlock "smtpmail-native-list"
  "Ask now for the passwords that mails of the outbox are held for." t)
(autoload 'smtpmail-native-list-note "smtpmail-native-list")

(add-hook 'smtpmail-native-queue-changed-functions #'smtpmail-native-list-note)

;;;; Scripts

(autoload 'smtpmail-native-batch-send "smtpmail-native-batch"
  "Send a message as the rest of the command line says, and end Emacs.")
(autoload 'smtpmail-native-batch-flush "smtpmail-native-batch"
  "Send all that waits in the outbox, each mail once, and end Emacs.")

;; What an Emacs that has ended has left is taken up by the next one.
(unless noninteractive
  (run-with-idle-timer 2 nil #'smtpmail-native-queue-start))

(provide 'smtpmail-native)
;;; smtpmail-native.el ends here
