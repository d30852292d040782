/* SIGINT and SIGTERM as a flag. */
#ifndef BRT_CLI_INTERRUPT_H
#define BRT_CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on the first signal sets the flag, and a second one ends the program at once. */
void cli_catch_interrupts(void);
bool cli_interrupted(void);

#endif
