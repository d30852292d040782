#include "status.h"

#include <stdarg.h>
#include <stdio.h>

enum { longest_sentence = 3 * 4096 }; /* with two of the longest paths what is wrong must still be told */

static _Thread_local char last_error[longest_sentence];

/* A file's name may hold any byte. What a terminal would take as a command is not to reach it. */
static void hide_control_characters(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

brt_status brt_fail(brt_status status, const char *format, ...)
{
    /* Formatted aside first: an argument may be the previous sentence itself. */
    char text[sizeof last_error];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    hide_control_characters(text);
    snprintf(last_error, sizeof last_error, "%s", text);
    return status;
}

const char *brt_last_error(void)
{
    return last_error;
}

static const struct {
    const char *name, *text;
} statuses[] = {
#define BRT_STATUS_ROW(name, text) {"BRT_" #name, text},
    BRT_STATUS_LIST(BRT_STATUS_ROW)
#undef BRT_STATUS_ROW
};

static bool is_status(brt_status status)
{
    return (size_t)status < sizeof statuses / sizeof statuses[0];
}

const char *brt_status_name(brt_status status)
{
    return is_status(status) ? statuses[status].name : "unknown status";
}

const char *brt_status_text(brt_status status)
{
    return is_status(status) ? statuses[status].text : "unknown status";
}

const char *brt_version(void)
{
    return BRT_VERSION;
}
