;;; smtpmail-native-field-tests.el --- What people send, beside stock smtpmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Messages as `message-mode' makes them are sent twice from the same buffer, to
;; the same scripted server: by stock smtpmail, and with
;; `smtpmail-native-mode' on.  What arrives, and for whom, is the same.

;;; Code:

(require 'ert)
(require 'cl-lib)
(require 'flow-fill)
(require 'mml)
(require 'seq)
(require 'smtpmail-native-test-helper)

(defvar epg-gpg-home-directory)
(defvar mml-smime-use)
(defvar smime-keys)
(defvar mml-secure-openpgp-signers)

(defun smtpmail-native-field-tests--script (recipients)
  "Return the script of a server that takes a message for RECIPIENTS, a number."
  (smtpmail-native-test-script
   (smtpmail-native-test-ehlo "8BITMIME")
   "C: MAIL FROM:*" "S: 250 ok"
   (apply #'append (make-list recipients '("C: RCPT TO:*" "S: 250 ok")))
   "C: DATA" "S: 354 go" "data" "S: 250 2.0.0 queued"
   "C: QUIT" "S: 221 bye"))

(defun smtpmail-native-field-tests--arrived (recipients send)
  "Call SEND to send the current buffer to RECIPIENTS, a number.
Return what arrives: a list of the commands of the envelope without
parameters, and the octets."
  (smtpmail-native-test-with-server
      (smtpmail-native-field-tests--script recipients)
    (funcall send)
    (let ((said (smtpmail-native-test-verdict server))
          (commands nil)
          (start 0))
      (while (string-match "C: \\(\\(?:MAIL FROM\\|RCPT TO\\):<[^>\n]*>\\)"
                           said start)
        (push (match-string 1 said) commands)
        (setq start (match-end 0)))
      ;; Stock reverses the order of recipients.
      (list (sort commands #'string<)
            (smtpmail-native-test-delivered folder)))))

(defun smtpmail-native-field-tests--stock ()
  "Send the current buffer by stock smtpmail.
Stock would send CR CR LF where the buffer has CR LF, and servers refuse
that.  To us it is a line end, and so stock gets one here, too."
  (let ((text (buffer-string)))
    (unwind-protect
        (progn
          (goto-char (point-min))
          (while (search-forward "\r\n" nil t)
            (replace-match "\n" t t))
          (smtpmail-send-it))
      (erase-buffer)
      (insert text))))

(defun smtpmail-native-field-tests--ours ()
  "Send the current buffer by stock's function, with the mode on."
  (smtpmail-native-mode 1)
  (unwind-protect
      (smtpmail-send-it)
    (smtpmail-native-mode -1)))

(defun smtpmail-native-field-tests--compare (recipients make &optional wrong)
  "Check that what MAKE sends arrives in the same way as by stock smtpmail.
MAKE is a function that sends a message to RECIPIENTS, a number.  If stock
is wrong about the envelope, WRONG is the number of its recipients, and only
the octets are compared.  Return the commands of the envelope and the octets
that arrived."
  (let* ((arrived nil)
         (message-send-mail-function
          (lambda ()
            (pcase-dolist (`(,send . ,count)
                           `((smtpmail-native-field-tests--stock
                              . ,(or wrong recipients))
                             (smtpmail-native-field-tests--ours
                              . ,recipients)))
              (push (smtpmail-native-field-tests--arrived count send)
                    arrived)))))
    (smtpmail-native-field-tests--as-user make)
    (should (= (length arrived) 2))
    (pcase-let ((`((,commands ,octets) (,stock-commands ,stock-octets))
                 arrived))
      (should (= (length commands) (1+ recipients)))
      (unless wrong
        (should (equal commands stock-commands)))
      (should (equal octets stock-octets))
      (list commands octets))))

(defun smtpmail-native-field-tests--as-user (make)
  "Call MAKE as a user of a known name, and clean up after it."
  (let ((user-mail-address "alice@example.org")
        (user-full-name "Alice")
        (mail-personal-alias-file "/nonexistent")
        (message-auto-save-directory nil)
        (message-interactive t)
        (message-confirm-send nil)
        ;; A CR in the text would be asked about.
        (message-syntax-checks '((illegible-text . disabled)))
        (message-kill-buffer-on-exit t)
        (message-fcc-handler-function #'ignore)
        (message-default-charset 'utf-8)
        (default-directory temporary-file-directory)
        (inhibit-message t)
        (buffers (buffer-list)))
    (unwind-protect
        (save-window-excursion
          ;; `message-mode' doubts groups.
          (cl-letf (((symbol-function 'y-or-n-p) (lambda (&rest _) t)))
            (funcall make)))
      (dolist (buffer (seq-difference (buffer-list) buffers))
        (with-current-buffer buffer
          (set-buffer-modified-p nil))
        (when (string-match-p "mail\\|message\\|sent" (buffer-name buffer))
          (let ((kill-buffer-query-functions nil))
            (kill-buffer buffer)))))))

(defun smtpmail-native-field-tests--send (to headers &rest body)
  "Send a message TO with the text of fields HEADERS and the strings BODY."
  (message-mail to "test")
  (goto-char (point-min))
  (insert headers)
  (message-goto-body)
  (delete-region (point) (point-max))
  (mapc #'insert body)
  (message-send))

;;;; The name in EHLO

(ert-deftest smtpmail-native-field-tests-helo ()
  "A machine without a full name introduces itself by its address."
  (pcase-dolist (`(,system ,local ,option ,name)
                 '(("laptop" nil nil nil)
                   ("localhost" nil nil nil)
                   ("laptop.local" nil nil nil)
                   ("laptop.fritz.lan" nil nil nil)
                   ("localhost.localdomain" nil nil nil)
                   ("odd name.example" nil nil nil)
                   ("192.0.2.1" nil nil nil)
                   ("host.example.org." nil nil "host.example.org")
                   ("host.example.org" nil nil "host.example.org")
                   ("laptop" "example.org" nil "laptop.example.org")
                   ("laptop" "lan" nil "laptop.lan")
                   ("b\u00fccher.example" nil nil "xn--bcher-kva.example")
                   ("laptop" nil "mail.example.org" "mail.example.org")
                   ("h.example.org" "example.org" "[192.0.2.1]" "[192.0.2.1]")
                   ("h.example.org" nil "[IPv6:2001:db8::1]"
                    "[IPv6:2001:db8::1]")))
    (ert-info ((format "%S %S %S" system local option))
      (cl-letf (((symbol-function 'system-name) (lambda () system)))
        (let ((smtpmail-local-domain local)
              (smtpmail-native-helo-name option))
          (should (equal (smtpmail-native-job--helo) name))))))
  (dolist (option '("two words" "a\nMAIL FROM:<x>" "[::1"))
    (let ((smtpmail-native-helo-name option))
      (should (string-search
               "`smtpmail-native-helo-name'"
               (cadr (should-error (smtpmail-native-job--helo)
                                   :type 'smtpmail-native-usage-error)))))))

(ert-deftest smtpmail-native-field-tests-helo-sent ()
  "The address of this end is what the server sees; if refused, a hint helps."
  (cl-letf (((symbol-function 'system-name) (lambda () "laptop")))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         "C: EHLO [[]127.0.0.1[]]" "S: 250 peer.example"
         "C: MAIL FROM:*" "S: 250 ok" "C: RCPT TO:*"
         "S: 550 5.7.1 Helo command rejected: need fully-qualified hostname"
         "C: RSET" "S: 250 ok" "C: QUIT" "S: 221 bye")
      (setq smtpmail-smtp-server "127.0.0.1")
      (with-temp-buffer
        (smtpmail-native-test-insert)
        (should (string-search
                 "smtpmail-native-helo-name"
                 (cadr (should-error (smtpmail-native-send-it)
                                     :type 'smtpmail-native-refused))))))))

(ert-deftest smtpmail-native-field-tests-helo-hint ()
  "Only a refusal that is about the name speaks of the option."
  (pcase-dolist (`(,stage ,code ,text ,hint)
                 '((rcpt 550 "Helo command rejected" t)
                   (mail 450 "Invalid EHLO name" t)
                   (ehlo 501 "Syntactically invalid argument" t)
                   (ehlo 421 "Too busy" nil)
                   (rcpt 550 "othello is not here" nil)
                   (rcpt 550 "No such user" nil)))
    (ert-info (text)
      (should (eq hint
                  (and (string-search
                        "`smtpmail-native-helo-name'"
                        (smtpmail-native-verdict-describe
                         (list :kind 'reply :stage stage :code code :text text)
                         "h" 25))
                       t))))))

;;;; On the wire

(defun smtpmail-native-field-tests--sent (capabilities lines text)
  "Send TEXT by a server with CAPABILITIES that wants LINES before DATA.
Return the octets that arrive."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (apply #'smtpmail-native-test-ehlo capabilities)
       lines
       "C: DATA" "S: 354 go" "data" "S: 250 2.0.0 queued"
       "C: QUIT" "S: 221 bye")
    (with-temp-buffer
      (insert text)
      (let ((mail-header-separator ""))
        (smtpmail-native-send-it)))
    (smtpmail-native-test-verdict server)
    (smtpmail-native-test-delivered folder)))

(defun smtpmail-native-field-tests--envelope (sender &rest recipients)
  "Return the lines of a script for SENDER and RECIPIENTS, texts of commands."
  (append (list (concat "C: MAIL FROM:" sender) "S: 250 ok")
          (mapcan (lambda (recipient)
                    (list (concat "C: RCPT TO:" recipient) "S: 250 ok"))
                  recipients)))

(ert-deftest smtpmail-native-field-tests-wire ()
  "What servers refuse is not sent to them."
  (pcase-dolist
      (`(,capabilities ,envelope ,text . ,headers)
       `((("8BITMIME" "SMTPUTF8")
          ("<alice@example.org>" "<bob@xn--bcher-kva.example>")
          "To: Bob <bob@b\u00fccher.example>\nSubject: Gr\u00fc\u00dfe\n\nx\n"
          "^To: Bob <bob@xn--bcher-kva.example>\r$"
          "^Subject: =[?]utf-8[?].*\r$")
         (nil ("<me@xn--bcher-kva.example>" "<bob@example.org>")
              "From: me@b\u00fccher.example\nTo: bob@example.org\n\nx\n"
              "^From: me@xn--bcher-kva.example\r$")
         (("8BITMIME" "SMTPUTF8")
          ("<alice@example.org> *SMTPUTF8*" "<b\u00f6b@xn--bcher-kva.example>")
          "To: b\u00f6b@b\u00fccher.example\n\nx\n")
         (("8BITMIME") ("<alice@example.org> BODY=8BITMIME"
                        "<bob@example.org>")
          ,(concat "To: bob@example.org\nCc: \nReply-To: ,\n\nraw "
                   (string-to-multibyte "\377\200") "\n")
          "\n\r\nraw \377\200\r\n\\'")
         (nil ("<alice@example.org>" "<info@y.example>")
              "To: info@y.example <info@y.example>\n\nx\n"
              "^To: \"info@y.example\" <info@y.example>\r$")))
    (ert-info (text)
      (let ((octets (smtpmail-native-field-tests--sent
                     capabilities
                     (apply #'smtpmail-native-field-tests--envelope envelope)
                     text)))
        (should-not (string-match-p "^\\(?:Cc\\|Reply-To\\):" octets))
        (dolist (header headers)
          (should (string-match-p header octets)))))))

(ert-deftest smtpmail-native-field-tests-unquoted ()
  "A name torn apart by a comma reaches no server."
  (let ((smtpmail-smtp-server "127.0.0.1")
        (smtpmail-smtp-service 1))
    (dolist (text '("To: Doe, John <john@example.org>\n\nx\n"
                    "From: Doe, John <john@example.org>\nTo: a@x\n\nx\n"))
      (with-temp-buffer
        (insert text)
        (let ((mail-header-separator ""))
          (should (string-suffix-p
                   "quote the name: \"Doe, John\" <john@example.org>"
                   (cadr (should-error
                          (smtpmail-native-send-it)
                          :type 'smtpmail-native-usage-error)))))))))

;;;; Mechanisms

(ert-deftest smtpmail-native-field-tests-mechanisms ()
  "`smtpmail-auth-supported' chooses the mechanism, as in stock."
  (pcase-dolist
      (`(,supported ,offer . ,lines)
       '(((login) "AUTH CRAM-MD5 PLAIN LOGIN" "auth LOGIN tim secret")
         ((plain login cram-md5) "AUTH CRAM-MD5 LOGIN PLAIN"
          "auth PLAIN tim secret")
         ((cram-md5 plain login) "AUTH LOGIN PLAIN CRAM-MD5"
          "auth CRAM-MD5 tim secret")
         ((cram-md5 plain login) "AUTH PLAIN SCRAM-SHA-256"
          "auth SCRAM-SHA-256 tim secret")
         ((login) "HELP")
         (nil "AUTH PLAIN LOGIN")))
    (ert-info ((format "%S %s" supported offer))
      (let ((smtpmail-auth-supported supported)
            (smtpmail-native-auth-mechanisms nil))
        (smtpmail-native-test-with-server
            (smtpmail-native-test-script
             (smtpmail-native-test-ehlo offer)
             lines
             (smtpmail-native-field-tests--envelope
              "<alice@example.org>*" "<bob@example.org>")
             "C: DATA" "S: 354 go" "data" "S: 250 2.0.0 queued"
             "C: QUIT" "S: 221 bye")
          (setq smtpmail-auth-credentials
                (list (list "localhost" port "tim" "secret")))
          (with-temp-buffer
            (smtpmail-native-test-insert)
            (smtpmail-native-send-it))
          (smtpmail-native-test-verdict server))))))

(ert-deftest smtpmail-native-field-tests-newline ()
  "A password of a program's output, in the variable, is taken without its end."
  (dolist (secret '("secret\n" "secret\r\n" "secret"))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN tim secret"
         smtpmail-native-test-mail)
      (setq smtpmail-auth-credentials
            (list (list "localhost" port "tim" (copy-sequence secret))))
      (with-temp-buffer
        (smtpmail-native-test-insert)
        (smtpmail-native-send-it))
      (smtpmail-native-test-verdict server)
      (should (equal secret (nth 3 (car smtpmail-auth-credentials)))))))

;;;; Nobody was logged in

(defconst smtpmail-native-field-tests--refusals
  '(("rcpt" "C: MAIL FROM:*" "S: 250 ok"
     "C: RCPT TO:*" "S: 554 5.7.1 <bob@example.org>: Relay access denied")
    ("mail" "C: MAIL FROM:*" "S: 550 Sender must log in first")
    ("mail, 553" "C: MAIL FROM:*" "S: 553 5.7.1 not owned by you")
    ("530" "C: MAIL FROM:*" "S: 530 5.7.0 Authentication required"))
  "How servers refuse a client that has not logged in.")

(defun smtpmail-native-field-tests--refusal (lines)
  "Return the script of a server that offers AUTH and refuses by LINES."
  (smtpmail-native-test-script (smtpmail-native-test-ehlo "AUTH PLAIN LOGIN")
                               lines "C: QUIT" "S: 221 bye"))

(defun smtpmail-native-field-tests--login ()
  "Return the script of a server that takes a message after a login."
  (smtpmail-native-test-script
   (smtpmail-native-test-ehlo "AUTH PLAIN LOGIN")
   "auth PLAIN tim secret" smtpmail-native-test-mail))

(ert-deftest smtpmail-native-field-tests-no-login-batch ()
  "In batch mode you are told that there are no credentials, and why."
  (skip-unless noninteractive)
  (pcase-dolist (`(,name . ,lines) smtpmail-native-field-tests--refusals)
    (ert-info (name)
      (smtpmail-native-test-with-server
          (smtpmail-native-field-tests--refusal lines)
        (with-temp-buffer
          (smtpmail-native-test-insert)
          (let ((text (cadr (should-error
                             (smtpmail-native-send-it)
                             :type 'smtpmail-native-auth-error))))
            (dolist (words (list (format "localhost:%d" port)
                                 "`smtpmail-auth-credentials' (not set)"
                                 "`auth-sources'"
                                 (substring (car (last lines)) 7)))
              (should (string-search words text)))))
        (smtpmail-native-test-verdict server)
        (should (= 77 (smtpmail-native-verdict-exit-code
                       smtpmail-native-queue-last-result)))
        (should-not (smtpmail-native-outbox-ids))))))

(defmacro smtpmail-native-field-tests--typing (&rest body)
  "Run BODY as if tim, whose password is secret, sat there.
The prompts are listed in `asked'."
  (declare (indent 0) (debug t))
  `(let ((noninteractive nil)
         (asked nil))
     (cl-letf (((symbol-function 'read-passwd)
                (lambda (prompt &rest _)
                  (push prompt asked)
                  (copy-sequence "secret")))
               ((symbol-function 'read-string)
                (lambda (prompt &rest _)
                  (push prompt asked)
                  "tim")))
       (unwind-protect
           (progn ,@body)
         (smtpmail-native-forget-passwords)))))

(ert-deftest smtpmail-native-field-tests-no-login ()
  "You are asked for credentials, or the message is held for them."
  (dolist (background '(nil t))
    (pcase-dolist (`(,name . ,lines) smtpmail-native-field-tests--refusals)
      (ert-info ((format "%s %s" name background))
        (smtpmail-native-test-with-server
            (append (smtpmail-native-field-tests--refusal lines)
                    (list "next") (smtpmail-native-field-tests--login))
          (let ((smtpmail-native-background background)
                (held nil))
            (smtpmail-native-field-tests--typing
              (with-temp-buffer
                (smtpmail-native-test-insert)
                (smtpmail-native-send-it))
              (when background
                (smtpmail-native-test-wait
                 (lambda ()
                   (setq held (smtpmail-native-outbox-get
                               (car (smtpmail-native-outbox-ids))))
                   (eq (smtpmail-native-entry-hold held) 'password)))
                (should-not asked)
                (smtpmail-native-unlock)
                (smtpmail-native-test-drained)
                (unless (equal name "530")
                  (should (string-search
                           (format "no credentials for localhost:%d were found"
                                   port)
                           (plist-get (smtpmail-native-entry-state held)
                                      :text)))))
              (should (= (length asked) 2)))
            (smtpmail-native-test-verdict server)))))))

;;;; Not everybody got it

(ert-deftest smtpmail-native-field-tests-partial ()
  "In batch mode a message that some recipients did not get is an error."
  (skip-unless noninteractive)
  (pcase-dolist (`(,replies ,condition ,words)
                 '((("250 ok" "550 5.1.1 no carl" "250 ok")
                    smtpmail-native-refused ("carl@example.org" "5.1.1"))
                   (("250 ok" "450 4.2.1 later" "250 ok")
                    smtpmail-native-deferred ("carl@example.org" "4.2.1"))
                   (("450 4.2.1 later" "550 5.1.1 no carl" "250 ok")
                    smtpmail-native-deferred ("bob@" "carl@"))
                   (("250 ok" "250 ok" "250 ok") nil nil)))
    (ert-info ((format "%S" replies))
      (smtpmail-native-test-with-server
          (smtpmail-native-test-script
           (smtpmail-native-test-ehlo)
           "C: MAIL FROM:*" "S: 250 ok"
           (mapcan (lambda (reply) (list "C: RCPT TO:*" (concat "S: " reply)))
                   replies)
           "C: DATA" "S: 354 go" "data" "S: 250 2.0.0 queued"
           "C: QUIT" "S: 221 bye")
        (let ((smtpmail-native-partial-recipients t))
          (with-temp-buffer
            (smtpmail-native-test-insert
             "Cc: carl@example.org, dora@example.org\n")
            (if (null condition)
                (smtpmail-native-send-it)
              (let ((err (should-error (smtpmail-native-send-it)
                                       :type condition)))
                (should (eq (car err) condition))
                (dolist (word words)
                  (should (string-search word (cadr err))))))
            (smtpmail-native-test-verdict server)
            (should (= (length (smtpmail-native-outbox-ids))
                       (if condition 1 0)))))))))

(ert-deftest smtpmail-native-field-tests-partial-told ()
  "You are not told that a message was sent to one who did not get it."
  (dolist (refused '("bob@example.org" "carl@example.org"))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo) "C: MAIL FROM:*" "S: 250 ok"
         (mapcan (lambda (address)
                   (list (concat "C: RCPT TO:<" address ">")
                         (if (equal address refused) "S: 550 5.1.1 no"
                           "S: 250 ok")))
                 '("bob@example.org" "carl@example.org"))
         "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT" "S: 221 bye")
      (let ((smtpmail-native-partial-recipients t)
            (smtpmail-native-background nil)
            (noninteractive nil)
            (warning-minimum-level :error)
            (said nil))
        (cl-letf (((symbol-function 'message)
                   (lambda (format &rest args)
                     (when format
                       (push (apply #'format-message format args) said)))))
          (with-temp-buffer
            (smtpmail-native-test-insert "Cc: carl@example.org\n")
            (smtpmail-native-send-it)))
        (smtpmail-native-test-verdict server)
        (should (string-match-p
                 (format "\\`Sent .*to %s ([0-9.]+ s), but not to %s\\'"
                         (if (equal refused "bob@example.org")
                             "carl@example.org"
                           "bob@example.org")
                         refused)
                 (car said)))))))

;;;; Words of servers

(ert-deftest smtpmail-native-field-tests-server-text ()
  "Scripts are shown as they are; what could disguise a text is not."
  (pcase-dolist (`(,text ,shown)
                 '(("plain \"quoted\" a\\b" "plain \"quoted\" a\\b")
                   ("by the module: EXAMPLE\\\\bob" "by the module: EXAMPLE\\bob")
                   ("Gr\u00fc\u00dfe" "Gr\u00fc\u00dfe")
                   ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
                    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
                   ("\u0915\u094d\u200d\u0937" "\u0915\u094d\u200d\u0937")
                   ("\U0001f468\u200d\U0001f469" "\U0001f468\u200d\U0001f469")
                   ("\u0600\u0661" "\u0600\u0661")
                   ("pay\u200dpal" "pay\\x200dpal")
                   ("\u200cx" "\\x200cx")
                   ("a\u202etxt.exe\u202c" "a\\x202etxt.exe\\x202c")
                   ("\u2066x\u2069\u200e\u200f\u061c"
                    "\\x2066x\\x2069\\x200e\\x200f\\x61c")
                   ("a\u00adb\ufeff" "a\\xadb\\xfeff")
                   ("\e[31m\r\n\0" "\\x1b[31m\\xd\\xa\\x0")))
    (ert-info (text)
      (should (equal (smtpmail-native-error-text
                      (encode-coding-string text 'utf-8))
                     shown))))
  (should (equal (smtpmail-native-error-text "a\377b") "a\\xffb"))
  (should (equal (smtpmail-native-error-text nil) "")))

;;;; Files to attach

(defun smtpmail-native-field-tests--attachment (folder name octets &rest more)
  "Return the tag of a part whose file NAME in FOLDER holds OCTETS.
MORE are further attributes of the tag, a string."
  (let ((file (expand-file-name (format "%d" (random 1000000)) folder))
        (coding-system-for-write 'no-conversion))
    (write-region octets nil file nil 'silent)
    (format "<#part type=\"application/octet-stream\" filename=%S \
recipient-filename=%S disposition=attachment %s>\n<#/part>\n"
            file name (string-join more " "))))

(defun smtpmail-native-field-tests--octets ()
  "Return all octets, four times, as a unibyte string."
  (let ((all (apply #'unibyte-string (number-sequence 0 255))))
    (concat all all "\0\0\r\n.\r\n" all all)))

(defconst smtpmail-native-field-tests--html
  "<#part type=text/html>\n<html><body><p>Hällo &amp; <b>you</b></p>\n\
</body></html>\n<#/part>\n"
  "The tag of a part in HTML.")

;;;; The messages

(defun smtpmail-native-field-tests--forwarded ()
  "Return the tag of a part that is a message itself."
  "<#mml type=message/rfc822 disposition=inline>
From: carl@example.org
To: dora@example.org
Subject: inner

The inner text,
.with a dot
<#/mml>
")

(defconst smtpmail-native-field-tests--to "bob@example.org"
  "To whom a message goes, unless it says otherwise.")

(defun smtpmail-native-field-tests--messages (folder)
  "Return messages, (NAME RECIPIENTS TO HEADERS BODY...), with files in FOLDER.
RECIPIENTS is a number."
  (let ((bob smtpmail-native-field-tests--to)
        (attach (apply-partially #'smtpmail-native-field-tests--attachment
                                 folder)))
    `(("plain" 1 ,bob "" "Hello\n")
      ("no body" 1 ,bob "")
      ("no newline at the end" 1 ,bob "" "Hello")
      ("empty lines at the end" 1 ,bob "" "Hello\n\n\n\n")
      ("dots" 1 ,bob "" ".\n..\n.x\nx.\n.\n")
      ("lines like a mailbox" 1 ,bob "" "From me\n>From you\nFrom: x\n")
      ("Latin" 1 ,bob "" "Grüße, ça va?\n")
      ("Chinese and symbols" 1 ,bob "" "你好 😀 – “quoted”\n")
      ("CRLF in the buffer" 1 ,bob "" "one\r\ntwo\r\n.\r\nthree\r\n")
      ("a long line" 1 ,bob "" ,(make-string 3000 ?x) "\n")
      ("a long line, not ASCII" 1 ,bob "" ,(make-string 2000 ?ü) "\n")
      ("a line of 998" 1 ,bob "" ,(make-string 998 ?x) "\n")
      ("attachment, spaces in the name" 1 ,bob "" "See\n"
       ,(funcall attach "two words .txt" "text\n"))
      ("attachment, name not ASCII" 1 ,bob "" "See\n"
       ,(funcall attach "Grüße 日本.pdf" "text\n"))
      ("attachment, quotes in the name" 1 ,bob "" "See\n"
       ,(funcall attach "a\"b;c=d,(e).txt" "text\n"))
      ("attachment with NUL" 1 ,bob "" "See\n"
       ,(funcall attach "nul" "a\0b\0\0\r\n\0"))
      ("attachment of all octets" 1 ,bob "" "See\n"
       ,(funcall attach "all" (smtpmail-native-field-tests--octets)))
      ("text attachment, CRLF and long lines" 1 ,bob "" "See\n"
       ,(string-replace "application/octet-stream" "text/x-patch"
                        (funcall attach "a.diff"
                                 (concat (make-string 1500 ?y) "\r\n+ x\r\n"))))
      ("two attachments and a text between" 1 ,bob "" "One\n"
       ,(funcall attach "1" "1\n") "between\n" ,(funcall attach "2" "2\n"))
      ("alternative" 1 ,bob ""
       "<#multipart type=alternative>\nHällo\n"
       ,smtpmail-native-field-tests--html "<#/multipart>\n")
      ("alternative in mixed, with a file" 1 ,bob ""
       "<#multipart type=alternative>\nHällo\n"
       ,smtpmail-native-field-tests--html "<#/multipart>\n"
       ,(funcall attach "x.bin" "\377\376\0" ))
      ("message/rfc822" 1 ,bob "" "Forwarded:\n\n"
       ,(smtpmail-native-field-tests--forwarded))
      ("quoted names" 3 "\"Doe, John (Sales)\" <john@example.org>"
       "Cc: \"Roe, \\\"Jane\\\"\" <jane@example.org>,\n bob@example.org (Bob, B.)\n"
       "Hello\n")
      ("names not ASCII" 2 "Jörg Müller <joerg@example.org>, \
\"Łukasz, J.\" <lukasz@example.org>"
       "Organization: Größe & Söhne\n" "Hello\n")
      ("Cc and Bcc" 3 ,bob "Cc: carl@example.org\nBcc: eve@example.org\n"
       "Hello\n")
      ("a hundred" 100
       ,(mapconcat (lambda (n) (format "User %d <u%d@example.org>" n n))
                   (number-sequence 1 100) ", ")
       "" "Hello\n")
      ("long and odd fields" 1 ,bob
       ,(concat "X-Long: " (string-join (make-list 100 "wörter") " ")
                "\nX-Odd: a\tb  c;;,, \"d\nReferences: <1@x> <2@y>\n")
       "Hello\n"))))

(ert-deftest smtpmail-native-field-tests-like-stock ()
  "What `message-mode' sends arrives octet by octet as by stock smtpmail."
  (let ((folder (make-temp-file "smtpmail-native" t)))
    (unwind-protect
        (dolist (message (smtpmail-native-field-tests--messages folder))
          (pcase-let ((`(,name ,recipients . ,rest) message))
            (ert-info (name)
              (smtpmail-native-field-tests--compare
               recipients
               (lambda ()
                 (apply #'smtpmail-native-field-tests--send rest))))))
      (delete-directory folder t))))

(ert-deftest smtpmail-native-field-tests-group ()
  "The members of a group get the message; stock takes its name for one."
  (pcase-dolist (`(,to ,headers . ,recipients)
                 '(("Friends: bob@example.org, Carl <carl@example.org>;" ""
                    "RCPT TO:<bob@example.org>" "RCPT TO:<carl@example.org>")
                   ("undisclosed-recipients:;" "Bcc: eve@example.org\n"
                    "RCPT TO:<eve@example.org>")))
    (ert-info (to)
      (should (equal
               (car (smtpmail-native-field-tests--compare
                     (length recipients)
                     (lambda ()
                       (smtpmail-native-field-tests--send to headers "Hello\n"))
                     (1+ (length recipients))))
               (cons "MAIL FROM:<alice@example.org>" recipients))))))

(ert-deftest smtpmail-native-field-tests-flowed ()
  "Text with format=flowed arrives as by stock smtpmail."
  (pcase-let ((`(,_ ,octets)
               (smtpmail-native-field-tests--compare
                1 #'smtpmail-native-field-tests--send-flowed)))
    (should (string-search "format=flowed" octets))))

(defun smtpmail-native-field-tests--send-flowed ()
  "Send a message whose paragraphs flow."
  (let ((mml-enable-flowed t)
        (fill-flowed-encode-column 66))
    (message-mail smtpmail-native-field-tests--to "test")
    (setq-local use-hard-newlines t)
    (message-goto-body)
    (insert (string-join (make-list 60 "word") " ")
            (propertize "\n" 'hard t)
            "> quoted" (propertize "\n" 'hard t))
    (message-send)))

(ert-deftest smtpmail-native-field-tests-resend ()
  "A message that is resent arrives as by stock smtpmail.
But it comes from the one who resends it, not from its author."
  (pcase-let ((`(,commands ,octets)
               (smtpmail-native-field-tests--compare
                1 (lambda ()
                    (with-temp-buffer
                      (insert "From: carl@example.org\nTo: dora@example.org\n\
Subject: x\nDate: Tue, 24 Nov 2026 12:00:00 +0000\n\
Message-ID: <1@example.org>\n\nThe text\n")
                      (message-resend smtpmail-native-field-tests--to)))
                1)))
    (should (equal (car commands) "MAIL FROM:<alice@example.org>"))
    (should (string-match-p "^Resent-To: bob@example.org" octets))
    (should (string-match-p "^To: dora@example.org" octets))))

;;;; Signed

(defun smtpmail-native-field-tests--key (home)
  "Make a key without a passphrase in HOME, a GnuPG home; return its name."
  (with-temp-buffer
    (let ((status (call-process "gpg" nil t nil "--homedir" home "--batch"
                                "--quiet" "--passphrase" ""
                                "--quick-generate-key"
                                "Alice <alice@example.org>" "ed25519" "sign"
                                "never")))
      (unless (eql status 0)
        (ert-skip (format "No key: %s" (buffer-string))))
      "alice@example.org")))

(defmacro smtpmail-native-field-tests--with-key (&rest body)
  "Run BODY with a throw-away key of GnuPG for alice@example.org."
  (declare (indent 0) (debug t))
  `(let* ((home (make-temp-file "gpg" t))
          (epg-gpg-home-directory home))
     (unwind-protect
         (progn
           (smtpmail-native-field-tests--key home)
           ,@body)
       (call-process "gpgconf" nil nil nil "--homedir" home "--kill" "all")
       (delete-directory home t))))

(defun smtpmail-native-field-tests--verify (octets)
  "Check the signature of the multipart/signed OCTETS by the current key."
  (should (string-match "boundary=\"\\([^\"]+\\)\"" octets))
  (let* ((boundary (concat "\r\n--" (match-string 1 octets)))
         (parts (split-string octets (regexp-quote boundary)))
         (signed (string-remove-prefix "\r\n" (nth 1 parts)))
         (folder (make-temp-file "signed" t))
         (coding-system-for-write 'no-conversion))
    (unwind-protect
        (let ((text (expand-file-name "text" folder))
              (signature (expand-file-name "signature" folder)))
          (write-region signed nil text nil 'silent)
          (write-region (nth 2 parts) nil signature nil 'silent)
          (should (eql 0 (call-process "gpg" nil nil nil
                                       "--homedir" epg-gpg-home-directory
                                       "--verify" signature text))))
      (delete-directory folder t))))

(ert-deftest smtpmail-native-field-tests-signed ()
  "A signed message arrives as by stock smtpmail, and its signature is good."
  (skip-unless (and (executable-find "gpg") (executable-find "gpgconf")))
  (smtpmail-native-field-tests--with-key
    (let ((folder (make-temp-file "smtpmail-native" t))
          (mml-secure-openpgp-signers '("alice@example.org"))
          (process-environment (cons (concat "GNUPGHOME="
                                             epg-gpg-home-directory)
                                     process-environment)))
      (unwind-protect
          (dolist (body (list
                         (list "Hello\n")
                         (list "Grüße  \n.\nFrom me \t\n" (make-string 1200 ?x)
                               "\n")
                         (list "See\n"
                               (smtpmail-native-field-tests--attachment
                                folder "a\0b"
                                (smtpmail-native-field-tests--octets)))))
            (smtpmail-native-field-tests--verify
             (cadr
              (smtpmail-native-field-tests--compare
               1 (lambda ()
                   (apply #'smtpmail-native-field-tests--send
                          smtpmail-native-field-tests--to ""
                          "<#secure method=pgpmime mode=sign>\n" body))))))
        (delete-directory folder t)))))

(defun smtpmail-native-field-tests--certificate (folder)
  "Make a key and its certificate for S/MIME in FOLDER; return their file."
  (let ((file (expand-file-name "alice.pem" folder))
        (certificate (expand-file-name "certificate.pem" folder)))
    (unless (eql 0 (call-process
                    "openssl" nil nil nil "req" "-x509" "-newkey" "rsa:2048"
                    "-nodes" "-days" "2" "-subj"
                    "/CN=Alice/emailAddress=alice@example.org"
                    "-keyout" file "-out" certificate))
      (ert-skip "OpenSSL makes no key"))
    (with-temp-buffer
      (insert-file-contents certificate)
      (append-to-file nil nil file))
    file))

(ert-deftest smtpmail-native-field-tests-signed-by-certificate ()
  "A message with a signature of S/MIME arrives as by stock smtpmail."
  (skip-unless (executable-find "openssl"))
  (require 'smime)
  (let ((folder (make-temp-file "smtpmail-native" t))
        (mml-smime-use 'openssl))
    (unwind-protect
        (let* ((file (smtpmail-native-field-tests--certificate folder))
               (smime-keys (list (list "alice@example.org" file))))
          (dolist (body '(("Hello\n") ("Gr\u00fc\u00dfe  \n.\nFrom me \t\n")))
            (pcase-let
                ((`(,_ ,octets)
                  (cl-letf (((symbol-function 'smime-ask-passphrase) #'ignore))
                    (smtpmail-native-field-tests--compare
                     1 (lambda ()
                         (apply #'smtpmail-native-field-tests--send
                                smtpmail-native-field-tests--to ""
                                (format "<#secure method=smime mode=sign \
keyfile=%S>\n" file)
                                body))))))
              (should (string-search "application/x-pkcs7-signature" octets))
              (with-temp-buffer
                (set-buffer-multibyte nil)
                (insert octets)
                (should (eql 0 (call-process-region
                                nil nil "openssl" nil nil nil
                                "smime" "-verify" "-noverify")))))))
      (delete-directory folder t))))

(provide 'smtpmail-native-field-tests)
;;; smtpmail-native-field-tests.el ends here
