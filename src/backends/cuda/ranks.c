#include "backends/cuda/ranks.h"

#include "backends/cuda/cuda.h"
#include "base/memory.h"
#include "base/messages.h"

#include <stdlib.h>
#include <string.h>

/* A tile, and pairs of it that the processor decides. */
enum { ROWS = 1024, COLUMNS = 16384, MOST_UNSURE = 1 << 20 };

struct cuda_ranker {
    const struct cuda_api *api;
    struct cuda_device *device;
    struct dml_rank_counter counter;
    bool told;
};

/* Memory of the card, and of the host, for one call. */
struct room {
    float *gallery, *half, *queries, *error, *product, *level;
    uint32_t *start, *own, *nearer, *unsure;
    uint32_t *starts, *owns, *pairs; /* the host's, */
    float *errors;                   /* as is this */
};

static void *take(const struct cuda_ranker *r, size_t bytes, bool *all) {
    void *memory = *all ? r->api->alloc(r->device, bytes) : NULL;
    *all = *all && memory;
    return memory;
}

static bool make_room(const struct cuda_ranker *r, const struct dml_rank_work *work,
                      struct room *room) {
    size_t dim = work->task->frame->dim;
    size_t positives = work->task->start[work->end] - work->task->start[work->first];
    bool all = true;
    memset(room, 0, sizeof *room);
    room->gallery = take(r, COLUMNS * dim * sizeof(float), &all);
    room->half = take(r, COLUMNS * sizeof(float), &all);
    room->queries = take(r, ROWS * dim * sizeof(float), &all);
    room->error = take(r, ROWS * sizeof(float), &all);
    room->product = take(r, (size_t)ROWS * COLUMNS * sizeof(float), &all);
    room->level = take(r, positives * sizeof(float), &all);
    room->start = take(r, (ROWS + 1) * sizeof(uint32_t), &all);
    room->own = take(r, 2 * ROWS * sizeof(uint32_t), &all);
    room->nearer = take(r, positives * sizeof(uint32_t), &all);
    room->unsure = take(r, (1 + 2 * (size_t)MOST_UNSURE) * sizeof(uint32_t), &all);
    room->starts = dml_alloc(ROWS + 1, sizeof *room->starts);
    room->owns = dml_alloc(2 * ROWS, sizeof *room->owns);
    room->pairs = dml_alloc(2 * (size_t)MOST_UNSURE, sizeof *room->pairs);
    room->errors = dml_alloc(ROWS, sizeof *room->errors);
    return all && room->starts && room->owns && room->pairs && room->errors;
}

static void free_room(const struct cuda_ranker *r, struct room *room) {
    void *const card[] = {room->gallery, room->half,  room->queries, room->error,  room->product,
                          room->level,   room->start, room->own,     room->nearer, room->unsure};
    for (size_t i = 0; i < sizeof card / sizeof *card; i++)
        r->api->release(r->device, card[i]);
    free(room->starts);
    free(room->owns);
    free(room->pairs);
    free(room->errors);
}

/* What the kernel needs of queries row..row+n-1 beside their vectors. */
static void send_queries(const struct cuda_ranker *r, const struct dml_rank_work *work,
                         struct room *room, size_t row, size_t n, float longest) {
    const struct dml_rank_task *task = work->task;
    size_t base = task->start[work->first], dim = task->frame->dim;
    for (size_t i = 0; i < n; i++) {
        size_t q = row + i, class = (size_t)task->query_class[q];
        bool any = task->start[q + 1] > task->start[q];
        room->starts[i] = (uint32_t)(task->start[q] - base);
        room->owns[2 * i] = (uint32_t)task->gallery_start[class];
        room->owns[2 * i + 1] = (uint32_t)task->gallery_start[class + 1];
        room->errors[i] = any ? dml_rank_error(work, q, longest) : 0;
    }
    room->starts[n] = (uint32_t)(task->start[row + n] - base);
    r->api->upload(r->device, room->start, room->starts, (n + 1) * sizeof *room->starts);
    r->api->upload(r->device, room->own, room->owns, 2 * n * sizeof *room->owns);
    r->api->upload(r->device, room->error, room->errors, n * sizeof *room->errors);
    r->api->upload(r->device, room->queries, task->queries->x + row * dim, n * dim * sizeof(float));
}

/* Decides what the card could not; false where that is too much, or the card failed. */
static bool settle(const struct cuda_ranker *r, const struct dml_rank_work *work,
                   const struct room *room, size_t row, size_t column) {
    uint32_t count = 0;
    r->api->download(r->device, &count, room->unsure, sizeof count);
    if (r->api->finish(r->device) || count > MOST_UNSURE)
        return false;
    if (count == 0)
        return true;
    r->api->download(r->device, room->pairs, room->unsure + 1, 2 * count * sizeof *room->pairs);
    if (r->api->finish(r->device))
        return false;
#pragma omp parallel for schedule(static)
    for (uint32_t i = 0; i < count; i++)
        dml_rank_settle(work, row + room->pairs[2 * i], column + room->pairs[2 * i + 1]);
    return true;
}

