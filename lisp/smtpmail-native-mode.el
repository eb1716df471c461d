;;; smtpmail-native-mode.el --- In place of smtpmail, everywhere  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The global mode puts three functions of smtpmail out of the way and leaves
;; every setting as it is: programs and users that name, call or advise them go
;; on as before.  Its own advice is the innermost, so that what users advise
;; `smtpmail-via-smtp' to set is what counts.

;;; Code:

(require 'nadvice)
(require 'smtpmail-native-act)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-body)
(require 'smtpmail-native-error)
(require 'smtpmail-native-job)
(require 'smtpmail-native-load)
(require 'smtpmail-native-message)
(require 'smtpmail-native-queue)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-stock)
(require 'smtpmail-native-stock-index)
(require 'smtpmail-native-wait)
(require 'smtpmail-native-watch)

(defvar smtpmail-mail-address)

;; All that sends loads this file, and most of it shows nothing before a change.
(autoload 'smtpmail-native-draw-note "smtpmail-native-draw")
(add-hook 'smtpmail-native-changed-functions #'smtpmail-native-draw-note)

(defvar smtpmail-native-mode--mail nil
  "The message that is on its way through `smtpmail-via-smtp', a plist.
Nil where that function is called for its own sake.")

(defvar smtpmail-native-mode--outcome nil
  "What has become of the message on its way through `smtpmail-via-smtp'.
Nil as long as it has not got through to us, t when it has been handed
over, else the error, as in `condition-case'.")

(defvar smtpmail-native-mode--told nil
  "Non-nil if it has been told that the module cannot be used.")

(defun smtpmail-native-mode--ready-p ()
  "Return non-nil if the module can be used; else say once why it cannot."
  (condition-case err
      (or (and (smtpmail-native-load-available-p)
               (smtpmail-native-load))
          (error "It is not built (M-x smtpmail-native-build-module)"))
    (error
     (unless smtpmail-native-mode--told
       (setq smtpmail-native-mode--told t)
       (message "No module of smtpmail-native, and so smtpmail itself sends: %s"
                (error-message-string err)))
     nil)))

(defun smtpmail-native-mode--module-p ()
  "Return non-nil if there is a module, even one that cannot be used now.
Stock smtpmail does not stand in for an old one: it knows nothing of options
such as `smtpmail-native-require-tls', which have worked so far."
  (or (memq (car (smtpmail-native-load-state)) '(stale restart))
      (smtpmail-native-mode--ready-p)))

(defun smtpmail-native-mode--native-p ()
  "Return non-nil if a message is not for stock smtpmail."
  (and (null (smtpmail-native-mechanism-foreign))
       (smtpmail-native-mode--module-p)))

(defun smtpmail-native-mode--send-directly (recipients buffer)
  "Send the message in BUFFER as it is to RECIPIENTS, a list of strings.
Wait for the outcome; return nil if it was sent, else what went wrong."
  (condition-case err
      (let ((mail (smtpmail-native-message-as-it-is
                   buffer
                   (or recipients
                       (smtpmail-native-error-signal
                        'smtpmail-native-usage-error
                        "There is no recipient")))))
        (unwind-protect
            (ignore (smtpmail-native-queue-send mail 'wait))
          (kill-buffer (plist-get mail :buffer))))
    (smtpmail-native-error (smtpmail-native-error-line err))))

(defun smtpmail-native-mode--pass-on (mail recipients)
  "Hand over MAIL, which has come through the advice of users, to RECIPIENTS.
Advice may have chosen these, and the sender.  Return nil, or a string that
tells what went wrong, as advice may have another server to try.  It is no
matter for advice that the message may have been sent, or that the user has
cancelled it, and so these are signalled."
  (condition-case err
      (let ((mail (copy-sequence mail)))
        (unless (equal smtpmail-mail-address (plist-get mail :sender))
          (setq mail (plist-put mail :sender
                                (or (smtpmail-native-message-explicit-sender)
                                    (plist-get mail :sender)))))
        (smtpmail-native-queue-hand-over (plist-put mail :recipients recipients))
        (setq smtpmail-native-mode--outcome t)
        nil)
    ((smtpmail-native-unknown-outcome smtpmail-native-cancelled)
     (signal (car err) (cdr err)))
    (smtpmail-native-error
     (setq smtpmail-native-mode--outcome err)
     (smtpmail-native-error-line err))))

(defun smtpmail-native-mode--via-smtp (stock recipients buffer &rest more)
  "Do what `smtpmail-via-smtp', STOCK, does: send BUFFER to RECIPIENTS.
MORE are its other arguments, for STOCK alone.  Return nil if the message was
sent, or put into the outbox by `smtpmail-native-send-it'; else a string
that tells what went wrong."
  (let ((mail smtpmail-native-mode--mail)
        (smtpmail-native-mode--mail nil))
    (cond
     ((and mail (eq buffer (plist-get mail :buffer)))
      (smtpmail-native-mode--pass-on mail recipients))
     ((smtpmail-native-mode--native-p)
      (smtpmail-native-mode--send-directly recipients buffer))
     ((apply stock recipients buffer more)))))

(defun smtpmail-native-mode--send-it (stock)
  "Send the message in the current buffer; in place of `smtpmail-send-it', STOCK."
  (if (smtpmail-native-mode--native-p)
      (smtpmail-native-mode-send)
    (funcall stock)))

(defun smtpmail-native-mode--adopt ()
  "Take what smtpmail has queued into the outbox.
Nothing is asked, and no error is signaled."
  (condition-case err
      (when (and (smtpmail-native-stock-index-any-p)
                 (smtpmail-native-mode--ready-p))
        (smtpmail-native-stock-adopt))
    (error (smtpmail-native-quiet-warn (error-message-string err)))))

(defvar smtpmail-native-mode) ; defined below

(defun smtpmail-native-mode--begin ()
  "Begin to send by itself what waits, if the mode is still on."
  (when smtpmail-native-mode
    (smtpmail-native-mode--adopt)
    (unless noninteractive
      (smtpmail-native-act-ask-before-quit)
      (smtpmail-native-watch-ensure))))

(defun smtpmail-native-mode--send-queued-mail (stock)
  "Send what is queued; in place of `smtpmail-send-queued-mail', STOCK."
  (if (not (smtpmail-native-mode--module-p))
      (funcall stock)
    (smtpmail-native-error-leaving
      (smtpmail-native-load)
      (unless (or noninteractive (not (smtpmail-native-stock-index-any-p)))
        ;; Where the server is not known it is asked for, as stock does.
        (smtpmail-native-job-account))
      (smtpmail-native-mode--adopt)
      (let ((count (if noninteractive
                       (smtpmail-native-wait-flush)
                     (smtpmail-native-act-flush))))
        (when (integerp count)
          (message (if (= count 1) "Sending %d message" "Sending %d messages")
                   count))))))

(defconst smtpmail-native-mode--advice
  '((smtpmail-via-smtp . smtpmail-native-mode--via-smtp)
    (smtpmail-send-it . smtpmail-native-mode--send-it)
    (smtpmail-send-queued-mail . smtpmail-native-mode--send-queued-mail))
  "Functions of smtpmail, and what goes around them.")

;;;###autoload
(define-minor-mode smtpmail-native-mode
  "Send mail natively wherever Emacs would use smtpmail.
The mode advises `smtpmail-send-it', `smtpmail-via-smtp' and
`smtpmail-send-queued-mail', and changes no option.  It moves messages that
smtpmail has queued to the outbox, and sends them when you flush the queue.
While there is no module, smtpmail sends as before; while it is outdated,
messages wait in the outbox.  Emacs sends the waiting messages of the outbox
in the background."
  :global t
  :group 'smtpmail-native
  (require 'smtpmail)
  (pcase-dolist (`(,function . ,around) smtpmail-native-mode--advice)
    (if smtpmail-native-mode
        (advice-add function :around around '((depth . 100)))
      (advice-remove function around)))
  (if (not smtpmail-native-mode)
      (remove-hook 'smtpmail-native-changed-functions
                   #'smtpmail-native-stock-index-note)
    (setq smtpmail-native-mode--told nil)
    (add-hook 'smtpmail-native-changed-functions
              #'smtpmail-native-stock-index-note)
    ;; The rest of the init file may have more to say of the server.
    (if after-init-time
        (smtpmail-native-mode--begin)
      (add-hook 'after-init-hook #'smtpmail-native-mode--begin))))

(defun smtpmail-native-mode-unload-function ()
  "Give stock smtpmail back: take the advice away and undo the hooks."
  (smtpmail-native-mode -1)
  (remove-hook 'after-init-hook #'smtpmail-native-mode--begin)
  (remove-hook 'smtpmail-native-changed-functions #'smtpmail-native-draw-note)
  ;; The rest is done as usual.
  nil)

(defun smtpmail-native-mode--advised-p ()
  "Return non-nil if there is other advice on `smtpmail-via-smtp'."
  (let ((others nil))
    (advice-mapc (lambda (function _properties)
                   (unless (eq function #'smtpmail-native-mode--via-smtp)
                     (setq others t)))
                 'smtpmail-via-smtp)
    others))

(defun smtpmail-native-mode--by-advice (mail)
  "Let MAIL go through `smtpmail-via-smtp', and what users advise it to do.
Return what that returns.  As there the current buffer is that of the
message, and `smtpmail-mail-address' bound."
  (let ((source (current-buffer)))
    ;; Advice may read the message.
    (when (smtpmail-native-mode--advised-p)
      (smtpmail-native-body-fill (plist-get mail :buffer)))
    (with-current-buffer (plist-get mail :buffer)
      (dolist (local (buffer-local-variables source))
        (when (and (consp local)
                   (string-prefix-p "smtpmail-" (symbol-name (car local)))
                   (not (eq (car local) 'smtpmail-mail-address)))
          (set (make-local-variable (car local)) (cdr local))))
      (let ((smtpmail-native-mode--mail mail)
            (smtpmail-mail-address (plist-get mail :sender)))
        (smtpmail-via-smtp (plist-get mail :recipients) (current-buffer))))))

(defun smtpmail-native-mode-hand-over (mail)
  "Hand MAIL, a plist of `smtpmail-native-message-prepare', to the outbox.
It goes through `smtpmail-via-smtp' while the mode is on, because users
advise that to choose the account.  Signal a child of
`smtpmail-native-error' if it was not sent or put into the outbox."
  (if (not smtpmail-native-mode)
      (smtpmail-native-queue-hand-over mail)
    (let* ((smtpmail-native-mode--outcome nil)
           (complaint (smtpmail-native-mode--by-advice mail))
           (outcome smtpmail-native-mode--outcome))
      ;; What advice makes of it counts, but not after the message has gone.
      (cond ((eq outcome t))
            ((null complaint))
            (outcome (signal (car outcome) (cdr outcome)))
            (t (smtpmail-native-error-signal 'smtpmail-native-error
                                             (format "%s" complaint)))))))

(defvar smtpmail-native-mode--stock nil
  "Non-nil while stock smtpmail sends a message that was given to us.")

(defun smtpmail-native-mode--stock-send-p ()
  "Send the message in the current buffer by stock smtpmail, if it must.
That is so when `smtpmail-auth-supported' has a mechanism that only stock
smtpmail supports, by a method of `smtpmail-try-auth-method'.  Return
non-nil, and tell the user why, if it was sent."
  (let ((mechanism (smtpmail-native-mechanism-foreign)))
    (when mechanism
      (when smtpmail-native-mode--stock
        (smtpmail-native-error-signal
         'smtpmail-native-usage-error
         (format "Only stock smtpmail supports %s, and advice on `smtpmail-send-it' keeps it from sending" mechanism)))
      (message "Sending with stock smtpmail: only it supports %s (see \
`smtpmail-auth-supported')" mechanism)
      (require 'smtpmail)
      ;; The mode's own advice lets it pass.
      (let ((smtpmail-native-mode--stock t))
        (smtpmail-send-it))
      t)))

(defun smtpmail-native-mode-send ()
  "Send the message in the current buffer, by stock smtpmail if it must."
  (unless (smtpmail-native-mode--stock-send-p)
    (smtpmail-native-queue-buffer #'smtpmail-native-mode-hand-over)))

(declare-function smtpmail-send-it "smtpmail" ())
(declare-function smtpmail-via-smtp "smtpmail"
                  (recipient smtpmail-text-buffer
                             &optional ask-for-password send-attempts))

(provide 'smtpmail-native-mode)
;;; smtpmail-native-mode.el ends here
