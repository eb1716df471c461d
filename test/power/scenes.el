;;; scenes.el --- What a user does while the power may fail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Runs in the Emacs whose calls build/plain/recorder.so records.  A scene is
;; made of the functions below; the marks between them stand in the record,
;; and say what the user knew at that moment:
;;
;;   try-ID       the user is about to send the message ID
;;   returned-ID  the command that sends it has returned
;;   held-ID, deleted-ID, marked-ID
;;                the command that did so has returned; before it there is
;;                asked-held-ID and so on
;;   word-ID      the user is about to ask for another attempt

;;; Code:

(require 'message)
(require 'smtpmail)
(require 'smtpmail-native)
(require 'smtpmail-native-mode)
(require 'smtpmail-native-server)

(defvar scenes-directory (file-name-as-directory (getenv "RECORD_ROOT"))
  "Where everything is that is recorded.")

(defconst scenes-seconds 60
  "How long a scene waits for anything.")

(setq smtpmail-smtp-server "127.0.0.1"
      smtpmail-smtp-service (string-to-number (or (getenv "SCENES_PORT") "0"))
      smtpmail-stream-type 'plain
      smtpmail-local-domain "client.example"
      smtpmail-native-timeout 30
      smtpmail-native-idle-seconds 10
      smtpmail-native-outbox-directory
      (expand-file-name "mail/outbox/" scenes-directory)
      smtpmail-queue-dir (expand-file-name "queued-mail/" scenes-directory)
      send-mail-function #'smtpmail-native-send-it
      message-send-mail-function #'smtpmail-native-send-it
      message-auto-save-directory nil
      message-confirm-send nil
      message-interactive t
      message-kill-buffer-on-exit nil
      message-required-mail-headers '(From Date)
      message-generate-headers-first nil
      user-mail-address "alice@example.org"
      user-full-name "Alice"
      auth-sources nil)

(defun scenes-mark (name)
  "Leave the mark NAME in the record."
  (ignore-errors
    (delete-file (concat "/MARK/" name))))

(defun scenes-await (condition)
  "Wait until the function CONDITION returns non-nil."
  (with-timeout (scenes-seconds (error "Nothing has happened"))
    (while (not (funcall condition))
      (accept-process-output nil 0.02))))

(defun scenes-as-user (function)
  "Call FUNCTION as if somebody sat there."
  (let ((noninteractive nil)
        (inhibit-message t))
    (funcall function)))

(defun scenes-entry (id)
  "Return the id of the entry of the message ID."
  (smtpmail-native-entry-id
   (seq-find (lambda (entry)
               (equal (plist-get (smtpmail-native-entry-envelope entry)
                                 :message-id)
                      (format "<%s@x>" id)))
             (smtpmail-native-outbox-list))))

(defun scenes-send (id &optional header)
  "Write the message ID with the lines HEADER, and send it."
  (scenes-mark (concat "try-" id))
  (scenes-as-user
   (lambda ()
     (save-window-excursion
       (message-mail (concat id "@example.org") "scene")
       ;; Copies are filed beside what is recorded, and go with it.
       (setq default-directory
             (file-name-directory (directory-file-name scenes-directory)))
       (goto-char (point-min))
       (insert "Message-ID: <" id "@x>\n" (or header ""))
       (message-goto-body)
       (insert "Hello\n")
       (message-send)
       (set-buffer-modified-p nil)
       (kill-buffer))))
  (scenes-mark (concat "returned-" id)))

(defun scenes-act (id function mark)
  "Call FUNCTION with the entry of the message ID, then leave MARK."
  (let ((entry (scenes-entry id)))
    (scenes-mark (concat "asked-" mark id))
    (scenes-as-user (lambda () (funcall function entry))))
  (scenes-mark (concat mark id)))

(defun scenes-settle ()
  "Wait until nothing is under way any more."
  (scenes-await (lambda ()
                  (and (= 0 (hash-table-count smtpmail-native-attempt--active))
                       (= 0 (hash-table-count
                             smtpmail-native-disk--pending))))))

(defun scenes-sent ()
  "Wait until all messages have been sent and deleted."
  (scenes-await (lambda () (null (smtpmail-native-outbox-ids))))
  (scenes-settle))

(defun scenes-pause (seconds)
  "Let SECONDS go by."
  (let ((until (+ (float-time) seconds)))
    (while (< (float-time) until)
      (accept-process-output nil 0.02))))

(defun scenes-run (scene)
  "Do the forms SCENE, and end Emacs."
  (with-file-modes #o700
    (make-directory scenes-directory t))
  (eval (cons 'progn scene) t)
  (scenes-mark "end"))

(provide 'scenes)
;;; scenes.el ends here
