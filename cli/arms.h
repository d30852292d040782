/* The arms of an ablation: names for options of `brt train` in which runs differ. */
#ifndef BRT_CLI_ARMS_H
#define BRT_CLI_ARMS_H

#include <brt/brt.h>

enum { ARM_MOST_OPTIONS = 16 };

typedef struct arm {
    char name[64];
    char *text;                            /* what `options` points into; freed by arm_close */
    const char *options[ARM_MOST_OPTIONS]; /* words for brt train, up to NULL */
} arm;

/* "NAME", of the list, or "NAME=--option value ..."; BRT_ERROR_ARGUMENT for another. */
brt_status arm_parse(arm *out, const char *text);
void arm_close(arm *closed);
/* Name and meaning of the index-th arm of the list; NULL past the last. */
const char *arm_name_at(size_t index, const char **help);

#endif
