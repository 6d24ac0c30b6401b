#ifndef DML_DATA_H
#define DML_DATA_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Data sets of images and the batches that are read from them. Flags are NULL-terminated lists of
 * words, as for `dml train` ("--dataset", "cub200"); NULL: the defaults. */

struct dml_data;
struct dml_net; /* dml/network.h */

enum dml_data_part {
    DML_DATA_TRAINING,
    DML_DATA_TESTING,
    DML_DATA_VALIDATION, /* empty unless the flags or the data set name one */
};

/* The images of a part, in order of their classes. Belongs to the data set. */
struct dml_data_images {
    size_t images, classes;
    const char *const *paths;       /* (images) */
    const int32_t *labels;          /* (images), 0..classes-1; each part has its own numbers */
    const char *const *class_names; /* (classes) */
    const uint8_t *is_query, *is_gallery; /* (images), or NULL where every image is both */
};

/* Opens the data set of --source_path and --dataset, or the table of --dataset_csv, in any of its
 * layouts, and looks at the header of every file. DML_ERROR_USAGE: a wrong flag. DML_ERROR_INPUT:
 * no such folder, a class without images, an image that cannot be read. Free with dml_data_free. */
DML_API enum dml_status dml_data_open(const char *const *flags, struct dml_data **out);
DML_API void dml_data_free(struct dml_data *data);
DML_API struct dml_data_images dml_data_part(const struct dml_data *data, enum dml_data_part part);

/* A batch of images as a network takes it. */
struct dml_image_batch {
    size_t n;
    int height, width;
    const uint8_t *pixels;         /* (n, height, width, 3), RGB */
    const int32_t *labels;         /* (n); networks do not look at them */
    const uint32_t *indices;       /* (n) images of the part; networks do not look at them */
    const struct dml_rect *erased; /* what random erasing blanks out, or NULL; for the network */
};

/* Threads that decode and transform the images of a part for a network, ahead of it. */
struct dml_batches;

/* `training`: images are transformed as the network's flags say for training (--augmentation,
 * --transforms), and one that cannot be read is replaced by another of its class; otherwise as for
 * evaluation, where it is an error. What an image looks like depends only on seed, epoch and
 * position. `data` and `net` must outlive the result; free with dml_batches_free. DML_ERROR_INPUT:
 * an empty part. DML_ERROR_USAGE: a batch_size of 0. */
DML_API enum dml_status dml_batches_open(const struct dml_data *data, enum dml_data_part part,
                                         const struct dml_net *net, bool training,
                                         size_t batch_size, struct dml_batches **out);
DML_API void dml_batches_free(struct dml_batches *batches);

/* Starts a pass over `count` images of the part, in the order of `indices`, which is copied (such
 * as a plan of dml_sampling_plan); NULL: all of them in order. The last batch may be smaller. */
DML_API enum dml_status dml_batches_start(struct dml_batches *batches, uint64_t epoch,
                                          const uint32_t *indices, size_t count);

/* The next batch, with n = 0 after the last. It is valid until the next call. */
DML_API enum dml_status dml_batches_next(struct dml_batches *batches, struct dml_image_batch *out);

#ifdef __cplusplus
}
#endif
#endif
