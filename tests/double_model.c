/* The gradient of every parameter of a model, over a segment of several blocks, against finite differences. */
#include "gradient_check.h"
#include "variants.h"

#include "train/segment.h"

enum { rows = 2, width = 5, most_width = 8, most_blocks = 3, num_tokens = 11 };

static const double weight = 0.3;

typedef struct model_case {
    const char *name;
    size_t time; /* of the segment */
    const char *recurrent_layers, *read_recurrent_layers, *all_layers_qk_rmsnorm;
    const char *compressed_mem_factor; /* NULL: no compressed memory */
} model_case;

/* All of two layers. */
static const model_case cases[] = {
    {"three blocks, a state read before it is written", 3 * width, "[2]", "[1]", "false", NULL},
    {"a short last block, every layer normalised", 3 * width - 2, "[2]", "[1]", "true", NULL},
    {"two states, one reader", 2 * width, "[1, 2]", "[1, 1]", "false", NULL},
    {"no state", 2 * width, "[]", "[]", "true", NULL},
    {"compressed memory", 3 * width - 1, "[2]", "[1]", "false", "2"},
};
enum { case_count = sizeof cases / sizeof cases[0] };

/* ---- a segment ------------------------------------------------------------------------------------------- */

typedef struct fixture {
    brt_model *model;
    brt_carry carry;
    brt_tape *tape;
    brt_segment_run run;
    real *carried;  /* what the segment finds in carry.storage */
    real *gradient; /* of all parameters, where `memory` has their values */
    int32_t tokens[rows * most_blocks * most_width], targets[rows * most_blocks * most_width];
    uint64_t past[rows];
    size_t first_key[most_blocks * rows], first_old[most_blocks * rows], chosen_first_key[most_blocks * rows * width];
    uint64_t begin[most_blocks * rows], draw[most_blocks * rows];
    size_t offset[most_blocks * rows];
    bool fresh[2 * rows];
} fixture;

static brt_model *make_model(const model_case *c)
{
    const char *const keys[][2] = {
        {"num_tokens", "11"},
        {"dim", "10"},
        {"depth", "2"},
        {"dim_head", "4"},
        {"heads", "3"},
        {"max_seq_len", "15"},
        {"block_width", "5"},
        {"num_state_vectors", "3"},
        {"recurrent_layers", c->recurrent_layers},
        {"read_recurrent_layers", c->read_recurrent_layers},
        {"all_layers_qk_rmsnorm", c->all_layers_qk_rmsnorm},
    };
    brt_config *config;
    brt_model *model;
    assert_ok(brt_config_create(&config));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_ok(brt_config_set(config, keys[i][0], keys[i][1]));
    if (c->compressed_mem_factor) {
        assert_ok(brt_config_set(config, "use_compressed_mem", "true"));
        assert_ok(brt_config_set(config, "compressed_mem_factor", c->compressed_mem_factor));
    }
    assert_ok(brt_model_create(&model, config, 1));
    brt_config_close(config);
    return model;
}

/* Away from the initial values, where gains are all 1 and a mix-up of two would not show. */
static void perturb(const brt_parameters *parameters)
{
    for (size_t i = 0; i < parameters->total; i++)
        parameters->memory[i] += 0.2 * brt_rng_normal(6, 0, i);
}

static void want_gradients(fixture *f)
{
    const brt_parameters *parameters = &f->model->parameters;
    f->gradient = zeros(parameters->total);
    for (size_t i = 0; i < parameters->count; i++) {
        brt_tensor *tensor = &parameters->items[i].tensor;
        tensor->gradient = f->gradient + (tensor->data - parameters->memory);
        tensor->wants_gradient = tensor->has_gradient = true;
    }
    assert_ok(brt_parameters_enable(parameters, false, true));
}

/* Every third target is ignored. */
static void draw_tokens(fixture *f)
{
    for (size_t i = 0; i < rows * most_blocks * most_width; i++) {
        f->tokens[i] = (int32_t)brt_rng_below(7, 0, i, num_tokens);
        f->targets[i] = i % 3 == 1 ? -100 : (int32_t)brt_rng_below(7, 1, i, num_tokens);
    }
}

/* Routed memories of two blocks. */
static void fill_rings(fixture *f)
{
    const brt_config *config = &f->model->config;
    real *raw = draw(rows * (size_t)config->block_width * brt_carried_raw_width(config), 9);
    for (size_t i = 0; i < f->model->routed; i++) {
        f->carry.rings[i].end = 0;
        brt_ring_append(&f->carry.rings[i], f->model->kernels, 1, raw);
        brt_ring_append(&f->carry.rings[i], f->model->kernels, 1, raw);
    }
    free(raw);
}

/* The first row starts without memory but with a carried state, the second one with memory and the initial state. */
static void enter_segment(fixture *f)
{
    memcpy(f->carry.storage, f->carried, f->carry.count * sizeof *f->carried);
    for (size_t row = 0; row < rows; row++)
        f->carry.past[row] = 1;
    fill_rings(f);
}

