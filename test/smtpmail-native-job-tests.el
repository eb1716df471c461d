;;; smtpmail-native-job-tests.el --- From options to a job  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Against the scripted server where the dialogue counts, against the sink where
;; many messages do.

;;; Code:

(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

;;;; The way to the server

(ert-deftest smtpmail-native-job-tests-way ()
  "The job tells of the proxy and of the address to connect from."
  (let* ((smtpmail-native-proxy "socks5://t\u00efm:x@p.example:1080")
         (smtpmail-native-source-address "127.0.0.9")
         (way (smtpmail-native-job-connection
               '(:host "mail.example" :port 25 :helo "c.example"))))
    (should (equal (plist-get way :proxy)
                   "socks5://t\303\257m:x@p.example:1080"))
    (should (equal (plist-get way :source) "127.0.0.9"))))

(ert-deftest smtpmail-native-job-tests-bad-way ()
  "A proxy that cannot be used is an error before anything is sent.
It does not show the password."
  (smtpmail-native-load)
  (let ((err (should-error
              (smtpmail-native-module-send
               '(:host "127.0.0.1" :port 9 :helo "c.example" :timeout-ms 1000
                 :probe t :proxy "gopher://tim:secret@p:1"))
              :type 'smtpmail-native-usage-error)))
    (should (string-match-p "socks5://" (error-message-string err)))
    (should-not (string-match-p "secret" (error-message-string err))))
  (should-error (smtpmail-native-module-send
                 '(:host "127.0.0.1" :port 9 :helo "c.example" :timeout-ms 1000
                   :probe t :source "localhost"))
                :type 'smtpmail-native-usage-error))

(ert-deftest smtpmail-native-job-tests-lmtp-answers ()
  "Who is known to have the mail has it, however the others fare."
  (should (equal (mapcar (lambda (answer) (list (car answer) (cadr answer)))
                         (smtpmail-native-outcome-answers
                          '(:kind network :in-doubt t
                            :recipients (("a" delivered 250 "" "ok")
                                         ("b" nil 550 "" "no")
                                         ("c" t 250 "" "ok")))))
                 '(("a" sent) ("b" refused) ("c" unknown)))))

(provide 'smtpmail-native-job-tests)
;;; smtpmail-native-job-tests.el ends here
