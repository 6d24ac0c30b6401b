#include "nn/weights/pickle.h"

#include "base/memory.h"

#include <ctype.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* Values and the stack grow with the bytes read, one value at most for each, so a small file
 * cannot ask for much; this bounds a large one to some 300 MB. A state dict of 10,000 tensors
 * makes 300,000 values. */
enum { MAX_VALUES = 1 << 22, MAX_MEMO = 1 << 22, MAX_ITEMS = 1 << 24 };

typedef struct dml_pickle_value value;

struct machine {
    const unsigned char *bytes;
    size_t size, at;
    const char *file;
    struct dml_pickle *pickle;
    value **stack; /* NULL marks a mark */
    size_t depth, stack_capacity;
    value **memo; /* NULL: not set */
    size_t memo_count, memo_capacity;
    size_t items; /* in all lists together: a call copies its arguments, again and again */
};

static enum dml_status broken(const struct machine *m, const char *what) {
    return dml_fail(DML_ERROR_INPUT, "%s: its pickle is malformed at byte %zu: %s", m->file, m->at,
                    what);
}

static enum dml_status take(struct machine *m, size_t length, const unsigned char **out) {
    if (length > m->size - m->at)
        return dml_fail(DML_ERROR_INPUT, "%s: is cut short inside its pickle", m->file);
    *out = m->bytes + m->at;
    m->at += length;
    return DML_OK;
}

/* A little-endian unsigned number of `length` <= 8 bytes. */
static enum dml_status take_number(struct machine *m, size_t length, uint64_t *out) {
    const unsigned char *bytes = NULL;
    enum dml_status status = take(m, length, &bytes);
    if (status)
        return status;
    *out = 0;
    for (size_t i = 0; i < length; i++)
        *out |= (uint64_t)bytes[i] << 8 * i;
    return DML_OK;
}

static enum dml_status push(struct machine *m, value *item) {
    enum dml_status status =
        dml_grow(&m->stack, &m->stack_capacity, m->depth + 1, sizeof *m->stack);
    if (!status)
        m->stack[m->depth++] = item;
    return status;
}

static bool holds_items(enum dml_pickle_kind kind) {
    return kind == DML_PICKLE_LIST || kind == DML_PICKLE_DICT || kind == DML_PICKLE_STORAGE ||
           kind == DML_PICKLE_TENSOR || kind == DML_PICKLE_PARAMETER;
}

/* Takes over the items of a list, even when it fails. */
static enum dml_status push_new(struct machine *m, value template) {
    value *made = NULL;
    enum dml_status status = DML_ERROR_MEMORY;
    if (m->pickle->count == MAX_VALUES)
        status = dml_fail(DML_ERROR_INPUT, "%s: its pickle has more than %d values", m->file,
                          MAX_VALUES);
    else
        made = dml_alloc(1, sizeof *made);
    if (!made) {
        if (holds_items(template.kind))
            free(template.list.items);
        return status;
    }
    *made = template;
    made->next = m->pickle->all;
    m->pickle->all = made;
    m->pickle->count++;
    return push(m, made);
}

static enum dml_status push_int(struct machine *m, int64_t number) {
    return push_new(m, (value){.kind = DML_PICKLE_INT, .integer = number});
}

/* The topmost value, taken off; a mark or an empty stack is an error. */
static enum dml_status pop(struct machine *m, value **out) {
    if (m->depth == 0 || !m->stack[m->depth - 1])
        return broken(m, "a value is missing");
    *out = m->stack[--m->depth];
    return DML_OK;
}

static enum dml_status top(struct machine *m, value **out) {
    enum dml_status status = pop(m, out);
    m->depth += !status;
    return status;
}

/* The values above the topmost mark; the stack then ends below the mark. They stay valid until
 * the next push. */
static enum dml_status pop_mark(struct machine *m, value ***items, size_t *count) {
    size_t at = m->depth;
    while (at > 0 && m->stack[at - 1])
        at--;
    if (at == 0)
        return broken(m, "a mark is missing");
    *items = m->stack + at;
    *count = m->depth - at;
    m->depth = at - 1;
    return DML_OK;
}

