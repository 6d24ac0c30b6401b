#include "base/memory.h"
#include "data/formats.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEFLATED = 1032 }; /* bytes that one deflated byte can become */

struct png_decoder {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t size, at;
    bool ended;
    jmp_buf escape;
    struct dml_pixels scratch; /* a row, or for interlaced files all of them */
    uint8_t **rows;
    size_t row_capacity;
    bool out_of_memory;
    char message[128];
};

static void on_error(png_structp png, png_const_charp text) {
    struct png_decoder *decoder = png_get_error_ptr(png);
    snprintf(decoder->message, sizeof decoder->message, "%s",
             decoder->ended ? "is cut short" : text);
    longjmp(decoder->escape, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t count) {
    struct png_decoder *decoder = png_get_io_ptr(png);
    if (count > decoder->size - decoder->at) {
        decoder->ended = true;
        png_error(png, "is cut short");
    }
    memcpy(out, decoder->bytes + decoder->at, count);
    decoder->at += count;
}

static png_voidp allocate(png_structp png, png_alloc_size_t size) {
    struct png_decoder *decoder = png_get_mem_ptr(png);
    void *memory = malloc(size);
    decoder->out_of_memory = decoder->out_of_memory || !memory;
    return memory;
}

/* After a longjmp. An image that could be read with more memory is not a bad one. */
static enum dml_status failure(const struct png_decoder *decoder) {
    return decoder->out_of_memory ? dml_fail(DML_ERROR_MEMORY, "out of memory: decoding a PNG file")
                                  : DML_ERROR_INPUT;
}

struct png_decoder *png_decoder_new(void) {
    return dml_alloc(1, sizeof(struct png_decoder));
}

void png_decoder_free(struct png_decoder *decoder) {
    if (!decoder)
        return;
    png_destroy_read_struct(&decoder->png, &decoder->info, NULL);
    dml_pixels_free(&decoder->scratch);
    free(decoder->rows);
    free(decoder);
}

enum dml_status png_decoder_open(struct png_decoder *decoder, const uint8_t *bytes, size_t size,
                                 struct format_header *out, const char **problem) {
    decoder->bytes = bytes;
    decoder->size = size;
    decoder->at = 0;
    decoder->ended = decoder->out_of_memory = out->starved = false;
    *problem = decoder->message;
    png_destroy_read_struct(&decoder->png, &decoder->info, NULL);
    decoder->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, decoder, on_error, on_warning,
                                            decoder, allocate, NULL);
    if (decoder->png)
        decoder->info = png_create_info_struct(decoder->png);
    if (!decoder->info)
        return dml_fail(DML_ERROR_MEMORY, "out of memory: cannot start reading a PNG file");
    if (setjmp(decoder->escape)) {
        out->starved = decoder->ended;
        return failure(decoder);
    }
    png_set_read_fn(decoder->png, decoder, on_read);
    png_read_info(decoder->png, decoder->info);
    out->width = (int)png_get_image_width(decoder->png, decoder->info);
    out->height = (int)png_get_image_height(decoder->png, decoder->info);
    bool interlaced = png_get_interlace_type(decoder->png, decoder->info) != PNG_INTERLACE_NONE;
    out->working = interlaced ? (size_t)out->width * (size_t)out->height * 3 : 0;
    out->least_bytes =
        png_get_rowbytes(decoder->png, decoder->info) * (size_t)out->height / MOST_DEFLATED;
    return DML_OK;
}

static void ask_for_rgb(struct png_decoder *decoder) {
    png_structp png = decoder->png;
    int colour = png_get_color_type(png, decoder->info);
    png_set_strip_16(png);
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (!(colour & PNG_COLOR_MASK_COLOR)) {
        png_set_expand_gray_1_2_4_to_8(png);
        png_set_gray_to_rgb(png);
    }
    png_set_strip_alpha(png);
}

/* Rows come from top to bottom, or for an interlaced file in seven passes over all of them.
 * Not inlined: its variables must not live in the frame that setjmp returns to. */
__attribute__((noinline)) static enum dml_status
read_rows(struct png_decoder *decoder, struct dml_rect wanted, struct dml_pixels *out) {
    png_structp png = decoder->png;
    int width = (int)png_get_image_width(png, decoder->info);
    int height = (int)png_get_image_height(png, decoder->info);
    ask_for_rgb(decoder);
    bool interlaced = png_set_interlace_handling(png) > 1;
    png_read_update_info(png, decoder->info);
    if (png_get_rowbytes(png, decoder->info) != (size_t)width * 3) {
        strcpy(decoder->message, "is a PNG file of an unknown kind");
        return DML_ERROR_INPUT;
    }
    struct dml_rect held = {0, 0, width, interlaced ? height : 1};
    enum dml_status status = dml_pixels_reserve(&decoder->scratch, held);
    if (!status)
        status = dml_pixels_reserve(out, wanted);
    void *rows = decoder->rows;
    if (!status && interlaced)
        status = dml_grow(&rows, &decoder->row_capacity, (size_t)height, sizeof *decoder->rows);
    decoder->rows = rows;
    if (status)
        return status;
    if (interlaced) {
        for (int y = 0; y < height; y++)
            decoder->rows[y] = decoder->scratch.data + (size_t)y * decoder->scratch.stride;
        png_read_image(png, decoder->rows);
    }
    for (int y = 0; y < wanted.top + wanted.height; y++) {
        if (!interlaced)
            png_read_row(png, decoder->scratch.data, NULL);
        if (y < wanted.top)
            continue;
        const uint8_t *row = interlaced ? decoder->rows[y] : decoder->scratch.data;
        memcpy(out->data + (size_t)(y - wanted.top) * out->stride, row + (size_t)wanted.left * 3,
               (size_t)wanted.width * 3);
    }
    return DML_OK;
}

enum dml_status png_decoder_decode(struct png_decoder *decoder, struct dml_rect wanted,
                                   struct dml_pixels *out, const char **problem) {
    *problem = decoder->message;
    if (setjmp(decoder->escape))
        return failure(decoder);
    enum dml_status status = read_rows(decoder, wanted, out);
    dml_pixels_release(&decoder->scratch);
    return status;
}
