/* The gradient of an operation against finite differences. A case is the operation's builder, the shapes of its inputs,
 * and its options. */
#ifndef BRT_TESTS_OPERATION_CHECK_H
#define BRT_TESTS_OPERATION_CHECK_H

#include "gradient_check.h"

#include "kernels/kernels.h"
#include "tensor/gemm.h"
#include "tensor/tape.h"

enum { most_inputs = 5, most_dims = 4 };

typedef struct input {
    const char *name;
    size_t shape[most_dims]; /* ends at the first 0; none at all: an optional input that is absent */
    bool detached;           /* wants no gradient */
} input;

typedef struct check check;
typedef void build(check *k, brt_tensor *const *in, const void *options);

typedef struct operation_case {
    const char *name;
    build *build;
    input inputs[most_inputs];
    const void *options;
} operation_case;

/* ---- a loss of an operation on a tape ------------------------------------------------------------------- */

struct check {
    const operation_case *c;
    brt_tape *tape;
    bool copied; /* the operation's inputs are activations, not parameters */
    real *x[most_inputs], *gradient[most_inputs];
    size_t dims[most_inputs], count[most_inputs];
    brt_matrix *matrix[most_inputs]; /* of inputs with two dimensions */
    real *packed[most_inputs]; /* their memory */
    uint64_t weighings;
    double loss;
};

/* Adds a fixed weighting of a tensor to the loss. */
typedef struct weighing {
    check *k;
    uint64_t stream;
    double weight; /* of all elements; 0: a random one for each */
} weighing;

static inline double weight_at(const weighing *w, size_t i)
{
    return w->weight != 0 ? w->weight : brt_rng_normal(4, w->stream, i);
}

static inline void weigh_forward(brt_tape *tape, brt_node *node)
{
    const weighing *w = node->attributes;
    (void)tape;
    for (size_t i = 0; i < node->in[0]->count; i++)
        w->k->loss += weight_at(w, i) * node->in[0]->data[i];
}

