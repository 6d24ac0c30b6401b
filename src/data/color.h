#ifndef DML_DATA_COLOR_H
#define DML_DATA_COLOR_H

#include <stddef.h>
#include <stdint.h>

/* What torchvision's ColorJitter and Grayscale do to an 8-bit RGB image through Pillow, in place
 * and bit for bit. `pixels` is (count, 3). */

/* From `from` towards `to` by `factor`, and beyond it for factors over 1. */
uint8_t dml_color_blend(int from, int to, float factor);

void dml_color_gray(uint8_t *pixels, size_t count);
void dml_color_brightness(uint8_t *pixels, size_t count, float factor);
void dml_color_contrast(uint8_t *pixels, size_t count, float factor);
void dml_color_saturation(uint8_t *pixels, size_t count, float factor);
void dml_color_hue(uint8_t *pixels, size_t count, double shift); /* -0.5 to 0.5 of a turn */

#endif
