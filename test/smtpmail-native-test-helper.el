;;; smtpmail-native-test-helper.el --- A server for the tests  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Starts the scripted server of test/c and waits for its verdict.  All files
;; are in a temporary folder, and the process ends with the test.

;;; Code:

(require 'smtpmail-native)
(require 'smtpmail-native-mode)
(require 'smtpmail-native-server)
(require 'smtpmail)
(require 'message)
(require 'gnutls)
(require 'auth-source)

(defvar user-full-name)

(defconst smtpmail-native-test-folder
  (file-name-directory
   (directory-file-name
    (file-name-directory (or load-file-name buffer-file-name))))
  "The top folder of the package.")

(defconst smtpmail-native-test-seconds 30
  "How long a test waits for anything.")

(defvar smtpmail-native-test-certs nil
  "Folder with the certificates of this run.")

(defun smtpmail-native-test-certs ()
  "Return a folder with certificates, made once."
  (unless smtpmail-native-test-certs
    (setq smtpmail-native-test-certs (make-temp-file "smtpmail-native" t))
    (call-process (smtpmail-native-test-peer) nil nil nil "--certificates"
                  smtpmail-native-test-certs)
    (add-hook 'kill-emacs-hook
              (lambda () (delete-directory smtpmail-native-test-certs t))))
  smtpmail-native-test-certs)

(defun smtpmail-native-test-peer ()
  "Return the file of the scripted server."
  (expand-file-name "build/plain/peer" smtpmail-native-test-folder))

(defun smtpmail-native-test-cert (name)
  "Return the file NAME of `smtpmail-native-test-certs'."
  (expand-file-name name (smtpmail-native-test-certs)))

(defun smtpmail-native-test-wait (condition)
  "Wait until the function CONDITION returns non-nil, and return that."
  (with-timeout (smtpmail-native-test-seconds (error "Nothing has happened"))
    (let (value)
      (while (not (setq value (funcall condition)))
        (accept-process-output nil 0.05))
      value)))

(declare-function smtpmail-native-module-events "smtpmail-native-module"
                  (queue &optional max))

(defun smtpmail-native-test-event (id kind)
  "Wait for the event of KIND that belongs to ID, and return its plist.
Other events are dropped."
  (smtpmail-native-test-wait
   (lambda ()
     (let ((queue (list nil)) found)
       (smtpmail-native-module-events queue)
       (dolist (event (cdr queue) found)
         (when (and (eql (car event) id) (eq (cadr event) kind))
           (setq found (cddr event))))))))

(defun smtpmail-native-test-disk-idle ()
  "Wait until the disk has done all that this Emacs wanted of it."
  (smtpmail-native-test-wait
   (lambda ()
     (when (featurep 'smtpmail-native-module)
       (smtpmail-native-channel-dispatch))
     (= 0 (hash-table-count smtpmail-native-disk--pending)))))

(defun smtpmail-native-test-write (file object)
  "Write OBJECT, Lisp data, into FILE, as another Emacs does."
  (let ((coding-system-for-write 'utf-8-emacs-unix)
        (print-escape-newlines t))
    (with-file-modes #o600
      (write-region (prin1-to-string object) nil file nil 'silent))))

(defmacro smtpmail-native-test-with-outbox (&rest body)
  "Run BODY with an empty outbox in a new directory, `folder'."
  (declare (indent 0) (debug t))
  `(let* ((folder (file-name-as-directory (make-temp-file "smtpmail-native" t)))
          (smtpmail-native-outbox-directory (expand-file-name "outbox/" folder))
          (inhibit-message t))
     (smtpmail-native-load)
     (unwind-protect
         (progn ,@body)
       (smtpmail-native-test-disk-idle)
       (delete-directory folder t))))

(defconst smtpmail-native-test-envelope
  '(:sender "alice@example.org" :recipients ("bob@example.org")
    :host "localhost" :port 25 :subject "test" :message-id "<1@x>")
  "What an entry of a test has on its envelope.")

(defun smtpmail-native-test-commit (&optional text envelope draft)
  "Commit an entry with the message TEXT, ENVELOPE and DRAFT; return it claimed."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert (or text "Subject: x\n\nbody\n"))
    (smtpmail-native-outbox-commit
     (current-buffer)
     (or envelope smtpmail-native-test-envelope)
     '(:status ready) nil (and draft (list :text draft)))))

(defun smtpmail-native-test--output (server)
  "Return what the process SERVER has said."
  (with-current-buffer (process-buffer server)
    (buffer-string)))

(defun smtpmail-native-test-start (folder script)
  "Start the server with the lines SCRIPT, its files in FOLDER.
Return (PROCESS . PORT)."
  (let ((file (expand-file-name "script.smtp" folder)))
    (with-temp-file file
      (dolist (line script)
        (insert line "\n")))
    (let ((server (make-process
                   :name "peer" :buffer (generate-new-buffer " *peer*")
                   :noquery t :coding 'utf-8
                   :command (list (smtpmail-native-test-peer)
                                  "--certs" (smtpmail-native-test-certs)
                                  "--deliver" folder file))))
      (cons server
            (smtpmail-native-test-wait
             (lambda ()
               (let ((said (smtpmail-native-test--output server)))
                 (and (string-match "\\`port \\([0-9]+\\)\n" said)
                      (string-to-number (match-string 1 said))))))))))

(defun smtpmail-native-test-verdict (server)
  "Wait for the process SERVER to end, and return its transcript.
Fail when the client did not behave as scripted."
  (smtpmail-native-test-wait
   (lambda ()
     (string-match-p "^-- \\(?:as scripted\\|FAULT\\)"
                     (smtpmail-native-test--output server))))
  (let ((said (smtpmail-native-test--output server)))
    (unless (string-match-p "^-- as scripted" said)
      (error "The client misbehaved:\n%s" said))
    said))

(defmacro smtpmail-native-test-with-user (folder port &rest body)
  "Run BODY as Alice, who has her files in FOLDER and sends to PORT.
Other variables of smtpmail have their defaults."
  (declare (indent 2) (debug t))
  `(let ((user-mail-address "alice@example.org")
         (user-full-name "Alice")
         (mail-personal-alias-file "/nonexistent")
         (auth-sources nil)
         (smtpmail-smtp-server "localhost")
         (smtpmail-smtp-service ,port)
         (smtpmail-smtp-user nil)
         (smtpmail-mail-address nil)
         (smtpmail-stream-type nil)
         (smtpmail-local-domain nil)
         (smtpmail-auth-credentials nil)
         (smtpmail-starttls-credentials nil)
         (smtpmail-queue-mail nil)
         (smtpmail-queue-dir (expand-file-name "queued-mail" ,folder))
         ;; A second try, after a second, tells nothing new.
         (smtpmail-retries 1)
         (smtpmail-native-timeout 20)
         (smtpmail-native-outbox-directory (expand-file-name "outbox/" ,folder))
         (inhibit-message t))
     ,@body))

(defmacro smtpmail-native-test-with-server (script &rest body)
  "Run BODY with the lines SCRIPT as the server, whose port is `port'.
The server's process is `server', the folder of its files `folder'.  The
variables of smtpmail lead to it and have their defaults else."
  (declare (indent 1) (debug t))
  `(let* ((folder (make-temp-file "smtpmail-native" t))
          (started (smtpmail-native-test-start folder ,script))
          (server (car started))
          (port (cdr started))
          (smtpmail-debug-info t)
          (smtpmail-native-idle-seconds 0)
          (gnutls-trustfiles (list (smtpmail-native-test-cert "ca.pem")))
          (send-mail-function #'smtpmail-native-send-it)
          (message-send-mail-function #'smtpmail-native-send-it)
          (message-interactive t))
     (smtpmail-native-test-with-user folder port
       (unwind-protect
           (progn ,@body)
         (when (process-live-p server)
           (delete-process server))
         (kill-buffer (process-buffer server))
         (smtpmail-native-test-disk-idle)
         (delete-directory folder t)))))

(defun smtpmail-native-test-terminal (form)
  "Evaluate FORM in an Emacs with a terminal, and wait until that has ended."
  (let* ((process-environment (cons "TERM=xterm" process-environment))
         (emacs (make-process
                 :name "emacs" :buffer nil :noquery t :connection-type 'pty
                 :command (list (expand-file-name invocation-name
                                                  invocation-directory)
                                "-Q" "-nw" "--eval"
                                "(setq native-comp-deferred-compilation nil)"
                                "-L" smtpmail-native-test-folder
                                "--eval" (prin1-to-string form)))))
    (unwind-protect
        (progn
          (set-process-window-size emacs 24 80)
          (smtpmail-native-test-wait
           (lambda () (not (process-live-p emacs)))))
      (delete-process emacs))))

(defun smtpmail-native-test-delivered (folder)
  "Return the octets of the first message in FOLDER."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally (expand-file-name "0001.eml" folder))
    (buffer-string)))

(defconst smtpmail-native-test-mail
  '("C: MAIL FROM:<alice@example.org>*" "S: 250 ok"
    "C: RCPT TO:<bob@example.org>" "S: 250 ok"
    "C: DATA" "S: 354 go" "data" "S: 250 2.0.0 queued"
    "C: QUIT" "S: 221 bye")
  "The part of a script that takes one mail.")

(defun smtpmail-native-test-script (&rest lines)
  "Return a script: greeting, then LINES, each a string or a list of them."
  (cons "S: 220 peer.example ESMTP"
        (apply #'append (mapcar (lambda (line)
                                  (if (listp line) line (list line)))
                                lines))))

(defun smtpmail-native-test-ehlo (&rest capabilities)
  "Return the lines that answer EHLO with CAPABILITIES."
  (cons "C: EHLO *"
        (append (mapcar (lambda (one) (concat "S: 250-" one))
                        (cons "peer.example" (butlast capabilities)))
                (list (concat "S: 250 " (or (car (last capabilities)) "HELP"))))))

(defun smtpmail-native-test-emacs (folder &rest args)
  "Run a batch Emacs with the package in FOLDER on its path, and with ARGS.
Return (STATUS . OUTPUT)."
  (with-temp-buffer
    (let ((status (apply #'call-process
                         (expand-file-name invocation-name invocation-directory)
                         nil t nil "-Q" "--batch"
                         "--eval" "(setq load-prefer-newer t)" "-L" folder
                         args)))
      (cons status (buffer-string)))))

;;;; With a terminal

(defvar smtpmail-native-test-terminal nil
  "The process of the Emacs with a terminal, in its test.")

(defun smtpmail-native-test-type (keys)
  "Type KEYS, a string, in the Emacs with a terminal.\nMeta is an escape before the key."
  (process-send-string smtpmail-native-test-terminal keys))

(defun smtpmail-native-test-shown (text)
  "Wait until the Emacs with a terminal has shown TEXT."
  (smtpmail-native-test-wait
   (lambda ()
     (string-match-p (regexp-quote text)
                     (smtpmail-native-test--output
                      smtpmail-native-test-terminal)))))

(defun smtpmail-native-test-start-terminal (folder form)
  "Start an Emacs with a terminal, have it evaluate FORM, return its process.
It has come to its command loop then.  Its home is FOLDER."
  (let* ((ready (expand-file-name "ready" folder))
         (process-environment
          (append (list "TERM=xterm" (concat "HOME=" folder))
                  process-environment))
         (emacs (make-process
                 :name "emacs" :buffer (generate-new-buffer " *terminal*")
                 :noquery t :connection-type 'pty
                 :command
                 (list (expand-file-name invocation-name invocation-directory)
                       "-Q" "-nw"
                       ;; In an empty home Emacs would compile its own Lisp
                       ;; again and again, in other processes.
                       "--eval" "(setq load-prefer-newer t
 native-comp-deferred-compilation nil native-comp-jit-compilation nil)"
                       "-L" smtpmail-native-test-folder
                       "-L" (expand-file-name "lisp" smtpmail-native-test-folder)
                       "--eval"
                       (prin1-to-string
                        `(progn ,form
                                (run-with-timer
                                 0 nil (lambda ()
                                         (write-region "" nil ,ready nil
                                                       'silent)))))))))
    (set-process-window-size emacs 24 80)
    (smtpmail-native-test-wait
     (lambda ()
       (or (file-exists-p ready)
           (and (not (process-live-p emacs))
                (error "It ended: %s" (smtpmail-native-test--output emacs))))))
    emacs))

(defmacro smtpmail-native-test-with-terminal (folder form &rest body)
  "Run BODY with an Emacs with a terminal that has evaluated FORM.
Its home is FOLDER."
  (declare (indent 2) (debug t))
  `(let ((smtpmail-native-test-terminal
          (smtpmail-native-test-start-terminal ,folder ,form)))
     (unwind-protect
         (progn ,@body)
       (delete-process smtpmail-native-test-terminal)
       (kill-buffer (process-buffer smtpmail-native-test-terminal)))))

(defun smtpmail-native-test-account (port)
  "Return a form that lets the Emacs under test send to PORT."
  `(setq user-mail-address "alice@example.org"
         user-full-name "Alice"
         mail-personal-alias-file "/nonexistent"
         auth-sources nil
         message-auto-save-directory nil
         smtpmail-smtp-server ,smtpmail-smtp-server
         smtpmail-stream-type ',smtpmail-stream-type
         smtpmail-smtp-service ,port
         smtpmail-native-idle-seconds 0
         smtpmail-local-domain "client.example"
         smtpmail-native-outbox-directory ,smtpmail-native-outbox-directory
         send-mail-function #'smtpmail-native-send-it
         message-send-mail-function #'smtpmail-native-send-it))

;;;; In place of smtpmail

(defmacro smtpmail-native-test-with-mode (script &rest body)
  "Run BODY with the mode on and SCRIPT as the server; send by smtpmail's names."
  (declare (indent 1) (debug t))
  `(smtpmail-native-test-with-server ,script
     (let ((send-mail-function #'smtpmail-send-it)
           (message-send-mail-function #'smtpmail-send-it)
           (message-auto-save-directory nil)
           (smtpmail-native-mode nil))
       (smtpmail-native-mode 1)
       (unwind-protect
           (progn ,@body)
         (smtpmail-native-mode -1)
         (smtpmail-native-copy-release)))))

(defconst smtpmail-native-test-one
  (smtpmail-native-test-script (smtpmail-native-test-ehlo "8BITMIME")
                               smtpmail-native-test-mail)
  "A server that takes one mail from Alice to Bob.")

(defun smtpmail-native-test-insert (&optional header)
  "Insert a mail to Bob with the lines HEADER besides."
  (insert "To: bob@example.org\nSubject: test\n" (or header "")
          mail-header-separator "\nHello\n"))

(defun smtpmail-native-test-send-message (&optional header)
  "Send a mail from `message-mode' with HEADER besides; return its buffer."
  (save-window-excursion
    (message-mail "bob@example.org" "test")
    (message-goto-body)
    (insert "Hello\n")
    (goto-char (point-min))
    (insert (or header ""))
    (message-send)
    (set-buffer-modified-p nil)
    (current-buffer)))

(defmacro smtpmail-native-test-in-background (&rest body)
  "Run BODY as if somebody sat there, so that mail is sent in the background."
  (declare (indent 0) (debug t))
  `(let ((noninteractive nil))
     ,@body))

(defun smtpmail-native-test-drained ()
  "Wait until the outbox is empty."
  (smtpmail-native-test-wait (lambda () (null (smtpmail-native-outbox-ids)))))

(defun smtpmail-native-test-preloaded (library variables messages &rest args)
  "Run a batch Emacs with ARGS that has LIBRARY of build/plain/ before others.
VARIABLES are what its environment has beside ours.  Return its exit status
and what it printed, with MESSAGES non-nil its messages as well."
  (let ((process-environment
         (append (list (concat "LD_PRELOAD="
                               (expand-file-name
                                (concat "build/plain/" library)
                                smtpmail-native-test-folder)))
                 variables process-environment))
        (default-directory smtpmail-native-test-folder))
    (with-temp-buffer
      (let ((status (apply #'call-process
                           (expand-file-name invocation-name
                                             invocation-directory)
                           nil (list t (and messages t)) nil
                           "-Q" "--batch"
                           "--eval" "(setq load-prefer-newer t)"
                           "-L" "." "-L" "lisp" args)))
        (cons status (buffer-string))))))

(defun smtpmail-native-test-text (file)
  "Return the text of FILE, \"\" if there is none."
  (if (file-exists-p file)
      (with-temp-buffer
        (insert-file-contents file)
        (buffer-string))
    ""))

(provide 'smtpmail-native-test-helper)
;;; smtpmail-native-test-helper.el ends here
