;;; plant-types.el --- A fault that must be found  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What was read from a file is not looked at.

;;; Code:

(require 'smtpmail-native-entry)

(defun smtpmail-native-entry-type-problem (&rest _)
  "Return nil, as if all were well."
  nil)

(provide 'plant-types)
;;; plant-types.el ends here
