#include "testing/testing.h"

#include "namespace/rig_cluster_priv.h"

/* Write authority, unlinked files, dead sessions, and what data nodes have to remove. */

struct two { /* sessions of two machines, each with root's credential and slot 0 */
    struct proto_op a, b;
};

static void two_open(struct rig *r, struct two *t, bool with_class)
{
    rig_open(r);
    if (with_class) {
        rig_make_class(r, 4);
    }
    t->a = r->op;
    t->b = rig_machine(r, 2, 22);
}

static void two_switch(struct rig *r, struct proto_op *from, const struct proto_op *to)
{
    *from = r->op;
    r->op = *to;
}

static uint64_t new_file(struct rig *r, const char *name, uint32_t flags)
{
    CHECK_OK(RIG_OP(r, create, .parent = 1, .name = rig_text(name), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = flags));
    return r->reply.result.ino;
}

static uint64_t size_of(struct rig *r, uint64_t ino)
{
    struct proto_getattr_reply reply;
    CHECK_OK(RIG_QUERY(r, getattr, &reply, .ino = ino));
    return reply.attr.size;
}

/* A has made the file and writes it. */
static uint64_t two_open_file(struct rig *r, struct two *t)
{
    two_open(r, t, true);
    return new_file(r, "f", PROTO_CREATE_WOPEN);
}

TEST(who_writes_and_is_not_in_the_group_takes_set_gid_away)
{
    struct rig r;
    rig_open(&r);
    rig_make_class(&r, 4);
    for (unsigned outsider = 0; outsider < 2; outsider++) {
        CHECK_OK(RIG_OP(&r, create, .parent = 1, .name = rig_text(outsider == 0 ? "a" : "b"),
                        .type = PROTO_INODE_FILE, .mode = 0644, .flags = PROTO_CREATE_WOPEN));
        uint64_t ino = r.reply.result.ino, epoch = r.reply.result.cap_epoch;
        CHECK_OK(RIG_OP(&r, setattr, .ino = ino, .mask = PROTO_SET_MODE, .mode = 06767));
        CHECK_OK(
            RIG_OP(&r, commit, .ino = ino, .cap_epoch = epoch, .size = 10, .allocated = 10,
                   .flags = PROTO_COMMIT_KILL_PRIV | (outsider == 0 ? 0 : PROTO_COMMIT_OUTSIDER)));
        CHECK_EQ(r.reply.attr.mode, outsider == 0 ? 02767 : 0767);
    }
    rig_close(&r);
}

TEST(a_small_file_takes_two_commands)
{
    struct rig r;
    struct two t;
    struct proto_read_inline_reply data;
    two_open(&r, &t, true);
    uint64_t f = new_file(&r, "f", PROTO_CREATE_WOPEN | PROTO_CREATE_EXCLUSIVE);
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_TRUE(epoch > 0 && r.reply.layout.data_id > 0);
    CHECK_EQ(r.reply.layout.stripe_width, 4);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("hello"), .size = 5,
                    .flags = PROTO_COMMIT_HAS_DATA | PROTO_COMMIT_RELEASE));
    CHECK_EQ(r.reply.layout.data_id, 0); /* nothing was in chunks */
    CHECK_OK(RIG_QUERY(&r, read_inline, &data, .ino = f));
    CHECK_TRUE(data.has_data && proto_bytes_equal(data.data, rig_text("hello")));
    CHECK_RC(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 9), ESTALE);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f")));
    CHECK_EQ(r.reply.removed_data_id, 0);
    rig_close(&r);
}

