/*
 * brt -- Block-Recurrent Transformers in C.
 *
 * The model is that of Hutchins et al. 2022 (https://arxiv.org/abs/2203.07852), as the PyTorch package
 * block-recurrent-transformer-pytorch 0.4.4 computes it. That package is "the reference" in what follows.
 *
 * A complete use, without the error checks (every call returns a brt_status):
 *
 *     brt_model *model;
 *     brt_stream *stream;
 *     brt_stream_options options = brt_stream_options_init();
 *     brt_model_load(&model, "runs/books");
 *     brt_stream_open(&stream, model, &options);
 *     brt_stream_feed_last(stream, prompt, prompt_length, logits); // any length, any number of calls
 *     for (;;) {
 *         brt_sample(logits, num_tokens, &sampling, brt_stream_position(stream, 0), &token);
 *         brt_stream_feed_last(stream, &token, 1, logits);         // one token's work, whatever came before
 *     }
 *     brt_stream_close(stream);
 *     brt_model_close(model);
 *
 * Conventions
 *   - Handles are opaque. X_open/X_create/X_load make one, X_close frees it and takes NULL.
 *   - Every function that can fail returns a brt_status; brt_last_error() then says in a sentence, per
 *     thread, what was wrong, with which file, key or argument, and what was expected. What a failed call
 *     was to write through its pointers is then undefined, and there is no handle to close, unless said
 *     otherwise. Any call that allocates can be BRT_ERROR_MEMORY, any that touches files BRT_ERROR_IO.
 *   - Shapes are written as [rows, time, dim], row-major, the last index fastest. A "row" is one
 *     independent sequence of a batch.
 *   - Option structs start with their own size; make them with their _init function and change fields.
 *   - The caller owns every buffer it passes in; the library keeps no pointer to it after the call.
 *   - A brt_model is immutable while streams use it and may be shared between threads. A stream, a
 *     trainer or a dataset is used by one thread at a time.
 *   - Losses are mean cross entropies in nats per token. `threads` is 0 for all processors, at most 1024.
 *   - The library never prints, never exits, and holds no global state besides the table of kernels chosen
 *     for this processor and, for each thread that calls it, its error text and its team of worker threads:
 *     they are made at the first call that uses more than one thread, sleep between calls, have all
 *     signals blocked, and live as long as the thread they work for.
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

/* X(name, text): every outcome of a call. BRT_OK is 0. */
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

/* The sentence of the last failed call of this thread; "" when there was none. Valid until this thread's next failure.
 * Control characters, which a file's name may have, stand there as "?". */
BRT_API const char *brt_last_error(void);

/* "0.1.0" */
BRT_API const char *brt_version(void);

/* The instruction set whose kernels are in use: "avx512_bf16", "avx512", "avx2" or "sse2" on x86-64, "neon" on AArch64,
 * or "generic". It is chosen for the processor at the first call that needs it, or forced by the environment variable
 * BRT_ISA; a name there that this processor or build does not have makes model creation and loading fail with
 * BRT_ERROR_ARGUMENT, and is "none" here. */
BRT_API const char *brt_isa(void);

/* ---- configuration ------------------------------------------------------------------------------- */

/* The constructor arguments of the model, under the names of the reference, e.g. "dim". */
typedef struct brt_config brt_config;

typedef struct brt_config_key {
    const char *name;          /* "block_width" */
    const char *type;          /* "integer", "number", "boolean", "integers" (a list) or "choice" (a name) */
    const char *default_value; /* as JSON text, "" where it must be given, or a rule in words */
    const char *help;          /* one line */
} brt_config_key;

/* The i-th key, or NULL past the last one: the source of command-line flags and documentation. Static. */
BRT_API const brt_config_key *brt_config_key_at(size_t i);

/* A configuration with the defaults; what has none is still to be set. */
BRT_API brt_status brt_config_create(brt_config **out);
BRT_API void brt_config_close(brt_config *config);
/* Sets one key from JSON text ("512", "[3, 5]", "true"); a bare "3,5" is accepted for a list, and a bare name for
 * a choice. "null" goes back to a
 * default that depends on other keys. BRT_ERROR_ARGUMENT for an unknown key, BRT_ERROR_CONFIG for a value of the wrong
 * type. */
BRT_API brt_status brt_config_set(brt_config *config, const char *key, const char *json);
/* Sets the keys that FILE.json, or DIR/config.json, has. BRT_ERROR_FORMAT when it is not a JSON object,
 * BRT_ERROR_CONFIG for an unknown key or a value of the wrong type; some keys may be set then. */
