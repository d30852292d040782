/* Where the time of training went, as a table. */
#ifndef BRT_CLI_PROFILE_H
#define BRT_CLI_PROFILE_H

#include <brt/brt.h>

/* To standard error; `seconds` is the time of the whole training, of which the rest is named, too. */
void profile_print(const brt_trainer *trainer, double seconds);

#endif