static double play(void *context)
{
    fixture *f = context;
    brt_parameters_refresh(&f->model->parameters, 1);
    enter_segment(f);
    assert_ok(brt_segment_execute(f->tape, &f->run));
    return weight * f->run.loss;
}

/* Plans both ways to play: with a backward pass, and for the loss alone. */
static void plan(fixture *f)
{
    assert_ok(brt_tape_create(&f->tape, f->model->kernels, 1));
    brt_tape_record(f->tape, true);
    play(f);
    brt_tape_record(f->tape, false);
    play(f);
    assert_ok(brt_tape_commit(f->tape));
}

/* All that is remembered is chosen, and all tokens: otherwise the loss jumps where the choice changes, and the gradient
 * is that of weights which it does not have (double_routing.c has it). Attention to it is dulled, for differences of
 * this size to be those of a smooth function. */
static void choose_everything(fixture *f)
{
    for (size_t i = 0; i < f->model->routed; i++) {
        brt_tensor *q_scale = f->model->routers[i].q_scale;
        for (size_t d = 0; d < q_scale->count; d++)
            q_scale->data[d] /= 4;
        f->model->routers[i].tokens = 64;
    }
    f->model->config.routed_tokens = 64;
    for (size_t i = 0; i < f->model->depth; i++)
        f->model->layers[i].conditional.tokens = f->model->layers[i].conditional.width;
}

static void open_fixture(fixture *f, brt_model *model, size_t time, double reconstruction_weight)
{
    static const bool drop_memory[rows] = {true, false}, drop_state[rows] = {false, true};
    *f = (fixture){.model = model};
    perturb(&f->model->parameters);
    want_gradients(f);
    draw_tokens(f);
    assert_ok(brt_carry_create(&f->carry, f->model, rows, 0));
    f->carried = draw(f->carry.count, 8);
    choose_everything(f);
    f->run = (brt_segment_run){.model = f->model,
                               .carry = &f->carry,
                               .time = time,
                               .tokens = f->tokens,
                               .targets = f->targets,
                               .drop_memory = drop_memory,
                               .drop_state = drop_state,
                               .past = f->past,
                               .first_key = f->first_key,
                               .first_old = f->first_old,
                               .begin = f->begin,
                               .draw = f->draw,
                               .chosen_first_key = f->chosen_first_key,
                               .offset = f->offset,
                               .fresh = f->fresh,
                               .weight = weight,
                               .reconstruction_weight = reconstruction_weight};
    plan(f);
}

static void close_fixture(fixture *f)
{
    brt_tape_close(f->tape);
    brt_carry_close(&f->carry);
    brt_model_close(f->model);
    free(f->carried);
    free(f->gradient);
}

/* Two passes, the second in the memory that the first has used: their gradients add up. */
static double compute_gradients(fixture *f)
{
    brt_tape_record(f->tape, true);
    play(f);
    double loss = play(f);
    brt_tape_record(f->tape, false);
    for (size_t i = 0; i < f->model->parameters.total; i++)
        f->gradient[i] /= 2;
    return loss;
}

/* ---- tests ----------------------------------------------------------------------------------------------- */

/* Of every parameter; frees the model. */
static void expect_model_gradients(const char *name, brt_model *model, size_t time)
{
    fixture f;
    open_fixture(&f, model, time, 0);
    compute_gradients(&f);
    for (size_t i = 0; i < f.model->parameters.count; i++) {
        brt_parameter *parameter = &f.model->parameters.items[i];
        char text[1200];
        snprintf(text, sizeof text, "%s in %s", parameter->name, name);
        expect_gradient(&(variable){text, parameter->tensor.data, parameter->tensor.gradient,
                                    parameter->tensor.count, play, &f});
    }
    close_fixture(&f);
}

static void check_gradients(void **state)
{
    const model_case *c = *state;
    expect_model_gradients(c->name, make_model(c), c->time);
}

static void check_some(const char *arithmetic)
{
    enum { wanted = 12, most_drawn = 30 * wanted };
    size_t checked = 0;
    for (uint64_t seed = 1; checked < wanted; seed++) {
        char name[1024];
        brt_model *model;
        assert_true(seed < most_drawn);
        if (!make_variant(arithmetic, seed, &model, name, sizeof name))
            continue;
        /* In the third block a routed memory holds keys that depend on the weights, without a gradient. */
        expect_model_gradients(name, model, 2 * most_width + (model->routed ? 0 : most_width / 2));
        checked++;
    }
}

static void check_variants(void **state)
{
    (void)state;
    for (size_t i = 0; i < variant_arithmetic_count; i++)
        check_some(variant_arithmetics[i]);
}

