;;; smtpmail-native-attempt-tests.el --- One delivery  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What hinders an attempt, what it leaves behind, and who is asked: no one, from
;; a timer.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

(defun smtpmail-native-attempt-tests--settle ()
  "Wait until nothing is under way in this Emacs."
  (smtpmail-native-test-wait
   (lambda () (not (smtpmail-native-schedule-busy-p)))))

(defun smtpmail-native-attempt-tests--state (id key)
  "Return KEY of the state of the entry ID."
  (plist-get (smtpmail-native-entry-state (smtpmail-native-outbox-get id))
             key))

(defmacro smtpmail-native-attempt-tests--quietly (&rest body)
  "Run BODY; a question of any kind fails the test."
  (declare (indent 0) (debug t))
  `(cl-letf* ((ask (lambda (prompt &rest _)
                     (ert-fail (format "Asked: %s" prompt))))
              ((symbol-function 'read-passwd) ask)
              ((symbol-function 'read-string) ask)
              ((symbol-function 'y-or-n-p) ask)
              ((symbol-function 'yes-or-no-p) ask)
              ((symbol-function 'smtpmail-native-tell-attended-p)
               (lambda () t))
              ((symbol-function 'smtpmail-native-lookup-may-ask-p)
               #'smtpmail-native-request-ask))
     ,@body))

;;;; May it have been delivered?

(ert-deftest smtpmail-native-attempt-tests-doubt-survives-quit ()
  "A quit at the password leaves a doubtful entry as it was.
A password that is typed for another message does not send it."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN user pass"
       smtpmail-native-test-mail)
    (unwind-protect
        (let* ((smtpmail-auth-credentials
                (list (list "localhost" port "user" nil)))
               (id (smtpmail-native-sink-put
                    '(:status unknown :doubt t
                      :results (("bob@example.org" unknown 250 "" "ok")))
                    "<doubt@x>"))
               (answer 'quit))
          (cl-letf (((symbol-function 'read-passwd)
                     (lambda (&rest _)
                       (if (eq answer 'quit)
                           (signal 'quit nil)
                         (copy-sequence answer))))
                    ((symbol-function 'smtpmail-native-tell-attended-p)
                     (lambda () t))
                    ((symbol-function 'smtpmail-native-lookup-may-ask-p)
                     #'smtpmail-native-request-ask))
            (should-error (smtpmail-native-act-retry id)
                          :type 'smtpmail-native-usage-error)
            (should-not (smtpmail-native-act-retry id t))
            (should (smtpmail-native-entry-doubt-p
                     (smtpmail-native-outbox-get id)))
            (should-not (smtpmail-native-outbox-claimed-p id))
            (setq answer "pass")
            (smtpmail-native-sink-send "<other@x>" 'background)
            (smtpmail-native-attempt-tests--settle)
            (smtpmail-native-unlock)
            (smtpmail-native-act-flush)
            (smtpmail-native-watch-look)
            (smtpmail-native-attempt-tests--settle))
          (smtpmail-native-test-verdict server)
          (should (equal (smtpmail-native-outbox-ids) (list id)))
          (should (smtpmail-native-entry-doubt-p
                   (smtpmail-native-outbox-get id))))
      (smtpmail-native-forget-passwords)
      (smtpmail-native-sink-settle-down))))

(ert-deftest smtpmail-native-attempt-tests-doubt-needs-word ()
  "Only the user's word with a begun attempt clears the doubt."
  (smtpmail-native-sink-with nil
    (dolist (state '((:status unknown :doubt t)
                     (:status held :hold password :doubt t)
                     (:status ready :doubt t)))
      (let ((id (smtpmail-native-sink-put state)))
        (smtpmail-native-watch-look)
        (should (= 0 (smtpmail-native-act-flush)))
        (smtpmail-native-attempt-tests--settle)
        (should-error (smtpmail-native-act-retry id)
                      :type 'smtpmail-native-usage-error)
        (should-not (smtpmail-native-sink-log folder "arrived"))
        ;; An attempt that cannot begin has not begun.
        (cl-letf (((symbol-function 'smtpmail-native-channel-submit)
                   (lambda (&rest _)
                     (smtpmail-native-error-signal
                      'smtpmail-native-usage-error "no"))))
          (smtpmail-native-act-retry id t))
        (should (smtpmail-native-attempt-tests--state id :doubt))
        (smtpmail-native-act-mark-sent id)))
    (let ((id (smtpmail-native-sink-put
               '(:status unknown :doubt t))))
      (smtpmail-native-act-retry id t)
      (smtpmail-native-attempt-tests--settle)
      (should (equal (smtpmail-native-sink-log folder "arrived") '("<1@x>")))
      (should-not (smtpmail-native-outbox-ids)))))

;;;; What one Emacs lacks

(ert-deftest smtpmail-native-attempt-tests-other-session ()
  "What another session lacked is tried here, and left alone if lacking, too."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN user pass"
       smtpmail-native-test-mail)
    (unwind-protect
        (smtpmail-native-attempt-tests--quietly
          (let* ((state '(:status held :hold password :text "No password"
                          :by (:instance "other-1-1" :user "user"
                               :source auth-source :why missing)))
                 (smtpmail-servers-requiring-authorization ".")
                 (id (smtpmail-native-sink-put state)))
            (dotimes (_ 2)
              (smtpmail-native-watch-look)
              (smtpmail-native-attempt-tests--settle)
              (should (equal (smtpmail-native-attempt-tests--state id :by)
                             (plist-get state :by))))
            ;; Now this one knows it.
            (let ((smtpmail-auth-credentials
                   (list (list "localhost" port "user" "pass"))))
              (clrhash smtpmail-native-go--tried)
              (smtpmail-native-watch-look)
              (smtpmail-native-attempt-tests--settle))
            (should-not (smtpmail-native-outbox-ids))
            (smtpmail-native-test-verdict server)))
      (clrhash smtpmail-native-go--tried)
      (smtpmail-native-sink-settle-down))))

(ert-deftest smtpmail-native-attempt-tests-not-the-same-again ()
  "A password that was refused is not tried by each session that starts."
  (smtpmail-native-test-with-server '("close")
    (unwind-protect
        (let* ((smtpmail-auth-credentials
                (list (list "localhost" port "user" "wrong")))
               (id (smtpmail-native-sink-put
                    '(:status held :hold password
                      :by (:instance "other-1-1" :user "user" :source classic
                           :why refused)))))
          (smtpmail-native-watch-look)
          (smtpmail-native-attempt-tests--settle)
          (should (eq (smtpmail-native-attempt-tests--state id :hold)
                      'password))
          (should-not (smtpmail-native-tell-trace id)))
      (clrhash smtpmail-native-go--tried)
      (smtpmail-native-sink-settle-down))))

(ert-deftest smtpmail-native-attempt-tests-look-up-error ()
  "A place that cannot be asked is a deferral, and no one is asked."
  (smtpmail-native-sink-with nil
    (smtpmail-native-attempt-tests--quietly
      (dolist (source (list (lambda (&rest _) (error "Decryption failed"))
                            (lambda (&rest _)
                              (list (list :user "u" :secret
                                          (lambda () (read-from-minibuffer
                                                      "? ")))))))
        (let* ((id (smtpmail-native-sink-put '(:status ready))))
          (cl-letf (((symbol-function 'auth-source-search) source))
            (smtpmail-native-watch-look)
            (smtpmail-native-attempt-tests--settle))
          (should (eq (smtpmail-native-attempt-tests--state id :status) 'ready))
          (should (> (smtpmail-native-attempt-tests--state id :next)
                     (float-time)))
          (should (eql (smtpmail-native-attempt-tests--state id :tries) 1))
          ;; A command that may ask looks again, and needs no waiting.
          (cl-letf (((symbol-function 'smtpmail-native-ask-send)
                     (lambda (entry _)
                       (smtpmail-native-outbox-release entry))))
            (should (= 1 (smtpmail-native-ask-all))))
          (smtpmail-native-act-delete id)
          (smtpmail-native-identity-forget-kept))))))

(ert-deftest smtpmail-native-attempt-tests-asynchronous ()
  "A secret that comes later does not stop Emacs, nor the message."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN user pass"
       smtpmail-native-test-mail)
    (unwind-protect
        (let ((callback nil)
              (id (smtpmail-native-sink-put '(:status ready))))
          (cl-letf (((symbol-function 'auth-source-search)
                     (lambda (&rest _)
                       (list (list :user "user" :secret
                                   (lambda (done) (setq callback done)))))))
            (smtpmail-native-watch-look)
            (smtpmail-native-test-wait (lambda () callback))
            (should (smtpmail-native-attempt-sending id))
            (funcall callback (copy-sequence "pass"))
            (smtpmail-native-attempt-tests--settle))
          (smtpmail-native-test-verdict server)
          (should-not (smtpmail-native-outbox-ids)))
      (smtpmail-native-sink-settle-down))))

(ert-deftest smtpmail-native-attempt-tests-no-descriptors ()
  "What this Emacs is short of is no fact of the entry; it is told once."
  (smtpmail-native-sink-with nil
    (let ((id (smtpmail-native-sink-put '(:status ready)))
          (told 0))
      (cl-letf (((symbol-function 'smtpmail-native-channel-submit)
                 (lambda (&rest _)
                   (signal 'file-error '("Creating pipe" "Too many open files"))))
                ((symbol-function 'smtpmail-native-tell-say)
                 (lambda (&rest _) (setq told (1+ told)))))
        (dotimes (_ 2)
          (smtpmail-native-watch-look)
          (smtpmail-native-attempt-tests--settle)))
      (should (= told 1))
      (should (equal (smtpmail-native-attempt-tests--state id :status) 'ready))
      (should-not (smtpmail-native-attempt-tests--state id :next))
      (smtpmail-native-watch-look)
      (smtpmail-native-attempt-tests--settle)
      (should-not (smtpmail-native-outbox-ids)))))

;;;; Hooks and copies

(ert-deftest smtpmail-native-attempt-tests-hooks-cost-nothing ()
  "An error, a quit or a throw in a hook keeps nothing from going on."
  (dolist (how (list (lambda () (error "No"))
                     (lambda () (signal 'quit nil))
                     (lambda () (throw 'exit nil))))
    (smtpmail-native-sink-with nil
      (let* ((calls 0)
             (copies (expand-file-name "sent.mbox" folder))
             (smtpmail-native-sent-functions
              (list (lambda (_) (setq calls (1+ calls)) (funcall how))
                    (lambda (_) (setq calls (1+ calls))))))
        (write-region "" nil copies nil 'silent)
        (cl-letf (((symbol-function 'display-warning) #'ignore))
          (dotimes (n 3)
            (let ((mail (smtpmail-native-sink-mail (format "<%d@x>" n))))
              (unwind-protect
                  (smtpmail-native-queue-send
                   (plist-put mail :fcc (list copies)) 'background)
                (kill-buffer (plist-get mail :buffer)))))
          (catch 'exit
            (smtpmail-native-attempt-tests--settle))
          (smtpmail-native-attempt-tests--settle))
        (should (= calls 6))
        (should-not (smtpmail-native-outbox-ids))
        (with-temp-buffer
          (insert-file-contents copies)
          (should (= 3 (how-many "^Message-ID: " (point-min)
                                 (point-max)))))))))

(ert-deftest smtpmail-native-attempt-tests-copy-of-partial ()
  "A copy is filed when the first recipient has got it, and only once."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo)
       "C: MAIL *" "S: 250 ok" "C: RCPT *bob*" "S: 250 ok"
       "C: RCPT *carol*" "S: 450 4.2.0 busy" "C: DATA" "S: 354 go" "data"
       "S: 250 taken"
       "C: MAIL *" "S: 250 ok" "C: RCPT *carol*" "S: 250 ok" "C: DATA"
       "S: 354 go" "data" "S: 250 taken" "C: QUIT" "S: 221 bye")
    (unwind-protect
        (let* ((smtpmail-native-partial-recipients t)
               (smtpmail-native-idle-seconds 2)
               (copies (expand-file-name "sent.mbox" folder))
               (count (lambda ()
                        (with-temp-buffer
                          (insert-file-contents copies)
                          (how-many "^Message-ID: " (point-min) (point-max)))))
               (mail (smtpmail-native-sink-mail
                      "<1@x>" "bob@example.org, carol@example.org")))
          (write-region "" nil copies nil 'silent)
          (smtpmail-native-queue-send (plist-put mail :fcc (list copies))
                                      'background)
          (smtpmail-native-attempt-tests--settle)
          (should (= 1 (funcall count)))
          (smtpmail-native-act-flush)
          (smtpmail-native-attempt-tests--settle)
          (should-not (smtpmail-native-outbox-ids))
          (should (= 1 (funcall count))))
      (smtpmail-native-sink-settle-down))))

;;;; Who you are

(ert-deftest smtpmail-native-attempt-tests-identity ()
  "A later attempt is for the user of the time of sending, in any buffer."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "AUTH PLAIN") "auth PLAIN alice a-secret"
       smtpmail-native-test-mail)
    (unwind-protect
        (let ((credentials (list (list "localhost" port "alice" "a-secret")))
              (id nil))
          (let ((smtpmail-auth-credentials credentials)
                (smtpmail-native-undo-seconds 1000))
            (setq id (plist-get (smtpmail-native-sink-send "<1@x>" 'background)
                                :id)))
          (smtpmail-native-identity-forget id)
          (should (equal (plist-get (plist-get (smtpmail-native-entry-envelope
                                                (smtpmail-native-outbox-get id))
                                               :identity)
                                    :user)
                         "alice"))
          ;; The password of the other account would be shown to the server.
          (let ((smtpmail-auth-credentials
                 (list (list "localhost" port "work" "w-secret"))))
            (smtpmail-native-act-flush)
            (smtpmail-native-attempt-tests--settle)
            (should (eq (smtpmail-native-attempt-tests--state id :hold)
                        'password))
            (should-not (smtpmail-native-tell-trace id)))
          ;; What is local to the current buffer does not count.
          (setq-default smtpmail-auth-credentials credentials)
          (let ((smtpmail-auth-credentials credentials))
            (with-temp-buffer
              (setq-local smtpmail-auth-credentials
                          (list (list "localhost" port "work" "w-secret")))
              (smtpmail-native-schedule-unlock
               (smtpmail-native-entry-envelope (smtpmail-native-outbox-get id)))
              (smtpmail-native-attempt-tests--settle)))
          (smtpmail-native-test-verdict server)
          (should-not (smtpmail-native-outbox-ids)))
      (smtpmail-native-sink-settle-down))))

(ert-deftest smtpmail-native-attempt-tests-hook-kills-buffer ()
  "A hook that kills or leaves its buffer does not get others into yours."
  (let ((yours (generate-new-buffer "yours"))
        (seen nil))
    (unwind-protect
        (dolist (harm (list (lambda () (kill-buffer))
                            (lambda () (set-buffer yours))))
          (smtpmail-native-quiet-call
           (lambda ()
             (smtpmail-native-quiet-guard "x" harm)
             (setq seen (current-buffer))))
          (should (eq seen (smtpmail-native-quiet-buffer))))
      (kill-buffer yours))))

(ert-deftest smtpmail-native-attempt-tests-no-dialog-box ()
  "Code that no command has started cannot ask by a dialog box either."
  (let* ((asked nil)
         (noninteractive nil)
         (last-nonmenu-event '(mouse-1))
         (last-input-event '(mouse-1))
         (use-dialog-box t))
    (cl-letf (((symbol-function 'display-popup-menus-p) #'always)
              ((symbol-function 'x-popup-dialog)
               (lambda (&rest _) (setq asked t)))
              ((symbol-function 'display-warning) #'ignore))
      (smtpmail-native-quiet-call #'y-or-n-p "Shall I? ")
      (smtpmail-native-quiet-call #'yes-or-no-p "Shall I? ")
      (should-not asked))))

(ert-deftest smtpmail-native-attempt-tests-no-turns ()
  "Sessions with different wrong passwords do not take turns for ever."
  (smtpmail-native-sink-with nil
    (let* ((tries 0)
           (by (lambda (who)
                 (list :instance who :user "user" :source 'classic
                       :why 'refused)))
           (id (smtpmail-native-sink-put
                '(:status held :hold password))))
      (unwind-protect
          (cl-letf (((symbol-function 'smtpmail-native-attempt)
                     (lambda (entry &rest _)
                       (setq tries (1+ tries))
                       (smtpmail-native-outbox-release entry))))
            (dotimes (n 9)
              (smtpmail-native-attempt-change
               id (lambda (entry)
                    (smtpmail-native-outbox-set
                     entry :by (funcall by (if (cl-evenp n) "a-1-1" "b-1-1")))))
              (smtpmail-native-index-want id)
              (smtpmail-native-index-complete 10)
              (smtpmail-native-go-try id))
            (should (= tries 2)))
        (clrhash smtpmail-native-go--tried)))))

(provide 'smtpmail-native-attempt-tests)
;;; smtpmail-native-attempt-tests.el ends here
