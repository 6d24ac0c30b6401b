#include "train/checkpoint.h"

#include "base/files.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/messages.h"
#include "data/inventory.h"
#include "dml/dml.h"
#include "nn/weights/safetensors.h"
#include "train/criterion_buffers.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* Where a state file keeps the optimiser's states. */
static const char *const state_names[DML_OPTIMISER_STATES] = {
    "optimiser.moment1.", "optimiser.moment2.", "optimiser.moment3.", "optimiser.moment4."};

static const char schedule_note[] = "dml_schedule";

/* Appends an optimiser state or the average of a network parameter, under `prefix` and its own
 * name. */
static enum dml_status add_state(const struct dml_experiment *e, int index, enum dml_slot slot,
                                 const char *prefix, struct dml_tensors *tensors) {
    const struct dml_graph_param *param = &e->network->graph->params[index];
    size_t dims[4];
    for (int d = 0; d < param->dim_count; d++)
        dims[d] = (size_t)param->dims[d];
    char *name = dml_format("%s%s", prefix, param->name);
    void *values;
    enum dml_status status = name ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_tensors_add(tensors, name, DML_DTYPE_F32, dims, param->dim_count, &values);
    if (!status)
        status = dml_network_read(e->network, index, slot, values);
    free(name);
    return status;
}

static enum dml_status add_criterion_view(const struct dml_criterion_parameter *parameter,
                                          const char *prefix, const float *values,
                                          struct dml_tensors *tensors) {
    char *name = dml_format("%s%s", prefix, parameter->name);
    if (!name)
        return DML_ERROR_MEMORY;
    int dim_count = parameter->dims[1] == 1 ? 1 : 2;
    enum dml_status status =
        dml_tensors_add_view(tensors, name, DML_DTYPE_F32, parameter->dims, dim_count, values);
    free(name);
    return status;
}

/* `all`: also what a run needs to continue. */
static enum dml_status add_weights(const struct dml_experiment *e, bool all,
                                   struct dml_tensors *tensors) {
    enum dml_status status = dml_network_collect(e->network, tensors);
    const struct dml_criterion_optimiser *o = &e->learner.criterion;
    if (!status)
        status = dml_criterion_optimiser_fetch(o);
    for (size_t i = 0; !status && i < o->count; i++)
        status =
            add_criterion_view(&o->parameters[i], "criterion.", o->parameters[i].values, tensors);
    if (!status)
        status = dml_criterion_buffers_add(e->terms.objective, all, tensors);
    return status;
}

static enum dml_status add_states(const struct dml_experiment *e, struct dml_tensors *tensors) {
    const struct dml_criterion_optimiser *o = &e->learner.criterion;
    enum dml_status status = DML_OK;
    for (size_t m = 0; m < e->learner.optimiser->states; m++) {
        char own[64];
        snprintf(own, sizeof own, "%scriterion.", state_names[m]);
        for (int i = 0; !status && i < e->network->graph->param_count; i++)
            if (dml_param_learnable(&e->network->graph->params[i]))
                status = add_state(e, i, DML_SLOT_STATE + m, state_names[m], tensors);
        for (size_t i = 0; !status && i < o->count; i++)
            status = add_criterion_view(&o->parameters[i], own, o->states[i][m], tensors);
    }
    return status;
}

static const char average_prefix[] = "average.";

/* The running average, batch-norm statistics included. */
static enum dml_status add_average(const struct dml_experiment *e, struct dml_tensors *tensors) {
    enum dml_status status = DML_OK;
    for (int i = 0; !status && e->learner.flags->ema > 0 && i < e->network->graph->param_count; i++)
        status = add_state(e, i, DML_SLOT_AVERAGE, average_prefix, tensors);
    return status;
}

static enum dml_status add_schedule(const struct dml_experiment *e, struct dml_tensors *tensors) {
    char *text = dml_schedule_memory_text(&e->learner.schedule);
    enum dml_status status =
        text ? dml_tensors_set_note(tensors, schedule_note, text) : DML_ERROR_MEMORY;
    free(text);
    return status;
}

