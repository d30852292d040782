/* The type all arithmetic of the model is written in: float, or double in the second build of the same
 * sources that checks gradients (a 0.1 % error is invisible in float and plain in double). */
#ifndef BRT_BASE_REAL_H
#define BRT_BASE_REAL_H

#ifdef BRT_REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#endif
