#include "plan/plan.h"
#include "support/golden.h"
#include "support/networks.h"

#include <stdlib.h>
#include <string.h>

/* The planner alone, with backends that do not exist. */

struct made_up {
    bool plain;   /* nothing is fused */
    bool refuses; /* one kind of fusion */
    enum plan_fusion_kind refused;
    int made, destroyed; /* kernels */
};

static bool fuses(void *context, const struct dml_graph *graph, const struct plan_fusion *fusion,
                  enum dml_op op) {
    (void)graph, (void)fusion, (void)op;
    return !((struct made_up *)context)->plain;
}

static bool supports(void *context, const struct dml_graph *graph,
                     const struct plan_fusion *fusion) {
    (void)graph;
    const struct made_up *backend = context;
    return !backend->refuses || fusion->kind != backend->refused;
}

/* Which ones do differs between backends; for the plan it is the harder case that many do. */
static bool reads_input(void *context, const struct plan_fusion *fusion) {
    (void)context;
    return fusion->kind != PLAN_FUSION_TOKENS && fusion->kind != PLAN_FUSION_DROP_PATH;
}

struct kernels {
    struct made_up *of;
};

static enum dml_status make_kernels(void *context, const struct plan *plan, int fusion,
                                    void **out) {
    if (plan->fusions.fusions[fusion].kind != PLAN_FUSION_CONV)
        return DML_OK;
    struct kernels *kernels = *out = malloc(sizeof *kernels);
    assert_non_null(kernels);
    kernels->of = context;
    kernels->of->made++;
    return DML_OK;
}

static void destroy_kernels(void *kernels) {
    ((struct kernels *)kernels)->of->destroyed++;
    free(kernels);
}

static size_t state_of(void *context, const struct plan *plan, int fusion) {
    (void)context;
    enum plan_fusion_kind kind = plan->fusions.fusions[fusion].kind;
    return kind == PLAN_FUSION_NORM || kind == PLAN_FUSION_MAX_POOL || kind == PLAN_FUSION_ATTENTION
               ? 1000 * plan->n
               : 0;
}

static size_t scratch_of(void *context, const struct plan *plan, const struct plan_step *step) {
    (void)context, (void)plan;
    return step->kind == PLAN_STEP_CONV_WEIGHTS ? 70001 : step->fusion % 3 == 1 ? 333 : 0;
}

static struct plan_traits traits_of(struct made_up *backend) {
    return (struct plan_traits){.backend = "paper",
                                .context = backend,
                                .order = PLAN_BLOCKED,
                                .block = 16,
                                .image_block = 1,
                                .alignment = 64,
                                .patches = true,
                                .overwrites_residual = true,
                                .pool_masks = true,
                                .supports = supports,
                                .fuses = fuses,
                                .reads_input = reads_input,
                                .make_kernels = make_kernels,
                                .destroy_kernels = destroy_kernels,
                                .state = state_of,
                                .scratch = scratch_of};
}

/* As a GPU would have it. */
static struct plan_traits channels_last(struct made_up *backend) {
    struct plan_traits traits = traits_of(backend);
    traits.order = PLAN_CHANNELS_LAST;
    traits.block = traits.image_block = 8;
    traits.alignment = 256;
    traits.patches = traits.overwrites_residual = traits.pool_masks = false;
    return traits;
}

/* A plan carried out on paper: what each piece of the arena holds. */
enum content { NOTHING, VALUE, GRADIENT, STATE, SCRATCH };
struct paper {
    const struct plan *plan;
    int *owner; /* the slot that wrote last to each piece of `alignment` bytes, or -1 */
    struct {
        enum content content;
        int fusion;
    } * holds; /* per slot */
};

static void write_to(struct paper *p, struct plan_ref ref, enum content content, int fusion) {
    if (ref.slot < 0)
        return;
    const struct plan_slot *slot = &p->plan->slots[ref.slot];
    size_t alignment = p->plan->traits->alignment;
    assert_true(slot->offset % alignment == 0 &&
                slot->offset + slot->bytes <= p->plan->arena_bytes);
    for (size_t i = 0; i < slot->bytes / alignment; i++)
        p->owner[slot->offset / alignment + i] = ref.slot;
    p->holds[ref.slot].content = content;
    p->holds[ref.slot].fusion = fusion;
}