BRT_API brt_status brt_config_load(brt_config *config, const char *path);
/* Sets the keys of a preset's model: "tiny", "small", "reference", the model of the reference's train.py, or
 * "paper-tiny" and "paper-150m", Hutchins et al.'s Rec:fixed:skip, small and as large as theirs. */
BRT_API brt_status brt_config_preset(brt_config *config, const char *name);
/* Fills in the defaults that depend on others and checks every rule: BRT_ERROR_CONFIG names what breaks one,
 * BRT_ERROR_UNSUPPORTED what is not there yet. Model creation does it, too. */
BRT_API brt_status brt_config_check(brt_config *config);
/* The value of a key after a check: of a list its length, of a boolean 0 or 1, of a number its integer part, of a name
 * its place among those that the key can have, from 0; -1 for an unknown key. */
BRT_API int64_t brt_config_get(const brt_config *config, const char *key);
/* All keys as a JSON object, as config.json holds them. The caller frees it with brt_free. */
BRT_API brt_status brt_config_json(const brt_config *config, char **out);
/* Frees what the library has handed over to the caller. Takes NULL. */
BRT_API void brt_free(void *memory);

/* ---- model ----------------------------------------------------------------------------------------- */

typedef struct brt_model brt_model;

/* New weights in the reference's distributions, from one seed; the same for any number of threads. The configuration is
 * checked and copied. A model that memory cannot hold is BRT_ERROR_MEMORY before anything is allocated. */
BRT_API brt_status brt_model_create(brt_model **out, const brt_config *config, uint64_t seed);
/* DIR holds config.json and model.safetensors: the reference's state_dict() names and shapes, with or without the
 * prefix "transformer.", of any real type (F32, BF16, ...); `beta` buffers are ignored. Matrices in BF16, and in I8
 * with their scales, stay so: the model is a quantized one (brt_model_quantize). BRT_ERROR_MISMATCH names a tensor that
 * is missing, superfluous or of another shape than the configuration's. */
BRT_API brt_status brt_model_load(brt_model **out, const char *dir);
/* Makes DIR where needed and writes config.json and model.safetensors there, each beside, synced and renamed: F32, and
 * what a quantized model holds as BF16 or I8 so, with a tensor NAME_scale [outputs] (F32) for NAME in I8. */
BRT_API brt_status brt_model_save(const brt_model *model, const char *dir);
/* A model with the weights of `source` and recurrent layers or routed memories that it lacks: `config` is the source's
 * but for what concerns these (recurrent_layers, num_state_vectors, routed_layers, ...). At first its logits are the
 * source's, bit by bit, because what is heard from the new states has weights of 0, and what is looked up a gate of 0;
 * then it can be trained. BRT_ERROR_MISMATCH for a configuration with which it would compute something else,
 * BRT_ERROR_UNSUPPORTED for a quantized model and for the paper's arithmetic. */
BRT_API brt_status brt_model_graft(brt_model **out, const brt_model *source, const brt_config *config, uint64_t seed);
BRT_API void brt_model_close(brt_model *model);
/* The checked configuration, owned by the model. */
BRT_API const brt_config *brt_model_config(const brt_model *model);

/* A copy of the model for inference, its matrices and its embedding held in fewer bits: in "bf16", or as 8-bit integers
 * with a scale for each output ("int8"), rounded to the nearest. A token reads every matrix once, so it takes about
 * half or a quarter of the time, and the model as much less memory. Activations, sums, gains, biases and states stay
 * floats. Such a model cannot be trained: BRT_ERROR_UNSUPPORTED. "f32" makes one that can, of the numbers that are
 * there. BRT_ERROR_ARGUMENT for another dtype, BRT_ERROR_NUMERIC for a weight that is not finite. */
BRT_API brt_status brt_model_quantize(brt_model **out, const brt_model *model, const char *dtype);

typedef struct brt_parameter_info {
    const char *name;  /* the reference's state_dict() name, or the paper's in Flax */
    const char *dtype; /* as the model holds it: "F32"; of a quantized model also "BF16" or "I8". A static string */
    const float *data; /* [shape], owned by the model; a trainer changes it; NULL unless it is F32 */
    size_t count;      /* of numbers: the product of the shape */
    size_t dims;
    size_t shape[4];   /* [dims] */
    bool transposed;   /* files have the transpose, of two dimensions, as Flax has kernels */
} brt_parameter_info;
/* How many tensors of parameters the model has. */
BRT_API size_t brt_model_parameter_count(const brt_model *model);
/* The index-th of them, always in the same order; BRT_ERROR_ARGUMENT past the last. */
BRT_API brt_status brt_model_parameter(const brt_model *model, size_t index, brt_parameter_info *out);

