#include "backends/cuda/cuda.h"
#include "backends/cuda/device/usable.h"
#include "cuda_host/device_host.h"
#include "support/golden.h"
#include "support/networks.h"
#include "support/optimising.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The CUDA backend beside the CPU's, on a card in plain C; and a card that fails. */

/* An architecture at 32 pixels; the small networks of networks.h by "unusual" and so on. */
static struct dml_graph *graph_by(const char *name) {
    if (strncmp(name, "unusual", 7) == 0)
        return unusual_graph(strstr(name, "_frozen") != NULL);
    return graph_of(name, 32);
}

static void open_arch(struct setting *s, const struct dml_backend *backend, const char *arch,
                      size_t n, size_t micro) {
    dml_cuda_replace(cuda_host_api());
    test_backend(backend);
    open_network(s, graph_by(arch), n, (struct dml_network_options){.micro_batch = micro});
}

/* The sum of squares of a - b (b: of a alone where b is NULL) over parameter p. */
static double squares(const struct setting *a, const struct setting *b, int p, enum dml_slot slot) {
    float *x = read_param(a, p, slot), *y = b ? read_param(b, p, slot) : NULL;
    double sum = 0;
    for (size_t i = 0; i < a->graph->params[p].count; i++) {
        double d = (double)x[i] - (y ? y[i] : 0.0f);
        sum += d * d;
    }
    free(x);
    free(y);
    return sum;
}

/* Each parameter's distance, relative to its size and a thousandth of that of all: gradients that
 * would be 0 (of a bias in front of a batch norm) are rounding alone. */
static void compare(const struct setting *a, const struct setting *b, enum dml_slot slot,
                    double tolerance) {
    double all = 1e-20;
    for (int pass = 0; pass < 2; pass++)
        for (int p = 0; p < a->graph->param_count; p++) {
            if (slot != DML_SLOT_VALUE && !dml_param_learnable(&a->graph->params[p]))
                continue;
            double size = squares(b, NULL, p, slot);
            if (pass == 0) {
                all += size;
                continue;
            }
            double off = sqrt(squares(a, b, p, slot) / (size + 1e-6 * all));
            if (!(off <= tolerance))
                fail_msg("%s: %g from the CPU's", a->graph->params[p].name, off);
        }
}

/* The negatives of the images: with these, no two pixels that a max pool of resnet18 chooses from
 * are within rounding of each other, which would send the gradient elsewhere. */
static void invert(struct setting *s) {
    const struct dml_node *input = &s->graph->nodes[0];
    size_t bytes = s->images.n * 3 * (size_t)(input->height * input->width);
    for (size_t i = 0; i < bytes; i++)
        s->pixels[i] = (uint8_t)(255 - s->pixels[i]);
}

/* Three steps of both backends from the same values: embeddings, gradients, weights. */
static void train_both(const char *arch, size_t n, size_t micro, const char *optimiser,
                       const char *flags) {
    struct setting a, b;
    struct stepper first, second;
    open_arch(&a, &dml_backend_cuda, arch, n, micro);
    open_arch(&b, &dml_backend_cpu, arch, n, micro);
    invert(&a);
    invert(&b);
    open_stepper(&first, a.graph, optimiser, flags, 1e-3);
    open_stepper(&second, b.graph, optimiser, flags, 1e-3);
    for (int step = 0; step < 3; step++) {
        a.images.step = b.images.step = (uint64_t)step;
        loss_of(&a);
        loss_of(&b);
        /* Adam divides by roots of what may be rounding alone: later steps differ by more. */
        close_to(a.embeddings, b.embeddings, n * a.dim, step ? 2e-2 : 1e-4);
        assert_ok(dml_network_backward(a.network, a.grad));
        assert_ok(dml_network_backward(b.network, b.grad));
        if (step == 0)
            compare(&a, &b, DML_SLOT_GRAD, 2e-3);
        struct dml_gradient_size x, y;
        assert_ok(dml_network_gradient_size(a.network, NULL, &x));
        assert_ok(dml_network_gradient_size(b.network, NULL, &y));
        assert_true(fabs(x.norm - y.norm) <= 1e-2 * y.norm && fabs(x.max - y.max) <= 2e-2 * y.max);
        assert_ok(dml_network_clip(a.network, NULL, 0.9, 1.0));
        assert_ok(dml_network_clip(b.network, NULL, 0.9, 1.0));
        take_step(&first, a.network);
        take_step(&second, b.network);
        assert_ok(dml_network_average(a.network, step ? 0.5 : 0));
        assert_ok(dml_network_average(b.network, step ? 0.5 : 0));
    }
    compare(&a, &b, DML_SLOT_VALUE, 1e-2);
    assert_ok(dml_network_exchange(a.network));
    assert_ok(dml_network_exchange(b.network));
    compare(&a, &b, DML_SLOT_VALUE, 1e-2);
    close_stepper(&first);
    close_stepper(&second);
    close_network(&a);
    close_network(&b);
    assert_int_equal(cuda_host_pieces(), 0);
}