/* What was written is there still, in all of the slot. */
static void read_from(const struct paper *p, struct plan_ref ref, enum content content) {
    if (ref.slot < 0)
        return;
    const struct plan_slot *slot = &p->plan->slots[ref.slot];
    size_t alignment = p->plan->traits->alignment;
    for (size_t i = 0; i < slot->bytes / alignment; i++)
        assert_int_equal(p->owner[slot->offset / alignment + i], ref.slot);
    assert_int_equal(p->holds[ref.slot].content, content);
}

/* The value of fusion u: its own tensor, or for a mask also its channels of a concatenation's. */
static void read_value(const struct paper *p, struct plan_ref ref, int u, bool mask) {
    assert_true(ref.slot >= 0);
    read_from(p, ref, VALUE);
    const struct plan_fusion *fusion = &p->plan->fusions.fusions[u];
    int held = p->holds[ref.slot].fusion;
    if (held == u) {
        assert_true(ref.offset == 0 && ref.image == fusion->layout.image &&
                    ref.pixel == (size_t)fusion->layout.block);
        return;
    }
    const struct plan_fusion *whole = &p->plan->fusions.fusions[held];
    assert_true(mask && whole->kind == PLAN_FUSION_CONCAT);
    size_t channel = 0;
    int k = 0;
    for (; k < whole->input_count && whole->inputs[k] != u; k++)
        channel += (size_t)p->plan->fusions.fusions[whole->inputs[k]].layout.channels;
    assert_true(k < whole->input_count);
    assert_true(ref.offset == plan_layout_offset(&whole->layout, channel) &&
                ref.image == whole->layout.image && ref.pixel == (size_t)whole->layout.block);
    assert_true(channel % (size_t)p->plan->traits->block == 0);
}

static void forward_on_paper(struct paper *p, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(p->plan, step);
    write_to(p, step->scratch, SCRATCH, step->fusion);
    write_to(p, step->state, STATE, step->fusion);
    if (step->out.slot != step->in.slot && step->out.slot != step->other.slot)
        write_to(p, step->out, NOTHING, step->fusion);
    if (fusion->kind == PLAN_FUSION_CONCAT)
        for (int k = 0; k < fusion->input_count; k++)
            read_value(p, step->terms[k], fusion->inputs[k], false);
    else if (fusion->input_count)
        read_value(p, step->in, fusion->inputs[0], false);
    if (fusion->residual >= 0)
        read_value(p, step->other, fusion->residual, false);
    write_to(p, step->out, VALUE, step->fusion);
}

/* The fusion whose value a backward step reads besides gradients, or -1. */
static int value_read(const struct plan *plan, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(plan, step);
    switch (step->kind) {
    case PLAN_STEP_CONV_WEIGHTS:
    case PLAN_STEP_NORM:
    case PLAN_STEP_FROZEN_NORM:
    case PLAN_STEP_GLOBAL_GEM_POOL:
        return fusion->inputs[0];
    case PLAN_STEP_OPERATION:
        return reads_input(NULL, fusion) ? fusion->inputs[0] : -1;
    case PLAN_STEP_L2_NORMALIZE:
        return step->fusion;
    case PLAN_STEP_COMBINE: /* masks */
    case PLAN_STEP_MAX_POOL:
        return step->other.slot >= 0 ? step->fusion : -1;
    default:
        assert_int_equal(step->other.slot, -1);
        return -1;
    }
}

static void backward_on_paper(struct paper *p, const struct plan_step *step) {
    bool in_place = step->out.slot == step->in.slot;
    for (int t = 0; t < step->term_count; t++)
        in_place |= step->out.slot == step->terms[t].slot;
    write_to(p, step->scratch, SCRATCH, step->fusion);
    if (!in_place)
        write_to(p, step->out, NOTHING, step->fusion);
    if (step->kind != PLAN_STEP_OUTPUT_GRAD && step->kind != PLAN_STEP_COMBINE)
        assert_true(step->in.slot >= 0);
    read_from(p, step->in, GRADIENT);
    for (int t = 0; t < step->term_count; t++)
        read_from(p, step->terms[t], GRADIENT);
    int value = value_read(p->plan, step);
    if (value >= 0)
        read_value(p, step->other, value, step->kind == PLAN_STEP_COMBINE);
    if (step->state.slot >= 0) {
        read_from(p, step->state, STATE);
        assert_int_equal(p->holds[step->state.slot].fusion, step->fusion);
    }
    write_to(p, step->out, GRADIENT, step->fusion);
}

static bool learns(const struct dml_graph *graph, int node) {
    if (node < 0)
        return false;
    const struct dml_node *n = &graph->nodes[node];
    for (int i = n->first_param; i < n->first_param + n->param_count; i++)
        if (dml_param_learnable(&graph->params[i]))
            return true;
    return false;
}

