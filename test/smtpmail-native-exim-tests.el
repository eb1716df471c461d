;;; smtpmail-native-exim-tests.el --- Mail to a real Exim  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Exim, on ports of the loopback and with files in a folder of its own, takes
;; mail into its spool, which is looked at.  It offers PIPELINING, CHUNKING and
;; PIPECONNECT.  Without Exim, or for anybody but root, whom alone it lets name
;; its configuration and keeps its rights, the tests are skipped.

;;; Code:

(require 'smtpmail-native-server-helper)

(defconst smtpmail-native-exim-tests--program
  (and (zerop (user-uid)) (smtpmail-native-server-program "exim4" "exim"))
  "The file of Exim, or nil.")

(defun smtpmail-native-exim-tests--configure (folder ports)
  "Write Exim's configuration for PORTS into FOLDER, and return its name.
The first port speaks TLS from the start."
  (let ((file (expand-file-name "conf" folder)))
    (dolist (name '("good.pem" "good.key"))
      (copy-file (smtpmail-native-test-cert name) (expand-file-name name folder)))
    (with-temp-file file
      (insert
       (format "primary_hostname = exim.example
spool_directory = %1$sspool
log_file_path = %1$s%%slog
exim_user = root
exim_group = root
never_users =
keep_environment =
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = accept
tls_advertise_hosts = *
tls_certificate = %1$sgood.pem
tls_privatekey = %1$sgood.key
local_interfaces = 127.0.0.1
daemon_smtp_ports = %2$d : %3$d
tls_on_connect_ports = %2$d
pipelining_advertise_hosts = *
pipelining_connect_advertise_hosts = *
message_size_limit = 60M
queue_only = true
begin acl
acl_rcpt:
  deny local_parts = nobody
  accept
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{alice}}{eq{$auth3}{secret}}}}
  server_set_id = $auth2
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${if eq{$auth1}{alice}{secret}fail}
  server_set_id = $auth1
" folder (car ports) (cadr ports))))
    (set-file-modes file #o600)
    file))

(defmacro smtpmail-native-exim-tests--with (&rest body)
  "Run BODY with an Exim on `tls-port' and `clear-port', its files in `folder'."
  (declare (indent 0) (debug t))
  `(progn
     (smtpmail-native-server-need smtpmail-native-exim-tests--program)
     (let* ((ports (smtpmail-native-server-ports 2))
            (tls-port (car ports))
            (clear-port (cadr ports))
            exim)
       (ignore tls-port clear-port)
       (smtpmail-native-server-with-client ports
         (unwind-protect
             (progn
               (setq exim
                     (smtpmail-native-server-start
                      "Exim"
                      (list smtpmail-native-exim-tests--program "-C"
                            (smtpmail-native-exim-tests--configure folder ports)
                            "-bdf" "-oP" (expand-file-name "pid" folder))
                      (lambda ()
                        (cl-every #'smtpmail-native-server-listens-p ports))))
               ,@body)
           (smtpmail-native-server-hang-up)
           (smtpmail-native-server-stop exim))))))

(defun smtpmail-native-exim-tests--send (port stream body &optional to)
  "Send BODY to TO by STREAM to PORT, and wait."
  (smtpmail-native-server-send port body :stream stream
                               :to (or to "bob@example.org")))

(defun smtpmail-native-exim-tests--bodies (folder)
  "Return the bodies of the messages in the spool of FOLDER, sorted."
  (sort (mapcar (lambda (file)
                  (with-temp-buffer
                    (set-buffer-multibyte nil)
                    (insert-file-contents-literally file)
                    (forward-line)      ; its own name
                    (buffer-substring (point) (point-max))))
                (file-expand-wildcards
                 (expand-file-name "spool/input/*-D" folder)))
        #'string<))

(ert-deftest smtpmail-native-exim-tests-early ()
  "The second connection does not wait for the greeting.
With STARTTLS it does, since what was offered in clear may be forged, but
inside TLS it does not wait for the reply to EHLO.  In clear AUTH waits."
  (smtpmail-native-exim-tests--with
    (let ((smtpmail-native-idle-seconds 0)
          (wanted nil))
      (pcase-dolist (`(,port ,stream) `((,tls-port ssl) (,clear-port starttls)
                                        (,clear-port plain)))
        (dotimes (i 2)
          (let ((body (format "%s %d\n.\n..dots\n" stream i)))
            (push body wanted)
            (smtpmail-native-exim-tests--send port stream body))
          (smtpmail-native-module-shutdown 5000)
          (should (eq (and (string-match-p
                            (pcase stream
                              ('ssl "\\`C: EHLO .*\nC: AUTH ")
                              ('starttls
                               "C: STARTTLS\n.*\nC: EHLO .*\nC: AUTH ")
                              ('plain "\\`C: EHLO .*\nS: 220 "))
                            (smtpmail-native-server-trace))
                           t)
                      (= i 1)))))
      (should (equal (smtpmail-native-exim-tests--bodies folder)
                     (sort wanted #'string<))))))

(ert-deftest smtpmail-native-exim-tests-kept ()
  "One connection carries many mails, in DATA and in chunks, small and large."
  (dolist (smtpmail-native-chunking '(nil t))
    (smtpmail-native-exim-tests--with
      (let ((bodies (list "one\n" "two\n.\n"
                          (concat (make-string 200 ?x) "\n"
                                  (apply #'concat
                                         (make-list 20000 "a line of text\n")))
                          "four\n"))
            (smtpmail-native-idle-seconds 5))
        (dolist (body bodies)
          (smtpmail-native-exim-tests--send tls-port 'ssl body))
        (should (equal (smtpmail-native-exim-tests--bodies folder)
                       (sort (copy-sequence bodies) #'string<)))
        (should (eq (and (string-match-p "^C: BDAT "
                                         (smtpmail-native-server-trace))
                         t)
                    smtpmail-native-chunking))))))

(ert-deftest smtpmail-native-exim-tests-refused ()
  "A refused recipient spoils neither the others, if so wanted, nor the next mail."
  (smtpmail-native-exim-tests--with
    (dolist (smtpmail-native-chunking '(nil t))
      (dolist (to '("nobody@example.org" "bob@example.org, nobody@example.org"))
        (should-error (smtpmail-native-exim-tests--send tls-port 'ssl "no\n" to)
                      :type 'smtpmail-native-refused)))
    (should-not (smtpmail-native-exim-tests--bodies folder))
    ;; The others have got it, and a script hears of the rest.
    (let ((smtpmail-native-partial-recipients t))
      (should-error (smtpmail-native-exim-tests--send
                     tls-port 'ssl "some\n"
                     "bob@example.org, nobody@example.org")
                    :type 'smtpmail-native-refused))
    (smtpmail-native-exim-tests--send tls-port 'ssl "yes\n")
    (should (equal (smtpmail-native-exim-tests--bodies folder)
                   '("some\n" "yes\n")))))

(ert-deftest smtpmail-native-exim-tests-mechanisms ()
  "CRAM-MD5 and PLAIN are accepted, a wrong password is not."
  (smtpmail-native-exim-tests--with
    (dolist (mechanism '(cram-md5 plain))
      (let ((smtpmail-native-auth-mechanisms (list mechanism)))
        (smtpmail-native-exim-tests--send clear-port 'starttls "x\n")
        (should (string-match-p
                 (concat "^C: AUTH " (upcase (symbol-name mechanism)))
                 (smtpmail-native-server-trace)))
        (setf (nth 3 (cadr smtpmail-auth-credentials)) "wrong")
        (should-error (smtpmail-native-exim-tests--send clear-port 'starttls "y\n")
                      :type 'smtpmail-native-auth-error)
        (setf (nth 3 (cadr smtpmail-auth-credentials)) "secret")))
    (should (equal (smtpmail-native-exim-tests--bodies folder)
                   '("x\n" "x\n")))))

(provide 'smtpmail-native-exim-tests)
;;; smtpmail-native-exim-tests.el ends here
