/* A long memory and what looks it up: the ring, the whole operation, exact recall. */
#include "normal_draws.h"

#include "ops/recall.h"
#include "ops/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void assert_ok(brt_status status)
{
    if (status != BRT_OK)
        fail_msg("%s: %s", brt_status_name(status), brt_last_error());
}

static const brt_kernels *chosen_kernels(void)
{
    const brt_kernels *kernels;
    assert_ok(brt_kernels_select(&kernels));
    return kernels;
}

/* ---- the ring ------------------------------------------------------------------------------------------------ */

enum { ring_rows = 2, ring_heads = 3, ring_dim = 20, ring_unit = 7, ring_slots = 28 };

/* What is written at a position, [rows, 1, keys | values]. */
static float *raw_of(uint64_t position)
{
    return draw(ring_rows * 2 * ring_heads * ring_dim, 100 + position, 1);
}

static void append_unit(brt_ring *ring)
{
    enum { raw = 2 * ring_heads * ring_dim };
    float block[ring_rows * ring_unit * raw];
    for (size_t i = 0; i < ring_unit; i++) {
        float *one = raw_of(ring->end + i);
        for (size_t row = 0; row < ring_rows; row++)
            memcpy(block + (row * ring_unit + i) * raw, one + row * raw, raw * sizeof *one);
        free(one);
    }
    brt_ring_append(ring, chosen_kernels(), 2, block);
}

static void check_position(const brt_ring *ring, uint64_t position, double tolerance)
{
    float *raw = raw_of(position), out[ring_dim];
    for (size_t row = 0; row < ring_rows; row++)
        for (size_t head = 0; head < ring_heads; head++) {
            const float *key = raw + (row * 2 * ring_heads + head) * ring_dim, *value = key + ring_heads * ring_dim;
            double length = 0;
            for (size_t i = 0; i < ring_dim; i++)
                length += (double)key[i] * (double)key[i];
            brt_ring_copy(ring, chosen_kernels(), &ring->key, row, head, position, out);
            for (size_t i = 0; i < ring_dim; i++)
                assert_true(fabs((double)out[i] - (double)key[i] / sqrt(length)) <= tolerance);
            brt_ring_copy(ring, chosen_kernels(), &ring->value, row, head, position, out);
            for (size_t i = 0; i < ring_dim; i++)
                assert_true(fabs((double)(out[i] - value[i])) <= 5 * tolerance);
        }
    free(raw);
}

static void test_ring(void **state)
{
    static const double tolerances[] = {2e-7, 0x1p-9, 0.5 / 127};
    (void)state;
    for (int type = BRT_RING_F32; type <= BRT_RING_INT8; type++) {
        brt_ring_shape shape = {.type = (brt_ring_type)type,
                                .rows = ring_rows,
                                .heads = ring_heads,
                                .dim = ring_dim,
                                .unit = ring_unit,
                                .slots = ring_slots};
        brt_ring ring;
        assert_ok(brt_ring_create(&ring, &shape));
        for (size_t i = 0; i < 9; i++) {
            append_unit(&ring);
            for (uint64_t p = ring.end < ring_slots ? 0 : ring.end - ring_slots; p < ring.end; p++)
                check_position(&ring, p, tolerances[type]);
        }
        assert_int_equal(ring.end, 63);
        assert_int_equal(brt_ring_stretch(&ring, 41, 10), 1);
        assert_int_equal(brt_ring_stretch(&ring, 42, 10), 7);
        assert_int_equal(brt_ring_stretch(&ring, 43, 3), 3);
        brt_ring_close(&ring);
    }
}

/* ---- the operation -------------------------------------------------------------------------------------------- */

enum { routes = 4, heads = 2, dim = 16 };

typedef struct fixture {
    brt_ring ring;
    brt_routing how;
    uint64_t begin[2];
    size_t batch;
    float *route, *droute, temperature[routes], dtemperature[routes];
    float *null_key, *null_value, *dnull_key, *dnull_value;
    float *key, *value, *dkey, *dvalue; /* outputs; their gradients */
    size_t count;                       /* of an output */
} fixture;

