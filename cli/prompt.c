#define _GNU_SOURCE
#include "prompt.h"

#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { most_bytes = 1 << 28 }; /* a prompt without an end (/dev/zero) must not take all memory */

/* All of a stream, with a 0 after it. */
static brt_status read_stream(FILE *from, const char *name, char **out, size_t *length)
{
    size_t room = 4096;
    char *text = malloc(room);
    *length = 0;
    while (text) {
        *length += fread(text + *length, 1, room - *length - 1, from);
        if (*length < room - 1)
            break;
        if (*length > most_bytes) {
            free(text);
            return cli_fail(BRT_ERROR_DATA, "%s is too long for a prompt: it has more than %d bytes", name, most_bytes);
        }
        char *grown = realloc(text, room *= 2);
        if (!grown)
            free(text);
        text = grown;
    }
    if (!text)
        return cli_out_of_memory("the prompt");
    text[*length] = '\0';
    *out = text;
    return ferror(from) ? cli_fail(BRT_ERROR_IO, "cannot read %s: %s", name, strerror(errno)) : BRT_OK;
}

static brt_status read_file(const char *name, char **out, size_t *length)
{
    if (strcmp(name, "-") == 0)
        return read_stream(stdin, "standard input", out, length);
    FILE *file = fopen(name, "re");
    if (!file)
        return cli_fail(BRT_ERROR_IO, "cannot open %s: %s", name, strerror(errno));
    brt_status status = read_stream(file, name, out, length);
    fclose(file);
    return status;
}

static void take_bytes(prompt *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out->tokens[i] = (unsigned char)text[i];
    out->count = length;
}

static brt_status take_numbers(prompt *out, const char *text, size_t length, int64_t num_tokens)
{
    static const char space[] = " \t\r\n,";
    if (strlen(text) < length)
        return cli_fail(BRT_ERROR_DATA, "the prompt has a byte 0 at offset %zu; the numbers of tokens were expected",
                        strlen(text));
    for (text += strspn(text, space); *text; text += strspn(text, space)) {
        char *end;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (end == text || errno != 0 || value < 0 || value >= num_tokens)
            return cli_fail(BRT_ERROR_DATA,
                            "the prompt has '%.*s' where the number of a token is expected: the model has %lld tokens "
                            "and no bytes",
                            (int)strcspn(text, space), text, (long long)num_tokens);
        out->tokens[out->count++] = (int32_t)value;
        text = end;
    }
    return BRT_OK;
}

brt_status prompt_read(prompt *out, const char *text, const char *file, int64_t num_tokens)
{
    char *content = NULL;
    size_t length = text ? strlen(text) : 0;
    brt_status status = BRT_OK;
    *out = (prompt){0};
    if (file)
        status = read_file(file, &content, &length);
    if (status == BRT_OK) {
        /* Not more tokens than bytes, in either form. */
        out->tokens = calloc(length + 1, sizeof *out->tokens);
        const char *source = file ? content : text ? text : "";
        if (!out->tokens)
            status = cli_out_of_memory("the prompt");
        else if (num_tokens == 256)
            take_bytes(out, source, length);
        else
            status = take_numbers(out, source, length, num_tokens);
    }
    free(content);
    return status;
}

void prompt_close(prompt *p)
{
    free(p->tokens);
}
