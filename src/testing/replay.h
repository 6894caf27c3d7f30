/* testing/replay.h -- runs a fuzz target over files: the corpus is a regression test in every
 * build. */
#pragma once

#include "base/base.h"

/* Defined by a fuzz target, absent (NULL) in a unit test. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) __attribute__((weak));

/* A target that is slow may define it: so many generated inputs instead of 256. */
extern const unsigned testing_replay_generated __attribute__((weak));

bool testing_replay_wanted(void);

/* Each argument that is a file, and each file in an argument that is a directory. Arguments that do
 * not exist and options are passed over; the empty input and a few generated ones always run.
 * Blocks. */
int testing_replay(int argc, char **argv);
