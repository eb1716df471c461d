;;; smtpmail-native-ask.el --- What the user is asked  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Passwords, passphrases and certificates that entries are held for.  Only
;; commands that you give ask; nothing here is called from a timer, a filter or a
;; hook.  If you quit, the entry is left as it was.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-index)
(require 'smtpmail-native-notice)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-verdict)

;;;; Secrets

(defun smtpmail-native-ask--passphrase (envelope)
  "Ask for the passphrase of the client key for the server of ENVELOPE."
  (let ((found (condition-case nil
                   (smtpmail-native-identity-find envelope)
                 ;; A password may be missing, too, which is asked for later.
                 (smtpmail-native-auth-error
                  (list :host (plist-get envelope :host)
                        :port (plist-get envelope :port))))))
    (unwind-protect
        (smtpmail-native-auth-ask-passphrase found)
      (smtpmail-native-auth-release found))))

(defun smtpmail-native-ask--again (envelope)
  "Ask for another password for the server of ENVELOPE; return credentials."
  (smtpmail-native-auth-ask-again
   (plist-get envelope :host) (plist-get envelope :port)
   :user (or (plist-get (plist-get envelope :identity) :user)
             (plist-get envelope :user))))

(defun smtpmail-native-ask--secret (entry)
  "Ask for the secret that ENTRY is held for, and return its credentials."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (pcase (smtpmail-native-entry-why entry)
      ('passphrase
       (smtpmail-native-ask--passphrase envelope)
       (append (smtpmail-native-identity-find envelope :ask t)
               '(:asked t)))
      ('refused
       (smtpmail-native-ask--again envelope))
      (_ (smtpmail-native-identity-find envelope :demanded t :ask t)))))

(defun smtpmail-native-ask-waiting (result envelope found)
  "Ask the waiting user for what RESULT of ENVELOPE says is wrong.
FOUND are the credentials that were used.  Return t if a passphrase was
typed, new credentials in place of a password that was refused, or nil if
there is nothing to ask for."
  (cond
   ((plist-get result :passphrase-wanted)
    (smtpmail-native-auth-ask-passphrase found)
    t)
   ((and (smtpmail-native-verdict-secret-p result)
         (not (plist-get result :token-refused)))
    (smtpmail-native-ask--again envelope))))

;;;; Saving what was typed

(defconst smtpmail-native-ask--unsaved "unsaved password"
  "The name of the notice of a password that is not saved.")

(defun smtpmail-native-ask--offer-save (whose)
  "Offer to save the password of WHOSE, a text, or nothing any more if nil.
For `smtpmail-native-auth-unsaved-functions'."
  (cond ((null whose)
         (smtpmail-native-quiet-forget smtpmail-native-ask--unsaved))
        ((smtpmail-native-tell-attended-p)
         (let ((text (format "The server accepted the password of %s, which \
is not saved" (smtpmail-native-error-text whose))))
           (smtpmail-native-quiet-warn
            text (smtpmail-native-notice-offer smtpmail-native-ask--unsaved
                                               text 'save))))))

(add-hook 'smtpmail-native-auth-unsaved-functions
          #'smtpmail-native-ask--offer-save)

;;;; Certificates

(defun smtpmail-native-ask-trust (entry result)
  "Ask whether RESULT, which ended at a certificate, will do for ENTRY.
Return non-nil if it will.  The answer counts for all entries that wait for
it."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (ask (smtpmail-native-tell-attended-p)))
    (when (smtpmail-native-attempt-trusted-p entry result ask)
      (when ask
        (smtpmail-native-schedule-trust-changed (plist-get envelope :host)
                                                (plist-get envelope :port)))
      t)))

;;;; One entry

(defun smtpmail-native-ask--send (entry change)
  "Do what `smtpmail-native-ask-send' does with ENTRY and CHANGE.
Let go of ENTRY if it is not to be sent now."
  (let* ((id (smtpmail-native-entry-id entry))
         (shown (smtpmail-native-identity-shown id))
         (found nil)
         (wanted nil))
    (unwind-protect
        (setq found (pcase (smtpmail-native-entry-hold entry)
                      ('password (smtpmail-native-ask--secret entry))
                      ('certificate
                       (if (and shown
                                (not (smtpmail-native-ask-trust entry shown)))
                           (user-error "The certificate is still not trusted")
                         (smtpmail-native-identity-take-shown id))))
              wanted t)
      (unless wanted
        (smtpmail-native-outbox-release entry)))
    (smtpmail-native-attempt entry :ask t :found found :change change)))

(defun smtpmail-native-ask-send (entry change)
  "Ask for what ENTRY, which is claimed, is held for, and send it.
CHANGE is a change of its state that is made when the attempt has begun.
Return nil if you quit or it cannot be asked for; then ENTRY is as it was,
and why is told."
  (condition-case err
      (progn
        (smtpmail-native-ask--send entry change)
        t)
    (quit
     (smtpmail-native-tell-say "Quit; %s is as it was"
                               (smtpmail-native-entry-title entry))
     nil)
    ((smtpmail-native-error user-error)
     (smtpmail-native-tell-say "%s" (cadr err))
     nil)))

;;;; All that wait

(defun smtpmail-native-ask--wanted-p (entry)
  "Return non-nil if an answer of the user can send ENTRY.
It is held for a secret or a certificate, or a place that has the secret
could not be asked while no command was behind that."
  (and (not (smtpmail-native-attempt-sending (smtpmail-native-entry-id entry)))
       (or (and (smtpmail-native-entry-locked-p entry)
                ;; No one can type a token.
                (not (plist-get (smtpmail-native-entry-state entry) :renewed)))
           (smtpmail-native-entry-untrusted-p entry)
           (and (eq (smtpmail-native-entry-status entry) 'ready)
                (eq (smtpmail-native-entry-why entry) 'lookup)
                (not (smtpmail-native-entry-doubt-p entry))))))

(defun smtpmail-native-ask--claimed (id)
  "Return the entry ID, claimed, if an answer of the user can send it."
  (let ((entry (smtpmail-native-outbox-get id)))
    (when (and entry (smtpmail-native-outbox-claim entry))
      (if (and (smtpmail-native-ask--wanted-p entry)
               (not (smtpmail-native-entry-unsettled-p entry)))
          entry
        (ignore (smtpmail-native-outbox-release entry))))))

(defun smtpmail-native-ask-all ()
  "Ask for all that entries of the outbox are held for, once for each account.
Return the number of these entries."
  (smtpmail-native-index-ensure 2)
  (let ((ids (smtpmail-native-index-select #'smtpmail-native-ask--wanted-p))
        (seen nil))
    (smtpmail-native-auth-save-pending)
    (dolist (id ids)
      (let* ((known (smtpmail-native-index-entry id))
             (key (and known (smtpmail-native-tell-hold-key known)))
             (entry (and key
                         (not (member key seen))
                         (smtpmail-native-ask--claimed id))))
        (when entry
          (push key seen)
          (smtpmail-native-tell-again key)
          (smtpmail-native-ask-send entry '(:renewed nil :certificates nil)))))
    (length ids)))

(provide 'smtpmail-native-ask)
;;; smtpmail-native-ask.el ends here
