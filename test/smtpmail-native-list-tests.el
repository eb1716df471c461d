;;; smtpmail-native-list-tests.el --- What the user sees of the outbox  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The list, its keys, drafts and the mode line.  Most entries are made as the
;; state that is wanted; where sending counts, it is the sink or the scripted
;; server.

;;; Code:

(require 'ert)
(require 'smtpmail-native-list)
(require 'smtpmail-native-draft)
(require 'smtpmail-native-list-helper)

;;;; What is shown

(ert-deftest smtpmail-native-list-tests-states ()
  "Each state has its name, its face, and what is said of the next try."
  (smtpmail-native-list-tests--with nil
    (let ((soon (+ (truncate (float-time)) 100)))
      (pcase-dolist
          (`(,state ,name ,face ,next ,needy)
           `(((:status ready) "waiting" waiting "now" nil)
             ((:status ready :next ,soon :tries 2) "retry in 1m" waiting "1m" nil)
             ((:status held :hold queue) "queued" held "" nil)
             ((:status held :hold user) "held" held "" nil)
             ((:status held :hold password) "password" attention "" t)
             ((:status held :hold settings) "settings" attention "" t)
             ((:status held :hold password :doubt t) "unconfirmed" attention
              "" t)
             ((:status ready :doubt t) "unconfirmed" attention "" t)
             ((:status held :hold certificate) "certificate" attention "" t)
             ((:status held :hold expired) "gave up" attention "" t)
             ((:status held :hold interrupted) "held" attention "" t)
             ((:status held :hold error) "held" attention "" t)
             ((:status refused) "refused" refused "" t)
             ((:status unknown) "unconfirmed" attention "" t)))
        (let ((id (smtpmail-native-list-tests--commit
                   (append state '(:text "because")))))
          (ert-info ((format "%S" state))
            (let ((cell (smtpmail-native-list-tests--cell id 0)))
              (should (equal (substring-no-properties cell) name))
              (should (eq (get-text-property 0 'face cell)
                          (intern (format "smtpmail-native-%s" face))))
              (should (facep (get-text-property 0 'face cell))))
            (should (equal (smtpmail-native-list-tests--cell id 1)
                           "bob@example.org"))
            (should (equal (smtpmail-native-list-tests--cell id 2) "test"))
            (should (string-match-p "\\`[0-9]+\\'"
                                    (smtpmail-native-list-tests--cell id 3)))
            (should (equal (smtpmail-native-list-tests--cell id 5)
                           (if (plist-get state :tries) "2" "")))
            (should (equal (smtpmail-native-list-tests--cell id 6) next))
            (should (equal (smtpmail-native-list-tests--cell id 7) "because"))
            (should (equal (smtpmail-native-list--eldoc) "because"))
            (should (eq (and (smtpmail-native-entry-needs-user-p
                              (smtpmail-native-outbox-get id))
                             t)
                        needy))
            (smtpmail-native-act-delete id)))))))

(ert-deftest smtpmail-native-list-tests-undo-counts-down ()
  "A mail that can be undone says for how long."
  (smtpmail-native-list-tests--with nil
    (let* ((now (truncate (float-time)))
           (id (smtpmail-native-list-tests--commit
                (list :status 'ready :undo t :next (+ now 30)))))
      (cl-letf (((symbol-function 'float-time) (lambda (&rest _) (+ now 25.5))))
        (revert-buffer)
        (should (equal (substring-no-properties
                        (smtpmail-native-list-tests--cell id 0))
                       "undo 5s"))
        (should (equal (smtpmail-native-list-tests--cell id 6) "5s"))))))

(ert-deftest smtpmail-native-list-tests-spans ()
  "Time spans are at most four characters for a long time."
  (should (equal (mapcar #'smtpmail-native-row--span
                         '(-1 0 59 60 3599 3600 86399 86400 8640000))
                 '("0s" "0s" "59s" "1m" "59m" "1h" "23h" "1d" "100d"))))

(ert-deftest smtpmail-native-list-tests-nothing-escapes ()
  "No text of others can add a line to the list or disguise what it says."
  (smtpmail-native-list-tests--with nil
    (let* ((bad "a\nb\e[2J\x202e")
           (id (smtpmail-native-list-tests--commit
                (list :status 'refused :text bad)
                (concat "To: bob@example.org\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe_"
                        "=0A=1B[2J=E2=80=AE?=\n" mail-header-separator
                        "\nx\n"))))
      (should (= 1 (count-lines (point-min) (point-max))))
      (should-not (string-match-p "[\n\e\x202e]"
                                  (smtpmail-native-list-tests--cell id 2)))
      (should (string-match-p "Grüße"
                              (smtpmail-native-list-tests--cell id 2)))
      (should-not (string-match-p "[\n\e\x202e]"
                                  (smtpmail-native-list-tests--cell id 7)))
      (should-not (string-match-p "[\n\e\x202e]"
                                  (smtpmail-native-list--eldoc)))
      (smtpmail-native-list-tests--key "RET")
      (with-current-buffer "*smtpmail-native mail*"
        (should (string-match-p "^Subject: Grüße" (buffer-string)))
        (should-not (string-match-p "[\e\x202e]" (buffer-string)))))))

(ert-deftest smtpmail-native-list-tests-damaged ()
  "A damaged entry is shown, looked at as far as possible, and deleted."
  (smtpmail-native-list-tests--with nil
    (dolist (file '("message" "message.el"))
      (let* ((id (smtpmail-native-list-tests--commit '(:status ready)))
             (entry (smtpmail-native-outbox-get id)))
        (delete-file (smtpmail-native-outbox-file entry file))
        (revert-buffer)
        (ert-info (file)
          (should (equal (substring-no-properties
                          (smtpmail-native-list-tests--cell id 0))
                         "damaged"))
          (should (string-match-p "message"
                                  (smtpmail-native-list-tests--cell id 7)))
          (should (equal (smtpmail-native-list-tests--cell id 6) ""))
          (smtpmail-native-list-tests--key "RET")
          (with-current-buffer "*smtpmail-native mail*"
            (should (string-match-p "^Problem: " (buffer-string)))
            (should (string-match-p (if (equal file "message")
                                        "^Recipient: bob@example.org"
                                      "^Hello")
                                    (buffer-string))))
          (pop-to-buffer (smtpmail-native-draw-buffer))
          (dolist (key '("e" "s" "a"))
            (should-error (smtpmail-native-list-tests--key key)
                          :type 'user-error))
          (should (= 1 (plist-get (smtpmail-native-line-counts) :needy)))
          (smtpmail-native-list-tests--key "D" t)
          (should-not (smtpmail-native-outbox-ids)))))))

(ert-deftest smtpmail-native-list-tests-damaged-cut ()
  "Of a message that is cut off no draft is made, and nothing is lost."
  (smtpmail-native-list-tests--with nil
    (let* ((id (smtpmail-native-list-tests--commit '(:status refused)))
           (entry (smtpmail-native-outbox-get id)))
      (with-temp-file (smtpmail-native-outbox-file entry "message")
        (insert "To: bob@example.org\n"))
      (should-error (smtpmail-native-list-tests--key "e") :type 'user-error)
      (should (equal (smtpmail-native-outbox-ids) (list id)))
      (should-not (get-buffer "*unsent mail to bob@example.org*")))))

(ert-deftest smtpmail-native-list-tests-shows-mime ()
  "A mail is shown decoded, attachments as a line."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status refused :text "550 no"
       :results (("bob@example.org" refused 550 nil "no such user")))
     (concat "To: bob@example.org\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\n"
             "MIME-Version: 1.0\n"
             "Content-Type: multipart/mixed; boundary=b\n\n"
             "--b\nContent-Type: text/plain; charset=utf-8\n"
             "Content-Transfer-Encoding: quoted-printable\n\nH=C3=A4llo\n"
             "--b\nContent-Type: application/pdf; name=x.pdf\n"
             "Content-Transfer-Encoding: base64\n\nAAAA\n--b--\n"))
    (smtpmail-native-list-tests--key "RET")
    (should (derived-mode-p 'smtpmail-native-show-mode))
    (dolist (text '("^State: refused$" "^Reason: 550 no$"
                    "^Recipient: bob@example.org: refused, 550 no such user$"
                    "^Subject: Grüße$" "^Hällo$"
                    "^\\[x\\.pdf, application/pdf, .*\\]$"))
      (should (string-match-p text (buffer-string))))))

;;;; Keys

(ert-deftest smtpmail-native-list-tests-hold-send ()
  "`h' holds what waits; `s' sends it."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit
               (list :status 'ready :next (+ 1000 (truncate (float-time)))))))
      (smtpmail-native-list-tests--key "h")
      (should (equal (smtpmail-native-list-tests--status id) '(held user)))
      (should (equal (substring-no-properties
                      (smtpmail-native-list-tests--cell id 0))
                     "held"))
      (should-error (smtpmail-native-list-tests--key "c") :type 'user-error)
      (should-not (smtpmail-native-list-tests--key "s"))
      (smtpmail-native-list-tests--settle)
      (should (= 1 (length (smtpmail-native-sink-log folder "arrived"))))
      (smtpmail-native-test-wait (lambda () (= (point-min) (point-max)))))))

(ert-deftest smtpmail-native-list-tests-unknown ()
  "What may have arrived is sent or edited only after asking; `a' ends it."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit '(:status unknown)))
          (copied nil))
      (dolist (key '("s" "e" "a" "D"))
        (should (smtpmail-native-list-tests--key key nil))
        (should (equal (smtpmail-native-list-tests--status id) '(unknown nil))))
      (should-error (smtpmail-native-list-tests--key "h") :type 'user-error)
      (should (equal (smtpmail-native-list-tests--status id) '(unknown nil)))
      (let ((smtpmail-native-sent-functions
             (list (lambda (plist) (setq copied (plist-get plist :id))))))
        (smtpmail-native-list-tests--key "a" t))
      (should (equal copied id))
      (should-not (smtpmail-native-outbox-ids))
      (should (= (point-min) (point-max)))
      (should-not (smtpmail-native-sink-log folder "arrived"))
      (smtpmail-native-list-tests--commit '(:status unknown))
      (should (smtpmail-native-list-tests--key "s" t))
      (smtpmail-native-list-tests--settle)
      (should (= 1 (length (smtpmail-native-sink-log folder "arrived")))))))

(ert-deftest smtpmail-native-list-tests-mark-only-unknown ()
  "What is known not to have been sent is not marked as sent."
  (smtpmail-native-list-tests--with nil
    (dolist (state '((:status refused) (:status held :hold user)
                     (:status ready :next 9999999999)))
      (let ((id (smtpmail-native-list-tests--commit state)))
        (should-error (smtpmail-native-list-tests--key "a" t) :type 'user-error)
        (should (smtpmail-native-outbox-get id))))))

(ert-deftest smtpmail-native-list-tests-stored-reason ()
  "Without a trace, its key shows the reason that is stored, made safe."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status refused :text "550 5.1.1 No such\e user"))
    (smtpmail-native-list-tests--key "t")
    (with-current-buffer "*smtpmail-native trace*"
      (should (string-match-p "550 5.1.1 No such" (buffer-string)))
      (should-not (string-search "\e" (buffer-string))))
    (smtpmail-native-list-tests--commit '(:status held :hold user))
    (should-error (smtpmail-native-list-tests--key "t") :type 'user-error)))

(ert-deftest smtpmail-native-list-tests-delete ()
  "`d' asks, and deletes only then."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit '(:status refused))))
      (should (equal (smtpmail-native-list-tests--key "D" nil)
                     '("Delete \u201ctest\u201d to bob@example.org without \
sending it? ")))
      (should (smtpmail-native-outbox-get id))
      (smtpmail-native-list-tests--key "D" t)
      (should-not (smtpmail-native-outbox-ids))
      (should (= (point-min) (point-max)))
      (should-error (smtpmail-native-list-tests--key "D" t)
                    :type 'user-error))))

(ert-deftest smtpmail-native-list-tests-flush ()
  "`f' sends all that waits and leaves the rest."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit '(:status held :hold queue))
    (smtpmail-native-list-tests--commit '(:status ready :next 9999999999))
    (let ((kept (list (smtpmail-native-list-tests--commit '(:status refused))
                      (smtpmail-native-list-tests--commit
                       '(:status held :hold user)))))
      (smtpmail-native-list-tests--key "f")
      (should (equal (current-message) nil))
      (smtpmail-native-list-tests--settle)
      (should (= 2 (length (smtpmail-native-sink-log folder "arrived"))))
      (should (equal (smtpmail-native-outbox-ids) kept)))))

(ert-deftest smtpmail-native-list-tests-sending ()
  "A mail under way shows its progress, refuses the rest, and is cancelled."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   "C: MAIL *" "S: 250 ok" "stall")
    (smtpmail-native-list-tests--in-list
      (unwind-protect
          (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background)
                               :id)))
            (revert-buffer)
            (should (equal (substring-no-properties
                            (smtpmail-native-list-tests--cell id 0))
                           "sending"))
            (let ((sending (smtpmail-native-attempt-sending id)))
              (setf (smtpmail-native-sending-sent sending) 4299
                    (smtpmail-native-sending-total sending) 10000))
            (smtpmail-native-index-changed id)
            (smtpmail-native-test-wait
             (lambda ()
               (equal (substring-no-properties
                       (smtpmail-native-list-tests--cell id 0))
                      "sending 42%")))
            (should (equal (substring-no-properties smtpmail-native-mode-line)
                           " Mail:1 42%"))
            (dolist (key '("e" "s" "D" "h"))
              (should-error (smtpmail-native-list-tests--key key t)
                            :type 'user-error)
              (should (smtpmail-native-attempt-sending id)))
            (smtpmail-native-test-wait
             (lambda ()
               (string-match-p "MAIL" (or (smtpmail-native-tell-trace id)
                                          ""))))
            (smtpmail-native-list-tests--key "t")
            (with-current-buffer "*smtpmail-native trace*"
              (should (string-match-p "^C: MAIL FROM:<alice@example.org>"
                                      (buffer-string))))
            (smtpmail-native-list-tests--key "c")
            (smtpmail-native-list-tests--settle)
            (should (equal (smtpmail-native-list-tests--status id)
                           '(held user)))
            (smtpmail-native-test-wait
             (lambda ()
               (equal (substring-no-properties
                       (smtpmail-native-list-tests--cell id 0))
                      "held")))
            (should (equal smtpmail-native-mode-line "")))
        (smtpmail-native-sink-settle-down)))))

(ert-deftest smtpmail-native-list-tests-no-line ()
  "Where there is no mail, no key does anything but say so."
  (smtpmail-native-list-tests--with nil
    (dolist (key '("RET" "e" "s" "h" "c" "d" "D" "m" "a" "S" "t"
                   "x"))
      (should-error (smtpmail-native-list-tests--key key t)
                    :type 'user-error))))

(ert-deftest smtpmail-native-list-tests-help ()
  "The help names every key and every state."
  (smtpmail-native-list-tests--with nil
    (should (eq (key-binding "?") #'describe-mode))
    (should (eq (key-binding "q") #'quit-window))
    (should (eq (key-binding "g") #'revert-buffer))
    (let ((text (substitute-command-keys
                 (documentation 'smtpmail-native-outbox-mode))))
      (dolist (line '("^RET\t" "^e\t" "^s\t" "^h\t" "^c\t" "^d\t" "^m\t" "^t\t"
                      "^f\t" "^undo 5s\t" "^sending 42%\t" "^waiting\t"
                      "^queued\t" "^held\t" "^password\t" "^refused\t"
                      "^unconfirmed\t" "^damaged\t"))
        (should (string-match-p line text))))))

;;;; Point and redrawing

(ert-deftest smtpmail-native-list-tests-in-place ()
  "A line that is changed where it stands looks as if drawn afresh."
  (smtpmail-native-list-tests--with nil
    (dotimes (_ 3)
      (smtpmail-native-list-tests--commit '(:status held :hold queue)))
    (let* ((id (nth 1 (smtpmail-native-outbox-ids)))
           (entry (smtpmail-native-outbox-get id)))
      (dolist (state '((:status ready :next 9999999999 :tries 12
                        :text "550 Grüße aus Köln")
                       (:status held :hold password :tries nil :text nil)))
        (smtpmail-native-outbox-claim entry)
        (apply #'smtpmail-native-outbox-set entry state)
        (smtpmail-native-outbox-release entry)
        ;; The age of a message must not change between the two.
        (let ((now (float-time))
              (real (symbol-function 'float-time)))
          (cl-letf (((symbol-function 'float-time)
                     (lambda (&optional time)
                       (if time (funcall real time) now))))
            (revert-buffer)
            (let ((before (buffer-string)))
              (tabulated-list-print)
              (should (equal (buffer-string) before)))))))))

(ert-deftest smtpmail-native-list-tests-point-stays ()
  "Point stays on its mail, in every window, whatever comes or goes."
  (smtpmail-native-list-tests--with nil
    (let ((ids (mapcar (lambda (_)
                         (smtpmail-native-list-tests--commit
                          '(:status refused)))
                       '(1 2 3 4))))
      (delete-other-windows)
      (let ((other (split-window)))
        (set-window-buffer other (current-buffer))
        (dolist (key '(nil ("State") ("Subject" . t)))
          (setq tabulated-list-sort-key key)
          (revert-buffer)
          (goto-char (+ 3 (smtpmail-native-draw-find (nth 2 ids))))
          (set-window-point other (+ 5 (smtpmail-native-draw-find
                                        (nth 3 ids))))
          (smtpmail-native-act-delete
           (smtpmail-native-list-tests--commit '(:status refused)))
          (goto-char (+ 3 (smtpmail-native-draw-find (nth 2 ids))))
          (revert-buffer)
          (should (equal (tabulated-list-get-id) (nth 2 ids)))
          (should (= (current-column) 3))
          (save-excursion
            (goto-char (window-point other))
            (should (equal (tabulated-list-get-id) (nth 3 ids)))
            (should (= (current-column) 5))))
        ;; Its own line goes: point stays where it was.
        (setq tabulated-list-sort-key nil)
        (revert-buffer)
        (goto-char (smtpmail-native-draw-find (nth 2 ids)))
        (smtpmail-native-act-delete (nth 2 ids))
        (revert-buffer)
        (should (equal (tabulated-list-get-id) (nth 3 ids)))))))

(ert-deftest smtpmail-native-list-tests-sorted-in-place ()
  "A change in a sorted list draws one line again, not all; \"g\" sorts."
  (smtpmail-native-list-tests--with nil
    (let ((first (smtpmail-native-list-tests--commit '(:status ready)))
          (second (smtpmail-native-list-tests--commit '(:status ready)))
          (printed 0))
      (setq tabulated-list-sort-key '("To" . t))
      (revert-buffer)
      (cl-letf* ((original (symbol-function 'tabulated-list-print-entry))
                 ((symbol-function 'tabulated-list-print-entry)
                  (lambda (&rest args)
                    (setq printed (1+ printed))
                    (apply original args))))
        (smtpmail-native-act-hold first)
        (smtpmail-native-draw-update)
        (should (= printed 1))
        (smtpmail-native-act-delete second)
        (smtpmail-native-draw-update)
        (should (= printed 1))
        (should (= 1 (count-lines (point-min) (point-max))))
        (should (string-match-p "held" (buffer-string)))
        (setq second (smtpmail-native-list-tests--commit '(:status ready)))
        (smtpmail-native-draw-update)
        (should (= 2 (count-lines (point-min) (point-max))))))))

(ert-deftest smtpmail-native-list-tests-sorts ()
  "Numbers are sorted as numbers."
  (smtpmail-native-list-tests--with nil
    (let* ((small (smtpmail-native-list-tests--commit
                   (list :status 'ready :tries 9
                         :next (+ 3000 (truncate (float-time))))))
           (large (smtpmail-native-list-tests--commit
                   (list :status 'ready :tries 10
                         :next (+ 2000 (truncate (float-time))))
                   (concat "To: bob@example.org\n" mail-header-separator "\n"
                           (make-string 20000 ?x) "\n"))))
      (pcase-dolist (`(,key . ,first) `((("Size") . ,small)
                                        (("Size" . t) . ,large)
                                        (("Tries") . ,small)
                                        (("Tries" . t) . ,large)
                                        (("Next") . ,large)
                                        (("Next" . t) . ,small)))
        (setq tabulated-list-sort-key key)
        (revert-buffer)
        (goto-char (point-min))
        (should (equal (tabulated-list-get-id) first))))))

(ert-deftest smtpmail-native-list-tests-coalesces ()
  "A thousand events lead to one look, and progress reads no file."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script (smtpmail-native-test-ehlo)
                                   "C: MAIL *" "stall")
    (smtpmail-native-list-tests--in-list
      (unwind-protect
          (let ((id (plist-get (smtpmail-native-sink-send "<1@x>" 'background)
                               :id))
                ;; A busy machine may use up the slice before the line is drawn.
                (smtpmail-native-index-slice 60)
                (looks 0)
                (reads 0))
            ;; The first look at the outbox would come while events are counted.
            (cancel-timer smtpmail-native-schedule--look-timer)
            (smtpmail-native-watch-start)
            (smtpmail-native-test-wait
             (lambda () (not (smtpmail-native-index-busy-p))))
            (smtpmail-native-draw-update)
            (let ((count-look (lambda (&rest _) (setq looks (1+ looks))))
                  (count-read (lambda (&rest _) (setq reads (1+ reads)))))
              (unwind-protect
                  (progn
                    (advice-add 'smtpmail-native-draw-update :before
                                count-look)
                    (advice-add 'smtpmail-native-outbox-load :before
                                count-read)
                    (setf (smtpmail-native-sending-total
                           (smtpmail-native-attempt-sending id))
                          1000)
                    (dotimes (i 1000)
                      (setf (smtpmail-native-sending-sent
                             (smtpmail-native-attempt-sending id))
                            (1+ i))
                      (smtpmail-native-index-changed id))
                    (should (= looks 0))
                    (smtpmail-native-test-wait (lambda () (> looks 0)))
                    (should (= looks 1))
                    (should (= reads 0))
                    (should (equal (substring-no-properties
                                    (smtpmail-native-list-tests--cell id 0))
                                   "sending 100%")))
                (advice-remove 'smtpmail-native-draw-update count-look)
                (advice-remove 'smtpmail-native-outbox-load count-read))))
        (smtpmail-native-sink-settle-down)))))

(ert-deftest smtpmail-native-list-tests-errors-stay ()
  "An error in the timer or the ticker does not leave it."
  (smtpmail-native-list-tests--with nil
    (cl-letf (((symbol-function 'smtpmail-native-outbox-ids)
               (lambda () (error "No")))
              (smtpmail-native-draw--all t))
      (smtpmail-native-draw--on-timer)
      (smtpmail-native-list--tick (current-buffer)))
    (let ((ticker smtpmail-native-list--ticker))
      (should (memq ticker timer-list))
      (kill-buffer)
      (should-not (memq ticker timer-list)))))

(ert-deftest smtpmail-native-list-tests-other-emacsen ()
  "What another Emacs does is seen after a while."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit '(:status refused))))
      (delete-directory (smtpmail-native-outbox-file
                         (smtpmail-native-outbox-get id))
                        t)
      (setq smtpmail-native-list--rescanned 0)
      (smtpmail-native-list--tick (current-buffer))
      (smtpmail-native-test-wait (lambda () (= (point-min) (point-max)))))))

;;;; Drafts

(defun smtpmail-native-list-tests--field (name)
  "Return the field NAME of the draft in the current buffer, or nil."
  (save-restriction
    (message-narrow-to-headers)
    (message-fetch-field name)))

(defun smtpmail-native-list-tests--body ()
  "Return the body of the draft in the current buffer."
  (save-excursion
    (message-goto-body)
    (buffer-substring-no-properties (point) (point-max))))

(ert-deftest smtpmail-native-list-tests-edit-octets ()
  "A draft made of the octets is for the same people, and says the same."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit
               '(:status refused)
               (concat "To: Bob <bob@example.org>, carol@example.org\n"
                       "Cc: dave@example.org\nBcc: eve@example.org\n"
                       "Fcc: /nonexistent/copy\n"
                       "Message-ID: <1@x>\n"
                       "Subject: Grüße\nIn-Reply-To: <0@x>\n"
                       "MIME-Version: 1.0\n"
                       "Content-Type: text/plain; charset=utf-8\n"
                       "Content-Transfer-Encoding: quoted-printable\n"
                       mail-header-separator
                       "\nH=C3=A4llo\n<#part type=text/plain>\n"))))
      (should-not (smtpmail-native-list-tests--key "e"))
      (should-not (smtpmail-native-outbox-get id))
      (should (derived-mode-p 'message-mode))
      (should (buffer-modified-p))
      (should (equal (mapcar #'smtpmail-native-list-tests--field
                             '("To" "Cc" "Bcc" "Fcc" "Subject" "In-Reply-To"
                               "Message-ID" "Date" "MIME-Version"
                               "Content-Type" "Content-Transfer-Encoding"))
                     '("Bob <bob@example.org>, carol@example.org"
                       "dave@example.org" "eve@example.org"
                       "/nonexistent/copy" "Grüße" "<0@x>"
                       nil nil nil nil nil)))
      ;; What looks like MML is quoted, and not taken for it.
      (should (equal (smtpmail-native-list-tests--body)
                     "Hällo\n<#!part type=text/plain>\n")))))

(ert-deftest smtpmail-native-list-tests-edit-written ()
  "A draft that was kept is the mail as it was written."
  (smtpmail-native-list-tests--with nil
    (let* ((id (smtpmail-native-list-tests--commit '(:status refused)))
           (entry (smtpmail-native-outbox-get id))
           (text (concat "To: friends\nSubject: x\nGcc: sent\n"
                         mail-header-separator
                         "\n<#secure method=pgpmime mode=sign>\nä\n")))
      ;; Whoever gets both may take the second for the first by its id.
      (smtpmail-native-outbox-save-draft
       entry (concat "Message-ID: <1@x>\nDate: 1\n" text))
      (smtpmail-native-list-tests--key "e")
      (should-not (smtpmail-native-outbox-ids))
      (should (equal (buffer-substring-no-properties (point-min) (point-max))
                     text)))))

(ert-deftest smtpmail-native-list-tests-edit-vanished ()
  "What a draft attaches and is gone is taken from the message."
  (smtpmail-native-list-tests--with nil
    (let ((file (expand-file-name "x.txt" folder)))
      (dolist (there '(t nil))
        (let ((entry (smtpmail-native-outbox-get
                      (smtpmail-native-list-tests--commit
                       '(:status refused :copy (:gcc "sent"))))))
          (smtpmail-native-outbox-save-draft
           entry (concat "To: bob@example.org\nGcc: sent\n"
                         mail-header-separator
                         "\n<#part type=text/plain filename=\"" file
                         "\" disposition=attachment>\n<#/part>\n"))
          (if there
              (with-temp-file file
                (insert "x"))
            (delete-file file))
          (smtpmail-native-list-tests--key "e")
          (should (eq there
                      (and (string-match-p "filename"
                                           (smtpmail-native-list-tests--body))
                           t)))
          (should (equal (smtpmail-native-list-tests--field "Gcc") "sent"))
          (unless there
            (should (equal (smtpmail-native-list-tests--body) "Hello\n")))
          (pop-to-buffer (smtpmail-native-draw-buffer)))))))

(ert-deftest smtpmail-native-list-tests-edit-kept ()
  "What this Emacs keeps of a mail makes its draft, and is forgotten then."
  (smtpmail-native-list-tests--with nil
    (let* ((smtpmail-native-undo-seconds 3600)
           (smtpmail-native-background t)
           (message-interactive t)
           (send-mail-function #'smtpmail-native-send-it)
           (message-send-mail-function #'smtpmail-native-send-it)
           (kept (lambda () (hash-table-count smtpmail-native-copy--kept)))
           (before (funcall kept)))
      (message-mail "bob@example.org" "x")
      (message-goto-body)
      (insert "<#secure method=pgpmime mode=encrypt>\nSecret\n")
      (cl-letf (((symbol-function 'message-encode-message-body) #'ignore))
        (let ((noninteractive nil))
          (message-send)))
      (set-buffer-modified-p nil)
      (kill-buffer)
      (should (= (funcall kept) (1+ before)))
      (should-not (smtpmail-native-outbox-draft
                   (car (smtpmail-native-outbox-list))))
      (smtpmail-native-undo-send)
      (should (string-match-p "\\`<#secure .*encrypt>\nSecret\n\\'"
                              (smtpmail-native-list-tests--body)))
      (should-not (smtpmail-native-outbox-ids))
      (smtpmail-native-copy-release)
      (should (= (funcall kept) before)))))

(ert-deftest smtpmail-native-list-tests-edit-rest ()
  "Who has got the mail is not in the draft, however it was written."
  (dolist (written '(nil t))
    (smtpmail-native-list-tests--with nil
      (let* ((text (concat "To: Bob <bob@example.org>, \"C, D\" <carol@example.org>"
                           "\nCc: dave@example.org\nBcc: eve@example.org\n"
                           "Subject: x\n" mail-header-separator "\nx\n"))
             (id (smtpmail-native-list-tests--commit
                  '(:status refused
                    :results (("bob@example.org" sent 250 nil "ok")
                              ("dave@example.org" sent 250 nil "ok")
                              ("carol@example.org" refused 550 nil "no")))
                  text)))
        (when written
          (smtpmail-native-outbox-save-draft (smtpmail-native-outbox-get id)
                                             text))
        (smtpmail-native-list-tests--key "e")
        (should (equal (mapcar #'smtpmail-native-list-tests--field
                               '("To" "Cc" "Bcc"))
                       '("\"C, D\" <carol@example.org>" nil
                         "eve@example.org")))
        (should-not (smtpmail-native-outbox-ids))))))

(ert-deftest smtpmail-native-list-tests-edit-resent ()
  "The draft of a resent mail is for whom it was resent to."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status refused)
     (concat "Resent-To: bob@example.org\nResent-Bcc: eve@example.org\n"
             "To: list@example.org\nSubject: x\nMessage-ID: <0@x>\n\nx\n"))
    (smtpmail-native-list-tests--key "e")
    (should (equal (mapcar #'smtpmail-native-list-tests--field
                           '("Resent-To" "Resent-Bcc" "To" "Bcc" "Message-ID"
                             "Resent-Message-ID"))
                   '("bob@example.org" "eve@example.org" "list@example.org" nil
                     "<0@x>" nil)))
    (let ((mail (smtpmail-native-message-prepare)))
      (kill-buffer (plist-get mail :buffer))
      (should (equal (sort (plist-get mail :recipients) #'string<)
                     '("bob@example.org" "eve@example.org"))))))

(ert-deftest smtpmail-native-list-tests-edit-attachment ()
  "An attachment goes from the octets into the draft and out again."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status refused)
     (concat "To: bob@example.org\nSubject: x\nMIME-Version: 1.0\n"
             "Content-Type: multipart/mixed; boundary=b\n\n"
             "--b\nContent-Type: text/plain\n\nHello\n"
             "--b\nContent-Type: application/octet-stream; name=x.bin\n"
             "Content-Disposition: attachment; filename=x.bin\n"
             "Content-Transfer-Encoding: base64\n\n/wAB/g==\n--b--\n"))
    (smtpmail-native-list-tests--key "e")
    (message-encode-message-body)
    (goto-char (point-min))
    (let ((case-fold-search t))
      (should (re-search-forward "^Content-Type: multipart/mixed" nil t))
      (should (re-search-forward "filename=\"?x\\.bin" nil t))
      (should (re-search-forward "^/wAB/g==$" nil t)))))

(ert-deftest smtpmail-native-list-tests-edit-secured ()
  "A signed mail is to be signed again; one that is encrypted is kept."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit
     '(:status refused)
     (concat "To: bob@example.org\nSubject: x\nMIME-Version: 1.0\n"
             "Content-Type: multipart/signed; boundary=b; micalg=pgp-sha256;\n"
             " protocol=\"application/pgp-signature\"\n\n"
             "--b\nContent-Type: text/plain\n\nHello\n"
             "--b\nContent-Type: application/pgp-signature\n\nxyz\n--b--\n"))
    (smtpmail-native-list-tests--key "e")
    (should (string-match-p
             "\\`<#secure method=pgpmime mode=sign>\nHello\n*\\'"
             (smtpmail-native-list-tests--body)))
    (pop-to-buffer (smtpmail-native-draw-buffer))
    (let ((id (smtpmail-native-list-tests--commit
               '(:status refused)
               (concat "To: bob@example.org\nSubject: x\nMIME-Version: 1.0\n"
                       "Content-Type: multipart/encrypted; boundary=b;\n"
                       " protocol=\"application/pgp-encrypted\"\n\n"
                       "--b\nContent-Type: application/pgp-encrypted\n\n"
                       "Version: 1\n--b\nContent-Type: "
                       "application/octet-stream\n\nxyz\n--b--\n"))))
      (should (string-match-p
               "encrypted"
               (cadr (should-error (smtpmail-native-list-tests--key "e")
                                   :type 'user-error))))
      (should (smtpmail-native-outbox-get id)))))

(ert-deftest smtpmail-native-list-tests-edit-fails ()
  "When no draft can be made, the mail stays, and no buffer."
  (smtpmail-native-list-tests--with nil
    (let ((id (smtpmail-native-list-tests--commit '(:status refused)))
          (buffers (length (buffer-list))))
      (cl-letf (((symbol-function 'message-mode) (lambda () (error "No"))))
        (should-error (smtpmail-native-list-tests--key "e")))
      (should (= buffers (length (buffer-list))))
      (should (equal (smtpmail-native-list-tests--status id)
                     '(refused nil))))))

(ert-deftest smtpmail-native-list-tests-edit-saved ()
  "The draft is on the disk before the mail leaves the outbox."
  (smtpmail-native-list-tests--with nil
    (let ((message-auto-save-directory (expand-file-name "drafts/" folder))
          (id (smtpmail-native-list-tests--commit '(:status refused)))
          (saved nil))
      (cl-letf (((symbol-function 'smtpmail-native-outbox-remove)
                 (lambda (_entry &rest _)
                   (setq saved (directory-files
                                message-auto-save-directory nil "#")))))
        (smtpmail-native-list-tests--key "e"))
      (should saved)
      (should (smtpmail-native-outbox-get id))
      (with-temp-buffer
        (insert-file-contents (expand-file-name (car saved)
                                                message-auto-save-directory))
        (should (string-match-p "^Hello" (buffer-string))))
      (delete-auto-save-file-if-necessary t))))

(ert-deftest smtpmail-native-list-tests-round-trip ()
  "A mail that was refused, edited and sent again arrives once."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit '(:status refused))
    (smtpmail-native-list-tests--key "e")
    (goto-char (point-max))
    (insert "More\n")
    (let ((message-send-mail-function #'smtpmail-native-send-it)
          (message-interactive t))
      (message-send))
    (should (= 1 (length (smtpmail-native-sink-log folder "arrived"))))
    (should-not (smtpmail-native-outbox-ids))))

;;;; Undoing

(ert-deftest smtpmail-native-list-tests-undo ()
  "The newest mail comes back as a draft; after that it is too late."
  (smtpmail-native-list-tests--with nil
    (let ((smtpmail-native-undo-seconds 3600))
      (smtpmail-native-sink-send "<1@x>" 'background "old@example.org")
      (let ((new (plist-get (smtpmail-native-sink-send
                             "<2@x>" 'background "new@example.org")
                            :id)))
        (smtpmail-native-undo-send)
        (should (derived-mode-p 'message-mode))
        (should (equal (smtpmail-native-list-tests--field "To")
                       "new@example.org"))
        (should-not (smtpmail-native-outbox-get new)))
      (smtpmail-native-undo-send)
      (should (equal (smtpmail-native-list-tests--field "To")
                     "old@example.org"))
      (should (string-match-p
               "Nothing to undo"
               (cadr (should-error (smtpmail-native-undo-send)
                                   :type 'user-error))))
      (smtpmail-native-act-flush)
      (smtpmail-native-list-tests--settle)
      (should-not (smtpmail-native-sink-log folder "arrived")))))

(ert-deftest smtpmail-native-list-tests-told-when-entered ()
  "Once the caller has said that it is done, it is told where the message is."
  (pcase-dolist
      (`(,undo ,people ,line)
       '((0 ("bob@example.org") "In the outbox: sending to bob@example.org")
         (0 ("bob@example.org" "c@x" "d@x")
            "In the outbox: sending to bob@example.org and 2 more")
         (7 ("bob@example.org") "In the outbox: sending to bob@example.org in \
7 s; type M-x smtpmail-native-undo-send to undo")))
    (let ((smtpmail-native-undo-seconds undo)
          (noninteractive nil)
          (said nil))
      (cl-letf (((symbol-function 'smtpmail-native-tell-say)
                 (lambda (&rest args) (setq said (apply #'format args)))))
        (smtpmail-native-queue--tell-entered people)
        (should-not said)
        (smtpmail-native-test-wait (lambda () said)))
      (should (equal (substring-no-properties said) line)))))

;;;; Many lines

(defun smtpmail-native-list-tests--ids ()
  "Return the ids of the lines of the list, in their order."
  (save-excursion
    (goto-char (point-min))
    (let ((ids nil))
      (while (not (eobp))
        (push (tabulated-list-get-id) ids)
        (forward-line))
      (nreverse ids))))

(defun smtpmail-native-list-tests--await-all (count)
  "Wait until the list has COUNT lines; return their ids."
  (smtpmail-native-test-wait
   (lambda ()
     (and (not (smtpmail-native-draw--undrawn-p))
          (= count (length (smtpmail-native-list-tests--ids))))))
  (smtpmail-native-list-tests--ids))

(ert-deftest smtpmail-native-list-tests-many ()
  "The first lines are drawn at once and the rest follows, in any order."
  (smtpmail-native-list-tests--with nil
    (let* ((id (smtpmail-native-list-tests--commit '(:status held :hold user)))
           (queue (expand-file-name "queue/" smtpmail-native-outbox-directory))
           (first (* 2 (+ smtpmail-native-draw--first (* 2 (frame-height)))))
           (count (+ first 50)))
      (dotimes (n (1- count))
        (copy-directory (expand-file-name id queue)
                        (expand-file-name (format "20260101T%06d.%06d-1-%04x"
                                                  n (* n 7) n)
                                          queue)
                        t nil t))
      (smtpmail-native-index-look)
      (smtpmail-native-index-complete smtpmail-native-test-seconds)
      (smtpmail-native-draw-all)
      (goto-char (point-min))
      (dolist (window (get-buffer-window-list))
        (set-window-point window (point-min))
        (set-window-start window (point-min)))
      (smtpmail-native-draw-all)
      (should (< (length (smtpmail-native-list-tests--ids)) first))
      (should (equal (smtpmail-native-list-tests--await-all count)
                     (smtpmail-native-outbox-ids)))
      ;; Where you are is drawn at once, too.
      (goto-char (point-min))
      (forward-line (- count 20))
      (let ((here (tabulated-list-get-id)))
        (revert-buffer)
        (should (equal here (tabulated-list-get-id)))
        ;; An entry that goes before it has a line gets none.
        (smtpmail-native-act-delete id)
        (should (equal (smtpmail-native-list-tests--await-all (1- count))
                       (smtpmail-native-outbox-ids)))
        (tabulated-list-sort 4)
        (smtpmail-native-list-tests--await-all (1- count))
        (should (equal (sort (smtpmail-native-list-tests--ids) #'string<)
                       (smtpmail-native-outbox-ids)))))))

;;;; Mode line

(ert-deftest smtpmail-native-list-tests-mode-line ()
  "The mode line counts what is under way and what needs the user."
  (smtpmail-native-list-tests--with nil
    (should (equal smtpmail-native-mode-line ""))
    (smtpmail-native-list-tests--commit '(:status held :hold user))
    (should (equal smtpmail-native-mode-line ""))
    (smtpmail-native-list-tests--commit '(:status ready))
    (should (equal smtpmail-native-mode-line " Mail:1"))
    (should (equal global-mode-string '("" smtpmail-native-mode-line)))
    (should (equal (substring-no-properties (format-mode-line
                                             global-mode-string))
                   ""))
    (smtpmail-native-list-tests--commit '(:status refused))
    (should (equal smtpmail-native-mode-line " Mail:1 !1"))
    (let ((at (string-match "!" smtpmail-native-mode-line)))
      (should (eq (get-text-property at 'face smtpmail-native-mode-line)
                  'smtpmail-native-attention))
      (should (string-match-p "1 need attention"
                              (get-text-property at 'help-echo
                                                 smtpmail-native-mode-line)))
      (should (eq (lookup-key (get-text-property at 'local-map
                                                 smtpmail-native-mode-line)
                              [mode-line mouse-1])
                  'smtpmail-native-outbox)))
    (should (get 'smtpmail-native-mode-line 'risky-local-variable))
    (dolist (id (smtpmail-native-outbox-ids))
      (smtpmail-native-act-delete id))
    (smtpmail-native-test-wait
     (lambda () (equal smtpmail-native-mode-line "")))
    (should (equal global-mode-string '("" smtpmail-native-mode-line)))))

(ert-deftest smtpmail-native-list-tests-mode-line-waiting ()
  "What waits for another try, a flush or its undo time is in the mode line."
  (smtpmail-native-list-tests--with nil
    (let ((later (+ 1000 (truncate (float-time)))))
      (smtpmail-native-list-tests--commit '(:status held :hold queue))
      (should (equal smtpmail-native-mode-line " Mail:1 queued"))
      (should (eq (get-text-property (string-match "1" smtpmail-native-mode-line)
                                     'face smtpmail-native-mode-line)
                  'shadow))
      (smtpmail-native-list-tests--commit
       (list :status 'ready :tries 1 :next later))
      (should (equal smtpmail-native-mode-line " Mail:1 waiting 1 queued"))
      (smtpmail-native-list-tests--commit
       (list :status 'ready :undo t :next later))
      (should (equal smtpmail-native-mode-line
                     " Mail:1 undo 1 waiting 1 queued"))
      (should (string-match-p "1 to be sent, 1 waiting for another try, 1 queued"
                              (get-text-property 1 'help-echo
                                                 smtpmail-native-mode-line))))))

(ert-deftest smtpmail-native-list-tests-mode-line-quiet ()
  "The mode line is drawn again only when its text has changed."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit '(:status refused))
    (let ((drawn 0))
      (cl-letf (((symbol-function 'force-mode-line-update)
                 (lambda (&rest _) (setq drawn (1+ drawn)))))
        (smtpmail-native-line-update)
        (should (= drawn 0))
        (smtpmail-native-list-tests--commit '(:status refused))
        (should (= drawn 1))))))

;;;; Commands

(ert-deftest smtpmail-native-list-tests-unlock ()
  "What waits for a password is asked for, and sent."
  (smtpmail-native-list-tests--with nil
    (smtpmail-native-list-tests--commit '(:status held :hold password :by (:instance "x-1-1" :why refused)))
    (let ((asked nil))
      (cl-letf (((symbol-function 'smtpmail-native-auth-ask-again)
                 (lambda (host port &rest _)
                   (setq asked (list host port))
                   (list :source 'none))))
        (smtpmail-native-unlock))
      (should (equal asked (list "127.0.0.1" port))))
    (smtpmail-native-list-tests--settle)
    (should (= 1 (length (smtpmail-native-sink-log folder "arrived"))))))

(ert-deftest smtpmail-native-list-tests-autoloads ()
  "The library alone offers the commands, and does not load the list."
  (should (equal (smtpmail-native-test-emacs
                  smtpmail-native-test-folder "--eval"
                  (prin1-to-string
                   '(progn
                      (require 'smtpmail-native)
                      (princ (list (mapcar #'commandp
                                           '(smtpmail-native-outbox
                                             smtpmail-native-flush-queue
                                             smtpmail-native-undo-send
                                             smtpmail-native-unlock))
                                   (featurep 'smtpmail-native-list))))))
                 '(0 . "((t t t t) nil)"))))

(ert-deftest smtpmail-native-list-tests-unfiled ()
  "The list says what was sent without a filed copy, and opens it."
  (smtpmail-native-sink-with nil
    (let ((said nil))
      (cl-letf (((symbol-function 'message)
                 (lambda (format &rest args)
                   (setq said (and format (apply #'format format args))))))
        (save-window-excursion
          (smtpmail-native-outbox)
          (should-not said)
          (should-error (smtpmail-native-list-unfiled) :type 'user-error)
          (let ((file (expand-file-name
                       "1.eml" (smtpmail-native-outbox-make-area "unfiled"))))
            (write-region "x" nil file nil 'silent)
            (smtpmail-native-outbox)
            (should (string-match-p "\\`1 sent message could not be filed; \
type F to see it" said))
            (smtpmail-native-list-unfiled)
            (should (derived-mode-p 'dired-mode))
            (should (equal (file-name-as-directory
                            (expand-file-name default-directory))
                           (file-name-directory file)))
            (kill-buffer)))))))

(ert-deftest smtpmail-native-list-tests-endless-text ()
  "Of a text of megabytes only the start is made safe and shown."
  (let ((entry (smtpmail-native-entry-make
                :envelope (list :recipients '("b@x")
                                :subject (make-string 3000000 ?s))
                :state (list :status 'held :text (make-string 3000000 ?a)))))
    (let ((columns (smtpmail-native-row-columns entry 0)))
      (should (= 2000 (length (aref columns 2))))
      (should (= 2000 (length (aref columns 7)))))))

(ert-deftest smtpmail-native-list-tests-line-waits ()
  "While lines are drawn the mode line, which costs more, waits, and comes."
  (let ((smtpmail-native-draw--line '(0 . 0))
        (updates 0)
        (later 0))
    (cl-letf (((symbol-function 'smtpmail-native-line-update)
               (lambda () (setq updates (1+ updates))))
              ((symbol-function 'smtpmail-native-draw-later)
               (lambda () (setq later (1+ later)))))
      (smtpmail-native-draw--line nil)
      (should (equal '(1 0) (list updates later)))
      (setq smtpmail-native-draw--line (cons (float-time) 3600))
      (smtpmail-native-draw--line nil)
      (should (equal '(1 1) (list updates later)))
      ;; A command shows it at once, and a clock that is set back stops nothing.
      (smtpmail-native-draw--line t)
      (should (equal '(2 1) (list updates later)))
      (setq smtpmail-native-draw--line (cons (+ (float-time) 1000) 3600))
      (smtpmail-native-draw--line nil)
      (should (equal '(3 1) (list updates later))))))

(provide 'smtpmail-native-list-tests)
;;; smtpmail-native-list-tests.el ends here
