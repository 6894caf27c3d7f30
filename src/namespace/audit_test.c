/* What looks for orphans have found: nothing goes at the first look, nothing that is not sure goes
 * at all. What restores leap over. Which data ids are somebody's. */
#include "testing/testing.h"

#include "namespace/audit_priv.h"
#include "namespace/fsck_run_priv.h"
#include "namespace/restore.h"
#include "namespace/used.h"

#define HOUR_NS INT64_C(3600000000000)
#define HOUR_MS UINT64_C(3600000)
#define FILES 12u

static uint64_t make(struct rig *r, const char *name)
{
    CHECK_OK(RIG_OP(r, create, .parent = 1, .name = rig_text(name), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_WOPEN));
    uint64_t id = r->reply.layout.data_id;
    CHECK_TRUE(id != 0);
    CHECK_OK(RIG_OP(r, commit, .ino = r->reply.result.ino, .cap_epoch = r->reply.result.cap_epoch,
                    .size = 100000, .allocated = 4096, .flags = PROTO_COMMIT_RELEASE));
    return id;
}

static void open_with_files(struct rig *r)
{
    rig_open(r);
    rig_make_class(r, 6);
    for (unsigned i = 0; i < FILES; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "f%u", i);
        CHECK_EQ(make(r, name), i + 1);
    }
}

static uint64_t begin(struct rig *r)
{
    CHECK_OK(RIG_DO(r, NAMESPACE_AUDIT_BEGIN, namespace_audit_begin, .wait_ms = HOUR_MS));
    return r->reply.result.version;
}

static int found_at(struct rig *r, uint64_t look, uint64_t data_id, uint32_t chain)
{
    struct namespace_audit_id f = {.data_id = data_id, .chains = {.at = &chain, .count = 1}};
    return RIG_DO(r, NAMESPACE_AUDIT_FOUND, namespace_audit_found, .look = look,
                  .found = {.at = &f, .count = 1});
}

static int end(struct rig *r, uint64_t look)
{
    return RIG_DO(r, NAMESPACE_AUDIT_END, namespace_audit_end, .look = look,
                  .outcome = NAMESPACE_AUDIT_DONE, .ids = 7);
}

static struct namespace_state state_of(struct rig *r)
{
    struct namespace_state s;
    CHECK_OK(RIG_VIEW(r, namespace_view_state(&r->view, &s)));
    return s;
}

static struct namespace_audit audit_of(struct rig *r)
{
    struct namespace_audit a;
    CHECK_EQ(RIG_VIEW(r, namespace_view_audit(&r->view, &a)), 1);
    return a;
}

static void check_counts(struct rig *r, uint64_t suspects, uint64_t garbage)
{
    struct namespace_state s = state_of(r);
    CHECK_EQ(s.suspects, suspects);
    CHECK_EQ(s.garbage, garbage);
    fsck_run_clean(r);
}

static bool is_garbage(struct rig *r, uint64_t data_id, struct namespace_garbage *ret)
{
    struct namespace_garbages page;
    CHECK_OK(RIG_VIEW(r, namespace_garbages(&r->view, data_id - 1, 1, &page)));
    bool is = page.count == 1 && page.ids[0] == data_id;
    if (is) {
        *ret = page.at[0];
    }
    return is;
}

/* One whole look that finds this data id. */
static void look_for(struct rig *r, uint64_t data_id, uint32_t chain)
{
    uint64_t look = begin(r);
    CHECK_OK(found_at(r, look, data_id, chain));
    CHECK_OK(end(r, look));
}

