;;; smtpmail-native-body.el --- From the text of a message to octets  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Where the body of a message begins, which coding system suits it, and its octets.
;;
;; A body may be large.  It stays in the buffer of the message, which is only read,
;; and is written from there into a file: the buffer of octets made here holds
;; the header, and knows where the rest is.  Only text whose size is not known
;; before it is encoded goes into that buffer, too.

;;; Code:

(require 'cl-lib)
(require 'qp)
(require 'sendmail)
(require 'seq)
(require 'smtpmail)
(require 'smtpmail-native-address)
(require 'smtpmail-native-error)
(require 'smtpmail-native-header)
(require 'smtpmail-native-seven-bit)

(cl-defstruct (smtpmail-native-body
               (:constructor smtpmail-native-body--new)
               (:copier nil))
  "The body of a message."
  (source nil :documentation "The buffer of the message.")
  (start nil :documentation "Where it begins there; it goes on to the end.")
  (coding nil :documentation "Its coding system, nil if it is octets.")
  (ascii nil :documentation "Non-nil if it is text, and all of the message ASCII.")
  (encoding nil :documentation "Content-Transfer-Encoding that we say, or nil.")
  (writing nil :documentation "Coding system to write it from there, or nil."))

;;;; Where it begins

(defun smtpmail-native-body--header-goes-on-p (separator)
  "Return non-nil if the header may go on from point as far as SEPARATOR.
Point is after an empty line.  A line like SEPARATOR in a body is nothing
of the kind unless all lines up to there could be header fields."
  (let ((limit (save-excursion
                 (let ((case-fold-search nil))
                   (search-forward (concat "\n" separator) nil t))))
        (line (concat "\r?\n\\|" smtpmail-native-header-line-regexp)))
    (when limit
      (while (and (< (point) limit)
                  (not (looking-at (regexp-quote separator)))
                  (looking-at line))
        (forward-line))
      (looking-at (concat (regexp-quote separator) "\r?$")))))

(defun smtpmail-native-body--split ()
  "Return (HEADER-END . BODY-START) of the message in the current buffer.
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
                (looking-at smtpmail-native-header-line-regexp))
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
         ((smtpmail-native-body--header-goes-on-p separator)
          (smtpmail-native-header-malformed
           "Line %d is empty, but the header seems to continue down to %s;\
 delete the empty line"
           (line-number-at-pos end)
           (smtpmail-native-address-quote separator))))
        (cons end start)))
     ((eobp)
      (smtpmail-native-header-malformed
       "Unterminated header: %s"
       (if (string-empty-p separator)
           "no empty line after it"
         (format "neither the line %s nor an empty line after it"
                 (smtpmail-native-address-quote separator)))))
     (t (smtpmail-native-header-fail-line (line-number-at-pos))))))

;;;; Its coding system

(defun smtpmail-native-body--beside-raw ()
  "Return the characters of the current buffer that are not ASCII, each once.
Leave out raw octets; return nil if there are none of these."
  (let ((seen (make-hash-table :test #'eq))
        (raw nil))
    (save-excursion
      (goto-char (point-min))
      (while (progn (skip-chars-forward "\0-\177")
                    (not (eobp)))
        (if (eq (char-charset (char-after)) 'eight-bit)
            (setq raw t)
          (puthash (char-after) t seen))
        (forward-char)))
    (and raw
         (apply #'string (hash-table-keys seen)))))

(defun smtpmail-native-body--raw-p ()
  "Return non-nil if the current buffer has octets of no known character."
  (save-excursion
    (goto-char (point-min))
    (skip-chars-forward "^\x3fff80-\x3fffff")
    (not (eobp))))

(defun smtpmail-native-body--candidates ()
  "Return the coding systems for a message, in the usual order."
  (seq-filter (lambda (coding)
                (and coding
                     (coding-system-get coding :mime-charset)))
              (list (and (local-variable-p 'buffer-file-coding-system)
                         buffer-file-coding-system)
                    smtpmail-code-conv-from
                    default-sendmail-coding-system
                    (default-value 'buffer-file-coding-system)
                    'utf-8)))

(defun smtpmail-native-body--fits-p (coding text)
  "Return non-nil if CODING can encode TEXT, nil for the current buffer's."
  (null (if text
            (unencodable-char-position 0 (length text) coding nil text)
          (unencodable-char-position (point-min) (point-max) coding))))

(defun smtpmail-native-body--first-coding (text)
  "Return the first coding system in the usual order that can encode TEXT.
TEXT is nil for the text of the current buffer."
  (or (seq-find (lambda (coding)
                  (smtpmail-native-body--fits-p coding text))
                (smtpmail-native-body--candidates))
      ;; What is no Unicode can be sent by no coding system at all.
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format-message "The text has a character that is not in Unicode: see\
 `smtpmail-code-conv-from'"))))

(defun smtpmail-native-body--coding ()
  "Return the coding system for the message in the current buffer.
Nil means that its text is octets already.  Octets of no known character
are sent as they are, beside the text.  If no coding system of the user can
encode the text, ask, but not in batch mode."
  (let ((usual (car (smtpmail-native-body--candidates))))
    (cond
     ((not enable-multibyte-characters) nil)
     ((or (smtpmail-native-body-ascii-only-p)
          (smtpmail-native-body--fits-p usual nil))
      usual)
     ((smtpmail-native-body--raw-p)
      (smtpmail-native-body--first-coding
       (smtpmail-native-body--beside-raw)))
     (noninteractive (smtpmail-native-body--first-coding nil))
     (t (or (let ((sendmail-coding-system smtpmail-code-conv-from))
              (select-message-coding-system))
            'utf-8)))))

(defun smtpmail-native-body-ascii-only-p ()
  "Return non-nil if the current buffer, which is multibyte, is pure ASCII."
  (= (- (position-bytes (point-max)) (position-bytes (point-min)))
     (- (point-max) (point-min))))

(defun smtpmail-native-body-read ()
  "Return the body of the message in the current, widened buffer.
The value is (BODY . END): a `smtpmail-native-body', and where the header
ends."
  (pcase-let* ((`(,end . ,start) (smtpmail-native-body--split))
               (coding (smtpmail-native-body--coding)))
    (cons (smtpmail-native-body--new
           :source (current-buffer)
           :start start
           :coding coding
           :ascii (and coding (smtpmail-native-body-ascii-only-p)))
          end)))

;;;; Long lines

(defun smtpmail-native-body--long-p (start)
  "Return non-nil if a line of the current buffer from START on is too long.
START is the beginning of a line."
  ;; One step for each 998 octets, whatever the lines are like.
  (save-excursion
    (let ((long nil)
          (next nil))
      (while (and (not long)
                  (setq next (byte-to-position (+ (position-bytes start) 998)))
                  (< next (point-max)))
        (goto-char next)
        (skip-chars-backward "^\n" start)
        (if (> (point) start)
            (setq start (point))
          (goto-char start)
          (setq long (> (- (position-bytes (line-end-position))
                           (position-bytes start))
                        998)
                start (line-beginning-position 2))))
      long)))

(defun smtpmail-native-body--line-too-long-p (body)
  "Return non-nil if BODY has a line that is too long for servers."
  (with-current-buffer (smtpmail-native-body-source body)
    (smtpmail-native-body--long-p (smtpmail-native-body-start body))))

(defun smtpmail-native-body-charset (body)
  "Return the name of the charset of BODY, a symbol or string."
  (let ((coding (smtpmail-native-body-coding body)))
    (cond ((smtpmail-native-body-ascii body) 'us-ascii)
          (coding (coding-system-get coding :mime-charset))
          (t (with-current-buffer (smtpmail-native-body-source body)
               (smtpmail-native-seven-bit-charset
                (smtpmail-native-body-start body) (point-max)))))))

(defun smtpmail-native-body-wanted-encoding (body)
  "Return the encoding that BODY needs, if it is plain text.
The value is nil if it can go as it is."
  (cond ((smtpmail-native-body--line-too-long-p body) "quoted-printable")
        ((and (smtpmail-native-body-coding body)
              (not (smtpmail-native-body-ascii body)))
         "8bit")))

;;;; Octets

(defvar-local smtpmail-native-body--rest nil
  "The `smtpmail-native-body' that follows the header in this buffer, or nil.
Nil means that the buffer holds it already.")

(defun smtpmail-native-body--encode (start body)
  "Encode the octets from START on as BODY wants to be."
  (when (equal (smtpmail-native-body-encoding body) "quoted-printable")
    (goto-char start)
    (while (search-forward "\r\n" nil t)
      (replace-match "\n" t t))
    (quoted-printable-encode-region start (point-max) t)))

(defun smtpmail-native-body--newline-p (body)
  "Return non-nil if BODY lacks the newline at its end."
  (with-current-buffer (smtpmail-native-body-source body)
    (and (> (point-max) (smtpmail-native-body-start body))
         (/= (char-before (point-max)) ?\n))))

(defun smtpmail-native-body--as-it-is-p (body)
  "Return non-nil if the octets of BODY are those that Emacs has for it."
  (or (null (smtpmail-native-body-coding body))
      (smtpmail-native-body-ascii body)))

(defun smtpmail-native-body--single-p (coding)
  "Return non-nil if CODING makes one octet of each character."
  (and (eq (coding-system-type coding) 'charset)
       (seq-every-p (lambda (charset) (= (charset-dimension charset) 1))
                    (coding-system-charset-list coding))))

(defun smtpmail-native-body--write-coding (body)
  "Return the coding system by which BODY can be written where it is, or nil.
Its size must be known before, and it must have no raw octets."
  (let ((coding (smtpmail-native-body-coding body)))
    (cond
     ((smtpmail-native-body--as-it-is-p body) 'no-conversion)
     ((and (or (eq (coding-system-get coding :mime-charset) 'utf-8)
               (smtpmail-native-body--single-p coding))
           (with-current-buffer (smtpmail-native-body-source body)
             (null (unencodable-char-position
                    (smtpmail-native-body-start body) (point-max) coding))))
      (coding-system-change-eol-conversion coding 'unix)))))

(defun smtpmail-native-body-octets (header body)
  "Return a new unibyte buffer for the octets of a message.
HEADER is a buffer that holds its header, and BODY the rest.  The current
buffer is that of BODY, widened.  See `smtpmail-native-body-fill'."
  (let ((target (generate-new-buffer " *smtpmail-native message*" t))
        (done nil))
    (unless (equal (smtpmail-native-body-encoding body) "quoted-printable")
      (setf (smtpmail-native-body-writing body)
            (smtpmail-native-body--write-coding body)))
    (unwind-protect
        (with-current-buffer target
          (set-buffer-multibyte nil)
          (setq buffer-undo-list t
                buffer-file-coding-system 'no-conversion
                smtpmail-native-body--rest body)
          (insert (encode-coding-string
                   (with-current-buffer header (buffer-string)) 'utf-8-unix)
                  "\n")
          (unless (smtpmail-native-body-writing body)
            (smtpmail-native-body-fill target))
          (set-buffer-modified-p nil)
          (goto-char (point-min))
          (setq done t)
          target)
      (unless done
        (kill-buffer target)))))

(defun smtpmail-native-body-fill (octets)
  "Let OCTETS, a buffer, hold all octets of its message.
A buffer of `smtpmail-native-body-octets' may hold only the header, and
need the buffer of the message for the rest; after this it does not."
  (with-current-buffer octets
    (let ((body smtpmail-native-body--rest))
      (when body
        (setq smtpmail-native-body--rest nil)
        (save-excursion
          (goto-char (point-max))
          (let ((start (point)))
            (smtpmail-native-body--insert body)
            (smtpmail-native-body--encode start body))
          (goto-char (point-max))
          (unless (bolp)
            (insert "\n")))
        (set-buffer-modified-p nil)))))

(defun smtpmail-native-body--insert (body)
  "Insert the octets of BODY at point, which is at the end of the buffer."
  (let ((target (current-buffer))
        (coding (smtpmail-native-body-coding body))
        (start (smtpmail-native-body-start body)))
    (with-current-buffer (smtpmail-native-body-source body)
      (save-restriction
        (widen)
        (if coding
            (encode-coding-region
             start (point-max)
             (coding-system-change-eol-conversion coding 'unix) target)
          (let ((end (point-max))
                (source (current-buffer)))
            (with-current-buffer target
              (insert-buffer-substring-no-properties source start end))))))))

(defun smtpmail-native-body--length (body)
  "Return how many octets there are of BODY, whose buffer is current and widened.
It is one that can be written where it is."
  (let ((start (smtpmail-native-body-start body)))
    (if (and (not (smtpmail-native-body--as-it-is-p body))
             (smtpmail-native-body--single-p (smtpmail-native-body-coding body)))
        (- (point-max) start)
      (- (position-bytes (point-max)) (position-bytes start)))))

(defun smtpmail-native-body-size (octets)
  "Return how many octets the message of the buffer OCTETS has."
  (let ((body (buffer-local-value 'smtpmail-native-body--rest octets)))
    (+ (buffer-size octets)
       (if (null body)
           0
         (with-current-buffer (smtpmail-native-body-source body)
           (save-restriction
             (widen)
             (+ (smtpmail-native-body--length body)
                (if (smtpmail-native-body--newline-p body) 1 0))))))))

(defun smtpmail-native-body--write-rest (header body file)
  "Write HEADER, a unibyte string, and BODY to FILE in one operation."
  (with-current-buffer (smtpmail-native-body-source body)
    (save-restriction
      (widen)
      (let* ((start (smtpmail-native-body-start body))
             (end (if (smtpmail-native-body--newline-p body) "\n" ""))
             (coding-system-for-write (smtpmail-native-body-writing body))
             (write-region-annotate-functions
              (list (lambda (_start _end)
                      (list (cons start header) (cons (point-max) end))))))
        (write-region start (point-max) file nil 'silent)))))

(defun smtpmail-native-body-string (octets)
  "Return the message of the buffer OCTETS as a unibyte string."
  (with-current-buffer octets
    (let ((header (buffer-string))
          (body smtpmail-native-body--rest))
      (if (null body)
          header
        (with-current-buffer (smtpmail-native-body-source body)
          (save-restriction
            (widen)
            (concat header
                    (encode-coding-region
                     (smtpmail-native-body-start body) (point-max)
                     (smtpmail-native-body-writing body) t)
                    (and (smtpmail-native-body--newline-p body) "\n"))))))))

(defun smtpmail-native-body-write (octets file)
  "Write the message of the buffer OCTETS to FILE.
What `write-region' is to do beside that, the caller binds."
  (with-current-buffer octets
    (if smtpmail-native-body--rest
        (smtpmail-native-body--write-rest
         (buffer-string) smtpmail-native-body--rest file)
      (let ((coding-system-for-write 'no-conversion))
        (write-region nil nil file nil 'silent)))))

(provide 'smtpmail-native-body)
;;; smtpmail-native-body.el ends here
