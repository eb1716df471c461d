;;; smtpmail-native-copy.el --- The copy of a message that was sent  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; When the function that sends has returned, message-mode files the message in
;; its Fcc and Gcc at once, by `message-do-fcc' and, in `message-sent-hook', by
;; `gnus-inews-do-gcc'.  A message that is only in the outbox has not been sent,
;; and so these two functions are advised for a moment: for that message they
;; only note what they were to do.
;;
;; A message enters the outbox together with its text as it was written (the
;; file "draft") and with a plan of its copies (in the state): both are safe
;; from a loss of power as soon as the message is.  This Emacs knows more than
;; the plan can say, such as a handler without a name; another Emacs files what
;; the plan says.  What is filed is what was sent: nothing is encoded, signed or
;; encrypted again.
;;
;; A plan comes from a file, and may be a stranger's: see
;; smtpmail-native-copy-trust.el.

;;; Code:

(require 'mail-utils)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-copy-trust)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-index)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-tell)

(declare-function message-fetch-field "message" (header &optional first))
(declare-function message-do-fcc "message" ())
(declare-function message-narrow-to-headers "message" ())
(declare-function mml-secure-is-encrypted-p "mml-sec" (&optional tag-present))
(declare-function gnus-inews-do-gcc "gnus-msg" (&optional gcc))
(defvar message-encoded-mail-cache)
(defvar message-fcc-handler-function)

(defconst smtpmail-native-copy--seconds 5
  "How long `message-mode' may take to come to its copies.")

