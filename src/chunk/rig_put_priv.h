/* chunk/rig_put_priv.h -- for tests: contents of a rig_store_priv.h, written and looked at. */
#pragma once

#include "chunk/rig_store_priv.h"

#include <string.h>

/* ---- Requests ---- */

RIG void rig_update_done(struct chunk_update *u, int rc)
{
    rig_over(container_of(u, struct store_rig, update), rc);
}
RIG void rig_update_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->update.done = rig_update_done;
    chunk_store_update(r->store, &r->update);
}
RIG void rig_commit_in(void *ctx)
{
    struct store_rig *r = ctx;
    rig_over(r, chunk_store_commit(r->store, r->update.key, r->update.identity));
}
RIG void rig_change_done(struct chunk_change *c, int rc)
{
    rig_over(container_of(c, struct store_rig, change), rc);
}
RIG void rig_change_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->change.done = rig_change_done;
    chunk_store_change(r->store, &r->change);
}
RIG void rig_sync_done(struct chunk_sync *s, int rc)
{
    rig_over(container_of(s, struct store_rig, sync), rc);
}
RIG void rig_sync_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->sync.done = rig_sync_done;
    chunk_store_sync(r->store, &r->sync);
}
RIG void rig_read_done(struct chunk_read *x, int rc)
{
    rig_over(container_of(x, struct store_rig, read), rc);
}
RIG void rig_read_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->read.done = rig_read_done;
    chunk_store_read(r->store, &r->read);
}

RIG void rig_hold_done(struct chunk_hold *h, int rc)
{
    rig_over(container_of(h, struct store_rig, hold), rc);
}
RIG void rig_hold_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->hold.done = rig_hold_done;
    int rc = chunk_store_hold(r->store, &r->hold);
    if (rc == -ERR_need) {
        chunk_store_hold_wait(r->store, &r->hold);
    } else {
        rig_over(r, rc);
    }
}
RIG void rig_let_go_in(void *ctx)
{
    struct store_rig *r = ctx;
    chunk_store_let_go(r->store, &r->hold);
    rig_over(r, 0);
}
/* As chunk_store_lookup(), also what is not in memory. */
RIG int rig_look_up(struct store_rig *r, struct chunk_key key, struct chunk_info *ret)
{
    r->hold = (struct chunk_hold){.key = key};
    int rc = rig_wait(r, rig_hold_in);
    if (rc == 0) {
        rc = chunk_store_lookup(r->store, key, ret);
        CHECK_OK(rig_wait(r, rig_let_go_in));
    }
    return rc;
}

RIG void rig_ahead_done(struct chunk_ahead *a, int rc)
{
    rig_over(container_of(a, struct store_rig, ahead), rc);
}
RIG void rig_ahead_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->ahead.done = rig_ahead_done;
    CHECK_OK(chunk_store_ahead(r->store, &r->ahead));
}
/* As chunk_store_next(), also what is not in memory. */
RIG int rig_next(struct store_rig *r, struct chunk_key from, struct chunk_info *ret)
{
    int rc = chunk_store_next(r->store, from, ret);
    if (rc == -ERR_need) {
        r->ahead = (struct chunk_ahead){.from = from};
        CHECK_OK(rig_wait(r, rig_ahead_in));
        rc = chunk_store_next(r->store, from, ret);
        chunk_store_ahead_end(r->store, &r->ahead);
    }
    return rc;
}

/* ---- Contents ---- */

RIG void rig_fill(uint8_t *to, uint32_t len, struct chunk_key key, uint64_t ver)
{
    for (uint32_t i = 0; i < len; i++) {
        to[i] = (uint8_t)(key.data_id * 131 + key.index * UINT64_C(17) + ver * 31 +
                          i * UINT64_C(7) + i / 251 + 1);
    }
}

struct rig_piece {
    struct chunk_key key;
    uint64_t ver; /* the one before is its base, if there is one and it is not whole */
    enum chunk_kind kind;
    uint32_t offset, length;
};

/* An update that is committed; all bytes are those of its version. */
RIG int rig_put(struct store_rig *r, struct rig_piece p)
{
    uint8_t *bytes = mem_zalloc(p.length + 1u);
    uint32_t *crc = mem_calloc(CHUNK_CELLS_MAX + 1, sizeof *crc);
    struct iovec iov = {.iov_base = bytes, .iov_len = p.length};
    struct chunk_update *u = &r->update;
    *u = (struct chunk_update){.key = p.key,
                               .chain = 5,
                               .kind = p.kind,
                               .base = {.aepoch = p.ver > 1 ? 1 : 0, .ver = p.ver - 1},
                               .identity = {.aepoch = 1, .ver = p.ver},
                               .last_ver = p.ver,
                               .offset = p.offset,
                               .crc = crc,
                               .data = &iov,
                               .data_count = 1};
    CHECK_TRUE(bytes != NULL && crc != NULL);
    rig_fill(bytes, p.length, p.key, p.ver);
    if (p.kind == CHUNK_WRITE) {
        u->length = p.length;
    } else {
        u->new_length = p.length;
    }
    for (uint32_t at = 0; at < p.length;) {
        uint32_t n = (uint32_t)base_min(CHUNK_CELL - (p.offset + at) % CHUNK_CELL, p.length - at);
        crc[u->crc_count++] = crc32c(0, bytes + at, n);
        at += n;
    }
    int rc = rig_wait(r, rig_update_in);
    rc = rc < 0 ? rc : rig_wait(r, rig_commit_in);
    mem_free(bytes);
    mem_free(crc);
    return rc;
}
RIG int rig_put_whole(struct store_rig *r, struct chunk_key key, uint64_t ver, uint32_t length)
{
    return rig_put(r, (struct rig_piece){key, ver, CHUNK_WHOLE, 0, length});
}
RIG int rig_delete(struct store_rig *r, struct chunk_key key)
{
    r->change = (struct chunk_change){.op = CHUNK_DELETE, .key = key};
    return rig_wait(r, rig_change_in);
}
RIG int rig_sync(struct store_rig *r)
{
    r->sync = (struct chunk_sync){.scope = CHUNK_SYNC_ALL};
    return rig_wait(r, rig_sync_in);
}
/* The committed content is `length` bytes of version `ver`; or why it cannot be read. */
RIG int rig_check(struct store_rig *r, struct chunk_key key, uint64_t ver, uint32_t length)
{
    uint8_t *got = mem_zalloc(length + 1u), *want = mem_zalloc(length + 1u);
    struct chunk_read *x = &r->read;
    *x = (struct chunk_read){
        .pin = {.key = key, .length = CHUNK_LENGTH_MAX}, .verify = true, .to = got};
    CHECK_TRUE(got != NULL && want != NULL);
    struct chunk_info info;
    int rc = rig_look_up(r, key, &info);
    if (rc == 0 && (info.flags & CHUNK_DAMAGED) == 0) {
        CHECK_EQ(info.length, length); /* else it would be read behind `got` */
    }
    rc = rc < 0 ? rc : rig_wait(r, rig_read_in);
    if (rc == 0) {
        CHECK_EQ(x->pin.identity.ver, ver);
        rig_fill(want, length, key, ver);
        CHECK_BYTES(got, want, length);
    }
    mem_free(got);
    mem_free(want);
    return rc;
}