static enum dml_status add_sampler(const struct dml_experiment *e,
                                   const struct dml_position *position,
                                   struct dml_tensors *tensors) {
    enum dml_status status = DML_OK;
    const struct dml_store *store = dml_sampling_store(e->sampling);
    if (store)
        status = dml_tensors_add_view(tensors, "sampler.store", DML_DTYPE_F32,
                                      (size_t[]){store->images, store->dim}, 2, store->embeddings);
    if (!status && store && store->changes)
        status = dml_tensors_add_view(tensors, "sampler.changes", DML_DTYPE_F32,
                                      (size_t[]){store->images, store->dim}, 2, store->changes);
    if (!status && position->plan)
        status = dml_tensors_add_view(
            tensors, "sampler.plan", DML_DTYPE_I32,
            (size_t[]){dml_sampling_batches(e->sampling), (size_t)e->training->bs}, 2,
            position->plan);
    return status;
}

static enum dml_status add_notes(const struct dml_experiment *e, uint64_t epoch,
                                 struct dml_tensors *tensors) {
    char *params = NULL, number[32];
    snprintf(number, sizeof number, "%llu", (unsigned long long)epoch);
    enum dml_status status = dml_params_to_json(e->params, &params);
    if (!status)
        status = dml_tensors_set_note(tensors, "format", "pt");
    if (!status)
        status = dml_tensors_set_note(tensors, "dml_version", dml_version());
    if (!status)
        status = dml_tensors_set_note(tensors, "dml_params", params);
    if (!status)
        status = dml_tensors_set_note(tensors, "dml_epoch", number);
    free(params);
    return status;
}

enum dml_status dml_checkpoint_save(const struct dml_experiment *e, const char *path,
                                    uint64_t epoch, const char *metrics) {
    struct dml_tensors tensors = {0};
    enum dml_status status = add_weights(e, false, &tensors);
    if (!status)
        status = add_notes(e, epoch, &tensors);
    if (!status && metrics)
        status = dml_tensors_set_note(&tensors, "dml_metrics", metrics);
    if (!status)
        status = dml_tensors_seal(&tensors);
    if (!status)
        status = dml_safetensors_write(path, &tensors);
    dml_tensors_free(&tensors);
    return status;
}

static enum dml_status missing(const char *path, const char *what) {
    return dml_fail(DML_ERROR_INPUT, "%s: has no %s: it is not the state of such a run", path,
                    what);
}

static char *position_text(const struct dml_position *p) {
    return dml_format("{\"epoch\": %llu, \"epoch_step\": %llu, \"step\": %llu, "
                      "\"epoch_loss\": %.17g, \"tuples\": %llu, \"active\": %llu, "
                      "\"swapped\": %llu, \"clipped\": %llu, \"epoch_seconds\": %.17g}",
                      (unsigned long long)p->epoch, (unsigned long long)p->epoch_step,
                      (unsigned long long)p->step, p->epoch_loss, (unsigned long long)p->tuples,
                      (unsigned long long)p->active, (unsigned long long)p->swapped,
                      (unsigned long long)p->clipped, p->epoch_seconds);
}

void dml_state_texts_free(struct dml_state_texts *texts) {
    free(texts->identity);
    free(texts->bests);
    free(texts->trackers);
    *texts = (struct dml_state_texts){0};
}

static const char *const text_notes[] = {"dml_run", "dml_bests", "dml_trackers"};
enum { TEXTS = sizeof text_notes / sizeof text_notes[0] };

static enum dml_status add_texts(const struct dml_state_texts *texts, const char *position,
                                 struct dml_tensors *tensors) {
    const char *const values[TEXTS] = {texts->identity, texts->bests, texts->trackers};
    char format[16];
    snprintf(format, sizeof format, "%d", DML_STATE_FORMAT);
    enum dml_status status = dml_tensors_set_note(tensors, "dml_state_format", format);
    if (!status)
        status = dml_tensors_set_note(tensors, "dml_position", position);
    for (size_t i = 0; i < TEXTS && !status; i++)
        if (values[i])
            status = dml_tensors_set_note(tensors, text_notes[i], values[i]);
    return status;
}

static enum dml_status take_texts(const struct dml_tensors *tensors,
                                  struct dml_state_texts *texts) {
    char **const values[TEXTS] = {&texts->identity, &texts->bests, &texts->trackers};
    for (size_t i = 0; i < TEXTS; i++) {
        const char *text = dml_tensors_note(tensors, text_notes[i]);
        if (text && !(*values[i] = dml_strdup(text))) {
            dml_state_texts_free(texts);
            return DML_ERROR_MEMORY;
        }
    }
    return DML_OK;
}

static const char told_prefix[] = "told.";

