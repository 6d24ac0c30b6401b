#ifndef DML_DATA_AUGMENT_H
#define DML_DATA_AUGMENT_H

#include "data/resize.h"

/* What RandAugment's operations do to an 8-bit RGB image (height, width, 3) through Pillow, bit for
 * bit. Those of color.h belong to them as well. */

/* Where the pixel centre (x, y) of the result comes from: (m[0] x + m[1] y + m[2],
 * m[3] x + m[4] y + m[5]). What comes from outside the image is 0. `out` is another image. */
void dml_augment_affine(const uint8_t *in, int width, int height, const double m[6],
                        enum dml_interpolation interpolation, uint8_t *out);

void dml_augment_shear_x(double by, double m[6]);
void dml_augment_shear_y(double by, double m[6]);
void dml_augment_translate(double x, double y, double m[6]);
/* About the centre, counterclockwise. */
void dml_augment_rotate(double degrees, int width, int height, double m[6]);

/* From the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13 towards the image, and beyond it for
 * factors over 1. `smooth` has room for an image. */
void dml_augment_sharpness(uint8_t *pixels, int width, int height, float factor, uint8_t *smooth);

void dml_augment_posterize(uint8_t *pixels, size_t count, int bits);        /* keeps upper bits */
void dml_augment_solarize(uint8_t *pixels, size_t count, double threshold); /* inverts from it up */
void dml_augment_invert(uint8_t *pixels, size_t count);
void dml_augment_autocontrast(uint8_t *pixels, size_t count); /* each channel to 0..255 */
void dml_augment_equalize(uint8_t *pixels, size_t count);     /* each channel's histogram */

#endif
