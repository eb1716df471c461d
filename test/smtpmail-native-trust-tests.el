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
           (smtpmail-native-identity--shown (make-hash-table :test #'equal))
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
                 ((symbol-function 'smtpmail-native-tell-attended-p)
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
      (smtpmail-native-act-retry id)
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

;;;; What an exception opens

(defconst smtpmail-native-trust-tests--result
  '(:kind certificate
    :tls (:certificate (:sha256 "ab" :not-after 4102444800
                        :reasons "it has expired")
          :peer (:warnings (:expired :invalid)
                 :certificate (:public-key-id "sha1:01" :subject "CN=\303\274"
                               :pem "x"))))
  "What the module tells of a server whose certificate has expired.")

(defmacro smtpmail-native-trust-tests--knowing (settings &rest body)
  "Run BODY while SETTINGS, a list, are the exceptions of NSM.
`judge' is what is thought of the server mail.example, without asking."
  (declare (indent 1) (debug t))
  `(let* ((smtpmail-native-tls-pins nil)
          (smtpmail-native-trust--accepted (make-hash-table :test #'equal))
          (nsm-permanent-host-settings ,settings)
          (nsm-temporary-host-settings nil)
          (nsm-settings-file "/nonexistent/network-security.data")
          (network-security-level 'medium)
          (gnutls-verify-error nil)
          (inhibit-message t)
          (judge (lambda ()
                   (smtpmail-native-trust-judge
                    "mail.example" 587 smtpmail-native-trust-tests--result
                    nil))))
     ,@body))

(defun smtpmail-native-trust-tests--setting (service fingerprints conditions)
  "Return what NSM saves of mail.example at SERVICE, a list of one setting.
FINGERPRINTS and CONDITIONS are lists."
  (list (list :id (nsm-id "mail.example" service) :fingerprints fingerprints
              :conditions conditions)))

(ert-deftest smtpmail-native-trust-tests-exact ()
  "An exception opens the certificate and the faults that it names, and no more."
  (pcase-dolist (`(,fingerprints ,conditions ,trusted)
                 '((("sha1:01") (:expired :invalid) t)
                   (("sha1:02" "sha1:01") (:invalid :expired :self-signed) t)
                   (("sha1:01") (:invalid) nil)
                   (("sha1:01") (:verify-cert :invalid) nil)
                   (("sha1:01") nil nil)
                   (("sha1:02") (:expired :invalid :same-cert :verify-cert) nil)
                   ((:none) (:expired :invalid :unencrypted) nil)
                   (nil (:expired :invalid) nil)))
    (smtpmail-native-trust-tests--knowing
        (smtpmail-native-trust-tests--setting 587 fingerprints conditions)
      (ert-info ((format "%S %S" fingerprints conditions))
        (should (eq (and (funcall judge) t) trusted))
        (should (equal (smtpmail-native-trust-pins "MAIL.example" 587)
                       (and trusted '("ab"))))
        (should-not (smtpmail-native-trust-pins "mail.example" 25))))))

(ert-deftest smtpmail-native-trust-tests-service-names ()
  "What smtpmail.el told NSM by the name of a service counts for its port."
  (pcase-dolist (`(,service ,trusted)
                 '((587 t) ("587" t) ("submission" t) ("smtp" nil) (25 nil)))
    (smtpmail-native-trust-tests--knowing
        (smtpmail-native-trust-tests--setting service '("sha1:01")
                                              '(:expired :invalid))
      (should (eq (and (funcall judge) t) trusted)))))

(ert-deftest smtpmail-native-trust-tests-saved-for-smtpmail ()
  "An answer is kept under the name that smtpmail.el uses for the service."
  (dolist (case '((587 587) ("587" 587) ("submission" "submission")
                  ("smtp" 587)))
    (smtpmail-native-trust-tests--knowing nil
      (let ((smtpmail-smtp-service (car case))
            (shown nil))
        (cl-letf (((symbol-function 'nsm-query)
                   (lambda (host port status what problems message)
                     (setq shown message)
                     (should (multibyte-string-p
                              (plist-get (plist-get status :certificate)
                                         :subject)))
                     (ignore-errors
                       (nsm-save-host host port status what problems 'session))
                     t)))
          (should (smtpmail-native-trust-judge
                   "mail.example" 587 smtpmail-native-trust-tests--result t)))
        (should (string-match-p "it has expired" shown))
        (let ((settings (nsm-host-settings (nsm-id "mail.example"
                                                   (cadr case)))))
          (should (equal (plist-get settings :fingerprints) '("sha1:01")))
          (should (nsm-warnings-ok-p
                   (plist-get (plist-get smtpmail-native-trust-tests--result
                                         :tls)
                              :peer)
                   settings)))))))

(ert-deftest smtpmail-native-trust-tests-changed ()
  "The question says that the server had another certificate before."
  (smtpmail-native-trust-tests--knowing
      (smtpmail-native-trust-tests--setting 587 '("sha1:02") '(:expired))
    (cl-letf* ((shown nil)
               ((symbol-function 'nsm-query)
                (lambda (&rest args) (setq shown (car (last args))) nil)))
      (should-not (smtpmail-native-trust-judge
                   "mail.example" 587 smtpmail-native-trust-tests--result t))
      (should (string-match-p "another one than the server had" shown)))))

(ert-deftest smtpmail-native-trust-tests-verify-error ()
  "Of `gnutls-verify-error' the first match counts, by what it demands."
  (pcase-dolist (`(,value ,must)
                 '((nil nil) (t t)
                   (((".*" (:trustfiles))) t)
                   (((".*" :trustfiles :hostname)) t)
                   (((".*" t)) t)
                   (((".*" (:hostname))) nil)
                   (((".*" nil)) nil)
                   ((("MAIL\\." t)) t)
                   ((("other" t)) nil)
                   ((("other" t) ("example" nil) ("mail" t)) nil)))
    (smtpmail-native-trust-tests--knowing
        (smtpmail-native-trust-tests--setting 587 '("sha1:01")
                                              '(:expired :invalid))
      (let ((gnutls-verify-error value))
        (ert-info ((format "%S" value))
          (should (eq (not (funcall judge)) must)))))))

(ert-deftest smtpmail-native-trust-tests-no-longer ()
  "What was accepted is not any more when there is no reason left for it."
  (dolist (change (list (lambda () (setq gnutls-verify-error t))
                        (lambda () (setq nsm-permanent-host-settings nil))
                        (lambda () (setq smtpmail-native-tls-pins
                                         (list (cons "mail.example"
                                                     (make-string 64 ?0)))))))
    (smtpmail-native-trust-tests--knowing
        (smtpmail-native-trust-tests--setting 587 '("sha1:01")
                                              '(:expired :invalid))
      (should (funcall judge))
      (should (equal (smtpmail-native-trust-pins "mail.example" 587) '("ab")))
      (funcall change)
      (should-not (member "ab" (smtpmail-native-trust-pins "mail.example"
                                                           587)))))
  (smtpmail-native-trust-tests--knowing nil
    (setq network-security-level 'low)
    (should (funcall judge))
    (should (smtpmail-native-trust-pins "mail.example" 587))
    (setq network-security-level 'medium)
    (should-not (smtpmail-native-trust-pins "mail.example" 587))))

(ert-deftest smtpmail-native-trust-tests-file-not-readable ()
  "A file of NSM that cannot be read is no reason not to ask, or not to send."
  (let ((folder (make-temp-file "smtpmail-native" t)))
    (unwind-protect
        (smtpmail-native-trust-tests--knowing nil
          ;; It exists, and cannot be read.
          (setq nsm-settings-file folder)
          (should-not (funcall judge))
          (cl-letf (((symbol-function 'nsm-query-user)
                     (lambda (&rest _) "always")))
            (let ((noninteractive nil))
              (should (smtpmail-native-trust-judge
                       "mail.example" 587 smtpmail-native-trust-tests--result
                       t))))
          (should (equal (smtpmail-native-trust-pins "mail.example" 587)
                         '("ab"))))
      (delete-directory folder t))))

(ert-deftest smtpmail-native-trust-tests-malformed-pins ()
  "Pins that cannot be used are an error before anybody connects."
  (dolist (value '("x" (("localhost")) (("localhost" . 4)) ((localhost . "ab"))
                   (("localhost" . "abcd")) (("localhost" "ab" . "cd"))
                   (("localhost" . "\n"))))
    (smtpmail-native-trust-tests--with '("tls good" "stall")
      (setq smtpmail-native-tls-pins value)
      (ert-info ((format "%S" value))
        (let ((err (smtpmail-native-trust-tests--send)))
          (should (eq (car err) 'smtpmail-native-usage-error))
          (should (string-match-p "smtpmail-native-tls-pins" (cadr err))))
        (should-not (smtpmail-native-outbox-ids))))))

;;;; The way of a mail

(ert-deftest smtpmail-native-trust-tests-better-certificate ()
  "A server that gets a good certificate behind an exception is trusted by it."
  (smtpmail-native-trust-tests--with
      (append (smtpmail-native-trust-tests--script "selfsigned" 1)
              '("next" "tls good" "stall" "next")
              (smtpmail-native-trust-tests--script "good"))
    (setq answer "session")
    (should (eq (smtpmail-native-trust-tests--send) t))
    (should (eq (smtpmail-native-trust-tests--send) t))
    (should (= (length asked) 1))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-trust-tests-batch ()
  "Where nobody can be asked, the error says what is wrong and how to pin it."
  (smtpmail-native-trust-tests--with '("tls expired" "stall")
    (cl-letf (((symbol-function 'smtpmail-native-tell-attended-p) #'ignore))
      (let ((err (smtpmail-native-trust-tests--send)))
        (should (eq (car err) 'smtpmail-native-tls-error))
        (dolist (words (list "expired" "smtpmail-native-tls-pins"
                             (smtpmail-native-trust-tests--fingerprint
                              "expired")))
          (should (string-search words (cadr err))))))
    (should-not asked)
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-trust-tests-password-once ()
  "Who has typed a password is not asked for it again after the certificate."
  (dolist (how '(wait background))
    (smtpmail-native-trust-tests--with
        (append '("tls selfsigned" "stall" "next" "tls selfsigned")
                (smtpmail-native-test-script
                 (smtpmail-native-test-ehlo "AUTH PLAIN")
                 "auth PLAIN user pass" smtpmail-native-test-mail))
      (let ((smtpmail-auth-credentials
             (list (list "localhost" port "user" nil)))
            (typed 0))
        (setq answer "session")
        (unwind-protect
            (cl-letf (((symbol-function 'read-passwd)
                       (lambda (&rest _)
                         (setq typed (1+ typed))
                         (copy-sequence "pass")))
                      ((symbol-function 'display-warning) #'ignore)
                      ((symbol-function 'smtpmail-native-lookup-may-ask-p)
                       (lambda (_request) t)))
              (let ((id (plist-get (smtpmail-native-queue-send
                                    (smtpmail-native-trust-tests--mail) how)
                                   :id)))
                (when (eq how 'background)
                  (smtpmail-native-trust-tests--await-held 1)
                  (should-not asked)
                  (smtpmail-native-act-retry id)
                  (smtpmail-native-test-wait
                   (lambda () (null (smtpmail-native-outbox-ids)))))))
          (smtpmail-native-forget-passwords))
        (should (= typed 1))
        (should (= (length asked) 1))
        (should (= (hash-table-count smtpmail-native-identity--shown) 0))
        (smtpmail-native-test-verdict server)))))

(defun smtpmail-native-trust-tests--await-held (count)
  "Wait until COUNT mails are held for a certificate."
  (smtpmail-native-test-wait
   (lambda ()
     (= count (seq-count #'smtpmail-native-entry-untrusted-p
                         (smtpmail-native-outbox-list))))))

(ert-deftest smtpmail-native-trust-tests-asked-when-idle ()
  "An idle user is asked once, and the answer sends all mails that wait for it."
  (smtpmail-native-trust-tests--with
      (append '("tls selfsigned" "stall" "next" "tls selfsigned" "stall" "next"
                "tls selfsigned")
              (smtpmail-native-test-script
               (smtpmail-native-test-ehlo)
               (butlast smtpmail-native-test-mail 2) smtpmail-native-test-mail))
    ;; Both by the same connection.
    (let ((smtpmail-native-max-sessions 1)
          (smtpmail-native-idle-seconds 2))
      (cl-letf (((symbol-function 'display-warning) #'ignore))
        (dotimes (n 2)
          (smtpmail-native-queue-send (smtpmail-native-trust-tests--mail)
                                      'background)
          (smtpmail-native-trust-tests--await-held (1+ n))))
      (setq answer "session")
      (smtpmail-native-ask-all)
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-outbox-ids))))
      (should (= (length asked) 1))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-trust-tests-declined ()
  "A no keeps the message held; only the next command asks again."
  (smtpmail-native-trust-tests--with '("tls selfsigned" "stall")
    (cl-letf (((symbol-function 'display-warning) #'ignore))
      (smtpmail-native-queue-send (smtpmail-native-trust-tests--mail)
                                  'background)
      (smtpmail-native-trust-tests--await-held 1))
    (dotimes (_ 2)
      (smtpmail-native-ask-all))
    (should (= (length asked) 2))
    (smtpmail-native-trust-tests--await-held 1)
    (should-not (smtpmail-native-outbox-claimed-p
                 (car (smtpmail-native-outbox-ids))))
    (smtpmail-native-act-delete (car (smtpmail-native-outbox-ids)))
    (should (= (hash-table-count smtpmail-native-identity--shown) 0))))

(ert-deftest smtpmail-native-trust-tests-trials ()
  "A mail that is put off often is not held for a certificate that NSM knows."
  (smtpmail-native-trust-tests--with
      (append (smtpmail-native-trust-tests--script "selfsigned" 1)
              '("next" "tls selfsigned" "stall" "next" "tls selfsigned")
              (smtpmail-native-test-script
               (smtpmail-native-test-ehlo)
               '("C: MAIL *" "S: 451 later" "C: QUIT" "S: 221 bye")))
    (setq answer "session")
    (should (eq (smtpmail-native-trust-tests--send) t))
    (clrhash smtpmail-native-trust--accepted)
    (smtpmail-native-queue-send (smtpmail-native-trust-tests--mail) 'background)
    (let ((state (smtpmail-native-test-wait
                  (lambda ()
                    (let ((state (smtpmail-native-entry-state
                                  (car (smtpmail-native-outbox-list)))))
                      (and (plist-get state :next) state))))))
      (should (= (plist-get state :tries) 1))
      (should-not (plist-get state :certificates)))
    (smtpmail-native-test-verdict server)
    (smtpmail-native-act-delete (car (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-trust-tests-cancelled ()
  "A mail that the user has stopped is not tried again, whatever is trusted."
  (smtpmail-native-trust-tests--with '("tls selfsigned" "stall")
    (setq network-security-level 'low)
    (let ((id (plist-get (smtpmail-native-queue-send
                          (smtpmail-native-trust-tests--mail) 'background)
                         :id))
          (state nil))
      ;; The end of the handshake has been faster.
      (setf (smtpmail-native-sending-cancelled
             (gethash id smtpmail-native-attempt--active))
            t)
      (cl-letf (((symbol-function 'display-warning) #'ignore))
        (smtpmail-native-test-wait
         (lambda () (null (gethash id smtpmail-native-attempt--active)))))
      (setq state (smtpmail-native-entry-state (smtpmail-native-outbox-get id)))
      (should (eq (plist-get state :status) 'held))
      (should (eq (plist-get state :hold) 'user))
      (smtpmail-native-act-delete id))))

;;;; Emacs's own connections

(defun smtpmail-native-trust-tests--by-emacs (port)
  "Talk to the server at PORT by way of Emacs; return non-nil if NSM let us."
  (let ((process (ignore-errors
                   (open-network-stream "stock" nil "localhost" port
                                        :type 'tls))))
    (when process
      (process-send-string process "QUIT\r\n")
      (smtpmail-native-test-wait (lambda () (not (process-live-p process))))
      (delete-process process)
      t)))

(defun smtpmail-native-trust-tests--for-emacs (cert)
  "Return a script for `smtpmail-native-trust-tests--by-emacs' with CERT."
  (list (concat "tls " cert) "S: 220 peer.example ESMTP" "C: QUIT"
        "S: 221 bye" "close"))

(ert-deftest smtpmail-native-trust-tests-accepted-by-emacs ()
  "What was accepted for a connection of Emacs itself is accepted here."
  (skip-unless (gnutls-available-p))
  (dolist (cert '("selfsigned" "expired" "wronghost"))
    (smtpmail-native-trust-tests--with
        (append (smtpmail-native-trust-tests--for-emacs cert) '("next")
                (smtpmail-native-trust-tests--script cert 1))
      (setq answer "always")
      (ert-info (cert)
        (should (smtpmail-native-trust-tests--by-emacs port))
        (should (= (length asked) 1))
        (should (eq (smtpmail-native-trust-tests--send) t))
        (should (= (length asked) 1))
        (smtpmail-native-test-verdict server)))))

(ert-deftest smtpmail-native-trust-tests-accepted-for-emacs ()
  "What was accepted here is accepted for a connection of Emacs itself."
  (skip-unless (gnutls-available-p))
  (dolist (cert '("selfsigned" "expired" "wronghost"))
    (smtpmail-native-trust-tests--with
        (append (smtpmail-native-trust-tests--script cert 1) '("next")
                (smtpmail-native-trust-tests--for-emacs cert))
      (setq answer "always")
      (ert-info (cert)
        (should (eq (smtpmail-native-trust-tests--send) t))
        (setq answer "no"
              nsm-permanent-host-settings nil)
        (should (smtpmail-native-trust-tests--by-emacs port))
        (should (= (length asked) 1))
        (smtpmail-native-test-verdict server)))))

(provide 'smtpmail-native-trust-tests)
;;; smtpmail-native-trust-tests.el ends here
