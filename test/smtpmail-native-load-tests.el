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

(provide 'smtpmail-native-load-tests)
;;; smtpmail-native-load-tests.el ends here
