#include "data/pipeline.h"

#include "base/memory.h"
#include "base/suggest.h"
#include "data/operations/operation.h"

#include <stdlib.h>
#include <string.h>

/* An operation of a list with its options. */
struct listed {
    const struct dml_operation *operation;
    struct dml_params *params; /* owns the options; NULL without parameters */
    void *options;
};

struct dml_pipeline {
    struct listed items[DML_MOST_OPERATIONS];
    int count;
    char *text;
};

void dml_pipeline_free(struct dml_pipeline *pipeline) {
    if (!pipeline)
        return;
    for (int i = 0; i < pipeline->count; i++)
        dml_params_free(pipeline->items[i].params);
    free(pipeline->text);
    free(pipeline);
}

const char *dml_pipeline_text(const struct dml_pipeline *pipeline) {
    return pipeline->text;
}

bool dml_pipeline_erases(const struct dml_pipeline *pipeline) {
    return pipeline->items[pipeline->count - 1].operation == &dml_operation_random_erasing;
}

static enum dml_status find(const char *name, const struct dml_operation **out) {
    struct dml_suggestion near = dml_suggestion_start(name);
    char known[512] = "";
    const struct dml_operation *operation;
    for (size_t i = 0; (operation = dml_operation_at(i)); i++) {
        *out = operation;
        if (strcmp(operation->name, name) == 0)
            return DML_OK;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", operation->name);
        dml_suggestion_offer(&near, operation->name);
    }
    if (near.best)
        return dml_fail(DML_ERROR_USAGE, "there is no '%s'; did you mean '%s'? (%s)", name,
                        near.best, known);
    return dml_fail(DML_ERROR_USAGE, "there is no '%s' (%s)", name, known);
}

static char *trim(char *text) {
    text += strspn(text, " \t\n");
    size_t length = strlen(text);
    while (length && strchr(" \t\n", text[length - 1]))
        text[--length] = 0;
    return text;
}

/* Reads one parameter from `argument`, which is changed: "name=value", "name=from..to", or only the
 * first one's value. */
static enum dml_status read_argument(struct listed *item, char *argument, bool first) {
    const struct dml_param_table *table = item->operation->params;
    char *equals = strchr(argument, '='), *value = equals ? equals + 1 : argument;
    if (!equals && !first)
        return dml_fail(DML_ERROR_USAGE, "'%s' is not of the form name=value", argument);
    if (equals)
        *equals = 0;
    value = trim(value);
    const char *name = equals ? trim(argument) : table->params[0].name;
    char *dots = strstr(value, ".."), *arguments[3] = {NULL};
    int count = dots ? 3 : 1;
    if (dots) {
        *dots = 0;
        arguments[0] = dml_format("--%s", name);
        arguments[1] = value;
        arguments[2] = dots + 2;
    } else {
        arguments[0] = dml_format("--%s=%s", name, value);
    }
    enum dml_status status =
        arguments[0] ? dml_params_parse(item->params, count, arguments) : DML_ERROR_MEMORY;
    free(arguments[0]);
    return status;
}

/* Reads the text in an operation's parentheses, which is changed. */
static enum dml_status read_arguments(struct listed *item, char *arguments) {
    const struct dml_param_table *table = item->operation->params;
    if (!table)
        return *trim(arguments) ? dml_fail(DML_ERROR_USAGE, "has no parameters") : DML_OK;
    enum dml_status status = dml_params_new(&item->params);
    if (!status)
        status = dml_params_add(item->params, table);
    char *rest = arguments;
    bool first = true;
    for (char *argument; !status && (argument = strsep(&rest, ","));) {
        argument = trim(argument);
        bool nothing = first && !*argument && !rest;
        if (!nothing)
            status = read_argument(item, argument, first);
        first = false;
    }
    item->options = status ? NULL : dml_params_options(item->params, table);
    return status;
}

/* Reads the operation that *text begins with, and its arguments; *text moves past it. */
static enum dml_status read_operation(char **text, struct listed *item) {
    char *name = *text, none[1] = "", *arguments = none;
    char *end = name + strcspn(name, " \t\n(");
    if (*end == '(') {
        char *close = strchr(end, ')');
        if (!close)
            return dml_fail(DML_ERROR_USAGE, "')' is missing");
        if (close[1] && !strchr(" \t\n", close[1]))
            return dml_fail(DML_ERROR_USAGE, "'%s' follows its ')' without a blank", close + 1);
        *end = *close = 0;
        arguments = end + 1;
        *text = close + 1;
    } else {
        *text = *end ? end + 1 : end;
        *end = 0;
    }
    enum dml_status status = find(name, &item->operation);
    if (status)
        return status;
    status = read_arguments(item, arguments);
    return status ? dml_fail_within(status, "%s", item->operation->name) : DML_OK;
}

