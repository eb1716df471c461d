;;; smtpmail-native-act-tests.el --- The word of the user  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Against the scripted server where the dialogue counts, against the sink where
;; many messages do.

;;; Code:

(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

;;;; The user's word

(ert-deftest smtpmail-native-act-tests-queue-mail ()
  "What `smtpmail-queue-mail' holds waits for the flush."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-queue-mail t)
          (smtpmail-native-background nil))
      (with-temp-buffer
        (insert "To: bob@example.org\nMessage-ID: <q@x>\n" mail-header-separator
                "\nx\n")
        (smtpmail-native-send-it)))
    (smtpmail-native-watch-look)
    (smtpmail-native-sink-settle)
    (should (eq (smtpmail-native-sink-state :hold) 'queue))
    (should-not (smtpmail-native-sink-log folder "connect"))
    (should (= 1 (smtpmail-native-act-flush)))
    (smtpmail-native-sink-settle)
    (should (equal (smtpmail-native-sink-log folder "arrived") '("<q@x>")))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-act-tests-undo ()
  "A mail can be undone for a while, then it is sent."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-native-undo-seconds 3600))
      (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background)
                           :id)))
        (smtpmail-native-watch-look)
        (smtpmail-native-sink-settle)
        (should (equal (smtpmail-native-act-undo-candidate) id))
        (smtpmail-native-act-delete id)
        (should-not (smtpmail-native-act-undo-candidate))))
    (let ((smtpmail-native-undo-seconds 1))
      (smtpmail-native-sink-send "<2@x>" 'background)
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-outbox-ids)))))
    (should (equal (smtpmail-native-sink-log folder "arrived") '("<2@x>")))))

(ert-deftest smtpmail-native-act-tests-hold-retry-delete ()
  "What the user holds waits for the user."
  (smtpmail-native-sink-with nil
    (let ((one (plist-get (smtpmail-native-sink-send "<1@x>" 'queue) :id))
          (two (plist-get (smtpmail-native-sink-send "<2@x>" 'queue) :id)))
      (smtpmail-native-act-hold one)
      (smtpmail-native-act-hold two)
      (should (= 0 (smtpmail-native-act-flush)))
      (smtpmail-native-act-delete two)
      (smtpmail-native-act-retry one)
      (smtpmail-native-sink-settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>")))
      (should-not (smtpmail-native-outbox-ids))
      (dolist (command '(smtpmail-native-act-hold smtpmail-native-act-retry
                         smtpmail-native-act-delete
                         smtpmail-native-act-mark-sent))
        (should-error (funcall command one)
                      :type 'smtpmail-native-usage-error)))))

(ert-deftest smtpmail-native-act-tests-hold-refused ()
  "What is kept because it was refused does not become a mail that waits."
  (smtpmail-native-sink-with-script
      (list (smtpmail-native-sink-refuse "550 no"))
    (let ((id (smtpmail-native-sink-send-one 'background)))
      (should (smtpmail-native-entry-needs-user-p
               (smtpmail-native-outbox-get id)))
      (should-error (smtpmail-native-act-hold id)
                    :type 'smtpmail-native-usage-error)
      (should (eq (smtpmail-native-sink-state :status) 'refused)))))

(ert-deftest smtpmail-native-act-tests-take-back ()
  "What is taken back is gone, unless that fails: then it is held."
  (smtpmail-native-sink-with nil
    (let* ((smtpmail-native-undo-seconds 3600)
           (id (plist-get (smtpmail-native-sink-send "<1@x>" 'background)
                          :id)))
      (should-error (smtpmail-native-act-take-back
                     id (lambda (entry)
                          (should (smtpmail-native-entry-claim entry))
                          (error "No")))
                    :type 'error)
      (should (eq (smtpmail-native-sink-state :hold) 'user))
      (should-not (smtpmail-native-entry-needs-user-p
                   (smtpmail-native-outbox-get id)))
      (should (= 0 (smtpmail-native-act-flush)))
      (should (equal (smtpmail-native-act-take-back
                      id #'smtpmail-native-entry-id)
                     id))
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-act-tests-take-back-unsettled ()
  "What a dead Emacs has sent, or may have, is not taken back unasked."
  (dolist (case '((ok "already") (doubt "may have")))
    (smtpmail-native-sink-with nil
      (let* ((id (smtpmail-native-sink-crashed
                  (cdr (assq (car case) smtpmail-native-sink-receipts))
                  nil))
             (err (should-error (smtpmail-native-act-take-back id #'ignore)
                                :type 'smtpmail-native-usage-error)))
        (should (string-match-p (nth 1 case) (cadr err)))
        (should (equal (smtpmail-native-outbox-ids)
                       (and (eq (car case) 'doubt) (list id))))))))

(ert-deftest smtpmail-native-act-tests-retry-unsettled ()
  "To send again what a dead Emacs has sent, or may have, is not done unasked."
  (dolist (case '((ok "already") (doubt "may have")))
    (smtpmail-native-sink-with nil
      (let* ((id (smtpmail-native-sink-crashed
                  (cdr (assq (car case) smtpmail-native-sink-receipts))
                  nil))
             (err (should-error (smtpmail-native-act-retry id)
                                :type 'smtpmail-native-usage-error)))
        (should (string-match-p (nth 1 case) (cadr err)))
        (smtpmail-native-sink-settle)
        (should-not (smtpmail-native-sink-log folder "arrived"))
        (when (eq (car case) 'doubt)
          (smtpmail-native-act-retry id t)
          (smtpmail-native-sink-settle)
          (should (equal (smtpmail-native-sink-log folder "arrived")
                         '("<1@x>"))))
        (should-not (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-act-tests-cancel ()
  "A mail that is cancelled is held, on the disk from the first moment."
  (smtpmail-native-sink-with-script '("C: MAIL *" "stall")
    (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background) :id)))
      (smtpmail-native-test-wait
       (lambda ()
         (string-match-p "MAIL" (or (smtpmail-native-tell-trace id) ""))))
      (should (smtpmail-native-act-cancel id))
      (should (eq (smtpmail-native-sink-state :status) 'held))
      ;; Who has cancelled it need not be warned.
      (cl-letf (((symbol-function 'smtpmail-native-quiet-warn)
                 (lambda (&rest args) (ert-fail (format "Warned: %S" args)))))
        (smtpmail-native-sink-settle))
      (should (equal (mapcar #'car told) '(failed)))
      (should (eq (smtpmail-native-sink-state :hold) 'user))
      (should (= 1 (smtpmail-native-sink-state :settled)))
      (should-not (smtpmail-native-act-cancel id))
      (should (= 0 (smtpmail-native-act-flush))))))

(ert-deftest smtpmail-native-act-tests-under-way ()
  "What is under way must be cancelled before anything else."
  (smtpmail-native-sink-with-script '("C: MAIL *" "stall")
    (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background) :id)))
      (dolist (command '(smtpmail-native-act-hold smtpmail-native-act-retry
                         smtpmail-native-act-delete
                         smtpmail-native-act-mark-sent))
        (let ((err (should-error (funcall command id)
                                 :type 'smtpmail-native-usage-error)))
          (should (string-match-p "being sent" (cadr err))))))))

(ert-deftest smtpmail-native-act-tests-quitting ()
  "Leaving Emacs names what still waits, and only then asks."
  (smtpmail-native-sink-with-script '("C: MAIL *" "stall")
    (let ((noninteractive nil)
          (asked nil)
          (answer ?n))
      (cl-letf (((symbol-function 'read-multiple-choice)
                 (lambda (prompt choices)
                   (setq asked prompt)
                   (assq answer choices))))
        (should (smtpmail-native-act-may-quit-p))
        (should-not asked)
        (let ((noninteractive t))
          (smtpmail-native-sink-send "<1@x>" 'background)
          (let ((smtpmail-native-undo-seconds 1000))
            (smtpmail-native-sink-send "<2@x>" 'background))
          (smtpmail-native-sink-send "<3@x>" 'queue))
        (should (memq #'smtpmail-native-act-may-quit-p
                      kill-emacs-query-functions))
        (should-not (smtpmail-native-act-may-quit-p))
        (dolist (words '("1 being sent" "1 in its undo time" "1 queued"
                         "Nothing will be lost"))
          (should (string-match-p words asked)))
        (setq answer ?y)
        (should (smtpmail-native-act-may-quit-p))))))

(ert-deftest smtpmail-native-act-tests-delete-sent ()
  "What an Emacs that has ended has sent has its copy, though it is deleted."
  (smtpmail-native-sink-with nil
    (let* ((filed nil)
           (smtpmail-native-settle-file-functions
            (list (lambda (entry)
                    (push (smtpmail-native-entry-id entry) filed))))
           (sent (smtpmail-native-sink-crashed
                  (cdr (assq 'ok smtpmail-native-sink-receipts)) nil)))
      (smtpmail-native-act-delete sent)
      (should (equal filed (list sent)))
      (should-not (smtpmail-native-outbox-ids))
      (let ((refused (smtpmail-native-sink-crashed
                      '(:attempt 1 :kind reply :stage mail :code 550
                        :text "no")
                      nil)))
        (smtpmail-native-act-delete refused)
        (should (equal filed (list sent)))
        (should-not (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-act-tests-no-one-sees ()
  "A daemon without a client asks nothing: no one would see the question."
  (cl-letf* ((noninteractive nil)
             (name "initial_terminal")
             ((symbol-function 'daemonp) #'always)
             ((symbol-function 'terminal-name) (lambda (&rest _) name))
             ((symbol-function 'smtpmail-native-act--waiting)
              (lambda () '(("waiting to be sent" . 1))))
             (asked 0)
             ((symbol-function 'read-multiple-choice)
              (lambda (&rest _)
                (setq asked (1+ asked))
                '(?n "stay"))))
    (should-not (smtpmail-native-tell-attended-p))
    (should (smtpmail-native-act-may-quit-p))
    (should (= asked 0))
    (setq name "/dev/tty")
    (should (smtpmail-native-tell-attended-p))
    (should-not (smtpmail-native-act-may-quit-p))
    (should (= asked 1))))

(provide 'smtpmail-native-act-tests)
;;; smtpmail-native-act-tests.el ends here
