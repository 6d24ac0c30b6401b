/* Part of kernels_body.h: the generalised mean over all pixels. Powers are taken as exp(p log x),
 * relative to the largest in a channel, so that none of them leaves float32's range whatever p
 * becomes. */

/* Lower bound on x. */
static const float gem_least = 1e-6f;

/* log max(x, gem_least); an x that is neither positive nor finite gives some finite number. */
INLINE float gem_log(element x) {
    float value = load(x);
    return dml_logf(value > gem_least ? value : gem_least);
}

INLINE void gem_group(size_t block, const struct plan_layout *in, const element *x, float p,
                      float *y, float *logs, float *slopes) {
    float top[LANES], broken[LANES] = {0};
    double sum[LANES] = {0}, moment[LANES] = {0};
    for (size_t b = 0; b < block; b++)
        top[b] = -INFINITY;
    for (size_t s = 0; s < in->pixels; s++)
#pragma omp simd
        for (size_t b = 0; b < block; b++) {
            float power = p * gem_log(x[s * block + b]);
            top[b] = power > top[b] ? power : top[b];
            broken[b] += 0.0f * load(x[s * block + b]); /* NaN where x is not finite */
        }
    for (size_t s = 0; s < in->pixels; s++)
#pragma omp simd
        for (size_t b = 0; b < block; b++) {
            float log_x = gem_log(x[s * block + b]), part = dml_expf(p * log_x - top[b]);
            sum[b] += part;
            moment[b] += part * log_x;
        }
    for (size_t b = 0; b < block; b++) {
        float log_mean = top[b] + (float)log(sum[b] / (double)in->pixels) + broken[b];
        y[b] = expf(log_mean / p);
        if (!logs)
            continue;
        logs[b] = log_mean;
        slopes[b] = (float)(moment[b] / sum[b]);
    }
}

static void global_gem_pool(const struct plan_layout *in, size_t n, const void *x, float p,
                            float *y, float *state) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups, values = n * groups * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            const element *from = (const element *)x + i * in->image + g * in->pixels * block;
            size_t at = (i * groups + g) * block;
            float *to = y + at, *logs = state ? state + at : NULL;
            float *slopes = state ? state + values + at : NULL;
            WITH_BLOCK(gem_group, block, in, from, p, to, logs, slopes);
            /* Channels that pad the last group stay 0. */
            for (size_t b = 0; b < block; b++)
                if (g * block + b >= (size_t)in->channels)
                    to[b] = 0.0f;
        }
}

/* dy/dx = y / m x^(p-1) / pixels. */
INLINE void gem_group_gradient(size_t block, const struct plan_layout *in, const float *grad,
                               const element *x, float p, const float *logs, element *grad_x) {
    float offset[LANES], share[LANES];
    for (size_t b = 0; b < block; b++) {
        offset[b] = logs[b] / p - logs[b];
        share[b] = grad[b] / (float)in->pixels;
    }
    for (size_t s = 0; s < in->pixels; s++)
#pragma omp simd
        for (size_t b = 0; b < block; b++) {
            element value = x[s * block + b];
            float slope = dml_expf(offset[b] + (p - 1.0f) * gem_log(value));
            grad_x[s * block + b] = narrow(load(value) >= gem_least ? share[b] * slope : 0.0f);
        }
}

static void global_gem_pool_gradient(const struct plan_layout *in, size_t n, const float *grad,
                                     const void *x, float p, const float *logs, void *grad_x) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            size_t at = (i * groups + g) * block, map = i * in->image + g * in->pixels * block;
            const element *from = (const element *)x + map;
            element *to = (element *)grad_x + map;
            const float *upper = grad + at, *log_mean = logs + at;
            WITH_BLOCK(gem_group_gradient, block, in, upper, from, p, log_mean, to);
        }
}
