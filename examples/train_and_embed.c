/* Trains a network, then embeds the classes it has not seen with the best checkpoint:
 *
 *     cc train_and_embed.c $(pkg-config --cflags --libs dml) -o train_and_embed
 *     ./train_and_embed data results     # data/emoji200 is the data set */
#include <dml/dml.h>

#include <stdio.h>
#include <stdlib.h>

static void show(void *data, enum dml_message_kind kind, const char *line) {
    (void)data;
    fprintf(kind == DML_MESSAGE_WARNING ? stderr : stdout, "%s\n", line);
}

static enum dml_status train(const char *const *flags, char *checkpoint, size_t size) {
    struct dml_training *training;
    enum dml_status status = dml_training_open(flags, &training);
    if (status)
        return status;
    status = dml_training_run(training);
    snprintf(checkpoint, size, "%s/checkpoint_Test_discriminative_e_recall@1.safetensors",
             dml_training_folder(training));
    dml_training_free(training);
    return status;
}

int main(int argc, char **argv) {
    char source[4096], results[4096], checkpoint[8192];
    snprintf(source, sizeof source, "--source_path=%s", argc > 1 ? argv[1] : "data");
    snprintf(results, sizeof results, "--save_path=%s", argc > 2 ? argv[2] : "results");
    /* clang-format off */
    const char *const flags[] = {
        source, results, "--dataset=emoji200", "--arch=resnet18_normalize", "--not_pretrained",
        "--image_size=32", "--loss=multisimilarity", "--bs=56", "--samples_per_class=4",
        "--lr=0.001", "--n_epochs=2", "--evaluation_metrics=e_recall@1", "--no_train_metrics",
        "--no_plots", NULL};
    /* clang-format on */
    struct dml_data *data = NULL;
    struct dml_net *net = NULL;
    float *embeddings = NULL;
    dml_listen(&(struct dml_listener){.message = show});
    enum dml_status status = train(flags, checkpoint, sizeof checkpoint);
    if (!status)
        status = dml_net_restore(checkpoint, NULL, &net);
    if (!status)
        status = dml_data_open(flags, &data);
    if (!status)
        status = dml_net_embed_part(net, data, DML_DATA_TESTING, &embeddings);
    if (status)
        fprintf(stderr, "%s\n", dml_error());
    else
        printf("%zu embeddings of %zu dimensions\n", dml_data_part(data, DML_DATA_TESTING).images,
               dml_net_dim(net));
    free(embeddings);
    dml_net_free(net);
    dml_data_free(data);
    return status ? 1 : 0;
}
