#include "data/image.h"
#include "fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_PIXELS = 1 << 18 };

/* All pixels, and those of a rectangle inside, of JPEG and PNG files. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct dml_reader *reader;
    const char *path = fuzz_file(data, size);
    int width, height;
    static unsigned sum; /* so that every pixel is read */
    if (!reader && dml_reader_new(&reader))
        abort();
    dml_reader_limit(reader, MOST_PIXELS);
    for (int part = 0; part < 2; part++) {
        struct dml_pixels pixels = {.stride = 0};
        if (dml_reader_open(reader, path, &width, &height))
            continue;
        if (width < 1 || height < 1 || (int64_t)width * height > MOST_PIXELS)
            abort();
        struct dml_rect wanted = {0, 0, width, height};
        if (part)
            wanted = (struct dml_rect){width / 3, height / 3, (width + 1) / 2, (height + 1) / 2};
        if (dml_reader_decode(reader, wanted, &pixels) == DML_OK) {
            const struct dml_rect *held = &pixels.rect;
            if (held->left > wanted.left || held->top > wanted.top ||
                held->left + held->width < wanted.left + wanted.width ||
                held->top + held->height < wanted.top + wanted.height)
                abort();
            for (int y = 0; y < held->height; y++)
                for (int x = 0; x < 3 * held->width; x++)
                    sum += pixels.data[(size_t)y * pixels.stride + (size_t)x];
            const char *flaw = dml_reader_flaw(reader);
            sum += flaw ? (unsigned)*flaw : 0;
        }
        dml_pixels_free(&pixels);
    }
    dml_reader_check(reader, path, NULL);
    return sum > 0 && data == NULL;
}
