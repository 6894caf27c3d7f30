/* chunk/content_priv.h -- how a content and who made it are described: the same in the records of
 * the `file` engine and in index and journal of `extent`. Readers set `bad` for what cannot be. */
#pragma once

#include "chunk/record_format.h"
#include "wire/wire.h"

void chunk_write_meta(struct wire_writer *w, const struct chunk_meta *m);
void chunk_read_meta(struct wire_reader *r, struct chunk_meta *m);
void chunk_write_recent(struct wire_writer *w, const struct chunk_recent *x);
void chunk_read_recent(struct wire_reader *r, struct chunk_recent *ret);
