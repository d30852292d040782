#include "top_scores.h"

#include "../base/size.h"

#include <string.h>

/* Bits that are looked at together: a histogram over them is small beside a few hundred scores. */
enum { level_bits = 8, bins = 1 << level_bits };

/* A score's bits as a number that grows with it. */
#ifdef BRT_REAL_DOUBLE
typedef uint64_t order;
#else
typedef uint32_t order;
#endif

enum { order_bits = 8 * sizeof(order) };

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

/* The bin of the `count`-th largest; *above becomes how many lie in bins above it. */
static size_t find_bin(const uint32_t *histogram, size_t count, size_t *above)
{
    size_t bin = bins - 1;
    for (*above = 0; bin > 0 && *above + histogram[bin] < count; bin--)
        *above += histogram[bin];
    return bin;
}

/* Bits from the highest in which places of the scores differ. */
static int differing_bits(size_t n, const real *scores)
{
    order least = ~(order)0, most = 0;
    int bits = 0;
    for (size_t i = 0; i < n; i++) {
        order place = order_of(scores[i]);
        least = place < least ? place : least;
        most = place > most ? place : most;
    }
    while (bits < order_bits && (least ^ most) >> bits)
        bits++;
    return bits;
}

/* Level by level: `known` bits of the place of the `count`-th largest, those that all share at first, then some
 * more. */
brt_top brt_top_find(size_t n, const real *scores, size_t count)
{
    int shift = differing_bits(n, scores);
    order known = shift < order_bits ? ~(order)0 << shift : 0, place = order_of(scores[0]) & known;
    while (shift > 0) {
        uint32_t histogram[bins] = {0};
        int next = shift > level_bits ? shift - level_bits : 0;
        order mask = ((order)1 << (shift - next)) - 1;
        size_t above;
        for (size_t i = 0; i < n; i++) {
            order candidate = order_of(scores[i]);
            if ((candidate & known) == place)
                histogram[candidate >> next & mask]++;
        }
        place |= (order)find_bin(histogram, count, &above) << next;
        known |= mask << next;
        count -= above;
        shift = next;
    }
    return (brt_top){score_of(place), count};
}

bool brt_top_takes(brt_top *top, real score)
{
    order place = order_of(top->least), candidate = order_of(score);
    if (candidate != place)
        return candidate > place;
    if (top->ties == 0)
        return false;
    top->ties--;
    return true;
}

size_t brt_top_select(size_t n, const real *scores, size_t count, uint32_t *list)
{
    size_t kept = 0;
    count = brt_min_size(count, n);
    if (count == 0)
        return 0;
    brt_top top = brt_top_find(n, scores, count);
    for (size_t i = 0; i < n; i++)
        if (brt_top_takes(&top, scores[i]))
            list[kept++] = (uint32_t)i;
    return kept;
}
