#include "backends/cuda/classes.h"

#include "backends/cuda/cuda.h"
#include "backends/cuda/params.h"
#include "base/memory.h"
#include "base/messages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Classes of a tile, and cosines that are kept: 1 GiB. */
enum { TILE = 65536 };
#define MOST_KEPT ((size_t)1 << 28)

struct cuda_bank {
    struct dml_class_bank bank; /* first */
    struct cuda_on on;
    size_t classes, dim, tile, most_kept;
    struct cuda_arrays arrays;
    float *units, *norms; /* of a tile */

    /* For batches of up to `most`; `n` is that of the step under way. */
    size_t n, most;
    int32_t *labels;
    float *x, *scaled, *own, *pulls, *shift, *factor, *pull, *along;
    float *cosines; /* (n, classes), tile after tile, or of one tile */
    double *partial, *sums;
    bool kept, computed; /* all cosines are kept, and are those of this batch */
};

static struct cuda_bank *bank_of(struct dml_class_bank *bank) {
    return (struct cuda_bank *)bank;
}

static void release_step(struct cuda_bank *b) {
    void *const all[] = {b->labels, b->x,    b->scaled, b->own,     b->pulls,   b->shift,
                         b->factor, b->pull, b->along,  b->cosines, b->partial, b->sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->on.api->release(b->on.device, all[i]);
    b->most = 0;
}

static void close_bank(struct dml_class_bank *bank) {
    struct cuda_bank *b = bank_of(bank);
    if (b->on.device) {
        release_step(b);
        float *const all[] = {b->arrays.values, b->arrays.grads, b->units, b->norms};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            b->on.api->release(b->on.device, all[i]);
        for (int i = 0; i < DML_OPTIMISER_STATES; i++)
            b->on.api->release(b->on.device, b->arrays.states[i]);
        b->on.api->close(b->on.device);
    }
    free(b);
}

static size_t bytes_of(const struct cuda_bank *b) {
    return b->classes * b->dim * sizeof(float);
}

static float *array_of(const struct cuda_bank *b, int array) {
    if (array == DML_BANK_VALUES)
        return b->arrays.values;
    return array == DML_BANK_GRAD ? b->arrays.grads : b->arrays.states[array - DML_BANK_STATE];
}

static void *zeros(const struct cuda_bank *b, size_t bytes) {
    return cuda_zeros(&b->on, bytes, "class weights");
}

static enum dml_status make_states(struct cuda_bank *b, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!b->arrays.states[i] && !(b->arrays.states[i] = zeros(b, bytes_of(b))))
            return DML_ERROR_MEMORY;
    return DML_OK;
}

static enum dml_status read_array(struct dml_class_bank *bank, int array, float *out) {
    struct cuda_bank *b = bank_of(bank);
    const float *from = array_of(b, array);
    if (!from) { /* a state that does not exist yet */
        memset(out, 0, bytes_of(b));
        return DML_OK;
    }
    b->on.api->download(b->on.device, out, from, bytes_of(b));
    return cuda_finish(&b->on);
}

static enum dml_status write_array(struct dml_class_bank *bank, int array, const float *values) {
    struct cuda_bank *b = bank_of(bank);
    enum dml_status status = DML_OK;
    if (array >= DML_BANK_STATE)
        status = make_states(b, (size_t)(array - DML_BANK_STATE) + 1);
    if (status)
        return status;
    b->on.api->upload(b->on.device, array_of(b, array), values, bytes_of(b));
    return cuda_finish(&b->on);
}

static enum dml_status scale(struct dml_class_bank *bank, double factor, double limit) {
    struct cuda_bank *b = bank_of(bank);
    b->on.kernels->clip(b->on.stream, b->classes * b->dim, (float)factor, (float)limit,
                        b->arrays.grads);
    return cuda_finish(&b->on);
}

static enum dml_status update(struct dml_class_bank *bank, const struct dml_optimiser *optimiser,
                              const void *options, const struct dml_update *update) {
    struct cuda_bank *b = bank_of(bank);
    enum dml_status status = make_states(b, optimiser->states);
    if (!status)
        status =
            cuda_update_arrays(&b->on, optimiser, options, update, &b->arrays, b->classes * b->dim);
    return status ? status : cuda_finish(&b->on);
}

