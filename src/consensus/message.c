/* consensus/message.c -- see message.h. */
#include "consensus/message.h"

#include "base/mem.h"
#include "consensus/configuration.h"
#include "wire/wire.h"

#include <string.h>

#define FLAG_ONE 1u
#define FLAG_TWO 2u

/* --- encoding ------------------------------------------------------------------------------------
 */

unsigned consensus_message_entries(const struct raft_append_entries *a)
{
    size_t bytes = 0;
    unsigned n = 0;
    while (n < a->n_entries && n < CONSENSUS_MESSAGE_ENTRIES &&
           bytes < CONSENSUS_MESSAGE_ENTRY_BYTES) {
        bytes += a->entries[n].buf.len;
        n++;
    }
    return n;
}

static void write_append(struct wire_writer *w, const struct raft_append_entries *a)
{
    unsigned n = consensus_message_entries(a);
    wire_write_u64(w, a->term);
    wire_write_u64(w, a->prev_log_index);
    wire_write_u64(w, a->prev_log_term);
    wire_write_u64(w, a->leader_commit);
    wire_write_u32(w, n);
    for (unsigned i = 0; i < n; i++) {
        wire_write_u64(w, a->entries[i].term);
        wire_write_u32(w, (uint32_t)a->entries[i].type);
        wire_write_counted(w, a->entries[i].buf.base, a->entries[i].buf.len);
    }
}

static void write_append_result(struct wire_writer *w, const struct raft_append_entries_result *a)
{
    wire_write_u64(w, a->term);
    wire_write_u64(w, a->rejected);
    wire_write_u64(w, a->last_log_index);
    wire_write_u32(w, a->features);
    wire_write_u32(w, a->capacity);
}

static void write_vote(struct wire_writer *w, const struct raft_request_vote *v)
{
    wire_write_u64(w, v->term);
    wire_write_u64(w, v->candidate_id);
    wire_write_u64(w, v->last_log_index);
    wire_write_u64(w, v->last_log_term);
    wire_write_u32(w, (v->disrupt_leader ? FLAG_ONE : 0) | (v->pre_vote ? FLAG_TWO : 0));
}

static void write_vote_result(struct wire_writer *w, const struct raft_request_vote_result *v)
{
    wire_write_u64(w, v->term);
    wire_write_u32(w, (v->vote_granted ? FLAG_ONE : 0) | (v->pre_vote ? FLAG_TWO : 0));
    wire_write_u32(w, v->features);
    wire_write_u32(w, v->capacity);
}

static void write_install(struct wire_writer *w, const struct raft_install_snapshot *s)
{
    struct raft_buffer conf;
    wire_write_u64(w, s->term);
    wire_write_u64(w, s->last_index);
    wire_write_u64(w, s->last_term);
    wire_write_u64(w, s->conf_index);
    int bad = raft_configuration_encode(&s->conf, &conf);
    CHECK(bad == 0);
    wire_write_counted(w, conf.base, conf.len);
    raft_free(conf.base);
    wire_write_counted(w, s->data.base, s->data.len);
}

static void write_timeout_now(struct wire_writer *w, const struct raft_timeout_now *t)
{
    wire_write_u64(w, t->term);
    wire_write_u64(w, t->last_log_index);
    wire_write_u64(w, t->last_log_term);
}

static void write_body(struct wire_writer *w, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        write_append(w, &m->append_entries);
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        write_append_result(w, &m->append_entries_result);
        break;
    case RAFT_REQUEST_VOTE:
        write_vote(w, &m->request_vote);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        write_vote_result(w, &m->request_vote_result);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        write_install(w, &m->install_snapshot);
        break;
    case RAFT_TIMEOUT_NOW:
        write_timeout_now(w, &m->timeout_now);
        break;
    }
}

/* The first member of each message. */
static uint32_t version_of(const struct raft_message *m)
{
    return m->append_entries.version;
}

size_t consensus_message_encode(const struct raft_message *m, const struct consensus_envelope *v,
                                uint8_t *out, size_t size)
{
    struct wire_writer w = wire_writer_over(out, size);
    wire_write_u32(&w, CONSENSUS_MESSAGE_MAGIC);
    wire_write_u16(&w, CONSENSUS_MESSAGE_VERSION);
    wire_write_u16(&w, (uint16_t)m->type);
    wire_write_bytes(&w, v->cluster, CONSENSUS_CLUSTER_BYTES);
    wire_write_u64(&w, v->from);
    wire_write_u64(&w, m->server_id);
    wire_write_u64(&w, v->incarnation);
    wire_write_u64(&w, v->sequence);
    wire_write_u32(&w, version_of(m));
    wire_write_counted(&w, v->address, strlen(v->address));
    write_body(&w, m);
    CHECK(!w.bad);
    return w.len;
}

