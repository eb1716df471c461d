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

;;;; The types of what was read

(defun smtpmail-native-entry--texts-p (object)
  "Return non-nil if OBJECT is a list of strings."
  (and (proper-list-p object)
       (seq-every-p #'stringp object)))

(defun smtpmail-native-entry--text-p (object)
  "Return non-nil if OBJECT is a string or nil."
  (or (null object) (stringp object)))

(defun smtpmail-native-entry--plist-p (object)
  "Return non-nil if OBJECT is a property list."
  (and (proper-list-p object)
       (cl-evenp (length object))))

(defun smtpmail-native-entry--results-p (object)
  "Return non-nil if OBJECT is a list of what became of recipients.
Each element is (ADDRESS SYMBOL CODE ENHANCED TEXT)."
  (and (proper-list-p object)
       (seq-every-p (lambda (result)
                      (and (proper-list-p result)
                           (stringp (nth 0 result))
                           (symbolp (nth 1 result))
                           (or (null (nth 2 result)) (fixnump (nth 2 result)))
                           (smtpmail-native-entry--text-p (nth 3 result))
                           (smtpmail-native-entry--text-p (nth 4 result))))
                    object)))

(defun smtpmail-native-entry--copy-p (object)
  "Return non-nil if OBJECT is a plan of how the sent copy is filed."
  (and (smtpmail-native-entry--plist-p object)
       (smtpmail-native-entry--texts-p (plist-get object :fcc))
       (seq-every-p (lambda (key)
                      (smtpmail-native-entry--text-p (plist-get object key)))
                    '(:gcc :message-id))
       (seq-every-p (lambda (key)
                      (symbolp (plist-get object key)))
                    '(:function :handler :begun :filed))))

(defun smtpmail-native-entry--typed-p (value type)
  "Return non-nil if VALUE is of TYPE, a symbol or a list of values."
  (pcase type
    ('string (stringp value))
    ('text (smtpmail-native-entry--text-p value))
    ('texts (smtpmail-native-entry--texts-p value))
    ('addresses (and value (smtpmail-native-entry--texts-p value)))
    ('symbol (symbolp value))
    ('name (and value (symbolp value)))
    ;; What is no fixnum, or no number at all, would break arithmetic far away.
    ('count (or (null value) (and (fixnump value) (>= value 0))))
    ('code (or (null value) (fixnump value)))
    ('time (or (null value) (fixnump value)
               (and (floatp value) (< -1e15 value 1e15))))
    ('port (and (fixnump value) (<= 0 value 65535)))
    ('results (smtpmail-native-entry--results-p value))
    ('copy (smtpmail-native-entry--copy-p value))
    ('wishes (and (smtpmail-native-entry--plist-p value)
                  (smtpmail-native-entry--typed-p (plist-get value :release)
                                                  'time)))
    ((pred consp) (memq value type))))

(defconst smtpmail-native-entry--types
  '((envelope
     (:sender . string) (:recipients . addresses) (:host . string)
     (:port . port) (:stream . (nil plain starttls ssl tls)) (:user . text)
     (:helo . text) (:subject . text) (:message-id . text) (:from . text)
     (:fcc . texts) (:wishes . wishes) (:created . time) (:size . count)
     (:origin . texts))
    (state
     (:status . (ready held refused unknown sent)) (:hold . symbol)
     (:next . time) (:text . text) (:settled . count) (:tries . count)
     (:certificates . count) (:size . count) (:ascii . count)
     (:results . results) (:replies . results) (:copy . copy))
    (receipt
     (:kind . name) (:stage . symbol) (:attempt . count) (:time . time)
     (:code . code) (:enhanced . text) (:text . text) (:octets . count)
     (:reply . text) (:mechanism . text) (:offered . text)
     (:recipients . results)))
  "The types of properties that other code relies on, by kind of plist.
A property that has no line here may be any plain data.")

(defun smtpmail-native-entry-type-problem (object kind)
  "Return what is wrong with OBJECT, read from a file, a text or nil.
KIND is `envelope', `state' or `receipt'."
  (if (not (smtpmail-native-entry--plist-p object))
      "it is no property list"
    (let ((wrong (seq-find (lambda (pair)
                             (not (smtpmail-native-entry--typed-p
                                   (plist-get object (car pair)) (cdr pair))))
                           (cdr (assq kind smtpmail-native-entry--types)))))
      (and wrong
           (format "its %s is not what it must be" (car wrong))))))

;;;; The form that smtpmail reads

(defun smtpmail-native-entry-stock-form (envelope)
  "Return ENVELOPE as the Lisp form that smtpmail reads beside a message."
  (list 'setq
        'smtpmail-recipient-address-list (plist-get envelope :recipients)
        'smtpmail-smtp-server (plist-get envelope :host)
        'smtpmail-smtp-service (plist-get envelope :port)
        'smtpmail-smtp-user (plist-get envelope :user)
        'smtpmail-stream-type (plist-get envelope :stream)
        'smtpmail-native-envelope envelope))

(defun smtpmail-native-entry-stock-variables (form)
  "Return what FORM, which smtpmail would read, sets, as an alist.
That is ((VARIABLE . VALUE)...).  Nothing is evaluated.  Signal an error
if FORM has another shape."
  (unless (and (eq (car-safe form) 'setq) (proper-list-p form))
    (error "It is not of the form (setq VARIABLE VALUE...)"))
  (let ((alist nil))
    (setq form (cdr form))
    (while form
      (push (cons (car form)
                  (if (eq (car-safe (cadr form)) 'quote)
                      (car-safe (cdr-safe (cadr form)))
                    (cadr form)))
            alist)
      (setq form (cddr form)))
    (nreverse alist)))

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
