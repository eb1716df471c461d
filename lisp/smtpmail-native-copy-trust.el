;;; smtpmail-native-copy-trust.el --- What a stored plan may do  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The plan of a message's copies stands in a file, and names functions and
;; files.  Another Emacs than the one that made it calls only functions that are
;; known to file messages, runs no program, and appends only to what is a mailbox
;; already.  So that this holds for a new mailbox, too, the Emacs in which you
;; write the message makes the file.

;;; Code:

(require 'seq)
(require 'smtpmail-native-data)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outbox)

(defvar message-fcc-handler-function)

(defconst smtpmail-native-copy-trust--handlers
  '(nil message-output rmail-output)
  "Values of `message-fcc-handler-function' that append to a mailbox.")

(defun smtpmail-native-copy-trust-usual-p (function)
  "Return non-nil if FUNCTION is `message-do-fcc' as message.el defines it.
Another program's may take what stands in Fcc for no file at all, as notmuch
does with a directory and tags.  Advice changes nothing of that."
  (or (memq function '(nil message-do-fcc))
      (and (functionp function)
           (string-prefix-p "Process Fcc headers in the current buffer."
                            (or (ignore-errors (documentation function t))
                                "")))))

(defun smtpmail-native-copy-trust-mailbox-p (function handler)
  "Return non-nil if FUNCTION with HANDLER takes Fcc for a mailbox's file."
  (and (smtpmail-native-copy-trust-usual-p function)
       (memq handler smtpmail-native-copy-trust--handlers)
       t))

(defun smtpmail-native-copy-trust-own-files (files)
  "Return FILES of the message in the current buffer, absolute.
Make those that are missing, where their directory is there."
  (mapcar (lambda (name)
            (let ((file (expand-file-name name)))
              (when (and (file-directory-p (file-name-directory file))
                         (not (file-exists-p file)))
                (ignore-errors
                  (write-region "" nil file nil 'silent)))
              file))
          files))

(defun smtpmail-native-copy-trust-make-files (files)
  "Make those of FILES that are missing, mailboxes.
FILES are the Fcc fields of a message in the current buffer.  Otherwise
Emacs's own handlers would ask whether to make them when the message has
been sent, and you may be doing something else.  An error is left for them."
  (dolist (name files)
    (let ((file (expand-file-name name)))
      (unless (or (string-match-p "\\`[ \t]*|" name)
                  (file-exists-p file))
        (condition-case nil
            (progn
              (make-directory (file-name-directory file) t)
              (write-region "" nil file nil 'silent))
          (file-error nil))))))

(defun smtpmail-native-copy-trust-function-problem (function)
  "Return why FUNCTION of a stored plan cannot be called, a text, or nil."
  (cond
   ((memq function (cons 'message-do-fcc
                         smtpmail-native-copy-trust--handlers))
    nil)
   ((not (or (memq function smtpmail-native-copy-functions)
             (eq function (default-value 'message-fcc-handler-function))))
    (format "`smtpmail-native-copy-functions' does not name `%s'" function))
   ((not (fboundp function))
    (format "this Emacs has no function `%s'" function))))

(defun smtpmail-native-copy-trust--mailbox-p (file)
  "Return non-nil if FILE is a mailbox, or empty."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally file nil 0 16)
    (or (= (buffer-size) 0)
        (looking-at "From \\|BABYL OPTIONS:"))))

(defun smtpmail-native-copy-trust-file-problem (file mailbox)
  "Return why FILE of a stored plan cannot be filed in, a text, or nil.
MAILBOX non-nil means that it is the file of a mailbox; otherwise a function
of another program knows what it means."
  (cond
   ((string-match-p "[\0\n\r]" file) "its name is no name")
   ((not mailbox)
    (and (string-match-p "\\(?:\\`\\|/\\)\\.\\.\\(?:/\\|\\'\\)" file)
         (format "%s leads out of its directory" file)))
   ((string-match-p "\\`[ \t]*|" file)
    "it is a program, and the session that wrote the message has ended")
   ((or (not (file-name-absolute-p file)) (file-remote-p file))
    (format "%s is no file of this machine" file))
   ((string-prefix-p (file-truename smtpmail-native-outbox-directory)
                     (file-truename file))
    (format "%s is in the outbox" file))
   ((let ((problem (smtpmail-native-data-file-problem (file-truename file))))
      (and problem (format "%s: %s" file problem))))
   ((not (smtpmail-native-copy-trust--mailbox-p file))
    (format "%s is no mailbox" file))))

(provide 'smtpmail-native-copy-trust)
;;; smtpmail-native-copy-trust.el ends here
