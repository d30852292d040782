/* Drawing tokens: which are kept, how often each is drawn, from what the draw follows. */
#define _GNU_SOURCE
#include "models.h"

static int32_t sample(const float *logits, size_t num_tokens, const brt_sampling *sampling, uint64_t position)
{
    int32_t token = -1;
    assert_ok(brt_sample(logits, num_tokens, sampling, position, &token));
    assert_in_range(token, 0, num_tokens - 1);
    return token;
}

static brt_sampling sampling_of(float temperature, size_t top_k, float top_p, float filter_thres)
{
    brt_sampling sampling = brt_sampling_init();
    sampling.temperature = temperature;
    sampling.top_k = top_k;
    sampling.top_p = top_p;
    sampling.filter_thres = filter_thres;
    sampling.seed = 5;
    return sampling;
}

/* ---- what is kept -------------------------------------------------------------------------------------- */

/* How many different tokens come out of logits that fall with the token. So many draws miss none but with a
 * probability of e^-30 or so. */
static size_t count_kept(const float *logits, size_t num_tokens, const brt_sampling *sampling, uint64_t draws)
{
    bool *seen = calloc(num_tokens, sizeof *seen);
    size_t kept = 0, last = 0;
    for (uint64_t position = 0; position < draws; position++) {
        size_t token = (size_t)sample(logits, num_tokens, sampling, position);
        kept += !seen[token];
        seen[token] = true;
        last = token > last ? token : last;
    }
    assert_int_equal(kept, last + 1);
    free(seen);
    return kept;
}

static void filter_thres_keeps_what_the_reference_keeps(void **state)
{
    (void)state;
    /* Python's math.ceil((1 - thres) * num_tokens), at least 1 as a draw needs one. */
    static const struct {
        float thres;
        size_t num_tokens, kept;
    } cases[] = {
        {0.9f, 256, 26}, {0.9f, 10, 1},   {0.9f, 50, 5},   {0.9f, 1000, 100}, {0.9f, 1, 1},   {0.99f, 100, 2},
        {0.99f, 256, 3}, {0.5f, 7, 4},    {0.3f, 10, 7},   {0.7f, 10, 4},     {0.7f, 50, 16}, {0.8f, 10, 2},
        {0.8f, 50, 10},  {0.1f, 50, 45},  {0.95f, 50, 3},  {0.95f, 100, 6},   {0.999f, 7, 1}, {0.999f, 1000, 2},
        {0, 40, 40},
    };
    float equal[1000] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_sampling sampling = sampling_of(1, 0, 1, cases[i].thres);
        size_t kept = count_kept(equal, cases[i].num_tokens, &sampling, 30 * cases[i].kept + 30);
        if (kept != cases[i].kept)
            fail_msg("filter_thres %g keeps %zu of %zu; expected %zu", (double)cases[i].thres, kept,
                     cases[i].num_tokens, cases[i].kept);
    }
}

