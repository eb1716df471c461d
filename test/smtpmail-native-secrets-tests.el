;;; smtpmail-native-secrets-tests.el --- Tokens, passphrases, second answers  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Against the scripted server, which verifies what it gets.

;;; Code:

(require 'ert)
(require 'cl-lib)
(require 'smtpmail-native-sink)
(require 'smtpmail-native-explain)

(defvar smtpmail-native-secrets-tests--calls 0
  "How often the function that has a token was called.")

(defmacro smtpmail-native-secrets-tests-with (script &rest body)
  "Run BODY with the scripted server saying SCRIPT.
Nothing is known from an earlier test, and nobody is there to be asked."
  (declare (indent 1) (debug t))
  `(smtpmail-native-test-with-server ,script
     (let ((smtpmail-servers-requiring-authorization nil)
           (smtpmail-native-cleartext-auth 'loopback)
           (smtpmail-native-auth-mechanisms nil)
           (smtpmail-native-secrets-tests--calls 0)
           (smtpmail-auth-supported '(cram-md5 plain login)))
       (smtpmail-native-forget-passwords)
       (smtpmail-native-identity-forget-kept)
       (unwind-protect
           (progn ,@body)
         (smtpmail-native-sink-settle-down)
         (smtpmail-native-forget-passwords)
         (smtpmail-native-identity-forget-kept)))))

(defmacro smtpmail-native-secrets-tests-typing (answers &rest body)
  "Run BODY as if a user were there who types ANSWERS, in their order.
The prompts are collected in `questions', the last one first.  An answer
`quit' is \\`C-g'."
  (declare (indent 1) (debug t))
  `(let* ((questions nil)
          (answers ,answers)
          (answer (lambda (prompt &rest _)
                    (push prompt questions)
                    (let ((one (or (pop answers)
                                   (error "Asked too often: %s" prompt))))
                      (if (eq one 'quit)
                          (signal 'quit nil)
                        (copy-sequence one))))))
     (cl-letf (((symbol-function 'smtpmail-native-tell-attended-p) (lambda () t))
               ((symbol-function 'smtpmail-native-lookup-may-ask-p)
                #'smtpmail-native-request-ask)
               ((symbol-function 'read-string) answer)
               ((symbol-function 'read-passwd) answer))
       ,@body)))

(defun smtpmail-native-secrets-tests--settle ()
  "Wait until nothing is under way in this Emacs."
  (smtpmail-native-test-wait
   (lambda () (not (smtpmail-native-schedule-busy-p)))))

(defun smtpmail-native-secrets-tests--send (how)
  "Send a mail by way of HOW, and wait until nothing is under way."
  (prog1 (smtpmail-native-sink-send "<1@x>" how nil)
    (smtpmail-native-secrets-tests--settle)))

(defun smtpmail-native-secrets-tests--state (key)
  "Return KEY of the state of the only entry of the outbox."
  (plist-get (smtpmail-native-entry-state (car (smtpmail-native-outbox-list)))
             key))

(defun smtpmail-native-secrets-tests--entry (smtp-auth &rest tokens)
  "Return an auth source whose secret is a function, with SMTP-AUTH.
The function returns the next of TOKENS at each call, the last for ever."
  (lambda (&rest _)
    (list (list :user "tim" :smtp-auth smtp-auth
                :secret
                (lambda ()
                  (prog1 (or (nth smtpmail-native-secrets-tests--calls tokens)
                             (car (last tokens)))
                    (cl-incf smtpmail-native-secrets-tests--calls)))))))

(defmacro smtpmail-native-secrets-tests-with-source (function &rest body)
  "Run BODY with FUNCTION in place of `auth-source-search'."
  (declare (indent 1) (debug t))
  `(let ((auth-source-do-cache nil))
     (smtpmail-native-lookup-forget-missing)
     (cl-letf (((symbol-function 'auth-source-search) ,function))
       ,@body)))

(defun smtpmail-native-secrets-tests--refused (offer line)
  "Return the script of a server that offers OFFER and refuses the LINE."
  (append (list "S: 220 peer.example ESMTP")
          (smtpmail-native-test-ehlo offer)
          (list line "C: QUIT" "S: 221 bye")))

(defun smtpmail-native-secrets-tests--taken (offer line)
  "Return the script of a server that offers OFFER and takes LINE and a mail."
  (append (list "S: 220 peer.example ESMTP")
          (smtpmail-native-test-ehlo offer)
          (list line)
          smtpmail-native-test-mail))

;;;; Tokens

(ert-deftest smtpmail-native-secrets-tests-token ()
  "A secret that smtp-auth says is a token is used as one, joined."
  (dolist (case '((xoauth2 "XOAUTH2" "tok\nen\n") ("oauthbearer" "OAUTHBEARER"
                                                  "token")
                  ((xoauth2 oauthbearer) "XOAUTH2" "token\r\n")))
    (pcase-let ((`(,smtp-auth ,mechanism ,token) case))
      (smtpmail-native-secrets-tests-with
          (smtpmail-native-secrets-tests--taken
           "AUTH PLAIN XOAUTH2 OAUTHBEARER"
           (format "auth %s tim token" mechanism))
        (smtpmail-native-secrets-tests-with-source
            (smtpmail-native-secrets-tests--entry smtp-auth token)
          (smtpmail-native-secrets-tests--send 'wait)
          (smtpmail-native-test-verdict server))))))

(ert-deftest smtpmail-native-secrets-tests-token-preferred ()
  "A token mechanism in front of the user's list makes the secret a token.
Where none is offered it is a password."
  (dolist (case '(("AUTH PLAIN XOAUTH2" "auth XOAUTH2 tim token" nil)
                  ("AUTH PLAIN" "auth PLAIN tim token" t)))
    (pcase-let ((`(,offer ,line ,first) case))
      (smtpmail-native-secrets-tests-with
          (append (and first
                       (append (list "S: 220 peer.example ESMTP")
                               (smtpmail-native-test-ehlo offer)
                               (list "C: QUIT" "S: 221 bye" "next")))
                  (smtpmail-native-secrets-tests--taken offer line))
        (let ((smtpmail-auth-supported '(xoauth2 cram-md5 plain login))
              (smtpmail-auth-credentials
               (list (list "localhost" port "tim" "token"))))
          (smtpmail-native-secrets-tests--send 'wait)
          (smtpmail-native-test-verdict server)
          (should (equal (nth 3 (car smtpmail-auth-credentials)) "token")))))))

(ert-deftest smtpmail-native-secrets-tests-token-renewed ()
  "A token that was refused is fetched again, once, and the mail goes out."
  (dolist (how '(wait background))
    (dolist (mechanism '("XOAUTH2" "OAUTHBEARER"))
      (smtpmail-native-secrets-tests-with
          (append (smtpmail-native-secrets-tests--refused
                   "AUTH PLAIN XOAUTH2 OAUTHBEARER"
                   (format "auth %s tim fresh" mechanism))
                  (list "next")
                  (smtpmail-native-secrets-tests--taken
                   "AUTH PLAIN XOAUTH2 OAUTHBEARER"
                   (format "auth %s tim fresh" mechanism)))
        (smtpmail-native-secrets-tests-with-source
            (smtpmail-native-secrets-tests--entry mechanism "stale" "fresh")
          (smtpmail-native-secrets-tests--send how)
          (smtpmail-native-test-verdict server)
          (should (= smtpmail-native-secrets-tests--calls 2))
          (should-not (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-secrets-tests-token-refused-twice ()
  "A token that is refused twice holds the mail, and nobody is asked for one."
  (let ((once (smtpmail-native-secrets-tests--refused
               "AUTH XOAUTH2" "auth XOAUTH2 tim fresh")))
    (smtpmail-native-secrets-tests-with (append once (list "next") once)
      (smtpmail-native-secrets-tests-with-source
          (smtpmail-native-secrets-tests--entry 'xoauth2 "stale")
        (smtpmail-native-secrets-tests-typing nil
          (smtpmail-native-secrets-tests--send 'background)
          (should (eq (smtpmail-native-secrets-tests--state :hold) 'password))
          (smtpmail-native-ask-all)
          (smtpmail-native-secrets-tests--settle)
          (smtpmail-native-test-verdict server)
          (should (= smtpmail-native-secrets-tests--calls 2))
          (should (= 1 (length (smtpmail-native-outbox-ids)))))))
    (smtpmail-native-secrets-tests-with (append once (list "next") once)
      (smtpmail-native-secrets-tests-with-source
          (smtpmail-native-secrets-tests--entry 'xoauth2 "stale")
        (should-error (smtpmail-native-secrets-tests--send 'wait)
                      :type 'smtpmail-native-auth-error)
        (smtpmail-native-test-verdict server)))))

(ert-deftest smtpmail-native-secrets-tests-token-function-fails ()
  "A function that fails is told without its words, which may be the secret."
  (smtpmail-native-secrets-tests-with (list "S: 220 peer.example ESMTP")
    (smtpmail-native-secrets-tests-with-source
        (lambda (&rest _)
          (list (list :user "tim" :smtp-auth 'xoauth2
                      :secret (lambda () (error "S3cret")))))
      (let ((err (should-error (smtpmail-native-secrets-tests--send 'wait)
                               :type 'smtpmail-native-auth-error)))
        (should (string-match-p "localhost" (cadr err)))
        (should-not (string-match-p "3cret" (cadr err)))))))

;;;; Passwords

(defun smtpmail-native-secrets-tests--attempts (count good)
  "Return a script that refuses COUNT passwords, and takes \"right\" if GOOD."
  (append
   (cl-loop repeat (1- count)
            append (smtpmail-native-secrets-tests--refused
                    "AUTH PLAIN" "auth PLAIN tim right")
            append (list "next"))
   (smtpmail-native-secrets-tests--refused "AUTH PLAIN" "auth PLAIN tim right")
   (and good
        (cons "next" (smtpmail-native-secrets-tests--taken
                      "AUTH PLAIN" "auth PLAIN tim right")))))

(ert-deftest smtpmail-native-secrets-tests-password-again ()
  "Who waits is asked again for a refused password, and it is kept then."
  (smtpmail-native-secrets-tests-with
      (append (smtpmail-native-secrets-tests--attempts 2 t)
              (list "next")
              (smtpmail-native-secrets-tests--taken
               "AUTH PLAIN" "auth PLAIN tim right"))
    (let ((smtpmail-auth-credentials
           (list (list "localhost" port "tim" "stale"))))
      (smtpmail-native-secrets-tests-typing (list "wrong" "right")
        (smtpmail-native-secrets-tests--send 'wait)
        (should (= (length questions) 2))
        ;; The next mail begins with the one that has worked.
        (smtpmail-native-secrets-tests--send 'wait)
        (smtpmail-native-test-verdict server)
        (should (= (length questions) 2))))))

(ert-deftest smtpmail-native-secrets-tests-password-three-times ()
  "After three answers it is an error, and none of them is kept."
  (smtpmail-native-secrets-tests-with
      (smtpmail-native-secrets-tests--attempts 3 nil)
    (let ((smtpmail-auth-credentials (list (list "localhost" port "tim" nil))))
      (smtpmail-native-secrets-tests-typing (list "a" "b" "c")
        (should-error (smtpmail-native-secrets-tests--send 'wait)
                      :type 'smtpmail-native-auth-error)
        (smtpmail-native-test-verdict server)
        (should (= (length questions) 3))
        (should (= 0 (hash-table-count smtpmail-native-secrets--typed)))
        (should-not (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-secrets-tests-password-quit ()
  "A quit at the second question leaves the mail with its sender, no secret."
  (smtpmail-native-secrets-tests-with
      (smtpmail-native-secrets-tests--attempts 1 nil)
    (let* ((smtpmail-auth-credentials (list (list "localhost" port "tim" nil)))
           (made nil)
           (encode (symbol-function 'smtpmail-native-secrets-encode)))
      (cl-letf (((symbol-function 'smtpmail-native-secrets-encode)
                 (lambda (string) (car (push (funcall encode string) made)))))
        (smtpmail-native-secrets-tests-typing (list "wrong" 'quit)
          (should (eq 'quit (condition-case nil
                                (smtpmail-native-secrets-tests--send 'wait)
                              (quit 'quit))))
          (smtpmail-native-test-verdict server)
          (should made)
          (dolist (string made)
            (should (string-match-p "\\`[\0 ]*\\'" string)))
          (should-not (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-secrets-tests-password-background ()
  "A wrong password holds the mail; the right one typed later sends it."
  (smtpmail-native-secrets-tests-with
      (smtpmail-native-secrets-tests--attempts 1 t)
    (let ((smtpmail-auth-credentials
           (list (list "localhost" port "tim" "stale"))))
      (smtpmail-native-secrets-tests-typing (list "right")
        (smtpmail-native-secrets-tests--send 'background)
        (should (eq (smtpmail-native-secrets-tests--state :hold) 'password))
        (should-not questions)
        (smtpmail-native-ask-all)
        (smtpmail-native-secrets-tests--settle)
        (smtpmail-native-test-verdict server)
        (should (= (length questions) 1))
        (should-not (smtpmail-native-outbox-ids))))))

;;;; Client keys

(defconst smtpmail-native-secrets-tests--passphrase "open-sesame-4711"
  "What opens the keys of the scripted server's client.")

(defun smtpmail-native-secrets-tests--tls (count)
  "Return the script of a server that sees a certificate, COUNT times."
  (let ((one (append (list "tls good client" "S: 220 peer.example ESMTP")
                     (smtpmail-native-test-ehlo)
                     smtpmail-native-test-mail)))
    (append one (cl-loop repeat (1- count) append (cons "next" one)))))

(defun smtpmail-native-secrets-tests--key-source (key cert &rest more)
  "Return an auth source that has KEY and CERT, files or nil, and MORE."
  (lambda (&rest _)
    (list (append (list :user "tim"
                        :key (and key (smtpmail-native-test-cert key))
                        :cert (and cert (smtpmail-native-test-cert cert)))
                  more))))

(ert-deftest smtpmail-native-secrets-tests-passphrase ()
  "The passphrase of a key is asked for until it is right, and kept."
  (dolist (files '(("client-encrypted.key" "client.pem") ("client.p12" nil)
                   (nil "client.p12")))
    (smtpmail-native-secrets-tests-with (smtpmail-native-secrets-tests--tls 2)
      (smtpmail-native-secrets-tests-with-source
          (apply #'smtpmail-native-secrets-tests--key-source files)
        (let ((smtpmail-stream-type 'ssl))
          (smtpmail-native-secrets-tests-typing
              (list "wrong" smtpmail-native-secrets-tests--passphrase)
            (smtpmail-native-secrets-tests--send 'wait)
            (should (= (length questions) 2))
            (should (string-match-p "Passphrase for the key .*/client"
                                    (car questions)))
            (smtpmail-native-secrets-tests--send 'wait)
            (should (= (length questions) 2))
            (smtpmail-native-test-verdict server)))))))

(ert-deftest smtpmail-native-secrets-tests-passphrase-stored ()
  "A passphrase of auth-source is used, as a string or a function."
  (dolist (passphrase (list smtpmail-native-secrets-tests--passphrase
                            (lambda ()
                              smtpmail-native-secrets-tests--passphrase)))
    (smtpmail-native-secrets-tests-with (smtpmail-native-secrets-tests--tls 1)
      (smtpmail-native-secrets-tests-with-source
          (smtpmail-native-secrets-tests--key-source
           "client.p12" nil :passphrase passphrase)
        (let ((smtpmail-stream-type 'ssl))
          (smtpmail-native-secrets-tests--send 'wait)
          (smtpmail-native-test-verdict server)
          (should (equal smtpmail-native-secrets-tests--passphrase
                         "open-sesame-4711")))))))

(ert-deftest smtpmail-native-secrets-tests-passphrase-background ()
  "A missing passphrase holds the mail, and is asked for when the user acts."
  (smtpmail-native-secrets-tests-with (smtpmail-native-secrets-tests--tls 1)
    (smtpmail-native-secrets-tests-with-source
        (smtpmail-native-secrets-tests--key-source "client.p12" nil)
      (let ((smtpmail-stream-type 'ssl))
        (smtpmail-native-secrets-tests-typing
            (list "wrong" smtpmail-native-secrets-tests--passphrase)
          (dotimes (n 2)
            (if (= n 0)
                (smtpmail-native-secrets-tests--send 'background)
              (smtpmail-native-act-retry (car (smtpmail-native-outbox-ids)))
              (smtpmail-native-secrets-tests--settle))
            (should (eq (smtpmail-native-secrets-tests--state :hold)
                        'password))
            (should (= (length questions) n)))
          (smtpmail-native-act-retry (car (smtpmail-native-outbox-ids)))
          (smtpmail-native-secrets-tests--settle)
          (smtpmail-native-test-verdict server)
          (should (= (length questions) 2))
          (should-not (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-secrets-tests-passphrase-three-times ()
  "After three wrong passphrases it is an error that names the key."
  (smtpmail-native-secrets-tests-with (list "S: 220 peer.example ESMTP")
    (smtpmail-native-secrets-tests-with-source
        (smtpmail-native-secrets-tests--key-source "client.p12" nil)
      (let ((smtpmail-stream-type 'ssl))
        (smtpmail-native-secrets-tests-typing (list "a" "b" "c")
          (let ((err (should-error (smtpmail-native-secrets-tests--send 'wait)
                                   :type 'smtpmail-native-error)))
            (should (string-match-p "client.p12" (cadr err))))
          (should (= (length questions) 3))
          (should (= 0 (hash-table-count
                        smtpmail-native-secrets--passphrases))))))))

(ert-deftest smtpmail-native-secrets-tests-classic-key ()
  "A classic entry may name one file for both, or an object on a token."
  (smtpmail-native-secrets-tests-with
      (append (list "S: 220 peer.example ESMTP")
              (smtpmail-native-test-ehlo "STARTTLS")
              (list "C: STARTTLS" "S: 220 go" "tls good client")
              (smtpmail-native-test-ehlo)
              smtpmail-native-test-mail)
    (smtpmail-native-secrets-tests-typing
        (list smtpmail-native-secrets-tests--passphrase)
      (let ((smtpmail-starttls-credentials
             (list (list "localhost" port
                         (smtpmail-native-test-cert "client.p12") nil))))
        (smtpmail-native-secrets-tests--send 'wait)
        (smtpmail-native-test-verdict server)
        (should (= (length questions) 1)))))
  (smtpmail-native-secrets-tests-with (list "S: 220 peer.example ESMTP")
    (dolist (from '(classic auth-source))
      (let* ((uri "pkcs11:token=none;object=x")
             (smtpmail-starttls-credentials
              (and (eq from 'classic)
                   (list (list "localhost" port uri nil))))
             (source (if (eq from 'classic)
                         #'ignore
                       (lambda (&rest _) (list (list :user "tim" :key uri))))))
        (smtpmail-native-secrets-tests-with-source source
          (let* ((smtpmail-stream-type 'ssl)
                 (err (should-error
                       (smtpmail-native-secrets-tests--send 'wait)
                       :type 'smtpmail-native-error)))
            (should (string-match-p "[^/]pkcs11:token=none" (cadr err)))))))))

(ert-deftest smtpmail-native-secrets-tests-external ()
  "A mechanism that needs no secret is used without a question.
The certificate of a classic entry suffices for EXTERNAL."
  (pcase-dolist (`(,mechanisms ,entry)
                 '(((external) nil) ((external) "tim") (nil nil)))
    (smtpmail-native-secrets-tests-with
        (append (list "tls good client" "S: 220 peer.example ESMTP")
                (smtpmail-native-test-ehlo "AUTH PLAIN EXTERNAL")
                (list "auth EXTERNAL - -")
                smtpmail-native-test-mail)
      (smtpmail-native-secrets-tests-typing nil
        (let ((smtpmail-native-auth-mechanisms mechanisms)
              (smtpmail-stream-type 'ssl)
              (smtpmail-auth-credentials
               (and entry (list (list "localhost" port entry nil))))
              (smtpmail-starttls-credentials
               (list (list "localhost" port
                           (smtpmail-native-test-cert "client.key")
                           (smtpmail-native-test-cert "client.pem")))))
          (smtpmail-native-secrets-tests--send 'wait)
          (smtpmail-native-test-verdict server)
          (should-not questions))))))

;;;; Methods of others

(ert-deftest smtpmail-native-secrets-tests-foreign-method ()
  "A mechanism that only stock smtpmail has makes it send the mail."
  (require 'smtpmail)
  (smtpmail-native-secrets-tests-with (list "S: 220 peer.example ESMTP")
    (should-not (smtpmail-native-mechanism-foreign))
    (let ((before (cl--generic-method-table
                   (cl--generic 'smtpmail-try-auth-method)))
          (sent nil)
          (told nil))
      (unwind-protect
          (progn
            (eval '(cl-defmethod smtpmail-try-auth-method
                     (_process (_mech (eql 'x-mine)) _user _password))
                  t)
            ;; Only one that the user wants counts.
            (should-not (smtpmail-native-mechanism-foreign))
            (let ((smtpmail-auth-supported '(scram-sha-256 plain x-mine)))
              (should (equal (smtpmail-native-mechanism-foreign)
                             "x-mine"))
              (cl-letf (((symbol-function 'smtpmail-send-it)
                         (lambda () (setq sent t)))
                        ((symbol-function 'message)
                         (lambda (&rest args)
                           (setq told (apply #'format args)))))
                (smtpmail-native-send-it))
              (should sent)
              (should (string-match-p "x-mine" told)))
            (eval '(cl-defmethod smtpmail-try-auth-method
                     ((_process process) (_mech (eql 'x-typed))
                      (_user string) _password))
                  t)
            (let ((smtpmail-auth-supported '(x-typed)))
              (should (equal (smtpmail-native-mechanism-foreign) "x-typed")))
            (let ((smtpmail-auth-supported '(x-none)))
              (should-not (smtpmail-native-mechanism-foreign))))
        (setf (cl--generic-method-table
               (cl--generic 'smtpmail-try-auth-method))
              before)
        (defalias 'smtpmail-try-auth-method
          (cl--generic-make-function
           (cl--generic 'smtpmail-try-auth-method)))))
    (let ((smtpmail-auth-supported '(xoauth2 x-mine)))
      (should-not (smtpmail-native-mechanism-foreign)))))

;;;; Explanations

(defun smtpmail-native-secrets-tests--explained ()
  "Return the explanation for the server at hand; no secret may be in it."
  (let ((text (smtpmail-native-explain-text (smtpmail-native-job-account))))
    (should-not (string-match-p "s3cret" text))
    text))

(ert-deftest smtpmail-native-secrets-tests-explain ()
  "Each source is told of in order, and no secret."
  (smtpmail-native-secrets-tests-with (list "S: 220 peer.example ESMTP")
    (let* ((netrc (expand-file-name "a.netrc" folder))
           (auth-sources (list netrc (expand-file-name "none.netrc" folder))))
      (write-region
       (format "machine localhost port 24 login eve password s3cret-1
machine localhost port %s login tim password s3cret-2 smtp-auth login\n" port)
       nil netrc nil 'silent)
      (let* ((smtpmail-auth-credentials
              (list (list "other.example" port "tim" "s3cret-3")))
             (text (smtpmail-native-secrets-tests--explained)))
        (dolist (words (list "user tim, from auth-source"
                             "other.example:.* does not match: its host"
                             "localhost:24 user eve does not match: its port"
                             "user tim matches: a secret, smtp-auth LOGIN"
                             "none.netrc (there is no such file)"
                             "LOGIN (from smtp-auth"
                             "send-mail-function: smtpmail-native-send-it"))
          (ert-info (words)
            (should (string-match-p words text))))
        (should (< (string-match "smtpmail-auth-credentials' *:" text)
                   (string-match "a\\.netrc" text)
                   (string-match "Typed in this session" text)
                   (string-match "A prompt" text))))
      (let ((smtpmail-smtp-user "bob"))
        (should (string-match-p
                 "user tim does not match: its user is not bob"
                 (smtpmail-native-secrets-tests--explained))))
      (let* ((smtpmail-auth-credentials
              (list (list "localhost" port "tim" "s3cret-3")))
             (smtpmail-stream-type 'starttls)
             (send-mail-function 'smtpmail-send-it)
             (message-send-mail-function 'message-send-mail-with-sendmail)
             (text (smtpmail-native-secrets-tests--explained)))
        (dolist (words '("user tim, from `smtpmail-auth-credentials'"
                         "matches: user tim, password given"
                         "STARTTLS is required" "(stock smtpmail)" "(sendmail)"
                         "SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5, PLAIN"))
          (ert-info (words)
            (should (string-match-p words text))))))))

(ert-deftest smtpmail-native-secrets-tests-explain-no-call ()
  "To explain does not call the function that has a token."
  (smtpmail-native-secrets-tests-with (list "S: 220 peer.example ESMTP")
    (let ((auth-sources '("x")))
      (smtpmail-native-secrets-tests-with-source
          (smtpmail-native-secrets-tests--entry 'xoauth2 "s3cret")
        (should (string-match-p "with a token"
                                (smtpmail-native-secrets-tests--explained)))
        (should (= smtpmail-native-secrets-tests--calls 0))
        (save-window-excursion
          (smtpmail-native-explain-credentials)
          (with-current-buffer "*Help*"
            (should (string-match-p "\\`Server: " (buffer-string)))))))))

(provide 'smtpmail-native-secrets-tests)
;;; smtpmail-native-secrets-tests.el ends here
