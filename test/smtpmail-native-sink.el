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
          (smtpmail-native-sent-functions nil)
          (smtpmail-native-failed-functions nil))
     (smtpmail-native-test-with-user folder port
       (let ((smtpmail-smtp-server "127.0.0.1")
             (smtpmail-stream-type 'plain)
             (smtpmail-local-domain "client.example"))
         (unwind-protect
             (progn ,@body)
           (smtpmail-native-sink-settle-down)
           (delete-process sink)
           (kill-buffer (process-buffer sink))
           (delete-directory folder t))))))

(defun smtpmail-native-sink-settle-down ()
  "End what a test has left under way in this Emacs."
  (maphash (lambda (id _sending) (smtpmail-native-act-cancel id))
           smtpmail-native-attempt--active)
  (smtpmail-native-test-wait
   (lambda () (= 0 (hash-table-count smtpmail-native-attempt--active))))
  (smtpmail-native-test-disk-idle)
  (smtpmail-native-watch-stop)
  (setq smtpmail-native-schedule--tell-left nil)
  (clrhash smtpmail-native-tell--once)
  (clrhash smtpmail-native-settle--stuck)
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

(defun smtpmail-native-sink-put (state &optional id more)
  "Put an entry in STATE into the outbox, durably; return its id.
ID is its Message-ID, by default \"<1@x>\"; MORE is a plist that comes before
its envelope.  No one is told of it, as if another Emacs had put it there."
  (let ((mail (smtpmail-native-sink-mail (or id "<1@x>"))))
    (unwind-protect
        (let ((entry (smtpmail-native-outbox-commit
                      (plist-get mail :buffer)
                      (append more
                              (smtpmail-native-queue-envelope
                               mail (smtpmail-native-job-account)))
                      state)))
          (smtpmail-native-outbox-make-durable entry nil)
          (smtpmail-native-outbox-release entry)
          (smtpmail-native-entry-id entry))
      (kill-buffer (plist-get mail :buffer)))))

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

;;;; What tests of the outbox share

(defun smtpmail-native-sink-entry (&optional n)
  "Return the Nth entry of the outbox."
  (nth (or n 0) (smtpmail-native-outbox-list)))

(defun smtpmail-native-sink-state (key &optional n)
  "Return KEY of the state of the Nth entry of the outbox."
  (plist-get (smtpmail-native-entry-state
              (smtpmail-native-sink-entry n))
             key))

(defun smtpmail-native-sink-idle-p ()
  "Return non-nil if nothing is under way in this Emacs."
  (not (smtpmail-native-schedule-busy-p)))

(defun smtpmail-native-sink-settle ()
  "Wait until nothing is under way in this Emacs."
  (smtpmail-native-test-wait #'smtpmail-native-sink-idle-p))

(defun smtpmail-native-sink-send-one (how &optional recipients)
  "Send a mail to RECIPIENTS by way of HOW, wait, and return the entry's id."
  (prog1 (plist-get (smtpmail-native-sink-send "<1@x>" how recipients) :id)
    (smtpmail-native-sink-settle)))

(defmacro smtpmail-native-sink-with-script (script &rest body)
  "Run BODY with the scripted server behind greeting and EHLO saying SCRIPT.
`told' is what the hooks have heard: (sent|failed . PLIST), newest first."
  (declare (indent 1) (debug t))
  `(smtpmail-native-test-with-server
       (apply #'smtpmail-native-test-script (smtpmail-native-test-ehlo) ,script)
     (let* ((told nil)
            (smtpmail-native-sent-functions
             (list (lambda (plist) (push (cons 'sent plist) told))))
            (smtpmail-native-failed-functions
             (list (lambda (plist) (push (cons 'failed plist) told)))))
       (ignore told)
       (unwind-protect
           (progn ,@body)
         (smtpmail-native-sink-settle-down)))))

(defconst smtpmail-native-sink-doubt
  '("C: MAIL *" "S: 250 ok" "C: RCPT *" "S: 250 ok" "C: DATA" "S: 354 go"
    "data" "close")
  "A server that takes a mail and does not say so.")

(defun smtpmail-native-sink-refuse (reply)
  "Return the script of a server that answers MAIL with REPLY."
  (list "C: MAIL *" (concat "S: " reply) "C: QUIT" "S: 221 bye"))

(defun smtpmail-native-sink-crashed (receipt state)
  "Make an entry with the lines RECEIPT and STATE that a dead Emacs left.
RECEIPT is a plist or nil, STATE is added to that of a first attempt."
  (let* ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'queue) :id))
         (entry (smtpmail-native-outbox-get id)))
    (smtpmail-native-outbox-claim entry)
    (apply #'smtpmail-native-outbox-set entry :status 'ready :hold nil
           :attempt 1 state)
    (when receipt
      (smtpmail-native-test-write
       (smtpmail-native-outbox-file entry "receipt") receipt))
    (smtpmail-native-outbox-wait entry smtpmail-native-test-seconds)
    (smtpmail-native-outbox-release entry)
    id))

(defconst smtpmail-native-sink-receipts
  '((doubt :attempt 1 :kind network :stage end-of-data :in-doubt t
           :text "gone" :recipients (("bob@example.org" t 250 "" "ok")))
    (ok :attempt 1 :kind ok :stage end-of-data
        :recipients (("bob@example.org" t 250 "" "ok")))
    (deferred :attempt 1 :kind reply :code 451 :stage mail :text "later")
    (refused :attempt 1 :kind reply :code 550 :stage mail :text "no")
    (cancelled :attempt 1 :kind cancelled :stage content :text "cancelled")
    (earlier :attempt 0 :kind network :stage end-of-data :in-doubt t))
  "What an Emacs that was killed may have left.")

(provide 'smtpmail-native-sink)
;;; smtpmail-native-sink.el ends here
