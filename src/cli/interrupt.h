#ifndef DML_CLI_INTERRUPT_H
#define DML_CLI_INTERRUPT_H

#include <signal.h>

/* From here on the first Ctrl-C, SIGTERM or SIGHUP (unless nohup has switched it off) sets the flag
 * that is returned and prints `text` on stderr (NULL: nothing); another, more than a second later,
 * ends the program at once. */
volatile sig_atomic_t *dml_cli_catch_interrupts(const char *text);

#endif
