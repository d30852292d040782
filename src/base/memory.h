/* How much memory the system can still give. */
#ifndef BRT_BASE_MEMORY_H
#define BRT_BASE_MEMORY_H

#include <stdint.h>

/* Bytes, within the limits of the machine and of the control group; UINT64_MAX when the system does not tell. */
uint64_t brt_available_memory(void);

#endif
