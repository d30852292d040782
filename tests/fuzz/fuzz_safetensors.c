/* Any bytes as a safetensors file: refused with a sentence, or every tensor can be found and read to its last byte. */
#include "ckpt/safetensors.h"

#include <stdlib.h>

/* An empty tensor may claim any shape, but no data: `count` is what conversion reads and writes. */
static void read_tensor(const brt_safetensors *file, size_t index)
{
    brt_tensor_info info, found;
    brt_safetensors_at(file, index, &info);
    if (!brt_safetensors_find(file, info.name, &found) || found.data != info.data || found.count != info.count)
        abort();
    float *values = malloc(info.count * sizeof *values + 1);
    if (!values)
        abort();
    brt_safetensors_to_float(&info, values);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    brt_safetensors *file;
    if (brt_safetensors_parse(&file, data, size, "input") != BRT_OK) {
        if (!brt_last_error()[0])
            abort();
        return 0;
    }
    for (size_t i = 0; i < brt_safetensors_count(file); i++)
        read_tensor(file, i);
    brt_safetensors_metadata(file, "format");
    brt_safetensors_close(file);
    return 0;
}
