/*
 * brt -- Block-Recurrent Transformers in C.
 *
 * A complete use, without the error checks (every call returns a brt_status):
 *
 *     brt_model *model;
 *     brt_stream *stream;
 *     brt_stream_options options = brt_stream_options_init();
 *     brt_model_load(&model, "runs/books");
 *     brt_stream_open(&stream, model, &options);
 *     brt_stream_feed(stream, prompt, prompt_length, logits);      // any length, any number of calls
 *     for (;;) {
 *         brt_sample(logits, vocabulary, &sampling, brt_stream_position(stream, 0), &token);
 *         brt_stream_feed(stream, &token, 1, logits);              // one token's work, whatever came before
 *     }
 *     brt_stream_close(stream);
 *     brt_model_close(model);
 *
 * Conventions
 *   - Handles are opaque. X_open/X_create/X_load make one, X_close frees it and takes NULL.
 *   - Every function that can fail returns a brt_status; brt_last_error() then says in a sentence, per
 *     thread, what was wrong, with which file, key or argument, and what was expected.
 *   - Shapes are written as [rows, time, dim], row-major, the last index fastest. A "row" is one
 *     independent sequence of a batch.
 *   - Option structs start with their own size; make them with their _init function and change fields.
 *   - The caller owns every buffer it passes in; the library keeps no pointer to it after the call.
 *   - A brt_model is immutable while streams use it and may be shared between threads. A stream, a
 *     trainer, a dataset or a batcher is used by one thread at a time.
 *   - The library never prints, never exits, and holds no global state besides the calling thread's
 *     error text and the table of kernels chosen for this processor.
 */
#ifndef BRT_BRT_H
#define BRT_BRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BRT_API __attribute__((visibility("default")))
#else
#define BRT_API
#endif

/* ---- status ------------------------------------------------------------------------------------ */

/* X(name, text): every outcome of a call. */
#define BRT_STATUS_LIST(X)                                                                             \
    X(OK, "success")                                                                                   \
    X(ERROR_ARGUMENT, "invalid argument")                                                              \
    X(ERROR_CONFIG, "invalid model configuration")                                                     \
    X(ERROR_FORMAT, "malformed file")                                                                  \
    X(ERROR_MISMATCH, "model and file do not match")                                                   \
    X(ERROR_IO, "input/output error")                                                                  \
    X(ERROR_MEMORY, "out of memory")                                                                   \
    X(ERROR_DATA, "unusable data")                                                                     \
    X(ERROR_NUMERIC, "loss or gradient is not finite")                                                 \
    X(ERROR_UNSUPPORTED, "not supported")                                                              \
    X(ERROR_INTERNAL, "internal error")                                                                \
    X(INTERRUPTED, "interrupted")

typedef enum brt_status {
#define BRT_STATUS_ENUM(name, text) BRT_##name,
    BRT_STATUS_LIST(BRT_STATUS_ENUM)
#undef BRT_STATUS_ENUM
} brt_status;

/* The constant's name, e.g. "BRT_ERROR_IO", and its general meaning. Static strings. */
BRT_API const char *brt_status_name(brt_status status);
BRT_API const char *brt_status_text(brt_status status);

/* The sentence of the last failed call of this thread; "" when there was none. Valid until the next failure. */
BRT_API const char *brt_last_error(void);

/* "0.1.0" */
BRT_API const char *brt_version(void);

/* The instruction set whose kernels are in use: "avx512_bf16", "avx512", "avx2", "sse2", "neon" or "generic". It is chosen
 * for the processor at the first call, or forced by the environment variable BRT_ISA. An unknown or
 * unavailable name there makes model creation and loading fail with a sentence. */
BRT_API const char *brt_isa(void);

/* ---- configuration ------------------------------------------------------------------------------- */

/* The constructor arguments of the model, under the names of the PyTorch reference, e.g. "dim". */
typedef struct brt_config brt_config;

