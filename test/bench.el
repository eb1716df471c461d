;;; bench.el --- Measure against stock smtpmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `make bench': times of sending by `smtpmail-native-send-it' and by stock
;; `smtpmail-send-it', both in batch and until the server has taken the mail,
;; over loopback to the scripted server of the test suite.  The two take turns,
;; and the ratio is that of each turn, so that a slow moment hits both.
;; Numbers are the median and, in parentheses, the smallest and the largest.
;; The time of stock smtpmail is that of its call, too: it returns when all is
;; done.  The last table is of the call in the background.

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'bench-gap)

(defconst bench-sizes '(("1 KB" 1024 15) ("1 MB" 1048576 7) ("25 MB" 26214400 3))
  "Names and octets of bodies, and how many turns each gets.")

(defun bench-seconds (function)
  "Call FUNCTION and return the seconds that it takes."
  (garbage-collect)
  (let ((start (float-time)))
    (funcall function)
    (- (float-time) start)))

(defun bench-spread (format numbers)
  "Return the median of NUMBERS and their spread, each by FORMAT."
  (let ((sorted (sort (copy-sequence numbers) #'<)))
    (format "%s (%s-%s)"
            (format format (nth (/ (length sorted) 2) sorted))
            (format format (car sorted))
            (format format (car (last sorted))))))

(defun bench-line (name ours theirs turns)
  "Print a line NAME: the times of the functions OURS and THEIRS, TURNS each.
Both return seconds."
  (let ((native nil) (stock nil))
    (dotimes (_ turns)
      (push (funcall ours) native)
      (push (funcall theirs) stock))
    (princ (format "%-16s %-26s %-26s %s\n" name
                   (bench-spread "%.1f" (mapcar (lambda (s) (* 1e3 s)) native))
                   (bench-spread "%.1f" (mapcar (lambda (s) (* 1e3 s)) stock))
                   (bench-spread "%.2f" (seq-mapn #'/ stock native))))))

;;;; Sending

(defun bench-send (send octets tls)
  "Return the seconds that the function SEND takes for a body of OCTETS.
TLS non-nil means TLS from the start."
  (smtpmail-native-test-with-server
      (append (and tls '("tls good"))
              (smtpmail-native-test-script
               (smtpmail-native-test-ehlo "SIZE" "8BITMIME")
               smtpmail-native-test-mail))
    (let ((smtpmail-stream-type (and tls 'ssl))
          (smtpmail-debug-info nil)
          (line (concat (make-string 63 ?x) "\n")))
      (with-temp-buffer
        (insert "From: alice@example.org\nTo: bob@example.org\nSubject: x\n"
                mail-header-separator "\n")
        (dotimes (_ (/ octets 64))
          (insert line))
        (prog1 (bench-seconds send)
          (smtpmail-native-test-verdict server))))))

(defun bench-sending ()
  "Print a line for each size, plain and TLS."
  (dolist (tls '(nil t))
    (pcase-dolist (`(,name ,octets ,turns) bench-sizes)
      (bench-line (format "%s, %s" name (if tls "TLS" "plain"))
                  (lambda () (bench-send #'smtpmail-native-send-it octets tls))
                  (lambda () (bench-send #'smtpmail-send-it octets tls))
                  turns))))

;;;; Loading

(defun bench-load (feature)
  "Return the seconds that a new Emacs takes to require FEATURE."
  (let ((said (smtpmail-native-test-emacs
               smtpmail-native-test-folder "--eval"
               (format "(let ((start (float-time))) (require '%s) \
(princ (- (float-time) start)))" feature))))
    (unless (eql (car said) 0)
      (error "%s" (cdr said)))
    (string-to-number (cdr said))))

(princ (format "%-16s %-26s %-26s %s\n"
               "" "native, ms" "stock, ms" "stock / native"))
(smtpmail-native-load) ; once for a session, and no part of a mail
(bench-sending)
(bench-line "load the library"
            (lambda () (bench-load 'smtpmail-native))
            (lambda () (bench-load 'smtpmail))
            9)
(princ "\nIn the background, to a server that is slow:\n")
(bench-gap-print)

;;; bench.el ends here
