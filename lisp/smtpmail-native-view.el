;;; smtpmail-native-view.el --- An entry as people read it  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What is known of an entry, and its message, decoded.  Nothing is fetched,
;; verified or decrypted, and the entry is only read.

;;; Code:

(require 'mail-parse)
(require 'message)
(require 'mm-decode)
(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-outbox)

(declare-function shr-render-region "shr" (begin end &optional buffer))
(defvar shr-blocked-images)
(defvar shr-inhibit-images)
(defvar shr-use-fonts)

;;;; The message of an entry

(defun smtpmail-native-view-decode-header ()
  "Decode the header of the message in the current buffer as UTF-8.
Only octets that RFC 6532 allows beside encoded words change by that."
  (goto-char (point-min))
  (let ((end (if (search-forward "\n\n" nil t) (1- (point)) (point-max))))
    (decode-coding-region (point-min) end 'utf-8)))

(defun smtpmail-native-view-dissect ()
  "Return the MIME parts of the message in the current buffer.
Nothing is verified or decrypted, and no passphrase is asked for."
  (let ((mm-verify-option 'never)
        (mm-decrypt-option 'never))
    (mm-dissect-buffer t)))

;;;; Looking at it

(defun smtpmail-native-view--insert-html (text)
  "Insert TEXT, which is HTML, without fetching anything from anywhere."
  (if (not (and (fboundp 'libxml-available-p) (libxml-available-p)))
      (insert text)
    (require 'shr)
    (let ((start (point))
          (shr-inhibit-images t)
          (shr-blocked-images "")
          (shr-use-fonts nil))
      (insert text)
      (shr-render-region start (point)))))

(defun smtpmail-native-view--insert-leaf (handle)
  "Insert the MIME part HANDLE, which has no parts, as people read it."
  (let* ((type (mm-handle-media-type handle))
         (charset (mail-content-type-get (mm-handle-type handle) 'charset))
         (name (mm-handle-filename handle)))
    (unless (bolp)
      (insert "\n"))
    (if (and (string-prefix-p "text/" type)
             (not (equal (car (mm-handle-disposition handle)) "attachment")))
        (let ((text (mm-decode-string (mm-get-part handle)
                                      (or charset 'utf-8))))
          (if (equal type "text/html")
              (smtpmail-native-view--insert-html text)
            (insert text)))
      (insert (format "[%s%s, %s]\n"
                      (if name (concat (smtpmail-native-error-text name) ", ")
                        "")
                      (smtpmail-native-error-text type)
                      (file-size-human-readable
                       (buffer-size (mm-handle-buffer handle))))))))

(defun smtpmail-native-view--insert-part (handle)
  "Insert the MIME part HANDLE and those in it, as people read them.
Of alternatives the plain text is taken."
  (cond
   ((not (stringp (car handle)))
    (smtpmail-native-view--insert-leaf handle))
   ((equal (car handle) "multipart/alternative")
    (let ((parts (cdr handle)))
      (when parts
        (smtpmail-native-view--insert-part
         (or (seq-find (lambda (part)
                         (and (not (stringp (car part)))
                              (equal (mm-handle-media-type part)
                                     "text/plain")))
                       parts)
             (car parts))))))
   (t (mapc #'smtpmail-native-view--insert-part (cdr handle)))))

(defun smtpmail-native-view--header-lines ()
  "Return the fields of the message in the current buffer, decoded lines.
What a field holds cannot make it look like several."
  (smtpmail-native-view-decode-header)
  (goto-char (point-min))
  (let ((end (if (search-forward "\n\n" nil t) (- (point) 2) (point-max))))
    (mapcar (lambda (field)
              (smtpmail-native-error-text
               (mail-decode-encoded-word-string field)))
            (split-string (replace-regexp-in-string
                           "\n[ \t]+" " "
                           (buffer-substring (point-min) end))
                          "\n" t))))

(defun smtpmail-native-view--insert-message (entry)
  "Insert the message of ENTRY as people read it."
  (let ((target (current-buffer)))
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (smtpmail-native-outbox-insert-message entry)
      (let ((handles (smtpmail-native-view-dissect)))
        (set-buffer-multibyte t)
        (unwind-protect
            (let ((lines (smtpmail-native-view--header-lines)))
              (with-current-buffer target
                (dolist (line lines)
                  (let ((start (point)))
                    (insert line "\n")
                    (when (string-match "\\`[^: ]+:" line)
                      (put-text-property start (+ start (match-end 0))
                                         'face 'message-header-name))))
                (insert "\n")
                (when handles
                  (smtpmail-native-view--insert-part handles))))
          (mm-destroy-parts handles))))))

(defun smtpmail-native-view--insert-state (entry state)
  "Insert what is known of ENTRY, whose state people call STATE."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (plist (smtpmail-native-entry-state entry))
         (results (append (plist-get plist :results)
                          (plist-get plist :replies)))
         (line (lambda (name text)
                 (insert (propertize (concat name ":") 'face 'bold) " "
                         (smtpmail-native-error-text text) "\n"))))
    (funcall line "State" state)
    (when (smtpmail-native-entry-problem entry)
      (funcall line "Problem" (smtpmail-native-entry-problem entry)))
    (when (plist-get plist :text)
      (funcall line "Reason" (plist-get plist :text)))
    (when envelope
      (funcall line "Server" (format "%s:%s" (plist-get envelope :host)
                                     (plist-get envelope :port)))
      (funcall line "Sender" (plist-get envelope :sender))
      (dolist (address (plist-get envelope :recipients))
        (pcase (assoc address results)
          (`(,_ ,outcome . ,reply)
           (funcall line "Recipient"
                    (format "%s: %s, %s" address outcome
                            (mapconcat (lambda (part) (format "%s" part))
                                       (delete "" (delq nil reply)) " "))))
          (_ (funcall line "Recipient" address)))))
    (funcall line "Directory" (abbreviate-file-name
                            (smtpmail-native-outbox-file entry)))
    (insert "\n")))

(defun smtpmail-native-view-insert (entry state)
  "Insert ENTRY, which people say is STATE, a string, into the current buffer.
Of a damaged entry it is what is left."
  (smtpmail-native-view--insert-state entry state)
  (condition-case err
      (smtpmail-native-view--insert-message entry)
    (error
     (insert (format "[Cannot display this message: %s]\n"
                     (smtpmail-native-error-text
                      (error-message-string err)))))))

(provide 'smtpmail-native-view)
;;; smtpmail-native-view.el ends here
