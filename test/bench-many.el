;;; bench-many.el --- Ten thousand messages in the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `bench-many-run' starts an Emacs with a terminal whose outbox holds many
;; queued messages, and has it do what users do: turn the mode on, open the
;; list, sort it, flush.  Told are how long each call takes, the longest time
;; between two runs of a 10 ms timer while its work goes on (the machine's other
;; work makes gaps as well), and how much memory Emacs takes more.

;;; Code:

(require 'bench-gap)

(defvar bench-many--results nil
  "What was measured: (NAME CALL-MS GAP-MS CPU-MS), the last one first.")

(defun bench-many--memory ()
  "Return the MB of memory of this Emacs."
  (garbage-collect)
  (with-temp-buffer
    (insert-file-contents "/proc/self/status")
    (re-search-forward "^VmRSS:[ \t]*\\([0-9]+\\)")
    (/ (string-to-number (match-string 1)) 1024.0)))

(defun bench-many--fill (count)
  "Make COUNT copies of the one entry of the outbox, with names of their own."
  (let* ((queue (expand-file-name "queue/" smtpmail-native-outbox-directory))
         (first (car (directory-files queue nil "\\`[^.]")))
         (write-region-inhibit-fsync t)
         (create-lockfiles nil)
         (files (mapcar (lambda (name)
                          (cons name
                                (with-temp-buffer
                                  (insert-file-contents-literally
                                   (expand-file-name (concat first "/" name)
                                                     queue))
                                  (buffer-string))))
                        '("message" "message.el" "state" "lock"))))
    (with-file-modes #o700
      (dotimes (i (1- count))
        (let ((entry (expand-file-name
                      ;; As names are: Emacs's hash of strings that differ in
                      ;; few places is slow.
                      (format "20260101T%06d.%06d-1-%04x/" (/ i 100)
                              (mod (* i 7919) 1000000) (mod i 65536))
                      queue)))
          (make-directory entry)
          (pcase-dolist (`(,name . ,text) files)
            (let ((coding-system-for-write 'no-conversion))
              (write-region text nil (expand-file-name name entry) nil
                            'silent))))))))

(defun bench-many--next (steps end)
  "Do STEPS, one after the other, then call END.
A step is (NAME CALL DONE): CALL is a function whose time is taken; what goes
on then is watched until DONE, called with the seconds since, returns t.
With CALL nil, the value of the function DONE is the result.
The command loop runs meanwhile: notes of the system about files are input."
  (pcase (pop steps)
    ('nil (funcall end))
    (`(,name nil ,value)
     (push (list name (funcall value) 0 0 0) bench-many--results)
     (bench-many--next steps end))
    (`(,name ,call ,done)
     (garbage-collect)
     (let* ((start (bench-gap--now))
            (took (progn (funcall call) (- (float-time) (car start)))))
       (redisplay)
       (setq start (bench-gap--now)
             bench-gap--ticks nil)
       (let ((ticker (run-at-time 0 0.01 #'bench-gap--tick))
             (poll nil))
         (setq poll
               (run-at-time
                0.02 0.02
                (lambda ()
                  (let ((passed (- (float-time) (car start))))
                    (when (funcall done passed)
                      (cancel-timer ticker)
                      (cancel-timer poll)
                      (pcase-let ((`(,clock . ,cpu)
                                   (bench-gap--longest start)))
                        (push (list name (* 1000 took) clock cpu
                                    (* 1000 passed))
                              bench-many--results))
                      (bench-many--next steps end)))))))))))

(defun bench-many--for (seconds)
  "Return a predicate of `bench-many--watch' that holds after SECONDS."
  (lambda (passed) (> passed seconds)))

(defun bench-many--settled (passed)
  "Return non-nil if PASSED is more than a second and all has been read."
  (and (> passed 1) (not (smtpmail-native-index-busy-p))))

(defun bench-many--queue-one ()
  "Put a message into the outbox for the next flush."
  (let ((smtpmail-queue-mail t))
    (with-temp-buffer
      (insert "To: bob@example.org\nSubject: bench\n" mail-header-separator "\n"
              (make-string 500 ?x) "\n")
      (smtpmail-native-send-it))))

(defun bench-many--hold-first ()
  "Hold the first message of the list."
  (with-current-buffer "*smtpmail-native outbox*"
    (goto-char (point-min))
    (smtpmail-native-act-hold (tabulated-list-get-id))))

(defun bench-many--drained (passed)
  "Return non-nil if only held messages are left, or PASSED is a minute."
  (or (> passed 60)
      (and (not (smtpmail-native-schedule-busy-p))
           (<= (length (directory-files
                        (expand-file-name "queue/"
                                          smtpmail-native-outbox-directory)
                        nil "\\`2026"))
               2))))

