;;; smtpmail-native-lookup.el --- Credentials in auth-source  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Looks for the credentials of one server in auth-source, in the netrc file of
;; the classic variable, in what was typed before, and asks the user.  What is
;; found is the raw plist of one place; `smtpmail-native-auth-find' decides.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-mechanism)
(require 'smtpmail-native-options)
(require 'smtpmail-native-secrets)

(declare-function smtpmail-native-module-port "smtpmail-native-module"
                  (service))
(declare-function auth-source-search "auth-source" (&rest spec))
(declare-function auth-source-recall "auth-source" (spec))
(declare-function auth-source-remember "auth-source" (spec found))
(defvar auth-source-do-cache)
(defvar auth-sources)
(defvar auth-source-creation-defaults)
(defvar auth-source-creation-prompts)
(defvar smtpmail-smtp-user)
(defvar smtpmail-servers-requiring-authorization)

(defconst smtpmail-native-auth-services
  '(("smtp" . 25) ("submission" . 587) ("smtps" . 465) ("submissions" . 465))
  "The services of mail, by name.")

(defun smtpmail-native-lookup-service (service)
  "Return the port that SERVICE means, an integer, or nil if it means none.
SERVICE is an integer, a string of digits, or the name of a service.
Without the module only the services of mail are known by name."
  (if (smtpmail-native-load-loaded-p)
      (smtpmail-native-module-port service)
    (let ((port (cond ((integerp service) service)
                      ((not (stringp service)) 0)
                      ((string-match-p "\\`[0-9]\\{1,5\\}\\'" service)
                       (string-to-number service))
                      ((cdr (assoc service smtpmail-native-auth-services)))
                      (t 0))))
      (and (<= 1 port 65535) port))))

(cl-defstruct (smtpmail-native-request
               (:constructor smtpmail-native-request--new)
               (:copier nil))
  "What to look for, and how; see `smtpmail-native-auth-find'."
  host port user demanded ask again probe later)

(defun smtpmail-native-lookup-may-ask-p (request)
  "Return non-nil if REQUEST allows to ask the user."
  (and (smtpmail-native-request-ask request)
       (not noninteractive)))

(defun smtpmail-native-lookup-demanded-p (host)
  "Return non-nil if the user says that HOST requires authentication."
  (let ((regexp (bound-and-true-p smtpmail-servers-requiring-authorization)))
    (and regexp (string-match-p regexp host))))

(defun smtpmail-native-lookup-request (host port keys)
  "Return the request for HOST and PORT with KEYS, a plist.
See `smtpmail-native-auth-find'."
  (let ((host (if (multibyte-string-p host)
                  host
                (decode-coding-string host 'utf-8))))
    (smtpmail-native-request--new
     :host host
     :port port
     :user (smtpmail-native-auth-string
            (if (plist-member keys :user)
                (plist-get keys :user)
              (smtpmail-native-lookup--smtp-user)))
     :demanded (or (plist-get keys :demanded)
                   (and (smtpmail-native-lookup-demanded-p host) t))
     :ask (plist-get keys :ask)
     :again (plist-get keys :again)
     :probe (plist-get keys :probe)
     :later (plist-get keys :later))))

(defun smtpmail-native-auth-string (value)
  "Return VALUE if it is a string that is not empty, else nil."
  (and (stringp value) (not (equal value "")) value))

(defun smtpmail-native-lookup--smtp-user ()
  "Return `smtpmail-smtp-user', or nil if it says nothing."
  (smtpmail-native-auth-string (bound-and-true-p smtpmail-smtp-user)))

(defun smtpmail-native-lookup-place (request)
  "Return the server of REQUEST as HOST:PORT."
  (format "%s:%s" (smtpmail-native-request-host request)
          (smtpmail-native-request-port request)))

;;;; auth-source

(defconst smtpmail-native-lookup--missing-seconds 5
  "Seconds for which it is known that auth-source has no entry.")

