;;; smtpmail-native-load.el --- Find, build, check and load the module  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; Emacs can never replace a module that it has loaded, so this file looks at
;; the module's file before it loads it.  The file holds in plain text a hash of
;; the sources that it was built from.  The Lisp side computes the same hash from
;; the sources that it was installed with; an installation without sources has it
;; in the file `smtpmail-native-abi'.  So new Lisp never talks to an old module,
;; whatever their versions say.
;;
;; This file runs before anything is built, and the build itself calls it:
;; it requires nothing but its conditions.

;;; Code:

(require 'smtpmail-native-error)
(require 'smtpmail-native-options)

(declare-function compilation-start "compile"
                  (command &optional mode name-function highlight-regexp
                           continue))
(declare-function smtpmail-native-module-abi "smtpmail-native-module")
(defvar compilation-finish-functions)

(defconst smtpmail-native-load--here
  (file-name-directory (or (and load-in-progress load-file-name)
                           buffer-file-name))
  "The directory of this file.")

(defvar smtpmail-native-load-built-functions nil
  "Abnormal hook run after the module was built from within Emacs.
The functions get one argument, the name of the module's file, or nil if
the build failed.")

;;;; The sources, and their hash

(defun smtpmail-native-load--source-p (directory)
  "Return non-nil if DIRECTORY is the root of the sources."
  (and (file-exists-p (expand-file-name "module/emacs/module.c" directory))
       (file-exists-p (expand-file-name "Makefile" directory))))

(defun smtpmail-native-load--root ()
  "Return the root of the sources, a directory name, or nil.
It is the directory of this file or its parent.  Package managers that
make a directory of links (straight, elpaca) have the sources where the
links lead to."
  (let ((candidates nil)
        (real (file-truename
               (expand-file-name "smtpmail-native-load.el"
                                 smtpmail-native-load--here))))
    (dolist (directory (list smtpmail-native-load--here
                             (file-name-directory real)))
      (push directory candidates)
      (push (file-name-directory (directory-file-name directory)) candidates))
    (catch 'found
      (dolist (directory (nreverse candidates))
        (when (smtpmail-native-load--source-p directory)
          (throw 'found directory))))))

(defun smtpmail-native-load-hash (directory)
  "Return the hash of the module's sources below DIRECTORY, a string."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (let ((default-directory (expand-file-name "module/" directory)))
      (dolist (layer (directory-files default-directory nil "\\`[a-z]+\\'"))
        (when (file-directory-p layer)
          (dolist (file (directory-files layer t "\\`[^.].*\\.[ch]\\'"))
            (goto-char (point-max))
            (insert-file-contents-literally file)))))
    (substring (secure-hash 'sha256 (current-buffer)) 0 32)))

(defun smtpmail-native-load--installed ()
  "Return what `make install' has noted beside this file, or nil.
The value is (HASH DIRECTORY): the hash of the module that fits, and the
directory where it is."
  (let ((file (expand-file-name "smtpmail-native-abi"
                                smtpmail-native-load--here)))
    (when (file-readable-p file)
      (with-temp-buffer
        (insert-file-contents file nil 0 4096)
        (split-string (buffer-string) "\n" t)))))

(defun smtpmail-native-load--hash-here ()
  "Return the hash of the sources of this installation, or nil."
  (let ((root (smtpmail-native-load--root)))
    (if root
        (smtpmail-native-load-hash root)
      (car (smtpmail-native-load--installed)))))

;; Taken when the Lisp is loaded: an update of the files on disk does not change
;; what this Emacs has in memory.
(defconst smtpmail-native-load--abi (smtpmail-native-load--hash-here)
  "The hash that the module must have, or nil if it is not known.")

;;;; The module's file

(defun smtpmail-native-load--file-name ()
  "Return the name of the module's file on this system, without directory."
  (concat "smtpmail-native-module" module-file-suffix))

(defun smtpmail-native-load--build-directory ()
  "Return the directory where Emacs puts the module that it builds."
  (let ((root (smtpmail-native-load--root)))
    (file-name-as-directory
     (expand-file-name
      (cond (smtpmail-native-build-directory)
            ((and root (file-writable-p root)) root)
            (t (locate-user-emacs-file "smtpmail-native/")))))))

(defun smtpmail-native-load--files ()
  "Return the files that may be the module, the likeliest first."
  (let ((name (smtpmail-native-load--file-name))
        (root (smtpmail-native-load--root))
        (files nil))
    (dolist (directory (append (and root (list root))
                               (cdr (smtpmail-native-load--installed))
                               (list smtpmail-native-load--here
                                     (smtpmail-native-load--build-directory))
                               load-path)
                       (nreverse files))
      (let ((file (expand-file-name name directory)))
        (when (and (file-regular-p file) (not (member file files)))
          (push file files))))))

(defun smtpmail-native-load--abi-of (file)
  "Return the hash that stands in FILE, a module, or nil."
  (with-temp-buffer
    (set-buffer-multibyte nil)
    (insert-file-contents-literally file)
    (when (re-search-forward
           "smtpmail-native-module-abi=\\([0-9a-f]+\\)\0" nil t)
      (match-string 1))))

(defun smtpmail-native-load--fits-p (found)
  "Return non-nil if a module with the hash FOUND fits this Lisp."
  (and found (or (null smtpmail-native-load--abi)
                 (equal found smtpmail-native-load--abi))))

(defun smtpmail-native-load--file-state (file)
  "Return whether FILE, a module, can be used, as a list (STATE FILE)."
  (let ((found (smtpmail-native-load--abi-of file)))
    (list (cond ((smtpmail-native-load--fits-p found) 'ready)
                ((and found (equal found (smtpmail-native-load--hash-here)))
                 'restart)
                (t 'stale))
          file)))

(defun smtpmail-native-load-loaded-p ()
  "Return non-nil if the module is loaded and fits this Lisp.
That is asked each time: an update of the package loads new Lisp into an
Emacs that has the old module."
  (and (featurep 'smtpmail-native-module)
       (fboundp 'smtpmail-native-module-abi)
       (smtpmail-native-load--fits-p (smtpmail-native-module-abi))))

(defun smtpmail-native-load-state ()
  "Return whether the module can be used, a list (STATE FILE).
STATE is one of these symbols:
`loaded'       it is loaded;
`ready'        FILE can be loaded;
`missing'      it has not been built;
`stale'        FILE was built from other sources;
`restart'      module and sources were updated after this Emacs had
               loaded its Lisp or the module;
`unsupported'  this Emacs cannot load modules.
`smtpmail-native-load-try' may also find it `broken'."
  (cond ((featurep 'smtpmail-native-module)
         (list (if (smtpmail-native-load-loaded-p) 'loaded 'restart)))
        ((null module-file-suffix) (list 'unsupported))
        (t (let ((states (mapcar #'smtpmail-native-load--file-state
                                 (smtpmail-native-load--files))))
             (or (assq 'ready states) (car states) (list 'missing))))))

;;;; Building

(defun smtpmail-native-load--make-command ()
  "Return the command that builds the module, a list of strings.
Signal `smtpmail-native-usage-error' if there are no sources."
  (let ((root (or (smtpmail-native-load--root)
                  (smtpmail-native-error-signal
                   'smtpmail-native-usage-error
                   "Cannot build the module: this installation has no sources; \
the module must come from the distribution that installed it")))
        (target (smtpmail-native-load--build-directory)))
    (append (list "make" "-C" (directory-file-name (expand-file-name root))
                  ;; The build installs nothing: that is for the user to do.
                  "INSTALL=no"
                  (concat "EMACS=" (expand-file-name invocation-name
                                                     invocation-directory)))
            (unless (file-equal-p root target)
              (list (concat "BUILD=" (expand-file-name "build" target))
                    (concat "MODULE="
                            (expand-file-name (smtpmail-native-load--file-name)
                                              target))))
            '("module"))))

(defun smtpmail-native-load--built (buffer good)
  "Tell how the build that BUFFER shows has ended; GOOD non-nil means well."
  (let ((state (and good (smtpmail-native-load-state))))
    (pcase (car state)
      ('ready (message "Building smtpmail-native...done"))
      ((or 'loaded 'restart)
       (message "Building smtpmail-native...done; restart Emacs to use it"))
      (_ (message "Cannot build smtpmail-native; see the buffer %s"
                  (buffer-name buffer))))
    (run-hook-with-args 'smtpmail-native-load-built-functions
                        (and (memq (car state) '(ready loaded restart))
                             (or (cadr state) t)))))

;;;###autoload
(defun smtpmail-native-build-module ()
  "Build the module in the background and return the build's buffer.
The buffer shows the compiler's output.  When the build is done, the
functions of `smtpmail-native-load-built-functions' are called.
Nothing is installed: if a library is missing, the buffer names the
command that installs it.
Signal `smtpmail-native-usage-error' if there are no sources."
  (interactive)
  (require 'compile)
  (let* ((command (mapconcat #'shell-quote-argument
                             (smtpmail-native-load--make-command) " "))
         (target (smtpmail-native-load--build-directory))
         (default-directory (progn (make-directory target t) target))
         (buffer (compilation-start command nil
                                    (lambda (_mode)
                                      "*smtpmail-native build*"))))
    (with-current-buffer buffer
      (add-hook 'compilation-finish-functions
                (lambda (buffer outcome)
                  (smtpmail-native-load--built
                   buffer (string-prefix-p "finished" outcome)))
                nil t))
    (message "Building smtpmail-native...")
    buffer))

;;;; Loading

(defun smtpmail-native-load--how ()
  "Return the words that say how to build the module."
  (let ((root (smtpmail-native-load--root)))
    (if root
        (format "type: make -C %s"
                (abbreviate-file-name (directory-file-name root)))
      "it must come from the distribution that installed this package")))

(defun smtpmail-native-load-problem (state)
  "Return what is wrong in STATE and what to do, a string, or nil.
STATE is a value of `smtpmail-native-load-state'."
  (let ((file (and (cadr state) (abbreviate-file-name (cadr state)))))
    (pcase (car state)
      ('missing (format "The module of smtpmail-native is not built; %s"
                        (smtpmail-native-load--how)))
      ('stale (format "The module %s was built from other sources; to \
rebuild it, %s" file (smtpmail-native-load--how)))
      ('restart "smtpmail-native was updated while this Emacs was running; \
restart Emacs")
      ('unsupported "This Emacs was built without dynamic modules; \
smtpmail-native needs them")
      ('broken (format "Emacs cannot load the module %s: %s" file
                       (nth 2 state))))))

(defun smtpmail-native-load-available-p ()
  "Return non-nil if the module is loaded or can be without being built."
  (and (memq (car (smtpmail-native-load-state)) '(loaded ready)) t))

(defun smtpmail-native-load--building-p ()
  "Return non-nil while Emacs builds the module."
  (let ((buffer (get-buffer "*smtpmail-native build*")))
    (and buffer (process-live-p (get-buffer-process buffer)))))

(defun smtpmail-native-load-offer-build (state)
  "Offer to build the module, whose STATE is not good, and begin if agreed.
Return non-nil if a build is under way.  Do not ask in batch mode, in a
timer, or where there are no sources."
  (and (memq (car state) '(missing stale))
       (not noninteractive)
       (smtpmail-native-load--root)
       (or (smtpmail-native-load--building-p)
           (and (not (bound-and-true-p inhibit-interaction))
                (y-or-n-p (if (eq (car state) 'missing)
                              "The module of smtpmail-native is not built.  \
Build it now? "
                            "The module of smtpmail-native is outdated.  \
Rebuild it now? "))
                (smtpmail-native-build-module)))))

(defun smtpmail-native-load-try ()
  "Load the module if it can be used, and is not loaded yet; ask nothing.
Return a value of `smtpmail-native-load-state', with `loaded' if all is
well; or (broken FILE REASON) if Emacs cannot load FILE."
  (let ((state (smtpmail-native-load-state)))
    (if (not (eq (car state) 'ready))
        state
      (condition-case err
          (progn
            (module-load (cadr state))
            (smtpmail-native-load-state))
        (error (list 'broken (cadr state) (error-message-string err)))))))

(defun smtpmail-native-load ()
  "Load the module, and return t; do nothing if it is loaded already.
Signal `smtpmail-native-module-error' if there is none that fits; where a
question can be answered, offer to build it."
  (unless (smtpmail-native-load-loaded-p)
    (let ((state (smtpmail-native-load-try)))
      (unless (eq (car state) 'loaded)
        (smtpmail-native-error-signal
         'smtpmail-native-module-error
         (if (smtpmail-native-load-offer-build state)
             "The module of smtpmail-native is being built; try again when it \
is done"
           (smtpmail-native-load-problem state))))))
  t)

(provide 'smtpmail-native-load)
;;; smtpmail-native-load.el ends here
