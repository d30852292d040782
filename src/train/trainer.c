#include "trainer_state.h"

#include "../base/clock.h"
#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/rng.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Random streams of the trainer's seed. */
enum { memory_dropout_stream = 1, state_dropout_stream = 2 };

brt_trainer_options brt_trainer_options_init(void)
{
    return (brt_trainer_options){
        .size = sizeof(brt_trainer_options),
        .rows = 4,
        .segment_blocks = 8,
        .dtype = "f32",
        .optimizer = "adamw",
        .learning_rate = 1e-3f,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .weight_decay = 0.01f,
        .clip = 0.5f,
        .xl_memories_dropout = 0.1f,
        .state_dropout = 0.1f,
    };
}

/* ---- checking and measuring ------------------------------------------------------------------------------- */

static bool is_probability(float value)
{
    return value >= 0 && value <= 1;
}

static brt_status check_options(const brt_trainer_options *options)
{
    if (options->size != sizeof *options)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "trainer options must be made with brt_trainer_options_init");
    if (options->rows < 1 || options->rows > 1 << 20)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "batch is %zu rows; it must lie between 1 and %d", options->rows, 1 << 20);
    if (options->segment_blocks < 1 || options->segment_blocks > 1 << 20)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "segment_blocks is %zu; it must lie between 1 and %d",
                        options->segment_blocks, 1 << 20);
    if (strcmp(options->dtype, "f32") != 0 && strcmp(options->dtype, "bf16") != 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no dtype \"%s\" of products; there are f32 and bf16",
                        options->dtype);
    if (!brt_method_find(options->optimizer))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no optimizer \"%s\"; there are adamw, adam and adafactor",
                        options->optimizer);
    if (strcmp(options->optimizer, "adamw") != 0 && options->weight_decay != 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "weight_decay is %g with the optimizer %s; use adamw for it",
                        (double)options->weight_decay, options->optimizer);
    if (!is_probability(options->xl_memories_dropout) || !is_probability(options->state_dropout))
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "the dropouts of memories and states must lie between 0 and 1, not %g and %g",
                        (double)options->xl_memories_dropout, (double)options->state_dropout);
    if (!(options->dropout >= 0 && options->dropout < 1 && options->attention_dropout >= 0 &&
          options->attention_dropout < 1))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "dropout and attention_dropout must lie in [0, 1), not %g and %g",
                        (double)options->dropout, (double)options->attention_dropout);
    if (!(options->beta1 >= 0 && options->beta1 < 1 && options->beta2 >= 0 && options->beta2 < 1))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "beta1 and beta2 must lie in [0, 1), not %g and %g",
                        (double)options->beta1, (double)options->beta2);
    if (!(options->clip >= 0 && options->epsilon > 0 && options->weight_decay >= 0 &&
          options->reconstruction_weight >= 0))
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "clip, weight_decay and reconstruction_weight must not be negative, epsilon must be positive");
    return BRT_OK;
}

static size_t segment_time(const brt_trainer *trainer)
{
    return trainer->options.segment_blocks * (size_t)trainer->model->config.block_width;
}

static bool uses_bf16(const brt_trainer_options *options)
{
    return strcmp(options->dtype, "bf16") == 0;
}

/* A segment that is run again reads routed memories as they were. */
static size_t kept_blocks(const brt_trainer *trainer)
{
    return trainer->options.recompute ? trainer->options.segment_blocks : 0;
}

static bool drops_activations(const brt_trainer_options *options)
{
    return options->dropout > 0 || options->attention_dropout > 0;
}

static brt_segment_run make_run(brt_trainer *trainer, bool training)
{
    bool drops = training && drops_activations(&trainer->options);
    return (brt_segment_run){.model = trainer->model,
                             .carry = &trainer->carry,
                             .replay = trainer->options.recompute ? &trainer->replay : NULL,
                             .time = segment_time(trainer),
                             .tokens = trainer->tokens,
                             .targets = trainer->targets,
                             .drop_memory = trainer->drop_memory,
                             .drop_state = trainer->drop_state,
                             .past = trainer->past,
                             .first_key = trainer->first_key,
                             .first_old = trainer->first_old,
                             .reconstruction_weight = (real)trainer->options.reconstruction_weight,
                             .begin = trainer->begin,
                             .draw = trainer->draw,
                             .chosen_first_key = trainer->chosen_first_key,
                             .offset = trainer->offset,
                             .fresh = trainer->fresh,
                             .dropouts = drops ? &trainer->dropouts : NULL};
}

