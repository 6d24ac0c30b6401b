#include "backends/planned.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static struct dml_planned *planned_of(struct dml_network *network) {
    return (struct dml_planned *)network; /* its first member */
}

bool dml_planned_has(const struct dml_graph *graph, enum dml_op op) {
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == op)
            return true;
    return false;
}

bool dml_planned_in_pieces(const struct dml_graph *graph) {
    return graph->frozen || !dml_planned_has(graph, DML_OP_BATCH_NORM);
}

enum dml_status dml_planned_check(const struct dml_graph *graph,
                                  const struct dml_network_options *options) {
    if (options->recompute && !dml_planned_has(graph, DML_OP_ATTENTION))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--recompute: --arch %s has no transformer blocks to compute again "
                        "(--micro_bs saves memory, too)",
                        graph->arch);
    if (options->micro_batch && !dml_planned_in_pieces(graph))
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--micro_bs %zu: batch norm with the batch's statistics ties the images "
                        "of a batch together; only frozen ones, as resnet50_frozen has them, allow "
                        "pieces",
                        options->micro_batch);
    return DML_OK;
}

/* Finds or makes a plan and moves it to the front; the least recently used one makes way. */
static enum dml_status plan_for(struct dml_planned *network, enum plan_kind kind, size_t n,
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
        if (status)
            return status;
        if (network->plan_count == DML_PLANS)
            plan_destroy(network->plans[--network->plan_count]);
        at = network->plan_count++;
    }
    memmove(network->plans + 1, network->plans, (size_t)at * sizeof(struct plan *));
    network->plans[0] = plan;
    *out = plan;
    return DML_OK;
}

static enum dml_status check_images(const struct dml_planned *network,
                                    const struct dml_images *images) {
    const struct dml_node *input = &network->base.graph->nodes[0];
    if (!images->pixels == !images->input)
        return dml_fail(DML_ERROR_USAGE, "images: exactly one of pixels and input must be given");
    if (input->channels != 3 || images->height != input->height || images->width != input->width)
        return dml_fail(DML_ERROR_INPUT, "images of %d x %d: the network takes %d x %d",
                        images->width, images->height, input->width, input->height);
    return DML_OK;
}

void dml_planned_announce(struct dml_network *base, const struct dml_images *images) {
    struct dml_planned *network = planned_of(base);
    if (images)
        network->announced = *images;
    else
        network->announced.n = network->next.n = 0;
}

/* At the beginning of a call: whether these images are those that a pass was told of. */
static bool were_announced(struct dml_planned *network, const struct dml_images *images) {
    const struct dml_images next = network->next;
    network->next.n = 0;
    return next.n && next.n == images->n && next.pixels == images->pixels &&
           next.input == images->input;
}

/* What follows a pass over n images: the rest of its batch; after its end `after`, or, where that
 * is NULL, what was announced. */
static void set_next(struct dml_planned *network, struct dml_planned_pass *pass, size_t n,
                     const struct dml_images *after) {
    pass->next = pass->images;
    pass->next_first = pass->first + n;
    if (pass->next_first < pass->images->n)
        return;
    pass->next_first = 0;
    pass->next = after;
    if (after)
        return;
    network->next = network->announced;
    network->announced.n = 0;
    pass->next = network->next.n ? &network->next : NULL;
}

/* A piece of a batch through a plan of its size. */
static enum dml_status forward_piece(struct dml_planned *network, enum plan_kind kind,
                                     struct dml_planned_pass *pass, size_t n, float *embeddings) {
    enum dml_status status = plan_for(network, kind, n, &pass->plan);
    if (!status)
        status = network->calls->need(network, pass->plan);
    if (!status)
        status = network->calls->forward(network, pass, embeddings);
    return status;
}

/* Images that go through inference at once. */
static size_t embed_piece(const struct dml_planned *network) {
    const struct dml_node *input = &network->base.graph->nodes[0];
    size_t pixels = (size_t)input->height * (size_t)input->width;
    size_t piece = network->options.micro_batch, most = network->calls->embed_most;
    if (!piece)
        piece = network->calls->embed * 224 * 224 / pixels;
    return piece < 8 ? 8 : piece > most ? most : piece;
}