typedef struct brt_config_key {
    const char *name;          /* "block_width" */
    const char *type;          /* "integer", "number", "boolean" or "integers" (a list) */
    const char *default_value; /* as JSON text, "" where it must be given, or a rule in words */
    const char *help;          /* one line */
} brt_config_key;

/* The i-th key, or NULL past the last one: the source of command-line flags and documentation. */
BRT_API const brt_config_key *brt_config_key_at(size_t i);

BRT_API brt_status brt_config_create(brt_config **out);
BRT_API void brt_config_close(brt_config *config);
/* Sets one key from JSON text ("512", "[3, 5]", "true"); a bare "3,5" is accepted for a list. */
BRT_API brt_status brt_config_set(brt_config *config, const char *key, const char *json);
/* Reads FILE.json, or DIR/config.json; an unknown key is an error that names it. */
BRT_API brt_status brt_config_load(brt_config *config, const char *path);
/* "tiny", "small" or "reference": the model part of a preset. */
BRT_API brt_status brt_config_preset(brt_config *config, const char *name);
/* Fills in the defaults that depend on others and checks every rule. Model creation does it, too. */
BRT_API brt_status brt_config_check(brt_config *config);
/* The value of an integer key after a check; of a list its length. -1 for an unknown key. */
BRT_API int64_t brt_config_get(const brt_config *config, const char *key);
/* All keys as a JSON object, as config.json holds them. The caller frees it with brt_free. */
BRT_API brt_status brt_config_json(const brt_config *config, char **out);
BRT_API void brt_free(void *memory);

/* ---- model ----------------------------------------------------------------------------------------- */

typedef struct brt_model brt_model;

/* New weights in the reference's distributions, from one seed; the same for any number of threads. The
 * configuration is copied. */
BRT_API brt_status brt_model_create(brt_model **out, const brt_config *config, uint64_t seed);
/* DIR holds config.json and model.safetensors: the reference's state_dict() names and shapes, with or
 * without the prefix "transformer." ; `beta` buffers are ignored. */
BRT_API brt_status brt_model_load(brt_model **out, const char *dir);
/* Writes DIR/config.json and DIR/model.safetensors, each beside, synced and renamed. */
BRT_API brt_status brt_model_save(const brt_model *model, const char *dir);
BRT_API void brt_model_close(brt_model *model);
/* Owned by the model. */
BRT_API const brt_config *brt_model_config(const brt_model *model);

typedef struct brt_parameter_info {
    const char *name;  /* the reference's state_dict() name */
    const float *data; /* owned by the model */
    size_t count;
    size_t dims;
    size_t shape[4];
} brt_parameter_info;
BRT_API size_t brt_model_parameter_count(const brt_model *model);
BRT_API brt_status brt_model_parameter(const brt_model *model, size_t index, brt_parameter_info *out);

typedef struct brt_model_costs {
    uint64_t parameters;
    uint64_t parameter_bytes;
    uint64_t stream_bytes;           /* of one stream of one row: windows, states and working memory */
    uint64_t flops_per_token;        /* forward, matrix products, as the reference computes them */
    uint64_t train_flops_per_sample; /* forward and backward of one row's sample, likewise */
    uint64_t decode_bytes_per_token; /* weights read to produce one token */
} brt_model_costs;
/* A training sample is `sample_tokens` tokens read from the start (no memory at first) in segments of
 * `segment_tokens`; both are multiples of block_width. */
BRT_API brt_status brt_model_measure(const brt_model *model, size_t sample_tokens, size_t segment_tokens,
                                     brt_model_costs *out);

/* ---- stream: one timeline per row -------------------------------------------------------------------- */

typedef struct brt_stream brt_stream;

typedef struct brt_stream_options {
    size_t size;
    size_t rows;       /* independent sequences fed together; default 1 */
    int threads;       /* 0: all processors */
    bool no_states;    /* never carry states: every block reads the initial state */
    bool no_memories;  /* never carry memories: a block attends only to itself */
} brt_stream_options;
BRT_API brt_stream_options brt_stream_options_init(void);

