;;; smtpmail-native-command.el --- Commands on the outbox as a whole  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What you can say without looking at the outbox: send what waits, undo the last
;; message, enter what is missing, and begin to send by itself.

;;; Code:

(require 'smtpmail-native-act)
(require 'smtpmail-native-ask)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-draft)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-index)
(require 'smtpmail-native-load)
(require 'smtpmail-native-watch)

(defmacro smtpmail-native-command-worded (&rest body)
  "Run BODY; an error of the outbox is the user's error, and worded as such."
  (declare (indent 0) (debug t))
  `(condition-case err
       (progn ,@body)
     (smtpmail-native-error (user-error "%s" (cadr err)))))

(defun smtpmail-native-command-edit (id)
  "Make a draft of the entry ID, which is deleted then."
  (smtpmail-native-command-worded
    (when (smtpmail-native-attempt-sending id)
      (user-error "This message is being sent; cancel it first"))
    (smtpmail-native-act-take-back id #'smtpmail-native-draft-restore)))

;;;###autoload
(defun smtpmail-native-start ()
  "Send the waiting messages of the outbox in the background.
They include those of earlier Emacs sessions.  The global mode and the
first message that you send do the same."
  (interactive)
  (smtpmail-native-command-worded
    (smtpmail-native-load)
    (smtpmail-native-act-ask-before-quit)
    (smtpmail-native-watch-start)))

;;;###autoload
(defun smtpmail-native-flush-queue ()
  "Send all waiting messages now, including queued ones.
Messages that you hold, that were refused or that may have been delivered
are left alone.  If you quit, this goes on by itself."
  (interactive)
  (smtpmail-native-command-worded
    (let* ((count (smtpmail-native-act-flush))
           (needy (smtpmail-native-index-count
                   #'smtpmail-native-entry-needs-user-p)))
      (message "%s%s"
               (pcase count
                 (0 "No messages to send")
                 (1 "Sending 1 message")
                 (_ (format "Sending %d messages" count)))
               (if (> needy 0) (format "; %d need attention" needy) "")))))

;;;###autoload
(defun smtpmail-native-undo-send ()
  "Undo the last send and turn its message back into a draft.
That is possible for `smtpmail-native-undo-seconds' after you sent it.  A
message that is scheduled for later is not the last send."
  (interactive)
  (let ((id (smtpmail-native-act-undo-candidate)))
    (unless id
      (user-error "Nothing to undo: no message is waiting for its undo time"))
    (smtpmail-native-command-edit id)))

;;;###autoload
(defun smtpmail-native-unlock ()
  "Ask for the passwords and certificates that held messages need.
Nothing else asks for them while you do something else; the mode line and a
line in the echo area say that something is missing."
  (interactive)
  (smtpmail-native-command-worded
    (when (= 0 (smtpmail-native-ask-all))
      (message "No message is waiting for a password or certificate"))))

;;;###autoload
(defun smtpmail-native-save-passwords ()
  "Offer to save the passwords that you typed and a server has accepted.
That is for those that were typed while no command sent a message; auth-source
asks where to save them."
  (interactive)
  (unless smtpmail-native-auth--unsaved
    (user-error "No password to save"))
  (smtpmail-native-auth-save-pending))

(provide 'smtpmail-native-command)
;;; smtpmail-native-command.el ends here
