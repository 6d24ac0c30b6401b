#include "backends/cuda/device/cudnn_graph.h"
#include "backends/cuda/run.h"
#include "cuda_host/device_host.h"
#include "support/golden.h"
#include "support/networks.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

/* cuDNN's planner itself, with cards as they are described in tests/cuda_host/cards: every
 * convolution of every architecture has a plan, forward with residual, bias and relu fused, for
 * both gradients, in float32 and in tf32. */

enum { MOST_SHAPES = 4096 };

static struct {
    struct cudnn_target target;
    struct cuda_conv_shape seen[MOST_SHAPES]; /* on this card */
    int count, convolutions;
    const char *arch, *card;
} now;

/* Of a shape that was not planned yet. */
static void plan_pass(const struct cuda_conv_shape *s, enum cuda_pass pass, bool fused) {
    struct cudnn_plan plan;
    char reason[CUDA_REASON];
    if (!cudnn_plans(&now.target, s, pass, fused, &plan, 1, reason))
        fail_msg("%s, %s, tf32 %d: pass %d of %d x %d x %d to %d channels, kernel %d x %d, stride "
                 "%d, groups %d: %s",
                 now.card, now.arch, now.target.tf32, pass, s->in_c, s->in_h, s->in_w, s->out_c,
                 s->kernel_h, s->kernel_w, s->stride_h, s->groups, reason);
    /* The largest activations are some 360 MB: more for scratch memory would be a wrong plan. */
    if (plan.scratch > (size_t)4 << 30)
        fail_msg("%s, %s: %zu bytes of scratch memory", now.card, now.arch, plan.scratch);
    cudnn_plan_destroy(&plan);
}

static struct cuda_conv *conv_create(struct cuda_device *device,
                                     const struct cuda_conv_shape *shape, char *reason) {
    now.convolutions++;
    for (int i = 0; i < now.count; i++)
        if (memcmp(&now.seen[i], shape, sizeof *shape) == 0)
            return cuda_host_api()->conv_create(device, shape, reason);
    assert_true(now.count < MOST_SHAPES);
    memcpy(&now.seen[now.count++], shape, sizeof *shape);
    plan_pass(shape, CUDA_FORWARD, true);
    if (shape->training)
        plan_pass(shape, CUDA_WEIGHTS, false);
    if (shape->input_gradient)
        plan_pass(shape, CUDA_DATA, false);
    return cuda_host_api()->conv_create(device, shape, reason);
}

static void plan_network(const char *name, const char *options) {
    struct cuda_api api = *cuda_host_api();
    char reason[CUDA_REASON], arch[128];
    snprintf(arch, sizeof arch, "%s%s", name, options);
    now.arch = arch;
    api.conv_create = conv_create;
    struct cuda_on on = {&api, api.kernels, api.open(0, false, reason), NULL};
    struct cuda_params params;
    struct dml_graph *graph;
    const struct dml_architecture *architecture = dml_architecture_find(arch);
    assert_non_null(architecture);
    assert_ok(dml_graph_build(arch, 128, architecture->crop, &graph));
    assert_ok(cuda_params_create(graph, &on, &params));
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

static char *text_of(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 8192);
    assert_true(file && text);
    assert_true(fread(text, 1, 8191, file) > 0);
    fclose(file);
    return text;
}

static void plan_card(const char *file, bool tf32) {
    char path[512], reason[CUDA_REASON];
    snprintf(path, sizeof path, "%s/tests/cuda_host/cards/%s", DML_SOURCE_DIR, file);
    char *text = text_of(path);
    memset(&now, 0, sizeof now);
    now.card = file;
    if (!cudnn_describe(text, &now.target, reason))
        fail_msg("%s: %s", file, reason);
    now.target.tf32 = tf32;
    const struct dml_architecture *architecture;
    size_t architectures = 0;
    for (; (architecture = dml_architecture_at(architectures)); architectures++) {
        if (architecture->vit) /* patches are a matrix product */
            continue;
        plan_network(architecture->name, "_frozen");
        plan_network(architecture->name, "");
    }
    printf("%s, %s: %d convolutions of %zu architectures, %d shapes\n", file,
           tf32 ? "tf32" : "fp32", now.convolutions, architectures, now.count);
    assert_true(now.count > 100);
    cudnn_undescribe(&now.target);
    free(text);
}

static void every_convolution_has_a_plan(void **state) {
    (void)state;
    char path[512];
    int cards = 0;
    if (cudnnGetVersion() < 91100) {
        printf("left out: cuDNN %zu takes no description of a card, 9.11 does\n",
               cudnnGetVersion());
        skip();
    }
    snprintf(path, sizeof path, "%s/tests/cuda_host/cards", DML_SOURCE_DIR);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') {
            plan_card(entry->d_name, false);
            plan_card(entry->d_name, true);
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
        cmocka_unit_test(every_convolution_has_a_plan),
        cmocka_unit_test(refusals_have_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
