;;; smtpmail-native-batch-tests.el --- Exit codes, arguments, input  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each test runs a batch Emacs of its own, as a script does.

;;; Code:

(require 'ert)
(require 'json)
(require 'smtpmail-native-batch)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-batch-tests--mail
  (concat "From: Alice <alice@example.org>\nTo: bob@example.org\n"
          "Message-ID: <1@example.org>\n"
          "Date: Tue, 24 Nov 2026 12:00:00 +0000\nSubject: x\n\nbody\n")
  "A message that is complete.")

(cl-defstruct smtpmail-native-batch-tests--ran
  code out err)

(defun smtpmail-native-batch-tests--file (folder octets)
  "Return a new file in FOLDER that holds OCTETS, a string."
  (let ((file (make-temp-name (expand-file-name "input" folder)))
        (coding-system-for-write 'no-conversion))
    (write-region (encode-coding-string octets 'no-conversion) nil file nil
                  'silent)
    file))

(defun smtpmail-native-batch-tests--run (folder function input args
                                                &optional form shell)
  "Run FUNCTION with ARGS in a batch Emacs whose outbox is in FOLDER.
INPUT is its standard input, a string.  FORM is evaluated before.  SHELL
is a command for sh that runs \"$@\" and finds INPUT in the file $IN;
default is a pipe.  Return a `smtpmail-native-batch-tests--ran'."
  (let* ((errors (make-temp-name (expand-file-name "errors" folder)))
         (process-environment
          (append (list (concat "HOME=" folder)
                        (concat "IN=" (smtpmail-native-batch-tests--file
                                       folder input)))
                  process-environment))
         (form `(progn
                  (setq auth-sources nil
                        smtpmail-retries 1
                        user-mail-address "script@example.org"
                        smtpmail-native-outbox-directory
                        ,(expand-file-name "outbox/" folder))
                  ,form)))
    (with-temp-buffer
      (let ((code (apply #'call-process "sh" nil (list t errors) nil
                         "-c" (or shell "cat \"$IN\" | \"$@\"") "sh"
                         (expand-file-name invocation-name
                                           invocation-directory)
                         "-Q" "--batch" "--eval" "(setq load-prefer-newer t)"
                         "-L" smtpmail-native-test-folder
                         "-l" "smtpmail-native"
                         "--eval" (prin1-to-string form)
                         "-f" (symbol-name function) args)))
        (make-smtpmail-native-batch-tests--ran
         :code code :out (buffer-string)
         :err (with-temp-buffer
                (insert-file-contents errors)
                (buffer-string)))))))

(defun smtpmail-native-batch-tests--send (folder args &optional input form shell)
  "Send INPUT, a string, with ARGS behind --, a list of strings.
FOLDER, FORM and SHELL as in `smtpmail-native-batch-tests--run'."
  (smtpmail-native-batch-tests--run
   folder 'smtpmail-native-batch-send
   (or input smtpmail-native-batch-tests--mail) (cons "--" args) form shell))

(defun smtpmail-native-batch-tests--to (port &rest args)
  "Return ARGS behind the options that lead to PORT of this machine."
  (append (list "--server" "localhost" (format "--port=%d" port)) args))

(defun smtpmail-native-batch-tests--report (ran)
  "Return the report that RAN has printed, an alist; it has to be one line."
  (should (string-match-p "\\`[[:ascii:]]+\n\\'"
                          (smtpmail-native-batch-tests--ran-out ran)))
  (let* ((json-array-type 'list)
         (report (json-read-from-string
                  (smtpmail-native-batch-tests--ran-out ran))))
    (should (eql (alist-get 'exit report)
                 (smtpmail-native-batch-tests--ran-code ran)))
    report))

(defun smtpmail-native-batch-tests--fails (ran code text)
  "Check that RAN ended with CODE and one line of TEXT, a regexp."
  (should (equal (cons code (smtpmail-native-batch-tests--ran-err ran))
                 (cons (smtpmail-native-batch-tests--ran-code ran)
                       (smtpmail-native-batch-tests--ran-err ran))))
  (should (string-match-p (concat "\\`smtpmail-native: .*" text ".*\n\\'")
                          (smtpmail-native-batch-tests--ran-err ran))))

(defun smtpmail-native-batch-tests--passes (ran)
  "Check that RAN ended with 0 and without a word."
  (should (equal (list 0 "" "")
                 (list (smtpmail-native-batch-tests--ran-code ran)
                       (smtpmail-native-batch-tests--ran-out ran)
                       (smtpmail-native-batch-tests--ran-err ran)))))

(defmacro smtpmail-native-batch-tests--with-folder (&rest body)
  "Run BODY with `folder' a new folder."
  (declare (indent 0) (debug t))
  `(let ((folder (make-temp-file "smtpmail-native" t)))
     (unwind-protect
         (progn ,@body)
       (delete-directory folder t))))

(defun smtpmail-native-batch-tests--statuses (folder)
  "Return the states of all entries of the outbox in FOLDER."
  (let ((smtpmail-native-outbox-directory (expand-file-name "outbox/" folder)))
    (mapcar (lambda (entry)
              (plist-get (smtpmail-native-entry-state entry) :status))
            (smtpmail-native-outbox-list))))

;;;; What arrives

(defun smtpmail-native-batch-tests--arrives (input expected &optional shell file)
  "Check that INPUT arrives as EXPECTED, both strings of octets.
SHELL as in `smtpmail-native-batch-tests--run'; FILE non-nil: by --file."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo "8BITMIME")
                                   smtpmail-native-test-mail)
    (smtpmail-native-batch-tests--passes
     (smtpmail-native-batch-tests--send
      folder
      (append (smtpmail-native-batch-tests--to port "bob@example.org")
              (and file (list "--file" (smtpmail-native-batch-tests--file
                                        folder input))))
      (if file "To: nobody" input) nil shell))
    (smtpmail-native-test-verdict server)
    (should (equal (smtpmail-native-test-delivered folder)
                   (encode-coding-string expected 'no-conversion)))
    (should-not (smtpmail-native-batch-tests--statuses folder))))

(ert-deftest smtpmail-native-batch-tests-octets ()
  "Octets arrive as they are, from a pipe and from a file."
  (let* ((header (replace-regexp-in-string
                  "body\n\\'" "" smtpmail-native-batch-tests--mail))
         (input (concat header "\344\0\377\200\r\n.\n..\r\n\303\244"))
         (expected (concat (string-replace "\n" "\r\n" header)
                           "\344\0\377\200\r\n.\r\n..\r\n\303\244\r\n")))
    (smtpmail-native-batch-tests--arrives input expected)
    (smtpmail-native-batch-tests--arrives input expected "\"$@\" <\"$IN\"")
    (smtpmail-native-batch-tests--arrives input expected nil t)))

(ert-deftest smtpmail-native-batch-tests-newlines ()
  "Any newline will do, in the header, too."
  (let ((crlf (string-replace "\n" "\r\n" smtpmail-native-batch-tests--mail)))
    (smtpmail-native-batch-tests--arrives crlf crlf)
    (smtpmail-native-batch-tests--arrives
     (string-replace "\n" "\r" smtpmail-native-batch-tests--mail) crlf)))

(ert-deftest smtpmail-native-batch-tests-rest-of-a-file ()
  "What another program has read of standard input is none of the message."
  (skip-unless (file-readable-p "/proc/self/fdinfo/0"))
  (smtpmail-native-batch-tests--arrives
   (concat "X: 12\n" smtpmail-native-batch-tests--mail)
   (string-replace "\n" "\r\n" smtpmail-native-batch-tests--mail)
   "{ dd bs=1 count=6 >/dev/null 2>&1; \"$@\"; } <\"$IN\""))

;;;; Recipients and sender

(defun smtpmail-native-batch-tests--envelope (sender recipients args input)
  "Check that INPUT with ARGS goes from SENDER to RECIPIENTS, all strings.
Return the octets that arrive."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo)
       (format "C: MAIL FROM:<%s>*" sender) "S: 250 x"
       (mapcan (lambda (recipient)
                 (list (format "C: RCPT TO:<%s>" recipient) "S: 250 x"))
               recipients)
       "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")
    (smtpmail-native-batch-tests--passes
     (smtpmail-native-batch-tests--send
      folder (apply #'smtpmail-native-batch-tests--to port args) input))
    (smtpmail-native-test-verdict server)
    (smtpmail-native-test-delivered folder)))

(ert-deftest smtpmail-native-batch-tests-recipients ()
  "-t reads the header, arguments count beside or in place of it."
  (let ((input (concat "To: Bob <bob@example.org>\nCc: carl@example.org\n"
                       "Bcc: eve@example.org\nFrom: alice@example.org\n\n"
                       "To: x\n")))
    (dolist (case
             '((("-t") "bob@example.org" "carl@example.org" "eve@example.org")
               (("-ti" "dora@example.org") "dora@example.org"
                "bob@example.org" "carl@example.org" "eve@example.org")
               (("D. <dora@example.org>, e@example.org" "-i" "--"
                 "-f@example.org")
                "dora@example.org" "e@example.org" "-f@example.org")))
      (let ((arrived (smtpmail-native-batch-tests--envelope
                      "alice@example.org" (cdr case) (car case) input)))
        (should (string-match-p "^Cc: carl" arrived))
        (should-not (string-match-p "^Bcc:\\|eve@" arrived))))))

(ert-deftest smtpmail-native-batch-tests-sender ()
  "-f is the envelope sender, and the author where there is none."
  (let ((to '("bob@example.org")))
    (dolist (args '(("-f" "cron@example.org") ("-fcron@example.org")
                    ("--from=Cron <cron@example.org>")))
      (should (string-match-p
               "^From: .*cron@example\\.org"
               (smtpmail-native-batch-tests--envelope
                "cron@example.org" to (append args to)
                "To: bob@example.org\n\nbody\n"))))
    (should (string-match-p
             "^From: Alice"
             (smtpmail-native-batch-tests--envelope
              "" to '("--from=" "-t") smtpmail-native-batch-tests--mail)))))

;;;; As other programs write and call it

(ert-deftest smtpmail-native-batch-tests-sendmail ()
  "What programs pass to sendmail is understood, or means nothing."
  (dolist (args '(("-oi" "-odi" "-odb" "-oem" "-i" "-bm" "-m" "-n" "-v"
                   "-B8BITMIME" "-L" "tag" "-G" "-U" "-Am" "-h" "5"
                   "-Oerrormode=m" "-F" "Ann Other" "-N" "never" "-R" "hdrs" "-V" "id1" "-r" "cron@example.org" "-t" "--")
                  ("-odi" "-i" "-FAnn Other" "-Nnever" "-Rhdrs" "-Vid1"
                   "-fcron@example.org" "--" "bob@example.org")))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo "DSN")
         "C: MAIL FROM:<cron@example.org> RET=HDRS ENVID=id1" "S: 250 x"
         "C: RCPT TO:<bob@example.org> NOTIFY=NEVER*" "S: 250 x"
         "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")
      (smtpmail-native-batch-tests--passes
       (smtpmail-native-batch-tests--send
        folder (apply #'smtpmail-native-batch-tests--to port args)
        "To: bob@example.org\nSubject: x\n\nbody\n"))
      (smtpmail-native-test-verdict server)
      (should (string-match-p "^From: Ann Other <cron@example\\.org>\r$"
                              (smtpmail-native-test-delivered folder))))))

(ert-deftest smtpmail-native-batch-tests-mbox ()
  "A line of an mbox before the message is none of it."
  (dolist (line '("From alice Tue Nov 24 12:00:00 2026\n"
                  ">From alice Tue Nov 24 12:00:00 2026\n"
                  "From MAILER-DAEMON Tue Nov 24 12:00:00 2026\r\n"))
    (smtpmail-native-batch-tests--arrives
     (concat line smtpmail-native-batch-tests--mail)
     (string-replace "\n" "\r\n" smtpmail-native-batch-tests--mail))))

(ert-deftest smtpmail-native-batch-tests-author-without-domain ()
  "An author without a domain gets the address of the user."
  (pcase-dolist (`(,args ,from ,sent ,sender)
                 '((() "root (Cron Daemon)"
                    "script@example.org (Cron Daemon)" "script@example.org")
                   (() "\"(Cron Daemon)\" <root>"
                    "\"(Cron Daemon)\" <script@example.org>"
                    "script@example.org")
                   (("-f" "ann@example.org") "J\303\266rg <root>"
                    "=?utf-8?Q?J=C3=B6rg?= <ann@example.org>" "ann@example.org")
                   (() "root@example.net (Cron Daemon)"
                    "root@example.net (Cron Daemon)" "root@example.net")
                   (("-f" "ann@example.org") "root@example.net"
                    "root@example.net" "ann@example.org")))
    (ert-info (from)
      (should (string-search
               (format "\nFrom: %s\r\n" sent)
               (smtpmail-native-batch-tests--envelope
                sender '("bob@example.org")
                (append args '("bob@example.org"))
                (concat "To: bob@example.org\nFrom: " from
                        "\nSubject: x\n\nbody\n")))))))

(ert-deftest smtpmail-native-batch-tests-wishes-of-others ()
  "X-Smtpmail-Native of a message that another one wrote does not count."
  (dolist (wish '("later=+520w" "notify=never" "bogus=x"))
    (smtpmail-native-batch-tests--arrives
     (concat "X-Smtpmail-Native: " wish "\n" smtpmail-native-batch-tests--mail)
     (string-replace "\n" "\r\n" smtpmail-native-batch-tests--mail)))
  (smtpmail-native-batch-tests--with-folder
    (let ((ran (smtpmail-native-batch-tests--send
                folder '("--server=127.0.0.1" "--port=1" "-t" "--result"
                         "--obey-header")
                (concat "X-Smtpmail-Native: later=+2h\n"
                        smtpmail-native-batch-tests--mail))))
      (should (equal (alist-get 'outcome (smtpmail-native-batch-tests--report
                                          ran))
                     "queued"))
      (should (equal (smtpmail-native-batch-tests--statuses folder)
                     '(ready))))))

(ert-deftest smtpmail-native-batch-tests-service ()
  "The port may have any name that the services database knows."
  (smtpmail-native-batch-tests--with-folder
    (skip-unless (file-readable-p "/etc/services"))
    (skip-unless (with-temp-buffer
                   (insert-file-contents "/etc/services")
                   (re-search-forward "^discard[ \t]+9/tcp" nil t)))
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send
      folder '("-t" "--server=127.0.0.1" "--port=discard"))
     75 "127.0.0.1:9")))

;;;; Exit codes

(ert-deftest smtpmail-native-batch-tests-arguments ()
  "Arguments that cannot be used end with 64, and nobody is called."
  (smtpmail-native-batch-tests--with-folder
    (dolist (case
             '((("--bogus" "-t") "Unknown option --bogus")
               (("-x" "-t") "Unknown option -x")
               (("-tx") "Unknown option -x")
               (() "No recipients")
               ((" ") "No recipients")
               (("bob@example.org" "-f") "-f needs a value")
               (("-t" "--queue=x") "--queue takes no value")
               (("-t" "--port" "0") "Invalid --port")
               (("-t" "--port" "no-such-service") "Invalid --port")
               (("-t" "-bs") "Option -bs: SMTP")
               (("-t" "--stream" "x") "must be auto")
               (("-t" "--timeout" "soon") "number of seconds")
               (("-t" "--timeout=0") "number of seconds")
               (("a b@example.org") "Invalid address")
               (("-t" "-f" "a, b") "More than one")
               (("-t" "-f" "a\nb@example.org") ".")
               (("a\nRCPT TO:<eve@example.org>") ".")))
      (smtpmail-native-batch-tests--fails
       (smtpmail-native-batch-tests--send
        folder (append '("--server=127.0.0.1" "--port=1") (car case)))
       64 (cadr case)))
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send
      folder '("-t" "--server=127.0.0.1" "--port=1") "Subject: x\n\n")
     64 "No recipients")))

(ert-deftest smtpmail-native-batch-tests-emacs-options ()
  "Behind -- no option is Emacs's, and one that it took is noticed."
  (smtpmail-native-batch-tests--with-folder
    (let ((ran (smtpmail-native-batch-tests--send folder '("-t" "--help"))))
      (should (eql (smtpmail-native-batch-tests--ran-code ran) 0))
      (should (string-match-p "\\`Usage: .*smtpmail-native-batch-send"
                              (smtpmail-native-batch-tests--ran-out ran))))
    (dolist (option '("--version" "--daemon" "-q" "-l" "--eval" "-nw" "-kill"))
      (smtpmail-native-batch-tests--fails
       (smtpmail-native-batch-tests--send
        folder (list option "(kill-emacs 0)" "-t"))
       64 (if (equal option "-q") "Option -q" "Unknown option")))
    (let ((ran (smtpmail-native-batch-tests--run
                folder 'smtpmail-native-batch-send
                smtpmail-native-batch-tests--mail
                '("--user" "nobody-of-that-name" "bob@example.org"))))
      (should (eql (smtpmail-native-batch-tests--ran-code ran) 64))
      (should (string-match-p "read --user"
                              (smtpmail-native-batch-tests--ran-err ran))))))

(ert-deftest smtpmail-native-batch-tests-message ()
  "What is no message ends with 65, a file that is not there with 74."
  (smtpmail-native-batch-tests--with-folder
    (dolist (input (list "" "just text\n" "To: bob@example.org\n"
                         "To: bob@example.org\nX: \0\n\nbody\n"
                         (concat "To: bob@example.org\n"
                                 "--text follows this line--\nbody\n")))
      (smtpmail-native-batch-tests--fails
       (smtpmail-native-batch-tests--send folder '("-t") input) 65 "."))
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send
      folder (list "-t" "--file" (expand-file-name "missing" folder)))
     74 "missing")
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send folder '("-t") nil nil "\"$@\" </")
     74 "directory")))

(ert-deftest smtpmail-native-batch-tests-configuration ()
  "A bad configuration ends with 78, an outbox that cannot be used with 74."
  (smtpmail-native-batch-tests--with-folder
    (let ((file (smtpmail-native-batch-tests--file folder "")))
      (dolist (case
               `((nil () 78 "smtpmail-smtp-server")
                 ((setq smtpmail-smtp-service "no-such-service") ("--server=localhost")
                  78 "smtpmail-smtp-service")
                 ((setq smtpmail-stream-type 'x) ("--server=localhost")
                  78 "smtpmail-stream-type")
                 ((advice-add 'smtpmail-native-load--files :override #'ignore)
                  ("--server=localhost") 78 "make -C")
                 ((advice-add 'smtpmail-native-load--abi-of :override
                              #'ignore)
                  ("--server=localhost") 78 "rebuild it")
                 ((setq smtpmail-native-outbox-directory
                        ,(expand-file-name "outbox" file))
                  ("--server=localhost") 74 "Cannot make the outbox")
                 ((advice-add 'smtpmail-native-queue-send :before
                              (lambda (&rest _) (error "Two\nlines")))
                  ("--server=localhost") 70 "Two lines")))
        (smtpmail-native-batch-tests--fails
         (smtpmail-native-batch-tests--send
          folder (cons "-t" (nth 1 case)) nil (nth 0 case))
         (nth 2 case) (nth 3 case))))))

(ert-deftest smtpmail-native-batch-tests-nobody-there ()
  "No such host is 68; where nobody listens it is 75."
  (smtpmail-native-batch-tests--with-folder
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send folder '("-t" "--server" "bad..name"))
     68 "bad\\.\\.name")
    (let* ((socket (make-network-process :name "taken" :server t
                                         :host "127.0.0.1" :service t
                                         :noquery t))
           (port (process-contact socket :service)))
      (delete-process socket)
      (smtpmail-native-batch-tests--fails
       (smtpmail-native-batch-tests--send
        folder (list "-t" "--server=127.0.0.1" "--port"
                     (number-to-string port)))
       75 "Connection refused"))
    (should-not (smtpmail-native-batch-tests--statuses folder))))

(defconst smtpmail-native-batch-tests--replies
  '((75 ("S: 421 later") "greeting" "reply")
    (75 ("close") "greeting" "network")
    (75 ("stall") "greeting" "timeout")
    (76 ("raw HTTP/1.1 400 Bad\\r\\n" "stall") "greeting" "protocol")
    (69 ("S: 554 go away" "C: QUIT") "greeting" "reply")
    (75 ("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *" "S: 451 later" "C: QUIT")
        "mail" "reply")
    (77 ("S: 220 x" "C: EHLO *" "S: 250 x" "C: MAIL *" "S: 530 auth" "C: QUIT")
        "mail" "reply")
    (69 ("S: 220 x" "C: EHLO *" "S: 250-x" "S: 250 SIZE 10" "C: QUIT")
        "mail" "too-large")
    (69 ("S: 220 x" "C: EHLO *" "S: 250 x" "C: QUIT") "starttls" "unsupported"
        "--stream=starttls")
    (77 ("tls selfsigned" "stall") "handshake" "certificate" "--stream=ssl")
    (76 ("S: 220 x" "stall") "handshake" "tls" "--stream=ssl"))
  "Exit code, script, stage, kind and perhaps an option.")

(ert-deftest smtpmail-native-batch-tests-replies ()
  "Each kind of refusal has its code, and leaves nothing in the outbox."
  (pcase-dolist (`(,code ,script ,stage ,kind . ,args)
                 smtpmail-native-batch-tests--replies)
    (smtpmail-native-test-with-server script
      (let* ((ran (smtpmail-native-batch-tests--send
                   folder
                   (append (smtpmail-native-batch-tests--to
                            port "-t" "--result" "--timeout=0.7")
                           args)))
             (report (smtpmail-native-batch-tests--report ran)))
        (smtpmail-native-batch-tests--fails ran code ".")
        (should (equal (list code "failed" kind stage nil)
                       (mapcar (lambda (key) (alist-get key report))
                               '(exit outcome kind stage id))))
        (should-not (smtpmail-native-batch-tests--statuses folder))))))

(ert-deftest smtpmail-native-batch-tests-password ()
  "A password that is wrong or missing ends with 77."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "C: AUTH PLAIN *"
       "S: 535 5.7.8 no" "C: QUIT")
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send
      folder (smtpmail-native-batch-tests--to port "-t") nil
      `(setq smtpmail-auth-credentials
             '(("localhost" ,port "user" "wrong"))))
     77 "535")
    (smtpmail-native-test-verdict server)
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--send
      folder (smtpmail-native-batch-tests--to port "-t") nil
      '(setq smtpmail-servers-requiring-authorization "."))
     77 "No password")))

;;;; The line of JSON

(ert-deftest smtpmail-native-batch-tests-result ()
  "The result names message, reply and recipients, in pure ASCII."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) (butlast smtpmail-native-test-mail 3)
       "raw 250 2.0.0 Gr\\xc3\\xbc\\xc3\\x9fe\\r\\n" "C: QUIT")
    (let ((report (smtpmail-native-batch-tests--report
                   (smtpmail-native-batch-tests--send
                    folder (smtpmail-native-batch-tests--to
                            port "-t" "--result")))))
      (smtpmail-native-test-verdict server)
      (should (equal (list 0 "sent" nil "<1@example.org>" "alice@example.org")
                     (mapcar (lambda (key) (alist-get key report))
                             '(exit outcome id message_id sender))))
      (should (string-match-p "Grüße" (alist-get 'text report)))
      (let ((recipient (car (alist-get 'recipients report))))
        (should (equal (list "bob@example.org" "sent" 250)
                       (mapcar (lambda (key) (alist-get key recipient))
                               '(address outcome code))))))))

(ert-deftest smtpmail-native-batch-tests-result-notes ()
  "A finished message with a line that is too long goes, with a warning."
  (let ((long (concat "MIME-Version: 1.0\n" smtpmail-native-batch-tests--mail
                      (make-string 1200 ?x) "\n")))
    (pcase-dolist (`(,input ,notes)
                   `((,long "998") (,smtpmail-native-batch-tests--mail nil)))
      (smtpmail-native-test-with-server
          (smtpmail-native-test-script (smtpmail-native-test-ehlo "8BITMIME")
                                       smtpmail-native-test-mail)
        (let ((report (smtpmail-native-batch-tests--report
                       (smtpmail-native-batch-tests--send
                        folder (smtpmail-native-batch-tests--to
                                port "--result" "bob@example.org")
                        input))))
          (should (equal (alist-get 'outcome report) "sent"))
          (if notes
              (should (string-search notes (alist-get 'notes report)))
            (should-not (alist-get 'notes report)))
          (smtpmail-native-test-verdict server)
          (should (equal (smtpmail-native-test-delivered folder)
                         (string-replace "\n" "\r\n" input))))))))

(ert-deftest smtpmail-native-batch-tests-result-refused ()
  "It tells of each recipient who was refused."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) "C: MAIL *" "S: 250 x"
       "C: RCPT TO:<bob@example.org>" "S: 250 x"
       "C: RCPT TO:<eve@example.org>" "S: 550 5.1.1 no such user"
       "C: RSET" "S: 250 x" "C: QUIT")
    (let* ((ran (smtpmail-native-batch-tests--send
                 folder (smtpmail-native-batch-tests--to
                         port "--result" "bob@example.org" "eve@example.org")))
           (report (smtpmail-native-batch-tests--report ran)))
      (smtpmail-native-batch-tests--fails ran 69 "eve@example.org>: 550")
      (should (equal '(("bob@example.org" . "not sent")
                       ("eve@example.org" . "refused"))
                     (mapcar (lambda (one)
                               (cons (alist-get 'address one)
                                     (alist-get 'outcome one)))
                             (alist-get 'recipients report)))))))

(ert-deftest smtpmail-native-batch-tests-json ()
  "JSON is ASCII, also for characters beyond the first plane."
  (should (equal (smtpmail-native-batch--json '((a . "ä😀\n\"") (b . nil)))
                 "{\"a\":\"\\u00e4\\ud83d\\ude00\\n\\\"\",\"b\":null}")))

;;;; The outbox

(ert-deftest smtpmail-native-batch-tests-partial ()
  "Who was refused is told by 69; who has to wait does so in the outbox."
  (pcase-dolist (`(,reply . ,expected) '(("550 no" 69 "partial" refused)
                                         ("450 later" 0 "partial" ready)))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script
         (smtpmail-native-test-ehlo) "C: MAIL *" "S: 250 x"
         "C: RCPT TO:<bob@example.org>" "S: 250 x"
         "C: RCPT TO:<eve@example.org>" (concat "S: " reply)
         "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT")
      (let ((report (smtpmail-native-batch-tests--report
                     (smtpmail-native-batch-tests--send
                      folder (smtpmail-native-batch-tests--to
                              port "--result" "bob@example.org"
                              "eve@example.org")
                      nil '(setq smtpmail-native-partial-recipients t)))))
        (smtpmail-native-test-verdict server)
        (should (equal expected
                       (append (list (alist-get 'exit report)
                                     (alist-get 'outcome report))
                               (smtpmail-native-batch-tests--statuses
                                folder))))))))

(ert-deftest smtpmail-native-batch-tests-unknown ()
  "A mail that may have arrived is 76, stays, and is not sent again."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) (butlast smtpmail-native-test-mail 3)
       "close")
    (let* ((ran (smtpmail-native-batch-tests--send
                 folder (smtpmail-native-batch-tests--to port "-t" "--result")))
           (report (smtpmail-native-batch-tests--report ran)))
      (smtpmail-native-test-verdict server)
      (smtpmail-native-batch-tests--fails ran 76 "did not confirm the message")
      (should (equal (alist-get 'outcome report) "unknown"))
      (should (equal (list (alist-get 'id report))
                     (smtpmail-native-outbox-ids)))
      (should (equal (smtpmail-native-batch-tests--statuses folder)
                     '(unknown)))
      ;; Nobody listens any more: another try would be noticed.
      (smtpmail-native-batch-tests--passes
       (smtpmail-native-batch-tests--flush folder)))))

(defun smtpmail-native-batch-tests--flush (folder &optional args form)
  "Flush the outbox of FOLDER with ARGS behind --, after evaluating FORM."
  (smtpmail-native-batch-tests--run
   folder 'smtpmail-native-batch-flush "" (cons "--" args) form))

(defun smtpmail-native-batch-tests--queue (folder port)
  "Leave a mail for PORT in the outbox of FOLDER."
  (smtpmail-native-batch-tests--passes
   (smtpmail-native-batch-tests--send
    folder (smtpmail-native-batch-tests--to port "-t" "--queue"))))

(ert-deftest smtpmail-native-batch-tests-flush ()
  "What waits is sent, each mail once; the code tells the worst."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   smtpmail-native-test-mail)
    (let ((good server)
          (good-port port)
          (top folder))
      (smtpmail-native-test-with-server '("S: 554 go away" "C: QUIT")
        (let ((bad-port port)
              (bad server))
          (smtpmail-native-test-with-server '("S: 421 later")
            (smtpmail-native-batch-tests--queue top good-port)
            (smtpmail-native-batch-tests--queue top bad-port)
            (smtpmail-native-batch-tests--queue top port)
            (should (equal (smtpmail-native-batch-tests--statuses top)
                           '(held held held)))
            (let* ((ran (smtpmail-native-batch-tests--flush top '("--result")))
                   (report (smtpmail-native-batch-tests--report ran))
                   (said (smtpmail-native-batch-tests--ran-err ran)))
              (should (equal '(69 1 1 1 0 0 0)
                             (mapcar (lambda (key) (alist-get key report))
                                     '(exit sent waiting refused unknown held
                                            damaged))))
              (dolist (line '("^Sent .*to bob@example.org" "554 go away"
                              "421 later"
                              "^smtpmail-native: 1 message is still waiting"))
                (should (string-match-p line said))))
            (smtpmail-native-test-verdict good)
            (smtpmail-native-test-verdict bad)
            (should (equal (smtpmail-native-batch-tests--statuses top)
                           '(refused ready)))
            ;; Now nobody listens, and what was refused does not count.
            (smtpmail-native-test-verdict server)
            (should (eql (smtpmail-native-batch-tests--ran-code
                          (smtpmail-native-batch-tests--flush top))
                         75))
            (should (equal (smtpmail-native-batch-tests--statuses top)
                           '(refused ready)))))))))

(ert-deftest smtpmail-native-batch-tests-flush-held ()
  "What somebody holds is left alone, and what lacks a password waits on."
  (smtpmail-native-test-with-server '("close")
    (smtpmail-native-batch-tests--queue folder port)
    (let ((ran (smtpmail-native-batch-tests--flush
                folder nil
                '(setq smtpmail-servers-requiring-authorization "."))))
      (should (eql (smtpmail-native-batch-tests--ran-code ran) 75))
      (should (string-match-p "No password"
                              (smtpmail-native-batch-tests--ran-err ran))))
    (should (equal (smtpmail-native-batch-tests--statuses folder) '(ready)))
    (smtpmail-native-act-hold (car (smtpmail-native-outbox-ids)))
    (smtpmail-native-batch-tests--passes
     (smtpmail-native-batch-tests--flush folder))
    (should (equal (smtpmail-native-batch-tests--statuses folder) '(held)))
    (smtpmail-native-batch-tests--fails
     (smtpmail-native-batch-tests--flush folder '("all")) 64 "Unexpected argument")))

(provide 'smtpmail-native-batch-tests)
;;; smtpmail-native-batch-tests.el ends here
