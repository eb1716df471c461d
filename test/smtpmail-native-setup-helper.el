;;; smtpmail-native-setup-helper.el --- Servers that a set-up asks  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A name server and a web server in Lisp on the loopback, which say what a test
;; wants, and a macro that lets the set-up ask them and nobody else.

;;; Code:

(require 'cl-lib)
(require 'dns)
(require 'smtpmail-native-setup-dns)
(require 'smtpmail-native-setup-fetch)
(require 'smtpmail-native-test-helper)

(defun smtpmail-native-setup-helper-octets (value length)
  "Return VALUE as LENGTH octets."
  (apply #'unibyte-string
         (cl-loop for i from (1- length) downto 0
                  collect (logand 255 (ash value (- (* 8 i)))))))

(defun smtpmail-native-setup-helper-name (name)
  "Return NAME as DNS writes it."
  (concat (mapconcat (lambda (label)
                       (concat (unibyte-string (length label)) label))
                     (split-string name "\\." t) "")
          "\0"))

(defun smtpmail-native-setup-helper-srv (priority weight port target)
  "Return the data of an SRV record: PRIORITY, WEIGHT, PORT and TARGET."
  (concat (smtpmail-native-setup-helper-octets priority 2)
          (smtpmail-native-setup-helper-octets weight 2)
          (smtpmail-native-setup-helper-octets port 2)
          (smtpmail-native-setup-helper-name target)))

(defun smtpmail-native-setup-helper-mx (preference target)
  "Return the data of an MX record: PREFERENCE and TARGET."
  (concat (smtpmail-native-setup-helper-octets preference 2)
          (smtpmail-native-setup-helper-name target)))

(cl-defun smtpmail-native-setup-helper-packet
    (id name type records &key (code 'no-error) truncated owner)
  "Return an answer to the question ID for NAME and TYPE with RECORDS.
CODE and TRUNCATED are those of its head; OWNER is whose RECORDS are."
  (dns-write `((id ,id) (response-p t) (opcode query)
               (recursion-desired-p t) (truncated-p ,truncated)
               (response-code ,code)
               (queries ((,name (type ,type))))
               (answers ,(mapcar (lambda (data)
                                   `(,(or owner name) (type ,type) (class IN)
                                     (ttl 60) (data ,data)))
                                 records)))))

(defun smtpmail-native-setup-helper-dns (answers)
  "Start a name server that gives ANSWERS; return its process.
ANSWERS is an alist by (TYPE . NAME), whose values are records, or functions
of the id that return a list of packets."
  (make-network-process
   :name "test dns" :server t :type 'datagram :host "127.0.0.1" :service t
   :family 'ipv4 :coding 'binary :noquery t
   :filter
   (lambda (process packet)
     (let* ((spec (dns-read packet))
            (id (dns-get 'id spec))
            (question (car (dns-get 'queries spec)))
            (name (car question))
            (type (dns-get 'type question))
            (answer (assoc (cons type name) answers)))
       (dolist (reply (cond
                       ((null answer)
                        (list (smtpmail-native-setup-helper-packet
                               id name type nil :code 'name-error)))
                       ((functionp (cdr answer)) (funcall (cdr answer) id))
                       (t (list (smtpmail-native-setup-helper-packet
                                 id name type (cdr answer))))))
         (process-send-string process reply))))))

(defun smtpmail-native-setup-helper-http (pages)
  "Start a web server with PAGES; return its process.
PAGES is an alist of paths with whole answers, or functions of the process."
  (make-network-process
   :name "test http" :server t :host "127.0.0.1" :service t :family 'ipv4
   :coding 'binary :noquery t
   :filter
   (lambda (process octets)
     (let ((seen (concat (process-get process 'seen) octets)))
       (process-put process 'seen seen)
       (when (string-match "\\`GET \\([^ ]+\\) HTTP/1.0\r\n\\(?:.*\r\n\\)*\r\n"
                           seen)
         (let ((page (or (cdr (assoc (match-string 1 seen) pages))
                         "HTTP/1.0 404 Not there\r\n\r\n")))
           (if (functionp page)
               (funcall page process)
             (process-send-string process page)
             (process-send-eof process)
             (delete-process process))))))))

(defun smtpmail-native-setup-helper-port (process)
  "Return the port of PROCESS, a server."
  (let ((address (process-contact process :local)))
    (aref address (1- (length address)))))

(defmacro smtpmail-native-setup-helper-with (answers pages &rest body)
  "Run BODY while a name server gives ANSWERS and a web server has PAGES.
`web' is the port of the web server; it is the one of http://autoconfig.\
example.org."
  (declare (indent 2) (debug t))
  `(let* ((dns (smtpmail-native-setup-helper-dns ,answers))
          (http (smtpmail-native-setup-helper-http ,pages))
          (web (smtpmail-native-setup-helper-port http))
          (smtpmail-native-setup-dns--servers
           (list (cons "127.0.0.1" (smtpmail-native-setup-helper-port dns))))
          (smtpmail-native-setup-fetch--map
           (list (cons "autoconfig.example.org:80" web)))
          (inhibit-message t))
     (unwind-protect
         (progn ,@body)
       (delete-process dns)
       (delete-process http))))

(defun smtpmail-native-setup-helper-xml (port &optional host stream)
  "Return the answer of a web server that names PORT of HOST, by STREAM."
  (format "HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n\
<?xml version=\"1.0\"?><clientConfig version=\"1.1\">
<emailProvider id=\"example.org\"><outgoingServer type=\"smtp\">
<hostname>%s</hostname><port>%s</port><socketType>%s</socketType>
<username>%%EMAILADDRESS%%</username>
<authentication>password-cleartext</authentication>
</outgoingServer></emailProvider></clientConfig>"
          (or host "mail.example.org") port (or stream "STARTTLS")))

(provide 'smtpmail-native-setup-helper)
;;; smtpmail-native-setup-helper.el ends here
