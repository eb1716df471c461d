;;; coverage.el --- Which lines of the Lisp side do the tests reach?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; make coverage-lisp LISP="verdict outcome" TESTS="verdict"
;;
;; The files are loaded from their source, instrumented by Edebug, which
;; only notes here which form was reached.  Then the tests run that are
;; given.  A line counts as reached if a form on it was; what is in macros and in
;; other Emacsen that a test starts does not count.

;;; Code:

(require 'cl-lib)
(require 'edebug)
(require 'ert)

(defvar coverage--reached nil
  "The vector of the function that runs: t for each form that was reached.")

(defun coverage--enter (function _args body)
  "Call BODY of the instrumented FUNCTION, and note what it reaches."
  (let ((coverage--reached (get function 'coverage)))
    (funcall body)))

(defun coverage--before (index)
  "Note that the form at INDEX is reached, and return INDEX."
  (when coverage--reached
    (aset coverage--reached index t))
  index)

(defun coverage--after (_before index value)
  "Note that the form at INDEX has been reached, and return its VALUE."
  (when coverage--reached
    (aset coverage--reached index t))
  value)

(defvar coverage--functions nil
  "Names of the instrumented functions.")

(defun coverage--new (function)
  "Prepare FUNCTION, which is instrumented."
  (put function 'coverage
       (make-vector (length (nth 2 (get function 'edebug))) nil))
  (push function coverage--functions))

(defun coverage-load (file)
  "Load FILE from its source, instrumented."
  (let ((edebug-all-defs t)
        (edebug-new-definition-function #'coverage--new)
        (inhibit-message t))
    (with-current-buffer (find-file-noselect file)
      (eval-buffer))))

(defun coverage--lines (file)
  "Return the lines of FILE: (LINE . REACHED)..., sorted."
  (let ((lines (make-hash-table)))
    (with-current-buffer (find-file-noselect file)
      (dolist (function coverage--functions)
        (pcase-let ((`(,marker ,_ ,offsets . ,_) (get function 'edebug)))
          (when (and (markerp marker)
                     (eq (marker-buffer marker) (current-buffer)))
            (dotimes (i (length offsets))
              (let ((line (line-number-at-pos
                           (+ marker (aref offsets i)))))
                (puthash line (or (gethash line lines)
                                  (aref (get function 'coverage) i))
                         lines)))))))
    (let ((found nil))
      (maphash (lambda (line reached) (push (cons line reached) found)) lines)
      (sort found #'car-less-than-car))))

(defun coverage-run ()
  "Load FILES of the environment, run TESTS of it, and print what is missing."
  ;; By `edebug-behavior-alist' each call would set these anew, which is slow.
  (pcase-dolist (`(,name . ,function) '((edebug-enter . coverage--enter)
                                        (edebug-before . coverage--before)
                                        (edebug-after . coverage--after)))
    (byte-compile function)
    (fset name function))
  (let ((files (split-string (getenv "FILES")))
        (goal (string-to-number (or (getenv "GOAL") "90")))
        (all 0) (reached 0))
    (mapc #'coverage-load files)
    (dolist (test (split-string (getenv "TESTS")))
      (load (expand-file-name test) nil t))
    (ert-run-tests-batch '(not (tag :uninstrumented)))
    (dolist (file files)
      (let* ((lines (coverage--lines file))
             (missed (seq-remove #'cdr lines)))
        (cl-incf all (length lines))
        (cl-incf reached (- (length lines) (length missed)))
        (message "%s: %d of %d lines, not reached: %s" file
                 (- (length lines) (length missed)) (length lines)
                 (mapconcat (lambda (line) (number-to-string (car line)))
                            missed " "))))
    (let ((percent (if (> all 0) (/ (* 100.0 reached) all) 0)))
      (message "%.1f%% of %d lines of Lisp are reached; the goal is %d%%"
               percent all goal)
      (kill-emacs (if (< percent goal) 1 0)))))

(provide 'coverage)
;;; coverage.el ends here