TEST(an_orphan_goes_with_the_second_look)
{
    struct rig r;
    struct namespace_garbage g;
    open_with_files(&r);
    uint64_t look = begin(&r);
    CHECK_OK(found_at(&r, look, 2, 3));
    r.time_ns += HOUR_NS / 4;
    CHECK_OK(found_at(&r, look, 2, 1)); /* another target, later: the same look */
    CHECK_EQ(audit_of(&r).found, 1);
    CHECK_OK(end(&r, look));
    check_counts(&r, 1, 0);
    r.time_ns += HOUR_NS / 2;
    look_for(&r, 2, 1); /* too early */
    CHECK_EQ(audit_of(&r).waiting, 1);
    check_counts(&r, 1, 0);
    r.time_ns += HOUR_NS;
    look = begin(&r);
    CHECK_OK(found_at(&r, look, 2, 4));
    CHECK_EQ(r.reply.removed_data_id, 2);
    check_counts(&r, 0, 1);
    CHECK_TRUE(is_garbage(&r, 2, &g));
    CHECK_EQ(g.chains.count, 3);
    CHECK_OK(found_at(&r, look, 2, 5)); /* at one more target */
    CHECK_TRUE(is_garbage(&r, 2, &g));
    CHECK_TRUE(g.chains.count == 4 && g.chains.at[0] == 1 && g.chains.at[3] == 5);
    CHECK_EQ(audit_of(&r).removed, 1);
    uint64_t id = 2;
    for (size_t i = 0; i < 4; i++) { /* the way of a removal: until all have answered */
        static const uint32_t chains[] = {1, 3, 4, 5};
        CHECK_TRUE(is_garbage(&r, 2, &g));
        CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done, .chain = chains[i],
                        .data_ids = {.at = &id, .count = 1}));
    }
    CHECK_TRUE(!is_garbage(&r, 2, &g));
    check_counts(&r, 0, 0);
    rig_close(&r);
}

/* The time between two looks counts from when the first one found it to when the second began. */
TEST(looks_are_apart_from_end_to_beginning)
{
    struct rig r;
    open_with_files(&r);
    uint64_t look = begin(&r);
    r.time_ns += HOUR_NS;
    CHECK_OK(found_at(&r, look, 2, 3));
    CHECK_OK(end(&r, look));
    r.time_ns += HOUR_NS / 2;
    look = begin(&r);
    r.time_ns += HOUR_NS;
    CHECK_OK(found_at(&r, look, 2, 3));
    check_counts(&r, 1, 0);
    rig_close(&r);
}

TEST(what_was_given_since_a_look_began_is_somebodys)
{
    struct rig r;
    open_with_files(&r);
    uint64_t look = begin(&r);
    uint64_t id = make(&r, "new");
    CHECK_EQ(audit_of(&r).counter, id);
    CHECK_RC(found_at(&r, look, id, 1), EINVAL);
    CHECK_RC(found_at(&r, look, id + 1000, 1), EINVAL);
    CHECK_RC(found_at(&r, look, 0, 1), EINVAL);
    CHECK_RC(found_at(&r, look, 2, 0), EINVAL);
    CHECK_RC(found_at(&r, look, 2, 7), EINVAL); /* there is no such chain */
    check_counts(&r, 0, 0);
    rig_close(&r);
}

TEST(only_the_newest_look_has_a_word)
{
    struct rig r;
    open_with_files(&r);
    CHECK_RC(RIG_DO(&r, NAMESPACE_AUDIT_BEGIN, namespace_audit_begin, .wait_ms = 0), EINVAL);
    CHECK_RC(found_at(&r, 1, 2, 1), ESTALE); /* none has begun */
    uint64_t first = begin(&r), second = begin(&r);
    CHECK_RC(found_at(&r, first, 2, 1), ESTALE);
    CHECK_RC(end(&r, first), ESTALE);
    CHECK_OK(found_at(&r, second, 2, 1));
    CHECK_OK(end(&r, second));
    CHECK_RC(found_at(&r, second, 3, 1), ESTALE);
    CHECK_RC(end(&r, second), ESTALE);
    struct namespace_audit a = audit_of(&r);
    CHECK_TRUE(a.outcome == NAMESPACE_AUDIT_DONE && a.ids == 7 && a.ended_ns > a.begun_ns);
    check_counts(&r, 1, 0);
    rig_close(&r);
}

TEST(what_is_removed_already_is_no_orphan)
{
    struct rig r;
    struct namespace_garbage g;
    open_with_files(&r);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f1")));
    CHECK_EQ(r.reply.removed_data_id, 2);
    look_for(&r, 2, 1);
    r.time_ns += 2 * HOUR_NS;
    look_for(&r, 2, 5);
    CHECK_TRUE(is_garbage(&r, 2, &g));
    CHECK_EQ(g.chains.count, 0); /* its layout says where it is */
    check_counts(&r, 0, 1);
    rig_close(&r);
}

/* Past the state machine, into both replicas. */
static void plant(struct rig *r, const struct namespace_key *key, const struct proto_type *type,
                  const void *record, size_t cut)
{
    uint8_t bytes[4096];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    CHECK_OK(proto_encode(type, record, &w));
    r->index++;
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        struct kv_batch b;
        kv_batch_init(&b);
        CHECK_OK(kv_batch_put(&b, namespace_key_slice(key), kv_slice_of(bytes, w.len - cut)));
        CHECK_OK(rig_commit(&r->replica[i], &b, r->index));
        kv_batch_fini(&b);
        rig_restart_replica(&r->replica[i]);
    }
}

