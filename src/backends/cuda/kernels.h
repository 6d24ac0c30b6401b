#ifndef DML_CUDA_KERNELS_H
#define DML_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a card computes besides convolutions and matrix products. All pointers are to the card's
 * memory. Feature maps lie (n, height, width, channels): as rows of `width` channels, one per
 * pixel, with `stride` values from one row to the next. They are float32, or bfloat16 where a
 * `narrow` says so; such pointers are void here. Sums over many values are taken in float64, in an
 * order that depends on sizes alone, so results repeat to the bit. */

struct cuda_rows {
    size_t count, width, stride;
    bool narrow;
};

/* One of the gradients that add up to a tensor's gradient: at data + image * i + pixel * s for
 * pixel s of image i. `broadcast`: the same for each pixel, times `scale`. */
struct cuda_term {
    const void *data;
    size_t image, pixel;
    float scale;
    bool broadcast, narrow;
};
enum { CUDA_MOST_TERMS = 12 };
struct cuda_terms {
    struct cuda_term items[CUDA_MOST_TERMS];
    int count;
};

/* A pool's window, and the sizes of its input and output. */
struct cuda_window {
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    bool count_padding;
    int in_h, in_w, out_h, out_w, channels;
    size_t n;
    bool narrow; /* input and output, and their gradients */
};

/* A pool over all pixels. */
struct cuda_pool {
    size_t n, pixels, channels;
    bool narrow; /* maps and their gradients */
};

/* Images as they come: 8-bit (n, pixels, 3) through a table (3, 256) of what values become, or
 * floats (n, 3, pixels), to rows of `stride` channels, of which those after the third are 0. */
struct cuda_input {
    const uint8_t *pixels; /* NULL: floats */
    const float *floats;
    const float *table;       /* (3, 256), of the network's channels */
    int source[3];            /* the colour that each of these comes from */
    const int *erased;        /* (n, 4): left, top, width, height; NULL: nothing */
    float scale[3], shift[3]; /* of floats, and `shift` of what is erased */
    size_t n, height, width, stride;
    bool narrow; /* what comes out */
};

/* What is summed over the rows of x for each channel. */
enum cuda_sum {
    CUDA_SUM,         /* x */
    CUDA_SUM_SQUARES, /* (x - center[c])^2 in the first sum */
    CUDA_SUM_PRODUCT, /* x, and x * (y - center[c]); center may be NULL */
    CUDA_SUM_NORMED,  /* x, and x * (y - mean[r]) * inverse[r] */
};
struct cuda_sums {
    enum cuda_sum kind;
    struct cuda_rows rows;
    const void *x, *y;   /* y has x's strides */
    const float *center; /* for CUDA_SUM_NORMED the mean, then the inverse, of each row */
};

/* A batch norm, arrays of `channels`. Sums, statistics and coefficients beside it have `stride`
 * places; those after the channels are 0. */
struct cuda_norm {
    size_t channels, stride;
    const float *weight, *bias;
    float *running_mean, *running_var;
    double epsilon;
};

/* The settings of one kind of update; see the optimisers' files. */
enum cuda_optimiser { CUDA_ADAM, CUDA_SGD, CUDA_SGD_NESTEROV, CUDA_RMSPROP, CUDA_RMSPROP_MOMENTUM };
struct cuda_update {
    enum cuda_optimiser kind;
    float rate, decay, shrink, beta1, fresh1, beta2, fresh2, root, epsilon, momentum;
};

struct cuda_attention {
    size_t n, heads, tokens;
    float scale;
};

/* A sequence's rows: learned tokens, of which the last `registers` have no position, then patches.
 * With registers, only the patches have positions. `learned` are the parameters of class,
 * distillation and register tokens; NULL: there is none. */
struct cuda_tokens {
    size_t n, tokens, prefix, registers, channels;
    const float *cls, *distilled, *extra, *positions;
};
struct cuda_token_grads {
    float *cls, *distilled, *extra, *positions;
};

/* The mean of rows first..first+count-1 of each image goes to the channels from `to` on. */
struct cuda_mean {
    size_t first, count, to;
};

/* Samples of a gallery that are nearer to queries than their positives: math/ranks.h. A tile of
 * `queries` rows and `columns` gallery rows, the first of which is row `column` of all. */
