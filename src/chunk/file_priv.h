/* chunk/file_priv.h -- the parts of the `file` engine: see engine_priv.h for what they do. */
#pragma once

#include "chunk/engine_priv.h"

/* ---- file_record.c ---- */
void chunk_file_hot(struct chunk_work *w, bool create, chunk_next *next);
void chunk_file_record(struct chunk_work *w, const struct chunk_state *st, chunk_next *next);

/* ---- file_write.c ---- */
void chunk_file_reserve(struct chunk_work *w, chunk_next *next);
void chunk_file_unreserve(struct chunk_work *w);
void chunk_file_write(struct chunk_work *w, chunk_next *next);
void chunk_file_waste(struct chunk_work *w, int rc);
void chunk_file_unmake(struct chunk_work *w, chunk_next *next);
void chunk_file_remove(struct chunk_work *w, chunk_next *next);

/* ---- file_sync.c ---- */
void chunk_file_sync(struct chunk_store *s, struct chunk_work *w);
void chunk_file_tick(struct chunk_store *s);
void chunk_file_round(struct chunk_store *s); /* begins one unless it runs */
bool chunk_file_settled(const struct chunk_store *s);

/* ---- scan.c ---- */
NODISCARD int chunk_scan(struct chunk_store *s, struct err *e);
