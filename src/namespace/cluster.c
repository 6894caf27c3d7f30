#include "namespace/plan_priv.h"

/* The cluster map: targets, chain rows, tables and storage classes; settings of the whole cluster.
 */

#define NAMESPACE_CLASSES_MAX 256u
#define NAMESPACE_TARGETS_MAX 8192u

static bool namespace_target_same(const struct proto_target *a, const struct proto_target *b)
{
    return proto_bytes_equal(a->address, b->address) && proto_bytes_equal(a->host, b->host) &&
           proto_bytes_equal(a->rack, b->rack) && proto_bytes_equal(a->labels, b->labels) &&
           a->weight == b->weight && a->state == b->state && a->incarnation == b->incarnation &&
           a->plan == b->plan && a->heir == b->heir;
}

static struct namespace_key namespace_key_of_uuid(enum namespace_range range, const struct uuid *u)
{
    struct namespace_key key = namespace_key(range);
    namespace_key_add_bytes(&key, proto_bytes_of(u->bytes, sizeof u->bytes));
    return key;
}

static int namespace_target_put_known(struct namespace_plan *p, const struct proto_target *t)
{
    struct proto_target old;
    int rc = namespace_view_target(&p->view, t->id, &old);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    struct namespace_key key = namespace_key(NAMESPACE_TARGET);
    namespace_key_add_u32(&key, t->id);
    p->state.map_epoch += namespace_target_same(&old, t) ? 0 : 1;
    return NAMESPACE_PUT(p, &key, proto_target, t);
}

static int namespace_target_put_new(struct namespace_plan *p, const struct proto_target *t)
{
    struct namespace_key key = namespace_key(NAMESPACE_TARGET);
    struct namespace_key index = namespace_key_of_uuid(NAMESPACE_TARGET_UUID, &t->uuid);
    struct namespace_id id = {.id = t->id};
    namespace_key_add_u32(&key, t->id);
    p->state.map_epoch++;
    int rc = NAMESPACE_PUT(p, &index, namespace_id, &id);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &key, proto_target, t);
}

/* A target is the one with its uuid, for ever; numbers are given once. */
int namespace_target_change(struct namespace_plan *p, const struct namespace_target_put *r)
{
    static const struct uuid zero;
    struct proto_target t = r->target;
    struct namespace_key index = namespace_key_of_uuid(NAMESPACE_TARGET_UUID, &t.uuid);
    struct namespace_id id;
    if (uuid_equal(&t.uuid, &zero)) {
        return -EINVAL;
    }
    int rc = NAMESPACE_GET(&p->view, &index, namespace_id, &id);
    if (rc < 0) {
        return rc;
    }
    if (rc == 1 ? t.id != 0 && t.id != id.id : t.id != 0) {
        return -EINVAL;
    }
    if (rc == 0 && p->state.next_target > NAMESPACE_TARGETS_MAX) {
        return -ENOSPC;
    }
    t.id = rc == 1 ? (uint32_t)id.id : p->state.next_target++;
    p->reply->id = t.id;
    rc = rc == 1 ? namespace_target_put_known(p, &t) : namespace_target_put_new(p, &t);
    p->reply->map_epoch = p->state.map_epoch;
    return rc;
}

static int namespace_put_row(struct namespace_plan *p, const struct proto_row *row)
{
    struct namespace_key key = namespace_key(NAMESPACE_ROW);
    namespace_key_add_u32(&key, row->chain);
    return NAMESPACE_PUT(p, &key, proto_row, row);
}

int namespace_rows_change(struct namespace_plan *p, const struct namespace_rows_put *r)
{
    uint32_t last = 0;
    for (size_t i = 0; i < r->rows.count; i++) {
        struct proto_row old, row = r->rows.at[i];
        if (row.chain <= last || row.members.count == 0) {
            return -EINVAL; /* ascending, so that none is there twice */
        }
        last = row.chain;
        int rc = namespace_view_row(&p->view, row.chain, &old);
        if (rc < 0) {
            return rc;
        }
        if (row.epoch != old.epoch + 1) {
            return -ESTALE; /* computed from a row that is not the newest */
        }
        row.class_id = old.class_id;
        row.born = old.born;
        rc = namespace_put_row(p, &row);
        if (rc < 0) {
            return rc;
        }
    }
    p->state.map_epoch += r->rows.count > 0 ? 1 : 0;
    p->reply->map_epoch = p->state.map_epoch;
    return 0;
}

