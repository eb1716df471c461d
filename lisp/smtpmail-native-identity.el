;;; smtpmail-native-identity.el --- The user that sends an entry  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Your user name at a server is decided at the moment at which you send: the
;; envelope keeps the user name and the kind of place that had the password, and
;; never a secret.  A later attempt looks for that user, and for no other.
;;
;; What this Emacs session has at hand for an entry is kept here: credentials
;; that were found when it was sent, those of an account for a few seconds, and
;; those that have not been shown to a server yet because of its certificate.

;;; Code:

(require 'seq)
(require 'smtpmail-native-account)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-mechanism)
(require 'smtpmail-native-quiet)

(declare-function smtpmail-native-module-find-auth "smtpmail-native-module"
                  (host port))
(defvar epg-pinentry-mode)

(defconst smtpmail-native-identity--keep 5
  "Seconds for which the credentials of an account are kept.")

(defconst smtpmail-native-identity-instance
  (format "%s-%d-%x" (system-name) (emacs-pid)
          (truncate (float-time before-init-time)))
  "The name of this Emacs session.")

;;;; What the envelope keeps

(defun smtpmail-native-identity--classic (account)
  "Return the user of the classic entry for the server of ACCOUNT, or nil.
It does not count where the options say not to authenticate, and is not
known without the module."
  (and (not (smtpmail-native-mechanism-none-p))
       (smtpmail-native-load-loaded-p)
       (smtpmail-native-auth-string
        (nth 2 (smtpmail-native-module-find-auth (plist-get account :host)
                                                 (plist-get account :port))))))

(defun smtpmail-native-identity (account &optional found)
  "Return the identity of a message for the server of ACCOUNT.
FOUND are the credentials if they are known already.  It is a plist of
:user, :source, and :login, non-nil if there is a password to log in with;
or nil where nothing is known: then any user will do later."
  (let* ((classic (smtpmail-native-identity--classic account))
         (user (or (plist-get found :user) classic)))
    (and (smtpmail-native-auth-string user)
         (list :user user
               :source (or (plist-get found :source) 'classic)
               :login (and (or classic
                               (plist-get found :password)
                               (plist-get found :pending))
                           t)))))

(defun smtpmail-native-identity-who (found)
  "Return the user and source of the credentials FOUND, without a secret.
It is the start of :by in the state of an entry."
  (list :instance smtpmail-native-identity-instance
        :user (plist-get found :user)
        :source (plist-get found :source)))

;;;; Finding

(defun smtpmail-native-identity--check (found wanted)
  "Return FOUND if it is for the user WANTED, or for none; else signal an error.
WANTED may be nil."
  (if (or (null wanted)
          (null (plist-get found :user))
          (equal wanted (plist-get found :user)))
      found
    (smtpmail-native-auth-release found)
    (smtpmail-native-error-signal
     'smtpmail-native-auth-error
     (format "No password for %s at %s:%s; the credentials at hand are those \
of %s" wanted (plist-get found :host) (plist-get found :port)
     (plist-get found :user)))))

(defun smtpmail-native-identity-find (envelope &rest keys)
  "Find the credentials for the server of ENVELOPE.
KEYS are those of `smtpmail-native-auth-find', but for :user.  Without :ask
nothing prompts, not even the agent of GnuPG."
  (smtpmail-native-load)
  (let* ((identity (plist-get envelope :identity))
         (wanted (plist-get identity :user))
         (epg-pinentry-mode (if (or (plist-get keys :ask) noninteractive)
                                (bound-and-true-p epg-pinentry-mode)
                              'cancel)))
    (smtpmail-native-account-call
     (plist-get envelope :account)
     (lambda ()
       (smtpmail-native-identity--check
        (apply #'smtpmail-native-auth-find (plist-get envelope :host)
               (plist-get envelope :port)
               :user (or wanted (plist-get envelope :user))
               ;; What was sent with a login is not sent without one.
               :demanded (or (plist-get keys :demanded)
                             (plist-get identity :login))
               keys)
        wanted)))))

;;;; What is at hand

(defvar smtpmail-native-identity--kept (make-hash-table :test #'equal)
  "Credentials that were found a moment ago, by account.")

(defvar smtpmail-native-identity--given (make-hash-table :test #'equal)
  "Credentials that were found when an entry was sent, by its id.")

(defvar smtpmail-native-identity--shown (make-hash-table :test #'equal)
  "Attempts that ended at a certificate, by the id of the entry.
Each is (RESULT . FOUND), FOUND being the credentials, which the server has
not seen: they serve again when you have accepted the certificate.")

(defun smtpmail-native-identity--key (envelope)
  "Return what tells the account of ENVELOPE from others."
  (cons (plist-get (plist-get envelope :identity) :user)
        (smtpmail-native-entry-account-key envelope)))

(defun smtpmail-native-identity-forget-kept ()
  "Forget the credentials that are kept for a moment."
  (maphash (lambda (_key found) (smtpmail-native-auth-release found))
           smtpmail-native-identity--kept)
  (clrhash smtpmail-native-identity--kept))

(defun smtpmail-native-identity-kept (envelope)
  "Find the credentials for ENVELOPE without asking.
Credentials that were found a moment ago serve again: to search auth-source
for each of a hundred messages takes longer than to send them."
  (let* ((key (smtpmail-native-identity--key envelope))
         (kept (gethash key smtpmail-native-identity--kept)))
    (unless kept
      (setq kept (smtpmail-native-identity-find envelope :later t))
      ;; A secret that has still to come is nothing to keep.
      (unless (plist-get kept :pending)
        (when (= (hash-table-count smtpmail-native-identity--kept) 0)
          (smtpmail-native-quiet-timer smtpmail-native-identity--keep
                                       #'smtpmail-native-identity-forget-kept))
        (puthash key kept smtpmail-native-identity--kept)))
    (if (plist-get kept :pending)
        kept
      (smtpmail-native-auth-copy kept))))

(defun smtpmail-native-identity-give (id found)
  "Keep FOUND for the entry ID until it is sent."
  (puthash id found smtpmail-native-identity--given))

(defun smtpmail-native-identity-take (id)
  "Return the credentials that are kept for the entry ID, or nil.
They are the caller's from here on."
  (prog1 (gethash id smtpmail-native-identity--given)
    (remhash id smtpmail-native-identity--given)))

(defun smtpmail-native-identity-show (id result found)
  "Note that RESULT ended the attempt for the entry ID at a certificate.
FOUND has not been shown to the server."
  (puthash id (cons result found) smtpmail-native-identity--shown))

(defun smtpmail-native-identity-shown (id)
  "Return the result that ended the attempt for the entry ID at a certificate.
The value is nil if this Emacs has not seen one."
  (car (gethash id smtpmail-native-identity--shown)))

(defun smtpmail-native-identity-take-shown (id)
  "Return the credentials of the attempt for ID that ended at a certificate.
They are the caller's from here on; the value may be nil."
  (prog1 (cdr (gethash id smtpmail-native-identity--shown))
    (remhash id smtpmail-native-identity--shown)))

(defun smtpmail-native-identity-forget (id)
  "Forget what is at hand for the entry ID."
  (smtpmail-native-auth-release (smtpmail-native-identity-take id))
  (smtpmail-native-auth-release (smtpmail-native-identity-take-shown id)))

;;;; What a result says of them

(defun smtpmail-native-identity--judge (result found later)
  "Report RESULT to the source of the credentials FOUND.
LATER is as in `smtpmail-native-identity-judge'."
  (cond ((smtpmail-native-auth-string (plist-get result :mechanism))
         (smtpmail-native-auth-worked found later))
        ((plist-get result :passphrase-wanted)
         (smtpmail-native-identity-forget-kept)
         (smtpmail-native-auth-wrong-passphrase found))
        ((plist-get result :password-untested))
        ((or (plist-get result :second-chance)
             (and (eq (plist-get result :kind) 'auth)
                  (eql (plist-get result :code) 535)))
         (smtpmail-native-identity-forget-kept)
         (smtpmail-native-auth-failed found))))

(defun smtpmail-native-identity-judge (result found later)
  "Report RESULT to the source of the credentials FOUND, and clear them.
If LATER is non-nil, do not ask the user anything now.  An error here does
not affect the message."
  (smtpmail-native-quiet-guard "Error about a password"
                               #'smtpmail-native-identity--judge
                               result found later)
  (smtpmail-native-auth-release found))

(defun smtpmail-native-identity-news-p (result found)
  "Return non-nil if RESULT shows that a secret of FOUND, just typed, is right."
  (or (and (plist-get found :typed)
           (smtpmail-native-auth-string (plist-get result :mechanism)))
      (and (plist-get found :asked)
           (not (plist-get result :passphrase-wanted)))))

(provide 'smtpmail-native-identity)
;;; smtpmail-native-identity.el ends here
