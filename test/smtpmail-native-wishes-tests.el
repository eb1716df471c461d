;;; smtpmail-native-wishes-tests.el --- What a mail asks of the server  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-sink)
(require 'smtpmail-native-list)

(defmacro smtpmail-native-wishes-tests--with (script &rest body)
  "Run BODY with the scripted server behind greeting and EHLO saying SCRIPT."
  (declare (indent 1) (debug t))
  `(smtpmail-native-test-with-server
       (apply #'smtpmail-native-test-script ,script)
     (unwind-protect
         (progn ,@body)
       (smtpmail-native-sink-settle-down))))

(defun smtpmail-native-wishes-tests--send (field)
  "Send a mail with FIELD in the background; return what was said."
  (let ((message-send-mail-function #'smtpmail-native-send-it)
        (send-mail-function #'smtpmail-native-send-it)
        (said nil))
    (smtpmail-native-test-in-background
      (cl-letf (((symbol-function 'message)
                 (lambda (format &rest args)
                   (push (apply #'format-message (or format "") args) said))))
        (smtpmail-native-test-send-message
         (concat "X-Smtpmail-Native: " field "\n"))))
    said))

(defun smtpmail-native-wishes-tests--settle ()
  "Wait until nothing is under way in this Emacs."
  (smtpmail-native-test-wait
   (lambda () (not (smtpmail-native-schedule-busy-p)))))

(defun smtpmail-native-wishes-tests--state ()
  "Return the state of the only entry of the outbox."
  (let ((ids (smtpmail-native-outbox-ids)))
    (should (= (length ids) 1))
    (smtpmail-native-entry-state (smtpmail-native-outbox-get (car ids)))))

;;;; The field

(ert-deftest smtpmail-native-wishes-tests-parse ()
  "What the field may say."
  (pcase-dolist
      (`(,field . ,plist)
       '(("" . nil)
         ("notify=success, Failure" :notify "SUCCESS,FAILURE")
         ("Notify = NEVER" :notify "NEVER")
         ("return=full; envid=QQ314" :ret "FULL" :envid "QQ314")
         ("return=headers;" :ret "HDRS")
         ("deliver-by=3600R" :deliver-by "3600;R")
         ("deliver-by=-60nt" :deliver-by "-60;NT")
         ("require-tls=yes; notify=delay" :require-tls t :notify "DELAY")))
    (ert-info (field)
      (should (equal (smtpmail-native-wishes-parse field) plist)))))

