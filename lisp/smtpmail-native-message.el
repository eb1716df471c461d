;;; smtpmail-native-message.el --- From a mail buffer to envelope and octets  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What `smtpmail-send-it' does to a mail before it goes to the server:
;; aliases, missing fields, RFC 2047, coding, recipients, Bcc.  Nothing here
;; talks to anybody or writes a file, and the mail buffer is only read.
;;
;; The header is worked on in a small buffer of its own.  The body, which may
;; be large, is encoded straight from the mail buffer into the result.
;;
;; RFC 5322 (format), 5321 (envelope), 2047 (encoded words), 6532 (UTF-8).

;;; Code:

(require 'mailalias)
(require 'rfc2047)
(require 'sendmail)
(require 'seq)
(require 'smtpmail)
(require 'subr-x)
(require 'smtpmail-native-error)
(require 'smtpmail-native-wishes)

(defconst smtpmail-native-message--field-regexp "\\([!-9;-~]+\\)[ \t]*:"
  "Matches the name of a header field and its colon (RFC 5322, 3.6.8, 4.5).")

(defconst smtpmail-native-message--line-regexp
  (concat "[ \t]\\|" smtpmail-native-message--field-regexp)
  "Matches the beginning of any line of a header.")

(defconst smtpmail-native-message--inherited-regexp
  "\\`\\(?:mail\\|message\\|mm\\|rfc2047\\|sendmail\\|smtpmail\\|user\\)-"
  "Matches variables whose local values in the mail buffer count.")

