#include "support/data_sets.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct dml_dataset_options data_options_of(const char *dataset, const char *source) {
    static char empty[] = "", none[] = "none";
    static char sources[4][4096]; /* scratch paths do not last */
    static int at;
    at = (at + 1) % 4;
    snprintf(sources[at], sizeof sources[at], "%s", source);
    return (struct dml_dataset_options){
        .dataset = (char *)dataset,
        .source_path = sources[at],
        .tv_split_perc = 0.8,
        .dataset_csv = empty,
        .crop_area_min = 0.08,
        .cache_images = none,
    };
}

struct dml_dataset data_open_ok(const struct dml_dataset_options *options) {
    struct dml_dataset dataset;
    assert_ok(dml_dataset_open(options, 0, &dataset));
    return dataset;
}

void data_open_fails(const struct dml_dataset_options *options, enum dml_status status,
                     const char *first, const char *second) {
    struct dml_dataset dataset;
    assert_int_equal(dml_dataset_open(options, 0, &dataset), status);
    if (!strstr(dml_error(), first) || !strstr(dml_error(), second))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", dml_error(), first, second);
    assert_null(strchr(dml_error(), '\n'));
    assert_int_equal(dataset.training.images, 0);
    assert_null(dataset.training.paths);
}

void data_check_part(const struct dml_part *part, size_t classes, size_t images) {
    assert_int_equal(part->classes, classes);
    assert_int_equal(part->images, images);
    for (size_t i = 0; i < images; i++) {
        assert_in_range(part->labels[i], 0, classes - 1);
        assert_true(i == 0 || part->labels[i] >= part->labels[i - 1]);
        assert_int_equal(access(part->paths[i], R_OK), 0);
    }
}
