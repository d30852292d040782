/* Any bytes as a file of tokens. The first byte of the input chooses the format and the name's ending, the second the
 * size of the vocabulary. */
#include "data/tokens.h"

#include <stdlib.h>

static void read_all(const brt_tokens *tokens, size_t bound)
{
    int32_t *values = malloc(tokens->count * sizeof *values + 1);
    if (!values)
        abort();
    brt_tokens_read(tokens, 0, (size_t)tokens->count, values);
    for (uint64_t i = 0; i < tokens->count; i++)
        if (values[i] < 0 || (bound > 0 && (size_t)values[i] >= bound))
            abort();
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"auto", "bytes", "uint16", "uint32"};
    static const char *const names[] = {"input.bin", "input.txt", "input.bin.gz", "bin"};
    if (size < 2)
        return 0;
    size_t bound = data[1] == 255 ? 0 : 4 * (size_t)data[1];
    brt_tokens tokens;
    const char *format = formats[data[0] & 3], *name = names[data[0] >> 2 & 3];
    if (brt_tokens_find(&tokens, data + 2, size - 2, format, name) != BRT_OK)
        return 0;
    if (brt_tokens_check(&tokens, bound, name) == BRT_OK && tokens.count > 0)
        read_all(&tokens, bound);
    return 0;
}
