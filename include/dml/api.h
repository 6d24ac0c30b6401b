#ifndef DML_API_H
#define DML_API_H

/* Marks what the libraries export: nothing else in them is visible. */
#define DML_API __attribute__((visibility("default")))

#endif
