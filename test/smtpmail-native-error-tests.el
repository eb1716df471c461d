;;; smtpmail-native-error-tests.el --- What errors look like  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The text of an error reaches a person as it is, and a program by the same
;; conditions as in batch mode.

;;; Code:

(require 'ert)
(require 'seq)
(require 'smtpmail-native-secrets)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-error-tests--text
  "peer said: 550 \"no\" \\[undo] a\\b `x' \u00fc\u200c"
  "A text with all that Emacs might quote or replace.")

(defun smtpmail-native-error-tests--left (condition)
  "Let CONDITION leave a command; return the error that arrives."
  (should-error (smtpmail-native-error-leaving
                  (smtpmail-native-error-signal
                   condition smtpmail-native-error-tests--text))
                :type condition))

(defun smtpmail-native-error-tests--conditions ()
  "Return all conditions of the package, but those that only show them."
  (let ((all nil))
    (mapatoms (lambda (symbol)
                (let ((conditions (get symbol 'error-conditions)))
                  (when (and (memq 'smtpmail-native-error conditions)
                             (not (memq 'file-error conditions)))
                    (push symbol all)))))
    all))

(ert-deftest smtpmail-native-error-tests-shown ()
  "A person sees the text without quotes; a program catches what it knows."
  (let ((conditions (smtpmail-native-error-tests--conditions)))
    (should (> (length conditions) 12))
    (dolist (condition conditions)
      (ert-info ((symbol-name condition))
        (let* ((debug-on-error nil)
               (line (concat (get condition 'error-message) ": "
                             smtpmail-native-error-tests--text))
               (err (let ((noninteractive nil))
                      (smtpmail-native-error-tests--left condition))))
          (should (string-prefix-p "Message " line))
          (should (equal (error-message-string err) line))
          (should (equal (cdr err) (list line)))
          (should-not (seq-difference (get condition 'error-conditions)
                                      (get (car err) 'error-conditions)))
          ;; Leaving a second command changes nothing.
          (should (equal err
                         (let ((noninteractive nil))
                           (should-error
                            (smtpmail-native-error-leaving
                              (signal (car err) (cdr err))))))))))))

(ert-deftest smtpmail-native-error-tests-programs ()
  "In batch mode and for the debugger, an error leaves as it is."
  (let ((wanted (list 'smtpmail-native-refused
                      smtpmail-native-error-tests--text)))
    (let ((noninteractive t))
      (should (equal wanted (smtpmail-native-error-tests--left
                             'smtpmail-native-refused))))
    (let ((noninteractive nil)
          (debug-on-error t)
          (debugger #'ignore))
      (should (equal wanted (smtpmail-native-error-tests--left
                             'smtpmail-native-refused))))))

(ert-deftest smtpmail-native-error-tests-other ()
  "Errors of others are let through."
  (let ((noninteractive nil))
    (dolist (err '((user-error "x") (file-missing "Opening" "none" "f") (quit)))
      (should (equal err (condition-case got
                             (smtpmail-native-error-leaving
                               (signal (car err) (cdr err)))
                           ((error quit) got)))))))

;;;; With keys

(defmacro smtpmail-native-error-tests--with-messages (form &rest body)
  "Run BODY in a terminal whose Emacs has evaluated FORM.
Control-C and 5 in it move its messages to the file `messages'."
  (declare (indent 1) (debug t))
  `(let* ((messages (expand-file-name "messages" folder)))
     (smtpmail-native-test-with-terminal folder
         (list 'progn
               '(require 'smtpmail-native)
               '(require 'message)
               (smtpmail-native-test-account port)
               (list 'global-set-key "\C-c5"
                     `(lambda ()
                        (interactive)
                        (with-current-buffer (messages-buffer)
                          (let ((inhibit-read-only t))
                            (write-region nil nil ,messages t 'silent)
                            (erase-buffer)))))
               ,form)
       ,@body)))

(defun smtpmail-native-error-tests--said (messages regexp)
  "Wait until the Emacs in the terminal has said REGEXP, by its file MESSAGES.
It matches a line there, which may begin with the function that complains."
  (smtpmail-native-test-wait
   (lambda ()
     (smtpmail-native-test-type "\C-c5")
     (accept-process-output smtpmail-native-test-terminal 0.1)
     (string-match-p (concat "^\\(?:[a-z-]+: \\)?" regexp "$")
                     (smtpmail-native-test-text messages)))))

(ert-deftest smtpmail-native-error-tests-keys ()
  "What a sending command complains of is in the echo area as it is."
  (pcase-dolist
      (`(,background ,header ,line)
       '((t "X-Smtpmail-Native: later \"soon\"\n"
            "Message not sent: X-Smtpmail-Native: not of the form KEY=VALUE: \
later \"soon\"")
         (nil ""
              "Message refused: localhost:[0-9]+ refused the recipient: \
1 of 1 recipients refused; <bob@example.org>: 550 5.1.1 no \"bob\" C:\\\\x (check this address)")))
    (ert-info (line)
      (smtpmail-native-test-with-server
          (smtpmail-native-test-script
           (smtpmail-native-test-ehlo) "C: MAIL FROM:*" "S: 250 ok"
           "C: RCPT TO:*" "S: 550 5.1.1 no \"bob\" C:\\x"
           "C: RSET" "S: 250 ok" "C: QUIT" "S: 221 bye")
        (smtpmail-native-error-tests--with-messages
            `(progn
               (setq smtpmail-native-background ,background)
               (message-mail "bob@example.org" "test")
               (goto-char (point-min))
               (insert ,header)
               (message-goto-body)
               (insert "Hello\n"))
          (smtpmail-native-test-type "\C-c\C-c")
          (smtpmail-native-error-tests--said messages line))))))

(ert-deftest smtpmail-native-error-tests-command ()
  "What a command complains of is shown without quotes, too."
  (smtpmail-native-test-with-server smtpmail-native-test-one
    (smtpmail-native-error-tests--with-messages
        '(setq smtpmail-stream-type 'odd)
      (dolist (command '("server-info" "pin-certificate"
                         "explain-credentials"))
        (ert-info (command)
          (smtpmail-native-test-type
           (format "\exsmtpmail-native-%s\r" command))
          (smtpmail-native-error-tests--said
           messages "Message not sent: [^\"\n]*smtpmail-stream-type.*odd")
          (delete-file messages))))))

;;;; Notes

(ert-deftest smtpmail-native-error-tests-notes ()
  "What the module notes of a message that was sent is told, once."
  (dolist (background '(nil t))
    (smtpmail-native-test-with-server
        (smtpmail-native-test-script (smtpmail-native-test-ehlo "8BITMIME")
                                     smtpmail-native-test-mail)
      (let ((smtpmail-native-background background)
            (noninteractive nil)
            (said nil))
        (cl-letf (((symbol-function 'message)
                   (lambda (format &rest args)
                     (when format
                       (push (apply #'format-message format args) said)))))
          (with-temp-buffer
            (insert "To: bob@example.org\nMIME-Version: 1.0\n\
Content-Type: text/plain\n" mail-header-separator "\n"
                    (make-string 1200 ?x) "\n")
            (smtpmail-native-send-it))
          (smtpmail-native-test-drained)
          (smtpmail-native-test-wait
           (lambda () (seq-some (apply-partially #'string-prefix-p "Sent ")
                                said))))
        (smtpmail-native-test-verdict server)
        (should (= 1 (cl-count-if
                      (lambda (line)
                        (string-match-p "\\`Sent a message to bob@example.org ([0-9.]+ s)\
; note: .*more than 998 bytes" line))
                      said)))))))

(provide 'smtpmail-native-error-tests)
;;; smtpmail-native-error-tests.el ends here
