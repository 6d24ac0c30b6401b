#include "math/neighbours.h"

#include "base/memory.h"
#include "math/nearest.h"
#include "math/values.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>

enum { HEIGHT = 128, WIDTH = 512 };

/* A thread's workspace. */
struct workspace {
    double *tile;                /* (HEIGHT, WIDTH) */
    struct dml_neighbour *items; /* (HEIGHT, k) */
    struct dml_nearest_heap heaps[HEIGHT];
    double farthest[HEIGHT];
};

/* Offers the gallery rows [column, column + m) to one query. */
static void offer_row(const struct dml_neighbour_task *task, const double *norm2, double own_norm2,
                      size_t q, size_t column, size_t m, const double *product,
                      struct dml_nearest_heap *heap, double *farthest) {
    size_t dim = task->dim;
    uint32_t own = task->own ? task->own[q] : DML_NO_SAMPLE;
    /* Products, norms and their sum have rounding errors below this times the norms (Higham 2002,
     * 3.1). */
    double units = (double)(dim + 8) * 0x1p-52;
    for (size_t j = 0; j < m; j++) {
        size_t row = column + j;
        double norms = own_norm2 + norm2[row], d2 = norms - 2 * product[j], error = units * norms;
        bool near = row != own && d2 - error <= dml_nearest_bound(heap);
        bool far = task->farthest2 && d2 + error >= *farthest;
        if (!near && !far)
            continue;
        double exact = dml_distance2_64(task->queries + q * dim, task->gallery + row * dim, dim);
        if (near)
            dml_nearest_offer(heap, row, exact);
        *farthest = fmax(*farthest, exact);
    }
}

static void find_block(const struct dml_neighbour_task *task, const double *norm2, size_t first,
                       struct workspace *workspace) {
    size_t count = task->m - first < HEIGHT ? task->m - first : HEIGHT, dim = task->dim;
    double own_norm2[HEIGHT];
    for (size_t i = 0; i < count; i++) {
        const double *x = task->queries + (first + i) * dim;
        own_norm2[i] = dml_dot64(x, x, dim);
        workspace->heaps[i] = (struct dml_nearest_heap){workspace->items + i * task->k, 0, task->k};
        workspace->farthest[i] = 0;
    }
    for (size_t column = 0; column < task->n; column += WIDTH) {
        size_t m = task->n - column < WIDTH ? task->n - column : WIDTH;
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)count, (blasint)m,
                    (blasint)dim, 1, task->queries + first * dim, (blasint)dim,
                    task->gallery + column * dim, (blasint)dim, 0, workspace->tile, WIDTH);
        for (size_t i = 0; i < count; i++)
            offer_row(task, norm2, own_norm2[i], first + i, column, m, workspace->tile + i * WIDTH,
                      &workspace->heaps[i], &workspace->farthest[i]);
    }
    for (size_t i = 0; i < count; i++) {
        size_t at = (first + i) * task->k;
        dml_nearest_sort(&workspace->heaps[i]);
        for (size_t r = 0; r < task->k; r++) {
            task->index[at + r] = (uint32_t)workspace->heaps[i].items[r].index;
            if (task->distance2)
                task->distance2[at + r] = workspace->heaps[i].items[r].distance;
        }
        if (task->farthest2)
            task->farthest2[first + i] = workspace->farthest[i];
    }
}

enum dml_status dml_neighbours(const struct dml_neighbour_task *task) {
    double *norm2 = dml_alloc(task->n, sizeof *norm2);
    if (!norm2)
        return DML_ERROR_MEMORY;
    bool failed = false;
#pragma omp parallel
    {
        struct workspace *workspace = dml_alloc(1, sizeof *workspace);
        if (workspace) {
            workspace->tile = dml_alloc_aligned(HEIGHT * WIDTH, sizeof *workspace->tile);
            workspace->items = dml_alloc(HEIGHT * task->k, sizeof *workspace->items);
        }
        bool ready = workspace && workspace->tile && workspace->items;
        if (!ready)
#pragma omp atomic write
            failed = true;
#pragma omp for schedule(static)
        for (size_t i = 0; i < task->n; i++)
            norm2[i] =
                dml_dot64(task->gallery + i * task->dim, task->gallery + i * task->dim, task->dim);
#pragma omp for schedule(dynamic, 1)
        for (size_t first = 0; first < task->m; first += HEIGHT)
            if (ready)
                find_block(task, norm2, first, workspace);
        if (workspace) {
            free(workspace->tile);
            free(workspace->items);
        }
        free(workspace);
    }
    free(norm2);
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for the nearest of %zu", task->m)
                  : DML_OK;
}
