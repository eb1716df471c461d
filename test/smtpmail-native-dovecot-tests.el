;;; smtpmail-native-dovecot-tests.el --- Authenticate to a real server -*- lexical-binding: t -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; Dovecot's submission service, on ports of the loopback and with files in a
;; folder of its own, hands what it takes to the scripted server.  Every
;; mechanism that it knows gets a mail through.  Without Dovecot, or where it
;; does not start, the tests are skipped.

;;; Code:

(require 'smtpmail-native-server-helper)
(require 'gnutls)

(defconst smtpmail-native-dovecot-tests--program
  (smtpmail-native-server-program "dovecot")
  "The file of Dovecot, or nil.")

(defconst smtpmail-native-dovecot-tests--submission
  (seq-find #'file-executable-p '("/usr/lib/dovecot/submission-login"
                                  "/usr/libexec/dovecot/submission-login"))
  "The file of Dovecot's submission service, or nil.")

(defvar smtpmail-native-dovecot-tests--kerberos nil
  "Non-nil while Dovecot is to know GSSAPI.")

(defconst smtpmail-native-dovecot-tests--relay
  '("S: 220 relay.example" "C: EHLO *" "S: 250-relay.example"
    "S: 250 8BITMIME" "C: MAIL FROM:<alice@example.org>*" "S: 250 fine"
    "C: RCPT TO:<bob@example.org>*" "S: 250 fine" "C: DATA" "S: 354 go"
    "data" "S: 250 taken" "C: QUIT" "S: 221 bye")
  "What the server behind Dovecot does, once per connection.")

(defconst smtpmail-native-dovecot-tests--version
  (and smtpmail-native-dovecot-tests--program
       (with-temp-buffer
         (call-process smtpmail-native-dovecot-tests--program nil t nil
                       "--version")
         (goto-char (point-min))
         (and (looking-at "[0-9.]+") (match-string 0))))
  "The version of Dovecot, or nil.")

(defconst smtpmail-native-dovecot-tests--new
  (and smtpmail-native-dovecot-tests--version
       (version<= "2.4" smtpmail-native-dovecot-tests--version))
  "Non-nil if Dovecot's configuration is that of 2.4.")

