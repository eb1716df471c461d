;;; smtpmail-native-notice.el --- What needs you, in words  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A notice says what happened to which message, why, and what you can do.  This
;; file makes its text and its buttons of an entry, and does nothing else; see
;; smtpmail-native-notices.el for the buffer.  Subjects, addresses and replies
;; are those of others, and are made safe to show.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'smtpmail-native-entry)
(require 'smtpmail-native-error)

(defconst smtpmail-native-notice-width 72
  "Number of columns of a notice.")

(defconst smtpmail-native-notice--many 3
  "How many messages of an account are told one by one.")

(defconst smtpmail-native-notice--longest 1000
  "Number of columns of the longest text of others that a notice shows.")

(cl-defstruct (smtpmail-native-notice
               (:constructor smtpmail-native-notice--new)
               (:copier nil))
  "One message that needs the user, or a text."
  (id nil :documentation "The entry's id; of a text, the text itself.")
  (kind nil :documentation "What happened, a symbol.")
  (head nil :documentation "What happened, for people.")
  (title nil :documentation "Which message it is, nil for a text.")
  (text nil :documentation "Why, in the words of the server or ours, or nil.")
  (advice nil :documentation "What happens next, or nil.")
  (buttons nil :documentation "Alist of what can be done: (LABEL . ACTION).")
  (server nil :documentation "The server, for people.")
  (key nil :documentation "The account.")
  (shared nil :documentation "Non-nil if one answer serves for all of KEY."))

;;;; Kinds

(defconst smtpmail-native-notice--actions
  '((edit . "Edit") (send . "Send again") (try . "Try now") (hold . "Hold")
    (show . "Show") (delete . "Delete...") (outbox . "Outbox")
    (delivered . "It was delivered") (again . "Send again...")
    (password . "Enter password...") (where . "Where Emacs looked")
    (certificate . "Accept certificate...") (save . "Save password...")
    (dismiss . "Dismiss"))
  "Labels of buttons, by what they do; \"...\" means that a question follows.")

(defconst smtpmail-native-notice--kinds
  '((unconfirmed "May have been delivered: " delivered again edit show outbox)
    (damaged "Damaged: " edit show delete outbox)
    (refused "Not sent: " edit send show delete outbox)
    (deferred "Deferred: " try edit hold show outbox)
    (password "Held: " password where edit show outbox)
    (token "Held: " send where edit show outbox)
    (certificate "Held: " certificate show outbox)
    (settings "Held: " edit send show outbox)
    (expired "Not sent: " send edit show delete outbox)
    (held "Held: " send edit show delete outbox))
  "What is said first of each kind of trouble, and what can be done.")

