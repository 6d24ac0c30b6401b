#ifndef TESTS_SUPPORT_LOADING_H
#define TESTS_SUPPORT_LOADING_H

#include "data/dataset.h"
#include "data/loader.h"

/* What tests of the loader share. */

enum { CLASSES = 6, PER_CLASS = 4, SIDE = 32, MOST = 64 };

/* A part with images of different sizes, JPEG and PNG, from scratch. */
void make_part(struct dml_part *part);
void free_part(struct dml_part *part);

/* Batches of 5 images of SIDE pixels. */
struct dml_loader_options options_of(const struct dml_part *part, bool training, int threads);

/* Everything a pass hands out, one image after the other. */
struct pass {
    size_t count;
    uint8_t pixels[MOST][SIDE * SIDE * 3];
    int32_t labels[MOST];
    uint32_t indices[MOST];
    struct dml_rect erased[MOST];
};

void run_pass(struct dml_loader *loader, uint64_t epoch, const uint32_t *order, size_t count,
              size_t batch_size, struct pass *out);
/* All images of the part, by a loader of its own. */
void pass_with(const struct dml_loader_options *options, uint64_t epoch, struct pass *out);
void assert_same(const struct pass *a, const struct pass *b);

#endif
