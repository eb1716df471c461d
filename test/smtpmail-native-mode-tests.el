;;; smtpmail-native-mode-tests.el --- Other programs, unchanged  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Each program that sends by smtpmail, through the mode to the scripted server,
;; and what it files and queues.

;;; Code:

(require 'ert)
(require 'feedmail)
(require 'smtpmail-native-test-helper)

(defvar gnus-inews-do-gcc-called nil
  "What the stand-in for Gnus was called with.")

(defmacro smtpmail-native-mode-tests--with (script &rest body)
  "Run BODY with the mode on and SCRIPT as the server; send by smtpmail's names."
  (declare (indent 1) (debug t))
  `(smtpmail-native-test-with-server ,script
     (let ((send-mail-function #'smtpmail-send-it)
           (message-send-mail-function #'smtpmail-send-it)
           (message-auto-save-directory nil)
           (message-fcc-handler-function #'rmail-output))
       (smtpmail-native-mode 1)
       (unwind-protect
           (progn ,@body)
         (smtpmail-native-mode -1)
         (smtpmail-native-copy--release)))))

(defconst smtpmail-native-mode-tests--script
  (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                               smtpmail-native-test-mail)
  "A server that takes one mail from Alice to Bob.")

(defun smtpmail-native-mode-tests--insert (&optional header)
  "Insert a mail to Bob with the lines HEADER besides."
  (insert "To: bob@example.org\nSubject: test\n" (or header "")
          mail-header-separator "\nHello\n"))

(defun smtpmail-native-mode-tests--send-message (&optional header)
  "Send a mail from `message-mode' with HEADER besides; return its buffer."
  (save-window-excursion
    (message-mail "bob@example.org" "test")
    (message-goto-body)
    (insert "Hello\n")
    (goto-char (point-min))
    (insert (or header ""))
    (message-send)
    (set-buffer-modified-p nil)
    (current-buffer)))

(defmacro smtpmail-native-mode-tests--in-background (&rest body)
  "Run BODY as if somebody sat there, so that mail is sent in the background."
  (declare (indent 0) (debug t))
  `(cl-letf (((symbol-function 'smtpmail-native--hand-over)
              (lambda (mail)
                (smtpmail-native--leave mail (if smtpmail-queue-mail 'queue
                                               'background)))))
     ,@body))

(defun smtpmail-native-mode-tests--drained ()
  "Wait until the outbox is empty."
  (smtpmail-native-test-wait (lambda () (null (smtpmail-native-outbox-ids)))))

(defun smtpmail-native-mode-tests--text (file)
  "Return the text of FILE, \"\" if there is none."
  (if (file-exists-p file)
      (with-temp-buffer
        (insert-file-contents file)
        (buffer-string))
    ""))

;;;; Programs

(ert-deftest smtpmail-native-mode-tests-mail-mode ()
  "`mail-send' of `mail-mode'."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (with-temp-buffer
      (mail-mode)
      (smtpmail-native-mode-tests--insert)
      (set-buffer-modified-p t)
      (mail-send))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-message-mode ()
  "`message-send'."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (kill-buffer (smtpmail-native-mode-tests--send-message))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-method-header ()
  "X-Message-SMTP-Method names another server than the variables do."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((smtpmail-smtp-server "nowhere.invalid")
          (smtpmail-smtp-service 1))
      (kill-buffer (smtpmail-native-mode-tests--send-message
                    (format "X-Message-SMTP-Method: smtp localhost %d\n" port))))
    (smtpmail-native-test-verdict server)
    (should-not (string-match-p "X-Message-SMTP"
                                (smtpmail-native-test-delivered folder)))))

(ert-deftest smtpmail-native-mode-tests-feedmail ()
  "Feedmail calls `smtpmail-via-smtp' and wants to hear at once."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((feedmail-buffer-eating-function #'feedmail-buffer-to-smtpmail)
          (feedmail-confirm-outgoing nil)
          (feedmail-enable-queue nil)
          (feedmail-nuke-bcc t)
          (mail-interactive nil))
      (with-temp-buffer
        (smtpmail-native-mode-tests--insert "From: alice@example.org\n")
        (feedmail-send-it)))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-direct ()
  "A direct call returns nil, or a string that tells what went wrong."
  (smtpmail-native-mode-tests--with
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 550 5.1.1 no such user" "C: QUIT")
    (with-temp-buffer
      (insert "From: alice@example.org\nTo: bob@example.org\n\nHello\n")
      (should (string-match-p "550 5.1.1 no such user"
                              (smtpmail-via-smtp '("bob@example.org")
                                                 (current-buffer)))))
    (smtpmail-native-test-verdict server)
    (should-not (smtpmail-native-outbox-ids))))

