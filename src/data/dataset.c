#include "data/dataset.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/suggest.h"
#include "data/check.h"
#include "data/layout.h"

#include <dirent.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *const augmentations[] = {"base", "adv", "big", "red", NULL};

#define FIELD(name) offsetof(struct dml_dataset_options, name)
static const struct dml_param params[] = {
    {.name = "dataset",
     .type = DML_PARAM_STRING,
     .offset = FIELD(dataset),
     .fallback = DML_DATASET_DEFAULT,
     .help = "Data set and folder name: cub200, cars196, online_products, or any folder with a "
             "folder of images per class."},
    {.name = "source_path",
     .type = DML_PARAM_STRING,
     .offset = FIELD(source_path),
     .fallback = "../../Datasets",
     .help = "Folder that holds the data set's folder, or that folder itself."},
    {.name = "dataset_csv",
     .type = DML_PARAM_STRING,
     .offset = FIELD(dataset_csv),
     .help = "Instead of a folder: a CSV file with the columns path, label, split (train, val, "
             "test), and optionally is_query and is_gallery. --dataset then only names the "
             "results; without it they bear "
             "the file's name."},
    {.name = "use_tv_split",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(use_tv_split),
     .help = "Split the training classes into train and validation."},
    {.name = "tv_split_by_samples",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(tv_split_by_samples),
     .help = "Split each training class's images instead."},
    {.name = "tv_split_perc",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(tv_split_perc),
     .fallback = "0.8",
     .max = 1,
     .above_min = true,
     .help = "Share that stays for training."},
    {.name = "augmentation",
     .type = DML_PARAM_STRING,
     .offset = FIELD(augmentation),
     .fallback = "base",
     .choices = augmentations,
     .help = "base: random resized crop and flip; adv: with grayscale and colour jitter; big: "
             "crops of 256; red: resize to 256, random crop and flip."},
    {.name = "crop_area_min",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(crop_area_min),
     .fallback = "0.08",
     .max = 1,
     .above_min = true,
     .help = "Least area of a random resized crop, as a share of the image."},
    {.name = "image_size",
     .type = DML_PARAM_INT,
     .offset = FIELD(image_size),
     .fallback = "0",
     .max = 4096,
     .help = "Side of the network's input; crop and resize scale with it. 0: the backbone's own."},
    {.name = "cache_images",
     .type = DML_PARAM_STRING,
     .offset = FIELD(cache_images),
     .fallback = "none",
     .help = "Keep decoded images: none, memory, or what the paths of cache files begin with."},
};
const struct dml_param_table dml_dataset_params =
    DML_PARAM_TABLE("Data set", struct dml_dataset_options, params);

static bool has_folder(const char *folder, const char *name) {
    char *path = dml_path_join(folder, name);
    bool found = path && dml_is_folder(path);
    free(path);
    return found;
}

/* Whether --source_path is the data set's own folder. Folders of classes without an images/ around
 * them must bear the data set's name: any folder has folders. */
static bool is_layout_root(const struct dml_dataset_options *options, const char *folder) {
    if (has_folder(folder, "Info_Files") || has_folder(folder, "images"))
        return true;
    const char *slash = strrchr(folder, '/');
    return strcmp(slash ? slash + 1 : folder, options->dataset) == 0 &&
           dml_layout_has_images(folder);
}

static enum dml_status no_such_folder(const struct dml_dataset_options *options,
                                      const char *wanted) {
    struct dml_suggestion near = dml_suggestion_start(options->dataset);
    DIR *folder = opendir(options->source_path);
    if (!folder)
        return dml_fail(DML_ERROR_INPUT, "%s: no such folder (--source_path)",
                        options->source_path);
    char best[256] = "";
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *before = near.best;
        dml_suggestion_offer(&near, entry->d_name);
        if (near.best != before) { /* the entry's name does not last */
            snprintf(best, sizeof best, "%s", near.best);
            near.best = best;
        }
    }
    closedir(folder);
    return dml_fail(DML_ERROR_INPUT, "%s: no such folder (--source_path, --dataset)%s%s%s", wanted,
                    *best ? "; there is \"" : "", best, *best ? "\"" : "");
}

/* The data set's folder: <source_path>/<dataset>, or source_path itself. */
static enum dml_status find_folder(const struct dml_dataset_options *options, char **out) {
    enum dml_status status = DML_OK;
    char *folder = dml_path_join(options->source_path, options->dataset);
    if (!folder)
        return DML_ERROR_MEMORY;
    if (*options->dataset && dml_is_folder(folder)) {
        *out = folder;
        return DML_OK;
    }
    if (dml_is_folder(options->source_path) && is_layout_root(options, options->source_path)) {
        *out = dml_strdup(options->source_path);
        status = *out ? DML_OK : DML_ERROR_MEMORY;
    } else {
        status = no_such_folder(options, folder);
    }
    free(folder);
    return status;
}

