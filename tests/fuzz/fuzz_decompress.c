/* Any bytes as a .gz (first byte of the input even) or .xz file (odd), expanded to 1 MiB at most. */
#include "data/decompress.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { limit = 1 << 20 };
    if (size < 1)
        return 0;
    brt_compression compression = data[0] & 1 ? BRT_COMPRESSION_XZ : BRT_COMPRESSION_GZIP;
    unsigned char *out;
    size_t out_size;
    brt_status status = brt_decompress(compression, data + 1, size - 1, limit, "input", &out, &out_size);
    if ((status != BRT_OK && out) || out_size > limit || (out_size > 0) != (out != NULL))
        abort();
    free(out);
    return 0;
}