static void trains_as_the_processor_does(void **state) {
    (void)state;
    train_both("resnet18_frozen_normalize", 6, 4, "adam", NULL);
    train_both("vitt16_normalize", 3, 0, "sgd", NULL);
    train_both("unusual_frozen", 6, 0, "adamw", NULL);
    train_both("unusual", 6, 0, "sgd", "--sgd_nesterov");
    train_both("unusual_frozen", 6, 4, "rmsprop", NULL);
    train_both("unusual_frozen", 6, 0, "rmsprop", "--rmsprop_momentum 0.5");
    train_both("unusual_frozen", 6, 0, "lion", NULL); /* without a kernel: on the host */
}

/* A batch in pieces of 4, 4 and 3 gives what the pieces give alone, added up in float32, to the
 * bit: so do ranks. */
static void pieces_are_complete_before_they_are_added(void **state) {
    (void)state;
    enum { N = 11, PIECE = 4 };
    struct setting pieces, alone;
    open_arch(&pieces, &dml_backend_cuda, "unusual_frozen", N, PIECE);
    open_arch(&alone, &dml_backend_cuda, "unusual_frozen", N, 0);
    loss_of(&pieces);
    assert_ok(dml_network_backward(pieces.network, pieces.grad));
    const struct dml_node *input = &alone.graph->nodes[0];
    float **sums = calloc((size_t)alone.graph->param_count, sizeof *sums);
    assert_non_null(sums);
    for (size_t first = 0; first < N; first += PIECE) {
        struct dml_images images = alone.images;
        images.n = N - first < PIECE ? N - first : PIECE;
        images.pixels += first * 3 * (size_t)(input->height * input->width);
        assert_ok(dml_network_forward(alone.network, &images, alone.embeddings));
        assert_ok(dml_network_backward(alone.network, pieces.grad + first * alone.dim));
        for (int p = 0; p < alone.graph->param_count; p++) {
            if (!dml_param_learnable(&alone.graph->params[p]))
                continue;
            float *grad = read_param(&alone, p, DML_SLOT_GRAD);
            for (size_t i = 0; sums[p] && i < alone.graph->params[p].count; i++)
                grad[i] = sums[p][i] + grad[i];
            free(sums[p]);
            sums[p] = grad;
        }
    }
    for (int p = 0; p < alone.graph->param_count; p++) {
        if (sums[p]) {
            float *grad = read_param(&pieces, p, DML_SLOT_GRAD);
            assert_memory_equal(grad, sums[p], alone.graph->params[p].count * sizeof *grad);
            free(grad);
        }
        free(sums[p]);
    }
    free(sums);
    close_network(&pieces);
    close_network(&alone);
}

static void logs_name_the_card(void **state) {
    (void)state;
    struct setting s;
    char text[256];
    open_arch(&s, &dml_backend_cuda, "unusual", 2, 0);
    dml_network_describe(s.network, text, sizeof text);
    assert_string_equal(text, "host double of 1099.5 GB, driver for CUDA 13.0, cuDNN 9.11.0");
    close_network(&s);
}

