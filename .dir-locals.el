;; SPDX-License-Identifier: GPL-3.0-or-later
((nil . ((indent-tabs-mode . nil)
         (fill-column . 79)))
 (makefile-mode . ((indent-tabs-mode . t)))
 (c-mode . ((c-basic-offset . 2))))