typedef struct brt_model_costs {
    uint64_t parameters;             /* numbers */
    uint64_t parameter_bytes;        /* of them, as the model holds them, without the copies it packs for products */
    uint64_t stream_bytes;           /* of one stream of one row: windows, states, working and routed memory */
    uint64_t routed_bytes;           /* of those, routed memories, full */
    uint64_t flops_per_token;        /* forward, matrix products, as the reference computes them (masked scores, too):
                                        of a block that has a memory, its write of the states included, per token */
    uint64_t train_flops_per_sample; /* forward and backward of one row's sample, likewise */
    uint64_t decode_bytes_per_token; /* of matrices, to produce one token inside a block, on average */
} brt_model_costs;
/* A training sample is `sample_tokens` tokens read from the start (no memory at first) in segments of
 * `segment_tokens`, which is a multiple of block_width and divides it. */
BRT_API brt_status brt_model_measure(const brt_model *model, size_t sample_tokens, size_t segment_tokens,
                                     brt_model_costs *out);

/* ---- stream: one timeline per row -------------------------------------------------------------------- */

typedef struct brt_stream brt_stream;

typedef struct brt_stream_options {
    size_t size;
    size_t rows;       /* independent sequences fed together; default 1 */
    int threads;       /* 0: all processors; logits do not depend on it */
    bool no_states;    /* never carry states: every block reads the initial state */
    bool no_memories;  /* never read memories: a block attends only to itself */
    size_t recall_tokens;   /* exact recall: each head of each token attends to so many keys of its own choice among all
                               that a routed memory holds, instead of what routes choose. A pass over the memory for
                               each token; 0 (default): none */
    size_t recall_layer;    /* the layer, from 1, that recalls in a model without routed layers; 0: depth / 2 + 1 */
    size_t recall_capacity; /* tokens that it remembers; default 250000 */
} brt_stream_options;
BRT_API brt_stream_options brt_stream_options_init(void);

/* At the start of every row. All working memory is allocated here; feeding cannot run out of memory. The model must
 * outlive the stream. */
BRT_API brt_status brt_stream_open(brt_stream **out, const brt_model *model, const brt_stream_options *options);
BRT_API void brt_stream_close(brt_stream *stream);
/* Appends `time` tokens, [rows, time], to every row. logits, or NULL: [rows, time, num_tokens], for the token after
 * each. Any split of an input into calls gives the same logits: to the bit when cut at blocks' ends, else up to
 * rounding. States and memories are committed at the end of each full block, a part of a block waits in the stream. A
 * token outside the vocabulary is BRT_ERROR_ARGUMENT, and nothing has been appended. */
BRT_API brt_status brt_stream_feed(brt_stream *stream, const int32_t *tokens, size_t time, float *logits);
/* The same, writing only the logits of the last token: [rows, num_tokens]. */
BRT_API brt_status brt_stream_feed_last(brt_stream *stream, const int32_t *tokens, size_t time, float *logits);
/* One token for each of `count` streams, in one pass over the weights: many cost little more than one. The streams are
 * of one model and have one row each, and may be anywhere in their timelines. tokens [count], logits [count,
 * num_tokens] or NULL: bit for bit what each stream would give alone. The first one's threads work for all.
 * BRT_ERROR_ARGUMENT for streams that do not go together, or a token outside the vocabulary; nothing has been appended
 * then. */
BRT_API brt_status brt_streams_feed(brt_stream *const *streams, size_t count, const int32_t *tokens, float *logits);
/* Row `row` (or every row: -1) starts anew: initial state, no memory, position 0. In a stream of several rows a single
 * one can be reset at a block's start only; inside a block that is BRT_ERROR_ARGUMENT. */
BRT_API brt_status brt_stream_reset(brt_stream *stream, int64_t row);
/* Drops what waits of a partial block: every row goes back to the end of its last committed block. */
BRT_API brt_status brt_stream_drop_partial_block(brt_stream *stream);
/* Tokens of the row's timeline: those fed since its reset. 0 for a row that is not there. */
BRT_API uint64_t brt_stream_position(const brt_stream *stream, size_t row);
/* Keys held as memory by the row that has the most: 0 before the first committed block, then block_width, and with
 * compressed memory its entries, up to block_width / 2. (A row that was reset sees none of them; its own are 0.) */
