;;; smtpmail-native-setup-autoconfig.el --- Mail autoconfiguration  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Reads what providers publish about their servers for sending
;; (draft-ietf-mailmaint-autoconfig).  The text comes from the network: it is
;; bounded, and one with a document type, which could define entities, is not
;; read at all.  Nothing here looks anything up.

;;; Code:

(require 'dom)
(require 'seq)
(require 'subr-x)
(require 'xml)
(require 'smtpmail-native-error)
(require 'smtpmail-native-setup-dns)

(defconst smtpmail-native-setup-autoconfig--size 65536
  "How many characters are read at most.")

(defun smtpmail-native-setup-autoconfig--bad (why)
  "Signal that the text cannot be used because of WHY."
  (smtpmail-native-error-signal 'smtpmail-native-usage-error why))

(defun smtpmail-native-setup-autoconfig--dom (text)
  "Return the tree of TEXT, XML, or signal `smtpmail-native-usage-error'."
  (let ((case-fold-search t))
    (when (> (length text) smtpmail-native-setup-autoconfig--size)
      (smtpmail-native-setup-autoconfig--bad "it is too long"))
    (when (string-match-p "\0" text)
      (smtpmail-native-setup-autoconfig--bad "it is not UTF-8"))
    (when (string-match-p "<![ \t\r\n]*\\(?:doctype\\|entity\\)" text)
      (smtpmail-native-setup-autoconfig--bad "it has a document type"))
    (when (string-match-p "<html[ \t\r\n/>]" text)
      (smtpmail-native-setup-autoconfig--bad "it is a web page")))
  (with-temp-buffer
    (insert text)
    (or (condition-case nil
            (if (and (fboundp 'libxml-available-p) (libxml-available-p))
                (libxml-parse-xml-region (point-min) (point-max))
              (car (xml-parse-region (point-min) (point-max))))
          (error nil))
        (smtpmail-native-setup-autoconfig--bad "it is not XML"))))

(defun smtpmail-native-setup-autoconfig--child (node tag)
  "Return the text of the first child TAG of NODE, or nil."
  (let ((child (car (smtpmail-native-setup-autoconfig--tagged node tag))))
    (and child
         (string-trim (mapconcat (lambda (part) (if (stringp part) part ""))
                                 (dom-children child) "")))))

(defun smtpmail-native-setup-autoconfig--children (node tag)
  "Return the texts of the children TAG of NODE."
  (mapcar (lambda (child)
            (downcase (string-trim
                       (mapconcat (lambda (part) (if (stringp part) part ""))
                                  (dom-children child) ""))))
          (smtpmail-native-setup-autoconfig--tagged node tag)))

(defun smtpmail-native-setup-autoconfig--tagged (node tag)
  "Return the children TAG of NODE."
  (seq-filter (lambda (child) (and (consp child) (eq (dom-tag child) tag)))
              (dom-children node)))

(defun smtpmail-native-setup-autoconfig--fill (text local domain)
  "Return TEXT with the address LOCAL@DOMAIN in its places, or nil.
It is nil if TEXT wants something else, or is no name."
  (when (stringp text)
    (let ((filled (replace-regexp-in-string
                   "%EMAIL\\(ADDRESS\\|LOCALPART\\|DOMAIN\\)%"
                   (lambda (place)
                     (pcase place
                       ("%EMAILADDRESS%" (concat local "@" domain))
                       ("%EMAILLOCALPART%" local)
                       (_ domain)))
                   text t t)))
      (and (< 0 (length filled) 256)
           (not (string-match-p "[%[:cntrl:]]" filled))
           filled))))

(defun smtpmail-native-setup-autoconfig--server (node local domain)
  "Return a candidate of NODE, an outgoing server, for LOCAL@DOMAIN, or nil."
  (let* ((child (lambda (tag)
                  (smtpmail-native-setup-autoconfig--child node tag)))
         (host (smtpmail-native-setup-autoconfig--fill
                (funcall child 'hostname) local domain))
         (port (string-to-number (or (funcall child 'port) "0")))
         (stream (pcase (upcase (or (funcall child 'socketType) ""))
                   ("SSL" 'ssl)
                   ("STARTTLS" 'starttls))))
    ;; What sends passwords in clear is none.
    (and stream
         (integerp port) (< 0 port 65536)
         (equal (downcase (or (dom-attr node 'type) "")) "smtp")
         (smtpmail-native-setup-dns-name-p host)
         (list :host (downcase host) :port port :stream stream
               :user (smtpmail-native-setup-autoconfig--fill
                      (funcall child 'username) local domain)
               :auth (smtpmail-native-setup-autoconfig--children
                      node 'authentication)))))

(defun smtpmail-native-setup-autoconfig-parse (text local domain)
  "Return the servers that TEXT, XML, has for the address LOCAL@DOMAIN.
They are candidates, plists with :host, :port, :stream, :user and :auth, in
the order of TEXT.  Signal `smtpmail-native-usage-error', whose text says
what is wrong with it, if TEXT cannot be used."
  (let* ((dom (smtpmail-native-setup-autoconfig--dom text))
         (nodes (condition-case nil
                    (dom-by-tag dom 'outgoingServer)
                  (error nil))))
    (seq-take
     (delq nil (mapcar (lambda (node)
                         (smtpmail-native-setup-autoconfig--server
                          node local domain))
                       (seq-take nodes 16)))
     4)))

(provide 'smtpmail-native-setup-autoconfig)
;;; smtpmail-native-setup-autoconfig.el ends here