/* All working memory is allocated here; feeding cannot run out of memory. The model must outlive it. */
BRT_API brt_status brt_stream_open(brt_stream **out, const brt_model *model, const brt_stream_options *options);
BRT_API void brt_stream_close(brt_stream *stream);
/* Appends `time` tokens, [rows, time], to every row. logits, or NULL: [rows, time, num_tokens]. Any split of
 * an input into calls gives the same logits: to the bit when cut at blocks' ends, else up to rounding. States
 * and memories are committed at the end of each full block, a part of a block waits in the stream. */
BRT_API brt_status brt_stream_feed(brt_stream *stream, const int32_t *tokens, size_t time, float *logits);
/* The same, writing only the logits of the last token: [rows, num_tokens]. */
BRT_API brt_status brt_stream_feed_last(brt_stream *stream, const int32_t *tokens, size_t time, float *logits);
/* Row `row` (or every row: -1) starts anew: initial state, no memory. All rows must be at a block's start when a
 * single one is reset. */
BRT_API brt_status brt_stream_reset(brt_stream *stream, int64_t row);
/* Drops what waits of a partial block: the timeline goes back to the last committed block. */
BRT_API brt_status brt_stream_drop_partial_block(brt_stream *stream);
/* Tokens fed to the row since its reset. */
BRT_API uint64_t brt_stream_position(const brt_stream *stream, size_t row);
/* Keys held as memory per row: 0 before the first committed block, then block_width. */
BRT_API size_t brt_stream_memory_length(const brt_stream *stream);
/* Layer from 0; out is [2, rows, memory_length, dim_head]: keys, then values, as projected. */
BRT_API brt_status brt_stream_memories(const brt_stream *stream, size_t layer, float *out);
/* index counts the recurrent layers in ascending order; out is [rows, num_state_vectors, dim]. */
BRT_API brt_status brt_stream_states(const brt_stream *stream, size_t index, float *out);
/* A session file holds the whole timeline, its partial block included; loading continues it exactly, with the
 * weights that made it and no others. `note` is the caller's own text kept with it (NULL: none). */
BRT_API brt_status brt_stream_save(const brt_stream *stream, const char *path, const char *note);
/* *note (may be NULL) is freed with brt_free. */
BRT_API brt_status brt_stream_load(brt_stream *stream, const char *path, char **note);

typedef struct brt_sampling {
    size_t size;
    float temperature;  /* 0: the most likely token */
    size_t top_k;       /* 0: all */
    float top_p;        /* 1: all */
    float filter_thres; /* keep the ceil((1 - filter_thres) * num_tokens) most likely, as the reference; 0: all */
    uint64_t seed;
} brt_sampling;
BRT_API brt_sampling brt_sampling_init(void);
/* Draws from logits [num_tokens]. The random number is a function of (seed, position) alone, so a continued
 * session draws what an uninterrupted one would. */
BRT_API brt_status brt_sample(const float *logits, size_t num_tokens, const brt_sampling *sampling, uint64_t position,
                              int32_t *token);

/* ---- data ------------------------------------------------------------------------------------------------ */

typedef struct brt_dataset brt_dataset;

typedef struct brt_dataset_options {
    size_t size;
    const char *const *paths; /* files, directories (searched in depth, in sorted order) or glob patterns */
    size_t path_count;
    const char *format;       /* "auto" (default): .bin holds tokens, all else bytes; or "bytes", "uint16", "uint32" */
    const char *split;        /* NULL: everything; "enwik8:train", "enwik8:val", "enwik8:test": the customary 90M/5M/5M */
    size_t num_tokens;        /* a token at or above this is an error that names the file; 0: no check */
} brt_dataset_options;
BRT_API brt_dataset_options brt_dataset_options_init(void);

