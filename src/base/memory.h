/* How much memory the system can still give. */
#ifndef BRT_BASE_MEMORY_H
#define BRT_BASE_MEMORY_H

#include "status.h"

/* Bytes, within the limits of the machine and of the control group; UINT64_MAX when the system does not tell. */
uint64_t brt_available_memory(void);

/* Refuses, with the sizes, to take `bytes` that are not there for `what` ("parameters"). The system itself would hand
 * them out and end the process, or another one, when they are used. */
brt_status brt_memory_check(uint64_t bytes, const char *what);

#endif
