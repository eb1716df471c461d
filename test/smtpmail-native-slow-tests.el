;;; smtpmail-native-slow-tests.el --- A disk that takes its time  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What Emacs's own thread asks of the disk while a message enters the outbox is
;; counted by test/c/slow-disk.c, which makes each call last.

;;; Code:

(require 'smtpmail-native-sink)

(defun smtpmail-native-slow-tests--send (lines)
  "Return a form that sends a message of LINES in the background."
  `(with-temp-buffer
     (insert "To: bob@example.org\nSubject: x\n" mail-header-separator "\n")
     (dotimes (_ ,lines)
       (insert "The quick brown fox jumps over the lazy dog.\n"))
     (let ((noninteractive nil))
       (smtpmail-native-send-it))))

(defun smtpmail-native-slow-tests--run (folder port log lines)
  "Send two messages of LINES to PORT from an Emacs whose disk is slow.
Its outbox is in FOLDER.  LOG gets what it asks of the disk, with a line
\"main open MARK\" before and after the second message.  Return its exit
status and what it says."
  (let* ((outbox (expand-file-name "outbox" folder))
         (mark `(file-exists-p ,(expand-file-name "outbox/mark" folder))))
    (smtpmail-native-test-preloaded
     "slow-disk.so"
     (list (concat "SLOW_ROOT=" outbox)
           "SLOW_MS=15" ; which is slow: see SLOW_MS of abreast.c
           (concat "SLOW_LOG=" log)
           (concat "HOME=" folder))
     t "-l" "smtpmail-native"
     "--eval"
     (prin1-to-string
      `(progn
         (setq smtpmail-native-outbox-directory ,outbox
               user-mail-address "alice@example.org"
               smtpmail-smtp-server "127.0.0.1"
               smtpmail-smtp-service ,port
               smtpmail-stream-type 'plain
               smtpmail-native-background t)
         ,(smtpmail-native-slow-tests--send 1)
         (require 'smtpmail-native-wait)
         ;; Neither a look nor the first message is under way any more.
         (smtpmail-native-channel-await
          (lambda () (null (smtpmail-native-outbox-ids))) 60)
         (smtpmail-native-watch-stop)
         ,mark
         ,(smtpmail-native-slow-tests--send lines)
         ,mark)))))

(defun smtpmail-native-slow-tests--asked (log)
  "Return what LOG says that the first thread asked for between its marks."
  (with-temp-buffer
    (insert-file-contents log)
    (let ((start (re-search-forward "^main .*/mark\n"))
          (end (progn (re-search-forward "^main .*/mark$")
                      (match-beginning 0))))
      (seq-filter (lambda (line) (string-prefix-p "main " line))
                  (split-string (buffer-substring start end) "\n" t)))))

(defun smtpmail-native-slow-tests--count (lines)
  "Return what Emacs's thread asks of the disk to send a message of LINES."
  (smtpmail-native-sink-with nil
    (let* ((log (expand-file-name "slow.log" folder))
           (ran (smtpmail-native-slow-tests--run folder port log lines)))
      (ert-info ((cdr ran))
        (should (eql (car ran) 0))
        (smtpmail-native-slow-tests--asked log)))))

(ert-deftest smtpmail-native-slow-tests-message ()
  "Emacs's thread asks nothing of the disk for a message of usual size."
  (should-not (smtpmail-native-slow-tests--count 100)))

(ert-deftest smtpmail-native-slow-tests-large ()
  "For a long message it writes one file, in five operations at most."
  (let ((asked (smtpmail-native-slow-tests--count 50000)))
    (ert-info ((format "%S" asked))
      (should (<= 1 (length asked) 5))
      (dolist (line asked)
        (should (string-match-p "/\\(?:\\.#\\)?message\\'" line))))))

(provide 'smtpmail-native-slow-tests)
;;; smtpmail-native-slow-tests.el ends here
