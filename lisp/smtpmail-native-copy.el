;;; smtpmail-native-copy.el --- The copy of a mail that was sent  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; When the function that sends has returned, message-mode files the mail in
;; its Fcc and Gcc at once, by `message-do-fcc' and, in `message-sent-hook', by
;; `gnus-inews-do-gcc'.  A mail that is only in the outbox has not been sent,
;; and so these two functions are caught at their next call for that mail.  The
;; mail buffer is kept, as memory and as the file "draft" of the entry, and the
;; functions are called with it when the server has taken the mail.
;;
;; What is caught is the function that stands in the cell at that time, since
;; programs rebind it around the sending.

;;; Code:

(require 'smtpmail-native-queue)

(declare-function message-fetch-field "message" (header &optional first))
(declare-function message-clone-locals "message" (buffer &optional varstr))
(declare-function message-do-fcc "message" ())
(declare-function message-narrow-to-headers "message" ())
(declare-function mml-secure-is-encrypted-p "mml-sec" (&optional tag-present))
(declare-function gnus-inews-do-gcc "gnus-msg" (&optional gcc))
(declare-function gnus-alive-p "gnus-util" ())
(defvar message-fcc-handler-function)

(defconst smtpmail-native-copy--seconds 5
  "How long `message-mode' may take to come to its copies.")

