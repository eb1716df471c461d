;;; lint-package.el --- Fail on any complaint of package-lint or relint  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; emacs --batch -L . -L lisp -l tools/lint-package.el MAIN-FILE FILE...

;;; Code:

(require 'package)
(package-activate-all)
(require 'package-lint)
(require 'relint)

(defconst lint-package-names
  '("smtpmail-auth-credentials" "smtpmail-starttls-credentials")
  "Names without the package's prefix that others have given us.")

(defun lint-package-expected-p (complaint)
  "Return non-nil if COMPLAINT, an element of `package-lint-buffer', is known."
  (let ((text (nth 3 complaint)))
    (or (and (string-match "\\`\"\\(.*\\)\" doesn't start with package's prefix"
                           text)
             (member (match-string 1 text) lint-package-names))
        ;; Old versions do not know of Emacs 28.
        (string-match-p "uninstallable in all released Emacs versions" text))))

(let* ((files command-line-args-left)
       (package-lint-main-file (expand-file-name (car files)))
       (failed nil))
  (setq command-line-args-left nil)
  (dolist (file files)
    (with-current-buffer (find-file-noselect file)
      (dolist (complaint (package-lint-buffer))
        (unless (lint-package-expected-p complaint)
          (setq failed t)
          (message "%s:%s: %s" file (nth 0 complaint) (nth 3 complaint))))
      (when (relint-buffer (current-buffer))
        (setq failed t)
        (message "%s: relint complains" file))))
  (kill-emacs (if failed 1 0)))

;;; lint-package.el ends here
