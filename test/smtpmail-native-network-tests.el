;;; smtpmail-native-network-tests.el --- Mail goes when the network is back  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What the news of a network set going, how often, and when nothing is watched.
;; One test runs in a network of its own, whose link is taken away and given
;; back; it needs root, unshare(1) and ip(8).

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-command)
(require 'smtpmail-native-sink)

(defun smtpmail-native-network-tests--put (n state)
  "Put the Nth entry with STATE, changes of a plist, into the outbox.
By itself it has failed for the network, and has an hour to wait."
  (let ((id (smtpmail-native-sink-put
             (append state (list :status 'ready :network t :tries 3
                                 :next (+ 3000 (truncate (float-time)))))
             (format "<%d@x>" n))))
    (smtpmail-native-index-put (smtpmail-native-outbox-get id))
    id))

(defmacro smtpmail-native-network-tests--with (&rest body)
  "Run BODY with a sink, the schedule started, and a module that is told of.
`calls' is what was asked of the module, newest first; nothing waits for
real time to go by."
  (declare (indent 0) (debug t))
  `(let ((calls nil)
         (smtpmail-native-network--moment 0.001)
         (smtpmail-native-network--last nil))
     (ignore calls)
     (cl-letf (((symbol-function 'smtpmail-native-channel-network)
                (lambda (handler) (push (and handler t) calls))))
       (smtpmail-native-sink-with nil
         (setq smtpmail-native-schedule--started t)
         ,@body))))

(defun smtpmail-native-network-tests--arrived (folder count)
  "Wait until COUNT messages have arrived at the sink of FOLDER; return all."
  (smtpmail-native-test-wait
   (lambda ()
     (<= count (length (smtpmail-native-sink-log folder "arrived")))))
  (smtpmail-native-sink-settle)
  (sort (smtpmail-native-sink-log folder "arrived") #'string<))

;;;; What goes

(ert-deftest smtpmail-native-network-tests-go ()
  "News let go what failed for the network, one of an account ahead."
  (smtpmail-native-network-tests--with
    (let ((other (smtpmail-native-network-tests--put 9 '(:network nil)))
          (held (smtpmail-native-network-tests--put
                 8 '(:status held :hold user)))
          (doubt (smtpmail-native-network-tests--put 7 '(:doubt t))))
      (dotimes (n 5)
        (smtpmail-native-network-tests--put n nil))
      (should (equal calls '(t)))
      (smtpmail-native-network-news)
      (should (equal (smtpmail-native-network-tests--arrived folder 5)
                     '("<0@x>" "<1@x>" "<2@x>" "<3@x>" "<4@x>")))
      (should (equal (car (smtpmail-native-sink-log folder "arrived"))
                     "<0@x>"))
      (should (equal (smtpmail-native-outbox-ids)
                     (sort (list other held doubt) #'string<)))
      ;; Nothing is left for which it would be worth to watch.
      (smtpmail-native-network-news)
      (should (equal calls '(nil t))))))

(ert-deftest smtpmail-native-network-tests-probe-fails ()
  "As long as the server cannot be reached, one message of it is tried."
  (smtpmail-native-network-tests--with
    (dotimes (n 4)
      (smtpmail-native-network-tests--put n nil))
    (delete-process sink)
    (smtpmail-native-network-news)
    (smtpmail-native-test-wait
     (lambda () (and (null smtpmail-native-network--probed)
                     smtpmail-native-network--last)))
    (smtpmail-native-sink-settle)
    (let ((states (smtpmail-native-sink-states)))
      (should (equal '(3 3 3 4)
                     (sort (mapcar (lambda (s) (plist-get s :tries)) states)
                           #'<)))
      (dolist (state states)
        (should (plist-get state :network))
        ;; It is not the user's word: its age counts on.
        (should-not (plist-get state :since))
        (should (> (plist-get state :next) (float-time)))))))

(ert-deftest smtpmail-native-network-tests-fact ()
  "A failure is one of the network if the server was not reached."
  (pcase-dolist (`(,offline ,kind ,stage)
                 '((t resolve resolve) (t network connect) (t timeout connect)
                   (t timeout resolve) (nil network greeting)
                   (nil timeout data) (nil reply rcpt) (nil tls handshake)
                   (nil cancelled connect) (nil ok nil)))
    (should (eq (and offline t)
                (and (smtpmail-native-verdict-offline-p
                      (list :kind kind :stage stage))
                     t)))
    (let* ((entry (smtpmail-native-entry-make
                   :envelope (append (list :created (float-time))
                                     smtpmail-native-test-envelope)
                   :state '(:status ready :network t)))
           (change (smtpmail-native-outcome-settle
                    entry (list :kind kind :stage stage :attempt 1
                                :code (if (eq kind 'reply) 450 0)
                                :recipients nil)
                    nil nil (float-time))))
      (should (plist-member change :network))
      (should (eq (and offline t) (and (plist-get change :network) t))))))

;;;; How often

(ert-deftest smtpmail-native-network-tests-often ()
  "News settle, but not for ever; and they set going once in a while only."
  (smtpmail-native-network-tests--with
    (smtpmail-native-network-tests--put 1 nil)
    (let ((smtpmail-native-network--moment 1)
          (now (float-time)))
      (smtpmail-native-network-news)
      (let ((timer smtpmail-native-network--timer))
        (should (<= (+ now 1) (float-time (timer--time timer))
                    (+ (float-time) 3)))
        ;; One more puts it off.
        (smtpmail-native-network-news)
        (should-not (memq timer timer-list))
        (setq timer smtpmail-native-network--timer)
        (should (memq timer timer-list))
        (should (= 1 (seq-count
                      (lambda (timer)
                        (memq #'smtpmail-native-network--try
                              (timer--args timer)))
                      timer-list)))
        ;; There were more for long: that is enough.
        (setq smtpmail-native-network--first (- (float-time) 11))
        (smtpmail-native-network-news)
        (should (memq timer timer-list))
        (cancel-timer timer))
      (pcase-dolist (`(,last ,least ,most)
                     '((nil 1 3) (-5 15 16) (-19.5 1 3) (-100 1 3)
                       ;; The clock was set back.
                       (1000 1 3)))
        (let ((smtpmail-native-network--last (and last (+ now last))))
          (should (<= least (smtpmail-native-network--delay now) most)))))))

(ert-deftest smtpmail-native-network-tests-watched ()
  "The network is watched while mail waits for it and the schedule runs."
  (smtpmail-native-network-tests--with
    (setq smtpmail-native-schedule--started nil)
    (smtpmail-native-network-tests--put 1 nil)
    (should-not calls)
    (setq smtpmail-native-schedule--started t)
    (smtpmail-native-network-tests--put 2 '(:network nil))
    (should-not calls)
    (smtpmail-native-network-tests--put 3 nil)
    (smtpmail-native-network-tests--put 4 nil)
    (should (equal calls '(t)))
    (smtpmail-native-network-news)
    (should (memq smtpmail-native-network--timer timer-list))
    (smtpmail-native-watch-stop)
    (should (equal calls '(nil t)))
    (should-not (memq smtpmail-native-network--timer timer-list))
    ;; What comes late does nothing.
    (smtpmail-native-network-news)
    (should-not (memq smtpmail-native-network--timer timer-list))))

(ert-deftest smtpmail-native-network-tests-sleep ()
  "The end of a suspend, of which Emacs 31 tells, is news; its begin is not."
  (defvar system-sleep-event-functions)
  (let ((system-sleep-event-functions nil))
    (smtpmail-native-network-tests--with
      (smtpmail-native-network-tests--put 1 nil)
      (should (equal system-sleep-event-functions
                     (list #'smtpmail-native-network--on-sleep)))
      (cl-letf (((symbol-function 'sleep-event-state) #'cadr))
        (run-hook-with-args 'system-sleep-event-functions
                            '(sleep-event pre-sleep))
        (should-not (memq smtpmail-native-network--timer timer-list))
        (run-hook-with-args 'system-sleep-event-functions
                            '(sleep-event post-wake)))
      (should (equal (smtpmail-native-network-tests--arrived folder 1)
                     '("<1@x>")))
      (smtpmail-native-watch-stop)
      (should-not system-sleep-event-functions))))

;;;; A network of its own

(defun smtpmail-native-network-tests--run (&rest args)
  "Run ip(8) with ARGS; signal an error if that fails."
  (with-temp-buffer
    (unless (eq 0 (apply #'call-process "ip" nil t nil args))
      (error "%s: %s" args (buffer-string)))))

(defun smtpmail-native-network-tests--inside ()
  "Take the link away and give it back, twice; for a network of its own."
  (let ((smtpmail-native-network--moment 0.01)
        (smtpmail-native-network--pause 0)
        (run #'smtpmail-native-network-tests--run))
    (funcall run "link" "set" "lo" "up")
    (funcall run "link" "add" "v0" "type" "veth" "peer" "name" "v1")
    (funcall run "link" "set" "v1" "up")
    (smtpmail-native-sink-with '("--any" "1")
      (let ((smtpmail-smtp-server "192.0.2.1")
            ;; The connection that was kept has lost its other end.
            (smtpmail-native-timeout 1))
        (smtpmail-native-watch-start)
        (dotimes (round 2)
          (smtpmail-native-sink-send (format "<%d@x>" round) 'background)
          (smtpmail-native-test-wait
           (lambda () (plist-get (car (smtpmail-native-sink-states)) :network)))
          (funcall run "link" "set" "v0" "up")
          (funcall run "addr" "add" "192.0.2.1/24" "dev" "v0")
          (smtpmail-native-network-tests--arrived folder (1+ round))
          (should-not (smtpmail-native-outbox-ids))
          (funcall run "link" "set" "v0" "down")
          (funcall run "addr" "flush" "dev" "v0"))))
    (should (smtpmail-native-module-shutdown 2000))))

(ert-deftest smtpmail-native-network-tests-own-network ()
  "Mail goes when the link is back, without waiting for its next try."
  (skip-unless (and (eq 0 (user-uid))
                    (executable-find "ip")
                    (executable-find "unshare")
                    (eq 0 (call-process "unshare" nil nil nil "-n" "ip" "link"
                                        "add" "v0" "type" "veth"))))
  (with-temp-buffer
    (let ((status (call-process
                   "unshare" nil t nil "-n"
                   (expand-file-name invocation-name invocation-directory)
                   "-Q" "--batch" "--eval" "(setq load-prefer-newer t)"
                   "-L" smtpmail-native-test-folder
                   "-L" (expand-file-name "lisp" smtpmail-native-test-folder)
                   "-L" (expand-file-name "test" smtpmail-native-test-folder)
                   "-l" "smtpmail-native-network-tests"
                   "-f" "smtpmail-native-network-tests--inside")))
      (should (equal (list status (if (eq status 0) "" (buffer-string)))
                     '(0 ""))))))

(provide 'smtpmail-native-network-tests)
;;; smtpmail-native-network-tests.el ends here
