#include "report/statistics.h"

#include <math.h>

struct dml_spread dml_spread_of(const double *values, size_t count) {
    struct dml_spread spread = {0, 0, 0};
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i])) {
            spread.mean += values[i];
            spread.n++;
        }
    spread.mean = spread.n ? spread.mean / (double)spread.n : NAN;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            spread.deviation += (values[i] - spread.mean) * (values[i] - spread.mean);
    spread.deviation = spread.n ? sqrt(spread.deviation / (double)spread.n) : NAN;
    return spread;
}

struct moments {
    double x, y, xx, xy, yy; /* means, and sums of centred products */
};

static struct moments moments_of(const double *x, const double *y, size_t count) {
    struct moments m = {0, 0, 0, 0, 0};
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(x[i]) && isfinite(y[i])) {
            m.x += x[i];
            m.y += y[i];
            n++;
        }
    m.x /= (double)n;
    m.y /= (double)n;
    for (size_t i = 0; i < count; i++)
        if (isfinite(x[i]) && isfinite(y[i])) {
            m.xx += (x[i] - m.x) * (x[i] - m.x);
            m.xy += (x[i] - m.x) * (y[i] - m.y);
            m.yy += (y[i] - m.y) * (y[i] - m.y);
        }
    return m;
}

double dml_correlation(const double *x, const double *y, size_t count) {
    struct moments m = moments_of(x, y, count);
    return m.xx > 0 && m.yy > 0 ? m.xy / sqrt(m.xx * m.yy) : NAN;
}

struct dml_line dml_fit_line(const double *x, const double *y, size_t count) {
    struct moments m = moments_of(x, y, count);
    if (!(m.xx > 0))
        return (struct dml_line){NAN, NAN};
    double slope = m.xy / m.xx;
    return (struct dml_line){slope, m.y - slope * m.x};
}
