#ifndef DML_CLI_CLI_H
#define DML_CLI_CLI_H

#include "dml/params.h"

#include <stdio.h>

/* Subcommands: one file each. argv[0] is the subcommand's name. They return the program's exit
 * status: 0, 1 for a failure, 2 for wrong usage. */
int dml_train_main(int argc, char **argv);
int dml_list_main(int argc, char **argv);
int dml_devices_main(int argc, char **argv);
int dml_augment_main(int argc, char **argv);
int dml_convert_main(int argc, char **argv);
int dml_dataset_main(int argc, char **argv);
int dml_sweep_main(int argc, char **argv);
int dml_report_main(int argc, char **argv);
int dml_toy_main(int argc, char **argv);
int dml_reference_main(int argc, char **argv);
int dml_eval_main(int argc, char **argv);
int dml_embed_main(int argc, char **argv);
int dml_search_main(int argc, char **argv);

/* The program's version, the processor level of its kernels, and the versions of its libraries. */
void dml_print_version(FILE *out);

/* Prints the message of a failure as "dml NAME: message" on stderr; returns the exit status. */
int dml_cli_finish(const char *name, enum dml_status status);

/* printf to stdout for lines that name files: characters that control a terminal and bytes that are
 * not UTF-8 are shown as \x1b and the like. */
void dml_cli_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether --help or -h is among the arguments. */
int dml_cli_wants_help(int argc, char **argv);

/* A subcommand whose flags are those of one table: --help prints `usage` and the table, anything
 * else sets the options and runs it. Returns the program's exit status. */
int dml_cli_run(const char *name, const struct dml_param_table *table, const char *usage,
                enum dml_status (*run)(const void *options), int argc, char **argv);

#endif
