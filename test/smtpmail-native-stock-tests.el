;;; smtpmail-native-stock-tests.el --- The queue that is shared with smtpmail  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What the index says, what smtpmail can send, and what is taken from it.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-stock-tests--index ()
  "Return the lines of the index."
  (smtpmail-native-stock-index-lines))

(defun smtpmail-native-stock-tests--line (id)
  "Return the line of the index for the entry ID."
  (expand-file-name (format "queue/%s/message" id)
                    smtpmail-native-outbox-directory))

(ert-deftest smtpmail-native-stock-tests-queue ()
  "`smtpmail-queue-mail' holds the mail; the index has a line; a flush sends."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((smtpmail-queue-mail t))
      (with-temp-buffer
        (smtpmail-native-test-insert)
        (smtpmail-send-it)))
    (smtpmail-native-test-wait
     (lambda () (= (length (smtpmail-native-stock-tests--index)) 1)))
    (should (file-exists-p (car (smtpmail-native-stock-tests--index))))
    (smtpmail-send-queued-mail)
    (smtpmail-native-test-drained)
    (smtpmail-native-test-wait
     (lambda () (null (smtpmail-native-stock-tests--index))))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-stock-tests-queue-stock ()
  "Stock smtpmail can send what waits in the outbox."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       "C: EHLO *" "S: 250 peer.example" "C: MAIL *" "S: 250 ok"
       "C: RCPT TO:<bob@example.org>" "S: 250 ok" "C: DATA" "S: 354 go" "data"
       "S: 250 ok" "C: QUIT" "S: 221 bye")
    ;; Unlike ours, Emacs's own look-up needs a hosts file for "localhost".
    (let ((smtpmail-queue-mail t)
          (smtpmail-smtp-server "127.0.0.1"))
      (with-temp-buffer
        (smtpmail-native-test-insert)
        (smtpmail-send-it)))
    (smtpmail-native-stock-index-write t)
    (smtpmail-native-mode -1)
    (cl-letf (((symbol-function 'smtpmail-try-auth-methods) #'ignore))
      (smtpmail-send-queued-mail))
    (smtpmail-native-test-verdict server)
    (should (string-match-p "smtpmail may have sent it"
                            (smtpmail-native-entry-problem
                             (car (smtpmail-native-outbox-list)))))))

(defun smtpmail-native-stock-tests--queue-stock (name text form)
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

(ert-deftest smtpmail-native-stock-tests-adopt ()
  "What stock smtpmail has queued is sent, and its files are gone."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((file (smtpmail-native-stock-tests--queue-stock
                 "2026-11-25_1"
                 "From: alice@example.org\nTo: x@y\n\nHello\n"
                 "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")))
      (smtpmail-send-queued-mail)
      (smtpmail-native-test-drained)
      (smtpmail-native-test-verdict server)
      (should-not (file-exists-p file))
      (should-not (file-exists-p (concat file ".el")))
      (smtpmail-native-test-wait
       (lambda () (null (smtpmail-native-stock-tests--index)))))))

(ert-deftest smtpmail-native-stock-tests-adopt-damaged ()
  "What is damaged is kept for the user, and the others go on."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
          (text "From: alice@example.org\nTo: bob@example.org\n\nHello\n"))
      (smtpmail-native-stock-tests--queue-stock "lost" nil form)
      (smtpmail-native-stock-tests--queue-stock "bad" text "(message \"no\")")
      (let ((good (smtpmail-native-stock-tests--queue-stock "good" text form)))
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
      (smtpmail-native-act-flush)
      (smtpmail-native-test-verdict server)
      (smtpmail-native-test-wait
       (lambda () (= (length (smtpmail-native-outbox-ids)) 2))))))

