#ifndef DML_DATA_IMAGE_H
#define DML_DATA_IMAGE_H

#include "base/rect.h"
#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* JPEG (baseline, progressive; greyscale, YCbCr, RGB, CMYK, YCCK) and PNG (all kinds) to 8-bit
 * RGB, with the values that Pillow's convert("RGB") gives: an alpha channel is dropped, CMYK is
 * taken as Adobe writes it. Of 16-bit PNG samples the upper byte is kept. */

/* The pixels of a rectangle in an image. A zero-initialised struct is a valid empty one. */
struct dml_pixels {
    struct dml_rect rect;
    size_t stride; /* bytes from row to row */
    uint8_t *data; /* (height, width, 3) RGB; DML_PIXELS_SLACK bytes after it can be read */
    size_t capacity;
};
enum { DML_PIXELS_SLACK = 64 };

/* Makes room for `rect`, without setting any pixel; reuses what it already holds. */
enum dml_status dml_pixels_reserve(struct dml_pixels *pixels, struct dml_rect rect);
void dml_pixels_free(struct dml_pixels *pixels);
/* Frees them if they take much memory. */
void dml_pixels_release(struct dml_pixels *pixels);

/* A header that declares more pixels than a bound is refused before anything is allocated for them:
 * by default Pillow's bound (twice its MAX_IMAGE_PIXELS), at most 2^30. So a thread holds at most
 * three bytes for each pixel allowed; what progressive and interlaced files take besides is held
 * for one large file at a time, whatever the number of threads. */
enum { DML_IMAGE_PIXELS = 178956970, DML_IMAGE_MOST_PIXELS = 1 << 30 };

/* Reads image files, one after the other; keeps its buffers. Not for two threads at once. */
struct dml_reader;

enum dml_status dml_reader_new(struct dml_reader **out);
void dml_reader_free(struct dml_reader *reader);
void dml_reader_limit(struct dml_reader *reader, int64_t max_pixels); /* 0: DML_IMAGE_PIXELS */

/* Reads a file and its header. DML_ERROR_INPUT: empty, neither JPEG nor PNG, a broken header, more
 * pixels than allowed, or fewer bytes than such a file needs; DML_ERROR_IO: cannot be read. The
 * message starts with the path. */
enum dml_status dml_reader_open(struct dml_reader *reader, const char *path, int *width,
                                int *height);
/* The same where the image is a rectangle of the file: width and height are its own, and so are
 * coordinates of what is decoded. A `box` that is NULL or has no width is the whole file.
 * DML_ERROR_INPUT as well: a box that does not lie in the file's pixels. */
enum dml_status dml_reader_open_box(struct dml_reader *reader, const char *path,
                                    const struct dml_rect *box, int *width, int *height);

/* Decodes at least the rectangle `wanted` (it must lie in the image) of the file opened last;
 * call once per open. Pixels are the same as those of the whole image. DML_ERROR_INPUT: cut
 * short or broken in the part that had to be read. */
enum dml_status dml_reader_decode(struct dml_reader *reader, struct dml_rect wanted,
                                  struct dml_pixels *out);

/* What is wrong with the data that was decoded last, where the decoder could continue all the same,
 * as Pillow does: "Corrupt JPEG data: premature end of data segment". NULL: nothing showed; some
 * damage shows only if the last row was wanted. Valid until the next open. */
const char *dml_reader_flaw(const struct dml_reader *reader);

/* Looks at a file's header and end without decoding it; a file that does not end as its format
 * should is decoded to find out whether it is whole. Errors as above. */
enum dml_status dml_reader_check(struct dml_reader *reader, const char *path,
                                 const struct dml_rect *box);

#endif
