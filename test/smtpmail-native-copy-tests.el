;;; smtpmail-native-copy-tests.el --- The copy of a mail that was sent  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Fcc and Gcc are filed when the server has accepted the mail, not before.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defconst smtpmail-native-copy-tests--slow
  (smtpmail-native-test-script
   (smtpmail-native-test-ehlo)
   (butlast smtpmail-native-test-mail 3) "pause 300" "S: 250 2.0.0 queued"
   "C: QUIT" "S: 221 bye")
  "The same, but the last answer takes a moment.")

(ert-deftest smtpmail-native-copy-tests-fcc-after ()
  "Fcc of `message-mode' is filed when the server has accepted, not before."
  (smtpmail-native-test-with-mode smtpmail-native-copy-tests--slow
    (let ((copy (expand-file-name "copy" folder)))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Fcc: %s\n" copy)))
        (should (equal (smtpmail-native-test-text copy) ""))
        (smtpmail-native-test-drained))
      (should (string-match-p "^Subject: test$"
                              (smtpmail-native-test-text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-handler ()
  "The handler of the time of sending is used, as mu4e sets it."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((filed nil))
      (smtpmail-native-test-in-background
        (let ((message-fcc-handler-function
               (lambda (file) (setq filed (list file (buffer-string))))))
          (kill-buffer (smtpmail-native-test-send-message
                        "Fcc: /sent\n")))
        (should-not filed)
        (smtpmail-native-test-drained))
      (should (equal (car filed) "/sent"))
      (should (string-match-p "^Hello$" (cadr filed)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-rebound ()
  "A program that rebinds `message-do-fcc' around the sending, as notmuch does."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((filed nil)
          (original (symbol-function 'message-do-fcc)))
      (smtpmail-native-test-in-background
        (cl-letf (((symbol-function 'message-do-fcc)
                   (lambda () (setq filed (message-fetch-field "subject")))))
          (kill-buffer (smtpmail-native-test-send-message)))
        (should-not filed)
        (should (eq (symbol-function 'message-do-fcc) original))
        (smtpmail-native-test-drained))
      (should (equal filed "test"))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-gcc ()
  "A Gcc in `message-sent-hook' waits, too."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((filed nil))
      (cl-letf (((symbol-function 'gnus-inews-do-gcc)
                 (lambda (&rest _)
                   (setq filed (message-fetch-field "gcc")))))
        (let ((message-sent-hook '(gnus-inews-do-gcc)))
          (smtpmail-native-test-in-background
            (kill-buffer (smtpmail-native-test-send-message
                          "Gcc: nnml:sent\n"))
            (should-not filed)
            (smtpmail-native-test-drained))
          (should (equal filed "nnml:sent")))
        (smtpmail-native-copy-release))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-fails ()
  "A copy that cannot be filed is a warning, and no failure to send."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((warnings nil))
      (cl-letf (((symbol-function 'smtpmail-native-quiet-warn)
                 (lambda (text &rest _) (push text warnings))))
        (smtpmail-native-test-in-background
          (let ((message-fcc-handler-function (lambda (_) (error "Disk full"))))
            (kill-buffer (smtpmail-native-test-send-message
                          "Fcc: /sent\n")))
          (smtpmail-native-test-drained)))
      (should (string-match-p "could not file a copy: .*Disk full" (car warnings)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-fcc-after-restart ()
  "A later Emacs files the copy from the draft."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((copy (expand-file-name "copy" folder))
          (smtpmail-queue-mail t))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Fcc: %s\n" copy))))
      ;; As good as another Emacs: this one has forgotten.
      (clrhash smtpmail-native-copy--kept)
      (smtpmail-native-act-flush)
      (smtpmail-native-test-drained)
      (should (string-match-p "^Subject: test$"
                              (smtpmail-native-test-text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-draft-secret ()
  "The draft of a mail that is to be encrypted does not get to the disk."
  (smtpmail-native-test-with-mode '("close")
    (let ((smtpmail-queue-mail t)
          (id nil))
      (with-temp-buffer
        (message-mode)
        (insert "To: bob@example.org\nFcc: /x\nMessage-ID: <1@x>\n"
                mail-header-separator
                "\n<#secure method=pgpmime mode=signencrypt>\nSecret\n")
        (smtpmail-native-test-in-background
          (setq id (plist-get
                    (smtpmail-native-queue-send
                     (smtpmail-native-message-prepare) 'queue)
                    :id)))
        (smtpmail-native-copy-expect id '("<1@x>" nil))
        (message-do-fcc))
      (let ((entry (smtpmail-native-outbox-get id)))
        (should (plist-get (smtpmail-native-entry-state entry) :copy))
        (should-not (smtpmail-native-outbox-draft entry))))))

(ert-deftest smtpmail-native-copy-tests-rmail-handler ()
  "No handler of Emacs asks whether to make a file that is not there."
  (dolist (handler '(nil rmail-output message-output))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (let ((copy (expand-file-name "new/copy" folder))
            (message-fcc-handler-function handler))
        (smtpmail-native-test-in-background
          (kill-buffer (smtpmail-native-test-send-message
                        (format "Fcc: %s\n" copy)))
          (smtpmail-native-test-drained))
        (should (string-match-p "^Hello$" (smtpmail-native-test-text copy)))
        (smtpmail-native-test-verdict server)))))

(ert-deftest smtpmail-native-copy-tests-several ()
  "A mail may have several Fcc fields, also when another Emacs files it."
  (dolist (forget '(nil t))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (let ((one (expand-file-name "one" folder))
            (two (expand-file-name "two" folder))
            (smtpmail-queue-mail t))
        (smtpmail-native-test-in-background
          (kill-buffer (smtpmail-native-test-send-message
                        (format "Fcc: %s\nFcc: %s\n" one two))))
        (when forget
          (clrhash smtpmail-native-copy--kept))
        ;; It may have been lost with the power; the draft has it, too.
        (when (eq forget 'plan)
          (let ((entry (smtpmail-native-outbox-claim
                        (car (smtpmail-native-outbox-list)))))
            (smtpmail-native-outbox-set entry :copy nil)
            (smtpmail-native-outbox-release entry)
            (smtpmail-native-outbox-wait entry nil)))
        (smtpmail-native-act-flush)
        (smtpmail-native-test-drained)
        (dolist (file (list one two))
          (should (string-match-p "^Hello$" (smtpmail-native-test-text file))))
        (smtpmail-native-test-verdict server)))))

(defmacro smtpmail-native-copy-tests--warnings (&rest body)
  "Run BODY and return the warnings, one text."
  (declare (indent 0) (debug t))
  `(let ((warnings nil))
     (cl-letf (((symbol-function 'smtpmail-native-quiet-warn)
                (lambda (text &rest _) (push text warnings))))
       ,@body)
     (mapconcat #'identity warnings "\n")))

(defun smtpmail-native-copy-tests--unfiled ()
  "Return the text of the only mail that was set aside."
  (let ((files (directory-files
                (expand-file-name "unfiled" smtpmail-native-outbox-directory)
                t "\\.eml\\'")))
    (should (= (length files) 1))
    (should (= (file-modes (car files)) #o600))
    (smtpmail-native-test-text (car files))))

(ert-deftest smtpmail-native-copy-tests-question ()
  "A handler that asks is told that nobody is there; the mail is kept."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((told
           (smtpmail-native-copy-tests--warnings
             (smtpmail-native-test-in-background
               (let ((message-fcc-handler-function
                      (lambda (_file) (read-string "Which account? "))))
                 (kill-buffer (smtpmail-native-test-send-message
                               "Fcc: /sent\n")))
               (smtpmail-native-test-drained)))))
      (should (string-match-p "could not file a copy: .*User interaction while \
inhibited\\.  The message is saved in " told))
      (should (string-match-p "^Hello$"
                              (smtpmail-native-copy-tests--unfiled)))
      (smtpmail-native-test-verdict server))))

(defvar smtpmail-native-copy-tests--filed nil
  "What the handlers of these tests have filed.")

(defun smtpmail-native-copy-tests--handler (file)
  "File the current buffer as FILE, as the handler of mu4e does."
  (push (cons file (buffer-string)) smtpmail-native-copy-tests--filed))

(defun smtpmail-native-copy-tests--do-fcc ()
  "File the Fcc fields of the current buffer, as that of notmuch does."
  (push (cons (message-fetch-field "fcc") message-encoded-mail-cache)
        smtpmail-native-copy-tests--filed))

(defun smtpmail-native-copy-tests--send (header &optional handler forget)
  "Queue a mail with HEADER, and flush.
HANDLER is the local one of its buffer.  With FORGET, be another Emacs when
it is flushed.  Return the warnings."
  (setq smtpmail-native-copy-tests--filed nil)
  (smtpmail-native-copy-tests--warnings
    (let ((message-setup-hook
           (and handler
                (list (lambda ()
                        (setq-local message-fcc-handler-function handler)))))
          (smtpmail-queue-mail t))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message header))))
    (should-not smtpmail-native-copy-tests--filed)
    (when forget
      (clrhash smtpmail-native-copy--kept))
    (let ((smtpmail-native-copy-functions
           '(smtpmail-native-copy-tests--handler no-such-handler-4711)))
      (smtpmail-native-act-flush)
      (smtpmail-native-test-drained))))

(ert-deftest smtpmail-native-copy-tests-local-handler ()
  "A handler that is local to the buffer, as that of mu4e, files in any Emacs."
  (dolist (forget '(nil t))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (should (equal (smtpmail-native-copy-tests--send
                      "Fcc: /maildir/1:2,S\n"
                      #'smtpmail-native-copy-tests--handler forget)
                     ""))
      (should (equal (mapcar #'car smtpmail-native-copy-tests--filed)
                     '("/maildir/1:2,S")))
      (let ((text (cdar smtpmail-native-copy-tests--filed)))
        (should (string-match-p "\\`\\(?:.*\n\\)+\nHello\n\\'" text))
        (should-not (string-match-p "Fcc\\|^--text" text)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-handler-gone ()
  "Where the handler is not there any more, the mail is kept, not misfiled."
  (dolist (handler (list (lambda (_file) (ignore)) 'no-such-handler-4711))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (let ((file (expand-file-name "maildir" folder)))
        (should (string-match-p "could not file a copy"
                                (smtpmail-native-copy-tests--send
                                 (format "Fcc: %s\n" file) handler t)))
        (should-not (file-exists-p file))
        (should (string-match-p "^Hello$"
                                (smtpmail-native-copy-tests--unfiled))))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-rebound-restart ()
  "The function that a program has put in place of `message-do-fcc' counts."
  (dolist (forget '(nil t))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (setq smtpmail-native-copy-tests--filed nil)
      (let ((smtpmail-queue-mail t))
        (smtpmail-native-test-in-background
          (cl-letf (((symbol-function 'message-do-fcc)
                     #'smtpmail-native-copy-tests--do-fcc))
            (kill-buffer (smtpmail-native-test-send-message
                          "Fcc: sent +sent\n")))))
      (should-not smtpmail-native-copy-tests--filed)
      (when forget
        (clrhash smtpmail-native-copy--kept))
      (let ((smtpmail-native-copy-functions
             '(smtpmail-native-copy-tests--do-fcc)))
        (smtpmail-native-act-flush)
        (smtpmail-native-test-drained))
      (should (equal (caar smtpmail-native-copy-tests--filed)
                     "sent +sent"))
      (should-not (file-exists-p "sent +sent"))
      (should (string-match-p "^Hello$"
                              (cdar smtpmail-native-copy-tests--filed)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-cells ()
  "Whatever is rebound within whatever, all cells are as they were."
  (let ((original (symbol-function 'message-do-fcc)))
    (with-temp-buffer
      (smtpmail-native-copy-expect "1" '("<1@x>" nil))
      (should-not (eq (symbol-function 'message-do-fcc) original))
      (cl-letf (((symbol-function 'message-do-fcc) #'ignore))
        (smtpmail-native-copy-expect "2" '("<2@x>" nil)))
      (smtpmail-native-copy-expect "3" '("<3@x>" nil))
      (smtpmail-native-copy-release))
    (should (eq (symbol-function 'message-do-fcc) original))))

(ert-deftest smtpmail-native-copy-tests-never-filed ()
  "Where nobody comes to file anything, the cells are put back in a moment."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((original (symbol-function 'message-do-fcc))
          (smtpmail-native-copy--seconds 0.2))
      (smtpmail-native-test-in-background
        (with-temp-buffer
          (smtpmail-native-test-insert)
          (smtpmail-send-it)))
      (should-not (eq (symbol-function 'message-do-fcc) original))
      (smtpmail-native-test-wait
       (lambda () (eq (symbol-function 'message-do-fcc) original)))
      (smtpmail-native-test-drained)
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-no-message-id ()
  "A mail that gets its Message-ID from us is known all the same."
  (smtpmail-native-test-with-mode smtpmail-native-copy-tests--slow
    (let ((copy (expand-file-name "copy" folder))
          (message-required-mail-headers '(From Subject Date)))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Fcc: %s\n" copy)))
        (should (equal (smtpmail-native-test-text copy) ""))
        (smtpmail-native-test-drained))
      (should (string-match-p "^Hello$" (smtpmail-native-test-text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-as-sent ()
  "Another Emacs files what was sent, beside it Bcc, and encodes nothing anew."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 250 ok" "C: RCPT *" "S: 250 ok" (nthcdr 4 smtpmail-native-test-mail))
    (let ((encoded 0))
      (cl-letf (((symbol-function 'message-encode-message-body)
                 (let ((encode (symbol-function 'message-encode-message-body)))
                   (lambda ()
                     (setq encoded (1+ encoded))
                     (funcall encode)))))
        (should (equal (smtpmail-native-copy-tests--send
                        "Bcc: carol@example.org\nFcc: /sent\n"
                        #'smtpmail-native-copy-tests--handler t)
                       "")))
      (should (= encoded 1)))
    (should (string-match-p "^Bcc: carol@example.org$"
                            (cdar smtpmail-native-copy-tests--filed)))
    (smtpmail-native-test-verdict server)
    (should-not (string-match-p "carol"
                                (smtpmail-native-test-delivered folder)))))

(ert-deftest smtpmail-native-copy-tests-secret-restart ()
  "Of an encrypted mail another Emacs files what was sent, nothing in clear."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (cl-letf (((symbol-function 'smtpmail-native-copy--secret-p)
               (lambda () t)))
      (should (equal (smtpmail-native-copy-tests--send
                      "Fcc: /sent\n" #'smtpmail-native-copy-tests--handler t)
                     "")))
    (should (string-match-p "^Hello$"
                            (cdar smtpmail-native-copy-tests--filed)))
    (smtpmail-native-test-verdict server)))

(defvar gnus-active-hashtb)
(defvar gnus-newsrc-hashtb)
(defvar gnus-opened-servers)
(defvar gnus-select-method)
(defvar gnus-server-alist)
(defvar nnfolder-active-file)
(defvar nnfolder-directory)
(defvar nnfolder-group-alist)
(declare-function gnus-make-hashtable "gnus-util" (&optional size))

(ert-deftest smtpmail-native-copy-tests-gcc-folder ()
  "Gnus itself files a Gcc in a folder when the server has accepted."
  (require 'gnus-msg)
  (require 'nnfolder)
  (smtpmail-native-test-with-mode smtpmail-native-copy-tests--slow
    (let* ((nnfolder-directory (expand-file-name "mail/" folder))
           (nnfolder-active-file (expand-file-name "active" folder))
           (nnfolder-group-alist nil)
           (sent (expand-file-name "sent" nnfolder-directory))
           (gnus-active-hashtb (gnus-make-hashtable 9))
           (gnus-newsrc-hashtb (gnus-make-hashtable 9))
           (gnus-opened-servers nil)
           (gnus-select-method '(nnnil ""))
           (gnus-server-alist
            `(("nnfolder:t" nnfolder "t"
               (nnfolder-directory ,nnfolder-directory)
               (nnfolder-active-file ,nnfolder-active-file))))
           (message-sent-hook '(gnus-inews-do-gcc)))
      (make-directory nnfolder-directory)
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      "Gcc: nnfolder+t:sent\n"))
        (should-not (file-exists-p sent))
        (smtpmail-native-test-drained))
      (should (string-match-p "^Hello$" (smtpmail-native-test-text sent)))
      (should-not (string-match-p "^Gcc:" (smtpmail-native-test-text sent)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-copy-tests-gcc-restart ()
  "A Gcc that cannot be filed as Gnus is not there is told, the mail kept."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (should (string-match-p "Gnus is not running to file it in nnml:sent"
                            (smtpmail-native-copy-tests--send
                             "Gcc: nnml:sent\n" nil t)))
    (should (string-match-p "^Hello$" (smtpmail-native-copy-tests--unfiled)))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-copy-tests-mail-mode-unfiled ()
  "The Fcc of `mail-mode' that cannot be filed is kept, too."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((told (smtpmail-native-copy-tests--warnings
                  (with-temp-buffer
                    (smtpmail-native-test-insert
                     (format "Fcc: %s\n" (expand-file-name "no/such/folder"
                                                           folder)))
                    (smtpmail-send-it)))))
      (should (string-match-p "could not file a copy" told))
      (should (string-match-p "^Hello$" (smtpmail-native-copy-tests--unfiled))))
    (smtpmail-native-test-verdict server)))

;;;; What a killed Emacs, or a stranger, has left

(defun smtpmail-native-copy-tests--sent (plan &optional draft)
  "Return an entry, claimed, that was sent, and whose copies PLAN describes.
DRAFT is the message as it was written.  This Emacs knows nothing of it."
  (let ((entry (smtpmail-native-test-commit
                "Subject: x\nMessage-ID: <1@x>\n\nHello\n" nil draft)))
    (apply #'smtpmail-native-outbox-note entry :status 'sent
           (and plan (list :copy plan)))
    entry))

(defun smtpmail-native-copy-tests--count (file)
  "Return how many copies are in FILE."
  (with-temp-buffer
    (insert (smtpmail-native-test-text file))
    (how-many "^Message-ID: <1@x>$" (point-min) (point-max))))

(ert-deftest smtpmail-native-copy-tests-filed-before ()
  "A copy that was filed just before a kill is not filed again."
  (smtpmail-native-test-with-outbox
    (let* ((file (expand-file-name "sent" folder))
           (plan (list :fcc (list file) :handler 'message-output
                       :message-id "<1@x>"))
           (entry (smtpmail-native-copy-tests--sent plan)))
      (write-region "" nil file nil 'silent)
      (should (equal (smtpmail-native-copy-tests--warnings
                       (smtpmail-native-copy-file entry))
                     ""))
      (should (= (smtpmail-native-copy-tests--count file) 1))
      ;; In the same session, and in one that finds the old state.
      (smtpmail-native-copy-file entry)
      (smtpmail-native-outbox-note entry :copy plan)
      (smtpmail-native-copy-file entry)
      (should (= (smtpmail-native-copy-tests--count file) 1))
      ;; Another message is another matter.
      (smtpmail-native-outbox-note
       entry :copy (plist-put (copy-sequence plan) :message-id "<2@x>"))
      (smtpmail-native-copy-file entry)
      (should (= (smtpmail-native-copy-tests--count file) 2))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-copy-tests-begun ()
  "Where nobody can be asked whether it was filed, it is set aside."
  (smtpmail-native-test-with-outbox
    (let* ((smtpmail-native-copy-functions
            '(smtpmail-native-copy-tests--handler))
           (entry (smtpmail-native-copy-tests--sent
                   '(:fcc ("/sent") :message-id "<1@x>"
                     :handler smtpmail-native-copy-tests--handler)))
           (during nil))
      (setq smtpmail-native-copy-tests--filed nil)
      (cl-letf (((symbol-function 'smtpmail-native-copy-tests--handler)
                 (lambda (_file)
                   ;; What another session would find now.
                   (setq during (smtpmail-native-entry-state
                                 (smtpmail-native-outbox-get
                                  (smtpmail-native-entry-id entry)))))))
        (smtpmail-native-copy-file entry))
      (should (plist-get (plist-get during :copy) :begun))
      (smtpmail-native-outbox-note entry :copy (plist-get during :copy))
      (should (string-match-p
               "may be there"
               (smtpmail-native-copy-tests--warnings
                 (smtpmail-native-copy-file entry))))
      (should-not smtpmail-native-copy-tests--filed)
      (should (string-match-p "^Hello$" (smtpmail-native-copy-tests--unfiled)))
      (smtpmail-native-outbox-release entry))))

(ert-deftest smtpmail-native-copy-tests-no-state ()
  "Where the state was lost, the draft tells where copies go."
  (smtpmail-native-test-with-outbox
    (require 'message)
    (let* ((file (expand-file-name "sent" folder))
           (entry (smtpmail-native-copy-tests--sent
                   nil (concat "To: bob@example.org\nFcc: " file "\n"
                               mail-header-separator "\nHello\n"))))
      (write-region "" nil file nil 'silent)
      (smtpmail-native-copy-file entry)
      (should (= (smtpmail-native-copy-tests--count file) 1))
      (smtpmail-native-outbox-release entry))))

(defvar smtpmail-native-copy-tests--evil nil
  "Whether what a planted plan names was called.")

(defun smtpmail-native-copy-tests--evil (&rest _)
  "Note that this was called."
  (setq smtpmail-native-copy-tests--evil t))

(ert-deftest smtpmail-native-copy-tests-planted ()
  "A plan that a stranger wrote calls nothing, and writes to no other file."
  (smtpmail-native-test-with-outbox
    (let* ((profile (expand-file-name ".profile" folder))
           (missing (expand-file-name ".bashrc" folder))
           (made (expand-file-name "made" folder))
           (fifo (expand-file-name "fifo" folder))
           (entry nil))
      (setq smtpmail-native-copy-tests--evil nil)
      (write-region "PATH=/bin\n" nil profile nil 'silent)
      (call-process "mkfifo" nil nil nil fifo)
      (dolist (plan `((:fcc (,profile)) (:fcc (,missing)) (:fcc (,fifo))
                      (:fcc (,folder)) (:fcc ("sent")) (:fcc ("/ssh:x:/y"))
                      (:fcc (,(concat "| touch " made)))
                      (:fcc (,(concat " |touch " made)))
                      (:fcc ("/x") :handler smtpmail-native-copy-tests--evil)
                      (:fcc ("/x") :function smtpmail-native-copy-tests--evil)
                      (:fcc ("/x") :handler load)
                      (:fcc ("/x") :handler shell-command)
                      (:fcc ("../../x")
                       :handler notmuch-maildir-message-do-fcc)
                      (:fcc (,(concat profile "\nFcc: " made)))))
        (setq entry (smtpmail-native-copy-tests--sent
                     (append plan '(:message-id "<1@x>"))))
        (push (expand-file-name "state" (smtpmail-native-outbox-file entry))
              (plist-get plan :fcc))
        (dolist (copy (list plan (plist-put (copy-sequence plan) :fcc
                                            (cdr (plist-get plan :fcc)))))
          (smtpmail-native-outbox-note entry :copy copy)
          (should (string-match-p "could not file a copy"
                                  (smtpmail-native-copy-tests--warnings
                                    (smtpmail-native-copy-file entry)))))
        (smtpmail-native-outbox-remove entry))
      (should-not smtpmail-native-copy-tests--evil)
      (should-not (file-exists-p made))
      (should-not (file-exists-p missing))
      (should (equal (smtpmail-native-test-text profile) "PATH=/bin\n")))))

;;;; What a handler does

(ert-deftest smtpmail-native-copy-tests-left-by-handler ()
  "A handler that quits or throws costs nothing: the others file, once each."
  (dolist (leave (list (lambda () (signal 'quit nil))
                       (lambda () (throw 'smtpmail-native-copy-tests nil))
                       (lambda () (throw 'exit nil))
                       (lambda () (error "Disk full"))))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (let ((filed nil)
            (told nil)
            (left t))
        (catch 'exit
          (catch 'smtpmail-native-copy-tests
            (setq told
                  (smtpmail-native-copy-tests--warnings
                    (smtpmail-native-test-in-background
                      (let ((message-fcc-handler-function
                             (lambda (file)
                               (push file filed)
                               (when (equal file "/one")
                                 (funcall leave))))
                            (message-sent-hook
                             (list (lambda () (gnus-inews-do-gcc)))))
                        (cl-letf (((symbol-function 'gnus-inews-do-gcc)
                                   (lambda (&rest _) (push "gcc" filed))))
                          (kill-buffer (smtpmail-native-test-send-message
                                        "Fcc: /one\nGcc: sent\n")))
                        (smtpmail-native-test-drained)))))
            (setq left nil)))
        (should-not left)
        (should (equal filed '("gcc" "/one")))
        (should (string-match-p "could not file a copy" told))
        (smtpmail-native-test-verdict server)))))

(ert-deftest smtpmail-native-copy-tests-relative ()
  "A relative name in Fcc is one of the buffer in which it was written."
  (dolist (forget '(nil kept plan))
    (smtpmail-native-test-with-mode smtpmail-native-test-one
      (let ((there (file-name-as-directory (expand-file-name "there" folder)))
            (smtpmail-queue-mail t))
        (make-directory there)
        (smtpmail-native-test-in-background
          (let ((message-setup-hook
                 (list (lambda () (setq default-directory there)))))
            (kill-buffer (smtpmail-native-test-send-message "Fcc: sent\n"))))
        (when forget
          (clrhash smtpmail-native-copy--kept))
        (let ((default-directory "/"))
          (smtpmail-native-act-flush)
          (smtpmail-native-test-drained))
        (should (string-match-p "^Hello$" (smtpmail-native-test-text
                                           (expand-file-name "sent" there))))
        (smtpmail-native-test-verdict server)))))

(ert-deftest smtpmail-native-copy-tests-partial ()
  "A copy is filed when the first recipient has got the message, and once."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "8BITMIME")
       "C: MAIL FROM:<alice@example.org>*" "S: 250 ok"
       "C: RCPT TO:<bob@example.org>" "S: 250 ok"
       "C: RCPT TO:<carol@example.org>" "S: 450 4.2.1 later"
       "C: DATA" "S: 354 go" "data" "S: 250 2.0.0 queued" "C: QUIT" "S: 221 bye")
    (let ((file (expand-file-name "sent" folder))
          (smtpmail-native-partial-recipients t))
      (smtpmail-native-test-in-background
        (kill-buffer (smtpmail-native-test-send-message
                      (format "Cc: carol@example.org\nFcc: %s\n" file)))
        (smtpmail-native-test-wait
         (lambda ()
           (let ((entry (car (smtpmail-native-outbox-list))))
             (plist-get (smtpmail-native-entry-state entry) :next)))))
      (smtpmail-native-test-verdict server)
      (should (= 1 (with-temp-buffer
                     (insert (smtpmail-native-test-text file))
                     (how-many "^Hello$" (point-min) (point-max)))))
      ;; Whatever becomes of the rest.
      (let ((id (car (smtpmail-native-outbox-ids))))
        (should id)
        (smtpmail-native-act-delete id))
      (should (= 1 (with-temp-buffer
                     (insert (smtpmail-native-test-text file))
                     (how-many "^Hello$" (point-min) (point-max))))))))

(ert-deftest smtpmail-native-copy-tests-no-buffers ()
  "Messages that wait keep no buffers."
  (smtpmail-native-test-with-mode '("close")
    (let ((smtpmail-queue-mail t)
          (before nil))
      (dotimes (n 10)
        (smtpmail-native-test-in-background
          (kill-buffer (smtpmail-native-test-send-message
                        (format "Fcc: %s\n" (expand-file-name "sent" folder)))))
        (when (= n 0)
          (setq before (length (buffer-list)))))
      (should (= (length (smtpmail-native-outbox-ids)) 10))
      (should (= (length (buffer-list)) before)))))

(ert-deftest smtpmail-native-copy-tests-outcome-first ()
  "A message whose outcome is there before its copy is asked for: one copy."
  (smtpmail-native-test-with-outbox
    (require 'message)
    (let* ((file (expand-file-name "sent" folder))
           (entry (smtpmail-native-copy-tests--sent
                   (list :fcc (list file) :message-id "<1@x>")))
           (id (smtpmail-native-entry-id entry)))
      (unwind-protect
          (with-temp-buffer
            (message-mode)
            (insert "To: bob@example.org\nMessage-ID: <1@x>\nFcc: " file "\n"
                    mail-header-separator "\nHello\n")
            (write-region "" nil file nil 'silent)
            (smtpmail-native-copy-expect
             id (list "<1@x>" (list :function (symbol-function 'message-do-fcc)
                                    :directory folder)))
            (smtpmail-native-copy-file entry)
            (message-do-fcc)
            (should (= (smtpmail-native-copy-tests--count file) 1)))
        (smtpmail-native-copy-release)
        (smtpmail-native-outbox-release entry)))))

(provide 'smtpmail-native-copy-tests)
;;; smtpmail-native-copy-tests.el ends here
