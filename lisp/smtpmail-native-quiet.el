;;; smtpmail-native-quiet.el --- Code that no command has started  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Timers, filters and functions of hooks run while you do something else.  They
;; work in a buffer of their own, so that no local variable of your buffer
;; counts; they cannot ask; and nothing leaves them: an error, a quit or a throw
;; ends the function, and nothing that was to follow it.

;;; Code:

;; The only calls that go up: what shows is loaded when there is something to show.
(autoload 'smtpmail-native-notices-put "smtpmail-native-notices")
(autoload 'smtpmail-native-notices-drop "smtpmail-native-notices")

(defun smtpmail-native-quiet-warn (text &optional notice)
  "Tell TEXT, which the user must not miss, in a way that stays.
NOTICE is a `smtpmail-native-notice' that says the same, with buttons.  In
batch mode TEXT is a warning."
  (condition-case nil
      (if noninteractive
          (display-warning 'smtpmail-native text)
        (smtpmail-native-notices-put (or notice text)))
    ;; What tells of errors must not make one.
    (error (display-warning 'smtpmail-native text))))

(defun smtpmail-native-quiet-forget (id)
  "Remove the notice ID, if there is one."
  (when (featurep 'smtpmail-native-notices)
    (smtpmail-native-notices-drop id)))

(defvar smtpmail-native-quiet--buffer nil
  "The buffer in which code runs that no command has started.")

(defun smtpmail-native-quiet-buffer ()
  "Return the buffer in which code runs that no command has started."
  (unless (buffer-live-p smtpmail-native-quiet--buffer)
    (setq smtpmail-native-quiet--buffer
          (generate-new-buffer " *smtpmail-native quiet*" t))
    (with-current-buffer smtpmail-native-quiet--buffer
      (setq default-directory (expand-file-name "~/"))))
  smtpmail-native-quiet--buffer)

(defun smtpmail-native-quiet-guard (what function &rest args)
  "Call FUNCTION with ARGS, and return its value, or nil if it did not return.
No error, quit or throw leaves this.  An error is a warning that names WHAT,
a text, or the hook that FUNCTION is on.
The current buffer is the same afterwards.  Should FUNCTION have killed it,
what follows does not go on in some buffer of yours, but in ours."
  (let ((done nil)
        (value nil)
        (buffer (current-buffer)))
    (catch 'smtpmail-native-quiet
      (unwind-protect
          (progn
            (condition-case err
                (setq value (apply function args))
              (quit nil)
              (error
               (smtpmail-native-quiet-warn
                (format (if (symbolp what) "Error in `%s': %s" "%s: %s")
                        what (error-message-string err)))))
            (setq done t))
        ;; A throw to this tag takes the place of the one that comes by.
        (unless done
          (throw 'smtpmail-native-quiet nil))))
    (set-buffer (if (buffer-live-p buffer)
                    buffer
                  (smtpmail-native-quiet-buffer)))
    value))

(defun smtpmail-native-quiet-call (function &rest args)
  "Call FUNCTION with ARGS as code that no command has started."
  (with-current-buffer (smtpmail-native-quiet-buffer)
    (let ((inhibit-interaction t)
          ;; After a click a question is a dialog box, which that does not stop.
          (use-dialog-box nil))
      (apply #'smtpmail-native-quiet-guard "Error of smtpmail-native"
             function args))))

(defun smtpmail-native-quiet-timer (seconds function &rest args)
  "Call FUNCTION with ARGS in SECONDS, and return the timer."
  (apply #'run-at-time seconds nil #'smtpmail-native-quiet-call function args))

(provide 'smtpmail-native-quiet)
;;; smtpmail-native-quiet.el ends here
