;;; smtpmail-native-fifo.el --- First in, first out  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A list to which things are appended, and from whose front they are taken, at
;; a cost that does not depend on its length: ten thousand messages may wait.

;;; Code:

(defsubst smtpmail-native-fifo-make ()
  "Return a new list, in which there is nothing.
It is a cons of what comes first, in order, and of what comes then, reversed."
  (list nil))

(defsubst smtpmail-native-fifo-empty-p (fifo)
  "Return non-nil if there is nothing in FIFO."
  (not (or (car fifo) (cdr fifo))))

(defsubst smtpmail-native-fifo-put (fifo item)
  "Append ITEM to FIFO."
  (push item (cdr fifo)))

(defun smtpmail-native-fifo-take (fifo)
  "Remove the first item of FIFO and return it, or nil if there is none."
  (unless (car fifo)
    (setcar fifo (nreverse (cdr fifo)))
    (setcdr fifo nil))
  (pop (car fifo)))

(defsubst smtpmail-native-fifo-fill (fifo items)
  "Let FIFO hold the list ITEMS, which is its own from here on, and no others."
  (setcar fifo items)
  (setcdr fifo nil))

(defsubst smtpmail-native-fifo-clear (fifo)
  "Remove all items of FIFO."
  (smtpmail-native-fifo-fill fifo nil))

(provide 'smtpmail-native-fifo)
;;; smtpmail-native-fifo.el ends here