static enum dml_status append(struct machine *m, value *list, value *const *items, size_t count) {
    if (count == 0)
        return DML_OK;
    m->items += count;
    if (m->items > MAX_ITEMS)
        return dml_fail(DML_ERROR_INPUT, "%s: the lists in its pickle have more than %d items",
                        m->file, MAX_ITEMS);
    enum dml_status status =
        dml_grow(&list->list.items, &list->list.capacity, list->list.count + count, sizeof *items);
    if (status)
        return status;
    memcpy(list->list.items + list->list.count, items, count * sizeof *items);
    list->list.count += count;
    return DML_OK;
}

/* Pushes a new list, tuple or dict of the given items, which may lie just above the stack. */
static enum dml_status push_list(struct machine *m, enum dml_pickle_kind kind, value *const *items,
                                 size_t count) {
    value made = {.kind = kind};
    enum dml_status status = append(m, &made, items, count);
    return status ? status : push_new(m, made);
}

static enum dml_status push_text(struct machine *m, size_t length_bytes) {
    uint64_t length = 0;
    const unsigned char *bytes = NULL;
    enum dml_status status = take_number(m, length_bytes, &length);
    if (!status && length > m->size)
        status = dml_fail(DML_ERROR_INPUT, "%s: is cut short inside its pickle", m->file);
    if (!status)
        status = take(m, (size_t)length, &bytes);
    if (status)
        return status;
    return push_new(
        m, (value){.kind = DML_PICKLE_TEXT, .text = {(const char *)bytes, (size_t)length}});
}

/* A two's-complement integer of any length; those beyond 64 bits (hashes, states of generators) are
 * of no use here. */
static enum dml_status push_long(struct machine *m, size_t length_bytes) {
    uint64_t length = 0, number = 0;
    enum dml_status status = take_number(m, length_bytes, &length);
    if (status)
        return status;
    if (length > 8) {
        const unsigned char *skipped;
        if (length > m->size)
            return dml_fail(DML_ERROR_INPUT, "%s: is cut short inside its pickle", m->file);
        status = take(m, (size_t)length, &skipped);
        return status ? status : push_new(m, (value){.kind = DML_PICKLE_OPAQUE});
    }
    if ((status = take_number(m, (size_t)length, &number)))
        return status;
    if (length > 0 && length < 8 && number >> (8 * length - 1))
        number |= UINT64_MAX << 8 * length;
    return push_int(m, (int64_t)number);
}

static enum dml_status push_double(struct machine *m) {
    uint64_t bits = 0;
    enum dml_status status = take_number(m, 8, &bits);
    if (status)
        return status;
    bits = __builtin_bswap64(bits); /* the one big-endian thing in a pickle */
    value made = {.kind = DML_PICKLE_FLOAT};
    memcpy(&made.real, &bits, sizeof made.real);
    return push_new(m, made);
}

/* Names come from the file: only what is printable reaches a message. */
static void printable(const char *bytes, size_t length, char out[80]) {
    size_t used = 0;
    for (size_t i = 0; i < length && used < 79; i++)
        out[used++] = isprint((unsigned char)bytes[i]) ? bytes[i] : '?';
    out[used] = 0;
}

static bool same(const char *bytes, size_t length, const char *text) {
    return strlen(text) == length && memcmp(bytes, text, length) == 0;
}

static enum dml_status push_global(struct machine *m, const char *module, size_t module_length,
                                   const char *name, size_t name_length) {
    value found;
    if (dml_pickle_global_find(module, module_length, name, name_length, &found))
        return push_new(m, found);
    char shown_module[80], shown_name[80];
    printable(module, module_length, shown_module);
    printable(name, name_length, shown_name);
    return dml_fail(DML_ERROR_INPUT,
                    "%s: refused: its pickle asks for %s.%s, and weight files may "
                    "only hold tensors and plain containers",
                    m->file, shown_module, shown_name);
}

/* GLOBAL: module and name as two lines. */
static enum dml_status read_global(struct machine *m) {
    const char *parts[2];
    size_t lengths[2];
    for (int i = 0; i < 2; i++) {
        parts[i] = (const char *)m->bytes + m->at;
        const char *end = memchr(parts[i], '\n', m->size - m->at);
        if (!end)
            return dml_fail(DML_ERROR_INPUT, "%s: is cut short inside its pickle", m->file);
        lengths[i] = (size_t)(end - parts[i]);
        m->at += lengths[i] + 1;
    }
    return push_global(m, parts[0], lengths[0], parts[1], lengths[1]);
}

