#include "backends/cpu/operations/attention.h"

/* Attention with products of bfloat16 operands: sums and the softmax are float32. Rows are computed
 * some at a time, whose scores stay in cache. */

/* An even number, so that a pair of rows is computed together. */
enum { BLOCK = 48 };

static size_t pairs_of(size_t k) {
    return (k + 1) / 2;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* What a thread works in. */
struct room {
    cpu_pair *panels[3];
    float *scores, *slopes; /* (BLOCK, tokens) */
    cpu_pair *left;         /* (BLOCK, pairs of dim): rows of q or of the gradient */
    cpu_pair *rows;         /* (BLOCK, pairs of tokens): rounded rows of a square */
    cpu_pair *columns[2];   /* (pairs of tokens, tokens): pairs of rows, of both squares */
    size_t bytes;           /* of all of it */
};

static void *take(struct room *room, char *buffer, size_t count) {
    char *taken = buffer ? buffer + room->bytes : NULL;
    room->bytes += cpu_aligned_bytes(count * sizeof(float)); /* pairs are as large */
    return taken;
}

/* Where everything lies in `buffer`; NULL: only how much it is. */
static struct room room_in(const struct cpu_attention *s, bool backward, char *buffer) {
    struct room room = {.bytes = 0};
    size_t wide = s->pairs->panels_size(s->dim, s->tokens);
    size_t tall = s->pairs->panels_size(s->tokens, s->dim), width = pairs_of(s->tokens);
    for (int i = 0; i < (backward ? 3 : 2); i++)
        room.panels[i] = take(&room, buffer, wide > tall ? wide : tall);
    room.scores = take(&room, buffer, BLOCK * s->tokens);
    room.left = take(&room, buffer, BLOCK * pairs_of(s->dim));
    room.rows = take(&room, buffer, BLOCK * width);
    if (!backward)
        return room;
    room.slopes = take(&room, buffer, BLOCK * s->tokens);
    for (int i = 0; i < 2; i++)
        room.columns[i] = take(&room, buffer, width * s->tokens);
    return room;
}

size_t cpu_attention_pairs_forward_bytes(const struct cpu_attention *s) {
    return room_in(s, false, NULL).bytes;
}

size_t cpu_attention_pairs_backward_bytes(const struct cpu_attention *s) {
    return room_in(s, true, NULL).bytes;
}

/* The matrix that begins `row` rows and `column` columns further on. */
static struct cpu_matrix from(struct cpu_matrix x, size_t row, size_t column) {
    x.values = (const char *)x.values + (row * x.ld + column) * plan_element_size(x.element);
    return x;
}

static struct cpu_pair_result to(struct cpu_pair_result y, size_t row, size_t column) {
    y.c = (char *)y.c + (row * y.ldc + column) * plan_element_size(y.element);
    return y;
}

/* A row of `count` values as pairs. */
static void round_row(const float *values, size_t count, cpu_pair *out) {
    uint16_t *bits = (uint16_t *)out;
    if (count % 2)
        out[count / 2] = 0;
#pragma omp simd
    for (size_t j = 0; j < count; j++)
        bits[j] = dml_bfloat16_bits(values[j]);
}

/* Pairs of two rows, of which the second may be NULL. */
static void round_columns(const float *first, const float *second, size_t count, cpu_pair *out) {
#pragma omp simd
    for (size_t j = 0; j < count; j++)
        out[j] = dml_bfloat16_bits(first[j]) |
                 (second ? (uint32_t)dml_bfloat16_bits(second[j]) << 16 : 0);
}

/* out = rows top.. of x (rows, dim) times panels of (dim, tokens). */
static void multiply_rows(const struct cpu_attention *s, struct cpu_matrix x, size_t top,
                          size_t rows, const cpu_pair *panels, cpu_pair *left, float *out) {
    s->pairs->multiply(rows, s->tokens, s->dim,
                       s->pairs->rows(false, rows, s->dim, from(x, top, 0), left), panels,
                       (struct cpu_pair_result){.c = out, .ldc = s->tokens});
}

void cpu_attention_pairs_forward(const struct cpu_attention *s, struct cpu_matrix x,
                                 struct cpu_pair_result y, float *log_sums, void *buffer) {
    struct room room = room_in(s, false, buffer);
    size_t tokens = s->tokens, width = pairs_of(tokens);
    float scale = 1.0f / sqrtf((float)s->dim);
    s->pairs->pack(true, s->dim, tokens, from(x, 0, s->channels), room.panels[0]);
    s->pairs->pack(false, tokens, s->dim, from(x, 0, 2 * s->channels), room.panels[1]);
    for (size_t top = 0; top < tokens; top += BLOCK) {
        size_t rows = least(tokens - top, BLOCK);
        multiply_rows(s, x, top, rows, room.panels[0], room.left, room.scores);
        for (size_t t = 0; t < rows; t++) {
            log_sums[top + t] = cpu_softmax(room.scores + t * tokens, tokens, scale);
            round_row(room.scores + t * tokens, tokens, room.rows + t * width);
        }
        s->pairs->multiply(rows, s->dim, tokens, (struct cpu_pair_rows){room.rows, width, 1},
                           room.panels[1], to(y, top, 0));
    }
}

/* The softmax and the gradient of the scores for some rows, rounded: by columns for the products
 * with their transposes, and the gradient by rows. */
static void squares(const struct cpu_attention *s, const struct room *room, const float *log_sums,
                    size_t top, size_t rows) {
    size_t tokens = s->tokens, width = pairs_of(tokens);
    float scale = 1.0f / sqrtf((float)s->dim);
    for (size_t t = 0; t < rows; t++) {
        float *d = room->slopes + t * tokens;
        cpu_softmax_gradient(room->scores + t * tokens, d, tokens, log_sums[top + t], scale);
        round_row(d, tokens, room->rows + t * width);
    }
    for (size_t t = 0; t < rows; t += 2)
        for (int i = 0; i < 2; i++) {
            const float *first = (i ? room->slopes : room->scores) + t * tokens;
            round_columns(first, t + 1 < rows ? first + tokens : NULL, tokens,
                          room->columns[i] + (top + t) / 2 * tokens);
        }
}

void cpu_attention_pairs_backward(const struct cpu_attention *s, struct cpu_matrix x,
                                  const float *log_sums, struct cpu_matrix grad,
                                  struct cpu_pair_result out, void *buffer) {
    struct room room = room_in(s, true, buffer);
    size_t tokens = s->tokens, width = pairs_of(tokens);
    struct cpu_matrix k = from(x, 0, s->channels), v = from(x, 0, 2 * s->channels);
    s->pairs->pack(true, s->dim, tokens, k, room.panels[0]);
    s->pairs->pack(true, s->dim, tokens, v, room.panels[1]);
    s->pairs->pack(false, tokens, s->dim, k, room.panels[2]);
    for (size_t top = 0; top < tokens; top += BLOCK) {
        size_t rows = least(tokens - top, BLOCK);
        multiply_rows(s, x, top, rows, room.panels[0], room.left, room.scores);
        multiply_rows(s, grad, top, rows, room.panels[1], room.left, room.slopes);
        squares(s, &room, log_sums, top, rows);
        s->pairs->multiply(rows, s->dim, tokens, (struct cpu_pair_rows){room.rows, width, 1},
                           room.panels[2], to(out, top, 0)); /* for q: d k */
    }
    s->pairs->pack(false, tokens, s->dim, grad, room.panels[0]); /* for v: p^T grad */
    s->pairs->multiply(tokens, s->dim, tokens, (struct cpu_pair_rows){room.columns[0], 1, tokens},
                       room.panels[0], to(out, 0, 2 * s->channels));
    s->pairs->pack(false, tokens, s->dim, x, room.panels[1]); /* for k: d^T q */
    s->pairs->multiply(tokens, s->dim, tokens, (struct cpu_pair_rows){room.columns[1], 1, tokens},
                       room.panels[1], to(out, 0, s->channels));
}
