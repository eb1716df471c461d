;;; smtpmail-native-notice-tests.el --- What needs you, and how it is told  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The text of notices, and the buffer that shows them.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-notices)
(require 'smtpmail-native-react)
(require 'smtpmail-native-tell)
(require 'server)

(defun smtpmail-native-notice-tests--entry (id state &rest envelope)
  "Return the entry ID in STATE; ENVELOPE goes before what it has by default."
  (smtpmail-native-entry-make
   :id id
   :envelope (append envelope
                     (list :recipients '("bob@example.org")
                           :subject "Minutes of the meeting"
                           :host "mail.example.org" :port 587
                           :user "alice" :created 0))
   :state state))

(defun smtpmail-native-notice-tests--text (&rest entries)
  "Return the text of the notices for ENTRIES, without properties."
  (mapconcat (lambda (group)
               (substring-no-properties (smtpmail-native-notice-block group)))
             (smtpmail-native-notice-groups
              (mapcar #'smtpmail-native-notice entries))
             "\n"))

(defmacro smtpmail-native-notice-tests--live (&rest body)
  "Run BODY as in an Emacs that shows notices, and remove them."
  (declare (indent 0) (debug t))
  `(let ((noninteractive nil)
         (inhibit-message t)
         (smtpmail-native-changed-functions nil)
         (smtpmail-native-notices--table (make-hash-table :test #'equal))
         (smtpmail-native-notices--timer nil)
         (smtpmail-native-notices--news nil))
     (unwind-protect
         (save-window-excursion ,@body)
       (when smtpmail-native-notices--timer
         (cancel-timer smtpmail-native-notices--timer))
       (when (get-buffer smtpmail-native-notices--name)
         (kill-buffer smtpmail-native-notices--name)))))

(defun smtpmail-native-notice-tests--shown ()
  "Show what has changed, and return the text of the buffer."
  (smtpmail-native-notices--update)
  (with-current-buffer smtpmail-native-notices--name
    (buffer-substring-no-properties (point-min) (point-max))))

;;;; Words

(ert-deftest smtpmail-native-notice-tests-refused ()
  "One line says what happened to which message; the reply stands there once."
  (should
   (equal
    "Not sent: \u201cMinutes of the meeting\u201d to bob@example.org and 1 more
  mail.example.org:587 refused this recipient: 550 5.1.1 No such user
  here.
  The other 2 recipients have received it.
  [Edit]  [Send again]  [Show]  [Delete...]  [Outbox]
"
    (smtpmail-native-notice-tests--text
     (smtpmail-native-notice-tests--entry
      "1" '(:status refused
            :results (("a@b" sent 250 nil nil) ("c@d" sent 250 nil nil))
            :text "mail.example.org:587 refused this recipient: 550 5.1.1 \
No such user here")
      :recipients '("bob@example.org" "carol@example.org"))))))

(ert-deftest smtpmail-native-notice-tests-kinds ()
  "Each kind of trouble has its first words and its buttons."
  (pcase-dolist
      (`(,state ,head . ,labels)
       '(((:status unknown) "May have been delivered: "
          "It was delivered" "Send again..." "Edit" "Show" "Outbox")
         ((:status ready :tries 2 :next 4000000000) "Deferred: "
          "Try now" "Edit" "Hold" "Show" "Outbox")
         ((:status held :hold password) "Held: "
          "Enter password..." "Where Emacs looked" "Edit" "Show" "Outbox")
         ;; No one can type a token.
         ((:status held :hold password :renewed t) "Held: "
          "Send again" "Where Emacs looked" "Edit" "Show" "Outbox")
         ((:status held :hold certificate) "Held: "
          "Accept certificate..." "Show" "Outbox")
         ((:status held :hold settings) "Held: "
          "Edit" "Send again" "Show" "Outbox")
         ((:status held :hold expired) "Not sent: "
          "Send again" "Edit" "Show" "Delete..." "Outbox")
         ;; What may have been delivered is no other case.
         ((:status held :hold password :doubt t) "May have been delivered: "
          "It was delivered" "Send again..." "Edit" "Show" "Outbox")))
    (ert-info ((format "%S" state))
      (let ((text (smtpmail-native-notice-tests--text
                   (smtpmail-native-notice-tests--entry "1" state)))
            (found nil))
        (should (string-prefix-p
                 (concat head "\u201cMinutes of the meeting\u201d to bob@")
                 text))
        (with-temp-buffer
          (insert text)
          (goto-char (point-min))
          (while (re-search-forward "\\[\\([^]]+\\)\\]" nil t)
            (push (match-string 1) found)))
        (should (equal labels (nreverse found)))))))

(ert-deftest smtpmail-native-notice-tests-filled ()
  "Lines are short where that does not break a word."
  (let ((long (make-string 90 ?x)))
    (dolist (line (split-string
                   (smtpmail-native-notice-tests--text
                    (smtpmail-native-notice-tests--entry
                     "1" (list :status 'refused
                               :text (concat "The server mail.example.org:587 \
refused the message with these words: " long " and many, many, many more")))
                    (smtpmail-native-notice-tests--entry
                     "2" '(:status unknown) :subject "" :recipients
                     '("a.very.long.name.of.a.recipient.indeed@example.org")))
                   "\n"))
      (should (or (<= (string-width line) smtpmail-native-notice-width)
                  (equal (string-trim line) long))))))

(ert-deftest smtpmail-native-notice-tests-many ()
  "Many messages that failed at one server are one notice, three are not."
  (let ((entries (mapcar (lambda (n)
                           (smtpmail-native-notice-tests--entry
                            (number-to-string n)
                            (list :status (if (< n 5) 'refused 'unknown)
                                  :text "550 No")))
                         (number-sequence 1 6)))
        (other (smtpmail-native-notice-tests--entry
                "x" '(:status refused :text "no") :host "other.example")))
    (should (= 3 (length (smtpmail-native-notice-groups
                          (mapcar #'smtpmail-native-notice
                                  (seq-take entries 3))))))
    (should
     (string-match-p
      (concat "\\`6 messages were not sent through mail.example.org:587\n"
              "  4 refused, 2 unconfirmed.\n"
              "  First: \u201cMinutes of the meeting\u201d to "
              "bob@example.org: 550 No.\n"
              "  \\[Outbox\\]  \\[Dismiss\\]\n\nNot sent: ")
      (apply #'smtpmail-native-notice-tests--text
             (append entries (list other)))))))

(ert-deftest smtpmail-native-notice-tests-same-password ()
  "Messages that wait for the same password are one notice."
  (should
   (string-prefix-p
    "Held: \u201cMinutes of the meeting\u201d to bob@example.org and 2 more \
messages\n"
    (apply #'smtpmail-native-notice-tests--text
           (mapcar (lambda (id)
                     (smtpmail-native-notice-tests--entry
                      id '(:status held :hold password :text "535 No")))
                   '("1" "2" "3"))))))

(ert-deftest smtpmail-native-notice-tests-hostile ()
  "Neither a subject nor a reply can disguise what a notice says."
  (let ((text (smtpmail-native-notice-tests--text
               (smtpmail-native-notice-tests--entry
                "1" '(:status refused :text "550 a\nSent: b\u202e")
                :subject "x\n[Edit]\e[1m\u202e"))))
    (should-not (string-match-p "[\e\u202e]" text))
    (should-not (string-match-p "^Sent" text))))

(ert-deftest smtpmail-native-notice-tests-hostile-text ()
  "Nor can a text that concerns no message, and none is without end."
  (let* ((text (concat (propertize "No\nway" 'display "Sent" 'keymap 'x)
                       "\e[1m\u202e" (make-string 5000 ?x)))
         (head (smtpmail-native-notice-head
                (smtpmail-native-notice-text-only text)))
         (block (smtpmail-native-notice-block
                 (list (smtpmail-native-notice-text-only text)))))
    (should (string-prefix-p "No way\\x1b[1m\\x202exxx" head))
    (should (<= (string-width head) 1000))
    (should-not (text-property-not-all 0 (length block) 'display nil block))
    (should (< (length (smtpmail-native-notice-text
                        (smtpmail-native-notice
                         (smtpmail-native-notice-tests--entry
                          "1" (list :status 'refused :text text)))))
               1100))))

;;;; The buffer

(ert-deftest smtpmail-native-notice-tests-appears ()
  "The buffer appears below, unselected, and goes with its last notice."
  (smtpmail-native-notice-tests--live
    (let* ((entry (smtpmail-native-notice-tests--entry
                   "1" '(:status refused :text "550 No")))
           (window (selected-window))
           (buffer (window-buffer window)))
      (delete-other-windows)
      (smtpmail-native-tell-notice (smtpmail-native-notice entry))
      (should (string-prefix-p "Not sent: "
                               (smtpmail-native-notice-tests--shown)))
      (should (eq window (selected-window)))
      (should (eq buffer (window-buffer window)))
      (should (get-buffer-window smtpmail-native-notices--name))
      ;; It is gone from the outbox.
      (cl-letf (((symbol-function 'smtpmail-native-index-entry) #'ignore))
        (smtpmail-native-index-changed "1"))
      (smtpmail-native-notice-tests--shown)
      (should-not (get-buffer-window smtpmail-native-notices--name))
      (should (eq window (selected-window)))
      (should (= 1 (length (window-list nil 'no-minibuffer)))))))

(ert-deftest smtpmail-native-notice-tests-hidden ()
  "A window that you hid comes back for what is new, and for nothing else."
  (smtpmail-native-notice-tests--live
    (cl-flet ((tell (id state)
                (smtpmail-native-tell-notice
                 (smtpmail-native-notice
                  (smtpmail-native-notice-tests--entry id state)))
                (smtpmail-native-notice-tests--shown)
                (prog1 (and (get-buffer-window smtpmail-native-notices--name)
                            t)
                  (mapc #'delete-window (smtpmail-native-notices--windows)))))
      (delete-other-windows)
      (should (tell "1" '(:status held :hold password :text "535 No")))
      (should-not (tell "1" '(:status held :hold password :text "535 No!")))
      (should-not (tell "2" '(:status held :hold password :text "535 No")))
      (should (tell "3" '(:status refused :text "550 No")))
      (should (tell "1" '(:status refused :text "550 No"))))))

(ert-deftest smtpmail-native-notice-tests-daemon ()
  "Where no one looks, a notice stays news until someone does."
  (smtpmail-native-notice-tests--live
    (delete-other-windows)
    (let ((attended nil))
      (cl-letf (((symbol-function 'smtpmail-native-tell-attended-p)
                 (lambda () attended)))
        (smtpmail-native-tell-notice
         (smtpmail-native-notice
          (smtpmail-native-notice-tests--entry "1" '(:status refused))))
        (smtpmail-native-notice-tests--shown)
        (should-not (smtpmail-native-notices--windows))
        (should (memq #'smtpmail-native-notices--later
                      server-after-make-frame-hook))
        (setq attended t)
        (smtpmail-native-notice-tests--shown)
        (should (smtpmail-native-notices--windows))))))

(ert-deftest smtpmail-native-notice-tests-fails ()
  "An error in what shows notices is no error of what gives notice."
  (smtpmail-native-notice-tests--live
    (let ((told nil))
      (cl-letf (((symbol-function 'smtpmail-native-notices-put)
                 (lambda (&rest _) (error "Broken")))
                ((symbol-function 'display-warning)
                 (lambda (_type text &rest _) (push text told))))
        (should-not (smtpmail-native-quiet-call (lambda () (error "First")))))
      (should (equal '("Error of smtpmail-native: First") told)))))

(ert-deftest smtpmail-native-notice-tests-solved ()
  "A notice goes when its message needs you no more, and only then."
  (smtpmail-native-notice-tests--live
    (let ((states (list (cons "1" '(:status refused))
                        (cons "2" '(:status ready :tries 2)))))
      (cl-flet ((put (id)
                  (smtpmail-native-tell-notice
                   (smtpmail-native-notice
                    (smtpmail-native-notice-tests--entry
                     id (cdr (assoc id states))))))
                (left (&optional id)
                  (smtpmail-native-index-changed id)
                  (mapcar #'smtpmail-native-notice-id
                          (smtpmail-native-notices-list))))
        (cl-letf (((symbol-function 'smtpmail-native-index-entry)
                   (lambda (id)
                     (let ((state (cdr (assoc id states))))
                       (and state (smtpmail-native-notice-tests--entry
                                   id state))))))
          (put "1")
          (put "2")
          (should (equal '("1" "2") (left)))
          ;; It is being tried again.
          (setf (alist-get "1" states nil nil #'equal) '(:status ready))
          (should (equal '("2") (left "1")))
          (setf (alist-get "2" states nil nil #'equal)
                '(:status held :hold user))
          (should (equal '("2") (left "1")))
          (should-not (left "2")))))))

(ert-deftest smtpmail-native-notice-tests-renewed ()
  "A notice of what is tried again says why and when by now, and is no news."
  (smtpmail-native-notice-tests--live
    (cl-flet ((entry (text)
                (smtpmail-native-notice-tests--entry
                 "1" (list :status 'ready :tries 2 :text text))))
      (smtpmail-native-tell-notice
       (smtpmail-native-notice (entry "451 Later")))
      (should (string-match-p "451 Later" (smtpmail-native-notice-tests--shown)))
      (cl-letf (((symbol-function 'smtpmail-native-index-entry)
                 (lambda (_) (entry "452 Full"))))
        (smtpmail-native-index-changed "1"))
      (should-not smtpmail-native-notices--news)
      (should (string-match-p "452 Full"
                              (smtpmail-native-notice-tests--shown))))))

(ert-deftest smtpmail-native-notice-tests-sent ()
  "A notice says that its message was sent after all, and goes."
  (smtpmail-native-notice-tests--live
    (let ((entry (smtpmail-native-notice-tests--entry
                  "1" '(:status ready :tries 2 :text "451 Later"))))
      (smtpmail-native-tell-notice (smtpmail-native-notice entry))
      (cl-letf (((symbol-function 'smtpmail-native-quiet-timer) #'ignore)
                ((symbol-function 'smtpmail-native-index-entry) #'ignore))
        (smtpmail-native-tell-sent entry)
        ;; Its entry goes at the same time.
        (smtpmail-native-index-changed "1")
        (should (string-match-p "\\`Sent at [0-9:]+: \u201cMinutes"
                                (smtpmail-native-notice-tests--shown)))
        (smtpmail-native-notices-drop "1")
        (should (equal "No notices\n" (smtpmail-native-notice-tests--shown)))))))

(ert-deftest smtpmail-native-notice-tests-buttons ()
  "A button acts on the message of its own notice."
  (smtpmail-native-notice-tests--live
    (dolist (id '("1" "2"))
      (smtpmail-native-tell-notice
       (smtpmail-native-notice
        (smtpmail-native-notice-tests--entry id '(:status refused)))))
    (smtpmail-native-notice-tests--shown)
    (with-current-buffer smtpmail-native-notices--name
      (let ((done nil))
        (cl-letf (((symbol-function 'smtpmail-native-react)
                   (lambda (&rest args) (push args done))))
          (goto-char (point-min))
          (forward-button 2)
          (push-button)
          (forward-button 5)
          (push-button))
        (should (equal '((send "2") (send "1")) done))
        ;; One that you put away is gone, and point is at what follows.
        (goto-char (point-min))
        (smtpmail-native-notices-dismiss)
        (should (equal '("2") (mapcar #'smtpmail-native-notice-id
                                      (smtpmail-native-notices-list))))))))

(ert-deftest smtpmail-native-notice-tests-gone ()
  "A button for a message that is gone says so, and the notice goes, too."
  (smtpmail-native-test-with-outbox
    (smtpmail-native-notice-tests--live
      (smtpmail-native-notices-put
       (smtpmail-native-notice
        (smtpmail-native-notice-tests--entry "1" '(:status refused))))
      (dolist (action '(edit send delete))
        (should-error (smtpmail-native-react action "1") :type 'user-error))
      (should-error (smtpmail-native-show "1") :type 'user-error)
      (should-not (smtpmail-native-notices-list)))))

(ert-deftest smtpmail-native-notice-tests-text ()
  "A text is a notice of its own; the same one does not come twice."
  (smtpmail-native-notice-tests--live
    (smtpmail-native-quiet-warn "Cannot write to the outbox")
    (smtpmail-native-quiet-warn "Cannot write to the outbox")
    (should (equal "Cannot write to the outbox\n  [Outbox]  [Dismiss]\n"
                   (smtpmail-native-notice-tests--shown)))))

(ert-deftest smtpmail-native-notice-tests-password ()
  "A password that worked in the background is offered for saving.
It asks nothing by itself; when it is saved, the notice goes."
  (smtpmail-native-notice-tests--live
    (let ((smtpmail-native-auth--unsaved nil)
          (saved 0))
      (cl-letf (((symbol-function 'smtpmail-native-tell-attended-p)
                 (lambda () t)))
        (smtpmail-native-auth-worked
         (list :host "h" :port 25 :user "alice"
               :save (lambda () (setq saved (1+ saved))))
         t)
        (should (equal "The server accepted the password of alice at h:25, \
which is not saved\n  [Save password...]  [Dismiss]\n"
                       (replace-regexp-in-string
                        "\n  \\([a-z]\\)" " \\1"
                        (smtpmail-native-notice-tests--shown))))
        (should (= saved 0))
        (with-current-buffer smtpmail-native-notices--name
          (goto-char (point-min))
          (forward-button 1)
          (push-button))
        (should (= saved 1))
        (should-not (smtpmail-native-notices-list))
        (should-error (smtpmail-native-save-passwords) :type 'user-error)))))

(ert-deftest smtpmail-native-notice-tests-batch ()
  "In batch mode a notice is one warning, as it always was."
  (let ((told nil))
    (cl-letf (((symbol-function 'display-warning)
               (lambda (_type text &rest _) (push text told))))
      (smtpmail-native-tell
       (smtpmail-native-notice-tests--entry
        "1" '(:status refused :text "h:25 refused this recipient: 550 No"))))
    (should (equal told '("Not sent: \u201cMinutes of the meeting\u201d to \
bob@example.org: h:25 refused this recipient: 550 No.  No recipient has \
received the message.")))))

(provide 'smtpmail-native-notice-tests)
;;; smtpmail-native-notice-tests.el ends here
