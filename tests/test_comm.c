#include "base/memory.h"
#include "base/progress.h"
#include "comm/comm.h"
#include "dml/rng.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The exchange between ranks, and what happens when one fails or is lost. Started without arguments
 * this program is the test; with `launch N CASE RANK` it starts N ranks by mpirun; with
 * `CASE RANK` it is one of them. */

static const char *self;

/* Deterministic values of a rank. */
static float value_of(int rank, size_t i) {
    return (float)((i * 2654435761u + (size_t)rank * 40503u) % 10007) / 997.0f - 5.0f;
}

static bool sums(struct dml_comm *comm, size_t count) {
    float *values = dml_alloc(count, sizeof *values), *serial = dml_alloc(count, sizeof *serial);
    bool same = values && serial;
    for (size_t i = 0; same && i < count; i++) {
        values[i] = value_of(comm->rank, i);
        serial[i] = value_of(0, i);
        for (int r = 1; r < comm->size; r++)
            serial[i] += value_of(r, i);
    }
    same = same && dml_comm_sum(comm, values, count) == DML_OK &&
           memcmp(values, serial, count * sizeof *values) == 0;
    free(values);
    free(serial);
    return same;
}

static bool gathers(struct dml_comm *comm, size_t bytes) {
    char *mine = dml_alloc(bytes, 1), *all = dml_alloc(bytes, (size_t)comm->size);
    memset(mine, 'a' + comm->rank, bytes);
    bool same = dml_comm_allgather(comm, mine, bytes, all) == DML_OK;
    for (size_t i = 0; same && i < bytes * (size_t)comm->size; i++)
        same = all[i] == 'a' + (char)(i / bytes);
    free(mine);
    free(all);
    return same;
}

/* Sums of many arrays that go on at the same time as other calls, by ranks of which each looks
 * after them at other moments. */