(defun bench-many--steps ()
  "Return the steps of `bench-many--next'."
  (let* ((before 0)
         (more (lambda () (- (bench-many--memory) before)))
         (in-list (lambda (function)
                    (lambda ()
                      (with-current-buffer "*smtpmail-native outbox*"
                        (funcall function))))))
    `(("nothing" ignore ,(bench-many--for 1))
      ("memory before, MB" nil ,(lambda () (setq before (bench-many--memory))))
      ("start" ,(lambda () (smtpmail-native-mode 1)) bench-many--settled)
      ("memory more, MB" nil ,more)
      ("list" smtpmail-native-outbox ,(bench-many--for 2))
      ("list, again (g)" ,(funcall in-list #'revert-buffer)
       ,(bench-many--for 1))
      ("hold one" bench-many--hold-first ,(bench-many--for 1))
      ("sort by size"
       ,(funcall in-list (lambda () (tabulated-list-sort 3)))
       ,(bench-many--for 1))
      ("hold one, sorted" bench-many--hold-first ,(bench-many--for 1))
      ("no order again"
       ,(funcall in-list (lambda ()
                           (setq tabulated-list-sort-key nil)
                           (revert-buffer)))
       ,(bench-many--for 1))
      ("queue one" bench-many--queue-one ,(bench-many--for 1))
      ("undo, nothing to undo" smtpmail-native-act-undo-candidate
       ,(bench-many--for 0.5))
      ("unlock" ,(lambda () (ignore-errors (smtpmail-native-unlock)))
       ,(bench-many--for 0.5))
      ("flush" smtpmail-native-flush-queue bench-many--drained)
      ("memory at the end, MB" nil ,more))))

(defun bench-many--child (file)
  "Measure in this Emacs, write to FILE and end."
  (setq smtpmail-smtp-server "localhost"
        smtpmail-smtp-service (string-to-number (getenv "BENCH_GAP_PORT"))
        smtpmail-smtp-user "alice"
        smtpmail-stream-type 'ssl
        smtpmail-local-domain "client.example"
        smtpmail-queue-dir (expand-file-name "stock/" (file-name-directory file))
        user-mail-address "alice@example.org"
        user-full-name "Alice"
        gnutls-trustfiles (list (getenv "BENCH_CA"))
        auth-sources (list (expand-file-name "netrc" (file-name-directory file)))
        smtpmail-native-outbox-directory
        (expand-file-name "outbox/" (file-name-directory file)))
  (with-temp-file (car auth-sources)
    (insert (format "machine localhost port %s login alice password secret\n"
                    smtpmail-smtp-service)))
  (condition-case err
      (progn
        (bench-many--queue-one)
        (bench-many--fill (string-to-number (getenv "BENCH_MANY")))
        (smtpmail-native-index-clear)
        (bench-many--next (bench-many--steps)
                          (lambda ()
                            (bench-many--end file
                                             (nreverse bench-many--results)))))
    (error (bench-many--end file (error-message-string err)))))

(defun bench-many--end (file results)
  "Write RESULTS to FILE, and end this Emacs."
  (with-temp-file file
    (prin1 results (current-buffer)))
  (let ((kill-emacs-query-functions nil))
    (kill-emacs 0)))

(defun bench-many-run (count port ca)
  "Measure with COUNT entries and the server at PORT, whose authority is CA.
Return a list of (NAME CALL-MS GAP-MS CPU-MS MS), the last being how long it
was watched."
  (let* ((folder (file-name-as-directory (make-temp-file "bench-many" t)))
         (file (expand-file-name "results" folder))
         (emacs nil))
    (unwind-protect
        (progn
          (setq emacs
                (bench-gap-start
                 "bench-many" 'bench-many--child file
                 (list (format "BENCH_GAP_PORT=%d" port)
                       (concat "BENCH_CA=" ca)
                       (format "BENCH_MANY=%d" count))))
          (bench-gap--await (lambda () (not (process-live-p emacs))) "results"
                            600)
          (with-temp-buffer
            (insert-file-contents file)
            (let ((results (read (current-buffer))))
              (if (listp results) results (error "%s" results)))))
      (when emacs
        (delete-process emacs))
      (delete-directory folder t))))

(defun bench-many-print (count port ca)
  "Measure as `bench-many-run' does with COUNT, PORT and CA, and print."
  (princ (format "\n%d entries, ms: the call, then the longest gap of a 10 ms \
timer, the work in one\n" count))
  (pcase-dolist (`(,name ,call ,gap ,cpu ,all)
                 (bench-many-run count port ca))
    (princ (format "  %-24s %8.1f %8.1f %8.1f   (%.1f s)\n" name call gap cpu
                   (/ all 1000)))
    (when (equal name "flush")
      (princ (format "  drained at %.0f/s\n" (/ (* 1000.0 count) all))))))

(provide 'bench-many)
;;; bench-many.el ends here
