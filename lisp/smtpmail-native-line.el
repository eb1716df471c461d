;;; smtpmail-native-line.el --- The outbox in the mode line  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A few characters in the mode line say how many messages are being sent or
;; about to be, how many wait for another try or for a flush, and how many need
;; you.  They are counted in memory.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-index)
(require 'smtpmail-native-row)

(defvar smtpmail-native-mode-line ""
  "What the mode line says of the outbox.
It is put into `global-mode-string' when there is first something to say.")

(put 'smtpmail-native-mode-line 'risky-local-variable t)

(defvar smtpmail-native-list-mode-line-map
  (let ((map (make-sparse-keymap)))
    ;; The package's autoloads know these commands.
    (define-key map [mode-line mouse-1] 'smtpmail-native-outbox)
    (define-key map [mode-line mouse-3] 'smtpmail-native-unlock)
    map)
  "Keymap of the outbox's part of the mode line.")

(defun smtpmail-native-line-counts ()
  "Return numbers of entries, a plist.
:sending are being sent, :due are about to be, and :undo can still be undone.
:waiting wait for another try, :queued for a flush, and :needy for you;
:unlockable are those of the latter that an answer of yours can send."
  (let ((sending 0) (due 0) (undo 0) (waiting 0) (queued 0) (needy 0)
        (unlockable 0)
        (now (float-time)))
    (smtpmail-native-index-map
     (lambda (entry)
       (cond
        ((smtpmail-native-attempt-sending (smtpmail-native-entry-id entry))
         (setq sending (1+ sending)))
        ((smtpmail-native-entry-needs-user-p entry)
         (setq needy (1+ needy))
         (when (or (smtpmail-native-entry-locked-p entry)
                   (smtpmail-native-entry-untrusted-p entry))
           (setq unlockable (1+ unlockable))))
        ((smtpmail-native-entry-queued-p entry)
         (setq queued (1+ queued)))
        ((not (eq (smtpmail-native-entry-status entry) 'ready)))
        ((smtpmail-native-entry-undo-p entry)
         (setq undo (1+ undo)))
        ((smtpmail-native-entry-due-p entry now)
         (setq due (1+ due)))
        ;; What you have scheduled waits for nothing but its time.
        ((null (smtpmail-native-entry-release-time entry))
         (setq waiting (1+ waiting))))))
    (list :sending sending :due due :undo undo :waiting waiting
          :queued queued :needy needy :unlockable unlockable)))

(defun smtpmail-native-line--percentage ()
  "Return how much of the current message is done in percent, or nil."
  (seq-some #'smtpmail-native-row-percentage
            (sort (smtpmail-native-attempt-sendings)
                  (lambda (a b) (< (smtpmail-native-sending-start a)
                                   (smtpmail-native-sending-start b))))))

(defun smtpmail-native-line--part (number word face)
  "Return NUMBER and WORD, a string with FACE, or nil if NUMBER is 0."
  (and (> number 0)
       (propertize (if word (format "%d %s" number word)
                     (number-to-string number))
                   'face face)))

(defun smtpmail-native-line--parts (counts)
  "Return what the mode line says of COUNTS, a list of strings.
They are those of `smtpmail-native-line-counts'."
  (let ((percentage (smtpmail-native-line--percentage))
        (going (+ (plist-get counts :sending) (plist-get counts :due))))
    (delq nil
          (list (smtpmail-native-line--part going nil 'smtpmail-native-sending)
                (and percentage
                     (propertize (format "%d%%" percentage)
                                 'face 'smtpmail-native-sending))
                (smtpmail-native-line--part (plist-get counts :undo) "undo"
                                            'smtpmail-native-undo)
                (smtpmail-native-line--part (plist-get counts :waiting)
                                            "waiting" 'shadow)
                (smtpmail-native-line--part (plist-get counts :queued)
                                            "queued" 'shadow)
                (and (> (plist-get counts :needy) 0)
                     (propertize (format "!%d" (plist-get counts :needy))
                                 'face 'smtpmail-native-attention))))))

(defun smtpmail-native-line--help (counts)
  "Return the tool-tip of the mode line for COUNTS."
  (let ((unlockable (plist-get counts :unlockable)))
    (concat
     (format "Outbox: %d being sent, %d to be sent, %d waiting for another \
try, %d queued, %d need attention
mouse-1: Show the outbox"
             (plist-get counts :sending)
             (+ (plist-get counts :due) (plist-get counts :undo))
             (plist-get counts :waiting) (plist-get counts :queued)
             (plist-get counts :needy))
     (if (> unlockable 0)
         (format "\nmouse-3: Enter what %d of them wait for" unlockable)
       ""))))

(defun smtpmail-native-line--text ()
  "Return what the mode line has to say now, with its properties."
  (let* ((counts (smtpmail-native-line-counts))
         (parts (smtpmail-native-line--parts counts)))
    (if (null parts)
        ""
      (concat " "
              (propertize
               (concat "Mail:" (string-join parts " "))
               'help-echo (smtpmail-native-line--help counts)
               'mouse-face 'mode-line-highlight
               'local-map smtpmail-native-list-mode-line-map)))))

(defun smtpmail-native-line-update ()
  "Bring the mode line up to date."
  (let ((text (smtpmail-native-line--text)))
    (unless (equal text smtpmail-native-mode-line)
      (setq smtpmail-native-mode-line text)
      (unless (listp global-mode-string)
        (setq global-mode-string (list "" global-mode-string)))
      (unless (memq 'smtpmail-native-mode-line global-mode-string)
        (setq global-mode-string
              (append (or global-mode-string '(""))
                      '(smtpmail-native-mode-line))))
      (force-mode-line-update t))))

(defun smtpmail-native-line-remove ()
  "Take the outbox out of the mode line."
  (setq smtpmail-native-mode-line "")
  (when (listp global-mode-string)
    (setq global-mode-string
          (delq 'smtpmail-native-mode-line global-mode-string))))

(provide 'smtpmail-native-line)
;;; smtpmail-native-line.el ends here
