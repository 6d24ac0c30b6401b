#ifndef DML_DATA_LAYOUT_H
#define DML_DATA_LAYOUT_H

#include "data/dataset.h"

/* What the layouts have in common: lists of classes with their images, before they become the
 * parts of a data set. */

struct dml_class_images {
    char *name;
    int64_t group; /* classes are split into train and validation within a group; 0 */
    size_t images, path_capacity, mark_capacity;
    char **paths;
    uint8_t *marks; /* DML_MARK_*, only where a layout sets them */
};
enum { DML_MARK_QUERY = 1, DML_MARK_GALLERY = 2 };

struct dml_class_list {
    size_t count, capacity;
    struct dml_class_images *items;
};

/* Adds an empty class. The pointer is valid until the next one is added. */
enum dml_status dml_class_list_add(struct dml_class_list *classes, const char *name,
                                   struct dml_class_images **out);
/* Adds an image; takes the path, which may be NULL where its allocation failed. */
enum dml_status dml_class_add(struct dml_class_images *class, char *path);
enum dml_status dml_class_add_marked(struct dml_class_images *class, char *path, uint8_t marks);
void dml_class_list_free(struct dml_class_list *classes);

/* Whether every name starts with a number, alone or with a dot behind it: "012.heron". */
bool dml_class_list_numbered(const struct dml_class_list *classes);
/* By number where all are numbered, else by name. */
void dml_class_list_sort(struct dml_class_list *classes);

/* Which images of a class --tv_split_by_samples trains on; the study has a rule per data set. */
enum dml_sample_split {
    DML_SPLIT_RANDOM, /* drawn by the seed: cars196 and any other */
    DML_SPLIT_EVEN,   /* at even distances: cub200 */
    DML_SPLIT_FIRST,  /* the first ones: online_products */
};

/* What a layout reads. */
struct dml_layout {
    struct dml_class_list training, testing, validation;
    enum dml_sample_split sample_split;
};
void dml_layout_free(struct dml_layout *layout);

/* Each fills a zero-initialised layout; on failure the caller still frees it. */
enum dml_status dml_layout_folders(const char *folder, struct dml_layout *out);
enum dml_status dml_layout_online_products(const char *folder, struct dml_layout *out);
enum dml_status dml_layout_csv(const char *path, const char *source_path, struct dml_layout *out);

/* Move training classes, or images of each training class, to validation (which is empty): all
 * but `share` of them, 0 < share <= 1. Of a class at least one image stays. */
enum dml_status dml_layout_split_classes(struct dml_layout *layout, double share);
enum dml_status dml_layout_split_samples(struct dml_layout *layout, double share, uint64_t seed);

/* Whether a folder looks like one that dml_layout_folders can read. */
bool dml_layout_has_images(const char *folder);

#endif
