/* Text to tokens. */
#ifndef BRT_CLI_PROMPT_H
#define BRT_CLI_PROMPT_H

#include <brt/brt.h>

typedef struct prompt {
    int32_t *tokens;
    size_t count;
} prompt;

/* From a text, from a file ("-": standard input), or empty if both are NULL. With 256 tokens each byte is one; else the
 * text holds the numbers of tokens. */
brt_status prompt_read(prompt *out, const char *text, const char *file, int64_t num_tokens);
void prompt_close(prompt *p);

#endif
