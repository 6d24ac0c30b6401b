#include "backends/parts.h"
#include "backends/planned.h"

#include "backends/cuda/cuda.h"
#include "backends/cuda/run.h"
#include "backends/cuda/sharing.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The CUDA backend: parameters, and the one arena on the card that all plans work in. */
struct cuda_network {
    struct dml_planned planned;
    struct cuda_on on;
    struct cuda_params params;
    struct cuda_planning planning;
    char *arena; /* on the card */
    size_t arena_bytes;
    struct cuda_images images;
    struct cuda_sharing sharing;
};

static struct cuda_network *cuda_of(struct dml_network *network) {
    return (struct cuda_network *)network; /* its first member */
}

static void close_network(struct cuda_network *network) {
    const struct cuda_on *on = &network->on;
    dml_planned_close(&network->planned);
    cuda_sharing_close(&network->sharing, on);
    cuda_params_destroy(&network->params);
    if (on->device) {
        on->api->release(on->device, network->arena);
        cuda_images_free(&network->images, on);
        on->api->close(on->device);
    }
    free(network);
}

static enum dml_status open_card(const struct dml_network_options *options, struct cuda_on *on) {
    static const enum cuda_math math[] = {[DML_PRECISION_FP32] = CUDA_FP32,
                                          [DML_PRECISION_TF32] = CUDA_TF32,
                                          [DML_PRECISION_BF16] = CUDA_BF16};
    char reason[CUDA_REASON] = "";
    on->api = dml_cuda_find(reason);
    if (!on->api)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: %s", options->device, reason);
    on->kernels = on->api->kernels;
    on->device = on->api->open(options->device, math[options->precision], reason);
    if (!on->device)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: %s", options->device, reason);
    on->stream = on->api->stream(on->device);
    return DML_OK;
}

/* The most images, up to `most`, in pieces of which a batch can be trained. */
static size_t piece_of(size_t batch, size_t most) {
    while (batch && most > 1 && batch % most != 0)
        most--;
    return most;
}

/* Too little memory for n images: what they need, and how many would fit. */
static enum dml_status too_little(const struct cuda_network *network, const struct plan *plan,
                                  size_t bytes) {
    const struct cuda_on *on = &network->on;
    size_t free_bytes, total;
    on->api->free_memory(on->device, &free_bytes, &total);
    /* Pieces need gradients of their own. */
    size_t piece = network->params.piece ? 0 : network->params.learnable * sizeof(float);
    size_t left = free_bytes > piece ? free_bytes - piece : 0;
    size_t fits = piece_of(network->planned.options.batch_hint,
                           (size_t)((double)plan->n * 0.9 * (double)left / (double)bytes));
    if (dml_planned_in_pieces(network->planned.base.graph) && fits > 0 && fits < plan->n)
        return dml_fail(DML_ERROR_MEMORY,
                        "GPU: activations of %zu images need %.2f GB, and %.2f of its %.2f GB are "
                        "free; --micro_bs %zu would fit",
                        plan->n, (double)bytes / 1e9, (double)free_bytes / 1e9, (double)total / 1e9,
                        fits);
    return dml_fail(DML_ERROR_MEMORY,
                    "GPU: activations of %zu images need %.2f GB, and %.2f of its %.2f GB are "
                    "free; a smaller batch, or --micro_bs with frozen batch norm, needs less",
                    plan->n, (double)bytes / 1e9, (double)free_bytes / 1e9, (double)total / 1e9);
}

/* Memory for the activations of a plan, and for the images that are copied to the card. */
static enum dml_status need_memory(struct dml_planned *planned, const struct plan *plan) {
    struct cuda_network *network = (struct cuda_network *)planned;
    const struct cuda_on *on = &network->on;
    if (plan->arena_bytes > network->arena_bytes) {
        on->api->release(on->device, network->arena);
        network->arena_bytes = 0;
        network->arena = on->api->alloc(on->device, plan->arena_bytes);
        if (!network->arena)
            return too_little(network, plan, plan->arena_bytes);
        network->arena_bytes = plan->arena_bytes;
    }
    if (!cuda_images_need(&network->images, on, plan->graph, plan->n))
        return too_little(network, plan, cuda_images_bytes(plan->graph, plan->n));
    return DML_OK;
}

