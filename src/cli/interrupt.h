#ifndef DML_CLI_INTERRUPT_H
#define DML_CLI_INTERRUPT_H

#include <signal.h>

/* From here on Ctrl-C, SIGTERM and SIGHUP (where nohup has not switched it off) set the flag that
 * is returned, once, and print `text` on stderr (NULL: nothing); again, more than a second later,
 * they end the program at once. */
volatile sig_atomic_t *dml_cli_catch_interrupts(const char *text);

#endif
