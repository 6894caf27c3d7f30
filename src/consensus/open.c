/*
 * consensus/open.c -- reading what the directory holds; blocks (start-up only).
 *
 *   DIRECTORY/log/       the journal: entry with index i is record i
 *   DIRECTORY/term       term and vote (record.h)
 *   DIRECTORY/snapshot   the newest recorded snapshot (record.h), if there is one
 *
 * A new directory gets its first entry, the configuration, then the term file, then the engine
 * starts. So a term file without a log says that the log was lost, and is refused: a voter that
 * forgets what it has acknowledged must not come back under its id.
 */
#include "base/mem.h"
#include "consensus/configuration.h"
#include "consensus/consensus_priv.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

#define LOADED_FIRST 1024u
#define JOURNAL_SEGMENT_BYTES (16u << 20)
#define JOURNAL_RECORD_MAX (CONSENSUS_ENTRY_MAX + CONSENSUS_RECORD_HEADER + 4096u)
#define JOURNAL_QUEUE_BYTES (64u << 20)

static int record_decode(const struct journal_record *r, struct raft_entry *ret)
{
    struct wire_reader reader = wire_reader_over(r->bytes, r->len);
    uint64_t term = wire_read_u64(&reader);
    if (reader.bad) {
        return -ERR_short_msg;
    }
    bool known = r->type == RAFT_COMMAND || r->type == RAFT_BARRIER || r->type == RAFT_CHANGE;
    if (!known || term == 0) {
        return -ERR_bad_value;
    }
    if (reader.left % 8 != 0 || reader.left == 0 || reader.left > JOURNAL_RECORD_MAX) {
        return -ERR_bad_length;
    }
    int rc = r->type == RAFT_CHANGE ? consensus_configuration_check(reader.at, reader.left) : 0;
    if (rc < 0) {
        return rc;
    }
    *ret = (struct raft_entry){.term = term, .type = (enum raft_entry_type)r->type};
    ret->buf.len = reader.left;
    ret->buf.base = raft_malloc(reader.left);
    memcpy(ret->buf.base, reader.at, reader.left);
    return 0;
}

/* The engine frees the array, so it is of its heap. */
static void loaded_grow(struct consensus *c)
{
    if (c->loaded_count == c->loaded_size) {
        c->loaded_size = c->loaded_size == 0 ? LOADED_FIRST : 2 * c->loaded_size;
        c->loaded = raft_realloc(c->loaded, c->loaded_size * sizeof *c->loaded);
    }
}

static void loaded_shrink(struct consensus *c, size_t count)
{
    while (c->loaded_count > count) {
        raft_free(c->loaded[--c->loaded_count].buf.base);
    }
}

void consensus_loaded_free(struct consensus *c)
{
    loaded_shrink(c, 0);
    raft_free(c->loaded);
    c->loaded = NULL;
    c->loaded_size = 0;
}

static int load_record(struct journal_user *u, const struct journal_record *r)
{
    struct consensus *c = container_of(u, struct consensus, journal_user);
    if (r->index < c->keep_from) {
        return 0;
    }
    if (c->loaded_count == 0) {
        c->loaded_begin = r->index;
    }
    if (r->index != c->loaded_begin + c->loaded_count) {
        return -ERR_bad_value;
    }
    loaded_grow(c);
    int rc = record_decode(r, &c->loaded[c->loaded_count]);
    c->loaded_count += rc == 0 ? 1U : 0U;
    return rc;
}

static int load_cut(struct journal_user *u, uint64_t index)
{
    struct consensus *c = container_of(u, struct consensus, journal_user);
    bool inside = index >= c->loaded_begin && index - c->loaded_begin <= c->loaded_count;
    loaded_shrink(c, inside ? (size_t)(index - c->loaded_begin) : 0);
    return 0;
}

static void load_failed(struct journal_user *u, int rc, const char *reason)
{
    consensus_fail(container_of(u, struct consensus, journal_user), rc, "%s", reason);
}

static const struct journal_user_ops load_ops = {
    .record = load_record, .cut = load_cut, .failed = load_failed};

/* --- term and vote -------------------------------------------------------------------------------
 */

int consensus_term_store(struct consensus *c, uint64_t term, uint64_t vote)
{
    struct consensus_term t = {.id = c->id, .term = term, .vote = vote};
    memcpy(t.cluster, c->cluster, sizeof t.cluster);
    uint8_t bytes[CONSENSUS_TERM_BYTES];
    consensus_term_encode(&t, bytes);
    return disk_store(c->env.disk, c->path_term, bytes, sizeof bytes);
}

