;;; smtpmail-native-queue-tests.el --- When to send, what an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The outbox at work, against the scripted server where the dialogue counts,
;; against the sink where many mails do.

;;; Code:

(require 'ert)
(require 'smtpmail-native-sink)

(defun smtpmail-native-queue-tests--entry (&optional n)
  "Return the Nth entry of the outbox."
  (nth (or n 0) (smtpmail-native-outbox-list)))

(defun smtpmail-native-queue-tests--state (key &optional n)
  "Return KEY of the state of the Nth entry of the outbox."
  (plist-get (smtpmail-native-entry-state
              (smtpmail-native-queue-tests--entry n))
             key))

(defun smtpmail-native-queue-tests--idle-p ()
  "Return non-nil if nothing is under way in this Emacs."
  (not (smtpmail-native-schedule-busy-p)))

(defun smtpmail-native-queue-tests--settle ()
  "Wait until nothing is under way in this Emacs."
  (smtpmail-native-test-wait #'smtpmail-native-queue-tests--idle-p))

(defun smtpmail-native-queue-tests--send (how &optional recipients)
  "Send a mail to RECIPIENTS by way of HOW, wait, and return the entry's id."
  (prog1 (plist-get (smtpmail-native-sink-send "<1@x>" how recipients) :id)
    (smtpmail-native-queue-tests--settle)))

(defmacro smtpmail-native-queue-tests--with-script (script &rest body)
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

(defconst smtpmail-native-queue-tests--doubt
  '("C: MAIL *" "S: 250 ok" "C: RCPT *" "S: 250 ok" "C: DATA" "S: 354 go"
    "data" "close")
  "A server that takes a mail and does not say so.")

(defun smtpmail-native-queue-tests--refuse (reply)
  "Return the script of a server that answers MAIL with REPLY."
  (list "C: MAIL *" (concat "S: " reply) "C: QUIT" "S: 221 bye"))

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
    (let ((at (expand-file-name "at" folder))
          (go (expand-file-name "go" folder)))
      (smtpmail-native-test-with-terminal folder
          (smtpmail-native-queue-tests--mail-form
           port
           ;; It is busy between the commit and its return.
           `(advice-add 'smtpmail-native-copy-expect :before
                        (lambda (&rest _)
                          (write-region "" nil ,at nil 'silent)
                          (while (not (or quit-flag (file-exists-p ,go)))))))
        (smtpmail-native-test-type "\C-c\C-c")
        (smtpmail-native-test-wait (lambda () (file-exists-p at)))
        (smtpmail-native-test-type "\C-g")
        (smtpmail-native-test-wait
         (lambda () (smtpmail-native-sink-log folder "arrived")))
        (write-region "" nil go nil 'silent)
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
      (smtpmail-native-queue-tests--with-script
          (list (smtpmail-native-queue-tests--refuse reply))
        (smtpmail-native-queue-tests--send 'background)
        (let* ((entry (smtpmail-native-queue-tests--entry))
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
  (smtpmail-native-queue-tests--with-script (list smtpmail-native-test-mail)
    (let ((id (smtpmail-native-queue-tests--send 'background)))
      (should-not (smtpmail-native-outbox-ids))
      (should (equal (mapcar #'car told) '(sent)))
      (should (equal (plist-get (cdar told) :id) id))
      (should (equal (plist-get (cdar told) :message-id) "<1@x>"))
      (should (equal (mapcar (lambda (r) (list (nth 0 r) (nth 1 r)))
                             (plist-get (cdar told) :results))
                     '(("bob@example.org" sent)))))))

(ert-deftest smtpmail-native-queue-tests-deferred ()
  "A temporary refusal is tried again after 1, 2, 5, 15, 30, 60, 60 minutes."
  (smtpmail-native-queue-tests--with-script
      (list (smtpmail-native-queue-tests--refuse "451 4.7.1 later"))
    (smtpmail-native-queue-tests--send 'background)
    (should (equal (mapcar #'car told) '(failed)))
    (should (eq (plist-get (cdar told) :status) 'ready))
    (should (string-match-p "451 4.7.1 later" (plist-get (cdar told) :text)))
    (let ((entry (smtpmail-native-queue-tests--entry)))
      (should (= 1 (plist-get (smtpmail-native-entry-state entry) :tries)))
      (should (memq smtpmail-native-schedule--timer timer-list))
      (let ((now 1000000000.0))
        (plist-put (smtpmail-native-entry-envelope entry) :created now)
        (should
         (equal (mapcar
                 (lambda (tries)
                   (setf (smtpmail-native-entry-state entry)
                         (list :status 'ready :tries tries))
                   (- (plist-get (smtpmail-native-verdict-deferral entry "x" now)
                                 :next)
                      1000000000))
                 (number-sequence 0 7))
                '(60 120 300 900 1800 3600 3600 3600)))))))

(ert-deftest smtpmail-native-queue-tests-expired ()
  "After `smtpmail-native-expire' the user is to decide; nil is for ever."
  (dolist (case '((0 held expired) (3600 ready nil) (nil ready nil)))
    (smtpmail-native-queue-tests--with-script
        (list (smtpmail-native-queue-tests--refuse "451 later"))
      (let ((smtpmail-native-expire (nth 0 case)))
        (cl-letf* ((real (symbol-function 'truncate))
                   ((symbol-function 'smtpmail-native-queue-envelope)
                    (let ((make (symbol-function
                                 'smtpmail-native-queue-envelope)))
                      (lambda (&rest args)
                        (plist-put (apply make args) :created
                                   (funcall real (- (float-time) 60)))))))
          (smtpmail-native-queue-tests--send 'background))
        (should (eq (smtpmail-native-queue-tests--state :status) (nth 1 case)))
        (should (eq (smtpmail-native-queue-tests--state :hold)
                    (nth 2 case)))))))

(ert-deftest smtpmail-native-queue-tests-network ()
  "A server that is not there is tried again later."
  (smtpmail-native-queue-tests--with-script nil
    (delete-process server)
    (smtpmail-native-queue-tests--send 'background)
    (should (eq (smtpmail-native-queue-tests--state :status) 'ready))
    (should (> (smtpmail-native-queue-tests--state :next) (float-time)))))

(ert-deftest smtpmail-native-queue-tests-deferred-then-sent ()
  "A mail that was put off is sent when its time comes."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-native-verdict-back-off '(0)))
      (let ((smtpmail-smtp-service 1)) ; nobody listens there
        (smtpmail-native-sink-send "<1@x>" 'background)
        (smtpmail-native-test-wait
         (lambda ()
           (and (smtpmail-native-outbox-ids)
                (>= (or (smtpmail-native-queue-tests--state :tries) 0) 2)))))
      ;; The server is in the envelope; let it be another one.
      (smtpmail-native-test-wait
       (lambda ()
         (let ((entry (smtpmail-native-queue-tests--entry)))
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
  (smtpmail-native-queue-tests--with-script
      (list (smtpmail-native-queue-tests--refuse "550 5.7.1 never"))
    (smtpmail-native-queue-tests--send 'background)
    (should (eq (plist-get (cdar told) :status) 'refused))
    (should (string-match-p "550 5.7.1 never" (plist-get (cdar told) :text)))
    (should (= 0 (smtpmail-native-act-flush)))
    (smtpmail-native-queue-tests--settle)
    (should (= 1 (smtpmail-native-queue-tests--state :settled)))
    (should (= 1 (length told)))))

(ert-deftest smtpmail-native-queue-tests-unknown ()
  "A mail of unknown outcome is kept and told, and not sent again by itself."
  (smtpmail-native-queue-tests--with-script
      (list smtpmail-native-queue-tests--doubt)
    (let ((id (smtpmail-native-queue-tests--send 'background)))
      (should (eq (plist-get (cdar told) :status) 'unknown))
      (should (equal (mapcar #'cadr (plist-get (cdar told) :results))
                     '(unknown)))
      (should (= 0 (smtpmail-native-act-flush)))
      (smtpmail-native-watch-start)
      (smtpmail-native-queue-tests--settle)
      (should (eq (smtpmail-native-queue-tests--state :status) 'unknown))
      (should (= 1 (smtpmail-native-queue-tests--state :settled)))
      (smtpmail-native-act-mark-sent id)
      (should (equal (mapcar #'car told) '(sent failed)))
      (should-not (smtpmail-native-outbox-ids)))))

;;;; Some of the recipients

(defconst smtpmail-native-queue-tests--two
  "bob@example.org, carol@example.org"
  "Two recipients.")

(ert-deftest smtpmail-native-queue-tests-all-or-nothing ()
  "By default nobody gets it when one is refused; the replies are told."
  (smtpmail-native-queue-tests--with-script
      (list "C: MAIL *" "S: 250 ok" "C: RCPT *bob*" "S: 250 ok"
            "C: RCPT *carol*" "S: 550 5.1.1 who?" "C: QUIT" "S: 221 bye")
    (smtpmail-native-queue-tests--send 'background
                                       smtpmail-native-queue-tests--two)
    (smtpmail-native-test-verdict server)
    (should (eq (smtpmail-native-queue-tests--state :status) 'refused))
    (should (string-match-p "carol.*who"
                            (smtpmail-native-queue-tests--state :text)))
    (should (equal (assoc "carol@example.org" (plist-get (cdar told) :results))
                   '("carol@example.org" refused 550 "5.1.1" "5.1.1 who?")))
    (should (= 2 (length (smtpmail-native-entry-remaining
                          (smtpmail-native-queue-tests--entry)))))))

(ert-deftest smtpmail-native-queue-tests-partial ()
  "With t those who are accepted get it; the rest alone is tried again."
  (smtpmail-native-queue-tests--with-script
      (list "C: MAIL *" "S: 250 ok" "C: RCPT *bob*" "S: 250 ok"
            "C: RCPT *carol*" "S: 450 4.2.0 busy" "C: DATA" "S: 354 go" "data"
            "S: 250 taken"
            "C: MAIL *" "S: 250 ok" "C: RCPT *carol*" "S: 250 ok" "C: DATA"
            "S: 354 go" "data" "S: 250 taken" "C: QUIT" "S: 221 bye")
    (let ((smtpmail-native-partial-recipients t)
          (smtpmail-native-idle-seconds 2))
      (smtpmail-native-queue-tests--send 'background
                                         smtpmail-native-queue-tests--two)
      (should (eq (smtpmail-native-queue-tests--state :status) 'ready))
      (should (equal (mapcar (lambda (r) (list (nth 0 r) (nth 1 r)))
                             (plist-get (cdar told) :results))
                     '(("bob@example.org" sent)
                       ("carol@example.org" deferred))))
      (should (equal (smtpmail-native-entry-remaining
                      (smtpmail-native-queue-tests--entry))
                     '("carol@example.org")))
      (should (= 1 (smtpmail-native-act-flush)))
      (smtpmail-native-queue-tests--settle)
      (should-not (smtpmail-native-outbox-ids))
      (should (equal (mapcar #'car told) '(sent failed))))))

(ert-deftest smtpmail-native-queue-tests-other-spelling ()
  "An address counts by its octets, however it was read."
  (let ((entry (smtpmail-native-entry-make
                :envelope '(:recipients ("j\303\266rg@x" "jörg@y")))))
    (should-not (smtpmail-native-entry-unanswered
                 entry '(("jörg@x" sent) ("j\303\266rg@y" sent))))
    (should (equal (smtpmail-native-verdict-merge
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
                                      entry (smtpmail-native-verdict-merge
                                             results results)))))))
    (should (< seconds 1))))

;;;; Crashes

(defun smtpmail-native-queue-tests--crashed (receipt state)
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

(defconst smtpmail-native-queue-tests--receipts
  '((doubt :attempt 1 :kind network :stage end-of-data :in-doubt t
           :text "gone" :recipients (("bob@example.org" t 250 "" "ok")))
    (ok :attempt 1 :kind ok :stage end-of-data
        :recipients (("bob@example.org" t 250 "" "ok")))
    (deferred :attempt 1 :kind reply :code 451 :stage mail :text "later")
    (refused :attempt 1 :kind reply :code 550 :stage mail :text "no")
    (cancelled :attempt 1 :kind cancelled :stage content :text "cancelled")
    (earlier :attempt 0 :kind network :stage end-of-data :in-doubt t))
  "What an Emacs that was killed may have left.")

(ert-deftest smtpmail-native-queue-tests-recover ()
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
      (smtpmail-native-queue-tests--crashed
       (cdr (assq (nth 0 case) smtpmail-native-queue-tests--receipts))
       (nth 1 case))
      (dotimes (_ 3)
        (smtpmail-native-watch-look)
        (smtpmail-native-queue-tests--settle))
      (ert-info ((format "%S" case))
        (should (= (length (smtpmail-native-sink-log folder "arrived"))
                   (nth 2 case)))
        (should (equal (mapcar (lambda (state) (plist-get state :status))
                               (smtpmail-native-sink-states))
                       (and (nth 3 case) (list (nth 3 case)))))))))

(ert-deftest smtpmail-native-queue-tests-tell-held ()
  "When Emacs starts it says once how many mails wait for the user."
  (smtpmail-native-sink-with nil
    (dolist (state '((:status held :hold password)
                     (:status held :hold user)
                     (:wait t)))        ; becomes one that was interrupted
      (smtpmail-native-queue-tests--crashed nil state))
    (let ((said nil))
      (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                 (lambda (format &rest args)
                   (push (apply #'format format args) said))))
        (smtpmail-native-watch-start)
        (smtpmail-native-queue-tests--settle)
        (smtpmail-native-watch-look)
        (smtpmail-native-queue-tests--settle))
      (should (= 1 (seq-count (lambda (line)
                                (string-prefix-p "2 messages in the outbox need "
                                                 line))
                              said))))))

(ert-deftest smtpmail-native-queue-tests-settle-once ()
  "To settle is one write, and doing it again changes nothing."
  (smtpmail-native-sink-with nil
    (dolist (kind '(doubt ok deferred refused))
      (let* ((id (smtpmail-native-queue-tests--crashed
                  (cdr (assq kind smtpmail-native-queue-tests--receipts)) nil))
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

(ert-deftest smtpmail-native-queue-tests-damaged-receipt ()
  "A receipt that cannot be read is told once, and does not stop the user."
  (smtpmail-native-sink-with nil
    (let* ((id (smtpmail-native-queue-tests--crashed nil nil))
           (told 0)
           (smtpmail-native-failed-functions
            (list (lambda (_) (setq told (1+ told))))))
      (write-region "(:atte" nil
                    (smtpmail-native-outbox-file (smtpmail-native-outbox-get id)
                                                 "receipt")
                    nil 'silent)
      (dotimes (_ 3)
        (smtpmail-native-watch-look)
        (smtpmail-native-queue-tests--settle))
      (should (= told 1))
      (should (eq (smtpmail-native-queue-tests--state :status) 'unknown))
      (should-not (smtpmail-native-sink-log folder "arrived"))
      (smtpmail-native-act-retry id t)
      (smtpmail-native-queue-tests--settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>")))
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-queue-tests-stale-look ()
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
        (smtpmail-native-queue-tests--settle))
      (should-not meddle)
      (should (eq (plist-get (smtpmail-native-entry-state
                              (smtpmail-native-outbox-get id))
                             :status)
                  'unknown))
      (should-not (smtpmail-native-sink-log folder "arrived")))))

(ert-deftest smtpmail-native-queue-tests-stale-try ()
  "An attempt that has begun and ended meanwhile is settled, not repeated."
  (smtpmail-native-sink-with nil
    (let* ((id (smtpmail-native-queue-tests--crashed nil '(:attempt 0)))
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
                                 smtpmail-native-queue-tests--receipts)))
                     (smtpmail-native-outbox-release entry))
                   (funcall claim entry))))
        (smtpmail-native-watch-look)
        (smtpmail-native-queue-tests--settle))
      (should (eq (plist-get (smtpmail-native-entry-state
                              (smtpmail-native-outbox-get id))
                             :status)
                  'unknown))
      (should-not (smtpmail-native-sink-log folder "arrived")))))

(ert-deftest smtpmail-native-queue-tests-damaged ()
  "A damaged entry is left alone, does not keep Emacs busy, others go on."
  (smtpmail-native-sink-with nil
    (let ((id (smtpmail-native-queue-tests--crashed nil '(:attempt 0 :next 1))))
      (write-region "x" nil
                    (smtpmail-native-outbox-file (smtpmail-native-outbox-get id)
                                                 "message")
                    nil 'silent)
      (smtpmail-native-sink-send "<2@x>" 'queue)
      (smtpmail-native-act-flush)
      (smtpmail-native-queue-tests--settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<2@x>")))
      (should (equal (smtpmail-native-outbox-ids) (list id)))
      (should-not (memq smtpmail-native-schedule--timer timer-list))
      (should-error (smtpmail-native-act-retry id)
                    :type 'smtpmail-native-usage-error)
      ;; Nobody has kept the claim.
      (should-not (smtpmail-native-outbox-claimed-p id)))))

(ert-deftest smtpmail-native-queue-tests-disk-full ()
  "Where the state cannot be written a sent mail is told as sent, once."
  (smtpmail-native-queue-tests--with-script (list smtpmail-native-test-mail)
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

(ert-deftest smtpmail-native-queue-tests-undeletable ()
  "A mail that was sent and cannot be deleted is not told as unsent."
  (smtpmail-native-queue-tests--with-script (list smtpmail-native-test-mail)
    (cl-letf (((symbol-function 'smtpmail-native-outbox-remove)
               (lambda (_)
                 (smtpmail-native-error-signal 'smtpmail-native-outbox-error
                                               "Cannot delete"))))
      (should (eq (plist-get (smtpmail-native-sink-send "<1@x>" 'wait) :kind)
                  'ok)))
    (should (eq (smtpmail-native-queue-tests--state :status) 'sent))
    (smtpmail-native-watch-look)
    (smtpmail-native-queue-tests--settle)
    (should-not (smtpmail-native-outbox-ids))
    (should (equal (mapcar #'car told) '(sent)))))

;;;; The user's word

(ert-deftest smtpmail-native-queue-tests-queue-mail ()
  "What `smtpmail-queue-mail' holds waits for the flush."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-queue-mail t)
          (smtpmail-native-background nil))
      (with-temp-buffer
        (insert "To: bob@example.org\nMessage-ID: <q@x>\n" mail-header-separator
                "\nx\n")
        (smtpmail-native-send-it)))
    (smtpmail-native-watch-look)
    (smtpmail-native-queue-tests--settle)
    (should (eq (smtpmail-native-queue-tests--state :hold) 'queue))
    (should-not (smtpmail-native-sink-log folder "connect"))
    (should (= 1 (smtpmail-native-act-flush)))
    (smtpmail-native-queue-tests--settle)
    (should (equal (smtpmail-native-sink-log folder "arrived") '("<q@x>")))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-queue-tests-undo ()
  "A mail can be undone for a while, then it is sent."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-native-undo-seconds 3600))
      (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background)
                           :id)))
        (smtpmail-native-watch-look)
        (smtpmail-native-queue-tests--settle)
        (should (equal (smtpmail-native-act-undo-candidate) id))
        (smtpmail-native-act-delete id)
        (should-not (smtpmail-native-act-undo-candidate))))
    (let ((smtpmail-native-undo-seconds 1))
      (smtpmail-native-sink-send "<2@x>" 'background)
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-outbox-ids)))))
    (should (equal (smtpmail-native-sink-log folder "arrived") '("<2@x>")))))

(ert-deftest smtpmail-native-queue-tests-hold-retry-delete ()
  "What the user holds waits for the user."
  (smtpmail-native-sink-with nil
    (let ((one (plist-get (smtpmail-native-sink-send "<1@x>" 'queue) :id))
          (two (plist-get (smtpmail-native-sink-send "<2@x>" 'queue) :id)))
      (smtpmail-native-act-hold one)
      (smtpmail-native-act-hold two)
      (should (= 0 (smtpmail-native-act-flush)))
      (smtpmail-native-act-delete two)
      (smtpmail-native-act-retry one)
      (smtpmail-native-queue-tests--settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>")))
      (should-not (smtpmail-native-outbox-ids))
      (dolist (command '(smtpmail-native-act-hold smtpmail-native-act-retry
                         smtpmail-native-act-delete
                         smtpmail-native-act-mark-sent))
        (should-error (funcall command one)
                      :type 'smtpmail-native-usage-error)))))

(ert-deftest smtpmail-native-queue-tests-hold-refused ()
  "What is kept because it was refused does not become a mail that waits."
  (smtpmail-native-queue-tests--with-script
      (list (smtpmail-native-queue-tests--refuse "550 no"))
    (let ((id (smtpmail-native-queue-tests--send 'background)))
      (should (smtpmail-native-entry-needs-user-p
               (smtpmail-native-outbox-get id)))
      (should-error (smtpmail-native-act-hold id)
                    :type 'smtpmail-native-usage-error)
      (should (eq (smtpmail-native-queue-tests--state :status) 'refused)))))

(ert-deftest smtpmail-native-queue-tests-take-back ()
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
      (should (eq (smtpmail-native-queue-tests--state :hold) 'user))
      (should-not (smtpmail-native-entry-needs-user-p
                   (smtpmail-native-outbox-get id)))
      (should (= 0 (smtpmail-native-act-flush)))
      (should (equal (smtpmail-native-act-take-back
                      id #'smtpmail-native-entry-id)
                     id))
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-queue-tests-take-back-unsettled ()
  "What a dead Emacs has sent, or may have, is not taken back unasked."
  (dolist (case '((ok "already") (doubt "may have")))
    (smtpmail-native-sink-with nil
      (let* ((id (smtpmail-native-queue-tests--crashed
                  (cdr (assq (car case) smtpmail-native-queue-tests--receipts))
                  nil))
             (err (should-error (smtpmail-native-act-take-back id #'ignore)
                                :type 'smtpmail-native-usage-error)))
        (should (string-match-p (nth 1 case) (cadr err)))
        (should (equal (smtpmail-native-outbox-ids)
                       (and (eq (car case) 'doubt) (list id))))))))

(ert-deftest smtpmail-native-queue-tests-retry-unsettled ()
  "To send again what a dead Emacs has sent, or may have, is not done unasked."
  (dolist (case '((ok "already") (doubt "may have")))
    (smtpmail-native-sink-with nil
      (let* ((id (smtpmail-native-queue-tests--crashed
                  (cdr (assq (car case) smtpmail-native-queue-tests--receipts))
                  nil))
             (err (should-error (smtpmail-native-act-retry id)
                                :type 'smtpmail-native-usage-error)))
        (should (string-match-p (nth 1 case) (cadr err)))
        (smtpmail-native-queue-tests--settle)
        (should-not (smtpmail-native-sink-log folder "arrived"))
        (when (eq (car case) 'doubt)
          (smtpmail-native-act-retry id t)
          (smtpmail-native-queue-tests--settle)
          (should (equal (smtpmail-native-sink-log folder "arrived")
                         '("<1@x>"))))
        (should-not (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-queue-tests-cancel ()
  "A mail that is cancelled is held, on the disk from the first moment."
  (smtpmail-native-queue-tests--with-script '("C: MAIL *" "stall")
    (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background) :id)))
      (smtpmail-native-test-wait
       (lambda ()
         (string-match-p "MAIL" (or (smtpmail-native-tell-trace id) ""))))
      (should (smtpmail-native-act-cancel id))
      (should (eq (smtpmail-native-queue-tests--state :status) 'held))
      ;; Who has cancelled it need not be warned.
      (cl-letf (((symbol-function 'display-warning)
                 (lambda (&rest args) (ert-fail (format "Warned: %S" args)))))
        (smtpmail-native-queue-tests--settle))
      (should (equal (mapcar #'car told) '(failed)))
      (should (eq (smtpmail-native-queue-tests--state :hold) 'user))
      (should (= 1 (smtpmail-native-queue-tests--state :settled)))
      (should-not (smtpmail-native-act-cancel id))
      (should (= 0 (smtpmail-native-act-flush))))))

(ert-deftest smtpmail-native-queue-tests-under-way ()
  "What is under way must be cancelled before anything else."
  (smtpmail-native-queue-tests--with-script '("C: MAIL *" "stall")
    (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background) :id)))
      (dolist (command '(smtpmail-native-act-hold smtpmail-native-act-retry
                         smtpmail-native-act-delete
                         smtpmail-native-act-mark-sent))
        (let ((err (should-error (funcall command id)
                                 :type 'smtpmail-native-usage-error)))
          (should (string-match-p "being sent" (cadr err))))))))

(ert-deftest smtpmail-native-queue-tests-quitting ()
  "Leaving Emacs names what still waits, and only then asks."
  (smtpmail-native-queue-tests--with-script '("C: MAIL *" "stall")
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

;;;; While the sender waits

(ert-deftest smtpmail-native-queue-tests-wait-withdraws ()
  "A mail that was not sent while its sender waited is not in the outbox."
  (dolist (script (list (smtpmail-native-queue-tests--refuse "550 no")
                        (smtpmail-native-queue-tests--refuse "421 later")
                        '("close")))
    (smtpmail-native-queue-tests--with-script (list script)
      (should-error (smtpmail-native-sink-send "<1@x>" 'wait)
                    :type 'smtpmail-native-error)
      (should-not (smtpmail-native-outbox-ids))
      (should-not told))))

(ert-deftest smtpmail-native-queue-tests-wait-unknown ()
  "One of unknown outcome is kept, and nobody sends it again."
  (smtpmail-native-queue-tests--with-script
      (list smtpmail-native-queue-tests--doubt)
    (should-error (smtpmail-native-sink-send "<1@x>" 'wait)
                  :type 'smtpmail-native-unknown-outcome)
    (dotimes (_ 3)
      (smtpmail-native-watch-look)
      (smtpmail-native-queue-tests--settle))
    (should (eq (smtpmail-native-queue-tests--state :status) 'unknown))
    (should-not (smtpmail-native-queue-tests--state :wait))
    (should-not (smtpmail-native-outbox-claimed-p
                 (car (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-queue-tests-wait-thrown ()
  "A throw out of the wait ends the attempt before the mail is withdrawn."
  (smtpmail-native-queue-tests--with-script '("C: MAIL *" "stall")
    (catch 'out
      (run-at-time 0.2 nil (lambda () (throw 'out nil)))
      (smtpmail-native-sink-send "<1@x>" 'wait)
      (error "It came back"))
    (should (smtpmail-native-queue-tests--idle-p))
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-queue-tests-wait-thrown-late ()
  "A throw behind the end of data keeps the mail, as one of unknown outcome."
  (smtpmail-native-queue-tests--with-script
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
    (should (smtpmail-native-queue-tests--idle-p))
    (should (eq (smtpmail-native-queue-tests--state :status) 'unknown))))

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
          (smtpmail-native-queue-tests--settle)
          (dotimes (n 2)
            (should (eq (smtpmail-native-queue-tests--state :hold n)
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
  (smtpmail-native-queue-tests--with-script nil
    (dolist (condition '(error quit))
      (smtpmail-native-queue-tests--crashed
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

;;;; The way to the server

(ert-deftest smtpmail-native-queue-tests-way ()
  "The job tells of the proxy and of the address to connect from."
  (let* ((smtpmail-native-proxy "socks5://t\u00efm:x@p.example:1080")
         (smtpmail-native-source-address "127.0.0.9")
         (way (smtpmail-native-job-connection
               '(:host "mail.example" :port 25 :helo "c.example"))))
    (should (equal (plist-get way :proxy)
                   "socks5://t\303\257m:x@p.example:1080"))
    (should (equal (plist-get way :source) "127.0.0.9"))))

(ert-deftest smtpmail-native-queue-tests-bad-way ()
  "A proxy that cannot be used is an error before anything is sent.
It does not show the password."
  (smtpmail-native-load)
  (let ((err (should-error
              (smtpmail-native-module-send
               '(:host "127.0.0.1" :port 9 :helo "c.example" :timeout-ms 1000
                 :probe t :proxy "gopher://tim:secret@p:1"))
              :type 'smtpmail-native-usage-error)))
    (should (string-match-p "socks5://" (error-message-string err)))
    (should-not (string-match-p "secret" (error-message-string err))))
  (should-error (smtpmail-native-module-send
                 '(:host "127.0.0.1" :port 9 :helo "c.example" :timeout-ms 1000
                   :probe t :source "localhost"))
                :type 'smtpmail-native-usage-error))

(ert-deftest smtpmail-native-queue-tests-lmtp-answers ()
  "Who is known to have the mail has it, however the others fare."
  (should (equal (mapcar (lambda (answer) (list (car answer) (cadr answer)))
                         (smtpmail-native-verdict-answers
                          '(:kind network :in-doubt t
                            :recipients (("a" delivered 250 "" "ok")
                                         ("b" nil 550 "" "no")
                                         ("c" t 250 "" "ok")))))
                 '(("a" sent) ("b" refused) ("c" unknown)))))

;;;; Many mails

(ert-deftest smtpmail-native-queue-tests-order ()
  "The mails of an account leave in their order, over few connections."
  (smtpmail-native-sink-with nil
    (let ((ids (mapcar (lambda (n) (format "<%02d@x>" n)) (number-sequence 1 40)))
          (smtpmail-native-max-sessions 1))
      (dolist (id ids)
        (smtpmail-native-sink-send id 'queue))
      (smtpmail-native-act-flush)
      (smtpmail-native-queue-tests--settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") ids))
      (should-not (smtpmail-native-outbox-ids))
      (should (= 1 (length (smtpmail-native-sink-log folder "connect")))))))

(ert-deftest smtpmail-native-queue-tests-max-sessions ()
  "No more connections are opened than allowed."
  (smtpmail-native-sink-with '("--delay" "5")
    (let ((smtpmail-native-max-sessions 2))
      (dotimes (n 60)
        (smtpmail-native-sink-send (format "<%d@x>" n) 'queue))
      (smtpmail-native-act-flush)
      (smtpmail-native-queue-tests--settle)
      (should (= 60 (length (smtpmail-native-sink-log folder "arrived"))))
      (should (<= 1 (length (smtpmail-native-sink-log folder "connect")) 2)))))

(defun smtpmail-native-queue-tests--flusher (port)
  "Start an Emacs that flushes the outbox, whose server is at PORT."
  (make-process
   :name "flusher" :noquery t :buffer (generate-new-buffer " *flusher*")
   :command
   (list (expand-file-name invocation-name invocation-directory)
         "-Q" "--batch" "-L" smtpmail-native-test-folder
         "-L" (expand-file-name "lisp" smtpmail-native-test-folder)
         "-l" "smtpmail-native" "--eval"
         (prin1-to-string
          `(let ((smtpmail-native-outbox-directory
                  ,smtpmail-native-outbox-directory)
                 (smtpmail-smtp-server "127.0.0.1")
                 (smtpmail-smtp-service ,port)
                 (auth-sources nil))
             (smtpmail-native-act-flush)
             (while (smtpmail-native-outbox-ids)
               (accept-process-output nil 0.02)))))))

(ert-deftest smtpmail-native-queue-tests-two-emacsen ()
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
              (push (smtpmail-native-queue-tests--flusher port) flushers))
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

(provide 'smtpmail-native-queue-tests)
;;; smtpmail-native-queue-tests.el ends here
