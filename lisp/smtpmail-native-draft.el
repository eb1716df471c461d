;;; smtpmail-native-draft.el --- From an entry back to a mail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Shows an entry of the outbox to people, and makes a draft of it.  Entries
;; are only read here.
;;
;; A draft is for those who have not got the mail: To and Cc lose the others,
;; and whom they do not name is in Bcc.  That holds for what was sent to
;; others than its header names, too: nobody gets a mail for the first time
;; because it was edited.

;;; Code:

(require 'mail-parse)
(require 'message)
(require 'mm-decode)
(require 'mml)
(require 'seq)
(require 'smtpmail-native-copy)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-error)
(require 'smtpmail-native-message)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-outbox)

(declare-function shr-render-region "shr" (begin end &optional buffer))
(defvar shr-blocked-images)
(defvar shr-inhibit-images)
(defvar shr-use-fonts)

(defconst smtpmail-native-draft--seconds 2
  "Seconds for which the disk may keep you waiting.")

;;;; The message of an entry

(defun smtpmail-native-draft--decode-header ()
  "Decode the header of the message in the current buffer as UTF-8.
Only octets that RFC 6532 allows beside encoded words change by that."
  (goto-char (point-min))
  (let ((end (if (search-forward "\n\n" nil t) (1- (point)) (point-max))))
    (decode-coding-region (point-min) end 'utf-8)))

(defun smtpmail-native-draft--dissect ()
  "Return the MIME parts of the message in the current buffer.
Nothing is verified or decrypted, and nobody is asked for a passphrase."
  (let ((mm-verify-option 'never)
        (mm-decrypt-option 'never))
    (mm-dissect-buffer t)))

;;;; Looking at it

(defun smtpmail-native-draft--insert-html (text)
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

(defun smtpmail-native-draft--insert-leaf (handle)
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
              (smtpmail-native-draft--insert-html text)
            (insert text)))
      (insert (format "[%s%s, %s]\n"
                      (if name (concat (smtpmail-native-error-text name) ", ")
                        "")
                      (smtpmail-native-error-text type)
                      (file-size-human-readable
                       (buffer-size (mm-handle-buffer handle))))))))

(defun smtpmail-native-draft--insert-part (handle)
  "Insert the MIME part HANDLE and those in it, as people read them.
Of alternatives the plain text is taken."
  (cond
   ((not (stringp (car handle)))
    (smtpmail-native-draft--insert-leaf handle))
   ((equal (car handle) "multipart/alternative")
    (let ((parts (cdr handle)))
      (when parts
        (smtpmail-native-draft--insert-part
         (or (seq-find (lambda (part)
                         (and (not (stringp (car part)))
                              (equal (mm-handle-media-type part)
                                     "text/plain")))
                       parts)
             (car parts))))))
   (t (mapc #'smtpmail-native-draft--insert-part (cdr handle)))))

(defun smtpmail-native-draft--header-lines ()
  "Return the fields of the message in the current buffer, decoded lines.
What a field holds cannot make it look like several."
  (smtpmail-native-draft--decode-header)
  (goto-char (point-min))
  (let ((end (if (search-forward "\n\n" nil t) (- (point) 2) (point-max))))
    (mapcar (lambda (field)
              (smtpmail-native-error-text
               (mail-decode-encoded-word-string field)))
            (split-string (replace-regexp-in-string
                           "\n[ \t]+" " "
                           (buffer-substring (point-min) end))
                          "\n" t))))

(defun smtpmail-native-draft--insert-message (entry)
  "Insert the message of ENTRY as people read it."
  (let ((target (current-buffer)))
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (smtpmail-native-outbox-insert-message entry)
      (let ((handles (smtpmail-native-draft--dissect)))
        (set-buffer-multibyte t)
        (unwind-protect
            (let ((lines (smtpmail-native-draft--header-lines)))
              (with-current-buffer target
                (dolist (line lines)
                  (let ((start (point)))
                    (insert line "\n")
                    (when (string-match "\\`[^: ]+:" line)
                      (put-text-property start (+ start (match-end 0))
                                         'face 'message-header-name))))
                (insert "\n")
                (when handles
                  (smtpmail-native-draft--insert-part handles))))
          (mm-destroy-parts handles))))))

(defun smtpmail-native-draft--insert-state (entry state)
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
          (`(,_ ,outcome ,code ,_ ,text)
           (funcall line "Recipient" (format "%s: %s, %s %s" address outcome
                                             code text)))
          (_ (funcall line "Recipient" address)))))
    (funcall line "Folder" (abbreviate-file-name
                            (smtpmail-native-outbox-file entry)))
    (insert "\n")))

(defun smtpmail-native-draft-show (entry state)
  "Show ENTRY, which people say is STATE, a string, in another window.
Of a damaged entry that is shown which is there.  Return the buffer."
  (let ((buffer (get-buffer-create "*smtpmail-native mail*")))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (smtpmail-native-draft--insert-state entry state)
        (condition-case err
            (smtpmail-native-draft--insert-message entry)
          (error
           (insert (format "[The message cannot be shown: %s]\n"
                           (smtpmail-native-error-text
                            (error-message-string err))))))
        (set-buffer-modified-p nil)
        (goto-char (point-min))))
    (view-buffer-other-window buffer nil #'kill-buffer)
    buffer))

;;;; Editing it

(defun smtpmail-native-draft--signature-method (handles)
  "Return how HANDLES are signed, as MML names it, or nil if they are not.
Signal `smtpmail-native-usage-error' if they are encrypted."
  (let* ((type (if (stringp (car handles))
                   (car handles)
                 (mm-handle-media-type handles)))
         (protocol (and (stringp (car handles))
                        (mm-handle-multipart-ctl-parameter
                         handles 'protocol))))
    (cond
     ((or (equal type "multipart/encrypted")
          (string-match-p "\\`application/\\(?:x-\\)?pkcs7-mime\\'" type))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       "This mail is encrypted and cannot be edited; it can be sent as it is"))
     ((not (equal type "multipart/signed")) nil)
     ((and protocol (string-match-p "pkcs7" protocol)) "smime")
     (t "pgpmime"))))

(defun smtpmail-native-draft--insert-octets (entry)
  "Insert the message of ENTRY as a mail that can be edited and sent.
A signature is left out, because it does not hold for what is changed; the
mail is marked to be signed again."
  (insert (with-temp-buffer
            (set-buffer-multibyte nil)
            (smtpmail-native-outbox-insert-message entry)
            (string-to-multibyte (buffer-string))))
  (smtpmail-native-draft--decode-header)
  (let* ((handles (smtpmail-native-draft--dissect))
         (method (condition-case err
                     (smtpmail-native-draft--signature-method handles)
                   (error (mm-destroy-parts handles)
                          (signal (car err) (cdr err)))))
         (mm-verify-option 'never)
         (mm-decrypt-option 'never))
    (mime-to-mml (if method (cadr handles) handles))
    (when method
      (mm-destroy-parts (cddr handles)))
    (goto-char (point-min))
    (if (search-forward "\n\n" nil 'move)
        (backward-char)
      (unless (bolp)
        (insert "\n")))
    (insert mail-header-separator)
    (unless (eolp)
      (insert "\n"))
    (when method
      (forward-line)
      (insert (format "<#secure method=%s mode=sign>\n" method)))))

(defun smtpmail-native-draft--there-p (part)
  "Return non-nil if what PART, a tag of MML, attaches is there."
  (let ((file (cdr (assq 'filename part)))
        (buffer (cdr (assq 'buffer part))))
    (cond (buffer (get-buffer buffer))
          ((and file (not (equal (cdr (assq 'nofile part)) "yes")))
           (file-readable-p file))
          (t t))))

(defun smtpmail-native-draft--whole-p (text)
  "Return non-nil if all that TEXT, a draft, attaches is still there."
  (with-temp-buffer
    (insert text)
    (goto-char (point-min))
    (let ((whole t))
      (condition-case nil
          (while (and whole (re-search-forward "<#part\\_>" nil t))
            (goto-char (match-beginning 0))
            (setq whole (smtpmail-native-draft--there-p
                         (with-syntax-table mml-syntax-table
                           (mml-read-tag)))))
        (error (setq whole nil)))
      whole)))

(defun smtpmail-native-draft--written (entry)
  "Return the mail of ENTRY as it was written, or nil.
It is no good when it attaches what is gone: the message has all of it."
  (let ((text (smtpmail-native-copy-draft entry)))
    (and text
         (or (smtpmail-native-draft--whole-p text)
             (smtpmail-native-entry-problem entry))
         text)))

(defun smtpmail-native-draft--insert-draft (text)
  "Insert TEXT, a mail as it was written."
  (insert text)
  (goto-char (point-min))
  (unless (re-search-forward
           (concat "^" (regexp-quote mail-header-separator) "$") nil t)
    (if (search-forward "\n\n" nil 'move)
        (backward-char)
      (unless (bolp)
        (insert "\n")))
    (insert mail-header-separator "\n")))

(defun smtpmail-native-draft--keep (text wanted)
  "Return TEXT, an address list, without those who are not in WANTED.
The value is (ADDRESSES . TEXT), the addresses that are left, and them as
they were written."
  (let ((found nil)
        (texts nil))
    (dolist (part (message-tokenize-header text))
      (let* ((all (condition-case nil
                      (smtpmail-native-message-recipients part)
                    (smtpmail-native-error nil)))
             (kept (seq-filter (lambda (address) (member address wanted))
                               all)))
        (setq found (append found kept))
        (cond ((null kept))
              ((equal kept all) (push (string-trim part) texts))
              (t (setq texts (append (reverse kept) texts))))))
    (cons found (string-join (nreverse texts) ", "))))

(defun smtpmail-native-draft--insert-field (prefix name body)
  "Insert the field PREFIX NAME: BODY into the current, narrowed header.
Those of a resending must not be torn apart (RFC 5322, 3.6.6)."
  (goto-char (point-min))
  (if (equal prefix "")
      (goto-char (point-max))
    (when (let ((case-fold-search t))
            (re-search-forward (concat "^" prefix) nil t))
      (beginning-of-line)))
  (insert prefix name ": " body "\n"))

(defun smtpmail-native-draft--restrict (prefix wanted)
  "Let the header in the current, narrowed buffer name WANTED and no others.
PREFIX is that of the fields, \"\" or \"Resent-\"."
  (let ((rest wanted))
    (dolist (name '("To" "Cc" "Bcc"))
      (let* ((field (concat prefix name))
             (text (message-fetch-field field)))
        (when text
          (pcase-let ((`(,found . ,new)
                       (smtpmail-native-draft--keep text wanted)))
            (setq rest (seq-difference rest found))
            (unless (equal found (ignore-errors
                                   (smtpmail-native-message-recipients text)))
              (message-remove-header field)
              (unless (equal new "")
                (smtpmail-native-draft--insert-field prefix name new)))))))
    (when rest
      (let* ((field (concat prefix "Bcc"))
             (old (message-fetch-field field)))
        (message-remove-header field)
        (smtpmail-native-draft--insert-field
         prefix "Bcc" (string-join (if old (cons old rest) rest) ", "))))))

(defun smtpmail-native-draft--prepare-header (entry written)
  "Make the header in the current buffer that of a new mail of ENTRY.
WRITTEN non-nil means that it is as the user wrote it."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (state (smtpmail-native-entry-state entry))
         (sent (seq-filter (lambda (result) (eq (cadr result) 'sent))
                           (plist-get state :results)))
         (wanted (seq-remove (lambda (address) (assoc address sent))
                             (plist-get envelope :recipients))))
    (save-restriction
      (message-narrow-to-headers)
      (let ((prefix (if (let ((case-fold-search t))
                          (goto-char (point-min))
                          (re-search-forward "^Resent-\\(?:To\\|Cc\\|Bcc\\):"
                                             nil t))
                        "Resent-"
                      "")))
        (when (or sent (not written))
          (smtpmail-native-draft--restrict prefix wanted))
        ;; It is a new mail, and gets new ones.
        (message-remove-header (concat prefix "Message-ID"))
        (message-remove-header (concat prefix "Date"))
        (unless written
          (dolist (file (plist-get envelope :fcc))
            (smtpmail-native-draft--insert-field "" "Fcc" file))
          (pcase-dolist (`(,name . ,key) '(("Fcc" . :fcc) ("Gcc" . :gcc)))
            (let ((body (plist-get (plist-get state :copy) key)))
              (when body
                (smtpmail-native-draft--insert-field "" name body)))))))))

(defun smtpmail-native-draft--unsaved (reason)
  "Signal that the draft cannot be saved for REASON, a text."
  (smtpmail-native-error-signal
   'smtpmail-native-outbox-error
   (format "Cannot save the draft, so the message stays in the outbox: %s"
           reason)))

(defun smtpmail-native-draft--save ()
  "Save the draft in the current buffer, as far as you want that of drafts.
It takes the place of a message that a loss of power cannot lose, and so it
is synced.  Signal `smtpmail-native-outbox-error' if that is not possible."
  (when message-auto-save-directory
    (condition-case err
        (message-set-auto-save-file-name)
      (error (smtpmail-native-draft--unsaved (error-message-string err))))
    (do-auto-save t t) ; which tells errors, and does not signal them
    (let ((file buffer-auto-save-file-name))
      (when file
        (unless (file-exists-p file)
          (smtpmail-native-draft--unsaved (abbreviate-file-name file)))
        (let ((failure (smtpmail-native-disk-await
                        (smtpmail-native-disk-hand-in
                         file
                         (list (list 'sync file)
                               (list 'sync (directory-file-name
                                            (file-name-directory file))))
                         #'ignore)
                        smtpmail-native-draft--seconds)))
          (when (stringp failure)
            (smtpmail-native-draft--unsaved failure)))))))

(defun smtpmail-native-draft--check ()
  "Signal `smtpmail-native-outbox-error' if the current buffer is no draft."
  (save-excursion
    (goto-char (point-min))
    (unless (and (re-search-forward
                  (concat "^" (regexp-quote mail-header-separator) "$") nil t)
                 (progn (goto-char (point-min))
                        (looking-at "[-A-Za-z0-9]+:")))
      (smtpmail-native-draft--unsaved "nothing of it can be read"))))

(defun smtpmail-native-draft--fill (entry)
  "Fill the current buffer with the draft of ENTRY, in `message-mode'."
  (let ((text (smtpmail-native-draft--written entry)))
    (if text
        (smtpmail-native-draft--insert-draft text)
      (smtpmail-native-draft--insert-octets entry))
    (smtpmail-native-draft--prepare-header entry text)
    ;; The caller deletes the entry when this returns.
    (smtpmail-native-draft--check)
    (message-mode)
    (set-buffer-modified-p t)
    (smtpmail-native-draft--save)
    (set-buffer-modified-p t)
    (message-goto-body)))

(defun smtpmail-native-draft-restore (entry)
  "Make a draft of ENTRY in a new buffer, show it, and return the buffer.
It is the mail as it was written, if that was kept, else it is made from
the message; and it is for those recipients who have not got it.  Signal an
error if that is not possible; then there is no new buffer."
  (when (and (smtpmail-native-entry-problem entry)
             (null (smtpmail-native-draft--written entry)))
    (smtpmail-native-error-signal
     'smtpmail-native-usage-error
     (format "This mail is damaged: %s" (smtpmail-native-entry-problem entry))))
  (let ((buffer (generate-new-buffer
                 (if (smtpmail-native-entry-envelope entry)
                     (format "*unsent mail to %s*"
                             (smtpmail-native-entry-people entry))
                   "*unsent mail*")))
        (done nil))
    (unwind-protect
        (progn
          (with-current-buffer buffer
            (smtpmail-native-draft--fill entry))
          (pop-to-buffer buffer)
          (setq done t)
          buffer)
      (unless done
        (with-current-buffer buffer
          (set-buffer-modified-p nil))
        (kill-buffer buffer)))))

(provide 'smtpmail-native-draft)
;;; smtpmail-native-draft.el ends here
