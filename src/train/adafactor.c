/* Adafactor (Shazeer & Stern 2018) as optax 0.2.8 computes it with the original's settings: for each parameter w with
 * gradient g at update t = 1, 2, ...
 *   decay = 1 - t^-0.8
 *   v = decay * v + (1 - decay) * (g^2 + 1e-30),  u = g / sqrt(v)
 *   w -= m,  m = beta1 * m + (1 - beta1) * rate * max(rms(w), 1e-3) * u / max(1, rms(u))
 * Of a matrix with both sides of 128 or more only the means of v over its columns and over its rows are kept, r and c:
 *   u = g / sqrt(r c / mean(r)) */
#include "optimizer.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>

enum {
    least_factored = 128,
    strip = 64,            /* columns of one task */
    part_reals = 1 << 15,  /* of one task: whole rows */
};

static const double decay_exponent = 0.8, least_square = 1e-30, least_scale = 1e-3;

static bool is_factored(const brt_parameter *parameter)
{
    const brt_tensor *w = &parameter->tensor;
    return w->dims == 2 && w->shape[0] >= least_factored && w->shape[1] >= least_factored;
}

/* ---- what is kept: first moments as the parameters lie, then second moments one after the other ------------- */

static size_t second_reals(const brt_parameter *parameter)
{
    const brt_tensor *w = &parameter->tensor;
    return is_factored(parameter) ? w->shape[0] + w->shape[1] : w->count;
}

static size_t kept_reals(const brt_parameters *parameters)
{
    size_t reals = parameters->total, widest = 0;
    for (size_t i = 0; i < parameters->count; i++) {
        reals += second_reals(&parameters->items[i]);
        if (is_factored(&parameters->items[i]))
            widest = brt_max_size(widest, parameters->items[i].tensor.shape[1]);
    }
    return reals + widest; /* room for the columns' factors */
}

static real *second_moment(const brt_optimizer *optimizer, const brt_parameter *parameter)
{
    real *at = optimizer->kept + optimizer->parameters->total;
    for (const brt_parameter *p = optimizer->parameters->items; p < parameter; p++)
        at += second_reals(p);
    return at;
}

static size_t list_moments(const brt_optimizer *optimizer, const brt_parameter *parameter,
                           brt_moment moments[BRT_MOST_MOMENTS])
{
    const brt_tensor *w = &parameter->tensor;
    real *second = second_moment(optimizer, parameter);
    moments[0] =
        brt_moment_like("first_moment", parameter, optimizer->kept + brt_optimizer_offset(optimizer, parameter));
    if (!is_factored(parameter)) {
        moments[1] = brt_moment_like("second_moment", parameter, second);
        return 2;
    }
    moments[1] = (brt_moment){"second_moment_rows", 1, {w->shape[0]}, second};
    moments[2] = (brt_moment){"second_moment_columns", 1, {w->shape[1]}, second + w->shape[0]};
    return 3;
}

/* ---- an update of one parameter ------------------------------------------------------------------------------ */

typedef struct job {
    const brt_kernels *kernels;
    size_t rows, columns, count;
    real *weight, *gradient, *first, *second;
    real *row, *column;   /* of a factored second moment: [rows], [columns] */
    real *column_factor;  /* [columns] */
    double mean;          /* of row */
    double decay, momentum, rate;
} job;

static double average(const job *j, real so_far, double square)
{
    return j->decay * (double)so_far + (1 - j->decay) * (square + least_square);
}

static size_t rows_per_task(const job *j)
{
    return brt_max_size(1, part_reals / j->columns);
}

static void row_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t end = brt_min_size(j->rows, (task + 1) * rows_per_task(j));
    (void)thread;
    for (size_t r = task * rows_per_task(j); r < end; r++) {
        double sum;
        j->kernels->sum_squares(j->columns, j->gradient + r * j->columns, &sum);
        j->row[r] = (real)average(j, j->row[r], sum / (double)j->columns);
    }
}

