;;; smtpmail-native-schedule-tests.el --- What is next  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Against the scripted server where the dialogue counts, against the sink where
;; many messages do.

;;; Code:

(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

;;;; Crashes

(ert-deftest smtpmail-native-schedule-tests-recover ()
  "What an attempt has led to is read from its receipt."
  (dolist (case '((nil nil 1 nil)
                  (earlier nil 1 nil)
                  (cancelled nil 1 nil)
                  (ok nil 0 nil)
                  (doubt nil 0 unknown)
                  (deferred nil 0 ready)
                  (refused nil 0 refused)
                  ;; Its sender waited, and may have sent it otherwise.
                  (nil (:wait t) 0 held)
                  (ok (:wait t) 0 nil)
                  (doubt (:wait t) 0 unknown)
                  (deferred (:wait t) 0 held)
                  ;; The user has cancelled it.
                  (nil (:status held :hold user) 0 held)
                  (cancelled (:status held :hold user) 0 held)
                  (deferred (:status held :hold user) 0 held)
                  (doubt (:status held :hold user) 0 unknown)))
    (smtpmail-native-sink-with nil
      (smtpmail-native-sink-crashed
       (cdr (assq (nth 0 case) smtpmail-native-sink-receipts))
       (nth 1 case))
      (dotimes (_ 3)
        (smtpmail-native-watch-look)
        (smtpmail-native-sink-settle))
      (ert-info ((format "%S" case))
        (should (= (length (smtpmail-native-sink-log folder "arrived"))
                   (nth 2 case)))
        (should (equal (mapcar (lambda (state) (plist-get state :status))
                               (smtpmail-native-sink-states))
                       (and (nth 3 case) (list (nth 3 case)))))))))

