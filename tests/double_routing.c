/* Looking up a long memory. Its gradient: that of the soft choice, whose weights multiply the values that were taken,
 * against finite differences of its formula. And what attends to it, joined with attention to a window: where all is
 * chosen, one attention to everything. */
#include "gradient_check.h"

#include "ops/attention.h"
#include "ops/route.h"

enum { batch = 2, readers = 2, items = batch * readers, routes = 2, heads = 2, dim = 5, slots = 640, tokens = 12 };

static const double epsilon = 0.3;

typedef struct fixture {
    brt_ring ring;
    brt_routing how;
    uint64_t begin[batch];
    real route[items * routes * dim], droute[items * routes * dim], temperature[routes], dtemperature[routes];
    real null_key[routes * dim], dnull_key[routes * dim], null_value[routes * dim], dnull_value[routes * dim];
    real dkey[items * routes * (tokens + 1) * dim], dvalue[items * routes * (tokens + 1) * dim];
    real gain[items * routes][slots]; /* dvalue . value of what was taken, by position; 0: it was not */
} fixture;

static void fill(real *x, size_t count, uint64_t stream)
{
    for (size_t i = 0; i < count; i++)
        x[i] = brt_rng_normal(1, stream, i);
}

static const brt_kernels *chosen_kernels(void)
{
    const brt_kernels *kernels;
    assert_ok(brt_kernels_select(&kernels));
    return kernels;
}

/* The second row is younger than the first. Where the sample `misleads`, it has the keys that all routes like best, as
 * no others do. */
static void open_fixture(fixture *f, brt_ring_type type, bool misleads)
{
    enum { step = 128, sampled = 4 };
    *f = (fixture){.begin = {0, step}};
    real *raw = draw(batch * slots * 2 * heads * dim, 2);
    for (size_t i = 0; misleads && i < batch * slots * heads; i++)
        if (i / heads % step < sampled)
            raw[(i / heads * 2 * heads + i % heads) * dim] += 5;
    assert_ok(brt_ring_create(&f->ring, &(brt_ring_shape){.type = type,
                                                           .rows = batch,
                                                           .heads = heads,
                                                           .dim = dim,
                                                           .unit = slots,
                                                           .slots = slots}));
    brt_ring_append(&f->ring, chosen_kernels(), 1, raw);
    free(raw);
    f->how = (brt_routing){.ring = &f->ring,
                           .capacity = slots,
                           .begin = f->begin,
                           .end = slots,
                           .readers = readers,
                           .tokens = tokens};
    fill(f->route, items * routes * dim, 3);
    for (size_t i = 0; misleads && i < items * routes; i++)
        f->route[i * dim] += 3;
    f->temperature[0] = 2;
    f->temperature[1] = 0.7;
    fill(f->null_key, routes * dim, 4);
    fill(f->null_value, routes * dim, 5);
    fill(f->dkey, items * routes * (tokens + 1) * dim, 6);
    fill(f->dvalue, items * routes * (tokens + 1) * dim, 7);
}

/* ---- the operation -------------------------------------------------------------------------------------------- */

static void nothing(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

static void give(brt_tape *tape, brt_node *node)
{
    const fixture *f = *(fixture *const *)node->attributes;
    for (int i = 0; i < 2; i++) {
        brt_gradient gradient = brt_gradient_open(tape, node->in[i]);
        if (gradient.data)
            memcpy(gradient.data, i ? f->dvalue : f->dkey, sizeof f->dvalue);
        brt_gradient_close(tape, node->in[i], gradient);
    }
}

static const brt_op giving = {.name = "give", .forward = nothing, .backward = give, .starts_backward = true};

/* The position of each value that was taken is that of the same value in the ring. */
static void note_gains(fixture *f, const real *value)
{
    real stored[dim];
    for (size_t item = 0; item < items * routes; item++)
        for (size_t row = item / routes / readers, p = f->begin[row]; p < slots; p++) {
            brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.value, row, item % routes, p, stored);
            for (size_t i = 1; i <= tokens; i++) {
                size_t at = (item * (tokens + 1) + i) * dim;
                if (memcmp(stored, value + at, sizeof stored) == 0)
                    f->gain[item][p] = dot(dim, stored, f->dvalue + at);
            }
        }
}