(defun smtpmail-native-message--fail (format &rest args)
  "Signal a `smtpmail-native-usage-error' whose text is FORMAT with ARGS."
  (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                (apply #'format-message format args)))

(defun smtpmail-native-message--malformed (format &rest args)
  "Signal that the mail is no message; the text is FORMAT with ARGS."
  (smtpmail-native-error-signal 'smtpmail-native-malformed-message
                                (apply #'format-message format args)))

(defun smtpmail-native-message--quote (text)
  "Return TEXT in double quotes, short and with control characters escaped."
  (let ((print-escape-newlines t)
        (print-escape-control-characters t))
    (prin1-to-string (truncate-string-to-width
                      (substring-no-properties text) 100 nil nil "..."))))

;;;; Addresses

;; Emacs has three parsers, and none can be trusted with an envelope.
;; `mail-extract-address-components' guesses: it knows neither groups nor
;; errors.  `ietf-drums-parse-addresses' drops bare names ("alice") and
;; takes "undisclosed-recipients:;" and "Friends: a@x, b@y;" for mailboxes.
;; `rfc822-addresses' is close, but
;;   Joe@Work <a@x>        gives two recipients, and so does  a@x b@y
;;   =?utf-8?Q?a,b?= <a@x> gives two recipients
;;   <a..b@x>              is refused, though such mailboxes exist
;;   <@relay:a@x>          keeps its brackets and its route
;;   Joe <a@x              is refused
;; and it returns errors as strings in the list of addresses.
;;
;; The functions below work at point in a buffer that holds a field's text.
;; They throw (REASON . START) to `smtpmail-native-message--bad'.

(defconst smtpmail-native-message--atom-regexp
  "[^][()<>@,;:\\\". \0-\37\177]+"
  "Matches an atom (RFC 5322, 3.2.3; RFC 6532, 3.2).")

(defconst smtpmail-native-message--token-regexp
  (concat "\\[[^][\\ \t\n]*\\]\\|"
          "=\\?[^? \t\n]+\\?[BbQq]\\?[^? \t\n]*\\?=\\|"
          smtpmail-native-message--atom-regexp)
  "Matches a domain literal, an encoded word or an atom.
An encoded word is one token even if it holds a comma or the like.")

(defconst smtpmail-native-message--domain-regexp
  (concat "\\`\\(?:\\[[^]]+\\]\\|" smtpmail-native-message--atom-regexp
          "\\(?:\\." smtpmail-native-message--atom-regexp "\\)*\\)\\'")
  "Matches a domain or a domain literal (RFC 5322, 3.4.1).")

(defun smtpmail-native-message--bad (reason start)
  "Give up on the address that begins at START because of REASON."
  (throw 'smtpmail-native-message--bad (cons reason start)))

(defun smtpmail-native-message--skip-comment ()
  "Move over the comment at point; comments nest (RFC 5322, 3.2.2)."
  (let ((start (point))
        (depth 0))
    (while (progn
             (skip-chars-forward "^()\\\\")
             (pcase (char-after)
               (?\( (setq depth (1+ depth)))
               (?\) (setq depth (1- depth)))
               (?\\ (forward-char))
               (_ (smtpmail-native-message--bad "comment without end" start)))
             (unless (eobp)
               (forward-char))
             (> depth 0)))))

(defun smtpmail-native-message--skip-space ()
  "Move over white space and comments."
  (while (progn
           (skip-chars-forward " \t")
           (eq (char-after) ?\())
    (smtpmail-native-message--skip-comment)))

(defun smtpmail-native-message--quoted-string ()
  "Move over the quoted string at point and return it with its quotes."
  (let ((start (point)))
    (forward-char)
    (while (progn
             (skip-chars-forward "^\"\\\\")
             (eq (char-after) ?\\))
      (forward-char (min 2 (- (point-max) (point)))))
    (when (eobp)
      (smtpmail-native-message--bad "quotation mark missing" start))
    (forward-char)
    (buffer-substring-no-properties start (point))))

(defun smtpmail-native-message--tokens ()
  "Move over words, dots and at-signs as far as there are any; list them."
  (let (tokens)
    (while (progn
             (smtpmail-native-message--skip-space)
             (cond
              ((memq (char-after) '(?. ?@))
               (push (string (char-after)) tokens)
               (forward-char)
               t)
              ((eq (char-after) ?\")
               (push (smtpmail-native-message--quoted-string) tokens))
              ((looking-at smtpmail-native-message--token-regexp)
               (push (match-string-no-properties 0) tokens)
               (goto-char (match-end 0))))))
    (nreverse tokens)))

(defun smtpmail-native-message--local-part-p (tokens)
  "Return non-nil if TOKENS make a local part (RFC 5322, 3.4.1).
Dots at odd places pass: there are such mailboxes, the server knows better."
  (and (delete "." (copy-sequence tokens))
       (seq-every-p (lambda (token)
                      (or (memq (aref token 0) '(?. ?\"))
                          (string-match-p
                           (concat "\\`" smtpmail-native-message--atom-regexp
                                   "\\'")
                           token)))
                    tokens)))

(defun smtpmail-native-message--unsafe-p (string)
  "Return non-nil if a character in STRING is control or not Unicode."
  (seq-some (lambda (char)
              (or (< char ?\s)
                  (<= #x7f char #x9f)
                  (<= #xd800 char #xdfff)
                  (> char #x10ffff)))
            string))

(defun smtpmail-native-message--addr-spec (tokens start)
  "Return (LOCAL . DOMAIN) for TOKENS of the address that begins at START.
DOMAIN is nil for a bare name."
  (let* ((at (member "@" tokens))
         (local (butlast tokens (length at)))
         (domain (and at (string-join (cdr at))))
         (previous "."))
    (when (null tokens)
      (smtpmail-native-message--bad "address missing" start))
    (dolist (token tokens)
      (unless (or (member previous '("." "@"))
                  (member token '("." "@")))
        (smtpmail-native-message--bad "comma or angle brackets missing" start))
      (setq previous token))
    (unless (smtpmail-native-message--local-part-p local)
      (smtpmail-native-message--bad "no valid local part" start))
    (unless (or (null domain)
                (string-match-p smtpmail-native-message--domain-regexp domain))
      (smtpmail-native-message--bad "no valid domain" start))
    (setq local (string-join local))
    (when (or (smtpmail-native-message--unsafe-p local)
              (smtpmail-native-message--unsafe-p (or domain "")))
      (smtpmail-native-message--bad "character not allowed" start))
    (cons local domain)))

(defun smtpmail-native-message--angle-addr (start)
  "Move over the address in angle brackets at point and return it.
A source route is left out (RFC 5322, 4.4).  The closing bracket may be
missing where the address ends anyway.  START is where the whole begins."
  (forward-char)
  (smtpmail-native-message--skip-space)
  (when (memq (char-after) '(?@ ?,))
    (while (progn
             (smtpmail-native-message--tokens)
             (eq (char-after) ?,))
      (forward-char))
    (unless (eq (char-after) ?:)
      (smtpmail-native-message--bad "source route without end" start))
    (forward-char))
  (let ((tokens (smtpmail-native-message--tokens)))
    (cond
     ((eq (char-after) ?>) (forward-char))
     ((not (memq (char-after) '(nil ?, ?\;)))
      (smtpmail-native-message--bad "angle bracket missing" start)))
    (smtpmail-native-message--addr-spec tokens start)))

(defun smtpmail-native-message--address (group)
  "Move over the mailbox or group at point; return a list of (LOCAL . DOMAIN).
GROUP is non-nil inside a group, where no other group may begin."
  (let* ((start (point))
         (tokens (smtpmail-native-message--tokens)))
    (pcase (char-after)
      (?< (list (smtpmail-native-message--angle-addr start)))
      ((and ?: (guard (and tokens (not group))))
       (forward-char)
       (prog1 (smtpmail-native-message--address-list t)
         (unless (eq (char-after) ?\;)
           (smtpmail-native-message--bad "group without semicolon" start))
         (forward-char)))
      ((or 'nil ?, ?\;)
       (list (smtpmail-native-message--addr-spec tokens start)))
      (char
       (smtpmail-native-message--bad
        (format "unexpected %s" (smtpmail-native-message--quote (string char)))
        start)))))

(defun smtpmail-native-message--address-list (group)
  "Move over the address list at point; return a list of (LOCAL . DOMAIN).
Commas may stand alone (RFC 5322, 4.4).  With GROUP, stop before a semicolon."
  (let (addresses start)
    (while (progn
             (smtpmail-native-message--skip-space)
             (setq start (point))
             (not (or (eobp)
                      (and group (eq (char-after) ?\;)))))
      (if (eq (char-after) ?,)
          (forward-char)
        (push (smtpmail-native-message--address group) addresses)
        (smtpmail-native-message--skip-space)
        (unless (or (memq (char-after) '(nil ?,))
                    (and group (eq (char-after) ?\;)))
          (smtpmail-native-message--bad "comma missing" start))))
    (apply #'append (nreverse addresses))))

(defun smtpmail-native-message--decode (octets)
  "Return OCTETS as text if they are UTF-8, else as raw octets in a string."
  (let ((text (decode-coding-string octets 'utf-8-unix)))
    (if (equal octets (encode-coding-string text 'utf-8-unix))
        text
      (string-to-multibyte octets))))

(defun smtpmail-native-message--parse (text header)
  "Return the addresses of TEXT, the body of HEADER, as (LOCAL . DOMAIN) pairs."
  (with-temp-buffer
    (insert (if (multibyte-string-p text)
                text
              (smtpmail-native-message--decode text)))
    (goto-char (point-min))
    (while (re-search-forward "\r?\n\\([ \t]\\)" nil t)
      (replace-match "\\1"))
    (goto-char (point-max))
    (delete-region (point) (+ (point) (skip-chars-backward " \t\r\n")))
    (goto-char (point-min))
    (let* (addresses
           (bad (catch 'smtpmail-native-message--bad
                  (setq addresses (smtpmail-native-message--address-list nil))
                  nil)))
      (when bad
        (skip-chars-forward "^,;")
        (smtpmail-native-message--fail
         "Cannot read the address %s in %s: %s"
         (smtpmail-native-message--quote
          (string-trim (buffer-substring-no-properties (cdr bad) (point))))
         header (car bad)))
      addresses)))

(defun smtpmail-native-message--unparse (address)
  "Return ADDRESS, a pair (LOCAL . DOMAIN), as a string."
  (if (cdr address)
      (concat (car address) "@" (cdr address))
    (car address)))

(defun smtpmail-native-message--unique (addresses)
  "Return ADDRESSES, pairs (LOCAL . DOMAIN), as strings, each but once.
Local parts compare exactly, domains without regard to case.  To a bare
name `smtpmail-sendto-domain' is appended, if that is set."
  (let ((seen (make-hash-table :test #'equal))
        result)
    (dolist (address addresses)
      (let* ((whole (smtpmail-native-message--unparse address))
             (whole (if (cdr address)
                        whole
                      (smtpmail-maybe-append-domain whole)))
             (key (if (string-match "@[^@]*\\'" whole)
                      (concat (substring whole 0 (match-beginning 0))
                              (downcase (match-string 0 whole)))
                    whole)))
        (unless (gethash key seen)
          (puthash key t seen)
          (push whole result))))
    (nreverse result)))

(defun smtpmail-native-message-recipients (text &optional header)
  "Return the addresses of TEXT, the body of an address field (RFC 5322, 3.4).
The value is a list of addr-specs, each once.  Folding, comments, display
names, groups and source routes are gone; `smtpmail-sendto-domain' is
appended to bare names.  The strings are text, not octets.  HEADER names
the field in the error.  Signal `smtpmail-native-usage-error' if TEXT
holds anything that is no address."
  (smtpmail-native-message--unique
   (smtpmail-native-message--parse text (or header "the address list"))))

;;;; Header fields

;; A field is a list (KEY NAME BEG END VALUE): the name in lower case and as
;; written, the region with its last newline, and the unfolded text.

(defun smtpmail-native-message--fields ()
  "Return the fields of the header in the current buffer, from the top."
  (let (fields)
    (save-excursion
      (goto-char (point-min))
      (while (looking-at smtpmail-native-message--field-regexp)
        (let ((beg (point))
              (text (match-end 0))
              (name (match-string-no-properties 1)))
          (while (progn (forward-line)
                        (memq (char-after) '(?\s ?\t))))
          (push (list (downcase name) name beg (point)
                      (string-trim
                       (string-replace
                        "\n" "" (buffer-substring-no-properties text (point)))))
                fields))))
    (nreverse fields)))

(defun smtpmail-native-message--select (keys fields)
  "Return those of FIELDS whose key is in KEYS."
  (seq-filter (lambda (field) (member (car field) keys)) fields))

(defun smtpmail-native-message--value (key fields)
  "Return the text of the first of FIELDS with KEY that is not blank, or nil."
  (seq-some (lambda (field)
              (and (equal (car field) key)
                   (not (string-empty-p (nth 4 field)))
                   (nth 4 field)))
            fields))

(defun smtpmail-native-message--remove (keys &optional blank)
  "Delete the fields whose key is in KEYS; with BLANK, only those without text."
  (dolist (field (nreverse (smtpmail-native-message--select
                            keys (smtpmail-native-message--fields))))
    (when (or (not blank)
              (string-empty-p (nth 4 field)))
      (delete-region (nth 2 field) (nth 3 field)))))

(defun smtpmail-native-message--resent-block (fields)
  "Return those of FIELDS that say to whom this message is sent again, or nil.
Every resending puts a block of Resent- fields on top (RFC 5322, 3.6.6),
so the first block with recipients is the last resending.  Blocks that
touch are told apart by a field that comes back; recipients may go on in
a second field of the same name right behind the first (4.5)."
  (let (blocks block)
    (dolist (field (append fields '(("end"))))
      (when (and block
                 (or (not (string-prefix-p "resent-" (car field)))
                     (and (assoc (car field) block)
                          (not (equal (car field) (caar block))))))
        (push (nreverse block) blocks)
        (setq block nil))
      (when (string-prefix-p "resent-" (car field))
        (push field block)))
    (seq-find (lambda (block)
                (smtpmail-native-message--select
                 '("resent-to" "resent-cc" "resent-bcc") block))
              (nreverse blocks))))

(defun smtpmail-native-message--all-recipients (fields given beside)
  "Return the recipients that FIELDS and GIVEN name, without duplicates.
GIVEN is a list of strings; unless it is nil, FIELDS count only if BESIDE
is non-nil."
  (let ((block (smtpmail-native-message--resent-block fields)))
    (or (smtpmail-native-message--unique
         (append
          (mapcan (lambda (text)
                    (smtpmail-native-message--parse text "the arguments"))
                  given)
          (and (or beside (null given))
               (mapcan (lambda (field)
                         (smtpmail-native-message--parse (nth 4 field)
                                                         (nth 1 field)))
                       (if block
                           (smtpmail-native-message--select
                            '("resent-to" "resent-cc" "resent-bcc") block)
                         (smtpmail-native-message--select
                          '("to" "cc" "bcc") fields))))))
        (smtpmail-native-message--fail
         "There is no recipient: %s name none"
         (cond ((and given (not beside)) "the arguments")
               (block "Resent-To, Resent-Cc and Resent-Bcc")
               (t "To, Cc and Bcc"))))))

(defun smtpmail-native-message--fail-line (number)
  "Signal that the line at point, number NUMBER, is not part of a header."
  (smtpmail-native-message--malformed
   "Line %d is neither a header field nor %s: %s\
 (the second line of a field must be indented)"
   number
   (if (member mail-header-separator '(nil ""))
       "empty"
     (concat "the line "
             (smtpmail-native-message--quote mail-header-separator)))
   (smtpmail-native-message--quote
    (buffer-substring-no-properties (point) (line-end-position)))))

(defun smtpmail-native-message--tidy ()
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
                              smtpmail-native-message--field-regexp
                            smtpmail-native-message--line-regexp))
        (smtpmail-native-message--fail-line line))
      (skip-chars-forward "^\0\r\n")
      (unless (eq (char-after) ?\n)
        (smtpmail-native-message--malformed
         "Control character in line %d of the header: %s" line
         (smtpmail-native-message--quote
          (buffer-substring-no-properties
           (line-beginning-position) (line-end-position)))))
      (forward-line)
      (setq line (1+ line)))))

;;;; The mail buffer

(defun smtpmail-native-message--header-goes-on-p (separator)
  "Return non-nil if the header may go on from point as far as SEPARATOR.
Point is behind an empty line.  A line like SEPARATOR in a body is nothing
of the kind unless all lines up to there could be header fields."
  (let ((limit (save-excursion
                 (let ((case-fold-search nil))
                   (search-forward (concat "\n" separator) nil t))))
        (line (concat "\r?\n\\|" smtpmail-native-message--line-regexp)))
    (when limit
      (while (and (< (point) limit)
                  (not (looking-at (regexp-quote separator)))
                  (looking-at line))
        (forward-line))
      (looking-at (concat (regexp-quote separator) "\r?$")))))

(defun smtpmail-native-message--split ()
  "Return (HEADER-END . BODY-START) of the mail in the current buffer.
They stand around the line `mail-header-separator', or around the first
empty line if no such line ends the header.  Point moves."
  (goto-char (point-min))
  (let* ((separator (or mail-header-separator ""))
         (regexp (concat (regexp-quote separator) "\r?\\(?:\n\\|\\'\\)"))
         (separator-p (lambda ()
                        (and (not (string-empty-p separator))
                             (looking-at regexp)))))
    (while (and (not (eobp))
                (not (funcall separator-p))
                (looking-at smtpmail-native-message--line-regexp))
      (forward-line))
    (cond
     ((funcall separator-p) (cons (point) (match-end 0)))
     ((looking-at "\r?\n")
      (let ((end (point))
            (start (match-end 0)))
        (while (looking-at "\r?\n")
          (forward-line))
        (cond
         ((string-empty-p separator))
         ((funcall separator-p) (setq start (match-end 0)))
         ;; Whichever line were taken for the end of the header, a Bcc could
         ;; end up in the body, or text of the body become a recipient.
         ((smtpmail-native-message--header-goes-on-p separator)
          (smtpmail-native-message--malformed
           "Line %d is empty, but the header seems to go on as far as %s:\
 delete the empty line"
           (line-number-at-pos end)
           (smtpmail-native-message--quote separator))))
        (cons end start)))
     ((eobp)
      (smtpmail-native-message--malformed
       "The header has no end: there is %s"
       (if (string-empty-p separator)
           "no empty line behind it"
         (format "neither the line %s nor an empty line"
                 (smtpmail-native-message--quote separator)))))
     (t (smtpmail-native-message--fail-line (line-number-at-pos))))))

(defun smtpmail-native-message--coding ()
  "Return the coding system for the mail in the current buffer.
Nil means that its text is octets already.  This asks the user if no
coding system of theirs can encode the text."
  (when enable-multibyte-characters
    (or (let ((sendmail-coding-system smtpmail-code-conv-from))
          (condition-case nil
              (select-message-coding-system)
            (end-of-file                ; batch, and nobody to ask
             (smtpmail-native-message--fail
              "No coding system can encode the text: see\
 `smtpmail-code-conv-from'"))))
        'raw-text)))

(defun smtpmail-native-message--ascii-p ()
  "Return non-nil if the current buffer, which is multibyte, is pure ASCII."
  (= (- (position-bytes (point-max)) (position-bytes (point-min)))
     (- (point-max) (point-min))))

;;;; Completing the header

;; These functions work in a buffer that holds the header alone, has the
;; local variables of the mail buffer, and is always multibyte.

(defun smtpmail-native-message--copy-header (source end)
  "Insert the header of SOURCE, which ends at END, into the current buffer."
  (let ((text (with-current-buffer source
                (buffer-substring-no-properties (point-min) end))))
    (insert (if (multibyte-string-p text)
                text
              (smtpmail-native-message--decode text))))
  (dolist (variable (buffer-local-variables source))
    (when (and (consp variable)
               (string-match-p smtpmail-native-message--inherited-regexp
                               (symbol-name (car variable))))
      (set (make-local-variable (car variable)) (cdr variable))))
  (smtpmail-native-message--tidy))

(defun smtpmail-native-message--expand-aliases ()
  "Expand mail aliases as stock does."
  (sendmail-sync-aliases)
  ;; If the value is t, the aliases are to be read from that file.
  (when (if (eq mail-aliases t) mail-personal-alias-file mail-aliases)
    (expand-mail-aliases (point-min) (point-max))
    ;; An alias can be anything.
    (smtpmail-native-message--tidy)))

(defun smtpmail-native-message-explicit-sender ()
  "Return the envelope sender that the user has set, a string, or nil.
The empty string is the null sender (RFC 5321, 4.5.5).  Signal
`smtpmail-native-usage-error' if what is set is no address."
  (let ((sender (or smtpmail-mail-address
                    (and mail-specify-envelope-from
                         (stringp mail-envelope-from)
                         mail-envelope-from))))
    (cond
     ((null sender) nil)
     ((string-match-p "\\`[ \t]*\\(?:<[ \t]*>\\)?[ \t]*\\'" sender) "")
     ((let ((addresses (smtpmail-native-message--parse
                        sender "the envelope sender")))
        (and addresses
             (smtpmail-native-message--unparse (car addresses)))))
     (t (smtpmail-native-message--fail
         "There is no address in the envelope sender %s"
         (smtpmail-native-message--quote sender))))))

(defun smtpmail-native-message--sender (fields)
  "Return the address that MAIL FROM names, for a header of FIELDS.
Resent mail comes from the one who resends it, not from its author: the
author's address is not theirs to use, and the bounces are not the author's."
  (or (smtpmail-native-message-explicit-sender)
      (seq-some (lambda (field)
                  (let ((addresses (smtpmail-native-message--parse
                                    (nth 4 field) (nth 1 field))))
                    (and addresses
                         (smtpmail-native-message--unparse (car addresses)))))
                (append
                 (smtpmail-native-message--select
                  '("resent-from")
                  (smtpmail-native-message--resent-block fields))
                 (smtpmail-native-message--select '("from") fields)))
      (smtpmail-user-mail-address)
      (smtpmail-native-message--fail
       "There is no sender: set `user-mail-address'")))

(defun smtpmail-native-message--insert-from (prefix)
  "Insert a From field, its name with PREFIX, for the user."
  (let ((address (or (smtpmail-user-mail-address)
                     (smtpmail-native-message-explicit-sender)
                     user-mail-address))
        (name (or (user-full-name) "")))
    (when (member address '(nil ""))
      (smtpmail-native-message--fail
       "There is no sender: set `user-mail-address'"))
    (save-restriction
      (narrow-to-region (point) (point))
      (with-suppressed-warnings ((obsolete mail-from-style))
        (let ((user-mail-address address)
              (user-full-name name)
              (mail-from-style (cond ((string-empty-p name) nil)
                                     ((eq mail-from-style 'system-default)
                                      'angles)
                                     (t mail-from-style))))
          (mail-insert-from-field)))
      (goto-char (point-min))
      (insert prefix)
      (unless (smtpmail-native-message--ascii-p)
        (smtpmail-native-message--encode (point-min) (point-max)))
      (goto-char (point-min)))))

(defun smtpmail-native-message--complete (prefix position fields)
  "Insert what FIELDS lack of From, Message-ID and Date at POSITION.
PREFIX, \"Resent-\" or \"\", is part of their names."
  (goto-char position)
  (let ((missing-p (lambda (key)
                     (not (smtpmail-native-message--value
                           (concat (downcase prefix) key) fields)))))
    (when (funcall missing-p "from")
      (smtpmail-native-message--insert-from prefix))
    (when (funcall missing-p "message-id")
      (save-excursion
        (insert prefix "Message-ID: " (message-make-message-id) "\n")))
    (when (funcall missing-p "date")
      (save-excursion
        (insert prefix "Date: " (message-make-date) "\n")))))

(defun smtpmail-native-message--insert-missing ()
  "Insert the fields that the header lacks; drop a blank Subject."
  (smtpmail-native-message--remove
   '("subject" "from" "message-id" "date"
     "resent-from" "resent-message-id" "resent-date")
   t)
  (let* ((fields (smtpmail-native-message--fields))
         (block (smtpmail-native-message--resent-block fields)))
    (when block
      (smtpmail-native-message--complete "Resent-" (nth 2 (car block)) block))
    (smtpmail-native-message--complete "" (point-min) fields)))

(defun smtpmail-native-message--insert-mime (coding)
  "Say in MIME fields that the body is 8-bit text encoded with CODING."
  (let* ((fields (smtpmail-native-message--fields))
         (type (smtpmail-native-message--value "content-type" fields))
         (charset (coding-system-get coding :mime-charset)))
    (when (and charset
               (eq mail-send-nonascii 'mime)
               (not (smtpmail-native-message--select '("mime-version") fields)))
      (goto-char (point-max))
      (insert "MIME-Version: 1.0\n")
      ;; The charset that is used overrides one that is only said; what is
      ;; not plain text, or is encoded by hand, speaks for itself.
      (when (and (or (null type)
                     (string-match-p "\\`text/plain\\_>" (downcase type)))
                 (null (smtpmail-native-message--value
                        "content-transfer-encoding" fields)))
        (smtpmail-native-message--remove '("content-type"
                                           "content-transfer-encoding"))
        (goto-char (point-max))
        (insert (format "Content-Type: text/plain; charset=%s\n" charset)
                "Content-Transfer-Encoding: 8bit\n")))))

(defun smtpmail-native-message--encode (beg end)
  "Encode the header between BEG and END according to RFC 2047."
  ;; The coding system has been chosen; nobody is to be asked again.
  (let ((select-safe-coding-system-function nil))
    (mail-encode-header beg end)))

(defun smtpmail-native-message--utf-8-address-p (field)
  "Return non-nil if an address itself in FIELD is not ASCII (RFC 6532)."
  (and (string-match-p "\\`\\(?:resent-\\)?\\(?:from\\|sender\\|reply-to\\|\
to\\|cc\\|mail-\\(?:followup\\|reply\\)-to\\|disposition-notification-to\\)\\'"
                       (car field))
       (condition-case nil
           (string-match-p "[^[:ascii:]]"
                           (string-join (smtpmail-native-message-recipients
                                         (nth 4 field))))
         (smtpmail-native-usage-error nil))))

(defun smtpmail-native-message--encode-fields (coding)
  "Encode the header with CODING according to RFC 2047.
A field with an address that is not ASCII stays as it is, for UTF-8."
  (setq-local buffer-file-coding-system coding)
  (dolist (field (nreverse (smtpmail-native-message--fields)))
    (unless (or (string-match-p "\\`[[:ascii:]]*\\'" (nth 4 field))
                (smtpmail-native-message--utf-8-address-p field))
      (smtpmail-native-message--encode (nth 2 field) (nth 3 field)))))

(defun smtpmail-native-message--finish-header (coding ascii given beside)
  "Finish the header in the current buffer; return the plist of its message.
CODING is nil if the header is encoded already; ASCII says whether the
whole mail is.  GIVEN and BESIDE are as in
`smtpmail-native-message--all-recipients'.  The plist is that of
`smtpmail-native-message-prepare' without the buffer."
  (smtpmail-native-message--expand-aliases)
  (let* ((fields (smtpmail-native-message--fields))
         (recipients (smtpmail-native-message--all-recipients
                      fields given beside))
         (fcc (delete "" (mapcar (lambda (field) (nth 4 field))
                                 (smtpmail-native-message--select
                                  '("fcc") fields))))
         sender)
    (smtpmail-native-message--insert-missing)
    (setq sender (smtpmail-native-message--sender
                  (smtpmail-native-message--fields)))
    (smtpmail-native-message--remove
     (list "fcc" "bcc" "resent-bcc" smtpmail-native-wishes-header))
    (when coding
      (unless ascii
        (smtpmail-native-message--insert-mime coding))
      (smtpmail-native-message--encode-fields coding))
    (smtpmail-native-message--tidy)
    (smtpmail-native-message--plist
     (list :sender sender :recipients recipients :fcc fcc)
     (smtpmail-native-message--fields)
     (smtpmail-native-message--value smtpmail-native-wishes-header fields))))

(defun smtpmail-native-message--plist (envelope fields wishes)
  "Return ENVELOPE with what FIELDS tell people, and with its wishes.
WISHES is the text of the field that has them, or nil."
  (let ((titles (smtpmail-native-message--titles fields)))
    (append envelope
            (list :wishes (smtpmail-native-wishes
                           wishes
                           (smtpmail-native-message--value "tls-required"
                                                           fields)
                           (plist-get titles :message-id))
                  :utf-8 (seq-some (lambda (field)
                                     (string-match-p "[^[:ascii:]]"
                                                     (nth 4 field)))
                                   fields)
                  :binary (equal "binary"
                                 (downcase
                                  (or (smtpmail-native-message--value
                                       "content-transfer-encoding" fields)
                                      ""))))
            titles)))

;;;; Entry point

(defun smtpmail-native-message--assemble (target header source start coding)
  "Put the octets of a message into TARGET, a new buffer.
HEADER is the buffer of its header.  The body begins at START in the
buffer SOURCE and is encoded with CODING; nil means that it is octets."
  (with-current-buffer target
    (set-buffer-multibyte nil)
    (setq buffer-undo-list t
          buffer-file-coding-system 'no-conversion)
    (insert (encode-coding-string
             (with-current-buffer header (buffer-string)) 'utf-8-unix)
            "\n")
    (if coding
        (with-current-buffer source
          (encode-coding-region
           start (point-max) (coding-system-change-eol-conversion coding 'unix)
           target))
      (insert-buffer-substring-no-properties source start))
    (goto-char (point-max))
    (unless (bolp)
      (insert "\n"))
    (set-buffer-modified-p nil)
    (goto-char (point-min))))

(defun smtpmail-native-message--make (buffer finish)
  "Make the plist of a message of the mail in BUFFER, with its octets.
FINISH is called in a buffer that holds the header, with the coding system
of the mail, nil for octets, and whether the mail is ASCII; it returns the
rest of the plist, and leaves the header as it is to be sent."
  (with-current-buffer buffer
    (save-match-data
      (save-excursion
        (save-restriction
          (widen)
          (let* ((source (current-buffer))
                 (case-fold-search t)
                 (ends (smtpmail-native-message--split))
                 (coding (smtpmail-native-message--coding))
                 (ascii (and coding (smtpmail-native-message--ascii-p)))
                 (header (generate-new-buffer " *smtpmail-native header*" t))
                 (target (generate-new-buffer " *smtpmail-native message*" t))
                 result)
            (unwind-protect
                (let ((plist
                       (with-current-buffer header
                         (smtpmail-native-message--copy-header
                          source (car ends))
                         (funcall finish coding ascii))))
                  (smtpmail-native-message--assemble
                   target header source (cdr ends) coding)
                  (setq result (append (list :buffer target) plist)))
              (kill-buffer header)
              (unless result
                (kill-buffer target)))
            result))))))

(defun smtpmail-native-message-prepare (&optional buffer given beside)
  "Make envelope and octets of the mail in BUFFER, by default the current one.
BUFFER holds header fields, a line that is `mail-header-separator', and a
body; an empty line may stand for the separator if the message is final.
It is read as a whole even if it is narrowed, and not altered in any way.

GIVEN is a list of strings, address lists, or nil.  They name the
recipients in place of the header, or beside it if BESIDE is non-nil.

Return a plist:
  :buffer      a new unibyte buffer that holds exactly the octets to send,
               with LF for a newline; the caller kills it
  :sender      the address for MAIL FROM, \"\" for the null sender
  :recipients  the addresses for RCPT TO, without duplicates; this is also
               the new value of `smtpmail-recipient-address-list'
  :fcc         the file names in Fcc fields, which are removed
  :wishes      what it asks of the server, from options and from the field
               X-Smtpmail-Native, which is removed: `smtpmail-native-wishes'
  :utf-8       non-nil if its header is not ASCII, which takes SMTPUTF8
  :binary      non-nil if its octets must go as they are, or be encoded
  :subject :message-id :from
               the text of these fields, decoded, \"\" if there is none

Addresses are text: one that is not ASCII is UTF-8 on the wire (RFC 6531).

As in `smtpmail-send-it', mail aliases are expanded, a blank Subject is
dropped, From, Message-ID and Date (and their Resent- forms, if the
message is resent) are added if missing, header fields are encoded
according to RFC 2047, and the body as `smtpmail-code-conv-from' and
`select-message-coding-system' say.  Bcc and Resent-Bcc are removed.  A
complete, encoded message loses these and Fcc, and is otherwise kept
octet by octet.

Signal `smtpmail-native-usage-error' if there is no recipient or an
address cannot be read, and its child `smtpmail-native-malformed-message'
if the header is malformed; nothing is left behind then."
  (let ((plist (smtpmail-native-message--make
                (or buffer (current-buffer))
                (lambda (coding ascii)
                  (smtpmail-native-message--finish-header
                   coding ascii given beside)))))
    (setq smtpmail-recipient-address-list (plist-get plist :recipients))
    plist))

(defun smtpmail-native-message-as-it-is (buffer recipients)
  "Make envelope and octets of the finished message in BUFFER.
Its header ends at the first empty line, or at `mail-header-separator'.
Nothing is added or left out.  RECIPIENTS is a list of strings, each an
address, or nil for those that the header names.  Return a plist like that
of `smtpmail-native-message-prepare', with a new buffer of octets; the
sender is the one that smtpmail would choose.  Signal
`smtpmail-native-usage-error' if there is no recipient or sender, or if an
address cannot be read, and `smtpmail-native-malformed-message' if the
header is malformed."
  (smtpmail-native-message--make
   buffer
   (lambda (_coding _ascii)
     (smtpmail-native-message--describe (smtpmail-native-message--fields)
                                        recipients))))

(defun smtpmail-native-message--describe (fields recipients)
  "Return the plist, without octets, of a finished message with FIELDS.
RECIPIENTS are strings, or nil for those that FIELDS name."
  (smtpmail-native-message--plist
   (list :sender (smtpmail-native-message--sender fields)
         :recipients (smtpmail-native-message--all-recipients
                      fields recipients nil))
   fields nil))

(defun smtpmail-native-message--titles (fields)
  "Return the part of a plist that tells people of a message with FIELDS."
  (let ((text (lambda (key)
                (rfc2047-decode-string
                 (or (smtpmail-native-message--value key fields) "")))))
    (list :subject (funcall text "subject")
          :message-id (funcall text "message-id")
          :from (funcall text "from"))))

(provide 'smtpmail-native-message)
;;; smtpmail-native-message.el ends here
