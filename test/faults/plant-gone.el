;;; plant-gone.el --- A fault that must be found  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What the disk does not tell of is taken for gone.  A message that could not be
;; withdrawn is then sent later, though its sender was told that it was not.

;;; Code:

(require 'smtpmail-native-outbox)

(defun smtpmail-native-outbox-gone-p (entry)
  "Return non-nil unless ENTRY is seen in the outbox."
  (not (file-exists-p (smtpmail-native-outbox-file entry))))

(provide 'plant-gone)
;;; plant-gone.el ends here
