/* Conditional computation: what it takes to be chosen, and the gradient that scores get for it. */
#include "gradient_check.h"

#include "ops/conditional.h"
#include "ops/coordinate_descent.h"

enum { batch = 2, time = 13, wanted = 4, dim = 3, tokens = batch * time };

static const double epsilon = 0.4, soft_wanted = wanted * 9 / 8.0;

/* The scores of a block make the price of the next one, whose tokens x score anew. */
typedef struct fixture {
    real *before, *scores, *x, *others;                     /* [tokens], [tokens], [tokens, dim] twice */
    real *dbefore, *dscores, *dx, *dothers, *dsum;          /* dsum [tokens, dim]: of the result */
    double weight[tokens];                                  /* p of every token, where gradients are taken */
    bool chosen[tokens];
} fixture;

static void open_fixture(fixture *f)
{
    *f = (fixture){.before = draw(tokens, 1),
                   .scores = draw(tokens, 2),
                   .x = draw(tokens * dim, 3),
                   .others = draw(tokens * dim, 4),
                   .dbefore = zeros(tokens),
                   .dscores = zeros(tokens),
                   .dx = zeros(tokens * dim),
                   .dothers = zeros(tokens * dim),
                   .dsum = draw(tokens * dim, 5)};
}

static void close_fixture(fixture *f)
{
    real *const all[] = {f->before, f->scores, f->x, f->others, f->dbefore, f->dscores, f->dx, f->dothers, f->dsum};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* ---- on a tape ------------------------------------------------------------------------------------------------ */

static void nothing(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

static void give(brt_tape *tape, brt_node *node)
{
    const fixture *f = *(fixture *const *)node->attributes;
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    if (gradient.data)
        memcpy(gradient.data, f->dsum, tokens * dim * sizeof(real));
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op giving = {.name = "give", .forward = nothing, .backward = give, .starts_backward = true};

/* What is added to the chosen tokens of `others` is their x. */
static void play(brt_tape *tape, fixture *f, bool everything, real *sum)
{
    brt_tensor *before = brt_tape_external(tape, f->before, f->dbefore, BRT_SHAPE(batch, time, 1));
    brt_tensor *x = brt_tape_external(tape, f->x, f->dx, BRT_SHAPE(batch, time, dim));
    brt_selection selection = {.scores = brt_tape_external(tape, f->scores, f->dscores, BRT_SHAPE(batch, time, 1)),
                               .price = brt_op_price(tape, before, wanted, epsilon),
                               .epsilon = epsilon,
                               .everything = everything};
    brt_tensor *taken = brt_op_take_chosen(tape, x, &selection);
    brt_tensor *others = brt_tape_external(tape, f->others, f->dothers, BRT_SHAPE(batch, time, dim));
    brt_tensor *result = brt_op_add_chosen(tape, others, taken, &selection);
    if (brt_tape_running(tape))
        memcpy(sum, result->data, tokens * dim * sizeof *sum);
    brt_tape_push(tape, &(brt_node){.op = &giving, .in = {result}, .attributes = &f}, sizeof f);
    brt_tape_backward(tape);
}

static void run(fixture *f, bool everything, real *sum)
{
    brt_tape *tape;
    const brt_kernels *kernels;
    assert_ok(brt_kernels_select(&kernels));
    assert_ok(brt_tape_create(&tape, kernels, 1));
    brt_tape_record(tape, true);
    play(tape, f, everything, sum);
    assert_ok(brt_tape_commit(tape));
    play(tape, f, everything, sum);
    assert_ok(brt_tape_status(tape));
    brt_tape_close(tape);
}

/* ---- the same, plainly ---------------------------------------------------------------------------------------- */

/* The threshold and the weights of a row's tokens. */
static double weigh_row(const fixture *f, size_t row, double *weight)
{
    real sorted[time];
    size_t saturated;
    memcpy(sorted, f->before + row * time, sizeof sorted);
    brt_sort_descending(time, sorted);
    double a = brt_coordinate_descent(time, sorted, -(double)INFINITY, soft_wanted, epsilon, &saturated);
    for (size_t t = 0; t < time; t++)
        weight[t] = exp(fmin(f->scores[row * time + t] + a, 0) / epsilon);
    return (sorted[wanted - 1] + sorted[wanted]) / 2;
}

static void note_choice(fixture *f)
{
    for (size_t row = 0; row < batch; row++) {
        double threshold = weigh_row(f, row, f->weight + row * time);
        for (size_t i = row * time; i < (row + 1) * time; i++)
            f->chosen[i] = f->scores[i] >= threshold;
    }
}

/* Of a weight of 1 that moves as p does. */
static double loss(void *context)
{
    const fixture *f = context;
    double sum = 0;
    for (size_t row = 0; row < batch; row++) {
        double weight[time];
        weigh_row(f, row, weight);
        for (size_t t = 0; t < time; t++) {
            size_t i = row * time + t;
            sum += dot(dim, f->others + i * dim, f->dsum + i * dim);
            if (f->chosen[i])
                sum += (1 + weight[t] - f->weight[i]) * dot(dim, f->x + i * dim, f->dsum + i * dim);
        }
    }
    return sum;
}

/* ---- tests ---------------------------------------------------------------------------------------------------- */

static void gradients_are_those_of_the_soft_choice(void **state)
{
    fixture f;
    real sum[tokens * dim];
    (void)state;
    open_fixture(&f);
    note_choice(&f);
    run(&f, false, sum);
    size_t taken = 0;
    for (size_t i = 0; i < tokens; i++) {
        taken += f.chosen[i];
        for (size_t d = i * dim; d < (i + 1) * dim; d++)
            assert_true(fabs(sum[d] - f.others[d] - (f.chosen[i] ? f.x[d] : 0)) < 1e-13);
    }
    assert_true(taken > 0 && taken < tokens);
    const variable variables[] = {
        {"scores", f.scores, f.dscores, tokens, loss, &f}, {"earlier scores", f.before, f.dbefore, tokens, loss, &f},
        {"x", f.x, f.dx, tokens * dim, loss, &f},          {"others", f.others, f.dothers, tokens * dim, loss, &f},
    };
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        assert_true(dot(variables[i].count, variables[i].gradient, variables[i].gradient) > 0);
        expect_gradient(&variables[i]);
    }
    close_fixture(&f);
}

/* In a block that is like the one before, as many are chosen as are wanted. */
static void the_block_before_decides_how_many_are_chosen(void **state)
{
    fixture f;
    real sum[tokens * dim];
    (void)state;
    open_fixture(&f);
    for (size_t i = 0; i < tokens; i++)
        f.scores[i] = f.before[i / time * time + time - 1 - i % time];
    run(&f, false, sum);
    for (size_t row = 0; row < batch; row++) {
        size_t taken = 0;
        for (size_t i = row * time; i < (row + 1) * time; i++)
            taken += sum[i * dim] != f.others[i * dim];
        assert_int_equal(taken, wanted);
    }
    close_fixture(&f);
}

static void everything_is_chosen_without_a_gradient_to_scores(void **state)
{
    fixture f;
    real sum[tokens * dim];
    (void)state;
    open_fixture(&f);
    run(&f, true, sum);
    for (size_t i = 0; i < tokens * dim; i++) {
        assert_true(sum[i] == f.others[i] + f.x[i]);
        assert_true(f.dx[i] == f.dsum[i] && f.dothers[i] == f.dsum[i]);
    }
    assert_true(dot(tokens, f.dscores, f.dscores) == 0 && dot(tokens, f.dbefore, f.dbefore) == 0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_soft_choice),
        cmocka_unit_test(the_block_before_decides_how_many_are_chosen),
        cmocka_unit_test(everything_is_chosen_without_a_gradient_to_scores),
    };
    return cmocka_run_group_tests_name("double conditional", tests, NULL, NULL);
}