(defvar smtpmail-native-copy--kept (make-hash-table :test #'equal)
  "What this Emacs knows of the copies of its messages, by the id of the entry.
A value is a plist: :calls, a list of (NAME FUNCTION . ARGS) that were noted;
:function, the definition of `message-do-fcc'; :handler; :directory;
:locals, an alist of variables; :text, the message as it was written if that
must not be on the disk; and :filed, non-nil if that was done.")

(defvar smtpmail-native-copy--awaited nil
  "Messages whose copies are about to be filed, as (MESSAGE-ID . ENTRY-ID).
MESSAGE-ID is nil if the message has none until it is sent.")

(defvar smtpmail-native-copy--timer nil
  "The timer that ends the advice, or nil.")

;;;; The message as it was written

(defun smtpmail-native-copy--field (name)
  "Return the field NAME of the message in the current buffer, or nil."
  (save-excursion
    (save-restriction
      (widen)
      (message-narrow-to-headers)
      (message-fetch-field name))))

(defun smtpmail-native-copy-fields (name)
  "Return the texts of all fields NAME of the message in the current buffer."
  (save-excursion
    (save-restriction
      (widen)
      (message-narrow-to-headers)
      (mail-fetch-field name nil nil t))))

(defun smtpmail-native-copy--text ()
  "Return the text of the current buffer, without properties."
  (save-restriction
    (widen)
    (buffer-substring-no-properties (point-min) (point-max))))

(defun smtpmail-native-copy--secret-p ()
  "Return non-nil if the message in the current buffer is to be encrypted.
Then its text must not get to the disk in clear."
  (or (condition-case nil
          (mml-secure-is-encrypted-p 'anywhere)
        (error t))
      (save-excursion
        (goto-char (point-min))
        (re-search-forward "^<#\\(?:secure\\|part\\|multipart\\)[^>]*encrypt"
                           nil t))))

(defun smtpmail-native-copy--source (message-id)
  "Return the buffer of `message-mode' that is sending MESSAGE-ID, or nil.
The function that sends is called in another one, which has no Fcc; while
that happens, what was encoded stands in a variable of the first."
  (let ((found (seq-filter
                (lambda (buffer)
                  (and (buffer-local-value 'message-encoded-mail-cache buffer)
                       (not (eq buffer (current-buffer)))
                       (with-current-buffer buffer
                         (and (derived-mode-p 'message-mode)
                              (equal (smtpmail-native-copy--field "message-id")
                                     message-id)))))
                (buffer-list))))
    (and (null (cdr found)) (car found))))

(defun smtpmail-native-copy--locals ()
  "Return the local variables of the current buffer that handlers may want."
  (seq-filter
   (lambda (local)
     (and (consp local)
          (not (memq (car local) '(message-default-charset
                                   message-encoded-mail-cache)))
          (string-match-p "\\`\\(?:gnus\\|nn\\|message\\|sendmail\\|smtp\\|\
user-mail-address\\|\\(?:mail\\|mml?\\|mu4e\\|notmuch\\)-\\)"
                          (symbol-name (car local)))))
   (buffer-local-variables)))

;;;; The plan

(defun smtpmail-native-copy--fcc (function handler)
  "Return the Fcc fields of the message in the current buffer, as a plan has them.
FUNCTION with HANDLER files them.  Names of files are those of the directory
of this buffer."
  (let ((files (smtpmail-native-copy-fields "fcc")))
    (if (smtpmail-native-copy-trust-mailbox-p function handler)
        (mapcar (lambda (file)
                  (if (string-match-p "\\`[ \t]*|" file)
                      file
                    (expand-file-name file)))
                files)
      files)))

(defun smtpmail-native-copy-plan (function handler message-id)
  "Return how another Emacs files the message in the current buffer, or nil.
FUNCTION is the definition of `message-do-fcc', HANDLER the value of
`message-fcc-handler-function', MESSAGE-ID a string or nil.  The value is a
plist of :fcc, a list; :gcc; :function, a symbol or nil for the usual one;
:handler, a symbol; :message-id; and :lost, non-nil if one of the functions
has no name, and ends with this Emacs."
  (let ((fcc (smtpmail-native-copy--fcc function handler))
        (gcc (smtpmail-native-copy--field "gcc"))
        (usual (smtpmail-native-copy-trust-usual-p function)))
    (when (or fcc gcc)
      (list :fcc fcc :gcc gcc
            :function (and (not usual) (symbolp function) function)
            :handler (and (symbolp handler) handler)
            :lost (not (and (symbolp handler)
                            (or usual (symbolp function))))
            :message-id message-id))))

(defun smtpmail-native-copy--definition ()
  "Return the definition of `message-do-fcc' at this moment, without our advice.
Programs rebind it around the sending."
  (smtpmail-native-copy--unadvise)
  (symbol-function 'message-do-fcc))

(defun smtpmail-native-copy--describe (function)
  "Return what is to be known of the message in the current buffer, a plist.
FUNCTION is the definition of `message-do-fcc'.  :plan is for the state of
its entry, :draft for the file, or nil if it is secret; :kept is a value of
`smtpmail-native-copy--kept'."
  (let ((secret (smtpmail-native-copy--secret-p))
        (text (smtpmail-native-copy--text)))
    (when (smtpmail-native-copy-trust-mailbox-p function
                                                message-fcc-handler-function)
      (smtpmail-native-copy-trust-make-files
       (smtpmail-native-copy-fields "fcc")))
    (list :plan (smtpmail-native-copy-plan
                 function message-fcc-handler-function
                 (smtpmail-native-copy--field "message-id"))
          :draft (and (not secret) text)
          :directory default-directory
          :kept (list :function function
                      :handler message-fcc-handler-function
                      :directory default-directory
                      :locals (smtpmail-native-copy--locals)
                      :text (and secret text)))))

(defun smtpmail-native-copy-prepare (mail)
  "Return MAIL, a plist, with what is to be known of its copies.
The message is in the current buffer, which message.el may have made for
that.  :key is for `smtpmail-native-copy-expect', :draft for
`smtpmail-native-outbox-commit', and :fcc has the files of a message of
another mode, absolute."
  (let* ((message-id (and (featurep 'message)
                          (ignore-errors
                            (smtpmail-native-copy--field "message-id"))))
         (source (and message-id (smtpmail-native-copy--source message-id)))
         (known (and source
                     (with-current-buffer source
                       (smtpmail-native-copy--describe
                        (smtpmail-native-copy--definition))))))
    (append (list :key (and (featurep 'message)
                            (list message-id (plist-get known :kept)))
                  :draft (and known (list :text (plist-get known :draft)
                                          :directory
                                          (plist-get known :directory)
                                          :plan (plist-get known :plan)))
                  :fcc (smtpmail-native-copy-trust-own-files
                        (plist-get mail :fcc)))
            mail)))

;;;; Catching the calls

(defun smtpmail-native-copy--awaited-id ()
  "Return the id of the entry of the message in the current buffer, if awaited."
  (cdr (assoc (ignore-errors (smtpmail-native-copy--field "message-id"))
              smtpmail-native-copy--awaited)))

(defun smtpmail-native-copy--around-fcc (function &rest args)
  "Note the call of FUNCTION with ARGS, if the message is awaited."
  (smtpmail-native-copy--around 'message-do-fcc function args))

(defun smtpmail-native-copy--around-gcc (function &rest args)
  "Note the call of FUNCTION with ARGS, if the message is awaited."
  (smtpmail-native-copy--around 'gnus-inews-do-gcc function args))

(defun smtpmail-native-copy--advise ()
  "Advise the functions that file copies, where they are defined now."
  (advice-add 'message-do-fcc :around #'smtpmail-native-copy--around-fcc)
  (when (fboundp 'gnus-inews-do-gcc)
    (advice-add 'gnus-inews-do-gcc :around
                #'smtpmail-native-copy--around-gcc)))

(defun smtpmail-native-copy--unadvise ()
  "Remove our advice from the functions that file copies."
  (advice-remove 'message-do-fcc #'smtpmail-native-copy--around-fcc)
  (advice-remove 'gnus-inews-do-gcc #'smtpmail-native-copy--around-gcc))

(defun smtpmail-native-copy--around (name function args)
  "Do for the function NAME what the advice does; FUNCTION is what it advises.
ARGS are those of the call."
  (let* ((id (smtpmail-native-copy--awaited-id))
         (kept (and id (gethash id smtpmail-native-copy--kept))))
    (cond
     ((null id) (apply function args))
     ;; Its outcome was there before message.el came to the copies.
     ((and (plist-get kept :filed) (eq name 'gnus-inews-do-gcc))
      (apply function args))
     ((plist-get kept :filed) nil)
     (t (smtpmail-native-copy--note id name function args)))))

(defun smtpmail-native-copy--note (id name function args)
  "Call FUNCTION, which is called NAME, with ARGS when the entry ID was sent.
The current buffer is that of the message."
  (unless (gethash id smtpmail-native-copy--kept)
    (condition-case err
        (smtpmail-native-copy--write id function)
      (error
       (smtpmail-native-quiet-warn
        (format "Cannot keep the draft with its message: %s"
                (error-message-string err))))))
  (let ((kept (gethash id smtpmail-native-copy--kept)))
    (puthash id (plist-put kept :calls
                           (append (plist-get kept :calls)
                                   (list (cons name (cons function args)))))
             smtpmail-native-copy--kept)))

(defun smtpmail-native-copy--write (id function)
  "Write the message in the current buffer, that of the entry ID, beside it.
Its buffer was not known when it was committed.  FUNCTION is the definition
of `message-do-fcc'."
  (let* ((known (smtpmail-native-copy--describe function))
         (draft (plist-get known :draft))
         (plan (plist-get known :plan)))
    (puthash id (plist-get known :kept) smtpmail-native-copy--kept)
    (smtpmail-native-attempt-change
     id
     (lambda (entry)
       (when draft
         (smtpmail-native-outbox-save-draft entry draft))
       (when plan
         (smtpmail-native-outbox-set entry :copy plan))
       (smtpmail-native-outbox-wait entry
                                    smtpmail-native-outbox-patience)))))

(defun smtpmail-native-copy-release ()
  "Await no message any more, and remove the advice."
  (let ((ids (mapcar #'cdr smtpmail-native-copy--awaited)))
    (setq smtpmail-native-copy--awaited nil)
    (mapc #'smtpmail-native-copy--drop ids))
  (smtpmail-native-copy--unadvise))

(defun smtpmail-native-copy-expect (id key)
  "Hold back the copies of a message until the entry ID is sent.
KEY is from `smtpmail-native-copy-prepare'.  The function that sends calls
this; `message-mode' comes to its copies as soon as that has returned."
  (when key
    (let ((inhibit-quit t))
      (push (cons (car key) id) smtpmail-native-copy--awaited)
      (when (cadr key)
        (puthash id (cadr key) smtpmail-native-copy--kept))
      (smtpmail-native-copy--advise)
      (when smtpmail-native-copy--timer
        (cancel-timer smtpmail-native-copy--timer))
      (setq smtpmail-native-copy--timer
            (run-at-time smtpmail-native-copy--seconds nil
                         #'smtpmail-native-copy-release)))))

;;;; The draft

(defun smtpmail-native-copy-draft (entry)
  "Return the message of ENTRY as it was written, a string, or nil.
This Emacs knows also those that must not be on the disk."
  (or (plist-get (gethash (smtpmail-native-entry-id entry)
                          smtpmail-native-copy--kept)
                 :text)
      (smtpmail-native-outbox-draft entry)))

(defun smtpmail-native-copy-filed (id)
  "Note that the copies of the entry ID are filed, as far as that was possible."
  (let ((kept (gethash id smtpmail-native-copy--kept)))
    (when kept
      (puthash id (plist-put kept :filed t) smtpmail-native-copy--kept))))

(defun smtpmail-native-copy--drop (id)
  "Forget what is known of the entry ID if the entry is not there any more.
For `smtpmail-native-changed-functions'."
  (when (and id
             (gethash id smtpmail-native-copy--kept)
             (not (rassoc id smtpmail-native-copy--awaited))
             (smtpmail-native-outbox-gone-p
              (smtpmail-native-entry-make :id id)))
    (remhash id smtpmail-native-copy--kept)))

(add-hook 'smtpmail-native-changed-functions
          #'smtpmail-native-copy--drop)

(provide 'smtpmail-native-copy)
;;; smtpmail-native-copy.el ends here
