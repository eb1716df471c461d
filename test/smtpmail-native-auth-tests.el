;;; smtpmail-native-auth-tests.el --- Who am I for this server?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'ert)
(require 'cl-lib)
(require 'auth-source)
(require 'smtpmail)
(require 'smtpmail-native)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-explain)

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
     (clrhash smtpmail-native-secrets--typed)
     (auth-source-forget-all-cached)
     (unwind-protect
         (progn ,@body)
       (delete-file file))))

(defun smtpmail-native-auth-tests--found (port &rest keys)
  "Return the values of KEYS in what is found for h at PORT."
  (let ((found (smtpmail-native-auth-find "h" port :ask t)))
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
    (should (equal (smtpmail-native-mechanism-string (car case))
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
     "for a at h:25" "`smtpmail-auth-credentials' (its entry has no password)"
     "auth-sources" file "login a")
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
    (should-error (smtpmail-native-auth-find "h" 25 :demanded "530 more")
                  :type 'smtpmail-native-auth-error)))

(ert-deftest smtpmail-native-auth-tests-batch-demand ()
  "What the server has said is part of the error."
  (smtpmail-native-auth-tests-with ""
    (let ((text (cadr (should-error
                       (smtpmail-native-auth-find
                        "h" 25 :demanded "530 5.7.0 who?")
                       :type 'smtpmail-native-auth-error))))
      (should (string-prefix-p
               "No password for h:25 (the server says 530 5.7.0 who?); searched \
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
        (should (eq (plist-get (smtpmail-native-auth-find "h" 25 :ask t) :source)
                    'none))
        (should-not questions)
        (let ((found (smtpmail-native-auth-find "h" 25 :ask t :demanded t)))
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

(ert-deftest smtpmail-native-auth-tests-refused-user ()
  "After a typed password was refused, its user is the first offer.
The prompt says that it was."
  (smtpmail-native-auth-tests-with ""
    (let ((noninteractive nil)
          (auth-sources nil)
          (prompts nil)
          (offers nil))
      (cl-letf (((symbol-function 'read-string)
                 (lambda (_prompt &optional initial &rest _)
                   (push initial offers)
                   (copy-sequence "alice")))
                ((symbol-function 'read-passwd)
                 (lambda (prompt &rest _)
                   (push prompt prompts)
                   (copy-sequence "open"))))
        (let ((found (smtpmail-native-auth-find "h" 25 :ask t :demanded t)))
          (smtpmail-native-auth-failed found))
        (smtpmail-native-auth-ask-again "H" 25)
        (should (equal prompts
                       '("SMTP password for alice at H:25 (the last one was \
refused): "
                         "SMTP password for alice at h:25: ")))
        (should (equal offers (list "alice" user-mail-address)))
        ;; Another server has other users.
        (smtpmail-native-auth-ask-again "i" 25)
        (should (equal (car offers) user-mail-address))
        (smtpmail-native-forget-passwords)
        (smtpmail-native-auth-ask-again "h" 25)
        (should (equal (car offers) user-mail-address))))))

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
      (let ((found (smtpmail-native-auth-find "h" 25 :ask t :demanded t)))
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
        (should (string-match-p "Cannot save the password for h:25" told))
        (should-not (string-match-p "s3cret" told))))))

(ert-deftest smtpmail-native-auth-tests-typed-by-user ()
  "Typed passwords are kept by server and user, and cleared when forgotten."
  (smtpmail-native-auth-tests-with ""
    (smtpmail-native-auth-tests-interactively (list "one" "two" "three" "four")
      (let ((take (lambda (host port user)
                    (setq smtpmail-auth-credentials
                          (list (list host port user nil)))
                    (let ((found (smtpmail-native-auth-find host port :ask t)))
                      (smtpmail-native-auth-worked found)
                      (plist-get found :password)))))
        (should (equal (funcall take "h" 25 "a") "one"))
        (should (equal (funcall take "h" 25 "b") "two"))
        (should (equal (funcall take "h" 26 "a") "three"))
        (should (equal (funcall take "H" 25 "a") "one"))
        (should (equal (funcall take "h" 25 "b") "two"))
        (let ((kept (hash-table-values smtpmail-native-secrets--typed)))
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
        (let ((found (smtpmail-native-auth-find "h" 25 :ask t)))
          (should (equal (plist-get found :password) "wrong"))
          (should-not (equal typed "wrong"))
          (smtpmail-native-auth-failed found)
          (should (zerop (hash-table-count smtpmail-native-secrets--typed))))))))

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
        (let ((found (smtpmail-native-auth-find "h" 25 :ask t)))
          (should (equal (plist-get found :user) "alice"))
          (should (equal (plist-get found :password) "open"))
          (should (member "SMTP password for alice at h:25: " questions))
          (should (= (length questions)
                     (if (member (nth 2 entry) '(nil "")) 2 1)))
          (smtpmail-native-auth-worked found)
          (smtpmail-native-auth-release found)
          (should-not (equal (plist-get found :password) "open"))
          (setq questions nil
                found (smtpmail-native-auth-find "h" 25 :ask t))
          (should (equal (plist-get found :password) "open"))
          (should-not (member "SMTP password for alice at h:25: " questions))
          (smtpmail-native-auth-failed found)
          (smtpmail-native-auth-find "h" 25 :ask t)
          (should (member "SMTP password for alice at h:25: " questions))
          (smtpmail-native-forget-passwords))))))

(ert-deftest smtpmail-native-auth-tests-user-strings-stay ()
  "Strings of the user are never cleared."
  (smtpmail-native-auth-tests-with ""
    (let ((mine (copy-sequence "mine")))
      (cl-letf (((symbol-function 'auth-source-search)
                 (lambda (&rest _) (list (list :user "a" :secret mine)))))
        (smtpmail-native-auth-release (smtpmail-native-auth-find "h" 25 :ask t))
        (should (equal mine "mine"))))))

;;;; What a look-up leaves behind

(ert-deftest smtpmail-native-auth-tests-no-timers ()
  "Look-ups that find nothing leave no timer, however many there are."
  (smtpmail-native-auth-tests-with "machine other login a password p"
    (let ((before (length timer-list)))
      (dotimes (_ 50)
        (smtpmail-native-auth-find "h" 25)
        (smtpmail-native-auth-find "h" 587 :user "alice"))
      (should (= (length timer-list) before)))))

(ert-deftest smtpmail-native-auth-tests-found-once ()
  "What is found is found once, and then known for a while."
  (smtpmail-native-auth-tests-with "machine h login a password p"
    (let* ((before (length timer-list))
           (searches 0)
           (count (lambda (&rest _) (cl-incf searches))))
      (unwind-protect
          (progn
            (advice-add 'auth-source-search-backends :before count)
            (dotimes (_ 20)
              (should (equal (smtpmail-native-auth-tests--found 25 :password)
                             '("p")))))
        (advice-remove 'auth-source-search-backends count))
      (should (= searches 1))
      (should (<= (length timer-list) (1+ before))))))

(ert-deftest smtpmail-native-auth-tests-lookup-error ()
  "A source that cannot be asked is no source that knows nothing."
  (smtpmail-native-auth-tests-with "machine h login a password p"
    (dolist (failure '((error "Decryption failed")
                       (file-error "Opening input file" "Permission denied")
                       (inhibited-interaction)))
      (ert-info ((format "%S" failure))
        (smtpmail-native-lookup-forget-missing)
        (cl-letf (((symbol-function 'auth-source-search-backends)
                   (lambda (&rest _) (signal (car failure) (cdr failure)))))
          (let ((err (should-error (smtpmail-native-auth-find "h" 25)
                                   :type 'smtpmail-native-lookup-error)))
            (should (string-search "`auth-sources'" (cadr err)))
            (should (string-search "h:25" (cadr err)))))
        ;; It is not remembered.
        (should (equal (smtpmail-native-auth-tests--found 25 :password)
                       '("p")))
        (auth-source-forget-all-cached)))))

(ert-deftest smtpmail-native-auth-tests-no-interaction ()
  "A look-up that no command has started cannot prompt."
  (smtpmail-native-auth-tests-with "machine h login a password p"
    (let ((noninteractive nil)
          (seen nil))
      (cl-letf (((symbol-function 'auth-source-search-backends)
                 (lambda (&rest _) (push inhibit-interaction seen) nil)))
        (smtpmail-native-auth-find "h" 25)
        (should (seq-every-p #'identity seen))
        (setq seen nil)
        (smtpmail-native-auth-find "h" 25 :ask t)
        (should seen)
        (should-not (seq-some #'identity seen))))))

;;;; Functions that have a secret

(defmacro smtpmail-native-auth-tests-with-secret (secret &rest body)
  "Run BODY with an auth-source that has SECRET for alice."
  (declare (indent 1) (debug t))
  `(smtpmail-native-auth-tests-with ""
     (let ((auth-source-do-cache nil)
           (smtpmail-native-secret-timeout 0.2))
       (smtpmail-native-lookup-forget-missing)
       (cl-letf (((symbol-function 'auth-source-search)
                  (lambda (&rest _)
                    (list (list :user "alice" :secret ,secret)))))
         ,@body))))

(ert-deftest smtpmail-native-auth-tests-newline ()
  "A secret loses one line end, which programs print, and nothing else."
  (pcase-dolist (`(,secret ,password)
                 '(("s3cret\n" "s3cret") ("s3cret\r\n" "s3cret")
                   ("s3cret\n\n" "s3cret\n") ("s3cret " "s3cret ")
                   ("\ns3cret" "\ns3cret") ("\n" "")))
    (ert-info ((format "%S" secret))
      (smtpmail-native-auth-tests-with-secret secret
        (should (equal (smtpmail-native-auth-tests--found 25 :password)
                       (list password))))
      (smtpmail-native-auth-tests-with-secret (lambda () (copy-sequence secret))
        (should (equal (smtpmail-native-auth-tests--found 25 :password)
                       (list password)))))))

(ert-deftest smtpmail-native-auth-tests-user-control ()
  "A user name with a control character is an error that shows it."
  (dolist (user '("alice\n" "al\0ice" "\talice"))
    (ert-info ((format "%S" user))
      (smtpmail-native-auth-tests-with ""
        (setq smtpmail-auth-credentials (list (list "h" 25 user "p")))
        (should (string-search
                 (smtpmail-native-address-quote user)
                 (cadr (should-error (smtpmail-native-auth-find "h" 25)
                                     :type 'smtpmail-native-usage-error))))))))

(ert-deftest smtpmail-native-auth-tests-callback ()
  "A function with an argument gives the secret to it, at once or later."
  (dolist (delay '(nil 0.01))
    (let ((function (lambda (callback)
                      (if delay
                          (run-at-time delay nil callback "later\n")
                        (funcall callback "later\n")))))
      (smtpmail-native-auth-tests-with-secret function
        (let ((smtpmail-native-secret-timeout 20))
          (should (equal (smtpmail-native-auth-tests--found 25 :password)
                         '("later"))))))))

(ert-deftest smtpmail-native-auth-tests-pending ()
  "Who does not want to wait completes the credentials later."
  (let ((callback nil))
    (smtpmail-native-auth-tests-with-secret (lambda (back) (setq callback back))
      (let ((found (smtpmail-native-auth-find "h" 25 :later t))
            (answers nil))
        (should (plist-get found :pending))
        (should-not callback)
        (smtpmail-native-auth-complete
         found (lambda (&rest answer) (push answer answers)))
        (should callback)
        (should-not answers)
        (funcall callback "s3cret")
        (funcall callback "again")
        (should (= (length answers) 1))
        (pcase-let ((`((,found ,err)) answers))
          (should-not err)
          (should-not (plist-get found :pending))
          (should (equal (plist-get found :password) "s3cret")))))))

(ert-deftest smtpmail-native-auth-tests-pending-fails ()
  "A secret that does not come is an error, and comes no more."
  (pcase-dolist (`(,function ,condition ,word)
                 (list (list (lambda (_back) nil)
                             'smtpmail-native-lookup-error "0.2 seconds")
                       (list (lambda (_back) (error "The s3cret"))
                             'smtpmail-native-lookup-error "failed: error")
                       (list (lambda (back) (funcall back 'symbol))
                             'smtpmail-native-lookup-error "not return a string")
                       (list (lambda (back) (funcall back nil))
                             'smtpmail-native-auth-error "none")))
    (ert-info (word)
      (smtpmail-native-auth-tests-with-secret function
        (let ((found (smtpmail-native-auth-find "h" 25 :later t))
              (before (length timer-list))
              (answer nil))
          (smtpmail-native-auth-complete
           found (lambda (&rest all) (setq answer all)))
          (with-timeout (20 (error "Nothing came"))
            (while (null answer)
              (accept-process-output nil 0.05)))
          (should-not (car answer))
          (should (eq (car (cadr answer)) condition))
          (should (string-search word (cadr (cadr answer))))
          (should-not (string-search "s3cret" (cadr (cadr answer))))
          (should (= (length timer-list) before)))
        (should-error (smtpmail-native-auth-find "h" 25)
                      :type 'smtpmail-native-auth-error)))))

(ert-deftest smtpmail-native-auth-tests-slow-function ()
  "A function that waits is ended after its time."
  (smtpmail-native-auth-tests-with-secret
      (lambda () (while t (accept-process-output nil 0.01)))
    (should (string-search
             "0.2 seconds"
             (cadr (should-error (smtpmail-native-auth-find "h" 25)
                                 :type 'smtpmail-native-lookup-error))))))

;;;; Mechanisms

(ert-deftest smtpmail-native-auth-tests-supported ()
  "`smtpmail-auth-supported' is obeyed where it is not a standard value."
  (pcase-dolist (`(,supported ,mechanisms ,option)
                 '(((cram-md5 plain login) nil nil)
                   ((cram-md5 plain login xoauth2) nil nil)
                   ((login) "LOGIN" t)
                   ((plain) "PLAIN" t)
                   ((plain login cram-md5) "PLAIN LOGIN CRAM-MD5" t)
                   ((login xoauth2) "LOGIN" t)
                   ((xoauth2 plain) "XOAUTH2" nil)))
    (ert-info ((format "%S" supported))
      (smtpmail-native-auth-tests-with "machine h login a password p"
        (let ((smtpmail-auth-supported supported)
              (smtpmail-native-auth-mechanisms nil))
          (should (equal (smtpmail-native-auth-tests--found
                          25 :user :mechanisms :if-offered)
                         (list "a" mechanisms option)))
          ;; Our own option goes before it, and smtp-auth before both.
          (setq smtpmail-native-auth-mechanisms '(scram-sha-256 plain))
          (should (equal (smtpmail-native-auth-tests--found
                          25 :mechanisms :if-offered)
                         '("SCRAM-SHA-256 PLAIN" nil))))
        (smtpmail-native-auth-tests-with
            "machine h login a password p smtp-auth cram-md5"
          (let ((smtpmail-auth-supported supported))
            (should (equal (smtpmail-native-auth-tests--found
                            25 :mechanisms :if-offered)
                           '("CRAM-MD5" nil)))))))))

(ert-deftest smtpmail-native-auth-tests-supported-none ()
  "If `smtpmail-auth-supported' is nil, nothing authenticates."
  (smtpmail-native-auth-tests-with "machine h login a password p"
    (let ((smtpmail-auth-supported nil)
          (smtpmail-native-auth-mechanisms nil)
          (smtpmail-auth-credentials '(("h" 25 "u" "p"))))
      (should (equal (smtpmail-native-auth-tests--found
                      25 :source :user :disabled)
                     '(none nil t)))
      (should (string-search
               "`smtpmail-auth-supported' is nil"
               (cadr (should-error
                      (smtpmail-native-auth-find "h" 25 :demanded "530 no")
                      :type 'smtpmail-native-auth-error))))
      (setq smtpmail-native-auth-mechanisms '(plain))
      (should (equal (smtpmail-native-auth-tests--found 25 :user) '("u"))))))

(ert-deftest smtpmail-native-auth-tests-explained ()
  "`smtpmail-native-explain-credentials' names the option that counts."
  (pcase-dolist (`(,supported ,mechanisms ,text)
                 '(((cram-md5 plain login) nil "the strongest")
                   ((login) nil "LOGIN, by `smtpmail-auth-supported'")
                   (nil nil "none, because `smtpmail-auth-supported' is nil")
                   ((login) (plain login)
                    "PLAIN LOGIN, by `smtpmail-native-auth-mechanisms'")))
    (let ((smtpmail-auth-supported supported)
          (smtpmail-native-auth-mechanisms mechanisms))
      (should (string-prefix-p text
                               (smtpmail-native-explain--mechanisms nil))))))

(provide 'smtpmail-native-auth-tests)
;;; smtpmail-native-auth-tests.el ends here
