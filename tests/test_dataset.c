/* Data sets: which files, which tokens, which sentences when something is wrong. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/file.h"
#include "data/decompress.h"

#include <lzma.h>
#include <sys/stat.h>
#include <zlib.h>

/* ---- files and data sets in one line ---------------------------------------------------------------------- */

static void write_text(const char *path, const char *text)
{
    assert_ok(brt_file_replace(path, text, strlen(text)));
}

static brt_dataset_options options_of(const char *const *paths, size_t path_count)
{
    brt_dataset_options options = brt_dataset_options_init();
    options.paths = paths;
    options.path_count = path_count;
    return options;
}

static brt_status open_one(brt_dataset **out, const char *path, const char *format, size_t num_tokens)
{
    brt_dataset_options options = options_of(&path, 1);
    options.num_tokens = num_tokens;
    if (format)
        options.format = format;
    return brt_dataset_open(out, &options);
}

static void expect_open_failure(const char *path, const char *format, size_t num_tokens, brt_status status,
                                const char *part)
{
    brt_dataset *dataset = (brt_dataset *)&path;
    expect_failure(open_one(&dataset, path, format, num_tokens), status, part);
    assert_null(dataset);
}

static void expect_names(const char *path, const char *const *names, size_t count)
{
    brt_dataset *dataset;
    assert_ok(open_one(&dataset, path, NULL, 0));
    assert_int_equal(brt_dataset_documents(dataset), count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(brt_dataset_document_name(dataset, i), names[i]);
    brt_dataset_close(dataset);
}

/* The only document of `path` holds these tokens. */
static void expect_document(const char *path, const char *format, const int32_t *expected, size_t count)
{
    brt_dataset *dataset;
    int32_t *tokens = malloc(count * sizeof *tokens);
    assert_ok(open_one(&dataset, path, format, 0));
    assert_int_equal(brt_dataset_documents(dataset), 1);
    assert_int_equal(brt_dataset_tokens(dataset), count);
    assert_int_equal(brt_dataset_document_tokens(dataset, 0), count);
    assert_ok(brt_dataset_read(dataset, 0, 0, count, tokens));
    assert_memory_equal(tokens, expected, count * sizeof *tokens);
    brt_dataset_close(dataset);
    free(tokens);
}

/* ---- which files ------------------------------------------------------------------------------------------ */

static void make_tree(void)
{
    assert_ok(brt_make_directory("tree/b/deep"));
    assert_ok(brt_make_directory("tree/.hidden"));
    write_text("tree/c.txt", "ccc");
    write_text("tree/a.txt", "a");
    write_text("tree/B.txt", "BB");
    write_text("tree/b/2.txt", "2");
    write_text("tree/b/deep/1.txt", "1");
    write_text("tree/b/empty.txt", "");
    write_text("tree/.hidden/no.txt", "no");
    write_text("tree/.no.txt", "no");
}

static void paths_name_files_in_a_fixed_order(void **state)
{
    (void)state;
    make_tree();
    static const char *const all[] = {"tree/B.txt", "tree/a.txt", "tree/b/2.txt", "tree/b/deep/1.txt", "tree/c.txt"};
    expect_names("tree", all, 5);
    static const char *const below_b[] = {"tree/b/2.txt", "tree/b/deep/1.txt"};
    expect_names("tree/b/", below_b, 2);
    static const char *const matches[] = {"tree/B.txt", "tree/a.txt", "tree/c.txt"};
    expect_names("tree/*.txt", matches, 3);
    expect_names("tre?/[b]", below_b, 2);
    write_text("[x]*.txt", "a name first, a pattern only where there is no such file");
    expect_names("[x]*.txt", (const char *const[]){"[x]*.txt"}, 1);
}

static void several_paths_follow_each_other(void **state)
{
    (void)state;
    make_tree();
    const char *const paths[] = {"tree/c.txt", "tree/b", "tree/a.txt"};
    brt_dataset *dataset;
    brt_dataset_options options = options_of(paths, 3);
    assert_ok(brt_dataset_open(&dataset, &options));
    assert_int_equal(brt_dataset_tokens(dataset), 6);
    assert_string_equal(brt_dataset_document_name(dataset, 0), "tree/c.txt");
    assert_string_equal(brt_dataset_document_name(dataset, 3), "tree/a.txt");
    brt_dataset_close(dataset);
    const char *const missing[] = {"tree/c.txt", "tree/absent.txt"};
    options = options_of(missing, 2);
    expect_failure(brt_dataset_open(&dataset, &options), BRT_ERROR_IO, "tree/absent.txt: No such file");
}

static void links_are_followed_to_files_only(void **state)
{
    (void)state;
    assert_ok(brt_make_directory("links/blobs"));
    write_text("links/blobs/x", "text");
    assert_int_equal(symlink("blobs/x", "links/a.txt"), 0);
    assert_int_equal(symlink("../links", "links/loop"), 0);
    assert_int_equal(mkfifo("links/pipe", 0600), 0);
    static const char *const names[] = {"links/a.txt", "links/blobs/x"};
    expect_names("links", names, 2);
    assert_int_equal(symlink("blobs/absent", "links/dangling"), 0);
    expect_open_failure("links", NULL, 0, BRT_ERROR_IO, "links/dangling: No such file");
}

static void naming_nothing_is_an_error(void **state)
{
    (void)state;
    assert_ok(brt_make_directory("void/deep/.git"));
    write_text("blank.txt", "");
    write_text("blank.bin", "");
    write_text("blank.gz", "");
    expect_open_failure("absent.txt", NULL, 0, BRT_ERROR_IO, "cannot read absent.txt: No such file");
    expect_open_failure("absent*.txt", NULL, 0, BRT_ERROR_IO, "no file matches absent*.txt");
    expect_open_failure("void", NULL, 0, BRT_ERROR_DATA, "the directory void holds no files");
    expect_open_failure("blank.txt", NULL, 0, BRT_ERROR_DATA, "nothing to read in blank.txt");
    expect_open_failure("blank.*", NULL, 0, BRT_ERROR_DATA, "nothing to read in blank.*");
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    brt_dataset *dataset;
    const char *path = "tree";
    brt_dataset_options options = options_of(&path, 0);
    expect_failure(brt_dataset_open(&dataset, &options), BRT_ERROR_ARGUMENT, "at least one path");
    options.path_count = 1;
    options.split = "enwik9:train";
    expect_failure(brt_dataset_open(&dataset, &options), BRT_ERROR_ARGUMENT, "no split \"enwik9:train\"");
    options.format = "int8";
    expect_failure(brt_dataset_open(&dataset, &options), BRT_ERROR_ARGUMENT, "no data format \"int8\"");
    options.size = 0;
    expect_failure(brt_dataset_open(&dataset, &options), BRT_ERROR_ARGUMENT, "brt_dataset_options_init");
    brt_dataset_close(NULL);
}

/* ---- tokens ----------------------------------------------------------------------------------------------- */

static void bytes_are_tokens(void **state)
{
    (void)state;
    static const int32_t expected[] = {'a', 0xC3, 0xA9, 0xFF};
    write_text("bytes.txt", "a\xc3\xa9\xff");
    expect_document("bytes.txt", NULL, expected, 4);
    write_text("bytes.bin", "a\xc3\xa9\xff");
    expect_document("bytes.bin", "bytes", expected, 4);
    brt_dataset *dataset;
    int32_t part[2];
    assert_ok(open_one(&dataset, "bytes.txt", NULL, 0));
    assert_ok(brt_dataset_read(dataset, 0, 1, 2, part));
    assert_memory_equal(part, expected + 1, sizeof part);
    assert_ok(brt_dataset_read(dataset, 0, 4, 0, part));
    expect_failure(brt_dataset_read(dataset, 0, 3, 2, part), BRT_ERROR_ARGUMENT, "bytes.txt has 4 tokens");
    expect_failure(brt_dataset_read(dataset, 0, UINT64_MAX, 2, part), BRT_ERROR_ARGUMENT, "bytes.txt has 4 tokens");
    expect_failure(brt_dataset_read(dataset, 1, 0, 1, part), BRT_ERROR_ARGUMENT, "no document 1");
    assert_null(brt_dataset_document_name(dataset, 1));
    assert_int_equal(brt_dataset_document_tokens(dataset, 1), 0);
    brt_dataset_close(dataset);
}

static void a_mapped_file_reads_like_a_small_one(void **state)
{
    (void)state;
    size_t size = (1 << 16) + 7;
    unsigned char *bytes = malloc(size);
    int32_t *expected = malloc(size * sizeof *expected);
    for (size_t i = 0; i < size; i++)
        expected[i] = bytes[i] = (unsigned char)(i * 7 + i / 251);
    assert_ok(brt_file_replace("mapped", bytes, size));
    expect_document("mapped", NULL, expected, size);
    free(bytes);
    free(expected);
}

static const uint16_t narrow[] = {0, 50256, 65535};
static const uint32_t wide[] = {0, 128000, INT32_MAX};
static const int32_t narrow_tokens[] = {0, 50256, 65535}, wide_tokens[] = {0, 128000, INT32_MAX};

static void numbers_are_tokens(void **state)
{
    (void)state;
    assert_ok(brt_file_replace("narrow.bin", narrow, sizeof narrow));
    assert_ok(brt_file_replace("wide.bin", wide, sizeof wide));
    expect_document("narrow.bin", NULL, narrow_tokens, 3);
    expect_document("narrow.bin", "uint16", narrow_tokens, 3);
    expect_document("wide.bin", "uint32", wide_tokens, 3);
}

static void odd_sizes_are_refused(void **state)
{
    (void)state;
    write_text("odd.bin", "12345");
    expect_open_failure("odd.bin", NULL, 0, BRT_ERROR_FORMAT, "odd.bin has 5 bytes; a multiple of the 2");
    expect_open_failure("odd.bin", "uint16", 0, BRT_ERROR_FORMAT, "odd.bin has 5 bytes; a multiple of the 2");
    expect_open_failure("odd.bin", "uint32", 0, BRT_ERROR_FORMAT, "odd.bin has 5 bytes; a multiple of the 4");
}

static void write_llmc(const char *path, uint32_t magic, uint32_t version, uint32_t count, const void *data,
                       size_t size)
{
    unsigned char *file = calloc(1024 + size, 1);
    uint32_t words[3] = {magic, version, count};
    memcpy(file, words, sizeof words);
    memcpy(file + 1024, data, size);
    assert_ok(brt_file_replace(path, file, 1024 + size));
    free(file);
}

static void headers_of_llmc_are_skipped(void **state)
{
    (void)state;
    write_llmc("gpt2.bin", 20240520, 1, 3, narrow, sizeof narrow);
    write_llmc("llama.bin", 20240801, 7, 3, wide, sizeof wide);
    expect_document("gpt2.bin", NULL, narrow_tokens, 3);
    expect_document("gpt2.bin", "uint16", narrow_tokens, 3);
    expect_document("llama.bin", NULL, wide_tokens, 3);
    expect_document("llama.bin", "uint32", wide_tokens, 3);
    expect_open_failure("gpt2.bin", "uint32", 0, BRT_ERROR_FORMAT, "gpt2.bin holds tokens of 2 bytes");
    write_llmc("more.bin", 20240520, 1, 4, narrow, sizeof narrow);
    expect_open_failure("more.bin", NULL, 0, BRT_ERROR_FORMAT, "more.bin has 1030 bytes; by its header");
    write_llmc("more.bin", 20240520, 1, 2, narrow, sizeof narrow);
    expect_open_failure("more.bin", NULL, 0, BRT_ERROR_FORMAT, "(2 tokens) it must have 1028");
    write_llmc("version.bin", 20240801, 1, 3, wide, sizeof wide);
    expect_open_failure("version.bin", NULL, 0, BRT_ERROR_UNSUPPORTED, "header of llm.c of version 1; 7 was");
    write_llmc("none.bin", 20240520, 1, 0, narrow, 0);
    expect_open_failure("none.bin", NULL, 0, BRT_ERROR_DATA, "nothing to read in none.bin");
    assert_int_equal(truncate("none.bin", 1000), 0);
    expect_open_failure("none.bin", NULL, 0, BRT_ERROR_FORMAT, "none.bin has 1000 bytes");
}

static void tokens_beyond_the_vocabulary_are_located(void **state)
{
    (void)state;
    brt_dataset *dataset;
    assert_ok(brt_file_replace("large.bin", (uint16_t[]){1, 2, 300, 4, 500}, 10));
    assert_ok(brt_file_replace("large32.bin", (uint32_t[]){1, 0x80000000u}, 8));
    write_text("large.txt", "ab\xf0");
    expect_open_failure("large.bin", NULL, 300, BRT_ERROR_DATA, "large.bin: the token at offset 2 is 300; below 300");
    expect_open_failure("large.bin", NULL, 301, BRT_ERROR_DATA, "large.bin: the token at offset 4 is 500; below 301");
    expect_open_failure("large.txt", NULL, 128, BRT_ERROR_DATA, "large.txt: the token at offset 2 is 240; below 128");
    expect_open_failure("large32.bin", "uint32", 0, BRT_ERROR_DATA, "offset 1 is 2147483648; below 2147483648");
    static const size_t enough[] = {501, 65536, 1 << 20, SIZE_MAX};
    for (size_t i = 0; i < 4; i++) {
        assert_ok(open_one(&dataset, "large.bin", NULL, enough[i]));
        brt_dataset_close(dataset);
    }
}

/* ---- compressed files ------------------------------------------------------------------------------------- */

static size_t gzip(const void *data, size_t size, unsigned char *out, size_t room)
{
    z_stream stream = {.next_in = (Bytef *)data, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)room};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return stream.total_out;
}

