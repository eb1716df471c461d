;;; smtpmail-native-tests.el --- From a mail buffer to the server  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; End to end: a real mail buffer, the module, and the scripted server.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-tests--compose (&optional body)
  "Fill the current buffer with a mail to Bob that has BODY."
  (insert "To: bob@example.org\nSubject: test\n" mail-header-separator "\n"
          (or body "Hello\n.dot\n")))

(defun smtpmail-native-tests--send (&optional body)
  "Send a mail with BODY; return t, or the condition as (NAME TEXT)."
  (with-temp-buffer
    (smtpmail-native-tests--compose body)
    (condition-case err
        (progn (smtpmail-native-send-it) t)
      (smtpmail-native-error err))))

(defun smtpmail-native-tests--trace ()
  "Return the trace of the last session with localhost."
  (with-current-buffer "*trace of SMTP session to localhost*"
    (buffer-string)))

;;;; The example of the manual

(defun smtpmail-native-tests--both-variables (host-port mechanism key cert)
  "Send by both variables, whose entries have HOST-PORT as their port.
HOST-PORT is a function of the port.  MECHANISM is what the server offers
and verifies; KEY and CERT are files or nil, and then it wants them."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "STARTTLS")
       "C: STARTTLS" "S: 220 go"
       (if (member key '(nil "")) "tls good" "tls good client")
       (smtpmail-native-test-ehlo (concat "AUTH " mechanism))
       (format "auth %s user pass" mechanism)
       smtpmail-native-test-mail)
    (let ((smtpmail-auth-credentials
           (list (list "localhost" (funcall host-port port) "user" "pass")))
          (smtpmail-starttls-credentials
           (list (list "localhost" (funcall host-port port) key cert))))
      (should (eq (smtpmail-native-tests--send) t))
      (let ((seen (smtpmail-native-test-verdict server)))
        (should (string-match-p "C: STARTTLS\n\\(?:.*\n\\)*-- TLS started" seen))
        (should (string-match-p (concat "C: AUTH " mechanism) seen))
        (should (string-match-p "^-- authenticated user" seen))
        (unless (member key '(nil ""))
          (should (string-match-p
                   "^-- the client is CN=test client, says CN=test authority"
                   seen))))
      (should (equal (plist-get smtpmail-native-queue-last-result :mechanism)
                     mechanism)))))

(ert-deftest smtpmail-native-tests-manual-integer ()
  "The manual's example with integer ports: STARTTLS, then CRAM-MD5."
  (smtpmail-native-tests--both-variables #'identity "CRAM-MD5" nil nil))

(ert-deftest smtpmail-native-tests-manual-string ()
  "The same with ports as strings."
  (smtpmail-native-tests--both-variables #'number-to-string "CRAM-MD5" nil nil))

(ert-deftest smtpmail-native-tests-manual-login ()
  "Without CRAM-MD5 it is LOGIN; empty strings are no certificate."
  (smtpmail-native-tests--both-variables #'identity "LOGIN" "" ""))

(ert-deftest smtpmail-native-tests-manual-certificate ()
  "With a client key and certificate."
  (smtpmail-native-tests--both-variables
   #'identity "CRAM-MD5"
   (smtpmail-native-test-cert "client.key")
   (smtpmail-native-test-cert "client.pem")))

(ert-deftest smtpmail-native-tests-certificate-alone ()
  "An entry of auth-source with a certificate needs no password.
If the server wants one all the same, its words and all places are told."
  (dolist (demand '(nil t))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo "STARTTLS")
         "C: STARTTLS" "S: 220 go" "tls good client"
         (smtpmail-native-test-ehlo "AUTH PLAIN")
         (if demand
             '("C: MAIL *" "S: 530 5.7.0 and who are you" "C: QUIT")
           smtpmail-native-test-mail))
      (let ((netrc (expand-file-name "netrc" folder)))
        (write-region
         (format "machine localhost port %d login user key %s cert %s\n" port
                 (smtpmail-native-test-cert "client.key")
                 (smtpmail-native-test-cert "client.pem"))
         nil netrc nil 'silent)
        (let* ((auth-sources (list netrc))
               (outcome (smtpmail-native-tests--send)))
          (if (not demand)
              (should (eq outcome t))
            (should (eq (car outcome) 'smtpmail-native-auth-error))
            (dolist (part (list "530 5.7.0 and who are you" "auth-credentials"
                                netrc "login user"))
              (should (string-match-p (regexp-quote part) (cadr outcome))))))
        (should (string-match-p "^-- the client is CN=test client"
                                (smtpmail-native-test-verdict server)))))))

(ert-deftest smtpmail-native-tests-starttls-entry-is-a-must ()
  "An entry of the second variable makes STARTTLS a must."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo "AUTH PLAIN")
                                   "C: QUIT")
    (let ((smtpmail-starttls-credentials
           (list (list "localhost" port nil nil))))
      (let ((err (smtpmail-native-tests--send)))
        (should (eq (car err) 'smtpmail-native-tls-error))
        (should (string-match-p "does not offer it" (cadr err))))
      (smtpmail-native-test-verdict server))))

;;;; What arrives

(ert-deftest smtpmail-native-tests-octets ()
  "What arrives is what `smtpmail-native-message-prepare' made, octet by octet."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   smtpmail-native-test-mail)
    (with-temp-buffer
      (insert "From: alice@example.org\nTo: bob@example.org\n"
              "Message-ID: <1@example.org>\nDate: Tue, 24 Nov 2026 12:00:00 +0000\n"
              "Bcc: bob@example.org\nSubject: x\n\n.\n..\nFrom here\n\nend")
      (let ((before (buffer-string)))
        (smtpmail-native-send-it)
        (should (equal (buffer-string) before))))
    (smtpmail-native-test-verdict server)
    (should (equal (smtpmail-native-test-delivered folder)
                   (concat "From: alice@example.org\r\nTo: bob@example.org\r\n"
                           "Message-ID: <1@example.org>\r\n"
                           "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
                           "Subject: x\r\n\r\n.\r\n..\r\nFrom here\r\n\r\n"
                           "end\r\n")))))

(ert-deftest smtpmail-native-tests-message-mode ()
  "A mail from `message-mode', non-ASCII text in it."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo "SIZE")
                                   smtpmail-native-test-mail)
    (let ((message-kill-buffer-on-exit t)
          (message-auto-save-directory nil))
      (save-window-excursion
        (message-mail "bob@example.org" "Grüße")
        (message-goto-body)
        (insert "Hällo\n")
        (message-send)
        (set-buffer-modified-p nil)
        (kill-buffer)))
    (smtpmail-native-test-verdict server)
    (with-temp-buffer
      (insert (smtpmail-native-test-delivered folder))
      (goto-char (point-min))
      (should (re-search-forward "^Subject: =[?][Uu][Tt][Ff]-8[?]"
                                 nil t))
      (should (re-search-forward "^Content-Transfer-Encoding:" nil t)))))

(ert-deftest smtpmail-native-tests-mail-mode-fcc ()
  "A mail from `mail-mode'; its Fcc is written, and does not leave."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   smtpmail-native-test-mail)
    (let ((copy (expand-file-name "copy" folder)))
      (with-temp-buffer
        (insert "To: bob@example.org\nFcc: " copy "\nSubject: x\n"
                mail-header-separator "\nbody\n")
        (smtpmail-native-send-it))
      (smtpmail-native-test-verdict server)
      (should-not (string-match-p "Fcc" (smtpmail-native-test-delivered folder)))
      (with-temp-buffer
        (insert-file-contents copy)
        (should (looking-at "From "))
        (should (re-search-forward "^body$" nil t))))))

(ert-deftest smtpmail-native-tests-large ()
  "25 MB arrive, and the temporary copy is gone."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo "SIZE 50000000")
                                   smtpmail-native-test-mail)
    (let ((temporary-file-directory (file-name-as-directory folder))
          (body (apply #'concat (make-list 262144 (concat (make-string 99 ?x)
                                                          "\n")))))
      (should (eq (smtpmail-native-tests--send body) t))
      (smtpmail-native-test-verdict server)
      (should (> (file-attribute-size
                  (file-attributes (expand-file-name "0001.eml" folder)))
                 26214400))
      (should-not (directory-files folder nil "\\`smtpmail-native-")))))

