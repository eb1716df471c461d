;;; smtpmail-native-verdict-tests.el --- What an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Properties of the pure functions over all combinations of status, doubt, hold
;; and receipt, and the rows of the table that have a meaning of their own.

;;; Code:

(require 'ert)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-verdict)

(defconst smtpmail-native-verdict-tests--now 1000000000.0
  "The time of these tests.")

(defun smtpmail-native-verdict-tests--entry (state)
  "Return an entry in STATE."
  (smtpmail-native-entry-make
   :id "x"
   :envelope (list :recipients '("bob@example.org" "carol@example.org")
                   :host "mail.example" :port 587
                   :created (- smtpmail-native-verdict-tests--now 60))
   :state state))

(defconst smtpmail-native-verdict-tests--receipts
  (let ((bob '("bob@example.org" t 250 "" "ok"))
        (carol '("carol@example.org" nil 550 "5.1.1" "who?")))
    (append
     (list (list :kind 'ok :stage 'end-of-data :recipients (list bob))
           (list :kind 'ok :stage 'end-of-data :recipients (list bob carol))
           (list :kind 'ok :more t :recipients (list bob))
           (list :kind 'file :passphrase-wanted t)
           (list :kind 'reply :code 550 :release-unsupported t)
           (list :kind 'reply :code 550 :eight-bit-unsupported t)
           (list :kind 'auth :code 535 :second-chance t)
           (list :kind 'auth :code 535 :password-untested t))
     (apply #'append
            (mapcar
             (lambda (kind)
               (apply #'append
                      (mapcar
                       (lambda (code)
                         (mapcar (lambda (stage)
                                   (list :kind kind :code code :stage stage))
                                 '(auth rcpt end-of-data)))
                       '(0 451 530 550))))
             '(system usage file resolve network timeout cancelled protocol
                      tls certificate unsupported too-large cleartext auth
                      reply)))
     (list (list :kind 'ok :stage 'end-of-data :in-doubt t
                 :recipients (list bob))
           (list :kind 'network :stage 'end-of-data :in-doubt t
                 :recipients (list bob))
           (list :kind 'timeout :stage 'end-of-data :in-doubt t))))
  "Receipts of all kinds.")

(defun smtpmail-native-verdict-tests--each (function)
  "Call FUNCTION with each entry, receipt and cancelled flag there can be."
  (dolist (status '(ready held refused unknown sent))
    (dolist (doubt '(nil t))
      (dolist (hold '(nil queue user password))
        (dolist (receipt smtpmail-native-verdict-tests--receipts)
          (dolist (cancelled '(nil t))
            (funcall function
                     (smtpmail-native-verdict-tests--entry
                      (list :status status :doubt doubt :hold hold :settled 3))
                     (append '(:attempt 4 :text "x") receipt)
                     cancelled)))))))

(defun smtpmail-native-verdict-tests--settled (entry receipt cancelled)
  "Settle ENTRY by RECEIPT, with CANCELLED; return the change."
  (let ((change (smtpmail-native-outcome-settle
                 entry receipt cancelled '(:instance "i" :user "u")
                 smtpmail-native-verdict-tests--now))
        (state (copy-sequence (smtpmail-native-entry-state entry)))
        (rest nil))
    (setq rest change)
    (while rest
      (setq state (plist-put state (pop rest) (pop rest))))
    (setf (smtpmail-native-entry-state entry) state)
    change))

(defun smtpmail-native-verdict-tests--wrong (entry receipt cancelled)
  "Settle ENTRY by RECEIPT, with CANCELLED; return what is wrong with it."
  (let* ((doubt (plist-get (smtpmail-native-entry-state entry) :doubt))
         (held (and (eq (smtpmail-native-entry-status entry) 'held)
                    (eq (plist-get (smtpmail-native-entry-state entry) :hold)
                        'user)))
         (change (smtpmail-native-verdict-tests--settled
                  entry receipt cancelled))
         (state (smtpmail-native-entry-state entry))
         (status (plist-get state :status)))
    (cond
     ((null change) "not settled")
     ((and (plist-get receipt :in-doubt)
           (not (and (eq status 'unknown) (plist-get state :doubt))))
      "a doubt that is not noted")
     ((and doubt (not (eq status 'sent)) (not (plist-get state :doubt)))
      "a doubt that is forgotten")
     ((and (or cancelled held)
           (memq status '(ready))
           (not (eq (plist-get receipt :kind) 'ok))
           (not (plist-get change :encode)))
      "sent by itself although it was cancelled")
     ((and (not (or cancelled held))
           (eq status 'held) (eq (plist-get state :hold) 'user))
      "held as if the user had said so")
     ((and (plist-member change :hold)
           (not (eq (and (plist-get state :hold) t) (eq status 'held))))
      "a hold without a reason, or a reason without a hold")
     ((and (memq (plist-get change :hold) '(password certificate settings))
           (not (equal (plist-get (plist-get change :by) :instance) "i")))
      "held for what one Emacs lacks, and not said which")
     ((smtpmail-native-outcome-settle
       entry receipt nil nil smtpmail-native-verdict-tests--now)
      "settled twice"))))

(ert-deftest smtpmail-native-verdict-tests-properties ()
  "What holds for every state and every receipt."
  (let ((count 0))
    (smtpmail-native-verdict-tests--each
     (lambda (entry receipt cancelled)
       (setq count (1+ count))
       (let ((state (smtpmail-native-entry-state entry))
             (wrong (smtpmail-native-verdict-tests--wrong entry receipt
                                                          cancelled)))
         (when wrong
           (ert-fail (list wrong state receipt cancelled
                           (smtpmail-native-entry-state entry)))))))
    (should (> count 10000))))

(ert-deftest smtpmail-native-verdict-tests-table ()
  "Every row has all columns by itself or by one below, of known values."
  (dolist (receipt smtpmail-native-verdict-tests--receipts)
    (ert-info ((format "%S" receipt))
      (should (memq (smtpmail-native-verdict receipt)
                    '(sent unknown cancelled deferred refused password
                           certificate settings)))
      (should (memq (smtpmail-native-verdict-exit-code receipt)
                    '(0 64 68 69 70 74 75 76 77 78)))
      (should (eq (null (smtpmail-native-verdict-condition receipt))
                  (and (eq (plist-get receipt :kind) 'ok)
                       (not (plist-get receipt :in-doubt)))))
      (should (or (null (smtpmail-native-verdict-condition receipt))
                  (memq 'smtpmail-native-error
                        (get (smtpmail-native-verdict-condition receipt)
                             'error-conditions)))))))

;;;; All results

(defun smtpmail-native-verdict-tests--reply (result)
  "Return what RESULT, of a reply, means, whatever the order of the table."
  (let ((code (plist-get result :code))
        (enhanced (plist-get result :enhanced)))
    (cond ((< code 500) 'deferred)
          ((= code 530) (if (plist-get result :text) 'settings 'password))
          ((string-suffix-p ".7.8" enhanced) 'password)
          ((and (memq (plist-get result :stage) '(mail rcpt))
                (equal (plist-get result :offered) "PLAIN")
                (not (equal enhanced "5.1.1"))
                (not (plist-get result :mechanism)))
           'password)
          (t 'refused))))

(defun smtpmail-native-verdict-tests--model (result)
  "Return what RESULT means, and the exit codes that may stand for it."
  (let ((later (<= 400 (plist-get result :code) 499)))
    (pcase (plist-get result :kind)
      ((guard (plist-get result :in-doubt)) '(unknown 76))
      ('ok '(sent 0))
      ('cancelled '(cancelled 75))
      ((guard (plist-get result :passphrase-wanted)) '(password))
      ('auth (if (plist-get result :password-untested) '(refused)
               (list 'password (if later 75 77))))
      ('certificate (list 'certificate (if later 75 77)))
      ('cleartext (list 'refused (if later 75 77)))
      ((or 'usage 'unsupported 'too-large) '(refused))
      ((or 'system 'file 'resolve 'network 'timeout 'protocol 'tls)
       '(deferred))
      ('reply
       (pcase (smtpmail-native-verdict-tests--reply result)
         ('deferred '(deferred 75))
         ('password '(password 77))
         ('settings '(settings 78))
         (_ '(refused 69)))))))

(defun smtpmail-native-verdict-tests--products (choices)
  "Return all plists of CHOICES, an alist of a keyword and its values."
  (if (null choices)
      (list nil)
    (let ((rest (smtpmail-native-verdict-tests--products (cdr choices))))
      (mapcan (lambda (value)
                (mapcar (lambda (more)
                          (if value (cons (caar choices) (cons value more))
                            more))
                        rest))
              (cdar choices)))))

(ert-deftest smtpmail-native-verdict-tests-every-result ()
  "The verdict on every result, against a model without a table."
  (dolist (result
           (smtpmail-native-verdict-tests--products
            '((:kind ok system usage file resolve network timeout cancelled
                     protocol tls certificate unsupported too-large cleartext
                     auth reply)
              (:stage greeting starttls auth mail rcpt end-of-data)
              (:code 0 354 421 450 530 535 550)
              (:enhanced "" "4.7.8" "5.7.8" "5.1.1")
              (:offered "" "PLAIN")
              (:mechanism nil "PLAIN")
              (:text nil "Must issue a STARTTLS command first"))))
    (dolist (flag '(nil :in-doubt :passphrase-wanted :password-untested))
      (let* ((result (if flag (append (list flag t) result) result))
             (model (smtpmail-native-verdict-tests--model result)))
        (unless (and (eq (car model) (smtpmail-native-verdict result))
                     (member (smtpmail-native-verdict-exit-code result)
                             (or (cdr model) '(64 68 69 70 74 75 76 77 78))))
          (ert-fail (list model (smtpmail-native-verdict result)
                          (smtpmail-native-verdict-exit-code result)
                          result)))))))

(ert-deftest smtpmail-native-verdict-tests-anonymous ()
  "A refusal of a client that has not logged in asks for credentials."
  (pcase-dolist
      (`(,more ,verdict ,exit ,words)
       '(((:code 550 :enhanced "5.7.1" :stage rcpt :offered "PLAIN LOGIN")
          password 77 "no credentials for h:25 were found")
         ((:code 554 :enhanced "" :stage mail :offered "PLAIN")
          password 77 "explain-credentials")
         ((:code 553 :stage mail :offered "LOGIN" :mechanism "")
          password 77 "no credentials for h:25")
         ;; Logged in, nothing offered, for now, or about the mailbox.
         ((:code 550 :stage rcpt :offered "PLAIN" :mechanism "PLAIN")
          refused 69 "h:25 refused the recipient")
         ((:code 550 :stage rcpt :offered "") refused 69 "refused")
         ((:code 451 :stage rcpt :offered "PLAIN") deferred 75 "yet")
         ((:code 550 :enhanced "5.1.1" :stage rcpt :offered "PLAIN")
          refused 69 "check this address")
         ((:code 552 :enhanced "5.2.2" :stage rcpt :offered "PLAIN")
          refused 69 "full")))
    (let ((result (append '(:kind reply :text "no") more)))
      (ert-info ((format "%S" result))
        (should (eq (smtpmail-native-verdict result) verdict))
        (should (eql (smtpmail-native-verdict-exit-code result) exit))
        (should (eq (and (smtpmail-native-verdict-login-p result) t)
                    (eq verdict 'password)))
        (should (string-match-p words (smtpmail-native-verdict-describe
                                       result "h" 25)))))))

(ert-deftest smtpmail-native-verdict-tests-settings ()
  "STARTTLS that is missing is a matter of settings, not of a password."
  (dolist (text '("5.7.0 Must issue a STARTTLS command first"
                  "must use starttls" "STARTTLS required"))
    (let ((result (list :kind 'reply :code 530 :stage 'mail :text text
                        :offered "PLAIN")))
      (should (eq (smtpmail-native-verdict result) 'settings))
      (should (eql (smtpmail-native-verdict-exit-code result) 78))
      (should-not (smtpmail-native-verdict-login-p result))
      (should (string-match-p "smtpmail-stream-type"
                              (smtpmail-native-verdict-describe
                               result "h" 25))))))

(ert-deftest smtpmail-native-verdict-tests-hints ()
  "What you can do is known by what the server says."
  (pcase-dolist
      (`(,words . ,result)
       '(("app password"
          :kind auth :code 535 :stage auth
          :text "5.7.8 Username and Password not accepted, see ?p=BadCredentials")
         ("app password"
          :kind auth :code 534 :stage auth
          :text "5.7.9 Application-specific password required")
         ("takes no passwords"
          :kind auth :code 535 :stage auth
          :text "5.7.139 Authentication unsuccessful, basic authentication is \
disabled")
         ("authorization code"
          :kind auth :code 535 :stage auth
          :text "Login Fail. Please enter your authorization code to login.")
         ("check the user name and password"
          :kind auth :code 535 :stage auth :text "5.7.8 no")
         ("`smtpmail-stream-type' to `starttls'"
          :kind tls :stage handshake
          :text "An unexpected TLS packet was received.")
         ("`smtpmail-stream-type' to `ssl'"
          :kind timeout :stage greeting :text "no answer")
         ("`smtpmail-stream-type' to `ssl'"
          :kind network :stage greeting :text "the server closed the connection")
         ("`smtpmail-auth-supported'"
          :kind unsupported :stage auth :text "no common mechanism")))
    (ert-info (words)
      (should (string-match-p (regexp-quote words)
                              (smtpmail-native-verdict-describe
                               result "h" 25)))))
  ;; After STARTTLS the greeting is known, and TLS was not too early.
  (should-not (string-match-p
               "in clear first"
               (smtpmail-native-verdict-describe
                '(:kind tls :stage handshake :greeting "220 x"
                  :text "An unexpected TLS packet was received.")
                "h" 25)))
  (should-not (string-match-p
               "to `ssl'"
               (smtpmail-native-verdict-describe
                '(:kind timeout :stage greeting :stream ssl :text "no answer")
                "h" 25))))

(provide 'smtpmail-native-verdict-tests)
;;; smtpmail-native-verdict-tests.el ends here
