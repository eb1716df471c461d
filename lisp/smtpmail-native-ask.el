;;; smtpmail-native-ask.el --- What the user is asked  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Passwords, passphrases and certificates that entries are held for.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-job)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)

(defvar smtpmail-smtp-user)

(defvar smtpmail-native-ask--idle-timer nil
  "The timer that asks for passwords, or nil.")

(defvar smtpmail-native-ask--declined nil
  "Ids of entries for whose password the user has been asked already.")

(defun smtpmail-native-ask--askable-p (entry)
  "Return non-nil if the user can give the answer that ENTRY is held for.
That is a secret, but a token, which nobody can type; or a word about a
certificate that this Emacs has seen."
  (let ((state (smtpmail-native-entry-state entry)))
    (or (and (smtpmail-native-entry-locked-p entry)
             (not (plist-get state :renewed)))
        (and (smtpmail-native-entry-untrusted-p entry)
             (gethash (smtpmail-native-entry-id entry)
                      smtpmail-native-attempt--doubts)
             t))))

(defun smtpmail-native-ask--passphrase (envelope)
  "Ask for the passphrase of the client key for the server of ENVELOPE."
  (let ((found (condition-case nil
                   (smtpmail-native-job-find envelope nil nil)
                 ;; A password may be missing, too, which is asked for later.
                 (smtpmail-native-auth-error
                  (list :host (plist-get envelope :host)
                        :port (plist-get envelope :port))))))
    (unwind-protect
        (smtpmail-native-auth-ask-passphrase found)
      (smtpmail-native-auth-release found))))

(defun smtpmail-native-ask--for (entry)
  "Ask for what ENTRY is held for, and return its credentials."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (if (plist-get (smtpmail-native-entry-state entry) :passphrase)
        (progn
          (smtpmail-native-ask--passphrase envelope)
          (append (smtpmail-native-job-find envelope nil t)
                  '(:asked t)))
      (smtpmail-native-auth-ask-again (plist-get envelope :host)
                                      (plist-get envelope :port)
                                      :user (plist-get envelope :user)))))

(defun smtpmail-native-ask-waiting (result envelope found)
  "Ask the user, who waits, for what RESULT of ENVELOPE says is wrong.
FOUND are the credentials that were used.  Return t if a passphrase was
typed, new credentials in place of a password that was refused, or nil if
there is nothing to ask for."
  (let ((host (plist-get envelope :host))
        (port (plist-get envelope :port)))
    (cond
     ((plist-get result :passphrase-wanted)
      (smtpmail-native-auth-ask-passphrase found)
      t)
     ((and (eq (plist-get result :kind) 'auth)
           (eql (plist-get result :code) 535)
           (not (plist-get result :password-untested))
           (not (plist-get result :token-refused)))
      (smtpmail-native-auth-ask-again host port
                                      :user (plist-get envelope :user))))))

(defun smtpmail-native-ask-asking (entry)
  "Ask for the password or passphrase of ENTRY, which is claimed, and send it."
  (let ((found nil))
    (unwind-protect
        (setq found (condition-case err
                        (smtpmail-native-ask--for entry)
                      (quit nil)
                      (smtpmail-native-error
                       (smtpmail-native-tell-say "%s" (cadr err))
                       nil)))
      (unless found
        (smtpmail-native-outbox-release entry)))
    (when found
      (smtpmail-native-attempt entry t found))))

(defun smtpmail-native-ask-trust (entry result)
  "Ask whether RESULT, which ended at a certificate, will do for ENTRY.
Return non-nil if it will.  The answer counts for all entries that wait for
it."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (when (smtpmail-native-attempt-trusted-p entry result
                                             (smtpmail-native-tell-attended-p))
      (when (smtpmail-native-tell-attended-p)
        (smtpmail-native-schedule-trust-changed (plist-get envelope :host)
                                                (plist-get envelope :port)))
      t)))

(defun smtpmail-native-ask-trusting (entry)
  "Ask about the certificate that ENTRY, which is claimed, is held for; send it.
It stays held if the answer is no.  Without anything to ask about it is tried
again, which may tell."
  (let* ((id (smtpmail-native-entry-id entry))
         (doubt (smtpmail-native-attempt-doubt id))
         (wanted nil))
    (unwind-protect
        (setq wanted (or (null doubt)
                         (smtpmail-native-ask-trust entry (car doubt))))
      (unless wanted
        (smtpmail-native-outbox-release entry)))
    (when wanted
      (smtpmail-native-attempt entry t
                               (smtpmail-native-attempt-take-doubt id)))))

;;;; Behind the user's back

(defun smtpmail-native-ask--when-idle ()
  "Ask for missing passwords as soon as the user is idle."
  (unless (or noninteractive
              (memq smtpmail-native-ask--idle-timer timer-idle-list))
    (setq smtpmail-native-ask--idle-timer
          (run-with-idle-timer 2 nil #'smtpmail-native-schedule-on-timer
                               #'smtpmail-native-ask--now))))

(defun smtpmail-native-ask-passwords ()
  "Ask for the passwords that entries of the outbox are held for.
Return the number of these entries."
  (setq smtpmail-native-ask--declined nil)
  (let ((count (length (smtpmail-native-schedule-locked))))
    (smtpmail-native-ask--now)
    count))

(defun smtpmail-native-ask--now ()
  "Ask for the passwords that entries of the outbox are held for.
Do it later if the user is doing something in the minibuffer."
  (if (or (active-minibuffer-window) executing-kbd-macro)
      ;; An idle timer would fire again at once, and for ever.
      (run-at-time 5 nil #'smtpmail-native-ask--when-idle)
    (let ((seen nil))
      (dolist (entry (seq-filter #'smtpmail-native-ask--askable-p
                                 (smtpmail-native-outbox-list)))
        (let ((key (cons (plist-get (smtpmail-native-entry-state entry) :hold)
                         (smtpmail-native-entry-account-key
                          (smtpmail-native-entry-envelope entry)))))
          (unless (or (member key seen)
                      (member (smtpmail-native-entry-id entry)
                              smtpmail-native-ask--declined))
            (push key seen)
            ;; Once is enough: who does not answer is not asked again.
            (push (smtpmail-native-entry-id entry)
                  smtpmail-native-ask--declined)
            (when (smtpmail-native-outbox-claim entry)
              (cond
               ((not (smtpmail-native-ask--askable-p entry))
                (smtpmail-native-outbox-release entry))
               ((smtpmail-native-entry-locked-p entry)
                (smtpmail-native-ask-asking entry))
               (t (smtpmail-native-ask-trusting entry))))))))))

(defun smtpmail-native-ask--attempt-ended (entry _plist)
  "Ask for what ENTRY, whose attempt has ended, is held for, if for anything.
For `smtpmail-native-attempt-ended-functions'."
  (when (smtpmail-native-ask--askable-p entry)
    (smtpmail-native-ask--when-idle)))

(add-hook 'smtpmail-native-attempt-ended-functions
          #'smtpmail-native-ask--attempt-ended)

(provide 'smtpmail-native-ask)
;;; smtpmail-native-ask.el ends here
