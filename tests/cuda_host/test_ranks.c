#include "backends/cuda/cuda.h"
#include "backends/cuda/ranks.h"
#include "cuda_host/device_host.h"
#include "dml/messages.h"
#include "support/golden.h"

#include "dml/rng.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Ranks that a card counts are the processor's to the last one, on a card in plain C. */

/* Samples in order of their classes, of which the last ones are the gallery's alone, and ranks. */
struct set {
    size_t n, queries, dim, classes;
    float *x;
    int32_t *class, *groups;
    size_t *class_start, *start;
    uint32_t *limit, *index;
    size_t most;       /* positives that are ranked */
    uint32_t deepest;  /* ranks */
    uint32_t *rank[2]; /* by the processor, by the card */
};

static void *memory(size_t count, size_t size) {
    void *made = calloc(count ? count : 1, size);
    assert_non_null(made);
    return made;
}

static struct set make_set(size_t n, size_t queries, size_t dim, size_t classes) {
    struct set s = {.n = n,
                    .queries = queries,
                    .dim = dim,
                    .classes = classes,
                    .x = memory(n * dim, sizeof *s.x),
                    .class = memory(n, sizeof *s.class),
                    .class_start = memory(classes + 1, sizeof *s.class_start),
                    .start = memory(queries + 1, sizeof *s.start),
                    .limit = memory(queries, sizeof *s.limit),
                    .index = memory(n, sizeof *s.index),
                    .most = SIZE_MAX,
                    .deepest = UINT32_MAX};
    struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_OTHER, n, dim);
    for (size_t i = 0; i < n * dim; i++)
        s.x[i] = (float)dml_rng_normal(&rng);
    for (size_t i = 0; i < n; i++) {
        s.index[i] = (uint32_t)i;
        s.class[i] = (int32_t)(i * classes / n);
        s.class_start[s.class[i] + 1] = i + 1;
    }
    return s;
}

