;;; smtpmail-native-seven-bit-tests.el --- Messages without 8-bit octets  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-sink)
(require 'mm-decode)

(defun smtpmail-native-seven-bit-tests--encode (octets)
  "Return the unibyte string OCTETS, a message, without 8-bit octets."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert octets)
    (smtpmail-native-seven-bit-encode)
    (buffer-string)))

(defun smtpmail-native-seven-bit-tests--leaves (octets)
  "Return (TYPE . OCTETS) of each part of the message OCTETS, decoded."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert octets)
    (let* ((mm-dissect-disposition "inline")
           (handles (mm-dissect-buffer t))
           (leaves nil))
      (cl-labels ((walk (handle)
                    (cond ((stringp (car handle))
                           (mapc #'walk (cdr handle)))
                          ((bufferp (car handle))
                           (push (cons (mm-handle-media-type handle)
                                       (replace-regexp-in-string
                                        "\r\n" "\n"
                                        (mm-get-part handle t) t t))
                                 leaves)))))
        (walk handles))
      (mm-destroy-parts handles)
      (nreverse leaves))))

(defconst smtpmail-native-seven-bit-tests--alternative
  (encode-coding-string
   "Subject: x\nMIME-Version: 1.0
Content-Type: multipart/mixed;\n boundary=\"=-=\"
Content-Transfer-Encoding: 8bit

preamble
--=-=
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Grüße, = 1, und viele andere, auch lange Worte ohne Sinn
.dot and trailing \n--=-=

plain ASCII stays = as it is
--=-=
Content-Type: multipart/alternative; boundary=inner
Content-Transfer-Encoding: 8bit

--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>Ωμέγα και άλφα Ωμέγα και άλφα Ωμέγα και άλφα</p>

--inner--

--=-=--
" 'utf-8)
  "A message of parts.")

(ert-deftest smtpmail-native-seven-bit-tests-parts ()
  "Each part that needs it is encoded, and decodes to what it was."
  (let* ((octets smtpmail-native-seven-bit-tests--alternative)
         (encoded (smtpmail-native-seven-bit-tests--encode octets))
         (case-fold-search nil))
    (should (string-match-p "\\`[\0-\177]*\\'" encoded))
    (should (string-match-p "^plain ASCII stays = as it is$" encoded))
    (should (string-match-p "^Content-Transfer-Encoding: base64$" encoded))
    (should (string-match-p "^Content-Transfer-Encoding: quoted-printable$"
                            encoded))
    (should-not (string-match-p "8bit" encoded))
    (should (= 3 (length (smtpmail-native-seven-bit-tests--leaves octets))))
    (should (equal (smtpmail-native-seven-bit-tests--leaves encoded)
                   (smtpmail-native-seven-bit-tests--leaves octets)))))

(ert-deftest smtpmail-native-seven-bit-tests-plain ()
  "A message without MIME gets the fields that tell of it."
  (let ((encoded (smtpmail-native-seven-bit-tests--encode
                  (encode-coding-string "Subject: x\n\nGrüße\nan alle, die dies lesen\n" 'utf-8))))
    (should (string-match-p "^MIME-Version: 1.0$" encoded))
    (should (string-match-p "^Content-Type: text/plain; charset=utf-8$" encoded))
    (should (string-match-p "^Gr=C3=BC=C3=9Fe$" encoded)))
  (should (string-match-p
           "charset=unknown-8bit$"
           (smtpmail-native-seven-bit-tests--encode
            "Subject: x\n\na\377b plain ASCII beside it\n"))))

(ert-deftest smtpmail-native-seven-bit-tests-message ()
  "A message within a message is encoded inside, and itself not."
  (let ((encoded (smtpmail-native-seven-bit-tests--encode
                  (encode-coding-string
                   "Subject: x\nMIME-Version: 1.0
Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit

Subject: inner\nMIME-Version: 1.0
Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit

Grüße aus dem Inneren des Briefes\n" 'utf-8))))
    (should (string-match-p "message/rfc822\nContent-Transfer-Encoding: 7bit"
                            encoded))
    (should (string-match-p "^Gr=C3=BC=C3=9Fe" encoded))))

(ert-deftest smtpmail-native-seven-bit-tests-ascii ()
  "What is ASCII stays as it is."
  (let ((octets "Subject: x\n\nx = y\n"))
    (should (equal (smtpmail-native-seven-bit-tests--encode octets) octets))))

(ert-deftest smtpmail-native-seven-bit-tests-refused ()
  "What must not be changed is refused, with the reason."
  (pcase-dolist
      (`(,text ,why)
       '(("Content-Type: multipart/signed; boundary=b\n\n--b\n\nü\n--b--\n"
          "signed")
         ("DKIM-Signature: v=1\n\nü\n" "DKIM")
         ("Subject: ü\n\nü\n" "header")
         ("Content-Type: multipart/mixed; boundary=b\n\nü\n--b\n\nx\n--b--\n"
          "outside")
         ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\nü\n"
          "outside")
         ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nü\n"
          "closing MIME boundary")
         ("Content-Type: multipart/mixed\n\n--b\n\nü\n--b--\n"
          "multipart/mixed")
         ("Content-Type: message/partial\n\nü\n" "message/partial")
         ("Content-Transfer-Encoding: base64\n\nü\n" "base64")))
    (ert-info (text)
      (let ((err (should-error
                  (smtpmail-native-seven-bit-tests--encode
                   (encode-coding-string text 'utf-8))
                  :type 'smtpmail-native-refused)))
        (should (string-match-p why (cadr err)))))))

(ert-deftest smtpmail-native-seven-bit-tests-binary ()
  "What is binary is encoded with its own line ends."
  (let ((encoded (smtpmail-native-seven-bit-tests--encode
                  "MIME-Version: 1.0\nContent-Type: text/plain
Content-Transfer-Encoding: binary\n\na\rb\n\0c")))
    (should (string-match-p "^Content-Transfer-Encoding: base64$" encoded))
    (should (string-match "\n\n\\(.*\\)\n\\'" encoded))
    (should (equal (base64-decode-string (match-string 1 encoded))
                   "a\rb\n\0c"))))

(ert-deftest smtpmail-native-seven-bit-tests-binary-sent ()
  "A binary mail goes as it is where that is possible, else encoded."
  (dolist (chunking '(t nil))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo "CHUNKING" "BINARYMIME")
         (if chunking "C: MAIL * BODY=BINARYMIME"
           "C: MAIL FROM:<alice@example.org>")
         "S: 250 ok" "C: RCPT *" "S: 250 ok"
         (if chunking '("C: BDAT * LAST" "swallow 60" "stall")
           '("C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")))
      (let ((smtpmail-native-chunking chunking)
            (smtpmail-native-timeout 1)
            (smtpmail-native-idle-seconds 5))
        (with-temp-buffer
          (set-buffer-multibyte nil)
          (insert "From: alice@example.org\nTo: bob@example.org\n\
MIME-Version: 1.0\nContent-Type: application/octet-stream\n\
Content-Transfer-Encoding: binary\n" mail-header-separator "\na\377b\n")
          (let ((mail (smtpmail-native-message-prepare)))
            (unwind-protect
                (if chunking
                    (smtpmail-native-queue-send mail 'background)
                  (smtpmail-native-queue-send mail 'wait)
                  (smtpmail-native-module-shutdown 5000)
                  (smtpmail-native-test-verdict server)
                  (should (string-match-p "\r\nYf9iCg==\r\n"
                                          (smtpmail-native-test-delivered
                                           folder))))
              (kill-buffer (plist-get mail :buffer)))))
        (when chunking
          (smtpmail-native-test-wait
           (lambda ()
             (string-match-p "BODY=BINARYMIME"
                             (smtpmail-native-test--output server))))
          (maphash (lambda (id _) (smtpmail-native-act-cancel id))
                   smtpmail-native-attempt--active)
          (smtpmail-native-test-wait
           (lambda () (not (smtpmail-native-schedule-busy-p)))))))))

(ert-deftest smtpmail-native-seven-bit-tests-sent ()
  "A server without 8BITMIME gets the mail encoded, on the same connection."
  (dolist (background '(nil t))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo "SIZE") smtpmail-native-test-mail)
      (let ((smtpmail-native-idle-seconds 5)
            (smtpmail-native-background background)
            (mail nil))
        (with-temp-buffer
          (insert "From: alice@example.org\nTo: bob@example.org\n"
                  mail-header-separator
                  "\nGrüße\nan alle, die dies lesen\n")
          (let ((smtpmail-code-conv-from 'utf-8))
            (setq mail (smtpmail-native-message-prepare))))
        (unwind-protect
            (smtpmail-native-queue-send mail (if background 'background 'wait))
          (kill-buffer (plist-get mail :buffer)))
        (smtpmail-native-test-wait
         (lambda () (not (smtpmail-native-schedule-busy-p))))
        (should-not (smtpmail-native-outbox-ids))
        (smtpmail-native-module-shutdown 5000)
        (smtpmail-native-test-verdict server)
        (should (string-match-p "^Gr=C3=BC=C3=9Fe\r?$"
                                (smtpmail-native-test-delivered folder)))))))

(ert-deftest smtpmail-native-seven-bit-tests-kept ()
  "What cannot be encoded is kept, and the reason is told."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "SIZE") "C: QUIT")
    (with-temp-buffer
      (insert "From: alice@example.org\nTo: bob@example.org\n\
DKIM-Signature: v=1\n"
              mail-header-separator "\nGrüße\n")
      (let* ((smtpmail-code-conv-from 'utf-8)
             (mail (smtpmail-native-message-prepare)))
        (unwind-protect
            (smtpmail-native-queue-send mail 'background)
          (kill-buffer (plist-get mail :buffer)))))
    (smtpmail-native-test-wait
     (lambda () (not (smtpmail-native-schedule-busy-p))))
    (let ((state (smtpmail-native-entry-state
                  (smtpmail-native-outbox-get
                   (car (smtpmail-native-outbox-ids))))))
      (should (eq (plist-get state :status) 'refused))
      (should (string-match-p "DKIM" (plist-get state :text))))
    (smtpmail-native-test-verdict server)))

(provide 'smtpmail-native-seven-bit-tests)
;;; smtpmail-native-seven-bit-tests.el ends here
