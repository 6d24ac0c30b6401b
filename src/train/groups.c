#include "train/groups.h"

#include "base/memory.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FROZEN = -1 };

/* "PATTERN:lr=1e-4,decay=0", one entry of --param_groups. */
struct rule {
    char pattern[DML_GRAPH_NAME];
    double lr, decay; /* NAN: not set */
    bool used;
};

static bool read_number(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out) && *out >= 0;
}

static enum dml_status read_rule(const char *text, struct rule *rule) {
    const char *colon = strrchr(text, ':');
    *rule = (struct rule){.lr = NAN, .decay = NAN};
    if (!colon || colon == text || (size_t)(colon - text) >= sizeof rule->pattern || !colon[1])
        return dml_fail(DML_ERROR_USAGE,
                        "--param_groups %s: is not of the form PATTERN:lr=X,decay=Y", text);
    memcpy(rule->pattern, text, (size_t)(colon - text));
    char *settings = dml_strdup(colon + 1), *rest = settings;
    enum dml_status status = settings ? DML_OK : DML_ERROR_MEMORY;
    for (char *word; !status && (word = strtok_r(rest, ",", &rest));) {
        bool read = false;
        if (strncmp(word, "lr=", 3) == 0)
            read = read_number(word + 3, &rule->lr);
        else if (strncmp(word, "decay=", 6) == 0)
            read = read_number(word + 6, &rule->decay);
        if (!read)
            status = dml_fail(DML_ERROR_USAGE,
                              "--param_groups %s: '%s' is neither lr=X nor decay=X, X at least 0",
                              text, word);
    }
    free(settings);
    return status;
}

static enum dml_status read_rules(const struct dml_strings *texts, struct rule **out) {
    struct rule *rules = dml_alloc(texts->count + 1, sizeof *rules);
    enum dml_status status = rules ? DML_OK : DML_ERROR_MEMORY;
    for (size_t i = 0; !status && i < texts->count; i++)
        status = read_rule(texts->items[i], &rules[i]);
    *out = rules;
    return status;
}

/* The first rule whose pattern the name matches; NULL: none. */
static struct rule *find_rule(struct rule *rules, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (fnmatch(rules[i].pattern, name, 0) == 0) {
            rules[i].used = true;
            return &rules[i];
        }
    return NULL;
}

/* Sets what the rule, which may be NULL, sets. */
static void apply(const struct rule *rule, struct dml_group *group) {
    if (!rule)
        return;
    snprintf(group->kind, sizeof group->kind, "%s", rule->pattern);
    group->lr = isnan(rule->lr) ? group->lr : rule->lr;
    group->decay = isnan(rule->decay) ? group->decay : rule->decay;
}

/* Finds the group with this setting, or adds it; *out is its index. */
static enum dml_status enter(struct dml_groups *groups, const struct dml_group *group,
                             size_t *out) {
    int same_kind = 0;
    for (*out = 0; *out < groups->count; ++*out) {
        const struct dml_group *other = &groups->items[*out];
        bool same = strcmp(other->kind, group->kind) == 0;
        if (same && other->lr == group->lr && other->decay == group->decay &&
            other->start == group->start && other->rate_start == group->rate_start)
            return DML_OK;
        same_kind += same;
    }
    enum dml_status status =
        dml_grow(&groups->items, &groups->capacity, groups->count + 1, sizeof *groups->items);
    if (status)
        return status;
    struct dml_group *entered = &groups->items[groups->count++];
    *entered = *group;
    if (same_kind)
        snprintf(entered->name, sizeof entered->name, "%s_%d", group->kind, same_kind + 1);
    else
        snprintf(entered->name, sizeof entered->name, "%s", group->kind);
    snprintf(entered->rate_name, sizeof entered->rate_name, "lr/%s", entered->name);
    return DML_OK;
}

/* What groups are made from. */
struct maker {
    const struct dml_graph *graph;
    const struct dml_training_options *training;
    const struct dml_group_flags *flags;
    uint64_t warm; /* steps in which the backbone is frozen */
    struct rule *rules;
    bool *frozen_matched; /* per pattern of --freeze */
    struct dml_groups *out;
};

static bool is_norm(const struct dml_graph_param *param) {
    return param->role == DML_ROLE_NORM_WEIGHT || param->role == DML_ROLE_NORM_BIAS;
}

