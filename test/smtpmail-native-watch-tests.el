;;; smtpmail-native-watch-tests.el --- The standing look at the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Who sends what, and when: what others have left, what is too old, what a
;; failed look leaves, and what loading does not do.  An Emacs with a terminal
;; shows that no question comes from a timer.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

(defun smtpmail-native-watch-tests--put (state &optional wishes created)
  "Put an entry in STATE into the outbox, with WISHES and CREATED; return its id.
No one is told of it, as if another Emacs had put it there."
  (smtpmail-native-sink-put
   state nil
   (append (and wishes (list :wishes wishes))
           (and created (list :created created)))))

(defun smtpmail-native-watch-tests--settle ()
  "Wait until nothing is under way in this Emacs."
  (smtpmail-native-test-wait
   (lambda () (not (smtpmail-native-schedule-busy-p)))))

(defun smtpmail-native-watch-tests--state (id key)
  "Return KEY of the state of the entry ID."
  (plist-get (smtpmail-native-entry-state (smtpmail-native-outbox-get id))
             key))

;;;; A flush

(ert-deftest smtpmail-native-watch-tests-flush-writes-nothing ()
  "What a flush sends at once is read once, and no state is written for it."
  (smtpmail-native-sink-with nil
    (dotimes (_ 3)
      (smtpmail-native-watch-tests--put '(:status held :hold queue)))
    (smtpmail-native-index-look)
    (smtpmail-native-index-complete smtpmail-native-test-seconds)
    (let ((written 0)
          (original (symbol-function 'smtpmail-native-outbox-set)))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-set)
                 (lambda (&rest args)
                   (setq written (1+ written))
                   (apply original args))))
        (should (= 3 (smtpmail-native-act-flush)))
        (smtpmail-native-watch-tests--settle))
      (should (= written 0)))
    (should (= 3 (length (smtpmail-native-sink-log folder "arrived"))))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-watch-tests-flush-put-off ()
  "What a flush could not begin is due from then on."
  (smtpmail-native-sink-with nil
    (let ((id (smtpmail-native-watch-tests--put '(:status held :hold queue))))
      (smtpmail-native-index-look)
      (smtpmail-native-index-complete smtpmail-native-test-seconds)
      (cl-letf (((symbol-function 'smtpmail-native-channel-submit)
                 (lambda (&rest _)
                   (signal 'smtpmail-native-error '("No threads"))))
                ((symbol-function 'smtpmail-native-tell-say) #'ignore))
        (smtpmail-native-act-flush)
        (smtpmail-native-watch-tests--settle))
      (should (eq (smtpmail-native-watch-tests--state id :status) 'ready))
      (should-not (smtpmail-native-outbox-claimed-p id))
      (smtpmail-native-watch-look)
      (smtpmail-native-watch-tests--settle)
      (should (= 1 (length (smtpmail-native-sink-log folder "arrived")))))))

;;;; The beginning

(ert-deftest smtpmail-native-watch-tests-told-at-start ()
  "What an earlier session has left is told once all has been looked at."
  (pcase-dolist
      (`(,states ,words)
       '((((:status held :hold queue)) "1 message waits in the outbox")
         (((:status refused)) "1 message needs attention in the outbox")
         (((:status held :hold queue) (:status ready :next 4000000000 :tries 1)
           (:status held :hold user) (:status unknown :doubt t))
          "2 messages wait, 1 message needs attention in the outbox")
         (((:status held :hold user)) nil)))
    (smtpmail-native-sink-with nil
      (let ((said nil)
            (now (truncate (float-time))))
        (dolist (state states)
          (smtpmail-native-watch-tests--put
           (if (plist-get state :next)
               (plist-put (copy-sequence state) :next (+ now 1000))
             state)))
        (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                   (lambda (&rest args)
                     (push (apply #'format-message args) said))))
          (smtpmail-native-watch-start)
          (smtpmail-native-test-wait
           (lambda () (null smtpmail-native-schedule--tell-left))))
        (if words
            (should (string-prefix-p words (car said)))
          (should-not said))))))

;;;; Time

(ert-deftest smtpmail-native-watch-tests-old ()
  "A message that is too old is held when it is picked up; a word sends it."
  (smtpmail-native-sink-with nil
    (let ((id (smtpmail-native-watch-tests--put
               '(:status ready) nil
               (- (truncate (float-time)) (* 90 24 3600))))
          (smtpmail-native-expire (* 3 24 3600)))
      (cl-letf (((symbol-function 'display-warning) #'ignore))
        (smtpmail-native-watch-look)
        (smtpmail-native-watch-tests--settle))
      (should (eq (smtpmail-native-watch-tests--state id :hold) 'expired))
      (should-not (smtpmail-native-sink-log folder "arrived"))
      (should (= 1 (smtpmail-native-act-flush)))
      (smtpmail-native-watch-tests--settle)
      (should (= 1 (length (smtpmail-native-sink-log folder "arrived")))))))

(ert-deftest smtpmail-native-watch-tests-wrong-clock ()
  "A next try that is further away than any pause is due now."
  (smtpmail-native-sink-with nil
    (smtpmail-native-watch-tests--put
     (list :status 'ready :tries 1
           :next (+ (truncate (float-time)) (* 365 24 3600))))
    (smtpmail-native-watch-look)
    (smtpmail-native-watch-tests--settle)
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-watch-tests-undo-is-the-last-send ()
  "A message that is scheduled for later is nothing to undo."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-native-undo-seconds 1000)
          (id nil))
      (setq id (plist-get (smtpmail-native-sink-send "<1@x>" 'background) :id))
      (let ((mail (smtpmail-native-sink-mail "<2@x>")))
        (unwind-protect
            (smtpmail-native-queue-send
             (plist-put mail :wishes
                        (list :release (+ 3600 (truncate (float-time)))))
             'background)
          (kill-buffer (plist-get mail :buffer))))
      (should (equal (smtpmail-native-act-undo-candidate) id))
      (smtpmail-native-act-delete id)
      (should-not (smtpmail-native-act-undo-candidate))
      (should (= 1 (length (smtpmail-native-outbox-ids)))))))

;;;; What others have left

(ert-deftest smtpmail-native-watch-tests-standing-look ()
  "A look sends what has come since the last one, without a command."
  (smtpmail-native-sink-with nil
    (smtpmail-native-watch-start)
    (should (memq smtpmail-native-schedule--look-timer timer-list))
    (should (timer--repeat-delay smtpmail-native-schedule--look-timer))
    (smtpmail-native-watch-tests--put '(:status ready))
    ;; What its timer does.
    (apply (timer--function smtpmail-native-schedule--look-timer)
           (timer--args smtpmail-native-schedule--look-timer))
    (smtpmail-native-watch-tests--settle)
    (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>")))))

(ert-deftest smtpmail-native-watch-tests-event ()
  "What the system tells of the outbox is looked at, once."
  (smtpmail-native-sink-with nil
    (setq smtpmail-native-schedule--started t)
    (let ((id (smtpmail-native-watch-tests--put '(:status ready))))
      (smtpmail-native-watch--on-event
       (list nil 'renamed (directory-file-name
                           (smtpmail-native-outbox-file
                            (smtpmail-native-outbox-get id)))))
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-outbox-ids))))
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>"))))))

(ert-deftest smtpmail-native-watch-tests-failed-look ()
  "A look that fails is told once, and the next one goes on."
  (smtpmail-native-sink-with nil
    (let ((said nil))
      (smtpmail-native-watch-tests--put '(:status ready))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-ids)
                 (lambda ()
                   (smtpmail-native-error-signal
                    'smtpmail-native-outbox-error
                    "Cannot read the outbox: Input/output error")))
                ((symbol-function 'smtpmail-native-tell-say)
                 (lambda (format &rest args)
                   (push (apply #'format format args) said))))
        (dotimes (_ 3)
          (smtpmail-native-watch-start)))
      (should (= 1 (seq-count (lambda (line)
                                (string-match-p "Input/output error" line))
                              said)))
      (should (memq smtpmail-native-schedule--look-timer timer-list))
      (smtpmail-native-watch--try-look)
      (smtpmail-native-watch-tests--settle)
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-watch-tests-outbox-gone ()
  "If the outbox is gone, it is told which messages are, and it may come back."
  (smtpmail-native-sink-with nil
    (let* ((outbox (directory-file-name smtpmail-native-outbox-directory))
           (away (concat outbox ".away"))
           (said nil))
      (smtpmail-native-watch-tests--put '(:status held :hold user))
      (smtpmail-native-watch-look)
      (smtpmail-native-watch-tests--settle)
      (rename-file outbox away)
      (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                 (lambda (format &rest args)
                   (push (apply #'format format args) said))))
        (dotimes (_ 2)
          (smtpmail-native-watch--try-look)))
      (should (= (length said) 1))
      (should (string-match-p "bob@example.org" (car said)))
      (rename-file away outbox)
      (smtpmail-native-watch--try-look)
      (smtpmail-native-watch-tests--settle)
      (should (= 1 (length (smtpmail-native-index-select #'identity)))))))

(ert-deftest smtpmail-native-watch-tests-slices ()
  "A look at many entries gives Emacs back every few milliseconds."
  (smtpmail-native-sink-with nil
    (let* ((id (smtpmail-native-watch-tests--put '(:status held :hold user)))
           (source (directory-file-name
                    (smtpmail-native-outbox-file
                     (smtpmail-native-outbox-get id)))))
      (dotimes (n 300)
        (copy-directory source
                        (expand-file-name
                         (format "20260101T000000.%06d-1-0000" n)
                         (file-name-directory source))
                        t nil t))
      (smtpmail-native-index-look)
      (let ((steps 0))
        (while (smtpmail-native-index-step (float-time))
          (setq steps (1+ steps)))
        ;; Each step reads a few entries when its time is over at once.
        (should (> steps 30)))
      (should (= 301 (length (smtpmail-native-index-select #'identity))))
      ;; What has not changed since is not read again.
      (let ((reads 0))
        (dolist (directory (directory-files (file-name-directory source) t
                                            "\\`[^.]"))
          (set-file-times directory (time-subtract nil 100)))
        (smtpmail-native-index-look)
        (smtpmail-native-index-complete 20)
        (cl-letf* ((get (symbol-function 'smtpmail-native-outbox-get))
                   ((symbol-function 'smtpmail-native-outbox-get)
                    (lambda (&rest args)
                      (setq reads (1+ reads))
                      (apply get args))))
          (smtpmail-native-index-look)
          (smtpmail-native-index-complete 20))
        (should (= reads 0))))))

;;;; Loading

(ert-deftest smtpmail-native-watch-tests-loading ()
  "Loading sends nothing, sets no timer, and can be undone."
  (smtpmail-native-sink-with nil
    (smtpmail-native-watch-tests--put '(:status ready))
    (let ((out (smtpmail-native-test-emacs
                smtpmail-native-test-folder "--eval"
                (prin1-to-string
                 `(progn
                    (require 'smtpmail)
                    (let ((timers (length (append timer-list timer-idle-list)))
                          (noninteractive nil))
                      (setq smtpmail-native-outbox-directory
                            ,smtpmail-native-outbox-directory)
                      (require 'smtpmail-native)
                      (princ (= timers
                                (length (append timer-list timer-idle-list)))))
                    (smtpmail-native-mode 1)
                    (setq send-mail-function #'smtpmail-native-send-it)
                    (unload-feature 'smtpmail-native t)
                    (princ (list (advice-member-p
                                  'smtpmail-native-mode--via-smtp
                                  'smtpmail-via-smtp)
                                 send-mail-function
                                 (featurep 'smtpmail-native))))))))
      (should (equal out '(0 . "t(nil smtpmail-send-it nil)"))))
    (should-not (smtpmail-native-sink-log folder "connect"))))

;;;; With real keys

(ert-deftest smtpmail-native-watch-tests-no-question ()
  "What you type while a message lacks its password is your text.
The question comes with a command, and the answer sends the message."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN user pass"
       smtpmail-native-test-mail)
    (let ((id (smtpmail-native-watch-tests--put '(:status ready)))
          (seen (expand-file-name "seen" folder)))
      (smtpmail-native-test-with-terminal folder
          `(progn
             (require 'smtpmail-native)
             ,(smtpmail-native-test-account port)
             (setq smtpmail-auth-credentials '(("localhost" ,port "user" nil)))
             (switch-to-buffer (get-buffer-create "text"))
             (smtpmail-native-start)
             ;; Two seconds of thinking were a question once.
             (run-with-idle-timer
              3 nil (lambda ()
                      (write-region
                       (format "%S" (list (minibuffer-depth)
                                          (with-current-buffer "text"
                                            (buffer-string))))
                       nil ,seen nil 'silent))))
        (smtpmail-native-test-wait
         (lambda ()
           (eq (smtpmail-native-watch-tests--state id :hold) 'password)))
        (smtpmail-native-test-type "a line of mine")
        (smtpmail-native-test-wait (lambda () (file-exists-p seen)))
        (should (equal (smtpmail-native-test-text seen)
                       "(0 \"a line of mine\")"))
        (smtpmail-native-test-type "\exsmtpmail-native-unlock\r")
        (smtpmail-native-test-shown "SMTP password")
        (smtpmail-native-test-type "pass\r")
        (smtpmail-native-test-drained)
        (smtpmail-native-test-verdict server)))))

(provide 'smtpmail-native-watch-tests)
;;; smtpmail-native-watch-tests.el ends here
