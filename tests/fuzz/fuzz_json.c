/* Any bytes as JSON: refused with a sentence, or an object that prints and parses again to the same. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static void read_members(const json_t *object)
{
    const char *key;
    json_t *value;
    int64_t integer;
    double number;
    json_object_foreach((json_t *)object, key, value)
    {
        if ((brt_json_get_integer(object, key, "input", &integer) == BRT_OK) != json_is_integer(value))
            abort();
        if ((brt_json_get_number(object, key, "input", &number) == BRT_OK) != json_is_number(value))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *object, *again;
    if (brt_json_parse(&object, (const char *)data, size, "input") != BRT_OK) {
        if (!brt_last_error()[0])
            abort();
        return 0;
    }
    read_members(object);
    char *text = json_dumps(object, JSON_REAL_PRECISION(17));
    if (!text || brt_json_parse(&again, text, strlen(text), "printed") != BRT_OK || !json_equal(object, again))
        abort();
    free(text);
    json_decref(object);
    json_decref(again);
    return 0;
}
