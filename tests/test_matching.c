/* Which criteria and batch miners go together. */
#include "dml/dml.h"

#include "support/golden.h"

#include <string.h>

static const struct dml_miner *miner_at(size_t i) {
    return (const struct dml_miner *)dml_method_at(DML_MINER, i);
}

static void assert_refused(enum dml_status status, enum dml_status expected, const char *part) {
    assert_int_equal(status, expected);
    if (!strstr(dml_error(), part))
        fail_msg("'%s' is not in the message: %s", part, dml_error());
    assert_null(strchr(dml_error(), '\n'));
}

static void miners_are_matched_with_criteria(void **state) {
    (void)state;
    const struct dml_criterion triplets = {.method.name = "triplet", .takes = DML_TUPLES_TRIPLETS};
    const struct dml_criterion pairs = {.method.name = "npair", .takes = DML_TUPLES_PAIRS};
    const struct dml_criterion sets = {.method.name = "lifted", .takes = DML_TUPLES_SETS};
    const struct dml_criterion none = {.method.name = "histogram", .takes = DML_TUPLES_NONE};
    const struct dml_criterion lists = {
        .method.name = "circle", .takes = DML_TUPLES_NONE, .may_take = DML_TUPLES_LISTS};
    for (size_t i = 0; miner_at(i); i++) {
        const struct dml_miner *miner = miner_at(i);
        bool is_lifted = strcmp(miner->method.name, "lifted") == 0;
        bool is_npair = strcmp(miner->method.name, "npair") == 0;
        bool gives_lists = miner->gives == DML_TUPLES_LISTS;
        assert_int_equal(dml_mining_allowed(&none, miner), DML_OK);
        assert_int_equal(dml_mining_allowed(&lists, miner) == DML_OK, gives_lists);
        assert_int_equal(dml_mining_allowed(&sets, miner) == DML_OK, is_lifted);
        assert_int_equal(dml_mining_allowed(&pairs, miner) == DML_OK, is_npair);
        assert_int_equal(dml_mining_allowed(&triplets, miner) == DML_OK,
                         !is_lifted && !is_npair && !gives_lists);
    }
    assert_int_equal(dml_mining_allowed(&none, NULL), DML_OK);
    assert_int_equal(dml_mining_allowed(&lists, NULL), DML_OK);
    const struct dml_miner *random = (const struct dml_miner *)dml_method_find(DML_MINER, "random");
    const struct dml_miner *npair = (const struct dml_miner *)dml_method_find(DML_MINER, "npair");
    assert_refused(dml_mining_allowed(&sets, NULL), DML_ERROR_USAGE, "use one of: lifted");
    assert_refused(dml_mining_allowed(&pairs, random), DML_ERROR_USAGE,
                   "the batch miner 'random' gives triplets: use one of: npair");
    assert_refused(dml_mining_allowed(&lists, random), DML_ERROR_USAGE,
                   "the criterion 'circle' looks at the whole batch or takes lists of positive and "
                   "negative pairs, but the batch miner 'random' gives triplets: leave out "
                   "--batch_mining, or use one of: "
                   "pair_margin, multisimilarity");
    assert_refused(dml_mining_allowed(&triplets, npair), DML_ERROR_USAGE,
                   "use one of: random, semihard, softhard, distance, rho_distance, parametric, "
                   "batch_hard, batch_easy_hard, triplet_margin, angular, random_distance, "
                   "intra_random");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(miners_are_matched_with_criteria)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
