;;; smtpmail-native-auth.el --- Who am I for this server?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Looks in this order: an entry of `smtpmail-auth-credentials' (which the
;; module reads itself when it is complete), the netrc file that this variable
;; names when it is a string, auth-source, and the user at a prompt.  What is
;; found is a plist, see `smtpmail-native-auth-find'.

;;; Code:

(require 'smtpmail-native-error)
(require 'seq)

(declare-function smtpmail-native-module-find-auth "smtpmail-native-module"
                  (host port))
(declare-function auth-source-search "auth-source" (&rest spec))
(declare-function auth-source-forget+ "auth-source" (&rest spec))
(declare-function auth-source-current-line "auth-source" ())
(defvar auth-sources)
(defvar auth-source-creation-prompts)
(defvar smtpmail-smtp-user)
(defvar smtpmail-servers-requiring-authorization)
(defvar smtpmail-auth-credentials)

(defvar smtpmail-native-auth--typed (make-hash-table :test #'equal)
  "Passwords that were typed and have worked, by (HOST PORT USER).")

(defun smtpmail-native-auth--string (value)
  "Return VALUE if it is a string that is not empty, else nil."
  (and (stringp value) (not (equal value "")) value))

(defun smtpmail-native-auth--encode (string)
  "Return a new unibyte string with the UTF-8 of STRING.
It is ours, and so may be cleared."
  (if (multibyte-string-p string)
      (encode-coding-string string 'utf-8)
    (copy-sequence string)))

;;;; auth-source

(defun smtpmail-native-auth--port-names (port)
  "Return the spellings of PORT, an integer, that stand in netrc files."
  (cons (number-to-string port)
        (cdr (assq port '((25 "smtp") (587 "submission")
                          (465 "smtps" "submissions"))))))

(defun smtpmail-native-auth--search (host port &rest spec)
  "Return the first entry of auth-source for HOST, PORT and SPEC, or nil."
  (require 'auth-source)
  (seq-some (lambda (name)
              (car (apply #'auth-source-search :max 1 :host host :port name
                          spec)))
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

(defun smtpmail-native-auth--stored (host port source)
  "Return what auth-source has for HOST and PORT as a plist, or nil.
SOURCE names the place where it is looked for."
  (let* ((user (smtpmail-native-auth--string
                (bound-and-true-p smtpmail-smtp-user)))
         (spec (and user (list :user user)))
         (entry (or (apply #'smtpmail-native-auth--search host port
                           :require '(:user :secret) spec)
                    ;; Without a secret it may still hold a certificate.
                    (let ((other (apply #'smtpmail-native-auth--search
                                        host port spec)))
                      (and (plist-get other :key) other)))))
    (and entry (smtpmail-native-auth--from-entry entry source))))

(defun smtpmail-native-auth--ask-auth-source (host port)
  "Ask for user and password of HOST and PORT by way of auth-source.
It offers to save them once they have worked."
  (require 'auth-source)
  (let* ((user (smtpmail-native-auth--string
                (bound-and-true-p smtpmail-smtp-user)))
         (auth-source-creation-prompts
          '((user . "SMTP user name for %h: ")
            (secret . "SMTP password for %u@%h: ")))
         (entry (car (apply #'auth-source-search
                            :max 1 :host host :port (number-to-string port)
                            :require '(:user :secret) :create t
                            (and user (list :user user))))))
    (and entry (smtpmail-native-auth--from-entry entry 'prompt))))

;;;; The classic variable

(defun smtpmail-native-auth--ask-classic (host port user)
  "Ask for what the classic entry for HOST and PORT leaves open.
USER is that of the entry or nil."
  (let* ((user (or user
                   (read-string (format "SMTP user name for %s:%s: " host port)
                                (or (smtpmail-native-auth--string
                                     (bound-and-true-p smtpmail-smtp-user))
                                    (user-login-name)))))
         (known (gethash (list (downcase host) port user)
                         smtpmail-native-auth--typed)))
    (list :source 'prompt
          :user user
          :password (smtpmail-native-auth--encode
                     (or known
                         (read-passwd (format "SMTP password for %s:%s: "
                                              host port))))
          :typed t)))

(defun smtpmail-native-auth--known (host port user)
  "Return the plist for a password typed before for HOST, PORT and USER."
  (let ((password (and user (gethash (list (downcase host) port user)
                                     smtpmail-native-auth--typed))))
    (and password
         (list :source 'prompt :user user :typed t
               :password (smtpmail-native-auth--encode password)))))

;;;; Together

(defun smtpmail-native-auth--places (host port entry)
  "Say where credentials for HOST and PORT were looked for.
ENTRY is the classic one, or nil."
  (require 'auth-source)
  (let ((classic (bound-and-true-p smtpmail-auth-credentials)))
    (format "`smtpmail-auth-credentials' (%s) and `auth-sources' (%s%s)"
            (cond (entry "its entry for this server lacks user or password")
                  ((stringp classic) (format "the file %s" classic))
                  ((null classic) "not set")
                  (t "no entry for this server"))
            (mapconcat (lambda (source) (format "%s" source)) auth-sources ", ")
            (let ((user (bound-and-true-p smtpmail-smtp-user)))
              (format ": no entry for machine %s port %s%s" host port
                      (if user (format " login %s" user) ""))))))

(defun smtpmail-native-auth--missing (host port entry)
  "Signal that nothing is known for HOST and PORT; ENTRY as found before."
  (smtpmail-native-error-signal
   'smtpmail-native-auth-error
   (format "No password for %s:%s: looked in %s" host port
           (smtpmail-native-auth--places host port entry))))

(defun smtpmail-native-auth--demanded-p (host)
  "Return non-nil if the user says that HOST wants authentication."
  (let ((regexp (bound-and-true-p smtpmail-servers-requiring-authorization)))
    (and regexp (string-match-p regexp host))))

(defun smtpmail-native-auth-find (host port &optional demanded)
  "Find out who the user is for the server HOST at PORT, an integer.
DEMANDED non-nil means that the server wants authentication.  The module
must be loaded.  Return a plist:

 :source      `classic', `file', `auth-source', `prompt' or `none'
 :user        a string, or nil
 :password    a unibyte string that `smtpmail-native-auth-release' clears;
              nil for a classic entry, which the module reads itself
 :mechanisms  those that smtp-auth of auth-source asks for, or nil
 :key, :cert  files of a client certificate, or nil

Prompt for what is nil in a classic entry, and for all that is demanded;
never in batch, where `smtpmail-native-auth-error' says where was looked.
Signal `smtpmail-native-usage-error' for a malformed classic entry."
  (let* ((entry (smtpmail-native-module-find-auth host port))
         (user (smtpmail-native-auth--string (nth 2 entry)))
         (classic (bound-and-true-p smtpmail-auth-credentials))
         (demanded (or demanded (smtpmail-native-auth--demanded-p host)))
         (found
          (cond
           ((and user (smtpmail-native-auth--string (nth 3 entry)))
            (list :source 'classic :user user))
           (entry
            (or (smtpmail-native-auth--known host port user)
                (if noninteractive
                    (smtpmail-native-auth--missing host port entry)
                  (smtpmail-native-auth--ask-classic host port user))))
           ((and (smtpmail-native-auth--string classic)
                 (let ((auth-sources (list (expand-file-name classic))))
                   (smtpmail-native-auth--stored host port 'file))))
           ((smtpmail-native-auth--stored host port 'auth-source))
           ((not demanded) (list :source 'none))
           (noninteractive (smtpmail-native-auth--missing host port nil))
           ((smtpmail-native-auth--ask-auth-source host port))
           (t (list :source 'none)))))
    (append (list :host host :port port) found)))

(defun smtpmail-native-auth-worked (found)
  "Remember that the server has accepted FOUND.
A typed password is kept for this session, or saved by auth-source."
  (let ((save (plist-get found :save))
        (password (plist-get found :password)))
    (when (and (plist-get found :typed) password)
      (puthash (list (downcase (plist-get found :host)) (plist-get found :port)
                     (plist-get found :user))
               (copy-sequence password) smtpmail-native-auth--typed))
    (when (functionp save)
      (funcall save))))

(defun smtpmail-native-auth-failed (found)
  "Forget FOUND, which the server has refused."
  (let ((host (plist-get found :host))
        (port (plist-get found :port)))
    (remhash (list (downcase host) port (plist-get found :user))
             smtpmail-native-auth--typed)
    (when (featurep 'auth-source)
      (dolist (name (smtpmail-native-auth--port-names port))
        (auth-source-forget+ :host host :port name)))))

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
