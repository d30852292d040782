/* The options a run was made with, from its trainer_state.json. */
#ifndef BRT_CLI_SAVED_OPTIONS_H
#define BRT_CLI_SAVED_OPTIONS_H

#include "options.h"

typedef struct saved_options {
    bool found;     /* the directory holds a run's options */
    bool has_model; /* and the arguments of its model */
    void *state;    /* holds the texts that the options point to */
} saved_options;

/* Stores the run's options in `arguments` as if they had been given. Nothing to read is no error. */
brt_status saved_options_load(saved_options *saved, const char *dir, const cli_command *command, void *arguments);
void saved_options_close(saved_options *saved);
/* How far the run in `dir` is by its trainer_state.json; leaves everything as it is when there is none. */
void saved_options_progress(const char *dir, uint64_t *step, double *seconds);

#endif
