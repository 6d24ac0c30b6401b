#ifndef DML_CRITERIA_MULTIPLE_ANGLE_H
#define DML_CRITERIA_MULTIPLE_ANGLE_H

/* psi(theta) = (-1)^k cos(m theta) - 2k, k = floor(m theta / pi) and at most m - 1: cos(m theta)
 * made to fall all the way from 0 to pi. Also its slope by cos theta. Both are Chebyshev
 * polynomials of the cosine, so that nothing is singular at cosine 1; k is a constant. m >= 1. */
double dml_multiple_angle(double cosine, int m, double *slope);

#endif
