#include "plan/steps.h"

#include "base/memory.h"

#include <stdlib.h>

/* The gradient of each tensor arrives as terms from the fusions that use it. They are added, and
 * the relu's mask applied, in one pass when the tensor's own fusion takes its turn; a residual's
 * term is just another name for the gradient after the add. */
struct terms {
    struct plan_ref refs[PLAN_MAX_TERMS];
    int count;
};

struct backward {
    struct plan *plan;
    struct plan_ref *values, *states;
    struct terms *terms;    /* per fusion */
    enum dml_status status; /* of the first failure; nothing is added after it */
};

static void emit(struct backward *b, const struct plan_step *step) {
    if (!b->status && !plan_append(b->plan, *step))
        b->status = DML_ERROR_MEMORY;
}

static struct plan_ref new_tensor(struct backward *b, const struct plan_layout *layout) {
    struct plan_ref ref = plan_tensor(b->plan, layout);
    if (!b->status && ref.slot < 0)
        b->status = DML_ERROR_MEMORY;
    return ref;
}

/* Adds a term to the gradient of fusion u's tensor; nothing once building has failed. */
static void add_term(struct backward *b, int u, struct plan_ref ref) {
    struct terms *terms = &b->terms[u];
    if (b->status || !b->plan->fusions.fusions[u].needs_grad)
        return;
    if (terms->count == PLAN_MAX_TERMS) {
        b->status =
            dml_fail(DML_ERROR_UNSUPPORTED, "network graph: node %d is used by more than %d others",
                     b->plan->fusions.fusions[u].last_node, PLAN_MAX_TERMS);
        return;
    }
    terms->refs[terms->count++] = ref;
    b->plan->slots[ref.slot].pending++;
}

static bool is_whole(const struct plan_ref *ref, const struct plan_layout *layout) {
    return !ref->broadcast && ref->offset == 0 && ref->image == layout->image &&
           ref->pixel == (size_t)layout->block;
}

/* The gradient of fusion u's tensor as one tensor, masked by its relu. Uses its terms up. */
static struct plan_ref gather(struct backward *b, int u) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    struct terms *terms = &b->terms[u];
    bool mask = fusion->relu && !plan_masked_by_pool(b->plan, u);
    struct plan_step step = plan_step_make(PLAN_STEP_COMBINE, u);
    for (int t = 0; t < terms->count; t++) {
        struct plan_ref ref = terms->refs[t];
        struct plan_slot *slot = &b->plan->slots[ref.slot];
        /* The last user of a term may write over it. */
        if (--slot->pending == 0 && step.out.slot < 0 && is_whole(&ref, &fusion->layout))
            step.out = ref;
        step.terms[step.term_count++] = ref;
    }
    terms->count = 0;
    if (step.term_count == 1 && !mask && is_whole(&step.terms[0], &fusion->layout))
        return step.terms[0];
    if (step.out.slot < 0)
        step.out = new_tensor(b, &fusion->layout);
    if (mask)
        step.other = b->values[u];
    emit(b, &step);
    return step.out;
}

/* For fusions that read their gradient through a view: the only term as it is, else gathered. */
static struct plan_ref gather_view(struct backward *b, int u) {
    struct terms *terms = &b->terms[u];
    if (terms->count == 1 && !terms->refs[0].broadcast && !b->plan->fusions.fusions[u].relu) {
        terms->count = 0;
        b->plan->slots[terms->refs[0].slot].pending--;
        return terms->refs[0];
    }
    return gather(b, u);
}

static bool input_needs_grad(const struct backward *b, int u) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    return b->plan->fusions.fusions[fusion->inputs[0]].needs_grad;
}

/* Runs `step` into a new tensor that becomes a term of the fusion's input. */
static void to_input(struct backward *b, struct plan_step step) {
    int input = b->plan->fusions.fusions[step.fusion].inputs[0];
    step.out = new_tensor(b, &b->plan->fusions.fusions[input].layout);
    emit(b, &step);
    add_term(b, input, step.out);
}