static enum dml_status read_layout(const struct dml_dataset_options *options,
                                   struct dml_layout *layout) {
    if (*options->dataset_csv)
        return dml_layout_csv(options->dataset_csv, options->source_path, layout);
    char *folder = NULL, *lists;
    enum dml_status status = find_folder(options, &folder);
    if (status)
        return status;
    lists = dml_path_join(folder, "Info_Files");
    if (!lists)
        status = DML_ERROR_MEMORY;
    else if (strstr(options->dataset, "online_products") || dml_is_folder(lists))
        status = dml_layout_online_products(folder, layout);
    else
        status = dml_layout_folders(folder, layout);
    if (strstr(options->dataset, "cub200"))
        layout->sample_split = DML_SPLIT_EVEN;
    free(lists);
    free(folder);
    return status;
}

static enum dml_status split_layout(const struct dml_dataset_options *options, uint64_t seed,
                                    struct dml_layout *layout) {
    if (!options->use_tv_split)
        return DML_OK;
    if (layout->validation.count)
        return dml_fail(DML_ERROR_USAGE,
                        "--use_tv_split: %s has rows of its own for validation (split val)",
                        options->dataset_csv);
    enum dml_status status = options->tv_split_by_samples
                                 ? dml_layout_split_samples(layout, options->tv_split_perc, seed)
                                 : dml_layout_split_classes(layout, options->tv_split_perc);
    if (!status && (layout->training.count == 0 || layout->validation.count == 0))
        status =
            dml_fail(DML_ERROR_USAGE, "--tv_split_perc %g: leaves nothing for %s",
                     options->tv_split_perc, layout->training.count ? "validation" : "training");
    return status;
}

/* Makes a part of the classes, whose paths and names it takes. */
static enum dml_status make_part(const char *name, struct dml_class_list *classes,
                                 struct dml_part *out) {
    size_t images = 0, at = 0;
    bool marked = false;
    for (size_t c = 0; c < classes->count; c++) {
        images += classes->items[c].images;
        marked |= classes->items[c].marks != NULL;
    }
    out->name = name;
    if (images == 0)
        return DML_OK;
    out->paths = dml_alloc(images, sizeof *out->paths);
    out->labels = dml_alloc(images, sizeof *out->labels);
    out->class_names = dml_alloc(classes->count, sizeof *out->class_names);
    out->told = dml_alloc(images, sizeof *out->told);
    if (marked) {
        out->is_query = dml_alloc(images, 1);
        out->is_gallery = dml_alloc(images, 1);
    }
    if (!out->paths || !out->labels || !out->class_names || !out->told ||
        (marked && (!out->is_query || !out->is_gallery)))
        return DML_ERROR_MEMORY;
    for (size_t c = 0; c < classes->count; c++) {
        struct dml_class_images *class = &classes->items[c];
        out->class_names[c] = class->name;
        class->name = NULL;
        for (size_t i = 0; i < class->images; i++, at++) {
            out->paths[at] = class->paths[i];
            out->labels[at] = (int32_t)c;
            if (marked) {
                out->is_query[at] = (class->marks[i] & DML_MARK_QUERY) != 0;
                out->is_gallery[at] = (class->marks[i] & DML_MARK_GALLERY) != 0;
            }
        }
        class->images = 0;
    }
    out->images = images;
    out->classes = classes->count;
    return DML_OK;
}

static void free_part(struct dml_part *part) {
    for (size_t i = 0; i < part->images; i++)
        free(part->paths[i]);
    for (size_t c = 0; c < part->classes; c++)
        free(part->class_names[c]);
    free(part->paths);
    free(part->labels);
    free(part->class_names);
    free(part->is_query);
    free(part->is_gallery);
    free((void *)part->told);
}

void dml_dataset_close(struct dml_dataset *dataset) {
    free_part(&dataset->training);
    free_part(&dataset->testing);
    free_part(&dataset->validation);
    memset(dataset, 0, sizeof *dataset);
}

enum dml_status dml_dataset_open(const struct dml_dataset_options *options, uint64_t seed,
                                 struct dml_dataset *out) {
    struct dml_layout layout = {.sample_split = DML_SPLIT_RANDOM};
    memset(out, 0, sizeof *out);
    enum dml_status status = read_layout(options, &layout);
    if (!status)
        status = split_layout(options, seed, &layout);
    if (!status)
        status = make_part("training", &layout.training, &out->training);
    if (!status)
        status = make_part("testing", &layout.testing, &out->testing);
    if (!status)
        status = make_part("validation", &layout.validation, &out->validation);
    if (!status)
        status = dml_check_images(out);
    dml_layout_free(&layout);
    if (status)
        dml_dataset_close(out);
    return status;
}
