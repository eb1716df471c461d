;;; smtpmail-native-queue-tests.el --- When to send, what an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The outbox at work, against the scripted server where the dialogue counts,
;; against the sink where many mails do.

;;; Code:

(require 'ert)
(require 'smtpmail-native-sink)

;;;; With real keys

(defun smtpmail-native-queue-tests--mail-form (port slow)
  "Return a form that opens a message to Bob, to be sent to PORT.
SLOW is a form that is evaluated first."
  `(progn
     (require 'smtpmail-native)
     (require 'message)
     ,(smtpmail-native-test-account port)
     ,slow
     (message-mail "bob@example.org" "once")
     (message-goto-body)
     (insert "Hello\n")))

(ert-deftest smtpmail-native-queue-tests-quit-while-syncing ()
  "A quit while a message is synced withdraws it: the next command sends it."
  (smtpmail-native-sink-with nil
    (let ((at (expand-file-name "at" folder)))
      (smtpmail-native-test-with-terminal folder
          (smtpmail-native-queue-tests--mail-form
           port
           ;; The disk never says that it is done, the first time.
           `(let ((wait t))
              (advice-add 'smtpmail-native-disk-await :around
                          (lambda (real &rest args)
                            (if (not wait)
                                (apply real args)
                              (setq wait nil)
                              (write-region "" nil ,at nil 'silent)
                              (smtpmail-native-channel-await #'ignore 60)
                              'slow)))))
        (smtpmail-native-test-type "\C-c\C-c")
        (smtpmail-native-test-wait (lambda () (file-exists-p at)))
        (smtpmail-native-test-type "\C-g")
        (smtpmail-native-test-shown "Quit")
        (should-not (smtpmail-native-outbox-ids))
        (should-not (smtpmail-native-sink-log folder "arrived"))
        (smtpmail-native-test-type "\C-c\C-c")
        (smtpmail-native-test-wait
         (lambda () (smtpmail-native-sink-log folder "arrived")))
        (smtpmail-native-test-drained)
        (should (= 1 (length (smtpmail-native-sink-log folder "arrived"))))))))

(ert-deftest smtpmail-native-queue-tests-quit-too-late ()
  "A quit after the message is in the outbox is too late: the command returns."
  (smtpmail-native-sink-with nil
    (let ((at (expand-file-name "at" folder)))
      (smtpmail-native-test-with-terminal folder
          (smtpmail-native-queue-tests--mail-form
           port
           ;; It is busy between the commit and its return, until the quit is
           ;; there: a terminal may take a while to deliver it.
           `(advice-add 'smtpmail-native-copy-expect :before
                        (lambda (&rest _)
                          (write-region "" nil ,at nil 'silent)
                          (let ((end (+ (float-time) 60)))
                            (while (and (not quit-flag)
                                        (< (float-time) end)))))))
        (smtpmail-native-test-type "\C-c\C-c")
        (smtpmail-native-test-wait (lambda () (file-exists-p at)))
        (smtpmail-native-test-type "\C-g")
        (smtpmail-native-test-wait
         (lambda () (smtpmail-native-sink-log folder "arrived")))
        (smtpmail-native-test-drained)
        ;; The command has ended as one that has sent: its buffer is buried.
        (smtpmail-native-test-type
         (format "\e:(write-region (buffer-name) nil %S)\r"
                 (expand-file-name "name" folder)))
        (smtpmail-native-test-wait
         (lambda () (not (equal "" (smtpmail-native-test-text
                                    (expand-file-name "name" folder))))))
        (should-not (string-match-p "mail"
                                    (smtpmail-native-test-text
                                     (expand-file-name "name" folder))))
        (should (= 1 (length (smtpmail-native-sink-log folder
                                                       "arrived"))))))))

;;;; Outcomes

(ert-deftest smtpmail-native-queue-tests-password-untested ()
  "A password that no server has looked at is not called wrong."
  (dolist (case '((auth nil password) (auth t refused)
                  (unsupported t refused) (cancelled t cancelled)))
    (let ((receipt (list :kind (car case) :stage 'auth :code 535
                         :enhanced "5.7.8" :text "x"
                         :password-untested (nth 1 case))))
      (should (eq (smtpmail-native-verdict receipt) (nth 2 case)))
      (should (eq (smtpmail-native-verdict
                   (append '(:in-doubt t) receipt))
                  'unknown))))
  (should (string-match-p
           "your password was not tested"
           (smtpmail-native-verdict-describe
            '(:kind auth :stage auth :code 535 :text "x" :password-untested t)
            "h" 25))))

(ert-deftest smtpmail-native-queue-tests-enhanced ()
  "The enhanced status code refines what a reply means, and what to do."
  (pcase-dolist
      (`(,reply ,status ,hold ,words)
       '(("550 5.1.1 no such user" refused nil "check this address")
         ("550 5.2.2 full" refused nil "mailbox is full")
         ("552 5.3.4 too big" refused nil "too large for this server")
         ("553 5.7.8 who are you" held password "check the user name and password")
         ("550 5.7.30 no TLS" refused nil "does not support REQUIRETLS")
         ("550 unspecific" refused nil nil)
         ("450 4.2.2 full" ready nil "mailbox is full")
         ("451 4.7.1 greylisted" ready nil nil)))
    (ert-info (reply)
      (smtpmail-native-sink-with-script
          (list (smtpmail-native-sink-refuse reply))
        (smtpmail-native-sink-send-one 'background)
        (let* ((entry (smtpmail-native-sink-entry))
               (state (smtpmail-native-entry-state entry)))
          (should (eq (plist-get state :status) status))
          (should (eq (plist-get state :hold) hold))
          (should (eq (not words)
                      (not (string-match-p "([^)]+)\\'"
                                           (plist-get state :text)))))
          (when words
            (should (string-match-p (regexp-quote words)
                                    (plist-get state :text)))))))))

(ert-deftest smtpmail-native-queue-tests-sent ()
  "A mail that is sent in the background leaves the outbox and is told."
  (smtpmail-native-sink-with-script (list smtpmail-native-test-mail)
    (let ((id (smtpmail-native-sink-send-one 'background)))
      (should-not (smtpmail-native-outbox-ids))
      (should (equal (mapcar #'car told) '(sent)))
      (should (equal (plist-get (cdar told) :id) id))
      (should (equal (plist-get (cdar told) :message-id) "<1@x>"))
      (should (equal (mapcar (lambda (r) (list (nth 0 r) (nth 1 r)))
                             (plist-get (cdar told) :results))
                     '(("bob@example.org" sent)))))))

(ert-deftest smtpmail-native-queue-tests-deferred ()
  "A temporary refusal is tried again after 1, 2, 5, 15, 30, 60, 60 minutes."
  (smtpmail-native-sink-with-script
      (list (smtpmail-native-sink-refuse "451 4.7.1 later"))
    (smtpmail-native-sink-send-one 'background)
    (should (equal (mapcar #'car told) '(failed)))
    (should (eq (plist-get (cdar told) :status) 'ready))
    (should (string-match-p "451 4.7.1 later" (plist-get (cdar told) :text)))
    (let ((entry (smtpmail-native-sink-entry)))
      (should (= 1 (plist-get (smtpmail-native-entry-state entry) :tries)))
      (should (memq smtpmail-native-schedule--timer timer-list))
      (let ((now 1000000000.0))
        (plist-put (smtpmail-native-entry-envelope entry) :created now)
        (should
         (equal (mapcar
                 (lambda (tries)
                   (setf (smtpmail-native-entry-state entry)
                         (list :status 'ready :tries tries))
                   (- (plist-get (smtpmail-native-outcome-deferral entry "x" now)
                                 :next)
                      1000000000))
                 (number-sequence 0 7))
                '(60 120 300 900 1800 3600 3600 3600)))))))

(ert-deftest smtpmail-native-queue-tests-expired ()
  "After `smtpmail-native-expire' the user is to decide; nil is for ever."
  (dolist (case '((0 held expired) (3600 ready nil) (nil ready nil)))
    (smtpmail-native-sink-with-script
        (list (smtpmail-native-sink-refuse "451 later"))
      (let ((smtpmail-native-expire (nth 0 case)))
        (cl-letf* ((real (symbol-function 'truncate))
                   ((symbol-function 'smtpmail-native-queue-envelope)
                    (let ((make (symbol-function
                                 'smtpmail-native-queue-envelope)))
                      (lambda (&rest args)
                        (plist-put (apply make args) :created
                                   (funcall real (- (float-time) 60)))))))
          (smtpmail-native-sink-send-one 'background))
        (should (eq (smtpmail-native-sink-state :status) (nth 1 case)))
        (should (eq (smtpmail-native-sink-state :hold)
                    (nth 2 case)))))))

(ert-deftest smtpmail-native-queue-tests-network ()
  "A server that is not there is tried again later."
  (smtpmail-native-sink-with-script nil
    (delete-process server)
    (smtpmail-native-sink-send-one 'background)
    (should (eq (smtpmail-native-sink-state :status) 'ready))
    (should (> (smtpmail-native-sink-state :next) (float-time)))))

(ert-deftest smtpmail-native-queue-tests-deferred-then-sent ()
  "A mail that was put off is sent when its time comes."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-native-outcome-back-off '(0)))
      (let ((smtpmail-smtp-service 1)) ; nobody listens there
        (smtpmail-native-sink-send "<1@x>" 'background)
        (smtpmail-native-test-wait
         (lambda ()
           (and (smtpmail-native-outbox-ids)
                (>= (or (smtpmail-native-sink-state :tries) 0) 2)))))
      ;; The server is in the envelope; let it be another one.
      (smtpmail-native-test-wait
       (lambda ()
         (let ((entry (smtpmail-native-sink-entry)))
           (when (smtpmail-native-outbox-claim entry)
             (plist-put (smtpmail-native-entry-envelope entry) :port port)
             (smtpmail-native-test-write
              (smtpmail-native-outbox-file entry "message.el")
              (smtpmail-native-entry-stock-form
               (smtpmail-native-entry-envelope entry)))
             (smtpmail-native-outbox-release entry)
             (smtpmail-native-watch-look)
             t))))
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-outbox-ids))))
      (should (equal (smtpmail-native-sink-log folder "answered") '("<1@x>"))))))

(ert-deftest smtpmail-native-queue-tests-refused ()
  "A permanent refusal is kept and told, and not tried again."
  (smtpmail-native-sink-with-script
      (list (smtpmail-native-sink-refuse "550 5.7.1 never"))
    (smtpmail-native-sink-send-one 'background)
    (should (eq (plist-get (cdar told) :status) 'refused))
    (should (string-match-p "550 5.7.1 never" (plist-get (cdar told) :text)))
    (should (= 0 (smtpmail-native-act-flush)))
    (smtpmail-native-sink-settle)
    (should (= 1 (smtpmail-native-sink-state :settled)))
    (should (= 1 (length told)))))

(ert-deftest smtpmail-native-queue-tests-unknown ()
  "A mail of unknown outcome is kept and told, and not sent again by itself."
  (smtpmail-native-sink-with-script
      (list smtpmail-native-sink-doubt)
    (let ((id (smtpmail-native-sink-send-one 'background)))
      (should (eq (plist-get (cdar told) :status) 'unknown))
      (should (equal (mapcar #'cadr (plist-get (cdar told) :results))
                     '(unknown)))
      (should (= 0 (smtpmail-native-act-flush)))
      (smtpmail-native-watch-start)
      (smtpmail-native-sink-settle)
      (should (eq (smtpmail-native-sink-state :status) 'unknown))
      (should (= 1 (smtpmail-native-sink-state :settled)))
      (smtpmail-native-act-mark-sent id)
      (should (equal (mapcar #'car told) '(sent failed)))
      (should-not (smtpmail-native-outbox-ids)))))

;;;; Some of the recipients

(defconst smtpmail-native-sink-two
  "bob@example.org, carol@example.org"
  "Two recipients.")

(ert-deftest smtpmail-native-queue-tests-all-or-nothing ()
  "By default nobody gets it when one is refused; the replies are told."
  (smtpmail-native-sink-with-script
      (list "C: MAIL *" "S: 250 ok" "C: RCPT *bob*" "S: 250 ok"
            "C: RCPT *carol*" "S: 550 5.1.1 who?" "C: QUIT" "S: 221 bye")
    (smtpmail-native-sink-send-one 'background
                                       smtpmail-native-sink-two)
    (smtpmail-native-test-verdict server)
    (should (eq (smtpmail-native-sink-state :status) 'refused))
    (should (string-match-p "carol.*who"
                            (smtpmail-native-sink-state :text)))
    (should (equal (assoc "carol@example.org" (plist-get (cdar told) :results))
                   '("carol@example.org" refused 550 "5.1.1" "5.1.1 who?")))
    (should (= 2 (length (smtpmail-native-entry-remaining
                          (smtpmail-native-sink-entry)))))))

(ert-deftest smtpmail-native-queue-tests-partial ()
  "With t those who are accepted get it; the rest alone is tried again."
  (smtpmail-native-sink-with-script
      (list "C: MAIL *" "S: 250 ok" "C: RCPT *bob*" "S: 250 ok"
            "C: RCPT *carol*" "S: 450 4.2.0 busy" "C: DATA" "S: 354 go" "data"
            "S: 250 taken"
            "C: MAIL *" "S: 250 ok" "C: RCPT *carol*" "S: 250 ok" "C: DATA"
            "S: 354 go" "data" "S: 250 taken" "C: QUIT" "S: 221 bye")
    (let ((smtpmail-native-partial-recipients t)
          (smtpmail-native-idle-seconds 2))
      (smtpmail-native-sink-send-one 'background
                                         smtpmail-native-sink-two)
      (should (eq (smtpmail-native-sink-state :status) 'ready))
      (should (equal (mapcar (lambda (r) (list (nth 0 r) (nth 1 r)))
                             (plist-get (cdar told) :results))
                     '(("bob@example.org" sent)
                       ("carol@example.org" deferred))))
      (should (equal (smtpmail-native-entry-remaining
                      (smtpmail-native-sink-entry))
                     '("carol@example.org")))
      (should (= 1 (smtpmail-native-act-flush)))
      (smtpmail-native-sink-settle)
      (should-not (smtpmail-native-outbox-ids))
      (should (equal (mapcar #'car told) '(sent failed))))))

(ert-deftest smtpmail-native-queue-tests-other-spelling ()
  "An address counts by its octets, however it was read."
  (let ((entry (smtpmail-native-entry-make
                :envelope '(:recipients ("j\303\266rg@x" "jörg@y")))))
    (should-not (smtpmail-native-entry-unanswered
                 entry '(("jörg@x" sent) ("j\303\266rg@y" sent))))
    (should (equal (smtpmail-native-outcome-merge
                    '(("j\303\266rg@x" deferred)) '(("jörg@x" sent)))
                   '(("jörg@x" sent))))))

(ert-deftest smtpmail-native-queue-tests-thousands ()
  "Thousands of recipients do not keep Emacs busy."
  (let* ((addresses (mapcar (lambda (n) (format "r%d@example.org" n))
                            (number-sequence 1 5000)))
         (results (mapcar (lambda (a) (list a 'sent 250 "" "ok")) addresses))
         (entry (smtpmail-native-entry-make
                 :envelope (list :recipients addresses)))
         (seconds (car (benchmark-run 1
                         (should-not (smtpmail-native-entry-unanswered
                                      entry (smtpmail-native-outcome-merge
                                             results results)))))))
    (should (< seconds 1))))

;;;; Passwords

(ert-deftest smtpmail-native-queue-tests-password ()
  "Mails that wait for a password are sent when it was typed for one of them."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN user pass"
       (butlast smtpmail-native-test-mail 2) smtpmail-native-test-mail)
    (unwind-protect
        (let ((smtpmail-auth-credentials
               (list (list "localhost" port "user" nil)))
              (smtpmail-native-idle-seconds 2)
              (asked 0))
          (dotimes (_ 2)
            (smtpmail-native-sink-send "<1@x>" 'queue))
          (smtpmail-native-act-flush)
          (smtpmail-native-sink-settle)
          (dotimes (n 2)
            (should (eq (smtpmail-native-sink-state :hold n)
                        'password)))
          (cl-letf (((symbol-function 'read-passwd)
                     (lambda (&rest _)
                       (setq asked (1+ asked))
                       (copy-sequence "pass")))
                    ((symbol-function 'smtpmail-native-lookup-may-ask-p)
                     #'smtpmail-native-request-ask))
            (smtpmail-native-act-retry (car (smtpmail-native-outbox-ids)))
            (smtpmail-native-test-wait
             (lambda () (null (smtpmail-native-outbox-ids)))))
          (should (= asked 1))
          (smtpmail-native-test-verdict server))
      (smtpmail-native-forget-passwords)
      (smtpmail-native-sink-settle-down))))

(ert-deftest smtpmail-native-queue-tests-password-error ()
  "An error or a quit at the prompt lets go of the entry."
  (smtpmail-native-sink-with-script nil
    (dolist (condition '(error quit))
      (smtpmail-native-sink-crashed
       nil '(:status held :hold password :refused t :settled 1))
      (cl-letf (((symbol-function 'smtpmail-native-auth-ask-again)
                 (lambda (&rest _) (signal condition '("no")))))
        (ignore-errors
          (smtpmail-native-act-retry (car (smtpmail-native-outbox-ids)))))
      (should-not (smtpmail-native-outbox-claimed-p
                   (car (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-queue-tests-save-later ()
  "Whether auth-source saves is asked by a command, never by a timer."
  (let ((timer-list nil)
        (timer-idle-list nil)
        (saved 0))
    (dolist (later '(t nil))
      (smtpmail-native-auth-worked
       (list :host "h" :port 25 :user "u"
             :save (lambda () (setq saved (1+ saved))))
       later)
      (should (= saved (if later 0 1))))
    (should-not timer-list)
    (should-not timer-idle-list)
    (smtpmail-native-auth-save-pending)
    (should (= saved 2))
    (smtpmail-native-auth-save-pending)
    (should (= saved 2))))

(provide 'smtpmail-native-queue-tests)
;;; smtpmail-native-queue-tests.el ends here