static size_t xz(const void *data, size_t size, unsigned char *out, size_t room)
{
    size_t length = 0;
    assert_int_equal(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC64, NULL, data, size, out, &length, room), LZMA_OK);
    return length;
}

typedef size_t compressor(const void *data, size_t size, unsigned char *out, size_t room);

static const struct {
    const char *path;
    brt_compression compression;
    compressor *compress;
} kinds[] = {{"packed.gz", BRT_COMPRESSION_GZIP, gzip}, {"packed.xz", BRT_COMPRESSION_XZ, xz}};

static void compressed_files_are_expanded(void **state)
{
    (void)state;
    static const int32_t hello[] = {'h', 'e', 'l', 'l', 'o', '!'};
    for (size_t k = 0; k < 2; k++) {
        unsigned char packed[1000];
        size_t first = kinds[k].compress("hel", 3, packed, sizeof packed);
        size_t second = kinds[k].compress("", 0, packed + first, sizeof packed - first);
        size_t third = kinds[k].compress("lo!", 3, packed + first + second, sizeof packed - first - second);
        size_t size = first + second + third;
        assert_ok(brt_file_replace(kinds[k].path, packed, size));
        expect_document(kinds[k].path, NULL, hello, 6);
        memset(packed + size, 0, 8);
        assert_ok(brt_file_replace(kinds[k].path, packed, size + 8)); /* padding */
        expect_document(kinds[k].path, NULL, hello, 6);
    }
}