static void conv(struct backward *b, int u, struct plan_ref grad) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    if (fusion->residual >= 0)
        add_term(b, fusion->residual, grad);
    struct plan_step step = plan_step_make(PLAN_STEP_CONV_WEIGHTS, u);
    step.in = grad;
    step.other = b->values[fusion->inputs[0]];
    emit(b, &step);
    if (!input_needs_grad(b, u))
        return;
    step = plan_step_make(PLAN_STEP_CONV_DATA, u);
    step.in = grad;
    to_input(b, step);
}

static void norm(struct backward *b, int u, struct plan_ref grad) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    struct plan_step step = plan_step_make(PLAN_STEP_NORM, u);
    step.in = grad;
    step.other = b->values[fusion->inputs[0]];
    step.state = b->states[u];
    if (fusion->residual >= 0)
        add_term(b, fusion->residual, grad);
    /* The input's gradient replaces that of the output unless a term still names it. */
    bool free_to_take = !b->status && b->plan->slots[grad.slot].pending == 0;
    step.out = free_to_take ? grad : new_tensor(b, &fusion->layout);
    emit(b, &step);
    add_term(b, fusion->inputs[0], step.out);
}

static void pointwise(struct backward *b, int u, struct plan_ref grad) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    if (fusion->residual >= 0)
        add_term(b, fusion->residual, grad);
    if (fusion->norm >= 0) {
        struct plan_step step = plan_step_make(PLAN_STEP_FROZEN_NORM, u);
        step.in = grad;
        step.other = b->values[fusion->inputs[0]];
        emit(b, &step);
    }
    if (!input_needs_grad(b, u))
        return;
    if (fusion->norm < 0 && fusion->affine < 0) {
        add_term(b, fusion->inputs[0], grad);
        return;
    }
    struct plan_step step = plan_step_make(PLAN_STEP_SCALE, u);
    step.in = grad;
    step.state = b->states[u];
    to_input(b, step);
}

/* Where every input begins at a whole group of channels, its channels in the concatenation's terms
 * serve as its own terms. */
static void concat_views(struct backward *b, int u) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    struct terms own = b->terms[u];
    b->terms[u].count = 0;
    for (int t = 0; t < own.count; t++)
        b->plan->slots[own.refs[t].slot].pending--;
    size_t channel = 0;
    for (int k = 0; k < fusion->input_count; k++) {
        size_t offset = plan_layout_offset(&fusion->layout, channel);
        for (int t = 0; t < own.count; t++) {
            struct plan_ref part = own.refs[t];
            part.offset += part.broadcast ? channel : offset;
            add_term(b, fusion->inputs[k], part);
        }
        channel += (size_t)b->plan->fusions.fusions[fusion->inputs[k]].layout.channels;
    }
}

/* Elsewhere they are copied. */
static void concat_copies(struct backward *b, int u) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    struct plan_step step = plan_step_make(PLAN_STEP_SPLIT, u);
    step.in = gather(b, u);
    for (step.input = 0; step.input < fusion->input_count; step.input++) {
        const struct plan_fusion *input = &b->plan->fusions.fusions[fusion->inputs[step.input]];
        if (input->needs_grad) {
            step.out = new_tensor(b, &input->layout);
            emit(b, &step);
            add_term(b, fusion->inputs[step.input], step.out);
        }
        step.channel += input->layout.channels;
    }
}

static void concat(struct backward *b, int u) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    bool whole_groups = true;
    int channel = 0;
    for (int k = 0; k < fusion->input_count; k++) {
        whole_groups &= channel % fusion->grain == 0;
        channel += b->plan->fusions.fusions[fusion->inputs[k]].layout.channels;
    }
    if (whole_groups)
        concat_views(b, u);
    else
        concat_copies(b, u);
}

static void pool(struct backward *b, int u, enum plan_step_kind kind) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    struct plan_step step = plan_step_make(kind, u);
    step.in = gather_view(b, u);
    step.state = b->states[u];
    if (kind == PLAN_STEP_MAX_POOL && plan_masked_by_pool(b->plan, fusion->inputs[0]))
        step.other = b->values[u];
    to_input(b, step);
}

static void vector(struct backward *b, int u, enum plan_step_kind kind) {
    struct plan_step step = plan_step_make(kind, u);
    step.in = gather(b, u);
    step.state = b->states[u];
    if (kind == PLAN_STEP_GLOBAL_GEM_POOL)
        step.other = b->values[b->plan->fusions.fusions[u].inputs[0]];
    else if (kind == PLAN_STEP_L2_NORMALIZE)
        step.other = b->values[u];
    if (input_needs_grad(b, u))
        to_input(b, step);
    else
        emit(b, &step);
}

