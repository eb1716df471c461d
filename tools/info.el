;;; info.el --- Export the manual to Texinfo  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; emacs -Q --batch -l tools/info.el MANUAL.org OUTPUT.texi

;;; Code:

(require 'ox-texinfo)

(let ((manual (pop command-line-args-left))
      (output (expand-file-name (pop command-line-args-left)))
      (org-export-with-broken-links nil))
  (with-temp-buffer
    (insert-file-contents manual)
    (org-mode)
    (org-export-to-file 'texinfo output)))

;;; info.el ends here
