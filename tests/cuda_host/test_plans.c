#include "backends/cuda/device/cudnn_graph.h"
#include "backends/cuda/run.h"
#include "cuda_host/device_host.h"
#include "support/golden.h"
#include "support/networks.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

/* cuDNN's planner itself, with cards as they are described in tests/cuda_host/cards: every
 * convolution of every backbone has a plan, forward with residual, bias and relu fused, for
 * both gradients, in float32, tf32 and bfloat16. */

enum { MOST_WORK = 4096 };

/* The passes to be planned, each once, and a backbone that has it. */
static struct work {
    struct cuda_conv_shape shape;
    enum cuda_pass pass;
    const struct dml_backbone *backbone;
} all[MOST_WORK];
static int work_count, convolutions;
static const struct dml_backbone *collected;

static void collect(const struct cuda_conv_shape *shape, enum cuda_pass pass) {
    for (int i = 0; i < work_count; i++)
        if (all[i].pass == pass && cudnn_same(&all[i].shape, shape, pass == CUDA_FORWARD))
            return;
    assert_true(work_count < MOST_WORK);
    all[work_count++] = (struct work){*shape, pass, collected};
}

static struct cuda_conv *conv_create(struct cuda_device *device,
                                     const struct cuda_conv_shape *shape, char *reason) {
    convolutions++;
    collect(shape, CUDA_FORWARD);
    if (shape->training)
        collect(shape, CUDA_WEIGHTS);
    if (shape->input_gradient)
        collect(shape, CUDA_DATA);
    return cuda_host_api()->conv_create(device, shape, reason);
}

/* Parameters are never looked at, so they need no memory. */
static void *lend(struct cuda_device *device, size_t bytes) {
    static char memory[64];
    (void)device;
    (void)bytes;
    return memory;
}
static void keep(struct cuda_device *device, void *memory) {
    (void)device;
    (void)memory;
}
static void leave(struct cuda_device *device, void *memory, size_t bytes) {
    (void)device;
    (void)memory;
    (void)bytes;
}

static void collect_network(const char *options) {
    struct cuda_api api = *cuda_host_api();
    char reason[CUDA_REASON], arch[128];
    snprintf(arch, sizeof arch, "%s%s", collected->method.name, options);
    api.conv_create = conv_create;
    api.alloc = lend;
    api.release = keep;
    api.zero = leave;
    struct cuda_on on = {&api, api.kernels, api.open(0, CUDA_FP32, reason), NULL};
    struct cuda_params params;
    struct dml_graph *graph;
    assert_ok(dml_graph_build(arch, 128, collected->crop, &graph));
    assert_ok(cuda_params_create(graph, &on, PLAN_FLOAT32, &params));
    struct cuda_planning planning = {&on, &params};
    struct plan_traits traits = cuda_traits(&planning);
    for (int kind = PLAN_EMBED; kind <= PLAN_TRAIN; kind++) {
        struct plan *plan;
        assert_ok(plan_create(graph, &traits, (enum plan_kind)kind, 112, &plan));
        plan_destroy(plan);
    }
    cuda_params_destroy(&params);
    dml_graph_free(graph);
    api.close(on.device);
}

static int collect_all(void **state) {
    (void)state;
    for (size_t i = 0; (collected = dml_backbone_at(i)); i++) {
        if (collected->method.params !=
            &dml_convolutional_params) /* patches are a matrix product */
            continue;
        collect_network("_frozen");
        collect_network("");
    }
    printf("%d convolutions of the architectures, %d different passes\n", convolutions, work_count);
    assert_true(work_count > 500);
    return 0;
}

static char *text_of(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 8192);
    assert_true(file && text);
    assert_true(fread(text, 1, 8191, file) > 0);
    fclose(file);
    return text;
}

static void plan_work(const struct cudnn_target *target, const char *card, const struct work *w) {
    const struct cuda_conv_shape *s = &w->shape;
    struct cudnn_plan plan;
    char reason[CUDA_REASON];
    if (!cudnn_plans(target, s, w->pass, w->pass == CUDA_FORWARD, &plan, 1, reason))
        fail_msg("%s, %s, math %d: pass %d of %d x %d x %d to %d channels, kernel %d x %d, stride "
                 "%d, groups %d: %s",
                 card, w->backbone->method.name, target->math, w->pass, s->in_c, s->in_h, s->in_w,
                 s->out_c, s->kernel_h, s->kernel_w, s->stride_h, s->groups, reason);
    /* The largest activations are some 360 MB: more for scratch memory would be a wrong plan. */
    if (plan.scratch > (size_t)4 << 30)
        fail_msg("%s, %s: %zu bytes of scratch memory", card, w->backbone->method.name,
                 plan.scratch);
    cudnn_plan_destroy(&plan);
}

static void plan_card(const char *file) {
    char path[512], reason[CUDA_REASON];
    snprintf(path, sizeof path, "%s/tests/cuda_host/cards/%s", DML_SOURCE_DIR, file);
    char *text = text_of(path);
    struct cudnn_target target;
    if (!cudnn_describe(text, &target, reason))
        fail_msg("%s: %s", file, reason);
    for (int math = CUDA_FP32; math <= CUDA_BF16; math++) {
        target.math = (enum cuda_math)math;
        for (int i = 0; i < work_count; i++)
            plan_work(&target, file, &all[i]);
    }
    cudnn_undescribe(&target);
    free(text);
}

static void every_convolution_has_a_plan(void **state) {
    (void)state;
    char path[512];
    int cards = 0;
    if (cudnnGetVersion() < 91100) {
        printf("left out: cuDNN %zu takes no description of a card, 9.11 does\n",
               cudnnGetVersion());
        const char *ci = getenv("CI");
        if (ci && strcmp(ci, "true") == 0)
            fail_msg("CI's machine has to have a cuDNN that does");
        skip();
    }
    snprintf(path, sizeof path, "%s/tests/cuda_host/cards", DML_SOURCE_DIR);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') {
            plan_card(entry->d_name);
            cards++;
        }
    closedir(folder);
    assert_true(cards >= 2);
}

/* What the planner refuses is told in a line. */
static void refusals_have_reasons(void **state) {
    (void)state;
    struct cudnn_target target;
    char reason[CUDA_REASON] = "";
    assert_false(cudnn_describe("{\"deviceVer\": ", &target, reason));
    assert_non_null(strstr(reason, "description"));
    struct cudnn_plan plan;
    target = (struct cudnn_target){0};
    const struct cuda_conv_shape impossible = {.n = 1,
                                               .in_c = 8,
                                               .in_h = 4,
                                               .in_w = 4,
                                               .out_c = 8,
                                               .out_h = 99,
                                               .out_w = 99,
                                               .kernel_h = 3,
                                               .kernel_w = 3,
                                               .stride_h = 1,
                                               .stride_w = 1,
                                               .groups = 1};
    *reason = 0;
    assert_int_equal(cudnn_plans(&target, &impossible, CUDA_FORWARD, false, &plan, 1, reason), 0);
    assert_non_null(strstr(reason, "cuDNN"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_convolution_has_a_plan, collect_all),
        cmocka_unit_test(refusals_have_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
