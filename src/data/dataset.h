#ifndef DML_DATA_DATASET_H
#define DML_DATA_DATASET_H

#include "data/image.h"
#include "data/transform.h"
#include "dml/error.h"
#include "dml/params.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { DML_TOLD_UNREADABLE = 1, DML_TOLD_CORRUPT = 2 };

/* Images of one part of a data set, ordered by class and then by path (lists and tables: in their
 * own order). Classes have their own numbers in every part. */
struct dml_part {
    const char *name;               /* "training", "testing", "validation", "evaluation" */
    size_t images, classes;         /* both 0: there is no such part */
    char **paths;                   /* (images), owned */
    int32_t *labels;                /* (images), 0..classes-1 */
    char **class_names;             /* (classes), owned */
    uint8_t *is_query, *is_gallery; /* (images), or NULL when every image is both */
    int32_t *sequences; /* (images), or NULL: they are in none. A query is not compared with images
                           of its own class and sequence; one that is in none has a number of its
                           own. */
    struct dml_rect *boxes; /* (images) in the files; NULL: all images are whole files */
    int64_t max_pixels;     /* what an image's file may have; 0: DML_IMAGE_PIXELS */
    /* (images) DML_TOLD_*, what loaders have reported about an image, so that several of them
     * report it once; NULL: each does. */
    atomic_uchar *told;
};

/* training: what is sampled from. testing: the unseen half. validation: empty unless there is
 * --use_tv_split or a CSV file with rows for it. A CSV file may leave any part out. The study's
 * "evaluation" set is training with evaluation transforms. */
struct dml_dataset {
    struct dml_part training, testing, validation;
    const char *layout; /* the name of its files' layout: "folders", "table" */
    char *place;        /* its folder, or the table's file */
};

/* The image's rectangle in its file; NULL: all of it. */
static inline const struct dml_rect *dml_part_box(const struct dml_part *part, size_t image) {
    return part->boxes ? &part->boxes[image] : NULL;
}

/* Which list of images to test with, where a data set has several. */
enum dml_test_list { DML_TEST_SMALL, DML_TEST_MEDIUM, DML_TEST_LARGE };

#define DML_DATASET_DEFAULT "cub200"

struct dml_dataset_options {
    char *dataset;     /* the folder's name; "online_products" in it says the layout as well */
    char *source_path; /* as typed; the folder is <source_path>/<dataset>, or itself */
    bool use_tv_split, tv_split_by_samples;
    double tv_split_perc;
    char *dataset_csv;            /* a table of images instead of a folder (layouts/table.c) */
    enum dml_test_list test_list; /* VehicleID's three */
    int64_t max_image_pixels;
    enum dml_augmentation augmentation;
    char *transforms, *eval_transforms; /* lists of operations (data/pipeline.h), or "" */
    double crop_area_min;               /* least area of a random resized crop */
    int64_t image_size;                 /* 0: the backbone's own */
    char *cache_images;                 /* "none", "memory", or a file */
};
extern const struct dml_param_table dml_dataset_params;

/* Reads the layout: a missing folder or a class without images is an error with its path. `seed`
 * keys the validation split. On failure `out` is empty. */
enum dml_status dml_dataset_read(const struct dml_dataset_options *options, uint64_t seed,
                                 struct dml_dataset *out);
/* The same; warns of what is implausible about it (doubts.c), and looks at every file's header,
 * on as many threads as there are processors: an unreadable image is an error with its path (of
 * several the first one, and how many more). */
enum dml_status dml_dataset_open(const struct dml_dataset_options *options, uint64_t seed,
                                 struct dml_dataset *out);
void dml_dataset_close(struct dml_dataset *dataset);

#endif