static enum dml_status stack_global(struct machine *m) {
    value *module = NULL, *name = NULL;
    enum dml_status status = pop(m, &name);
    if (!status)
        status = pop(m, &module);
    if (status)
        return status;
    if (module->kind != DML_PICKLE_TEXT || name->kind != DML_PICKLE_TEXT)
        return broken(m, "a global without a name");
    return push_global(m, module->text.bytes, module->text.length, name->text.bytes,
                       name->text.length);
}

/* OrderedDict(), Counter({key: value, ...}), defaultdict(list), or OrderedDict([[key, value], ...])
 * as Python 2 writes it. */
static enum dml_status call_mapping(struct machine *m, const value *arguments) {
    enum dml_status status = push_list(m, DML_PICKLE_DICT, NULL, 0);
    if (status || arguments->list.count == 0)
        return status;
    value *dict = m->stack[m->depth - 1], *given = arguments->list.items[0];
    if (given->kind == DML_PICKLE_DICT)
        return append(m, dict, given->list.items, given->list.count);
    if (given->kind != DML_PICKLE_LIST)
        return DML_OK; /* what a defaultdict makes its values with */
    for (size_t i = 0; i < given->list.count && !status; i++) {
        const value *pair = given->list.items[i];
        if (pair->kind != DML_PICKLE_LIST || pair->list.count != 2)
            return broken(m, "an OrderedDict of something other than pairs");
        status = append(m, dict, pair->list.items, 2);
    }
    return status;
}

/* What a call of a known global means: a value that holds the arguments. */
static enum dml_status call(struct machine *m, const value *callee, const value *arguments) {
    value *const *items = arguments->list.items;
    size_t count = arguments->list.count;
    if (callee->global.which ==
        DML_PICKLE_REBUILD_FROM_TYPE) { /* (function, type, arguments, state) */
        if (count < 3 || items[0]->kind != DML_PICKLE_GLOBAL || items[2]->kind != DML_PICKLE_LIST ||
            items[0]->global.which == DML_PICKLE_REBUILD_FROM_TYPE)
            return broken(m, "a tensor of a type that is not described");
        return call(m, items[0], items[2]);
    }
    switch (callee->global.which) {
    case DML_PICKLE_MAPPING:
        return call_mapping(m, arguments);
    case DML_PICKLE_REBUILD_TENSOR:
        return push_list(m, DML_PICKLE_TENSOR, items, count);
    case DML_PICKLE_REBUILD_PARAMETER:
        return push_list(m, DML_PICKLE_PARAMETER, items, count);
    case DML_PICKLE_REBUILD_FOREIGN:
        return push_new(m, (value){.kind = DML_PICKLE_FOREIGN});
    case DML_PICKLE_VALUE:
        return push_new(m, (value){.kind = DML_PICKLE_OPAQUE});
    default:
        return broken(m, "a call of a storage type");
    }
}

static enum dml_status reduce(struct machine *m) {
    value *arguments = NULL, *callee = NULL;
    enum dml_status status = pop(m, &arguments);
    if (!status)
        status = pop(m, &callee);
    if (status)
        return status;
    if (callee->kind != DML_PICKLE_GLOBAL || arguments->kind != DML_PICKLE_LIST)
        return broken(m, "a call of something that cannot be called");
    return call(m, callee, arguments);
}

/* A new object with arguments by name, which nothing here needs. */
static enum dml_status reduce_named(struct machine *m) {
    value *named = NULL;
    enum dml_status status = pop(m, &named);
    return status ? status : reduce(m);
}

/* An object's state: kept for containers and parameters, not needed for others. */
static enum dml_status build(struct machine *m) {
    value *state = NULL, *object = NULL;
    enum dml_status status = pop(m, &state);
    if (!status)
        status = top(m, &object);
    if (!status && (object->kind == DML_PICKLE_DICT || object->kind == DML_PICKLE_PARAMETER))
        object->list.state = state;
    return status;
}

