#ifndef DML_DATA_LAYOUT_H
#define DML_DATA_LAYOUT_H

#include "data/dataset.h"

/* What the layouts have in common: lists of classes with their images, before they become the
 * parts of a data set. */

/* DML_MARK_BOTH: each among all others, as most data sets are tested. */
enum { DML_MARK_QUERY = 1, DML_MARK_GALLERY = 2, DML_MARK_BOTH = 3 };

struct dml_listed_image {
    char *path;
    struct dml_rect box; /* of the file; no width: all of it */
    uint8_t marks;
    int32_t sequence; /* from 1; 0: it is in none */
};

struct dml_class_images {
    char *name;
    int64_t group; /* classes are split into train and validation within a group; 0 by default */
    size_t images, capacity;
    struct dml_listed_image *items;
};

struct dml_class_list {
    size_t count, capacity;
    struct dml_class_images *items;
};

/* Adds an empty class. The pointer is valid until the next one is added. */
enum dml_status dml_class_list_add(struct dml_class_list *classes, const char *name,
                                   struct dml_class_images **out);
/* Adds an image; takes the path, which may be NULL where its allocation failed. */
enum dml_status dml_class_add(struct dml_class_images *class, char *path);
enum dml_status dml_class_add_image(struct dml_class_images *class, struct dml_listed_image image);
void dml_class_list_free(struct dml_class_list *classes);

/* Whether every name starts with a number, alone or followed by a dot: "012.heron". */
bool dml_class_list_numbered(const struct dml_class_list *classes);
/* By number where all are numbered, else by name. */
void dml_class_list_sort(struct dml_class_list *classes);

/* Moves the second half of the classes to `second`, which is empty. */
enum dml_status dml_class_list_halve(struct dml_class_list *first, struct dml_class_list *second);

/* Which images of a class --tv_split_by_samples trains on; the study has a rule per data set. */
enum dml_sample_split {
    DML_SPLIT_RANDOM, /* drawn by the seed: cars196 and any other */
    DML_SPLIT_EVEN,   /* evenly spaced: cub200 */
    DML_SPLIT_FIRST,  /* the first ones: online_products */
};

/* What a layout reads. */
struct dml_layout {
    struct dml_class_list training, testing, validation;
    enum dml_sample_split sample_split;
};
void dml_layout_free(struct dml_layout *layout);

/* Where a layout reads from. */
struct dml_layout_source {
    const char *folder; /* the data set's */
    enum dml_test_list test_list;
};

/* A way in which data sets are published: one file of layouts/, and one line in its registry.c. */
struct dml_layout_kind {
    const char *name, *summary;
    const char *named; /* a --dataset with this in its name has this layout; NULL */
    bool generic;      /* it also fits folders that are not data sets */
    bool apart;        /* no class both trains and tests: else its lists are broken */
    /* Whether the folder is laid out this way, even if something is missing: reading says what. */
    bool (*detect)(const char *folder);
    /* Fills a zero-initialised layout; on failure the caller still frees it. */
    enum dml_status (*read)(const struct dml_layout_source *source, struct dml_layout *out);
};

const struct dml_layout_kind *dml_layout_at(size_t i); /* NULL after the last */
/* The layout of a folder whose data set has this name; NULL: it has none of them. */
const struct dml_layout_kind *dml_layout_of(const char *folder, const char *dataset);

/* A table of images (layouts/table.c) instead of a folder. */
enum dml_status dml_layout_table(const char *path, const char *source_path, struct dml_layout *out);

/* Move training classes, or images of each training class, to validation (which is empty): all but
 * `share` of them, 0 < share <= 1. At least one image of a class stays. */
enum dml_status dml_layout_split_classes(struct dml_layout *layout, double share);
enum dml_status dml_layout_split_samples(struct dml_layout *layout, double share, uint64_t seed);

#endif
