/* The model that options describe: a preset, a file, one option per argument of the model. */
#ifndef BRT_CLI_MODEL_ARGUMENTS_H
#define BRT_CLI_MODEL_ARGUMENTS_H

#include "options.h"

/* Options of every command that makes a configuration. */
#define CLI_MODEL_SOURCES(type)                                                                        \
    {"preset", 0, CLI_CHOICE, offsetof(type, preset), "tiny|small|reference|paper-tiny|paper-150m",    \
     "a model and how to train it; reference is the PyTorch package's train.py"},                      \
    {"config", 0, CLI_TEXT, offsetof(type, config), "FILE.json",                                       \
     "model arguments as JSON, or a directory with config.json"}

/* Sets the arguments of the model that are given. */
brt_status cli_set_model_arguments(const cli_parsed *parsed, brt_config *config);
bool cli_describes_model(const cli_parsed *parsed);
/* The preset, then the file, then single arguments; what comes later wins. `preset` and `file` may be NULL: then bytes
 * are the vocabulary unless an argument says otherwise. The configuration is checked. */
brt_status cli_model_config(const cli_parsed *parsed, const char *preset, const char *file, brt_config **out);

#endif