(ert-deftest smtpmail-native-schedule-tests-tell-held ()
  "When Emacs starts it says once how many mails wait for the user."
  (smtpmail-native-sink-with nil
    (dolist (state '((:status held :hold password)
                     (:status held :hold user)
                     (:wait t)))        ; becomes one that was interrupted
      (smtpmail-native-sink-crashed nil state))
    (let ((said nil))
      (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                 (lambda (format &rest args)
                   (push (apply #'format format args) said))))
        (smtpmail-native-watch-start)
        (smtpmail-native-sink-settle)
        (smtpmail-native-watch-look)
        (smtpmail-native-sink-settle))
      (should (= 1 (seq-count (lambda (line)
                                (string-prefix-p "2 messages need attention "
                                                 line))
                              said))))))

(ert-deftest smtpmail-native-schedule-tests-settle-once ()
  "To settle is one write, and doing it again changes nothing."
  (smtpmail-native-sink-with nil
    (dolist (kind '(doubt ok deferred refused))
      (let* ((id (smtpmail-native-sink-crashed
                  (cdr (assq kind smtpmail-native-sink-receipts)) nil))
             (entry (smtpmail-native-outbox-get id))
             (writes 0)
             (write (symbol-function 'smtpmail-native-disk-hand-in)))
        (smtpmail-native-outbox-claim entry)
        (cl-letf (((symbol-function 'smtpmail-native-disk-hand-in)
                   (lambda (&rest args)
                     (setq writes (1+ writes))
                     (apply write args))))
          ;; Of what was sent the receipt tells enough.
          (smtpmail-native-settle entry)
          (should (= writes (if (eq kind 'ok) 0 1)))
          (let ((state (smtpmail-native-entry-state entry)))
            (smtpmail-native-settle (smtpmail-native-outbox-load entry))
            (should (<= writes 1))
            (should (equal state (smtpmail-native-entry-state entry)))))
        (smtpmail-native-outbox-remove entry)))))

(ert-deftest smtpmail-native-schedule-tests-damaged-receipt ()
  "A receipt that cannot be read is told once, and does not stop the user."
  (smtpmail-native-sink-with nil
    (let* ((id (smtpmail-native-sink-crashed nil nil))
           (told 0)
           (smtpmail-native-failed-functions
            (list (lambda (_) (setq told (1+ told))))))
      (write-region "(:atte" nil
                    (smtpmail-native-outbox-file (smtpmail-native-outbox-get id)
                                                 "receipt")
                    nil 'silent)
      (dotimes (_ 3)
        (smtpmail-native-watch-look)
        (smtpmail-native-sink-settle))
      (should (= told 1))
      (should (eq (smtpmail-native-sink-state :status) 'unknown))
      (should-not (smtpmail-native-sink-log folder "arrived"))
      (smtpmail-native-act-retry id t)
      (smtpmail-native-sink-settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>")))
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-schedule-tests-stale-look ()
  "What another Emacs has done before the claim is not done again."
  (smtpmail-native-sink-with nil
    (let* ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'queue) :id))
           (claim (symbol-function 'smtpmail-native-outbox-claim))
           (meddle t))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-claim)
                 (lambda (entry)
                   (when meddle
                     (setq meddle nil)
                     (funcall claim entry)
                     (smtpmail-native-outbox-set
                      entry :status 'unknown :hold nil :settled 1)
                     (smtpmail-native-outbox-release entry))
                   (funcall claim entry))))
        (smtpmail-native-act-flush)
        (smtpmail-native-sink-settle))
      (should-not meddle)
      (should (eq (plist-get (smtpmail-native-entry-state
                              (smtpmail-native-outbox-get id))
                             :status)
                  'unknown))
      (should-not (smtpmail-native-sink-log folder "arrived")))))

(ert-deftest smtpmail-native-schedule-tests-stale-try ()
  "An attempt that has begun and ended meanwhile is settled, not repeated."
  (smtpmail-native-sink-with nil
    (let* ((id (smtpmail-native-sink-crashed nil '(:attempt 0)))
           (claim (symbol-function 'smtpmail-native-outbox-claim))
           (meddle t))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-claim)
                 (lambda (entry)
                   (when meddle
                     (setq meddle nil)
                     (funcall claim entry)
                     (smtpmail-native-outbox-set entry :attempt 1)
                     (smtpmail-native-test-write
                      (smtpmail-native-outbox-file entry "receipt")
                      (cdr (assq 'doubt
                                 smtpmail-native-sink-receipts)))
                     (smtpmail-native-outbox-release entry))
                   (funcall claim entry))))
        (smtpmail-native-watch-look)
        (smtpmail-native-sink-settle))
      (should (eq (plist-get (smtpmail-native-entry-state
                              (smtpmail-native-outbox-get id))
                             :status)
                  'unknown))
      (should-not (smtpmail-native-sink-log folder "arrived")))))

(ert-deftest smtpmail-native-schedule-tests-damaged ()
  "A damaged entry is left alone, does not keep Emacs busy, others go on."
  (smtpmail-native-sink-with nil
    (let ((id (smtpmail-native-sink-crashed nil '(:attempt 0 :next 1))))
      (write-region "x" nil
                    (smtpmail-native-outbox-file (smtpmail-native-outbox-get id)
                                                 "message")
                    nil 'silent)
      (smtpmail-native-sink-send "<2@x>" 'queue)
      (smtpmail-native-act-flush)
      (smtpmail-native-sink-settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<2@x>")))
      (should (equal (smtpmail-native-outbox-ids) (list id)))
      (should-not (memq smtpmail-native-schedule--timer timer-list))
      (should-error (smtpmail-native-act-retry id)
                    :type 'smtpmail-native-usage-error)
      ;; Nobody has kept the claim.
      (should-not (smtpmail-native-outbox-claimed-p id)))))

(ert-deftest smtpmail-native-schedule-tests-disk-full ()
  "Where the state cannot be written a sent mail is told as sent, once."
  (smtpmail-native-sink-with-script (list smtpmail-native-test-mail)
    (let ((write (symbol-function 'smtpmail-native-outbox-set)))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-set)
                 (lambda (entry &rest plist)
                   (if (not (plist-get plist :settled))
                       (apply write entry plist)
                     (cl-letf (((symbol-function 'smtpmail-native-disk-submit)
                                (lambda (_ handler)
                                  (funcall handler '(:kind file
                                                     :text "full")))))
                       (apply write entry plist))))))
        (should (eq (plist-get (smtpmail-native-sink-send "<1@x>" 'wait) :kind)
                    'ok))))
    (should (equal (mapcar #'car told) '(sent)))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-schedule-tests-undeletable ()
  "A mail that was sent and cannot be deleted is not told as unsent."
  (smtpmail-native-sink-with-script (list smtpmail-native-test-mail)
    (cl-letf (((symbol-function 'smtpmail-native-outbox-remove)
               (lambda (&rest _)
                 (smtpmail-native-error-signal 'smtpmail-native-outbox-error
                                               "Cannot delete"))))
      (should (eq (plist-get (smtpmail-native-sink-send "<1@x>" 'wait) :kind)
                  'ok)))
    (should (eq (smtpmail-native-sink-state :status) 'sent))
    (smtpmail-native-watch-look)
    (smtpmail-native-sink-settle)
    (should-not (smtpmail-native-outbox-ids))
    (should (equal (mapcar #'car told) '(sent)))))

;;;; Many mails

(ert-deftest smtpmail-native-schedule-tests-order ()
  "The mails of an account leave in their order, over few connections."
  (smtpmail-native-sink-with nil
    (let ((ids (mapcar (lambda (n) (format "<%02d@x>" n)) (number-sequence 1 40)))
          (smtpmail-native-max-sessions 1))
      (dolist (id ids)
        (smtpmail-native-sink-send id 'queue))
      (smtpmail-native-act-flush)
      (smtpmail-native-sink-settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") ids))
      (should-not (smtpmail-native-outbox-ids))
      (should (= 1 (length (smtpmail-native-sink-log folder "connect")))))))

(ert-deftest smtpmail-native-schedule-tests-max-sessions ()
  "No more connections are opened than allowed."
  (smtpmail-native-sink-with '("--delay" "5")
    (let ((smtpmail-native-max-sessions 2))
      (dotimes (n 60)
        (smtpmail-native-sink-send (format "<%d@x>" n) 'queue))
      (smtpmail-native-act-flush)
      (smtpmail-native-sink-settle)
      (should (= 60 (length (smtpmail-native-sink-log folder "arrived"))))
      (should (<= 1 (length (smtpmail-native-sink-log folder "connect")) 2)))))

(defun smtpmail-native-sink-flusher (port)
  "Start an Emacs that flushes the outbox, whose server is at PORT."
  (make-process
   :name "flusher" :noquery t :buffer (generate-new-buffer " *flusher*")
   :command
   (list (expand-file-name invocation-name invocation-directory)
         "-Q" "--batch" "-L" smtpmail-native-test-folder
         "-L" (expand-file-name "lisp" smtpmail-native-test-folder)
         ;; Its variables cannot be bound before it is loaded.
         "-l" "smtpmail-native" "-l" "smtpmail-native-act" "--eval"
         (prin1-to-string
          `(let ((smtpmail-native-outbox-directory
                  ,smtpmail-native-outbox-directory)
                 (smtpmail-smtp-server "127.0.0.1")
                 (smtpmail-smtp-service ,port)
                 (auth-sources nil))
             (smtpmail-native-act-flush)
             (while (smtpmail-native-outbox-ids)
               (accept-process-output nil 0.02)))))))

(ert-deftest smtpmail-native-schedule-tests-two-emacsen ()
  "Two Emacsen that flush one outbox of 200 deliver each mail once."
  (smtpmail-native-sink-with nil
    (let ((ids (mapcar (lambda (n) (format "<%03d@x>" n))
                       (number-sequence 1 200)))
          (flushers nil))
      (dolist (id ids)
        (smtpmail-native-sink-send id 'queue))
      (unwind-protect
          (progn
            (dotimes (_ 2)
              (push (smtpmail-native-sink-flusher port) flushers))
            (dolist (flusher flushers)
              (smtpmail-native-test-wait
               (lambda () (not (process-live-p flusher))))
              (ert-info ((with-current-buffer (process-buffer flusher)
                           (buffer-string)))
                (should (= 0 (process-exit-status flusher))))))
        (dolist (flusher flushers)
          (delete-process flusher)
          (kill-buffer (process-buffer flusher))))
      (should (equal (sort (smtpmail-native-sink-log folder "arrived")
                           #'string<)
                     ids)))))

(ert-deftest smtpmail-native-schedule-tests-stopped-emacs ()
  "An Emacs that is stopped keeps what it works on, and nothing else.
When it goes on nothing is sent twice."
  (smtpmail-native-sink-with '("--delay" "20")
    (let ((ids (mapcar (lambda (n) (format "<%02d@x>" n))
                       (number-sequence 1 (+ smtpmail-native-go--in-flight 20))))
          (flusher nil))
      (dolist (id ids)
        (smtpmail-native-sink-send id 'queue))
      (unwind-protect
          (progn
            (setq flusher (smtpmail-native-sink-flusher port))
            (smtpmail-native-test-wait
             (lambda () (smtpmail-native-sink-log folder "arrived")))
            (signal-process flusher 'SIGSTOP)
            (smtpmail-native-act-flush)
            (smtpmail-native-sink-settle)
            (smtpmail-native-test-disk-idle)
            ;; What it has begun is left to it.
            (should (<= 1 (length (smtpmail-native-outbox-ids))
                        smtpmail-native-go--in-flight))
            (signal-process flusher 'SIGCONT)
            (smtpmail-native-test-wait
             (lambda () (not (process-live-p flusher)))))
        (when flusher
          (delete-process flusher)
          (kill-buffer (process-buffer flusher))))
      (should (equal (sort (smtpmail-native-sink-log folder "arrived")
                           #'string<)
                     ids)))))

(provide 'smtpmail-native-schedule-tests)
;;; smtpmail-native-schedule-tests.el ends here