/* Plans a whole segment, without memory: the tape then knows its peak. */
static brt_status plan(brt_trainer *trainer, bool recording, brt_tape **out)
{
    BRT_TRY(brt_tape_create(out, trainer->model->kernels, trainer->options.threads));
    brt_tape_record(*out, recording);
    if (uses_bf16(&trainer->options))
        brt_tape_use_bf16(*out);
    brt_segment_run run = make_run(trainer, recording);
    return brt_segment_execute(*out, &run);
}

/* Blocks times layers: planning takes some 10 KB and 100 microseconds for each. */
enum { most_planned = 1 << 17 };

static brt_status check_length(const brt_trainer *trainer)
{
    size_t blocks = trainer->options.segment_blocks, depth = trainer->model->depth, most = most_planned / depth;
    if (blocks <= most)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_ARGUMENT, "segment_blocks is %zu; with %zu layers it must be at most %zu", blocks, depth,
                    most);
}

static brt_status allocate_rows(brt_trainer *trainer)
{
    size_t rows = trainer->options.rows, tokens;
    if (!brt_mul_ok(rows, segment_time(trainer), &tokens) || tokens > INT32_MAX)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a batch of %zu rows of %zu tokens is too large", rows,
                        segment_time(trainer));
    trainer->tokens = calloc(tokens, sizeof *trainer->tokens);
    trainer->targets = calloc(tokens, sizeof *trainer->targets);
    trainer->drop_memory = calloc(rows, sizeof *trainer->drop_memory);
    trainer->drop_state = calloc(rows, sizeof *trainer->drop_state);
    trainer->fresh = calloc(2 * rows, sizeof *trainer->fresh);
    trainer->past = calloc(rows, sizeof *trainer->past);
    size_t row_blocks = trainer->options.segment_blocks * rows, parts = 1;
    if (trainer->model->routed)
        parts = brt_router_parts(trainer->model->routers, (size_t)trainer->model->config.block_width);
    trainer->first_key = calloc(row_blocks, sizeof *trainer->first_key);
    trainer->first_old = calloc(row_blocks, sizeof *trainer->first_old);
    trainer->begin = calloc(row_blocks, sizeof *trainer->begin);
    trainer->draw = calloc(row_blocks, sizeof *trainer->draw);
    trainer->chosen_first_key = calloc(row_blocks * parts, sizeof *trainer->chosen_first_key);
    trainer->offset = calloc(row_blocks, sizeof *trainer->offset);
    if (!trainer->tokens || !trainer->targets || !trainer->drop_memory || !trainer->drop_state || !trainer->fresh ||
        !trainer->past || !trainer->first_key || !trainer->first_old || !trainer->begin || !trainer->draw ||
        !trainer->chosen_first_key || !trainer->offset)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a batch of %zu rows", rows);
    return BRT_OK;
}

static brt_status check_reconstruction(const brt_model *model, const brt_trainer_options *options)
{
    if (options->reconstruction_weight == 0 || brt_config_learns_compression(&model->config))
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_ARGUMENT,
                    "reconstruction_weight is %g, but this model has nothing that learns to compress: it needs "
                    "\"use_compressed_mem\" with a factor above 1 and the compression convolution or dilated",
                    (double)options->reconstruction_weight);
}

static brt_status check_precision(const brt_model *model)
{
    const brt_parameter *quantized = brt_parameters_quantized(&model->parameters);
    if (!quantized)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_UNSUPPORTED,
                    "this model cannot be trained: \"%s\" is held in %s, whose steps are larger than most updates, "
                    "which would be lost; train the f32 model it was made from, or quantize it to f32 first",
                    quantized->name, brt_precision_name(quantized->precision));
}

/* A trainer whose tape is planned but holds no memory. Without gradients the plan would record nothing, so the
 * parameters want theirs from here on. */
