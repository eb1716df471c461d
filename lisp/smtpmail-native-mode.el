;;; smtpmail-native-mode.el --- In place of smtpmail, everywhere  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The global mode puts three functions of smtpmail out of the way and leaves
;; every setting as it is: programs and users that name, call or advise them go
;; on as before.  Its own advice is the innermost, so that what users advise
;; `smtpmail-via-smtp' to set is what counts.

;;; Code:

(require 'smtpmail-native-queue)
(require 'smtpmail-native-stock)

(declare-function smtpmail-native--hand-over "smtpmail-native" (mail))
(declare-function smtpmail-native-send-it "smtpmail-native" ())

(defvar smtpmail-native-mode--mail nil
  "The mail that is on its way through `smtpmail-via-smtp', a plist.
Nil where that function is called for its own sake.")

(defun smtpmail-native-mode--ready-p ()
  "Return non-nil if the module can be used; else say once that it cannot."
  (or (smtpmail-native-load-available-p)
      (ignore
       (message "smtpmail-native: the module is not built, smtpmail itself \
sends this mail (M-x smtpmail-native-build-module)"))))

(defun smtpmail-native-mode--send-directly (recipients buffer)
  "Send the message in BUFFER as it is to RECIPIENTS, a list of strings.
Wait for the outcome; return nil if it was sent, else what went wrong."
  (condition-case err
      (let ((mail (smtpmail-native-message-as-it-is buffer recipients)))
        (unwind-protect
            (ignore (smtpmail-native-queue-send mail 'wait))
          (kill-buffer (plist-get mail :buffer))))
    (smtpmail-native-error
     (format "%s: %s" (get (car err) 'error-message) (cadr err)))))

(defun smtpmail-native-mode--via-smtp (stock recipients buffer &rest more)
  "Do what `smtpmail-via-smtp', STOCK, does: send BUFFER to RECIPIENTS.
MORE are its other arguments, for STOCK alone.  Return nil if the mail was
sent, or put into the outbox by `smtpmail-native-send-it'; else a string
that tells what went wrong."
  (let ((mail smtpmail-native-mode--mail)
        (smtpmail-native-mode--mail nil))
    (cond
     ((and mail (eq buffer (plist-get mail :buffer)))
      ;; Advice may have chosen other recipients.
      (ignore (smtpmail-native--hand-over
               (plist-put (copy-sequence mail) :recipients recipients))))
     ((smtpmail-native-mode--ready-p)
      (smtpmail-native-mode--send-directly recipients buffer))
     ((apply stock recipients buffer more)))))

(defun smtpmail-native-mode--send-it (stock)
  "Send the mail in the current buffer; in place of `smtpmail-send-it', STOCK."
  (if (smtpmail-native-mode--ready-p)
      (smtpmail-native-send-it)
    (funcall stock)))

(defun smtpmail-native-mode--send-queued-mail (stock)
  "Send what is queued; in place of `smtpmail-send-queued-mail', STOCK."
  (if (not (smtpmail-native-mode--ready-p))
      (funcall stock)
    (smtpmail-native-stock-adopt)
    (let ((count (if noninteractive
                     (smtpmail-native-queue-flush-waiting)
                   (smtpmail-native-queue-flush))))
      (when (integerp count)
        (message (if (= count 1) "Sending %d mail" "Sending %d mails") count)))))

(defconst smtpmail-native-mode--advice
  '((smtpmail-via-smtp . smtpmail-native-mode--via-smtp)
    (smtpmail-send-it . smtpmail-native-mode--send-it)
    (smtpmail-send-queued-mail . smtpmail-native-mode--send-queued-mail))
  "Functions of smtpmail, and what goes around them.")

;;;###autoload
(define-minor-mode smtpmail-native-mode
  "Send mail natively wherever Emacs would use smtpmail.
`smtpmail-send-it', `smtpmail-via-smtp' and `smtpmail-send-queued-mail' are
advised; no setting is changed.  Mail that smtpmail has queued is taken into
the outbox, and sent when the queue is flushed.  As long as the module is
not built, smtpmail goes on as before."
  :global t
  :group 'smtpmail-native
  (require 'smtpmail)
  (pcase-dolist (`(,function . ,around) smtpmail-native-mode--advice)
    (if smtpmail-native-mode
        (advice-add function :around around '((depth . 100)))
      (advice-remove function around)))
  (if (not smtpmail-native-mode)
      (remove-hook 'smtpmail-native-queue-changed-functions
                   #'smtpmail-native-stock-note-change)
    (add-hook 'smtpmail-native-queue-changed-functions
              #'smtpmail-native-stock-note-change)
    (when (smtpmail-native-load-available-p)
      (condition-case err
          (smtpmail-native-stock-adopt)
        (smtpmail-native-error
         (display-warning 'smtpmail-native (cadr err)))))))

(defun smtpmail-native-mode-hand-over (mail)
  "Hand MAIL, a plist of `smtpmail-native-message-prepare', to the outbox.
It goes by way of `smtpmail-via-smtp' while the mode is on, because users
advise that to choose the account."
  (if (not smtpmail-native-mode)
      (smtpmail-native--hand-over mail)
    (let ((smtpmail-native-mode--mail mail))
      (smtpmail-via-smtp (plist-get mail :recipients)
                         (plist-get mail :buffer)))))

(declare-function smtpmail-via-smtp "smtpmail"
                  (recipient smtpmail-text-buffer
                             &optional ask-for-password send-attempts))

(provide 'smtpmail-native-mode)
;;; smtpmail-native-mode.el ends here
