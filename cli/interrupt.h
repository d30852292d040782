/* SIGINT and SIGTERM as a flag, SIGBUS as a sentence. */
#ifndef BRT_CLI_INTERRUPT_H
#define BRT_CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on the first signal sets the flag, and a second one ends the program at once. */
void cli_catch_interrupts(void);
bool cli_interrupted(void);

/* Files are read where they are mapped: what is behind the end of one that is cut meanwhile is a bus error, which from
 * now on ends the program with a sentence. */
void cli_explain_bus_errors(void);

#endif
