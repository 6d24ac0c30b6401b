#include "train/model.h"

#include "base/memory.h"
#include "base/messages.h"
#include "dml/params_json.h"
#include "train/embedding.h"
#include "train/experiment.h"

#include <stdlib.h>
#include <string.h>

/* Each of several ranks takes one of --gpu's GPUs in turn, or computes on the processor. */
static enum dml_status choose_backend(const struct dml_params *params, const struct dml_comm *comm,
                                      int *device, const struct dml_backend **out) {
    struct dml_backend_wishes wishes;
    const char *note;
    enum dml_status status = dml_backend_wishes(params, comm, &wishes);
    *device = wishes.device;
    *out = &dml_backend_cpu;
    if (!status && (wishes.gpu || !comm || comm->size == 1))
        status = dml_backend_select(&wishes, out, &note);
    return status;
}

static enum dml_status build(const struct dml_params *params, int embed_dim, struct dml_comm *comm,
                             struct dml_model *out) {
    const struct dml_network_flags *flags = dml_params_options(params, &dml_network_params);
    const struct dml_backbone *backbone = dml_backbone_find(flags->arch);
    const struct dml_dataset_options *data = dml_params_options(params, &dml_dataset_params);
    enum dml_status status = DML_OK;
    if (backbone)
        status = dml_transforms_open(data, backbone->crop, &out->transforms);
    out->transform = out->transforms.evaluation;
    out->comm = comm;
    struct dml_graph *graph = NULL;
    if (!status) /* an unknown backbone fails here, by name */
        status = dml_network_graph(flags, embed_dim, out->transform.crop, &graph);
    if (status)
        return status;
    const struct dml_backend *backend;
    int device;
    status = choose_backend(params, comm, &device, &backend);
    const struct dml_network_options options = {.precision = flags->precision, .device = device};
    if (!status)
        status = dml_network_open(backend, graph, &options, &out->network);
    if (status)
        dml_graph_free(graph);
    return status;
}

enum dml_status dml_model_open(const char *checkpoint, struct dml_params *params,
                               struct dml_comm *comm, struct dml_model *out) {
    struct dml_tensors tensors;
    *out = (struct dml_model){0};
    enum dml_status status = dml_tensors_read(checkpoint, &tensors);
    if (status)
        return status;
    if (!dml_tensors_intact(&tensors))
        dml_warn("%s: is not as it was saved: damaged, or changed by another program", checkpoint);
    const char *note = dml_tensors_note(&tensors, "dml_params");
    if (note && (status = dml_params_from_json(params, note, true)))
        dml_fail_within(status, "%s", checkpoint);
    if (!status) {
        const struct dml_network_flags *flags = dml_params_options(params, &dml_network_params);
        status = build(params, (int)flags->embed_dim, comm, out);
    }
    if (!status)
        status = dml_network_load(out->network, &tensors, checkpoint, true);
    if (status)
        dml_model_close(out);
    dml_tensors_free(&tensors);
    return status;
}

enum dml_status dml_model_create(struct dml_params *params, struct dml_model *out) {
    const struct dml_network_flags *flags = dml_params_options(params, &dml_network_params);
    const struct dml_training_options *training = dml_params_options(params, &dml_training_params);
    struct dml_tensors tensors = {0};
    char *path = NULL;
    *out = (struct dml_model){0};
    enum dml_status status = build(params, (int)flags->embed_dim, NULL, out);
    if (!status)
        status = dml_network_initialise(out->network, (uint64_t)training->seed);
    if (!status && !flags->not_pretrained) {
        status = dml_weights_find(dml_backbone_find(flags->arch), flags->weights, &path);
        if (!status)
            status = dml_tensors_read(path, &tensors);
        if (!status)
            status = dml_network_load(out->network, &tensors, path, false);
    }
    dml_tensors_free(&tensors);
    free(path);
    if (status)
        dml_model_close(out);
    return status;
}

enum dml_status dml_model_open_pretrained(struct dml_params *params, struct dml_comm *comm,
                                          struct dml_model *out) {
    const struct dml_network_flags *flags = dml_params_options(params, &dml_network_params);
    struct dml_tensors tensors = {0};
    char *path = NULL;
    *out = (struct dml_model){0};
    if (flags->not_pretrained)
        return dml_fail(DML_ERROR_USAGE, "--not_pretrained: without a checkpoint there is nothing "
                                         "but pretrained weights to embed with");
    if (dml_params_given(params, "embed_dim") && flags->embed_dim != 0)
        return dml_fail(DML_ERROR_USAGE,
                        "--embed_dim %lld: a pretrained backbone has no linear layer; 0 is its "
                        "feature",
                        (long long)flags->embed_dim);
    enum dml_status status = build(params, 0, comm, out);
    if (!status)
        status = dml_weights_find(dml_backbone_find(flags->arch), flags->weights, &path);
    if (!status)
        status = dml_tensors_read(path, &tensors);
    if (!status)
        status = dml_network_load(out->network, &tensors, path, false);
    const struct dml_graph *graph = status ? NULL : out->network->graph;
    if (!status && graph->param_count && graph->params[graph->param_count - 1].head)
        status = dml_fail(DML_ERROR_USAGE,
                          "--arch %s: a norm of the head is new in every run; without a "
                          "checkpoint there is none",
                          flags->arch);
    dml_tensors_free(&tensors);
    free(path);
    if (status)
        dml_model_close(out);
    return status;
}

void dml_model_close(struct dml_model *model) {
    dml_network_close(model->network);
    dml_transforms_close(&model->transforms);
    *model = (struct dml_model){0};
}

enum dml_status dml_model_embed_part(const struct dml_model *model, const struct dml_part *part,
                                     const struct dml_params *params, const char *title,
                                     const volatile sig_atomic_t *stop, float **embeddings) {
    const struct dml_training_options *training = dml_params_options(params, &dml_training_params);
    const struct dml_loader_options options = {.part = part,
                                               .transform = model->transform,
                                               .batch_size =
                                                   dml_embedding_batch((size_t)training->bs),
                                               .threads = (int)training->kernels,
                                               .strict = true,
                                               .pixels = dml_network_image_memory(model->network),
                                               .seed = (uint64_t)training->seed};
    size_t dim = dml_network_dim(model->network);
    struct dml_loader *loader = NULL;
    struct dml_comm single;
    dml_comm_single(&single);
    *embeddings = dml_alloc_aligned(part->images * dim, sizeof **embeddings);
    enum dml_status status = *embeddings ? dml_loader_open(&options, &loader) : DML_ERROR_MEMORY;
    if (!status)
        status = dml_embed_images(model->network, loader, part->images, title, stop,
                                  model->comm ? model->comm : &single, DML_EMBEDDED_AT_ROOT,
                                  *embeddings);
    dml_loader_close(loader);
    if (status) {
        free(*embeddings);
        *embeddings = NULL;
    }
    return status;
}
