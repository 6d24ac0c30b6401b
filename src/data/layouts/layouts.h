#ifndef DML_DATA_LAYOUTS_LAYOUTS_H
#define DML_DATA_LAYOUTS_LAYOUTS_H

#include "data/layout.h"

/* The layout that any folder of folders has. */
extern const struct dml_layout_kind dml_layout_folders;

/* Adds a class for each folder in `folder`; other files there are skipped. */
enum dml_status dml_folders_read(const char *folder, struct dml_class_list *classes);
/* Whether a folder holds folders with images. */
bool dml_folders_hold_images(const char *folder);

#endif
