/* What deterministic miners give, against the exact sets in golden/miners2/CASE: a file for each
 * miner and its settings, which its name tells. */
#include "dml/dml.h"

#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

enum members { TRIPLETS, POSITIVES, NEGATIVES };

/* A miner as a file's name tells it: "angular_20", "pair_margin_pos_0.9". */
struct setting {
    char miner[100], flags[300];
    enum members members;
};

/* The text behind the prefix, or NULL. */
static const char *behind(const char *name, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 ? name + length : NULL;
}

static void set(struct setting *setting, const char *miner, const char *flag, const char *value) {
    size_t used = strlen(setting->flags);
    snprintf(setting->miner, sizeof setting->miner, "%s", miner);
    snprintf(setting->flags + used, sizeof setting->flags - used, " --miner_%s_%s %s", miner, flag,
             value);
}

/* TYPE, or TYPE_mNNN with the margin in hundredths. */
static void read_triplet_margin(const char *text, struct setting *out) {
    char type[50], margin[30];
    snprintf(type, sizeof type, "%s", text);
    char *at = strstr(type, "_m");
    if (at) {
        snprintf(margin, sizeof margin, "%.10g", atof(at + 2) / 100);
        *at = 0;
        set(out, "triplet_margin", "margin", margin);
    }
    set(out, "triplet_margin", "type", type);
}

static void read_easy_hard(const char *text, struct setting *out) {
    if (strcmp(text, "range") == 0) {
        set(out, "batch_easy_hard", "pos_range", "0.3 1.0");
        set(out, "batch_easy_hard", "neg_range", "0.5 1.3");
        return;
    }
    char pos[50];
    snprintf(pos, sizeof pos, "%s", text);
    char *at = strchr(pos, '_');
    assert_non_null(at);
    *at = 0;
    set(out, "batch_easy_hard", "pos", pos);
    set(out, "batch_easy_hard", "neg", at + 1);
}

/* pos_VALUE or neg_VALUE; `flags` are those of the two. */
static void read_pairs(const char *text, const char *miner, const char *const *flags,
                       struct setting *out) {
    out->members = behind(text, "pos_") ? POSITIVES : NEGATIVES;
    set(out, miner, flags[out->members == NEGATIVES], text + 4);
}

static struct setting setting_of(const char *name) {
    static const char *const margins[] = {"pos_margin", "neg_margin"};
    static const char *const epsilons[] = {"epsilon", "epsilon"};
    struct setting setting = {.members = TRIPLETS};
    const char *rest;
    if (strcmp(name, "batch_hard") == 0)
        snprintf(setting.miner, sizeof setting.miner, "%s", name);
    else if ((rest = behind(name, "batch_easy_hard_")))
        read_easy_hard(rest, &setting);
    else if ((rest = behind(name, "triplet_margin_")))
        read_triplet_margin(rest, &setting);
    else if ((rest = behind(name, "angular_")))
        set(&setting, "angular", "angle", rest);
    else if ((rest = behind(name, "multisimilarity_")))
        read_pairs(rest, "multisimilarity", epsilons, &setting);
    else if ((rest = behind(name, "pair_margin_")))
        read_pairs(rest, "pair_margin", margins, &setting);
    else
        fail_msg("%s: no miner of this name", name);
    return setting;
}

static int by_row(const void *a, const void *b) {
    const int32_t *x = a, *y = b;
    for (int k = 0; k < 3; k++)
        if (x[k] != y[k])
            return x[k] < y[k] ? -1 : 1;
    return 0;
}

/* Rows of three, sorted; the third of a pair is 0. */
static int32_t *rows_of(const struct dml_tuples *tuples, enum members members, size_t *count) {
    const struct dml_pairs *pairs =
        members == POSITIVES ? &tuples->positive_pairs : &tuples->negative_pairs;
    *count = members == TRIPLETS ? tuples->count : pairs->count;
    int32_t *rows = calloc(*count + 1, 3 * sizeof *rows);
    assert_non_null(rows);
    for (size_t t = 0; t < *count; t++) {
        rows[3 * t] = members == TRIPLETS ? tuples->anchors[t] : pairs->anchors[t];
        rows[3 * t + 1] = members == TRIPLETS ? tuples->positives[t] : pairs->others[t];
        rows[3 * t + 2] = members == TRIPLETS ? tuples->negatives[t] : 0;
    }
    qsort(rows, *count, 3 * sizeof *rows, by_row);
    return rows;
}

/* Returns whether the sets differ. */
static int compare(const char *folder, const char *name, const struct dml_batch *batch) {
    struct setting setting = setting_of(name);
    struct dml_miner_context context = {.dim = batch->dim, .margin = 0.2};
    struct dml_mining *mining;
    struct dml_tuples tuples = {0};
    assert_ok(dml_mining_open(setting.miner, setting.flags, &context, &mining));
    assert_ok(dml_mining_compute(mining, batch, NULL, &tuples, NULL));
    size_t count, values, width = setting.members == TRIPLETS ? 3 : 2;
    int32_t *rows = rows_of(&tuples, setting.members, &count);
    int32_t *expected = golden_ints(&values, "miners2/%s/%s.npy", folder, name);
    int wrong = values != count * width;
    for (size_t t = 0; !wrong && t < count; t++)
        wrong = memcmp(rows + 3 * t, expected + width * t, width * sizeof *rows) != 0;
    if (wrong)
        print_error("%s/%s: %zu tuples that are not the %zu expected\n", folder, name, count,
                    values / width);
    free(rows);
    free(expected);
    dml_tuples_free(&tuples);
    dml_mining_free(mining);
    return wrong;
}

static int run_folder(const char *folder) {
    size_t n, values, count;
    char path[400];
    int32_t *labels = golden_ints(&n, "miners2/%s/labels.npy", folder);
    float *embeddings = golden_floats(&values, "miners2/%s/embeddings.npy", folder);
    const struct dml_batch batch = {
        .n = n, .dim = values / n, .embeddings = embeddings, .labels = labels};
    snprintf(path, sizeof path, "miners2/%s", folder);
    char **names = golden_files(path, &count);
    int wrong = 0;
    for (size_t i = 0; i < count; i++) {
        char *end = strstr(names[i], ".npy");
        if (!end || strcmp(names[i], "labels.npy") == 0 || strcmp(names[i], "embeddings.npy") == 0)
            continue;
        *end = 0;
        wrong += compare(folder, names[i], &batch);
    }
    golden_free_names(names, count);
    free(labels);
    free(embeddings);
    return wrong;
}

static void every_set(void **state) {
    (void)state;
    size_t count;
    int wrong = 0;
    char **folders = golden_cases("miners2", &count);
    for (size_t i = 0; i < count; i++)
        wrong += run_folder(folders[i]);
    golden_free_names(folders, count);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_set)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