BRT_API size_t brt_stream_memory_length(const brt_stream *stream);
/* Layer from 0; out is [2, rows, memory_length, kv_heads * dim_head]: keys, then values, compressed ones first, as
 * projected: before normalisation and rotation, as the reference returns them. */
BRT_API brt_status brt_stream_memories(const brt_stream *stream, size_t layer, float *out);
/* index counts the recurrent layers in ascending order, from 0; out is [rows, num_state_vectors, dim]: the state that
 * the current block reads. */
BRT_API brt_status brt_stream_states(const brt_stream *stream, size_t index, float *out);
/* Tokens that the row with the most of them remembers in routed memories; 0 without. */
BRT_API size_t brt_stream_routed_length(const brt_stream *stream);
/* index counts the routed layers in ascending order, from 0; out is [2, rows, routed_length, kv_heads * dim_head]: keys
 * of length 1, then values, as the memory keeps them, the newest last; 0 before what a row remembers. */
BRT_API brt_status brt_stream_routed(const brt_stream *stream, size_t index, float *out);
/* Writes a session file, beside and renamed. It holds the whole timeline, its partial block included; loading continues
 * it exactly, with the weights that made it and no others. `note` is the caller's own UTF-8 text kept with it (NULL:
 * ""). */
BRT_API brt_status brt_stream_save(const brt_stream *stream, const char *path, const char *note);
/* Takes the timeline of a file into a stream of as many rows. *note (note may be NULL) is freed with brt_free.
 * BRT_ERROR_MISMATCH for another model or number of rows, BRT_ERROR_FORMAT for a file that is no session; the stream is
 * then as it was. */
BRT_API brt_status brt_stream_load(brt_stream *stream, const char *path, char **note);

typedef struct brt_sampling {
    size_t size;
    float temperature;  /* logits are divided by it; default 1; 0: the most likely token */
    size_t top_k;       /* the most likely so many; default 0: all */
    float top_p;        /* the fewest most likely that have this probability together (nucleus sampling, Holtzman et al.
                           2020); default 1: all */
    float filter_thres; /* the ceil((1 - filter_thres) * num_tokens) most likely, as the reference; default 0: all */
    uint64_t seed;
} brt_sampling;
BRT_API brt_sampling brt_sampling_init(void);
/* Draws from logits [num_tokens]; of several filters every one holds. The random numbers are a function of (seed,
 * position) alone, so a continued session draws what an uninterrupted one would: brt_stream_position is the position to
 * give. BRT_ERROR_NUMERIC when a logit is not finite. */
BRT_API brt_status brt_sample(const float *logits, size_t num_tokens, const brt_sampling *sampling, uint64_t position,
                              int32_t *token);

/* ---- data ------------------------------------------------------------------------------------------------ */

typedef struct brt_dataset brt_dataset;

typedef struct brt_dataset_options {
    size_t size;
    const char *const *paths; /* files, directories (searched in depth, in sorted order) or glob patterns */
    size_t path_count;
    const char *format;       /* "auto" (default): .bin holds tokens, all else bytes; or "bytes", "uint16", "uint32" */
    const char *split;        /* NULL: everything; "enwik8:train", "enwik8:val" or "enwik8:test": of enwik8 the
                                 customary 90, 5 and 5 million bytes */
    size_t num_tokens;        /* a token at or above this is an error that names the file; default 0: no check */
} brt_dataset_options;
BRT_API brt_dataset_options brt_dataset_options_init(void);

/* Each file is one document; .gz and .xz are decompressed; empty files are left out, and in directories names with a
 * dot in front. Plain files of some size are mapped, not read: they must not be changed while the data set is open.
 * BRT_ERROR_IO for a path that is not there, BRT_ERROR_FORMAT for a damaged file, BRT_ERROR_DATA for tokens outside the
 * vocabulary, or no tokens at all. */
