;;; smtpmail-native-batch.el --- Send from scripts  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The commands for `emacs --batch -l smtpmail-native -f FUNCTION -- ARGUMENTS'.
;; They end Emacs with a code of sysexits.h, after at most one line of JSON on
;; standard output; failures are a line on standard error.
;;
;; Emacs itself takes -t, --user, --help and others out of its command line,
;; wherever they stand, before any Lisp runs; only "--" stops it.

;;; Code:

(require 'json)
(require 'seq)
(require 'smtpmail-native-arguments)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-encode)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-lookup)
(require 'smtpmail-native-message)
(require 'smtpmail-native-options)
(require 'smtpmail-native-leftovers)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-queue)
(require 'smtpmail-native-tell)
(require 'smtpmail-native-verdict)
(require 'smtpmail-native-wait)

;;;; The exit code

(defun smtpmail-native-batch-error-code (err usage)
  "Return the exit code for ERR, a condition that no RESULT belongs to.
USAGE is the code for `smtpmail-native-usage-error'."
  (let ((conditions (get (car err) 'error-conditions)))
    (cond
     ((memq 'smtpmail-native-malformed-message conditions) 65)
     ((memq 'smtpmail-native-usage-error conditions) usage)
     ((memq 'smtpmail-native-auth-error conditions) 77)
     ((memq 'smtpmail-native-outbox-error conditions) 74)
     ((memq 'file-error conditions) 74)
     (t 70))))

(defun smtpmail-native-batch-error-text (err)
  "Return the text of the condition ERR as one line."
  (replace-regexp-in-string
   "[\n\r]+" " "
   (if (memq 'smtpmail-native-error (get (car err) 'error-conditions))
       (cadr err)
     (error-message-string err))))

;;;; Options

(defun smtpmail-native-batch--port (value)
  "Return VALUE, the argument of --port, if it names a port."
  (smtpmail-native-load)
  (unless (smtpmail-native-lookup-service value)
    (smtpmail-native-arguments-fail "Invalid --port: %s" value))
  value)

(defun smtpmail-native-batch--stream (value)
  "Return the `smtpmail-stream-type' that VALUE, that of --stream, means."
  (let ((type (assoc value '(("auto" . nil) ("plain" . plain) ("ssl" . ssl)
                             ("starttls" . starttls) ("tls" . tls)))))
    (unless type
      (smtpmail-native-arguments-fail
       "--stream must be auto, starttls, ssl, tls or plain: %s" value))
    (cdr type)))

(defun smtpmail-native-batch--set-timeout (value)
  "Set `smtpmail-native-timeout' to VALUE, that of --timeout, if non-nil."
  (when value
    (unless (and (string-match-p "\\`[0-9]+\\(?:\\.[0-9]+\\)?\\'" value)
                 (> (string-to-number value) 0))
      (smtpmail-native-arguments-fail
       "--timeout must be a number of seconds: %s" value))
    (setq smtpmail-native-timeout (string-to-number value))))

(defun smtpmail-native-batch--set-sender (value)
  "Make VALUE, that of --from, the envelope sender, if non-nil.
It is the author as well, should the message name none."
  (when value
    (let ((addresses (and (not (string-match-p "\\`[ \t]*\\(?:<>\\)?[ \t]*\\'"
                                               value))
                          (smtpmail-native-message-recipients value "--from"))))
      (when (cdr addresses)
        (smtpmail-native-arguments-fail "More than one address in --from: %s" value))
      (setq smtpmail-mail-address (or (car addresses) "")
            user-mail-address (or (car addresses) user-mail-address)))))

(defun smtpmail-native-batch-set-options (options)
  "Set the variables of smtpmail as OPTIONS say; Emacs ends soon."
  (pcase-dolist (`(,key ,variable ,reader)
                 '((:server smtpmail-smtp-server identity)
                   (:port smtpmail-smtp-service smtpmail-native-batch--port)
                   (:stream smtpmail-stream-type smtpmail-native-batch--stream)
                   (:user smtpmail-smtp-user identity)))
    (let ((value (plist-get options key)))
      (when value
        ;; What the command line says comes before the accounts.
        (setq smtpmail-native-accounts nil)
        (set variable (funcall reader value)))))
  (smtpmail-native-batch--set-timeout (plist-get options :timeout))
  (when (plist-get options :name)
    (setq user-full-name (plist-get options :name)))
  (smtpmail-native-batch--set-sender (plist-get options :from)))

;;;; The message

(defun smtpmail-native-batch--input-offset ()
  "Return how many octets of standard input were read before, if known.
If standard input is a file, opening it again starts at its beginning."
  (condition-case nil
      (with-temp-buffer
        (insert-file-contents-literally "/proc/self/fdinfo/0")
        (if (looking-at "pos:[ \t]*\\([0-9]+\\)")
            (string-to-number (match-string 1))
          0))
    (file-error 0)))

(defun smtpmail-native-batch--insert-input ()
  "Insert the octets of standard input."
  ;; What else reads it in batch ends lines at CR and at LF alike.
  (let ((offset (smtpmail-native-batch--input-offset)))
    (insert-file-contents-literally "/dev/stdin" nil
                                    (and (> offset 0) offset))))

(defun smtpmail-native-batch--insert (file)
  "Insert the octets of FILE, or of standard input if FILE is nil.
Lines that end by CR alone end by LF then, as a header is read by lines."
  (if file
      (insert-file-contents-literally file)
    (smtpmail-native-batch--insert-input))
  (goto-char (point-min))
  (unless (search-forward "\n" nil t)
    (subst-char-in-region (point-min) (point-max) ?\r ?\n))
  (smtpmail-native-batch--skip-mbox-line))

(defun smtpmail-native-batch--skip-mbox-line ()
  "Delete the line that stands before a message in an mbox (RFC 4155)."
  (goto-char (point-min))
  (let ((case-fold-search nil))
    (when (looking-at ">?From [^\n]*\n")
      (replace-match ""))))

(defun smtpmail-native-batch--wishes (options wishes)
  "Return WISHES, a plist, with what OPTIONS ask of reports."
  (let ((asked (smtpmail-native-wishes-parse
                (mapconcat (pcase-lambda (`(,key . ,name))
                             (let ((value (plist-get options key)))
                               (if value (format "%s=%s; " name value) "")))
                           '((:notify . "notify") (:return . "return")
                             (:envid . "envid"))
                           ""))))
    (while asked
      (setq wishes (plist-put wishes (pop asked) (pop asked))))
    wishes))

(defun smtpmail-native-batch--complete-author ()
  "Give the author of the message in the current buffer an address.
Programs like cron write From: root (Cron Daemon).  The address is the
user's; nothing is changed if that is not known either."
  (let ((address (smtpmail-user-mail-address)))
    (save-restriction
      (goto-char (point-min))
      (narrow-to-region (point) (if (re-search-forward "^\r?\n" nil 'move)
                                    (match-beginning 0)
                                  (point)))
      (when address
        (smtpmail-native-encode-complete-author
         (encode-coding-string address 'utf-8))))))

(defun smtpmail-native-batch--prepare (options recipients)
  "Read the message that OPTIONS name and make it ready for RECIPIENTS.
Return the plist of `smtpmail-native-message-prepare-lean'."
  ;; The body stays in this buffer, which ends with Emacs.
  (with-current-buffer (generate-new-buffer " *smtpmail-native input*" t)
    (set-buffer-multibyte nil)
    (smtpmail-native-batch--insert (plist-get options :file))
    ;; A message, not a draft: only an empty line ends its header.
    (let* ((mail-header-separator "")
           (mail (progn
                   (smtpmail-native-batch--complete-author)
                   (smtpmail-native-message-prepare-lean
                    nil recipients (plist-get options :headers)
                    (not (plist-get options :obey))))))
      (plist-put mail :wishes (smtpmail-native-batch--wishes
                               options (plist-get mail :wishes))))))

;;;; The report

(defun smtpmail-native-batch--json (report)
  "Return REPORT, an alist, as one line of JSON in pure ASCII."
  (replace-regexp-in-string
   "[^[:ascii:]]"
   (lambda (text)
     (mapconcat (lambda (unit) (format "\\u%04x" unit))
                (let ((char (aref text 0)))
                  (if (< char #x10000)
                      (list char)
                    (list (+ #xd800 (ash (- char #x10000) -10))
                          (+ #xdc00 (logand (- char #x10000) #x3ff)))))
                ""))
   (let ((json-encoding-pretty-print nil))
     (json-encode report))
   t t))

(defun smtpmail-native-batch--fates (mail result queued)
  "Return what became of each recipient of MAIL by RESULT, as a vector.
RESULT is a plist of the module, or nil; QUEUED non-nil means that MAIL
has only been put into the outbox."
  (vconcat
   (mapcar
    (lambda (address)
      (pcase-let ((`(,_ ,accepted ,code ,enhanced ,text)
                   (assoc (encode-coding-string address 'utf-8)
                          (plist-get result :recipients))))
        `((address . ,address)
          (outcome . ,(cond (queued "queued")
                            ((and accepted (plist-get result :in-doubt))
                             "unknown")
                            ((and accepted (eq (plist-get result :kind) 'ok))
                             "sent")
                            ((or accepted (null code)) "not sent")
                            ((>= code 500) "refused")
                            ((>= code 400) "deferred")
                            (t "not sent")))
          (code . ,(and code (> code 0) code))
          (enhanced . ,(smtpmail-native-auth-string enhanced))
          (text . ,(and text (smtpmail-native-error-text text))))))
    (plist-get mail :recipients))))

(defun smtpmail-native-batch--outcome (failure result kept queued)
  "Return the exit code and one word for what has happened, as a list.
FAILURE is (CODE . TEXT) or nil, RESULT a plist of the module or nil, KEPT
the entry in which the message still is or nil.  QUEUED as in
`smtpmail-native-batch--fates'."
  (let ((status (and kept (plist-get (smtpmail-native-entry-state kept)
                                     :status))))
    (cond ((and failure (plist-get result :in-doubt)) '(76 "unknown"))
          ;; The server has it, whatever went wrong afterwards.
          ((and failure (eq (plist-get result :kind) 'ok)) '(0 "sent"))
          (failure (list (car failure) "failed"))
          (queued '(0 "queued"))
          ;; What is left waits in the outbox: no script is to send it again.
          (kept (list (if (eq status 'refused) 69 0) "partial"))
          (t '(0 "sent")))))

(defun smtpmail-native-batch--send-report (mail id failure queued)
  "Return what became of MAIL, which may be nil, as an alist for JSON.
ID is that of its entry in the outbox, or nil; FAILURE and QUEUED are as
in `smtpmail-native-batch--outcome'."
  (let* ((result smtpmail-native-queue-last-result)
         (kept (and id (smtpmail-native-outbox-get id)))
         (code (plist-get result :code))
         (outcome (smtpmail-native-batch--outcome failure result kept queued)))
    `((exit . ,(car outcome))
      (outcome . ,(cadr outcome))
      (id . ,(and kept id))
      (message_id . ,(plist-get mail :message-id))
      (sender . ,(plist-get mail :sender))
      (recipients . ,(smtpmail-native-batch--fates mail result queued))
      (kind . ,(and result (symbol-name (plist-get result :kind))))
      (stage . ,(and result (symbol-name (plist-get result :stage))))
      (code . ,(and code (> code 0) code))
      (enhanced . ,(smtpmail-native-auth-string (plist-get result :enhanced)))
      (notes . ,(smtpmail-native-auth-string (plist-get result :notes)))
      (text . ,(if failure
                   (cdr failure)
                 (and result (smtpmail-native-error-text
                              (or (smtpmail-native-auth-string
                                   (plist-get result :reply))
                                  (plist-get result :text)))))))))

;;;; Commands

(defun smtpmail-native-batch--deliver (mail queue note)
  "Send MAIL and wait, or with QUEUE non-nil only put it into the outbox.
Call NOTE with the id of its entry as soon as there is one.  Return non-nil
if it was only put into the outbox, as one that is to be sent later is."
  (let ((smtpmail-native-changed-functions
         (cons note smtpmail-native-changed-functions)))
    (null (plist-get (smtpmail-native-queue-send mail (if queue 'queue 'wait))
                     :kind))))

(defun smtpmail-native-batch--send (args)
  "Send what ARGS say; return an alist that has the exit code as `exit'."
  (let ((usage 64)
        (mail nil)
        (id nil)
        (queue nil)
        (failure nil))
    (setq smtpmail-native-queue-last-result nil)
    (condition-case err
        (pcase-let ((`(,options . ,recipients)
                     (smtpmail-native-arguments
                      args smtpmail-native-arguments-send-options)))
          (if (plist-get options :help)
              (princ smtpmail-native-arguments-send-usage)
            (unless (or recipients (plist-get options :headers))
              (smtpmail-native-arguments-fail
               "No recipients; name some or use -t (try -- --help)"))
            (smtpmail-native-batch-set-options options)
            (setq mail (smtpmail-native-batch--prepare options recipients)
                  ;; From here on only the configuration can be at fault.
                  usage 78)
            (setq queue (smtpmail-native-batch--deliver
                         mail (plist-get options :queue)
                         (lambda (new) (setq id new))))))
      ((error quit)
       (setq failure
             (cons (if smtpmail-native-queue-last-result
                       (smtpmail-native-verdict-exit-code
                        smtpmail-native-queue-last-result)
                     (smtpmail-native-batch-error-code err usage))
                   (smtpmail-native-batch-error-text err)))))
    (when failure
      (message "smtpmail-native: %s" (cdr failure)))
    (smtpmail-native-batch--send-report mail id failure queue)))

(defun smtpmail-native-batch--count (ids)
  "Return what has become of the entries IDS, as an alist of numbers."
  (let ((counts (list (cons 'sent 0) (cons 'waiting 0) (cons 'refused 0)
                      (cons 'unknown 0) (cons 'held 0) (cons 'damaged 0))))
    (dolist (id ids counts)
      (let* ((entry (smtpmail-native-outbox-get id))
             (status (and entry (plist-get (smtpmail-native-entry-state entry)
                                           :status))))
        (cl-incf (alist-get
                  (cond ((null entry) 'sent)
                        ((smtpmail-native-entry-problem entry) 'damaged)
                        ((smtpmail-native-entry-flushable-p entry) 'waiting)
                        ((memq status '(refused unknown held)) status)
                        ;; Its copy is still to be filed.
                        (t 'sent))
                  counts))))))

(defun smtpmail-native-batch--flush-code (counts)
  "Return the exit code for COUNTS of `smtpmail-native-batch--count'."
  (let ((some-p (lambda (key) (> (alist-get key counts) 0))))
    (cond ((funcall some-p 'unknown) 76)
          ((funcall some-p 'refused) 69)
          ((funcall some-p 'held) 77)
          ((funcall some-p 'waiting) 75)
          ((funcall some-p 'damaged) 74)
          (t 0))))

(defun smtpmail-native-batch--flush-all ()
  "Send all that waits; return what became of it, as an alist."
  (smtpmail-native-load)
  (smtpmail-native-leftovers-empty-trash)
  (smtpmail-native-leftovers-adopt)
  (let ((ids (mapcar #'smtpmail-native-entry-id
                     (seq-filter #'smtpmail-native-entry-flushable-p
                                 (smtpmail-native-outbox-list)))))
    (smtpmail-native-wait-flush)
    (let* ((now (mapcar #'smtpmail-native-entry-id
                        (seq-filter #'smtpmail-native-entry-flushable-p
                                    (smtpmail-native-outbox-list))))
           ;; Also what has come meanwhile.
           (counts (smtpmail-native-batch--count (seq-union ids now)))
           (waiting (alist-get 'waiting counts)))
      (when (> waiting 0)
        (message "smtpmail-native: %d message%s still waiting in the outbox"
                 waiting (if (= waiting 1) " is" "s are")))
      (cons (cons 'exit (smtpmail-native-batch--flush-code counts)) counts))))

(defun smtpmail-native-batch--flush (args)
  "Send what waits as ARGS say; return an alist with the exit code as `exit'."
  (let ((usage 64))
    (condition-case err
        (pcase-let ((`(,options . ,others)
                     (smtpmail-native-arguments
                      args smtpmail-native-arguments-flush-options)))
          (cond
           ((plist-get options :help)
            (princ smtpmail-native-arguments-flush-usage)
            '((exit . 0)))
           (others
            (smtpmail-native-arguments-fail
             "Unexpected argument %s: all waiting messages are sent" (car others)))
           (t
            (smtpmail-native-batch--set-timeout (plist-get options :timeout))
            (setq usage 78)
            (smtpmail-native-batch--flush-all))))
      ((error quit)
       (let ((text (smtpmail-native-batch-error-text err)))
         (message "smtpmail-native: %s" text)
         `((exit . ,(smtpmail-native-batch-error-code err usage))
           (text . ,text)))))))

(defun smtpmail-native-batch-main (function)
  "Call FUNCTION with the rest of the command line, and end Emacs.
FUNCTION returns an alist, which is printed if --result is there."
  (let* ((args command-line-args-left)
         (report (progn
                   ;; Nothing of it is for Emacs.
                   (setq command-line-args-left nil)
                   (funcall function args))))
    (when (member "--result" args)
      (princ (concat (smtpmail-native-batch--json report) "\n")))
    (kill-emacs (alist-get 'exit report))))

;;;###autoload
(defun smtpmail-native-batch-send ()
  "Send a message as the rest of the command line says, and exit Emacs.
This is for \"emacs --batch -l smtpmail-native -f smtpmail-native-batch-send
-- ARGUMENTS\"; the argument --help lists the others.  The
exit code is one of sysexits.h: 0 sent, 64 arguments, recipients or
addresses, 65 no message, 68 no such server, 69 refused, 70 internal, 74
files, 75 not sent but worth another try, 76 it may have been sent or the
server does not speak SMTP, 77 authentication or certificate, 78
configuration."
  (smtpmail-native-batch-main #'smtpmail-native-batch--send))

;;;###autoload
(defun smtpmail-native-batch-flush ()
  "Send all waiting messages of the outbox once, and exit Emacs.
This is for \"emacs --batch -l smtpmail-native -f smtpmail-native-batch-flush
-- ARGUMENTS\".  It leaves messages alone that you hold, that were refused
before or that may have been delivered.  The exit code is 0 if nothing
waits any more; otherwise the first of these that applies: 76 a message may
have been delivered, 69 one was refused, 77 one is held for a password or
certificate, 75 one still waits, 74 one is damaged."
  (smtpmail-native-batch-main #'smtpmail-native-batch--flush))

(provide 'smtpmail-native-batch)
;;; smtpmail-native-batch.el ends here
