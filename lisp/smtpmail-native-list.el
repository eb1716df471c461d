;;; smtpmail-native-list.el --- The outbox buffer  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The list of the outbox, and the keys with which you act on its messages.  It
;; shows what is known in memory.  All that a thousand events lead to is done by
;; one timer, a few times in a second at most, and only the lines that have
;; changed are drawn.

;;; Code:

(require 'seq)
(require 'tabulated-list)
(require 'smtpmail-native-act)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-command)
(require 'smtpmail-native-draft)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-leftovers)
(require 'smtpmail-native-line)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-row)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-watch)

(defconst smtpmail-native-list--pause 0.2
  "Least seconds between two updates.")

(defconst smtpmail-native-list--rescan 10
  "Seconds after which a list that is seen looks for entries of other sessions.")

(defconst smtpmail-native-list--patience 0.1
  "Seconds that a command takes to read, and to draw; the rest comes later.")

(defvar smtpmail-native-list--dirty (make-hash-table :test #'equal)
  "Ids of entries whose lines have to be drawn again.")

(defvar smtpmail-native-list--timer nil
  "The timer that shows what has happened, or nil.")

(defvar smtpmail-native-list--cost 0
  "Seconds that the last update has taken.")

(defvar-local smtpmail-native-list--ticker nil
  "The timer that keeps ages and the like right while the list is seen.")

(defvar-local smtpmail-native-list--rescanned 0
  "When this list has last looked for entries of other sessions.")

(defun smtpmail-native-list--buffer ()
  "Return the buffer of the list, or nil."
  (get-buffer "*smtpmail-native outbox*"))

;;;; What has happened

;; This is loaded when first something has happened.
(defun smtpmail-native-list-note (id)
  "Note that the entry ID has changed; if ID is nil, any entry may have.
For `smtpmail-native-changed-functions'; it costs next to nothing."
  (when (or (not noninteractive) (smtpmail-native-list--buffer))
    (when (smtpmail-native-list--buffer)
      (if id
          (puthash id t smtpmail-native-list--dirty)
        (smtpmail-native-list--all-dirty)))
    (smtpmail-native-list--later)))

(defun smtpmail-native-list--all-dirty ()
  "Have all lines drawn again."
  (smtpmail-native-index-map
   (lambda (entry)
     (puthash (smtpmail-native-entry-id entry) t smtpmail-native-list--dirty)))
  (with-current-buffer (smtpmail-native-list--buffer)
    (save-excursion
      (goto-char (point-min))
      (while (not (eobp))
        (let ((id (tabulated-list-get-id)))
          (when id
            (puthash id t smtpmail-native-list--dirty)))
        (forward-line)))))

(defun smtpmail-native-list--later ()
  "Schedule an update of the outbox buffer and the mode line."
  (unless (memq smtpmail-native-list--timer timer-list)
    (setq smtpmail-native-list--timer
          (smtpmail-native-quiet-timer
           (max smtpmail-native-list--pause (* 10 smtpmail-native-list--cost))
           #'smtpmail-native-list--on-timer))))

(defun smtpmail-native-list--on-timer ()
  "Show what has happened."
  (let ((start (float-time)))
    (smtpmail-native-list--update (+ start smtpmail-native-index-slice))
    (setq smtpmail-native-list--cost (- (float-time) start))))

(defun smtpmail-native-list--update (&optional until)
  "Bring the mode line and the outbox buffer up to date.
Stop drawing at the time UNTIL, if non-nil, and go on later."
  (smtpmail-native-line-update)
  (let ((buffer (smtpmail-native-list--buffer)))
    (when (and buffer
               (or (null until) (get-buffer-window buffer 'visible)))
      (smtpmail-native-list--draw buffer until)
      (when (> (hash-table-count smtpmail-native-list--dirty) 0)
        (smtpmail-native-list--later)))))

;;;; Drawing

(defun smtpmail-native-list--positions ()
  "Return where the windows of the current buffer are, for later.
The value is a list of (WINDOW ID COLUMN LINE START-ID), WINDOW being nil
for point itself."
  (mapcar (lambda (window)
            (save-excursion
              (when window
                (goto-char (window-point window)))
              (list window (tabulated-list-get-id) (current-column)
                    (line-number-at-pos)
                    (and window
                         (tabulated-list-get-id (window-start window))))))
          (cons nil (get-buffer-window-list nil nil t))))

(defun smtpmail-native-list--search (id)
  "Move to the line of the entry ID; return nil, at the next one, if none is.
The lines must be in the order of ids."
  (let ((low (point-min))
        (high (point-max)))
    (while (< low high)
      (goto-char (/ (+ low high) 2))
      (beginning-of-line)
      (let ((here (or (tabulated-list-get-id) "")))
        (if (string< here id)
            (setq low (line-beginning-position 2))
          (setq high (if (< (point) high) (point) low)))))
    (goto-char low)
    (equal (tabulated-list-get-id) id)))

(defun smtpmail-native-list--find (id)
  "Return where the line of the entry ID begins, or nil."
  (save-excursion
    (if (null tabulated-list-sort-key)
        (and (smtpmail-native-list--search id) (point))
      (goto-char (point-min))
      (let ((found nil))
        (while (and (not found) (not (eobp)))
          (if (equal (tabulated-list-get-id) id)
              (setq found (point))
            (forward-line)))
        found))))

(defun smtpmail-native-list--go-back (positions)
  "Bring the windows of the current buffer to POSITIONS again.
Where the entry is gone, it is the same line."
  (pcase-dolist (`(,window ,id ,column ,line ,start) positions)
    (let ((point (save-excursion
                   (let ((found (and id (smtpmail-native-list--find id))))
                     (goto-char (or found (point-min)))
                     (unless found
                       (forward-line (1- line)))
                     (move-to-column column)
                     (point)))))
      (if (null window)
          (goto-char point)
        (let ((found (and start (smtpmail-native-list--find start))))
          (when found
            (set-window-start window found t)))
        (set-window-point window point)))))

(defun smtpmail-native-list--rows ()
  "Return the rows of the list, in the order of the entries.
Each is (ID COLUMNS)."
  (let ((now (float-time)))
    (mapcar (lambda (id)
              (list id (smtpmail-native-row-columns
                        (smtpmail-native-index-entry id) now)))
            (smtpmail-native-index-select #'identity))))

(defun smtpmail-native-list--draw-line (id now)
  "Draw the line of the entry ID again, as it is at the time NOW.
A line that stays is not touched."
  (let* ((there (smtpmail-native-list--search id))
         (entry (smtpmail-native-index-entry id))
         (columns (and entry (smtpmail-native-row-columns entry now))))
    (unless (and there columns
                 (equal-including-properties (tabulated-list-get-entry)
                                             columns))
      (when there
        (delete-region (point) (line-beginning-position 2)))
      (when columns
        (tabulated-list-print-entry id columns)))))

(defun smtpmail-native-list--draw-lines (until)
  "Draw the lines again that have to be, until the time UNTIL, or all if nil."
  (let ((inhibit-read-only t)
        (now (float-time)))
    (catch 'enough
      (dolist (id (sort (hash-table-keys smtpmail-native-list--dirty)
                        #'string<))
        (when (and until (> (float-time) until))
          (throw 'enough nil))
        (remhash id smtpmail-native-list--dirty)
        (smtpmail-native-list--draw-line id now)))
    (set-buffer-modified-p nil)))

(defun smtpmail-native-list--draw-here (id now)
  "Draw the line at point, of the entry ID, as it is at the time NOW.
Leave point after it."
  (let* ((entry (smtpmail-native-index-entry id))
         (columns (and entry (smtpmail-native-row-columns entry now))))
    (if (and columns (equal-including-properties (tabulated-list-get-entry)
                                                 columns))
        (forward-line)
      (delete-region (point) (line-beginning-position 2))
      (when columns
        (tabulated-list-print-entry id columns)))))

(defun smtpmail-native-list--draw-sorted (until)
  "Draw the lines again that have to be, until the time UNTIL, or all if nil.
The lines are in an order that you have chosen, and each stays where it is;
new ones come last, until \\[revert-buffer] sorts them."
  (let ((inhibit-read-only t)
        (now (float-time))
        (enough nil))
    (goto-char (point-min))
    (while (not (or enough (eobp)))
      (let ((id (tabulated-list-get-id)))
        (if (not (and id (gethash id smtpmail-native-list--dirty)))
            (forward-line)
          (remhash id smtpmail-native-list--dirty)
          (smtpmail-native-list--draw-here id now)
          (setq enough (and until (> (float-time) until))))))
    (unless enough
      (smtpmail-native-list--append until now))
    (set-buffer-modified-p nil)))

(defun smtpmail-native-list--append (until now)
  "Draw at point, the end, what has no line yet, as it is at the time NOW.
Stop at the time UNTIL, if non-nil."
  (dolist (id (sort (hash-table-keys smtpmail-native-list--dirty) #'string<))
    (unless (and until (> (float-time) until))
      (let ((entry (smtpmail-native-index-entry id)))
        (remhash id smtpmail-native-list--dirty)
        (when entry
          (tabulated-list-print-entry
           id (smtpmail-native-row-columns entry now)))))))

(defun smtpmail-native-list--draw (buffer &optional until)
  "Show what is known in BUFFER, without moving point in any window.
Stop at the time UNTIL, if non-nil."
  (with-current-buffer buffer
    (when (> (hash-table-count smtpmail-native-list--dirty) 0)
      (let ((positions (smtpmail-native-list--positions)))
        (if (null tabulated-list-sort-key)
            (smtpmail-native-list--draw-lines until)
          (smtpmail-native-list--draw-sorted until))
        (smtpmail-native-list--go-back positions)))))

(defun smtpmail-native-list--seen ()
  "Have the lines that are seen in some window drawn again, for their ages."
  (dolist (window (get-buffer-window-list nil nil 'visible))
    (save-excursion
      (goto-char (window-start window))
      (let ((lines (window-height window)))
        (while (and (> lines 0) (not (eobp)))
          (puthash (tabulated-list-get-id) t smtpmail-native-list--dirty)
          (forward-line)
          (setq lines (1- lines)))))))

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
      (smtpmail-native-list--seen))
    (smtpmail-native-list--later)))

(defun smtpmail-native-list--stop-ticking ()
  "End the ticker of this buffer, which is about to be killed."
  (when smtpmail-native-list--ticker
    (cancel-timer smtpmail-native-list--ticker)))

;;;; The list

(defvar smtpmail-native-outbox-mode-map
  (let ((map (make-sparse-keymap)))
    (set-keymap-parent map tabulated-list-mode-map)
    (define-key map (kbd "RET") #'smtpmail-native-list-show)
    (define-key map "e" #'smtpmail-native-list-edit)
    (define-key map "s" #'smtpmail-native-list-send)
    (define-key map "h" #'smtpmail-native-list-hold)
    (define-key map "c" #'smtpmail-native-list-cancel)
    (define-key map "d" #'smtpmail-native-list-delete)
    (define-key map "m" #'smtpmail-native-list-mark-sent)
    (define-key map "t" #'smtpmail-native-list-trace)
    (define-key map "u" #'smtpmail-native-list-unfiled)
    (define-key map "f" #'smtpmail-native-flush-queue)
    (define-key map "?" #'describe-mode)
    map)
  "Keymap of `smtpmail-native-outbox-mode'.")

(defun smtpmail-native-list--by (what)
  "Return a predicate for sorting rows by WHAT.
WHAT is as in `smtpmail-native-row-number'."
  (lambda (a b)
    (apply #'<
           (mapcar (lambda (row)
                     (let ((entry (smtpmail-native-index-entry (car row))))
                       (if entry
                           (smtpmail-native-row-number entry what)
                         0)))
                   (list a b)))))

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
\\[smtpmail-native-list-trace]	Show the trace of the SMTP session
\\[smtpmail-native-list-unfiled]	Open the sent messages whose copy could not be filed
\\[smtpmail-native-flush-queue]	Send all waiting messages

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
  (setq tabulated-list-format
        (vector '("State" 14 t)
                '("To" 20 t)
                '("Subject" 18 t)
                (list "Size" 5 (smtpmail-native-list--by 'size)
                      :right-align t)
                (list "Age" 4 (smtpmail-native-list--by 'age) :right-align t)
                (list "Tries" 5 (smtpmail-native-list--by 'tries) :right-align t)
                (list "Next" 4 (smtpmail-native-list--by 'next)
                      :right-align t)
                '("Reason" 0 nil))
        tabulated-list-entries #'smtpmail-native-list--rows
        tabulated-list-padding 0)
  (tabulated-list-init-header)
  (setq-local revert-buffer-function #'smtpmail-native-list--revert)
  (add-hook 'eldoc-documentation-functions #'smtpmail-native-list--eldoc nil t)
  (eldoc-mode)
  (add-hook 'kill-buffer-hook #'smtpmail-native-list--stop-ticking nil t)
  (setq smtpmail-native-list--ticker
        (run-at-time 1 1 #'smtpmail-native-quiet-call
                     #'smtpmail-native-list--tick (current-buffer))))

(defun smtpmail-native-list--sort ()
  "Draw all lines in the order that you have chosen."
  (let ((positions (smtpmail-native-list--positions)))
    (clrhash smtpmail-native-list--dirty)
    (tabulated-list-print)
    (smtpmail-native-list--go-back positions)))

(defun smtpmail-native-list--revert (&rest _)
  "Read the outbox anew and show it."
  (smtpmail-native-command-worded
    (smtpmail-native-list--look)
    (smtpmail-native-index-complete smtpmail-native-list--patience)
    (if tabulated-list-sort-key
        (smtpmail-native-list--sort)
      (smtpmail-native-list--all-dirty)
      (smtpmail-native-list--draw (current-buffer)
                                  (+ (float-time)
                                     smtpmail-native-list--patience)))
    (smtpmail-native-list--later)
    (smtpmail-native-line-update)))

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
      (smtpmail-native-list--revert))
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

(defmacro smtpmail-native-list--doing (&rest body)
  "Run BODY, then show what it has led to."
  (declare (indent 0) (debug t))
  `(unwind-protect
       (smtpmail-native-command-worded ,@body)
     (smtpmail-native-list--update)))

(defun smtpmail-native-list--id ()
  "Return the id of the entry at point; signal an error if there is none."
  (or (tabulated-list-get-id) (user-error "No message on this line")))

(defun smtpmail-native-list--entry ()
  "Return the entry at point, read anew; signal an error if there is none."
  (or (smtpmail-native-outbox-get (smtpmail-native-list--id))
      (user-error "This message is no longer in the outbox")))

(defun smtpmail-native-list--name (entry)
  "Return a few words that tell ENTRY from others."
  (if (smtpmail-native-entry-envelope entry)
      (format "the message to %s" (smtpmail-native-entry-people entry))
    "the damaged message"))

(defun smtpmail-native-list--sure-p (entry question)
  "Return non-nil unless ENTRY may have been delivered and QUESTION gets a no."
  (or (not (smtpmail-native-entry-doubt-p entry))
      (y-or-n-p (format "%s may already have been delivered.  %s? "
                        (let ((name (smtpmail-native-list--name entry)))
                          (concat (upcase (substring name 0 1))
                                  (substring name 1)))
                        question))))

(defun smtpmail-native-list-show ()
  "View the message at point and its delivery status."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (smtpmail-native-draft-show entry (smtpmail-native-row-state entry))))

(defun smtpmail-native-list-edit ()
  "Edit the message at point as a new one; it leaves the outbox.
The draft is for those recipients who have not got it."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (when (smtpmail-native-list--sure-p entry "Edit it as a new message")
      (smtpmail-native-list--doing
        (smtpmail-native-command-edit (smtpmail-native-entry-id entry))))))

(defun smtpmail-native-list-send ()
  "Send the message at point now, whatever it waits for."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (when (smtpmail-native-list--sure-p entry "Send it again")
      (smtpmail-native-list--doing
        (smtpmail-native-act-retry (smtpmail-native-entry-id entry)
                                   (smtpmail-native-entry-doubt-p entry))))))

(defun smtpmail-native-list-hold ()
  "Hold the message at point until you send it."
  (interactive)
  (smtpmail-native-list--doing
    (smtpmail-native-act-hold (smtpmail-native-list--id))))

(defun smtpmail-native-list-cancel ()
  "Cancel sending the message at point, and hold it."
  (interactive)
  (smtpmail-native-list--doing
    (unless (smtpmail-native-act-cancel (smtpmail-native-list--id))
      (user-error
       (substitute-command-keys
        "This Emacs is not sending that message; type \
\\<smtpmail-native-outbox-mode-map>\\[smtpmail-native-list-hold] to hold it")))))

(defun smtpmail-native-list-delete ()
  "Delete the message at point without sending it, after confirmation."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (when (yes-or-no-p (format "Delete %s without sending it? "
                               (smtpmail-native-list--name entry)))
      (smtpmail-native-list--doing
        (smtpmail-native-act-delete (smtpmail-native-entry-id entry))))))

(defun smtpmail-native-list-mark-sent ()
  "Mark the message at point as sent, after confirmation.
This is for an unconfirmed message that you know was delivered."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (unless (and (smtpmail-native-entry-doubt-p entry)
                 (null (smtpmail-native-entry-problem entry)))
      (user-error "Only an unconfirmed message can be marked as sent"))
    (when (y-or-n-p (format "Mark %s as sent? "
                            (smtpmail-native-list--name entry)))
      (smtpmail-native-list--doing
        (smtpmail-native-act-mark-sent (smtpmail-native-entry-id entry))))))

(defun smtpmail-native-list-trace ()
  "Show the trace of the SMTP session for the message at point."
  (interactive)
  (let ((trace (smtpmail-native-tell-trace (smtpmail-native-list--id)))
        (buffer (get-buffer-create "*smtpmail-native trace*")))
    (unless trace
      (user-error "No trace: this Emacs session has not tried to send this \
message"))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (insert trace)
        (goto-char (point-min)))
      (special-mode))
    (display-buffer buffer)))

(provide 'smtpmail-native-list)
;;; smtpmail-native-list.el ends here