(ert-deftest smtpmail-native-stock-tests-adopt-twice ()
  "An adoption that was interrupted before the originals went is no second mail."
  (smtpmail-native-test-with-mode '("close")
    (let* ((text "From: alice@example.org\nTo: x@y\n\nHello\n")
           (form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
           (file (smtpmail-native-stock-tests--queue-stock "1" text form)))
      (cl-letf (((symbol-function 'delete-file)
                 (lambda (&rest _) (error "Killed"))))
        (cl-letf (((symbol-function 'display-warning) #'ignore))
          (smtpmail-native-stock-adopt)))
      (should (file-exists-p file))
      (smtpmail-native-stock-adopt)
      (should (= (length (smtpmail-native-outbox-ids)) 1))
      (should-not (file-exists-p file)))))

(ert-deftest smtpmail-native-stock-tests-adopt-account ()
  "An adopted mail goes to the server and the sender that it was queued for."
  (smtpmail-native-test-with-mode
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo) "C: MAIL FROM:<work@example.org>*"
       (cdr smtpmail-native-test-mail))
    (smtpmail-native-stock-tests--queue-stock
     "1" "From: Work <work@example.org>\nTo: bob@example.org\n\nHello\n"
     (format "(setq smtpmail-recipient-address-list '(\"bob@example.org\")
smtpmail-smtp-server \"localhost\"\nsmtpmail-stream-type nil
smtpmail-smtp-service %d\nsmtpmail-smtp-user nil\n)" port))
    (let ((smtpmail-smtp-server "nowhere.invalid")
          (smtpmail-smtp-service 1))
      (smtpmail-send-queued-mail)
      (smtpmail-native-test-drained))
    (smtpmail-native-test-verdict server)))

(ert-deftest smtpmail-native-stock-tests-adopt-undeletable ()
  "Where originals cannot be deleted, the mail stays there, and is not sent."
  (smtpmail-native-test-with-mode '("close")
    (let* ((file (smtpmail-native-stock-tests--queue-stock
                  "1" "From: alice@example.org\n\nHello\n"
                  "(setq smtpmail-recipient-address-list (\"bob@example.org\"))"))
           (delete (symbol-function 'delete-file)))
      (cl-letf (((symbol-function 'delete-file)
                 (lambda (name &rest more)
                   (if (member name (list file (concat file ".el")))
                       (signal 'file-error (list "Read-only" name))
                     (apply delete name more))))
                ((symbol-function 'display-warning) #'ignore))
        (should (= (smtpmail-native-stock-adopt) 0)))
      (should (file-exists-p file))
      (should-not (smtpmail-native-outbox-ids))
      (should (equal (smtpmail-native-stock-tests--index) (list file)))
      ;; Nothing of it is left claimed.
      (should (= (smtpmail-native-stock-adopt) 1))
      (should (= (length (smtpmail-native-outbox-ids)) 1))
      (should-not (smtpmail-native-outbox-claimed-p
                   (car (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-stock-tests-adopt-killed ()
  "A mail whose adoption was cut short takes the originals along when it goes."
  (smtpmail-native-test-with-mode smtpmail-native-test-one
    (let ((file (smtpmail-native-stock-tests--queue-stock
                 "1" "From: alice@example.org\n\nHello\n"
                 "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")))
      (smtpmail-native-outbox-release
       (smtpmail-native-stock--commit file file))
      (should (file-exists-p file))
      (smtpmail-native-act-flush)
      (smtpmail-native-test-drained)
      (smtpmail-native-test-verdict server)
      (should-not (file-exists-p file))
      (should-not (file-exists-p (concat file ".el")))
      (smtpmail-native-stock-adopt)
      (should-not (smtpmail-native-outbox-ids))
      (should-not (smtpmail-native-stock-tests--index)))))

(ert-deftest smtpmail-native-stock-tests-adopt-back ()
  "Octets that come back do not vanish into an entry that has none."
  (smtpmail-native-test-with-mode '("close")
    (let* ((form "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")
           (file (smtpmail-native-stock-tests--queue-stock "1" nil form)))
      (should (= (smtpmail-native-stock-adopt) 1))
      (smtpmail-native-stock-tests--queue-stock
       "1" "From: alice@example.org\n\nHello\n" nil)
      (cl-letf (((symbol-function 'display-warning) #'ignore))
        (should (= (smtpmail-native-stock-adopt) 0)))
      (should (file-exists-p file))
      (should (equal (smtpmail-native-stock-tests--index) (list file))))))

(ert-deftest smtpmail-native-stock-tests-adopt-no-variables ()
  "A mail without its file of variables is held, to be looked at."
  (smtpmail-native-test-with-mode '("close")
    (smtpmail-native-stock-tests--queue-stock
     "1" "From: alice@example.org\nTo: bob@example.org\n\nHello\n" nil)
    (should (= (smtpmail-native-stock-adopt) 1))
    (let ((state (smtpmail-native-entry-state
                  (car (smtpmail-native-outbox-list)))))
      (should (eq (plist-get state :hold) 'user))
      (should (string-match-p "is missing: look at the recipients"
                              (plist-get state :text))))))

(ert-deftest smtpmail-native-stock-tests-turn-on ()
  "Turning the mode on adopts, sends nothing, and asks for no server."
  (dolist (known '(nil t))
    (smtpmail-native-test-with-server '("close")
      (let ((smtpmail-native-mode nil)
            (file (smtpmail-native-stock-tests--queue-stock
                   "1" "From: alice@example.org\n\nHello\n"
                   "(setq smtpmail-recipient-address-list (\"bob@example.org\"))")))
        (unless known
          (setq smtpmail-smtp-server nil))
        (cl-letf (((symbol-function 'display-warning) #'ignore)
                  ((symbol-function 'smtpmail-query-smtp-server)
                   (lambda () (error "Asked"))))
          (unwind-protect
              (let ((noninteractive nil)
                    (smtpmail-default-smtp-server nil))
                (smtpmail-native-mode 1))
            (smtpmail-native-mode -1)))
        (should (eq (file-exists-p file) (not known)))
        (should (= (length (smtpmail-native-outbox-ids)) (if known 1 0)))
        (should (= (length (smtpmail-native-stock-tests--index)) 1))))))

(ert-deftest smtpmail-native-stock-tests-other-outbox ()
  "What another Emacs has in an outbox of its own is left to it."
  (smtpmail-native-test-with-mode '("close")
    (let* ((theirs (expand-file-name "theirs/" folder))
           (smtpmail-queue-mail t)
           (line (let ((smtpmail-native-outbox-directory theirs))
                   (with-temp-buffer
                     (smtpmail-native-test-insert)
                     (smtpmail-send-it))
                   (smtpmail-native-stock-index-write t)
                   (car (smtpmail-native-stock-tests--index)))))
      (should (file-exists-p line))
      (should (= (smtpmail-native-stock-adopt) 0))
      (should (file-exists-p line))
      (should (equal (smtpmail-native-stock-tests--index) (list line))))))

(defun smtpmail-native-stock-tests--entry (&rest state)
  "Make an entry with the plist STATE; return its id."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert "From: alice@example.org\n\nHello\n")
    (let ((entry (smtpmail-native-outbox-commit
                  (current-buffer)
                  '(:sender "alice@example.org"
                    :recipients ("bob@example.org" "carol@example.org")
                    :host "localhost" :port 25)
                  state)))
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-entry-id entry))))

(ert-deftest smtpmail-native-stock-tests-listed ()
  "Only what nothing here sends by itself, and nobody has got, has a line."
  (smtpmail-native-test-with-mode '("close")
    (let ((listed
           (list (smtpmail-native-stock-tests--entry
                  :status 'held :hold 'queue))))
      (dolist (state '((:status ready)
                       ;; The next try, the time of undo, a date.
                       (:status ready :next 4000000000)
                       (:status ready :next 4000000000 :undo t)
                       (:status ready :next 4000000000
                        :results (("bob@example.org" sent 250)))
                       (:status held :hold user)
                       (:status held :hold password)
                       (:status held :hold expired)
                       (:status refused)
                       (:status unknown)
                       (:status sent)))
        (apply #'smtpmail-native-stock-tests--entry state))
      (make-directory smtpmail-queue-dir)
      (write-region "/elsewhere/1\n" nil
                    (expand-file-name "index" smtpmail-queue-dir)
                    nil 'silent)
      (smtpmail-native-stock-index-write t)
      (should (equal (smtpmail-native-stock-tests--index)
                     (cons "/elsewhere/1"
                           (mapcar (lambda (id)
                                     (expand-file-name
                                      (concat "queue/" id "/message")
                                      smtpmail-native-outbox-directory))
                                   listed))))
      ;; No other file is left there.
      (should (equal (directory-files smtpmail-queue-dir nil "\\`[^.]")
                     '("index"))))))

(ert-deftest smtpmail-native-stock-tests-changed ()
  "A change of an entry changes its line, and reads no other entry."
  (smtpmail-native-test-with-mode '("close")
    (let* ((ids (list (smtpmail-native-stock-tests--entry
                       :status 'held :hold 'queue)
                      (smtpmail-native-stock-tests--entry
                       :status 'held :hold 'queue)))
           (lines (mapcar #'smtpmail-native-stock-tests--line ids))
           (read nil)
           (get (symbol-function 'smtpmail-native-outbox-get)))
      (smtpmail-native-stock-index-write t)
      (should (equal (smtpmail-native-stock-tests--index) lines))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-list)
                 (lambda () (error "All was read")))
                ((symbol-function 'smtpmail-native-outbox-get)
                 (lambda (id &rest args)
                   (push id read)
                   (apply get id args))))
        ;; It leaves by itself from here on.
        (let ((entry (funcall get (car ids))))
          (smtpmail-native-outbox-claim entry)
          (smtpmail-native-outbox-set entry :status 'ready :hold nil)
          (smtpmail-native-outbox-release entry))
        (smtpmail-native-stock-index-write (list (car ids)))
        (should (equal (smtpmail-native-stock-tests--index) (cdr lines)))
        (should (equal (delete-dups read) (list (car ids))))
        ;; It is gone.
        (let ((entry (funcall get (cadr ids))))
          (smtpmail-native-outbox-claim entry)
          (smtpmail-native-outbox-remove entry))
        (smtpmail-native-stock-index-write ids)
        (should-not (smtpmail-native-stock-tests--index))))))

(ert-deftest smtpmail-native-stock-tests-interrupted ()
  "A line that a quit or an error has left is taken out the next time."
  (smtpmail-native-test-with-mode '("close")
    (dolist (failure '(quit error))
      (let* ((id (smtpmail-native-stock-tests--entry
                  :status 'held :hold 'queue))
             (line (smtpmail-native-stock-tests--line id)))
        (smtpmail-native-stock-index-write t)
        (should (equal (smtpmail-native-stock-tests--index) (list line)))
        (let ((entry (smtpmail-native-outbox-get id)))
          (smtpmail-native-outbox-claim entry)
          (smtpmail-native-outbox-set entry :status 'held :hold 'user)
          (smtpmail-native-outbox-release entry))
        (cl-letf (((symbol-function 'rename-file)
                   (lambda (&rest _) (signal failure nil))))
          (should (condition-case nil
                      (ignore (smtpmail-native-stock-index-write (list id)))
                    ((quit error) t))))
        (should (equal (smtpmail-native-stock-tests--index) (list line)))
        (smtpmail-native-stock-index-write (list id))
        (should-not (smtpmail-native-stock-tests--index))))))

(ert-deftest smtpmail-native-stock-tests-cut-off ()
  "A line that lacks its end does not swallow the one that is added."
  (smtpmail-native-test-with-mode '("close")
    (make-directory smtpmail-queue-dir t)
    (write-region "/other/mail" nil
                  (expand-file-name smtpmail-queue-index-file
                                    smtpmail-queue-dir)
                  nil 'silent)
    (let ((id (smtpmail-native-stock-tests--entry :status 'held :hold 'queue)))
      (smtpmail-native-stock-index-write (list id))
      (should (equal (smtpmail-native-stock-tests--index)
                     (list "/other/mail"
                           (smtpmail-native-stock-tests--line id)))))))

(ert-deftest smtpmail-native-stock-tests-no-folder ()
  "The folder of the queue is made when a mail is queued, not before."
  (smtpmail-native-test-with-mode '("close")
    (smtpmail-native-stock-tests--entry :status 'ready :next 4000000000)
    (smtpmail-native-stock-index-write t)
    (should-not (file-exists-p smtpmail-queue-dir))
    (smtpmail-native-stock-tests--entry :status 'held :hold 'queue)
    (smtpmail-native-stock-index-write t)
    (should (= (length (smtpmail-native-stock-tests--index)) 1))
    (should (= (file-modes smtpmail-queue-dir) #o700))))

(ert-deftest smtpmail-native-stock-tests-counter ()
  "A counter of lines, as mu4e has one, sees what only a flush sends."
  (smtpmail-native-test-with-mode '("close")
    (let ((queued (smtpmail-native-stock-tests--entry
                   :status 'held :hold 'queue)))
      (dolist (state '((:status ready :next 4000000000)
                       (:status ready :next 4000000000 :undo t)
                       (:status ready :next 4000000000 :tries 2)
                       (:status held :hold user)
                       (:status held :hold queue :doubt t)
                       (:status held :hold queue :wait t)
                       (:status unknown :doubt t)
                       (:status refused)))
        (apply #'smtpmail-native-stock-tests--entry state))
      (smtpmail-native-stock-index-write t)
      (should (equal (smtpmail-native-stock-tests--index)
                     (list (smtpmail-native-stock-tests--line queued))))
      ;; For all that may have changed nothing is read that is known.
      (smtpmail-native-index-look)
      (smtpmail-native-index-complete 10)
      (smtpmail-native-stock-index-note nil)
      (cl-letf (((symbol-function 'smtpmail-native-outbox-list)
                 (lambda () (error "All was read")))
                ((symbol-function 'smtpmail-native-outbox-get)
                 (lambda (&rest _) (error "One was read"))))
        (smtpmail-native-stock-index--on-timer))
      (should (equal (smtpmail-native-stock-tests--index)
                     (list (smtpmail-native-stock-tests--line queued)))))))

(provide 'smtpmail-native-stock-tests)
;;; smtpmail-native-stock-tests.el ends here
