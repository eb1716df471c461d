;;; smtpmail-native-install-tests.el --- Each way to install the package  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each test starts from an empty home, installs a copy of the tree in one of
;; the ways that people use, and sends a message from a fresh Emacs whose init
;; file has a single line.

;;; Code:

(require 'ert)
(require 'cl-lib)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-install-tests--run (home program &rest args)
  "Run PROGRAM with ARGS in HOME; return its output, or fail the test."
  (with-temp-buffer
    (let* ((process-environment
            (append (list (concat "HOME=" home) "CFLAGS=-O0" "XDG_CONFIG_HOME" "MAKEFLAGS"
                          "MAKELEVEL" "XDG_DATA_HOME" "XDG_CACHE_HOME"
                          "GIT_DIR" "EMACSLOADPATH" "INSTALL=no")
                    process-environment))
           (default-directory (file-name-as-directory home))
           (status (apply #'call-process program nil t nil args)))
      (unless (equal status 0)
        (ert-fail (list program args status (buffer-string))))
      (buffer-string))))

(defun smtpmail-native-install-tests--emacs (home &rest args)
  "Run a batch Emacs with ARGS and the packages in HOME; return its output."
  (apply #'smtpmail-native-install-tests--run home
         (expand-file-name invocation-name invocation-directory)
         "--batch" "--eval"
         (prin1-to-string
          `(setq user-emacs-directory ,(expand-file-name ".emacs.d/" home)
                 package-user-dir ,(expand-file-name ".emacs.d/elpa" home)
                 package-archives nil
                 make-backup-files nil))
         args))

(defun smtpmail-native-install-tests--copy (to)
  "Copy the files of the tree to the directory TO."
  (let ((default-directory smtpmail-native-test-folder))
    (dolist (file (append (mapcan #'file-expand-wildcards
                                  (list "lisp/*.el" "module/*/*.[ch]"
                                        "bin/*" "tools/*" "*.org"
                                        "test/*.el" "doc/*"))
                          '("smtpmail-native.el" "Makefile" "COPYING"
                            ".elpaignore")))
      (let ((target (expand-file-name file to)))
        (make-directory (file-name-directory target) t)
        (copy-file file target)))))

(defmacro smtpmail-native-install-tests--with-home (&rest body)
  "Run BODY with `home' an empty home and `tree' a copy of the tree."
  (declare (indent 0) (debug t))
  `(let* ((home (file-name-as-directory (make-temp-file "home" t)))
          (tree (expand-file-name "src/smtpmail-native/" home)))
     (unwind-protect
         (progn
           (smtpmail-native-install-tests--copy tree)
           ,@body)
       (delete-directory home t))))

(defconst smtpmail-native-install-tests--script
  (smtpmail-native-test-script
   "C: EHLO *" "S: 250 peer.example" "C: MAIL FROM:<alice@example.org>"
   "S: 250 ok" "C: RCPT TO:<bob@example.org>" "S: 250 ok" "C: DATA"
   "S: 354 go" "data" "S: 250 ok" "C: QUIT" "S: 221 bye")
  "A server that takes one message.")

(defun smtpmail-native-install-tests--sends (home init)
  "Build the module in HOME and send a message in an Emacs that evaluates INIT.
INIT is what the user's init file holds for this package, a form.
Building is done by a command, in another Emacs, as the user would do it
after the first message."
  (let ((start (list "--eval" "(package-activate-all)"
                     "--eval" (prin1-to-string init))))
    (apply #'smtpmail-native-install-tests--emacs home
           (append
            start
            (list "--eval"
                  (prin1-to-string
                   '(progn
                      (require 'smtpmail-native)
                      (unless (smtpmail-native-load-available-p)
                        (let* ((built nil)
                               (buffer (progn
                                         (add-hook
                                          'smtpmail-native-load-built-functions
                                          (lambda (file) (setq built (list file))))
                                         (smtpmail-native-build-module)))
                               (process (get-buffer-process buffer)))
                          (while (not built)
                            (accept-process-output process 1))
                          (unless (car built)
                            (princ (with-current-buffer buffer (buffer-string)))
                            (kill-emacs 1)))))))))
    (smtpmail-native-test-with-server smtpmail-native-install-tests--script
      (apply #'smtpmail-native-install-tests--emacs home
             (append
              start
              (list "--eval"
                    (prin1-to-string
                     `(progn
                        (setq smtpmail-smtp-server "localhost"
                              smtpmail-smtp-service ,port
                              auth-sources nil
                              user-mail-address "alice@example.org")
                        (with-temp-buffer
                          (insert "To: bob@example.org\nSubject: x\n"
                                  mail-header-separator "\nHello\n")
                          (smtpmail-native-send-it)))))))
      (smtpmail-native-test-verdict server))))

(defun smtpmail-native-install-tests--compiled (directory)
  "Check that the package's files below DIRECTORY are compiled, and no others."
  (dolist (file (directory-files-recursively directory "\\.el\\'"))
    (let ((name (file-relative-name file directory)))
      (unless (string-match-p "-\\(pkg\\|autoloads\\)\\.el\\'" name)
        (should (equal (list name (file-exists-p (concat file "c")))
                       (list name (not (string-match-p "\\`\\(test\\|tools\\)/"
                                                       name)))))))))

(defun smtpmail-native-install-tests--elpa (home)
  "Return the directory of the package below HOME."
  (car (directory-files (expand-file-name ".emacs.d/elpa" home) t
                        "\\`smtpmail-native")))