/* 1: there is none. */
static int term_load(struct consensus *c, struct err *e)
{
    CLEANUP(mem_freep) void *bytes = NULL;
    size_t len = 0;
    struct consensus_term t;
    int rc = disk_load(c->env.disk, c->path_term, DISK_SMALL_MAX, &bytes, &len);
    if (rc == -ENOENT) {
        return 1;
    }
    rc = rc < 0 ? rc : consensus_term_decode(bytes, len, &t);
    if (rc < 0) {
        return err_set(e, rc, "read '%s'", c->path_term);
    }
    if (memcmp(t.cluster, c->cluster, sizeof t.cluster) != 0) {
        return err_set(e, -ERR_wrong_cluster, "'%s' is of another cluster", c->path_term);
    }
    if (t.id != c->id) {
        return err_set(e, -ERR_wrong_cluster, "'%s' is of voter %" PRIu64 ", not %" PRIu64,
                       c->path_term, t.id, c->id);
    }
    c->term = t.term;
    c->vote = t.vote;
    return 0;
}

/* --- the snapshot --------------------------------------------------------------------------------
 */

static int snapshot_load(struct consensus *c, struct consensus_snapshot *ret, struct err *e)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = disk_load(c->env.disk, c->path_snapshot, DISK_SMALL_MAX, &bytes, &len);
    if (rc == -ENOENT) {
        return 0;
    }
    c->snapshot_bytes = rc < 0 ? NULL : bytes;
    c->snapshot_len = len;
    rc = rc < 0 ? rc : consensus_snapshot_decode(bytes, len, ret);
    if (rc < 0) {
        return err_set(e, rc, "read '%s'", c->path_snapshot);
    }
    if (memcmp(ret->cluster, c->cluster, sizeof ret->cluster) != 0) {
        return err_set(e, -ERR_wrong_cluster, "'%s' is of another cluster", c->path_snapshot);
    }
    struct raft_configuration conf;
    rc = consensus_configuration_decode(ret->configuration, ret->configuration_len, &conf);
    if (rc < 0) {
        return err_set(e, rc, "voters in '%s'", c->path_snapshot);
    }
    /* What only an older state would need is left on the disk; others may ask for it. */
    bool alone = conf.n == 1 && ret->index <= c->skip_to;
    raft_configuration_close(&conf);
    c->keep_from = alone ? base_max(ret->log_begin, ret->index) : ret->log_begin;
    return 0;
}

/* The owner's state against the snapshot: brings it there, or knows that it is behind. */
static int snapshot_offer(struct consensus *c, const struct consensus_snapshot *s, struct err *e)
{
    if (s->index <= c->skip_to) {
        return 0;
    }
    bool kept = c->loaded_count > 0 && c->loaded_begin <= c->skip_to + 1;
    if (kept) { /* an older state: the engine would not hand these over */
        for (uint64_t i = c->skip_to + 1; i <= s->index; i++) {
            const struct raft_entry *entry = &c->loaded[i - c->loaded_begin];
            if (entry->type == RAFT_COMMAND) {
                consensus_ring_push(c, i, &entry->buf);
            }
        }
        return 0;
    }
    struct consensus_reference r = {.index = s->index, .term = s->term, .len = s->reference_len};
    memcpy(r.bytes, s->reference, s->reference_len);
    int rc = c->fsm->ops->restore(c->fsm, &r);
    if (rc < 0) {
        return err_set(e, rc,
                       "the log begins behind the snapshot at %" PRIu64 ", the state at %" PRIu64,
                       s->index, c->skip_to);
    }
    c->skip_to = s->index;
    return 0;
}

/* --- the log -------------------------------------------------------------------------------------
 */

static int log_open(struct consensus *c, const struct consensus_options *opt, struct err *e)
{
    c->journal_user.ops = &load_ops;
    struct journal_options j = {.env = &c->env,
                                .directory = c->path_log,
                                .name = "log",
                                .user = &c->journal_user,
                                .segment_bytes = opt->segment_bytes != 0 ? opt->segment_bytes
                                                                         : JOURNAL_SEGMENT_BYTES,
                                .max_record_bytes = JOURNAL_RECORD_MAX,
                                .queue_bytes = JOURNAL_QUEUE_BYTES,
                                .sparse = opt->sparse,
                                .room = &c->task};
    c->reserve_bytes = j.segment_bytes / 8;
    memcpy(j.owner, c->cluster, sizeof c->cluster);
    int rc = disk_make_directories(c->env.disk, c->path_log);
    if (rc < 0) {
        return err_set(e, rc, "make '%s'", c->path_log);
    }
    return journal_open(&j, &c->journal, e);
}

/* Which of the records are the log, given the snapshot. */
static int log_fit(struct consensus *c, const struct consensus_snapshot *s, struct err *e)
{
    if (s->index == 0) {
        bool sound =
            c->loaded_count == 0 || (c->loaded_begin == 1 && c->loaded[0].type == RAFT_CHANGE);
        c->loaded_begin = 1;
        return sound ? 0 : err_set(e, -ERR_bad_value, "log in '%s' has no beginning", c->path_log);
    }
    uint64_t end = c->loaded_begin + c->loaded_count; /* of what there is */
    if (s->installed || c->loaded_count == 0 || end <= s->index) {
        /* Of before an installed snapshot, or the snapshot is newer than what had become stable
         * here: others committed it. */
        loaded_shrink(c, 0);
        c->loaded_begin = s->index + 1;
        struct journal_info info;
        journal_info(c->journal, &info);
        c->cut_loaded = info.next_index != c->loaded_begin;
        return 0;
    }
    return c->loaded_begin <= s->index + 1
               ? 0
               : err_set(e, -ERR_bad_value,
                         "log in '%s' begins at %" PRIu64 ", behind the snapshot at %" PRIu64,
                         c->path_log, c->loaded_begin, s->index);
}

