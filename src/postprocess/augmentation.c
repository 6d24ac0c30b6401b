/* Database-side augmentation: every gallery sample expanded by its neighbours in the gallery. */
#include "dml/postprocess.h"

#include "base/memory.h"

#include <stdlib.h>

enum dml_status dml_augment_database(const double *gallery, size_t n, size_t dim, size_t neighbours,
                                     double alpha, double *out) {
    uint32_t *own = dml_alloc(n, sizeof *own);
    for (size_t i = 0; own && i < n; i++)
        own[i] = (uint32_t)i;
    enum dml_status status =
        own ? dml_expand_queries(gallery, n, own, gallery, n, dim, neighbours, alpha, out)
            : DML_ERROR_MEMORY;
    free(own);
    return status;
}
