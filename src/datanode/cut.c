/*
 * datanode/cut.c -- SET_LENGTH of a damaged chunk of which nobody has a good copy, at the head
 * (doc/design/0067). What is left of the bytes is read back and goes down the chain as a whole
 * content. If all of that fits its checksums the chunk is good again. Else the content is as
 * damaged as what it was cut from, and says so: a cell that is bad keeps a sum that it does not
 * have.
 */
#include "datanode/cut.h"

#include "base/crc32c.h"
#include "datanode/worker_priv.h"

bool datanode_cut_may(const struct datanode_update *u, const struct chunk_info *info)
{
    return u->kind == PROTO_WRITE_SET_LENGTH && u->new_length > 0 &&
           u->new_length <= info->length && u->repair_rc == -ERR_corrupt && u->repair.nobody;
}

static void cut_read(struct datanode_spoilt *s, int rc)
{
    struct datanode_update *u = container_of(s, struct datanode_update, spoilt);
    u->reading = false;
    u->cut_rc = rc < 0 && !err_is(rc, EIO) ? -ERR_busy : rc;
    u->cut_done(u);
}

bool datanode_cut_begin(struct datanode_update *u, const struct chunk_info *info,
                        void (*done)(struct datanode_update *u))
{
    struct datanode_worker *w = u->worker;
    u->whole_buf = buf_get(w->member_pool, info->length);
    u->whole_crc = mem_calloc(CHUNK_CELLS_MAX, sizeof *u->whole_crc);
    if (u->whole_buf == NULL || u->whole_crc == NULL) {
        u->whole_buf = buf_unref(u->whole_buf);
        mem_free(u->whole_crc);
        u->whole_crc = NULL;
        return false;
    }
    u->cut_asked = true;
    u->cut_done = done;
    u->reading = true;
    u->spoilt = (struct datanode_spoilt){.done = cut_read,
                                         .store = w->store,
                                         .key = u->item->key,
                                         .which = CHUNK_COMMITTED,
                                         .identity = info->committed,
                                         .length = info->length,
                                         .digest = info->digest,
                                         .to = u->whole_buf->at,
                                         .crc = u->whole_crc};
    datanode_spoilt_read(&u->spoilt);
    return true;
}

/* Sums of what is left. True: all of it fits. */
static bool cut_sums(const uint8_t *bytes, uint32_t *crc, uint32_t length, uint32_t new_length)
{
    bool good = true;
    for (uint32_t cell = 0; cell < chunk_cells(new_length); cell++) {
        const uint8_t *at = bytes + (size_t)cell * CHUNK_CELL;
        uint32_t was = chunk_cell_bytes(length, cell), is = chunk_cell_bytes(new_length, cell);
        bool fits = crc32c(0, at, was) == crc[cell];
        if (is != was) { /* of good bytes theirs; of bad ones one that they do not have */
            uint32_t sum = crc32c(0, at, is);
            crc[cell] = fits ? sum : ~sum;
        }
        good = good && fits;
    }
    return good;
}

int datanode_cut_take(struct datanode_update *u, const struct chunk_info *info)
{
    if (u->cut_rc < 0) {
        return u->cut_rc;
    }
    if (!chunk_identity_equal(u->spoilt.identity, info->committed)) {
        return -ERR_busy;
    }
    bool good = cut_sums(u->whole_buf->at, u->whole_crc, info->length, u->new_length);
    buf_slice_drop(&u->data);
    u->data = buf_slice(u->whole_buf, 0, u->new_length);
    u->whole_buf = buf_unref(u->whole_buf);
    mem_free(u->crc);
    u->crc = u->whole_crc;
    u->crc_count = chunk_cells(u->new_length);
    u->whole_crc = NULL;
    u->whole = true;
    u->flags |= good ? 0 : CHUNK_DAMAGED;
    return 0;
}
