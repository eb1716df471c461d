;;; smtpmail-native-trust-tests.el --- A certificate that does not verify  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Certificates that do not verify, and who may say that they will do.

;;; Code:

(require 'ert)
(require 'nsm)
(require 'smtpmail-native-test-helper)

(defmacro smtpmail-native-trust-tests--with (script &rest body)
  "Run BODY with SCRIPT as the server, TLS from the start and a fresh NSM.
The list `asked' has the questions of NSM; the answer is in `answer'."
  (declare (indent 1) (debug t))
  `(smtpmail-native-test-with-server ,script
     (let ((smtpmail-stream-type 'ssl)
           (smtpmail-native-tls-pins nil)
           (smtpmail-native-trust--accepted (make-hash-table :test #'equal))
           (nsm-permanent-host-settings nil)
           (nsm-temporary-host-settings nil)
           (nsm-settings-file (expand-file-name "network-security.data" folder))
           (network-security-level 'medium)
           (gnutls-verify-error nil)
           (answer "no")
           (asked nil))
       (ignore answer)
       (cl-letf (((symbol-function 'nsm-query-user)
                  (lambda (message _status)
                    (push message asked)
                    answer))
                 ((symbol-function 'smtpmail-native-queue--ask-p)
                  (lambda () t))
                 ((symbol-function 'nsm-query)
                  ;; The real one says no to a batch Emacs.
                  (let ((query (symbol-function 'nsm-query)))
                    (lambda (&rest args)
                      (let ((noninteractive nil))
                        (apply query args))))))
         ,@body))))

(defun smtpmail-native-trust-tests--script (cert &optional refusals)
  "Return a script that takes a mail with the certificate CERT.
Before that it meets with REFUSALS connections that end in the handshake."
  (append (apply #'append (make-list (or refusals 0)
                                     (list (concat "tls " cert) "stall" "next")))
          (list (concat "tls " cert))
          (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                       smtpmail-native-test-mail)))

(defun smtpmail-native-trust-tests--mail ()
  "Return a mail to Bob, prepared."
  (with-temp-buffer
    (insert "To: bob@example.org\nSubject: x\n" mail-header-separator "\nx\n")
    (smtpmail-native-message-prepare)))

(defun smtpmail-native-trust-tests--send ()
  "Send a mail and wait; return t, or the condition as (NAME TEXT)."
  (condition-case err
      (progn (smtpmail-native-queue-send (smtpmail-native-trust-tests--mail)
                                         'wait)
             t)
    (smtpmail-native-error err)))

(defun smtpmail-native-trust-tests--fingerprint (name)
  "Return the SHA-256 of the certificate NAME, in hex."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally
     (smtpmail-native-test-cert (concat name ".pem")))
    (goto-char (point-min))
    (re-search-forward "-----BEGIN CERTIFICATE-----\n")
    (let ((start (point)))
      (re-search-forward "-----END")
      (secure-hash 'sha256 (base64-decode-string
                            (buffer-substring start (match-beginning 0)))))))

(ert-deftest smtpmail-native-trust-tests-accepted ()
  "The user accepts by way of NSM: the mail goes out, the exception is saved."
  (smtpmail-native-trust-tests--with
      (smtpmail-native-trust-tests--script "selfsigned" 1)
    (setq answer "always")
    (should (eq (smtpmail-native-trust-tests--send) t))
    (should (= (length asked) 1))
    (should (file-exists-p nsm-settings-file))
    (should (plist-get (nsm-host-settings (nsm-id "localhost" port))
                       :conditions))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-known ()
  "An exception that is saved is used without a question."
  (smtpmail-native-trust-tests--with
      (append (smtpmail-native-trust-tests--script "selfsigned" 1) '("next")
              (smtpmail-native-trust-tests--script "selfsigned" 1))
    (setq answer "session")
    (should (eq (smtpmail-native-trust-tests--send) t))
    (setq answer "no")
    (clrhash smtpmail-native-trust--accepted)
    (should (eq (smtpmail-native-trust-tests--send) t))
    (should (= (length asked) 1))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-refused ()
  "The user says no: an error that tells how to pin it."
  (smtpmail-native-trust-tests--with '("tls selfsigned" "stall")
    (let ((err (smtpmail-native-trust-tests--send)))
      (should (eq (car err) 'smtpmail-native-tls-error))
      (should (string-match-p "smtpmail-native-tls-pins" (cadr err))))
    (should (= (length asked) 1))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-other-certificate ()
  "An exception for one certificate is none for another of the same server."
  (smtpmail-native-trust-tests--with '("tls expired" "stall")
    (push (list :id (nsm-id "localhost" port)
                :fingerprints '("sha1:00") :conditions '(:expired :invalid
                                                         :unknown-ca))
          nsm-permanent-host-settings)
    (should (eq (car (smtpmail-native-trust-tests--send))
                'smtpmail-native-tls-error))
    (should (= (length asked) 1))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-must-verify ()
  "`gnutls-verify-error' lets nobody be asked."
  (dolist (value '(t (("local" :hostname :trustfiles))))
    (smtpmail-native-trust-tests--with '("tls selfsigned" "stall")
      (setq gnutls-verify-error value
            answer "always")
      (should (eq (car (smtpmail-native-trust-tests--send))
                  'smtpmail-native-tls-error))
      (should-not asked)
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-trust-tests-low ()
  "At the level `low' nothing is checked."
  (smtpmail-native-trust-tests--with
      (smtpmail-native-trust-tests--script "selfsigned" 1)
    (setq network-security-level 'low)
    (should (eq (smtpmail-native-trust-tests--send) t))
    (should-not asked)
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-file-not-writable ()
  "Where NSM cannot write its file the mail goes out all the same."
  (smtpmail-native-trust-tests--with
      (smtpmail-native-trust-tests--script "selfsigned" 1)
    (setq answer "always"
          nsm-settings-file (expand-file-name "missing/data" folder))
    (should (eq (smtpmail-native-trust-tests--send) t))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-pin ()
  "A pin takes the place of verification, in any spelling, and nobody is asked."
  (dolist (spell (list #'identity #'upcase
                       (lambda (hex)
                         (mapconcat #'identity
                                    (seq-partition hex 2) ":"))))
    (smtpmail-native-trust-tests--with
        (smtpmail-native-trust-tests--script "wronghost")
      (setq smtpmail-native-tls-pins
            (list (cons "LOCALHOST"
                        (funcall spell (smtpmail-native-trust-tests--fingerprint
                                        "wronghost")))))
      (should (eq (smtpmail-native-trust-tests--send) t))
      (should-not asked)
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-trust-tests-pin-mismatch ()
  "Another certificate than the pinned one is refused, even a good one."
  (smtpmail-native-trust-tests--with '("tls good" "stall")
    (setq smtpmail-native-tls-pins
          (list (list "localhost" (smtpmail-native-trust-tests--fingerprint
                                   "wronghost")))
          answer "always")
    (should (eq (car (smtpmail-native-trust-tests--send))
                'smtpmail-native-tls-error))
    (should-not asked)
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-background ()
  "In the background the question waits in a held entry, and is then asked."
  (smtpmail-native-trust-tests--with
      (smtpmail-native-trust-tests--script "selfsigned" 1)
    (let ((id (cl-letf (((symbol-function 'display-warning) #'ignore))
                (prog1 (plist-get (smtpmail-native-queue-send
                                   (smtpmail-native-trust-tests--mail)
                                   'background)
                                  :id)
                  (smtpmail-native-test-wait
                   (lambda ()
                     (eq (plist-get (smtpmail-native-entry-state
                                     (car (smtpmail-native-outbox-list)))
                                    :hold)
                         'certificate)))))))
      (should-not asked)
      (setq answer "session")
      (smtpmail-native-queue-retry id)
      (should (= (length asked) 1))
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-outbox-ids))))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-trust-tests-background-known ()
  "What NSM knows is tried again in the background, without a word."
  (smtpmail-native-trust-tests--with
      (append (smtpmail-native-trust-tests--script "selfsigned" 1) '("next")
              (smtpmail-native-trust-tests--script "selfsigned" 1))
    (setq answer "session")
    (should (eq (smtpmail-native-trust-tests--send) t))
    (clrhash smtpmail-native-trust--accepted)
    (smtpmail-native-queue-send (smtpmail-native-trust-tests--mail) 'background)
    (smtpmail-native-test-wait (lambda () (null (smtpmail-native-outbox-ids))))
    (should (= (length asked) 1))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-pin-command ()
  "`smtpmail-native-pin-certificate' shows and pins what the server shows."
  (smtpmail-native-trust-tests--with '("tls selfsigned" "stall")
    (let ((saved nil))
      (cl-letf (((symbol-function 'yes-or-no-p) (lambda (_) t))
                ((symbol-function 'customize-save-variable)
                 (lambda (_variable value) (setq saved value))))
        (save-window-excursion
          (smtpmail-native-pin-certificate)))
      (should (equal saved
                     (list (cons "localhost"
                                 (smtpmail-native-trust-tests--fingerprint
                                  "selfsigned")))))
      (with-current-buffer "*smtpmail-native certificate*"
        (should (search-forward (cdar saved) nil t))
        (kill-buffer)))))

(provide 'smtpmail-native-trust-tests)
;;; smtpmail-native-trust-tests.el ends here
