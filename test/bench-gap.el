;;; bench-gap.el --- How long Emacs is not there while it sends  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `bench-gap-run' starts a sink that answers each command after 200 ms and
;; takes 100 KB/s, and an Emacs with a terminal that sends mails to it in the
;; background.  That Emacs measures how long `smtpmail-native-send-it' takes,
;; and the longest time between two runs of a 10 ms timer once it has returned.
;; A machine that is busy with other things makes gaps as well; so the processor
;; time that this Emacs has used within a gap is told beside it.  The first mail
;; of an Emacs loads what it needs.
;; 25 MB would take 250 s at that rate: only the first seconds are watched,
;; then the mail is cancelled.

;;; Code:

(require 'smtpmail-native)
(require 'smtpmail-native-mode)
(require 'smtpmail-native-server)
(require 'smtpmail)

(defconst bench-gap--sizes
  '((1024 . 3) (1024 . 3) (1048576 . 10) (26214400 . 10))
  "Octets of the body, and the seconds for which Emacs is watched.")

(defvar bench-gap--ticks nil
  "Times of the clock and of the processor when the timer has run.
Each is (SECONDS . SECONDS); the last one is the first.")

(defun bench-gap--tick ()
  "Note that Emacs is alive."
  (push (bench-gap--now) bench-gap--ticks))

(defun bench-gap--now ()
  "Return the time as in `bench-gap--ticks'."
  (cons (float-time) (float-time (get-internal-run-time))))

(defun bench-gap--longest (start)
  "Return the longest times in ms without a tick since START, (CLOCK . CPU)."
  (let ((clock 0)
        (cpu 0)
        (last start))
    (dolist (tick (reverse bench-gap--ticks))
      (setq clock (max clock (- (car tick) (car last)))
            cpu (max cpu (- (cdr tick) (cdr last)))
            last tick))
    (cons (* 1000 clock) (* 1000 cpu))))

(defun bench-gap--send (size)
  "Send a mail with SIZE octets in its body and return the ms that this takes."
  (with-temp-buffer
    (insert "To: bob@example.org\nSubject: bench\n" mail-header-separator "\n")
    (dotimes (_ (/ size 64))
      (insert "The quick brown fox jumps over the lazy dog, and then it rests.\n"))
    (garbage-collect)
    (let ((start (float-time)))
      (smtpmail-native-send-it)
      (* 1000 (- (float-time) start)))))

(defun bench-gap--watch (seconds &optional idle)
  "Let Emacs live for SECONDS, or until nothing is under way any more.
IDLE non-nil means that nothing is.  Return the longest times in ms without
a run of the timer, (CLOCK . CPU)."
  (setq bench-gap--ticks nil)
  (let* ((start (bench-gap--now))
         (timer (run-at-time 0 0.01 #'bench-gap--tick)))
    (while (and (< (- (float-time) (car start)) seconds)
                (or idle
                    (> (hash-table-count smtpmail-native-attempt--active) 0)))
      (sit-for 0.5))
    (cancel-timer timer)
    (bench-gap--longest start)))

(defun bench-gap--report (file)
  "Measure in this Emacs, and write results to FILE.
A result is (SIZE CALL-MS GAP TICKS OCTETS).  GAP is (CLOCK . CPU), the
longest ones in ms; OCTETS have been sent when the watch ended.  SIZE is
nil for an Emacs that sends nothing: what it misses is the machine's doing."
  (let ((results nil))
    (push (list nil 0 (bench-gap--watch 10 t) (length bench-gap--ticks) 0)
          results)
    (pcase-dolist (`(,size . ,seconds) bench-gap--sizes)
      (let* ((call (bench-gap--send size))
             (sending nil))
        (maphash (lambda (_id value) (setq sending value))
                 smtpmail-native-attempt--active)
        (push (list size call (bench-gap--watch seconds)
                    (length bench-gap--ticks)
                    (smtpmail-native-sending-sent sending))
              results))
      (maphash (lambda (id _sending) (smtpmail-native-act-cancel id))
               smtpmail-native-attempt--active)
      (while (> (hash-table-count smtpmail-native-attempt--active) 0)
        (sit-for 0.05)))
    (with-temp-file file
      (prin1 (nreverse results) (current-buffer)))))

(defun bench-gap--child (file)
  "Set up this Emacs, measure, write to FILE and end."
  (setq smtpmail-smtp-server "127.0.0.1"
        smtpmail-smtp-service (string-to-number (getenv "BENCH_GAP_PORT"))
        smtpmail-stream-type 'plain
        smtpmail-local-domain "client.example"
        user-mail-address "alice@example.org"
        user-full-name "Alice"
        auth-sources nil
        smtpmail-native-outbox-directory
        (expand-file-name "outbox/" (file-name-directory file)))
  (condition-case err
      (bench-gap--report file)
    (error (with-temp-file file
             (prin1 (error-message-string err) (current-buffer)))))
  (let ((kill-emacs-query-functions nil))
    (kill-emacs 0)))

(defun bench-gap-start (feature function file environment)
  "Start an Emacs with a terminal that calls FUNCTION of FEATURE with FILE.
Its home is the folder of FILE.  ENVIRONMENT are variables for it.  Return
the process."
  (let* ((top (expand-file-name
               (locate-dominating-file (locate-library "bench-gap")
                                       "Makefile")))
         (process-environment
          (append environment
                  (list (concat "HOME=" (file-name-directory file))
                        "TERM=xterm")
                  process-environment)))
    (make-process
     :name "bench-gap" :buffer nil :noquery t :connection-type 'pty
     :filter #'ignore
     :command (list (expand-file-name invocation-name invocation-directory)
                    "-Q" "-nw"
                    ;; Emacs compiles what it loads for the first time, beside
                    ;; what is measured.
                    "--eval" "(setq native-comp-deferred-compilation nil \
native-comp-jit-compilation nil)"
                    "-L" top "-L" (expand-file-name "lisp" top)
                    "-L" (expand-file-name "test" top) "-l" feature
                    "--eval"
                    (format "(run-at-time 0.5 nil #'%s %S)" function file)))))

(defun bench-gap--await (condition what &optional seconds)
  "Wait until the function CONDITION returns non-nil; WHAT is waited for.
Give up after SECONDS, by default 120."
  (with-timeout ((or seconds 120) (error "No %s" what))
    (let (value)
      (while (not (setq value (funcall condition)))
        (accept-process-output nil 0.1))
      value)))

(defun bench-gap--sink (top delay)
  "Start the sink of the package in TOP; it answers after DELAY ms, takes 100 KB/s.
Return (PROCESS . PORT)."
  (let ((sink (make-process
               :name "sink" :buffer (generate-new-buffer " *sink*") :noquery t
               :command (list (expand-file-name "build/plain/sink" top)
                              "--delay" (number-to-string delay)
                              "--rate" "102400" "--life" "300"))))
    (cons sink
          (bench-gap--await
           (lambda ()
             (with-current-buffer (process-buffer sink)
               (goto-char (point-min))
               (and (looking-at "port \\([0-9]+\\)\n")
                    (string-to-number (match-string 1)))))
           "port of the sink"))))

(defun bench-gap-run ()
  "Measure, and return what `bench-gap--report' writes, a list."
  (let* ((top (locate-dominating-file (locate-library "bench-gap") "Makefile"))
         (top (expand-file-name top))
         (folder (file-name-as-directory (make-temp-file "bench-gap" t)))
         (sink (bench-gap--sink top 200))
         (file (expand-file-name "results" folder))
         (emacs nil))
    (unwind-protect
        (progn
          (setq emacs (bench-gap-start
                       "bench-gap" 'bench-gap--child file
                       (list (format "BENCH_GAP_PORT=%d" (cdr sink)))))
          (bench-gap--await (lambda () (not (process-live-p emacs))) "results")
          (with-temp-buffer
            (insert-file-contents file)
            (let ((results (read (current-buffer))))
              (if (listp results) results (error "%s" results)))))
      (when emacs
        (delete-process emacs))
      (delete-process (car sink))
      (kill-buffer (process-buffer (car sink)))
      (delete-directory folder t))))

(defun bench-gap-print ()
  "Measure and print."
  (let ((results (bench-gap-run)))
    (princ "A server that answers after 200 ms and takes 100 KB/s, \
the call and then the longest gap\nof a 10 ms timer (25 MB: the first 10 s, \
then cancelled)\n")
    (pcase-dolist (`(,size ,call ,gap ,ticks ,octets) results)
      (princ (format "  %15s: call %6.1f ms, gap %5.1f ms, at work %4.1f ms \
(%d ticks, %d octets sent)\n"
                     (if size (format "%d octets" size) "no mail")
                     call (car gap) (cdr gap) ticks octets)))))

(provide 'bench-gap)
;;; bench-gap.el ends here
