;;; smtpmail-native-encode.el --- A header that servers can read  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What people write in a header is not always what a server takes: display
;; names without the quotes that they need, empty fields, domains and words that
;; are not ASCII, very long lines.  This file puts it right, in a buffer that
;; holds the header alone; what is right already stays octet by octet.
;;
;; RFC 5322 (format), 2047 (encoded words), 1428 (unknown octets), 5890 (domains),
;; 6532 (UTF-8 in addresses).

;;; Code:

(require 'cl-lib)
(require 'mm-util)
(require 'rfc2047)
(require 'rfc2231)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-address)
(require 'smtpmail-native-header)

(declare-function mail-encode-header "sendmail" (beg end))

(defconst smtpmail-native-encode--longest 998
  "How many octets a line may have (RFC 5322, 2.1.1).")

(defconst smtpmail-native-encode--raw-regexp "[\x3fff80-\x3fffff]"
  "Matches an octet that is not known to be any character.")

(defconst smtpmail-native-encode--address-regexp
  "\\`\\(?:resent-\\)?\\(?:from\\|sender\\|reply-to\\|to\\|cc\\|\
mail-\\(?:followup\\|reply\\)-to\\|disposition-notification-to\\|\
return-receipt-to\\)\\'"
  "Matches the keys of fields that hold addresses.")

(defconst smtpmail-native-encode--id-regexp
  "\\`\\(?:\\(?:resent-\\)?message-id\\|in-reply-to\\|references\\)\\'"
  "Matches the keys of fields that hold message identifiers.")

(defun smtpmail-native-encode--ascii-p (string)
  "Return non-nil if STRING is pure ASCII."
  (string-match-p "\\`[[:ascii:]]*\\'" string))

(defun smtpmail-native-encode--address-p (field)
  "Return non-nil if FIELD holds addresses."
  (string-match-p smtpmail-native-encode--address-regexp
                  (smtpmail-native-field-key field)))

(defun smtpmail-native-encode-signed-p (fields foreign)
  "Return non-nil if FIELDS are those of a signed message.
It must not be altered.  FOREIGN nil means that the user wrote it: then
multipart/signed, which does not cover the header, does not count.  Signed
headers have the fields of DKIM (RFC 6376), ARC (RFC 8617) and DomainKeys."
  (or (smtpmail-native-header-select
       '("dkim-signature" "arc-message-signature" "arc-seal"
         "domainkey-signature")
       fields)
      (and foreign
           (string-match-p "\\`multipart/signed\\_>"
                           (downcase (or (smtpmail-native-header-value
                                          "content-type" fields)
                                         ""))))))

(defun smtpmail-native-encode-utf-8-p (field)
  "Return non-nil if FIELD has an address that needs SMTPUTF8 (RFC 6532)."
  (and (smtpmail-native-encode--address-p field)
       (not (smtpmail-native-encode--ascii-p
             (smtpmail-native-field-text field)))
       (condition-case nil
           (seq-some #'smtpmail-native-address-utf-8-p
                     (smtpmail-native-address-parse
                      (smtpmail-native-field-text field)
                      (smtpmail-native-field-name field)))
         (smtpmail-native-usage-error nil))))

;;;; Empty fields

(defun smtpmail-native-encode--empty-p (field)
  "Return non-nil if FIELD must not be sent because it says nothing.
Only Bcc may be empty (RFC 5322, 3.6.3), and some servers refuse others."
  (let ((key (smtpmail-native-field-key field)))
    (or (and (equal key "organization")
             (null (smtpmail-native-header-text field)))
        (and (or (smtpmail-native-encode--address-p field)
                 (string-match-p smtpmail-native-encode--id-regexp key))
             (smtpmail-native-address-blank-p
              (smtpmail-native-field-text field))))))

;;;; Addresses

(defun smtpmail-native-encode--unquoted (text)
  "Return TEXT, a token, without the quotes of a quoted string."
  (if (string-prefix-p "\"" text)
      (replace-regexp-in-string "\\\\\\(.\\)" "\\1" (substring text 1 -1) t)
    text))

(defun smtpmail-native-encode--word-p (token)
  "Return non-nil if TOKEN may stand in a display name as it is."
  (or (string-prefix-p "\"" (car token))
      (string-match-p (concat "\\`\\(?:"
                              smtpmail-native-address--atom-regexp "\\|"
                              smtpmail-native-address--encoded-word-regexp
                              "\\)\\'")
                      (car token))))

(defun smtpmail-native-encode--encoded-word-p (token)
  "Return non-nil if TOKEN is an encoded word, which must not be quoted."
  (string-match-p (concat "\\`" smtpmail-native-address--encoded-word-regexp
                          "\\'")
                  (car token)))

(defun smtpmail-native-encode--runs (tokens)
  "Return TOKENS as lists of those that stand side by side in the buffer.
Encoded words and comments are between them."
  (let (runs run)
    (dolist (token tokens)
      (when (and run
                 (string-match-p
                  "[^ \t]"
                  (buffer-substring (nth 2 (car run)) (nth 1 token))))
        (push (nreverse run) runs)
        (setq run nil))
      (if (smtpmail-native-encode--encoded-word-p token)
          (when run
            (push (nreverse run) runs)
            (setq run nil))
        (push token run)))
    (when run
      (push (nreverse run) runs))
    runs))

(defun smtpmail-native-encode--quote-run (run)
  "Return the edit that makes RUN, tokens side by side, a quoted string."
  (let ((end (nth 1 (car run)))
        (text ""))
    (pcase-dolist (`(,token ,beg ,after) run)
      (setq text (concat text (buffer-substring-no-properties end beg)
                         (smtpmail-native-encode--unquoted token))
            end after))
    (list (nth 1 (car run)) end
          (concat "\"" (replace-regexp-in-string "[\"\\]" "\\\\\\&" text)
                  "\""))))

(defun smtpmail-native-encode--edits (mailbox)
  "Return what is to be changed in the text of MAILBOX.
The value is a list of (BEG END TEXT), the last one in the buffer first."
  (let* ((at (smtpmail-native-address-at mailbox))
         (phrase (smtpmail-native-address-phrase mailbox))
         (beg (nth 1 (car at)))
         (end (nth 2 (car (last at)))))
    (append
     (and at
          (string-match-p "[^[:ascii:]]" (mapconcat #'car at ""))
          (list (list beg end (smtpmail-native-address-domain mailbox))))
     (mapcar #'smtpmail-native-encode--quote-run
             (seq-remove (lambda (run)
                           (seq-every-p #'smtpmail-native-encode--word-p run))
                         (smtpmail-native-encode--runs phrase))))))

(defun smtpmail-native-encode--spaces (mailboxes)
  "Return what puts a space before each of MAILBOXES but the first.
The value is as in `smtpmail-native-encode--edits'.  A header can be folded
only there."
  (let (edits)
    (dolist (mailbox (cdr mailboxes))
      (let ((beg (smtpmail-native-address-beg mailbox)))
        (unless (memq (char-before beg) '(?\s ?\t))
          (push (list beg beg " ") edits))))
    edits))

(defun smtpmail-native-encode--edited (text name make)
  "Return TEXT of the field NAME with edits that MAKE returns.
MAKE is called with the mailboxes, in a buffer that holds TEXT unfolded.
If there are no edits, the value is TEXT itself.  Signal
`smtpmail-native-usage-error' if TEXT cannot be read."
  (smtpmail-native-address-with text name
    (lambda (mailboxes)
      (let ((edits (funcall make mailboxes)))
        (if (null edits)
            (let ((seen (smtpmail-native-address-visible text)))
              (if (eq seen text) text (string-trim seen)))
          (pcase-dolist (`(,beg ,end ,new) edits)
            (delete-region beg end)
            (goto-char beg)
            (insert new))
          (buffer-string))))))

(defun smtpmail-native-encode-address-text (text name)
  "Return TEXT, the body of the address field NAME, as servers can read it.
Display names that need quotes get them, and domains are in ASCII.  If
nothing needs to be changed, the value is TEXT itself.  Signal
`smtpmail-native-usage-error' if TEXT cannot be read."
  (smtpmail-native-encode--edited
   text name
   (lambda (mailboxes)
     (mapcan #'smtpmail-native-encode--edits
             (seq-remove #'smtpmail-native-address-plain
                         (nreverse mailboxes))))))

(defun smtpmail-native-encode--put (field text)
  "Replace the body of FIELD by TEXT, folded if it is long."
  (save-restriction
    (narrow-to-region (smtpmail-native-field-beg field)
                      (smtpmail-native-field-end field))
    (delete-region (point-min) (point-max))
    (insert (smtpmail-native-field-name field) ": " text "\n")
    (smtpmail-native-encode--fold-narrowed)))

(defun smtpmail-native-encode--address-field (field strict)
  "Make FIELD readable for servers; one that we cannot read stays.
With STRICT, signal `smtpmail-native-unquoted-name' if a comma tears a name
apart."
  (let* ((text (smtpmail-native-field-text field))
         (new (condition-case err
                  (smtpmail-native-encode-address-text
                   text (smtpmail-native-field-name field))
                (smtpmail-native-unquoted-name
                 (if strict (signal (car err) (cdr err)) text))
                (smtpmail-native-usage-error text))))
    (unless (eq new text)
      (smtpmail-native-encode--put field new))))

(defun smtpmail-native-encode--id-field (field)
  "Write the domains of identifiers in FIELD in ASCII."
  (let* ((text (smtpmail-native-field-text field))
         (new (replace-regexp-in-string
               "@\\([^@<>[:space:]]+\\)>"
               (lambda (match)
                 (concat "@"
                         (smtpmail-native-address-domain-to-ascii
                          (substring match 1 -1))
                         ">"))
               text t t)))
    (unless (equal new text)
      (smtpmail-native-encode--put field new))))

;;;; Words

(defun smtpmail-native-encode--guess (octets charset)
  "Return the coding system that OCTETS seem to be encoded with, or nil.
CHARSET is a guess, the name of a charset, or nil.  UTF-8 is hardly ever
there by chance, and Emacs knows what is usual where you live."
  (seq-find (lambda (coding)
              (and coding
                   (coding-system-get coding :mime-charset)
                   (not (string-match-p
                         (concat smtpmail-native-encode--raw-regexp
                                 "\\|[\u0080-\u009f]")
                         (decode-coding-string octets coding)))))
            (list 'utf-8
                  (and charset (mm-charset-to-coding-system charset))
                  (car (detect-coding-string octets)))))

(defun smtpmail-native-encode--charset (fields)
  "Return the name of the charset that Content-Type of FIELDS has, or nil."
  (let ((type (smtpmail-native-header-value "content-type" fields))
        (case-fold-search t))
    (and type
         (string-match "charset=\"?\\([-_.:a-z0-9]+\\)" type)
         (intern (downcase (match-string 1 type))))))

(defun smtpmail-native-encode--decode (field charset)
  "Replace octets in FIELD by the characters that they seem to be.
CHARSET is the name of the charset of the body, or nil.  Octets stay that
cannot be guessed, or that stand beside characters that are known."
  (let ((text (smtpmail-native-field-text field)))
    (when (and (string-match-p smtpmail-native-encode--raw-regexp text)
               (not (string-match-p "[^[:ascii:]\x3fff80-\x3fffff]" text)))
      (let* ((octets (string-to-unibyte text))
             (coding (smtpmail-native-encode--guess octets charset)))
        (when coding
          (smtpmail-native-encode--put
           field (decode-coding-string octets coding)))))))

(defun smtpmail-native-encode--unknown (field)
  "Encode the narrowed FIELD, and say that the charset is not known."
  (let ((rfc2047-encoding-type (if (smtpmail-native-encode--address-p field)
                                   'address-mime
                                 'mime))
        ;; The name of the charset gets longer.
        (rfc2047-encode-max-chars 68))
    (goto-char (point-min))
    (skip-chars-forward "^:")
    (rfc2047-encode-region (1+ (point)) (point-max)))
  (goto-char (point-min))
  (while (re-search-forward "=\\?[^?\n]+\\?\\([BQ]\\?\\)" nil t)
    (replace-match "=?unknown-8bit?\\1")))

(defun smtpmail-native-encode-region (beg end)
  "Encode the header between BEG and END according to RFC 2047."
  ;; The coding system has been chosen; do not ask again.
  (let ((select-safe-coding-system-function nil))
    (mail-encode-header beg end)))

(defun smtpmail-native-encode--words (field)
  "Encode the words of FIELD that are not ASCII.
A field with an address that is not ASCII stays as it is, for UTF-8."
  (let ((text (smtpmail-native-field-text field)))
    (unless (or (smtpmail-native-encode--ascii-p text)
                (smtpmail-native-encode-utf-8-p field))
      (save-restriction
        (narrow-to-region (smtpmail-native-field-beg field)
                          (smtpmail-native-field-end field))
        (if (string-match-p smtpmail-native-encode--raw-regexp text)
            (smtpmail-native-encode--unknown field)
          (smtpmail-native-encode-region (point-min) (point-max)))))))

;;;; File names

(defun smtpmail-native-encode--parameter (parameter)
  "Return PARAMETER, text like ; name=\"x\", encoded by RFC 2231 if it must be."
  (if (or (smtpmail-native-encode--ascii-p parameter)
          (string-match-p smtpmail-native-encode--raw-regexp parameter))
      parameter
    (string-match "\\`\\(;[ \t]*\\)\\([^=]+\\)=\\(.*\\)\\'" parameter)
    (let ((space (match-string 1 parameter))
          (name (match-string 2 parameter))
          (value (smtpmail-native-encode--unquoted (match-string 3 parameter))))
      (concat space (rfc2231-encode-string name value)))))

(defun smtpmail-native-encode--parameters (field)
  "Encode the file names in FIELD, of MIME, that are not ASCII.
An encoded word may not stand there (RFC 2047, 5)."
  (let ((text (smtpmail-native-field-text field)))
    (when (and (member (smtpmail-native-field-key field)
                       '("content-type" "content-disposition"))
               (not (smtpmail-native-encode--ascii-p text)))
      (smtpmail-native-encode--put
       field
       (let ((case-fold-search t))
         (replace-regexp-in-string
          ";[ \t]*\\(?:file\\)?name=\\(?:\"\\(?:[^\"\\]\\|\\\\.\\)*\"\\|[^;\" \t]+\\)"
          #'smtpmail-native-encode--parameter text t t))))))

;;;; Long lines

(defun smtpmail-native-encode--long-p ()
  "Return non-nil if a line of the narrowed field is too long."
  (goto-char (point-min))
  (let ((long nil))
    (while (not (or long (eobp)))
      (setq long (> (- (position-bytes (line-end-position))
                       (position-bytes (point)))
                    smtpmail-native-encode--longest))
      (forward-line))
    long))

(defun smtpmail-native-encode--fold-narrowed ()
  "Fold the narrowed field if it has a line of more than 78 characters."
  (goto-char (point-min))
  (when (re-search-forward "^.\\{79\\}" nil t)
    (goto-char (point-min))
    (skip-chars-forward "^:")
    (rfc2047-fold-region (point) (point-max))))

(defun smtpmail-native-encode--fold (field)
  "Fold FIELD if it has a line that is too long for servers."
  (save-restriction
    (narrow-to-region (smtpmail-native-field-beg field)
                      (smtpmail-native-field-end field))
    (when (smtpmail-native-encode--long-p)
      (smtpmail-native-encode--fold-narrowed)
      (when (and (smtpmail-native-encode--long-p)
                 (smtpmail-native-encode--address-p field))
        (smtpmail-native-encode--put
         field (smtpmail-native-encode--edited
                (smtpmail-native-field-text field)
                (smtpmail-native-field-name field)
                #'smtpmail-native-encode--spaces))))))

;;;; Authors without a domain

(defun smtpmail-native-encode--with-address (text name address)
  "Return TEXT of the field NAME with ADDRESS if it has but a bare name.
The value is nil if it has anything else."
  (condition-case nil
      (smtpmail-native-address-with text name
        (lambda (mailboxes)
          (when (and mailboxes
                     (null (cdr mailboxes))
                     (null (smtpmail-native-address-domain (car mailboxes))))
            (let ((tokens (smtpmail-native-address-tokens (car mailboxes))))
              (delete-region (nth 1 (car tokens)) (nth 2 (car (last tokens))))
              (goto-char (nth 1 (car tokens)))
              (insert address)
              (buffer-string)))))
    (smtpmail-native-usage-error nil)))

(defun smtpmail-native-encode-complete-author (address)
  "Give the From field of the header in the narrowed buffer ADDRESS.
Do so only if it has nothing but a bare name."
  (dolist (field (smtpmail-native-header-select
                  '("from") (smtpmail-native-header-fields)))
    (let ((text (smtpmail-native-encode--with-address
                 (smtpmail-native-field-text field)
                 (smtpmail-native-field-name field) address)))
      (when text
        (smtpmail-native-encode--put
         field (if enable-multibyte-characters
                   text
                 (encode-coding-string text 'utf-8)))))))

;;;; Together

(defun smtpmail-native-encode--each (function &rest args)
  "Call FUNCTION with each field and ARGS, the last field first."
  (dolist (field (nreverse (smtpmail-native-header-fields)))
    (apply function field args)))

(defun smtpmail-native-encode--ours-p (field resent)
  "Return non-nil if FIELD is ours to better.
RESENT non-nil means that only Resent- fields are: the others are the
author's."
  (or (not resent)
      (string-prefix-p "resent-" (smtpmail-native-field-key field))))

(defun smtpmail-native-encode-resent (strict)
  "Make the Resent- fields in the current buffer ones that servers can read.
Leave the others as they are: they are signed.  STRICT is as in
`smtpmail-native-encode--address-field'."
  (smtpmail-native-header-delete
   (lambda (field)
     (and (smtpmail-native-encode--ours-p field t)
          (smtpmail-native-encode--empty-p field))))
  (smtpmail-native-encode--each
   (lambda (field)
     (when (and (smtpmail-native-encode--ours-p field t)
                (smtpmail-native-encode--address-p field))
       (smtpmail-native-encode--address-field field strict))))
  (dolist (step '(smtpmail-native-encode--words smtpmail-native-encode--fold))
    (smtpmail-native-encode--each
     (lambda (field)
       (when (smtpmail-native-encode--ours-p field t)
         (funcall step field))))))

(defun smtpmail-native-encode-header (strict)
  "Make the header in the current buffer one that servers can read.
STRICT is as in `smtpmail-native-encode--address-field'."
  (smtpmail-native-header-delete #'smtpmail-native-encode--empty-p)
  (let* ((fields (smtpmail-native-header-fields))
         (charset (smtpmail-native-encode--charset fields))
         (resent (smtpmail-native-header-resent-block fields)))
    (smtpmail-native-encode--each #'smtpmail-native-encode--decode charset)
    (smtpmail-native-encode--each
     (lambda (field)
       (when (and (smtpmail-native-encode--address-p field)
                  (smtpmail-native-encode--ours-p field resent))
         (smtpmail-native-encode--address-field field strict))))
    (smtpmail-native-encode--each
     (lambda (field)
       (when (and (string-match-p smtpmail-native-encode--id-regexp
                                  (smtpmail-native-field-key field))
                  (not (smtpmail-native-encode--ascii-p
                        (smtpmail-native-field-text field))))
         (smtpmail-native-encode--id-field field))))
    (smtpmail-native-encode--each #'smtpmail-native-encode--parameters)
    (smtpmail-native-encode--each #'smtpmail-native-encode--words)
    (smtpmail-native-encode--each #'smtpmail-native-encode--fold)))

(provide 'smtpmail-native-encode)
;;; smtpmail-native-encode.el ends here
