;;; smtpmail-native-log-tests.el --- What the log says  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Lines of the log as sending makes them, and the list that shows them.

;;; Code:

(require 'ert)
(require 'json)
(require 'smtpmail-native-log)
(require 'smtpmail-native-log-list)
(require 'smtpmail-native-sink)

(defmacro smtpmail-native-log-tests--with (options &rest body)
  "Run BODY with a sink with OPTIONS and a log, whose name is `log'."
  (declare (indent 1) (debug t))
  `(smtpmail-native-sink-with ,options
     (let* ((log (expand-file-name "log" folder))
            (smtpmail-native-log-file log)
            (smtpmail-native-log-max-bytes 1048576)
            (smtpmail-native-log--told nil))
       ,@body)))

(defun smtpmail-native-log-tests--records (log)
  "Return the records in LOG, the oldest first."
  (smtpmail-native-test-disk-idle)
  (mapcar #'smtpmail-native-log-list--parse
          (split-string (smtpmail-native-test-text log) "\n" t)))

(ert-deftest smtpmail-native-log-tests-sent ()
  "A message that was sent has a line with the server's words."
  (smtpmail-native-log-tests--with nil
    (smtpmail-native-sink-send-one 'background "bob@example.org, eve@example.org")
    (let ((record (car (smtpmail-native-log-tests--records log))))
      (should (equal "sent" (alist-get 'outcome record)))
      (should (equal "<1@x>" (alist-get 'message_id record)))
      (should (equal "alice@example.org" (alist-get 'sender record)))
      (should (equal '(("bob@example.org" "sent") ("eve@example.org" "sent"))
                     (mapcar (lambda (recipient)
                               (list (alist-get 'address recipient)
                                     (alist-get 'outcome recipient)))
                             (alist-get 'recipients record))))
      (should (string-match-p "\\`[0-9-]+T[0-9:]+[-+][0-9]+\\'"
                              (alist-get 'time record)))
      (should (numberp (alist-get 'seconds record)))
      (should (numberp (alist-get 'octets record)))
      (should (stringp (alist-get 'reply record)))
      (should (= #o600 (file-modes log))))))

(ert-deftest smtpmail-native-log-tests-refused ()
  "So has one that was refused."
  (smtpmail-native-sink-with-script (smtpmail-native-sink-refuse "550 5.7.1 no")
    (let* ((log (expand-file-name "log" folder))
           (smtpmail-native-log-file log))
      (smtpmail-native-sink-send-one 'background)
      (let ((record (car (smtpmail-native-log-tests--records log))))
        (should (equal "refused" (alist-get 'outcome record)))
        (should (equal 550 (alist-get 'code record)))
        (should (string-match-p "550 5.7.1 no" (alist-get 'reply record)))))))

(ert-deftest smtpmail-native-log-tests-rotated ()
  "A log that gets too long begins anew, and the lines before are beside it."
  (smtpmail-native-log-tests--with nil
    (let ((smtpmail-native-log-max-bytes 600))
      (dotimes (n 3)
        (smtpmail-native-sink-send (format "<%d@x>" n) 'wait)))
    (smtpmail-native-test-disk-idle)
    (should (< (file-attribute-size (file-attributes log)) 1200))
    (should (file-exists-p (concat log ".1")))
    (should (equal "<2@x>" (alist-get 'message_id
                                      (car (last (smtpmail-native-log-tests--records
                                                  log))))))))

(ert-deftest smtpmail-native-log-tests-cannot ()
  "A log that cannot be written stops no message, and is told once."
  (smtpmail-native-log-tests--with nil
    (let ((smtpmail-native-log-file (expand-file-name "nowhere/log" folder))
          (told nil))
      (cl-letf (((symbol-function 'smtpmail-native-quiet-warn)
                 (lambda (text &rest _) (push text told))))
        (dotimes (n 2)
          (smtpmail-native-sink-send (format "<%d@x>" n) 'wait)
          (smtpmail-native-test-disk-idle)))
      (should (= 2 (length (smtpmail-native-sink-log folder "arrived"))))
      (should (= 1 (length told)))
      (should (string-match-p "\\`Cannot write the log: .*nowhere/log"
                              (car told))))))

(ert-deftest smtpmail-native-log-tests-two ()
  "Lines of two Emacs processes are whole."
  (smtpmail-native-log-tests--with nil
    (let* ((form `(progn
                    (require 'smtpmail-native-log)
                    (setq smtpmail-native-log-file ,log)
                    (dotimes (n 100)
                      (smtpmail-native-log-outcome
                       (smtpmail-native-entry-make
                        :id (make-string 500 ?x)
                        :envelope '(:message-id "<a@x>")
                        :state '(:status sent))
                       '(:kind ok) 0.1))
                    (while (smtpmail-native-disk-pending ,log)
                      (accept-process-output nil 0.05)
                      (smtpmail-native-channel-dispatch))))
           (emacsen
            (mapcar (lambda (name)
                      (start-process
                       name nil
                       (expand-file-name invocation-name invocation-directory)
                       "-Q" "--batch" "--eval" "(setq load-prefer-newer t)"
                       "-L" smtpmail-native-test-folder
                       "-l" "smtpmail-native" "--eval" (prin1-to-string form)))
                    '("one" "two"))))
      (smtpmail-native-test-wait
       (lambda () (not (seq-some #'process-live-p emacsen))))
      (should (equal '(0 0) (mapcar #'process-exit-status emacsen)))
      (let ((records (smtpmail-native-log-tests--records log)))
        (should (= 200 (length records)))
        (should-not (memq nil records))))))

(ert-deftest smtpmail-native-log-tests-list ()
  "The list has the newest first, is searched, and leaves out what is no line."
  (smtpmail-native-log-tests--with nil
    (write-region
     (concat "{\"time\":\"2026-01-01T00:00:00+0000\",\"outcome\":\"sent\",\
\"message_id\":\"<old@x>\",\"server\":\"h\\u001b\",\"recipients\":[{\"address\":\
\"bob@example.org\",\"outcome\":\"sent\",\"code\":250,\"text\":\"queued as 4711\"}]}\n"
             "no line\n[1]\n{\"time\":3}\n"
             "{\"time\":\"2026-01-02T00:00:00+0000\",\"outcome\":\"refused\",\
\"message_id\":\"<new@x>\",\"server\":\"h\",\"recipients\":[{\"address\":\
\"eve@example.org\",\"outcome\":\"refused\",\"code\":550,\"text\":\"no\"}]}\n")
     nil log nil 'silent)
    (set-file-modes log #o600)
    (save-window-excursion
      (smtpmail-native-log)
      (should (= 3 smtpmail-native-log-list--damaged))
      (goto-char (point-min))
      (should (looking-at " *2026-01-02.*refused"))
      (should-not (string-match-p "\e" (buffer-string)))
      (smtpmail-native-log-list-search "BOB@")
      (goto-char (point-min))
      (should (looking-at " *2026-01-01.*sent"))
      (should (= 1 (count-lines (point-min) (point-max))))
      (smtpmail-native-log-list-show)
      (with-current-buffer "*smtpmail-native log entry*"
        (should (string-match-p "accepted it for bob@example.org" (buffer-string)))
        (should (string-match-p "250 +queued as 4711" (buffer-string))))
      (smtpmail-native-log-list-search "new@x")
      (goto-char (point-min))
      (should (looking-at " *2026-01-02"))
      (smtpmail-native-log-list-search "")
      (should (= 2 (count-lines (point-min) (point-max))))
      (kill-buffer))
    (let ((smtpmail-native-log-file nil))
      (should-error (smtpmail-native-log) :type 'user-error))))

(provide 'smtpmail-native-log-tests)
;;; smtpmail-native-log-tests.el ends here
