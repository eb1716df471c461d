;;; package.el --- Files of an installed package  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; For "make dist" and "make install":
;;   emacs --batch -l tools/package.el -f FUNCTION ARGUMENT...

;;; Code:

(require 'package)
(require 'lisp-mnt)

(defun smtpmail-native-package-describe ()
  "Write the description of the package.
The arguments on the command line are its main file and the file to write."
  (let* ((main (pop command-line-args-left))
         (file (pop command-line-args-left))
         (desc (with-temp-buffer
                 (insert-file-contents main)
                 (package-buffer-info))))
    (package-generate-description-file desc file)))

(defun smtpmail-native-package-autoloads ()
  "Write the autoloads of the directory that the command line names.
`load-path' gets the directory when they are loaded."
  (let ((make-backup-files nil))
    (package-generate-autoloads 'smtpmail-native (pop command-line-args-left))))

;;; package.el ends here