TEST(one_writes_alone_many_share)
{
    struct rig r;
    struct two t;
    two_open(&r, &t, true);
    uint64_t f = new_file(&r, "f", 0);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    uint64_t a_epoch = r.reply.result.cap_epoch;
    two_switch(&r, &t.a, &t.b);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f, .try_only = true), EAGAIN);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S);
    CHECK_TRUE(!r.reply.result.shared_now);
    uint64_t b_epoch = r.reply.result.cap_epoch;
    CHECK_TRUE(b_epoch > a_epoch);
    struct namespace_wopens w;
    CHECK_OK(RIG_VIEW(&r, namespace_writers(&r.view, f, 0, 10, &w)));
    CHECK_EQ(w.count, 2);
    CHECK_EQ(w.at[0].mode, PROTO_OPEN_S);
    CHECK_OK(RIG_VIEW(&r, namespace_session_wopens(&r.view, t.b.session, 0, 10, &w)));
    CHECK_EQ(w.count, 1);
    CHECK_EQ(w.ids[0], f);
    CHECK_RC(RIG_OP(&r, commit, .ino = f, .cap_epoch = a_epoch, .size = 9), ESTALE);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = b_epoch, .size = 100, .allocated = 100));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = a_epoch, .size = 50, .allocated = 100));
    CHECK_EQ(size_of(&r, f), 100); /* the greatest wins */
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = a_epoch, .flags = PROTO_COMMIT_RELEASE));
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W); /* alone again */
    CHECK_EQ(r.reply.result.cap_epoch, b_epoch);
    CHECK_OK(RIG_OP(&r, lease_return, .has_final = true, .ino = f, .cap_epoch = b_epoch,
                    .size = 200, .mtime_ns = 77, .atime_ns = 5));
    CHECK_EQ(size_of(&r, f), 200);
    CHECK_OK(RIG_VIEW(&r, namespace_writers(&r.view, f, 0, 10, &w)));
    CHECK_EQ(w.count, 0);
    rig_close(&r);
}

/* What A has not written yet is remembered in its record, so that it survives replay. */
TEST(who_has_not_flushed_is_remembered)
{
    struct rig r;
    struct two t;
    struct namespace_wopens w;
    two_open(&r, &t, true);
    struct proto_op c = rig_machine(&r, 3, 33);
    uint64_t f = new_file(&r, "f", PROTO_CREATE_WOPEN);
    uint64_t a_epoch = r.reply.result.cap_epoch;
    two_switch(&r, &t.a, &t.b);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f, .try_only = true), EAGAIN);
    CHECK_OK(RIG_VIEW(&r, namespace_writers(&r.view, f, 0, 10, &w)));
    CHECK_TRUE(!w.at[0].unflushed); /* it still writes alone */
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    uint64_t b_epoch = r.reply.result.cap_epoch;
    CHECK_TRUE(!r.reply.result.shared_now);
    CHECK_OK(RIG_VIEW(&r, namespace_writers(&r.view, f, 0, 10, &w)));
    CHECK_TRUE(w.count == 2 && w.at[0].unflushed && !w.at[1].unflushed);
    two_switch(&r, &t.b, &c);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f)); /* the third one */
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S);
    CHECK_TRUE(!r.reply.result.shared_now);
    two_switch(&r, &c, &t.a); /* A opens it once more: that says nothing of what it has */
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    CHECK_OK(RIG_VIEW(&r, namespace_writers(&r.view, f, 0, 10, &w)));
    CHECK_TRUE(w.at[0].unflushed && w.at[0].mode == PROTO_OPEN_S);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = a_epoch, .size = 9, .allocated = 9));
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f)); /* asked again */
    CHECK_TRUE(!r.reply.result.shared_now && r.reply.result.cap_epoch == b_epoch);
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, lease_return, .has_final = true, .ino = f, .cap_epoch = a_epoch, .size = 9,
                    .keep = {.at = &f, .count = 1}));
    two_switch(&r, &t.a, &c);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S);
    CHECK_TRUE(r.reply.result.shared_now);
    rig_close(&r);
}

TEST(who_is_alone_again_owes_nothing)
{
    struct rig r;
    struct two t;
    struct namespace_wopens w;
    uint64_t f = two_open_file(&r, &t);
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = r.reply.result.cap_epoch,
                    .flags = PROTO_COMMIT_RELEASE));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    CHECK_OK(RIG_VIEW(&r, namespace_writers(&r.view, f, 0, 10, &w)));
    CHECK_TRUE(w.count == 1 && w.at[0].mode == PROTO_OPEN_W && !w.at[0].unflushed);
    rig_close(&r);
}

