/* How an arithmetic tells which parameters a configuration has. It is asked twice: first to count, then to fill. */
#ifndef BRT_MODEL_DECLARATION_H
#define BRT_MODEL_DECLARATION_H

#include "parameters.h"

typedef struct brt_declaration {
    brt_parameters *parameters;
    char prefix[64];       /* of the names */
    double skipped;        /* of what is declared now */
    bool overflow;
    brt_parameter uncounted; /* what brt_declare returns while counting */
} brt_declaration;

/* The parameter PREFIXname, for further settings. */
brt_parameter *brt_declare(brt_declaration *d, const char *name, brt_initialisation initialisation, size_t dims,
                           const size_t *shape);

void brt_reference_declare(brt_declaration *d, const brt_config *config);
void brt_paper_declare(brt_declaration *d, const brt_config *config);

#endif