(defconst smtpmail-native-dovecot-tests--passwords
  (append '("PLAIN" "LOGIN" "CRAM-MD5" "DIGEST-MD5" "SCRAM-SHA-1"
            "SCRAM-SHA-256")
          (and smtpmail-native-dovecot-tests--new
               '("SCRAM-SHA-1-PLUS" "SCRAM-SHA-256-PLUS")))
  "The mechanisms of this Dovecot that take a password.")

(defconst smtpmail-native-dovecot-tests--best
  (if smtpmail-native-dovecot-tests--new "SCRAM-SHA-256-PLUS" "SCRAM-SHA-256")
  "The mechanism that is taken where all are offered.")

(defun smtpmail-native-dovecot-tests--words (mechanisms)
  "Return the list MECHANISMS as Dovecot writes it."
  (downcase (mapconcat #'identity mechanisms " ")))

(defun smtpmail-native-dovecot-tests--config-services (folder port relay-port)
  "Return what all Dovecots read for FOLDER, PORT and RELAY-PORT, as lines."
  (let ((root (zerop (user-uid))))
    `(,(format "base_dir = %s/run" folder)
      ,(format "state_dir = %s/state" folder)
      ,(format "log_path = %s/log" folder)
      "protocols = submission" "listen = 127.0.0.1"
      "hostname = dovecot.example" "auth_failure_delay = 0"
      "auth_username_chars ="
      ,@(unless root
          (list (format "default_internal_user = %s" (user-login-name))
                (format "default_internal_group = %s" (group-name (group-gid)))
                (format "default_login_user = %s" (user-login-name))))
      "service anvil {" "  chroot ="
      "  unix_listener anvil-auth-penalty {" "    mode = 0" "  }" "}"
      "service stats {" "  chroot =" "}"
      "service submission-login {" "  chroot ="
      "  inet_listener submission {" ,(format "    port = %d" port) "  }"
      "  inet_listener submissions {" "    port = 0" "  }" "}"
      "service auth {" "  unix_listener auth-postfix {" "    mode = 0666" "  }"
      "}"
      "submission_relay_host = 127.0.0.1"
      ,(format "submission_relay_port = %d" relay-port)
      "ssl = required" "auth_ssl_username_from_cert = yes"
      ,(concat "auth_mechanisms = "
               (smtpmail-native-dovecot-tests--words
                `(,@smtpmail-native-dovecot-tests--passwords
                  "oauthbearer" "xoauth2" "external"
                  ,@(and smtpmail-native-dovecot-tests--kerberos '("gssapi")))))
      ,(format "auth_krb5_keytab = %s/keytab" folder)
      "auth_gssapi_hostname = \"$ALL\"" "first_valid_uid = 1")))

(defun smtpmail-native-dovecot-tests--config-2.3 (folder user group)
  "Return what Dovecot 2.3 reads for FOLDER, as lines.
Mail belongs to USER and GROUP."
  `(,(format "ssl_cert = <%s" (smtpmail-native-test-cert "good.pem"))
    ,(format "ssl_key = <%s" (smtpmail-native-test-cert "good.key"))
    ,(format "ssl_ca = <%s" (smtpmail-native-test-cert "ca.pem"))
    "ssl_require_crl = no" "ssl_verify_client_cert = yes"
    "ssl_cert_username_field = commonName"
    "import_environment = $import_environment KRB5_CONFIG"
    "passdb {" "  driver = passwd-file" ,(format "  args = %s/users" folder)
    ,(concat "  mechanisms = "
             (smtpmail-native-dovecot-tests--words
              smtpmail-native-dovecot-tests--passwords))
    "}"
    "passdb {" "  driver = oauth2" ,(format "  args = %s/oauth2" folder)
    "  mechanisms = oauthbearer xoauth2" "}"
    "passdb {" "  driver = static" "  args = nopassword"
    "  mechanisms = external gssapi" "}"
    "userdb {" "  driver = static"
    ,(format "  args = uid=%s gid=%s home=%s/home" user group folder) "}"
    "mail_location = maildir:~/mail"))

(defun smtpmail-native-dovecot-tests--config-2.4 (folder user group)
  "Return what Dovecot 2.4 reads for FOLDER, as lines.
Mail belongs to USER and GROUP."
  `(,(format "ssl_server_cert_file = %s" (smtpmail-native-test-cert "good.pem"))
    ,(format "ssl_server_key_file = %s" (smtpmail-native-test-cert "good.key"))
    ,(format "ssl_server_ca_file = %s" (smtpmail-native-test-cert "ca.pem"))
    "ssl_server_require_crl = no" "ssl_server_request_client_cert = yes"
    "import_environment {" "  KRB5_CONFIG = %{env:KRB5_CONFIG}" "}"
    "passdb passwd-file {" ,(format "  passwd_file_path = %s/users" folder)
    ,(concat "  mechanisms_filter = "
             (smtpmail-native-dovecot-tests--words
              smtpmail-native-dovecot-tests--passwords))
    "}"
    "oauth2 {" "  introspection_mode = local" "  username_attribute = sub"
    "  oauth2_local_validation {" "    dict fs {" "      fs posix {"
    ,(format "        prefix = %s/keys/" folder) "      }" "    }" "  }" "}"
    "passdb static {" "  fields {" "    nopassword = yes" "  }"
    "  mechanisms_filter = external gssapi" "}"
    "userdb static {" "  fields {" ,(format "    uid = %s" user)
    ,(format "    gid = %s" group) ,(format "    home = %s/home" folder)
    "  }" "}"
    "mail_driver = maildir" "mail_path = ~/mail"))

(defun smtpmail-native-dovecot-tests--config (folder port relay-port)
  "Return Dovecot's configuration for FOLDER, PORT and RELAY-PORT."
  (let* ((root (zerop (user-uid)))
         (user (if root "dovecot" (user-login-name)))
         (group (if root "dovecot" (group-name (group-gid)))))
    (mapconcat
     #'identity
     (append
      ;; The version has to come first.
      (and smtpmail-native-dovecot-tests--new
           '("dovecot_config_version = 2.4.0" "dovecot_storage_version = 2.4.0"))
      (smtpmail-native-dovecot-tests--config-services folder port relay-port)
      (if smtpmail-native-dovecot-tests--new
          (smtpmail-native-dovecot-tests--config-2.4 folder user group)
        (smtpmail-native-dovecot-tests--config-2.3 folder user group))
      '(""))
     "\n")))

;; Kerberos

(defun smtpmail-native-dovecot-tests--realm (folder port)
  "Make a realm in FOLDER whose KDC is at PORT, with its principals."
  (with-temp-file (expand-file-name "krb5.conf" folder)
    (insert "[libdefaults]\n default_realm = EXAMPLE.TEST\n"
            " dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " rdns = false\n dns_canonicalize_hostname = false\n"
            (format "[realms]\n EXAMPLE.TEST = {\n  kdc = 127.0.0.1:%d\n" port)
            (format "  database_name = %s/principal\n" folder)
            (format "  key_stash_file = %s/stash\n" folder)
            (format "  kdc_listen = 127.0.0.1:%d\n" port)
            (format "  kdc_tcp_listen = 127.0.0.1:%d\n }\n" port)
            "[domain_realm]\n localhost = EXAMPLE.TEST\n"))
  (smtpmail-native-server-call nil "kdb5_util" "create" "-s"
                                       "-P" "master")
  (dolist (query (list "addprinc -pw correct-horse tim"
                       "addprinc -randkey smtp/localhost"
                       (format "ktadd -k %s/keytab smtp/localhost" folder)))
    (smtpmail-native-server-call nil "kadmin.local" "-q" query))
  (set-file-modes (expand-file-name "keytab" folder) #o644))

(defun smtpmail-native-dovecot-tests--key ()
  "Return the key that signs tokens."
  "four-thousand-seven-hundred-eleven")

(defun smtpmail-native-dovecot-tests--token (user lifetime)
  "Return a token (RFC 7519) for USER that is good for LIFETIME seconds."
  (let* ((now (truncate (float-time)))
         (head (base64url-encode-string "{\"alg\":\"HS256\",\"typ\":\"JWT\"}" t))
         (body (base64url-encode-string
                (format "{\"sub\":\"%s\",\"iat\":%d,\"exp\":%d}"
                        user (- now 3600) (+ now lifetime))
                t))
         (text (concat head "." body)))
    (concat text "."
            (base64url-encode-string
             (gnutls-hash-mac 'SHA256
                              (smtpmail-native-dovecot-tests--key) text)
             t))))

(defun smtpmail-native-dovecot-tests--write (folder port relay-port)
  "Write all that Dovecot reads in FOLDER, for PORT and RELAY-PORT."
  (let ((coding-system-for-write 'utf-8)
        (keys (expand-file-name "keys/default/HS256" folder)))
    (make-directory keys t)
    (make-directory (expand-file-name "home" folder))
    (with-temp-file (expand-file-name "default" keys)
      (insert (base64-encode-string (smtpmail-native-dovecot-tests--key) t)))
    (with-temp-file (expand-file-name "users" folder)
      (insert "tim:{PLAIN}correct-horse::::::\n"
              "jörg:{PLAIN}pässword::::::\n"))
    (with-temp-file (expand-file-name "oauth2" folder)
      (insert "introspection_mode = local\nusername_attribute = sub\n"
              (format "local_validation_key_dict = fs:posix:prefix=%s/keys/\n"
                      folder)))
    (with-temp-file (expand-file-name "dovecot.conf" folder)
      (insert (smtpmail-native-dovecot-tests--config folder port relay-port)))
    (with-temp-file (expand-file-name "relay.smtp" folder)
      (dolist (line smtpmail-native-dovecot-tests--relay)
        (insert line "\n")))
    (set-file-modes folder #o755)
    (when (zerop (user-uid))
      (call-process "chown" nil nil nil "-R" "dovecot"
                    (expand-file-name "home" folder)))))

(defvar smtpmail-native-dovecot-tests--before nil
  "Functions that are called with the folder before Dovecot starts.")

(defmacro smtpmail-native-dovecot-tests--with (&rest body)
  "Run BODY with a Dovecot at `port', its files in `folder'."
  (declare (debug t))
  `(let* ((folder (make-temp-file "smtpmail-native" t))
          (ports (smtpmail-native-server-ports 2))
          (port (car ports))
          (relay-port (cadr ports))
          relay dovecot)
     (unwind-protect
         (progn
           (smtpmail-native-dovecot-tests--write folder port relay-port)
           (run-hook-with-args 'smtpmail-native-dovecot-tests--before folder)
           (setq relay (make-process
                        :name "relay" :noquery t
                        :buffer (generate-new-buffer " *relay*")
                        :command (list (smtpmail-native-test-peer)
                                       "--port" (number-to-string relay-port)
                                       "--deliver" folder
                                       "--connections" "100"
                                       (expand-file-name "relay.smtp" folder)))
                 dovecot (smtpmail-native-server-start
                          "Dovecot"
                          (list smtpmail-native-dovecot-tests--program
                                "-F" "-c" (expand-file-name "dovecot.conf"
                                                            folder))
                          (lambda () (smtpmail-native-server-greets-p port))))
           ,@body)
       (mapc #'smtpmail-native-server-stop (list dovecot relay))
       (delete-directory folder t))))

(defun smtpmail-native-dovecot-tests--send (port &rest job)
  "Send a mail as JOB says through PORT, and return the plist of its end."
  (smtpmail-native-load)
  (let* ((file (make-temp-file "smtpmail-native" nil nil "Subject: x\n\nx\n"))
         (id (smtpmail-native-module-send
              (append job
                      (list :host "localhost" :port port :stream 'starttls
                            :helo "client.example" :timeout-ms 10000
                            :trustfiles (list (smtpmail-native-test-cert
                                               "ca.pem"))
                            :auth t :file file
                            :sender "alice@example.org"
                            :recipients '("bob@example.org"))))))
    (unwind-protect
        (smtpmail-native-test-event id 'done)
      (delete-file file))))

(defun smtpmail-native-dovecot-tests--delivered (folder)
  "Return how many mails the relay has written into FOLDER."
  (length (directory-files folder nil "\\.eml\\'")))

(defun smtpmail-native-dovecot-tests--jobs ()
  "Return a list of (MECHANISM . JOB) that Dovecot has to let through."
  (let ((token (smtpmail-native-dovecot-tests--token "tim" 3600))
        (utf-8 (lambda (text) (encode-coding-string text 'utf-8))))
    `(,@(mapcar (lambda (mechanism)
                  (list mechanism :user "tim" :password "correct-horse"
                        :mechanisms mechanism))
                smtpmail-native-dovecot-tests--passwords)
      (,smtpmail-native-dovecot-tests--best :user "tim" :password "correct-horse")
      (,smtpmail-native-dovecot-tests--best :user ,(funcall utf-8 "jörg")
       :password ,(funcall utf-8 "pässword"))
      ("PLAIN" :user ,(funcall utf-8 "jörg") :mechanisms "PLAIN"
       :password ,(funcall utf-8 "pässword"))
      ("OAUTHBEARER" :user "tim" :password ,token :token t)
      ("XOAUTH2" :user "tim" :password ,token :token t :mechanisms "XOAUTH2")
      ("EXTERNAL" :cert ,(smtpmail-native-test-cert "client.pem")
       :key ,(smtpmail-native-test-cert "client.key")))))

(ert-deftest smtpmail-native-dovecot-tests-mechanisms ()
  "Every mechanism gets a mail through Dovecot."
  (smtpmail-native-server-need smtpmail-native-dovecot-tests--program
                               smtpmail-native-dovecot-tests--submission)
  (smtpmail-native-dovecot-tests--with
   (let ((count 0))
     (pcase-dolist (`(,mechanism . ,job) (smtpmail-native-dovecot-tests--jobs))
       (let ((result (apply #'smtpmail-native-dovecot-tests--send port job)))
         (should (equal (list mechanism 'ok "")
                        (list (plist-get result :mechanism)
                              (plist-get result :kind)
                              (plist-get result :text))))
         (should (= (setq count (1+ count))
                    (smtpmail-native-dovecot-tests--delivered folder))))))))

(ert-deftest smtpmail-native-dovecot-tests-refusals ()
  "What Dovecot refuses is told as it is."
  (smtpmail-native-server-need smtpmail-native-dovecot-tests--program
                               smtpmail-native-dovecot-tests--submission)
  (smtpmail-native-dovecot-tests--with
   (dolist (mechanism smtpmail-native-dovecot-tests--passwords)
     (let ((result (smtpmail-native-dovecot-tests--send
                    port :user "tim" :password "wrong"
                    :mechanisms mechanism)))
       (should (eq (plist-get result :kind) 'auth))
       (should-not (plist-get result :token-refused))))
   (dolist (mechanism '("OAUTHBEARER" "XOAUTH2"))
     (let ((result (smtpmail-native-dovecot-tests--send
                    port :user "tim" :token t :mechanisms mechanism
                    :password (smtpmail-native-dovecot-tests--token
                               "tim" -60))))
       (should (eq (plist-get result :kind) 'auth))
       (should (plist-get result :token-refused))
       (should (string-match-p "status \\(?:invalid_token\\|40[01]\\)"
                               (plist-get result :text)))))
   (should (zerop (smtpmail-native-dovecot-tests--delivered folder)))))

(defun smtpmail-native-dovecot-tests--send-by-ticket (port timeout-ms)
  "Send a mail through PORT as the ticket says, in an Emacs of its own.
TIMEOUT-MS is that of each wait.
Return its plist as it is printed.  Kerberos reads the environment of the
process, which no Lisp can change."
  (with-temp-buffer
    (call-process (expand-file-name invocation-name invocation-directory)
                  nil '(t nil) nil "-Q" "--batch"
                  "-L" smtpmail-native-test-folder
                  "-L" (expand-file-name "lisp" smtpmail-native-test-folder)
                  "-L" (expand-file-name "test" smtpmail-native-test-folder)
                  "-l" "smtpmail-native-dovecot-tests"
                  "--eval"
                  (format "(prin1 (smtpmail-native-dovecot-tests--send %d %s))"
                          port
                          (format (concat ":mechanisms \"GSSAPI\""
                                          " :timeout-ms %d :trustfiles '(%S)")
                                  timeout-ms
                                  (smtpmail-native-test-cert "ca.pem"))))
    (buffer-string)))

(ert-deftest smtpmail-native-dovecot-tests-gssapi ()
  "A ticket of Kerberos gets a mail through Dovecot, and none does not."
  (let ((exec-path (append exec-path '("/usr/sbin" "/usr/local/sbin"))))
    (smtpmail-native-server-need
     smtpmail-native-dovecot-tests--program
     smtpmail-native-dovecot-tests--submission
     (file-exists-p "/usr/lib/dovecot/modules/auth/libmech_gssapi.so")
     (cl-every #'executable-find
               '("krb5kdc" "kdb5_util" "kadmin.local" "kinit"))))
  (let* ((kdc-port (car (smtpmail-native-server-ports 1)))
         (process-environment (copy-sequence process-environment))
         (smtpmail-native-dovecot-tests--kerberos t)
         kdc
         (smtpmail-native-dovecot-tests--before
          (list (lambda (folder)
                  (setenv "KRB5_CONFIG" (expand-file-name "krb5.conf" folder))
                  (setenv "KRB5_KDC_PROFILE"
                          (expand-file-name "krb5.conf" folder))
                  (setenv "KRB5CCNAME"
                          (concat "FILE:" (expand-file-name "tickets" folder)))
                  (smtpmail-native-dovecot-tests--realm folder kdc-port)
                  (let ((exec-path (append exec-path '("/usr/sbin"))))
                    (setq kdc (make-process :name "kdc" :noquery t
                                            :command '("krb5kdc" "-n"))))))))
    (unwind-protect
        (smtpmail-native-dovecot-tests--with
         (let ((said (smtpmail-native-dovecot-tests--send-by-ticket port 10000)))
           (should (string-match-p ":kind auth" said))
           (should (string-match-p "GSSAPI: " said)))
         (smtpmail-native-test-wait
          (lambda ()
            (ignore-errors
              (smtpmail-native-server-call "correct-horse\n" "kinit"
                                                   "tim")
              t)))
         ;; A KDC that does not answer is waited for no longer than a server.
         (signal-process kdc 'SIGSTOP)
         (let ((said (smtpmail-native-dovecot-tests--send-by-ticket port 500)))
           (should (string-match-p ":kind timeout :stage auth" said)))
         (signal-process kdc 'SIGCONT)
         (let ((said (smtpmail-native-dovecot-tests--send-by-ticket port 10000)))
           (should (string-match-p ":kind ok" said))
           (should (string-match-p ":mechanism \"GSSAPI\"" said)))
         (should (= 1 (smtpmail-native-dovecot-tests--delivered folder))))
      (when kdc
        (delete-process kdc)))))

(provide 'smtpmail-native-dovecot-tests)
;;; smtpmail-native-dovecot-tests.el ends here
