;;; smtpmail-native-queue.el --- When to send, and what an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The only place with policy.  The variables of smtpmail are read once, at the
;; call, because programs bind them around it; from there on a job is a plist.

;;; Code:

(require 'smtpmail-native-error)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-message)

(declare-function smtpmail-fqdn "smtpmail" ())
(declare-function smtpmail-query-smtp-server "smtpmail" ())
(declare-function gnutls-trustfiles "gnutls" ())
(defvar gnutls-algorithm-priority)
(defvar gnutls-crlfiles)
(defvar gnutls-min-prime-bits)
(defvar smtpmail-debug-info)
(defvar smtpmail-default-smtp-server)
(defvar smtpmail-smtp-server)
(defvar smtpmail-smtp-service)
(defvar smtpmail-stream-type)
(defvar smtpmail-native-auth-mechanisms)
(defvar smtpmail-native-cleartext-auth)
(defvar smtpmail-native-timeout)

(defconst smtpmail-native-queue--large 262144
  "Octets from which on the progress of a message is shown.")

(defvar smtpmail-native-queue-last-result nil
  "What the module told of the last mail, a plist; for scripts.
It has :kind, :stage, :code, :enhanced, :text, :in-doubt, :octets, :reply,
:mechanism, :tls and :recipients, the latter a list
of (ADDRESS ACCEPTED CODE ENHANCED TEXT).")

;;;; The account of this moment

(defun smtpmail-native-queue--server ()
  "Return the name of the server, asking for it where that is possible."
  (require 'smtpmail)
  (or (smtpmail-native-auth-string smtpmail-smtp-server)
      (smtpmail-native-auth-string smtpmail-default-smtp-server)
      (if noninteractive
          (smtpmail-native-error-signal
           'smtpmail-native-usage-error
           "No server: set `smtpmail-smtp-server'")
        (smtpmail-query-smtp-server)
        smtpmail-smtp-server)))

(defun smtpmail-native-queue--port ()
  "Return the port that `smtpmail-smtp-service' names, an integer."
  (let* ((service smtpmail-smtp-service)
         (port (cond
                ((integerp service) service)
                ((not (stringp service)) nil)
                ((string-match-p "\\`[0-9]+\\'" service)
                 (string-to-number service))
                (t (cdr (assoc (downcase service)
                               smtpmail-native-auth-services))))))
    (if (and port (<= 1 port 65535))
        port
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "`smtpmail-smtp-service' names no port: %S" service)))))

(defun smtpmail-native-queue--helo ()
  "Return the name for EHLO."
  (let ((name (smtpmail-fqdn)))
    (if (string-match-p "\\`[][-_.:a-zA-Z0-9]+\\'" name) name "localhost")))

(defun smtpmail-native-queue--file-name (file)
  "Return FILE expanded and in the coding system of file names."
  (encode-coding-string (expand-file-name file)
                        (or file-name-coding-system
                            default-file-name-coding-system
                            'utf-8)))

(defun smtpmail-native-queue--priority ()
  "Return `gnutls-algorithm-priority' for this session, or nil."
  (let ((priority gnutls-algorithm-priority))
    (if (functionp priority) (funcall priority 'gnutls-x509pki) priority)))

(defun smtpmail-native-queue--tls ()
  "Return what the options of gnutls.el say, as part of a job."
  (require 'gnutls)
  (list :trustfiles (mapcar #'smtpmail-native-queue--file-name
                            (gnutls-trustfiles))
        :crlfiles (mapcar #'smtpmail-native-queue--file-name
                          (seq-filter #'file-exists-p gnutls-crlfiles))
        :priority (smtpmail-native-queue--priority)
        :min-prime-bits (or gnutls-min-prime-bits 0)))

(defun smtpmail-native-queue-account ()
  "Return a plist of how the user's mail is sent at this moment.
It holds what `smtpmail-native-module-send' wants, without credentials and
message.  Signal `smtpmail-native-usage-error' for options that say
nothing that can be used."
  (let ((host (smtpmail-native-queue--server)))
    (append
     (list :host (encode-coding-string host 'utf-8)
           :port (smtpmail-native-queue--port)
           :stream smtpmail-stream-type
           :helo (smtpmail-native-queue--helo)
           :timeout-ms (max 1 (round (* 1000 smtpmail-native-timeout)))
           :cleartext smtpmail-native-cleartext-auth
           :trace (and smtpmail-debug-info t))
     (smtpmail-native-queue--tls))))

(defun smtpmail-native-queue--credentials (found)
  "Return the part of a job that FOUND, who the user is, makes up.
FOUND is from `smtpmail-native-auth-find'."
  (let ((key (smtpmail-native-auth-string (plist-get found :key)))
        (cert (smtpmail-native-auth-string (plist-get found :cert)))
        (user (plist-get found :user)))
    (list :auth (not (eq (plist-get found :source) 'none))
          :user (and user (encode-coding-string user 'utf-8))
          :password (plist-get found :password)
          :mechanisms
          (or (plist-get found :mechanisms)
              (and smtpmail-native-auth-mechanisms
                   (mapconcat (lambda (name) (upcase (format "%s" name)))
                              smtpmail-native-auth-mechanisms " ")))
          :key (and key cert (smtpmail-native-queue--file-name key))
          :cert (and key cert (smtpmail-native-queue--file-name cert)))))

;;;; Events

(defun smtpmail-native-queue--trace (host plist)
  "Add the event PLIST to the trace of the session with HOST."
  (with-current-buffer (get-buffer-create
                        (format "*trace of SMTP session to %s*" host))
    (let ((inhibit-read-only t))
      (save-excursion
        (goto-char (point-max))
        (insert (if (plist-get plist :from-server) "S: " "C: ")
                (smtpmail-native-error-text (plist-get plist :text))
                "\n")))))

(defun smtpmail-native-queue--new-trace (host)
  "Empty the trace of an earlier session with HOST."
  (with-current-buffer (get-buffer-create
                        (format "*trace of SMTP session to %s*" host))
    (let ((inhibit-read-only t))
      (erase-buffer))))

(defun smtpmail-native-queue--reporter (plist reporter)
  "Show the progress in PLIST of an event by REPORTER, which may be nil.
Return the reporter, a new one if there is much to send."
  (let ((sent (plist-get plist :sent))
        (total (plist-get plist :total)))
    (when (and (not noninteractive) (> total smtpmail-native-queue--large))
      (let ((reporter (or reporter
                          (make-progress-reporter "Sending mail..." 0 total))))
        (progress-reporter-update reporter sent)
        reporter))))

(defun smtpmail-native-queue--await (done seconds)
  "Let Emacs live until the function DONE returns non-nil.
Give up after SECONDS, if non-nil."
  (let ((until (and seconds (+ (float-time) seconds))))
    (while (and (not (funcall done))
                (or (null until) (< (float-time) until)))
      (accept-process-output nil 0.05)
      (unless noninteractive
        (redisplay)))))

(defun smtpmail-native-queue--run (job)
  "Run JOB, a plist for the module, and return its result, a plist.
Emacs stays alive meanwhile.  `C-g' cancels the job, whose result then
tells what has become of the mail."
  (let* ((host (plist-get job :host))
         (result nil)
         (reporter nil)
         (done (lambda () result))
         (id (progn
               (when (plist-get job :trace)
                 (smtpmail-native-queue--new-trace host))
               (smtpmail-native-channel-submit
                job
                (lambda (kind plist)
                  (pcase kind
                    ('trace (smtpmail-native-queue--trace host plist))
                    ('progress
                     (setq reporter (smtpmail-native-queue--reporter
                                     plist reporter)))
                    ('done (setq result plist))))))))
    (condition-case nil
        (let ((inhibit-quit nil))
          (smtpmail-native-queue--await done nil))
      (quit
       (smtpmail-native-channel-cancel id)
       (let ((inhibit-quit t))
         (smtpmail-native-queue--await done 5))))
    (or result
        (list :kind 'cancelled :stage 'end-of-data :in-doubt t
              :text "cancelled, and the session does not end"))))

;;;; Outcomes

(defun smtpmail-native-queue--wants-credentials-p (result found)
  "Return non-nil if RESULT says that the server wants to know who we are.
FOUND are the credentials that were used."
  (and (eq (plist-get result :kind) 'reply)
       (eql (plist-get result :code) 530)
       (eq (plist-get found :source) 'none)
       (not noninteractive)))

(defun smtpmail-native-queue--settle (result found)
  "Tell the source of the credentials FOUND what RESULT says of them."
  (cond ((smtpmail-native-auth-string (plist-get result :mechanism))
         (smtpmail-native-auth-worked found))
        ((and (eq (plist-get result :kind) 'auth)
              (eql (plist-get result :code) 535))
         (smtpmail-native-auth-failed found))))

(defun smtpmail-native-queue--attempt (job account demanded)
  "Run JOB with the credentials for ACCOUNT and return (RESULT . FOUND).
DEMANDED as in `smtpmail-native-auth-find'."
  (let ((found (smtpmail-native-auth-find (plist-get account :host)
                                          (plist-get account :port)
                                          demanded)))
    (unwind-protect
        (let ((result (smtpmail-native-queue--run
                       (append (smtpmail-native-queue--credentials found)
                               job account))))
          (smtpmail-native-queue--settle result found)
          (cons result found))
      (smtpmail-native-auth-release found))))

(defun smtpmail-native-queue-send-file (file sender recipients &optional account)
  "Send the octets in FILE from SENDER to RECIPIENTS, and wait for the outcome.
SENDER is a string, RECIPIENTS a list of strings, ACCOUNT that of
`smtpmail-native-queue-account' (default: of this moment).  Return the
result of the module, a plist.  Signal a child of `smtpmail-native-error'
unless the server has taken the mail for all recipients; nobody gets it
then, but after `smtpmail-native-unknown-outcome' all may have got it."
  (smtpmail-native-load)
  (let* ((account (or account (smtpmail-native-queue-account)))
         (encode (lambda (address) (encode-coding-string address 'utf-8)))
         (job (list :sender (funcall encode sender)
                    :recipients (mapcar encode recipients)
                    :file (smtpmail-native-queue--file-name file)))
         (outcome (smtpmail-native-queue--attempt job account nil)))
    (when (smtpmail-native-queue--wants-credentials-p (car outcome)
                                                      (cdr outcome))
      (setq outcome (smtpmail-native-queue--attempt job account t)))
    (smtpmail-native-queue--check (car outcome) account)))

(defun smtpmail-native-queue--check (result account)
  "Return RESULT, or signal what it says has gone wrong with ACCOUNT."
  (let ((condition (smtpmail-native-error-condition result)))
    (setq smtpmail-native-queue-last-result result)
    (when condition
      (smtpmail-native-error-signal
       condition
       (smtpmail-native-error-describe result (plist-get account :host)
                                       (plist-get account :port))))
    result))

(defun smtpmail-native-queue-probe (account)
  "Look at the server of ACCOUNT and return the result, a plist.
Only greeting, EHLO and TLS are tried.  Signal a child of
`smtpmail-native-error' when they fail."
  (smtpmail-native-load)
  (smtpmail-native-queue--run (append '(:probe t) account)))

(defun smtpmail-native-queue--file-copies (buffer files)
  "Append the mail in BUFFER to FILES, those of its Fcc fields.
The mail has been sent, and so a failure is only told."
  (dolist (file files)
    (condition-case err
        (with-temp-buffer
          (set-buffer-multibyte nil)
          (insert "Fcc: " (encode-coding-string file 'utf-8) "\n")
          (insert-buffer-substring buffer)
          (goto-char (point-min))
          (search-forward "\n\n")
          (let ((coding-system-for-write 'no-conversion))
            (mail-do-fcc (copy-marker (1- (point))))))
      (error
       (display-warning
        'smtpmail-native
        (format "The mail was sent, but its copy could not be filed in %s: %s"
                file (error-message-string err)))))))

(defun smtpmail-native-queue-send-buffer (&optional buffer)
  "Send the mail in BUFFER, default the current one, and wait for the outcome.
Return the result of the module; signal as
`smtpmail-native-queue-send-file' and `smtpmail-native-message-prepare'."
  (let* ((account (smtpmail-native-queue-account))
         (mail (smtpmail-native-message-prepare buffer))
         (octets (plist-get mail :buffer))
         (file nil))
    (unwind-protect
        (let (result)
          (setq file (make-temp-file "smtpmail-native-"))
          (with-current-buffer octets
            (let ((coding-system-for-write 'no-conversion)
                  (write-region-inhibit-fsync t))
              (write-region nil nil file nil 'silent)))
          (setq result (smtpmail-native-queue-send-file
                        file (plist-get mail :sender)
                        (plist-get mail :recipients) account))
          (smtpmail-native-queue--file-copies octets (plist-get mail :fcc))
          (append result (list :recipient-list (plist-get mail :recipients))))
      (kill-buffer octets)
      (when file
        (delete-file file)))))

(provide 'smtpmail-native-queue)
;;; smtpmail-native-queue.el ends here
