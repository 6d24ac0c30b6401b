#ifndef DML_SAMPLERS_PLANNING_H
#define DML_SAMPLERS_PLANNING_H

#include "dml/samplers.h"

/* What the samplers share: images by class, and the loop over the batches of an epoch. */

/* Classes that have at least one image, numbered from 0 in the order of their labels. */
struct dml_classes {
    size_t count;
    uint32_t *first;    /* (count + 1) offsets into members */
    uint32_t *members;  /* (images), class after class */
    uint32_t *of_image; /* (images) number of the image's class in this list */
};

enum dml_status dml_classes_make(const struct dml_sampler_context *context,
                                 struct dml_classes *out);
void dml_classes_free(struct dml_classes *classes);

/* A random image of class number `c`. */
uint32_t dml_classes_image(const struct dml_classes *classes, size_t c, struct dml_rng *rng);

/* `count` images of one random class, drawn with replacement. */
void dml_classes_run(const struct dml_classes *classes, size_t count, struct dml_rng *rng,
                     uint32_t *out);

/* State of a sampler without anything of its own; that of others begins with it. */
struct dml_planner {
    const struct dml_sampler_context *context;
    struct dml_classes classes;
};

/* How a sampler plans one batch. A workspace is what one thread works in. */
struct dml_batch_work {
    enum dml_status (*open)(const struct dml_planner *planner,
                            void **workspace); /* NULL: none needed */
    void (*close)(void *workspace);
    enum dml_status (*batch)(const struct dml_planner *planner, const struct dml_store *store,
                             void *workspace, struct dml_rng *rng, uint32_t *indices);
};

/* Plans all batches on all cores, each from its own stream (epoch, batch). BLAS calls made inside
 * run on one thread, so that results do not depend on the number of threads. Of several failures,
 * that of the first batch is reported. */
enum dml_status dml_plan_epoch(const struct dml_batch_work *work, const struct dml_planner *planner,
                               uint64_t epoch, const struct dml_store *store, size_t batches,
                               uint32_t *indices, void (*progress)(void *data, size_t done),
                               void *data);

/* A state of `size` bytes that begins with a struct dml_planner, its rest zeroed. */
enum dml_status dml_planner_new(size_t size, const struct dml_sampler_context *context,
                                void **state);

/* The descriptors' create for a bare planner, and destroy for any state that owns nothing else. */
enum dml_status dml_planner_create(const void *options, const struct dml_sampler_context *context,
                                   void **state);
void dml_planner_destroy(void *state);

#endif
