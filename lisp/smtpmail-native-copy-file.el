;;; smtpmail-native-copy-file.el --- Filing the copy of a message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A copy is filed when the first recipient has got the message, once.  An Emacs
;; that is killed in the middle of that may have filed it: the next one looks for
;; the Message-ID where that can be looked up, and otherwise finds in the state
;; that it was begun, and leaves it to the user.  What cannot be filed is set
;; aside in the outbox.

;;; Code:

(require 'mail-utils)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-copy)
(require 'smtpmail-native-copy-trust)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-tell)

(declare-function gnus-alive-p "gnus-util" ())
(declare-function gnus-request-head "gnus-int" (article group))
(declare-function message-tokenize-header "message" (header &optional separator))
(declare-function message-unquote-tokens "message" (elems))
(defvar message-encoded-mail-cache)
(defvar message-fcc-handler-function)

(defconst smtpmail-native-copy-file--tail (* 4 1024 1024)
  "Bytes at the end of a mailbox in which a copy is looked for.
It was filed a moment before an Emacs was killed.")

;;;; Was it filed?

(defun smtpmail-native-copy-file--in-mailbox-p (file message-id)
  "Return non-nil if MESSAGE-ID is that of one of the last messages in FILE."
  (and message-id
       (file-regular-p file)
       (with-temp-buffer
         (set-buffer-multibyte nil)
         (let ((size (file-attribute-size (file-attributes file)))
               (case-fold-search t))
           (insert-file-contents-literally
            file nil (max 0 (- size smtpmail-native-copy-file--tail)) size)
           (goto-char (point-min))
           (re-search-forward
            (concat "^Message-ID:[ \t]*"
                    (regexp-quote (encode-coding-string message-id 'utf-8)))
            nil t)))))

(defun smtpmail-native-copy-file--in-group-p (group message-id)
  "Return non-nil if Gnus finds MESSAGE-ID in GROUP."
  (and message-id
       (ignore-errors (gnus-request-head message-id group))))

;;;; The message that is filed

(defun smtpmail-native-copy-file--blind (entry)
  "Return the Bcc fields in the draft of ENTRY, text of a header.
The copy of the sender tells them, while the message does not."
  (let ((draft (smtpmail-native-copy-draft entry)))
    (if (null draft)
        ""
      (with-temp-buffer
        (insert draft)
        (mapconcat (lambda (text) (format "Bcc: %s\n" text))
                   (smtpmail-native-copy-fields "bcc") "")))))

(defun smtpmail-native-copy-file--insert (entry fcc gcc)
  "Insert the message of ENTRY, to be filed in FCC, a list, and GCC.
It is the one that was sent: nothing is encoded, signed or encrypted again."
  (set-buffer-multibyte nil)
  (smtpmail-native-outbox-insert-message entry)
  (set-buffer-multibyte 'to)
  (goto-char (point-min))
  (search-forward "\n\n")
  (backward-char)
  (insert mail-header-separator)
  (goto-char (point-min))
  (dolist (file fcc)
    (insert "Fcc: " file "\n"))
  (when gcc
    (insert "Gcc: " gcc "\n"))
  (insert (smtpmail-native-copy-file--blind entry))
  (setq-local message-encoded-mail-cache (buffer-string)))

(defun smtpmail-native-copy-file--call (function args)
  "Call FUNCTION with ARGS to file the message in the current buffer.
Return nil, or a text that tells what went wrong.  A question is an error:
you may be typing something else.  Nothing leaves this, not even a throw."
  (catch 'smtpmail-native-copy-file
    (let ((problem "it was left by a throw"))
      (unwind-protect
          (setq problem
                (condition-case err
                    (let ((inhibit-interaction t)
                          (inhibit-quit nil)
                          ;; What is filed now is not to be noted again.
                          (smtpmail-native-copy--awaited nil))
                      (save-excursion
                        (apply function args))
                      nil)
                  (error (error-message-string err))
                  (quit "quit")))
        ;; This one takes the place of any other that comes by.  It has the
        ;; value with it: natively compiled code may forget what it has set
        ;; inside of a catch.
        (throw 'smtpmail-native-copy-file problem)))))

(defmacro smtpmail-native-copy-file--with (entry fcc gcc &rest body)
  "Run BODY in a buffer with the message of ENTRY, to be filed in FCC and GCC."
  (declare (indent 3) (debug t))
  `(with-temp-buffer
     (let ((mail-header-separator "--text follows this line--"))
       (smtpmail-native-copy-file--insert ,entry ,fcc ,gcc)
       ,@body)))

;;;; By the Emacs that wrote it

(defun smtpmail-native-copy-file--set-locals (kept)
  "Give the current buffer what KEPT says of the one of the message.
KEPT is a value of `smtpmail-native-copy--kept'."
  (pcase-dolist (`(,variable . ,value) (plist-get kept :locals))
    (ignore-errors
      (set (make-local-variable variable) value)))
  (setq-local message-fcc-handler-function (plist-get kept :handler))
  (setq default-directory (plist-get kept :directory)))

(defun smtpmail-native-copy-file--kept (entry kept plan)
  "File the copies of ENTRY by KEPT, which this Emacs knows, and PLAN.
Return a list of what went wrong, texts."
  (let ((calls (plist-get kept :calls)))
    ;; Its outcome was there before message.el came to the copy.
    (unless (or (assq 'message-do-fcc calls) (null (plist-get plan :fcc)))
      (push (list 'message-do-fcc (plist-get kept :function)) calls))
    (mapcar (lambda (call)
              (smtpmail-native-copy-file--with entry (plist-get plan :fcc)
                  (plist-get plan :gcc)
                (smtpmail-native-copy-file--set-locals kept)
                (setq-local message-encoded-mail-cache (buffer-string))
                (smtpmail-native-copy-file--call (cadr call) (cddr call))))
            calls)))

;;;; By another one

(defun smtpmail-native-copy-file--fcc (entry plan file)
  "File the copy of ENTRY in FILE as PLAN, which was read, says.
Return what went wrong, a text, or nil."
  (let* ((function (or (plist-get plan :function) 'message-do-fcc))
         (handler (plist-get plan :handler))
         (mailbox (smtpmail-native-copy-trust-mailbox-p function handler)))
    (cond
     ((plist-get plan :lost)
      "the function that files it ended with its Emacs")
     ((seq-some #'smtpmail-native-copy-trust-function-problem
                (list function handler)))
     ((smtpmail-native-copy-trust-file-problem file mailbox))
     ((and mailbox (smtpmail-native-copy-file--in-mailbox-p
                    file (plist-get plan :message-id)))
      nil)
     ((and (not mailbox) (plist-get plan :begun))
      "the Emacs that was filing it has ended; it may be there")
     (t
      (smtpmail-native-copy-file--with entry (list file) nil
        (let ((message-fcc-handler-function handler))
          (smtpmail-native-copy-file--call function nil)))))))

(defun smtpmail-native-copy-file--gcc (entry plan)
  "File the copy of ENTRY in the groups of Gnus that PLAN, which was read, names.
Return what went wrong, a text, or nil."
  (let ((gcc (plist-get plan :gcc)))
    (cond
     ((null gcc) nil)
     ((not (and (fboundp 'gnus-alive-p) (gnus-alive-p)))
      (format "Gnus is not running to file it in %s" gcc))
     (t
      (let ((groups (seq-remove
                     (lambda (group)
                       (smtpmail-native-copy-file--in-group-p
                        group (plist-get plan :message-id)))
                     (message-unquote-tokens
                      (message-tokenize-header gcc " ,\n\t")))))
        (when groups
          (smtpmail-native-copy-file--with entry nil gcc
            (smtpmail-native-copy-file--call
             'gnus-inews-do-gcc
             (list (mapconcat (lambda (group) (format "%S" group))
                              groups " "))))))))))

(defun smtpmail-native-copy-file--planned (entry plan)
  "File the copies of ENTRY as PLAN, which another Emacs has made, says.
Return a list of what went wrong, texts."
  (append (mapcar (lambda (file)
                    (smtpmail-native-copy-file--fcc entry plan file))
                  (plist-get plan :fcc))
          (list (smtpmail-native-copy-file--gcc entry plan))))

;;;; Both

(defun smtpmail-native-copy-file--plan (entry)
  "Return the plan of ENTRY: that of its state, or what its draft says.
The state may have been lost with the power.  A message of `mail-mode' has
none, but files in its envelope."
  (or (plist-get (smtpmail-native-entry-state entry) :copy)
      (let ((envelope (smtpmail-native-entry-envelope entry))
            (draft (smtpmail-native-outbox-draft entry)))
        (if draft
            (with-temp-buffer
              (insert draft)
              ;; Relative names are those of the buffer that it came from.
              (setq default-directory
                    (or (plist-get envelope :draft-directory)
                        default-directory))
              (smtpmail-native-copy-plan
               nil (default-value 'message-fcc-handler-function)
               (plist-get envelope :message-id)))
          (and (plist-get envelope :fcc)
               (list :fcc (plist-get envelope :fcc)
                     :message-id (plist-get envelope :message-id)))))))

(defun smtpmail-native-copy-file--note (entry plan key)
  "Note in PLAN of ENTRY that KEY, :begun or :filed, is so; return the plan."
  (let ((plan (plist-put (copy-sequence plan) key t)))
    (smtpmail-native-outbox-note entry :copy plan)
    plan))

(defun smtpmail-native-copy-file (entry)
  "File the copies of ENTRY, which a recipient has got, unless that was done.
Failures are told as warnings."
  (let* ((id (smtpmail-native-entry-id entry))
         (kept (gethash id smtpmail-native-copy--kept))
         (plan (smtpmail-native-copy-file--plan entry))
         (problems nil))
    (unless (or (plist-get plan :filed) (not (or kept plan)))
      (require 'message)
      ;; The next session must know, should this one be killed now.
      (when (and plan (not (smtpmail-native-copy-trust-mailbox-p
                            (plist-get plan :function)
                            (plist-get plan :handler))))
        (smtpmail-native-outbox-set
         entry :copy (plist-put (copy-sequence plan) :begun t)))
      (setq problems
            (condition-case err
                (delq nil
                      (if kept
                          (smtpmail-native-copy-file--kept entry kept plan)
                        (smtpmail-native-copy-file--planned entry plan)))
              (error (list (error-message-string err)))))
      (smtpmail-native-copy-filed id)
      (when plan
        (smtpmail-native-copy-file--note entry plan :filed))
      (when problems
        (smtpmail-native-tell-unfiled entry (string-join problems "; "))))))

(add-hook 'smtpmail-native-settle-file-functions #'smtpmail-native-copy-file)

(provide 'smtpmail-native-copy-file)
;;; smtpmail-native-copy-file.el ends here
