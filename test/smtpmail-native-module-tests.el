;;; smtpmail-native-module-tests.el --- Tests of what the module tells -*- lexical-binding: t -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:

;; The plists that go into the module and come out of it.

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'gnutls)
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
        (smtpmail-native-test-wait
         (lambda ()
           (catch 'done
             (dolist (event (smtpmail-native-module-events))
               (when (and (eq (car event) id) (eq (cadr event) 'done))
                 (throw 'done (cddr event)))))))
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

;; The disk

(defun smtpmail-native-module-tests--disk (&rest steps)
  "Have STEPS done and return the plist of the event that comes."
  (smtpmail-native-load)
  (let ((id (smtpmail-native-module-disk steps)))
    (should (integerp id))
    (smtpmail-native-test-wait
     (lambda ()
       (catch 'done
         (dolist (event (smtpmail-native-module-events))
           (when (eq (car event) id)
             (should (eq (cadr event) 'disk))
             (throw 'done (cddr event)))))))))

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
        (should-not (smtpmail-native-module-events))
        (should-not (file-exists-p file)))
      (let ((circle (list (list 'write file "x"))))
        (setcdr circle circle)
        (should-error (smtpmail-native-module-disk circle)
                      :type 'smtpmail-native-usage-error)))))

(provide 'smtpmail-native-module-tests)
;;; smtpmail-native-module-tests.el ends here
