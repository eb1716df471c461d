;;; smtpmail-native-opensmtpd-tests.el --- Mail to a real OpenSMTPD  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; OpenSMTPD delivers what it takes into a maildir.  It takes no pipelined
;; commands and says so by not offering them, refuses by filters at each phase,
;; and limits the messages and recipients of a session.  The places of its
;; spool and its socket cannot be chosen, so it has its own /run and /var/spool,
;; which only root can give it.  Version 6.8 of Debian 12 cannot use its key with
;; OpenSSL 3: there TLS is left out.

;;; Code:

(require 'smtpmail-native-server-helper)

(defconst smtpmail-native-opensmtpd-tests--program
  (and (zerop (user-uid))
       (executable-find "unshare")
       (file-directory-p "/usr/libexec/opensmtpd")
       (smtpmail-native-server-program "smtpd"))
  "The file of OpenSMTPD, or nil.")

(defconst smtpmail-native-opensmtpd-tests--filters
  '(("helo" "ehlo" "helo regex" "refused"
     "reject \"554 5.7.1 not this name\"")
    ("from" "mail-from" "mail-from" "refused@example.org"
     "reject \"554 5.7.1 not this sender\"")
    ("from-later" "mail-from" "mail-from" "later@example.org"
     "reject \"450 4.7.1 not this sender yet\"")
    ("to" "rcpt-to" "rcpt-to" "nobody@example.org"
     "reject \"550 5.1.1 no such user\"")
    ("to-later" "rcpt-to" "rcpt-to" "later@example.org"
     "reject \"450 4.2.1 not now\"")
    ("to-gone" "rcpt-to" "rcpt-to" "gone@example.org"
     "disconnect \"421 4.7.0 going\"")
    ("data" "data" "mail-from" "data@example.org"
     "reject \"554 5.7.1 no data from you\"")
    ("data-later" "data" "mail-from" "data-later@example.org"
     "reject \"451 4.7.1 no data from you yet\"")
    ("end" "commit" "mail-from" "end@example.org"
     "reject \"554 5.7.1 not such content\"")
    ("end-later" "commit" "mail-from" "end-later@example.org"
     "reject \"451 4.7.1 not such content yet\""))
  "Filters, as (NAME PHASE WHAT VALUE DECISION).")

(defconst smtpmail-native-opensmtpd-tests--hash
  (concat "$6$smtpmail$jt8cUn07E/W21zzN0PYJVFp1VKvgcBNu3YB0Cl"
          "2CUA3C4/1KKWuEGMhiBqXHDZA6F39JTuLPac9HMeqcmq5nE1")
  "The password \"secret\" as it is told to OpenSMTPD.")

