/* Values of options: text to field and back. */
#ifndef BRT_CLI_VALUES_H
#define BRT_CLI_VALUES_H

#include "options.h"

/* Converts `text` (NULL for a flag) into the field. false with a sentence in `problem`. */
bool cli_convert(const cli_option *option, const char *text, void *field, char *problem, size_t size);
/* The field's value as text; "" for one that stands for nothing (0, NULL, false). */
void cli_format(const cli_option *option, const void *field, char *out, size_t size);

#endif
