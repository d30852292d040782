#define ZLIB_CONST
#include "decompress.h"

#include "../base/size.h"

#include <limits.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { first_capacity = 1 << 16, most_xz_memory = 1 << 30 /* the strongest preset needs 65 MiB */ };

/* ---- a buffer that grows up to a limit ---------------------------------------------------------------------- */

typedef struct sink {
    unsigned char *data;
    size_t size, capacity, limit;
    const char *path;
} sink;

static brt_status fail_too_large(const sink *s)
{
    return BRT_FAIL(BRT_ERROR_DATA,
                    "%s expands to more than %zu bytes, the most that may be kept in memory; decompress it to a file, "
                    "which is mapped instead",
                    s->path, s->limit);
}

/* One byte more than the limit may be taken: only a full buffer shows that there is more. */
static brt_status make_room(sink *s)
{
    if (s->size < s->capacity)
        return BRT_OK;
    if (s->capacity > s->limit)
        return fail_too_large(s);
    size_t most = s->limit < SIZE_MAX ? s->limit + 1 : SIZE_MAX;
    size_t capacity = s->capacity > most / 2 ? most : brt_min_size(brt_max_size(2 * s->capacity, first_capacity), most);
    unsigned char *data = realloc(s->data, capacity);
    if (!data)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for decompressing %s (%zu bytes so far)", s->path, s->size);
    s->data = data;
    s->capacity = capacity;
    return BRT_OK;
}

static brt_status finish(sink *s, unsigned char **out, size_t *out_size)
{
    if (s->size > s->limit)
        return fail_too_large(s);
    if (s->size == 0)
        return BRT_OK;
    unsigned char *fitting = realloc(s->data, s->size);
    *out = fitting ? fitting : s->data;
    *out_size = s->size;
    s->data = NULL;
    return BRT_OK;
}

static brt_status fail_cut_short(const sink *s)
{
    return BRT_FAIL(BRT_ERROR_FORMAT, "%s is cut short: the compressed data ends after %zu bytes of content", s->path,
                    s->size);
}

static brt_status fail_damaged(const sink *s, const char *kind, const char *reason)
{
    return BRT_FAIL(BRT_ERROR_FORMAT, "%s is no intact %s file: %s, after %zu bytes of content", s->path, kind, reason,
                    s->size);
}

/* ---- gzip --------------------------------------------------------------------------------------------------- */

typedef struct gzip_input {
    const unsigned char *data;
    size_t size; /* not yet handed to zlib */
} gzip_input;

/* zlib counts in unsigned int. */
static void refill(z_stream *stream, gzip_input *input)
{
    if (stream->avail_in > 0)
        return;
    stream->next_in = input->data;
    stream->avail_in = (uInt)brt_min_size(input->size, UINT_MAX);
    input->data += stream->avail_in;
    input->size -= stream->avail_in;
}

static int inflate_some(z_stream *stream, sink *s)
{
    size_t room = brt_min_size(s->capacity - s->size, UINT_MAX);
    stream->next_out = s->data + s->size;
    stream->avail_out = (uInt)room;
    int result = inflate(stream, Z_NO_FLUSH);
    s->size += room - stream->avail_out;
    return result;
}

/* Up to the end of one member. */
static brt_status inflate_member(z_stream *stream, gzip_input *input, sink *s)
{
    for (;;) {
        refill(stream, input);
        BRT_TRY(make_room(s));
        bool at_end = stream->avail_in == 0;
        switch (inflate_some(stream, s)) {
        case Z_STREAM_END:
            return BRT_OK;
        case Z_OK:
            break;
        case Z_BUF_ERROR:
            if (at_end)
                return fail_cut_short(s);
            break;
        case Z_MEM_ERROR:
            return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for decompressing %s", s->path);
        default:
            return fail_damaged(s, "gzip", stream->msg ? stream->msg : "it needs a dictionary");
        }
    }
}

/* Whether nothing but zeros is left: padding, as gzip itself takes it. */
static bool only_padding(const z_stream *stream, const gzip_input *input)
{
    for (size_t i = 0; i < stream->avail_in; i++)
        if (stream->next_in[i] != 0)
            return false;
    for (size_t i = 0; i < input->size; i++)
        if (input->data[i] != 0)
            return false;
    return true;
}

static brt_status decompress_gzip(gzip_input input, sink *s)
{
    enum { gzip_only = 16 };
    z_stream stream = {0};
    if (inflateInit2(&stream, MAX_WBITS + gzip_only) != Z_OK)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for decompressing %s", s->path);
    brt_status status = inflate_member(&stream, &input, s);
    while (status == BRT_OK && !only_padding(&stream, &input)) {
        inflateReset(&stream);
        status = inflate_member(&stream, &input, s);
    }
    inflateEnd(&stream);
    return status;
}

/* ---- xz ----------------------------------------------------------------------------------------------------- */

static brt_status explain_xz(lzma_ret result, const sink *s)
{
    switch (result) {
    case LZMA_BUF_ERROR:
        return fail_cut_short(s);
    case LZMA_MEM_ERROR:
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for decompressing %s", s->path);
    case LZMA_MEMLIMIT_ERROR:
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "%s needs more than %d bytes of memory to decompress", s->path,
                        most_xz_memory);
    case LZMA_OPTIONS_ERROR:
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "%s uses options that this liblzma does not know", s->path);
    case LZMA_FORMAT_ERROR:
        return fail_damaged(s, "xz", "the signature is missing");
    default:
        return fail_damaged(s, "xz", "the data is corrupt");
    }
}

static brt_status decode_xz(lzma_stream *stream, sink *s)
{
    for (;;) {
        BRT_TRY(make_room(s));
        size_t room = s->capacity - s->size;
        stream->next_out = s->data + s->size;
        stream->avail_out = room;
        lzma_ret result = lzma_code(stream, LZMA_FINISH);
        s->size += room - stream->avail_out;
        if (result == LZMA_STREAM_END)
            return BRT_OK;
        if (result != LZMA_OK)
            return explain_xz(result, s);
    }
}

static brt_status decompress_xz(const unsigned char *data, size_t size, sink *s)
{
    lzma_stream stream = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&stream, most_xz_memory, LZMA_CONCATENATED) != LZMA_OK)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for decompressing %s", s->path);
    stream.next_in = data;
    stream.avail_in = size;
    brt_status status = decode_xz(&stream, s);
    lzma_end(&stream);
    return status;
}

/* ---- either ------------------------------------------------------------------------------------------------- */

static bool ends_in(const char *text, const char *ending)
{
    size_t length = strlen(text), part = strlen(ending);
    return length > part && strcmp(text + length - part, ending) == 0;
}

brt_compression brt_compression_of(const char *path)
{
    if (ends_in(path, ".gz"))
        return BRT_COMPRESSION_GZIP;
    return ends_in(path, ".xz") ? BRT_COMPRESSION_XZ : BRT_COMPRESSION_NONE;
}

brt_status brt_decompress(brt_compression compression, const unsigned char *data, size_t size, size_t limit,
                          const char *path, unsigned char **out, size_t *out_size)
{
    *out = NULL;
    *out_size = 0;
    sink s = {.limit = limit, .path = path};
    brt_status status = compression == BRT_COMPRESSION_XZ ? decompress_xz(data, size, &s)
                                                          : decompress_gzip((gzip_input){data, size}, &s);
    if (status == BRT_OK)
        status = finish(&s, out, out_size);
    free(s.data);
    return status;
}
