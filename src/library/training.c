#include "dml/training.h"

#include "base/memory.h"
#include "base/text.h"
#include "train/options.h"
#include "train/read_params.h"
#include "train/trainer.h"

#include <signal.h>
#include <stdlib.h>

struct dml_training {
    struct dml_params *params;
    char *command; /* as a command line, for the logs */
    char *folder;
    volatile sig_atomic_t stop;
    bool ran;
};

enum dml_status dml_training_open(const char *const *flags, struct dml_training **out) {
    int count = 0;
    while (flags && flags[count])
        count++;
    struct dml_training *training = dml_alloc(1, sizeof *training);
    if (!training)
        return DML_ERROR_MEMORY;
    char *words = dml_text_shell((char *const *)flags, count);
    training->command = words ? dml_format("dml train %s", words) : NULL;
    free(words);
    enum dml_status status =
        training->command ? dml_train_params(&training->params) : DML_ERROR_MEMORY;
    if (!status)
        status = dml_params_parse(training->params, count, (char *const *)flags);
    struct dml_comm alone;
    dml_comm_single(&alone);
    if (!status)
        status = dml_train_read_params(training->params, &alone);
    if (status)
        dml_training_free(training);
    else
        *out = training;
    return status;
}

void dml_training_free(struct dml_training *training) {
    if (!training)
        return;
    dml_params_free(training->params);
    free(training->command);
    free(training->folder);
    free(training);
}

enum dml_status dml_training_run(struct dml_training *training) {
    if (training->ran)
        return dml_fail(DML_ERROR_USAGE,
                        "a training runs only once; open another one to continue it");
    training->ran = true;
    struct dml_comm alone;
    dml_comm_single(&alone);
    return dml_train(training->params, training->command, &training->stop, &alone,
                     &training->folder);
}

void dml_training_stop(struct dml_training *training) {
    training->stop = 1;
}

const char *dml_training_folder(const struct dml_training *training) {
    return training->folder;
}
