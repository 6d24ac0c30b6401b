#include "math/kmeans.h"

#include "base/memory.h"
#include "math/linear.h"
#include "math/mt19937.h"

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS = 256, CENTROIDS = 512 }; /* of a tile */
enum { SEED = 1234 };                   /* faiss's own */

/* The two centroids nearest to a point among those that a scan has seen. Nearness is
 * <x,c> - |c|^2/2: the larger, the nearer. */
struct nearest {
    float first, second;
    int32_t which; /* the first one */
};

struct workspace {
    float *tile;   /* (POINTS, CENTROIDS) */
    float *points; /* (POINTS, dim) gathered */
    struct nearest nearest[POINTS];
    float own[POINTS]; /* nearness of the point's own centroid, where it was scanned */
};

enum change { SAME, POINTS_CHANGED, WAS_SPLIT };

struct state {
    const struct dml_rows *rows;
    size_t k, dim;
    float *centroids, *half;   /* (k, dim), (k) */
    float *moved, *moved_half; /* the centroids that moved, packed */
    int32_t *moved_which;      /* (k) their numbers */
    int32_t *moved_at;         /* (k) position among the moved ones, -1 for others */
    size_t moved_count;
    int32_t *assigned;    /* (n) -1 before the first assignment */
    float *nearness;      /* (n) to the own centroid */
    float *bound;         /* (n) upper bound on the nearness of any other centroid */
    uint8_t *open;        /* (n) to be compared with all centroids */
    uint8_t *changed;     /* (k) enum change: why a centroid must be recomputed */
    uint32_t *members;    /* (n) points by cluster */
    size_t *member_start; /* (k + 1) */
    double *sizes;        /* (k) */
    struct workspace *workspaces;
    int threads;
};

static void free_state(struct state *s) {
    for (int t = 0; s->workspaces && t < s->threads; t++) {
        free(s->workspaces[t].tile);
        free(s->workspaces[t].points);
    }
    free(s->workspaces);
    free(s->half);
    free(s->moved);
    free(s->moved_half);
    free(s->moved_which);
    free(s->moved_at);
    free(s->nearness);
    free(s->bound);
    free(s->open);
    free(s->changed);
    free(s->members);
    free(s->member_start);
    free(s->sizes);
}

static enum dml_status make_state(struct state *s) {
    size_t n = s->rows->n, k = s->k;
    s->threads = omp_get_max_threads();
    s->workspaces = dml_alloc((size_t)s->threads, sizeof *s->workspaces);
    for (int t = 0; s->workspaces && t < s->threads; t++) {
        s->workspaces[t].tile = dml_alloc_aligned(POINTS * CENTROIDS, sizeof(float));
        s->workspaces[t].points = dml_alloc_aligned(POINTS * s->dim, sizeof(float));
        if (!s->workspaces[t].tile || !s->workspaces[t].points)
            return DML_ERROR_MEMORY;
    }
    s->half = dml_alloc_aligned(k, sizeof *s->half);
    s->moved = dml_alloc_aligned(k * s->dim, sizeof *s->moved);
    s->moved_half = dml_alloc_aligned(k, sizeof *s->moved_half);
    s->moved_which = dml_alloc(k, sizeof *s->moved_which);
    s->moved_at = dml_alloc(k, sizeof *s->moved_at);
    s->nearness = dml_alloc(n, sizeof *s->nearness);
    s->bound = dml_alloc(n, sizeof *s->bound);
    s->open = dml_alloc(n, sizeof *s->open);
    s->changed = dml_alloc(k, sizeof *s->changed);
    s->members = dml_alloc(n, sizeof *s->members);
    s->member_start = dml_alloc(k + 1, sizeof *s->member_start);
    s->sizes = dml_alloc(k, sizeof *s->sizes);
    bool all = s->workspaces && s->half && s->moved && s->moved_half && s->moved_which &&
               s->moved_at && s->nearness && s->bound && s->open && s->changed && s->members &&
               s->member_start && s->sizes;
    return all ? DML_OK : DML_ERROR_MEMORY;
}

static void set_half(struct state *s, size_t c) {
    const float *centroid = s->centroids + c * s->dim;
    s->half[c] = (float)(dml_dot(centroid, centroid, s->dim) / 2);
}

