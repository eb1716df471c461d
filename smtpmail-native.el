;;; smtpmail-native.el --- Native transport for smtpmail  -*- lexical-binding: t; -*-

;; Copyright (C) 2026 The smtpmail-native developers

;; Author: The smtpmail-native developers
;; Version: 0.1.0
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
;; README.org is the manual.

;;; Code:

(eval-and-compile
  (add-to-list 'load-path
               (expand-file-name
                "lisp" (file-name-directory
                        (or load-file-name
                            (bound-and-true-p byte-compile-current-file)
                            buffer-file-name)))))

;;;; The classic variables

;; Users set them before or after this file is loaded; they are bound here only
;; to be known, and never given another value.
(defvar smtpmail-auth-credentials nil
  "Who the user is, for each mail server.
A list of (HOST PORT USER PASSWORD).  HOST is a string, compared without
regard to case; PORT an integer, a string of digits, or the name of a
service like \"submission\".  The first entry for a server counts.  USER
and PASSWORD may be nil: then they are asked for.  The value may also be
the name of a netrc file.")

(defvar smtpmail-starttls-credentials nil
  "Servers that must be talked to by STARTTLS.
A list of (HOST PORT KEYFILE CERTFILE), HOST and PORT as in
`smtpmail-auth-credentials'.  KEYFILE and CERTFILE name the PEM files of a
client certificate; nil or \"\" for none.  No mail is sent to such a server
without TLS.")

;;;; Options

(defgroup smtpmail-native nil
  "Native transport for mail."
  :group 'mail
  :link '(url-link "https://www.gnu.org/software/emacs/manual/html_mono/smtpmail.html"))

(defcustom smtpmail-native-timeout 60
  "Seconds that the server may take for each answer.
For the answer to the end of the message it is ten times as long."
  :type 'number)

(defcustom smtpmail-native-cleartext-auth 'loopback
  "Whether a connection without TLS may be used to authenticate.
The value `loopback' allows it to servers on this machine only, t to all,
nil to none.  Where it is not allowed no mail is sent."
  :type '(choice (const :tag "To this machine" loopback)
                 (const :tag "Always" t)
                 (const :tag "Never" nil)))

(defcustom smtpmail-native-auth-mechanisms nil
  "SASL mechanisms that may be used, in this order.
A list of names, strings or symbols.  The value nil stands for
SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5, PLAIN, LOGIN."
  :type '(repeat (choice symbol string)))

(defcustom smtpmail-native-build-directory nil
  "Where the module is built when Emacs is asked to.
The value nil stands for the folder of this package or, if that cannot be
written, \"smtpmail-native\" in the user's folder for Emacs."
  :type '(choice (const :tag "Folder of the package" nil) directory))

(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-queue)

;;;; Commands

(defun smtpmail-native--told (result seconds)
  "Return the line that tells of RESULT, which took SECONDS."
  (let ((recipients (plist-get result :recipient-list)))
    (format "Sent to %s%s in %.1f s" (car recipients)
            (if (cdr recipients) (format " and %d more" (length (cdr recipients)))
              "")
            seconds)))

;;;###autoload
(defun smtpmail-native-send-it ()
  "Send the mail in the current buffer; for `send-mail-function'.
The buffer holds header, `mail-header-separator' and body, and is not
altered.  Server, port, TLS and credentials are those of smtpmail's
variables.  Wait until the server has taken the mail for all recipients;
Emacs stays alive meanwhile, and \\[keyboard-quit] cancels.  Signal a child
of `smtpmail-native-error' for anything else."
  (condition-case err
      (let* ((start (float-time))
             (result (smtpmail-native-queue-send-buffer)))
        (message "%s" (smtpmail-native--told result (- (float-time) start))))
    (smtpmail-native-error
     ;; The backtrace of a batch Emacs shows only the beginning of the text.
     (when noninteractive
       (message "%s: %s" (get (car err) 'error-message) (cadr err)))
     (signal (car err) (cdr err)))))

(defun smtpmail-native--insert-certificate (certificate)
  "Insert what CERTIFICATE, a plist of the module, says."
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
            (format "  verified:   %s\n"
                    (if (equal reasons "") "yes" reasons)))))

(defun smtpmail-native--insert-info (account result)
  "Insert what RESULT tells of the server of ACCOUNT."
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
      (insert (format "Failure:      %s\n"
                      (smtpmail-native-error-describe
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
                "none offered")
            "\nCapabilities:\n")
    (dolist (line capabilities)
      (insert "  " line "\n"))))

;;;###autoload
(defun smtpmail-native-server-info ()
  "Show what the mail server says of itself.
That is its greeting, capabilities and mechanisms, the version and cipher of
TLS, and its certificate.  Nothing secret is sent."
  (interactive)
  (let* ((account (smtpmail-native-queue-account))
         (result (smtpmail-native-queue-probe account))
         (buffer (get-buffer-create "*smtpmail-native server info*")))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (smtpmail-native--insert-info account result)
        (goto-char (point-min)))
      (special-mode))
    (display-buffer buffer)))

(provide 'smtpmail-native)
;;; smtpmail-native.el ends here
