#include "criteria/multiple_angle.h"

#include <math.h>

#define PI 3.14159265358979323846

double dml_multiple_angle(double cosine, int m, double *slope) {
    double c = fmin(fmax(cosine, -1), 1);
    double t = c, before = 1;   /* T_1 = c, T_0 = 1 */
    double u = 1, u_before = 0; /* U_0 = 1: T_m' = m U_{m-1} */
    for (int i = 1; i < m; i++) {
        double next = 2 * c * t - before, u_next = 2 * c * u - u_before;
        before = t;
        t = next;
        u_before = u;
        u = u_next;
    }
    double k = fmin(floor(m * acos(c) / PI), m - 1), sign = fmod(k, 2) == 0 ? 1 : -1;
    *slope = sign * m * u;
    return sign * t - 2 * k;
}
