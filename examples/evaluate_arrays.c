/* Metrics of embeddings that are already in memory.
 *
 *     cc evaluate_arrays.c $(pkg-config --cflags --libs dml-core) */
#include <dml/core.h>

int main(void) {
    const float embeddings[] = {1, 0, 0.9f, 0.1f, 0, 1, 0.2f, 0.8f, 0.6f, 0.7f, 0.7f, 0.6f};
    const int32_t labels[] = {0, 0, 1, 1, 0, 1};
    const struct dml_evaluation_set set = {
        .n = 6, .dim = 2, .embeddings = embeddings, .labels = labels};
    const char *const names[] = {"e_recall@1", "mAP@R", "nmi"};
    struct dml_metric_value values[3];
    if (dml_evaluate(&set, names, 3, &(struct dml_evaluation_options){0}, values))
        return fprintf(stderr, "%s\n", dml_error()), 1;
    for (int i = 0; i < 3; i++)
        printf("%s %.4f\n", values[i].name, values[i].value);
    dml_metric_values_free(values, 3);
    return 0;
}
