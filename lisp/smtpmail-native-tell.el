;;; smtpmail-native-tell.el --- What is said to the user  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; One voice for all that happens while you do something else: lines in the echo
;; area for what goes on by itself, warnings that stay for what you must decide,
;; and one rate limit for both.  A secret or an exception that is missing is one
;; line for each account, and a number in the mode line: nothing asks for it.
;; The functions of your hooks are called here, and the traces of SMTP sessions
;; are kept here.

;;; Code:

(require 'seq)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outcome)
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

;;;; Lines and warnings

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

(defconst smtpmail-native-tell--burst 3
  "How many warnings are shown in a row.")

(defconst smtpmail-native-tell--pause 10
  "Seconds after which a row of warnings is over.")

(defvar smtpmail-native-tell--row '(0 0 . 0)
  "The row of warnings: (TIME SHOWN . LEFT-OUT), TIME being that of the first.")

(defun smtpmail-native-tell--left-out ()
  "Say how many warnings of the row were left out, and end the row."
  (let ((count (cddr smtpmail-native-tell--row)))
    (setq smtpmail-native-tell--row '(0 0 . 0))
    (when (> count 0)
      (smtpmail-native-tell-say
       "%d more message%s in the outbox need%s attention; \
type M-x smtpmail-native-outbox"
       count (if (= count 1) "" "s") (if (= count 1) "s" "")))))

(defun smtpmail-native-tell-warn (text)
  "Show TEXT as a warning that stays.
After a few in a row the rest are counted, so that a server that is down does
not fill the frame."
  (let ((now (float-time)))
    (pcase-let ((`(,time ,shown . ,left-out) smtpmail-native-tell--row))
      (unless (<= 0 (- now time) smtpmail-native-tell--pause)
        (setq time now
              shown 0
              left-out 0))
      (if (or noninteractive (< shown smtpmail-native-tell--burst))
          (progn
            (setq smtpmail-native-tell--row (cons time
                                                  (cons (1+ shown) left-out)))
            (display-warning 'smtpmail-native text :warning))
        (when (= left-out 0)
          (smtpmail-native-quiet-timer smtpmail-native-tell--pause
                                       #'smtpmail-native-tell--left-out))
        (setq smtpmail-native-tell--row
              (cons time (cons shown (1+ left-out))))))))

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

(defun smtpmail-native-tell--advice (entry)
  "Return what happens next to ENTRY, and what the user can do."
  (let ((state (smtpmail-native-entry-state entry)))
    (pcase (plist-get state :status)
      ('ready
       (let ((next (plist-get state :next)))
         (concat
          (if next
              (format "Next try at %s" (format-time-string "%H:%M" next))
            "Emacs will try again")
          (if (eq (smtpmail-native-entry-why entry) 'lookup)
              ", or type M-x smtpmail-native-unlock"
            ""))))
      ('unknown
       "It may have been delivered, and Emacs does not send it again unless \
you say so: check whether it arrived, then type m (it was delivered) or s \
(send it again) in M-x smtpmail-native-outbox")
      ('refused
       "It is kept: type e (edit as a new message) or s (send again) in M-x \
smtpmail-native-outbox")
      (_ (pcase (plist-get state :hold)
           ((or 'password 'certificate)
            "It is held; type M-x smtpmail-native-unlock")
           ('settings
            "It is held: change the setting, then type e (edit as a new \
message) in M-x smtpmail-native-outbox")
           ('expired
            "It is held: type s (try again), e (edit) or d (delete) in M-x \
smtpmail-native-outbox")
           (_ "It is held: type s (send) in M-x smtpmail-native-outbox"))))))

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
One failure may pass, but not a second one, nor one that looks like a mistake
in the settings.  That is so once for each server, until it takes a message."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (or (plist-get state :suspect)
             (>= (or (plist-get state :tries) 0) 2))
         (smtpmail-native-tell--first-time
          (smtpmail-native-tell--failing-key entry)))))

(defun smtpmail-native-tell--failure (entry)
  "Tell the user that ENTRY has not been sent, and why."
  (let ((text (format "Mail to %s: %s.  %s"
                      (smtpmail-native-entry-people entry)
                      (or (plist-get (smtpmail-native-entry-state entry) :text)
                          "not sent")
                      (smtpmail-native-tell--advice entry))))
    (cond
     ;; One line for all messages that wait for the same.
     ((or (smtpmail-native-entry-locked-p entry)
          (smtpmail-native-entry-untrusted-p entry))
      (smtpmail-native-tell-once (smtpmail-native-tell-hold-key entry)
                                 "%s" text))
     ((or (smtpmail-native-entry-needs-user-p entry)
          (smtpmail-native-tell--stays-p entry))
      (smtpmail-native-tell-warn text))
     (t (smtpmail-native-tell-say "%s" text)))
    (smtpmail-native-tell-run-hook 'smtpmail-native-failed-functions entry)))

(defun smtpmail-native-tell (entry)
  "Tell the user about ENTRY, an attempt for which did not end its way."
  (let ((release (smtpmail-native-entry-release-time entry)))
    (cond ((plist-get (smtpmail-native-entry-state entry) :more))
          (release
           (smtpmail-native-tell-say
            "Scheduled mail to %s for %s; the server cannot hold it \
(FUTURERELEASE), so it waits in the outbox"
            (smtpmail-native-entry-people entry)
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
  (smtpmail-native-tell-say "Sent to %s%s%s"
                            (smtpmail-native-entry-people entry)
                            (if seconds (format " in %.1f s" seconds) "")
                            (smtpmail-native-tell-notes notes)))

(defun smtpmail-native-tell-unfiled (entry why)
  "Warn that ENTRY was sent, but that its copy could not be filed, and WHY.
Keep its message, which may be all that there is of it."
  (display-warning
   'smtpmail-native
   (format "Sent mail to %s, but could not file a copy: %s.  %s"
           (smtpmail-native-entry-people entry) why
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