/* In whole pieces, then the rest in powers of two, so that there are few sizes to plan for. */
enum dml_status dml_planned_embed(struct dml_network *base, const struct dml_images *images,
                                  float *embeddings) {
    struct dml_planned *network = planned_of(base);
    enum dml_status status = check_images(network, images);
    network->waiting.valid = false;
    struct dml_planned_pass pass = {.images = images, .fetched = were_announced(network, images)};
    size_t piece = embed_piece(network), dim = (size_t)base->graph->embed_dim;
    for (size_t done = 0; !status && done < images->n;) {
        size_t n = piece;
        if (images->n - done < piece)
            for (n = 1; 2 * n <= images->n - done;)
                n *= 2;
        pass.first = done;
        set_next(network, &pass, n, NULL);
        status = forward_piece(network, PLAN_EMBED, &pass, n, embeddings + done * dim);
        done += n;
        pass.fetched = true;
    }
    return status;
}

/* The embeddings of a training batch that is computed in pieces. They are those of inference except
 * for what is random in training, in pieces as large as those of the backward pass, since the
 * number of images in a product may change its last bits. */
static enum dml_status forward_in_pieces(struct dml_planned *network, struct dml_planned_pass pass,
                                         float *embeddings) {
    const struct dml_images *images = pass.images;
    const struct dml_graph *graph = network->base.graph;
    size_t dim = (size_t)graph->embed_dim, piece = network->options.micro_batch;
    enum plan_kind kind = dml_planned_has(graph, DML_OP_DROP_PATH) ? PLAN_TRAIN : PLAN_EMBED;
    enum dml_status status = DML_OK;
    for (size_t done = 0; !status && done < images->n; done += piece) {
        size_t n = images->n - done < piece ? images->n - done : piece;
        pass.first = done;
        set_next(network, &pass, n, images); /* the backward pass begins again */
        status = forward_piece(network, kind, &pass, n, embeddings + done * dim);
        pass.fetched = true;
    }
    return status;
}

enum dml_status dml_planned_forward(struct dml_network *base, const struct dml_images *images,
                                    float *embeddings) {
    struct dml_planned *network = planned_of(base);
    size_t micro = network->options.micro_batch;
    network->waiting.valid = false;
    struct dml_planned_pass pass = {.images = images, .fetched = were_announced(network, images)};
    enum dml_status status = check_images(network, images);
    if (!status && images->n == 0)
        status = dml_fail(DML_ERROR_INPUT, "network: an empty batch");
    if (status)
        return status;
    if (micro && micro < images->n) {
        status = forward_in_pieces(network, pass, embeddings);
    } else {
        set_next(network, &pass, images->n, NULL);
        status = forward_piece(network, PLAN_TRAIN, &pass, images->n, embeddings);
    }
    if (status)
        return status;
    network->waiting.plan = pass.plan; /* none yet in pieces */
    network->waiting.images = *images;
    network->waiting.valid = true;
    return DML_OK;
}

/* Piece by piece: forward again, now keeping activations, and backward. */
static enum dml_status backward_in_pieces(struct dml_planned *network, const float *grad) {
    const struct dml_images *images = &network->waiting.images;
    size_t dim = (size_t)network->base.graph->embed_dim, piece = network->options.micro_batch;
    float *embeddings = dml_alloc(piece * dim, sizeof *embeddings);
    enum dml_status status = embeddings ? DML_OK : DML_ERROR_MEMORY;
    for (size_t done = 0; !status && done < images->n; done += piece) {
        size_t n = images->n - done < piece ? images->n - done : piece;
        struct dml_planned_pass pass = {.images = images, .first = done, .fetched = true};
        set_next(network, &pass, n, NULL);
        status = forward_piece(network, PLAN_TRAIN, &pass, n, embeddings);
        if (!status)
            status = network->calls->backward(network, &pass, grad + done * dim);
    }
    free(embeddings);
    return status;
}

enum dml_status dml_planned_backward(struct dml_network *base, const float *grad) {
    struct dml_planned *network = planned_of(base);
    if (!network->waiting.valid)
        return dml_fail(DML_ERROR_USAGE,
                        "network: backward without a forward pass since the last embed");
    network->waiting.valid = false;
    if (!network->waiting.plan)
        return backward_in_pieces(network, grad);
    const struct dml_planned_pass pass = {.plan = network->waiting.plan,
                                          .images = &network->waiting.images};
    return network->calls->backward(network, &pass, grad);
}

void dml_planned_close(struct dml_planned *network) {
    for (int i = 0; i < network->plan_count; i++)
        plan_destroy(network->plans[i]);
}
