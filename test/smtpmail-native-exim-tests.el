;;; smtpmail-native-exim-tests.el --- Mail to a real Exim  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Exim, on ports of the loopback and with files in a folder of its own, takes
;; mail into its spool, which is looked at.  It offers PIPELINING, CHUNKING, DSN
;; and PIPECONNECT, and refuses by addresses at each stage.  Without Exim, or for
;; anybody but root, whom alone it lets name its configuration and keeps its
;; rights, the tests are skipped.

;;; Code:

(require 'smtpmail-native-server-helper)

(defconst smtpmail-native-exim-tests--program
  (and (zerop (user-uid)) (smtpmail-native-server-program "exim4" "exim"))
  "The file of Exim, or nil.")

(defvar smtpmail-native-exim-tests--limits "message_size_limit = 60M"
  "The line of Exim's configuration that tells how much it takes.")

(defconst smtpmail-native-exim-tests--rules
  "begin acl
acl_helo:
  deny condition = ${if match{$sender_helo_name}{refused}}
       message = 5.7.1 not this name
  accept
acl_mail:
  deny senders = refused@example.org
  defer senders = later@example.org
  accept
acl_rcpt:
  deny local_parts = nobody
  defer local_parts = later
  drop local_parts = gone
  accept
acl_predata:
  deny senders = data@example.org
  defer senders = data-later@example.org
  accept
acl_data:
  deny senders = end@example.org
  defer senders = end-later@example.org
  accept
begin routers
local:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = MAIL
  user = nobody
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
"
  "What follows the main part of Exim's configuration.")

(defun smtpmail-native-exim-tests--configure (folder ports)
  "Write Exim's configuration for PORTS into FOLDER, and return its name.
The first port speaks TLS from the start."
  (let ((file (expand-file-name "conf" folder)))
    (dolist (name '("good.pem" "good.key"))
      (copy-file (smtpmail-native-test-cert name) (expand-file-name name folder)))
    (with-temp-file file
      (insert
       (format "MAIL = %1$smail
primary_hostname = exim.example
spool_directory = %1$sspool
log_file_path = %1$s%%slog
exim_user = root
exim_group = root
never_users =
keep_environment =
acl_smtp_helo = acl_helo
acl_smtp_mail = acl_mail
acl_smtp_rcpt = acl_rcpt
acl_smtp_predata = acl_predata
acl_smtp_data = acl_data
dsn_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = %1$sgood.pem
tls_privatekey = %1$sgood.key
local_interfaces = 127.0.0.1
daemon_smtp_ports = %2$d : %3$d
tls_on_connect_ports = %2$d
pipelining_advertise_hosts = *
pipelining_connect_advertise_hosts = *
queue_only = true
%4$s
" folder (car ports) (cadr ports) smtpmail-native-exim-tests--limits)
       smtpmail-native-exim-tests--rules))
    (make-directory (expand-file-name "mail" folder))
    (smtpmail-native-server-call nil "chown" "nobody"
                                 (expand-file-name "mail" folder))
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
    (smtpmail-native-server-check-partial tls-port 'ssl)
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

(ert-deftest smtpmail-native-exim-tests-stages ()
  "A refusal is told as such at whatever stage it comes, and the next one goes."
  (smtpmail-native-exim-tests--with
    (let ((smtpmail-native-idle-seconds 5))
      (smtpmail-native-server-check-name tls-port 'ssl)
      (dolist (smtpmail-native-chunking '(nil t))
        ;; It has no rule before content in chunks.
        (smtpmail-native-server-check-senders
         tls-port 'ssl (and smtpmail-native-chunking "data"))
        (smtpmail-native-server-check-recipients tls-port 'ssl
                                                 'smtpmail-native-refused))
      (smtpmail-native-exim-tests--send tls-port 'ssl "yes\n")
      (should (equal (smtpmail-native-exim-tests--bodies folder)
                     '("yes\n"))))))

(ert-deftest smtpmail-native-exim-tests-limits ()
  "Messages that are too large or too many, and recipients that are too many.
Exim says 421 to the fourth message on a connection, and 452 to the third
recipient."
  (let ((smtpmail-native-exim-tests--limits
         "message_size_limit = 100K\nsmtp_accept_max_per_connection = 3
recipients_max = 2"))
    (smtpmail-native-exim-tests--with
      (let ((smtpmail-native-idle-seconds 5)
            (wanted nil))
        (dolist (smtpmail-native-chunking '(nil t))
          (smtpmail-native-server-check-large tls-port 'ssl)
          (dotimes (i 8)
            (push (format "%s %d\n" smtpmail-native-chunking i) wanted)
            (smtpmail-native-exim-tests--send tls-port 'ssl (car wanted))))
        (dotimes (_ 3) (push "many\n" wanted))
        (smtpmail-native-exim-tests--send
         tls-port 'ssl "many\n" "a@example.org, b@example.org, c@example.org, \
d@example.org, e@example.org")
        (should (equal (smtpmail-native-exim-tests--bodies folder)
                       (sort wanted #'string<)))))))

(ert-deftest smtpmail-native-exim-tests-dsn ()
  "What the user wants to be told is told, and what not is not."
  (smtpmail-native-exim-tests--with
    (pcase-dolist (`(,smtpmail-native-dsn-notify ,body)
                   '(((success failure) "told\n") ((never) "not told\n")))
      (smtpmail-native-exim-tests--send tls-port 'ssl body))
    (should (equal (smtpmail-native-exim-tests--bodies folder)
                   '("not told\n" "told\n")))
    ;; The first run delivers, the second what it has to say of that.
    (dotimes (_ 2)
      (smtpmail-native-server-call nil smtpmail-native-exim-tests--program "-C"
                                   (expand-file-name "conf" folder) "-qff"))
    (let* ((messages (smtpmail-native-server-maildir
                      (expand-file-name "mail" folder)))
           (told (seq-filter (lambda (message)
                               (string-match-p "^Action: delivered" message))
                             messages)))
      (should (= 3 (length messages)))
      (should (= 1 (length told)))
      (should (string-match-p "^To: alice@example.org" (car told))))))

(provide 'smtpmail-native-exim-tests)
;;; smtpmail-native-exim-tests.el ends here
