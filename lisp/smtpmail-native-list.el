;;; smtpmail-native-list.el --- What the user sees of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The list of the outbox, the mode line, and the commands of the user's word.
;;
;; Both show the entries as they were last read.  An entry is read again when
;; the queue says that something has happened to it, and never for progress;
;; all that a thousand events lead to is done by one timer, a few times in a
;; second at most, and less often when it takes long.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'tabulated-list)
(require 'smtpmail-native-act)
(require 'smtpmail-native-ask)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-options)
(require 'smtpmail-native-tell)

(declare-function smtpmail-native-draft-restore "smtpmail-native-draft" (entry))
(declare-function smtpmail-native-draft-show "smtpmail-native-draft"
                  (entry state))

(defconst smtpmail-native-list--pause 0.2
  "Least seconds between two looks at what has happened.")

(defconst smtpmail-native-list--slice 0.02
  "Seconds for which Emacs is kept busy with reading entries at a time.")

(defconst smtpmail-native-list--rescan 10
  "Seconds after which a list that is seen looks for other Emacsen's entries.")

;;;; Faces

(defface smtpmail-native-sending '((t :inherit success))
  "Face for a mail that is being sent."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-waiting '((t :inherit default))
  "Face for a mail that will be sent by itself."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-undo '((t :inherit font-lock-keyword-face))
  "Face for a mail whose sending can still be undone."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-held '((t :inherit shadow))
  "Face for a mail that waits for the user's word."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-attention '((t :inherit warning))
  "Face for a mail that needs the user, and for their number."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-refused '((t :inherit error))
  "Face for a mail that the server does not take."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-damaged '((t :inherit error))
  "Face for a mail whose files are damaged."
  :group 'smtpmail-native-faces)

;;;; What is known

(defvar smtpmail-native-list--folder nil
  "The outbox that `smtpmail-native-list--entries' are of.")

(defvar smtpmail-native-list--entries (make-hash-table :test #'equal)
  "The entries of the outbox as they were last read, by id.")

(defvar smtpmail-native-list--stale (make-hash-table :test #'equal)
  "Ids of entries that are to be read again.")

(defvar smtpmail-native-list--all nil
  "Non-nil if it is to be found out anew which entries there are.")

(defvar smtpmail-native-list--sendings (make-hash-table :test #'equal)
  "Attempts that have been heard of, by the id of their entry.
More that is heard of such an attempt is progress.")

(defvar smtpmail-native-list--timer nil
  "The timer that takes notice of what has happened, or nil.")

(defvar smtpmail-native-list--cost 0
  "Seconds that the last look has taken.")

(defun smtpmail-native-list--buffer ()
  "Return the buffer of the list, or nil."
  (get-buffer "*smtpmail-native outbox*"))

(defun smtpmail-native-list--read-p ()
  "Return non-nil if somebody may look at what this Emacs shows."
  (or (not noninteractive) (smtpmail-native-list--buffer)))

;; This is loaded when first something has happened.
(defun smtpmail-native-list-note (id)
  "Take it that something has happened to the entry ID, or to any if nil.
For `smtpmail-native-changed-functions'; it costs next to nothing."
  (when (smtpmail-native-list--read-p)
    (let ((sending (and id (smtpmail-native-attempt-sending id))))
      (cond
       ((null id) (setq smtpmail-native-list--all t))
       ((null sending)
        (remhash id smtpmail-native-list--sendings)
        (puthash id t smtpmail-native-list--stale))
       ((not (eq sending (gethash id smtpmail-native-list--sendings)))
        (puthash id sending smtpmail-native-list--sendings)
        (puthash id t smtpmail-native-list--stale))))
    (smtpmail-native-list--later)))

(defun smtpmail-native-list--later ()
  "See to it that what has happened is shown soon."
  (unless (memq smtpmail-native-list--timer timer-list)
    (setq smtpmail-native-list--timer
          (run-at-time (max smtpmail-native-list--pause
                            (* 10 smtpmail-native-list--cost))
                       nil #'smtpmail-native-list--on-timer))))

(defun smtpmail-native-list--on-timer ()
  "Show what has happened.  An error is told and does no harm."
  (condition-case err
      (let ((start (float-time)))
        (smtpmail-native-list--update smtpmail-native-list--slice)
        (setq smtpmail-native-list--cost (- (float-time) start)))
    (error (message "smtpmail-native: %s" (error-message-string err)))))

(defun smtpmail-native-list--look-around ()
  "Find out which entries there are."
  (let ((ids (smtpmail-native-outbox-ids))
        (known (make-hash-table :test #'equal)))
    (setq smtpmail-native-list--all nil)
    (dolist (id ids)
      (puthash id t known)
      (puthash id t smtpmail-native-list--stale))
    (dolist (id (hash-table-keys smtpmail-native-list--entries))
      (unless (gethash id known)
        (remhash id smtpmail-native-list--entries)))))

(defun smtpmail-native-list--read (seconds)
  "Read entries again that are stale, for SECONDS if non-nil.
The first time that is all of them."
  (let ((until (and seconds (+ (float-time) seconds)))
        (folder (expand-file-name smtpmail-native-outbox-directory)))
    (unless (equal folder smtpmail-native-list--folder)
      (clrhash smtpmail-native-list--entries)
      (clrhash smtpmail-native-list--stale)
      (setq smtpmail-native-list--folder folder
            smtpmail-native-list--all t))
    (when smtpmail-native-list--all
      (smtpmail-native-list--look-around))
    (catch 'enough
      (dolist (id (hash-table-keys smtpmail-native-list--stale))
        (when (and until (> (float-time) until))
          (throw 'enough nil))
        (remhash id smtpmail-native-list--stale)
        (let ((entry (smtpmail-native-outbox-get id)))
          (if entry
              (puthash id entry smtpmail-native-list--entries)
            (remhash id smtpmail-native-list--entries)))))))

(defun smtpmail-native-list--update (&optional seconds)
  "Read what is stale and show it.
Stop reading after SECONDS, if non-nil, and go on later."
  (smtpmail-native-list--read seconds)
  (when (> (hash-table-count smtpmail-native-list--stale) 0)
    (smtpmail-native-list--later))
  (smtpmail-native-list--update-mode-line)
  (let ((buffer (smtpmail-native-list--buffer)))
    (when (and buffer
               (or (null seconds) (get-buffer-window buffer 'visible)))
      (smtpmail-native-list--draw buffer))))

;;;; How an entry is worded

(defun smtpmail-native-list--percentage (sending)
  "Return how much of SENDING is done in percent, or nil if nothing is."
  (let ((sent (smtpmail-native-sending-sent sending))
        (total (smtpmail-native-sending-total sending)))
    (and (> sent 0)
         (> total 0)
         (min 100 (floor (* 100.0 sent) total)))))

(defun smtpmail-native-list--state (entry)
  "Return the state of ENTRY as people call it, a string with a face."
  (let* ((state (smtpmail-native-entry-state entry))
         (sending (smtpmail-native-attempt-sending
                   (smtpmail-native-entry-id entry)))
         (percentage (and sending (smtpmail-native-list--percentage sending)))
         (wording
          (cond
           (percentage (cons (format "sending %d%%" percentage)
                             'smtpmail-native-sending))
           (sending '("sending" . smtpmail-native-sending))
           ((smtpmail-native-entry-problem entry)
            '("damaged" . smtpmail-native-damaged))
           ((smtpmail-native-entry-undo-p entry)
            (cons (format "undo %ds"
                          (max 0 (ceiling (- (or (plist-get state :next) 0)
                                             (float-time)))))
                  'smtpmail-native-undo))
           (t
            (pcase (plist-get state :status)
              ('ready
               (let ((release (smtpmail-native-entry-release-time entry)))
                 (cons (if release
                           (concat "until " (smtpmail-native-tell-date release))
                         "waiting")
                       'smtpmail-native-waiting)))
              ('refused '("refused" . smtpmail-native-refused))
              ('unknown '("unknown" . smtpmail-native-attention))
              ('sent '("sent" . smtpmail-native-held))
              (_ (pcase (plist-get state :hold)
                   ('queue '("queued" . smtpmail-native-held))
                   ('user '("held" . smtpmail-native-held))
                   ('password '("needs password" . smtpmail-native-attention))
                   ('certificate '("certificate" . smtpmail-native-attention))
                   ('expired '("expired" . smtpmail-native-attention))
                   (_ '("held" . smtpmail-native-attention)))))))))
    (propertize (car wording) 'face (cdr wording))))

(defun smtpmail-native-list--span (seconds)
  "Return the time span SECONDS in at most four characters."
  (cond ((< seconds 0) "0s")
        ((< seconds 60) (format "%ds" seconds))
        ((< seconds 3600) (format "%dm" (/ seconds 60)))
        ((< seconds 86400) (format "%dh" (/ seconds 3600)))
        (t (format "%dd" (/ seconds 86400)))))

(defun smtpmail-native-list--reason (entry)
  "Return why ENTRY is not sent yet, a string that is safe to show."
  (smtpmail-native-error-text
   (or (smtpmail-native-entry-problem entry)
       (plist-get (smtpmail-native-entry-state entry) :text))))

(defun smtpmail-native-list--next (entry now)
  "Return when ENTRY is tried again, as seen from NOW, a string."
  (let ((state (smtpmail-native-entry-state entry)))
    (if (or (not (eq (plist-get state :status) 'ready))
            (smtpmail-native-entry-problem entry)
            (smtpmail-native-attempt-sending (smtpmail-native-entry-id entry)))
        ""
      (let ((left (- (or (smtpmail-native-entry-release-time entry)
                         (plist-get state :next)
                         0)
                     now)))
        (if (> left 0)
            (smtpmail-native-list--span (ceiling left))
          "now")))))

(defun smtpmail-native-list--number (entry what)
  "Return the number of ENTRY that WHAT names, for sorting.
WHAT is `size', `age', `tries' or `next'."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (state (smtpmail-native-entry-state entry)))
    (or (pcase what
          ('size (plist-get envelope :size))
          ('age (- (or (plist-get envelope :created) 0)))
          ('tries (plist-get state :tries))
          ('next (if (eq (plist-get state :status) 'ready)
                     (or (plist-get state :next) 0)
                   most-positive-fixnum)))
        0)))

(defun smtpmail-native-list--to (envelope)
  "Return the first recipient of ENVELOPE and the number of the others."
  (let ((recipients (plist-get envelope :recipients)))
    (concat (smtpmail-native-error-text (or (car recipients) "?"))
            (if (cdr recipients)
                (format " +%d" (length (cdr recipients)))
              ""))))

(defvar smtpmail-native-list--texts
  (make-hash-table :test #'eq :weakness 'key)
  "What does not change while an entry is known, by the entry.
That is (TO SUBJECT SIZE TRIES REASON); to make it safe to show takes most
of the time of drawing.")

(defun smtpmail-native-list--texts (entry)
  "Return the value for ENTRY in the variable of this name."
  (or (gethash entry smtpmail-native-list--texts)
      (let* ((envelope (smtpmail-native-entry-envelope entry))
             (size (plist-get envelope :size))
             (tries (plist-get (smtpmail-native-entry-state entry) :tries)))
        (puthash entry
                 (list (smtpmail-native-list--to envelope)
                       (smtpmail-native-error-text
                        (plist-get envelope :subject))
                       (if size (file-size-human-readable size) "")
                       (if tries (number-to-string tries) "")
                       (smtpmail-native-list--reason entry))
                 smtpmail-native-list--texts))))

(defun smtpmail-native-list--columns (entry now)
  "Return the columns of ENTRY at the time NOW, a vector of strings."
  (pcase-let ((`(,to ,subject ,size ,tries ,reason)
               (smtpmail-native-list--texts entry))
              (created (plist-get (smtpmail-native-entry-envelope entry)
                                  :created)))
    (vector (smtpmail-native-list--state entry)
            to subject size
            (if created
                (smtpmail-native-list--span (max 0 (floor (- now created))))
              "")
            tries
            (smtpmail-native-list--next entry now)
            reason)))

;;;; Drawing

(defvar-local smtpmail-native-list--ticker nil
  "The timer that keeps ages and the like right while the list is seen.")

(defvar-local smtpmail-native-list--rescanned 0
  "When this list has last looked for entries of other Emacsen.")

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

(defun smtpmail-native-list--find (id)
  "Return where the line of the entry ID begins, or nil."
  (save-excursion
    (goto-char (point-min))
    (let ((found nil))
      (while (and (not found) (not (eobp)))
        (if (equal (tabulated-list-get-id) id)
            (setq found (point))
          (forward-line)))
      found)))

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
              (list id (smtpmail-native-list--columns
                        (gethash id smtpmail-native-list--entries) now)))
            (sort (hash-table-keys smtpmail-native-list--entries)
                  #'string<))))

(defun smtpmail-native-list--merge (rows)
  "Make the lines of the current buffer ROWS; both are in the order of ids.
A line that stays is not touched."
  (goto-char (point-min))
  (let ((inhibit-read-only t))
    (while (or rows (not (eobp)))
      (pcase-let ((`(,id ,columns) (car rows))
                  (old (tabulated-list-get-id)))
        (cond
         ((and old (or (null id) (string< old id)))
          (delete-region (point) (line-beginning-position 2)))
         ((not (equal old id))
          (tabulated-list-print-entry id columns)
          (pop rows))
         ((equal-including-properties (tabulated-list-get-entry) columns)
          (forward-line)
          (pop rows))
         (t
          (delete-region (point) (line-beginning-position 2))
          (tabulated-list-print-entry id columns)
          (pop rows)))))
    (set-buffer-modified-p nil)))

(defun smtpmail-native-list--draw (buffer)
  "Show what is known in BUFFER, without moving anybody's point."
  (with-current-buffer buffer
    (let ((positions (smtpmail-native-list--positions)))
      (setq tabulated-list-entries (smtpmail-native-list--rows))
      (if tabulated-list-sort-key
          (tabulated-list-print)
        (smtpmail-native-list--merge tabulated-list-entries))
      (smtpmail-native-list--go-back positions))))

(defun smtpmail-native-list--tick (buffer)
  "Keep what BUFFER shows right while it is seen."
  (when (and (buffer-live-p buffer) (get-buffer-window buffer 'visible))
    (with-current-buffer buffer
      (let ((now (float-time)))
        (when (> (- now smtpmail-native-list--rescanned)
                 (max smtpmail-native-list--rescan
                      (* 50 smtpmail-native-list--cost)))
          (setq smtpmail-native-list--rescanned now
                smtpmail-native-list--all t))))
    (smtpmail-native-list--later)))

(defun smtpmail-native-list--stop-ticking ()
  "End the ticker of this buffer, which is about to be killed."
  (when smtpmail-native-list--ticker
    (cancel-timer smtpmail-native-list--ticker)))

;;;; Mode line

(defvar smtpmail-native-mode-line ""
  "What the mode line says of the outbox.
It is put into `global-mode-string' when there is first something to say.")

(put 'smtpmail-native-mode-line 'risky-local-variable t)

(defvar smtpmail-native-list-mode-line-map
  (let ((map (make-sparse-keymap)))
    (define-key map [mode-line mouse-1] #'smtpmail-native-outbox)
    map)
  "Keymap of the outbox's part of the mode line.")

(defun smtpmail-native-list--counts ()
  "Return (UNDER-WAY . NEEDY), the numbers of entries of both kinds."
  (let ((under-way 0)
        (needy 0))
    (maphash
     (lambda (id entry)
       (let ((state (smtpmail-native-entry-state entry)))
         (cond ((or (smtpmail-native-attempt-sending id)
                    (and (eq (plist-get state :status) 'ready)
                         (null (smtpmail-native-entry-problem entry))
                         (not (smtpmail-native-entry-release-time entry))
                         (or (null (plist-get state :next))
                             (plist-get state :undo))))
                (setq under-way (1+ under-way)))
               ((smtpmail-native-entry-needs-user-p entry)
                (setq needy (1+ needy))))))
     smtpmail-native-list--entries)
    (cons under-way needy)))

(defun smtpmail-native-list--current-percentage ()
  "Return how much of the current mail is done in percent, or nil."
  (seq-some #'smtpmail-native-list--percentage
            (sort (smtpmail-native-attempt-sendings)
                  (lambda (a b) (< (smtpmail-native-sending-start a)
                                   (smtpmail-native-sending-start b))))))

(defun smtpmail-native-list--mode-line-text ()
  "Return what the mode line has to say now, with its properties."
  (pcase-let* ((`(,under-way . ,needy) (smtpmail-native-list--counts))
               (percentage (smtpmail-native-list--current-percentage))
               (parts
                (delq nil
                      (list (and (> under-way 0) (number-to-string under-way))
                            (and percentage (format "%d%%" percentage))
                            (and (> needy 0)
                                 (propertize (format "!%d" needy) 'face
                                             'smtpmail-native-attention))))))
    (if (null parts)
        ""
      (concat " "
              (propertize
               (concat "Mail:" (string-join parts " "))
               'help-echo
               (format "Mails under way: %d\nMails that need you: %d
mouse-1: show the outbox" under-way needy)
               'mouse-face 'mode-line-highlight
               'local-map smtpmail-native-list-mode-line-map)))))

(defun smtpmail-native-list--update-mode-line ()
  "Bring the mode line up to date."
  (let ((text (smtpmail-native-list--mode-line-text)))
    (unless (equal text smtpmail-native-mode-line)
      (setq smtpmail-native-mode-line text)
      (unless (listp global-mode-string)
        (setq global-mode-string (list "" global-mode-string)))
      (unless (memq 'smtpmail-native-mode-line global-mode-string)
        (setq global-mode-string
              (append (or global-mode-string '(""))
                      '(smtpmail-native-mode-line))))
      (force-mode-line-update t))))

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
    (define-key map "f" #'smtpmail-native-flush-queue)
    (define-key map "?" #'describe-mode)
    map)
  "Keymap of `smtpmail-native-outbox-mode'.")

(defun smtpmail-native-list--by (what)
  "Return a predicate for sorting rows by WHAT.
WHAT is as in `smtpmail-native-list--number'."
  (lambda (a b)
    (apply #'<
           (mapcar (lambda (row)
                     (let ((entry (gethash (car row)
                                           smtpmail-native-list--entries)))
                       (if entry
                           (smtpmail-native-list--number entry what)
                         0)))
                   (list a b)))))

(define-derived-mode smtpmail-native-outbox-mode tabulated-list-mode "Outbox"
  "Major mode for the list of mails that are on their way.

\\<smtpmail-native-outbox-mode-map>\
\\[smtpmail-native-list-show]	look at the mail, and all that is known of it
\\[smtpmail-native-list-edit]	edit it as a new mail; it leaves the outbox
\\[smtpmail-native-list-send]	send it now, whatever it waits for
\\[smtpmail-native-list-hold]	hold it until you say otherwise
\\[smtpmail-native-list-cancel]	stop sending it; it is held then
\\[smtpmail-native-list-delete]	delete it without sending it
\\[smtpmail-native-list-mark-sent]	it has arrived: mark it as sent
\\[smtpmail-native-list-trace]	show the dialogue with the server
\\[smtpmail-native-flush-queue]	send all that waits

State		What it means
undo 5s		in 5 s it leaves; \\[smtpmail-native-undo-send] undoes that
sending 42%	it is on its way
waiting		it will be sent, or tried again, by itself
queued		it waits for `smtpmail-native-flush-queue'
held		you have cancelled or held it, or see the last column
needs password	type \\[smtpmail-native-list-send] to be asked for it
certificate	that of the server is not to be trusted
refused		the server does not take it; edit it, or try again
expired		it could not be sent for so long that it is not tried any more
unknown		it was sent, but the server did not say whether it took it:
		look whether it arrived, then mark it as sent or send it again
damaged		some of its files are not as they were written
sent		it has arrived, and is to be deleted

\\{smtpmail-native-outbox-mode-map}"
  :interactive nil
  (setq tabulated-list-format
        (vector '("State" 14 t)
                '("To" 20 t)
                '("Subject" 18 t)
                (list "Size" 5 (smtpmail-native-list--by 'size)
                      :right-align t)
                (list "Age" 4 (smtpmail-native-list--by 'age) :right-align t)
                (list "#" 2 (smtpmail-native-list--by 'tries) :right-align t)
                (list "Next" 4 (smtpmail-native-list--by 'next)
                      :right-align t)
                '("Last reply" 0 nil))
        tabulated-list-padding 0)
  (tabulated-list-init-header)
  (setq-local revert-buffer-function #'smtpmail-native-list--revert)
  (add-hook 'eldoc-documentation-functions #'smtpmail-native-list--eldoc nil t)
  (eldoc-mode)
  (add-hook 'kill-buffer-hook #'smtpmail-native-list--stop-ticking nil t)
  (setq smtpmail-native-list--ticker
        (run-at-time 1 1 #'smtpmail-native-list--tick (current-buffer))))

(defun smtpmail-native-list--revert (&rest _)
  "Read the outbox anew and show it."
  (setq smtpmail-native-list--all t
        smtpmail-native-list--rescanned (float-time))
  (smtpmail-native-list--update))

(defun smtpmail-native-list--eldoc (&rest _)
  "Return why the mail at point is not sent yet, in full, or nil."
  (let* ((id (tabulated-list-get-id))
         (entry (and id (gethash id smtpmail-native-list--entries)))
         (reason (and entry (smtpmail-native-list--reason entry))))
    (and reason (not (equal reason "")) reason)))

;;;###autoload
(defun smtpmail-native-outbox ()
  "Show the mails that are on their way, and let the user see to them."
  (interactive)
  (let ((buffer (get-buffer-create "*smtpmail-native outbox*")))
    (with-current-buffer buffer
      (unless (derived-mode-p 'smtpmail-native-outbox-mode)
        (smtpmail-native-outbox-mode))
      (smtpmail-native-list--revert))
    (pop-to-buffer buffer)))

;;;; The user's word

(defmacro smtpmail-native-list--doing (&rest body)
  "Run BODY, then show what it has led to.
What the queue complains of is the user's error, and worded as such."
  (declare (indent 0) (debug t))
  `(unwind-protect
       (condition-case err
           (progn ,@body)
         (smtpmail-native-error (user-error "%s" (cadr err))))
     (when (smtpmail-native-list--read-p)
       (smtpmail-native-list--update))))

(defun smtpmail-native-list--id ()
  "Return the id of the entry at point; signal an error if there is none."
  (or (tabulated-list-get-id) (user-error "No mail on this line")))

(defun smtpmail-native-list--entry ()
  "Return the entry at point, read anew; signal an error if there is none."
  (or (smtpmail-native-outbox-get (smtpmail-native-list--id))
      (user-error "This mail is not in the outbox any more")))

(defun smtpmail-native-list--name (entry)
  "Return a few words that tell ENTRY from others."
  (if (smtpmail-native-entry-envelope entry)
      (format "the mail to %s" (smtpmail-native-entry-people entry))
    "the damaged mail"))

(defun smtpmail-native-list-show ()
  "Look at the mail at point."
  (interactive)
  (require 'smtpmail-native-draft)
  (let ((entry (smtpmail-native-list--entry)))
    (smtpmail-native-draft-show entry (smtpmail-native-list--state entry))))

(defun smtpmail-native-list--edit (id)
  "Make a draft of the entry ID, which is deleted then."
  (require 'smtpmail-native-draft)
  (smtpmail-native-list--doing
    (when (smtpmail-native-attempt-sending id)
      (user-error "This mail is being sent; cancel it first"))
    (smtpmail-native-act-take-back id #'smtpmail-native-draft-restore)))

(defun smtpmail-native-list-edit ()
  "Edit the mail at point as a new one; it leaves the outbox.
The draft is for those recipients who have not got it."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (when (or (not (eq (plist-get (smtpmail-native-entry-state entry) :status)
                       'unknown))
              (y-or-n-p "It may have arrived already.  Edit it as new? "))
      (smtpmail-native-list--edit (smtpmail-native-entry-id entry)))))

(defun smtpmail-native-list-send ()
  "Send the mail at point now, whatever it waits for."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (when (or (not (eq (plist-get (smtpmail-native-entry-state entry) :status)
                       'unknown))
              (y-or-n-p "It may have arrived already.  Send it again? "))
      (smtpmail-native-list--doing
        (smtpmail-native-act-retry (smtpmail-native-entry-id entry))))))

(defun smtpmail-native-list-hold ()
  "Hold the mail at point until you say otherwise."
  (interactive)
  (smtpmail-native-list--doing
    (smtpmail-native-act-hold (smtpmail-native-list--id))))

(defun smtpmail-native-list-cancel ()
  "Stop sending the mail at point; it is held then."
  (interactive)
  (smtpmail-native-list--doing
    (unless (smtpmail-native-act-cancel (smtpmail-native-list--id))
      (user-error "This Emacs is not sending this mail; type h to hold it"))))

(defun smtpmail-native-list-delete ()
  "Delete the mail at point without sending it, after asking."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (when (yes-or-no-p (format "Delete %s without sending it? "
                               (smtpmail-native-list--name entry)))
      (smtpmail-native-list--doing
        (smtpmail-native-act-delete (smtpmail-native-entry-id entry))))))

(defun smtpmail-native-list-mark-sent ()
  "Take it that the mail at point has arrived, after asking.
This is for a mail whose outcome is unknown."
  (interactive)
  (let ((entry (smtpmail-native-list--entry)))
    (unless (and (eq (plist-get (smtpmail-native-entry-state entry) :status)
                     'unknown)
                 (null (smtpmail-native-entry-problem entry)))
      (user-error "It is known what has become of this mail"))
    (when (y-or-n-p (format "Has %s arrived? "
                            (smtpmail-native-list--name entry)))
      (smtpmail-native-list--doing
        (smtpmail-native-act-mark-sent (smtpmail-native-entry-id entry))))))

(defun smtpmail-native-list-trace ()
  "Show the dialogue with the server about the mail at point."
  (interactive)
  (let ((trace (smtpmail-native-tell-trace (smtpmail-native-list--id)))
        (buffer (get-buffer-create "*smtpmail-native trace*")))
    (unless trace
      (user-error "This Emacs has not tried to send this mail yet"))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (insert trace)
        (goto-char (point-min)))
      (special-mode))
    (display-buffer buffer)))

;;;###autoload
(defun smtpmail-native-flush-queue ()
  "Send all mails of the outbox that wait, also those that are queued.
What you hold, what was refused and what may have arrived is left alone."
  (interactive)
  (smtpmail-native-list--doing
    (let* ((count (smtpmail-native-act-flush))
           (needy (seq-count #'smtpmail-native-entry-needs-user-p
                             (smtpmail-native-outbox-list))))
      (message "%s%s"
               (pcase count
                 (0 "No mail waits to be sent")
                 (1 "Sending 1 mail")
                 (_ (format "Sending %d mails" count)))
               (if (> needy 0) (format "; needing you: %d" needy) "")))))

;;;###autoload
(defun smtpmail-native-undo-send ()
  "Bring back the newest mail that has not left yet, as a draft.
For `smtpmail-native-undo-seconds' after sending, that is possible."
  (interactive)
  (let ((id (smtpmail-native-act-undo-candidate)))
    (unless id
      (user-error "Too late: no mail is held back for undoing"))
    (smtpmail-native-list--edit id)))

;;;###autoload
(defun smtpmail-native-unlock ()
  "Ask now for the passwords that mails of the outbox are held for."
  (interactive)
  (smtpmail-native-list--doing
    (when (= 0 (smtpmail-native-ask-passwords))
      (message "No mail waits for a password"))))

(provide 'smtpmail-native-list)
;;; smtpmail-native-list.el ends here