/* Until its last word the holder commits what it did while it was alone: also a shorter file. */
TEST(a_recalled_holder_may_shorten_small_contents)
{
    struct rig r;
    struct two t;
    uint64_t f = two_open_file(&r, &t);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("hello"), .size = 5,
                    .flags = PROTO_COMMIT_HAS_DATA));
    uint64_t version = r.reply.data_version;
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("he"), .size = 2,
                    .data_version = version, .flags = PROTO_COMMIT_HAS_DATA));
    CHECK_EQ(size_of(&r, f), 2);
    rig_close(&r);
}

/* Small contents, three writers: one after the other, until they are in chunks. */
TEST(writers_of_small_contents_take_turns)
{
    struct rig r;
    struct two t;
    two_open(&r, &t, true);
    struct proto_op c = rig_machine(&r, 3, 33);
    uint64_t f = new_file(&r, "f", PROTO_CREATE_WOPEN);
    uint64_t epoch = r.reply.result.cap_epoch;
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    two_switch(&r, &t.b, &c);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_TRUE(!r.reply.result.shared_now);
    two_switch(&r, &c, &t.a);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("small"), .size = 5,
                    .flags = PROTO_COMMIT_HAS_DATA | PROTO_COMMIT_RELEASE));
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    epoch = r.reply.result.cap_epoch;
    uint64_t version = r.reply.data_version;
    two_switch(&r, &t.b, &c);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_TRUE(r.reply.result.mode == PROTO_OPEN_S && !r.reply.result.shared_now);
    two_switch(&r, &c, &t.b);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("s"), .size = 1,
                    .data_version = version, .flags = PROTO_COMMIT_HAS_DATA));
    CHECK_EQ(size_of(&r, f), 1);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 1, .allocated = 4096));
    CHECK_OK(RIG_OP(&r, lease_return, .has_final = true, .ino = f, .cap_epoch = epoch, .size = 1,
                    .keep = {.at = &f, .count = 1}));
    two_switch(&r, &t.b, &c);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_TRUE(r.reply.result.mode == PROTO_OPEN_S && r.reply.result.shared_now);
    rig_close(&r);
}

/* L6 for who was told to wait: not before fence and trim, also when it asks again. */
TEST(a_waiter_of_a_dead_writer_waits_for_its_trim)
{
    struct rig r;
    struct two t;
    struct namespace_sharing sharing;
    two_open(&r, &t, true);
    uint64_t f = new_file(&r, "f", 0);
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_OK(RIG_VIEW(&r, namespace_sharing(&r.view, f, &sharing)));
    CHECK_TRUE(sharing.holder == t.b.session && !sharing.trimming);
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = t.b.session));
    CHECK_OK(RIG_VIEW(&r, namespace_sharing(&r.view, f, &sharing)));
    CHECK_TRUE(sharing.holder == 0 && sharing.trimming);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f, .try_only = true), EAGAIN);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S);
    CHECK_TRUE(!r.reply.result.shared_now);
    struct namespace_fences fences;
    CHECK_OK(RIG_VIEW(&r, namespace_fences(&r.view, 0, 10, &fences)));
    CHECK_OK(RIG_DO(&r, NAMESPACE_FENCE_DONE, namespace_fence_done, .session = fences.ids[0],
                    .cap_epoch = fences.at[0].cap_epoch));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_TRUE(!r.reply.result.shared_now); /* not before the trim */
    CHECK_OK(
        RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = r.reply.attr.tgen));
    CHECK_OK(RIG_VIEW(&r, namespace_sharing(&r.view, f, &sharing)));
    CHECK_TRUE(sharing.holder == 0 && !sharing.trimming);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    CHECK_TRUE(r.reply.result.shared_now);
    CHECK_RC(RIG_VIEW(&r, namespace_sharing(&r.view, 999, &sharing)), ENOENT);
    rig_close(&r);
}

