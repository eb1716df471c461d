;;; smtpmail-native-module-tests.el --- Tests of what the module tells -*- lexical-binding: t -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; The plists that go into the module and come out of it.

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'gnutls)
(require 'cl-lib)
(require 'smtpmail-native-channel)
(require 'smtpmail-native-load)

(defun smtpmail-native-module-tests--run (port &rest job)
  "Run JOB, a plist, at PORT of localhost, and return the plist of its end."
  (smtpmail-native-load)
  (let* ((file (make-temp-file "smtpmail-native" nil nil "Subject: x\n\nx\n"))
         (id (smtpmail-native-module-send
              (append job
                            (list :host "localhost" :port port
                                  :helo "client.example" :timeout-ms 10000
                                  :cleartext 'loopback
                                  :sender "alice@example.org"
                                  :recipients '("bob@example.org")
                                  :file file)))))
    (unwind-protect
        (smtpmail-native-test-event id 'done)
      (delete-file file))))

(defun smtpmail-native-module-tests--emacs (port trustfiles)
  "Return what Emacs itself says of the server at PORT, given TRUSTFILES."
  (let ((process (make-network-process :name "peer" :host "127.0.0.1"
                                       :service port :noquery t
                                       :coding 'no-conversion)))
    (unwind-protect
        (let ((gnutls-trustfiles trustfiles)
              (inhibit-message t))
          (gnutls-negotiate :process process :hostname "localhost"
                            :verify-error nil)
          (gnutls-peer-status process))
      (delete-process process))))

(defun smtpmail-native-module-tests--known (certificate)
  "Return CERTIFICATE, a plist of the module, with the keys that this Emacs has.
Emacs tells of `:public-key-id-sha256' since version 30."
  (if (>= emacs-major-version 30)
      certificate
    (should (string-match-p "\\`sha256:\\(?:[0-9a-f]\\{2\\}:\\)\\{31\\}[0-9a-f]\\{2\\}\\'"
                            (plist-get certificate :public-key-id-sha256)))
    (cl-loop for (key value) on certificate by #'cddr
             unless (eq key :public-key-id-sha256)
             nconc (list key value))))

(defun smtpmail-native-module-tests--same (certificate &optional untrusted)
  "Check that the module tells of CERTIFICATE what Emacs tells.
UNTRUSTED non-nil means that nobody knows the authority."
  (let* ((script (list (concat "tls " certificate) "stall"))
         (trust (and (not untrusted)
                     (list (smtpmail-native-test-cert "ca.pem"))))
         (theirs (smtpmail-native-test-with-server script
                   (smtpmail-native-module-tests--emacs port trust)))
         (result (smtpmail-native-test-with-server script
                   (smtpmail-native-module-tests--run
                    port :stream 'tls :trustfiles trust :timeout-ms 1000)))
         (ours (plist-get (plist-get result :tls) :peer)))
    (should theirs)
    (should ours)
    (setq ours (plist-put ours :certificates
                          (mapcar #'smtpmail-native-module-tests--known
                                  (plist-get ours :certificates)))
          ours (plist-put ours :certificate
                          (smtpmail-native-module-tests--known
                           (plist-get ours :certificate))))
    (dolist (key '(:certificates :certificate :key-exchange :protocol :cipher
                   :mac :encrypt-then-mac :safe-renegotiation
                   :diffie-hellman-prime-bits))
      ;; Emacs tells nothing of what TLS 1.3 has no longer.
      (when (or (plist-member theirs key) (plist-get ours key))
        (should (equal (list key (plist-get ours key))
                       (list key (plist-get theirs key))))))
    (should (equal (sort (copy-sequence (plist-get ours :warnings))
                         #'string<)
                   (sort (copy-sequence (plist-get theirs :warnings))
                         #'string<)))))

(ert-deftest smtpmail-native-module-tests-peer-status ()
  "The module tells of a server what Emacs's own TLS tells."
  (skip-unless (gnutls-available-p))
  (dolist (certificate '("good" "good NORMAL:-VERS-ALL:+VERS-TLS1.2"
                         "expired" "notyet" "wronghost" "selfsigned" "rsa"
                         "sha1"))
    (smtpmail-native-module-tests--same certificate))
  (smtpmail-native-module-tests--same "good" t)
  (smtpmail-native-module-tests--same "rsa NORMAL:-VERS-ALL:+VERS-TLS1.2" t))

(defun smtpmail-native-module-tests--hello (mechanisms)
  "Return the lines of a TLS server that offers MECHANISMS."
  (list "tls good" "S: 220 peer.example ESMTP" "C: EHLO client.example"
        "S: 250-peer.example" (concat "S: 250 AUTH " mechanisms)))

(ert-deftest smtpmail-native-module-tests-token ()
  "A token that is refused is told apart from a password."
  (let ((result
         (smtpmail-native-test-with-server
             (append (smtpmail-native-module-tests--hello "XOAUTH2 PLAIN")
                     '("auth XOAUTH2 tim other" "C: QUIT"))
           (smtpmail-native-module-tests--run
            port :stream 'tls :trustfiles gnutls-trustfiles
            :auth t :user "tim" :token t :password "token4711"))))
    (should (eq (plist-get result :kind) 'auth))
    (should (eql (plist-get result :code) 535))
    (should (eq (plist-get result :token-refused) t))
    (should (string-match-p "status invalid_token"
                            (plist-get result :text)))))

(ert-deftest smtpmail-native-module-tests-external ()
  "A certificate alone authenticates, and its passphrase may be asked for."
  (dolist (passphrase '("open-sesame-4711" "wrong" nil))
    (let* ((good (equal passphrase "open-sesame-4711"))
           (job (list :stream 'tls :auth t
                      :cert (smtpmail-native-test-cert "client.pem")
                      :key (smtpmail-native-test-cert "client-encrypted.key")
                      :passphrase passphrase))
           (result
            (smtpmail-native-test-with-server
                (append '("tls good client")
                        (cdr (smtpmail-native-module-tests--hello "EXTERNAL"))
                        '("auth EXTERNAL - -" "C: MAIL *" "S: 550 no"))
              (apply #'smtpmail-native-module-tests--run port
                     :trustfiles gnutls-trustfiles job))))
      (should (eq (plist-get result :kind) (if good 'reply 'file)))
      (should (equal (plist-get result :mechanism) (if good "EXTERNAL" "")))
      (should (eq (plist-get result :passphrase-wanted) (not good))))))

(ert-deftest smtpmail-native-module-tests-pins ()
  "A pin is refused where it cannot be one, and opens what it names."
  (smtpmail-native-load)
  (should-error (smtpmail-native-module-tests--run 25 :pins '("abc"))
                :type 'smtpmail-native-usage-error)
  (let* ((script '("tls selfsigned" "S: 220 peer.example" "C: EHLO *"
                   "S: 250 peer.example" "C: MAIL *" "S: 550 no"))
         (tls (plist-get (smtpmail-native-test-with-server script
                           (smtpmail-native-module-tests--run
                            port :stream 'tls))
                         :tls))
         (pin (plist-get (plist-get tls :certificate) :spki-sha256))
         (result (smtpmail-native-test-with-server script
                   (smtpmail-native-module-tests--run
                    port :stream 'tls :pins (list (upcase pin))))))
    (should (eq (plist-get result :kind) 'reply))
    (should (plist-get (plist-get (plist-get result :tls) :certificate)
                       :pinned))))

;; Requests

(ert-deftest smtpmail-native-module-tests-unknown-key ()
  "A job with a key that the module does not know is refused by its name.
Lisp that is newer than the module could ask by it for what is not done."
  (smtpmail-native-load)
  (let ((job (list :host "localhost" :port 25 :helo "x" :timeout-ms 1000
                   :probe t)))
    (dolist (bad `((:require-tsl t) (:sync t) (require-tls t) (:HOST "x")
                   (:host "x" :x) ("host" "x") (:trace . t)))
      (should-error (smtpmail-native-module-send (append job bad))
                    :type (if (stringp (car bad)) 'wrong-type-argument
                            'smtpmail-native-usage-error)))
    (should (string-match-p
             ":require-tsl"
             (error-message-string
              (should-error (smtpmail-native-module-send
                             (append '(:require-tsl nil) job))))))
    (let ((circle (copy-sequence job)))
      (nconc circle circle)
      (should-error (smtpmail-native-module-send circle)
                    :type 'smtpmail-native-usage-error))
    ;; As in `plist-get' the first one counts.
    (should-error (smtpmail-native-module-send
                   (append '(:port 0) job))
                  :type 'smtpmail-native-usage-error)))

(ert-deftest smtpmail-native-module-tests-all-keys ()
  "Every key that the documentation names is known, and no other."
  (smtpmail-native-load)
  (let ((doc (documentation 'smtpmail-native-module-send)) keys)
    (with-temp-buffer
      (insert doc)
      (goto-char (point-min))
      (while (re-search-forward "^:[a-z]" nil t)
        (beginning-of-line)
        (while (looking-at ",? *\\(:[a-z0-9-]+\\)")
          (push (intern (match-string 1)) keys)
          (goto-char (match-end 0)))
        (forward-line)))
    (should (> (length keys) 40))
    (dolist (key keys)
      ;; What is known is refused for another reason.
      (should-not (string-match-p
                   "has no key"
                   (error-message-string
                    (should-error (smtpmail-native-module-send
                                   (list key nil)))))))))

;; Receipts

(ert-deftest smtpmail-native-module-tests-receipt ()
  "The receipt on disk says what the event says, key by key."
  (let* ((entry (make-temp-file "smtpmail-native" t))
         (result
          (smtpmail-native-test-with-server
              '("S: 220 peer.example" "C: EHLO *" "S: 250 peer.example"
                "C: MAIL *" "S: 250 ok" "C: RCPT *" "S: 250 ok" "C: RCPT *"
                "S: 550 5.1.1 \"no\" \\ such user" "C: DATA" "S: 354 go"
                "data" "S: 250 2.0.0 taken" "C: QUIT")
            (prog1 (smtpmail-native-module-tests--run
                    port :stream 'plain :partial t :entry entry
                    :recipients '("bob@example.org" "carol@example.org"))
              (smtpmail-native-module-shutdown 5000))))
         (receipt (with-temp-buffer
                    (set-buffer-multibyte nil)
                    (insert-file-contents-literally
                     (expand-file-name "receipt" entry))
                    (read (current-buffer)))))
    (delete-directory entry t)
    (should (eq (plist-get result :kind) 'ok))
    (should (equal (mapcar (lambda (r) (nth 1 r))
                           (plist-get result :recipients))
                   '(t nil)))
    (while result
      (unless (memq (car result) '(:tls :unrecorded :greeting :capabilities))
        (should (plist-member receipt (car result)))
        (should (equal (list (car result) (plist-get receipt (car result)))
                       (list (car result) (cadr result)))))
      (setq result (cddr result)))))

(ert-deftest smtpmail-native-module-tests-durable ()
  "An entry that is durable is not synced again."
  (let ((entry (expand-file-name "missing" (make-temp-file "smtpmail-native"
                                                           t))))
    (pcase-dolist (`(,durable ,text)
                   '((nil "cannot read .*/missing/: No such file")
                     (t "cannot write .*/missing/receipt: No such file")))
      (let ((result
             (smtpmail-native-test-with-server
                 (if durable
                     '("S: 220 peer.example" "C: EHLO *" "S: 250 peer.example"
                       "C: MAIL *" "S: 250 ok" "C: RCPT *" "S: 250 ok"
                       "C: DATA" "S: 354 go" "stall")
                   '("S: 220 peer.example"))
               (smtpmail-native-module-tests--run
                port :stream 'plain :entry entry :durable durable))))
        (should (eq (plist-get result :kind) 'file))
        (should (string-match-p text (plist-get result :text)))))
    (delete-directory (file-name-directory entry))))

;; Events

;; The module calls functions by their symbols; no compiled Lisp has to.
(defvar comp-enable-subr-trampolines)
(defvar native-comp-enable-subr-trampolines)

(defun smtpmail-native-module-tests--have-events (count)
  "Let COUNT events wait in the module, and return their ids."
  (while (smtpmail-native-module-events (list nil)))
  (let ((ids (mapcar (lambda (_) (smtpmail-native-module-disk nil))
                     (number-sequence 1 count))))
    (should (smtpmail-native-module-shutdown 10000))
    ids))

(defun smtpmail-native-module-tests--break (at break function)
  "Call FUNCTION; BREAK is called in the AT th call to Lisp of the module.
Return t if there were fewer."
  (let* ((comp-enable-subr-trampolines nil)
         (native-comp-enable-subr-trampolines nil)
         (count 0)
         (tried nil)
         (wrap (lambda (original)
                 (lambda (&rest args)
                   (prog1 (apply original args)
                     (when (= (setq count (1+ count)) at)
                       (setq tried t)
                       (funcall break)))))))
    (cl-letf (((symbol-function 'cons)
               (funcall wrap (symbol-function 'cons)))
              ((symbol-function 'nreverse)
               (funcall wrap (symbol-function 'nreverse)))
              ((symbol-function 'nconc)
               (funcall wrap (symbol-function 'nconc))))
      (funcall function))
    (not tried)))

(defun smtpmail-native-module-tests--interrupted (break)
  "Check that events survive BREAK at every place of their conversion."
  (smtpmail-native-load)
  (let ((at 0) over)
    (while (not over)
      (let ((ids (smtpmail-native-module-tests--have-events 3))
            (queue (list nil)))
        (setq at (1+ at)
              over (smtpmail-native-module-tests--break
                    at break
                    (lambda ()
                      (let (throw-on-input)
                        (catch 'thrown
                          (condition-case nil
                              (smtpmail-native-module-events queue)
                            ((quit error) nil)))))))
        (while (smtpmail-native-module-events queue))
        (should (equal (mapcar #'car (cdr queue)) ids))))
    (should (> at 4))))

(ert-deftest smtpmail-native-module-tests-events-quit ()
  "A quit while events are fetched loses none, and brings none twice."
  (smtpmail-native-module-tests--interrupted (lambda () (setq quit-flag t))))

(ert-deftest smtpmail-native-module-tests-events-input ()
  "Input that ends `while-no-input' while events are fetched loses none."
  (smtpmail-native-module-tests--interrupted
   (lambda () (setq throw-on-input 'thrown quit-flag 'thrown))))

(ert-deftest smtpmail-native-module-tests-events-error ()
  "An error while events are fetched, such as no memory, loses none."
  (let ((comp-enable-subr-trampolines nil)
        (native-comp-enable-subr-trampolines nil)
        (queue (list nil)))
    (smtpmail-native-load)
    (let ((ids (smtpmail-native-module-tests--have-events 2)))
      (cl-letf (((symbol-function 'nconc)
                 (lambda (&rest _) (signal 'error memory-signal-data))))
        (should-error (smtpmail-native-module-events queue)))
      (should-not (cdr queue))
      (smtpmail-native-module-events queue)
      (should (equal (mapcar #'car (cdr queue)) ids)))))

(ert-deftest smtpmail-native-module-tests-events-bounded ()
  "Events come in portions, and those that are left wake Emacs again."
  (smtpmail-native-load)
  (let* ((ids (smtpmail-native-module-tests--have-events 250))
         (queue (list nil)))
    (should (eq (smtpmail-native-module-events queue 2) t))
    (should (equal (mapcar #'car (cdr queue)) (list (nth 0 ids) (nth 1 ids))))
    (should (smtpmail-native-module-events queue))
    (should (= (length (cdr queue)) 102))
    (should (smtpmail-native-module-events queue 147))
    (should-not (smtpmail-native-module-events queue 147))
    (should (equal (mapcar #'car (cdr queue)) ids)))
  (should-error (smtpmail-native-module-events nil)
                :type 'smtpmail-native-usage-error)
  (should-error (smtpmail-native-module-events (list nil) 0)
                :type 'smtpmail-native-usage-error)
  (should-error (smtpmail-native-module-events (list nil) "x")
                :type 'wrong-type-argument))

(ert-deftest smtpmail-native-module-tests-events-wake ()
  "What was left over wakes Emacs without anything new."
  (smtpmail-native-load)
  (let* ((queue (list nil))
         (process-adaptive-read-buffering nil)
         (process (make-pipe-process
                   :name "wake" :noquery t :coding 'binary
                   :filter (lambda (&rest _)
                             (smtpmail-native-module-events queue 1)))))
    (unwind-protect
        (progn
          (smtpmail-native-module-open process)
          (let ((ids (smtpmail-native-module-tests--have-events 20)))
            (should (smtpmail-native-test-wait
                     (lambda () (= (length (cdr queue)) 20))))
            (should (equal (mapcar #'car (cdr queue)) ids))))
      (setq smtpmail-native-channel--process nil)
      (delete-process process))))

;; The disk

(defun smtpmail-native-module-tests--disk (&rest steps)
  "Have STEPS done and return the plist of the event that comes."
  (smtpmail-native-load)
  (let ((id (smtpmail-native-module-disk steps)))
    (should (integerp id))
    (smtpmail-native-test-event id 'disk)))

(defmacro smtpmail-native-module-tests--with-folder (&rest body)
  "Evaluate BODY with `folder' bound to a fresh directory, encoded."
  (declare (indent 0) (debug t))
  `(let ((folder (encode-coding-string (make-temp-file "smtpmail-native" t)
                                       'utf-8)))
     (unwind-protect
         (progn ,@body)
       (delete-directory folder t))))

(ert-deftest smtpmail-native-module-tests-disk ()
  "All steps are done, in their order."
  (smtpmail-native-module-tests--with-folder
    (let* ((octets (unibyte-string 0 13 10 128 255 228))
           (name (concat folder "/" (encode-coding-string "ä" 'utf-8)))
           (latin (concat folder "/" (unibyte-string 228)))
           (entry (concat folder "/entry")))
      (make-directory entry)
      (write-region "x" nil (concat entry "/message") nil 'quiet)
      (should (equal (smtpmail-native-module-tests--disk
                      (list 'write name octets)
                      (list 'sync name)
                      (list 'rename name latin)
                      (list 'sync-all entry)
                      (list 'remove entry)
                      (list 'remove entry)
                      (list 'delete name)
                      (list 'sync folder))
                     '(:kind ok)))
      (should-not (file-exists-p entry))
      (should (= (file-modes latin) #o600))
      (should (equal (with-temp-buffer
                       (set-buffer-multibyte nil)
                       (insert-file-contents-literally latin)
                       (buffer-string))
                     octets)))
    (should (equal (smtpmail-native-module-tests--disk) '(:kind ok)))))

(ert-deftest smtpmail-native-module-tests-disk-fails ()
  "The first step that fails is the last one, and is told."
  (smtpmail-native-module-tests--with-folder
    (let* ((missing (concat folder "/missing"))
           (file (concat folder "/file"))
           (event (smtpmail-native-module-tests--disk
                   (list 'write file "x")
                   (list 'sync missing)
                   (list 'delete file))))
      (should (eq (plist-get event :kind) 'file))
      (should (eql (plist-get event :step) 1))
      (should (equal (plist-get event :errno) "ENOENT"))
      (should (equal (plist-get event :text)
                     (format "cannot sync %s: No such file or directory"
                             missing)))
      (should (file-exists-p file)))))

(ert-deftest smtpmail-native-module-tests-disk-usage ()
  "What is no list of steps is refused as a whole."
  (smtpmail-native-load)
  (smtpmail-native-module-tests--with-folder
    (let ((file (concat folder "/file")))
      (dolist (bad `(((sync "relative")) ((frobnicate ,file)) (,file)
                     ((write ,file)) ((write ,file 7)) ((sync nil))
                     ((rename ,file)) ((sync ,file . ,file))
                     ((sync ,file ,file)) ((sync ,(concat file "\0x")))
                     ((sync . ,file)) (nil) ,file ((delete ,file) . x)))
        (should-error (smtpmail-native-module-disk
                       (if (consp bad) (cons (list 'write file "x") bad) bad)))
        (let ((queue (list nil)))
          (should-not (smtpmail-native-module-events queue))
          (should-not (cdr queue)))
        (should-not (file-exists-p file)))
      (let ((circle (list (list 'write file "x"))))
        (setcdr circle circle)
        (should-error (smtpmail-native-module-disk circle)
                      :type 'smtpmail-native-usage-error)))))

(provide 'smtpmail-native-module-tests)
;;; smtpmail-native-module-tests.el ends here
