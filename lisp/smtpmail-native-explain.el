;;; smtpmail-native-explain.el --- Why these credentials?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Tells what a message would be sent with, source by source.  No password, token
;; or passphrase is shown, and no function that has one is called: not even
;; whether a secret is long or short can be seen.

;;; Code:

(require 'seq)
(require 'smtpmail-native-account)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-job)

(declare-function smtpmail-native-module-find-auth "smtpmail-native-module"
                  (host port))
(declare-function smtpmail-native-module-find-starttls "smtpmail-native-module"
                  (host port))
(declare-function auth-source-search "auth-source" (&rest spec))
(defvar auth-source-do-cache)
(defvar auth-sources)
(defvar message-send-mail-function)
(defvar send-mail-function)
(defvar smtpmail-auth-credentials)
(defvar smtpmail-auth-supported)
(defvar smtpmail-servers-requiring-authorization)
(defvar smtpmail-smtp-user)
(defvar smtpmail-starttls-credentials)
(defvar smtpmail-native-auth-mechanisms)
(defvar smtpmail-native-mode)

;;;; Classic variables

(defun smtpmail-native-explain--entry-text (entry)
  "Return what the classic ENTRY says, without its password."
  (let ((user (smtpmail-native-auth-string (nth 2 entry)))
        (secret (smtpmail-native-auth-string (nth 3 entry))))
    (format "matches: user %s, password %s"
            (or user "not given")
            (if secret "given" "not given"))))

(defun smtpmail-native-explain--same-p (entry host port)
  "Return what of ENTRY differs from HOST and PORT, a text."
  (if (not (equal (downcase (format "%s" (car-safe entry))) (downcase host)))
      "its host differs"
    (format "its port is not %s" port)))

(defun smtpmail-native-explain--others (value host port)
  "Return lines on the entries of VALUE, which are not for HOST and PORT.
VALUE is that of a classic variable."
  (let ((entries (if (stringp (car-safe value)) (list value) value)))
    (mapconcat (lambda (entry)
                 (format "\n     %s:%s does not match: %s"
                         (car-safe entry) (car-safe (cdr-safe entry))
                         (smtpmail-native-explain--same-p entry host port)))
               entries "")))

(defun smtpmail-native-explain--classic (host port value finder describe)
  "Return what the classic variable with VALUE has for HOST and PORT, a text.
FINDER is the module's function that finds the entry, DESCRIBE a function
that tells of it without its secrets."
  (condition-case err
      (let ((entry (and (not (stringp value))
                        (funcall finder host port))))
        (cond ((null value) "not set")
              ((stringp value) (format "names the file %s, see below" value))
              (entry (funcall describe entry))
              (t (concat "no entry for this server"
                         (smtpmail-native-explain--others value host port)))))
    (smtpmail-native-error (format "invalid: %s" (cadr err)))))

(defun smtpmail-native-explain--starttls-text (entry)
  "Return what ENTRY of `smtpmail-starttls-credentials' says."
  (format "matches: STARTTLS is required; key %s, certificate %s"
          (or (smtpmail-native-auth-string (nth 2 entry)) "none")
          (or (smtpmail-native-auth-string (nth 3 entry)) "none")))

;;;; auth-source

(defun smtpmail-native-explain--search (source &rest spec)
  "Return the entries that SOURCE of auth-source has for SPEC, not cached."
  (let ((auth-sources (list source))
        (auth-source-do-cache nil))
    (apply #'auth-source-search :max 100 spec)))

(defun smtpmail-native-explain--port-p (entry port)
  "Return non-nil if ENTRY of auth-source is for PORT, an integer, or for any."
  (let ((given (plist-get entry :port)))
    (or (null given)
        (member (format "%s" given)
                (smtpmail-native-lookup-port-names port)))))

(defun smtpmail-native-explain--why-not (entry port user)
  "Return why ENTRY of auth-source does not serve for PORT and USER, or nil."
  (cond ((not (smtpmail-native-explain--port-p entry port))
         (format "its port is %s, not %s" (plist-get entry :port) port))
        ((and user (not (equal (plist-get entry :user) user)))
         (format "its user is not %s" user))))

(defun smtpmail-native-explain--has (entry)
  "Return what ENTRY of auth-source has, without its secret."
  (let ((mechanisms (smtpmail-native-mechanism-string
                     (plist-get entry :smtp-auth)))
        (secret (plist-get entry :secret)))
    (concat
     (if (null secret) "no secret" "a secret")
     (if mechanisms (format ", smtp-auth %s" mechanisms) "")
     (if (smtpmail-native-lookup-certificate-p entry)
         (format ", key %s, certificate %s"
                 (or (plist-get entry :key) "none")
                 (or (plist-get entry :cert) "none"))
       ""))))

(defun smtpmail-native-explain--entry (entry port user)
  "Return a line on ENTRY of auth-source, looked for by PORT and USER."
  (let ((why (smtpmail-native-explain--why-not entry port user)))
    (format "\n     %s:%s user %s %s"
            (plist-get entry :host)
            (or (plist-get entry :port) "any port")
            (or (plist-get entry :user) "not given")
            (if why (concat "does not match: " why)
              (concat "matches: " (smtpmail-native-explain--has entry))))))

(defun smtpmail-native-explain--source (source host port user)
  "Return what SOURCE of auth-source has for HOST, PORT and USER, a text."
  (require 'auth-source)
  ;; The kind alone is told: a backend's words may hold more.
  (condition-case err
      (let ((entries (smtpmail-native-explain--search source :host host)))
        (if entries
            (mapconcat (lambda (entry)
                         (smtpmail-native-explain--entry entry port user))
                       entries "")
          (format "no entry for the host %s" host)))
    (error (format "cannot be read: %s" (get (car err) 'error-message)))))

(defun smtpmail-native-explain--source-name (source)
  "Return a name for SOURCE, an element of `auth-sources'."
  (cond ((stringp source)
         (concat (abbreviate-file-name source)
                 (if (or (string-match-p "\\`\\(?:secrets\\|macos\\)" source)
                         (file-exists-p source))
                     "" " (there is no such file)")))
        ((functionp source) "a function")
        ((stringp (plist-get (cdr-safe source) :source))
         (plist-get (cdr source) :source))
        ((keywordp (car-safe source))
         (let ((place (plist-get source :source)))
           (if (stringp place) (abbreviate-file-name place)
             "an entry of `auth-sources'")))
        ((symbolp source) (symbol-name source))
        (t "an entry of `auth-sources'")))

;;;; How it would be sent

(defun smtpmail-native-explain--by (function)
  "Return which transport FUNCTION, of a variable for sending, stands for."
  (pcase function
    ('smtpmail-native-send-it "smtpmail-native")
    ((or 'smtpmail-send-it 'message-smtpmail-send-it)
     (if (bound-and-true-p smtpmail-native-mode)
         "smtpmail-native, by `smtpmail-native-mode'"
       "stock smtpmail"))
    ('sendmail-send-it "sendmail")
    ('message-send-mail-with-sendmail "sendmail")
    ('sendmail-query-once "Emacs asks you when you first send mail")
    ('message-use-send-mail-function "that of `send-mail-function'")
    ('nil (if (bound-and-true-p smtpmail-native-mode)
              "not set, and `smtpmail-native-mode' does not affect it"
            "nothing"))
    (_ "another function")))

(defun smtpmail-native-explain--function (variable)
  "Return a line on VARIABLE, whose value is a function that sends mail."
  (let ((value (and (boundp variable) (symbol-value variable))))
    (format "%s: %s (%s)" variable
            (if (symbolp value) value "a function without a name")
            (smtpmail-native-explain--by value))))

(defun smtpmail-native-explain--stream (stream starttls)
  "Return a text on STREAM, the value of `smtpmail-stream-type'.
STARTTLS is the entry of the classic variable for the server, or nil."
  (cond ((memq stream '(ssl tls)) (format "%s: TLS from the start" stream))
        (starttls "STARTTLS is required by `smtpmail-starttls-credentials'")
        ((eq stream 'starttls) "starttls: STARTTLS is required")
        ((eq stream 'plain) "plain: no TLS")
        (t "nil: STARTTLS if the server offers it")))

(defconst smtpmail-native-explain--default
  "the strongest that the server offers, in this order: SCRAM-SHA-256-PLUS, \
SCRAM-SHA-1-PLUS, SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5, PLAIN, LOGIN"
  "The default order of mechanisms.")

(defun smtpmail-native-explain--mechanisms (entries)
  "Return the mechanisms that a message would take, a text.
ENTRIES are those of auth-source that match, the first one counts."
  (let ((forced (smtpmail-native-mechanism-string
                 (plist-get (car entries) :smtp-auth)))
        (preference (smtpmail-native-mechanism-preference))
        (option (smtpmail-native-mechanism-option)))
    (cond
     (forced (format "%s (from smtp-auth in auth-source)" forced))
     (preference
      (format "%s, with a token (from your options)%s"
              (plist-get preference :mechanisms)
              (if (plist-get preference :preferred)
                  "; if the server offers none of these, \
a password with another mechanism"
                "")))
     ((null option) smtpmail-native-explain--default)
     ((eq (car option) 'none) "none, because `smtpmail-auth-supported' is nil")
     (t (format "%s, by `%s'" (string-join (car option) " ")
                (cadr option))))))

(defun smtpmail-native-explain--outcome (host port user)
  "Return what a message to HOST at PORT as USER would be sent with, a text.
It is found as for a message, but without asking."
  (let ((found nil))
    (unwind-protect
        (condition-case err
            (progn
              (setq found (smtpmail-native-auth-find host port
                                                     :user user :probe t))
              (pcase (plist-get found :source)
                ('none "none, unless the server requires authentication")
                ('mechanism "none needed for the first mechanism")
                ('prompt (format "user %s, as typed before"
                                 (plist-get found :user)))
                (source
                 (format "user %s, from %s%s"
                         (or (plist-get found :user) "not given")
                         (pcase source
                           ('classic "`smtpmail-auth-credentials'")
                           ('file "the file of `smtpmail-auth-credentials'")
                           (_ "auth-source"))
                         (if (plist-get found :token) ", with a token" "")))))
          (smtpmail-native-auth-error
           (format "Emacs will ask you (in batch mode, an error: %s)" (cadr err)))
          (smtpmail-native-error (format "an error: %s" (cadr err))))
      (smtpmail-native-auth-release found))))

;;;; Together

(defun smtpmail-native-explain--typed (host port user)
  "Return what was typed for HOST, PORT and USER in this session, a text."
  (let ((known (smtpmail-native-secrets-known host port user)))
    (unwind-protect
        (if known
            (format "matches: user %s%s" (plist-get known :user)
                    (if (smtpmail-native-secrets-instead-p
                         (append (list :host host :port port) known))
                        ", in place of a stored password that was refused"
                      ""))
          "nothing entered for this server and user")
      (smtpmail-native-auth-release known))))

(defun smtpmail-native-explain--prompt (host)
  "Return when a password for HOST is prompted for, a text."
  (cond (noninteractive "never in batch mode")
        ((smtpmail-native-lookup-demanded-p host)
         "if nothing above has a password: \
`smtpmail-servers-requiring-authorization' matches")
        (t "if an entry above has no password, or the server requires one")))

(defun smtpmail-native-explain--matching (sources host port user)
  "Return the entries of SOURCES that match HOST, PORT and USER."
  (seq-mapcat
   (lambda (source)
     (condition-case nil
         (seq-remove (lambda (entry)
                       (smtpmail-native-explain--why-not entry port user))
                     (smtpmail-native-explain--search source :host host))
       (error nil)))
   sources))

(defun smtpmail-native-explain--sources (host port user)
  "Return the sources of credentials for HOST, PORT and USER, in order.
Each is (NAME . TEXT)."
  (let ((value (bound-and-true-p smtpmail-auth-credentials))
        (file (smtpmail-native-auth-string
               (bound-and-true-p smtpmail-auth-credentials))))
    (append
     (list (cons "`smtpmail-auth-credentials'"
                 (smtpmail-native-explain--classic
                  host port value #'smtpmail-native-module-find-auth
                  #'smtpmail-native-explain--entry-text)))
     (and file
          (list (cons (format "The file %s" file)
                      (smtpmail-native-explain--source
                       (expand-file-name file) host port user))))
     (mapcar (lambda (source)
               (cons (format "auth-source, %s"
                             (smtpmail-native-explain--source-name source))
                     (smtpmail-native-explain--source source host port user)))
             auth-sources)
     (list (cons "Typed in this session"
                 (smtpmail-native-explain--typed host port user))
           (cons "A prompt" (smtpmail-native-explain--prompt host))))))

(defun smtpmail-native-explain--transport ()
  "Return which transport would send mail, a text."
  (let ((foreign (smtpmail-native-mechanism-foreign)))
    (concat
     "\nTransport:\n"
     (mapconcat (lambda (variable)
                  (format "  %s\n" (smtpmail-native-explain--function
                                    variable)))
                '(send-mail-function message-send-mail-function) "")
     (format "  smtpmail-native-mode: %s\n"
             (if (bound-and-true-p smtpmail-native-mode) "on" "off"))
     (if foreign
         (format "  Stock smtpmail will send: only it supports %s\n" foreign)
       ""))))

(defun smtpmail-native-explain--account (account classic wanted)
  "Return how a message to the server of ACCOUNT would be sent, a text.
CLASSIC is its classic entry, or nil, and WANTED the user, or nil."
  (let ((host (plist-get account :host))
        (port (plist-get account :port))
        (user (plist-get account :user))
        (starttls (condition-case nil
                      (smtpmail-native-module-find-starttls
                       (plist-get account :host) (plist-get account :port))
                    (smtpmail-native-error nil))))
    (concat
     (format "Server:      %s:%s%s\n" host port
             (if user (format ", user %s by `smtpmail-smtp-user'" user) ""))
     (format "Credentials: %s\n"
             (smtpmail-native-explain--outcome host port user))
     (format "Connection:  %s\n"
             (smtpmail-native-explain--stream (plist-get account :stream)
                                              starttls))
     (format "Mechanisms:  %s\n"
             (smtpmail-native-explain--mechanisms
              (and (null classic)
                   (smtpmail-native-explain--matching
                    auth-sources host port wanted)))))))

(defun smtpmail-native-explain--choice (account)
  "Return why the server of ACCOUNT counts, a line, if there are accounts."
  (let ((name (plist-get account :account)))
    (cond
     ((null smtpmail-native-accounts) "")
     (name (format "Account:     %s, by `smtpmail-native-accounts'\n"
                   (smtpmail-native-error-text name)))
     (t "Account:     none, because a program or this buffer names the \
server\n"))))

(defun smtpmail-native-explain-text (account)
  "Return how a message to the server of ACCOUNT would be sent, and why.
ACCOUNT is a plist, see `smtpmail-native-job-account-for'.  The text holds
no secret.  Signal `smtpmail-native-error' if the module is missing."
  (smtpmail-native-load)
  (smtpmail-native-account-call
   (plist-get account :account)
   (lambda () (smtpmail-native-explain--text account))))

(defun smtpmail-native-explain--text (account)
  "Return the text for ACCOUNT, by the options of this moment."
  (require 'auth-source)
  (let* ((host (plist-get account :host))
         (port (plist-get account :port))
         (classic (condition-case nil
                      (smtpmail-native-module-find-auth host port)
                    (smtpmail-native-error nil)))
         (wanted (or (smtpmail-native-auth-string (nth 2 classic))
                     (plist-get account :user)))
         (number 0))
    (concat
     (smtpmail-native-explain--choice account)
     (smtpmail-native-explain--account account classic wanted)
     (smtpmail-native-explain--transport)
     "\nWhere Emacs looks for credentials, in this order:\n"
     (mapconcat (lambda (source)
                  (setq number (1+ number))
                  (format "  %d. %s: %s\n" number (car source) (cdr source)))
                (smtpmail-native-explain--sources host port wanted) "")
     (format "\n`smtpmail-starttls-credentials': %s\n"
             (smtpmail-native-explain--classic
              host port (bound-and-true-p smtpmail-starttls-credentials)
              #'smtpmail-native-module-find-starttls
              #'smtpmail-native-explain--starttls-text)))))

;;;###autoload
(defun smtpmail-native-explain-credentials ()
  "Show which credentials Emacs would use to send mail, and why.
List the places where Emacs looks for them, in order, with the entry that
matches or the reason why none does.  This shows no secrets and sends
nothing.
Signal a child of `smtpmail-native-error' if there is no server or module."
  (interactive)
  (let ((text (smtpmail-native-error-leaving
                (smtpmail-native-explain-text
                 (smtpmail-native-job-account-here)))))
    (help-setup-xref (list #'smtpmail-native-explain-credentials)
                     (called-interactively-p 'interactive))
    (with-help-window (help-buffer)
      (princ text))))

(provide 'smtpmail-native-explain)
;;; smtpmail-native-explain.el ends here
