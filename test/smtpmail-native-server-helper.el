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
          (smtpmail-debug-info t)
          (gnutls-trustfiles (list (smtpmail-native-test-cert "ca.pem"))))
     (set-file-modes folder #o755)
     (smtpmail-native-test-with-user folder nil
       (let ((smtpmail-local-domain "example")
             (smtpmail-auth-credentials
              (mapcar (lambda (port) (list "localhost" port "alice" "secret"))
                      ,ports)))
         (unwind-protect
             (progn ,@body)
           (smtpmail-native-server-hang-up)
           (delete-directory folder t))))))

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

(defun smtpmail-native-server-check-senders (port stream &optional but)
  "Check that PORT refuses what comes from some senders, by STREAM.
Servers are told to do so at different stages; those whose name begins with
BUT are left out."
  (pcase-dolist (`(,from ,type)
                 '(("refused@example.org" smtpmail-native-refused)
                   ("later@example.org" smtpmail-native-deferred)
                   ("data@example.org" smtpmail-native-refused)
                   ("data-later@example.org" smtpmail-native-deferred)
                   ("end@example.org" smtpmail-native-refused)
                   ("end-later@example.org" smtpmail-native-deferred)))
    (unless (and but (string-prefix-p but from))
      (ert-info (from)
        (should-error (smtpmail-native-server-send port "no\n" :stream stream
                                                   :from from)
                      :type type)))))

(defun smtpmail-native-server-check-name (port stream)
  "Check that PORT refuses a client by its name, by STREAM."
  (let ((smtpmail-local-domain "refused.example"))
    (should-error (smtpmail-native-server-send port "no\n" :stream stream)
                  :type 'smtpmail-native-refused)))

(defun smtpmail-native-server-check-large (port stream)
  "Check that PORT takes no 140000 octets by STREAM, and is sent none of them."
  (should-error (smtpmail-native-server-send
                 port (apply #'concat (make-list 20000 "a line\n"))
                 :stream stream)
                :type 'smtpmail-native-refused)
  (should-not (string-match-p "^C: \\(?:DATA\\|BDAT\\)"
                              (smtpmail-native-server-trace))))

(defun smtpmail-native-server-check-recipients (port stream last)
  "Check that PORT refuses recipients by STREAM, and what it is told of.
LAST is the condition when it hangs up at one."
  (dolist (case `(("nobody@example.org" smtpmail-native-refused)
                  ("later@example.org" smtpmail-native-deferred)
                  ("bob@example.org, nobody@example.org, later@example.org"
                   smtpmail-native-refused)
                  ("bob@example.org, gone@example.org" ,last)))
    (ert-info ((car case))
      (should-error (smtpmail-native-server-send port "no\n" :stream stream
                                                 :to (car case))
                    :type (cadr case)))))

(defun smtpmail-native-server-check-partial (port stream)
  "Check that who is accepted gets a message although another one is not.
It goes to PORT by STREAM, and its body is \"some\"."
  (let ((smtpmail-native-partial-recipients t))
    (should-error (smtpmail-native-server-send
                   port "some\n" :stream stream
                   :to "nobody@example.org, bob@example.org")
                  :type 'smtpmail-native-refused)))

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
