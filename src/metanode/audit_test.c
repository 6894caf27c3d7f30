/* Data that belongs to no file: found, kept, and removed when it is found again a while later. What
 * is anybody's is never touched: whatever happens between two looks and during them. */
#include "metanode/audit_priv.h"

#include "metanode/rig_orphan_priv.h"

#include <string.h>

#define FILES 20u

/* Chain numbers that both targets serve. */
static uint32_t a_chain(const struct rig *r, unsigned number)
{
    CHECK_TRUE(number < r->m->chains.count);
    return number + 1;
}

static bool is_removed(void *ctx)
{
    const struct rig *r = ctx;
    return rig_has_removed(r, 3) && rig_has_removed(r, 17);
}

/* Data ids 3 and 17 have lost their files in a way that must not be. */
static void two_orphans(struct rig *r, struct rig_held *held)
{
    rig_orphans_ready(r);
    struct rig_client *c = &r->client[0];
    rig_data_files(c, "f", FILES);
    rig_remove_file(c, "f2", false);
    rig_remove_file(c, "f16", false);
    rig_keep_alive(r, c, 5);
    CHECK_TRUE(is_removed(r));
    for (unsigned i = 0; i < 2; i++) { /* and its chunks are there again */
        memset(r->target[i].removed, 0, sizeof r->target[i].removed);
        r->target[i].removes = 0;
    }
    for (uint32_t i = 0; i < FILES; i++) {
        held[i] = (struct rig_held){.data_id = i + 1, .chain = a_chain(r, i % 3)};
    }
    rig_hold(r, 0, held, FILES);
    rig_hold(r, 1, held, FILES);
}

static void check_untouched(const struct rig *r)
{
    for (uint64_t id = 1; id < 100; id++) {
        CHECK_TRUE(!rig_has_removed(r, id) || id == 3 || id == 17);
    }
}

TEST(orphans_are_found_kept_and_removed_by_a_later_look)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    struct namespace_audit a = rig_look(&r);
    CHECK_EQ(a.outcome, NAMESPACE_AUDIT_DONE);
    CHECK_EQ(a.found, 2);
    CHECK_EQ(a.removed, 0);
    CHECK_EQ(a.ids, 2 * FILES);
    CHECK_EQ(a.missed.count, 0);
    CHECK_EQ(rig_suspects(&r), 2);
    a = rig_look(&r); /* at once: too early */
    CHECK_TRUE(a.waiting == 2 && a.removed == 0 && a.found == 0);
    rig_keep_alive(&r, &r.client[0], 10);
    a = rig_look(&r);
    CHECK_TRUE(a.waiting == 2 && a.removed == 0);
    CHECK_TRUE(!rig_has_removed(&r, 3) && !rig_has_removed(&r, 17));
    rig_wait_looks(&r);
    CHECK_TRUE(!rig_has_removed(&r, 3)); /* nothing goes by itself */
    a = rig_look(&r);
    CHECK_EQ(a.removed, 2);
    CHECK_TRUE(rig_until(&r, is_removed, &r));
    rig_run(&r, 5 * RIG_SECOND);
    check_untouched(&r);
    CHECK_EQ(rig_suspects(&r), 0);
    rig_wait_looks(&r);
    a = rig_look(&r);
    CHECK_TRUE(a.found == 0 && a.waiting == 0 && a.removed == 0 && a.outcome == 1);
    check_untouched(&r);
    rig_over(&r);
}

/* A window is looked at once more when its snapshot was given up. */
TEST(a_look_whose_snapshot_is_given_up_goes_on)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    for (unsigned i = 0; i < 20; i++) {
        fault_arm(r.fault, "tree.snapshot", rand_range(&r.rand, 1, 60), 1 + i % 3);
        struct namespace_audit a = rig_look(&r);
        CHECK_EQ(a.outcome, NAMESPACE_AUDIT_DONE);
        CHECK_EQ(a.found, i == 0 ? 2 : 0);
        CHECK_EQ(a.removed, 0);
        CHECK_EQ(rig_suspects(&r), 2);
    }
    fault_disarm(r.fault, NULL);
    check_untouched(&r);
    rig_over(&r);
}

TEST(a_look_is_for_root_and_one_at_a_time)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    struct rig_client *c = &r.client[0];
    uint32_t root = c->cred;
    CHECK_OK(rig_credential(c, 1000));
    CHECK_RC(rig_audit_ask(c, PROTO_AUDIT_START, 0, 0), EPERM);
    CHECK_RC(rig_audit_ask(c, PROTO_AUDIT_RELEASE, 1, 2), EPERM);
    c->cred = root;
    CHECK_RC(rig_audit_ask(c, 7, 0, 0), EINVAL);
    CHECK_RC(rig_audit_ask(c, PROTO_AUDIT_RELEASE, 1, 2), ENOENT);
    CHECK_OK(rig_audit_ask(c, PROTO_AUDIT_START, 0, 0));
    CHECK_RC(rig_audit_ask(c, PROTO_AUDIT_START, 0, 0), EALREADY);
    CHECK(rig_until(&r, rig_look_is_over, &r));
    CHECK_EQ(rig_suspects(&r), 2);
    rig_over(&r);
}