/* Images in memory that the card copies from directly. */
static void images_in_memory_of_the_card_s(void **state) {
    (void)state;
    struct setting s;
    open_arch(&s, &dml_backend_cuda, "unusual_frozen", 4, 0);
    const struct dml_node *input = &s.graph->nodes[0];
    size_t bytes = 4 * 3 * (size_t)(input->height * input->width);
    float *expected = calloc(4 * s.dim, sizeof *expected);
    assert_ok(dml_network_forward(s.network, &s.images, expected));
    size_t pieces = cuda_host_pieces();
    const struct dml_memory_source source = dml_network_image_memory(s.network);
    uint8_t *own = source.alloc(source.data, bytes);
    assert_int_equal(cuda_host_pieces(), pieces + 1);
    memcpy(own, s.images.pixels, bytes);
    struct dml_images images = s.images;
    images.pixels = own;
    assert_ok(dml_network_forward(s.network, &images, s.embeddings));
    assert_memory_equal(s.embeddings, expected, 4 * s.dim * sizeof *expected);
    source.release(source.data, own);
    assert_int_equal(cuda_host_pieces(), pieces);
    assert_null(dml_backend_cpu.image_memory);
    free(expected);
    close_network(&s);
}

/* An optimiser that there is no kernel for: gradients are taken off the host's way. */
static void subtract(const void *options, const struct dml_update *u, float *values,
                     const float *grad, float *const *states, size_t n) {
    (void)options;
    for (size_t i = 0; i < n; i++) {
        states[0][i] += grad[i];
        values[i] -= (float)u->lr * states[0][i];
    }
}
static void foreign_optimisers_work_on_the_host(void **state) {
    (void)state;
    static const struct dml_optimiser own = {
        .method = {.name = "sgd", .summary = "another of the same name"},
        .states = 1,
        .update = subtract};
    struct setting a, b;
    open_arch(&a, &dml_backend_cuda, "unusual_frozen", 3, 0);
    open_arch(&b, &dml_backend_cpu, "unusual_frozen", 3, 0);
    const struct dml_span span = {0, a.graph->param_count, 0};
    const struct dml_update update = {.lr = 1e-3, .momentum = NAN, .step = 1};
    const struct dml_optimiser_step step = {&own, NULL, {&span, 1}, &update};
    struct setting *const both[] = {&a, &b};
    for (int k = 0; k < 4; k++) {
        struct setting *s = both[k % 2];
        loss_of(s);
        assert_ok(dml_network_backward(s->network, s->grad));
        assert_ok(dml_network_step(s->network, &step));
    }
    compare(&a, &b, DML_SLOT_VALUE, 1e-3);
    compare(&a, &b, DML_SLOT_STATE, 1e-2);
    close_network(&a);
    close_network(&b);
}

/* A training step and an evaluation; the first failure. */
static enum dml_status work(struct dml_graph *graph, const struct setting *s) {
    struct dml_network *network;
    float *embeddings = calloc(s->images.n * s->dim, sizeof *embeddings), *values = NULL;
    const struct dml_network_options options = {.batch_hint = s->images.n};
    struct stepper adam;
    assert_non_null(embeddings);
    open_stepper(&adam, graph, "adam", NULL, 1e-3);
    enum dml_status status = dml_network_open(&dml_backend_cuda, graph, &options, &network);
    if (status) {
        dml_graph_free(graph);
        close_stepper(&adam);
        free(embeddings);
        return status;
    }
    for (int p = 0; !status && p < graph->param_count; p++) {
        values = read_param(s, p, DML_SLOT_VALUE);
        status = dml_network_write(network, p, DML_SLOT_VALUE, values);
        free(values);
    }
    if (!status)
        status = dml_network_forward(network, &s->images, embeddings);
    if (!status)
        status = dml_network_backward(network, s->grad);
    if (!status)
        status = dml_network_step(network, &adam.step);
    if (!status)
        status = dml_network_average(network, 0.5);
    if (!status)
        status = dml_network_embed(network, &s->images, embeddings);
    dml_network_close(network);
    close_stepper(&adam);
    free(embeddings);
    return status;
}

