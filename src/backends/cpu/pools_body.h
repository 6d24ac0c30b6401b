/* Part of kernels_body.h: pools. They walk one channel group of one image at a time, all channels
 * of a group side by side. */

/* The part of the window of output row (or column) `o` that lies in the input. */
struct span {
    int start, first, end; /* window start (may be negative), first and end inside */
};
static struct span span_of(int o, int stride, int pad, int kernel, int size) {
    int start = o * stride - pad;
    int end = start + kernel < size ? start + kernel : size;
    return (struct span){start, start > 0 ? start : 0, end};
}

INLINE void max_of_window(size_t block, const struct plan_layout *in, struct span rows,
                          struct span columns, int kernel_w, const element *x, element *y,
                          uint8_t *winner) {
    float best[LANES];
    int32_t where[LANES];
    /* Its first pixel inside the image wins where all are minus infinity. */
    int32_t first = (rows.first - rows.start) * kernel_w + columns.first - columns.start;
    for (size_t b = 0; b < block; b++) {
        best[b] = -INFINITY;
        where[b] = first;
    }
    for (int iy = rows.first; iy < rows.end; iy++)
        for (int ix = columns.first; ix < columns.end; ix++) {
            const element *pixel = x + ((size_t)iy * (size_t)in->width + (size_t)ix) * block;
            int32_t position = (iy - rows.start) * kernel_w + ix - columns.start;
#pragma omp simd
            for (size_t b = 0; b < block; b++) {
                /* NaN stays; no short cut, so that the compiler can compare all lanes at once. */
                float value = load(pixel[b]);
                bool better = (value > best[b]) | (value != value);
                best[b] = better ? value : best[b];
                where[b] = better ? position : where[b];
            }
        }
    for (size_t b = 0; b < block; b++)
        y[b] = narrow(best[b]);
    if (winner)
        for (size_t b = 0; b < block; b++)
            winner[b] = (uint8_t)where[b];
}

INLINE void max_group(size_t block, const struct cpu_window *w, const struct plan_layout *in,
                      const struct plan_layout *out, const element *x, element *y,
                      uint8_t *winner) {
    for (int oy = 0; oy < out->height; oy++)
        for (int ox = 0; ox < out->width; ox++) {
            size_t at = ((size_t)oy * (size_t)out->width + (size_t)ox) * block;
            max_of_window(block, in, span_of(oy, w->stride_h, w->pad_h, w->kernel_h, in->height),
                          span_of(ox, w->stride_w, w->pad_w, w->kernel_w, in->width), w->kernel_w,
                          x, y + at, winner ? winner + at : NULL);
        }
}

static void max_pool(const struct cpu_window *window, const struct plan_layout *in,
                     const struct plan_layout *out, size_t n, const void *x, void *y,
                     uint8_t *winner) {
    size_t block = (size_t)in->block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            const element *from = (const element *)x + i * in->image + g * in->pixels * block;
            size_t at = i * out->image + g * out->pixels * block;
            element *to = (element *)y + at;
            uint8_t *won = winner ? winner + at : NULL;
            WITH_BLOCK(max_group, block, window, in, out, from, to, won);
        }
}

/* Gradients of windows that overlap add up in float32, in the kernel_h rows of the input under a
 * row of windows. After window row `oy` this stores the rows that later windows do not reach, and
 * moves the others up. `sums` begins at row oy * stride_h - pad_h of the input. */
static void store_rows(const struct cpu_window *w, const struct plan_layout *in, int oy, bool last,
                       float *sums, element *grad_x) {
    size_t row = (size_t)in->width * (size_t)in->block;
    int start = oy * w->stride_h - w->pad_h, next = start + w->stride_h;
    int end = last || next > in->height ? in->height : next;
    for (int y = start > 0 ? start : 0; y < end; y++) {
        element *to = grad_x + (size_t)y * row;
        const float *from = sums + (size_t)(y - start) * row;
        if (y - start < w->kernel_h)
            for (size_t k = 0; k < row; k++)
                to[k] = narrow(from[k]);
        else
            memset(to, 0, row * sizeof *to);
    }
    int keep = w->kernel_h > w->stride_h ? w->kernel_h - w->stride_h : 0;
    memmove(sums, sums + (size_t)(w->kernel_h - keep) * row, (size_t)keep * row * sizeof *sums);
    memset(sums + (size_t)keep * row, 0, (size_t)(w->kernel_h - keep) * row * sizeof *sums);
}