TEST(appends_to_inline_files_are_atomic)
{
    struct rig r;
    struct two t;
    struct proto_read_inline_reply data;
    two_open(&r, &t, false);
    uint64_t f = new_file(&r, "f", PROTO_CREATE_WOPEN);
    uint64_t epoch = r.reply.result.cap_epoch;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("ab"),
                        .flags = PROTO_COMMIT_HAS_DATA | PROTO_COMMIT_APPEND));
    }
    CHECK_OK(RIG_QUERY(&r, read_inline, &data, .ino = f));
    CHECK_TRUE(proto_bytes_equal(data.data, rig_text("abab")));
    CHECK_EQ(size_of(&r, f), 4);
    CHECK_RC(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 5000, .allocated = 5000),
             ENOSPC); /* there is no storage class */
    rig_close(&r);
}

TEST(unlinked_files_live_while_open)
{
    struct rig r;
    struct two t;
    struct namespace_orphans o;
    uint64_t f = two_open_file(&r, &t);
    uint64_t data_id = r.reply.layout.data_id;
    struct namespace_keep keep = {.session = t.b.session, .maybe = true};
    r.keeps = (struct namespace_keep_list){.at = &keep, .count = 1};
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f")));
    r.keeps.count = 0;
    CHECK_EQ(r.reply.removed_data_id, 0);
    CHECK_OK(RIG_VIEW(&r, namespace_keepers(&r.view, f, 0, 10, &o)));
    CHECK_EQ(o.count, 2);
    CHECK_TRUE(!o.at[0].maybe && o.at[1].maybe);
    CHECK_EQ(size_of(&r, f), 0);
    CHECK_OK(RIG_OP(&r, release, .ino = f));
    CHECK_EQ(r.reply.removed_data_id, 0);
    CHECK_OK(RIG_VIEW(&r, namespace_session_orphans(&r.view, t.b.session, 0, 10, &o)));
    CHECK_EQ(o.count, 1);
    uint64_t inos[1] = {f};
    CHECK_OK(RIG_DO(&r, NAMESPACE_ORPHAN_DROP, namespace_orphan_drop, .session = t.b.session,
                    .inos = {.at = inos, .count = 1}));
    CHECK_EQ(r.reply.removed_data_id, data_id);
    struct namespace_garbages g;
    CHECK_OK(RIG_VIEW(&r, namespace_garbages(&r.view, 0, 10, &g)));
    CHECK_EQ(g.count, 1);
    CHECK_EQ(g.ids[0], data_id);
    for (uint32_t chain = 1; chain <= 5; chain++) { /* 5 is none of its chains */
        CHECK_OK(RIG_VIEW(&r, namespace_garbages(&r.view, 0, 10, &g)));
        CHECK_EQ(g.count, chain <= 4);
        CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done,
                        .chain = chain == 1 ? 5 : chain - 1,
                        .data_ids = {.at = &data_id, .count = 1}));
        CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done,
                        .chain = chain == 5 ? 4 : chain, .data_ids = {.at = &data_id, .count = 1}));
    }
    CHECK_OK(RIG_VIEW(&r, namespace_garbages(&r.view, 0, 10, &g)));
    CHECK_EQ(g.count, 0);
    rig_close(&r);
}

/* What all chains have removed is said at once: the records go, those that some chain answered for
 * before included; others stay. */
