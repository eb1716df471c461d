;;; smtpmail-native-encode-tests.el --- Tests of what servers can read  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Headers as people and programs write them, and as they are sent, by tables.

;;; Code:

(require 'ert)
(require 'rfc2047)
(require 'smtpmail-native-message)

(defun smtpmail-native-encode-tests--sent (header &optional octets)
  "Return what is sent of HEADER, the text of fields, without what is added.
OCTETS non-nil means that it is in a unibyte buffer, as a finished message."
  (with-temp-buffer
    (when octets
      (set-buffer-multibyte nil)
      (setq header (if (multibyte-string-p header)
                       (encode-coding-string header 'utf-8)
                     header)))
    (insert (if (string-match-p "^Resent-" header)
                "Resent-From: me@home.test\nResent-Date: d\n\
Resent-Message-ID: <r@home.test>\n"
              "")
            header
            (if (string-match-p "^From:" header) "" "From: me@home.test\n")
            "Date: d\nMessage-ID: <i@home.test>\nBcc: b@x\n\nbody\n")
    (let* ((mail-header-separator "")
           (user-mail-address "me@home.test")
           (mail-personal-alias-file "/nonexistent")
           (mail-aliases nil)
           (mail-specify-envelope-from nil)
           (smtpmail-mail-address nil)
           (smtpmail-code-conv-from 'utf-8)
           (plist (smtpmail-native-message-prepare nil nil nil octets))
           (sent (with-current-buffer (plist-get plist :buffer)
                   (buffer-string))))
      (kill-buffer (plist-get plist :buffer))
      (replace-regexp-in-string
       "^\\(?:MIME-Version\\|Content-Type: text/plain\\|Content-Transfer-.*\
\\|From: me@home.test\\|Date: d\\|Message-ID: <i@home.test>\
\\|Resent-From: me@home.test\\|Resent-Date: d\
\\|Resent-Message-ID: <r@home.test>\\).*\n" ""
       (substring sent 0 (1+ (string-match "\n\n" sent)))
       t t))))

(defun smtpmail-native-encode-tests--check (rows)
  "Check ROWS (HEADER SENT...): what is sent, as text and finished.
A SENT of t is HEADER itself; one alone stands for both."
  (pcase-dolist (`(,header . ,sent) rows)
    (dolist (octets '(nil t))
      (ert-info ((format "%S %s" header (if octets "finished" "text")))
        (let ((wanted (if (and octets (cdr sent)) (cadr sent) (car sent))))
          (should (equal (smtpmail-native-encode-tests--sent
                          (concat header "\n") octets)
                         (if (eq wanted t) (concat header "\n") wanted))))))))

;;;; Empty fields

(ert-deftest smtpmail-native-encode-tests-empty ()
  "Fields that must not be empty are left out when they are; Bcc always is."
  (dolist (name '("To" "Cc" "Reply-To" "Sender" "In-Reply-To" "References"
                  "Mail-Followup-To" "TO"))
    (dolist (body '("" " " "\t" " ," " (nobody)" " ,, (a (nested) one) ,"
                    "\n "))
      (smtpmail-native-encode-tests--check
       `((,(concat name ":" body "\nX-Other:") "X-Other:\n")))))
  (smtpmail-native-encode-tests--check
   '(("Organization: " "") ("Organization: (none)" t)
     ("X-Empty: " t) ("Keywords: a" t)
     ("To: undisclosed-recipients:;" t) ("To: a@x, (c)" t)
     ("In-Reply-To: some text" t))))

(ert-deftest smtpmail-native-encode-tests-empty-resent ()
  (dolist (name '("Resent-To" "Resent-Cc" "Resent-Sender" "Resent-Reply-To"))
    (smtpmail-native-encode-tests--check
     `((,(concat "Resent-Bcc: r@x\n" name ": (none)\nTo: \nX-Other: x")
        "X-Other: x\n")))))

(ert-deftest smtpmail-native-encode-tests-nothing ()
  "Empty brackets and spaces that do not break say nothing, either."
  (smtpmail-native-encode-tests--check
   '(("Reply-To: <>\nX-Other:" "X-Other:\n")
     ("Sender: < > (x)\nX-Other:" "X-Other:\n")
     ("Cc: \u00a0\nX-Other:" "X-Other:\n")
     ("Reply-To: \u200b,\u202f\nX-Other:" "X-Other:\n")
     ("Reply-To: <a@x>" t))))

;;;; What is copied along

(ert-deftest smtpmail-native-encode-tests-invisible ()
  "Invisible characters around an address do not become part of it."
  (smtpmail-native-encode-tests--check
   '(("To: a@x.example\u00a0" "To: a@x.example\n")
     ("To: \u200ba@x.example, \ufeffb@y" "To: a@x.example, b@y\n")
     ("To: \u202aa@x.example\u202c" "To: a@x.example\n")
     ("To: Joe\u00a0Doe <\u200ea@x.example>" "To: Joe Doe <a@x.example>\n")
     ("Reply-To: a@x.example\u2009" "Reply-To: a@x.example\n")
     ;; Letters need this one.
     ("To: \u0645\u06cc\u200c\u062e <a@x>"
      "To: =?utf-8?B?2YXbjOKAjNiu?= <a@x>\n"))))

;;;; Names

(ert-deftest smtpmail-native-encode-tests-names ()
  "Display names that need quotes get them; the others stay as they are."
  (smtpmail-native-encode-tests--check
   '(("To: info@y.example <info@y.example>"
      "To: \"info@y.example\" <info@y.example>\n")
     ("To: a [b] <j@y.example>" "To: \"a [b]\" <j@y.example>\n")
     ("To: [list] <a@x>, b@y" "To: \"[list]\" <a@x>, b@y\n")
     ("To: half [open <a@x>" "To: \"half [open\" <a@x>\n")
     ("To: back\\slash <a@x>" "To: \"back\\\\slash\" <a@x>\n")
     ("To: John Q. Public <a@x>" "To: \"John Q. Public\" <a@x>\n")
     ("To: St. \"Nick\" <a@x>" "To: \"St. Nick\" <a@x>\n")
     ("To: a@b (c) d@e <a@x>" "To: \"a@b\" (c) \"d@e\" <a@x>\n")
     ("To: =?utf-8?Q?J=C3=B6rg?= a@b <a@x>"
      "To: =?utf-8?Q?J=C3=B6rg?= \"a@b\" <a@x>\n")
     ("Reply-To: x@y.example <x@y.example>"
      "Reply-To: \"x@y.example\" <x@y.example>\n")
     ("From: x@y.example <x@y.example>\nTo: a@x"
      "From: \"x@y.example\" <x@y.example>\nTo: a@x\n")
     ("Cc: A Group: x@y <x@y>, b@z;" "Cc: A Group: \"x@y\" <x@y>, b@z;\n")
     ("To: Joe Doe <a@x>" t)
     ("To: \"Doe, Joe\" <a@x>" t)
     ("To: \"a@b [c]\" <a@x>,\n \"x (y)\" <b@y>" t)
     ("To: Joe (the [first]) <a@x>" t)
     ("To: a@x (Joe Q. Public)" t)
     ("To: =?utf-8?Q?a=2C_b@c?= <a@x>" t)
     ("To: \"x\" y \"z.\" <a@x>" t)
     ("X-To: a [b] <j@y.example>" t)
     ("Subject: a [b] <j@y.example>" t))))

(ert-deftest smtpmail-native-encode-tests-names-not-ascii ()
  "Names are quoted before they are encoded."
  (smtpmail-native-encode-tests--check
   '(("To: Jörg [x] <a@x>" "To: =?utf-8?Q?J=C3=B6rg_=5Bx=5D?= <a@x>\n")
     ("To: Jörg Müller <a@x>" "To: =?utf-8?B?SsO2cmcgTcO8bGxlcg==?= <a@x>\n")
     ("To: \"Müller, Jörg\" <a@x>"
      "To: =?utf-8?B?TcO8bGxlciwgSsO2cmc=?= <a@x>\n")
     ("To: a@x (Jörg)" "To: a@x (=?utf-8?Q?J=C3=B6rg?=)\n"))))

(ert-deftest smtpmail-native-encode-tests-unquoted ()
  "A name that a comma tears apart is an error in what the user writes."
  (dolist (name '("To" "Cc" "From" "Reply-To" "Sender"))
    (ert-info (name)
      (should (string-search
               "quote the name: \"Doe, John\" <j@x>"
               (cadr (should-error
                      (smtpmail-native-encode-tests--sent
                       (concat name ": Doe, John <j@x>\n"))
                      :type 'smtpmail-native-usage-error))))))
  ;; Replies to a finished message are the matter of its author.
  (should (equal (smtpmail-native-encode-tests--sent
                  "Reply-To: Doe, John <j@x>\n" t)
                 "Reply-To: Doe, John <j@x>\n"))
  ;; What cannot be read, and is not of the envelope, stays.
  (smtpmail-native-encode-tests--check '(("Reply-To: a@x b@y <" t))))

(ert-deftest smtpmail-native-encode-tests-authors ()
  "The author's fields are not bettered in a message that is resent."
  (smtpmail-native-encode-tests--check
   '(("Resent-To: a [b] <j@y>\nTo: c [d] <k@y>\nReply-To: Doe, J <j@x>"
      "Resent-To: \"a [b]\" <j@y>\nTo: c [d] <k@y>\nReply-To: Doe, J <j@x>\n"))))

;;;; Domains

(ert-deftest smtpmail-native-encode-tests-domains ()
  "Domains are in ASCII, in the header as in the envelope."
  (smtpmail-native-encode-tests--check
   '(("To: a@bücher.example" "To: a@xn--bcher-kva.example\n")
     ("To: Jörg <a@bücher.example>, b@y"
      "To: =?utf-8?Q?J=C3=B6rg?= <a@xn--bcher-kva.example>, b@y\n")
     ("To: G: a@bücher.example, b@ünder.test;"
      "To: G: a@xn--bcher-kva.example, b@xn--nder-zra.test;\n")
     ("Reply-To: a@bücher.example" "Reply-To: a@xn--bcher-kva.example\n")
     ("In-Reply-To: <1@bücher.example>" "In-Reply-To: <1@xn--bcher-kva.example>\n")
     ("References: <1@x> <2@bücher.example>"
      "References: <1@x> <2@xn--bcher-kva.example>\n")
     ("Subject: a@bücher.example" "Subject: =?utf-8?Q?a=40b=C3=BCcher=2Eexample?=\n"))))

(ert-deftest smtpmail-native-encode-tests-utf-8 ()
  "SMTPUTF8 is needed where a local part is not ASCII, and only there."
  (dolist (octets '(nil t))
    (pcase-dolist (`(,header ,needed)
                   '(("To: a@x\nSubject: Grüße" nil)
                     ("To: Jörg <a@x>" nil)
                     ("To: a@bücher.example" nil)
                     ("From: a@bücher.example\nTo: a@x" nil)
                     ("To: a@x\nX-Name: Grüße" nil)
                     ("DKIM-Signature: x\nTo: Jörg <a@x>" nil)
                     ("To: jörg@x" t)
                     ("To: a@x\nCc: jörg@bücher.example" t)
                     ("To: a@x\nReply-To: jörg@x" t)
                     ("From: jörg@x\nTo: a@x" t)))
      (ert-info ((format "%S %s" header octets))
        (with-temp-buffer
          (let ((text (concat header "\nMessage-ID: <i@x>\n\nbody\n"))
                (mail-header-separator "")
                (user-mail-address "me@home.test"))
            (set-buffer-multibyte (not octets))
            (insert (if octets (encode-coding-string text 'utf-8) text))
            (let ((plist (smtpmail-native-message-prepare nil nil nil octets)))
              (kill-buffer (plist-get plist :buffer))
              (should (eq (plist-get plist :utf-8) needed)))))))))

;;;; Octets

(ert-deftest smtpmail-native-encode-tests-octets ()
  "Octets in a finished header are guessed, or said to be unknown."
  (pcase-dolist
      (`(,header ,sent)
       '(("Subject: Gr\303\274\303\237e" "Subject: =?utf-8?B?R3LDvMOfZQ==?=")
         ("Subject: Gr\374\337e" "Subject: =?utf-8?B?R3LDvMOfZQ==?=")
         ("Subject: \303\274\nTo: J\366rg <a@x>"
          "Subject: =?utf-8?Q?=C3=BC?=\nTo: =?utf-8?Q?J=C3=B6rg?= <a@x>")
         ("Content-Type: text/plain; charset=iso-8859-2\nSubject: \261"
          "Subject: =?utf-8?Q?=C4=85?=")
         ("Content-Type: text/html; charset=\"koi8-r\"\nX: \301"
          "Content-Type: text/html; charset=\"koi8-r\"\nX: =?utf-8?Q?=D0=B0?=")
         ("Subject: \223quoted\224 \377"
          "Subject: =?unknown-8bit?B?k3F1b3RlZJQg/w==?=")
         ("To: \"J\223, R\" <a@x>, b@y"
          "To: =?unknown-8bit?Q?J=93=2C_R?= <a@x>, b@y")))
    (ert-info (header)
      (should (equal (smtpmail-native-encode-tests--sent
                      (concat header "\n") t)
                     (concat sent "\n"))))))

(ert-deftest smtpmail-native-encode-tests-unknown-long ()
  "Lines with words of an unknown charset are not too long either."
  (let ((sent (smtpmail-native-encode-tests--sent
               (concat "Subject: " (make-string 200 ?\223) "\n") t)))
    (should (string-search "\n " sent))
    (dolist (line (split-string sent "\n"))
      (should (<= (length line) 78)))))

(ert-deftest smtpmail-native-encode-tests-signed ()
  "A signed message is not altered."
  (dolist (mark '("DKIM-Signature: v=1; a=x"
                  "ARC-Message-Signature: i=1; a=x" "DomainKey-Signature: a=x"
                  "Content-Type: multipart/signed; boundary=x"))
    (let ((header (concat mark "\nTo: a [b] <a@x>, c@b\303\274cher.example\n\
Cc: \nSubject: \303\274 \377\nReferences: " (make-string 1100 ?x)
                          "\n")))
      (should (equal (smtpmail-native-encode-tests--sent header t) header)))))

(ert-deftest smtpmail-native-encode-tests-signed-resent ()
  "Only what a resending adds to a signed message is encoded."
  (smtpmail-native-encode-tests--check
   '(("Resent-To: J\u00f6rg [x] <j@b\u00fccher.example>\nResent-Cc: (none)\n\
DKIM-Signature: v=1\nTo: a [b] <a@x>\nCc: "
      "Resent-To: =?utf-8?Q?J=C3=B6rg_=5Bx=5D?= <j@xn--bcher-kva.example>\n\
DKIM-Signature: v=1\nTo: a [b] <a@x>\nCc: \n"))))

;;;; File names

(ert-deftest smtpmail-native-encode-tests-file-names ()
  "A file name that is not ASCII does not make a field of MIME unreadable."
  (smtpmail-native-encode-tests--check
   '(("Content-Disposition: attachment; filename=\"Gr\u00fc\u00dfe.txt\"; size=3"
      "Content-Disposition: attachment; \
filename*=utf-8''Gr%c3%bc%c3%9fe.txt; size=3\n")
     ("Content-Disposition: attachment; FileName=\u00fc.txt"
      "Content-Disposition: attachment; FileName*=utf-8''%c3%bc.txt\n")
     ("Content-Disposition: attachment; name=\"a\"; filename=\"\u00fc;\\\"\""
      "Content-Disposition: attachment; name=\"a\"; \
filename*=utf-8''%c3%bc%3b%22\n")
     ("Content-Disposition: attachment; filename=\"a b.txt\"" t)))
  (let* ((name (concat (make-string 60 ?\u00fc) ".txt"))
         (sent (smtpmail-native-encode-tests--sent
                (format "Content-Disposition: x; filename=\"%s\"\n" name))))
    (dolist (line (split-string sent "\n"))
      (should (<= (length line) 78)))
    (should (equal name (cdr (assq 'filename
                                   (cdr (rfc2231-parse-string
                                         (string-replace
                                          "\n" "" (substring sent 21))))))))))

;;;; Long lines

(ert-deftest smtpmail-native-encode-tests-long ()
  "A line that is too long for servers is folded; others stay."
  (let ((addresses (mapconcat (lambda (n) (format "u%d@x.test" n))
                              (number-sequence 1 200) ", "))
        (words (mapconcat #'identity (make-list 300 "word") " ")))
    (dolist (octets '(nil t))
      (pcase-dolist (`(,name ,body) (list (list "To" addresses)
                                          (list "To" (string-replace
                                                      ", " "," addresses))
                                          (list "References" words)
                                          (list "X-Words" words)))
        (let ((sent (smtpmail-native-encode-tests--sent
                     (format "%s: %s\n" name body) octets)))
          (dolist (line (split-string sent "\n"))
            (should (<= (length line) 78)))
          (should (equal (string-replace " " "" (string-replace "\n" "" sent))
                         (string-replace " " "" (format "%s:%s" name body))))))
      (smtpmail-native-encode-tests--check
       (list (list (concat "X-Words: " (substring words 0 900)) t))))))

(provide 'smtpmail-native-encode-tests)
;;; smtpmail-native-encode-tests.el ends here
