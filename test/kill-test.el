;;; kill-test.el --- What test/kill-test does in Emacs  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The Emacs that is killed: it takes up what its predecessors have left, sends
;; new mails, and plays the user for those of unknown outcome.  What it knows it
;; appends to the file "log", one word and the Message-ID per line:
;;
;;   committed   the function that sends in the background has returned
;;   sent        the function that waits has returned
;;   failed      the function that waits has signalled that nothing was sent
;;   word        the user is about to say that an unknown one be sent again
;;   marked      the user is about to say that an unknown one has arrived
;;
;; `kill-test-finish' is the last one, which lives, and which lists what is
;; left: "left STATUS HOLD PROBLEM" and the Message-ID.

;;; Code:

(require 'smtpmail-native)
(require 'smtpmail-native-mode)
(require 'smtpmail-native-server)
(require 'smtpmail)

(defvar kill-test-folder (getenv "KILL_TEST_FOLDER")
  "Where everything is.")

(defun kill-test-log (&rest words)
  "Append WORDS as one line to the log."
  (let ((write-region-inhibit-fsync t))
    (write-region (concat (mapconcat (lambda (word) (format "%s" word)) words " ")
                          "\n")
                  nil (expand-file-name "log" kill-test-folder) t 'silent)))

(defun kill-test-set-up ()
  "Set the options of the test."
  (setq smtpmail-smtp-server "127.0.0.1"
        smtpmail-smtp-service (string-to-number (getenv "KILL_TEST_PORT"))
        smtpmail-stream-type 'plain
        smtpmail-local-domain "client.example"
        smtpmail-native-timeout 1
        smtpmail-native-outbox-directory
        (expand-file-name "outbox/" kill-test-folder)
        user-mail-address "alice@example.org"
        user-full-name "Alice"
        auth-sources nil
        ;; A deferred mail is tried again while this Emacs lives.
        smtpmail-native-outcome-back-off '(0)))

(defun kill-test-mail (id size)
  "Return a prepared mail with the Message-ID ID and a body of SIZE octets."
  (with-temp-buffer
    (insert "From: alice@example.org\nTo: bob@example.org\nSubject: kill\n"
            "Message-ID: " id "\n" mail-header-separator "\n")
    (dotimes (_ (/ size 50))
      (insert (make-string 49 ?x) "\n"))
    (smtpmail-native-message-prepare)))

(defun kill-test-send (id how size)
  "Send a mail with the Message-ID ID and SIZE octets by way of HOW."
  (let ((mail (kill-test-mail id size)))
    (unwind-protect
        (condition-case err
            (progn
              (smtpmail-native-queue-send mail how)
              (kill-test-log (if (eq how 'wait) "sent" "committed") id))
          (smtpmail-native-unknown-outcome (kill-test-log "unknown" id))
          (smtpmail-native-error
           (kill-test-log "failed" id (prin1-to-string err))))
      (kill-buffer (plist-get mail :buffer)))))

(defun kill-test-play-user ()
  "Decide about entries of unknown outcome, some of them."
  (dolist (entry (smtpmail-native-outbox-list))
    (let ((id (plist-get (smtpmail-native-entry-envelope entry) :message-id)))
      (when (eq (plist-get (smtpmail-native-entry-state entry) :status)
                'unknown)
        (pcase (random 4)
          (0
           (kill-test-log "word" id)
           (ignore-errors
             (smtpmail-native-act-retry (smtpmail-native-entry-id entry))))
          (1
           (kill-test-log "marked" id)
           (ignore-errors
             (smtpmail-native-act-mark-sent
              (smtpmail-native-entry-id entry)))))))))

(defun kill-test-busy-p ()
  "Return non-nil while something is under way or about to be."
  (or (smtpmail-native-schedule-busy-p)
      (seq-some (lambda (entry)
                  (let ((state (smtpmail-native-entry-state entry)))
                    (or (memq (plist-get state :status) '(ready sent))
                        (and (eq (plist-get state :status) 'held)
                             (eq (plist-get state :hold) 'queue)))))
                (smtpmail-native-outbox-list))))

(defun kill-test-live (seconds)
  "Live until nothing is under way, at most SECONDS."
  (let ((until (+ (float-time) seconds)))
    (while (and (< (float-time) until) (kill-test-busy-p))
      (accept-process-output nil 0.02))))

(defun kill-test-run ()
  "Be the Emacs of one round."
  (kill-test-set-up)
  (random (getenv "KILL_TEST_SEED"))
  (when (= (random 2) 0)
    (smtpmail-native-watch-start))
  (dotimes (n 4)
    (let ((how (pcase (random 8) (0 'queue) (1 'wait) (_ 'background))))
      (kill-test-send (format "<%s-%d@kill.example>" (getenv "KILL_TEST_ROUND") n)
                      how (if (= (random 10) 0) 300000 (random 3000)))))
  (kill-test-play-user)
  (if (= (random 2) 0)
      (smtpmail-native-act-flush)
    (smtpmail-native-watch-look))
  (kill-test-live 3)
  (let ((kill-emacs-query-functions nil))
    (kill-emacs 0)))

(defun kill-test-finish ()
  "Send what is left, then tell what stays in the outbox."
  (kill-test-set-up)
  (smtpmail-native-leftovers-empty-trash)
  (smtpmail-native-leftovers-adopt)
  (smtpmail-native-act-flush)
  (smtpmail-native-watch-look)
  (kill-test-live 60)
  (dolist (entry (smtpmail-native-outbox-list))
    (let ((state (smtpmail-native-entry-state entry)))
      (kill-test-log "left"
                     (or (plist-get (smtpmail-native-entry-envelope entry)
                                    :message-id)
                         (smtpmail-native-entry-id entry))
                     (plist-get state :status)
                     (plist-get state :hold)
                     (if (smtpmail-native-entry-problem entry)
                         "damaged" "whole"))))
  (kill-test-log "finished" "all"))

(provide 'kill-test)
;;; kill-test.el ends here
