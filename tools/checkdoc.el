;;; checkdoc.el --- fail on any complaint of checkdoc  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; emacs --batch -l tools/checkdoc.el FILE...

;;; Code:

(require 'checkdoc)

(let ((failed nil)
      (checkdoc-create-error-function
       (lambda (text start _end &optional _unfixable)
         (message "%s:%s: %s" (file-name-nondirectory buffer-file-name)
                  (line-number-at-pos start) text)
         (setq failed t)
         nil)))
  (dolist (file command-line-args-left)
    (with-current-buffer (find-file-noselect file)
      (let ((checkdoc-spellcheck-documentation-flag nil)
            ;; It takes every verb, also of a subordinate clause, for the first.
            (checkdoc-verb-check-experimental-flag nil)
            (sentence-end-double-space t))
        (checkdoc-current-buffer t))))
  (setq command-line-args-left nil)
  (kill-emacs (if failed 1 0)))

;;; checkdoc.el ends here
