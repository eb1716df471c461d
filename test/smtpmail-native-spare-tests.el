;;; smtpmail-native-spare-tests.el --- Tests of less garbage collection  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-schedule)
(require 'smtpmail-native-spare)

(defmacro smtpmail-native-spare-tests--with (value &rest body)
  "Run BODY with the global `gc-cons-threshold' of VALUE."
  (declare (indent 1) (debug (form body)))
  `(let ((smtpmail-native-spare--before nil)
         (before (default-toplevel-value 'gc-cons-threshold)))
     (unwind-protect
         (progn
           (set-default-toplevel-value 'gc-cons-threshold ,value)
           ,@body)
       (set-default-toplevel-value 'gc-cons-threshold before))))

(defun smtpmail-native-spare-tests--threshold ()
  "Return the global `gc-cons-threshold'."
  (default-toplevel-value 'gc-cons-threshold))

(ert-deftest smtpmail-native-spare-tests-back ()
  "What the user has set comes back, however often more was let gather."
  (smtpmail-native-spare-tests--with 800000
    (smtpmail-native-spare-begin)
    (smtpmail-native-spare-begin)
    (should (= (smtpmail-native-spare-tests--threshold)
               smtpmail-native-spare--octets))
    (smtpmail-native-spare-end)
    (should (= (smtpmail-native-spare-tests--threshold) 800000))
    (smtpmail-native-spare-end)
    (should (= (smtpmail-native-spare-tests--threshold) 800000))))

(ert-deftest smtpmail-native-spare-tests-others ()
  "A larger value is left alone, and so is one that somebody sets meanwhile."
  (smtpmail-native-spare-tests--with 100000000
    (smtpmail-native-spare-begin)
    (smtpmail-native-spare-end)
    (should (= (smtpmail-native-spare-tests--threshold) 100000000)))
  (smtpmail-native-spare-tests--with 800000
    (smtpmail-native-spare-begin)
    (set-default-toplevel-value 'gc-cons-threshold 900000)
    (smtpmail-native-spare-end)
    (should (= (smtpmail-native-spare-tests--threshold) 900000))))

(ert-deftest smtpmail-native-spare-tests-schedule ()
  "More gathers while the schedule has more to do, and no longer."
  (smtpmail-native-spare-tests--with 800000
    (let ((more t)
          (smtpmail-native-schedule-idle-hook nil)
          (smtpmail-native-schedule--advance-timer nil)
          (noninteractive nil))
      (cl-letf (((symbol-function 'smtpmail-native-schedule--step)
                 (lambda (until)
                   (while (and more (< (float-time) until)))
                   more)))
        (smtpmail-native-schedule--advance)
        (should (= (smtpmail-native-spare-tests--threshold)
                   smtpmail-native-spare--octets))
        (setq more nil)
        (smtpmail-native-schedule--advance)
        (should (= (smtpmail-native-spare-tests--threshold) 800000))
        (cancel-timer smtpmail-native-schedule--advance-timer)))))

(ert-deftest smtpmail-native-spare-tests-while ()
  "More garbage may gather only while the body is done."
  (let ((gc-cons-threshold 1000000))
    (should (>= (smtpmail-native-spare-while gc-cons-threshold)
                smtpmail-native-spare--octets))
    (should (= gc-cons-threshold 1000000))
    (ignore-errors (smtpmail-native-spare-while (error "No")))
    (should (= gc-cons-threshold 1000000))
    (let ((gc-cons-threshold (* 2 smtpmail-native-spare--octets)))
      (should (= (smtpmail-native-spare-while gc-cons-threshold)
                 (* 2 smtpmail-native-spare--octets))))))

(provide 'smtpmail-native-spare-tests)
;;; smtpmail-native-spare-tests.el ends here
