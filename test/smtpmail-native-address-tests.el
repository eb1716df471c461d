;;; smtpmail-native-address-tests.el --- Tests of the address parser  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What is read and written, by tables.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail)
(require 'smtpmail-native-address)
(require 'smtpmail-native-encode)
(require 'smtpmail-native-error)
(require 'smtpmail-native-message)


(defconst smtpmail-native-address-tests-addresses
  '(;; Plain and with names
    ("a@x.test" "a@x.test")
    ("a@x, b@y" "a@x" "b@y")
    ("<a@x>" "a@x")
    ("Joe <a@x>" "a@x")
    ("Joe<a@x>" "a@x")
    ("\"Doe, Joe\" <a@x>, b@y" "a@x" "b@y")
    ("\"a \\\" b\" <a@x>" "a@x")
    ("\"x\" \"y\" <a@x>" "a@x")
    ("Joe Q. Public <john.q.public@example.com>" "john.q.public@example.com")
    ("Joe's friend <a@x>" "a@x")
    ("Joe@Work <a@x>" "a@x")
    ("joe@x.test <joe@x.test>" "joe@x.test")
    ("J. Doe joe@old.test <joe@x.test>" "joe@x.test")
    ("a+b/c=d!e#f$g%h&i'j*k?l^m_n`o{p|q}r~s@x"
     "a+b/c=d!e#f$g%h&i'j*k?l^m_n`o{p|q}r~s@x")
    ("alice" "alice")
    ("<alice>" "alice")
    ("alice, bob" "alice" "bob")
    ("john.smith" "john.smith")
    ;; Quoted local parts
    ("\"a b\"@x" "\"a b\"@x")
    ("\"a\\\"b\"@x" "\"a\\\"b\"@x")
    ("\"a,b\"@x, c@y" "\"a,b\"@x" "c@y")
    ("<\"a@b\"@x>" "\"a@b\"@x")
    ("\"a>b\"@x" "\"a>b\"@x")
    ("\"\"@x" "\"\"@x")
    ("\"a\".\"b\"@x" "\"a\".\"b\"@x")
    ("\"very.(),:;<>[]\\\".\\\"very@\\\\ \\\"very\"@strange.test"
     "\"very.(),:;<>[]\\\".\\\"very@\\\\ \\\"very\"@strange.test")
    ;; Comments
    ("a@x (Comment, with comma)" "a@x")
    ("(before) a@x" "a@x")
    ("a(c)@(d)x" "a@x")
    ("a@x (a (nested \\) \"quote) one), b@y" "a@x" "b@y")
    ("Joe (x) Doe (y) <a@x>" "a@x")
    ("john.(x)smith@x" "john.smith@x")
    ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>"
     "pete@silly.test")
    ("a@x (=?utf-8?Q?J=C3=B6rg=2C?=)" "a@x")
    ("(only a comment)")
    ;; Groups
    ("undisclosed-recipients:;")
    ("undisclosed-recipients: ;")
    ("\"Undisclosed recipients\":;")
    ("Friends: a@x, b@y;" "a@x" "b@y")
    ("Friends: a@x, b@y;, c@z" "a@x" "b@y" "c@z")
    ("c@z, Friends: Joe <a@x>,, b@y,;" "c@z" "a@x" "b@y")
    ("Two Words:a@x;,Other:b@y;" "a@x" "b@y")
    ("A Group(Some people)
 :Chris Jones <c@(Chris's host.)public.example>,
\tjoe@example.org,
 John <jdoe@one.test> (my dear friend); (the end of the group)"
     "c@public.example" "joe@example.org" "jdoe@one.test")
    ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;")
    ;; Source routes
    ("<@relay:a@x>" "a@x")
    ("Joe <@r1.test,@r2.test:a@x>, b@y" "a@x" "b@y")
    ("Joe <@r1 , , @[1.2.3.4] : a@x>" "a@x")
    ;; Domain literals
    ("user@[127.0.0.1]" "user@[127.0.0.1]")
    ("Joe <user@[IPv6:2001:db8::1]>" "user@[IPv6:2001:db8::1]")
    ;; Obsolete syntax, folding, commas
    ("Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example"
     "mary@example.net" "jdoe@test.example")
    ("a . b @ x . test" "a.b@x.test")
    ("a@x," "a@x")
    (",a@x" "a@x")
    ("a@x,,b@y , ," "a@x" "b@y")
    ("a@x\n\t,b@y" "a@x" "b@y")
    ("Joe\n <a@x>,\r\n\tb@y\n" "a@x" "b@y")
    ("\"Joe\n Doe\" <a@x>" "a@x")
    ("")
    (" ,\t,")
    ;; Not quite right, but clear
    ("Joe <a@x" "a@x")
    ("Joe <a@x, b@y" "a@x" "b@y")
    ("[list] <a@x>" "a@x")
    ("a..b@x" "a..b@x")
    ("<a.@x>" "a.@x")
    ;; Encoded words, UTF-8
    ("=?utf-8?Q?J=C3=B6rg?= <a@x>" "a@x")
    ("=?utf-8?Q?a,b?= <a@x>, b@y" "a@x" "b@y")
    ("=?utf-8?B?SsO2cmc=?= =?utf-8?Q?_X?=\n <a@x>" "a@x")
    ("Jörg Müller <a@x>" "a@x")
    ("jörg@exämple.test" "jörg@xn--exmple-cua.test")
    ("日本 <用户@例子.test>, b@y" "用户@xn--fsqu00a.test" "b@y")
    ("\"jö rg\"@x" "\"jö rg\"@x")
    ;; Duplicates
    ("a@x, b@y, Joe <a@X>" "a@x" "b@y")
    ("a@X.Test, a@x.test" "a@X.Test")
    ("A@x, a@x" "A@x" "a@x")
    ("a@[IPv6:AB::1], a@[ipv6:ab::1]" "a@[IPv6:AB::1]")
    ("Bob, bob" "Bob" "bob"))
  "Rows (TEXT ADDRESS...).")

(defconst smtpmail-native-address-tests-no-addresses
  '(("Joe a@x" "Joe a@x")
    ("Joe Doe" "Joe Doe")
    ("a@x b@y" "a@x b@y")
    ("c@z, a@x b@y, d@z" "a@x b@y")
    ("a@x <" "a@x <")
    ("<>" "<>")
    ("Joe <>" "Joe <>")
    ("a@" "a@")
    ("@x" "@x")
    ("c@z, @x" "@x")
    ("a@x@y" "a@x@y")
    ("a@x." "a@x.")
    ("a@.x" "a@.x")
    ("a@x..y" "a@x..y")
    ("a@\"x\"" "a@\"x\"")
    ("a@x>" "a@x>")
    ("<a@x> b" "<a@x> b")
    ("<a@x> <b@y>" "<a@x> <b@y>")
    ("<a@x b@y>" "<a@x b@y>")
    ("<@relay a@x>" "<@relay a@x>")
    ("a@x; b@y" "a@x")
    ("Friends: a@x" "Friends: a@x")
    ("mailto:a@x" "mailto:a@x")
    (": a@x;" ": a@x")
    ("g: h: a@x;;" "h: a@x")
    ("a@[1.2.3.4" "a@[1.2.3.4")
    ("a@[1.2.3.4]x" "a@[1.2.3.4]x")
    ("[1.2.3.4]@x" "[1.2.3.4]@x")
    ("\"unterminated <a@x>" "\"unterminated <a@x>")
    ("\"x\\" "\"x")
    ("(unterminated a@x" "(unterminated a@x")
    ("(x\\" "(x")
    ("a)@x" "a)@x")
    ("a\\b@x" "a\\b@x")
    (".@x" ".@x")
    ("." ".")
    ("=?utf-8?Q?a,b?=@x" "=?utf-8?Q?a,b?=@x")
    ("a@x\0" "a@x\\x00")
    ("a\rb@x" "a\\rb@x")
    ("a@x\nRCPT TO:<b@y>" "a@x\\nRCPT TO:<b@y>")
    ("\"a\rb\"@x" "a\\rb")
    ("\"a\0\"@x" "a\\x00")
    ("\"a\nb\"@x" "a\\nb")
    ("a\u0085b@x" "b@x")
    ("a\u007fb@x" "b@x"))
  "Rows (TEXT PART): TEXT is refused, and the error quotes PART.")

(ert-deftest smtpmail-native-address-tests-addresses ()
  (let ((smtpmail-sendto-domain nil))
    (pcase-dolist (`(,text . ,addresses)
                   smtpmail-native-address-tests-addresses)
      (ert-info (text)
        (should (equal (smtpmail-native-message-recipients text)
                       addresses))))))

(ert-deftest smtpmail-native-address-tests-no-addresses ()
  (let ((smtpmail-sendto-domain nil))
    (pcase-dolist (`(,text ,part) smtpmail-native-address-tests-no-addresses)
      (ert-info (text)
        (let ((message (cadr (should-error
                              (smtpmail-native-message-recipients text "Cc")
                              :type 'smtpmail-native-usage-error))))
          (should (string-search part message))
          (should (string-search "Cc" message))
          (should-not (string-match-p "[[:cntrl:]]" message)))))))

(ert-deftest smtpmail-native-address-tests-octet-addresses ()
  "Octets are taken for UTF-8, and refused if they are not."
  (should (equal (smtpmail-native-message-recipients
                  (encode-coding-string "jörg@x" 'utf-8))
                 '("jörg@x")))
  (should-error (smtpmail-native-message-recipients "j\366rg@x")
                :type 'smtpmail-native-usage-error))

(defun smtpmail-native-address-tests--read (text)
  "Return what is read of TEXT, and how it is encoded, or the error."
  (condition-case err
      (cons (smtpmail-native-encode-address-text text "To")
            (mapcar (lambda (mailbox)
                      (list (smtpmail-native-address-string mailbox)
                            (smtpmail-native-address-angle mailbox)
                            (smtpmail-native-address-beg mailbox)
                            (and (smtpmail-native-address-phrase mailbox) t)))
                    (smtpmail-native-address-parse text "To")))
    (smtpmail-native-error err)))

(defun smtpmail-native-address-tests--same-p (text)
  "Return non-nil if the fast way reads TEXT as the way by tokens does."
  (equal (smtpmail-native-address-tests--read text)
         (cl-letf (((symbol-function 'smtpmail-native-address--plain-one)
                    #'ignore))
           (smtpmail-native-address-tests--read text))))

(ert-deftest smtpmail-native-address-tests-plain-as-by-tokens ()
  "Plain addresses, which are read faster, are read the same."
  (dolist (text (append (mapcar #'car smtpmail-native-address-tests-addresses)
                        (mapcar #'car
                                smtpmail-native-address-tests-no-addresses)))
    (ert-info (text :prefix "Text: ")
      (should (smtpmail-native-address-tests--same-p text))))
  ;; All short texts of some of the characters that mean something.
  (let ((parts '("a" "." "@" "<" ">" " " "," ";" ":" "?" "\"" "(x)" "b@c"
                 "ö" "=?u?q?d@e?=")))
    (dolist (one parts)
      (dolist (two parts)
        (dolist (three parts)
          (let ((text (concat one two three)))
            (unless (smtpmail-native-address-tests--same-p text)
              (ert-fail (list text)))))))))

(ert-deftest smtpmail-native-address-tests-plain-without-tokens ()
  "No tokens are made of plain addresses."
  (cl-letf (((symbol-function 'smtpmail-native-address--tokens)
             (lambda () (ert-fail "Tokens"))))
    (should (equal (smtpmail-native-message-recipients
                    "Joe Doe <a@x.test>, b.c@y.test ,<d@z.test>")
                   '("a@x.test" "b.c@y.test" "d@z.test")))))

(ert-deftest smtpmail-native-address-tests-many-addresses ()
  (should (= 5000 (length (smtpmail-native-message-recipients
                           (mapconcat (lambda (n)
                                        (format "\"N, %d\" <u%d@x.test>" n n))
                                      (number-sequence 1 5000) ",\n "))))))

(ert-deftest smtpmail-native-address-tests-long-strings ()
  "Long quoted strings and comments overflow no stack."
  (let ((long (make-string 200000 ?x)))
    (should (equal (smtpmail-native-message-recipients
                    (format "\"%s\" (%s) <a@x>" long long))
                   '("a@x")))
    (should-error (smtpmail-native-message-recipients (concat "\"" long))
                  :type 'smtpmail-native-usage-error)))


;;;; Names with a comma

(defconst smtpmail-native-address-tests-commas
  '(("Doe, John <john@example.org>" "\"Doe, John\" <john@example.org>")
    ("a@x, Doe, John <j@y>" "\"Doe, John\" <j@y>")
    ("Doe, John Albert <j@y>" "\"Doe, John Albert\" <j@y>")
    ("Doe, Jane, John <j@y>" "\"Doe, Jane, John\" <j@y>")
    ("Doe Jr, John <j@y>, b@x" "\"Doe Jr, John\" <j@y>")
    ("Müller, Jörg <j@y>" "\"Müller, Jörg\" <j@y>")
    ("Friends: Doe, John <j@y>;" "\"Doe, John\" <j@y>"))
  "Rows (TEXT REMEDY): TEXT is refused, and the error shows REMEDY.")

(ert-deftest smtpmail-native-address-tests-commas ()
  "A name that a comma tears apart is an error that shows how to quote it."
  (pcase-dolist (`(,text ,remedy) smtpmail-native-address-tests-commas)
    (ert-info (text)
      (let ((message (cadr (should-error
                            (smtpmail-native-address-parse text "To")
                            :type 'smtpmail-native-usage-error))))
        (should (string-suffix-p (concat "quote the name: " remedy)
                                 message))))))

(ert-deftest smtpmail-native-address-tests-bare-names ()
  "Bare names that are not part of another one's name stay."
  (pcase-dolist (`(,text . ,addresses)
                 '(("alice, bob" "alice" "bob")
                   ("alice, b@x" "alice" "b@x")
                   ("alice, <b@x>" "alice" "b@x")
                   ("Bob <b@x>, alice" "b@x" "alice")
                   ("<alice>, Bob <b@x>" "alice" "b@x")
                   ("Two: alice;, Bob <b@x>" "alice" "b@x")))
    (ert-info (text)
      (should (equal (mapcar #'smtpmail-native-address-string
                             (smtpmail-native-address-parse text "To"))
                     addresses)))))

(ert-deftest smtpmail-native-address-tests-sender ()
  (dolist (text '("alice, b@x" "b, a@x" "Doe, John <j@x>"))
    (ert-info (text)
      (should (string-search
               "quote the name"
               (cadr (should-error (smtpmail-native-address-sender text "From")
                                   :type 'smtpmail-native-usage-error))))))
  (pcase-dolist (`(,text ,address) '(("alice" "alice") ("alice, bob" "alice")
                                     ("b@x, alice" "b@x") ("a@x, b@y" "a@x")))
    (ert-info (text)
      (should (equal (smtpmail-native-address-string
                      (smtpmail-native-address-sender text "From"))
                     address))))
  (should-not (smtpmail-native-address-sender "(nothing)" "From")))

(ert-deftest smtpmail-native-address-tests-domains ()
  "Domains are in ASCII, as people write them or not."
  (pcase-dolist (`(,domain ,ascii)
                 '(("bücher.example" "xn--bcher-kva.example")
                   ("BÜCHER.example" "xn--bcher-kva.example")
                   ("bu\u0308cher.example" "xn--bcher-kva.example")
                   ("例え。テスト" "xn--r8jz45g.xn--zckzah")
                   ("straße.example" "xn--strae-oqa.example")
                   ("xn--bcher-kva.example" "xn--bcher-kva.example")
                   ("Example.ORG" "Example.ORG")
                   ("[192.0.2.1]" "[192.0.2.1]")))
    (ert-info (domain)
      (should (equal (smtpmail-native-address-domain-to-ascii domain)
                     ascii)))))

(ert-deftest smtpmail-native-address-tests-quote ()
  "What is shown has no second layer of quotes and backslashes."
  (should (equal (smtpmail-native-address-quote "\"a\\b\" <x>\n\0\t\u0085")
                 (format-message "`\"a\\b\" <x>\\n\\x00\\t\\x85'"))))

(ert-deftest smtpmail-native-address-tests-semicolons ()
  "Addresses with semicolons between, as of other programs, tell what to do."
  (dolist (text '("a@x; b@y" "Doe; John <j@x>" "a@x;" "<a@x>; b@y"
                  "G: a@x; ; b@y"))
    (ert-info (text)
      (should (string-match-p
               "only commas can separate addresses\\|missing address"
               (cadr (should-error (smtpmail-native-address-parse text "To")
                                   :type 'smtpmail-native-usage-error))))))
  (should (= 2 (length (smtpmail-native-address-parse "G: a@x;, b@y" "To")))))

(provide 'smtpmail-native-address-tests)
;;; smtpmail-native-address-tests.el ends here
