#include "data/dataset.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/suggest.h"
#include "data/check.h"
#include "data/doubts.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <dirent.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *const
    augmentations[] = {[DML_AUGMENTATION_BASE] = "base",
                       [DML_AUGMENTATION_ADVANCED] = "adv",
                       [DML_AUGMENTATION_BIG] = "big",
                       [DML_AUGMENTATION_REDUCED] = "red",
                       NULL},
    *const test_lists[] = {
        [DML_TEST_SMALL] = "small", [DML_TEST_MEDIUM] = "medium", [DML_TEST_LARGE] = "large", NULL};

#define FIELD(name) offsetof(struct dml_dataset_options, name)
static const struct dml_param params[] = {
    {.name = "dataset",
     .type = DML_PARAM_STRING,
     .offset = FIELD(dataset),
     .fallback = DML_DATASET_DEFAULT,
     .help = "Name of the data set's folder: cub200, cars196, online_products, or any other that "
             "has a layout of `dml dataset --help`, such as a folder of images per class.",
     .facts = DML_PARAM_INFERENCE},
    {.name = "source_path",
     .type = DML_PARAM_STRING,
     .offset = FIELD(source_path),
     .fallback = "../../Datasets",
     .help = "Folder that holds the data set's folder, or that folder itself.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE},
    {.name = "dataset_csv",
     .type = DML_PARAM_STRING,
     .offset = FIELD(dataset_csv),
     .help = "Instead of a folder: a CSV file with the columns path, label, split (train, val or "
             "validation, test), and optionally is_query, is_gallery, the box x_1, x_2, y_1, y_2 "
             "and the sequence, within which a query is not compared. --dataset then only names "
             "the results; without it they have the file's name.",
     .facts = DML_PARAM_INFERENCE},
    {.name = "test_list",
     .type = DML_PARAM_CHOICE,
     .offset = FIELD(test_list),
     .fallback = "small",
     .choices = test_lists,
     .help = "Which of VehicleID's lists to test with: 800, 1,600 or 2,400 vehicles.",
     .facts = DML_PARAM_INFERENCE},
    {.name = "max_image_pixels",
     .type = DML_PARAM_INT,
     .offset = FIELD(max_image_pixels),
     .fallback = "178956970",
     .min = 1,
     .max = DML_IMAGE_MOST_PIXELS,
     .help = "A file whose header declares more pixels is refused before training. The default is "
             "Pillow's.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_SAME_RUN | DML_PARAM_INFERENCE | DML_PARAM_IMAGES},
    {.name = "use_tv_split",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(use_tv_split),
     .help = "Split the training classes into train and validation.",
     .facts = DML_PARAM_INFERENCE},
    {.name = "tv_split_by_samples",
     .type = DML_PARAM_FLAG,
     .offset = FIELD(tv_split_by_samples),
     .help = "Split each training class's images instead.",
     .facts = DML_PARAM_INFERENCE},
    {.name = "tv_split_perc",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(tv_split_perc),
     .fallback = "0.8",
     .max = 1,
     .above_min = true,
     .help = "Share that stays for training.",
     .facts = DML_PARAM_INFERENCE},
    {.name = "augmentation",
     .type = DML_PARAM_CHOICE,
     .offset = FIELD(augmentation),
     .fallback = "base",
     .choices = augmentations,
     .help = "base: random resized crop and flip; adv: with grayscale and colour jitter; big: "
             "crops of 256; red: resize to 256, random crop and flip.",
     .facts = DML_PARAM_INFERENCE | DML_PARAM_IMAGES},
    {.name = "transforms",
     .type = DML_PARAM_STRING,
     .offset = FIELD(transforms),
     .help = "What is done to training images instead of --augmentation, as in "
             "'random_resized_crop(scale=0.2..1, interpolation=bicubic) flip random_erasing'; "
             "`dml list` shows the operations.",
     .facts = DML_PARAM_IMAGES},
    {.name = "eval_transforms",
     .type = DML_PARAM_STRING,
     .offset = FIELD(eval_transforms),
     .help = "What is done to images that are evaluated, as in 'resize(224, interpolation=bicubic) "
             "center_crop' or 'squash'; without it 'resize center_crop'.",
     .facts = DML_PARAM_INFERENCE | DML_PARAM_IMAGES},
    {.name = "crop_area_min",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(crop_area_min),
     .fallback = "0.08",
     .max = 1,
     .above_min = true,
     .help = "Least area of a random resized crop, as a share of the image.",
     .facts = DML_PARAM_IMAGES},
    {.name = "image_size",
     .type = DML_PARAM_INT,
     .offset = FIELD(image_size),
     .fallback = "0",
     .max = 4096,
     .help = "Side of the network's input; crop and resize scale with it. 0: the backbone's own.",
     .facts = DML_PARAM_INFERENCE | DML_PARAM_IMAGES},
    {.name = "cache_images",
     .type = DML_PARAM_STRING,
     .offset = FIELD(cache_images),
     .fallback = "none",
     .help = "Keep decoded images: none, memory, or a prefix for the paths of cache files.",
     .facts = DML_PARAM_MAY_CHANGE | DML_PARAM_SAME_RUN},
};
const struct dml_param_table dml_dataset_params =
    DML_PARAM_TABLE("Data set", struct dml_dataset_options, params);

/* Whether --source_path is the data set's own folder. Folders of classes without an images/ around
 * them must have the data set's name: any folder has folders. */
static bool is_layout_root(const struct dml_dataset_options *options, const char *folder) {
    const struct dml_layout_kind *kind = dml_layout_of(folder, "");
    if (!kind || !kind->generic || dml_has_folder(folder, "images"))
        return kind != NULL;
    const char *slash = strrchr(folder, '/');
    return strcmp(slash ? slash + 1 : folder, options->dataset) == 0;
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
        if (entry->d_name[0] == '.')
            continue;
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

/* The only folder in a folder, as left by an archive that was unpacked there. */
static bool only_folder(const char *folder, char out[PATH_MAX]) {
    DIR *entries = opendir(folder);
    char path[PATH_MAX];
    int count = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_name[0] == '.' || !dml_place(path, folder, entry->d_name) ||
            !dml_is_folder(path))
            continue;
        count++;
        strcpy(out, path);
    }
    if (entries)
        closedir(entries);
    return count == 1;
}

/* The folder's layout; the folder may become the only one in it. */
static enum dml_status find_kind(const char *dataset, char **folder,
                                 const struct dml_layout_kind **out) {
    char below[PATH_MAX];
    *out = dml_layout_of(*folder, dataset);
    if (!*out && only_folder(*folder, below) && (*out = dml_layout_of(below, dataset))) {
        free(*folder);
        *folder = dml_strdup(below);
    }
    if (!*out)
        *out = &dml_layout_folders; /* which says what it lacks */
    return *folder ? DML_OK : DML_ERROR_MEMORY;
}

static enum dml_status read_layout(const struct dml_dataset_options *options,
                                   struct dml_layout *layout, struct dml_dataset *out,
                                   bool *apart) {
    if (*options->dataset_csv) {
        out->layout = "table";
        out->place = dml_strdup(options->dataset_csv);
        return out->place ? dml_layout_table(options->dataset_csv, options->source_path, layout)
                          : DML_ERROR_MEMORY;
    }
    enum dml_status status = find_folder(options, &out->place);
    if (status)
        return status;
    const struct dml_layout_kind *kind;
    status = find_kind(options->dataset, &out->place, &kind);
    if (status)
        return status;
    const struct dml_layout_source source = {out->place, options->test_list};
    out->layout = kind->name;
    *apart = kind->apart;
    status = kind->read(&source, layout);
    if (strstr(options->dataset, "cub200"))
        layout->sample_split = DML_SPLIT_EVEN;
    return status;
}

static enum dml_status split_layout(const struct dml_dataset_options *options, uint64_t seed,
                                    const char *place, struct dml_layout *layout) {
    if (!options->use_tv_split)
        return DML_OK;
    if (layout->validation.count)
        return dml_fail(DML_ERROR_USAGE, "--use_tv_split: %s has images of its own for validation",
                        place);
    enum dml_status status = options->tv_split_by_samples
                                 ? dml_layout_split_samples(layout, options->tv_split_perc, seed)
                                 : dml_layout_split_classes(layout, options->tv_split_perc);
    if (!status && (layout->training.count == 0 || layout->validation.count == 0))
        status =
            dml_fail(DML_ERROR_USAGE, "--tv_split_perc %g: leaves nothing for %s",
                     options->tv_split_perc, layout->training.count ? "validation" : "training");
    return status;
}

/* Puts the i-th image of a part in its place. */
static void place_image(struct dml_part *part, size_t i, const struct dml_listed_image *image,
                        size_t class) {
    part->paths[i] = image->path;
    part->labels[i] = (int32_t) class;
    if (part->is_query) {
        part->is_query[i] = (image->marks & DML_MARK_QUERY) != 0;
        part->is_gallery[i] = (image->marks & DML_MARK_GALLERY) != 0;
    }
    if (part->sequences)
        part->sequences[i] = image->sequence ? image->sequence : -1 - (int32_t)i;
    if (part->boxes)
        part->boxes[i] = image->box;
}

static enum dml_status reserve_part(const struct dml_class_list *classes, struct dml_part *out) {
    size_t images = 0;
    bool marked = false, boxed = false, sequences = false;
    for (size_t c = 0; c < classes->count; c++)
        for (size_t i = 0; i < classes->items[c].images; i++, images++) {
            marked |= classes->items[c].items[i].marks != DML_MARK_BOTH;
            boxed |= classes->items[c].items[i].box.width != 0;
            sequences |= classes->items[c].items[i].sequence != 0;
        }
    if (images == 0)
        return DML_OK;
    out->paths = dml_alloc(images, sizeof *out->paths);
    out->labels = dml_alloc(images, sizeof *out->labels);
    out->class_names = dml_alloc(classes->count, sizeof *out->class_names);
    out->told = dml_alloc(images, sizeof *out->told);
    out->is_query = marked ? dml_alloc(images, 1) : NULL;
    out->is_gallery = marked ? dml_alloc(images, 1) : NULL;
    out->sequences = sequences ? dml_alloc(images, sizeof *out->sequences) : NULL;
    out->boxes = boxed ? dml_alloc(images, sizeof *out->boxes) : NULL;
    if (!out->paths || !out->labels || !out->class_names || !out->told ||
        (marked && (!out->is_query || !out->is_gallery)) || (boxed && !out->boxes) ||
        (sequences && !out->sequences))
        return DML_ERROR_MEMORY;
    out->images = images;
    return DML_OK;
}

/* Makes a part from the classes, whose paths and names it takes. */
static enum dml_status make_part(const char *name, struct dml_class_list *classes,
                                 int64_t max_pixels, struct dml_part *out) {
    size_t at = 0;
    out->name = name;
    out->max_pixels = max_pixels;
    enum dml_status status = reserve_part(classes, out);
    for (size_t c = 0; !status && out->images && c < classes->count; c++) {
        struct dml_class_images *class = &classes->items[c];
        out->class_names[c] = class->name;
        class->name = NULL;
        for (size_t i = 0; i < class->images; i++)
            place_image(out, at++, &class->items[i], c);
        class->images = 0;
        out->classes++;
    }
    return status;
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
    free(part->sequences);
    free(part->boxes);
    free((void *)part->told);
}

void dml_dataset_close(struct dml_dataset *dataset) {
    free_part(&dataset->training);
    free_part(&dataset->testing);
    free_part(&dataset->validation);
    free(dataset->place);
    memset(dataset, 0, sizeof *dataset);
}

static enum dml_status check_apart(const struct dml_dataset *dataset) {
    const char *first;
    size_t count;
    enum dml_status status =
        dml_parts_shared(&dataset->training, &dataset->testing, &count, &first);
    if (!status && count)
        status =
            dml_fail(DML_ERROR_INPUT, "%s: class \"%s\" is in the lists for training and testing%s",
                     dataset->place, first, count > 1 ? ", and others are" : "");
    return status;
}

enum dml_status dml_dataset_read(const struct dml_dataset_options *options, uint64_t seed,
                                 struct dml_dataset *out) {
    struct dml_layout layout = {.sample_split = DML_SPLIT_RANDOM};
    bool apart = false;
    memset(out, 0, sizeof *out);
    enum dml_status status = read_layout(options, &layout, out, &apart);
    if (!status)
        status = split_layout(options, seed, out->place, &layout);
    if (!status)
        status = make_part("training", &layout.training, options->max_image_pixels, &out->training);
    if (!status)
        status = make_part("testing", &layout.testing, options->max_image_pixels, &out->testing);
    if (!status)
        status = make_part("validation", &layout.validation, options->max_image_pixels,
                           &out->validation);
    if (!status && apart)
        status = check_apart(out);
    dml_layout_free(&layout);
    if (status)
        dml_dataset_close(out);
    return status;
}

enum dml_status dml_dataset_open(const struct dml_dataset_options *options, uint64_t seed,
                                 struct dml_dataset *out) {
    enum dml_status status = dml_dataset_read(options, seed, out);
    if (status)
        return status;
    dml_dataset_doubts(out);
    status = dml_check_images(out);
    if (status)
        dml_dataset_close(out);
    return status;
}
