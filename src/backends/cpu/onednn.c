#include "backends/cpu/onednn.h"

#include "backends/cpu/convolution.h"
#include "base/level.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* oneDNN picks kernels for the processor: this limits it to the level that DML_LEVEL names. It
 * accepts that only before its first use, and the level never changes. */
static void keep_to_level(void) {
    if (dml_level_forced() == 2)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
    if (dml_level_forced() == 3)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
}

enum dml_status cpu_engine_create(struct cpu_engine **out) {
    keep_to_level();
    struct cpu_engine *engine = *out = dml_alloc(1, sizeof *engine);
    if (!engine)
        return DML_ERROR_MEMORY;
    TRY(check(dnnl_engine_create(&engine->engine, dnnl_cpu, 0), "engine"));
    return check(dnnl_stream_create(&engine->stream, engine->engine, dnnl_stream_default_flags),
                 "stream");
}

void cpu_engine_destroy(struct cpu_engine *engine) {
    if (!engine)
        return;
    if (engine->stream)
        dnnl_stream_destroy(engine->stream);
    if (engine->engine)
        dnnl_engine_destroy(engine->engine);
    free(engine);
}

/* oneDNN numbers instruction sets by bits, each set holding those of the sets it includes. */
static bool has_isa(dnnl_cpu_isa_t isa) {
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

int cpu_engine_block(void) {
    return has_isa(dnnl_cpu_isa_avx512_core) ? 16 : 8;
}

enum cpu_bf16 cpu_engine_bf16(void) {
    const char *wish = getenv("DML_BF16");
    if (wish && !strcmp(wish, "emulate"))
        return CPU_BF16_EMULATED;
    return has_isa(dnnl_cpu_isa_avx512_core_bf16) && !cpu_additions_are_wrong() ? CPU_BF16_NATIVE
                                                                                : CPU_BF16_NONE;
}

bool cpu_engine_tiles(void) {
    return has_isa(dnnl_cpu_isa_avx512_core_amx);
}

void cpu_operation_destroy(struct cpu_operation *operation) {
    for (int i = 0; i < operation->count; i++)
        dnnl_memory_destroy(operation->arguments[i].memory);
    if (operation->primitive)
        dnnl_primitive_destroy(operation->primitive);
}

static enum dml_status add_argument(struct cpu_operation *operation, struct cpu_engine *engine,
                                    int argument, cpu_const_md md) {
    dnnl_memory_t memory;
    TRY(check(dnnl_memory_create(&memory, md, engine->engine, DNNL_MEMORY_NONE), "memory"));
    operation->arguments[operation->count++] = (dnnl_exec_arg_t){argument, memory};
    return DML_OK;
}

enum dml_status cpu_operation_create(struct cpu_operation *operation, struct cpu_engine *engine,
                                     const_dnnl_primitive_desc_t pd, const int *arguments,
                                     const cpu_const_md *mds) {
    for (int i = 0; arguments[i]; i++)
        TRY(add_argument(operation, engine, arguments[i], mds[i]));
    cpu_const_md scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    operation->scratch = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (operation->scratch)
        TRY(add_argument(operation, engine, DNNL_ARG_SCRATCHPAD, scratch));
    return check(dnnl_primitive_create(&operation->primitive, pd), "primitive");
}

enum dml_status cpu_operation_run(struct cpu_engine *engine, struct cpu_operation *operation,
                                  const void *const *handles, void *scratch) {
    for (int i = 0; i < operation->count; i++) {
        bool is_scratch = operation->arguments[i].arg == DNNL_ARG_SCRATCHPAD;
        void *handle = is_scratch ? scratch : (void *)handles[i];
        TRY(check(dnnl_memory_set_data_handle(operation->arguments[i].memory, handle), "memory"));
    }
    TRY(check(dnnl_primitive_execute(operation->primitive, engine->stream, operation->count,
                                     operation->arguments),
              "execution"));
    return check(dnnl_stream_wait(engine->stream), "execution");
}

enum dml_status cpu_operation_reorder(struct cpu_operation *operation, struct cpu_engine *engine,
                                      cpu_const_md from, cpu_const_md to) {
    dnnl_primitive_desc_t pd;
    TRY(check(
        dnnl_reorder_primitive_desc_create(&pd, from, engine->engine, to, engine->engine, NULL),
        "reorder"));
    enum dml_status status = cpu_operation_create(
        operation, engine, pd, (int[]){DNNL_ARG_FROM, DNNL_ARG_TO, 0}, (cpu_const_md[]){from, to});
    dnnl_primitive_desc_destroy(pd);
    return status;
}