(ert-deftest smtpmail-native-wishes-tests-wrong ()
  "What is not understood is an error that names it, and nothing is sent."
  (pcase-dolist
      (`(,field ,words)
       '(("notify=always" "always") ("notify=never,success" "never,success")
         ("notify=" "notify") ("notify=delay,delay" "delay,delay")
         ("return=half" "half") ("envid=a b" "a b")
         ("deliver-by=soon" "soon") ("require-tls=maybe" "maybe")
         ("priority=1" "unknown key priority") ("later" "later")
         ("later=tomorrow" "tomorrow") ("later=25:00" "25:00")
         ("later=+5y" "+5y") ("envid=a; envid=b" "Duplicate key envid")))
    (ert-info (field)
      (let ((err (should-error (smtpmail-native-wishes-parse field)
                               :type 'smtpmail-native-usage-error)))
        (should (string-match-p (regexp-quote words) (cadr err)))))))

(ert-deftest smtpmail-native-wishes-tests-time ()
  "Times are relative, of the day, or dates; without a zone they are local."
  (let ((process-environment (cons "TZ=UTC" process-environment)))
    (set-time-zone-rule "UTC")
    (unwind-protect
        (cl-letf* ((now (truncate (float-time
                                   (encode-time '(0 0 12 25 11 2026 nil nil 0)))))
                   ((symbol-function 'float-time)
                    (let ((real (symbol-function 'float-time)))
                      (lambda (&optional time) (if time (funcall real time) now))))
                   ((symbol-function 'decode-time)
                    (let ((real (symbol-function 'decode-time)))
                      (lambda (&optional time &rest rest)
                        (apply real (or time now) rest)))))
          (pcase-dolist
              (`(,text ,seconds)
               `(("+2h" ,(* 2 3600)) ("+90m" 5400) ("+1d" 86400) ("+1w" 604800)
                 ("12:30" 1800) ("08:00" ,(* 20 3600))
                 ("2026-11-26 08:00" ,(* 20 3600))
                 ("2026-11-26T08:00:00Z" ,(* 20 3600))
                 ("26 Nov 2026 08:00 +0200" ,(* 18 3600))
                 ("Thu, 26 Nov 2026 08:00:00 +0000" ,(* 20 3600))))
            (ert-info (text)
              (should (= (- (smtpmail-native-wishes-time text) now) seconds)))))
      (set-time-zone-rule nil))))

(ert-deftest smtpmail-native-wishes-tests-options ()
  "The field goes before the options; the identifier is that of the message."
  (let ((smtpmail-native-dsn-notify '(failure delay))
        (smtpmail-native-dsn-return 'headers)
        (smtpmail-native-require-tls t))
    (should (equal (smtpmail-native-wishes nil nil "<1@x>")
                   '(:notify "FAILURE,DELAY" :ret "HDRS" :require-tls t
                             :envid "1@x")))
    (should (equal (smtpmail-native-wishes "notify=never; envid=e" nil "<1@x>")
                   '(:notify "NEVER" :ret "HDRS" :require-tls t :envid "e")))
    ;; RFC 8689, 5: the user says so for this mail.
    (should-not (plist-get (smtpmail-native-wishes nil "No" "<1@x>")
                           :require-tls))
    (should-error (smtpmail-native-wishes "require-tls=yes" "no" "<1@x>")
                  :type 'smtpmail-native-usage-error))
  (should-not (smtpmail-native-wishes nil nil "<1@x>")))

;;;; Mail

(ert-deftest smtpmail-native-wishes-tests-report ()
  "A mail asks for a report by its header, which does not leave."
  (smtpmail-native-wishes-tests--with
      (list (smtpmail-native-test-ehlo "DSN")
            "C: MAIL FROM:<alice@example.org> RET=HDRS ENVID=E1" "S: 250 ok"
            "C: RCPT TO:<bob@example.org> NOTIFY=SUCCESS ORCPT=rfc822;bob@*"
            "S: 250 ok" "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")
    (smtpmail-native-test-send-message
     "X-Smtpmail-Native: notify=success;\n return=headers; envid=E1\n\
TLS-Required: No\n")
    (smtpmail-native-test-verdict server)
    (let ((message (smtpmail-native-test-delivered folder)))
      (should-not (string-match-p "X-Smtpmail" message))
      (should (string-match-p "^TLS-Required: No\r" message)))))

(ert-deftest smtpmail-native-wishes-tests-require-tls ()
  "A mail that must go by TLS all the way is not sent where that is not sure."
  (smtpmail-native-wishes-tests--with
      (list (smtpmail-native-test-ehlo "SIZE") "C: QUIT")
    (let ((smtpmail-native-require-tls t))
      (should-error (smtpmail-native-test-send-message)
                    :type 'smtpmail-native-error))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-wishes-tests-avoid ()
  "Extensions that a server does badly are not used."
  (smtpmail-native-wishes-tests--with
      (list (smtpmail-native-test-ehlo "PIPELINING" "SIZE")
            "C: MAIL FROM:<alice@example.org>" "S: 250 ok"
            "C: RCPT TO:<bob@example.org>" "S: 250 ok"
            "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")
    (let ((smtpmail-native-avoid-extensions
           '(("other.example" dsn) ("LOCALHOST" pipelining "size"))))
      (smtpmail-native-test-send-message))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-wishes-tests-limits ()
  "More recipients than the server takes at a time get it one after the other.
So it is with a sender who waits and in the background; nobody gets it
twice."
  (dolist (background '(nil t))
    (let ((mail '("C: MAIL *" "S: 250 ok" "C: RCPT TO:<%s@x>" "S: 250 ok"
                  "C: DATA" "S: 354 go" "data" "S: 250 ok")))
      (smtpmail-native-wishes-tests--with
          (append (list (smtpmail-native-test-ehlo "LIMITS RCPTMAX=1"))
                  (mapcar (lambda (line) (format line "a")) mail)
                  (mapcar (lambda (line) (format line "b")) mail)
                  (mapcar (lambda (line) (format line "c")) mail)
                  (list "C: QUIT"))
        (let ((smtpmail-native-idle-seconds 5)
              (told nil))
          (add-hook 'smtpmail-native-failed-functions
                    (lambda (plist) (push plist told)))
          (unwind-protect
              (progn
                (smtpmail-native-sink-send "<1@x>" (if background 'background
                                                     'wait)
                                           "a@x, b@x, c@x")
                (smtpmail-native-wishes-tests--settle)
                (should-not (smtpmail-native-outbox-ids))
                (should-not told))
            (setq smtpmail-native-failed-functions nil))
          (smtpmail-native-module-shutdown 5000)
          (smtpmail-native-test-verdict server))))))

(ert-deftest smtpmail-native-wishes-tests-limits-refused ()
  "A recipient of the second part is refused: the first part has been sent."
  (smtpmail-native-wishes-tests--with
      (list (smtpmail-native-test-ehlo "LIMITS RCPTMAX=1")
            "C: MAIL *" "S: 250 ok" "C: RCPT TO:<a@x>" "S: 250 ok"
            "C: DATA" "S: 354 go" "data" "S: 250 ok"
            "C: MAIL *" "S: 250 ok" "C: RCPT TO:<b@x>" "S: 550 5.1.1 nobody"
            "C: QUIT")
    (let ((smtpmail-native-idle-seconds 5))
      (smtpmail-native-sink-send "<1@x>" 'background "a@x, b@x")
      (smtpmail-native-wishes-tests--settle)
      (let ((state (smtpmail-native-wishes-tests--state)))
        (should (eq (plist-get state :status) 'refused))
        (should (equal (mapcar (lambda (result) (seq-take result 2))
                               (plist-get state :results))
                       '(("a@x" sent)))))
      (smtpmail-native-module-shutdown 5000)
      (smtpmail-native-test-verdict server))))

;;;; Later

(ert-deftest smtpmail-native-wishes-tests-outbox ()
  "A mail for later waits in the outbox, is not flushed, and leaves in time."
  (smtpmail-native-sink-with nil
    (let ((said nil))
      (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                 (lambda (&rest args) (push (apply #'format args) said))))
        (smtpmail-native-wishes-tests--send "later=+1h")
        (smtpmail-native-test-wait
         (lambda ()
           (seq-some (lambda (line)
                       (string-match-p "\\`In the outbox until " line))
                     said))))
      (let ((entry (smtpmail-native-outbox-get
                    (car (smtpmail-native-outbox-ids)))))
        (should (string-match-p "\\`until " (smtpmail-native-row-state entry)))
        (should (equal (smtpmail-native-row--next
                        entry (- (smtpmail-native-entry-release-time entry)
                                 3600))
                       "1h"))
        ;; Undo means the last send, and this was none yet.
        (should-not (smtpmail-native-act-undo-candidate))
        (should (= 0 (smtpmail-native-act-flush)))
        (smtpmail-native-wishes-tests--settle)
        (should (equal (smtpmail-native-outbox-ids)
                       (list (smtpmail-native-entry-id entry))))
        ;; An hour later.
        (cl-letf* ((real (symbol-function 'float-time))
                   ((symbol-function 'float-time)
                    (lambda (&optional time)
                      (if time (funcall real time) (+ (funcall real) 3601)))))
          (smtpmail-native-watch-look)
          (smtpmail-native-test-wait
           (lambda () (null (smtpmail-native-outbox-ids)))))
        (should (= 1 (length (smtpmail-native-sink-log folder "arrived"))))))))

