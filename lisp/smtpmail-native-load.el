;;; smtpmail-native-load.el --- Find, build, check and load the module  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A mapped module can never be replaced in a running Emacs, and so the file is
;; looked at before it is loaded: it holds its version in plain text.

;;; Code:

(require 'smtpmail-native-error)
(declare-function smtpmail-native-module-version "smtpmail-native-module")

(defconst smtpmail-native-load-version "0.2.0"
  "Version of the Lisp side, which the module must equal.")

(defconst smtpmail-native-load--directory
  (file-name-directory
   (directory-file-name
    (file-name-directory (or load-file-name buffer-file-name))))
  "The top folder of the package.")

(defvar smtpmail-native-build-directory)

(defun smtpmail-native-load--file-name ()
  "Return the module's file name without directory, for this system."
  (unless module-file-suffix
    (smtpmail-native-error-signal
     'smtpmail-native-usage-error
     "This Emacs was built without dynamic modules; smtpmail-native needs them"))
  (concat "smtpmail-native-module" module-file-suffix))

(defun smtpmail-native-load--build-directory ()
  "Return the folder where a module built here is put."
  (file-name-as-directory
   (expand-file-name
    (cond (smtpmail-native-build-directory)
          ((file-writable-p smtpmail-native-load--directory)
           smtpmail-native-load--directory)
          (t (locate-user-emacs-file "smtpmail-native/"))))))

(defun smtpmail-native-load--find ()
  "Return the file of the module, or nil."
  (let ((name (smtpmail-native-load--file-name)))
    (locate-file name (append (list smtpmail-native-load--directory
                                    (smtpmail-native-load--build-directory))
                              load-path))))

(defun smtpmail-native-load--version-of (file)
  "Return the version that stands in FILE, or nil."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally file)
    (when (re-search-forward
           "smtpmail-native-module-version=\\([0-9][-.0-9a-z]*\\)" nil t)
      (match-string 1))))

(defun smtpmail-native-load--stale (version where)
  "Signal that the module has VERSION at WHERE and not that of the Lisp side."
  (smtpmail-native-error-signal
   'smtpmail-native-usage-error
   (format "The module %s has version %s, but %s is needed: rebuild it \
(make -C %s) and restart Emacs"
           where (or version "unknown") smtpmail-native-load-version
           (abbreviate-file-name smtpmail-native-load--directory))))

(defun smtpmail-native-load-available-p ()
  "Return non-nil if the module is loaded or can be without being built."
  (or (featurep 'smtpmail-native-module)
      (and module-file-suffix
           (let ((file (smtpmail-native-load--find)))
             (and file
                  (equal (smtpmail-native-load--version-of file)
                         smtpmail-native-load-version))))))

;;;###autoload
(defun smtpmail-native-build-module ()
  "Build the module with make; the output is shown in a buffer.
Signal `smtpmail-native-usage-error' when that fails."
  (interactive)
  (let* ((source smtpmail-native-load--directory)
         (target (smtpmail-native-load--build-directory))
         (name (smtpmail-native-load--file-name))
         (buffer (get-buffer-create "*smtpmail-native build*"))
         (default-directory source))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer))
      (special-mode))
    (make-directory target t)
    (message "Building smtpmail-native...")
    (let* ((elsewhere (not (file-equal-p source target)))
           (inhibit-read-only t)
           (status
            (apply #'call-process "make" nil buffer nil
                   (concat "EMACS=" (expand-file-name invocation-name
                                                      invocation-directory))
                   (if elsewhere
                       (list "-f" (expand-file-name "Makefile" source)
                             "-C" source
                             (concat "BUILD=" (expand-file-name "build" target))
                             (concat "MODULE=" (expand-file-name name target))
                             "module")
                     (list "module")))))
      (unless (eql status 0)
        (display-buffer buffer)
        (smtpmail-native-error-signal
         'smtpmail-native-usage-error
         (format "The module could not be built, see the buffer %s"
                 (buffer-name buffer))))
      (message "Building smtpmail-native...done")
      (expand-file-name name target))))

(defun smtpmail-native-load--missing ()
  "Build the missing module if the user agrees, and return its file."
  (let ((make (format "make -C %s"
                      (abbreviate-file-name smtpmail-native-load--directory))))
    (if (and (not noninteractive)
             (y-or-n-p "The module of smtpmail-native is not built.  Build it? "))
        (smtpmail-native-build-module)
      (smtpmail-native-error-signal
       'smtpmail-native-usage-error
       (format "The module of smtpmail-native is not built; type: %s" make)))))

(defun smtpmail-native-load ()
  "Load the module, and return t; do nothing if it is there already.
A module that is missing is built after asking, never in batch.
Signal `smtpmail-native-usage-error' when there is none that fits."
  (unless (featurep 'smtpmail-native-module)
    (let* ((file (or (smtpmail-native-load--find)
                     (smtpmail-native-load--missing)))
           (version (smtpmail-native-load--version-of file)))
      (unless (equal version smtpmail-native-load-version)
        (smtpmail-native-load--stale version (abbreviate-file-name file)))
      (module-load file)))
  (unless (equal (smtpmail-native-module-version) smtpmail-native-load-version)
    (smtpmail-native-load--stale (smtpmail-native-module-version) "in use"))
  t)

(provide 'smtpmail-native-load)
;;; smtpmail-native-load.el ends here
