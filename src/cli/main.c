#include "cli/cli.h"

#include "base/level.h"
#include "base/messages.h"
#include "base/suggest.h"
#include "base/text.h"
#include "cli/starved.h"
#include "cli/terminal.h"
#include "dml/dml.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"train", dml_train_main, "train a network and evaluate it after each epoch"},
    {"eval", dml_eval_main, "evaluate embeddings from files, or a checkpoint on a data set"},
    {"embed", dml_embed_main, "embeddings of images, as .npy files"},
    {"search", dml_search_main, "the nearest images in a gallery, as a table or a page"},
    {"augment", dml_augment_main, "what training or evaluation would see of an image"},
    {"list", dml_list_main, "the methods, with their parameters"},
    {"devices", dml_devices_main, "what networks can run on: processor and GPUs"},
    {"dataset", dml_dataset_main, "check a data set before it is used, or convert it to a table"},
    {"convert", dml_convert_main, "weight files between safetensors and PyTorch"},
    {"sweep", dml_sweep_main, "run a text file of runs, and continue where it stopped"},
    {"report", dml_report_main, "tables and figures of the runs of a study"},
    {"toy", dml_toy_main, "the study's experiment with diagonal lines"},
    {"reference", dml_reference_main, "print docs/REFERENCE.md from the parameter tables"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void usage(FILE *out) {
    fprintf(out, "dml %s: deep metric learning\n\nusage: dml COMMAND [FLAGS]\n\n", dml_version());
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n`dml COMMAND --help` shows a command's flags, `dml --version` the versions.\n");
}

int dml_cli_finish(const char *name, enum dml_status status) {
    if (!status)
        return 0;
    /* What a GPU lacks has advice of its own. */
    bool starved = status == DML_ERROR_MEMORY && !strstr(dml_error(), "GPU: ");
    fflush(stdout); /* in a file that takes both, the message comes last */
    fprintf(stderr, "dml %s: %s%s\n", name,
            *dml_error() ? dml_error() : "failed without a message, as a plugin may",
            starved ? dml_starved_advice(name) : "");
    return status == DML_ERROR_USAGE ? 2 : 1;
}

void dml_cli_print(const char *format, ...) {
    char text[8 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    dml_message_text(text, sizeof text, format, arguments);
    va_end(arguments);
    fputs(text, stdout);
}

int dml_cli_wants_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

int dml_cli_run(const char *name, const struct dml_param_table *table, const char *usage,
                enum dml_status (*run)(const void *options), int argc, char **argv) {
    struct dml_params *params = NULL;
    bool help = dml_cli_wants_help(argc, argv);
    enum dml_status status = dml_params_new(&params);
    if (!status)
        status = dml_params_add(params, table);
    if (!status && help) {
        fputs(usage, stdout);
        dml_params_help(params, stdout);
    }
    if (!status && !help)
        status = dml_params_parse(params, argc - 1, argv + 1);
    if (!status && !help)
        status = run(dml_params_options(params, table));
    dml_params_free(params);
    return dml_cli_finish(name, status);
}

/* Some libraries read their settings before main, so set them and start again. If that fails,
 * everything still works.
 *
 * Threads of libgomp spin at every barrier for milliseconds, which makes a run many times slower
 * when another program has one of their cores. OpenBLAS chooses its kernels by the processor, even
 * where DML_LEVEL asks for the same bits everywhere. */
static void set_libraries(char **argv) {
    bool spin = !getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT");
    bool pin = dml_level_openblas() && !getenv("OPENBLAS_CORETYPE");
    if (spin)
        setenv("GOMP_SPINCOUNT", "5000", 1);
    if (pin)
        setenv("OPENBLAS_CORETYPE", dml_level_openblas(), 1);
    if (spin || pin)
        execv("/proc/self/exe", argv);
}

/* The exit status of a command: what it printed may not have arrived, as on a full disk. */
static int delivered(const char *name, int status) {
    dml_starved_end();
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "dml %s: standard output: cannot be written\n", name);
    return status ? status : 1;
}

/* A standard stream that is closed must not be the number of the next file that is opened: what is
 * printed would be written there. Writing to what takes its place fails. */
static void hold_streams(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0)
            _exit(1);
}

int main(int argc, char **argv) {
    hold_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file beyond its limit is reported, as a full disk is */
    dml_cli_show_messages();
    if (dml_level_check())
        return fprintf(stderr, "dml: %s\n", dml_error()), 1;
    if (!dml_cli_wants_help(argc, argv))
        set_libraries(argv);
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(argc > 1 ? stdout : stderr);
        return argc > 1 ? 0 : 2;
    }
    if (strcmp(name, "--version") == 0) {
        dml_print_version(stdout);
        return delivered(name, 0);
    }
    struct dml_suggestion nearest = dml_suggestion_start(name);
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            dml_starved_begin(name);
            return delivered(name, commands[i].run(argc - 1, argv + 1));
        }
        dml_suggestion_offer(&nearest, commands[i].name);
    }
    fputs("dml: there is no command '", stderr);
    dml_text_put_line(stderr, name);
    fputc('\'', stderr);
    if (nearest.best)
        fprintf(stderr, "; did you mean '%s'?", nearest.best);
    fprintf(stderr, "\n`dml --help` lists the commands\n");
    return 2;
}