(ert-deftest smtpmail-native-install-tests-checkout ()
  "A checkout on `load-path' works."
  (smtpmail-native-install-tests--with-home
    (smtpmail-native-install-tests--sends
     home `(progn (add-to-list 'load-path ,tree)
                  (require 'smtpmail-native)))))

(ert-deftest smtpmail-native-install-tests-links ()
  "A flat folder of links to the Lisp files works, as straight makes it."
  (smtpmail-native-install-tests--with-home
    (let ((flat (expand-file-name "flat/" home))
          (default-directory tree))
      (make-directory flat)
      (dolist (file (cons "smtpmail-native.el"
                          (file-expand-wildcards "lisp/*.el")))
        (make-symbolic-link (expand-file-name file)
                            (expand-file-name (file-name-nondirectory file)
                                              flat)))
      (smtpmail-native-install-tests--sends
       home `(progn (add-to-list 'load-path ,flat)
                    (require 'smtpmail-native))))))

(ert-deftest smtpmail-native-install-tests-package-file ()
  "`package-install-file' of the directory and of the tar works.
So it does when it is called from an init file that is being loaded, and
the mode's autoload is all that the user needs."
  (dolist (source '(tar directory))
    (dolist (init '(nil t))
      (smtpmail-native-install-tests--with-home
        (smtpmail-native-install-tests--run home "make" "-C" tree "-s" "dist")
        (let* ((tar (car (file-expand-wildcards
                          (expand-file-name "build/*.tar" tree))))
               (what (if (eq source 'tar) tar tree))
               (form `(progn (require 'package) (package-initialize)
                             (package-install-file ,what)))
               (file (expand-file-name "init.el" home)))
          (write-region (prin1-to-string form) nil file nil 'silent)
          (if init
              (smtpmail-native-install-tests--emacs home "-l" file)
            (smtpmail-native-install-tests--emacs
             home "--eval" (prin1-to-string form)))
          (delete-directory (expand-file-name "src" home) t)
          (smtpmail-native-install-tests--compiled
           (smtpmail-native-install-tests--elpa home))
          (smtpmail-native-install-tests--sends
           home '(smtpmail-native-mode 1)))))))

(defun smtpmail-native-install-tests--vc (forms)
  "Install from a git repository by each of FORMS, and send.
Each is a function of the repository that returns (INIT . FORM): FORM
installs, and INIT non-nil means that it does so in an init file."
  (dolist (make forms)
    (smtpmail-native-install-tests--with-home
      (dolist (args '(("init" "-q") ("add" "-A")
                      ("-c" "user.name=x" "-c" "user.email=x@example.org"
                       "commit" "-qm" "x")))
        (apply #'smtpmail-native-install-tests--run home "git" "-C" tree args))
      (pcase-let ((`(,init . ,form) (funcall make tree))
                  (file (expand-file-name "init.el" home)))
        (write-region (prin1-to-string
                       `(progn (require 'package) (package-initialize) ,form))
                      nil file nil 'silent)
        (apply #'smtpmail-native-install-tests--emacs home
               (if init
                   (list "-l" file)
                 (list "--eval" (with-temp-buffer
                                  (insert-file-contents file)
                                  (buffer-string)))))
        (smtpmail-native-install-tests--compiled
         (smtpmail-native-install-tests--elpa home))
        (smtpmail-native-install-tests--sends
         home '(smtpmail-native-mode 1))))))

(ert-deftest smtpmail-native-install-tests-package-vc ()
  "`package-vc-install' works, by the user and from an init file.
So it does where lisp/ is taken for the package, as Emacs 31 does."
  (skip-unless (and (fboundp 'package-vc-install) (executable-find "git")))
  (smtpmail-native-install-tests--vc
   (cl-loop
    for (init . more) in '((nil) (t) (t :lisp-dir "lisp"))
    collect (let ((init init) (more more))
              (lambda (tree)
                (cons init
                      `(package-vc-install
                        '(smtpmail-native :url ,tree :vc-backend Git
                                          ,@more))))))))

(ert-deftest smtpmail-native-install-tests-use-package ()
  "`use-package' with :vc works."
  (skip-unless (and (fboundp 'package-vc-install) (executable-find "git")))
  (smtpmail-native-install-tests--vc
   (list (lambda (tree)
           (cons t `(use-package smtpmail-native
                      :vc (:url ,tree :vc-backend Git)))))))

(ert-deftest smtpmail-native-install-tests-system ()
  "`make install' makes a read-only installation that needs no sources."
  (smtpmail-native-install-tests--with-home
    (let ((root (expand-file-name "root" home)))
      (smtpmail-native-install-tests--run
       home "make" "-C" tree "-s" "install" (concat "PREFIX=" root "/usr")
       (concat "MODULEDIR=" root "/usr/lib/smtpmail-native"))
      ;; The reader of Info lists it.
      (when (executable-find "makeinfo")
        (should (string-match-p
                 "(smtpmail-native)"
                 (smtpmail-native-test-text
                  (expand-file-name "usr/share/info/dir" root)))))
      (delete-directory (expand-file-name "src" home) t)
      (smtpmail-native-install-tests--run home "chmod" "-R" "a-w" root)
      (smtpmail-native-install-tests--sends
       home `(progn (load ,(expand-file-name "usr/share/emacs/site-lisp/\
smtpmail-native/smtpmail-native-autoloads" root) nil t)
                    (smtpmail-native-mode 1)))
      (should (string-match-p
               "^Usage: "
               (smtpmail-native-install-tests--run
                home (expand-file-name "usr/bin/smtpmail-native" root)
                "--help")))
      (smtpmail-native-install-tests--run home "chmod" "-R" "u+w" root))))

(provide 'smtpmail-native-install-tests)
;;; smtpmail-native-install-tests.el ends here