static void top_k_and_top_p_keep_the_most_likely(void **state)
{
    (void)state;
    const float logits[] = {logf(0.4f), logf(0.3f), logf(0.2f), logf(0.1f)};
    static const struct {
        size_t top_k;
        float top_p, filter_thres, temperature;
        size_t kept;
    } cases[] = {
        {0, 1, 0, 1, 4},     {1, 1, 0, 1, 1},     {3, 1, 0, 1, 3},     {9, 1, 0, 1, 4},
        {0, 0.39f, 0, 1, 1}, {0, 0.41f, 0, 1, 2}, {0, 0.69f, 0, 1, 2}, {0, 0.71f, 0, 1, 3},
        {0, 0.89f, 0, 1, 3}, {0, 0.91f, 0, 1, 4}, {0, 1e-9f, 0, 1, 1},
        /* top_p is a part of what the other filters leave: 4/7 and 3/7. */
        {2, 0.56f, 0, 1, 1}, {2, 0.58f, 0, 1, 2}, {0, 0.56f, 0.5f, 1, 1}, {0, 0.58f, 0.5f, 1, 2},
        /* The smaller of two filters counts. */
        {3, 1, 0.5f, 1, 2},  {1, 1, 0.5f, 1, 1},
        /* Probabilities are those at the temperature: with 0.5 they are 16, 9, 4 and 1 of 30. */
        {0, 0.52f, 0, 0.5f, 1}, {0, 0.54f, 0, 0.5f, 2}, {0, 0.82f, 0, 0.5f, 2}, {0, 0.84f, 0, 0.5f, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_sampling sampling =
            sampling_of(cases[i].temperature, cases[i].top_k, cases[i].top_p, cases[i].filter_thres);
        assert_int_equal(count_kept(logits, 4, &sampling, 1000), cases[i].kept);
    }
}

static void temperature_0_and_one_candidate_are_the_most_likely_token(void **state)
{
    (void)state;
    const float logits[] = {-1, 3, 2.9f, 3, -1e30f};
    const brt_sampling greedy[] = {sampling_of(0, 0, 1, 0), sampling_of(0, 3, 0.5f, 0.2f), sampling_of(1e-9f, 1, 1, 0),
                                   sampling_of(5, 1, 1, 0), sampling_of(5, 0, 1e-6f, 0),   sampling_of(5, 0, 1, 0.9f)};
    for (size_t i = 0; i < sizeof greedy / sizeof greedy[0]; i++)
        for (uint64_t position = 0; position < 100; position++)
            assert_int_equal(sample(logits, 5, &greedy[i], position), 1); /* of two equals the first */
    const float single = -7;
    const brt_sampling plain = brt_sampling_init();
    assert_int_equal(sample(&single, 1, &plain, 0), 0);
}

/* ---- how often ----------------------------------------------------------------------------------------- */

enum { classes = 8, draws = 20000 };
static const float uneven[classes] = {0.3f, 2, -1, 1.5f, 0, -2.5f, 1.9f, 0.7f};

/* 0.999 of the chi-square distribution lies below (Wilson and Hilferty's approximation). */
static double chi_square_bound(double freedom)
{
    double part = 2 / (9 * freedom);
    return freedom * pow(1 - part + 3.09 * sqrt(part), 3);
}

/* Counts against softmax(logits / temperature) over the `kept` most likely tokens. */
static void expect_softmax(const char *what, const size_t *counts, double temperature, size_t kept)
{
    double weight[classes], total = 0, chi_square = 0;
    for (size_t i = 0; i < classes; i++) {
        size_t above = 0;
        for (size_t j = 0; j < classes; j++)
            above += uneven[j] > uneven[i];
        weight[i] = above < kept ? exp((double)uneven[i] / temperature) : 0;
        total += weight[i];
    }
    for (size_t i = 0; i < classes; i++) {
        double expected = draws * weight[i] / total;
        if (weight[i] > 0)
            chi_square += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
        else
            assert_int_equal(counts[i], 0);
    }
    if (chi_square > chi_square_bound((double)kept - 1))
        fail_msg("%s: chi-square is %g with %zu tokens", what, chi_square, kept);
}

static void draws_follow_the_softmax(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        float temperature;
        size_t top_k;
        float top_p, filter_thres;
        size_t kept;
    } cases[] = {
        {"plain", 1, 0, 1, 0, 8},           {"cold", 0.6f, 0, 1, 0, 8},     {"hot", 3, 0, 1, 0, 8},
        {"top_k", 1, 3, 1, 0, 3},           {"top_p", 1, 0, 0.72f, 0, 3},   {"filter_thres", 1, 0, 1, 0.5f, 4},
        {"cold top_k", 0.6f, 5, 1, 0.1f, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_sampling sampling =
            sampling_of(cases[i].temperature, cases[i].top_k, cases[i].top_p, cases[i].filter_thres);
        size_t counts[classes] = {0}, by_seed[classes] = {0};
        for (uint64_t n = 0; n < draws; n++)
            counts[sample(uneven, classes, &sampling, n)]++;
        for (uint64_t n = 0; n < draws; n++) {
            sampling.seed = n;
            by_seed[sample(uneven, classes, &sampling, 77)]++;
        }
        expect_softmax(cases[i].what, counts, (double)cases[i].temperature, cases[i].kept);
        expect_softmax(cases[i].what, by_seed, (double)cases[i].temperature, cases[i].kept);
    }
}

/* ---- what a draw follows from -------------------------------------------------------------------------- */

static void a_draw_follows_from_seed_and_position(void **state)
{
    (void)state;
    enum { count = 200 };
    brt_sampling sampling = sampling_of(1, 0, 1, 0);
    int32_t first[count];
    for (uint64_t position = 0; position < count; position++)
        first[position] = sample(uneven, classes, &sampling, position);
    for (uint64_t position = count; position-- > 0;)
        assert_int_equal(sample(uneven, classes, &sampling, position), first[position]);
    size_t same = 0, shifted = 0;
    for (uint64_t position = 0; position < count; position++) {
        sampling.seed = 6;
        same += sample(uneven, classes, &sampling, position) == first[position];
        sampling.seed = 5;
        shifted += sample(uneven, classes, &sampling, position + 1) == first[position];
    }
    /* Independent draws agree with a probability of 0.23. */
    assert_in_range(same, count / 8, count / 3);
    assert_in_range(shifted, count / 8, count / 3);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    const struct {
        float temperature, top_p, filter_thres;
        const char *part;
    } cases[] = {
        {-1, 1, 0, "temperature"}, {NAN, 1, 0, "temperature"},     {INFINITY, 1, 0, "temperature"},
        {1, 0, 0, "top_p"},        {1, 1.5f, 0, "top_p"},          {1, NAN, 0, "top_p"},
        {1, 1, 1, "filter_thres"}, {1, 1, -0.1f, "filter_thres"},  {1, 1, NAN, "filter_thres"},
    };
    int32_t token = -1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_sampling sampling = sampling_of(cases[i].temperature, 0, cases[i].top_p, cases[i].filter_thres);
        expect_failure(brt_sample(uneven, classes, &sampling, 0, &token), BRT_ERROR_ARGUMENT, cases[i].part);
    }
    brt_sampling sampling = brt_sampling_init();
    expect_failure(brt_sample(uneven, 0, &sampling, 0, &token), BRT_ERROR_ARGUMENT, "num_tokens is 0");
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        const float logits[] = {1, 2, wrong[i]};
        expect_failure(brt_sample(logits, 3, &sampling, 0, &token), BRT_ERROR_NUMERIC, "the logit of token 2");
    }
    sampling.size = 0;
    expect_failure(brt_sample(uneven, classes, &sampling, 0, &token), BRT_ERROR_ARGUMENT, "brt_sampling_init");
    assert_int_equal(token, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filter_thres_keeps_what_the_reference_keeps),
        cmocka_unit_test(top_k_and_top_p_keep_the_most_likely),
        cmocka_unit_test(temperature_0_and_one_candidate_are_the_most_likely_token),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(a_draw_follows_from_seed_and_position),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
