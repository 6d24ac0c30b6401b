#include "cuda_host/device_host.h"

#include "backends/cuda/device/nccl.h"
#include "backends/cuda/device/usable.h"
#include "base/half.h"
#include "cuda_host/uploads.h"
#include "math/linear.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cuda_device {
    bool failed;
    enum cuda_math math;
};

struct cuda_conv {
    struct cuda_conv_shape shape;
    bool narrow;
};

/* A piece of memory begins with its size, in front of what is handed out. */
enum { HEADER = 64 };

static long fail_at = -1, calls;
static size_t limit, used, pieces;
static const char *lost, *joined_by;
static size_t exchanged;

void cuda_host_fail_at(long at) {
    fail_at = at;
    calls = 0;
}
long cuda_host_calls(void) {
    return calls;
}
void cuda_host_memory(size_t bytes) {
    limit = bytes;
}
size_t cuda_host_used(void) {
    return used;
}
size_t cuda_host_pieces(void) {
    return pieces;
}

/* Whether this call fails. */
static bool fails(void) {
    return fail_at >= 0 && calls++ >= fail_at;
}

/* Whether queued work is to be done. */
static bool works(struct cuda_device *device) {
    if (!device->failed && fails())
        device->failed = true;
    return !device->failed;
}

static struct cuda_versions found = {13000, 13000, 91100};
static int major = 9, minor;

void cuda_host_versions(const struct cuda_versions *versions) {
    found = *versions;
}
void cuda_host_capability(int first, int second) {
    major = first;
    minor = second;
}

static void versions(struct cuda_versions *out) {
    *out = found;
}

void cuda_host_lose(const char *reason) {
    lost = reason;
}

static int count(char *reason) {
    if (lost)
        snprintf(reason, CUDA_REASON, "%s", lost);
    return lost || !cuda_usable_versions(&found, reason) ? -1 : 1;
}

static void free_memory(struct cuda_device *device, size_t *free_bytes, size_t *total) {
    (void)device;
    *total = limit ? limit : (size_t)1 << 40;
    *free_bytes = *total - used;
}

static bool card(int index, struct cuda_card *out, char *reason) {
    if (index != 0) {
        snprintf(reason, CUDA_REASON, "there is one card, 0");
        return false;
    }
    *out = (struct cuda_card){.name = "host double", .major = major, .minor = minor};
    free_memory(NULL, &out->free, &out->memory);
    return cuda_usable_card(out, reason);
}

static struct cuda_device *open_device(int index, enum cuda_math math, char *reason) {
    struct cuda_card there;
    if (!card(index, &there, reason))
        return NULL;
    if (fails()) {
        snprintf(reason, CUDA_REASON, "it is in use");
        return NULL;
    }
    struct cuda_device *device = calloc(1, sizeof *device);
    if (device)
        device->math = math;
    return device;
}

static void close_device(struct cuda_device *device) {
    host_uploads_end(device, false);
    free(device);
}

static void *alloc(struct cuda_device *device, size_t bytes) {
    (void)device;
    if (fails() || (limit && used + bytes > limit))
        return NULL;
    char *piece = aligned_alloc(HEADER, (HEADER + bytes + HEADER - 1) / HEADER * HEADER);
    if (!piece)
        return NULL;
    memcpy(piece, &bytes, sizeof bytes);
    memset(piece + HEADER, 0xff, bytes);
    used += bytes;
    pieces++;
    return piece + HEADER;
}

/* Bytes of a piece. */
static size_t size_of(const void *memory) {
    size_t bytes;
    memcpy(&bytes, (const char *)memory - HEADER, sizeof bytes);
    return bytes;
}

static void release(struct cuda_device *device, void *memory) {
    (void)device;
    if (!memory)
        return;
    size_t bytes = size_of(memory);
    host_uploads_drop(memory, bytes);
    used -= bytes;
    pieces--;
    free((char *)memory - HEADER);
}

/* Kernels have no device, so a failed card still runs them; their results are never seen. */
static cuda_stream stream(struct cuda_device *device) {
    return device;
}

/* Memory of the processor that the card reads later. */
enum { MOST_HOST_PIECES = 64 };
static const void *host_pieces[MOST_HOST_PIECES];

static void *host_alloc(size_t bytes) {
    size_t at = 0;
    while (at < MOST_HOST_PIECES && host_pieces[at])
        at++;
    void *memory = at < MOST_HOST_PIECES ? alloc(NULL, bytes) : NULL;
    if (memory)
        host_pieces[at] = memory;
    return memory;
}

