;;; smtpmail-native-tell.el --- What is said to the user  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; One voice for all that happens behind the user's back, the hooks, and the
;; dialogues with servers.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-verdict)

(defvar smtpmail-debug-info)

(defvar smtpmail-native-changed-functions nil
  "Functions that are called when something has happened to an entry.
The argument is its id, or nil when it may concern all of them.")

;;;; Lines and warnings

(defun smtpmail-native-tell-attended-p ()
  "Return non-nil if the user is there to be asked."
  (not noninteractive))

(defun smtpmail-native-tell-say (format &rest args)
  "Show FORMAT with ARGS as a line, but not over a minibuffer in use."
  (let ((inhibit-message (or inhibit-message (active-minibuffer-window))))
    (apply #'message format args)))

(defun smtpmail-native-tell-slow ()
  "Say that what the user has just done may not be on the disk yet."
  (smtpmail-native-tell-say
   "The disk is slow: a loss of power may still undo this"))

(defun smtpmail-native-tell-date (time)
  "Return TIME, in seconds, as people write it; of today without a date."
  (format-time-string (if (equal (format-time-string "%F" time)
                                 (format-time-string "%F"))
                          "%H:%M"
                        "%F %H:%M")
                      time))

(defun smtpmail-native-tell--advice (entry)
  "Return what happens next to ENTRY, and what the user can do."
  (let ((state (smtpmail-native-entry-state entry)))
    (pcase (plist-get state :status)
      ('ready
       (let ((next (plist-get state :next)))
         (if next
             (format "It will be tried again at %s"
                     (format-time-string "%H:%M" next))
           "It will be tried again")))
      ('unknown
       "It may have arrived, and is not sent again by itself: look whether it \
did, then type m (arrived) or s (send again) in M-x smtpmail-native-outbox")
      ('refused
       "It is kept: type e (edit as a new mail) or s (send again) in M-x \
smtpmail-native-outbox")
      (_ (pcase (plist-get state :hold)
           ('password
            (format "It is kept until the %s is known: type s (send) in M-x \
smtpmail-native-outbox"
                    (if (plist-get state :passphrase)
                        "passphrase of the key"
                      "password")))
           ('certificate
            "It is kept until you accept the certificate: type s (send) in M-x \
smtpmail-native-outbox")
           ('expired
            "It is kept: type s (try again), e (edit) or d (delete) in M-x \
smtpmail-native-outbox")
           (_ "It is kept: type s (send) in M-x smtpmail-native-outbox"))))))

(defun smtpmail-native-tell (entry)
  "Tell the user about ENTRY, an attempt for which did not end its way."
  (let ((release (smtpmail-native-entry-release-time entry)))
    (cond ((plist-get (smtpmail-native-entry-state entry) :more))
          (release
           (smtpmail-native-tell-say
            "Mail to %s waits in the outbox until %s: the server does not \
keep it" (smtpmail-native-entry-people entry)
            (smtpmail-native-tell-date release)))
          (t (smtpmail-native-tell--failure entry)))))

(defun smtpmail-native-tell--failure (entry)
  "Tell the user that ENTRY has not been sent, and why.
What is tried again, or held at the user's own wish, is only a line; what
needs the user stays visible."
  (let* ((state (smtpmail-native-entry-state entry))
         (text (format "Mail to %s: %s.  %s"
                       (smtpmail-native-entry-people entry)
                       (or (plist-get state :text) "not sent")
                       (smtpmail-native-tell--advice entry))))
    (if (smtpmail-native-entry-needs-user-p entry)
        (display-warning 'smtpmail-native text :warning)
      (smtpmail-native-tell-say "%s" text))
    (smtpmail-native-tell-run-hook 'smtpmail-native-failed-functions entry)))

(defun smtpmail-native-tell-unfiled (entry why)
  "Warn that ENTRY was sent, but that its copy could not be filed, and WHY.
Keep its message, which may be all that there is of it."
  (display-warning
   'smtpmail-native
   (format "The mail to %s was sent, but its copy could not be filed: %s.  %s"
           (smtpmail-native-entry-people entry) why
           (condition-case err
               (format "It is kept as %s"
                       (abbreviate-file-name
                        (smtpmail-native-outbox-set-aside entry)))
             (file-error (error-message-string err))))))

;;;; Hooks

(defun smtpmail-native-tell--plist (entry)
  "Return what the functions of the hooks are told of ENTRY."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (state (smtpmail-native-entry-state entry)))
    (append (list :id (smtpmail-native-entry-id entry)
                  :file (smtpmail-native-outbox-message-file entry)
                  :status (plist-get state :status)
                  :hold (plist-get state :hold)
                  :text (plist-get state :text)
                  :results (smtpmail-native-verdict-merge
                            (plist-get state :results)
                            (plist-get state :replies)))
            envelope)))

(defun smtpmail-native-tell-run-hook (hook entry)
  "Call each function of HOOK with a plist about ENTRY; none can do harm."
  (let ((plist (smtpmail-native-tell--plist entry)))
    (run-hook-wrapped hook
                      (lambda (function)
                        (condition-case err
                            (funcall function plist)
                          (error
                           (display-warning
                            'smtpmail-native
                            (format "Error in `%s': %s" hook
                                    (error-message-string err)))))
                        nil))))

(defun smtpmail-native-tell-changed (id)
  "Tell that something has happened to the entry ID."
  (run-hook-wrapped 'smtpmail-native-changed-functions
                    (lambda (function)
                      (with-demoted-errors "smtpmail-native: %S"
                        (funcall function id))
                      nil)))

(defun smtpmail-native-tell-change ()
  "Tell that something may have happened to any of the entries."
  (smtpmail-native-tell-changed nil))

;;;; Dialogues

(defvar smtpmail-native-tell--traces (make-hash-table :test #'equal)
  "The dialogue of the last attempt, a reversed list of lines, by entry id.")

(defun smtpmail-native-tell--trace-buffer (host)
  "Return the buffer for the trace of sessions with HOST."
  (get-buffer-create (format "*trace of SMTP session to %s*" host)))

(defun smtpmail-native-tell-trace-line (host id plist)
  "Keep the line of the dialogue with HOST that is in the event PLIST.
ID is the entry's, or nil.  It goes into the trace buffer if the user wants
to see that."
  (let ((line (concat (if (plist-get plist :from-server) "S: " "C: ")
                      (smtpmail-native-error-text (plist-get plist :text))
                      "\n")))
    (when id
      (push line (gethash id smtpmail-native-tell--traces)))
    (when smtpmail-debug-info
      (with-current-buffer (smtpmail-native-tell--trace-buffer host)
        (let ((inhibit-read-only t))
          (save-excursion
            (goto-char (point-max))
            (insert line)))))))

(defun smtpmail-native-tell-new-trace (host id)
  "Forget the trace of an earlier session with HOST and for the entry ID."
  (remhash id smtpmail-native-tell--traces)
  (when smtpmail-debug-info
    (with-current-buffer (smtpmail-native-tell--trace-buffer host)
      (let ((inhibit-read-only t))
        (erase-buffer)))))

(defun smtpmail-native-tell-trace (id)
  "Return the dialogue of the last attempt for the entry ID, a string or nil.
Only this Emacs's own attempts are known."
  (let ((lines (gethash id smtpmail-native-tell--traces)))
    (and lines (apply #'concat (reverse lines)))))

(provide 'smtpmail-native-tell)
;;; smtpmail-native-tell.el ends here
