#ifndef DML_CPU_ONEDNN_H
#define DML_CPU_ONEDNN_H

#include "dml/error.h"

#include <oneapi/dnnl/dnnl.h>

#include <stddef.h>

/* oneDNN's objects as convolution.c uses them. */

/* Written for oneDNN 2.x. In 3.x operation descriptors are gone (dnnl_convolution_*_desc_init and
 * dnnl_primitive_desc_create become one call each) and memory descriptors are opaque pointers:
 * in convolution.c describe(), the three make_* functions and the accessors of struct cpu_weights
 * are what would get a second variant. */
#if DNNL_VERSION_MAJOR != 2
#error "src/backends/cpu/convolution.c is written for oneDNN 2.x"
#endif

struct cpu_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

static inline enum dml_status check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success)
        return DML_OK;
    if (status == dnnl_out_of_memory)
        return dml_fail(DML_ERROR_MEMORY, "oneDNN: %s: out of memory", what);
    return dml_fail(DML_ERROR_UNSUPPORTED, "oneDNN: %s: status %d", what, (int)status);
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum dml_status try_status = (call);                                                       \
        if (try_status != DML_OK)                                                                  \
            return try_status;                                                                     \
    } while (0)

/* A primitive with a memory object for each argument; their handles are set at each run. */
enum { CPU_MOST_ARGUMENTS = 8 };
struct cpu_operation {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[CPU_MOST_ARGUMENTS];
    int count;
    size_t scratch; /* bytes */
};

/* Makes the primitive of `pd` with the given arguments (ended by 0) and room for scratch. What a
 * failure leaves is destroyed like any other. */
enum dml_status cpu_operation_create(struct cpu_operation *operation, struct cpu_engine *engine,
                                     const_dnnl_primitive_desc_t pd, const int *arguments,
                                     const dnnl_memory_desc_t *const *mds);
/* Copies from one layout or type to another. */
enum dml_status cpu_operation_reorder(struct cpu_operation *operation, struct cpu_engine *engine,
                                      const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to);
void cpu_operation_destroy(struct cpu_operation *operation);

/* `handles` in the order of the arguments; scratch behind them. */
enum dml_status cpu_operation_run(struct cpu_engine *engine, struct cpu_operation *operation,
                                  const void *const *handles, void *scratch);

#endif
