/* consensus/record.c -- see record.h. */
#include "consensus/record.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#define TERM_MAGIC 0x4d5245545344464fULL     /* "OFDSTERM" */
#define SNAPSHOT_MAGIC 0x50414e535344464fULL /* "OFDSSNAP" */
#define RECORD_VERSION 1u
#define SNAPSHOT_INSTALLED 1u

void consensus_term_encode(const struct consensus_term *t, uint8_t out[CONSENSUS_TERM_BYTES])
{
    struct wire_writer w = wire_writer_over(out, CONSENSUS_TERM_BYTES);
    wire_write_u64(&w, TERM_MAGIC);
    wire_write_u32(&w, RECORD_VERSION);
    wire_write_u32(&w, 0);
    wire_write_bytes(&w, t->cluster, sizeof t->cluster);
    wire_write_u64(&w, t->id);
    wire_write_u64(&w, t->term);
    wire_write_u64(&w, t->vote);
    wire_write_u32(&w, 0);
    wire_write_u32(&w, crc32c(0, out, CONSENSUS_TERM_BYTES - 4));
    CHECK(!w.bad && w.len == CONSENSUS_TERM_BYTES);
}

/* Magic, version and checksum; leaves the reader behind the version. */
static int record_check(struct wire_reader *r, uint64_t magic)
{
    const uint8_t *bytes = r->at;
    size_t len = r->left;
    uint64_t found = wire_read_u64(r);
    uint32_t version = wire_read_u32(r);
    if (r->bad || len < 16) {
        return -ERR_short_msg;
    }
    if (found != magic) {
        return -ERR_bad_magic;
    }
    if (crc32c(0, bytes, len - 4) != wire_load_u32(bytes + len - 4)) {
        return -ERR_bad_crc;
    }
    return version == RECORD_VERSION ? 0 : -ERR_bad_version;
}

int consensus_term_decode(const uint8_t *bytes, size_t len, struct consensus_term *ret)
{
    if (len != CONSENSUS_TERM_BYTES) {
        return len < CONSENSUS_TERM_BYTES ? -ERR_short_msg : -ERR_bad_length;
    }
    struct wire_reader r = wire_reader_over(bytes, len);
    int rc = record_check(&r, TERM_MAGIC);
    if (rc < 0) {
        return rc;
    }
    struct consensus_term t = {0};
    (void)wire_read_u32(&r);
    memcpy(t.cluster, wire_read_bytes(&r, sizeof t.cluster), sizeof t.cluster);
    t.id = wire_read_u64(&r);
    t.term = wire_read_u64(&r);
    t.vote = wire_read_u64(&r);
    *ret = t;
    return 0;
}

size_t consensus_snapshot_size(const struct consensus_snapshot *s)
{
    return CONSENSUS_SNAPSHOT_HEADER + s->configuration_len + s->reference_len + 4;
}

void consensus_snapshot_encode(const struct consensus_snapshot *s, uint8_t *out)
{
    size_t size = consensus_snapshot_size(s);
    struct wire_writer w = wire_writer_over(out, size);
    wire_write_u64(&w, SNAPSHOT_MAGIC);
    wire_write_u32(&w, RECORD_VERSION);
    wire_write_u32(&w, s->installed ? SNAPSHOT_INSTALLED : 0);
    wire_write_bytes(&w, s->cluster, sizeof s->cluster);
    wire_write_u64(&w, s->index);
    wire_write_u64(&w, s->term);
    wire_write_u64(&w, s->log_begin);
    wire_write_u64(&w, s->configuration_index);
    wire_write_u32(&w, (uint32_t)s->configuration_len);
    wire_write_u32(&w, (uint32_t)s->reference_len);
    wire_write_bytes(&w, s->configuration, s->configuration_len);
    wire_write_bytes(&w, s->reference, s->reference_len);
    wire_write_u32(&w, crc32c(0, out, size - 4));
    CHECK(!w.bad && w.len == size);
}

int consensus_snapshot_decode(const uint8_t *bytes, size_t len, struct consensus_snapshot *ret)
{
    struct wire_reader r = wire_reader_over(bytes, len);
    int rc = record_check(&r, SNAPSHOT_MAGIC);
    if (rc < 0) {
        return rc;
    }
    struct consensus_snapshot s = {0};
    uint32_t flags = wire_read_u32(&r);
    const uint8_t *cluster = wire_read_bytes(&r, sizeof s.cluster);
    s.index = wire_read_u64(&r);
    s.term = wire_read_u64(&r);
    s.log_begin = wire_read_u64(&r);
    s.configuration_index = wire_read_u64(&r);
    s.configuration_len = wire_read_u32(&r);
    s.reference_len = wire_read_u32(&r);
    s.configuration = wire_read_bytes(&r, s.configuration_len);
    s.reference = wire_read_bytes(&r, s.reference_len);
    if (r.bad || r.left < 4) {
        return -ERR_short_msg;
    }
    if (r.left > 4 || s.configuration_len > CONSENSUS_CONFIGURATION_MAX ||
        s.reference_len > CONSENSUS_REFERENCE_MAX) {
        return -ERR_bad_length;
    }
    bool sound = s.index > 0 && s.term > 0 && s.log_begin > 0 && s.log_begin <= s.index + 1 &&
                 s.configuration_index > 0 && s.configuration_index <= s.index &&
                 flags <= SNAPSHOT_INSTALLED;
    if (!sound) {
        return -ERR_bad_value;
    }
    memcpy(s.cluster, cluster, sizeof s.cluster);
    s.installed = flags == SNAPSHOT_INSTALLED;
    *ret = s;
    return 0;
}