/* Which images were reported as unreadable or corrupt, so that a resumed run counts them once. */
static enum dml_status add_told(const struct dml_experiment *e, struct dml_tensors *tensors) {
    const struct dml_part *const parts[] = {&e->dataset.training, &e->dataset.validation,
                                            &e->dataset.testing};
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        bool any = false;
        for (size_t i = 0; i < parts[p]->images && !any; i++)
            any = parts[p]->told[i] != 0;
        if (!any)
            continue;
        char *name = dml_format("%s%s", told_prefix, parts[p]->name);
        void *values = NULL;
        enum dml_status status = name ? dml_tensors_add(tensors, name, DML_DTYPE_U8,
                                                        (size_t[]){parts[p]->images}, 1, &values)
                                      : DML_ERROR_MEMORY;
        free(name);
        if (status)
            return status;
        for (size_t i = 0; i < parts[p]->images; i++)
            ((uint8_t *)values)[i] = parts[p]->told[i];
    }
    return DML_OK;
}

static const char inventory_name[] = "data.inventory";

static enum dml_status add_inventory(const struct dml_experiment *e, struct dml_tensors *tensors) {
    return dml_tensors_add_view(tensors, inventory_name, DML_DTYPE_U8,
                                (size_t[]){strlen(e->inventory)}, 1, e->inventory);
}

/* Whether the data are those that the run began with. Other data are reported, and refused
 * unless --changed_data is given. */
static enum dml_status check_inventory(const struct dml_experiment *e, const char *path,
                                       const struct dml_tensors *tensors, bool *changed) {
    const struct dml_tensor *tensor = dml_tensors_find(tensors, inventory_name);
    char *before, *changes = NULL;
    *changed = false;
    if (!tensor || tensor->dtype != DML_DTYPE_U8)
        return missing(path, inventory_name);
    before = dml_format("%.*s", (int)tensor->count, (const char *)tensor->data);
    enum dml_status status =
        before ? dml_inventory_compare(before, e->inventory, &changes) : DML_ERROR_MEMORY;
    if (!status && changes) {
        *changed = true;
        status = dml_fail(DML_ERROR_INPUT,
                          "the data set is not the one that this run began with: %s; "
                          "--changed_data continues anyway",
                          changes);
        if (e->setup->changed_data) {
            dml_warn("%s, as here", dml_error());
            status = DML_OK;
        }
    }
    free(before);
    free(changes);
    return status;
}

static void restore_told(struct dml_experiment *e, const struct dml_tensors *tensors) {
    struct dml_part *const parts[] = {&e->dataset.training, &e->dataset.validation,
                                      &e->dataset.testing};
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", told_prefix, parts[p]->name);
        const struct dml_tensor *told = dml_tensors_find(tensors, name);
        if (!told || told->dtype != DML_DTYPE_U8 || told->count != parts[p]->images)
            continue; /* reporting an image again does no harm */
        for (size_t i = 0; i < parts[p]->images; i++)
            parts[p]->told[i] = ((const uint8_t *)told->data)[i];
    }
}

enum dml_status dml_state_save(const struct dml_experiment *e, const char *path,
                               const struct dml_position *position,
                               const struct dml_state_texts *texts) {
    struct dml_tensors tensors = {0};
    char *text = position_text(position);
    enum dml_status status = text ? add_weights(e, true, &tensors) : DML_ERROR_MEMORY;
    if (!status)
        status = add_states(e, &tensors);
    if (!status)
        status = add_average(e, &tensors);
    if (!status)
        status = add_schedule(e, &tensors);
    if (!status)
        status = add_sampler(e, position, &tensors);
    if (!status)
        status = add_notes(e, position->epoch, &tensors);
    if (!status)
        status = add_told(e, &tensors);
    if (!status)
        status = add_inventory(e, &tensors);
    if (!status)
        status = add_texts(texts, text, &tensors);
    if (!status)
        status = dml_tensors_seal(&tensors);
    if (!status)
        status = dml_safetensors_write(path, &tensors);
    dml_tensors_free(&tensors);
    free(text);
    return status;
}

/* Reads the tensor called `prefix` plus `name`, of `count` elements, into `out` as floats. */
static enum dml_status take(const struct dml_tensors *tensors, const char *path, const char *prefix,
                            const char *name, size_t count, float *out) {
    char full[2 * DML_GRAPH_NAME];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct dml_tensor *tensor = dml_tensors_find(tensors, full);
    if (!tensor || tensor->count != count)
        return missing(path, full);
    dml_tensor_floats(tensor, out);
    return DML_OK;
}

