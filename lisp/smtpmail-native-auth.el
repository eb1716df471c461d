;;; smtpmail-native-auth.el --- Who am I for this server?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Looks in this order: an entry of `smtpmail-auth-credentials' (which the
;; module reads itself when it is complete), the netrc file that this variable
;; names when it is a string, auth-source, and the user at a prompt.  What an
;; entry leaves open is looked for in the places that come after it.  What is
;; found is a plist, see `smtpmail-native-auth-find'.  Passphrases of client keys
;; are known here, too.
;;
;; What the module is given are copies, which are cleared when it has answered;
;; the user's own strings are never touched.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

(declare-function smtpmail-native-module-find-auth "smtpmail-native-module"
                  (host port))
(declare-function smtpmail-native-module-find-starttls "smtpmail-native-module"
                  (host port))
(declare-function cl--generic "cl-generic" (name))
(declare-function cl--generic-method-table "cl-generic" (generic))
(declare-function cl--generic-method-specializers "cl-generic" (method))
(declare-function auth-source-search "auth-source" (&rest spec))
(declare-function auth-source-forget "auth-source" (spec))
(declare-function auth-source-forget+ "auth-source" (&rest spec))
(defvar auth-source-do-cache)
(defvar auth-sources)
(defvar auth-source-creation-prompts)
(defvar smtpmail-smtp-user)
(defvar smtpmail-servers-requiring-authorization)
(defvar smtpmail-auth-credentials)
(defvar smtpmail-auth-supported)

(defvar smtpmail-native-auth-inhibit-prompts nil
  "Non-nil means that nobody is there to be asked, as in batch.")

