;;; smtpmail-native-setup-fetch.el --- A small file from the web  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Fetches one small file by HTTP, without waiting, within bounds of size and
;; time.  url.el is not used: it asks for passwords and certificates in the
;; middle of something else, keeps cookies, follows a redirect from https to
;; http, and reads as much as it is sent.  A certificate that does not verify is
;; an end here, and so is a redirect that leaves TLS.

;;; Code:

(require 'cl-lib)
(require 'gnutls)
(require 'puny)
(require 'subr-x)
(require 'url-expand)
(require 'url-parse)
(require 'smtpmail-native-error)
(require 'smtpmail-native-quiet)

(defvar smtpmail-native-setup-fetch--size 100000
  "How many octets an answer may have.")

(defvar smtpmail-native-setup-fetch--seconds 10
  "How many seconds an answer may take, redirects included.")

(defconst smtpmail-native-setup-fetch--redirects 3
  "How many redirects are followed.")

(defvar smtpmail-native-setup-fetch--map nil
  "Where to connect instead, for tests: an alist of (HOST:PORT . PORT).
If it is non-nil, nothing leaves this machine.")

(cl-defstruct (smtpmail-native-setup-fetch--request
               (:constructor smtpmail-native-setup-fetch--request-make)
               (:copier nil)
               (:conc-name smtpmail-native-setup-fetch--))
  url done process timer (left smtpmail-native-setup-fetch--redirects)
  (parts nil) (got 0))

;;;; Pure

(defun smtpmail-native-setup-fetch-split (octets)
  "Return (STATUS LOCATION . BODY) of OCTETS, an answer of HTTP, or nil."
  (when (string-match "\r?\n\r?\n" octets)
    (let ((head (substring octets 0 (match-beginning 0)))
          (body (substring octets (match-end 0)))
          (case-fold-search t))
      (when (string-match "\\`HTTP/1\\.[01] \\([1-5][0-9][0-9]\\)\\b" head)
        (let ((status (string-to-number (match-string 1 head))))
          (cl-list* status
                    (and (string-match "^Location:[ \t]*\\([^ \t\r\n]+\\)" head)
                         (match-string 1 head))
                    (if (string-match "^Transfer-Encoding:[ \t]*chunked" head)
                        (smtpmail-native-setup-fetch--unchunk body)
                      body)))))))

(defun smtpmail-native-setup-fetch--unchunk (body)
  "Return BODY without the frames of its chunks."
  (let ((from 0)
        (parts nil)
        size)
    (while (and (eql (string-match "\\([0-9a-fA-F]\\{1,6\\}\\)[^\n]*\n" body from)
                     from)
                (> (setq size (string-to-number (match-string 1 body) 16)) 0))
      (let ((start (match-end 0)))
        (push (substring body start (min (length body) (+ start size))) parts)
        (setq from (min (length body) (+ start size 2)))))
    (apply #'concat (nreverse parts))))

(defun smtpmail-native-setup-fetch-redirect (url location)
  "Return where LOCATION leads from URL, or nil if that is not followed.
From https only https is followed, and nothing but these two at all."
  (condition-case nil
      (let ((next (url-expand-file-name location url)))
        (and (string-match-p (if (string-prefix-p "https:" url)
                                 "\\`https://[^/@]+/"
                               "\\`https?://[^/@]+/")
                             next)
             (string-match-p "\\`[!-~]+\\'" next)
             next))
    (error nil)))

;;;; The request

(defun smtpmail-native-setup-fetch--stop (request)
  "Let go of the connection of REQUEST."
  (when (smtpmail-native-setup-fetch--process request)
    (set-process-sentinel (smtpmail-native-setup-fetch--process request)
                          #'ignore)
    (set-process-filter (smtpmail-native-setup-fetch--process request)
                        #'ignore)
    (delete-process (smtpmail-native-setup-fetch--process request))
    (setf (smtpmail-native-setup-fetch--process request) nil)))

(defun smtpmail-native-setup-fetch--end (request body problem)
  "Hand BODY and PROBLEM to whom REQUEST belongs, once."
  (smtpmail-native-setup-fetch--stop request)
  (when (smtpmail-native-setup-fetch--timer request)
    (cancel-timer (smtpmail-native-setup-fetch--timer request)))
  (let ((done (smtpmail-native-setup-fetch--done request)))
    (setf (smtpmail-native-setup-fetch--done request) nil)
    (when done
      (smtpmail-native-quiet-call
       done (and body (decode-coding-string body 'utf-8-unix)) problem))))

(defun smtpmail-native-setup-fetch--follow (request location)
  "Let REQUEST go on at LOCATION."
  (let ((next (and location
                   (smtpmail-native-setup-fetch-redirect
                    (smtpmail-native-setup-fetch--url request) location))))
    (cond
     ((null next)
      (smtpmail-native-setup-fetch--end
       request nil "a redirect without TLS is not followed"))
     ((< (cl-decf (smtpmail-native-setup-fetch--left request)) 0)
      (smtpmail-native-setup-fetch--end request nil "too many redirects"))
     (t
      (smtpmail-native-setup-fetch--stop request)
      (setf (smtpmail-native-setup-fetch--url request) next)
      (smtpmail-native-setup-fetch--connect request)))))

(defun smtpmail-native-setup-fetch--judge (request)
  "Do with REQUEST what its answer says, which is complete."
  (pcase (smtpmail-native-setup-fetch-split
          (apply #'concat
                 (reverse (smtpmail-native-setup-fetch--parts request))))
    (`(200 ,_ . ,body) (smtpmail-native-setup-fetch--end request body nil))
    (`(,(or 301 302 303 307 308) ,location . ,_)
     (smtpmail-native-setup-fetch--follow request location))
    (`(,status . ,_) (smtpmail-native-setup-fetch--end
                      request nil (format "not there (%d)" status)))
    (_ (smtpmail-native-setup-fetch--end request nil "no answer of HTTP"))))

(defun smtpmail-native-setup-fetch--filter (request octets)
  "Take OCTETS, which came for REQUEST."
  (push octets (smtpmail-native-setup-fetch--parts request))
  (when (> (cl-incf (smtpmail-native-setup-fetch--got request)
                    (length octets))
           smtpmail-native-setup-fetch--size)
    (smtpmail-native-setup-fetch--end request nil "the answer is too long")))

(defun smtpmail-native-setup-fetch--sentinel (request process state)
  "Take notice of STATE of PROCESS, the connection of REQUEST."
  (cond
   ((string-prefix-p "open" state)
    (let ((url (url-generic-parse-url
                (smtpmail-native-setup-fetch--url request))))
      (process-send-string
       process (format "GET %s HTTP/1.0\r\nHost: %s\r\nAccept: text/xml\r\n\
Connection: close\r\n\r\n"
                       (url-filename url) (url-host url)))))
   ((process-live-p process))
   ((smtpmail-native-setup-fetch--parts request)
    (smtpmail-native-setup-fetch--judge request))
   (t (smtpmail-native-setup-fetch--end
       request nil (smtpmail-native-error-text (string-trim state))))))

(defun smtpmail-native-setup-fetch--tls (host)
  "Return the parameters of a TLS connection to HOST, which must verify."
  (cons 'gnutls-x509pki
        (gnutls-boot-parameters :type 'gnutls-x509pki
                                :hostname (puny-encode-domain host)
                                :verify-error t)))

(defun smtpmail-native-setup-fetch--connect (request)
  "Connect REQUEST with its server, and return at once."
  (setf (smtpmail-native-setup-fetch--parts request) nil
        (smtpmail-native-setup-fetch--got request) 0)
  (condition-case err
      (let* ((url (url-generic-parse-url
                   (smtpmail-native-setup-fetch--url request)))
             (host (url-host url))
             (tls (equal (url-type url) "https"))
             (there (cdr (assoc (format "%s:%d" host (url-port url))
                                smtpmail-native-setup-fetch--map))))
        (when (and tls (not (gnutls-available-p)))
          (error "This Emacs has no TLS"))
        (when (and smtpmail-native-setup-fetch--map (null there))
          (error "No such host"))
        (setf (smtpmail-native-setup-fetch--process request)
              (make-network-process
               :name "smtpmail-native http" :noquery t :nowait t
               :host (if there "127.0.0.1" host)
               :service (or there (url-port url)) :coding 'binary
               :tls-parameters
               (and tls (smtpmail-native-setup-fetch--tls host))
               :filter (lambda (_process octets)
                         (smtpmail-native-quiet-call
                          #'smtpmail-native-setup-fetch--filter
                          request octets))
               :sentinel (lambda (process state)
                           (smtpmail-native-quiet-call
                            #'smtpmail-native-setup-fetch--sentinel
                            request process state)))))
    (error (smtpmail-native-setup-fetch--end request nil
                                             (error-message-string err)))))

(defun smtpmail-native-setup-fetch (url done)
  "Fetch URL, of http or https, and return at once.
DONE is called once, with the text and nil, or with nil and a problem, a
text.  Return a function that gives the request up."
  (let ((request (smtpmail-native-setup-fetch--request-make :url url
                                                            :done done)))
    (setf (smtpmail-native-setup-fetch--timer request)
          (smtpmail-native-quiet-timer
           smtpmail-native-setup-fetch--seconds
           #'smtpmail-native-setup-fetch--end request nil
           "no answer in time"))
    ;; From a timer, so that DONE is never called before this returns.
    (smtpmail-native-quiet-timer
     0 (lambda ()
         (when (smtpmail-native-setup-fetch--done request)
           (smtpmail-native-setup-fetch--connect request))))
    (lambda ()
      (setf (smtpmail-native-setup-fetch--done request) nil)
      (smtpmail-native-setup-fetch--end request nil nil))))

(provide 'smtpmail-native-setup-fetch)
;;; smtpmail-native-setup-fetch.el ends here
