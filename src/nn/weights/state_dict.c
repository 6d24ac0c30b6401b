#include "nn/weights/state_dict.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct dml_pickle_value value;

/* How deep a state dict may be nested: {"model": {"state_dict": ...}} is 2. */
enum { MAX_NESTING = 6, KEYS_SHOWN = 12, KEY_BYTES = 60 };

/* The first of these that leads to tensors is taken: weights as trained before their average, a
 * teacher before its student, a whole model before its parts. */
static const char *const model_names[] = {
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "net_state_dict",
    "network",
    "teacher",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "params",
    "params_ema",
    "weights",
    "student",
    "backbone",
    "encoder",
    "trunk",
    "embedder",
    "state",
};
enum { NAME_COUNT = sizeof model_names / sizeof model_names[0] };

/* What a part of a checkpoint leads to. */
struct found {
    const value *dict;             /* NULL: no tensors */
    size_t tensors;                /* of one axis or more */
    const value *key[MAX_NESTING]; /* from the top; NULL: in a list */
    size_t index[MAX_NESTING];     /* in that list */
    int depth;
    bool unclear;
};

const value *dml_state_dict_tensor(const value *item) {
    if (item->kind == DML_PICKLE_PARAMETER) {
        /* an old one holds its tensor as the first of the attributes that BUILD gave it */
        const value *state = item->list.state;
        if (item->list.count > 0)
            item = item->list.items[0];
        else if (state && state->kind == DML_PICKLE_LIST && state->list.count > 0)
            item = state->list.items[0];
    }
    return item->kind == DML_PICKLE_TENSOR || item->kind == DML_PICKLE_FOREIGN ? item : NULL;
}

static bool has_axes(const value *tensor) {
    return tensor->kind == DML_PICKLE_FOREIGN || tensor->list.count < 3 ||
           tensor->list.items[2]->kind != DML_PICKLE_LIST || tensor->list.items[2]->list.count > 0;
}

/* The tensors that the dict itself holds by name. */
static struct found own_tensors(const value *dict, int depth) {
    struct found found = {.depth = depth};
    for (size_t i = 0; i + 1 < dict->list.count; i += 2) {
        const value *tensor = dict->list.items[i]->kind == DML_PICKLE_TEXT
                                  ? dml_state_dict_tensor(dict->list.items[i + 1])
                                  : NULL;
        if (tensor && tensor->kind == DML_PICKLE_TENSOR)
            found.dict = dict;
        found.tensors += tensor && has_axes(tensor);
    }
    return found;
}

/* States of optimisers and the like hold tensors, too. */
static bool may_hold_model(const value *key) {
    static const char *const others[] = {"optim", "sched", "scaler", "rng", "criterion", "loss"};
    char text[KEY_BYTES];
    if (key->kind != DML_PICKLE_TEXT)
        return false;
    size_t length = key->text.length < sizeof text - 1 ? key->text.length : sizeof text - 1;
    for (size_t i = 0; i < length; i++)
        text[i] = (char)tolower((unsigned char)key->text.bytes[i]);
    text[length] = 0;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strstr(text, others[i]))
            return false;
    return true;
}

static struct found search(value *item, int depth);

static struct found search_below(value *child, const value *key, size_t index, int depth) {
    struct found found = search(child, depth + 1);
    found.key[depth] = key;
    found.index[depth] = index;
    return found;
}

static struct found search_known(const value *dict, int depth) {
    for (size_t i = 0; i < NAME_COUNT; i++)
        for (size_t k = 0; k + 1 < dict->list.count; k += 2) {
            if (!dml_pickle_is_text(dict->list.items[k], model_names[i]))
                continue;
            struct found found =
                search_below(dict->list.items[k + 1], dict->list.items[k], 0, depth);
            if (found.dict)
                return found;
        }
    return (struct found){.dict = NULL};
}

