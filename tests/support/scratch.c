#include "support/scratch.h"

#include "support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <ftw.h>
#include <unistd.h>

static char root[256];

void scratch_open(void) {
    const char *folder = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/dml-test-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void scratch_close(void) {
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int scratch_setup(void **state) {
    (void)state;
    scratch_open();
    return 0;
}

int scratch_teardown(void **state) {
    (void)state;
    scratch_close();
    return 0;
}

static char *next_path(void) {
    static char paths[9][4096];
    static int at;
    at = (at + 1) % 9;
    return paths[at];
}

const char *scratch_path(const char *format, ...) {
    char *path = next_path();
    int used = snprintf(path, 4096, "%s/", root);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + used, 4096 - (size_t)used, format, arguments);
    va_end(arguments);
    return path;
}

static const char *place_for(const char *relative) {
    const char *path = scratch_path("%s", relative);
    char *folder = strdup(path);
    assert_non_null(folder);
    *strrchr(folder, '/') = 0;
    assert_ok(dml_make_folders(folder));
    free(folder);
    return path;
}

const char *scratch_write(const char *relative, const void *data, size_t size) {
    const char *path = place_for(relative);
    FILE *file = fopen(path, "wb"); /* not dml_write_file: nothing here needs to be synced */
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
    return path;
}

const char *scratch_text(const char *relative, const char *text) {
    return scratch_write(relative, text, strlen(text));
}

const char *scratch_copy(const char *relative, const char *from, size_t size) {
    char *data;
    size_t whole;
    assert_ok(dml_read_file(from, &data, &whole));
    const char *path = scratch_write(relative, data, size && size < whole ? size : whole);
    free(data);
    return path;
}

const char *scratch_corrupt(const char *relative, const char *from, size_t count, bool markers) {
    char *data;
    size_t size;
    assert_ok(dml_read_file(from, &data, &size));
    assert_true(size > 2000 && count < size / 4);
    for (size_t i = 0; i < count; i++)
        data[size / 2 + i] = (char)(!markers ? 0 : i % 2 ? 0xD0 : 0xFF);
    const char *path = scratch_write(relative, data, size);
    free(data);
    return path;
}

const char *scratch_jpeg(const char *relative, int width, int height, unsigned seed) {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    const char *path = place_for(relative);
    FILE *file = fopen(path, "wb");
    JSAMPLE *row = malloc((size_t)width * 3);
    assert_non_null(file);
    assert_non_null(row);
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_stdio_dest(&info, file);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, 90, TRUE);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                row[3 * x + c] = (JSAMPLE)(128 + 100 * sin(0.05 * x * (c + 1) + seed) *
                                                     cos(0.07 * y + 1.3 * seed * (c + 1)));
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    free(row);
    fclose(file);
    return path;
}
