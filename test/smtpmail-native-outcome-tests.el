;;; smtpmail-native-outcome-tests.el --- What a receipt means for each  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Two recipients, all that can be known of each before an attempt, and all
;; that its receipt can say: the new state against a model that is written in
;; words of the promise, not of the code.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-outcome)

(defconst smtpmail-native-outcome-tests--now 1000000000.0
  "The time of these tests.")

(defconst smtpmail-native-outcome-tests--before
  '((nil . nil) (nil . refused) (nil . deferred) (nil . unknown)
    (refused . deferred) (refused . unknown) (deferred . deferred)
    (deferred . unknown) (unknown . unknown))
  "What can be known of two recipients before an attempt, in one order.
There is no attempt for recipients that are all refused.")

(defconst smtpmail-native-outcome-tests--answers
  '(nil (t 250) (delivered 250) (nil 450) (nil 550) (nil 0))
  "What a receipt can say of a recipient: whether it was taken, and the code.")

(defun smtpmail-native-outcome-tests--entry (before status hold doubt)
  "Return an entry of which BEFORE is known, with STATUS, HOLD and DOUBT."
  (smtpmail-native-entry-make
   :id "x"
   :envelope (list :recipients (mapcar #'car before)
                   :host "mail.example" :port 587
                   :created (- smtpmail-native-outcome-tests--now 60))
   :state (list :status status :hold hold :doubt doubt :settled 3
                :results (mapcar (pcase-lambda (`(,address . ,outcome))
                                   (list address outcome 250 "" "before"))
                                 (seq-filter #'cdr before)))))

(defun smtpmail-native-outcome-tests--receipt (answers more)
  "Return a receipt with ANSWERS, an alist by recipient, and MORE."
  (append (list :attempt 4 :text "x")
          more
          (list :recipients
                (mapcan (pcase-lambda (`(,address . ,answer))
                          (and answer
                               (list (list address (car answer) (cadr answer)
                                           "" "now"))))
                        answers))))

;;;; The model

(defun smtpmail-native-outcome-tests--counts-p (receipt)
  "Return non-nil if a refusal in RECEIPT is final for its recipient.
It is not where all recipients or none were to get the message."
  (or (eq (plist-get receipt :kind) 'ok)
      (plist-get receipt :in-doubt)
      (and (plist-get receipt :partial)
           (eq (plist-get receipt :stage) 'rcpt))))

(defun smtpmail-native-outcome-tests--fate (before answer receipt)
  "Return what is known of a recipient BEFORE and with ANSWER of RECEIPT."
  (pcase answer
    ((guard (not (smtpmail-native-outcome-tests--counts-p receipt))) before)
    (`(delivered ,_) 'sent)
    (`(t ,_) (cond ((plist-get receipt :in-doubt) 'unknown)
                   ((eq (plist-get receipt :kind) 'ok) 'sent)
                   (t before)))
    ('(nil 450) 'deferred)
    ('(nil 550) 'refused)
    (_ before)))

(defun smtpmail-native-outcome-tests--allowed (fates receipt stopped)
  "Return the statuses that are right for FATES, by RECEIPT, a list.
STOPPED is whether the user has said that nothing more is to be sent."
  (cond
   ((plist-get receipt :in-doubt) '(unknown))
   ((cl-every (lambda (fate) (eq fate 'sent)) fates) '(sent))
   ((and (eq (plist-get receipt :kind) 'ok)
         (not (memq 'sent fates)))
    '(unknown))                         ; taken, and nobody knows for whom
   ((and (cl-every (lambda (fate) (memq fate '(sent refused))) fates)
         (smtpmail-native-outcome-tests--counts-p receipt))
    '(refused))
   (stopped '(held refused))
   (t '(ready held refused))))

(defun smtpmail-native-outcome-tests--wrong (entry answers receipt cancelled)
  "Settle ENTRY by RECEIPT with ANSWERS and CANCELLED; say what is wrong."
  (let* ((state (smtpmail-native-entry-state entry))
         (stopped (or cancelled (eq (plist-get state :hold) 'user)))
         (change (smtpmail-native-outcome-settle
                  entry receipt cancelled '(:instance "i")
                  smtpmail-native-outcome-tests--now))
         (results (plist-get change :results))
         (fates (mapcar (pcase-lambda (`(,address . ,answer))
                          (smtpmail-native-outcome-tests--fate
                           (cadr (assoc address (plist-get state :results)))
                           answer receipt))
                        answers))
         (status (plist-get change :status)))
    (cond
     ((not (equal fates (mapcar (lambda (answer)
                                  (cadr (assoc (car answer) results)))
                                answers)))
      (list 'fates fates 'in change))
     ((not (memq status (smtpmail-native-outcome-tests--allowed
                         fates receipt stopped)))
      (list 'status status 'of
            (smtpmail-native-outcome-tests--allowed fates receipt stopped)))
     ((and (eq status 'ready)
           (cl-every (lambda (fate) (memq fate '(sent refused))) fates)
           (smtpmail-native-outcome-tests--counts-p receipt))
      "ready for nobody")
     ((and (eq status 'unknown) (not (plist-get change :doubt)))
      "a doubt that is not noted")
     ((and (plist-get state :doubt) (not (eq status 'sent))
           (plist-member change :doubt) (not (plist-get change :doubt)))
      "a doubt that is forgotten")
     ((and stopped (eq status 'held) (not (eq (plist-get change :hold) 'user)))
      "stopped by the user, and held for another reason"))))

(defun smtpmail-native-outcome-tests--each (function)
  "Call FUNCTION with each entry, answers, receipt and cancelled there can be."
  (pcase-dolist (`(,bob . ,carol) smtpmail-native-outcome-tests--before)
    (dolist (to-bob smtpmail-native-outcome-tests--answers)
      (dolist (to-carol smtpmail-native-outcome-tests--answers)
        (dolist (more '((:kind ok :stage end-of-data)
                        (:kind ok :stage end-of-data :more t)
                        (:kind reply :stage rcpt :code 550)
                        (:kind reply :stage rcpt :code 450 :partial t)
                        (:kind reply :stage rcpt :code 550 :partial t)
                        (:kind reply :stage end-of-data :code 451)
                        (:kind network :stage content)
                        (:kind ok :stage end-of-data :in-doubt t)
                        (:kind network :stage end-of-data :in-doubt t)
                        (:kind cancelled :stage rcpt)))
          (pcase-dolist (`(,status ,hold ,doubt ,cancelled)
                         '((ready nil nil nil) (ready nil nil t)
                           (held queue nil nil) (held user nil nil)
                           (ready nil t nil)))
            (let ((answers `(("b@x" . ,to-bob) ("c@x" . ,to-carol))))
              (funcall function
                       (smtpmail-native-outcome-tests--entry
                        `(("b@x" . ,bob) ("c@x" . ,carol))
                        status hold doubt)
                       answers
                       (smtpmail-native-outcome-tests--receipt answers more)
                       cancelled))))))))

(ert-deftest smtpmail-native-outcome-tests-recipients ()
  "All that two recipients and the user can come to."
  (let (wrong)
    (smtpmail-native-outcome-tests--each
     (lambda (entry answers receipt cancelled)
       (let ((how (smtpmail-native-outcome-tests--wrong
                   entry answers receipt cancelled)))
         (when how
           (push (list how (smtpmail-native-entry-state entry) receipt
                       cancelled)
                 wrong)))))
    (when wrong
      (ert-fail (list (length wrong) (last wrong))))))

(provide 'smtpmail-native-outcome-tests)
;;; smtpmail-native-outcome-tests.el ends here