void consensus_message_send(struct consensus *c, const struct raft_message *m)
{
    struct consensus_envelope v = {.cluster = c->cluster,
                                   .from = c->id,
                                   .incarnation = c->incarnation,
                                   .sequence = ++c->sent,
                                   .address = c->raft.address};
    size_t size = consensus_message_encode(m, &v, NULL, 0);
    uint8_t *bytes = mem_alloc(size);
    if (bytes == NULL) {
        return; /* lost, as messages may be */
    }
    (void)consensus_message_encode(m, &v, bytes, size);
    c->transport->ops->send(c->transport, m->server_id, m->server_address, bytes, size);
    mem_free(bytes);
}

/* --- decoding ------------------------------------------------------------------------------------
 */

/* One entry; its bytes stay where they are, and are returned. */
static const uint8_t *read_entry(struct wire_reader *r, struct raft_entry *ret)
{
    ret->term = wire_read_u64(r);
    uint32_t type = wire_read_u32(r);
    size_t len = 0;
    const uint8_t *bytes = wire_read_counted(r, CONSENSUS_ENTRY_MAX, &len);
    ret->buf.len = len;
    bool sound = ret->term > 0 && len > 0 && len % 8 == 0 &&
                 (type == RAFT_COMMAND || type == RAFT_BARRIER || type == RAFT_CHANGE);
    bool change = !r->bad && sound && type == RAFT_CHANGE;
    sound = sound && (!change || consensus_configuration_check(bytes, len) == 0);
    ret->type = sound ? (enum raft_entry_type)type : RAFT_COMMAND;
    r->bad = r->bad || !sound;
    return bytes;
}

/* The engine wants the entries of one message in one piece of memory. */
static void read_entries(struct wire_reader *r, struct raft_append_entries *a, uint32_t n)
{
    struct wire_reader ahead = *r;
    struct raft_entry e = {0};
    size_t bytes = 0;
    for (uint32_t i = 0; i < n && !ahead.bad; i++) {
        (void)read_entry(&ahead, &e);
        bytes += e.buf.len;
    }
    r->bad = ahead.bad;
    if (r->bad || n == 0) {
        return;
    }
    a->entries = raft_calloc(n, sizeof *a->entries);
    uint8_t *batch = raft_malloc(bytes);
    uint8_t *at = batch;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *from = read_entry(r, &e);
        memcpy(at, from, e.buf.len);
        e.buf.base = at;
        e.batch = batch;
        at += e.buf.len;
        a->entries[i] = e;
    }
    a->n_entries = n;
}

static void read_append(struct wire_reader *r, struct raft_append_entries *a, uint8_t version)
{
    a->version = version;
    a->term = wire_read_u64(r);
    a->prev_log_index = wire_read_u64(r);
    a->prev_log_term = wire_read_u64(r);
    a->leader_commit = wire_read_u64(r);
    uint32_t n = wire_read_u32(r);
    r->bad = r->bad || n > CONSENSUS_MESSAGE_ENTRIES ||
             (a->prev_log_index == 0) != (a->prev_log_term == 0);
    read_entries(r, a, r->bad ? 0 : n);
}

static void read_append_result(struct wire_reader *r, struct raft_append_entries_result *a,
                               uint8_t version)
{
    a->version = version;
    a->term = wire_read_u64(r);
    a->rejected = wire_read_u64(r);
    a->last_log_index = wire_read_u64(r);
    a->features = (unsigned short)wire_read_u32(r);
    a->capacity = (unsigned short)wire_read_u32(r);
}

static void read_vote(struct wire_reader *r, struct raft_request_vote *v, uint8_t version)
{
    v->version = version;
    v->term = wire_read_u64(r);
    v->candidate_id = wire_read_u64(r);
    v->last_log_index = wire_read_u64(r);
    v->last_log_term = wire_read_u64(r);
    uint32_t flags = wire_read_u32(r);
    v->disrupt_leader = (flags & FLAG_ONE) != 0;
    v->pre_vote = (flags & FLAG_TWO) != 0;
}

static void read_vote_result(struct wire_reader *r, struct raft_request_vote_result *v,
                             uint8_t version)
{
    v->version = version;
    v->term = wire_read_u64(r);
    uint32_t flags = wire_read_u32(r);
    v->vote_granted = (flags & FLAG_ONE) != 0;
    v->pre_vote = (flags & FLAG_TWO) != 0;
    v->features = (unsigned short)wire_read_u32(r);
    v->capacity = (unsigned short)wire_read_u32(r);
}