/* Of an encoded configuration that was checked; 0: it is none. */
static unsigned voters_in(const struct raft_buffer *buf)
{
    struct raft_configuration conf;
    unsigned voters = 0;
    if (raft_configuration_decode(buf, &conf) != 0) {
        return 0;
    }
    for (unsigned k = 0; k < conf.n; k++) {
        voters += conf.servers[k].role == RAFT_VOTER ? 1U : 0U;
    }
    raft_configuration_close(&conf);
    return voters;
}

/* As the newest configuration has it, of the log or of the snapshot that it stands on. */
static unsigned log_voters(const struct consensus *c, const struct consensus_snapshot *s)
{
    for (size_t i = c->loaded_count; i > 0; i--) {
        unsigned voters =
            c->loaded[i - 1].type == RAFT_CHANGE ? voters_in(&c->loaded[i - 1].buf) : 0;
        if (voters > 0) {
            return voters;
        }
    }
    const struct raft_buffer conf = {.base = (void *)s->configuration, .len = s->configuration_len};
    return s->index > 0 ? voters_in(&conf) : 0;
}

static int log_check(struct consensus *c, const struct consensus_snapshot *s, struct err *e)
{
    uint64_t last_term = c->loaded_count == 0 ? 0 : c->loaded[c->loaded_count - 1].term;
    if (last_term > c->term) {
        return err_set(e, -ERR_bad_value, "'%s' says term %" PRIu64 ", the log has %" PRIu64,
                       c->path_term, c->term, last_term);
    }
    /* With others, they may have committed what had not become stable here. */
    if (c->skip_to >= c->log_next && log_voters(c, s) == 1) {
        return err_set(e, -ERR_corrupt, "log in '%s' ends at %" PRIu64 ", the state is at %" PRIu64,
                       c->path_log, c->log_next - 1, c->skip_to);
    }
    return 0;
}

/* --- a new one -----------------------------------------------------------------------------------
 */

static int first_entry(struct consensus *c, const struct consensus_options *opt, struct err *e)
{
    struct raft_configuration conf;
    raft_configuration_init(&conf);
    int bad = 0;
    bool found = false;
    for (size_t i = 0; i < opt->voter_count && bad == 0; i++) {
        const struct consensus_voter *v = &opt->voters[i];
        found = found || v->id == c->id;
        bad = raft_configuration_add(&conf, v->id, v->address, RAFT_VOTER);
    }
    struct raft_entry first = {.term = 1, .type = RAFT_CHANGE};
    bad = bad != 0 || !found ? RAFT_INVALID : raft_configuration_encode(&conf, &first.buf);
    raft_configuration_close(&conf);
    if (bad != 0) {
        return err_set(e, -EINVAL, "voters of '%s'", c->directory);
    }
    loaded_grow(c);
    c->loaded[c->loaded_count++] = first;
    c->loaded_begin = 1;
    c->term = 1;
    return 0;
}

/* No term file. */
static int log_begin(struct consensus *c, const struct consensus_options *opt, struct err *e)
{
    if (c->snapshot_bytes != NULL || c->loaded_count > 1) {
        return err_set(e, -ERR_corrupt, "'%s' is gone", c->path_term);
    }
    if (!opt->bootstrap) {
        return err_set(e, -ENOENT, "no log in '%s'", c->directory);
    }
    if (c->loaded_count == 1) { /* it came as far as this the last time */
        c->term = 1;
        int rc = consensus_term_store(c, c->term, 0);
        return rc < 0 ? err_set(e, rc, "write '%s'", c->path_term) : 0;
    }
    c->begin_anew = true;
    return first_entry(c, opt, e);
}

int consensus_load(struct consensus *c, const struct consensus_options *opt, struct err *e)
{
    struct consensus_snapshot s = {0};
    c->loaded_begin = 1;
    int no_term = term_load(c, e);
    int rc = no_term < 0 ? no_term : snapshot_load(c, &s, e);
    rc = rc < 0 ? rc : log_open(c, opt, e);
    rc = rc < 0 ? rc : log_fit(c, &s, e);
    if (rc < 0) {
        return rc;
    }
    if (no_term == 1) {
        rc = log_begin(c, opt, e);
    } else if (c->loaded_count == 0 && s.index == 0) {
        rc = err_set(e, -ERR_corrupt, "the log in '%s' is gone", c->path_log);
    }
    c->log_next = c->loaded_begin + c->loaded_count;
    rc = rc < 0 ? rc : log_check(c, &s, e);
    return rc < 0 ? rc : snapshot_offer(c, &s, e);
}