/* Memory for a batch of n. */
static enum dml_status make_room(struct cuda_bank *b, size_t n) {
    if (n <= b->most)
        return DML_OK;
    release_step(b);
    size_t vectors = n * b->dim * sizeof(float), row = n * sizeof(float);
    b->kept = n * b->classes <= b->most_kept;
    size_t width = b->kept ? b->classes : b->tile < b->classes ? b->tile : b->classes;
    /* `partial` also has room for a loss of each class of a tile, and the last place for their sum.
     */
    size_t partial = n * cuda_class_chunks(b->tile) + b->tile;
    bool all = (b->labels = zeros(b, row)) && (b->x = zeros(b, vectors)) &&
               (b->scaled = zeros(b, vectors)) && (b->own = zeros(b, vectors)) &&
               (b->pulls = zeros(b, vectors)) && (b->shift = zeros(b, row)) &&
               (b->factor = zeros(b, row)) && (b->pull = zeros(b, row)) &&
               (b->along = zeros(b, row)) && (b->cosines = zeros(b, width * row)) &&
               (b->partial = zeros(b, partial * sizeof(double))) &&
               (b->sums = zeros(b, n * sizeof(double)));
    b->most = all ? n : 0;
    return all ? DML_OK : DML_ERROR_MEMORY;
}

static enum dml_status begin(struct dml_class_bank *bank, const float *x, const int32_t *labels,
                             size_t n, float *own) {
    struct cuda_bank *b = bank_of(bank);
    const struct cuda_on *on = &b->on;
    enum dml_status status = make_room(b, n);
    if (status)
        return status;
    b->n = n;
    b->computed = false;
    on->api->upload(on->device, b->labels, labels, n * sizeof *labels);
    on->api->upload(on->device, b->x, x, n * b->dim * sizeof *x);
    on->kernels->class_rows(on->stream, n, b->dim, b->labels, b->arrays.values, b->own);
    on->api->download(on->device, own, b->own, n * b->dim * sizeof *own);
    return cuda_finish(on);
}

/* The classes from `first` on. */
static struct cuda_class_tile tile_at(const struct cuda_bank *b, const struct dml_class_rule *rule,
                                      size_t first) {
    size_t left = b->classes - first;
    return (struct cuda_class_tile){.n = b->n,
                                    .dim = b->dim,
                                    .first = first,
                                    .width = left < b->tile ? left : b->tile,
                                    .labels = b->labels,
                                    .x = b->x,
                                    .w = b->arrays.values + first * b->dim,
                                    .tile = b->cosines + (b->kept ? first * b->n : 0),
                                    .shift = b->shift,
                                    .scale = rule ? (float)rule->scale : 0,
                                    .clamp = rule && rule->clamp,
                                    .partial = b->partial};
}

/* The vectors of a tile as products take them: scaled to length 1, unless the rule takes inner
 * products. */
static const float *rows_of(const struct cuda_bank *b, const struct dml_class_rule *rule,
                            const struct cuda_class_tile *t) {
    if (rule && rule->inner)
        return t->w;
    b->on.kernels->class_units(b->on.stream, t->width, b->dim, t->w, b->units, b->norms);
    return b->units;
}

static void compute_cosines(const struct cuda_bank *b, const struct cuda_class_tile *t,
                            const float *rows) {
    b->on.api->gemm(b->on.device, &(struct cuda_gemm){.transpose_b = true,
                                                      .m = b->n,
                                                      .n = t->width,
                                                      .k = b->dim,
                                                      .batch = 1,
                                                      .a = b->x,
                                                      .lda = b->dim,
                                                      .b = rows,
                                                      .ldb = b->dim,
                                                      .c = t->tile,
                                                      .ldc = t->width});
}