static void free_set(struct set *s) {
    void *const all[] = {s->x,     s->class, s->groups,  s->class_start, s->start,
                         s->limit, s->index, s->rank[0], s->rank[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void find_starts(struct set *s) {
    for (size_t q = 0; q < s->queries; q++) {
        size_t positives = 0;
        for (size_t j = s->class_start[s->class[q]]; j < s->class_start[s->class[q] + 1]; j++)
            positives += j != q && !(s->groups && s->groups[j] == s->groups[q]);
        s->start[q + 1] = s->start[q] + (positives < s->most ? positives : s->most);
        s->limit[q] = s->deepest;
    }
}

static void rank_by(struct set *s, const struct dml_rank_counter *counter, int which) {
    const struct dml_side side = {.embeddings = {s->x, NULL}};
    struct dml_frame frame;
    struct dml_rows gallery, queries;
    assert_ok(dml_frame_make(&side, NULL, s->n, s->dim, &frame));
    assert_ok(dml_rows_make(&frame, &frame.gallery, s->index, s->n, &gallery));
    assert_ok(dml_rows_make(&frame, &frame.gallery, s->index, s->queries, &queries));
    const struct dml_rank_task task = {.frame = &frame,
                                       .queries = s->queries == s->n ? &gallery : &queries,
                                       .gallery = &gallery,
                                       .query_class = s->class,
                                       .gallery_start = s->class_start,
                                       .groups = s->groups,
                                       .limit = s->limit,
                                       .start = s->start,
                                       .counter = counter};
    s->rank[which] = memory(s->start[s->queries], sizeof **s->rank);
    memset(s->rank[which], 0xff, s->start[s->queries] * sizeof **s->rank);
    assert_ok(dml_rank_positives(&task, s->rank[which]));
    dml_rows_free(&gallery);
    dml_rows_free(&queries);
    dml_frame_free(&frame);
}

static char said[512];
static void listen(void *data, enum dml_message_kind kind, const char *text) {
    (void)data;
    (void)kind;
    snprintf(said, sizeof said, "%s", text);
}

/* Of a card, since it was opened. */
static long calls;

/* Both ways; whether the card could. */
static bool same_ranks(struct set *s, long fail_at, const char *name) {
    static const struct dml_listener listener = {.message = listen};
    dml_cuda_replace(cuda_host_api());
    dml_listen(&listener);
    *said = 0;
    find_starts(s);
    struct cuda_ranker *ranker = cuda_ranker_open(0);
    assert_non_null(ranker);
    cuda_host_fail_at(fail_at);
    rank_by(s, cuda_ranker_counter(ranker), 1);
    calls = cuda_host_calls();
    cuda_host_fail_at(-1);
    cuda_ranker_close(ranker);
    assert_int_equal(cuda_host_pieces(), 0);
    rank_by(s, NULL, 0);
    for (size_t p = 0; p < s->start[s->queries]; p++)
        if (s->rank[0][p] != s->rank[1][p])
            fail_msg("%s: rank %zu is %u, not %u", name, p, s->rank[1][p], s->rank[0][p]);
    free_set(s);
    return !*said;
}

static void random_vectors(void **state) {
    (void)state;
    struct set s = make_set(1500, 1500, 33, 200);
    assert_true(same_ranks(&s, -1, "one set"));
    s = make_set(1500, 700, 5, 3); /* hundreds of positives each, and many near each other */
    assert_true(same_ranks(&s, -1, "large classes"));
    s = make_set(17000, 60, 8, 2000); /* more than a tile */
    assert_true(same_ranks(&s, -1, "a large gallery"));
    s = make_set(1200, 1100, 1, 100);
    assert_true(same_ranks(&s, -1, "one dimension"));
    s = make_set(900, 900, 16, 30);
    s.most = 4;
    s.deepest = 20;
    assert_true(same_ranks(&s, -1, "the nearest alone"));
    s = make_set(600, 600, 16, 20);
    s.groups = memory(600, sizeof *s.groups);
    for (int i = 0; i < 600; i++)
        s.groups[i] = i % 3;
    assert_true(same_ranks(&s, -1, "groups"));
    s = make_set(40, 40, 4, 40); /* nobody has a positive */
    assert_true(same_ranks(&s, -1, "alone"));
}

/* What float32 cannot decide is decided by the processor. */
static void equal_vectors(void **state) {
    (void)state;
    struct set s = make_set(800, 800, 16, 40);
    for (size_t i = 400; i < 800; i++) /* each twice, mostly in another class */
        memcpy(s.x + i * s.dim, s.x + (i * 7 % 400) * s.dim, s.dim * sizeof *s.x);
    assert_true(same_ranks(&s, -1, "duplicates"));
    s = make_set(800, 800, 16, 40);
    memset(s.x, 0, 800 * 16 * sizeof *s.x);
    assert_true(same_ranks(&s, -1, "zeros"));
    s = make_set(800, 800, 16, 40);
    memset(s.x + 100 * 16, 0, 300 * 16 * sizeof *s.x);
    assert_true(same_ranks(&s, -1, "some zeros"));
    s = make_set(800, 800, 16, 40);
    for (size_t i = 0; i < 800 * 16; i++) /* distances a few units apart */
        s.x[i] = 1000 + s.x[i] * 1e-3f;
    assert_true(same_ranks(&s, -1, "far from 0"));
    s = make_set(1200, 1200, 4, 12);
    for (size_t i = 0; i < 1200 * 4; i++) /* whole numbers: many equal distances */
        s.x[i] = (float)(int)(2 * s.x[i]);
    assert_true(same_ranks(&s, -1, "a grid"));
}

/* Too many pairs for the card's list, and a card that fails: the processor counts, and says so. */
static void the_processor_takes_over(void **state) {
    (void)state;
    struct set s = make_set(2200, 2200, 4, 20);
    memset(s.x, 0, 2200 * 4 * sizeof *s.x);
    assert_false(same_ranks(&s, -1, "all equal"));
    assert_string_equal(said, "--evaluate_on_gpu: too many distances are equal for a GPU; the "
                              "processor counts ranks");
    s = make_set(300, 300, 4, 20);
    assert_true(same_ranks(&s, LONG_MAX, "counting calls"));
    const long all = calls;
    assert_true(all > 15);
    for (long at = 0; at < all; at++) {
        s = make_set(300, 300, 4, 20);
        assert_false(same_ranks(&s, at, "a failing call"));
        assert_non_null(strstr(said, "the card is lost"));
    }
    s = make_set(300, 300, 4, 20);
    cuda_host_memory(1 << 20);
    assert_false(same_ranks(&s, -1, "too little memory"));
    assert_non_null(strstr(said, "the GPU lacks memory"));
    cuda_host_memory(0);
}

static void without_a_card(void **state) {
    (void)state;
    static const struct dml_listener listener = {.message = listen};
    dml_cuda_replace(cuda_host_api());
    dml_listen(&listener);
    cuda_host_lose("there is no NVIDIA GPU");
    assert_null(cuda_ranker_open(0));
    assert_string_equal(said,
                        "--evaluate_on_gpu: there is no NVIDIA GPU; the processor counts ranks");
    cuda_host_lose(NULL);
    assert_null(cuda_ranker_open(3));
    assert_null(cuda_ranker_counter(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_vectors),
        cmocka_unit_test(equal_vectors),
        cmocka_unit_test(the_processor_takes_over),
        cmocka_unit_test(without_a_card),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
