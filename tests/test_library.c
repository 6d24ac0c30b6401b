/* Data sets, networks and training as a program sees them that uses the library. */
#include "dml/dml.h"

#include "base/files.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>

enum { CLASSES = 8, EACH = 6, SIDE = 32, DIM = 16 };

static const char *source;

/* Flags of all that is opened here, and more of them. */
static const char *const *flags_and(const char *const *more) {
    static const char *words[40];
    const char *const common[] = {"--dataset",
                                  "set",
                                  "--source_path",
                                  source,
                                  "--arch",
                                  "resnet18_normalize",
                                  "--not_pretrained",
                                  "--image_size=32",
                                  "--embed_dim",
                                  "16",
                                  "--kernels",
                                  "2",
                                  "--lr",
                                  "0.001"};
    size_t count = 0;
    for (; count < sizeof common / sizeof *common; count++)
        words[count] = common[count];
    while (more && *more)
        words[count++] = *more++;
    words[count] = NULL;
    return words;
}

static int make_images(void **state) {
    (void)state;
    static char folder[1024];
    scratch_open();
    for (unsigned c = 0; c < CLASSES; c++)
        for (unsigned i = 0; i < EACH; i++) {
            char name[64];
            snprintf(name, sizeof name, "set/images/class%u/%u.jpg", c, i);
            scratch_jpeg(name, 40 + (int)i, 36, 7 * c);
        }
    snprintf(folder, sizeof folder, "%s", scratch_path("%s", ""));
    source = folder;
    return 0;
}

static int remove_images(void **state) {
    (void)state;
    scratch_close();
    return 0;
}

static void test_batches_of_a_part(void **state) {
    (void)state;
    struct dml_data *data;
    struct dml_net *net;
    struct dml_batches *batches;
    assert_ok(dml_data_open(flags_and(NULL), &data));
    assert_ok(dml_net_open(flags_and(NULL), &net));
    const struct dml_data_images images = dml_data_part(data, DML_DATA_TESTING);
    assert_int_equal(images.images, CLASSES / 2 * EACH);
    assert_int_equal(images.classes, CLASSES / 2);
    assert_non_null(strstr(images.paths[0], "class4/0.jpg"));
    assert_string_equal(images.class_names[0], "class4");
    assert_int_equal(dml_data_part(data, DML_DATA_VALIDATION).images, 0);
    assert_int_equal(dml_net_side(net), SIDE);
    assert_int_equal(dml_net_dim(net), DIM);

    assert_ok(dml_batches_open(data, DML_DATA_TESTING, net, false, 7, &batches));
    uint8_t *kept = malloc(7 * SIDE * SIDE * 3);
    for (int pass = 0; pass < 2; pass++) {
        struct dml_image_batch batch;
        size_t seen = 0;
        assert_ok(dml_batches_start(batches, 0, NULL, 0));
        for (;;) {
            assert_ok(dml_batches_next(batches, &batch));
            if (batch.n == 0)
                break;
            assert_true(batch.height == SIDE && batch.width == SIDE);
            if (seen == 0 && pass == 0)
                memcpy(kept, batch.pixels, 7 * SIDE * SIDE * 3);
            if (seen == 0)
                assert_memory_equal(kept, batch.pixels, 7 * SIDE * SIDE * 3);
            for (size_t i = 0; i < batch.n; i++, seen++) {
                assert_int_equal(batch.indices[i], seen);
                assert_int_equal(batch.labels[i], images.labels[seen]);
            }
        }
        assert_int_equal(seen, images.images);
    }
    free(kept);
    const uint32_t beyond[] = {0, 24};
    assert_int_equal(dml_batches_start(batches, 0, beyond, 2), DML_ERROR_INPUT);
    dml_batches_free(batches);
    batches = NULL;
    assert_int_equal(dml_batches_open(data, DML_DATA_VALIDATION, net, false, 7, &batches),
                     DML_ERROR_INPUT);
    assert_int_equal(dml_batches_open(data, DML_DATA_TESTING, net, false, 0, &batches),
                     DML_ERROR_USAGE);
    assert_null(batches);
    float *none;
    assert_int_equal(dml_net_embed_part(net, data, DML_DATA_VALIDATION, &none), DML_ERROR_INPUT);
    assert_null(none);
    dml_net_free(net);
    dml_data_free(data);
}