(ert-deftest smtpmail-native-tests-chunking ()
  "Chunks, where the user wants them and the server offers them."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "CHUNKING")
       "C: MAIL *" "S: 250 ok" "C: RCPT *" "S: 250 ok" "bdat"
       "S: 250 2.0.0 queued" "C: QUIT")
    (let ((smtpmail-native-chunking t))
      (should (eq (smtpmail-native-tests--send) t)))
    (smtpmail-native-test-verdict server)
    (should (string-match-p "\r\n.dot\r\n\\'"
                            (smtpmail-native-test-delivered folder)))))

;;;; Failures

(ert-deftest smtpmail-native-tests-conditions ()
  "Every kind of failure has its condition, and says where and why."
  (dolist (case
           '((("S: 554 go away" "C: QUIT") smtpmail-native-refused
              "localhost:[0-9]+ refused the SMTP session: 554 go away")
             (("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *"
               "S: 451 4.7.1 later" "C: QUIT")
              smtpmail-native-deferred "did not accept the sender yet: 451 4.7.1 later")
             (("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *" "S: 250 x"
               "C: RCPT *" "S: 550 5.1.1 no such user" "C: QUIT")
              smtpmail-native-refused
              "refused the recipient: .*<bob@example.org>: 550 5.1.1 no such user")
             (("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *" "S: 530 5.7.0 auth"
               "C: QUIT")
              smtpmail-native-auth-error
              "No password for .* (the server says 530 5.7.0 auth); searched \
`smtpmail-auth-credentials' (not set) and `auth-sources'")
             (("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *"
               "S: 530 5.7.0 Must issue a STARTTLS command first" "C: QUIT")
              smtpmail-native-auth-error "STARTTLS .*smtpmail-stream-type")
             (("S: 220 x" "C: EHLO *" "S: 250-x" "S: 250 AUTH PLAIN"
               "auth PLAIN user wrong"
               "C: QUIT")
              smtpmail-native-auth-error
              "Cannot authenticate to .*: 535 .*check the user name and password")
             (("close") smtpmail-native-connection-error "closed")
             (("raw HTTP/1.1 400 Bad\\r\\n" "stall")
              smtpmail-native-connection-error "HTTP")
             (("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *" "S: 250 x"
               "C: RCPT *" "S: 250 x" "C: DATA" "S: 354 x" "data" "close")
              smtpmail-native-unknown-outcome
              "did not confirm the message: .*check whether")))
    (smtpmail-native-test-with-server (nth 0 case)
      (let* ((smtpmail-auth-credentials
              (and (member "auth PLAIN user wrong" (nth 0 case))
                   `(("localhost" ,port "user" "pass"))))
             (err (smtpmail-native-tests--send)))
        (should (eq (car err) (nth 1 case)))
        (should (string-match-p (nth 2 case) (cadr err))))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-tests-nobody-there ()
  "A port where nobody listens, at an address that no other test has."
  (smtpmail-native-test-with-server '("close")
    (let* ((smtpmail-smtp-server "127.0.0.77")
           (smtpmail-smtp-service
            (let* ((socket (make-network-process
                            :name "taken" :server t :host "127.0.0.77"
                            :service t :noquery t))
                   (free (process-contact socket :service)))
              (delete-process socket)
              free))
           (err (smtpmail-native-tests--send)))
      (should (eq (car err) 'smtpmail-native-connection-error))
      (should (string-match-p "Connection refused" (cadr err))))))

(ert-deftest smtpmail-native-tests-certificate ()
  "A certificate that does not verify is told with its fingerprint."
  (smtpmail-native-test-with-server '("tls selfsigned" "stall")
    (let* ((smtpmail-stream-type 'ssl)
           (err (smtpmail-native-tests--send)))
      (should (eq (car err) 'smtpmail-native-tls-error))
      (should (string-match-p "SHA-256 fingerprint [0-9a-f]\\{64\\}"
                              (cadr err))))))

(ert-deftest smtpmail-native-tests-bad-options ()
  "Options that cannot be used are named."
  (dolist (case '((smtpmail-smtp-service "nonsense" "smtpmail-smtp-service")
                  (smtpmail-smtp-service 0 "smtpmail-smtp-service")
                  (smtpmail-stream-type bogus "smtpmail-stream-type")
                  (smtpmail-auth-credentials (("x" 1) 2) "Entry 2")))
    (smtpmail-native-test-with-server '("close")
      (cl-progv (list (car case)) (list (cadr case))
        (let ((err (smtpmail-native-tests--send)))
          (should (eq (car err) 'smtpmail-native-usage-error))
          (should (string-match-p (nth 2 case) (cadr err))))))))

(defun smtpmail-native-tests--quit-when (server regexp)
  "Type \\[keyboard-quit] as soon as the process SERVER has said REGEXP."
  (let ((timer nil))
    (setq timer (run-at-time
                 0 0.01
                 (lambda ()
                   (when (string-match-p
                          regexp (smtpmail-native-test--output server))
                     (cancel-timer timer)
                     (setq quit-flag t)))))))

(ert-deftest smtpmail-native-tests-quit-before-end ()
  "Quitting before the end of data: nothing is sent."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script "C: EHLO *" "stall")
    (smtpmail-native-tests--quit-when server "^C: EHLO")
    (let ((err (smtpmail-native-tests--send)))
      (should (eq (car err) 'smtpmail-native-cancelled)))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-tests-quit-after-end ()
  "Quitting after it: the outcome is unknown."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo)
       (butlast smtpmail-native-test-mail 3) "stall")
    (smtpmail-native-tests--quit-when server "^-- message 1")
    (let ((err (smtpmail-native-tests--send)))
      (should (eq (car err) 'smtpmail-native-unknown-outcome)))
    (smtpmail-native-test-verdict server)))

;;;; Life goes on, and secrets stay

(ert-deftest smtpmail-native-tests-timers-run ()
  "Timers run while a mail is under way."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script "C: EHLO *" "drip 40 250 peer.example\\r\\n"
                                   smtpmail-native-test-mail)
    (let* ((ticks 0)
           (timer (run-at-time 0 0.01 (lambda () (setq ticks (1+ ticks))))))
      (unwind-protect
          (should (eq (smtpmail-native-tests--send) t))
        (cancel-timer timer))
      (should (> ticks 5)))))

(ert-deftest smtpmail-native-tests-no-secret ()
  "No secret in trace, messages and errors, whatever the server echoes."
  (dolist (mechanism '("PLAIN" "LOGIN" "CRAM-MD5" "SCRAM-SHA-1" "SCRAM-SHA-256"))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo (concat "AUTH " mechanism))
         (format "auth %s user open-sesame-4711" mechanism)
         "C: MAIL *"
         "S: 550 open-sesame-4711 b3Blbi1zZXNhbWUtNDcxMQ=="
         "C: QUIT")
      (let* ((smtpmail-auth-credentials
              (list (list "localhost" port "user" "open-sesame-4711")))
             (err (smtpmail-native-tests--send))
             (seen (smtpmail-native-test-verdict server))
             (said (concat (smtpmail-native-tests--trace)
                           (format "%S %S" err smtpmail-native-queue-last-result)
                           (with-current-buffer (messages-buffer)
                             (buffer-string)))))
        (should (eq (car err) 'smtpmail-native-refused))
        (should (string-match-p "<omitted>" (smtpmail-native-tests--trace)))
        (dolist (secret (append
                         '("open-sesame-4711" "b3Blbi1zZXNhbWUtNDcxMQ==")
                         ;; What followed AUTH, as the server saw it.
                         (let ((at 0) (answers nil))
                           (while (string-match
                                   "^C: \\(?:AUTH [-A-Z0-9]+ \\)?\\([A-Za-z0-9+/=]\\{12,\\}\\)$"
                                   seen at)
                             (push (match-string 1 seen) answers)
                             (setq at (match-end 0)))
                           answers)))
          (should-not (string-match-p (regexp-quote secret) said)))))))

(ert-deftest smtpmail-native-tests-server-info ()
  "`smtpmail-native-server-info' shows what the server says."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "STARTTLS") "C: STARTTLS" "S: 220 go"
       "tls good" (smtpmail-native-test-ehlo "SIZE 100" "AUTH PLAIN LOGIN")
       "C: QUIT")
    (save-window-excursion
      (smtpmail-native-server-info))
    (smtpmail-native-test-verdict server)
    (with-current-buffer "*smtpmail-native server info*"
      (dolist (text '("Greeting:     peer.example ESMTP" "TLS:          TLS1.3"
                      "CN=localhost" "verified:   yes"
                      "Mechanisms:   PLAIN LOGIN" "  SIZE 100"))
        (should (string-match-p (regexp-quote text) (buffer-string))))
      (kill-buffer))))

;;;; In other Emacsen

(ert-deftest smtpmail-native-tests-interactive ()
  "A mail from `message-mode' in an Emacs with a terminal."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   smtpmail-native-test-mail)
    (smtpmail-native-test-terminal
     `(progn
        (require 'smtpmail-native)
        (require 'message)
        (setq smtpmail-smtp-server "localhost"
              smtpmail-smtp-service ,port
              smtpmail-native-outbox-directory
              ,smtpmail-native-outbox-directory
              user-mail-address "alice@example.org"
              auth-sources nil
              message-auto-save-directory nil
              send-mail-function #'smtpmail-native-send-it
              message-send-mail-function #'smtpmail-native-send-it)
        (message-mail "bob@example.org" "test")
        (message-goto-body)
        (insert "From a terminal.\n")
        (message-send)
        (set-buffer-modified-p nil)
        (kill-emacs)))
    (smtpmail-native-test-verdict server)
    ;; What its Emacs did not live to settle is there to be settled.
    (let ((entries (smtpmail-native-outbox-list)))
      (should (= (length entries) 1))
      (should (eq (plist-get (smtpmail-native-entry-receipt (car entries))
                             :kind)
                  'ok)))
    (should (string-match-p "From a terminal"
                            (smtpmail-native-test-delivered folder)))))

(ert-deftest smtpmail-native-tests-batch ()
  "A batch script can trust the exit code."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   smtpmail-native-test-mail)
    (let* ((form (lambda (port)
                   (prin1-to-string
                    `(progn
                       (require 'smtpmail-native)
                       (setq smtpmail-smtp-server "localhost"
                             smtpmail-smtp-service ,port
                             user-mail-address "alice@example.org"
                             auth-sources nil)
                       (with-temp-buffer
                         (insert "To: bob@example.org\nSubject: x\n\nbody\n")
                         (smtpmail-native-send-it))))))
           (run (lambda ()
                  (smtpmail-native-test-emacs smtpmail-native-test-folder
                                              "--eval" (funcall form port))))
           (sent (funcall run)))
      (should (equal (cons 0 t)
                     (cons (car sent)
                           (and (string-match-p "Sent .*to bob@example.org"
                                                (cdr sent))
                                t))))
      (smtpmail-native-test-verdict server)
      (let ((failed (funcall run)))
        (should (> (car failed) 0))
        (should (string-match-p "Cannot connect to localhost" (cdr failed)))))))

