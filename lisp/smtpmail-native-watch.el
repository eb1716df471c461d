;;; smtpmail-native-watch.el --- The standing look at the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What another Emacs has left is sent by one that runs: a change of the outbox
;; is told by the system where it can, and the outbox is looked through every few
;; minutes.  A look that fails is not the end: the next one comes.

;;; Code:

(require 'seq)
(require 'smtpmail-native-attempt)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-fifo)
(require 'smtpmail-native-flush)
(require 'smtpmail-native-index)
(require 'smtpmail-native-leftovers)
(require 'smtpmail-native-load)
(require 'smtpmail-native-network)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-quiet)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-settle)
(require 'smtpmail-native-spare)
(require 'smtpmail-native-tell)

(declare-function file-notify-add-watch "filenotify" (file flags callback))
(declare-function file-notify-rm-watch "filenotify" (descriptor))
(declare-function file-notify-valid-p "filenotify" (descriptor))

(defconst smtpmail-native-watch--names 5
  "How many messages are named if the outbox is gone.")

(defvar smtpmail-native-watch--descriptor nil
  "The watch of the system on the outbox, or nil.")

(defvar smtpmail-native-watch--directory nil
  "The directory that `smtpmail-native-watch--descriptor' is for.")

;;;; A look

(defun smtpmail-native-watch--gone-p ()
  "Return non-nil if the outbox is not there, but was; tell that once.
It may be on a file system that comes back."
  (let ((directory (smtpmail-native-outbox-root))
        (names nil))
    (if (file-directory-p directory)
        (ignore (smtpmail-native-tell-again (list 'gone directory)))
      (smtpmail-native-index-map
       (lambda (entry)
         (push (format "\"%s\" to %s"
                       (smtpmail-native-error-text
                        (plist-get (smtpmail-native-entry-envelope entry)
                                   :subject))
                       (smtpmail-native-entry-people entry))
               names)))
      (when names
        (smtpmail-native-tell-once
         (list 'gone directory)
         "The outbox %s is gone, and with it %d message%s not sent: %s%s"
         (abbreviate-file-name directory) (length names)
         (if (cdr names) "s" "")
         (string-join (seq-take names smtpmail-native-watch--names) ", ")
         (if (nthcdr smtpmail-native-watch--names names) ", ..." "")))
      t)))

(defun smtpmail-native-watch-look ()
  "Have all entries looked at; send the ones that are due.
Signal `smtpmail-native-outbox-error' if the outbox cannot be read."
  (unless (smtpmail-native-watch--gone-p)
    (smtpmail-native-index-look)
    (when (smtpmail-native-index-busy-p)
      (smtpmail-native-load)
      (setq smtpmail-native-schedule--looking t))
    (smtpmail-native-settle-try-stuck)
    (smtpmail-native-schedule--due)))

(defun smtpmail-native-watch--try-look ()
  "Look at the outbox; an error is told once, and the next look comes."
  (condition-case err
      (progn
        (smtpmail-native-watch--watch)
        (smtpmail-native-watch-look)
        (smtpmail-native-tell-again 'look))
    (error
     (smtpmail-native-tell-once 'look "%s; trying again in %d minutes"
                                (error-message-string err)
                                (/ smtpmail-native-schedule--rescan 60)))))

;;;; What the system tells

(defun smtpmail-native-watch--on-event (event)
  "Look at the entry that EVENT of file notification is about.
What this Emacs did itself is known already."
  (let* ((id (file-name-nondirectory (directory-file-name (nth 2 event))))
         (there (file-exists-p (nth 2 event)))
         (known (smtpmail-native-index-entry id)))
    (unless (or (eq (and there t) (and known t))
                (string-prefix-p "." id))
      (smtpmail-native-index-want id)
      (smtpmail-native-schedule--later))))

(defun smtpmail-native-watch--stop ()
  "End the watch of the system on the outbox."
  (when smtpmail-native-watch--descriptor
    (ignore-errors (file-notify-rm-watch smtpmail-native-watch--descriptor)))
  (setq smtpmail-native-watch--descriptor nil
        smtpmail-native-watch--directory nil
        smtpmail-native-index-watched nil))

(defun smtpmail-native-watch--watch ()
  "Have the system tell of changes of the outbox, where it can."
  (let ((directory (smtpmail-native-outbox-area "queue")))
    (unless (and smtpmail-native-watch--descriptor
                 (equal directory smtpmail-native-watch--directory)
                 (file-notify-valid-p smtpmail-native-watch--descriptor))
      (smtpmail-native-watch--stop)
      ;; Where it cannot, the looks are enough.  A batch Emacs does not read the
      ;; events in which it tells.
      (when (and directory
                 (not (default-toplevel-value 'noninteractive))
                 (require 'filenotify nil t))
        (ignore-errors
          (setq smtpmail-native-watch--descriptor
                (file-notify-add-watch
                 directory '(change)
                 (lambda (event)
                   (smtpmail-native-quiet-call
                    #'smtpmail-native-watch--on-event event)))
                smtpmail-native-watch--directory directory
                smtpmail-native-index-watched t))))))

;;;; Begin and end

(defun smtpmail-native-watch--begin ()
  "Take up what an earlier Emacs has left in the outbox."
  (when (smtpmail-native-outbox-area "queue")
    (smtpmail-native-leftovers-empty-trash)
    (smtpmail-native-leftovers-adopt)
    (setq smtpmail-native-schedule--tell-left t)
    (smtpmail-native-flush-resume)
    (smtpmail-native-watch--try-look)
    (smtpmail-native-index-changed nil)))

(defun smtpmail-native-watch-start ()
  "Send by itself what waits in the outbox from now on.
That is also what an earlier Emacs has left.  Nothing is done without the
module, and no error is signalled."
  (when (smtpmail-native-load-available-p)
    (setq smtpmail-native-schedule--started t)
    (unless (memq smtpmail-native-schedule--look-timer timer-list)
      (setq smtpmail-native-schedule--look-timer
            (run-at-time smtpmail-native-schedule--rescan
                         smtpmail-native-schedule--rescan
                         #'smtpmail-native-quiet-call
                         #'smtpmail-native-watch--try-look)))
    (smtpmail-native-quiet-call #'smtpmail-native-watch--begin)))

(defun smtpmail-native-watch--start-soon ()
  "Do `smtpmail-native-watch-start' as soon as no command waits for the disk."
  (setq smtpmail-native-schedule--look-timer
        (smtpmail-native-quiet-timer
         0.5
         (lambda ()
           (if smtpmail-native-disk-awaited
               (smtpmail-native-watch--start-soon)
             (smtpmail-native-watch-start))))))

(defun smtpmail-native-watch-ensure ()
  "Do `smtpmail-native-watch-start' in a moment, unless that was done."
  (unless smtpmail-native-schedule--started
    ;; What has just been put into the outbox is known without a look.
    (setq smtpmail-native-schedule--started t)
    (smtpmail-native-watch--start-soon)))

(defun smtpmail-native-watch-stop ()
  "Send nothing by itself any more; what is being sent goes on."
  (setq smtpmail-native-schedule--started nil
        smtpmail-native-schedule--looking nil
        smtpmail-native-schedule--waiting nil)
  (smtpmail-native-fifo-clear smtpmail-native-schedule--ready)
  (smtpmail-native-fifo-clear smtpmail-native-schedule--permits)
  (smtpmail-native-flush-stop)
  (smtpmail-native-network-stop)
  (smtpmail-native-spare-end)
  (smtpmail-native-watch--stop)
  (dolist (timer (list smtpmail-native-schedule--timer
                       smtpmail-native-schedule--look-timer
                       smtpmail-native-schedule--advance-timer))
    (when timer
      (cancel-timer timer))))

(provide 'smtpmail-native-watch)
;;; smtpmail-native-watch.el ends here
