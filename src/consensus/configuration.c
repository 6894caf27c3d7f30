/* consensus/configuration.c -- see configuration.h. */
#include "consensus/configuration.h"

#include "consensus/consensus.h"
#include "wire/wire.h"

#include <string.h>

#define ENGINE_VERSION 1u

static void read_address(struct wire_reader *r)
{
    const uint8_t *end = r->bad || r->left == 0 ? NULL : memchr(r->at, 0, r->left);
    size_t len = end == NULL ? 0 : (size_t)(end - r->at) + 1;
    r->bad = r->bad || end == NULL || len > CONSENSUS_ADDRESS_SIZE;
    (void)wire_read_bytes(r, len);
}

int consensus_configuration_check(const uint8_t *bytes, size_t len)
{
    struct wire_reader r = wire_reader_over(bytes, len);
    uint8_t version = wire_read_u8(&r);
    uint64_t count = wire_read_u64(&r);
    if (r.bad) {
        return -ERR_short_msg;
    }
    if (version != ENGINE_VERSION) {
        return -ERR_bad_version;
    }
    if (count > CONSENSUS_SERVERS_MAX) {
        return -ERR_bad_length;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = wire_read_u64(&r);
        read_address(&r);
        uint8_t role = wire_read_u8(&r);
        bool known = role == RAFT_STANDBY || role == RAFT_VOTER || role == RAFT_SPARE;
        if (r.bad) {
            return -ERR_short_msg;
        }
        if (id == 0 || !known) {
            return -ERR_bad_value;
        }
    }
    return r.left < 8 ? 0 : -ERR_bad_length;
}

int consensus_configuration_decode(const uint8_t *bytes, size_t len, struct raft_configuration *ret)
{
    int rc = consensus_configuration_check(bytes, len);
    if (rc < 0) {
        return rc;
    }
    struct raft_buffer buf = {.base = raft_malloc(len), .len = len}; /* it takes no const */
    memcpy(buf.base, bytes, len);
    raft_configuration_init(ret);
    int bad = raft_configuration_decode(&buf, ret);
    raft_free(buf.base);
    return bad == 0 ? 0 : -ERR_bad_value; /* the same id or address twice */
}
