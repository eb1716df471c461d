;;; smtpmail-native-show.el --- The buffer of one message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A message of the outbox in a window, with the keys of the list for it, and
;; the way to the next one.

;;; Code:

(require 'easymenu)
(require 'smtpmail-native-act)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-react)
(require 'smtpmail-native-row)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-view)

(defconst smtpmail-native-show--name "*smtpmail-native mail*"
  "The name of the buffer of a message.")

(defvar-local smtpmail-native-show--id nil
  "The id of the entry that this buffer shows.")

;;;; Its keys

(defmacro smtpmail-native-show--command (name document &rest body)
  "Define the command NAME with DOCUMENT: BODY, with `id' bound to the message."
  (declare (indent 1) (doc-string 2) (debug t))
  `(defun ,name ()
     ,document
     (interactive nil smtpmail-native-show-mode)
     (let ((id smtpmail-native-show--id))
       ,@body
       (smtpmail-native-show--again))))

(defun smtpmail-native-show--again ()
  "Show the message of this buffer as it is now; if it is gone, end."
  (let ((buffer (get-buffer smtpmail-native-show--name)))
    (when buffer
      (with-current-buffer buffer
        (if (smtpmail-native-index-entry smtpmail-native-show--id)
            (smtpmail-native-show--draw)
          (let ((window (get-buffer-window buffer)))
            (if window
                (quit-window t window)
              (kill-buffer buffer))))))))

(smtpmail-native-show--command smtpmail-native-show-edit
  "Edit the message as a new one; it leaves the outbox."
  (smtpmail-native-react 'edit id))

(smtpmail-native-show--command smtpmail-native-show-send
  "Send the message now, whatever it waits for."
  (smtpmail-native-react 'send id))

(smtpmail-native-show--command smtpmail-native-show-hold
  "Hold the message until you send it."
  (smtpmail-native-react 'hold id))

(smtpmail-native-show--command smtpmail-native-show-delete
  "Delete the message without sending it, after confirmation."
  (smtpmail-native-react 'delete id))

(smtpmail-native-show--command smtpmail-native-show-mark-sent
  "Mark the message as sent, after confirmation."
  (smtpmail-native-react 'delivered id))

(smtpmail-native-show--command smtpmail-native-show-trace
  "Show the trace of the SMTP session, or the stored reason."
  (smtpmail-native-show-trace-of id))

(defun smtpmail-native-show--move (ids)
  "Show the message that follows the one of this buffer in IDS."
  (let ((next (cadr (member smtpmail-native-show--id ids))))
    (unless next
      (user-error "No more messages"))
    (setq smtpmail-native-show--id next)
    (smtpmail-native-show--draw)))

(defun smtpmail-native-show-next ()
  "Show the next message of the outbox."
  (interactive nil smtpmail-native-show-mode)
  (smtpmail-native-show--move (smtpmail-native-index-select #'identity)))

(defun smtpmail-native-show-previous ()
  "Show the previous message of the outbox."
  (interactive nil smtpmail-native-show-mode)
  (smtpmail-native-show--move
   (reverse (smtpmail-native-index-select #'identity))))

(defvar smtpmail-native-show-mode-map
  (let ((map (make-sparse-keymap)))
    (set-keymap-parent map special-mode-map)
    (define-key map "e" #'smtpmail-native-show-edit)
    (define-key map "s" #'smtpmail-native-show-send)
    (define-key map "h" #'smtpmail-native-show-hold)
    (define-key map "D" #'smtpmail-native-show-delete)
    (define-key map "a" #'smtpmail-native-show-mark-sent)
    (define-key map "t" #'smtpmail-native-show-trace)
    (define-key map "n" #'smtpmail-native-show-next)
    (define-key map "p" #'smtpmail-native-show-previous)
    map)
  "Keymap of `smtpmail-native-show-mode'.")

(easy-menu-define smtpmail-native-show--menu smtpmail-native-show-mode-map
  "Menu of one message of the outbox."
  '("Outbox"
    ["Edit as a New Message" smtpmail-native-show-edit]
    ["Send Now" smtpmail-native-show-send]
    ["Hold" smtpmail-native-show-hold]
    ["It Was Delivered..." smtpmail-native-show-mark-sent]
    ["Delete..." smtpmail-native-show-delete]
    "--"
    ["Trace of the SMTP Session" smtpmail-native-show-trace]
    ["Next Message" smtpmail-native-show-next]
    ["Previous Message" smtpmail-native-show-previous]
    ["Close" quit-window]))

(define-derived-mode smtpmail-native-show-mode special-mode "Outbox Message"
  "Major mode for one message of the outbox.

\\{smtpmail-native-show-mode-map}"
  :interactive nil
  (setq header-line-format
        (substitute-command-keys
         "\\<smtpmail-native-show-mode-map> \
\\[smtpmail-native-show-edit] edit  \\[smtpmail-native-show-send] send  \
\\[smtpmail-native-show-hold] hold  \\[smtpmail-native-show-delete] delete  \
\\[smtpmail-native-show-trace] trace  \\[smtpmail-native-show-next] next  \
\\[quit-window] quit")))

;;;; Showing it

(defun smtpmail-native-show--draw ()
  "Draw the message of the current buffer."
  (let ((entry (smtpmail-native-react-entry smtpmail-native-show--id))
        (inhibit-read-only t))
    (erase-buffer)
    (smtpmail-native-view-insert entry (smtpmail-native-row-state entry))
    (set-buffer-modified-p nil)
    (goto-char (point-min))))

(defun smtpmail-native-show (id)
  "Show the message ID and what is known of it; return the buffer.
Signal a `user-error' if it is gone."
  (smtpmail-native-react-entry id)
  (let ((buffer (get-buffer-create smtpmail-native-show--name)))
    (with-current-buffer buffer
      (unless (derived-mode-p 'smtpmail-native-show-mode)
        (smtpmail-native-show-mode))
      (setq smtpmail-native-show--id id)
      (smtpmail-native-show--draw))
    (pop-to-buffer buffer)
    buffer))

;;;; Its trace

(defun smtpmail-native-show--stored (id)
  "Return why the message ID is not sent, as its entry stores it, or nil.
The reason outlives the session that has the trace."
  (let* ((entry (smtpmail-native-index-entry id))
         (reason (and entry (smtpmail-native-row-reason entry))))
    (and reason
         (not (equal reason ""))
         (format "This Emacs session has no trace of the message.  \
The last reason on disk is:\n\n%s\n"
                 reason))))

(defun smtpmail-native-show-trace-of (id)
  "Show the trace of the SMTP session for the message ID.
If another Emacs session made the last attempt, show the reason that it
has stored.  Signal a `user-error' if there is neither."
  (let ((text (or (smtpmail-native-tell-trace id)
                  (smtpmail-native-show--stored id)
                  (user-error "No trace: this Emacs session has not tried \
to send this message")))
        (buffer (get-buffer-create "*smtpmail-native trace*")))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (insert text)
        (goto-char (point-min)))
      (special-mode))
    (display-buffer buffer)))

(provide 'smtpmail-native-show)
;;; smtpmail-native-show.el ends here