static struct cuda_run run_of(struct cuda_network *network, const struct dml_planned_pass *pass) {
    return (struct cuda_run){.plan = pass->plan,
                             .pass = pass,
                             .params = &network->params,
                             .on = &network->on,
                             .arena = network->arena,
                             .images = &network->images,
                             .parts = dml_parts_norms(&network->planned.options)};
}

static enum dml_status run_forward(struct dml_planned *planned, const struct dml_planned_pass *pass,
                                   float *embeddings) {
    const struct cuda_run run = run_of((struct cuda_network *)planned, pass);
    return cuda_run_forward(&run, embeddings);
}

/* The gradients of a further piece of a batch are complete before they are added, as those of ranks
 * are: both give the same bits. */
static enum dml_status add_piece(struct cuda_network *network, const struct cuda_run *run,
                                 const float *grad) {
    struct cuda_params *params = &network->params;
    float *sums = params->grads;
    params->grads = params->piece;
    enum dml_status status = cuda_run_backward(run, grad);
    params->grads = sums;
    run->on->kernels->add(run->on->stream, params->learnable, params->piece, sums);
    return status ? status : cuda_finish(run->on);
}

static enum dml_status run_backward(struct dml_planned *planned,
                                    const struct dml_planned_pass *pass, const float *grad) {
    struct cuda_network *network = (struct cuda_network *)planned;
    const struct cuda_run run = run_of(network, pass);
    return pass->first ? add_piece(network, &run, grad) : cuda_run_backward(&run, grad);
}

static const struct dml_planned_calls calls = {.embed = 128,
                                               .embed_most = 256,
                                               .need = need_memory,
                                               .forward = run_forward,
                                               .backward = run_backward};

static enum dml_status create(const struct dml_graph *graph,
                              const struct dml_network_options *options, struct dml_network **out) {
    *out = NULL;
    struct cuda_network *network = dml_alloc(1, sizeof *network);
    if (!network)
        return DML_ERROR_MEMORY;
    network->planned.calls = &calls;
    network->planned.options = *options;
    /* Feature maps are bfloat16; tokens stay float32, and their products round to bfloat16. */
    bool narrow = options->precision == DML_PRECISION_BF16,
         tokens = dml_planned_has(graph, DML_OP_TOKENS);
    enum plan_element maps = narrow && !tokens ? PLAN_BFLOAT16 : PLAN_FLOAT32;
    enum dml_status status = open_card(options, &network->on);
    if (!status)
        status = cuda_params_create(graph, &network->on, maps, &network->params);
    if (!status && options->micro_batch)
        status = cuda_params_pieces(&network->params);
    if (!status)
        status = cuda_params_states(&network->params, options->states);
    if (status) {
        close_network(network);
        return status;
    }
    network->params.narrow_products = narrow && tokens;
    network->planning = (struct cuda_planning){&network->on, &network->params};
    network->planned.traits = cuda_traits(&network->planning);
    network->planned.traits.recompute = options->recompute;
    *out = &network->planned.base;
    return DML_OK;
}

static enum dml_status backward(struct dml_network *network, const float *grad) {
    struct cuda_network *own = cuda_of(network);
    const struct dml_batch_parts *parts = own->planned.options.parts;
    enum dml_status status = dml_planned_backward(network, grad);
    return status || !parts ? status : cuda_sum_gradients(&own->sharing, &own->params, parts);
}

static enum dml_status read_param(struct dml_network *network, int index, enum dml_slot slot,
                                  float *values) {
    return cuda_params_read(&cuda_of(network)->params, index, slot, values);
}

static enum dml_status write_param(struct dml_network *network, int index, enum dml_slot slot,
                                   const float *values) {
    return cuda_params_write(&cuda_of(network)->params, index, slot, values);
}

