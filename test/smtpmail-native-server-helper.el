;;; smtpmail-native-server-helper.el --- Real servers for the tests -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Starts the servers that people have, on ports of the loopback and with all
;; their files in a temporary folder, and ends them by their processes.  Where a
;; server is not there, or does not start, the tests are skipped; under `make
;; check-servers' they fail.

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-load)
(require 'cl-lib)

(defun smtpmail-native-server-program (&rest names)
  "Return the file of the first program of NAMES, or nil."
  (let ((exec-path (append exec-path '("/usr/sbin" "/usr/local/sbin"
                                       "/usr/lib/postfix/sbin"))))
    (cl-some #'executable-find names)))

(defun smtpmail-native-server-missing (why)
  "Skip this test, or fail where servers must be there, because of WHY."
  (if (getenv "SMTPMAIL_NATIVE_SERVERS")
      (ert-fail why)
    (ert-skip why)))

(defun smtpmail-native-server-need (&rest conditions)
  "Go on with this test if all CONDITIONS are non-nil."
  (unless (cl-every #'identity conditions)
    (smtpmail-native-server-missing "The server is not installed")))

(defun smtpmail-native-server-ports (count)
  "Return COUNT ports of the loopback that are free."
  (let ((processes (cl-loop repeat count collect
                            (make-network-process
                             :name "free" :server t :host 'local :service t
                             :family 'ipv4 :noquery t))))
    (prog1 (mapcar (lambda (process) (process-contact process :service))
                   processes)
      (mapc #'delete-process processes))))

(defun smtpmail-native-server-greets-p (port)
  "Return non-nil when a server greets at PORT of the loopback."
  (with-temp-buffer
    (let ((process (ignore-errors
                     (make-network-process
                      :name "greeting" :host "127.0.0.1" :service port
                      :buffer (current-buffer) :noquery t
                      :sentinel #'ignore))))
      (when process
        (unwind-protect
            (cl-loop repeat 40 thereis (> (buffer-size) 3)
                     do (accept-process-output process 0.05))
          (delete-process process))))))

(defun smtpmail-native-server-listens-p (port)
  "Return non-nil if something listens on PORT of the loopback."
  (ignore-errors
    (delete-process (make-network-process :name "look" :host "127.0.0.1"
                                          :service port :noquery t))
    t))

(defun smtpmail-native-server-call (input program &rest args)
  "Run PROGRAM with ARGS and the string INPUT; an exit but 0 is an error."
  (with-temp-buffer
    (insert (or input ""))
    (unless (eql (apply #'call-process-region (point-min) (point-max)
                        (or (smtpmail-native-server-program program) program)
                        t t nil args)
                 0)
      (error "%s: %s" program (buffer-string)))
    (buffer-string)))

(defun smtpmail-native-server-start (name command ready)
  "Start COMMAND as NAME, and wait for the function READY; return the process.
It must stay in the foreground."
  (let ((process (make-process :name name :noquery t :command command
                               :buffer (generate-new-buffer
                                        (format " *%s*" name)))))
    (unless (ignore-errors
              (smtpmail-native-test-wait
               (lambda () (or (not (process-live-p process)) (funcall ready))))
              (process-live-p process))
      (let ((said (smtpmail-native-test--output process)))
        (smtpmail-native-server-stop process)
        (smtpmail-native-server-missing
         (format "%s does not start: %s" name said))))
    process))

(defun smtpmail-native-server-stop (process)
  "End PROCESS and what it has started, if it runs.
What survives it, as Exim's processes for a connection do, would still write
into its folder, and make it anew."
  (when process
    (let ((group (- (process-id process))))
      (when (process-live-p process)
        (signal-process process 'SIGTERM)
        (with-timeout (5 (delete-process process))
          (while (process-live-p process)
            (accept-process-output process 0.05))))
      (ignore-errors (signal-process group 'SIGKILL)))
    (delete-process process)
    (kill-buffer (process-buffer process))))

(defmacro smtpmail-native-server-with-client (ports &rest body)
  "Run BODY as Alice, who sends to PORTS of localhost with a password.
Her files, and those of the server, are in the new directory `folder'."
  (declare (indent 1) (debug t))
  `(let* ((folder (file-name-as-directory (make-temp-file "smtpmail-native" t)))
          (user-mail-address "alice@example.org")
          (user-full-name "Alice")
          (auth-sources nil)
          (mail-personal-alias-file "/nonexistent")
          (smtpmail-smtp-server "localhost")
          (smtpmail-smtp-user nil)
          (smtpmail-queue-mail nil)
          ;; A second try, after a second, tells nothing new.
          (smtpmail-retries 1)
          (smtpmail-debug-info t)
          (smtpmail-local-domain "example")
          (smtpmail-auth-credentials
           (mapcar (lambda (port) (list "localhost" port "alice" "secret"))
                   ,ports))
          (smtpmail-starttls-credentials nil)
          (smtpmail-native-outbox-directory (expand-file-name "outbox/" folder))
          (gnutls-trustfiles (list (smtpmail-native-test-cert "ca.pem")))
          (inhibit-message t))
     (set-file-modes folder #o755)
     (unwind-protect
         (progn ,@body)
       (smtpmail-native-server-hang-up)
       (delete-directory folder t))))

(defun smtpmail-native-server-hang-up ()
  "End the connections that are kept."
  (when (featurep 'smtpmail-native-module)
    (smtpmail-native-module-shutdown 5000)))

(declare-function smtpmail-native-module-shutdown "smtpmail-native-module")

(cl-defun smtpmail-native-server-send (port body &key (stream 'starttls)
                                            (to "bob@example.org") header from)
  "Send BODY by STREAM to PORT, from FROM to TO, with the lines HEADER; wait."
  (let ((smtpmail-smtp-service port)
        (smtpmail-stream-type stream)
        (user-mail-address (or from user-mail-address)))
    (with-temp-buffer
      (insert "To: " to "\nSubject: x\n" (or header "")
              mail-header-separator "\n" body)
      (smtpmail-native-send-it))))

(defun smtpmail-native-server-trace ()
  "Return the trace of the last message."
  (with-current-buffer "*trace of SMTP session to localhost*"
    (buffer-string)))

(defun smtpmail-native-server-maildir (directory)
  "Return the messages in the maildir DIRECTORY, unibyte strings."
  (mapcar (lambda (file)
            (with-temp-buffer
              (set-buffer-multibyte nil)
              (insert-file-contents-literally file)
              (buffer-string)))
          (file-expand-wildcards (expand-file-name "new/*" directory))))

(defun smtpmail-native-server-body (message)
  "Return the body of MESSAGE."
  (substring message (+ 2 (string-match "\n\n" message))))

(provide 'smtpmail-native-server-helper)
;;; smtpmail-native-server-helper.el ends here
