/* What the library tells its listener, and how it names parameters. */
#include "base/messages.h"
#include "base/progress.h"
#include "dml/dml.h"
#include "support/golden.h"

#include <pthread.h>
#include <string.h>

struct heard {
    char text[2000];
    enum dml_message_kind kind;
    size_t reports, firsts, lasts;
    double share;
};

static void hear(void *data, enum dml_message_kind kind, const char *line) {
    struct heard *heard = data;
    size_t used = strlen(heard->text);
    heard->kind = kind;
    snprintf(heard->text + used, sizeof heard->text - used, "<%s>", line);
}

static void hear_progress(void *data, const struct dml_progress_report *report) {
    struct heard *heard = data;
    heard->reports++;
    heard->firsts += report->first;
    heard->lasts += report->last;
    heard->share = (double)report->done / (double)report->total;
}

static void test_lines_reach_the_listener(void **state) {
    (void)state;
    struct heard heard = {0};
    dml_inform("nobody listens");
    dml_listen(&(struct dml_listener){.message = hear, .data = &heard});
    dml_inform("\n%s\n\n", "one");
    assert_string_equal(heard.text, "<><one><>");
    assert_int_equal(heard.kind, DML_MESSAGE_INFO);
    dml_warn("a name with \x1b[31m colours");
    assert_int_equal(heard.kind, DML_MESSAGE_WARNING);
    assert_string_equal(heard.text, "<><one><><a name with \\x1b[31m colours>");
    heard.text[0] = 0;
    dml_warn("%s: has\na %s", "a\ndml: b", "c\td\xff"); /* lines are the message's, not a name's */
    assert_string_equal(heard.text, "<a\\x0adml: b: has><a c\\x09d\\xff>");
    heard.text[0] = 0;
    dml_warn("%s: is", "a\x1e\xe2\x80\xae"); /* what marks a newline within is none in a name */
    assert_string_equal(heard.text, "<a\\x1e\\xe2\\x80\\xae: is>");
    dml_listen(NULL);
    dml_inform("nobody listens");
    assert_null(strstr(heard.text, "nobody"));
}

static void test_progress_reaches_the_listener(void **state) {
    (void)state;
    struct heard heard = {0};
    struct dml_progress progress;
    dml_progress_start(&progress, "nobody", "listens", 10);
    dml_progress_end(&progress);
    dml_listen(&(struct dml_listener){.progress = hear_progress, .data = &heard});
    dml_inform("a listener to progress alone");
    dml_progress_start(&progress, "counting", "numbers", 1000);
    for (size_t i = 0; i < 1000; i++)
        dml_progress_update(&progress, i + 1);
    dml_progress_end(&progress);
    dml_listen(NULL);
    assert_true(heard.firsts == 1 && heard.lasts == 1);
    assert_true(heard.reports >= 2 && heard.reports < 100); /* not one for each step */
    assert_true(heard.share == 1);
}

/* Parameters have their names, and their flags where the command line asks for them. Only formats
 * are looked at: what a user called "--x" stays that. */
static void test_parameters_are_named(void **state) {
    (void)state;
    dml_messages_name_flags(false);
    dml_fail(DML_ERROR_USAGE, "--bs %d: not a multiple of (--%s %d) in %s --", 7, "n", 2, "--x");
    assert_string_equal(dml_error(), "bs 7: not a multiple of (n 2) in --x --");
    dml_fail_within(DML_ERROR_USAGE, "--resume %s", "--folder");
    assert_string_equal(dml_error(), "resume --folder: bs 7: not a multiple of (n 2) in --x --");
    dml_fail(DML_ERROR_USAGE, "a--b, 1 --2, ---c");
    assert_string_equal(dml_error(), "a--b, 1 --2, ---c");
    struct dml_criterion_context context = {.dim = 4, .classes = 4};
    struct dml_objective *objective = NULL;
    assert_int_equal(dml_objective_open("margin", "--loss_margin_betta 1", &context, &objective),
                     DML_ERROR_USAGE);
    assert_null(strstr(dml_error(), "--"));
    assert_int_equal(dml_objective_open("margin", "--loss_margin_b 1", &context, &objective),
                     DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "loss_margin_beta"));
    assert_null(strstr(dml_error(), "--"));
    dml_messages_name_flags(true);
    dml_fail(DML_ERROR_USAGE, "--bs %d: not a multiple of (--%s %d)", 7, "n", 2);
    assert_string_equal(dml_error(), "--bs 7: not a multiple of (--n 2)");
}

enum { THREADS = 8, EACH = 200 };
static struct dml_method methods[THREADS][EACH];
static char names[THREADS][EACH][24];

static void *registers(void *data) {
    size_t thread = (size_t)data, failures = 0;
    for (size_t i = 0; i < EACH; i++) {
        failures += dml_method_register(DML_MINER, &methods[thread][i]) != DML_OK;
        failures += dml_method_find(DML_MINER, names[thread][i / 2]) != &methods[thread][i / 2];
        failures += dml_method_find(DML_MINER, "semihard") == NULL;
    }
    return (void *)failures;
}

/* All that several threads register at once is there, once. */
static void test_registries_and_threads(void **state) {
    (void)state;
    size_t before = 0, after = 0;
    while (dml_method_at(DML_MINER, before))
        before++;
    pthread_t threads[THREADS];
    for (size_t t = 0; t < THREADS; t++)
        for (size_t i = 0; i < EACH; i++) {
            snprintf(names[t][i], sizeof names[t][i], "thread%zu_%zu", t, i);
            methods[t][i].name = names[t][i];
        }
    for (size_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, registers, (void *)t), 0);
    for (size_t t = 0; t < THREADS; t++) {
        void *failures;
        pthread_join(threads[t], &failures);
        assert_int_equal((size_t)failures, 0);
    }
    while (dml_method_at(DML_MINER, after))
        after++;
    assert_int_equal(after - before, THREADS * EACH);
    assert_int_equal(dml_method_register(DML_MINER, &methods[0][0]), DML_ERROR_INPUT);
}

static void test_version(void **state) {
    (void)state;
    assert_string_equal(dml_version(), DML_VERSION);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_reach_the_listener),
        cmocka_unit_test(test_progress_reaches_the_listener),
        cmocka_unit_test(test_parameters_are_named),
        cmocka_unit_test(test_registries_and_threads),
        cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