/* k distinct points: the first k of a Fisher-Yates shuffle of the points as given. */
static enum dml_status first_centroids(struct state *s) {
    size_t n = s->rows->n;
    uint32_t *order = dml_alloc(n, sizeof *order);
    if (!order)
        return DML_ERROR_MEMORY;
    struct dml_mt19937 generator = dml_mt19937_make(SEED + 1);
    for (size_t i = 0; i < n; i++)
        order[s->rows->index[i]] = (uint32_t)i;
    for (size_t c = 0; c < s->k; c++) {
        size_t other = c + dml_mt19937_draw(&generator) % (n - c);
        uint32_t point = order[other];
        order[other] = order[c];
        memcpy(s->centroids + c * s->dim, s->rows->x + point * s->dim, s->dim * sizeof(float));
        set_half(s, c);
        s->moved_at[c] = (int32_t)c;
    }
    free(order);
    return DML_OK;
}

static void pack_moved(struct state *s) {
    s->moved_count = 0;
    for (size_t c = 0; c < s->k; c++) {
        if (s->moved_at[c] < 0)
            continue;
        size_t at = s->moved_count++;
        s->moved_at[c] = (int32_t)at;
        s->moved_which[at] = (int32_t)c;
        s->moved_half[at] = s->half[c];
        memcpy(s->moved + at * s->dim, s->centroids + c * s->dim, s->dim * sizeof(float));
    }
}

/* Eight lanes of the compiler's own vectors: true is -1 in a lane. */
typedef float lanes __attribute__((vector_size(32), may_alias));
typedef int32_t numbers __attribute__((vector_size(32), may_alias));
enum { LANES = 8 };

static lanes choose(numbers mask, lanes yes, lanes no) {
    return (lanes)((mask & (numbers)yes) | (~mask & (numbers)no));
}

/* Offers one more centroid; equally near ones rank by number. */
static void offer(struct nearest *nearest, float value, int32_t which) {
    if (value > nearest->first || (value == nearest->first && which < nearest->which)) {
        nearest->second = nearest->first;
        nearest->first = value;
        nearest->which = which;
    } else if (value > nearest->second) {
        nearest->second = value;
    }
}

/* Updates the nearest two with m more centroids; `which` is NULL where they are first, first + 1,
 * and so on. Most rows hold none that is nearer, which is checked first. Otherwise each lane finds
 * its own two, which are then merged. */
static void scan(const float *row, const float *half, const int32_t *which, size_t first, size_t m,
                 struct nearest *nearest) {
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < m; j++)
        most = row[j] - half[j] > most ? row[j] - half[j] : most;
    if (most <= nearest->second)
        return;
    lanes best = -INFINITY - (lanes){0}, next = best;
    numbers at = {0}, number = {0, 1, 2, 3, 4, 5, 6, 7};
    size_t j = 0;
    for (; j + LANES <= m; j += LANES, number += LANES) {
        lanes value, norm;
        memcpy(&value, row + j, sizeof value);
        memcpy(&norm, half + j, sizeof norm);
        value -= norm;
        numbers up = value > best;
        lanes lower = choose(up, best, value);
        next = choose(lower > next, lower, next);
        best = choose(up, value, best);
        at = (up & number) | (~up & at);
    }
    for (size_t lane = 0; lane < LANES && j > 0; lane++) {
        int32_t c = at[lane] + (int32_t)first;
        offer(nearest, best[lane], which ? which[c] : c);
        if (next[lane] > nearest->second)
            nearest->second = next[lane];
    }
    for (; j < m; j++)
        offer(nearest, row[j] - half[j], which ? which[first + j] : (int32_t)(first + j));
}

static void start_nearest(struct workspace *work, size_t n) {
    for (size_t i = 0; i < n; i++)
        work->nearest[i] = (struct nearest){-INFINITY, -INFINITY, -1};
}

/* Points [first, first + n) against the centroids that moved. */
static void compare_with_moved(struct state *s, struct workspace *work, size_t first, size_t n) {
    start_nearest(work, n);
    for (size_t c = 0; c < s->moved_count; c += CENTROIDS) {
        size_t m = s->moved_count - c < CENTROIDS ? s->moved_count - c : CENTROIDS;
        dml_gemm_tile(n, m, s->dim, s->rows->x + first * s->dim, s->dim, s->moved + c * s->dim,
                      s->dim, work->tile, CENTROIDS);
        for (size_t i = 0; i < n; i++) {
            const float *row = work->tile + i * CENTROIDS;
            int32_t own = s->assigned[first + i] < 0 ? -1 : s->moved_at[s->assigned[first + i]];
            if (own >= (int32_t)c && own < (int32_t)(c + m))
                work->own[i] = row[(size_t)own - c] - s->moved_half[own];
            scan(row, s->moved_half + c, s->moved_which, c, m, &work->nearest[i]);
        }
    }
}

