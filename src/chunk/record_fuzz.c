/* chunk/record_fuzz.c -- any bytes as record, table, superblock, removed data. */
#include "base/crc32c.h"
#include "base/mem.h"
#include "chunk/record_format.h"
#include "testing/replay.h"
#include "wire/wire.h"

static void fuzz_table(const struct chunk_meta *m)
{
    uint32_t cells = chunk_cells(m->length);
    uint32_t *crc = mem_calloc((size_t)cells + 1, sizeof *crc);
    uint64_t *block = mem_calloc((size_t)cells + 1, sizeof *block);
    struct chunk_recent *recent = mem_calloc(m->recent_count + 1u, sizeof *recent);
    if (crc != NULL && block != NULL && recent != NULL) {
        struct chunk_table t = {.length = m->length,
                                .crc = crc,
                                .block = block,
                                .recent = recent,
                                .recent_count = m->recent_count};
        if (chunk_table_decode(m->table, m->table_bytes, &t) == 0) {
            CHECK(chunk_table_encode(&t, NULL, 0) <= CHUNK_TABLE_MAX);
        }
    }
    mem_free(crc);
    mem_free(block);
    mem_free(recent);
}

static void fuzz_slot(uint8_t *slot)
{
    struct chunk_record r;
    if (chunk_record_decode(slot, &r) < 0) {
        return;
    }
    if (r.has_committed && r.committed.table_block == 0) {
        fuzz_table(&r.committed);
    }
    if (r.has_pending && r.pending.table_block == 0) {
        fuzz_table(&r.pending);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t slot[CHUNK_SLOT_BYTES] = {0};
    memcpy(slot, data, base_min(size, sizeof slot));
    fuzz_slot(slot);
    struct chunk_super super;
    struct chunk_dead_record dead;
    CHECK(chunk_super_decode(slot, &super) <= 0);
    CHECK(chunk_dead_decode(slot, &dead) <= 0);
    /* The same with good sums, so that what lies behind them is reached. */
    wire_store_u32(slot + CHUNK_SLOT_BYTES - 4, crc32c(0, slot, CHUNK_SLOT_BYTES - 4));
    fuzz_slot(slot);
    CHECK(chunk_super_decode(slot, &super) <= 0);
    wire_store_u32(slot + CHUNK_DEAD_BYTES - 4, crc32c(0, slot, CHUNK_DEAD_BYTES - 4));
    CHECK(chunk_dead_decode(slot, &dead) <= 0);
    struct chunk_meta m = {.table = data, .table_bytes = (uint32_t)base_min(size, CHUNK_TABLE_MAX)};
    if (size > 4) {
        m.length = wire_load_u32(data) % (CHUNK_LENGTH_MAX + 1);
        m.recent_count = data[3] % (CHUNK_RECENT_MAX + 1);
        fuzz_table(&m);
    }
    return 0;
}
