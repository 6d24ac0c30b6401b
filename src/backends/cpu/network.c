#include "backends/backend.h"

#include "backends/cpu/run.h"
#include "backends/cpu/traits.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The CPU backend: parameters, a few plans of different batch sizes, and the one arena that they
 * all work in. */
enum { MOST_PLANS = 8 };

struct cpu_network {
    struct dml_network base;
    struct dml_network_options options;
    struct cpu_engine *engine;
    struct cpu_params params;
    struct cpu_planning planning;
    struct plan_traits traits;
    struct plan *plans[MOST_PLANS]; /* the last used first */
    int plan_count;
    char *arena;
    size_t arena_bytes;
    float *piece; /* gradients of a piece of a batch, to be added to the others; NULL until then */
    /* The forward pass that waits for its backward pass. */
    struct {
        bool valid;
        const struct plan *plan; /* NULL with micro-batches */
        struct dml_images images;
    } waiting;
};

static struct cpu_network *cpu_of(struct dml_network *network) {
    return (struct cpu_network *)network; /* which it starts with */
}

static void close_network(struct cpu_network *network) {
    for (int i = 0; i < network->plan_count; i++)
        plan_destroy(network->plans[i]);
    cpu_params_destroy(&network->params);
    cpu_engine_destroy(network->engine);
    free(network->arena);
    free(network->piece);
    free(network);
}

/* Whether the graph has a node with this operation. */
static bool has_op(const struct dml_graph *graph, enum dml_op op) {
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == op)
            return true;
    return false;
}

static const char no_bf16[] = "this processor has no fast bfloat16 arithmetic (AVX-512 BF16 or "
                              "AMX), so it would not be faster than fp32";

static struct dml_backend_abilities abilities(void) {
    bool bf16 = cpu_engine_bf16() != CPU_BF16_NONE;
    return (struct dml_backend_abilities){
        .devices = 1,
        .precisions = 1u << DML_PRECISION_FP32 | (bf16 ? 1u << DML_PRECISION_BF16 : 0),
        .micro_batches = true,
        .reason = bf16 ? NULL : no_bf16,
    };
}

static enum dml_status check_options(const struct dml_graph *graph,
                                     const struct dml_network_options *options) {
    if (options->precision == DML_PRECISION_TF32)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--precision tf32: only GPUs compute so");
    if (options->precision == DML_PRECISION_BF16 && cpu_engine_bf16() == CPU_BF16_NONE)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--precision bf16: %s", no_bf16);
    if (options->recompute && !has_op(graph, DML_OP_ATTENTION))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--recompute: --arch %s has no transformer's blocks to compute once more "
                        "(--micro_bs saves memory, too)",
                        graph->arch);
    if (options->micro_batch && !graph->frozen && has_op(graph, DML_OP_BATCH_NORM))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--micro_bs %zu: batch norm with the batch's statistics ties the images "
                        "of a batch together; only a frozen one (--arch %s_frozen) allows pieces",
                        options->micro_batch, graph->arch);
    return DML_OK;
}

static enum dml_status create(const struct dml_graph *graph,
                              const struct dml_network_options *options, struct dml_network **out) {
    *out = NULL;
    struct cpu_network *network = dml_alloc(1, sizeof *network);
    if (!network)
        return DML_ERROR_MEMORY;
    network->options = *options;
    enum dml_status status = cpu_engine_create(&network->engine);
    size_t batch = options->micro_batch ? options->micro_batch : options->batch_hint;
    /* Feature maps are bfloat16; tokens stay float32, and their products are of bfloat16. */
    bool narrow = options->precision == DML_PRECISION_BF16, tokens = has_op(graph, DML_OP_TOKENS);
    enum plan_element maps = narrow && !tokens ? PLAN_BFLOAT16 : PLAN_FLOAT32;
    if (status == DML_OK)
        status = cpu_params_create(graph, network->engine, batch ? batch : 32, cpu_engine_block(),
                                   maps, &network->params);
    if (status != DML_OK) {
        close_network(network);
        return status;
    }
    network->params.narrow_products = narrow && tokens ? network->engine : NULL;
    network->planning = (struct cpu_planning){network->engine, &network->params};
    network->traits = cpu_traits(&network->planning, cpu_engine_block());
    network->traits.recompute = options->recompute;
    *out = &network->base;
    return DML_OK;
}

