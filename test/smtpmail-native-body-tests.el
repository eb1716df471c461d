;;; smtpmail-native-body-tests.el --- Tests of the octets of a body  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What is written into a file from two buffers is what one buffer would hold.

;;; Code:

(require 'ert)
(require 'seq)
(require 'smtpmail-native-message)

(defun smtpmail-native-body-tests--file (write)
  "Return the octets of the file that the function WRITE writes."
  (let ((file (make-temp-file "smtpmail-native")))
    (unwind-protect
        (with-temp-buffer
          (set-buffer-multibyte nil)
          (funcall write file)
          (insert-file-contents-literally file)
          (buffer-string))
      (delete-file file))))

(defconst smtpmail-native-body-tests--bodies
  (list "" "x" "x\n" "x\n\n" "a\r\nb\r\n" ".\n" "gr\u00fc\u00df\n" "gr\u00fc\u00df"
        "\u65e5\u672c \U0001f600\n" "\u0085\u00a0\n" (make-string 2000 ?x)
        (make-string 2000 ?\u00fc) "\0\n" "gr\u00fc\n--text follows this line--\n"
        (concat "raw " (string-to-multibyte "\377\200") " end")
        (concat "gr\u00fc " (string-to-multibyte "\377") "\n")
        (encode-coding-string "gr\u00fc\u00df\n" 'utf-8)
        (encode-coding-string "gr\u00fc\u00df" 'iso-latin-1) "\377\0\r\n")
  "Texts; a unibyte one stands in a unibyte buffer.")

(ert-deftest smtpmail-native-body-tests-written ()
  "A lean buffer is written, and measured, like a full one."
  (let ((mail-header-separator "--text follows this line--")
        (user-mail-address "me@home.test")
        (mail-personal-alias-file "/nonexistent"))
    (dolist (wanted '(nil utf-8 iso-latin-1 windows-1252 koi8-r gb2312
                         iso-2022-jp))
      (dolist (body smtpmail-native-body-tests--bodies)
        (ert-info ((format "%S %S" wanted body))
          (with-temp-buffer
            (set-buffer-multibyte (multibyte-string-p
                                   (if (string-match-p "[^[:ascii:]]" body)
                                       body
                                     (string-to-multibyte body))))
            (insert "To: a@x\nDate: d\nMessage-ID: <i@x>\nFrom: me@home.test\n\
Subject: " (if enable-multibyte-characters "gr\u00fc" "x") "\n"
                    mail-header-separator "\n" body)
            (let* ((smtpmail-code-conv-from wanted)
                   (lean (plist-get (smtpmail-native-message-prepare-lean
                                     nil nil nil nil)
                                    :buffer))
                   (size (smtpmail-native-body-size lean))
                   (here (buffer-string))
                   written)
              (narrow-to-region 5 6)
              (unwind-protect
                  (progn
                    (setq written (smtpmail-native-body-tests--file
                                   (apply-partially
                                    #'smtpmail-native-body-write lean)))
                    (should (equal here (progn (widen) (buffer-string))))
                    (narrow-to-region 5 6)
                    (smtpmail-native-body-fill lean)
                    (widen)
                    (should (= size (length written)))
                    (with-current-buffer lean
                      (should (equal written (buffer-string)))
                      (should (= (point) (point-min))))
                    (should (equal written
                                   (smtpmail-native-body-tests--file
                                    (apply-partially
                                     #'smtpmail-native-body-write lean))))
                    (should (= size (smtpmail-native-body-size lean))))
                (kill-buffer lean)))))))))

(ert-deftest smtpmail-native-body-tests-lean ()
  "A large body stays where it is until it is written."
  (pcase-dolist (`(,coding ,line) '((utf-8 "xxx\n") (utf-8 "gr\u00fc\n")
                                    (iso-latin-1 "gr\u00fc\n")
                                    (koi8-r "\u0430\u0431\u0432\n")))
    (with-temp-buffer
      (insert "To: a@x\nFrom: me@home.test\n\n")
      (dotimes (_ 100000)
        (insert line))
      (let* ((mail-header-separator "")
             (smtpmail-code-conv-from coding)
             (mail-personal-alias-file "/nonexistent")
             (lean (plist-get (smtpmail-native-message-prepare-lean
                               nil nil nil nil)
                              :buffer)))
        (unwind-protect
            (progn
              (should (< (buffer-size lean) 1000))
              (should (>= (smtpmail-native-body-size lean) 400000)))
          (kill-buffer lean))))))

(defun smtpmail-native-body-tests--long-p ()
  "Return non-nil if a line of the current buffer has more than 998 octets."
  (seq-some (lambda (line) (> (string-bytes line) 998))
            (split-string (buffer-string) "\n")))

(ert-deftest smtpmail-native-body-tests-long-lines ()
  "Lines of more than 998 octets are found, wherever they begin."
  (dolist (char '("x" "ö" "日" "\U0001f600"))
    (dolist (before '(0 1 300 997 998 999 1500))
      (dolist (octets '(0 1 990 996 997 998 999 1000 1001 1002 3000))
        (dolist (end '("" "\n" "\nx\n"))
          (with-temp-buffer
            (dotimes (_ (/ before 3))
              (insert "é\n"))
            (insert (make-string (% before 3) ?y))
            (dotimes (_ (/ octets (string-bytes char)))
              (insert char))
            (insert end)
            (ert-info ((format "%S" (list char before octets end)))
              (should (eq (and (smtpmail-native-body--long-p (point-min)) t)
                          (and (smtpmail-native-body-tests--long-p) t))))))))))

(provide 'smtpmail-native-body-tests)
;;; smtpmail-native-body-tests.el ends here
