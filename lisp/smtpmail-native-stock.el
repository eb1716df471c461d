;;; smtpmail-native-stock.el --- The queue that is shared with smtpmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; smtpmail keeps queued mail in `smtpmail-queue-dir': a file of octets, a file
;; of the same name and ".el" behind, and a line with the name in an index.
;; Programs count these lines.  So the index has a line for each mail of the
;; outbox that waits, and what smtpmail itself has queued becomes an entry.
;; Mails that are being sent, were refused or may have arrived have no line:
;; smtpmail would send them again.

;;; Code:

(require 'seq)
(require 'smtpmail-native-queue)

(defvar smtpmail-queue-dir)
(defvar smtpmail-queue-index-file)
(defvar smtpmail-recipient-address-list)

(defvar smtpmail-native-stock--timer nil
  "The timer that writes the index, or nil.")

;;;; The index

(defun smtpmail-native-stock--index ()
  "Return the file name of the index."
  (require 'smtpmail)
  (expand-file-name smtpmail-queue-index-file smtpmail-queue-dir))

(defun smtpmail-native-stock--lines ()
  "Return the lines of the index, without empty ones."
  (let ((index (smtpmail-native-stock--index)))
    (and (file-readable-p index)
         (with-temp-buffer
           (insert-file-contents index)
           (split-string (buffer-string) "\n" t "[ \t\r]+")))))

(defun smtpmail-native-stock--ours-p (line)
  "Return non-nil if LINE of the index is for an entry of the outbox."
  (string-prefix-p (expand-file-name "queue/" smtpmail-native-outbox-directory)
                   (expand-file-name line)))

(defun smtpmail-native-stock--waiting ()
  "Return the messages of the outbox that smtpmail could send, as files."
  (delq nil
        (mapcar
         (lambda (entry)
           (let ((state (smtpmail-native-entry-state entry)))
             (and (null (smtpmail-native-entry-problem entry))
                  (not (smtpmail-native-queue-sending
                        (smtpmail-native-entry-id entry)))
                  (or (eq (plist-get state :status) 'ready)
                      (and (eq (plist-get state :status) 'held)
                           (eq (plist-get state :hold) 'queue)))
                  (smtpmail-native-outbox-file entry "message"))))
         (smtpmail-native-outbox-list))))

(defun smtpmail-native-stock-write-index ()
  "Bring the index of smtpmail's queue up to date.
Lines that are not ours stay.  Nothing is made where there is no queue and
nothing waits.  Signal `smtpmail-native-outbox-error' if it cannot be
written."
  (let* ((index (smtpmail-native-stock--index))
         (old (smtpmail-native-stock--lines))
         (new (append (seq-remove #'smtpmail-native-stock--ours-p old)
                      (smtpmail-native-stock--waiting))))
    (unless (equal old new)
      (condition-case err
          (let ((coding-system-for-write 'utf-8-unix)
                (fresh (concat index ".new")))
            (make-directory (file-name-directory index) t)
            (write-region (mapconcat (lambda (line) (concat line "\n")) new "")
                          nil fresh nil 'silent)
            (rename-file fresh index t))
        (file-error
         (smtpmail-native-error-signal
          'smtpmail-native-outbox-error
          (format "Cannot write the index of queued mail: %s"
                  (error-message-string err))))))))

(defun smtpmail-native-stock--on-timer ()
  "Write the index; an error is a warning."
  (condition-case err
      (smtpmail-native-stock-write-index)
    (error (display-warning 'smtpmail-native (error-message-string err)))))

(defun smtpmail-native-stock-note-change (_id)
  "See to it that the index is written soon.
For `smtpmail-native-queue-changed-functions', which runs often."
  (unless (memq smtpmail-native-stock--timer timer-list)
    (setq smtpmail-native-stock--timer
          (run-at-time 0.2 nil #'smtpmail-native-stock--on-timer))))

;;;; Adoption

(defun smtpmail-native-stock--find (file)
  "Return where the data of the queued mail FILE are now, or nil.
Programs that take the folder for a Maildir move and rename them."
  (let ((name (file-name-nondirectory file))
        (folder (file-name-directory file)))
    (seq-find #'file-regular-p
              (cons file
                    (mapcan
                     (lambda (sibling)
                       (let ((there (expand-file-name sibling folder)))
                         (and (file-directory-p there)
                              (directory-files
                               there t
                               (concat "\\`" (regexp-quote name)
                                       "\\(?:[:;!][0-9],[A-Za-z]*\\)?\\'")))))
                     '("." "../cur" "../new"))))))

(defun smtpmail-native-stock--says (file)
  "Return what the file of variables of the queued mail FILE says.
The value is (ALIST . PROBLEM), PROBLEM being a text or nil."
  (condition-case err
      (let ((alist (smtpmail-native-outbox-read-stock (concat file ".el"))))
        (if (and (consp (cdr (assq 'smtpmail-recipient-address-list alist)))
                 (seq-every-p #'stringp
                              (cdr (assq 'smtpmail-recipient-address-list
                                         alist))))
            (cons alist nil)
          (cons alist "it names no recipients")))
    (error (cons nil (error-message-string err)))))

(defun smtpmail-native-stock--account (alist)
  "Return the account that ALIST of a queued mail says, or that of this moment."
  (cl-progv
      (mapcar #'car alist) (mapcar #'cdr alist)
    (smtpmail-native-queue-account)))

(defun smtpmail-native-stock--octets (data)
  "Return a new unibyte buffer with the file DATA; nil for no file."
  (with-current-buffer (generate-new-buffer " *smtpmail-native adopted*" t)
    (set-buffer-multibyte nil)
    (when data
      (insert-file-contents-literally data))
    (current-buffer)))

(defun smtpmail-native-stock--mail (octets recipients)
  "Return the plist of a mail whose message is in the buffer OCTETS.
RECIPIENTS are strings, or nil for those of the header."
  (let ((mail (condition-case nil
                  (smtpmail-native-message-as-it-is octets recipients)
                (smtpmail-native-error nil))))
    (if (null mail)
        (list :sender user-mail-address
              :recipients (or recipients (list user-mail-address)))
      (kill-buffer (plist-get mail :buffer))
      mail)))

(defun smtpmail-native-stock--commit (file data)
  "Make an entry of the queued mail FILE, whose octets are in DATA or lost.
Return it, or nil if that was done before."
  (pcase-let* ((`(,alist . ,problem) (smtpmail-native-stock--says file))
               (alist (seq-filter
                       (lambda (pair)
                         (memq (car pair)
                               '(smtpmail-smtp-server smtpmail-smtp-service
                                 smtpmail-smtp-user smtpmail-stream-type
                                 smtpmail-recipient-address-list)))
                       alist))
               (recipients (and (null problem)
                                (cdr (assq 'smtpmail-recipient-address-list
                                           alist))))
               (octets (smtpmail-native-stock--octets data)))
    (unwind-protect
        (let* ((mail (smtpmail-native-stock--mail octets recipients))
               (account (smtpmail-native-stock--account
                         (assq-delete-all 'smtpmail-recipient-address-list
                                          (copy-sequence alist))))
               (entry (smtpmail-native-outbox-commit
                       octets
                       (append (list :origin (delq nil
                                                   (list data
                                                         (concat file ".el"))))
                               (smtpmail-native-queue-envelope mail account))
                       (if problem
                           (list :status 'held :hold 'user
                                 :text (format "Queued by smtpmail, but %s: \
look at the recipients" problem))
                         '(:status held :hold queue))
                       (concat "stock-" (sha1 (expand-file-name file))))))
          (when (and entry (null data))
            (delete-file (smtpmail-native-outbox-file entry "message")))
          entry)
      (kill-buffer octets))))

(defun smtpmail-native-stock--adopt-one (file)
  "Take the queued mail FILE into the outbox.  Return non-nil if it is there.
The files of smtpmail are deleted when it is safe there."
  (condition-case err
      (let ((data (smtpmail-native-stock--find file)))
        (when (or data (file-exists-p (concat file ".el")))
          (let ((entry (smtpmail-native-stock--commit file data)))
            (dolist (old (list data (concat file ".el")))
              (when (and old (file-exists-p old)
                         ;; All that is left of a mail whose octets are lost.
                         (or data (null entry)))
                (delete-file old)))
            (when entry
              (smtpmail-native-outbox-release entry))))
        t)
    (error
     (display-warning
      'smtpmail-native
      (format "The queued mail %s could not be taken into the outbox: %s"
              (abbreviate-file-name file) (error-message-string err)))
     nil)))

(defun smtpmail-native-stock-adopt ()
  "Take what smtpmail has queued into the outbox, where it is held.
What cannot be taken keeps its line in the index, and a warning says why.
Return the number of mails that were taken.  Signal
`smtpmail-native-outbox-error' if the index cannot be written."
  (smtpmail-native-load)
  (let* ((lines (seq-remove #'smtpmail-native-stock--ours-p
                            (smtpmail-native-stock--lines)))
         (adopted (seq-filter #'smtpmail-native-stock--adopt-one lines)))
    (when adopted
      (let ((coding-system-for-write 'utf-8-unix)
            (index (smtpmail-native-stock--index))
            (rest (seq-difference (smtpmail-native-stock--lines) adopted)))
        (condition-case err
            (progn
              (write-region (mapconcat (lambda (line) (concat line "\n")) rest "")
                            nil (concat index ".new") nil 'silent)
              (rename-file (concat index ".new") index t))
          (file-error
           (smtpmail-native-error-signal 'smtpmail-native-outbox-error
                                         (error-message-string err)))))
      (smtpmail-native-queue-tell-change))
    (smtpmail-native-stock-write-index)
    (length adopted)))

(provide 'smtpmail-native-stock)
;;; smtpmail-native-stock.el ends here
