/* datanode/spoilt.c -- see spoilt.h. In one go; if the disk refuses that, cell by cell. */
#include "datanode/spoilt.h"

#include <string.h>

static void spoilt_part(struct datanode_spoilt *s, uint32_t from, uint32_t length, uint32_t *crc,
                        void (*done)(struct chunk_read *read, int rc))
{
    s->read = (struct chunk_read){
        .done = done,
        .pin = {.key = s->key, .which = s->which, .offset = from, .length = length},
        .damaged_too = true,
        .lane = DISK_COPYING,
        .to = s->to + from,
        .crc = crc};
    chunk_store_read(s->store, &s->read);
}

/* What it does give is not thrown away. */
static void spoilt_cell(struct chunk_read *read, int rc)
{
    struct datanode_spoilt *s = container_of(read, struct datanode_spoilt, read);
    if (rc < 0) {
        memset(s->to + (size_t)s->cell * CHUNK_CELL, 0, chunk_cell_bytes(s->length, s->cell));
    }
    s->cell++;
    if (s->stopped) {
        s->done(s, -ERR_cancelled);
    } else if (s->cell >= chunk_cells(s->length)) {
        s->done(s, 0);
    } else {
        spoilt_part(s, s->cell * CHUNK_CELL, chunk_cell_bytes(s->length, s->cell), NULL,
                    spoilt_cell);
    }
}

static void spoilt_whole(struct chunk_read *read, int rc)
{
    struct datanode_spoilt *s = container_of(read, struct datanode_spoilt, read);
    bool known = chunk_identity_equal(read->pin.identity, s->identity) &&
                 chunk_digest(s->length, s->crc) == s->digest;
    if (s->stopped) {
        s->done(s, -ERR_cancelled);
    } else if (rc < 0 && !err_is(rc, EIO)) {
        s->done(s, rc);
    } else if (!known) {
        s->done(s, -ERR_corrupt);
    } else if (rc < 0) {
        s->cell = 0;
        spoilt_part(s, 0, chunk_cell_bytes(s->length, 0), NULL, spoilt_cell);
    } else {
        s->done(s, 0);
    }
}

void datanode_spoilt_read(struct datanode_spoilt *s)
{
    CHECK(s->length > 0);
    s->stopped = false;
    spoilt_part(s, 0, s->length, s->crc, spoilt_whole);
}
