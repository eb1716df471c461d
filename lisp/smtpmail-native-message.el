;;; smtpmail-native-message.el --- From a buffer to envelope and octets  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What `smtpmail-send-it' does to a message before it is sent:
;; aliases, missing fields, RFC 2047, recipients, Bcc.  Nothing here uses the
;; network or writes a file, and the buffer of the message is only read.
;;
;; The header is worked on in a small buffer of its own.
;;
;; RFC 5322 (format), 5321 (envelope), 2047 (encoded words), 6532 (UTF-8).

;;; Code:

(require 'cl-lib)
(require 'mailalias)
(require 'rfc2047)
(require 'sendmail)
(require 'seq)
(require 'smtpmail)
(require 'subr-x)
(require 'smtpmail-native-address)
(require 'smtpmail-native-body)
(require 'smtpmail-native-encode)
(require 'smtpmail-native-error)
(require 'smtpmail-native-header)
(require 'smtpmail-native-spare)
(require 'smtpmail-native-wishes)

(defconst smtpmail-native-message--inherited-regexp
  "\\`\\(?:mail\\|message\\|mm\\|rfc2047\\|sendmail\\|smtpmail\\|user\\)-"
  "Matches variables whose local values in the message buffer count.")

(defun smtpmail-native-message--fail (format &rest args)
  "Signal a `smtpmail-native-usage-error' whose text is FORMAT with ARGS."
  (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                (apply #'format-message format args)))

;;;; Envelope

(defun smtpmail-native-message--unique (mailboxes)
  "Return the addresses of MAILBOXES, strings, each once.
Local parts compare exactly, domains ignoring case.  If it is set, append
`smtpmail-sendto-domain' to a bare name."
  (let ((seen (make-hash-table :test #'equal))
        result)
    (dolist (mailbox mailboxes)
      (let* ((whole (smtpmail-native-address-string mailbox))
             (whole (if (smtpmail-native-address-domain mailbox)
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
appended to bare names.  The strings are text, not octets, but domains are
in ASCII.  HEADER names the field in the error.  Signal
`smtpmail-native-usage-error' if anything in TEXT is not an address."
  (smtpmail-native-message--unique
   (smtpmail-native-address-parse text (or header "the address list"))))

(defun smtpmail-native-message--all-recipients (fields given beside)
  "Return the recipients that FIELDS and GIVEN name, without duplicates.
GIVEN is a list of strings; unless it is nil, FIELDS count only if BESIDE
is non-nil."
  (let ((block (smtpmail-native-header-resent-block fields)))
    (or (smtpmail-native-message--unique
         (append
          (mapcan (lambda (text)
                    (smtpmail-native-address-parse text "the arguments"))
                  given)
          (and (or beside (null given))
               (mapcan (lambda (field)
                         (smtpmail-native-address-parse
                          (smtpmail-native-field-text field)
                          (smtpmail-native-field-name field)))
                       (if block
                           (smtpmail-native-header-select
                            '("resent-to" "resent-cc" "resent-bcc") block)
                         (smtpmail-native-header-select
                          '("to" "cc" "bcc") fields))))))
        (smtpmail-native-message--fail
         "No recipients in %s"
         (cond ((and given (not beside)) "the arguments")
               (block "Resent-To, Resent-Cc or Resent-Bcc")
               (t "To, Cc or Bcc"))))))

(defun smtpmail-native-message-explicit-sender ()
  "Return the envelope sender that the user has set, a string, or nil.
The empty string is the null sender (RFC 5321, 4.5.5).  Signal
`smtpmail-native-usage-error' if what is set is not an address."
  (let ((sender (or smtpmail-mail-address
                    (and mail-specify-envelope-from
                         (stringp mail-envelope-from)
                         mail-envelope-from))))
    (cond
     ((null sender) nil)
     ((string-match-p "\\`[ \t]*\\(?:<[ \t]*>\\)?[ \t]*\\'" sender) "")
     ((let ((mailbox (smtpmail-native-address-sender
                      sender "the envelope sender")))
        (and mailbox (smtpmail-native-address-string mailbox))))
     (t (smtpmail-native-message--fail
         "No address in the envelope sender %s"
         (smtpmail-native-address-quote sender))))))

(defun smtpmail-native-message--sender (fields)
  "Return the address for MAIL FROM, for a header of FIELDS.
A resent message comes from the one who resends it, not from its author:
the author's address is not theirs to use, and bounces are not for the
author."
  (or (smtpmail-native-message-explicit-sender)
      (seq-some (lambda (field)
                  (let ((mailbox (smtpmail-native-address-sender
                                  (smtpmail-native-field-text field)
                                  (smtpmail-native-field-name field))))
                    (and mailbox (smtpmail-native-address-string mailbox))))
                (append
                 (smtpmail-native-header-select
                  '("resent-from")
                  (smtpmail-native-header-resent-block fields))
                 (smtpmail-native-header-select '("from") fields)))
      (smtpmail-user-mail-address)
      (smtpmail-native-message--fail
       "No sender address; set `user-mail-address'")))

;;;; Completing the header

;; These functions work in a buffer that holds the header alone, has the
;; local variables of the message buffer, and is always multibyte.

(defun smtpmail-native-message--copy-header (source end)
  "Insert the header of SOURCE, which ends at END, into the current buffer."
  (let ((text (with-current-buffer source
                (buffer-substring-no-properties (point-min) end))))
    (insert (if (multibyte-string-p text)
                text
              (smtpmail-native-address-decode text))))
  (dolist (variable (buffer-local-variables source))
    (when (and (consp variable)
               (string-match-p smtpmail-native-message--inherited-regexp
                               (symbol-name (car variable))))
      (set (make-local-variable (car variable)) (cdr variable))))
  (smtpmail-native-header-tidy))

(defun smtpmail-native-message--expand-aliases ()
  "Expand mail aliases as stock does."
  (sendmail-sync-aliases)
  ;; If the value is t, the aliases are to be read from that file.
  (when (if (eq mail-aliases t) mail-personal-alias-file mail-aliases)
    (expand-mail-aliases (point-min) (point-max))
    ;; An alias can be anything.
    (smtpmail-native-header-tidy)))

(defun smtpmail-native-message--insert-from (prefix)
  "Insert a From field, its name with PREFIX, for the user."
  (let ((address (or (smtpmail-user-mail-address)
                     (smtpmail-native-message-explicit-sender)
                     user-mail-address))
        (name (or (user-full-name) "")))
    (when (member address '(nil ""))
      (smtpmail-native-message--fail
       "No sender address; set `user-mail-address'"))
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
      (unless (smtpmail-native-body-ascii-only-p)
        (smtpmail-native-encode-region (point-min) (point-max)))
      (goto-char (point-min)))))

(defun smtpmail-native-message--complete (prefix position fields)
  "Insert what FIELDS lack of From, Message-ID and Date at POSITION.
PREFIX, \"Resent-\" or \"\", is part of their names."
  (goto-char position)
  (let ((missing-p (lambda (key)
                     (not (smtpmail-native-header-value
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
  (smtpmail-native-header-delete
   (lambda (field)
     (let ((key (smtpmail-native-field-key field)))
       (or (and (null (smtpmail-native-header-text field))
                (member key '("subject" "date" "resent-date")))
           (and (member key '("from" "message-id" "resent-from"
                              "resent-message-id"))
                (smtpmail-native-address-blank-p
                 (smtpmail-native-field-text field)))))))
  (let* ((fields (smtpmail-native-header-fields))
         (block (smtpmail-native-header-resent-block fields)))
    (when block
      (smtpmail-native-message--complete
       "Resent-" (smtpmail-native-field-beg (car block)) block))
    (smtpmail-native-message--complete "" (point-min) fields)))

(defun smtpmail-native-message--plain-p (fields)
  "Return non-nil if a body of plain text is all that FIELDS tell of.
It can be encoded then as is suitable."
  (let ((type (smtpmail-native-header-value "content-type" fields)))
    (and (or (null type)
             (string-match-p "\\`text/plain\\_>" (downcase type)))
         (null (smtpmail-native-header-value "content-transfer-encoding"
                                             fields)))))

(defun smtpmail-native-message--insert-mime (body)
  "Say in MIME fields what BODY is, if it needs some and the header has none.
Note in BODY how it has to be encoded, if it does."
  (let* ((fields (smtpmail-native-header-fields))
         (encoding
          (and (eq mail-send-nonascii 'mime)
               (not (smtpmail-native-header-select '("mime-version") fields))
               (smtpmail-native-body-wanted-encoding body)))
         (charset (and encoding
                       (smtpmail-native-body-charset body))))
    (when charset
      (goto-char (point-max))
      (insert "MIME-Version: 1.0\n")
      ;; The charset that is used overrides one that is only said; what is
      ;; not plain text, or is encoded by hand, speaks for itself.
      (when (smtpmail-native-message--plain-p fields)
        (smtpmail-native-header-remove '("content-type"
                                         "content-transfer-encoding"))
        (goto-char (point-max))
        (insert (format "Content-Type: text/plain; charset=%s\n" charset)
                (format "Content-Transfer-Encoding: %s\n" encoding))
        (setf (smtpmail-native-body-encoding body) encoding)))))

(defun smtpmail-native-message--finish-header (body given beside foreign)
  "Finish the header in the current buffer; return the plist of its message.
BODY is a `smtpmail-native-body'.  GIVEN and BESIDE are as in
`smtpmail-native-message--all-recipients', FOREIGN as in
`smtpmail-native-message-prepare', whose plist is returned without its
buffer."
  (smtpmail-native-message--expand-aliases)
  (let* ((fields (smtpmail-native-header-fields))
         (recipients (smtpmail-native-message--all-recipients
                      fields given beside))
         (fcc (delete "" (mapcar #'smtpmail-native-field-text
                                 (smtpmail-native-header-select
                                  '("fcc") fields))))
         sender)
    (smtpmail-native-message--insert-missing)
    (setq sender (smtpmail-native-message--sender
                  (smtpmail-native-header-fields)))
    (smtpmail-native-header-remove
     (list "fcc" "bcc" "resent-bcc" smtpmail-native-wishes-header))
    (smtpmail-native-message--encode body fields foreign)
    (smtpmail-native-header-tidy)
    (smtpmail-native-message--plist
     (list :sender sender :recipients recipients :fcc fcc)
     (smtpmail-native-header-fields)
     (and (not foreign)
          (null (smtpmail-native-header-resent-block fields))
          (smtpmail-native-header-value smtpmail-native-wishes-header
                                        fields)))))

(defun smtpmail-native-message--encode (body fields foreign)
  "Encode the header in the current buffer as it suits BODY.
Note in BODY how it has to be encoded, if it does.  FIELDS are those that the
header had; if they are signed, encode only what a resending adds.  FOREIGN is
as in `smtpmail-native-message-prepare'."
  (let ((coding (smtpmail-native-body-coding body))
        (signed (smtpmail-native-encode-signed-p fields foreign)))
    (unless signed
      (smtpmail-native-message--insert-mime body))
    (setq-local buffer-file-coding-system (or coding 'utf-8))
    (funcall (if signed
                 #'smtpmail-native-encode-resent
               #'smtpmail-native-encode-header)
             (not foreign))))

(defun smtpmail-native-message--utf-8-p (envelope fields)
  "Return non-nil if a message of ENVELOPE and FIELDS needs SMTPUTF8.
It does if a local part is not ASCII; other octets in a header have been
there before, and get through without."
  (or (seq-some #'smtpmail-native-encode-utf-8-p fields)
      (seq-some (lambda (address)
                  (string-match-p "[^[:ascii:]]" address))
                (cons (plist-get envelope :sender)
                      (plist-get envelope :recipients)))))

(defun smtpmail-native-message--plist (envelope fields wishes)
  "Return ENVELOPE with what FIELDS tell people, and with its wishes.
WISHES is the text of the field that has them, or nil."
  (let ((titles (smtpmail-native-message--titles fields)))
    (append envelope
            (list :wishes (smtpmail-native-wishes
                           wishes
                           (smtpmail-native-header-value "tls-required" fields)
                           (plist-get titles :message-id))
                  :utf-8 (and (smtpmail-native-message--utf-8-p envelope fields)
                              t)
                  :binary (equal "binary"
                                 (downcase
                                  (or (smtpmail-native-header-value
                                       "content-transfer-encoding" fields)
                                      ""))))
            titles)))

;;;; Entry point

(defun smtpmail-native-message--compose (header finish)
  "Return the plist of the message in the current buffer, which is widened.
HEADER is an empty buffer for its header.  FINISH is as in
`smtpmail-native-message--make'."
  (pcase-let* ((`(,body . ,end) (smtpmail-native-body-read))
               (plist (with-current-buffer header
                        (smtpmail-native-message--copy-header
                         (smtpmail-native-body-source body) end)
                        (funcall finish body))))
    (append (list :buffer (smtpmail-native-body-octets header body))
            plist)))

(defun smtpmail-native-message--make (buffer finish)
  "Make the plist, with octets, of the message in BUFFER.
FINISH is called in a buffer that holds the header, with a
`smtpmail-native-body'; it returns the rest of the plist, and leaves the
header as it is to be sent."
  (with-current-buffer buffer
    (save-match-data
      (save-excursion
        (save-restriction
          (widen)
          (let ((case-fold-search t)
                (header (generate-new-buffer " *smtpmail-native header*" t)))
            (unwind-protect
                (smtpmail-native-spare-while
                  (smtpmail-native-message--compose header finish))
              (kill-buffer header))))))))

(defun smtpmail-native-message-prepare (&optional buffer given beside foreign)
  "Make envelope and octets of the message in BUFFER.
BUFFER, the current buffer if it is nil, holds header fields, a line that is
`mail-header-separator', and a body; an empty line may stand for the
separator if the message is final.  It is read as a whole even if it is
narrowed, and not altered in any way.

GIVEN is a list of strings, address lists, or nil.  They name the
recipients in place of the header, or beside it if BESIDE is non-nil.

FOREIGN non-nil means that the message is finished, and that another person
may have written it.  A signed one is then not altered, and X-Smtpmail-Native
does not count; nor does it in a message that is resent.  It is removed in
any case.

Return a plist:
  :buffer      a new unibyte buffer that holds exactly the octets to send,
               with LF for a newline; the caller kills it
  :sender      the address for MAIL FROM, \"\" for the null sender
  :recipients  the addresses for RCPT TO, without duplicates; this is also
               the new value of `smtpmail-recipient-address-list'
  :fcc         the file names in Fcc fields, which are removed
  :wishes      what it asks of the server, from options and from the field
               X-Smtpmail-Native, which is removed: `smtpmail-native-wishes'
  :utf-8       non-nil if a local part is not ASCII, which takes SMTPUTF8
  :binary      non-nil if its octets must go as they are, or be encoded
  :subject :message-id :from
               the text of these fields, decoded, \"\" if there is none

Addresses are text: a local part that is not ASCII is UTF-8 on the wire
\(RFC 6531).  Domains are in ASCII.

As in `smtpmail-send-it', mail aliases are expanded, a blank Subject is
dropped, From, Message-ID and Date (and their Resent- forms, if the
message is resent) are added if missing, header fields are encoded
according to RFC 2047, and the body as `smtpmail-code-conv-from' and
`select-message-coding-system' say.  Bcc and Resent-Bcc are removed.
Besides, the header becomes one that servers can read, see
`smtpmail-native-encode-header', and plain text with a line that is too
long goes as quoted-printable.  A complete, encoded message loses Bcc and
Fcc, and is otherwise kept octet by octet.

Signal `smtpmail-native-usage-error' if there is no recipient or an
address cannot be read, and its child `smtpmail-native-malformed-message'
if the header is malformed; nothing is left then."
  (let ((plist (smtpmail-native-message-prepare-lean buffer given beside
                                                     foreign)))
    (smtpmail-native-body-fill (plist-get plist :buffer))
    plist))

(defun smtpmail-native-message-prepare-lean (buffer given beside foreign)
  "Do as `smtpmail-native-message-prepare' does, but for the body.
BUFFER, GIVEN, BESIDE and FOREIGN are as there.  The octets of the body may
stay in BUFFER, which must live and must not change as long as they are
needed; see `smtpmail-native-body-octets'."
  (let ((plist (smtpmail-native-message--make
                (or buffer (current-buffer))
                (lambda (body)
                  (smtpmail-native-message--finish-header
                   body given beside foreign)))))
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
  (let ((plist (smtpmail-native-message--make
                buffer
                (lambda (_body)
                  (smtpmail-native-message--describe
                   (smtpmail-native-header-fields) recipients)))))
    (smtpmail-native-body-fill (plist-get plist :buffer))
    plist))

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
                 (or (smtpmail-native-header-value key fields) "")))))
    (list :subject (funcall text "subject")
          :message-id (funcall text "message-id")
          :from (funcall text "from")
          ;; The present sender.
          :author (or (smtpmail-native-header-value "resent-from" fields)
                      (smtpmail-native-header-value "from" fields)
                      ""))))

(provide 'smtpmail-native-message)
;;; smtpmail-native-message.el ends here
