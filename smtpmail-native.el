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

(require 'smtpmail-native-options)
(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-act)
(require 'smtpmail-native-job)
(require 'smtpmail-native-line)
(require 'smtpmail-native-mode)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-trust)
(require 'smtpmail-native-verdict)
(require 'smtpmail-native-wait)
(require 'smtpmail-native-watch)

;;;###autoload (autoload 'smtpmail-native-mode "smtpmail-native" "Send what smtpmail sends by the native transport.\n\n(fn &optional ARG)" t)

;;;; Commands

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
  (smtpmail-native-mode-send))

;;;###autoload
(defun message-send-mail-with-smtp-native ()
  "Send the message in the current buffer by `smtpmail-native-send-it'.
Newer versions of Message mode call this function if the field
X-Message-SMTP-Method names the method \"smtp-native\"."
  (run-hooks 'message-send-mail-hook)
  (smtpmail-native-send-it))

(defun smtpmail-native--insert-certificate (certificate)
  "Insert a description of CERTIFICATE, a plist of the module."
  (let ((reasons (smtpmail-native-error-text (plist-get certificate :reasons))))
    (insert (format "Certificate:  %s\n"
                    (smtpmail-native-error-text
                     (plist-get certificate :subject)))
            (format "  issuer:     %s\n"
                    (smtpmail-native-error-text
                     (plist-get certificate :issuer)))
            (format-time-string "  valid from: %F %T\n"
                                (plist-get certificate :not-before))
            (format-time-string "  valid to:   %F %T\n"
                                (plist-get certificate :not-after))
            (format "  SHA-256:    %s\n" (plist-get certificate :sha256))
            (format "  public key: %s\n" (plist-get certificate :spki-sha256))
            (format "  verified:   %s\n"
                    (cond ((plist-get certificate :pinned)
                           "no, but it matches your pin")
                          ((equal reasons "") "yes")
                          (t reasons))))))

(defun smtpmail-native--insert-info (account result)
  "Insert what RESULT, a plist of the module, says of the server of ACCOUNT."
  (let* ((tls (plist-get result :tls))
         (certificate (plist-get tls :certificate))
         (capabilities (mapcar #'smtpmail-native-error-text
                               (split-string
                                (or (plist-get result :capabilities) "")
                                "\n" t)))
         (case-fold-search t))
    (insert (format "Server:       %s:%s\n" (plist-get account :host)
                    (plist-get account :port)))
    (unless (eq (plist-get result :kind) 'ok)
      (insert (format "Error:        %s\n"
                      (smtpmail-native-verdict-describe
                       result (plist-get account :host)
                       (plist-get account :port)))))
    (insert (format "Greeting:     %s\n" (smtpmail-native-error-text
                                          (plist-get result :greeting)))
            (if tls
                (format "TLS:          %s, %s\n" (plist-get tls :protocol)
                        (plist-get tls :cipher))
              "TLS:          none\n"))
    (when certificate
      (smtpmail-native--insert-certificate certificate))
    (insert "Mechanisms:   "
            (or (seq-some (lambda (line)
                            (and (string-match "\\`AUTH[ =]\\(.*\\)" line)
                                 (match-string 1 line)))
                          capabilities)
                "not offered")
            "\nCapabilities:\n")
    (dolist (line capabilities)
      (insert "  " line "\n"))))

;;;###autoload
(defun smtpmail-native-server-info ()
  "Show the mail server's greeting, capabilities, TLS and certificate.
This does not log in and sends no secrets."
  (interactive)
  (smtpmail-native-error-leaving
    (let* ((account (smtpmail-native-job-account))
           (result (smtpmail-native-wait-probe account))
           (buffer (get-buffer-create "*smtpmail-native server info*")))
      (with-current-buffer buffer
        (let ((inhibit-read-only t))
          (erase-buffer)
          (smtpmail-native--insert-info account result)
          (goto-char (point-min)))
        (special-mode))
      (display-buffer buffer))))

;;;###autoload
(autoload 'smtpmail-native-explain-credentials "smtpmail-native-explain"
  "Show which credentials Emacs would use to send mail, and why." t)

(defun smtpmail-native--shown-certificate (account)
  "Return the certificate that the server of ACCOUNT presents, even a bad one.
Signal a child of `smtpmail-native-error' if it presents none."
  (let* ((host (plist-get account :host))
         (port (plist-get account :port))
         (result (smtpmail-native-wait-probe account t)))
    (or (plist-get (plist-get result :tls) :certificate)
        (smtpmail-native-error-signal
         'smtpmail-native-tls-error
         (if (eq (plist-get result :kind) 'ok)
             (format "%s:%s does not use TLS, so there is no certificate" host port)
           (smtpmail-native-verdict-describe result host port))))))

;;;###autoload
(defun smtpmail-native-pin-certificate ()
  "Show the mail server's certificate and offer to trust it.
If you agree, Emacs adds its fingerprint to `smtpmail-native-tls-pins', and
saves that option if possible.  This sends no secrets.  Signal a child of
`smtpmail-native-error' if the server presents no certificate."
  (interactive)
  (smtpmail-native-error-leaving
    (let* ((account (smtpmail-native-job-account))
           (host (plist-get account :host))
           (shown (smtpmail-native--shown-certificate account)))
      (with-help-window "*smtpmail-native certificate*"
        (with-current-buffer standard-output
          (smtpmail-native--insert-certificate shown)))
      (when (yes-or-no-p
             (format "Trust only this certificate for %s from now on? " host))
        (smtpmail-native-trust-add-pin host (plist-get shown :sha256))
        (smtpmail-native-schedule-trust-changed host
                                                (plist-get account :port))))))

;;;; The outbox

;;;###autoload
(autoload 'smtpmail-native-outbox "smtpmail-native-list"
  "Show the outbox and act on its messages." t)
;;;###autoload
(autoload 'smtpmail-native-flush-queue "smtpmail-native-command"
  "Send all waiting messages now, including queued ones." t)
;;;###autoload
(autoload 'smtpmail-native-undo-send "smtpmail-native-command"
  "Undo the last send and turn its message back into a draft." t)
;;;###autoload
(autoload 'smtpmail-native-unlock "smtpmail-native-command"
  "Ask for the passwords and certificates that held messages need." t)
;;;###autoload
(autoload 'smtpmail-native-start "smtpmail-native-command"
  "Send the waiting messages of the outbox in the background." t)
(autoload 'smtpmail-native-draw-note "smtpmail-native-draw")

(add-hook 'smtpmail-native-changed-functions #'smtpmail-native-draw-note)

;;;; Scripts

;;;###autoload
(autoload 'smtpmail-native-batch-send "smtpmail-native-batch"
  "Send a message as the rest of the command line says, and exit Emacs.")
;;;###autoload
(autoload 'smtpmail-native-batch-flush "smtpmail-native-batch"
  "Send all waiting messages of the outbox once, and exit Emacs.")

;;;; The end

(defun smtpmail-native-unload-function ()
  "Restore stock smtpmail and stop sending messages of the outbox.
The messages stay in the outbox."
  (smtpmail-native-mode -1)
  (smtpmail-native-watch-stop)
  (smtpmail-native-line-remove)
  (remove-hook 'kill-emacs-query-functions #'smtpmail-native-act-may-quit-p)
  (dolist (variable '(send-mail-function message-send-mail-function))
    (when (and (boundp variable)
               (eq (symbol-value variable) #'smtpmail-native-send-it))
      (set variable #'smtpmail-send-it)))
  ;; The rest is done as usual.
  nil)

(provide 'smtpmail-native)
;;; smtpmail-native.el ends here
