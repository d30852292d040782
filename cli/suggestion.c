/* The name a mistyped one was probably meant to be. */
#include "options.h"

#include <string.h>

enum { longest = 63 };

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Letters to insert, delete or replace to turn one name into the other (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
    size_t row[longest + 1], b_length = strlen(b);
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_length; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = smallest(replaced, row[j] + 1, diagonal + 1);
        }
    }
    return row[b_length];
}

const char *cli_nearest(const char *wrong, cli_name_at *name_at, const void *context)
{
    const char *name, *nearest = NULL;
    size_t length = strlen(wrong);
    size_t best = length / 3 + 2; /* a name must be closer than that to be worth a mention */
    if (length > longest)
        return NULL;
    for (size_t i = 0; (name = name_at(context, i)) != NULL; i++) {
        size_t d = strlen(name) <= longest ? distance(wrong, name) : best;
        if (d < best) {
            best = d;
            nearest = name;
        }
    }
    return nearest;
}
