#include "profile.h"

#include <stdio.h>
#include <stdlib.h>

enum { most_entries = 64 };

static double seconds_of(const brt_profile_entry *entry)
{
    return entry->forward_seconds + entry->backward_seconds;
}

static int by_time(const void *a, const void *b)
{
    double left = seconds_of(a), right = seconds_of(b);
    return left < right ? 1 : left > right ? -1 : 0;
}

static void print_row(const brt_profile_entry *entry, double whole)
{
    double seconds = seconds_of(entry);
    fprintf(stderr, "%-16s %9llu %10.3f %10.3f %7.1f %%", entry->name, (unsigned long long)entry->calls,
            entry->forward_seconds, entry->backward_seconds, 100 * seconds / whole);
    if (entry->flops > 0 && seconds > 0)
        fprintf(stderr, " %10.1f GFLOP/s", 1e-9 * entry->flops / seconds);
    else if (entry->bytes > 0 && seconds > 0)
        fprintf(stderr, " %10.1f GB/s", 1e-9 * entry->bytes / seconds);
    fputc('\n', stderr);
}

void profile_print(const brt_trainer *trainer, double seconds)
{
    brt_profile_entry entries[most_entries], rest = {.name = "everything else", .forward_seconds = seconds};
    size_t count = 0;
    while (count < most_entries && brt_trainer_profile(trainer, count, &entries[count])) {
        rest.forward_seconds -= seconds_of(&entries[count]);
        count++;
    }
    qsort(entries, count, sizeof entries[0], by_time);
    fprintf(stderr, "%-16s %9s %10s %10s %9s %10s\n", "operation", "calls", "forward s", "backward s", "share",
            "speed");
    for (size_t i = 0; i < count; i++)
        print_row(&entries[i], seconds);
    print_row(&rest, seconds);
}