static brt_status create(brt_trainer **out, brt_model *model, const brt_trainer_options *options)
{
    BRT_TRY(check_options(options));
    BRT_TRY(check_precision(model));
    if (drops_activations(options) && model->config.arithmetic != BRT_ARITHMETIC_PAPER)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "dropout is %g and attention_dropout %g; they are of the paper's "
                                            "arithmetic, the reference's drops memories and states only",
                        (double)options->dropout, (double)options->attention_dropout);
    BRT_TRY(check_reconstruction(model, options));
    if (model->parameters.items[0].tensor.gradient)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "the model has a trainer already; close that one first");
    brt_trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a trainer");
    *out = trainer;
    trainer->model = model;
    trainer->options = *options;
    trainer->dropouts = (brt_dropouts){.rate = (double)options->dropout,
                                       .attention_rate = (double)options->attention_dropout,
                                       .seed = options->seed};
    trainer->options.dtype = uses_bf16(options) ? "bf16" : "f32"; /* the caller's string may go */
    BRT_TRY(brt_count_threads(options->threads, &trainer->options.threads));
    BRT_TRY(check_length(trainer));
    BRT_TRY(allocate_rows(trainer));
    BRT_TRY(brt_carry_create(&trainer->carry, model, options->rows, kept_blocks(trainer)));
    if (options->recompute)
        BRT_TRY(brt_replay_create(&trainer->replay, &trainer->carry, options->segment_blocks));
    for (size_t i = 0; i < model->parameters.count; i++)
        model->parameters.items[i].tensor.wants_gradient = model->parameters.items[i].tensor.has_gradient = true;
    return plan(trainer, true, &trainer->record);
}

static uint64_t optimizer_bytes(const brt_trainer *trainer)
{
    return brt_optimizer_bytes(brt_method_find(trainer->options.optimizer), &trainer->model->parameters);
}

static uint64_t bytes_of(const brt_trainer *trainer)
{
    return brt_tape_bytes(trainer->record) + optimizer_bytes(trainer) +
           brt_parameters_enabling_bytes(&trainer->model->parameters, uses_bf16(&trainer->options), true) +
           2 * trainer->carry.count * sizeof(real) +
           brt_routed_bytes(&trainer->model->config, trainer->options.rows, kept_blocks(trainer)) +
           (trainer->options.recompute ? brt_replay_bytes(&trainer->carry, trainer->options.segment_blocks) : 0);
}

static void stop_wanting(const brt_model *model)
{
    for (size_t i = 0; i < model->parameters.count; i++)
        model->parameters.items[i].tensor.wants_gradient = model->parameters.items[i].tensor.has_gradient = false;
}

brt_status brt_trainer_measure(const brt_model *model, const brt_trainer_options *options, uint64_t *bytes)
{
    brt_trainer *trainer = NULL;
    brt_status status = create(&trainer, (brt_model *)model, options);
    if (status == BRT_OK)
        *bytes = bytes_of(trainer);
    brt_trainer_close(trainer);
    return status;
}

static brt_status check_memory(const brt_trainer *trainer)
{
    uint64_t needed = bytes_of(trainer), limit = trainer->options.memory_limit;
    uint64_t available = limit ? limit : brt_available_memory();
    const double megabyte = 1e6;
    if (needed > available)
        return BRT_FAIL(BRT_ERROR_MEMORY,
                        "training needs %.1f MB (%.1f of activations for %zu rows of %zu tokens, %.1f of gradients and "
                        "moments), %.1f MB are available; use a smaller batch, fewer segment_blocks or a smaller model",
                        (double)needed / megabyte, (double)brt_tape_bytes(trainer->record) / megabyte,
                        trainer->options.rows, segment_time(trainer),
                        (double)optimizer_bytes(trainer) / megabyte,
                        (double)available / megabyte);
    return BRT_OK;
}