TEST(garbage_of_many_files_ends_by_one_command)
{
    struct rig r;
    struct two t;
    struct namespace_garbages g;
    uint64_t ids[4] = {0};
    two_open(&r, &t, true);
    for (unsigned i = 0; i < 4; i++) {
        const char name[2] = {(char)('a' + i), 0};
        uint64_t ino = new_file(&r, name, PROTO_CREATE_WOPEN);
        uint64_t epoch = r.reply.result.cap_epoch;
        ids[i] = r.reply.layout.data_id;
        CHECK_OK(RIG_OP(&r, commit, .ino = ino, .cap_epoch = epoch, .size = 9000, .allocated = 9000,
                        .flags = PROTO_COMMIT_RELEASE));
        CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text(name)));
    }
    CHECK_OK(RIG_VIEW(&r, namespace_garbages(&r.view, 0, 10, &g)));
    CHECK_EQ(g.count, 4);
    CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done, .chain = 2,
                    .data_ids = {.at = ids, .count = 4}));
    uint64_t falling[2] = {ids[1], ids[0]};
    CHECK_RC(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done, .all = true,
                    .data_ids = {.at = falling, .count = 2}),
             EINVAL);
    CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done, .all = true,
                    .data_ids = {.at = ids, .count = 3}));
    CHECK_OK(RIG_VIEW(&r, namespace_garbages(&r.view, 0, 10, &g)));
    CHECK_EQ(g.count, 1);
    CHECK_EQ(g.ids[0], ids[3]);
    CHECK_OK(RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done, .all = true,
                    .data_ids = {.at = ids, .count = 4})); /* said twice, of three */
    CHECK_OK(RIG_VIEW(&r, namespace_garbages(&r.view, 0, 10, &g)));
    CHECK_EQ(g.count, 0);
    rig_close(&r);
}

/* Its writer closes it, and flushes nothing (section 7): nobody ever sees what it had behind the
 * recorded size (I10), also if that size grows later. */
TEST(the_writer_of_an_unlinked_file_leaves_nothing_behind)
{
    struct rig r;
    struct two t;
    struct namespace_trims trims;
    uint64_t f = two_open_file(&r, &t);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = r.reply.result.cap_epoch, .size = 10,
                    .allocated = 10));
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f"), .is_open = true));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, release, .ino = f));
    CHECK_OK(RIG_VIEW(&r, namespace_trims(&r.view, 0, 10, &trims)));
    CHECK_EQ(trims.count, 1);
    CHECK_EQ(trims.ids[0], f);
    CHECK_EQ(trims.at[0].from, 10);
    uint32_t tgen = trims.at[0].tgen;
    two_switch(&r, &t.a, &t.b);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ERR_busy);
    r.op.sequence++; /* what was told to come again has not taken its place in the slot */
    CHECK_RC(RIG_OP(&r, release, .ino = f), ERR_bad_sequence);
    r.op.sequence--;
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = tgen));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.attr.tgen, tgen);
    CHECK_OK(RIG_OP(&r, release, .ino = f)); /* the last one: all of it goes */
    CHECK_TRUE(r.reply.removed_data_id > 0);
    CHECK_OK(RIG_VIEW(&r, namespace_trims(&r.view, 0, 10, &trims)));
    CHECK_EQ(trims.count, 0);
    rig_close(&r);
}

TEST(nameless_files_get_a_name)
{
    struct rig r;
    struct two t;
    two_open(&r, &t, false);
    uint64_t f = new_file(&r, "x", PROTO_CREATE_ORPHAN);
    struct proto_lookup_reply found;
    CHECK_OK(RIG_QUERY(&r, lookup, &found, .parent = 1, .name = rig_text("x")));
    CHECK_EQ(found.attr.ino, 0);
    two_switch(&r, &t.a, &t.b);
    CHECK_RC(RIG_OP(&r, link, .ino = f, .parent = 1, .name = rig_text("y")), ENOENT);
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, link, .ino = f, .parent = 1, .name = rig_text("y")));
    CHECK_OK(RIG_QUERY(&r, lookup, &found, .parent = 1, .name = rig_text("y")));
    CHECK_EQ(found.attr.ino, f);
    CHECK_OK(RIG_OP(&r, release, .ino = f)); /* nothing is left to let go of */
    CHECK_EQ(size_of(&r, f), 0);
    rig_close(&r);
}

