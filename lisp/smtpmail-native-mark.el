;;; smtpmail-native-mark.el --- Several messages at once  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Marks of lines in the outbox, as in `ibuffer' and `package-menu': \">\" for what
;; the next command acts on, \"D\" for what \"x\" deletes.  What concerns several
;; messages is asked once.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'tabulated-list)
(require 'smtpmail-native-act)
(require 'smtpmail-native-draw)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-index)
(require 'smtpmail-native-react)

(defconst smtpmail-native-mark--mark ">" "The mark of what is acted on.")
(defconst smtpmail-native-mark--delete "D" "The mark of what is to be deleted.")

;;;; Marks

(defun smtpmail-native-mark--id ()
  "Return the id of the entry at point; signal an error if there is none."
  (or (tabulated-list-get-id) (user-error "No message on this line")))

(defun smtpmail-native-mark--set (id mark)
  "Give the entry ID, at point, the MARK, or none if that is nil."
  (if mark
      (puthash id mark smtpmail-native-draw-marks)
    (remhash id smtpmail-native-draw-marks))
  (smtpmail-native-draw-tag id))

(defun smtpmail-native-mark--line (mark)
  "Give the line at point, or the lines of the region, MARK, and go on."
  (if (use-region-p)
      (let ((end (region-end)))
        (save-excursion
          (goto-char (region-beginning))
          (while (and (< (point) end) (tabulated-list-get-id))
            (smtpmail-native-mark--set (tabulated-list-get-id) mark)
            (forward-line)))
        (deactivate-mark))
    (smtpmail-native-mark--set (smtpmail-native-mark--id) mark)
    (forward-line)))

(defun smtpmail-native-mark ()
  "Mark the message at point, or those in the region, for the next command."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-mark--line smtpmail-native-mark--mark))

(defun smtpmail-native-mark-for-deletion ()
  "Mark the message at point, or those in the region, to be deleted.
\\<smtpmail-native-outbox-mode-map>\\[smtpmail-native-mark-execute] deletes \
them."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-mark--line smtpmail-native-mark--delete))

(defun smtpmail-native-mark-remove ()
  "Remove the mark of the message at point, or of those in the region."
  (interactive nil smtpmail-native-outbox-mode)
  (smtpmail-native-mark--line nil))

(defun smtpmail-native-mark--redraw ()
  "Show the marks as they are now."
  (save-excursion
    (goto-char (point-min))
    (while (not (eobp))
      (when (tabulated-list-get-id)
        (smtpmail-native-draw-tag (tabulated-list-get-id)))
      (forward-line))))

(defun smtpmail-native-mark-remove-all ()
  "Remove all marks."
  (interactive nil smtpmail-native-outbox-mode)
  (clrhash smtpmail-native-draw-marks)
  (smtpmail-native-mark--redraw))

(defun smtpmail-native-mark--ids (mark)
  "Return the ids of the entries that have MARK, the oldest first."
  (let ((ids nil))
    (maphash (lambda (id its)
               (cond ((null (smtpmail-native-index-entry id))
                      (remhash id smtpmail-native-draw-marks))
                     ((equal its mark) (push id ids))))
             smtpmail-native-draw-marks)
    (sort ids #'string<)))

;;;; Acting on them

(defun smtpmail-native-mark--each (ids done function)
  "Call FUNCTION with each of IDS, and say how many it was DONE to, a participle.
One that fails keeps its mark, and does not end this."
  (let ((buffer (current-buffer))
        (count 0)
        (failure nil))
    (unwind-protect
        (dolist (id ids)
          (condition-case err
              (progn
                (funcall function id)
                (remhash id smtpmail-native-draw-marks)
                (setq count (1+ count)))
            ((smtpmail-native-error user-error)
             (setq failure (or failure (cadr err))))))
      (smtpmail-native-draw-update)
      (with-current-buffer buffer
        (smtpmail-native-mark--redraw)))
    (message "%d message%s %s%s" count (if (= count 1) "" "s") done
             (if failure
                 (format "; %d not: %s" (- (length ids) count) failure)
               ""))))

(defun smtpmail-native-mark-act (one done many)
  "Act on the marked messages, or on the one at point if there are none.
ONE is called with the id of a single one that has no mark.  For marked ones
MANY is called with all ids, and returns the function that is called with
each, or nil for none; DONE is the participle of what it does."
  (let* ((ids (smtpmail-native-mark--ids smtpmail-native-mark--mark))
         (function (and ids (funcall many ids))))
    (cond ((null ids) (funcall one (smtpmail-native-mark--id)))
          (function (smtpmail-native-mark--each ids done function)))))

(defun smtpmail-native-mark--number (ids)
  "Return how many IDS there are, with their noun."
  (format "%d message%s" (length ids) (if (cdr ids) "s" "")))

(defun smtpmail-native-mark-deleter (ids)
  "Return the function that deletes each of IDS, after a question, or nil."
  (and (yes-or-no-p (format "Delete %s without sending? "
                            (smtpmail-native-mark--number ids)))
       #'smtpmail-native-act-delete))

(defun smtpmail-native-mark-sender (ids)
  "Return the function that sends each of IDS, after a question, or nil.
One that may have been delivered is sent again only if you say so."
  (let* ((doubtful (seq-filter
                    (lambda (id)
                      (smtpmail-native-entry-doubt-p
                       (smtpmail-native-index-entry id)))
                    ids))
         (again (or (null doubtful)
                    (y-or-n-p
                     (format "%d of %s may already have been delivered.  \
Send %s again? "
                             (length doubtful)
                             (smtpmail-native-mark--number ids)
                             (if (cdr doubtful) "these" "it"))))))
    (lambda (id)
      (if (and (not again) (member id doubtful))
          (user-error "It may already have been delivered")
        (smtpmail-native-act-retry id (and again (member id doubtful) t))))))

(defun smtpmail-native-mark-execute ()
  "Delete the messages that are marked for deletion, after confirmation."
  (interactive nil smtpmail-native-outbox-mode)
  (let ((ids (smtpmail-native-mark--ids smtpmail-native-mark--delete)))
    (unless ids
      (user-error "No message is marked for deletion"))
    (let ((delete (smtpmail-native-mark-deleter ids)))
      (when delete
        (smtpmail-native-mark--each ids "deleted" delete)))))

(provide 'smtpmail-native-mark)
;;; smtpmail-native-mark.el ends here
