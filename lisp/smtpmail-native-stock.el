;;; smtpmail-native-stock.el --- The queue that is shared with smtpmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; smtpmail keeps queued mail in `smtpmail-queue-dir': a file of octets, a file
;; of the same name with ".el" appended, and a line with the name in an index.
;; Programs count these lines, and smtpmail sends what they name.  So the index
;; has a line for each message of the outbox that only a flush sends, and what
;; smtpmail itself has queued becomes an entry.  Whatever is sent by itself, now
;; or later, or may have arrived has no line: smtpmail would send it again.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-index)
(require 'smtpmail-native-job)
(require 'smtpmail-native-message)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-queue)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-tell)

(defvar smtpmail-queue-dir)
(defvar smtpmail-queue-index-file)
(defvar smtpmail-default-smtp-server)
(defvar smtpmail-smtp-server)

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

(defun smtpmail-native-stock--ours-p (line &optional queue)
  "Return non-nil if LINE of the index is for an entry of the outbox.
QUEUE is the directory of entries, if the caller has expanded it already."
  (let ((queue (or queue
                   (concat (smtpmail-native-outbox-root) "queue/"))))
    (string-prefix-p queue (if (and (string-prefix-p queue line)
                                    (not (string-match-p "/\\.\\.?/" line)))
                               line ; as it nearly always is
                             (expand-file-name line)))))

(defun smtpmail-native-stock--queued-p (line)
  "Return non-nil if LINE of the index is for a mail that smtpmail has queued.
It may also be for one of an outbox, this one or that of another Emacs."
  (not (or (smtpmail-native-stock--ours-p line)
           (and (equal (file-name-nondirectory line) "message")
                (file-exists-p (expand-file-name
                                "state" (file-name-directory
                                         (expand-file-name line))))))))

(defun smtpmail-native-stock-queued-p ()
  "Return non-nil if there is a mail that smtpmail itself has queued."
  (seq-some #'smtpmail-native-stock--queued-p (smtpmail-native-stock--lines)))

(defun smtpmail-native-stock--waiting-p (entry)
  "Return non-nil if only a flush sends ENTRY, which may be nil.
smtpmail would send to all recipients, also to those that have got it."
  (and entry
       (smtpmail-native-entry-queued-p entry)
       (not (smtpmail-native-entry-unsettled-p entry))
       (null (plist-get (smtpmail-native-entry-state entry) :results))))

(defun smtpmail-native-stock--line (id)
  "Return the line of the index for the entry ID."
  (smtpmail-native-outbox-file (smtpmail-native-entry-make :id id) "message"))

(defun smtpmail-native-stock--replace (lines)
  "Replace the index by LINES.
Signal `smtpmail-native-outbox-error' if it cannot be written."
  (let* ((index (file-truename (smtpmail-native-stock--index)))
         (fresh (make-temp-name (concat index ".")))
         (coding-system-for-write 'utf-8-unix)
         ;; It names what smtpmail itself has queued, too.
         (write-region-inhibit-fsync nil))
    (condition-case err
        (unwind-protect
            (progn
              (with-file-modes #o700
                (make-directory (file-name-directory index) t))
              (with-file-modes #o600
                (write-region (mapconcat (lambda (line) (concat line "\n"))
                                         lines "")
                              nil fresh nil 'silent))
              (rename-file fresh index t))
          (ignore-errors (delete-file fresh)))
      (file-error
       (smtpmail-native-error-signal
        'smtpmail-native-outbox-error
        (format "Cannot write the index of queued mail: %s"
                (error-message-string err)))))))

(defun smtpmail-native-stock--without (lines others)
  "Return LINES without OTHERS."
  (let ((table (make-hash-table :test #'equal)))
    (dolist (line others)
      (puthash line t table))
    (seq-remove (lambda (line) (gethash line table)) lines)))

(defun smtpmail-native-stock--waiting-lines (changed lines)
  "Return the lines of the index for the entries of the outbox that wait.
CHANGED is a list of the ids of those that may have changed, or t for all;
LINES are those so far."
  (if (eq changed t)
      (mapcar (lambda (entry)
                (smtpmail-native-stock--line (smtpmail-native-entry-id entry)))
              (seq-filter #'smtpmail-native-stock--waiting-p
                          (smtpmail-native-outbox-list)))
    (append
     (smtpmail-native-stock--without
      lines (mapcar #'smtpmail-native-stock--line changed))
     (mapcar #'smtpmail-native-stock--line
             (seq-filter (lambda (id)
                           (smtpmail-native-stock--waiting-p
                            (or (smtpmail-native-index-entry id)
                                (smtpmail-native-outbox-get id))))
                         changed)))))

(defun smtpmail-native-stock-write-index (changed &optional gone)
  "Bring the index of smtpmail's queue up to date.
CHANGED is a list of the ids of entries that may have changed, or t for all:
only for that the outbox is read.  Lines that are not ours stay, but for
those in the list GONE.  The directory of the queue is made only when a
message is queued.  Signal `smtpmail-native-outbox-error' if the index
cannot be written."
  (let* ((old (smtpmail-native-stock--lines))
         (queue (concat (smtpmail-native-outbox-root) "queue/"))
         (ours (seq-filter (lambda (line)
                             (smtpmail-native-stock--ours-p line queue))
                           old))
         (new (append (smtpmail-native-stock--without old (append ours gone))
                      (sort (smtpmail-native-stock--waiting-lines changed ours)
                            #'string<))))
    (unless (equal old new)
      (smtpmail-native-stock--replace new))))

(defconst smtpmail-native-stock--pause 0.5
  "Least seconds between a change and the index that tells of it.")

(defvar smtpmail-native-stock--cost 0
  "Seconds that the last writing of the index took.")

(defvar smtpmail-native-stock--changed nil
  "Ids of entries that may have changed since the index was written.
The value is t for all.")

(defun smtpmail-native-stock--known ()
  "Return the ids of all entries that are known or have a line in the index.
What else there is has yet to be looked at, and is told then."
  (append (mapcar (lambda (line)
                    (file-name-nondirectory
                     (directory-file-name (file-name-directory line))))
                  (seq-filter #'smtpmail-native-stock--ours-p
                              (smtpmail-native-stock--lines)))
          (smtpmail-native-index-select #'identity)))

(defun smtpmail-native-stock--on-timer ()
  "Write the index."
  (let ((changed smtpmail-native-stock--changed)
        (start (float-time)))
    (setq smtpmail-native-stock--changed nil)
    (smtpmail-native-stock-write-index
     (delete-dups (if (eq changed t)
                      (smtpmail-native-stock--known)
                    changed)))
    (setq smtpmail-native-stock--cost (- (float-time) start))))

(defun smtpmail-native-stock-note-change (id)
  "Have the index written soon, as the entry ID, or nil for all, has changed.
For `smtpmail-native-changed-functions', which runs often."
  (let ((sending (and id (smtpmail-native-attempt-sending id))))
    ;; Mere progress is no change.
    (unless (and sending (> (smtpmail-native-sending-sent sending) 0))
      (cond ((null id) (setq smtpmail-native-stock--changed t))
            ((not (eq smtpmail-native-stock--changed t))
             (push id smtpmail-native-stock--changed)))
      (unless (memq smtpmail-native-stock--timer timer-list)
        (setq smtpmail-native-stock--timer
              (smtpmail-native-quiet-timer
               ;; While many are sent it must not be written all the time.
               (max smtpmail-native-stock--pause
                    (* 10 smtpmail-native-stock--cost))
               #'smtpmail-native-stock--on-timer))))))

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
Nobody is asked for it."
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
  "Return the plist of a mail whose message is in the buffer OCTETS.
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
It is always the same, and so one mail never becomes two entries."
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
Who cannot delete them must not send them: they would be found again."
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
          (smtpmail-native-outbox-remove entry))
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
     (display-warning
      'smtpmail-native
      (format "The queued mail %s could not be taken into the outbox: %s"
              (abbreviate-file-name file)
              (error-message-string err)))
     nil)))

(defun smtpmail-native-stock-adopt ()
  "Take what smtpmail has queued into the outbox, where it is held.
What cannot be taken keeps its line in the index, and a warning says why.
Return the number of mails that were taken.  Signal
`smtpmail-native-outbox-error' if the index cannot be written."
  (smtpmail-native-load)
  (let ((adopted (seq-filter #'smtpmail-native-stock--adopt-one
                             (seq-filter #'smtpmail-native-stock--queued-p
                                         (smtpmail-native-stock--lines)))))
    (when adopted
      (smtpmail-native-index-changed nil))
    (smtpmail-native-stock-write-index t adopted)
    (length adopted)))

(provide 'smtpmail-native-stock)
;;; smtpmail-native-stock.el ends here