static bool count_tile(const struct cuda_ranker *r, const struct dml_rank_work *work,
                       struct room *room, size_t row, size_t n, size_t column, size_t m) {
    size_t dim = work->task->frame->dim;
    const struct cuda_ranking ranking = {.queries = n,
                                         .columns = m,
                                         .column = column,
                                         .product = room->product,
                                         .half = room->half,
                                         .error = room->error,
                                         .start = room->start,
                                         .own = room->own,
                                         .level = room->level,
                                         .nearer = room->nearer,
                                         .unsure = room->unsure,
                                         .most = MOST_UNSURE};
    r->api->zero(r->device, room->unsure, sizeof *room->unsure);
    r->api->gemm(r->device, &(struct cuda_gemm){.transpose_b = true,
                                                .m = n,
                                                .n = m,
                                                .k = dim,
                                                .batch = 1,
                                                .a = room->queries,
                                                .lda = dim,
                                                .b = room->gallery,
                                                .ldb = dim,
                                                .c = room->product,
                                                .ldc = m});
    r->api->kernels->count_nearer(r->api->stream(r->device), &ranking);
    return settle(r, work, room, row, column);
}

/* The gallery rows column..column+m-1 against all queries. */
static bool count_columns(const struct cuda_ranker *r, const struct dml_rank_work *work,
                          struct room *room, size_t column, size_t m) {
    const struct dml_rows *gallery = work->task->gallery;
    size_t dim = gallery->dim;
    float longest = 0;
    for (size_t j = column; j < column + m; j++)
        longest = gallery->norm[j] > longest ? gallery->norm[j] : longest;
    r->api->upload(r->device, room->gallery, gallery->x + column * dim, m * dim * sizeof(float));
    r->api->upload(r->device, room->half, gallery->half + column, m * sizeof(float));
    for (size_t row = work->first; row < work->end; row += ROWS) {
        size_t n = work->end - row < ROWS ? work->end - row : ROWS;
        send_queries(r, work, room, row, n, longest);
        if (!count_tile(r, work, room, row, n, column, m))
            return false;
    }
    return true;
}

/* Adds the card's counts to those of pairs that were settled. */
static bool collect(const struct cuda_ranker *r, const struct dml_rank_work *work,
                    const struct room *room) {
    size_t positives = work->task->start[work->end] - work->task->start[work->first];
    uint32_t *counts = dml_alloc(positives, sizeof *counts);
    if (!counts)
        return false;
    r->api->download(r->device, counts, room->nearer, positives * sizeof *counts);
    bool done = !r->api->finish(r->device);
    for (size_t p = 0; done && p < positives; p++)
        work->nearer[p] += counts[p];
    free(counts);
    return done;
}

static void tell(const char *why) {
    dml_warn("--evaluate_on_gpu: %s; the processor counts ranks", why);
}

static bool count(void *data, const struct dml_rank_work *work) {
    struct cuda_ranker *r = data;
    const struct dml_rank_task *task = work->task;
    size_t positives = task->start[work->end] - task->start[work->first];
    struct room room;
    bool done = make_room(r, work, &room), had_room = done;
    if (done) {
        r->api->upload(r->device, room.level, work->level, positives * sizeof *work->level);
        r->api->zero(r->device, room.nearer, positives * sizeof *room.nearer);
    }
    for (size_t column = 0; done && column < task->gallery->n; column += COLUMNS) {
        size_t left = task->gallery->n - column;
        done = count_columns(r, work, &room, column, left < COLUMNS ? left : COLUMNS);
    }
    done = done && collect(r, work, &room);
    if (!done && !r->told) {
        r->told = true;
        const char *failure = r->api->finish(r->device);
        tell(failure     ? failure
             : !had_room ? "the GPU lacks memory"
                         : "too many distances are equal for a GPU");
    }
    free_room(r, &room);
    return done;
}

struct cuda_ranker *cuda_ranker_open(int device) {
    char reason[CUDA_REASON] = "there is no NVIDIA driver";
    struct cuda_ranker *r = dml_alloc(1, sizeof *r);
    if (!r) {
        tell("out of memory");
        return NULL;
    }
    r->counter = (struct dml_rank_counter){count, r};
    if (dml_cuda_driver() && (r->api = dml_cuda_find(reason)) && r->api->count(reason) > 0)
        r->device = r->api->open(device, CUDA_FP32, reason);
    if (!r->device) {
        tell(reason);
        free(r);
        return NULL;
    }
    return r;
}

void cuda_ranker_close(struct cuda_ranker *ranker) {
    if (ranker)
        ranker->api->close(ranker->device);
    free(ranker);
}

const struct dml_rank_counter *cuda_ranker_counter(const struct cuda_ranker *ranker) {
    return ranker ? &ranker->counter : NULL;
}
