;;; smtpmail-native-entry-tests.el --- An entry of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What is read has the types that other code relies on.

;;; Code:

(require 'ert)
(require 'seq)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-entry-tests--good
  '((envelope :sender "" :recipients ("bob@example.org") :host "h" :port 25
              :stream nil :user nil :helo "x" :subject nil :message-id "<1@x>"
              :from "a" :fcc ("/x") :wishes (:release 5 :notify "NEVER")
              :created 5 :size 7 :origin nil :new-key (1 2))
    (state :status ready :hold nil :next 1.5 :text nil :settled 1 :tries 2
           :results (("bob@x" sent 250 "" "ok") ("x" deferred nil nil nil))
           :copy (:fcc ("/x") :gcc nil :function nil :handler message-output))
    (receipt :attempt 1 :kind ok :stage end-of-data :code 250 :enhanced ""
             :text nil :octets 5 :reply "ok" :recipients (("b@x" t 250 "" "ok"))
             :in-doubt nil))
  "Plists of each kind with good types.")

(ert-deftest smtpmail-native-entry-tests-types ()
  "Good plists are good, and a wrong type of any property is named."
  (pcase-dolist (`(,kind . ,plist) smtpmail-native-entry-tests--good)
    (should-not (smtpmail-native-entry-type-problem plist kind))
    (dolist (object '(nil 5 "x" (:a) (1 2 . 3) (:status . ready)))
      (should (smtpmail-native-entry-type-problem object kind)))
    (pcase-dolist (`(,key . ,type)
                   (cdr (assq kind smtpmail-native-entry--types)))
      (dolist (value (append
                      (list (expt 2 80) 1.0e+INF 0.0e+NaN [1] '(1 . 2))
                      (pcase type
                        ('results '((("x" sent "250")) (("x" "sent"))
                                    ((5 sent)) ((nil sent))))
                        ('copy '((:fcc "x") (:fcc (5)) (:gcc x)
                                 (:handler "x") (:function (lambda ()))))
                        ('wishes '((:release "x")))
                        (_ '(("x" 5))))))
        (let ((problem (smtpmail-native-entry-type-problem
                        (plist-put (copy-sequence plist) key value) kind)))
          (unless (and (stringp problem)
                       (string-match-p (regexp-quote (symbol-name key))
                                       problem))
            (ert-fail (list kind key value problem))))))))

(ert-deftest smtpmail-native-entry-tests-required ()
  "What an entry cannot do without is asked for."
  (pcase-dolist (`(,kind . ,keys)
                 '((envelope :sender :recipients :host :port)
                   (state :status) (receipt :kind)))
    (let ((plist (alist-get kind smtpmail-native-entry-tests--good)))
      (dolist (key keys)
        (should (smtpmail-native-entry-type-problem
                 (plist-put (copy-sequence plist) key nil) kind))))))

(ert-deftest smtpmail-native-entry-tests-stock ()
  "The form that smtpmail reads holds the envelope, and other ones are errors."
  (let ((envelope (alist-get 'envelope smtpmail-native-entry-tests--good)))
    (should (equal (alist-get 'smtpmail-native-envelope
                              (smtpmail-native-entry-stock-variables
                               (smtpmail-native-entry-stock-form envelope)))
                   envelope)))
  (should (equal (smtpmail-native-entry-stock-variables
                  '(setq a '("b") c 25 d 'plain e))
                 '((a "b") (c . 25) (d . plain) (e))))
  (dolist (form '(nil 5 (progn) (setq a . b) "x"))
    (should-error (smtpmail-native-entry-stock-variables form))))

(provide 'smtpmail-native-entry-tests)
;;; smtpmail-native-entry-tests.el ends here
