/* The one door to gnuplot, which runs as a program. */
#ifndef BRT_CLI_PLOT_H
#define BRT_CLI_PLOT_H

#include <brt/brt.h>

typedef struct plot_curve {
    const char *title;
    const double *x, *y;
    size_t count;
    bool dots; /* marks at the points, too */
} plot_curve;

typedef struct plot {
    const char *title, *x_label, *y_label;
    const plot_curve *curves;
    size_t curve_count;
} plot;

/* Draws into FILE.svg or FILE.png. */
brt_status plot_draw(const plot *picture, const char *path);

#endif