/* Session B dies while it writes: fence, then trim, then others may write (L5, L6). */
TEST(a_dead_writer_is_fenced)
{
    struct rig r;
    struct two t;
    struct namespace_fences fences;
    struct namespace_trims trims;
    two_open(&r, &t, true);
    uint64_t f = new_file(&r, "f", 0);
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 10, .allocated = 10));
    uint64_t nameless = new_file(&r, "x", PROTO_CREATE_ORPHAN | PROTO_CREATE_WOPEN);
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = t.b.session));
    CHECK_EQ(r.reply.fenced_session, t.b.session);
    CHECK_RC(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = t.b.session), ENOENT);
    CHECK_RC(RIG_QUERY(&r, getattr, &(struct proto_getattr_reply){0}, .ino = nameless), ENOENT);
    CHECK_OK(RIG_VIEW(&r, namespace_fences(&r.view, 0, 10, &fences)));
    CHECK_EQ(fences.count, 1);
    CHECK_TRUE(fences.at[0].cap_epoch > epoch);
    uint64_t fence = fences.at[0].cap_epoch;
    CHECK_OK(RIG_VIEW(&r, namespace_trims(&r.view, 0, 10, &trims)));
    CHECK_EQ(trims.count, 1);
    CHECK_EQ(trims.ids[0], f);
    CHECK_EQ(trims.at[0].from, 10);
    uint32_t tgen = trims.at[0].tgen;
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ERR_busy);
    CHECK_RC(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = tgen),
             ERR_busy);
    CHECK_OK(RIG_DO(&r, NAMESPACE_FENCE_DONE, namespace_fence_done, .session = t.b.session,
                    .cap_epoch = fence));
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ERR_busy); /* not before the trim */
    CHECK_RC(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = tgen + 1),
             ESTALE);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = tgen));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.attr.tgen, tgen);
    epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 20, .allocated = 20));
    rig_close(&r);
}

TEST(truncation_leaves_a_trim)
{
    struct rig r;
    struct two t;
    uint64_t f = two_open_file(&r, &t);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 100, .allocated = 100));
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 10, .cap_epoch = 1),
             ESTALE);
    CHECK_OK(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 10, .cap_epoch = epoch));
    CHECK_EQ(r.reply.trim_ino, f);
    uint32_t tgen = r.reply.attr.tgen;
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 50, .cap_epoch = epoch),
             ERR_busy); /* extending waits for the trim */
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = tgen));
    CHECK_OK(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 50, .cap_epoch = epoch));
    two_switch(&r, &t.a, &t.b);
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 0), ERR_busy);
    rig_close(&r);
}

static uint64_t trim_of(struct rig *r, uint64_t ino, struct namespace_trim *ret)
{
    struct namespace_trims trims;
    CHECK_OK(RIG_VIEW(r, namespace_trims(&r->view, ino - 1, 1, &trims)));
    bool found = trims.count == 1 && trims.ids[0] == ino;
    *ret = found ? trims.at[0] : (struct namespace_trim){0};
    return found ? 1 : 0;
}

/* A chunk that is written with the generation of a trim counts as cut, whatever else is in it. */
TEST(a_new_writer_waits_for_any_trim)
{
    struct rig r;
    struct two t;
    struct namespace_trim trim;
    uint64_t f = two_open_file(&r, &t);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 100, .allocated = 100,
                    .flags = PROTO_COMMIT_RELEASE));
    CHECK_OK(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 10));
    CHECK_EQ(trim_of(&r, f, &trim), 1);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ERR_busy);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = trim.tgen));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    rig_close(&r);
}

/* Contents that could not all be brought into chunks stay inline: what is in chunks is cut. */
TEST(a_torn_tenure_leaves_nothing_in_chunks)
{
    struct rig r;
    struct two t;
    struct namespace_trim trim;
    uint64_t f = two_open_file(&r, &t);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("hello"), .size = 5,
                    .flags = PROTO_COMMIT_HAS_DATA));
    CHECK_OK(
        RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 5, .flags = PROTO_COMMIT_TORN));
    CHECK_EQ(trim_of(&r, f, &trim), 0); /* the writer goes on */
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 5,
                    .flags = PROTO_COMMIT_TORN | PROTO_COMMIT_RELEASE));
    CHECK_EQ(trim_of(&r, f, &trim), 1);
    CHECK_EQ(trim.from, 0);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ERR_busy);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = trim.tgen));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f)); /* returned instead of released: the same */
    epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, lease_return, .has_final = true, .ino = f, .cap_epoch = epoch, .size = 5,
                    .torn = true));
    CHECK_EQ(trim_of(&r, f, &trim), 1);
    CHECK_EQ(size_of(&r, f), 5);
    rig_close(&r);
}

