;;; smtpmail-native-message.el --- From a mail buffer to envelope and octets  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Everything that `smtpmail-send-it' does for a mail before it talks to a
;; server, on a copy of the mail buffer, which itself is never altered.  No
;; network and no files.  The addresses are parsed by rfc822.el, which knows
;; quoting, comments and groups; what it leaves of source routes, and how it
;; reports what it cannot parse, is looked after here.

;;; Code:

(require 'smtpmail-native-error)
(require 'mail-utils)
(require 'sendmail)

(declare-function rfc822-addresses "rfc822" (header-text))
(declare-function message-narrow-to-headers "message" ())
(declare-function message-make-date "message" (&optional now))
(declare-function message-make-message-id "message" ())
(declare-function smtpmail-user-mail-address "smtpmail" ())
(declare-function smtpmail-maybe-append-domain "smtpmail" (recipient))
(declare-function expand-mail-aliases "mailalias" (beg end &optional exclude))
(defvar smtpmail-code-conv-from)
(defvar smtpmail-mail-address)
(defvar smtpmail-recipient-address-list)

(defun smtpmail-native-message--fail (format &rest args)
  "Signal a usage error with the text of FORMAT and ARGS."
  (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                (apply #'format-message format args)))

;;;; Addresses

(defun smtpmail-native-message--without-route (address)
  "Return ADDRESS without the obsolete source route of RFC 5321, appendix C."
  (if (string-match "\\`<@[^:]*:\\(.*\\)>\\'" address)
      (match-string 1 address)
    address))

(defun smtpmail-native-message--same-key (address)
  "Return what is equal for two spellings of ADDRESS.
Its local part counts exactly, its domain without regard to case."
  (if (string-match "@[^@\"]*\\'" address)
      (concat (substring address 0 (match-beginning 0))
              (downcase (match-string 0 address)))
    address))

(defun smtpmail-native-message-recipients (text &optional header)
  "Return the addresses of TEXT, the body of an address field (RFC 5322 3.4).
The value is a list of addr-specs, each once.  Folding, comments, display
names, groups and source routes are gone.  Signal
`smtpmail-native-usage-error' for what is no address; HEADER names the
field in the error."
  (require 'rfc822)
  (let ((addresses nil)
        (keys nil))
    (dolist (found (rfc822-addresses
                    (replace-regexp-in-string "\r?\n[ \t]*" " " text)))
      (let* ((address (smtpmail-native-message--without-route found))
             (key (smtpmail-native-message--same-key address)))
        (when (string-prefix-p "(" address)
          (smtpmail-native-message--fail
           "%s holds what is no address: %s" (or header "The header")
           (string-trim text)))
        (when (string-match-p "[[:cntrl:]]" address)
          (smtpmail-native-message--fail
           "%s holds an address with a control character" (or header
                                                              "The header")))
        (unless (member key keys)
          (push key keys)
          (push address addresses))))
    (nreverse addresses)))

;;;; Headers; the buffer is narrowed to them

(defun smtpmail-native-message--fields (regexp)
  "Return (NAME . BODY) of the fields whose whole name matches REGEXP."
  (let ((case-fold-search t)
        (fields nil))
    (goto-char (point-min))
    (while (re-search-forward (concat "^\\(" regexp "\\)[ \t]*:") nil t)
      (let ((name (match-string-no-properties 1))
            (start (point)))
        (forward-line 1)
        (while (looking-at "[ \t]")
          (forward-line 1))
        (push (cons name (string-trim-right
                          (buffer-substring-no-properties start (point))))
              fields)))
    (nreverse fields)))

(defun smtpmail-native-message--delete-fields (regexp)
  "Delete the fields whose whole name matches REGEXP."
  (let ((case-fold-search t))
    (goto-char (point-min))
    (while (re-search-forward (concat "^\\(?:" regexp "\\)[ \t]*:") nil t)
      (beginning-of-line)
      (let ((start (point)))
        (forward-line 1)
        (while (looking-at "[ \t]")
          (forward-line 1))
        (delete-region start (point))))))

(defun smtpmail-native-message--resent-fields ()
  "Return the Resent-* fields of the last resending, as (NAME . BODY).
They stand on top of those of earlier ones (RFC 5322 3.6.6), and so a name
that comes again begins an earlier one."
  (let ((fields nil))
    (catch 'earlier
      (dolist (field (smtpmail-native-message--fields "Resent-[-a-z]+"))
        (when (assoc-string (car field) fields t)
          (throw 'earlier nil))
        (push field fields)))
    (nreverse fields)))

(defun smtpmail-native-message--all-recipients ()
  "Return the recipients that the header names, without duplicates.
Those of a resending take the place of the others."
  (let* ((resent (smtpmail-native-message--resent-fields))
         (to (lambda (fields)
               (seq-filter
                (lambda (field)
                  (string-match-p "\\`\\(resent-\\)?\\(to\\|cc\\|bcc\\)\\'"
                                  (downcase (car field))))
                fields)))
         (fields (or (funcall to resent)
                     (funcall to (smtpmail-native-message--fields
                                  "To\\|Cc\\|Bcc"))))
         (seen nil)
         (all nil))
    (dolist (field fields)
      (dolist (address (smtpmail-native-message-recipients (cdr field)
                                                           (car field)))
        (let* ((whole (smtpmail-maybe-append-domain address))
               (key (smtpmail-native-message--same-key whole)))
          (unless (member key seen)
            (push key seen)
            (push whole all)))))
    (or (nreverse all)
        (smtpmail-native-message--fail
         "There is no recipient: To, Cc and Bcc name none"))))

