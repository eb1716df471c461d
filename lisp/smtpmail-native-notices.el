;;; smtpmail-native-notices.el --- The buffer of notices  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Notices stay until the matter is solved: each belongs to an entry and goes
;; with its trouble.  The window appears at the bottom of the frame and is never
;; selected.  If you hide it, it comes back for what is new, and for nothing else.
;;
;; This file is loaded when there is something to show.

;;; Code:

(require 'seq)
(require 'smtpmail-native-index)
(require 'smtpmail-native-notice)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-react)
(require 'smtpmail-native-show)
(require 'smtpmail-native-tell)

(defconst smtpmail-native-notices--name "*smtpmail-native notices*"
  "The name of the buffer of notices.")

(defconst smtpmail-native-notices--pause 0.1
  "Seconds for which news are gathered before they are shown.")

(defconst smtpmail-native-notices--farewell 10
  "Seconds for which a notice says that its message was sent after all.")

(defvar smtpmail-native-notices--table (make-hash-table :test #'equal)
  "The notices, by the id of their entry; the oldest first.")

(defvar smtpmail-native-notices--timer nil
  "The timer of the next update, or nil.")

(defvar smtpmail-native-notices--news nil
  "Non-nil if there is a notice that the user has not seen.")

;;;; What there is

(defun smtpmail-native-notices-list ()
  "Return all notices, the oldest first."
  (let ((notices nil))
    (maphash (lambda (_id notice) (push notice notices))
             smtpmail-native-notices--table)
    (nreverse notices)))

(defun smtpmail-native-notices--later ()
  "Have the buffer brought up to date in a moment."
  (unless (memq smtpmail-native-notices--timer timer-list)
    (setq smtpmail-native-notices--timer
          (smtpmail-native-quiet-timer smtpmail-native-notices--pause
                                       #'smtpmail-native-notices--update))))

(defun smtpmail-native-notices-drop (id)
  "Remove the notice ID, if there is one."
  (when (gethash id smtpmail-native-notices--table)
    (remhash id smtpmail-native-notices--table)
    (smtpmail-native-notices--later)))

(defun smtpmail-native-notices-put (notice)
  "Show NOTICE in the place of an earlier one of its message.
NOTICE is a `smtpmail-native-notice', or a string for one that concerns no
message.  One that says that a message was sent only takes the place of
another."
  (let* ((notice (if (stringp notice)
                     (smtpmail-native-notice-text-only notice)
                   notice))
         (id (smtpmail-native-notice-id notice))
         (sent (eq (smtpmail-native-notice-kind notice) 'sent)))
    (add-hook 'smtpmail-native-changed-functions
              #'smtpmail-native-notices-note)
    ;; A daemon shows them to the first client.
    (add-hook 'server-after-make-frame-hook #'smtpmail-native-notices--later)
    (unless (or sent
                (seq-some (lambda (other)
                            (smtpmail-native-notice-same-p notice other))
                          (smtpmail-native-notices-list)))
      (setq smtpmail-native-notices--news t))
    (when (or (not sent) (gethash id smtpmail-native-notices--table))
      (puthash id notice smtpmail-native-notices--table)
      (when sent
        (smtpmail-native-quiet-timer smtpmail-native-notices--farewell
                                     #'smtpmail-native-notices-drop id))
      (smtpmail-native-notices--later))))

(defun smtpmail-native-notices--renew (notice entry)
  "Let NOTICE, that ENTRY is tried again, say when and why by now."
  (let ((new (smtpmail-native-notice entry)))
    (unless (or (not (smtpmail-native-notice-same-p notice new))
                (equal notice new))
      (puthash (smtpmail-native-notice-id notice) new
               smtpmail-native-notices--table)
      (smtpmail-native-notices--later))))

(defun smtpmail-native-notices--check (id)
  "Remove the notice ID if its entry is in trouble no more."
  (let* ((notice (gethash id smtpmail-native-notices--table))
         (kind (and notice (smtpmail-native-notice-kind notice)))
         (entry (and notice (smtpmail-native-index-entry id))))
    (cond ((memq kind '(nil text sent)))
          ((not (smtpmail-native-notice-wanted-p entry))
           (smtpmail-native-notices-drop id))
          ((eq kind 'deferred)
           (smtpmail-native-notices--renew notice entry)))))

(defun smtpmail-native-notices-note (id)
  "See whether the notice of the entry ID is still true; if ID is nil, of all.
For `smtpmail-native-changed-functions'."
  (if id
      (smtpmail-native-notices--check id)
    (dolist (notice (smtpmail-native-notices-list))
      (smtpmail-native-notices--check (smtpmail-native-notice-id notice)))))

;;;; The buffer

(defvar smtpmail-native-notices-mode-map
  (let ((map (make-sparse-keymap)))
    (set-keymap-parent map (make-composed-keymap button-buffer-map
                                                 special-mode-map))
    (define-key map "n" #'forward-button)
    (define-key map "p" #'backward-button)
    (define-key map "k" #'smtpmail-native-notices-dismiss)
    (define-key map "o" 'smtpmail-native-outbox) ; autoloaded
    map)
  "Keymap of `smtpmail-native-notices-mode'.")

(define-derived-mode smtpmail-native-notices-mode special-mode "Notices"
  "Major mode for notices of messages that need you.

\\<smtpmail-native-notices-mode-map>\
\\[forward-button]	Go to the next button
\\[push-button]	Do what the button says
\\[smtpmail-native-notices-dismiss]	Remove the notice at point; its message stays in the outbox
\\[quit-window]	Hide the notices until there is a new one

\\{smtpmail-native-notices-mode-map}"
  :interactive nil
  (setq-local revert-buffer-function
              (lambda (&rest _) (smtpmail-native-notices--draw)))
  (setq truncate-lines nil))

(defun smtpmail-native-notices--draw ()
  "Draw all notices in the current buffer; keep point in its notice."
  (let ((inhibit-read-only t)
        (id (get-text-property (point) 'smtpmail-native-notice))
        (line (count-lines (point-min) (line-beginning-position))))
    (erase-buffer)
    (dolist (group (smtpmail-native-notice-groups
                    (smtpmail-native-notices-list)))
      (unless (bobp)
        (insert "\n"))
      (let ((start (point)))
        (insert (smtpmail-native-notice-block group))
        (put-text-property start (point) 'smtpmail-native-notice
                           (mapcar #'smtpmail-native-notice-id group))))
    (when (bobp)
      (insert "No notices\n"))
    (set-buffer-modified-p nil)
    (goto-char (point-min))
    (let ((place (and id (text-property-any (point-min) (point-max)
                                            'smtpmail-native-notice id))))
      (if place
          (goto-char place)
        (forward-line line)))))

(defun smtpmail-native-notices--windows ()
  "Return the windows that show the notices."
  (get-buffer-window-list smtpmail-native-notices--name nil t))

(defun smtpmail-native-notices--fit (window)
  "Make WINDOW as high as its text, up to a third of its frame."
  (fit-window-to-buffer window (max 4 (/ (frame-height (window-frame window))
                                         3))
                        2))

(defun smtpmail-native-notices--show ()
  "Show the buffer at the bottom of the frame, and do not select it."
  (when (smtpmail-native-tell-attended-p)
    (condition-case nil
        (display-buffer
         smtpmail-native-notices--name
         `((display-buffer-reuse-window display-buffer-in-side-window)
           (side . bottom)
           (slot . -1)
           (inhibit-switch-frame . t)
           (window-height . ,#'smtpmail-native-notices--fit)))
      ;; There is no room for it.
      (error (smtpmail-native-tell-say
              "%s" (smtpmail-native-notice-line
                    (car (last (smtpmail-native-notices-list)))))))))

(defun smtpmail-native-notices--hide ()
  "Take the windows of the notices away."
  (dolist (window (smtpmail-native-notices--windows))
    (if (window-parameter window 'window-side)
        (delete-window window)
      (quit-window nil window))))

(defun smtpmail-native-notices--update ()
  "Bring the buffer, and the window, up to date."
  (let ((news smtpmail-native-notices--news))
    (setq smtpmail-native-notices--news
          (and news (not (smtpmail-native-tell-attended-p))))
    (when (or news (get-buffer smtpmail-native-notices--name))
      (with-current-buffer (get-buffer-create smtpmail-native-notices--name)
        (unless (derived-mode-p 'smtpmail-native-notices-mode)
          (smtpmail-native-notices-mode))
        (smtpmail-native-notices--draw))
      (cond ((= 0 (hash-table-count smtpmail-native-notices--table))
             (smtpmail-native-notices--hide))
            (news (smtpmail-native-notices--show)))
      (dolist (window (smtpmail-native-notices--windows))
        (when (window-parameter window 'window-side)
          (smtpmail-native-notices--fit window))))))

;;;; What you do with them

(defun smtpmail-native-notices--ids ()
  "Return the ids of the notices at point."
  (or (get-text-property (point) 'smtpmail-native-notice)
      (user-error "No notice here")))

(defun smtpmail-native-notices-dismiss ()
  "Remove the notice at point; its message stays in the outbox."
  (interactive nil smtpmail-native-notices-mode)
  (mapc #'smtpmail-native-notices-drop (smtpmail-native-notices--ids))
  (smtpmail-native-notices--update))

(defun smtpmail-native-notices-push (button)
  "Do what BUTTON says to the message of its notice."
  (let ((action (button-get button 'smtpmail-native-action))
        (id (button-get button 'smtpmail-native-id)))
    (pcase action
      ('dismiss (save-excursion
                  (goto-char (button-start button))
                  (smtpmail-native-notices-dismiss)))
      ('show (smtpmail-native-show id))
      (_ (smtpmail-native-react action id)))))

(defun smtpmail-native-notices ()
  "Show the notices of messages that need you."
  (interactive)
  (setq smtpmail-native-notices--news t)
  (smtpmail-native-notices--update)
  (smtpmail-native-notices--show)
  (let ((window (get-buffer-window smtpmail-native-notices--name)))
    (when window
      (select-window window))))

(provide 'smtpmail-native-notices)
;;; smtpmail-native-notices.el ends here