/* Restores one slot of a network parameter from the tensor called `prefix` plus its name. */
static enum dml_status restore_slot(struct dml_experiment *e, const char *path,
                                    const struct dml_tensors *tensors, const char *prefix,
                                    int index, enum dml_slot slot) {
    const struct dml_graph_param *param = &e->network->graph->params[index];
    float *values = dml_alloc_aligned(param->count, sizeof *values);
    enum dml_status status = values ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = take(tensors, path, prefix, param->name, param->count, values);
    if (!status)
        status = dml_network_write(e->network, index, slot, values);
    free(values);
    return status;
}

static enum dml_status restore_states(struct dml_experiment *e, const char *path,
                                      const struct dml_tensors *tensors) {
    struct dml_criterion_optimiser *o = &e->learner.criterion;
    enum dml_status status = DML_OK;
    for (size_t m = 0; m < e->learner.optimiser->states; m++)
        for (int i = 0; !status && i < e->network->graph->param_count; i++)
            if (dml_param_learnable(&e->network->graph->params[i]))
                status = restore_slot(e, path, tensors, state_names[m], i, DML_SLOT_STATE + m);
    for (size_t i = 0; !status && i < o->count; i++) {
        const struct dml_criterion_parameter *p = &o->parameters[i];
        size_t count = p->dims[0] * p->dims[1];
        status = take(tensors, path, "criterion.", p->name, count, p->values);
        for (size_t m = 0; !status && m < e->learner.optimiser->states; m++) {
            char own[64];
            snprintf(own, sizeof own, "%scriterion.", state_names[m]);
            status = take(tensors, path, own, p->name, count, o->states[i][m]);
        }
    }
    return status ? status : dml_criterion_optimiser_put(o);
}

static enum dml_status restore_average(struct dml_experiment *e, const char *path,
                                       const struct dml_tensors *tensors) {
    enum dml_status status = DML_OK;
    for (int i = 0; !status && e->learner.flags->ema > 0 && i < e->network->graph->param_count; i++)
        status = restore_slot(e, path, tensors, average_prefix, i, DML_SLOT_AVERAGE);
    return status;
}

static enum dml_status restore_schedule(struct dml_experiment *e, const char *path,
                                        const struct dml_tensors *tensors) {
    const char *text = dml_tensors_note(tensors, schedule_note); /* none in older files */
    bool read = !text || dml_schedule_memory_read(&e->learner.schedule, text);
    return read ? DML_OK : missing(path, schedule_note);
}

static enum dml_status restore_sampler(struct dml_experiment *e, const char *path,
                                       const struct dml_tensors *tensors,
                                       struct dml_position *position, bool *has_plan) {
    struct dml_store *store = dml_sampling_store(e->sampling);
    enum dml_status status = DML_OK;
    if (store)
        status =
            take(tensors, path, "sampler.", "store", store->images * store->dim, store->embeddings);
    if (!status && store && store->changes)
        status =
            take(tensors, path, "sampler.", "changes", store->images * store->dim, store->changes);
    const struct dml_tensor *plan = dml_tensors_find(tensors, "sampler.plan");
    *has_plan = plan != NULL;
    if (status || !plan)
        return status;
    size_t count = dml_sampling_batches(e->sampling) * (size_t)e->training->bs;
    if (plan->dtype != DML_DTYPE_I32 || plan->count != count)
        return missing(path, "sampler.plan of this data set and batch size");
    memcpy(position->plan, plan->data, count * sizeof *position->plan);
    for (size_t i = 0; i < count; i++)
        if (position->plan[i] >= e->dataset.training.images)
            return missing(path, "sampler.plan of this data set");
    return DML_OK;
}

static enum dml_status read_position(const char *text, const char *path, struct dml_position *out) {
    cJSON *json;
    const char *const names[] = {"epoch", "epoch_step", "step", "tuples", "active", "swapped"};
    uint64_t *const fields[] = {&out->epoch,  &out->epoch_step, &out->step,
                                &out->tuples, &out->active,     &out->swapped};
    enum dml_status status = text ? DML_OK : missing(path, "dml_position");
    if (!status)
        status = dml_json_parse(text, strlen(text), &json, "%s: has a damaged dml_position", path);
    if (status)
        return status;
    for (size_t i = 0; !status && i < sizeof names / sizeof names[0]; i++) {
        const cJSON *item = cJSON_GetObjectItem(json, names[i]);
        if (!dml_json_count(item, fields[i]))
            status = missing(path, "dml_position");
    }
    const cJSON *loss = cJSON_GetObjectItem(json, "epoch_loss");
    const cJSON *seconds = cJSON_GetObjectItem(json, "epoch_seconds");
    out->epoch_loss = cJSON_IsNumber(loss) ? loss->valuedouble : 0;
    out->epoch_seconds = cJSON_IsNumber(seconds) ? seconds->valuedouble : 0;
    out->clipped = 0;
    dml_json_count(cJSON_GetObjectItem(json, "clipped"), &out->clipped); /* none in older files */
    cJSON_Delete(json);
    return status;
}