/* Of several writers the last one leaves the trim: before, others' data might go with it. */
/* One that shared a file is dead: what the others have written and not committed yet must stay. The
 * last of them leaves the trim, which waits for the fence; nobody writes alone before. */
TEST(a_dead_sharer_costs_the_living_nothing)
{
    struct rig r;
    struct two t;
    struct namespace_trim trim;
    struct namespace_fences fences;
    uint64_t f = two_open_file(&r, &t);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 5000, .allocated = 8192));
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, lease_return, .has_final = true, .ino = f, .cap_epoch = epoch, .size = 6000,
                    .keep = {.at = (uint64_t[]){f}, .count = 1}));
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = t.b.session));
    CHECK_EQ(trim_of(&r, f, &trim), 0);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S); /* the dead one may still write */
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch, .size = 9000, .allocated = 12288,
                    .flags = PROTO_COMMIT_RELEASE));
    CHECK_EQ(size_of(&r, f), 9000);
    CHECK_EQ(trim_of(&r, f, &trim), 1);
    CHECK_EQ(trim.from, 9000);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ERR_busy);
    CHECK_RC(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = trim.tgen),
             ERR_busy); /* not before the fence */
    CHECK_OK(RIG_VIEW(&r, namespace_fences(&r.view, 0, 10, &fences)));
    CHECK_OK(RIG_DO(&r, NAMESPACE_FENCE_DONE, namespace_fence_done, .session = t.b.session,
                    .cap_epoch = fences.at[0].cap_epoch));
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = trim.tgen));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    rig_close(&r);
}

TEST(the_last_of_several_writers_leaves_nothing_in_chunks)
{
    struct rig r;
    struct two t;
    struct namespace_trim trim;
    uint64_t f = two_open_file(&r, &t);
    uint64_t epoch = r.reply.result.cap_epoch;
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S);
    uint64_t other = r.reply.result.cap_epoch;
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = epoch,
                    .flags = PROTO_COMMIT_TORN | PROTO_COMMIT_RELEASE));
    CHECK_EQ(trim_of(&r, f, &trim), 0);
    two_switch(&r, &t.a, &t.b);
    CHECK_OK(RIG_OP(&r, commit, .ino = f, .cap_epoch = other, .flags = PROTO_COMMIT_RELEASE));
    CHECK_EQ(trim_of(&r, f, &trim), 1);
    CHECK_EQ(trim.from, 0);
    rig_close(&r);
}

/* What a dead session has in chunks of a file that is inline is all behind its end; and a trim is
 * complete when the leader knows that the dead can write nowhere any more. */
TEST(a_lost_writer_of_an_inline_file_is_trimmed_from_the_start)
{
    struct rig r;
    struct two t;
    struct namespace_trim trim;
    two_open(&r, &t, true);
    two_switch(&r, &t.a, &t.b);
    uint64_t f = new_file(&r, "f", PROTO_CREATE_WOPEN);
    uint64_t epoch = r.reply.result.cap_epoch;
    CHECK_OK(
        RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 100000, .cap_epoch = epoch));
    two_switch(&r, &t.b, &t.a);
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = t.b.session));
    CHECK_EQ(trim_of(&r, f, &trim), 1);
    CHECK_EQ(trim.from, 0);
    CHECK_RC(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = trim.tgen),
             ERR_busy);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = f, .tgen = trim.tgen,
                    .fenced = true));
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    rig_close(&r);
}

/* A writer's times that it has not committed come with somebody else's mutation. */
TEST(folds_come_before_the_operation)
{
    struct rig r;
    struct two t;
    uint64_t f = two_open_file(&r, &t);
    two_switch(&r, &t.a, &t.b);
    struct namespace_fold fold = {.ino = f, .size = 500, .mtime_ns = r.time_ns + 10};
    r.folds = (struct namespace_fold_list){.at = &fold, .count = 1};
    CHECK_OK(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_MODE, .mode = 0600));
    CHECK_EQ(r.reply.attr.size, 500);
    CHECK_EQ(r.reply.attr.mode, 0600);
    CHECK_EQ(r.reply.attr.mtime_ns, fold.mtime_ns);
    rig_close(&r);
}

