;;; smtpmail-native-tell-tests.el --- What is said to the user  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Which failures are a line that goes, and which a warning that stays.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-sink)
(require 'smtpmail-native-tell)

(defun smtpmail-native-tell-tests--entry (state)
  "Return an entry in STATE, a plist."
  (smtpmail-native-entry-make
   :id "x"
   :envelope (list :recipients '("bob@example.org") :host "mail.example"
                   :port 587 :created 0)
   :state state))

(defmacro smtpmail-native-tell-tests--hear (&rest body)
  "Run BODY; return what was told, a list of (HOW . TEXT), the first first."
  (declare (indent 0) (debug t))
  `(let ((told nil)
         (smtpmail-native-tell--noticed (make-hash-table :test #'equal))
         (smtpmail-native-tell--once (make-hash-table :test #'equal)))
     (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                (lambda (&rest args)
                  (push (cons 'line (apply #'format args)) told)))
               ((symbol-function 'smtpmail-native-quiet-warn)
                (lambda (text &rest _) (push (cons 'warning text) told))))
       ,@body)
     (nreverse told)))

(ert-deftest smtpmail-native-tell-tests-second-failure ()
  "The first failure is a line, the second one stays, once for a server."
  (let ((told
         (smtpmail-native-tell-tests--hear
           (dolist (tries '(1 2 3))
             (smtpmail-native-tell
              (smtpmail-native-tell-tests--entry
               (list :status 'ready :tries tries :next 4000000000
                     :text "busy"))))
           ;; The server takes one, and fails again.
           (smtpmail-native-tell-sent
            (smtpmail-native-tell-tests--entry '(:status sent)))
           (smtpmail-native-tell
            (smtpmail-native-tell-tests--entry
             (list :status 'ready :tries 4 :next 4000000000 :text "busy"))))))
    (should (equal '(line warning line line warning) (mapcar #'car told)))))

(ert-deftest smtpmail-native-tell-tests-suspect ()
  "A failure that looks like a mistake in the settings stays at once."
  (pcase-dolist
      (`(,how . ,receipt)
       '((warning :kind resolve :stage resolve
                  :text "Name or service not known")
         (line :kind resolve :stage resolve
               :text "Temporary failure in name resolution")
         (warning :kind tls :stage handshake
                  :text "An unexpected TLS packet was received.")
         (warning :kind timeout :stage greeting :text "no reply in time")
         (line :kind timeout :stage connect :text "no reply in time")
         (line :kind network :stage connect :text "Connection refused")
         (line :kind reply :stage rcpt :code 451 :text "greylisted")))
    (ert-info ((format "%S" receipt))
      (let* ((entry (smtpmail-native-tell-tests--entry '(:status ready)))
             (change (smtpmail-native-outcome-settle
                      entry (append '(:attempt 1) receipt) nil nil 100)))
        (setf (smtpmail-native-entry-state entry) change)
        (should (eq 'ready (plist-get change :status)))
        (should (equal (list how)
                       (mapcar #'car (smtpmail-native-tell-tests--hear
                                       (smtpmail-native-tell entry)))))))))

(provide 'smtpmail-native-tell-tests)
;;; smtpmail-native-tell-tests.el ends here
