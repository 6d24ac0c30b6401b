#ifndef DML_NN_WEIGHTS_PICKLE_H
#define DML_NN_WEIGHTS_PICKLE_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Python's pickles, as data: a small stack machine that makes plain values. It knows the globals
 * that torch.load(weights_only=True) knows and what calling them means, and passes over a few more
 * that stand beside weights; any other global is refused by its name. Nothing is imported, called
 * or executed. https://docs.python.org/3/library/pickle.html */

enum dml_pickle_kind {
    DML_PICKLE_NONE,
    DML_PICKLE_BOOL,
    DML_PICKLE_INT,
    DML_PICKLE_FLOAT,
    DML_PICKLE_TEXT, /* str or bytes */
    DML_PICKLE_LIST, /* list or tuple */
    DML_PICKLE_DICT, /* dict, OrderedDict, Counter ...: keys and values in turn */
    DML_PICKLE_GLOBAL,
    DML_PICKLE_STORAGE,   /* items: what persistent_id returned */
    DML_PICKLE_TENSOR,    /* items: arguments of torch._utils._rebuild_tensor(_v2) */
    DML_PICKLE_PARAMETER, /* items: arguments of torch.nn.Parameter; the first is its tensor */
    DML_PICKLE_FOREIGN,   /* a tensor that is not an array of numbers: quantised, sparse, float8 ...
                           */
    DML_PICKLE_OPAQUE,    /* something without meaning here: a set, a device, a numpy scalar */
};

/* Globals on the allow-list. */
enum dml_pickle_global {
    DML_PICKLE_MAPPING,
    DML_PICKLE_REBUILD_TENSOR,
    DML_PICKLE_REBUILD_PARAMETER,
    DML_PICKLE_REBUILD_FROM_TYPE, /* a call of another of these, for tensors with attributes */
    DML_PICKLE_REBUILD_FOREIGN,
    DML_PICKLE_VALUE, /* torch.Size, torch.device, torch.float32, set ... */
    DML_PICKLE_STORAGE_TYPE,
};

struct dml_pickle_value {
    enum dml_pickle_kind kind;
    union {
        int64_t integer; /* BOOL, INT */
        double real;
        struct {
            const char *bytes; /* in the pickle, without a terminating 0 */
            size_t length;
        } text; /* TEXT */
        struct {
            enum dml_pickle_global which;
            const char *name; /* "FloatStorage", `length` bytes */
            size_t length;
        } global;
        struct {
            struct dml_pickle_value **items;
            size_t count, capacity;
            struct dml_pickle_value *state; /* given by BUILD: an object's attributes; or NULL */
            bool seen;                      /* for code that walks the values */
        } list;                             /* LIST, DICT, STORAGE, TENSOR, PARAMETER */
    };
    struct dml_pickle_value *next; /* all values of a pickle, to free them */
};

struct dml_pickle {
    struct dml_pickle_value *root;
    struct dml_pickle_value *all;
    size_t count;
};

/* Reads one pickle at the start of `bytes`; `used` gets its length. Texts point into `bytes`.
 * Values may be shared and may contain themselves: limit the depth when walking. Free with
 * dml_pickle_free, even after a failure. `file` is for messages. */
enum dml_status dml_pickle_read(const unsigned char *bytes, size_t size, const char *file,
                                struct dml_pickle *out, size_t *used);
void dml_pickle_free(struct dml_pickle *pickle);

/* The value of a key in a DICT, the last one given; NULL when it is missing or `dict` is not a
 * DICT. */
struct dml_pickle_value *dml_pickle_get(const struct dml_pickle_value *dict, const char *key);
bool dml_pickle_is_text(const struct dml_pickle_value *value, const char *text);

/* The allow-list. Makes a GLOBAL of a name on it; false for any other name. */
bool dml_pickle_global_find(const char *module, size_t module_length, const char *name,
                            size_t name_length, struct dml_pickle_value *out);

#endif
