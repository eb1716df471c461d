;;; smtpmail-native-draw.el --- Drawing the list of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The lines of the outbox buffer, each of one entry.  What happens to an entry
;; is noted, and shown a moment later; a line that stays is not touched, and
;; point stays where it is in every window.  What takes long is done in slices.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'tabulated-list)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-fifo)
(require 'smtpmail-native-index)
(require 'smtpmail-native-line)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-row)

(defconst smtpmail-native-draw--pause 0.2
  "Least seconds between two updates.")

(defvar smtpmail-native-draw--dirty (make-hash-table :test #'equal)
  "Ids of entries whose lines have to be drawn again.")

(defvar smtpmail-native-draw--timer nil
  "The timer that shows what has happened, or nil.")

(defvar smtpmail-native-draw--cost 0
  "Seconds that the last update has taken.")

(defvar smtpmail-native-draw--all nil
  "Non-nil if all lines have to be drawn again.")

(defun smtpmail-native-draw-buffer ()
  "Return the buffer of the list, or nil."
  (get-buffer "*smtpmail-native outbox*"))

;;;; What has happened

;; This is loaded when first something has happened.
(defun smtpmail-native-draw-note (id)
  "Note that the entry ID has changed; if ID is nil, any entry may have.
For `smtpmail-native-changed-functions'; it costs next to nothing."
  (when (or (not noninteractive) (smtpmail-native-draw-buffer))
    (when (smtpmail-native-draw-buffer)
      (if id
          (puthash id t smtpmail-native-draw--dirty)
        (setq smtpmail-native-draw--all t)))
    (smtpmail-native-draw-later)))

(defun smtpmail-native-draw--spread ()
  "If all lines have to be drawn again, note each of them."
  (when smtpmail-native-draw--all
    (setq smtpmail-native-draw--all nil)
    (smtpmail-native-index-map
     (lambda (entry)
       (puthash (smtpmail-native-entry-id entry) t
                smtpmail-native-draw--dirty)))
    (save-excursion
      (goto-char (point-min))
      (while (not (eobp))
        (let ((id (tabulated-list-get-id)))
          (when id
            (puthash id t smtpmail-native-draw--dirty)))
        (forward-line)))))

(defun smtpmail-native-draw-later ()
  "Schedule an update of the outbox buffer and the mode line."
  (unless (memq smtpmail-native-draw--timer timer-list)
    (setq smtpmail-native-draw--timer
          (smtpmail-native-quiet-timer
           (if (smtpmail-native-draw--undrawn-p)
               smtpmail-native-draw--cost
             (max smtpmail-native-draw--pause
                  (* 10 smtpmail-native-draw--cost)))
           #'smtpmail-native-draw--on-timer))))

(defun smtpmail-native-draw--on-timer ()
  "Show what has happened."
  (let ((start (float-time)))
    (smtpmail-native-draw-update (+ start smtpmail-native-index-slice))
    (setq smtpmail-native-draw--cost (- (float-time) start))))

(defvar smtpmail-native-draw--line '(0 . 0)
  "When the mode line was last brought up to date, and for how long that does.
A cons of seconds.")

(defun smtpmail-native-draw--line (now)
  "Bring the mode line up to date; that may wait a little, unless NOW is non-nil.
It counts all entries, which takes longer than to draw a few lines."
  (let ((start (float-time)))
    (if (and (not now)
             (<= 0 (- start (car smtpmail-native-draw--line))
                 (cdr smtpmail-native-draw--line)))
        (smtpmail-native-draw-later)
      (smtpmail-native-line-update)
      (let ((end (float-time)))
        (setq smtpmail-native-draw--line (cons end (* 20 (- end start))))))))

(defun smtpmail-native-draw-update (&optional until)
  "Bring the mode line and the outbox buffer up to date.
Stop drawing at the time UNTIL, if non-nil, and go on later."
  (smtpmail-native-draw--line (null until))
  (let ((buffer (smtpmail-native-draw-buffer)))
    (when (and buffer
               (or (null until) (get-buffer-window buffer 'visible)))
      (smtpmail-native-draw--draw buffer until)
      (when (or (> (hash-table-count smtpmail-native-draw--dirty) 0)
                (smtpmail-native-draw--undrawn-p))
        (smtpmail-native-draw-later)))))

;;;; A line

(defvar smtpmail-native-draw-marks (make-hash-table :test #'equal)
  "Marks before the lines, strings of one character, by the entry's id.")

(defvar smtpmail-native-draw-filter nil
  "Which entries are shown: (NAME . PREDICATE), or nil for all.")

(defun smtpmail-native-draw--wanted (entry)
  "Return ENTRY, which may be nil, if it is one that is shown."
  (and entry
       (or (null smtpmail-native-draw-filter)
           (funcall (cdr smtpmail-native-draw-filter) entry))
       entry))

(defun smtpmail-native-draw--columns (id now)
  "Return the columns of the entry ID at the time NOW, or nil if it has no line."
  (let ((entry (smtpmail-native-draw--wanted (smtpmail-native-index-entry id))))
    (and entry (smtpmail-native-row-columns entry now))))

(defun smtpmail-native-draw-tag (id)
  "Show the mark of the entry ID on the line at point."
  (when (> tabulated-list-padding 0)
    (tabulated-list-put-tag (gethash id smtpmail-native-draw-marks " "))))

(defun smtpmail-native-draw-print (id columns)
  "Insert the line of the entry ID with COLUMNS, its mark and its tool-tip.
For `tabulated-list-printer'."
  (let ((start (point))
        (entry (smtpmail-native-index-entry id)))
    (tabulated-list-print-entry id columns)
    (add-text-properties
     start (1- (point))
     (list 'mouse-face 'highlight
           'help-echo (concat "mouse-1: show this message"
                              (let ((reason (and entry
                                                 (smtpmail-native-row-reason
                                                  entry))))
                                (if (member reason '(nil ""))
                                    ""
                                  (concat "\n" reason))))))
    (when (gethash id smtpmail-native-draw-marks)
      (save-excursion
        (goto-char start)
        (smtpmail-native-draw-tag id)))))

;;;; Drawing

(defun smtpmail-native-draw--positions ()
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

(defun smtpmail-native-draw-search (id)
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

(defun smtpmail-native-draw-find (id)
  "Return where the line of the entry ID begins, or nil."
  (save-excursion
    (if (null tabulated-list-sort-key)
        (and (smtpmail-native-draw-search id) (point))
      (goto-char (point-min))
      (let ((found nil))
        (while (and (not found) (not (eobp)))
          (if (equal (tabulated-list-get-id) id)
              (setq found (point))
            (forward-line)))
        found))))

(defun smtpmail-native-draw--go-back (positions)
  "Bring the windows of the current buffer to POSITIONS again.
Where the entry is gone, it is the same line."
  (pcase-dolist (`(,window ,id ,column ,line ,start) positions)
    (let ((point (save-excursion
                   (let ((found (and id (smtpmail-native-draw-find id))))
                     (goto-char (or found (point-min)))
                     (unless found
                       (forward-line (1- line)))
                     (move-to-column column)
                     (point)))))
      (if (null window)
          (goto-char point)
        (let ((found (and start (smtpmail-native-draw-find start))))
          (when found
            (set-window-start window found t)))
        (set-window-point window point)))))

;; The first lines are drawn at once.  The rest of ten thousand follow from a
;; timer, in the same order.

(defconst smtpmail-native-draw--first 100
  "How many lines are drawn at once, at least.")

(defvar smtpmail-native-draw--undrawn (smtpmail-native-fifo-make)
  "Ids of entries that get their first line at the end of the buffer.")

(defvar smtpmail-native-draw--waiting (make-hash-table :test #'equal)
  "The ids in `smtpmail-native-draw--undrawn', as keys.")

(defun smtpmail-native-draw--undrawn-p ()
  "Return non-nil if there are lines to be drawn at the end of the buffer."
  (> (hash-table-count smtpmail-native-draw--waiting) 0))

(defun smtpmail-native-draw-key (entry column)
  "Return what ENTRY is sorted by in COLUMN, a name.
The value is a number or a string."
  (pcase column
    ("State" (substring-no-properties (smtpmail-native-row-state entry)))
    ("To" (smtpmail-native-row-to entry))
    ("Subject" (smtpmail-native-row-subject entry))
    ("Size" (smtpmail-native-row-number entry 'size))
    ("Age" (smtpmail-native-row-number entry 'age))
    ("Tries" (smtpmail-native-row-number entry 'tries))
    ("Next" (smtpmail-native-row-number entry 'next))
    (_ "")))

(defun smtpmail-native-draw-less-p (a b)
  "Return non-nil if the key A comes before B; both are of one kind."
  (if (numberp a) (< a b) (string< a b)))

(defun smtpmail-native-draw--sorted (ids)
  "Return IDS in the order that you have chosen, or as they are."
  (pcase tabulated-list-sort-key
    (`(,column . ,flip)
     (let ((keyed (mapcar (lambda (id)
                            (cons (smtpmail-native-draw-key
                                   (smtpmail-native-index-entry id) column)
                                  id))
                          ids)))
       (mapcar #'cdr
               (sort keyed
                     (if flip
                         (lambda (a b)
                           (smtpmail-native-draw-less-p (car b) (car a)))
                       (lambda (a b)
                         (smtpmail-native-draw-less-p (car a) (car b))))))))
    (_ ids)))

(defun smtpmail-native-draw--deepest (ids)
  "Return how far down in IDS the lowest line is that a window shows.
The current buffer is that of the list, which is about to be redrawn."
  (let ((shown (delq nil
                     (mapcan (lambda (position)
                               (list (nth 1 position) (nth 4 position)))
                             (smtpmail-native-draw--positions))))
        (deepest 0)
        (index 0))
    (dolist (id ids)
      (setq index (1+ index))
      (when (member id shown)
        (setq deepest index)))
    deepest))

(defun smtpmail-native-draw-rows ()
  "Return the first rows of the list, each (ID COLUMNS); the others follow.
For `tabulated-list-entries'."
  (let* ((now (float-time))
         (ids (smtpmail-native-draw--sorted
               (smtpmail-native-index-select #'smtpmail-native-draw--wanted)))
         (count (max smtpmail-native-draw--first
                     (+ (smtpmail-native-draw--deepest ids)
                        (* 2 (frame-height)))))
         (later (nthcdr count ids)))
    (clrhash smtpmail-native-draw--dirty)
    (clrhash smtpmail-native-draw--waiting)
    (smtpmail-native-fifo-fill smtpmail-native-draw--undrawn
                               (copy-sequence later))
    (dolist (id later)
      (puthash id t smtpmail-native-draw--waiting))
    (when later
      (smtpmail-native-draw-later))
    (mapcar (lambda (id)
              (list id (smtpmail-native-row-columns
                        (smtpmail-native-index-entry id) now)))
            (seq-take ids count))))

(defun smtpmail-native-draw--draw-undrawn (until)
  "Draw lines at the end of the buffer, until the time UNTIL, or all if nil."
  (let ((inhibit-read-only t)
        (now (float-time))
        (id nil))
    (goto-char (point-max))
    (while (and (or (null until) (< (float-time) until))
                (setq id (smtpmail-native-fifo-take
                          smtpmail-native-draw--undrawn)))
      (let ((columns (smtpmail-native-draw--columns id now)))
        (when (and (gethash id smtpmail-native-draw--waiting) columns)
          (smtpmail-native-draw-print id columns))
        (remhash id smtpmail-native-draw--waiting)))
    (set-buffer-modified-p nil)))

(defun smtpmail-native-draw--draw-line (id now)
  "Draw the line of the entry ID again, as it is at the time NOW.
A line that stays is not touched."
  (let ((there (smtpmail-native-draw-search id))
        (columns (smtpmail-native-draw--columns id now)))
    (unless (and there columns
                 (equal-including-properties (tabulated-list-get-entry)
                                             columns))
      (when there
        (delete-region (point) (line-beginning-position 2)))
      (when columns
        (smtpmail-native-draw-print id columns)))))

(defun smtpmail-native-draw--draw-lines (until)
  "Draw the lines again that have to be, until the time UNTIL, or all if nil."
  (let ((inhibit-read-only t)
        (now (float-time)))
    (catch 'enough
      (dolist (id (sort (hash-table-keys smtpmail-native-draw--dirty)
                        #'string<))
        (when (and until (> (float-time) until))
          (throw 'enough nil))
        (remhash id smtpmail-native-draw--dirty)
        (unless (gethash id smtpmail-native-draw--waiting)
          (smtpmail-native-draw--draw-line id now))))
    (set-buffer-modified-p nil)))

(defun smtpmail-native-draw--draw-here (id now)
  "Draw the line at point, of the entry ID, as it is at the time NOW.
Leave point after it."
  (let ((columns (smtpmail-native-draw--columns id now)))
    (if (and columns (equal-including-properties (tabulated-list-get-entry)
                                                 columns))
        (forward-line)
      (delete-region (point) (line-beginning-position 2))
      (when columns
        (smtpmail-native-draw-print id columns)))))

(defun smtpmail-native-draw--draw-sorted (until)
  "Draw the lines again that have to be, until the time UNTIL, or all if nil.
The lines are in an order that you have chosen, and each stays where it is;
new ones come last, until \\[revert-buffer] sorts them."
  (let ((inhibit-read-only t)
        (now (float-time))
        (enough nil))
    (goto-char (point-min))
    (while (not (or enough (eobp)))
      (let ((id (tabulated-list-get-id)))
        (if (not (and id (gethash id smtpmail-native-draw--dirty)))
            (forward-line)
          (remhash id smtpmail-native-draw--dirty)
          (smtpmail-native-draw--draw-here id now)
          (setq enough (and until (> (float-time) until))))))
    (unless enough
      (smtpmail-native-draw--append until now))
    (set-buffer-modified-p nil)))

(defun smtpmail-native-draw--append (until now)
  "Draw at point, the end, what has no line yet, as it is at the time NOW.
Stop at the time UNTIL, if non-nil."
  (dolist (id (sort (hash-table-keys smtpmail-native-draw--dirty) #'string<))
    (unless (and until (> (float-time) until))
      (let ((columns (smtpmail-native-draw--columns id now)))
        (remhash id smtpmail-native-draw--dirty)
        (when (and columns (not (gethash id smtpmail-native-draw--waiting)))
          (smtpmail-native-draw-print id columns))))))

(defun smtpmail-native-draw--draw (buffer &optional until)
  "Show what is known in BUFFER, without moving point in any window.
Stop at the time UNTIL, if non-nil."
  (with-current-buffer buffer
    (smtpmail-native-draw--spread)
    (when (or (> (hash-table-count smtpmail-native-draw--dirty) 0)
              (smtpmail-native-draw--undrawn-p))
      (let ((positions (smtpmail-native-draw--positions)))
        (if (null tabulated-list-sort-key)
            (smtpmail-native-draw--draw-lines until)
          (smtpmail-native-draw--draw-sorted until))
        (when (smtpmail-native-draw--undrawn-p)
          (smtpmail-native-draw--draw-undrawn until))
        (smtpmail-native-draw--go-back positions)))))

(defun smtpmail-native-draw-all ()
  "Draw the whole list of the current buffer, in the order that you have chosen."
  (let ((positions (smtpmail-native-draw--positions)))
    (setq smtpmail-native-draw--all nil)
    (tabulated-list-print)
    (smtpmail-native-draw--go-back positions)))

(defun smtpmail-native-draw-seen ()
  "Have the lines that are seen in some window drawn again, for their ages."
  (dolist (window (get-buffer-window-list nil nil 'visible))
    (save-excursion
      (goto-char (window-start window))
      (let ((lines (window-height window)))
        (while (and (> lines 0) (not (eobp)))
          (puthash (tabulated-list-get-id) t smtpmail-native-draw--dirty)
          (forward-line)
          (setq lines (1- lines)))))))

(provide 'smtpmail-native-draw)
;;; smtpmail-native-draw.el ends here
