#include "base/memory.h"
#include "nn/weights/vit_names.h"
#include "nn/weights/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Tensors by name, for many look-ups. */
struct index {
    const struct dml_tensor **sorted;
    size_t count;
};

static int by_name(const void *a, const void *b) {
    const struct dml_tensor *x = *(const struct dml_tensor *const *)a;
    const struct dml_tensor *y = *(const struct dml_tensor *const *)b;
    return strcmp(x->name, y->name);
}

static enum dml_status index_open(const struct dml_tensors *tensors, struct index *out) {
    out->count = tensors->count;
    out->sorted = dml_alloc(tensors->count, sizeof *out->sorted);
    if (!out->sorted)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < tensors->count; i++)
        out->sorted[i] = &tensors->items[i];
    qsort(out->sorted, out->count, sizeof *out->sorted, by_name);
    return DML_OK;
}

static const struct dml_tensor *look_up(const struct index *index, const char *prefix,
                                        const char *layer, const char *rest) {
    char full[3 * DML_GRAPH_NAME];
    if (snprintf(full, sizeof full, "%s%s%s", prefix, layer, rest) >= (int)sizeof full)
        return NULL;
    const struct dml_tensor wanted = {.name = full}, *key = &wanted;
    const struct dml_tensor **found =
        bsearch(&key, index->sorted, index->count, sizeof key, by_name);
    return found ? *found : NULL;
}

/* Under the prefix that most tensors have, or under none, or as a network held as a member. */
static const struct dml_tensor *look_up_anywhere(const struct index *index, const char *prefix,
                                                 const char *layer, const char *rest) {
    const char *const prefixes[] = {prefix, "", "model."};
    const struct dml_tensor *found = NULL;
    for (int i = 0; i < 3 && !found; i++)
        found = look_up(index, prefixes[i], layer, rest);
    return found;
}

static const struct dml_tensor *find_param(const struct index *index, const char *prefix,
                                           const struct dml_graph_param *param) {
    const struct dml_tensor *found = look_up_anywhere(index, prefix, "", param->name);
    const char *dot = strrchr(param->name, '.');
    bool linear = param->head && dot && param->role <= DML_ROLE_BIAS; /* not the norm before it */
    if (!found && linear)
        found = look_up_anywhere(index, prefix, "last_linear", dot);
    if (!found && linear)
        found = look_up_anywhere(index, prefix, "fc", dot);
    return found;
}

static bool fits(const struct dml_graph_param *param, const struct dml_tensor *tensor) {
    if (param->dim_count != tensor->dim_count)
        return false;
    for (int d = 0; d < param->dim_count; d++)
        if ((size_t)param->dims[d] != tensor->dims[d])
            return false;
    return true;
}

enum { MAX_PREFIXES = 32, PREFIX_SIZE = 100 };

/* All prefixes that wrappers' names form at the start of the file's names ("", "module.",
 * "module.backbone."), at most MAX_PREFIXES. */
static size_t list_prefixes(const struct index *index, char out[MAX_PREFIXES][PREFIX_SIZE]) {
    size_t count = 1;
    out[0][0] = 0;
    for (size_t i = 0; i < index->count; i++) {
        const char *name = index->sorted[i]->name;
        size_t length = 0, more, known = 0;
        while ((more = dml_tensor_wrapper(name + length)) && length + more < PREFIX_SIZE) {
            length += more;
            for (known = 0; known < count; known++)
                if (strlen(out[known]) == length && memcmp(out[known], name, length) == 0)
                    break;
            if (known == count && count < MAX_PREFIXES)
                snprintf(out[count++], PREFIX_SIZE, "%.*s", (int)length, name);
        }
    }
    return count;
}

static size_t count_found(const struct index *index, const char *prefix,
                          const struct dml_graph *graph) {
    size_t found = 0;
    for (int i = 0; i < graph->param_count; i++)
        found += !graph->params[i].fresh && look_up(index, prefix, "", graph->params[i].name);
    return found;
}

/* The prefix under which the file has most of the graph; if two tie, the shorter. */
static void choose_prefix(const struct index *index, const struct dml_graph *graph,
                          char out[PREFIX_SIZE]) {
    char prefixes[MAX_PREFIXES][PREFIX_SIZE];
    size_t count = list_prefixes(index, prefixes), best = 0, most = 0;
    for (size_t p = 0; p < count; p++) {
        size_t found = count_found(index, prefixes[p], graph);
        if (found > most || (found == most && strlen(prefixes[p]) < strlen(prefixes[best]))) {
            most = found;
            best = p;
        }
    }
    memcpy(out, prefixes[best], PREFIX_SIZE);
}

