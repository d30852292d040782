#define _GNU_SOURCE
#include "memory.h"

#include "size.h"

#include <stdio.h>
#include <sys/mman.h>

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

enum { small_page = 4096, huge_page = 2 << 20 };

static size_t whole_pages(size_t bytes)
{
    size_t page = bytes < huge_page ? small_page : huge_page;
    return brt_ceil_div(brt_max_size(bytes, 1), page) * page;
}

/* Touching a page for the first time costs microseconds in a virtual machine: do it once, here. */
static void touch(unsigned char *pages, size_t size)
{
    for (size_t i = 0; i < size; i += small_page)
        pages[i] = 0;
}

void *brt_pages_take(size_t bytes)
{
    size_t size = whole_pages(bytes);
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    if (size >= huge_page)
        madvise(pages, size, MADV_HUGEPAGE);
    touch(pages, size);
    return pages;
}

void brt_pages_give(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, whole_pages(bytes));
}