BRT_API brt_status brt_dataset_open(brt_dataset **out, const brt_dataset_options *options);
BRT_API void brt_dataset_close(brt_dataset *dataset);
/* How many documents there are, and tokens in all of them. */
BRT_API size_t brt_dataset_documents(const brt_dataset *dataset);
BRT_API uint64_t brt_dataset_tokens(const brt_dataset *dataset);
/* A document's path, owned by the data set, and its tokens; NULL and 0 past the last. */
BRT_API const char *brt_dataset_document_name(const brt_dataset *dataset, size_t document);
BRT_API uint64_t brt_dataset_document_tokens(const brt_dataset *dataset, size_t document);
/* Copies tokens [offset, offset + count) of a document; BRT_ERROR_ARGUMENT when they are not all there. */
BRT_API brt_status brt_dataset_read(const brt_dataset *dataset, size_t document, uint64_t offset, size_t count,
                                    int32_t *tokens);
/* Splits the tail off: the last `fraction` of the tokens, whole documents where there are at least two (at least one
 * document), else the end of the only one. `dataset` keeps the rest; *out is a new handle on the same data, which may
 * be closed before or after it. */
BRT_API brt_status brt_dataset_split_tail(brt_dataset *dataset, double fraction, brt_dataset **out);

/* ---- trainer: segments -> gradient -> update ---------------------------------------------------------------- */

typedef struct brt_trainer brt_trainer;

typedef struct brt_trainer_options {
    size_t size;
    size_t rows;                /* batch; default 4 */
    size_t segment_blocks;      /* blocks of backpropagation through time per segment; default 8 */
    bool recompute;             /* keep the activations of one block and what the others start from, and compute these
                                   again in the backward pass (as Memformer, Wu et al. 2022): less memory, a
                                   third more time, the same gradients bit by bit; default false */
    int threads;                /* 0: all processors; losses and weights do not depend on it, bit by bit */
    const char *dtype;          /* of the operands of matrix products: "f32" (default), or "bf16": rounded to bf16 for
                                   products with weights and, where there is a gradient, of attention; sums, weights and
                                   moments stay f32. BRT_ERROR_UNSUPPORTED where brt_isa() is not "avx512_bf16" */
    const char *optimizer;      /* "adamw" (default; Loshchilov & Hutter 2019) or "adam" (Kingma & Ba 2015, without
                                   decay), as PyTorch has them, or "adafactor" (Shazeer & Stern 2018, without decay),
                                   as optax has it: of Adam's numbers it has beta1 only */
    bool summed_loss;           /* the gradient is that of the sum of the targets' losses, as in the original, where
                                   Adafactor cancels the factor; default false: of their mean */
    bool skip_last_target;      /* the last token of a row's segment has no loss while training, as in the original,
                                   which has its targets in the segment; default false */
    float learning_rate;        /* the highest of a run (brt_run); brt_trainer_update is given its own; default 1e-3 */
    float beta1, beta2, epsilon; /* of Adam; default 0.9, 0.999, 1e-8 */
    float weight_decay;         /* of matrices; embeddings, gains, gates and states are never decayed; default 0.01;
                                   with "adam" it must be 0 */
    float clip;                 /* largest norm of the whole gradient, as PyTorch clips it; default 0.5; 0: any */
    float xl_memories_dropout;  /* probability, per row and segment, to start without memories; default 0.1 (as the
                                   reference's trainer) */
    float state_dropout;        /* likewise from the initial state; default 0.1 */
    float dropout;              /* probability that an activation is dropped while training, in the paper's arithmetic:
                                   before attention, after the feed-forward and before the logits; default 0 (the
                                   paper: 0.05) */
    float attention_dropout;    /* likewise a weight of attention to the window; default 0 (the paper: 0.05) */
    float reconstruction_weight; /* of the loss that teaches compressed memories to keep what is asked for (Rae et al.
                                   2020), added to the mean cross entropy in the gradient; default 0, as the reference;
                                   BRT_ERROR_ARGUMENT for a model without learned compression */
    bool profile;               /* take the time of every operation: brt_trainer_profile; default false */
    uint64_t seed;              /* of the dropouts */
    uint64_t memory_limit;      /* bytes beside the model's weights; more is BRT_ERROR_MEMORY; 0: what the system has */
} brt_trainer_options;
BRT_API brt_trainer_options brt_trainer_options_init(void);

/* Bytes that a trainer with these options needs beside the model's own weights, without making it. Like opening, not
 * while the model has a trainer or another thread uses it. */
BRT_API brt_status brt_trainer_measure(const brt_model *model, const brt_trainer_options *options, uint64_t *bytes);
/* Allocates everything a step needs. The trainer changes the model's weights: a model has one trainer at a time (a
 * second one is BRT_ERROR_ARGUMENT), and a stream is opened after an update, not kept over one. The model must outlive
 * it. */
