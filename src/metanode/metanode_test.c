/*
 * metanode/metanode_test.c -- the server as clients see it: operations, sessions, exactly once,
 * crashes of process and machine at random moments, and the directory.
 */
#include "metanode/metanode.h"

#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

/* What was answered is there after the process and after the machine has died. */
TEST(operations_survive_crashes)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    struct rig_client *c = &r.client[0];
    rig_client_ready(&r, 0);
    struct proto_create_request q = rig_file(c, "a", "hello");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    const struct proto_create_reply *made = c->reply;
    uint64_t ino = made->attr.ino;
    CHECK_TRUE(made->created && ino > PROTO_ROOT_INO && made->trailer.renewed);
    CHECK_EQ(made->attr.size, 5);
    CHECK_EQ(made->changes.count, 2);
    CHECK_EQ(rig_lookup(c, "a").ino, ino);
    CHECK_EQ(rig_lookup(c, "b").ino, 0);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            rig_kill(&r);
        } else {
            rig_power(&r);
        }
        rig_serve(&r);
        CHECK_OK(rig_resume(c));
        CHECK_EQ(rig_lookup(c, "a").ino, ino);
        const struct proto_lookup_reply *found = c->reply;
        CHECK_TRUE(found->has_data && found->data.len == 5);
        CHECK_BYTES(found->data.at, "hello", 5);
    }
    rig_stop(&r);
    rig_close(&r);
}
