/* Alpha query expansion. */
#include "dml/postprocess.h"

#include "base/memory.h"
#include "math/neighbours.h"
#include "math/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void expand(const double *query, const double *gallery, size_t dim, const uint32_t *index,
                   size_t count, double alpha, double *out) {
    memcpy(out, query, dim * sizeof *out);
    for (size_t r = 0; r < count; r++) {
        const double *other = gallery + index[r] * dim;
        double weight = pow(fmax(dml_dot64(query, other, dim), 0), alpha);
        for (size_t k = 0; k < dim; k++)
            out[k] += weight * other[k];
    }
    double norm = sqrt(dml_dot64(out, out, dim));
    for (size_t k = 0; norm > 0 && k < dim; k++)
        out[k] /= norm;
}

enum dml_status dml_expand_queries(const double *queries, size_t m, const uint32_t *own,
                                   const double *gallery, size_t n, size_t dim, size_t neighbours,
                                   double alpha, double *out) {
    bool any_own = false;
    for (size_t i = 0; own && i < m; i++)
        any_own |= own[i] != DML_NO_SAMPLE;
    size_t most = n - (any_own && n > 0), k = neighbours < most ? neighbours : most;
    struct dml_neighbour_task task = {
        .queries = queries, .gallery = gallery, .m = m, .n = n, .dim = dim, .k = k, .own = own};
    task.index = dml_alloc(m * k, sizeof *task.index);
    enum dml_status status = task.index ? dml_neighbours(&task) : DML_ERROR_MEMORY;
#pragma omp parallel for schedule(static) if (!status)
    for (size_t i = 0; i < m; i++)
        if (!status)
            expand(queries + i * dim, gallery, dim, task.index + i * k, k, alpha, out + i * dim);
    free(task.index);
    return status;
}
