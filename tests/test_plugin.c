/* Plugins, built here with the system's compiler: the example in use, and everything that can be
 * wrong with one. */
#include "dml/dml.h"

#include "support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *built(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, DML_BINARY_DIR "/test_plugins/%s.so", name);
    return path;
}

static const char *build_file(const char *name, const char *source) {
    char command[4096];
    snprintf(command, sizeof command,
             "cc -std=gnu17 -Wall -Wextra -Werror -I'%s/include' -fPIC -shared -o '%s' '%s' -lm",
             DML_SOURCE_DIR, built(name), source);
    assert_int_equal(system(command), 0);
    return built(name);
}

/* Builds a shared object of `body` after the header. */
static const char *build(const char *name, const char *body) {
    char source[1024];
    snprintf(source, sizeof source, DML_BINARY_DIR "/test_plugins/%s.c", name);
    FILE *file = fopen(source, "w");
    assert_non_null(file);
    fprintf(file, "#include <dml/graph.h>\n#include <dml/plugin.h>\n#include <stddef.h>\n%s\n",
            body);
    assert_int_equal(fclose(file), 0);
    return build_file(name, source);
}

static int prepare(void **state) {
    (void)state;
    return system("mkdir -p '" DML_BINARY_DIR "/test_plugins'");
}

static void assert_refused(const char *path, const char *part) {
    assert_int_equal(dml_plugin_load(path), DML_ERROR_INPUT);
    if (!strstr(dml_error(), part) || strncmp(dml_error(), path, strlen(path)) != 0)
        fail_msg("'%s: ... %s' is not the message: %s", path, part, dml_error());
    assert_null(strchr(dml_error(), '\n'));
}

static void no_shared_object(void **state) {
    (void)state;
    assert_refused(DML_BINARY_DIR "/test_plugins/absent.so", "no such file");
    assert_refused(DML_BINARY_DIR, "is a folder");
    assert_refused(DML_SOURCE_DIR "/LICENSE", "is not a plugin");
    assert_refused("nowhere.so", "no such file");
}

static void no_symbol(void **state) {
    (void)state;
    assert_refused(build("no_symbol", "int something_else;"), "no symbol 'dml_plugin'");
    assert_refused(build("undefined", "extern int nobody_has_this(void);\n"
                                      "int calls(void) { return nobody_has_this(); }\n"
                                      "const struct dml_plugin dml_plugin = {.interface = 1};"),
                   "nobody_has_this");
}

static void another_interface(void **state) {
    (void)state;
    assert_refused(build("interface", "const struct dml_plugin dml_plugin = "
                                      "{.interface = DML_PLUGIN_INTERFACE + 41};"),
                   "was built for plugin interface 47, this program has 6");
    /* One of before, whose struct was another. */
    assert_refused(build("before", "const struct { unsigned interface; void *lists[6]; } dml_plugin"
                                   " = {.interface = 4};"),
                   "was built for plugin interface 4, this program has 6: build it again");
    assert_refused(build("sizeless", "const struct dml_plugin dml_plugin = "
                                     "{.interface = DML_PLUGIN_INTERFACE};"),
                   "its struct dml_plugin has 0 bytes, this program's 112: begin dml_plugin with "
                   "DML_PLUGIN_BUILT");
    assert_refused(build("resized", "const struct dml_plugin dml_plugin = {.interface = "
                                    "DML_PLUGIN_INTERFACE, .sizes = {112, 32, 8}};"),
                   "its struct dml_param has 8 bytes, this program's 80");
}

/* Whoever changes one of these structs raises DML_PLUGIN_INTERFACE, and then the sizes here, so
 * that a plugin of before is refused and not misread. */
