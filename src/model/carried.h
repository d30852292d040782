/* What a row of a batch carries from block to block: one slot for each array. Streams, session files, training segments
 * and checkpoints go over the slots, so a new kind of memory is one more kind of slot.
 *
 * A row's memories are as long as it has `past`: full blocks since its start or reset. What lies before them in a slot
 * is not its own and is masked: keys are placed so that the newest come last, and a row sees those from
 * brt_carried_first_key on. In the paper's arithmetic a row starts with keys and values of 0, which it sees. */
#ifndef BRT_MODEL_CARRIED_H
#define BRT_MODEL_CARRIED_H

#include "conditional_ff.h"
#include "state_container.h"

typedef struct brt_slot {
    char name[32];             /* "memory.3", "state.0": in session files */
    size_t vectors, width;     /* of a row: [vectors, width] */
    const brt_tensor *initial; /* [vectors, width]: what a new row starts from; NULL: nothing that it sees */
} brt_slot;

typedef struct brt_slots {
    brt_slot *items;
    size_t count;
    size_t memory; /* first slot of the layers' windows: raw keys of the block before, [block_width, key | value] */
    size_t compressed; /* likewise of what is left of older blocks, [brt_carried_compressed, key | value]; if any */
    size_t state;  /* first slot of the recurrent layers' states, ascending by the layer that writes */
    size_t route_input; /* first slot of the routed layers' inputs at a block's last token, with route_every */
    size_t price; /* first slot of the conditional feed-forwards' prices */
    brt_tensor zeros; /* of a memory: what a new row starts from, and sees, in the paper's arithmetic; data NULL in the
                       * reference's */
    brt_tensor first_price; /* zeros, of a new row */
} brt_slots;

/* container [containers]: the recurrent layers' states. */
brt_status brt_slots_create(brt_slots *slots, const brt_config *config, const brt_state_container *container);
void brt_slots_close(brt_slots *slots);
/* What a new row has in a slot; rows [rows, vectors, width]. */
void brt_slot_start(const brt_slot *slot, real *rows, size_t row);
/* Reals of a row of one slot, and of `rows` rows of all slots. */
size_t brt_slot_row(const brt_slot *slot);
size_t brt_slots_reals(const brt_slots *slots, size_t rows);

/* Width of a raw key and value: key | value. */
size_t brt_carried_raw_width(const brt_config *config);
/* Entries of a compressed memory, 0 without: a queue. And how many of them a block leaves in it. */
size_t brt_carried_compressed(const brt_config *config);
size_t brt_carried_entries(const brt_config *config);
/* Keys of a layer's memories, compressed | window: the block's own follow them. */
size_t brt_carried_keys(const brt_config *config);
/* Of those, how many a row sees after `past` full blocks; they are the last ones. */
size_t brt_carried_visible(const brt_config *config, uint64_t past);
/* The first key that a row sees: brt_carried_keys - brt_carried_visible. */
size_t brt_carried_first_key(const brt_config *config, uint64_t past);
/* Where in a segment of max_seq_len the block after `past` begins. */
size_t brt_carried_offset(const brt_config *config, uint64_t past);

#endif
