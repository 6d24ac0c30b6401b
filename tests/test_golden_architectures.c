#include "support/golden_network.h"
#include "support/networks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The network of one case, with golden weights, and what is expected of it. */
struct checked {
    struct golden_case run;
    cJSON *expected;
    const char *name, *mode;
    double *embeddings;
};

static void open_case(struct checked *c, const char *name, const char *mode, struct how how) {
    c->name = name;
    c->mode = mode;
    c->expected = golden_json("architectures/%s/%s.json", name, mode);
    size_t batch = (size_t)cJSON_GetObjectItem(c->expected, "batch")->valueint, count;
    int size = cJSON_GetObjectItem(c->expected, "size")->valueint;
    const char *norm = cJSON_GetObjectItem(c->expected, "batchnorm")->valuestring;
    char arch[64];
    snprintf(arch, sizeof arch, "%s%s_normalize", name, strcmp(norm, "frozen") ? "" : "_frozen");
    c->embeddings = golden_doubles(&count, "architectures/%s/%s_embeddings.npy", name, mode);
    assert_true(count > 0 && count % batch == 0);
    golden_case_open(&c->run, arch, (int)(count / batch), size, batch, how);
}

static void close_case(struct checked *c) {
    golden_case_close(&c->run);
    cJSON_Delete(c->expected);
    free(c->embeddings);
}

static void check_embeddings(const struct checked *c, double tolerance) {
    double error = golden_embedding_errors(&c->run, c->embeddings).component;
    printf("%s %s: embeddings %.2g", c->name, c->mode, error);
    if (!(error <= tolerance))
        fail_msg("embeddings differ by %g, more than %g", error, tolerance);
}

static const cJSON *norms_of(const struct checked *c) {
    return cJSON_GetObjectItem(c->expected, "grad_norms");
}

/* The sum of all running means' absolute values after the step. */
static void check_running_means(const struct checked *c, double tolerance) {
    double sum = 0, right = cJSON_GetObjectItem(c->expected, "running_mean_after")->valuedouble;
    for (int p = 0; p < c->run.graph->param_count; p++)
        if (c->run.graph->params[p].role == DML_ROLE_RUNNING_MEAN)
            sum += golden_power_sum(&c->run, p, DML_SLOT_VALUE, 1);
    if (!(fabs(sum - right) <= tolerance * right))
        fail_msg("running means sum up to %.9g, expected %.9g", sum, right);
}

static void check_case(const char *name, const char *mode, struct how how) {
    struct checked c;
    open_case(&c, name, mode, how);
    bool frozen = c.run.graph->frozen;
    struct dml_images images = golden_case_images(&c.run);
    assert_ok(dml_network_forward(c.run.network, &images, c.run.embeddings));
    check_embeddings(&c, frozen ? 1e-6 : 1e-4);
    golden_case_backward(&c.run);
    printf(", gradient norms %.2g", golden_check_norms(&c.run, norms_of(&c), frozen ? 3e-3 : 1e-2));
    check_running_means(&c, 1e-5);
    if (frozen) {
        /* Inference folds the same way and must give the same. */
        assert_ok(dml_network_embed(c.run.network, &images, c.run.embeddings));
        check_embeddings(&c, 1e-6);
    }
    puts("");
    close_case(&c);
}

/* With batch statistics rounding nothing but the weights takes the embeddings of deep networks
 * farther than 2e-2, and PyTorch's autocast is as far off (docs/performance/train.md): there they
 * must still point the same way. */
static void check_bfloat16(const char *name, const char *mode, size_t micro) {
    struct checked c;
    open_case(&c, name, mode, (struct how){micro, DML_PRECISION_BF16});
    struct dml_images images = golden_case_images(&c.run);
    bool frozen = c.run.graph->frozen;
    assert_ok(dml_network_forward(c.run.network, &images, c.run.embeddings));
    check_embeddings(&c, frozen ? 2e-2 : 1);
    double cosine = golden_embedding_errors(&c.run, c.embeddings).cosine;
    assert_true(cosine >= 0.8);
    golden_case_backward(&c.run);
    double error = golden_norms_error(&c.run, norms_of(&c));
    printf(", cosine %.4f, gradient norms %.2g", cosine, error);
    assert_true(!frozen || error <= 3e-2);
    check_running_means(&c, 1e-3);
    if (frozen) {
        assert_ok(dml_network_embed(c.run.network, &images, c.run.embeddings));
        check_embeddings(&c, 2e-2);
    }
    puts("");
    close_case(&c);
}

static void check_architectures(const char *mode, struct how how) {
    size_t count, seen = 0;
    char **names = golden_cases("architectures", &count);
    for (size_t i = 0; i < count; i++) {
        char path[300];
        snprintf(path, sizeof path, "architectures/%s/%s.json", names[i], mode);
        if (dml_backbone_find(names[i]) && golden_exists(path)) {
            if (how.precision == DML_PRECISION_BF16)
                check_bfloat16(names[i], mode, how.micro);
            else
                check_case(names[i], mode, how);
            seen++;
        }
    }
    assert_true(seen > 0);
    golden_free_names(names, count);
}

static void frozen_64(void **state) {
    (void)state;
    check_architectures("frozen_64", (struct how){0});
}

static void frozen_224(void **state) {
    (void)state;
    check_architectures("frozen_224", (struct how){0});
}

static void batch_statistics_64(void **state) {
    (void)state;
    check_architectures("train_64", (struct how){0});
}

/* Pieces of 3 and 1 of the batch of 4. */
static void micro_batches(void **state) {
    (void)state;
    check_architectures("frozen_64", (struct how){.micro = 3});
}

/* Natively, or emulated where the processor has none. */
static void bfloat16(void **state) {
    (void)state;
    need_bf16();
    const struct how how = {.precision = DML_PRECISION_BF16};
    check_architectures("frozen_64", how);
    check_architectures("train_64", how);
    if (tested_slowly())
        return;
    check_architectures("frozen_224", how);
    check_architectures("frozen_64", (struct how){3, DML_PRECISION_BF16});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_64),
        cmocka_unit_test(frozen_224),
        cmocka_unit_test(batch_statistics_64),
        cmocka_unit_test(micro_batches),
        cmocka_unit_test(bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