static bool namespace_class_is_sound(const struct proto_storage_class *c)
{
    bool power = (c->chunk_size & (c->chunk_size - 1)) == 0;
    return c->name.len > 0 && c->copies > 0 && c->chunk_size >= PROTO_CELL_BYTES && power &&
           c->inline_limit <= NAMESPACE_INLINE_MAX;
}

static int namespace_class_is_free(struct namespace_plan *p, struct proto_bytes name)
{
    struct proto_storage_class_list l;
    int rc = namespace_classes(&p->view, 0, NAMESPACE_CLASSES_MAX, &l);
    for (size_t i = 0; rc == 0 && i < l.count; i++) {
        rc = proto_bytes_equal(l.at[i].name, name) ? -EEXIST : 0;
    }
    return rc;
}

/* The class as it will be: a new one gets its number, a known one keeps what is fixed for ever. */
static int namespace_class_next(struct namespace_plan *p, struct proto_storage_class *c)
{
    if (!namespace_class_is_sound(c)) {
        return -EINVAL;
    }
    if (c->id == 0) {
        int rc = namespace_class_is_free(p, c->name);
        if (rc == 0 && p->state.next_class > NAMESPACE_CLASSES_MAX) {
            return -ENOSPC;
        }
        c->id = p->state.next_class++;
        c->table_version = 1;
        p->state.default_class = p->state.default_class == 0 ? c->id : p->state.default_class;
        return rc;
    }
    struct proto_storage_class old;
    int rc = namespace_view_class(&p->view, c->id, &old);
    if (rc == 0) {
        c->name = old.name;
        c->table_version = old.table_version + 1;
    }
    return rc;
}

static int namespace_table_check(const struct namespace_plan *p,
                                 const struct namespace_table_put *r)
{
    if (r->first_chain != p->state.next_chain) {
        return -ESTALE;
    }
    for (size_t i = 0; i < r->rows.count; i++) {
        const struct proto_row *row = &r->rows.at[i];
        if (row->chain != r->first_chain + i || row->members.count == 0) {
            return -EINVAL;
        }
    }
    uint64_t end = (uint64_t)r->first_chain + r->rows.count;
    for (size_t i = 0; i < r->chains.count; i++) {
        if (r->chains.at[i] == 0 || r->chains.at[i] >= end) {
            return -EINVAL;
        }
    }
    return r->chains.count == 0 || end > UINT32_MAX ? -EINVAL : 0;
}

int namespace_table_change(struct namespace_plan *p, const struct namespace_table_put *r)
{
    struct proto_storage_class c = r->storage_class;
    int rc = namespace_table_check(p, r);
    rc = rc < 0 ? rc : namespace_class_next(p, &c);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < r->rows.count && rc == 0; i++) {
        struct proto_row row = r->rows.at[i];
        row.class_id = c.id;
        row.born = c.table_version;
        rc = namespace_put_row(p, &row);
    }
    struct proto_table t = {.class_id = c.id, .version = c.table_version, .chains = r->chains};
    struct namespace_key table = namespace_key(NAMESPACE_TABLE);
    struct namespace_key key = namespace_key(NAMESPACE_CLASS);
    namespace_key_add_u32(&table, t.class_id);
    namespace_key_add_u32(&table, t.version);
    namespace_key_add_u32(&key, c.id);
    p->state.next_chain += (uint32_t)r->rows.count;
    p->state.map_epoch++;
    p->reply->id = c.id;
    p->reply->map_epoch = p->state.map_epoch;
    rc = rc < 0 ? rc : NAMESPACE_PUT(p, &table, proto_table, &t);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &key, proto_storage_class, &c);
}

int namespace_default_class_change(struct namespace_plan *p,
                                   const struct namespace_default_class *r)
{
    struct proto_storage_class c;
    int rc = r->class_id == 0 ? -ENOENT : namespace_view_class(&p->view, r->class_id, &c);
    if (rc == 0) {
        p->state.default_class = r->class_id;
        p->reply->map_epoch = ++p->state.map_epoch;
    }
    return rc;
}

int namespace_balance_change(struct namespace_plan *p, const struct namespace_balance *r)
{
    p->state.balance_paused = r->paused;
    return 0;
}
