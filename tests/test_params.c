#include "dml/params_json.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    bool fast;
    int64_t bs;
    double lr, fc_lr;
    char *loss;
    struct dml_ints tau;
    struct dml_strings metrics;
};

static const char *const losses[] = {"margin", "triplet", NULL};
static const struct dml_param rows[] = {
    {"fast", DML_PARAM_FLAG, offsetof(struct options, fast), .help = "Be fast."},
    {"bs", DML_PARAM_INT, offsetof(struct options, bs), "112", 1, 100000, .help = "Batch."},
    {"lr", DML_PARAM_FLOAT, offsetof(struct options, lr), "0.00001", 0, INFINITY, true,
     .help = "Rate.", .facts = DML_PARAM_MAY_CHANGE},
    {"fc_lr", DML_PARAM_FLOAT, offsetof(struct options, fc_lr), "-1", 0, INFINITY,
     .help = "Head's rate."},
    {"loss", DML_PARAM_STRING, offsetof(struct options, loss), "margin", .choices = losses,
     .help = "Criterion."},
    {"tau", DML_PARAM_INTS, offsetof(struct options, tau), "1000", .help = "Milestones."},
    {"evaluation_metrics", DML_PARAM_STRINGS, offsetof(struct options, metrics), "e_recall@1 nmi",
     .help = "Metrics."},
    {"evaluate_on_gpu", DML_PARAM_FLAG, offsetof(struct options, fast), .help = "GPU."},
};
static const struct dml_param_table table = DML_PARAM_TABLE("Test", struct options, rows);

static struct dml_params *fresh(void) {
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, &table));
    return params;
}

static void test_defaults(void **state) {
    (void)state;
    struct dml_params *params = fresh();
    const struct options *o = dml_params_options(params, &table);
    assert_false(o->fast);
    assert_int_equal(o->bs, 112);
    assert_true(o->lr == 1e-5 && o->fc_lr == -1);
    assert_string_equal(o->loss, "margin");
    assert_int_equal(o->tau.count, 1);
    assert_int_equal(o->metrics.count, 2);
    assert_string_equal(o->metrics.items[1], "nmi");
    assert_false(dml_params_given(params, "bs"));
    dml_params_free(params);
}

static void test_command_line(void **state) {
    (void)state;
    struct dml_params *params = fresh();
    assert_ok(dml_params_parse_text(
        params, "--fast --bs=64 --tau 10 20 --evaluation a b@-1 c --lr 1e-3 --los triplet"));
    const struct options *o = dml_params_options(params, &table);
    assert_true(o->fast && o->bs == 64 && o->lr == 1e-3);
    assert_int_equal(o->tau.count, 2);
    assert_int_equal(o->tau.items[1], 20);
    assert_int_equal(o->metrics.count, 3);
    assert_string_equal(o->metrics.items[1], "b@-1");
    assert_string_equal(o->loss, "triplet");
    assert_true(dml_params_given(params, "bs"));
    dml_params_free(params);
}

static void test_wrong_usage_names_the_culprit(void **state) {
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--lss margin", "did you mean --loss"},
        {"--bs", "--bs needs a value"},
        {"--bs twelve", "'twelve' is not a whole number"},
        {"--bs 0", "1 to 100000"},
        {"--lr 0", "above 0"},
        {"--lr nan", "'nan' is not a number"},
        {"--fc_lr -2", "at least 0"},
        {"--loss mine", "choose from margin, triplet"},
        {"--evalua x", "ambiguous"},
        {"--fast yes", "--fast is a switch and takes no value: 'yes'"},
        {"stray", "'stray' is not a flag"},
        {"--fast=maybe", "takes no value"},
        {"--evaluation_metrics", "needs a value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dml_params *params = fresh();
        assert_int_equal(dml_params_parse_text(params, cases[i].line), DML_ERROR_USAGE);
        if (!strstr(dml_error(), cases[i].says))
            fail_msg("%s: %s", cases[i].line, dml_error());
        dml_params_free(params);
    }
}

