#include "support/vit_case.h"

#include "nn/graph.h"

#include <string.h>

static const cJSON *item(const cJSON *object, const char *key) {
    const cJSON *found = cJSON_GetObjectItem(object, key);
    if (!found)
        fail_msg("%s is missing", key);
    return found;
}

int json_int(const cJSON *object, const char *key) {
    return (int)json_number(object, key);
}

double json_number(const cJSON *object, const char *key) {
    const cJSON *found = item(object, key);
    assert_true(cJSON_IsNumber(found));
    return found->valuedouble;
}

const char *json_text(const cJSON *object, const char *key) {
    const cJSON *found = item(object, key);
    assert_true(cJSON_IsString(found));
    return found->valuestring;
}

/* true, or a number that is not 0. */
static bool json_flag(const cJSON *object, const char *key) {
    const cJSON *found = item(object, key);
    return cJSON_IsTrue(found) || (cJSON_IsNumber(found) && found->valuedouble != 0);
}

/* The index of a text among names that end with NULL. */
static int json_choice(const cJSON *object, const char *key, const char *const *names) {
    const char *text = json_text(object, key);
    int i = 0;
    while (names[i] && strcmp(names[i], text) != 0)
        i++;
    if (!names[i])
        fail_msg("%s: unknown %s", text, key);
    return i;
}

struct vit_case vit_case_read(const cJSON *json) {
    static const char *const activations[] = {"gelu", "quick_gelu", NULL};
    static const char *const pools[] = {"cls", "avg", "cls_avg", NULL};
    static const char *const norms[] = {"none", "affine", "plain", NULL};
    static const char *const rules[] = {"timm", "dino", "plain", NULL};
    static const float half[] = {0.5f, 0.5f, 0.5f};
    struct vit_case c = {
        .vit = {.width = json_int(json, "width"),
                .heads = json_int(json, "heads"),
                .patch = json_int(json, "patch"),
                .depth = json_int(json, "depth"),
                .registers = json_int(json, "registers"),
                .distilled = json_flag(json, "distilled"),
                .layer_scale = json_flag(json, "layer_scale"),
                .clip = json_flag(json, "pre_norm"),
                .quick_gelu = json_choice(json, "activation", activations) == 1,
                .projection = json_int(json, "projection"),
                .epsilon = json_number(json, "norm_epsilon"),
                .mean = half,
                .std = half},
        .options = {.head = {.normalize = json_flag(json, "normalize"),
                             .norm = (enum dml_head_norm)json_choice(json, "head_norm", norms)},
                    .pool = (enum dml_token_pool)json_choice(json, "pool", pools),
                    .positions = (enum dml_position_rule)json_choice(json, "position_rule", rules)},
        .embed_dim = json_int(json, "embed_dim"),
        .stored_grid = (size_t)json_int(json, "stored_grid"),
    };
    return c;
}

struct dml_graph *vit_case_graph(const struct vit_case *c, int size) {
    struct dml_graph *graph = dml_graph_new();
    assert_non_null(graph);
    const struct dml_backbone_context context = {.image_size = size, .embed_dim = c->embed_dim};
    snprintf(graph->arch, sizeof graph->arch, "vit");
    assert_ok(dml_graph_finish(graph, dml_vit_build(graph, &c->vit, &context, &c->options)));
    return graph;
}