/* The loop of a program of one's own: sampler, batches, forward, criterion, backward, step. */
static void test_a_training_loop(void **state) {
    (void)state;
    struct dml_data *data;
    struct dml_net *net;
    struct dml_batches *batches;
    struct dml_objective *objective;
    struct dml_learning *learning;
    struct dml_sampling *sampling;
    assert_ok(dml_data_open(flags_and(NULL), &data));
    assert_ok(dml_net_open(flags_and(NULL), &net));
    const struct dml_data_images images = dml_data_part(data, DML_DATA_TRAINING);
    assert_ok(dml_batches_open(data, DML_DATA_TRAINING, net, true, 12, &batches));
    const struct dml_sampler_context sampler = {.images = images.images,
                                                .classes = images.classes,
                                                .labels = images.labels,
                                                .batch_size = 12,
                                                .samples_per_class = 3,
                                                .seed = 1};
    assert_ok(dml_sampling_open("class_random", NULL, &sampler, &sampling));
    const struct dml_criterion_context context = {
        .dim = DIM, .classes = images.classes, .lr = 0.001};
    assert_ok(dml_objective_open("multisimilarity", NULL, &context, &objective));
    assert_ok(dml_learning_open(net, objective, 2, &learning));

    uint32_t plan[24];
    float embeddings[12 * DIM], grad[12 * DIM];
    double losses[12];
    for (uint64_t epoch = 0; epoch < 12; epoch++) {
        struct dml_image_batch batch;
        losses[epoch] = 0;
        assert_ok(dml_sampling_plan(sampling, epoch, plan, NULL, NULL));
        assert_ok(dml_batches_start(batches, epoch, plan, 24));
        for (;;) {
            assert_ok(dml_batches_next(batches, &batch));
            if (batch.n == 0)
                break;
            assert_ok(dml_net_forward(net, &batch, embeddings));
            const struct dml_batch seen = {
                .n = batch.n, .dim = DIM, .embeddings = embeddings, .labels = batch.labels};
            struct dml_loss loss;
            assert_ok(dml_objective_compute(objective, &seen, NULL, NULL, grad, &loss));
            assert_ok(dml_net_backward(net, grad));
            assert_ok(dml_learning_step(learning));
            losses[epoch] += loss.value;
        }
    }
    assert_true(losses[10] + losses[11] < 0.9 * (losses[0] + losses[1]));

    /* What is saved is the same network again, opened or loaded. */
    float *before, *after, *files;
    struct dml_net *other, *fresh;
    const char *path = scratch_path("net.safetensors");
    assert_ok(dml_net_embed_part(net, data, DML_DATA_TESTING, &before));
    assert_ok(dml_net_save(net, path));
    assert_ok(dml_net_restore(path, NULL, &other));
    assert_int_equal(dml_net_dim(other), DIM);
    assert_int_equal(dml_net_side(other), SIDE);
    size_t bytes = dml_data_part(data, DML_DATA_TESTING).images * DIM * sizeof(float);
    assert_ok(dml_net_embed_part(other, data, DML_DATA_TESTING, &after));
    assert_memory_equal(before, after, bytes);
    free(after);
    const char *const seed[] = {"--seed", "5", NULL};
    assert_ok(dml_net_open(flags_and(seed), &fresh));
    assert_ok(dml_net_embed_part(fresh, data, DML_DATA_TESTING, &after));
    assert_memory_not_equal(before, after, bytes);
    free(after);
    assert_ok(dml_net_load(fresh, path));
    assert_ok(dml_net_embed_part(fresh, data, DML_DATA_TESTING, &after));
    assert_memory_equal(before, after, bytes);
    free(after);
    assert_ok(dml_net_embed_files(net, dml_data_part(data, DML_DATA_TESTING).paths, 5, &files));
    for (int i = 0; i < 5 * DIM; i++)
        assert_true(files[i] - before[i] < 1e-5f && before[i] - files[i] < 1e-5f);
    free(files);
    const char *const missing[] = {"/nonexistent.jpg"};
    assert_int_equal(dml_net_embed_files(net, missing, 1, &files), DML_ERROR_IO);
    assert_null(files);

    struct dml_image_batch wrong = {.n = 1, .height = SIDE, .width = SIDE + 1};
    assert_int_equal(dml_net_embed(net, &wrong, embeddings), DML_ERROR_INPUT);
    free(before);
    dml_net_free(other);
    dml_net_free(fresh);
    dml_learning_free(learning);
    dml_sampling_free(sampling);
    dml_objective_free(objective);
    dml_batches_free(batches);
    dml_net_free(net);
    dml_data_free(data);
}

