;;; smtpmail-native-setup-candidates.el --- Which servers to try  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Pure: which servers an address may have, where their names come from, which
;; one is best, and whether you have to be asked before one is used.  A
;; candidate is a plist with :host, :port, :stream (`ssl' or `starttls'), :user,
;; :auth and :source, and when it was tried, :result, of the module.

;;; Code:

(require 'seq)
(require 'subr-x)
(require 'url-domsuf)
(require 'url-util)
(require 'smtpmail-native-address)
(require 'smtpmail-native-error)
(require 'smtpmail-native-setup-dns)

(defconst smtpmail-native-setup-candidates-sources
  '((srv . "DNS (SRV)") (autoconfig . "autoconfiguration")
    (well-known . "autoconfiguration") (clear . "autoconfiguration without TLS")
    (database . "autoconfig.thunderbird.net")
    (mx . "autoconfiguration of the MX") (guess . "a guess"))
  "Where candidates come from, the best first, and how that is called.")

(defun smtpmail-native-setup-candidates-address (text)
  "Return (LOCAL . DOMAIN) of the address TEXT, the domain in ASCII.
Signal `smtpmail-native-usage-error' if it has no domain that can be used."
  (let* ((mailbox (smtpmail-native-address-sender text "the address"))
         (domain (and mailbox
                      (smtpmail-native-address-domain mailbox))))
    (unless (smtpmail-native-setup-dns-name-p domain)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "%s is not an address with a domain, such as alice@example.org"
               (smtpmail-native-address-quote text))))
    (cons (smtpmail-native-address-local mailbox) (downcase domain))))

(defun smtpmail-native-setup-candidates-urls (local domain)
  "Return where the configuration of LOCAL@DOMAIN may be.
Each is (SOURCE . URL).  The address goes only to its own domain, and only
by TLS."
  (let ((query (concat "?emailaddress="
                       (url-hexify-string (concat local "@" domain)))))
    (list (cons 'autoconfig
                (format "https://autoconfig.%s/mail/config-v1.1.xml%s"
                        domain query))
          (cons 'well-known
                (format "https://%s/.well-known/autoconfig/mail/\
config-v1.1.xml" domain))
          (cons 'clear
                (format "http://autoconfig.%s/mail/config-v1.1.xml" domain)))))

(defun smtpmail-native-setup-candidates-database-url (domain)
  "Return where the public database has the configuration of DOMAIN."
  (format "https://autoconfig.thunderbird.net/v1.1/%s" domain))

(defun smtpmail-native-setup-candidates-mx-domains (hosts domain)
  "Return domains but DOMAIN whose configuration may serve, by its MX HOSTS."
  (let ((name (car hosts))
        (found nil))
    (while (and name (string-match "\\`[^.]+\\." name))
      (setq name (substring name (match-end 0)))
      (when (and (string-search "." name)
                 (let ((inhibit-message t))
                   (ignore-errors (url-domsuf-cookie-allowed-p name)))
                 (not (equal (downcase name) domain)))
        (push (downcase name) found)))
    ;; The shorter ones are rather those that publish.
    (seq-take found 2)))

(defun smtpmail-native-setup-candidates-guesses (domain)
  "Return candidates that many a DOMAIN has."
  (seq-mapcat
   (lambda (kind)
     (mapcar (lambda (name)
               (list :host (concat name domain) :port (car kind)
                     :stream (cdr kind) :source 'guess))
             '("smtp." "mail.")))
   '((465 . ssl) (587 . starttls))))

(defun smtpmail-native-setup-candidates-srv (service places)
  "Return candidates of PLACES, a list of (HOST . PORT), of the SRV SERVICE."
  (mapcar (lambda (place)
            (list :host (downcase (car place)) :port (cdr place)
                  :stream (if (equal service "_submissions._tcp") 'ssl
                            'starttls)
                  :source 'srv))
          places))

;;;; What is thought of one

(defun smtpmail-native-setup-candidates-inside-p (host domain)
  "Return non-nil if HOST is DOMAIN or a name below it."
  (or (equal host domain)
      (string-suffix-p (concat "." domain) host)))

(defun smtpmail-native-setup-candidates-doubt (candidate domain)
  "Return why you have to confirm CANDIDATE for DOMAIN, a text, or nil."
  (let ((inside (smtpmail-native-setup-candidates-inside-p
                 (plist-get candidate :host) domain)))
    (pcase (plist-get candidate :source)
      ((and 'srv (guard (not inside)))
       (format "DNS, which anybody on the way can forge, names a server \
outside %s" domain))
      ('clear (if inside nil
                (format "a page without TLS, which anybody on the way can \
forge, names a server outside %s" domain)))
      ('mx (format "it is the provider that DNS, which anybody on the way \
can forge, names for %s" domain)))))

(defun smtpmail-native-setup-candidates-mechanisms (candidate)
  "Return the mechanisms that the server of CANDIDATE offered, in capitals."
  (let ((case-fold-search t))
    (seq-mapcat
     (lambda (line)
       (and (string-match "\\`AUTH[ =]\\(.*\\)" line)
            (split-string (upcase (match-string 1 line)) "[ =]" t)))
     (split-string (or (plist-get (plist-get candidate :result) :capabilities)
                       "")
                   "\n" t))))

(defun smtpmail-native-setup-candidates-token-p (candidate)
  "Return non-nil if the server of CANDIDATE takes nothing but tokens."
  (let ((mechanisms (smtpmail-native-setup-candidates-mechanisms candidate)))
    (and mechanisms
         (seq-every-p (lambda (mechanism)
                        (member mechanism '("XOAUTH2" "OAUTHBEARER"
                                            "PLAIN-CLIENTTOKEN")))
                      mechanisms))))

(defun smtpmail-native-setup-candidates-usable-p (candidate)
  "Return non-nil if the server of CANDIDATE answered, by TLS that verifies."
  (let ((result (plist-get candidate :result)))
    (and (eq (plist-get result :kind) 'ok)
         (plist-get result :tls)
         t)))

(defun smtpmail-native-setup-candidates--rank (candidate)
  "Return the rank of CANDIDATE, a list of integers, the lower the better."
  (list (or (seq-position (mapcar #'car
                                  smtpmail-native-setup-candidates-sources)
                          (plist-get candidate :source))
            99)
        (if (eq (plist-get candidate :stream) 'ssl) 0 1)
        (or (plist-get candidate :place) 0)))

(defun smtpmail-native-setup-candidates-order (candidates)
  "Return CANDIDATES, the best first."
  (seq-sort (lambda (one other)
              (let ((a (smtpmail-native-setup-candidates--rank one))
                    (b (smtpmail-native-setup-candidates--rank other)))
                (while (and a b (= (car a) (car b)))
                  (pop a) (pop b))
                (and a b (< (car a) (car b)))))
            candidates))

(defun smtpmail-native-setup-candidates-same (candidate candidates)
  "Return the one of CANDIDATES that leads to the same port as CANDIDATE."
  (seq-find (lambda (other)
              (and (equal (plist-get candidate :host) (plist-get other :host))
                   (equal (plist-get candidate :port)
                          (plist-get other :port))
                   (eq (plist-get candidate :stream)
                       (plist-get other :stream))))
            candidates))

(defun smtpmail-native-setup-candidates-settings (candidate address)
  "Return the options that make mail of ADDRESS go to CANDIDATE, an alist."
  `((user-mail-address . ,address)
    (smtpmail-smtp-server . ,(plist-get candidate :host))
    (smtpmail-smtp-service . ,(plist-get candidate :port))
    (smtpmail-stream-type . ,(plist-get candidate :stream))
    (smtpmail-smtp-user . ,(plist-get candidate :user))
    (send-mail-function . smtpmail-native-send-it)
    (message-send-mail-function . smtpmail-native-send-it)))

(provide 'smtpmail-native-setup-candidates)
;;; smtpmail-native-setup-candidates.el ends here
