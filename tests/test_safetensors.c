/* The safetensors format: every rule is enforced, what is written reads back, numbers of every type convert. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/file.h"
#include "ckpt/safetensors.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

/* ---- hostile files ---------------------------------------------------------------------------------------- */

/* A file of the given header and that many bytes of data, to be freed. */
static unsigned char *make_file(const char *header, size_t data_size, size_t *size)
{
    uint64_t length = strlen(header);
    *size = sizeof length + length + data_size;
    unsigned char *file = calloc(*size, 1);
    memcpy(file, &length, sizeof length);
    memcpy(file + sizeof length, header, length);
    return file;
}

static brt_status parse(brt_safetensors **out, const char *header, size_t data_size, unsigned char **file)
{
    size_t size;
    *file = make_file(header, data_size, &size);
    return brt_safetensors_parse(out, *file, size, "file");
}

#define ONE(dtype, shape, offsets) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                                             \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" first "},"                             \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" second "}}"

static void malformed_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_size;
        brt_status status;
        const char *part;
    } cases[] = {
        {"", 0, BRT_ERROR_FORMAT, "does not begin with \"{\""},
        {" {}", 0, BRT_ERROR_FORMAT, "does not begin with \"{\""},
        {"[]", 0, BRT_ERROR_FORMAT, "does not begin with \"{\""},
        {"{", 0, BRT_ERROR_FORMAT, "in the header of file:1:"},
        {"{}x", 0, BRT_ERROR_FORMAT, "end of file expected"},
        {"{}", 1, BRT_ERROR_FORMAT, "1 bytes of data, of which its tensors cover 0"},
        {"{\"a\":1}", 0, BRT_ERROR_FORMAT, "\"a\" has no \"dtype\""},
        {"{\"a\":{}}", 0, BRT_ERROR_FORMAT, "\"a\" has no \"dtype\""},
        {"{\"a\":{\"dtype\":\"F32\"}}", 0, BRT_ERROR_FORMAT, "no list \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, BRT_ERROR_FORMAT, "no \"data_offsets\""},
        {ONE("3", "[1]", "[0,4]"), 4, BRT_ERROR_FORMAT, "no \"dtype\""},
        {ONE("\"F33\"", "[1]", "[0,4]"), 4, BRT_ERROR_UNSUPPORTED, "unknown dtype \"F33\""},
        {ONE("\"f32\"", "[1]", "[0,4]"), 4, BRT_ERROR_UNSUPPORTED, "unknown dtype \"f32\""},
        {ONE("\"F32\"", "1", "[0,4]"), 4, BRT_ERROR_FORMAT, "no list \"shape\""},
        {ONE("\"F32\"", "[-1]", "[0,4]"), 4, BRT_ERROR_FORMAT, "entry 0 is no size"},
        {ONE("\"F32\"", "[1,1.0]", "[0,4]"), 4, BRT_ERROR_FORMAT, "entry 1 is no size"},
        {ONE("\"F32\"", "[\"1\"]", "[0,4]"), 4, BRT_ERROR_FORMAT, "entry 0 is no size"},
        {ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, BRT_ERROR_UNSUPPORTED, "9 dimensions"},
        {ONE("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, BRT_ERROR_FORMAT, "overflows"},
        {ONE("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, BRT_ERROR_FORMAT, "overflows"},
        {ONE("\"F32\"", "[9223372036854775807,3]", "[0,4]"), 4, BRT_ERROR_FORMAT, "overflows"},
        {ONE("\"F32\"", "[18446744073709551616]", "[0,0]"), 0, BRT_ERROR_FORMAT, "too big"},
        {ONE("\"F32\"", "[1]", "[0,3]"), 4, BRT_ERROR_FORMAT, "4 bytes by shape and dtype, but 3"},
        {ONE("\"F32\"", "[1]", "[0,5]"), 5, BRT_ERROR_FORMAT, "4 bytes by shape and dtype, but 5"},
        {ONE("\"F32\"", "[2]", "[0,4]"), 4, BRT_ERROR_FORMAT, "8 bytes by shape and dtype, but 4"},
        {ONE("\"F32\"", "[1]", "[0]"), 4, BRT_ERROR_FORMAT, "no \"data_offsets\""},
        {ONE("\"F32\"", "[1]", "[0,4,4]"), 4, BRT_ERROR_FORMAT, "no \"data_offsets\""},
        {ONE("\"F32\"", "[1]", "{}"), 4, BRT_ERROR_FORMAT, "no \"data_offsets\""},
        {ONE("\"F32\"", "[1]", "[-4,0]"), 4, BRT_ERROR_FORMAT, "no \"data_offsets\""},
        {ONE("\"F32\"", "[1]", "[0,4.0]"), 4, BRT_ERROR_FORMAT, "no \"data_offsets\""},
        {ONE("\"F32\"", "[1]", "[4,0]"), 4, BRT_ERROR_FORMAT, "outside the 4 bytes of data"},
        {ONE("\"F32\"", "[1]", "[0,4]"), 3, BRT_ERROR_FORMAT, "outside the 3 bytes of data"},
        {ONE("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, BRT_ERROR_FORMAT, "outside the 4"},
        {ONE("\"F32\"", "[1]", "[1,5]"), 5, BRT_ERROR_FORMAT, "begins at byte 1 of the data; 0 was expected"},
        {ONE("\"F32\"", "[1]", "[0,4]"), 5, BRT_ERROR_FORMAT, "5 bytes of data, of which its tensors cover 4"},
        {TWO("[0,4]", "[0,4]"), 4, BRT_ERROR_FORMAT, "begins at byte 0 of the data; 4 was expected"},
        {TWO("[0,4]", "[2,6]"), 6, BRT_ERROR_FORMAT, "begins at byte 2 of the data; 4 was expected"},
        {TWO("[0,4]", "[5,9]"), 9, BRT_ERROR_FORMAT, "begins at byte 5 of the data; 4 was expected"},
        {TWO("[4,8]", "[0,4]"), 9, BRT_ERROR_FORMAT, "9 bytes of data, of which its tensors cover 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0, BRT_ERROR_FORMAT, "duplicate object key"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, BRT_ERROR_FORMAT,
         "duplicate object key"},
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, BRT_ERROR_FORMAT, "file:1:"},
        {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, BRT_ERROR_FORMAT, "0xff"},
        {"{\"__metadata__\":[]}", 0, BRT_ERROR_FORMAT, "\"__metadata__\" is not an object"},
        {"{\"__metadata__\":{\"format\":1}}", 0, BRT_ERROR_FORMAT, "\"format\" in \"__metadata__\" is not a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_safetensors *file;
        unsigned char *bytes;
        brt_status status = parse(&file, cases[i].header, cases[i].data_size, &bytes);
        if (status == BRT_OK)
            fail_msg("accepted: %s", cases[i].header);
        expect_failure(status, cases[i].status, cases[i].part);
        assert_null(file);
        free(bytes);
    }
}

static void impossible_header_lengths_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        const char *part;
    } cases[] = {
        {9, "cut short: its header has 9 bytes, of which 8 are there"},
        {100000000, "cut short: its header has 100000000 bytes"},
        {100000001, "its header would have 100000001 bytes"},
        {UINT64_MAX, "its header would have 18446744073709551615 bytes"},
        {UINT64_MAX - 7, "its header would have"},
    };
    brt_safetensors *file;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char bytes[16] = "........{}      ";
        memcpy(bytes, &cases[i].length, sizeof cases[i].length);
        expect_failure(brt_safetensors_parse(&file, bytes, sizeof bytes, "file"), BRT_ERROR_FORMAT, cases[i].part);
    }
    for (size_t size = 0; size < 8; size++)
        expect_failure(brt_safetensors_parse(&file, "\0\0\0\0\0\0\0", size, "file"), BRT_ERROR_FORMAT,
                       "begins with 8 bytes of header length");
}

static void a_long_name_does_not_hide_the_reason(void **state)
{
    (void)state;
    char header[3000] = "{\"";
    memset(header + 2, 'n', 2000);
    strcat(header, "\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,0]}}");
    brt_safetensors *file;
    unsigned char *bytes;
    expect_failure(parse(&file, header, 0, &bytes), BRT_ERROR_FORMAT, "entry 0 is no size");
    free(bytes);
}

/* Every prefix of a good file and every changed byte of its header: read or refused, never more. */
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    size_t size;
    unsigned char *good = make_file(TWO("[0,4]", "[4,8]"), 8, &size);
    for (size_t length = 0; length <= size; length++) {
        brt_safetensors *file;
        unsigned char *part = malloc(length + 1);
        memcpy(part, good, length);
        brt_status status = brt_safetensors_parse(&file, part, length, "file");
        assert_int_equal(status == BRT_OK, length == size);
        brt_safetensors_close(file);
        free(part);
    }
    for (size_t i = 0; i < size - 8; i++)
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            brt_safetensors *file;
            good[i] ^= (unsigned char)flip;
            if (brt_safetensors_parse(&file, good, size, "file") == BRT_OK)
                brt_safetensors_close(file);
            good[i] ^= (unsigned char)flip;
        }
    free(good);
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static void tensors_are_found_in_any_order_of_the_header(void **state)
{
    (void)state;
    brt_safetensors *file;
    unsigned char *bytes;
    brt_tensor_info info;
    assert_ok(parse(&file,
                    "{\"z\":{\"dtype\":\"I16\",\"shape\":[2,1],\"data_offsets\":[5,9],\"more\":null},"
                    "\"none\":{\"dtype\":\"F64\",\"shape\":[3,0],\"data_offsets\":[5,5]},"
                    "\"__metadata__\":{\"format\":\"pt\"},"
                    "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[1,5]},"
                    "\"\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}   \n",
                    9, &bytes));
    assert_int_equal(brt_safetensors_count(file), 4);
    assert_string_equal(brt_safetensors_path(file), "file");
    assert_string_equal(brt_safetensors_metadata(file, "format"), "pt");
    assert_null(brt_safetensors_metadata(file, "absent"));
    static const char *const order[] = {"", "scalar", "none", "z"};
    for (size_t i = 0; i < 4; i++) {
        brt_safetensors_at(file, i, &info);
        assert_string_equal(info.name, order[i]);
        brt_tensor_info found;
        assert_true(brt_safetensors_find(file, order[i], &found));
        assert_ptr_equal(found.data, info.data);
    }
    assert_string_equal(info.dtype, "I16");
    assert_int_equal(info.dims, 2);
    assert_int_equal(info.shape[0], 2);
    assert_int_equal(info.count, 2);
    assert_false(brt_safetensors_find(file, "__metadata__", &info));
    assert_false(brt_safetensors_find(file, "y", &info));
    assert_true(brt_safetensors_find(file, "scalar", &info));
    assert_int_equal(info.dims, 0);
    assert_int_equal(info.count, 1);
    brt_safetensors_close(file);
    free(bytes);
}

static void files_of_the_reference_are_read(void **state)
{
    (void)state;
    brt_safetensors *file;
    brt_tensor_info info;
    assert_ok(brt_safetensors_open(&file, fixture_path("five_calls", "model.safetensors")));
    assert_string_equal(brt_safetensors_metadata(file, "format"), "pt");
    assert_true(brt_safetensors_find(file, "layers.0.0.norm.gamma", &info));
    assert_string_equal(info.dtype, "F32");
    assert_int_equal(info.dims, 1);
    assert_int_equal(info.shape[0], 16);
    brt_safetensors_close(file);
    brt_safetensors_close(NULL);
    expect_failure(brt_safetensors_open(&file, "absent.safetensors"), BRT_ERROR_IO, "absent.safetensors: No such file");
    assert_ok(brt_file_replace("empty.safetensors", NULL, 0));
    expect_failure(brt_safetensors_open(&file, "empty.safetensors"), BRT_ERROR_FORMAT, "empty.safetensors has 0 bytes");
}

/* ---- conversion ------------------------------------------------------------------------------------------- */

static float convert(const char *dtype, const void *value, size_t size)
{
    unsigned char unaligned[9];
    memcpy(unaligned + 1, value, size);
    brt_tensor_info info = {.name = "x", .dtype = dtype, .count = 1, .data = unaligned + 1};
    float out;
    brt_safetensors_to_float(&info, &out);
    return out;
}

/* The value by the definition of the formats. */
static double decode(unsigned bits, int exponent_bits, int fraction_bits, bool has_infinities)
{
    int exponent_mask = (1 << exponent_bits) - 1, fraction_mask = (1 << fraction_bits) - 1;
    int exponent = (int)bits >> fraction_bits & exponent_mask, fraction = (int)bits & fraction_mask;
    int bias = exponent_mask / 2;
    double sign = bits >> (exponent_bits + fraction_bits) & 1 ? -1 : 1;
    if (exponent == exponent_mask && has_infinities)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == exponent_mask && fraction == fraction_mask)
        return (double)NAN;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(fraction + fraction_mask + 1, exponent - bias - fraction_bits);
}

