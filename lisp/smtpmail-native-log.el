;;; smtpmail-native-log.el --- A line for each outcome  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; What became of each message, as lines of JSON in a file of yours.  The thread
;; of the disk appends them; a log that cannot be written stops no message.

;;; Code:

(require 'json)
(require 'smtpmail-native-disk)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)
(require 'smtpmail-native-outcome)
(require 'smtpmail-native-quiet)

(defvar smtpmail-native-log--told nil
  "The file of which was told that it cannot be written, or nil.")

(defun smtpmail-native-log--text (text)
  "Return TEXT, octets of others or nil, as a string that is safe to show."
  (let ((shown (smtpmail-native-error-text text)))
    (and (not (equal shown "")) shown)))

(defun smtpmail-native-log--outcome (entry)
  "Return one word for what became of ENTRY by its last attempt."
  (if (smtpmail-native-entry-doubt-p entry)
      "unconfirmed"
    (pcase (smtpmail-native-entry-status entry)
      ('sent "sent")
      ('refused "refused")
      ('ready "deferred")
      (_ "held"))))

(defun smtpmail-native-log--recipients (result)
  "Return what RESULT says of each recipient, as a vector of alists."
  (vconcat
   (mapcar (pcase-lambda (`(,address ,outcome ,code ,enhanced ,text))
             `((address . ,address)
               (outcome . ,(symbol-name outcome))
               (code . ,code)
               (enhanced . ,(smtpmail-native-log--text enhanced))
               (text . ,(smtpmail-native-log--text text))))
           (smtpmail-native-outcome-answers result))))

(defun smtpmail-native-log--record (entry result seconds)
  "Return an alist of what RESULT, after SECONDS, means for ENTRY.
Passwords are not in it: the module has taken them out of all text."
  (let ((envelope (smtpmail-native-entry-envelope entry))
        (code (plist-get result :code)))
    `((time . ,(format-time-string "%FT%T%z"))
      (outcome . ,(smtpmail-native-log--outcome entry))
      (entry . ,(smtpmail-native-entry-id entry))
      (message_id . ,(plist-get envelope :message-id))
      (sender . ,(plist-get envelope :sender))
      (recipients . ,(smtpmail-native-log--recipients result))
      (server . ,(plist-get envelope :host))
      (port . ,(plist-get envelope :port))
      (tls . ,(plist-get (plist-get result :tls) :protocol))
      (mechanism . ,(smtpmail-native-log--text (plist-get result :mechanism)))
      (octets . ,(plist-get result :octets))
      (seconds . ,(/ (round (* 1000 seconds)) 1000.0))
      (code . ,(and code (> code 0) code))
      (reply . ,(or (smtpmail-native-log--text (plist-get result :reply))
                    (smtpmail-native-log--text
                     (plist-get (smtpmail-native-entry-state entry)
                                :text)))))))

(defun smtpmail-native-log--failed (file reason)
  "Tell that FILE cannot be written for REASON, a text; once for each file."
  (unless (equal file smtpmail-native-log--told)
    (setq smtpmail-native-log--told file)
    (smtpmail-native-quiet-warn (format "Cannot write the log: %s" reason))))

(defun smtpmail-native-log-outcome (entry result seconds)
  "Append to the log what RESULT means for ENTRY, after SECONDS.
RESULT is a plist of the module.  Nothing waits for that."
  (let ((file (expand-file-name smtpmail-native-log-file))
        (json-encoding-pretty-print nil))
    (smtpmail-native-disk-hand-in
     file
     (list '(aside)
           (list 'append file
                 (encode-coding-string
                  (concat (json-encode (smtpmail-native-log--record
                                        entry result seconds))
                          "\n")
                  'utf-8)
                 smtpmail-native-log-max-bytes))
     (lambda (reason) (smtpmail-native-log--failed file reason)))))

(provide 'smtpmail-native-log)
;;; smtpmail-native-log.el ends here