static brt_status finish(brt_trainer *trainer)
{
    const brt_trainer_options *options = &trainer->options;
    BRT_TRY(check_memory(trainer));
    BRT_TRY(brt_optimizer_create(&trainer->optimizer, brt_method_find(options->optimizer), trainer->model->kernels,
                                 &trainer->model->parameters, options->threads));
    trainer->optimizer.beta1 = options->beta1;
    trainer->optimizer.beta2 = options->beta2;
    trainer->optimizer.epsilon = options->epsilon;
    trainer->optimizer.weight_decay = options->weight_decay;
    trainer->optimizer.clip = options->clip;
    BRT_TRY(brt_parameters_enable(&trainer->model->parameters, uses_bf16(options), true));
    BRT_TRY(brt_tape_commit(trainer->record));
    if (options->profile)
        brt_tape_take_times(trainer->record);
    return BRT_OK;
}

brt_status brt_trainer_open(brt_trainer **out, brt_model *model, const brt_trainer_options *options)
{
    brt_trainer *trainer = NULL;
    brt_status status = create(&trainer, model, options);
    if (status == BRT_OK)
        status = finish(trainer);
    if (status != BRT_OK) {
        brt_trainer_close(trainer);
        return status;
    }
    *out = trainer;
    return BRT_OK;
}

void brt_trainer_close(brt_trainer *trainer)
{
    if (!trainer)
        return;
    brt_tape_close(trainer->record);
    brt_tape_close(trainer->evaluate);
    brt_optimizer_close(&trainer->optimizer);
    stop_wanting(trainer->model);
    brt_replay_close(&trainer->replay);
    brt_carry_close(&trainer->carry);
    free(trainer->tokens);
    free(trainer->targets);
    free(trainer->drop_memory);
    free(trainer->drop_state);
    free(trainer->fresh);
    free(trainer->past);
    free(trainer->first_key);
    free(trainer->first_old);
    free(trainer->begin);
    free(trainer->draw);
    free(trainer->chosen_first_key);
    free(trainer->offset);
    free(trainer);
}

/* ---- segments ------------------------------------------------------------------------------------------------ */

static bool draw(const brt_trainer *trainer, uint64_t stream, float probability, size_t row)
{
    uint64_t index = trainer->segments * trainer->options.rows + row;
    return probability > 0 && brt_rng_uniform(trainer->options.seed, stream, index) < (double)probability;
}

static void draw_dropouts(brt_trainer *trainer, const brt_segment *segment)
{
    const brt_trainer_options *options = &trainer->options;
    for (size_t row = 0; row < options->rows; row++) {
        if (segment->reset && segment->reset[row])
            brt_carry_clear_row(&trainer->carry, row);
        bool training = !segment->forward_only;
        trainer->drop_memory[row] = training && draw(trainer, memory_dropout_stream, options->xl_memories_dropout, row);
        trainer->drop_state[row] = training && draw(trainer, state_dropout_stream, options->state_dropout, row);
    }
    trainer->dropouts.segment = trainer->segments;
    trainer->segments += !segment->forward_only;
}

/* Of the i-th target of [rows, time]. In the paper's arithmetic what follows padding has no loss, either. */
static bool has_loss(const brt_trainer *trainer, const brt_segment *segment, size_t i)
{
    const brt_config *config = &trainer->model->config;
    bool follows_padding = config->arithmetic == BRT_ARITHMETIC_PAPER && segment->tokens[i] == config->ignore_index;
    bool skipped = trainer->options.skip_last_target && !segment->forward_only && (i + 1) % segment->time == 0;
    return segment->targets[i] != config->ignore_index && !follows_padding && !skipped;
}

static brt_status check_targets(const brt_trainer *trainer, const brt_segment *segment, uint64_t *counted)
{
    const brt_config *config = &trainer->model->config;
    *counted = 0;
    for (size_t i = 0; i < trainer->options.rows * segment->time; i++) {
        int32_t target = segment->targets[i];
        if (!has_loss(trainer, segment, i))
            continue;
        if (target < 0 || target >= config->num_tokens)
            return BRT_FAIL(BRT_ERROR_ARGUMENT,
                            "target %d at position %zu is neither in the vocabulary (0 to %lld) nor ignore_index "
                            "(%lld)",
                            target, i, (long long)config->num_tokens - 1, (long long)config->ignore_index);
        ++*counted;
    }
    return BRT_OK;
}