/* Each fusion that learns has the step that makes its gradients. */
static void check_gradients(const struct plan *plan) {
    int *steps = calloc((size_t)plan->fusions.count, sizeof *steps);
    for (size_t s = plan->forward_steps; s < plan->step_count; s++) {
        enum plan_step_kind kind = plan->steps[s].kind;
        steps[plan->steps[s].fusion] += kind == PLAN_STEP_CONV_WEIGHTS || kind == PLAN_STEP_NORM ||
                                        kind == PLAN_STEP_FROZEN_NORM ||
                                        kind == PLAN_STEP_GLOBAL_GEM_POOL ||
                                        kind == PLAN_STEP_OPERATION;
    }
    for (int u = 0; u < plan->fusions.count; u++) {
        const struct plan_fusion *fusion = &plan->fusions.fusions[u];
        if (learns(plan->graph, fusion->node) || learns(plan->graph, fusion->norm))
            assert_int_equal(steps[u], 1);
    }
    free(steps);
}

static void check_plan(const struct plan *plan) {
    size_t pieces = plan->arena_bytes / plan->traits->alignment;
    struct paper p = {.plan = plan,
                      .owner = malloc((pieces + 1) * sizeof *p.owner),
                      .holds = calloc(plan->slot_count, sizeof *p.holds)};
    for (size_t i = 0; i < pieces; i++)
        p.owner[i] = -1;
    size_t s = 0;
    for (; s < plan->forward_steps; s++)
        forward_on_paper(&p, &plan->steps[s]);
    read_value(&p, plan->embeddings, plan->fusions.output, false);
    assert_int_equal(plan->kind == PLAN_TRAIN, s < plan->step_count);
    int before = plan->fusions.count;
    for (; s < plan->step_count; s++) {
        if (plan->steps[s].kind == PLAN_STEP_FORWARD) {
            assert_true(plan->traits->recompute && plan->steps[s].fusion < before);
            forward_on_paper(&p, &plan->steps[s]);
            continue;
        }
        backward_on_paper(&p, &plan->steps[s]);
        assert_true(plan->steps[s].fusion <= before); /* it comes after all that use its tensor */
        before = plan->steps[s].fusion;
    }
    if (plan->kind == PLAN_TRAIN)
        check_gradients(plan);
    free(p.owner);
    free(p.holds);
}

static void check_graph(const struct dml_graph *graph, const struct plan_traits *traits) {
    struct made_up *backend = traits->context;
    for (int kind = PLAN_EMBED; kind <= PLAN_TRAIN; kind++) {
        struct plan *plan;
        assert_ok(plan_create(graph, traits, (enum plan_kind)kind, 1, &plan));
        check_plan(plan);
        if (!traits->overwrites_residual)
            for (size_t s = 0; s < plan->forward_steps; s++)
                assert_true(plan->steps[s].other.slot < 0 ||
                            plan->steps[s].other.slot != plan->steps[s].out.slot);
        plan_destroy(plan);
        assert_int_equal(backend->made, backend->destroyed);
    }
}

static void check_all_backends(const struct dml_graph *graph) {
    struct made_up backend = {0}, plain = {.plain = true};
    struct plan_traits each[] = {traits_of(&backend), channels_last(&backend),
                                 traits_of(&plain),   channels_last(&plain),
                                 traits_of(&backend), channels_last(&plain)};
    each[4].recompute = each[5].recompute = true;
    each[1].tokens = each[2].tokens = each[4].tokens = PLAN_BFLOAT16;
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        check_graph(graph, &each[i]);
}

/* Carried out on paper, every step finds what it reads, whatever shares its place. */
static void every_backbone(void **state) {
    (void)state;
    size_t plain = 0, frozen = 0;
    for (size_t i = 0; dml_backbone_at(i); i++) {
        const char *const options[] = {"_normalize", "_frozen_normalize", "_frozen_gem",
                                       "_droppath0.1_normalize"};
        for (size_t k = 0; k < sizeof options / sizeof *options; k++) {
            char arch[128];
            snprintf(arch, sizeof arch, "%s%s", dml_backbone_at(i)->method.name, options[k]);
            struct dml_graph *graph;
            if (dml_graph_build(arch, 32, 112, &graph) != DML_OK &&
                dml_graph_build(arch, 32, 0, &graph) != DML_OK) /* patches of another size */
                continue;                                       /* not an option of it */
            plain += k == 0;
            frozen += graph->frozen;
            check_all_backends(graph);
            dml_graph_free(graph);
        }
        assert_true(plain == i + 1);
    }
    assert_true(frozen >= 8);
}

