;;; smtpmail-native-recorder.el --- What a scene does to its files  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Runs a scene of test/power/scenes.el in an Emacs whose calls on files are
;; recorded by test/c/recorder.c, and reads the record.  The server appends its
;; steps to the same file, in the order in which they happen.

;;; Code:

(require 'seq)
(require 'smtpmail-native-sink)

(defun smtpmail-native-recorder--line (line)
  "Return LINE of a record as an event, a list.
That is (OPERATION INODE NAME . ARGUMENTS), (mark NAME), or (server STEP
MESSAGE-ID)."
  (pcase (split-string line " ")
    (`("f" "mark" ,name) (list 'mark name))
    (`("f" ,operation ,inode . ,rest)
     (cons (intern operation) (cons (string-to-number inode) rest)))
    (`(,_ ,step . ,rest) (cons 'server (cons step rest)))))

(defun smtpmail-native-recorder-read (file)
  "Return the events of the record FILE, in their order."
  (with-temp-buffer
    (insert-file-contents-literally file)
    (mapcar #'smtpmail-native-recorder--line
            (split-string (buffer-string) "\n" t))))

(defun smtpmail-native-recorder-emacs (folder port &rest args)
  "Run a batch Emacs with ARGS, recorded in FOLDER, to mail to PORT.
Return its exit status and what it said, (STATUS . TEXT)."
  (apply #'smtpmail-native-test-preloaded "recorder.so"
         (list (concat "RECORD_ROOT=" (expand-file-name "disk" folder))
               (concat "RECORD_LOG=" (expand-file-name "record" folder))
               (format "SCENES_PORT=%d" port)
               (concat "HOME=" folder))
         t "-L" "test/power" "-l" "scenes" args))

(defun smtpmail-native-recorder-run (folder port scene)
  "Do the forms SCENE in an Emacs that is recorded in FOLDER, to mail to PORT."
  (pcase (smtpmail-native-recorder-emacs
          folder port "--eval" (prin1-to-string `(scenes-run ',scene)))
    (`(,(pred (not (eql 0))) . ,text) (error "The scene failed:\n%s" text))))

(defun smtpmail-native-recorder-scene (options &rest scene)
  "Do the forms SCENE in a recorded Emacs, and return the events.
OPTIONS are those of the server."
  (let* ((folder (file-name-as-directory (make-temp-file "smtpmail-native" t)))
         (record (expand-file-name "record" folder))
         (sink nil))
    (unwind-protect
        (let ((started (apply #'smtpmail-native-sink-start folder
                              "--log" record options)))
          (setq sink (car started))
          (smtpmail-native-recorder-run folder (cdr started) scene)
          (smtpmail-native-recorder-read record))
      (when sink
        (delete-process sink)
        (kill-buffer (process-buffer sink)))
      (delete-directory folder t))))

(provide 'smtpmail-native-recorder)
;;; smtpmail-native-recorder.el ends here
