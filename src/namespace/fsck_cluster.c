#include "namespace/fsck_priv.h"

/* Targets, chains, tables, classes; what data nodes have to remove. */

#define FSCK_U(x) ((unsigned long long)(x))

static struct namespace_key fsck_key_u32(enum namespace_range range, uint32_t id)
{
    struct namespace_key key = namespace_key(range);
    namespace_key_add_u32(&key, id);
    return key;
}

static uint32_t fsck_id32(const struct fsck_check *c, size_t offset)
{
    return namespace_key_read_u32(c->key, offset);
}

static int fsck_layout(struct fsck_check *c, const struct proto_layout *l, const char *what)
{
    struct namespace_key table = fsck_key_u32(NAMESPACE_TABLE, l->class_id);
    namespace_key_add_u32(&table, l->table_version);
    int rc = namespace_fsck_has(c, &table);
    FSCK_WANT(c, rc != 0, "layout.table", 0, "%s of data id %llu is on a table that is not there",
              what, FSCK_U(l->data_id));
    FSCK_WANT(c, l->data_id > 0 && l->data_id < c->state.next_data_id, "layout.data_id", 0,
              "%s of data id %llu, which was never given", what, FSCK_U(l->data_id));
    return rc < 0 ? rc : 0;
}

static int fsck_garbage(struct fsck_check *c)
{
    struct namespace_garbage g;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_garbage_type, &g)
                 : 0;
    c->next.seen.garbage++;
    if (rc <= 0) {
        return rc;
    }
    FSCK_WANT(c, g.layout.data_id == fsck_id(c, 1), "garbage.number", 0,
              "garbage of data id %llu under %llu", FSCK_U(g.layout.data_id),
              FSCK_U(fsck_id(c, 1)));
    if (g.chains.count > 0) { /* an orphan: nobody knows its layout */
        FSCK_WANT(c, g.layout.data_id < c->state.next_data_id, "layout.data_id", 0,
                  "garbage of data id %llu, which was never given", FSCK_U(g.layout.data_id));
        return 0;
    }
    return fsck_layout(c, &g.layout, "garbage");
}

static int fsck_leap(struct fsck_check *c)
{
    struct namespace_leap l;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_leap_type, &l)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    FSCK_WANT(c, l.last >= fsck_id(c, 1) && l.last < c->state.next_data_id, "leap.range", 0,
              "data ids %llu to %llu were leapt over, and the next one is %llu",
              FSCK_U(fsck_id(c, 1)), FSCK_U(l.last), FSCK_U(c->state.next_data_id));
    return 0;
}

static int fsck_suspect(struct fsck_check *c)
{
    struct namespace_suspect s;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_suspect_type, &s)
                 : 0;
    c->next.seen.suspects++;
    if (rc <= 0) {
        return rc;
    }
    FSCK_WANT(c, fsck_id(c, 1) < c->state.next_data_id && s.chains.count > 0, "suspect.number", 0,
              "data id %llu was found to be nobody's, and was never given", FSCK_U(fsck_id(c, 1)));
    return 0;
}

static int fsck_audit(struct fsck_check *c)
{
    struct namespace_audit a;
    int rc = namespace_fsck_key_fits(c, 1, false)
                 ? namespace_fsck_value(c, &namespace_audit_type, &a)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    FSCK_WANT(c, a.counter <= c->state.next_data_id && a.look <= c->state.version, "audit.counter",
              0, "a look for orphans began with data id %llu, which was never given",
              FSCK_U(a.counter));
    return 0;
}

static int fsck_trim(struct fsck_check *c)
{
    struct namespace_trim t;
    struct namespace_inode n;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_trim_type, &t)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    uint64_t ino = fsck_id(c, 1);
    rc = namespace_fsck_inode(c, ino, &n);
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, rc == 1 && n.data_id == t.layout.data_id, "trim.stray", ino,
              "its data is to be cut, and it has none");
    FSCK_WANT(c, rc == 0 || n.tgen == t.tgen, "trim.generation", ino,
              "to be cut with generation %u, and it has %u", t.tgen, n.tgen);
    FSCK_WANT(c, t.fence_epoch <= c->state.cap_epoch, "trim.epoch", ino,
              "to be cut after a fence that was never made");
    return fsck_layout(c, &t.layout, "a trim");
}

static int fsck_table(struct fsck_check *c)
{
    struct proto_table t;
    struct namespace_key key = fsck_key_u32(NAMESPACE_CLASS, fsck_id32(c, 1));
    int rc =
        namespace_fsck_key_fits(c, 9, false) ? namespace_fsck_value(c, &proto_table_type, &t) : 0;
    int class = rc <= 0 ? rc : namespace_fsck_has(c, &key);
    if (rc <= 0 || class < 0) {
        return rc <= 0 ? rc : class;
    }
    FSCK_WANT(c, class == 1, "table.class", 0, "a table of class %u, which does not exist",
              fsck_id32(c, 1));
    FSCK_WANT(c, t.chains.count > 0, "table.empty", 0, "table %u of class %u has no chains",
              fsck_id32(c, 5), fsck_id32(c, 1));
    for (size_t i = 0; i < t.chains.count && rc >= 0; i++) {
        struct namespace_key row = fsck_key_u32(NAMESPACE_ROW, t.chains.at[i]);
        rc = namespace_fsck_has(c, &row);
        FSCK_WANT(c, rc != 0, "table.chain", 0,
                  "table %u of class %u names chain %u, which does "
                  "not exist",
                  fsck_id32(c, 5), fsck_id32(c, 1), t.chains.at[i]);
    }
    return rc < 0 ? rc : 0;
}

