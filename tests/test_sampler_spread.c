/* How far apart the images of a batch are on the bundled data, by sampler. Embeddings are
 * thumbnails of 8x8 pixels less their mean, of length 1, so that no network is needed. */
#include "data/loader.h"
#include "math/linear.h"
#include "support/sampling.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 8, DIM = SIDE * SIDE * 3, BATCH = 112, EPOCHS = 5 };

static float *thumbnails(const struct dml_part *part) {
    const struct dml_loader_options options = {
        .part = part,
        .transform = {.kind = DML_TRANSFORM_EVALUATION, .crop = SIDE, .resize = SIDE},
        .batch_size = BATCH,
        .threads = 2,
    };
    float *out = malloc(part->images * DIM * sizeof *out);
    assert_non_null(out);
    struct dml_loader *loader;
    const struct dml_loaded *loaded;
    assert_ok(dml_loader_open(&options, &loader));
    assert_ok(dml_loader_start(loader, 0, NULL, part->images));
    for (;;) {
        assert_ok(dml_loader_next(loader, &loaded));
        if (!loaded)
            break;
        for (size_t i = 0; i < loaded->n; i++) {
            double mean = 0;
            for (size_t k = 0; k < DIM; k++)
                mean += loaded->pixels[i * DIM + k] / (double)DIM;
            for (size_t k = 0; k < DIM; k++)
                out[loaded->indices[i] * DIM + k] = (float)(loaded->pixels[i * DIM + k] - mean);
        }
        dml_loader_release(loader, loaded);
    }
    dml_loader_close(loader);
    dml_normalize_rows(out, part->images, DIM, out);
    return out;
}

/* Mean distance between two images of a batch over some epochs. */
static double spread(struct sampling_world *w, const char *name, const char *flags,
                     const float *embeddings) {
    struct dml_sampling *sampling = sampling_open(w, name, flags);
    struct dml_store *store = dml_sampling_store(sampling);
    if (store)
        for (size_t i = 0; i < store->images * DIM; i++)
            store->embeddings[i] = embeddings[i];
    size_t batches = dml_sampling_batches(sampling);
    double sum = 0;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint32_t *indices = sampling_plan(sampling, w, epoch);
        for (size_t b = 0; b < batches; b++)
            for (size_t i = 0; i < BATCH; i++)
                for (size_t j = 0; j < i; j++)
                    sum += sqrt(dml_distance2(embeddings + indices[b * BATCH + i] * DIM,
                                              embeddings + indices[b * BATCH + j] * DIM, DIM));
        free(indices);
    }
    dml_sampling_free(sampling);
    return sum / ((double)batches * EPOCHS * BATCH * (BATCH - 1) / 2);
}

static void test_greedy_spreads_on_emoji200(void **state) {
    (void)state;
    static const struct {
        const char *name, *flags;
    } cases[] = {
        {"class_random", ""},   {"full_random", ""}, {"greedy_coreset", "--data_gc_softened"},
        {"greedy_coreset", ""}, {"d2_coreset", ""},  {"disthist_batchmatch", ""},
        {"fid_batchmatch", ""},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, &dml_dataset_params));
    assert_ok(dml_params_parse_text(params, "--dataset emoji200"));
    struct dml_dataset_options options =
        *(struct dml_dataset_options *)dml_params_options(params, &dml_dataset_params);
    options.source_path = DML_SOURCE_DIR "/data";
    struct dml_dataset dataset;
    assert_ok(dml_dataset_open(&options, 0, &dataset));
    const struct dml_part *part = &dataset.training;
    struct sampling_world w = {
        .context = {.images = part->images,
                    .classes = part->classes,
                    .labels = part->labels,
                    .batch_size = BATCH,
                    .samples_per_class = 2,
                    .dim = DIM,
                    .seed = 1},
        .shared = {.batchmatch_bigbs = 512, .batchmatch_ncomps = 10, .mb_mom = -1},
        .labels = part->labels,
    };
    float *embeddings = thumbnails(part);
    double spreads[CASES];
    for (size_t c = 0; c < CASES; c++) {
        spreads[c] = spread(&w, cases[c].name, cases[c].flags, embeddings);
        print_message("%s %s: mean distance %.4f, %.3f of class_random's\n", cases[c].name,
                      cases[c].flags, spreads[c], spreads[c] / spreads[0]);
    }
    assert_true(spreads[2] > 1.02 * spreads[0]);
    assert_true(spreads[3] > 1.02 * spreads[0]);
    free(embeddings);
    dml_dataset_close(&dataset);
    dml_params_free(params);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_spreads_on_emoji200),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
