;;; smtpmail-native-data-tests.el --- Lisp data in files that are not trusted  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What another program may have put into a file runs nothing, loads nothing and
;; keeps Emacs from nothing.

;;; Code:

(require 'ert)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-data-tests--read (text)
  "Return the object that TEXT, as the content of a file, is read as."
  (with-temp-buffer
    (insert text)
    (smtpmail-native-data-read-buffer)))

(ert-deftest smtpmail-native-data-tests-round-trip ()
  "What is printed is read again, whatever the options of the printer are."
  (let ((print-length 1) (print-level 1) (print-circle t)
        (print-escape-nonascii t) (print-quoted nil))
    (dolist (object (list nil t 'ready :next 0 -1 1.5 1e20 "" "a\"b\\c\n\0"
                          "Grüße ∀" "\377\200" "\\N{BULLET}" "#$"
                          '(:a "b" :c (d ("e" f 2 nil "g"))) '("a" . "b")
                          '(a b . c) '(setq a 'b c '("d"))))
      (should (equal (smtpmail-native-data-tests--read
                      (smtpmail-native-data-print object))
                     object)))))

(ert-deftest smtpmail-native-data-tests-no-properties ()
  "The properties of strings are neither printed nor read."
  (should (equal (smtpmail-native-data-print
                  (list (propertize "x" 'face (list (current-buffer)))))
                 "(\"x\")\n")))

(ert-deftest smtpmail-native-data-tests-first ()
  "What follows the object is not even looked at."
  (should (equal (smtpmail-native-data-tests--read "(a b)#.(error)") '(a b)))
  (should (equal (smtpmail-native-data-tests--read " \n(a)(b)") '(a))))

(defconst smtpmail-native-data-tests--bad
  (list "" " " "(" "(a" "\"a" ")" "'" "('" "(')" "''a" "(''a)"
        ;; Reader syntax that makes what is not plain, or loads or loops.
        "#1=(a . #1#)" "(#1=a #1#)" "#s(hash-table)" "#$" "(#$)" "#.(error)"
        "#@9999999(a)" "#[a b]" "#&8\"a\"" "#(\"a\" 0 1 (face bold))" "#'car"
        "#:a" "#x10" "#24r1k" "[a]" "(a [b])" "`(a ,b)" "?a" "(?\\C-a)"
        "(a;b)" "; a comment" "\\(a" "(a\\ b)" "#_a" "##"
        ;; The reader loads a table of names for this one.
        "\"\\N{BULLET}\"" "(\"a\\N{U+41}\")"
        "\0\0\0\0" "(a\0)" "(ä)"
        "\"a\\")
  "Texts that are no plain data.")

(ert-deftest smtpmail-native-data-tests-bad ()
  "Nothing but plain data is read."
  (dolist (text smtpmail-native-data-tests--bad)
    (should-error (smtpmail-native-data-tests--read text) :type 'error)))

(ert-deftest smtpmail-native-data-tests-bounds ()
  "What would take the reader's stack or hours is refused at once."
  (dolist (text (list (make-string 1000000 ?\()
                      (concat (make-string 1000000 ?\()
                              (make-string 1000000 ?\)))
                      (make-string 1000000 ?\')
                      (apply #'concat (make-list 100000 "('"))
                      (make-string 1000000 ?9)
                      (make-string 1000000 ?a)
                      (concat "(" (make-string 1000000 ?9) ")")))
    (let ((seconds (car (benchmark-run 1
                          (should-error (smtpmail-native-data-tests--read text)
                                        :type 'error)))))
      (should (< seconds 2))))
  (should (equal 100000 (length (smtpmail-native-data-tests--read
                                 (concat "(" (apply #'concat
                                                    (make-list 100000 "a "))
                                         ")"))))))

(ert-deftest smtpmail-native-data-tests-files ()
  "A file that is none, is not ours, or too long is an error, and no wait."
  (let* ((folder (make-temp-file "smtpmail-native" t))
         (file (expand-file-name "file" folder))
         (good (expand-file-name "good" folder))
         (read (lambda ()
                 (should-error (smtpmail-native-data-read file 'utf-8-emacs)))))
    (unwind-protect
        (with-file-modes #o600
          (write-region "(a)" nil good nil 'silent)
          (should (equal (smtpmail-native-data-read good 'utf-8-emacs) '(a)))
          (should (eq (car (funcall read)) 'file-missing))
          (call-process "mkfifo" nil nil nil file)
          (should (string-match-p "regular" (cadr (funcall read))))
          (delete-file file)
          (make-symbolic-link good file)
          (should (string-match-p "regular" (cadr (funcall read))))
          (delete-file file)
          (make-directory file)
          (should (string-match-p "regular" (cadr (funcall read))))
          (delete-directory file)
          (write-region "(a)" nil file nil 'silent)
          (dolist (modes '(#o620 #o602 #o666))
            (set-file-modes file modes)
            (should (string-match-p "may write" (cadr (funcall read)))))
          (set-file-modes file #o644)
          (should (equal (smtpmail-native-data-read file 'utf-8-emacs) '(a)))
          (let ((smtpmail-native-data-max 2))
            (should (string-match-p "too long" (cadr (funcall read)))))
          (when (= (user-uid) 0)
            (call-process "chown" nil nil nil "65534" file)
            (should (string-match-p "another user" (cadr (funcall read))))))
      (delete-directory folder t))))

(ert-deftest smtpmail-native-data-tests-parts ()
  "An object of very many parts is refused, one of many recipients is read."
  (with-temp-buffer
    (insert "(:results (")
    (dotimes (n 20000)
      (insert (format "(\"user%d@example.org\" refused 550 \"5.1.1\" \"no\")"
                      n)))
    (insert "))")
    (should (= 20000 (length (plist-get (smtpmail-native-data-read-buffer)
                                        :results))))
    (erase-buffer)
    (insert "(" (apply #'concat (make-list 500000 "a ")) ")")
    (should (equal (cadr (should-error (smtpmail-native-data-read-buffer)))
                   "It has too many parts"))))

(provide 'smtpmail-native-data-tests)
;;; smtpmail-native-data-tests.el ends here
