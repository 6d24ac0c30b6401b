#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *dml_number_text(double value, char text[DML_NUMBER_SIZE]) {
    if (!isfinite(value)) {
        snprintf(text, DML_NUMBER_SIZE, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return text;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, DML_NUMBER_SIZE, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return text;
}
