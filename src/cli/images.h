#ifndef DML_CLI_IMAGES_H
#define DML_CLI_IMAGES_H

#include "data/dataset.h"

/* Images named on a command line, as a part that can be embedded: image files, folders (all images
 * below them, in order of their paths) and text files that list images, one path a line. An image
 * found in a folder has its own folder as its class; others share a class named "".
 * DML_ERROR_INPUT: a folder or list without images, a file that is none of these. */
enum dml_status dml_images_find(const struct dml_strings *sources, struct dml_part *out);
void dml_images_free(struct dml_part *part);

#endif