static enum dml_status persistent_id(struct machine *m) {
    value *id = NULL;
    enum dml_status status = pop(m, &id);
    if (status)
        return status;
    if (id->kind != DML_PICKLE_LIST)
        return broken(m, "a persistent id that is not a tuple");
    return push_list(m, DML_PICKLE_STORAGE, id->list.items, id->list.count);
}

static enum dml_status set_items(struct machine *m, enum dml_pickle_kind kind, value *const *items,
                                 size_t count) {
    value *into = NULL;
    enum dml_status status = top(m, &into);
    if (status)
        return status;
    if (kind == DML_PICKLE_DICT && count % 2)
        return broken(m, "a key without a value");
    if (into->kind == DML_PICKLE_OPAQUE)
        return DML_OK;
    if (into->kind != kind)
        return broken(m, "items for something that holds none");
    return append(m, into, items, count);
}

static enum dml_status put(struct machine *m, size_t index) {
    value *item = NULL;
    enum dml_status status = top(m, &item);
    if (status)
        return status;
    if (index >= MAX_MEMO || index > m->size)
        return broken(m, "a memo index out of bounds");
    size_t had = m->memo_capacity;
    if ((status = dml_grow(&m->memo, &m->memo_capacity, index + 1, sizeof *m->memo)))
        return status;
    memset(m->memo + had, 0, (m->memo_capacity - had) * sizeof *m->memo);
    m->memo_count += !m->memo[index];
    m->memo[index] = item;
    return DML_OK;
}

static enum dml_status get(struct machine *m, size_t index) {
    if (index >= m->memo_capacity || !m->memo[index])
        return broken(m, "a memo entry that was never set");
    return push(m, m->memo[index]);
}

static enum dml_status push_tuple(struct machine *m, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (m->depth <= i || !m->stack[m->depth - 1 - i])
            return broken(m, "a value is missing");
    m->depth -= count;
    return push_list(m, DML_PICKLE_LIST, m->stack + m->depth, count);
}

enum { STOP = '.' };

/* Opcodes followed by a number, and those that make containers of what is above the mark. */
static enum dml_status step_sized(struct machine *m, unsigned char opcode) {
    uint64_t number = 0;
    value **items = NULL;
    size_t count = 0, width = opcode == 'K' || opcode == 'q' || opcode == 'h'   ? 1
                              : opcode == 'M'                                   ? 2
                              : opcode == 'J' || opcode == 'r' || opcode == 'j' ? 4
                                                                                : 0;
    enum dml_status status = width ? take_number(m, width, &number) : pop_mark(m, &items, &count);
    if (status)
        return status;
    switch (opcode) {
    case 'K': /* BININT1 */
    case 'M': /* BININT2 */
        return push_int(m, (int64_t)number);
    case 'J': /* BININT */
        return push_int(m, (int32_t)(uint32_t)number);
    case 'q': /* BINPUT */
    case 'r': /* LONG_BINPUT */
        return put(m, (size_t)number);
    case 'h': /* BINGET */
    case 'j': /* LONG_BINGET */
        return get(m, (size_t)number);
    case 't': /* TUPLE */
    case 'l': /* LIST */
        return push_list(m, DML_PICKLE_LIST, items, count);
    case 'd': /* DICT */
        return count % 2 ? broken(m, "a key without a value")
                         : push_list(m, DML_PICKLE_DICT, items, count);
    case 'e': /* APPENDS */
        return set_items(m, DML_PICKLE_LIST, items, count);
    case 'u': /* SETITEMS */
        return set_items(m, DML_PICKLE_DICT, items, count);
    case 0x90: /* ADDITEMS */
        return set_items(m, DML_PICKLE_OPAQUE, items, count);
    case 0x91: /* FROZENSET */
        return push_new(m, (value){.kind = DML_PICKLE_OPAQUE});
    default: /* '1', POP_MARK: pop_mark has done it */
        return DML_OK;
    }
}

