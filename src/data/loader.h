#ifndef DML_DATA_LOADER_H
#define DML_DATA_LOADER_H

#include "data/dataset.h"
#include "data/transform.h"

/* Decodes and transforms images on a pool of threads ahead of the network. What image i of epoch e
 * looks like depends on (seed, e, position) alone, never on the number of threads. */
struct dml_loader;

struct dml_loader_options {
    const struct dml_part *part;
    struct dml_transform transform; /* train or evaluation, sizes */
    size_t batch_size;
    int threads; /* --kernels */
    uint64_t seed;
    size_t ahead; /* batches to prepare in advance; 0: as the loader thinks best */
    char *cache;  /* "none", "memory" or a file; NULL is none */
};

/* A batch handed out; belongs to the loader until released. */
struct dml_loaded {
    size_t n;
    int height, width;
    const uint8_t *pixels;   /* (n, height, width, 3) RGB */
    const int32_t *labels;   /* (n) */
    const uint32_t *indices; /* (n) images of the part; a replaced image's replacement */
};

enum dml_status dml_loader_open(const struct dml_loader_options *options, struct dml_loader **out);
void dml_loader_close(struct dml_loader *loader); /* never blocks on a producer */

/* Starts a pass over `count` images in the given order, in batches of batch_size (the last may be
 * smaller). `indices` is copied. NULL: all images in order. Ends a pass that is under way. */
enum dml_status dml_loader_start(struct dml_loader *loader, uint64_t epoch, const uint32_t *indices,
                                 size_t count);

/* The next batch, in order; *out is NULL behind the last. Release it before taking more than
 * two. */
enum dml_status dml_loader_next(struct dml_loader *loader, const struct dml_loaded **out);
void dml_loader_release(struct dml_loader *loader, const struct dml_loaded *batch);

/* Images that could not be read and were replaced by another of their class, so far. Each is
 * reported once on stderr. */
size_t dml_loader_replaced(const struct dml_loader *loader);

#endif
