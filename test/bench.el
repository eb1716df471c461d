;;; bench.el --- Measure  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `make bench': this project beside stock smtpmail, msmtp, curl and a bare
;; GnuTLS client, over loopback to a server that costs as little as may be
;; (test/c/bench-server.c).  All take turns, and ratios are those of each turn,
;; so that a slow moment hits all of them.  Numbers are the median and, in
;; parentheses, the smallest and the largest.
;;
;;   bare    test/c/bench-bare.c, the ceiling, by its own clock
;;   nosize  the same without SIZE, for which the file is read before it is sent
;;   engine  test/c/bench-engine.c, the core without Emacs, by its own clock
;;   Emacs   `smtpmail-native-send-it' in batch, from the buffer until the server
;;           has taken the mail and its receipt is on the disk
;;   stock   `smtpmail-send-it', which keeps nothing on the disk
;;   msmtp, curl: a process
;;
;; With QUICK in the environment there are fewer turns and no 100 MB; PARTS names
;; the parts that are wanted, see `bench-parts', and MANY how many messages the
;; part "many" has.

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'bench-gap)
(require 'bench-many)
(require 'bench-slow)
(require 'smtpmail-native-message)

(defconst bench-quick (getenv "QUICK")
  "Non-nil: as short as may be.")

(defconst bench-sizes
  (if bench-quick
      '(("1 KB" 1024 5) ("1 MB" 1048576 3) ("25 MB" 26214400 3))
    '(("1 KB" 1024 15) ("1 MB" 1048576 9) ("25 MB" 26214400 7)
      ("100 MB" 104857600 5)))
  "Names and octets of bodies, and how many turns each gets.")

(defconst bench-line "The quick brown fox jumps over the lazy dog, and then it rests.\n"
  "A line of 64 octets.")

(defvar bench-folder (file-name-as-directory (make-temp-file "bench" t))
  "The folder of all files.")

;;;; Numbers

(defun bench-seconds (function)
  "Call FUNCTION and return the seconds that it takes."
  (garbage-collect)
  (let ((start (float-time)))
    (funcall function)
    (- (float-time) start)))

(defun bench-median (numbers)
  "Return the median of NUMBERS."
  (nth (/ (length numbers) 2) (sort (copy-sequence numbers) #'<)))

(defun bench-spread (format numbers)
  "Return the median of NUMBERS and their spread, each by FORMAT."
  (let ((sorted (sort (copy-sequence numbers) #'<)))
    (format "%s (%s-%s)" (format format (bench-median sorted))
            (format format (car sorted))
            (format format (car (last sorted))))))

(defun bench-print (format &rest args)
  "Print FORMAT with ARGS at once."
  (princ (apply #'format format args)))

;;;; Servers

(defun bench-program (name)
  "Return the file name of the program NAME of this project."
  (expand-file-name (concat "build/plain/" name)
                    (locate-dominating-file (locate-library "bench-gap")
                                            "Makefile")))

(defun bench-start (name &rest args)
  "Start the server NAME with ARGS; return (PROCESS . PORT)."
  (let ((process (make-process
                  :name name :noquery t :connection-type 'pipe
                  :buffer (generate-new-buffer " *bench*")
                  :command (cons (bench-program name) args)))
        (port nil))
    (smtpmail-native-test-wait
     (lambda ()
       (with-current-buffer (process-buffer process)
         (goto-char (point-min))
         (when (looking-at "port \\([0-9]+\\)\n")
           (setq port (string-to-number (match-string 1)))))))
    (cons process port)))

(defun bench-end (server)
  "End SERVER, a value of `bench-start'."
  (delete-process (car server))
  (kill-buffer (process-buffer (car server))))

(defun bench-server (stream)
  "Start the server for STREAM: plain, starttls or tls."
  (apply #'bench-start "bench-server"
         (pcase stream
           ('tls (list (smtpmail-native-test-certs)))
           ('starttls (list (smtpmail-native-test-certs) "starttls")))))

(defun bench-octets (server)
  "Return (MAILS OCTETS) of the last connection of SERVER that has ended."
  (accept-process-output (car server) 0.2)
  (with-current-buffer (process-buffer (car server))
    (goto-char (point-max))
    (and (re-search-backward "^mails \\([0-9]+\\) octets \\([0-9]+\\)$" nil t)
         (list (string-to-number (match-string 1))
               (string-to-number (match-string 2))))))

;;;; Contestants

(defun bench-file (octets)
  "Return a file with a message whose body has OCTETS."
  (let ((file (expand-file-name (format "message-%d" octets) bench-folder)))
    (unless (file-exists-p file)
      (with-temp-file file
        (insert "From: alice@example.org\nTo: bob@example.org\nSubject: x\n\n")
        (dotimes (_ (/ octets 64))
          (insert bench-line))))
    file))

(defun bench-ca ()
  "Return the file of the authority."
  (smtpmail-native-test-cert "ca.pem"))

(defun bench-call (input program &rest args)
  "Run PROGRAM with ARGS and the file INPUT; return its output.
An error tells what went wrong."
  (with-temp-buffer
    (let ((code (apply #'call-process program input t nil args)))
      (unless (eql code 0)
        (error "%s: %s %s" program code (buffer-string)))
      (buffer-string))))

(defun bench-client (name stream port file mails &rest more)
  "Run the client NAME of this project by STREAM to PORT with FILE, MAILS times.
MORE are further arguments.  Return the ms when each was done."
  (let ((said (apply #'bench-call nil (bench-program name)
                     (symbol-name stream) (number-to-string port) (bench-ca)
                     file (number-to-string mails) more)))
    (mapcar #'string-to-number
            (seq-filter (lambda (line) (string-match-p "\\`[0-9.]+\\'" line))
                        (split-string said "\n" t)))))

(defun bench-msmtp (stream port file)
  "Send FILE by msmtp and STREAM to PORT."
  (apply #'bench-call file "msmtp"
         (append
          (list "--host=127.0.0.1" (format "--port=%d" port)
                "--from=alice@example.org" "--auth=plain" "--user=alice"
                "--passwordeval=echo secret")
          (if (eq stream 'plain)
              '("--tls=off")
            (list "--tls=on" (concat "--tls-trust-file=" (bench-ca))
                  (format "--tls-starttls=%s"
                          (if (eq stream 'starttls) "on" "off"))))
          '("bob@example.org"))))

(defun bench-curl (stream port file &optional mails)
  "Send FILE by curl and STREAM to PORT, MAILS times on one connection."
  (let ((config (expand-file-name "curl" bench-folder)))
    (with-temp-file config
      (dotimes (_ (or mails 1))
        (insert (format "url = \"%s://127.0.0.1:%d\"\nupload-file = \"%s\"\n"
                        (if (eq stream 'tls) "smtps" "smtp") port file))))
    (apply #'bench-call nil "curl" "-q" "--silent" "--show-error" "--crlf"
           "--mail-from" "alice@example.org" "--mail-rcpt" "bob@example.org"
           "--user" "alice:secret" "--login-options" "AUTH=PLAIN" "--sasl-ir"
           "--cacert" (bench-ca) "-K" config
           (and (eq stream 'starttls) '("--ssl-reqd")))))

(defmacro bench-with-account (stream port &rest body)
  "Run BODY with the variables of smtpmail leading to PORT by STREAM."
  (declare (indent 2) (debug t))
  `(let ((smtpmail-smtp-server "localhost")
         (smtpmail-smtp-service ,port)
         (smtpmail-smtp-user "alice")
         (smtpmail-stream-type (pcase ,stream
                                 ('tls 'ssl)
                                 (stream stream)))
         (smtpmail-auth-credentials
          (list (list "localhost" ,port "alice" "secret")))
         (smtpmail-local-domain "client.example")
         (smtpmail-debug-info nil)
         (smtpmail-queue-mail nil)
         (auth-sources (list (expand-file-name "netrc" bench-folder)))
         (user-mail-address "alice@example.org")
         (gnutls-trustfiles (list (bench-ca)))
         (smtpmail-native-outbox-directory
          (expand-file-name "outbox/" bench-folder))
         (inhibit-message t))
     (with-temp-file (car auth-sources)
       (insert (format "machine localhost port %d login alice password secret\n"
                       ,port)))
     (auth-source-forget-all-cached)
     ,@body))

(defun bench-emacs (send octets stream port)
  "Return the seconds that the function SEND takes for a body of OCTETS.
STREAM and PORT lead to the server."
  (bench-with-account stream port
    (with-temp-buffer
      (insert "From: alice@example.org\nTo: bob@example.org\nSubject: x\n"
              mail-header-separator "\n")
      (dotimes (_ (/ octets 64))
        (insert bench-line))
      (bench-seconds send))))

(defun bench-contestants (octets stream port)
  "Return ((NAME . FUNCTION)...) for a body of OCTETS by STREAM to PORT.
Each function sends one mail and returns seconds."
  (let* ((file (bench-file octets))
         (timed (lambda (function) (lambda () (bench-seconds function)))))
    (delq nil
          (list
           (cons "bare" (lambda ()
                          (/ (car (bench-client "bench-bare" stream port file
                                                1))
                             1e3)))
           (cons "nosize" (lambda ()
                            (/ (car (bench-client "bench-bare" stream port file
                                                  1 "nosize"))
                               1e3)))
           (cons "engine" (lambda ()
                            (/ (car (bench-client "bench-engine" stream port
                                                  file 1))
                               1e3)))
           (cons "Emacs" (lambda ()
                           (bench-emacs #'smtpmail-native-send-it octets stream
                                        port)))
           (and (<= octets 26214400)
                (cons "stock" (lambda ()
                                (bench-emacs #'smtpmail-send-it octets stream
                                             port))))
           (and (executable-find "msmtp")
                (cons "msmtp" (funcall timed (lambda ()
                                               (bench-msmtp stream port file)))))
           (and (executable-find "curl")
                (cons "curl" (funcall timed (lambda ()
                                              (bench-curl stream port
                                                          file)))))))))

;;;; Tables

(defun bench-turns (contestants turns)
  "Let CONTESTANTS take TURNS; return ((NAME . SECONDS...)...)."
  (let ((results (mapcar (lambda (one) (list (car one))) contestants)))
    (dotimes (_ turns)
      (dolist (one contestants)
        (push (funcall (cdr one)) (cdr (assoc (car one) results)))))
    results))

(defun bench-ratio (results one other)
  "Return how often ONE goes into OTHER, by the turns of RESULTS, or a dash."
  (if (assoc other results)
      (format "%.2f" (bench-median (seq-mapn #'/ (cdr (assoc other results))
                                             (cdr (assoc one results)))))
    "-"))

(defun bench-sending ()
  "Print the times for each size, plain and TLS."
  (bench-print "Milliseconds for one mail, connection and login included\n")
  (dolist (stream '(plain tls))
    (let ((server (bench-server stream)))
      (pcase-dolist (`(,name ,octets ,turns) bench-sizes)
        (let ((results (bench-turns
                        (bench-contestants octets stream (cdr server)) turns)))
          (bench-print "%s, %s\n" name stream)
          (pcase-dolist (`(,who . ,seconds) results)
            (bench-print "  %-7s %s\n" who
                         (bench-spread "%.1f" (mapcar (lambda (s) (* 1e3 s))
                                                      seconds))))
          (bench-print "  bare/engine %s, nosize/engine %s, msmtp/engine %s, curl/engine %s, \
stock/Emacs %s\n"
                       (bench-ratio results "engine" "bare")
                       (bench-ratio results "engine" "nosize")
                       (bench-ratio results "engine" "msmtp")
                       (bench-ratio results "engine" "curl")
                       (bench-ratio results "Emacs" "stock"))))
      (bench-end server))))

(defun bench-flush (mails port)
  "Return the seconds that a flush of MAILS of 1 KB to PORT takes by TLS."
  (bench-with-account 'tls port
    (let ((smtpmail-queue-mail t))
      (dotimes (_ mails)
        (with-temp-buffer
          (insert "To: bob@example.org\nSubject: x\n" mail-header-separator "\n")
          (dotimes (_ 15)
            (insert bench-line))
          (smtpmail-native-send-it))))
    (prog1 (bench-seconds #'smtpmail-native-wait-flush)
      (when (smtpmail-native-outbox-ids)
        (error "Mail was left")))))

(defun bench-small ()
  "Print how many mails of 1 KB go out in a second, by TLS."
  (let* ((server (bench-server 'tls))
         (port (cdr server))
         (file (bench-file 960))
         (many (if bench-quick 200 1000))
         (few (if bench-quick 5 20))
         (rate (lambda (mails function)
                 (lambda () (/ mails (bench-seconds function)))))
         (results
          (bench-turns
           (delq
            nil
            (list
             (cons "bare" (funcall rate many
                                   (lambda ()
                                     (bench-client "bench-bare" 'tls port file
                                                   many))))
             (cons "engine" (funcall rate many
                                     (lambda ()
                                       (bench-client "bench-engine" 'tls port
                                                     file many))))
             (and (executable-find "curl")
                  (cons "curl" (funcall rate many
                                        (lambda ()
                                          (bench-curl 'tls port file many)))))
             (cons "flush" (lambda () (/ many (bench-flush many port))))
             (and (executable-find "msmtp")
                  (cons "msmtp" (funcall rate few
                                         (lambda ()
                                           (dotimes (_ few)
                                             (bench-msmtp 'tls port file))))))
             (cons "stock" (lambda ()
                             (let ((seconds 0))
                               (dotimes (_ few)
                                 (setq seconds
                                       (+ seconds
                                          (bench-emacs #'smtpmail-send-it 960
                                                       'tls port))))
                               (/ few seconds))))))
           (if bench-quick 3 5))))
    (bench-print "\nMails of 1 KB in a second, TLS; %d of them on one \
connection (bare, engine, curl) or from\nthe outbox, every receipt on the disk \
(flush); %d one by one (msmtp, stock)\n" many few)
    (pcase-dolist (`(,who . ,rates) results)
      (bench-print "  %-7s %s\n" who (bench-spread "%.0f" rates)))
    (bench-print "  engine/curl %s, flush/stock %s\n"
                 (bench-ratio results "curl" "engine")
                 (bench-ratio results "stock" "flush"))
    (bench-end server)))

(defun bench-round-trips ()
  "Print how many round trips the first mail takes, and the next one."
  (bench-print "\nRound trips, as time over a delay of 50 ms in each direction: \
connection and first mail, next mail\n")
  (dolist (stream '(tls starttls))
    (let* ((server (bench-server stream))
           (link (bench-start "delay" (number-to-string (cdr server)) "50"))
           (port (cdr link))
           (file (bench-file 960))
           (tell (lambda (who first next)
                   (bench-print "  %-8s %-18s %.1f %s\n" stream who (/ first 100.0)
                                (if next (format "%.1f" (/ next 100.0)) "-")))))
      (pcase-dolist (`(,who ,program . ,more)
                     '(("bare" "bench-bare") ("engine" "bench-engine")
                       ("engine, chunking" "bench-engine" "chunking")))
        (let ((times (apply #'bench-client program stream port file 3 more)))
          (funcall tell who (nth 0 times) (- (nth 2 times) (nth 1 times)))))
      (when (executable-find "curl")
        (let ((first (* 1e3 (bench-seconds
                             (lambda () (bench-curl stream port file)))))
              (second (* 1e3 (bench-seconds
                              (lambda () (bench-curl stream port file 2))))))
          (funcall tell "curl" first (- second first))))
      (when (executable-find "msmtp")
        (funcall tell "msmtp" (* 1e3 (bench-seconds
                                      (lambda ()
                                        (bench-msmtp stream port file))))
                 nil))
      (let ((stock (* 1e3 (bench-emacs #'smtpmail-send-it 960 stream port))))
        (funcall tell "stock" stock stock))
      (bench-end link)
      (bench-end server))))

(defun bench-costs ()
  "Print octets on the wire, memory and instructions of the core."
  (let ((server (bench-server 'tls))
        (small nil))
    (bench-print "\nThe core, TLS\n")
    (pcase-dolist (`(,name ,octets . ,_) bench-sizes)
      (let* ((file (bench-file octets))
             (said (bench-call nil (bench-program "bench-engine") "tls"
                               (number-to-string (cdr server)) (bench-ca) file
                               "1"))
             (peak (progn (string-match "peak \\([0-9]+\\)" said)
                          (string-to-number (match-string 1 said))))
             (wire (nth 1 (bench-octets server)))
             ;; With CRLF, as SIZE counts.
             (size (+ (file-attribute-size (file-attributes file))
                      (/ octets 64) 4)))
        (setq small (or small peak))
        (bench-print "  %-7s %.4f octets on the wire for each of the message, \
%+d KiB of memory beyond that for 1 KB\n"
                     name (/ wire 1.0 size) (- peak small))))
    (bench-end server))
  (if (not (executable-find "valgrind"))
      (bench-print "  instructions: valgrind is not installed\n")
    (dolist (stream '(plain tls))
      (let ((server (bench-server stream)))
        (pcase-dolist (`(,name ,octets) '(("1 KB" 1024) ("25 MB" 26214400)))
          (let ((said (bench-call
                       nil "valgrind" "--tool=callgrind"
                       (concat "--callgrind-out-file="
                               (expand-file-name "callgrind" bench-folder))
                       (bench-program "bench-engine") (symbol-name stream)
                       (number-to-string (cdr server)) (bench-ca)
                       (bench-file octets) "1")))
            (string-match "Collected : \\([0-9]+\\)" said)
            (bench-print "  %-7s %-6s %.1f million instructions\n" name stream
                         (/ (string-to-number (match-string 1 said)) 1e6))))
        (bench-end server)))))

(defun bench-load (feature)
  "Return the seconds that a new Emacs takes to require FEATURE."
  (let ((said (smtpmail-native-test-emacs
               smtpmail-native-test-folder "--eval"
               (format "(let ((start (float-time))) (require '%s) \
(princ (- (float-time) start)))" feature))))
    (unless (eql (car said) 0)
      (error "%s" (cdr said)))
    (string-to-number (cdr said))))

(defun bench-loading ()
  "Print how long it takes to load the library."
  (let ((results (bench-turns
                  `(("smtpmail-native" . ,(lambda ()
                                            (bench-load 'smtpmail-native)))
                    ("smtpmail" . ,(lambda () (bench-load 'smtpmail))))
                  (if bench-quick 3 9))))
    (bench-print "\nMilliseconds of `require'\n")
    (pcase-dolist (`(,who . ,seconds) results)
      (bench-print "  %-16s %s\n" who
                   (bench-spread "%.1f" (mapcar (lambda (s) (* 1e3 s))
                                                seconds))))))

(defun bench-recipients-of (count)
  "Return the seconds that it takes to prepare a mail to COUNT recipients."
  (with-temp-buffer
    (insert "To: "
            (mapconcat (lambda (n)
                         (format "Some Body <user%d@example%d.org>" n (% n 97)))
                       (number-sequence 1 count) ",\n  ")
            "\nFrom: a@example.org\nSubject: bench\n" mail-header-separator
            "\nHello.\n")
    (bench-seconds
     (lambda ()
       (kill-buffer (plist-get (smtpmail-native-message-prepare) :buffer))))))

(defun bench-recipients ()
  "Print what each recipient of a mail costs before it is in the outbox."
  (bench-recipients-of 1) ; loads what it needs
  (let ((results
         (bench-turns (mapcar (lambda (count)
                                (cons count
                                      (lambda () (bench-recipients-of count))))
                              '(200 20000))
                      (if bench-quick 3 9))))
    (bench-print "\nMicroseconds for each recipient of a mail\n")
    (pcase-dolist (`(,count . ,seconds) results)
      (bench-print "  %-16s %s\n" count
                   (bench-spread "%.1f" (mapcar (lambda (s) (/ (* 1e6 s) count))
                                                seconds))))))

;;;; All of it

(defun bench-background ()
  "Measure and print what a slow server costs Emacs meanwhile."
  (bench-print "\nIn the background, to a server that is slow:\n")
  (bench-gap-print))

(defun bench-many ()
  "Measure and print what an outbox with many messages costs."
  (let ((server (bench-server 'tls)))
    (unwind-protect
        (bench-many-print (string-to-number
                           (or (getenv "MANY") (if bench-quick "1000" "10000")))
                          (cdr server) (bench-ca))
      (bench-end server))))

(defconst bench-parts
  '(("sending" . bench-sending) ("small" . bench-small)
    ("round-trips" . bench-round-trips) ("costs" . bench-costs)
    ("loading" . bench-loading) ("recipients" . bench-recipients)
    ("background" . bench-background)
    ("slow" . bench-slow)
    ("many" . bench-many))
  "The parts of the benchmark, by the names that PARTS has in the environment.")

(unwind-protect
    (let ((wanted (split-string (or (getenv "PARTS") ""))))
      (dolist (program '("msmtp" "curl"))
        (unless (executable-find program)
          (bench-print "%s is not installed\n" program)))
      (smtpmail-native-load)
      (require 'smtpmail)
      (pcase-dolist (`(,name . ,function) bench-parts)
        (when (or (null wanted) (member name wanted))
          (funcall function))))
  (delete-directory bench-folder t))

;;; bench.el ends here