static brt_status check_segment(const brt_trainer *trainer, const brt_segment *segment, uint64_t *counted)
{
    if (segment->time < 1 || segment->time > segment_time(trainer))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a segment has %zu tokens per row; it must have 1 to %zu", segment->time,
                        segment_time(trainer));
    BRT_TRY(brt_model_check_tokens(trainer->model, segment->tokens, trainer->options.rows * segment->time));
    return check_targets(trainer, segment, counted);
}

/* Tokens, and the targets that have a loss: [rows, time] -> blocks of [rows, block time] */
static void arrange(brt_trainer *trainer, const brt_segment *segment)
{
    const brt_config *config = &trainer->model->config;
    size_t width = (size_t)config->block_width, rows = trainer->options.rows, time = segment->time;
    for (size_t i = 0; i < rows * time; i++) {
        size_t row = i / time, first = i % time / width * width, part = brt_min_size(width, time - first);
        size_t to = first * rows + row * part + i % time - first;
        trainer->tokens[to] = segment->tokens[i];
        trainer->targets[to] = has_loss(trainer, segment, i) ? segment->targets[i] : (int32_t)config->ignore_index;
    }
}

/* The tape for the segment: one for backward, one for forward only. */
static brt_status get_tape(brt_trainer *trainer, bool forward_only, brt_tape **out)
{
    if (forward_only && !trainer->evaluate) {
        brt_status status = plan(trainer, false, &trainer->evaluate);
        if (status == BRT_OK)
            status = brt_tape_commit(trainer->evaluate);
        if (status != BRT_OK) {
            brt_tape_close(trainer->evaluate);
            trainer->evaluate = NULL;
            return status;
        }
    }
    *out = forward_only ? trainer->evaluate : trainer->record;
    return BRT_OK;
}

brt_status brt_trainer_segment(brt_trainer *trainer, const brt_segment *segment, double *loss, uint64_t *count)
{
    uint64_t counted;
    brt_tape *tape;
    BRT_TRY(check_segment(trainer, segment, &counted));
    BRT_TRY(get_tape(trainer, segment->forward_only, &tape));
    draw_dropouts(trainer, segment);
    arrange(trainer, segment);
    brt_segment_run run = make_run(trainer, !segment->forward_only);
    run.time = segment->time;
    run.weight = (real)((double)segment->weight / (double)(trainer->options.summed_loss || !counted ? 1 : counted));
    /* Its share of the whole loss, whether that is a mean or a sum over the targets. */
    run.reconstruction_weight = (real)trainer->options.reconstruction_weight * run.weight * (real)counted;
    run.logits = segment->logits;
    BRT_TRY(brt_segment_execute(tape, &run));
    if (!segment->forward_only)
        trainer->reconstruction = run.reconstruction;
    *loss = counted ? run.loss / (double)counted : 0;
    if (count)
        *count = counted;
    return BRT_OK;
}

/* Adds the time since *start, which becomes now, to a part's. */
static void take_time(brt_trainer *trainer, brt_update_part part, double *start)
{
    double now = brt_seconds();
    trainer->update_seconds[part] += now - *start;
    *start = now;
}

brt_status brt_trainer_update(brt_trainer *trainer, float learning_rate, double *norm)
{
    double start = brt_seconds(), gradient_norm = brt_optimizer_norm(&trainer->optimizer);
    take_time(trainer, BRT_UPDATE_NORM, &start);
    if (norm)
        *norm = gradient_norm;
    if (!isfinite(gradient_norm))
        return BRT_FAIL(BRT_ERROR_NUMERIC, "the norm of the gradient is not finite (%g)", gradient_norm);
    brt_optimizer_update(&trainer->optimizer, learning_rate, gradient_norm);
    take_time(trainer, BRT_UPDATE_OPTIMIZER, &start);
    brt_parameters_refresh(&trainer->model->parameters, trainer->options.threads);
    take_time(trainer, BRT_UPDATE_PACKING, &start);
    trainer->updates++;
    return BRT_OK;
}

void brt_trainer_clear(brt_trainer *trainer)
{
    for (size_t row = 0; row < trainer->options.rows; row++)
        brt_carry_clear_row(&trainer->carry, row);
}

double brt_trainer_reconstruction_loss(const brt_trainer *trainer)
{
    return trainer->reconstruction;
}

/* ---- profile --------------------------------------------------------------------------------------------------- */

