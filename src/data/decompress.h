/* Compressed text: .gz (zlib; any number of members) and .xz (liblzma; any number of streams). */
#ifndef BRT_DATA_DECOMPRESS_H
#define BRT_DATA_DECOMPRESS_H

#include "../base/status.h"

typedef enum brt_compression { BRT_COMPRESSION_NONE, BRT_COMPRESSION_GZIP, BRT_COMPRESSION_XZ } brt_compression;

/* By the ending of the name, ".gz" or ".xz". */
brt_compression brt_compression_of(const char *path);

/* The whole content in a fresh buffer (NULL when it is empty). More than `limit` bytes are refused: a few thousand
 * bytes can be made to expand to any size. `path` names the data in errors. */
brt_status brt_decompress(brt_compression compression, const unsigned char *data, size_t size, size_t limit,
                          const char *path, unsigned char **out, size_t *out_size);

#endif
