;;; smtpmail-native-log-list.el --- The log of what was sent, to look at  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Shows the lines of the log, the newest first, and answers whether a message
;; arrived, as far as the server has said.  Other programs may have written the
;; file: a line that is none of ours is left out, and counted.

;;; Code:

(require 'json)
(require 'seq)
(require 'tabulated-list)
(require 'smtpmail-native-data)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

(defvar-local smtpmail-native-log-list--search nil
  "What the lines that are shown have in them, or nil for all.")

(defvar-local smtpmail-native-log-list--damaged 0
  "How many lines of the log could not be read.")

;;;; Reading

(defun smtpmail-native-log-list--parse (line)
  "Return the record in LINE, an alist, or nil if it is none."
  (let ((record (ignore-errors
                  (let ((json-object-type 'alist)
                        (json-array-type 'list)
                        (json-key-type 'symbol))
                    (json-read-from-string line)))))
    (and (consp record)
         (seq-every-p #'consp record)
         (stringp (alist-get 'time record))
         (stringp (alist-get 'outcome record))
         (listp (alist-get 'recipients record))
         (seq-every-p (lambda (recipient)
                        (and (listp recipient)
                             (seq-every-p #'consp recipient)))
                      (alist-get 'recipients record))
         record)))

(defun smtpmail-native-log-list--lines (file)
  "Return the lines of FILE, none if it is missing."
  (if (not (file-exists-p file))
      nil
    (with-temp-buffer
      (smtpmail-native-data-insert file 'utf-8 nil)
      (split-string (buffer-string) "\n" t))))

(defun smtpmail-native-log-list--records ()
  "Return all records, the newest first; count those that cannot be read."
  (let ((file (expand-file-name smtpmail-native-log-file))
        (records nil))
    (setq smtpmail-native-log-list--damaged 0)
    (dolist (line (append (smtpmail-native-log-list--lines (concat file ".1"))
                          (smtpmail-native-log-list--lines file)))
      (let ((record (smtpmail-native-log-list--parse line)))
        (if record
            (push record records)
          (setq smtpmail-native-log-list--damaged
                (1+ smtpmail-native-log-list--damaged)))))
    records))

(defun smtpmail-native-log-list--wanted-p (record)
  "Return non-nil if RECORD has what is searched for.
That is part of a recipient's address or of the Message-ID."
  (or (null smtpmail-native-log-list--search)
      (let ((case-fold-search t)
            (regexp (regexp-quote smtpmail-native-log-list--search)))
        (seq-some (lambda (text)
                    (and (stringp text) (string-match-p regexp text)))
                  (cons (alist-get 'message_id record)
                        (mapcar (lambda (recipient)
                                  (alist-get 'address recipient))
                                (alist-get 'recipients record)))))))

;;;; Showing

(defun smtpmail-native-log-list--text (value)
  "Return VALUE of a record as text that is safe to show."
  (cond ((stringp value) (smtpmail-native-error-text value))
        ((numberp value) (number-to-string value))
        (t "")))

(defun smtpmail-native-log-list--row (record)
  "Return the row of RECORD for `tabulated-list-entries'."
  (let* ((recipients (alist-get 'recipients record))
         (more (length (cdr recipients))))
    (list record
          (vector
           (smtpmail-native-log-list--text (alist-get 'time record))
           (smtpmail-native-log-list--text (alist-get 'outcome record))
           (concat (smtpmail-native-log-list--text
                    (alist-get 'address (car recipients)))
                   (if (> more 0) (format " +%d" more) ""))
           (smtpmail-native-log-list--text (alist-get 'server record))
           (smtpmail-native-log-list--text (alist-get 'reply record))))))

(defun smtpmail-native-log-list--rows ()
  "Return the rows of the log that are wanted."
  (mapcar #'smtpmail-native-log-list--row
          (seq-filter #'smtpmail-native-log-list--wanted-p
                      (smtpmail-native-log-list--records))))

(defun smtpmail-native-log-list--verdict (record recipient)
  "Return what RECORD tells of RECIPIENT, an alist of it, as a sentence."
  (let ((address (smtpmail-native-log-list--text (alist-get 'address recipient)))
        (server (smtpmail-native-log-list--text (alist-get 'server record))))
    (pcase (alist-get 'outcome recipient)
      ("sent" (format "%s accepted it for %s.  Whether it reached the mailbox \
only the servers after that one know." server address))
      ("refused" (format "%s refused %s: no." server address))
      ("deferred" (format "%s did not accept it for %s at that time." server
                          address))
      (_ (format "%s may have accepted it for %s: it did not say." server
                 address)))))

(defun smtpmail-native-log-list-show ()
  "Show all that the log has of the message at point, and whether it arrived."
  (interactive nil smtpmail-native-log-mode)
  (let ((record (or (tabulated-list-get-id)
                    (user-error "No message on this line"))))
    (with-current-buffer (get-buffer-create "*smtpmail-native log entry*")
      (let ((inhibit-read-only t))
        (erase-buffer)
        (dolist (recipient (alist-get 'recipients record))
          (insert (smtpmail-native-log-list--verdict record recipient) "\n"
                  "  " (string-join
                        (mapcar (lambda (key)
                                  (smtpmail-native-log-list--text
                                   (alist-get key recipient)))
                                '(code enhanced text))
                        " ")
                  "\n"))
        (insert "\n")
        (dolist (key '(time outcome message_id sender server port tls mechanism
                            octets seconds code reply entry))
          (let ((text (smtpmail-native-log-list--text (alist-get key record))))
            (unless (equal text "")
              (insert (format "%-12s%s\n" key text)))))
        (goto-char (point-min)))
      (special-mode)
      (display-buffer (current-buffer)))))

(defvar smtpmail-native-log-mode-map
  (let ((map (make-sparse-keymap)))
    (set-keymap-parent map tabulated-list-mode-map)
    (define-key map (kbd "RET") #'smtpmail-native-log-list-show)
    (define-key map "/" #'smtpmail-native-log-list-search)
    map)
  "Keymap of `smtpmail-native-log-mode'.")

(define-derived-mode smtpmail-native-log-mode tabulated-list-mode "Mail Log"
  "Major mode for the log of what was sent.

\\{smtpmail-native-log-mode-map}"
  :interactive nil
  (setq tabulated-list-format [("Time" 24 t) ("Outcome" 11 t) ("To" 30 t)
                               ("Server" 22 t) ("Reply" 0 nil)]
        tabulated-list-entries #'smtpmail-native-log-list--rows)
  (tabulated-list-init-header))

(defun smtpmail-native-log-list--draw ()
  "Draw the log as it is now."
  (tabulated-list-print t)
  (when (> smtpmail-native-log-list--damaged 0)
    (message "%d line%s of the log cannot be read"
             smtpmail-native-log-list--damaged
             (if (= smtpmail-native-log-list--damaged 1) "" "s"))))

(defun smtpmail-native-log-list-search (text)
  "Show only messages with TEXT in a recipient's address or the Message-ID.
With an empty TEXT show all."
  (interactive (list (read-string "Recipient or Message-ID (empty for all): "))
               smtpmail-native-log-mode)
  (setq smtpmail-native-log-list--search (and (not (equal text "")) text))
  (smtpmail-native-log-list--draw))

;;;###autoload
(defun smtpmail-native-log ()
  "Show the log of what was sent, the newest first.
Signal a `user-error' if `smtpmail-native-log-file' is nil."
  (interactive)
  (unless smtpmail-native-log-file
    (user-error "Set `smtpmail-native-log-file' to have a log"))
  (pop-to-buffer (get-buffer-create "*smtpmail-native log*"))
  (unless (derived-mode-p 'smtpmail-native-log-mode)
    (smtpmail-native-log-mode))
  (smtpmail-native-log-list--draw))

(provide 'smtpmail-native-log-list)
;;; smtpmail-native-log-list.el ends here
