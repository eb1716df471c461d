;;; smtpmail-native-message-tests.el --- Tests of preparing a mail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each property of preparation by a test, and ordinary messages against stock
;; `smtpmail-send-it'.  Nothing is sent.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'message)
(require 'smtpmail)
(require 'smtpmail-native-message)

(defconst smtpmail-native-message-tests-separator
  "--text follows this line--")

(defmacro smtpmail-native-message-tests-with-user (&rest body)
  "Evaluate BODY as a user of known name and address."
  (declare (indent 0) (debug t))
  `(with-suppressed-warnings ((obsolete mail-from-style))
     (let ((user-mail-address "me@home.test")
           (user-full-name "My Self")
           (mail-from-style 'angles)
           (mail-aliases nil)
           (mail-personal-alias-file "/nonexistent/mailrc")
           (mail-alias-modtime nil)
           (mail-specify-envelope-from nil)
           (mail-envelope-from nil)
           (mail-send-nonascii 'mime)
           (mail-header-separator smtpmail-native-message-tests-separator)
           (smtpmail-mail-address nil)
           (smtpmail-sendto-domain nil)
           (smtpmail-code-conv-from nil)
           (smtpmail-recipient-address-list nil))
       ,@body)))

(defun smtpmail-native-message-tests-mail (&rest lines)
  "Return LINES as a mail; a line t is the separator."
  (mapconcat (lambda (line)
               (concat (if (eq line t)
                           smtpmail-native-message-tests-separator
                         line)
                       "\n"))
             lines ""))

(defmacro smtpmail-native-message-tests-prepare (mail &rest body)
  "Prepare MAIL, then evaluate BODY.
MAIL is a string, or a function that makes one in the current buffer.  In
BODY, `plist' is the result and `octets' what is to be sent."
  (declare (indent 1) (debug t))
  `(smtpmail-native-message-tests-with-user
     (smtpmail-native-message-tests-call
      ,mail (lambda (plist octets) (ignore plist octets) ,@body))))

(defun smtpmail-native-message-tests-call (mail function)
  "Prepare MAIL and call FUNCTION with plist and octets."
  (with-temp-buffer
    (if (functionp mail)
        (funcall mail)
      (set-buffer-multibyte (multibyte-string-p mail))
      (insert mail))
    (let* ((plist (smtpmail-native-message-prepare))
           (buffer (plist-get plist :buffer)))
      (unwind-protect
          (funcall function plist (with-current-buffer buffer
                                    (should-not enable-multibyte-characters)
                                    (buffer-string)))
        (kill-buffer buffer)))))

(defun smtpmail-native-message-tests-error (mail)
  "Return the text of the usage error that preparing MAIL signals."
  (smtpmail-native-message-tests-with-user
    (with-temp-buffer
      (insert mail)
      (let ((buffers (buffer-list)))
        (prog1 (cadr (should-error (smtpmail-native-message-prepare)
                                   :type 'smtpmail-native-usage-error))
          (should (equal buffers (buffer-list))))))))

(defun smtpmail-native-message-tests-header (octets)
  "Return the header of OCTETS, with its last newline."
  (substring octets 0 (1+ (string-match "\n\n" octets))))

(defun smtpmail-native-message-tests-body (octets)
  "Return the body of OCTETS."
  (substring octets (+ 2 (string-match "\n\n" octets))))

(defun smtpmail-native-message-tests-field (name octets)
  "Return the texts of the fields NAME in the header of OCTETS."
  (let ((case-fold-search t)
        texts)
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (insert (smtpmail-native-message-tests-header octets))
      (goto-char (point-min))
      (while (re-search-forward
              (concat "^" name ":[ \t]*\\(.*\\(?:\n[ \t].*\\)*\\)") nil t)
        (push (match-string 1) texts)))
    (nreverse texts)))

(defun smtpmail-native-message-tests-final ()
  "Return a complete, encoded message."
  (smtpmail-native-message-tests-mail
   "From: =?utf-8?Q?J=C3=B6rg?= <joerg@x.test>" "To: a@x.test,"
   "\tb@y.test" "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= and a long line which\
 nobody should fold, since it may have been signed by somebody"
   "Date: Tue, 24 Nov 2026 12:00:00 +0000" "Message-ID: <1@x.test>"
   "MIME-Version: 1.0" "Content-Type: text/plain; charset=utf-8"
   "Content-Transfer-Encoding: quoted-printable" "" "=C3=BC" ".dot" "From x"))

;;;; Recipients of a mail

(defconst smtpmail-native-message-tests-recipients
  '((("To: a@x" "Cc: b@y" "Bcc: c@z") "a@x" "b@y" "c@z")
    (("to: a@x" "CC: b@y" "bCC: c@z") "a@x" "b@y" "c@z")
    (("To : a@x" "Bcc\t: c@z") "a@x" "c@z")
    (("To: a@x" "To: b@y") "a@x" "b@y")
    (("To: a@x," " b@y," "\tc@z") "a@x" "b@y" "c@z")
    (("To: a@x, b@y" "Cc: b@Y, a@x" "Bcc: c@z") "a@x" "b@y" "c@z")
    (("To: undisclosed-recipients:;" "Bcc: c@z") "c@z")
    (("To:" "Bcc: c@z") "c@z")
    (("X-To: q@q" "Reply-To: r@r" "To: a@x") "a@x")
    (("Subject: x" " To: q@q" "To: a@x") "a@x")
    (("To: =?utf-8?Q?a=2Cb?= <a@x>") "a@x")
    ;; Resent
    (("Resent-To: r@r" "To: a@x" "Bcc: c@z") "r@r")
    (("Resent-To: r@r" "Resent-Cc: s@s" "resent-bcc: t@t" "To: a@x")
     "r@r" "s@s" "t@t")
    (("Resent-Bcc: t@t" "To: a@x") "t@t")
    (("Resent-To: r@r" "Resent-To: s@s" "To: a@x") "r@r" "s@s")
    (("Resent-From: me@home.test" "Resent-To: new@r" "Resent-Date: x"
      "Resent-From: other@x" "Resent-To: old@r" "Resent-Cc: old@s" "To: a@x")
     "new@r")
    (("Resent-From: me@home.test" "Resent-To: new@r" "Received: x"
      "Resent-Cc: old@s" "To: a@x")
     "new@r")
    (("Received: y" "Resent-To: new@r" "Resent-Cc: new@s" "Received: x"
      "Resent-To: old@r" "To: a@x")
     "new@r" "new@s")
    (("Resent-From: me@home.test" "To: a@x") "a@x")
    (("Resent-From: me@home.test" "Subject: x" "Resent-To: r@r" "To: a@x")
     "r@r")
    (("Also-Resent-To: old@r" "Resent-To: r@r" "To: a@x") "r@r"))
  "Rows (HEADER-LINES RECIPIENT...).")

(ert-deftest smtpmail-native-message-tests-recipients ()
  (pcase-dolist (`(,header . ,recipients)
                 smtpmail-native-message-tests-recipients)
    (ert-info ((string-join header "\n"))
      (smtpmail-native-message-tests-prepare
          (apply #'smtpmail-native-message-tests-mail
                 (append header '(t "body")))
        (should (equal (plist-get plist :recipients) recipients))
        (should (equal smtpmail-recipient-address-list recipients))))))

(ert-deftest smtpmail-native-message-tests-bare-recipient ()
  (let ((mail (smtpmail-native-message-tests-mail
               "To: alice, b@y, alice@sub.test" t)))
    (smtpmail-native-message-tests-prepare mail
      (should (equal (plist-get plist :recipients)
                     '("alice" "b@y" "alice@sub.test"))))
    (smtpmail-native-message-tests-prepare
        (lambda ()
          (insert mail)
          (setq smtpmail-sendto-domain "sub.test"))
      (should (equal (plist-get plist :recipients)
                     '("alice@sub.test" "b@y"))))))

(ert-deftest smtpmail-native-message-tests-no-recipients ()
  (dolist (header '("Subject: x" "To:" "To: undisclosed-recipients:;"
                    "Fcc: /tmp/x"))
    (should (string-match-p "recipient.*To, Cc or Bcc"
                            (smtpmail-native-message-tests-error
                             (smtpmail-native-message-tests-mail header t)))))
  (should (string-match-p "Resent-To"
                          (smtpmail-native-message-tests-error
                           (smtpmail-native-message-tests-mail
                            "Resent-To: nobody:;" "To: a@x" t)))))

(ert-deftest smtpmail-native-message-tests-bad-recipient ()
  (let ((message (smtpmail-native-message-tests-error
                  (smtpmail-native-message-tests-mail
                   "To: a@x" "Bcc: b@y, Joe c@z" t))))
    (should (string-search "Joe c@z" message))
    (should (string-search "Bcc" message))))

;;;; What must not leave

(ert-deftest smtpmail-native-message-tests-bcc ()
  (dolist (bcc '(("Bcc: secret@z") ("bcc: secret@z") ("BCC : secret@z")
                 ("Bcc: q@q," " secret@z" "\t, s@s") ("Bcc:" " secret@z")
                 ("Bcc: secret@z" "Bcc: secret@y") ("Bcc: q@q," " " " secret@z")
                 ("Resent-To: r@r" "Resent-Bcc: secret@z")
                 ("Resent-To: r@r" "RESENT-BCC:" " secret@z" "Bcc: secret@y")
                 ("Bcc: Sécret <secret@z>")))
    (dolist (mail (list (append '("To: a@x") bcc '(t "body"))
                        (append bcc '("To: a@x" t "body"))
                        (append bcc '("To: a@x" "" "body"))))
      (ert-info ((format "%S" mail))
        (smtpmail-native-message-tests-prepare
            (apply #'smtpmail-native-message-tests-mail mail)
          (should-not (string-match-p "bcc *:\\|secret\\|s@s" (downcase octets)))
          (should (equal (smtpmail-native-message-tests-field "To" octets)
                         '("a@x"))))))))

(ert-deftest smtpmail-native-message-tests-bcc-in-body ()
  "What looks like a header in the body is not touched and names nobody."
  (dolist (end '(t ""))
    (smtpmail-native-message-tests-prepare
        (smtpmail-native-message-tests-mail
         "To: a@x" end "Bcc: b@y" "Fcc: f" "" "text" "To: c@z")
      (should (equal (plist-get plist :recipients) '("a@x")))
      (should-not (plist-get plist :fcc))
      (should (equal (smtpmail-native-message-tests-body octets)
                     "Bcc: b@y\nFcc: f\n\ntext\nTo: c@z\n")))))

(ert-deftest smtpmail-native-message-tests-fcc ()
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "Fcc: ~/out box" "To: a@x" "fcc:" "  /tmp/grün  " "Fcc:" t "body")
    (should (equal (plist-get plist :fcc) '("~/out box" "/tmp/grün")))
    (should-not (string-match-p "fcc\\|out box\\|/tmp" (downcase octets)))))

;;;; Header and body

(ert-deftest smtpmail-native-message-tests-separators ()
  "Header and body part where they should."
  (pcase-dolist
      (`(,mail ,body)
       '((("To: a@x" t "b") "b\n")
         (("To: a@x" "" "b") "b\n")
         (("To: a@x" t) "")
         (("To: a@x" "") "")
         (("To: a@x" t "" "b") "\nb\n")
         (("To: a@x" "" t "b") "b\n")
         (("To: a@x" "" "" t "b") "b\n")
         (("To: a@x" "" "" "b") "\nb\n")
         ;; The body quotes the separator.
         (("To: a@x" t "b" t "c") "b\n--text follows this line--\nc\n")
         (("To: a@x" "" "b" t "c") "b\n--text follows this line--\nc\n")
         (("To: a@x" "" "Cc: c@z" "b" t "c")
          "Cc: c@z\nb\n--text follows this line--\nc\n")))
    (ert-info ((format "%S" mail))
      (smtpmail-native-message-tests-prepare
          (apply #'smtpmail-native-message-tests-mail mail)
        (should (equal (smtpmail-native-message-tests-body octets) body))
        (should (equal (plist-get plist :recipients) '("a@x")))))))

(ert-deftest smtpmail-native-message-tests-other-separators ()
  (pcase-dolist (`(,separator ,mail)
                 '(("" "To: a@x\n\nb\n")
                   (nil "To: a@x\n\nb\n")
                   ("*" "To: a@x\n*\nb\n")
                   ("sep: arator" "To: a@x\nsep: arator\nb\n")
                   (" " "To: a@x\n \nb\n")))
    (smtpmail-native-message-tests-prepare
        (lambda ()
          (setq mail-header-separator separator)
          (insert mail))
      (should (string-suffix-p "\nTo: a@x\n\nb\n" octets)))))

(ert-deftest smtpmail-native-message-tests-last-newline ()
  (dolist (mail '("To: a@x\n\nb" "To: a@x\n--text follows this line--\nb"))
    (smtpmail-native-message-tests-prepare mail
      (should (string-suffix-p "To: a@x\n\nb\n" octets))))
  (smtpmail-native-message-tests-prepare
      "To: a@x\n--text follows this line--"
    (should (string-suffix-p "To: a@x\n\n" octets))))

(ert-deftest smtpmail-native-message-tests-no-separator ()
  (dolist (mail '("To: a@x" "To: a@x\nSubject: x\n" "" "To: a@x\n b"))
    (should (string-search smtpmail-native-message-tests-separator
                           (smtpmail-native-message-tests-error mail)))))

(ert-deftest smtpmail-native-message-tests-no-header-line ()
  "A line that is no field is refused and named, and not taken for the body."
  (dolist (mail '(("To: a@x" "Subject: one" "two" "Bcc: c@z" t "b")
                  ("To: a@x" "Subject: one" "two" "" "b")
                  ("two" "To: a@x" t "b")
                  (" two: x" "To: a@x" t "b")
                  ("To: a@x" "two words: x" t "b")
                  ("To: a@x" ": two" t "b")))
    (ert-info ((format "%S" mail))
      (let ((message (smtpmail-native-message-tests-error
                      (apply #'smtpmail-native-message-tests-mail mail))))
        (should (string-search "two" message))
        (should (string-search
                 (format "%d" (1+ (cl-position-if
                                   (lambda (line)
                                     (and (stringp line)
                                          (string-search "two" line)))
                                   mail)))
                 message))))))

(ert-deftest smtpmail-native-message-tests-ambiguous-end ()
  "A header that may go on behind an empty line is refused.
Either reading could show a Bcc to everybody or send to a stranger."
  (dolist (mail '(("To: a@x" "" "Bcc: c@z" t "b")
                  ("To: a@x" "" "" "Subject: x" " y" "" "Bcc: c@z" t "b")))
    (let ((message (smtpmail-native-message-tests-error
                    (apply #'smtpmail-native-message-tests-mail mail))))
      (should (string-match-p "Line 2 is empty" message)))))

(ert-deftest smtpmail-native-message-tests-control-characters ()
  "What ends a line on the wire cannot be smuggled into the header."
  (dolist (char '("\r" "\0"))
    (should (string-search
             "line 2"
             (smtpmail-native-message-tests-error
              (smtpmail-native-message-tests-mail
               "To: a@x" (concat "Subject: x" char "Bcc: evil@z") t "b"))))))

(ert-deftest smtpmail-native-message-tests-crlf ()
  "A mail with CRLF is understood; the body is left to the wire."
  (smtpmail-native-message-tests-prepare
      "To: a@x,\r\n\tb@y\r\nBcc: c@z\r\nSubject: s\r\n\r\none\r\ntwo\r\n"
    (should (equal (plist-get plist :recipients) '("a@x" "b@y" "c@z")))
    (should (string-suffix-p
             "\nTo: a@x,\n\tb@y\nSubject: s\n\none\r\ntwo\r\n" octets))))

(ert-deftest smtpmail-native-message-tests-blank-continuation ()
  "A line of blanks, which may pass for the end of the header, goes."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "To: a@x" "Subject: one" " \t" " two" t "b")
    (should (equal (smtpmail-native-message-tests-field "Subject" octets)
                   '("one\n two")))))

;;;; Missing fields

(ert-deftest smtpmail-native-message-tests-missing-fields ()
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail "To: a@x" t "body")
    (should (equal (smtpmail-native-message-tests-field "From" octets)
                   '("My Self <me@home.test>")))
    (pcase (smtpmail-native-message-tests-field "Message-ID" octets)
      (`(,id)
       (should (string-match-p "\\`<[^ <>@]+@[^ <>@]+>\\'" id))
       (should (equal id (plist-get plist :message-id))))
      (other (ert-fail other)))
    (pcase (smtpmail-native-message-tests-field "Date" octets)
      (`(,date)
       (should (string-match-p
                "\\`[A-Z][a-z][a-z], [0-9]+ [A-Z][a-z][a-z] [0-9]\\{4\\} \
[0-9:]\\{8\\} [-+][0-9]\\{4\\}\\'"
                date)))
      (other (ert-fail other)))
    (should (equal (plist-get plist :from) "My Self <me@home.test>"))
    (should (equal (plist-get plist :subject) ""))
    (should (equal (plist-get plist :sender) "me@home.test"))))

(ert-deftest smtpmail-native-message-tests-present-fields ()
  "Fields that are there are not added, whatever the case of their names."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "to: a@x" "FROM: b@y.test" "message-id: <1@x>" "dATE: today"
       "subject: S" t "body")
    (should (equal octets "to: a@x\nFROM: b@y.test\nmessage-id: <1@x>\n\
dATE: today\nsubject: S\n\nbody\n"))
    (should (equal (plist-get plist :message-id) "<1@x>"))
    (should (equal (plist-get plist :subject) "S"))
    (should (equal (plist-get plist :from) "b@y.test"))))

(ert-deftest smtpmail-native-message-tests-blank-fields ()
  "A blank Subject is dropped; blank From, Message-ID and Date are filled in."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "Subject: " "From:" "To: a@x" "Message-ID: " "Date:  " t "body")
    (should-not (smtpmail-native-message-tests-field "Subject" octets))
    (dolist (name '("From" "Message-ID" "Date"))
      (pcase (smtpmail-native-message-tests-field name octets)
        (`(,text) (should-not (equal text "")))
        (other (ert-fail (cons name other))))))
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail "To: a@x" "Subject:" "  " t "body")
    (should-not (smtpmail-native-message-tests-field "Subject" octets)))
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail "To: a@x" "Subject:" "  folded" t)
    (should (equal (plist-get plist :subject) "folded"))))

(ert-deftest smtpmail-native-message-tests-from-styles ()
  (pcase-dolist
      (`(,style ,name ,from)
       '((angles "My Self" "My Self <me@home.test>")
         (angles "Self, My \"X\"" "\"Self, My \\\"X\\\"\" <me@home.test>")
         (parens "My Self" "me@home.test (My Self)")
         (parens "My (X) Self)" "me@home.test (My (X) Self\\))")
         (system-default "My Self" "My Self <me@home.test>")
         (nil "My Self" "me@home.test")
         (angles "" "me@home.test")
         (angles nil "me@home.test")))
    (smtpmail-native-message-tests-prepare
        (lambda ()
          (with-suppressed-warnings ((obsolete mail-from-style))
            (setq mail-from-style style))
          (setq user-full-name name)
          (insert (smtpmail-native-message-tests-mail "To: a@x" t "body")))
      (should (equal (smtpmail-native-message-tests-field "From" octets)
                     (list from))))))

(ert-deftest smtpmail-native-message-tests-from-nonascii ()
  "A name that is not ASCII is encoded, even if the mail is octets."
  (dolist (multibyte '(t nil))
    (smtpmail-native-message-tests-prepare
        (lambda ()
          (set-buffer-multibyte multibyte)
          (setq user-full-name "Jörg Ü")
          (insert (smtpmail-native-message-tests-mail "To: a@x" t "body")))
      (should-not (string-match-p "[^[:ascii:]]" octets))
      (should (string-match-p "\\`=\\?.*\\?= <me@home.test>\\'"
                              (car (smtpmail-native-message-tests-field
                                    "From" octets)))))))

(ert-deftest smtpmail-native-message-tests-local-variables ()
  "Local values in the mail buffer count."
  (smtpmail-native-message-tests-prepare
      (lambda ()
        (setq-local user-mail-address "local@home.test"
                    user-full-name "Local"
                    smtpmail-sendto-domain "dom.test"
                    mail-aliases '(("friend" . "f@x.test")))
        (insert (smtpmail-native-message-tests-mail "To: friend, bob" t "b")))
    (should (equal (plist-get plist :sender) "local@home.test"))
    (should (equal (plist-get plist :recipients) '("f@x.test" "bob@dom.test")))
    (should (equal (plist-get plist :from) "Local <local@home.test>"))))

(ert-deftest smtpmail-native-message-tests-resent-fields ()
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "Resent-To: r@r" "From: author@x" "To: a@x" "Date: then"
       "Message-ID: <1@x>" "" "body")
    (dolist (name '("Resent-Date" "Resent-Message-ID" "Resent-From"))
      (should (= 1 (length (smtpmail-native-message-tests-field
                            name octets)))))
    ;; The block stays in one piece, on top.
    (should (string-match-p "\\`\\(?:Resent-.*\n\\)+From: author@x\n" octets))
    (should (equal (smtpmail-native-message-tests-field "Date" octets)
                   '("then")))
    (should (equal (plist-get plist :sender) "me@home.test"))))

(ert-deftest smtpmail-native-message-tests-resent-bcc-only ()
  "Somebody who resends in secret is the sender all the same."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "Resent-From: other@home.test" "Resent-Bcc: r@r" "From: author@x"
       "To: a@x" "" "body")
    (should (equal (plist-get plist :sender) "other@home.test"))
    (should (smtpmail-native-message-tests-field "Resent-Date" octets))
    (should-not (string-search "r@r" octets))))

(ert-deftest smtpmail-native-message-tests-resent-twice ()
  "An earlier resending neither lends its fields nor loses them."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "Resent-To: r@r" "Received: x" "Resent-From: old@x" "Resent-To: old@r"
       "Resent-Date: then" "Resent-Message-ID: <old@x>" "From: author@x"
       "To: a@x" "" "body")
    (should (= 2 (length (smtpmail-native-message-tests-field
                          "Resent-Date" octets))))
    (should (equal (plist-get plist :sender) "me@home.test"))))

;;;; Envelope sender

(ert-deftest smtpmail-native-message-tests-sender ()
  (pcase-dolist
      (`(,from ,variables ,sender)
       '(("From: b@y" nil "b@y")
         ("From: \"B, C\" <b@y> (x)" nil "b@y")
         ("From: b@y, c@z" nil "b@y")
         ("From: Team: b@y, c@z;" nil "b@y")
         ("From: nobody:;" nil "me@home.test")
         ("From: jörg@y" nil "jörg@y")
         ("X-Y: z" nil "me@home.test")
         ("From: b@y" ((mail-envelope-from . "e@z")) "b@y")
         ("From: b@y"
          ((mail-envelope-from . "e@z") (mail-specify-envelope-from . t))
          "e@z")
         ("From: b@y"
          ((mail-envelope-from . header) (mail-specify-envelope-from . t))
          "b@y")
         ("From: b@y" ((mail-specify-envelope-from . t)) "b@y")
         ("From: b@y"
          ((mail-envelope-from . "") (mail-specify-envelope-from . t)) "")
         ("From: b@y"
          ((mail-envelope-from . "<>") (mail-specify-envelope-from . t)) "")
         ("From: b@y" ((smtpmail-mail-address . "s@z")) "s@z")
         ("From: b@y" ((smtpmail-mail-address . "S <s@z>")) "s@z")
         ("From: b@y"
          ((smtpmail-mail-address . "s@z") (mail-envelope-from . "e@z")
           (mail-specify-envelope-from . t))
          "s@z")
         ;; Unfit for a From of ours, but better than nothing
         ("X-Y: z" ((user-mail-address . "root@localhost")) "root@localhost")))
    (ert-info ((format "%S %S" from variables))
      (smtpmail-native-message-tests-prepare
          (lambda ()
            (pcase-dolist (`(,variable . ,value) variables)
              (set variable value))
            (insert (smtpmail-native-message-tests-mail
                     "To: a@x" from t "body")))
        (should (equal (plist-get plist :sender) sender))))))

(ert-deftest smtpmail-native-message-tests-no-sender ()
  (dolist (address '(nil ""))
    (smtpmail-native-message-tests-with-user
      (setq user-mail-address address)
      (with-temp-buffer
        (insert (smtpmail-native-message-tests-mail "To: a@x" t "body"))
        (let ((error (should-error (smtpmail-native-message-prepare)
                                   :type 'smtpmail-native-usage-error)))
          (should (string-search "user-mail-address" (cadr error))))))))

(ert-deftest smtpmail-native-message-tests-bad-sender ()
  (should (string-search "From" (smtpmail-native-message-tests-error
                                 (smtpmail-native-message-tests-mail
                                  "To: a@x" "From: Joe b@y" t "body"))))
  (smtpmail-native-message-tests-with-user
    (setq smtpmail-mail-address "a@x>\r\nRCPT TO:<b@y")
    (with-temp-buffer
      (insert (smtpmail-native-message-tests-mail "To: a@x" t "body"))
      (should-error (smtpmail-native-message-prepare)
                    :type 'smtpmail-native-usage-error))))

;;;; Aliases

(ert-deftest smtpmail-native-message-tests-aliases ()
  (smtpmail-native-message-tests-prepare
      (lambda ()
        (setq mail-aliases '(("friends" . "f@x.test, gang")
                             ("gang" . "\"G, H\" <g@y.test>")))
        (insert (smtpmail-native-message-tests-mail
                 "To: friends, a@x" "Subject: friends" "Bcc: gang" t
                 "friends")))
    (should (equal (plist-get plist :recipients)
                   '("f@x.test" "g@y.test" "a@x")))
    (should (equal (smtpmail-native-message-tests-field "To" octets)
                   '("f@x.test, \"G, H\" <g@y.test>, a@x")))
    (should (equal (plist-get plist :subject) "friends"))
    (should (equal (smtpmail-native-message-tests-body octets) "friends\n"))))

(ert-deftest smtpmail-native-message-tests-alias-file ()
  (let ((file (make-temp-file "smtpmail-native-aliases" nil nil
                              "alias pal p@x.test\n")))
    (unwind-protect
        (smtpmail-native-message-tests-prepare
            (lambda ()
              ;; As if the file had been written after it was read.
              (setq mail-personal-alias-file file)
              (insert (smtpmail-native-message-tests-mail "To: pal" t "b")))
          (should (equal (plist-get plist :recipients) '("p@x.test"))))
      (delete-file file))))

(ert-deftest smtpmail-native-message-tests-no-alias-file ()
  (dolist (file '(nil "/nonexistent/mailrc"))
    (smtpmail-native-message-tests-prepare
        (lambda ()
          (setq mail-aliases t
                mail-personal-alias-file file)
          (insert (smtpmail-native-message-tests-mail "To: pal" t "b")))
      (should (equal (plist-get plist :recipients) '("pal"))))))

(ert-deftest smtpmail-native-message-tests-alias-injection ()
  (smtpmail-native-message-tests-with-user
    (setq mail-aliases '(("pal" . "p@x.test\n\nbody")))
    (with-temp-buffer
      (insert (smtpmail-native-message-tests-mail "To: pal" t "b"))
      (should-error (smtpmail-native-message-prepare)
                    :type 'smtpmail-native-usage-error))))

;;;; Coding

(ert-deftest smtpmail-native-message-tests-rfc2047 ()
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "To: Jörg Müller <a@x>" "Subject: Grüße" "X-Note: ü" t "body")
    (should-not (string-match-p "[^[:ascii:]]"
                                (smtpmail-native-message-tests-header octets)))
    (should (string-match-p "\\`=\\?utf-8\\?.*\\?= <a@x>\\'"
                            (car (smtpmail-native-message-tests-field
                                  "To" octets))))
    (should (equal (rfc2047-decode-string
                    (car (smtpmail-native-message-tests-field
                          "Subject" octets)))
                   "Grüße"))
    (should (equal (plist-get plist :subject) "Grüße"))
    (should (equal (plist-get plist :recipients) '("a@x")))))

(ert-deftest smtpmail-native-message-tests-encoded-twice ()
  "What is encoded already is not encoded again."
  (smtpmail-native-message-tests-prepare
      (string-to-multibyte
       (smtpmail-native-message-tests-mail
        "To: a@x" "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=" t "body"))
    (should (equal (smtpmail-native-message-tests-field "Subject" octets)
                   '("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=")))
    (should (equal (plist-get plist :subject) "Grüße"))))

(ert-deftest smtpmail-native-message-tests-utf-8-address ()
  "An address that is not ASCII stays itself, in UTF-8."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "To: Jörg <jörg@exämple.test>, b@y" "Subject: ü" t "body")
    (should (equal (plist-get plist :recipients)
                   '("jörg@xn--exmple-cua.test" "b@y")))
    (should (equal (smtpmail-native-message-tests-field "To" octets)
                   (list (encode-coding-string
                          "Jörg <jörg@xn--exmple-cua.test>, b@y" 'utf-8))))
    (should (string-prefix-p "=?" (car (smtpmail-native-message-tests-field
                                        "Subject" octets))))))

(ert-deftest smtpmail-native-message-tests-body-coding ()
  (pcase-dolist (`(,coding ,charset)
                 '((nil "utf-8") (utf-8 "utf-8") (utf-8-dos "utf-8")
                   (iso-8859-1 "iso-8859-1") (iso-2022-jp "iso-2022-jp")))
    (let ((text (if (eq coding 'iso-2022-jp) "日本\n.\n" "ü é\n.\n")))
      (smtpmail-native-message-tests-prepare
          (lambda ()
            (setq smtpmail-code-conv-from coding)
            (insert (smtpmail-native-message-tests-mail "To: a@x" t) text))
        (should (equal (smtpmail-native-message-tests-body octets)
                       (encode-coding-string
                        text (coding-system-change-eol-conversion
                              (or coding 'utf-8) 'unix))))
        (should (equal (smtpmail-native-message-tests-field
                        "MIME-Version" octets)
                       '("1.0")))
        (should (equal (smtpmail-native-message-tests-field
                        "Content-Type" octets)
                       (list (concat "text/plain; charset=" charset))))
        (should (equal (smtpmail-native-message-tests-field
                        "Content-Transfer-Encoding" octets)
                       '("8bit")))))))

(ert-deftest smtpmail-native-message-tests-buffer-coding ()
  "The coding system of the buffer comes first, as in stock."
  (smtpmail-native-message-tests-prepare
      (lambda ()
        (setq buffer-file-coding-system 'iso-8859-15-dos)
        (insert (smtpmail-native-message-tests-mail "To: a@x" t "10 €")))
    (should (equal (smtpmail-native-message-tests-body octets) "10 \244\n"))
    (should (equal (smtpmail-native-message-tests-field "Content-Type" octets)
                   '("text/plain; charset=iso-8859-15")))))

(ert-deftest smtpmail-native-message-tests-no-mime ()
  "No MIME fields are added where they are not wanted, needed or missing."
  (dolist (mail (list (smtpmail-native-message-tests-mail "To: a@x" t "ascii")
                      (encode-coding-string
                       (smtpmail-native-message-tests-mail "To: a@x" t "ü")
                       'utf-8)))
    (smtpmail-native-message-tests-prepare mail
      (should-not (string-match-p "mime-\\|content-" (downcase octets)))))
  (smtpmail-native-message-tests-prepare
      (lambda ()
        (setq mail-send-nonascii t)
        (insert (smtpmail-native-message-tests-mail "To: a@x" t "ü")))
    (should-not (string-match-p "mime-\\|content-" (downcase octets)))
    (should (string-suffix-p "\n\n\303\274\n" octets)))
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "To: a@x" "mime-version: 1.0" "Content-Type: text/x; charset=utf-8"
       "Content-Transfer-Encoding: 8bit" t "ü")
    (should (equal (smtpmail-native-message-tests-field "Content-Type" octets)
                   '("text/x; charset=utf-8")))
    (should (= 1 (length (smtpmail-native-message-tests-field
                          "MIME-Version" octets))))))

(ert-deftest smtpmail-native-message-tests-mime-by-half ()
  "The charset that is used is the one that is said; a type is not said twice."
  (pcase-dolist
      (`(,fields ,type ,encoding)
       '((("Content-Type: text/plain; charset=koi8-r")
          "text/plain; charset=utf-8" "8bit")
         (("Content-Type: TEXT/PLAIN") "text/plain; charset=utf-8" "8bit")
         (("Content-Type: text/html; charset=utf-8")
          "text/html; charset=utf-8" nil)
         (("Content-Type: text/plain; charset=utf-8"
           "Content-Transfer-Encoding: base64")
          "text/plain; charset=utf-8" "base64")))
    (smtpmail-native-message-tests-prepare
        (apply #'smtpmail-native-message-tests-mail
               `("To: a@x" "Subject: ü" ,@fields t "ü"))
      (should (equal (smtpmail-native-message-tests-field
                      "MIME-Version" octets)
                     '("1.0")))
      (should (equal (smtpmail-native-message-tests-field
                      "Content-Type" octets)
                     (list type)))
      (should (equal (car (smtpmail-native-message-tests-field
                           "Content-Transfer-Encoding" octets))
                     encoding)))))

(ert-deftest smtpmail-native-message-tests-raw-octets ()
  "Octets in the body of a unibyte mail pass, valid UTF-8 or not."
  (let ((mail "From: b@y\nTo: a@x\nSubject: x\n\
Date: x\nMessage-ID: <1@x>\n\nbody \0 \377 \r \303\274\n"))
    (smtpmail-native-message-tests-prepare mail
      (should (equal octets mail)))))

(ert-deftest smtpmail-native-message-tests-raw-in-text ()
  "Octets of no known character go as they are, beside any text."
  (cl-letf (((symbol-function 'read-coding-system)
             (lambda (&rest _) (error "Nothing to ask"))))
    (pcase-dolist (`(,wanted ,text ,body ,charset)
                   '((nil "a\377" "a\377" "utf-8")
                     (nil "ü\377" "\303\274\377" "utf-8")
                     (iso-latin-1 "ü\377" "\374\377" "iso-8859-1")
                     (iso-latin-1 "ж\377" "\320\266\377" "utf-8")
                     (iso-latin-1 "ж" "\320\266" "utf-8")
                     (iso-latin-1 "ü" "\374" "iso-8859-1")))
      (dolist (batch '(t nil))
        (ert-info ((format "%S %S %S" wanted text batch))
          (smtpmail-native-message-tests-prepare
              (lambda ()
                (setq smtpmail-code-conv-from wanted)
                (insert (smtpmail-native-message-tests-mail "To: a@x" t))
                (seq-doseq (char text)
                  (insert (if (= char #xff) (string-to-multibyte "\377")
                            char))))
            (should (equal (smtpmail-native-message-tests-body octets)
                           (concat body "\n")))
            (should (equal (smtpmail-native-message-tests-field
                            "Content-Type" octets)
                           (list (concat "text/plain; charset=" charset))))
            (should-not (plist-get plist :utf-8))))))))

(ert-deftest smtpmail-native-message-tests-unencodable ()
  "What is no Unicode is refused where there is nobody to ask."
  (skip-unless noninteractive)
  (should (string-search
           "smtpmail-code-conv-from"
           (smtpmail-native-message-tests-error
            (smtpmail-native-message-tests-mail
             "To: a@x" t (string #x110001))))))

;;;; What a message asks for

(ert-deftest smtpmail-native-message-tests-wishes-of-others ()
  "X-Smtpmail-Native of the author does not count for a resent message."
  (pcase-dolist (`(,header ,wishes)
                 '(("Resent-To: r@r" nil)
                   ("Resent-Bcc: r@r" nil)
                   ("X-Resent-To: r@r" (:notify "NEVER" :envid "E1"))
                   ("Resent-Comments: to none"
                    (:notify "NEVER" :envid "E1"))))
    (ert-info (header)
      (smtpmail-native-message-tests-prepare
          (smtpmail-native-message-tests-mail
           header "To: a@x" "X-Smtpmail-Native: notify=never; envid=E1" t "x")
        (should (equal (plist-get plist :wishes) wishes))
        (should-not (string-search "X-Smtpmail-Native" octets))))))

;;;; Long lines

(defun smtpmail-native-message-tests--long (header body octets)
  "Return what is sent of BODY under HEADER, as (BODY TYPE ENCODING).
OCTETS non-nil means that the mail is in a unibyte buffer.  The body is
decoded, TYPE and ENCODING are the texts of its fields."
  (smtpmail-native-message-tests-prepare
      (lambda ()
        (set-buffer-multibyte (not octets))
        (let ((text (smtpmail-native-message-tests-mail
                     header "To: a@x" t body)))
          (insert (if (and octets (multibyte-string-p text))
                      (encode-coding-string text 'utf-8)
                    text))))
    (let ((encoding (car (smtpmail-native-message-tests-field
                          "Content-Transfer-Encoding" octets)))
          (sent (smtpmail-native-message-tests-body octets)))
      (dolist (line (and (equal encoding "quoted-printable")
                         (split-string sent "\n")))
        (should (<= (length line) 76)))
      (list (if (equal encoding "quoted-printable")
                (quoted-printable-decode-string sent)
              sent)
            (car (smtpmail-native-message-tests-field "Content-Type" octets))
            encoding))))

(ert-deftest smtpmail-native-message-tests-long ()
  "Plain text with a line of more than 998 octets is quoted-printable."
  (let ((x (make-string 999 ?x))
        (ue (make-string 500 ?ü)))
    (dolist (octets '(nil t))
      (pcase-dolist (`(,header ,body ,type)
                     `(("Subject: x" ,x "text/plain; charset=us-ascii")
                       ("Subject: x" ,(concat "a=b \n.\n" x "\nend\n")
                        "text/plain; charset=us-ascii")
                       ("Subject: x" ,ue "text/plain; charset=utf-8")
                       ("Subject: x" ,(concat "ab\n" ue "\n\nFrom x")
                        "text/plain; charset=utf-8")
                       ("Content-Type: text/plain" ,x
                        "text/plain; charset=us-ascii")))
        (ert-info ((format "%S %S %s" header body octets))
          (should (equal (smtpmail-native-message-tests--long header body
                                                              octets)
                         (list (encode-coding-string (concat body "\n") 'utf-8)
                               type "quoted-printable")))))
      (should (equal (smtpmail-native-message-tests--long
                      "Subject: x" (concat x "\r\nb\r\n") octets)
                     (list (concat x "\nb\n\n") "text/plain; charset=us-ascii"
                           "quoted-printable"))))
    (should (equal (smtpmail-native-message-tests--long
                    "Subject: x" (concat x "\377") t)
                   (list (concat x "\377\n")
                         "text/plain; charset=unknown-8bit"
                         "quoted-printable")))))

(ert-deftest smtpmail-native-message-tests-not-long ()
  "What is finished, or no longer than allowed, goes as it is."
  (let ((x (make-string 998 ?x))
        (ue (make-string 499 ?ü)))
    (dolist (octets '(nil t))
      (pcase-dolist (`(,header ,body ,type ,encoding)
                     `(("Subject: x" ,x nil nil)
                       ("Subject: x" ,(concat x "\n" x "\n" x) nil nil)
                       ("MIME-Version: 1.0" ,(concat x "x") nil nil)
                       ("MIME-Version: 1.0\nContent-Type: text/html"
                        ,(concat x "x") "text/html" nil)
                       ("Content-Type: text/html" ,(concat x "x") "text/html"
                        nil)
                       ("Content-Transfer-Encoding: base64" ,(concat x "x")
                        nil "base64")))
        (ert-info ((format "%S %s" header octets))
          (should (equal (smtpmail-native-message-tests--long header body
                                                              octets)
                         (list (concat body "\n") type encoding))))))
    (should (equal (nth 2 (smtpmail-native-message-tests--long
                           "Subject: x" (concat ue "\n" ue) nil))
                   "8bit"))
    (smtpmail-native-message-tests-with-user
      (setq mail-send-nonascii t)
      (with-temp-buffer
        (insert (smtpmail-native-message-tests-mail "To: a@x" t x x))
        (goto-char (point-max))
        (insert x "x\n")
        (let ((plist (smtpmail-native-message-prepare)))
          (with-current-buffer (plist-get plist :buffer)
            (should (string-suffix-p (concat x "x\n") (buffer-string)))
            (kill-buffer)))))))

;;;; The result as a whole

(ert-deftest smtpmail-native-message-tests-idempotent ()
  "A complete, encoded message passes octet by octet, again and again."
  (let ((final (smtpmail-native-message-tests-final)))
    (dolist (mail (list final (string-to-multibyte final)))
      (smtpmail-native-message-tests-prepare mail
        (should (equal octets final))))
    ;; So it does with the separator of a mail buffer, but for Bcc and Fcc.
    (smtpmail-native-message-tests-prepare
        (concat "Bcc: c@z\nFcc: f\n"
                (replace-regexp-in-string
                 "\n\n" "\n--text follows this line--\n" final))
      (should (equal octets final))
      (should (equal (plist-get plist :recipients)
                     '("c@z" "a@x.test" "b@y.test"))))))

(ert-deftest smtpmail-native-message-tests-twice ()
  "What was prepared is not changed by being prepared again."
  (smtpmail-native-message-tests-prepare
      (smtpmail-native-message-tests-mail
       "To: Jörg <a@x>" "Bcc: c@z" "Subject: ü" t "Grüße" "" "To: x")
    (let ((first octets)
          (id (plist-get plist :message-id)))
      (smtpmail-native-message-tests-prepare first
        (should (equal octets first))
        (should (equal (plist-get plist :message-id) id))))))

(ert-deftest smtpmail-native-message-tests-result-buffer ()
  (smtpmail-native-message-tests-with-user
    (with-temp-buffer
      (insert (smtpmail-native-message-tests-mail "To: a@x" t "ü"))
      (let* ((buffers (buffer-list))
             (buffer (plist-get (smtpmail-native-message-prepare) :buffer)))
        (unwind-protect
            (with-current-buffer buffer
              (should (equal (delq buffer (buffer-list)) buffers))
              (should (string-prefix-p " " (buffer-name)))
              (should-not enable-multibyte-characters)
              (should (eq buffer-undo-list t))
              (should-not (buffer-narrowed-p))
              (should (string-suffix-p "\n\n\303\274\n" (buffer-string))))
          (kill-buffer buffer))))))

(ert-deftest smtpmail-native-message-tests-other-buffer ()
  "The mail may be in another buffer, by itself or by name."
  (smtpmail-native-message-tests-with-user
    (with-temp-buffer
      (insert (smtpmail-native-message-tests-mail "To: a@x" t "body"))
      (dolist (buffer (list (current-buffer) (buffer-name)))
        (with-temp-buffer
          (let* ((here (current-buffer))
                 (plist (smtpmail-native-message-prepare buffer)))
            (kill-buffer (plist-get plist :buffer))
            (should (eq here (current-buffer)))
            (should (equal (plist-get plist :recipients) '("a@x")))))))))

(ert-deftest smtpmail-native-message-tests-untouched ()
  "The mail buffer keeps text, properties, point, mark, undo and narrowing."
  (smtpmail-native-message-tests-with-user
    (dolist (mail (list (smtpmail-native-message-tests-mail
                         "Bcc: c@z" "Fcc: f" "To: pal" "Subject: " t
                         "Grüße" "")
                        ;; And one that is refused
                        (smtpmail-native-message-tests-mail
                         "Bcc: c@z" "To: Joe a@x" t "Grüße")))
      (setq mail-aliases '(("pal" . "p@x.test")))
      (with-temp-buffer
        (buffer-enable-undo)
        (insert mail)
        (put-text-property 5 12 'face 'bold)
        (put-text-property 20 30 'read-only t)
        (undo-boundary)
        (set-buffer-modified-p nil)
        (setq buffer-read-only t)
        (push-mark 7 t t)
        (narrow-to-region 3 (- (point-max) 3))
        (goto-char 8)
        (should (looking-at "."))
        (let* ((state (lambda ()
                        (list (save-restriction (widen) (buffer-string))
                              (point) (mark) mark-active deactivate-mark
                              (point-min) (point-max) (buffer-modified-p)
                              (buffer-modified-tick)
                              (buffer-chars-modified-tick)
                              buffer-file-coding-system
                              (copy-tree buffer-undo-list)
                              (length (buffer-local-variables))
                              (current-buffer) (match-data))))
               (before (funcall state))
               (plist (ignore-error smtpmail-native-usage-error
                        (smtpmail-native-message-prepare))))
          (should (equal-including-properties (car before)
                                              (car (funcall state))))
          (should (equal (cdr before) (cdr (funcall state))))
          (when plist
            (should (equal (plist-get plist :recipients) '("c@z" "p@x.test")))
            (kill-buffer (plist-get plist :buffer))))))))

(ert-deftest smtpmail-native-message-tests-large ()
  "A body of 25 MB arrives octet by octet; the mail buffer does not grow."
  (dolist (line (list (concat (make-string 76 ?x) "\n")
                      (concat (make-string 74 ?x) "ü\n")
                      (concat (make-string 75 ?y) "\377\n")))
    (smtpmail-native-message-tests-with-user
      (with-temp-buffer
        (set-buffer-multibyte (multibyte-string-p line))
        (insert "From: b@y\nTo: a@x\nDate: x\nMessage-ID: <1@x>\n\
MIME-Version: 1.0\n--text follows this line--\n")
        (let* ((size (- (point) (length "--text follows this line--")))
               (octets (if (multibyte-string-p line)
                           (encode-coding-string line 'utf-8-unix)
                         line))
               (chunk (apply #'concat (make-list 3300 line)))
               (wire (apply #'concat (make-list 3300 octets))))
          (dotimes (_ 100)
            (insert chunk))
          (let ((buffer (plist-get (smtpmail-native-message-prepare) :buffer)))
            (unwind-protect
                (with-current-buffer buffer
                  (should (= (buffer-size)
                             (+ size -1 (* 100 (length wire)))))
                  (goto-char size)
                  (dotimes (_ 100)
                    (should (equal wire (buffer-substring
                                         (point) (+ (point) (length wire)))))
                    (forward-char (length wire)))
                  (should (eobp)))
              (kill-buffer buffer))))))))

;;;; Against stock

(defun smtpmail-native-message-tests-stock (mail)
  "Return (SENDER RECIPIENTS OCTETS) for MAIL, all made by stock."
  (with-temp-buffer
    (set-buffer-multibyte (multibyte-string-p mail))
    (insert mail)
    (let ((smtpmail-queue-mail nil)
          result)
      (cl-letf (((symbol-function 'smtpmail-via-smtp)
                 (lambda (recipients buffer &rest _)
                   (setq result
                         (list smtpmail-mail-address
                               (sort (copy-sequence recipients) #'string<)
                               (with-current-buffer buffer
                                 (encode-coding-string
                                  (buffer-string)
                                  (or smtpmail-code-conv-from 'raw-text)))))
                   nil)))
        (smtpmail-send-it))
      result)))

(defun smtpmail-native-message-tests-normal (octets)
  "Return OCTETS without what differs from one time to the next."
  (let ((case-fold-search t))
    (replace-regexp-in-string "^\\(message-id\\|mime-version\\|content-type\\)\
:.*$"
                              (lambda (field)
                                (if (string-prefix-p "message-id"
                                                     (downcase field))
                                    "message-id"
                                  (downcase field)))
                              (replace-regexp-in-string
                               "^Date:.*$" "date" octets)
                              t t)))

(ert-deftest smtpmail-native-message-tests-like-stock ()
  (dolist (mail (list (smtpmail-native-message-tests-mail
                       "To: a@x.test" "Subject: s" t "body" "" ".")
                      (smtpmail-native-message-tests-mail
                       "To: Joe <a@x.test>, b@y.test (B)" "Cc: c@z.test"
                       "Bcc: d@x.test" "Subject: " t "body")
                      (smtpmail-native-message-tests-mail
                       "From: Someone <s@y.test>" "To: a@x.test,"
                       " b@y.test" "Bcc:" "\td@x.test" t "body")
                      (smtpmail-native-message-tests-mail
                       "From: Jörg <s@y.test>" "To: Müller <a@x.test>"
                       "Subject: Grüße" t "Grüße")
                      (smtpmail-native-message-tests-mail
                       "From: s@y.test" "To: a@x.test" t "日本")
                      (smtpmail-native-message-tests-mail
                       "From: s@y.test" "To: a@x.test" "X-A: b" "Bcc: c@z" t)
                      (smtpmail-native-message-tests-final)
                      (encode-coding-string
                       (smtpmail-native-message-tests-mail
                        "From: s@y.test" "To: a@x.test" t "Grüße") 'utf-8)))
    (ert-info (mail)
      (smtpmail-native-message-tests-with-user
        (pcase-let ((`(,sender ,recipients ,stock)
                     (smtpmail-native-message-tests-stock mail)))
          (smtpmail-native-message-tests-call
           mail
           (lambda (plist octets)
             (should (equal (plist-get plist :sender) sender))
             (should (equal (sort (copy-sequence (plist-get plist :recipients))
                                  #'string<)
                            recipients))
             (should (equal (smtpmail-native-message-tests-normal octets)
                            (smtpmail-native-message-tests-normal
                             stock))))))))))

;;;; Real mail buffers

(defun smtpmail-native-message-tests-send (compose)
  "Let COMPOSE send a mail; return plist and octets of what it sent."
  (let (result)
    (smtpmail-native-message-tests-with-user
      (save-window-excursion
        (let* ((mail-interactive t)
               (message-kill-buffer-on-exit t)
               (message-confirm-send nil)
               (message-default-mail-headers "")
               (message-signature nil)
               (mail-signature nil)
               (send (lambda ()
                       (let ((plist (smtpmail-native-message-prepare)))
                         (setq result
                               (list plist
                                     (with-current-buffer
                                         (plist-get plist :buffer)
                                       (prog1 (buffer-string)
                                         (kill-buffer))))))))
               (send-mail-function send)
               (message-send-mail-function send)
               (message-auto-save-directory nil)
               (mail-setup-hook nil)
               (buffers (buffer-list)))
          (unwind-protect
              (funcall compose)
            (dolist (buffer (buffer-list))
              (unless (memq buffer buffers)
                (with-current-buffer buffer
                  (set-buffer-modified-p nil))
                (kill-buffer buffer)))))))
    result))

(ert-deftest smtpmail-native-message-tests-message-mode ()
  (pcase-let ((`(,plist ,octets)
               (smtpmail-native-message-tests-send
                (lambda ()
                  (message-mail "Jörg <a@x.test>" "Grüße")
                  (message-goto-bcc)
                  (insert "c@z.test")
                  (message-goto-body)
                  (insert "Liebe Grüße\n--text follows this line--\n")
                  (message-send-mail)))))
    (should (equal (plist-get plist :recipients) '("a@x.test" "c@z.test")))
    (should (equal (plist-get plist :sender) "me@home.test"))
    (should (equal (plist-get plist :subject) "Grüße"))
    (should-not (string-match-p "[^[:ascii:]]"
                                (smtpmail-native-message-tests-header octets)))
    (should-not (string-search "c@z.test" octets))
    (should (= 1 (length (smtpmail-native-message-tests-field
                          "Content-Type" octets))))
    (should (string-search "\n--text follows this line--\n"
                           (smtpmail-native-message-tests-body octets)))))

(ert-deftest smtpmail-native-message-tests-message-resend ()
  (pcase-let ((`(,plist ,octets)
               (smtpmail-native-message-tests-send
                (lambda ()
                  (with-temp-buffer
                    (set-buffer-multibyte nil)
                    (insert "Resent-To: old@r.test\nFrom: author@x.test\n\
To: me@home.test\nDate: then\nMessage-ID: <1@x.test>\nMIME-Version: 1.0\n\n\
\303\274 \377\n")
                    (message-resend "r@r.test"))))))
    (should (equal (plist-get plist :recipients) '("r@r.test")))
    (should (equal (plist-get plist :sender) "me@home.test"))
    (should (equal (smtpmail-native-message-tests-field "From" octets)
                   '("author@x.test")))
    (should (equal (smtpmail-native-message-tests-field "Date" octets)
                   '("then")))
    (should (equal (smtpmail-native-message-tests-body octets)
                   "\303\274 \377\n"))))

(ert-deftest smtpmail-native-message-tests-mail-mode ()
  (pcase-let ((`(,plist ,octets)
               (smtpmail-native-message-tests-send
                (lambda ()
                  (let ((mail-user-agent 'sendmail-user-agent))
                    (compose-mail "Jörg <a@x.test>" "Grüße"
                                  '(("Bcc" . "c@z.test"))))
                  (goto-char (point-max))
                  (insert "Liebe Grüße\n")
                  (mail-send)))))
    (should (equal (plist-get plist :recipients) '("a@x.test" "c@z.test")))
    (should (equal (plist-get plist :subject) "Grüße"))
    (should-not (string-match-p "[^[:ascii:]]"
                                (smtpmail-native-message-tests-header octets)))
    (should-not (string-search "c@z.test" octets))
    (should (string-suffix-p "\n\nLiebe Gr\303\274\303\237e\n" octets))))

;;;; Recipients from elsewhere

(defun smtpmail-native-message-tests--given (text given beside)
  "Return the recipients of the mail TEXT with GIVEN and BESIDE."
  (with-temp-buffer
    (insert text)
    (let ((mail (smtpmail-native-message-prepare nil given beside)))
      (kill-buffer (plist-get mail :buffer))
      (plist-get mail :recipients))))

(ert-deftest smtpmail-native-message-tests-given ()
  "Recipients may be given in place of the header's, or beside them."
  (let ((text "From: a@x.example\nTo: bob@x.example, \n\nbody\n")
        (given '("Carl <carl@x.example>" "bob@X.EXAMPLE, dora@x.example")))
    (should (equal (smtpmail-native-message-tests--given text given nil)
                   '("carl@x.example" "bob@X.EXAMPLE" "dora@x.example")))
    (should (equal (smtpmail-native-message-tests--given text given t)
                   '("carl@x.example" "bob@X.EXAMPLE" "dora@x.example")))
    (should (equal (smtpmail-native-message-tests--given
                    text '("carl@x.example") t)
                   '("carl@x.example" "bob@x.example")))
    ;; What the header says of recipients does not count then.
    (should (equal (smtpmail-native-message-tests--given
                    "From: a@x.example\nTo: <<<\n\n" given nil)
                   '("carl@x.example" "bob@X.EXAMPLE" "dora@x.example")))
    (dolist (bad '((" ") ("a b@x.example")))
      (should-error (smtpmail-native-message-tests--given text bad nil)
                    :type 'smtpmail-native-usage-error))))

(ert-deftest smtpmail-native-message-tests-malformed ()
  "A malformed header is told from a bad address."
  (let ((condition (lambda (text)
                     (car (should-error
                           (smtpmail-native-message-tests--given text nil nil)
                           :type 'smtpmail-native-usage-error))))
        (mail-header-separator ""))
    (dolist (text '("" "To: bob@x.example\n" "no field\n\nTo: bob@x.example\n"
                    "To: bob@x.example\nX: a\0b\n\n"))
      (should (eq (funcall condition text) 'smtpmail-native-malformed-message)))
    (dolist (text '("To: <<\n\n" "Subject: x\n\n"))
      (should (eq (funcall condition text) 'smtpmail-native-usage-error)))))

(provide 'smtpmail-native-message-tests)
;;; smtpmail-native-message-tests.el ends here
