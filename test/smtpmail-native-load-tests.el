;;; smtpmail-native-load-tests.el --- Finding and refusing modules  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'ert)
(require 'smtpmail-native)
(require 'smtpmail-native-load)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-load-tests--emacs (folder form)
  "Evaluate FORM in a batch Emacs whose package is in FOLDER.
Return (STATUS . OUTPUT)."
  (smtpmail-native-test-emacs
   folder "-l" "smtpmail-native" "--eval"
   (prin1-to-string `(condition-case err
                         ,form
                       (smtpmail-native-error
                        (princ (cadr err))
                        (kill-emacs 3))))))

(defun smtpmail-native-load-tests--copy (folder names)
  "Copy the files NAMES, relative to the package, to FOLDER."
  (dolist (name names)
    (let ((to (expand-file-name name folder)))
      (make-directory (file-name-directory to) t)
      (copy-file (expand-file-name name smtpmail-native-test-folder) to))))

(defun smtpmail-native-load-tests--names (pattern)
  "Return the files of the package that match PATTERN, a wildcard."
  (let ((default-directory smtpmail-native-test-folder))
    (file-expand-wildcards pattern)))

(defmacro smtpmail-native-load-tests--with-package (sources module &rest body)
  "Run BODY with `folder' a copy of the Lisp side, and with MODULE.
If SOURCES is non-nil, the sources of the module are copied, too.
MODULE is the content of the module's file, or nil for none."
  (declare (indent 2) (debug t))
  `(let ((folder (make-temp-file "smtpmail-native" t)))
     (unwind-protect
         (progn
           (smtpmail-native-load-tests--copy
            folder (cons "smtpmail-native.el"
                         (smtpmail-native-load-tests--names "lisp/*.el")))
           (when ,sources
             (smtpmail-native-load-tests--copy
              folder (cons "Makefile" (smtpmail-native-load-tests--names
                                       "module/*/*.[ch]"))))
           (let ((content ,module))
             (when content
               (write-region content nil
                             (expand-file-name (smtpmail-native-load--file-name)
                                               folder)
                             nil 'silent)))
           ,@body)
       (delete-directory folder t))))

(ert-deftest smtpmail-native-load-tests-build-fails ()
  "A build that fails is told as one, also where an older module is loaded."
  (let ((told nil)
        (built 'not-yet))
    (cl-letf (((symbol-function 'message)
               (lambda (format &rest args)
                 (setq told (apply #'format format args)))))
      (let ((smtpmail-native-load-built-functions
             (list (lambda (file) (setq built file)))))
        (with-temp-buffer
          (smtpmail-native-load--built (current-buffer) nil)
          (should (string-prefix-p "Cannot build smtpmail-native" told))
          (should (null built))
          (smtpmail-native-load--built (current-buffer) t)
          (should (string-match-p "done; restart Emacs" told))
          (should built))))))

(ert-deftest smtpmail-native-load-tests-abi ()
  "The module that was built here is that of the sources here."
  (smtpmail-native-load)
  (should (eq (smtpmail-native-load) t))
  (should (string-match-p "\\`[0-9a-f]\\{32\\}\\'" smtpmail-native-load--abi))
  (should (equal (smtpmail-native-module-abi) smtpmail-native-load--abi))
  (should (equal (smtpmail-native-load-hash smtpmail-native-test-folder)
                 smtpmail-native-load--abi))
  (should (equal (smtpmail-native-load-state) '(loaded))))

(ert-deftest smtpmail-native-load-tests-twice ()
  "Loading the module a second time is harmless."
  (smtpmail-native-load)
  (module-load (car (smtpmail-native-load--files)))
  (should (equal (smtpmail-native-module-abi) smtpmail-native-load--abi)))

(ert-deftest smtpmail-native-load-tests-arguments-shown ()
  "Help shows the arguments of the primitives."
  (smtpmail-native-load)
  (dolist (case '((smtpmail-native-module-find-auth "(fn HOST PORT)")
                  (smtpmail-native-module-send "(fn PLIST)")))
    (should (string-suffix-p (cadr case) (documentation (car case))))))

(ert-deftest smtpmail-native-load-tests-missing ()
  "In batch a missing module is an error that says what to type."
  (dolist (case '((t "type: make -C") (nil "must come from the distribution")))
    (smtpmail-native-load-tests--with-package (car case) nil
      (let ((ran (smtpmail-native-load-tests--emacs
                  folder '(progn (princ (smtpmail-native-load-available-p))
                                 (smtpmail-native-load)))))
        (should (> (car ran) 0))
        (should (string-match-p "\\`nil" (cdr ran)))
        (should (string-match-p "is not built" (cdr ran)))
        (should (string-match-p (cadr case) (cdr ran)))))))

(ert-deftest smtpmail-native-load-tests-stale ()
  "A module of other sources is refused without being loaded.
So is one whose sources have changed by a single octet since it was built."
  (dolist (content (list "smtpmail-native-module-version=0.2.0\0"
                         "smtpmail-native-module-abi=0123\0"
                         "no mark"
                         (format "smtpmail-native-module-abi=%s\0"
                                 smtpmail-native-load--abi)))
    (smtpmail-native-load-tests--with-package t content
      (write-region " " nil (expand-file-name "module/base/buf.h" folder) t
                    'silent)
      (let ((ran (smtpmail-native-load-tests--emacs folder
                                                    '(smtpmail-native-load))))
        (should (> (car ran) 0))
        (should (string-match-p "built from other sources" (cdr ran)))
        (should (string-match-p "type: make -C" (cdr ran)))))))

(ert-deftest smtpmail-native-load-tests-installed ()
  "Without sources, a file beside the Lisp has the hash of the module."
  (dolist (case '(("0123" ready) ("4567" stale) (nil ready)))
    (smtpmail-native-load-tests--with-package nil
        "smtpmail-native-module-abi=0123\0"
      (when (car case)
        (write-region (car case) nil
                      (expand-file-name "lisp/smtpmail-native-abi" folder)
                      nil 'silent))
      (should (equal (smtpmail-native-load-tests--emacs
                      folder '(progn
                                (require 'smtpmail-native-load)
                                (princ (car (smtpmail-native-load-state)))))
                     (cons 0 (symbol-name (cadr case))))))))

(ert-deftest smtpmail-native-load-tests-updated ()
  "After an update under a running Emacs, only a restart helps."
  (smtpmail-native-load-tests--with-package t
      (format "smtpmail-native-module-abi=%s\0" smtpmail-native-load--abi)
    (dolist (case '(("0123" restart) (nil ready)))
      (should (equal (smtpmail-native-load-tests--emacs
                      folder `(progn
                                (require 'smtpmail-native-load)
                                (setq smtpmail-native-load--abi
                                      (or ,(car case)
                                          smtpmail-native-load--abi))
                                (princ (car (smtpmail-native-load-state)))))
                     (cons 0 (symbol-name (cadr case))))))))

(ert-deftest smtpmail-native-load-tests-root ()
  "The sources are found from a flat folder of links, as straight makes one."
  (smtpmail-native-load-tests--with-package t nil
    (let ((flat (expand-file-name "flat" folder)))
      (make-directory flat)
      (dolist (file (append (directory-files (expand-file-name "lisp" folder)
                                             t "\\.el\\'")
                            (list (expand-file-name "smtpmail-native.el"
                                                    folder))))
        (make-symbolic-link file (expand-file-name
                                  (file-name-nondirectory file) flat)))
      (let ((ran (smtpmail-native-load-tests--emacs
                  flat '(progn (require 'smtpmail-native-load)
                               (princ (smtpmail-native-load--root))))))
        (should (equal (car ran) 0))
        (should (file-equal-p (cdr ran) folder))))))

(ert-deftest smtpmail-native-load-tests-build ()
  "Emacs builds the module in a buffer, says so, and then can load it."
  (skip-unless (executable-find "make"))
  (smtpmail-native-load-tests--with-package t nil
    (smtpmail-native-load-tests--copy folder '("tools/configure"))
    (let ((ran (smtpmail-native-load-tests--emacs
                folder
                '(let ((built 'not-yet))
                   (require 'smtpmail-native-load)
                   (add-hook 'smtpmail-native-load-built-functions
                             (lambda (file) (setq built file)))
                   (let* ((buffer (smtpmail-native-build-module))
                          (process (get-buffer-process buffer)))
                     (while (eq built 'not-yet)
                       (accept-process-output process 1)))
                   (princ (format "%s %s" (stringp built)
                                  (smtpmail-native-load)))))))
      (should (equal (car ran) 0))
      (should (string-suffix-p "t t" (cdr ran))))))

;;;; Messages meanwhile

(defconst smtpmail-native-load-tests--send
  '(let ((noninteractive nil)
         (smtpmail-smtp-server "127.0.0.1")
         (smtpmail-smtp-service "submission")
         (user-mail-address "alice@example.org")
         (told nil))
     (cl-letf (((symbol-function 'y-or-n-p)
                (lambda (prompt)
                  (push prompt told)
                  (signal 'quit nil)))
               ((symbol-function 'smtpmail-native-tell-say)
                (lambda (format &rest args)
                  (push (apply #'format format args) told))))
       (with-temp-buffer
         (insert "From: alice@example.org\nTo: bob@example.org\n"
                 "Subject: Later\n" mail-header-separator "\nHello\n")
         (funcall send))
       (while (null (cdr told))
         (accept-process-output nil 0.05)))
     (princ (format "\n%S" (reverse told))))
  "Form that sends a message by the function `send', as a user would.
It prints what the user was asked and told; the answer is \\[keyboard-quit].")

(defun smtpmail-native-load-tests--sent (folder send &rest more)
  "Let an Emacs in FOLDER send a message by the form SEND; evaluate MORE then.
Return what it prints."
  (cdr (smtpmail-native-load-tests--emacs
        folder
        `(progn
           (require 'smtpmail-native-mode)
           (require 'cl-lib)
           (setq mail-header-separator "--text follows this line--"
                 smtpmail-native-outbox-directory
                 ,(expand-file-name "outbox/" folder))
           (defvar send)
           (let ((send ,send))
             ,smtpmail-native-load-tests--send)
           ,@more))))

(ert-deftest smtpmail-native-load-tests-message-waits ()
  "Without a module that fits, a message enters the outbox by Lisp alone.
The user is told what it waits for.  A later Emacs reads it as any other
entry: the version of Lisp that wrote it is of no account."
  (dolist (content '(nil "smtpmail-native-module-abi=0123\0"))
    (smtpmail-native-load-tests--with-package t content
      (let* ((outbox (expand-file-name "outbox/" folder))
             (shown (smtpmail-native-load-tests--sent
                     folder ''smtpmail-native-send-it
                     '(princ (featurep 'smtpmail-native-module))))
             (smtpmail-native-outbox-directory outbox))
        (should (string-match-p (if content "is outdated" "is not built") shown))
        (should (string-match-p
                 "In the outbox: message to bob@example.org, until the module"
                 shown))
        (should (string-suffix-p "nil" shown))
        (let ((entry (car (smtpmail-native-outbox-list))))
          (should (null (smtpmail-native-entry-problem entry)))
          (should (equal (plist-get (smtpmail-native-entry-state entry) :status)
                         'ready))
          (should (equal (plist-get (smtpmail-native-entry-envelope entry) :port)
                         587))
          (should (string-suffix-p
                   "\n\nHello\n"
                   (with-temp-buffer
                     (set-buffer-multibyte nil)
                     (smtpmail-native-outbox-insert-message entry)
                     (buffer-string))))
          (should (= (file-modes (smtpmail-native-outbox-file entry)) #o700))
          (should (smtpmail-native-outbox-claim entry))
          (smtpmail-native-outbox-release entry))))))

(ert-deftest smtpmail-native-load-tests-mode-waits ()
  "With the mode on, stock smtpmail does not stand in for an old module."
  (smtpmail-native-load-tests--with-package t
      "smtpmail-native-module-abi=0123\0"
    (should (string-match-p
             "In the outbox: message to bob@example.org, until the module"
             (smtpmail-native-load-tests--sent
              folder '(progn (smtpmail-native-mode 1) 'smtpmail-send-it))))))

(ert-deftest smtpmail-native-load-tests-batch-refuses ()
  "A script is told at once that there is no module, and keeps its message."
  (smtpmail-native-load-tests--with-package t nil
    (let ((ran (smtpmail-native-load-tests--emacs
                folder
                `(progn
                   (setq mail-header-separator "--"
                         smtpmail-smtp-server "127.0.0.1"
                         smtpmail-native-outbox-directory
                         ,(expand-file-name "outbox/" folder))
                   (with-temp-buffer
                     (insert "From: alice@example.org\nTo: bob@example.org\n"
                             "--\nHello\n")
                     (smtpmail-native-send-it))))))
      (should (equal (car ran) 3))
      (should (string-match-p "is not built" (cdr ran)))
      (should-not (file-exists-p (expand-file-name "outbox" folder))))))

(ert-deftest smtpmail-native-load-tests-updated-below ()
  "New Lisp asks nothing of the old module that its Emacs has loaded."
  (smtpmail-native-test-with-outbox
    (cl-letf (((symbol-value 'smtpmail-native-load--abi) "0123")
              ((symbol-function 'smtpmail-native-module-claim)
               (lambda (&rest _) (error "The old module was asked")))
              ((symbol-function 'smtpmail-native-module-entry)
               (lambda (&rest _) (error "The old module was asked")))
              ((symbol-function 'smtpmail-native-module-disk)
               (lambda (&rest _) (error "The old module was asked"))))
      (should-error (smtpmail-native-load) :type 'smtpmail-native-module-error)
      (let ((entry (smtpmail-native-test-commit)))
        (should (null (smtpmail-native-entry-claim entry)))
        (should (eq t (smtpmail-native-outbox-make-durable entry nil)))
        (should (equal (smtpmail-native-outbox-ids)
                       (list (smtpmail-native-entry-id entry))))
        (should (null (smtpmail-native-entry-problem
                       (car (smtpmail-native-outbox-list)))))))))

(ert-deftest smtpmail-native-load-tests-built-sends ()
  "What waited for the module is sent when Emacs has built it."
  (smtpmail-native-test-with-server smtpmail-native-test-one
    (smtpmail-native-test-in-background
      (let ((smtpmail-native-load-built-functions nil)
            (smtpmail-native-schedule--started nil))
        (cl-letf (((symbol-function 'smtpmail-native-load-try)
                   (lambda () '(missing)))
                  ((symbol-function 'smtpmail-native-load-offer-build)
                   #'ignore))
          (smtpmail-native-test-send-message))
        (should (= 1 (length (smtpmail-native-outbox-ids))))
        (run-hook-with-args 'smtpmail-native-load-built-functions t)
        (smtpmail-native-test-drained)))
    (smtpmail-native-test-verdict server)))

(provide 'smtpmail-native-load-tests)
;;; smtpmail-native-load-tests.el ends here