static brt_profile_entry update_entry(const brt_trainer *trainer, brt_update_part part)
{
    static const char *const names[] = {"gradient norm", "optimizer", "packing"};
    const brt_parameters *parameters = &trainer->model->parameters;
    /* The norm reads the gradient; the optimizer reads and writes weights, gradient and what it keeps. */
    double numbers[] = {(double)parameters->total,
                        2 * (2 * (double)parameters->total + (double)trainer->optimizer.method->reals(parameters)), 0};
    return (brt_profile_entry){.name = names[part],
                               .calls = trainer->updates,
                               .forward_seconds = trainer->update_seconds[part],
                               .bytes = (double)trainer->updates * numbers[part] * sizeof(real)};
}

bool brt_trainer_profile(const brt_trainer *trainer, size_t index, brt_profile_entry *out)
{
    size_t count;
    const brt_op_time *times = brt_tape_times(trainer->record, &count);
    if (!trainer->options.profile || index >= count + BRT_UPDATE_PARTS)
        return false;
    if (index >= count)
        *out = update_entry(trainer, (brt_update_part)(index - count));
    else
        *out = (brt_profile_entry){.name = times[index].name,
                                   .calls = times[index].calls,
                                   .forward_seconds = times[index].forward_seconds,
                                   .backward_seconds = times[index].backward_seconds,
                                   .flops = times[index].flops + times[index].backward_flops};
    return true;
}

/* ---- looking inside -------------------------------------------------------------------------------------------- */

brt_status brt_trainer_gradient(const brt_trainer *trainer, size_t index, float *out)
{
    const brt_parameters *parameters = &trainer->model->parameters;
    if (index >= parameters->count)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no parameter %zu: the model has %zu", index, parameters->count);
    const brt_tensor *tensor = &parameters->items[index].tensor;
    memcpy(out, tensor->gradient, tensor->count * sizeof *out);
    return BRT_OK;
}

size_t brt_trainer_memory_length(const brt_trainer *trainer)
{
    return brt_model_memory_length(trainer->model, trainer->carry.past, trainer->options.rows);
}

brt_status brt_trainer_memories(const brt_trainer *trainer, size_t layer, float *out)
{
    return brt_model_copy_memories(trainer->model, trainer->carry.slot, trainer->options.rows, layer,
                                   brt_trainer_memory_length(trainer), out);
}

brt_status brt_trainer_states(const brt_trainer *trainer, size_t index, float *out)
{
    BRT_TRY(brt_model_check_state(trainer->model, index));
    const brt_carry *carry = &trainer->carry;
    size_t slot = trainer->model->slots.state + index;
    const brt_tensor *initial = trainer->model->slots.items[slot].initial;
    for (size_t row = 0; row < trainer->options.rows; row++)
        memcpy(out + row * initial->count,
               carry->past[row] ? carry->slot[slot] + row * initial->count : initial->data,
               initial->count * sizeof *out);
    return BRT_OK;
}

static size_t remembered(const brt_trainer *trainer, size_t row)
{
    const brt_carry *carry = &trainer->carry;
    size_t width = (size_t)trainer->model->config.block_width;
    return brt_routed_remembered((size_t)trainer->model->config.routed_capacity, width,
                                 (carry->rings[0].end - carry->born[row]) / width);
}

size_t brt_trainer_routed_length(const brt_trainer *trainer)
{
    size_t most = 0;
    for (size_t row = 0; trainer->model->routed && row < trainer->options.rows; row++)
        most = brt_max_size(most, remembered(trainer, row));
    return most;
}

brt_status brt_trainer_routed(const brt_trainer *trainer, size_t index, float *out)
{
    const brt_config *config = &trainer->model->config;
    size_t rows = trainer->options.rows, length = brt_trainer_routed_length(trainer);
    size_t row_reals = length * brt_carried_raw_width(config) / 2;
    BRT_TRY(brt_routed_check(trainer->model->routed, index));
    for (size_t row = 0; row < rows; row++)
        brt_routed_copy(&trainer->carry.rings[index], trainer->model->kernels, row, remembered(trainer, row), length,
                        out + row * row_reals, out + (rows + row) * row_reals);
    return BRT_OK;
}
