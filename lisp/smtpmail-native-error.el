;;; smtpmail-native-error.el --- Conditions, and text that is safe to show  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; All errors of this package are children of `smtpmail-native-error'.  Their
;; data is (TEXT), the whole message for people.

;;; Code:

(define-error 'smtpmail-native-error "Mail not sent")
(define-error 'smtpmail-native-usage-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-module-error "Mail not sent"
  'smtpmail-native-usage-error)
(define-error 'smtpmail-native-malformed-message "Mail not sent"
  'smtpmail-native-usage-error)
(define-error 'smtpmail-native-connection-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-tls-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-auth-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-refused "Mail refused"
  'smtpmail-native-error)
(define-error 'smtpmail-native-deferred "Mail not sent for now"
  'smtpmail-native-error)
(define-error 'smtpmail-native-cancelled "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-outbox-error "Mail not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-unknown-outcome "Mail may have been sent"
  'smtpmail-native-error)

(defun smtpmail-native-error-signal (condition text)
  "Signal CONDITION with the message TEXT."
  (signal condition (list text)))

(defun smtpmail-native-error-text (octets)
  "Return OCTETS, text of a server or nil, as a string that is safe to show.
It is decoded as UTF-8; control and formatting characters, which could
disguise what it says, and octets that are no UTF-8 are shown in hex."
  (replace-regexp-in-string
   "[[:multibyte:][:cntrl:]]"
   (lambda (char)
     (if (or (memq (get-char-code-property (aref char 0) 'general-category)
                   '(Cc Cf Cs Co Cn Zl Zp))
             (> (aref char 0) #x10ffff))
         (format "\\x%x" (let ((c (aref char 0)))
                           (if (> c #x3fff7f) (- c #x3fff00) c)))
       char))
   (decode-coding-string (or octets "") 'utf-8) t t))

(provide 'smtpmail-native-error)
;;; smtpmail-native-error.el ends here
