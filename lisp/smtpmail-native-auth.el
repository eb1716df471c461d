;;; smtpmail-native-auth.el --- Who am I for this server?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Looks in this order: an entry of `smtpmail-auth-credentials' (which the
;; module reads itself when it is complete), the netrc file that this variable
;; names when it is a string, auth-source, and the user at a prompt.  What an
;; entry leaves open is looked for in the places that come after it.  What is
;; found is a plist, see `smtpmail-native-auth-find'.

;;; Code:

(require 'smtpmail-native-error)
(require 'seq)

(declare-function smtpmail-native-module-find-auth "smtpmail-native-module"
                  (host port))
(declare-function auth-source-search "auth-source" (&rest spec))
(declare-function auth-source-forget "auth-source" (spec))
(declare-function auth-source-forget+ "auth-source" (&rest spec))
(defvar auth-source-do-cache)
(defvar auth-sources)
(defvar auth-source-creation-prompts)
(defvar smtpmail-smtp-user)
(defvar smtpmail-servers-requiring-authorization)
(defvar smtpmail-auth-credentials)

(defvar smtpmail-native-auth-inhibit-prompts nil
  "Non-nil means that nobody is there to be asked, as in batch.")

(defun smtpmail-native-auth--may-ask-p ()
  "Return non-nil if the user can be asked."
  (not (or noninteractive smtpmail-native-auth-inhibit-prompts)))

(defvar smtpmail-native-auth--typed (make-hash-table :test #'equal)
  "Passwords that were typed and have worked, by (HOST PORT USER).")

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
  (let ((names (mapcar (lambda (one) (upcase (format "%s" one)))
                       (if (listp value) value (list value)))))
    (and names (mapconcat #'identity names " "))))

(defun smtpmail-native-auth--from-entry (entry source)
  "Return the plist for ENTRY of auth-source, found in SOURCE."
  (let* ((secret (plist-get entry :secret))
         (value (if (functionp secret) (funcall secret) secret)))
    (list :source source
          :user (plist-get entry :user)
          :password (and value (smtpmail-native-auth--encode value))
          :mechanisms (smtpmail-native-auth--mechanisms
                       (plist-get entry :smtp-auth))
          :key (plist-get entry :key)
          :cert (plist-get entry :cert)
          :save (plist-get entry :save-function))))

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
    (and (or (plist-get entry :user) (plist-get entry :key))
         (smtpmail-native-auth--from-entry entry source))))

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

(defun smtpmail-native-auth--with-certificate (found stored)
  "Return FOUND with the client certificate of STORED, if that has one.
Either may be nil."
  (if (and found (plist-get stored :key))
      (append (list :key (plist-get stored :key) :cert (plist-get stored :cert))
              found)
    found))

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
         (append (smtpmail-native-auth--from-entry entry 'prompt)
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

(defun smtpmail-native-auth--ask (host port user &optional password)
  "Ask for USER and PASSWORD for HOST and PORT, those of them that are nil."
  (let* ((user (or user
                   (read-string (format "SMTP user name for %s:%s: " host port)
                                (or (smtpmail-native-auth--smtp-user)
                                    (user-login-name)))))
         (typed (and (not password)
                     (read-passwd
                      (format "SMTP password for %s:%s: " host port)))))
    (prog1 (list :source 'prompt
                 :user user
                 :password (smtpmail-native-auth--encode (or password typed))
                 :typed t)
      (when typed
        (clear-string typed)))))

(defun smtpmail-native-auth--forget (found)
  "Forget the password of FOUND if it was typed before."
  (let* ((key (list (downcase (plist-get found :host))
                    (plist-get found :port) (plist-get found :user)))
         (password (gethash key smtpmail-native-auth--typed)))
    (when password
      (clear-string password)
      (remhash key smtpmail-native-auth--typed))
    key))

;;;; Together

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
     ((smtpmail-native-auth--known host port user))
     ((not (smtpmail-native-auth--may-ask-p))
      (smtpmail-native-auth--missing host port user))
     (t (smtpmail-native-auth--with-certificate
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
     ;; A certificate is all that many servers want to see.
     ((and (plist-get stored :key) (not demanded)) stored)
     ;; Who has stored a user without a password wants to be asked.
     ((not (or demanded stored
               (smtpmail-native-auth--known host port user)))
      (list :source 'none))
     (t
      (smtpmail-native-auth--with-certificate
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

(defun smtpmail-native-auth-find (host port &optional demanded)
  "Find out who the user is for the server HOST at PORT, an integer.
DEMANDED non-nil means that the server wants authentication; a string is
what it has said.  The module must be loaded.  Return a plist:

 :source      `classic', `file', `auth-source', `prompt' or `none'
 :user        a string, or nil
 :password    a unibyte string that `smtpmail-native-auth-release' clears;
              nil for a complete classic entry, which the module reads
              itself
 :mechanisms  those that smtp-auth of auth-source asks for, or nil
 :key, :cert  files of a client certificate, or nil

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
         (user (smtpmail-native-auth-string (nth 2 entry))))
    (append
     (list :host host :port port)
     (cond
      ((and user (smtpmail-native-auth-string (nth 3 entry)))
       (list :source 'classic :user user))
      (entry (smtpmail-native-auth--open-entry host port entry))
      (t (smtpmail-native-auth--elsewhere
          host port
          (or demanded (smtpmail-native-auth--demanded-p host))))))))

(defun smtpmail-native-auth-ask-again (host port)
  "Ask for the password for HOST and PORT, whose last one was refused.
Return a plist as `smtpmail-native-auth-find' does.  An empty answer means
that what is stored is to be tried once more: the user may have mended it."
  (let* ((stored (let ((smtpmail-native-auth-inhibit-prompts t))
                   (condition-case nil
                       (smtpmail-native-auth-find host port)
                     (smtpmail-native-auth-error nil))))
         (asked (smtpmail-native-auth--ask host port (plist-get stored :user))))
    (if (and stored (equal (plist-get asked :password) ""))
        stored
      (smtpmail-native-auth-release stored)
      (append (list :host host :port port)
              (smtpmail-native-auth--with-certificate asked stored)))))

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
      (puthash (smtpmail-native-auth--forget found) (copy-sequence password)
               smtpmail-native-auth--typed))
    (if later
        (smtpmail-native-auth--save-when-idle found)
      (smtpmail-native-auth--save found))))

(defun smtpmail-native-auth-failed (found)
  "Forget FOUND, which the server has refused."
  (smtpmail-native-auth--forget found)
  (when (featurep 'auth-source)
    (dolist (name (smtpmail-native-auth--port-names (plist-get found :port)))
      (auth-source-forget+ :host (plist-get found :host) :port name))))

(defun smtpmail-native-auth-release (found)
  "Clear the password in FOUND, which is our own copy."
  (let ((password (plist-get found :password)))
    (when (stringp password)
      (clear-string password))))

;;;###autoload
(defun smtpmail-native-forget-passwords ()
  "Forget the passwords that were typed for mail servers in this session."
  (interactive)
  (maphash (lambda (_key password) (clear-string password))
           smtpmail-native-auth--typed)
  (clrhash smtpmail-native-auth--typed))

(provide 'smtpmail-native-auth)
;;; smtpmail-native-auth.el ends here
