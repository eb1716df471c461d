;;; smtpmail-native-row.el --- How an entry is worded  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; One entry of the outbox as people read it: the name of its state with a face,
;; and the columns of a line.  All text of others is made safe to show.

;;; Code:

(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'smtpmail-native-tell)

;;;; Faces

(defface smtpmail-native-sending '((t :inherit success))
  "Face for a message that is being sent."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-waiting '((t :inherit default))
  "Face for a message that Emacs will send or retry."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-undo '((t :inherit font-lock-keyword-face))
  "Face for a message whose sending can still be undone."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-held '((t :inherit shadow))
  "Face for a message that is held until you act."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-attention '((t :inherit warning))
  "Face for a message that needs attention, and for their number."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-refused '((t :inherit error))
  "Face for a message that the server refused."
  :group 'smtpmail-native-faces)

(defface smtpmail-native-damaged '((t :inherit error))
  "Face for a message whose files are damaged."
  :group 'smtpmail-native-faces)

;;;; How an entry is worded

(defun smtpmail-native-row-percentage (sending)
  "Return how much of SENDING is done in percent, or nil if nothing is."
  (let ((sent (smtpmail-native-sending-sent sending))
        (total (smtpmail-native-sending-total sending)))
    (and (> sent 0)
         (> total 0)
         (min 100 (floor (* 100.0 sent) total)))))

(defun smtpmail-native-row--ready-wording (entry now)
  "Return the wording of ENTRY, which is ready, as (TEXT . FACE), at NOW."
  (let ((release (smtpmail-native-entry-release-time entry now))
        (left (- (smtpmail-native-entry-next entry now) now)))
    (cond
     ((smtpmail-native-entry-undo-p entry)
      (cons (format "undo %ds" (max 0 (ceiling left))) 'smtpmail-native-undo))
     (release
      (cons (concat "until " (smtpmail-native-tell-date release))
            'smtpmail-native-waiting))
     ((> left 0)
      (cons (concat "retry in " (smtpmail-native-row--span (ceiling left)))
            'smtpmail-native-waiting))
     (t '("waiting" . smtpmail-native-waiting)))))

(defun smtpmail-native-row--held-wording (entry)
  "Return the wording of ENTRY, which is held, as (TEXT . FACE)."
  (pcase (smtpmail-native-entry-hold entry)
    ('queue '("queued" . smtpmail-native-held))
    ('user '("held" . smtpmail-native-held))
    ('password '("password" . smtpmail-native-attention))
    ('certificate '("certificate" . smtpmail-native-attention))
    ('settings '("settings" . smtpmail-native-attention))
    ('expired '("gave up" . smtpmail-native-attention))
    (_ '("held" . smtpmail-native-attention))))

(defun smtpmail-native-row--wording (entry now)
  "Return the state of ENTRY at the time NOW as (TEXT . FACE)."
  (let* ((sending (smtpmail-native-attempt-sending
                   (smtpmail-native-entry-id entry)))
         (percentage (and sending
                          (smtpmail-native-row-percentage sending))))
    (cond
     (percentage (cons (format "sending %d%%" percentage)
                       'smtpmail-native-sending))
     (sending '("sending" . smtpmail-native-sending))
     ((smtpmail-native-entry-problem entry)
      '("damaged" . smtpmail-native-damaged))
     ((smtpmail-native-entry-doubt-p entry)
      '("unconfirmed" . smtpmail-native-attention))
     (t (pcase (smtpmail-native-entry-status entry)
          ('ready (smtpmail-native-row--ready-wording entry now))
          ('refused '("refused" . smtpmail-native-refused))
          ('sent '("sent" . smtpmail-native-held))
          (_ (smtpmail-native-row--held-wording entry)))))))

(defun smtpmail-native-row-state (entry)
  "Return the state of ENTRY as people call it, a string with a face."
  (pcase-let ((`(,text . ,face)
               (smtpmail-native-row--wording entry (float-time))))
    (propertize text 'face face)))

(defun smtpmail-native-row--span (seconds)
  "Return the time span SECONDS in at most four characters."
  (cond ((< seconds 0) "0s")
        ((< seconds 60) (format "%ds" seconds))
        ((< seconds 3600) (format "%dm" (/ seconds 60)))
        ((< seconds 86400) (format "%dh" (/ seconds 3600)))
        (t (format "%dd" (/ seconds 86400)))))

(defun smtpmail-native-row--safe (text)
  "Return the start of TEXT, a string or nil, safe to show in a line.
To make megabytes of a planted file safe takes many seconds."
  (smtpmail-native-error-text
   (and text (substring text 0 (min (length text) 2000)))))

(defun smtpmail-native-row-words (entry)
  "Return why ENTRY is not sent yet, the server's own words first, a string."
  (let ((reason (smtpmail-native-row-reason entry)))
    (if (string-match ": \\([245][0-9][0-9] [^ ].*\\)\\'" reason)
        (match-string 1 reason)
      reason)))

(defun smtpmail-native-row-reason (entry)
  "Return why ENTRY is not sent yet, a string that is safe to show."
  (smtpmail-native-row--safe
   (or (smtpmail-native-entry-problem entry)
       (plist-get (smtpmail-native-entry-state entry) :text))))

(defun smtpmail-native-row--next (entry now)
  "Return when ENTRY is tried again, as seen from NOW, a string."
  (if (or (not (eq (smtpmail-native-entry-status entry) 'ready))
          (smtpmail-native-entry-doubt-p entry)
          (smtpmail-native-attempt-sending (smtpmail-native-entry-id entry)))
      ""
    (let ((left (- (smtpmail-native-entry-next entry now) now)))
      (if (> left 0)
          (smtpmail-native-row--span (ceiling left))
        "now"))))

(defun smtpmail-native-row-number (entry what)
  "Return the number of ENTRY that WHAT names, for sorting.
WHAT is `size', `age', `tries' or `next'."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (state (smtpmail-native-entry-state entry)))
    (or (pcase what
          ('size (plist-get envelope :size))
          ('age (- (or (plist-get envelope :created) 0)))
          ('tries (plist-get state :tries))
          ('next (if (eq (plist-get state :status) 'ready)
                     (or (plist-get state :next) 0)
                   most-positive-fixnum)))
        0)))

(defun smtpmail-native-row--account (envelope)
  "Return what tells the account of ENVELOPE, if there are several."
  (let ((account (plist-get envelope :account)))
    (if (and account (cdr smtpmail-native-accounts))
        (format " (%s)" (smtpmail-native-error-text account))
      "")))

(defun smtpmail-native-row--to (envelope)
  "Return the first recipient of ENVELOPE, the number of the others, the account."
  (let* ((recipients (plist-get envelope :recipients))
         (others (or (plist-get envelope :others)
                     (length (cdr recipients)))))
    (concat (smtpmail-native-error-text (or (car recipients) "?"))
            (if (> others 0) (format " +%d" others) "")
            (smtpmail-native-row--account envelope))))

(defvar smtpmail-native-row--texts
  (make-hash-table :test #'eq :weakness 'key)
  "What does not change while an entry is known, by the entry.
That is (TO SUBJECT SIZE TRIES REASON); to make it safe to show takes most
of the time of drawing.")

(defun smtpmail-native-row--texts (entry)
  "Return the value for ENTRY in the variable of this name."
  (or (gethash entry smtpmail-native-row--texts)
      (let* ((envelope (smtpmail-native-entry-envelope entry))
             (size (plist-get envelope :size))
             (tries (plist-get (smtpmail-native-entry-state entry) :tries)))
        (puthash entry
                 (list (smtpmail-native-row--to envelope)
                       (smtpmail-native-row--safe
                        (plist-get envelope :subject))
                       (if size (file-size-human-readable size) "")
                       (if tries (number-to-string tries) "")
                       (smtpmail-native-row-words entry))
                 smtpmail-native-row--texts))))

(defun smtpmail-native-row-to (entry)
  "Return the recipients of ENTRY as its line shows them, a string."
  (nth 0 (smtpmail-native-row--texts entry)))

(defun smtpmail-native-row-subject (entry)
  "Return the subject of ENTRY as its line shows it, a string."
  (nth 1 (smtpmail-native-row--texts entry)))

(defun smtpmail-native-row-columns (entry now)
  "Return the columns of ENTRY at the time NOW, a vector of strings."
  (pcase-let ((`(,to ,subject ,size ,tries ,reason)
               (smtpmail-native-row--texts entry))
              (created (plist-get (smtpmail-native-entry-envelope entry)
                                  :created)))
    (vector (smtpmail-native-row-state entry)
            to subject size
            (if created
                (smtpmail-native-row--span (max 0 (floor (- now created))))
              "")
            tries
            (smtpmail-native-row--next entry now)
            reason)))

(provide 'smtpmail-native-row)
;;; smtpmail-native-row.el ends here