static void host_release(void *memory) {
    assert(!memory || !host_uploads_from(memory, size_of(memory)));
    for (size_t i = 0; i < MOST_HOST_PIECES; i++)
        if (host_pieces[i] == memory)
            host_pieces[i] = NULL;
    release(NULL, memory);
}

static bool is_host_piece(const char *from) {
    for (size_t i = 0; i < MOST_HOST_PIECES; i++) {
        const char *piece = host_pieces[i];
        if (piece && from >= piece && from < piece + size_of(piece))
            return true;
    }
    return false;
}

static void upload_ahead(struct cuda_device *device, void *to, const void *from, size_t bytes) {
    if (works(device))
        host_uploads_add(device, to, from, bytes, is_host_piece(from));
}

static void await_uploads(struct cuda_device *device) {
    host_uploads_end(device, works(device));
}

static void copy(struct cuda_device *device, void *to, const void *from, size_t bytes) {
    if (!works(device))
        return;
    assert(!host_uploads_to(to, bytes) && !host_uploads_to(from, bytes));
    memcpy(to, from, bytes);
}

static void zero(struct cuda_device *device, void *to, size_t bytes) {
    if (!works(device))
        return;
    assert(!host_uploads_to(to, bytes));
    memset(to, 0, bytes);
}

static const char *finish(struct cuda_device *device) {
    return works(device) ? NULL : "the card is lost";
}

/* Arrays of float32 that stand for those of bfloat16, rounded where they are written back. */
static float *widened(const uint16_t *from, size_t count) {
    float *to = malloc((count ? count : 1) * sizeof *to);
    assert(to);
    for (size_t i = 0; from && i < count; i++)
        to[i] = dml_bfloat16_value(from[i]);
    return to;
}
static void narrow_back(float *from, uint16_t *to, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] = dml_bfloat16_bits(from[i]);
    free(from);
}

/* A factor's rows without gaps, its values rounded to bfloat16. */
static float *rounded(const float *x, size_t rows, size_t columns, size_t stride) {
    float *to = malloc(rows * columns * sizeof *to);
    assert(to);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            to[r * columns + c] = dml_bfloat16_value(dml_bfloat16_bits(x[r * stride + c]));
    return to;
}

static void gemm(struct cuda_device *device, const struct cuda_gemm *g) {
    if (!works(device))
        return;
    bool narrow = g->narrow && device->math == CUDA_BF16;
    for (size_t i = 0; i < g->batch; i++) {
        const float *a = g->a + i * g->stride_a, *b = g->b + i * g->stride_b;
        size_t lda = g->lda, ldb = g->ldb;
        if (narrow) {
            size_t across_a = g->transpose_a ? g->m : g->k, across_b = g->transpose_b ? g->k : g->n;
            a = rounded(a, g->transpose_a ? g->k : g->m, across_a, lda);
            b = rounded(b, g->transpose_b ? g->n : g->k, across_b, ldb);
            lda = across_a;
            ldb = across_b;
        }
        dml_gemm(g->transpose_a, g->transpose_b, g->m, g->n, g->k, 1.0f, a, lda, b, ldb, g->beta,
                 g->c + i * g->stride_c, g->ldc);
        if (narrow) {
            free((float *)(uintptr_t)a);
            free((float *)(uintptr_t)b);
        }
    }
}

static struct cuda_conv *conv_create(struct cuda_device *device,
                                     const struct cuda_conv_shape *shape, char *reason) {
    if (fails()) {
        snprintf(reason, CUDA_REASON, "no plan was found");
        return NULL;
    }
    struct cuda_conv *conv = calloc(1, sizeof *conv);
    if (conv)
        *conv = (struct cuda_conv){*shape, device->math == CUDA_BF16};
    return conv;
}

static void conv_destroy(void *conv) {
    free(conv);
}

/* The columns of one image and group: (pixels of the output, kernel_h, kernel_w, inputs). */
static size_t column_width(const struct cuda_conv_shape *s) {
    return (size_t)s->kernel_h * (size_t)s->kernel_w * (size_t)(s->in_c / s->groups);
}
static size_t column_floats(const struct cuda_conv_shape *s) {
    return (size_t)s->out_h * (size_t)s->out_w * column_width(s);
}
static size_t conv_scratch(const struct cuda_conv *conv, enum cuda_pass pass) {
    (void)pass;
    return column_floats(&conv->shape) * sizeof(float);
}

/* Calls `visit` with each piece of an image that lies in the columns: `inner` floats side by side.
 */
