/* SPDX-License-Identifier: GPL-3.0-or-later */
/* folder.h - a folder for the files of a test.
   The program makes it by mkdtemp(folder) and removes it, by certs_remove if
   nothing in it is a folder.  For one file of a program.  */
#ifndef FOLDER_H
#define FOLDER_H

#include <stdio.h>
#include <string.h>

static char folder[] = "/tmp/smtpmail-native-XXXXXX";

/* The path of NAME in it, which the caller frees.  */
static inline char *in_folder(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return strdup(path);
}

#endif
