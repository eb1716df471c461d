;;; demo.el --- Send a real mail to the scripted server and show it  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `make demo': a mail from `message-mode', by STARTTLS and CRAM-MD5, with both
;; classic variables, to the server of the test suite.

;;; Code:

(require 'smtpmail-native-test-helper)

(defun demo-send (port)
  "Write a mail in `message-mode' and send it to the server at PORT.
Return the octets that were sent, with CRLF."
  (setq smtpmail-auth-credentials `(("localhost" ,port "user" "pass"))
        smtpmail-starttls-credentials `(("localhost" ,port nil nil)))
  (message-mail "bob@example.org" "A mail that leaves natively")
  (message-goto-body)
  (insert "Dear Bob,\n\nthis went out by C code: STARTTLS, CRAM-MD5, DATA.\n"
          ".A line that begins with a dot, and an umlaut: ä.\n")
  (let (octets)
    (add-hook 'smtpmail-native-sent-functions
              (lambda (mail)
                (with-temp-buffer
                  (set-buffer-multibyte nil)
                  (insert-file-contents-literally (plist-get mail :file))
                  (setq octets (replace-regexp-in-string
                                "\n" "\r\n" (buffer-string) t t)))))
    (let ((inhibit-message t))
      (message-send))
    (set-buffer-modified-p nil)
    octets))

(smtpmail-native-test-with-server
    (smtpmail-native-test-script
     (smtpmail-native-test-ehlo "STARTTLS")
     "C: STARTTLS" "S: 220 2.0.0 go ahead" "tls good"
     (smtpmail-native-test-ehlo "SIZE 50000000" "AUTH CRAM-MD5 LOGIN")
     "auth CRAM-MD5 user pass" smtpmail-native-test-mail)
  (let* ((octets (demo-send port))
         (inhibit-message nil)
         (trace (with-current-buffer "*trace of SMTP session to localhost*"
                  (buffer-string))))
    (smtpmail-native-test-verdict server)
    (let ((arrived (smtpmail-native-test-delivered folder)))
      (princ (format "---- the dialogue with localhost:%d ----\n%s" port trace))
      (princ (format "---- what arrived: %d octets ----\n%s" (length arrived)
                     (replace-regexp-in-string "\r" "" arrived)))
      (unless (equal arrived octets)
        (princ "---- it is NOT what was sent ----\n")
        (kill-emacs 1))
      (princ "---- octet by octet what was sent ----\n"))))

;;; demo.el ends here