/* Finds or makes a plan and moves it to the front; the least used one makes room. */
static enum dml_status plan_for(struct cpu_network *network, enum plan_kind kind, size_t n,
                                const struct plan **out) {
    int at = 0;
    while (at < network->plan_count &&
           (network->plans[at]->kind != kind || network->plans[at]->n != n))
        at++;
    struct plan *plan;
    if (at < network->plan_count) {
        plan = network->plans[at];
    } else {
        enum dml_status status = plan_create(network->base.graph, &network->traits, kind, n, &plan);
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

static enum dml_status need_arena(struct cpu_network *network, size_t bytes) {
    if (bytes <= network->arena_bytes)
        return DML_OK;
    free(network->arena);
    network->arena_bytes = 0;
    network->arena = dml_alloc_aligned(bytes, 1);
    if (!network->arena)
        return dml_fail(DML_ERROR_MEMORY,
                        "activations of the network need %.1f GB, which is more than there is; a "
                        "smaller batch, or --micro_bs with frozen batch norm, needs less",
                        (double)bytes / 1e9);
    network->arena_bytes = bytes;
    return DML_OK;
}

static enum dml_status check_images(const struct cpu_network *network,
                                    const struct dml_images *images) {
    const struct dml_node *input = &network->base.graph->nodes[0];
    if (!images->pixels == !images->input)
        return dml_fail(DML_ERROR_USAGE, "images: exactly one of pixels and input must be given");
    if (input->channels != 3 || images->height != input->height || images->width != input->width)
        return dml_fail(DML_ERROR_INPUT, "images of %d x %d: the network takes %d x %d",
                        images->width, images->height, input->width, input->height);
    return DML_OK;
}

static struct cpu_run run_of(struct cpu_network *network, const struct plan *plan,
                             const struct dml_images *images, size_t first) {
    return (struct cpu_run){plan,  &network->params,      network->arena, images,
                            first, network->options.parts};
}

/* A piece of a batch through a plan of its size. */
static enum dml_status forward_piece(struct cpu_network *network, enum plan_kind kind,
                                     const struct dml_images *images, size_t first, size_t n,
                                     float *embeddings, const struct plan **plan) {
    enum dml_status status = plan_for(network, kind, n, plan);
    if (status == DML_OK)
        status = need_arena(network, (*plan)->arena_bytes);
    if (status != DML_OK)
        return status;
    const struct cpu_run run = run_of(network, *plan, images, first);
    return cpu_run_forward(&run, embeddings);
}

/* Images that go through inference at once: enough to keep all cores busy, few enough that the
 * largest activations stay near the cores. */
static size_t embed_piece(const struct cpu_network *network) {
    const struct dml_node *input = &network->base.graph->nodes[0];
    size_t pixels = (size_t)input->height * (size_t)input->width;
    size_t piece = network->options.micro_batch;
    if (!piece)
        piece = (size_t)32 * 224 * 224 / pixels;
    return piece < 8 ? 8 : piece > 128 ? 128 : piece;
}

/* In whole pieces, then the rest in powers of two, so that there are few sizes to plan for. */
static enum dml_status embed_all(struct cpu_network *network, const struct dml_images *images,
                                 float *embeddings) {
    enum dml_status status = check_images(network, images);
    network->waiting.valid = false;
    size_t piece = embed_piece(network), dim = (size_t)network->base.graph->embed_dim;
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
static enum dml_status forward_in_pieces(struct cpu_network *network,
                                         const struct dml_images *images, float *embeddings) {
    size_t dim = (size_t)network->base.graph->embed_dim, piece = network->options.micro_batch;
    enum dml_status status = DML_OK;
    if (!has_op(network->base.graph, DML_OP_DROP_PATH))
        return embed_all(network, images, embeddings);
    for (size_t done = 0; status == DML_OK && done < images->n; done += piece) {
        size_t n = images->n - done < piece ? images->n - done : piece;
        const struct plan *plan;
        status =
            forward_piece(network, PLAN_TRAIN, images, done, n, embeddings + done * dim, &plan);
    }
    return status;
}

static enum dml_status embed(struct dml_network *handle, const struct dml_images *images,
                             float *embeddings) {
    return embed_all(cpu_of(handle), images, embeddings);
}

static enum dml_status forward(struct dml_network *handle, const struct dml_images *images,
                               float *embeddings) {
    struct cpu_network *network = cpu_of(handle);
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

/* The gradients of a piece behind the first are added to those before it when they are complete:
 * the sum that as many processes get of a piece each. */
static enum dml_status add_piece(struct cpu_network *network, const struct cpu_run *run,
                                 const float *grad) {
    struct cpu_params *params = &network->params;
    float *sums = params->grads;
    if (!network->piece) {
        network->piece = dml_alloc_aligned(params->learnable, sizeof *sums);
        if (!network->piece)
            return DML_ERROR_MEMORY;
        memset(network->piece, 0, params->learnable * sizeof *sums);
    }
    params->grads = network->piece;
    enum dml_status status = cpu_run_backward(run, grad);
    params->grads = sums;
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < params->learnable; i++)
        sums[i] += network->piece[i];
    return status;
}

/* Piece by piece forward once more, now keeping activations, and backward. */
static enum dml_status backward_in_pieces(struct cpu_network *network, const float *grad) {
    const struct dml_images *images = &network->waiting.images;
    size_t dim = (size_t)network->base.graph->embed_dim;
    float *embeddings = dml_alloc(network->options.micro_batch * dim, sizeof *embeddings);
    enum dml_status status = embeddings ? DML_OK : DML_ERROR_MEMORY;
    for (size_t done = 0; status == DML_OK && done < images->n;) {
        size_t n = images->n - done;
        if (n > network->options.micro_batch)
            n = network->options.micro_batch;
        const struct plan *plan;
        status = forward_piece(network, PLAN_TRAIN, images, done, n, embeddings, &plan);
        const struct cpu_run run = run_of(network, plan, images, done);
        if (status == DML_OK)
            status =
                done ? add_piece(network, &run, grad + done * dim) : cpu_run_backward(&run, grad);
        done += n;
    }
    free(embeddings);
    return status;
}

static enum dml_status backward(struct dml_network *handle, const float *grad) {
    struct cpu_network *network = cpu_of(handle);
    if (!network->waiting.valid)
        return dml_fail(DML_ERROR_USAGE,
                        "network: backward without a forward pass since the last embed");
    network->waiting.valid = false;
    if (!network->waiting.plan)
        return backward_in_pieces(network, grad);
    const struct cpu_run run = run_of(network, network->waiting.plan, &network->waiting.images, 0);
    return cpu_run_backward(&run, grad);
}

static enum dml_status gradients(struct dml_network *network, float **values, size_t *count) {
    *values = cpu_of(network)->params.grads;
    *count = cpu_of(network)->params.learnable;
    return DML_OK;
}

static enum dml_status read_param(struct dml_network *network, int index, enum dml_slot slot,
                                  float *values) {
    return cpu_params_read(&cpu_of(network)->params, index, slot, values);
}

static enum dml_status write_param(struct dml_network *network, int index, enum dml_slot slot,
                                   const float *values) {
    return cpu_params_write(&cpu_of(network)->params, index, slot, values);
}

static enum dml_status gradient_size(struct dml_network *network, const struct dml_spans *spans,
                                     struct dml_gradient_size *size) {
    *size = cpu_params_gradient_size(&cpu_of(network)->params, spans);
    return DML_OK;
}

static enum dml_status clip(struct dml_network *network, const struct dml_spans *spans,
                            double scale, double limit) {
    cpu_params_clip(&cpu_of(network)->params, spans, scale, limit);
    return DML_OK;
}

static enum dml_status step(struct dml_network *network, const struct dml_optimiser_step *step) {
    return cpu_params_step(&cpu_of(network)->params, step);
}

static enum dml_status average(struct dml_network *network, double decay) {
    return cpu_params_average(&cpu_of(network)->params, decay);
}

static enum dml_status exchange(struct dml_network *network) {
    return cpu_params_exchange(&cpu_of(network)->params);
}

static size_t memory(const struct dml_network *network) {
    return ((const struct cpu_network *)network)->arena_bytes;
}

static void destroy(struct dml_network *network) {
    close_network(cpu_of(network));
}

const struct dml_backend dml_backend_cpu = {
    .name = "cpu",
    .abilities = abilities,
    .check = check_options,
    .create = create,
    .destroy = destroy,
    .read = read_param,
    .write = write_param,
    .embed = embed,
    .forward = forward,
    .backward = backward,
    .gradients = gradients,
    .gradient_size = gradient_size,
    .clip = clip,
    .step = step,
    .average = average,
    .exchange = exchange,
    .memory = memory,
};