/* Adds the gradient of each maximum to the pixel that won. delta[k]: values from the first pixel of
 * a window to its position k. */
INLINE void max_group_gradient(size_t block, const struct cpu_window *w,
                               const struct plan_layout *in, const struct plan_layout *out,
                               const int32_t *delta, const element *grad, const element *positive,
                               const uint8_t *winner, element *grad_x) {
    float sums[(size_t)w->kernel_h * (size_t)in->width * block];
    memset(sums, 0, sizeof sums);
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            ptrdiff_t start = (ptrdiff_t)(ox * w->stride_w - w->pad_w) * (ptrdiff_t)block;
            size_t at = ((size_t)oy * (size_t)out->width + (size_t)ox) * block;
            for (size_t b = 0; b < block; b++) {
                float part = load(grad[at + b]);
                if (positive)
                    part = load(positive[at + b]) > 0.0f ? part : 0.0f;
                sums[start + delta[winner[at + b]] + (ptrdiff_t)b] += part;
            }
        }
        store_rows(w, in, oy, oy == out->height - 1, sums, grad_x);
    }
}

static void max_pool_gradient(const struct cpu_window *window, const struct plan_layout *in,
                              const struct plan_layout *out, size_t n, const struct cpu_term *grad,
                              const void *positive, const uint8_t *winner, void *grad_x) {
    size_t block = (size_t)in->block;
    int32_t delta[256] = {0};
    for (int k = 0; k < window->kernel_h * window->kernel_w; k++)
        delta[k] = (k / window->kernel_w * in->width + k % window->kernel_w) * (int32_t)block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            element *to = (element *)grad_x + i * in->image + g * in->pixels * block;
            const element *from =
                (const element *)grad->data + i * grad->image + g * out->pixels * block;
            size_t at = i * out->image + g * out->pixels * block;
            const element *gate = positive ? (const element *)positive + at : NULL;
            WITH_BLOCK(max_group_gradient, block, window, in, out, delta, from, gate, winner + at,
                       to);
        }
}

/* The reciprocal of what a window's sum is divided by: with count_padding, its pixels inside the
 * padded image, as PyTorch counts them. */
static float window_share(const struct cpu_window *w, const struct plan_layout *in, struct span y,
                          struct span x) {
    int rows = y.end - y.first, columns = x.end - x.first;
    if (w->count_padding) {
        int bottom = in->height + w->pad_h, right = in->width + w->pad_w;
        rows = (y.start + w->kernel_h < bottom ? y.start + w->kernel_h : bottom) - y.start;
        columns = (x.start + w->kernel_w < right ? x.start + w->kernel_w : right) - x.start;
    }
    return 1.0f / (float)(rows * columns);
}

INLINE void avg_group(size_t block, const struct cpu_window *w, const struct plan_layout *in,
                      const struct plan_layout *out, const element *x, element *y) {
    for (int oy = 0; oy < out->height; oy++)
        for (int ox = 0; ox < out->width; ox++) {
            struct span rows = span_of(oy, w->stride_h, w->pad_h, w->kernel_h, in->height);
            struct span columns = span_of(ox, w->stride_w, w->pad_w, w->kernel_w, in->width);
            float sum[LANES] = {0}, share = window_share(w, in, rows, columns);
            for (int iy = rows.first; iy < rows.end; iy++)
                for (int ix = columns.first; ix < columns.end; ix++)
                    for (size_t b = 0; b < block; b++)
                        sum[b] +=
                            load(x[((size_t)iy * (size_t)in->width + (size_t)ix) * block + b]);
            for (size_t b = 0; b < block; b++)
                y[((size_t)oy * (size_t)out->width + (size_t)ox) * block + b] =
                    narrow(sum[b] * share);
        }
}

