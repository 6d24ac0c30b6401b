#include "samplers/planning.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dml_classes_free(struct dml_classes *classes) {
    free(classes->first);
    free(classes->members);
    free(classes->of_image);
    memset(classes, 0, sizeof *classes);
}

enum dml_status dml_classes_make(const struct dml_sampler_context *context,
                                 struct dml_classes *out) {
    memset(out, 0, sizeof *out);
    uint32_t *number = dml_alloc(context->classes, sizeof *number);
    out->first = dml_alloc(context->classes + 2, sizeof *out->first);
    out->members = dml_alloc(context->images, sizeof *out->members);
    out->of_image = dml_alloc(context->images, sizeof *out->of_image);
    if (!number || !out->first || !out->members || !out->of_image) {
        free(number);
        dml_classes_free(out);
        return DML_ERROR_MEMORY;
    }
    for (size_t i = 0; i < context->images; i++)
        number[context->labels[i]]++;
    for (size_t label = 0, at = 0; label < context->classes; label++) {
        size_t size = number[label];
        if (size == 0)
            continue;
        number[label] = (uint32_t)out->count++;
        out->first[out->count + 1] = (uint32_t)(at += size); /* one place late: advanced below */
    }
    for (size_t i = 0; i < context->images; i++) {
        uint32_t c = number[context->labels[i]];
        out->of_image[i] = c;
        out->members[out->first[c + 1]++] = (uint32_t)i;
    }
    free(number);
    return DML_OK;
}

uint32_t dml_classes_image(const struct dml_classes *classes, size_t c, struct dml_rng *rng) {
    uint32_t size = classes->first[c + 1] - classes->first[c];
    return classes->members[classes->first[c] + dml_rng_below(rng, size)];
}

void dml_classes_run(const struct dml_classes *classes, size_t count, struct dml_rng *rng,
                     uint32_t *out) {
    size_t c = dml_rng_below(rng, classes->count);
    for (size_t i = 0; i < count; i++)
        out[i] = dml_classes_image(classes, c, rng);
}

/* Failures happen on other threads, and messages are kept per thread. */
struct failure {
    enum dml_status status;
    size_t batch; /* SIZE_MAX: none */
    char message[512];
};

static void remember(struct failure *failure, size_t batch, enum dml_status status) {
#pragma omp critical
    if (failure->batch == SIZE_MAX || batch < failure->batch) {
#pragma omp atomic write
        failure->batch = batch;
        failure->status = status;
        snprintf(failure->message, sizeof failure->message, "%s", dml_error());
    }
}

enum dml_status dml_plan_epoch(const struct dml_batch_work *work, const struct dml_planner *planner,
                               uint64_t epoch, const struct dml_store *store, size_t batches,
                               uint32_t *indices, void (*progress)(void *data, size_t done),
                               void *data) {
    const struct dml_sampler_context *context = planner->context;
    struct failure failure = {.batch = SIZE_MAX};
    size_t done = 0;
    /* Without an `if` or `num_threads`: in an active parallel region OpenBLAS takes one thread. */
#pragma omp parallel
    {
        void *workspace = NULL;
        enum dml_status opened = work->open ? work->open(planner, &workspace) : DML_OK;
#pragma omp for schedule(dynamic)
        for (size_t b = 0; b < batches; b++) {
            size_t failed;
#pragma omp atomic read
            failed = failure.batch;
            if (b > failed)
                continue;
            struct dml_rng rng = dml_rng_make(context->seed, DML_PURPOSE_SAMPLER, epoch, b);
            enum dml_status status = opened ? opened
                                            : work->batch(planner, store, workspace, &rng,
                                                          indices + b * context->batch_size);
            if (status) {
                remember(&failure, b, status);
            } else if (progress) {
#pragma omp critical
                progress(data, ++done);
            }
        }
        if (work->close)
            work->close(workspace);
    }
    return failure.status ? dml_fail(failure.status, "%s", failure.message) : DML_OK;
}

enum dml_status dml_planner_new(size_t size, const struct dml_sampler_context *context,
                                void **state) {
    struct dml_planner *planner = dml_alloc(1, size);
    if (!planner)
        return DML_ERROR_MEMORY;
    planner->context = context;
    enum dml_status status = dml_classes_make(context, &planner->classes);
    if (status)
        free(planner);
    else
        *state = planner;
    return status;
}

enum dml_status dml_planner_create(const void *options, const struct dml_sampler_context *context,
                                   void **state) {
    (void)options;
    return dml_planner_new(sizeof(struct dml_planner), context, state);
}

void dml_planner_destroy(void *state) {
    struct dml_planner *planner = state;
    if (planner)
        dml_classes_free(&planner->classes);
    free(planner);
}
