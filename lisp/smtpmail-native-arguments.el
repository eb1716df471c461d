;;; smtpmail-native-arguments.el --- The command line of scripts  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Which options the commands for scripts take, and what a command line says.
;; Nothing is set here.

;;; Code:

(require 'smtpmail-native-error)
(require 'smtpmail-native-lookup)

(defconst smtpmail-native-arguments-send-options
  '(("-t" :headers nil)
    ("-f" :from t)
    ("-r" :from t)
    ("--from" :from t)
    ("-F" :name t)
    ("-N" :notify t)
    ("-R" :return t)
    ("-V" :envid t)
    ("-i" :ignored nil)
    ("-bm" :ignored nil)
    ("-m" :ignored nil)
    ("-n" :ignored nil)
    ("-v" :ignored nil)
    ("-o" :ignored attached)
    ("-G" :ignored nil)
    ("-U" :ignored nil)
    ("-Ac" :ignored nil)
    ("-Am" :ignored nil)
    ("-B" :ignored t)
    ("-h" :ignored t)
    ("-O" :ignored t)
    ("-L" :ignored t)
    ("-bs" :refused "SMTP on standard input is not supported")
    ("-bp" :refused "M-x smtpmail-native-outbox shows what waits")
    ("-q" :refused "smtpmail-native-batch-flush sends what waits")
    ("-bd" :refused "this is no mail server")
    ("-bi" :refused "this keeps no database of aliases")
    ("-bt" :refused "this does not rewrite addresses")
    ("-bv" :refused "only the mail server can verify addresses")
    ("--obey-header" :obey nil)
    ("--file" :file t)
    ("--server" :server t)
    ("--port" :port t)
    ("--stream" :stream t)
    ("--user" :user t)
    ("--timeout" :timeout t)
    ("--queue" :queue nil)
    ("--result" :result nil)
    ("--help" :help nil))
  "Options of `smtpmail-native-batch-send': (NAME KEY VALUE).
VALUE is t for an option with a value, `attached' if that can only follow
at once.  What programs pass to sendmail and means nothing here is
ignored.  With the key `:refused', VALUE says why the option is an error.")

(defconst smtpmail-native-arguments-flush-options
  '(("--timeout" :timeout t)
    ("--result" :result nil)
    ("--help" :help nil))
  "Options of `smtpmail-native-batch-flush': (NAME KEY HAS-A-VALUE).")

(defconst smtpmail-native-arguments-send-usage "\
Usage: emacs --batch -l smtpmail-native -f smtpmail-native-batch-send \\
         -- [OPTION]... [RECIPIENT]... <MESSAGE
Send a message, and wait until the mail server has it.

  -t               also send to the addresses in To, Cc and Bcc
  -f, --from=ADDR  the envelope sender; \"\" is the null sender; also -r ADDR
  -F NAME          the name of the author, if the message has no From
  -N WHEN          report never, or on success, failure and delay
  -R full|hdrs     what a report of failure brings back
  -V ID            the identifier of the message in reports
  --file=FILE      read the message from FILE, not from standard input
  --server=HOST    the mail server
  --port=PORT      its port, a number or the name of a service
  --stream=TYPE    auto, starttls, ssl (or tls), plain
  --user=USER      user name for authentication
  --timeout=SEC    seconds to wait for each reply
  --queue          put the message into the outbox without sending it
  --obey-header    do what X-Smtpmail-Native of the message asks for
  --result         print the outcome as one line of JSON
  -i, -oi, -o..., -bm, -m, -n, -v, -B TYPE, -L TAG,
  -G, -U, -Ac, -Am, -h N, -O OPTION=VALUE
                   ignored; a line with only a dot never ends the message
  -bs, -bp, -bd, -bi, -bt, -bv, -q
                   refused: they are not for sending one message
  --help           print this
  --               the end of the options

The first -- does not end these options; it keeps Emacs from reading them.
"
  "What --help shows.")

(defconst smtpmail-native-arguments-flush-usage "\
Usage: emacs --batch -l smtpmail-native -f smtpmail-native-batch-flush \\
         -- [OPTION]...
Send everything that waits in the outbox, each message once.

  --timeout=SEC    seconds to wait for each reply
  --result         print the outcome as one line of JSON
  --help           print this
"
  "What --help shows.")

(defun smtpmail-native-arguments-fail (format &rest args)
  "Signal that the arguments cannot be used; FORMAT with ARGS says why."
  (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                (apply #'format format args)))

(defun smtpmail-native-arguments--split (arg table)
  "Return (NAME . VALUE) for ARG, an option of TABLE.
VALUE is what is attached to the name, or nil."
  (cond ((assoc arg table) (list arg))
        ((string-match "\\`\\(--[^=]+\\)=" arg)
         (cons (match-string 1 arg) (substring arg (match-end 0))))
        ((string-prefix-p "--" arg) (list arg))
        (t (cons (substring arg 0 2) (substring arg 2)))))

(defun smtpmail-native-arguments--getopt (args table)
  "Return what ARGS say as (OPTIONS . OTHERS).
OPTIONS is a plist with the keys of TABLE, OTHERS a list of strings."
  (let ((options nil)
        (others nil))
    (while args
      (let ((arg (pop args)))
        (cond
         ((equal arg "--")
          (setq others (append (reverse args) others)
                args nil))
         ((not (string-match-p "\\`-." arg)) (push arg others))
         (t
          (pcase-let* ((`(,name . ,value)
                        (smtpmail-native-arguments--split arg table))
                       (`(,_ ,key ,valued) (assoc name table)))
            (cond
             ((null key)
              (smtpmail-native-arguments-fail
               "Unknown option %s (try -- --help)" name))
             ((eq key :refused)
              (smtpmail-native-arguments-fail "Option %s: %s" name valued))
             ((eq valued 'attached))
             (valued
              (unless (or value args)
                (smtpmail-native-arguments-fail "Option %s needs a value" name))
              (setq options (plist-put options key (or value (pop args)))))
             ((null value) (setq options (plist-put options key t)))
             ((string-prefix-p "--" name)
              (smtpmail-native-arguments-fail "Option %s takes no value" name))
             (t
              (setq options (plist-put options key t))
              (push (concat "-" value) args))))))))
    (cons options (nreverse others))))

(defun smtpmail-native-arguments (args table)
  "Return what ARGS, the rest of the command line, say by TABLE.
The value is that of `smtpmail-native-arguments--getopt'."
  (cond
   ((equal (car args) "--") (pop args))
   ;; Without -- Emacs has seen the arguments first.
   ((smtpmail-native-auth-string (bound-and-true-p init-file-user))
    (smtpmail-native-arguments-fail
     "Emacs read --user itself; put -- before the arguments")))
  (smtpmail-native-arguments--getopt args table))

(provide 'smtpmail-native-arguments)
;;; smtpmail-native-arguments.el ends here
