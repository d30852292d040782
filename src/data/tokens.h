/* Tokens as they lie in a file: bytes, or little-endian numbers of 16 or 32 bits (.bin, as nanoGPT and llm.c write). */
#ifndef BRT_DATA_TOKENS_H
#define BRT_DATA_TOKENS_H

#include "../base/status.h"

typedef struct brt_tokens {
    const unsigned char *data; /* need not be aligned; may be NULL when there are none */
    size_t width;              /* bytes per token: 1, 2 or 4 */
    uint64_t count;
} brt_tokens;

/* Whether there is a format of that name: "auto", "bytes", "uint16", "uint32". */
bool brt_tokens_format_exists(const char *format);

/* Finds the tokens in a file's content, which must outlive *out. "auto": a .bin (also .bin.gz, .bin.xz) holds numbers,
 * all else bytes. The header of llm.c tells the width and is skipped; without one "auto" takes 16 bits, as nanoGPT.
 * A size that does not fit is an error that names `path`. The format must exist. */
brt_status brt_tokens_find(brt_tokens *out, const unsigned char *data, size_t size, const char *format,
                           const char *path);

/* Refuses a token at or above `bound` (0: one that does not fit int32_t). */
brt_status brt_tokens_check(const brt_tokens *tokens, size_t bound, const char *path);

/* Tokens [offset, offset + count), which must be there; not of an empty file, which has no data to point into. */
brt_tokens brt_tokens_part(const brt_tokens *tokens, uint64_t offset, uint64_t count);
void brt_tokens_read(const brt_tokens *tokens, uint64_t offset, size_t count, int32_t *out);

#endif
