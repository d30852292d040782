#define _GNU_SOURCE
#include "trace.h"

#include "output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of a model as the tensors have them. */
typedef struct sizes {
    size_t rows, num_tokens, depth, dim, key_width, states, vectors, routed, segment;
    bool paper;
    int64_t ignore_index;
} sizes;

static sizes sizes_of(const brt_model *model, size_t rows)
{
    const brt_config *c = brt_model_config(model);
    return (sizes){.rows = rows,
                   .num_tokens = (size_t)brt_config_get(c, "num_tokens"),
                   .depth = (size_t)brt_config_get(c, "depth"),
                   .dim = (size_t)brt_config_get(c, "dim"),
                   .key_width = (size_t)(brt_config_get(c, "kv_heads") * brt_config_get(c, "dim_head")),
                   .states = (size_t)brt_config_get(c, "recurrent_layers"),
                   .vectors = (size_t)brt_config_get(c, "num_state_vectors"),
                   .routed = (size_t)brt_config_get(c, "routed_layers"),
                   .segment = (size_t)brt_config_get(c, "max_seq_len"),
                   .paper = brt_config_get(c, "arithmetic") == 1,
                   .ignore_index = brt_config_get(c, "ignore_index")};
}

static float *allocate(size_t count, size_t item_count)
{
    return calloc(count ? count : 1, (item_count ? item_count : 1) * sizeof(float));
}

/* ---- memories and states, of a stream or a trainer --------------------------------------------------------------- */

typedef struct carrier {
    const brt_stream *stream; /* or NULL */
    const brt_trainer *trainer;
} carrier;

/* A kind of what is carried: its name in the file, and how to get one of a stream's or a trainer's. */
typedef struct kind {
    const char *name;
    brt_status (*of_stream)(const brt_stream *stream, size_t index, float *out);
    brt_status (*of_trainer)(const brt_trainer *trainer, size_t index, float *out);
} kind;

static const kind memories = {"memories", brt_stream_memories, brt_trainer_memories};
static const kind states = {"states", brt_stream_states, brt_trainer_states};
static const kind routed = {"routed", brt_stream_routed, brt_trainer_routed};

/* `count` of a kind, each of the shape [dims], as KIND.CALL.0, KIND.CALL.1, ... */
static brt_status add_kind(const carrier *c, const kind *k, size_t call, size_t count, size_t dims, const size_t *shape,
                           brt_tensors *out)
{
    size_t item = 1;
    for (size_t i = 0; i < dims; i++)
        item *= shape[i];
    float *values = allocate(item, 1);
    if (!values)
        return cli_out_of_memory(k->name);
    brt_status status = BRT_OK;
    for (size_t index = 0; index < count && status == BRT_OK; index++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%zu.%zu", k->name, call, index);
        status = c->stream ? k->of_stream(c->stream, index, values) : k->of_trainer(c->trainer, index, values);
        if (status == BRT_OK)
            status = brt_tensors_add(out, name, dims, shape, values);
    }
    free(values);
    return status;
}

static brt_status add_carried(const carrier *c, const sizes *s, size_t call, brt_tensors *out)
{
    size_t length = c->stream ? brt_stream_memory_length(c->stream) : brt_trainer_memory_length(c->trainer);
    size_t far = c->stream ? brt_stream_routed_length(c->stream) : brt_trainer_routed_length(c->trainer);
    const size_t memory[] = {2, s->rows, length, s->key_width}, state[] = {s->rows, s->vectors, s->dim};
    const size_t long_memory[] = {2, s->rows, far, s->key_width};
    CLI_TRY(add_kind(c, &memories, call, s->depth, 4, memory, out));
    CLI_TRY(add_kind(c, &states, call, s->states, 3, state, out));
    return add_kind(c, &routed, call, s->routed, 4, long_memory, out);
}

static brt_status add_logits(const sizes *s, size_t call, size_t time, const float *logits, brt_tensors *out)
{
    char name[48];
    size_t shape[] = {s->rows, time, s->num_tokens};
    snprintf(name, sizeof name, "logits.%zu", call);
    return brt_tensors_add(out, name, 3, shape, logits);
}

