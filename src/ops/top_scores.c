#include "top_scores.h"

#include "../base/size.h"

#include <string.h>

enum { level_bits = 11 }; /* looked at together: a histogram of them stays in the first-level cache */

/* A score's bits as a number that grows with it: not-a-number is larger than all others, or, with a sign, smaller. */
#ifdef BRT_REAL_DOUBLE
typedef uint64_t order;
#else
typedef uint32_t order;
#endif

enum { order_bits = 8 * sizeof(order), first_shift = order_bits - level_bits };

static const order sign_bit = (order)1 << (order_bits - 1);

static order order_of(real score)
{
    order bits;
    memcpy(&bits, &score, sizeof bits);
    return bits & sign_bit ? ~bits : bits | sign_bit;
}

static real score_of(order place)
{
    order bits = place & sign_bit ? place & ~sign_bit : ~place;
    real score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

void brt_top_count(size_t n, const real *scores, uint32_t *histogram)
{
    for (size_t i = 0; i < n; i++)
        histogram[order_of(scores[i]) >> first_shift]++;
}

/* The bin of the `count`-th largest; *above becomes how many lie in bins above it. */
static size_t find_bin(const uint32_t *histogram, size_t count, size_t *above)
{
    size_t bin = BRT_TOP_BINS - 1;
    for (*above = 0; bin > 0 && *above + histogram[bin] < count; bin--)
        *above += histogram[bin];
    return bin;
}

/* The exact place of the `count`-th largest, whose upper bits are `place`'s: level by level, among the listed scores.
 * *ties becomes how many of those at that place belong to the `count` largest. */
static order find_place(const uint32_t *list, size_t listed, const real *scores, order place, size_t count,
                        size_t *ties)
{
    uint32_t histogram[BRT_TOP_BINS];
    for (int shift = first_shift; shift > 0;) {
        int next = shift > level_bits ? shift - level_bits : 0;
        order mask = ((order)1 << (shift - next)) - 1;
        size_t above;
        memset(histogram, 0, sizeof histogram);
        for (size_t i = 0; i < listed; i++) {
            order candidate = order_of(scores[list[i]]);
            if (candidate >> shift == place >> shift)
                histogram[candidate >> next & mask]++;
        }
        place |= (order)find_bin(histogram, count, &above) << next;
        count -= above;
        shift = next;
    }
    *ties = count;
    return place;
}

size_t brt_top_select(const brt_kernels *kernels, size_t n, const real *scores, const uint32_t *histogram, size_t count,
                      uint32_t *list)
{
    size_t above, ties, listed, kept = 0;
    count = brt_min_size(count, n);
    if (count == 0)
        return 0;
    order place = (order)find_bin(histogram, count, &above) << first_shift;
    kernels->collect_least(n, score_of(place), scores, list, &listed);
    place = find_place(list, listed, scores, place, count - above, &ties);
    for (size_t i = 0; i < listed; i++) {
        order candidate = order_of(scores[list[i]]);
        if (candidate == place && ties > 0)
            ties--;
        else if (candidate <= place)
            continue;
        list[kept++] = list[i];
    }
    return kept;
}
