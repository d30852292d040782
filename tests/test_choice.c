/* Choosing among scores: the soft choice's solver, and the largest of many. */
#include "normal_draws.h"

#include "base/size.h"
#include "ops/coordinate_descent.h"
#include "ops/top_scores.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

/* ---- the solver --------------------------------------------------------------------------------------------- */

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Coordinate descent as it is defined, step by step, from a = epsilon (log k - log n). */
static double descend(size_t n, const float *scores, double k, double epsilon, int steps)
{
    double a = epsilon * (log(k) - log((double)n));
    for (int step = 1; step < steps; step++) {
        double most = -(double)INFINITY, sum = 0;
        for (size_t i = 0; i < n; i++)
            most = fmax(most, fmin((double)scores[i], -a) / epsilon);
        for (size_t i = 0; i < n; i++)
            sum += exp(fmin((double)scores[i], -a) / epsilon - most);
        a = epsilon * (log(k) - most - log(sum));
    }
    return a;
}

static double weight(float score, double a, double epsilon)
{
    return exp(fmin((double)score + a, 0) / epsilon);
}

static void check_solver(size_t n, double spread, double k, double epsilon)
{
    float *scores = draw(n, 3, spread);
    size_t listed = brt_min_size(n, (size_t)ceil(k)), saturated, full = 0;
    double slow = descend(n, scores, k, epsilon, 10000), rest = 0, sum = 0;
    qsort(scores, n, sizeof *scores, descending);
    for (size_t i = listed; i < n; i++)
        rest += exp(((double)scores[i] - (double)scores[listed]) / epsilon);
    double log_rest = listed < n ? (double)scores[listed] / epsilon + log(rest) : -(double)INFINITY;
    double a = brt_coordinate_descent(listed, scores, log_rest, k, epsilon, &saturated);
    for (size_t i = 0; i < n; i++) {
        double p = weight(scores[i], a, epsilon), want = weight(scores[i], slow, epsilon);
        if (!(fabs(p - want) < 1e-5))
            fail_msg("n %zu, spread %g, k %g, epsilon %g: weight %zu is %.9g, after 10,000 steps %.9g", n, spread, k,
                     epsilon, i, p, want);
        sum += p;
        full += (double)scores[i] + a >= 0;
    }
    assert_true(fabs(sum - k) < 1e-9 * k);
    assert_int_equal(full, saturated);
    free(scores);
}

/* With sharp weights (a large spread, a small epsilon) and a whole k, ten thousand steps do not suffice. */
static void test_solver(void **state)
{
    (void)state;
    check_solver(300, 1, 18, 0.3);
    for (double spread = 0.1; spread < 10; spread *= 6)
        for (double epsilon = 0.03; epsilon < 2; epsilon *= 5) {
            check_solver(300, spread, 18.5, epsilon);
            check_solver(37, spread, 4.5, epsilon);
            check_solver(20, spread, 19.5, epsilon);
        }
    check_solver(5, 1, 0.5, 0.3);
}

/* ---- the largest scores -------------------------------------------------------------------------------------- */

static bool comes_before(const float *scores, size_t i, size_t j)
{
    return scores[i] > scores[j] || (scores[i] == scores[j] && i < j);
}

static void check_selection(size_t n, const float *scores, size_t count)
{
    uint32_t *list = make(n * sizeof *list);
    size_t kept = brt_top_select(n, scores, count, list);
    assert_int_equal(kept, brt_min_size(n, count));
    for (size_t i = 0, at = 0; i < n; i++) {
        size_t before = 0;
        for (size_t j = 0; j < n; j++)
            before += comes_before(scores, j, i);
        if (before < count)
            assert_int_equal(list[at++], i);
    }
    free(list);
}

static void test_selection(void **state)
{
    static const size_t counts[] = {0, 1, 2, 5, 100, 299, 300, 301, 1000};
    (void)state;
    float *scores = draw(300, 4, 1), *ties = draw(300, 5, 1), *same = make(300 * sizeof *same);
    for (size_t i = 0; i < 300; i++)
        ties[i] = i % 50 == 7 ? -INFINITY : i % 50 == 9 ? INFINITY : roundf(ties[i] * 4);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        check_selection(300, scores, counts[i]);
        check_selection(300, ties, counts[i]);
        check_selection(300, same, counts[i]);
        check_selection(0, same, counts[i]);
    }
    free(scores);
    free(ties);
    free(same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_solver),
        cmocka_unit_test(test_selection),
    };
    return cmocka_run_group_tests_name("choice", tests, NULL, NULL);
}