/* What the comparison says about one point: stay, go to a centroid that moved, or (if its own moved
 * away beyond the bound on those that did not) be compared with all. */
static void decide(struct state *s, size_t i, const struct nearest *nearest, float own_now) {
    int32_t own = s->assigned[i];
    bool own_moved = own >= 0 && s->moved_at[own] >= 0;
    float own_nearness = own_moved ? own_now : s->nearness[i];
    s->open[i] = 0;
    if (own < 0) {
        s->assigned[i] = nearest->which;
        s->nearness[i] = nearest->first;
        s->bound[i] = nearest->second;
    } else if (own_moved && nearest->first < s->bound[i]) {
        s->open[i] = 1;
    } else if (nearest->first > own_nearness) {
        s->bound[i] = fmaxf(fmaxf(s->bound[i], nearest->second), own_nearness);
        s->assigned[i] = nearest->which;
        s->nearness[i] = nearest->first;
    } else {
        float rival = own_moved ? nearest->second : nearest->first;
        if (own_moved && nearest->which != own) /* a tie: its own is the second */
            rival = nearest->first;
        s->bound[i] = fmaxf(s->bound[i], rival);
        s->nearness[i] = own_nearness;
    }
}

/* Points[0..n) against all centroids. */
static void compare_with_all(struct state *s, struct workspace *work, const uint32_t *points,
                             size_t n) {
    for (size_t i = 0; i < n; i++)
        memcpy(work->points + i * s->dim, s->rows->x + points[i] * s->dim, s->dim * sizeof(float));
    start_nearest(work, n);
    for (size_t c = 0; c < s->k; c += CENTROIDS) {
        size_t m = s->k - c < CENTROIDS ? s->k - c : CENTROIDS;
        dml_gemm_tile(n, m, s->dim, work->points, s->dim, s->centroids + c * s->dim, s->dim,
                      work->tile, CENTROIDS);
        for (size_t i = 0; i < n; i++)
            scan(work->tile + i * CENTROIDS, s->half + c, NULL, c, m, &work->nearest[i]);
    }
    for (size_t i = 0; i < n; i++) {
        s->assigned[points[i]] = work->nearest[i].which;
        s->nearness[points[i]] = work->nearest[i].first;
        s->bound[points[i]] = work->nearest[i].second;
    }
}

static void assign(struct state *s) {
    size_t n = s->rows->n, tiles = (n + POINTS - 1) / POINTS, open = 0;
    pack_moved(s);
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t t = 0; t < tiles; t++) {
        struct workspace *work = &s->workspaces[omp_get_thread_num()];
        size_t first = t * POINTS, count = n - first < POINTS ? n - first : POINTS;
        compare_with_moved(s, work, first, count);
        for (size_t i = 0; i < count; i++)
            decide(s, first + i, &work->nearest[i], work->own[i]);
    }
    for (size_t i = 0; i < n; i++)
        if (s->open[i])
            s->members[open++] = (uint32_t)i;
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t first = 0; first < open; first += POINTS) {
        size_t count = open - first < POINTS ? open - first : POINTS;
        compare_with_all(s, &s->workspaces[omp_get_thread_num()], s->members + first, count);
    }
}

/* Lists the points of every cluster, in order, and marks the clusters whose list changed. */
static bool gather_members(struct state *s, const int32_t *before) {
    size_t n = s->rows->n;
    bool any = false;
    for (size_t c = 0; c < s->k; c++)
        s->changed[c] = s->changed[c] == WAS_SPLIT ? POINTS_CHANGED : SAME;
    memset(s->member_start, 0, (s->k + 1) * sizeof *s->member_start);
    for (size_t i = 0; i < n; i++) {
        s->member_start[s->assigned[i] + 1]++;
        if (before[i] == s->assigned[i])
            continue;
        any = true;
        s->changed[s->assigned[i]] = POINTS_CHANGED;
        if (before[i] >= 0)
            s->changed[before[i]] = POINTS_CHANGED;
    }
    for (size_t c = 0; c < s->k; c++) {
        s->sizes[c] = (double)s->member_start[c + 1];
        s->member_start[c + 1] += s->member_start[c];
    }
    for (size_t i = n; i-- > 0;)
        s->members[--s->member_start[s->assigned[i] + 1]] = (uint32_t)i;
    for (size_t c = 0; c < s->k; c++) /* each entry now holds the start of the cluster before it */
        s->member_start[c] = s->member_start[c + 1];
    s->member_start[s->k] = n;
    return any;
}

