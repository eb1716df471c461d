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
(require 'smtpmail-native-options)
(require 'smtpmail-native-wishes)

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
       (cl-every #'stringp object)))

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
       (cl-every (lambda (result)
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
       (cl-every (lambda (key)
                      (smtpmail-native-entry--text-p (plist-get object key)))
                    '(:gcc :message-id))
       (cl-every (lambda (key)
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
    ('who (and (smtpmail-native-entry--plist-p value)
               (smtpmail-native-entry--text-p (plist-get value :instance))
               (smtpmail-native-entry--text-p (plist-get value :user))))
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
     (:identity . who) (:origin . texts) (:draft-size . count)
     (:draft-directory . text) (:account . text))
    (state
     (:status . (ready held refused unknown sent)) (:hold . symbol)
     (:next . time) (:since . time) (:by . who) (:text . text)
     (:settled . count) (:tries . count) (:certificates . count)
     (:size . count) (:ascii . count)
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
    (let ((wrong (cl-find-if
                  (lambda (pair)
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
  ;; A table has room for many without its size, which makes much garbage.
  (let ((table (make-hash-table :test #'equal :size (1+ (length results)))))
    (dolist (result results)
      (puthash (encode-coding-string (car result) 'utf-8) result table))
    table))

(defun smtpmail-native-entry-unanswered (entry results)
  "Return the recipients of ENTRY that RESULTS leave to be sent to."
  (let ((recipients (plist-get (smtpmail-native-entry-envelope entry)
                               :recipients))
        (table (and results (smtpmail-native-entry-by-address results))))
    (if (null table)
        recipients
      (seq-remove (lambda (address)
                    (memq (cadr (gethash (encode-coding-string address 'utf-8)
                                         table))
                          '(sent refused)))
                  recipients))))

(defun smtpmail-native-entry-remaining (entry)
  "Return the recipients of ENTRY that the message is still to be sent to.
A recipient that has received it is not among them, nor is one that a server
refused while it accepted the message for others."
  (smtpmail-native-entry-unanswered
   entry (plist-get (smtpmail-native-entry-state entry) :results)))

(defun smtpmail-native-entry--people (envelope)
  "Return the recipients of ENVELOPE in a few words."
  (let* ((recipients (plist-get envelope :recipients))
         ;; Of what is only known by the index the others are a number.
         (others (or (plist-get envelope :others)
                     (length (cdr recipients)))))
    (concat (smtpmail-native-error-text (car recipients))
            (if (> others 0) (format " and %d more" others) ""))))

(defun smtpmail-native-entry-people (entry)
  "Return the recipients of ENTRY in a few words."
  (smtpmail-native-entry--people (smtpmail-native-entry-envelope entry)))

(defun smtpmail-native-entry-title-of (envelope)
  "Return the subject and the recipients in ENVELOPE, as people name a message."
  (let ((subject (truncate-string-to-width
                  (string-trim (smtpmail-native-error-text
                                (plist-get envelope :subject)))
                  30 nil nil t))
        (people (smtpmail-native-entry--people envelope)))
    (if (equal subject "")
        (concat "a message to " people)
      (format "\u201c%s\u201d to %s" subject people))))

(defun smtpmail-native-entry-title (entry)
  "Return the subject and the recipients of ENTRY, as people name a message."
  (smtpmail-native-entry-title-of (smtpmail-native-entry-envelope entry)))

(defun smtpmail-native-entry-account-key (envelope)
  "Return what tells the account of ENVELOPE from others."
  (mapcar (lambda (key) (plist-get envelope key)) '(:host :port :user)))

(defun smtpmail-native-entry--get (entry key)
  "Return KEY of the state of ENTRY."
  (plist-get (smtpmail-native-entry-state entry) key))

(defun smtpmail-native-entry-status (entry)
  "Return the status of ENTRY, or `damaged' if its files are no good."
  (if (smtpmail-native-entry-problem entry)
      'damaged
    (smtpmail-native-entry--get entry :status)))

(defun smtpmail-native-entry-hold (entry)
  "Return why ENTRY is held, a symbol, or nil if it is not."
  (and (eq (smtpmail-native-entry-status entry) 'held)
       (or (smtpmail-native-entry--get entry :hold) 'user)))

;;;; May it have been delivered?

(defun smtpmail-native-entry-doubt-p (entry)
  "Return non-nil if ENTRY may have been delivered already.
Only the user's word sends it again, whatever else is known of it."
  (or (smtpmail-native-entry--get entry :doubt)
      (eq (smtpmail-native-entry--get entry :status) 'unknown)))

(defun smtpmail-native-entry-delivered-p (entry)
  "Return non-nil if some recipient of ENTRY has got it."
  (or (eq (smtpmail-native-entry--get entry :status) 'sent)
      (seq-some (lambda (result) (eq (cadr result) 'sent))
                (smtpmail-native-entry--get entry :results))))

;;;; When?

(defconst smtpmail-native-entry-longest-wait 3600
  "Seconds of the longest pause between two attempts.")

(defun smtpmail-native-entry--release (entry)
  "Return when ENTRY asks to be sent, in seconds, or nil."
  (plist-get (plist-get (smtpmail-native-entry-envelope entry) :wishes)
             :release))

(defun smtpmail-native-entry-release-time (entry &optional now)
  "Return until when ENTRY stays in the outbox, in seconds, or nil.
That is when it asks to be sent later than NOW, is to be kept here until
then, and the user has not sent it meanwhile."
  (let ((release (smtpmail-native-entry--release entry)))
    (and release
         (not (smtpmail-native-entry--get entry :now))
         (or (smtpmail-native-entry--get entry :here)
             (eq smtpmail-native-send-later 'outbox))
         (> release (or now (float-time)))
         release)))

(defun smtpmail-native-entry-next (entry now)
  "Return when ENTRY, which is ready, is sent, in seconds; at most NOW for now.
A time that is further away than any pause was set by a clock that was
wrong."
  (or (smtpmail-native-entry-release-time entry now)
      (let* ((next (or (smtpmail-native-entry--get entry :next) 0))
             (longest (max smtpmail-native-entry-longest-wait
                           (if (smtpmail-native-entry--get entry :undo)
                               smtpmail-native-undo-seconds
                             0))))
        (if (> next (+ now longest 1)) now next))))

(defun smtpmail-native-entry-due-p (entry now)
  "Return non-nil if ENTRY can be sent at the time NOW without a word."
  (and (eq (smtpmail-native-entry-status entry) 'ready)
       (not (smtpmail-native-entry-doubt-p entry))
       (<= (smtpmail-native-entry-next entry now) now)))

(defun smtpmail-native-entry-next-look (entry now)
  "Return when ENTRY is sent without a word, in seconds; nil means never.
It is not before NOW."
  (and (eq (smtpmail-native-entry-status entry) 'ready)
       (not (smtpmail-native-entry-doubt-p entry))
       (max now (smtpmail-native-entry-next entry now))))

(defun smtpmail-native-entry-old-p (entry now)
  "Return non-nil if ENTRY has been tried for too long at the time NOW.
Its age counts from when it was to be sent, or from the user's last word."
  (let ((since (max (or (plist-get (smtpmail-native-entry-envelope entry)
                                   :created)
                        now)
                    (or (smtpmail-native-entry--release entry) 0)
                    (or (smtpmail-native-entry--get entry :since) 0))))
    (and smtpmail-native-expire
         (> (- now since) smtpmail-native-expire))))

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

(defun smtpmail-native-entry-offline-p (entry)
  "Return non-nil if ENTRY is tried again after it failed for the network."
  (and (smtpmail-native-entry--get entry :network)
       (eq (smtpmail-native-entry-status entry) 'ready)
       (not (smtpmail-native-entry-doubt-p entry))))

;;;; What the user can do

(defun smtpmail-native-entry-undo-p (entry)
  "Return non-nil if the sending of ENTRY can still be undone.
A scheduled message is never one."
  (and (eq (smtpmail-native-entry-status entry) 'ready)
       (smtpmail-native-entry--get entry :undo)
       (null (smtpmail-native-entry--release entry))))

(defun smtpmail-native-entry-needs-user-p (entry)
  "Return non-nil if nothing happens to ENTRY until the user acts.
An entry that the user holds is not one."
  (pcase (smtpmail-native-entry-status entry)
    ((or 'damaged 'refused 'unknown) t)
    ('held (or (smtpmail-native-entry-doubt-p entry)
               (not (memq (smtpmail-native-entry-hold entry) '(queue user)))))
    ('ready (smtpmail-native-entry-doubt-p entry))))

(defun smtpmail-native-entry-queued-p (entry)
  "Return non-nil if ENTRY waits for a flush, and only for that."
  (and (eq (smtpmail-native-entry-hold entry) 'queue)
       (not (smtpmail-native-entry-doubt-p entry))))

(defun smtpmail-native-entry-flushable-p (entry)
  "Return non-nil if a flush of the outbox sends ENTRY."
  (and (not (smtpmail-native-entry-doubt-p entry))
       (pcase (smtpmail-native-entry-status entry)
         ('ready (not (smtpmail-native-entry-release-time entry)))
         ('held (memq (smtpmail-native-entry-hold entry) '(queue expired))))))

(defun smtpmail-native-entry-locked-p (entry)
  "Return non-nil if ENTRY is held for a password or passphrase.
One that may have been delivered is not sent because a password was typed."
  (and (eq (smtpmail-native-entry-hold entry) 'password)
       (not (smtpmail-native-entry-doubt-p entry))))

(defun smtpmail-native-entry-untrusted-p (entry)
  "Return non-nil if ENTRY is held for the certificate of its server."
  (and (eq (smtpmail-native-entry-hold entry) 'certificate)
       (not (smtpmail-native-entry-doubt-p entry))))

;;;; Earlier attempts of other sessions

(defun smtpmail-native-entry-why (entry)
  "Return why ENTRY is held for a password, a symbol or nil.
It is `refused', `passphrase', `demanded' or `missing'; or `lookup' if a
place that may have it could not be asked, which holds nothing."
  (plist-get (smtpmail-native-entry--get entry :by) :why))

(defun smtpmail-native-entry-by-p (entry instance)
  "Return non-nil if ENTRY is held for what INSTANCE has tried or lacks.
INSTANCE names an Emacs session."
  (equal (plist-get (smtpmail-native-entry--get entry :by) :instance)
         instance))

(defun smtpmail-native-entry-other-way-p (entry instance)
  "Return non-nil if INSTANCE, an Emacs session, may be able to send ENTRY.
Another one could not, for what is not a fact of the entry: a password, an
exception for a certificate, an option."
  (and (memq (smtpmail-native-entry-hold entry)
             '(password certificate settings error))
       (not (smtpmail-native-entry-doubt-p entry))
       (smtpmail-native-entry--get entry :by)
       (not (smtpmail-native-entry-by-p entry instance))))

(defun smtpmail-native-entry-tried-p (entry found)
  "Return non-nil if the server has refused FOUND for ENTRY already.
FOUND are credentials, see `smtpmail-native-auth-find'.  What was tried is
known by its user and source, never by its secret."
  (let ((by (smtpmail-native-entry--get entry :by)))
    (and (memq (plist-get by :why) '(refused passphrase))
         (equal (plist-get by :user) (plist-get found :user))
         (eq (plist-get by :source) (plist-get found :source)))))

(provide 'smtpmail-native-entry)
;;; smtpmail-native-entry.el ends here