/* Whether the file has everything that the graph needs below its pooling and head. */
static bool holds_backbone(const struct index *index, const struct dml_graph *graph) {
    char prefix[PREFIX_SIZE];
    choose_prefix(index, graph, prefix);
    for (int i = 0; i < graph->param_count; i++) {
        const struct dml_graph_param *param = &graph->params[i];
        const struct dml_tensor *tensor = param->fresh ? NULL : find_param(index, prefix, param);
        /* Position embeddings are resampled where only their number differs. */
        bool positions = param->role == DML_ROLE_POSITIONS && tensor && tensor->dim_count == 3 &&
                         tensor->dims[2] == (size_t)param->dims[2];
        if (!param->fresh && !positions && (!tensor || !fits(param, tensor)))
            return false;
    }
    return true;
}

/* The backbone that the file is complete for, or NULL: the largest, since a resnet101 holds all
 * that a resnet50 needs; of those with the same parameters, as vits16 and dinos16, the graph's. */
static const struct dml_backbone *recognise(const struct index *index,
                                            const struct dml_graph *wanted) {
    bool fits_wanted = holds_backbone(index, wanted);
    const struct dml_backbone *backbone;
    const struct dml_backbone *found = fits_wanted ? dml_backbone_find(wanted->arch) : NULL;
    int most = fits_wanted ? wanted->param_count : 0;
    for (size_t i = 0; (backbone = dml_backbone_at(i)); i++) {
        struct dml_graph *graph;
        if (dml_graph_build(backbone->method.name, 1, 0, &graph))
            continue;
        if (graph->param_count > most && holds_backbone(index, graph)) {
            found = backbone;
            most = graph->param_count;
        }
        dml_graph_free(graph);
    }
    return found;
}

/* A list in a message: the first few items and how many more. */
struct listing {
    char text[700];
    size_t used, shown, more;
};

static void list(struct listing *listing, const char *item) {
    if (listing->shown == 8 || listing->used + strlen(item) + 3 > sizeof listing->text) {
        listing->more++;
        return;
    }
    listing->used +=
        (size_t)snprintf(listing->text + listing->used, sizeof listing->text - listing->used,
                         "%s%s", listing->shown++ ? ", " : "", item);
}

static void list_shape(struct listing *listing, const struct dml_graph_param *param,
                       const struct dml_tensor *tensor) {
    char has[DML_SHAPE_TEXT], needs[DML_SHAPE_TEXT], item[DML_GRAPH_NAME + 2 * DML_SHAPE_TEXT + 32];
    size_t dims[4];
    for (int d = 0; d < param->dim_count; d++)
        dims[d] = (size_t)param->dims[d];
    snprintf(item, sizeof item, "%s is %s and not %s", param->name,
             dml_shape_text(tensor->dims, tensor->dim_count, has),
             dml_shape_text(dims, param->dim_count, needs));
    list(listing, item);
}

/* "3 missing: a, b, c" */
static void describe(const struct listing *listing, const char *separator, const char *what,
                     char *out, size_t size) {
    char more[40] = "";
    *out = 0;
    if (listing->more)
        snprintf(more, sizeof more, " and %zu more", listing->more);
    if (listing->shown)
        snprintf(out, size, "%s%zu %s: %s%s", separator, listing->shown + listing->more, what,
                 listing->text, more);
}

/* Refuses a file that is complete for another backbone than the graph's. */
static enum dml_status refuse_other(const struct dml_graph *graph, const struct index *index,
                                    const char *file) {
    const struct dml_backbone *other = recognise(index, graph);
    if (!other || other == dml_backbone_find(graph->arch))
        return DML_OK;
    return dml_fail(DML_ERROR_INPUT, "%s: holds the weights of %s, not of %s", file,
                    other->method.name, graph->arch);
}

