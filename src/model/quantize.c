/* A copy of a model in another precision: its matrices and its embedding rounded, or widened to floats again. */
#include "model.h"

#include "../base/size.h"

#include <stdlib.h>
#include <string.h>

static brt_precision choose_one_for_all(const void *context, const brt_parameter *parameter)
{
    (void)parameter;
    return *(const brt_precision *)context;
}

/* What converting a row takes. */
typedef struct conversion {
    const brt_kernels *kernels;
    real *widened; /* room for the longest row */
    void *rounded; /* likewise */
} conversion;

/* A row of weights as floats: where they are, or widened. */
static const real *row_of(const conversion *c, const brt_parameter *parameter, size_t row)
{
    size_t count = parameter->tensor.shape[1];
    if (parameter->precision == BRT_F32)
        return parameter->tensor.data + row * count;
    brt_quantized_widen_row(&parameter->quantized, c->kernels, row, c->widened);
    return c->widened;
}

static brt_status convert(const conversion *c, const brt_parameter *from, brt_parameter *to)
{
    size_t count = from->tensor.shape[1];
    for (size_t row = 0; row < from->tensor.shape[0]; row++) {
        const real *weights = row_of(c, from, row);
        if (to->precision == BRT_F32)
            memcpy(to->tensor.data + row * count, weights, count * sizeof *weights);
        else if (!brt_quantized_round_row(&to->quantized, c->kernels, row, weights, c->rounded))
            return BRT_FAIL(BRT_ERROR_NUMERIC,
                            "\"%s\" cannot be quantized: its row %zu has a weight that is not finite",
                            from->name, row);
    }
    return BRT_OK;
}

static brt_status copy_parameter(const conversion *c, const brt_parameter *from, brt_parameter *to)
{
    if (from->precision != to->precision)
        return convert(c, from, to);
    if (from->precision == BRT_F32)
        memcpy(to->tensor.data, from->tensor.data, from->tensor.count * sizeof(real));
    else
        brt_quantized_copy(&from->quantized, &to->quantized);
    return BRT_OK;
}

static brt_status copy_parameters(const brt_model *from, brt_model *to)
{
    size_t longest = 1;
    for (size_t i = 0; i < from->parameters.count; i++)
        longest = brt_max_size(longest, from->parameters.items[i].tensor.shape[1]);
    conversion c = {from->kernels, malloc(longest * sizeof(real)), malloc(longest * sizeof(real))};
    brt_status status = c.widened && c.rounded
                            ? BRT_OK
                            : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for rows of %zu weights", longest);
    for (size_t i = 0; i < from->parameters.count && status == BRT_OK; i++)
        status = copy_parameter(&c, &from->parameters.items[i], &to->parameters.items[i]);
    free(c.widened);
    free(c.rounded);
    return status;
}

brt_status brt_model_quantize(brt_model **out, const brt_model *model, const char *dtype)
{
    brt_precision precision;
    if (!brt_precision_parse(dtype, &precision))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no dtype \"%s\" of weights; there are f32, bf16 and int8", dtype);
    brt_model *copy;
    BRT_TRY(brt_model_allocate(&copy, &model->config, choose_one_for_all, &precision));
    brt_status status = copy_parameters(model, copy);
    if (status != BRT_OK) {
        brt_model_close(copy);
        return status;
    }
    *out = copy;
    return BRT_OK;
}