static void walk_columns(const struct cuda_conv_shape *s, int group, float *image, float *columns,
                         void (*visit)(float *image, float *column, size_t inner)) {
    size_t inner = (size_t)(s->in_c / s->groups);
    for (int y = 0; y < s->out_h; y++)
        for (int x = 0; x < s->out_w; x++)
            for (int ky = 0; ky < s->kernel_h; ky++)
                for (int kx = 0; kx < s->kernel_w; kx++, columns += inner) {
                    int iy = y * s->stride_h - s->pad_h + ky, ix = x * s->stride_w - s->pad_w + kx;
                    bool inside = iy >= 0 && iy < s->in_h && ix >= 0 && ix < s->in_w;
                    size_t pixel = inside ? (size_t)iy * (size_t)s->in_w + (size_t)ix : 0;
                    size_t at = pixel * (size_t)s->in_c + (size_t)group * inner;
                    visit(inside ? image + at : NULL, columns, inner);
                }
}
static void take(float *image, float *column, size_t inner) {
    if (image)
        memcpy(column, image, inner * sizeof *column);
    else
        memset(column, 0, inner * sizeof *column);
}
static void give(float *image, float *column, size_t inner) {
    for (size_t i = 0; image && i < inner; i++)
        image[i] += column[i];
}

struct sizes {
    size_t pixels, width, in_image, outs, out_c;
};
static struct sizes sizes_of(const struct cuda_conv_shape *s) {
    return (struct sizes){(size_t)s->out_h * (size_t)s->out_w, column_width(s),
                          (size_t)s->in_h * (size_t)s->in_w * (size_t)s->in_c,
                          (size_t)(s->out_c / s->groups), (size_t)s->out_c};
}

static void forward(const struct cuda_conv_shape *s, const float *x, const float *weights,
                    const float *bias, const float *residual, float *y, float *scratch) {
    struct sizes z = sizes_of(s);
    for (size_t i = 0; i < s->n; i++)
        for (int g = 0; g < s->groups; g++) {
            walk_columns(s, g, (float *)(uintptr_t)x + i * z.in_image, scratch, take);
            float *out = y + i * z.pixels * z.out_c + (size_t)g * z.outs;
            const float *other = residual ? residual + (out - y) : NULL;
            for (size_t p = 0; p < z.pixels; p++)
                for (size_t o = 0; o < z.outs; o++)
                    out[p * z.out_c + o] = (other ? other[p * z.out_c + o] : 0.0f) +
                                           (bias ? bias[(size_t)g * z.outs + o] : 0.0f);
            dml_gemm(0, 1, z.pixels, z.outs, z.width, 1.0f, scratch, z.width,
                     weights + (size_t)g * z.outs * z.width, z.width, 1.0f, out, z.out_c);
            for (size_t p = 0; s->relu && p < z.pixels; p++)
                for (size_t o = 0; o < z.outs; o++)
                    if (out[p * z.out_c + o] < 0)
                        out[p * z.out_c + o] = 0;
        }
}

static void data(const struct cuda_conv_shape *s, const float *grad, const float *weights,
                 float *grad_x, float *scratch) {
    struct sizes z = sizes_of(s);
    memset(grad_x, 0, s->n * z.in_image * sizeof *grad_x);
    for (size_t i = 0; i < s->n; i++)
        for (int g = 0; g < s->groups; g++) {
            dml_gemm(0, 0, z.pixels, z.width, z.outs, 1.0f,
                     grad + i * z.pixels * z.out_c + (size_t)g * z.outs, z.out_c,
                     weights + (size_t)g * z.outs * z.width, z.width, 0.0f, scratch, z.width);
            walk_columns(s, g, grad_x + i * z.in_image, scratch, give);
        }
}

static void weights_gradient(const struct cuda_conv_shape *s, const float *grad, const float *x,
                             float *grad_weights, float *scratch) {
    struct sizes z = sizes_of(s);
    memset(grad_weights, 0, z.out_c * z.width * sizeof *grad_weights);
    for (size_t i = 0; i < s->n; i++)
        for (int g = 0; g < s->groups; g++) {
            walk_columns(s, g, (float *)(uintptr_t)x + i * z.in_image, scratch, take);
            dml_gemm(1, 0, z.outs, z.width, z.pixels, 1.0f,
                     grad + i * z.pixels * z.out_c + (size_t)g * z.outs, z.out_c, scratch, z.width,
                     1.0f, grad_weights + (size_t)g * z.outs * z.width, z.width);
        }
}

