#include "dml/core.h"

const char *dml_version(void) {
    return DML_VERSION;
}
