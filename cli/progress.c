#define _GNU_SOURCE
#include "progress.h"

#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double bar_interval = 0.1, line_interval = 10; /* seconds */
static const double smoothing = 0.9;                        /* of the loss from one step to the next */

void progress_start(progress *p, bool bytes, bool quiet)
{
    *p = (progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO), .bytes = bytes};
}

static void clear_bar(progress *p)
{
    if (p->bar_is_shown)
        fputs("\r\033[K", stderr);
    p->bar_is_shown = false;
}

static size_t terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Of the run, by steps or by time, whichever is further. */
static double fraction_done(const brt_run_progress *now)
{
    double by_steps = now->steps ? (double)now->step / (double)now->steps : 0;
    double by_time = now->max_seconds > 0 ? now->seconds / now->max_seconds : 0;
    return fmin(1, fmax(by_steps, by_time));
}

static double seconds_left(const progress *p, const brt_run_progress *now)
{
    double left = now->max_seconds > 0 ? now->max_seconds - now->seconds : HUGE_VAL;
    if (now->steps && now->step > p->first_step) {
        double per_step = (now->seconds - p->first_seconds) / (double)(now->step - p->first_step);
        left = fmin(left, per_step * (double)(now->steps - now->step));
    }
    return fmax(left, 0);
}

static void format_figures(const progress *p, const brt_run_progress *now, char *out, size_t size)
{
    char of[32] = "", bits[48] = "", left[48] = "";
    double remaining = seconds_left(p, now);
    if (now->steps)
        snprintf(of, sizeof of, "/%llu", (unsigned long long)now->steps);
    if (p->bytes)
        snprintf(bits, sizeof bits, "  %.3f bits/byte", cli_bits(p->loss));
    if (isfinite(remaining))
        snprintf(left, sizeof left, "  %s left", cli_duration(remaining));
    snprintf(out, size, "step %llu%s  loss %.4f%s  %s tokens/s%s", (unsigned long long)now->step, of, p->loss, bits,
             cli_count(now->tokens_per_s), left);
}

static void show_bar(progress *p, const brt_run_progress *now)
{
    enum { most_cells = 30 };
    char figures[200], cells[most_cells + 1] = "";
    format_figures(p, now, figures, sizeof figures);
    size_t width = terminal_width(), used = strlen(figures) + 4;
    size_t count = width > used ? width - used : 0;
    count = count > most_cells ? most_cells : count;
    size_t full = (size_t)(fraction_done(now) * (double)count);
    memset(cells, '.', count);
    memset(cells, '#', full);
    size_t room = width > count + 4 ? width - count - 4 : 0;
    fprintf(stderr, "\r[%.*s] %.*s\033[K", (int)count, cells, (int)room, figures);
    p->bar_is_shown = true;
}

static void show_line(const progress *p, const brt_run_progress *now)
{
    char figures[200];
    format_figures(p, now, figures, sizeof figures);
    fprintf(stderr, "%s\n", figures);
}

/* The step before this session's first is where its clock began. */
static void remember_first(progress *p, const brt_run_progress *now)
{
    if (p->has_first)
        return;
    p->has_first = true;
    p->first_step = now->step;
    p->first_seconds = now->seconds;
    p->loss = now->loss;
}

void progress_step(progress *p, const brt_run_progress *now)
{
    remember_first(p, now);
    p->loss = smoothing * p->loss + (1 - smoothing) * now->loss;
    double time = cli_seconds_now();
    bool last = fraction_done(now) >= 1;
    if (p->quiet || (!last && p->shown_at > 0 && time - p->shown_at < (p->terminal ? bar_interval : line_interval)))
        return;
    p->shown_at = time;
    if (p->terminal)
        show_bar(p, now);
    else
        show_line(p, now);
}

void progress_say(progress *p, const char *format, ...)
{
    va_list arguments;
    clear_bar(p);
    va_start(arguments, format);
    cli_print_line("", format, arguments);
    va_end(arguments);
}

void progress_end(progress *p)
{
    if (p->bar_is_shown)
        fputc('\n', stderr);
    p->bar_is_shown = false;
}

const char *progress_loss(const progress *p, double loss)
{
    static char buffers[4][64];
    static size_t turn;
    turn = (turn + 1) % 4;
    if (p->bytes)
        snprintf(buffers[turn], sizeof buffers[turn], "%.4f bits per byte", cli_bits(loss));
    else
        snprintf(buffers[turn], sizeof buffers[turn], "loss %.4f", loss);
    return buffers[turn];
}
