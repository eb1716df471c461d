;;; smtpmail-native-doc-tests.el --- The manual is complete  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Every command, option and face has an index entry in the manual, and nothing
;; has one that does not exist.  The defaults in its table are those of the
;; code.

;;; Code:

(require 'smtpmail-native-test-helper)
(require 'smtpmail-native-list)
(require 'smtpmail-native-load)
(require 'smtpmail-native-trust)
(require 'smtpmail-native-wishes)

(defconst smtpmail-native-doc-tests--manual
  (expand-file-name "doc/smtpmail-native.org" smtpmail-native-test-folder)
  "The source of the manual.")

(defconst smtpmail-native-doc-tests--sources
  (cons (expand-file-name "smtpmail-native.el" smtpmail-native-test-folder)
        (directory-files (expand-file-name "lisp" smtpmail-native-test-folder)
                         t "\\`smtpmail-native-.*\\.el\\'"))
  "All Lisp files.")

(defun smtpmail-native-doc-tests--matches (regexp &rest files)
  "Return what the first group of REGEXP matches in FILES, sorted, once each."
  (let ((case-fold-search nil)
        (found nil))
    (dolist (file files)
      (with-temp-buffer
        (insert-file-contents file)
        (while (re-search-forward regexp nil t)
          (push (match-string-no-properties 1) found))))
    (sort (seq-uniq found) #'string<)))

(defun smtpmail-native-doc-tests--index (kind)
  "Return the entries of the index KIND of the manual, \"fn\" or \"vr\"."
  (smtpmail-native-doc-tests--matches
   (format "^#\\+%s: +\\(.+\\)$" (pcase kind ("fn" "findex") ("vr" "vindex")))
   smtpmail-native-doc-tests--manual))

(defun smtpmail-native-doc-tests--commands ()
  "Return the names that the autoload cookies define."
  (apply #'smtpmail-native-doc-tests--matches
         "^;;;###autoload[ \n](\\(?:defun \\|define-minor-mode \\|autoload '\\)\\([^ \n]+\\)"
         smtpmail-native-doc-tests--sources))

(defun smtpmail-native-doc-tests--options ()
  "Return the names of all user options."
  (apply #'smtpmail-native-doc-tests--matches "^(defcustom \\([^ \n]+\\)"
         smtpmail-native-doc-tests--sources))

(ert-deftest smtpmail-native-doc-commands ()
  "Each autoloaded function is in the manual's index of commands."
  (let ((commands (smtpmail-native-doc-tests--commands)))
    ;; The search itself finds some of each form.
    (dolist (name '("smtpmail-native-send-it" "smtpmail-native-mode"
                    "smtpmail-native-outbox" "smtpmail-native-batch-send"))
      (should (member name commands)))
    (should (equal (seq-difference commands
                                   (smtpmail-native-doc-tests--index "fn"))
                   nil))))

(ert-deftest smtpmail-native-doc-interactive ()
  "Each command is in the manual's index of commands, and so is each mode."
  (let ((names nil))
    (dolist (file smtpmail-native-doc-tests--sources)
      (require (intern (file-name-base file))))
    (mapatoms (lambda (symbol)
                (let ((name (symbol-name symbol)))
                  (when (and (string-prefix-p "smtpmail-native-" name)
                             (not (string-match-p "--\\|-tests?-" name))
                             (commandp symbol))
                    (push name names)))))
    (should (member "smtpmail-native-list-edit" names))
    (should (equal (seq-difference names
                                   (smtpmail-native-doc-tests--index "fn"))
                   nil))))

(ert-deftest smtpmail-native-doc-options ()
  "Each option is in the manual's index of options, and in its table."
  (let ((options (smtpmail-native-doc-tests--options)))
    (should (member "smtpmail-native-timeout" options))
    (should (equal (seq-difference options
                                   (smtpmail-native-doc-tests--index "vr"))
                   nil))
    (should (equal (seq-difference
                    options
                    (smtpmail-native-doc-tests--matches
                     "^| =\\([^=]+\\)= " smtpmail-native-doc-tests--manual))
                   nil))))

(ert-deftest smtpmail-native-doc-nothing-else ()
  "What the manual and README name exists."
  (dolist (name (smtpmail-native-doc-tests--index "fn"))
    (ert-info (name)
      (should (fboundp (intern name)))))
  (require 'smtpmail)
  (dolist (name (smtpmail-native-doc-tests--index "vr"))
    (ert-info (name)
      (should (or (custom-variable-p (intern name))
                  (boundp (intern name))))))
  (dolist (name (smtpmail-native-doc-tests--matches
                 "=\\(smtpmail-native-[a-z-]+\\)="
                 smtpmail-native-doc-tests--manual
                 (expand-file-name "README.org" smtpmail-native-test-folder)))
    (ert-info (name)
      (let ((symbol (intern-soft name)))
        (should (and symbol
                     (or (fboundp symbol) (boundp symbol) (facep symbol)
                         (get symbol 'error-conditions)
                         (get symbol 'custom-group))))))))

(defun smtpmail-native-doc-tests--printed (value)
  "Return VALUE, a default, as the manual's table of options has it."
  (pcase value
    ('nil "nil")
    ('t "t")
    ((pred symbolp) (format "=%s=" value))
    ((pred numberp) (number-to-string value))))

(ert-deftest smtpmail-native-doc-defaults ()
  "The defaults in the manual's table of options are those of the code."
  (with-temp-buffer
    (insert-file-contents smtpmail-native-doc-tests--manual)
    (let ((seen 0))
      (while (re-search-forward
              "^| =\\(smtpmail-[^=]+\\)= +| \\(nil\\|t\\|[0-9]+\\|=[a-z]+=\\) +|" nil t)
        (let ((printed (match-string 2))
              (symbol (intern (match-string 1))))
          (ert-info ((symbol-name symbol))
            (should (equal printed
                           (smtpmail-native-doc-tests--printed
                            (eval (car (get symbol 'standard-value)) t)))))
          (setq seen (1+ seen))))
      (should (> seen 15)))))

(ert-deftest smtpmail-native-doc-keys ()
  "The keys that the manual names are those of the outbox."
  (should (equal (smtpmail-native-doc-tests--matches
                  "^| =\\(RET\\|[A-Za-z/?]\\)= +| " smtpmail-native-doc-tests--manual)
                 (let ((keys nil))
                   (map-keymap
                    (lambda (event _)
                      (when (characterp event)
                        (push (single-key-description event) keys)))
                    ;; Its own keys, not those of the parent.
                    (let ((map (copy-keymap smtpmail-native-outbox-mode-map)))
                      (set-keymap-parent map nil)
                      map))
                   (sort keys #'string<)))))

(ert-deftest smtpmail-native-doc-states ()
  "The manual has each state that `describe-mode' explains in the outbox."
  (let ((states (let ((case-fold-search nil)
                      (text (documentation 'smtpmail-native-outbox-mode t))
                      (start 0)
                      (found nil))
                  (setq start (string-match "^State\t" text))
                  (while (string-match "^\\([a-z][a-z ]*[a-z]\\)[^\t\n]*\t"
                                       text start)
                    (push (match-string 1 text) found)
                    (setq start (match-end 0)))
                  found)))
    (should (member "unconfirmed" states))
    (let ((manual (smtpmail-native-doc-tests--matches
                   "^| =\\([a-z][a-z ]*[a-z]\\)[^=|]*= +|"
                   smtpmail-native-doc-tests--manual)))
      (should (equal (seq-difference states manual) nil)))))

(ert-deftest smtpmail-native-doc-exit-codes ()
  "The manual has each exit code that the code has, and no other."
  (should (equal (smtpmail-native-doc-tests--matches
                  "^| +\\([0-9]+\\) | " smtpmail-native-doc-tests--manual)
                 (sort (seq-uniq
                        (append
                         '("0" "64" "78")
                         (smtpmail-native-doc-tests--matches
                          ":exit \\([0-9]+\\)"
                          (expand-file-name "lisp/smtpmail-native-verdict.el"
                                            smtpmail-native-test-folder))
                         (smtpmail-native-doc-tests--matches
                          "\\(?:conditions) \\|(t \\|'some-p '[a-z]+) \\|'[a-z]+) \\)\\([67][0-9]\\))"
                          (expand-file-name "lisp/smtpmail-native-batch.el"
                                            smtpmail-native-test-folder))))
                       #'string<))))

(ert-deftest smtpmail-native-doc-batch-options ()
  "The manual or --help has each option of the commands for scripts."
  (require 'smtpmail-native-batch)
  (pcase-dolist (`(,name . ,_) smtpmail-native-arguments-send-options)
    (ert-info (name)
      (should (string-match-p
               (format "\\(?:^\\| \\)%s\\(?:[ =,.]\\|$\\)" (regexp-quote name))
               smtpmail-native-arguments-send-usage))))
  (pcase-dolist (`(,name . ,_) smtpmail-native-arguments-flush-options)
    (ert-info (name)
      (should (string-match-p (concat "  " (regexp-quote name) "[ =]")
                              smtpmail-native-arguments-flush-usage)))))

(ert-deftest smtpmail-native-doc-info ()
  "The manual becomes Info without a warning."
  (skip-unless (executable-find "makeinfo"))
  (skip-unless (executable-find "install-info"))
  (let ((folder (make-temp-file "smtpmail-native-doc" t)))
    (unwind-protect
        (with-temp-buffer
          (let* ((default-directory smtpmail-native-test-folder)
                 (info (expand-file-name "smtpmail-native.info" folder))
                 (texi (expand-file-name "smtpmail-native.texi" folder))
                 (emacs (expand-file-name invocation-name
                                          invocation-directory)))
            (should (eql 0 (call-process
                            emacs nil t nil "-Q" "--batch" "-l"
                            "tools/info.el"
                            smtpmail-native-doc-tests--manual texi)))
            (erase-buffer)
            (should (eql 0 (call-process "makeinfo" nil t nil "--no-split"
                                         "-o" info texi)))
            (should (equal (buffer-string) ""))
            (erase-buffer)
            (insert-file-contents info)
            (dolist (name (append (smtpmail-native-doc-tests--index "fn")
                                  (smtpmail-native-doc-tests--index "vr")))
              (goto-char (point-min))
              (should (search-forward (concat "\n* " name ":") nil t)))))
      (delete-directory folder t))))

;;;; Examples

(defconst smtpmail-native-doc-tests--foreign
  '(mu4e-sent-messages-behavior notmuch-fcc-dirs)
  "Variables of packages outside of Emacs that the examples set.")

(defun smtpmail-native-doc-tests--examples (file)
  "Return the forms of all blocks of Emacs Lisp in FILE."
  (let ((forms nil))
    (with-temp-buffer
      (insert-file-contents file)
      (while (re-search-forward "^ *#\\+begin_src emacs-lisp\n" nil t)
        (let ((text (buffer-substring
                     (point) (progn (re-search-forward "^ *#\\+end_src")
                                    (match-beginning 0)))))
          (with-temp-buffer
            (emacs-lisp-mode)
            (insert text)
            (goto-char (point-min))
            (while (progn (forward-comment (buffer-size)) (not (eobp)))
              (push (read (current-buffer)) forms))))))
    (nreverse forms)))

(ert-deftest smtpmail-native-doc-examples ()
  "The examples can be read, and set variables that exist."
  (require 'feedmail)
  (require 'gnus-msg)
  (require 'smtpmail)
  (let ((names nil))
    (dolist (file (list smtpmail-native-doc-tests--manual
                        (expand-file-name "README.org"
                                          smtpmail-native-test-folder)))
      (let ((forms (smtpmail-native-doc-tests--examples file)))
        (should forms)
        (dolist (form forms)
          (when (eq (car form) 'setq)
            (let ((rest (cdr form)))
              (while rest
                (push (pop rest) names)
                (should rest)
                (pop rest)))))))
    (should (memq 'smtpmail-smtp-server names))
    (dolist (name names)
      (should (or (boundp name)
                  (memq name smtpmail-native-doc-tests--foreign))))))

(provide 'smtpmail-native-doc-tests)
;;; smtpmail-native-doc-tests.el ends here