static inline void weigh_backward(brt_tape *tape, brt_node *node)
{
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    for (size_t i = 0; gradient.data && i < node->in[0]->count; i++)
        gradient.data[i] = weight_at(node->attributes, i);
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op weigh_op = {
    .name = "weigh", .forward = weigh_forward, .backward = weigh_backward, .starts_backward = true};

static inline void push_weighing(check *k, brt_tensor *y, double weight)
{
    weighing w = {k, k->weighings++, weight};
    brt_tape_push(k->tape, &(brt_node){.op = &weigh_op, .in = {y}, .attributes = &w}, sizeof w);
}

static inline void weigh(check *k, brt_tensor *y)
{
    push_weighing(k, y, 0);
}

static inline void copy_forward(brt_tape *tape, brt_node *node)
{
    (void)tape;
    memcpy(node->out[0]->data, node->in[0]->data, node->in[0]->count * sizeof(real));
}

static inline void copy_backward(brt_tape *tape, brt_node *node)
{
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    if (gradient.data)
        memcpy(gradient.data, node->out[0]->gradient, node->in[0]->count * sizeof(real));
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op copy_op = {.name = "copy", .forward = copy_forward, .backward = copy_backward};

static inline brt_tensor *copy(check *k, brt_tensor *x)
{
    brt_tensor *y = brt_tape_tensor(k->tape, x->dims, x->shape);
    brt_tape_push(k->tape, &(brt_node){.op = &copy_op, .in = {x}, .out = {y}}, 0);
    return y;
}

/* A parameter's gradient is added to; an activation's is overwritten by its first consumer. */
static inline brt_tensor *enter(check *k, size_t i)
{
    const input *in = &k->c->inputs[i];
    if (k->dims[i] == 0)
        return NULL;
    brt_tensor *x =
        brt_tape_external(k->tape, k->x[i], in->detached ? NULL : k->gradient[i], k->dims[i], in->shape);
    return k->copied ? copy(k, x) : x;
}

static inline double play(void *context)
{
    check *k = context;
    brt_tensor *in[most_inputs];
    k->loss = 0;
    k->weighings = 0;
    for (size_t i = 0; i < most_inputs; i++) {
        in[i] = enter(k, i);
        if (k->matrix[i])
            brt_matrix_refresh(k->matrix[i]);
    }
    k->c->build(k, in, k->c->options);
    if (brt_tape_recording(k->tape))
        brt_tape_backward(k->tape);
    else
        brt_tape_reset(k->tape);
    return k->loss;
}

/* ---- the check ------------------------------------------------------------------------------------------- */

static inline void open_input(check *k, const brt_kernels *kernels, size_t i)
{
    const input *in = &k->c->inputs[i];
    for (k->count[i] = 1; k->dims[i] < most_dims && in->shape[k->dims[i]]; k->dims[i]++)
        k->count[i] *= in->shape[k->dims[i]];
    k->x[i] = draw(k->count[i], i);
    k->gradient[i] = zeros(k->count[i]);
    if (k->dims[i] == 2) {
        assert_ok(brt_matrix_create(&k->matrix[i], kernels, in->shape[0], in->shape[1], k->x[i]));
        k->packed[i] = zeros(brt_matrix_enabling_bytes(k->matrix[i], false, true) / sizeof(real));
        assert_ok(brt_matrix_enable(k->matrix[i], false, true, k->packed[i]));
    }
}

/* Plans both ways to play: with a backward pass, and for the loss alone. */
static inline void open_check(check *k, const operation_case *c, bool copied)
{
    const brt_kernels *kernels;
    *k = (check){.c = c, .copied = copied};
    assert_ok(brt_kernels_select(&kernels));
    for (size_t i = 0; i < most_inputs; i++)
        open_input(k, kernels, i);
    assert_ok(brt_tape_create(&k->tape, kernels, 1));
    brt_tape_record(k->tape, true);
    play(k);
    brt_tape_record(k->tape, false);
    play(k);
    assert_ok(brt_tape_commit(k->tape));
}

static inline void close_check(check *k)
{
    assert_ok(brt_tape_status(k->tape));
    brt_tape_close(k->tape);
    for (size_t i = 0; i < most_inputs; i++) {
        brt_matrix_close(k->matrix[i]);
        free(k->packed[i]);
        free(k->x[i]);
        free(k->gradient[i]);
    }
}

/* Two passes, the second in the memory that the first has used: their gradients add up. */
static inline void compute_gradients(check *k)
{
    brt_tape_record(k->tape, true);
    play(k);
    double loss = play(k);
    brt_tape_record(k->tape, false);
    assert_true(fabs(play(k) - loss) <= 1e-12 * (1 + fabs(loss)));
    for (size_t i = 0; i < most_inputs; i++)
        for (size_t j = 0; j < k->count[i]; j++)
            k->gradient[i][j] /= 2;
}

static inline void check_operation(void **state)
{
    for (int copied = 0; copied <= 1; copied++) {
        check k;
        open_check(&k, *state, copied);
        compute_gradients(&k);
        for (size_t i = 0; i < most_inputs; i++)
            if (k.dims[i] > 0 && !k.c->inputs[i].detached)
                expect_gradient(&(variable){k.c->inputs[i].name, k.x[i], k.gradient[i], k.count[i], play, &k});
        close_check(&k);
    }
}

static inline int check_operations(const char *name, const operation_case *cases, size_t count)
{
    struct CMUnitTest *tests = calloc(count, sizeof *tests);
    assert_non_null(tests);
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){cases[i].name, check_operation, NULL, NULL, (void *)&cases[i]};
    int failed = _cmocka_run_group_tests(name, tests, count, NULL, NULL);
    free(tests);
    return failed;
}

/* ---- writing cases -------------------------------------------------------------------------------------- */

#define OPTIONS(type, ...) &(const type){__VA_ARGS__}
#define INPUT(name, ...) {name, {__VA_ARGS__}, false}
#define DETACHED(name, ...) {name, {__VA_ARGS__}, true}

#endif