static enum dml_status check(const struct listed *item, bool training, struct dml_place *place) {
    const struct dml_operation *operation = item->operation;
    enum dml_status status = DML_OK;
    if (operation->random && !training)
        status = dml_fail(DML_ERROR_USAGE, "is random, and evaluation must not be");
    else if (place->closed)
        status = dml_fail(DML_ERROR_USAGE,
                          "nothing may follow random_erasing, which works after normalising");
    else if (operation->check)
        status = operation->check(item->options, place);
    return status ? dml_fail_within(status, "%s", operation->name) : DML_OK;
}

static enum dml_status read_list(struct dml_pipeline *pipeline, char *text, bool training,
                                 struct dml_place *place) {
    enum dml_status status = DML_OK;
    while (!status && *(text += strspn(text, " \t\n"))) {
        if (pipeline->count == DML_MOST_OPERATIONS)
            return dml_fail(DML_ERROR_USAGE, "more than %d operations", DML_MOST_OPERATIONS);
        struct listed *item = &pipeline->items[pipeline->count++];
        status = read_operation(&text, item);
        if (!status)
            status = check(item, training, place);
        if (status)
            dml_fail_within(status, "operation %d", pipeline->count);
    }
    if (status)
        return status;
    if (!place->scaled)
        return dml_fail(DML_ERROR_USAGE,
                        "nothing scales the images: begin with random_resized_crop, resize or "
                        "squash");
    if (!place->square)
        return dml_fail(DML_ERROR_USAGE, "resize keeps the images' shape: crop after it");
    if (place->side != place->crop)
        return dml_fail(DML_ERROR_USAGE,
                        "makes images of %d x %d, but the network takes %d x %d (--image_size)",
                        place->side, place->side, place->crop, place->crop);
    return DML_OK;
}

enum dml_status dml_pipeline_parse(const char *flag, const char *text, bool training, int crop,
                                   int resize, struct dml_pipeline **out) {
    struct dml_pipeline *pipeline = *out = dml_alloc(1, sizeof *pipeline);
    char *copy = dml_strdup(text);
    struct dml_place place = {.crop = crop, .resize = resize};
    enum dml_status status = DML_ERROR_MEMORY;
    if (pipeline && copy && (pipeline->text = dml_strdup(text))) {
        status = read_list(pipeline, copy, training, &place);
        if (status)
            dml_fail_within(status, "--%s", flag);
    }
    free(copy);
    if (status) {
        dml_pipeline_free(pipeline);
        *out = NULL;
    }
    return status;
}

struct dml_view dml_pipeline_draw(const struct dml_pipeline *pipeline, int width, int height,
                                  struct dml_rng *rng) {
    struct dml_rect all = {0, 0, width, height};
    struct dml_view view = {.scaling = {.box = all, .width = width, .height = height, .part = all},
                            .list = pipeline};
    for (; view.count < pipeline->count; view.count++) {
        const struct listed *item = &pipeline->items[view.count];
        item->operation->draw(item->options, rng, &view, &view.drawn[view.count]);
    }
    return view;
}

enum dml_status dml_pipeline_render(const struct dml_view *view, struct dml_resizer *resizer,
                                    const struct dml_pixels *pixels, uint8_t *out) {
    struct dml_rect part = view->scaling.part;
    enum dml_status status = dml_resize(resizer, &view->scaling, pixels, out);
    if (!status)
        status =
            dml_pixels_reserve(&resizer->spare, (struct dml_rect){0, 0, part.width, part.height});
    if (status)
        return status;
    struct dml_canvas canvas = {out, resizer->spare.data, part.width, part.height};
    for (int i = 0; i < view->count; i++) {
        const struct listed *item = &view->list->items[i];
        if (view->drawn[i].on)
            item->operation->render(item->options, &view->drawn[i], &canvas);
    }
    return DML_OK;
}

enum dml_status dml_transforms_open(const struct dml_dataset_options *o, int native,
                                    struct dml_transforms *out) {
    struct dml_transform *const both[] = {&out->training, &out->evaluation};
    const char *const texts[] = {o->transforms, o->eval_transforms};
    enum dml_status status = DML_OK;
    *out = (struct dml_transforms){.lists = {NULL}};
    if (*o->transforms && o->augmentation != DML_AUGMENTATION_BASE)
        return dml_fail(DML_ERROR_USAGE,
                        "--augmentation and --transforms: only one of them makes the images");
    for (int i = 0; !status && i < 2; i++) {
        *both[i] =
            dml_transform_of(o->augmentation, i == 0, native, o->image_size, o->crop_area_min);
        if (!*texts[i])
            continue;
        status = dml_pipeline_parse(i == 0 ? "transforms" : "eval_transforms", texts[i], i == 0,
                                    both[i]->crop, both[i]->resize, &out->lists[i]);
        both[i]->list = out->lists[i];
        if (i == 0)
            both[i]->kind = DML_TRANSFORM_LIST;
    }
    if (status)
        dml_transforms_close(out);
    return status;
}

void dml_transforms_close(struct dml_transforms *transforms) {
    for (int i = 0; i < 2; i++)
        dml_pipeline_free(transforms->lists[i]);
    *transforms = (struct dml_transforms){.lists = {NULL}};
}
