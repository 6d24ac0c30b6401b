#include "samplers/matching.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct matching {
    struct dml_planner planner;
    const struct dml_match_cost *cost; /* set by each plan */
};

/* What a thread works in. A run is samples_per_class consecutive positions of one class. */
struct room {
    const struct dml_match_cost *cost;
    void *cost_room;
    struct dml_candidates candidates;
    size_t runs, run_length, groups;
    uint32_t *group_of_class; /* (classes) valid for classes of this big set */
    uint32_t *group_of_run;   /* (runs) */
    uint32_t *group_first;    /* (runs + 2) offsets into group_runs, groups + 1 of them in use */
    uint32_t *group_runs;     /* (runs), class after class */
    uint64_t *drawn;          /* (run_length) */
    uint32_t *batch, *best;   /* (batch_size) positions */
};

static size_t big_runs(const struct dml_sampler_context *context) {
    return dml_candidates_count(context) / context->samples_per_class;
}

static void room_close(void *data) {
    struct room *room = data;
    if (!room)
        return;
    if (room->cost_room)
        room->cost->close(room->cost_room);
    dml_candidates_close(&room->candidates);
    free(room->group_of_class);
    free(room->group_of_run);
    free(room->group_first);
    free(room->group_runs);
    free(room->drawn);
    free(room->batch);
    free(room->best);
    free(room);
}

static enum dml_status room_open(const struct dml_planner *planner, void **out) {
    const struct dml_sampler_context *context = planner->context;
    struct room *room = dml_alloc(1, sizeof *room);
    if (!room)
        return DML_ERROR_MEMORY;
    room->cost = ((const struct matching *)planner)->cost;
    room->run_length = context->samples_per_class;
    room->runs = big_runs(context);
    size_t count = room->runs * room->run_length;
    enum dml_status status = dml_candidates_open(&room->candidates, context, count);
    if (!status)
        status = room->cost->open(count, room->candidates.dim, &room->cost_room);
    room->group_of_class = dml_alloc(planner->classes.count, sizeof(uint32_t));
    room->group_of_run = dml_alloc(room->runs, sizeof(uint32_t));
    room->group_first = dml_alloc(room->runs + 2, sizeof(uint32_t));
    room->group_runs = dml_alloc(room->runs, sizeof(uint32_t));
    room->drawn = dml_alloc(room->run_length, sizeof(uint64_t));
    room->batch = dml_alloc(context->batch_size, sizeof(uint32_t));
    room->best = dml_alloc(context->batch_size, sizeof(uint32_t));
    if (status || !room->group_of_class || !room->group_of_run || !room->group_first ||
        !room->group_runs || !room->drawn || !room->batch || !room->best) {
        room_close(room);
        return DML_ERROR_MEMORY;
    }
    *out = room;
    return DML_OK;
}

/* Draws the big set and sorts its runs by class: a class may be drawn several times. */
static void draw_big_set(const struct dml_planner *planner, struct room *room,
                         struct dml_rng *rng) {
    const struct dml_classes *classes = &planner->classes;
    memset(room->group_of_class, 0xff, classes->count * sizeof(uint32_t));
    memset(room->group_first, 0, (room->runs + 2) * sizeof(uint32_t));
    room->groups = 0;
    for (size_t r = 0; r < room->runs; r++) {
        uint32_t *images = room->candidates.images + r * room->run_length;
        dml_classes_run(classes, room->run_length, rng, images);
        uint32_t *group = &room->group_of_class[classes->of_image[*images]];
        if (*group == UINT32_MAX)
            *group = (uint32_t)room->groups++;
        room->group_of_run[r] = *group;
        room->group_first[*group + 2]++;
    }
    for (size_t g = 0; g < room->groups; g++)
        room->group_first[g + 2] += room->group_first[g + 1];
    for (size_t r = 0; r < room->runs; r++)
        room->group_runs[room->group_first[room->group_of_run[r] + 1]++] = (uint32_t)r;
}

static void draw_batch(struct room *room, size_t size, struct dml_rng *rng) {
    size_t length = room->run_length;
    for (size_t at = 0; at < size; at += length) {
        size_t group = dml_rng_below(rng, room->groups);
        const uint32_t *runs = room->group_runs + room->group_first[group];
        size_t count = room->group_first[group + 1] - room->group_first[group];
        dml_rng_distinct(rng, count * length, length, room->drawn);
        for (size_t i = 0; i < length; i++)
            room->batch[at + i] =
                (uint32_t)(runs[room->drawn[i] / length] * length + room->drawn[i] % length);
    }
}

static enum dml_status batch(const struct dml_planner *planner, const struct dml_store *store,
                             void *data, struct dml_rng *rng, uint32_t *indices) {
    struct room *room = data;
    size_t size = planner->context->batch_size;
    draw_big_set(planner, room, rng);
    enum dml_status status = dml_candidates_load(&room->candidates, store, rng);
    if (!status)
        status = room->cost->prepare(room->cost_room, room->candidates.x);
    double least = 0;
    for (int64_t k = 0; !status && k < planner->context->shared->batchmatch_ncomps; k++) {
        double cost = 0;
        draw_batch(room, size, rng);
        status = room->cost->cost(room->cost_room, room->batch, size, &cost);
        if (k > 0 && !(cost < least))
            continue;
        least = cost;
        uint32_t *swap = room->best;
        room->best = room->batch;
        room->batch = swap;
    }
    for (size_t i = 0; !status && i < size; i++)
        indices[i] = room->candidates.images[room->best[i]];
    return status;
}

enum dml_status dml_matching_create(const void *options, const struct dml_sampler_context *context,
                                    void **state) {
    (void)options;
    if (context->shared->batchmatch_ncomps < 1)
        return dml_fail(DML_ERROR_USAGE, "--data_batchmatch_ncomps %lld: no batch to choose from",
                        (long long)context->shared->batchmatch_ncomps);
    enum dml_status status = dml_candidates_check(context, context->batch_size);
    return status ? status : dml_planner_new(sizeof(struct matching), context, state);
}

enum dml_status dml_matching_plan(const struct dml_match_cost *cost, void *state, uint64_t epoch,
                                  const struct dml_store *store, size_t batches, uint32_t *indices,
                                  void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_batch_work work = {room_open, room_close, batch};
    struct matching *matching = state;
    matching->cost = cost;
    return dml_plan_epoch(&work, &matching->planner, epoch, store, batches, indices, progress,
                          data);
}