/* Whether the parameter never learns. */
static bool frozen(const struct maker *m, const struct dml_graph_param *param) {
    bool is_frozen = param->fixed || (param->layer < m->flags->freeze_layers && !param->head);
    if (m->flags->freeze_norms && is_norm(param) &&
        m->graph->nodes[param->node].op == DML_OP_BATCH_NORM)
        is_frozen = true;
    for (size_t i = 0; i < m->flags->freeze.count; i++)
        if (fnmatch(m->flags->freeze.items[i], param->name, 0) == 0)
            is_frozen = m->frozen_matched[i] = true;
    return is_frozen;
}

/* The setting of a parameter of the network. */
static struct dml_group setting_of(const struct maker *m, const struct dml_graph_param *param) {
    const struct dml_training_options *t = m->training;
    struct dml_group group = {.lr = t->lr, .decay = t->decay};
    bool is_weight = param->role == DML_ROLE_WEIGHT && param->dim_count > 1;
    bool bare = m->flags->decay_weights_only && !is_weight;
    bool own_rate = param->head && t->fc_lr >= 0;
    char layer[32] = "";
    if (own_rate) {
        group.lr = t->fc_lr;
    } else if (m->flags->layer_decay < 1) {
        group.lr *= pow(m->flags->layer_decay, m->graph->layers - param->layer);
        snprintf(layer, sizeof layer, "_layer%d", param->layer);
    }
    if (bare)
        group.decay = 0;
    snprintf(group.kind, sizeof group.kind, "%s%s%s", param->head ? "head" : "backbone",
             param->head ? "" : layer, bare ? "_no_decay" : "");
    if (!param->head) {
        group.start = m->flags->freeze_backbone_rate ? 0 : m->warm;
        group.rate_start = m->warm;
    }
    apply(find_rule(m->rules, m->flags->param_groups.count, param->name), &group);
    return group;
}

static enum dml_status group_network(struct maker *m) {
    enum dml_status status = DML_OK;
    for (int i = 0; !status && i < m->graph->param_count; i++) {
        const struct dml_graph_param *param = &m->graph->params[i];
        m->out->of[i] = FROZEN;
        if (!dml_param_learnable(param) || frozen(m, param))
            continue;
        struct dml_group group = setting_of(m, param);
        size_t index;
        status = enter(m->out, &group, &index);
        m->out->of[i] = (int)index;
    }
    return status;
}

static enum dml_status group_criterion(struct maker *m,
                                       const struct dml_criterion_optimiser *criterion) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < criterion->count; i++) {
        double lr = m->flags->criterion_lr;
        struct dml_group group = {.lr = lr < 0 ? criterion->parameters[i].lr : lr,
                                  .decay = m->flags->criterion_decay};
        snprintf(group.kind, sizeof group.kind, "criterion.%s", criterion->parameters[i].name);
        apply(find_rule(m->rules, m->flags->param_groups.count, group.kind), &group);
        status = enter(m->out, &group, &m->out->of_criterion[i]);
    }
    return status;
}

/* Every pattern has to match something: a misspelt one would silently change nothing. */
static enum dml_status check_patterns(const struct maker *m) {
    for (size_t i = 0; i < m->flags->param_groups.count; i++)
        if (!m->rules[i].used)
            return dml_fail(DML_ERROR_USAGE,
                            "--param_groups %s: matches no parameter that learns and that no "
                            "earlier pattern took; --list_groups shows their names",
                            m->flags->param_groups.items[i]);
    for (size_t i = 0; i < m->flags->freeze.count; i++)
        if (!m->frozen_matched[i])
            return dml_fail(DML_ERROR_USAGE,
                            "--freeze %s: matches no parameter of the network; --list_groups "
                            "shows their names",
                            m->flags->freeze.items[i]);
    if (m->flags->freeze_layers > m->graph->layers)
        return dml_fail(DML_ERROR_USAGE,
                        "--freeze_layers %lld: %s has %d layers that can be frozen",
                        (long long)m->flags->freeze_layers, m->graph->arch, m->graph->layers);
    return DML_OK;
}

/* Finds spans of consecutive learnable parameters of one group, where it starts to learn at
 * `latest` or earlier; buffers in between do not end a span. */
static size_t make_spans(const struct dml_groups *groups, const struct dml_graph *graph,
                         uint64_t latest, struct dml_span *spans) {
    size_t count = 0;
    bool open = false;
    for (int i = 0; i < graph->param_count; i++) {
        if (!dml_param_learnable(&graph->params[i]))
            continue;
        int group = groups->of[i];
        if (group == FROZEN || groups->items[group].start > latest) {
            open = false;
            continue;
        }
        if (!open || spans[count - 1].group != (size_t)group)
            spans[count++] = (struct dml_span){.first = i, .group = (size_t)group};
        spans[count - 1].end = i + 1;
        open = true;
    }
    return count;
}

