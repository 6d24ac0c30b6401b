#include "samplers/coreset.h"

#include "base/memory.h"
#include "math/linear.h"

#include <stdlib.h>

static size_t choices(const struct dml_sampler_context *context) {
    return context->batch_size / context->samples_per_class;
}

enum dml_status dml_coreset_planner_new(size_t size, const struct dml_sampler_context *context,
                                        void **state) {
    enum dml_status status = dml_candidates_check(context, choices(context));
    return status ? status : dml_planner_new(size, context, state);
}

enum dml_status dml_coreset_open(struct dml_coreset *c, const struct dml_planner *planner) {
    size_t n = dml_candidates_count(planner->context);
    enum dml_status status = dml_candidates_open(&c->candidates, planner->context, n);
    c->choices = choices(planner->context);
    c->distances2 = dml_alloc_aligned(n, n * sizeof(double));
    c->chosen = dml_alloc(c->choices, sizeof(uint32_t));
    return status || !c->distances2 || !c->chosen ? DML_ERROR_MEMORY : DML_OK;
}

void dml_coreset_close(struct dml_coreset *c) {
    dml_candidates_close(&c->candidates);
    free(c->distances2);
    free(c->chosen);
}

enum dml_status dml_coreset_draw(struct dml_coreset *c, const struct dml_planner *planner,
                                 const struct dml_store *store, struct dml_rng *rng) {
    struct dml_candidates *candidates = &c->candidates;
    dml_candidates_draw(candidates, planner->context->images, rng);
    enum dml_status status = dml_candidates_load(candidates, store, rng);
    if (!status)
        dml_self_distances2(candidates->x, candidates->count, candidates->dim, c->distances2);
    return status;
}