static void move_centroid(struct state *s, size_t c, double *sum) {
    size_t count = s->member_start[c + 1] - s->member_start[c];
    float *centroid = s->centroids + c * s->dim;
    bool moved = false;
    memset(sum, 0, s->dim * sizeof *sum);
    for (size_t m = s->member_start[c]; m < s->member_start[c + 1]; m++) {
        const float *x = s->rows->x + s->members[m] * s->dim;
        for (size_t d = 0; d < s->dim; d++)
            sum[d] += x[d];
    }
    for (size_t d = 0; d < s->dim; d++) {
        float value = (float)(sum[d] / (double)count);
        moved |= value != centroid[d];
        centroid[d] = value;
    }
    s->moved_at[c] = moved ? 0 : -1;
    if (moved)
        set_half(s, c);
}

static enum dml_status move_centroids(struct state *s) {
    double *sums = dml_alloc((size_t)s->threads * s->dim, sizeof *sums);
    if (!sums)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t c = 0; c < s->k; c++) {
        s->moved_at[c] = -1;
        if (s->changed[c] != SAME && s->sizes[c] > 0)
            move_centroid(s, c, sums + (size_t)omp_get_thread_num() * s->dim);
    }
    free(sums);
    return DML_OK;
}

/* The first cluster, in cyclic order, that a draw picks with a probability proportional to its size
 * minus one. Some size is above 1, as there are fewer clusters than points. */
static size_t cluster_to_split(const struct state *s, struct dml_mt19937 *generator) {
    for (size_t c = 0;; c = (c + 1) % s->k) {
        float draw = (float)dml_mt19937_draw(generator) / 0x1p32f;
        if (draw < (float)((s->sizes[c] - 1) / (double)(s->rows->n - s->k)))
            return c;
    }
}

/* An empty cluster takes half of another one: both get its centroid, with each component moved by
 * 2^-10 of its value before the frame shifted it, in opposite directions. */
static void split_clusters(struct state *s, const struct dml_frame *frame) {
    if (s->rows->n == s->k) /* identical points: there is nothing to split */
        return;
    struct dml_mt19937 generator = dml_mt19937_make(SEED);
    for (size_t c = 0; c < s->k; c++) {
        if (s->sizes[c] > 0)
            continue;
        size_t from = cluster_to_split(s, &generator);
        float *old = s->centroids + from * s->dim, *new = s->centroids + c * s->dim;
        for (size_t d = 0; d < s->dim; d++) {
            double value = old[d] + frame->mean[d] * frame->scale;
            double by = d % 2 == 0 ? value * 0x1p-10 : -value * 0x1p-10;
            new[d] = (float)(old[d] + by);
            old[d] = (float)(old[d] - by);
        }
        s->sizes[from] /= 2;
        s->sizes[c] = s->sizes[from];
        set_half(s, c);
        set_half(s, from);
        s->moved_at[c] = s->moved_at[from] = 0;
        s->changed[c] = s->changed[from] = WAS_SPLIT;
    }
}

static double total_distance(const struct state *s) {
    double total = 0;
    for (size_t i = 0; i < s->rows->n; i++)
        total += dml_distance2(s->rows->x + i * s->dim,
                               s->centroids + (size_t)s->assigned[i] * s->dim, s->dim);
    return total;
}

enum dml_status dml_kmeans_run(const struct dml_frame *frame, const struct dml_rows *rows,
                               const struct dml_kmeans_options *options, struct dml_kmeans *out) {
    struct state s = {.rows = rows,
                      .k = options->clusters,
                      .dim = rows->dim,
                      .centroids = out->centroids,
                      .assigned = out->assigned};
    int32_t *before = dml_alloc(rows->n, sizeof *before);
    enum dml_status status = before ? make_state(&s) : DML_ERROR_MEMORY;
    if (!status)
        status = first_centroids(&s);
    if (status)
        goto out;
    for (size_t i = 0; i < rows->n; i++)
        s.assigned[i] = -1;
    for (size_t iteration = 0;; iteration++) {
        memcpy(before, s.assigned, rows->n * sizeof *before);
        assign(&s);
        out->iterations = iteration;
        if (iteration == options->iterations || (!gather_members(&s, before) && iteration > 0))
            break;
        if ((status = move_centroids(&s)))
            goto out;
        split_clusters(&s, frame);
        if (options->progress)
            options->progress(options->data, (double)(iteration + 1) / (double)options->iterations);
    }
    out->objective = total_distance(&s) / (frame->scale * frame->scale);
out:
    free(before);
    free_state(&s);
    return status;
}
