;;; smtpmail-native-react.el --- What you say of one message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What keys of the outbox and buttons of notices do with one message: they read
;; it again, ask where you cannot undo it, and act.

;;; Code:

(require 'tabulated-list)
(require 'smtpmail-native-act)
(require 'smtpmail-native-command)
(require 'smtpmail-native-draw)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-job)
(require 'smtpmail-native-outbox)

(defmacro smtpmail-native-react-doing (&rest body)
  "Run BODY, then show what it has led to."
  (declare (indent 0) (debug t))
  `(unwind-protect
       (smtpmail-native-command-worded ,@body)
     (smtpmail-native-draw-update)))

(defun smtpmail-native-react-entry (id)
  "Return the entry ID, read again; signal an error if there is none."
  (or (smtpmail-native-outbox-get id)
      (progn
        (smtpmail-native-index-drop id)
        (user-error "This message is no longer in the outbox"))))

(defun smtpmail-native-react--name (entry)
  "Return a few words that tell ENTRY from others."
  (if (smtpmail-native-entry-envelope entry)
      (smtpmail-native-entry-title entry)
    "the damaged message"))

(defun smtpmail-native-react--sure-p (entry question)
  "Return non-nil unless ENTRY may have been delivered and QUESTION gets a no."
  (or (not (smtpmail-native-entry-doubt-p entry))
      (y-or-n-p (format "%s may already have been delivered.  %s? "
                        (let ((name (smtpmail-native-react--name entry)))
                          (concat (upcase (substring name 0 1))
                                  (substring name 1)))
                        question))))

(defun smtpmail-native-react-edit (id)
  "Edit the message ID as a new one; it leaves the outbox."
  (when (smtpmail-native-react--sure-p (smtpmail-native-react-entry id)
                                       "Edit it as a new message")
    (smtpmail-native-react-doing
      (smtpmail-native-command-edit id))))

(defun smtpmail-native-react-send (id)
  "Send the message ID now, whatever it waits for."
  (let ((entry (smtpmail-native-react-entry id)))
    (when (smtpmail-native-react--sure-p entry "Send it again")
      (smtpmail-native-react-doing
        (smtpmail-native-act-retry id
                                   (smtpmail-native-entry-doubt-p entry))))))

(defun smtpmail-native-react-hold (id)
  "Hold the message ID until you send it."
  (smtpmail-native-react-doing
    (smtpmail-native-act-hold id)))

(defun smtpmail-native-react-delete (id)
  "Delete the message ID without sending it, after confirmation."
  (when (yes-or-no-p (format "Delete %s without sending it? "
                             (smtpmail-native-react--name
                              (smtpmail-native-react-entry id))))
    (smtpmail-native-react-doing
      (smtpmail-native-act-delete id))))

(defun smtpmail-native-react-mark-sent (id)
  "Mark the message ID as sent, after confirmation.
This is for an unconfirmed message that you know was delivered."
  (let ((entry (smtpmail-native-react-entry id)))
    (unless (and (smtpmail-native-entry-doubt-p entry)
                 (null (smtpmail-native-entry-problem entry)))
      (user-error "Only an unconfirmed message can be marked as sent"))
    (when (y-or-n-p (format "Mark %s as sent? "
                            (smtpmail-native-react--name entry)))
      (smtpmail-native-react-doing
        (smtpmail-native-act-mark-sent id)))))

(defun smtpmail-native-react-change-server (id)
  "Send the message ID through the server that the options name now.
The server for a message is that of the moment at which you send it; this is
for one whose name was wrong.  You are asked first."
  (let* ((entry (smtpmail-native-react-entry id))
         (envelope (smtpmail-native-entry-envelope entry))
         (account (smtpmail-native-command-worded
                    (smtpmail-native-job-account-for
                     (or (plist-get envelope :from) ""))))
         (name (lambda (plist)
                 (format "%s:%s"
                         (smtpmail-native-error-text (plist-get plist :host))
                         (plist-get plist :port)))))
    (unless envelope
      (user-error "This message is damaged"))
    (when (y-or-n-p (format "Its server is %s; send it through %s now? "
                            (funcall name envelope) (funcall name account)))
      (smtpmail-native-react-doing
        (smtpmail-native-act-change-server id account)))))

(defun smtpmail-native-react-outbox (id)
  "Show the outbox, with point at the message ID."
  (command-execute 'smtpmail-native-outbox)
  (goto-char (point-min))
  (while (not (or (eobp) (equal id (tabulated-list-get-id))))
    (forward-line))
  (when (eobp)
    (goto-char (point-min))))

(defconst smtpmail-native-react--actions
  '((edit . smtpmail-native-react-edit)
    (send . smtpmail-native-react-send)
    (try . smtpmail-native-react-send)
    (again . smtpmail-native-react-send)
    ;; To send it asks for what it waits for.
    (password . smtpmail-native-react-send)
    (certificate . smtpmail-native-react-send)
    (hold . smtpmail-native-react-hold)
    (delete . smtpmail-native-react-delete)
    (delivered . smtpmail-native-react-mark-sent)
    (outbox . smtpmail-native-react-outbox))
  "What the buttons of a notice do.")

(defun smtpmail-native-react (action id)
  "Do ACTION, that of a button of a notice, with the message ID.
Signal a `user-error' if the message is gone."
  (pcase action
    ('where (command-execute 'smtpmail-native-explain-credentials))
    ('save (smtpmail-native-save-passwords))
    (_ (funcall (alist-get action smtpmail-native-react--actions) id))))

(provide 'smtpmail-native-react)
;;; smtpmail-native-react.el ends here
