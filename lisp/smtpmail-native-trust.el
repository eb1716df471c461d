;;; smtpmail-native-trust.el --- A certificate that does not verify  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The module refuses a server whose certificate does not verify, and says what
;; it has seen.  Here it is decided whether that very certificate may do all the
;; same: by the pins of the user, by the exceptions that Emacs's Network
;; Security Manager has, or by asking by way of it.  What is accepted is a pin
;; for the next attempt, and for the rest of this session.

;;; Code:

(require 'seq)
(require 'smtpmail-native-error)

(declare-function gnutls-peer-status-warning-describe "gnutls.c" (symbol))
(declare-function nsm-fingerprint "nsm" (status))
(declare-function nsm-host-settings "nsm" (id))
(declare-function nsm-id "nsm" (host port))
(declare-function nsm-level "nsm" (symbol))
(declare-function nsm-query "nsm" (host port status what problems message))
(declare-function nsm-should-check "nsm" (host))
(declare-function nsm-warnings-ok-p "nsm" (status settings))
(defvar gnutls-verify-error)
(defvar network-security-level)
(defvar network-security-protocol-checks)

(defcustom smtpmail-native-tls-pins nil
  "Certificates that certain servers have to show.
An alist of (HOST . PINS), PINS being a SHA-256 fingerprint in hex, maybe
with colons, or a list of them, of the certificate or of its public key.
A match takes the place of all other verification, the dates and the name
included; a server that shows another certificate is refused, and nobody is
asked.  `smtpmail-native-pin-certificate' adds a server."
  :group 'smtpmail-native
  :type '(alist :key-type (string :tag "Host")
                :value-type (choice (string :tag "Fingerprint")
                                    (repeat (string :tag "Fingerprint")))))

(defvar smtpmail-native-trust--accepted (make-hash-table :test #'equal)
  "SHA-256 of the certificate that was accepted, by (HOST PORT).")

(defun smtpmail-native-trust--key (host port)
  "Return the key of HOST and PORT in `smtpmail-native-trust--accepted'."
  (list (downcase host) port))

(defun smtpmail-native-trust--users-pins (host)
  "Return the fingerprints that the user wants of HOST, a list."
  (let ((pins (cdr (seq-find (lambda (entry)
                               (eq t (compare-strings (car entry) nil nil
                                                      host nil nil t)))
                             smtpmail-native-tls-pins))))
    (if (stringp pins) (list pins) pins)))

(defun smtpmail-native-trust-pins (host port)
  "Return the fingerprints of which HOST at PORT has to show one, or nil."
  (or (smtpmail-native-trust--users-pins host)
      (let ((accepted (gethash (smtpmail-native-trust--key host port)
                               smtpmail-native-trust--accepted)))
        (and accepted (list accepted)))))

;;;; Judgement

(defun smtpmail-native-trust--must-verify-p (host)
  "Return non-nil if `gnutls-verify-error' lets no exception be made for HOST."
  (require 'gnutls)
  (let ((errors gnutls-verify-error))
    (or (eq errors t)
        (and (listp errors)
             (seq-some (lambda (entry)
                         (and (stringp (car-safe entry))
                              (string-match-p (car entry) host)
                              (consp (cdr entry))))
                       errors)))))

(defun smtpmail-native-trust--unchecked-p (host)
  "Return non-nil if the user's level of security asks for no check of HOST."
  (or (not (nsm-should-check host))
      (let ((level (cadr (assq 'verify-cert network-security-protocol-checks))))
        (< (nsm-level network-security-level)
           (nsm-level (or level 'medium))))))

(defun smtpmail-native-trust--known-p (host port status)
  "Return non-nil if an exception for HOST at PORT is for just what STATUS says.
It has to name this certificate, and all that is wrong with it."
  (let* ((settings (nsm-host-settings (nsm-id host port))))
    (and (plist-get settings :conditions)
         (member (nsm-fingerprint status) (plist-get settings :fingerprints))
         (nsm-warnings-ok-p status settings))))

(defun smtpmail-native-trust--ask (host port status)
  "Ask the user, by way of NSM, whether what STATUS says of HOST will do."
  (let ((problems (plist-get status :warnings)))
    (condition-case err
        (nsm-query host port status 'conditions problems
                   (format-message
                    "The TLS connection to %s:%s is insecure\n\
for the following reason%s:\n\n* %s"
                    host port (if (cdr problems) "s" "")
                    (mapconcat (lambda (problem)
                                 (or (gnutls-peer-status-warning-describe
                                      problem)
                                     (symbol-name problem)))
                               problems "\n* ")))
      ;; The answer counts, even if it cannot be kept.
      (file-error
       (message "The exception could not be saved: %s"
                (error-message-string err))
       t))))

(defun smtpmail-native-trust-judge (host port result ask)
  "Decide whether HOST at PORT may be used although RESULT tells otherwise.
RESULT is a plist of the module, of the kind `certificate'.  ASK non-nil
means that the user can be asked now.  Return non-nil if it is worth to try
again: what was accepted stands in `smtpmail-native-trust-pins' then."
  (require 'nsm)
  (let* ((tls (plist-get result :tls))
         (status (plist-get tls :peer))
         (shown (plist-get (plist-get tls :certificate) :sha256))
         (key (smtpmail-native-trust--key host port)))
    (cond
     ((smtpmail-native-trust--users-pins host) nil)
     ;; It shows another certificate than it did, which may be a better one.
     ((gethash key smtpmail-native-trust--accepted)
      (remhash key smtpmail-native-trust--accepted)
      t)
     ((or (null status) (null shown) (null (plist-get status :warnings))
          (smtpmail-native-trust--must-verify-p host))
      nil)
     ((or (smtpmail-native-trust--unchecked-p host)
          (smtpmail-native-trust--known-p host port status)
          (and ask (smtpmail-native-trust--ask host port status)))
      (puthash key shown smtpmail-native-trust--accepted)
      t))))

(provide 'smtpmail-native-trust)
;;; smtpmail-native-trust.el ends here
