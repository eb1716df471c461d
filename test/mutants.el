;;; mutants.el --- Do the tests notice a change of the code?  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; make mutants N=100 SEED=1 FILES="module/smtp/reply.c ..."
;;
;; Each mutant is the tree with one operator, constant or condition of one file
;; changed.  The tests of that file run first, then the others; all have passed
;; with the tree as it is before.  What no test notices survives and is printed: a
;; missing test, needless code, or a change that means the same.  A test that
;; takes ten times as long has noticed, too, and is counted by itself.  The work is
;; done in a copy of the tree, with the plain build, since speed counts and the
;; sanitizers have their own runs.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)

(defconst mutants--c-rules
  '((" == " " != ") (" != " " == ") (" < " " <= ") (" <= " " < ")
    (" > " " >= ") (" >= " " > ") (" && " " || ") (" || " " && ")
    (" \\+ " " - ") (" - " " + ") ("\\+\\+" "--") ("--" "++")
    ("\\_<true\\_>" "false") ("\\_<false\\_>" "true")
    ("\\_<0\\_>" "1") ("\\_<1\\_>" "0") ("\\_<2\\_>" "3")
    (" \\+= " " -= ") (" |= " " &= ") ("(!" "(")
    ("\\_<break;" ";") ("\\_<continue;" ";"))
  "What is changed in C: a list of (REGEXP REPLACEMENT).")

(defconst mutants--lisp-rules
  '(("(and " "(or ") ("(or " "(and ") ("(when " "(unless ")
    ("(unless " "(when ") ("(< " "(<= ") ("(<= " "(< ") ("(> " "(>= ")
    ("(>= " "(> ") ("(= " "(/= ") ("(eq " "(not (eq ") ("(not " "(identity ")
    ("(\\+ " "(- ") ("(- " "(+ ") ("\\_<nil\\_>" "t") ("\\_<t\\_>" "nil")
    ("\\_<0\\_>" "1") ("\\_<1\\_>" "0"))
  "What is changed in Lisp: a list of (REGEXP REPLACEMENT).")

(defconst mutants--patience 10
  "How many times as long as usual a test may take.")

(defconst mutants--least 20
  "Seconds that each test may take, however quick it is.")

