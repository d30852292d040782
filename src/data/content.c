#include "content.h"

#include "../base/memory.h"
#include "../base/size.h"
#include "decompress.h"

#include <stdlib.h>
#include <string.h>

/* Smaller files are copied: a process may hold only some 65,000 mappings, and each takes whole pages. */
enum { least_mapped = 1 << 16 };

static brt_status copy_small(brt_content *out, const char *path)
{
    out->owned = malloc(out->mapping.size);
    if (!out->owned)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %s (%zu bytes)", path, out->mapping.size);
    memcpy(out->owned, out->mapping.data, out->mapping.size);
    return BRT_OK;
}

/* Half of what is free at most: the model and the trainer come after. */
static brt_status expand(brt_content *out, brt_compression compression, const char *path)
{
    uint64_t half = brt_available_memory() / 2;
    size_t limit = half < SIZE_MAX ? (size_t)half : SIZE_MAX;
    return brt_decompress(compression, out->mapping.data, out->mapping.size, limit, path, &out->owned, &out->size);
}

brt_status brt_content_load(brt_content *out, const char *path)
{
    *out = (brt_content){0};
    BRT_TRY(brt_file_map(&out->mapping, path));
    out->data = out->mapping.data;
    out->size = out->mapping.size;
    brt_compression compression = brt_compression_of(path);
    bool compressed = compression != BRT_COMPRESSION_NONE && out->size > 0;
    if (!compressed && (out->size == 0 || out->size >= least_mapped))
        return BRT_OK;
    brt_status status = compressed ? expand(out, compression, path) : copy_small(out, path);
    brt_file_unmap(&out->mapping);
    out->data = out->owned;
    return status;
}

void brt_content_free(brt_content *content)
{
    brt_file_unmap(&content->mapping);
    free(content->owned);
    *content = (brt_content){0};
}