/* In more chains than any file can be: who knows what that is. */
TEST(what_is_in_too_many_chains_is_left_alone)
{
    struct rig r;
    uint32_t chains[80];
    struct namespace_key key = namespace_key(NAMESPACE_STATE);
    open_with_files(&r);
    struct namespace_state s = state_of(&r);
    s.applied_index = r.index + 1;
    s.next_chain = 200;
    plant(&r, &key, &namespace_state_type, &s, 0);
    for (uint32_t i = 0; i < ARRAY_COUNT(chains); i++) {
        chains[i] = i + 1;
    }
    for (unsigned i = 0; i < 3; i++) {
        uint64_t look = begin(&r);
        for (size_t half = 0; half < 2; half++) {
            struct namespace_audit_id f = {.data_id = 2,
                                           .chains = {.at = chains + 40 * half, .count = 40}};
            CHECK_OK(RIG_DO(&r, NAMESPACE_AUDIT_FOUND, namespace_audit_found, .look = look,
                            .found = {.at = &f, .count = 1}));
        }
        CHECK_OK(end(&r, look));
        CHECK_EQ(audit_of(&r).unclear, i == 0 ? 0 : 1);
        r.time_ns += 2 * HOUR_NS;
    }
    CHECK_EQ(state_of(&r).suspects, 1);
    CHECK_EQ(state_of(&r).garbage, 0);
    rig_close(&r);
}

TEST(suspects_that_are_nowhere_any_more_are_forgotten)
{
    struct rig r;
    uint64_t forget[2] = {2, 3};
    open_with_files(&r);
    uint64_t look = begin(&r);
    CHECK_OK(found_at(&r, look, 2, 1));
    CHECK_OK(found_at(&r, look, 3, 1));
    look = begin(&r);
    CHECK_OK(found_at(&r, look, 3, 1));
    CHECK_OK(RIG_DO(&r, NAMESPACE_AUDIT_FOUND, namespace_audit_found, .look = look,
                    .forget = {.at = forget, .count = 2}));
    check_counts(&r, 1, 0); /* 3 was seen */
    forget[0] = 3;
    CHECK_RC(RIG_DO(&r, NAMESPACE_AUDIT_FOUND, namespace_audit_found, .look = look,
                    .forget = {.at = forget, .count = 2}),
             EINVAL);
    rig_close(&r);
}

/* ---- Restores ---- */

static void restore(struct rig *r)
{
    uint64_t index = r->index + 1;
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        struct rig_replica *m = &r->replica[i];
        struct kv_snapshot *s = NULL;
        struct mem_arena arena;
        struct kv_batch b;
        int rc;
        kv_batch_init(&b);
        mem_arena_init(&arena, 8U << 20);
        do {
            CHECK_OK(kv_snapshot_new(m->kv, &s));
            struct namespace_view v = {.snapshot = s, .need = &m->need, .arena = &arena};
            const struct namespace_restoring how = {.index = index, .time_ns = r->time_ns};
            kv_batch_clear(&b);
            rc = namespace_restore(&v, &how, &b);
            s = kv_snapshot_free(s);
            if (rc == -ERR_need) {
                rig_fetch(m);
                mem_arena_reset(&arena);
            }
        } while (rc == -ERR_need);
        CHECK_OK(rc);
        kv_need_release(&m->need);
        CHECK_OK(rig_commit(m, &b, index));
        kv_batch_fini(&b);
        mem_arena_fini(&arena);
        rig_restart_replica(m);
    }
    r->index = index;
}

static struct namespace_leap leap_at(struct rig *r, size_t count, size_t at, uint64_t *first)
{
    struct namespace_leaps l;
    CHECK_OK(RIG_VIEW(r, namespace_leaps(&r->view, 0, 10, &l)));
    CHECK_EQ(l.count, count);
    *first = l.ids[at];
    return l.at[at];
}

