;;; smtpmail-native-sink.el --- A server for many mails  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Starts test/c/sink.c, which takes mail from many clients at a time, and
;; tells what it has seen.

;;; Code:

(require 'smtpmail-native-test-helper)

(defun smtpmail-native-sink-start (folder &rest options)
  "Start the sink with OPTIONS, strings, its log in FOLDER.
Return (PROCESS . PORT)."
  (let ((sink (make-process
               :name "sink" :buffer (generate-new-buffer " *sink*")
               :noquery t
               :command (append
                         (list (expand-file-name "build/plain/sink"
                                                 smtpmail-native-test-folder)
                               "--log" (expand-file-name "sink.log" folder)
                               "--life" "300")
                         options))))
    (cons sink
          (smtpmail-native-test-wait
           (lambda ()
             (with-current-buffer (process-buffer sink)
               (goto-char (point-min))
               (and (looking-at "port \\([0-9]+\\)\n")
                    (string-to-number (match-string 1)))))))))

(defmacro smtpmail-native-sink-with (options &rest body)
  "Run BODY with a sink started with the list OPTIONS, whose port is `port'.
The folder of its files is `folder', its process `sink'.  The variables of
smtpmail lead to it, and the outbox is empty and nobody's else."
  (declare (indent 1) (debug t))
  `(let* ((folder (file-name-as-directory (make-temp-file "smtpmail-native" t)))
          (started (apply #'smtpmail-native-sink-start folder ,options))
          (sink (car started))
          (port (cdr started))
          (user-mail-address "alice@example.org")
          (user-full-name "Alice")
          (mail-personal-alias-file "/nonexistent")
          (auth-sources nil)
          (smtpmail-smtp-server "127.0.0.1")
          (smtpmail-smtp-service port)
          (smtpmail-smtp-user nil)
          (smtpmail-mail-address nil)
          (smtpmail-stream-type 'plain)
          (smtpmail-local-domain "client.example")
          (smtpmail-auth-credentials nil)
          (smtpmail-starttls-credentials nil)
          (smtpmail-queue-mail nil)
          (smtpmail-queue-dir (expand-file-name "queued-mail" folder))
          (smtpmail-retries 1)
          (smtpmail-native-timeout 20)
          (smtpmail-native-outbox-directory (expand-file-name "outbox/" folder))
          (smtpmail-native-sent-functions nil)
          (smtpmail-native-failed-functions nil)
          (inhibit-message t))
     (ignore port)
     (unwind-protect
         (progn ,@body)
       (smtpmail-native-sink-settle-down)
       (delete-process sink)
       (kill-buffer (process-buffer sink))
       (delete-directory folder t))))

(defun smtpmail-native-sink-settle-down ()
  "End what a test has left under way in this Emacs."
  (maphash (lambda (id _sending) (smtpmail-native-act-cancel id))
           smtpmail-native-attempt--active)
  (smtpmail-native-test-wait
   (lambda () (= 0 (hash-table-count smtpmail-native-attempt--active))))
  (smtpmail-native-test-disk-idle)
  (smtpmail-native-watch-stop)
  (setq smtpmail-native-schedule--tell-held nil)
  (clrhash smtpmail-native-tell--once)
  (smtpmail-native-index-clear))

(defun smtpmail-native-sink-log (folder step)
  "Return what stands behind STEP in the log in FOLDER, a list of strings.
It is in the order of the log: Message-IDs, or \"\" where none is known."
  (with-temp-buffer
    (insert-file-contents (expand-file-name "sink.log" folder))
    (let ((found nil))
      (while (re-search-forward (format "^[0-9]+ %s ?\\(.*\\)$" step) nil t)
        (push (match-string 1) found))
      (nreverse found))))

(defun smtpmail-native-sink-mail (id &optional recipients)
  "Return a prepared mail with the Message-ID ID to RECIPIENTS, a string."
  (with-temp-buffer
    (insert "To: " (or recipients "bob@example.org") "\nSubject: test\n"
            "Message-ID: " id "\n" mail-header-separator "\nHello\n")
    (smtpmail-native-message-prepare)))

(defun smtpmail-native-sink-send (id how &optional recipients)
  "Send a mail as `smtpmail-native-sink-mail' makes of ID and RECIPIENTS.
HOW is as in `smtpmail-native-queue-send', whose value is returned."
  (let ((mail (smtpmail-native-sink-mail id recipients)))
    (unwind-protect
        (smtpmail-native-queue-send mail how)
      (kill-buffer (plist-get mail :buffer)))))

(defun smtpmail-native-sink-states ()
  "Return the states of the entries of the outbox, a list of plists."
  (mapcar #'smtpmail-native-entry-state (smtpmail-native-outbox-list)))

(provide 'smtpmail-native-sink)
;;; smtpmail-native-sink.el ends here
