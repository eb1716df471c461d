;;; smtpmail-native-later.el --- Send a message later  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The command that sends the message you are writing at a time that you name as
;; people do, and the reader of such times.  The time goes into the field
;; X-Smtpmail-Native of the message, which the outbox obeys.

;;; Code:

(require 'parse-time)
(require 'message)
(require 'seq)
(require 'subr-x)

(declare-function org-read-date "org"
                  (&optional with-time to-time from-string prompt default-time
                             default-input inactive))

(defconst smtpmail-native-later--morning 8
  "The hour of a day that is named without a time.")

(defconst smtpmail-native-later--units
  '(("min" . 60) ("m" . 60) ("hour" . 3600) ("h" . 3600) ("day" . 86400)
    ("d" . 86400) ("week" . 604800) ("w" . 604800))
  "Seconds of the units of time spans.")

;;;; Reading times

(defun smtpmail-native-later--span (text)
  "Return the seconds that TEXT, such as \"2 hours\", spans, or nil."
  (and (string-match
        "\\`\\(?:in \\|\\+\\)? *\\([0-9]\\{1,5\\}\\) *\\([a-z]+\\)\\'" text)
       (let* ((number (string-to-number (match-string 1 text)))
              (word (match-string 2 text))
              (unit (or (assoc word smtpmail-native-later--units)
                        (assoc (string-remove-suffix "s" word)
                               smtpmail-native-later--units)
                        (and (string-prefix-p "minute" word)
                             (assoc "min" smtpmail-native-later--units)))))
         (and unit (* number (cdr unit))))))

(defun smtpmail-native-later--clock (text)
  "Return the time of the day that TEXT is, as (HOUR . MINUTE), or nil."
  (and (string-match
        "\\`\\(?:at \\)?\\([0-9]\\{1,2\\}\\)\\(?:[:.]\\([0-9]\\{2\\}\\)\\)? *\
\\([ap]m\\)?\\'"
        text)
       (let ((hour (string-to-number (match-string 1 text)))
             (minute (string-to-number (or (match-string 2 text) "0")))
             (half (match-string 3 text)))
         (when (and half (<= 1 hour 12))
           (setq hour (+ (mod hour 12) (if (equal half "pm") 12 0))
                 half nil))
         (and (null half) (< hour 24) (< minute 60)
              (cons hour minute)))))

(defun smtpmail-native-later--at (now days clock)
  "Return the time CLOCK of the day that comes DAYS after that of NOW.
CLOCK is (HOUR . MINUTE)."
  (let ((day (decode-time now)))
    (float-time
     (encode-time (list 0 (cdr clock) (car clock)
                        (+ days (decoded-time-day day))
                        (decoded-time-month day) (decoded-time-year day)
                        nil -1 nil)))))

(defun smtpmail-native-later--weekday (word)
  "Return the number of the day of the week that WORD names, or nil.
Sunday is 0."
  (and (>= (length word) 3)
       (seq-position '("sunday" "monday" "tuesday" "wednesday" "thursday"
                       "friday" "saturday")
                     word
                     (lambda (day word) (string-prefix-p word day)))))

(defun smtpmail-native-later--days (word now clock)
  "Return in how many days the day that WORD names comes, or nil.
It is a day of the week after NOW, at the time CLOCK, or today or tomorrow."
  (pcase word
    ("today" 0)
    ("tomorrow" 1)
    (_ (let ((weekday (smtpmail-native-later--weekday word)))
         (when weekday
           (let ((days (mod (- weekday (decoded-time-weekday (decode-time now)))
                            7)))
             (if (and (= days 0)
                      (<= (smtpmail-native-later--at now 0 clock) now))
                 7
               days)))))))

(defun smtpmail-native-later--named-day (text now)
  "Return the time that TEXT, such as \"mon 9\", names after NOW, or nil."
  (and (string-match "\\`\\([a-z]+\\),?\\(?: +\\(.+\\)\\)?\\'" text)
       (let* ((word (match-string 1 text))
              (rest (match-string 2 text))
              (clock (if rest
                         (smtpmail-native-later--clock rest)
                       (cons smtpmail-native-later--morning 0)))
              (days (and clock
                         (smtpmail-native-later--days word now clock))))
         (and days
              (smtpmail-native-later--at now days clock)))))

(defun smtpmail-native-later--date (text now)
  "Return the time that TEXT, a date with or without a time, names, or nil.
A date without a year is the next one after NOW."
  (let* ((date (ignore-errors (parse-time-string (upcase-initials text))))
         (now-date (decode-time now))
         (day (nth 3 date)) (month (nth 4 date)) (year (nth 5 date))
         (make (lambda (year)
                 (float-time
                  (encode-time
                   (list (or (nth 0 date) 0) (or (nth 1 date) 0)
                         (or (nth 2 date) smtpmail-native-later--morning)
                         day month year nil -1 (nth 8 date)))))))
    (and day month
         (<= 1 month 12)
         (<= 1 day (date-days-in-month (or year 2024) month))
         (cond (year (funcall make year))
               ((> (funcall make (decoded-time-year now-date)) now)
                (funcall make (decoded-time-year now-date)))
               (t (funcall make (1+ (decoded-time-year now-date))))))))

(defun smtpmail-native-later-parse (text &optional now)
  "Return the time that TEXT names, in seconds.
NOW is the time from which it counts, by default that of this moment.  TEXT
is like \"in 2 hours\", \"8:30\", \"tomorrow 8am\", \"mon 9\", \"1 Dec\" or
\"2026-12-01 08:00\".  Signal a `user-error' if it cannot be read, or is past."
  (let* ((now (or now (float-time)))
         (plain (string-trim (replace-regexp-in-string "[ \t\n]+" " "
                                                       (downcase text))))
         (span (smtpmail-native-later--span plain))
         (clock (smtpmail-native-later--clock plain))
         (time (cond
                (span (+ now span))
                (clock (let ((today (smtpmail-native-later--at now 0 clock)))
                         (if (> today now)
                             today
                           (smtpmail-native-later--at now 1 clock))))
                ((smtpmail-native-later--named-day plain now))
                ((smtpmail-native-later--date plain now)))))
    (unless time
      (user-error "Cannot read the time \"%s\"; write it like \"in 2 hours\", \
\"tomorrow 8:00\", \"mon 9\" or \"2026-12-01 08:00\"" text))
    (unless (> time now)
      (user-error "That is in the past: %s"
                  (format-time-string "%F %H:%M" time)))
    time))

;;;; The command

(defun smtpmail-native-later-read ()
  "Ask when a message is to be sent; return the time in seconds.
Where Org is loaded, its calendar asks."
  (if (featurep 'org)
      (let ((time (float-time (org-read-date t t nil "Send the message: "))))
        (unless (> time (float-time))
          (user-error "That is in the past: %s"
                      (format-time-string "%F %H:%M" time)))
        time)
    (smtpmail-native-later-parse
     (read-string "Send when (in 2 hours, tomorrow 8:00, mon 9): "))))

(defun smtpmail-native-later--set (time)
  "Let the message in the current buffer be sent at TIME, in seconds.
What its field X-Smtpmail-Native asks for beside that stays."
  (save-restriction
    (message-narrow-to-headers)
    (let* ((field (or (message-fetch-field "X-Smtpmail-Native") ""))
           (others (seq-remove
                    (lambda (part)
                      (string-match-p "\\`[ \t\n]*later[ \t]*=" part))
                    (split-string field ";" t "[ \t\n]+"))))
      (message-remove-header "X-Smtpmail-Native")
      (goto-char (point-max))
      (insert "X-Smtpmail-Native: "
              (string-join
               (append others
                       (list (format-time-string "later=%FT%T%:z" time)))
               "; ")
              "\n"))))

;;;###autoload
(defun smtpmail-native-send-later (time)
  "Send the message in the current buffer at TIME, in seconds.
Interactively, read it as people write it: \"in 2 hours\", \"8:30\",
\"tomorrow 8am\", \"mon 9\", \"1 Dec\", \"2026-12-01 08:00\".  The message waits
in the outbox until then, where you can edit, cancel or delete it.  Signal a
`user-error' for a time that cannot be read, or is past."
  (interactive (list (smtpmail-native-later-read)))
  (unless (derived-mode-p 'message-mode)
    (user-error "This is no message buffer"))
  (smtpmail-native-later--set time)
  (message-send-and-exit))

(provide 'smtpmail-native-later)
;;; smtpmail-native-later.el ends here