(ert-deftest smtpmail-native-wishes-tests-now ()
  "The user may send it before its time."
  (dolist (smtpmail-native-send-later '(outbox server))
    (smtpmail-native-sink-with nil
      (smtpmail-native-wishes-tests--send "later=+1h")
      ;; The sink has no FUTURERELEASE: it stays here either way.
      (smtpmail-native-wishes-tests--settle)
      (should (eq (plist-get (smtpmail-native-wishes-tests--state) :status)
                  'ready))
      (should-not (smtpmail-native-sink-log folder "arrived"))
      (smtpmail-native-act-retry (car (smtpmail-native-outbox-ids)))
      (smtpmail-native-wishes-tests--settle)
      (should-not (smtpmail-native-outbox-ids))
      (should (= 1 (length (smtpmail-native-sink-log folder "arrived")))))))

(ert-deftest smtpmail-native-wishes-tests-server ()
  "A server that offers it keeps the mail."
  (smtpmail-native-wishes-tests--with
      (list (smtpmail-native-test-ehlo
             "FUTURERELEASE 604800 2030-01-01T00:00:00Z")
            "C: MAIL FROM:<alice@example.org> HOLDFOR=*" "S: 250 ok"
            "C: RCPT TO:<bob@example.org>" "S: 250 ok"
            "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")
    (let ((smtpmail-native-send-later 'server))
      (smtpmail-native-test-send-message "X-Smtpmail-Native: later=+3h\n"))
    (smtpmail-native-test-verdict server)
    (should-not (smtpmail-native-outbox-ids))))

(provide 'smtpmail-native-wishes-tests)
;;; smtpmail-native-wishes-tests.el ends here
