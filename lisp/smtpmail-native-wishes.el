;;; smtpmail-native-wishes.el --- What a message asks of the server  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Besides its delivery a message may ask for reports (RFC 3461), for TLS all the
;; way (RFC 8689), for a time limit (RFC 2852) and to be sent later (RFC 4865).
;; It does so by options, and by a field of its header that is removed:
;;
;;   X-Smtpmail-Native: notify=success,failure; return=headers; later=+2h
;;
;; This file makes a plist of the two, as the module wants it.

;;; Code:

(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'iso8601)
(require 'parse-time)
(require 'seq)
(require 'subr-x)

(defconst smtpmail-native-wishes-header "x-smtpmail-native"
  "The field of a message that holds its wishes, in lower case.")

(defun smtpmail-native-wishes--fail (format &rest args)
  "Signal `smtpmail-native-usage-error' with FORMAT and ARGS."
  (smtpmail-native-error-signal
   'smtpmail-native-usage-error
   (concat "X-Smtpmail-Native: "
           (smtpmail-native-error-text (apply #'format format args)))))

(defun smtpmail-native-wishes--notify (value)
  "Return VALUE, names with commas between, as the parameter NOTIFY."
  (let ((names (mapcar #'upcase (split-string value "," t "[ \t]+"))))
    (unless (or (equal names '("NEVER"))
                (and names
                     (equal names (seq-uniq names))
                     (null (seq-difference names
                                           '("SUCCESS" "FAILURE" "DELAY")))))
      (smtpmail-native-wishes--fail
       "Invalid notify: %s (must be never, or a list of success, failure, delay)"
       value))
    (string-join names ",")))

(defun smtpmail-native-wishes--return (value)
  "Return VALUE as the parameter RET."
  (or (cdr (assoc (downcase value)
                  '(("full" . "FULL") ("headers" . "HDRS") ("hdrs" . "HDRS"))))
      (smtpmail-native-wishes--fail "Invalid return: %s (must be full or headers)" value)))

(defun smtpmail-native-wishes--envid (value)
  "Return VALUE as the envelope identifier."
  (unless (string-match-p "\\`[!-~]\\{1,100\\}\\'" value)
    (smtpmail-native-wishes--fail
     "Invalid envid: %s (must be 1 to 100 printable ASCII characters)" value))
  value)

(defun smtpmail-native-wishes--deliver-by (value)
  "Return VALUE, seconds and R or N, as the parameter BY."
  (unless (string-match "\\`\\(-?[0-9]\\{1,9\\}\\);?\\([RN]T?\\)\\'"
                        (upcase value))
    (smtpmail-native-wishes--fail
     "Invalid deliver-by: %s (must be seconds followed by R, to return it, \
or N, to notify you)" value))
  (let ((value (upcase value)))
    (concat (match-string 1 value) ";" (match-string 2 value))))

(defun smtpmail-native-wishes--yes (value)
  "Return non-nil if VALUE is yes, nil if it is no."
  (pcase (downcase value)
    ((or "yes" "t") t)
    ((or "no" "nil") nil)
    (_ (smtpmail-native-wishes--fail
        "Invalid require-tls: %s (must be yes or no)" value))))

(defun smtpmail-native-wishes-time (value)
  "Return the time that VALUE names, in seconds, an integer.
VALUE is +N followed by m, h, d or w, which counts from now; a time of
the day, HH:MM, which means the next one; or a date with a time as people
write it.  Without a zone it is local.  Signal `smtpmail-native-usage-error'
if it is none of these."
  (let ((now (truncate (float-time)))
        (case-fold-search nil))
    (cond
     ((string-match "\\`\\+ *\\([0-9]\\{1,6\\}\\) *\\([mhdw]\\)\\'" value)
      (+ now (* (string-to-number (match-string 1 value))
                (cdr (assoc (match-string 2 value)
                            '(("m" . 60) ("h" . 3600) ("d" . 86400)
                              ("w" . 604800)))))))
     ((string-match "\\`\\([0-9]\\{1,2\\}\\):\\([0-9]\\{2\\}\\)\\'" value)
      (let* ((hour (string-to-number (match-string 1 value)))
             (minute (string-to-number (match-string 2 value)))
             (time (smtpmail-native-wishes--today hour minute 0)))
        (unless (and (< hour 24) (< minute 60))
          (smtpmail-native-wishes--fail "Invalid time in later: %s" value))
        (if (> time now) time (smtpmail-native-wishes--today hour minute 1))))
     (t
      (let ((decoded (condition-case nil
                         (if (iso8601-valid-p value)
                             (iso8601-parse value)
                           (parse-time-string value))
                       (error nil))))
        (unless (and (decoded-time-year decoded) (decoded-time-month decoded)
                     (decoded-time-day decoded) (decoded-time-hour decoded))
          (smtpmail-native-wishes--fail
           "Invalid later: %s (must be like +2h, 08:30, or a date and time)" value))
        (truncate (float-time (encode-time
                               (decoded-time-set-defaults decoded)))))))))

(defun smtpmail-native-wishes--today (hour minute days)
  "Return the time HOUR:MINUTE of the day that comes DAYS after this one."
  (let ((today (decode-time)))
    (truncate
     (float-time
      (encode-time (list 0 minute hour (+ days (decoded-time-day today))
                         (decoded-time-month today) (decoded-time-year today)
                         nil -1 nil))))))

(defconst smtpmail-native-wishes--keys
  '(("notify" :notify smtpmail-native-wishes--notify)
    ("return" :ret smtpmail-native-wishes--return)
    ("envid" :envid smtpmail-native-wishes--envid)
    ("deliver-by" :deliver-by smtpmail-native-wishes--deliver-by)
    ("require-tls" :require-tls smtpmail-native-wishes--yes)
    ("later" :release smtpmail-native-wishes-time))
  "Keys of the header field: (NAME PROPERTY FUNCTION).
FUNCTION makes the value of PROPERTY of what follows NAME=.")

(defun smtpmail-native-wishes-parse (field)
  "Return what FIELD, the text of the header field, asks for, as a plist.
Signal `smtpmail-native-usage-error' for what is not understood."
  (let ((plist nil))
    (dolist (part (split-string field ";" t "[ \t\n]+"))
      (unless (string-match "\\`\\([-a-zA-Z]+\\)[ \t]*=[ \t]*\\(.*\\)\\'" part)
        (smtpmail-native-wishes--fail "not of the form KEY=VALUE: %s" part))
      (let* ((value (match-string 2 part))
             (name (downcase (match-string 1 part)))
             (key (assoc name smtpmail-native-wishes--keys)))
        (unless key
          (smtpmail-native-wishes--fail
           "Unknown key %s (known keys: %s)" name
           (mapconcat #'car smtpmail-native-wishes--keys ", ")))
        (when (plist-member plist (nth 1 key))
          (smtpmail-native-wishes--fail "Duplicate key %s" name))
        (setq plist (plist-put plist (nth 1 key)
                               (funcall (nth 2 key) value)))))
    plist))

(defun smtpmail-native-wishes--options ()
  "Return what the options ask for, as a plist."
  (list :notify (and smtpmail-native-dsn-notify
                     (smtpmail-native-wishes--notify
                      (mapconcat (lambda (name) (format "%s" name))
                                 (ensure-list smtpmail-native-dsn-notify) ",")))
        :ret (and smtpmail-native-dsn-return
                  (smtpmail-native-wishes--return
                   (format "%s" smtpmail-native-dsn-return)))
        :require-tls (and smtpmail-native-require-tls t)))

(defun smtpmail-native-wishes (field tls-required message-id)
  "Return the wishes of a message as a plist, nil if it has none.
FIELD is the text of its header field, or nil; TLS-REQUIRED that of the
field TLS-Required (RFC 8689, 5); MESSAGE-ID its own, which names the message
in a report.  What the field says goes before the options.  Signal
`smtpmail-native-usage-error' for what cannot be.  The plist has
  :notify :ret :envid   parameters of RFC 3461, strings or nil
  :deliver-by           the by-value of RFC 2852, a string or nil
  :require-tls          non-nil: REQUIRETLS (RFC 8689)
  :release              when it is to be sent, in seconds, or nil"
  (let* ((own (and field (smtpmail-native-wishes-parse field)))
         (wishes (smtpmail-native-wishes--options))
         (id (string-trim (or message-id "") "[ \t<]+" "[ \t>]+")))
    (when (and tls-required
               (equal (downcase (string-trim tls-required)) "no"))
      (when (plist-get own :require-tls)
        (smtpmail-native-wishes--fail
         "require-tls=yes contradicts the field TLS-Required: No"))
      (setq wishes (plist-put wishes :require-tls nil)))
    (while own
      (setq wishes (plist-put wishes (pop own) (pop own))))
    (when (and (or (plist-get wishes :notify) (plist-get wishes :ret))
               (null (plist-get wishes :envid))
               (string-match-p "\\`[!-*,-<>-~]\\{1,100\\}\\'" id))
      (setq wishes (plist-put wishes :envid id)))
    (let ((given nil))
      (while wishes
        (let ((key (pop wishes))
              (value (pop wishes)))
          (when value
            (setq given (append given (list key value))))))
      given)))

(provide 'smtpmail-native-wishes)
;;; smtpmail-native-wishes.el ends here
