#include "tracking/contact_sheet.h"

#include "base/memory.h"
#include "data/image.h"
#include "data/png_write.h"
#include "data/resize.h"
#include "dml/rng.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pixels: a tile with its frame, what lies between tiles, and between a query and its row. */
enum { TILE = 128, FRAME = 6, GAP = 8, QUERY_GAP = 20, COLUMNS = DML_SHEET_NEAREST + 1 };
enum { BOX = TILE + 2 * FRAME, WIDTH = COLUMNS * BOX + COLUMNS * GAP + QUERY_GAP };

struct sheet {
    uint8_t *pixels; /* (height, WIDTH, 3) */
    int height;
    struct dml_reader *reader;
    struct dml_pixels image;
    struct dml_resizer resizer;
};

static const uint8_t white[3] = {255, 255, 255}, grey[3] = {150, 150, 150}, dark[3] = {60, 60, 60},
                     green[3] = {34, 160, 60}, red[3] = {210, 40, 40};

static void fill(struct sheet *sheet, int left, int top, int width, int height,
                 const uint8_t color[3]) {
    for (int y = top; y < top + height; y++)
        for (int x = left; x < left + width; x++)
            memcpy(sheet->pixels + ((size_t)y * WIDTH + (size_t)x) * 3, color, 3);
}

/* The largest square in the middle of an image, scaled to a tile. */
static enum dml_status read_tile(struct sheet *sheet, const struct dml_part *part, size_t image,
                                 uint8_t *tile) {
    int width, height;
    enum dml_status status = dml_reader_open_box(sheet->reader, part->paths[image],
                                                 dml_part_box(part, image), &width, &height);
    if (status)
        return status;
    int side = width < height ? width : height;
    struct dml_scaling scaling = {
        .box = {(width - side) / 2, (height - side) / 2, side, side},
        .width = TILE,
        .height = TILE,
        .part = {0, 0, TILE, TILE},
    };
    status = dml_reader_decode(sheet->reader, dml_scaling_needs(&scaling), &sheet->image);
    return status ? status : dml_resize(&sheet->resizer, &scaling, &sheet->image, tile);
}

/* An image that cannot be read is a grey tile. */
static enum dml_status place(struct sheet *sheet, int row, int column, const struct dml_part *part,
                             size_t image, const uint8_t frame[3]) {
    uint8_t tile[TILE * TILE * 3];
    int left = GAP / 2 + column * (BOX + GAP) + (column > 0 ? QUERY_GAP : 0);
    int top = GAP / 2 + row * (BOX + GAP);
    fill(sheet, left, top, BOX, BOX, frame);
    enum dml_status status = read_tile(sheet, part, image, tile);
    bool unreadable = status == DML_ERROR_INPUT || status == DML_ERROR_IO;
    if (unreadable)
        fill(sheet, left + FRAME, top + FRAME, TILE, TILE, grey);
    for (int y = 0; !status && y < TILE; y++)
        memcpy(sheet->pixels + ((size_t)(top + FRAME + y) * WIDTH + (size_t)(left + FRAME)) * 3,
               tile + (size_t)y * TILE * 3, TILE * 3);
    return unreadable ? DML_OK : status;
}

/* The gallery's nearest images to `query`, nearest first; returns how many there are. */
static size_t find_nearest(const struct dml_part *part, const float *embeddings, size_t dim,
                           size_t query, size_t nearest[DML_SHEET_NEAREST]) {
    double distances[DML_SHEET_NEAREST];
    size_t count = 0;
    for (size_t i = 0; i < part->images; i++) {
        if (i == query || (part->is_gallery && !part->is_gallery[i]))
            continue;
        double distance = dml_distance2(embeddings + query * dim, embeddings + i * dim, dim);
        size_t at = count < DML_SHEET_NEAREST ? count++ : DML_SHEET_NEAREST;
        for (; at > 0 && distance < distances[at - 1]; at--)
            if (at < DML_SHEET_NEAREST) {
                distances[at] = distances[at - 1];
                nearest[at] = nearest[at - 1];
            }
        if (at < DML_SHEET_NEAREST) {
            distances[at] = distance;
            nearest[at] = i;
        }
    }
    return count;
}

/* Draws images to show among the queries; returns how many. `queries` has DML_SHEET_QUERIES. */
static enum dml_status choose(const struct dml_part *part, uint64_t seed, size_t *queries,
                              size_t *count) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, 0x53484545 /* "SHEE" */, 0);
    size_t *allowed = dml_alloc(part->images, sizeof *allowed), n = 0;
    uint64_t drawn[DML_SHEET_QUERIES];
    if (!allowed)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < part->images; i++)
        if (!part->is_query || part->is_query[i])
            allowed[n++] = i;
    *count = n < DML_SHEET_QUERIES ? n : DML_SHEET_QUERIES;
    dml_rng_distinct(&rng, n, *count, drawn);
    for (size_t i = 0; i < *count; i++)
        queries[i] = allowed[drawn[i]];
    free(allowed);
    return DML_OK;
}

static enum dml_status draw_row(struct sheet *sheet, const struct dml_part *part,
                                const float *embeddings, size_t dim, int row, size_t query) {
    size_t nearest[DML_SHEET_NEAREST];
    size_t count = find_nearest(part, embeddings, dim, query, nearest);
    enum dml_status status = place(sheet, row, 0, part, query, dark);
    for (size_t i = 0; !status && i < count; i++)
        status = place(sheet, row, (int)i + 1, part, nearest[i],
                       part->labels[nearest[i]] == part->labels[query] ? green : red);
    return status;
}

enum dml_status dml_contact_sheet_write(const char *path, const struct dml_part *part,
                                        const float *embeddings, size_t dim, uint64_t seed) {
    size_t queries[DML_SHEET_QUERIES], count;
    struct sheet sheet = {0};
    if (part->images < 2)
        return dml_fail(DML_ERROR_INPUT, "%s: needs at least 2 images, and there are %zu", path,
                        part->images);
    enum dml_status status = choose(part, seed, queries, &count);
    if (!status)
        status = dml_reader_new(&sheet.reader);
    if (status)
        return status;
    dml_reader_limit(sheet.reader, part->max_pixels);
    sheet.height = (int)count * (BOX + GAP);
    sheet.pixels = dml_alloc((size_t)sheet.height * WIDTH, 3);
    if (sheet.pixels) {
        fill(&sheet, 0, 0, WIDTH, sheet.height, white);
        for (size_t i = 0; !status && i < count; i++)
            status = draw_row(&sheet, part, embeddings, dim, (int)i, queries[i]);
        if (!status)
            status = dml_png_write(path, sheet.pixels, WIDTH, sheet.height);
    } else {
        status = DML_ERROR_MEMORY;
    }
    dml_reader_free(sheet.reader);
    dml_pixels_free(&sheet.image);
    dml_resizer_free(&sheet.resizer);
    free(sheet.pixels);
    return status;
}
