#ifndef DML_CLI_TERMINAL_H
#define DML_CLI_TERMINAL_H

/* From here on what the library says is shown: information on stdout, warnings and progress on
 * stderr. Progress is a bar with rate and time left on a terminal; elsewhere plain lines, at most
 * one every ten seconds and one at the end. Messages name parameters as flags. */
void dml_cli_show_messages(void);

#endif