(ert-deftest smtpmail-native-tests-require-changes-nothing ()
  "Loading the library changes no setting and does not load the module."
  (should (equal (smtpmail-native-test-emacs smtpmail-native-test-folder
                  "--eval"
                  (prin1-to-string
                   '(let ((before (list send-mail-function
                                        (default-value 'mail-user-agent))))
                      (setq smtpmail-auth-credentials "mine")
                      (require 'smtpmail-native)
                      (princ (list (equal before
                                          (list send-mail-function
                                                (default-value
                                                 'mail-user-agent)))
                                   smtpmail-auth-credentials
                                   (featurep 'smtpmail-native-module))))))
                 '(0 . "(t mine nil)"))))

(ert-deftest smtpmail-native-tests-verified-words ()
  "It is told why a certificate that does not verify is trusted."
  (pcase-dolist (`(,certificate ,pins ,words)
                 '(((:reasons "") nil "verified:   yes")
                   ((:reasons "expired") nil "verified:   expired")
                   ((:reasons "expired" :pinned t) t "matches your pin")
                   ((:reasons "expired" :pinned t) nil
                    "you accepted it (Network Security Manager)")))
    (let ((smtpmail-native-tls-pins
           (and pins (list (cons "MAIL.example" (make-string 64 ?a))))))
      (with-temp-buffer
        (smtpmail-native-server--insert-certificate
         (append certificate '(:not-before 0 :not-after 0)) "mail.example")
        (goto-char (point-min))
        (should (search-forward words nil t))))))

;;;; What a session loads

(ert-deftest smtpmail-native-tests-require-is-light ()
  "Requiring the file loads smtpmail, the options and nothing else."
  (should
   (equal
    (smtpmail-native-test-emacs
     smtpmail-native-test-folder "--eval"
     (prin1-to-string
      '(let ((before (progn (require 'smtpmail) features)))
         (require 'smtpmail-native)
         (princ (sort (mapcar #'symbol-name
                              (butlast features (length before)))
                      #'string<)))))
    '(0 . "(smtpmail-native smtpmail-native-options)"))))

(ert-deftest smtpmail-native-tests-bound-around ()
  "A program may bind the variables of smtpmail before anything is loaded."
  (should
   (equal
    (smtpmail-native-test-emacs
     smtpmail-native-test-folder "--eval"
     (prin1-to-string
      '(eval '(progn
                (require 'smtpmail-native)
                (let ((smtpmail-smtp-server "x.example")
                      (smtpmail-smtp-service 587)
                      (auth-sources nil))
                  (require 'smtpmail-native-job)
                  (princ (plist-get (smtpmail-native-job-account) :host))))
             t)))
    '(0 . "x.example"))))

(ert-deftest smtpmail-native-tests-autoloads ()
  "Each function that the file autoloads is defined by the file it names."
  (should
   (equal
    (smtpmail-native-test-emacs
     smtpmail-native-test-folder "-l" "smtpmail-native" "--eval"
     (prin1-to-string
      '(let ((found nil))
         (mapatoms
          (lambda (symbol)
            (when (and (string-prefix-p "smtpmail-native" (symbol-name symbol))
                       (fboundp symbol)
                       (autoloadp (symbol-function symbol)))
              (push symbol found))))
         (princ (> (length found) 20))
         ;; It is an error if the file does not define it.
         (dolist (symbol found)
           (autoload-do-load (symbol-function symbol) symbol)))))
    '(0 . "t"))))

(provide 'smtpmail-native-tests)
;;; smtpmail-native-tests.el ends here
