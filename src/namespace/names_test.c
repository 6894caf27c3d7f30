/* All names of an inode, with the paths of their directories. */
#include "testing/testing.h"

#include "namespace/rig_rights_priv.h"

#include <stdio.h>

static struct proto_names_reply names(struct rig *r, struct proto_names_request q)
{
    struct proto_names_reply reply;
    q.caller = (struct proto_caller){.session = r->op.session, .cred = r->op.cred};
    CHECK_OK(RIG_VIEW(r, namespace_names(&r->view, &q, &reply)));
    return reply;
}
#define NAMES(r, of, ...) names((r), (struct proto_names_request){.ino = (of), __VA_ARGS__})

static bool is(const struct proto_inode_name *n, uint64_t parent, const char *path,
               const char *name)
{
    return n->parent == parent && proto_bytes_equal(n->path, rig_text(path)) &&
           proto_bytes_equal(n->name, rig_text(name));
}
static uint64_t make(struct rig *r, uint64_t parent, const char *name, uint8_t type)
{
    return rights_make(r, parent, name, type, 0755);
}

TEST(a_file_has_the_names_that_it_was_given)
{
    struct rig r;
    rig_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY);
    uint64_t e = make(&r, d, "e", PROTO_INODE_DIRECTORY);
    uint64_t f = make(&r, e, "f", PROTO_INODE_FILE);
    struct proto_names_reply l = NAMES(&r, f);
    CHECK_EQ(l.names.count, 1);
    CHECK_TRUE(is(&l.names.at[0], e, "/d/e", "f") && !l.more);
    l = NAMES(&r, d);
    CHECK_TRUE(l.names.count == 1 && is(&l.names.at[0], 1, "/", "d"));
    CHECK_EQ(NAMES(&r, 1).names.count, 0); /* the root */
    CHECK_OK(RIG_OP(&r, link, .ino = f, .parent = 1, .name = rig_text("top")));
    CHECK_OK(RIG_OP(&r, link, .ino = f, .parent = e, .name = rig_text("again")));
    l = NAMES(&r, f);
    CHECK_EQ(l.names.count, 3);
    CHECK_TRUE(is(&l.names.at[0], 1, "/", "top") && is(&l.names.at[1], e, "/d/e", "again") &&
               is(&l.names.at[2], e, "/d/e", "f"));
    CHECK_OK(RIG_OP(&r, unlink, .parent = e, .name = rig_text("f")));
    CHECK_OK(RIG_OP(&r, rename, .parent = d, .name = rig_text("e"), .new_parent = 1,
                    .new_name = rig_text("g")));
    l = NAMES(&r, f);
    CHECK_EQ(l.names.count, 2);
    CHECK_TRUE(is(&l.names.at[1], e, "/g", "again"));
    struct proto_names_request none = {.ino = 999999};
    none.caller = (struct proto_caller){.session = r.op.session, .cred = r.op.cred};
    CHECK_RC(RIG_VIEW(&r, namespace_names(&r.view, &none, &l)), ENOENT);
    rig_close(&r);
}

/* Each name once, however small the pages are, also when one is the beginning of another. */
TEST(many_names_come_in_pages)
{
    struct rig r;
    rig_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY);
    uint64_t f = make(&r, d, "n", PROTO_INODE_FILE);
    char name[100] = "n";
    for (unsigned i = 1; i < 90; i++) {
        name[i] = (char)('a' + i % 3);
        CHECK_OK(RIG_OP(&r, link, .ino = f, .parent = i % 2 == 0 ? 1 : d, .name = rig_text(name)));
    }
    for (uint32_t max = 0; max < 8; max++) {
        struct proto_names_request q = {.ino = f, .max = max};
        char after[256] = "";
        size_t count = 0;
        bool more = true;
        while (more) {
            q.after_name = rig_text(after);
            struct proto_names_reply l = names(&r, q);
            CHECK_TRUE(l.names.count > 0 && (max == 0 || l.names.count <= max));
            const struct proto_inode_name *last = &l.names.at[l.names.count - 1];
            CHECK_TRUE(last->parent >= q.after_parent);
            q.after_parent = last->parent;
            proto_bytes_to_c(last->name, after, sizeof after);
            count += l.names.count;
            more = l.more;
        }
        CHECK_EQ(count, 90);
    }
    rig_close(&r);
}

TEST(a_long_path_keeps_its_end)
{
    struct rig r;
    char name[201], digits[8];
    rig_open(&r);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    uint64_t d = 1;
    for (unsigned i = 0; i < 30; i++) {
        snprintf(digits, sizeof digits, "%03u", i);
        memcpy(name, digits, 3);
        d = make(&r, d, name, PROTO_INODE_DIRECTORY);
    }
    uint64_t f = make(&r, d, "f", PROTO_INODE_FILE);
    struct proto_names_reply l = NAMES(&r, f);
    CHECK_EQ(l.names.count, 1);
    struct proto_bytes path = l.names.at[0].path;
    CHECK_TRUE(path.len <= 4095 && path.len > 3800);
    CHECK_BYTES(path.at, "...", 3);
    CHECK_BYTES(path.at + path.len - 200, name, 200);
    rig_close(&r);
}

TEST(only_root_is_told_names)
{
    struct rights t;
    struct proto_names_reply reply;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0644);
    CHECK_OK(RIG_QUERY(rights_as(&t, RIG_ROOT), names, &reply, .ino = f));
    CHECK_RC(RIG_QUERY(rights_as(&t, RIG_CAROL), names, &reply, .ino = f), EPERM);
    rig_close(&t.r);
}
