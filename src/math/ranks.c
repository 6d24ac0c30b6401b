#include "math/ranks.h"

#include "base/memory.h"
#include "math/above.h"
#include "math/linear.h"
#include "math/pack.h"
#include "math/turn.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILE = 384,               /* rows and columns of a tile */
    MOST_POSITIVES = 8 << 20, /* ranked in one pass over the gallery; 20 bytes each */
    FEW = DML_ABOVE_LEVELS,   /* positives of a query that are compared with one by one */
    STEP = 16,                /* elements of a row that are skipped together */
    PRUNE_EVERY = 16,         /* tiles, for queries with more */
};

struct positive {
    double key;
    uint32_t index; /* of the sample */
};
#define NONE UINT32_MAX /* no sample: there are at most 2^31 */

/* A block of queries [first, end) being ranked. Array indices are (position in `start`) - base. */
struct pass {
    const struct dml_rank_task *task;
    size_t first, end, base;
    bool symmetric;   /* a tile serves its rows and its columns */
    bool counted;     /* by the task's counter: all buckets are as for queries with more than FEW */
    double *key;      /* of each positive, ascending for a query */
    float *level;     /* its u + half of the query, as the tiles compare: descending */
    uint32_t *index;  /* its sample */
    uint32_t *bucket; /* others that are nearer than it (for queries with more than FEW positives:
                         but not nearer than the one before); this is the task's own `rank` */
    uint32_t *active; /* (end - first) positives whose rank may still be within the limit */
    uint8_t *locks;   /* (end - first) of a query's buckets */
};

/* A thread's workspace. */
struct bench {
    float *tile, *turned;    /* (TILE, TILE) */
    struct dml_above *above; /* a row's elements that may matter, packed, and their counts */
    struct positive *positives;
    struct positive *sorted; /* (FEW) */
    double *keys;            /* (FEW) */
};

static bool before(double key, uint32_t index, double other_key, uint32_t other_index) {
    return key < other_key || (key == other_key && index < other_index);
}

static int by_key(const void *a, const void *b) {
    const struct positive *x = a, *y = b;
    return before(x->key, x->index, y->key, y->index) ? -1 : 1;
}

/* Whether the keys of all pairs of the query's class are needed: each serves both of its samples.
 */
static bool shares_keys(const struct pass *pass, size_t q) {
    const struct dml_rank_task *task = pass->task;
    const size_t *class = task->gallery_start + task->query_class[q];
    return pass->symmetric && !task->groups &&
           task->start[q + 1] - task->start[q] + 1 == class[1] - class[0];
}

/* Gives the keys between query q and those after it in its class to both, in order of the samples.
 */
static void share_keys(struct pass *pass, size_t q) {
    const struct dml_rank_task *task = pass->task;
    size_t first = task->gallery_start[task->query_class[q]];
    size_t end = task->gallery_start[task->query_class[q] + 1];
    for (size_t j = q + 1; j < end; j++) {
        double key = dml_frame_key(task->frame, task->queries->index[q], task->queries->index[j]);
        pass->key[task->start[q] - pass->base + (j - first) - 1] = key;
        pass->key[task->start[j] - pass->base + (q - first)] = key;
    }
}

/* A query's positives, in order of their samples; returns how many. If no more are kept, only the
 * nearest of them all. */
static size_t find_positives(const struct pass *pass, size_t q, struct positive *found) {
    const struct dml_rank_task *task = pass->task;
    const double *shared = shares_keys(pass, q) ? pass->key + (task->start[q] - pass->base) : NULL;
    size_t keep = task->start[q + 1] - task->start[q], count = 0;
    int32_t class = task->query_class[q];
    uint32_t self = task->queries->index[q];
    for (size_t j = task->gallery_start[class]; keep && j < task->gallery_start[class + 1]; j++) {
        struct positive next = {0, task->gallery->index[j]};
        if (next.index == self || (task->groups && task->groups[next.index] == task->groups[self]))
            continue;
        next.key = shared ? shared[count] : dml_frame_key(task->frame, self, next.index);
        if (keep > 1 || count == 0)
            found[count++] = next;
        else if (by_key(&next, found) < 0)
            found[0] = next;
    }
    return count;
}

