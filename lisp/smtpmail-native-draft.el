;;; smtpmail-native-draft.el --- From an entry back to a draft  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Makes a draft of an entry of the outbox.  Entries are only read here.
;;
;; A draft is for the recipients who have not received the message: To and Cc
;; lose the others, and Bcc gets those that the header does not name.  That holds
;; also where the envelope had other recipients than the header: an edit sends a
;; message to no one for the first time.

;;; Code:

(require 'mail-parse)
(require 'message)
(require 'mm-decode)
(require 'mml)
(require 'seq)
(require 'smtpmail-native-copy)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-error)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-message)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-view)

(defconst smtpmail-native-draft--seconds 2
  "Seconds for which the disk may keep you waiting.")

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
       "Cannot edit an encrypted message; you can still send it as it is"))
     ((not (equal type "multipart/signed")) nil)
     ((and protocol (string-match-p "pkcs7" protocol)) "smime")
     (t "pgpmime"))))

(defun smtpmail-native-draft--insert-octets (entry)
  "Insert the message of ENTRY in a form that can be edited and sent.
A signature is left out, because it does not hold for what is changed; the
mail is marked to be signed again."
  (insert (with-temp-buffer
            (set-buffer-multibyte nil)
            (smtpmail-native-outbox-insert-message entry)
            (string-to-multibyte (buffer-string))))
  (smtpmail-native-view-decode-header)
  (let* ((handles (smtpmail-native-view-dissect))
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
  "Return the draft of ENTRY as it was written, or nil.
It is no good when it attaches what is gone: the message has all of it."
  (let ((text (smtpmail-native-copy-draft entry)))
    (and text
         (or (smtpmail-native-draft--whole-p text)
             (smtpmail-native-entry-problem entry))
         text)))

(defun smtpmail-native-draft--insert-draft (text)
  "Insert TEXT, a draft as it was written."
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
  "Return TEXT, an address list, without the addresses not in WANTED.
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

(defun smtpmail-native-draft--fault (entry)
  "Return why the draft of ENTRY is one, as (ADDRESS . TEXT), or nil.
ADDRESS is that of a recipient whom the server refused, or nil."
  (let* ((state (smtpmail-native-entry-state entry))
         (answer (seq-find (lambda (answer)
                             (memq (cadr answer) '(refused deferred)))
                           (append (plist-get state :results)
                                   (plist-get state :replies))))
         (text (plist-get state :text)))
    (cond (answer
           (cons (car answer)
                 (format "%s: %s %s" (car answer) (nth 2 answer)
                         (nth 4 answer))))
          (text (cons nil text)))))

(defun smtpmail-native-draft--go-to-fault (entry)
  "Move to what is wrong with the draft of ENTRY, and say what it is.
That is a recipient whom the server refused; else it is the body."
  (let* ((fault (smtpmail-native-draft--fault entry))
         (text (and fault (smtpmail-native-error-text (cdr fault))))
         (end (progn (message-goto-body) (point)))
         (case-fold-search t))
    (when text
      (setq header-line-format
            (concat " Not sent: " (string-replace "%" "%%" text))))
    (when (car fault)
      (goto-char (point-min))
      (goto-char (if (search-forward (car fault) end t)
                     (match-beginning 0)
                   end)))))

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
    (smtpmail-native-draft--go-to-fault entry)))

(defun smtpmail-native-draft-restore (entry)
  "Make a draft of ENTRY in a new buffer, show it, and return the buffer.
It is the draft as it was written, if that was kept; else it is made from
the message, and it is for the recipients who have not received it.  Signal an
error if that is not possible; then there is no new buffer."
  (when (and (smtpmail-native-entry-problem entry)
             (null (smtpmail-native-draft--written entry)))
    (smtpmail-native-error-signal
     'smtpmail-native-usage-error
     (format "This message is damaged: %s" (smtpmail-native-entry-problem entry))))
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
