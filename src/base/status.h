/* Failing with a sentence: BRT_TRY passes a failure on, BRT_FAIL makes one. */
#ifndef BRT_BASE_STATUS_H
#define BRT_BASE_STATUS_H

#include <brt/brt.h>

/* Records the sentence for brt_last_error() and returns `status`. */
brt_status brt_fail(brt_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define BRT_FAIL(status, ...) brt_fail((status), __VA_ARGS__)

#define BRT_TRY(expression)                                                                            \
    do {                                                                                               \
        brt_status brt_try_status_ = (expression);                                                     \
        if (brt_try_status_ != BRT_OK)                                                                 \
            return brt_try_status_;                                                                    \
    } while (0)

#endif
