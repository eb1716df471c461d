;;; smtpmail-native-copy.el --- The copy of a mail that was sent  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; When the function that sends has returned, message-mode files the mail in
;; its Fcc and Gcc at once, by `message-do-fcc' and, in `message-sent-hook', by
;; `gnus-inews-do-gcc'.  A mail that is only in the outbox has not been sent,
;; and so these two functions are caught at their next call for that mail.  The
;; mail buffer is kept, and the functions are called with it when the server has
;; taken the mail.  The text is also in the file "draft" of the entry.  Should
;; another Emacs come to file the mail, the entry's state tells how, and what was
;; sent is what it files.
;;
;; What is caught is the function that stands in the cell at that time, since
;; programs rebind it around the sending.

;;; Code:

(require 'mail-utils)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-index)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-tell)

(declare-function message-fetch-field "message" (header &optional first))
(declare-function message-clone-locals "message" (buffer &optional varstr))
(declare-function message-do-fcc "message" ())
(declare-function message-narrow-to-headers "message" ())
(declare-function mml-secure-is-encrypted-p "mml-sec" (&optional tag-present))
(declare-function gnus-inews-do-gcc "gnus-msg" (&optional gcc))
(declare-function gnus-alive-p "gnus-util" ())
(defvar message-encoded-mail-cache)
(defvar message-fcc-handler-function)

(defconst smtpmail-native-copy--seconds 5
  "How long `message-mode' may take to come to its copies.")

(defvar smtpmail-native-copy--kept (make-hash-table :test #'equal)
  "What is to be filed when a mail has been sent, by the id of its entry.
A value is a plist: :buffer with the mail, :handler, and :calls, a list of
functions to be called there.")

(defvar smtpmail-native-copy--awaited nil
  "Mails whose copies are about to be filed, as (MESSAGE-ID . ENTRY-ID).
MESSAGE-ID is nil if the mail has none until it is sent.")

(defvar smtpmail-native-copy--cells nil
  "Functions that are caught, as (FUNCTION CATCHER ORIGINAL), the last first.
One function may be there several times, when programs have rebound it.")

(defconst smtpmail-native-copy--separator "--text follows this line--"
  "What stands between header and body of a mail that is filed later.")

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

(defun smtpmail-native-copy--clone-locals (source)
  "Give the current buffer those variables of SOURCE that handlers may want.
They are beside those that `message-clone-locals' takes."
  (dolist (local (buffer-local-variables source))
    (when (and (consp local)
               (string-match-p "\\`\\(?:mail\\|mml?\\|mu4e\\|notmuch\\)-"
                               (symbol-name (car local))))
      (set (make-local-variable (car local)) (cdr local)))))

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
           (smtpmail-native-copy--clone-locals source)
           (list :buffer (current-buffer)
                 :handler (buffer-local-value 'message-fcc-handler-function
                                              source)))
         smtpmail-native-copy--kept))))

(defun smtpmail-native-copy--fields (name)
  "Return the texts of all fields NAME of the mail in the current buffer."
  (save-excursion
    (save-restriction
      (message-narrow-to-headers)
      (mail-fetch-field name nil nil t))))

(defun smtpmail-native-copy--plan (function)
  "Return how another Emacs files the mail in the current buffer, or nil.
FUNCTION is what stands in the cell of `message-do-fcc'.  The value is a
plist of :fcc, a list; :gcc; :function, a symbol or nil for the usual one;
:handler, a symbol; and :lost, non-nil if there is a handler without a
name, which ends with this Emacs."
  (let ((fcc (smtpmail-native-copy--fields "fcc"))
        (gcc (smtpmail-native-copy--field "gcc"))
        (handler message-fcc-handler-function))
    (when (or fcc gcc)
      (list :fcc fcc :gcc gcc
            :function (and (symbolp function) function)
            :handler (and (symbolp handler) handler)
            :lost (not (symbolp handler))))))

(defun smtpmail-native-copy--write (id function)
  "Write the mail in the current buffer, that of the entry ID, beside it.
FUNCTION is what stands in the cell of `message-do-fcc'."
  (let ((plan (smtpmail-native-copy--plan function))
        (text (and (not (smtpmail-native-copy--secret-p))
                   (save-restriction
                     (widen)
                     (buffer-substring-no-properties (point-min)
                                                     (point-max))))))
    (smtpmail-native-attempt-change
     id
     (lambda (entry)
       (when text
         (smtpmail-native-outbox-save-draft entry text))
       (when plan
         (smtpmail-native-outbox-set entry :copy plan))))))

