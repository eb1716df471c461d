;;; smtpmail-native-postfix-tests.el --- Mail to a real Postfix -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Postfix delivers what it takes into a maildir, and Dovecot tells it who is
;; who.  Its rules refuse by addresses at each stage.  Only root can start it.

;;; Code:

(require 'smtpmail-native-server-helper)
(require 'smtpmail-native-dovecot-tests)

(defconst smtpmail-native-postfix-tests--master
  (and (zerop (user-uid)) (smtpmail-native-server-program "master"))
  "The file of Postfix's first process, or nil.")

(defvar smtpmail-native-postfix-tests--auth nil
  "Non-nil while Postfix asks Dovecot for passwords.")

(defun smtpmail-native-postfix-tests--main (folder)
  "Return main.cf for FOLDER."
  (format "compatibility_level = 3.6
queue_directory = %1$sspool
data_directory = %1$sdata
maillog_file = %1$slog
maillog_file_prefixes = %1$s
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
virtual_alias_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = %1$smail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:%2$s
virtual_gid_maps = static:%3$s
smtpd_delay_reject = no
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 100
smtpd_hard_error_limit = 200
smtpd_tls_cert_file = %1$sgood.pem
smtpd_tls_key_file = %1$sgood.key
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = %1$srun/auth-postfix
smtpd_sasl_auth_enable = %4$s
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_helo_restrictions = check_helo_access texthash:%1$shelo
smtpd_sender_restrictions = check_sender_access texthash:%1$ssender
smtpd_recipient_restrictions = check_recipient_access texthash:%1$srecipient
smtpd_data_restrictions = check_sender_access texthash:%1$sdata-rules
smtpd_end_of_data_restrictions = check_sender_access texthash:%1$send-rules
smtputf8_enable = yes
message_size_limit = 100000
" folder
(string-trim (smtpmail-native-server-call nil "id" "-u" "postfix"))
(string-trim (smtpmail-native-server-call nil "id" "-g" "postfix"))
(if smtpmail-native-postfix-tests--auth "yes" "no")))

(defun smtpmail-native-postfix-tests--services (ports)
  "Return master.cf for the list PORTS.
They are: as usual, TLS from the start, postscreen, few errors, refusing."
  (let ((line (lambda (port rest) (format "127.0.0.1:%d inet n - n - %s\n"
                                          port rest))))
    (concat
     (funcall line (nth 0 ports) "- smtpd")
     (funcall line (nth 1 ports) "- smtpd\n  -o smtpd_tls_wrappermode=yes")
     (funcall line (nth 2 ports)
              (concat "1 postscreen\n  -o postscreen_access_list="
                      "\n  -o postscreen_greet_wait=1s"
                      "\n  -o postscreen_greet_action=enforce"
                      "\n  -o postscreen_pipelining_enable=yes"
                      "\n  -o postscreen_pipelining_action=enforce"
                      "\n  -o postscreen_bare_newline_enable=yes"
                      "\n  -o postscreen_bare_newline_action=enforce"
                      "\n  -o postscreen_non_smtp_command_enable=yes"
                      "\n  -o postscreen_cache_map=internal:cache"))
     (funcall line (nth 3 ports) (concat "- smtpd\n  -o smtpd_hard_error_limit=2"
                                         "\n  -o smtpd_soft_error_limit=1"))
     (funcall line (nth 4 ports)
              "- smtpd\n  -o smtpd_client_restrictions=reject")
     "smtpd pass - - n - - smtpd
tlsproxy unix - - n - 0 tlsproxy
dnsblog unix - - n - 0 dnsblog
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
")))

(defconst smtpmail-native-postfix-tests--rules
  '(("helo" . "refused.example 554 5.7.1 not this name\n")
    ("sender" . "refused@example.org 554 5.7.1 not this sender
later@example.org 450 4.7.1 not this sender yet\n")
    ("recipient" . "nobody@example.org 550 5.1.1 no such user
later@example.org 450 4.2.1 not now
gone@example.org 421 4.7.0 going\n")
    ("data-rules" . "data@example.org 554 5.7.1 no data from you
data-later@example.org 451 4.7.1 no data from you yet\n")
    ("end-rules" . "end@example.org 554 5.7.1 not such content
end-later@example.org 451 4.7.1 not such content yet\n"))
  "Files and what stands in them.")

(defun smtpmail-native-postfix-tests--write (folder ports)
  "Write all that Postfix reads at PORTS into FOLDER."
  (let ((conf (expand-file-name "conf/" folder)))
    (dolist (name '("conf" "spool" "data" "mail"))
      (make-directory (expand-file-name name folder)))
    (dolist (name '("good.pem" "good.key"))
      (copy-file (smtpmail-native-test-cert name)
                 (expand-file-name name folder)))
    (smtpmail-native-server-call
     nil "chown" "postfix" (expand-file-name "data" folder)
     (expand-file-name "mail" folder))
    (dolist (file (file-expand-wildcards "/etc/postfix/post*"))
      (when (file-regular-p file)
        (copy-file file conf)))
    (pcase-dolist (`(,name . ,text)
                   `(("conf/main.cf"
                      . ,(smtpmail-native-postfix-tests--main folder))
                     ("conf/master.cf"
                      . ,(smtpmail-native-postfix-tests--services ports))
                     ,@smtpmail-native-postfix-tests--rules))
      (with-temp-file (expand-file-name name folder)
        (insert text)))
    (smtpmail-native-server-call nil "postfix" "-c" conf "check")))

(defmacro smtpmail-native-postfix-tests--with (&rest body)
  "Run BODY with a Postfix at `ports', its files in `folder'."
  (declare (indent 0) (debug t))
  `(progn
     (smtpmail-native-server-need smtpmail-native-postfix-tests--master)
     (let* ((ports (smtpmail-native-server-ports 5))
            (port (car ports))
            postfix)
       (ignore port)
       (smtpmail-native-server-with-client nil
         (unwind-protect
             (progn
               (smtpmail-native-postfix-tests--write folder ports)
               (setq postfix
                     (smtpmail-native-server-start
                      "Postfix"
                      (list smtpmail-native-postfix-tests--master "-d" "-c"
                            (expand-file-name "conf" folder))
                      (lambda ()
                        (cl-every #'smtpmail-native-server-listens-p ports))))
               (smtpmail-native-load)
               ,@body)
           (smtpmail-native-server-hang-up)
           (smtpmail-native-server-stop postfix))))))

(defun smtpmail-native-postfix-tests--delivered (folder count)
  "Wait for COUNT messages in the maildir of FOLDER, and return them."
  (let ((maildir (expand-file-name "mail/all" folder)) messages)
    (smtpmail-native-test-wait
     (lambda ()
       (>= (length (setq messages (smtpmail-native-server-maildir maildir)))
           count)))
    (should (= count (length messages)))
    messages))

(defun smtpmail-native-postfix-tests--logged (folder regexp)
  "Wait until REGEXP stands in the log of FOLDER."
  (smtpmail-native-test-wait
   (lambda ()
     (string-match-p regexp (smtpmail-native-test-text
                             (expand-file-name "log" folder))))))

(ert-deftest smtpmail-native-postfix-tests-streams ()
  "Messages arrive in clear, by STARTTLS and by TLS, in DATA and in chunks."
  (smtpmail-native-postfix-tests--with
    (let ((wanted nil) (smtpmail-native-idle-seconds 0))
      (dolist (smtpmail-native-chunking '(nil t))
        (pcase-dolist (`(,n ,stream) '((0 plain) (0 starttls) (1 ssl)))
          (let ((body (format "%s %s\n.\n..dots\nFrom here\n" stream
                              smtpmail-native-chunking)))
            (push body wanted)
            (smtpmail-native-server-send (nth n ports) body :stream stream)
            (should (eq (and smtpmail-native-chunking t)
                        (and (string-match-p "^C: BDAT "
                                             (smtpmail-native-server-trace))
                             t))))))
      (should (equal (sort wanted #'string<)
                     (sort (mapcar #'smtpmail-native-server-body
                                   (smtpmail-native-postfix-tests--delivered
                                    folder 6))
                           #'string<))))))

(ert-deftest smtpmail-native-postfix-tests-kept ()
  "One connection carries a hundred messages."
  (smtpmail-native-postfix-tests--with
    (let ((smtpmail-native-idle-seconds 10))
      (dotimes (i 100)
        (smtpmail-native-server-send port (format "message %d\n" i)))
      (smtpmail-native-server-hang-up)
      (smtpmail-native-postfix-tests--logged
       folder "disconnect from .* mail=100 rcpt=100 data=100 quit=1 ")
      (should (= 100 (length (delete-dups
                              (mapcar #'smtpmail-native-server-body
                                      (smtpmail-native-postfix-tests--delivered
                                       folder 100)))))))))

(ert-deftest smtpmail-native-postfix-tests-recipients ()
  "Refused recipients spoil neither the others, if so wanted, nor what follows."
  (smtpmail-native-postfix-tests--with
    (let ((smtpmail-native-idle-seconds 10))
      (dolist (smtpmail-native-chunking '(nil t))
        (smtpmail-native-server-check-recipients port 'starttls
                                                 'smtpmail-native-deferred))
      (smtpmail-native-server-check-partial port 'starttls)
      (smtpmail-native-server-send port "yes\n")
      (should (equal '("some\n" "yes\n")
                     (sort (mapcar #'smtpmail-native-server-body
                                   (smtpmail-native-postfix-tests--delivered
                                    folder 2))
                           #'string<))))))

(ert-deftest smtpmail-native-postfix-tests-stages ()
  "A refusal is told as such at whatever stage it comes, and the next one goes."
  (smtpmail-native-postfix-tests--with
    (let ((smtpmail-native-idle-seconds 10))
      (should-error (smtpmail-native-server-send (nth 4 ports) "no\n")
                    :type 'smtpmail-native-refused)
      (smtpmail-native-server-check-name port 'starttls)
      (dolist (smtpmail-native-chunking '(nil t))
        (smtpmail-native-server-check-senders port 'starttls))
      (smtpmail-native-server-check-large port 'starttls)
      (smtpmail-native-server-send port "yes\n")
      (should (equal '("yes\n")
                     (mapcar #'smtpmail-native-server-body
                             (smtpmail-native-postfix-tests--delivered
                              folder 1)))))))

(ert-deftest smtpmail-native-postfix-tests-errors ()
  "A server that hangs up after some errors puts off what it did not hear."
  (smtpmail-native-postfix-tests--with
    (let ((smtpmail-native-idle-seconds 10) (few (nth 3 ports)))
      (dotimes (_ 4)
        (should-error (smtpmail-native-server-send few "no\n"
                                                   :to "nobody@example.org")
                      :type 'smtpmail-native-refused))
      (should-error (smtpmail-native-server-send
                     few "no\n" :to (mapconcat #'identity
                                               (make-list 5 "nobody@example.org")
                                               ", ")))
      (smtpmail-native-server-send few "yes\n")
      (smtpmail-native-postfix-tests--delivered folder 1))))

(ert-deftest smtpmail-native-postfix-tests-postscreen ()
  "Postscreen finds nothing wrong: it says 450 once, and then lets through."
  (smtpmail-native-postfix-tests--with
    (let ((smtpmail-native-idle-seconds 0) (screen (nth 2 ports)))
      (should-error (smtpmail-native-server-send screen "first\n")
                    :type 'smtpmail-native-deferred)
      (smtpmail-native-server-send screen "second\n")
      ;; By now the server's greeting need not be waited for, it seems.
      (smtpmail-native-server-send screen "third\n")
      (smtpmail-native-postfix-tests--delivered folder 2)
      (with-temp-buffer
        (insert-file-contents (expand-file-name "log" folder))
        (goto-char (point-min))
        (should-not (re-search-forward
                     "PREGREET\\|COMMAND \\|BARE NEWLINE\\|NON-SMTP" nil t))
        (should (re-search-forward "PASS NEW" nil t))))))

(ert-deftest smtpmail-native-postfix-tests-wishes ()
  "A success is told by the server, and an address may have any letters."
  (smtpmail-native-postfix-tests--with
    (let ((smtpmail-native-dsn-notify '(success failure))
          (smtpmail-native-dsn-return 'headers))
      (smtpmail-native-server-send port "told\n")
      (let ((messages (smtpmail-native-postfix-tests--delivered folder 2)))
        (should (cl-some (lambda (message)
                           (string-match-p "^Action: delivered" message))
                         messages))))
    (smtpmail-native-server-send port "jörg\n" :to "jörg@example.org")
    (should (cl-some
             (lambda (message)
               (string-search (encode-coding-string
                               "Delivered-To: jörg@example.org" 'utf-8)
                              message))
             (smtpmail-native-postfix-tests--delivered folder 3)))))

;; Postfix in front of Dovecot, which alone knows passwords

(defun smtpmail-native-postfix-tests--dovecot (folder)
  "Start a Dovecot in FOLDER that tells Postfix who is who; return it."
  (let ((ports (smtpmail-native-server-ports 2)))
    (smtpmail-native-dovecot-tests--write (directory-file-name folder)
                                          (car ports) (cadr ports))
    (smtpmail-native-server-start
     "Dovecot"
     (list smtpmail-native-dovecot-tests--program "-F" "-c"
           (expand-file-name "dovecot.conf" folder))
     (lambda () (file-exists-p (expand-file-name "run/auth-postfix" folder))))))

(defun smtpmail-native-postfix-tests--login (port password mechanisms)
  "Send to PORT as tim with PASSWORD and MECHANISMS; return nil or the error."
  (let ((smtpmail-auth-credentials
         (list (list "localhost" port "tim" password)))
        (smtpmail-native-auth-mechanisms mechanisms))
    (condition-case err
        (progn (smtpmail-native-server-send port "x\n") nil)
      (smtpmail-native-error err))))

(ert-deftest smtpmail-native-postfix-tests-dovecot ()
  "Postfix takes each mechanism that Dovecot knows, with the right password.
A mechanism that is named goes through also where Dovecot knows -PLUS, which
Postfix does not offer, and a wrong password is told as such."
  (smtpmail-native-server-need smtpmail-native-dovecot-tests--program)
  (let ((smtpmail-native-postfix-tests--auth t)
        (smtpmail-native-idle-seconds 0)
        dovecot)
    (smtpmail-native-postfix-tests--with
      (setq dovecot (smtpmail-native-postfix-tests--dovecot folder))
      (unwind-protect
          (progn
            (dolist (mechanism '(plain login cram-md5 digest-md5 scram-sha-1
                                 scram-sha-256))
              (ert-info ((symbol-name mechanism))
                (should-not (smtpmail-native-postfix-tests--login
                             port "correct-horse" (list mechanism)))
                (should (eq 'smtpmail-native-auth-error
                            (car (smtpmail-native-postfix-tests--login
                                  port "wrong-horse" (list mechanism)))))))
            (should-not (smtpmail-native-postfix-tests--login
                         port "correct-horse" '(scram-sha-256 plain)))
            (smtpmail-native-postfix-tests--delivered folder 7))
        (smtpmail-native-server-stop dovecot)))))

(provide 'smtpmail-native-postfix-tests)
;;; smtpmail-native-postfix-tests.el ends here
