#include "math/nearest.h"

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

void dml_nearest_offer(struct dml_nearest_heap *heap, size_t index, double distance) {
    struct dml_neighbour next = {index, distance};
    if (heap->count < heap->k) {
        heap->items[heap->count++] = next;
        for (size_t at = heap->count / 2; heap->count == heap->k && at-- > 0;)
            sink(heap->items, heap->count, at);
    } else if (heap->k > 0 && nearer(&next, &heap->items[0])) {
        heap->items[0] = next;
        sink(heap->items, heap->count, 0);
    }
}

double dml_nearest_bound(const struct dml_nearest_heap *heap) {
    return heap->count < heap->k ? INFINITY : heap->k ? heap->items[0].distance : -INFINITY;
}

void dml_nearest_sort(struct dml_nearest_heap *heap) {
    struct dml_neighbour *items = heap->items;
    for (size_t at = heap->count / 2; heap->count < heap->k && at-- > 0;)
        sink(items, heap->count, at);                   /* it was never full */
    for (size_t left = heap->count; left > 1; left--) { /* the farthest goes last */
        struct dml_neighbour swap = items[0];
        items[0] = items[left - 1];
        items[left - 1] = swap;
        sink(items, left - 1, 0);
    }
}

/* 1 - cosine; in float64 as half the squared distance of the unit vectors, which resolves smaller
 * differences. */
static double cosine_distance(const struct dml_values *x, size_t a, double x_norm2,
                              const struct dml_values *y, size_t b, double y_norm2, size_t dim) {
    if (!x->wide || !y->wide)
        return 1 - dml_values_dot(x, a, y, b, dim) / sqrt(x_norm2 * y_norm2);
    double x_scale = 1 / sqrt(x_norm2), y_scale = 1 / sqrt(y_norm2), sum = 0;
    for (size_t k = 0; k < dim; k++) {
        double difference = x->wide[a + k] * x_scale - y->wide[b + k] * y_scale;
        sum += difference * difference;
    }
    return sum / 2;
}

enum dml_status dml_nearest(const struct dml_values *queries, size_t query,
                            const struct dml_values *gallery, size_t n, size_t dim, bool cosine,
                            size_t k, struct dml_neighbour *out) {
    size_t from = query * dim;
    double own = dml_values_dot(queries, from, queries, from, dim);
    if (!isfinite(own) || (cosine && own == 0))
        return dml_fail(DML_ERROR_INPUT, "a query embedding is %s",
                        own == 0 ? "a zero vector, which has no cosine" : "not finite");
    struct dml_nearest_heap heap = {out, 0, k};
    for (size_t i = 0; i < n; i++) {
        size_t at = i * dim;
        double distance = cosine
                              ? cosine_distance(queries, from, own, gallery, at,
                                                dml_values_dot(gallery, at, gallery, at, dim), dim)
                              : sqrt(dml_values_distance2(queries, from, gallery, at, dim));
        if (!isfinite(distance))
            return dml_fail(DML_ERROR_INPUT, "gallery embedding %zu is not finite%s", i,
                            cosine ? ", or a zero vector" : "");
        dml_nearest_offer(&heap, i, distance);
    }
    dml_nearest_sort(&heap);
    return DML_OK;
}