/* Whatever call of a card fails, everything ends with one line, and nothing is left behind. */
static void every_call_may_fail(void **state) {
    (void)state;
    static const char *const archs[] = {"unusual", "unusual_frozen", "vitt16_normalize"};
    for (size_t k = 0; k < 3; k++) {
        struct setting s;
        dml_cuda_replace(cuda_host_api());
        test_backend(&dml_backend_cpu);
        open_network(&s, graph_by(archs[k]), 2, (struct dml_network_options){0});
        cuda_host_fail_at(LONG_MAX);
        assert_ok(work(graph_by(archs[k]), &s));
        long calls = cuda_host_calls();
        assert_true(calls > 40);
        /* Every one of the small networks; most of the transformer's are alike. */
        for (long at = 0; at < calls; at += k < 2 ? 1 : 53) {
            cuda_host_fail_at(at);
            enum dml_status status = work(graph_by(archs[k]), &s);
            if (status == DML_OK)
                fail_msg("%s: call %ld failed, and nobody noticed", archs[k], at);
            assert_true(status == DML_ERROR_IO || status == DML_ERROR_MEMORY ||
                        status == DML_ERROR_UNSUPPORTED);
            assert_non_null(strcasestr(dml_error(), "gpu"));
            assert_null(strchr(dml_error(), '\n'));
            assert_int_equal(cuda_host_pieces(), 0);
        }
        cuda_host_fail_at(-1);
        close_network(&s);
    }
}

/* Too little memory is told in figures, with a --micro_bs that does fit. */
static void memory_is_told(void **state) {
    (void)state;
    struct setting s;
    open_arch(&s, &dml_backend_cuda, "unusual_frozen", 64, 0);
    assert_ok(dml_network_forward(s.network, &s.images, s.embeddings));
    size_t half = dml_network_memory(s.network) / 2;
    close_network(&s);
    open_arch(&s, &dml_backend_cuda, "unusual_frozen", 64, 0);
    size_t parameters = cuda_host_used();
    cuda_host_memory(parameters + half);
    assert_int_equal(dml_network_forward(s.network, &s.images, s.embeddings), DML_ERROR_MEMORY);
    const char *fits = strstr(dml_error(), "--micro_bs ");
    assert_non_null(fits);
    assert_non_null(strstr(dml_error(), "activations of 64 images need"));
    long micro = strtol(fits + strlen("--micro_bs "), NULL, 10);
    assert_in_range(micro, 1, 63);
    close_network(&s);
    cuda_host_memory(0);
    open_arch(&s, &dml_backend_cuda, "unusual_frozen", 64, (size_t)micro);
    cuda_host_memory(parameters + half);
    assert_ok(dml_network_forward(s.network, &s.images, s.embeddings));
    assert_ok(dml_network_backward(s.network, s.grad));
    cuda_host_memory(0);
    close_network(&s);
    struct dml_network *network;
    struct dml_graph *graph = graph_of("resnet18", 32);
    cuda_host_memory(1 << 20);
    assert_int_equal(
        dml_network_open(&dml_backend_cuda, graph, &(struct dml_network_options){0}, &network),
        DML_ERROR_MEMORY);
    assert_non_null(strstr(dml_error(), "parameters of the network need"));
    dml_graph_free(graph);
    cuda_host_memory(0);
}

