#include "backends/backend.h"

static const char *const precision_names[] = {
    [DML_PRECISION_FP32] = "fp32",
    [DML_PRECISION_BF16] = "bf16",
    [DML_PRECISION_TF32] = "tf32",
};

/* In the order in which they are tried. */
static const struct dml_backend *const backends[] = {&dml_backend_cuda, &dml_backend_cpu};

/* Why the device that is wished for cannot be used; NULL: it can, or is not there. */
static const char *unusable(const struct dml_backend *backend,
                            const struct dml_backend_abilities *can, int device) {
    return backend->unusable && device < can->devices ? backend->unusable(device) : NULL;
}

static enum dml_status refuse_gpu(const struct dml_backend_wishes *wishes,
                                  const struct dml_backend_abilities *can) {
    if (can->devices && wishes->device >= can->devices)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: GPUs are counted from 0, and there %s %d",
                        wishes->device, can->devices == 1 ? "is" : "are", can->devices);
    if (can->devices && !can->reason)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--precision %s: the GPU backend does not support it",
                        precision_names[wishes->precision]);
    return dml_fail(DML_ERROR_UNSUPPORTED, "--gpu %d: %s; without --gpu the processor is used",
                    wishes->device, can->reason);
}

enum dml_status dml_backend_select(const struct dml_backend_wishes *wishes,
                                   const struct dml_backend **out, const char **note) {
    const char *reason = "no backend of this build supports it";
    *out = NULL;
    *note = NULL;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        struct dml_backend_abilities can = backends[i]->abilities();
        const char *fault = unusable(backends[i], &can, wishes->device);
        bool there = can.devices > (can.gpu ? wishes->device : 0) && !fault;
        can.reason = fault ? fault : can.reason;
        if (there && (can.precisions >> wishes->precision & 1) &&
            (can.micro_batches || !wishes->micro_batches)) {
            *out = backends[i];
            *note = can.gpu ? NULL : *note;
            return DML_OK;
        }
        if (can.gpu && wishes->gpu)
            return refuse_gpu(wishes, &can);
        if (can.gpu && can.built)
            *note = can.reason;
        if (!can.gpu && can.reason)
            reason = can.reason;
    }
    if (wishes->precision == DML_PRECISION_TF32)
        reason = "only GPUs support it";
    return dml_fail(DML_ERROR_UNSUPPORTED, "--precision %s%s: %s",
                    precision_names[wishes->precision],
                    wishes->micro_batches ? " with --micro_bs" : "", reason);
}