struct cuda_ranking {
    size_t queries, columns, column;
    const float *product;  /* (queries, columns) */
    const float *half;     /* (columns) */
    const float *error;    /* (queries) */
    const uint32_t *start; /* (queries + 1) in level and nearer */
    const uint32_t *own;   /* (queries, 2) from and to in the gallery: these do not count */
    const float *level;
    uint32_t *nearer;
    /* Pairs that float32 cannot decide: how many, then query and column of each of the first
     * `most`. */
    uint32_t *unsure, most;
};

/* A batch against the classes first..first+width-1. */
struct cuda_class_tile {
    size_t n, dim, first, width;
    const int32_t *labels; /* (n) */
    const float *x, *w;    /* (n, dim), (width, dim): the vectors as they are */
    float *tile;           /* (n, width): cosines, or inner products */
    const float *shift;    /* (n): what exponents are relative to */
    float scale;
    bool clamp; /* cosines to [CUDA_CLASS_LEAST, 1 - CUDA_CLASS_LEAST], without gradient beyond */
    double *partial; /* (n, cuda_class_chunks(width)): room for sums */
};
#define CUDA_CLASS_LEAST 1e-10
/* How far a float32 cosine may be from the true one. */
#define CUDA_CLASS_DOUBT 1e-6f
enum { CUDA_CLASS_CHUNK = 4096 };
static inline size_t cuda_class_chunks(size_t width) {
    return (width + CUDA_CLASS_CHUNK - 1) / CUDA_CLASS_CHUNK;
}

/* Proxy anchor's loss of the classes first..first+width-1. */
struct cuda_anchors {
    size_t n, first, width;
    const int32_t *labels;   /* (n) */
    float *tile;             /* (width, n): cosines, which become dL/dc */
    float alpha, margin;     /* exp(-alpha (c - margin)) of own samples, exp(alpha (c + margin)) */
    double share, share_all; /* of a class that is in the batch, of any class */
    double *losses;          /* (width): room */
};

typedef void *cuda_stream;

struct cuda_kernels {
    void (*input)(cuda_stream s, const struct cuda_input *in, void *out);
    /* out = relu?(scale[c] x + shift[c] + residual); x, scale, shift and residual may be NULL.
     * `out` may be x or residual. */
    void (*affine)(cuda_stream s, struct cuda_rows rows, const void *x, const float *scale,
                   const float *shift, const void *residual, bool relu, void *out);
    /* out = sum of terms where mask > 0 (NULL: everywhere); `out` may be a term of its layout. */
    void (*combine)(cuda_stream s, size_t n, size_t pixels, size_t channels,
                    const struct cuda_terms *terms, const struct cuda_term *mask, bool narrow,
                    void *out);
    /* out[r * to_stride + c] = x[r * rows.stride + c]. */
    void (*copy)(cuda_stream s, struct cuda_rows rows, const void *x, void *out, size_t to_stride);
    /* float32 to bfloat16, to the nearest. */
    void (*narrow)(cuda_stream s, size_t count, const float *x, void *out);
    /* out += x. */
    void (*add)(cuda_stream s, size_t count, const float *x, float *out);

    /* sums (2, width) in float64. partial: cuda_sums_scratch(rows) float64. */
    void (*sums)(cuda_stream s, const struct cuda_sums *sums, double *partial, double *out);
    /* grad[c] = sums[c] * factor. */
    void (*store)(cuda_stream s, size_t count, const double *sums, double factor, float *grad);

    /* Statistics (4, stride): mean, variance, then scale and shift of the normalisation. The first
     * makes the mean from sums; the second makes the others from sums of squares, and updates the
     * running statistics. */
    void (*norm_mean)(cuda_stream s, size_t channels, const double *sums, double count,
                      float *statistics);
    void (*norm_variance)(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                          double count, float momentum, float *statistics);
    /* From CUDA_SUM_PRODUCT of gradient and input: gradients of weight and bias (both may be NULL),
     * and coefficients (3, stride) for norm_input. */
    void (*norm_backward)(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                          double count, const float *statistics, float *grad_weight,
                          float *grad_bias, float *coefficients);
    /* out = a[c] grad + b[c] (x - mean[c]) + d[c]; `out` may be grad. */
    void (*norm_input)(cuda_stream s, struct cuda_rows rows, const void *grad, const void *x,
                       const float *mean, const float *coefficients, void *out);
    /* scale[c] and shift[c] (0 after the channels, up to `padded`) of running statistics; `bias`, a
     * convolution's, is added before, where it is not NULL. */
    void (*norm_affine)(cuda_stream s, const struct cuda_norm *norm, const float *bias,
                        size_t padded, float *scale, float *shift);
    /* Gradients of a norm with running statistics from CUDA_SUM_PRODUCT with center 0. */
    void (*frozen_norm)(cuda_stream s, const struct cuda_norm *norm, const double *sums,
                        float *grad_weight, float *grad_bias);

