;;; smtpmail-native-account.el --- Which account sends a message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `smtpmail-native-accounts' says which server sends for which From address.
;; The choice is made when you send, and the entry keeps the name of the account;
;; what the account says of proxies, mechanisms and the like is looked up again
;; for each attempt.  Pure, but for the variables of smtpmail that it looks at.

;;; Code:

(require 'seq)
(require 'smtpmail-native-address)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

(defvar smtpmail-smtp-server)
(defvar smtpmail-smtp-service)
(defvar smtpmail-smtp-user)
(defvar smtpmail-stream-type)

(defconst smtpmail-native-account--keys
  '(:name :server :port :stream :user :auth-mechanisms :helo :proxy
          :source-address)
  "The properties that an account may have.")

;;;; The option

(defun smtpmail-native-account--check (account position)
  "Signal a usage error unless ACCOUNT, at POSITION of the option, is one."
  (let* ((plist (cdr-safe account))
         (pattern (car-safe account))
         (wrong
          (cond
           ((not (consp account)) "it is not a list")
           ((not (or (stringp pattern)
                     (and (eq (car-safe pattern) 'regexp)
                          (stringp (car-safe (cdr-safe pattern))))))
            "its pattern is neither a string nor (regexp REGEXP)")
           ((not (and (proper-list-p plist) (= 0 (mod (length plist) 2))))
            "what follows its pattern is no property list")
           (t (let ((key (seq-find
                          (lambda (key)
                            (not (memq key smtpmail-native-account--keys)))
                          (seq-map-indexed (lambda (key index)
                                             (if (= 0 (mod index 2)) key :name))
                                           plist))))
                (and key (format "it has no property %s" key)))))))
    (when wrong
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "Invalid element %d of `smtpmail-native-accounts': %s"
               position wrong)))))

(defun smtpmail-native-account--all ()
  "Return the accounts; signal `smtpmail-native-usage-error' for a wrong one."
  (unless (proper-list-p smtpmail-native-accounts)
    (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                  "`smtpmail-native-accounts' is not a list"))
  (seq-do-indexed (lambda (account index)
                    (smtpmail-native-account--check account (1+ index)))
                  smtpmail-native-accounts)
  smtpmail-native-accounts)

(defun smtpmail-native-account-name (account)
  "Return the name of ACCOUNT, an element of `smtpmail-native-accounts'."
  (or (plist-get (cdr account) :name)
      (if (stringp (car account))
          (car account)
        (cadr (car account)))))

;;;; Which one

(defun smtpmail-native-account--fits-p (pattern address)
  "Return non-nil if PATTERN is for ADDRESS, without regard to case."
  (let ((case-fold-search t))
    (cond
     ((consp pattern)
      (string-match-p (cadr pattern) address))
     ((string-match-p "[*?]" pattern)
      (string-match-p (wildcard-to-regexp pattern) address))
     ((string-prefix-p "@" pattern)
      (string-suffix-p pattern address t))
     (t (string= (downcase pattern) (downcase address))))))

(defun smtpmail-native-account-find (address)
  "Return the first account for ADDRESS, a string, or nil."
  (seq-find (lambda (account)
              (smtpmail-native-account--fits-p (car account) address))
            (smtpmail-native-account--all)))

(defun smtpmail-native-account-by-name (name)
  "Return the account that is called NAME, or nil."
  (and name
       (seq-find (lambda (account)
                   (equal name (smtpmail-native-account-name account)))
                 (smtpmail-native-account--all))))

(defun smtpmail-native-account-address (field)
  "Return the address in FIELD, the text of From, or nil."
  (condition-case nil
      (let ((mailbox (smtpmail-native-address-sender field "From")))
        (and mailbox
             (smtpmail-native-address-string mailbox)))
    (smtpmail-native-error nil)))

(defun smtpmail-native-account-given-p ()
  "Return non-nil if a program says for this message which server sends it.
X-Message-SMTP-Method, `message-server-alist', and advice that switches
accounts bind the variables of smtpmail around the sending, or set them in
the buffer of the message."
  (seq-some (lambda (variable)
              (and (boundp variable)
                   (or (local-variable-p variable)
                       (not (equal (symbol-value variable)
                                   (default-toplevel-value variable))))))
            '(smtpmail-smtp-server smtpmail-smtp-service smtpmail-smtp-user
                                   smtpmail-stream-type)))

(defun smtpmail-native-account--ask (address)
  "Return the account that the user chooses for ADDRESS, which fits none.
Signal `smtpmail-native-usage-error' where no one can be asked."
  (let ((names (mapcar #'smtpmail-native-account-name
                       (smtpmail-native-account--all))))
    (when noninteractive
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "No account in `smtpmail-native-accounts' fits %s"
               (smtpmail-native-address-quote address))))
    (smtpmail-native-account-by-name
     (completing-read (format-message "No account fits %s; send with: " address)
                      names nil t))))

(defun smtpmail-native-account-for (field)
  "Return the account for a message whose From is FIELD, or nil for the options.
Where accounts are set, and none fits, the user is asked.  Signal
`smtpmail-native-usage-error' in batch mode then, and for a malformed option."
  (unless (or (null smtpmail-native-accounts)
              (smtpmail-native-account-given-p))
    (let ((address (or (smtpmail-native-account-address field) field)))
      (or (smtpmail-native-account-find address)
          (smtpmail-native-account--ask address)))))

;;;; What it says

(defun smtpmail-native-account--option (plist key variable)
  "Return KEY of PLIST, or the value of VARIABLE if it has none."
  (if (plist-member plist key)
      (plist-get plist key)
    (symbol-value variable)))

(defun smtpmail-native-account-call (name function)
  "Call FUNCTION while the options are those of the account called NAME.
With NAME nil, or one that is no more, they are as they are."
  (let* ((plist (cdr (smtpmail-native-account-by-name name)))
         (smtpmail-native-auth-mechanisms
          (smtpmail-native-account--option plist :auth-mechanisms
                                           'smtpmail-native-auth-mechanisms))
         (smtpmail-native-proxy
          (smtpmail-native-account--option plist :proxy
                                           'smtpmail-native-proxy))
         (smtpmail-native-source-address
          (smtpmail-native-account--option plist :source-address
                                           'smtpmail-native-source-address))
         (smtpmail-native-helo-name
          (smtpmail-native-account--option plist :helo
                                           'smtpmail-native-helo-name)))
    (funcall function)))

(defun smtpmail-native-account-call-with-server (account function)
  "Call FUNCTION while the variables of smtpmail are those of ACCOUNT.
ACCOUNT is an element of `smtpmail-native-accounts', or nil."
  (if (null account)
      (funcall function)
    (require 'smtpmail)
    (let* ((plist (cdr account))
           (smtpmail-smtp-server
            (smtpmail-native-account--option plist :server
                                             'smtpmail-smtp-server))
           (smtpmail-smtp-service
            (smtpmail-native-account--option plist :port
                                             'smtpmail-smtp-service))
           (smtpmail-stream-type
            (smtpmail-native-account--option plist :stream
                                             'smtpmail-stream-type))
           (smtpmail-smtp-user
            (smtpmail-native-account--option plist :user
                                             'smtpmail-smtp-user)))
      (smtpmail-native-account-call (smtpmail-native-account-name account)
                                    function))))

(provide 'smtpmail-native-account)
;;; smtpmail-native-account.el ends here
