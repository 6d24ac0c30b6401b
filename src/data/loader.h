#ifndef DML_DATA_LOADER_H
#define DML_DATA_LOADER_H

#include "base/memory.h"
#include "data/dataset.h"
#include "data/transform.h"

#include <signal.h>

/* Decodes and transforms images on a pool of threads ahead of the network. What image i of epoch e
 * looks like depends on (seed, e, position) alone, never on the number of threads. */
struct dml_loader;

struct dml_loader_options {
    const struct dml_part *part;
    struct dml_transform transform; /* train or evaluation, sizes */
    size_t batch_size;
    int threads; /* --kernels */
    uint64_t seed;
    bool strict;   /* an image that cannot be read, or not wholly, is an error */
    size_t memory; /* bytes for batches, two of which are made ahead; 0: 512 MB */
    /* Where the pixels of batches lie, if it has room; all zero: ordinary memory. It must stay
     * until the loader is closed. */
    struct dml_memory_source pixels;
    char *cache;        /* "none", "memory" or a file; NULL is none */
    size_t cache_limit; /* bytes of a cache in memory; 0: while a quarter of it stays free */
    /* Not NULL: opening stops with DML_ERROR_INTERRUPTED once it is not 0 (a cache file is made
     * by opening). */
    const volatile sig_atomic_t *interrupted;
};

/* A batch handed out; belongs to the loader until released. */
struct dml_loaded {
    size_t n;
    int height, width;
    const uint8_t *pixels;   /* (n, height, width, 3) RGB */
    const int32_t *labels;   /* (n) */
    const uint32_t *indices; /* (n) images of the part; a replaced image's replacement */
    /* (n) what is 0 in the network's input (width 0: nothing); NULL where nothing ever is. */
    const struct dml_rect *erased;
};

/* Starts the threads; `options->part` must stay until the loader is closed. DML_ERROR_IO: the
 * file of a cache cannot be written at all; one that there is no space for is left out with
 * a warning. */
enum dml_status dml_loader_open(const struct dml_loader_options *options, struct dml_loader **out);
/* Producers stop after the image they are working on, whatever they wait for. */
void dml_loader_close(struct dml_loader *loader);

/* Starts a pass over `count` images in the given order, in batches of batch_size (the last may be
 * smaller). `indices` is copied. NULL: all images in order (count is the part's). Ends a pass that
 * is under way, and with it the batches that it handed out. */
enum dml_status dml_loader_start(struct dml_loader *loader, uint64_t epoch, const uint32_t *indices,
                                 size_t count);

/* The passes started from here on are parts of longer ones: their batch b has the positions from
 * `first` + b * `stride` on, which decide what images look like. A loader begins with 0 and
 * its batch size. Not during a pass. */
void dml_loader_place(struct dml_loader *loader, size_t first, size_t stride);

/* Images in every batch but the last. */
size_t dml_loader_batch_size(const struct dml_loader *loader);

/* The next batch, in order; *out is NULL after the last. Release it before taking another: there
 * may be memory for one only. DML_ERROR_INPUT: no image of a class can be read; with
 * `strict` an image cannot. */
enum dml_status dml_loader_next(struct dml_loader *loader, const struct dml_loaded **out);
void dml_loader_release(struct dml_loader *loader, const struct dml_loaded *batch);
/* The batch that comes next, if it is made already, else NULL; its images stay until it is taken
 * and released, or the pass ends. */
const struct dml_loaded *dml_loader_peek(struct dml_loader *loader);

/* Different images that could not be read and were replaced by others of their class, so far; and
 * those that were used although a part of their data is corrupt. Each is reported once, and counted
 * by the loader that reported it. */
size_t dml_loader_replaced(const struct dml_loader *loader);
size_t dml_loader_corrupt(const struct dml_loader *loader);

#endif
