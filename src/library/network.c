#include "library/library.h"

#include "base/memory.h"
#include "dml/core.h"
#include "dml/params_json.h"
#include "nn/weights/safetensors.h"
#include "train/experiment.h"

#include <stdlib.h>
#include <string.h>

/* Opens a network with `flags`, from `checkpoint` if that is not NULL. */
static enum dml_status open_net(const char *checkpoint, const char *const *flags,
                                struct dml_net **out) {
    struct dml_net *net = dml_alloc(1, sizeof *net);
    if (!net)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_library_params(flags, &net->params);
    if (!status)
        status = checkpoint ? dml_model_open(checkpoint, net->params, NULL, &net->model)
                            : dml_model_create(net->params, &net->model);
    if (status) {
        dml_params_free(net->params);
        free(net);
        return status;
    }
    *out = net;
    return DML_OK;
}

enum dml_status dml_net_open(const char *const *flags, struct dml_net **out) {
    return open_net(NULL, flags, out);
}

enum dml_status dml_net_restore(const char *checkpoint, const char *const *flags,
                                struct dml_net **out) {
    return open_net(checkpoint, flags, out);
}

void dml_net_free(struct dml_net *net) {
    if (!net)
        return;
    dml_model_close(&net->model);
    dml_params_free(net->params);
    free(net);
}

enum dml_status dml_net_load(struct dml_net *net, const char *path) {
    struct dml_tensors tensors;
    enum dml_status status = dml_tensors_read(path, &tensors);
    if (status)
        return status;
    status = dml_network_load(net->model.network, &tensors, path, true);
    dml_tensors_free(&tensors);
    return status;
}

enum dml_status dml_net_save(struct dml_net *net, const char *path) {
    struct dml_tensors tensors = {0};
    char *json = NULL;
    enum dml_status status = dml_network_collect(net->model.network, &tensors);
    if (!status)
        status = dml_params_to_json(net->params, &json);
    if (!status)
        status = dml_tensors_set_note(&tensors, "dml_params", json);
    if (!status)
        status = dml_tensors_set_note(&tensors, "dml_version", dml_version());
    if (!status)
        status = dml_safetensors_write(path, &tensors);
    free(json);
    dml_tensors_free(&tensors);
    return status;
}

size_t dml_net_dim(const struct dml_net *net) {
    return dml_network_dim(net->model.network);
}

size_t dml_net_side(const struct dml_net *net) {
    return (size_t)net->model.transform.crop;
}

/* The batch for the backend, with the seed and step that random draws depend on. */
static enum dml_status take(const struct dml_net *net, const struct dml_image_batch *images,
                            struct dml_images *out) {
    const struct dml_training_options *training =
        dml_params_options(net->params, &dml_training_params);
    int side = (int)dml_net_side(net);
    if (images->n == 0 || images->height != side || images->width != side)
        return dml_fail(DML_ERROR_INPUT, "%zu images of %d x %d: the network takes %d x %d",
                        images->n, images->height, images->width, side, side);
    *out = (struct dml_images){.n = images->n,
                               .height = images->height,
                               .width = images->width,
                               .pixels = images->pixels,
                               .erased = images->erased,
                               .seed = (uint64_t)training->seed,
                               .step = net->steps};
    return DML_OK;
}

enum dml_status dml_net_embed(struct dml_net *net, const struct dml_image_batch *images,
                              float *embeddings) {
    struct dml_images taken;
    enum dml_status status = take(net, images, &taken);
    return status ? status : dml_network_embed(net->model.network, &taken, embeddings);
}

enum dml_status dml_net_embed_part(struct dml_net *net, const struct dml_data *data,
                                   enum dml_data_part part, float **embeddings) {
    const struct dml_part *images = dml_library_part(data, part);
    *embeddings = NULL;
    if (images->images == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: the part has no images", data->dataset.place);
    return dml_model_embed_part(&net->model, images, net->params, "embedding", NULL, embeddings);
}

enum dml_status dml_net_embed_files(struct dml_net *net, const char *const *paths, size_t count,
                                    float **embeddings) {
    const struct dml_dataset_options *data = dml_params_options(net->params, &dml_dataset_params);
    char *class = "images";
    struct dml_part part = {.name = "images",
                            .images = count,
                            .classes = 1,
                            .paths = (char **)paths,
                            .labels = dml_alloc(count, sizeof(int32_t)),
                            .class_names = &class,
                            .max_pixels = data->max_image_pixels};
    *embeddings = NULL;
    if (!part.labels)
        return DML_ERROR_MEMORY;
    enum dml_status status =
        dml_model_embed_part(&net->model, &part, net->params, "embedding", NULL, embeddings);
    free(part.labels);
    return status;
}

enum dml_status dml_net_forward(struct dml_net *net, const struct dml_image_batch *images,
                                float *embeddings) {
    struct dml_images taken;
    enum dml_status status = take(net, images, &taken);
    return status ? status : dml_network_forward(net->model.network, &taken, embeddings);
}

enum dml_status dml_net_backward(struct dml_net *net, const float *grad) {
    return dml_network_backward(net->model.network, grad);
}

struct dml_learning {
    struct dml_net *net;
    struct dml_learner learner;
    uint64_t step;
};

enum dml_status dml_learning_open(struct dml_net *net, struct dml_objective *objective,
                                  size_t steps_per_epoch, struct dml_learning **out) {
    const struct dml_training_options *training =
        dml_params_options(net->params, &dml_training_params);
    if (steps_per_epoch == 0)
        return dml_fail(DML_ERROR_USAGE, "epochs of 0 steps");
    if (!dml_method_find(DML_OPTIMISER, training->optim))
        return dml_method_unknown(DML_OPTIMISER, training->optim);
    enum dml_status status = dml_schedule_check(net->params);
    if (status)
        return status;
    struct dml_learning *learning = dml_alloc(1, sizeof *learning);
    if (!learning)
        return DML_ERROR_MEMORY;
    learning->net = net;
    status = dml_learner_open(net->params, net->model.network, objective, steps_per_epoch,
                              &learning->learner);
    if (status)
        dml_learning_free(learning);
    else
        *out = learning;
    return status;
}

void dml_learning_free(struct dml_learning *learning) {
    if (!learning)
        return;
    dml_learner_close(&learning->learner);
    free(learning);
}

enum dml_status dml_learning_step(struct dml_learning *learning) {
    struct dml_gradient_size size;
    bool clipped;
    enum dml_status status = dml_learner_step(&learning->learner, learning->step, &size, &clipped);
    if (status)
        return status;
    learning->step++;
    learning->net->steps++;
    return DML_OK;
}
