;;; smtpmail-native-sendmail-tests.el --- The drop-in for sendmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; bin/smtpmail-native as cron, git and mutt call it: where it finds the Lisp and
;; the settings, what it passes on, and its exit codes.

;;; Code:

(require 'ert)
(require 'smtpmail-native-sink)

(defconst smtpmail-native-sendmail-tests--script
  (expand-file-name "bin/smtpmail-native" smtpmail-native-test-folder)
  "The script.")

(defun smtpmail-native-sendmail-tests--run (folder input &rest args)
  "Run the script at home in FOLDER with ARGS and the string INPUT.
The first of ARGS may be another name of it, a cons of nil and the name.
Return (STATUS . OUTPUT), with what it writes to standard error."
  (let* ((file (expand-file-name "input" folder))
         (coding-system-for-write 'no-conversion)
         (script (if (consp (car args))
                     (cdr (pop args))
                   smtpmail-native-sendmail-tests--script))
         (process-environment
          (append (list (concat "HOME=" folder) "XDG_CONFIG_HOME"
                        (concat "EMACS=" (expand-file-name
                                          invocation-name
                                          invocation-directory)))
                  process-environment)))
    (write-region input nil file nil 'silent)
    (with-temp-buffer
      (let* ((default-directory folder)
             (status (apply #'call-process script file t nil args)))
        (cons status (buffer-string))))))

(defmacro smtpmail-native-sendmail-tests--with (&rest body)
  "Run BODY with a sink, and settings that lead to it, at home in `folder'."
  (declare (indent 0) (debug t))
  `(smtpmail-native-sink-with nil
     (make-directory (expand-file-name ".config" folder))
     (write-region
      (format ";; -*- lexical-binding: t; -*-
(setq smtpmail-smtp-server \"127.0.0.1\" smtpmail-smtp-service %d
      smtpmail-stream-type 'plain auth-sources nil
      smtpmail-local-domain \"client.example\"
      user-mail-address \"alice@example.org\")\n" port)
      nil (expand-file-name ".config/smtpmail-native.el" folder) nil 'silent)
     ,@body))

(defconst smtpmail-native-sendmail-tests--mail
  "From: alice@example.org\nTo: bob@example.org\nBcc: carl@x\n\
Message-ID: <1@x>\nSubject: x\n\nHello\n.\nThe end\n"
  "A message whose body has a line with a dot.")

(ert-deftest smtpmail-native-sendmail-tests-sends ()
  "What programs pass to sendmail sends the message."
  (dolist (args '(("bob@example.org") ("-i" "-f" "a@x" "--" "bob@example.org")
                  ("-oi" "-t") ("-t" "-i" "-bm") ("-fa@x" "-ti")
                  ("-F" "Alice" "-oem" "-t") ("-r" "a@x" "-odi" "bob@x")))
    (ert-info ((format "%S" args))
      (smtpmail-native-sendmail-tests--with
        (should (equal '(0 . "")
                       (apply #'smtpmail-native-sendmail-tests--run folder
                              smtpmail-native-sendmail-tests--mail args)))
        (should (equal '("<1@x>")
                       (smtpmail-native-sink-log folder "arrived")))))))

(ert-deftest smtpmail-native-sendmail-tests-refused ()
  "What is not a way to send one message is refused, with a hint."
  (smtpmail-native-sendmail-tests--with
    (dolist (args '(("-bs") ("-bp") ("-q") ("-q15m") ("-bd") ("-bi") ("-bt")
                    ("-bv" "bob@x") ("-Z" "bob@x") ("-f")))
      (ert-info ((format "%S" args))
        (pcase-let ((`(,status . ,output)
                     (apply #'smtpmail-native-sendmail-tests--run folder
                            smtpmail-native-sendmail-tests--mail args)))
          (should (equal status 64))
          (should (string-match-p "[Oo]ption -" output)))))
    (should-not (smtpmail-native-sink-log folder "connect"))))

(ert-deftest smtpmail-native-sendmail-tests-codes ()
  "The exit codes are those of the manual."
  (smtpmail-native-sendmail-tests--with
    (should (equal 64 (car (smtpmail-native-sendmail-tests--run
                            folder "Subject: x\n\nx\n" "-t"))))
    (should (equal 65 (car (smtpmail-native-sendmail-tests--run
                            folder "" "bob@x")))))
  ;; There are no settings, and so no server.
  (smtpmail-native-sink-with nil
    (should (equal 78 (car (smtpmail-native-sendmail-tests--run
                            folder smtpmail-native-sendmail-tests--mail
                            "-t"))))))

(ert-deftest smtpmail-native-sendmail-tests-settings ()
  "Settings that are named and cannot be read are an error."
  (smtpmail-native-sendmail-tests--with
    (let ((process-environment
           (cons (concat "SMTPMAIL_NATIVE_CONFIG=" folder "none")
                 process-environment)))
      (pcase-let ((`(,status . ,output)
                   (smtpmail-native-sendmail-tests--run
                    folder smtpmail-native-sendmail-tests--mail "-t")))
        (should (equal status 78))
        (should (string-match-p "cannot read .*none" output))))
    (should-not (smtpmail-native-sink-log folder "connect"))))

(ert-deftest smtpmail-native-sendmail-tests-link ()
  "A link to the script, even through another one, is the script."
  (smtpmail-native-sendmail-tests--with
    (make-symbolic-link smtpmail-native-sendmail-tests--script
                        (expand-file-name "one" folder))
    (make-symbolic-link "one" (expand-file-name "sendmail" folder))
    (should (equal '(0 . "")
                   (smtpmail-native-sendmail-tests--run
                    folder smtpmail-native-sendmail-tests--mail
                    (cons nil (expand-file-name "sendmail" folder)) "-t")))
    (should (equal '("<1@x>") (smtpmail-native-sink-log folder "arrived")))))

(provide 'smtpmail-native-sendmail-tests)
;;; smtpmail-native-sendmail-tests.el ends here