static void play(brt_tape *tape, fixture *f)
{
    brt_routed out =
        brt_op_route(tape, brt_tape_external(tape, f->route, f->droute, BRT_SHAPE(items, routes * dim)),
                     brt_tape_external(tape, f->temperature, f->dtemperature, BRT_SHAPE(routes)),
                     brt_tape_external(tape, f->null_key, f->dnull_key, BRT_SHAPE(routes, dim)),
                     brt_tape_external(tape, f->null_value, f->dnull_value, BRT_SHAPE(routes, dim)), &f->how);
    if (brt_tape_running(tape))
        note_gains(f, out.value->data);
    brt_tape_push(tape, &(brt_node){.op = &giving, .in = {out.key, out.value}, .attributes = &f}, sizeof f);
    brt_tape_backward(tape);
}

static void run(fixture *f)
{
    brt_tape *tape;
    assert_ok(brt_tape_create(&tape, chosen_kernels(), 1));
    brt_tape_record(tape, true);
    play(tape, f);
    assert_ok(brt_tape_commit(tape));
    play(tape, f);
    assert_ok(brt_tape_status(tape));
    brt_tape_close(tape);
}

/* ---- the formula ---------------------------------------------------------------------------------------------- */

static double weight(double score, double a)
{
    return exp(fmin(score + a, 0) / epsilon);
}

/* a, for which the weights sum up to k, by bisection. */
static double solve(size_t n, const double *scores, double k)
{
    double low = -100, high = 100;
    for (int step = 0; step < 100; step++) {
        double middle = (low + high) / 2, sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += weight(scores[i], middle);
        *(sum < k ? &low : &high) = middle;
    }
    return (low + high) / 2;
}

/* The sum of gains times weights. */
static double soft_loss(void *context)
{
    const fixture *f = context;
    double loss = 0;
    for (size_t item = 0; item < items * routes; item++) {
        size_t row = item / routes / readers, first = f->begin[row], n = slots - first;
        const real *route = f->route + item * dim;
        double scores[slots];
        real key[dim];
        for (size_t i = 0; i < n; i++) {
            brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.key, row, item % routes, first + i, key);
            scores[i] = f->temperature[item % routes] * dot(dim, route, key) / sqrt(dot(dim, route, route));
        }
        double a = solve(n, scores, tokens * 9.0 / 8);
        for (size_t i = 0; i < n; i++)
            loss += f->gain[item][first + i] * weight(scores[i], a);
    }
    return loss;
}

static void expect_null_gradient(const real *given, const real *found)
{
    for (size_t i = 0; i < routes * dim; i++) {
        double sum = 0;
        for (size_t item = i / dim; item < items * routes; item += routes)
            sum += given[item * (tokens + 1) * dim + i % dim];
        assert_true(fabs(found[i] - sum) < 1e-12);
    }
}

static void check_gradients(brt_ring_type type, bool misleads)
{
    static fixture f;
    open_fixture(&f, type, misleads);
    run(&f);
    expect_gradient(&(variable){"route", f.route, f.droute, items * routes * dim, soft_loss, &f});
    expect_gradient(&(variable){"temperature", f.temperature, f.dtemperature, routes, soft_loss, &f});
    expect_null_gradient(f.dkey, f.dnull_key);
    expect_null_gradient(f.dvalue, f.dnull_value);
    brt_ring_close(&f.ring);
}

static void gradients_are_those_of_the_soft_choice(void **state)
{
    (void)state;
    check_gradients(BRT_RING_F32, false);
    check_gradients(BRT_RING_F32, true);
    check_gradients(BRT_RING_BF16, false);
    check_gradients(BRT_RING_INT8, false);
}

/* ---- dense attention ------------------------------------------------------------------------------------------ */

enum { queries = 4, near_keys = 7, few = 9 }; /* of the window; positions remembered */

static const double scale = 0.7;

