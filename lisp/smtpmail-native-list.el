;;; smtpmail-native-list.el --- The outbox buffer  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The list of the outbox, and the keys with which you act on its messages.  It
;; shows what is known in memory.  All that a thousand events lead to is done by
;; one timer, a few times in a second at most, and only the lines that have
;; changed are drawn.

;;; Code:

(require 'easymenu)
(require 'seq)
(require 'tabulated-list)
(require 'smtpmail-native-act)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-command)
(require 'smtpmail-native-draw)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-leftovers)
(require 'smtpmail-native-line)
(require 'smtpmail-native-mark)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-react)
(require 'smtpmail-native-row)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-show)
(require 'smtpmail-native-watch)

(defconst smtpmail-native-list--rescan 10
  "Seconds after which a list that is seen looks for entries of other sessions.")

(defconst smtpmail-native-list--patience 0.1
  "Seconds that a command takes to read, and to draw; the rest comes later.")

(defvar-local smtpmail-native-list--ticker nil
  "The timer that keeps ages and the like right while the list is seen.")

(defvar-local smtpmail-native-list--rescanned 0
  "When this list has last looked for entries of other sessions.")

(defun smtpmail-native-list--look ()
  "Look at the outbox for what other sessions have done."
  (setq smtpmail-native-list--rescanned (float-time))
  (if smtpmail-native-schedule--started
      (smtpmail-native-watch-look)
    (smtpmail-native-index-look)))

(defun smtpmail-native-list--tick (buffer)
  "Keep what BUFFER shows right while it is seen."
  (when (and (buffer-live-p buffer) (get-buffer-window buffer 'visible))
    (with-current-buffer buffer
      (when (> (- (float-time) smtpmail-native-list--rescanned)
               smtpmail-native-list--rescan)
        (smtpmail-native-list--look))
      (smtpmail-native-index-step (+ (float-time) smtpmail-native-index-slice))
      (smtpmail-native-draw-seen))
    (smtpmail-native-draw-later)))

(defun smtpmail-native-list--stop-ticking ()
  "End the ticker of this buffer, which is about to be killed."
  (when smtpmail-native-list--ticker
    (cancel-timer smtpmail-native-list--ticker)))

;;;; The list

(defvar smtpmail-native-outbox-mode-map
  (let ((map (make-sparse-keymap)))
    (set-keymap-parent map tabulated-list-mode-map)
    (define-key map (kbd "RET") #'smtpmail-native-list-show)
    (define-key map [mouse-2] #'smtpmail-native-list-mouse-show)
    (define-key map [follow-link] 'mouse-face)
    (define-key map "e" #'smtpmail-native-list-edit)
    (define-key map "s" #'smtpmail-native-list-send)
    (define-key map "h" #'smtpmail-native-list-hold)
    (define-key map "c" #'smtpmail-native-list-cancel)
    (define-key map "D" #'smtpmail-native-list-delete)
    (define-key map "a" #'smtpmail-native-list-mark-sent)
    (define-key map "S" #'smtpmail-native-list-change-server)
    (define-key map "t" #'smtpmail-native-list-trace)
    (define-key map "F" #'smtpmail-native-list-unfiled)
    (define-key map "f" #'smtpmail-native-flush-queue)
    (define-key map "/" #'smtpmail-native-list-filter)
    (define-key map "m" #'smtpmail-native-mark)
    (define-key map "d" #'smtpmail-native-mark-for-deletion)
    (define-key map "u" #'smtpmail-native-mark-remove)
    (define-key map "U" #'smtpmail-native-mark-remove-all)
    (define-key map "x" #'smtpmail-native-mark-execute)
    (define-key map "?" #'describe-mode)
    map)
  "Keymap of `smtpmail-native-outbox-mode'.")

(easy-menu-define smtpmail-native-list--menu smtpmail-native-outbox-mode-map
  "Menu of the outbox."
  '("Outbox"
    ["View" smtpmail-native-list-show]
    ["Edit as a New Message" smtpmail-native-list-edit]
    ["Send Now" smtpmail-native-list-send]
    ["Send by the Present Server..." smtpmail-native-list-change-server]
    ["Hold" smtpmail-native-list-hold]
    ["Cancel Sending" smtpmail-native-list-cancel]
    ["It Was Delivered..." smtpmail-native-list-mark-sent]
    ["Delete..." smtpmail-native-list-delete]
    ["Trace of the SMTP Session" smtpmail-native-list-trace]
    "--"
    ["Mark" smtpmail-native-mark]
    ["Mark for Deletion" smtpmail-native-mark-for-deletion]
    ["Remove Mark" smtpmail-native-mark-remove]
    ["Remove All Marks" smtpmail-native-mark-remove-all]
    ["Delete Marked Messages..." smtpmail-native-mark-execute]
    "--"
    ["Send All Waiting Messages" smtpmail-native-flush-queue]
    ["Enter Missing Passwords..." smtpmail-native-unlock]
    ["Undo Last Send" smtpmail-native-undo-send]
    ["Show Some States Only..." smtpmail-native-list-filter]
    ["Notices" smtpmail-native-notices]
    ["Sent Messages without a Filed Copy" smtpmail-native-list-unfiled]
    ["Keys and States" describe-mode]))

(defun smtpmail-native-list--context-menu (menu click)
  "Add the commands for the message at CLICK to MENU, and return it.
For `context-menu-functions'."
  (mouse-set-point click)
  (when (tabulated-list-get-id)
    (define-key-after menu [smtpmail-native-separator] menu-bar-separator)
    (dolist (item (reverse '((view "View" smtpmail-native-list-show)
                             (edit "Edit as a New Message"
                                   smtpmail-native-list-edit)
                             (send "Send Now" smtpmail-native-list-send)
                             (hold "Hold" smtpmail-native-list-hold)
                             (trace "Trace of the SMTP Session"
                                    smtpmail-native-list-trace)
                             (delete "Delete..." smtpmail-native-list-delete))))
      (define-key-after menu (vector (intern (format "smtpmail-native-%s"
                                                     (nth 0 item))))
        (list 'menu-item (nth 1 item) (nth 2 item))
        'smtpmail-native-separator)))
  menu)

(defun smtpmail-native-list--by (column)
  "Return a predicate for sorting the rows that are drawn at once by COLUMN."
  (lambda (a b)
    (let ((a (smtpmail-native-index-entry (car a)))
          (b (smtpmail-native-index-entry (car b))))
      (and a b
           (smtpmail-native-draw-less-p
            (smtpmail-native-draw-key a column)
            (smtpmail-native-draw-key b column))))))

(defconst smtpmail-native-list--room 112
  "Columns of a window in which each column of the list has enough room.")

(defun smtpmail-native-list--format ()
  "Return the columns of the list; To and Subject get the room that there is."
  (let* ((window (get-buffer-window nil t))
         (width (if window (window-width window) (frame-width)))
         (more (max 0 (/ (- width smtpmail-native-list--room) 3))))
    (vector '("State" 14 t)
            (list "To" (min 40 (+ 20 more)) t)
            (list "Subject" (min 50 (+ 18 more)) t)
            (list "Size" 5 (smtpmail-native-list--by "Size") :right-align t)
            (list "Age" 4 (smtpmail-native-list--by "Age") :right-align t)
            (list "Tries" 5 (smtpmail-native-list--by "Tries") :right-align t)
            (list "Next" 4 (smtpmail-native-list--by "Next") :right-align t)
            '("Reason" 0 nil))))

(define-derived-mode smtpmail-native-outbox-mode tabulated-list-mode "Outbox"
  "Major mode for the list of messages that have not been sent yet.

\\<smtpmail-native-outbox-mode-map>\
\\[smtpmail-native-list-show]	View the message and its delivery status
\\[smtpmail-native-list-edit]	Edit it as a new draft and remove it from the outbox
\\[smtpmail-native-list-send]	Send it now
\\[smtpmail-native-list-hold]	Hold it until you send it
\\[smtpmail-native-list-cancel]	Cancel sending and hold it
\\[smtpmail-native-list-delete]	Delete it without sending it
\\[smtpmail-native-list-mark-sent]	Mark it as sent (it was delivered)
\\[smtpmail-native-list-change-server]	Send it through the server that your options name now
\\[smtpmail-native-list-trace]	Show the trace of the SMTP session
\\[smtpmail-native-list-unfiled]	Open the sent messages whose copy could not be filed
\\[smtpmail-native-list-filter]	Show messages of one state only
\\[smtpmail-native-flush-queue]	Send all waiting messages

\\[smtpmail-native-mark]	Mark it; sending, holding and deleting then act on all marked messages
\\[smtpmail-native-mark-for-deletion]	Mark it for deletion
\\[smtpmail-native-mark-remove], \\[smtpmail-native-mark-remove-all]	Remove its mark, or all marks
\\[smtpmail-native-mark-execute]	Delete the messages that are marked for deletion

State		What it means
undo 5s		Emacs sends it in 5 s; type \\[smtpmail-native-undo-send] to undo
sending 42%	Emacs is sending it
waiting		Emacs will send it
retry in 4m	Emacs will try again
until 22:52	Emacs will send it at that time
queued		type \\[smtpmail-native-flush-queue] to send queued mail
held		you held or cancelled it, or see Reason
password	type \\[smtpmail-native-list-send] to enter the password
certificate	the server's certificate is not trusted; type
		\\[smtpmail-native-list-send] to see it and decide
settings	an option does not fit this server; see Reason, change
		it, then edit the message and send it
refused		the server refused it; edit it or send it again
gave up		Emacs gave up after `smtpmail-native-expire' seconds
unconfirmed	sent, but the server did not confirm that it accepted the
		message: check whether it was delivered, then mark it as
		sent or send it again
damaged		some of its files were changed or lost
sent		sent; only cleaning up remains

\\{smtpmail-native-outbox-mode-map}"
  :interactive nil
  (setq tabulated-list-format (smtpmail-native-list--format)
        tabulated-list-entries #'smtpmail-native-draw-rows
        tabulated-list-printer #'smtpmail-native-draw-print
        tabulated-list-padding 2
        mode-line-process '(:eval (smtpmail-native-list--filter-name)))
  (tabulated-list-init-header)
  (add-hook 'context-menu-functions #'smtpmail-native-list--context-menu
            nil t)
  (setq-local revert-buffer-function #'smtpmail-native-list--revert)
  (add-hook 'eldoc-documentation-functions #'smtpmail-native-list--eldoc nil t)
  (eldoc-mode)
  (add-hook 'kill-buffer-hook #'smtpmail-native-list--stop-ticking nil t)
  (setq smtpmail-native-list--ticker
        (run-at-time 1 1 #'smtpmail-native-quiet-call
                     #'smtpmail-native-list--tick (current-buffer))))

(defun smtpmail-native-list--show ()
  "Draw what is known of the outbox."
  (setq tabulated-list-format (smtpmail-native-list--format))
  (tabulated-list-init-header)
  (smtpmail-native-draw-all)
  (smtpmail-native-line-update))

(defun smtpmail-native-list--revert (&rest _)
  "Read the outbox again and show it."
  (smtpmail-native-command-worded
    (smtpmail-native-list--look)
    (smtpmail-native-index-complete smtpmail-native-list--patience)
    (smtpmail-native-list--show)))

(defun smtpmail-native-list--eldoc (&rest _)
  "Return why the message at point is not sent yet, in full, or nil."
  (let* ((id (tabulated-list-get-id))
         (entry (and id (smtpmail-native-index-entry id)))
         (reason (and entry (smtpmail-native-row-reason entry))))
    (and reason (not (equal reason "")) reason)))

;;;###autoload
(defun smtpmail-native-outbox ()
  "Show the outbox and act on its messages."
  (interactive)
  (let ((buffer (get-buffer-create "*smtpmail-native outbox*")))
    (with-current-buffer buffer
      (unless (derived-mode-p 'smtpmail-native-outbox-mode)
        (smtpmail-native-outbox-mode))
      (unless noninteractive
        (smtpmail-native-watch-ensure))
      (if (and (smtpmail-native-index-fresh-p) (not noninteractive))
          (progn
            (smtpmail-native-list--show)
            (smtpmail-native-quiet-timer 0.1 #'smtpmail-native-list--look))
        (smtpmail-native-list--revert)))
    (pop-to-buffer buffer)
    (smtpmail-native-list--tell-unfiled)))

;;;; Copies that could not be filed

(defun smtpmail-native-list--tell-unfiled ()
  "Say how many messages were sent whose copy could not be filed, if any."
  (let ((count (length (smtpmail-native-leftovers-unfiled))))
    (when (> count 0)
      (message "%d sent message%s could not be filed; type %s to see %s"
               count (if (= count 1) "" "s")
               (substitute-command-keys
                "\\<smtpmail-native-outbox-mode-map>\
\\[smtpmail-native-list-unfiled]")
               (if (= count 1) "it" "them")))))

(defun smtpmail-native-list-unfiled ()
  "Open the folder of sent messages whose copy could not be filed.
They are kept until you delete them there."
  (interactive)
  (let ((files (smtpmail-native-command-worded
                 (smtpmail-native-leftovers-unfiled))))
    (unless files
      (user-error "All copies of sent messages have been filed"))
    (dired (file-name-directory (car files)))))

;;;; Keys

(defun smtpmail-native-list--id ()
  "Return the id of the entry at point; signal an error if there is none."
  (or (tabulated-list-get-id) (user-error "No message on this line")))

(defun smtpmail-native-list-show ()
  "View the message at point and its delivery status."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-show (smtpmail-native-list--id)))

(defun smtpmail-native-list-mouse-show (event)
  "View the message that EVENT, a click, is on."
  (interactive "e" smtpmail-native-outbox-mode)
  (mouse-set-point event)
  (smtpmail-native-list-show))

(defun smtpmail-native-list-edit ()
  "Edit the message at point as a new one; it leaves the outbox.
The draft is for those recipients who have not received it."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-react-edit (smtpmail-native-list--id)))

(defun smtpmail-native-list-send ()
  "Send the marked messages, or the one at point, now, whatever they wait for."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-mark-act #'smtpmail-native-react-send "being sent"
                            #'smtpmail-native-mark-sender))

(defun smtpmail-native-list-hold ()
  "Hold the marked messages, or the one at point, until you send them."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-mark-act #'smtpmail-native-react-hold "held"
                            (lambda (_ids) #'smtpmail-native-act-hold)))

(defun smtpmail-native-list-delete ()
  "Delete the marked messages, or the one at point, after confirmation."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-mark-act #'smtpmail-native-react-delete "deleted"
                            #'smtpmail-native-mark-deleter))

(defun smtpmail-native-list-cancel ()
  "Cancel sending the message at point, and hold it."
  (interactive)
  (smtpmail-native-react-doing
    (unless (smtpmail-native-act-cancel (smtpmail-native-list--id))
      (user-error
       (substitute-command-keys
        "This Emacs is not sending that message; type \
\\<smtpmail-native-outbox-mode-map>\\[smtpmail-native-list-hold] to hold it")))))

(defun smtpmail-native-list-mark-sent ()
  "Mark the message at point as sent, after confirmation.
This is for an unconfirmed message that you know was delivered."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-react-mark-sent (smtpmail-native-list--id)))

(defun smtpmail-native-list-change-server ()
  "Send the message at point through the server that your options name now.
Its sender decides, as for a new message.  You are asked first."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-react-change-server (smtpmail-native-list--id)))

(defun smtpmail-native-list-trace ()
  "Show the trace of the SMTP session for the message at point.
If another Emacs session made the last attempt, show the reason that it
has stored."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-show-trace-of (smtpmail-native-list--id)))

;;;; Some of them

(defconst smtpmail-native-list--filters
  '(("needs attention" . smtpmail-native-entry-needs-user-p)
    ("refused" . (refused))
    ("unconfirmed" . smtpmail-native-entry-doubt-p)
    ("waiting" . (ready))
    ("queued" . smtpmail-native-entry-queued-p)
    ("held" . (held))
    ("damaged" . (damaged)))
  "What `smtpmail-native-list-filter' offers: (NAME . WHICH).
WHICH is a predicate of an entry, or a list of states.")

(defun smtpmail-native-list--filter-name ()
  "Return what the mode line says of the filter."
  (if smtpmail-native-draw-filter
      (format " [%s]" (car smtpmail-native-draw-filter))
    ""))

(defun smtpmail-native-list-filter (name)
  "Show only the messages in the state NAME; with an empty NAME show all.
Marks of messages that are not shown stay."
  (interactive
   (list (completing-read "Show only (empty for all): "
                          smtpmail-native-list--filters nil t))
   smtpmail-native-outbox-mode)
  (let ((which (cdr (assoc name smtpmail-native-list--filters))))
    (setq smtpmail-native-draw-filter
          (and which
               (cons name
                     (if (consp which)
                         (lambda (entry)
                           (and (memq (smtpmail-native-entry-status entry)
                                      which)
                                (not (smtpmail-native-entry-doubt-p entry))))
                       which))))
    (smtpmail-native-list--show)))

(provide 'smtpmail-native-list)
;;; smtpmail-native-list.el ends here
