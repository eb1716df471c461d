;;; smtpmail-native-trust.el --- A certificate that does not verify  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; The module refuses a server whose certificate does not verify, and says what
;; it has seen.  This file decides whether that certificate may do anyway: by
;; the pins of the user, by the exceptions of Emacs's Network Security Manager,
;; or by asking through it.  What is accepted is a pin
;; for the attempts that follow, for as long as the reason to accept it stands.

;;; Code:

(require 'puny)
(require 'seq)
(require 'smtpmail-native-auth)
(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

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
(defvar nsm-trust-local-network)
(defvar smtpmail-smtp-service)

(defvar smtpmail-native-trust--accepted (make-hash-table :test #'equal)
  "What was accepted in this session, by (HOST PORT).
A plist of :sha256, the certificate's fingerprint, :status, what NSM was told
of it, :not-after, when it expires in seconds, and :word, non-nil if the user
has accepted it and NSM could not keep that.")

(defun smtpmail-native-trust--key (host port)
  "Return the key of HOST and PORT in `smtpmail-native-trust--accepted'."
  (list (downcase host) port))

;;;; The pins of the user

(defun smtpmail-native-trust--pin-p (pin)
  "Return non-nil if PIN is a SHA-256 fingerprint in hex, maybe with colons."
  (and (stringp pin)
       (string-match-p "\\`[[:xdigit:]]\\{64\\}\\'"
                       (replace-regexp-in-string ":" "" pin t t))))

(defun smtpmail-native-trust-users-pins (host)
  "Return the fingerprints that the user wants of HOST, a list.
Signal `smtpmail-native-usage-error' where they cannot be used: to go without
them would be to trust what the user does not."
  (let* ((alist smtpmail-native-tls-pins)
         (usable (and (proper-list-p alist)
                      (seq-every-p (lambda (entry) (stringp (car-safe entry)))
                                   alist)))
         (entry (and usable (assoc-string host alist t)))
         (pins (if (stringp (cdr entry)) (list (cdr entry)) (cdr entry))))
    (cond
     ((not usable)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       "`smtpmail-native-tls-pins' must be a list of (HOST . FINGERPRINTS)"))
     ((null entry) nil)
     ((and pins (proper-list-p pins)
           (seq-every-p #'smtpmail-native-trust--pin-p pins))
      pins)
     (t
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "`smtpmail-native-tls-pins' has for %s what is no SHA-256 \
fingerprint of 64 hex digits" host))))))

(defun smtpmail-native-trust-add-pin (host pin)
  "Let PIN, a fingerprint, be all that HOST has to show, and save that.
Where it cannot be saved it is told that it is for this session."
  (setq smtpmail-native-tls-pins
        (cons (cons host pin)
              (seq-remove (lambda (entry)
                            (eq t (compare-strings (car entry) nil nil
                                                   host nil nil t)))
                          smtpmail-native-tls-pins)))
  (condition-case err
      (customize-save-variable 'smtpmail-native-tls-pins
                               smtpmail-native-tls-pins)
    (error
     (message "The pin is kept for this session only: %s"
              (error-message-string err)))))

;;;; What NSM and gnutls.el say

(defun smtpmail-native-trust--must-verify-p (host status)
  "Return non-nil if what STATUS says of HOST must not be.
`gnutls-verify-error' says so; its first match for HOST counts."
  (require 'gnutls)
  (let* ((case-fold-search t)
         (name (puny-encode-domain host))
         (warnings (plist-get status :warnings))
         (errors gnutls-verify-error)
         (flags (if (eq errors t)
                    '(t)
                  (flatten-tree
                   (cdr (seq-find (lambda (entry)
                                    (and (stringp (car-safe entry))
                                         (string-match-p (car entry) name)))
                                  (and (listp errors) errors)))))))
    (or (memq t flags)
        (and (memq :hostname flags) (memq :no-host-match warnings))
        (and (memq :trustfiles flags) (remq :no-host-match warnings)))))

(defun smtpmail-native-trust--unchecked-p (host)
  "Return non-nil if the user's level of security asks for no check of HOST."
  (let ((level (cadr (assq 'verify-cert network-security-protocol-checks))))
    (or (< (nsm-level network-security-level) (nsm-level (or level 'medium)))
        ;; It looks up names, which may take long.
        (and nsm-trust-local-network
             (not (nsm-should-check host))))))

(defun smtpmail-native-trust--services (port)
  "Return all spellings of PORT that other programs may have told NSM.
The first is the one that smtpmail.el would use now."
  (let* ((names (mapcar #'car (seq-filter (lambda (service)
                                            (eql (cdr service) port))
                                          smtpmail-native-auth-services)))
         (all (cons port names))
         (now (bound-and-true-p smtpmail-smtp-service)))
    (if (and (stringp now) (member (downcase now) names))
        (cons now all)
      all)))

(defun smtpmail-native-trust--settings (host port)
  "Return what NSM knows of HOST at PORT, a list of its settings.
A file that cannot be read says nothing."
  (condition-case err
      (delq nil (mapcan (lambda (service)
                          (mapcar (lambda (name)
                                    (nsm-host-settings (nsm-id name service)))
                                  (seq-uniq (list host (downcase host)))))
                        (smtpmail-native-trust--services port)))
    (file-error
     (message "The exceptions of NSM cannot be read: %s"
              (error-message-string err))
     nil)))

(defun smtpmail-native-trust--known-p (host port status)
  "Return non-nil if an exception for HOST at PORT is for just what STATUS says.
It has to name this certificate, and all that is wrong with it.  NSM by itself
would take any certificate after some answers."
  (seq-some (lambda (settings)
              (and (plist-get settings :conditions)
                   (member (nsm-fingerprint status)
                           (plist-get settings :fingerprints))
                   (nsm-warnings-ok-p status settings)))
            (smtpmail-native-trust--settings host port)))

(defun smtpmail-native-trust--changed-p (host port status)
  "Return non-nil if HOST at PORT had another certificate than STATUS tells."
  (let ((known (remq :none
                     (seq-mapcat (lambda (settings)
                                   (plist-get settings :fingerprints))
                                 (smtpmail-native-trust--settings host port)))))
    (and known (not (member (nsm-fingerprint status) known)))))

;;;; Judgement

(defun smtpmail-native-trust--certificate (certificate)
  "Return CERTIFICATE, a plist of NSM, with text in place of octets."
  (seq-map-indexed (lambda (value n)
                     (if (and (stringp value)
                              (memq (nth (1- n) certificate)
                                    '(:subject :issuer)))
                         (smtpmail-native-error-text value)
                       value))
                   certificate))

(defun smtpmail-native-trust--status (result)
  "Return what NSM can be told of the server of RESULT, or nil.
It is a fresh copy, because NSM alters it."
  (let* ((status (copy-tree (plist-get (plist-get result :tls) :peer)))
         (shown (plist-get status :certificates)))
    (when (plist-get status :certificate)
      (setq status (plist-put status :certificate
                              (smtpmail-native-trust--certificate
                               (plist-get status :certificate))))
      ;; NSM cannot show one without its text, and takes that for a no.
      (plist-put status :certificates
                 (seq-filter (lambda (one)
                               (smtpmail-native-auth-string
                                (plist-get one :pem)))
                             shown)))))

(defun smtpmail-native-trust--reasons (host port status result)
  "Return why HOST at PORT is not to be trusted by STATUS and RESULT.
It is a list of strings: the words of Emacs first, then those of the module."
  (append
   (and (smtpmail-native-trust--changed-p host port status)
        '("the certificate is another one than the server had before"))
   (mapcar (lambda (problem)
             (or (gnutls-peer-status-warning-describe problem)
                 (symbol-name problem)))
           (plist-get status :warnings))
   (split-string (smtpmail-native-error-text
                  (plist-get (plist-get (plist-get result :tls) :certificate)
                             :reasons))
                 "; " t)))

(defun smtpmail-native-trust--ask (host port status result)
  "Ask the user, through NSM, whether to trust HOST at PORT.
STATUS and RESULT tell what is wrong with it."
  (let ((service (car (smtpmail-native-trust--services port)))
        (reasons (smtpmail-native-trust--reasons host port status result)))
    (condition-case err
        (nsm-query host service status 'conditions
                   (copy-sequence (plist-get status :warnings))
                   (format-message
                    "The TLS connection to %s:%s is insecure\n\
for the following reason%s:\n\n* %s"
                    host service (if (cdr reasons) "s" "")
                    (mapconcat #'identity reasons "\n* ")))
      ;; The answer counts, even if it cannot be kept.
      (file-error
       (message "The exception could not be saved: %s"
                (error-message-string err))
       t))))

(defun smtpmail-native-trust--stands-p (host port accepted)
  "Return non-nil if there is still a reason for what was ACCEPTED.
It is an element of `smtpmail-native-trust--accepted', for HOST and PORT."
  (require 'nsm)
  (let ((status (plist-get accepted :status)))
    (and (not (smtpmail-native-trust--must-verify-p host status))
         ;; While it is pinned nothing else would notice.
         (or (memq :expired (plist-get status :warnings))
             (< (float-time) (plist-get accepted :not-after)))
         (or (plist-get accepted :word)
             (smtpmail-native-trust--unchecked-p host)
             (smtpmail-native-trust--known-p host port status)))))

(defun smtpmail-native-trust-pins (host port)
  "Return the fingerprints of which HOST at PORT has to show one, or nil.
HOST is a string, PORT an integer.  Signal `smtpmail-native-usage-error' if
`smtpmail-native-tls-pins' cannot be used."
  (or (smtpmail-native-trust-users-pins host)
      (let* ((key (smtpmail-native-trust--key host port))
             (accepted (gethash key smtpmail-native-trust--accepted)))
        (when accepted
          (if (smtpmail-native-trust--stands-p host port accepted)
              (list (plist-get accepted :sha256))
            (remhash key smtpmail-native-trust--accepted)
            nil)))))

(defun smtpmail-native-trust--accept-p (host port result ask)
  "Return non-nil if the certificate of RESULT will do for HOST at PORT.
It is remembered then.  ASK as in `smtpmail-native-trust-judge'."
  (let* ((shown (plist-get (plist-get result :tls) :certificate))
         (status (smtpmail-native-trust--status result))
         (asked nil))
    (when (and status
               (plist-get status :warnings)
               (not (smtpmail-native-trust--must-verify-p host status))
               (or (smtpmail-native-trust--unchecked-p host)
                   (smtpmail-native-trust--known-p host port status)
                   (and ask (setq asked (smtpmail-native-trust--ask
                                         host port status result)))))
      (puthash (smtpmail-native-trust--key host port)
               (list :sha256 (plist-get shown :sha256)
                     :status status
                     :not-after (plist-get shown :not-after)
                     :word (and asked
                                (not (smtpmail-native-trust--known-p
                                      host port status))))
               smtpmail-native-trust--accepted)
      t)))

(defun smtpmail-native-trust-judge (host port result ask)
  "Decide whether HOST at PORT may be used although RESULT tells otherwise.
RESULT is a plist of the module, of the kind `certificate'.  ASK non-nil
means that the user can be asked now.  Return non-nil if it is worth to try
again: what was accepted stands in `smtpmail-native-trust-pins' then.  No
error is signalled: what cannot be judged is not trusted."
  (require 'nsm)
  (let ((key (smtpmail-native-trust--key host port)))
    (condition-case err
        (cond
         ((smtpmail-native-trust-users-pins host) nil)
         ;; It shows another certificate than the one that was accepted, which
         ;; may be a better one: nothing has been verified yet.
         ((and (plist-get (plist-get result :tls) :certificate)
               (null (plist-get (plist-get (plist-get result :tls) :peer)
                                :warnings)))
          (remhash key smtpmail-native-trust--accepted)
          t)
         (t (smtpmail-native-trust--accept-p host port result ask)))
      (error
       (message "smtpmail-native: %s" (error-message-string err))
       nil))))

(provide 'smtpmail-native-trust)
;;; smtpmail-native-trust.el ends here
