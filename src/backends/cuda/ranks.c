#include "backends/cuda/ranks.h"

#include "backends/cuda/cuda.h"
#include "base/memory.h"
#include "base/messages.h"

#include <stdlib.h>
#include <string.h>

/* The size of a tile, and the most of its pairs that the processor decides. */
enum { ROWS = 1024, COLUMNS = 16384, MOST_UNSURE = 1 << 20 };

struct cuda_ranker {
    const struct cuda_api *api;
    struct cuda_device *device;
    struct dml_rank_counter counter;
    bool told;
};

/* Memory on the card and on the host for one call. */
struct scratch {
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

static bool make_scratch(const struct cuda_ranker *r, const struct dml_rank_work *work,
                         struct scratch *scratch) {
    size_t dim = work->task->frame->dim;
    size_t positives = work->task->start[work->end] - work->task->start[work->first];
    bool all = true;
    memset(scratch, 0, sizeof *scratch);
    scratch->gallery = take(r, COLUMNS * dim * sizeof(float), &all);
    scratch->half = take(r, COLUMNS * sizeof(float), &all);
    scratch->queries = take(r, ROWS * dim * sizeof(float), &all);
    scratch->error = take(r, ROWS * sizeof(float), &all);
    scratch->product = take(r, (size_t)ROWS * COLUMNS * sizeof(float), &all);
    scratch->level = take(r, positives * sizeof(float), &all);
    scratch->start = take(r, (ROWS + 1) * sizeof(uint32_t), &all);
    scratch->own = take(r, 2 * ROWS * sizeof(uint32_t), &all);
    scratch->nearer = take(r, positives * sizeof(uint32_t), &all);
    scratch->unsure = take(r, (1 + 2 * (size_t)MOST_UNSURE) * sizeof(uint32_t), &all);
    scratch->starts = dml_alloc(ROWS + 1, sizeof *scratch->starts);
    scratch->owns = dml_alloc(2 * ROWS, sizeof *scratch->owns);
    scratch->pairs = dml_alloc(2 * (size_t)MOST_UNSURE, sizeof *scratch->pairs);
    scratch->errors = dml_alloc(ROWS, sizeof *scratch->errors);
    return all && scratch->starts && scratch->owns && scratch->pairs && scratch->errors;
}

static void free_scratch(const struct cuda_ranker *r, struct scratch *scratch) {
    void *const card[] = {scratch->gallery, scratch->half,  scratch->queries, scratch->error,
                          scratch->product, scratch->level, scratch->start,   scratch->own,
                          scratch->nearer,  scratch->unsure};
    for (size_t i = 0; i < sizeof card / sizeof *card; i++)
        r->api->release(r->device, card[i]);
    free(scratch->starts);
    free(scratch->owns);
    free(scratch->pairs);
    free(scratch->errors);
}

/* What the kernel needs of queries row..row+n-1 besides their vectors. */
static void send_queries(const struct cuda_ranker *r, const struct dml_rank_work *work,
                         struct scratch *scratch, size_t row, size_t n, float longest) {
    const struct dml_rank_task *task = work->task;
    size_t base = task->start[work->first], dim = task->frame->dim;
    for (size_t i = 0; i < n; i++) {
        size_t q = row + i, class = (size_t)task->query_class[q];
        bool any = task->start[q + 1] > task->start[q];
        scratch->starts[i] = (uint32_t)(task->start[q] - base);
        scratch->owns[2 * i] = (uint32_t)task->gallery_start[class];
        scratch->owns[2 * i + 1] = (uint32_t)task->gallery_start[class + 1];
        scratch->errors[i] = any ? dml_rank_error(work, q, longest) : 0;
    }
    scratch->starts[n] = (uint32_t)(task->start[row + n] - base);
    r->api->upload(r->device, scratch->start, scratch->starts, (n + 1) * sizeof *scratch->starts);
    r->api->upload(r->device, scratch->own, scratch->owns, 2 * n * sizeof *scratch->owns);
    r->api->upload(r->device, scratch->error, scratch->errors, n * sizeof *scratch->errors);
    r->api->upload(r->device, scratch->queries, task->queries->x + row * dim,
                   n * dim * sizeof(float));
}

/* Decides what the card could not; false where that is too much, or the card failed. */
static bool settle(const struct cuda_ranker *r, const struct dml_rank_work *work,
                   const struct scratch *scratch, size_t row, size_t column) {
    uint32_t count = 0;
    r->api->download(r->device, &count, scratch->unsure, sizeof count);
    if (r->api->finish(r->device) || count > MOST_UNSURE)
        return false;
    if (count == 0)
        return true;
    r->api->download(r->device, scratch->pairs, scratch->unsure + 1,
                     2 * count * sizeof *scratch->pairs);
    if (r->api->finish(r->device))
        return false;
#pragma omp parallel for schedule(static)
    for (uint32_t i = 0; i < count; i++)
        dml_rank_settle(work, row + scratch->pairs[2 * i], column + scratch->pairs[2 * i + 1]);
    return true;
}

static bool count_tile(const struct cuda_ranker *r, const struct dml_rank_work *work,
                       struct scratch *scratch, size_t row, size_t n, size_t column, size_t m) {
    size_t dim = work->task->frame->dim;
    const struct cuda_ranking ranking = {.queries = n,
                                         .columns = m,
                                         .column = column,
                                         .product = scratch->product,
                                         .half = scratch->half,
                                         .error = scratch->error,
                                         .start = scratch->start,
                                         .own = scratch->own,
                                         .level = scratch->level,
                                         .nearer = scratch->nearer,
                                         .unsure = scratch->unsure,
                                         .most = MOST_UNSURE};
    r->api->zero(r->device, scratch->unsure, sizeof *scratch->unsure);
    r->api->gemm(r->device, &(struct cuda_gemm){.transpose_b = true,
                                                .m = n,
                                                .n = m,
                                                .k = dim,
                                                .batch = 1,
                                                .a = scratch->queries,
                                                .lda = dim,
                                                .b = scratch->gallery,
                                                .ldb = dim,
                                                .c = scratch->product,
                                                .ldc = m});
    r->api->kernels->count_nearer(r->api->stream(r->device), &ranking);
    return settle(r, work, scratch, row, column);
}

/* The gallery rows column..column+m-1 against all queries. */
static bool count_columns(const struct cuda_ranker *r, const struct dml_rank_work *work,
                          struct scratch *scratch, size_t column, size_t m) {
    const struct dml_rows *gallery = work->task->gallery;
    size_t dim = gallery->dim;
    float longest = 0;
    for (size_t j = column; j < column + m; j++)
        longest = gallery->norm[j] > longest ? gallery->norm[j] : longest;
    r->api->upload(r->device, scratch->gallery, gallery->x + column * dim, m * dim * sizeof(float));
    r->api->upload(r->device, scratch->half, gallery->half + column, m * sizeof(float));
    for (size_t row = work->first; row < work->end; row += ROWS) {
        size_t n = work->end - row < ROWS ? work->end - row : ROWS;
        send_queries(r, work, scratch, row, n, longest);
        if (!count_tile(r, work, scratch, row, n, column, m))
            return false;
    }
    return true;
}

/* Adds the card's counts to those of pairs that were settled. */
static bool collect(const struct cuda_ranker *r, const struct dml_rank_work *work,
                    const struct scratch *scratch) {
    size_t positives = work->task->start[work->end] - work->task->start[work->first];
    uint32_t *counts = dml_alloc(positives, sizeof *counts);
    if (!counts)
        return false;
    r->api->download(r->device, counts, scratch->nearer, positives * sizeof *counts);
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
    struct scratch scratch;
    bool done = make_scratch(r, work, &scratch), had_memory = done;
    if (done) {
        r->api->upload(r->device, scratch.level, work->level, positives * sizeof *work->level);
        r->api->zero(r->device, scratch.nearer, positives * sizeof *scratch.nearer);
    }
    for (size_t column = 0; done && column < task->gallery->n; column += COLUMNS) {
        size_t left = task->gallery->n - column;
        done = count_columns(r, work, &scratch, column, left < COLUMNS ? left : COLUMNS);
    }
    done = done && collect(r, work, &scratch);
    if (!done && !r->told) {
        r->told = true;
        const char *failure = r->api->finish(r->device);
        tell(failure       ? failure
             : !had_memory ? "the GPU lacks memory"
                           : "too many distances are equal for a GPU");
    }
    free_scratch(r, &scratch);
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
