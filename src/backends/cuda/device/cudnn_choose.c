#include "backends/cuda/device/cudnn_choose.h"

#include <stdlib.h>
#include <string.h>

/* A choice that was made. */
struct choice {
    struct cuda_conv_shape shape;
    enum cuda_pass pass;
    bool fused;
    struct cudnn_plan plan;
    struct choice *next;
};
struct cudnn_choices {
    struct choice *first;
};

struct cudnn_choices *cudnn_choices_new(void) {
    return calloc(1, sizeof(struct cudnn_choices));
}

void cudnn_choices_free(struct cudnn_choices *choices) {
    while (choices && choices->first) {
        struct choice *choice = choices->first;
        choices->first = choice->next;
        cudnn_plan_destroy(&choice->plan);
        free(choice);
    }
    free(choices);
}

/* Memory of the card for one trial of a plan. */
struct trial {
    void *x, *weights, *y, *bias, *residual, *scratch;
};

static bool allocate(const struct cuda_conv_shape *s, enum cuda_math math, size_t scratch,
                     bool fused, struct trial *out) {
    size_t size = math == CUDA_BF16 ? sizeof(uint16_t) : sizeof(float);
    size_t in = s->n * (size_t)s->in_h * (size_t)s->in_w * (size_t)s->in_c * size;
    size_t made = s->n * (size_t)s->out_h * (size_t)s->out_w * (size_t)s->out_c * size;
    size_t taps = (size_t)s->kernel_h * (size_t)s->kernel_w;
    size_t weights = (size_t)s->out_c * taps * (size_t)(s->in_c / s->groups) * size;
    const struct {
        void **at;
        size_t bytes;
    } wanted[] = {{&out->x, in},
                  {&out->weights, weights},
                  {&out->y, made},
                  {&out->bias, fused && s->bias ? (size_t)s->out_c * size : 0},
                  {&out->residual, fused && s->residual ? made : 0},
                  {&out->scratch, scratch}};
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i].bytes && (cudaMalloc(wanted[i].at, wanted[i].bytes) != cudaSuccess ||
                                cudaMemset(*wanted[i].at, 0, wanted[i].bytes) != cudaSuccess))
            return false;
    return true;
}

static void release(struct trial *t) {
    void *const all[] = {t->x, t->weights, t->y, t->bias, t->residual, t->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
}

/* Milliseconds of the fastest of a few runs; below 0: it cannot be run. */
static float time_plan(cudnnHandle_t handle, cudaStream_t stream, const struct cudnn_plan *plan,
                       const struct trial *t) {
    const struct cudnn_operands operands = {t->x, t->weights, t->bias, t->residual, t->y};
    enum { RUNS = 4 }; /* the first warms up */
    float best = -1;
    cudaEvent_t start, end;
    if (cudaEventCreate(&start) != cudaSuccess)
        return -1;
    if (cudaEventCreate(&end) != cudaSuccess) {
        cudaEventDestroy(start);
        return -1;
    }
    for (int run = 0; run < RUNS; run++) {
        float taken = 0;
        cudaEventRecord(start, stream);
        if (cudnn_run(handle, plan, &operands, t->scratch) != CUDNN_STATUS_SUCCESS)
            break;
        cudaEventRecord(end, stream);
        if (cudaEventSynchronize(end) != cudaSuccess ||
            cudaEventElapsedTime(&taken, start, end) != cudaSuccess)
            break;
        if (run && (best < 0 || taken < best))
            best = taken;
    }
    cudaEventDestroy(start);
    cudaEventDestroy(end);
    cudaGetLastError(); /* a failed trial does not fail the run */
    return best;
}

/* The fastest of the plans; the first with DML_CUDA_PLANS=first, and where they cannot be timed,
 * for example for lack of memory. */
static int fastest(const struct cudnn_target *target, cudaStream_t stream,
                   const struct cuda_conv_shape *shape, bool fused, const struct cudnn_plan *plans,
                   int count) {
    struct trial trial;
    size_t scratch = 0;
    int best = 0;
    float least = -1;
    for (int i = 0; i < count; i++)
        scratch = plans[i].scratch > scratch ? plans[i].scratch : scratch;
    const char *plans_of = getenv("DML_CUDA_PLANS");
    if (plans_of && strcmp(plans_of, "first") == 0)
        return 0;
    bool ready = count > 1 && allocate(shape, target->math, scratch, fused, &trial);
    for (int i = 0; ready && i < count; i++) {
        float taken = time_plan(target->handle, stream, &plans[i], &trial);
        if (taken >= 0 && (least < 0 || taken < least)) {
            least = taken;
            best = i;
        }
    }
    if (count > 1)
        release(&trial);
    cudaGetLastError();
    return best;
}

const struct cudnn_plan *cudnn_choose(struct cudnn_choices *choices,
                                      const struct cudnn_target *target, cudaStream_t stream,
                                      const struct cuda_conv_shape *shape, enum cuda_pass pass,
                                      bool fused, char *reason) {
    struct cudnn_plan plans[CUDNN_MOST_PLANS];
    for (struct choice *c = choices->first; c; c = c->next)
        if (c->pass == pass && c->fused == fused && cudnn_same(&c->shape, shape, fused))
            return &c->plan;
    int count = cudnn_plans(target, shape, pass, fused, plans, CUDNN_MOST_PLANS, reason);
    struct choice *choice = count ? calloc(1, sizeof *choice) : NULL;
    int best = choice ? fastest(target, stream, shape, fused, plans, count) : -1;
    for (int i = 0; i < count; i++)
        if (i != best)
            cudnn_plan_destroy(&plans[i]);
    if (!choice)
        return NULL;
    *choice = (struct choice){*shape, pass, fused, plans[best], choices->first};
    choices->first = choice;
    return &choice->plan;
}