(defun smtpmail-native-copy--awaited-id ()
  "Return the id of the entry of the mail in the current buffer, if awaited."
  (cdr (assoc (ignore-errors (smtpmail-native-copy--field "message-id"))
              smtpmail-native-copy--awaited)))

(defun smtpmail-native-copy--catch (function)
  "Catch the calls of FUNCTION, a symbol, for the mails that are awaited.
Other calls pass."
  (let ((original (symbol-function function)))
    (unless (seq-some (lambda (cell) (eq (nth 1 cell) original))
                      smtpmail-native-copy--cells)
      (let ((catcher
             (lambda (&rest args)
               (let ((id (smtpmail-native-copy--awaited-id)))
                 (if id
                     (smtpmail-native-copy--note id function original args)
                   (apply original args))))))
        (push (list function catcher original) smtpmail-native-copy--cells)
        (fset function catcher)))))

(defun smtpmail-native-copy-release ()
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
          (smtpmail-native-copy--write id original)
        (error
         (display-warning
          'smtpmail-native
          (format "The draft could not be kept beside its mail: %s"
                  (error-message-string err))))))))

(defun smtpmail-native-copy-key ()
  "Return what tells the mail in the current buffer when it is filed, or nil.
It is to be asked for before the mail is sent."
  (and (featurep 'message)
       (ignore-errors (smtpmail-native-copy--field "message-id"))))

(defun smtpmail-native-copy-expect (id key)
  "Hold back the copies of a mail until the entry ID is sent.
KEY is from `smtpmail-native-copy-key'.  This is called by the function that
sends, which `message-mode' may have called: it comes to its copies as soon
as that has returned."
  (when (featurep 'message)
    (let ((inhibit-quit t))
      (push (cons key id) smtpmail-native-copy--awaited)
      (smtpmail-native-copy--catch 'message-do-fcc)
      (when (fboundp 'gnus-inews-do-gcc)
        (smtpmail-native-copy--catch 'gnus-inews-do-gcc))
      (when smtpmail-native-copy--timer
        (cancel-timer smtpmail-native-copy--timer))
      (setq smtpmail-native-copy--timer
            (run-at-time smtpmail-native-copy--seconds nil
                         #'smtpmail-native-copy-release)))))

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
For `smtpmail-native-changed-functions'."
  (let ((kept (and id (gethash id smtpmail-native-copy--kept))))
    (when (and kept
               (not (smtpmail-native-attempt-sending id))
               (null (smtpmail-native-index-entry id)))
      (remhash id smtpmail-native-copy--kept)
      (smtpmail-native-copy--kill kept))))

;;;; Filing

(defun smtpmail-native-copy--usual-p (function)
  "Return non-nil if FUNCTION is `message-do-fcc' as message.el has it.
Another program's may take what stands in Fcc for no file at all, as notmuch
does with a folder and tags."
  (let* ((cell (symbol-function 'message-do-fcc))
         (caught (seq-find (lambda (caught) (eq (nth 1 caught) cell))
                           smtpmail-native-copy--cells)))
    (memq function (list 'message-do-fcc (if caught (nth 2 caught) cell)))))

(defun smtpmail-native-copy--make-files ()
  "Make the missing files in the Fcc fields of the current buffer.
Else Emacs's own handlers would ask whether to make them, and nobody may be
there; who names a file in Fcc has answered."
  (when (memq message-fcc-handler-function '(nil message-output rmail-output))
    (dolist (file (smtpmail-native-copy--fields "fcc"))
      (unless (or (string-match-p "\\`[ \t]*|" file)
                  (file-exists-p (expand-file-name file)))
        (make-directory (file-name-directory (expand-file-name file)) t)
        (write-region "" nil (expand-file-name file) nil 'silent)))))

(defun smtpmail-native-copy--call (function args handler)
  "Call FUNCTION with ARGS to file the mail in the current buffer by HANDLER.
Return nil, or a text that tells what went wrong.  A question is an error:
the user may be typing something else."
  (condition-case err
      (let ((message-fcc-handler-function handler)
            (inhibit-interaction t))
        (when (smtpmail-native-copy--usual-p function)
          (smtpmail-native-copy--make-files))
        (save-excursion
          (apply function args))
        nil)
    (error (error-message-string err))
    (quit "quit")))

(defun smtpmail-native-copy--file-kept (kept)
  "File the copies of KEPT, a value of `smtpmail-native-copy--kept'.
Return a list of what went wrong, texts."
  (with-current-buffer (plist-get kept :buffer)
    (delq nil
          (mapcar (lambda (call)
                    (smtpmail-native-copy--call (car call) (cdr call)
                                                (plist-get kept :handler)))
                  (plist-get kept :calls)))))

(defun smtpmail-native-copy--blind (entry)
  "Return the Bcc fields in the draft of ENTRY, text of a header.
The copy of the sender tells them, while the message does not."
  (let ((draft (smtpmail-native-outbox-draft entry)))
    (if (null draft)
        ""
      (with-temp-buffer
        (insert draft)
        (mapconcat (lambda (text) (format "Bcc: %s\n" text))
                   (smtpmail-native-copy--fields "bcc") "")))))

(defun smtpmail-native-copy--insert (entry plan)
  "Insert the message of ENTRY as a mail that is to be filed as PLAN says.
It is the one that was sent: nothing is encoded, signed or encrypted again."
  (set-buffer-multibyte nil)
  (smtpmail-native-outbox-insert-message entry)
  (set-buffer-multibyte 'to)
  (goto-char (point-min))
  (search-forward "\n\n")
  (backward-char)
  (insert smtpmail-native-copy--separator)
  (goto-char (point-min))
  (dolist (file (plist-get plan :fcc))
    (insert "Fcc: " file "\n"))
  (when (plist-get plan :gcc)
    (insert "Gcc: " (plist-get plan :gcc) "\n"))
  (insert (smtpmail-native-copy--blind entry))
  (setq-local message-encoded-mail-cache (buffer-string)))

(defun smtpmail-native-copy--file-planned (entry plan)
  "File the copies of ENTRY as PLAN, the plist :copy of its state, says.
Another Emacs has made it.  Return a list of what went wrong, texts."
  (require 'message)
  (with-temp-buffer
    (let ((mail-header-separator smtpmail-native-copy--separator)
          (function (or (plist-get plan :function) 'message-do-fcc))
          (handler (plist-get plan :handler)))
      (smtpmail-native-copy--insert entry plan)
      (delq nil
            (list
             (and (plist-get plan :fcc)
                  (cond
                   ((plist-get plan :lost)
                    "the function that files it ended with its Emacs")
                   ((not (fboundp function))
                    (format "this Emacs has no function `%s'" function))
                   ((not (or (null handler) (fboundp handler)))
                    (format "this Emacs has no function `%s'" handler))
                   (t (smtpmail-native-copy--call function nil handler))))
             (and (plist-get plan :gcc)
                  (if (and (fboundp 'gnus-alive-p) (gnus-alive-p))
                      (smtpmail-native-copy--call 'gnus-inews-do-gcc nil
                                                  handler)
                    (format "Gnus is not running to file it in %s"
                            (plist-get plan :gcc)))))))))

(defun smtpmail-native-copy-file (entry)
  "File the copies of ENTRY, which has been sent.
For `smtpmail-native-settle-file-functions'; failures are told as warnings."
  (let* ((id (smtpmail-native-entry-id entry))
         (kept (gethash id smtpmail-native-copy--kept))
         (plan (plist-get (smtpmail-native-entry-state entry) :copy))
         (problems nil))
    (remhash id smtpmail-native-copy--kept)
    ;; What is still to come need not wait, nor what is filed now.
    (setq smtpmail-native-copy--awaited
          (seq-remove (lambda (awaited) (equal (cdr awaited) id))
                      smtpmail-native-copy--awaited))
    (unwind-protect
        (setq problems
              (condition-case err
                  (cond ((buffer-live-p (plist-get kept :buffer))
                         (smtpmail-native-copy--file-kept kept))
                        (plan (smtpmail-native-copy--file-planned entry plan)))
                (error (list (error-message-string err)))))
      (smtpmail-native-copy--kill kept))
    (when problems
      (smtpmail-native-tell-unfiled entry
                                    (string-join problems "; ")))))

(add-hook 'smtpmail-native-settle-file-functions #'smtpmail-native-copy-file)
(add-hook 'smtpmail-native-changed-functions
          #'smtpmail-native-copy--drop)

(provide 'smtpmail-native-copy)
;;; smtpmail-native-copy.el ends here