static void read_install(struct wire_reader *r, struct raft_install_snapshot *s, uint8_t version)
{
    size_t conf_len = 0;
    size_t data_len = 0;
    s->version = version;
    s->term = wire_read_u64(r);
    s->last_index = wire_read_u64(r);
    s->last_term = wire_read_u64(r);
    s->conf_index = wire_read_u64(r);
    const uint8_t *conf = wire_read_counted(r, CONSENSUS_CONFIGURATION_MAX, &conf_len);
    const uint8_t *data = wire_read_counted(r, CONSENSUS_REFERENCE_MAX + 16, &data_len);
    bool sound = s->last_index > 0 && s->last_term > 0 && s->conf_index > 0 &&
                 s->conf_index <= s->last_index && data_len >= 4 &&
                 wire_load_u32(data) <= data_len - 4 &&
                 wire_load_u32(data) <= CONSENSUS_REFERENCE_MAX;
    if (r->bad || r->left > 0 || !sound) {
        r->bad = true;
        return;
    }
    r->bad = consensus_configuration_decode(conf, conf_len, &s->conf) < 0;
    if (!r->bad) {
        s->data.base = raft_malloc(data_len);
        s->data.len = data_len;
        memcpy(s->data.base, data, data_len);
    }
}

static void read_timeout_now(struct wire_reader *r, struct raft_timeout_now *t, uint8_t version)
{
    t->version = version;
    t->term = wire_read_u64(r);
    t->last_log_index = wire_read_u64(r);
    t->last_log_term = wire_read_u64(r);
}

static void read_body(struct wire_reader *r, uint16_t type, uint8_t version, struct raft_message *m)
{
    m->type = (enum raft_message_type)type;
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        read_append(r, &m->append_entries, version);
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        read_append_result(r, &m->append_entries_result, version);
        break;
    case RAFT_REQUEST_VOTE:
        read_vote(r, &m->request_vote, version);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        read_vote_result(r, &m->request_vote_result, version);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        read_install(r, &m->install_snapshot, version);
        break;
    case RAFT_TIMEOUT_NOW:
        read_timeout_now(r, &m->timeout_now, version);
        break;
    }
}

int consensus_message_decode(const uint8_t *bytes, size_t len, const uint8_t *cluster,
                             struct consensus_message *ret)
{
    struct wire_reader r = wire_reader_over(bytes, len);
    uint32_t magic = wire_read_u32(&r);
    uint16_t format = wire_read_u16(&r);
    uint16_t type = wire_read_u16(&r);
    const uint8_t *of = wire_read_bytes(&r, CONSENSUS_CLUSTER_BYTES);
    struct consensus_message m = {.raft.server_id = 0};
    m.raft.server_id = wire_read_u64(&r);
    m.to = wire_read_u64(&r);
    m.incarnation = wire_read_u64(&r);
    m.sequence = wire_read_u64(&r);
    uint32_t version = wire_read_u32(&r);
    size_t address_len = 0;
    const uint8_t *address = wire_read_counted(&r, sizeof m.address - 1, &address_len);
    if (r.bad) {
        return -ERR_short_msg;
    }
    if (magic != CONSENSUS_MESSAGE_MAGIC) {
        return -ERR_bad_magic;
    }
    if (format != CONSENSUS_MESSAGE_VERSION) {
        return -ERR_bad_version;
    }
    if (memcmp(of, cluster, CONSENSUS_CLUSTER_BYTES) != 0) {
        return -ERR_wrong_cluster;
    }
    if (type < RAFT_APPEND_ENTRIES || type > RAFT_TIMEOUT_NOW || version > UINT8_MAX ||
        m.raft.server_id == 0) {
        return -ERR_bad_value;
    }
    memcpy(m.address, address, address_len);
    read_body(&r, type, (uint8_t)version, &m.raft);
    if (r.bad || r.left > 0) {
        consensus_message_free(&m);
        return -ERR_bad_value;
    }
    *ret = m;
    return 0;
}

void consensus_message_free(struct consensus_message *m)
{
    if (m->raft.type == RAFT_APPEND_ENTRIES && m->raft.append_entries.n_entries > 0) {
        raft_free(m->raft.append_entries.entries[0].batch);
        raft_free(m->raft.append_entries.entries);
    }
    if (m->raft.type == RAFT_INSTALL_SNAPSHOT && m->raft.install_snapshot.data.base != NULL) {
        raft_configuration_close(&m->raft.install_snapshot.conf);
        raft_free(m->raft.install_snapshot.data.base);
    }
    m->raft.type = RAFT_TIMEOUT_NOW; /* owns nothing */
}
