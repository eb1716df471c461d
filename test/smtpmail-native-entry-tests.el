;;; smtpmail-native-entry-tests.el --- An entry of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What is read has the types that other code relies on.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'seq)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-entry-tests--good
  '((envelope :sender "" :recipients ("bob@example.org") :host "h" :port 25
              :stream nil :user nil :helo "x" :subject nil :message-id "<1@x>"
              :from "a" :fcc ("/x") :wishes (:release 5 :notify "NEVER")
              :created 5 :size 7 :origin nil :new-key (1 2)
              :identity (:user "a" :source classic :login t))
    (state :status ready :hold nil :next 1.5 :since 2 :text nil
           :by (:instance "i" :user nil :source nil :why refused) :settled 1 :tries 2
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
                        ('who '("x" (:user 5) (:instance x)))
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

;;;; Predicates

(defun smtpmail-native-entry-tests--each (function)
  "Call FUNCTION with an entry for each combination of what states have."
  (dolist (status '(ready held refused unknown sent))
    (dolist (doubt '(nil t))
      (dolist (hold '(nil queue user password certificate settings expired
                          interrupted error))
        (dolist (by '(nil (:instance "other" :why refused) (:instance "me")))
          (dolist (next '(nil 900 1100 99999999))
            (dolist (undo '(nil t))
              (dolist (release '(nil 1500))
                (funcall
                 function
                 (smtpmail-native-entry-make
                  :id "x"
                  :envelope (list :recipients '("bob@example.org") :host "h"
                                  :port 25 :created 900
                                  :wishes (and release
                                               (list :release release)))
                  :state (list :status status :doubt doubt :hold hold :by by
                               :next next :undo undo)))))))))))

(defun smtpmail-native-entry-tests--wrong (entry)
  "Return what the predicates say of ENTRY at the time 1000 that cannot be."
  (let* ((now 1000)
         (state (smtpmail-native-entry-state entry))
         (due (smtpmail-native-entry-due-p entry now))
         (next (smtpmail-native-entry-next-look entry now))
         (flush (smtpmail-native-entry-flushable-p entry))
         (sends (or due flush
                    (smtpmail-native-entry-locked-p entry)
                    (smtpmail-native-entry-untrusted-p entry)
                    (smtpmail-native-entry-queued-p entry)
                    (smtpmail-native-entry-other-way-p entry "me"))))
    (cond
     ((and (smtpmail-native-entry-doubt-p entry) (or sends next))
      "sent without a word although it may have been delivered")
     ((and (smtpmail-native-entry-doubt-p entry)
           (not (eq (plist-get state :status) 'sent))
           (not (smtpmail-native-entry-needs-user-p entry)))
      "in doubt, and no one is told")
     ((and due (not (eq (plist-get state :status) 'ready)))
      "due, but not ready")
     ((and due (not (eql next now))) "due, but no look")
     ((and next (> next (+ now smtpmail-native-entry-longest-wait 1))
           (not (smtpmail-native-entry-release-time entry now)))
      "a wait that is longer than any")
     ((and (smtpmail-native-entry-release-time entry now)
           (or due (and (eq (plist-get state :status) 'ready) flush)
               (smtpmail-native-entry-undo-p entry)))
      "sent before its time, or undone though it is scheduled")
     ((and (smtpmail-native-entry-needs-user-p entry) (or due flush)
           (not (eq (plist-get state :hold) 'expired)))
      "needs the user, and is sent by itself")
     ((and (smtpmail-native-entry-other-way-p entry "me")
           (smtpmail-native-entry-by-p entry "me"))
      "tried again by the session that could not"))))

(ert-deftest smtpmail-native-entry-tests-predicates ()
  "What holds for every state that there can be."
  (let ((smtpmail-native-send-later 'outbox)
        (smtpmail-native-undo-seconds 10)
        (count 0))
    (cl-letf (((symbol-function 'float-time) (lambda (&rest _) 1000.0)))
     (smtpmail-native-entry-tests--each
      (lambda (entry)
       (setq count (1+ count))
       (let ((wrong (smtpmail-native-entry-tests--wrong entry)))
         (when wrong
           (ert-fail (list wrong (smtpmail-native-entry-state entry)))))
       ;; One that is damaged is sent by no one.
       (setf (smtpmail-native-entry-problem entry) "x")
       (when (or (smtpmail-native-entry-due-p entry 1000)
                 (smtpmail-native-entry-flushable-p entry)
                 (smtpmail-native-entry-locked-p entry)
                 (not (smtpmail-native-entry-needs-user-p entry)))
         (ert-fail (list "damaged" (smtpmail-native-entry-state entry)))))))
    (should (> count 4000))))

(ert-deftest smtpmail-native-entry-tests-clock ()
  "A time that a wrong clock has set is now; that of an undo may be longer."
  (let ((smtpmail-native-undo-seconds 86400)
        (entry (smtpmail-native-entry-make
                :id "x" :envelope '(:recipients ("b@x") :created 0))))
    (pcase-dolist (`(,state ,due)
                   '(((:status ready :next 3000) nil)
                     ((:status ready :next 99999999) t)
                     ((:status ready :next 80000) t)
                     ((:status ready :next 80000 :undo t) nil)
                     ((:status ready :next 99999999 :undo t) t)))
      (setf (smtpmail-native-entry-state entry) state)
      (ert-info ((format "%S" state))
        (should (eq (and (smtpmail-native-entry-due-p entry 1000) t) due))))))

(ert-deftest smtpmail-native-entry-tests-old ()
  "The age of an entry counts from its time, or from the user's last word."
  (let ((smtpmail-native-expire 100))
    (pcase-dolist (`(,envelope ,state ,old)
                   '(((:created 0) nil t)
                     ((:created 950) nil nil)
                     ((:created 0 :wishes (:release 950)) nil nil)
                     ((:created 0 :wishes (:release 500)) nil t)
                     ((:created 0) (:since 950) nil)
                     ((:created 0) (:since 100) t)))
      (let ((entry (smtpmail-native-entry-make :id "x" :envelope envelope
                                               :state state)))
        (should (eq (smtpmail-native-entry-old-p entry 1000) old))
        (let ((smtpmail-native-expire nil))
          (should-not (smtpmail-native-entry-old-p entry 1000)))))))

(provide 'smtpmail-native-entry-tests)
;;; smtpmail-native-entry-tests.el ends here
