;;; smtpmail-native-power-tests.el --- What is safe when something is told  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Scenes are recorded, and looked at as if the power failed at the moment of
;; each mark, with nothing left but what had been synced.

;;; Code:

(require 'ert)
(require 'smtpmail-native-recorder)
(add-to-list 'load-path (expand-file-name "test/power"
                                          smtpmail-native-test-folder))
(require 'model)

(defun smtpmail-native-power-tests--safe (events mark)
  "Return the tree that is safe when EVENTS have come to MARK."
  (let ((model (make-model))
        (rest events))
    (while (and rest (not (equal (car rest) (list 'mark mark))))
      (model-apply model (pop rest)))
    (unless rest
      (error "There is no mark %s" mark))
    (model-safe-tree model)))

(defun smtpmail-native-power-tests--entries (tree)
  "Return the entries in the queue of TREE, alists of (FILE . CONTENT)."
  (let ((entries nil))
    (pcase-dolist (`(,name . ,content) tree)
      (when (string-match "\\`mail/outbox/queue/\\([^/]+\\)/\\(.*\\)" name)
        (push (cons (match-string 2 name) content)
              (alist-get (match-string 1 name) entries nil nil #'equal))))
    (mapcar #'cdr entries)))

(defun smtpmail-native-power-tests--whole-p (entry)
  "Return non-nil if ENTRY, an alist, has all files of a message with a draft."
  (and (string-suffix-p "\nHello\n" (alist-get "message" entry nil nil #'equal))
       (string-match-p "^.*smtpmail-native-envelope"
                       (alist-get "message.el" entry nil nil #'equal))
       (string-match-p ":status" (alist-get "state" entry nil nil #'equal))
       (string-suffix-p "\nHello\n" (alist-get "draft" entry nil nil #'equal))))

(defun smtpmail-native-power-tests--state (entry)
  "Return the state of ENTRY, an alist, that is safe."
  (car (read-from-string (alist-get "state" entry nil nil #'equal))))

(ert-deftest smtpmail-native-power-tests-returned ()
  "All of a message is safe when the command that sends it has returned.
So it is for the first message ever, one whose server is silent, and one that
waits after it."
  (dolist (options '(nil ("--stall" "1000" "--silence" "60000")))
    (let ((events (smtpmail-native-recorder-scene
                   options
                   '(scenes-send "a" "Fcc: /nowhere/sent\n")
                   '(setq smtpmail-native-max-sessions 1)
                   '(scenes-send "b") '(scenes-send "c")
                   '(let ((kill-emacs-query-functions nil)) (kill-emacs 0)))))
      (dolist (mark '("returned-a" "returned-b" "returned-c"))
        (let ((entries (smtpmail-native-power-tests--entries
                        (smtpmail-native-power-tests--safe events mark))))
          ;; It may have been sent, and deleted, by then.
          (should (or entries (null options)))
          (dolist (entry entries)
            (should (smtpmail-native-power-tests--whole-p entry)))))
      (when options
        (should (= 3 (length (smtpmail-native-power-tests--entries
                              (smtpmail-native-power-tests--safe
                               events "returned-c")))))
        (should (string-match-p
                 "/nowhere/sent"
                 (alist-get "state"
                            (car (smtpmail-native-power-tests--entries
                                  (smtpmail-native-power-tests--safe
                                   events "returned-a")))
                            nil nil #'equal)))))))

(ert-deftest smtpmail-native-power-tests-word ()
  "What the user has done to a message is safe when the command returns."
  (let ((events (smtpmail-native-recorder-scene
                 nil '(setq smtpmail-native-undo-seconds 600)
                 '(scenes-send "a")
                 '(scenes-act "a" #'smtpmail-native-act-hold "held-")
                 '(scenes-act "a" #'smtpmail-native-act-delete "deleted-")
                 '(scenes-send "b")
                 '(scenes-as-user (lambda () (save-window-excursion
                                               (smtpmail-native-undo-send))))
                 '(scenes-mark "undone-b"))))
    (let ((entries (smtpmail-native-power-tests--entries
                    (smtpmail-native-power-tests--safe events "held-a"))))
      (should (= 1 (length entries)))
      (should (eq (plist-get (smtpmail-native-power-tests--state (car entries))
                             :hold)
                  'user)))
    (dolist (mark '("deleted-a" "undone-b"))
      (should-not (smtpmail-native-power-tests--entries
                   (smtpmail-native-power-tests--safe events mark))))))

(defun smtpmail-native-power-tests--check-order (events)
  "Check that nothing in EVENTS is done before what must be safe is so."
  (let ((model (make-model))
        (last-unlinked (make-hash-table :test #'equal)))
    (dolist (event events)
      (pcase event
        ;; A file is synced before it takes the place of another one.
        (`(rename ,inode ,(pred (string-suffix-p ".new")) ,_)
         (pcase-let ((`(,now . ,safe) (gethash inode (model-contents model))))
           (should (equal now safe))))
        ;; An entry is not touched before its rename to the trash is safe.
        (`(unlink ,_ ,(and name (pred (string-prefix-p "mail/outbox/trash/"))))
         (let ((directory (model--parent name)))
           (should-not (seq-find (lambda (change)
                                   (equal (model-change-to change) directory))
                                 (model-unsafe model)))
           (should-not (equal (gethash directory last-unlinked) "receipt"))
           (puthash directory (file-name-nondirectory name) last-unlinked))))
      (model-apply model event))
    last-unlinked))

(ert-deftest smtpmail-native-power-tests-order ()
  "States are synced before their rename; a receipt goes last, and late."
  (let ((unlinked (smtpmail-native-power-tests--check-order
                   (smtpmail-native-recorder-scene
                    '("--defer" "200" "--seed" "3")
                    '(setq smtpmail-native-outcome-back-off '(0))
                    '(scenes-send "a") '(scenes-send "b") '(scenes-send "c")
                    '(scenes-sent)
                    '(setq smtpmail-native-undo-seconds 600)
                    '(scenes-send "d")
                    '(scenes-act "d" #'smtpmail-native-act-delete
                                 "deleted-")
                    '(scenes-settle)))))
    (should (= (hash-table-count unlinked) 4))
    (should (= 3 (seq-count (lambda (name) (equal name "receipt"))
                            (hash-table-values unlinked))))))

(ert-deftest smtpmail-native-power-tests-batch-queue ()
  "A script hears that the disk did not take what it has put into the outbox."
  (dolist (fails '("message" "queue" "outbox" nil))
    (let* ((folder (file-name-as-directory
                    (make-temp-file "smtpmail-native" t)))
           (message (expand-file-name "message" folder))
           (process-environment
            (append (and fails (list (concat "RECORD_FAIL=" fails)))
                    process-environment)))
      (unwind-protect
          (progn
            (make-directory (expand-file-name "disk" folder))
            (write-region "To: bob@example.org\n\nHello\n" nil message
                          nil 'silent)
            (let ((ran (smtpmail-native-recorder-emacs
                        folder 25 "-f" "smtpmail-native-batch-send" "--" "--queue"
                        "-t" (concat "--file=" message))))
              (should (eql (car ran) (if fails 74 0)))
              (when fails
                (should (string-match-p "Input/output error" (cdr ran))))
              ;; The script still has it.
              (let ((smtpmail-native-outbox-directory
                     (expand-file-name "disk/mail/outbox/" folder)))
                (should (= (length (smtpmail-native-outbox-ids))
                           (if fails 0 1))))))
        (delete-directory folder t)))))

(provide 'smtpmail-native-power-tests)
;;; smtpmail-native-power-tests.el ends here
