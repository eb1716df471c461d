;;; smtpmail-native-mechanism.el --- How to authenticate  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What the options, and smtp-auth of auth-source, say of SASL mechanisms, and
;; whether a secret is a password or an OAuth 2.0 token.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-options)

(defvar smtpmail-auth-supported)

(defvar smtpmail-native-mechanism--tokenless nil
  "Servers, (HOST . PORT), that offer no mechanism for a token.")

(defconst smtpmail-native-mechanism--for-tokens '("OAUTHBEARER" "XOAUTH2")
  "The mechanisms whose secret is an OAuth 2.0 token.")

(defconst smtpmail-native-mechanism-own
  '(cram-md5 plain login xoauth2 oauthbearer scram-sha-1 scram-sha-256
    scram-sha-1-plus scram-sha-256-plus external gssapi digest-md5 ntlm)
  "The mechanisms that the module has, as smtpmail names them.")

(defun smtpmail-native-mechanism-string (value)
  "Return the mechanisms that VALUE, of the token smtp-auth, asks for.
It is a string, a symbol, or a list of them; the result a string or nil."
  (let ((names (mapconcat (lambda (one) (upcase (format "%s" one)))
                          (if (listp value) value (list value)) " ")))
    (and (not (equal names "")) names)))

(defun smtpmail-native-mechanism-names (mechanisms)
  "Return the list of names in MECHANISMS, a string or nil."
  (split-string (or mechanisms "") "[ ,]+" t))

(defun smtpmail-native-mechanism--token-p (mechanism)
  "Return non-nil if the secret of MECHANISM, a name in capitals, is a token."
  (member mechanism smtpmail-native-mechanism--for-tokens))

(defconst smtpmail-native-mechanism--standard
  '((cram-md5 plain login) (cram-md5 plain login xoauth2))
  "The values that `smtpmail-auth-supported' has in versions of Emacs.")

(defun smtpmail-native-mechanism-option ()
  "Return what the options say of mechanisms.
The value is a list of names in capitals, in the order in which to try
them, and what it is from, an option; `none' in place of the list means not
to authenticate.  Return nil if there is nothing but defaults."
  (let ((upcase (lambda (name) (upcase (format "%s" name))))
        (supported (if (boundp 'smtpmail-auth-supported)
                       smtpmail-auth-supported
                     (car smtpmail-native-mechanism--standard))))
    (cond
     (smtpmail-native-auth-mechanisms
      (list (mapcar upcase smtpmail-native-auth-mechanisms)
            'smtpmail-native-auth-mechanisms))
     ((null supported) '(none smtpmail-auth-supported))
     ((not (member supported smtpmail-native-mechanism--standard))
      (list (mapcar upcase supported) 'smtpmail-auth-supported)))))

(defun smtpmail-native-mechanism-none-p ()
  "Return non-nil if the options say not to authenticate."
  (eq (car (smtpmail-native-mechanism-option)) 'none))

(defun smtpmail-native-mechanism-preference ()
  "Return what the user's options say of mechanisms for tokens, or nil.
They do so when the first mechanism they name is one.  The value is a
plist of :token, :mechanisms and :preferred; the latter non-nil means that
the secret is a password where no such mechanism is offered."
  (let ((names (car (smtpmail-native-mechanism-option))))
    (when (and (consp names)
               (smtpmail-native-mechanism--token-p (car names)))
      (list :token t
            :mechanisms (mapconcat #'identity
                                   (seq-filter #'smtpmail-native-mechanism--token-p
                                               names)
                                   " ")
            :preferred (not (seq-every-p #'smtpmail-native-mechanism--token-p
                                         names))))))

(defun smtpmail-native-mechanism--for-passwords ()
  "Return what the options say of mechanisms for passwords, a plist.
:mechanisms are the names, a string, or nil for the default; :if-offered
non-nil means that they bind only where the server offers any."
  (pcase-let ((`(,names ,option) (smtpmail-native-mechanism-option)))
    (let ((rest (seq-remove #'smtpmail-native-mechanism--token-p
                            (if (consp names) names nil))))
      (unless (or (null rest)
                  (and (eq option 'smtpmail-auth-supported)
                       (equal rest '("CRAM-MD5" "PLAIN" "LOGIN"))))
        (list :mechanisms (mapconcat #'identity rest " ")
              ;; Stock goes on where the server offers none.
              :if-offered (eq option 'smtpmail-auth-supported))))))

(defun smtpmail-native-mechanism-joined (octets)
  "Return OCTETS, which is ours, without line ends, which no token has."
  (if (not (string-match-p "[\r\n]" octets))
      octets
    (prog1 (apply #'unibyte-string
                  (seq-remove (lambda (octet) (memq octet '(?\r ?\n)))
                              (append octets nil)))
      (clear-string octets))))

(defun smtpmail-native-mechanism--with-token (found preference)
  "Return FOUND, whose password is a token, with what PREFERENCE says."
  (append preference
          (list :token t
                :password (smtpmail-native-mechanism-joined
                           (plist-get found :password)))
          found))

(defun smtpmail-native-mechanism-add (found)
  "Return FOUND with :mechanisms and, if its password is one, :token.
What smtp-auth says goes before the options."
  (let ((smtp-auth (plist-get found :smtp-auth))
        (preference (smtpmail-native-mechanism-preference)))
    (cond
     (smtp-auth
      (let ((found (append (list :mechanisms smtp-auth) found)))
        (if (and (plist-get found :password)
                 (seq-some #'smtpmail-native-mechanism--token-p
                           (smtpmail-native-mechanism-names smtp-auth)))
            (smtpmail-native-mechanism--with-token found nil)
          found)))
     ((and preference
           (plist-get found :password)
           (not (and (plist-get preference :preferred)
                     (member (cons (plist-get found :host)
                                   (plist-get found :port))
                             smtpmail-native-mechanism--tokenless))))
      (smtpmail-native-mechanism--with-token found preference))
     (t (append (smtpmail-native-mechanism--for-passwords) found)))))

(defun smtpmail-native-mechanism-second-chance-p (result found)
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
                     smtpmail-native-mechanism--tokenless :test #'equal)
         t))))

(defun smtpmail-native-mechanism-forget ()
  "Forget which servers offered no mechanism for a token."
  (setq smtpmail-native-mechanism--tokenless nil))

;;;; Methods of others

(defun smtpmail-native-mechanism--method-p (mechanism)
  "Return non-nil if `smtpmail-try-auth-method' has a method for MECHANISM.
Its other arguments may have their types, too."
  (cl-loop
   for form in (list mechanism (list 'quote mechanism))
   thereis
   (cl-loop
    for process in '(t process)
    thereis
    (cl-loop
     for (user password) in '((t t) (string string) (string t) (t string))
     thereis (cl-find-method 'smtpmail-try-auth-method nil
                             (list process (list 'eql form) user
                                   password))))))

(defun smtpmail-native-mechanism-foreign ()
  "Return the name of a mechanism that only stock smtpmail can use, or nil.
It has a method of `smtpmail-try-auth-method', it is in
`smtpmail-auth-supported', and the module does not have it."
  (and (fboundp 'smtpmail-try-auth-method)
       (seq-some (lambda (mechanism)
                   (and mechanism
                        (symbolp mechanism)
                        (not (memq mechanism smtpmail-native-mechanism-own))
                        (smtpmail-native-mechanism--method-p mechanism)
                        (symbol-name mechanism)))
                 (bound-and-true-p smtpmail-auth-supported))))

(provide 'smtpmail-native-mechanism)
;;; smtpmail-native-mechanism.el ends here
