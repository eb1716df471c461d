;;; smtpmail-native-job.el --- From the options of this moment to a job  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A job is what the module is given: the server and how to reach it, who the
;; user is, and what one entry asks for.  The variables of smtpmail that say to
;; which server a message is given are read once, when it is sent, because
;; programs bind them around that; they stand in the envelope from there on.

;;; Code:

(require 'mail-utils)
(require 'seq)
(require 'sendmail)
(require 'smtpmail-native-account)
(require 'smtpmail-native-address)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-load)
(require 'smtpmail-native-lookup)
(require 'smtpmail-native-options)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-outbox)
(require 'smtpmail-native-trust)

(declare-function smtpmail-fqdn "smtpmail" ())
(defvar smtpmail-local-domain)
(declare-function smtpmail-query-smtp-server "smtpmail" ())
(declare-function gnutls-trustfiles "gnutls" ())
(defvar gnutls-algorithm-priority)
(defvar gnutls-trustfiles)
(defvar gnutls-crlfiles)
(defvar gnutls-min-prime-bits)
(defvar smtpmail-default-smtp-server)
(defvar smtpmail-smtp-server)
(defvar smtpmail-smtp-service)
(defvar smtpmail-smtp-user)
(defvar smtpmail-stream-type)
(defvar smtpmail-native-send-later)

;;;; The account of this moment

(defun smtpmail-native-job--server ()
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

(defun smtpmail-native-job--port ()
  "Return the port that `smtpmail-smtp-service' names, an integer."
  (smtpmail-native-load-try)
  (or (smtpmail-native-lookup-service smtpmail-smtp-service)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "Invalid port in `smtpmail-smtp-service': %S"
               smtpmail-smtp-service))))

(defun smtpmail-native-job--own-name ()
  "Return the full name of this machine in the network, or nil.
A name of the home network alone is none, and servers refuse it."
  (require 'smtpmail)
  (let ((name (string-remove-suffix
               "." (smtpmail-native-address-domain-to-ascii
                    (if smtpmail-local-domain (smtpmail-fqdn)
                      (system-name))))))
    (and (not (string-match-p "\\.[0-9]+\\'" name)) ; an address, not a name
         (string-match-p "\\`[_a-zA-Z0-9-]+\\(?:\\.[_a-zA-Z0-9-]+\\)+\\'" name)
         (or smtpmail-local-domain
             (not (string-match-p
                   "\\`localhost\\.\\|\\.\\(?:home\\|internal\\|lan\\|local\\|\
localdomain\\)\\'"
                   (downcase name))))
         name)))

(defun smtpmail-native-job--helo ()
  "Return the name for EHLO, or nil for the address of the connection's end."
  (let ((name (smtpmail-native-auth-string smtpmail-native-helo-name)))
    (cond
     ((null name) (smtpmail-native-job--own-name))
     ((string-match-p "\\`\\(?:\\[[0-9a-zA-Z.:-]+\\]\\|[_.a-zA-Z0-9-]+\\)\\'"
                      (setq name (smtpmail-native-address-domain-to-ascii
                                  name)))
      name)
     (t (smtpmail-native-error-signal
         'smtpmail-native-usage-error
         (format "`smtpmail-native-helo-name' is not a name: %s"
                 (smtpmail-native-address-quote name)))))))

(defun smtpmail-native-job-account ()
  "Return a plist of the server that gets the user's mail at this moment.
It is the part of an envelope that smtpmail's variables say: :host, a
string, :port, an integer, :stream, :user and :helo.  Signal
`smtpmail-native-usage-error' for options that say nothing that can be
used."
  (let ((host (smtpmail-native-job--server)))
    (unless (memq smtpmail-stream-type '(nil plain starttls ssl tls))
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "`smtpmail-stream-type' must be nil, starttls, plain, ssl or \
tls: %S" smtpmail-stream-type)))
    (list :host host
          :port (smtpmail-native-job--port)
          :stream smtpmail-stream-type
          :user (smtpmail-native-auth-string smtpmail-smtp-user)
          :helo (smtpmail-native-job--helo))))

(defun smtpmail-native-job-account-for (field)
  "Return a plist of the server for a message whose From is FIELD.
It is that of `smtpmail-native-job-account', with :account, the name of the
element of `smtpmail-native-accounts', if one was chosen.  Signal
`smtpmail-native-usage-error' also where none fits in batch mode."
  (let ((account (smtpmail-native-account-for field)))
    (smtpmail-native-account-call-with-server
     account
     (lambda ()
       (append (smtpmail-native-job-account)
               (and account
                    (list :account
                          (smtpmail-native-account-name account))))))))

(defun smtpmail-native-job-account-here ()
  "Return a plist of the server for a message sent from the current buffer.
It is that of `smtpmail-native-job-account-for'.  In a buffer that holds no
message it is the server for a message from `user-mail-address'."
  (smtpmail-native-job-account-for
   (or (and (derived-mode-p 'message-mode 'mail-mode)
            (save-restriction
              (widen)
              (narrow-to-region (point-min) (mail-text-start))
              (mail-fetch-field "From")))
       user-mail-address
       "")))

;;;; The connection

(defun smtpmail-native-job--priority ()
  "Return `gnutls-algorithm-priority' for this session, or nil."
  (let ((priority gnutls-algorithm-priority))
    (if (functionp priority) (funcall priority 'gnutls-x509pki) priority)))

(defconst smtpmail-native-job--tls-seconds 2
  "Seconds for which the files that the options of gnutls.el name are known.
To look for them takes longer than all else that a job needs.")

(defvar smtpmail-native-job--tls-known nil
  "What the options of gnutls.el said: (TIME OPTIONS . PLIST).")

(defun smtpmail-native-job--tls ()
  "Return what the options of gnutls.el say, as part of a job."
  (require 'gnutls)
  (let ((now (float-time))
        (options (list gnutls-trustfiles gnutls-crlfiles
                       gnutls-algorithm-priority gnutls-min-prime-bits))
        (known smtpmail-native-job--tls-known))
    (unless (and known
                 (<= 0 (- now (car known)) smtpmail-native-job--tls-seconds)
                 (equal options (cadr known)))
      (setq known (cons now (cons options (smtpmail-native-job--read-tls)))
            smtpmail-native-job--tls-known known))
    (cddr known)))

(defun smtpmail-native-job--read-tls ()
  "Look for the files that the options of gnutls.el name.
Return a plist that is part of a job."
  (list :trustfiles (mapcar #'smtpmail-native-disk-encode
                            (gnutls-trustfiles))
        :crlfiles (mapcar #'smtpmail-native-disk-encode
                          (seq-filter #'file-exists-p gnutls-crlfiles))
        :priority (smtpmail-native-job--priority)
        :min-prime-bits (or gnutls-min-prime-bits 0)))

(defun smtpmail-native-job--avoid (host)
  "Return the extensions that `smtpmail-native-avoid-extensions' has for HOST.
The value is a string of names, or nil."
  (let ((names (cdr (assoc-string host smtpmail-native-avoid-extensions t))))
    (and names
         (mapconcat (lambda (name) (upcase (format "%s" name)))
                    (ensure-list names) " "))))

(defun smtpmail-native-job-connection (account)
  "Return the part of a job that leads to the server of ACCOUNT.
ACCOUNT is an envelope, or the account in it."
  (append
   (list :host (encode-coding-string (plist-get account :host) 'utf-8)
         :port (plist-get account :port)
         :pins (smtpmail-native-trust-pins (plist-get account :host)
                                           (plist-get account :port))
         :stream (plist-get account :stream)
         :helo (or (plist-get account :helo) (smtpmail-native-job--helo))
         :avoid (smtpmail-native-job--avoid (plist-get account :host))
         :timeout-ms (max 1 (round (* 1000 smtpmail-native-timeout)))
         :idle-ms (max 0 (round (* 1000 smtpmail-native-idle-seconds)))
         :max-sessions (max 1 smtpmail-native-max-sessions)
         :proxy (and smtpmail-native-proxy
                     (encode-coding-string smtpmail-native-proxy 'utf-8))
         :source smtpmail-native-source-address
         :cleartext smtpmail-native-cleartext-auth
         :trace t)
   (smtpmail-native-job--tls)))

;;;; Credentials

(defun smtpmail-native-job--key (name)
  "Return NAME of a client's key or certificate as the module wants it.
It names a file, or an object on a token, or is nil."
  (cond ((null name) nil)
        ((string-prefix-p "pkcs11:" name) (encode-coding-string name 'utf-8))
        (t (smtpmail-native-disk-encode name))))

(defun smtpmail-native-job-credentials (found)
  "Return the part of a job that the credentials FOUND make up.
FOUND is from `smtpmail-native-auth-find'."
  (let ((user (plist-get found :user)))
    ;; A user without a secret may have a certificate of the classic variable.
    (list :auth (not (plist-get found :disabled))
          :user (and user (encode-coding-string user 'utf-8))
          :password (plist-get found :password)
          :token (plist-get found :token)
          :mechanisms (plist-get found :mechanisms)
          :if-offered (plist-get found :if-offered)
          :key (smtpmail-native-job--key (plist-get found :key))
          :cert (smtpmail-native-job--key (plist-get found :cert))
          :passphrase (plist-get found :passphrase))))

;;;; The job of an entry

(defun smtpmail-native-job--wishes (entry)
  "Return the part of a job that says what ENTRY asks of the server."
  (let ((wishes (copy-sequence
                 (plist-get (smtpmail-native-entry-envelope entry) :wishes)))
        (state (smtpmail-native-entry-state entry)))
    (if (or (plist-get state :now) (plist-get state :here)
            (eq smtpmail-native-send-later 'outbox))
        (plist-put wishes :release nil)
      wishes)))

(defun smtpmail-native-job-attempt (entry)
  "Return the number of the next attempt for ENTRY."
  (1+ (max (or (plist-get (smtpmail-native-entry-state entry) :settled) 0)
           (or (plist-get (smtpmail-native-entry-receipt entry) :attempt) 0))))

(defun smtpmail-native-job (entry found)
  "Return the job that is the next attempt for ENTRY, a plist for the module.
FOUND are the credentials, see `smtpmail-native-auth-find'."
  (let ((envelope (smtpmail-native-entry-envelope entry)))
    (smtpmail-native-account-call
     (plist-get envelope :account)
     (lambda ()
       (smtpmail-native-job--plist entry found)))))

(defun smtpmail-native-job--plist (entry found)
  "Return the job for ENTRY with FOUND, by the options of this moment."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (state (smtpmail-native-entry-state entry))
        (encode (lambda (text) (encode-coding-string text 'utf-8))))
    (append
     (smtpmail-native-job-credentials found)
     (list :sender (funcall encode (plist-get envelope :sender))
           :recipients (mapcar encode (smtpmail-native-entry-remaining entry))
           :file (smtpmail-native-disk-encode
                  (smtpmail-native-outbox-message-file entry))
           :entry (smtpmail-native-disk-encode
                   (smtpmail-native-outbox-file entry))
           ;; Its files need not be synced a second time then.
           :durable (smtpmail-native-outbox-durable-p entry)
           :attempt (smtpmail-native-job-attempt entry)
           :partial smtpmail-native-partial-recipients
           :chunking smtpmail-native-chunking
           :utf-8 (plist-get envelope :utf-8)
           ;; Once it has been encoded it is so no more.
           :binary (and (plist-get envelope :binary)
                        (null (plist-get state :ascii))
                        (null (plist-get state :size))))
     (smtpmail-native-job--wishes entry)
     (smtpmail-native-job-connection envelope))))

(provide 'smtpmail-native-job)
;;; smtpmail-native-job.el ends here
