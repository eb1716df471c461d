;;; smtpmail-native-address.el --- Mail addresses, by RFC 5322  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The text of an address field (RFC 5322, 3.4; RFC 6532) becomes a list of
;; mailboxes here, or an error that quotes the part that cannot be read.
;; Nothing here reads an option, and nothing has a side effect.
;;
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

;;; Code:

(require 'cl-lib)
(require 'puny)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-error)

(autoload 'ucs-normalize-NFKC-string "ucs-normalize")

(cl-defstruct (smtpmail-native-address
               (:constructor smtpmail-native-address--new)
               (:copier nil))
  "A mailbox of an address field."
  (local nil :documentation "Its local part, as written.")
  (domain nil :documentation "Its domain in ASCII, nil for a bare name.")
  (angle nil :documentation "Non-nil if it stands in angle brackets.")
  (beg nil :documentation "Where it begins, and with it its display name.")
  (plain nil :documentation "Non-nil if all of it is plain words.")
  (phrase nil :documentation "Tokens of its display name; one if it is plain.")
  (tokens nil :documentation "Tokens of its address, nil if it is plain.")
  (at nil :documentation "Those of its domain, nil if it is plain."))

;; A token is a list (TEXT BEG END).

(define-error 'smtpmail-native-unquoted-name "Message not sent"
  'smtpmail-native-usage-error)

(defun smtpmail-native-address-quote (text)
  "Return TEXT in quotes, at most 100 columns, and fit to be shown.
Control characters are escaped, and nothing else is."
  (let ((short (truncate-string-to-width (substring-no-properties text)
                                         100 nil nil "...")))
    (format-message
     "`%s'"
     (replace-regexp-in-string
      "[[:cntrl:]\u0080-\u009f]"
      (lambda (char)
        (pcase (aref char 0)
          (?\n "\\n") (?\r "\\r") (?\t "\\t")
          (code (format "\\x%02x" code))))
      short t t))))

;;;; Reading

;; These functions work at point in a buffer that holds a field's text.  They
;; throw (REASON . BEG) to `smtpmail-native-address--bad'.

(defconst smtpmail-native-address--atom-regexp
  "[^][()<>@,;:\\\". \0-\37\177]+"
  "Matches an atom (RFC 5322, 3.2.3; RFC 6532, 3.2).")

(defconst smtpmail-native-address--encoded-word-regexp
  "=\\?[^? \t\n]+\\?[BbQq]\\?[^? \t\n]*\\?="
  "Matches an encoded word (RFC 2047).")

(defconst smtpmail-native-address--token-regexp
  (concat "\\[[^][\\ \t\n]*\\]\\|"
          smtpmail-native-address--encoded-word-regexp "\\|"
          smtpmail-native-address--atom-regexp)
  "Matches a domain literal, an encoded word or an atom.
An encoded word is one token even if it holds a comma or the like.")

(defconst smtpmail-native-address--domain-regexp
  (concat "\\`\\(?:\\[[^]]+\\]\\|" smtpmail-native-address--atom-regexp
          "\\(?:\\." smtpmail-native-address--atom-regexp "\\)*\\)\\'")
  "Matches a domain or a domain literal (RFC 5322, 3.4.1).")

(defun smtpmail-native-address--bad (reason beg)
  "Give up on the address that begins at BEG because of REASON."
  (throw 'smtpmail-native-address--bad (cons reason beg)))

(defun smtpmail-native-address--skip-comment ()
  "Move over the comment at point; comments nest (RFC 5322, 3.2.2)."
  (let ((beg (point))
        (depth 0))
    (while (progn
             (skip-chars-forward "^()\\\\")
             (pcase (char-after)
               (?\( (setq depth (1+ depth)))
               (?\) (setq depth (1- depth)))
               (?\\ (forward-char))
               (_ (smtpmail-native-address--bad "unterminated comment" beg)))
             (unless (eobp)
               (forward-char))
             (> depth 0)))))

(defun smtpmail-native-address--skip-space ()
  "Move over white space and comments."
  (while (progn
           (skip-chars-forward " \t")
           (eq (char-after) ?\())
    (smtpmail-native-address--skip-comment)))

(defun smtpmail-native-address--skip-quoted-string ()
  "Move over the quoted string at point."
  (let ((beg (point)))
    (forward-char)
    (while (progn
             (skip-chars-forward "^\"\\\\")
             (eq (char-after) ?\\))
      (forward-char (min 2 (- (point-max) (point)))))
    (when (eobp)
      (smtpmail-native-address--bad "unterminated quoted string" beg))
    (forward-char)))

(defun smtpmail-native-address--skip-token ()
  "Move over the token at point; return nil if there is none.
A bracket or a backslash is one: it can be part of a name."
  (cond ((memq (char-after) '(?. ?@)) (forward-char) t)
        ((eq (char-after) ?\")
         (smtpmail-native-address--skip-quoted-string)
         t)
        ((looking-at smtpmail-native-address--token-regexp)
         (goto-char (match-end 0)))
        ((memq (char-after) '(?\[ ?\] ?\\)) (forward-char) t)))

(defun smtpmail-native-address--tokens ()
  "Move over words, dots and at-signs as far as there are any; list them."
  (let (tokens beg)
    (while (progn
             (smtpmail-native-address--skip-space)
             (setq beg (point))
             (smtpmail-native-address--skip-token))
      (push (list (buffer-substring-no-properties beg (point)) beg (point))
            tokens))
    (nreverse tokens)))

(defun smtpmail-native-address--local-part-p (texts)
  "Return non-nil if the tokens TEXTS make a local part (RFC 5322, 3.4.1).
Allow dots in odd places: there are such mailboxes, the server knows better."
  (and (delete "." (copy-sequence texts))
       (seq-every-p (lambda (text)
                      (or (memq (aref text 0) '(?. ?\"))
                          (string-match-p
                           (concat "\\`" smtpmail-native-address--atom-regexp
                                   "\\'")
                           text)))
                    texts)))

(defun smtpmail-native-address--unsafe-p (string)
  "Return non-nil if STRING has a control or non-Unicode character."
  (seq-some (lambda (char)
              (or (< char ?\s)
                  (<= #x7f char #x9f)
                  (<= #xd800 char #xdfff)
                  (> char #x10ffff)))
            string))

(defun smtpmail-native-address--check-commas (texts beg)
  "Give up unless dots or an at-sign connect the tokens TEXTS.
The address begins at BEG."
  (let ((previous "."))
    (dolist (text texts)
      (unless (or (member previous '("." "@"))
                  (member text '("." "@")))
        (smtpmail-native-address--bad "missing comma or angle brackets" beg))
      (setq previous text))))

(defun smtpmail-native-address--addr-spec (tokens beg)
  "Return the mailbox that TOKENS make; the whole of it begins at BEG."
  (let* ((texts (mapcar #'car tokens))
         (at (member "@" texts))
         (local (butlast texts (length at)))
         (domain (and at (string-join (cdr at)))))
    (unless texts
      (smtpmail-native-address--bad "missing address" beg))
    (smtpmail-native-address--check-commas texts beg)
    (unless (smtpmail-native-address--local-part-p local)
      (smtpmail-native-address--bad "invalid local part" beg))
    (unless (or (null domain)
                (string-match-p smtpmail-native-address--domain-regexp domain))
      (smtpmail-native-address--bad "invalid domain" beg))
    (setq local (string-join local))
    (when (or (smtpmail-native-address--unsafe-p local)
              (smtpmail-native-address--unsafe-p (or domain "")))
      (smtpmail-native-address--bad "invalid character" beg))
    (smtpmail-native-address--new
     :local local :beg beg
     :domain (and domain (smtpmail-native-address-domain-to-ascii domain))
     :tokens tokens
     :at (last tokens (max 0 (1- (length at)))))))

(defun smtpmail-native-address--angle-addr (beg)
  "Move over the address in angle brackets at point and return its mailbox.
Leave out a source route (RFC 5322, 4.4).  The closing bracket may be
missing where the address ends anyway.  BEG is where the whole begins."
  (forward-char)
  (smtpmail-native-address--skip-space)
  (when (memq (char-after) '(?@ ?,))
    (while (progn
             (smtpmail-native-address--tokens)
             (eq (char-after) ?,))
      (forward-char))
    (unless (eq (char-after) ?:)
      (smtpmail-native-address--bad "unterminated source route" beg))
    (forward-char))
  (let ((tokens (smtpmail-native-address--tokens)))
    (cond
     ((eq (char-after) ?>) (forward-char))
     ((not (memq (char-after) '(nil ?, ?\;)))
      (smtpmail-native-address--bad "missing angle bracket" beg)))
    (smtpmail-native-address--addr-spec tokens beg)))

(defun smtpmail-native-address--named (phrase beg)
  "Move over the address in angle brackets at point and return its mailbox.
PHRASE is the list of tokens before it, which begin at BEG."
  (let ((mailbox (smtpmail-native-address--angle-addr beg)))
    (setf (smtpmail-native-address-angle mailbox) t
          (smtpmail-native-address-phrase mailbox) phrase)
    mailbox))

(defconst smtpmail-native-address--plain "-!#$%&'*+/0-9=A-Z^_`a-z{|}~"
  "Characters of plain words, for `skip-chars-forward'.
Without a question mark no word is an encoded one.")

(defun smtpmail-native-address--plain-skip (more)
  "Move over plain words and MORE characters; return the text, or nil for none."
  (let ((beg (point)))
    (and (> (skip-chars-forward
             (concat smtpmail-native-address--plain more))
            0)
         (buffer-substring-no-properties beg (point)))))

(defun smtpmail-native-address--plain-domain ()
  "Move over the at-sign and domain at point; return the domain, or nil.
It is nil if there is something else."
  (and (eq (char-after) ?@)
       (progn (forward-char) t)
       (let ((domain (smtpmail-native-address--plain-skip ".")))
         (and domain
              (not (string-match-p "\\`\\.\\|\\.\\.\\|\\.\\'" domain))
              domain))))

(defun smtpmail-native-address--plain-spec (beg phrase)
  "Move over the plain address at point; return its mailbox, or nil.
It begins at BEG with PHRASE, tokens.  Point is after it on success."
  (let* ((first (char-after))
         (local (smtpmail-native-address--plain-skip "."))
         (domain (and local
                      (/= first ?.)
                      (smtpmail-native-address--plain-domain))))
    (and domain
         (smtpmail-native-address--new
          :local local :domain domain :beg beg :phrase phrase :plain t))))

(defun smtpmail-native-address--plain-angle (beg)
  "Move over a plain name and an address in angle brackets; return its mailbox.
It begins at BEG.  The value is nil if there is anything else."
  (let ((name (smtpmail-native-address--plain-skip " \t")))
    (and (eq (char-after) ?<)
         (let* ((phrase (and name (list (list name beg (point)))))
                (mailbox (progn
                           (forward-char)
                           (smtpmail-native-address--plain-spec beg phrase))))
           (and mailbox
                (eq (char-after) ?>)
                (progn
                  (forward-char)
                  (setf (smtpmail-native-address-angle mailbox) t)
                  mailbox))))))

(defun smtpmail-native-address--plain-one ()
  "Move over the mailbox at point and return it, if it is a plain one.
Else return nil, and point stays.  Nearly all of a long list are plain, and
are read here much faster than by their tokens, with the same outcome."
  (let* ((beg (point))
         (mailbox (or (smtpmail-native-address--plain-spec beg nil)
                      (progn
                        (goto-char beg)
                        (smtpmail-native-address--plain-angle beg)))))
    (skip-chars-forward " \t")
    (if (and mailbox (memq (char-after) '(nil ?, ?\;)))
        mailbox
      (goto-char beg)
      nil)))

(defun smtpmail-native-address--one (group)
  "Move over the mailbox or group at point; return a list of mailboxes.
GROUP is non-nil inside a group, where no other group may begin."
  (let ((plain (smtpmail-native-address--plain-one)))
    (if plain
        (list plain)
      (smtpmail-native-address--by-tokens group))))

(defun smtpmail-native-address--by-tokens (group)
  "Do as `smtpmail-native-address--one' does with GROUP, by tokens."
  (let* ((beg (point))
         (tokens (smtpmail-native-address--tokens)))
    (pcase (char-after)
      (?< (list (smtpmail-native-address--named tokens beg)))
      ((and ?: (guard (and tokens (not group))))
       (forward-char)
       (prog1 (smtpmail-native-address--list t)
         (unless (eq (char-after) ?\;)
           (smtpmail-native-address--bad "missing semicolon after group" beg))
         (forward-char)))
      ((or 'nil ?, ?\;)
       (list (smtpmail-native-address--addr-spec tokens beg)))
      (char
       (smtpmail-native-address--bad
        (format "unexpected %s" (smtpmail-native-address-quote (string char)))
        beg)))))

(defun smtpmail-native-address--bare-p (mailbox)
  "Return non-nil if MAILBOX is a name, without domain and angle brackets."
  (not (or (smtpmail-native-address-domain mailbox)
           (smtpmail-native-address-angle mailbox))))

(defun smtpmail-native-address--check-name (beg mailbox)
  "Give up if MAILBOX has a name that a comma seems to tear apart.
BEG is where the bare names before it begin, as in Doe, John <john@x>, or
nil if there are none."
  (when (and beg
             (smtpmail-native-address-angle mailbox)
             (smtpmail-native-address-phrase mailbox))
    (smtpmail-native-address--bad "a name with a comma must be quoted" beg)))

(defun smtpmail-native-address--list (group)
  "Move over the address list at point; return a list of mailboxes.
Commas may stand alone (RFC 5322, 4.4).  With GROUP, stop before a semicolon."
  (let (mailboxes bare beg)
    (while (progn
             (smtpmail-native-address--skip-space)
             (setq beg (point))
             (not (or (eobp)
                      (and group (eq (char-after) ?\;)))))
      (if (eq (char-after) ?,)
          (forward-char)
        (let* ((new (smtpmail-native-address--one group))
               (one (and (not (eq (char-before) ?\;)) (car new))))
          (when one
            (smtpmail-native-address--check-name bare one))
          (setq bare (and one
                          (smtpmail-native-address--bare-p one)
                          (or bare beg))
                mailboxes (nconc (nreverse new) mailboxes)))
        (smtpmail-native-address--skip-space)
        (unless (or (memq (char-after) '(nil ?,))
                    (and group (eq (char-after) ?\;)))
          (smtpmail-native-address--bad
           (if (eq (char-after) ?\;)
               "only commas can separate addresses, not semicolons"
             "missing comma")
           beg))))
    (nreverse mailboxes)))

(defun smtpmail-native-address--quoted-name (beg)
  "Return how to write the address at BEG with its name quoted, or nil.
Return nil if quotes around its name would not make it one address."
  (goto-char beg)
  (skip-chars-forward "^\"()<>@:;\\\\[]")
  (let ((name (string-trim (buffer-substring-no-properties beg (point)))))
    (when (and (string-search "," name)
               (looking-at "<[^<>]+>"))
      (format "\"%s\" %s" name (match-string-no-properties 0)))))

(defun smtpmail-native-address--fail (bad place)
  "Signal that the text in the current buffer, found in PLACE, is BAD.
BAD is (REASON . BEG)."
  (skip-chars-forward "^,;")
  (let ((part (string-trim (buffer-substring-no-properties (cdr bad)
                                                           (point))))
        (remedy (smtpmail-native-address--quoted-name (cdr bad))))
    (smtpmail-native-error-signal
     (if remedy 'smtpmail-native-unquoted-name 'smtpmail-native-usage-error)
     (concat (format "Invalid address %s in %s: %s"
                     (smtpmail-native-address-quote part) place (car bad))
             (and remedy
                  (format "; quote the name: %s"
                          (smtpmail-native-address-one-line remedy)))))))

(defun smtpmail-native-address-one-line (text)
  "Return TEXT with control characters as spaces, at most 200 columns."
  (truncate-string-to-width
   (replace-regexp-in-string "[[:cntrl:]\u0080-\u009f]+" " " text t t)
   200 nil nil "..."))

(defun smtpmail-native-address-decode (octets)
  "Return OCTETS as text if they are UTF-8, else as raw octets in a string."
  (let ((text (decode-coding-string octets 'utf-8-unix)))
    (if (equal octets (encode-coding-string text 'utf-8-unix))
        text
      (string-to-multibyte octets))))

(defun smtpmail-native-address-visible (text)
  "Return TEXT without the invisible characters that are copied with addresses.
Web pages and address books put them around addresses: spaces that do not
break or have another width, marks of direction, and characters without any
width.  None of them is ever meant as part of an address.  If there are none,
the value is TEXT itself."
  (if (string-match-p "\\`[[:ascii:]]*\\'" text)
      text
    (let ((seen (replace-regexp-in-string
                 "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
                 ""
                 (replace-regexp-in-string
                  "[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]" " " text t t)
                 t t)))
      (if (equal seen text) text seen))))

(defun smtpmail-native-address--insert (text)
  "Insert TEXT, the body of a field, unfolded; move to its beginning."
  (insert (smtpmail-native-address-visible
           (if (multibyte-string-p text)
               text
             (smtpmail-native-address-decode text))))
  (goto-char (point-min))
  (while (re-search-forward "\r?\n\\([ \t]\\)" nil t)
    (replace-match "\\1"))
  (goto-char (point-max))
  (delete-region (point) (+ (point) (skip-chars-backward " \t\r\n")))
  (goto-char (point-min)))

(defun smtpmail-native-address-with (text place function)
  "Return what FUNCTION returns for the mailboxes in TEXT.
It is called with a list of `smtpmail-native-address' structures, in a
buffer that holds TEXT, unfolded.  See `smtpmail-native-address-parse' for
TEXT, PLACE and errors."
  (declare (indent 2))
  (with-temp-buffer
    (smtpmail-native-address--insert text)
    (let* ((mailboxes nil)
           (bad (catch 'smtpmail-native-address--bad
                  (setq mailboxes (smtpmail-native-address--list nil))
                  nil)))
      (when bad
        (smtpmail-native-address--fail bad place))
      (funcall function mailboxes))))

(defun smtpmail-native-address-parse (text place)
  "Return the mailboxes in TEXT, the body of an address field.
The value is a list of `smtpmail-native-address' structures, in the order
of TEXT.  Signal `smtpmail-native-usage-error', which says that TEXT is in
PLACE, if anything in it is not an address; it is the child
`smtpmail-native-unquoted-name' if quotes around a name would mend it."
  (smtpmail-native-address-with text place #'identity))

(defun smtpmail-native-address-blank-p (text)
  "Return non-nil if TEXT is nothing but comments, commas and blanks.
Empty angle brackets are nothing, either."
  (with-temp-buffer
    (smtpmail-native-address--insert text)
    (null (catch 'smtpmail-native-address--bad
            (while (progn
                     (smtpmail-native-address--skip-space)
                     (when (looking-at ",\\|<[ \t]*>")
                       (goto-char (match-end 0)))))
            (not (eobp))))))

(defun smtpmail-native-address-sender (text place)
  "Return the first mailbox in TEXT, or nil if there is none.
It is the sender, and so a bare name is an error where TEXT also has an
address with a domain.  PLACE is as in `smtpmail-native-address-parse'."
  (let* ((mailboxes (smtpmail-native-address-parse text place))
         (first (car mailboxes)))
    (when (and first
               (null (smtpmail-native-address-domain first))
               (seq-some #'smtpmail-native-address-domain mailboxes))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "Invalid address %s in %s: it has no domain, but another one \
has; if it is part of a name, quote the name"
               (smtpmail-native-address-quote
                (smtpmail-native-address-local first))
               place)))
    first))

;;;; Mailboxes

(defun smtpmail-native-address-domain-to-ascii (domain)
  "Return DOMAIN with its labels in ASCII (RFC 5890, 2.3.2.1)."
  (if (string-match-p "\\`[[:ascii:]]*\\'" domain)
      domain
    (save-match-data
      (puny-encode-domain
       (ucs-normalize-NFKC-string
        (downcase (replace-regexp-in-string "[\u3002\uff0e\uff61]" "." domain
                                            t t)))))))

(defun smtpmail-native-address-string (mailbox)
  "Return the address of MAILBOX, a string without its display name."
  (if (smtpmail-native-address-domain mailbox)
      (concat (smtpmail-native-address-local mailbox) "@"
              (smtpmail-native-address-domain mailbox))
    (smtpmail-native-address-local mailbox)))

(defun smtpmail-native-address-utf-8-p (mailbox)
  "Return non-nil if MAILBOX needs SMTPUTF8 (RFC 6531).
That is so if its local part is not ASCII; a domain can always be written
in ASCII."
  (string-match-p "[^[:ascii:]]" (smtpmail-native-address-local mailbox)))

(provide 'smtpmail-native-address)
;;; smtpmail-native-address.el ends here