/* Each file is one document; .gz and .xz are decompressed; empty files are left out. */
BRT_API brt_status brt_dataset_open(brt_dataset **out, const brt_dataset_options *options);
BRT_API void brt_dataset_close(brt_dataset *dataset);
BRT_API size_t brt_dataset_documents(const brt_dataset *dataset);
BRT_API uint64_t brt_dataset_tokens(const brt_dataset *dataset);
BRT_API const char *brt_dataset_document_name(const brt_dataset *dataset, size_t document);
BRT_API uint64_t brt_dataset_document_tokens(const brt_dataset *dataset, size_t document);
/* Copies tokens [offset, offset + count) of a document. */
BRT_API brt_status brt_dataset_read(const brt_dataset *dataset, size_t document, uint64_t offset, size_t count,
                                    int32_t *tokens);
/* Splits the tail off: the last `fraction` of the tokens, whole documents where there are at least two (at least
 * one document), else the end of the only one. `dataset` keeps the rest; *out is a new handle on the same data. */
BRT_API brt_status brt_dataset_split_tail(brt_dataset *dataset, double fraction, brt_dataset **out);

/* ---- trainer: segments -> gradient -> update ---------------------------------------------------------------- */

typedef struct brt_trainer brt_trainer;

typedef struct brt_trainer_options {
    size_t size;
    size_t rows;                /* batch; default 4 */
    size_t segment_blocks;      /* blocks of backpropagation through time per segment; default 8 */
    bool recompute;             /* keep the activations of one block only, and compute the others again in the backward
                                   pass: memory no longer grows with segment_blocks, a step takes a third more time, the
                                   gradients are the same bit by bit */
    int threads;                /* 0: all processors */
    const char *dtype;          /* of products with weights: "f32" (default), or "bf16": operands rounded to bf16, sums,
                                   weights and moments in f32; for processors with AVX512-BF16 */
    const char *optimizer;      /* "adamw" (default) or "adam" */
    float learning_rate;        /* default 1e-3 */
    float beta1, beta2, epsilon;
    float weight_decay;         /* matrices only; embeddings, gains, gates and states are never decayed */
    float clip;                 /* global gradient norm; 0: none; default 0.5 */
    float xl_memories_dropout;  /* probability, per row and segment, to start without memories; default 0.1 */
    float state_dropout;        /* likewise from the initial state */
    bool profile;               /* take the time of every operation: brt_trainer_profile */
    uint64_t seed;              /* of the dropouts */
    uint64_t memory_limit;      /* bytes; refused beyond; 0: what the system has available */
} brt_trainer_options;
BRT_API brt_trainer_options brt_trainer_options_init(void);

/* Bytes that a trainer with these options needs beside the model's own weights, without making it. */
BRT_API brt_status brt_trainer_measure(const brt_model *model, const brt_trainer_options *options, uint64_t *bytes);
/* Allocates everything a step needs. The trainer changes the model's weights; it must be the model's only user. */
BRT_API brt_status brt_trainer_open(brt_trainer **out, brt_model *model, const brt_trainer_options *options);
BRT_API void brt_trainer_close(brt_trainer *trainer);

typedef struct brt_segment {
    size_t time;            /* tokens per row: at most segment_blocks * block_width */
    const int32_t *tokens;  /* [rows, time] */
    const int32_t *targets; /* [rows, time]; ignore_index: no loss there */
    const bool *reset;      /* [rows] or NULL: the row starts a document: initial state, no memory */
    float weight;           /* the gradient is that of weight * mean loss: 1 / accumulation steps */
    bool forward_only;      /* evaluate: no gradient, no dropout */
    float *logits;          /* [rows, time, num_tokens] or NULL */
} brt_segment;
/* Runs one segment, adds its gradient, and carries memories and states (detached) into the next. *loss: mean
 * cross entropy in nats over the targets that are not ignore_index (0 when there is none), *count how many
 * (may be NULL). */
BRT_API brt_status brt_trainer_segment(brt_trainer *trainer, const brt_segment *segment, double *loss, uint64_t *count);
/* Clips, updates the weights with `learning_rate`, zeroes the gradient. *norm (may be NULL) is the gradient's
 * norm before clipping. A norm that is not finite is BRT_ERROR_NUMERIC, and nothing is updated. */