/* A ring into which `written` positions went; rows remember all that is left of them. */
static void open_fixture(fixture *f, brt_ring_type type, size_t batch, size_t readers, size_t slots, size_t written,
                         size_t tokens)
{
    size_t unit = slots < 1000 ? 10 : 500;
    brt_ring_shape shape = {.type = type, .rows = batch, .heads = heads, .dim = dim, .unit = unit, .slots = slots};
    size_t items = batch * readers, route_count = items * routes * dim, nulls = routes * dim;
    *f = (fixture){.batch = batch, .count = items * routes * (tokens + 1) * dim};
    assert_ok(brt_ring_create(&f->ring, &shape));
    float *raw = draw(batch * written * 2 * heads * dim, 7, 1);
    for (size_t first = 0; first < written; first += unit)
        brt_ring_append(&f->ring, chosen_kernels(), 2, raw + first * batch * 2 * heads * dim);
    free(raw);
    for (size_t row = 0; row < batch; row++)
        f->begin[row] = written > slots ? written - slots : 0;
    f->how = (brt_routing){.ring = &f->ring,
                           .capacity = slots,
                           .begin = f->begin,
                           .end = f->ring.end,
                           .readers = readers,
                           .tokens = tokens};
    f->route = draw(route_count, 8, 3);
    f->droute = make(route_count * sizeof(float));
    for (size_t r = 0; r < routes; r++)
        f->temperature[r] = 8 + (float)r;
    f->null_key = draw(nulls, 9, 1);
    f->null_value = draw(nulls, 10, 1);
    f->dnull_key = make(nulls * sizeof(float));
    f->dnull_value = make(nulls * sizeof(float));
    f->key = make(f->count * sizeof(float));
    f->value = make(f->count * sizeof(float));
    f->dkey = draw(f->count, 11, 1);
    f->dvalue = draw(f->count, 12, 1);
}

static void close_fixture(fixture *f)
{
    float *const all[] = {f->route, f->droute, f->null_key, f->null_value, f->dnull_key, f->dnull_value,
                          f->key,   f->value,  f->dkey,     f->dvalue};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    brt_ring_close(&f->ring);
}

/* Gives the gradients of both outputs. */
static void give(brt_tape *tape, brt_node *node)
{
    fixture *const *f = node->attributes;
    for (int i = 0; i < 2; i++) {
        brt_gradient gradient = brt_gradient_open(tape, node->in[i]);
        if (gradient.data)
            memcpy(gradient.data, i ? (*f)->dvalue : (*f)->dkey, (*f)->count * sizeof(float));
        brt_gradient_close(tape, node->in[i], gradient);
    }
}

static void nothing(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

static const brt_op giving = {.name = "give", .forward = nothing, .backward = give, .starts_backward = true};

static void play(brt_tape *tape, fixture *f)
{
    size_t items = f->batch * f->how.readers;
    brt_tensor *route = brt_tape_external(tape, f->route, f->droute, BRT_SHAPE(items, routes * dim));
    brt_tensor *temperature = brt_tape_external(tape, f->temperature, f->dtemperature, BRT_SHAPE(routes));
    brt_tensor *null_key = brt_tape_external(tape, f->null_key, f->dnull_key, BRT_SHAPE(routes, dim));
    brt_tensor *null_value = brt_tape_external(tape, f->null_value, f->dnull_value, BRT_SHAPE(routes, dim));
    brt_routed out = brt_op_route(tape, route, temperature, null_key, null_value, &f->how);
    if (brt_tape_running(tape)) {
        memcpy(f->key, out.key->data, f->count * sizeof(float));
        memcpy(f->value, out.value->data, f->count * sizeof(float));
    }
    brt_tape_push(tape, &(brt_node){.op = &giving, .in = {out.key, out.value}, .attributes = &f}, sizeof f);
    if (brt_tape_recording(tape))
        brt_tape_backward(tape);
    brt_tape_reset(tape);
}

static void run(fixture *f, int threads, bool recording)
{
    brt_tape *tape;
    assert_ok(brt_tape_create(&tape, chosen_kernels(), threads));
    brt_tape_record(tape, recording);
    play(tape, f);
    assert_ok(brt_tape_commit(tape));
    play(tape, f);
    assert_ok(brt_tape_status(tape));
    brt_tape_close(tape);
}

/* Of the i-th row of one route's keys or values. */
static size_t output_at(const fixture *f, size_t reader, size_t route, size_t i)
{
    return ((reader * routes + route) * (f->how.tokens + 1) + i) * dim;
}

static double product(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Every key that is as close to the route as the furthest of those that were taken must have been taken, in order. */
static void expect_best(const fixture *f, size_t reader, size_t route)
{
    const float *look = f->route + (reader * routes + route) * dim;
    size_t row = reader / f->how.readers, taken = 1;
    double furthest = (double)INFINITY;
    float key[dim], value[dim];
    for (size_t i = 1; i <= f->how.tokens; i++)
        furthest = fmin(furthest, product(look, f->key + output_at(f, reader, route, i)));
    for (uint64_t p = f->begin[row]; p < f->how.end; p++) {
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.key, row, route * heads / routes, p, key);
        if (product(look, key) < furthest)
            continue;
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.value, row, route * heads / routes, p, value);
        assert_true(taken <= f->how.tokens);
        assert_memory_equal(key, f->key + output_at(f, reader, route, taken), sizeof key);
        assert_memory_equal(value, f->value + output_at(f, reader, route, taken), sizeof value);
        taken++;
    }
    assert_int_equal(taken, f->how.tokens + 1);
    assert_memory_equal(f->null_key + route * dim, f->key + output_at(f, reader, route, 0), sizeof key);
    assert_memory_equal(f->null_value + route * dim, f->value + output_at(f, reader, route, 0), sizeof key);
}

