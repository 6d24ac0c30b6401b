#include "math/nearest.h"

#include "math/linear.h"

#include <math.h>

static bool nearer(const struct dml_neighbour *a, const struct dml_neighbour *b) {
    return a->distance < b->distance || (a->distance == b->distance && a->index < b->index);
}

/* A heap of the k nearest so far, the farthest of them on top. */
static void sink(struct dml_neighbour *heap, size_t count, size_t at) {
    for (;;) {
        size_t top = at, left = 2 * at + 1, right = left + 1;
        if (left < count && nearer(&heap[top], &heap[left]))
            top = left;
        if (right < count && nearer(&heap[top], &heap[right]))
            top = right;
        if (top == at)
            return;
        struct dml_neighbour swap = heap[at];
        heap[at] = heap[top];
        heap[top] = swap;
        at = top;
    }
}

enum dml_status dml_nearest(const float *query, const float *gallery, size_t n, size_t dim,
                            bool cosine, size_t k, struct dml_neighbour *out) {
    double own = dml_dot(query, query, dim);
    if (!isfinite(own) || (cosine && own == 0))
        return dml_fail(DML_ERROR_INPUT, "a query embedding is %s",
                        own == 0 ? "a zero vector, which has no cosine" : "not finite");
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const float *x = gallery + i * dim;
        struct dml_neighbour next = {i, 0};
        if (cosine)
            next.distance = 1 - dml_dot(query, x, dim) / sqrt(own * dml_dot(x, x, dim));
        else
            next.distance = sqrt(dml_distance2(query, x, dim));
        if (!isfinite(next.distance))
            return dml_fail(DML_ERROR_INPUT, "gallery embedding %zu is not finite%s", i,
                            cosine ? ", or a zero vector" : "");
        if (count < k) {
            out[count++] = next;
            for (size_t at = count / 2; count == k && at-- > 0;)
                sink(out, count, at);
        } else if (nearer(&next, &out[0])) {
            out[0] = next;
            sink(out, count, 0);
        }
    }
    for (size_t left = count; left > 1; left--) { /* the farthest goes last */
        struct dml_neighbour swap = out[0];
        out[0] = out[left - 1];
        out[left - 1] = swap;
        sink(out, left - 1, 0);
    }
    return DML_OK;
}