BRT_API brt_status brt_trainer_update(brt_trainer *trainer, float learning_rate, double *norm);
/* Forgets carried memories and states of every row. */
BRT_API void brt_trainer_clear(brt_trainer *trainer);
/* Copies the gradient of one parameter (index as in brt_model_parameter). */
BRT_API brt_status brt_trainer_gradient(const brt_trainer *trainer, size_t index, float *out);
/* Where the time of the trainer's steps went. */
typedef struct brt_profile_entry {
    const char *name;   /* an operation: "linear", "attention", ...; or "update": clipping, Adam, packing the weights */
    uint64_t calls;
    double forward_seconds, backward_seconds; /* "update" has forward only */
    double flops;       /* of matrix products, forward and backward, computed again or not */
} brt_profile_entry;
/* The index-th entry of a trainer opened with `profile`; false past the last. */
BRT_API bool brt_trainer_profile(const brt_trainer *trainer, size_t index, brt_profile_entry *out);
/* As in the stream: what the next segment will read. Layer and index count from 0. *length keys per row. */
BRT_API size_t brt_trainer_memory_length(const brt_trainer *trainer);
BRT_API brt_status brt_trainer_memories(const brt_trainer *trainer, size_t layer, float *out);
BRT_API brt_status brt_trainer_states(const brt_trainer *trainer, size_t index, float *out);

/* ---- run: a training run in a directory ------------------------------------------------------------------------ */

typedef struct brt_run_options {
    size_t size;
    const char *out;              /* the run's directory */
    bool resume;                  /* go on from the checkpoint in `out` */
    const char *sampling;         /* "stream" (default) or "crops" */
    size_t crop_segments;         /* crops: windows of this many times max_seq_len tokens, plus one; default 2 */
    uint64_t steps;               /* optimiser steps; 0: until max_seconds */
    double max_seconds;           /* 0: none; the schedule then follows the time */
    uint64_t save_every, val_every, sample_every; /* steps; 0: only at the end (samples: never) */
    uint64_t val_tokens;          /* tokens per validation; 0: all of the validation data */
    size_t sample_tokens;         /* default 200 */
    size_t accumulation;          /* segments per update; default 1 */
    const char *schedule;         /* "constant", "cosine" (default) or "rsqrt" */
    uint64_t warmup;              /* steps of linear warm-up */
    float min_learning_rate;      /* cosine ends here; default 0.1 * learning_rate when < 0 */
    uint64_t seed;
    brt_trainer_options trainer;
} brt_run_options;
BRT_API brt_run_options brt_run_options_init(void);
/* The training part of a preset ("tiny", "small", "reference"). */
BRT_API brt_status brt_run_options_preset(brt_run_options *options, const char *name);

typedef struct brt_run_progress {
    uint64_t step, steps;       /* steps done, and in all (0: unknown) */
    double loss;                /* nats per token of this step */
    double gradient_norm;
    float learning_rate;
    double tokens_per_s;
    double seconds;             /* training time so far, earlier sessions included */
    double max_seconds;
} brt_run_progress;

typedef struct brt_validation {
    uint64_t tokens;
    double loss;                /* nats per token, memories and states carried through each document */
    double loss_no_states;      /* every block reads the initial state */
    double loss_cleared;        /* memories and states cleared at every segment */
    double seconds;
} brt_validation;

/* Every pointer may be NULL. */
typedef struct brt_run_callbacks {
    void *user;
    void (*on_message)(void *user, const char *text);
    void (*on_step)(void *user, const brt_run_progress *progress);
    void (*on_validation)(void *user, const brt_run_progress *progress, const brt_validation *validation);
    void (*on_sample)(void *user, const brt_run_progress *progress, const int32_t *tokens, size_t count);
    /* At the run's end; asking for it makes the trainer take times. */
    void (*on_profile)(void *user, const brt_trainer *trainer);
    bool (*should_stop)(void *user); /* asked after each step: a checkpoint is written and the run ends */
} brt_run_callbacks;

