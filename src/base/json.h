/* The one door to the JSON library (jansson): loading with errors that name the file and the place, and typed
 * access with errors that name the key. */
#ifndef BRT_BASE_JSON_H
#define BRT_BASE_JSON_H

#include "status.h"

#include <jansson.h>

/* `what` names the text in errors (a path). Duplicate keys are refused; the root must be an object. */
brt_status brt_json_parse(json_t **out, const char *text, size_t size, const char *what);
brt_status brt_json_load(json_t **out, const char *path);
/* Written beside and renamed; indented by 2, with a final newline; reals with 17 digits. */
brt_status brt_json_save(const json_t *value, const char *path);
/* Typed reads of object[key]; an absent key is an error that names it. */
brt_status brt_json_get_integer(const json_t *object, const char *key, const char *what, int64_t *out);
brt_status brt_json_get_number(const json_t *object, const char *key, const char *what, double *out);

#endif