(defun smtpmail-native-opensmtpd-tests--filter-lines ()
  "Return the filters and what they compare, as text."
  (concat
   (mapconcat (pcase-lambda (`(,name ,phase ,what ,value ,decision))
                (format "table \"%1$s\" { \"%4$s\" }
filter \"%1$s\" phase %2$s match %3$s <\"%1$s\"> %5$s\n"
                        name phase what value decision))
              smtpmail-native-opensmtpd-tests--filters "")
   (format "filter all chain { %s }\n"
           (mapconcat (lambda (filter) (format "%S" (car filter)))
                      smtpmail-native-opensmtpd-tests--filters ", "))))

(defun smtpmail-native-opensmtpd-tests--configure (folder ports)
  "Write OpenSMTPD's configuration for PORTS into FOLDER, and return its name.
They are: STARTTLS, TLS from the start, in clear without a password."
  (let ((file (expand-file-name "conf" folder)))
    (dolist (name '("rsa.pem" "rsa.key"))
      (copy-file (smtpmail-native-test-cert name)
                 (expand-file-name name folder))
      (set-file-modes (expand-file-name name folder) #o600))
    (make-directory (expand-file-name "mail" folder))
    (smtpmail-native-server-call nil "chown" "65534:65534"
                                 (expand-file-name "mail" folder))
    (with-temp-file file
      (insert
       (smtpmail-native-opensmtpd-tests--filter-lines)
       (format "table creds { alice = \"%5$s\" }
table users { box = \"65534:65534:%1$smail\" }
table boxes { \"@\" = box }
pki x cert \"%1$srsa.pem\"
pki x key \"%1$srsa.key\"
smtp max-message-size \"100K\"
smtp limit max-mails 5
smtp limit max-rcpt 3
listen on 127.0.0.1 port %2$d tls-require pki x auth <creds> hostname x filter all
listen on 127.0.0.1 port %3$d smtps pki x auth <creds> hostname x filter all
listen on 127.0.0.1 port %4$d hostname x filter all
action in maildir \"%1$smail/all\" userbase <users> virtual <boxes>
match from any for domain example.org action in
" folder (nth 0 ports) (nth 1 ports) (nth 2 ports)
               smtpmail-native-opensmtpd-tests--hash)))
    (set-file-modes file #o600)
    file))

(defmacro smtpmail-native-opensmtpd-tests--with (&rest body)
  "Run BODY with an OpenSMTPD at `ports', its files in `folder'."
  (declare (indent 0) (debug t))
  `(progn
     (smtpmail-native-server-need smtpmail-native-opensmtpd-tests--program)
     (let* ((ports (smtpmail-native-server-ports 3))
            (port (nth 2 ports))
            server)
       (ignore port)
       (smtpmail-native-server-with-client (butlast ports)
         (unwind-protect
             (progn
               (setq server
                     (smtpmail-native-server-start
                      "OpenSMTPD"
                      (list "unshare" "--mount" "--propagation" "private"
                            "sh" "-c"
                            "mount -t tmpfs tmpfs /run &&
mount -t tmpfs -o mode=755 tmpfs /var/spool &&
mkdir -p /var/lib/opensmtpd/empty && exec \"$0\" -d -f \"$1\""
                            smtpmail-native-opensmtpd-tests--program
                            (smtpmail-native-opensmtpd-tests--configure
                             folder ports))
                      (lambda ()
                        (smtpmail-native-server-greets-p (nth 2 ports)))))
               (smtpmail-native-load)
               ,@body)
           (smtpmail-native-server-hang-up)
           (smtpmail-native-server-stop server))))))

(defun smtpmail-native-opensmtpd-tests--tls-p ()
  "Return non-nil if this OpenSMTPD can speak TLS."
  (with-temp-buffer
    (call-process smtpmail-native-opensmtpd-tests--program nil t nil "-h")
    (goto-char (point-min))
    (not (search-forward "OpenSMTPD 6." nil t))))

(defun smtpmail-native-opensmtpd-tests--send (port body &rest rest)
  "Send BODY in clear to PORT, with REST as for `smtpmail-native-server-send'."
  (apply #'smtpmail-native-server-send port body :stream 'plain rest))

(defun smtpmail-native-opensmtpd-tests--delivered (folder count)
  "Wait for COUNT messages in the maildir of FOLDER; return their bodies."
  (let (messages)
    (smtpmail-native-test-wait
     (lambda ()
       (>= (length (setq messages
                         (smtpmail-native-server-maildir
                          (expand-file-name "mail/all" folder))))
           count)))
    (should (= count (length messages)))
    (sort (mapcar #'smtpmail-native-server-body messages) #'string<)))

(ert-deftest smtpmail-native-opensmtpd-tests-streams ()
  "Messages arrive in clear, by STARTTLS and by TLS, with both mechanisms."
  (smtpmail-native-opensmtpd-tests--with
    (let ((tls (smtpmail-native-opensmtpd-tests--tls-p)) wanted)
      (pcase-dolist (`(,n ,stream ,mechanism)
                     `((2 plain nil)
                       ,@(and tls
                              '((0 starttls plain) (0 starttls login)
                                (1 ssl plain) (1 ssl login)))))
        (let ((body (format "%s %s\n.\n..dots\nFrom here\n" stream mechanism))
              (smtpmail-native-auth-mechanisms (list mechanism)))
          (push body wanted)
          (smtpmail-native-server-send (nth n ports) body :stream stream)
          (should (eq (and mechanism t)
                      (and (string-match-p
                            (upcase (format "^C: AUTH %s" mechanism))
                            (smtpmail-native-server-trace))
                           t)))))
      (when tls
        (setf (nth 3 (car smtpmail-auth-credentials)) "wrong")
        (should-error (smtpmail-native-server-send (car ports) "no\n")
                      :type 'smtpmail-native-auth-error))
      (should (equal (sort wanted #'string<)
                     (smtpmail-native-opensmtpd-tests--delivered
                      folder (length wanted)))))))

(ert-deftest smtpmail-native-opensmtpd-tests-kept ()
  "Many messages go through the connections that it allows."
  (smtpmail-native-opensmtpd-tests--with
    (let ((smtpmail-native-idle-seconds 10) wanted)
      (dotimes (i 13)
        (push (format "message %d\n" i) wanted)
        (smtpmail-native-opensmtpd-tests--send port (car wanted)))
      (should (equal (sort wanted #'string<)
                     (smtpmail-native-opensmtpd-tests--delivered folder 13))))))

(ert-deftest smtpmail-native-opensmtpd-tests-recipients ()
  "Refused recipients, and too many, spoil neither the others nor what follows."
  (smtpmail-native-opensmtpd-tests--with
    (let ((smtpmail-native-idle-seconds 10))
      (smtpmail-native-server-check-recipients port 'plain
                                               'smtpmail-native-deferred)
      (smtpmail-native-server-check-partial port 'plain)
      ;; It takes three at a time.
      (smtpmail-native-opensmtpd-tests--send
       port "yes\n" :to "a@example.org, b@example.org, c@example.org, \
d@example.org, e@example.org, f@example.org, g@example.org")
      (should (equal (cons "some\n" (make-list 7 "yes\n"))
                     (smtpmail-native-opensmtpd-tests--delivered folder 8))))))

(ert-deftest smtpmail-native-opensmtpd-tests-stages ()
  "A refusal is told as such at whatever stage it comes, and the next one goes."
  (smtpmail-native-opensmtpd-tests--with
    (let ((smtpmail-native-idle-seconds 10))
      (smtpmail-native-server-check-name port 'plain)
      (smtpmail-native-server-check-senders port 'plain)
      (smtpmail-native-server-check-large port 'plain)
      (smtpmail-native-opensmtpd-tests--send port "yes\n")
      (should (equal '("yes\n")
                     (smtpmail-native-opensmtpd-tests--delivered folder 1))))))

(provide 'smtpmail-native-opensmtpd-tests)
;;; smtpmail-native-opensmtpd-tests.el ends here