/* Head h of one query over the null key, what row 0 remembers, and the window, one after the other. */
static void attend_to_everything(const fixture *f, const real *query, size_t h, const real *near_key,
                                 const real *near_value, real *out)
{
    real key[1 + few + near_keys][dim], value[1 + few + near_keys][dim], weights[1 + few + near_keys], sum = 0;
    memcpy(key[0], f->null_key + h * dim, sizeof key[0]);
    memcpy(value[0], f->null_value + h * dim, sizeof value[0]);
    for (size_t i = 0; i < few; i++) {
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.key, 0, h, f->begin[0] + i, key[1 + i]);
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.value, 0, h, f->begin[0] + i, value[1 + i]);
    }
    memcpy(key[1 + few], near_key + h * near_keys * dim, sizeof key[0] * near_keys);
    memcpy(value[1 + few], near_value + h * near_keys * dim, sizeof value[0] * near_keys);
    for (size_t i = 0; i < 1 + few + near_keys; i++)
        sum += weights[i] = exp(scale * dot(dim, query, key[i]));
    for (size_t d = 0; d < dim; d++) {
        out[d] = 0;
        for (size_t i = 0; i < 1 + few + near_keys; i++)
            out[d] += weights[i] / sum * value[i][d];
    }
}

static brt_heard attend(brt_tape *tape, real *query, brt_tensor *key, brt_tensor *value, const size_t *first_key)
{
    brt_heard heard = {brt_tape_tensor(tape, BRT_SHAPE(1, queries, heads * dim)),
                       brt_tape_tensor(tape, BRT_SHAPE(heads, queries, 1))};
    brt_attention how = {.key_heads = heads,
                         .heads = 1,
                         .scale = scale,
                         .first_key = first_key,
                         .log_sum_exp = heard.log_sum_exp,
                         .out_row = heads * dim,
                         .out_head = dim};
    brt_op_attention(tape, brt_tape_external(tape, query, NULL, BRT_SHAPE(heads, queries, 1, dim)), key, value, &how,
                     heard.out);
    return heard;
}

/* out [queries, heads, dim] of the joined attentions of row 0. */
static void join_near_and_far(brt_tape *tape, fixture *f, real *query, real *near_key, real *near_value, real *out)
{
    static real gate[heads] = {1, 1};
    static const size_t first_key[1] = {tokens - few};
    brt_routed far = brt_op_route(tape, brt_tape_external(tape, f->route, NULL, BRT_SHAPE(1, routes * dim)),
                                  brt_tape_external(tape, f->temperature, NULL, BRT_SHAPE(routes)),
                                  brt_tape_external(tape, f->null_key, NULL, BRT_SHAPE(routes, dim)),
                                  brt_tape_external(tape, f->null_value, NULL, BRT_SHAPE(routes, dim)), &f->how);
    brt_heard one = attend(tape, query, brt_tape_external(tape, near_key, NULL, BRT_SHAPE(heads, near_keys, dim)),
                           brt_tape_external(tape, near_value, NULL, BRT_SHAPE(heads, near_keys, dim)), NULL);
    brt_heard other = attend(tape, query, far.key, far.value, first_key);
    brt_tensor *joined = brt_tape_tensor(tape, BRT_SHAPE(1, queries, heads * dim));
    brt_op_join(tape, heads, &one, &other, brt_tape_external(tape, gate, NULL, BRT_SHAPE(heads)), joined, 0);
    if (brt_tape_running(tape))
        memcpy(out, joined->data, joined->count * sizeof *out);
    brt_tape_rewind(tape);
}

static void a_short_memory_is_attended_to_as_the_window_is(void **state)
{
    static fixture f;
    brt_tape *tape;
    real *query = draw(heads * queries * dim, 20), *near_key = draw(heads * near_keys * dim, 21);
    real *near_value = draw(heads * near_keys * dim, 22), out[queries * heads * dim], expected[dim];
    (void)state;
    open_fixture(&f, BRT_RING_BF16, false);
    f.how.readers = 1;
    f.begin[0] = slots - few;
    assert_ok(brt_tape_create(&tape, chosen_kernels(), 1));
    join_near_and_far(tape, &f, query, near_key, near_value, out);
    assert_ok(brt_tape_commit(tape));
    join_near_and_far(tape, &f, query, near_key, near_value, out);
    for (size_t t = 0; t < queries; t++)
        for (size_t h = 0; h < heads; h++) {
            attend_to_everything(&f, query + (h * queries + t) * dim, h, near_key, near_value, expected);
            for (size_t d = 0; d < dim; d++)
                assert_true(fabs(expected[d] - out[(t * heads + h) * dim + d]) < 1e-13);
        }
    brt_tape_close(tape);
    brt_ring_close(&f.ring);
    free(query);
    free(near_key);
    free(near_value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_soft_choice),
        cmocka_unit_test(a_short_memory_is_attended_to_as_the_window_is),
    };
    return cmocka_run_group_tests_name("double routing", tests, NULL, NULL);
}