static enum dml_status gradient_size(struct dml_network *network, const struct dml_spans *spans,
                                     struct dml_gradient_size *size) {
    return cuda_params_gradient_size(&cuda_of(network)->params, spans, size);
}

static enum dml_status clip(struct dml_network *network, const struct dml_spans *spans,
                            double scale, double limit) {
    return cuda_params_clip(&cuda_of(network)->params, spans, scale, limit);
}

static enum dml_status step(struct dml_network *network, const struct dml_optimiser_step *step) {
    return cuda_params_step(&cuda_of(network)->params, step);
}

static enum dml_status average(struct dml_network *network, double decay) {
    return cuda_params_average(&cuda_of(network)->params, decay);
}

static enum dml_status exchange(struct dml_network *network) {
    return cuda_params_exchange(&cuda_of(network)->params);
}

static void *alloc_images(void *data, size_t bytes) {
    const struct cuda_network *network = data;
    return network->on.api->host_alloc(bytes);
}

/* A copy may be under way that a failed step has left, or of images that were announced and did not
 * come. */
static void release_images(void *data, void *memory) {
    const struct cuda_network *network = data;
    network->on.api->await_uploads(network->on.device);
    network->on.api->finish(network->on.device);
    network->on.api->host_release(memory);
}

static struct dml_memory_source image_memory(struct dml_network *network) {
    return (struct dml_memory_source){alloc_images, release_images, network};
}

static size_t memory(const struct dml_network *network) {
    return ((const struct cuda_network *)network)->arena_bytes;
}

static void describe(const struct dml_network *network, char *text, size_t size) {
    const struct cuda_network *own = (const struct cuda_network *)network;
    const struct cuda_api *api = own->on.api;
    struct cuda_card card = {0};
    struct cuda_versions v;
    char reason[CUDA_REASON];
    api->versions(&v);
    if (!api->card(own->planned.options.device, &card, reason))
        snprintf(card.name, sizeof card.name, "a GPU");
    snprintf(text, size, "%s of %.1f GB, driver for CUDA %d.%d, cuDNN %d.%d.%d", card.name,
             (double)card.memory / 1e9, v.driver / 1000, v.driver % 1000 / 10, v.cudnn / 10000,
             v.cudnn % 10000 / 100, v.cudnn % 100);
}

static void destroy(struct dml_network *network) {
    close_network(cuda_of(network));
}

static struct dml_backend_abilities abilities(void) {
    static _Thread_local char reason[CUDA_REASON];
    struct dml_backend_abilities can = {.gpu = true,
                                        .built = dml_cuda_built(),
                                        .precisions = 1u << DML_PRECISION_FP32 |
                                                      1u << DML_PRECISION_BF16 |
                                                      1u << DML_PRECISION_TF32,
                                        .micro_batches = true,
                                        .reason = reason};
    if (can.built && !dml_cuda_driver()) {
        snprintf(reason, sizeof reason, "there is no NVIDIA driver");
        return can;
    }
    const struct cuda_api *api = dml_cuda_find(reason);
    int count = api ? api->count(reason) : 0;
    can.devices = count > 0 ? count : 0;
    if (count > 0)
        can.reason = NULL;
    return can;
}

static const char *unusable(int device) {
    static _Thread_local char reason[CUDA_REASON];
    struct cuda_card card;
    const struct cuda_api *api = dml_cuda_find(reason);
    return api && api->card(device, &card, reason) ? NULL : reason;
}

const struct dml_backend dml_backend_cuda = {
    .name = "cuda",
    .abilities = abilities,
    .unusable = unusable,
    .check = dml_planned_check,
    .create = create,
    .destroy = destroy,
    .read = read_param,
    .write = write_param,
    .embed = dml_planned_embed,
    .forward = dml_planned_forward,
    .backward = backward,
    .announce = dml_planned_announce,
    .gradient_size = gradient_size,
    .clip = clip,
    .step = step,
    .average = average,
    .exchange = exchange,
    .describe = describe,
    .image_memory = image_memory,
    .memory = memory,
};
