#include "namespace/restore.h"

#include "namespace/audit_priv.h"

#define RESTORE_PAGE 256u
#define RESTORE_LEAP NAMESPACE_LEAP_LEAST
#define RESTORE_EPOCH_LEAP (UINT32_C(1) << 16)

static uint64_t restore_leap(uint64_t next, uint64_t floor)
{
    return base_max(next + RESTORE_LEAP, floor);
}

static int restore_rows(struct namespace_plan *p, uint32_t epoch_floor)
{
    struct proto_row_list l = {0};
    uint32_t first = 0;
    int rc = 0;
    do {
        rc = namespace_rows(&p->view, first, RESTORE_PAGE, &l);
        for (size_t i = 0; i < l.count && rc == 0; i++) {
            struct proto_row *row = &l.at[i];
            struct namespace_key key = namespace_key(NAMESPACE_ROW);
            namespace_key_add_u32(&key, row->chain);
            if (base_max(row->epoch, epoch_floor) > UINT32_MAX - 2 * RESTORE_EPOCH_LEAP) {
                return -EOVERFLOW;
            }
            row->epoch = (uint32_t)base_max(row->epoch + RESTORE_EPOCH_LEAP, epoch_floor);
            rc = NAMESPACE_PUT(p, &key, proto_row, row);
            first = row->chain + 1;
        }
    } while (rc == 0 && l.count == RESTORE_PAGE);
    return rc;
}

/* From the first that this state has not given to the last that it never will. */
static int restore_data_ids(struct namespace_plan *p, uint64_t floor)
{
    struct namespace_state *s = &p->state;
    uint64_t first = s->next_data_id;
    int rc = namespace_leaps_begin(p);
    s->next_data_id = restore_leap(first, floor);
    struct namespace_leap l = {.last = s->next_data_id - 1, .time_ns = p->now_ns};
    return rc < 0 ? rc : namespace_leap_put(p, first, &l);
}

int namespace_restore(const struct namespace_view *v, const struct namespace_restoring *r,
                      struct kv_batch *batch)
{
    struct namespace_plan p = {.view = *v, .batch = batch, .now_ns = r->time_ns};
    struct namespace_key key = namespace_key(NAMESPACE_STATE);
    struct namespace_state *s = &p.state;
    int rc = namespace_view_state(v, s);
    if (rc < 0) {
        return rc;
    }
    CHECK(r->index > s->applied_index);
    s->applied_index = r->index;
    s->applied_parts = 1;
    s->version = restore_leap(s->version, r->floor);
    s->looks_from = s->version;
    s->next_ino = restore_leap(s->next_ino, r->floor);
    s->next_session = restore_leap(s->next_session, r->floor);
    s->cap_epoch = restore_leap(s->cap_epoch, r->floor);
    s->map_epoch = restore_leap(s->map_epoch, r->floor);
    if (s->next_chain > UINT32_MAX - 2 * RESTORE_EPOCH_LEAP) {
        return -EOVERFLOW;
    }
    s->next_chain += RESTORE_EPOCH_LEAP; /* numbers that were given since are not given again */
    s->balance_paused =
        true; /* until somebody has looked: what moved since is not where rows say */
    rc = restore_data_ids(&p, r->floor);
    rc = rc < 0 ? rc : restore_rows(&p, r->epoch_floor);
    return rc < 0 ? rc : NAMESPACE_PUT(&p, &key, namespace_state, s);
}
