#include "backends/backend.h"

static const char *const precision_names[] = {
    [DML_PRECISION_FP32] = "fp32",
    [DML_PRECISION_BF16] = "bf16",
};

/* In the order in which they are tried. */
static const struct dml_backend *const backends[] = {&dml_backend_cpu};

static bool fulfils(const struct dml_backend_abilities *can,
                    const struct dml_backend_wishes *wishes) {
    return can->devices > 0 && (can->precisions >> wishes->precision & 1) &&
           (can->micro_batches || !wishes->micro_batches);
}

enum dml_status dml_backend_select(const struct dml_backend_wishes *wishes,
                                   const struct dml_backend **out, const char **note) {
    const char *reason = "no backend of this build computes that";
    *out = NULL;
    *note = wishes->gpu ? "no GPU backend in this build" : NULL;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        struct dml_backend_abilities can = backends[i]->abilities();
        if (fulfils(&can, wishes)) {
            *out = backends[i];
            *note = can.gpu ? NULL : *note;
            return DML_OK;
        }
        reason = can.reason ? can.reason : reason;
        if (wishes->gpu && can.gpu)
            *note = reason;
    }
    return dml_fail(DML_ERROR_UNSUPPORTED, "--precision %s%s: %s",
                    precision_names[wishes->precision],
                    wishes->micro_batches ? " with --micro_bs" : "", reason);
}
