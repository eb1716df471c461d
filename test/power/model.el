;;; model.el --- What is left of a directory when the power fails  -*- lexical-binding: t; -*-
;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;; A record of test/c/recorder.c is a list of changes.  A change of a name is
;; safe when the directory of the name has been synced after it, content when
;; the file has been.  A loss of power may lose any of the others: all, the last
;; ones (a journal), a single one, or all but one (a file system without order);
;; and what is not safe of a content may be missing, cut in half, or zeros.
;;
;; A tree is an alist of (NAME . CONTENT), CONTENT being t for a directory.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)

(cl-defstruct (model-change (:copier nil))
  "A change of a name."
  operation inode name to
  directory ; inode of the directory that must be synced
  safe)

(cl-defstruct (model (:copier nil))
  "Files while a record goes on."
  (changes nil) ; of names, the last one first
  (contents (make-hash-table)) ; inode -> (CONTENT . SAFE-CONTENT)
  (directories (make-hash-table :test #'equal))) ; name -> inode

(defun model--parent (name)
  "Return the directory of NAME."
  (if (string-match "\\`\\(.*\\)/[^/]*\\'" name) (match-string 1 name) "."))

(defun model--octets (hex)
  "Return the octets that HEX stands for."
  (apply #'unibyte-string
         (mapcar (lambda (pair) (string-to-number pair 16))
                 (seq-partition hex 2))))

(defun model--put (model inode content)
  "Let CONTENT be that of the file INODE of MODEL, not safe yet."
  (let ((old (gethash inode (model-contents model))))
    (puthash inode (cons content (cdr old)) (model-contents model))))

(defun model--write (model inode offset octets)
  "Let OCTETS stand at OFFSET of the file INODE of MODEL."
  (let ((old (or (car (gethash inode (model-contents model))) "")))
    (model--put model inode
                (concat (substring old 0 (min offset (length old)))
                        (make-string (max 0 (- offset (length old))) 0)
                        octets
                        (and (> (length old) (+ offset (length octets)))
                             (substring old (+ offset (length octets))))))))

(defun model--sync (model inode)
  "Make INODE of MODEL, a file or directory, safe."
  (let ((content (gethash inode (model-contents model))))
    (if content
        (puthash inode (cons (car content) (car content))
                 (model-contents model))
      (dolist (change (model-changes model))
        (when (eql (model-change-directory change) inode)
          (setf (model-change-safe change) t)
          ;; What a safe name leads to was made before.
          (when (eq (model-change-operation change) 'rename)
            (dolist (made (model-changes model))
              (when (and (eql (model-change-inode made)
                              (model-change-inode change))
                         (memq (model-change-operation made) '(create mkdir)))
                (setf (model-change-safe made) t)))))))))

(defun model--name (model operation inode name to)
  "Let OPERATION happen to INODE of MODEL, called NAME; TO is a new name."
  (let ((directories (model-directories model)))
    (push (make-model-change
           :operation operation :inode inode :name name :to to
           :directory (gethash (model--parent (or to name)) directories))
          (model-changes model))
    (pcase operation
      ('mkdir (puthash name inode directories)
              ;; A number serves again when its file is gone.
              (remhash inode (model-contents model)))
      ('rename (when (eql (gethash name directories) inode)
                 (remhash name directories)
                 (puthash to inode directories))))))

(defun model-apply (model event)
  "Let EVENT of a record happen in MODEL."
  (pcase event
    (`(,(and operation (or 'create 'mkdir 'unlink 'rmdir 'rename))
       ,inode ,name . ,rest)
     (when (eq operation 'create)
       (puthash inode (cons "" nil) (model-contents model)))
     (model--name model operation inode name (car rest)))
    (`(write ,inode ,_ ,offset ,hex)
     (model--write model inode (string-to-number offset) (model--octets hex)))
    (`(truncate ,inode ,_ ,length)
     (model--put model inode
                 (seq-take (or (car (gethash inode (model-contents model))) "")
                           (string-to-number length))))
    (`(sync ,inode ,_) (model--sync model inode))))

;;;; States

(defun model--replay (model lost)
  "Return the tree of MODEL when the changes LOST have not happened.
Its contents are inodes, t for a directory."
  (let ((tree (make-hash-table :test #'equal)))
    (puthash "." t tree)
    (dolist (change (reverse (model-changes model)))
      (unless (memq change lost)
        (let ((name (model-change-name change))
              (inode (model-change-inode change)))
          (pcase (model-change-operation change)
            ('create (when (gethash (model--parent name) tree)
                       (puthash name inode tree)))
            ('mkdir (when (or (equal name ".")
                              (gethash (model--parent name) tree))
                      (puthash name t tree)))
            ('unlink (remhash name tree))
            ;; What was in it is gone with it, in whatever order.
            ('rmdir (mapc (lambda (name) (remhash name tree))
                          (model--below tree name)))
            ('rename (model--move tree name (model-change-to change)))))))
    tree))

(defun model--below (tree name)
  "Return NAME and the names below it in TREE, a hash table."
  (seq-filter (lambda (one)
                (or (equal one name) (string-prefix-p (concat name "/") one)))
              (hash-table-keys tree)))

(defun model--move (tree from to)
  "Rename FROM to TO in TREE, a hash table, with all that is in it.
Where the directory of TO is lost, it is lost, too."
  (let ((there (gethash (model--parent to) tree)))
    (dolist (name (model--below tree from))
      (when there
        (puthash (concat to (substring name (length from)))
                 (gethash name tree) tree))
      (remhash name tree))))

(defun model--content (model inode kind)
  "Return the content of INODE of MODEL, when what is not safe is KIND.
That is `whole', `empty', `half' or `zeros'."
  (pcase-let ((`(,now . ,safe) (gethash inode (model-contents model))))
    (cond ((or (equal now safe) (eq kind 'whole)) now)
          (t (let ((safe (or safe "")))
               (pcase kind
                 ('empty safe)
                 ('half (if (string-prefix-p safe now)
                            (substring now 0 (/ (+ (length safe) (length now))
                                                2))
                          safe))
                 ('zeros (concat safe
                                 (make-string (max 0 (- (length now)
                                                        (length safe)))
                                              0)))))))))

(defun model-tree (model lost kind)
  "Return the tree of MODEL without the changes LOST; KIND of content.
KIND is that of `model--content'."
  (let ((tree nil))
    (maphash (lambda (name inode)
               (push (cons name (if (eq inode t)
                                    t
                                  (model--content model inode kind)))
                     tree))
             (model--replay model lost))
    (sort tree (lambda (a b) (string< (car a) (car b))))))

(defun model-unsafe (model)
  "Return the changes of MODEL that a loss of power may lose, the last first."
  (seq-remove #'model-change-safe (model-changes model)))

(defun model-safe-tree (model)
  "Return the tree of MODEL of which nothing but what is safe is left."
  (model-tree model (model-unsafe model) 'empty))

(defconst model--alone 8
  "How many of the last changes are also lost, or kept, alone.")

(defun model-states (model)
  "Return all trees that a loss of power may leave of MODEL, each once."
  (let* ((unsafe (model-unsafe model))
         (last (seq-take unsafe model--alone))
         (losses (append
                  (list nil unsafe)
                  ;; A journal loses the last ones.
                  (cl-loop for n from 1 below (length unsafe)
                           collect (seq-take unsafe n))
                  (mapcar #'list last)
                  (mapcar (lambda (change) (remq change unsafe)) last)))
         (trees nil))
    (dolist (lost losses)
      (dolist (kind '(whole empty half zeros))
        (push (model-tree model lost kind) trees)))
    (seq-uniq trees)))

(provide 'model)
;;; model.el ends here