/* Rings that have gone round, of every type; with and without what the backward pass needs, the same is taken. */
static void test_best_keys(void **state)
{
    (void)state;
    for (int type = BRT_RING_F32; type <= BRT_RING_INT8; type++)
        for (int recording = 0; recording <= 1; recording++) {
            fixture f;
            open_fixture(&f, (brt_ring_type)type, 2, 2, 9000, 15000, 30);
            f.begin[1] += 100;
            run(&f, 2, recording);
            for (size_t reader = 0; reader < 4; reader++)
                for (size_t route = 0; route < routes; route++)
                    expect_best(&f, reader, route);
            close_fixture(&f);
        }
}

/* Scores of one route of the only reader with everything, and what each position gains (0: it was not taken). */
static void note_gains(const fixture *f, size_t route, double *score, double *gain)
{
    const float *look = f->route + route * dim;
    double unit = (double)f->temperature[route] / sqrt(product(look, look));
    size_t taken = 1;
    float key[dim];
    for (size_t i = 0; i < f->how.capacity; i++) {
        size_t at = output_at(f, 0, route, taken);
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.key, 0, route * heads / routes, f->begin[0] + i, key);
        score[i] = unit * product(look, key);
        gain[i] = 0;
        if (taken <= f->how.tokens && memcmp(key, f->key + at, sizeof key) == 0) {
            gain[i] = product(f->value + at, f->dvalue + at);
            taken++;
        }
    }
}

/* D of src/ops/route.c: ds_i k_i, summed up over everything. */
static void gradient_of_query(const fixture *f, size_t route, const double *score, const double *gain, double *d)
{
    const double epsilon = 0.3, k = (double)f->how.tokens * 9 / 8;
    double low = -100, high = 100, pull = 0, mass = 0, *p = make(f->how.capacity * sizeof *p);
    float key[dim];
    for (int step = 0; step < 100; step++) {
        double a = (low + high) / 2, sum = 0;
        for (size_t i = 0; i < f->how.capacity; i++)
            sum += exp(fmin(score[i] + a, 0) / epsilon);
        *(sum < k ? &low : &high) = a;
    }
    for (size_t i = 0; i < f->how.capacity; i++) {
        p[i] = score[i] + low < 0 ? exp((score[i] + low) / epsilon) : 0;
        pull += p[i] * gain[i];
        mass += p[i];
    }
    for (size_t i = 0; i < f->how.capacity; i++) {
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.key, 0, route * heads / routes, f->begin[0] + i, key);
        for (size_t c = 0; c < dim; c++)
            d[c] += p[i] / epsilon * (gain[i] - pull / mass) * (double)key[c];
    }
    free(p);
}

/* The gradient's sums over a memory of several tasks. */
static void test_long_gradient(void **state)
{
    enum { remembered = 13000 };
    static double score[remembered], gain[remembered];
    (void)state;
    for (int type = BRT_RING_F32; type <= BRT_RING_INT8; type++) {
        fixture f;
        open_fixture(&f, (brt_ring_type)type, 1, 1, remembered, 15000, 30);
        run(&f, 2, true);
        for (size_t route = 0; route < routes; route++) {
            const float *look = f.route + route * dim;
            double length = sqrt(product(look, look)), d[dim] = {0}, du = 0, most = 0;
            note_gains(&f, route, score, gain);
            gradient_of_query(&f, route, score, gain, d);
            for (size_t c = 0; c < dim; c++) {
                du += d[c] * (double)look[c] / length;
                most = fmax(most, fabs(d[c]));
            }
            assert_true(fabs((double)f.dtemperature[route] - du) < 1e-4 * most);
            for (size_t c = 0; c < dim; c++) {
                double want = (double)f.temperature[route] / length * (d[c] - du * (double)look[c] / length);
                assert_true(fabs((double)f.droute[route * dim + c] - want) < 1e-4 * most);
            }
        }
        close_fixture(&f);
    }
}

