#include "data/png_write.h"

#include "base/files.h"

#include <png.h>
#include <setjmp.h>
#include <stddef.h>

/* In a stack frame of its own, for libpng's longjmp. */
static enum dml_status write_pixels(png_structp png, png_infop info, FILE *file,
                                    const uint8_t *pixels, int width, int height) {
    if (setjmp(png_jmpbuf(png)))
        return DML_ERROR_IO;
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (size_t y = 0; y < (size_t)height; y++)
        png_write_row(png, pixels + y * (size_t)width * 3);
    png_write_end(png, NULL);
    return DML_OK;
}

static void on_error(png_structp png, png_const_charp text) {
    (void)text;
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

enum dml_status dml_png_write(const char *path, const uint8_t *pixels, int width, int height) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    png_infop info = NULL;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_error, on_warning);
    if (png)
        info = png_create_info_struct(png);
    if (!info)
        status = dml_fail(DML_ERROR_MEMORY, "%s: out of memory", path);
    else if (write_pixels(png, info, output.file, pixels, width, height) != DML_OK)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be written", path);
    png_destroy_write_struct(&png, &info);
    if (status)
        dml_output_discard(&output);
    else
        status = dml_output_commit(&output);
    return status;
}
