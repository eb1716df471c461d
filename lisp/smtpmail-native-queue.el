;;; smtpmail-native-queue.el --- When to send, and what an outcome means  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The only place with policy.  The variables of smtpmail that say to whom a
;; mail is given are read once, at the call, because programs bind them around
;; it; they stand in the envelope from there on.  How a connection is made safe
;; and who the user is, is read when an attempt begins.
;;
;; A mail is an entry of the outbox before anything else happens to it.  What
;; an attempt has led to is always read from the receipt that the module left
;; on the disk, whether it has just been written or was found there later by
;; another Emacs: see `smtpmail-native-queue--settle'.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'smtpmail-native-error)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-message)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-seven-bit)
(require 'smtpmail-native-trust)
(require 'smtpmail-native-wishes)

(declare-function smtpmail-fqdn "smtpmail" ())
(declare-function smtpmail-query-smtp-server "smtpmail" ())
(declare-function gnutls-trustfiles "gnutls" ())
(defvar gnutls-algorithm-priority)
(defvar gnutls-crlfiles)
(defvar gnutls-min-prime-bits)
(defvar smtpmail-debug-info)
(defvar smtpmail-default-smtp-server)
(defvar smtpmail-queue-mail)
(defvar smtpmail-retries)
(defvar smtpmail-smtp-server)
(defvar smtpmail-smtp-service)
(defvar smtpmail-smtp-user)
(defvar smtpmail-stream-type)
(defvar smtpmail-native-auth-mechanisms)
(defvar smtpmail-native-avoid-extensions)
(defvar smtpmail-native-background)
(defvar smtpmail-native-chunking)
(defvar smtpmail-native-cleartext-auth)
(defvar smtpmail-native-expire)
(defvar smtpmail-native-failed-functions)
(defvar smtpmail-native-idle-seconds)
(defvar smtpmail-native-max-sessions)
(defvar smtpmail-native-proxy)
(defvar smtpmail-native-source-address)
(defvar smtpmail-native-partial-recipients)
(defvar smtpmail-native-sent-functions)
(defvar smtpmail-native-timeout)
(defvar smtpmail-native-undo-seconds)

(defconst smtpmail-native-queue--large 262144
  "Octets from which on the progress of a message is shown.")

(defconst smtpmail-native-queue--back-off '(60 120 300 900 1800 3600)
  "Seconds until the next try after each failure; the last one for all others.")

(defconst smtpmail-native-queue--rescan 600
  "Seconds after which entries that another Emacs holds are looked at again.")

(defconst smtpmail-native-queue--in-flight 32
  "How many mails of an account the module has at a time.
It needs to know the next one before the last one is done, to send both
without a pause.")

(defconst smtpmail-native-queue--slice 0.02
  "Seconds for which Emacs is kept busy with the outbox at a time.")

(defconst smtpmail-native-queue--garbage (* 64 1024 1024)
  "Octets of garbage that a batch Emacs may make before it collects it.")

(defvar smtpmail-native-queue-last-result nil
  "What the module told of the last mail, a plist; for scripts.
It has :kind, :stage, :code, :enhanced, :text, :in-doubt, :octets, :reply,
:mechanism, :tls and :recipients, the latter a list
of (ADDRESS ACCEPTED CODE ENHANCED TEXT).")

(defvar smtpmail-native-queue-changed-functions nil
  "Functions that are called when something has happened to an entry.
The argument is its id, or nil when it may concern all of them.")

(defvar smtpmail-native-queue-file-functions nil
  "Functions that file copies of a mail when it has been sent.
The argument is its entry.  They tell failures themselves.")

(cl-defstruct (smtpmail-native-sending (:copier nil))
  "An attempt that is under way."
  (entry nil :documentation "Its entry, claimed.")
  (job nil :documentation "Id of the module's job.")
  (attempt 0 :documentation "Its number.")
  (partial nil :documentation "Non-nil if it is for those who are accepted.")
  (found nil :documentation "The credentials, see `smtpmail-native-auth-find'.")
  (start nil :documentation "When it began, seconds.")
  (sent 0 :documentation "Octets so far.")
  (total 0 :documentation "Octets in all.")
  (waiter nil :documentation "Non-nil if a caller waits for the result.")
  (cancelled nil :documentation "Non-nil if the user has cancelled it.")
  (result nil :documentation "Plist of the module, when all is over."))

