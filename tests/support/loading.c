#include "support/loading.h"

#include "base/memory.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>

void make_part(struct dml_part *part) {
    *part =
        (struct dml_part){.name = "training", .images = CLASSES * PER_CLASS, .classes = CLASSES};
    part->paths = calloc(part->images, sizeof *part->paths);
    part->labels = calloc(part->images, sizeof *part->labels);
    part->class_names = calloc(part->classes, sizeof *part->class_names);
    assert_true(part->paths && part->labels && part->class_names);
    for (int c = 0; c < CLASSES; c++) {
        part->class_names[c] = dml_format("class%d", c);
        for (int i = 0; i < PER_CLASS; i++) {
            int at = c * PER_CLASS + i;
            char *name = dml_format("class%d/%d.jpg", c, i);
            part->labels[at] = c;
            part->paths[at] = strdup(scratch_jpeg(name, 24 + 7 * at, 90 - 3 * at, (unsigned)at));
            free(name);
        }
    }
}

void free_part(struct dml_part *part) {
    for (size_t i = 0; i < part->images; i++)
        free(part->paths[i]);
    for (size_t c = 0; c < part->classes; c++)
        free(part->class_names[c]);
    free(part->paths);
    free(part->labels);
    free(part->class_names);
}

struct dml_loader_options options_of(const struct dml_part *part, bool training, int threads) {
    struct dml_loader_options options = {
        .part = part, .batch_size = 5, .threads = threads, .seed = 7};
    options.transform = dml_transform_of(DML_AUGMENTATION_ADVANCED, training, 224, SIDE, 0.08);
    return options;
}

void run_pass(struct dml_loader *loader, uint64_t epoch, const uint32_t *order, size_t count,
              size_t batch_size, struct pass *out) {
    const struct dml_loaded *batch;
    out->count = 0;
    assert_ok(dml_loader_start(loader, epoch, order, count));
    for (;;) {
        assert_ok(dml_loader_next(loader, &batch));
        if (!batch)
            break;
        assert_int_equal(batch->height, SIDE);
        assert_int_equal(batch->width, SIDE);
        size_t left = count - out->count;
        assert_int_equal(batch->n, left < batch_size ? left : batch_size);
        memcpy(out->pixels[out->count], batch->pixels, batch->n * sizeof out->pixels[0]);
        memcpy(out->labels + out->count, batch->labels, batch->n * sizeof *out->labels);
        memcpy(out->indices + out->count, batch->indices, batch->n * sizeof *out->indices);
        for (size_t i = 0; i < batch->n; i++)
            out->erased[out->count + i] =
                batch->erased ? batch->erased[i] : (struct dml_rect){0, 0, 0, 0};
        out->count += batch->n;
        dml_loader_release(loader, batch);
    }
    assert_int_equal(out->count, count);
}

void assert_same(const struct pass *a, const struct pass *b) {
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->indices, b->indices, a->count * sizeof *a->indices);
    assert_memory_equal(a->labels, b->labels, a->count * sizeof *a->labels);
    assert_memory_equal(a->pixels, b->pixels, a->count * sizeof a->pixels[0]);
    assert_memory_equal(a->erased, b->erased, a->count * sizeof a->erased[0]);
}

void pass_with(const struct dml_loader_options *options, uint64_t epoch, struct pass *out) {
    struct dml_loader *loader;
    assert_ok(dml_loader_open(options, &loader));
    run_pass(loader, epoch, NULL, options->part->images, options->batch_size, out);
    dml_loader_close(loader);
}
