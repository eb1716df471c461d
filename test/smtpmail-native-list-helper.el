;;; smtpmail-native-list-helper.el --- An outbox buffer for tests  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The list of an outbox of its own, entries in any state, and keys.

;;; Code:

(require 'smtpmail-native-list)
(require 'smtpmail-native-sink)

(defmacro smtpmail-native-list-tests--with (options &rest body)
  "Run BODY with a sink with OPTIONS and the list of an empty outbox.
The current buffer is that of the list."
  (declare (indent 1) (debug t))
  `(smtpmail-native-sink-with ,options
     (smtpmail-native-list-tests--in-list ,@body)))

(defmacro smtpmail-native-list-tests--in-list (&rest body)
  "Run BODY in the list of the outbox, which is shown."
  (declare (indent 0) (debug t))
  `(let ((message-auto-save-directory nil)
         (global-mode-string '("")))
     (save-window-excursion
       (smtpmail-native-outbox)
       (unwind-protect
           (progn ,@body)
         (smtpmail-native-list-tests--clean-up)))))

(defun smtpmail-native-list-tests--clean-up ()
  "Kill the buffers that a test has left, and forget the outbox."
  (dolist (buffer (buffer-list))
    (when (string-match-p "\\`\\*\\(?:smtpmail-native\\|unsent\\)"
                          (buffer-name buffer))
      (with-current-buffer buffer
        (set-buffer-modified-p nil))
      (kill-buffer buffer)))
  (when smtpmail-native-draw--timer
    (cancel-timer smtpmail-native-draw--timer))
  (smtpmail-native-index-clear)
  (clrhash smtpmail-native-draw--dirty)
  (setq smtpmail-native-mode-line ""))

(defun smtpmail-native-list-tests--commit (state &optional text)
  "Put an entry in STATE, a plist, into the outbox and the list.
TEXT is the mail, default a short one to Bob.  Return the entry's id; point
is on its line."
  (let ((mail (with-temp-buffer
                (insert (or text (concat "To: bob@example.org\nSubject: test\n"
                                         mail-header-separator "\nHello\n")))
                (smtpmail-native-message-prepare))))
    (unwind-protect
        (let ((entry (smtpmail-native-outbox-commit
                      (plist-get mail :buffer)
                      (smtpmail-native-queue-envelope
                       mail (smtpmail-native-job-account))
                      state)))
          (smtpmail-native-outbox-release entry)
          ;; A busy machine may take longer than users are kept waiting.
          (let ((smtpmail-native-list--patience 60))
            (revert-buffer))
          (goto-char (smtpmail-native-draw-find
                      (smtpmail-native-entry-id entry)))
          (smtpmail-native-entry-id entry))
      (kill-buffer (plist-get mail :buffer)))))

(defun smtpmail-native-list-tests--cell (id column)
  "Return what stands in COLUMN, a number, of the line of the entry ID."
  (save-excursion
    (goto-char (smtpmail-native-draw-find id))
    (aref (tabulated-list-get-entry) column)))

(defun smtpmail-native-list-tests--status (id)
  "Return (STATUS HOLD) of the entry ID, or nil if there is none."
  (let ((entry (smtpmail-native-outbox-get id)))
    (and entry
         (list (plist-get (smtpmail-native-entry-state entry) :status)
               (plist-get (smtpmail-native-entry-state entry) :hold)))))

(defun smtpmail-native-list-tests--key (key &optional answer)
  "Call what KEY is bound to; whatever is asked gets ANSWER.
Return the questions."
  (let ((asked nil))
    (cl-letf* ((ask (lambda (prompt &rest _) (push prompt asked) answer))
               ((symbol-function 'y-or-n-p) ask)
               ((symbol-function 'yes-or-no-p) ask))
      (call-interactively (key-binding (kbd key))))
    asked))

(defun smtpmail-native-list-tests--settle ()
  "Wait until nothing is under way."
  (smtpmail-native-test-wait
   (lambda ()
     (not (smtpmail-native-schedule-busy-p)))))

(provide 'smtpmail-native-list-helper)
;;; smtpmail-native-list-helper.el ends here
