;;; smtpmail-native-leftovers.el --- What killed sessions left in the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; An Emacs that is killed, or loses its power, may leave half of an entry in
;; incoming/ or in trash/.  A whole message is brought into the queue, where it
;; is held; what cannot be one is deleted.  Copies that could not be filed are
;; kept in unfiled/ until the user deletes them.

;;; Code:

(require 'smtpmail-native-data)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)

(declare-function smtpmail-native-module-release "smtpmail-native-module"
                  (claim))

(defconst smtpmail-native-leftovers--young 60
  "Seconds for which an entry in incoming/ may have no claim yet.")

(defun smtpmail-native-leftovers--abandoned (area age)
  "Return claims of the entries in AREA of the outbox that have no owner.
The value is a list of (ENTRY . CLAIM).  Leave out those that are younger
than AGE, in seconds: their Emacs may not have claimed them yet."
  (let ((directory (smtpmail-native-outbox-area area)))
    (delq nil
          (mapcar
           (lambda (id)
             (let* ((entry (smtpmail-native-entry-make :id id :area area))
                    (folder (directory-file-name
                             (smtpmail-native-outbox-file entry)))
                    (attributes (file-attributes folder))
                    (claim (and attributes
                                (not (smtpmail-native-data-file-problem
                                      folder t))
                                (>= (float-time
                                     (time-since
                                      (file-attribute-modification-time
                                       attributes)))
                                    age)
                                (ignore-errors
                                  (smtpmail-native-outbox-lock folder)))))
               (and claim (cons entry claim))))
           (and directory (directory-files directory nil "\\`[^.]"))))))

(defun smtpmail-native-leftovers--message-p (entry)
  "Return non-nil if ENTRY has any octets of a message or draft."
  (let ((size (file-attribute-size
               (file-attributes
                (smtpmail-native-outbox-file entry "message")))))
    (or (and size (> size 0))
        ;; It may be long, and a timer reads it.
        (smtpmail-native-outbox-draft entry))))

(defun smtpmail-native-leftovers--adopt (entry claim)
  "Bring ENTRY, whose claim is CLAIM, from incoming/ into the queue, held.
Delete it if it holds nothing of a message.  Return non-nil if it is in the
queue now."
  (let ((queued (smtpmail-native-entry-make
                 :id (smtpmail-native-entry-id entry))))
    (cond
     ((not (smtpmail-native-leftovers--message-p entry))
      (delete-directory (smtpmail-native-outbox-file entry) t)
      nil)
     ((file-exists-p (directory-file-name (smtpmail-native-outbox-file queued)))
      nil)
     (t
      (smtpmail-native-outbox-make-area "queue")
      (rename-file (directory-file-name (smtpmail-native-outbox-file entry))
                   (directory-file-name (smtpmail-native-outbox-file queued)))
      (setf (smtpmail-native-entry-claim queued) claim)
      (smtpmail-native-outbox-load queued)
      ;; The user was not told that it would be sent.
      (unwind-protect
          (smtpmail-native-outbox-set queued :status 'held :hold 'interrupted)
        (smtpmail-native-outbox-release queued))
      t))))

(defun smtpmail-native-leftovers-adopt ()
  "Bring messages whose Emacs ended while it committed them into the queue.
They are held: the user was not told that they would be sent.  One of which a
part is missing is damaged, and listed as such.  What holds no message is
deleted.  Return the number of entries that are in the queue now."
  (let ((count 0))
    (pcase-dolist (`(,entry . ,claim)
                   (smtpmail-native-leftovers--abandoned
                    "incoming" smtpmail-native-leftovers--young))
      (let ((adopted nil))
        (unwind-protect
            (condition-case nil
                (when (setq adopted
                            (smtpmail-native-leftovers--adopt entry claim))
                  (setq count (1+ count)))
              ;; The next look tries again.
              (error nil))
          (unless adopted
            (smtpmail-native-module-release claim)))))
    count))

(defun smtpmail-native-leftovers-empty-trash ()
  "Delete what is left of entries whose deletion was interrupted."
  (pcase-dolist (`(,entry . ,claim)
                 (smtpmail-native-leftovers--abandoned "trash" 0))
    (smtpmail-native-module-release claim)
    (ignore-errors
      (smtpmail-native-outbox-discard
       (directory-file-name (smtpmail-native-outbox-file entry))))))

(defun smtpmail-native-leftovers-unfiled ()
  "Return the files of messages that were sent, but whose copy was not filed."
  (let ((directory (smtpmail-native-outbox-area "unfiled")))
    (and directory (directory-files directory t "\\`[^.].*\\.eml\\'"))))

(provide 'smtpmail-native-leftovers)
;;; smtpmail-native-leftovers.el ends here