static void conv_forward(struct cuda_device *device, struct cuda_conv *conv, const void *x,
                         const void *weights, const void *bias, const void *residual, void *y,
                         void *scratch) {
    const struct cuda_conv_shape *s = &conv->shape;
    struct sizes z = sizes_of(s);
    assert(!bias == !s->bias && !residual == !s->residual);
    if (!works(device))
        return;
    if (!conv->narrow) {
        forward(s, x, weights, bias, residual, y, scratch);
        return;
    }
    size_t made = s->n * z.pixels * z.out_c;
    float *wide[] = {widened(x, s->n * z.in_image), widened(weights, z.out_c * z.width),
                     widened(bias, z.out_c), widened(residual, made)};
    float *out = widened(NULL, made);
    forward(s, wide[0], wide[1], bias ? wide[2] : NULL, residual ? wide[3] : NULL, out, scratch);
    narrow_back(out, y, made);
    for (int i = 0; i < 4; i++)
        free(wide[i]);
}

static void conv_data(struct cuda_device *device, struct cuda_conv *conv, const void *grad,
                      const void *weights, void *grad_x, void *scratch) {
    const struct cuda_conv_shape *s = &conv->shape;
    struct sizes z = sizes_of(s);
    assert(s->training && s->input_gradient);
    if (!works(device))
        return;
    if (!conv->narrow) {
        data(s, grad, weights, grad_x, scratch);
        return;
    }
    float *wide[] = {widened(grad, s->n * z.pixels * z.out_c), widened(weights, z.out_c * z.width)};
    float *out = widened(NULL, s->n * z.in_image);
    data(s, wide[0], wide[1], out, scratch);
    narrow_back(out, grad_x, s->n * z.in_image);
    free(wide[0]);
    free(wide[1]);
}

static void conv_weights(struct cuda_device *device, struct cuda_conv *conv, const void *grad,
                         const void *x, void *grad_weights, void *scratch) {
    const struct cuda_conv_shape *s = &conv->shape;
    struct sizes z = sizes_of(s);
    assert(s->training);
    if (!works(device))
        return;
    if (!conv->narrow) {
        weights_gradient(s, grad, x, grad_weights, scratch);
        return;
    }
    float *wide[] = {widened(grad, s->n * z.pixels * z.out_c), widened(x, s->n * z.in_image)};
    float *out = widened(NULL, z.out_c * z.width);
    weights_gradient(s, wide[0], wide[1], out, scratch);
    narrow_back(out, grad_weights, z.out_c * z.width);
    free(wide[0]);
    free(wide[1]);
}

void cuda_host_join_by(const char *library) {
    joined_by = library;
}
size_t cuda_host_exchanged(void) {
    return exchanged;
}

static bool group_name(char *name, char *reason) {
    if (joined_by)
        return nccl_name(joined_by, name, reason);
    snprintf(reason, CUDA_REASON, "cards stand alone");
    return false;
}

static struct cuda_group *group_join(struct cuda_device *device, const char *name, int index,
                                     int count, char *reason) {
    (void)device;
    return nccl_join(name, index, count, reason);
}

static void group_exchange(struct cuda_device *device, struct cuda_group *group,
                           const struct cuda_transfer *transfers, size_t count) {
    for (size_t i = 0; i < count; i++)
        exchanged += transfers[i].send ? transfers[i].bytes : 0;
    if (works(device) && nccl_exchange(group, stream(device), transfers, count))
        device->failed = true;
}

static bool group_busy(struct cuda_device *device, struct cuda_group *group) {
    const char *failure;
    bool busy = nccl_busy(group, &failure);
    device->failed = device->failed || failure;
    return busy && !device->failed;
}

const struct cuda_api *cuda_host_api(void) {
    static struct cuda_api api = {
        .interface = CUDA_INTERFACE,
        .versions = versions,
        .count = count,
        .card = card,
        .open = open_device,
        .close = close_device,
        .alloc = alloc,
        .release = release,
        .free_memory = free_memory,
        .stream = stream,
        .host_alloc = host_alloc,
        .host_release = host_release,
        .upload = copy,
        .upload_ahead = upload_ahead,
        .await_uploads = await_uploads,
        .download = copy,
        .copy = copy,
        .zero = zero,
        .finish = finish,
        .gemm = gemm,
        .conv_create = conv_create,
        .conv_destroy = conv_destroy,
        .conv_scratch = conv_scratch,
        .conv_forward = conv_forward,
        .conv_data = conv_data,
        .conv_weights = conv_weights,
        .group_name = group_name,
        .group_join = group_join,
        .group_leave = nccl_leave,
        .group_exchange = group_exchange,
        .group_busy = group_busy,
    };
    api.kernels = dml_cuda_kernels();
    return &api;
}
