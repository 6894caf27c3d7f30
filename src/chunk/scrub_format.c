/* chunk/scrub_format.c -- see scrub_format.h. */
#include "chunk/scrub_format.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <string.h>

#define SCRUB_MAGIC 0x42524353u /* "SCRB" */
#define SCRUB_VERSION 1u
#define NS_PER_MS UINT64_C(1000000)
#define BUSY_FACTOR 8u /* the share is so much smaller while others are served */

void chunk_scrub_encode(const struct chunk_scrub_record *x, uint8_t to[CHUNK_SCRUB_BYTES])
{
    const struct chunk_scrub_info *i = &x->info;
    memset(to, 0, CHUNK_SCRUB_BYTES);
    struct wire_writer w = wire_writer_over(to, CHUNK_SCRUB_BYTES - 4);
    wire_write_u32(&w, SCRUB_MAGIC);
    wire_write_u32(&w, SCRUB_VERSION);
    wire_write_u64(&w, x->number);
    wire_write_bytes(&w, x->target.bytes, sizeof x->target.bytes);
    wire_write_u64(&w, i->round.begun_ms);
    wire_write_u64(&w, i->round.next.data_id);
    wire_write_u32(&w, i->round.next.index);
    wire_write_u64(&w, i->round.last_id);
    wire_write_u64(&w, i->round.weight);
    wire_write_u64(&w, i->round.done);
    wire_write_u64(&w, i->round.chunks);
    wire_write_u64(&w, i->round.found);
    wire_write_u64(&w, i->rounds);
    wire_write_u64(&w, i->last_end_ms);
    wire_write_u64(&w, i->last_took_ms);
    wire_write_u64(&w, i->last_chunks);
    wire_write_u64(&w, i->last_found);
    wire_write_u64(&w, i->found);
    CHECK(!w.bad);
    wire_store_u32(to + CHUNK_SCRUB_BYTES - 4, crc32c(0, to, CHUNK_SCRUB_BYTES - 4));
}

int chunk_scrub_decode(const uint8_t from[CHUNK_SCRUB_BYTES], struct chunk_scrub_record *ret)
{
    if (wire_load_u32(from) != SCRUB_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(from + CHUNK_SCRUB_BYTES - 4) != crc32c(0, from, CHUNK_SCRUB_BYTES - 4)) {
        return -ERR_bad_crc;
    }
    if (wire_load_u32(from + 4) != SCRUB_VERSION) {
        return -ERR_bad_version;
    }
    struct wire_reader r = wire_reader_over(from + 8, CHUNK_SCRUB_BYTES - 12);
    struct chunk_scrub_record x = {.number = wire_read_u64(&r)};
    struct chunk_scrub_info *i = &x.info;
    const uint8_t *target = wire_read_bytes(&r, sizeof x.target.bytes);
    if (target != NULL) {
        memcpy(x.target.bytes, target, sizeof x.target.bytes);
    }
    i->round.begun_ms = wire_read_u64(&r);
    i->round.next.data_id = wire_read_u64(&r);
    i->round.next.index = wire_read_u32(&r);
    i->round.last_id = wire_read_u64(&r);
    i->round.weight = wire_read_u64(&r);
    i->round.done = wire_read_u64(&r);
    i->round.chunks = wire_read_u64(&r);
    i->round.found = wire_read_u64(&r);
    i->rounds = wire_read_u64(&r);
    i->last_end_ms = wire_read_u64(&r);
    i->last_took_ms = wire_read_u64(&r);
    i->last_chunks = wire_read_u64(&r);
    i->last_found = wire_read_u64(&r);
    i->found = wire_read_u64(&r);
    if (r.bad) {
        return -ERR_bad_value;
    }
    *ret = x;
    return 0;
}

/* a * by / of, at most the longest pause. */
static uint64_t pause_scaled(uint64_t a, uint64_t by, unsigned __int128 of)
{
    unsigned __int128 x = (unsigned __int128)a * by / of;
    return x > CHUNK_SCRUB_PAUSE_MAX_NS ? CHUNK_SCRUB_PAUSE_MAX_NS : (uint64_t)x;
}

uint64_t chunk_scrub_pause_ns(const struct chunk_scrub_pace *p)
{
    CHECK(p->share_permille >= 1 && p->share_permille <= 1000);
    uint64_t left = p->weight > p->done ? p->weight - p->done : 0;
    uint64_t left_ms = p->round_ms > p->gone_ms ? p->round_ms - p->gone_ms : 0;
    uint64_t left_ns = base_min(left_ms, UINT64_MAX / NS_PER_MS) * NS_PER_MS;
    uint64_t spread =
        left == 0 ? 0 : pause_scaled(left_ns, p->now, (unsigned __int128)left + p->now);
    uint64_t whole = p->busy ? 1000 * BUSY_FACTOR : 1000;
    uint64_t rest = pause_scaled(p->took_ns, whole - p->share_permille, p->share_permille);
    return base_max(spread, rest);
}

uint32_t chunk_scrub_permille(const struct chunk_scrub_info *x)
{
    const struct chunk_scrub_round *r = &x->round;
    bool under_way = r->begun_ms != 0 && r->weight > 0 && r->done < UINT64_MAX / 1000;
    return under_way ? (uint32_t)base_min(r->done * 1000 / r->weight, 1000) : 0;
}
