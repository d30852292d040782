#define _GNU_SOURCE
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { longest_sentence = 3 * 4096 }; /* as the library's */

static char own_sentence[longest_sentence];

brt_status cli_fail(brt_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(own_sentence, sizeof own_sentence, format, arguments);
    va_end(arguments);
    return status;
}

brt_status cli_out_of_memory(const char *what)
{
    return cli_fail(BRT_ERROR_MEMORY, "out of memory for %s", what);
}

int cli_exit_status(brt_status status)
{
    if (status == BRT_OK)
        return CLI_OK;
    cli_say("%s", own_sentence[0] ? own_sentence : brt_last_error());
    return status == BRT_INTERRUPTED ? CLI_INTERRUPTED : CLI_FAILED;
}

void cli_print_line(const char *prefix, const char *format, va_list arguments)
{
    char text[longest_sentence];
    vsnprintf(text, sizeof text, format, arguments);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "%s%s\n", prefix, text);
}

void cli_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    cli_print_line("brt: ", format, arguments);
    va_end(arguments);
}

brt_status cli_open_file(const char *path, FILE **out)
{
    struct stat info;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe is not waited for */
    if (descriptor < 0)
        return cli_fail(BRT_ERROR_IO, "cannot open %s: %s", path, strerror(errno));
    brt_status status = BRT_OK;
    if (fstat(descriptor, &info) != 0)
        status = cli_fail(BRT_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = cli_fail(BRT_ERROR_IO, "%s is a %s; a regular file was expected", path,
                          S_ISDIR(info.st_mode) ? "directory" : "device, pipe or socket");
    else if (!(*out = fdopen(descriptor, "r")))
        status = cli_out_of_memory("reading a file");
    if (status != BRT_OK)
        close(descriptor);
    return status;
}

brt_status cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return BRT_OK;
    return cli_fail(BRT_ERROR_IO, "cannot write to standard output: %s", strerror(errno));
}

json_t *cli_text_json(const char *text)
{
    json_t *string = json_string(text);
    char *copy = string ? NULL : strdup(text);
    for (char *c = copy; c && *c; c++)
        *c = (unsigned char)*c < 0x80 ? *c : '?';
    if (copy)
        string = json_string(copy);
    free(copy);
    return string;
}

brt_status cli_print_json(json_t *object)
{
    if (!object)
        return cli_out_of_memory("the result");
    bool printed = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) == 0 && putchar('\n') != EOF;
    json_decref(object);
    return printed ? cli_flush() : cli_fail(BRT_ERROR_IO, "cannot write to standard output: %s", strerror(errno));
}

static char *next_buffer(void)
{
    static char buffers[4][32];
    static size_t turn;
    turn = (turn + 1) % 4;
    return buffers[turn];
}

/* Three significant digits and a prefix. */
static const char *scaled(double value, const char *unit)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    size_t prefix = 0;
    for (; value >= 999.5 && prefix + 1 < sizeof prefixes / sizeof prefixes[0]; prefix++)
        value /= 1000;
    int digits = prefix == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    char *text = next_buffer();
    snprintf(text, 32, "%.*f%s%s%s", digits, value, prefix || unit[0] ? " " : "", prefixes[prefix], unit);
    return text;
}

const char *cli_bytes(uint64_t bytes)
{
    return scaled((double)bytes, "B");
}

const char *cli_count(double count)
{
    return scaled(count, "");
}

const char *cli_duration(double seconds)
{
    unsigned long long whole = seconds > 0 && seconds < 1e12 ? (unsigned long long)(seconds + 0.5) : 0;
    char *text = next_buffer();
    if (whole >= 3600)
        snprintf(text, 32, "%llu:%02llu:%02llu", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(text, 32, "%llu:%02llu", whole / 60, whole % 60);
    return text;
}

double cli_bits(double nats)
{
    return nats / log(2);
}

double cli_seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}