    /* target[o, i] = values[o, i] * scale[o]. */
    void (*scale_outputs)(cuda_stream s, size_t outputs, size_t inner, const float *values,
                          const float *scale, float *target);
    /* grads[o, i] = effective * scale[o] (NULL: 1); dots[o] = the sum of effective * values over i,
     * where dots is not NULL. narrow: `effective` is. */
    void (*unfold)(cuda_stream s, size_t outputs, size_t inner, bool narrow, const void *effective,
                   const float *values, const float *scale, float *grads, double *dots);
    /* The folded norm's gradients and that of the convolution's bias (NULL: none); plan/fold.h. */
    void (*unfold_norm)(cuda_stream s, const struct cuda_norm *norm, const double *dots,
                        const float *grad_shift, const float *bias, const float *scale,
                        float *grad_weight, float *grad_norm_bias, float *grad_bias);

    /* `winner` (like y): the position in its window of each maximum; NULL: not kept. */
    void (*max_pool)(cuda_stream s, const struct cuda_window *w, const void *x, void *y,
                     uint8_t *winner);
    /* `positive` (like y, or NULL): a gradient passes only where it is above 0. */
    void (*max_pool_gradient)(cuda_stream s, const struct cuda_window *w,
                              const struct cuda_term *grad, const struct cuda_term *positive,
                              const uint8_t *winner, void *out);
    void (*avg_pool)(cuda_stream s, const struct cuda_window *w, const void *x, void *y);
    void (*avg_pool_gradient)(cuda_stream s, const struct cuda_window *w,
                              const struct cuda_term *grad, void *out);
    /* Maps (n, pixels, channels) to (n, channels). */
    void (*global_avg)(cuda_stream s, const struct cuda_pool *p, const void *x, float *y);
    void (*global_max)(cuda_stream s, const struct cuda_pool *p, const void *x, float *y,
                       int32_t *winner);
    void (*global_max_gradient)(cuda_stream s, const struct cuda_pool *p, const float *grad,
                                const int32_t *winner, void *out);
    /* state (2, n, channels): log of the mean of powers, and the mean of x^p log x over it. */
    void (*global_gem)(cuda_stream s, const struct cuda_pool *p, const void *x, const float *power,
                       float *y, float *state);
    void (*global_gem_gradient)(cuda_stream s, const struct cuda_pool *p, const float *grad,
                                const void *x, const float *power, const float *state, void *out);
    /* sum (1) becomes dL/dp. */
    void (*gem_power)(cuda_stream s, size_t count, const float *grad, const float *p,
                      const float *state, double *sum);

