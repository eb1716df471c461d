;;; smtpmail-native-address-exhaustive-tests.el --- Every short address  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The parser against one regexp that says what a list of addresses is, for all
;; short texts of the characters that mean something.  First a text becomes a
;; sketch, a letter for each token:
;;   a atom   q quoted string   l domain literal   p what only a name can have
;; with a space only where two of these meet, and the specials as they are.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'smtpmail-native-address)
(require 'smtpmail-native-encode)
(require 'smtpmail-native-error)

;;;; The model

(defun smtpmail-native-address-exhaustive--end (text at close nests)
  "Return the index behind the CLOSE that ends what begins at AT in TEXT, or nil.
NESTS is the character that opens one more, or nil."
  (let ((depth 1))
    (setq at (1+ at))
    (while (and (> depth 0) (< at (length text)))
      (let ((char (aref text at)))
        (cond ((eq char ?\\) (setq at (1+ at)))
              ((eq char close) (setq depth (1- depth)))
              ((eq char nests) (setq depth (1+ depth)))))
      (setq at (1+ at)))
    (and (= depth 0) at)))

(defun smtpmail-native-address-exhaustive--letters (text)
  "Return the letters and texts of the tokens of TEXT, or nil if there are none.
The value is a list of (LETTER . TEXT), where the letter of a comment is a
space."
  (let ((at 0) tokens)
    (while (and at (< at (length text)))
      (let* ((char (aref text at))
             (end (pcase char
                    (?\" (smtpmail-native-address-exhaustive--end
                          text at ?\" nil))
                    (?\( (smtpmail-native-address-exhaustive--end
                          text at ?\) ?\())
                    (?a (string-match "[^a]\\|\\'" text at))
                    (?\[ (if (eq (string-match "\\[[^][\\ ]*\\]" text at) at)
                             (match-end 0)
                           (1+ at)))
                    (_ (1+ at)))))
        (when end
          (push (cons (pcase char
                        (?\" ?q) (?\( ?\s)
                        (?\[ (if (> end (+ at 2)) ?l ?p))
                        ((or ?\] ?\\) ?p)
                        (_ char))
                      (substring text at end))
                tokens))
        (setq at end)))
    (and at (nreverse tokens))))

(defun smtpmail-native-address-exhaustive--sketch (tokens)
  "Return the sketch of TOKENS."
  (let ((text (mapconcat (lambda (token)
                           (format (if (memq (car token) '(?a ?q ?l ?p))
                                       " %c " "%c")
                                   (car token)))
                         tokens "")))
    (string-trim (replace-regexp-in-string
                  " *\\([^aqlp ]\\) *" "\\1"
                  (replace-regexp-in-string " +" " " text)))))

(defconst smtpmail-native-address-exhaustive--item
  (let ((spec "[aq.]*[aq][aq.]*\\(?:@\\(?:l\\|a\\(?:\\.a\\)*\\)\\)?"))
    (concat "\\(?:" spec "\\|"
            "[aqlp .@]*<\\(?:[@,][aqlp .@,]*:\\)?" spec ">?\\)"))
  "Matches the sketch of a mailbox.")

(defconst smtpmail-native-address-exhaustive--list
  (let* ((item smtpmail-native-address-exhaustive--item)
         (group (concat "[aqlp .@]+:\\(?:" item "\\)?\\(?:,\\(?:" item
                        "\\)?\\)*;"))
         (one (concat "\\(?:" item "\\|" group "\\)?")))
    (concat "\\`" one "\\(?:," one "\\)*\\'"))
  "Matches the sketch of a list of mailboxes and groups.")

(defun smtpmail-native-address-exhaustive--torn-p (sketch)
  "Return non-nil if SKETCH, of a list, has a name that a comma tears apart.
That is a bare name before an address in angle brackets with a name."
  (string-match-p
   (concat "\\(?:\\`\\|[,:;]\\)[aq.]+,[aq.,]*[aqlp.@][aqlp .@]*<")
   (replace-regexp-in-string "<[@,][^:]*:" "<" sketch)))

(defun smtpmail-native-address-exhaustive--addresses (tokens)
  "Return the addresses of TOKENS, a list of mailboxes and groups, as texts."
  (let ((inside nil) (route nil) (address "") addresses)
    (cl-flet ((finish ()
                (unless (equal address "") (push address addresses))
                (setq address "" inside nil)))
      (dolist (token tokens)
        (pcase (car token)
          ((guard (and route (/= (car token) ?:))))
          (?: (setq address "" route nil))
          (?< (setq address "" inside t))
          ((or ?, (and ?@ (guard (and inside (equal address "")))))
           (if (and inside (equal address ""))
               (setq route t)
             (finish)))
          ((or ?\; ?>) (finish))
          (?\s)
          (_ (setq address (concat address (cdr token))))))
      (finish))
    (nreverse addresses)))

(defun smtpmail-native-address-exhaustive--model (text)
  "Return the addresses in TEXT, or the symbol `bad'."
  (let* ((tokens (smtpmail-native-address-exhaustive--letters text))
         (sketch (smtpmail-native-address-exhaustive--sketch tokens)))
    (if (or (and (null tokens) (not (equal text "")))
            (not (string-match-p smtpmail-native-address-exhaustive--list
                                 sketch))
            (smtpmail-native-address-exhaustive--torn-p sketch))
        'bad
      (smtpmail-native-address-exhaustive--addresses tokens))))

;;;; The comparison

(defun smtpmail-native-address-exhaustive--read (text)
  "Return the addresses that the parser reads in TEXT, or the symbol `bad'."
  (condition-case nil
      (mapcar #'smtpmail-native-address-string
              (smtpmail-native-address-parse text "To"))
    (smtpmail-native-usage-error 'bad)))

(defun smtpmail-native-address-exhaustive--wrong (text)
  "Return nil if TEXT is read as it should be, else how it is read.
What is written of it must be read in the same way."
  (let ((want (smtpmail-native-address-exhaustive--model text))
        (got (smtpmail-native-address-exhaustive--read text)))
    (cond
     ((not (equal want got)) (list text :want want :got got))
     ((eq got 'bad) nil)
     (t (let ((written (smtpmail-native-encode-address-text text "To")))
          (unless (equal got (smtpmail-native-address-exhaustive--read
                              written))
            (list text :written written)))))))

(defun smtpmail-native-address-exhaustive--each (alphabet longest)
  "Compare all texts over ALPHABET, strings, of at most LONGEST of them."
  (let ((texts (list "")) wrong)
    (dotimes (_ longest)
      (setq texts (mapcan (lambda (text)
                            (mapcar (lambda (letter) (concat letter text))
                                    alphabet))
                          texts))
      (dolist (text texts)
        (let ((how (smtpmail-native-address-exhaustive--wrong text)))
          (when how (push how wrong)))))
    (should-not (last wrong 10))))

(ert-deftest smtpmail-native-address-exhaustive-tests-structure ()
  "Mailboxes, names, routes and groups."
  (smtpmail-native-address-exhaustive--each
   '("a" "." "@" "<" ">" "," ";" ":" " ") 5))

(ert-deftest smtpmail-native-address-exhaustive-tests-mailboxes ()
  "The same, of larger parts."
  (smtpmail-native-address-exhaustive--each
   '("a" "a@a" "<a@a" "<@a" ">" "," ";" ":" " ") 4))

(ert-deftest smtpmail-native-address-exhaustive-tests-quotes ()
  "Quoted strings, comments, domain literals and what escapes."
  (smtpmail-native-address-exhaustive--each
   '("a" "@" "<" "\"" "\\" "(" ")" "[" "]") 4))

(provide 'smtpmail-native-address-exhaustive-tests)
;;; smtpmail-native-address-exhaustive-tests.el ends here