(defun smtpmail-native-message--address-of (field)
  "Return the first address of FIELD, a name, or nil."
  (let ((body (cdar (smtpmail-native-message--fields field))))
    (and body
         (car (ignore-errors (smtpmail-native-message-recipients body))))))

(defun smtpmail-native-message--sender ()
  "Return the envelope sender; the buffer is narrowed to the mail's header."
  (or (bound-and-true-p smtpmail-mail-address)
      (and mail-specify-envelope-from (mail-envelope-from))
      (smtpmail-native-message--address-of "Resent-Sender")
      (smtpmail-native-message--address-of "Resent-From")
      (smtpmail-native-message--address-of "From")
      (smtpmail-user-mail-address)
      (smtpmail-native-message--fail
       "There is no sender: set `user-mail-address'")))

(defun smtpmail-native-message--from (address)
  "Return the body of a From field for ADDRESS, as `mail-from-style' says."
  (let ((name (user-full-name)))
    (cond
     ((or (null mail-from-style) (member name '(nil ""))) address)
     ((eq mail-from-style 'parens)
      (format "%s (%s)" address
              (replace-regexp-in-string "[()\\]" "\\\\\\&" name)))
     ((string-match-p "\\`[- !#-'*+/-9=?A-Z^-~[:nonascii:]]*\\'" name)
      (format "%s <%s>" name address))
     (t (format "\"%s\" <%s>"
                (replace-regexp-in-string "[\"\\]" "\\\\\\&" name)
                address)))))

(defun smtpmail-native-message--complete (sender coding)
  "Add the fields that are missing to a mail of SENDER.
CODING is that of the body, or nil if the body is ASCII or encoded."
  (let ((missing (lambda (name) (null (smtpmail-native-message--fields name))))
        (add (lambda (name body)
               (goto-char (point-max))
               (insert name ": " body "\n"))))
    (goto-char (point-min))
    (let ((case-fold-search t))
      (when (re-search-forward "^Subject:[ \t]*\n\\(?:[ \t]+\n\\)*\\(?:[^ \t]\\|\\'\\)"
                               nil t)
        (smtpmail-native-message--delete-fields "Subject")))
    (when (funcall missing "From")
      (funcall add "From" (smtpmail-native-message--from sender)))
    (when (funcall missing "Message-ID")
      (funcall add "Message-ID" (message-make-message-id)))
    (when (funcall missing "Date")
      (funcall add "Date" (message-make-date)))
    (when (and coding (eq mail-send-nonascii 'mime)
               (funcall missing "MIME-Version"))
      (smtpmail-native-message--delete-fields
       "Content-Type\\|Content-Transfer-Encoding")
      (funcall add "MIME-Version" "1.0")
      (funcall add "Content-Type"
               (format "text/plain; charset=%s"
                       (or (coding-system-get coding 'mime-charset) 'utf-8)))
      (funcall add "Content-Transfer-Encoding" "8bit"))))

(defun smtpmail-native-message--end-header ()
  "Replace the line between header and body by an empty one.
Leave point at its begin.  Only the end of the header is looked at, since a
body may quote the separator."
  (goto-char (point-min))
  (let ((case-fold-search t))
    (while (looking-at "[-!#-9;-~]+[ \t]*:.*\n\\(?:[ \t].*\n\\)*")
      (goto-char (match-end 0))))
  (cond
   ((looking-at (concat (regexp-quote mail-header-separator) "[ \t]*$"))
    (delete-region (point) (match-end 0)))
   ((looking-at "\n"))
   ((eobp) (insert "\n") (forward-line -1))
   (t (smtpmail-native-message--fail
       "Line %d is neither a header nor the line `%s': %s"
       (line-number-at-pos) mail-header-separator
       (truncate-string-to-width
        (buffer-substring-no-properties (point) (line-end-position)) 60)))))

;;;; The whole mail

(defun smtpmail-native-message--coding (source)
  "Return the coding system of the mail in the buffer SOURCE.
The value is nil when no character behind point, the body, needs one."
  (skip-chars-forward "\0-\177")
  (unless (or (eobp) (not enable-multibyte-characters))
    (coding-system-change-eol-conversion
     (or (with-current-buffer source
           (let ((sendmail-coding-system smtpmail-code-conv-from))
             (select-message-coding-system)))
         'utf-8)
     'unix)))

(defun smtpmail-native-message--fill (source sender)
  "Make the current, empty buffer the mail of the buffer SOURCE by SENDER.
Return the plist of `smtpmail-native-message-prepare' without :buffer."
  (set-buffer-multibyte (buffer-local-value 'enable-multibyte-characters
                                            source))
  (buffer-disable-undo)
  (apply #'insert-buffer-substring-no-properties source
         (with-current-buffer source
           (save-restriction
             (widen)
             (list (point-min) (point-max)))))
  (unless (or (bobp) (bolp))
    (insert "\n"))
  (smtpmail-native-message--end-header)
  (let ((coding (save-excursion (smtpmail-native-message--coding source)))
        (end (copy-marker (point) t))
        plist)
    (save-restriction
      (narrow-to-region (point-min) end)
      (when mail-aliases
        (expand-mail-aliases (point-min) (point-max)))
      (smtpmail-native-message--complete sender coding)
      (setq plist
            (list :sender sender
                  :recipients (smtpmail-native-message--all-recipients)
                  :fcc (mapcar (lambda (field) (string-trim (cdr field)))
                               (smtpmail-native-message--fields "Fcc"))
                  :subject (string-trim
                            (or (cdar (smtpmail-native-message--fields
                                       "Subject"))
                                ""))
                  :message-id (string-trim
                               (cdar (smtpmail-native-message--fields
                                      "Message-ID")))))
      (smtpmail-native-message--delete-fields "\\(?:Resent-\\)?Bcc\\|Fcc")
      (when enable-multibyte-characters
        (mail-encode-header (point-min) (point-max))))
    (when enable-multibyte-characters
      (when coding
        (encode-coding-region (point-min) (point-max) coding))
      (set-buffer-multibyte nil))
    plist))

(defun smtpmail-native-message-prepare (&optional buffer)
  "Prepare the mail in BUFFER (default: the current one) for being sent.
BUFFER holds the header, a line that is `mail-header-separator' or empty,
and the body; it is not altered.  Return a plist:

 :buffer      a new unibyte buffer with the octets to be sent, with LF
              newlines; the caller kills it
 :sender      the envelope sender, a string
 :recipients  the envelope recipients, a list of strings
 :fcc         the files that Fcc fields named, which are gone
 :subject, :message-id  as they stand in the header, strings

Do all that `smtpmail-send-it' does: expand aliases, add missing From, Date
and Message-ID, drop a blank Subject, encode the header (RFC 2047) and the
body; Bcc and Resent-Bcc are removed.  Recipients of a resending supersede
the others (RFC 5322 3.6.6).  Signal `smtpmail-native-usage-error' when
there is no recipient or an address cannot be parsed."
  (require 'smtpmail)
  (require 'message)
  (sendmail-sync-aliases)
  (let* ((source (or buffer (current-buffer)))
         (sender (with-current-buffer source
                   (save-excursion
                     (save-restriction
                       (widen)
                       (message-narrow-to-headers)
                       (smtpmail-native-message--sender)))))
         (temp (generate-new-buffer " *smtpmail-native mail*"))
         (done nil))
    (unwind-protect
        (with-current-buffer temp
          (let ((plist (smtpmail-native-message--fill source sender)))
            (setq smtpmail-recipient-address-list
                  (plist-get plist :recipients)
                  done t)
            (append (list :buffer temp) plist)))
      (unless done
        (kill-buffer temp)))))

(provide 'smtpmail-native-message)
;;; smtpmail-native-message.el ends here