static void compressed_tokens_are_found(void **state)
{
    (void)state;
    unsigned char packed[1000];
    assert_ok(brt_file_replace("tokens.bin.gz", packed, gzip(narrow, sizeof narrow, packed, sizeof packed)));
    assert_ok(brt_file_replace("tokens.bin.xz", packed, xz(narrow, sizeof narrow, packed, sizeof packed)));
    expect_document("tokens.bin.gz", NULL, narrow_tokens, 3);
    expect_document("tokens.bin.xz", NULL, narrow_tokens, 3);
    assert_ok(brt_file_replace("nothing.gz", packed, gzip("", 0, packed, sizeof packed)));
    expect_open_failure("nothing.gz", NULL, 0, BRT_ERROR_DATA, "nothing to read in nothing.gz");
}

/* Text that does not compress to a handful of bytes. */
static unsigned char *make_noise(size_t size)
{
    unsigned char *noise = malloc(size);
    uint32_t word = 1;
    for (size_t i = 0; i < size; i++) {
        word = word * 1664525u + 1013904223u;
        noise[i] = (unsigned char)(word >> 28);
    }
    return noise;
}

static void large_files_are_expanded_whole(void **state)
{
    (void)state;
    size_t size = 300001, room = 400000;
    unsigned char *noise = make_noise(size), *packed = malloc(room), *out;
    for (size_t k = 0; k < 2; k++) {
        size_t packed_size = kinds[k].compress(noise, size, packed, room), out_size;
        assert_ok(brt_decompress(kinds[k].compression, packed, packed_size, SIZE_MAX, "noise", &out, &out_size));
        assert_int_equal(out_size, size);
        assert_memory_equal(out, noise, size);
        free(out);
    }
    free(noise);
    free(packed);
}

