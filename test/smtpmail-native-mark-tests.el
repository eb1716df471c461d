;;; smtpmail-native-mark-tests.el --- Several messages, and one in a window  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Marks, the filter, the menu, the buffer of one message, and what `e' and `S'
;; do for a message that has failed.

;;; Code:

(require 'ert)
(require 'smtpmail-native-list-helper)

(defun smtpmail-native-mark-tests--three (&rest states)
  "Make an entry in each of STATES, by default three that are held.
Return their ids; point is on the first line."
  (prog1 (mapcar (lambda (state)
                   (smtpmail-native-list-tests--commit state))
                 (or states (make-list 3 '(:status held :hold user))))
    (goto-char (point-min))))

(defun smtpmail-native-mark-tests--tags ()
  "Return the first characters of all lines."
  (let ((tags nil))
    (save-excursion
      (goto-char (point-min))
      (while (not (eobp))
        (push (char-after) tags)
        (forward-line)))
    (concat (nreverse tags))))

(defun smtpmail-native-mark-tests--type (&rest keys)
  "Type KEYS, and answer each question with yes.
Return the questions."
  (mapcan (lambda (key) (smtpmail-native-list-tests--key key t)) keys))

(ert-deftest smtpmail-native-mark-tests-shown ()
  "A mark is seen before its line, also when that is drawn again."
  (smtpmail-native-list-tests--with nil
    (clrhash smtpmail-native-draw-marks)
    (let ((ids (smtpmail-native-mark-tests--three)))
      (smtpmail-native-mark-tests--type "m" "d")
      (should (equal ">D " (smtpmail-native-mark-tests--tags)))
      (should (equal (nth 2 ids) (tabulated-list-get-id)))
      (smtpmail-native-act-hold (car ids))
      (revert-buffer)
      (should (equal ">D " (smtpmail-native-mark-tests--tags)))
      (goto-char (point-min))
      (smtpmail-native-mark-tests--type "u")
      (should (equal " D " (smtpmail-native-mark-tests--tags)))
      (smtpmail-native-mark-tests--type "U")
      (should (equal "   " (smtpmail-native-mark-tests--tags))))))

(ert-deftest smtpmail-native-mark-tests-region ()
  "With a region all its lines get the mark."
  (smtpmail-native-list-tests--with nil
    (clrhash smtpmail-native-draw-marks)
    (smtpmail-native-mark-tests--three)
    (let ((transient-mark-mode t))
      (push-mark (point-min) t t)
      (goto-char (point-min))
      (forward-line 2)
      (smtpmail-native-mark-tests--type "d"))
    (should (equal "DD " (smtpmail-native-mark-tests--tags)))))

(ert-deftest smtpmail-native-mark-tests-execute ()
  "`x' deletes what is marked for it, after one question, and nothing else."
  (smtpmail-native-list-tests--with nil
    (clrhash smtpmail-native-draw-marks)
    (let ((ids (smtpmail-native-mark-tests--three)))
      (should-error (smtpmail-native-list-tests--key "x") :type 'user-error)
      (smtpmail-native-mark-tests--type "d" "m" "d")
      (should (equal '("Delete 2 messages without sending? ")
                     (smtpmail-native-list-tests--key "x" nil)))
      (should (equal ids (smtpmail-native-outbox-ids)))
      (smtpmail-native-list-tests--key "x" t)
      (should (equal (list (nth 1 ids)) (smtpmail-native-outbox-ids)))
      (should (equal ">" (smtpmail-native-mark-tests--tags))))))

(ert-deftest smtpmail-native-mark-tests-send ()
  "All marked messages are sent; what is in doubt only if you say so."
  (smtpmail-native-list-tests--with nil
    (clrhash smtpmail-native-draw-marks)
    (let ((ids (smtpmail-native-mark-tests--three
                '(:status held :hold user) '(:status unknown)
                '(:status refused) '(:status held :hold user))))
      (smtpmail-native-mark-tests--type "m" "m" "m")
      (should (equal '("1 of 3 messages may already have been delivered.  \
Send it again? ")
                     (smtpmail-native-list-tests--key "s" nil)))
      (smtpmail-native-list-tests--settle)
      (should (= 2 (length (smtpmail-native-sink-log folder "arrived"))))
      (should (equal (list (nth 1 ids) (nth 3 ids))
                     (smtpmail-native-outbox-ids)))
      (should (equal '(unknown nil)
                     (smtpmail-native-list-tests--status (nth 1 ids))))
      ;; It failed, and is still marked.
      (smtpmail-native-draw-update)
      (should (equal "> " (smtpmail-native-mark-tests--tags))))))

(ert-deftest smtpmail-native-mark-tests-hold ()
  "What cannot be held is told, and the others are held."
  (smtpmail-native-list-tests--with nil
    (clrhash smtpmail-native-draw-marks)
    (let ((ids (smtpmail-native-mark-tests--three
                '(:status held :hold queue) '(:status refused)
                '(:status ready :next 4000000000)))
          (said nil))
      (smtpmail-native-mark-tests--type "m" "m" "m")
      (cl-letf (((symbol-function 'message)
                 (lambda (format &rest args)
                   (setq said (and format (apply #'format format args))))))
        (smtpmail-native-list-tests--key "h"))
      (should (string-match-p "\\`2 messages held; 1 not: Only a waiting" said))
      (should (equal '((held user) (refused nil) (held user))
                     (mapcar #'smtpmail-native-list-tests--status ids))))))

(ert-deftest smtpmail-native-mark-tests-filter ()
  "Only what you want to see has a line, whatever happens meanwhile."
  (smtpmail-native-list-tests--with nil
    (unwind-protect
        (let ((ids (smtpmail-native-mark-tests--three
                    '(:status refused) '(:status held :hold queue)
                    '(:status held :hold password))))
          (pcase-dolist (`(,name . ,lines)
                         '(("refused" 0) ("queued" 1) ("held" 1 2)
                           ("needs attention" 0 2) ("" 0 1 2)))
            (smtpmail-native-list-filter name)
            (ert-info (name)
              (should (equal (mapcar (lambda (n) (nth n ids)) lines)
                             (let ((found nil))
                               (save-excursion
                                 (goto-char (point-min))
                                 (while (not (eobp))
                                   (push (tabulated-list-get-id) found)
                                   (forward-line)))
                               (nreverse found))))
              (should (equal (if (equal name "") "" (format " [%s]" name))
                             (smtpmail-native-list--filter-name)))))
          (smtpmail-native-list-filter "queued")
          (goto-char (point-min))
          (smtpmail-native-list-tests--key "h")
          (should (= (point-min) (point-max))))
      (setq smtpmail-native-draw-filter nil))))

(ert-deftest smtpmail-native-mark-tests-menus ()
  "Each item of the menus is a command; a click shows those of its message."
  (smtpmail-native-list-tests--with nil
    (let ((ids (smtpmail-native-mark-tests--three)))
      (dolist (map (list smtpmail-native-outbox-mode-map
                         smtpmail-native-show-mode-map))
        (let ((menu (lookup-key map [menu-bar Outbox]))
              (items 0))
          (should (keymapp menu))
          (map-keymap (lambda (_key item)
                        (let ((command (if (eq (car-safe item) 'menu-item)
                                           (nth 2 item)
                                         (cdr-safe item))))
                          (when (and command (symbolp command))
                            (setq items (1+ items))
                            (should (commandp command)))))
                      menu)
          (should (> items 5))))
      (goto-char (point-min))
      (let ((menu (make-sparse-keymap)))
        (cl-letf (((symbol-function 'mouse-set-point) #'ignore))
          (smtpmail-native-list--context-menu menu 'click))
        (should (eq 'smtpmail-native-list-show
                    (lookup-key menu [smtpmail-native-view]))))
      (should (string-match-p "show this message"
                              (get-text-property (point) 'help-echo)))
      (should (car ids)))))

(ert-deftest smtpmail-native-mark-tests-words ()
  "Reason begins with the server's words; the echo area has all."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit
               '(:status refused :text "mail.example.org:587 refused this \
recipient: 550 5.1.1 No such user"))))
      (should (equal "550 5.1.1 No such user"
                     (smtpmail-native-list-tests--cell id 7)))
      (should (string-prefix-p "mail.example.org:587 refused"
                               (smtpmail-native-list--eldoc))))))

;;;; One message

(ert-deftest smtpmail-native-mark-tests-show ()
  "The buffer of a message has the keys of the list, and goes on to the next."
  (smtpmail-native-list-tests--with nil
    (let ((ids (smtpmail-native-mark-tests--three)))
      (smtpmail-native-list-tests--key "RET")
      (should (derived-mode-p 'smtpmail-native-show-mode))
      (smtpmail-native-list-tests--key "n")
      (should (equal (nth 1 ids) smtpmail-native-show--id))
      (smtpmail-native-list-tests--key "n")
      (should-error (smtpmail-native-list-tests--key "n") :type 'user-error)
      (smtpmail-native-list-tests--key "p")
      (should (equal '("Delete \u201ctest\u201d to bob@example.org without \
sending it? ")
                     (smtpmail-native-list-tests--key "D" t)))
      (should (equal (list (nth 0 ids) (nth 2 ids))
                     (smtpmail-native-outbox-ids)))
      (should-not (get-buffer "*smtpmail-native mail*")))))

(ert-deftest smtpmail-native-mark-tests-fault ()
  "A draft says why it is one, and point is at the recipient at fault."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status refused :text "refused 100%"
       :results (("carol@example.org" refused 550 "5.1.1" "No such user")))
     (concat "To: bob@example.org, Carol <carol@example.org>\nSubject: x\n"
             mail-header-separator "\nx\n"))
    (smtpmail-native-list-tests--key "e")
    (should (looking-at "carol@example.org"))
    (should (string-match-p "carol@example.org: 550 No such user"
                            header-line-format)))
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status held :hold expired :text "mailbox 100% full"))
    (smtpmail-native-list-tests--key "e")
    (should (looking-at "Hello"))
    (should (equal " Not sent: mailbox 100%% full" header-line-format)))
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit '(:status held :hold user))
    (smtpmail-native-list-tests--key "e")
    (should-not header-line-format)))

(ert-deftest smtpmail-native-mark-tests-change-server ()
  "A message whose server was wrong is sent through the present one."
  (smtpmail-native-list-tests--with nil
    (let* ((port smtpmail-smtp-service)
           (id (let ((smtpmail-smtp-server "smtp.exmaple.invalid")
                     (smtpmail-smtp-service 26))
                 (smtpmail-native-list-tests--commit
                  '(:status held :hold expired))))
           (question (list (format "Its server is smtp.exmaple.invalid:26; \
send it through 127.0.0.1:%s now? " port))))
      (should (equal question (smtpmail-native-list-tests--key "S" nil)))
      (should (equal '(held expired) (smtpmail-native-list-tests--status id)))
      (should (equal question (smtpmail-native-list-tests--key "S" t)))
      (smtpmail-native-list-tests--settle)
      (should (= 1 (length (smtpmail-native-sink-log folder "arrived"))))
      (should-not (smtpmail-native-outbox-ids)))))

(ert-deftest smtpmail-native-mark-tests-change-server-kept ()
  "The other server is on the disk, and what is in doubt does not move."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit
               '(:status held :hold user)))
          (doubtful (smtpmail-native-list-tests--commit '(:status unknown))))
      (cl-letf (((symbol-function 'smtpmail-native-act-retry) #'ignore))
        (smtpmail-native-act-change-server
         id '(:host "other.example" :port 2525 :stream ssl :user "eve"
              :helo "me.example" :account "work"))
        (should-error (smtpmail-native-act-change-server
                       doubtful '(:host "other.example" :port 2525))
                      :type 'smtpmail-native-usage-error))
      (smtpmail-native-test-disk-idle)
      (let ((envelope (smtpmail-native-entry-envelope
                       (smtpmail-native-outbox-get id))))
        (should (equal '("other.example" 2525 ssl "eve" "work" ("bob@example.org"))
                       (mapcar (lambda (key) (plist-get envelope key))
                               '(:host :port :stream :user :account
                                 :recipients)))))
      (should (equal "127.0.0.1"
                     (plist-get (smtpmail-native-entry-envelope
                                 (smtpmail-native-outbox-get doubtful))
                                :host))))))

(ert-deftest smtpmail-native-mark-tests-change-server-damaged ()
  "Nothing is written to a damaged message."
  (smtpmail-native-list-tests--with nil
    (let* ((id (smtpmail-native-list-tests--commit '(:status held :hold user)))
           (file (smtpmail-native-outbox-file (smtpmail-native-outbox-get id)
                                              "message.el")))
      (delete-file file)
      (should-error (smtpmail-native-act-change-server
                     id '(:host "other.example" :port 2525))
                    :type 'smtpmail-native-usage-error)
      (should-error (smtpmail-native-list-tests--key "S" t) :type 'user-error)
      (smtpmail-native-test-disk-idle)
      (should-not (file-exists-p file)))))

(provide 'smtpmail-native-mark-tests)
;;; smtpmail-native-mark-tests.el ends here
