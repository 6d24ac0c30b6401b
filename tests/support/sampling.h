#ifndef TESTS_SUPPORT_SAMPLING_H
#define TESTS_SUPPORT_SAMPLING_H

#include "dml/samplers.h"
#include "support/golden.h"

/* A training set with classes of different sizes; class 0 has one image, class 3 none. Images of a
 * class lie together in the embedding space. */
struct sampling_world {
    struct dml_sampler_context context;
    struct dml_sampling_options shared; /* used by every sampler opened on the world */
    int32_t *labels;
    size_t *class_sizes;
};

/* Batches of 24, 4 images a class, 12 dimensions, 128 candidates, 4 comparisons. */
struct sampling_world sampling_world_make(size_t images, size_t classes);
void sampling_world_free(struct sampling_world *world);

const struct dml_sampler *sampling_find(const char *name);

/* Opens a sampler on the world with flags of its own, and a filled store. */
struct dml_sampling *sampling_open(struct sampling_world *world, const char *name,
                                   const char *flags);
void sampling_fill(const struct sampling_world *world, struct dml_store *store);

/* The plan of an epoch, checked to be whole and in range; freed with free(). */
uint32_t *sampling_plan(struct dml_sampling *sampling, const struct sampling_world *world,
                        uint64_t epoch);

/* Opens, plans one epoch and frees. */
uint32_t *sampling_plan_once(struct sampling_world *world, const char *name, const char *flags,
                             uint64_t epoch);

/* Asserts that creating the sampler with default flags of its own fails so, with a message that has
 * `message` in it. */
void sampling_expect_refused(struct sampling_world *world, const char *name,
                             enum dml_status expected, const char *message);

#endif