static void sizes_belong_to_the_interface(void **state) {
    (void)state;
#if defined(__LP64__)
    assert_int_equal(DML_PLUGIN_INTERFACE, 6);
    assert_int_equal(sizeof(struct dml_param), 80);
    assert_int_equal(sizeof(struct dml_param_table), 40);
    assert_int_equal(sizeof(struct dml_plugin), 112);
    assert_int_equal(sizeof(struct dml_criterion), 96);
    assert_int_equal(sizeof(struct dml_miner), 64);
    assert_int_equal(sizeof(struct dml_sampler), 64);
    assert_int_equal(sizeof(struct dml_metric), 112);
    assert_int_equal(sizeof(struct dml_optimiser), 48);
    assert_int_equal(sizeof(struct dml_schedule), 72);
    assert_int_equal(sizeof(struct dml_backbone), 88);
    assert_int_equal(sizeof(struct dml_backbone_context), 16);
    assert_int_equal(sizeof(struct dml_head_options), 24);
    assert_int_equal(sizeof(struct dml_convolutional_options), 32);
    assert_int_equal(sizeof(struct dml_criterion_context), 56);
    assert_int_equal(sizeof(struct dml_sampler_context), 64);
    assert_int_equal(sizeof(struct dml_batch), 40);
    assert_int_equal(sizeof(struct dml_tuples), 120);
    assert_int_equal(sizeof(struct dml_metric_inputs), 144);
    assert_int_equal(sizeof(struct dml_evaluation_set), 88);
#endif
}

/* A miner that gives nothing, and a plugin of two miners with these names. */
#define TWO_MINERS(first, second)                                                                  \
    "static enum dml_status mine(void *s, const struct dml_batch *b, struct dml_rng *r,\n"         \
    "                            struct dml_tuples *out, size_t *w) {\n"                           \
    "    (void)s, (void)b, (void)r, (void)w;\n"                                                    \
    "    return dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, 0);\n"                                \
    "}\n"                                                                                          \
    "static const struct dml_miner one = {.method = {.name = " first "}, .mine = mine};\n"         \
    "static const struct dml_miner two = {.method = {.name = " second "}, .mine = mine};\n"        \
    "static const struct dml_miner *const miners[] = {&one, &two, NULL};\n"                        \
    "const struct dml_plugin dml_plugin = {DML_PLUGIN_BUILT, .miners = miners};"

static void names_that_are_taken(void **state) {
    (void)state;
    assert_refused(build("taken", TWO_MINERS("\"fresh\"", "\"semihard\"")),
                   "there is already a batch miner called 'semihard'");
    assert_null(dml_method_find(DML_MINER, "fresh")); /* a plugin counts as a whole */
    assert_refused(build("twice", TWO_MINERS("\"fresh\"", "\"fresh\"")),
                   "there is already a batch miner called 'fresh'");
    assert_null(dml_method_find(DML_MINER, "fresh"));
    assert_refused(build("unnamed", TWO_MINERS("\"fresh\"", "NULL")), "batch miner 2 has no name");
    assert_refused(build("empty", "const struct dml_plugin dml_plugin = "
                                  "{DML_PLUGIN_BUILT};"),
                   "holds no method");
    assert_refused(build("hollow",
                         "static const struct dml_criterion hollow = {.method = {.name = "
                         "\"hollow\"}};\n"
                         "static const struct dml_criterion *const list[] = {&hollow, NULL};\n"
                         "const struct dml_plugin dml_plugin = "
                         "{DML_PLUGIN_BUILT, .criteria = list};"),
                   "its criterion 'hollow' has no function 'forward_backward'");
}

/* ---- backbones ---- */

/* A plugin of one backbone called `name` whose build is `body`, with a table of one parameter of
 * `type`. */
#define BACKBONE(name, crop, type, body)                                                           \
    "static int build(struct dml_graph *g, const struct dml_backbone_context *c,\n"                \
    "                 const void *options) {\n"                                                    \
    "    const struct dml_head_options head = {0}; (void)head, (void)g, (void)c, "                 \
    "(void)options;\n" body "}\n"                                                                  \
    "static const struct dml_param params[] = {{\"power\", " type ", 0, \"3\", .max = 9}};\n"      \
    "struct options { int64_t power; };\n"                                                         \
    "static const struct dml_param_table table =\n"                                                \
    "    DML_PARAM_TABLE(\"Options\", struct options, params);\n"                                  \
    "static const struct dml_backbone one = {.method = {" name ", \"\", NULL, &table},\n"          \
    "    .crop = " crop ", .build = build};\n"                                                     \
    "static const struct dml_backbone *const list[] = {&one, NULL};\n"                             \
    "const struct dml_plugin dml_plugin = {DML_PLUGIN_BUILT, .backbones = list};"
