#ifndef DML_BACKBONES_H
#define DML_BACKBONES_H

#include "dml/method.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a network computes, as described by backbones: dml/graph.h. */
struct dml_graph;

/* What a backbone is built for. */
struct dml_backbone_context {
    const struct dml_backbone *backbone;
    int image_size; /* height and width of the input */
    int embed_dim;  /* 0: the feature itself, without a linear layer */
};

/* A backbone. Its name is what --arch begins with: letters, digits, '.', '-' and '_', at most 64.
 * The options of its table follow it, each after a '_': a switch by its name ("_frozen"), a choice
 * by its value ("_gem"; the first is the default), a number by its name and value ("_droppath0.1"),
 * a whole number whose bounds go below 0 also by its name alone, which then means the lowest
 * ("_mlp"). Backbones cannot have options of other types. */
struct dml_backbone {
    struct dml_method method;
    const char *weights_file; /* looked up in $DML_WEIGHTS: "resnet50.pth"; NULL: none published */
    const char *weights_from; /* where it is published, for the error message, or NULL */
    const char *timm;         /* timm's name for it with these weights, or NULL */
    const char *const *aliases; /* other names for it, NULL-terminated, or NULL */
    int crop;                   /* side of the images that it is made for: 224 */
    /* Appends all nodes to the empty graph and returns the index of the one that is the embedding,
     * which dml_graph_head made. `options` is the struct of its table, NULL without one; it does
     * not outlive the call. There is one input of (3, image_size, image_size), every node is used,
     * and the embedding is a vector of embed_dim values, unless that is 0. */
    int (*build)(struct dml_graph *graph, const struct dml_backbone_context *context,
                 const void *options);
    const void *data; /* its own, for backbones that share a builder */
};

#ifdef __cplusplus
}
#endif
#endif
