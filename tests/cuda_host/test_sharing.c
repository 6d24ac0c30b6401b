#include "backends/cuda/cuda.h"
#include "base/memory.h"
#include "base/progress.h"
#include "comm/comm.h"
#include "cuda_host/device_host.h"
#include "support/golden.h"
#include "support/networks.h"
#include "train/ranks.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A batch on the cards of several processes (in plain C): its gradients are those of one card that
 * computes it in pieces, to the bit, whether a library in NCCL's place or the processes exchange
 * them; batch norm has the statistics of the whole batch, on processors as well; a process that is
 * lost is named. Started with `launch N CASE` this program starts N ranks; with `CASE` it is one of
 * them. */

static const char *self;

enum { PART = 3 };

/* A network with parameters that are the same in all processes, and these images of the batch. */
static void open_part(struct setting *s, bool frozen, size_t first, size_t n, size_t batch,
                      struct dml_network_options options) {
    struct setting whole;
    open_network(&whole, unusual_graph(frozen), batch, options);
    open_network(s, unusual_graph(frozen), n, options);
    copy_parameters(&whole, s);
    size_t bytes = (size_t)3 * (size_t)s->images.height * (size_t)s->images.width;
    memcpy(s->pixels, whole.pixels + first * bytes, n * bytes);
    memcpy(s->grad, whole.grad + first * s->dim, n * s->dim * sizeof *s->grad);
    close_network(&whole);
}

static enum dml_status run(struct setting *s) {
    enum dml_status status = dml_network_forward(s->network, &s->images, s->embeddings);
    return status ? status : dml_network_backward(s->network, s->grad);
}

/* The largest distance of a parameter's gradients, relative to the largest of any parameter: that
 * of a bias before a batch norm is 0 but for rounding. INFINITY: some are not numbers. */
static double distance(const struct setting *a, const struct setting *b) {
    double worst = 0, largest = 0;
    for (int p = 0; p < a->graph->param_count; p++) {
        if (!dml_param_learnable(&a->graph->params[p]))
            continue;
        float *x = read_param(a, p, DML_SLOT_GRAD), *y = read_param(b, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < a->graph->params[p].count; i++) {
            double apart = fabs((double)x[i] - y[i]);
            worst = isfinite(apart) ? fmax(worst, apart) : INFINITY;
            largest = fmax(largest, fabs((double)y[i]));
        }
        free(x);
        free(y);
    }
    return worst / largest;
}

/* Prints what this process finds. */
static int be_a_rank(const char *what) {
    struct dml_comm comm;
    struct setting own, whole;
    bool processors = strcmp(what, "processors") == 0, cards = strcmp(what, "host") != 0;
    bool norm = processors || strcmp(what, "norm") == 0;
    if (dml_comm_open("train", 60, &comm))
        return 1;
    dml_cuda_replace(cuda_host_api());
    test_backend(processors ? &dml_backend_cpu : &dml_backend_cuda);
    cuda_host_join_by(cards ? DML_BINARY_DIR "/libnccl_double.so" : NULL);
    const struct dml_batch_parts parts = dml_ranks_parts(&comm);
    size_t batch = (size_t)comm.size * PART, first = (size_t)comm.rank * PART;
    open_part(&own, !norm, first, PART, batch,
              (struct dml_network_options){.parts = &parts, .own_statistics = !norm});
    enum dml_status status = run(&own);
    if (!status && strcmp(what, "lost") == 0) { /* the cards are joined */
        if (comm.rank == 1)
            raise(SIGKILL);
        status = run(&own);
    }
    status = dml_comm_fail(&comm, status);
    if (status) {
        dml_comm_tell(&comm);
        close_network(&own);
        dml_comm_close(&comm, 1);
    }
    open_part(&whole, !norm, 0, batch, batch,
              (struct dml_network_options){.micro_batch = norm ? 0 : PART});
    assert_int_equal(run(&whole), DML_OK);
    double apart = distance(&own, &whole), all[comm.size][2];
    for (size_t i = 0; i < PART * own.dim; i++)
        apart = fmax(apart, fabs(own.embeddings[i] - whole.embeddings[first * own.dim + i]));
    double found[2] = {apart, (double)cuda_host_exchanged()};
    status = dml_comm_allgather(&comm, found, sizeof found, all);
    for (int r = 0; !status && comm.rank == 0 && r < comm.size; r++)
        printf("%g %g\n", all[r][0], all[r][1]);
    close_network(&own);
    close_network(&whole);
    dml_comm_close(&comm, status != 0);
    return status != 0;
}

/* What N ranks say; `errors`: on stderr too, where sanitizers warn of the simulated card. */
static FILE *start(int ranks, const char *what, bool errors) {
    char command[2000];
    snprintf(command, sizeof command, "'%s' launch %d %s%s", self, ranks, what,
             errors ? " 2>&1" : "");
    FILE *output = popen(command, "r");
    assert_non_null(output);
    return output;
}

/* Gradients and embeddings are no further apart than that; cards have exchanged bytes, or none. */
static void check(int ranks, const char *what, double apart, bool exchanged) {
    FILE *output = start(ranks, what, false);
    for (int r = 0; r < ranks; r++) {
        double distance, bytes;
        char line[400] = "";
        assert_non_null(fgets(line, sizeof line, output));
        if (sscanf(line, "%lf %lf", &distance, &bytes) != 2 || distance > apart ||
            (bytes > 0) != exchanged)
            fail_msg("%s, rank %d: %s", what, r, line);
    }
    assert_int_equal(pclose(output), 0);
}

static void test_cards_exchange(void **state) {
    (void)state;
    check(3, "cards", 0, true);
}

static void test_processes_exchange(void **state) {
    (void)state;
    check(2, "host", 0, false);
}

static void test_batch_norm_of_the_whole_batch(void **state) {
    (void)state;
    check(2, "norm", 1e-6, true);
    check(3, "processors", 5e-6, false);
}

static void test_a_lost_process_is_named(void **state) {
    (void)state;
    char text[4000] = "";
    double started = dml_now();
    FILE *output = start(2, "lost", true);
    size_t length = fread(text, 1, sizeof text - 1, output);
    text[length] = 0;
    assert_int_not_equal(pclose(output), 0);
    const char *named = strstr(text, "dml train: rank 1 of 2 is lost: its process ");
    if (!named || strstr(named + 1, "dml train: ") || dml_now() - started > 100)
        fail_msg("%s", text);
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc == 4) {
        int code = 1;
        if (dml_comm_launch(atoi(argv[2]), argv + 3, "", &code))
            fprintf(stderr, "%s\n", dml_error());
        return code;
    }
    if (argc == 2)
        return be_a_rank(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cards_exchange),
        cmocka_unit_test(test_processes_exchange),
        cmocka_unit_test(test_batch_norm_of_the_whole_batch),
        cmocka_unit_test(test_a_lost_process_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