(defun smtpmail-native-notice--kind (entry)
  "Return the kind of trouble in which ENTRY is, a symbol."
  (let ((hold (smtpmail-native-entry-hold entry)))
    (cond
     ((smtpmail-native-entry-problem entry) 'damaged)
     ((smtpmail-native-entry-doubt-p entry) 'unconfirmed)
     ((eq (smtpmail-native-entry-status entry) 'refused) 'refused)
     ((eq (smtpmail-native-entry-status entry) 'ready) 'deferred)
     ;; No one can type a token.
     ((and (eq hold 'password)
           (plist-get (smtpmail-native-entry-state entry) :renewed))
      'token)
     ((memq hold '(password certificate settings expired)) hold)
     (t 'held))))

(defun smtpmail-native-notice-failing-p (entry)
  "Return non-nil if ENTRY is tried again, but may never be sent that way.
One failure may pass, but not a second one, nor one that looks like a mistake
in the settings."
  (let ((state (smtpmail-native-entry-state entry)))
    (and (eq (smtpmail-native-entry-status entry) 'ready)
         (or (plist-get state :suspect)
             (>= (or (plist-get state :tries) 0) 2)))))

(defun smtpmail-native-notice-wanted-p (entry)
  "Return non-nil if there is something to give notice of: ENTRY needs the user.
ENTRY may be nil."
  (and entry
       (or (smtpmail-native-entry-needs-user-p entry)
           (smtpmail-native-notice-failing-p entry))))

;;;; What happens next

(defun smtpmail-native-notice--received (entry)
  "Return a sentence about the recipients of ENTRY who have received it."
  (let ((count (seq-count (lambda (result) (eq (cadr result) 'sent))
                          (plist-get (smtpmail-native-entry-state entry)
                                     :results))))
    (pcase count
      (0 "No recipient has received the message.")
      (1 "The other recipient has received it.")
      (_ (format "The other %d recipients have received it." count)))))

(defun smtpmail-native-notice--next (entry)
  "Return when ENTRY is tried again, a sentence."
  (let ((next (plist-get (smtpmail-native-entry-state entry) :next)))
    (concat
     (if next
         (format-time-string "Next try at %H:%M" next)
       "Emacs will try again")
     (if (eq (smtpmail-native-entry-why entry) 'lookup)
         ", or type M-x smtpmail-native-unlock."
       "."))))

(defun smtpmail-native-notice--advice (entry kind)
  "Return what happens next to ENTRY, which is in trouble of KIND, or nil."
  (pcase kind
    ('unconfirmed "Emacs does not send it again unless you say so.  Ask the \
recipient whether it arrived.")
    ('refused (smtpmail-native-notice--received entry))
    ('deferred (smtpmail-native-notice--next entry))
    ('settings "Change the setting, then edit the message and send it.")
    ('password "One answer serves for all messages that wait for it.")
    ('certificate "No password and no message was sent.")))

;;;; Making them

(defun smtpmail-native-notice--buttons (actions)
  "Return the buttons for ACTIONS, symbols: a list of (LABEL . ACTION)."
  (mapcar (lambda (action)
            (cons (alist-get action smtpmail-native-notice--actions) action))
          actions))

(defun smtpmail-native-notice--safe (text)
  "Return TEXT in one paragraph, safe to show, without properties, and bounded.
It may quote a reply, or an error of a function of yours."
  (truncate-string-to-width
   (smtpmail-native-error-text (replace-regexp-in-string "[\t\n\r]+" " " text))
   smtpmail-native-notice--longest nil nil t))

(defun smtpmail-native-notice (entry)
  "Return the notice of ENTRY, a `smtpmail-native-notice'."
  (let* ((kind (smtpmail-native-notice--kind entry))
         (envelope (smtpmail-native-entry-envelope entry))
         (text (or (smtpmail-native-entry-problem entry)
                   (plist-get (smtpmail-native-entry-state entry) :text))))
    (pcase-let ((`(,head . ,actions)
                 (alist-get kind smtpmail-native-notice--kinds)))
      (smtpmail-native-notice--new
       :id (smtpmail-native-entry-id entry)
       :kind kind
       :head head
       :title (smtpmail-native-entry-title entry)
       :text (and text (smtpmail-native-notice--safe text))
       :advice (smtpmail-native-notice--advice entry kind)
       :buttons (smtpmail-native-notice--buttons actions)
       :server (format "%s:%s"
                       (smtpmail-native-error-text (plist-get envelope :host))
                       (plist-get envelope :port))
       :key (smtpmail-native-entry-account-key envelope)
       :shared (memq kind '(password certificate))))))

(defun smtpmail-native-notice-sent (entry)
  "Return the notice that ENTRY was sent after all."
  (smtpmail-native-notice--new
   :id (smtpmail-native-entry-id entry)
   :kind 'sent
   :head (format-time-string "Sent at %H:%M: ")
   :title (smtpmail-native-entry-title entry)
   :buttons (smtpmail-native-notice--buttons '(outbox dismiss))))

(defun smtpmail-native-notice-offer (id text action)
  "Return a notice with the name ID that says TEXT and offers ACTION, a symbol."
  (smtpmail-native-notice--new
   :id id :kind 'text :head text
   :buttons (smtpmail-native-notice--buttons (list action 'dismiss))))

(defun smtpmail-native-notice-text-only (text)
  "Return a notice that says TEXT, a string."
  (smtpmail-native-notice--new
   :id text :kind 'text :head (smtpmail-native-notice--safe text)
   :buttons (smtpmail-native-notice--buttons '(outbox dismiss))))

;;;; In one line

(defun smtpmail-native-notice--sentence (text)
  "Return TEXT with a period at its end."
  (if (string-match-p "[.!?]\\'" text) text (concat text ".")))

(defun smtpmail-native-notice-line (notice)
  "Return NOTICE as one line, without buttons."
  (let ((text (smtpmail-native-notice-text notice))
        (advice (smtpmail-native-notice-advice notice)))
    (concat (smtpmail-native-notice-head notice)
            (smtpmail-native-notice-title notice)
            (and text (concat ": " (smtpmail-native-notice--sentence text)))
            (and advice (concat (if text "  " ".  ") advice)))))

;;;; Those that belong together

(defun smtpmail-native-notice-same-p (a b)
  "Return non-nil if the notices A and B say the same of two messages."
  (and (eq (smtpmail-native-notice-kind a) (smtpmail-native-notice-kind b))
       (if (smtpmail-native-notice-shared a)
           (equal (smtpmail-native-notice-key a)
                  (smtpmail-native-notice-key b))
         (equal (smtpmail-native-notice-id a)
                (smtpmail-native-notice-id b)))))

(defun smtpmail-native-notice--lonely-p (notice)
  "Return non-nil if NOTICE is never told together with others."
  (or (smtpmail-native-notice-shared notice)
      (null (smtpmail-native-notice-key notice))))

(defun smtpmail-native-notice-groups (notices)
  "Return NOTICES as a list of lists, each of which is one block for people.
Those that one answer serves are together, and so are many of one account."
  (let ((accounts (make-hash-table :test #'equal))
        (groups nil))
    (dolist (notice notices)
      (unless (smtpmail-native-notice--lonely-p notice)
        (push notice (gethash (smtpmail-native-notice-key notice) accounts))))
    (dolist (notice notices (nreverse groups))
      (let* ((lonely (smtpmail-native-notice--lonely-p notice))
             (many (and (not lonely)
                        (> (length (gethash (smtpmail-native-notice-key notice)
                                            accounts))
                           smtpmail-native-notice--many)))
             (group (seq-find
                     (lambda (group)
                       (if many
                           (and (not (smtpmail-native-notice--lonely-p
                                      (car group)))
                                (equal (smtpmail-native-notice-key notice)
                                       (smtpmail-native-notice-key
                                        (car group))))
                         (and lonely
                              (smtpmail-native-notice-same-p notice
                                                             (car group)))))
                     groups)))
        (if group
            (nconc group (list notice))
          (push (list notice) groups))))))

;;;; As a block

(defun smtpmail-native-notice--fill (text)
  "Return TEXT filled, with all lines but the first one indented."
  (string-replace "\n" "\n  "
                  (string-fill text (- smtpmail-native-notice-width 2))))

(defun smtpmail-native-notice--button (id button)
  "Return the text of BUTTON, (LABEL . ACTION), of the notice ID."
  (concat "["
          (make-text-button (copy-sequence (car button)) nil
                            'action 'smtpmail-native-notices-push
                            'follow-link t
                            'smtpmail-native-action (cdr button)
                            'smtpmail-native-id id)
          "]"))

(defun smtpmail-native-notice--button-lines (id buttons)
  "Return the lines with BUTTONS of the notice ID."
  (let ((lines (list "  ")))
    (dolist (button buttons)
      (let ((text (smtpmail-native-notice--button id button)))
        (unless (equal (car lines) "  ")
          (if (> (+ (string-width (car lines)) 2 (string-width text))
                 smtpmail-native-notice-width)
              (push "  " lines)
            (setcar lines (concat (car lines) "  "))))
        (setcar lines (concat (car lines) text))))
    (string-join (nreverse lines) "\n")))

(defun smtpmail-native-notice--block (id head paragraphs buttons)
  "Return the block of HEAD, PARAGRAPHS and BUTTONS for the notice ID."
  (concat (propertize (smtpmail-native-notice--fill head) 'face 'bold)
          "\n"
          (mapconcat (lambda (paragraph)
                       (concat "  " (smtpmail-native-notice--fill paragraph)
                               "\n"))
                     (delq nil paragraphs) "")
          (smtpmail-native-notice--button-lines id buttons)
          "\n"))

(defun smtpmail-native-notice--counts (group)
  "Return how many messages of GROUP are in which trouble, a sentence."
  (let ((counts nil))
    (dolist (notice group)
      (let ((word (pcase (smtpmail-native-notice-kind notice)
                    ((and kind (or 'refused 'unconfirmed 'deferred 'damaged))
                     (symbol-name kind))
                    ('expired "given up")
                    (_ "held"))))
        (cl-incf (alist-get word counts 0 nil #'equal))))
    (concat (mapconcat (lambda (count) (format "%d %s" (cdr count) (car count)))
                       (nreverse counts) ", ")
            ".")))

(defun smtpmail-native-notice--many-block (group)
  "Return the block that tells of the many notices of GROUP."
  (let ((first (car group)))
    (smtpmail-native-notice--block
     (smtpmail-native-notice-id first)
     (format "%d messages were not sent through %s" (length group)
             (smtpmail-native-notice-server first))
     (list (smtpmail-native-notice--counts group)
           (format "First: %s%s" (smtpmail-native-notice-title first)
                   (if (smtpmail-native-notice-text first)
                       (concat ": " (smtpmail-native-notice--sentence
                                     (smtpmail-native-notice-text first)))
                     ".")))
     (smtpmail-native-notice--buttons '(outbox dismiss)))))

(defun smtpmail-native-notice-block (group)
  "Return GROUP, a list of notices, as text with buttons.
GROUP is one of `smtpmail-native-notice-groups'."
  (let* ((first (car group))
         (more (length (cdr group)))
         (text (smtpmail-native-notice-text first)))
    (if (and (> more 0) (not (smtpmail-native-notice-shared first)))
        (smtpmail-native-notice--many-block group)
      (smtpmail-native-notice--block
       (smtpmail-native-notice-id first)
       (concat (smtpmail-native-notice-head first)
               (smtpmail-native-notice-title first)
               (cond ((= more 0) "")
                     ((= more 1) " and 1 more message")
                     (t (format " and %d more messages" more))))
       (list (and text (smtpmail-native-notice--sentence text))
             (smtpmail-native-notice-advice first))
       (smtpmail-native-notice-buttons first)))))

(provide 'smtpmail-native-notice)
;;; smtpmail-native-notice.el ends here