#define IMAGES "    int x = dml_graph_input(g, 3, c->image_size, c->image_size);\n"
#define HEAD                                                                                       \
    "    return dml_graph_head(g, dml_graph_global_avg_pool(g, x), \"fc\", c->embed_dim, "         \
    "&head);\n"

static void backbones_that_make_no_sense(void **state) {
    (void)state;
    assert_refused(build("b_crop", BACKBONE("\"b\"", "0", "DML_PARAM_INT", "return 0;")),
                   "its backbone 'b' has a crop of 0 pixels");
    assert_refused(build("b_name", BACKBONE("\"../b\"", "8", "DML_PARAM_INT", "return 0;")),
                   "its backbone '../b': a name consists of at most 64 letters");
    assert_refused(build("b_alias", BACKBONE("\"dino_vits16\"", "8", "DML_PARAM_INT", "return 0;")),
                   "there is already a backbone called 'dino_vits16'");
    assert_refused(build("b_text", BACKBONE("\"b\"", "8", "DML_PARAM_STRING", "return 0;")),
                   "the option 'power' is neither switch, number nor choice");

    static const struct {
        const char *name, *body, *part;
    } wrong[] = {
        {"nothing", "return 0;\n", "node 0 output: is not a node"},
        {"map", IMAGES "return x;\n", "node 0 output: is not a vector"},
        {"headless", IMAGES "return dml_graph_global_avg_pool(g, x);\n", "it has no head"},
        {"fixed", "    int x = dml_graph_input(g, 3, 8, 8);\n" HEAD,
         "it does not begin with images of 3 x 16 x 16"},
        {"two", IMAGES "x = dml_graph_add(g, x, dml_graph_input(g, 3, 16, 16));\n" HEAD,
         "node 1: a second input"},
        {"narrow",
         IMAGES
         "    return dml_graph_head(g, dml_graph_global_avg_pool(g, x), \"fc\", 5, &head);\n",
         "its embeddings have 5 dimensions, not --embed_dim 4"},
        {"idle", IMAGES "dml_graph_conv(g, x, \"idle\", 3, 1, 1, 0, false);\n" HEAD,
         "node 1 idle: the embedding does not depend on it"},
        {"same",
         IMAGES "x = dml_graph_conv(g, x, \"a\", 3, 1, 1, 0, false);\n"
                "x = dml_graph_conv(g, x, \"a\", 3, 1, 1, 0, false);\n" HEAD,
         "two parameters are called a.weight"},
        {"late", IMAGES "dml_graph_last_layer(g); dml_graph_block(g);\n" HEAD,
         "node 1: a block begins after the last layer"},
        {"ahead", IMAGES "x = dml_graph_relu(g, 7);\n" HEAD, "an input is not an earlier node"},
        {"unnamed", IMAGES "x = dml_graph_conv(g, x, NULL, 3, 1, 1, 0, false);\n" HEAD,
         "node 1: its name is NULL"},
        {"own", "    return dml_graph_fail(g, dml_fail(DML_ERROR_USAGE, \"never\"));\n", "never"},
        {"norm", IMAGES "x = dml_graph_batch_norm(g, x, \"n\", 0, 0.1f);\n" HEAD,
         "node 1 n: a batch norm's epsilon"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char source[4096], name[40], arch[40];
        snprintf(name, sizeof name, "backbone_%s", wrong[i].name);
        snprintf(arch, sizeof arch, "%s_power7", wrong[i].name);
        snprintf(source, sizeof source, BACKBONE("\"%s\"", "16", "DML_PARAM_INT", "%s"),
                 wrong[i].body, wrong[i].name);
        assert_ok(dml_plugin_load(build(name, source)));
        struct dml_net *net;
        const char *const flags[] = {"--arch",           arch,           "--embed_dim", "4",
                                     "--not_pretrained", "--image_size", "16",          NULL};
        assert_int_equal(dml_net_open(flags, &net), DML_ERROR_USAGE);
        if (!strstr(dml_error(), wrong[i].part) || !strstr(dml_error(), arch))
            fail_msg("'%s' is not the message: %s", wrong[i].part, dml_error());
        assert_null(strchr(dml_error(), '\n'));
    }
}

enum { N = 12, DIM = 6 };

static double loss_of(struct dml_objective *objective, float *embeddings, const int32_t *labels,
                      const struct dml_tuples *tuples, float *grad) {
    const struct dml_batch batch = {N, DIM, embeddings, labels, NULL};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_CRITERION, 0, 0);
    struct dml_loss loss;
    assert_ok(dml_objective_compute(objective, &batch, tuples, &rng, grad, &loss));
    return loss.value;
}