/* Trains `model` on `train`, validates on `val` (may be NULL). Writes config.json, model.safetensors,
 * optimizer.safetensors, trainer_state.json and metrics.jsonl into options->out. With `resume` the model's weights
 * are replaced by the checkpoint's; its configuration must be the run's. A directory is one process's at a time, and a
 * model in it that has no checkpoint is not overwritten. BRT_INTERRUPTED when should_stop ended it, after the
 * checkpoint. A run that is killed at any moment and resumed gives the bit-identical losses of an uninterrupted one. */
BRT_API brt_status brt_run(brt_model *model, const brt_dataset *train, const brt_dataset *val,
                           const brt_run_options *options, const brt_run_callbacks *callbacks);

/* ---- evaluation -------------------------------------------------------------------------------------------------- */

typedef struct brt_evaluate_options {
    size_t size;
    int threads;
    bool no_states;
    bool no_memories;
    size_t clear_every;      /* tokens: clear memories and states that often; 0: only between documents */
    uint64_t max_tokens;     /* 0: all */
    size_t buckets;          /* loss by position in the document; 0: none */
    size_t bucket_width;     /* tokens per bucket; the last bucket takes the rest */
    double *bucket_loss;     /* [buckets] nats per token, or NULL */
    uint64_t *bucket_tokens; /* [buckets], or NULL */
} brt_evaluate_options;
BRT_API brt_evaluate_options brt_evaluate_options_init(void);

typedef struct brt_evaluation {
    double loss;       /* nats per token */
    uint64_t tokens;   /* predicted: all but the first of each document */
    uint64_t documents;
    double seconds;
} brt_evaluation;
/* Scores every document from its start, memories and states carried. */
BRT_API brt_status brt_evaluate(const brt_model *model, const brt_dataset *dataset, const brt_evaluate_options *options,
                                brt_evaluation *out);

/* ---- tensors in files ------------------------------------------------------------------------------------------------ */

/* A safetensors file being read or written; for tools such as `brt trace`. */
typedef struct brt_tensors brt_tensors;

typedef struct brt_tensor_info {
    const char *name;
    const char *dtype; /* "F32", "I64", ... */
    size_t dims;
    size_t shape[8];
    size_t count;
    const void *data; /* mapped, little-endian, owned by the handle */
} brt_tensor_info;
BRT_API brt_status brt_tensors_open(brt_tensors **out, const char *path);
BRT_API size_t brt_tensors_count(const brt_tensors *tensors);
BRT_API brt_status brt_tensors_at(const brt_tensors *tensors, size_t index, brt_tensor_info *out);
/* BRT_ERROR_MISMATCH when there is no tensor of that name. */
BRT_API brt_status brt_tensors_find(const brt_tensors *tensors, const char *name, brt_tensor_info *out);
/* An empty set to add to; data is copied. */
BRT_API brt_status brt_tensors_create(brt_tensors **out);
BRT_API brt_status brt_tensors_add(brt_tensors *tensors, const char *name, size_t dims, const size_t *shape,
                                   const float *data);
BRT_API brt_status brt_tensors_save(const brt_tensors *tensors, const char *path);
BRT_API void brt_tensors_close(brt_tensors *tensors);

/* ---- bench ------------------------------------------------------------------------------------------------------------ */

typedef struct brt_machine {
    int threads;
    double peak_f32_gflops;   /* measured with fused multiply-adds on all threads */
    double peak_bf16_gflops;  /* 0 where the processor has no bf16 dot product */
    double read_gbytes_per_s; /* sequential reads of memory beyond the caches */
} brt_machine;
/* Takes about two seconds. threads 0: all processors. */
BRT_API brt_status brt_machine_measure(int threads, brt_machine *out);

#ifdef __cplusplus
}
#endif
#endif