/* Sorts by key, and by sample where keys are equal, the order in which they were found. If there
 * are few, the place of one is how many have a smaller key: no branch that cannot be predicted. */
static void sort_positives(struct bench *bench, size_t count) {
    struct positive *found = bench->positives, *sorted = bench->sorted;
    if (count > FEW) {
        qsort(found, count, sizeof *found, by_key);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bench->keys[i] = found[i].key;
        sorted[i].index = NONE;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t place = 0;
#pragma omp simd reduction(+ : place)
        for (size_t j = 0; j < count; j++)
            place += bench->keys[j] < found[i].key;
        while (sorted[place].index != NONE)
            place++;
        sorted[place] = found[i];
    }
    memcpy(found, sorted, count * sizeof *found);
}

/* Keeps the nearest of a query's positives, as many as asked for, in order. */
static void collect_positives(struct pass *pass, struct bench *bench, size_t q) {
    const struct dml_rank_task *task = pass->task;
    const struct positive *found = bench->positives;
    size_t at = task->start[q] - pass->base, keep = task->start[q + 1] - task->start[q];
    size_t count = find_positives(pass, q, bench->positives);
    if (keep > 1)
        sort_positives(bench, count);
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
 * of levels (twice, with the bound added), in units of 2^-24. */
static float error_bound(size_t dim, double own, double longest, double level) {
    double units = (double)(dim + 4) * own * longest + 6 * (own * own + longest * longest);
    return (float)((units + 2 * level) * 0x1.02p-24 + 1e-30);
}

static float error_of(const struct pass *pass, size_t q, size_t active, float longest) {
    const struct dml_rank_task *task = pass->task;
    const float *level = pass->level + (task->start[q] - pass->base);
    return error_bound(task->frame->dim, task->queries->norm[q], longest,
                       fmax(fabs(level[0]), fabs(level[active - 1])));
}

/* One query's levels and its row of a tile. */
struct row {
    struct pass *pass;
    size_t q, column, m, active;
    const float *product, *half, *level; /* (m), (m), (active) */
    uint32_t *bucket;                    /* (active) */
    float error;
};

static bool any_between(const float *product, const float *half, float above, float below) {
    int any = 0;
#pragma omp simd reduction(| : any)
    for (size_t k = 0; k < STEP; k++) {
        float value = product[k] - half[k];
        any |= (value <= above) & (value >= below);
    }
    return any;
}

/* How many elements are nearer than level p, comparing those too near to it for float32 to tell
 * (`left`) in float64. */
static uint32_t settle_between(const struct row *row, size_t p, float above, float below,
                               size_t left) {
    const struct dml_rank_task *task = row->pass->task;
    size_t at = task->start[row->q] - row->pass->base + p;
    uint32_t nearer = 0, self = task->queries->index[row->q];
    const float *product = row->product, *half = row->half;
    for (size_t j = 0; j < row->m && left > 0; j++) {
        if (j % STEP == 0 && j + STEP <= row->m &&
            !any_between(product + j, half + j, above, below)) {
            j += STEP - 1;
            continue;
        }
        float value = product[j] - half[j];
        if (value > above || !(value >= below))
            continue;
        uint32_t sample = task->gallery->index[row->column + j];
        nearer += before(dml_frame_key(task->frame, self, sample), sample, row->pass->key[at],
                         row->pass->index[at]);
        left--;
    }
    return nearer;
}

/* How many of the row's elements are nearer than level p; value[0..count) are those that may be. */
static uint32_t settle(const struct row *row, size_t p, const float *value, size_t count) {
    float above = row->level[p] + row->error, below = row->level[p] - row->error;
    int32_t surely = 0, maybe = 0;
#pragma omp simd reduction(+ : surely, maybe)
    for (size_t c = 0; c < count; c++) {
        surely += value[c] > above;
        maybe += value[c] >= below;
    }
    size_t left = (size_t)(maybe - surely);
    return (uint32_t)surely + (left ? settle_between(row, p, above, below, left) : 0);
}

static void lock(struct pass *pass, size_t q) {
    while (__atomic_test_and_set(&pass->locks[q - pass->first], __ATOMIC_ACQUIRE))
        sched_yield();
}

static void unlock(struct pass *pass, size_t q) {
    __atomic_clear(&pass->locks[q - pass->first], __ATOMIC_RELEASE);
}

/* Few positives: every element that may matter is compared with all of them. */
static void count_few(const struct row *row, struct dml_above *work, float far) {
    size_t count = dml_pack_differences(row->product, row->half, row->m, far, work->value);
    if (count == 0)
        return;
    size_t active = row->active;
    bool unsure = dml_count_above(work, count, row->level, active, row->error);
    for (size_t p = 0; unsure && p < active; p++)
        if (work->surely[p] != work->maybe[p])
            work->surely[p] = (int16_t)settle(row, p, work->value, count);
    lock(row->pass, row->q);
    for (size_t p = 0; p < active; p++)
        row->bucket[p] += (uint32_t)work->surely[p];
    while (active > 0 && row->bucket[active - 1] + active > row->pass->task->limit[row->q])
        active--;
    if (active < row->active)
        __atomic_store_n(&row->pass->active[row->q - row->pass->first], (uint32_t)active,
                         __ATOMIC_RELAXED);
    unlock(row->pass, row->q);
}

/* The first level that is below `value`; levels descend. */
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

/* The first of a query's `count` positives that a sample is nearer than, decided in float64. */
static size_t first_after(const struct pass *pass, size_t q, size_t count, uint32_t sample) {
    const struct dml_rank_task *task = pass->task;
    size_t at = task->start[q] - pass->base, low = 0;
    double key = dml_frame_key(task->frame, task->queries->index[q], sample);
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

/* Lowers `active` to the positives whose rank, by a histogram, is within the limit so far. */
static void prune_histogram(const struct row *row) {
    uint64_t nearer = 0, limit = row->pass->task->limit[row->q];
    size_t p = 0;
    for (; p < row->active; p++) {
        nearer += row->bucket[p];
        if (nearer + p + 1 > limit)
            break;
    }
    if (p < row->active)
        __atomic_store_n(&row->pass->active[row->q - row->pass->first], (uint32_t)p,
                         __ATOMIC_RELAXED);
}

/* Many positives: each element is searched for among them, and buckets are a histogram. */
static void count_many(const struct row *row, float far) {
    lock(row->pass, row->q);
    for (size_t j = 0; j < row->m; j++) {
        float value = row->product[j] - row->half[j];
        if (value < far)
            continue;
        size_t p = first_below(row->level, row->active, value);
        if ((p < row->active && value - row->level[p] <= row->error) ||
            (p > 0 && row->level[p - 1] - value <= row->error))
            p = first_after(row->pass, row->q, row->active,
                            row->pass->task->gallery->index[row->column + j]);
        if (p < row->active)
            row->bucket[p]++;
    }
    if (row->column / TILE % PRUNE_EVERY == 0)
        prune_histogram(row);
    unlock(row->pass, row->q);
}

/* One query against the columns [column, column + m) of the gallery; product (m) holds their inner
 * products, -inf for samples that do not count. `longest` is the largest norm among them. */
static void count_row(struct pass *pass, struct bench *bench, size_t q, size_t column, size_t m,
                      const float *product, float longest) {
    const struct dml_rank_task *task = pass->task;
    size_t at = task->start[q] - pass->base;
    struct row row = {.pass = pass,
                      .q = q,
                      .column = column,
                      .m = m,
                      .active = __atomic_load_n(&pass->active[q - pass->first], __ATOMIC_RELAXED),
                      .product = product,
                      .half = task->gallery->half + column,
                      .level = pass->level + at,
                      .bucket = pass->bucket + at};
    if (row.active == 0)
        return;
    row.error = error_of(pass, q, row.active, longest);
    float far = row.level[row.active - 1] - row.error;
    if (task->start[q + 1] - task->start[q] <= FEW)
        count_few(&row, bench->above, far);
    else
        count_many(&row, far);
}

/* Samples of a query's own class are positives or the query itself: they do not count. */
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

/* What lies beyond n and m, in tiles at the edge, is transposed too and never looked at. */
static void turn(const float *tile, size_t n, size_t m, float *turned) {
    for (size_t i = 0; i < n; i += DML_TURN)
        for (size_t j = 0; j < m; j += DML_TURN)
            dml_turn(tile + i * TILE + j, TILE, turned + j * TILE + i, TILE);
}

/* The tile of queries from `row` and gallery rows from `column`; where both are one set, also the
 * tile mirrored in the diagonal. */
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
    dml_gemm_tile(n, m, dim, queries->x + row * dim, dim, gallery->x + column * dim, dim,
                  bench->tile, TILE);
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
    free(bench->above);
    free(bench->positives);
    free(bench->sorted);
    free(bench->keys);
}

static enum dml_status make_bench(struct bench *bench, size_t most_positives) {
    bench->tile = dml_alloc(TILE * TILE, sizeof *bench->tile);
    bench->turned = dml_alloc_aligned(TILE * TILE, sizeof *bench->turned);
    bench->above = dml_alloc_aligned(1, sizeof *bench->above);
    bench->positives = dml_alloc_aligned(most_positives, sizeof *bench->positives);
    bench->sorted = dml_alloc_aligned(FEW, sizeof *bench->sorted);
    bench->keys = dml_alloc_aligned(FEW, sizeof *bench->keys);
    bool all = bench->tile && bench->turned && bench->above && bench->positives && bench->sorted &&
               bench->keys;
    return all ? DML_OK : DML_ERROR_MEMORY;
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

float dml_rank_error(const struct dml_rank_work *work, size_t q, float longest) {
    const size_t *start = work->task->start;
    return error_of(work->pass, q, start[q + 1] - start[q], longest);
}

void dml_rank_settle(const struct dml_rank_work *work, size_t q, size_t j) {
    const struct dml_rank_task *task = work->task;
    size_t count = task->start[q + 1] - task->start[q];
    size_t p = first_after(work->pass, q, count, task->gallery->index[j]);
    if (p < count)
        __atomic_fetch_add(&work->nearer[task->start[q] - task->start[work->first] + p], 1,
                           __ATOMIC_RELAXED);
}

/* Lets the task's counter count; false if there is none, or if it cannot. */
static bool count_elsewhere(struct pass *pass) {
    const struct dml_rank_task *task = pass->task;
    const struct dml_rank_work work = {task,        pass->first,  pass->end,
                                       pass->level, pass->bucket, pass};
    size_t positives = task->start[pass->end] - pass->base;
    if (!task->counter || positives == 0)
        return false;
    pass->counted = task->counter->count(task->counter->data, &work);
    if (!pass->counted)
        memset(pass->bucket, 0, positives * sizeof *pass->bucket);
    else if (task->progress)
        task->progress(task->data, (double)pass->end / (double)task->queries->n);
    return pass->counted;
}

/* Turns the counts of a pass into ranks, in place. */
static void finish_ranks(struct pass *pass) {
#pragma omp parallel for schedule(static)
    for (size_t q = pass->first; q < pass->end; q++) {
        size_t at = pass->task->start[q] - pass->base;
        size_t count = pass->task->start[q + 1] - pass->task->start[q];
        uint64_t nearer = 0, limit = pass->task->limit[q];
        for (size_t p = 0; p < count; p++) {
            nearer =
                count > FEW || pass->counted ? nearer + pass->bucket[at + p] : pass->bucket[at + p];
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
    pass->locks = dml_alloc(queries, sizeof *pass->locks);
    if (!pass->locks || !pass->key || !pass->level || !pass->index || !pass->active) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
#pragma omp parallel
    {
#pragma omp for schedule(dynamic, 16)
        for (size_t q = pass->first; q < pass->end; q++)
            if (shares_keys(pass, q))
                share_keys(pass, q);
#pragma omp for schedule(dynamic, 16)
        for (size_t q = pass->first; q < pass->end; q++)
            collect_positives(pass, &benches[omp_get_thread_num()], q);
    }
    if (!count_elsewhere(pass))
        count_tiles(pass, benches);
    finish_ranks(pass);
out:
    free(pass->key);
    free(pass->level);
    free(pass->index);
    free(pass->active);
    free(pass->locks);
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
