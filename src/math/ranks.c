#include "math/ranks.h"

#include "base/memory.h"
#include "math/linear.h"

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILE = 256,               /* rows and columns of a tile */
    MOST_POSITIVES = 8 << 20, /* ranked in one pass over the gallery; 16 bytes each */
    LOCAL = 1024,             /* a row with fewer positives counts in a buffer of its own */
    PRUNE_EVERY = 16,         /* tiles, for rows with more */
};

struct positive {
    double key;
    uint32_t index; /* of the sample */
};

/* A block of queries [first, end) under way. Arrays are indexed by (position in `start`) - base. */
struct pass {
    const struct dml_rank_task *task;
    size_t first, end, base;
    bool symmetric;   /* a tile serves its rows and its columns */
    double *key;      /* of each positive, ascending for a query */
    float *level;     /* its u + half of the query, as the tiles compare: descending */
    uint32_t *index;  /* its sample */
    uint32_t *bucket; /* others that are nearer than it, but not nearer than the one before; this
                         is the task's own `rank` */
    uint32_t *active; /* (end - first) positives whose rank may still be within the limit */
};

/* What a thread works in. */
struct bench {
    float *tile, *turned; /* (TILE, TILE) */
    uint32_t *histogram;  /* (LOCAL + 1) */
    struct positive *positives;
};

static bool before(double key, uint32_t index, double other_key, uint32_t other_index) {
    return key < other_key || (key == other_key && index < other_index);
}

static int by_key(const void *a, const void *b) {
    const struct positive *x = a, *y = b;
    return before(x->key, x->index, y->key, y->index) ? -1 : 1;
}

/* Keeps the `keep` nearest of a query's positives, in order. */
static void collect_positives(struct pass *pass, size_t q, struct positive *found) {
    const struct dml_rank_task *task = pass->task;
    size_t at = task->start[q] - pass->base, keep = task->start[q + 1] - task->start[q];
    int32_t class = task->query_class[q];
    uint32_t self = task->queries->index[q];
    size_t count = 0;
    for (size_t j = task->gallery_start[class]; keep && j < task->gallery_start[class + 1]; j++) {
        struct positive next = {0, task->gallery->index[j]};
        if (next.index == self)
            continue;
        next.key = dml_frame_key(task->frame, self, next.index);
        if (keep > 1 || count == 0)
            found[count++] = next;
        else if (by_key(&next, found) < 0)
            found[0] = next;
    }
    if (keep > 1)
        qsort(found, count, sizeof *found, by_key);
    double unit = dml_frame_unit(task->frame);
    for (size_t p = 0; p < keep; p++) {
        pass->key[at + p] = found[p].key;
        pass->index[at + p] = found[p].index;
        pass->level[at + p] = (float)(task->queries->half[q] - found[p].key * unit);
        pass->bucket[at + p] = 0;
    }
    pass->active[q - pass->first] = (uint32_t)keep;
}

/* The largest difference between (tile element - half_j) and the level that its key would have:
 * rounding of the rows to float (twice |x|^2 + |y|^2), of dim products and their sum
 * (Higham 2002, "Accuracy and Stability of Numerical Algorithms", 3.1: dim |x||y|), of halves and
 * of levels, in units of 2^-24. */
static float error_bound(size_t dim, double own, double longest, double level) {
    double units = (double)(dim + 4) * own * longest + 6 * (own * own + longest * longest) + level;
    return (float)(units * 0x1.02p-24 + 1e-30);
}

/* The first of `count` descending levels that is below `value`. */
static size_t first_below(const float *level, size_t count, float value) {
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        bool right = level[low + half] >= value;
        low = right ? low + half + 1 : low;
        count = right ? count - half - 1 : half;
    }
    return low;
}