BRT_API brt_status brt_trainer_open(brt_trainer **out, brt_model *model, const brt_trainer_options *options);
BRT_API void brt_trainer_close(brt_trainer *trainer);

typedef struct brt_segment {
    size_t time;            /* tokens per row: 1 to segment_blocks * block_width */
    const int32_t *tokens;  /* [rows, time] */
    const int32_t *targets; /* [rows, time]; ignore_index: no loss there */
    const bool *reset;      /* [rows] or NULL: the row starts a document: initial state, no memory */
    float weight;           /* the gradient is that of weight * mean loss: 1 / accumulation steps */
    bool forward_only;      /* evaluate: no gradient, no dropout; memories and states are carried all the same */
    float *logits;          /* [rows, time, num_tokens] or NULL */
} brt_segment;
/* Runs one segment, adds its gradient, and carries memories and states (detached) into the next: those of the last full
 * block. *loss: mean cross entropy in nats over the targets that are not ignore_index (0 when there is none), *count
 * how many (count may be NULL). A token or target outside the vocabulary is BRT_ERROR_ARGUMENT, and nothing is
 * changed. */
BRT_API brt_status brt_trainer_segment(brt_trainer *trainer, const brt_segment *segment, double *loss, uint64_t *count);
/* Clips, updates the weights with `learning_rate`, zeroes the gradient. *norm (norm may be NULL) is the gradient's norm
 * before clipping. A norm that is not finite is BRT_ERROR_NUMERIC, and nothing is updated. */
BRT_API brt_status brt_trainer_update(brt_trainer *trainer, float learning_rate, double *norm);
/* The reconstruction loss of the last segment with a gradient: the mean squared difference between what the blocks'
 * queries get from the windows before them and from what these become in compressed memory. 0 without
 * reconstruction_weight, or where no window was compressed. It is not part of a segment's loss. */
BRT_API double brt_trainer_reconstruction_loss(const brt_trainer *trainer);
/* Forgets carried memories and states of every row. */
BRT_API void brt_trainer_clear(brt_trainer *trainer);
/* Copies the sum of the gradients since the last update, of one parameter: index, count and shape as in
 * brt_model_parameter. */
BRT_API brt_status brt_trainer_gradient(const brt_trainer *trainer, size_t index, float *out);
/* Where the time of the trainer's segments with a gradient and of its updates went, since it was opened. */
typedef struct brt_profile_entry {
    const char *name;   /* an operation: "linear", "attention", ...; or a part of the updates: "gradient norm",
                           "optimizer" (with the clipping), "packing" (of the weights). A static string */
    uint64_t calls;     /* forward, those of `recompute` among them */
    double forward_seconds, backward_seconds; /* on the calling thread's clock; updates have forward only */
    double flops;       /* of matrix products, forward (as often as it ran) and backward */
    double bytes;       /* of gradient norm and optimizer: what they must read and write */
} brt_profile_entry;
/* The index-th entry, in no particular order, of a trainer opened with `profile`; false past the last, or without. */
BRT_API bool brt_trainer_profile(const brt_trainer *trainer, size_t index, brt_profile_entry *out);
/* What the next segment will read, in the shapes of brt_stream_memory_length, brt_stream_memories, brt_stream_states. A
 * row without a memory of its own (it was reset, and no full block has passed) has no defined keys and values there. */
BRT_API size_t brt_trainer_memory_length(const brt_trainer *trainer);
BRT_API brt_status brt_trainer_memories(const brt_trainer *trainer, size_t layer, float *out);
BRT_API brt_status brt_trainer_states(const brt_trainer *trainer, size_t index, float *out);
/* In the shapes of brt_stream_routed_length and brt_stream_routed. */
BRT_API size_t brt_trainer_routed_length(const brt_trainer *trainer);
BRT_API brt_status brt_trainer_routed(const brt_trainer *trainer, size_t index, float *out);

/* ---- run: a training run in a directory ------------------------------------------------------------------------ */