(defvar smtpmail-native-copy--kept (make-hash-table :test #'equal)
  "What is to be filed when a mail has been sent, by the id of its entry.
A value is a plist: :buffer with the mail, :handler, and :calls, a list of
functions to be called there.")

(defvar smtpmail-native-copy--awaited nil
  "Mails whose copies are about to be filed, as (MESSAGE-ID . ENTRY-ID).")

(defvar smtpmail-native-copy--cells nil
  "Functions that are caught, as (FUNCTION CATCHER ORIGINAL).")

(defvar smtpmail-native-copy--timer nil
  "The timer that ends the catching, or nil.")

;;;; Catching

(defun smtpmail-native-copy--field (name)
  "Return the field NAME of the mail in the current buffer, or nil."
  (save-excursion
    (save-restriction
      (widen)
      (message-narrow-to-headers)
      (message-fetch-field name))))

(defun smtpmail-native-copy--secret-p ()
  "Return non-nil if the mail in the current buffer is to be encrypted.
Then its text must not get to the disk in clear."
  (or (condition-case nil
          (mml-secure-is-encrypted-p 'anywhere)
        (error t))
      (save-excursion
        (goto-char (point-min))
        (re-search-forward "^<#\\(?:secure\\|part\\|multipart\\)[^>]*encrypt"
                           nil t))))

(defun smtpmail-native-copy--keep (id)
  "Return the plist of `smtpmail-native-copy--kept' for the entry ID.
If there is none, make one of the mail in the current buffer."
  (or (gethash id smtpmail-native-copy--kept)
      (let ((source (current-buffer)))
        (puthash
         id
         (with-current-buffer (generate-new-buffer " *smtpmail-native copy*" t)
           (setq buffer-undo-list t)
           (insert (with-current-buffer source
                     (save-restriction
                       (widen)
                       (buffer-string))))
           (message-clone-locals source)
           (set (make-local-variable 'mail-header-separator)
                (buffer-local-value 'mail-header-separator source))
           (list :buffer (current-buffer)
                 :handler (buffer-local-value 'message-fcc-handler-function
                                              source)))
         smtpmail-native-copy--kept))))

(defun smtpmail-native-copy--write (id)
  "Write the mail in the current buffer, that of the entry ID, beside it."
  (let ((handler message-fcc-handler-function)
        (fcc (smtpmail-native-copy--field "fcc"))
        (gcc (smtpmail-native-copy--field "gcc"))
        (text (and (not (smtpmail-native-copy--secret-p))
                   (save-restriction
                     (widen)
                     (buffer-substring-no-properties (point-min)
                                                     (point-max))))))
    (smtpmail-native-queue-change
     id
     (lambda (entry)
       (when text
         (smtpmail-native-outbox-save-draft entry text))
       (when (or fcc gcc)
         (smtpmail-native-outbox-set
          entry :copy (list :fcc fcc :gcc gcc
                            :handler (and (symbolp handler) handler))))))))

(defun smtpmail-native-copy--catch (function)
  "Catch the calls of FUNCTION, a symbol, for the mails that are awaited.
Other calls pass."
  (let ((original (symbol-function function)))
    (unless (eq original (nth 1 (assq function smtpmail-native-copy--cells)))
      (let ((catcher
             (lambda (&rest args)
               (let ((id (cdr (assoc (ignore-errors
                                       (smtpmail-native-copy--field
                                        "message-id"))
                                     smtpmail-native-copy--awaited))))
                 (if id
                     (smtpmail-native-copy--note id function original args)
                   (apply original args))))))
        (fset function catcher)
        (setf (alist-get function smtpmail-native-copy--cells)
              (list catcher original))))))

(defun smtpmail-native-copy--release ()
  "Await no mail any more, and put back what was caught.
A cell that somebody else has set meanwhile is left alone."
  (setq smtpmail-native-copy--awaited nil)
  (pcase-dolist (`(,function ,catcher ,original) smtpmail-native-copy--cells)
    (when (eq (symbol-function function) catcher)
      (fset function original)))
  (setq smtpmail-native-copy--cells nil))

(defun smtpmail-native-copy--note (id function original args)
  "Call ORIGINAL with ARGS when the entry ID has been sent.
The current buffer is that of the mail, which was about to be filed by
FUNCTION, whose definition ORIGINAL is."
  (let ((kept (smtpmail-native-copy--keep id)))
    (puthash id (plist-put kept :calls
                           (append (plist-get kept :calls)
                                   (list (cons original args))))
             smtpmail-native-copy--kept)
    (when (eq function 'message-do-fcc)
      (condition-case err
          (smtpmail-native-copy--write id)
        (error
         (display-warning
          'smtpmail-native
          (format "The draft could not be kept beside its mail: %s"
                  (error-message-string err))))))))

(defun smtpmail-native-copy-expect (id message-id)
  "Hold back the copies of the mail MESSAGE-ID until the entry ID is sent.
This is called by the function that sends, which `message-mode' may have
called: it comes to its copies as soon as that has returned."
  (when (featurep 'message)
    (push (cons message-id id) smtpmail-native-copy--awaited)
    (smtpmail-native-copy--catch 'message-do-fcc)
    (when (fboundp 'gnus-inews-do-gcc)
      (smtpmail-native-copy--catch 'gnus-inews-do-gcc))
    (when smtpmail-native-copy--timer
      (cancel-timer smtpmail-native-copy--timer))
    (setq smtpmail-native-copy--timer
          (run-at-time smtpmail-native-copy--seconds nil
                       #'smtpmail-native-copy--release))))

;;;; The draft

(defun smtpmail-native-copy-draft (entry)
  "Return the mail of ENTRY as it was written, a string, or nil.
This Emacs knows also those that must not be on the disk."
  (let ((buffer (plist-get (gethash (smtpmail-native-entry-id entry)
                                    smtpmail-native-copy--kept)
                           :buffer)))
    (if (buffer-live-p buffer)
        (with-current-buffer buffer
          (save-restriction
            (widen)
            (buffer-substring-no-properties (point-min) (point-max))))
      (smtpmail-native-outbox-draft entry))))

(defun smtpmail-native-copy--kill (kept)
  "Kill the buffer of KEPT, a value of `smtpmail-native-copy--kept'."
  (let ((buffer (plist-get kept :buffer)))
    (when (buffer-live-p buffer)
      (with-current-buffer buffer
        (set-buffer-modified-p nil))
      (kill-buffer buffer))))

(defun smtpmail-native-copy--drop (id)
  "Forget what is kept of the entry ID if the entry is not there any more.
For `smtpmail-native-queue-changed-functions'."
  (let ((kept (and id (gethash id smtpmail-native-copy--kept))))
    (when (and kept
               (not (smtpmail-native-queue-sending id))
               (not (member id (smtpmail-native-outbox-ids))))
      (remhash id smtpmail-native-copy--kept)
      (smtpmail-native-copy--kill kept))))

;;;; Filing

(defun smtpmail-native-copy--warn (err)
  "Warn that the mail was sent, but that ERR kept its copy from being filed."
  (display-warning
   'smtpmail-native
   (format "The mail was sent, but its copy could not be filed: %s"
           (error-message-string err))))

(defun smtpmail-native-copy--make-files ()
  "Make the missing files in the Fcc fields of the current buffer.
Else `rmail-output' would ask whether to make them, and nobody may be there;
who names a file in Fcc has answered."
  (when (memq message-fcc-handler-function '(nil rmail-output))
    (dolist (file (save-excursion
                    (save-restriction
                      (widen)
                      (message-narrow-to-headers)
                      (mail-fetch-field "fcc" nil nil t))))
      (unless (or (string-match-p "\\`[ \t]*|" file)
                  (file-exists-p (expand-file-name file)))
        (make-directory (file-name-directory (expand-file-name file)) t)
        (write-region "" nil (expand-file-name file) nil 'silent)))))

(defun smtpmail-native-copy--file-kept (kept)
  "File the copies of KEPT, a value of `smtpmail-native-copy--kept'."
  (let ((buffer (plist-get kept :buffer)))
    (when (buffer-live-p buffer)
      (unwind-protect
          (dolist (call (plist-get kept :calls))
            (condition-case err
                (with-current-buffer buffer
                  (let ((message-fcc-handler-function
                         (plist-get kept :handler)))
                    (smtpmail-native-copy--make-files)
                    (save-excursion
                      (apply (car call) (cdr call)))))
              ((error quit) (smtpmail-native-copy--warn err))))
        (smtpmail-native-copy--kill kept)))))

(defun smtpmail-native-copy--file-draft (copy draft)
  "File DRAFT, the text of a mail, as the plist COPY of its state says."
  (require 'message)
  (with-temp-buffer
    (insert draft)
    (let ((message-fcc-handler-function
           (let ((handler (plist-get copy :handler)))
             (if (and handler (fboundp handler))
                 handler
               (default-value 'message-fcc-handler-function)))))
      (when (plist-get copy :fcc)
        (smtpmail-native-copy--make-files)
        (message-do-fcc))
      (when (plist-get copy :gcc)
        (if (and (fboundp 'gnus-alive-p) (gnus-alive-p))
            (gnus-inews-do-gcc)
          (error "Gnus is not running to file it in %s"
                 (plist-get copy :gcc)))))))

(defun smtpmail-native-copy--file-octets (entry copy)
  "File the message of ENTRY itself, as the plist COPY of its state says.
Its draft was too secret to be kept."
  (when (plist-get copy :gcc)
    (error "It was encrypted, and its draft ended with the Emacs before"))
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert "Fcc: " (encode-coding-string (plist-get copy :fcc) 'utf-8) "\n")
    (smtpmail-native-outbox-insert-message entry)
    (goto-char (point-min))
    (search-forward "\n\n")
    (let ((coding-system-for-write 'no-conversion))
      (mail-do-fcc (copy-marker (1- (point)))))))

(defun smtpmail-native-copy-file (entry)
  "File the copies of ENTRY, which has been sent.
For `smtpmail-native-queue-file-functions'; failures are told as warnings."
  (let* ((id (smtpmail-native-entry-id entry))
         (kept (gethash id smtpmail-native-copy--kept))
         (copy (plist-get (smtpmail-native-entry-state entry) :copy))
         (draft (and copy (smtpmail-native-outbox-draft entry))))
    (remhash id smtpmail-native-copy--kept)
    (setq smtpmail-native-copy--awaited
          (seq-remove (lambda (awaited) (equal (cdr awaited) id))
                      smtpmail-native-copy--awaited))
    (condition-case err
        (cond (kept (smtpmail-native-copy--file-kept kept))
              (draft (smtpmail-native-copy--file-draft copy draft))
              (copy (smtpmail-native-copy--file-octets entry copy)))
      ((error quit) (smtpmail-native-copy--warn err)))))

(add-hook 'smtpmail-native-queue-file-functions #'smtpmail-native-copy-file)
(add-hook 'smtpmail-native-queue-changed-functions
          #'smtpmail-native-copy--drop)

(provide 'smtpmail-native-copy)
;;; smtpmail-native-copy.el ends here