/* What libdml_cuda.so says of a driver, a cuDNN and a card that it cannot use. */
static void unusable(void **state) {
    (void)state;
    char reason[CUDA_REASON] = "";
    assert_true(cuda_usable_versions(&(struct cuda_versions){13020, 13000, 91100}, reason));
    assert_true(cuda_usable_versions(&(struct cuda_versions){12040, 12080, 90000}, reason));
    assert_string_equal(reason, "");
    assert_false(cuda_usable_versions(&(struct cuda_versions){0, 13000, 91100}, reason));
    assert_string_equal(reason, "there is no NVIDIA driver");
    assert_false(cuda_usable_versions(&(struct cuda_versions){12080, 13000, 91100}, reason));
    assert_string_equal(reason, "the NVIDIA driver is for CUDA 12.8, and this build needs one for "
                                "13.0 or later");
    assert_false(cuda_usable_versions(&(struct cuda_versions){13000, 13000, 8907}, reason));
    assert_string_equal(reason, "cuDNN 8.9 is older than 9");
    assert_false(cuda_usable_versions(&(struct cuda_versions){13000, 13000, 0}, reason));
    assert_string_equal(reason, "cuDNN is not whole: libcudnn_graph.so.9 is missing");
    assert_true(cuda_usable_card(&(struct cuda_card){.name = "A100", .major = 8}, reason));
    assert_false(
        cuda_usable_card(&(struct cuda_card){.name = "T4", .major = 7, .minor = 5}, reason));
    assert_string_equal(reason, "T4 has compute capability 7.5, and at least 8.0 is needed");
}

/* A card is used where there is one; one that was asked for and is not there is an error. */
static void selection(void **state) {
    (void)state;
    const struct dml_backend *backend;
    const char *note;
    struct dml_backend_wishes wishes = {.precision = DML_PRECISION_FP32};
    dml_cuda_replace(cuda_host_api());
    assert_ok(dml_backend_select(&wishes, &backend, &note));
    assert_ptr_equal(backend, &dml_backend_cuda);
    assert_null(note);
    wishes.gpu = true;
    wishes.precision = DML_PRECISION_TF32;
    assert_ok(dml_backend_select(&wishes, &backend, &note));
    assert_ptr_equal(backend, &dml_backend_cuda);
    wishes.precision = DML_PRECISION_BF16;
    assert_ok(dml_backend_select(&wishes, &backend, &note));
    assert_ptr_equal(backend, &dml_backend_cuda);
    wishes.precision = DML_PRECISION_FP32;
    wishes.device = 7;
    assert_int_equal(dml_backend_select(&wishes, &backend, &note), DML_ERROR_UNSUPPORTED);
    assert_non_null(strstr(dml_error(), "--gpu 7: GPUs are counted from 0, and there is 1"));
    wishes.gpu = false; /* the default of nobody: the processor takes over */
    assert_ok(dml_backend_select(&wishes, &backend, &note));
    assert_ptr_equal(backend, &dml_backend_cpu);
    cuda_host_lose("there is no NVIDIA driver");
    wishes = (struct dml_backend_wishes){.precision = DML_PRECISION_FP32};
    assert_ok(dml_backend_select(&wishes, &backend, &note));
    assert_ptr_equal(backend, &dml_backend_cpu);
    assert_string_equal(note, "there is no NVIDIA driver");
    wishes.gpu = true;
    assert_int_equal(dml_backend_select(&wishes, &backend, &note), DML_ERROR_UNSUPPORTED);
    assert_string_equal(dml_error(), "--gpu 0: there is no NVIDIA driver; without --gpu the "
                                     "processor is used");
    wishes.gpu = false;
    wishes.precision = DML_PRECISION_TF32;
    assert_int_equal(dml_backend_select(&wishes, &backend, &note), DML_ERROR_UNSUPPORTED);
    assert_non_null(strstr(dml_error(), "only GPUs"));
    cuda_host_lose(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trains_as_the_processor_does),
        cmocka_unit_test(pieces_are_complete_before_they_are_added),
        cmocka_unit_test(logs_name_the_card),
        cmocka_unit_test(images_in_memory_of_the_card_s),
        cmocka_unit_test(foreign_optimisers_work_on_the_host),
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(memory_is_told),
        cmocka_unit_test(unusable),
        cmocka_unit_test(selection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
