;;; smtpmail-native-error.el --- Conditions, and text that is safe to show  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; All errors of this package are children of `smtpmail-native-error'.  Their
;; data is (TEXT), a string for people.
;;
;; The command loop prints such data like Lisp objects: a string in quotes, with
;; backslashes inside.  It prints a string as it is only for `user-error' itself
;; and for conditions with `file-error' among them.  So where an error leaves a
;; command, it is signaled again by a condition that has that, too.

;;; Code:

(define-error 'smtpmail-native-error "Message not sent")
(define-error 'smtpmail-native-usage-error "Message not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-module-error "Message not sent"
  'smtpmail-native-usage-error)
(define-error 'smtpmail-native-malformed-message "Message not sent"
  'smtpmail-native-usage-error)
(define-error 'smtpmail-native-connection-error "Message not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-tls-error "Message not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-auth-error "Message not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-refused "Message refused"
  'smtpmail-native-error)
(define-error 'smtpmail-native-deferred "Message deferred"
  'smtpmail-native-error)
(define-error 'smtpmail-native-cancelled "Message not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-outbox-error "Message not sent"
  'smtpmail-native-error)
(define-error 'smtpmail-native-unknown-outcome "Message may have been delivered"
  'smtpmail-native-error)

(defun smtpmail-native-error-signal (condition text)
  "Signal CONDITION with the message TEXT."
  (signal condition (list text)))

;;;; Where an error leaves a command

(defun smtpmail-native-error-line (err)
  "Return ERR, a child of `smtpmail-native-error', as one string for people."
  (format "%s: %s" (get (car err) 'error-message) (cadr err)))

(defun smtpmail-native-error--shown (condition)
  "Return a condition like CONDITION whose text is shown as it is.
All handlers of CONDITION handle it, too, since it has the same parents."
  (let ((shown (intern (format "%s--shown" condition))))
    (put shown 'error-message (get condition 'error-message))
    (put shown 'error-conditions
         (append (cons shown (get condition 'error-conditions))
                 '(file-error)))
    shown))

(defun smtpmail-native-error-leave (err)
  "Signal ERR, a child of `smtpmail-native-error', again for a person.
The conditions stay the same, but the data is all that the command loop is to
show.  In batch mode, and where the debugger shows it, ERR is as it was."
  (if (or noninteractive debug-on-error
          (memq 'file-error (get (car err) 'error-conditions)))
      (signal (car err) (cdr err))
    (signal (smtpmail-native-error--shown (car err))
            (list (smtpmail-native-error-line err)))))

(defmacro smtpmail-native-error-leaving (&rest body)
  "Run BODY, a command; what it signals is shown without Lisp quotes."
  (declare (indent 0) (debug t))
  `(condition-case err
       (progn ,@body)
     (smtpmail-native-error (smtpmail-native-error-leave err))))

;;;; Text of others

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
are not UTF-8 are shown in hex; those that letters of a script need stay.
A backslash that the module has doubled is one again."
  (let ((previous nil))
    (mapconcat
     (lambda (char)
       (prog1 (if (smtpmail-native-error--shown-p char previous)
                  (string char)
                (format "\\x%x" (if (> char #x3fff7f) (- char #x3fff00) char)))
         (setq previous char)))
     (string-replace "\\\\" "\\"
                     (decode-coding-string (or octets "") 'utf-8-unix))
     "")))

(provide 'smtpmail-native-error)
;;; smtpmail-native-error.el ends here
