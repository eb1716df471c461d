;;; smtpmail-native.el --- Native transport for smtpmail  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The smtpmail-native developers

;; Author: The smtpmail-native developers <smtpmail-native@example.org>
;; URL: https://github.com/smtpmail-native/smtpmail-native
;; Version: 0.4.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: mail
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Sends mail by a dynamic module: connections, TLS and SASL are done in C, in
;; worker threads.  In the init file:
;;
;;   (add-to-list 'load-path "~/src/smtpmail-native")
;;   (require 'smtpmail-native)
;;   (setq send-mail-function #'smtpmail-native-send-it
;;         message-send-mail-function #'smtpmail-native-send-it
;;         smtpmail-smtp-server "mail.example.org"
;;         smtpmail-smtp-service 587
;;         smtpmail-auth-credentials
;;         '(("mail.example.org" 587 "alice" nil))
;;         smtpmail-starttls-credentials
;;         '(("mail.example.org" 587 nil nil)))
;;
;; README.org is the first page, and doc/smtpmail-native.org the manual.

;;; Code:

;; In a checkout, the other files are in the directory lisp/; elsewhere they may
;; be beside this one.  The package's autoloads add it, too, so that a command
;; finds its file.
;;;###autoload
(let ((lisp (expand-file-name
             "lisp" (file-name-directory (or load-file-name buffer-file-name)))))
  (when (file-directory-p lisp)
    (add-to-list 'load-path lisp)))

(eval-when-compile
  (let* ((file (bound-and-true-p byte-compile-current-file))
         (top (and (stringp file)
                   (file-name-directory (expand-file-name file))))
         (lisp (and top (expand-file-name "lisp" top)))
         (origin nil))
    ;; `package-install-file' of a directory copies only the Lisp files at its
    ;; top.  Copy the others, too, from the directory in its Dired buffer.
    (when (and top (not (file-exists-p lisp))
               (not (file-exists-p
                     (expand-file-name "smtpmail-native-options.el" top))))
      (dolist (buffer (buffer-list))
        (with-current-buffer buffer
          (when (and (derived-mode-p 'dired-mode)
                     (file-exists-p "module/emacs/module.c")
                     (file-exists-p "lisp/smtpmail-native-options.el"))
            (setq origin default-directory))))
      (when origin
        (dolist (file (let ((default-directory origin))
                        (append (mapcan #'file-expand-wildcards
                                        (list "lisp/*.el" "module/*/*.[ch]"))
                                '("Makefile" "tools/configure"))))
          (let ((to (expand-file-name file top)))
            (make-directory (file-name-directory to) t)
            (copy-file (expand-file-name file origin) to)))
        (let ((load-path (cons lisp load-path)))
          (byte-recompile-directory lisp 0))))
    (when (and lisp (file-directory-p lisp))
      (add-to-list 'load-path lisp))))

;; Programs bind its variables around the sending, and they must be known to be
;; dynamic before that.
(require 'smtpmail)
(require 'smtpmail-native-options)

;; Emacs starts no slower than with smtpmail: all else is loaded by the first
;; message or command.
;;;###autoload
(autoload 'smtpmail-native-mode "smtpmail-native-mode"
  "Send what smtpmail sends by the native transport.\n\n(fn &optional ARG)" t)

;;;; Commands

(declare-function smtpmail-native-mode-send "smtpmail-native-mode" ())

;;;###autoload
(defun smtpmail-native-send-it ()
  "Send the message in the current buffer; for `send-mail-function'.
The buffer holds the header, `mail-header-separator' and the body, and is
not changed.  The variables of smtpmail name the server, port, TLS and
credentials.

If `smtpmail-native-background' is non-nil, return as soon as the message
is in the outbox; it is sent from there, even if this Emacs ends.
Otherwise wait until the server has accepted the message for all
recipients; Emacs stays responsive, and \\[keyboard-quit] cancels.
If `smtpmail-queue-mail' is non-nil, the message waits in the outbox until
you flush the queue.  If smtpmail knows a mechanism that this package does
not have, stock smtpmail sends the message.

Signal a child of `smtpmail-native-error' if the message was neither sent
nor put into the outbox.  After `smtpmail-native-unknown-outcome' the
message may have been delivered."
  (require 'smtpmail-native-mode)
  (smtpmail-native-mode-send))

;;;###autoload
(autoload 'smtpmail-native-server-info "smtpmail-native-server"
  "Show the mail server's greeting, capabilities, TLS and certificate." t)
;;;###autoload
(autoload 'smtpmail-native-pin-certificate "smtpmail-native-server"
  "Show the mail server's certificate and offer to trust it." t)
;;;###autoload
(autoload 'smtpmail-native-check-account "smtpmail-native-check"
  "Log in at the mail server, send nothing, and show how that went." t)
;;;###autoload
(autoload 'smtpmail-native-explain-credentials "smtpmail-native-explain"
  "Show which credentials Emacs would use to send mail, and why." t)

;;;; The outbox

;;;###autoload
(autoload 'smtpmail-native-outbox "smtpmail-native-list"
  "Show the outbox and act on its messages." t)
;;;###autoload
(autoload 'smtpmail-native-flush-queue "smtpmail-native-command"
  "Send all waiting messages now, including queued ones." t)
;;;###autoload
(autoload 'smtpmail-native-notices "smtpmail-native-notices"
  "Show the notices of messages that need you." t)
;;;###autoload
(autoload 'smtpmail-native-log "smtpmail-native-log-list"
  "Show the log of what was sent, the newest first." t)
;;;###autoload
(autoload 'smtpmail-native-send-later "smtpmail-native-later"
  "Send the message in the current buffer at a time that you name." t)
;;;###autoload
(autoload 'smtpmail-native-undo-send "smtpmail-native-command"
  "Undo the last send and turn its message back into a draft." t)
;;;###autoload
(autoload 'smtpmail-native-unlock "smtpmail-native-command"
  "Ask for the passwords and certificates that held messages need." t)
;;;###autoload
(autoload 'smtpmail-native-save-passwords "smtpmail-native-command"
  "Offer to save the passwords that you typed and a server has accepted." t)
;;;###autoload
(autoload 'smtpmail-native-start "smtpmail-native-command"
  "Send the waiting messages of the outbox in the background." t)
;;;; Scripts

;;;###autoload
(autoload 'smtpmail-native-batch-send "smtpmail-native-batch"
  "Send a message as the rest of the command line says, and exit Emacs.")
;;;###autoload
(autoload 'smtpmail-native-batch-check "smtpmail-native-check"
  "Log in at the mail server, send nothing, and exit Emacs.")
;;;###autoload
(autoload 'smtpmail-native-batch-flush "smtpmail-native-batch"
  "Send all waiting messages of the outbox once, and exit Emacs.")

;;;; All commands under one key

;;;###autoload
(defvar smtpmail-native-map
  (let ((map (make-sparse-keymap)))
    (define-key map "o" 'smtpmail-native-outbox)
    (define-key map "f" 'smtpmail-native-flush-queue)
    (define-key map "u" 'smtpmail-native-undo-send)
    (define-key map "k" 'smtpmail-native-unlock)
    (define-key map "n" 'smtpmail-native-notices)
    (define-key map "l" 'smtpmail-native-send-later)
    (define-key map "i" 'smtpmail-native-server-info)
    (define-key map "p" 'smtpmail-native-pin-certificate)
    (define-key map "c" 'smtpmail-native-explain-credentials)
    (define-key map "a" 'smtpmail-native-check-account)
    (define-key map "s" 'smtpmail-native-start)
    map)
  "Keymap of all commands, for a prefix key of your choice.")
;;;###autoload
(fset 'smtpmail-native-map smtpmail-native-map)

;;;; For Lisp programs

;; Each of these loads what it needs, so that a program need only require this
;; file.
(dolist (pair '(("load" smtpmail-native-load smtpmail-native-load-available-p)
                ("outbox" smtpmail-native-outbox-get smtpmail-native-outbox-ids
                 smtpmail-native-outbox-list smtpmail-native-outbox-claim
                 smtpmail-native-outbox-release)
                ("outbox-write" smtpmail-native-outbox-set
                 smtpmail-native-outbox-wait)
                ("entry" smtpmail-native-entry-id smtpmail-native-entry-state
                 smtpmail-native-entry-envelope smtpmail-native-entry-problem)
                ("channel" smtpmail-native-channel-submit)
                ("queue" smtpmail-native-queue-send)
                ("act" smtpmail-native-act-flush smtpmail-native-act-retry
                 smtpmail-native-act-hold smtpmail-native-act-cancel
                 smtpmail-native-act-delete smtpmail-native-act-mark-sent)
                ("watch" smtpmail-native-watch-start smtpmail-native-watch-look)
                ("wait" smtpmail-native-wait-flush)
                ("schedule" smtpmail-native-schedule-busy-p)))
  (dolist (function (cdr pair))
    (autoload function (concat "smtpmail-native-" (car pair)))))

;;;; The end

(defun smtpmail-native-unload-function ()
  "Restore stock smtpmail and stop sending messages of the outbox.
The messages stay in the outbox."
  ;; What was never loaded has nothing to end.
  (when (featurep 'smtpmail-native-mode)
    (smtpmail-native-mode -1))
  (dolist (function '(smtpmail-native-watch-stop smtpmail-native-line-remove))
    (when (fboundp function)
      (funcall function)))
  (remove-hook 'kill-emacs-query-functions 'smtpmail-native-act-may-quit-p)
  (dolist (variable '(send-mail-function message-send-mail-function))
    (when (and (boundp variable)
               (eq (symbol-value variable) #'smtpmail-native-send-it))
      (set variable #'smtpmail-send-it)))
  ;; The rest is done as usual.
  nil)

(provide 'smtpmail-native)
;;; smtpmail-native.el ends here