static void expect_no_content(size_t kind, const unsigned char *packed, size_t size, size_t limit, brt_status status,
                              const char *part)
{
    unsigned char *out;
    size_t out_size;
    expect_failure(brt_decompress(kinds[kind].compression, packed, size, limit, "file", &out, &out_size), status, part);
    assert_null(out);
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    unsigned char *noise = make_noise(3000), packed[5000];
    for (size_t k = 0; k < 2; k++) {
        size_t size = kinds[k].compress(noise, 3000, packed, sizeof packed);
        for (size_t part = 1; part < size; part++)
            expect_no_content(k, packed, part, 1 << 20, BRT_ERROR_FORMAT, "file is cut short");
        assert_ok(brt_file_replace(kinds[k].path, packed, size - 1));
        expect_open_failure(kinds[k].path, NULL, 0, BRT_ERROR_FORMAT, "cut short");
    }
    free(noise);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    unsigned char *noise = make_noise(300), packed[1000];
    for (size_t k = 0; k < 2; k++) {
        size_t size = kinds[k].compress(noise, 300, packed, sizeof packed);
        size_t at = k == 0 ? size - 8 : size / 2; /* the checksum; within the data */
        packed[at] ^= 0x10;
        expect_no_content(k, packed, size, 1 << 20, BRT_ERROR_FORMAT, "file is no intact");
        packed[at] ^= 0x10;
        memcpy(packed + size, "trailing garbage", 16);
        expect_no_content(k, packed, size + 16, 1 << 20, BRT_ERROR_FORMAT, "file is no intact");
        write_text(kinds[k].path, "plain text under a wrong name");
        expect_open_failure(kinds[k].path, NULL, 0, BRT_ERROR_FORMAT, kinds[k].path);
    }
    free(noise);
}

