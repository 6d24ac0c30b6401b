#ifndef TESTS_SUPPORT_VIT_CASE_H
#define TESTS_SUPPORT_VIT_CASE_H

#include "nn/backbones/vit.h"
#include "support/golden.h"

/* A vision transformer as golden/architectures2 and golden/weights2 describe it. */
struct vit_case {
    struct dml_vit vit;
    struct dml_transformer_options options;
    int embed_dim;
    size_t stored_grid;
};

/* Reads all settings; one that is missing or unknown fails the test. */
struct vit_case vit_case_read(const cJSON *settings);

/* Its graph for images of so many pixels a side. */
struct dml_graph *vit_case_graph(const struct vit_case *c, int size);

/* An integer, a number and a text of a JSON object, which must be there. */
int json_int(const cJSON *object, const char *key);
double json_number(const cJSON *object, const char *key);
const char *json_text(const cJSON *object, const char *key);

#endif
