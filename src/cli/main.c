#include "dml/dml.h"

#include <stdio.h>

int main(void) {
    puts("dml " DML_VERSION);
    return 0;
}
