;;; smtpmail-native-load-tests.el --- Finding and refusing modules  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'ert)
(require 'lisp-mnt)
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

(defmacro smtpmail-native-load-tests--with-package (module &rest body)
  "Run BODY with `folder' a copy of the Lisp side and MODULE, a form.
MODULE inserts what stands in the module's file, or returns nil for none."
  (declare (indent 1) (debug t))
  `(let ((folder (make-temp-file "smtpmail-native" t)))
     (unwind-protect
         (progn
           (make-directory (expand-file-name "lisp" folder))
           (dolist (name (cons "smtpmail-native.el"
                               (mapcar (lambda (file) (concat "lisp/" file))
                                       (directory-files
                                        (expand-file-name
                                         "lisp" smtpmail-native-load--directory)
                                        nil "\\.el\\'"))))
             (copy-file (expand-file-name name smtpmail-native-load--directory)
                        (expand-file-name name folder)))
           (with-temp-buffer
             (when ,module
               (write-region nil nil
                             (expand-file-name (smtpmail-native-load--file-name)
                                               folder)
                             nil 'silent)))
           ,@body)
       (delete-directory folder t))))

(ert-deftest smtpmail-native-load-tests-version ()
  "The versions of package, Lisp and module agree."
  (smtpmail-native-load)
  (should (eq (smtpmail-native-load) t))
  (should (equal (smtpmail-native-module-version) smtpmail-native-load-version))
  (with-temp-buffer
    (insert-file-contents (expand-file-name "smtpmail-native.el"
                                            smtpmail-native-load--directory))
    (should (equal (lm-header "version") smtpmail-native-load-version))))

(ert-deftest smtpmail-native-load-tests-twice ()
  "Loading the module a second time is harmless."
  (smtpmail-native-load)
  (module-load (smtpmail-native-load--find))
  (should (equal (smtpmail-native-module-version)
                 smtpmail-native-load-version)))

(ert-deftest smtpmail-native-load-tests-arguments-shown ()
  "Help shows the arguments of the primitives."
  (smtpmail-native-load)
  (dolist (case '((smtpmail-native-module-find-auth "(fn HOST PORT)")
                  (smtpmail-native-module-send "(fn PLIST)")))
    (should (string-suffix-p (cadr case) (documentation (car case))))))

(ert-deftest smtpmail-native-load-tests-missing ()
  "In batch a missing module is an error that says what to type."
  (smtpmail-native-load-tests--with-package nil
    (let ((ran (smtpmail-native-load-tests--emacs
                folder '(progn (princ (smtpmail-native-load-available-p))
                               (smtpmail-native-load)))))
      (should (> (car ran) 0))
      (should (string-match-p "\\`nil" (cdr ran)))
      (should (string-match-p "make -C" (cdr ran))))))

(ert-deftest smtpmail-native-load-tests-stale ()
  "A module of another version is refused without being mapped."
  (dolist (content '("smtpmail-native-module-version=0.0.1\0" "no mark"))
    (smtpmail-native-load-tests--with-package (progn (insert content) t)
      (let ((ran (smtpmail-native-load-tests--emacs folder
                                                    '(smtpmail-native-load))))
        (should (> (car ran) 0))
        (should (string-match-p "rebuild it" (cdr ran)))
        (should (string-match-p "restart Emacs" (cdr ran)))))))

(provide 'smtpmail-native-load-tests)
;;; smtpmail-native-load-tests.el ends here