enum dml_status dml_groups_open(const struct dml_graph *graph,
                                const struct dml_criterion_optimiser *criterion,
                                const struct dml_training_options *training,
                                const struct dml_group_flags *flags, uint64_t steps_per_epoch,
                                struct dml_groups *out) {
    size_t params = (size_t)graph->param_count;
    *out = (struct dml_groups){0};
    if (training->n_epochs && flags->freeze_backbone_epochs >= training->n_epochs)
        return dml_fail(DML_ERROR_USAGE,
                        "--freeze_backbone_epochs %lld: a run of %lld epochs is over by then",
                        (long long)flags->freeze_backbone_epochs, (long long)training->n_epochs);
    *out = (struct dml_groups){.of = dml_alloc(params, sizeof *out->of),
                               .spans = dml_alloc(params, sizeof *out->spans),
                               .early = dml_alloc(params, sizeof *out->early),
                               .late = (uint64_t)flags->freeze_backbone_epochs * steps_per_epoch};
    struct maker m = {.graph = graph,
                      .training = training,
                      .flags = flags,
                      .warm = out->late,
                      .frozen_matched = dml_alloc(flags->freeze.count + 1, sizeof(bool)),
                      .out = out};
    bool there = out->of && out->spans && out->early && m.frozen_matched;
    enum dml_status status = there ? read_rules(&flags->param_groups, &m.rules) : DML_ERROR_MEMORY;
    if (!status)
        status = group_network(&m);
    if (!status)
        status = group_criterion(&m, criterion);
    if (!status)
        status = check_patterns(&m);
    if (!status && !(out->updates = dml_alloc(out->count + 1, sizeof *out->updates)))
        status = DML_ERROR_MEMORY;
    if (!status) {
        out->span_count = make_spans(out, graph, out->late, out->spans);
        out->early_count = make_spans(out, graph, 0, out->early);
    }
    free(m.rules);
    free(m.frozen_matched);
    return status;
}

void dml_groups_close(struct dml_groups *groups) {
    free(groups->items);
    free(groups->of);
    free(groups->spans);
    free(groups->early);
    free(groups->updates);
    *groups = (struct dml_groups){0};
}

struct dml_spans dml_groups_spans(const struct dml_groups *groups, uint64_t step) {
    return step < groups->late ? (struct dml_spans){groups->early, groups->early_count}
                               : (struct dml_spans){groups->spans, groups->span_count};
}

double dml_groups_rate(const struct dml_groups *groups, size_t group,
                       const struct dml_run_schedule *schedule, uint64_t step) {
    const struct dml_group *g = &groups->items[group];
    return step < g->rate_start ? 0 : dml_schedule_rate(schedule, g->lr, step);
}

void dml_groups_update(struct dml_groups *groups, const struct dml_run_schedule *schedule,
                       uint64_t step) {
    double momentum = dml_schedule_momentum(schedule, step);
    for (size_t i = 0; i < groups->count; i++) {
        const struct dml_group *group = &groups->items[i];
        groups->updates[i] =
            (struct dml_update){.lr = dml_groups_rate(groups, i, schedule, step),
                                .decay = group->decay,
                                .momentum = momentum,
                                .step = step < group->start ? 0 : step - group->start + 1};
    }
}

static void print_row(const struct dml_group *group, const char *parameter, FILE *out) {
    if (group)
        fprintf(out, "%-44s %-28s %-12g %g\n", parameter, group->name, group->lr, group->decay);
    else
        fprintf(out, "%-44s frozen\n", parameter);
}

void dml_groups_print(const struct dml_groups *groups, const struct dml_graph *graph,
                      const struct dml_criterion_optimiser *criterion, FILE *out) {
    fprintf(out, "%-44s %-28s %-12s %s\n", "parameter", "group", "rate", "decay");
    for (int i = 0; i < graph->param_count; i++)
        if (dml_param_learnable(&graph->params[i]))
            print_row(groups->of[i] == FROZEN ? NULL : &groups->items[groups->of[i]],
                      graph->params[i].name, out);
    for (size_t i = 0; i < criterion->count; i++) {
        const struct dml_group *group = &groups->items[groups->of_criterion[i]];
        char name[DML_GRAPH_NAME];
        snprintf(name, sizeof name, "criterion.%s", criterion->parameters[i].name);
        print_row(group, name, out);
    }
    if (groups->late)
        fprintf(out, "the backbone begins to learn with step %llu\n",
                (unsigned long long)groups->late + 1);
}