(defvar smtpmail-native-queue--active (make-hash-table :test #'equal)
  "The attempts under way in this Emacs, by the id of their entry.")

(defvar smtpmail-native-queue--traces (make-hash-table :test #'equal)
  "The dialogue of the last attempt, a reversed list of lines, by entry id.")

(defvar smtpmail-native-queue--ready nil
  "Ids of the entries to be looked at and sent if they are due, in order.")

(defvar smtpmail-native-queue--waiting nil
  "Accounts without a free session, and the entries that wait for one.
An alist of (KEY FRONT . BACK): the ids FRONT, then those of BACK from its
end on.  So ten thousand of them cost no more to go on with than one.")

(defvar smtpmail-native-queue--held nil
  "How many entries that need the user have been seen since Emacs started.
The value is nil once that was told.")

(defvar smtpmail-native-queue--timer nil
  "The timer of the next look at the outbox, or nil.")

(defvar smtpmail-native-queue--once nil
  "Non-nil while no entry is to be looked at again by itself.")

(defvar smtpmail-native-queue--advance-timer nil
  "The timer that goes on with `smtpmail-native-queue--ready', or nil.")

(defvar smtpmail-native-queue--kept (make-hash-table :test #'equal)
  "Credentials that were found a moment ago, by account.")

(defvar smtpmail-native-queue--idle-timer nil
  "The timer that asks for passwords, or nil.")

(defvar smtpmail-native-queue--doubts (make-hash-table :test #'equal)
  "Attempts that ended at a certificate, by the id of the entry.
Each is (RESULT . FOUND), FOUND being the credentials, which nobody has seen:
they serve again when the user has accepted the certificate.")

(defconst smtpmail-native-queue--certificates 3
  "How many certificates of one server are accepted for one mail.
A server that shows another one each time would be tried for ever.")

(defvar smtpmail-native-queue--declined nil
  "Ids of entries for whose password the user has been asked already.")

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

(defun smtpmail-native-queue--priority ()
  "Return `gnutls-algorithm-priority' for this session, or nil."
  (let ((priority gnutls-algorithm-priority))
    (if (functionp priority) (funcall priority 'gnutls-x509pki) priority)))

(defun smtpmail-native-queue--tls ()
  "Return what the options of gnutls.el say, as part of a job."
  (require 'gnutls)
  (list :trustfiles (mapcar #'smtpmail-native-outbox-encode
                            (gnutls-trustfiles))
        :crlfiles (mapcar #'smtpmail-native-outbox-encode
                          (seq-filter #'file-exists-p gnutls-crlfiles))
        :priority (smtpmail-native-queue--priority)
        :min-prime-bits (or gnutls-min-prime-bits 0)))

(defun smtpmail-native-queue-account ()
  "Return a plist of the server that gets the user's mail at this moment.
It is the part of an envelope that smtpmail's variables say: :host, a
string, :port, an integer, :stream, :user and :helo.  Signal
`smtpmail-native-usage-error' for options that say nothing that can be
used."
  (let ((host (smtpmail-native-queue--server)))
    (unless (memq smtpmail-stream-type '(nil plain starttls ssl tls))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "`smtpmail-stream-type' must be nil, starttls, plain, ssl or \
tls: %S" smtpmail-stream-type)))
    (list :host host
          :port (smtpmail-native-queue--port)
          :stream smtpmail-stream-type
          :user (smtpmail-native-auth-string smtpmail-smtp-user)
          :helo (smtpmail-native-queue--helo))))

(defun smtpmail-native-queue--avoid (host)
  "Return the extensions that `smtpmail-native-avoid-extensions' has for HOST.
The value is a string of names, or nil."
  (let ((names (cdr (assoc-string host smtpmail-native-avoid-extensions t))))
    (and names
         (mapconcat (lambda (name) (upcase (format "%s" name)))
                    (ensure-list names) " "))))

(defun smtpmail-native-queue--connection (account)
  "Return the part of a job that leads to the server of ACCOUNT.
ACCOUNT is an envelope, or the account in it."
  (append
   (list :host (encode-coding-string (plist-get account :host) 'utf-8)
         :port (plist-get account :port)
         :pins (smtpmail-native-trust-pins (plist-get account :host)
                                           (plist-get account :port))
         :stream (plist-get account :stream)
         :helo (or (plist-get account :helo) (smtpmail-native-queue--helo))
         :avoid (smtpmail-native-queue--avoid (plist-get account :host))
         :timeout-ms (max 1 (round (* 1000 smtpmail-native-timeout)))
         :idle-ms (max 0 (round (* 1000 smtpmail-native-idle-seconds)))
         :max-sessions (max 1 smtpmail-native-max-sessions)
         :proxy (and smtpmail-native-proxy
                     (encode-coding-string smtpmail-native-proxy 'utf-8))
         :source smtpmail-native-source-address
         :cleartext smtpmail-native-cleartext-auth
         :trace t)
   (smtpmail-native-queue--tls)))

(defun smtpmail-native-queue--key (name)
  "Return NAME of a client's key or certificate as the module wants it.
It names a file, or an object on a token, or is nil."
  (cond ((null name) nil)
        ((string-prefix-p "pkcs11:" name) (encode-coding-string name 'utf-8))
        (t (smtpmail-native-outbox-encode name))))

(defun smtpmail-native-queue--credentials (found)
  "Return the part of a job that FOUND, who the user is, makes up.
FOUND is from `smtpmail-native-auth-find'."
  (let ((user (plist-get found :user)))
    ;; Who has no secret may still have a certificate of the classic variable.
    (list :auth t
          :user (and user (encode-coding-string user 'utf-8))
          :password (plist-get found :password)
          :token (plist-get found :token)
          :mechanisms
          (or (plist-get found :mechanisms)
              (and smtpmail-native-auth-mechanisms
                   (mapconcat (lambda (name) (upcase (format "%s" name)))
                              smtpmail-native-auth-mechanisms " ")))
          :key (smtpmail-native-queue--key (plist-get found :key))
          :cert (smtpmail-native-queue--key (plist-get found :cert))
          :passphrase (plist-get found :passphrase))))

;;;; What is under way

(defun smtpmail-native-queue-sending (id)
  "Return the `smtpmail-native-sending' of the entry ID, or nil.
There is one while this Emacs sends the entry."
  (gethash id smtpmail-native-queue--active))

(defun smtpmail-native-queue-sendings ()
  "Return all attempts that are under way in this Emacs."
  (hash-table-values smtpmail-native-queue--active))

;;;; Events

(defun smtpmail-native-queue--trace-buffer (host)
  "Return the buffer for the trace of sessions with HOST."
  (get-buffer-create (format "*trace of SMTP session to %s*" host)))

(defun smtpmail-native-queue--trace (host id plist)
  "Keep the line of the dialogue with HOST that is in the event PLIST.
ID is the entry's, or nil.  It goes into the trace buffer if the user wants
to see that."
  (let ((line (concat (if (plist-get plist :from-server) "S: " "C: ")
                      (smtpmail-native-error-text (plist-get plist :text))
                      "\n")))
    (when id
      (push line (gethash id smtpmail-native-queue--traces)))
    (when smtpmail-debug-info
      (with-current-buffer (smtpmail-native-queue--trace-buffer host)
        (let ((inhibit-read-only t))
          (save-excursion
            (goto-char (point-max))
            (insert line)))))))

(defun smtpmail-native-queue--new-trace (host id)
  "Forget the trace of an earlier session with HOST and for the entry ID."
  (remhash id smtpmail-native-queue--traces)
  (when smtpmail-debug-info
    (with-current-buffer (smtpmail-native-queue--trace-buffer host)
      (let ((inhibit-read-only t))
        (erase-buffer)))))

(defun smtpmail-native-queue-trace (id)
  "Return the dialogue of the last attempt for the entry ID, a string or nil.
Only this Emacs's own attempts are known."
  (let ((lines (gethash id smtpmail-native-queue--traces)))
    (and lines (apply #'concat (reverse lines)))))

(defun smtpmail-native-queue--changed (id)
  "Tell that something has happened to the entry ID."
  (run-hook-wrapped 'smtpmail-native-queue-changed-functions
                    (lambda (function)
                      (with-demoted-errors "smtpmail-native: %S"
                        (funcall function id))
                      nil)))

(defun smtpmail-native-queue--await (done seconds)
  "Let Emacs live until the function DONE returns non-nil.
Give up after SECONDS, if non-nil."
  (let ((until (and seconds (+ (float-time) seconds))))
    (while (and (not (funcall done))
                (or (null until) (< (float-time) until)))
      (accept-process-output nil 0.05)
      (smtpmail-native-channel-dispatch)
      (unless noninteractive
        (redisplay)))))

;;;; What an outcome means

(defun smtpmail-native-queue--fate (code)
  "Return what the reply CODE to one recipient means for the recipient."
  (cond ((and code (>= code 500)) 'refused)
        ((and code (>= code 400)) 'deferred)))

(defun smtpmail-native-queue--answers (receipt)
  "Return what RECEIPT tells of each recipient that the server answered for.
The value is an alist as in :results of `smtpmail-native-outbox-set'."
  (let ((sent (eq (plist-get receipt :kind) 'ok))
        (doubt (plist-get receipt :in-doubt))
        (answers nil))
    (pcase-dolist (`(,address ,accepted ,code ,enhanced ,text)
                   (plist-get receipt :recipients))
      (let ((outcome (cond ((eq accepted 'delivered) 'sent) ; LMTP
                           ((and accepted doubt) 'unknown)
                           ((and accepted sent) 'sent)
                           ((not accepted)
                            (smtpmail-native-queue--fate code)))))
        (when outcome
          (push (list (decode-coding-string address 'utf-8) outcome code
                      enhanced (smtpmail-native-error-text text))
                answers))))
    (nreverse answers)))

(defun smtpmail-native-queue--by-address (results)
  "Return a hash table of RESULTS, an alist of recipients.
Its keys are octets: what was read back from a receipt may be another
string for the same address."
  (let ((table (make-hash-table :test #'equal)))
    (dolist (result results)
      (puthash (encode-coding-string (car result) 'utf-8) result table))
    table))

(defun smtpmail-native-queue--merge (results answers)
  "Return RESULTS, an alist of recipients, brought up to date by ANSWERS."
  (let ((new (smtpmail-native-queue--by-address answers)))
    (append (seq-remove (lambda (result)
                          (gethash (encode-coding-string (car result) 'utf-8)
                                   new))
                        results)
            answers)))

(defun smtpmail-native-queue--remaining (entry results)
  "Return the recipients of ENTRY that RESULTS leave to be sent to."
  (let ((table (smtpmail-native-queue--by-address results)))
    (seq-remove (lambda (address)
                  (memq (cadr (gethash (encode-coding-string address 'utf-8)
                                       table))
                        '(sent refused)))
                (plist-get (smtpmail-native-entry-envelope entry)
                           :recipients))))

(defun smtpmail-native-queue-remaining (entry)
  "Return the recipients of ENTRY that the mail is still to be sent to.
Those that have got it are none of them, nor are those that a server has
refused while it took the mail for others."
  (smtpmail-native-queue--remaining
   entry (plist-get (smtpmail-native-entry-state entry) :results)))

(defun smtpmail-native-queue--verdict (receipt)
  "Return what RECEIPT of a failed attempt means for its entry.
The value is `unknown', `deferred', `refused', `password', `certificate'
or `cancelled'."
  (let ((kind (plist-get receipt :kind))
        (code (or (plist-get receipt :code) 0)))
    (cond
     ((plist-get receipt :in-doubt) 'unknown)
     ((eq kind 'cancelled) 'cancelled)
     ((or (eq kind 'auth) (plist-get receipt :passphrase-wanted)) 'password)
     ((eq kind 'certificate) 'certificate)
     ;; RFC 4954 6: whatever the command, the credentials were no good.
     ((and (eq kind 'reply)
           (or (= code 530) (equal (plist-get receipt :enhanced) "5.7.8")))
      'password)
     ((or (memq kind '(usage too-large cleartext unsupported))
          (and (eq kind 'reply) (>= code 500)))
      'refused)
     (t 'deferred))))

(defun smtpmail-native-queue--explain (entry receipt)
  "Return a text for people about RECEIPT of a failed attempt for ENTRY."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (smtpmail-native-error-describe receipt (plist-get envelope :host)
                                    (plist-get envelope :port))))

(defun smtpmail-native-queue--deferral (entry text)
  "Return the change of the state of ENTRY that lets it be tried again later.
TEXT says what has failed.  When it has been tried for
`smtpmail-native-expire' the user is to decide."
  (let* ((state (smtpmail-native-entry-state entry))
         (tries (1+ (or (plist-get state :tries) 0)))
         (now (float-time))
         (envelope (smtpmail-native-entry-envelope entry))
         ;; One that was to be sent later was not tried before.
         (created (max (or (plist-get envelope :created) now)
                       (or (plist-get (plist-get envelope :wishes) :release)
                           0)))
         (pause (or (nth (1- tries) smtpmail-native-queue--back-off)
                    (car (last smtpmail-native-queue--back-off)))))
    (if (and smtpmail-native-expire
             (> (- now created) smtpmail-native-expire))
        (list :status 'held :hold 'expired :next nil :tries tries :text text)
      (list :status 'ready :next (truncate (+ now pause))
            :tries tries :text text))))

(defun smtpmail-native-queue--encode (entry)
  "Encode the message of ENTRY for a server that takes only ASCII.
Return the change of its state: it is tried again at once, or refused if it
cannot be encoded."
  (condition-case err
      (with-temp-buffer
        (set-buffer-multibyte nil)
        (smtpmail-native-outbox-insert-message entry)
        (smtpmail-native-seven-bit-encode)
        (smtpmail-native-outbox-replace-message entry (current-buffer))
        (list :status 'ready :hold nil :next nil :more t :text nil))
    (smtpmail-native-refused
     (list :status 'refused :hold nil :next nil :text (cadr err)))))

(defun smtpmail-native-queue--failure (entry receipt cancelled)
  "Return the change of state that the failed attempt of RECEIPT means for ENTRY.
CANCELLED non-nil means that the user wants it to be held."
  (let ((text (smtpmail-native-queue--explain entry receipt))
        (verdict (smtpmail-native-queue--verdict receipt)))
    (cond
     ;; A token that has expired is fetched anew, once.
     ((and (plist-get receipt :second-chance)
           (not cancelled)
           (not (plist-get (smtpmail-native-entry-state entry) :renewed)))
      (list :status 'ready :hold nil :next nil :renewed t :text text))
     ;; The server does not keep it until it is time; we do.
     ((and (plist-get receipt :release-unsupported) (not cancelled))
      (list :status 'ready :hold nil :next nil :here t :undo t :text nil))
     ((and (plist-get receipt :eight-bit-unsupported) (not cancelled))
      (smtpmail-native-queue--encode entry))
     ((memq verdict '(refused unknown))
      (list :status verdict :hold nil :next nil :text text))
     (cancelled
      (list :status 'held :hold 'user :next nil :text text))
     ((memq verdict '(password certificate))
      (list :status 'held :hold verdict :next nil
            :refused (eq (plist-get receipt :kind) 'auth)
            :passphrase (plist-get receipt :passphrase-wanted)
            :text text))
     ((eq verdict 'cancelled)
      (list :status 'ready :next nil :text text))
     (t (smtpmail-native-queue--deferral entry text)))))

(defun smtpmail-native-queue--amount (entry results more)
  "Return the change of the state of ENTRY that RESULTS amount to.
They are the answers for its recipients.  MORE non-nil means that the
server takes no more of them at a time."
  (let* ((rest (seq-remove (lambda (result) (eq (cadr result) 'sent)) results))
         (text (mapconcat (lambda (result)
                            (format "<%s>: %s %s" (nth 0 result) (nth 2 result)
                                    (nth 4 result)))
                          rest "; ")))
    (cond
     (more
      (list :status 'ready :hold nil :next nil :more t :text nil))
     ((smtpmail-native-queue--remaining entry results)
      (smtpmail-native-queue--deferral
       entry (concat "Not yet taken for all recipients: " text)))
     (rest
      (list :status 'refused :hold nil :next nil
            :text (concat "Not taken for all recipients: " text)))
     (t (list :status 'sent :hold nil :next nil :text nil)))))

(defun smtpmail-native-queue--settle (entry &optional receipt cancelled)
  "Put down what the last attempt has led to for ENTRY, which is claimed.
It is told by RECEIPT, default the one on the disk.  CANCELLED non-nil
means that the user has cancelled the attempt, as does a state of `held'
that was put down during it.  Return nil, and do nothing, if that is put
down already.  An attempt without a receipt has led to nothing: the end of
data has never been sent.

All is put down in one step: whoever is killed in the middle of it has
settled nothing, and the next one does it again."
  (let* ((receipt (or receipt (smtpmail-native-entry-receipt entry)))
         (state (smtpmail-native-entry-state entry))
         (settled (or (plist-get state :settled) 0))
         (attempt (and receipt
                       ;; One that cannot be read is the last one.
                       (or (plist-get receipt :attempt) (1+ settled)))))
    (when (and receipt (> attempt settled))
      ;; Where nobody was to get the mail unless all did, a refused recipient
      ;; has not been dealt with: the next attempt, if any, is for all.
      (let* ((each (or (eq (plist-get receipt :kind) 'ok)
                       (plist-get receipt :in-doubt)
                       (and (plist-get receipt :partial)
                            (eq (plist-get receipt :stage) 'rcpt))))
             (all (smtpmail-native-queue--answers receipt))
             (answers (and each all))
             (results (smtpmail-native-queue--merge (plist-get state :results)
                                                    answers))
             (change (if (and answers (not (plist-get receipt :in-doubt)))
                         (smtpmail-native-queue--amount
                          entry results (plist-get receipt :more))
                       (smtpmail-native-queue--failure
                        entry receipt
                        (or cancelled (eq (plist-get state :status) 'held))))))
        (apply (if (eq (plist-get change :status) 'sent)
                   ;; The receipt says so, and the entry is deleted in a moment.
                   #'smtpmail-native-outbox-note
                 #'smtpmail-native-outbox-set)
               entry :settled attempt :undo nil :more nil :results results
               :replies (and (not each) all) change)
        (unless (plist-get receipt :attempt)
          (smtpmail-native-outbox-forget-receipt entry))
        t))))

;;;; Telling

(defun smtpmail-native-queue-people (entry)
  "Return the recipients of ENTRY in a few words."
  (let ((recipients (plist-get (smtpmail-native-entry-envelope entry)
                               :recipients)))
    (concat (smtpmail-native-error-text (car recipients))
            (if (cdr recipients)
                (format " and %d more" (length (cdr recipients)))
              ""))))

(defun smtpmail-native-queue-say (format &rest args)
  "Show FORMAT with ARGS as a line, but not over a minibuffer in use."
  (let ((inhibit-message (or inhibit-message (active-minibuffer-window))))
    (apply #'message format args)))

(defun smtpmail-native-queue--plist (entry)
  "Return what the functions of the hooks are told of ENTRY."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (state (smtpmail-native-entry-state entry)))
    (append (list :id (smtpmail-native-entry-id entry)
                  :file (smtpmail-native-outbox-file entry "message")
                  :status (plist-get state :status)
                  :hold (plist-get state :hold)
                  :text (plist-get state :text)
                  :results (smtpmail-native-queue--merge
                            (plist-get state :results)
                            (plist-get state :replies)))
            envelope)))

(defun smtpmail-native-queue--run-hook (hook entry)
  "Call each function of HOOK with a plist about ENTRY; none can do harm."
  (let ((plist (smtpmail-native-queue--plist entry)))
    (run-hook-wrapped hook
                      (lambda (function)
                        (condition-case err
                            (funcall function plist)
                          (error
                           (display-warning
                            'smtpmail-native
                            (format "Error in `%s': %s" hook
                                    (error-message-string err)))))
                        nil))))

(defun smtpmail-native-queue--advice (entry)
  "Return what happens next to ENTRY, and what the user can do."
  (let ((state (smtpmail-native-entry-state entry)))
    (pcase (plist-get state :status)
      ('ready
       (let ((next (plist-get state :next)))
         (if next
             (format "It will be tried again at %s"
                     (format-time-string "%H:%M" next))
           "It will be tried again")))
      ('unknown
       "It may have arrived, and is not sent again by itself: look whether it \
did, then type m (arrived) or s (send again) in M-x smtpmail-native-outbox")
      ('refused
       "It is kept: type e (edit as a new mail) or s (send again) in M-x \
smtpmail-native-outbox")
      (_ (pcase (plist-get state :hold)
           ('password
            (format "It is kept until the %s is known: type s (send) in M-x \
smtpmail-native-outbox"
                    (if (plist-get state :passphrase)
                        "passphrase of the key"
                      "password")))
           ('certificate
            "It is kept until you accept the certificate: type s (send) in M-x \
smtpmail-native-outbox")
           ('expired
            "It is kept: type s (try again), e (edit) or d (delete) in M-x \
smtpmail-native-outbox")
           (_ "It is kept: type s (send) in M-x smtpmail-native-outbox"))))))

(defun smtpmail-native-queue--tell (entry)
  "Tell the user about ENTRY, an attempt for which did not end its way."
  (let ((release (smtpmail-native-queue-release entry)))
    (cond ((plist-get (smtpmail-native-entry-state entry) :more))
          (release
           (smtpmail-native-queue-say
            "Mail to %s waits in the outbox until %s: the server does not \
keep it" (smtpmail-native-queue-people entry)
            (smtpmail-native-queue-date release)))
          (t (smtpmail-native-queue--tell-failure entry)))))

(defun smtpmail-native-queue--tell-failure (entry)
  "Tell the user that ENTRY has not been sent, and why.
What is tried again, or held at the user's own wish, is only a line; what
needs the user stays visible."
  (let* ((state (smtpmail-native-entry-state entry))
         (text (format "Mail to %s: %s.  %s"
                       (smtpmail-native-queue-people entry)
                       (or (plist-get state :text) "not sent")
                       (smtpmail-native-queue--advice entry))))
    (if (smtpmail-native-queue-needs-user-p entry)
        (display-warning 'smtpmail-native text :warning)
      (smtpmail-native-queue-say "%s" text))
    (smtpmail-native-queue--run-hook 'smtpmail-native-failed-functions entry)))

;;;; The end of an attempt

(defun smtpmail-native-queue-tell-unfiled (entry why)
  "Warn that ENTRY was sent, but that its copy could not be filed, and WHY.
Keep its message, which may be all that there is of it."
  (display-warning
   'smtpmail-native
   (format "The mail to %s was sent, but its copy could not be filed: %s.  %s"
           (smtpmail-native-queue-people entry) why
           (condition-case err
               (format "It is kept as %s"
                       (abbreviate-file-name
                        (smtpmail-native-outbox-set-aside entry)))
             (file-error (error-message-string err))))))

(defun smtpmail-native-queue--file-copies (entry)
  "Append the message of ENTRY to the files of its Fcc fields.
It has been sent, and so a failure is only told."
  (dolist (file (plist-get (smtpmail-native-entry-envelope entry) :fcc))
    (condition-case err
        (with-temp-buffer
          (set-buffer-multibyte nil)
          (insert "Fcc: " (encode-coding-string file 'utf-8) "\n")
          (smtpmail-native-outbox-insert-message entry)
          (goto-char (point-min))
          (search-forward "\n\n")
          (let ((coding-system-for-write 'no-conversion))
            (mail-do-fcc (copy-marker (1- (point))))))
      (error
       (smtpmail-native-queue-tell-unfiled
        entry (format "in %s: %s" file (error-message-string err)))))))

(defun smtpmail-native-queue--finish (entry)
  "File the copies of ENTRY, which has been sent, run the hook, delete it."
  (unless (plist-get (smtpmail-native-entry-state entry) :finished)
    (smtpmail-native-queue--file-copies entry)
    (with-demoted-errors "smtpmail-native: the copy was not filed: %S"
      (run-hook-with-args 'smtpmail-native-queue-file-functions entry))
    (smtpmail-native-queue--run-hook 'smtpmail-native-sent-functions entry))
  (remhash (smtpmail-native-entry-id entry) smtpmail-native-queue--traces)
  (smtpmail-native-queue--forget-doubt (smtpmail-native-entry-id entry))
  ;; An error would look as if it had not been sent.
  (condition-case err
      (smtpmail-native-outbox-remove entry)
    (smtpmail-native-outbox-error
     (display-warning 'smtpmail-native
                      (format "The mail was sent.  %s" (cadr err)))
     (ignore-errors
       (smtpmail-native-outbox-set entry :status 'sent :finished t))
     (smtpmail-native-outbox-release entry))))

(defun smtpmail-native-queue--conclude (entry &optional seconds)
  "Do what the state of ENTRY, just settled, asks for, and let go of it.
SECONDS is how long the attempt took, if this Emacs made it."
  (let ((id (smtpmail-native-entry-id entry)))
    (unwind-protect
        (if (eq (plist-get (smtpmail-native-entry-state entry) :status) 'sent)
            (let ((people (smtpmail-native-queue-people entry)))
              (smtpmail-native-queue--finish entry)
              (smtpmail-native-queue-say
               "Sent to %s%s" people
               (if seconds (format " in %.1f s" seconds) "")))
          (smtpmail-native-queue--tell entry)
          (when (smtpmail-native-queue--askable-p entry)
            (smtpmail-native-queue--ask-when-idle)))
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-queue--changed id))))

(defun smtpmail-native-queue--judge-credentials (result found later)
  "Tell the source of the credentials FOUND what RESULT says of them.
LATER non-nil means that the user must not be asked anything now.  That is
no matter of the mail, and so an error is only told."
  (unwind-protect
      (condition-case err
          (cond ((smtpmail-native-auth-string (plist-get result :mechanism))
                 (smtpmail-native-auth-worked found later))
                ((plist-get result :passphrase-wanted)
                 (smtpmail-native-queue--forget-kept)
                 (smtpmail-native-auth-wrong-passphrase found))
                ((or (plist-get result :second-chance)
                     (and (eq (plist-get result :kind) 'auth)
                          (eql (plist-get result :code) 535)))
                 (smtpmail-native-queue--forget-kept)
                 (smtpmail-native-auth-failed found)))
        (error (message "smtpmail-native: %s" (error-message-string err))))
    (smtpmail-native-auth-release found)))

(defun smtpmail-native-queue--settle-result (sending result)
  "Put down what RESULT, a plist of the module, means for SENDING.
Where that cannot be written, the receipt stays for the next look."
  (let ((entry (smtpmail-native-sending-entry sending))
        (unrecorded (plist-get result :unrecorded)))
    (when unrecorded
      (display-warning
       'smtpmail-native
       (format "What came of a mail could not be written down: %s"
               (smtpmail-native-error-text unrecorded))))
    (condition-case err
        (smtpmail-native-queue--settle
         entry
         (append (list :attempt (smtpmail-native-sending-attempt sending)
                       :partial (smtpmail-native-sending-partial sending))
                 result)
         (smtpmail-native-sending-cancelled sending))
      (smtpmail-native-outbox-error
       (display-warning 'smtpmail-native (cadr err))))))

(defun smtpmail-native-queue--see-again (entry)
  "See to it that ENTRY, whose attempt has ended, is tried again when due."
  (let* ((state (smtpmail-native-entry-state entry))
         (next (or (plist-get state :next)
                   (smtpmail-native-queue-release entry))))
    (when (eq (plist-get state :status) 'ready)
      (if (or next (not (or (plist-get state :renewed)
                            (plist-get state :more))))
          (and next (smtpmail-native-queue--schedule next))
        ;; The function that has the token is not called in a filter.
        (smtpmail-native-queue--look-at (list (smtpmail-native-entry-id entry)))
        (smtpmail-native-queue--later)))))

(defun smtpmail-native-queue--forget-doubt (id)
  "Forget at which certificate the last attempt for the entry ID has ended."
  (let ((doubt (gethash id smtpmail-native-queue--doubts)))
    (remhash id smtpmail-native-queue--doubts)
    (smtpmail-native-auth-release (cdr doubt))))

(defun smtpmail-native-queue--trusted-p (entry result ask)
  "Return non-nil if ENTRY is to be tried again after RESULT of a certificate.
ASK non-nil means that the user can be asked now; an answer counts for all
mails that wait for it."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (host (plist-get envelope :host))
         (port (plist-get envelope :port))
         (count (or (plist-get (smtpmail-native-entry-state entry)
                               :certificates)
                    0)))
    (when (and (eq (plist-get result :kind) 'certificate)
               (< count smtpmail-native-queue--certificates)
               (smtpmail-native-trust-judge host port result ask))
      (smtpmail-native-outbox-note entry :certificates (1+ count))
      (when ask
        (smtpmail-native-queue-trust-changed host port))
      t)))

(defun smtpmail-native-queue--conclude-doubt (sending result)
  "Do what RESULT, which ended SENDING at a certificate, asks for.
If that will do it is tried again at once, else the question waits."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (id (smtpmail-native-entry-id entry))
         (found (smtpmail-native-sending-found sending))
         ;; It is not if the user has cancelled it meanwhile.
         (held (eq (plist-get (smtpmail-native-entry-state entry) :hold)
                   'certificate)))
    (if (and held (smtpmail-native-queue--trusted-p entry result nil))
        (smtpmail-native-queue--attempt entry nil found)
      (smtpmail-native-queue--forget-doubt id)
      (if (and held (smtpmail-native-queue--ask-p))
          (puthash id (cons result found) smtpmail-native-queue--doubts)
        (smtpmail-native-auth-release found))
      (smtpmail-native-queue--conclude
       entry (- (float-time) (smtpmail-native-sending-start sending))))))

(defun smtpmail-native-queue--news-p (result found)
  "Return non-nil if RESULT shows that a secret of FOUND, just typed, is right."
  (or (and (plist-get found :typed)
           (smtpmail-native-auth-string (plist-get result :mechanism)))
      (and (plist-get found :asked)
           (not (plist-get result :passphrase-wanted)))))

(defun smtpmail-native-queue--done (sending result)
  "Take RESULT, a plist of the module, as the end of SENDING."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (found (smtpmail-native-sending-found sending))
         (doubt (eq (plist-get result :kind) 'certificate))
         (result (append result
                         (list :second-chance
                               (smtpmail-native-auth-second-chance-p
                                result found)))))
    (remhash (smtpmail-native-entry-id entry) smtpmail-native-queue--active)
    (setq smtpmail-native-queue-last-result result)
    (unwind-protect
        (progn
          (unless doubt
            (smtpmail-native-outbox-note entry :certificates nil)
            (smtpmail-native-queue--judge-credentials
             result found (not (smtpmail-native-sending-waiter sending))))
          (smtpmail-native-queue--settle-result sending result))
      (setf (smtpmail-native-sending-result sending) result))
    (cond
     ((smtpmail-native-sending-waiter sending))
     (doubt
      (smtpmail-native-queue--conclude-doubt sending result))
     (t
      (smtpmail-native-queue--conclude
       entry (- (float-time) (smtpmail-native-sending-start sending)))
      (smtpmail-native-queue--see-again entry)))
    (smtpmail-native-queue--advance)
    (when (smtpmail-native-queue--news-p result found)
      (smtpmail-native-queue--unlock (smtpmail-native-entry-envelope entry)))))

;;;; Attempts

(defun smtpmail-native-queue--handle (sending kind plist)
  "Take the event of KIND with PLIST for SENDING."
  (let* ((entry (smtpmail-native-sending-entry sending))
         (id (smtpmail-native-entry-id entry)))
    (pcase kind
      ('trace (smtpmail-native-queue--trace
               (plist-get (smtpmail-native-entry-envelope entry) :host)
               id plist))
      ('progress
       (setf (smtpmail-native-sending-sent sending) (plist-get plist :sent)
             (smtpmail-native-sending-total sending) (plist-get plist :total))
       (smtpmail-native-queue--changed id))
      ('done (smtpmail-native-queue--done sending plist)))))

(defun smtpmail-native-queue--wishes (entry)
  "Return the part of a job that says what ENTRY asks of the server."
  (let ((wishes (copy-sequence
                 (plist-get (smtpmail-native-entry-envelope entry) :wishes)))
        (state (smtpmail-native-entry-state entry)))
    (if (or (plist-get state :now) (plist-get state :here)
            (eq smtpmail-native-send-later 'outbox))
        (plist-put wishes :release nil)
      wishes)))

(defun smtpmail-native-queue-release (entry)
  "Return the time in seconds until which ENTRY stays in the outbox, or nil.
That is when it asks to be sent later, is to be kept here until then, and
the user has not sent it meanwhile."
  (let ((release (plist-get (plist-get (smtpmail-native-entry-envelope entry)
                                       :wishes)
                            :release))
        (state (smtpmail-native-entry-state entry)))
    (and release
         (not (plist-get state :now))
         (or (plist-get state :here)
             (eq smtpmail-native-send-later 'outbox))
         (> release (float-time))
         release)))

(defun smtpmail-native-queue--begin (entry found &optional waiter)
  "Begin to send ENTRY, which is claimed, with the credentials FOUND.
WAITER non-nil means that the caller waits.  Return a `smtpmail-native-sending'.
Signal a child of `smtpmail-native-error' when it cannot begin; then the
entry is still claimed."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (state (smtpmail-native-entry-state entry))
         (id (smtpmail-native-entry-id entry))
         (attempt (1+ (max (or (plist-get state :settled) 0)
                           (or (plist-get (smtpmail-native-entry-receipt entry)
                                          :attempt)
                               0))))
         (encode (lambda (text) (encode-coding-string text 'utf-8)))
         (sending (make-smtpmail-native-sending
                   :entry entry :attempt attempt :found found :waiter waiter
                   :partial smtpmail-native-partial-recipients
                   :start (float-time)
                   :total (or (plist-get envelope :size) 0)))
         (job (append
               (smtpmail-native-queue--credentials found)
               (list :sender (funcall encode (plist-get envelope :sender))
                     :recipients (mapcar
                                  encode
                                  (smtpmail-native-queue-remaining entry))
                     :file (smtpmail-native-outbox-encode
                            (smtpmail-native-outbox-file entry "message"))
                     :entry (smtpmail-native-outbox-encode
                             (smtpmail-native-outbox-file entry))
                     :attempt attempt
                     :partial smtpmail-native-partial-recipients
                     :chunking smtpmail-native-chunking
                     :utf-8 (plist-get envelope :utf-8)
                     ;; Once it has been encoded it is so no more.
                     :binary (and (plist-get envelope :binary)
                                  (null (plist-get state :size))))
               (smtpmail-native-queue--wishes entry)
               (smtpmail-native-queue--connection envelope))))
    ;; Whoever hears that it has not begun may let go of the entry, and so a
    ;; quit must not come in between.
    (let ((inhibit-quit t))
      (unless (and (eq (plist-get state :status) 'ready)
                   (null (plist-get state :next))
                   (null (plist-get state :undo))
                   (eq (plist-get state :wait) waiter))
        (smtpmail-native-outbox-set entry :status 'ready :hold nil :next nil
                                    :undo nil :wait waiter))
      (smtpmail-native-queue--new-trace (plist-get envelope :host) id)
      (puthash id sending smtpmail-native-queue--active)
      (condition-case err
          (setf (smtpmail-native-sending-job sending)
                (smtpmail-native-channel-submit
                 job (lambda (kind plist)
                       (smtpmail-native-queue--handle sending kind plist))))
        (error
         (remhash id smtpmail-native-queue--active)
         (signal (car err) (cdr err))))
      (smtpmail-native-queue--changed id)
      sending)))

(defun smtpmail-native-queue--credentials-for (envelope demanded ask)
  "Find the credentials for the server of ENVELOPE.
DEMANDED as in `smtpmail-native-auth-find'.  Unless ASK is non-nil, nobody
is asked for anything: `smtpmail-native-auth-error' says what is missing."
  (smtpmail-native-load)
  (let ((smtpmail-smtp-user (plist-get envelope :user))
        (smtpmail-native-auth-inhibit-prompts (not ask)))
    (smtpmail-native-auth-find (plist-get envelope :host)
                               (plist-get envelope :port)
                               demanded)))

(defun smtpmail-native-queue--forget-kept ()
  "Forget the credentials that are kept for a drain of the outbox."
  (maphash (lambda (_key found) (smtpmail-native-auth-release found))
           smtpmail-native-queue--kept)
  (clrhash smtpmail-native-queue--kept))

(defun smtpmail-native-queue--kept-credentials (envelope)
  "Find the credentials for ENVELOPE as silently as may be.
Those that were found a moment ago serve again: a look into auth-source for
each of a hundred mails takes longer than to send them."
  (let* ((key (smtpmail-native-queue--account-key envelope))
         (kept (gethash key smtpmail-native-queue--kept)))
    (unless kept
      (setq kept (smtpmail-native-queue--credentials-for envelope nil nil))
      (when (= (hash-table-count smtpmail-native-queue--kept) 0)
        (run-at-time 5 nil #'smtpmail-native-queue--forget-kept))
      (puthash key kept smtpmail-native-queue--kept))
    (smtpmail-native-auth-copy kept)))

(defun smtpmail-native-queue--hold (entry hold text)
  "Hold ENTRY, which is claimed, for the reason HOLD and let go of it.
TEXT is told to the user.  Return nil."
  (smtpmail-native-outbox-set entry :status 'held :hold hold :next nil
                              :undo nil :wait nil :text text)
  (smtpmail-native-queue--conclude entry)
  nil)

(defun smtpmail-native-queue--leave-ready (entry text)
  "Let go of ENTRY, which is claimed, and tell TEXT."
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-queue-say "Mail to %s: %s.  It still waits"
                              (smtpmail-native-queue-people entry) text))

(defun smtpmail-native-queue--attempt (entry &optional ask found)
  "Send ENTRY, which is claimed, in the background.
ASK non-nil means that the user may be asked for a password.  FOUND are
the credentials if they are known already.  What hinders it is told to
the user; no error is signalled."
  (let ((found found)
        (inhibited inhibit-quit)
        (begun nil))
    (unwind-protect
        (condition-case err
            (let ((inhibit-quit t))
              (unless found
                (setq found
                      (let ((inhibit-quit inhibited)
                            (envelope (smtpmail-native-entry-envelope entry))
                            (demanded (eq (plist-get
                                           (smtpmail-native-entry-state entry)
                                           :hold)
                                          'password)))
                        (if (or ask demanded)
                            (smtpmail-native-queue--credentials-for
                             envelope demanded ask)
                          (smtpmail-native-queue--kept-credentials envelope)))))
              (smtpmail-native-queue--begin entry found)
              (setq begun t))
          (smtpmail-native-auth-error
           (if smtpmail-native-queue--once
               ;; Another Emacs may know the password, or can ask for it.
               (smtpmail-native-queue--leave-ready entry (cadr err))
             (smtpmail-native-queue--hold entry 'password (cadr err))))
          (smtpmail-native-outbox-error
           (display-warning 'smtpmail-native (cadr err))
           (smtpmail-native-queue--schedule
            (+ (float-time) smtpmail-native-queue--rescan)))
          (quit
           (smtpmail-native-queue--hold entry 'password
                                        "No password was given"))
          (error
           (smtpmail-native-queue--hold
            entry 'error (if (memq 'smtpmail-native-error
                                (get (car err) 'error-conditions))
                             (cadr err)
                           (error-message-string err)))))
      (unless begun
        (smtpmail-native-auth-release found)
        (smtpmail-native-outbox-release entry)))))

;;;; Which entry is next

(defun smtpmail-native-queue--due-p (entry now)
  "Return non-nil if ENTRY can be sent at the time NOW without a word."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (null (smtpmail-native-entry-problem entry))
         (eq (plist-get state :status) 'ready)
         (<= (or (plist-get state :next) 0) now)
         (not (smtpmail-native-queue-release entry)))))

(defun smtpmail-native-queue--unsettled-p (entry)
  "Return non-nil if ENTRY was left in the middle of something."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (smtpmail-native-entry-envelope entry)
         (or (eq (plist-get state :status) 'sent)
             (plist-get state :wait)
             (let ((receipt (smtpmail-native-entry-receipt entry)))
               (and receipt
                    (> (or (plist-get receipt :attempt) most-positive-fixnum)
                       (or (plist-get state :settled) 0))))))))

(defun smtpmail-native-queue--recover (entry)
  "Settle what another Emacs has left of ENTRY, which is claimed.
Return non-nil if it is still claimed and may be sent."
  (let* ((news (smtpmail-native-queue--settle entry))
         (state (smtpmail-native-entry-state entry))
         (waited (plist-get state :wait))
         (ready (eq (plist-get state :status) 'ready)))
    (cond
     ((and waited ready)
      (smtpmail-native-queue--hold
       entry 'interrupted
       "Emacs ended while its sender waited, and it was not sent"))
     ((not (or news waited (eq (plist-get state :status) 'sent)))
      t)
     ((and ready (null (plist-get state :next)))
      t)
     (t
      ;; Its own Emacs did not live to tell.
      (when (and waited (not (eq (plist-get state :status) 'sent)))
        (smtpmail-native-outbox-set entry :wait nil))
      (smtpmail-native-queue--conclude entry)
      nil))))

(defun smtpmail-native-queue--account-key (envelope)
  "Return what tells the account of ENVELOPE from others."
  (mapcar (lambda (key) (plist-get envelope key)) '(:host :port :user)))

(defun smtpmail-native-queue--free-p (envelope)
  "Return non-nil if one more mail for the account of ENVELOPE may begin."
  (smtpmail-native-queue--key-free-p
   (smtpmail-native-queue--account-key envelope)))

(defun smtpmail-native-queue--count (key)
  "Return how many mails for the account KEY the module has."
  (let ((count 0))
    (maphash (lambda (_id sending)
               (when (equal key (smtpmail-native-queue--account-key
                                 (smtpmail-native-entry-envelope
                                  (smtpmail-native-sending-entry sending))))
                 (setq count (1+ count))))
             smtpmail-native-queue--active)
    count))

(defun smtpmail-native-queue--key-free-p (key)
  "Return non-nil if one more mail for the account KEY may begin."
  (< (smtpmail-native-queue--count key) smtpmail-native-queue--in-flight))

(defun smtpmail-native-queue--next-look (entry)
  "Return when ENTRY, which is not sent now, is due, in seconds, or nil."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (null (smtpmail-native-entry-problem entry))
         (eq (plist-get state :status) 'ready)
         (or (smtpmail-native-queue-release entry)
             (plist-get state :next)
             (float-time)))))

(defun smtpmail-native-queue--try (id)
  "Send the entry ID if it is due and nobody works on it.
Return the key of its account if that has no free session, a time in
seconds when the entry is to be looked at again, or nil."
  (let* ((entry (and (not (gethash id smtpmail-native-queue--active))
                     (smtpmail-native-outbox-get id)))
         (envelope (and entry (smtpmail-native-entry-envelope entry)))
         (unsettled (and entry (smtpmail-native-queue--unsettled-p entry)))
         (due (and entry (smtpmail-native-queue--due-p entry (float-time)))))
    (cond
     ((null entry) nil)
     ((not (or due unsettled))
      (smtpmail-native-queue--count-held entry)
      (smtpmail-native-queue--next-look entry))
     ((and due (not unsettled) (not (smtpmail-native-queue--free-p envelope)))
      (smtpmail-native-queue--account-key envelope))
     ;; Another Emacs has it, and may end before it is done.
     ((not (smtpmail-native-outbox-claim entry))
      (+ (float-time) smtpmail-native-queue--rescan))
     (t
      (let ((done nil))
        (unwind-protect
            (prog1 (smtpmail-native-queue--try-claimed entry)
              (setq done t))
          (unless done
            (smtpmail-native-outbox-release entry))))))))

(defun smtpmail-native-queue--try-claimed (entry)
  "Do for ENTRY, which is claimed, what `smtpmail-native-queue--try' does.
Its files have been read anew: what was true of it before may be no more."
  (cond
   ((and (smtpmail-native-queue--unsettled-p entry)
         (not (smtpmail-native-queue--recover entry)))
    (smtpmail-native-queue--count-held entry)
    (smtpmail-native-queue--next-look entry))
   ((not (smtpmail-native-queue--due-p entry (float-time)))
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-queue--next-look entry))
   ((smtpmail-native-queue--free-p (smtpmail-native-entry-envelope entry))
    (ignore (smtpmail-native-queue--attempt entry)))
   (t
    (smtpmail-native-outbox-release entry)
    (smtpmail-native-queue--account-key
     (smtpmail-native-entry-envelope entry)))))

(defun smtpmail-native-queue-busy-p ()
  "Return non-nil while something is under way, or about to be, in this Emacs."
  (or smtpmail-native-queue--ready
      smtpmail-native-queue--waiting
      (> (hash-table-count smtpmail-native-queue--active) 0)))

(defun smtpmail-native-queue--look-at (ids)
  "See to it that the entries IDS are looked at, behind all others."
  (setq smtpmail-native-queue--ready
        (nconc smtpmail-native-queue--ready ids)))

(defun smtpmail-native-queue--wait-for (key id)
  "Let the entry ID wait until the account KEY has a free session."
  (let ((account (assoc key smtpmail-native-queue--waiting)))
    (if account
        (push id (cddr account))
      (push (list key (list id)) smtpmail-native-queue--waiting))))

(defun smtpmail-native-queue--next-waiting ()
  "Return the id of the next entry whose account has a free session, or nil.
It does not wait any more then."
  (let ((account (seq-find (lambda (account)
                             (smtpmail-native-queue--key-free-p (car account)))
                           smtpmail-native-queue--waiting)))
    (when account
      (unless (cadr account)
        (setf (cadr account) (nreverse (cddr account))
              (cddr account) nil))
      (prog1 (pop (cadr account))
        (unless (or (cadr account) (cddr account))
          (setq smtpmail-native-queue--waiting
                (delq account smtpmail-native-queue--waiting)))))))

(defun smtpmail-native-queue--advance ()
  "Send entries that are due, as far as there are free sessions.
Give Emacs back after a moment, and go on from a timer."
  (let ((until (+ (float-time) smtpmail-native-queue--slice))
        id)
    (while (and (or noninteractive (< (float-time) until))
                (setq id (or (smtpmail-native-queue--next-waiting)
                             (pop smtpmail-native-queue--ready))))
      (let ((result (condition-case err
                        (smtpmail-native-queue--try id)
                      (error
                       (display-warning 'smtpmail-native
                                        (error-message-string err))
                       (+ (float-time) smtpmail-native-queue--rescan)))))
        (cond ((consp result) (smtpmail-native-queue--wait-for result id))
              (result (smtpmail-native-queue--schedule result)))))
    (smtpmail-native-queue--tell-held)
    (when id
      (smtpmail-native-queue--later))))

(defun smtpmail-native-queue--later ()
  "Go on with `smtpmail-native-queue--advance' in a moment."
  (unless (memq smtpmail-native-queue--advance-timer timer-list)
    (setq smtpmail-native-queue--advance-timer
          (run-at-time 0.01 nil #'smtpmail-native-queue--on-timer
                       #'smtpmail-native-queue--advance))))

(defun smtpmail-native-queue--on-timer (function)
  "Call FUNCTION; an error is a warning."
  (condition-case err
      (funcall function)
    (error (display-warning 'smtpmail-native (error-message-string err)))))

(defun smtpmail-native-queue--schedule (time)
  "See to it that the outbox is looked at by TIME, in seconds."
  (when (and (not smtpmail-native-queue--once)
             (or (not (memq smtpmail-native-queue--timer timer-list))
                 (< time (float-time
                          (timer--time smtpmail-native-queue--timer)))))
    (when smtpmail-native-queue--timer
      (cancel-timer smtpmail-native-queue--timer))
    (setq smtpmail-native-queue--timer
          (run-at-time (max 0.01 (- time (float-time))) nil
                       #'smtpmail-native-queue--on-timer
                       #'smtpmail-native-queue-resume))))

(defun smtpmail-native-queue-resume ()
  "Look through the outbox: settle what was left, send what is due.
Signal `smtpmail-native-outbox-error' if it cannot be read."
  (let ((ids (smtpmail-native-outbox-ids)))
    (when ids
      (smtpmail-native-load)
      (setq smtpmail-native-queue--ready ids
            smtpmail-native-queue--waiting nil)
      (smtpmail-native-queue--advance))))

(defun smtpmail-native-queue-start ()
  "Take up what an earlier Emacs has left in the outbox.
Nothing is done without the module, and no error is signalled."
  (when (and (smtpmail-native-load-available-p)
             (file-directory-p smtpmail-native-outbox-directory))
    (smtpmail-native-queue--on-timer
     (lambda ()
       (smtpmail-native-outbox-empty-trash)
       (dolist (folder (smtpmail-native-outbox-adopt-unfinished))
         (display-warning
          'smtpmail-native
          (format "Emacs ended while a mail was put into the outbox; what is \
there of it is in %s" (abbreviate-file-name folder))))
       (setq smtpmail-native-queue--held 0)
       (smtpmail-native-queue-resume)
       (smtpmail-native-queue--tell-held)
       (smtpmail-native-queue--changed nil)))))

(defun smtpmail-native-queue-needs-user-p (entry)
  "Return non-nil if nothing happens to ENTRY until the user does something.
That is not said of what is held at the user's own wish."
  (let ((state (smtpmail-native-entry-state entry)))
    (or (smtpmail-native-entry-problem entry)
        (memq (plist-get state :status) '(refused unknown))
        (and (eq (plist-get state :status) 'held)
             (not (memq (plist-get state :hold) '(queue user)))))))

(defun smtpmail-native-queue--count-held (entry)
  "Count ENTRY if it needs the user, and if that is still to be told."
  (when (and smtpmail-native-queue--held
             (smtpmail-native-queue-needs-user-p entry))
    (setq smtpmail-native-queue--held (1+ smtpmail-native-queue--held))))

(defun smtpmail-native-queue--tell-held ()
  "Say how many mails wait for the user, once all have been looked at.
To read all of a large outbox for that would stop Emacs."
  (let ((count smtpmail-native-queue--held))
    (when (and count (null smtpmail-native-queue--ready))
      (setq smtpmail-native-queue--held nil)
      (when (> count 0)
        (smtpmail-native-queue-say
         "%d mail%s in the outbox need%s you: M-x smtpmail-native-outbox"
         count (if (= count 1) "" "s") (if (= count 1) "s" ""))))))

;;;; A new mail

(defun smtpmail-native-queue-envelope (mail account)
  "Return the envelope of MAIL, a plist of message.el, for ACCOUNT."
  (append (list :sender (plist-get mail :sender)
                :recipients (plist-get mail :recipients)
                :subject (plist-get mail :subject)
                :message-id (plist-get mail :message-id)
                :from (plist-get mail :from)
                :fcc (plist-get mail :fcc)
                :wishes (plist-get mail :wishes)
                :utf-8 (and (plist-get mail :utf-8) t)
                :binary (plist-get mail :binary)
                :created (truncate (float-time)))
          account))

(defun smtpmail-native-queue-make-durable (entry &optional wait)
  "Let the module sync ENTRY, which nobody sends yet, to the disk.
With WAIT, wait for that, and return non-nil if it is on the disk.  A batch
Emacs always waits, because leaving it would end the sync.  No error is
signalled; a failure is a warning."
  (let* ((done nil)
         (hear (lambda (_kind plist)
                 (setq done (list (eq (plist-get plist :kind) 'ok)))
                 ;; It may have been taken back meanwhile.
                 (when (and (not (eq (plist-get plist :kind) 'ok))
                            (file-directory-p
                             (smtpmail-native-outbox-file entry)))
                   (display-warning
                    'smtpmail-native
                    (format "A mail in the outbox may not survive a power \
failure: %s" (smtpmail-native-error-text (plist-get plist :text))))))))
    ;; The mail is in the outbox all the same.
    (condition-case err
        (smtpmail-native-channel-submit
         (list :sync t
               :entry (smtpmail-native-outbox-encode
                       (smtpmail-native-outbox-file entry)))
         hear)
      (smtpmail-native-error
       (funcall hear 'done (list :kind 'system :text (cadr err)))))
    (when (or wait noninteractive)
      (smtpmail-native-queue--await (lambda () done) nil))
    (car done)))

(defun smtpmail-native-queue--leave (entry)
  "Make ENTRY durable and let go of it."
  (smtpmail-native-queue-make-durable entry)
  (smtpmail-native-outbox-release entry)
  (smtpmail-native-queue--changed (smtpmail-native-entry-id entry)))

(defun smtpmail-native-queue--withdraw (entry)
  "Delete ENTRY, which has not been sent; its sender still has the mail."
  (let ((id (smtpmail-native-entry-id entry)))
    (remhash id smtpmail-native-queue--traces)
    (smtpmail-native-queue--forget-doubt id)
    (condition-case err
        (smtpmail-native-outbox-remove entry)
      (smtpmail-native-error
       (smtpmail-native-outbox-release entry)
       (display-warning 'smtpmail-native (cadr err))))
    (smtpmail-native-queue--changed id)))

(defun smtpmail-native-queue--ask-p ()
  "Return non-nil if the user is there to be asked."
  (not noninteractive))

(defun smtpmail-native-queue-date (time)
  "Return TIME, in seconds, as people write it; of today without a date."
  (format-time-string (if (equal (format-time-string "%F" time)
                                 (format-time-string "%F"))
                          "%H:%M"
                        "%F %H:%M")
                      time))

(defun smtpmail-native-queue-later-p (mail)
  "Return non-nil if MAIL is to wait in the outbox until its time.
MAIL is a plist of `smtpmail-native-message-prepare', or an envelope."
  (let ((release (plist-get (plist-get mail :wishes) :release)))
    (and release
         (eq smtpmail-native-send-later 'outbox)
         (> release (float-time)))))

(defun smtpmail-native-queue--send-later (octets envelope hold)
  "Commit OCTETS with ENVELOPE, not to be sent yet.
HOLD is the reason, or nil for its own time, or `smtpmail-native-undo-seconds'
from now.  Return the entry's id."
  (let* ((next (and (not hold)
                    (max (ceiling (+ (float-time)
                                     smtpmail-native-undo-seconds))
                         (or (plist-get (plist-get envelope :wishes) :release)
                             0))))
         (inhibit-quit t)
         (entry (smtpmail-native-outbox-commit
                 octets envelope
                 (if hold
                     (list :status 'held :hold hold)
                   (list :status 'ready :next next :undo t)))))
    (smtpmail-native-queue--leave entry)
    (when next
      (smtpmail-native-queue--schedule next))
    (smtpmail-native-entry-id entry)))

(defun smtpmail-native-queue--send-now (octets envelope)
  "Commit OCTETS with ENVELOPE and begin to send them in the background.
Return the entry's id.  What hinders the begin is signalled, and nothing is
left behind then."
  ;; Whoever does not want to tell the password still has the draft.
  (let ((found (smtpmail-native-queue--credentials-for
                envelope nil (smtpmail-native-queue--ask-p)))
        (entry nil)
        (begun nil))
    (unwind-protect
        ;; A quit that came behind the commit would leave the caller unaware.
        (let ((inhibit-quit t))
          (setq entry (smtpmail-native-outbox-commit octets envelope
                                                     '(:status ready)))
          (if (or (plist-get found :typed)
                  (smtpmail-native-queue--free-p envelope))
              (smtpmail-native-queue--begin entry found)
            (smtpmail-native-auth-release found)
            (smtpmail-native-queue--leave entry)
            (smtpmail-native-queue--look-at
             (list (smtpmail-native-entry-id entry))))
          (setq begun t))
      (unless begun
        (smtpmail-native-auth-release found)
        (when entry
          (smtpmail-native-queue--withdraw entry))))
    (smtpmail-native-entry-id entry)))

;;;; Waiting for the outcome

(defun smtpmail-native-queue--reporter (sending reporter)
  "Show the progress of SENDING by REPORTER, which may be nil.
Return the reporter, a new one if there is much to send."
  (let ((total (smtpmail-native-sending-total sending)))
    (when (and (not noninteractive) (> total smtpmail-native-queue--large))
      (let ((reporter (or reporter
                          (make-progress-reporter "Sending mail..." 0 total))))
        (progress-reporter-update reporter
                                  (smtpmail-native-sending-sent sending))
        reporter))))

(defun smtpmail-native-queue--stop-waiting (sending done)
  "Cancel SENDING and wait a moment for its end, which DONE tells.
If it does not come, the attempt goes on behind the back of its sender, and
keeps its entry."
  (let ((inhibit-quit t))
    (setf (smtpmail-native-sending-cancelled sending) t)
    (smtpmail-native-channel-cancel (smtpmail-native-sending-job sending))
    (smtpmail-native-queue--await done 5)
    (unless (smtpmail-native-sending-result sending)
      (setf (smtpmail-native-sending-waiter sending) nil))))

(defun smtpmail-native-queue--watch (sending)
  "Wait for the end of SENDING and return its result, a plist of the module.
Emacs stays alive meanwhile; `C-g' cancels it, and the result tells what
has become of the mail."
  (let* ((reporter nil)
         (done (lambda ()
                 (setq reporter (smtpmail-native-queue--reporter
                                 sending reporter))
                 (smtpmail-native-sending-result sending))))
    (unwind-protect
        (condition-case nil
            (let ((inhibit-quit nil))
              (smtpmail-native-queue--await done nil))
          (quit (smtpmail-native-queue--stop-waiting sending done)))
      ;; A throw out of the wait, like that of `with-timeout', ends it, too.
      (when (and (null (smtpmail-native-sending-result sending))
                 (smtpmail-native-sending-waiter sending))
        (smtpmail-native-queue--stop-waiting
         sending (lambda () (smtpmail-native-sending-result sending)))))
    (or (smtpmail-native-sending-result sending)
        (list :kind 'cancelled :stage 'end-of-data :in-doubt t
              :text "cancelled, and the session does not end"))))

(defun smtpmail-native-queue--once-more-p (result found tries)
  "Return non-nil if RESULT invites another try while its sender waits.
FOUND are the credentials that were used, TRIES the tries so far."
  (let ((kind (plist-get result :kind))
        (code (or (plist-get result :code) 0))
        (stage (plist-get result :stage)))
    (and (eq kind 'reply)
         (not (plist-get result :in-doubt))
         ;; In batch the next look for credentials says where it was done.
         (or (and (eq (smtpmail-native-error-demand result) 'auth)
                  (not (plist-get found :password))
                  (not (memq (plist-get found :source) '(classic mechanism))))
             (and (<= 400 code 499) (/= code 421)
                  (eq stage 'mail)
                  (< tries (or smtpmail-retries 0)))))))

(defun smtpmail-native-queue--attempt-waiting (entry found)
  "Send ENTRY, which is claimed, with FOUND, and wait for what comes of it.
Return the result of the module."
  (let ((sending nil))
    (unwind-protect
        (setq sending (smtpmail-native-queue--begin entry found t))
      ;; Once it has begun the end of the attempt clears them.
      (unless sending
        (smtpmail-native-auth-release found)))
    (smtpmail-native-queue--watch sending)))

(defun smtpmail-native-queue--ask-waiting (result envelope found)
  "Ask the user, who waits, for what RESULT of ENVELOPE says is wrong.
FOUND are the credentials that were used.  Return t if a passphrase was
typed, new credentials in place of a password that was refused, or nil if
there is nothing to ask for."
  (let ((host (plist-get envelope :host))
        (port (plist-get envelope :port))
        (smtpmail-smtp-user (plist-get envelope :user)))
    (cond
     ((plist-get result :passphrase-wanted)
      (smtpmail-native-auth-ask-passphrase found)
      t)
     ((and (eq (plist-get result :kind) 'auth)
           (eql (plist-get result :code) 535)
           (not (plist-get result :token-refused)))
      (smtpmail-native-auth-ask-again host port)))))

(defun smtpmail-native-queue--try-waiting (entry)
  "Send ENTRY, which is claimed, and wait for what comes of it.
Return the result of the module.  A temporary refusal of the sender is
tried again after a second, `smtpmail-retries' times in all; a wrong
password or passphrase is asked for again, three times in all."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (tries 0)
        (asked 0)
        (answer nil)
        (demanded nil)
        (result nil)
        (in-use nil))
    (unwind-protect
        (while (null result)
          (let* ((found (if (consp answer)
                            answer
                          (smtpmail-native-queue--credentials-for
                           envelope demanded (smtpmail-native-queue--ask-p))))
                 ;; What was typed for this attempt is the first answer.
                 (typed (and (plist-get found :typed) (null answer))))
            (setq in-use found
                  tries (1+ tries)
                  asked (if (and typed (= asked 0)) 1 asked)
                  answer nil
                  result (smtpmail-native-queue--attempt-waiting entry found))
            (cond
             ((smtpmail-native-queue--once-more-p result found tries)
              (if (eql (plist-get result :code) 530)
                  (setq demanded (smtpmail-native-error-words result))
                (smtpmail-native-queue--await #'ignore 1))
              (setq result nil))
             ((smtpmail-native-queue--go-on-p entry result)
              (setq result nil))
             ((smtpmail-native-queue--trusted-p entry result
                                                (smtpmail-native-queue--ask-p))
              ;; Nobody has seen them: what was typed need not be typed again.
              (setq answer found
                    result nil))
             ((and (smtpmail-native-queue--ask-p) (< asked 3)
                   (setq answer (smtpmail-native-queue--ask-waiting
                                 result envelope found)))
              (setq asked (1+ asked)
                    result nil)))))
      ;; After a refused certificate they are still there.
      (unless (gethash (smtpmail-native-entry-id entry)
                       smtpmail-native-queue--active)
        (smtpmail-native-auth-release in-use)))
    result))

(defun smtpmail-native-queue--go-on-p (entry result)
  "Return non-nil if ENTRY is to be tried again at once after RESULT.
There is a fresh token, or there are recipients whom the server has not
taken only because of their number."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (or (plist-get result :second-chance) (plist-get state :more))
         (eq (plist-get state :status) 'ready))))

(defun smtpmail-native-queue--complain (entry result)
  "Signal what RESULT of ENTRY says has gone wrong."
  (smtpmail-native-error-signal
   (smtpmail-native-error-condition result)
   (smtpmail-native-queue--explain entry result)))

(defun smtpmail-native-queue--end-waiting (entry)
  "Let go of ENTRY, whose sender does not wait any more; return its status.
It is deleted if it has not been sent, because the sender still has it.
What may have been sent stays, and so does what is still under way."
  (let* ((inhibit-quit t)
         (id (smtpmail-native-entry-id entry))
         (sending (gethash id smtpmail-native-queue--active))
         (status (plist-get (smtpmail-native-entry-state entry) :status)))
    (cond
     (sending 'active)
     ((eq status 'sent)
      (smtpmail-native-queue--finish entry)
      (smtpmail-native-queue--changed id)
      status)
     ((or (eq status 'unknown)
          (assq 'sent (mapcar #'cdr (plist-get
                                     (smtpmail-native-entry-state entry)
                                     :results))))
      (condition-case err
          (smtpmail-native-outbox-set entry :wait nil)
        (smtpmail-native-outbox-error
         (display-warning 'smtpmail-native (cadr err))))
      (if (eq status 'unknown)
          (smtpmail-native-outbox-release entry)
        (smtpmail-native-queue--conclude entry))
      (smtpmail-native-queue--changed id)
      status)
     (t
      (smtpmail-native-queue--withdraw entry)
      status))))

(defun smtpmail-native-queue--send-waiting (octets envelope)
  "Send OCTETS with ENVELOPE, and wait for the outcome.
Return the result of the module if the server has taken the mail; for the
recipients whom it has refused then, the entry stays in the outbox.  Else
signal a child of `smtpmail-native-error'; the mail is not in the outbox
any more, unless its outcome is unknown."
  (let ((entry nil)
        (result nil))
    (unwind-protect
        (progn
          (let ((inhibit-quit t))
            (setq entry (smtpmail-native-outbox-commit
                         octets envelope '(:status ready :wait t))))
          (setq result (smtpmail-native-queue--try-waiting entry)))
      (when entry
        (smtpmail-native-queue--end-waiting entry)))
    (unless (eq (plist-get result :kind) 'ok)
      (smtpmail-native-queue--complain entry result))
    result))

(defun smtpmail-native-queue-send (mail how)
  "Send MAIL, a plist of `smtpmail-native-message-prepare', by way of HOW.
HOW is `wait' for the outcome; `background'; or `queue', to hold the mail
until the queue is flushed.  One that is to be sent later only goes into the
outbox.  The buffer of its octets is the caller's.  The server is that of
smtpmail's variables now.  Return a plist: with `wait' the result of the
module, (:id ID) where nothing was waited for.  Signal a child of
`smtpmail-native-error' if the mail has not been sent or committed; after
`smtpmail-native-unknown-outcome' it may have arrived."
  (smtpmail-native-load)
  (let ((octets (plist-get mail :buffer))
        (envelope (smtpmail-native-queue-envelope
                   mail (smtpmail-native-queue-account))))
    (add-hook 'kill-emacs-query-functions #'smtpmail-native-queue--may-quit-p)
    (pcase how
      ((guard (smtpmail-native-queue-later-p envelope))
       (list :id (smtpmail-native-queue--send-later
                  octets envelope (and (eq how 'queue) 'queue))))
      ('wait (smtpmail-native-queue--send-waiting octets envelope))
      ('queue (list :id (smtpmail-native-queue--send-later
                         octets envelope 'queue)))
      ((guard (> smtpmail-native-undo-seconds 0))
       (list :id (smtpmail-native-queue--send-later octets envelope nil)))
      (_ (list :id (smtpmail-native-queue--send-now octets envelope))))))

(defun smtpmail-native-queue-probe (account &optional unpinned)
  "Look at the server of ACCOUNT and return the result, a plist.
ACCOUNT is that of `smtpmail-native-queue-account'.  Only greeting, EHLO
and TLS are tried.  UNPINNED non-nil means that its certificate is verified
as if none had been accepted.  Signal a child of `smtpmail-native-error'
when that cannot begin."
  (smtpmail-native-load)
  (let ((result nil)
        (host (plist-get account :host)))
    (smtpmail-native-queue--new-trace host nil)
    (let ((job (smtpmail-native-channel-submit
                ;; What stands first counts.
                (append (if unpinned '(:probe t :pins nil) '(:probe t))
                        (smtpmail-native-queue--connection account))
                (lambda (kind plist)
                  (pcase kind
                    ('trace (smtpmail-native-queue--trace host nil plist))
                    ('done (setq result plist)))))))
      (unwind-protect
          (smtpmail-native-queue--await (lambda () result) nil)
        (unless result
          (smtpmail-native-channel-cancel job))))
    result))

(defun smtpmail-native-queue-tell-change ()
  "Tell that something may have happened to any of the entries."
  (smtpmail-native-queue--changed nil))

(defun smtpmail-native-queue-change (id function)
  "Call FUNCTION with the entry ID, claimed, and return its value.
Return nil if the entry is gone or another Emacs works on it."
  (let* ((sending (gethash id smtpmail-native-queue--active))
         (entry (if sending
                    (smtpmail-native-sending-entry sending)
                  (smtpmail-native-outbox-get id))))
    (cond (sending (funcall function entry))
          ((and entry (smtpmail-native-outbox-claim entry))
           (unwind-protect
               (funcall function entry)
             (smtpmail-native-outbox-release entry))))))

;;;; The user's word

(defmacro smtpmail-native-queue--with-claim (entry claimed &rest body)
  "Run BODY with ENTRY bound to CLAIMED, a claimed entry, and let go of it."
  (declare (indent 2) (debug (symbolp form body)))
  `(let ((,entry ,claimed))
     (unwind-protect
         (progn ,@body)
       (smtpmail-native-outbox-release ,entry)
       (smtpmail-native-queue--changed (smtpmail-native-entry-id ,entry)))))

(defun smtpmail-native-queue--claimed (id)
  "Return the entry ID, claimed; signal an error if it cannot be."
  (let ((entry (smtpmail-native-outbox-get id)))
    (unless entry
      (smtpmail-native-error-signal 'smtpmail-native-usage-error
                                    "This mail is not in the outbox any more"))
    (unless (smtpmail-native-outbox-claim entry)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (if (gethash id smtpmail-native-queue--active)
           "This mail is being sent; cancel it first"
         "Another Emacs works on this mail")))
    entry))

(defun smtpmail-native-queue--settled (entry)
  "Return ENTRY, which is claimed, with what was left of it settled.
Signal `smtpmail-native-usage-error' if that shows what the user could not
know: that it has arrived, or may have."
  (let ((known (plist-get (smtpmail-native-entry-state entry) :status))
        (done nil))
    (unwind-protect
        (progn
          (when (smtpmail-native-queue--unsettled-p entry)
            (smtpmail-native-queue--recover entry)
            (let ((status (plist-get (smtpmail-native-entry-state entry)
                                     :status)))
              (when (or (eq status 'sent)
                        (and (eq status 'unknown) (not (eq known 'unknown))))
                (smtpmail-native-error-signal
                 'smtpmail-native-usage-error
                 (if (eq status 'sent)
                     "This mail has been sent already"
                   "This mail may have been sent by an Emacs that has ended; \
look whether it arrived before you send it again")))))
          (setq done t))
      (unless done
        (smtpmail-native-outbox-release entry)))
    (if (smtpmail-native-entry-claim entry)
        entry
      (smtpmail-native-queue--claimed (smtpmail-native-entry-id entry)))))

(defun smtpmail-native-queue-retry (id)
  "Send the entry ID now, whatever it waits for, and whatever came of it.
The user has asked for that, and so may be asked for a password.  Signal
`smtpmail-native-usage-error' if it cannot be sent."
  (let ((entry (smtpmail-native-queue--settled
                (smtpmail-native-queue--claimed id))))
    (when (smtpmail-native-entry-problem entry)
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "This mail is damaged: %s"
               (smtpmail-native-entry-problem entry))))
    (let ((state (smtpmail-native-entry-state entry)))
      ;; Refused and doubtful recipients are tried again, those that have got
      ;; the mail are not.
      (smtpmail-native-outbox-set
       entry
       :renewed nil :certificates nil
       :now (and (smtpmail-native-queue-release entry) t)
       :results (seq-filter (lambda (result) (eq (cadr result) 'sent))
                            (plist-get state :results)))
      (cond
       ((smtpmail-native-queue--refused-p state)
        (smtpmail-native-queue--attempt-asking entry))
       ((eq (plist-get state :hold) 'certificate)
        (smtpmail-native-queue--attempt-trusting entry))
       (t (smtpmail-native-queue--attempt entry t))))))

(defun smtpmail-native-queue--attempt-trusting (entry)
  "Ask about the certificate that ENTRY, which is claimed, is held for; send it.
It stays held if the answer is no.  Without anything to ask about it is tried
again, which may tell."
  (let* ((id (smtpmail-native-entry-id entry))
         (doubt (gethash id smtpmail-native-queue--doubts))
         (wanted nil))
    (unwind-protect
        (setq wanted (or (null doubt)
                         (smtpmail-native-queue--trusted-p
                          entry (car doubt) (smtpmail-native-queue--ask-p))))
      (unless wanted
        (smtpmail-native-outbox-release entry)))
    (when wanted
      (remhash id smtpmail-native-queue--doubts)
      (smtpmail-native-queue--attempt entry t (cdr doubt)))))

(defun smtpmail-native-queue--refused-p (state)
  "Return non-nil if the secret of an entry with STATE was wrong or missing."
  (and (eq (plist-get state :hold) 'password)
       (or (plist-get state :refused) (plist-get state :passphrase))))

(defun smtpmail-native-queue--ask-passphrase (envelope)
  "Ask for the passphrase of the client key for the server of ENVELOPE."
  (let ((found (condition-case nil
                   (smtpmail-native-queue--credentials-for envelope nil nil)
                 ;; A password may be missing, too, which is asked for later.
                 (smtpmail-native-auth-error
                  (list :host (plist-get envelope :host)
                        :port (plist-get envelope :port))))))
    (unwind-protect
        (smtpmail-native-auth-ask-passphrase found)
      (smtpmail-native-auth-release found))))

(defun smtpmail-native-queue--ask-for (entry)
  "Ask for what ENTRY is held for, and return its credentials."
  (let* ((envelope (smtpmail-native-entry-envelope entry))
         (smtpmail-smtp-user (plist-get envelope :user)))
    (if (plist-get (smtpmail-native-entry-state entry) :passphrase)
        (progn
          (smtpmail-native-queue--ask-passphrase envelope)
          (append (smtpmail-native-queue--credentials-for envelope nil t)
                  '(:asked t)))
      (smtpmail-native-auth-ask-again (plist-get envelope :host)
                                      (plist-get envelope :port)))))

(defun smtpmail-native-queue--attempt-asking (entry)
  "Ask for the password or passphrase of ENTRY, which is claimed, and send it."
  (let ((found nil))
    (unwind-protect
        (setq found (condition-case err
                        (smtpmail-native-queue--ask-for entry)
                      (quit nil)
                      (smtpmail-native-error
                       (smtpmail-native-queue-say "%s" (cadr err))
                       nil)))
      (unless found
        (smtpmail-native-outbox-release entry)))
    (when found
      (smtpmail-native-queue--attempt entry t found))))

(defun smtpmail-native-queue--user-holds (entry)
  "Hold ENTRY, which is claimed, until the user says otherwise."
  (smtpmail-native-outbox-set entry :status 'held :hold 'user :next nil
                              :undo nil))

(defun smtpmail-native-queue-hold (id)
  "Hold the entry ID until the user says otherwise.
Signal `smtpmail-native-usage-error' if it is not waiting for anything."
  (smtpmail-native-queue--with-claim entry
      (smtpmail-native-queue--settled (smtpmail-native-queue--claimed id))
    (unless (memq (plist-get (smtpmail-native-entry-state entry) :status)
                  '(ready held))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       "This mail is kept, and is not sent by itself"))
    (smtpmail-native-queue--user-holds entry)))

(defun smtpmail-native-queue-take-back (id restore)
  "Call the function RESTORE with the entry ID, claimed, and delete the entry.
Return what RESTORE returns.  When that signals an error or the user quits,
the entry is kept; it is held then if it would have been sent by itself.
Signal `smtpmail-native-usage-error' if it is gone, under way, or sent."
  (smtpmail-native-queue--with-claim entry
      (smtpmail-native-queue--settled (smtpmail-native-queue--claimed id))
    (when (and (eq (plist-get (smtpmail-native-entry-state entry) :status)
                   'ready)
               (null (smtpmail-native-entry-problem entry)))
      (smtpmail-native-queue--user-holds entry))
    (prog1 (funcall restore entry)
      (remhash id smtpmail-native-queue--traces)
    (smtpmail-native-queue--forget-doubt id)
      (smtpmail-native-outbox-remove entry))))

(defun smtpmail-native-queue-cancel (id)
  "Stop sending the entry ID; it is held then, unless it has been sent.
Return nil if it is not under way in this Emacs."
  (let ((sending (gethash id smtpmail-native-queue--active)))
    (when sending
      (setf (smtpmail-native-sending-cancelled sending) t)
      ;; Should this Emacs end before the attempt does, the next one knows.
      (unless (smtpmail-native-sending-waiter sending)
        (condition-case err
            (smtpmail-native-outbox-set (smtpmail-native-sending-entry sending)
                                        :status 'held :hold 'user)
          (smtpmail-native-outbox-error
           (display-warning 'smtpmail-native (cadr err)))))
      (smtpmail-native-channel-cancel (smtpmail-native-sending-job sending)))))

(defun smtpmail-native-queue-delete (id)
  "Delete the entry ID without sending it."
  (smtpmail-native-queue--with-claim entry (smtpmail-native-queue--claimed id)
    (remhash id smtpmail-native-queue--traces)
    (smtpmail-native-queue--forget-doubt id)
    (smtpmail-native-outbox-remove entry)))

(defun smtpmail-native-queue-mark-sent (id)
  "Take it that the entry ID has arrived: file its copy and delete it."
  (smtpmail-native-queue--with-claim entry (smtpmail-native-queue--claimed id)
    (smtpmail-native-outbox-set entry :status 'sent :next nil)
    (smtpmail-native-queue--finish entry)))

(defun smtpmail-native-queue-waiting-p (entry)
  "Return non-nil if `smtpmail-native-queue-flush' would send ENTRY."
  (let* ((state (smtpmail-native-entry-state entry))
         (status (plist-get state :status)))
    (and (null (smtpmail-native-entry-problem entry))
         (if (eq status 'ready)
             (not (smtpmail-native-queue-release entry))
           (and (eq status 'held)
                (memq (plist-get state :hold) '(queue expired)))))))

(defun smtpmail-native-queue--let-go-on (entry wanted)
  "Make ENTRY due now, if it is ours to do and the predicate WANTED holds.
Another Emacs may have done something to it since it was read.  An error is
a warning, so that other entries are not held up."
  (condition-case err
      (when (and (or (plist-get (smtpmail-native-entry-state entry) :next)
                     (plist-get (smtpmail-native-entry-state entry) :hold))
                 (smtpmail-native-outbox-claim entry))
        (unwind-protect
            (when (and (funcall wanted entry)
                       (not (smtpmail-native-queue--unsettled-p entry)))
              (smtpmail-native-outbox-set entry :status 'ready :hold nil
                                          :refused nil :passphrase nil
                                          :renewed nil :next nil :undo nil))
          (smtpmail-native-outbox-release entry)))
    (error (display-warning 'smtpmail-native (error-message-string err)))))

(defun smtpmail-native-queue-flush ()
  "Send at once all that waits, also what `smtpmail-queue-mail' has held.
What the user holds, what was refused and what may have arrived is left
alone.  Return the number of entries that are to be sent."
  (let ((count 0)
        entry)
    (dolist (id (smtpmail-native-outbox-ids))
      (when (and (not (gethash id smtpmail-native-queue--active))
                 (setq entry (smtpmail-native-outbox-get id))
                 (smtpmail-native-queue-waiting-p entry))
        (setq count (1+ count))
        (smtpmail-native-queue--let-go-on entry
                                          #'smtpmail-native-queue-waiting-p)))
    ;; Also when there is none: others may have left something to be settled.
    (smtpmail-native-queue-resume)
    count))

(defun smtpmail-native-queue-flush-waiting ()
  "Do `smtpmail-native-queue-flush' and wait until all that is over.
Each entry is tried once, and so the time is bounded by those of the
attempts.  Signal `smtpmail-native-error' if the outbox cannot be used."
  (smtpmail-native-load)
  (let ((smtpmail-native-queue--once t)
        ;; There is no user whom many small collections would serve.
        (gc-cons-threshold (if noninteractive
                               (max gc-cons-threshold
                                    smtpmail-native-queue--garbage)
                             gc-cons-threshold)))
    (smtpmail-native-queue-flush)
    (smtpmail-native-queue--await
     (lambda ()
       (not (smtpmail-native-queue-busy-p)))
     nil)))

(defun smtpmail-native-queue-undo-candidate ()
  "Return the id of the newest entry whose sending can still be undone."
  (seq-find (lambda (id)
              (let ((entry (smtpmail-native-outbox-get id)))
                (and entry
                     (plist-get (smtpmail-native-entry-state entry) :undo)
                     (not (gethash id smtpmail-native-queue--active)))))
            (reverse (smtpmail-native-outbox-ids))))

;;;; Passwords that are missing

(defun smtpmail-native-queue--locked-p (entry)
  "Return non-nil if ENTRY is held for want of a password."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (eq (plist-get state :status) 'held)
         (eq (plist-get state :hold) 'password)
         (null (smtpmail-native-entry-problem entry)))))

(defun smtpmail-native-queue--askable-p (entry)
  "Return non-nil if the user can give the answer that ENTRY is held for.
That is a secret, but a token, which nobody can type; or a word about a
certificate that this Emacs has seen."
  (let ((state (smtpmail-native-entry-state entry)))
    (or (and (smtpmail-native-queue--locked-p entry)
             (not (plist-get state :renewed)))
        (and (smtpmail-native-queue--doubtful-p entry)
             (gethash (smtpmail-native-entry-id entry)
                      smtpmail-native-queue--doubts)
             t))))

(defun smtpmail-native-queue--locked ()
  "Return the entries that are held for want of a password."
  (seq-filter #'smtpmail-native-queue--locked-p (smtpmail-native-outbox-list)))

(defun smtpmail-native-queue--go-on-with (entries wanted)
  "Send each of ENTRIES for which the predicate WANTED holds when it is claimed."
  (dolist (entry entries)
    (smtpmail-native-queue--let-go-on entry wanted))
  (smtpmail-native-queue--look-at (mapcar #'smtpmail-native-entry-id entries))
  (when entries
    (smtpmail-native-queue--later)))

(defun smtpmail-native-queue--unlock (envelope)
  "Send what was held for a password of the account of ENVELOPE."
  (let ((key (smtpmail-native-queue--account-key envelope)))
    (smtpmail-native-queue--go-on-with
     (seq-filter (lambda (entry)
                   (equal key (smtpmail-native-queue--account-key
                               (smtpmail-native-entry-envelope entry))))
                 (smtpmail-native-queue--locked))
     #'smtpmail-native-queue--locked-p)))

(defun smtpmail-native-queue--doubtful-p (entry)
  "Return non-nil if ENTRY is held for the certificate of its server."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (eq (plist-get state :status) 'held)
         (eq (plist-get state :hold) 'certificate)
         (null (smtpmail-native-entry-problem entry)))))

(defun smtpmail-native-queue-trust-changed (host port)
  "Send what was held for the certificate of HOST at PORT.
HOST is a string, PORT an integer.  What is still not to be trusted is held
again."
  (smtpmail-native-queue--go-on-with
   (seq-filter (lambda (entry)
                 (let ((envelope (smtpmail-native-entry-envelope entry)))
                   (and (smtpmail-native-queue--doubtful-p entry)
                        (equal (plist-get envelope :port) port)
                        (string= (downcase (plist-get envelope :host))
                                 (downcase host)))))
               (smtpmail-native-outbox-list))
   #'smtpmail-native-queue--doubtful-p))

(defun smtpmail-native-queue--ask-when-idle ()
  "Ask for missing passwords as soon as the user is idle."
  (unless (or noninteractive
              (memq smtpmail-native-queue--idle-timer timer-idle-list))
    (setq smtpmail-native-queue--idle-timer
          (run-with-idle-timer 2 nil #'smtpmail-native-queue--on-timer
                               #'smtpmail-native-queue--ask-now))))

(defun smtpmail-native-queue-ask-passwords ()
  "Ask for the passwords that entries of the outbox are held for.
Return the number of these entries."
  (setq smtpmail-native-queue--declined nil)
  (let ((count (length (smtpmail-native-queue--locked))))
    (smtpmail-native-queue--ask-now)
    count))

(defun smtpmail-native-queue--ask-now ()
  "Ask for the passwords that entries of the outbox are held for.
Do it later if the user is doing something in the minibuffer."
  (if (or (active-minibuffer-window) executing-kbd-macro)
      ;; An idle timer would fire again at once, and for ever.
      (run-at-time 5 nil #'smtpmail-native-queue--ask-when-idle)
    (let ((seen nil))
      (dolist (entry (seq-filter #'smtpmail-native-queue--askable-p
                                 (smtpmail-native-outbox-list)))
        (let ((key (cons (plist-get (smtpmail-native-entry-state entry) :hold)
                         (smtpmail-native-queue--account-key
                          (smtpmail-native-entry-envelope entry)))))
          (unless (or (member key seen)
                      (member (smtpmail-native-entry-id entry)
                              smtpmail-native-queue--declined))
            (push key seen)
            ;; Once is enough: who does not answer is not asked again.
            (push (smtpmail-native-entry-id entry)
                  smtpmail-native-queue--declined)
            (when (smtpmail-native-outbox-claim entry)
              (cond
               ((not (smtpmail-native-queue--askable-p entry))
                (smtpmail-native-outbox-release entry))
               ((smtpmail-native-queue--locked-p entry)
                (smtpmail-native-queue--attempt-asking entry))
               (t (smtpmail-native-queue--attempt-trusting entry))))))))))

;;;; Leaving Emacs

(defun smtpmail-native-queue--may-quit-p ()
  "Ask whether Emacs may end while mails are being sent."
  (let ((count (hash-table-count smtpmail-native-queue--active)))
    (or (= count 0)
        noninteractive
        (y-or-n-p
         (format "%s being sent; nothing will be lost, the next Emacs goes on.  \
Quit? "
                 (if (= count 1) "A mail is" (format "%d mails are" count)))))))

(provide 'smtpmail-native-queue)
;;; smtpmail-native-queue.el ends here