TEST(a_restore_writes_down_what_it_leaps_over)
{
    struct rig r;
    uint64_t first;
    open_with_files(&r);
    restore(&r);
    struct namespace_leap l = leap_at(&r, 1, 0, &first);
    CHECK_EQ(first, FILES + 1);
    CHECK_TRUE(l.last >= first + (NAMESPACE_LEAP_LEAST - 1) && !l.unknown && !l.released);
    CHECK_EQ(l.time_ns, r.time_ns);
    uint64_t id = make(&r, "after");
    CHECK_EQ(id, l.last + 1);
    restore(&r);
    l = leap_at(&r, 2, 1, &first);
    CHECK_TRUE(first == id + 1 && l.last > first);
    check_counts(&r, 0, 0);
    rig_close(&r);
}

/* Files that the restored state does not know may have them. */
TEST(what_was_leapt_over_is_kept_until_somebody_names_the_range)
{
    struct rig r;
    uint64_t first;
    open_with_files(&r);
    restore(&r);
    struct namespace_leap l = leap_at(&r, 1, 0, &first);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t look = begin(&r);
        CHECK_OK(found_at(&r, look, first, 1));
        CHECK_OK(found_at(&r, look, first + 5, 1));
        CHECK_OK(found_at(&r, look, l.last, 1));
        CHECK_EQ(audit_of(&r).held, 3);
        CHECK_OK(end(&r, look));
        check_counts(&r, 0, 0);
        r.time_ns += 2 * HOUR_NS;
    }
    look_for(&r, first - 1, 1); /* of before: as always */
    check_counts(&r, 1, 0);
    CHECK_RC(RIG_DO(&r, NAMESPACE_AUDIT_RELEASE, namespace_audit_release, .first = first,
                    .last = l.last - 1),
             ENOENT);
    CHECK_RC(RIG_DO(&r, NAMESPACE_AUDIT_RELEASE, namespace_audit_release, .first = first + 1,
                    .last = l.last),
             ENOENT);
    CHECK_OK(RIG_DO(&r, NAMESPACE_AUDIT_RELEASE, namespace_audit_release, .first = first,
                    .last = l.last));
    look_for(&r, first + 5, 1); /* two looks all the same */
    check_counts(&r, 2, 0);
    r.time_ns += 2 * HOUR_NS;
    look_for(&r, first + 5, 1);
    check_counts(&r, 1, 1);
    rig_close(&r);
}

TEST(looks_of_before_a_restore_count_no_more)
{
    struct rig r;
    open_with_files(&r);
    look_for(&r, 2, 1);
    restore(&r);
    r.time_ns += 2 * HOUR_NS;
    look_for(&r, 2, 1);
    CHECK_EQ(audit_of(&r).found, 1);
    check_counts(&r, 1, 0);
    r.time_ns += 2 * HOUR_NS;
    look_for(&r, 2, 1);
    check_counts(&r, 0, 1);
    rig_close(&r);
}

/* As a version wrote it that knew of no leaps: three fields are missing. */
static void plant_old_state(struct rig *r, uint64_t next_data_id)
{
    struct namespace_key key = namespace_key(NAMESPACE_STATE);
    struct namespace_state s = state_of(r);
    s.applied_index = r->index + 1;
    s.next_data_id = next_data_id;
    plant(r, &key, &namespace_state_type, &s, 3 * sizeof(uint64_t));
    s = state_of(r);
    CHECK_TRUE(s.leaps_from == 0 && s.suspects == 0 && s.looks_from == 0);
    CHECK_EQ(s.next_data_id, next_data_id);
}

TEST(of_an_old_state_nobody_knows_what_was_leapt_over)
{
    struct rig r;
    uint64_t first;
    open_with_files(&r);
    plant_old_state(&r, FILES + 1); /* so few: there was no restore */
    look_for(&r, 2, 1);
    CHECK_EQ(state_of(&r).leaps_from, 1);
    check_counts(&r, 1, 0);
    rig_close(&r);
    open_with_files(&r);
    plant_old_state(&r, NAMESPACE_LEAP_LEAST + 100); /* perhaps there was one */
    for (unsigned i = 0; i < 3; i++) {
        look_for(&r, 2, 1);
        r.time_ns += 2 * HOUR_NS;
    }
    struct namespace_leap l = leap_at(&r, 1, 0, &first);
    CHECK_TRUE(first == 1 && l.unknown && l.last == NAMESPACE_LEAP_LEAST + 99);
    check_counts(&r, 0, 0);
    uint64_t id = make(&r, "new"); /* what is given from now on is sure */
    CHECK_EQ(id, NAMESPACE_LEAP_LEAST + 100);
    look_for(&r, id, 1);
    check_counts(&r, 1, 0);
    rig_close(&r);
    open_with_files(&r);
    plant_old_state(&r, NAMESPACE_LEAP_LEAST + 100);
    restore(&r);
    l = leap_at(&r, 2, 0, &first);
    CHECK_TRUE(first == 1 && l.unknown);
    check_counts(&r, 0, 0);
    rig_close(&r);
}