static bool sums_under_way(struct dml_comm *comm) {
    static const size_t counts[] = {5, 1, 700001, 40, 3000000, 2, 99999, 1 << 20, 17, 400000};
    enum { ARRAYS = sizeof counts / sizeof *counts };
    float *values[ARRAYS];
    bool same = true;
    for (int a = 0; a < ARRAYS; a++) {
        values[a] = dml_alloc(counts[a], sizeof(float));
        for (size_t i = 0; i < counts[a]; i++)
            values[a][i] = value_of(comm->rank, i + (size_t)a);
        same = same && dml_comm_sum_start(comm, values[a], counts[a]) == DML_OK;
        for (int k = 0; k < comm->rank * 50; k++)
            same = same && dml_comm_sum_advance(comm, false) == DML_OK;
        if (a % 3 == 1)
            same = same && gathers(comm, 10000);
        if (comm->rank == a % comm->size)
            nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    same = same && dml_comm_sum_advance(comm, true) == DML_OK;
    for (int a = 0; a < ARRAYS; a++) {
        for (size_t i = 0; i < counts[a]; i++) {
            float sum = value_of(0, i + (size_t)a);
            for (int r = 1; r < comm->size; r++)
                sum += value_of(r, i + (size_t)a);
            same = same && values[a][i] == sum;
        }
        free(values[a]);
    }
    return same;
}

/* Rank r has r * 1000 bytes. */
static bool collects(struct dml_comm *comm, bool root) {
    size_t at[20] = {0};
    for (int r = 0; r < comm->size; r++)
        at[r + 1] = at[r] + (size_t)r * 1000;
    char *data = dml_alloc(at[comm->size], 1);
    memset(data + at[comm->rank], '0' + comm->rank, at[comm->rank + 1] - at[comm->rank]);
    bool same = dml_comm_collect(comm, data, at, root) == DML_OK;
    bool whole = comm->rank == 0 || !root;
    for (int r = 0; same && r < comm->size; r++)
        for (size_t i = at[r]; i < at[r + 1]; i++)
            same = same && data[i] == (whole || r == comm->rank ? '0' + r : 0);
    free(data);
    return same;
}

static bool broadcasts(struct dml_comm *comm, size_t count) {
    uint32_t *data = dml_alloc(count, sizeof *data);
    for (size_t i = 0; comm->rank == 0 && i < count; i++)
        data[i] = (uint32_t)(i * 7);
    bool same = dml_comm_broadcast(comm, data, count * sizeof *data) == DML_OK;
    for (size_t i = 0; i < count; i++)
        same = same && data[i] == (uint32_t)(i * 7);
    free(data);
    return same;
}

/* Sums, one after the other, during which something happens to rank `victim`. */
static enum dml_status suffer(struct dml_comm *comm, const char *what, int victim) {
    enum dml_status status = DML_OK;
    for (int i = 0; !status && i < 6; i++) {
        float values[1000] = {0};
        if (i == 3 && comm->rank == victim) {
            if (strcmp(what, "killed") == 0)
                raise(SIGKILL);
            if (strcmp(what, "stopped") == 0)
                raise(SIGSTOP);
            if (strcmp(what, "exits") == 0)
                _exit(0);
            if (strcmp(what, "fails") == 0)
                return dml_fail(DML_ERROR_INPUT, "its image is broken");
            if (strcmp(what, "late") == 0)
                sleep(2);
        }
        status = dml_comm_sum(comm, values, 1000);
    }
    return status;
}

/* Rank 0 works longer than the limit while the others wait, and says so or stops. */
static enum dml_status work_alone(struct dml_comm *comm, bool stops) {
    double limit = comm->limit;
    comm->limit = 1;
    enum dml_status status = dml_comm_alone_begin(comm);
    if (!status && comm->rank == 0) {
        if (stops)
            raise(SIGSTOP);
        nanosleep(&(struct timespec){2, 500000000}, NULL);
    }
    status = dml_comm_alone_end(comm, status);
    comm->limit = limit;
    return status || gathers(comm, 1000) ? status : dml_fail(DML_ERROR_IO, "wrong bytes");
}

static int be_a_rank(const char *what, int victim) {
    struct dml_comm comm;
    /* by which mpirun ends the ranks that are left: a run would end after its step */
    signal(SIGTERM, SIG_IGN);
    enum dml_status status = dml_comm_open("train", 60, &comm); /* ranks may start slowly */
    bool right = true;
    if (strcmp(what, "stopped") == 0)
        comm.limit = 3;
    if (!status && strcmp(what, "calls") == 0)
        right = gathers(&comm, 1) && gathers(&comm, 100000) && collects(&comm, false) &&
                collects(&comm, true) && broadcasts(&comm, 1) && broadcasts(&comm, 5000000) &&
                sums(&comm, 1) && sums(&comm, 3) && sums(&comm, 1000) && sums(&comm, 1 << 18) &&
                sums(&comm, 3000001) && sums_under_way(&comm);
    else if (!status && strncmp(what, "alone", 5) == 0)
        status = work_alone(&comm, strcmp(what, "alone_stopped") == 0);
    else if (!status)
        status = suffer(&comm, what, victim);
    if (!right)
        dprintf(comm.errors, "rank %d of %d: wrong\n", comm.rank, comm.size);
    status = dml_comm_fail(&comm, status);
    int code = status || !right;
    if (status)
        dml_comm_tell(&comm);
    dml_comm_close(&comm, code);
    return code;
}

/* Leaves the lines that are ours: Open MPI 5 adds some when a rank ends early. */
static void keep_own_lines(char *text) {
    char *to = text;
    for (char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        length += line[length] == '\n';
        if (strncmp(line, "dml", 3) == 0 || strncmp(line, "rank", 4) == 0) {
            memmove(to, line, length);
            to += length;
        }
        line += length;
    }
    *to = 0;
}

/* Runs a case on `ranks` ranks; its output is in `text`. Returns mpirun's exit status. */
static int run(int ranks, const char *what, int victim, char *text, size_t size) {
    char command[2000];
    const char *path = scratch_path("output");
    snprintf(command, sizeof command, "'%s' launch %d %s %d >'%s' 2>&1", self, ranks, what, victim,
             path);
    double started = dml_now();
    int state = system(command);
    assert_true(dml_now() - started < 200); /* a busy machine is slow */
    FILE *file = fopen(path, "r");
    size_t length = fread(text, 1, size - 1, file);
    text[length] = 0;
    fclose(file);
    keep_own_lines(text);
    assert_true(WIFEXITED(state));
    return WEXITSTATUS(state);
}

static void test_calls(void **state) {
    (void)state;
    char text[4000];
    for (int ranks = 2; ranks <= 5; ranks += 3) {
        int code = run(ranks, "calls", 0, text, sizeof text);
        assert_string_equal(text, "");
        assert_int_equal(code, 0);
    }
}

/* Every line has a newline at its end. */
static size_t lines_of(const char *text) {
    size_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* Whoever it is, one line names it, and nobody hangs. */
static void check_lost(const char *what, const char *how) {
    char text[4000], begin[60];
    for (int victim = 0; victim < 3; victim++) {
        assert_int_not_equal(run(3, what, victim, text, sizeof text), 0);
        snprintf(begin, sizeof begin, "dml train: rank %d of 3 is lost: ", victim);
        if (lines_of(text) != 1 || strncmp(text, begin, strlen(begin)) != 0 || !strstr(text, how))
            fail_msg("%s %d: %s", what, victim, text);
    }
}

static void test_a_killed_rank_is_named(void **state) {
    (void)state;
    check_lost("killed", "has ended");
}

static void test_a_rank_that_exits_is_named(void **state) {
    (void)state;
    check_lost("exits", "has ended");
}

static void test_a_stopped_rank_is_named_within_the_limit(void **state) {
    (void)state;
    check_lost("stopped", "has not answered for 3 s (");
}

static void test_a_failure_is_told_with_its_rank(void **state) {
    (void)state;
    char text[4000];
    for (int victim = 0; victim < 3; victim++) {
        assert_int_equal(run(3, "fails", victim, text, sizeof text), 1);
        char host[64] = "", expected[200];
        gethostname(host, sizeof host - 1);
        if (victim == 0)
            snprintf(expected, sizeof expected, "dml train: its image is broken\n");
        else
            snprintf(expected, sizeof expected, "dml train: rank %d (%s): its image is broken\n",
                     victim, host);
        assert_string_equal(text, expected);
    }
}

static void test_a_late_rank_is_waited_for(void **state) {
    (void)state;
    char text[4000];
    assert_int_equal(run(3, "late", 1, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void test_rank_0_may_work_alone_for_long(void **state) {
    (void)state;
    char text[4000];
    assert_int_equal(run(3, "alone", 0, text, sizeof text), 0);
    assert_string_equal(text, "");
    assert_int_not_equal(run(3, "alone_stopped", 0, text, sizeof text), 0);
    if (lines_of(text) != 1 || strncmp(text, "dml train: rank 0 of 3 is lost: ", 32) != 0 ||
        !strstr(text, "has not answered for 1 s ("))
        fail_msg("%s", text);
}

/* A process on its own has nobody to exchange anything with. */
static void test_a_single_process(void **state) {
    (void)state;
    struct dml_comm comm;
    assert_int_equal(dml_comm_open("train", 1, &comm), DML_OK);
    assert_int_equal(comm.rank, 0);
    assert_int_equal(comm.size, 1);
    assert_true(sums(&comm, 100) && gathers(&comm, 10) && collects(&comm, false) &&
                broadcasts(&comm, 10));
    assert_int_equal(dml_comm_fail(&comm, DML_ERROR_INPUT), DML_ERROR_INPUT);
    dml_comm_close(&comm, 0);
}

static int set_up(void **state) {
    (void)state;
    scratch_open();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scratch_close();
    return 0;
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc == 5) {
        int code = 1;
        if (dml_comm_launch(atoi(argv[2]), argv + 3, "", &code))
            fprintf(stderr, "%s\n", dml_error());
        return code;
    }
    if (argc == 3)
        return be_a_rank(argv[1], atoi(argv[2]));
    const struct CMUnitTest alone[] = {cmocka_unit_test(test_a_single_process)};
    if (access(DML_BINARY_DIR "/libdml_mpi.so", F_OK)) {
        puts("this build leaves out many processes");
        return cmocka_run_group_tests(alone, set_up, tear_down);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_single_process),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_a_killed_rank_is_named),
        cmocka_unit_test(test_a_rank_that_exits_is_named),
        cmocka_unit_test(test_a_stopped_rank_is_named_within_the_limit),
        cmocka_unit_test(test_a_failure_is_told_with_its_rank),
        cmocka_unit_test(test_a_late_rank_is_waited_for),
        cmocka_unit_test(test_rank_0_may_work_alone_for_long),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
