;;; smtpmail-native-server.el --- What a mail server shows  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What a server says of itself to everybody, and its certificate, which you can
;; pin.  Nothing here logs in or sends a secret.

;;; Code:

(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-job)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-trust)
(require 'smtpmail-native-verdict)
(require 'smtpmail-native-wait)

(defun smtpmail-native-server--insert-certificate (certificate host)
  "Insert a description of CERTIFICATE, a plist of the module, of HOST."
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
                    (cond ((not (plist-get certificate :pinned))
                           (if (equal reasons "") "yes" reasons))
                          ((smtpmail-native-trust-users-pins host)
                           "no, but it matches your pin")
                          (t "no, but you accepted it (Network Security \
Manager)"))))))

(defun smtpmail-native-server--insert-info (account result)
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
      (smtpmail-native-server--insert-certificate certificate
                                                  (plist-get account :host)))
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
    (let* ((account (smtpmail-native-job-account-here))
           (result (smtpmail-native-wait-probe account))
           (buffer (get-buffer-create "*smtpmail-native server info*")))
      (with-current-buffer buffer
        (let ((inhibit-read-only t))
          (erase-buffer)
          (smtpmail-native-server--insert-info account result)
          (goto-char (point-min)))
        (special-mode))
      (display-buffer buffer))))

(defun smtpmail-native-server--shown-certificate (account)
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
    (let* ((account (smtpmail-native-job-account-here))
           (host (plist-get account :host))
           (shown (smtpmail-native-server--shown-certificate account)))
      (with-help-window "*smtpmail-native certificate*"
        (with-current-buffer standard-output
          (smtpmail-native-server--insert-certificate shown host)))
      (when (yes-or-no-p
             (format "Trust only this certificate for %s from now on? " host))
        (smtpmail-native-trust-add-pin host (plist-get shown :sha256))
        (smtpmail-native-schedule-trust-changed host
                                                (plist-get account :port))))))

(provide 'smtpmail-native-server)
;;; smtpmail-native-server.el ends here