static int fsck_class(struct fsck_check *c)
{
    struct proto_storage_class s;
    int rc = namespace_fsck_key_fits(c, 5, false)
                 ? namespace_fsck_value(c, &proto_storage_class_type, &s)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    struct namespace_key table = fsck_key_u32(NAMESPACE_TABLE, s.id);
    namespace_key_add_u32(&table, s.table_version);
    rc = namespace_fsck_has(c, &table);
    FSCK_WANT(c, rc != 0, "class.table", 0, "class %u has no table %u", s.id, s.table_version);
    FSCK_WANT(c, s.id == fsck_id32(c, 1) && s.id < c->state.next_class, "class.number", 0,
              "class %u under %u", s.id, fsck_id32(c, 1));
    return rc < 0 ? rc : 0;
}

static int fsck_row(struct fsck_check *c)
{
    struct proto_row row;
    int rc =
        namespace_fsck_key_fits(c, 5, false) ? namespace_fsck_value(c, &proto_row_type, &row) : 0;
    if (rc <= 0) {
        return rc;
    }
    FSCK_WANT(c, row.chain == fsck_id32(c, 1) && row.chain < c->state.next_chain, "chain.number", 0,
              "chain %u under %u", row.chain, fsck_id32(c, 1));
    FSCK_WANT(c, row.members.count > 0, "chain.empty", 0, "chain %u has no members", row.chain);
    for (size_t i = 0; i < row.members.count && rc >= 0; i++) {
        struct namespace_key key = fsck_key_u32(NAMESPACE_TARGET, row.members.at[i].target);
        rc = namespace_fsck_has(c, &key);
        FSCK_WANT(c, rc != 0, "chain.target", 0, "chain %u names target %u, which does not exist",
                  row.chain, row.members.at[i].target);
    }
    return rc < 0 ? rc : 0;
}

static int fsck_target(struct fsck_check *c)
{
    struct proto_target t;
    struct namespace_id id;
    int rc =
        namespace_fsck_key_fits(c, 5, false) ? namespace_fsck_value(c, &proto_target_type, &t) : 0;
    if (rc <= 0) {
        return rc;
    }
    struct namespace_key key = namespace_key(NAMESPACE_TARGET_UUID);
    namespace_key_add_bytes(&key, proto_bytes_of(t.uuid.bytes, sizeof t.uuid.bytes));
    rc = FSCK_GET(c, &key, namespace_id, &id);
    FSCK_WANT(c, rc < 0 || (rc == 1 && id.id == t.id), "target.uuid", 0,
              "target %u is not found by its uuid", t.id);
    FSCK_WANT(c, t.id == fsck_id32(c, 1) && t.id < c->state.next_target, "target.number", 0,
              "target %u under %u", t.id, fsck_id32(c, 1));
    return rc < 0 ? rc : 0;
}

static int fsck_target_uuid(struct fsck_check *c)
{
    struct namespace_id id;
    int rc = namespace_fsck_key_fits(c, 17, false)
                 ? namespace_fsck_value(c, &namespace_id_type, &id)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    struct namespace_key key = fsck_key_u32(NAMESPACE_TARGET, (uint32_t)id.id);
    rc = namespace_fsck_has(c, &key);
    FSCK_WANT(c, rc != 0, "target.missing", 0, "a uuid of target %llu, which does not exist",
              FSCK_U(id.id));
    return rc < 0 ? rc : 0;
}

/* Read at the beginning of each step; what it counts is compared at the end. */
static int fsck_state(struct fsck_check *c)
{
    (void)namespace_fsck_key_fits(c, 1, false);
    return 0;
}

int namespace_fsck_cluster_record(struct fsck_check *c, enum namespace_range range, bool *ret_known)
{
    static const struct {
        enum namespace_range range;
        int (*check)(struct fsck_check *c);
    } checks[] = {
        {NAMESPACE_STATE, fsck_state},   {NAMESPACE_GARBAGE, fsck_garbage},
        {NAMESPACE_TRIM, fsck_trim},     {NAMESPACE_TABLE, fsck_table},
        {NAMESPACE_CLASS, fsck_class},   {NAMESPACE_ROW, fsck_row},
        {NAMESPACE_TARGET, fsck_target}, {NAMESPACE_TARGET_UUID, fsck_target_uuid},
        {NAMESPACE_LEAP, fsck_leap},     {NAMESPACE_SUSPECT, fsck_suspect},
        {NAMESPACE_AUDIT, fsck_audit},
    };
    for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
        if (checks[i].range == range) {
            *ret_known = true;
            return checks[i].check(c);
        }
    }
    return 0;
}
