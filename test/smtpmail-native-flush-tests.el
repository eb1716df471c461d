;;; smtpmail-native-flush-tests.el --- All that waits is sent now  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What a flush covers, that each entry has one turn, and that the next session
;; goes on with one that was not finished.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)
(require 'smtpmail-native-stock-index)

(defun smtpmail-native-flush-tests--queue (id)
  "Queue a message whose Message-ID is ID, as `smtpmail-queue-mail' does."
  (let ((smtpmail-queue-mail t))
    (with-temp-buffer
      (insert "To: bob@example.org\nMessage-ID: " id "\n" mail-header-separator
              "\nx\n")
      (smtpmail-native-send-it))))

(defmacro smtpmail-native-flush-tests--begun (&rest body)
  "Begin a flush that lets nothing go on, and run BODY then."
  (declare (indent 0) (debug t))
  `(cl-letf (((symbol-function 'smtpmail-native-schedule-permit) #'ignore))
     (smtpmail-native-index-look)
     (smtpmail-native-index-complete smtpmail-native-test-seconds)
     (smtpmail-native-flush-begin)
     ,@body))

(defun smtpmail-native-flush-tests--file ()
  "Return the file of the mark."
  (expand-file-name "flush" smtpmail-native-outbox-directory))

(defun smtpmail-native-flush-tests--holds ()
  "Return what the entries of the outbox are held for, in order."
  (mapcar (lambda (state) (plist-get state :hold))
          (smtpmail-native-sink-states)))

(ert-deftest smtpmail-native-flush-tests-resume ()
  "The next session goes on with a flush that was not finished."
  (smtpmail-native-sink-with nil
    (smtpmail-native-flush-tests--queue "<1@x>")
    (smtpmail-native-flush-tests--queue "<2@x>")
    (smtpmail-native-flush-tests--begun
      (smtpmail-native-test-wait
       (lambda () (file-exists-p (smtpmail-native-flush-tests--file))))
      (should (= 2 (smtpmail-native-flush-count))))
    ;; This Emacs forgets all, as if it had ended.
    (smtpmail-native-watch-stop)
    (smtpmail-native-index-clear)
    (should (equal '(queue queue) (smtpmail-native-flush-tests--holds)))
    (smtpmail-native-flush-tests--queue "<3@x>")
    (smtpmail-native-watch-start)
    (smtpmail-native-test-wait
     (lambda ()
       (and (not (smtpmail-native-schedule-busy-p))
            (not (file-exists-p (smtpmail-native-flush-tests--file))))))
    (should (equal '("<1@x>" "<2@x>")
                   (sort (smtpmail-native-sink-log folder "arrived")
                         #'string<)))
    ;; What was queued later waits for the next flush.
    (should (equal '(queue) (smtpmail-native-flush-tests--holds)))))

(ert-deftest smtpmail-native-flush-tests-returns ()
  "A flush only counts what it sends; that goes on when the command is over."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-native-flush--step 2)
          (ids '("<1@x>" "<2@x>" "<3@x>" "<4@x>" "<5@x>")))
      (mapc #'smtpmail-native-flush-tests--queue ids)
      (smtpmail-native-index-look)
      (smtpmail-native-index-complete smtpmail-native-test-seconds)
      (let ((noninteractive nil)
            (smtpmail-native-index-watched t))
        (should (= 5 (smtpmail-native-act-flush)))
        (should (= 0 (hash-table-count smtpmail-native-flush--taken)))
        (should (smtpmail-native-schedule-busy-p)))
      (smtpmail-native-test-wait
       (lambda () (not (smtpmail-native-schedule-busy-p))))
      (should (= 5 (smtpmail-native-flush-count)))
      (should (equal ids (sort (smtpmail-native-sink-log folder "arrived")
                               #'string<))))))

(ert-deftest smtpmail-native-flush-tests-later ()
  "What is queued while a flush goes on waits for the next one."
  (smtpmail-native-sink-with nil
    (smtpmail-native-flush-tests--queue "<1@x>")
    (smtpmail-native-flush-tests--begun
      (smtpmail-native-flush-tests--queue "<2@x>")
      (should (equal '(t nil)
                     (mapcar (lambda (id)
                               (smtpmail-native-flush-covers-p
                                (smtpmail-native-index-entry id)))
                             (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-flush-tests-clock ()
  "What was queued before the clock was set back is covered, too."
  (smtpmail-native-sink-with nil
    (cl-letf* ((format (symbol-function 'format-time-string))
               ((symbol-function 'format-time-string)
                (lambda (string &optional time &rest args)
                  (apply format string (time-add time (* 24 3600)) args))))
      (smtpmail-native-flush-tests--queue "<1@x>"))
    (smtpmail-native-flush-tests--begun
      (should (= 1 (smtpmail-native-flush-count))))))

(ert-deftest smtpmail-native-flush-tests-index ()
  "What a flush is about to send has no line for smtpmail any more."
  (smtpmail-native-sink-with nil
    (smtpmail-native-flush-tests--queue "<1@x>")
    (smtpmail-native-stock-index-write 'known)
    (should (= 1 (length (smtpmail-native-stock-index-lines))))
    (smtpmail-native-flush-tests--begun
      (smtpmail-native-stock-index-write 'known)
      (should-not (smtpmail-native-stock-index-lines))
      ;; It gets it back if it was not sent.
      (smtpmail-native-flush-end)
      (smtpmail-native-stock-index-write 'known)
      (should (= 1 (length (smtpmail-native-stock-index-lines)))))))

(ert-deftest smtpmail-native-flush-tests-once ()
  "An entry that fails has had its turn; the flush ends."
  (smtpmail-native-sink-with '("--defer" "1000")
    (smtpmail-native-flush-tests--queue "<1@x>")
    (cl-letf (((symbol-function 'display-warning) #'ignore))
      (should (= 1 (smtpmail-native-act-flush)))
      (smtpmail-native-test-wait
       (lambda () (not (smtpmail-native-schedule-busy-p)))))
    (should-not smtpmail-native-flush--mark)
    (let ((state (car (smtpmail-native-sink-states))))
      (should (eq 'ready (plist-get state :status)))
      (should (= 1 (plist-get state :tries))))))

(ert-deftest smtpmail-native-flush-tests-mark ()
  "A mark that is damaged, or somebody else's, covers nothing."
  (smtpmail-native-sink-with nil
    (smtpmail-native-flush-tests--queue "<1@x>")
    (dolist (text '("" "(" "(:last 5 :time 1)" "(:last \"9\" :time \"x\")"
                    "#1=(:last #1#)" "(:last \"9\" . 7)"))
      (write-region text nil (smtpmail-native-flush-tests--file) nil 'silent)
      (smtpmail-native-flush-resume)
      (should-not smtpmail-native-flush--mark))
    (write-region "(:last \"9\" :time 1)" nil
                  (smtpmail-native-flush-tests--file) nil 'silent)
    (set-file-modes (smtpmail-native-flush-tests--file) #o666)
    (smtpmail-native-flush-resume)
    (should-not smtpmail-native-flush--mark)))

(ert-deftest smtpmail-native-flush-tests-mark-of-another ()
  "The end of a flush leaves the mark that another Emacs has made since."
  (smtpmail-native-test-with-mode '("close")
    (smtpmail-native-outbox-make-area "queue")
    (let ((file (smtpmail-native-flush--file))
          (smtpmail-native-schedule-idle-hook nil))
      (cl-flet ((settle ()
                  (smtpmail-native-disk-await
                   (smtpmail-native-disk-pending file) nil)))
        (smtpmail-native-flush-begin)
        (settle)
        (write-region "(:last \"29991231T000000.000000\" :time 32503593600.0)\n"
                      nil file nil 'silent)
        (smtpmail-native-flush-end)
        (settle)
        (should (file-exists-p file))
        (smtpmail-native-flush-resume)
        (smtpmail-native-flush-end)
        (settle)
        (should-not (file-exists-p file))))))

(ert-deftest smtpmail-native-flush-tests-in-other-hands ()
  "The mark stays while another Emacs has an entry that it covers."
  (smtpmail-native-sink-with nil
    (smtpmail-native-flush-tests--queue "<1@x>")
    (smtpmail-native-flush-tests--queue "<2@x>")
    (let* ((entry (smtpmail-native-outbox-get
                   (car (smtpmail-native-outbox-ids))))
           ;; As good as that of another Emacs: nothing here knows of it.
           (claim (smtpmail-native-outbox-lock
                   (smtpmail-native-outbox-file entry)))
           (over (lambda ()
                   (and (not (smtpmail-native-schedule-busy-p))
                        (null smtpmail-native-flush--mark)))))
      (smtpmail-native-act-flush)
      (smtpmail-native-test-wait over)
      (smtpmail-native-test-disk-idle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<2@x>")))
      (should (file-exists-p (smtpmail-native-flush-tests--file)))
      (smtpmail-native-module-release claim)
      (smtpmail-native-flush-resume)
      (smtpmail-native-test-wait over)
      (smtpmail-native-test-disk-idle)
      (should (equal (smtpmail-native-sink-log folder "arrived")
                     '("<2@x>" "<1@x>")))
      (should-not (file-exists-p (smtpmail-native-flush-tests--file))))))

(provide 'smtpmail-native-flush-tests)
;;; smtpmail-native-flush-tests.el ends here
