#include "backends/backend.h"
#include "backends/cuda/cuda.h"
#include "backends/cuda/run.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The CUDA backend: parameters, a few plans of different batch sizes, and the one arena on the card
 * that they all work in. */
enum { MOST_PLANS = 8 };

struct cuda_network {
    struct dml_network base;
    const struct dml_graph *graph;
    struct dml_network_options options;
    struct cuda_on on;
    struct cuda_params params;
    struct cuda_planning planning;
    struct plan_traits traits;
    struct plan *plans[MOST_PLANS]; /* the last used first */
    int plan_count;
    char *arena, *pixels; /* on the card */
    char *host;           /* for what goes up to `pixels` */
    size_t arena_bytes, room;
    /* The forward pass that waits for its backward pass. */
    struct {
        bool valid;
        const struct plan *plan; /* NULL with micro-batches */
        struct dml_images images;
    } waiting;
};

static struct cuda_network *cuda_of(struct dml_network *network) {
    return (struct cuda_network *)network; /* which it starts with */
}

static void close_network(struct cuda_network *network) {
    const struct cuda_on *on = &network->on;
    for (int i = 0; i < network->plan_count; i++)
        plan_destroy(network->plans[i]);
    cuda_params_destroy(&network->params);
    if (on->device) {
        on->api->release(on->device, network->arena);
        on->api->release(on->device, network->pixels);
        on->api->close(on->device);
    }
    free(network->host);
    free(network);
}

/* Whether the graph has a node with this operation. */
static bool has_op(const struct dml_graph *graph, enum dml_op op) {
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == op)
            return true;
    return false;
}

static enum dml_status check_options(const struct dml_graph *graph,
                                     const struct dml_network_options *options) {
    if (options->precision == DML_PRECISION_BF16)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--precision bf16: the GPU backend has fp32 and tf32");
    if (options->micro_batch && !graph->frozen && has_op(graph, DML_OP_BATCH_NORM))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--micro_bs %zu: batch norm with the batch's statistics ties the images "
                        "of a batch together; only a frozen one (--arch %s_frozen) allows pieces",
                        options->micro_batch, graph->arch);
    if (options->recompute && !has_op(graph, DML_OP_ATTENTION))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--recompute: --arch %s has no transformer's blocks to compute once more "
                        "(--micro_bs saves memory, too)",
                        graph->arch);
    return DML_OK;
}

static enum dml_status open_card(const struct dml_network_options *options, struct cuda_on *on) {
    char reason[CUDA_REASON] = "";
    on->api = dml_cuda_find(reason);
    if (!on->api)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: %s", options->device, reason);
    on->kernels = on->api->kernels;
    on->device = on->api->open(options->device, options->precision == DML_PRECISION_TF32, reason);
    if (!on->device)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: %s", options->device, reason);
    on->stream = on->api->stream(on->device);
    return DML_OK;
}

static enum dml_status create(const struct dml_graph *graph,
                              const struct dml_network_options *options, struct dml_network **out) {
    *out = NULL;
    struct cuda_network *network = dml_alloc(1, sizeof *network);
    if (!network)
        return DML_ERROR_MEMORY;
    network->graph = graph;
    network->options = *options;
    enum dml_status status = open_card(options, &network->on);
    if (status == DML_OK)
        status = cuda_params_create(graph, &network->on, &network->params);
    if (status != DML_OK) {
        close_network(network);
        return status;
    }
    network->planning = (struct cuda_planning){&network->on, &network->params};
    network->traits = cuda_traits(&network->planning);
    network->traits.recompute = options->recompute;
    *out = &network->base;
    return DML_OK;
}

/* Finds or makes a plan and moves it to the front; the least used one makes room. */
static enum dml_status plan_for(struct cuda_network *network, enum plan_kind kind, size_t n,
                                const struct plan **out) {
    int at = 0;
    while (at < network->plan_count &&
           (network->plans[at]->kind != kind || network->plans[at]->n != n))
        at++;
    struct plan *plan;
    if (at < network->plan_count) {
        plan = network->plans[at];
    } else {
        enum dml_status status = plan_create(network->graph, &network->traits, kind, n, &plan);
        if (status != DML_OK)
            return status;
        if (network->plan_count == MOST_PLANS)
            plan_destroy(network->plans[--network->plan_count]);
        at = network->plan_count++;
    }
    memmove(network->plans + 1, network->plans, (size_t)at * sizeof(struct plan *));
    network->plans[0] = plan;
    *out = plan;
    return DML_OK;
}

