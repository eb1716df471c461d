;;; smtpmail-native-tell.el --- What is said to the user  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; One voice for all that happens while you do something else: lines in the echo
;; area for what goes on by itself, and notices for what you must decide.  The
;; functions of your hooks are called here, and the traces of SMTP sessions
;; are kept here.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-notice)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-outbox-write)
(require 'smtpmail-native-quiet)

(defvar smtpmail-debug-info)

(defun smtpmail-native-tell-attended-p ()
  "Return non-nil if the user is there to be asked.
A daemon without a client has a frame that no one sees: a question there
would be waited for without end."
  (not (or noninteractive
           (and (daemonp)
                (equal (terminal-name (frame-terminal))
                       "initial_terminal")))))

;;;; Lines and notices

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

(defvar smtpmail-native-tell--noticed (make-hash-table :test #'equal)
  "Ids of the entries of which notice was given.")

(defun smtpmail-native-tell-notice (notice)
  "Show NOTICE, a `smtpmail-native-notice' of an entry, in a way that stays."
  (puthash (smtpmail-native-notice-id notice) t smtpmail-native-tell--noticed)
  (smtpmail-native-quiet-warn (smtpmail-native-notice-line notice) notice))

(defvar smtpmail-native-tell--once (make-hash-table :test #'equal)
  "What has been told and is not to be told again, by its key.")

(defun smtpmail-native-tell--first-time (key)
  "Return non-nil for KEY once, until `smtpmail-native-tell-again' is called."
  (unless (gethash key smtpmail-native-tell--once)
    (puthash key t smtpmail-native-tell--once)))

(defun smtpmail-native-tell-once (key format &rest args)
  "Show FORMAT with ARGS as a line, unless that was done for KEY before."
  (when (smtpmail-native-tell--first-time key)
    (apply #'smtpmail-native-tell-say format args)))

(defun smtpmail-native-tell-again (key)
  "Let what has been told for KEY be told again when it comes back."
  (remhash key smtpmail-native-tell--once))

;;;; What has come of an attempt

(defun smtpmail-native-tell-hold-key (entry)
  "Return the key under which it is told once what ENTRY is held for."
  (cons (smtpmail-native-entry-hold entry)
        (smtpmail-native-entry-account-key
         (smtpmail-native-entry-envelope entry))))

(defun smtpmail-native-tell--failing-key (entry)
  "Return the key under which it is told that the server of ENTRY fails."
  (cons 'failing (smtpmail-native-entry-account-key
                  (smtpmail-native-entry-envelope entry))))

(defun smtpmail-native-tell--stays-p (entry)
  "Return non-nil if it is told in a way that stays that ENTRY is not sent yet.
That is so once for each server, until it takes a message."
  (and (smtpmail-native-notice-failing-p entry)
       (smtpmail-native-tell--first-time
        (smtpmail-native-tell--failing-key entry))))

(defun smtpmail-native-tell--failure (entry)
  "Tell the user that ENTRY has not been sent, and why."
  (let ((notice (smtpmail-native-notice entry)))
    (cond
     ((not (or (smtpmail-native-entry-needs-user-p entry)
               (smtpmail-native-tell--stays-p entry)))
      (smtpmail-native-tell-say "%s" (smtpmail-native-notice-line notice)))
     ;; One warning for all messages that wait for the same.
     ((or (not noninteractive)
          (null (smtpmail-native-notice-shared notice))
          (smtpmail-native-tell--first-time
           (smtpmail-native-tell-hold-key entry)))
      (smtpmail-native-tell-notice notice)))
    (smtpmail-native-tell-run-hook 'smtpmail-native-failed-functions entry)))

(defun smtpmail-native-tell (entry)
  "Tell the user about ENTRY, an attempt for which did not end its way."
  (let ((release (smtpmail-native-entry-release-time entry)))
    (cond ((plist-get (smtpmail-native-entry-state entry) :more))
          (release
           (smtpmail-native-tell-say
            "Scheduled %s for %s; the server cannot hold it \
(FUTURERELEASE), so it waits in the outbox"
            (smtpmail-native-entry-title entry)
            (smtpmail-native-tell-date release)))
          (t (smtpmail-native-tell--failure entry)))))

(defun smtpmail-native-tell-notes (notes)
  "Return NOTES of the module, a string or nil, as the end of a line."
  (if (member notes '(nil ""))
      ""
    (concat "; note: " (smtpmail-native-error-text notes))))

(defun smtpmail-native-tell-sent (entry &optional seconds notes)
  "Tell that ENTRY was sent, in SECONDS if this Emacs did it.
NOTES, a string or nil, is what the module has noted of that."
  (smtpmail-native-tell-again (smtpmail-native-tell--failing-key entry))
  (let ((id (smtpmail-native-entry-id entry)))
    (when (gethash id smtpmail-native-tell--noticed)
      (remhash id smtpmail-native-tell--noticed)
      (unless noninteractive
        (smtpmail-native-quiet-warn "" (smtpmail-native-notice-sent entry)))))
  (smtpmail-native-tell-say "Sent %s%s%s"
                            (smtpmail-native-entry-title entry)
                            (if seconds (format " (%.1f s)" seconds) "")
                            (smtpmail-native-tell-notes notes)))

(defun smtpmail-native-tell-unfiled (entry why)
  "Warn that ENTRY was sent, but that its copy could not be filed, and WHY.
Keep its message, which may be all that there is of it."
  (smtpmail-native-quiet-warn
   (format "Sent %s, but could not file a copy: %s.  %s"
           (smtpmail-native-entry-title entry) why
           (condition-case err
               (format "The message is saved in %s"
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
                  :results (smtpmail-native-outcome-merge
                            (plist-get state :results)
                            (plist-get state :replies)))
            envelope)))

(defun smtpmail-native-tell-each (hook &rest args)
  "Call each function of HOOK with ARGS; none can do harm to the next."
  (run-hook-wrapped hook
                    (lambda (function)
                      (apply #'smtpmail-native-quiet-guard hook function args)
                      nil)))

(defun smtpmail-native-tell-run-hook (hook entry)
  "Call each function of HOOK with a plist about ENTRY; none can do harm."
  (smtpmail-native-tell-each hook (smtpmail-native-tell--plist entry)))

;;;; Traces of SMTP sessions

(defvar smtpmail-native-tell--traces (make-hash-table :test #'equal)
  "The trace of the last attempt, a reversed list of plists, by entry id.
Each is a line as the module tells it: few traces are ever shown.")

(defun smtpmail-native-tell--trace-buffer (host)
  "Return the buffer for the trace of sessions with HOST."
  (get-buffer-create (format "*trace of SMTP session to %s*" host)))

(defun smtpmail-native-tell--trace-text (plist)
  "Return the line of a trace in the event PLIST, safe to show."
  (concat (if (plist-get plist :from-server) "S: " "C: ")
          (smtpmail-native-error-text (plist-get plist :text))
          "\n"))

(defun smtpmail-native-tell-trace-line (host id plist)
  "Keep the line of the trace of a session with HOST in the event PLIST.
ID is the entry's, or nil.  It goes into the trace buffer if the user wants
to see that."
  (when id
    (push plist (gethash id smtpmail-native-tell--traces)))
  (when smtpmail-debug-info
    (with-current-buffer (smtpmail-native-tell--trace-buffer host)
      (let ((inhibit-read-only t))
        (save-excursion
          (goto-char (point-max))
          (insert (smtpmail-native-tell--trace-text plist)))))))

(defun smtpmail-native-tell-new-trace (host id)
  "Forget the trace of an earlier session with HOST and for the entry ID."
  (smtpmail-native-tell-forget-trace id)
  (when smtpmail-debug-info
    (with-current-buffer (smtpmail-native-tell--trace-buffer host)
      (let ((inhibit-read-only t))
        (erase-buffer)))))

(defun smtpmail-native-tell-trace (id)
  "Return the trace of the last attempt for the entry ID, a string or nil.
Only this Emacs's own attempts are known."
  (let ((lines (gethash id smtpmail-native-tell--traces)))
    (and lines (mapconcat #'smtpmail-native-tell--trace-text
                          (reverse lines) ""))))

(defun smtpmail-native-tell-forget-trace (id)
  "Forget the trace of the last attempt for the entry ID."
  (remhash id smtpmail-native-tell--traces))

(provide 'smtpmail-native-tell)
;;; smtpmail-native-tell.el ends here
