;;; smtpmail-native-fault-tests.el --- The check of a bad disk  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; `make faults' lets each operation of the disk fail.  Here are some of them,
;; and a fault of ours that it must find.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-fault-tests--run (sample &rest variables)
  "Run SAMPLE faults of each kind with VARIABLES in the environment.
Return the exit status and the output."
  (let ((process-environment (append variables process-environment)))
    (with-temp-buffer
      (cons (call-process (expand-file-name "test/fault-test"
                                            smtpmail-native-test-folder)
                          nil t nil (number-to-string sample) "1")
            (buffer-string)))))

(ert-deftest smtpmail-native-fault-tests-withdraw ()
  "What could not be withdrawn from a bad disk is not sent later."
  (let ((ran (smtpmail-native-fault-tests--run
              30 "SCENES=background" "ERRORS=EIO")))
    (ert-info ((cdr ran))
      (should (eql 0 (car ran))))))

(ert-deftest smtpmail-native-fault-tests-planted ()
  "The check finds that it is."
  (let ((ran (smtpmail-native-fault-tests--run
              30 "SCENES=background" "ERRORS=EIO" "PLANT=gone")))
    (ert-info ((cdr ran))
      (should (eql 1 (car ran)))
      (should (string-match-p "arrived after" (cdr ran))))))

(ert-deftest smtpmail-native-fault-tests-threads ()
  "Where no thread can be started, Emacs does not try again and again."
  (let ((ran (smtpmail-native-fault-tests--run
              0 "SCENES=background" "ERRORS=EAGAIN" "LIMIT=60")))
    (ert-info ((cdr ran))
      (should (eql 0 (car ran))))))

(ert-deftest smtpmail-native-fault-tests-script ()
  "A script hears how it went, whatever cannot be read afterwards."
  (let ((ran (smtpmail-native-fault-tests--run
              40 "SCENES=batch-queue" "ERRORS=EIO EMFILE")))
    (ert-info ((cdr ran))
      (should (eql 0 (car ran))))))

(ert-deftest smtpmail-native-fault-tests-damage ()
  "The check of damaged files finds that their types are not looked at."
  (let ((process-environment
         (append '("PLANT=types" "N=60" "SEED=4") process-environment))
        (default-directory smtpmail-native-test-folder))
    (with-temp-buffer
      (let ((status (call-process
                     (expand-file-name invocation-name invocation-directory)
                     nil t nil "-Q" "--batch"
                     "--eval" "(setq load-prefer-newer t)"
                     "-L" "." "-L" "lisp" "-L" "test" "-L" "test/faults"
                     "-l" "damage" "-f" "damage-run")))
        (ert-info ((buffer-string))
          (should (eql status 1))
          (should (string-match-p "Wrong type argument" (buffer-string))))))))

(provide 'smtpmail-native-fault-tests)
;;; smtpmail-native-fault-tests.el ends here
