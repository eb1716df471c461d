;;; smtpmail-native-build-tests.el --- What the build does for whom  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The commands that make would run are read, not run: `make -n'.

;;; Code:

(require 'ert)
(require 'subr-x)
(require 'smtpmail-native-test-helper)

(defvar smtpmail-native-build-tests--root
  (locate-dominating-file (locate-library "smtpmail-native-test-helper")
                          "Makefile")
  "The directory of the sources.")

(defvar smtpmail-native-build-tests--configure
  (expand-file-name "tools/configure" smtpmail-native-build-tests--root)
  "The program that looks for what the build needs.")

(defun smtpmail-native-build-tests--run (environment program &rest args)
  "Run PROGRAM with ARGS in the sources and with ENVIRONMENT.
Return a list of its exit status and its output."
  (with-temp-buffer
    (let ((process-environment
           (append environment
                   '("CC=cc" "CI" "DEVELOPER" "V" "MAKEFLAGS" "MAKELEVEL"
                     "MAKEOVERRIDES" "MFLAGS" "WERROR" "INSTALL=no")
                   process-environment))
          (default-directory smtpmail-native-build-tests--root))
      (list (apply #'call-process program nil t nil args) (buffer-string)))))

(defmacro smtpmail-native-build-tests--with-directory (&rest body)
  "Run BODY with a temporary directory in the variable `build'."
  (declare (indent 0) (debug t))
  `(let ((build (make-temp-file "smtpmail-native-build" t)))
     (unwind-protect (progn ,@body)
       (delete-directory build t))))

(defun smtpmail-native-build-tests--make (build environment &rest args)
  "Return what make would do in BUILD with ENVIRONMENT and ARGS."
  (let ((result (apply #'smtpmail-native-build-tests--run environment
                       "make" "-n" (concat "BUILD=" build) args)))
    (should (equal (car result) 0))
    (cadr result)))

(ert-deftest smtpmail-native-build-tests-compiler ()
  "CC may have words, and is looked for by the first of them."
  (smtpmail-native-build-tests--with-directory
    (let ((output (expand-file-name "config.mk" build)))
      (dolist (case '(("cc" . 0) ("env cc" . 0) ("cc -O0 -g" . 0)
                      ("no-such-compiler -O0" . 1) ("no-such-compiler" . 1)))
        (pcase-let ((`(,status ,text)
                     (smtpmail-native-build-tests--run
                      (list (concat "CC=" (car case)))
                      smtpmail-native-build-tests--configure output)))
          (should (equal (list (car case) status) (list (car case) (cdr case))))
          (unless (zerop status)
            (should (string-match-p "^Missing: compiler$" text))))))))

(ert-deftest smtpmail-native-build-tests-system-headers ()
  "The directory of the system's headers stays where the compiler has it."
  (smtpmail-native-build-tests--with-directory
    (let ((output (expand-file-name "config.mk" build)))
      (smtpmail-native-build-tests--run
       nil smtpmail-native-build-tests--configure output)
      (with-temp-buffer
        (insert-file-contents output)
        (should (re-search-forward "^MODULE_CFLAGS = " nil t))
        (should-not (re-search-forward "-I/usr/include\\( \\|$\\)" nil t))))))

(ert-deftest smtpmail-native-build-tests-warnings ()
  "Warnings are errors for developers, not for a user who builds."
  (smtpmail-native-build-tests--with-directory
    (let ((object (concat build "/plain/base/buf.o"))
          (compile (concat build "/lisp.stamp")))
      (pcase-dolist (`(,errors . ,environment)
                     '((nil) (t "CI=true") (t "DEVELOPER=1")))
        (let ((text (smtpmail-native-build-tests--make
                     build environment object compile)))
          (should (string-match-p "-Wall" text))
          (should (eq errors (and (string-match-p " -Werror" text) t)))
          (should (eq errors
                      (and (string-match-p "error-on-warn" text) t))))))))

(ert-deftest smtpmail-native-build-tests-output ()
  "A step is one line, and with V=1 its command."
  (smtpmail-native-build-tests--with-directory
    (let* ((object (concat build "/plain/base/buf.o"))
           (run (lambda (&rest args)
                  (let ((result (apply #'smtpmail-native-build-tests--run nil
                                       "make" (concat "BUILD=" build)
                                       "CFLAGS=-O0" "-B" object args)))
                    (should (equal (car result) 0))
                    (cadr result)))))
      (should (equal (funcall run) "CC module/base/buf.c\n"))
      (should (equal (funcall run "-s") ""))
      (should (string-match-p "\\`cc .*-c -o .*\n\\'" (funcall run "V=1"))))))

(ert-deftest smtpmail-native-build-tests-parallel ()
  "The tests run side by side, unless the user has said how many at a time."
  (smtpmail-native-build-tests--with-directory
    (should (string-match-p "make.* -j[0-9]+ .*check-parts"
                            (smtpmail-native-build-tests--make
                             build nil "check")))
    (should-not (string-match-p "make.* -j[0-9]+ .*check-parts"
                                (smtpmail-native-build-tests--make
                                 build nil "-j1" "check")))))

(provide 'smtpmail-native-build-tests)
;;; smtpmail-native-build-tests.el ends here
