;;; smtpmail-native-entry.el --- An entry of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; One message of the outbox as it was when its files were read, and whether
;; what was read has the types that all other code relies on.  Nothing here
;; touches a file, a buffer or a variable of the user.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-error)

(defvar smtpmail-native-send-later)

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

;;;; What an entry is to us

(defun smtpmail-native-entry-by-address (results)
  "Return a hash table of RESULTS, an alist of recipients.
Its keys are octets: what was read back from a receipt may be another
string for the same address."
  (let ((table (make-hash-table :test #'equal)))
    (dolist (result results)
      (puthash (encode-coding-string (car result) 'utf-8) result table))
    table))

(defun smtpmail-native-entry-unanswered (entry results)
  "Return the recipients of ENTRY that RESULTS leave to be sent to."
  (let ((table (smtpmail-native-entry-by-address results)))
    (seq-remove (lambda (address)
                  (memq (cadr (gethash (encode-coding-string address 'utf-8)
                                       table))
                        '(sent refused)))
                (plist-get (smtpmail-native-entry-envelope entry)
                           :recipients))))

(defun smtpmail-native-entry-remaining (entry)
  "Return the recipients of ENTRY that the mail is still to be sent to.
Those that have got it are none of them, nor are those that a server has
refused while it took the mail for others."
  (smtpmail-native-entry-unanswered
   entry (plist-get (smtpmail-native-entry-state entry) :results)))

(defun smtpmail-native-entry-people (entry)
  "Return the recipients of ENTRY in a few words."
  (let ((recipients (plist-get (smtpmail-native-entry-envelope entry)
                               :recipients)))
    (concat (smtpmail-native-error-text (car recipients))
            (if (cdr recipients)
                (format " and %d more" (length (cdr recipients)))
              ""))))

(defun smtpmail-native-entry-account-key (envelope)
  "Return what tells the account of ENVELOPE from others."
  (mapcar (lambda (key) (plist-get envelope key)) '(:host :port :user)))

(defun smtpmail-native-entry-release-time (entry)
  "Return the time in seconds until which ENTRY stays in the outbox, or nil.
That is when it asks to be sent later, is to be kept here until then, and
the user has not sent it meanwhile."
  (let ((release (plist-get (plist-get (smtpmail-native-entry-envelope entry)
                                       :wishes)
                            :release))
        (state (smtpmail-native-entry-state entry)))
    (and release
         (not (plist-get state :now))
         (or (plist-get state :here)
             (eq smtpmail-native-send-later 'outbox))
         (> release (float-time))
         release)))

(defun smtpmail-native-entry-due-p (entry now)
  "Return non-nil if ENTRY can be sent at the time NOW without a word."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (null (smtpmail-native-entry-problem entry))
         (eq (plist-get state :status) 'ready)
         (<= (or (plist-get state :next) 0) now)
         (not (smtpmail-native-entry-release-time entry)))))

(defun smtpmail-native-entry-next-look (entry)
  "Return when ENTRY, which is not sent now, is due, in seconds, or nil."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (null (smtpmail-native-entry-problem entry))
         (eq (plist-get state :status) 'ready)
         (or (smtpmail-native-entry-release-time entry)
             (plist-get state :next)
             (float-time)))))

(defun smtpmail-native-entry-unsettled-p (entry)
  "Return non-nil if ENTRY was left in the middle of something."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (smtpmail-native-entry-envelope entry)
         (or (eq (plist-get state :status) 'sent)
             (plist-get state :wait)
             (let ((receipt (smtpmail-native-entry-receipt entry)))
               (and receipt
                    (> (or (plist-get receipt :attempt) most-positive-fixnum)
                       (or (plist-get state :settled) 0))))))))

(defun smtpmail-native-entry-needs-user-p (entry)
  "Return non-nil if nothing happens to ENTRY until the user does something.
That is not said of what is held at the user's own wish."
  (let ((state (smtpmail-native-entry-state entry)))
    (or (smtpmail-native-entry-problem entry)
        (memq (plist-get state :status) '(refused unknown))
        (and (eq (plist-get state :status) 'held)
             (not (memq (plist-get state :hold) '(queue user)))))))

(defun smtpmail-native-entry-flushable-p (entry)
  "Return non-nil if `smtpmail-native-act-flush' would send ENTRY."
  (let* ((state (smtpmail-native-entry-state entry))
         (status (plist-get state :status)))
    (and (null (smtpmail-native-entry-problem entry))
         (if (eq status 'ready)
             (not (smtpmail-native-entry-release-time entry))
           (and (eq status 'held)
                (memq (plist-get state :hold) '(queue expired)))))))

(defun smtpmail-native-entry-locked-p (entry)
  "Return non-nil if ENTRY is held for want of a password."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (eq (plist-get state :status) 'held)
         (eq (plist-get state :hold) 'password)
         (null (smtpmail-native-entry-problem entry)))))

(defun smtpmail-native-entry-secret-refused-p (state)
  "Return non-nil if the secret of an entry with STATE was wrong or missing."
  (and (eq (plist-get state :hold) 'password)
       (or (plist-get state :refused) (plist-get state :passphrase))))

(defun smtpmail-native-entry-untrusted-p (entry)
  "Return non-nil if ENTRY is held for the certificate of its server."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (eq (plist-get state :status) 'held)
         (eq (plist-get state :hold) 'certificate)
         (null (smtpmail-native-entry-problem entry)))))

(defun smtpmail-native-entry-undo-p (entry)
  "Return non-nil if the sending of ENTRY can still be undone."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (plist-get state :undo)
         (eq (plist-get state :status) 'ready)
         (not (smtpmail-native-entry-release-time entry)))))

(provide 'smtpmail-native-entry)
;;; smtpmail-native-entry.el ends here
