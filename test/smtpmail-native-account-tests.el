;;; smtpmail-native-account-tests.el --- Which account sends a message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Patterns, the order of what decides, and that an attempt goes by the account
;; that was chosen when the message was sent.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-account)
(require 'smtpmail-native-index)
(require 'smtpmail-native-row)
(require 'smtpmail-native-sink)

(defconst smtpmail-native-account-tests--accounts
  '(("alice@example.org" :name "alice" :server "one.example")
    ("@work.example" :server "two.example" :port 465 :stream ssl :user "al")
    ("*@*.uni.example" :name "uni" :server "three.example")
    ((regexp "\\`list-[0-9]+@") :name "lists" :server "four.example"))
  "Accounts with each kind of pattern.")

(defmacro smtpmail-native-account-tests--with-accounts (accounts &rest body)
  "Run BODY with ACCOUNTS, as if no program had chosen a server."
  (declare (indent 1) (debug t))
  `(let ((smtpmail-native-accounts ,accounts))
     (cl-letf (((symbol-function 'smtpmail-native-account-given-p) #'ignore))
       ,@body)))

(ert-deftest smtpmail-native-account-tests-patterns ()
  "The first account that fits counts, without regard to case."
  (let ((smtpmail-native-accounts smtpmail-native-account-tests--accounts))
    (pcase-dolist (`(,address . ,name)
                   '(("alice@example.org" . "alice")
                     ("Alice@Example.ORG" . "alice")
                     ("malice@example.org" . nil)
                     ("alice@example.org.evil" . nil)
                     ("bob@WORK.example" . "@work.example")
                     ("bob@sub.work.example" . nil)
                     ("bob@cs.uni.example" . "uni")
                     ("bob@uni.example" . nil)
                     ("list-12@anything" . "lists")
                     ("xlist-12@anything" . nil)))
      (ert-info (address)
        (let ((account (smtpmail-native-account-find address)))
          (should (equal name (and account (smtpmail-native-account-name
                                            account)))))))))

(ert-deftest smtpmail-native-account-tests-field ()
  "The address in From is what counts, not its name."
  (smtpmail-native-account-tests--with-accounts
      smtpmail-native-account-tests--accounts
    (dolist (field '("alice@example.org" "Alice <alice@example.org>"
                     "\"bob@work.example\" <alice@example.org>"
                     "=?utf-8?Q?=C3=84?= <alice@example.org> (x)"))
      (should (equal "alice" (smtpmail-native-account-name
                              (smtpmail-native-account-for field)))))))

