/* The commands, one file each. */
#ifndef BRT_CLI_COMMANDS_H
#define BRT_CLI_COMMANDS_H

#include "options.h"

extern const cli_command cli_train, cli_eval, cli_generate, cli_info, cli_graft, cli_ablate, cli_quantize, cli_plot,
    cli_trace, cli_bench;

/* Options that several commands have. */
#define CLI_THREADS(type, field)                                                                       \
    {"threads", 0, CLI_INTEGER, offsetof(type, field), "N", "threads; 0: all processors; no result depends on it"}
#define CLI_ISA(type)                                                                                  \
    {"isa", 0, CLI_TEXT, offsetof(type, isa), "NAME",                                                  \
     "kernels to use: generic, sse2, avx2, avx512, avx512_bf16 or neon"}
#define CLI_JSON(type) {"json", 0, CLI_FLAG, offsetof(type, json), NULL, "print the result as JSON"}

/* --isa: must come before the first model. NULL: leaves the choice to the library. */
brt_status cli_choose_isa(const char *name);

#endif