/* Residuals that may not be overwritten: one whose relu is needed in the backward pass, and one
 * that is used once more. */
static struct dml_graph *residuals_graph(void) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 12, 12);
    int a = dml_graph_relu(g, dml_graph_conv(g, x, "a", 16, 3, 1, 1, true));
    int sum = dml_graph_add(g, dml_graph_conv(g, x, "b", 16, 3, 1, 1, true), a);
    int once = dml_graph_add(g, dml_graph_conv(g, sum, "c", 16, 3, 1, 1, true), sum);
    int twice = dml_graph_add(g, dml_graph_conv(g, sum, "d", 16, 3, 1, 1, true), once);
    int vector = dml_graph_global_avg_pool(g, twice);
    assert_ok(dml_graph_finish(g, dml_graph_linear(g, vector, "fc", 7)));
    return g;
}

static void graphs_that_share_much(void **state) {
    (void)state;
    struct dml_graph *residuals = residuals_graph();
    check_all_backends(residuals);
    dml_graph_free(residuals);
    for (int frozen = 0; frozen <= 1; frozen++) {
        struct dml_graph *graphs[] = {unusual_graph(frozen), sharing_graph(frozen)};
        for (size_t i = 0; i < 2; i++) {
            check_all_backends(graphs[i]);
            dml_graph_free(graphs[i]);
        }
    }
}

static void refused_by_name(void **state) {
    (void)state;
    struct made_up backend = {.refuses = true, .refused = PLAN_FUSION_ATTENTION};
    struct plan_traits traits = traits_of(&backend);
    struct dml_graph *graph = graph_of("vitt16_normalize", 32);
    struct plan *plan;
    assert_int_equal(plan_create(graph, &traits, PLAN_EMBED, 2, &plan), DML_ERROR_UNSUPPORTED);
    assert_null(plan);
    assert_string_equal(dml_error(),
                        "--arch vitt16_normalize: the paper backend does not compute attention");
    backend.refused = PLAN_FUSION_CONV;
    check_graph(graph, &traits); /* its convolution is patches */
    dml_graph_free(graph);
    graph = graph_of("resnet18", 64);
    assert_int_equal(plan_create(graph, &traits, PLAN_TRAIN, 2, &plan), DML_ERROR_UNSUPPORTED);
    assert_string_equal(dml_error(), "--arch resnet18: the paper backend does not compute "
                                     "convolution, as needed for conv1");
    dml_graph_free(graph);
}

static int count_fusions(const struct plan *plan, enum plan_fusion_kind kind) {
    int count = 0;
    for (int u = 0; u < plan->fusions.count; u++)
        count += plan->fusions.fusions[u].kind == kind;
    return count;
}

/* ResNet-18: 20 convolutions; 17 relus, 8 sums and 20 norms that go into them or do not. */
static void fused_or_not(void **state) {
    (void)state;
    struct made_up backend = {0};
    struct plan_traits traits = traits_of(&backend);
    struct dml_graph *graph = graph_of("resnet18_frozen", 64);
    struct plan *plan;
    assert_ok(plan_create(graph, &traits, PLAN_TRAIN, 2, &plan));
    assert_int_equal(count_fusions(plan, PLAN_FUSION_CONV), 20);
    assert_int_equal(count_fusions(plan, PLAN_FUSION_POINTWISE), 0);
    assert_int_equal(backend.made, 20);
    plan_destroy(plan);
    backend.plain = true;
    assert_ok(plan_create(graph, &traits, PLAN_TRAIN, 2, &plan));
    assert_int_equal(count_fusions(plan, PLAN_FUSION_CONV), 20);
    assert_int_equal(count_fusions(plan, PLAN_FUSION_POINTWISE), 17 + 8 + 20);
    plan_destroy(plan);
    dml_graph_free(graph);
}

/* All channels of a pixel side by side, in whole vectors; concatenations are seen through rows of
 * their own length. */