static void expect_exactly(const char *dtype, unsigned bits, float value, double expected)
{
    bool same = isnan(expected) ? isnan(value) : (double)value == expected && !signbit(value) == !signbit(expected);
    if (!same)
        fail_msg("%s 0x%04x is %g, not %g", dtype, bits, (double)value, expected);
}

static void small_floats_convert_exactly(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        expect_exactly("F16", bits, convert("F16", &half, 2), decode(bits, 5, 10, true));
        expect_exactly("BF16", bits, convert("BF16", &half, 2), decode(bits, 8, 7, true));
    }
    for (unsigned bits = 0; bits < 256; bits++) {
        uint8_t byte = (uint8_t)bits;
        expect_exactly("F8_E5M2", bits, convert("F8_E5M2", &byte, 1), decode(bits, 5, 2, true));
        expect_exactly("F8_E4M3", bits, convert("F8_E4M3", &byte, 1), decode(bits, 4, 3, false));
    }
}

static void other_numbers_convert(void **state)
{
    (void)state;
    assert_true(convert("F32", &(float){-0.1f}, 4) == -0.1f);
    assert_true(convert("F64", &(double){0.1}, 8) == 0.1f);
    assert_true(isinf(convert("F64", &(double){1e300}, 8)));
    assert_true(convert("I64", &(int64_t){INT64_MIN}, 8) == -0x1p63f);
    assert_true(convert("U64", &(uint64_t){UINT64_MAX}, 8) == 0x1p64f);
    assert_true(convert("I32", &(int32_t){-16777217}, 4) == -16777216.0f);
    assert_true(convert("U32", &(uint32_t){UINT32_MAX}, 4) == 0x1p32f);
    assert_true(convert("I16", &(int16_t){-32768}, 2) == -32768.0f);
    assert_true(convert("U16", &(uint16_t){65535}, 2) == 65535.0f);
    assert_true(convert("I8", &(int8_t){-128}, 1) == -128.0f);
    assert_true(convert("U8", &(uint8_t){255}, 1) == 255.0f);
    assert_true(convert("BOOL", &(uint8_t){1}, 1) == 1.0f);
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static const float weights[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t steps = 7;
    static const uint8_t flags[3] = {1, 0, 1};
    const brt_tensor_source tensors[] = {
        {"layers.0.weight", "F32", 2, {2, 3}, weights, false}, {"flags", "BOOL", 1, {3}, flags, false},
        {"step", "I64", 0, {0}, &steps, false},                {"nothing", "BF16", 2, {0, 5}, NULL, false},
        {"caf\xc3\xa9 \"quoted\"\n", "U8", 1, {3}, flags, false},
    };
    const char *const metadata[] = {"format", "pt", "note", "two\nlines", NULL};
    assert_ok(brt_safetensors_write("written", tensors, 5, metadata));
    brt_safetensors *file;
    assert_ok(brt_safetensors_open(&file, "written"));
    assert_int_equal(brt_safetensors_count(file), 5);
    assert_string_equal(brt_safetensors_metadata(file, "note"), "two\nlines");
    for (size_t i = 0; i < 5; i++) {
        brt_tensor_info info;
        assert_true(brt_safetensors_find(file, tensors[i].name, &info));
        assert_string_equal(info.dtype, tensors[i].dtype);
        assert_int_equal(info.dims, tensors[i].dims);
        assert_memory_equal(info.shape, tensors[i].shape, tensors[i].dims * sizeof(size_t));
        size_t bytes[] = {24, 3, 8, 0, 3};
        if (bytes[i])
            assert_memory_equal(info.data, tensors[i].data, bytes[i]);
    }
    brt_safetensors_close(file);
}

/* [19, 5] from [5, 19]: more rows than are turned at a time. */
static void a_transpose_is_written_as_such(void **state)
{
    (void)state;
    enum { rows = 19, columns = 5 };
    float data[columns * rows];
    for (size_t i = 0; i < columns * rows; i++)
        data[i] = (float)i;
    const brt_tensor_source tensor = {"kernel", "F32", 2, {rows, columns}, data, true};
    assert_ok(brt_safetensors_write("written", &tensor, 1, NULL));
    brt_safetensors *file;
    brt_tensor_info info;
    float found[rows * columns];
    assert_ok(brt_safetensors_open(&file, "written"));
    assert_true(brt_safetensors_find(file, "kernel", &info));
    brt_safetensors_to_float(&info, found);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            assert_true(found[r * columns + c] == data[c * rows + r]);
    brt_safetensors_close(file);
}

static void data_begins_at_64_bytes_for_any_header(void **state)
{
    (void)state;
    static const uint8_t byte = 42;
    for (int length = 1; length <= 130; length++) {
        char name[131] = {0};
        memset(name, 'n', (size_t)length);
        const brt_tensor_source tensor = {name, "U8", 1, {1}, &byte, false};
        assert_ok(brt_safetensors_write("aligned", &tensor, 1, NULL));
        brt_mapping file;
        uint64_t header;
        assert_ok(brt_file_map(&file, "aligned"));
        memcpy(&header, file.data, sizeof header);
        assert_int_equal((8 + header) % 64, 0);
        assert_int_equal(file.size, 8 + header + 1);
        assert_int_equal(file.data[8], '{');
        assert_non_null(memchr(file.data + 8 + header - 64, '}', 64)); /* no more padding than needed */
        assert_int_equal(file.data[8 + header], 42);
        brt_file_unmap(&file);
    }
}

static void nothing_at_all_can_be_written(void **state)
{
    (void)state;
    brt_safetensors *file;
    assert_ok(brt_safetensors_write("none", NULL, 0, NULL));
    assert_ok(brt_safetensors_open(&file, "none"));
    assert_int_equal(brt_safetensors_count(file), 0);
    brt_safetensors_close(file);
}

static size_t entries_here(void)
{
    size_t count = 0;
    DIR *stream = opendir(".");
    while (readdir(stream))
        count++;
    closedir(stream);
    return count;
}

static void what_the_reader_would_refuse_is_not_written(void **state)
{
    (void)state;
    static const float data[2] = {0};
    static const struct {
        brt_tensor_source tensors[2];
        const char *part;
    } cases[] = {
        {{{"a", "F32", 1, {1}, data, false}, {"a", "F32", 1, {1}, data, false}}, "the name is taken"},
        {{{"a", "F32", 1, {1}, data, false}, {"__metadata__", "F32", 1, {1}, data, false}}, "the name is taken"},
        {{{"a", "F32", 1, {1}, data, false}, {"b", "real", 1, {1}, data, false}}, "its dtype \"real\" is unknown"},
        {{{"a", "F32", 1, {1}, data, false}, {"b", "F32", 9, {1}, data, false}}, "it has 9 dimensions"},
        {{{"a", "F32", 1, {1}, data, false}, {"b", "F32", 2, {SIZE_MAX, 2}, data, false}}, "its size overflows"},
        {{{"a", "F32", 1, {1}, data, false}, {"b", "U8", 1, {SIZE_MAX - 1}, data, false}}, "the file's size overflows"},
        {{{"a", "F32", 1, {1}, data, false}, {"\xff", "F32", 1, {1}, data, false}}, "its name is not UTF-8"},
    };
    size_t before = entries_here();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_failure(brt_safetensors_write("bad", cases[i].tensors, 2, NULL), BRT_ERROR_ARGUMENT, cases[i].part);
    const char *const metadata[] = {"note", "\xff", NULL};
    expect_failure(brt_safetensors_write("bad", NULL, 0, metadata), BRT_ERROR_ARGUMENT, "\"note\" or its value");
    expect_failure(brt_safetensors_write("nowhere/file", NULL, 0, NULL), BRT_ERROR_IO, "nowhere/file");
    assert_int_equal(entries_here(), before);
}

/* A limit on the size of files stands for a full disk. */
static void a_full_disk_leaves_the_old_tensors(void **state)
{
    (void)state;
    static const unsigned char data[4000] = {0};
    const brt_tensor_source small = {"a", "U8", 1, {1}, data, false};
    const brt_tensor_source large = {"a", "U8", 1, {sizeof data}, data, false};
    struct rlimit before, limit = {.rlim_cur = 1000};
    brt_safetensors *file;
    assert_ok(brt_safetensors_write("full", &small, 1, NULL));
    size_t entries = entries_here();
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    brt_status status = brt_safetensors_write("full", &large, 1, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    expect_failure(status, BRT_ERROR_IO, "cannot write full: writing after 1000 bytes");
    assert_int_equal(entries_here(), entries);
    assert_ok(brt_safetensors_open(&file, "full"));
    brt_safetensors_close(file);
}

/* ---- the public view -------------------------------------------------------------------------------------- */

static void a_set_is_collected_saved_and_opened(void **state)
{
    (void)state;
    brt_tensors *set, *opened;
    brt_tensor_info info;
    float data[6] = {1, 2, 3, 4, 5, 6};
    size_t shape[2] = {2, 3};
    char name[32];
    assert_ok(brt_tensors_create(&set));
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "tensor.%d", i);
        assert_ok(brt_tensors_add(set, name, 2, shape, data));
        data[0] += 1;
    }
    assert_ok(brt_tensors_add(set, "scalar", 0, NULL, data));
    expect_failure(brt_tensors_add(set, "tensor.3", 2, shape, data), BRT_ERROR_ARGUMENT, "already has");
    expect_failure(brt_tensors_add(set, "b", 9, shape, data), BRT_ERROR_ARGUMENT, "9 dimensions");
    expect_failure(brt_tensors_add(set, "b", 2, (size_t[]){SIZE_MAX, 2}, data), BRT_ERROR_ARGUMENT, "overflows");
    assert_int_equal(brt_tensors_count(set), 41);
    assert_ok(brt_tensors_find(set, "tensor.39", &info));
    assert_true(((const float *)info.data)[0] == 40.0f);
    assert_int_equal(info.count, 6);
    assert_ok(brt_tensors_at(set, 40, &info));
    assert_string_equal(info.name, "scalar");
    expect_failure(brt_tensors_find(set, "absent", &info), BRT_ERROR_MISMATCH, "the set has no tensor \"absent\"");
    assert_ok(brt_tensors_save(set, "set.safetensors"));
    brt_tensors_close(set);

    assert_ok(brt_tensors_open(&opened, "set.safetensors"));
    assert_int_equal(brt_tensors_count(opened), 41);
    assert_ok(brt_tensors_at(opened, 40, &info));
    assert_string_equal(info.name, "scalar");
    assert_int_equal(info.count, 1);
    assert_ok(brt_tensors_find(opened, "tensor.39", &info));
    assert_string_equal(info.dtype, "F32");
    assert_true(((const float *)info.data)[0] == 40.0f);
    expect_failure(brt_tensors_at(opened, 41, &info), BRT_ERROR_ARGUMENT, "no tensor 41");
    expect_failure(brt_tensors_find(opened, "absent", &info), BRT_ERROR_MISMATCH, "set.safetensors has no tensor");
    expect_failure(brt_tensors_add(opened, "b", 0, NULL, data), BRT_ERROR_ARGUMENT, "was opened for reading");
    expect_failure(brt_tensors_save(opened, "copy"), BRT_ERROR_ARGUMENT, "was opened for reading");
    brt_tensors_close(opened);
    brt_tensors_close(NULL);
    expect_failure(brt_tensors_open(&opened, "absent"), BRT_ERROR_IO, "absent");
    assert_null(opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(impossible_header_lengths_are_refused),
        cmocka_unit_test(a_long_name_does_not_hide_the_reason),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(tensors_are_found_in_any_order_of_the_header),
        cmocka_unit_test(files_of_the_reference_are_read),
        cmocka_unit_test(small_floats_convert_exactly),
        cmocka_unit_test(other_numbers_convert),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(a_transpose_is_written_as_such),
        cmocka_unit_test(data_begins_at_64_bytes_for_any_header),
        cmocka_unit_test(nothing_at_all_can_be_written),
        cmocka_unit_test(what_the_reader_would_refuse_is_not_written),
        cmocka_unit_test(a_full_disk_leaves_the_old_tensors),
        cmocka_unit_test(a_set_is_collected_saved_and_opened),
    };
    return cmocka_run_group_tests_name("safetensors", tests, enter_scratch, leave_scratch);
}
