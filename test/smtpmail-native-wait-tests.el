;;; smtpmail-native-wait-tests.el --- Waiting for an outcome  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Against the scripted server where the dialogue counts, against the sink where
;; many messages do.

;;; Code:

(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

;;;; While the sender waits

(ert-deftest smtpmail-native-wait-tests-wait-withdraws ()
  "A mail that was not sent while its sender waited is not in the outbox."
  (dolist (script (list (smtpmail-native-sink-refuse "550 no")
                        (smtpmail-native-sink-refuse "421 later")
                        '("close")))
    (smtpmail-native-sink-with-script (list script)
      (should-error (smtpmail-native-sink-send "<1@x>" 'wait)
                    :type 'smtpmail-native-error)
      (should-not (smtpmail-native-outbox-ids))
      (should-not told))))

(ert-deftest smtpmail-native-wait-tests-wait-unknown ()
  "One of unknown outcome is kept, and nobody sends it again."
  (smtpmail-native-sink-with-script
      (list smtpmail-native-sink-doubt)
    (should-error (smtpmail-native-sink-send "<1@x>" 'wait)
                  :type 'smtpmail-native-unknown-outcome)
    (dotimes (_ 3)
      (smtpmail-native-watch-look)
      (smtpmail-native-sink-settle))
    (should (eq (smtpmail-native-sink-state :status) 'unknown))
    (should-not (smtpmail-native-sink-state :wait))
    (should-not (smtpmail-native-outbox-claimed-p
                 (car (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-wait-tests-wait-thrown ()
  "A throw out of the wait ends the attempt before the mail is withdrawn."
  (smtpmail-native-sink-with-script '("C: MAIL *" "stall")
    (catch 'out
      (run-at-time 0.2 nil (lambda () (throw 'out nil)))
      (smtpmail-native-sink-send "<1@x>" 'wait)
      (error "It came back"))
    (should (smtpmail-native-sink-idle-p))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-wait-tests-wait-thrown-late ()
  "A throw behind the end of data keeps the mail, as one of unknown outcome."
  (smtpmail-native-sink-with-script
      '("C: MAIL *" "S: 250 ok" "C: RCPT *" "S: 250 ok" "C: DATA" "S: 354 go"
        "data" "stall")
    (catch 'out
      (let ((timer nil))
        (setq timer
              (run-at-time
               0 0.05
               (lambda ()
                 (let ((id (car (smtpmail-native-outbox-ids))))
                   (when (and id (string-match-p
                                  "^C: \\.$"
                                  (or (smtpmail-native-tell-trace id) "")))
                     (cancel-timer timer)
                     (throw 'out nil)))))))
      (smtpmail-native-sink-send "<1@x>" 'wait)
      (error "It came back"))
    (should (smtpmail-native-sink-idle-p))
    (should (eq (smtpmail-native-sink-state :status) 'unknown))))

;;;; What cannot be withdrawn

(ert-deftest smtpmail-native-wait-tests-withdraw-fails ()
  "A message that is withdrawn but cannot be deleted is held, not sent later."
  (smtpmail-native-sink-with nil
    (make-directory smtpmail-native-outbox-directory t)
    (set-file-modes smtpmail-native-outbox-directory #o700)
    (write-region "" nil
                  (expand-file-name "trash" smtpmail-native-outbox-directory))
    (cl-letf (((symbol-function 'display-warning) #'ignore)
              ((symbol-function 'smtpmail-native-outbox-make-durable)
               ;; The user types C-g while it is synced.
               (lambda (&rest _) (setq quit-flag t))))
      (should (eq 'quit (condition-case nil
                            (smtpmail-native-sink-send "<1@x>" 'background)
                          (quit 'quit)))))
    (should (equal (smtpmail-native-sink-state :status) 'held))
    (smtpmail-native-watch-look)
    (smtpmail-native-sink-settle)
    (should-not (smtpmail-native-sink-log folder "arrived"))
    (should-not (smtpmail-native-outbox-claimed-p
                 (car (smtpmail-native-outbox-ids))))))

(provide 'smtpmail-native-wait-tests)
;;; smtpmail-native-wait-tests.el ends here