static void avg_pool(const struct cpu_window *window, const struct plan_layout *in,
                     const struct plan_layout *out, size_t n, const void *x, void *y) {
    size_t block = (size_t)in->block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            const element *from = (const element *)x + i * in->image + g * in->pixels * block;
            element *to = (element *)y + i * out->image + g * out->pixels * block;
            WITH_BLOCK(avg_group, block, window, in, out, from, to);
        }
}

INLINE void avg_group_gradient(size_t block, const struct cpu_window *w,
                               const struct plan_layout *in, const struct plan_layout *out,
                               const element *grad, element *grad_x) {
    float sums[(size_t)w->kernel_h * (size_t)in->width * block];
    memset(sums, 0, sizeof sums);
    for (int oy = 0; oy < out->height; oy++) {
        struct span rows = span_of(oy, w->stride_h, w->pad_h, w->kernel_h, in->height);
        for (int ox = 0; ox < out->width; ox++) {
            struct span columns = span_of(ox, w->stride_w, w->pad_w, w->kernel_w, in->width);
            const element *from = grad + ((size_t)oy * (size_t)out->width + (size_t)ox) * block;
            float part[LANES], share = window_share(w, in, rows, columns);
            for (size_t b = 0; b < block; b++)
                part[b] = load(from[b]) * share;
            for (int iy = rows.first - rows.start; iy < rows.end - rows.start; iy++)
                for (int ix = columns.first; ix < columns.end; ix++)
                    for (size_t b = 0; b < block; b++)
                        sums[((size_t)iy * (size_t)in->width + (size_t)ix) * block + b] += part[b];
        }
        store_rows(w, in, oy, oy == out->height - 1, sums, grad_x);
    }
}

static void avg_pool_gradient(const struct cpu_window *window, const struct plan_layout *in,
                              const struct plan_layout *out, size_t n, const struct cpu_term *grad,
                              void *grad_x) {
    size_t block = (size_t)in->block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            const element *from =
                (const element *)grad->data + i * grad->image + g * out->pixels * block;
            element *to = (element *)grad_x + i * in->image + g * in->pixels * block;
            WITH_BLOCK(avg_group_gradient, block, window, in, out, from, to);
        }
}

static void global_avg_pool(const struct plan_layout *in, size_t n, const void *x, float *y) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            const element *from = (const element *)x + i * in->image + g * in->pixels * block;
            double sum[LANES] = {0};
            for (size_t s = 0; s < in->pixels; s++)
                for (size_t b = 0; b < block; b++)
                    sum[b] += load(from[s * block + b]);
            for (size_t b = 0; b < block; b++)
                y[(i * groups + g) * block + b] = (float)(sum[b] / (double)in->pixels);
        }
}

static void global_max_pool(const struct plan_layout *in, size_t n, const void *x, float *y,
                            int32_t *winner) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            const element *from = (const element *)x + i * in->image + g * in->pixels * block;
            for (size_t b = 0; b < block; b++) {
                size_t best = 0;
                for (size_t s = 1; s < in->pixels; s++) {
                    float value = load(from[s * block + b]);
                    if (value > load(from[best * block + b]) || value != value)
                        best = s;
                }
                y[(i * groups + g) * block + b] = load(from[best * block + b]);
                if (winner)
                    winner[(i * groups + g) * block + b] = (int32_t)best;
            }
        }
}

static void global_max_pool_gradient(const struct plan_layout *in, size_t n, const float *grad,
                                     const int32_t *winner, void *grad_x) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            element *to = (element *)grad_x + i * in->image + g * in->pixels * block;
            memset(to, 0, in->pixels * block * sizeof *to);
            for (size_t b = 0; b < block; b++) {
                size_t at = (i * groups + g) * block + b;
                to[(size_t)winner[at] * block + b] = narrow(grad[at]);
            }
        }
}
