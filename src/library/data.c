#include "library/library.h"

#include "base/memory.h"
#include "data/loader.h"
#include "train/experiment.h"

#include <stdlib.h>

enum dml_status dml_library_params(const char *const *flags, struct dml_params **out) {
    int count = 0;
    while (flags && flags[count])
        count++;
    enum dml_status status = dml_train_params(out);
    if (!status)
        status = dml_params_parse(*out, count, (char *const *)flags);
    if (!status)
        status = dml_train_name_csv(*out);
    if (status) {
        dml_params_free(*out);
        *out = NULL;
    }
    return status;
}

enum dml_status dml_data_open(const char *const *flags, struct dml_data **out) {
    struct dml_data *data = dml_alloc(1, sizeof *data);
    if (!data)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_library_params(flags, &data->params);
    if (!status) {
        const struct dml_training_options *training =
            dml_params_options(data->params, &dml_training_params);
        status = dml_dataset_open(dml_params_options(data->params, &dml_dataset_params),
                                  (uint64_t)training->seed, &data->dataset);
    }
    if (status)
        dml_data_free(data);
    else
        *out = data;
    return status;
}

void dml_data_free(struct dml_data *data) {
    if (!data)
        return;
    dml_dataset_close(&data->dataset);
    dml_params_free(data->params);
    free(data);
}

const struct dml_part *dml_library_part(const struct dml_data *data, enum dml_data_part part) {
    return part == DML_DATA_TRAINING  ? &data->dataset.training
           : part == DML_DATA_TESTING ? &data->dataset.testing
                                      : &data->dataset.validation;
}

struct dml_data_images dml_data_part(const struct dml_data *data, enum dml_data_part part) {
    const struct dml_part *images = dml_library_part(data, part);
    return (struct dml_data_images){.images = images->images,
                                    .classes = images->classes,
                                    .paths = (const char *const *)images->paths,
                                    .labels = images->labels,
                                    .class_names = (const char *const *)images->class_names,
                                    .is_query = images->is_query,
                                    .is_gallery = images->is_gallery};
}

struct dml_batches {
    struct dml_loader *loader;
    const struct dml_loaded *held;
    size_t images;
};

enum dml_status dml_batches_open(const struct dml_data *data, enum dml_data_part part,
                                 const struct dml_net *net, bool training, size_t batch_size,
                                 struct dml_batches **out) {
    const struct dml_part *images = dml_library_part(data, part);
    const struct dml_training_options *flags =
        dml_params_options(data->params, &dml_training_params);
    const struct dml_dataset_options *own = dml_params_options(data->params, &dml_dataset_params);
    const struct dml_transforms *transforms = &net->model.transforms;
    if (batch_size == 0)
        return dml_fail(DML_ERROR_USAGE, "batches of 0 images");
    if (images->images == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: no images for %s", data->dataset.place,
                        part == DML_DATA_TRAINING  ? "training"
                        : part == DML_DATA_TESTING ? "testing"
                                                   : "validation");
    const struct dml_loader_options options = {.part = images,
                                               .transform = training ? transforms->training
                                                                     : transforms->evaluation,
                                               .batch_size = batch_size,
                                               .threads = (int)flags->kernels,
                                               .seed = (uint64_t)flags->seed,
                                               .strict = !training,
                                               .cache = own->cache_images};
    struct dml_batches *batches = dml_alloc(1, sizeof *batches);
    if (!batches)
        return DML_ERROR_MEMORY;
    batches->images = images->images;
    enum dml_status status = dml_loader_open(&options, &batches->loader);
    if (status)
        free(batches);
    else
        *out = batches;
    return status;
}

static void release(struct dml_batches *batches) {
    if (batches->held)
        dml_loader_release(batches->loader, batches->held);
    batches->held = NULL;
}

void dml_batches_free(struct dml_batches *batches) {
    if (!batches)
        return;
    release(batches);
    dml_loader_close(batches->loader);
    free(batches);
}

enum dml_status dml_batches_start(struct dml_batches *batches, uint64_t epoch,
                                  const uint32_t *indices, size_t count) {
    for (size_t i = 0; indices && i < count; i++)
        if (indices[i] >= batches->images)
            return dml_fail(DML_ERROR_INPUT, "there is no image %u: the part has %zu",
                            (unsigned)indices[i], batches->images);
    release(batches);
    return dml_loader_start(batches->loader, epoch, indices, indices ? count : batches->images);
}

enum dml_status dml_batches_next(struct dml_batches *batches, struct dml_image_batch *out) {
    release(batches);
    *out = (struct dml_image_batch){0};
    enum dml_status status = dml_loader_next(batches->loader, &batches->held);
    const struct dml_loaded *held = batches->held;
    if (!status && held)
        *out = (struct dml_image_batch){.n = held->n,
                                        .height = held->height,
                                        .width = held->width,
                                        .pixels = held->pixels,
                                        .labels = held->labels,
                                        .indices = held->indices,
                                        .erased = held->erased};
    return status;
}