static void test_flags_are_checked(void **state) {
    (void)state;
    struct dml_data *data = NULL;
    struct dml_net *net = NULL;
    struct dml_training *training = NULL;
    const char *const unknown[] = {"--archh", "resnet18", NULL};
    const char *const arch[] = {"--arch", "resnet17", NULL};
    const char *const folder[] = {"--dataset", "none", NULL};
    assert_int_equal(dml_net_open(unknown, &net), DML_ERROR_USAGE);
    assert_int_equal(dml_training_open(unknown, &training), DML_ERROR_USAGE);
    assert_int_equal(dml_net_open(arch, &net), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "resnet17"));
    assert_int_equal(dml_data_open(folder, &data), DML_ERROR_INPUT);
    assert_int_equal(dml_net_restore("/nonexistent", NULL, &net), DML_ERROR_IO);
    assert_true(!data && !net && !training);
}

/* Stops the run at its first progress in the second epoch. */
static void stop_in_time(void *data, const struct dml_progress_report *report) {
    if (strncmp(report->title, "epoch 2/", 8) == 0)
        dml_training_stop(data);
}

static void test_a_run_is_stopped_and_resumed(void **state) {
    (void)state;
    const char *const more[] = {"--save_path",
                                scratch_path("results"),
                                "--savename",
                                "run",
                                "--loss",
                                "multisimilarity",
                                "--bs",
                                "12",
                                "--samples_per_class",
                                "3",
                                "--n_epochs",
                                "3",
                                "--evaluation_metrics",
                                "e_recall@1",
                                "--storage_metrics",
                                "e_recall@1",
                                "--no_plots",
                                NULL};
    struct dml_training *training;
    assert_ok(dml_training_open(flags_and(more), &training));
    assert_null(dml_training_folder(training));
    dml_listen(&(struct dml_listener){.progress = stop_in_time, .data = training});
    assert_int_equal(dml_training_run(training), DML_ERROR_INTERRUPTED);
    dml_listen(NULL);
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", dml_training_folder(training));
    assert_non_null(strstr(folder, "results/set/run"));
    assert_int_equal(dml_training_run(training), DML_ERROR_USAGE);
    dml_training_free(training);

    const char *const resume[] = {"--resume", folder, NULL};
    assert_ok(dml_training_open(resume, &training));
    assert_ok(dml_training_run(training));
    dml_training_free(training);
    char path[1200];
    snprintf(path, sizeof path, "%s/summary.json", folder);
    char *text;
    assert_ok(dml_read_file(path, &text, NULL));
    assert_non_null(strstr(text, "finished"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_of_a_part),
        cmocka_unit_test(test_a_training_loop),
        cmocka_unit_test(test_flags_are_checked),
        cmocka_unit_test(test_a_run_is_stopped_and_resumed),
    };
    return cmocka_run_group_tests(tests, make_images, remove_images);
}
