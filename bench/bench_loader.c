/* Images per second and core that the loader makes from the three golden photographs. The bound is
 * libjpeg-turbo decoding the whole files and nothing else, on one core in the same run: a training
 * crop needs less than the whole file, so the loader can exceed it. */
#include "base/files.h"
#include "base/memory.h"
#include "bench.h"
#include "data/loader.h"
#include "data/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PHOTOS = 3, BATCH = 60, BATCHES = 10, IMAGES = BATCH * BATCHES };

static const char *const names[] = {"astronaut", "chelsea", "coffee"};

static void check(enum dml_status status) {
    if (!status)
        return;
    fprintf(stderr, "%s\n", dml_error());
    exit(1);
}

struct decoding {
    struct dml_reader *reader;
    struct dml_pixels pixels;
    char **paths;
};

static void decode_whole(void *data) {
    struct decoding *decoding = data;
    for (int i = 0; i < PHOTOS; i++) {
        int width, height;
        check(dml_reader_open(decoding->reader, decoding->paths[i], &width, &height));
        check(dml_reader_decode(decoding->reader, (struct dml_rect){0, 0, width, height},
                                &decoding->pixels));
    }
}

struct passing {
    struct dml_loader *loader;
    uint32_t order[IMAGES];
    uint64_t epoch;
};

static void run_pass(void *data) {
    struct passing *passing = data;
    const struct dml_loaded *batch;
    check(dml_loader_start(passing->loader, passing->epoch++, passing->order, IMAGES));
    for (;;) {
        check(dml_loader_next(passing->loader, &batch));
        if (!batch)
            return;
        dml_loader_release(passing->loader, batch);
    }
}

/* Processor time of all threads of the program in seconds: no longer on a shared machine. */
static double processor_time(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void measure_with(struct dml_loader_options options, const char *name, double bound) {
    struct passing passing = {.epoch = 0};
    char of_processor[64];
    for (uint32_t i = 0; i < IMAGES; i++)
        passing.order[i] = i % PHOTOS;
    check(dml_loader_open(&options, &passing.loader));
    double seconds = bench_time(run_pass, &passing, 3, 4), before = processor_time();
    for (int i = 0; i < 3; i++)
        run_pass(&passing);
    double busy = (processor_time() - before) / 3;
    dml_loader_close(passing.loader);
    bench_report("loader", name, IMAGES / seconds / options.threads, "images/s/core", bound);
    snprintf(of_processor, sizeof of_processor, "%s_processor", name);
    bench_report("loader", of_processor, IMAGES / busy, "images/s of processor time", 0);
}

/* One figure: training or evaluation with an augmentation, or training with --transforms. */
struct bench_case {
    const char *name;
    enum dml_augmentation augmentation;
    const char *list;
    bool training;
    int threads;
    const char *cache;
};

static const struct bench_case cases[] = {
    {"training_1_thread", DML_AUGMENTATION_BASE, NULL, true, 1, NULL},
    {"training_2_threads", DML_AUGMENTATION_BASE, NULL, true, 2, NULL},
    {"evaluation_1_thread", DML_AUGMENTATION_BASE, NULL, false, 1, NULL},
    {"evaluation_2_threads", DML_AUGMENTATION_BASE, NULL, false, 2, NULL},
    {"training_adv_1_thread", DML_AUGMENTATION_ADVANCED, NULL, true, 1, NULL},
    {"training_list_1_thread", DML_AUGMENTATION_BASE, "random_resized_crop flip", true, 1, NULL},
    {"training_bicubic_1_thread", DML_AUGMENTATION_BASE,
     "random_resized_crop(interpolation=bicubic) flip", true, 1, NULL},
    {"training_rand_augment_1_thread", DML_AUGMENTATION_BASE,
     "random_resized_crop flip rand_augment random_erasing", true, 1, NULL},
    {"training_cached_1_thread", DML_AUGMENTATION_BASE, NULL, true, 1, "memory"},
    {"evaluation_cached_1_thread", DML_AUGMENTATION_BASE, NULL, false, 1, "memory"},
};

static void measure(const struct bench_case *wanted, const struct dml_part *part, double bound) {
    struct dml_loader_options options = {.part = part,
                                         .batch_size = BATCH,
                                         .threads = wanted->threads,
                                         .cache = (char *)wanted->cache};
    struct dml_pipeline *pipeline = NULL;
    options.transform = dml_transform_of(wanted->augmentation, wanted->training, 224, 0, 0.08);
    if (wanted->list) {
        check(dml_pipeline_parse("transforms", wanted->list, true, 224, 256, &pipeline));
        options.transform.kind = DML_TRANSFORM_LIST;
        options.transform.list = pipeline;
    }
    measure_with(options, wanted->name, bound);
    dml_pipeline_free(pipeline);
}

/* Without arguments, all cases; otherwise those that are named. */
static bool is_wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char **argv) {
    const char *folder = getenv("DML_GOLDEN");
    char *paths[PHOTOS], *class_names[] = {"photographs"};
    int32_t labels[PHOTOS] = {0};
    struct decoding decoding = {.paths = paths};
    struct dml_part part = {.name = "training",
                            .images = PHOTOS,
                            .classes = 1,
                            .paths = paths,
                            .labels = labels,
                            .class_names = class_names};
    for (int i = 0; i < PHOTOS; i++)
        paths[i] =
            dml_format("%s/transforms/%s.jpg",
                       folder && *folder ? folder : DML_SOURCE_DIR "/tests/golden", names[i]);
    check(dml_reader_new(&decoding.reader));
    double whole = PHOTOS / bench_time(decode_whole, &decoding, 10, 2);
    bench_report("loader", "decode_whole", whole, "images/s/core", 0);
    dml_reader_free(decoding.reader);
    dml_pixels_free(&decoding.pixels);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (is_wanted(cases[i].name, argc, argv))
            measure(&cases[i], &part, whole);
    for (int i = 0; i < PHOTOS; i++)
        free(paths[i]);
    return 0;
}