/* One of several must hold more tensors than all others together. */
static struct found search(value *item, int depth) {
    struct found best = {.dict = NULL};
    if ((item->kind != DML_PICKLE_DICT && item->kind != DML_PICKLE_LIST) || item->list.seen ||
        depth == MAX_NESTING)
        return best;
    item->list.seen = true;
    bool keyed = item->kind == DML_PICKLE_DICT;
    if (keyed) {
        best = search_known(item, depth);
        if (best.dict)
            return best;
        best = own_tensors(item, depth);
    }
    size_t candidates = best.dict != NULL, total = best.tensors;
    for (size_t i = 0; i < item->list.count; i += keyed ? 2 : 1) {
        const value *key = keyed ? item->list.items[i] : NULL;
        if (keyed && !may_hold_model(key))
            continue;
        struct found found = search_below(item->list.items[keyed ? i + 1 : i], key, i, depth);
        if (!found.dict)
            continue;
        candidates++;
        total += found.tensors;
        if (!best.dict || found.tensors > best.tensors)
            best = found;
    }
    best.unclear |= candidates > 1 && 2 * best.tensors <= total;
    return best;
}

/* Names come from the file: only what is printable reaches a message. */
static enum dml_status append_key(char **text, const char *separator, const value *key,
                                  size_t index) {
    char shown[KEY_BYTES + 1];
    size_t length = 0;
    if (key && key->kind == DML_PICKLE_TEXT)
        for (; length < key->text.length && length < KEY_BYTES; length++)
            shown[length] =
                isprint((unsigned char)key->text.bytes[length]) ? key->text.bytes[length] : '?';
    else if (key)
        length = (size_t)snprintf(shown, sizeof shown, "(not text)");
    else
        length = (size_t)snprintf(shown, sizeof shown, "[%zu]", index);
    char *longer = dml_format("%s%s%.*s", *text, **text ? separator : "", (int)length, shown);
    free(*text);
    *text = longer;
    return longer ? DML_OK : DML_ERROR_MEMORY;
}

/* The keys of a dict except one. */
static enum dml_status list_keys(const value *dict, const value *but, char **out) {
    size_t more = 0, shown = 0;
    *out = dml_strdup("");
    enum dml_status status = *out ? DML_OK : DML_ERROR_MEMORY;
    if (dict->kind != DML_PICKLE_DICT)
        return status;
    for (size_t i = 0; i + 1 < dict->list.count && !status; i += 2) {
        if (dict->list.items[i] == but)
            continue;
        if (shown < KEYS_SHOWN)
            status = append_key(out, ", ", dict->list.items[i], 0);
        more += shown++ >= KEYS_SHOWN;
    }
    if (!status && more) {
        char *longer = dml_format("%s and %zu more", *out, more);
        free(*out);
        *out = longer;
        status = longer ? DML_OK : DML_ERROR_MEMORY;
    }
    return status;
}

static enum dml_status refuse(const value *root, const struct found *found, const char *file) {
    char *keys;
    enum dml_status status = list_keys(root, NULL, &keys);
    if (!status)
        status = dml_fail(DML_ERROR_INPUT, "%s: %s%s%s", file,
                          found->dict ? "holds tensors in several places, and which are the "
                                        "model's is not clear"
                                      : "holds no tensors by name",
                          *keys ? "; its keys are " : "", keys);
    free(keys);
    return status;
}

enum dml_status dml_state_dict_find(value *root, const char *file, const value **dict, char **path,
                                    char **left) {
    struct found found = search(root, 0);
    *path = *left = NULL;
    if (!found.dict || found.unclear)
        return refuse(root, &found, file);
    *dict = found.dict;
    *path = dml_strdup("");
    enum dml_status status = *path ? DML_OK : DML_ERROR_MEMORY;
    for (int d = 0; d < found.depth && !status; d++)
        status = append_key(path, ".", found.key[d], found.index[d]);
    if (!status && found.depth > 0)
        status = list_keys(root, found.key[0], left);
    else if (!status && !(*left = dml_strdup("")))
        status = DML_ERROR_MEMORY;
    return status;
}