typedef struct brt_run_options {
    size_t size;
    const char *out;              /* the run's directory, made where needed */
    bool resume;                  /* go on from the checkpoint in `out`, or start where there is none */
    const char *sampling;         /* "stream" (default): rows read documents in order, memories and states carried on;
                                     documents are shuffled every epoch, and long ones cut into pieces; "crops":
                                     windows drawn at random */
    size_t crop_segments;         /* crops: windows of this many times max_seq_len tokens, plus one; default 2 */
    uint64_t steps;               /* updates of the weights in all; default 1000; 0: any number, until max_seconds */
    double max_seconds;           /* time of the run, all sessions together; default 0: any. With both given, the one
                                     that is further decides on the end and on the cosine */
    uint64_t save_every;          /* steps between checkpoints; default 500; 0: only at the end */
    uint64_t val_every, sample_every; /* steps; default 0: only at the end (samples: never) */
    uint64_t val_tokens;          /* tokens per validation, up to whole blocks; default 0: all of the validation data */
    size_t sample_tokens;         /* length of a sample; default 200 */
    size_t accumulation;          /* segments (of crops: windows) per update; default 1 */
    const char *schedule;         /* after the warm-up trainer.learning_rate is "constant", follows a "cosine" (default;
                                     Loshchilov & Hutter 2017, no restarts), or falls with 1 / sqrt(step): "rsqrt"; or
                                     it is a factor, 1 as a rule, of one of the schedules that the original has for
                                     Adafactor: "rsqrt_decay_std", 1 / sqrt(max(step, 100)), that of Hutchins et al.;
                                     "rsqrt_decay", "cosine_decay", "cosine_decay_spike" and "linear_decay", which
                                     arrive at 0.001 with the last step */
    uint64_t warmup;              /* steps of linear warm-up; default 0 */
    float min_learning_rate;      /* where the cosine ends; below 0 (default): 0.1 * trainer.learning_rate */
    uint64_t seed;                /* of the order of the data, the dropouts and the samples; trainer.seed is not used */
    brt_trainer_options trainer;
} brt_run_options;
BRT_API brt_run_options brt_run_options_init(void);
/* Sets what a preset ("tiny", "small", "reference", the reference's train.py, "paper-tiny" or "paper-150m", training as
 * Hutchins et al. do it) has of its own; its model is brt_config_preset's. */
BRT_API brt_status brt_run_options_preset(brt_run_options *options, const char *name);

typedef struct brt_run_progress {
    uint64_t step, steps;       /* updates done, and in all (0: unknown) */
    double loss;                /* nats per token, the mean of this step's segments */
    double reconstruction_loss; /* likewise, with trainer.reconstruction_weight; else 0 */
    double gradient_norm;       /* before clipping */
    float learning_rate;        /* of this step */
    double tokens_per_s;        /* of this step */
    double seconds;             /* time of the run so far, validations and earlier sessions included */
    double max_seconds;         /* as in the options; 0: any */
} brt_run_progress;

typedef struct brt_validation {
    uint64_t tokens;            /* predicted */
    double loss;                /* nats per token, memories and states carried through each document */
    double loss_no_states;      /* the same tokens where every block reads the initial state */
    double loss_cleared;        /* and where memories and states are cleared after every segment_blocks blocks */
    double seconds;             /* that all three took */
} brt_validation;

/* Called on the thread that called brt_run; what they are given lives until they return. Every pointer may be NULL.
 * After a step come, where due: on_step, on_validation, the line of metrics, on_sample, the checkpoint, should_stop. */
typedef struct brt_run_callbacks {
    void *user; /* given to each */
    /* A sentence for people, without a line's end: where the run goes on, what it warns of. */
    void (*on_message)(void *user, const char *text);
    void (*on_step)(void *user, const brt_run_progress *progress);
    void (*on_validation)(void *user, const brt_run_progress *progress, const brt_validation *validation);
    /* [count] tokens that follow a line's end (token 10; or token 0 in a smaller vocabulary), drawn with temperature
     * 0.8 and top_p 0.95. */
    void (*on_sample)(void *user, const brt_run_progress *progress, const int32_t *tokens, size_t count);
    /* At the run's end, however it ends, for brt_trainer_profile; asking for it makes the trainer take times. */
    void (*on_profile)(void *user, const brt_trainer *trainer);
    /* True: a checkpoint is written and the run ends. */
    bool (*should_stop)(void *user);
} brt_run_callbacks;

