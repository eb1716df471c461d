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
          (smtpmail-auth-credentials nil)
          (smtpmail-starttls-credentials nil)
          (smtpmail-smtp-user nil)
          (smtpmail-servers-requiring-authorization nil)
          (questions nil))
     (ignore questions)
     (write-region ,netrc nil file nil 'silent)
     (clrhash smtpmail-native-auth--typed)
     (auth-source-forget-all-cached)
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
  "Credentials of auth-source by host, port as number or name, user and smtp-auth."
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

(defun smtpmail-native-auth-tests--refusal (&rest words)
  "Return the text of the error that looking for h at 25 must be.
Fail unless each of WORDS is part of it, and if a secret is."
  (let ((text (cadr (should-error (smtpmail-native-auth-find "h" 25)
                                  :type 'smtpmail-native-auth-error))))
    (dolist (word words)
      (should (string-match-p (regexp-quote word) text)))
    (should-not (string-match-p "s3cret" text))
    text))

(ert-deftest smtpmail-native-auth-tests-batch ()
  "In batch a missing password is an error that says where it was looked for."
  (smtpmail-native-auth-tests-with "machine other login a password s3cret"
    (setq smtpmail-servers-requiring-authorization "h")
    (smtpmail-native-auth-tests--refusal
     "h:25" "smtpmail-auth-credentials" "not set" "auth-sources" file)
    (setq smtpmail-auth-credentials '(("other" 25 "a" "s3cret")))
    (smtpmail-native-auth-tests--refusal
     "h:25" "smtpmail-auth-credentials" "no entry for this server" file)
    (setq smtpmail-smtp-user "alice")
    (smtpmail-native-auth-tests--refusal "for alice at h:25" "login alice")))

(ert-deftest smtpmail-native-auth-tests-batch-open-entry ()
  "What a classic entry leaves open and nobody knows is an error in batch."
  (smtpmail-native-auth-tests-with "machine h login b password s3cret"
    (setq smtpmail-auth-credentials '(("h" 25 "a" nil)))
    (smtpmail-native-auth-tests--refusal
     "for a at h:25" "`smtpmail-auth-credentials' (the entry for this server \
leaves it open)" "auth-sources" file "login a")
    (setq smtpmail-auth-credentials '(("h" 25 "a" "")))
    (smtpmail-native-auth-tests--refusal "for a at h:25" file))
  (smtpmail-native-auth-tests-with ""
    (setq smtpmail-auth-credentials '(("h" 25 nil "s3cret")))
    (smtpmail-native-auth-tests--refusal "No password for h:25" file)))

(ert-deftest smtpmail-native-auth-tests-open-entry-stored ()
  "What a classic entry leaves open is found in auth-source for that very user."
  (dolist (case '(("machine h login a password p" ("h" 25 "a" nil) nil
                   (auth-source "a" "p"))
                  ("machine h login b password q\nmachine h login a password p"
                   ("h" 25 "a" "") nil (auth-source "a" "p"))
                  ("machine h port 26 login a password q
machine h port 25 login a password p"
                   ("h" 25 "a" nil) nil (auth-source "a" "p"))
                  ("machine h login a password p" ("h" 25 nil nil) nil
                   (auth-source "a" "p"))
                  ("machine h login b password q\nmachine h login a password p"
                   ("h" 25 nil nil) "a" (auth-source "a" "p"))
                  ;; The entry's own password is used.
                  ("machine h login a password p" ("h" 25 nil "mine") nil
                   (classic "a" "mine"))
                  ("" ("h" 25 nil "mine") "a" (classic "a" "mine"))))
    (pcase-let ((`(,netrc ,entry ,user ,want) case))
      (smtpmail-native-auth-tests-with netrc
        (setq smtpmail-auth-credentials (list entry)
              smtpmail-smtp-user user)
        (ert-info ((format "%S %S" entry netrc))
          (should (equal (smtpmail-native-auth-tests--found
                          25 :source :user :password)
                         want))
          (should (equal smtpmail-auth-credentials (list entry))))))))

(ert-deftest smtpmail-native-auth-tests-open-entry-user ()
  "Only the user is asked for where the entry has the password."
  (smtpmail-native-auth-tests-with ""
    (setq smtpmail-auth-credentials '(("h" 25 nil "mine")))
    (smtpmail-native-auth-tests-interactively (list "alice")
      (should (equal (smtpmail-native-auth-tests--found
                      25 :source :user :password)
                     '(prompt "alice" "mine")))
      (should (equal questions '("SMTP user name for h:25: "))))))

(ert-deftest smtpmail-native-auth-tests-batch-user-only ()
  "A user without a password in auth-source is not passed over in silence."
  (smtpmail-native-auth-tests-with "machine h login alice"
    (smtpmail-native-auth-tests--refusal "for alice at h:25" file)))

(ert-deftest smtpmail-native-auth-tests-file-then-sources ()
  "What the file of the classic variable lacks is found in auth-source.
The cache of auth-source must not mix them up."
  (smtpmail-native-auth-tests-with "machine h login a password p"
    (let ((other (make-temp-file "smtpmail-native" nil ".netrc"
                                 "machine g login b password q")))
      (unwind-protect
          (dotimes (_ 2)
            (setq smtpmail-auth-credentials other)
            (should (equal (smtpmail-native-auth-tests--found
                            25 :source :user :password)
                           '(auth-source "a" "p")))
            ;; The file goes before what is cached.
            (write-region "machine h login b password q" nil other nil 'silent)
            (setq auth-source-netrc-cache nil)
            (should (equal (smtpmail-native-auth-tests--found
                            25 :source :user :password)
                           '(file "b" "q")))
            (write-region "machine g login b password q" nil other nil 'silent)
            (setq auth-source-netrc-cache nil))
        (delete-file other)))))

(ert-deftest smtpmail-native-auth-tests-added-later ()
  "An entry that is added after a search for it is found."
  (smtpmail-native-auth-tests-with "machine other login a password p"
    (should (equal (smtpmail-native-auth-tests--found 25 :source) '(none)))
    (write-region "machine h login a password p" nil file nil 'silent)
    (setq auth-source-netrc-cache nil)
    (should (equal (smtpmail-native-auth-tests--found 25 :source :password)
                   '(auth-source "p")))))

(ert-deftest smtpmail-native-auth-tests-refused-is-forgotten ()
  "A password that the server has refused is read anew."
  (smtpmail-native-auth-tests-with "machine h login a password old"
    (let ((found (smtpmail-native-auth-find "h" 25)))
      (should (equal (plist-get found :password) "old"))
      (write-region "machine h login a password new" nil file nil 'silent)
      (setq auth-source-netrc-cache nil)
      (smtpmail-native-auth-failed found)
      (should (equal (smtpmail-native-auth-tests--found 25 :password)
                     '("new"))))))

(ert-deftest smtpmail-native-auth-tests-encoded-host ()
  "A host may come as UTF-8 octets."
  (smtpmail-native-auth-tests-with
      "machine b\N{U+FC}cher.example login a password p"
    (dolist (host '("b\N{U+FC}cher.example" "b\303\274cher.example"))
      (should (equal (plist-get (smtpmail-native-auth-find host 25) :password)
                     "p")))))

(ert-deftest smtpmail-native-auth-tests-certificate ()
  "Key and certificate without a password are no authentication."
  (smtpmail-native-auth-tests-with
      "machine h login a key /k.pem cert /c.pem"
    (should (equal (smtpmail-native-auth-tests--found 25 :password :key :cert)
                   '(nil "/k.pem" "/c.pem")))
    (should-error (smtpmail-native-auth-find "h" 25 "530 more")
                  :type 'smtpmail-native-auth-error)))

(ert-deftest smtpmail-native-auth-tests-batch-demand ()
  "What the server has said is part of the error."
  (smtpmail-native-auth-tests-with ""
    (let ((text (cadr (should-error
                       (smtpmail-native-auth-find "h" 25 "530 5.7.0 who?")
                       :type 'smtpmail-native-auth-error))))
      (should (string-prefix-p
               "No password for h:25 (it says 530 5.7.0 who?): looked in \
`smtpmail-auth-credentials' (not set) and `auth-sources' ("
               text)))))

(defmacro smtpmail-native-auth-tests-interactively (answers &rest body)
  "Run BODY as if a user were there who types ANSWERS, in their order.
The prompts are collected in `questions', the last one first."
  (declare (indent 1) (debug t))
  `(let* ((noninteractive nil)
          (answers ,answers)
          (answer (lambda (prompt &rest _)
                    (push prompt questions)
                    (copy-sequence
                     (or (pop answers) (error "Asked too often: %s" prompt))))))
     (cl-letf (((symbol-function 'read-string) answer)
               ((symbol-function 'read-passwd) answer)
               ((symbol-function 'auth-source-read-char-choice)
                (lambda (&rest _) ?n)))
       ,@body)))

(ert-deftest smtpmail-native-auth-tests-demanded ()
  "What a server demands and nobody knows is asked for, and kept.
So it is when auth-source has no place where it could be saved."
  (dolist (sources '(netrc nil))
    (smtpmail-native-auth-tests-with ""
      (unless sources
        (setq auth-sources nil))
      (smtpmail-native-auth-tests-interactively (list "alice" "open")
        (should (eq (plist-get (smtpmail-native-auth-find "h" 25) :source)
                    'none))
        (should-not questions)
        (let ((found (smtpmail-native-auth-find "h" 25 t)))
          (should (equal (plist-get found :user) "alice"))
          (should (equal (plist-get found :password) "open"))
          (should (= (length questions) 2))
          (smtpmail-native-auth-worked found)
          (smtpmail-native-auth-release found))
        ;; The next mail neither asks nor needs a refusal first.
        (should (equal (smtpmail-native-auth-tests--found
                        25 :source :user :password)
                       '(prompt "alice" "open")))
        (should (= (length questions) 2))))))

(ert-deftest smtpmail-native-auth-tests-user-only ()
  "Only the password is asked for when auth-source knows the user."
  (smtpmail-native-auth-tests-with "machine h login alice"
    (smtpmail-native-auth-tests-interactively (list "open")
      (should (equal (smtpmail-native-auth-tests--found 25 :user :password)
                     '("alice" "open")))
      (should (= (length questions) 1)))))

(ert-deftest smtpmail-native-auth-tests-certificate-and-password ()
  "Who has a certificate is asked for a password only when one is demanded."
  (smtpmail-native-auth-tests-with
      "machine h login alice key /k.pem cert /c.pem"
    (smtpmail-native-auth-tests-interactively (list "open")
      (should (equal (smtpmail-native-auth-tests--found 25 :password :key)
                     '(nil "/k.pem")))
      (should-not questions)
      (let ((found (smtpmail-native-auth-find "h" 25 t)))
        (should (equal (mapcar (lambda (key) (plist-get found key))
                               '(:user :password :key :cert))
                       '("alice" "open" "/k.pem" "/c.pem")))
        (should (= (length questions) 1))))))

(ert-deftest smtpmail-native-auth-tests-saving-fails ()
  "Neither an error nor a quit while saving concerns the mail."
  (dolist (signal (list (lambda () (error "S3cret"))
                        (lambda () (signal 'quit nil))
                        (lambda () (signal 'wrong-type-argument '(x "s3cret")))))
    (smtpmail-native-auth-tests-with ""
      (let ((told nil))
        (cl-letf (((symbol-function 'message)
                   (lambda (&rest args) (setq told (apply #'format args)))))
          (smtpmail-native-auth-worked
           (list :host "h" :port 25 :user "a" :password "s3cret"
                 :source 'prompt :save signal)))
        (should (string-match-p "h:25 was not saved" told))
        (should-not (string-match-p "s3cret" told))))))

(ert-deftest smtpmail-native-auth-tests-typed-by-user ()
  "Typed passwords are kept by server and user, and cleared when forgotten."
  (smtpmail-native-auth-tests-with ""
    (smtpmail-native-auth-tests-interactively (list "one" "two" "three" "four")
      (let ((take (lambda (host port user)
                    (setq smtpmail-auth-credentials
                          (list (list host port user nil)))
                    (let ((found (smtpmail-native-auth-find host port)))
                      (smtpmail-native-auth-worked found)
                      (plist-get found :password)))))
        (should (equal (funcall take "h" 25 "a") "one"))
        (should (equal (funcall take "h" 25 "b") "two"))
        (should (equal (funcall take "h" 26 "a") "three"))
        (should (equal (funcall take "H" 25 "a") "one"))
        (should (equal (funcall take "h" 25 "b") "two"))
        (let ((kept (hash-table-values smtpmail-native-auth--typed)))
          (should (= (length kept) 3))
          (smtpmail-native-forget-passwords)
          (dolist (password kept)
            (should (string-match-p "\\`[\0 ]+\\'" password))))
        (should (equal (funcall take "h" 25 "a") "four"))))))

(ert-deftest smtpmail-native-auth-tests-typed-not-kept-unless-worked ()
  "A typed password that has not worked is asked for again, and cleared."
  (smtpmail-native-auth-tests-with ""
    (setq smtpmail-auth-credentials '(("h" 25 "a" nil)))
    (let ((typed (copy-sequence "wrong")))
      (cl-letf ((noninteractive nil)
                ((symbol-function 'read-passwd) (lambda (&rest _) typed)))
        (let ((found (smtpmail-native-auth-find "h" 25)))
          (should (equal (plist-get found :password) "wrong"))
          (should-not (equal typed "wrong"))
          (smtpmail-native-auth-failed found)
          (should (zerop (hash-table-count smtpmail-native-auth--typed))))))))

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
