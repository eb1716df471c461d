;;; smtpmail-native-setup-parts-tests.el --- What a set-up is made of  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Answers of DNS, of web servers and in XML, good and bad ones, and the order
;; of candidates.

;;; Code:

(require 'ert)
(require 'smtpmail-native-setup-autoconfig)
(require 'smtpmail-native-setup-candidates)
(require 'smtpmail-native-setup-helper)

;;;; DNS

(defconst smtpmail-native-setup-parts-tests--service
  "_submissions._tcp.example.org"
  "The name that the tests ask for.")

(defun smtpmail-native-setup-parts-tests--ask (answer &optional type)
  "Ask for the service, of TYPE, of a server that gives ANSWER.
Return (RECORDS . PROBLEM)."
  (let ((type (or type 'SRV))
        (smtpmail-native-setup-dns--seconds 0.2)
        (got nil))
    (smtpmail-native-setup-helper-with
        (list (cons (cons type smtpmail-native-setup-parts-tests--service)
                    answer))
        nil
      (smtpmail-native-setup-dns-ask
       smtpmail-native-setup-parts-tests--service type
       (lambda (records problem) (push (cons records problem) got)))
      (should-not got)
      (smtpmail-native-test-wait (lambda () got))
      (should (= 1 (length got)))
      (car got))))

(defun smtpmail-native-setup-parts-tests--answer (id &rest keys)
  "Return a good answer to ID, with KEYS of the helper."
  (apply #'smtpmail-native-setup-helper-packet id
         smtpmail-native-setup-parts-tests--service 'SRV
         (list (smtpmail-native-setup-helper-srv 0 1 465 "mail.example.org"))
         keys))

(ert-deftest smtpmail-native-setup-parts-srv ()
  "Records come back in the order of priority; nonsense is left out."
  (pcase-let ((`(,records . ,problem)
               (smtpmail-native-setup-parts-tests--ask
                (list (smtpmail-native-setup-helper-srv 20 0 465 "b.example.org")
                      (smtpmail-native-setup-helper-srv 10 0 587 "a.example.org")
                      (smtpmail-native-setup-helper-srv 1 0 0 "zero.example.org")
                      (smtpmail-native-setup-helper-srv 1 0 25 "x;y.example.org")
                      (smtpmail-native-setup-helper-srv 1 0 25 "10.0.0.1")))))
    (should-not problem)
    (should (equal (smtpmail-native-setup-dns-srv records)
                   '(("a.example.org" . 587) ("b.example.org" . 465))))))

(ert-deftest smtpmail-native-setup-parts-srv-none ()
  "The target \".\" says that there is no such service."
  (should (eq (smtpmail-native-setup-dns-srv
               (car (smtpmail-native-setup-parts-tests--ask
                     (list (smtpmail-native-setup-helper-srv 0 0 0 ".")))))
              'none))
  (should-not (smtpmail-native-setup-dns-srv nil)))

(ert-deftest smtpmail-native-setup-parts-weight ()
  "Of one priority the heavier ones come first more often; all come once."
  (random "a seed")
  (let ((records '(((priority 1) (weight 0) (port 1) (target "a.example.org"))
                   ((priority 1) (weight 1) (port 2) (target "b.example.org"))
                   ((priority 1) (weight 9) (port 3) (target "c.example.org"))))
        (first (make-vector 4 0)))
    (dotimes (_ 500)
      (let ((order (smtpmail-native-setup-dns-srv records)))
        (should (= 3 (length (delete-dups (copy-sequence order)))))
        (cl-incf (aref first (cdar order)))))
    (should (> (aref first 3) (aref first 2) 0))))

(ert-deftest smtpmail-native-setup-parts-mx ()
  "MX hosts come in the order of preference."
  (should (equal (smtpmail-native-setup-dns-mx
                  (car (smtpmail-native-setup-parts-tests--ask
                        (list (smtpmail-native-setup-helper-mx 20 "b.example.net")
                              (smtpmail-native-setup-helper-mx 10 "a.example.net")
                              (smtpmail-native-setup-helper-mx 0 "."))
                        'MX)))
                 '("a.example.net" "b.example.net"))))

(ert-deftest smtpmail-native-setup-parts-dns-wrong ()
  "An answer to another question is not taken; one that follows it is."
  (dolist (wrong
           (list (lambda (id) (smtpmail-native-setup-parts-tests--answer
                               (logxor id 1)))
                 (lambda (id) (smtpmail-native-setup-helper-packet
                               id "_submissions._tcp.example.net" 'SRV nil))
                 (lambda (id) (smtpmail-native-setup-helper-packet
                               id smtpmail-native-setup-parts-tests--service
                               'MX nil))
                 (lambda (_) "")
                 (lambda (_) "x")))
    (should (equal (smtpmail-native-setup-dns-srv
                    (car (smtpmail-native-setup-parts-tests--ask
                          (lambda (id)
                            (list (funcall wrong id)
                                  (smtpmail-native-setup-parts-tests--answer
                                   id))))))
                   '(("mail.example.org" . 465))))))

(ert-deftest smtpmail-native-setup-parts-dns-bad ()
  "What cannot be read, or is refused, ends with a problem."
  (pcase-dolist
      (`(,make . ,problem)
       `((,(lambda (_) nil) . "no name server answers")
         (,(lambda (id) (smtpmail-native-setup-parts-tests--answer
                         id :code 'server-failure))
          . "the name server says server-failure")
         (,(lambda (id) (smtpmail-native-setup-parts-tests--answer
                         id :truncated t))
          . "the answer is too long")
         ;; It says that there are more answers than there are.
         (,(lambda (id)
             (let ((packet (smtpmail-native-setup-parts-tests--answer id)))
               (aset packet 7 200)
               packet))
          . "the answer cannot be read")
         ;; A name that leads to itself.
         (,(lambda (id)
             (concat (smtpmail-native-setup-helper-octets id 2)
                     "\200\0\0\1\0\0\0\0\0\0\300\14\0\41\0\1"))
          . "the answer cannot be read")))
    (ert-info (problem)
      (let ((case-fold-search t))
        (should (equal (smtpmail-native-setup-parts-tests--ask
                        (lambda (id) (delq nil (list (funcall make id)))))
                       (cons nil problem)))))))

(ert-deftest smtpmail-native-setup-parts-dns-owner ()
  "Records of another name do not count."
  (should (equal (smtpmail-native-setup-parts-tests--ask
                  (lambda (id)
                    (list (smtpmail-native-setup-parts-tests--answer
                           id :owner "_submissions._tcp.example.net"))))
                 '(nil))))

(ert-deftest smtpmail-native-setup-parts-dns-taken-back ()
  "A question that was taken back is not answered."
  (smtpmail-native-setup-helper-with nil nil
    (let ((ended nil)
          (called nil))
      (funcall (smtpmail-native-setup-dns-ask
                "a.example.org" 'SRV (lambda (&rest _) (setq called t))))
      (smtpmail-native-setup-dns-ask "a.example.org" 'SRV
                                     (lambda (&rest _) (setq ended t)))
      (smtpmail-native-test-wait (lambda () ended))
      (should-not called))))

(ert-deftest smtpmail-native-setup-parts-names ()
  "What is a host name and what is not."
  (dolist (name '("example.org" "a-b.example.org" "xn--mnchen-3ya.example"))
    (should (smtpmail-native-setup-dns-name-p name)))
  (dolist (name `(nil "" "." "localhost" "10.0.0.1" "-a.example.org" "a..b"
                      "a b.example" "a\n.example" "münchen.example"
                      "example.org." ,(concat (make-string 64 ?a) ".example")
                      "unix:/x.y" "lmtp:a.b"))
    (should-not (smtpmail-native-setup-dns-name-p name))))

;;;; HTTP

(defun smtpmail-native-setup-parts-tests--fetch (page &optional url)
  "Fetch the file of a web server that answers with PAGE, or URL.
Return (TEXT . PROBLEM)."
  (let ((got nil))
    (smtpmail-native-setup-helper-with nil `(("/" . ,page)
                                             ("/other" . "HTTP/1.0 200 OK\n\nother"))
      (smtpmail-native-setup-fetch
       (or url "http://autoconfig.example.org/")
       (lambda (text problem) (push (cons text problem) got)))
      (should-not got)
      (smtpmail-native-test-wait (lambda () got))
      (should (= 1 (length got)))
      (car got))))

(ert-deftest smtpmail-native-setup-parts-fetch ()
  "A page comes as it is, decoded, also in chunks."
  (should (equal (smtpmail-native-setup-parts-tests--fetch
                  "HTTP/1.1 200 OK\r\nA: b\r\n\r\n\303\244")
                 '("ä")))
  (should (equal (smtpmail-native-setup-parts-tests--fetch
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
                 '("abcde")))
  (should (equal (smtpmail-native-setup-parts-tests--fetch
                  "HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n")
                 '("other"))))

(ert-deftest smtpmail-native-setup-parts-fetch-bad ()
  "What is no answer, an endless one, or a loop ends with a problem."
  (pcase-dolist
      (`(,page . ,problem)
       '(("HTTP/1.0 404 No\r\n\r\n" . "not there (404)")
         ("HTTP/1.0 401 Who\r\nWWW-Authenticate: Basic realm=x\r\n\r\n"
          . "not there (401)")
         ("220 mail ESMTP\r\n" . "no answer of HTTP")
         ("HTTP/1.0 301 Go\r\nLocation: /\r\n\r\n" . "too many redirects")
         ("HTTP/1.0 301 Go\r\nLocation: file:///etc/passwd\r\n\r\n"
          . "a redirect without TLS is not followed")
         ("HTTP/1.0 301 Go\r\n\r\n" . "a redirect without TLS is not followed")))
    (ert-info (page)
      (should (equal (smtpmail-native-setup-parts-tests--fetch page)
                     (cons nil problem))))))

(ert-deftest smtpmail-native-setup-parts-fetch-large ()
  "An answer of 100 MB is given up when it is too long."
  (let ((sent 0))
    (should
     (equal (smtpmail-native-setup-parts-tests--fetch
             (lambda (process)
               (ignore-errors
                 (process-send-string process "HTTP/1.0 200 OK\r\n\r\n")
                 (while (< sent 100000000)
                   (process-send-string process (make-string 10000 ?x))
                   (cl-incf sent 10000)))))
            '(nil . "the answer is too long")))
    (should (< sent 100000000))))

(ert-deftest smtpmail-native-setup-parts-fetch-late ()
  "An answer that does not come is not waited for."
  (let ((smtpmail-native-setup-fetch--seconds 0.2))
    (should (equal (smtpmail-native-setup-parts-tests--fetch #'ignore)
                   '(nil . "no answer in time")))))

(ert-deftest smtpmail-native-setup-parts-fetch-no-tls ()
  "A server that does not speak TLS is not asked without it."
  (let ((got nil))
    (smtpmail-native-setup-helper-with nil '(("/" . "HTTP/1.0 200 OK\r\n\r\nx"))
      (let ((smtpmail-native-setup-fetch--map
             (list (cons "autoconfig.example.org:443" web))))
        (smtpmail-native-setup-fetch
         "https://autoconfig.example.org/"
         (lambda (text problem) (setq got (list text problem))))
        (smtpmail-native-test-wait (lambda () got))
        (should-not (car got))
        (should (stringp (cadr got)))))))

(ert-deftest smtpmail-native-setup-parts-redirect ()
  "From https a redirect leads to https only."
  (should (equal (smtpmail-native-setup-fetch-redirect
                  "https://a.example/x" "/y")
                 "https://a.example/y"))
  (should (equal (smtpmail-native-setup-fetch-redirect
                  "http://a.example/x" "https://b.example/y")
                 "https://b.example/y"))
  (dolist (bad '("http://a.example/y" "ftp://a.example/" "file:///etc/passwd"
                 "https://user:pass@a.example/" "https:///"
                 "https://a.example/\u00e4"))
    (ert-info (bad)
      (should-not (smtpmail-native-setup-fetch-redirect
                   "https://a.example/x" bad)))))

;;;; XML

(defun smtpmail-native-setup-parts-tests--server (&rest replace)
  "Return a configuration with one server; REPLACE are texts in pairs."
  (let ((text (smtpmail-native-setup-helper-xml 465 nil "SSL")))
    (setq text (substring text (string-match "<\\?xml" text)))
    (while replace
      (setq text (string-replace (pop replace) (pop replace) text)))
    text))

(defun smtpmail-native-setup-parts-tests--parse (text)
  "Return what TEXT has for alice@example.org."
  (smtpmail-native-setup-autoconfig-parse text "alice" "example.org"))

(ert-deftest smtpmail-native-setup-parts-xml ()
  "A configuration is read, and its places are filled."
  (should (equal (smtpmail-native-setup-parts-tests--parse
                  (smtpmail-native-setup-parts-tests--server))
                 '((:host "mail.example.org" :port 465 :stream ssl
                          :user "alice@example.org"
                          :auth ("password-cleartext")))))
  (should (equal (plist-get
                  (car (smtpmail-native-setup-parts-tests--parse
                        (smtpmail-native-setup-parts-tests--server
                         "mail.example.org" "smtp.%EMAILDOMAIN%"
                         "%EMAILADDRESS%" "%EMAILLOCALPART%")))
                  :user)
                 "alice")))

(ert-deftest smtpmail-native-setup-parts-xml-useless ()
  "A server that cannot be used is left out."
  (dolist (replace '(("465" "0") ("465" "465000") ("465" "1e999") ("SSL" "plain")
                     ("type=\"smtp\"" "type=\"exchange\"")
                     ("mail.example.org" "10.0.0.1")
                     ("mail.example.org" "%CITY%.example.org")
                     ("mail.example.org" "/var/run/socket")
                     ("mail.example.org" "mail.example.org&#10;x")))
    (ert-info ((cadr replace))
      (should-not (smtpmail-native-setup-parts-tests--parse
                   (apply #'smtpmail-native-setup-parts-tests--server
                          replace))))))

(ert-deftest smtpmail-native-setup-parts-xml-hostile ()
  "XML that is long, deep, broken, or defines entities is not read."
  (dolist (text (list
                 (concat "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>"
                         (smtpmail-native-setup-parts-tests--server))
                 "<!doctype html><html></html>" "<html><body/></html>" "" "hello"
                 "<clientConfig" "<a>\0</a>" "<a></b>"
                 (make-string 70000 ?x)
                 (concat "<a>" (make-string 100000 ?\s) "</a>")))
    (ert-info ((substring text 0 (min 40 (length text))))
      (should-error (smtpmail-native-setup-parts-tests--parse text)
                    :type 'smtpmail-native-usage-error)))
  ;; What is deep has no servers, or is not read; it never ends in another way.
  (condition-case nil
      (should-not (smtpmail-native-setup-parts-tests--parse
                   (apply #'concat (make-list 20000 "<a>"))))
    (smtpmail-native-usage-error nil))
  ;; Without libxml it is the same.
  (cl-letf (((symbol-function 'libxml-available-p) #'ignore))
    (should (smtpmail-native-setup-parts-tests--parse
             (smtpmail-native-setup-parts-tests--server)))
    (should-error (smtpmail-native-setup-parts-tests--parse
                   (apply #'concat (make-list 20000 "<a>")))
                  :type 'smtpmail-native-usage-error)))

;;;; Candidates

(ert-deftest smtpmail-native-setup-parts-address ()
  "An address has to have a domain; one that is not ASCII becomes so."
  (should (equal (smtpmail-native-setup-candidates-address
                  "Alice <alice@Example.ORG>")
                 '("alice" . "example.org")))
  (should (equal (smtpmail-native-setup-candidates-address "a@münchen.example")
                 '("a" . "xn--mnchen-3ya.example")))
  (dolist (text '("" "alice" "alice@" "@example.org" "alice@localhost"
                  "alice@[10.0.0.1]" "alice@exa mple.org" "alice@example.org;"))
    (ert-info (text)
      (should-error (smtpmail-native-setup-candidates-address text)
                    :type 'smtpmail-native-usage-error))))

(ert-deftest smtpmail-native-setup-parts-order ()
  "DNS comes before files and guesses, and TLS from the start before STARTTLS."
  (let* ((dns (smtpmail-native-setup-candidates-srv
               "_submissions._tcp" '(("a.example.org" . 465))))
         (page (list '(:host "b.example.org" :port 587 :stream starttls
                             :source autoconfig)))
         (guesses (smtpmail-native-setup-candidates-guesses "example.org")))
    (should (equal (mapcar (lambda (candidate)
                             (cons (plist-get candidate :host)
                                   (plist-get candidate :port)))
                           (smtpmail-native-setup-candidates-order
                            (append (reverse guesses) page dns)))
                   '(("a.example.org" . 465) ("b.example.org" . 587)
                     ("mail.example.org" . 465) ("smtp.example.org" . 465)
                     ("mail.example.org" . 587) ("smtp.example.org" . 587))))))

(ert-deftest smtpmail-native-setup-parts-doubt ()
  "A name that DNS or a page in clear has is confirmed, unless it is below."
  (pcase-dolist (`(,source ,host ,doubt)
                 '((srv "mail.example.org" nil) (srv "example.org" nil)
                   (srv "mail.evil.example" t) (srv "notexample.org" t)
                   (clear "mail.evil.example" t) (clear "a.example.org" nil)
                   (autoconfig "mail.provider.example" nil)
                   (mx "mail.provider.example" t) (guess "mail.example.org" nil)))
    (should (eq doubt (not (not (smtpmail-native-setup-candidates-doubt
                                 (list :host host :source source)
                                 "example.org")))))))

(ert-deftest smtpmail-native-setup-parts-urls ()
  "The address goes only to its own domain, by TLS; a name is encoded."
  (dolist (url (smtpmail-native-setup-candidates-urls "a&b" "example.org"))
    (when (string-search "%26" (cdr url))
      (should (string-prefix-p "https://autoconfig.example.org/" (cdr url))))
    (should-not (string-search "&" (cdr url))))
  (should (equal (smtpmail-native-setup-candidates-mx-domains
                  '("in.l.mail.example.net") "example.org")
                 '("example.net" "mail.example.net")))
  (should-not (smtpmail-native-setup-candidates-mx-domains
               '("mx.example.org") "example.org"))
  (should-not (smtpmail-native-setup-candidates-mx-domains nil "example.org")))

(ert-deftest smtpmail-native-setup-parts-token ()
  "A server that takes tokens only is told from others."
  (pcase-dolist (`(,lines ,token)
                 '(("SIZE\nAUTH XOAUTH2 OAUTHBEARER" t)
                   ("AUTH PLAIN XOAUTH2" nil) ("SIZE" nil) (nil nil)))
    (should (eq token
                (smtpmail-native-setup-candidates-token-p
                 (list :result (list :capabilities lines)))))))

(provide 'smtpmail-native-setup-parts-tests)
;;; smtpmail-native-setup-parts-tests.el ends here
