/* What the program says: results on stdout, everything else on stderr. */
#ifndef BRT_CLI_OUTPUT_H
#define BRT_CLI_OUTPUT_H

#include <brt/brt.h>

#include <jansson.h>

#include <stdarg.h>
#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

#define CLI_TRY(expression)                                                                            \
    do {                                                                                               \
        brt_status cli_try_status_ = (expression);                                                     \
        if (cli_try_status_ != BRT_OK)                                                                 \
            return cli_try_status_;                                                                    \
    } while (0)

/* A failure found by the program itself: keeps the sentence for cli_exit_status. */
brt_status cli_fail(brt_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
brt_status cli_out_of_memory(const char *what);
/* Prints the sentence of a failed call and returns the program's exit status for it. */
int cli_exit_status(brt_status status);
/* A line on stderr. Control characters, which a file's name may have, are shown as "?". */
void cli_print_line(const char *prefix, const char *format, va_list arguments);
/* "brt: ..." on stderr. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Opens a regular file for reading; anything else, which one could wait for without an end, is refused. */
brt_status cli_open_file(const char *path, FILE **out);

/* A string for JSON, which is UTF-8: "?" stands for each byte of a file's name that is not. */
json_t *cli_text_json(const char *text);
/* Prints an object that json_pack made, indented, and releases it. */
brt_status cli_print_json(json_t *object);
/* Everything printed reached stdout; a full disk is an error. */
brt_status cli_flush(void);

/* "12.3 MB", "4.56 M": in a static buffer, valid for the next three calls. */
const char *cli_bytes(uint64_t bytes);
const char *cli_count(double count);
/* "1:02:03" or "4:05". */
const char *cli_duration(double seconds);

/* Nats per token as bits. */
double cli_bits(double nats);
double cli_seconds_now(void);

#endif