(defvar mutants--seconds (make-hash-table :test #'equal)
  "How long each test takes with the unchanged tree, by its command.")

(defun mutants--code-p ()
  "Return non-nil if point is in code: no comment, string or directive."
  (let ((state (syntax-ppss)))
    (not (or (nth 3 state) (nth 4 state)
             ;; A buffer with more room is as good.
             (looking-at-p "[0-9]+\\]\\(?:;\\| = {\\)")
             (save-excursion
               (beginning-of-line)
               (looking-at-p "[ \t]*\\(#\\|(defconst\\|(defvar\\|(require\\|\
(declare\\|(provide\\|static const\\)"))))))

(defun mutants--sites (file)
  "Return the places in FILE that can be changed.
Each is (FILE POSITION END REPLACEMENT)."
  (with-temp-buffer
    (insert-file-contents file)
    (let ((case-fold-search nil)
          (sites nil)
          (rules (if (string-suffix-p ".el" file)
                     (progn (emacs-lisp-mode) mutants--lisp-rules)
                   (set-syntax-table (let ((table (make-syntax-table)))
                                       (modify-syntax-entry ?/ ". 14" table)
                                       (modify-syntax-entry ?* ". 23" table)
                                       (modify-syntax-entry ?' "\"" table)
                                       (modify-syntax-entry ?_ "_" table)
                                       table))
                   mutants--c-rules)))
      (pcase-dolist (`(,regexp ,new) rules)
        (goto-char (point-min))
        (while (re-search-forward regexp nil t)
          (let ((from (match-beginning 0)) (to (match-end 0)))
            (when (save-match-data (save-excursion (goto-char from)
                                                   (mutants--code-p)))
              (push (list file from to new) sites)))))
      (nreverse sites))))

(defun mutants--run (seconds command)
  "Run COMMAND, a list, for SECONDS at most; leave its output here.
Return its exit status, `late' if it took longer."
  (let ((status (apply #'call-process "timeout" nil t nil
                       "-k" "5" (number-to-string seconds) command)))
    (if (memql status '(124 137)) 'late status)))

(defun mutants--limit (test)
  "Return how many seconds TEST may take."
  (max mutants--least
       (ceiling (* mutants--patience (gethash test mutants--seconds 0)))))

(defun mutants--baseline (files)
  "Run all tests of FILES with the unchanged tree; end Emacs if one fails."
  (dolist (test (seq-uniq (mapcan (lambda (file)
                                    (copy-sequence (mutants--tests file)))
                                  files)))
    (with-temp-buffer
      (let ((start (float-time))
            (status (mutants--run 600 test)))
        (unless (eql status 0)
          (message "%s\nWithout a change this fails: %s" (buffer-string) test)
          (kill-emacs 2))
        (puthash test (- (float-time) start) mutants--seconds)))))

(defconst mutants--others
  "install\\|build\\|dovecot\\|exim\\|opensmtpd\\|postfix\\|lmtp\\|\
exhaustive\\|fault"
  "Regexp for the tests of Lisp that are about other things, or take long.")

(defun mutants--tests (file)
  "Return the tests that notice changes of FILE, a list of commands.
Those of the file itself come first."
  (if (string-suffix-p ".el" file)
      (let* ((name (string-remove-prefix "smtpmail-native-" (file-name-base file)))
             (own (format "test/smtpmail-native-%s-tests.el" name))
             (all (file-expand-wildcards "test/smtpmail-native-*-tests.el")))
        (mapcar (lambda (test)
                  (list (or (getenv "EMACS") "emacs") "-Q" "--batch"
                        "--eval" "(setq load-prefer-newer t)"
                        "-L" "." "-L" "lisp" "-L" "test" "-l" test
                        "--eval" "(ert-run-tests-batch-and-exit t)"))
                (seq-remove
                 (lambda (test) (string-match-p mutants--others test))
                 (append (and (member own all) (list own))
                         (remove own all)))))
    (let* ((header (string-remove-prefix "module/"
                                         (concat (file-name-sans-extension file)
                                                 ".h")))
           (own (format "test-%s" (file-name-base file)))
           (all (mapcar #'file-name-base
                        (file-expand-wildcards "test/c/test-*.c")))
           (rank (lambda (test)
                   (cond ((equal test own) 0)
                         ((with-temp-buffer
                            (insert-file-contents
                             (format "test/c/%s.c" test))
                            (search-forward header nil t))
                          1)
                         (t 2)))))
      (mapcar (lambda (test) (list (concat "build/plain/" test) "test/peer"))
              ;; The quicker ones of each rank first.
              (seq-sort-by
               rank #'<
               (seq-sort-by
                (lambda (test)
                  (gethash (list (concat "build/plain/" test) "test/peer")
                           mutants--seconds 0))
                #'< all))))))

(defun mutants--sorted (tests)
  "Return TESTS, the first one and then the others, the quickest first."
  (cons (car tests)
        (seq-sort-by (lambda (test) (gethash test mutants--seconds 0)) #'<
                     (cdr tests))))

(defun mutants--noticed (file)
  "Return what noticed the change of FILE, or nil.
That is (HOW . WHAT), HOW being `compiler', `failed' or `late'."
  (let ((tests (mutants--tests file)))
    (with-temp-buffer
      (if (and (string-suffix-p ".c" file)
               (/= 0 (apply #'call-process "make" nil t nil "-s" "-j2" "WARN="
                            (mapcar #'car tests))))
          '(compiler . "the compiler")
        (cl-loop for test in (if (string-suffix-p ".el" file)
                                 (mutants--sorted tests)
                               tests)
                 for status = (mutants--run (mutants--limit test) test)
                 unless (eql 0 status)
                 return (cons (if (eq status 'late) 'late 'failed)
                              (seq-find (lambda (word)
                                          (string-match-p "test-" word))
                                        test "")))))))

(defun mutants--object (file)
  "Return the hash of what FILE is compiled to; nil if it is not, or no C."
  (when (string-suffix-p ".c" file)
    (let ((object (concat "build/plain/"
                          (string-remove-prefix
                           "module/" (file-name-sans-extension file))
                          ".o")))
      (with-temp-buffer
        (when (eql 0 (call-process "make" nil t nil "-s" "WARN=" object))
          (set-buffer-multibyte nil)
          (erase-buffer)
          (insert-file-contents-literally object)
          (secure-hash 'sha256 (current-buffer)))))))

(defun mutants--try (site)
  "Change the tree at SITE, run the tests, and change it back.
Return what noticed the change, or nil."
  (pcase-let* ((`(,file ,from ,to ,new) site)
               (object (mutants--object file))
               (original (with-temp-buffer
                           (insert-file-contents file) (buffer-string))))
    (unwind-protect
        (progn
          (with-temp-buffer
            (insert original)
            (delete-region from to)
            (goto-char from)
            (insert new)
            ;; "(eq" became "(not (eq".
            (when (string-prefix-p "(not (" new)
              (goto-char from)
              (condition-case nil
                  (progn (forward-char 5) (forward-sexp) (insert ")"))
                (scan-error nil)))
            (write-region nil nil file nil 'silent))
          ;; What is for another system, or means the same, is no mutant.
          (if (and object (equal object (mutants--object file)))
              '(compiler . "nothing changes")
            (mutants--noticed file)))
      (write-region original nil file nil 'silent))))

(defun mutants--show (site)
  "Return SITE as text: file, line, and both versions of the line."
  (pcase-let ((`(,file ,from ,to ,new) site))
    (with-temp-buffer
      (insert-file-contents file)
      (goto-char from)
      (format "%s:%d: %s   [%s -> %s]" file (line-number-at-pos)
              (string-trim (buffer-substring (line-beginning-position)
                                             (line-end-position)))
              (string-trim (buffer-substring from to)) (string-trim new)))))

(defun mutants-run ()
  "Try N mutants of the files on the command line, chosen by SEED.
The environment has N and SEED.  Print those that no test notices."
  (let* ((count (string-to-number (or (getenv "N") "100")))
         (files (or command-line-args-left
                    (append (file-expand-wildcards "module/[bmnse]*/*.c")
                            (mapcar (lambda (name)
                                      (format "lisp/smtpmail-native-%s.el" name))
                                    '("entry" "verdict" "outcome" "go"
                                      "schedule" "outbox")))))
         (files (seq-remove (lambda (file) (string-prefix-p "module/emacs" file))
                            files))
         (sites (vconcat (mapcan #'mutants--sites files)))
         (tried 0) (late 0) (survivors nil))
    (setq command-line-args-left nil)
    (random (or (getenv "SEED") "1"))
    (mutants--baseline files)
    (while (and (< tried count) (> (length sites) 0))
      (let* ((site (aref sites (random (length sites))))
             (noticed (mutants--try site)))
        ;; What does not compile is no mutant.
        (unless (eq (car noticed) 'compiler)
          (setq tried (1+ tried))
          (pcase (car noticed)
            ('nil (push site survivors)
                  (message "survived: %s" (mutants--show site)))
            ('late (setq late (1+ late))
                   (message "late: %s" (mutants--show site))))
          (when (= 0 (% tried 10))
            (message "%d tried, %d survived" tried (length survivors))))))
    (message "%d of %d mutants were noticed, %d of them because a test took %d \
times as long"
             (- tried (length survivors)) tried late mutants--patience)))

(provide 'mutants)
;;; mutants.el ends here