static enum dml_status largest(struct dml_class_bank *bank, const struct dml_class_rule *rule,
                               double *most) {
    struct cuda_bank *b = bank_of(bank);
    const struct cuda_on *on = &b->on;
    for (size_t first = 0; first < b->classes; first += b->tile) {
        const struct cuda_class_tile t = tile_at(b, rule, first);
        compute_cosines(b, &t, rows_of(b, rule, &t));
        on->kernels->class_largest(on->stream, &t, first > 0, b->sums);
    }
    b->computed = b->kept;
    on->api->download(on->device, most, b->sums, b->n * sizeof *most);
    return cuda_finish(on);
}

static enum dml_status exponentials(struct dml_class_bank *bank, const struct dml_class_rule *rule,
                                    const float *shift, double *sums, float *pulls) {
    struct cuda_bank *b = bank_of(bank);
    const struct cuda_on *on = &b->on;
    on->api->upload(on->device, b->shift, shift, b->n * sizeof *shift);
    for (size_t first = 0; first < b->classes; first += b->tile) {
        const struct cuda_class_tile t = tile_at(b, rule, first);
        const float *rows = rows_of(b, rule, &t);
        if (!b->computed)
            compute_cosines(b, &t, rows);
        on->kernels->class_exponentials(on->stream, &t, first > 0, b->sums);
        on->api->gemm(on->device, &(struct cuda_gemm){.m = b->n,
                                                      .n = b->dim,
                                                      .k = t.width,
                                                      .batch = 1,
                                                      .a = t.tile,
                                                      .lda = t.width,
                                                      .b = rows,
                                                      .ldb = b->dim,
                                                      .c = b->pulls,
                                                      .ldc = b->dim,
                                                      .beta = first > 0});
    }
    on->api->download(on->device, sums, b->sums, b->n * sizeof *sums);
    on->api->download(on->device, pulls, b->pulls, b->n * b->dim * sizeof *pulls);
    return cuda_finish(on);
}

/* dL/dw of a tile = slopes^T x, where slopes are (n, width), or (width, n) where `turned`. */
static void gradients_of(const struct cuda_bank *b, const struct cuda_class_tile *t, const float *x,
                         bool turned, bool inner) {
    float *grads = b->arrays.grads + t->first * b->dim;
    b->on.api->gemm(b->on.device, &(struct cuda_gemm){.transpose_a = !turned,
                                                      .m = t->width,
                                                      .n = b->dim,
                                                      .k = b->n,
                                                      .batch = 1,
                                                      .a = t->tile,
                                                      .lda = turned ? b->n : t->width,
                                                      .b = x,
                                                      .ldb = b->dim,
                                                      .c = grads,
                                                      .ldc = b->dim});
    if (!inner)
        b->on.kernels->class_units_gradient(b->on.stream, t->width, b->dim, b->units, b->norms,
                                            grads);
}

static enum dml_status gradients(struct dml_class_bank *bank, const struct dml_class_rule *rule,
                                 const float *factor, const float *pull, const float *along) {
    struct cuda_bank *b = bank_of(bank);
    const struct cuda_on *on = &b->on;
    const size_t bytes = b->n * sizeof *factor;
    on->api->upload(on->device, b->factor, factor, bytes);
    on->api->upload(on->device, b->pull, pull, bytes);
    on->api->upload(on->device, b->along, along, bytes);
    on->kernels->scale_outputs(on->stream, b->n, b->dim, b->x, b->factor, b->scaled);
    for (size_t first = 0; first < b->classes; first += b->tile) {
        const struct cuda_class_tile t = tile_at(b, rule, first);
        const float *rows = rows_of(b, rule, &t);
        if (!b->kept) {
            compute_cosines(b, &t, rows);
            on->kernels->class_exponentials(on->stream, &t, false, b->sums);
        }
        on->kernels->class_own(on->stream, &t, b->pull);
        gradients_of(b, &t, b->scaled, false, rule->inner);
    }
    on->kernels->class_add_rows(on->stream, b->n, b->dim, b->labels, b->along, b->own,
                                b->arrays.grads);
    return cuda_finish(on);
}

