;;; smtpmail-native-check-tests.el --- Logins without a message  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The check of an account, by the command and in batch.  The scripted server
;; sees that nothing but a login is tried.

;;; Code:

(require 'ert)
(require 'json)
(require 'smtpmail-native-check)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-check-tests--script (&rest more)
  "Return the script of a server with CRAM-MD5 that goes on with MORE."
  (apply #'smtpmail-native-test-script
         (smtpmail-native-test-ehlo "SIZE 1000" "AUTH CRAM-MD5")
         more))

(defun smtpmail-native-check-tests--shown ()
  "Check the account, and return what is shown."
  (save-window-excursion
    (smtpmail-native-check-account))
  (prog1 (with-current-buffer "*smtpmail-native check*"
           (buffer-substring-no-properties (point-min) (point-max)))
    (kill-buffer "*smtpmail-native check*")))

(defmacro smtpmail-native-check-tests--with (password script &rest body)
  "Run BODY with a server that plays SCRIPT; tim has PASSWORD, or nothing."
  (declare (indent 2) (debug t))
  `(smtpmail-native-test-with-server ,script
     (let ((smtpmail-auth-credentials
            (and ,password (list (list "localhost" port "tim" ,password))))
           (auth-sources nil))
       ,@body)
     (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-check-tests-good ()
  "A login that works is told, with the limits of the server."
  (smtpmail-native-check-tests--with "tanstaaftanstaaf"
      (smtpmail-native-check-tests--script
       "auth CRAM-MD5 tim tanstaaftanstaaf" "C: QUIT" "S: 221 bye")
    (let ((shown (smtpmail-native-check-tests--shown)))
      (dolist (text '("^Login       ok  as tim by CRAM-MD5$"
                      "^Limit       ok  1000 bytes"
                      "^Mechanisms  ok  CRAM-MD5$"
                      "^Encryption  !!  none"
                      "Nothing was sent\\.$"))
        (should (string-match-p text shown)))
      (should-not (string-match-p "tanstaaf" shown)))))

(ert-deftest smtpmail-native-check-tests-refused ()
  "A login that fails is told in the server's words."
  (smtpmail-native-check-tests--with "wrong-password"
      (smtpmail-native-check-tests--script
       "auth CRAM-MD5 tim tanstaaftanstaaf" "C: QUIT" "S: 221 bye")
    (let ((shown (smtpmail-native-check-tests--shown)))
      (should (string-match-p "^Problem     !!  .*535" shown))
      (should-not (string-match-p "^Login" shown))
      (should (string-match-p "explain-credentials" shown)))))

(ert-deftest smtpmail-native-check-tests-certificate ()
  "The days that the certificate has left are told, and TLS."
  (smtpmail-native-check-tests--with nil
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "STARTTLS") "C: STARTTLS" "S: 220 go"
       "tls good" (smtpmail-native-test-ehlo "SIZE 0") "C: QUIT")
    (let* ((smtpmail-stream-type 'starttls)
           (shown (smtpmail-native-check-tests--shown)))
      (should (string-match-p "^Encryption  ok  TLS1" shown))
      (should (string-match-p "^Certificate ok  valid for [0-9]+ more days$"
                              shown))
      (should-not (string-match-p "^Limit" shown))
      (should (string-match-p
               "^Login       ok  the server does not offer" shown))
      (should (string-match-p "All is well" shown)))))

(ert-deftest smtpmail-native-check-tests-days ()
  "A certificate that ends soon, or has ended, is no good step."
  (pcase-dolist (`(,days ,good ,text)
                 '((100 t "valid for 100 more days") (1 nil "1 more day")
                   (-2 nil "expired")))
    (let ((step (assoc "Certificate"
                       (smtpmail-native-check--steps
                        '(:host "h" :port 25)
                        (list :kind 'ok :tls
                              (list :certificate
                                    (list :not-after
                                          (+ (float-time) 60
                                             (* days 86400)))))))))
      (should (eq good (nth 1 step)))
      (should (string-match-p text (nth 2 step))))))

(defun smtpmail-native-check-tests--batch (port password &rest args)
  "Run `smtpmail-native-batch-check' for PORT with ARGS; tim has PASSWORD.
Return (CODE . REPORT)."
  (let* ((folder (make-temp-file "smtpmail-native" t))
         (process-environment (cons (concat "HOME=" folder)
                                    process-environment))
         (ran (apply #'smtpmail-native-test-emacs smtpmail-native-test-folder
                     "-l" "smtpmail-native" "--eval"
                     (prin1-to-string
                      `(setq auth-sources nil
                             user-mail-address "tim@example.org"
                             smtpmail-auth-credentials
                             '(("localhost" ,port "tim" ,password))))
                     "-f" "smtpmail-native-batch-check" "--"
                     "--server=localhost" (format "--port=%d" port)
                     "--result" args)))
    (delete-directory folder t)
    (cons (car ran)
          (with-temp-buffer
            (insert (cdr ran))
            (goto-char (point-max))
            (forward-line -1)
            (let ((json-object-type 'alist))
              (json-read))))))

(ert-deftest smtpmail-native-check-tests-batch ()
  "A script gets an exit code and a line of JSON."
  (pcase-dolist (`(,password ,code ,mechanism)
                 '(("tanstaaftanstaaf" 0 "CRAM-MD5") ("wrong-password" 77 nil)))
    (smtpmail-native-test-with-server
        (smtpmail-native-check-tests--script
         "auth CRAM-MD5 tim tanstaaftanstaaf" "C: QUIT" "S: 221 bye")
      (let ((ran (smtpmail-native-check-tests--batch port password)))
        (should (equal code (car ran)))
        (should (equal code (alist-get 'exit (cdr ran))))
        (should (equal mechanism (alist-get 'mechanism (cdr ran))))
        (should (equal "1000" (alist-get 'size (cdr ran))))
        (should (numberp (alist-get 'seconds (cdr ran))))
        (should-not (string-match-p password (format "%S" ran))))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-check-tests-batch-usage ()
  "What the arguments or the options lack is an exit code of its own."
  (pcase-dolist (`(,args ,code) '((("--nonsense") 64) (("x") 64)
                                  (("--stream=odd") 64)))
    (let ((ran (apply #'smtpmail-native-check-tests--batch 1 "x" args)))
      (should (equal code (car ran)))
      (should (stringp (alist-get 'text (cdr ran)))))))

(provide 'smtpmail-native-check-tests)
;;; smtpmail-native-check-tests.el ends here
