/* chunk/extent_format_priv.h -- what values of the index and records of the journal share. */
#pragma once

#include "chunk/content_priv.h"
#include "chunk/extent_format.h"

static inline void chunk_write_unit(struct wire_writer *w, uint64_t unit)
{
    wire_write_u32(w, (uint32_t)unit);
    wire_write_u16(w, (uint16_t)(unit >> 32));
}
static inline uint64_t chunk_read_unit(struct wire_reader *r)
{
    uint64_t low = wire_read_u32(r), unit = low | (uint64_t)wire_read_u16(r) << 32;
    r->bad = r->bad || unit >= CHUNK_UNITS_MAX - CHUNK_CELLS_MAX;
    return unit;
}
uint32_t chunk_cells_run(const uint64_t *unit, uint32_t cell, uint32_t end);
