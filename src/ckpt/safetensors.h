/* The safetensors format: 8 bytes of little-endian header length, a JSON header, the data.
 * https://github.com/huggingface/safetensors#format -- every rule of it is enforced on reading. */
#ifndef BRT_CKPT_SAFETENSORS_H
#define BRT_CKPT_SAFETENSORS_H

#include "../base/status.h"

typedef struct brt_safetensors brt_safetensors; /* a mapped, verified file */

brt_status brt_safetensors_open(brt_safetensors **out, const char *path);
/* The same of a buffer that outlives the handle; `what` names it in errors. For fuzzing and tests. */
brt_status brt_safetensors_parse(brt_safetensors **out, const void *data, size_t size, const char *what);
void brt_safetensors_close(brt_safetensors *file);
size_t brt_safetensors_count(const brt_safetensors *file);
void brt_safetensors_at(const brt_safetensors *file, size_t index, brt_tensor_info *out);
/* false when there is none of that name */
bool brt_safetensors_find(const brt_safetensors *file, const char *name, brt_tensor_info *out);
/* A value of __metadata__, NULL when absent. */
const char *brt_safetensors_metadata(const brt_safetensors *file, const char *key);
/* The name in errors. */
const char *brt_safetensors_path(const brt_safetensors *file);
bool brt_safetensors_has_shape(const brt_tensor_info *tensor, size_t dims, const size_t *shape);
/* Of a tensor's data. */
size_t brt_safetensors_bytes(const brt_tensor_info *tensor);
/* Converts one tensor (F64, F32, F16, BF16, or I64, I32, U8... for integers) to float. */
void brt_safetensors_to_float(const brt_tensor_info *tensor, float *out);

/* Writing: declare all tensors first, then the file is streamed in that order, data 64-byte aligned,
 * and replaces `path` as a whole. */
typedef struct brt_tensor_source {
    const char *name;
    const char *dtype;
    size_t dims;
    size_t shape[8];
    const void *data;
    bool transposed; /* of two dimensions only: data is the transpose of what is written */
} brt_tensor_source;
/* metadata: key, value, key, value, ..., NULL; or NULL. */
brt_status brt_safetensors_write(const char *path, const brt_tensor_source *tensors, size_t count,
                                 const char *const *metadata);

#endif
