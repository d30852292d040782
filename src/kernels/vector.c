/* The vector kernels of one instruction set: compiled once for each, with BRT_SET (avx2), BRT_VECTOR_BYTES and the
 * compiler's options for the set. Everything but the table is static, so that no function compiled for a newer
 * processor can stand in for one of another set. */
#include "kernels.h"

#include "tables.h"
#include "vector_gates.h"
#include "vector_geglu.h"
#include "vector_matmul.h"
#include "vector_optimizer.h"
#include "vector_pairs.h"
#include "vector_packed.h"
#include "vector_panels.h"
#include "vector_peak.h"
#include "vector_rows.h"
#include "vector_softmax.h"
#include "vector_stored.h"

#define BRT_TABLE_OF(set) brt_kernels_##set
#define BRT_TABLE(set) BRT_TABLE_OF(set)
#define BRT_NAME_OF(set) #set
#define BRT_NAME(set) BRT_NAME_OF(set)

const brt_kernels BRT_TABLE(BRT_SET) = {
    .isa = BRT_NAME(BRT_SET),
    .lanes = lanes,
    .panel_columns = tile_columns,
#define BRT_KERNEL(name, arguments) .name = name,
#include "kernels.def"
#undef BRT_KERNEL
};
