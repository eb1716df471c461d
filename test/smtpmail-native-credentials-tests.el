;;; smtpmail-native-credentials-tests.el --- The classic variables, read by C  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'ert)
(require 'cl-lib)
(require 'smtpmail-native)
(require 'smtpmail-native-load)
(declare-function smtpmail-native-module-find-auth "smtpmail-native-module")
(declare-function smtpmail-native-module-find-starttls "smtpmail-native-module")

(smtpmail-native-load)

(defconst smtpmail-native-credentials-tests-matches
  '(("mail.example.org" 587 "mail.example.org" 587 t)
    ("mail.example.org" "587" "mail.example.org" 587 t)
    ("mail.example.org" 587 "mail.example.org" "587" t)
    ("mail.example.org" "587" "mail.example.org" "587" t)
    ("mail.example.org" "submission" "mail.example.org" 587 t)
    ("mail.example.org" 587 "mail.example.org" "submission" t)
    ("mail.example.org" "submission" "mail.example.org" "587" t)
    ("mail.example.org" "Submission" "mail.example.org" 587 t)
    ("mail.example.org" "smtp" "mail.example.org" 25 t)
    ("mail.example.org" 25 "mail.example.org" "smtp" t)
    ("mail.example.org" "25" "mail.example.org" "smtp" t)
    ("mail.example.org" "smtps" "mail.example.org" 465 t)
    ("mail.example.org" "submissions" "mail.example.org" 465 t)
    ("mail.example.org" 465 "mail.example.org" "smtps" t)
    ("mail.example.org" "smtps" "mail.example.org" "submissions" t)
    ("MAIL.Example.ORG" 587 "mail.example.org" 587 t)
    ("mail.example.org" 587 "Mail.Example.Org" 587 t)
    ("localhost" 2525 "localhost" 2525 t)
    ("127.0.0.1" 2525 "127.0.0.1" 2525 t)
    ("::1" 2525 "::1" 2525 t)
    ("bücher.example" 25 "bücher.example" 25 t)
    ("mail.example.org" 65535 "mail.example.org" 65535 t)
    ("mail.example.org" 1 "mail.example.org" 1 t)
    ("mail.example.org" "0587" "mail.example.org" 587 t)
    ("mail.example.org" 587 "mail.example.org" 25 nil)
    ("mail.example.org" 587 "example.org" 587 nil)
    ("example.org" 587 "mail.example.org" 587 nil)
    ("mail.example.or" 587 "mail.example.org" 587 nil)
    ("mail.example.orgx" 587 "mail.example.org" 587 nil)
    ("*" 587 "mail.example.org" 587 nil)
    ("" 25 "mail.example.org" 25 nil)
    ("" 25 "" 25 nil)
    (nil 25 "mail.example.org" 25 nil)
    ("mail.example.org" nil "mail.example.org" 25 nil)
    ("mail.example.org" "" "mail.example.org" 25 nil)
    ("mail.example.org" "no-such-service" "mail.example.org" 25 nil)
    ("mail.example.org" "25x" "mail.example.org" 25 nil)
    ("mail.example.org" " 25" "mail.example.org" 25 nil)
    ("mail.example.org" 0 "mail.example.org" 25 nil)
    ("mail.example.org" -25 "mail.example.org" 25 nil)
    ("mail.example.org" 65561 "mail.example.org" 25 nil)
    ("mail.example.org" "99999999999999999999" "mail.example.org" 25 nil)
    ("mail.example.org" 99999999999999999999999 "mail.example.org" 25 nil)
    ("mail.example.org" "smtp" "mail.example.org" 587 nil)
    ("mail.example.org" "submission" "mail.example.org" 465 nil)
    ("mail.example.org" "SMTPS" "mail.example.org" 465 t)
    ("mail.example.org" "urd" "mail.example.org" 465 t)
    ("mail.example.org" 465 "mail.example.org" "submissions" t)
    ("mail.example.org" "00000000000000000025" "mail.example.org" 25 t)
    ("b\303\274cher.example" 25 "b\N{U+FC}cher.example" 25 t)
    ("B\N{U+DC}CHER.example" 25 "b\N{U+FC}cher.example" 25 nil)
    ("mail.example.org." 25 "mail.example.org" 25 nil)
    (" mail.example.org" 25 "mail.example.org" 25 nil)
    ("mail.example.org" "+25" "mail.example.org" 25 nil)
    ("mail.example.org" "25 " "mail.example.org" 25 nil)
    ("mail.example.org" "0x19" "mail.example.org" 25 nil)
    ;; Two ports that are none are not the same port.
    ("mail.example.org" nil "mail.example.org" nil nil)
    ("mail.example.org" 0 "mail.example.org" 0 nil)
    ("mail.example.org" "" "mail.example.org" "nonsense" nil)
    ("mail.example.org" 70000 "mail.example.org" 70000 nil))
  "Cases (ENTRY-HOST ENTRY-PORT HOST PORT MATCH).")

(ert-deftest smtpmail-native-credentials-tests-matching ()
  "Host and port match as the design says, in both variables."
  (pcase-dolist (`(,entry-host ,entry-port ,host ,port ,match)
                 smtpmail-native-credentials-tests-matches)
    (let* ((entry (list entry-host entry-port "a" "b"))
           (smtpmail-auth-credentials (list entry))
           (smtpmail-starttls-credentials (list entry))
           (want (and match entry)))
      (ert-info ((format "%S for %s %s" entry host port))
        (should (eq (smtpmail-native-module-find-auth host port) want))
        (should (eq (smtpmail-native-module-find-starttls host port) want))))))

(ert-deftest smtpmail-native-credentials-tests-first-wins ()
  "The first of several entries that match is taken, the very object."
  (let* ((first (list "h" 25 "first" nil))
         (smtpmail-auth-credentials
          (list (list "h" 26 "other" nil) first (list "h" "smtp" "second" nil))))
    (should (eq (smtpmail-native-module-find-auth "H" "25") first))))

(ert-deftest smtpmail-native-credentials-tests-forms ()
  "Empty, file name, flat, short and long forms."
  (let ((flat (list "h" 25 "user" "password"))
        (five (list "h" 25 "key" "cert" "ca")))
    (dolist (case `((nil nil) ("~/.authinfo" nil) (,flat ,flat)
                    (,(list (list "h" 25)) ("h" 25))
                    (,(list (list "h" 25 "user")) ("h" 25 "user"))
                    (,(list five) ,five)
                    (,(list "h" 26 "user" "x") nil)))
      (let ((smtpmail-auth-credentials (car case)))
        (should (equal (smtpmail-native-module-find-auth "h" 25)
                       (cadr case))))))
  (cl-progv '(smtpmail-auth-credentials) nil
    (should-not (smtpmail-native-module-find-auth "h" 25))))

(defconst smtpmail-native-credentials-tests-malformed
  (let ((circular (list (list "x" 1 nil nil)))
        (within (list "x" 1 "u" "s3cret")))
    (setcdr circular circular)
    (setcdr (last within) within)
    `((("x" 1 "s3cret" . "s3cret") 1)
      ((("x" 1) s3cret) 2)
      ((("x" 1) ("x" . 2)) 2)
      ((("x" 1) "s3cret") 2)
      ((("x" 1) 4) 2)
      ((nil) 1)
      (((x 1 nil nil)) 1)
      (((4 1 nil nil)) 1)
      ((("x")) 1)
      ((("x" 1.5 nil nil)) 1)
      ((("x" submission nil nil)) 1)
      ((("x" (1) nil nil)) 1)
      ((("x" 1 user nil)) 1)
      ((("x" 1 nil s3cret)) 1)
      ((("x" 1 nil ["s3cret"])) 1)
      ((("x" 1 "u" "s3cret" "a" "b")) 1)
      ((("x" 1 "u" "s3cret" . "a")) 1)
      ((("x" 1) ("y" 1) ("z" 1 t "s3cret")) 3)
      (("x" . 1) 1)
      (("x" user "u" "s3cret") 1)
      (("x" 1 "u" s3cret) 1)
      ((["x" 1 "u" "s3cret"]) 1)
      ((t) 1)
      (((("x" 1 "u" "s3cret"))) 1)
      ((("x" 1 ("u") "s3cret")) 1)
      ((("x" 1 "u" ("s3cret"))) 1)
      ((("x" t "u" "s3cret")) 1)
      (((?x 1 "u" "s3cret")) 1)
      ((("s3cret\0" 1)) 1)
      ((("x" 1) ("h" "25\0s3cret")) 2)
      ((,(list (concat "s3cret" (string #x3fffff)) 1)) 1)
      ((,within) 1)
      ((("x" 1) . "s3cret") nil)
      (s3cret nil)
      (42 nil)
      (["s3cret"] nil)
      (,circular nil)))
  "Values that cannot be used, and the position that the error names.")

(ert-deftest smtpmail-native-credentials-tests-malformed ()
  "Malformed entries are named by variable and position, never shown."
  (pcase-dolist (`(,value ,position) smtpmail-native-credentials-tests-malformed)
    (dolist (case '((smtpmail-auth-credentials
                     smtpmail-native-module-find-auth)
                    (smtpmail-starttls-credentials
                     smtpmail-native-module-find-starttls)))
      (cl-progv (list (car case)) (list value)
        (let* ((err (ert-info ((symbol-name (car case)))
                      (should-error (funcall (cadr case) "h" 25)
                                    :type 'smtpmail-native-usage-error)))
               (text (format "%S" err)))
          (should (string-match-p (symbol-name (car case)) text))
          (should-not (string-match-p "s3cret" text))
          (when position
            (should (string-match-p (format "Entry %d of" position) text))))))))

(ert-deftest smtpmail-native-credentials-tests-match-before-malformed ()
  "An entry that matches is used whatever stands behind it."
  (let ((smtpmail-auth-credentials '(("h" 25 "u" "p") broken)))
    (should (equal (smtpmail-native-module-find-auth "h" 25)
                   '("h" 25 "u" "p")))))

(ert-deftest smtpmail-native-credentials-tests-match-in-circle ()
  "A circular list is no reason not to find what stands in it."
  (let* ((entry (list "h" 25 "u" "p"))
         (smtpmail-auth-credentials (list (list "x" 1 nil nil) entry)))
    (setcdr (cdr smtpmail-auth-credentials) smtpmail-auth-credentials)
    (should (eq (smtpmail-native-module-find-auth "h" 25) entry))))

(ert-deftest smtpmail-native-credentials-tests-many ()
  "The last of many entries is found, and the variable is not altered."
  (let* ((smtpmail-auth-credentials
          (mapcar (lambda (i) (list "h" i "u" (number-to-string i)))
                  (number-sequence 1 300)))
         (before (copy-tree smtpmail-auth-credentials)))
    (should (eq (smtpmail-native-module-find-auth "h" 300)
                (car (last smtpmail-auth-credentials))))
    (should (equal smtpmail-auth-credentials before))))

(ert-deftest smtpmail-native-credentials-tests-buffer-local ()
  "The value of the current buffer counts."
  (with-temp-buffer
    (setq-local smtpmail-auth-credentials '(("h" 25 "local" nil)))
    (should (equal (nth 2 (smtpmail-native-module-find-auth "h" 25))
                   "local"))))

(ert-deftest smtpmail-native-credentials-tests-arguments ()
  "Arguments of wrong types are errors."
  (dolist (args '((nil 25) (4 25) ("a\0b" 25)))
    (should-error (apply #'smtpmail-native-module-find-auth args)
                  :type 'smtpmail-native-usage-error)))

(ert-deftest smtpmail-native-credentials-tests-password-not-shown ()
  "A password that has no encoding is not shown by the error."
  (let* ((smtpmail-auth-credentials
          (list (list "127.0.0.1" 25 "u" (concat "s3cr\N{U+e4}t"
                                                 (string #x3fffff)))))
         (err (should-error
               (smtpmail-native-module-send
                '(:host "127.0.0.1" :port 25 :helo "h" :timeout-ms 10 :auth t
                        :sender "a@x" :recipients ("b@y") :file "/dev/null"))
               :type 'smtpmail-native-usage-error)))
    (should (string-match-p "password" (cadr err)))
    (should-not (string-match-p "s3cr" (format "%S" err)))))

(ert-deftest smtpmail-native-credentials-tests-half-a-certificate ()
  "A key without a certificate is an error before anything is sent."
  (let ((smtpmail-starttls-credentials '(("127.0.0.1" 25 "/tmp/key" nil))))
    (should-error
     (smtpmail-native-module-send
      '(:host "127.0.0.1" :port 25 :helo "h" :timeout-ms 10 :sender "a@x"
              :recipients ("b@y") :file "/dev/null"))
     :type 'smtpmail-native-usage-error)))

(provide 'smtpmail-native-credentials-tests)
;;; smtpmail-native-credentials-tests.el ends here
