;;; smtpmail-native-stock.el --- What smtpmail has queued  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What smtpmail itself has queued becomes an entry of the outbox, which a flush
;; sends.  Its files go when that entry is safe.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-job)
(require 'smtpmail-native-message)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-queue)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-stock-index)

(defvar smtpmail-default-smtp-server)
(defvar smtpmail-smtp-server)

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
The value is (ALIST . RECIPIENTS).  ALIST has the variables of the server.
RECIPIENTS is a list, or a string that tells why there is none."
  (let ((file (concat file ".el")))
    (condition-case err
        (let* ((alist (and (file-exists-p file)
                           (smtpmail-native-outbox-read-stock file)))
               (recipients (cdr (assq 'smtpmail-recipient-address-list alist)))
               (server (cdr (assq 'smtpmail-smtp-server alist))))
          (cons (seq-filter
                 (lambda (pair)
                   (and server
                        (memq (car pair)
                              '(smtpmail-smtp-server smtpmail-smtp-service
                                                     smtpmail-smtp-user smtpmail-stream-type))))
                 alist)
                (cond ((not (file-exists-p file))
                       (format "%s is missing" (abbreviate-file-name file)))
                      ((not (and (consp recipients)
                                 (proper-list-p recipients)
                                 (seq-every-p #'stringp recipients)))
                       (format "%s names no recipients"
                               (abbreviate-file-name file)))
                      (t recipients))))
      (error (cons nil (format "%s cannot be read: %s"
                               (abbreviate-file-name file)
                               (error-message-string err)))))))

(defun smtpmail-native-stock--account (alist)
  "Return the account that ALIST of a queued mail says, or that of this moment.
Do not ask for it."
  (cl-progv
      (mapcar #'car alist) (mapcar #'cdr alist)
    (unless (or smtpmail-smtp-server smtpmail-default-smtp-server)
      (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                    "No server: set `smtpmail-smtp-server'"))
    (smtpmail-native-job-account)))

(defun smtpmail-native-stock--octets (data)
  "Return a new unibyte buffer with the file DATA; nil for no file."
  (with-current-buffer (generate-new-buffer " *smtpmail-native adopted*" t)
    (set-buffer-multibyte nil)
    (when data
      (insert-file-contents-literally data))
    (current-buffer)))

(defun smtpmail-native-stock--mail (octets recipients)
  "Return the plist of the message whose octets are in the buffer OCTETS.
RECIPIENTS are strings, or nil for those of the header."
  (let ((mail (condition-case nil
                  (smtpmail-native-message-as-it-is octets recipients)
                (smtpmail-native-error nil))))
    (if (null mail)
        ;; It is damaged, and the user is shown what there is.
        (list :sender (or user-mail-address "")
              :recipients (or recipients (list (or user-mail-address "nobody"))))
      (kill-buffer (plist-get mail :buffer))
      mail)))

(defun smtpmail-native-stock--id (file)
  "Return the name of the entry that the queued mail FILE becomes.
It is always the same, and so one message never becomes two entries."
  (concat "stock-" (sha1 (expand-file-name file))))

(defun smtpmail-native-stock--commit (file data)
  "Make an entry of the queued mail FILE, whose octets are in DATA or lost.
Return it, claimed, or nil if there is one already."
  (pcase-let* ((`(,alist . ,recipients) (smtpmail-native-stock--says file))
               (problem (and (stringp recipients) recipients))
               (account (smtpmail-native-stock--account alist))
               (octets (smtpmail-native-stock--octets data)))
    (unwind-protect
        (let ((entry (smtpmail-native-outbox-commit
                      octets
                      (append
                       (list :origin (delq nil (list data (concat file ".el"))))
                       (smtpmail-native-queue-envelope
                        (smtpmail-native-stock--mail
                         octets (and (null problem) recipients))
                        account))
                      (if problem
                          (list :status 'held :hold 'user
                                :text (format "Queued by smtpmail, but %s: \
look at the recipients" problem))
                        '(:status held :hold queue))
                      (smtpmail-native-stock--id file))))
          (when (and entry (null data))
            (delete-file (smtpmail-native-outbox-file entry "message")))
          entry)
      (kill-buffer octets))))

(defun smtpmail-native-stock--check-deletable (files)
  "Signal an error unless FILES can be deleted.
If they cannot be deleted, they must not be sent: they would be found again."
  (dolist (file files)
    (unless (or (null file)
                (file-writable-p (file-name-directory file)))
      (error "It could not be deleted from there"))))

(defun smtpmail-native-stock--check-same (file data)
  "Signal an error unless the entry of the queued mail FILE has all of DATA."
  (let ((entry (smtpmail-native-outbox-get (smtpmail-native-stock--id file))))
    (unless (and entry
                 (or (null data)
                     (and (null (smtpmail-native-entry-problem entry))
                          (eql (file-attribute-size (file-attributes data))
                               (plist-get (smtpmail-native-entry-envelope entry)
                                          :size)))))
      (error "The outbox has something else of that name"))))

(defun smtpmail-native-stock--move (file data)
  "Make an entry of the queued mail FILE and its octets DATA, delete these.
Where the entry was made before, only delete them.  DATA nil means that the
octets are lost; then what is left of FILE stays, for the user to look at."
  (let ((old (delq nil (list data
                             (and (file-exists-p (concat file ".el"))
                                  (concat file ".el")))))
        (entry nil)
        (moved nil))
    (smtpmail-native-stock--check-deletable old)
    (setq entry (smtpmail-native-stock--commit file data))
    (if (null entry)
        (progn
          (smtpmail-native-stock--check-same file data)
          (when data
            (mapc #'delete-file old)))
      (unwind-protect
          (progn
            (when data
              (smtpmail-native-outbox-make-durable entry nil)
              (mapc #'delete-file old))
            (setq moved t))
        ;; As long as its octets are there it is still in smtpmail's queue.
        (when (and (not moved) data (file-exists-p data))
          (smtpmail-native-outbox-forget-origin entry)
          (smtpmail-native-outbox-remove entry)
          ;; The next try makes one of the same name.
          (ignore-error smtpmail-native-outbox-error
            (smtpmail-native-outbox-wait entry nil)))
        (when (smtpmail-native-entry-claim entry)
          (smtpmail-native-outbox-release entry)
          (smtpmail-native-index-put entry))))))

(defun smtpmail-native-stock--adopt-one (file)
  "Take the queued mail FILE into the outbox.  Return non-nil if it is there.
An error is a warning."
  (condition-case err
      (let ((data (smtpmail-native-stock--find file)))
        (when (or data (file-exists-p (concat file ".el")))
          (smtpmail-native-stock--move file data))
        t)
    (error
     (smtpmail-native-quiet-warn
      (format "The queued mail %s could not be taken into the outbox: %s"
              (abbreviate-file-name file)
              (error-message-string err)))
     nil)))

(defun smtpmail-native-stock-adopt ()
  "Take what smtpmail has queued into the outbox, where it is held.
What cannot be taken keeps its line in the index, and a warning says why.
Return the number of messages that were taken.  Signal
`smtpmail-native-outbox-error' if the index cannot be written."
  (smtpmail-native-load)
  (let ((adopted (seq-filter #'smtpmail-native-stock--adopt-one
                             (seq-filter #'smtpmail-native-stock-index-queued-p
                                         (smtpmail-native-stock-index-lines)))))
    (when adopted
      (smtpmail-native-index-changed nil))
    (smtpmail-native-stock-index-write t adopted)
    (length adopted)))

(provide 'smtpmail-native-stock)
;;; smtpmail-native-stock.el ends here