/* ---- Whose data ids are ---- */

static int used_all(struct rig *r, uint64_t first, uint64_t end_id, uint64_t *bits)
{
    struct rig_replica *m = &r->replica[1];
    struct namespace_used u = {.first = first, .end = end_id, .bits = bits};
    struct kv_snapshot *s = NULL;
    int rc = 0;
    rig_view_end(r);
    CHECK_OK(kv_snapshot_new(m->kv, &s));
    mem_arena_reset(&r->arena);
    struct namespace_view v = {.snapshot = s, .need = &m->need, .arena = &r->arena};
    while (rc == 0 && !u.done) {
        mem_arena_reset(&r->arena);
        rc = namespace_used_step(&v, 3, &u);
        if (rc == -ERR_need) {
            rig_fetch(m);
            rc = 0;
        } else {
            kv_need_release(&m->need);
        }
    }
    kv_need_release(&m->need);
    kv_snapshot_free(s);
    CHECK_TRUE(rc < 0 || u.state.next_data_id > 0);
    return rc;
}

TEST(every_data_id_that_somebody_has_is_known)
{
    struct rig r;
    uint64_t bits[4] = {0};
    open_with_files(&r);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f1"), .is_open = true));
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f2"))); /* garbage */
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f3")));
    uint64_t id = 4;
    CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done, .all = true,
                    .data_ids = {.at = &id, .count = 1})); /* f3 is gone everywhere */
    CHECK_OK(RIG_OP(&r, setattr, .ino = 1, .mask = PROTO_SET_RETENTION, .retention_s = 60));
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f4"))); /* into the trash */
    CHECK_OK(used_all(&r, 1, 65, bits));
    for (uint64_t i = 1; i <= FILES; i++) {
        CHECK_EQ(bits[0] >> (i - 1) & 1, i != 4 ? 1 : 0);
    }
    CHECK_EQ(bits[0] >> FILES, 0);
    CHECK_EQ(bits[1], 0);
    bits[0] = 0;
    CHECK_OK(used_all(&r, 3, 6, bits)); /* 3, 4, 5: no bit for others */
    CHECK_EQ(bits[0], 5);
    const struct namespace_used u = {.first = 3, .end = 6, .bits = bits};
    CHECK_TRUE(namespace_used_has(&u, 3) && !namespace_used_has(&u, 4));
    CHECK_TRUE(namespace_used_has(&u, 2) && namespace_used_has(&u, 6)); /* not looked at */
    rig_close(&r);
}

TEST(who_cannot_read_an_inode_does_not_know_what_is_used)
{
    struct rig r;
    uint64_t bits[1] = {0};
    struct namespace_inode n = {.type = PROTO_INODE_FILE};
    open_with_files(&r);
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, 5000);
    struct wire_writer w = wire_writer_over((uint8_t[4096]){0}, 4096);
    CHECK_OK(PROTO_ENCODE(namespace_inode, &n, &w));
    plant(&r, &key, &namespace_inode_type, &n, w.len - 2);
    CHECK_RC(used_all(&r, 1, 65, bits), EUCLEAN);
    rig_close(&r);
}

/* One that is lost would make its data look like nobody's. */
TEST(who_does_not_see_all_inodes_does_not_know_what_is_used)
{
    struct rig r;
    uint64_t bits[1] = {0};
    struct kv_batch b;
    open_with_files(&r);
    CHECK_OK(used_all(&r, 1, 65, bits));
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, 5);
    r.index++;
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        kv_batch_init(&b);
        CHECK_OK(kv_batch_delete(&b, namespace_key_slice(&key)));
        CHECK_OK(rig_commit(&r.replica[i], &b, r.index));
        kv_batch_fini(&b);
    }
    CHECK_RC(used_all(&r, 1, 65, bits), EUCLEAN);
    rig_close(&r);
    open_with_files(&r);
    struct namespace_garbage g = {.layout.data_id = 3};
    key = namespace_key_u64(NAMESPACE_GARBAGE, 3);
    plant(&r, &key, &namespace_garbage_type, &g, 0);
    CHECK_RC(used_all(&r, 1, 65, bits), EUCLEAN);
    rig_close(&r);
}