/* The first positive that a sample is nearer than, decided in float64. */
static size_t first_behind(const struct pass *pass, size_t q, size_t count, uint32_t sample) {
    size_t at = pass->task->start[q] - pass->base, low = 0;
    double key = dml_frame_key(pass->task->frame, pass->task->queries->index[q], sample);
    while (count > 0) {
        size_t half = count / 2, p = at + low + half;
        if (before(key, sample, pass->key[p], pass->index[p])) {
            count = half;
        } else {
            low += half + 1;
            count -= half + 1;
        }
    }
    return low;
}

/* Lowers `active` to the positives whose rank, counting what was seen so far, is within limits. */
static void prune(struct pass *pass, size_t q, size_t active) {
    const uint32_t *bucket = pass->bucket + (pass->task->start[q] - pass->base);
    uint64_t nearer = 0, limit = pass->task->limit[q];
    size_t p = 0;
    for (; p < active; p++) {
        nearer += __atomic_load_n(&bucket[p], __ATOMIC_RELAXED);
        if (nearer + p + 1 > limit)
            break;
    }
    if (p < active)
        __atomic_store_n(&pass->active[q - pass->first], (uint32_t)p, __ATOMIC_RELAXED);
}

static size_t find_near(const float *row, const float *half, size_t m, float far, uint32_t *near) {
    enum { STEP = 16 };
    size_t count = 0, j = 0;
    for (; j + STEP <= m; j += STEP) {
        int any = 0;
#pragma omp simd reduction(| : any)
        for (size_t k = 0; k < STEP; k++)
            any |= row[j + k] - half[j + k] >= far;
        if (!any)
            continue;
        for (size_t k = 0; k < STEP; k++) {
            near[count] = (uint32_t)(j + k);
            count += row[j + k] - half[j + k] >= far;
        }
    }
    for (; j < m; j++)
        if (row[j] - half[j] >= far)
            near[count++] = (uint32_t)j;
    return count;
}

/* One query against the columns [column, column + m) of the gallery; row (m) holds their inner
 * products, -inf for samples that do not count. `longest` is the largest norm among them. */
static void count_row(struct pass *pass, struct bench *bench, size_t q, size_t column, size_t m,
                      const float *row, float longest) {
    const struct dml_rank_task *task = pass->task;
    size_t active = __atomic_load_n(&pass->active[q - pass->first], __ATOMIC_RELAXED);
    if (active == 0)
        return;
    size_t at = task->start[q] - pass->base;
    const float *level = pass->level + at, *half = task->gallery->half + column;
    uint32_t *bucket = pass->bucket + at, *histogram = bench->histogram;
    float error = error_bound(task->frame->dim, task->queries->norm[q], longest,
                              fmax(fabs(level[0]), fabs(level[active - 1])));
    uint32_t near[TILE];
    size_t count = find_near(row, half, m, level[active - 1] - error, near);
    if (count == 0)
        return;
    bool local = active <= LOCAL;
    if (local)
        memset(histogram, 0, (active + 1) * sizeof *histogram);
    for (size_t c = 0; c < count; c++) {
        float value = row[near[c]] - half[near[c]];
        size_t p = first_below(level, active, value);
        if ((p < active && value - level[p] <= error) || (p > 0 && level[p - 1] - value <= error))
            p = first_behind(pass, q, active, task->gallery->index[column + near[c]]);
        if (local)
            histogram[p]++;
        else if (p < active)
            __atomic_fetch_add(&bucket[p], 1, __ATOMIC_RELAXED);
    }
    for (size_t p = 0; local && p < active; p++)
        if (histogram[p])
            __atomic_fetch_add(&bucket[p], histogram[p], __ATOMIC_RELAXED);
    if (local || column / TILE % PRUNE_EVERY == 0)
        prune(pass, q, active);
}

/* Samples of a query's own class are positives or itself: they do not count. */
static void mask_class(const struct dml_rank_task *task, size_t q, size_t column, size_t m,
                       float *row) {
    int32_t class = task->query_class[q];
    size_t from = task->gallery_start[class], to = task->gallery_start[class + 1];
    from = from > column ? from - column : 0;
    to = to > column ? to - column : 0;
    for (size_t j = from; j < to && j < m; j++)
        row[j] = -INFINITY;
}

