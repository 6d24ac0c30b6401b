/* Samples against the vectors of classes: class_scores.h and proxyanchor.c of src/criteria. */
#include "backends/cuda/device/launch.h"

/* A block for each vector. */
static __global__ void units_kernel(size_t dim, const float *w, float *units, float *norms) {
    SHARED(double, part, THREADS + 16);
    size_t at = blockIdx.x * dim;
    double squares = 0;
    for (size_t k = threadIdx.x; k < dim; k += THREADS)
        squares += (double)w[at + k] * w[at + k];
    double norm = sqrt(block_sum(squares, part));
    float scale = norm < 1e-12 ? 0.0f : (float)(1 / norm);
    for (size_t k = threadIdx.x; k < dim; k += THREADS)
        units[at + k] = w[at + k] * scale;
    if (threadIdx.x == 0)
        norms[blockIdx.x] = (float)norm;
}
static void class_units(cuda_stream s, size_t count, size_t dim, const float *w, float *units,
                        float *norms) {
    LAUNCH(units_kernel, count, THREADS, s, dim, w, units, norms);
}

static __global__ void units_gradient_kernel(size_t dim, const float *units, const float *norms,
                                             float *grad) {
    SHARED(double, part, THREADS + 16);
    size_t at = blockIdx.x * dim;
    double dot = 0;
    for (size_t k = threadIdx.x; k < dim; k += THREADS)
        dot += (double)units[at + k] * grad[at + k];
    float along = (float)block_sum(dot, part), norm = norms[blockIdx.x];
    float scale = norm < 1e-12f ? 0.0f : 1 / norm;
    for (size_t k = threadIdx.x; k < dim; k += THREADS)
        grad[at + k] = (grad[at + k] - units[at + k] * along) * scale;
}
static void class_units_gradient(cuda_stream s, size_t count, size_t dim, const float *units,
                                 const float *norms, float *grad) {
    LAUNCH(units_gradient_kernel, count, THREADS, s, dim, units, norms, grad);
}

/* Whether a class has a gradient depends on which side of the clamp's bounds its cosine is on: where
 * float32 cannot tell, float64 decides. */
static __device__ float settled(const struct cuda_class_tile *t, size_t i, size_t j, float cosine) {
    if (!(fabsf(cosine) < CUDA_CLASS_DOUBT || cosine > 1 - CUDA_CLASS_DOUBT))
        return cosine;
    const float *x = t->x + i * t->dim, *w = t->w + j * t->dim;
    double dot = 0, squares = 0;
    for (size_t k = 0; k < t->dim; k++) {
        dot += (double)x[k] * w[k];
        squares += (double)w[k] * w[k];
    }
    double norm = sqrt(squares), exact = norm < 1e-12 ? 0 : dot / norm;
    if (exact < CUDA_CLASS_LEAST)
        return -1.0f;
    return exact > 1 - CUDA_CLASS_LEAST ? 2.0f : fminf((float)exact, 1.0f);
}

/* A block takes CUDA_CLASS_CHUNK classes of one sample. */
static __global__ void exponentials_kernel(struct cuda_class_tile t, size_t chunks) {
    SHARED(double, part, THREADS + 16);
    size_t chunk, i = row_of(blockIdx.x, chunks, &chunk), own = (size_t)t.labels[i] - t.first;
    size_t end = (chunk + 1) * CUDA_CLASS_CHUNK;
    const float least = (float)CUDA_CLASS_LEAST, shift = t.shift[i];
    float *row = t.tile + i * t.width;
    double sum = 0;
    if (end > t.width)
        end = t.width;
    for (size_t j = chunk * CUDA_CLASS_CHUNK + threadIdx.x; j < end; j += THREADS) {
        float cosine = t.clamp ? settled(&t, i, j, row[j]) : row[j], inside = cosine;
        if (t.clamp)
            inside = cosine < least ? least : cosine > 1.0f ? 1.0f : cosine;
        float e = j == own ? 0.0f : expf(t.scale * inside - shift);
        sum += e;
        row[j] = cosine == inside ? e : 0.0f;
    }
    sum = block_sum(sum, part);
    if (threadIdx.x == 0)
        t.partial[blockIdx.x] = sum;
}

static __global__ void largest_kernel(struct cuda_class_tile t, size_t chunks) {
    SHARED(double, part, THREADS + 16);
    size_t chunk, i = row_of(blockIdx.x, chunks, &chunk), own = (size_t)t.labels[i] - t.first;
    size_t end = (chunk + 1) * CUDA_CLASS_CHUNK;
    const float *row = t.tile + i * t.width;
    double most = -INFINITY;
    if (end > t.width)
        end = t.width;
    for (size_t j = chunk * CUDA_CLASS_CHUNK + threadIdx.x; j < end; j += THREADS)
        if (j != own)
            most = fmax(most, (double)row[j]);
    most = block_max(most, part);
    if (threadIdx.x == 0)
        t.partial[blockIdx.x] = most;
}

/* The chunks of a sample, in order. */
static __global__ void collect_kernel(size_t n, size_t chunks, bool largest, bool add,
                                      const double *partial, double *out) {
    size_t i = thread_number();
    if (i >= n)
        return;
    double value = add ? out[i] : largest ? -INFINITY : 0;
    for (size_t k = 0; k < chunks; k++) {
        double more = partial[i * chunks + k];
        value = largest ? fmax(value, more) : value + more;
    }
    out[i] = value;
}

