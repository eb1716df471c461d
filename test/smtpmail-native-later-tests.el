;;; smtpmail-native-later-tests.el --- Send a message later  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Times as people write them, from a clock that stands still, and the command.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-later)
(require 'smtpmail-native-sink)
(require 'smtpmail-native-wishes)

(defconst smtpmail-native-later-tests--now
  (float-time (encode-time '(0 30 14 26 11 2026 nil -1 nil)))
  "A Thursday afternoon.")

(ert-deftest smtpmail-native-later-tests-times ()
  "Times are read as people mean them."
  (pcase-dolist (`(,text . ,wanted)
                 '(("in 2 hours" . "2026-11-26 16:30")
                   ("2h" . "2026-11-26 16:30") ("+45 min" . "2026-11-26 15:15")
                   ("In 1 Minute" . "2026-11-26 14:31")
                   ("in 3 days" . "2026-11-29 14:30")
                   ("1 week" . "2026-12-03 14:30")
                   ("15:00" . "2026-11-26 15:00") ("8:30" . "2026-11-27 08:30")
                   ("8am" . "2026-11-27 08:00") ("5 pm" . "2026-11-26 17:00")
                   ("12 am" . "2026-11-27 00:00") ("at 16" . "2026-11-26 16:00")
                   ("tomorrow" . "2026-11-27 08:00")
                   ("tomorrow 8:00" . "2026-11-27 08:00")
                   ("Tomorrow at 9pm" . "2026-11-27 21:00")
                   ("today 18:00" . "2026-11-26 18:00")
                   ("mon 9" . "2026-11-30 09:00")
                   ("Thursday 15:00" . "2026-11-26 15:00")
                   ("thu 9" . "2026-12-03 09:00") ("fri" . "2026-11-27 08:00")
                   ("1 dec" . "2026-12-01 08:00")
                   ("1 Dec 9:15" . "2026-12-01 09:15")
                   ("3 january" . "2027-01-03 08:00")
                   ("2026-12-01" . "2026-12-01 08:00")
                   ("2026-12-01 17:45" . "2026-12-01 17:45")))
    (ert-info (text)
      (should (equal wanted
                     (format-time-string
                      "%F %H:%M"
                      (smtpmail-native-later-parse
                       text smtpmail-native-later-tests--now)))))))

(ert-deftest smtpmail-native-later-tests-wrong ()
  "What cannot be read, or is past, is an error that says so."
  (dolist (text '("" "soon" "25:00" "8:61" "13 pm" "0 pm" "mon 25" "xyz 9"
                  "in two hours" "2 parsecs" "32 dec" "2026-13-01"
                  "2026-02-30" "mo 9" "tomorrow never"))
    (ert-info (text)
      (should (string-match-p
               "Cannot read"
               (cadr (should-error
                      (smtpmail-native-later-parse
                       text smtpmail-native-later-tests--now)
                      :type 'user-error))))))
  (dolist (text '("2026-11-25" "2026-11-26 14:30" "today 8:00" "in 0 hours"))
    (ert-info (text)
      (should (string-match-p
               "past"
               (cadr (should-error
                      (smtpmail-native-later-parse
                       text smtpmail-native-later-tests--now)
                      :type 'user-error)))))))

(ert-deftest smtpmail-native-later-tests-field ()
  "The time goes into the field, and what else that asks for stays."
  (dolist (field '("" "X-Smtpmail-Native: notify=never; later=+1h\n"))
    (with-temp-buffer
      (insert "To: bob@example.org\n" field mail-header-separator "\nx\n")
      (message-mode)
      (smtpmail-native-later--set smtpmail-native-later-tests--now)
      (let* ((value (save-restriction
                      (message-narrow-to-headers)
                      (message-fetch-field "X-Smtpmail-Native")))
             (wishes (smtpmail-native-wishes-parse value)))
        (should (= (plist-get wishes :release)
                   smtpmail-native-later-tests--now))
        (should (equal (plist-get wishes :notify)
                       (and (not (equal field "")) "NEVER")))))))

(ert-deftest smtpmail-native-later-tests-sends ()
  "The message waits in the outbox for its time."
  (smtpmail-native-sink-with nil
    (let ((message-send-mail-function #'smtpmail-native-send-it)
          (send-mail-function #'smtpmail-native-send-it)
          (message-interactive nil)
          (time (+ 7200 (truncate (float-time)))))
      (smtpmail-native-test-in-background
        (with-temp-buffer
          (insert "From: alice@example.org\nTo: bob@example.org\nSubject: x\n"
                  mail-header-separator "\nx\n")
          (message-mode)
          (smtpmail-native-send-later time)))
      (should (= time (smtpmail-native-entry-release-time
                       (car (smtpmail-native-outbox-list)))))
      (should-not (smtpmail-native-sink-log folder "connect")))
    (with-temp-buffer
      (should-error (smtpmail-native-send-later 1) :type 'user-error))))

(ert-deftest smtpmail-native-later-tests-key ()
  "The option binds the key in Message mode."
  (let ((before (lookup-key message-mode-map (kbd "C-c C-v"))))
    (unwind-protect
        (progn
          (customize-set-variable 'smtpmail-native-send-later-key "C-c C-v")
          (with-temp-buffer
            (message-mode)
            (should (eq #'smtpmail-native-send-later
                        (key-binding (kbd "C-c C-v"))))))
      (define-key message-mode-map (kbd "C-c C-v") before)
      (customize-set-variable 'smtpmail-native-send-later-key nil)
      (should-not (memq #'smtpmail-native-options-bind-key
                        message-mode-hook)))))

(provide 'smtpmail-native-later-tests)
;;; smtpmail-native-later-tests.el ends here