static enum dml_status anchors(struct dml_class_bank *bank, const struct dml_bank_anchors *anchors,
                               float *grad, double *loss) {
    struct cuda_bank *b = bank_of(bank);
    const struct cuda_on *on = &b->on;
    double *losses = b->partial + b->n * cuda_class_chunks(b->tile);
    for (size_t first = 0; first < b->classes; first += b->tile) {
        struct cuda_class_tile t = tile_at(b, NULL, first);
        const float *rows = rows_of(b, NULL, &t);
        const struct cuda_anchors a = {.n = b->n,
                                       .first = first,
                                       .width = t.width,
                                       .labels = b->labels,
                                       .tile = t.tile,
                                       .alpha = (float)anchors->alpha,
                                       .margin = (float)anchors->margin,
                                       .share = anchors->share,
                                       .share_all = anchors->share_all,
                                       .losses = losses};
        on->api->gemm(on->device, &(struct cuda_gemm){.transpose_b = true,
                                                      .m = t.width,
                                                      .n = b->n,
                                                      .k = b->dim,
                                                      .batch = 1,
                                                      .a = rows,
                                                      .lda = b->dim,
                                                      .b = b->x,
                                                      .ldb = b->dim,
                                                      .c = t.tile,
                                                      .ldc = b->n});
        on->kernels->class_anchors(on->stream, &a, first > 0, b->sums);
        on->api->gemm(on->device, &(struct cuda_gemm){.transpose_a = true,
                                                      .m = b->n,
                                                      .n = b->dim,
                                                      .k = t.width,
                                                      .batch = 1,
                                                      .a = t.tile,
                                                      .lda = b->n,
                                                      .b = rows,
                                                      .ldb = b->dim,
                                                      .c = b->pulls,
                                                      .ldc = b->dim,
                                                      .beta = first > 0});
        gradients_of(b, &t, b->x, true, false);
    }
    on->api->download(on->device, loss, b->sums, sizeof *loss);
    on->api->download(on->device, grad, b->pulls, b->n * b->dim * sizeof *grad);
    return cuda_finish(on);
}

static const struct dml_class_bank_ops ops = {.close = close_bank,
                                              .read = read_array,
                                              .write = write_array,
                                              .scale = scale,
                                              .update = update,
                                              .begin = begin,
                                              .largest = largest,
                                              .exponentials = exponentials,
                                              .gradients = gradients,
                                              .anchors = anchors};

/* A card that is in use already by the network: what fails now is for lack of memory, and then the
 * processor does as well. */
static enum dml_status open_bank(void *data, size_t classes, size_t dim,
                                 struct dml_class_bank **out) {
    const struct cuda_banks *banks = data;
    char reason[CUDA_REASON] = "";
    *out = NULL;
    if (classes < banks->least)
        return DML_OK;
    struct cuda_bank *b = dml_alloc(1, sizeof *b);
    if (!b)
        return DML_ERROR_MEMORY;
    *b = (struct cuda_bank){.bank = {&ops}, .classes = classes, .dim = dim};
    b->tile = banks->tile;
    b->most_kept = banks->most_kept;
    b->on.api = dml_cuda_find(reason);
    if (b->on.api)
        b->on.device = b->on.api->open(banks->device, CUDA_FP32, reason);
    if (!b->on.device) {
        close_bank(&b->bank);
        return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: %s", banks->device, reason);
    }
    b->on.kernels = b->on.api->kernels;
    b->on.stream = b->on.api->stream(b->on.device);
    size_t width = classes < b->tile ? classes : b->tile;
    bool all = (b->arrays.values = zeros(b, bytes_of(b))) &&
               (b->arrays.grads = zeros(b, bytes_of(b))) &&
               (b->units = zeros(b, width * dim * sizeof(float))) &&
               (b->norms = zeros(b, width * sizeof(float))) && !make_states(b, banks->states);
    if (!all) {
        dml_warn("%s; the processor holds them", dml_error());
        close_bank(&b->bank);
        return DML_OK;
    }
    *out = &b->bank;
    dml_inform("class weights: %zu of %zu numbers, on the GPU", classes, dim);
    return DML_OK;
}

void cuda_banks_make(int device, size_t least, size_t states, struct cuda_banks *out) {
    *out = (struct cuda_banks){.banks = {open_bank, out},
                               .device = device,
                               .least = least,
                               .states = states,
                               .tile = TILE,
                               .most_kept = MOST_KEPT};
}
