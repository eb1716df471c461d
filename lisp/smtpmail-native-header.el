;;; smtpmail-native-header.el --- The header of a message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The fields of a header (RFC 5322, 2.2) in a buffer that holds nothing else.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-address)
(require 'smtpmail-native-error)

(defvar mail-header-separator)

(defconst smtpmail-native-header-field-regexp "\\([!-9;-~]+\\)[ \t]*:"
  "Matches the name of a header field and its colon (RFC 5322, 3.6.8, 4.5).")

(defconst smtpmail-native-header-line-regexp
  (concat "[ \t]\\|" smtpmail-native-header-field-regexp)
  "Matches the beginning of any line of a header.")

(defun smtpmail-native-header-malformed (format &rest args)
  "Signal that the message is malformed; the text is FORMAT with ARGS."
  (smtpmail-native-error-signal 'smtpmail-native-malformed-message
                                (apply #'format-message format args)))

;;;; Fields

(cl-defstruct (smtpmail-native-field
               (:constructor smtpmail-native-field--new (key name beg end text))
               (:copier nil))
  "A field of a header."
  (key nil :documentation "Its name in lower case.")
  (name nil :documentation "Its name as written.")
  (beg nil :documentation "Where it begins.")
  (end nil :documentation "Where it ends, its last newline included.")
  (text nil :documentation "Its body, unfolded and trimmed."))

(defun smtpmail-native-header--body (beg end)
  "Return the text between BEG and END, unfolded and trimmed.
Trimmed first: `string-trim' tries each blank of a long list of recipients."
  (save-excursion
    (goto-char beg)
    (skip-chars-forward " \t\n\r" end)
    (let ((start (point)))
      (goto-char end)
      (skip-chars-backward " \t\n\r" start)
      (string-replace "\n" ""
                      (buffer-substring-no-properties start (point))))))

(defun smtpmail-native-header-fields ()
  "Return the fields of the header in the current buffer, in their order."
  (let (fields)
    (save-excursion
      (goto-char (point-min))
      (while (looking-at smtpmail-native-header-field-regexp)
        (let ((beg (point))
              (text (match-end 0))
              (name (match-string-no-properties 1)))
          (while (progn (forward-line)
                        (memq (char-after) '(?\s ?\t))))
          (push (smtpmail-native-field--new
                 (downcase name) name beg (point)
                 (smtpmail-native-header--body text (point)))
                fields))))
    (nreverse fields)))

(defun smtpmail-native-header-select (keys fields)
  "Return those of FIELDS whose key is in KEYS."
  (seq-filter (lambda (field) (member (smtpmail-native-field-key field) keys))
              fields))

(defun smtpmail-native-header-value (key fields)
  "Return the text of the first of FIELDS with KEY that is not blank, or nil."
  (seq-some (lambda (field)
              (and (equal (smtpmail-native-field-key field) key)
                   (smtpmail-native-header-text field)))
            fields))

(defun smtpmail-native-header-text (field)
  "Return the text of FIELD, or nil if it is blank."
  (let ((text (smtpmail-native-field-text field)))
    (and (not (string-empty-p text)) text)))

(defun smtpmail-native-header-delete (wanted)
  "Delete the fields for which the predicate WANTED returns non-nil."
  (dolist (field (nreverse (smtpmail-native-header-fields)))
    (when (funcall wanted field)
      (delete-region (smtpmail-native-field-beg field)
                     (smtpmail-native-field-end field)))))

(defun smtpmail-native-header-remove (keys)
  "Delete the fields whose key is in KEYS."
  (smtpmail-native-header-delete
   (lambda (field) (member (smtpmail-native-field-key field) keys))))

(defun smtpmail-native-header--blocks (fields)
  "Return the blocks of Resent- fields in FIELDS, each a list, in their order.
Blocks that touch are told apart by a field that comes back; recipients may
go on in a second field of the same name right after the first (RFC 5322,
4.5)."
  (let (blocks block keys)
    (dolist (field fields)
      (let* ((key (smtpmail-native-field-key field))
             (resent (string-prefix-p "resent-" key)))
        (when (and block
                   (or (not resent)
                       (and (member key keys) (not (equal key (car keys))))))
          (push (nreverse block) blocks)
          (setq block nil
                keys nil))
        (when resent
          (push field block)
          (push key keys))))
    (nreverse (if block (cons (nreverse block) blocks) blocks))))

(defun smtpmail-native-header-resent-block (fields)
  "Return the FIELDS that name the recipients of a resent message, or nil.
Every resending puts a block of Resent- fields on top (RFC 5322, 3.6.6),
so the first block with recipients is the last resending."
  (seq-find (lambda (block)
              (smtpmail-native-header-select
               '("resent-to" "resent-cc" "resent-bcc") block))
            (smtpmail-native-header--blocks fields)))

;;;; Form

(defun smtpmail-native-header-fail-line (number)
  "Signal that the line at point, number NUMBER, is not part of a header."
  (smtpmail-native-header-malformed
   "Line %d is neither a header field nor %s: %s\
 (a continuation line must start with a space or tab)"
   number
   (if (member mail-header-separator '(nil ""))
       "empty"
     (concat "the line "
             (smtpmail-native-address-quote mail-header-separator)))
   (smtpmail-native-address-quote
    (buffer-substring-no-properties (point) (line-end-position)))))

(defun smtpmail-native-header-tidy ()
  "Make the header in the current buffer one field after the other.
Signal `smtpmail-native-usage-error' if it holds anything that is not a
field, or a character that could end a line or the header on the wire."
  (goto-char (point-max))
  (unless (bolp)
    (insert "\n"))
  (goto-char (point-min))
  (while (search-forward "\r\n" nil t)
    (replace-match "\n"))
  ;; Some servers take a line of blanks for the end of the header.
  (goto-char (point-min))
  (while (re-search-forward "^[ \t]*\n" nil t)
    (replace-match ""))
  (goto-char (point-min))
  (let ((line 1))
    (while (not (eobp))
      (unless (looking-at (if (bobp)
                              smtpmail-native-header-field-regexp
                            smtpmail-native-header-line-regexp))
        (smtpmail-native-header-fail-line line))
      (skip-chars-forward "^\0\r\n")
      (unless (eq (char-after) ?\n)
        (smtpmail-native-header-malformed
         "Control character in line %d of the header: %s" line
         (smtpmail-native-address-quote
          (buffer-substring-no-properties
           (line-beginning-position) (line-end-position)))))
      (forward-line)
      (setq line (1+ line)))))

(provide 'smtpmail-native-header)
;;; smtpmail-native-header.el ends here
