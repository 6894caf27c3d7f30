/*
 * tree/tree_extra.c -- what a checkpoint knows besides nodes and messages, as bytes: see struct
 * tree_extra. Layout, little-endian: magic "BTEX", version u32, tables u32, length of `drained`
 * u16, zero u16, drops u64; for each table number u32, draining u32, least and greatest message
 * number u64; `drained`; drops, u64 each. Its checksum is in the superblock. Pure.
 */
#include "tree/tree_extra.h"

#include "tree/btt.h"
#include "tree/tree_format.h"
#include "wire/wire.h"

#include <string.h>

#define EXTRA_MAGIC UINT32_C(0x58455442) /* "BTEX" */
#define EXTRA_VERSION 1u
#define EXTRA_HEADER_BYTES 24u
#define EXTRA_TABLE_BYTES 24u

/* Newer tables have greater numbers and newer messages; those that are being drained are the oldest
 * ones. */
static bool extra_is_sound(const struct tree_extra *x)
{
    bool draining = false;
    for (unsigned i = 0; i < x->table_count; i++) {
        const struct tree_extra_table *table = &x->table[i];
        const struct tree_extra_table *newer = i == 0 ? NULL : &x->table[i - 1];
        if (table->draining > 1 || table->draining < (draining ? 1U : 0U) || table->msn_min == 0 ||
            table->msn_max < table->msn_min) {
            return false;
        }
        if (newer != NULL && (newer->number <= table->number || newer->msn_min <= table->msn_max)) {
            return false;
        }
        draining = table->draining != 0;
    }
    return draining || x->drained.len == 0;
}

size_t tree_extra_bytes(const struct tree_extra *x)
{
    return EXTRA_HEADER_BYTES + (size_t)x->table_count * EXTRA_TABLE_BYTES + x->drained.len +
           x->drop_count * sizeof(uint64_t);
}

void tree_extra_encode(const struct tree_extra *x, const uint64_t *drops, uint8_t *out)
{
    CHECK(x->table_count <= TREE_EXTRA_TABLES_MAX && x->drained.len <= TREE_KEY_MAX);
    CHECK(extra_is_sound(x));
    wire_store_u32(out, EXTRA_MAGIC);
    wire_store_u32(out + 4, EXTRA_VERSION);
    wire_store_u32(out + 8, x->table_count);
    wire_store_u16(out + 12, (uint16_t)x->drained.len);
    wire_store_u16(out + 14, 0);
    wire_store_u64(out + 16, x->drop_count);
    out += EXTRA_HEADER_BYTES;
    for (unsigned i = 0; i < x->table_count; i++) {
        wire_store_u32(out, x->table[i].number);
        wire_store_u32(out + 4, x->table[i].draining);
        wire_store_u64(out + 8, x->table[i].msn_min);
        wire_store_u64(out + 16, x->table[i].msn_max);
        out += EXTRA_TABLE_BYTES;
    }
    if (x->drained.len > 0) {
        memcpy(out, x->drained.at, x->drained.len);
        out += x->drained.len;
    }
    for (size_t i = 0; i < x->drop_count; i++) {
        wire_store_u64(out + i * sizeof(uint64_t), drops[i]);
    }
}

static bool extra_drops_valid(const struct tree_extra *x)
{
    for (size_t i = 0; i < x->drop_count; i++) {
        uint64_t block = wire_load_u64(x->drops + i * sizeof(uint64_t));
        if (block == 0 || block > TREE_BTT_BLOCK_MAX) {
            return false;
        }
    }
    return true;
}

int tree_extra_decode(const uint8_t *bytes, size_t len, struct tree_extra *ret)
{
    struct tree_extra x = {0};
    struct wire_reader r = wire_reader_over(bytes, len);
    uint32_t magic = wire_read_u32(&r), version = wire_read_u32(&r);
    uint32_t table_count = wire_read_u32(&r);
    uint16_t drained_len = wire_read_u16(&r), zero = wire_read_u16(&r);
    uint64_t drop_count = wire_read_u64(&r);
    if (r.bad) {
        return -ERR_short_msg;
    }
    if (magic != EXTRA_MAGIC || version != EXTRA_VERSION) {
        return magic != EXTRA_MAGIC ? -ERR_bad_magic : -ERR_bad_version;
    }
    if (table_count > TREE_EXTRA_TABLES_MAX || drained_len > TREE_KEY_MAX || zero != 0 ||
        drop_count > len / sizeof(uint64_t)) {
        return -ERR_bad_value;
    }
    for (x.table_count = 0; x.table_count < table_count; x.table_count++) {
        struct tree_extra_table *table = &x.table[x.table_count];
        table->number = wire_read_u32(&r);
        table->draining = wire_read_u32(&r);
        table->msn_min = wire_read_u64(&r);
        table->msn_max = wire_read_u64(&r);
    }
    x.drained = (struct kv_slice){.at = wire_read_bytes(&r, drained_len), .len = drained_len};
    x.drop_count = (size_t)drop_count;
    x.drops = wire_read_bytes(&r, x.drop_count * sizeof(uint64_t));
    if (r.bad || r.left > 0) {
        return r.bad ? -ERR_short_msg : -ERR_bad_length;
    }
    if (!extra_is_sound(&x) || !extra_drops_valid(&x)) {
        return -ERR_bad_value;
    }
    *ret = x;
    return 0;
}