/* ---- targets ----------------------------------------------------------------------------------------------------- */

/* Tokens of a call that are read: in the reference the last one is a target only. */
static brt_status count_inputs(const sizes *s, const trace_call *call, size_t index, bool with_losses, size_t *time)
{
    *time = call->time - (with_losses && !s->paper);
    if (*time == 0)
        return cli_fail(BRT_ERROR_DATA, "tokens.%zu has one token per row; a loss needs another one as a target",
                        index);
    return BRT_OK;
}

/* The token after, or ignore_index: where there is none, and after the paper's padding. */
static int32_t target_of(const sizes *s, const trace_call *call, size_t row, size_t t)
{
    const int32_t *token = call->tokens + row * call->time + t;
    bool follows_padding = s->paper && token[0] == s->ignore_index;
    return t + 1 == call->time || follows_padding ? (int32_t)s->ignore_index : token[1];
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* What is done with every call. */
typedef struct forward_pass {
    const sizes *sizes;
    brt_stream *stream;
    bool with_losses;
    brt_tensors *out;
} forward_pass;

/* -log softmax(logits)[target] */
static double cross_entropy(const float *logits, size_t count, int32_t target)
{
    double most = (double)logits[0], sum = 0;
    for (size_t i = 1; i < count; i++)
        most = fmax(most, (double)logits[i]);
    for (size_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - most);
    return log(sum) + most - (double)logits[target];
}

/* The mean over all targets of every row that are not ignored; 0 when there is none. */
static brt_status add_loss(const forward_pass *f, const trace_call *call, size_t time, size_t index,
                           const float *logits)
{
    char name[48];
    const sizes *s = f->sizes;
    double sum = 0;
    size_t counted = 0;
    for (size_t i = 0; i < s->rows * time; i++) {
        int32_t target = target_of(s, call, i / time, i % time);
        if (target == s->ignore_index)
            continue;
        if (target < 0 || (size_t)target >= s->num_tokens)
            return cli_fail(BRT_ERROR_ARGUMENT, "tokens.%zu has the target %d, which is not in the vocabulary", index,
                            (int)target);
        sum += cross_entropy(logits + i * s->num_tokens, s->num_tokens, target);
        counted++;
    }
    float loss = counted ? (float)(sum / (double)counted) : 0;
    snprintf(name, sizeof name, "loss.%zu", index);
    return brt_tensors_add(f->out, name, 1, (const size_t[]){1}, &loss);
}

static brt_status start_rows(brt_stream *stream, const trace_call *call, size_t rows)
{
    for (size_t row = 0; row < rows && call->starts; row++)
        if (call->starts[row])
            CLI_TRY(brt_stream_reset(stream, (int64_t)row));
    return BRT_OK;
}

/* The first `time` tokens of every row. */
static brt_status feed_call(const forward_pass *f, const trace_call *call, size_t time, float *logits)
{
    size_t rows = f->sizes->rows;
    int32_t *tokens = calloc(rows * time, sizeof *tokens);
    if (!tokens)
        return cli_out_of_memory("tokens");
    for (size_t row = 0; row < rows; row++)
        memcpy(tokens + row * time, call->tokens + row * call->time, time * sizeof *tokens);
    brt_status status = brt_stream_feed(f->stream, tokens, time, logits);
    free(tokens);
    return status;
}

static brt_status forward_call(const forward_pass *f, const trace_call *call, size_t index)
{
    const sizes *s = f->sizes;
    size_t time;
    CLI_TRY(count_inputs(s, call, index, f->with_losses, &time));
    CLI_TRY(start_rows(f->stream, call, s->rows));
    float *logits = allocate(s->rows * time, s->num_tokens);
    if (!logits)
        return cli_out_of_memory("logits");
    brt_status status = feed_call(f, call, time, logits);
    if (status == BRT_OK)
        status = add_logits(s, index, time, logits, f->out);
    if (status == BRT_OK && f->with_losses)
        status = add_loss(f, call, time, index, logits);
    free(logits);
    CLI_TRY(status);
    CLI_TRY(brt_stream_drop_partial_block(f->stream));
    return add_carried(&(carrier){.stream = f->stream}, s, index, f->out);
}

brt_status trace_forward(const brt_model *model, const trace_calls *calls, int threads, bool losses, brt_tensors *out)
{
    brt_stream_options options = brt_stream_options_init();
    sizes s = sizes_of(model, calls->rows);
    forward_pass f = {.sizes = &s, .with_losses = losses, .out = out};
    options.rows = calls->rows;
    options.threads = threads;
    CLI_TRY(brt_stream_open(&f.stream, model, &options));
    brt_status status = BRT_OK;
    for (size_t i = 0; i < calls->count && status == BRT_OK; i++)
        status = forward_call(&f, &calls->items[i], i);
    brt_stream_close(f.stream);
    return status;
}

/* ---- losses, by a trainer, which has their gradients ------------------------------------------------------------- */

/* One call: `time` positions, taken in segments. */
typedef struct loss_call {
    brt_trainer *trainer;
    const sizes *sizes;
    const trace_call *call;
    size_t time;
    bool forward_only; /* nobody asks for its gradient */
    uint64_t counted; /* targets that are not ignored */
    int32_t *tokens, *targets;       /* of a segment: [rows, segment] */
    float *logits, *segment_logits;  /* [rows, time, num_tokens] and of a segment */
    double loss;
} loss_call;

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static brt_status open_loss_call(loss_call *l)
{
    const sizes *s = l->sizes;
    size_t segment = smaller(l->time, s->segment);
    l->tokens = calloc(s->rows * segment, sizeof *l->tokens);
    l->targets = calloc(s->rows * segment, sizeof *l->targets);
    l->logits = allocate(s->rows * l->time, s->num_tokens);
    l->segment_logits = allocate(s->rows * segment, s->num_tokens);
    if (!l->tokens || !l->targets || !l->logits || !l->segment_logits)
        return cli_out_of_memory("a call");
    for (size_t row = 0; row < s->rows; row++)
        for (size_t t = 0; t < l->time; t++)
            l->counted += target_of(s, l->call, row, t) != s->ignore_index;
    return BRT_OK;
}

static void close_loss_call(loss_call *l)
{
    free(l->tokens);
    free(l->targets);
    free(l->logits);
    free(l->segment_logits);
}

static uint64_t fill_segment(loss_call *l, size_t first, size_t count)
{
    uint64_t counted = 0;
    for (size_t row = 0; row < l->sizes->rows; row++)
        for (size_t t = 0; t < count; t++) {
            size_t at = row * count + t;
            l->tokens[at] = l->call->tokens[row * l->call->time + first + t];
            l->targets[at] = target_of(l->sizes, l->call, row, first + t);
            counted += l->targets[at] != l->sizes->ignore_index;
        }
    return counted;
}

/* The call's loss is the mean over its targets, so each segment weighs as much as its share of them. */
static brt_status run_segment(loss_call *l, size_t first, size_t count)
{
    const sizes *s = l->sizes;
    uint64_t counted = fill_segment(l, first, count);
    double loss, weight = l->counted ? (double)counted / (double)l->counted : 0;
    brt_segment segment = {.time = count,
                           .tokens = l->tokens,
                           .targets = l->targets,
                           .reset = first == 0 ? l->call->starts : NULL,
                           .weight = (float)weight,
                           .forward_only = l->forward_only,
                           .logits = l->segment_logits};
    CLI_TRY(brt_trainer_segment(l->trainer, &segment, &loss, NULL));
    l->loss += weight * loss;
    for (size_t row = 0; row < s->rows; row++)
        memcpy(l->logits + (row * l->time + first) * s->num_tokens, l->segment_logits + row * count * s->num_tokens,
               count * s->num_tokens * sizeof *l->logits);
    return BRT_OK;
}

static brt_status run_segments(loss_call *l)
{
    CLI_TRY(open_loss_call(l));
    for (size_t first = 0; first < l->time; first += l->sizes->segment)
        CLI_TRY(run_segment(l, first, smaller(l->sizes->segment, l->time - first)));
    return BRT_OK;
}

static brt_status trace_loss(brt_trainer *trainer, const sizes *s, const trace_call *call, size_t index,
                             bool forward_only, brt_tensors *out)
{
    char name[48];
    loss_call l = {.trainer = trainer, .sizes = s, .call = call, .forward_only = forward_only};
    CLI_TRY(count_inputs(s, call, index, true, &l.time));
    brt_status status = run_segments(&l);
    float loss = (float)l.loss;
    snprintf(name, sizeof name, "loss.%zu", index);
    if (status == BRT_OK)
        status = add_logits(s, index, l.time, l.logits, out);
    if (status == BRT_OK)
        status = brt_tensors_add(out, name, 1, (const size_t[]){1}, &loss);
    close_loss_call(&l);
    CLI_TRY(status);
    return add_carried(&(carrier){.trainer = trainer}, s, index, out);
}

/* ---- gradients --------------------------------------------------------------------------------------------------- */

/* As files have the parameter. */
static brt_status add_as_filed(brt_tensors *out, const char *name, const brt_parameter_info *info, const float *values)
{
    if (!info->transposed)
        return brt_tensors_add(out, name, info->dims, info->shape, values);
    size_t rows = info->shape[0], columns = info->shape[1];
    float *turned = allocate(info->count, 1);
    if (!turned)
        return cli_out_of_memory("gradients");
    for (size_t i = 0; i < info->count; i++)
        turned[i % columns * rows + i / columns] = values[i];
    brt_status status = brt_tensors_add(out, name, 2, (const size_t[]){columns, rows}, turned);
    free(turned);
    return status;
}

static brt_status add_gradient(const brt_model *model, const brt_trainer *trainer, size_t index, brt_tensors *out)
{
    char name[256];
    brt_parameter_info info;
    CLI_TRY(brt_model_parameter(model, index, &info));
    float *values = allocate(info.count, 1);
    if (!values)
        return cli_out_of_memory("gradients");
    snprintf(name, sizeof name, "grad.%s", info.name);
    brt_status status = brt_trainer_gradient(trainer, index, values);
    if (status == BRT_OK)
        status = add_as_filed(out, name, &info, values);
    free(values);
    return status;
}

static brt_status open_trainer(brt_trainer **out, brt_model *model, size_t rows, int threads)
{
    brt_trainer_options options = brt_trainer_options_init();
    const brt_config *config = brt_model_config(model);
    options.rows = rows;
    options.segment_blocks =
        (size_t)(brt_config_get(config, "max_seq_len") / brt_config_get(config, "block_width"));
    options.threads = threads;
    options.xl_memories_dropout = options.state_dropout = 0;
    return brt_trainer_open(out, model, &options);
}

brt_status trace_gradients(brt_model *model, const trace_calls *calls, int threads, int only, brt_tensors *out)
{
    sizes s = sizes_of(model, calls->rows);
    brt_trainer *trainer;
    if (only != TRACE_ALL_CALLS && (only < 0 || (size_t)only >= calls->count))
        return cli_fail(BRT_ERROR_ARGUMENT, "--grad-of is %d; there are calls 0 to %zu", only, calls->count - 1);
    CLI_TRY(open_trainer(&trainer, model, calls->rows, threads));
    brt_status status = BRT_OK;
    for (size_t i = 0; i < calls->count && status == BRT_OK; i++)
        status = trace_loss(trainer, &s, &calls->items[i], i, only != TRACE_ALL_CALLS && i != (size_t)only, out);
    for (size_t i = 0; i < brt_model_parameter_count(model) && status == BRT_OK; i++)
        status = add_gradient(model, trainer, i, out);
    brt_trainer_close(trainer);
    return status;
}
