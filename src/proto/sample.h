/*
 * proto/sample.h -- a record with random but valid contents, for the tests of whoever has tables.
 * Nothing else uses it.
 */
#pragma once

#include "base/rand.h"
#include "proto/table.h"

/* Every field of `record` gets a value, most of them not zero; lists get up to `max_count`
 * elements, bytes up to 4 * max_count. Variable parts come from `a`. -ENOMEM. */
NODISCARD int proto_sample(const struct proto_type *t, struct rand *r, size_t max_count,
                           struct mem_arena *a, void *record);