static void expansion_is_limited(void **state)
{
    (void)state;
    size_t size = 1 << 20, out_size;
    unsigned char *zeros = calloc(size, 1), packed[5000], *out;
    for (size_t k = 0; k < 2; k++) {
        size_t packed_size = kinds[k].compress(zeros, size, packed, sizeof packed);
        expect_no_content(k, packed, packed_size, size - 1, BRT_ERROR_DATA, "file expands to more than 1048575 bytes");
        assert_ok(brt_decompress(kinds[k].compression, packed, packed_size, size, "fits", &out, &out_size));
        assert_int_equal(out_size, size);
        free(out);
    }
    free(zeros);
}

/* ---- splits ----------------------------------------------------------------------------------------------- */

static brt_status open_split(brt_dataset **out, const char *path, const char *split)
{
    brt_dataset_options options = options_of(&path, 1);
    options.split = split;
    return brt_dataset_open(out, &options);
}

static void mark(FILE *file, long offset, int byte)
{
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fputc(byte, file), byte);
}

static void enwik8_has_its_customary_parts(void **state)
{
    (void)state;
    static const struct {
        const char *split;
        uint64_t tokens;
        int32_t first, last;
    } parts[] = {{"enwik8:train", 90000000, 1, 2}, {"enwik8:val", 5000000, 3, 4}, {"enwik8:test", 5000000, 5, 6}};
    FILE *file = fopen("enwik8", "wb");
    mark(file, 0, 1), mark(file, 89999999, 2), mark(file, 90000000, 3);
    mark(file, 94999999, 4), mark(file, 95000000, 5), mark(file, 99999999, 6);
    fclose(file);
    for (size_t i = 0; i < 3; i++) {
        brt_dataset *dataset;
        int32_t token;
        assert_ok(open_split(&dataset, "enwik8", parts[i].split));
        assert_int_equal(brt_dataset_tokens(dataset), parts[i].tokens);
        assert_int_equal(brt_dataset_document_tokens(dataset, 0), parts[i].tokens);
        assert_ok(brt_dataset_read(dataset, 0, 0, 1, &token));
        assert_int_equal(token, parts[i].first);
        assert_ok(brt_dataset_read(dataset, 0, parts[i].tokens - 1, 1, &token));
        assert_int_equal(token, parts[i].last);
        brt_dataset_close(dataset);
    }
    brt_dataset *other;
    make_tree();
    expect_failure(open_split(&other, "tree/c.txt", "enwik8:val"), BRT_ERROR_DATA, "tree/c.txt has 3 tokens of 1");
    expect_failure(open_split(&other, "tree", "enwik8:val"), BRT_ERROR_DATA, "the data set has 5 that are not empty");
    assert_null(other);
}

/* A data set of one document per size, of bytes 0, 1, 2, ... */
static brt_dataset *make_documents(const size_t *sizes, size_t count)
{
    brt_dataset *dataset;
    char name[64], directory[] = "documents-XXXXXX";
    unsigned char bytes[2000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    assert_non_null(mkdtemp(directory));
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%zu", directory, i);
        assert_ok(brt_file_replace(name, bytes, sizes[i]));
    }
    assert_ok(open_one(&dataset, directory, NULL, 0));
    return dataset;
}

