;;; smtpmail-native-setup-dns.el --- SRV and MX for the set-up  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Asks the name servers of dns.el, without waiting.  Packets are written and
;; read by dns.el; what dns.el does not look at is looked at here: who sent the
;; answer, whether it is one to this question, and what stands in it.  Answers
;; are not authenticated, and so nothing here is to be believed without a check.

;;; Code:

(require 'cl-lib)
(require 'dns)
(require 'seq)
(require 'smtpmail-native-quiet)

(defvar smtpmail-native-setup-dns--servers nil
  "Name servers to ask, each (ADDRESS . PORT), or nil for those of dns.el.")

(defvar smtpmail-native-setup-dns--seconds 2
  "How many seconds one name server has for an answer.")

(defconst smtpmail-native-setup-dns--most 32
  "How many records of an answer count.")

;;;; Pure

(defun smtpmail-native-setup-dns-name-p (name)
  "Return non-nil if NAME is a full host name in ASCII, and no address.
An underscore is allowed, as services and some hosts have one."
  (and (stringp name)
       (<= (length name) 253)
       (let ((case-fold-search t))
         (string-match-p "\\`\\(?:[a-z0-9_]\\(?:[a-z0-9_-]\\{0,61\\}[a-z0-9_]\\)?\
\\.\\)+[a-z]\\(?:[a-z0-9-]\\{0,61\\}[a-z0-9]\\)?\\'"
                         name))))

(defun smtpmail-native-setup-dns--owners (answers name)
  "Return NAME and the names for which it stands by the CNAMEs in ANSWERS."
  (let ((owners (list name))
        (grown t)
        (rounds 8))
    (while (and grown (> rounds 0))
      (setq grown nil
            rounds (1- rounds))
      (dolist (answer answers)
        (let ((target (dns-get 'data answer)))
          (when (and (eq (dns-get 'type answer) 'CNAME)
                     (stringp target)
                     (member-ignore-case (car answer) owners)
                     (not (member-ignore-case target owners)))
            (push target owners)
            (setq grown t)))))
    owners))

(defun smtpmail-native-setup-dns--records (spec name type)
  "Return the data of the answers in SPEC, of dns.el, to NAME and TYPE."
  (let* ((answers (seq-take (dns-get 'answers spec)
                            smtpmail-native-setup-dns--most))
         (owners (smtpmail-native-setup-dns--owners answers name)))
    (delq nil (mapcar (lambda (answer)
                        (and (eq (dns-get 'type answer) type)
                             (eq (dns-get 'class answer) 'IN)
                             (member-ignore-case (car answer) owners)
                             (dns-get 'data answer)))
                      answers))))

(defun smtpmail-native-setup-dns-parse (packet id name type)
  "Return what PACKET answers to the question ID for NAME and TYPE.
The value is nil if it does not belong to that question, else (RECORDS), or
\(nil . PROBLEM), a text, if the server could not answer."
  (condition-case nil
      (let* ((spec (dns-read packet))
             (question (car (dns-get 'queries spec))))
        (and (eql (dns-get 'id spec) id)
             (dns-get 'response-p spec)
             (= 1 (length (dns-get 'queries spec)))
             (smtpmail-native-setup-dns--same-p (car question) name)
             (eq (dns-get 'type question) type)
             (pcase (dns-get 'response-code spec)
               ('name-error (list nil))
               ;; dns.el takes the bit for "authoritative" for this one.
               ((guard (/= 0 (logand 2 (aref packet 2))))
                (cons nil "the answer is too long"))
               ('no-error
                (list (smtpmail-native-setup-dns--records spec name type)))
               (code (cons nil (format "the name server says %s"
                                       (or code "nothing known")))))))
    ;; A loop of compressed names, or an end before its time.
    (error (and (smtpmail-native-setup-dns--id-p packet id)
                (cons nil "the answer cannot be read")))))

(defun smtpmail-native-setup-dns--same-p (one other)
  "Return non-nil if the strings ONE and OTHER differ at most in case."
  (eq t (compare-strings one nil nil other nil nil t)))

(defun smtpmail-native-setup-dns--id-p (packet id)
  "Return non-nil if PACKET begins with ID."
  (and (>= (length packet) 2)
       (= id (+ (* 256 (aref packet 0)) (aref packet 1)))))

(defun smtpmail-native-setup-dns--draw (records)
  "Return one of RECORDS, SRV of one priority, by weight (RFC 2782)."
  (let* ((weights (mapcar (lambda (record) (dns-get 'weight record)) records))
         (ticket (random (1+ (apply #'+ weights)))))
    (seq-some (lambda (record)
                (setq ticket (- ticket (dns-get 'weight record)))
                (and (<= ticket 0) record))
              ;; Those without weight come first, and get what is left to them.
              (sort (copy-sequence records)
                    (lambda (one other)
                      (< (dns-get 'weight one) (dns-get 'weight other)))))))

(defun smtpmail-native-setup-dns-order (records)
  "Return the SRV RECORDS in the order in which they are to be tried."
  (let ((groups (sort (seq-group-by (lambda (record)
                                      (dns-get 'priority record))
                                    records)
                      (lambda (one other) (< (car one) (car other)))))
        (order nil))
    (dolist (group groups (nreverse order))
      (let ((left (cdr group)))
        (while left
          (let ((next (smtpmail-native-setup-dns--draw left)))
            (push next order)
            (setq left (remq next left))))))))

(defun smtpmail-native-setup-dns-srv (records)
  "Return what the SRV RECORDS say: a list of (HOST . PORT), `none', or nil.
It is `none' if the domain says that it has no such service."
  (let ((places (mapcar (lambda (record)
                          (cons (dns-get 'target record)
                                (dns-get 'port record)))
                        (smtpmail-native-setup-dns-order records))))
    (if (and places (seq-every-p (lambda (place)
                                   (member (car place) '("" ".")))
                                 places))
        'none
      (seq-filter (lambda (place)
                    (and (smtpmail-native-setup-dns-name-p (car place))
                         (< 0 (cdr place) 65536)))
                  places))))

(defun smtpmail-native-setup-dns-mx (records)
  "Return the hosts that the MX RECORDS name, the best ones first."
  (seq-filter #'smtpmail-native-setup-dns-name-p
              (mapcar #'cdr (sort (seq-filter #'consp records)
                                  (lambda (one other)
                                    (< (car one) (car other)))))))

;;;; The question

(cl-defstruct (smtpmail-native-setup-dns--question
               (:constructor smtpmail-native-setup-dns--question-make)
               (:copier nil)
               (:conc-name smtpmail-native-setup-dns--))
  name type done queue process timer (problem "no name server is known"))

(defun smtpmail-native-setup-dns--known-servers ()
  "Return the name servers to ask, a list of (ADDRESS . PORT)."
  (or smtpmail-native-setup-dns--servers
      (progn
        (unless (dns-servers-up-to-date-p)
          (dns-set-servers))
        ;; The name of a name server would have to be waited for.
        (mapcar (lambda (server) (cons server 53))
                (seq-take (seq-filter
                           (lambda (server)
                             (string-match-p "\\`[0-9A-F:.%a-z]*[0-9:]" server))
                           dns-servers)
                          3)))))

(defun smtpmail-native-setup-dns--stop (question)
  "Let go of what QUESTION has open."
  (when (smtpmail-native-setup-dns--timer question)
    (cancel-timer (smtpmail-native-setup-dns--timer question)))
  (when (smtpmail-native-setup-dns--process question)
    (delete-process (smtpmail-native-setup-dns--process question)))
  (setf (smtpmail-native-setup-dns--timer question) nil
        (smtpmail-native-setup-dns--process question) nil))

(defun smtpmail-native-setup-dns--end (question records problem)
  "Hand RECORDS and PROBLEM to whom QUESTION belongs, once."
  (smtpmail-native-setup-dns--stop question)
  (let ((done (smtpmail-native-setup-dns--done question)))
    (setf (smtpmail-native-setup-dns--done question) nil)
    (when done
      (smtpmail-native-quiet-call done records problem))))

(defun smtpmail-native-setup-dns--failed (question problem)
  "Ask the next server of QUESTION, because of PROBLEM with this one."
  (smtpmail-native-setup-dns--stop question)
  (setf (smtpmail-native-setup-dns--problem question) problem)
  (smtpmail-native-setup-dns--next question))

(defun smtpmail-native-setup-dns--got (question id from process packet)
  "Take PACKET, which PROCESS got, for QUESTION if it answers ID.
FROM is the address that was asked."
  (when (equal (process-datagram-address process) from)
    (pcase (smtpmail-native-setup-dns-parse
            packet id (smtpmail-native-setup-dns--name question)
            (smtpmail-native-setup-dns--type question))
      ('nil nil)
      (`(,records) (smtpmail-native-setup-dns--end question records nil))
      (`(nil . ,problem) (smtpmail-native-setup-dns--failed question problem)))))

(defun smtpmail-native-setup-dns--send (question server)
  "Send QUESTION to SERVER, (ADDRESS . PORT)."
  (let* ((id (random 65536))
         (process (make-network-process
                   :name "smtpmail-native dns" :type 'datagram :noquery t
                   :host (car server) :service (cdr server) :coding 'binary
                   :sentinel #'ignore))
         (from (process-datagram-address process)))
    (setf (smtpmail-native-setup-dns--process question) process
          (smtpmail-native-setup-dns--timer question)
          (smtpmail-native-quiet-timer
           smtpmail-native-setup-dns--seconds
           #'smtpmail-native-setup-dns--failed question
           "no name server answers"))
    (set-process-filter
     process (lambda (process packet)
               (smtpmail-native-quiet-call
                #'smtpmail-native-setup-dns--got question id from process
                packet)))
    (process-send-string
     process
     (dns-write `((id ,id) (opcode query)
                  (queries ((,(smtpmail-native-setup-dns--name question)
                             (type ,(smtpmail-native-setup-dns--type
                                     question)))))
                  (recursion-desired-p t))))))

(defun smtpmail-native-setup-dns--next (question)
  "Ask the next server of QUESTION, or end if there is none."
  (let ((server (pop (smtpmail-native-setup-dns--queue question))))
    (if (null server)
        (smtpmail-native-setup-dns--end
         question nil (smtpmail-native-setup-dns--problem question))
      (condition-case err
          (smtpmail-native-setup-dns--send question server)
        (error (smtpmail-native-setup-dns--failed
                question (error-message-string err)))))))

(defun smtpmail-native-setup-dns-ask (name type done)
  "Ask for the records of TYPE, `SRV' or `MX', of NAME, and return at once.
DONE is called once, with the records, as dns.el has them, and a problem, a
text, or nil.  Return a function that takes the question back."
  (let ((question (smtpmail-native-setup-dns--question-make
                   :name name :type type :done done)))
    (if (not (featurep 'make-network-process '(:type datagram)))
        (setf (smtpmail-native-setup-dns--problem question)
              "this Emacs has no datagrams")
      ;; A datagram can be lost: each server is asked twice.
      (let ((servers (smtpmail-native-setup-dns--known-servers)))
        (setf (smtpmail-native-setup-dns--queue question)
              (append servers servers))))
    ;; From a timer, so that DONE is never called before this returns.
    (setf (smtpmail-native-setup-dns--timer question)
          (smtpmail-native-quiet-timer
           0 #'smtpmail-native-setup-dns--next question))
    (lambda ()
      (setf (smtpmail-native-setup-dns--done question) nil)
      (smtpmail-native-setup-dns--stop question))))

(provide 'smtpmail-native-setup-dns)
;;; smtpmail-native-setup-dns.el ends here
