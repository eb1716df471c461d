;;; smtpmail-native-check.el --- Is an account in order?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Connects to the server of an account, logs in, and sends nothing: for you, and
;; for scripts that watch it.

;;; Code:

(require 'seq)
(require 'smtpmail-native-account)
(require 'smtpmail-native-arguments)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-batch)
(require 'smtpmail-native-error)
(require 'smtpmail-native-identity)
(require 'smtpmail-native-job)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-verdict)
(require 'smtpmail-native-wait)

;;;; The check

(defun smtpmail-native-check--run (account ask)
  "Log in at the server of ACCOUNT, and send nothing; return a plist.
ACCOUNT is that of `smtpmail-native-job-account'.  ASK non-nil means that the
user can be asked for what is missing.  The value is the result of the module,
with :user, the user name or nil, and :seconds in front of it.  Signal a child
of `smtpmail-native-error' if the check cannot begin."
  (let ((found (smtpmail-native-identity-find account :ask ask))
        (start (float-time)))
    (unwind-protect
        (let ((result (smtpmail-native-account-call
                       (plist-get account :account)
                       (lambda ()
                         (smtpmail-native-wait-probe account nil found)))))
          (prog1 (append (list :user (plist-get found :user)
                               :seconds (- (float-time) start))
                         result)
            ;; A password that was typed, and works, is kept for the session.
            (smtpmail-native-identity-judge result found (not ask))
            (setq found nil)))
      (smtpmail-native-auth-release found))))

;;;; What it says

(defun smtpmail-native-check--capability (result name)
  "Return what RESULT says of the extension NAME: its parameters, or nil."
  (let ((case-fold-search t))
    (seq-some (lambda (line)
                (and (string-match (format "\\`%s\\(?:[ =]\\(.*\\)\\)?\\'" name)
                                   line)
                     (smtpmail-native-error-text (or (match-string 1 line) ""))))
              (split-string (or (plist-get result :capabilities) "") "\n" t))))

(defun smtpmail-native-check--days (result)
  "Return for how many days the certificate in RESULT is valid yet, or nil."
  (let ((end (plist-get (plist-get (plist-get result :tls) :certificate)
                        :not-after)))
    (and end (floor (- end (float-time)) 86400))))

(defun smtpmail-native-check--login (result)
  "Return (GOOD TEXT) for the login in RESULT."
  (let ((mechanism (smtpmail-native-auth-string
                    (plist-get result :mechanism)))
        (user (plist-get result :user)))
    (cond
     (mechanism
      (list t (format "%s by %s"
                      (if user (concat "as " (smtpmail-native-error-text user))
                        "accepted")
                      mechanism)))
     ((not (smtpmail-native-check--capability result "AUTH"))
      (list (null user) "the server does not offer authentication"))
     (t (list nil "not tried: Emacs has no credentials for this server")))))

(defun smtpmail-native-check--steps (account result)
  "Return the steps of the check RESULT of ACCOUNT: a list of (NAME GOOD TEXT).
The last one is the one that failed, if any did."
  (let* ((tls (plist-get result :tls))
         (days (smtpmail-native-check--days result))
         (size (smtpmail-native-check--capability result "SIZE"))
         (failed (not (eq (plist-get result :kind) 'ok))))
    (delq
     nil
     (list
      (and (plist-get result :greeting)
           (list "Connection" t
                 (format "%s:%s: %s" (plist-get account :host)
                         (plist-get account :port)
                         (smtpmail-native-error-text
                          (plist-get result :greeting)))))
      (cond (tls (list "Encryption" t (format "%s, %s" (plist-get tls :protocol)
                                              (plist-get tls :cipher))))
            ((not failed) (list "Encryption" nil "none: the connection is not \
encrypted")))
      (and days
           (list "Certificate" (> days 14)
                 (if (< days 0) "expired"
                   (format "valid for %d more day%s" days
                           (if (= days 1) "" "s")))))
      (let ((offered (smtpmail-native-check--capability result "AUTH")))
        (and offered (list "Mechanisms" t offered)))
      (and size (not (member size '("" "0")))
           (list "Limit" t (format "%s bytes for a message" size)))
      (if failed
          (list "Problem" nil
                (smtpmail-native-verdict-describe
                 result (plist-get account :host) (plist-get account :port)))
        (cons "Login" (smtpmail-native-check--login result)))))))

;;;; For you

;;;###autoload
(defun smtpmail-native-check-account ()
  "Log in at the mail server, send nothing, and show how that went.
The server is that for a message from the current buffer, as for
`smtpmail-native-server-info'; you are asked for a missing password.  Signal
a child of `smtpmail-native-error' if the check cannot begin."
  (interactive)
  (smtpmail-native-error-leaving
    (let* ((account (smtpmail-native-job-account-here))
           (result (smtpmail-native-check--run
                    account (smtpmail-native-tell-attended-p)))
           (steps (smtpmail-native-check--steps account result))
           (good (seq-every-p #'cadr steps)))
      (with-current-buffer (get-buffer-create "*smtpmail-native check*")
        (let ((inhibit-read-only t))
          (erase-buffer)
          (pcase-dolist (`(,name ,fine ,text) steps)
            (insert (propertize (format "%-12s" name) 'face 'bold)
                    (propertize (if fine "ok  " "!!  ")
                                'face (if fine 'success 'error))
                    text "\n"))
          (insert (format "\n%s in %.1f s.  Nothing was sent.\n"
                          (if good "All is well" "Checked")
                          (plist-get result :seconds)))
          (unless good
            (insert "M-x smtpmail-native-explain-credentials shows where Emacs \
looks for a password,\nM-x smtpmail-native-server-info what the server says.\n"))
          (goto-char (point-min)))
        (special-mode)
        (display-buffer (current-buffer))))))

;;;; For scripts

(defconst smtpmail-native-check--options
  '(("--server" :server t)
    ("--port" :port t)
    ("--stream" :stream t)
    ("--user" :user t)
    ("--timeout" :timeout t)
    ("--result" :result nil)
    ("--help" :help nil))
  "Options of `smtpmail-native-batch-check': (NAME KEY HAS-A-VALUE).")

(defconst smtpmail-native-check--usage "\
Usage: emacs --batch -l smtpmail-native -f smtpmail-native-batch-check \\
         -- [OPTION]...
Connect to the mail server, log in, and send nothing.

  --server=HOST    the mail server
  --port=PORT      its port, a number or the name of a service
  --stream=TYPE    auto, starttls, ssl (or tls), plain
  --user=USER      user name for authentication
  --timeout=SEC    seconds to wait for each reply
  --result         print the outcome as one line of JSON
  --help           print this
"
  "What --help shows.")

(defun smtpmail-native-check--report (account result)
  "Return the check RESULT of ACCOUNT as an alist for JSON."
  (let* ((steps (smtpmail-native-check--steps account result))
         (login (cdr (assoc "Login" steps)))
         (tls (plist-get result :tls)))
    `((exit . ,(cond ((not (eq (plist-get result :kind) 'ok))
                      (smtpmail-native-verdict-exit-code result))
                     ((car login) 0)
                     (t 77)))
      (server . ,(plist-get account :host))
      (port . ,(plist-get account :port))
      (tls . ,(and tls (plist-get tls :protocol)))
      (certificate_days . ,(smtpmail-native-check--days result))
      (mechanisms . ,(smtpmail-native-check--capability result "AUTH"))
      (mechanism . ,(smtpmail-native-auth-string
                     (plist-get result :mechanism)))
      (user . ,(plist-get result :user))
      (size . ,(smtpmail-native-check--capability result "SIZE"))
      (seconds . ,(/ (round (* 1000 (plist-get result :seconds))) 1000.0))
      (text . ,(nth 2 (car (last steps)))))))

(defun smtpmail-native-check--batch (args)
  "Check the account that ARGS name; return an alist with the code as `exit'."
  (let ((usage 64))
    (condition-case err
        (pcase-let ((`(,options . ,others)
                     (smtpmail-native-arguments
                      args smtpmail-native-check--options)))
          (cond
           ((plist-get options :help)
            (princ smtpmail-native-check--usage)
            '((exit . 0)))
           (others
            (smtpmail-native-arguments-fail
             "Unexpected argument %s (try -- --help)" (car others)))
           (t
            (smtpmail-native-batch-set-options options)
            (setq usage 78)
            (let* ((account (smtpmail-native-job-account-here))
                   (report (smtpmail-native-check--report
                            account
                            (smtpmail-native-check--run account nil))))
              (unless (equal 0 (alist-get 'exit report))
                (message "smtpmail-native: %s" (alist-get 'text report)))
              report))))
      ((error quit)
       (let ((text (smtpmail-native-batch-error-text err)))
         (message "smtpmail-native: %s" text)
         `((exit . ,(smtpmail-native-batch-error-code err usage))
           (text . ,text)))))))

;;;###autoload
(defun smtpmail-native-batch-check ()
  "Log in at the mail server, send nothing, and exit Emacs.
This is for \"emacs --batch -l smtpmail-native -f smtpmail-native-batch-check
-- ARGUMENTS\"; the argument --help lists the others.  The exit code is 0 if
the login worked, or if the server wants none and Emacs has none; otherwise
it is that of `smtpmail-native-batch-send'."
  (smtpmail-native-batch-main #'smtpmail-native-check--batch))

(provide 'smtpmail-native-check)
;;; smtpmail-native-check.el ends here
