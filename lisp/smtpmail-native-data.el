;;; smtpmail-native-data.el --- Lisp data in files that are not trusted  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The files of the outbox hold one Lisp object each.  Another program may have
;; written them, and so what the reader is given is checked first: nothing but
;; lists, strings, numbers and plain symbols, in bounded depth and length.  No
;; character of a file can then run, load or loop anything.

;;; Code:

(defconst smtpmail-native-data-max (* 16 1024 1024)
  "Bytes that a file of Lisp data may have; thousands of recipients need some.")

(defconst smtpmail-native-data--depth 12
  "How deep lists may be in each other.")

(defconst smtpmail-native-data--parts 400000
  "How many parts an object may have: atoms, quotes and ends of lists.
What became of twenty thousand recipients has fewer.  Millions of them would
keep Emacs busy for many seconds each time that the outbox is looked at.")

(defconst smtpmail-native-data--atom 100
  "How many characters a number or symbol may have.")

;;;; Files

(defconst smtpmail-native-data-missing "it is missing"
  "What is wrong with a file that is not there.")

(defun smtpmail-native-data-file-problem (file &optional directory)
  "Return what is wrong with FILE for us, a text, or nil.
It must be a regular file, or with DIRECTORY non-nil a directory; not a
link; ours, and not writable by others.  A FILE that is not there is a
problem, too: `smtpmail-native-data-missing' itself."
  (let* ((attributes (file-attributes file 'integer))
         (modes (and attributes (file-attribute-modes attributes))))
    (cond
     ((null attributes) smtpmail-native-data-missing)
     ((/= (aref modes 0) (if directory ?d ?-))
      (if directory "it is not a directory" "it is not a regular file"))
     ((/= (file-attribute-user-id attributes) (user-uid))
      "it belongs to another user")
     ((or (eq (aref modes 5) ?w) (eq (aref modes 8) ?w))
      (format "other users may write to it (%s)" modes)))))

(defun smtpmail-native-data-insert (file coding max)
  "Insert FILE, decoded by CODING, if it has at most MAX bytes.
MAX nil means any number.  Signal an error for what is no file of ours, or
longer.  A missing FILE signals `file-missing'."
  (let ((problem (smtpmail-native-data-file-problem file))
        (coding-system-for-read coding)
        (after-insert-file-functions nil)
        (format-alist nil))
    (when (eq problem smtpmail-native-data-missing)
      (signal 'file-missing
              (list "Opening input file" "No such file or directory" file)))
    ;; A FIFO would be waited for by opening it.
    (when problem
      (error "%s" problem))
    (when (and max (> (file-attribute-size (file-attributes file)) max))
      (error "It is too long"))
    ;; It may grow until it is open.
    (insert-file-contents file nil 0 max)))

;;;; Reading

(defun smtpmail-native-data--skip-string ()
  "Move over the string after point, whose first quote was passed.
Signal an error for a name of a character: the reader loads a file for it."
  (while (progn
           (skip-chars-forward "^\"\\\\")
           (eq (char-after) ?\\))
    (forward-char)
    (when (or (eobp) (eq (char-after) ?N))
      (error "A string in it cannot be read"))
    (forward-char))
  (when (eobp)
    (error "It is cut off"))
  (forward-char))

(defun smtpmail-native-data--skip-atom ()
  "Move over the number or symbol after point."
  (let ((start (point)))
    (skip-chars-forward "-+*/_~!@$%^&=:<>{}.0-9A-Za-z")
    (when (or (= (point) start)
              (> (- (point) start) smtpmail-native-data--atom))
      (error "It is no plain data"))))

(defun smtpmail-native-data--skip ()
  "Move over the object after point; signal an error if it is no plain data."
  (let ((depth 0)
        (parts 0)
        (quoted nil))
    (while (progn
             (when (> (setq parts (1+ parts)) smtpmail-native-data--parts)
               (error "It has too many parts"))
             (skip-chars-forward " \t\n\r\f")
             (pcase (char-after)
               ('nil (error (if (and (= depth 0) (bobp))
                                "It is empty"
                              "It is cut off")))
               (?\( (when (> (setq depth (1+ depth))
                             smtpmail-native-data--depth)
                      (error "Its lists are too deep"))
                    (forward-char))
               (?\) (when (or quoted (< (setq depth (1- depth)) 0))
                      (error "It is no plain data"))
                    (forward-char))
               (?\" (forward-char)
                    (smtpmail-native-data--skip-string))
               (?\' (when quoted
                      (error "It is no plain data"))
                    (forward-char))
               (_ (smtpmail-native-data--skip-atom)))
             (setq quoted (eq (char-before) ?\'))
             (or quoted (> depth 0))))))