static enum dml_status refuse(const struct dml_graph *graph, const struct index *index,
                              const char *file, const struct listing *missing,
                              const struct listing *misshapen, bool found) {
    char lists[2][800], has[800] = "";
    struct listing there = {0};
    enum dml_status other = refuse_other(graph, index, file);
    if (other)
        return other;
    describe(missing, "", "missing", lists[0], sizeof lists[0]);
    describe(misshapen, missing->shown ? "; " : "", "of another shape", lists[1], sizeof lists[1]);
    if (!found) {
        for (size_t i = 0; i < index->count; i++)
            list(&there, index->sorted[i]->name);
        describe(&there, "; the file has ", "tensors", has, sizeof has);
    }
    return dml_fail(DML_ERROR_INPUT, "%s: does not fit %s: of its tensors %s%s%s", file,
                    graph->arch, lists[0], lists[1], has);
}

enum dml_status dml_weights_match(const struct dml_graph *graph, const struct dml_tensors *tensors,
                                  const char *file, bool head, const struct dml_tensor **matched) {
    struct index index;
    struct listing missing = {0}, misshapen = {0};
    bool found = false;
    char prefix[PREFIX_SIZE];
    enum dml_status status = index_open(tensors, &index);
    if (status)
        return status;
    choose_prefix(&index, graph, prefix);
    for (int i = 0; i < graph->param_count; i++) {
        const struct dml_graph_param *param = &graph->params[i];
        matched[i] = NULL;
        if (param->fresh && !head)
            continue;
        matched[i] = find_param(&index, prefix, param);
        found |= matched[i] != NULL;
        if (!matched[i])
            list(&missing, param->name);
        else if (!fits(param, matched[i]))
            list_shape(&misshapen, param, matched[i]);
    }
    if (missing.shown || misshapen.shown)
        status = refuse(graph, &index, file, &missing, &misshapen, found);
    else if (dml_backbone_find(graph->arch)) /* the file may have more than the graph */
        status = refuse_other(graph, &index, file);
    free(index.sorted);
    return status;
}

static enum dml_status check_values(const struct dml_graph_param *param, const float *values,
                                    const char *file) {
    for (size_t i = 0; i < param->count; i++) {
        if (!isfinite(values[i]))
            return dml_fail(DML_ERROR_INPUT, "%s: tensor %s has %g at element %zu", file,
                            param->name, (double)values[i], i);
        if (param->role == DML_ROLE_RUNNING_VAR && values[i] < 0)
            return dml_fail(DML_ERROR_INPUT, "%s: tensor %s has a negative variance at element %zu",
                            file, param->name, i);
    }
    return DML_OK;
}

/* Everything is checked before anything is handed over: a network is never half loaded. */
enum dml_status dml_weights_load(const struct dml_graph *graph, const struct dml_tensors *tensors,
                                 const char *file, bool head,
                                 enum dml_status (*put)(void *data, int index, const float *values),
                                 void *data) {
    float *values = NULL;
    size_t largest = 0;
    struct dml_tensors translated = {0};
    const struct dml_tensor **matched = dml_alloc((size_t)graph->param_count, sizeof *matched);
    enum dml_status status = matched ? DML_OK : DML_ERROR_MEMORY;
    if (!status && dml_vit_is(graph)) {
        status = dml_vit_translate(graph, tensors, file, &translated);
        tensors = &translated;
    }
    if (!status)
        status = dml_weights_match(graph, tensors, file, head, matched);
    if (status)
        goto out;
    for (int i = 0; i < graph->param_count; i++)
        if (graph->params[i].count > largest)
            largest = graph->params[i].count;
    values = dml_alloc_aligned(largest, sizeof *values);
    if (!values) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < graph->param_count && !status; i++) {
            if (!matched[i])
                continue;
            dml_tensor_floats(matched[i], values);
            status = pass ? put(data, i, values) : check_values(&graph->params[i], values, file);
        }
out:
    free(values);
    free(matched);
    dml_tensors_free(&translated);
    return status;
}

enum dml_status dml_weights_collect(const struct dml_graph *graph,
                                    enum dml_status (*get)(void *data, int index, float *values),
                                    void *data, struct dml_tensors *out) {
    enum dml_status status = DML_OK;
    for (int i = 0; i < graph->param_count && !status; i++) {
        const struct dml_graph_param *param = &graph->params[i];
        size_t dims[4];
        void *values;
        for (int d = 0; d < param->dim_count; d++)
            dims[d] = (size_t)param->dims[d];
        status = dml_tensors_add(out, param->name, DML_DTYPE_F32, dims, param->dim_count, &values);
        if (!status)
            status = get(data, i, values);
    }
    return status;
}
