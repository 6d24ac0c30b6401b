#ifndef TESTS_RELIABILITY_RECORDS_H
#define TESTS_RELIABILITY_RECORDS_H

#include <stddef.h>

/* The records of a TensorBoard event file and of a W&B log as text, without their times. */
void print_events(const unsigned char *data, size_t size);
void print_wandb(const unsigned char *data, size_t size);

#endif