/* examples/plugin/mine.c as a user would have it: by name, with its flags, its miner with a
 * built-in criterion's kind and the other way round. */
static void the_example_works(void **state) {
    (void)state;
    assert_ok(dml_plugin_load(build_file("mine", DML_SOURCE_DIR "/examples/plugin/mine.c")));
    assert_refused(built("mine"), "there is already a criterion called 'mine'");
    char *flags[] = {"--lr", "1", "--plugin", (char *)built("mine"), (char *)built("mine"), "--bs"};
    assert_ok(dml_plugin_load_flags(6, flags)); /* which loads nothing twice */
    char *missing[] = {"--plugin=/nowhere.so"};
    assert_int_equal(dml_plugin_load_flags(1, missing), DML_ERROR_INPUT);

    const struct dml_criterion *criterion =
        (const struct dml_criterion *)dml_method_find(DML_CRITERION, "mine");
    const struct dml_miner *miner = (const struct dml_miner *)dml_method_find(DML_MINER, "mine");
    assert_true(criterion && miner);
    assert_ok(dml_mining_allowed(criterion, miner));
    assert_ok(dml_mining_allowed(criterion,
                                 (const struct dml_miner *)dml_method_find(DML_MINER, "distance")));
    assert_int_equal(dml_mining_allowed(criterion, NULL), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "intra_random, mine")); /* listed with the built-in ones */

    float embeddings[N * DIM], grad[N * DIM], other[N * DIM];
    int32_t labels[N];
    struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_OTHER, 0, 0);
    for (int i = 0; i < N; i++)
        labels[i] = i / 3;
    for (int i = 0; i < N * DIM; i++)
        embeddings[i] = (float)(0.4 * dml_rng_normal(&rng));

    struct dml_miner_context mining_context = {.dim = DIM, .margin = 0.2};
    struct dml_mining *mining;
    assert_int_equal(dml_mining_open("mine", "--miner_mine_nearest 17", &mining_context, &mining),
                     DML_ERROR_USAGE);
    assert_ok(dml_mining_open("mine", "--miner_mine_nearest 2", &mining_context, &mining));
    struct dml_tuples tuples = {0};
    const struct dml_batch batch = {N, DIM, embeddings, labels, NULL};
    assert_ok(dml_mining_compute(mining, &batch, &rng, &tuples, NULL));
    assert_int_equal(tuples.count, N);

    struct dml_criterion_context context = {.dim = DIM, .classes = 4, .miner = "mine"};
    struct dml_objective *objective;
    assert_ok(dml_objective_open("mine", "--loss_mine_scale 2", &context, &objective));
    loss_of(objective, embeddings, labels, &tuples, grad);
    for (int i = 0; i < N * DIM; i++) { /* central differences */
        float kept = embeddings[i];
        embeddings[i] = kept + 1e-3f;
        double above = loss_of(objective, embeddings, labels, &tuples, other);
        embeddings[i] = kept - 1e-3f;
        double below = loss_of(objective, embeddings, labels, &tuples, other);
        embeddings[i] = kept;
        assert_true(fabs((above - below) / 2e-3 - grad[i]) < 1e-3);
    }
    dml_objective_free(objective);
    dml_mining_free(mining);
    dml_tuples_free(&tuples);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_belong_to_the_interface),
        cmocka_unit_test(no_shared_object),
        cmocka_unit_test(no_symbol),
        cmocka_unit_test(another_interface),
        cmocka_unit_test(names_that_are_taken),
        cmocka_unit_test(backbones_that_make_no_sense),
        cmocka_unit_test(the_example_works),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
