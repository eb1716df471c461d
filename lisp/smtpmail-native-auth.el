;;; smtpmail-native-auth.el --- The user's credentials for a server  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Looks in this order: an entry of `smtpmail-auth-credentials' (which the
;; module reads itself when it is complete), the netrc file that this variable
;; names when it is a string, auth-source, and the user at a prompt.  What an
;; entry leaves open is looked for in the places that come after it.  What is
;; found is a plist, see `smtpmail-native-auth-find'.
;;
;; The module gets copies, which are cleared when it has replied; the user's
;; own strings are never touched.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-address)
(require 'smtpmail-native-error)
(require 'smtpmail-native-lookup)
(require 'smtpmail-native-mechanism)
(require 'smtpmail-native-options)
(require 'smtpmail-native-secrets)

(declare-function smtpmail-native-module-find-auth "smtpmail-native-module"
                  (host port))
(declare-function smtpmail-native-module-find-starttls "smtpmail-native-module"
                  (host port))
(declare-function auth-source-forget+ "auth-source" (&rest spec))
(defvar auth-sources)

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

(defun smtpmail-native-auth--with-passphrase (found request)
  "Return FOUND with the passphrase of its client key, if that is known.
What was typed replaces what auth-source has: the latter was wrong then.
REQUEST is what FOUND was found for."
  (let* ((name (smtpmail-native-auth--key-name found))
         (stored (plist-get found :stored-passphrase))
         (passphrase (or (and name (smtpmail-native-secrets-passphrase name))
                         (smtpmail-native-lookup--secret stored request))))
    (if passphrase
        (append (list :passphrase passphrase) found)
      found)))

(defun smtpmail-native-auth-ask-passphrase (found)
  "Ask for the passphrase of the client key that goes with FOUND.
It is kept for this session, until the module says that it is wrong; the
next `smtpmail-native-auth-find' returns it."
  (smtpmail-native-secrets-ask-passphrase
   (smtpmail-native-auth--key-name found)))

;;;; Together

