#include "rng.h"

#include <math.h>

enum { philox_rounds = 10 };

static void philox_round(uint32_t counter[4], const uint32_t key[2])
{
    uint64_t product0 = (uint64_t)0xD2511F53u * counter[0];
    uint64_t product1 = (uint64_t)0xCD9E8D57u * counter[2];
    uint32_t next[4] = {(uint32_t)(product1 >> 32) ^ counter[1] ^ key[0], (uint32_t)product1,
                        (uint32_t)(product0 >> 32) ^ counter[3] ^ key[1], (uint32_t)product0};
    for (int i = 0; i < 4; i++)
        counter[i] = next[i];
}

void brt_rng_words(uint64_t seed, uint64_t stream, uint64_t index, uint32_t words[4])
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    for (int round = 0; round < philox_rounds; round++) {
        philox_round(counter, key);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++)
        words[i] = counter[i];
}

static double unit_interval(uint32_t high, uint32_t low)
{
    return (double)((((uint64_t)high << 32) | low) >> 11) * 0x1p-53;
}

double brt_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t words[4];
    brt_rng_words(seed, stream, index, words);
    return unit_interval(words[0], words[1]);
}

double brt_rng_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t words[4];
    brt_rng_words(seed, stream, index, words);
    double radius = sqrt(-2.0 * log(1.0 - unit_interval(words[0], words[1])));
    return radius * cos(2.0 * 3.14159265358979323846 * unit_interval(words[2], words[3]));
}

uint64_t brt_rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound)
{
    uint32_t words[4];
    brt_rng_words(seed, stream, index, words);
    uint64_t value = ((uint64_t)words[0] << 32) | words[1];
    return (uint64_t)(((unsigned __int128)value * bound) >> 64);
}
