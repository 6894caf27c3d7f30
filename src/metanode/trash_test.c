/* What is in the trash goes when its time is over, whoever leads then; sooner where space is short.
 */
#include "metanode/metanode.h"

#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

static void keep(struct rig_client *c, uint32_t seconds)
{
    struct proto_setattr_request q = {.op = rig_op(c, 0),
                                      .ino = PROTO_ROOT_INO,
                                      .mask = PROTO_SET_RETENTION,
                                      .retention_s = seconds};
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
}

static uint64_t make_and_remove(struct rig_client *c, const char *name)
{
    struct proto_create_request q = rig_file(c, name, "contents");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    uint64_t ino = ((struct proto_create_reply *)c->reply)->attr.ino;
    struct proto_unlink_request u = {
        .op = rig_op(c, 1), .parent = PROTO_ROOT_INO, .name = proto_bytes_text(name)};
    CHECK_OK(rig_call(c, PROTO_OP_unlink, &u));
    return ino;
}

static bool is_there(struct rig_client *c, uint64_t ino)
{
    struct proto_getattr_request q = {.caller = rig_caller(c), .ino = ino};
    int rc = rig_call(c, PROTO_OP_getattr, &q);
    CHECK_TRUE(rc == 0 || rc == -ENOENT);
    return rc == 0;
}

static size_t listed(struct rig_client *c)
{
    struct proto_trash_list_request q = {.caller = rig_caller(c), .owner = PROTO_TRASH_ANYBODY};
    CHECK_OK(rig_call(c, PROTO_OP_trash_list, &q));
    return ((struct proto_trash_list_reply *)c->reply)->entries.count;
}

TEST(the_trash_is_emptied_by_time_and_over_restarts)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    keep(c, 20);
    uint64_t late = make_and_remove(c, "late");
    keep(c, 3); /* comes later, goes sooner */
    uint64_t soon = make_and_remove(c, "soon");
    CHECK_EQ(listed(c), 2);
    rig_keep_alive(&r, c, 2);
    CHECK_TRUE(is_there(c, soon));
    rig_keep_alive(&r, c, 2);
    CHECK_TRUE(!is_there(c, soon) && is_there(c, late));
    struct proto_trash_restore_request back = {.op = rig_op(c, 0),
                                               .ino = late,
                                               .parent = PROTO_ROOT_INO,
                                               .name = proto_bytes_text("back")};
    CHECK_OK(rig_call(c, PROTO_OP_trash_restore, &back));
    CHECK_EQ(((struct proto_trash_restore_reply *)c->reply)->attr.ino, late);
    rig_kill(&r);
    rig_serve(&r);
    CHECK_OK(rig_resume(c));
    CHECK_OK(rig_call(c, PROTO_OP_trash_restore, &back)); /* the same again: the same answer */
    CHECK_EQ(rig_lookup(c, "back").ino, late);
    uint64_t third = make_and_remove(c, "third");
    rig_kill(&r);
    rig_run(&r, 5 * RIG_SECOND);
    rig_serve(&r);
    CHECK_OK(rig_resume(c));
    rig_keep_alive(&r, c, 1);
    CHECK_TRUE(!is_there(c, third) && is_there(c, late));
    keep(c, 100);
    uint64_t purged = make_and_remove(c, "purged");
    struct proto_trash_purge_request purge = {.op = rig_op(c, 0),
                                              .inos = {.at = &purged, .count = 1}};
    CHECK_OK(rig_call(c, PROTO_OP_trash_purge, &purge));
    CHECK_TRUE(!is_there(c, purged));
    CHECK_EQ(listed(c), 0);
    rig_over(&r);
}

TEST(a_target_without_room_empties_the_trash_early)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    rig_target_start(&r, 0, false);
    keep(c, 100000);
    uint64_t ino = make_and_remove(c, "f");
    rig_keep_alive(&r, c, 12);
    CHECK_TRUE(is_there(c, ino));
    r.target[0].low_space = true;
    rig_keep_alive(&r, c, 7);
    CHECK_TRUE(!is_there(c, ino));
    rig_over(&r);
}