/* A row that remembers no more than is taken: everything, oldest first, after unused rows of zeros. */
static void test_short_memories(void **state)
{
    static const size_t lengths[2] = {20, 0};
    (void)state;
    fixture f;
    open_fixture(&f, BRT_RING_F32, 2, 1, 50, 70, 30);
    for (size_t row = 0; row < 2; row++)
        f.begin[row] = f.how.end - lengths[row];
    run(&f, 2, true);
    for (size_t row = 0; row < 2; row++) {
        size_t unused = brt_routing_first_key(30, lengths[row]);
        float zero[dim] = {0}, key[dim];
        assert_int_equal(unused, 30 - lengths[row]);
        for (size_t i = 0; i < unused; i++)
            assert_memory_equal(zero, f.key + output_at(&f, row, 1, i), sizeof zero);
        assert_memory_equal(f.null_key + dim, f.key + output_at(&f, row, 1, unused), sizeof key);
        for (size_t i = 0; i < lengths[row]; i++) {
            brt_ring_copy(&f.ring, chosen_kernels(), &f.ring.key, row, 0, f.begin[row] + i, key);
            assert_memory_equal(key, f.key + output_at(&f, row, 1, unused + 1 + i), sizeof key);
        }
    }
    for (size_t i = 0; i < 2 * routes * dim; i++)
        assert_true(f.droute[i] == 0);
    close_fixture(&f);
}

/* One key among 250,000. */
static void test_planted_key(void **state)
{
    enum { planted = 123456 };
    (void)state;
    for (int type = BRT_RING_F32; type <= BRT_RING_INT8; type++) {
        fixture f;
        float value[dim];
        bool found = false;
        open_fixture(&f, (brt_ring_type)type, 1, 1, 250000, 250000, 64);
        brt_ring_copy(&f.ring, chosen_kernels(), &f.ring.key, 0, 1, planted, f.route + 3 * dim);
        brt_ring_copy(&f.ring, chosen_kernels(), &f.ring.value, 0, 1, planted, value);
        run(&f, 2, true);
        for (size_t i = 1; i <= 64; i++)
            found = found || memcmp(value, f.value + output_at(&f, 0, 3, i), sizeof value) == 0;
        assert_true(found);
        close_fixture(&f);
    }
}

static void test_threads(void **state)
{
    (void)state;
    for (int type = BRT_RING_F32; type <= BRT_RING_INT8; type++) {
        fixture one, more;
        open_fixture(&one, (brt_ring_type)type, 2, 2, 20000, 30000, 100);
        run(&one, 1, true);
        for (int threads = 2; threads <= 3; threads++) {
            open_fixture(&more, (brt_ring_type)type, 2, 2, 20000, 30000, 100);
            run(&more, threads, true);
            assert_memory_equal(one.key, more.key, one.count * sizeof(float));
            assert_memory_equal(one.value, more.value, one.count * sizeof(float));
            assert_memory_equal(one.droute, more.droute, 4 * routes * dim * sizeof(float));
            assert_memory_equal(one.dtemperature, more.dtemperature, sizeof one.dtemperature);
            assert_memory_equal(one.dnull_key, more.dnull_key, routes * dim * sizeof(float));
            close_fixture(&more);
        }
        close_fixture(&one);
    }
}

/* Drawn tokens stand in order, differ between readers, and are the same each time. */
static void test_random_choice(void **state)
{
    (void)state;
    fixture f, again;
    open_fixture(&f, BRT_RING_F32, 1, 2, 5000, 5000, 40);
    open_fixture(&again, BRT_RING_F32, 1, 2, 5000, 5000, 40);
    f.how.random = again.how.random = true;
    f.how.draw = again.how.draw = &(const uint64_t){17};
    run(&f, 2, true);
    again.route[0] += 1;
    run(&again, 1, false);
    assert_memory_equal(f.key, again.key, f.count * sizeof(float));
    assert_memory_not_equal(f.key, f.key + output_at(&f, 1, 0, 0), dim * 41 * sizeof(float));
    for (size_t i = 0; i < 2 * routes * dim; i++)
        assert_true(f.droute[i] == 0);
    close_fixture(&f);
    close_fixture(&again);
}

/* ---- exact recall --------------------------------------------------------------------------------------------- */

enum { recalls = 8, recall_heads = 4, asked = 3 }; /* heads of the queries; tokens that ask at once */