/* Open without a name, in the trash, being removed, made between two looks and during one. */
TEST(what_is_anybodys_is_never_touched)
{
    struct rig r;
    static struct rig_held held[FILES + 20];
    two_orphans(&r, held);
    struct rig_client *c = &r.client[0];
    rig_remove_file(c, "f4", true); /* somebody has it open */
    struct proto_setattr_request keep = {.op = rig_op(c, 0),
                                         .ino = PROTO_ROOT_INO,
                                         .mask = PROTO_SET_RETENTION,
                                         .retention_s = 100000};
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &keep));
    rig_remove_file(c, "f5", false); /* in the trash */
    for (unsigned round = 0; round < 4; round++) {
        char name[16];
        (void)snprintf(name, sizeof name, "new%u", round);
        uint64_t id = rig_data_file(c, name); /* between two looks */
        size_t count = FILES + 2 * (size_t)round;
        held[count] = (struct rig_held){.data_id = id, .chain = a_chain(&r, 0)};
        held[count + 1] = (struct rig_held){.data_id = id + 1, .chain = a_chain(&r, 1)};
        CHECK_OK(rig_audit_ask(c, PROTO_AUDIT_START, 0, 0));
        (void)snprintf(name, sizeof name, "late%u", round);
        CHECK_EQ(rig_data_file(c, name), id + 1); /* during one */
        rig_hold(&r, 0, held, count + 2);
        rig_hold(&r, 1, held, count + 2);
        CHECK(rig_until(&r, rig_look_is_over, &r));
        CHECK_EQ(r.m->cleanup.audits->now.audit.outcome, NAMESPACE_AUDIT_DONE);
        rig_wait_looks(&r);
    }
    CHECK_TRUE(is_removed(&r));
    check_untouched(&r);
    CHECK_EQ(rig_suspects(&r), 0);
    rig_over(&r);
}

/* The first look is in the log; one that is cut off has said what it has said, and no more. */
TEST(another_leader_goes_on_with_what_looks_have_found)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    CHECK_EQ(rig_look(&r).found, 2);
    rig_kill(&r);
    rig_serve(&r);
    CHECK(rig_until(&r, rig_all_serve, &r));
    CHECK_OK(rig_resume(&r.client[0]));
    CHECK_EQ(rig_suspects(&r), 2);
    CHECK_TRUE(rig_look(&r).removed == 0); /* not because the count began anew: it is too early */
    rig_wait_looks(&r);
    CHECK_OK(rig_audit_ask(&r.client[0], PROTO_AUDIT_START, 0, 0));
    rig_kill(&r); /* in the middle */
    rig_serve(&r);
    CHECK(rig_until(&r, rig_all_serve, &r));
    CHECK_OK(rig_resume(&r.client[0]));
    rig_keep_alive(&r, &r.client[0], 5);
    CHECK_TRUE(!metanode_audit_goes_on(r.m)); /* nobody goes on with it by himself */
    CHECK_EQ(r.m->cleanup.audits->now.audit.outcome, NAMESPACE_AUDIT_GOING);
    (void)rig_look(&r);
    CHECK_TRUE(rig_until(&r, is_removed, &r));
    check_untouched(&r);
    rig_over(&r);
}

TEST(a_look_does_not_count_for_a_target_that_is_down)
{
    struct rig r;
    static struct rig_held held[FILES], none[1];
    two_orphans(&r, held);
    rig_hold(&r, 0, none, 0); /* only target 1 has anything */
    rig_target_kill(&r, 1);
    rig_keep_alive(&r, &r.client[0], 5);
    struct namespace_audit a = rig_look(&r);
    CHECK_TRUE(a.found == 0 && a.missed.count == 1 && a.outcome == NAMESPACE_AUDIT_DONE);
    rig_wait_looks(&r);
    rig_target_start(&r, 1, false);
    CHECK(rig_until(&r, rig_all_serve, &r));
    a = rig_look(&r); /* the first one for it */
    CHECK_TRUE(a.found == 2 && a.removed == 0 && a.missed.count == 0);
    rig_target_kill(&r, 1);
    rig_wait_looks(&r);
    a = rig_look(&r); /* not found: but nobody has looked there */
    CHECK_TRUE(a.found == 0 && a.missed.count == 1);
    CHECK_EQ(rig_suspects(&r), 2);
    rig_target_start(&r, 1, false);
    CHECK(rig_until(&r, rig_all_serve, &r));
    CHECK_TRUE(!is_removed(&r));
    a = rig_look(&r);
    CHECK_EQ(a.removed, 2);
    CHECK_TRUE(rig_until(&r, is_removed, &r));
    check_untouched(&r);
    rig_over(&r);
}

