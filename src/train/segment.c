#include "segment.h"

#include "../base/size.h"

#include <stdlib.h>
#include <string.h>

/* ---- what is carried ------------------------------------------------------------------------------------ */

static size_t memory_count(const brt_model *model, size_t rows)
{
    return rows * (size_t)model->config.block_width * 2 * (size_t)model->config.dim_head;
}

static size_t state_count(const brt_model *model, size_t rows)
{
    return rows * (size_t)model->config.num_state_vectors * (size_t)model->config.dim;
}

size_t brt_carry_count(const brt_model *model, size_t rows)
{
    return model->depth * memory_count(model, rows) + model->containers * state_count(model, rows);
}

/* Points memory and state into the storage. */
static void place_carry(brt_carry *carry, const brt_model *model)
{
    real *at = carry->storage;
    for (size_t i = 0; i < model->depth; i++, at += memory_count(model, carry->rows))
        carry->memory[i] = at;
    for (size_t i = 0; i < model->containers; i++, at += state_count(model, carry->rows))
        carry->state[i] = at;
}

brt_status brt_carry_create(brt_carry *carry, const brt_model *model, size_t rows)
{
    *carry = (brt_carry){.rows = rows, .count = brt_carry_count(model, rows)};
    carry->memory = calloc(model->depth, sizeof *carry->memory);
    carry->state = calloc(model->containers + 1, sizeof *carry->state);
    carry->has_memory = calloc(rows, sizeof *carry->has_memory);
    carry->has_state = calloc(rows, sizeof *carry->has_state);
    carry->storage = calloc(carry->count, sizeof *carry->storage);
    carry->spare = calloc(carry->count, sizeof *carry->spare);
    if (!carry->memory || !carry->state || !carry->has_memory || !carry->has_state || !carry->storage ||
        !carry->spare) {
        brt_carry_close(carry);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the memories and states of %zu rows", rows);
    }
    place_carry(carry, model);
    return BRT_OK;
}

void brt_carry_close(brt_carry *carry)
{
    free(carry->memory);
    free(carry->state);
    free(carry->has_memory);
    free(carry->has_state);
    free(carry->storage);
    free(carry->spare);
    *carry = (brt_carry){0};
}

void brt_carry_clear_row(brt_carry *carry, size_t row)
{
    carry->has_memory[row] = carry->has_state[row] = false;
}

static brt_tensor *carried_memory(brt_tape *tape, const brt_segment_run *run, size_t layer)
{
    const brt_config *config = &run->model->config;
    return brt_tape_external(tape, run->carry->memory[layer], NULL,
                             BRT_SHAPE(run->carry->rows, (size_t)config->block_width, 2 * (size_t)config->dim_head));
}

static brt_tensor *carried_state(brt_tape *tape, const brt_segment_run *run, size_t index)
{
    const brt_config *config = &run->model->config;
    return brt_tape_external(tape, run->carry->state[index], NULL,
                             BRT_SHAPE(run->carry->rows, (size_t)config->num_state_vectors, (size_t)config->dim));
}

/* After a full block: copies its memories and states to where the next segment finds them. */
static void carry_block(brt_tape *tape, const brt_segment_run *run, const brt_block *block)
{
    brt_carry *carry = run->carry;
    if (!brt_tape_running(tape))
        return;
    real *read = carry->storage;
    carry->storage = carry->spare;
    carry->spare = read;
    place_carry(carry, run->model);
    for (size_t i = 0; i < run->model->depth; i++)
        memcpy(carry->memory[i], block->memory[i]->data, block->memory[i]->count * sizeof(real));
    for (size_t i = 0; i < run->model->containers; i++)
        memcpy(carry->state[i], block->state[i]->data, block->state[i]->count * sizeof(real));
    for (size_t row = 0; row < carry->rows; row++)
        carry->has_memory[row] = carry->has_state[row] = true;
}

/* ---- blocks ------------------------------------------------------------------------------------------------ */

/* Rows without carried memory (or whose memory was dropped) see only their own block. */
static void mark_first_block(const brt_segment_run *run)
{
    size_t rows = run->carry->rows, width = (size_t)run->model->config.block_width;
    for (size_t row = 0; row < rows; row++) {
        bool without = !run->carry->has_memory[row] || run->drop_memory[row];
        run->first_key[row] = without ? width : 0;
        run->first_key[rows + row] = 0;
        run->fresh[row] = !run->carry->has_state[row] || run->drop_state[row];
    }
}

/* Points the block at what is carried; `fresh` rows read the initial state. */
static void enter(brt_tape *tape, const brt_segment_run *run, brt_block *block, const bool *fresh)
{
    for (size_t i = 0; i < run->model->depth; i++)
        block->memory[i] = carried_memory(tape, run, i);
    for (size_t i = 0; i < run->model->containers; i++)
        block->state[i] = brt_op_select_state(tape, carried_state(tape, run, i), run->model->container[i].initial,
                                              fresh, block->batch);
}

static void copy_logits(const brt_tape *tape, const brt_segment_run *run, const brt_block *block,
                        const brt_tensor *logits, size_t first)
{
    size_t classes = (size_t)run->model->config.num_tokens;
    for (size_t row = 0; run->logits && brt_tape_running(tape) && row < block->batch; row++)
        memcpy(run->logits + (row * run->time + first) * classes, logits->data + row * block->time * classes,
               block->time * classes * sizeof(real));
}

static void add_loss(brt_tape *tape, brt_segment_run *run, brt_tensor *x, const brt_block *block, size_t first)
{
    const brt_config *config = &run->model->config;
    brt_tensor *logits = brt_model_logits(tape, run->model, x);
    copy_logits(tape, run, block, logits, first);
    const int32_t *targets = run->targets + first * block->batch;
    brt_tensor *loss = brt_op_cross_entropy(tape, logits, targets, (int32_t)config->ignore_index, run->weight);
    for (size_t i = 0; brt_tape_running(tape) && i < loss->count; i++)
        run->loss += (double)loss->data[i];
}

/* One block; in a forward-only pass its memory is given back at once. */
static void run_block(brt_tape *tape, brt_segment_run *run, brt_block *block, size_t first)
{
    size_t width = (size_t)run->model->config.block_width;
    block->time = brt_min_size(width, run->time - first);
    block->tokens = run->tokens + first * block->batch;
    block->first_key = run->first_key + (first ? block->batch : 0);
    block->writes_state = block->time == width;
    bool forward_only = !brt_tape_recording(tape);
    if (first == 0)
        enter(tape, run, block, run->fresh);
    else if (forward_only)
        enter(tape, run, block, NULL);
    add_loss(tape, run, brt_model_block(tape, run->model, block), block, first);
    bool last_full = block->time == width && run->time - first < 2 * width;
    if (block->time == width && (forward_only || last_full))
        carry_block(tape, run, block);
    if (forward_only)
        brt_tape_rewind(tape, 0);
}

brt_status brt_segment_execute(brt_tape *tape, brt_segment_run *run)
{
    const brt_model *model = run->model;
    brt_tensor **held = calloc(model->depth + model->containers, sizeof *held);
    if (!held)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a segment");
    brt_block block = {.batch = run->carry->rows, .memory = held, .state = held + model->depth};
    run->loss = 0;
    mark_first_block(run);
    for (size_t first = 0; first < run->time; first += (size_t)model->config.block_width)
        run_block(tape, run, &block, first);
    if (brt_tape_recording(tape))
        brt_tape_backward(tape);
    free(held);
    return brt_tape_status(tape);
}