(defvar smtpmail-native-auth-inhibit-functions nil
  "Non-nil means that functions which have a secret are not called.
Whoever binds it wants to know only whether there is one.")

(defun smtpmail-native-auth--may-ask-p ()
  "Return non-nil if the user can be asked."
  (not (or noninteractive smtpmail-native-auth-inhibit-prompts)))

(defvar smtpmail-native-auth--typed (make-hash-table :test #'equal)
  "Passwords that were typed and have worked, by (HOST PORT USER).")

(defvar smtpmail-native-auth--instead nil
  "Which of `smtpmail-native-auth--typed' go before what is stored.
They were typed because the server has refused the latter.  An alist of
\(KEY . FOUND), FOUND being the rest of the stored entry.")

(defvar smtpmail-native-auth--passphrases (make-hash-table :test #'equal)
  "Passphrases of client keys that were typed, by the name of the key.")

(defvar smtpmail-native-auth--tokenless nil
  "Servers, (HOST . PORT), that offer no mechanism for a token.")

(defconst smtpmail-native-auth--token-mechanisms '("OAUTHBEARER" "XOAUTH2")
  "The mechanisms whose secret is an OAuth 2.0 token.")

(defconst smtpmail-native-auth--own-mechanisms
  '(cram-md5 plain login xoauth2 oauthbearer scram-sha-1 scram-sha-256
    scram-sha-1-plus scram-sha-256-plus external gssapi digest-md5 ntlm)
  "The mechanisms that the module has, as smtpmail names them.")

(defconst smtpmail-native-auth-services
  '(("smtp" . 25) ("submission" . 587) ("smtps" . 465) ("submissions" . 465))
  "The services of mail, by name.")

(defun smtpmail-native-auth-string (value)
  "Return VALUE if it is a string that is not empty, else nil."
  (and (stringp value) (not (equal value "")) value))

(defun smtpmail-native-auth--encode (string)
  "Return a new unibyte string with the UTF-8 of STRING.
It is ours, and so may be cleared."
  (if (multibyte-string-p string)
      (encode-coding-string string 'utf-8)
    (copy-sequence string)))

(defun smtpmail-native-auth--smtp-user ()
  "Return `smtpmail-smtp-user', or nil if it says nothing."
  (smtpmail-native-auth-string (bound-and-true-p smtpmail-smtp-user)))

;;;; auth-source

(defun smtpmail-native-auth--port-names (port)
  "Return the spellings of PORT, an integer, that stand in netrc files."
  (let ((named (seq-filter (lambda (service) (eql (cdr service) port))
                           smtpmail-native-auth-services)))
    (cons (number-to-string port) (mapcar #'car named))))

(defun smtpmail-native-auth--search (host port &rest spec)
  "Return the first entry of auth-source for HOST, PORT and SPEC, or nil."
  (require 'auth-source)
  (seq-some (lambda (name)
              (let ((spec (append (list :max 1 :host host :port name) spec)))
                (or (car (apply #'auth-source-search spec))
                    ;; Else it would know for hours that there is none.
                    (ignore (auth-source-forget spec)))))
            (smtpmail-native-auth--port-names port)))

(defun smtpmail-native-auth--mechanisms (value)
  "Return the mechanisms that VALUE, of the token smtp-auth, asks for.
It is a string, a symbol, or a list of them; the result a string or nil."
  (smtpmail-native-auth-string
   (mapconcat (lambda (one) (upcase (format "%s" one)))
              (if (listp value) value (list value)) " ")))

(defun smtpmail-native-auth--names (mechanisms)
  "Return the list of names in MECHANISMS, a string or nil."
  (split-string (or mechanisms "") "[ ,]+" t))

(defun smtpmail-native-auth--token-p (mechanism)
  "Return non-nil if the secret of MECHANISM, a name in capitals, is a token."
  (member mechanism smtpmail-native-auth--token-mechanisms))

(defun smtpmail-native-auth--secret (secret host port)
  "Return SECRET, or what it returns if it is a function.
Signal `smtpmail-native-auth-error', which names HOST and PORT, if there
is no string to be had."
  (let ((value
         (cond
          ((not (functionp secret)) secret)
          (smtpmail-native-auth-inhibit-functions "")
          ;; Only the kind of the error is told: its data might be the secret.
          (t (condition-case err
                 (funcall secret)
               (error
                (smtpmail-native-error-signal
                 'smtpmail-native-auth-error
                 (format "The function that auth-source has for the secret of \
%s:%s has failed: %s" host port (get (car err) 'error-message)))))))))
    (unless (or (stringp value) (null secret))
      (smtpmail-native-error-signal
       'smtpmail-native-auth-error
       (format "The secret that auth-source has for %s:%s is no string"
               host port)))
    value))

(defun smtpmail-native-auth--from-entry (entry source host port)
  "Return the plist for ENTRY of auth-source, found in SOURCE.
It is for HOST and PORT."
  (let ((value (smtpmail-native-auth--secret (plist-get entry :secret)
                                             host port)))
    (list :source source
          :user (plist-get entry :user)
          :password (and value (smtpmail-native-auth--encode value))
          :mechanisms (smtpmail-native-auth--mechanisms
                       (plist-get entry :smtp-auth))
          :key (smtpmail-native-auth-string (plist-get entry :key))
          :cert (smtpmail-native-auth-string (plist-get entry :cert))
          :stored-passphrase (plist-get entry :passphrase)
          :save (plist-get entry :save-function))))

(defun smtpmail-native-auth--certificate-p (found)
  "Return non-nil if FOUND has a client certificate."
  (or (plist-get found :key) (plist-get found :cert)))

(defun smtpmail-native-auth--stored (host port source &optional user)
  "Return what auth-source has for HOST and PORT as a plist, or nil.
SOURCE names the place where it is looked for.  USER is the one that it
has to be for, default `smtpmail-smtp-user', if that is set.  Without a
password the plist holds a client certificate, or just the user."
  (let* ((user (or user (smtpmail-native-auth--smtp-user)))
         (spec (and user (list :user user)))
         (entry (or (apply #'smtpmail-native-auth--search host port
                           :require '(:user :secret) spec)
                    (apply #'smtpmail-native-auth--search host port spec))))
    (and (or (plist-get entry :user) (plist-get entry :key)
             (plist-get entry :cert))
         (smtpmail-native-auth--from-entry entry source host port))))

(defun smtpmail-native-auth--file (host port)
  "Return what the netrc file of the classic variable has for HOST and PORT."
  (let ((file (smtpmail-native-auth-string
               (bound-and-true-p smtpmail-auth-credentials))))
    (when file
      (require 'auth-source)
      (let ((auth-sources (list (expand-file-name file)))
            ;; Its cache does not tell one list of sources from another.
            (auth-source-do-cache nil))
        (smtpmail-native-auth--stored host port 'file)))))

(defun smtpmail-native-auth--rest (found)
  "Return what FOUND, which may be nil, has beside user and password.
That is the client certificate and the mechanisms."
  (cl-loop for key in '(:key :cert :stored-passphrase :mechanisms)
           when (plist-get found key)
           append (list key (plist-get found key))))

(defun smtpmail-native-auth--with-stored (found stored)
  "Return FOUND, which was typed, with the rest of STORED, which may be nil."
  (append (smtpmail-native-auth--rest stored) found))

(defun smtpmail-native-auth--ask-auth-source (host port)
  "Ask for user and password of HOST and PORT by way of auth-source.
It offers to save them once they have worked.  Return a plist, or nil if
none of the sources can make an entry."
  (require 'auth-source)
  (let* ((user (smtpmail-native-auth--smtp-user))
         (auth-source-creation-prompts
          '((user . "SMTP user name for %h: ")
            (secret . "SMTP password for %u@%h: ")))
         (entry (car (apply #'auth-source-search
                            :max 1 :host host :port (number-to-string port)
                            :require '(:user :secret) :create t
                            (and user (list :user user))))))
    (and entry
         (append (smtpmail-native-auth--from-entry entry 'prompt host port)
                 '(:typed t)))))

;;;; Typed passwords

(defun smtpmail-native-auth--known (host port user)
  "Return the plist for a password typed before for HOST, PORT and USER.
If USER is nil, any will do."
  (let ((found nil))
    (maphash (lambda (key password)
               (when (and (equal (nth 0 key) (downcase host))
                          (equal (nth 1 key) port)
                          (member user (list nil (nth 2 key))))
                 (setq found (list :source 'prompt
                                   :user (nth 2 key)
                                   :password (copy-sequence password)
                                   :typed t))))
             smtpmail-native-auth--typed)
    found))

(defun smtpmail-native-auth--read (prompt)
  "Ask for a secret by PROMPT, and return it as a unibyte string."
  (let ((typed (read-passwd prompt)))
    (unwind-protect
        (smtpmail-native-auth--encode typed)
      (clear-string typed))))

(defun smtpmail-native-auth--ask (host port user &optional password)
  "Ask for USER and PASSWORD for HOST and PORT, those of them that are nil."
  (list :source 'prompt
        :user (or user
                  (read-string (format "SMTP user name for %s:%s: " host port)
                               (or (smtpmail-native-auth--smtp-user)
                                   (user-login-name))))
        :password (if password
                      (smtpmail-native-auth--encode password)
                    (smtpmail-native-auth--read
                     (format "SMTP password for %s:%s: " host port)))
        :typed t))

(defun smtpmail-native-auth--key (found)
  "Return the key of FOUND in `smtpmail-native-auth--typed'."
  (list (downcase (plist-get found :host)) (plist-get found :port)
        (plist-get found :user)))

(defun smtpmail-native-auth--forget (found)
  "Forget the password of FOUND if it was typed before; return its key."
  (let* ((key (smtpmail-native-auth--key found))
         (password (gethash key smtpmail-native-auth--typed)))
    (when password
      (clear-string password)
      (remhash key smtpmail-native-auth--typed))
    (setq smtpmail-native-auth--instead
          (assoc-delete-all key smtpmail-native-auth--instead))
    key))

(defun smtpmail-native-auth--instead-of-stored (host port user)
  "Return what was typed in place of the stored password, as a plist, or nil.
It is for HOST, PORT and USER, which may be nil."
  (let ((user (or user (smtpmail-native-auth--smtp-user))))
    (seq-some (pcase-lambda (`(,key . ,rest))
                (and (equal (seq-take key 2) (list (downcase host) port))
                     (member user (list nil (nth 2 key)))
                     (smtpmail-native-auth--with-stored
                      (smtpmail-native-auth--known host port (nth 2 key))
                      rest)))
              smtpmail-native-auth--instead)))

;;;; Tokens

(defun smtpmail-native-auth--preference ()
  "Return what the user's options say of mechanisms for tokens, or nil.
They do so when the first mechanism they name is one.  The value is a
plist of :token, :mechanisms and :preferred; the latter non-nil means that
the secret is a password where no such mechanism is offered."
  (let* ((upcase (lambda (name) (upcase (format "%s" name))))
         (option (mapcar upcase
                         (bound-and-true-p smtpmail-native-auth-mechanisms)))
         (names (or option
                    (mapcar upcase
                            (bound-and-true-p smtpmail-auth-supported)))))
    (when (smtpmail-native-auth--token-p (car names))
      (list :token t
            :mechanisms (mapconcat #'identity
                                   (seq-filter #'smtpmail-native-auth--token-p
                                               names)
                                   " ")
            :preferred (not (seq-every-p #'smtpmail-native-auth--token-p
                                         names))))))

(defun smtpmail-native-auth--joined (octets)
  "Return OCTETS, which is ours, without line ends, which no token has."
  (if (not (string-match-p "[\r\n]" octets))
      octets
    (prog1 (apply #'unibyte-string
                  (seq-remove (lambda (octet) (memq octet '(?\r ?\n)))
                              (append octets nil)))
      (clear-string octets))))

(defun smtpmail-native-auth--with-token (found)
  "Return FOUND with :token, if its password is one."
  (let ((password (plist-get found :password))
        (names (smtpmail-native-auth--names (plist-get found :mechanisms)))
        (preference (smtpmail-native-auth--preference)))
    (cond
     ((null password) found)
     ((seq-some #'smtpmail-native-auth--token-p names)
      (append (list :token t
                    :password (smtpmail-native-auth--joined password))
              found))
     ((or names (null preference)
          (and (plist-get preference :preferred)
               (member (cons (plist-get found :host) (plist-get found :port))
                       smtpmail-native-auth--tokenless)))
      found)
     (t (append preference
                (list :password (smtpmail-native-auth--joined password))
                found)))))

;;;; Passphrases of client keys

(defun smtpmail-native-auth--key-name (found)
  "Return the name of the client key that the module takes for FOUND, or nil."
  (or (plist-get found :key)
      (plist-get found :cert)
      (let ((entry (smtpmail-native-module-find-starttls
                    (encode-coding-string (plist-get found :host) 'utf-8)
                    (plist-get found :port))))
        (or (smtpmail-native-auth-string (nth 2 entry))
            (smtpmail-native-auth-string (nth 3 entry))))))

(defun smtpmail-native-auth--with-passphrase (found)
  "Return FOUND with the passphrase of its client key, if that is known.
What was typed goes before what auth-source has: the latter was wrong then."
  (let* ((name (smtpmail-native-auth--key-name found))
         (typed (and name (gethash name smtpmail-native-auth--passphrases)))
         (stored (plist-get found :stored-passphrase)))
    (if (or typed stored)
        (append (list :passphrase
                      (smtpmail-native-auth--encode
                       (or typed (smtpmail-native-auth--secret
                                  stored (plist-get found :host)
                                  (plist-get found :port)))))
                found)
      found)))

(defun smtpmail-native-auth--forget-passphrase (name)
  "Forget the passphrase of the key NAME."
  (let ((known (gethash name smtpmail-native-auth--passphrases)))
    (when known
      (clear-string known)
      (remhash name smtpmail-native-auth--passphrases))))

(defun smtpmail-native-auth-ask-passphrase (found)
  "Ask for the passphrase of the client key that goes with FOUND.
It is kept for this session, until the module says that it is wrong; the
next `smtpmail-native-auth-find' returns it."
  (let* ((name (smtpmail-native-auth--key-name found))
         (octets (smtpmail-native-auth--read
                  (format (if (string-prefix-p "pkcs11:" (or name ""))
                              "PIN for %s: "
                            "Passphrase for the key %s: ")
                          (or name "")))))
    (smtpmail-native-auth--forget-passphrase name)
    (puthash name octets smtpmail-native-auth--passphrases)))

;;;; Together

(defun smtpmail-native-auth--secretless-p (stored)
  "Return non-nil if the first mechanism wanted needs neither password nor token.
Those that smtp-auth of STORED names, if any, go before the option."
  (let ((names (or (smtpmail-native-auth--names (plist-get stored :mechanisms))
                   (bound-and-true-p smtpmail-native-auth-mechanisms))))
    (and names
         (member (upcase (format "%s" (car names))) '("GSSAPI" "EXTERNAL")))))

(defun smtpmail-native-auth--places (host port user)
  "Say where credentials of USER for HOST and PORT were looked for.
USER may be nil."
  (require 'auth-source)
  (let ((classic (bound-and-true-p smtpmail-auth-credentials)))
    (format "`smtpmail-auth-credentials' (%s) and `auth-sources' \
(%s: no complete entry for machine %s port %s%s)"
            (cond ((stringp classic) (format "the file %s" classic))
                  ((null classic) "not set")
                  ((smtpmail-native-module-find-auth host port)
                   "the entry for this server leaves it open")
                  (t "no entry for this server"))
            (mapconcat (lambda (source) (format "%s" source)) auth-sources ", ")
            host port
            (if user (format " login %s" user) ""))))

(defun smtpmail-native-auth--missing (host port user &optional demanded)
  "Signal that no password of USER for HOST and PORT is found anywhere.
USER may be nil.  DEMANDED as in `smtpmail-native-auth-find'."
  (smtpmail-native-error-signal
   'smtpmail-native-auth-error
   (format "No password for %s%s:%s%s: looked in %s"
           (if user (concat user " at ") "") host port
           (cond ((stringp demanded) (format " (it says %s)" demanded))
                 (demanded " (it wants authentication)")
                 (t ""))
           (smtpmail-native-auth--places host port user))))

(defun smtpmail-native-auth--open-entry (host port entry)
  "Find out what the classic ENTRY for HOST and PORT leaves open.
A user or password that it has is used and not asked for."
  (let* ((user (or (smtpmail-native-auth-string (nth 2 entry))
                   (smtpmail-native-auth--smtp-user)))
         (password (smtpmail-native-auth-string (nth 3 entry)))
         (stored (smtpmail-native-auth--stored host port 'auth-source user))
         (user (or user (and password (plist-get stored :user)))))
    (cond
     ((and user password)
      (smtpmail-native-auth-release stored)
      (list :source 'classic
            :user user
            :password (smtpmail-native-auth--encode password)))
     ((plist-get stored :password) stored)
     ((smtpmail-native-auth--secretless-p stored)
      (smtpmail-native-auth--with-stored
       (list :source 'mechanism :user user) stored))
     ((smtpmail-native-auth--known host port user))
     ((not (smtpmail-native-auth--may-ask-p))
      (smtpmail-native-auth--missing host port user))
     (t (smtpmail-native-auth--with-stored
         (smtpmail-native-auth--ask host port user password) stored)))))

(defun smtpmail-native-auth--elsewhere (host port demanded)
  "Find out who the user is for HOST and PORT, which have no classic entry.
DEMANDED as in `smtpmail-native-auth-find'."
  (let* ((stored (or (smtpmail-native-auth--file host port)
                     (smtpmail-native-auth--stored host port 'auth-source)))
         (user (or (plist-get stored :user)
                   (smtpmail-native-auth--smtp-user))))
    (cond
     ((plist-get stored :password) stored)
     ((smtpmail-native-auth--secretless-p stored)
      (smtpmail-native-auth--with-stored
       (list :source 'mechanism :user user) stored))
     ;; A certificate is all that many servers want to see.
     ((and (smtpmail-native-auth--certificate-p stored) (not demanded)) stored)
     ;; Who has stored a user without a password wants to be asked.
     ((not (or demanded stored
               (smtpmail-native-auth--known host port user)))
      (list :source 'none))
     (t
      (smtpmail-native-auth--with-stored
       (cond
        ((smtpmail-native-auth--known host port user))
        ((not (smtpmail-native-auth--may-ask-p))
         (smtpmail-native-auth--missing host port user demanded))
        ((smtpmail-native-auth--ask-auth-source host port))
        (t (smtpmail-native-auth--ask host port user)))
       stored)))))

(defun smtpmail-native-auth--demanded-p (host)
  "Return non-nil if the user says that HOST wants authentication."
  (let ((regexp (bound-and-true-p smtpmail-servers-requiring-authorization)))
    (and regexp (string-match-p regexp host))))

(defun smtpmail-native-auth--complete-p (entry)
  "Return non-nil if the classic ENTRY has user and password."
  (and (smtpmail-native-auth-string (nth 2 entry))
       (smtpmail-native-auth-string (nth 3 entry))))

(defun smtpmail-native-auth--from-complete (entry)
  "Return the plist for the classic ENTRY, which has user and password.
The module reads the latter itself, unless it may have to be joined."
  (append (list :source 'classic :user (nth 2 entry))
          (and (smtpmail-native-auth--preference)
               (list :password
                     (smtpmail-native-auth--encode (nth 3 entry))))))

(defun smtpmail-native-auth-find (host port &optional demanded)
  "Find out who the user is for the server HOST at PORT, an integer.
DEMANDED non-nil means that the server wants authentication; a string is
what it has said.  The module must be loaded.  Return a plist:

 :source      `classic', `file', `auth-source', `prompt', `none', or
              `mechanism' for one that needs no secret of ours
 :user        a string, or nil
 :password    a unibyte string that `smtpmail-native-auth-release' clears;
              nil for a complete classic entry, which the module reads
              itself
 :token       non-nil if the password is an OAuth 2.0 token
 :mechanisms  those that smtp-auth of auth-source asks for, or nil
 :key, :cert  files of a client certificate, or one of them, or nil
 :passphrase  of the client key, a unibyte string like :password, or nil

A secret that is a function is called at this moment.  It is a token if
smtp-auth names a mechanism for tokens, or if the first one in
`smtpmail-native-auth-mechanisms', or else in `smtpmail-auth-supported',
is one.

What is nil in a classic entry and not known to auth-source is prompted
for, and so is all that is demanded; never in batch, where
`smtpmail-native-auth-error' says where was looked.  A user that
auth-source knows without a password is asked for it, too, unless there is
a client certificate and nothing is demanded.
Signal `smtpmail-native-usage-error' for a malformed classic entry."
  (let* ((host (if (multibyte-string-p host)
                   host
                 (decode-coding-string host 'utf-8)))
         (entry (smtpmail-native-module-find-auth host port))
         (found
          (cond
           ((smtpmail-native-auth--instead-of-stored
             host port (smtpmail-native-auth-string (nth 2 entry))))
           ((smtpmail-native-auth--complete-p entry)
            (smtpmail-native-auth--from-complete entry))
           (entry (smtpmail-native-auth--open-entry host port entry))
           (t (smtpmail-native-auth--elsewhere
               host port
               (or demanded (smtpmail-native-auth--demanded-p host)))))))
    (smtpmail-native-auth--finished found host port)))

(defun smtpmail-native-auth--finished (found host port)
  "Return FOUND for HOST and PORT with what is told by other places.
If that fails, the password in FOUND is cleared."
  (let ((done nil)
        (found (append (list :host host :port port) found)))
    (unwind-protect
        (prog1 (smtpmail-native-auth--with-passphrase
                (setq found (smtpmail-native-auth--with-token found)))
          (setq done t))
      (unless done
        (smtpmail-native-auth-release found)))))

(defun smtpmail-native-auth--user (host port)
  "Return the user that some place names for HOST and PORT, or nil.
It need not have a password."
  (let ((smtpmail-native-auth-inhibit-functions t)
        (stored nil))
    (unwind-protect
        (or (smtpmail-native-auth-string
             (nth 2 (smtpmail-native-module-find-auth host port)))
            (plist-get (setq stored (or (smtpmail-native-auth--file host port)
                                        (smtpmail-native-auth--stored
                                         host port 'auth-source)))
                       :user)
            (smtpmail-native-auth--smtp-user))
      (smtpmail-native-auth-release stored))))

(defun smtpmail-native-auth-ask-again (host port)
  "Ask for the password for HOST and PORT, whose last one was refused.
Return a plist as `smtpmail-native-auth-find' does.  An empty answer means
that what is stored is to be tried once more: the user may have mended it.
Nobody can type a token: a stored one is returned without a question."
  (let ((stored (let ((smtpmail-native-auth-inhibit-prompts t))
                  (condition-case nil
                      (smtpmail-native-auth-find host port)
                    (smtpmail-native-auth-error nil))))
        (result nil))
    (unwind-protect
        (if (plist-get stored :token)
            (setq result stored)
          (let ((asked (smtpmail-native-auth--ask
                        host port (or (plist-get stored :user)
                                      (smtpmail-native-auth--user host port)))))
            (setq result
                  (if (and stored (equal (plist-get asked :password) ""))
                      stored
                    (smtpmail-native-auth--finished
                     (smtpmail-native-auth--with-stored
                      (append '(:again t) asked) stored)
                     host port)))))
      (unless (eq result stored)
        (smtpmail-native-auth-release stored)))
    result))

(defun smtpmail-native-auth--save (found)
  "Let auth-source save FOUND, which the server has accepted.
The mail may be sent by now: no error and no quit leaves this function."
  (let ((save (plist-get found :save)))
    (when (functionp save)
      (condition-case err
          (funcall save)
        ;; Only the kind of the error is told: its data might be the secret.
        ((error quit)
         (message "The password for %s:%s was not saved: %s"
                  (plist-get found :host) (plist-get found :port)
                  (get (car err) 'error-message)))))))

(defun smtpmail-native-auth--save-when-idle (found)
  "Let auth-source save FOUND when the user is not doing anything."
  (when (functionp (plist-get found :save))
    (run-with-idle-timer
     2 nil
     (lambda ()
       (if (active-minibuffer-window)
           (run-at-time 5 nil #'smtpmail-native-auth--save-when-idle found)
         (smtpmail-native-auth--save found))))))

(defun smtpmail-native-auth-worked (found &optional later)
  "Remember that the server has accepted FOUND.
A typed password is kept for this session, and offered to auth-source,
which may ask the user; LATER non-nil means not while the user types."
  (let ((password (plist-get found :password)))
    (when (and (plist-get found :typed) password)
      (let* ((again (or (plist-get found :again)
                        (assoc (smtpmail-native-auth--key found)
                               smtpmail-native-auth--instead)))
             (key (smtpmail-native-auth--forget found)))
        (puthash key (copy-sequence password) smtpmail-native-auth--typed)
        (when again
          (push (cons key (smtpmail-native-auth--rest found))
                smtpmail-native-auth--instead))))
    (if later
        (smtpmail-native-auth--save-when-idle found)
      (smtpmail-native-auth--save found))))

(defun smtpmail-native-auth-failed (found)
  "Forget FOUND, which the server has refused."
  (smtpmail-native-auth--forget found)
  (when (featurep 'auth-source)
    (dolist (name (smtpmail-native-auth--port-names (plist-get found :port)))
      (auth-source-forget+ :host (plist-get found :host) :port name))))

(defun smtpmail-native-auth-wrong-passphrase (found)
  "Forget the passphrase of the client key of FOUND: it is wrong."
  (smtpmail-native-auth--forget-passphrase
   (smtpmail-native-auth--key-name found)))

(defun smtpmail-native-auth-second-chance-p (result found)
  "Return non-nil if a new look for credentials may help after RESULT.
RESULT is a plist of the module, FOUND what it has been given.  That is so
when a token was refused, which may have expired, and when the user's
options prefer a token but the server takes none: then FOUND's secret is a
password from now on."
  (and (plist-get found :token)
       (not (plist-get result :in-doubt))
       (cond
        ((plist-get result :token-refused) t)
        ((and (plist-get found :preferred)
              (eq (plist-get result :kind) 'unsupported)
              (eq (plist-get result :stage) 'auth))
         (cl-pushnew (cons (plist-get found :host) (plist-get found :port))
                     smtpmail-native-auth--tokenless :test #'equal)
         t))))

(defun smtpmail-native-auth-copy (found)
  "Return a copy of FOUND whose secrets are copies, too."
  (let ((copy (copy-sequence found)))
    (dolist (key '(:password :passphrase))
      (when (plist-get copy key)
        (setq copy (plist-put copy key
                              (copy-sequence (plist-get copy key))))))
    copy))

(defun smtpmail-native-auth-release (found)
  "Clear the secrets in FOUND, which are our own copies."
  (dolist (key '(:password :passphrase))
    (let ((secret (plist-get found key)))
      (when (stringp secret)
        (clear-string secret)))))

;;;; Methods of others

(defun smtpmail-native-auth--specializer (method)
  "Return the mechanism that METHOD of `smtpmail-try-auth-method' is for.
The value is nil if it is for all of them."
  (let ((value (car-safe (cdr-safe
                          (nth 1 (cl--generic-method-specializers method))))))
    (if (eq (car-safe value) 'quote) (cadr value) value)))

(defun smtpmail-native-auth-foreign-mechanism ()
  "Return the name of a mechanism that only stock smtpmail can use, or nil.
Somebody has made a method of `smtpmail-try-auth-method' for it, and it is
in `smtpmail-auth-supported'."
  ;; The insides of generic functions may change with the next Emacs: who
  ;; cannot read them finds none.
  (condition-case nil
      (and (fboundp 'smtpmail-try-auth-method)
           (fboundp 'cl--generic-method-table)
           (let ((methods (mapcar #'smtpmail-native-auth--specializer
                                  (cl--generic-method-table
                                   (cl--generic 'smtpmail-try-auth-method)))))
             (seq-some (lambda (mechanism)
                         (and mechanism
                              (memq mechanism methods)
                              (not (memq mechanism
                                         smtpmail-native-auth--own-mechanisms))
                              (symbol-name mechanism)))
                       (bound-and-true-p smtpmail-auth-supported))))
    (error nil)))

;;;###autoload
(defun smtpmail-native-forget-passwords ()
  "Forget the passwords that were typed for mail servers in this session.
So are the passphrases of client keys."
  (interactive)
  (dolist (table (list smtpmail-native-auth--typed
                       smtpmail-native-auth--passphrases))
    (maphash (lambda (_key secret) (clear-string secret)) table)
    (clrhash table))
  (setq smtpmail-native-auth--instead nil
        smtpmail-native-auth--tokenless nil))

(provide 'smtpmail-native-auth)
;;; smtpmail-native-auth.el ends here