(defun smtpmail-native-auth--secretless-p (stored)
  "Return non-nil if the first mechanism wanted needs neither password nor token.
Those that smtp-auth of STORED names, if any, go before the options."
  (let ((names (or (smtpmail-native-mechanism-names (plist-get stored :smtp-auth))
                   (car (smtpmail-native-mechanism-option)))))
    (and (consp names)
         (member (car names) '("GSSAPI" "EXTERNAL")))))

(defun smtpmail-native-auth--places (request user)
  "Say where credentials of USER for REQUEST were looked for.
USER may be nil."
  (require 'auth-source)
  (let ((classic (bound-and-true-p smtpmail-auth-credentials))
        (host (smtpmail-native-request-host request))
        (port (smtpmail-native-request-port request)))
    (format "`smtpmail-auth-credentials' (%s) and `auth-sources' \
(%s: no entry with a password for machine %s port %s%s)"
            (cond ((stringp classic) (format "the file %s" classic))
                  ((null classic) "not set")
                  ((smtpmail-native-module-find-auth host port)
                   "its entry has no password")
                  (t "no entry for this server"))
            (mapconcat (lambda (source) (format "%s" source)) auth-sources ", ")
            host port
            (if user (format " login %s" user) ""))))

(defun smtpmail-native-auth--missing (request user)
  "Signal that no password of USER for REQUEST is found anywhere.
USER may be nil."
  (let ((demanded (smtpmail-native-request-demanded request)))
    (smtpmail-native-error-signal
     'smtpmail-native-auth-error
     (format "No password for %s%s%s; searched %s"
             (if user (concat user " at ") "")
             (smtpmail-native-lookup-place request)
             (cond ((stringp demanded) (format " (the server says %s)" demanded))
                   (demanded " (the server requires authentication)")
                   (t ""))
             (smtpmail-native-auth--places request user)))))

(defun smtpmail-native-auth--open-entry (request entry)
  "Find out what the classic ENTRY for REQUEST leaves open.
A user or password that it has is used and not asked for."
  (let* ((user (or (smtpmail-native-auth-string (nth 2 entry))
                   (smtpmail-native-request-user request)))
         (password (smtpmail-native-auth-string (nth 3 entry)))
         (stored (smtpmail-native-lookup-stored request 'auth-source user))
         (user (or user (and password (plist-get stored :user)))))
    (cond
     ((and user password)
      (smtpmail-native-auth-release stored)
      (list :source 'classic
            :user user
            :password (smtpmail-native-secrets-chomp
                       (smtpmail-native-secrets-encode password))))
     ((plist-get stored :password) stored)
     ((smtpmail-native-auth--secretless-p stored)
      (smtpmail-native-lookup-with-stored
       (list :source 'mechanism :user user) stored))
     ((smtpmail-native-lookup-known request user))
     ((not (smtpmail-native-lookup-may-ask-p request))
      (smtpmail-native-auth--missing request user))
     (t (smtpmail-native-lookup-with-stored
         (smtpmail-native-lookup-ask request user password) stored)))))

(defun smtpmail-native-auth--asked (request user)
  "Return what the user says for REQUEST and USER, which may be nil."
  (cond
   ((smtpmail-native-lookup-known request user))
   ((not (smtpmail-native-lookup-may-ask-p request))
    (smtpmail-native-auth--missing request user))
   ((smtpmail-native-lookup-ask-auth-source request))
   (t (smtpmail-native-lookup-ask request user))))

(defun smtpmail-native-auth--elsewhere (request)
  "Find the credentials for REQUEST, which has no classic entry."
  (let* ((stored (or (smtpmail-native-lookup-file request)
                     (smtpmail-native-lookup-stored request 'auth-source)))
         (demanded (smtpmail-native-request-demanded request))
         (user (or (plist-get stored :user)
                   (smtpmail-native-request-user request))))
    (cond
     ((plist-get stored :password) stored)
     ((smtpmail-native-auth--secretless-p stored)
      (smtpmail-native-lookup-with-stored
       (list :source 'mechanism :user user) stored))
     ;; A certificate is all that many servers want to see.
     ((and (smtpmail-native-lookup-certificate-p stored) (not demanded)) stored)
     ;; A stored user name without a password means: ask for the password.
     ((not (or demanded stored (smtpmail-native-lookup-known request user)))
      (list :source 'none))
     (t (smtpmail-native-lookup-with-stored
         (smtpmail-native-auth--asked request user) stored)))))

(defun smtpmail-native-auth--complete-p (entry)
  "Return non-nil if the classic ENTRY has user and password."
  (and (smtpmail-native-auth-string (nth 2 entry))
       (smtpmail-native-auth-string (nth 3 entry))))

(defun smtpmail-native-auth--from-complete (entry)
  "Return the plist for the classic ENTRY, which has user and password.
The module reads the latter itself, unless it may have to be joined or is
from a program that ends it by a newline."
  (append (list :source 'classic :user (nth 2 entry))
          (and (or (smtpmail-native-mechanism-preference)
                   (string-suffix-p "\n" (nth 3 entry)))
               (list :password
                     (smtpmail-native-secrets-chomp
                      (smtpmail-native-secrets-encode (nth 3 entry)))))))

(defun smtpmail-native-auth--nothing (request)
  "Return that REQUEST is to be sent without authentication.
That is what a `smtpmail-auth-supported' of nil says."
  (when (smtpmail-native-request-demanded request)
    (smtpmail-native-error-signal
     'smtpmail-native-auth-error
     (format "%s requires authentication, but `smtpmail-auth-supported' is nil"
             (smtpmail-native-lookup-place request))))
  (list :source 'none :disabled t))

(defun smtpmail-native-auth-find (host port &rest keys)
  "Find the credentials for the server HOST at PORT, an integer.
The module must be loaded.  KEYS is a plist:

 :user        the user name wanted, default `smtpmail-smtp-user'
 :demanded    non-nil if the server requires authentication; a string is
              what it said
 :ask         non-nil if the user may be asked; never so in batch mode
 :probe       non-nil to find out only whether there is a secret:
              functions that have one are not called
 :later       non-nil not to wait for a secret: see :pending

Return a plist:

 :source      `classic', `file', `auth-source', `prompt', `none', or
              `mechanism' for one that needs no secret of ours
 :user        a string, or nil
 :password    a unibyte string that `smtpmail-native-auth-release' clears;
              nil for a complete classic entry, which the module reads
              itself
 :pending     a function that has the password, which is \"\" then: see
              `smtpmail-native-auth-complete'
 :token       non-nil if the password is an OAuth 2.0 token
 :mechanisms  those to try, in this order, a string; nil for the default
 :if-offered  non-nil if :mechanisms bind only a server that offers some
 :disabled    non-nil if there must be no authentication
 :key, :cert  files of a client certificate, or one of them, or nil
 :passphrase  of the client key, a unibyte string like :password, or nil

A secret that is a function is called at this moment; see
`smtpmail-native-secret-timeout' for such functions.  The secret is a token
if smtp-auth names a mechanism for tokens, or if the first one in
`smtpmail-native-auth-mechanisms', or else in `smtpmail-auth-supported',
is one.

What is nil in a classic entry and not known to auth-source is prompted
for, and so is all that is demanded.  A user that auth-source knows without
a password is asked for it, too, unless there is a client certificate and
nothing is demanded.  Where the user may not be asked, signal
`smtpmail-native-auth-error', which says where Emacs has looked.

Signal `smtpmail-native-lookup-error', a child of the former, if a place
cannot be asked; and `smtpmail-native-usage-error' for a malformed classic
entry, or a user name that cannot be one."
  (let* ((request (smtpmail-native-lookup-request host port keys))
         (host (smtpmail-native-request-host request))
         (entry (smtpmail-native-module-find-auth host port))
         (found
          (cond
           ((smtpmail-native-mechanism-none-p)
            (smtpmail-native-auth--nothing request))
           ((smtpmail-native-lookup-instead
             request (smtpmail-native-auth-string (nth 2 entry))))
           ((smtpmail-native-auth--complete-p entry)
            (smtpmail-native-auth--from-complete entry))
           (entry (smtpmail-native-auth--open-entry request entry))
           (t (smtpmail-native-auth--elsewhere request)))))
    (smtpmail-native-auth--finished found request)))

(defun smtpmail-native-auth--check-user (found request)
  "Signal an error if the user of FOUND for REQUEST cannot be one.
A line end that is copied along with it would be sent to the server."
  (let ((user (plist-get found :user)))
    (when (and user (string-match-p "[[:cntrl:]]" user))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "The user name for %s has a control character: %s"
               (smtpmail-native-lookup-place request)
               (smtpmail-native-address-quote user))))))

(defun smtpmail-native-auth--finished (found request)
  "Return FOUND for REQUEST with what is told by other places.
If that fails, clear the password in FOUND."
  (let ((done nil)
        (found (append (list :host (smtpmail-native-request-host request)
                             :port (smtpmail-native-request-port request))
                       found)))
    (unwind-protect
        (progn
          (smtpmail-native-auth--check-user found request)
          (setq found (smtpmail-native-mechanism-add found))
          (prog1 (smtpmail-native-auth--with-passphrase found request)
            (setq done t)))
      (unless done
        (smtpmail-native-auth-release found)))))

(defun smtpmail-native-auth-complete (found done)
  "Fetch the password that is pending in FOUND; return at once.
Call DONE exactly once, with two arguments: FOUND with its password, and an
error as in `condition-case', or nil.  With an error FOUND is released, and
the first argument is nil.  A secret that does not come in
`smtpmail-native-secret-timeout' is an error."
  (smtpmail-native-secrets-start
   (plist-get found :pending)
   (format "%s:%s" (plist-get found :host) (plist-get found :port))
   (lambda (secret err)
     (let ((failure
            (or err
                (and (null secret)
                     (list 'smtpmail-native-auth-error
                           (format "The function for the password of %s:%s \
has none" (plist-get found :host) (plist-get found :port)))))))
       (if failure
           (progn (smtpmail-native-auth-release found)
                  (funcall done nil failure))
         (funcall done
                  (append (list :pending nil
                                :password (if (plist-get found :token)
                                              (smtpmail-native-mechanism-joined
                                               secret)
                                            secret))
                          found)
                  nil))))))

(defun smtpmail-native-auth--user (host port user)
  "Return the user that some place names for HOST and PORT, or nil.
It need not have a password.  USER is the one that is wanted, or nil."
  (let ((request (smtpmail-native-lookup-request
                  host port (list :user user :probe t)))
        (stored nil))
    (unwind-protect
        (or (smtpmail-native-auth-string
             (nth 2 (smtpmail-native-module-find-auth host port)))
            (plist-get (setq stored (or (smtpmail-native-lookup-file request)
                                        (smtpmail-native-lookup-stored
                                         request 'auth-source)))
                       :user)
            (smtpmail-native-request-user request))
      (smtpmail-native-auth-release stored))))

(defun smtpmail-native-auth--answer (request stored)
  "Ask for the password for REQUEST, and return what was typed as a plist.
STORED is what was used so far, or nil."
  (let ((asked (smtpmail-native-lookup-ask
                request
                (or (plist-get stored :user)
                    (smtpmail-native-auth--user
                     (smtpmail-native-request-host request)
                     (smtpmail-native-request-port request)
                     (smtpmail-native-request-user request))))))
    (if (and stored (equal (plist-get asked :password) ""))
        stored
      (smtpmail-native-auth--finished
       (smtpmail-native-lookup-with-stored
        (append '(:again t) asked)
        stored)
       request))))

(defun smtpmail-native-auth-ask-again (host port &rest keys)
  "Ask for a new password for HOST and PORT after one was refused.
Return a plist like that of `smtpmail-native-auth-find', which see for KEYS;
of these only :user counts.  If the user enters nothing, use the stored
password again; it may have been corrected.  Return a stored token without
asking, because no one can type a token."
  (let* ((keys (and (plist-member keys :user)
                    (list :user (plist-get keys :user))))
         (request (smtpmail-native-lookup-request
                   host port (append '(:ask t :again t) keys)))
         (stored (condition-case nil
                     (apply #'smtpmail-native-auth-find host port keys)
                   (smtpmail-native-auth-error nil)))
         (result nil))
    (unwind-protect
        (setq result (if (plist-get stored :token)
                         stored
                       (smtpmail-native-auth--answer request stored)))
      (unless (eq result stored)
        (smtpmail-native-auth-release stored)))
    result))

(defun smtpmail-native-auth--save (found)
  "Let auth-source save FOUND, which the server has accepted.
The message may be sent by now: no error and no quit leaves this function."
  (let ((save (plist-get found :save)))
    (when (functionp save)
      (condition-case err
          (funcall save)
        ;; Only the kind of the error is told: its data might be the secret.
        ((error quit)
         (message "Cannot save the password for %s:%s: %s"
                  (plist-get found :host) (plist-get found :port)
                  (get (car err) 'error-message)))))))

(defvar smtpmail-native-auth--unsaved nil
  "Credentials that have worked, and that auth-source has still to save.")

(defvar smtpmail-native-auth-unsaved-functions nil
  "Abnormal hook run when a password has worked that is not saved yet.
The functions get one argument, a text that says whose it is; or nil when
there is none any more.")

(defun smtpmail-native-auth-save-pending ()
  "Let auth-source save what has worked since the last command.
It may ask the user, and so only commands call this."
  (when smtpmail-native-auth--unsaved
    (while smtpmail-native-auth--unsaved
      (smtpmail-native-auth--save (pop smtpmail-native-auth--unsaved)))
    (run-hook-with-args 'smtpmail-native-auth-unsaved-functions nil)))

(defun smtpmail-native-auth-worked (found &optional later)
  "Remember that the server has accepted FOUND.
A typed password is kept for this session, and offered to auth-source, which
may ask the user; LATER non-nil means by a command: the next one that sends
or unlocks, or `smtpmail-native-save-passwords'."
  (when (and (plist-get found :typed) (plist-get found :password))
    (smtpmail-native-secrets-remember
     found (smtpmail-native-lookup-rest found)))
  (cond ((not later)
         (smtpmail-native-auth--save found))
        ((functionp (plist-get found :save))
         ;; The function has the secret; nothing else is kept.
         (push (list :host (plist-get found :host)
                     :port (plist-get found :port)
                     :save (plist-get found :save))
               smtpmail-native-auth--unsaved)
         (run-hook-with-args 'smtpmail-native-auth-unsaved-functions
                             (format "%s at %s:%s" (plist-get found :user)
                                     (plist-get found :host)
                                     (plist-get found :port))))))

(defun smtpmail-native-auth-failed (found)
  "Forget FOUND, which the server has refused."
  (smtpmail-native-secrets-refused found)
  (smtpmail-native-lookup-forget-missing)
  (when (featurep 'auth-source)
    (dolist (name (smtpmail-native-lookup-port-names (plist-get found :port)))
      (auth-source-forget+ :host (plist-get found :host) :port name))))

(defun smtpmail-native-auth-wrong-passphrase (found)
  "Forget the passphrase of the client key of FOUND: it is wrong."
  (smtpmail-native-secrets-forget-passphrase
   (smtpmail-native-auth--key-name found)))

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

;;;###autoload
(defun smtpmail-native-forget-passwords ()
  "Forget the passwords typed for mail servers in this session.
Forget the passphrases of client keys, too."
  (interactive)
  (smtpmail-native-secrets-clear)
  (smtpmail-native-mechanism-forget))

(provide 'smtpmail-native-auth)
;;; smtpmail-native-auth.el ends here
