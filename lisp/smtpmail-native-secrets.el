;;; smtpmail-native-secrets.el --- Secrets in memory  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What the user typed, for this Emacs session, and secrets that a function
;; has to fetch first.
;;
;; All strings in the tables are this file's own.  What it hands out are
;; copies, which their receiver clears.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

(define-error 'smtpmail-native-lookup-error "Message not sent"
  'smtpmail-native-auth-error)

(defun smtpmail-native-secrets-fail (text)
  "Signal `smtpmail-native-lookup-error' with TEXT.
It means that a place could not be asked, not that it knows nothing."
  (smtpmail-native-error-signal 'smtpmail-native-lookup-error text))

(defun smtpmail-native-secrets-encode (string)
  "Return a new unibyte string with the UTF-8 of STRING.
It is ours, and so may be cleared."
  (if (multibyte-string-p string)
      (encode-coding-string string 'utf-8)
    (copy-sequence string)))

(defun smtpmail-native-secrets-chomp (octets)
  "Return OCTETS, a string of ours, without a newline at its end.
Programs that print a secret end it by one.  If it is left out, OCTETS is
cleared and the value is a new string."
  (let ((end (string-match-p "\r?\n\\'" octets)))
    (if (null end)
        octets
      (prog1 (substring octets 0 end)
        (clear-string octets)))))

;;;; Passwords that were typed

(defvar smtpmail-native-secrets--typed (make-hash-table :test #'equal)
  "Passwords that were typed and have worked, by (HOST PORT USER).")

(defvar smtpmail-native-secrets--instead nil
  "Which of `smtpmail-native-secrets--typed' replace what is stored.
They were typed because the server refused the latter.  An alist of
\(KEY . FOUND), FOUND being the rest of the stored entry.")

(defun smtpmail-native-secrets-known (host port user)
  "Return the plist of a password typed before for HOST, PORT and USER.
If USER is nil, any user will do.  Return nil if there is none."
  (let ((found nil))
    (maphash (lambda (key password)
               (when (and (equal (nth 0 key) (downcase host))
                          (equal (nth 1 key) port)
                          (member user (list nil (nth 2 key))))
                 (setq found (list :source 'prompt
                                   :user (nth 2 key)
                                   :password (copy-sequence password)
                                   :typed t))))
             smtpmail-native-secrets--typed)
    found))

(defun smtpmail-native-secrets--key (found)
  "Return the key of FOUND in `smtpmail-native-secrets--typed'."
  (list (downcase (plist-get found :host)) (plist-get found :port)
        (plist-get found :user)))

(defun smtpmail-native-secrets-instead-p (found)
  "Return non-nil if FOUND, which was typed, replaces a stored password."
  (assoc (smtpmail-native-secrets--key found) smtpmail-native-secrets--instead))

(defun smtpmail-native-secrets-instead (host port user)
  "Return what was typed in place of the stored password, or nil.
It is for HOST, PORT and USER, which may be nil.  The value is a list of a
plist like that of `smtpmail-native-secrets-known', and a plist with the
rest of what was stored."
  (seq-some (pcase-lambda (`(,key . ,rest))
              (and (equal (seq-take key 2) (list (downcase host) port))
                   (member user (list nil (nth 2 key)))
                   (list (smtpmail-native-secrets-known host port (nth 2 key))
                         rest)))
            smtpmail-native-secrets--instead))

(defun smtpmail-native-secrets-forget (found)
  "Forget the password of FOUND if it was typed before; return its key."
  (let* ((key (smtpmail-native-secrets--key found))
         (password (gethash key smtpmail-native-secrets--typed)))
    (when password
      (clear-string password)
      (remhash key smtpmail-native-secrets--typed))
    (setq smtpmail-native-secrets--instead
          (assoc-delete-all key smtpmail-native-secrets--instead))
    key))

(defvar smtpmail-native-secrets--refused-users nil
  "The last user for each (HOST PORT) whose typed password was refused.")

(defun smtpmail-native-secrets-refused-user (host port)
  "Return the user for HOST and PORT whose typed password was refused, or nil."
  (cdr (assoc (list (downcase host) port)
              smtpmail-native-secrets--refused-users)))

(defun smtpmail-native-secrets-refused (found)
  "Forget the password of FOUND, which was refused; note its user if typed."
  (let ((key (smtpmail-native-secrets-forget found)))
    (when (plist-get found :typed)
      (setf (alist-get (seq-take key 2) smtpmail-native-secrets--refused-users
                       nil nil #'equal)
            (nth 2 key)))))

(defun smtpmail-native-secrets-remember (found rest)
  "Keep the password of FOUND, which was typed, for this session.
If it replaces a stored one, REST is what else was stored."
  (let* ((again (or (plist-get found :again)
                    (smtpmail-native-secrets-instead-p found)))
         (password (copy-sequence (plist-get found :password)))
         (key (smtpmail-native-secrets-forget found)))
    (puthash key password smtpmail-native-secrets--typed)
    (when again
      (push (cons key rest) smtpmail-native-secrets--instead))))

(defun smtpmail-native-secrets-read (prompt)
  "Ask for a secret by PROMPT, and return it as a unibyte string."
  (let ((typed (read-passwd prompt)))
    (unwind-protect
        (smtpmail-native-secrets-encode typed)
      (clear-string typed))))

;;;; Passphrases of client keys

(defvar smtpmail-native-secrets--passphrases (make-hash-table :test #'equal)
  "Passphrases of client keys that were typed, by the name of the key.")

(defun smtpmail-native-secrets-passphrase (name)
  "Return a copy of the passphrase typed for the key NAME, or nil."
  (let ((known (gethash name smtpmail-native-secrets--passphrases)))
    (and known (copy-sequence known))))

(defun smtpmail-native-secrets-forget-passphrase (name)
  "Forget the passphrase of the key NAME."
  (let ((known (gethash name smtpmail-native-secrets--passphrases)))
    (when known
      (clear-string known)
      (remhash name smtpmail-native-secrets--passphrases))))

(defun smtpmail-native-secrets-ask-passphrase (name)
  "Ask for the passphrase of the client key NAME, and keep it."
  (let ((octets (smtpmail-native-secrets-read
                 (format (if (string-prefix-p "pkcs11:" (or name ""))
                             "PIN for %s: "
                           "Passphrase for the key %s: ")
                         (or name "")))))
    (smtpmail-native-secrets-forget-passphrase name)
    (puthash name octets smtpmail-native-secrets--passphrases)))

(defun smtpmail-native-secrets-clear ()
  "Forget everything that was typed in this session."
  (dolist (table (list smtpmail-native-secrets--typed
                       smtpmail-native-secrets--passphrases))
    (maphash (lambda (_key secret) (clear-string secret)) table)
    (clrhash table))
  (setq smtpmail-native-secrets--instead nil
        smtpmail-native-secrets--refused-users nil))

;;;; Functions that have a secret

;; A function without arguments returns the secret.  One that has to wait for
;; it, for a token from the network, takes one argument, a function; it returns
;; at once, and calls that later with the secret, or with nil if it has none.

(defun smtpmail-native-secrets-asynchronous-p (function)
  "Return non-nil if FUNCTION wants a callback to give the secret to."
  (let ((arity (func-arity function)))
    (and (eql (car arity) 1)
         (not (eq (cdr arity) 'unevalled)))))

(defun smtpmail-native-secrets--octets (value place)
  "Return VALUE of a function as octets of ours, nil if it is nil.
PLACE says in an error where it is from."
  (unless (or (stringp value) (null value))
    (smtpmail-native-secrets-fail
     (format "The function for the password of %s did not return a string" place)))
  (and value
       (smtpmail-native-secrets-chomp (smtpmail-native-secrets-encode value))))

(defun smtpmail-native-secrets--late (place)
  "Signal that the function for the secret of PLACE took too long."
  (smtpmail-native-secrets-fail
   (format "The function for the password of %s did not return in %s seconds"
           place smtpmail-native-secret-timeout)))

(defun smtpmail-native-secrets--failed (err place)
  "Signal that the function for the secret of PLACE signaled ERR."
  ;; The data of the error might be the secret, so only its kind is told.
  (smtpmail-native-secrets-fail
   (format "The function for the password of %s failed: %s"
           place (get (car err) 'error-message))))

(defun smtpmail-native-secrets--wait (function)
  "Call FUNCTION, which wants a callback, and wait for the secret."
  (let ((answer nil))
    (funcall function (lambda (secret) (setq answer (list secret))))
    (while (null answer)
      (accept-process-output nil 0.05))
    (car answer)))

(defun smtpmail-native-secrets-call (function place)
  "Return the secret that FUNCTION has, as octets of ours, or nil.
Wait for it if it comes later.  Signal `smtpmail-native-lookup-error',
which names PLACE, if FUNCTION fails, returns something else than a
string, or takes longer than `smtpmail-native-secret-timeout'."
  (let* ((late (make-symbol "late"))
         (value (condition-case err
                    (with-timeout (smtpmail-native-secret-timeout late)
                      (if (smtpmail-native-secrets-asynchronous-p function)
                          (smtpmail-native-secrets--wait function)
                        (funcall function)))
                  (error (smtpmail-native-secrets--failed err place)))))
    (if (eq value late)
        (smtpmail-native-secrets--late place)
      (smtpmail-native-secrets--octets value place))))

(defun smtpmail-native-secrets--catching (done function)
  "Call DONE with the value of FUNCTION and nil, or with nil and its error."
  (let ((value nil)
        (failure nil))
    (condition-case err
        (setq value (funcall function))
      (smtpmail-native-error (setq failure err)))
    (funcall done value failure)))

(defun smtpmail-native-secrets-start (function place done)
  "Let FUNCTION, which wants a callback, fetch the secret; return at once.
Call DONE exactly once, with two arguments: the secret, octets of ours or
nil, and an error as in `condition-case', or nil.  The error is that of
`smtpmail-native-secrets-call', which see for PLACE."
  (let* ((timer nil)
         (finish (lambda (make)
                   (when done
                     (let ((call done))
                       (setq done nil)
                       (when timer
                         (cancel-timer timer))
                       (smtpmail-native-secrets--catching call make))))))
    (setq timer (run-at-time
                 smtpmail-native-secret-timeout nil finish
                 (lambda () (smtpmail-native-secrets--late place))))
    (condition-case err
        (funcall function
                 (lambda (secret)
                   (funcall finish
                            (lambda ()
                              (smtpmail-native-secrets--octets secret
                                                               place)))))
      (error (funcall finish
                      (lambda ()
                        (smtpmail-native-secrets--failed err place)))))))

(provide 'smtpmail-native-secrets)
;;; smtpmail-native-secrets.el ends here