enum dml_status dml_state_restore(struct dml_experiment *e, const char *path,
                                  struct dml_position *position, bool *has_plan,
                                  struct dml_state_texts *texts) {
    struct dml_tensors tensors;
    *texts = (struct dml_state_texts){0};
    enum dml_status status = dml_tensors_read(path, &tensors);
    if (status)
        return status;
    bool changed = false;
    status = read_position(dml_tensors_note(&tensors, "dml_position"), path, position);
    if (!status)
        status = check_inventory(e, path, &tensors, &changed);
    if (!status)
        status = dml_network_load(e->network, &tensors, path, true);
    if (!status)
        status = restore_states(e, path, &tensors);
    if (!status)
        status = dml_criterion_buffers_take(e->terms.objective, path, &tensors);
    if (!status)
        status = restore_average(e, path, &tensors);
    if (!status)
        status = restore_schedule(e, path, &tensors);
    if (!status)
        status = restore_sampler(e, path, &tensors, position, has_plan);
    if (!status && position->epoch_step > 0 && !*has_plan)
        status = missing(path, "sampler.plan");
    if (!status && position->epoch_step > dml_sampling_batches(e->sampling))
        status = missing(path, "dml_position inside an epoch");
    if (status == DML_ERROR_INPUT && changed && e->setup->changed_data)
        dml_fail_within(status, "--changed_data: cannot continue with these data");
    if (!status)
        restore_told(e, &tensors);
    if (!status)
        status = take_texts(&tensors, texts);
    dml_tensors_free(&tensors);
    return status;
}

static enum dml_status check_format(const struct dml_tensors *tensors, const char *path) {
    const char *format = dml_tensors_note(tensors, "dml_state_format");
    long long number = format ? atoll(format) : 1;
    if (!dml_tensors_note(tensors, "dml_position"))
        return missing(path, "dml_position");
    if (number == DML_STATE_FORMAT)
        return DML_OK;
    return dml_fail(
        DML_ERROR_INPUT,
        "%s: is a state of format %lld, from %s version of this program; this one reads format %d",
        path, number, number < DML_STATE_FORMAT ? "an older" : "a newer", DML_STATE_FORMAT);
}

static enum dml_status agree(struct dml_params *params, const char *json, const char *file) {
    enum dml_status status = dml_params_agree(params, json);
    if (status == DML_ERROR_USAGE)
        return dml_fail(status, "%s in %s: a resumed run must keep it", dml_error(), file);
    if (!status)
        status = dml_params_from_json(params, json, true);
    return status ? dml_fail_within(status, "%s", file) : DML_OK;
}

/* A run that was killed before its first state has only its parameters. */
static enum dml_status params_of_folder(const char *folder, struct dml_params *params) {
    char *file = dml_path_join(folder, "parameters.json"), *json = NULL;
    enum dml_status status = DML_ERROR_MEMORY;
    if (file && !dml_path_exists(file))
        status =
            dml_fail(DML_ERROR_INPUT,
                     "%s: holds neither state.safetensors nor parameters.json: it is not a run's "
                     "folder",
                     folder);
    else if (file)
        status = dml_read_file(file, &json, NULL);
    if (!status)
        status = agree(params, json, file);
    free(json);
    free(file);
    return status;
}

enum dml_status dml_state_params(const char *path, struct dml_params *params) {
    struct dml_tensors tensors;
    char *file = dml_strdup(path); /* `path` may be a parameter that is about to be set */
    if (!file)
        return DML_ERROR_MEMORY;
    enum dml_status status;
    if (dml_is_folder(file)) {
        status = params_of_folder(file, params);
    } else if (!(status = dml_tensors_read(file, &tensors))) {
        const char *note = dml_tensors_note(&tensors, "dml_params");
        status = check_format(&tensors, file);
        if (!status && !dml_tensors_intact(&tensors))
            status = dml_fail(DML_ERROR_INPUT,
                              "%s: is damaged: what it holds is not what was saved", file);
        if (!status)
            status = note ? agree(params, note, file) : missing(file, "dml_params");
        dml_tensors_free(&tensors);
    }
    free(file);
    return status;
}