TEST(capabilities_follow_the_records)
{
    struct rig r;
    struct two t;
    struct proto_capability c;
    uint64_t f = two_open_file(&r, &t);
    struct proto_caller caller = {.session = r.op.session};
    struct proto_capability_want want = {
        .ino = f, .rights = PROTO_RIGHT_WRITE, .cap_epoch = r.reply.result.cap_epoch};
    uint64_t data_id = r.reply.layout.data_id;
    CHECK_OK(RIG_VIEW(&r, namespace_capability(&r.view, &caller, &want, &c)));
    CHECK_EQ(c.data_id, data_id);
    CHECK_EQ(c.cap_epoch, want.cap_epoch);
    want.cap_epoch--;
    CHECK_OK(RIG_VIEW(&r, namespace_capability(&r.view, &caller, &want, &c)));
    CHECK_EQ(c.data_id, 0);
    want.rights = PROTO_RIGHT_READ;
    CHECK_OK(RIG_VIEW(&r, namespace_capability(&r.view, &caller, &want, &c)));
    CHECK_EQ(c.data_id, data_id);
    caller.session = 99;
    CHECK_RC(RIG_VIEW(&r, namespace_capability(&r.view, &caller, &want, &c)), ERR_session_expired);
    rig_close(&r);
}

/* What a writer has handed over is known to nobody else any more. */
TEST(folds_count_even_if_the_operation_fails)
{
    struct rig r;
    struct proto_getattr_reply reply;
    rig_open(&r);
    uint64_t f = new_file(&r, "f", 0);
    struct namespace_fold fold = {.ino = f, .mtime_ns = r.time_ns + 10000};
    r.folds = (struct namespace_fold_list){.at = &fold, .count = 1};
    r.op.cred = rig_cred(&r, r.op.session, 1000, 1000, 0);
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_MTIME, .mtime_ns = 7), EPERM);
    r.folds.count = 0;
    CHECK_EQ(r.reply.change_count, 0);
    CHECK_OK(RIG_QUERY(&r, getattr, &reply, .ino = f));
    CHECK_EQ(reply.attr.mtime_ns, fold.mtime_ns);
    CHECK_EQ(reply.attr.size, 0);
    rig_close(&r);
}

/* Who has another file open was not asked. */
TEST(only_the_victim_that_was_asked_about_is_removed)
{
    struct rig r;
    rig_open(&r);
    uint64_t f = new_file(&r, "f", 0), g = new_file(&r, "g", 0);
    r.victim = g;
    CHECK_RC(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f")), ERR_busy);
    CHECK_TRUE(r.reply.moved);
    CHECK_RC(RIG_OP(&r, rename, .parent = 1, .name = rig_text("g"), .new_parent = 1,
                    .new_name = rig_text("f")),
             ERR_busy);
    CHECK_TRUE(r.reply.moved);
    CHECK_OK(RIG_OP(&r, rename, .parent = 1, .name = rig_text("g"), .new_parent = 1,
                    .new_name = rig_text("h"))); /* nothing is removed */
    r.victim = f;
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f")));
    rig_close(&r);
}

TEST(a_writer_beside_readers_shares)
{
    struct rig r;
    rig_open(&r);
    rig_make_class(&r, 1);
    uint64_t f = new_file(&r, "f", 0);
    r.readers = true;
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_S);
    CHECK_TRUE(r.reply.result.shared_now);
    r.readers = false;
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    r.readers = true; /* one that holds back what it has written must not be told otherwise */
    CHECK_OK(RIG_OP(&r, wopen, .ino = f));
    CHECK_EQ(r.reply.result.mode, PROTO_OPEN_W);
    rig_close(&r);
}
