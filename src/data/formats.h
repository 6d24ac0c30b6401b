#ifndef DML_DATA_FORMATS_H
#define DML_DATA_FORMATS_H

#include "data/image.h"

/* One decoder per file format, for image.c alone. `problem` gets text that goes after "path: " when
 * DML_ERROR_INPUT is returned; it is valid until the decoder's next call. */

/* What a header says. */
struct format_header {
    int width, height;
    size_t least_bytes; /* a whole file of these dimensions cannot be smaller */
    size_t working;     /* bytes that decoding takes besides the pixels asked for */
    bool starved;       /* on DML_ERROR_INPUT: the header goes on after the bytes given */
};

struct jpeg_decoder;
struct png_decoder;

struct jpeg_decoder *jpeg_decoder_new(void);
void jpeg_decoder_free(struct jpeg_decoder *decoder);

/* The bytes must stay valid until the decoder is used for others. */
enum dml_status jpeg_decoder_open(struct jpeg_decoder *decoder, const uint8_t *bytes, size_t size,
                                  struct format_header *out, const char **problem);
enum dml_status jpeg_decoder_decode(struct jpeg_decoder *decoder, struct dml_rect wanted,
                                    struct dml_pixels *out, const char **problem);
/* What libjpeg first said about corrupt data in what was decoded since the file was opened, or
 * NULL. */
const char *jpeg_decoder_flaw(const struct jpeg_decoder *decoder);

struct png_decoder *png_decoder_new(void);
void png_decoder_free(struct png_decoder *decoder);
enum dml_status png_decoder_open(struct png_decoder *decoder, const uint8_t *bytes, size_t size,
                                 struct format_header *out, const char **problem);
enum dml_status png_decoder_decode(struct png_decoder *decoder, struct dml_rect wanted,
                                   struct dml_pixels *out, const char **problem);

#endif