(ert-deftest smtpmail-native-account-tests-none-fits ()
  "Where none fits, the user is asked; in batch mode it is an error."
  (smtpmail-native-account-tests--with-accounts
      smtpmail-native-account-tests--accounts
    (should (string-match-p
             "No account .* fits .*carl@x"
             (cadr (should-error (smtpmail-native-account-for "carl@x")
                                 :type 'smtpmail-native-usage-error))))
    (let ((noninteractive nil)
          (asked nil))
      (cl-letf (((symbol-function 'completing-read)
                 (lambda (prompt names &rest _)
                   (setq asked (list prompt names))
                   "uni")))
        (should (equal "uni" (smtpmail-native-account-name
                              (smtpmail-native-account-for "carl@x")))))
      (should (string-match-p "carl@x" (car asked)))
      (should (equal (cadr asked) '("alice" "@work.example" "uni" "lists"))))))

(ert-deftest smtpmail-native-account-tests-malformed ()
  "An element that is no account is an error that names its position."
  (pcase-dolist
      (`(,element . ,words)
       '((nil . "not a list") ("a@x" . "not a list") ((7 :server "x") . "pattern")
         (((regexp) :server "x") . "pattern")
         (("a@x" :server) . "property list") (("a@x" . 7) . "property list")
         (("a@x" :sever "x") . "no property :sever")))
    (let ((smtpmail-native-accounts
           (list '("b@x" :server "x") element)))
      (should (string-match-p
               (concat "element 2 .*" words)
               (cadr (should-error (smtpmail-native-account-find "c@x")
                                   :type 'smtpmail-native-usage-error)))))))

(ert-deftest smtpmail-native-account-tests-server ()
  "The account gives what it has, and the options give the rest."
  (smtpmail-native-load)
  (let ((smtpmail-smtp-server "global.example")
        (smtpmail-smtp-service 25)
        (smtpmail-smtp-user "me")
        (smtpmail-stream-type 'starttls)
        (smtpmail-local-domain "client.example"))
    (smtpmail-native-account-tests--with-accounts
        smtpmail-native-account-tests--accounts
      (let ((one (smtpmail-native-job-account-for "alice@example.org"))
            (two (smtpmail-native-job-account-for "Al <al@work.example>")))
        (should (equal (list (plist-get one :host) (plist-get one :port)
                             (plist-get one :stream) (plist-get one :user)
                             (plist-get one :account))
                       '("one.example" 25 starttls "me" "alice")))
        (should (equal (list (plist-get two :host) (plist-get two :port)
                             (plist-get two :stream) (plist-get two :user)
                             (plist-get two :account))
                       '("two.example" 465 ssl "al" "@work.example")))))
    (let ((smtpmail-native-accounts nil))
      (let ((account (smtpmail-native-job-account-for "alice@example.org")))
        (should (equal "global.example" (plist-get account :host)))
        (should-not (plist-member account :account))))))

(ert-deftest smtpmail-native-account-tests-given ()
  "A server that is bound around the sending comes before the accounts."
  (let ((smtpmail-native-accounts smtpmail-native-account-tests--accounts))
    (should-not (smtpmail-native-account-given-p))
    (let ((smtpmail-smtp-server "bound.example"))
      (should (smtpmail-native-account-given-p))
      (should-not (smtpmail-native-account-for "alice@example.org")))
    (with-temp-buffer
      (setq-local smtpmail-smtp-user "x")
      (should (smtpmail-native-account-given-p)))))

(ert-deftest smtpmail-native-account-tests-options ()
  "The options of the account count for an attempt, also for a later one."
  (let ((smtpmail-native-accounts
         '(("a@x" :name "a" :auth-mechanisms ("PLAIN") :helo "a.example"
            :proxy nil :source-address "127.0.0.1")))
        (smtpmail-native-auth-mechanisms '("LOGIN"))
        (smtpmail-native-proxy "socks5://127.0.0.1:1")
        (smtpmail-native-source-address nil)
        (smtpmail-native-helo-name nil)
        (options (lambda ()
                   (list smtpmail-native-auth-mechanisms smtpmail-native-proxy
                         smtpmail-native-source-address
                         smtpmail-native-helo-name))))
    (should (equal (smtpmail-native-account-call "a" options)
                   '(("PLAIN") nil "127.0.0.1" "a.example")))
    (dolist (name '(nil "gone"))
      (should (equal (smtpmail-native-account-call name options)
                     '(("LOGIN") "socks5://127.0.0.1:1" nil nil))))))

(ert-deftest smtpmail-native-account-tests-sends ()
  "A message goes by the account of its From, and the list names that."
  (smtpmail-native-sink-with nil
    (let ((smtpmail-smtp-server "nobody.invalid")
          (smtpmail-smtp-service 9))
      (smtpmail-native-account-tests--with-accounts
          (list (list "*@example.org" :name "work" :server "127.0.0.1"
                      :port port :helo "work.example")
                '("@x" :server "other.invalid"))
        (let ((smtpmail-queue-mail t))
          (with-temp-buffer
            (insert "From: Alice <alice@example.org>\nTo: bob@example.org\n"
                    "Message-ID: <1@x>\n" mail-header-separator "\nx\n")
            (smtpmail-native-send-it)))
        (let ((entry (car (smtpmail-native-outbox-list))))
          (should (equal "work" (plist-get (smtpmail-native-entry-envelope
                                            entry)
                                           :account)))
          (should (equal "bob@example.org (work)"
                         (smtpmail-native-row-to
                          (smtpmail-native-index-entry
                           (smtpmail-native-entry-id entry))))))
        (smtpmail-native-act-flush)
        (smtpmail-native-sink-settle)
        (should (equal '("<1@x>")
                       (smtpmail-native-sink-log folder "arrived")))))))

(ert-deftest smtpmail-native-account-tests-resent ()
  "A message that is sent again goes by the account of Resent-From."
  (let ((mail (with-temp-buffer
                (insert "Resent-From: b@work.example\nResent-To: c@x\n"
                        "From: alice@example.org\nTo: bob@example.org\n"
                        mail-header-separator "\nx\n")
                (smtpmail-native-message-prepare))))
    (unwind-protect
        (should (equal "b@work.example" (plist-get mail :author)))
      (kill-buffer (plist-get mail :buffer)))))

(provide 'smtpmail-native-account-tests)
;;; smtpmail-native-account-tests.el ends here
