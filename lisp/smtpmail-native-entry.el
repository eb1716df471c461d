;;; smtpmail-native-entry.el --- An entry of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; One message of the outbox as it was when its files were read, and whether
;; what was read has the types that all other code relies on.  Nothing here
;; touches a file, a buffer or a variable of the user.

;;; Code:

(require 'cl-lib)
(require 'seq)

(cl-defstruct (smtpmail-native-entry
               (:constructor smtpmail-native-entry-make)
               (:copier nil))
  "One message of the outbox, as it was when it was read."
  (id nil :documentation "Name of its directory; later entries sort after it.")
  (area "queue" :documentation "Directory of the outbox that holds it.")
  (envelope nil :documentation "Plist that never changes; see
`smtpmail-native-outbox-commit'.")
  (state nil :documentation "Plist that `smtpmail-native-outbox-set' changes.")
  (receipt nil :documentation "Plist of the module about the last attempt.")
  (problem nil :documentation "What is wrong with its files, a text, or nil.")
  (claim nil :documentation "That of the module while it is ours, or nil."))

;;;; Checks of what was read

(defun smtpmail-native-entry-plist-p (object key)
  "Return non-nil if OBJECT is a property list with a symbol as its KEY."
  (and (proper-list-p object)
       (cl-evenp (length object))
       (plist-get object key)
       (symbolp (plist-get object key))))

(defun smtpmail-native-entry-check-envelope (envelope)
  "Return ENVELOPE if it can be used, else signal an error."
  (if (and (proper-list-p envelope)
           (stringp (plist-get envelope :sender))
           (consp (plist-get envelope :recipients))
           (seq-every-p #'stringp (plist-get envelope :recipients))
           (stringp (plist-get envelope :host))
           (integerp (plist-get envelope :port)))
      envelope
    (error "It names no sender, recipients and server")))

(provide 'smtpmail-native-entry)
;;; smtpmail-native-entry.el ends here