TEST(suspects_that_are_gone_are_forgotten_when_everything_was_looked_at)
{
    struct rig r;
    static struct rig_held held[FILES], none[1];
    two_orphans(&r, held);
    CHECK_EQ(rig_look(&r).found, 2);
    rig_hold(&r, 0, none, 0);
    rig_hold(&r, 1, none, 0);
    rig_wait_looks(&r);
    struct namespace_audit a = rig_look(&r);
    CHECK_TRUE(a.removed == 0 && a.outcome == NAMESPACE_AUDIT_DONE);
    CHECK_EQ(rig_suspects(&r), 0);
    rig_hold(&r, 0, held, FILES); /* as if for the first time */
    a = rig_look(&r);
    CHECK_TRUE(a.found == 2 && a.removed == 0);
    check_untouched(&r);
    rig_over(&r);
}

/* Busy for a while is not down; who is busy for ever, or talks nonsense, is not looked at. */
TEST(a_target_is_asked_until_it_answers_sense)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    r.target[0].busy_inventories = 5;
    struct namespace_audit a = rig_look(&r);
    CHECK_TRUE(a.found == 2 && a.missed.count == 0);
    CHECK_EQ(r.target[0].busy_inventories, 0);
    r.target[0].busy_inventories = 1000;
    r.target[1].backwards = true;
    rig_wait_looks(&r);
    CHECK_OK(rig_audit_ask(&r.client[0], PROTO_AUDIT_START, 0, 0));
    for (unsigned i = 0; i < 60 && metanode_audit_goes_on(r.m); i++) {
        rig_keep_alive(&r, &r.client[0], 1);
    }
    CHECK_TRUE(rig_look_is_over(&r));
    a = r.m->cleanup.audits->now.audit;
    CHECK_TRUE(a.missed.count == 2 && a.removed == 0 && a.outcome == NAMESPACE_AUDIT_DONE);
    CHECK_EQ(rig_suspects(&r), 2);
    check_untouched(&r);
    CHECK_TRUE(!rig_has_removed(&r, 3));
    rig_over(&r);
}

/* Somebody has put an old directory back: no record says so, but the data does. */
TEST(metadata_that_are_older_than_the_data_judge_nothing)
{
    struct rig r;
    static struct rig_held held[FILES + 1];
    two_orphans(&r, held);
    CHECK_EQ(rig_look(&r).found, 2);
    held[FILES] = (struct rig_held){.data_id = 5000, .chain = a_chain(&r, 0)};
    rig_hold(&r, 1, held, FILES + 1);
    for (unsigned i = 0; i < 2; i++) {
        rig_wait_looks(&r);
        struct namespace_audit a = rig_look(&r);
        CHECK_TRUE(a.outcome == NAMESPACE_AUDIT_STRANGE && a.removed == 0 && a.found == 0);
    }
    struct proto_status_request q = {.format = PROTO_FORMAT_TEXT};
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_status, &q));
    const struct proto_status_reply *m = r.client[0].reply;
    CHECK_TRUE(memmem(m->body.at, m->body.len, "never knew of", 13) != NULL);
    CHECK_EQ(rig_suspects(&r), 2);
    check_untouched(&r);
    CHECK_TRUE(!rig_has_removed(&r, 3) && !rig_has_removed(&r, 17));
    rig_over(&r);
}

/* What a target has of chains that it does not serve is not its own to tell. */
TEST(only_members_that_serve_have_a_word)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    for (unsigned i = 0; i < FILES; i++) {
        held[i].chain = 30000;
    }
    struct namespace_audit a = rig_look(&r);
    CHECK_TRUE(a.found == 0 && a.outcome == NAMESPACE_AUDIT_DONE);
    CHECK_EQ(rig_suspects(&r), 0);
    rig_over(&r);
}

TEST(orphans_are_told_in_words)
{
    struct rig r;
    static struct rig_held held[FILES];
    two_orphans(&r, held);
    (void)rig_look(&r);
    struct proto_fsck_request q = {.caller = rig_caller(&r.client[0]), .data = true};
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_fsck, &q));
    const struct proto_fsck_reply *m = r.client[0].reply;
    CHECK_TRUE(m->done && m->findings.count == 1);
    CHECK_TRUE(proto_bytes_equal(m->findings.at[0].code, proto_bytes_text("data.orphan")));
    struct proto_bytes text = m->findings.at[0].text;
    static const char words[] = "the data of 2 data ids belong to no file";
    CHECK_TRUE(memmem(text.at, text.len, words, strlen(words)) != NULL);
    struct proto_status_request s = {.format = PROTO_FORMAT_JSON};
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_status, &s));
    const struct proto_status_reply *json = r.client[0].reply;
    static const char told[] = "\"suspects\":2,\"missed\":[]},\"leaps\":[]";
    CHECK_TRUE(memmem(json->body.at, json->body.len, told, strlen(told)) != NULL);
    rig_over(&r);
}

TEST(a_server_may_end_in_the_middle_of_a_look)
{
    for (unsigned i = 0; i < 8; i++) {
        struct rig r;
        static struct rig_held held[FILES];
        two_orphans(&r, held);
        CHECK_OK(rig_audit_ask(&r.client[0], PROTO_AUDIT_START, 0, 0));
        rig_run(&r, i * 700000); /* somewhere in it */
        rig_stop(&r);
        CHECK_TRUE(r.m == NULL);
        rig_close(&r);
    }
}