(defun smtpmail-native-data-read-buffer ()
  "Return the Lisp object at the start of the current buffer.
What follows it is ignored.  Signal an error if it is no plain data."
  (goto-char (point-min))
  (smtpmail-native-data--skip)
  (save-restriction
    (narrow-to-region (point-min) (point))
    (goto-char (point-min))
    (let ((read-circle nil))
      (read (current-buffer)))))

(defvar smtpmail-native-data--buffer nil
  "The buffer into which files are read.
One for all of them costs a tenth of one for each, and less garbage.")

(defconst smtpmail-native-data--keep 65536
  "How many characters that buffer may have held to be used again.")

(defun smtpmail-native-data--with-buffer (coding insert)
  "Return the Lisp object that the function INSERT inserts, decoded by CODING."
  (unless (buffer-live-p smtpmail-native-data--buffer)
    (setq smtpmail-native-data--buffer
          (generate-new-buffer " *smtpmail-native data*" t)))
  (with-current-buffer smtpmail-native-data--buffer
    (erase-buffer)
    (let ((multibyte (not (eq coding 'no-conversion))))
      (unless (eq multibyte enable-multibyte-characters)
        (set-buffer-multibyte multibyte)))
    (unwind-protect
        (progn
          (funcall insert)
          (smtpmail-native-data-read-buffer))
      (when (> (buffer-size) smtpmail-native-data--keep)
        (kill-buffer smtpmail-native-data--buffer)))))

(defun smtpmail-native-data-read (file coding)
  "Return the Lisp object in FILE, which has the coding system CODING.
Signal an error, `file-missing' for no FILE, if it cannot be used."
  (smtpmail-native-data--with-buffer
   coding
   (lambda ()
     (smtpmail-native-data-insert file coding smtpmail-native-data-max))))

(defun smtpmail-native-data-parse (octets coding)
  "Return the Lisp object in OCTETS, a unibyte string in the coding system CODING.
Signal an error if it cannot be used."
  (smtpmail-native-data--with-buffer
   coding
   (lambda () (insert (decode-coding-string octets coding)))))

;;;; Printing

(defun smtpmail-native-data--plain (object)
  "Return OBJECT without the properties of its strings.
They may hold what can be printed but not be read."
  (cond ((stringp object) (substring-no-properties object))
        ((proper-list-p object)
         (mapcar #'smtpmail-native-data--plain object))
        ((consp object) (cons (smtpmail-native-data--plain (car object))
                              (smtpmail-native-data--plain (cdr object))))
        (t object)))

(defun smtpmail-native-data-print (object)
  "Return the printed form of OBJECT, in full, with a newline."
  (let ((print-length nil)
        (print-level nil)
        (print-circle nil)
        (print-quoted t)
        (print-escape-newlines t)
        (print-escape-nonascii nil)
        (print-escape-multibyte nil)
        (print-escape-control-characters nil))
    (concat (prin1-to-string (smtpmail-native-data--plain object)) "\n")))

(provide 'smtpmail-native-data)
;;; smtpmail-native-data.el ends here
