/* proto/table_priv.h -- what the walks over a table share. */
#pragma once

#include "proto/table.h"

#define TABLE_LENGTH_BYTES 4u /* before each STRUCT and each element of a LIST */

/* Length and contents of a BYTES, TEXT or NAME field. */
int proto_check_bytes(const struct proto_field *f, const uint8_t *at, size_t len);

/* Every struct <tag>_list looks like this. */
struct table_any_list {
    void *at;
    size_t count;
};