    void (*l2_normalize)(cuda_stream s, struct cuda_rows rows, const float *x, float *y,
                         float *norms);
    void (*l2_normalize_gradient)(cuda_stream s, struct cuda_rows rows, const float *grad,
                                  const float *y, const float *norms, float *out);
    /* weight and bias may both be NULL; mean and inverse (rows) are kept. */
    void (*layer_norm)(cuda_stream s, struct cuda_rows rows, double epsilon, const float *x,
                       const float *weight, const float *bias, float *y, float *mean,
                       float *inverse);
    void (*layer_norm_gradient)(cuda_stream s, struct cuda_rows rows, const float *grad,
                                const float *x, const float *weight, const float *mean,
                                const float *inverse, float *out);
    void (*gelu)(cuda_stream s, size_t count, bool quick, const float *x, float *y);
    void (*gelu_gradient)(cuda_stream s, size_t count, bool quick, const float *grad,
                          const float *x, float *out);
    /* out = factor[image] * x + residual (or NULL) for images of `size`. */
    void (*keep)(cuda_stream s, size_t n, size_t size, const float *factor, const float *x,
                 const float *residual, float *out);
    void (*tokens)(cuda_stream s, const struct cuda_tokens *t, const float *x, float *y);
    void (*tokens_gradient)(cuda_stream s, const struct cuda_tokens *t, const float *grad,
                            const struct cuda_token_grads *grads, float *out);
    void (*token_mean)(cuda_stream s, size_t n, size_t tokens, size_t channels,
                       const struct cuda_mean *mean, const float *x, size_t image, float *y);
    /* Adds to `out`. */
    void (*token_mean_gradient)(cuda_stream s, size_t n, size_t tokens, size_t channels,
                                const struct cuda_mean *mean, const float *grad, size_t image,
                                float *out);
    /* scores (n, heads, tokens, tokens) become their softmax; log_sums (n, heads, tokens). */
    void (*softmax)(cuda_stream s, const struct cuda_attention *a, float *scores, float *log_sums);
    /* scores become the softmax again, and d, its gradient, that of the products q k^T. */
    void (*softmax_gradient)(cuda_stream s, const struct cuda_attention *a, const float *log_sums,
                             float *scores, float *d);
    /* Windows of side x side pixels of an image (n, height, width, stride), which lie side by side,
     * to rows (3, side, side). */
    void (*patches)(cuda_stream s, const struct cuda_input *image, size_t side, const float *x,
                    float *out);

    void (*update)(cuda_stream s, const struct cuda_update *u, size_t count, float *values,
                   const float *grad, float *first, float *second);
    /* measure (2): += the sum of squares, and the larger of itself and the largest absolute value.
     * partial: 2 * CUDA_MEASURE_PARTS float64. */
    void (*measure)(cuda_stream s, size_t count, const float *grad, double *partial,
                    double *measure);
    /* Adds to nearer and unsure. */
    void (*count_nearer)(cuda_stream s, const struct cuda_ranking *ranking);
    /* Vectors scaled to length 1, and their norms; a vector shorter than 1e-12 becomes 0 and has no
     * gradient. The second turns dL/d(units) into dL/dw. */
    void (*class_units)(cuda_stream s, size_t count, size_t dim, const float *w, float *units,
                        float *norms);
    void (*class_units_gradient)(cuda_stream s, size_t count, size_t dim, const float *units,
                                 const float *norms, float *grad);
    /* Cosines of the tile become exp(scale c - shift), 0 for a sample's own class and where the
     * clamp leaves no gradient; sums (n) = those of the exponentials, added to what is there with
     * `add`. */
    void (*class_exponentials)(cuda_stream s, const struct cuda_class_tile *t, bool add,
                               double *sums);
    /* most (n): the largest cosine but that of the own class; with `add` of those before too. */
    void (*class_largest)(cuda_stream s, const struct cuda_class_tile *t, bool add, double *most);
    /* Own classes in the tile become pull (n). */
    void (*class_own)(cuda_stream s, const struct cuda_class_tile *t, const float *pull);
    /* out (n, dim): the vectors of the samples' classes. */
    void (*class_rows)(cuda_stream s, size_t n, size_t dim, const int32_t *labels, const float *w,
                       float *out);
    /* out[labels[i]] += factor[i] * rows[i]. */
    void (*class_add_rows)(cuda_stream s, size_t n, size_t dim, const int32_t *labels,
                           const float *factor, const float *rows, float *out);
    /* loss (1): the classes' together; with `add` added to what is there. */
    void (*class_anchors)(cuda_stream s, const struct cuda_anchors *a, bool add, double *loss);
    void (*clip)(cuda_stream s, size_t count, float scale, float limit, float *grad);
    void (*average)(cuda_stream s, size_t count, float fresh, const float *values, float *average);
};

/* The most parts that `sums` and `measure` divide their work into; and the scratch that `sums`
 * needs. */
enum { CUDA_SUM_CHUNKS = 256, CUDA_MEASURE_PARTS = 512 };
static inline size_t cuda_sums_scratch(size_t width) {
    return 2 * CUDA_SUM_CHUNKS * width;
}

/* Defined in kernels.cu, compiled by nvcc for cards, by a C++ compiler with tests/cuda_shim for
 * tests. */
const struct cuda_kernels *dml_cuda_kernels(void);

#ifdef __cplusplus
}
#endif

#endif
