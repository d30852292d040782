/*
 * brt -- measuring: what the machine can do, and what the library's parts make of it.
 *
 * A program that uses models needs none of this. It is public because the program brt, too, knows the library through
 * public headers only, and a header of its own because it is about the library, not about models. The conventions are
 * those of <brt/brt.h>.
 */
#ifndef BRT_BENCH_H
#define BRT_BENCH_H

#include <brt/brt.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the machine ------------------------------------------------------------------------------------------------- */

typedef struct brt_machine {
    int threads;              /* used */
    double peak_f32_gflops;   /* measured with fused multiply-adds on all threads */
    double peak_bf16_gflops;  /* 0 where the processor has no bf16 dot product */
    double read_gbytes_per_s; /* sequential reads of memory beyond the caches */
} brt_machine;
/* Takes about a second, and 512 MiB of memory. threads 0: all processors. */
BRT_API brt_status brt_machine_measure(int threads, brt_machine *out);

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

enum { BRT_MOST_KERNEL_SETS = 8 };

/* One kernel on one thread and on data in the caches, in every instruction set that this processor and build have, the
 * plain C one ("generic") first, whichever is in use: they are measured in turn. */
typedef struct brt_kernel_speeds {
    const char *name;                        /* static, as the next two */
    const char *unit;                        /* "GFLOP/s" of products, else "GB/s": read and written */
    size_t sets;
    const char *isa[BRT_MOST_KERNEL_SETS];   /* [sets] */
    double speed[BRT_MOST_KERNEL_SETS];      /* [sets], in `unit` */
} brt_kernel_speeds;
/* How many kernels there are. */
BRT_API size_t brt_kernel_count(void);
/* Measures the index-th; BRT_ERROR_ARGUMENT past the last. */
BRT_API brt_status brt_kernel_measure(size_t index, brt_kernel_speeds *out);

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* Attention of `heads` heads of `queries` queries over `keys` keys and values that all heads share. */
typedef struct brt_attention_case {
    size_t rows, queries, keys, heads, dim_head;
    bool causal;       /* the last query sees all keys, each one before it one less */
    const char *dtype; /* of the products, forward and backward: "f32" or "bf16" (as in brt_trainer_options) */
    int threads;       /* 0: all processors */
} brt_attention_case;

/* Medians. FLOPs are those of the matrix products over the pairs that see each other: 4 per pair, head and number of a
 * head forward, 10 backward, where the scores are computed again (as Dao 2023 counts). Fractions are of the peak of the
 * products' type, measured before each round. */
typedef struct brt_attention_speed {
    double peak_gflops, forward_gflops, backward_gflops;
    double forward_fraction, backward_fraction;
} brt_attention_speed;
BRT_API brt_status brt_attention_measure(const brt_attention_case *how, brt_attention_speed *out);

/* ---- routed memories --------------------------------------------------------------------------------------------- */

/* Fills the routed memories of every row, up to their capacity, with random keys and values: as if so much had been
 * read. Nothing where the model has none. */
BRT_API brt_status brt_stream_fill_routed(brt_stream *stream);
BRT_API brt_status brt_trainer_fill_routed(brt_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
