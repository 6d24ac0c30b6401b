/* bs / samples_per_class classes drawn with replacement, and samples_per_class images drawn with
 * replacement from each. The study's default. */
#include "samplers/planning.h"

static enum dml_status batch(const struct dml_planner *planner, const struct dml_store *store,
                             void *workspace, struct dml_rng *rng, uint32_t *indices) {
    (void)store, (void)workspace;
    size_t run = planner->context->samples_per_class;
    for (size_t i = 0; i < planner->context->batch_size; i += run)
        dml_classes_run(&planner->classes, run, rng, indices + i);
    return DML_OK;
}

static enum dml_status plan(void *state, uint64_t epoch, const struct dml_store *store,
                            size_t batches, uint32_t *indices,
                            void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_batch_work work = {.batch = batch};
    return dml_plan_epoch(&work, state, epoch, store, batches, indices, progress, data);
}

const struct dml_sampler dml_sampler_class_random = {
    .method = {.name = "class_random",
               .summary = "Random classes, samples_per_class random images of each"},
    .create = dml_planner_create,
    .plan = plan,
    .destroy = dml_planner_destroy,
};
