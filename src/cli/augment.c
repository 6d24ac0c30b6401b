#include "cli/cli.h"

#include "base/memory.h"
#include "data/pipeline.h"
#include "data/png_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dml augment IMAGE [FLAGS]\n"
    "\n"
    "Draws a sheet of what the network would see of the image: its evaluation view first, then\n"
    "random views as training would draw them. What random_erasing sets to 0 is shown in\n"
    "ImageNet's mean colour.\n"
    "\n"
    "  dml augment photo.jpg --transforms 'random_resized_crop flip rand_augment random_erasing'\n";

struct options {
    char *out;
    int64_t rows, columns, seed, side;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"out", DML_PARAM_STRING, AT(out), "augment.png", .help = "PNG file to write."},
    {"rows", DML_PARAM_INT, AT(rows), "4", 1, 100, .help = "Rows of the sheet."},
    {"columns", DML_PARAM_INT, AT(columns), "6", 1, 100, .help = "Columns of the sheet."},
    {"seed", DML_PARAM_INT, AT(seed), "1", 0, 1e15, .help = "Seed of the views."},
    {"side", DML_PARAM_INT, AT(side), "224", 1, 4096,
     .help = "Side of the backbone's own input: 224, googlenet 227."},
};
static const struct dml_param_table table = DML_PARAM_TABLE("Sheet", struct options, params);

enum { GAP = 6 };

/* Those flags of data sets that shape images. */
static struct dml_param shown[64];
static struct dml_param_table image_table(void) {
    size_t count = dml_param_table_select(&dml_dataset_params, DML_PARAM_IMAGES, shown,
                                          sizeof shown / sizeof *shown);
    return (struct dml_param_table){.title = "Images",
                                    .options_size = sizeof(struct dml_dataset_options),
                                    .params = shown,
                                    .count = count};
}

static void paint(uint8_t *tile, int side, struct dml_rect rect) {
    static const uint8_t mean[3] = {124, 116, 104};
    for (int y = rect.top; rect.width > 0 && y < rect.top + rect.height; y++)
        for (int x = rect.left; x < rect.left + rect.width; x++)
            memcpy(tile + ((size_t)y * (size_t)side + (size_t)x) * 3, mean, 3);
}

/* Draws one view at its place in the sheet. */
static enum dml_status place(struct dml_transformer *transformer, const char *image,
                             const struct dml_transforms *transforms, const struct options *o,
                             int64_t number, uint8_t *tile, uint8_t *sheet) {
    struct dml_rng rng = dml_rng_make((uint64_t)o->seed, DML_PURPOSE_AUGMENT, 0, (uint64_t)number);
    const struct dml_transform *transform =
        number ? &transforms->training : &transforms->evaluation;
    size_t side = (size_t)transform->crop, cell = side + GAP;
    size_t width = (size_t)o->columns * cell + GAP;
    enum dml_status status =
        dml_transform_file(transformer, transform, image, NULL, number ? &rng : NULL, tile);
    if (status)
        return status;
    paint(tile, transform->crop, transformer->erased);
    size_t left = GAP + (size_t)(number % o->columns) * cell;
    size_t top = GAP + (size_t)(number / o->columns) * cell;
    for (size_t y = 0; y < side; y++)
        memcpy(sheet + ((top + y) * width + left) * 3, tile + y * side * 3, side * 3);
    return DML_OK;
}

static enum dml_status draw(const char *image, const struct dml_transforms *transforms,
                            int64_t max_pixels, const struct options *o) {
    size_t cell = (size_t)transforms->training.crop + GAP;
    size_t width = (size_t)o->columns * cell + GAP, height = (size_t)o->rows * cell + GAP;
    uint8_t *sheet = dml_alloc(width * height, 3), *tile = dml_alloc(cell * cell, 3);
    struct dml_transformer transformer;
    enum dml_status status = sheet && tile ? dml_transformer_init(&transformer) : DML_ERROR_MEMORY;
    if (!status) {
        dml_reader_limit(transformer.reader, max_pixels);
        memset(sheet, 255, width * height * 3);
        for (int64_t i = 0; !status && i < o->rows * o->columns; i++)
            status = place(&transformer, image, transforms, o, i, tile, sheet);
        if (!status)
            status = dml_png_write(o->out, sheet, (int)width, (int)height);
        dml_transformer_free(&transformer);
    }
    free(sheet);
    free(tile);
    if (!status)
        dml_cli_print("%s: the evaluation view and %lld training views of %s\n", o->out,
                      (long long)(o->rows * o->columns - 1), image);
    return status;
}

static enum dml_status run(const char *image, const struct dml_dataset_options *data,
                           const struct options *o) {
    struct dml_transforms transforms;
    enum dml_status status = dml_transforms_open(data, (int)o->side, &transforms);
    if (status)
        return status;
    status = draw(image, &transforms, data->max_image_pixels, o);
    dml_transforms_close(&transforms);
    return status;
}

int dml_augment_main(int argc, char **argv) {
    const struct dml_param_table images = image_table();
    struct dml_params *all = NULL;
    bool help = dml_cli_wants_help(argc, argv);
    enum dml_status status = dml_params_new(&all);
    if (!status)
        status = dml_params_add(all, &images);
    if (!status)
        status = dml_params_add(all, &table);
    if (!status && help) {
        fputs(usage, stdout);
        dml_params_help(all, stdout);
    } else if (!status && (argc < 2 || argv[1][0] == '-')) {
        status = dml_fail(DML_ERROR_USAGE, "an image comes first (dml augment --help)");
    } else if (!status) {
        status = dml_params_parse(all, argc - 2, argv + 2);
        if (!status)
            status =
                run(argv[1], dml_params_options(all, &images), dml_params_options(all, &table));
    }
    dml_params_free(all);
    return dml_cli_finish("augment", status);
}