/* Too little memory for n images: what they want, and how many would fit. */
static enum dml_status too_little(const struct cuda_network *network, const struct plan *plan,
                                  size_t bytes) {
    const struct cuda_on *on = &network->on;
    size_t free_bytes, total;
    on->api->free_memory(on->device, &free_bytes, &total);
    size_t fits = (size_t)((double)plan->n * 0.9 * (double)free_bytes / (double)bytes);
    bool pieces = network->graph->frozen || !has_op(network->graph, DML_OP_BATCH_NORM);
    if (pieces && fits > 0 && fits < plan->n)
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

/* Memory for the activations of a plan, and for the images that come up. */
static enum dml_status need_memory(struct cuda_network *network, const struct plan *plan) {
    const struct cuda_on *on = &network->on;
    size_t room = cuda_room(plan);
    if (plan->arena_bytes > network->arena_bytes) {
        on->api->release(on->device, network->arena);
        network->arena_bytes = 0;
        network->arena = on->api->alloc(on->device, plan->arena_bytes);
        if (!network->arena)
            return too_little(network, plan, plan->arena_bytes);
        network->arena_bytes = plan->arena_bytes;
    }
    if (room > network->room) {
        on->api->release(on->device, network->pixels);
        free(network->host);
        network->room = 0;
        network->host = dml_alloc(room, 1);
        network->pixels = on->api->alloc(on->device, room);
        if (!network->pixels || !network->host)
            return too_little(network, plan, room);
        network->room = room;
    }
    return DML_OK;
}

static enum dml_status check_images(const struct cuda_network *network,
                                    const struct dml_images *images) {
    const struct dml_node *input = &network->graph->nodes[0];
    if (!images->pixels == !images->input)
        return dml_fail(DML_ERROR_USAGE, "images: exactly one of pixels and input must be given");
    if (input->channels != 3 || images->height != input->height || images->width != input->width)
        return dml_fail(DML_ERROR_INPUT, "images of %d x %d: the network takes %d x %d",
                        images->width, images->height, input->width, input->height);
    return DML_OK;
}

static struct cuda_run run_of(struct cuda_network *network, const struct plan *plan,
                              const struct dml_images *images, size_t first) {
    return (struct cuda_run){.plan = plan,
                             .params = &network->params,
                             .on = &network->on,
                             .arena = network->arena,
                             .images = images,
                             .pixels = network->pixels,
                             .host = network->host,
                             .first = first,
                             .accumulate = first > 0};
}

/* A piece of a batch through a plan of its size. */
static enum dml_status forward_piece(struct cuda_network *network, enum plan_kind kind,
                                     const struct dml_images *images, size_t first, size_t n,
                                     float *embeddings, const struct plan **plan) {
    enum dml_status status = plan_for(network, kind, n, plan);
    if (status == DML_OK)
        status = need_memory(network, *plan);
    if (status != DML_OK)
        return status;
    struct cuda_run run = run_of(network, *plan, images, first);
    return cuda_run_forward(&run, embeddings);
}

/* Images that go through inference at once: enough to keep a card busy. */
static size_t embed_piece(const struct cuda_network *network) {
    const struct dml_node *input = &network->graph->nodes[0];
    size_t pixels = (size_t)input->height * (size_t)input->width;
    size_t piece = network->options.micro_batch;
    if (!piece)
        piece = (size_t)128 * 224 * 224 / pixels;
    return piece < 8 ? 8 : piece > 256 ? 256 : piece;
}

/* In whole pieces, then the rest in powers of two, so that there are few sizes to plan for. */
static enum dml_status embed_images(struct cuda_network *network, const struct dml_images *images,
                                    float *embeddings) {
    enum dml_status status = check_images(network, images);
    network->waiting.valid = false;
    size_t piece = embed_piece(network), dim = (size_t)network->graph->embed_dim;
    for (size_t done = 0; status == DML_OK && done < images->n;) {
        size_t n = piece;
        if (images->n - done < piece)
            for (n = 1; 2 * n <= images->n - done;)
                n *= 2;
        const struct plan *plan;
        status =
            forward_piece(network, PLAN_EMBED, images, done, n, embeddings + done * dim, &plan);
        done += n;
    }
    return status;
}

/* The embeddings of a training batch that is computed in pieces. They are those of inference but
 * for what is random in training. */
static enum dml_status forward_in_pieces(struct cuda_network *network,
                                         const struct dml_images *images, float *embeddings) {
    size_t dim = (size_t)network->graph->embed_dim, piece = network->options.micro_batch;
    enum dml_status status = DML_OK;
    if (!has_op(network->graph, DML_OP_DROP_PATH))
        return embed_images(network, images, embeddings);
    for (size_t done = 0; status == DML_OK && done < images->n; done += piece) {
        size_t n = images->n - done < piece ? images->n - done : piece;
        const struct plan *plan;
        status =
            forward_piece(network, PLAN_TRAIN, images, done, n, embeddings + done * dim, &plan);
    }
    return status;
}

static enum dml_status embed(struct dml_network *network, const struct dml_images *images,
                             float *embeddings) {
    return embed_images(cuda_of(network), images, embeddings);
}

static enum dml_status forward(struct dml_network *base, const struct dml_images *images,
                               float *embeddings) {
    struct cuda_network *network = cuda_of(base);
    size_t micro = network->options.micro_batch;
    const struct plan *plan = NULL;
    network->waiting.valid = false;
    enum dml_status status = check_images(network, images);
    if (status == DML_OK && images->n == 0)
        status = dml_fail(DML_ERROR_INPUT, "network: an empty batch");
    if (status != DML_OK)
        return status;
    status = micro && micro < images->n
                 ? forward_in_pieces(network, images, embeddings)
                 : forward_piece(network, PLAN_TRAIN, images, 0, images->n, embeddings, &plan);
    if (status != DML_OK)
        return status;
    network->waiting.plan = plan;
    network->waiting.images = *images;
    network->waiting.valid = true;
    return DML_OK;
}

/* Piece by piece forward once more, now keeping activations, and backward. */
static enum dml_status backward_in_pieces(struct cuda_network *network, const float *grad) {
    const struct dml_images *images = &network->waiting.images;
    size_t dim = (size_t)network->graph->embed_dim;
    float *embeddings = dml_alloc(network->options.micro_batch * dim, sizeof *embeddings);
    enum dml_status status = embeddings ? DML_OK : DML_ERROR_MEMORY;
    for (size_t done = 0; status == DML_OK && done < images->n;) {
        size_t n = images->n - done;
        if (n > network->options.micro_batch)
            n = network->options.micro_batch;
        const struct plan *plan;
        status = forward_piece(network, PLAN_TRAIN, images, done, n, embeddings, &plan);
        if (status == DML_OK) {
            struct cuda_run run = run_of(network, plan, images, done);
            status = cuda_run_backward(&run, grad + done * dim);
        }
        done += n;
    }
    free(embeddings);
    return status;
}

static enum dml_status backward(struct dml_network *base, const float *grad) {
    struct cuda_network *network = cuda_of(base);
    if (!network->waiting.valid)
        return dml_fail(DML_ERROR_USAGE,
                        "network: backward without a forward pass since the last embed");
    network->waiting.valid = false;
    if (!network->waiting.plan)
        return backward_in_pieces(network, grad);
    struct cuda_run run = run_of(network, network->waiting.plan, &network->waiting.images, 0);
    return cuda_run_backward(&run, grad);
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

static size_t memory(const struct dml_network *network) {
    return ((const struct cuda_network *)network)->arena_bytes;
}

static void destroy(struct dml_network *network) {
    close_network(cuda_of(network));
}

static struct dml_backend_abilities abilities(void) {
    static _Thread_local char reason[CUDA_REASON];
    struct dml_backend_abilities can = {.gpu = true,
                                        .built = dml_cuda_built(),
                                        .precisions =
                                            1u << DML_PRECISION_FP32 | 1u << DML_PRECISION_TF32,
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

const struct dml_backend dml_backend_cuda = {
    .name = "cuda",
    .abilities = abilities,
    .check = check_options,
    .create = create,
    .destroy = destroy,
    .read = read_param,
    .write = write_param,
    .embed = embed,
    .forward = forward,
    .backward = backward,
    .gradient_size = gradient_size,
    .clip = clip,
    .step = step,
    .average = average,
    .exchange = exchange,
    .memory = memory,
};
