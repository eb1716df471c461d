;;; smtpmail-native-line.el --- The outbox in the mode line  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A few characters in the mode line say how many messages are being sent or
;; about to be, and how many need you.  They are counted in memory.

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
  "Return (SENDING WAITING NEEDY UNLOCKABLE), numbers of entries.
The last is of those of the third that an answer of yours can send."
  (let ((sending 0) (waiting 0) (needy 0) (unlockable 0)
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
        ((and (eq (smtpmail-native-entry-status entry) 'ready)
              (or (smtpmail-native-entry-due-p entry now)
                  (smtpmail-native-entry-undo-p entry)))
         (setq waiting (1+ waiting))))))
    (list sending waiting needy unlockable)))

(defun smtpmail-native-line--percentage ()
  "Return how much of the current message is done in percent, or nil."
  (seq-some #'smtpmail-native-row-percentage
            (sort (smtpmail-native-attempt-sendings)
                  (lambda (a b) (< (smtpmail-native-sending-start a)
                                   (smtpmail-native-sending-start b))))))

(defun smtpmail-native-line--text ()
  "Return what the mode line has to say now, with its properties."
  (pcase-let* ((`(,sending ,waiting ,needy ,unlockable)
                (smtpmail-native-line-counts))
               (percentage (smtpmail-native-line--percentage))
               (going (+ sending waiting))
               (parts
                (delq nil
                      (list (and (> going 0) (number-to-string going))
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
               (concat
                (format "Outbox: %d being sent, %d waiting, %d need attention
mouse-1: Show the outbox" sending waiting needy)
                (if (> unlockable 0)
                    (format "\nmouse-3: Enter what %d of them wait for"
                            unlockable)
                  ""))
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