static float longest_norm(const struct dml_rows *rows, size_t first, size_t count) {
    float longest = 0;
    for (size_t i = first; i < first + count; i++)
        longest = fmaxf(longest, rows->norm[i]);
    return longest;
}

static void turn(const float *tile, size_t n, size_t m, float *turned) {
    enum { STEP = 8 };
    for (size_t i0 = 0; i0 < n; i0 += STEP)
        for (size_t j0 = 0; j0 < m; j0 += STEP)
            for (size_t j = j0; j < j0 + STEP && j < m; j++)
                for (size_t i = i0; i < i0 + STEP && i < n; i++)
                    turned[j * TILE + i] = tile[i * TILE + j];
}

/* The tile of queries from `row` and gallery rows from `column`; where both are one set also the
 * tile across the diagonal. */
static void count_tile(struct pass *pass, struct bench *bench, size_t row, size_t column) {
    const struct dml_rank_task *task = pass->task;
    const struct dml_rows *queries = task->queries, *gallery = task->gallery;
    size_t n = pass->end - row < TILE ? pass->end - row : TILE;
    size_t m = gallery->n - column < TILE ? gallery->n - column : TILE;
    size_t dim = queries->dim;
    bool wanted = false;
    for (size_t i = 0; i < n && !wanted; i++) {
        int32_t class = task->query_class[row + i];
        wanted = task->gallery_start[class] > column || task->gallery_start[class + 1] < column + m;
    }
    if (!wanted)
        return;
    dml_gemm(0, 1, n, m, dim, 1.0f, queries->x + row * dim, dim, gallery->x + column * dim, dim,
             0.0f, bench->tile, TILE);
    float longest = longest_norm(gallery, column, m);
    for (size_t i = 0; i < n; i++) {
        mask_class(task, row + i, column, m, bench->tile + i * TILE);
        count_row(pass, bench, row + i, column, m, bench->tile + i * TILE, longest);
    }
    if (!pass->symmetric || row == column)
        return;
    turn(bench->tile, n, m, bench->turned);
    longest = longest_norm(queries, row, n);
    for (size_t j = 0; j < m; j++)
        count_row(pass, bench, column + j, row, n, bench->turned + j * TILE, longest);
}

static void free_bench(struct bench *bench) {
    free(bench->tile);
    free(bench->turned);
    free(bench->histogram);
    free(bench->positives);
}

static enum dml_status make_bench(struct bench *bench, size_t most_positives) {
    bench->tile = dml_alloc_aligned(TILE * TILE, sizeof *bench->tile);
    bench->turned = dml_alloc_aligned(TILE * TILE, sizeof *bench->turned);
    bench->histogram = dml_alloc_aligned(LOCAL + 1, sizeof *bench->histogram);
    bench->positives = dml_alloc_aligned(most_positives, sizeof *bench->positives);
    return bench->tile && bench->turned && bench->histogram && bench->positives ? DML_OK
                                                                                : DML_ERROR_MEMORY;
}

/* Tile `job` of the upper triangle, row by row: row r begins at r * blocks - r (r - 1) / 2. */
static void find_tile(size_t job, size_t blocks, size_t *row, size_t *column) {
    double b = 2.0 * (double)blocks + 1;
    size_t r = (size_t)((b - sqrt(fmax(b * b - 8.0 * (double)job, 0))) / 2);
    while (r > 0 && r * blocks - r * (r - 1) / 2 > job)
        r--;
    while ((r + 1) * blocks - (r + 1) * r / 2 <= job)
        r++;
    *row = r;
    *column = r + job - (r * blocks - r * (r - 1) / 2);
}