static void column_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * strip, count = brt_min_size(strip, j->columns - first);
    real sum[strip] = {0};
    (void)thread;
    for (size_t r = 0; r < j->rows; r++)
        j->kernels->add_squares(count, j->gradient + r * j->columns + first, sum);
    for (size_t c = 0; c < count; c++) {
        real *column = &j->column[first + c];
        *column = (real)average(j, *column, (double)sum[c] / (double)j->rows);
        j->column_factor[first + c] = (real)(1 / sqrt((double)*column));
    }
}

static void factor_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t end = brt_min_size(j->rows, (task + 1) * rows_per_task(j));
    (void)thread;
    for (size_t r = task * rows_per_task(j); r < end; r++)
        j->kernels->multiply(j->columns, (real)sqrt(j->mean / (double)j->row[r]), j->column_factor,
                             j->gradient + r * j->columns);
}

static void divide_by_factors(int threads, job *j)
{
    brt_parallel_for(threads, brt_ceil_div(j->rows, rows_per_task(j)), row_task, j);
    brt_parallel_for(threads, brt_ceil_div(j->columns, strip), column_task, j);
    j->mean = 0;
    for (size_t r = 0; r < j->rows; r++)
        j->mean += (double)j->row[r] / (double)j->rows;
    brt_parallel_for(threads, brt_ceil_div(j->rows, rows_per_task(j)), factor_task, j);
}

static void divide_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->adafactor_scale(brt_min_size(part_reals, j->count - first), (real)j->decay, j->gradient + first,
                                j->second + first);
}

static void step_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->momentum_step(brt_min_size(part_reals, j->count - first), (real)j->momentum, (real)j->rate,
                              j->weight + first, j->gradient + first, j->first + first);
}

/* Root of the mean square. */
static double measure(brt_optimizer *optimizer, const real *x, size_t count)
{
    return sqrt(brt_optimizer_squares(optimizer, x, count) / (double)count);
}

static void update_parameter(brt_optimizer *optimizer, const brt_parameter *parameter, job *j, double learning_rate)
{
    int threads = optimizer->threads;
    size_t parts = brt_ceil_div(j->count, part_reals);
    if (is_factored(parameter))
        divide_by_factors(threads, j);
    else
        brt_parallel_for(threads, parts, divide_task, j);
    j->rate = learning_rate * fmax(measure(optimizer, j->weight, j->count), least_scale) /
              fmax(1, measure(optimizer, j->gradient, j->count));
    brt_parallel_for(threads, parts, step_task, j);
}

/* Where everything of a parameter is; `second` is where its second moments begin. */
static job make_job(const brt_optimizer *optimizer, const brt_parameter *parameter, real *second)
{
    size_t offset = brt_optimizer_offset(optimizer, parameter), rows = parameter->tensor.shape[0];
    return (job){.kernels = optimizer->kernels,
                 .rows = rows,
                 .columns = parameter->tensor.count / rows,
                 .count = parameter->tensor.count,
                 .weight = optimizer->parameters->memory + offset,
                 .gradient = optimizer->gradient + offset,
                 .first = optimizer->kept + offset,
                 .second = second,
                 .row = second,
                 .column = second + rows,
                 .decay = 1 - pow((double)optimizer->step, -decay_exponent),
                 .momentum = (double)optimizer->beta1};
}

static void update(brt_optimizer *optimizer, double learning_rate, double gradient_scale)
{
    const brt_parameters *parameters = optimizer->parameters;
    real *second = optimizer->kept + parameters->total;
    real *factors = second_moment(optimizer, parameters->items + parameters->count);
    for (size_t i = 0; i < parameters->count; i++) {
        const brt_parameter *parameter = &parameters->items[i];
        job j = make_job(optimizer, parameter, second);
        j.column_factor = factors;
        if (gradient_scale < 1)
            optimizer->kernels->scale(j.count, (real)gradient_scale, j.gradient, j.gradient);
        update_parameter(optimizer, parameter, &j, learning_rate);
        second += second_reals(parameter);
    }
}

const brt_method brt_adafactor = {kept_reals, list_moments, update};
