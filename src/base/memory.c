#include "memory.h"

#include <stdio.h>

/* The number after `label` in a file of lines "label number ..."; fallback if there is none. */
static uint64_t read_number(const char *path, const char *label, uint64_t fallback)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return fallback;
    char line[256];
    unsigned long long number;
    uint64_t found = fallback;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, label, &number) == 1) {
            found = number;
            break;
        }
    fclose(file);
    return found;
}

uint64_t brt_available_memory(void)
{
    uint64_t kilobytes = read_number("/proc/meminfo", "MemAvailable: %llu", UINT64_MAX / 1024);
    uint64_t machine = kilobytes * 1024;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", "%llu", UINT64_MAX);
    uint64_t used = read_number("/sys/fs/cgroup/memory.current", "%llu", 0);
    uint64_t group = limit > used ? limit - used : 0;
    return machine < group ? machine : group;
}

brt_status brt_memory_check(uint64_t bytes, const char *what)
{
    uint64_t available = brt_available_memory();
    if (bytes <= available)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %llu bytes of %s: %llu are available",
                    (unsigned long long)bytes, what, (unsigned long long)available);
}
