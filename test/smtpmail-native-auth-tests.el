;;; smtpmail-native-auth-tests.el --- Who am I for this server?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'ert)
(require 'cl-lib)
(require 'auth-source)
(require 'smtpmail)
(require 'smtpmail-native)
(require 'smtpmail-native-auth)

(smtpmail-native-load)

(defmacro smtpmail-native-auth-tests-with (netrc &rest body)
  "Run BODY with NETRC as the text of the only auth source.
Neither classic variable is set, and no prompt appears unless `asked' is
bound to the answers; `questions' collects the prompts."
  (declare (indent 1) (debug t))
  `(let* ((file (make-temp-file "smtpmail-native" nil ".netrc"))
          (auth-sources (list file))
          (auth-source-do-cache nil)
          (smtpmail-auth-credentials nil)
          (smtpmail-starttls-credentials nil)
          (smtpmail-smtp-user nil)
          (smtpmail-servers-requiring-authorization nil)
          (questions nil))
     (ignore questions)
     (write-region ,netrc nil file nil 'silent)
     (clrhash smtpmail-native-auth--typed)
     (unwind-protect
         (progn ,@body)
       (delete-file file))))

(defun smtpmail-native-auth-tests--found (port &rest keys)
  "Return the values of KEYS in what is found for h at PORT."
  (let ((found (smtpmail-native-auth-find "h" port)))
    (mapcar (lambda (key) (plist-get found key)) keys)))

(ert-deftest smtpmail-native-auth-tests-classic ()
  "A complete classic entry comes first, and its password is not touched."
  (smtpmail-native-auth-tests-with "machine h login net password n"
    (setq smtpmail-auth-credentials '(("h" 25 "alice" "secret")))
    (should (equal (smtpmail-native-auth-tests--found
                    25 :source :user :password)
                   '(classic "alice" nil)))))

(ert-deftest smtpmail-native-auth-tests-netrc ()
  "auth-source by host, port as number or name, user and smtp-auth."
  (dolist (case '(("machine h login a password p" 25 nil
                   (auth-source "a" "p" nil))
                  ("machine h port 587 login a password p" 587 nil
                   (auth-source "a" "p" nil))
                  ("machine h port submission login a password p" 587 nil
                   (auth-source "a" "p" nil))
                  ("machine h port smtp login a password p" 25 nil
                   (auth-source "a" "p" nil))
                  ("machine h port smtps login a password p" 465 nil
                   (auth-source "a" "p" nil))
                  ("machine h port 26 login a password p" 25 nil
                   (none nil nil nil))
                  ("machine g login a password p" 25 nil (none nil nil nil))
                  ("machine h login a password p\nmachine h login b password q"
                   25 "b" (auth-source "b" "q" nil))
                  ("machine h login a password p smtp-auth plain" 25 nil
                   (auth-source "a" "p" "PLAIN"))
                  ("machine h login a@realm password \"p q\"" 25 nil
                   (auth-source "a@realm" "p q" nil))
                  ("" 25 nil (none nil nil nil))))
    (pcase-let ((`(,netrc ,port ,user ,want) case))
      (smtpmail-native-auth-tests-with netrc
        (setq smtpmail-smtp-user user)
        (ert-info (netrc)
          (should (equal (smtpmail-native-auth-tests--found
                          port :source :user :password :mechanisms)
                         want)))))))

(ert-deftest smtpmail-native-auth-tests-file-form ()
  "The classic variable as the name of a netrc file."
  (smtpmail-native-auth-tests-with "machine h login a password p"
    (setq smtpmail-auth-credentials file
          auth-sources nil)
    (should (equal (smtpmail-native-auth-tests--found
                    25 :source :user :password)
                   '(file "a" "p")))))

(ert-deftest smtpmail-native-auth-tests-mechanisms ()
  "The token smtp-auth may be a string, a symbol or a list."
  (dolist (case '((nil nil) (plain "PLAIN") ("login" "LOGIN")
                  ((scram-sha-256 "plain") "SCRAM-SHA-256 PLAIN")))
    (should (equal (smtpmail-native-auth--mechanisms (car case))
                   (cadr case)))))

(ert-deftest smtpmail-native-auth-tests-function ()
  "A secret may be a function, and is encoded as UTF-8."
  (smtpmail-native-auth-tests-with ""
    (cl-letf (((symbol-function 'auth-source-search)
               (lambda (&rest _)
                 (list (list :user "a" :secret (lambda () "pässword"))))))
      (should (equal (smtpmail-native-auth-tests--found 25 :password)
                     '("p\303\244ssword"))))))

(ert-deftest smtpmail-native-auth-tests-certificate ()
  "Key and certificate without a password are no authentication."
  (smtpmail-native-auth-tests-with
      "machine h login a key /k.pem cert /c.pem"
    (should (equal (smtpmail-native-auth-tests--found 25 :password :key :cert)
                   '(nil "/k.pem" "/c.pem")))))

(ert-deftest smtpmail-native-auth-tests-batch ()
  "In batch a missing password is an error that says where it was looked for."
  (smtpmail-native-auth-tests-with "machine other login a password s3cret"
    (dolist (set (list (lambda ()
                         (setq smtpmail-auth-credentials '(("h" 25 "a" nil))))
                       (lambda ()
                         (setq smtpmail-auth-credentials nil
                               smtpmail-servers-requiring-authorization "h"))))
      (funcall set)
      (let ((err (should-error (smtpmail-native-auth-find "h" 25)
                               :type 'smtpmail-native-auth-error)))
        (dolist (word (list "smtpmail-auth-credentials" "auth-sources" "h:25"
                            (file-name-nondirectory file)))
          (should (string-match-p (regexp-quote word) (cadr err))))
        (should-not (string-match-p "s3cret" (cadr err)))))))

(ert-deftest smtpmail-native-auth-tests-prompt ()
  "What a classic entry leaves open is asked for, once, if it has worked."
  (dolist (entry '(("h" 25 nil nil) ("h" 25 "alice" nil) ("h" 25 "" "")
                   ("h" 25 "alice" "")))
    (smtpmail-native-auth-tests-with ""
      (setq smtpmail-auth-credentials (list entry))
      (cl-letf ((noninteractive nil)
                ((symbol-function 'read-string)
                 (lambda (prompt &rest _) (push prompt questions) "alice"))
                ((symbol-function 'read-passwd)
                 (lambda (prompt &rest _) (push prompt questions)
                   (copy-sequence "open"))))
        (let ((found (smtpmail-native-auth-find "h" 25)))
          (should (equal (plist-get found :user) "alice"))
          (should (equal (plist-get found :password) "open"))
          (should (member "SMTP password for h:25: " questions))
          (should (= (length questions)
                     (if (member (nth 2 entry) '(nil "")) 2 1)))
          (smtpmail-native-auth-worked found)
          (smtpmail-native-auth-release found)
          (should-not (equal (plist-get found :password) "open"))
          (setq questions nil
                found (smtpmail-native-auth-find "h" 25))
          (should (equal (plist-get found :password) "open"))
          (should-not (member "SMTP password for h:25: " questions))
          (smtpmail-native-auth-failed found)
          (smtpmail-native-auth-find "h" 25)
          (should (member "SMTP password for h:25: " questions))
          (smtpmail-native-forget-passwords))))))

(ert-deftest smtpmail-native-auth-tests-user-strings-stay ()
  "Strings of the user are never cleared."
  (smtpmail-native-auth-tests-with ""
    (let ((mine (copy-sequence "mine")))
      (cl-letf (((symbol-function 'auth-source-search)
                 (lambda (&rest _) (list (list :user "a" :secret mine)))))
        (smtpmail-native-auth-release (smtpmail-native-auth-find "h" 25))
        (should (equal mine "mine"))))))

(provide 'smtpmail-native-auth-tests)
;;; smtpmail-native-auth-tests.el ends here