/* Trains `model` on `train`, validates on `val` (may be NULL). Writes config.json, model.safetensors,
 * optimizer.safetensors, trainer_state.json and metrics.jsonl into options->out. `callbacks` may be NULL.
 *
 * With `resume` the model's weights are replaced by the checkpoint's; its configuration, the data and the options that
 * the checkpoint depends on must be the run's (BRT_ERROR_MISMATCH names what is not). A run that is killed at any
 * moment and resumed gives the bit-identical losses of an uninterrupted one, on the same instruction set and where the
 * learning rate does not follow the time.
 *
 * A directory is one process's at a time, and a run or a model in it is not overwritten. BRT_INTERRUPTED when
 * should_stop ended it, after the checkpoint. BRT_ERROR_NUMERIC when a loss or gradient is not finite: the last
 * checkpoint is then as it was. BRT_ERROR_DATA when there is too little to train or validate on. */
BRT_API brt_status brt_run(brt_model *model, const brt_dataset *train, const brt_dataset *val,
                           const brt_run_options *options, const brt_run_callbacks *callbacks);

/* ---- evaluation -------------------------------------------------------------------------------------------------- */

/* Everything is 0 at first. */
typedef struct brt_evaluate_options {
    size_t size;
    int threads;             /* 0: all processors; the loss does not depend on it */
    bool no_states;          /* every block reads the initial state */
    bool no_memories;        /* every block attends only to itself */
    size_t clear_every;      /* tokens, a multiple of block_width: clear memories and states that often; 0: only between
                                documents */
    uint64_t max_tokens;     /* stop after the blocks in which so many have been predicted; 0: all */
    size_t buckets;          /* loss by position in the document; 0: none, and the next three are not used */
    size_t bucket_width;     /* tokens per bucket; the last bucket takes the rest */
    double *bucket_loss;     /* out, [buckets]: nats per token; 0 where there is no token */
    uint64_t *bucket_tokens; /* out, [buckets] */
    size_t recall_tokens;    /* exact recall, and the layer that recalls: as in brt_stream_options */
    size_t recall_layer;
} brt_evaluate_options;
BRT_API brt_evaluate_options brt_evaluate_options_init(void);

typedef struct brt_evaluation {
    double loss;        /* nats per token */
    uint64_t tokens;    /* predicted: all but the first of each document, and targets that are ignore_index */
    uint64_t documents; /* begun; those of a single token are left out */
    double seconds;
} brt_evaluation;
/* Scores every document from its start, memories and states carried to its end. BRT_ERROR_DATA when there is nothing to
 * predict, BRT_ERROR_NUMERIC when the loss is not finite. */
BRT_API brt_status brt_evaluate(const brt_model *model, const brt_dataset *dataset, const brt_evaluate_options *options,
                                brt_evaluation *out);

/* ---- tensors in files -------------------------------------------------------------------------------------------- */

/* A safetensors file being read or written; for tools such as `brt trace`. */
typedef struct brt_tensors brt_tensors;

typedef struct brt_tensor_info {
    const char *name;  /* owned by the handle */
    const char *dtype; /* "F32", "I64", ... */
    size_t dims;
    size_t shape[8];   /* [dims] */
    size_t count;      /* the product of the shape */
    const void *data;  /* [shape], little-endian, owned by the handle; of a file mapped, and at any address */
} brt_tensor_info;
/* Opens a file and checks it against every rule of the format (BRT_ERROR_FORMAT):
 * https://github.com/huggingface/safetensors#format */
BRT_API brt_status brt_tensors_open(brt_tensors **out, const char *path);
BRT_API size_t brt_tensors_count(const brt_tensors *tensors);
/* The index-th tensor, in the order of the data or of adding; BRT_ERROR_ARGUMENT past the last. */
BRT_API brt_status brt_tensors_at(const brt_tensors *tensors, size_t index, brt_tensor_info *out);
/* BRT_ERROR_MISMATCH when there is no tensor of that name. */
BRT_API brt_status brt_tensors_find(const brt_tensors *tensors, const char *name, brt_tensor_info *out);
/* An empty set to add to and to save. */
BRT_API brt_status brt_tensors_create(brt_tensors **out);
/* Adds a copy of data [shape], as F32, to a set made with brt_tensors_create. BRT_ERROR_ARGUMENT for a name that is
 * there already, more than 8 dimensions, or a set that was opened. */
BRT_API brt_status brt_tensors_add(brt_tensors *tensors, const char *name, size_t dims, const size_t *shape,
                                   const float *data);
/* Writes the set as a file, beside and renamed. */
BRT_API brt_status brt_tensors_save(const brt_tensors *tensors, const char *path);
BRT_API void brt_tensors_close(brt_tensors *tensors);

#ifdef __cplusplus
}
#endif
#endif
