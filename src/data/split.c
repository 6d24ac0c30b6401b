/* Training and validation classes or images, by the study's own rule for each data set. */
#include "base/memory.h"
#include "data/layout.h"
#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>

struct member {
    int64_t group;
    size_t at;
};

static int by_group(const void *a, const void *b) {
    const struct member *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* Marks the classes that stay for training: the first share of every group. */
static void choose_classes(struct member *members, size_t count, double share, uint8_t *keep) {
    qsort(members, count, sizeof *members, by_group);
    for (size_t start = 0, end; start < count; start = end) {
        for (end = start; end < count && members[end].group == members[start].group;)
            end++;
        size_t kept = (size_t)((double)(end - start) * share);
        for (size_t i = start; i < start + kept; i++)
            keep[members[i].at] = 1;
    }
}

enum dml_status dml_layout_split_classes(struct dml_layout *layout, double share) {
    struct dml_class_list *training = &layout->training, *validation = &layout->validation;
    size_t count = training->count, kept = 0;
    struct member *members = dml_alloc(count, sizeof *members);
    uint8_t *keep = dml_alloc(count, 1);
    void *items = validation->items;
    enum dml_status status = members && keep ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_grow(&items, &validation->capacity, count, sizeof *validation->items);
    validation->items = items;
    if (!status) {
        for (size_t c = 0; c < count; c++)
            members[c] = (struct member){training->items[c].group, c};
        choose_classes(members, count, share, keep);
        for (size_t c = 0; c < count; c++)
            if (keep[c])
                training->items[kept++] = training->items[c];
            else
                validation->items[validation->count++] = training->items[c];
        training->count = kept;
    }
    free(members);
    free(keep);
    return status;
}

/* Marks the images of a class that stay for training; at least one does. */
static enum dml_status choose_samples(enum dml_sample_split split, size_t images, double share,
                                      struct dml_rng rng, uint8_t *keep) {
    size_t count = (size_t)((double)images * share);
    count = count ? count : 1;
    if (split == DML_SPLIT_RANDOM) {
        uint64_t *drawn = dml_alloc(count, sizeof *drawn);
        if (!drawn)
            return DML_ERROR_MEMORY;
        dml_rng_distinct(&rng, images, count, drawn);
        for (size_t i = 0; i < count; i++)
            keep[drawn[i]] = 1;
        free(drawn);
        return DML_OK;
    }
    for (size_t i = 0; i < count; i++) {
        double step = count > 1 ? (double)(images - 1) / (double)(count - 1) : 0;
        keep[split == DML_SPLIT_FIRST ? i : (size_t)nearbyint((double)i * step)] = 1;
    }
    return DML_OK;
}

/* Moves the images that are not kept into a class of the same name in `validation`. */
static enum dml_status split_class(struct dml_class_images *class, const uint8_t *keep,
                                   struct dml_class_list *validation) {
    struct dml_class_images *other = NULL;
    enum dml_status status = DML_OK;
    size_t images = class->images, kept = 0;
    for (size_t i = 0; i < images; i++) {
        struct dml_listed_image image = class->items[i];
        if (!status && !keep[i] && !other)
            status = dml_class_list_add(validation, class->name, &other);
        if (status || keep[i])
            class->items[kept++] = image;
        else
            status = dml_class_add_image(other, image);
    }
    class->images = kept;
    return status;
}

enum dml_status dml_layout_split_samples(struct dml_layout *layout, double share, uint64_t seed) {
    enum dml_status status = DML_OK;
    for (size_t c = 0; c < layout->training.count && !status; c++) {
        struct dml_class_images *class = &layout->training.items[c];
        uint8_t *keep = dml_alloc(class->images, 1);
        if (!keep)
            return DML_ERROR_MEMORY;
        status = choose_samples(layout->sample_split, class->images, share,
                                dml_rng_make(seed, DML_PURPOSE_SPLIT, c, 0), keep);
        if (!status)
            status = split_class(class, keep, &layout->validation);
        free(keep);
    }
    return status;
}
