;;; smtpmail-native-spare.el --- Less garbage collection while much is done  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Emacs collects garbage after each 0.8 MB of it, which keeps you waiting for 40
;; ms however little garbage there is.  While thousands of messages are read or
;; sent that is most of all work.  So more may gather until that is over; then
;; `gc-cons-threshold' is what it was, unless other code has set it meanwhile.

;;; Code:

(defconst smtpmail-native-spare--octets (* 4 1024 1024)
  "Octets of garbage that may gather while much is done.")

(defmacro smtpmail-native-spare-while (&rest body)
  "Do BODY, which is over at once, and let more garbage gather meanwhile."
  (declare (indent 0) (debug t))
  `(let ((gc-cons-threshold (max gc-cons-threshold
                                 smtpmail-native-spare--octets)))
     ,@body))

(defvar smtpmail-native-spare--before nil
  "The value of `gc-cons-threshold' to go back to, or nil.")

(defun smtpmail-native-spare-begin ()
  "Let more garbage gather until `smtpmail-native-spare-end' is called."
  (unless (or smtpmail-native-spare--before
              (>= (default-toplevel-value 'gc-cons-threshold)
                  smtpmail-native-spare--octets))
    (setq smtpmail-native-spare--before
          (default-toplevel-value 'gc-cons-threshold))
    (set-default-toplevel-value 'gc-cons-threshold
                                smtpmail-native-spare--octets)))

(defun smtpmail-native-spare-end ()
  "Let as much garbage gather as before `smtpmail-native-spare-begin'."
  (when (and smtpmail-native-spare--before
             (= (default-toplevel-value 'gc-cons-threshold)
                smtpmail-native-spare--octets))
    (set-default-toplevel-value 'gc-cons-threshold
                                smtpmail-native-spare--before))
  (setq smtpmail-native-spare--before nil))

(provide 'smtpmail-native-spare)
;;; smtpmail-native-spare.el ends here
