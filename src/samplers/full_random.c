/* bs - 1 images, each a random one of a random class, and one more from the class of one of them,
 * so that at least one pair shares a class. */
#include "samplers/planning.h"

static enum dml_status batch(const struct dml_planner *planner, const struct dml_store *store,
                             void *workspace, struct dml_rng *rng, uint32_t *indices) {
    (void)store, (void)workspace;
    const struct dml_classes *classes = &planner->classes;
    size_t last = planner->context->batch_size - 1;
    for (size_t i = 0; i < last; i++)
        dml_classes_run(classes, 1, rng, indices + i);
    if (last == 0)
        dml_classes_run(classes, 1, rng, indices);
    else /* so that at least one pair shares a class */
        indices[last] =
            dml_classes_image(classes, classes->of_image[indices[dml_rng_below(rng, last)]], rng);
    return DML_OK;
}

static enum dml_status plan(void *state, uint64_t epoch, const struct dml_store *store,
                            size_t batches, uint32_t *indices,
                            void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_batch_work work = {.batch = batch};
    return dml_plan_epoch(&work, state, epoch, store, batches, indices, progress, data);
}

const struct dml_sampler dml_sampler_full_random = {
    .method = {.name = "full_random",
               .summary = "Every image from a random class of its own, the last one from a class "
                          "already in the batch"},
    .create = dml_planner_create,
    .plan = plan,
    .destroy = dml_planner_destroy,
};