static void count_tiles(struct pass *pass, struct bench *benches) {
    const struct dml_rank_task *task = pass->task;
    size_t rows = (pass->end - pass->first + TILE - 1) / TILE;
    size_t columns = (task->gallery->n + TILE - 1) / TILE;
    size_t jobs = pass->symmetric ? rows * (rows + 1) / 2 : rows * columns, done = 0;
#pragma omp parallel
    {
        struct bench *bench = &benches[omp_get_thread_num()];
#pragma omp for schedule(dynamic, 1)
        for (size_t job = 0; job < jobs; job++) {
            size_t row = job / columns, column = job % columns;
            if (pass->symmetric)
                find_tile(job, rows, &row, &column);
            count_tile(pass, bench, pass->first + row * TILE, column * TILE);
            size_t so_far = __atomic_add_fetch(&done, 1, __ATOMIC_RELAXED);
            if (task->progress && omp_get_thread_num() == 0)
                task->progress(task->data,
                               ((double)pass->first +
                                (double)so_far / (double)jobs * (double)(pass->end - pass->first)) /
                                   (double)task->queries->n);
        }
    }
}

/* Turns the counts of a pass into ranks, in place. */
static void finish_ranks(struct pass *pass) {
#pragma omp parallel for schedule(static)
    for (size_t q = pass->first; q < pass->end; q++) {
        size_t at = pass->task->start[q] - pass->base;
        size_t count = pass->task->start[q + 1] - pass->task->start[q];
        uint64_t nearer = 0, limit = pass->task->limit[q];
        for (size_t p = 0; p < count; p++) {
            nearer += pass->bucket[at + p];
            uint64_t rank = nearer + p + 1;
            pass->bucket[at + p] = p < pass->active[q - pass->first] && rank <= limit ? rank : 0;
        }
    }
}

static enum dml_status run_pass(struct pass *pass, struct bench *benches) {
    size_t queries = pass->end - pass->first;
    size_t positives = pass->task->start[pass->end] - pass->base;
    enum dml_status status = DML_OK;
    pass->key = dml_alloc_aligned(positives, sizeof *pass->key);
    pass->level = dml_alloc_aligned(positives, sizeof *pass->level);
    pass->index = dml_alloc_aligned(positives, sizeof *pass->index);
    pass->active = dml_alloc_aligned(queries, sizeof *pass->active);
    if (!pass->key || !pass->level || !pass->index || !pass->active) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t q = pass->first; q < pass->end; q++)
        collect_positives(pass, q, benches[omp_get_thread_num()].positives);
    count_tiles(pass, benches);
    finish_ranks(pass);
out:
    free(pass->key);
    free(pass->level);
    free(pass->index);
    free(pass->active);
    return status;
}

enum dml_status dml_rank_positives(const struct dml_rank_task *task, uint32_t *rank) {
    size_t n = task->queries->n, largest = 1;
    for (size_t q = 0; q < n; q++) {
        int32_t class = task->query_class[q];
        size_t size = task->gallery_start[class + 1] - task->gallery_start[class];
        largest = size > largest ? size : largest;
    }
    int threads = omp_get_max_threads();
    struct bench *benches = dml_alloc((size_t)threads, sizeof *benches);
    enum dml_status status = benches ? DML_OK : DML_ERROR_MEMORY;
    for (int t = 0; !status && t < threads; t++)
        status = make_bench(&benches[t], largest);
    for (size_t first = 0, end; !status && first < n; first = end) {
        size_t base = task->start[first];
        for (end = first + 1; end < n && task->start[end + 1] - base <= MOST_POSITIVES;)
            end++;
        struct pass pass = {.task = task, .first = first, .end = end, .base = base};
        pass.bucket = rank + base;
        pass.symmetric = task->queries == task->gallery && first == 0 && end == n;
        status = run_pass(&pass, benches);
    }
    for (int t = 0; benches && t < threads; t++)
        free_bench(&benches[t]);
    free(benches);
    return status;
}
