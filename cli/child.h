/* This program run again, for work whose memory is to be measured. */
#ifndef BRT_CLI_CHILD_H
#define BRT_CLI_CHILD_H

#include <brt/brt.h>

/* Runs `brt words[0] words[1] ...` (up to NULL) and waits for it, with its results in the file `output`. *status: its
 * exit status; *peak_bytes: the most memory it held. */
brt_status child_run(const char *const *words, const char *output, int *status, uint64_t *peak_bytes);

#endif
