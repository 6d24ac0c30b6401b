#ifndef DML_BASE_NUMBER_H
#define DML_BASE_NUMBER_H

/* The shortest decimal text that reads back as exactly `value`; "nan", "inf" or "-inf" for what is
 * not finite. Returns `text`. */
enum { DML_NUMBER_SIZE = 32 };
const char *dml_number_text(double value, char text[DML_NUMBER_SIZE]);

#endif