static void operation(struct backward *b, int u) {
    const struct plan_fusion *fusion = &b->plan->fusions.fusions[u];
    const struct plan_traits *traits = b->plan->traits;
    struct plan_step step = plan_step_make(PLAN_STEP_OPERATION, u);
    step.in = gather(b, u);
    step.state = b->states[u];
    if (fusion->residual >= 0)
        add_term(b, fusion->residual, step.in);
    if (traits->reads_input(traits->context, fusion))
        step.other = b->values[fusion->inputs[0]];
    if (input_needs_grad(b, u))
        to_input(b, step);
    else
        emit(b, &step);
}

static void global_average(struct backward *b, int u) {
    int input = b->plan->fusions.fusions[u].inputs[0];
    struct plan_ref grad = gather(b, u);
    grad.broadcast = true;
    grad.scale = 1.0f / (float)b->plan->fusions.fusions[input].layout.pixels;
    add_term(b, input, grad);
}

static void backward_of(struct backward *b, int u) {
    enum plan_fusion_kind kind = b->plan->fusions.fusions[u].kind;
    if (plan_is_operation(kind)) {
        operation(b, u);
        return;
    }
    switch (kind) {
    case PLAN_FUSION_INPUT:
        break;
    case PLAN_FUSION_CONV:
        conv(b, u, gather(b, u));
        break;
    case PLAN_FUSION_NORM:
        norm(b, u, gather(b, u));
        break;
    case PLAN_FUSION_POINTWISE:
        pointwise(b, u, gather(b, u));
        break;
    case PLAN_FUSION_MAX_POOL:
        pool(b, u, PLAN_STEP_MAX_POOL);
        break;
    case PLAN_FUSION_AVG_POOL:
        pool(b, u, PLAN_STEP_AVG_POOL);
        break;
    case PLAN_FUSION_GLOBAL_AVG_POOL:
        global_average(b, u);
        break;
    case PLAN_FUSION_GLOBAL_MAX_POOL:
        vector(b, u, PLAN_STEP_GLOBAL_MAX_POOL);
        break;
    case PLAN_FUSION_GLOBAL_GEM_POOL:
        vector(b, u, PLAN_STEP_GLOBAL_GEM_POOL);
        break;
    case PLAN_FUSION_CONCAT:
        concat(b, u);
        break;
    case PLAN_FUSION_L2_NORMALIZE:
        vector(b, u, PLAN_STEP_L2_NORMALIZE);
        break;
    default: /* an operation */
        break;
    }
}

/* Before the backward pass of a block begins, at its last fusion `u`: recomputes its tensors. */
static void recompute(struct backward *b, int u) {
    int block = plan_block(b->plan, u), first = u;
    while (first > 0 && plan_block(b->plan, first - 1) == block)
        first--;
    for (int v = first; v <= u && !b->status; v++)
        if (plan_recomputes(b->plan, v) && !plan_forward_step(b->plan, v, b->values, b->states))
            b->status = DML_ERROR_MEMORY;
}

enum dml_status plan_backward(struct plan *plan, struct plan_ref *values, struct plan_ref *states) {
    struct backward b = {plan, values, states,
                         dml_alloc((size_t)plan->fusions.count, sizeof(struct terms)), DML_OK};
    if (!b.terms)
        return DML_ERROR_MEMORY;
    int output = plan->fusions.output, recomputed = 0;
    struct plan_step step = plan_step_make(PLAN_STEP_OUTPUT_GRAD, output);
    step.out = new_tensor(&b, &plan->fusions.fusions[output].layout);
    emit(&b, &step);
    plan->output_grad = step.out;
    add_term(&b, output, step.out);
    for (int u = output; u >= 0 && !b.status; u--) {
        if (!plan->fusions.fusions[u].needs_grad || !b.terms[u].count)
            continue;
        int block = plan_block(plan, u);
        if (block && block != recomputed)
            recompute(&b, u);
        recomputed = block;
        backward_of(&b, u);
    }
    free(b.terms);
    return b.status;
}
