#ifndef DML_CPU_ONEDNN_H
#define DML_CPU_ONEDNN_H

#include "backends/cpu/descriptors.h"
#include "dml/error.h"

#include <stddef.h>

/* oneDNN's objects as convolution.c uses them. */

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
 * failure leaves behind is destroyed like any other. */
enum dml_status cpu_operation_create(struct cpu_operation *operation, struct cpu_engine *engine,
                                     const_dnnl_primitive_desc_t pd, const int *arguments,
                                     const cpu_const_md *mds);
/* Copies from one layout or type to another. */
enum dml_status cpu_operation_reorder(struct cpu_operation *operation, struct cpu_engine *engine,
                                      cpu_const_md from, cpu_const_md to);
void cpu_operation_destroy(struct cpu_operation *operation);

/* `handles` in the order of the arguments, then scratch memory. */
enum dml_status cpu_operation_run(struct cpu_engine *engine, struct cpu_operation *operation,
                                  const void *const *handles, void *scratch);

#endif
