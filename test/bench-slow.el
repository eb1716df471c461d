;;; bench-slow.el --- Measure on a disk that takes its time  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; How long `C-c C-c' takes, and the longest gap of a timer of 10 ms meanwhile,
;; if each operation on the outbox takes 200 ms longer (test/c/slow-disk.c).

;;; Code:

(require 'message)
(require 'smtpmail-native)
(require 'smtpmail-native-sink)

(defconst bench-slow-ms 200
  "Milliseconds that each operation takes longer.")

(defun bench-slow-send ()
  "Send a message in the background; return how long that takes, and the gap."
  (with-temp-buffer
    (insert "To: bob@example.org\nSubject: x\n" mail-header-separator "\nx\n")
    (let* ((noninteractive nil)
           (start (float-time))
           (last start)
           (gap 0)
           (timer (run-at-time 0 0.01
                               (lambda ()
                                 (setq gap (max gap (- (float-time) last))
                                       last (float-time))))))
      (smtpmail-native-send-it)
      (cancel-timer timer)
      (list (max gap (- (float-time) last)) (- (float-time) start)))))

(defun bench-slow-child ()
  "Send three times, and print what is measured; the disk is slow."
  (setq smtpmail-native-outbox-directory (getenv "SLOW_ROOT")
        user-mail-address "alice@example.org"
        smtpmail-smtp-server "127.0.0.1"
        smtpmail-smtp-service (string-to-number (getenv "SLOW_PORT"))
        smtpmail-stream-type 'plain
        smtpmail-native-background t)
  (dolist (which '("first ever" "later" "at once"))
    (pcase-let ((`(,gap ,seconds) (bench-slow-send)))
      (princ (format "  %-10s C-c C-c %.0f ms, longest gap of a timer %.0f ms\n"
                     which (* 1000 seconds) (* 1000 gap))))
    (smtpmail-native-channel-await
     (lambda ()
       (and (null (smtpmail-native-outbox-ids))
            ;; The last one comes while the disk still works on this one.
            (or (equal which "later")
                (= 0 (hash-table-count smtpmail-native-disk--pending)))))
     60)))

(defun bench-slow ()
  "Print what sending costs on a slow disk."
  (smtpmail-native-sink-with nil
    (princ (format "\nA disk that takes %d ms for each operation\n"
                   bench-slow-ms))
    (princ (cdr (smtpmail-native-test-preloaded
                 "slow-disk.so"
                 (list (concat "SLOW_ROOT=" (expand-file-name "outbox/" folder))
                       (format "SLOW_MS=%d" bench-slow-ms)
                       (format "SLOW_PORT=%d" port)
                       (concat "HOME=" folder))
                 nil "-L" "test" "-l" "bench-slow" "-f" "bench-slow-child")))))

(provide 'bench-slow)
;;; bench-slow.el ends here