(ert-deftest smtpmail-native-mode-tests-direct-as-it-is ()
  "A direct call sends the buffer octet by octet."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (insert "From: alice@example.org\nX-A: \303\244\nTo: x@y\n\n\344\n.\n")
      (should-not (smtpmail-via-smtp '("bob@example.org") (current-buffer))))
    (smtpmail-native-test-verdict server)
    (should (equal (smtpmail-native-test-delivered folder)
                   (concat "From: alice@example.org\r\nX-A: \303\244\r\n"
                           "To: x@y\r\n\r\n\344\r\n.\r\n")))))

(ert-deftest smtpmail-native-mode-tests-resend ()
  "A mail that begins with Resent- fields goes to those whom they name."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (with-temp-buffer
      (insert "Resent-From: alice@example.org\nResent-To: bob@example.org\n"
              "From: carol@example.org\nTo: dave@example.org\nSubject: x\n"
              mail-header-separator "\nHello\n")
      (funcall send-mail-function))
    (smtpmail-native-test-verdict server)))

;;;; Advice that chooses the account

(defun smtpmail-native-mode-tests--advised (how before)
  "Send while `smtpmail-via-smtp' has advice HOW that chooses the server.
BEFORE non-nil means that it had it before the mode was turned on."
  (smtpmail-native-test-with-server smtpmail-native-mode-tests--script
    (let* ((choose (lambda (&rest _)
                     (setq smtpmail-smtp-server "localhost"
                           smtpmail-smtp-service port)))
           (advice (if (eq how :around)
                       (lambda (function &rest args)
                         (funcall choose)
                         (apply function args))
                     choose)))
      (setq smtpmail-smtp-server "nowhere.invalid")
      (unwind-protect
          (progn
            (when before
              (advice-add 'smtpmail-via-smtp how advice))
            (smtpmail-native-mode 1)
            (unless before
              (advice-add 'smtpmail-via-smtp how advice))
            (with-temp-buffer
              (smtpmail-native-mode-tests--insert)
              (smtpmail-send-it))
            (smtpmail-native-test-verdict server))
        (advice-remove 'smtpmail-via-smtp advice)
        (smtpmail-native-mode -1)))))

(ert-deftest smtpmail-native-mode-tests-advice ()
  "Advice runs first and counts, whenever it was added."
  (dolist (how '(:before :around))
    (smtpmail-native-mode-tests--advised how t)
    (smtpmail-native-mode-tests--advised how nil)))

(ert-deftest smtpmail-native-mode-tests-off ()
  "Turned off, the mode leaves nothing behind."
  (let ((before (mapcar #'symbol-function
                        '(smtpmail-via-smtp smtpmail-send-it
                          smtpmail-send-queued-mail))))
    (smtpmail-native-mode 1)
    (smtpmail-native-mode -1)
    (should (equal before
                   (mapcar #'symbol-function
                           '(smtpmail-via-smtp smtpmail-send-it
                             smtpmail-send-queued-mail))))))

(ert-deftest smtpmail-native-mode-tests-without-module ()
  "Where the module cannot be loaded, stock smtpmail sends."
  (smtpmail-native-mode-tests--with
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok" "C: RCPT *"
       "S: 250 ok" "C: DATA" "S: 354 go" "data" "S: 250 ok" "C: QUIT"
       "S: 221 bye")
    (let ((stock nil))
      (cl-letf (((symbol-function 'smtpmail-native-load-available-p) #'ignore)
                ((symbol-function 'smtpmail-try-auth-methods) #'ignore))
        (advice-add 'smtpmail-send-data :before (lambda (&rest _) (setq stock t))
                    '((name . noticed)))
        (unwind-protect
            (with-temp-buffer
              (smtpmail-native-mode-tests--insert)
              (smtpmail-send-it))
          (advice-remove 'smtpmail-send-data 'noticed)))
      (should stock))
    (smtpmail-native-test-verdict server)))

;;;; Copies

(defconst smtpmail-native-mode-tests--slow
  (smtpmail-native-test-script
   (smtpmail-native-test-ehlo)
   (butlast smtpmail-native-test-mail 3) "pause 300" "S: 250 2.0.0 queued"
   "C: QUIT" "S: 221 bye")
  "The same, but the last answer takes a moment.")

(ert-deftest smtpmail-native-mode-tests-fcc-after ()
  "Fcc of `message-mode' is filed when the server has accepted, not before."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--slow
    (let ((copy (expand-file-name "copy" folder)))
      (smtpmail-native-mode-tests--in-background
        (kill-buffer (smtpmail-native-mode-tests--send-message
                      (format "Fcc: %s\n" copy)))
        (should (equal (smtpmail-native-mode-tests--text copy) ""))
        (smtpmail-native-mode-tests--drained))
      (should (string-match-p "^Subject: test$"
                              (smtpmail-native-mode-tests--text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-mode-tests-fcc-handler ()
  "The handler of the time of sending is used, as mu4e sets it."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((filed nil))
      (smtpmail-native-mode-tests--in-background
        (let ((message-fcc-handler-function
               (lambda (file) (setq filed (list file (buffer-string))))))
          (kill-buffer (smtpmail-native-mode-tests--send-message
                        "Fcc: /sent\n")))
        (should-not filed)
        (smtpmail-native-mode-tests--drained))
      (should (equal (car filed) "/sent"))
      (should (string-match-p "^Hello$" (cadr filed)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-mode-tests-fcc-rebound ()
  "A program that rebinds `message-do-fcc' around the sending, as notmuch does."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((filed nil)
          (original (symbol-function 'message-do-fcc)))
      (smtpmail-native-mode-tests--in-background
        (cl-letf (((symbol-function 'message-do-fcc)
                   (lambda () (setq filed (message-fetch-field "subject")))))
          (kill-buffer (smtpmail-native-mode-tests--send-message)))
        (should-not filed)
        (should (eq (symbol-function 'message-do-fcc) original))
        (smtpmail-native-mode-tests--drained))
      (should (equal filed "test"))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-mode-tests-gcc ()
  "A Gcc in `message-sent-hook' waits, too."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((filed nil))
      (cl-letf (((symbol-function 'gnus-inews-do-gcc)
                 (lambda (&rest _)
                   (setq filed (message-fetch-field "gcc")))))
        (let ((message-sent-hook '(gnus-inews-do-gcc)))
          (smtpmail-native-mode-tests--in-background
            (kill-buffer (smtpmail-native-mode-tests--send-message
                          "Gcc: nnml:sent\n"))
            (should-not filed)
            (smtpmail-native-mode-tests--drained))
          (should (equal filed "nnml:sent")))
        (smtpmail-native-copy--release))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-mode-tests-fcc-fails ()
  "A copy that cannot be filed is a warning, and no failure to send."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((warnings nil))
      (cl-letf (((symbol-function 'display-warning)
                 (lambda (_type text &rest _) (push text warnings))))
        (smtpmail-native-mode-tests--in-background
          (let ((message-fcc-handler-function (lambda (_) (error "Disk full"))))
            (kill-buffer (smtpmail-native-mode-tests--send-message
                          "Fcc: /sent\n")))
          (smtpmail-native-mode-tests--drained)))
      (should (string-match-p "was sent, but .*Disk full" (car warnings)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-mode-tests-fcc-after-restart ()
  "A later Emacs files the copy from the draft."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((copy (expand-file-name "copy" folder))
          (smtpmail-queue-mail t))
      (smtpmail-native-mode-tests--in-background
        (kill-buffer (smtpmail-native-mode-tests--send-message
                      (format "Fcc: %s\n" copy))))
      ;; As good as another Emacs: this one has forgotten.
      (clrhash smtpmail-native-copy--kept)
      (smtpmail-native-queue-flush)
      (smtpmail-native-mode-tests--drained)
      (should (string-match-p "^Subject: test$"
                              (smtpmail-native-mode-tests--text copy)))
      (smtpmail-native-test-verdict server))))

(ert-deftest smtpmail-native-mode-tests-draft-secret ()
  "The draft of a mail that is to be encrypted does not get to the disk."
  (smtpmail-native-mode-tests--with '("close")
    (let ((smtpmail-queue-mail t)
          (id nil))
      (with-temp-buffer
        (message-mode)
        (insert "To: bob@example.org\nFcc: /x\nMessage-ID: <1@x>\n"
                mail-header-separator
                "\n<#secure method=pgpmime mode=signencrypt>\nSecret\n")
        (smtpmail-native-mode-tests--in-background
          (setq id (plist-get
                    (smtpmail-native-queue-send
                     (smtpmail-native-message-prepare) 'queue)
                    :id)))
        (smtpmail-native-copy-expect id "<1@x>")
        (message-do-fcc))
      (let ((entry (smtpmail-native-outbox-get id)))
        (should (plist-get (smtpmail-native-entry-state entry) :copy))
        (should-not (smtpmail-native-outbox-draft entry))))))

;;;; The queue of smtpmail

(defun smtpmail-native-mode-tests--index ()
  "Return the lines of the index."
  (smtpmail-native-stock--lines))

(ert-deftest smtpmail-native-mode-tests-queue ()
  "`smtpmail-queue-mail' holds the mail; the index has a line; a flush sends."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((smtpmail-queue-mail t))
      (with-temp-buffer
        (smtpmail-native-mode-tests--insert)
        (smtpmail-send-it)))
    (smtpmail-native-test-wait
     (lambda () (= (length (smtpmail-native-mode-tests--index)) 1)))
    (should (file-exists-p (car (smtpmail-native-mode-tests--index))))
    (smtpmail-send-queued-mail)
    (smtpmail-native-mode-tests--drained)
    (smtpmail-native-test-wait
     (lambda () (null (smtpmail-native-mode-tests--index))))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-mode-tests-queue-stock ()
  "Stock smtpmail can send what waits in the outbox."
  (smtpmail-native-mode-tests--with
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok"
       "C: RCPT TO:<bob@example.org>" "S: 250 ok" "C: DATA" "S: 354 go" "data"
       "S: 250 ok" "C: QUIT" "S: 221 bye")
    (let ((smtpmail-queue-mail t))
      (with-temp-buffer
        (smtpmail-native-mode-tests--insert)
        (smtpmail-send-it)))
    (smtpmail-native-stock-write-index)
    (smtpmail-native-mode -1)
    (cl-letf (((symbol-function 'smtpmail-try-auth-methods) #'ignore))
      (smtpmail-send-queued-mail))
    (smtpmail-native-test-verdict server)
    (should (string-match-p "message is missing\\|cannot be used"
                            (smtpmail-native-entry-problem
                             (car (smtpmail-native-outbox-list)))))))

(defun smtpmail-native-mode-tests--queue-stock (name text form)
  "Queue TEXT as smtpmail does, as NAME with FORM in its file of variables.
Each may be nil, and is missing then."
  (let ((file (expand-file-name name smtpmail-queue-dir)))
    (make-directory smtpmail-queue-dir t)
    (when text
      (write-region text nil file nil 'silent))
    (when form
      (write-region form nil (concat file ".el") nil 'silent))
    (write-region (concat file "\n") nil
                  (expand-file-name smtpmail-queue-index-file
                                    smtpmail-queue-dir)
                  t 'silent)
    file))

(ert-deftest smtpmail-native-mode-tests-adopt ()
  "What stock smtpmail has queued is sent, and its files are gone."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((file (smtpmail-native-mode-tests--queue-stock
                 "2026-11-25_1"
                 "From: alice@example.org\nTo: x@y\n\nHello\n"
                 "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")))
      (smtpmail-send-queued-mail)
      (smtpmail-native-mode-tests--drained)
      (smtpmail-native-test-verdict server)
      (should-not (file-exists-p file))
      (should-not (file-exists-p (concat file ".el")))
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-mode-tests--index)))))))

(ert-deftest smtpmail-native-mode-tests-adopt-damaged ()
  "What is damaged is kept for the user, and the others go on."
  (smtpmail-native-mode-tests--with smtpmail-native-mode-tests--script
    (let ((form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
          (text "From: alice@example.org\nTo: bob@example.org\n\nHello\n"))
      (smtpmail-native-mode-tests--queue-stock "lost" nil form)
      (smtpmail-native-mode-tests--queue-stock "bad" text "(message \"no\")")
      (let ((good (smtpmail-native-mode-tests--queue-stock "good" text form)))
        (rename-file good (concat good ":2,S")))
      (should (= (smtpmail-native-stock-adopt) 3))
      (let ((entries (smtpmail-native-outbox-list)))
        (should (= (length entries) 3))
        (should (= (seq-count #'smtpmail-native-entry-problem entries) 1))
        (should (= (seq-count (lambda (entry)
                                (eq (plist-get (smtpmail-native-entry-state
                                                entry)
                                               :hold)
                                    'user))
                              entries)
                   1)))
      (smtpmail-native-queue-flush)
      (smtpmail-native-test-verdict server)
      (smtpmail-native-test-wait
       (lambda () (= (length (smtpmail-native-outbox-ids)) 2))))))

(ert-deftest smtpmail-native-mode-tests-adopt-twice ()
  "An adoption that was interrupted before the originals went is no second mail."
  (smtpmail-native-mode-tests--with '("close")
    (let* ((text "From: alice@example.org\nTo: x@y\n\nHello\n")
           (form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
           (file (smtpmail-native-mode-tests--queue-stock "1" text form)))
      (cl-letf (((symbol-function 'delete-file)
                 (lambda (&rest _) (error "Killed"))))
        (cl-letf (((symbol-function 'display-warning) #'ignore))
          (smtpmail-native-stock-adopt)))
      (should (file-exists-p file))
      (smtpmail-native-stock-adopt)
      (should (= (length (smtpmail-native-outbox-ids)) 1))
      (should-not (file-exists-p file)))))

(provide 'smtpmail-native-mode-tests)
;;; smtpmail-native-mode-tests.el ends here
