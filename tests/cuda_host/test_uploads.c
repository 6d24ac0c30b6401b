#include "backends/cuda/cuda.h"
#include "cuda_host/device_host.h"
#include "dml/rng.h"
#include "support/golden.h"
#include "support/networks.h"
#include "support/optimising.h"

#include <stdlib.h>
#include <string.h>

/* Images that are copied to the card while it computes what comes before them: whenever the copies
 * are done between where they may be and where they must be, results are the same bits. */

enum { STEPS = 5, N = 11, RING = 3, DIM = 7 };

/* Frozen in pieces. */
static void open_on_card(struct setting *s, size_t micro) {
    dml_cuda_replace(cuda_host_api());
    test_backend(&dml_backend_cuda);
    open_network(s, unusual_graph(micro > 0), N,
                 (struct dml_network_options){.micro_batch = micro});
}

/* Batches in a ring of places, as the loader makes them: the place of one that was given back is
 * written to at once. The last is smaller. */
struct ring {
    struct dml_memory_source memory;
    uint8_t *places[RING];
    size_t bytes; /* of an image */
    int height, width;
};

static void open_ring(struct ring *ring, struct setting *s) {
    const struct dml_node *input = &s->graph->nodes[0];
    ring->memory = dml_network_image_memory(s->network);
    ring->height = input->height;
    ring->width = input->width;
    ring->bytes = 3 * (size_t)input->height * (size_t)input->width;
    for (int i = 0; i < RING; i++) {
        ring->places[i] = ring->memory.alloc(ring->memory.data, N * ring->bytes);
        assert_non_null(ring->places[i]);
    }
}

static void close_ring(struct ring *ring) {
    for (int i = 0; i < RING; i++)
        ring->memory.release(ring->memory.data, ring->places[i]);
}

static struct dml_images make_batch(struct ring *ring, int step) {
    uint8_t *place = ring->places[step % RING];
    struct dml_rng rng = dml_rng_make(7, DML_PURPOSE_OTHER, (uint64_t)step, 0);
    for (size_t i = 0; i < N * ring->bytes; i++)
        place[i] = (uint8_t)dml_rng_bits(&rng);
    return (struct dml_images){.n = step == STEPS - 1 ? N - 4 : N,
                               .height = ring->height,
                               .width = ring->width,
                               .pixels = place,
                               .step = (uint64_t)step};
}

static void give_back(struct ring *ring, int step) {
    memset(ring->places[step % RING], 0x5a, N * ring->bytes);
}

/* Embeddings of STEPS batches in training and as many in inference: free() them. */
static float *run(size_t micro, bool announce) {
    struct setting s;
    struct ring ring;
    struct stepper sgd;
    open_on_card(&s, micro);
    open_ring(&ring, &s);
    open_stepper(&sgd, s.graph, "sgd", NULL, 1e-2);
    float *all = calloc(2 * STEPS * N * s.dim, sizeof *all);
    assert_non_null(all);
    for (int pass = 0; pass < 2; pass++) {
        struct dml_images images = make_batch(&ring, 0);
        for (int step = 0; step < STEPS; step++) {
            float *to = all + (size_t)(pass * STEPS + step) * N * s.dim;
            struct dml_images next = {0};
            if (step + 1 < STEPS)
                next = make_batch(&ring, step + 1);
            if (announce && step + 1 < STEPS)
                dml_network_announce(s.network, &next);
            if (pass == 0) {
                assert_ok(dml_network_forward(s.network, &images, to));
                assert_ok(dml_network_backward(s.network, s.grad));
                take_step(&sgd, s.network);
            } else {
                assert_ok(dml_network_embed(s.network, &images, to));
            }
            give_back(&ring, step);
            images = next;
        }
        if (announce)
            dml_network_announce(s.network, NULL);
    }
    close_stepper(&sgd);
    close_ring(&ring);
    close_network(&s);
    assert_int_equal(cuda_host_pieces(), 0);
    return all;
}

static void same_bits_whenever_they_are_done(void **state) {
    (void)state;
    for (size_t micro = 0; micro <= 4; micro += 4) {
        size_t before = cuda_host_uploads_ahead();
        float *expected = run(micro, false);
        size_t alone = cuda_host_uploads_ahead() - before; /* pieces that follow each other */
        assert_true(alone > 0);
        for (int early = 0; early < 2; early++) {
            cuda_host_upload_early(early);
            before = cuda_host_uploads_ahead();
            float *got = run(micro, true);
            assert_int_equal(cuda_host_uploads_ahead() - before, alone + 2 * (STEPS - 1));
            assert_memory_equal(got, expected, 2 * STEPS * N * DIM * sizeof *got);
            free(got);
        }
        cuda_host_upload_early(false);
        free(expected);
    }
}

/* The card in plain C would notice that nobody waits. */
static void a_missing_wait_shows(void **state) {
    (void)state;
    float *expected = run(0, true);
    cuda_host_forget_to_wait(true);
    float *got = run(0, true);
    cuda_host_forget_to_wait(false);
    size_t batch = N * DIM * sizeof *got;
    assert_memory_equal(got, expected, batch); /* which nothing was told of */
    for (int step = 1; step < STEPS; step++)
        assert_memory_not_equal((char *)got + (size_t)step * batch,
                                (char *)expected + (size_t)step * batch, batch);
    free(expected);
    free(got);
}

static void check(struct setting *s, const struct dml_images *images, const float *expected) {
    assert_ok(dml_network_embed(s->network, images, s->embeddings));
    assert_memory_equal(s->embeddings, expected, images->n * s->dim * sizeof *expected);
}

/* Others come than those that were announced; they change once they are withdrawn; their memory is
 * released while they are being copied. */
static void announcements_may_come_to_nothing(void **state) {
    (void)state;
    struct setting s;
    struct ring ring;
    for (int early = 0; early < 2; early++) {
        cuda_host_upload_early(early);
        open_on_card(&s, 0);
        open_ring(&ring, &s);
        float *expected[RING];
        struct dml_images images[RING];
        for (int i = 0; i < RING; i++) {
            images[i] = make_batch(&ring, i);
            expected[i] = calloc(N * s.dim, sizeof(float));
            assert_ok(dml_network_embed(s.network, &images[i], expected[i]));
        }
        dml_network_announce(s.network, &images[1]);
        check(&s, &images[0], expected[0]);
        check(&s, &images[2], expected[2]); /* and not 1 */
        check(&s, &images[1], expected[1]);
        dml_network_announce(s.network, &images[1]);
        check(&s, &images[0], expected[0]);
        dml_network_announce(s.network, NULL);
        memcpy(ring.places[1], ring.places[2], N * ring.bytes);
        check(&s, &images[1], expected[2]);
        dml_network_announce(s.network, &images[2]);
        check(&s, &images[0], expected[0]);
        close_ring(&ring);
        assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
        for (int i = 0; i < RING; i++)
            free(expected[i]);
        close_network(&s);
        assert_int_equal(cuda_host_pieces(), 0);
    }
    cuda_host_upload_early(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_whenever_they_are_done),
        cmocka_unit_test(a_missing_wait_shows),
        cmocka_unit_test(announcements_may_come_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