static void expect_split(const size_t *sizes, size_t count, double fraction, size_t kept, size_t split)
{
    brt_dataset *dataset = make_documents(sizes, count), *tail;
    uint64_t all = brt_dataset_tokens(dataset), sum = 0;
    assert_ok(brt_dataset_split_tail(dataset, fraction, &tail));
    assert_int_equal(brt_dataset_documents(dataset), kept);
    assert_int_equal(brt_dataset_documents(tail), split);
    assert_int_equal(brt_dataset_tokens(dataset) + brt_dataset_tokens(tail), all);
    for (size_t i = 0; i < split; i++) {
        assert_int_equal(brt_dataset_document_tokens(tail, i), sizes[kept + i]);
        sum += sizes[kept + i];
    }
    assert_int_equal(brt_dataset_tokens(tail), sum);
    brt_dataset_close(dataset);
    brt_dataset_close(tail);
}

static void whole_documents_are_split_off(void **state)
{
    (void)state;
    expect_split((size_t[]){10, 10, 10, 10, 10, 10, 10, 10, 10, 10}, 10, 0.1, 9, 1);
    expect_split((size_t[]){10, 10, 10, 10, 10, 10, 10, 10, 10, 10}, 10, 0.3, 7, 3);
    expect_split((size_t[]){10, 10}, 2, 0.001, 1, 1);
    expect_split((size_t[]){10, 10}, 2, 0.999, 1, 1);
    expect_split((size_t[]){10, 10, 100}, 3, 0.1, 2, 1);
    expect_split((size_t[]){100, 100, 1, 1}, 4, 0.1, 2, 2);
    expect_split((size_t[]){100, 20, 1}, 3, 0.15, 1, 2);
}

static void the_end_of_an_only_document_is_split_off(void **state)
{
    (void)state;
    brt_dataset *dataset = make_documents((size_t[]){200}, 1), *tail;
    assert_ok(brt_dataset_split_tail(dataset, 0.25, &tail));
    assert_int_equal(brt_dataset_tokens(dataset), 150);
    assert_int_equal(brt_dataset_tokens(tail), 50);
    assert_string_equal(brt_dataset_document_name(tail, 0), brt_dataset_document_name(dataset, 0));
    brt_dataset_close(dataset); /* what they share stays */
    int32_t tokens[50];
    assert_ok(brt_dataset_read(tail, 0, 0, 50, tokens));
    for (int i = 0; i < 50; i++)
        assert_int_equal(tokens[i], 150 + i);
    brt_dataset *rest;
    assert_ok(brt_dataset_split_tail(tail, 0.0001, &rest));
    assert_int_equal(brt_dataset_tokens(rest), 2);
    assert_int_equal(brt_dataset_tokens(tail), 48);
    brt_dataset_close(tail);
    assert_ok(brt_dataset_read(rest, 0, 0, 2, tokens));
    assert_int_equal(tokens[1], 199);
    brt_dataset_close(rest);
}

static void impossible_splits_are_refused(void **state)
{
    (void)state;
    brt_dataset *dataset = make_documents((size_t[]){3}, 1), *tail;
    expect_failure(brt_dataset_split_tail(dataset, 0.5, &tail), BRT_ERROR_DATA, "has 3 tokens");
    assert_null(tail);
    assert_int_equal(brt_dataset_tokens(dataset), 3);
    static const double wrong[] = {0, 1, -0.5, 2, (double)NAN};
    for (size_t i = 0; i < 5; i++)
        expect_failure(brt_dataset_split_tail(dataset, wrong[i], &tail), BRT_ERROR_ARGUMENT, "between 0 and 1");
    brt_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_name_files_in_a_fixed_order),
        cmocka_unit_test(several_paths_follow_each_other),
        cmocka_unit_test(links_are_followed_to_files_only),
        cmocka_unit_test(naming_nothing_is_an_error),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(bytes_are_tokens),
        cmocka_unit_test(a_mapped_file_reads_like_a_small_one),
        cmocka_unit_test(numbers_are_tokens),
        cmocka_unit_test(odd_sizes_are_refused),
        cmocka_unit_test(headers_of_llmc_are_skipped),
        cmocka_unit_test(tokens_beyond_the_vocabulary_are_located),
        cmocka_unit_test(compressed_files_are_expanded),
        cmocka_unit_test(compressed_tokens_are_found),
        cmocka_unit_test(large_files_are_expanded_whole),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(expansion_is_limited),
        cmocka_unit_test(enwik8_has_its_customary_parts),
        cmocka_unit_test(whole_documents_are_split_off),
        cmocka_unit_test(the_end_of_an_only_document_is_split_off),
        cmocka_unit_test(impossible_splits_are_refused),
    };
    return cmocka_run_group_tests_name("dataset", tests, enter_scratch, leave_scratch);
}
