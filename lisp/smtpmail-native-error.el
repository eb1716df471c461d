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

(defconst smtpmail-native-error--script-formats
  '(#x600 #x601 #x602 #x603 #x604 #x605 #x6dd #x70f #x890 #x891 #x8e2 #x110bd
    #x110cd)
  "Format characters that are seen: signs that span numbers in some scripts.")

(defconst smtpmail-native-error--joiners '(#x200c #x200d)
  "ZWNJ and ZWJ, which shape letters of many scripts, and emoji.")

(defun smtpmail-native-error--shown-p (char previous)
  "Return non-nil if CHAR, which follows PREVIOUS, can be shown as it is.
PREVIOUS is nil at the beginning of a text."
  (cond
   ((memq char smtpmail-native-error--script-formats) t)
   ;; Between letters of ASCII they would only hide.
   ((memq char smtpmail-native-error--joiners)
    (and previous (> previous #x7f)))
   (t (not (or (> char #x10ffff)
               (memq (get-char-code-property char 'general-category)
                     '(Cc Cf Cs Co Cn Zl Zp)))))))

(defun smtpmail-native-error-text (octets)
  "Return OCTETS, text of a server or nil, as a string that is safe to show.
It is decoded as UTF-8.  Control characters, those that format text or
change its direction, which could disguise what it says, and octets that
are not UTF-8 are shown in hex; those that letters of a script need stay."
  (let ((previous nil))
    (mapconcat
     (lambda (char)
       (prog1 (if (smtpmail-native-error--shown-p char previous)
                  (string char)
                (format "\\x%x" (if (> char #x3fff7f) (- char #x3fff00) char)))
         (setq previous char)))
     (decode-coding-string (or octets "") 'utf-8-unix) "")))

(provide 'smtpmail-native-error)
;;; smtpmail-native-error.el ends here
