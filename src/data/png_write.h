#ifndef DML_DATA_PNG_WRITE_H
#define DML_DATA_PNG_WRITE_H

#include "dml/error.h"

#include <stdint.h>

/* Writes (height, width, 3) RGB as a PNG file, whole or not at all. */
enum dml_status dml_png_write(const char *path, const uint8_t *pixels, int width, int height);

#endif