static enum dml_status step(struct machine *m, unsigned char opcode) {
    const unsigned char *skipped;
    value *item = NULL;
    switch (opcode) {
    case 0x80: /* PROTO */
        return take(m, 1, &skipped);
    case 0x95: /* FRAME */
        return take(m, 8, &skipped);
    case '(': /* MARK */
        return push(m, NULL);
    case '0': /* POP */
        return m->depth ? (m->depth--, DML_OK) : broken(m, "a value is missing");
    case '2': /* DUP */
        return top(m, &item) ? DML_ERROR_INPUT : push(m, item);
    case 'N':
        return push_new(m, (value){.kind = DML_PICKLE_NONE});
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push_new(m, (value){.kind = DML_PICKLE_BOOL, .integer = opcode == 0x88});
    case 0x8a: /* LONG1 */
        return push_long(m, 1);
    case 0x8b: /* LONG4 */
        return push_long(m, 4);
    case 'G': /* BINFLOAT */
        return push_double(m);
    case 'U':  /* SHORT_BINSTRING */
    case 'C':  /* SHORT_BINBYTES */
    case 0x8c: /* SHORT_BINUNICODE */
        return push_text(m, 1);
    case 'T': /* BINSTRING */
    case 'X': /* BINUNICODE */
    case 'B': /* BINBYTES */
        return push_text(m, 4);
    case 0x8d: /* BINUNICODE8 */
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return push_text(m, 8);
    case ']': /* EMPTY_LIST */
    case ')': /* EMPTY_TUPLE */
        return push_list(m, DML_PICKLE_LIST, NULL, 0);
    case '}': /* EMPTY_DICT */
        return push_list(m, DML_PICKLE_DICT, NULL, 0);
    case 0x8f: /* EMPTY_SET */
        return push_new(m, (value){.kind = DML_PICKLE_OPAQUE});
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        return push_tuple(m, opcode - 0x84u);
    case 'a': /* APPEND */
        return pop(m, &item) ? DML_ERROR_INPUT : set_items(m, DML_PICKLE_LIST, &item, 1);
    case 's': { /* SETITEM */
        value *pair[2];
        enum dml_status status = pop(m, &pair[1]);
        if (!status)
            status = pop(m, &pair[0]);
        return status ? status : set_items(m, DML_PICKLE_DICT, pair, 2);
    }
    case 'c':
        return read_global(m);
    case 0x93:
        return stack_global(m);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return reduce(m);
    case 0x92: /* NEWOBJ_EX */
        return reduce_named(m);
    case 'b':
        return build(m);
    case 'Q':
        return persistent_id(m);
    case 0x94: /* MEMOIZE */
        return put(m, m->memo_count);
    default:
        if (opcode && strchr("KMJqrhjtldeu1\x90\x91", opcode))
            return step_sized(m, opcode);
        return dml_fail(DML_ERROR_INPUT,
                        "%s: its pickle has the operation 0x%02x at byte %zu, "
                        "which state dicts have no use for",
                        m->file, opcode, m->at - 1);
    }
}

enum dml_status dml_pickle_read(const unsigned char *bytes, size_t size, const char *file,
                                struct dml_pickle *out, size_t *used) {
    memset(out, 0, sizeof *out);
    struct machine m = {.bytes = bytes, .size = size, .file = file, .pickle = out};
    enum dml_status status = DML_OK;
    const unsigned char *opcode = NULL;
    while (!status && !(status = take(&m, 1, &opcode)) && *opcode != STOP)
        status = step(&m, *opcode);
    if (!status)
        status = pop(&m, &out->root);
    if (used)
        *used = m.at;
    free(m.stack);
    free(m.memo);
    return status;
}

void dml_pickle_free(struct dml_pickle *pickle) {
    for (value *item = pickle->all, *next; item; item = next) {
        next = item->next;
        if (holds_items(item->kind))
            free(item->list.items);
        free(item);
    }
    memset(pickle, 0, sizeof *pickle);
}

bool dml_pickle_is_text(const value *item, const char *text) {
    return item->kind == DML_PICKLE_TEXT && same(item->text.bytes, item->text.length, text);
}

value *dml_pickle_get(const value *dict, const char *key) {
    if (dict->kind != DML_PICKLE_DICT)
        return NULL;
    for (size_t i = dict->list.count; i >= 2; i -= 2)
        if (dml_pickle_is_text(dict->list.items[i - 2], key))
            return dict->list.items[i - 1];
    return NULL;
}