/* Products of a head's query with every key, as the formula has it: softmax over the largest and the null key. */
static void recall_plainly(const fixture *f, const float *query, size_t group, float scale, float *out)
{
    float (*key)[dim] = make(f->how.capacity * sizeof *key), value[dim];
    double *score = make(f->how.capacity * sizeof *score), weight, sum = 0;
    size_t n = (size_t)(f->how.end - f->begin[0]);
    for (size_t i = 0; i < n; i++) {
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.key, 0, group, f->begin[0] + i, key[i]);
        score[i] = product(query, key[i]);
    }
    memset(out, 0, dim * sizeof *out);
    for (size_t taken = 0; taken <= recalls; taken++) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            best = score[i] > score[best] ? i : best;
        brt_ring_copy(&f->ring, chosen_kernels(), &f->ring.value, 0, group, f->begin[0] + best, value);
        weight = exp((double)scale * score[best]);
        if (taken == recalls) {
            weight = exp((double)scale * product(query, f->null_key + group * dim));
            memcpy(value, f->null_value + group * dim, sizeof value);
        }
        score[best] = -(double)INFINITY;
        sum += weight;
        for (size_t d = 0; d < dim; d++)
            out[d] += (float)weight * value[d];
    }
    for (size_t d = 0; d < dim; d++)
        out[d] /= (float)sum;
    free(key);
    free(score);
}

/* out [asked, recall_heads, dim] of queries [heads, asked, recall_heads / heads, dim]. */
static void recall(fixture *f, const brt_ring *scan, const float *query, int threads, float *out)
{
    brt_tape *tape;
    brt_recall how = {.ring = &f->ring,
                      .scan = scan,
                      .capacity = f->how.capacity,
                      .begin = f->begin,
                      .end = f->how.end,
                      .tokens = recalls,
                      .scale = 0.8f};
    assert_ok(brt_tape_create(&tape, chosen_kernels(), threads));
    for (int running = 0; running < 2; running++) {
        brt_tensor *asking = brt_tape_external(tape, (float *)query, NULL,
                                               BRT_SHAPE(heads, asked, recall_heads / heads, dim));
        brt_heard heard =
            brt_op_recall(tape, asking, brt_tape_external(tape, f->null_key, NULL, BRT_SHAPE(heads, dim)),
                          brt_tape_external(tape, f->null_value, NULL, BRT_SHAPE(heads, dim)), &how, 1);
        if (running)
            memcpy(out, heard.out->data, heard.out->count * sizeof *out);
        else
            assert_ok(brt_tape_commit(tape));
    }
    brt_tape_close(tape);
}

static void check_recall(brt_ring_type type)
{
    fixture f;
    brt_ring scan;
    float *query = draw(recall_heads * asked * dim, 30, 1), found[2][asked * recall_heads * dim], expected[dim];
    open_fixture(&f, type, 1, 1, 20000, 30000, recalls);
    f.begin[0] += 1234;
    brt_ring_shape shape = f.ring.shape;
    shape.type = BRT_RING_INT8;
    shape.keys_only = true;
    assert_ok(brt_ring_create(&scan, &shape));
    float *raw = draw(30000 * 2 * heads * dim, 7, 1);
    for (size_t first = 0; first < 30000; first += shape.unit)
        brt_ring_append(&scan, chosen_kernels(), 1, raw + first * 2 * heads * dim);
    recall(&f, &scan, query, 1, found[0]);
    recall(&f, &scan, query, 3, found[1]);
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    for (size_t t = 0; t < asked; t++)
        for (size_t h = 0; h < recall_heads; h++) {
            size_t group = h * heads / recall_heads, in_group = h % (recall_heads / heads);
            recall_plainly(&f, query + ((group * asked + t) * (recall_heads / heads) + in_group) * dim, group, 0.8f,
                           expected);
            for (size_t d = 0; d < dim; d++)
                assert_true(fabsf(expected[d] - found[0][(t * recall_heads + h) * dim + d]) < 2e-6f);
        }
    free(raw);
    free(query);
    brt_ring_close(&scan);
    close_fixture(&f);
}

/* The scan in 8 bits loses none of the best. */
static void test_recall(void **state)
{
    (void)state;
    check_recall(BRT_RING_F32);
    check_recall(BRT_RING_BF16);
    check_recall(BRT_RING_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),           cmocka_unit_test(test_best_keys),   cmocka_unit_test(test_long_gradient),
        cmocka_unit_test(test_short_memories), cmocka_unit_test(test_planted_key), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_random_choice),  cmocka_unit_test(test_recall),
    };
    return cmocka_run_group_tests_name("routing", tests, NULL, NULL);
}