static void test_json_round_trip(void **state) {
    (void)state;
    struct dml_params *params = fresh(), *again = fresh();
    assert_ok(dml_params_parse_text(params, "--tau 3 4 --lr 0.1 --loss triplet --fast"));
    char *json;
    assert_ok(dml_params_to_json(params, &json));
    assert_ok(dml_params_parse_text(again, "--lr 0.3"));
    assert_ok(dml_params_from_json(again, json, false));
    const struct options *o = dml_params_options(again, &table);
    assert_true(o->lr == 0.3); /* the command line wins */
    assert_true(o->fast && o->fc_lr == -1);
    assert_int_equal(o->tau.items[1], 4);
    assert_string_equal(o->loss, "triplet");
    free(json);
    assert_int_equal(dml_params_from_json(again, "{\"foo\": 1}", false), DML_ERROR_INPUT);
    assert_ok(dml_params_from_json(again, "{\"foo\": 1}", true));
    assert_int_equal(dml_params_from_json(again, "[1", true), DML_ERROR_INPUT);
    assert_int_equal(dml_params_from_json(again, "{\"bs\": 0}", true), DML_ERROR_USAGE);
    assert_int_equal(dml_params_from_json(again, "{\"bs\": {}}", true), DML_ERROR_INPUT);
    dml_params_free(params);
    dml_params_free(again);
}

/* Only what was given counts, where it is another value and may not be. */
static void test_agreement(void **state) {
    (void)state;
    struct dml_params *params = fresh();
    char *json;
    assert_ok(dml_params_parse_text(params, "--tau 3 4 --lr 0.1 --loss triplet"));
    assert_ok(dml_params_to_json(params, &json));
    static const struct {
        const char *line, *says;
    } cases[] = {{"", NULL},
                 {"--tau 3 4 --loss triplet --lr 0.7 --bs 112", NULL},
                 {"--loss margin", "--loss margin where it was --loss triplet"},
                 {"--tau 3 5", "--tau 3 5 where it was --tau 3 4"},
                 {"--fc_lr 0.2", "--fc_lr 0.2 where it was --fc_lr -1"},
                 {"--bs 64 --lr 1", "--bs 64 where it was --bs 112"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dml_params *other = fresh();
        assert_ok(dml_params_parse_text(other, cases[i].line));
        enum dml_status status = dml_params_agree(other, json);
        assert_int_equal(status, cases[i].says ? DML_ERROR_USAGE : DML_OK);
        if (cases[i].says)
            assert_string_equal(dml_error(), cases[i].says);
        dml_params_free(other);
    }
    assert_ok(dml_params_agree(params, "{\"unknown\": 1}"));
    assert_int_equal(dml_params_agree(params, "[1"), DML_ERROR_INPUT);
    free(json);
    dml_params_free(params);
}

static void test_facts(void **state) {
    (void)state;
    struct dml_params *params = fresh();
    static const struct dml_param more[] = {
        {"where", DML_PARAM_INT, 0, "0", .help = "Place.", .facts = DML_PARAM_SAME_RUN}};
    static const struct dml_param_table other =
        DML_PARAM_TABLE_OF("Other", int64_t, more, DML_PARAM_MAY_CHANGE);
    assert_ok(dml_params_add(params, &other));
    assert_int_equal(dml_params_facts(params, "lr"), DML_PARAM_MAY_CHANGE);
    assert_int_equal(dml_params_facts(params, "bs"), 0);
    assert_int_equal(dml_params_facts(params, "where"), DML_PARAM_MAY_CHANGE | DML_PARAM_SAME_RUN);
    assert_int_equal(dml_params_facts(params, "unknown"), 0);
    struct dml_param chosen[2];
    assert_int_equal(dml_param_table_select(&table, DML_PARAM_MAY_CHANGE, chosen, 2), 1);
    assert_string_equal(chosen[0].name, "lr");
    assert_int_equal(dml_param_table_select(&other, DML_PARAM_MAY_CHANGE, chosen, 0), 0);
    assert_int_equal(dml_param_table_select(&other, DML_PARAM_IMAGES, chosen, 2), 0);
    dml_params_free(params);
}

static void test_two_tables_may_not_share_a_name(void **state) {
    (void)state;
    static const struct dml_param other_rows[] = {{"bs", DML_PARAM_INT, 0, "1", .help = "Twice."}};
    static const struct dml_param_table other = DML_PARAM_TABLE("Other", int64_t, other_rows);
    struct dml_params *params = fresh();
    assert_int_equal(dml_params_add(params, &other), DML_ERROR_USAGE);
    assert_ok(dml_params_add(params, &table));
    dml_params_free(params);
}

static void test_help_shows_defaults_and_bounds(void **state) {
    (void)state;
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct dml_params *params = fresh();
    dml_params_help(params, out);
    fclose(out);
    assert_non_null(strstr(text, "--bs N"));
    assert_non_null(strstr(text, "[default: 112; 1 to 100000]"));
    assert_non_null(strstr(text, "One of: margin, triplet."));
    free(text);
    dml_params_free(params);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_wrong_usage_names_the_culprit),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_two_tables_may_not_share_a_name),
        cmocka_unit_test(test_help_shows_defaults_and_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
