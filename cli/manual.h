/* The manual page and the completion for bash, made from the tables of commands and options. */
#ifndef BRT_CLI_MANUAL_H
#define BRT_CLI_MANUAL_H

void cli_print_manual(void);
void cli_print_completion(void);

#endif
