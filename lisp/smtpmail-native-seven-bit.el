;;; smtpmail-native-seven-bit.el --- A message without 8-bit octets  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A server without 8BITMIME (RFC 6152) takes only ASCII.  What MIME (RFC 2045)
;; allows to be encoded is encoded here, part by part, and decodes to the same
;; octets.  A part that is signed would not be what was signed any more.

;;; Code:

(require 'smtpmail-native-error)
(require 'mail-parse)
(require 'mail-utils)
(require 'mm-bodies)
(require 'qp)
(require 'subr-x)

(defun smtpmail-native-seven-bit--fail (why)
  "Signal that the message cannot be encoded, because of WHY."
  (smtpmail-native-error-signal
   'smtpmail-native-refused
   (concat "The server does not support 8-bit messages (8BITMIME), and this \
one cannot be encoded: " why)))

(defun smtpmail-native-seven-bit--p (beg end)
  "Return non-nil if there is an 8-bit octet between BEG and END."
  (save-excursion
    (goto-char beg)
    (skip-chars-forward "\0-\177" end)
    (< (point) end)))

(defun smtpmail-native-seven-bit--body ()
  "Return where the body of the narrowed entity begins.
Nil means that it has none."
  (save-excursion
    (goto-char (point-min))
    (cond ((eq (char-after) ?\n) (1+ (point)))
          ((search-forward "\n\n" nil t) (point)))))

(defun smtpmail-native-seven-bit--field (name body)
  "Return the text of the field NAME of the entity whose body begins at BODY."
  (save-restriction
    (narrow-to-region (point-min) body)
    (goto-char (point-min))
    (let ((case-fold-search t))
      (mail-fetch-field name))))

(defun smtpmail-native-seven-bit--set (name value)
  "Give the field NAME of the narrowed entity the VALUE.
It goes to the end of the header, in place of the one before."
  (let ((case-fold-search t)
        (body (copy-marker (smtpmail-native-seven-bit--body))))
    (goto-char (point-min))
    (while (re-search-forward (concat "^" name ":.*\n\\(?:[ \t].*\n\\)*") body t)
      (replace-match ""))
    (goto-char (1- body))
    (insert name ": " value "\n")
    (set-marker body nil)))

(defun smtpmail-native-seven-bit--encoding (beg end)
  "Return the encoding that suits the octets between BEG and END, a symbol."
  (save-restriction
    (narrow-to-region beg end)
    (mm-qp-or-base64)))

(defun smtpmail-native-seven-bit-charset (beg end)
  "Return a name for the charset of the octets between BEG and END."
  (cond ((not (smtpmail-native-seven-bit--p beg end)) "us-ascii")
        ((memq 'utf-8 (mapcar #'coding-system-base
                              (detect-coding-region beg end)))
         "utf-8")
        (t "unknown-8bit")))

(defun smtpmail-native-seven-bit--leaf (body type encoding top)
  "Encode the narrowed entity, whose body begins at BODY.
TYPE is its parsed content type or nil, ENCODING that of its header or nil;
TOP non-nil means that it is the message itself."
  (when (and encoding (not (member encoding '("7bit" "8bit" "binary"))))
    (smtpmail-native-seven-bit--fail
     (format "a part labeled %s has 8-bit data" encoding)))
  (let ((wanted (if (equal encoding "binary")
                    'base64
                  (smtpmail-native-seven-bit--encoding body (point-max))))
        (charset (smtpmail-native-seven-bit-charset body (point-max))))
    (if (eq wanted 'quoted-printable)
        (quoted-printable-encode-region body (point-max) t)
      (smtpmail-native-seven-bit--base64
       body (and (not (equal encoding "binary"))
                 (string-prefix-p "text/"
                                  (downcase (or (car type) "text/plain"))))))
    (when (and top (null (smtpmail-native-seven-bit--field "mime-version" body)))
      (smtpmail-native-seven-bit--set "MIME-Version" "1.0"))
    (unless type
      (smtpmail-native-seven-bit--set
       "Content-Type" (concat "text/plain; charset=" charset)))
    (smtpmail-native-seven-bit--set "Content-Transfer-Encoding"
                                    (symbol-name wanted))))

(defun smtpmail-native-seven-bit--base64 (body text)
  "Encode in base64 what follows BODY.
The line ends of TEXT, if non-nil, are CRLF before it is encoded, RFC 2045
6.8."
  (when text
    (goto-char body)
    (while (search-forward "\n" nil t)
      (unless (eq (char-before (1- (point))) ?\r)
        (replace-match "\r\n" t t))))
  (base64-encode-region body (point-max))
  (goto-char (point-max))
  (insert "\n"))

(defun smtpmail-native-seven-bit--parts (boundary body)
  "Return the parts of the narrowed multipart, as (BEG . END) markers.
BOUNDARY is between them, and they follow BODY."
  (let ((delimiter (concat "^--" (regexp-quote boundary) "\\(--\\)?[ \t]*$"))
        (case-fold-search nil)
        (beg nil)
        (parts nil)
        (closed nil))
    (goto-char body)
    (while (and (not closed) (re-search-forward delimiter nil t))
      (let ((start (match-beginning 0)))
        (setq closed (match-beginning 1))
        (cond
         (beg
          (push (cons (copy-marker beg) (copy-marker (max beg (1- start))))
                parts))
         ((smtpmail-native-seven-bit--p body start)
          (smtpmail-native-seven-bit--fail
           "there is 8-bit text outside its MIME parts")))
        (forward-line)
        (setq beg (point))))
    (unless closed
      (smtpmail-native-seven-bit--fail "its closing MIME boundary is missing"))
    (when (smtpmail-native-seven-bit--p (min beg (point-max)) (point-max))
      (smtpmail-native-seven-bit--fail "there is 8-bit text outside its MIME parts"))
    parts))

(defun smtpmail-native-seven-bit--binary-p (body)
  "Return non-nil if the entity whose body begins at BODY is binary."
  (equal "binary" (downcase (string-trim
                             (or (smtpmail-native-seven-bit--field
                                  "content-transfer-encoding" body)
                                 "")))))

(defun smtpmail-native-seven-bit--inside (beg end encoding top)
  "Encode the entity between BEG and END, which is part of the narrowed one.
ENCODING is that of the narrowed one, or nil; TOP non-nil means that the
inner one is a message."
  (save-restriction
    (narrow-to-region beg end)
    (smtpmail-native-seven-bit--entity top))
  (when encoding
    (smtpmail-native-seven-bit--set "Content-Transfer-Encoding" "7bit")))

(defun smtpmail-native-seven-bit--entity (top)
  "Encode the narrowed entity; TOP non-nil means that it is the message."
  (let* ((body (smtpmail-native-seven-bit--body))
         (limit (or body (point-max))))
    (when (smtpmail-native-seven-bit--p (point-min) limit)
      (smtpmail-native-seven-bit--fail "its header is not ASCII"))
    (when (and body
               (or (smtpmail-native-seven-bit--p body (point-max))
                   (smtpmail-native-seven-bit--binary-p body)))
      (let* ((field (smtpmail-native-seven-bit--field "content-type" body))
             (type (and field (ignore-errors
                                (mail-header-parse-content-type field))))
             (name (downcase (or (car type) "text/plain")))
             (encoding (smtpmail-native-seven-bit--field
                        "content-transfer-encoding" body))
             (encoding (and encoding (downcase (string-trim encoding))))
             (boundary (cdr (assq 'boundary type))))
        (cond
         ((and field (null type))
          (smtpmail-native-seven-bit--fail "its Content-Type is malformed"))
         ((member name '("multipart/signed" "multipart/encrypted"))
          (smtpmail-native-seven-bit--fail "it is signed or encrypted"))
         ((and (string-prefix-p "multipart/" name) boundary)
          ;; The last comes first, so that the places of others stay.
          (pcase-dolist (`(,beg . ,end)
                         (smtpmail-native-seven-bit--parts boundary body))
            (smtpmail-native-seven-bit--inside beg end encoding nil)))
         ((equal name "message/rfc822")
          (smtpmail-native-seven-bit--inside body (point-max) encoding t))
         ((string-match-p "\\`\\(?:message\\|multipart\\)/" name)
          (smtpmail-native-seven-bit--fail
           (format "%s must not be encoded" name)))
         (t (smtpmail-native-seven-bit--leaf body type encoding top)))))))

(defun smtpmail-native-seven-bit-encode ()
  "Encode the message in the current buffer so that it is all ASCII.
The buffer is unibyte, with LF for a newline.  Signal
`smtpmail-native-refused' if that cannot be done without harm; the buffer
is then half done, and of no use."
  (when (save-excursion
          (goto-char (point-min))
          (let ((case-fold-search t))
            (re-search-forward "^DKIM-Signature:"
                               (smtpmail-native-seven-bit--body) t)))
    (smtpmail-native-seven-bit--fail "it has a DKIM signature"))
  (save-restriction
    (widen)
    (smtpmail-native-seven-bit--entity t)))

(provide 'smtpmail-native-seven-bit)
;;; smtpmail-native-seven-bit.el ends here
