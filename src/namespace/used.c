#include "namespace/used.h"

/* See used.h. Who is not sure whose a data id is must not say that it is nobody's: every record
 * that cannot be read ends it. */

#define USED_KEY_LEN 9u /* range, u64 */

static const enum namespace_range used_stages[] = {NAMESPACE_INODE, NAMESPACE_GARBAGE};

static void used_set(struct namespace_used *u, uint64_t data_id)
{
    uint64_t at = data_id - u->first;
    if (data_id >= u->first && data_id < u->end) {
        u->bits[at / 64] |= UINT64_C(1) << (at % 64);
    }
}

static int used_inode(struct namespace_used *u, const struct namespace_scan *s)
{
    struct namespace_inode n;
    int rc = namespace_scan_value(s, &namespace_inode_type, &n);
    if (rc == 0 && n.data_id != 0) {
        used_set(u, n.data_id);
    }
    return rc;
}

static int used_record(struct namespace_used *u, const struct namespace_scan *s)
{
    struct kv_slice key = s->it->key;
    if (key.len != USED_KEY_LEN) {
        return -EUCLEAN;
    }
    int rc = used_stages[u->stage] == NAMESPACE_INODE ? used_inode(u, s) : 0;
    if (rc < 0) {
        return rc == -ENOMEM ? rc : -EUCLEAN;
    }
    u->after = namespace_key_read_u64(key, 1);
    u->started = true;
    u->records++;
    u->seen++;
    if (used_stages[u->stage] == NAMESPACE_GARBAGE) {
        used_set(u, u->after);
    }
    return 0;
}

/* A record that is lost would make its data look like nobody's. */
static int used_next_stage(struct namespace_used *u)
{
    bool inodes = used_stages[u->stage] == NAMESPACE_INODE;
    uint64_t counted = inodes ? u->state.inodes : u->state.garbage;
    if (u->seen != counted) {
        return -EUCLEAN;
    }
    u->stage++;
    u->started = false;
    u->after = u->seen = 0;
    u->done = u->stage == ARRAY_COUNT(used_stages);
    return 0;
}

int namespace_used_step(const struct namespace_view *v, size_t max, struct namespace_used *u)
{
    struct namespace_scan scan;
    int more = 1;
    CHECK(!u->done && u->first <= u->end);
    struct namespace_key prefix = namespace_key(used_stages[u->stage]), from = prefix;
    int rc = namespace_view_state(v, &u->state);
    if (rc < 0) {
        return rc;
    }
    if (u->started && u->after == UINT64_MAX) {
        return used_next_stage(u);
    }
    if (u->started) {
        namespace_key_add_u64(&from, u->after + 1);
    }
    rc = namespace_scan_init_long(&scan, v, &prefix, &from, max);
    for (size_t i = 0; i < max && rc == 0 && more == 1; i++) {
        more = namespace_scan_next(&scan);
        rc = more < 0 ? more : more == 1 ? used_record(u, &scan) : 0;
    }
    namespace_scan_fini(&scan);
    return rc == 0 && more == 0 ? used_next_stage(u) : rc;
}