static void channels_lie_last(void **state) {
    (void)state;
    struct made_up backend = {0};
    struct plan_traits traits = channels_last(&backend);
    struct dml_graph *graph = graph_of("googlenet_normalize", 64);
    struct plan *plan;
    assert_ok(plan_create(graph, &traits, PLAN_TRAIN, 2, &plan));
    for (int u = 0; u < plan->fusions.count; u++) {
        const struct plan_layout *layout = &plan->fusions.fusions[u].layout;
        assert_true(layout->groups == 1 && layout->block % 8 == 0 &&
                    layout->block - layout->channels < 8);
    }
    int views = 0;
    for (size_t s = plan->forward_steps; s < plan->step_count; s++) {
        const struct plan_ref *mask = &plan->steps[s].other;
        const struct plan_fusion *fusion = plan_fusion_of(plan, &plan->steps[s]);
        if (plan->steps[s].kind == PLAN_STEP_COMBINE && mask->slot >= 0 &&
            mask->pixel > (size_t)fusion->layout.block)
            views++;
    }
    assert_true(views >= 9 * 4 - 1); /* the branches of nine inception blocks */
    plan_destroy(plan);
    dml_graph_free(graph);
}

/* With recomputation only what leaves a block lives from the forward to the backward pass. */
static void blocks_are_recomputed(void **state) {
    (void)state;
    struct made_up backend = {0};
    struct plan_traits traits = traits_of(&backend);
    struct dml_graph *graph = graph_of("vits16_droppath0.1_normalize", 224);
    size_t bytes[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        struct plan *plan;
        traits.recompute = recompute;
        assert_ok(plan_create(graph, &traits, PLAN_TRAIN, 4, &plan));
        bytes[recompute] = plan->arena_bytes;
        int kept = 0;
        for (size_t i = 0; i < plan->slot_count; i++)
            kept += plan->slots[i].first >= 0 && plan->slots[i].bytes >= 4 * 197 * 384 * 4 &&
                    (size_t)plan->slots[i].first < plan->forward_steps &&
                    (size_t)plan->slots[i].last > plan->forward_steps;
        if (recompute) /* the image, the tokens, what leaves each block, and the norm after them */
            assert_int_equal(kept, 1 + 1 + 12 + 1);
        plan_destroy(plan);
    }
    assert_true(bytes[1] < bytes[0] / 4);
    dml_graph_free(graph);
}

/* Tokens that only products and what scales them read are bfloat16, with their gradients; what is
 * normalised, added up or pooled is not. */
static void check_tokens(const char *arch, int size, int narrow) {
    struct made_up backend = {0};
    struct plan_traits traits = traits_of(&backend);
    traits.tokens = PLAN_BFLOAT16;
    struct dml_graph *graph = graph_of(arch, size);
    struct plan *plan;
    assert_ok(plan_create(graph, &traits, PLAN_TRAIN, 2, &plan));
    const struct plan_fusion *fusions = plan->fusions.fusions;
    int count = 0;
    for (int u = 0; u < plan->fusions.count; u++) {
        const struct plan_fusion *fusion = &fusions[u];
        bool is = fusion->layout.element == PLAN_BFLOAT16;
        count += is;
        assert_false(is && (fusion->residual >= 0 || fusion->kind == PLAN_FUSION_TOKENS));
        enum plan_fusion_kind kind = fusion->kind;
        if (kind == PLAN_FUSION_LAYER_NORM || kind == PLAN_FUSION_TOKEN_POOL ||
            kind == PLAN_FUSION_POINTWISE)
            assert_int_equal(fusions[fusion->inputs[0]].layout.element, PLAN_FLOAT32);
        if (fusion->residual >= 0)
            assert_int_equal(fusions[fusion->residual].layout.element, PLAN_FLOAT32);
    }
    assert_int_equal(count, narrow);
    for (size_t s = plan->forward_steps; s < plan->step_count; s++) {
        const struct plan_step *step = &plan->steps[s];
        if (step->kind != PLAN_STEP_OPERATION)
            continue;
        const struct plan_fusion *fusion = &fusions[step->fusion];
        assert_int_equal(step->in.element, fusion->layout.element);
        if (step->out.slot >= 0)
            assert_int_equal(step->out.element, fusions[fusion->inputs[0]].layout.element);
    }
    plan_destroy(plan);
    dml_graph_free(graph);
}

static void tokens_between_products(void **state) {
    (void)state;
    /* Of a block: two norms, qkv, attention, one layer of the perceptron and its GELU. */
    check_tokens("dinov2s14_reg_clsavg", 42, 12 * 8); /* and two more layers, before layer scale */
    check_tokens("vits16_droppath0.1_normalize", 48, 12 * 6 + 11 * 2); /* before what drops paths */
    check_tokens("clipb16_normalize", 48, 12 * 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_backbone),          cmocka_unit_test(graphs_that_share_much),
        cmocka_unit_test(refused_by_name),         cmocka_unit_test(fused_or_not),
        cmocka_unit_test(channels_lie_last),       cmocka_unit_test(blocks_are_recomputed),
        cmocka_unit_test(tokens_between_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