static void class_exponentials(cuda_stream s, const struct cuda_class_tile *t, bool add,
                               double *sums) {
    size_t chunks = cuda_class_chunks(t->width);
    LAUNCH(exponentials_kernel, t->n * chunks, THREADS, s, *t, chunks);
    LAUNCH(collect_kernel, blocks_for(t->n, THREADS), THREADS, s, t->n, chunks, false, add,
           t->partial, sums);
}
static void class_largest(cuda_stream s, const struct cuda_class_tile *t, bool add, double *most) {
    size_t chunks = cuda_class_chunks(t->width);
    LAUNCH(largest_kernel, t->n * chunks, THREADS, s, *t, chunks);
    LAUNCH(collect_kernel, blocks_for(t->n, THREADS), THREADS, s, t->n, chunks, true, add,
           t->partial, most);
}

static __global__ void own_kernel(struct cuda_class_tile t, const float *pull) {
    size_t i = thread_number();
    if (i >= t.n)
        return;
    size_t own = (size_t)t.labels[i] - t.first;
    if (own < t.width)
        t.tile[i * t.width + own] = pull[i];
}
static void class_own(cuda_stream s, const struct cuda_class_tile *t, const float *pull) {
    LAUNCH(own_kernel, blocks_for(t->n, THREADS), THREADS, s, *t, pull);
}

static __global__ void rows_kernel(size_t n, size_t dim, const int32_t *labels, const float *w,
                                   float *out) {
    size_t at = thread_number(), k;
    if (at >= n * dim)
        return;
    size_t i = row_of(at, dim, &k);
    out[at] = w[(size_t)labels[i] * dim + k];
}
static void class_rows(cuda_stream s, size_t n, size_t dim, const int32_t *labels, const float *w,
                       float *out) {
    LAUNCH(rows_kernel, blocks_for(n * dim, THREADS), THREADS, s, n, dim, labels, w, out);
}

/* Samples may share a class: each thread adds those of one dimension, one after another. */
static __global__ void add_rows_kernel(size_t n, size_t dim, const int32_t *labels,
                                       const float *factor, const float *rows, float *out) {
    size_t k = thread_number();
    for (size_t i = 0; k < dim && i < n; i++)
        out[(size_t)labels[i] * dim + k] += factor[i] * rows[i * dim + k];
}
static void class_add_rows(cuda_stream s, size_t n, size_t dim, const int32_t *labels,
                           const float *factor, const float *rows, float *out) {
    LAUNCH(add_rows_kernel, blocks_for(dim, THREADS), THREADS, s, n, dim, labels, factor, rows,
           out);
}

/* log(1 + sum e^z_j) over the samples of the class (`own`) or over all others, for the whole block;
 * *scale: e^z_j times this is its slope by z_j, with e^z_j relative to *most. */
static __device__ double softplus(const struct cuda_anchors *a, size_t class_, bool own,
                                  const float *c, double *part, float *most, float *scale) {
    float alpha = own ? -a->alpha : a->alpha, margin = own ? -a->margin : a->margin;
    double top = 0, sum = 0;
    for (size_t j = threadIdx.x; j < a->n; j += THREADS)
        if (((size_t)a->labels[j] == class_) == own)
            top = fmax(top, (double)(alpha * (c[j] + margin)));
    *most = (float)block_max(top, part);
    for (size_t j = threadIdx.x; j < a->n; j += THREADS)
        if (((size_t)a->labels[j] == class_) == own)
            sum += expf(alpha * (c[j] + margin) - *most);
    sum = block_sum(sum, part);
    double value = *most == 0 ? log1p(sum) : *most + log(exp(-(double)*most) + sum);
    *scale = (float)exp(*most - value);
    return value;
}

/* A block for each class: its loss, and its cosines become their slopes. */
static __global__ void anchors_kernel(struct cuda_anchors a) {
    SHARED(double, part, THREADS + 16);
    size_t class_ = a.first + blockIdx.x;
    float *c = a.tile + blockIdx.x * a.n, most_far, far, most_near, near_;
    double here = 0;
    for (size_t j = threadIdx.x; j < a.n; j += THREADS)
        here += (size_t)a.labels[j] == class_;
    bool present = block_sum(here, part) > 0;
    double loss = a.share_all * softplus(&a, class_, false, c, part, &most_far, &far);
    double own = softplus(&a, class_, true, c, part, &most_near, &near_);
    if (present)
        loss += a.share * own;
    float push = (float)(a.alpha * a.share_all), pull = (float)(a.alpha * a.share);
    for (size_t j = threadIdx.x; j < a.n; j += THREADS)
        c[j] = (size_t)a.labels[j] == class_
                   ? -pull * near_ * expf(-a.alpha * (c[j] - a.margin) - most_near)
                   : push * far * expf(a.alpha * (c[j] + a.margin) - most_far);
    if (threadIdx.x == 0)
        a.losses[blockIdx.x] = loss;
}

/* One block. */
static __global__ void add_losses_kernel(size_t count, bool add, const double *losses,
                                         double *out) {
    SHARED(double, part, THREADS + 16);
    double sum = 0;
    for (size_t i = threadIdx.x; i < count; i += THREADS)
        sum += losses[i];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0)
        *out = add ? *out + sum : sum;
}
static void class_anchors(cuda_stream s, const struct cuda_anchors *a, bool add, double *loss) {
    LAUNCH(anchors_kernel, a->width, THREADS, s, *a);
    LAUNCH(add_losses_kernel, 1, THREADS, s, a->width, add, a->losses, loss);
}

void cuda_fill_classes(struct cuda_kernels *table) {
    table->class_units = class_units;
    table->class_units_gradient = class_units_gradient;
    table->class_exponentials = class_exponentials;
    table->class_largest = class_largest;
    table->class_own = class_own;
    table->class_rows = class_rows;
    table->class_add_rows = class_add_rows;
    table->class_anchors = class_anchors;
}