/* With and without a backward pass a segment has the same loss and leaves the same behind. */
static void check_carry(void **state)
{
    fixture f;
    (void)state;
    open_fixture(&f, make_model(&cases[0]), cases[0].time, 0);
    double loss = compute_gradients(&f);
    real *left = zeros(f.carry.count);
    memcpy(left, f.carry.storage, f.carry.count * sizeof *left);
    assert_true(fabs(play(&f) - loss) <= 1e-12 * loss);
    for (size_t i = 0; i < f.carry.count; i++)
        assert_true(fabs(f.carry.storage[i] - left[i]) <= 1e-12 * (1 + fabs(left[i])));
    for (size_t row = 0; row < rows; row++)
        assert_int_equal(f.carry.past[row], (row != 0) + cases[0].time / width);
    free(left);
    close_fixture(&f);
}

static void expect_writer_gradients(size_t time, bool some)
{
    static const char *const writers[] = {
        "learned_ema_beta",           "q_from_state.weight",           "state_to_q.weight",
        "to_state_out.weight",        "state_self_attn.q_scale",       "state_self_attn.k_scale",
        "state_out_to_gate.weight",   "from_state_cross_attn.q_scale", "from_state_cross_attn.k_scale",
        "state_out_to_gate.bias",
    };
    fixture f;
    open_fixture(&f, make_model(&cases[0]), time, 0);
    compute_gradients(&f);
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++) {
        const brt_parameter *found =
            brt_parameters_find(&f.model->parameters, "layers.1.0.state_container.%s", writers[i]);
        assert_non_null(found);
        const brt_tensor *tensor = &found->tensor;
        if ((dot(tensor->count, tensor->gradient, tensor->gradient) > 0) != some)
            fail_msg("%s has %s gradient after %zu tokens", found->name, some ? "no" : "a", time);
    }
    close_fixture(&f);
}

/* A state is read in the block after the one that wrote it. */
static void check_writers(void **state)
{
    (void)state;
    expect_writer_gradients(width, false);
    expect_writer_gradients(width + 1, true);
    expect_writer_gradients(2 * width, true);
}

/* ---- the reconstruction loss -------------------------------------------------------------------------------- */

static const model_case compressed = {"compressed memory", 0, "[2]", "[1]", "true", "2"};

static bool is_compressor(const brt_parameter *parameter)
{
    return strncmp(parameter->name, "mem_manager.", strlen("mem_manager.")) == 0;
}

/* With the backward pass, which alone has this loss; what that adds to the gradients is for nobody. */
static double play_reconstruction(void *context)
{
    fixture *f = context;
    brt_tape_record(f->tape, true);
    play(f);
    brt_tape_record(f->tape, false);
    return f->run.reconstruction_weight * f->run.reconstruction;
}

/* In one block, whose tokens do not read what its window becomes: of rows with a window. */
static void check_reconstruction(void **state)
{
    fixture f;
    (void)state;
    open_fixture(&f, make_model(&compressed), width, 0.7);
    compute_gradients(&f);
    assert_int_equal(f.run.compressions, 2);
    real *gradient = zeros(f.model->parameters.total);
    memcpy(gradient, f.gradient, f.model->parameters.total * sizeof *gradient);
    for (size_t i = 0; i < f.model->parameters.count; i++) {
        brt_parameter *p = &f.model->parameters.items[i];
        if (!is_compressor(p))
            continue;
        const real *own = gradient + (p->tensor.data - f.model->parameters.memory);
        assert_true(dot(p->tensor.count, own, own) > 0);
        expect_gradient(&(variable){p->name, p->tensor.data, own, p->tensor.count, play_reconstruction, &f});
    }
    free(gradient);
    close_fixture(&f);
}

/* In several blocks all else is constant to it: other gradients are as they are without. */
static void check_constants(void **state)
{
    fixture with, without;
    (void)state;
    open_fixture(&with, make_model(&compressed), 3 * width, 0.7);
    open_fixture(&without, make_model(&compressed), 3 * width, 0);
    compute_gradients(&with);
    compute_gradients(&without);
    for (size_t i = 0; i < with.model->parameters.count; i++) {
        const brt_parameter *p = &with.model->parameters.items[i];
        const real *other = without.model->parameters.items[i].tensor.gradient;
        bool same = memcmp(p->tensor.gradient, other, p->tensor.count * sizeof *other) == 0;
        if (same == is_compressor(p))
            fail_msg("the reconstruction loss %s the gradient of %s", same ? "does not change" : "changes", p->name);
    }
    close_fixture(&with);
    close_fixture(&without);
}

int main(void)
{
    enum { others = 5 };
    struct CMUnitTest tests[others + case_count] = {
        cmocka_unit_test(check_carry),    cmocka_unit_test(check_writers),   cmocka_unit_test(check_reconstruction),
        cmocka_unit_test(check_constants), cmocka_unit_test(check_variants),
    };
    for (size_t i = 0; i < case_count; i++)
        tests[others + i] = (struct CMUnitTest){cases[i].name, check_gradients, NULL, NULL, (void *)&cases[i]};
    return cmocka_run_group_tests_name("double model", tests, NULL, NULL);
}