(defvar smtpmail-native-lookup--missing (cons 0 (make-hash-table :test #'equal))
  "What auth-source has no entry for: (TIME . TABLE).
TABLE has been filled since TIME, in seconds.")

(defun smtpmail-native-lookup-port-names (port)
  "Return the spellings of PORT, an integer, that stand in netrc files."
  (let ((named (seq-filter (lambda (service) (eql (cdr service) port))
                           smtpmail-native-auth-services)))
    (cons (number-to-string port) (mapcar #'car named))))

(defun smtpmail-native-lookup--sources ()
  "Return `auth-sources' together with what changes when its files do."
  (cons auth-sources
        (mapcar (lambda (source)
                  (let ((attributes (and (stringp source)
                                         (file-attributes source))))
                    (list (file-attribute-modification-time attributes)
                          (file-attribute-size attributes))))
                auth-sources)))

(defun smtpmail-native-lookup--missing-table ()
  "Return the table of what auth-source has no entry for at this moment."
  (let ((now (float-time))
        (table (cdr smtpmail-native-lookup--missing)))
    (unless (<= 0 (- now (car smtpmail-native-lookup--missing))
                smtpmail-native-lookup--missing-seconds)
      (clrhash table)
      (setcar smtpmail-native-lookup--missing now))
    table))

(defun smtpmail-native-lookup-forget-missing ()
  "Forget what auth-source has no entry for."
  (clrhash (cdr smtpmail-native-lookup--missing)))

(defun smtpmail-native-lookup--search-now (request spec)
  "Return the entries of auth-source for SPEC and REQUEST, not cached.
Signal `smtpmail-native-lookup-error' if a source cannot be asked."
  (condition-case err
      ;; A negative answer in the cache of auth-source costs a timer of two
      ;; hours each time, and would hide an entry that is added meanwhile.
      (let ((auth-source-do-cache nil)
            (inhibit-interaction
             (or inhibit-interaction
                 (not (or noninteractive
                          (smtpmail-native-request-ask request))))))
        (apply #'auth-source-search spec))
    (error
     (smtpmail-native-secrets-fail
      (format "Cannot look for the password for %s in `auth-sources': %s"
              (smtpmail-native-lookup-place request)
              (error-message-string err))))))

(defun smtpmail-native-lookup--search-one (request spec)
  "Return the first entry of auth-source for SPEC and REQUEST, or nil."
  (if (and auth-source-do-cache (auth-source-recall spec))
      (car (auth-source-recall spec))
    (let ((missing (smtpmail-native-lookup--missing-table))
          (key (cons spec (smtpmail-native-lookup--sources))))
      ;; A user who can be asked may have just added the entry.
      (unless (and (gethash key missing)
                   (not (smtpmail-native-lookup-may-ask-p request)))
        (let ((found (smtpmail-native-lookup--search-now request spec)))
          (cond ((null found) (puthash key t missing))
                (auth-source-do-cache (auth-source-remember spec found)))
          (car found))))))

(defun smtpmail-native-lookup--search (request &rest spec)
  "Return the first entry of auth-source for REQUEST and SPEC, or nil."
  (require 'auth-source)
  (seq-some (lambda (name)
              (smtpmail-native-lookup--search-one
               request
               (append (list :max 1
                             :host (smtpmail-native-request-host request)
                             :port name)
                       spec)))
            (smtpmail-native-lookup-port-names
             (smtpmail-native-request-port request))))

(defun smtpmail-native-lookup--secret (secret request)
  "Return SECRET of auth-source for REQUEST as octets of ours.
If it is a function, call it, unless REQUEST is a probe.  If it has to be
waited for, and REQUEST says later, the value is (pending FUNCTION).  Signal
`smtpmail-native-lookup-error' if there is no string to be had."
  (let ((place (smtpmail-native-lookup-place request)))
    (cond ((null secret) nil)
          ((stringp secret)
           (smtpmail-native-secrets-chomp
            (smtpmail-native-secrets-encode secret)))
          ((not (functionp secret))
           (smtpmail-native-secrets-fail
            (format "The auth-source secret for %s is not a string" place)))
          ((smtpmail-native-request-probe request)
           (smtpmail-native-secrets-encode ""))
          ((and (smtpmail-native-request-later request)
                (smtpmail-native-secrets-asynchronous-p secret))
           (list 'pending secret))
          (t (smtpmail-native-secrets-call secret place)))))

(defun smtpmail-native-lookup--from-entry (entry source request)
  "Return the plist for ENTRY of auth-source, found in SOURCE for REQUEST."
  (let ((value (smtpmail-native-lookup--secret (plist-get entry :secret)
                                             request)))
    (list :source source
          :user (plist-get entry :user)
          :password (if (consp value)
                        (smtpmail-native-secrets-encode "")
                      value)
          :pending (and (consp value) (cadr value))
          :smtp-auth (smtpmail-native-mechanism-string
                      (plist-get entry :smtp-auth))
          :key (smtpmail-native-auth-string (plist-get entry :key))
          :cert (smtpmail-native-auth-string (plist-get entry :cert))
          :stored-passphrase (plist-get entry :passphrase)
          :save (plist-get entry :save-function))))

(defun smtpmail-native-lookup-certificate-p (found)
  "Return non-nil if FOUND has a client certificate."
  (or (plist-get found :key) (plist-get found :cert)))

(defun smtpmail-native-lookup-stored (request source &optional user)
  "Return what auth-source has for REQUEST as a plist, or nil.
SOURCE names the place where it is looked for.  USER is the one that it
has to be for, by default that of REQUEST, if any.  Without a password the
plist holds a client certificate, or just the user."
  (let* ((user (or user (smtpmail-native-request-user request)))
         (spec (and user (list :user user)))
         (entry (or (apply #'smtpmail-native-lookup--search request
                           :require '(:user :secret) spec)
                    (apply #'smtpmail-native-lookup--search request spec))))
    (and (or (plist-get entry :user) (plist-get entry :key)
             (plist-get entry :cert))
         (smtpmail-native-lookup--from-entry entry source request))))

(defun smtpmail-native-lookup-file (request)
  "Return what the netrc file of the classic variable has for REQUEST."
  (let ((file (smtpmail-native-auth-string
               (bound-and-true-p smtpmail-auth-credentials))))
    (when file
      (require 'auth-source)
      (let ((auth-sources (list (expand-file-name file)))
            ;; Its cache does not tell one list of sources from another.
            (auth-source-do-cache nil))
        (smtpmail-native-lookup-stored request 'file)))))

(defun smtpmail-native-lookup-rest (found)
  "Return what FOUND, which may be nil, has besides user and password.
That is the client certificate and the mechanisms."
  (cl-loop for key in '(:key :cert :stored-passphrase :smtp-auth)
           when (plist-get found key)
           append (list key (plist-get found key))))

(defun smtpmail-native-lookup-with-stored (found stored)
  "Return FOUND, which was typed, with the rest of STORED, which may be nil."
  (append (smtpmail-native-lookup-rest stored) found))

(defun smtpmail-native-lookup-ask-auth-source (request)
  "Ask for user and password of REQUEST through auth-source.
It offers to save them once they have worked.  Return a plist, or nil if
none of the sources can make an entry."
  (require 'auth-source)
  (let* ((user (smtpmail-native-request-user request))
         (auth-source-creation-defaults
          (append auth-source-creation-defaults
                  (and (smtpmail-native-auth-string user-mail-address)
                       (list (cons 'user user-mail-address)))))
         (auth-source-creation-prompts
          '((user . "SMTP user name for %h: ")
            (secret . "SMTP password for %u at %h: ")))
         (port (smtpmail-native-request-port request))
         (entry (car (apply #'auth-source-search
                            :max 1
                            :host (smtpmail-native-request-host request)
                            :port (number-to-string port)
                            :require '(:user :secret) :create t
                            (and user (list :user user))))))
    (and entry
         (append (smtpmail-native-lookup--from-entry entry 'prompt request)
                 '(:typed t)))))

(defun smtpmail-native-lookup-known (request user)
  "Return what was typed before for the server of REQUEST and USER, or nil."
  (smtpmail-native-secrets-known (smtpmail-native-request-host request)
                                 (smtpmail-native-request-port request)
                                 user))

(defun smtpmail-native-lookup-instead (request user)
  "Return what was typed in place of a stored password, as a plist, or nil.
It is for the server of REQUEST and USER, which may be nil."
  (let ((instead (smtpmail-native-secrets-instead
                  (smtpmail-native-request-host request)
                  (smtpmail-native-request-port request)
                  (or user (smtpmail-native-request-user request)))))
    (and instead
         (apply #'smtpmail-native-lookup-with-stored instead))))

(defun smtpmail-native-lookup-ask (request user &optional password)
  "Ask for USER and PASSWORD for REQUEST, those of them that are nil.
The user whose typed password was refused last is offered again."
  (let* ((place (smtpmail-native-lookup-place request))
         (user (or user
                   (read-string (format "SMTP user name for %s: " place)
                                (or (smtpmail-native-request-user request)
                                    (smtpmail-native-secrets-refused-user
                                     (smtpmail-native-request-host request)
                                     (smtpmail-native-request-port request))
                                    (smtpmail-native-auth-string
                                     user-mail-address)
                                    (user-login-name))))))
    (list :source 'prompt
          :user user
          :password (if password
                        (smtpmail-native-secrets-encode password)
                      (smtpmail-native-secrets-read
                       (format "SMTP password for %s at %s%s: " user place
                               (if (smtpmail-native-request-again request)
                                   " (the last one was refused)"
                                 ""))))
          :typed t)))

(provide 'smtpmail-native-lookup)
;;; smtpmail-native-lookup.el ends here
