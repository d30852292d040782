/* The text that options name. */
#ifndef BRT_CLI_DATA_ARGUMENTS_H
#define BRT_CLI_DATA_ARGUMENTS_H

#include "options.h"

#define CLI_FORMAT(type)                                                                               \
    {"format", 0, CLI_CHOICE, offsetof(type, format), "auto|bytes|uint16|uint32",                      \
     "how files hold tokens; auto: .bin as uint16 or uint32, all else bytes"}

/* Opens the files as documents of a model's tokens. `split` and `format` may be NULL. */
brt_status cli_open_data(const cli_paths *paths, const char *format, const char *split, const brt_config *config,
                         brt_dataset **out);

#endif
