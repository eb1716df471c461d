;;; smtpmail-native-channel.el --- The only caller of the module  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A job goes in as a plist and comes back as events.  The module writes an
;; octet to a pipe process when events wait; its filter fetches them and hands
;; each to the job's handler from a zero timer, because a filter must neither
;; signal nor wait.

;;; Code:

(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-quiet)

(declare-function smtpmail-native-module-send "smtpmail-native-module" (plist))
(declare-function smtpmail-native-module-cancel "smtpmail-native-module" (id))
(declare-function smtpmail-native-module-events "smtpmail-native-module"
                  (queue &optional max))
(declare-function smtpmail-native-module-open "smtpmail-native-module"
                  (process))
(declare-function smtpmail-native-module-shutdown "smtpmail-native-module" (ms))
(declare-function smtpmail-native-module-disk "smtpmail-native-module" (steps))
(declare-function smtpmail-native-module-network "smtpmail-native-module"
                  (&optional off))

(defconst smtpmail-native-channel--shutdown-ms 2000
  "Milliseconds that leaving Emacs waits for workers to end.")

(defvar smtpmail-native-channel--process nil
  "The pipe process that the module wakes.")

(defvar smtpmail-native-channel--events (list nil)
  "A cons cell whose cdr holds the events that still have to be handed on.")

(defvar smtpmail-native-channel--handlers (make-hash-table)
  "Handlers of the jobs under way, by id.")

(defconst smtpmail-native-channel--slice 0.01
  "Seconds for which events are handed on at a time.")

(defun smtpmail-native-channel--hand-on (event)
  "Hand EVENT to the handler of its job.
Nothing that the handler does can keep the next event from its own."
  (pcase-let* ((`(,id ,kind . ,plist) event)
               (handler (gethash id smtpmail-native-channel--handlers)))
    ;; The last event ends the job before its handler is called, so that no
    ;; handler is called twice.
    (when (memq kind '(done disk))
      (remhash id smtpmail-native-channel--handlers))
    (when handler
      (smtpmail-native-quiet-call handler kind plist))))

(defun smtpmail-native-channel-dispatch ()
  "Hand events to the handlers of their jobs, in their order.
If there are many, the rest is handed on in a moment.  Code that waits for
an event calls this instead of relying on the timer."
  (let ((inhibit-quit t)
        (until (+ (float-time) smtpmail-native-channel--slice)))
    (smtpmail-native-module-events smtpmail-native-channel--events)
    (while (and (cdr smtpmail-native-channel--events)
                (< (float-time) until))
      (smtpmail-native-channel--hand-on
       (pop (cdr smtpmail-native-channel--events))))
    (when (cdr smtpmail-native-channel--events)
      (smtpmail-native-channel--later))))

(defvar smtpmail-native-channel--timer nil
  "The timer that hands events on, or nil.")

(defun smtpmail-native-channel--later ()
  "Have events handed on in a moment."
  (unless (memq smtpmail-native-channel--timer timer-list)
    (setq smtpmail-native-channel--timer
          (smtpmail-native-quiet-timer 0 #'smtpmail-native-channel-dispatch))))

(defun smtpmail-native-channel--filter (_process _octets)
  "Fetch the events that wait, and have them handed on."
  (smtpmail-native-quiet-call
   (lambda ()
     (smtpmail-native-module-events smtpmail-native-channel--events)
     (smtpmail-native-channel--later))))

(defun smtpmail-native-channel--shutdown ()
  "End the workers; Emacs is about to exit."
  (ignore-errors
    (smtpmail-native-module-shutdown smtpmail-native-channel--shutdown-ms)))

(defun smtpmail-native-channel--open ()
  "Load the module and let it wake this Emacs."
  (smtpmail-native-load)
  (unless (process-live-p smtpmail-native-channel--process)
    ;; Killing the buffer of a process would end it, so it must have none,
    ;; which `make-pipe-process' does not offer.
    (let ((buffer (generate-new-buffer " *smtpmail-native*"))
          ;; One octet is all that ever comes; to wait for more of it delays
          ;; each event by 50 ms.
          (process-adaptive-read-buffering nil))
      (setq smtpmail-native-channel--process
            (make-pipe-process :name "smtpmail-native"
                               :buffer buffer
                               :noquery t
                               :coding 'binary
                               :filter #'smtpmail-native-channel--filter))
      (set-process-buffer smtpmail-native-channel--process nil)
      (kill-buffer buffer))
    (smtpmail-native-module-open smtpmail-native-channel--process)
    (add-hook 'kill-emacs-hook #'smtpmail-native-channel--shutdown)))

(defun smtpmail-native-channel-submit (plist handler)
  "Start the job that PLIST describes and return its id, an integer.
PLIST is that of `smtpmail-native-module-send'.  HANDLER is called with
two arguments, the kind of an event (`trace', `progress' or `done') and
its plist, outside of filters; `done' comes once and last.
Signal `smtpmail-native-usage-error' for a job that cannot be used."
  (smtpmail-native-channel--open)
  ;; A quit between the two would leave a job under way without a handler.
  (let* ((inhibit-quit t)
         (id (smtpmail-native-module-send plist)))
    (puthash id handler smtpmail-native-channel--handlers)
    id))

(defun smtpmail-native-channel-disk (steps handler)
  "Have the module's thread for the disk do STEPS; return an integer id.
STEPS is that of `smtpmail-native-module-disk'.  HANDLER is called once,
with the plist of the event that tells what came of them, outside of
filters.  Signal `smtpmail-native-error' if they cannot be handed in."
  (smtpmail-native-channel--open)
  ;; A quit between the two would leave the caller unaware.
  (let* ((inhibit-quit t)
         (id (smtpmail-native-module-disk steps)))
    (puthash id (lambda (_kind plist) (funcall handler plist))
             smtpmail-native-channel--handlers)
    id))

(defvar smtpmail-native-channel--network nil
  "The id of the module's watch of the network, or nil.")

(defun smtpmail-native-channel-network (handler)
  "Have HANDLER called whenever there may be a way to others that is new.
It gets no arguments, and is called outside of filters.  Return nil if the
system does not tell.  HANDLER takes the place of the one before; nil ends
the watch."
  (let ((inhibit-quit t))
    (when smtpmail-native-channel--network
      (remhash smtpmail-native-channel--network
               smtpmail-native-channel--handlers)
      (setq smtpmail-native-channel--network nil)
      (smtpmail-native-module-network t))
    (when handler
      (smtpmail-native-channel--open)
      (let ((id (smtpmail-native-module-network)))
        (when id
          (puthash id (lambda (_kind _plist) (funcall handler))
                   smtpmail-native-channel--handlers)
          (setq smtpmail-native-channel--network id))))))

(defun smtpmail-native-channel-await (done seconds)
  "Process events until the function DONE returns non-nil.
Give up after SECONDS, if that is non-nil.  Where `inhibit-quit' is bound,
give up also when the user has typed \\[keyboard-quit], which is left for
the caller to decide about."
  (let ((until (and seconds (+ (float-time) seconds))))
    (while (and (not (funcall done))
                (not (and inhibit-quit quit-flag))
                (or (null until) (< (float-time) until)))
      (accept-process-output nil 0.05)
      (smtpmail-native-channel-dispatch)
      (unless noninteractive
        (redisplay)))))

(defun smtpmail-native-channel-cancel (id)
  "Ask the job ID to stop; its `done' event still comes.
Return nil if it is not under way any more."
  (smtpmail-native-module-cancel id))

(provide 'smtpmail-native-channel)
;;; smtpmail-native-channel.el ends here
