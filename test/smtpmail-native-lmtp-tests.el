;;; smtpmail-native-lmtp-tests.el --- Mail to a real server by LMTP  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Dovecot's LMTP service, on a socket and a port of the loopback, delivers into
;; maildirs.  It answers for each recipient by itself: it cannot write into the
;; folder of `broken'.

;;; Code:

(require 'smtpmail-native-server-helper)
(require 'smtpmail-native-dovecot-tests)

(defconst smtpmail-native-lmtp-tests--service
  (seq-find #'file-executable-p '("/usr/lib/dovecot/lmtp"
                                  "/usr/libexec/dovecot/lmtp"))
  "The file of Dovecot's LMTP service, or nil.")

(defun smtpmail-native-lmtp-tests--rest (folder)
  "Return what this version of Dovecot reads of mailboxes in FOLDER, as lines."
  (if smtpmail-native-dovecot-tests--new
      `("ssl = no" "mail_driver = maildir" "mail_path = ~/mail"
        ,@(mapcan (lambda (kind)
                    (list (format "%s passwd-file {" kind)
                          (format "  passwd_file_path = %susers" folder) "}"))
                  '("passdb" "userdb")))
    `("ssl = no" "mail_location = maildir:~/mail"
      ,@(mapcan (lambda (kind)
                  (list (format "%s {" kind) "  driver = passwd-file"
                        (format "  args = %susers" folder) "}"))
                '("passdb" "userdb")))))

(defun smtpmail-native-lmtp-tests--configure (folder port)
  "Write Dovecot's configuration for PORT into FOLDER, and return its name."
  (let ((file (expand-file-name "dovecot.conf" folder))
        (user (string-trim (smtpmail-native-server-call
                            nil "id" "-u" "dovecot")))
        (group (string-trim (smtpmail-native-server-call
                             nil "id" "-g" "dovecot"))))
    (with-temp-file (expand-file-name "users" folder)
      (dolist (name '("bob" "carol" "broken"))
        (let ((home (expand-file-name name folder)))
          (make-directory home)
          (unless (equal name "broken")
            (smtpmail-native-server-call nil "chown" "dovecot" home))
          (insert (format "%s@example.org::%s:%s::%s::\n"
                          name user group home)))))
    (with-temp-file file
      (dolist (line
               (append
                (and smtpmail-native-dovecot-tests--new
                     '("dovecot_config_version = 2.4.0"
                       "dovecot_storage_version = 2.4.0"))
                (list (format "base_dir = %srun" folder)
                      (format "state_dir = %sstate" folder)
                      (format "log_path = %slog" folder)
                      "protocols = lmtp" "listen = 127.0.0.1"
                      "first_valid_uid = 1"
                      "service lmtp {"
                      "  unix_listener lmtp {" "    mode = 0666" "  }"
                      "  inet_listener lmtp {" (format "    port = %d" port)
                      "  }" "}")
                (smtpmail-native-lmtp-tests--rest folder)))
        (insert line "\n")))
    file))

(defmacro smtpmail-native-lmtp-tests--with (&rest body)
  "Run BODY with Dovecot's LMTP at `port' and `socket', files in `folder'."
  (declare (indent 0) (debug t))
  `(progn
     (smtpmail-native-server-need smtpmail-native-dovecot-tests--program
                                  smtpmail-native-lmtp-tests--service
                                  (zerop (user-uid)))
     (let* ((port (car (smtpmail-native-server-ports 1))) dovecot)
       (smtpmail-native-server-with-client nil
         (let* ((socket (expand-file-name "run/lmtp" folder))
                (smtpmail-smtp-server (concat "lmtp:" socket))
                (smtpmail-native-idle-seconds 10))
           (unwind-protect
               (progn
                 (setq dovecot
                       (smtpmail-native-server-start
                        "Dovecot"
                        (list smtpmail-native-dovecot-tests--program "-F" "-c"
                              (smtpmail-native-lmtp-tests--configure folder
                                                                     port))
                        (lambda ()
                          (and (file-exists-p socket)
                               (smtpmail-native-server-greets-p port)))))
                 (smtpmail-native-load)
                 ,@body)
             (smtpmail-native-server-hang-up)
             (smtpmail-native-server-stop dovecot)))))))

(defun smtpmail-native-lmtp-tests--send (port body &rest rest)
  "Send BODY to PORT by LMTP, with REST as for `smtpmail-native-server-send'."
  (apply #'smtpmail-native-server-send port body :stream 'plain rest))

(defun smtpmail-native-lmtp-tests--has (folder name)
  "Return the bodies of the messages that NAME has got in FOLDER, sorted."
  (sort (mapcar (lambda (message)
                  (smtpmail-native-server-body
                   (replace-regexp-in-string "\r\n" "\n" message t t)))
                (smtpmail-native-server-maildir
                 (expand-file-name (concat name "/mail") folder)))
        #'string<))

(ert-deftest smtpmail-native-lmtp-tests-kept ()
  "Many messages go through one connection, to a socket and to a port."
  (smtpmail-native-lmtp-tests--with
    (let (wanted)
      (dolist (smtpmail-native-chunking '(nil t))
        (dolist (smtpmail-smtp-server (list smtpmail-smtp-server
                                            "lmtp:localhost"))
          (dotimes (i 10)
            (push (format "%s %s %d\n.\n..dots\n" smtpmail-native-chunking
                          smtpmail-smtp-server i)
                  wanted)
            (smtpmail-native-lmtp-tests--send
             port (car wanted) :to "bob@example.org, carol@example.org"))))
      (setq wanted (sort wanted #'string<))
      (should (equal wanted (smtpmail-native-lmtp-tests--has folder "bob")))
      (should (equal wanted (smtpmail-native-lmtp-tests--has folder "carol"))))))

(ert-deftest smtpmail-native-lmtp-tests-recipients ()
  "Each recipient has an answer, and who has got it is not sent it again."
  (smtpmail-native-lmtp-tests--with
    (dolist (smtpmail-native-chunking '(nil t))
      ;; One that is not known is told before the message goes.
      (should-error (smtpmail-native-lmtp-tests--send
                     port "no\n" :to "bob@example.org, nobody@example.org")
                    :type 'smtpmail-native-refused)
      (should-not (smtpmail-native-lmtp-tests--has folder "bob")))
    (let ((smtpmail-native-partial-recipients t))
      (should-error (smtpmail-native-lmtp-tests--send
                     port "some\n" :to "nobody@example.org, bob@example.org")
                    :type 'smtpmail-native-refused))
    ;; A mailbox that takes nothing is told when the message has gone.
    (dolist (smtpmail-native-chunking '(nil t))
      (let ((why (should-error
                  (smtpmail-native-lmtp-tests--send
                   port "rest\n" :to "broken@example.org, bob@example.org")
                  :type 'smtpmail-native-deferred)))
        (should (string-match-p "<broken@example.org>: 4[0-9][0-9] "
                                (cadr why)))
        (should-not (string-match-p "bob@" (cadr why)))))
    (smtpmail-native-lmtp-tests--send port "yes\n")
    (should (equal '("rest\n" "rest\n" "some\n" "yes\n")
                   (smtpmail-native-lmtp-tests--has folder "bob")))
    (should-not (smtpmail-native-lmtp-tests--has folder "broken"))))

(provide 'smtpmail-native-lmtp-tests)
;;; smtpmail-native-lmtp-tests.el ends here
