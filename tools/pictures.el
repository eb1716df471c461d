;;; pictures.el --- Pictures of what people see  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Called by tools/pictures in a graphical Emacs on an X server of its own.  The
;; messages are made up, in an outbox in a temporary directory; the server that
;; is looked at is the one of the tests.

;;; Code:

(require 'smtpmail-native)
(require 'smtpmail-native-mode)
(require 'smtpmail-native-list)
(require 'smtpmail-native-notices)
(require 'smtpmail-native-server)
(require 'smtpmail-native-test-helper)

(defvar smtpmail-native-pictures--work
  (file-name-as-directory (or (getenv "PICTURES_WORK") temporary-file-directory))
  "The directory of all files.")

(defun smtpmail-native-pictures--take (name)
  "Make the picture NAME of the frame as it is."
  (redisplay t)
  (message nil)
  (sit-for 0.3)
  (redisplay t)
  (call-process "import" nil nil nil
                "-window" (frame-parameter nil 'outer-window-id)
                "+dither" "-colors" "64" "-strip"
                (expand-file-name (concat name ".png") (getenv "PICTURES"))))

(defun smtpmail-native-pictures--set-up ()
  "Make the frame and the options those of the pictures."
  (menu-bar-mode 1)
  (tool-bar-mode -1)
  (scroll-bar-mode -1)
  (blink-cursor-mode -1)
  (setq inhibit-startup-screen t
        frame-title-format "Emacs"
        use-dialog-box nil
        user-full-name "Alice Example"
        user-mail-address "alice@example.org"
        mail-host-address "example.org"
        smtpmail-smtp-server "mail.example.org"
        smtpmail-smtp-service 587
        smtpmail-stream-type 'starttls
        smtpmail-smtp-user "alice"
        message-auto-save-directory nil
        mail-header-separator "--text follows this line--"
        smtpmail-native-outbox-directory
        (expand-file-name "outbox/" smtpmail-native-pictures--work)
        ;; Nothing is sent.
        smtpmail-native-schedule--started t)
  (set-frame-font "DejaVu Sans Mono-11" nil t)
  (set-frame-size nil 104 24)
  (redisplay t))

(defconst smtpmail-native-pictures--messages
  '(("bbo@example.org" "Minutes of the meeting" 13
     :status refused :tries 1
     :text "mail.example.org:587 refused this recipient: 550 5.1.1 No such user here"
     :results (("bbo@example.org" refused 550 "5.1.1" "No such user here")))
    ("carol@example.org" "Invoice 4711" 560
     :status unknown :tries 1
     :text "The connection to mail.example.org:587 was lost after the end of data and before the reply")
    ("ivan@example.org" "Contract" 500
     :status held :hold password :tries 1
     :text "mail.example.org:587 refused the password: 535 5.7.8 Authentication failed")
    ("judy@example.org" "Lunch on Friday?" 430
     :status held :hold certificate :tries 1
     :text "The certificate of mail.example.org:587 cannot be trusted: it is self-signed")
    ("dave@example.org, erin@example.org" "Gr\u00fc\u00dfe aus K\u00f6ln" 310
     :status ready :tries 2 :in 245
     :text "mail.example.org:587 did not accept it yet: 451 4.7.1 Greylisted, try again later")
    ("heidi@example.org" "Photos" 1 :status ready :sending 17)
    ("grace@example.org" "Oops" 3 :status ready :undo t :in 17)
    ("frank@example.org" "Newsletter" 172800 :status held :hold queue))
  "Recipients, subject, age in seconds, and state of the messages.")

(defun smtpmail-native-pictures--message (to subject age state)
  "Put a message to TO about SUBJECT into the outbox, AGE seconds old, in STATE."
  (with-temp-buffer
    (insert "From: Alice Example <alice@example.org>\nTo: " to "\nSubject: "
            subject "\n" mail-header-separator
            "\nDear all,\n\nthese are the minutes of our meeting.\n\nAlice\n")
    (let* ((now (truncate (float-time)))
           (in (plist-get state :in))
           (sending (plist-get state :sending))
           (mail (smtpmail-native-message-prepare))
           (entry (smtpmail-native-outbox-commit
                   (plist-get mail :buffer)
                   (append (list :created (- now age))
                           (smtpmail-native-queue-envelope
                            mail (smtpmail-native-job-account)))
                   (append (and in (list :next (+ now in))) state))))
      (kill-buffer (plist-get mail :buffer))
      (when sending
        (smtpmail-native-attempt--enter
         (make-smtpmail-native-sending
          :entry entry :start (float-time) :key 'picture
          :sent sending :total 100)))
      (smtpmail-native-outbox-release entry)
      (smtpmail-native-index-put entry)
      entry)))

(defun smtpmail-native-pictures--outbox ()
  "Take the pictures of the outbox, its menu and one message."
  (let ((entries (mapcar (lambda (message)
                           (pcase-let ((`(,to ,subject ,age . ,state) message))
                             (smtpmail-native-pictures--message
                              to subject age state)))
                         smtpmail-native-pictures--messages)))
    (smtpmail-native-outbox)
    (delete-other-windows)
    (goto-char (point-min))
    (set-frame-size nil 120 12)
    (revert-buffer)
    (smtpmail-native-pictures--take "outbox")
    (set-frame-size nil 104 24)
    (smtpmail-native-list-show)
    (delete-other-windows)
    (smtpmail-native-pictures--take "message")
    (quit-window t)
    (switch-to-buffer "*scratch*")
    (delete-other-windows)
    (dolist (entry (seq-take entries 2))
      (smtpmail-native-tell-notice (smtpmail-native-notice entry)))
    (smtpmail-native-notices--update)
    (set-frame-size nil 80 20)
    (smtpmail-native-notices--update)
    (smtpmail-native-pictures--take "notice")
    (set-frame-size nil 104 24)
    (smtpmail-native-notices--hide)))

(defun smtpmail-native-pictures--menu ()
  "Take the picture of the menu, and end Emacs, which it holds up."
  (pop-to-buffer "*smtpmail-native outbox*")
  (delete-other-windows)
  (redisplay t)
  (start-process-shell-command
   "menu" nil
   (format "sleep 1; import -window root +dither -colors 64 -strip %s; \
kill %d"
           (shell-quote-argument
            (expand-file-name "menu.png" (getenv "PICTURES")))
           (emacs-pid)))
  (popup-menu smtpmail-native-list--menu
              (list '(40 30) (selected-window))))

(defun smtpmail-native-pictures--server ()
  "Take the picture of what a server says of itself."
  (smtpmail-native-test-with-server
      (smtpmail-native-test-script
       (smtpmail-native-test-ehlo "STARTTLS") "C: STARTTLS" "S: 220 go"
       "tls good"
       (smtpmail-native-test-ehlo "PIPELINING" "8BITMIME" "SIZE 52428800"
                                  "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN"
                                  "DSN" "SMTPUTF8" "CHUNKING")
       "C: QUIT")
    (let ((smtpmail-stream-type 'starttls))
      (ignore server)
      (smtpmail-native-server-info)
      (pop-to-buffer "*smtpmail-native server info*")
      (delete-other-windows)
      (smtpmail-native-pictures--take "server"))))

(defun smtpmail-native-pictures--build ()
  "Take the picture of a build."
  (let* ((smtpmail-native-build-directory
          (expand-file-name "module/" smtpmail-native-pictures--work))
         ;; A graphical Emacs may be a wrapper, which make cannot run.
         (program (or (executable-find "emacs")
                      (expand-file-name invocation-name
                                        invocation-directory)))
         (invocation-name (file-name-nondirectory program))
         (invocation-directory (file-name-directory program))
         (built nil))
    (let ((smtpmail-native-load-built-functions
           (list (lambda (_) (setq built t)))))
      (pop-to-buffer (smtpmail-native-build-module))
      (delete-other-windows)
      (with-timeout (120)
        (while (not built)
          (accept-process-output nil 0.2))))
    (goto-char (point-max))
    (smtpmail-native-pictures--take "build")))

(defun smtpmail-native-pictures-run ()
  "Take all pictures, and end Emacs."
  (let ((kill-emacs-query-functions nil)
        (kill-emacs-hook nil))
    (condition-case err
        (progn
          (smtpmail-native-pictures--set-up)
          (smtpmail-native-pictures--outbox)
          (smtpmail-native-pictures--server)
          (smtpmail-native-pictures--build)
          (smtpmail-native-pictures--menu))
      (error (princ (format "pictures: %S\n" err)
                    #'external-debugging-output)))
    (kill-emacs)))

(provide 'pictures)
;;; pictures.el ends here
