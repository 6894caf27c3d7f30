#include "testing/testing.h"

#include "namespace/rig_cluster_priv.h"
#include "wire/frame.h"

/* The cluster map: targets, rows, tables, classes, settings. */

TEST(targets_are_known_by_uuid)
{
    struct rig r;
    struct proto_target t = {.uuid.bytes = {7}, .address = rig_text("a:1"), .weight = 10};
    rig_open(&r);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TARGET_PUT, namespace_target_put, .target = t));
    CHECK_EQ(r.reply.id, 1);
    uint64_t epoch = r.reply.map_epoch;
    t.free = 55; /* space alone is no news for anybody */
    CHECK_OK(RIG_DO(&r, NAMESPACE_TARGET_PUT, namespace_target_put, .target = t));
    CHECK_EQ(r.reply.id, 1);
    CHECK_EQ(r.reply.map_epoch, epoch);
    t.address = rig_text("b:1");
    CHECK_OK(RIG_DO(&r, NAMESPACE_TARGET_PUT, namespace_target_put, .target = t));
    CHECK_EQ(r.reply.map_epoch, epoch + 1);
    t.id = 2;
    CHECK_RC(RIG_DO(&r, NAMESPACE_TARGET_PUT, namespace_target_put, .target = t), EINVAL);
    t.uuid = (struct uuid){0};
    CHECK_RC(RIG_DO(&r, NAMESPACE_TARGET_PUT, namespace_target_put, .target = t), EINVAL);
    struct proto_target got;
    struct uuid uuid = {.bytes = {7}};
    CHECK_OK(RIG_VIEW(&r, namespace_view_target_of(&r.view, &uuid, &got)));
    CHECK_TRUE(got.id == 1 && got.free == 55 && proto_bytes_equal(got.address, rig_text("b:1")));
    CHECK_RC(RIG_VIEW(&r, namespace_view_target(&r.view, 9, &got)), ENOENT);
    rig_close(&r);
}

TEST(rows_change_by_one_epoch)
{
    struct rig r;
    struct proto_member m[2] = {{1, PROTO_MEMBER_SERVING}, {2, PROTO_MEMBER_OFFLINE}};
    struct proto_row rows[2] = {{.chain = 1, .epoch = 2, .members = {m, 2}},
                                {.chain = 3, .epoch = 3, .members = {m, 2}}};
    rig_open(&r);
    rig_make_class(&r, 4);
    uint64_t epoch = r.reply.map_epoch;
    CHECK_RC(RIG_DO(&r, NAMESPACE_ROWS_PUT, namespace_rows_put, .rows = {rows, 2}), ESTALE);
    struct proto_row got;
    CHECK_OK(RIG_VIEW(&r, namespace_view_row(&r.view, 1, &got)));
    CHECK_EQ(got.epoch, 1); /* all or nothing */
    rows[1].epoch = 2;
    CHECK_OK(RIG_DO(&r, NAMESPACE_ROWS_PUT, namespace_rows_put, .rows = {rows, 2}));
    CHECK_EQ(r.reply.map_epoch, epoch + 1);
    CHECK_OK(RIG_VIEW(&r, namespace_view_row(&r.view, 3, &got)));
    CHECK_TRUE(got.epoch == 2 && got.class_id == 1 && got.members.at[1].state == m[1].state);
    rows[0].epoch = 3;
    rows[1].chain = 9;
    CHECK_RC(RIG_DO(&r, NAMESPACE_ROWS_PUT, namespace_rows_put, .rows = {rows, 2}), ENOENT);
    rows[1].chain = 1;
    CHECK_RC(RIG_DO(&r, NAMESPACE_ROWS_PUT, namespace_rows_put, .rows = {rows, 2}), EINVAL);
    rig_close(&r);
}

TEST(tables_have_versions)
{
    struct rig r;
    uint32_t chains[2] = {1, 2};
    struct proto_member m[1] = {{1, PROTO_MEMBER_SERVING}};
    struct proto_row row = {.chain = 5, .epoch = 1, .members = {m, 1}};
    struct proto_storage_class c = {.name = rig_text("default"), .copies = 1, .chunk_size = 65536};
    rig_open(&r);
    rig_make_class(&r, 4);
    CHECK_RC(RIG_DO(&r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 5, .chains = {chains, 2}),
             EEXIST);
    c.name = rig_text("fast");
    CHECK_RC(RIG_DO(&r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 4, .chains = {chains, 2}),
             ESTALE);
    chains[1] = 5;
    CHECK_RC(RIG_DO(&r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 5, .chains = {chains, 2}),
             EINVAL);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 5, .rows = {&row, 1}, .chains = {chains, 2}));
    CHECK_EQ(r.reply.id, 2);
    c.id = 2;
    c.copies = 3;
    CHECK_OK(RIG_DO(&r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 6, .chains = {chains, 1}));
    struct proto_storage_class got;
    struct proto_table table;
    CHECK_OK(RIG_VIEW(&r, namespace_view_class(&r.view, 2, &got)));
    CHECK_TRUE(got.table_version == 2 && got.copies == 3);
    CHECK_OK(RIG_VIEW(&r, namespace_view_table(&r.view, 2, 1, &table)));
    CHECK_EQ(table.chains.count, 2);
    struct proto_row kept;
    CHECK_OK(RIG_VIEW(&r, namespace_view_row(&r.view, 5, &kept)));
    CHECK_EQ(kept.born, 1);
    row.epoch = 2;
    row.born = 7; /* is not for others to say */
    CHECK_OK(RIG_DO(&r, NAMESPACE_ROWS_PUT, namespace_rows_put, .rows = {&row, 1}));
    CHECK_OK(RIG_VIEW(&r, namespace_view_row(&r.view, 5, &kept)));
    CHECK_TRUE(kept.born == 1 && kept.epoch == 2);
    CHECK_OK(RIG_DO(&r, NAMESPACE_DEFAULT_CLASS, namespace_default_class, .class_id = 2));
    CHECK_RC(RIG_DO(&r, NAMESPACE_DEFAULT_CLASS, namespace_default_class, .class_id = 3), ENOENT);
    CHECK_OK(RIG_VIEW(&r, namespace_view_class(&r.view, 0, &got)));
    CHECK_EQ(got.id, 2);
    rig_close(&r);
}

TEST(balancing_is_paused_and_goes_on)
{
    struct rig r;
    struct namespace_state s;
    rig_open(&r);
    CHECK_OK(RIG_VIEW(&r, namespace_view_state(&r.view, &s)));
    CHECK_TRUE(!s.balance_paused);
    CHECK_OK(RIG_DO(&r, NAMESPACE_BALANCE, namespace_balance, .paused = true));
    CHECK_OK(RIG_VIEW(&r, namespace_view_state(&r.view, &s)));
    CHECK_TRUE(s.balance_paused);
    CHECK_OK(RIG_DO(&r, NAMESPACE_BALANCE, namespace_balance, .paused = false));
    CHECK_OK(RIG_VIEW(&r, namespace_view_state(&r.view, &s)));
    CHECK_TRUE(!s.balance_paused);
    rig_close(&r);
}

TEST(the_map_comes_in_pages)
{
    struct rig r;
    struct proto_cluster_map_reply map;
    struct proto_cluster_map_request q = {0};
    struct proto_statfs_reply fs;
    rig_open(&r);
    rig_make_class(&r, 5);
    CHECK_OK(RIG_VIEW(&r, namespace_cluster_map(&r.view, &q, 2, &map)));
    CHECK_TRUE(map.more && map.rows.count == 2 && map.next_chain == 3);
    CHECK_EQ(map.targets.count, 2);
    CHECK_EQ(map.classes.count, 1);
    CHECK_EQ(map.tables.count, 1);
    q = (struct proto_cluster_map_request){.known_epoch = map.epoch, .first_chain = 3};
    CHECK_OK(RIG_VIEW(&r, namespace_cluster_map(&r.view, &q, 10, &map)));
    CHECK_TRUE(!map.more && map.rows.count == 3 && map.targets.count == 0);
    q.first_chain = 0;
    CHECK_OK(RIG_VIEW(&r, namespace_cluster_map(&r.view, &q, 10, &map)));
    CHECK_EQ(map.rows.count, 0);
    CHECK_OK(RIG_VIEW(&r, namespace_statfs(&r.view, &fs)));
    CHECK_EQ(fs.total, 1000); /* two targets, two copies */
    CHECK_EQ(fs.files, 1);
    rig_close(&r);
}

/* Versions of tables are kept for ever: so many that one message would not hold them come in pages
 * of their own, before the further rows. */
TEST(tables_of_the_map_come_in_pages)
{
    enum { VERSIONS = 100, CHAINS = 8192 };
    struct rig r;
    struct proto_cluster_map_reply map;
    struct proto_cluster_map_request q = {0};
    struct proto_storage_class c = {.name = rig_text("fast"), .copies = 1, .chunk_size = 65536};
    static uint32_t chains[CHAINS];
    size_t tables = 0, rows = 0, pages = 0;
    rig_open(&r);
    rig_make_class(&r, 5);
    for (uint32_t i = 0; i < CHAINS; i++) {
        chains[i] = 1 + i % 5;
    }
    for (unsigned i = 0; i < VERSIONS; i++) {
        CHECK_OK(RIG_DO(&r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                        .first_chain = 6, .chains = {chains, CHAINS}));
        c.id = 2;
    }
    do {
        size_t bytes = 0;
        CHECK_OK(RIG_VIEW(&r, namespace_cluster_map(&r.view, &q, 2, &map)));
        CHECK_OK(proto_encoded_bytes(&proto_cluster_map_reply_type, &map, &bytes));
        CHECK_TRUE(bytes <= FRAME_BODY_MAX / 2);
        for (size_t i = 0; i < map.tables.count; i++) {
            const struct proto_table *t = &map.tables.at[i];
            CHECK_TRUE(tables + i == 0 ? t->class_id == 1 : t->version == tables + i);
        }
        tables += map.tables.count;
        rows += map.rows.count;
        CHECK_EQ(map.classes.count, pages == 0 ? 2 : 0);
        q.first_table = map.next_table;
        q.first_chain = map.next_chain;
        CHECK_TRUE(++pages < 50);
    } while (map.more);
    CHECK_EQ(tables, 1 + VERSIONS);
    CHECK_EQ(rows, 5);
    rig_close(&r);
}

static int make(struct rig *r, uint64_t parent, const char *name, uint8_t type, uint32_t class_id)
{
    uint32_t flags = type == PROTO_INODE_FILE ? PROTO_CREATE_WOPEN : 0;
    return RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = type, .mode = 0755,
                  .class_id = class_id, .flags = PROTO_CREATE_EXCLUSIVE | flags,
                  .target = rig_text(type == PROTO_INODE_SYMLINK ? "x" : ""));
}

static int set_class(struct rig *r, uint64_t ino, uint32_t class_id)
{
    return RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_CLASS, .class_id = class_id);
}

static uint32_t class_of(struct rig *r, uint64_t dir)
{
    struct proto_dir_stats_reply reply;
    CHECK_OK(RIG_QUERY(r, dir_stats, &reply, .ino = dir));
    return reply.class_id;
}

static void add_class(struct rig *r)
{
    struct proto_storage_class c = {.name = rig_text("fast"), .copies = 1, .chunk_size = 65536};
    uint32_t chains[2] = {1, 2};
    CHECK_OK(RIG_DO(r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 5, .chains = {chains, 2}));
    CHECK_EQ(r->reply.id, 2);
}

TEST(directories_pass_their_class_on)
{
    struct rig r;
    rig_open(&r);
    rig_make_class(&r, 4);
    add_class(&r);
    CHECK_OK(make(&r, 1, "a", PROTO_INODE_DIRECTORY, 0));
    uint64_t a = r.reply.result.ino;
    CHECK_OK(make(&r, a, "old", PROTO_INODE_DIRECTORY, 0));
    uint64_t old = r.reply.result.ino;
    CHECK_OK(make(&r, a, "before", PROTO_INODE_FILE, 0));
    CHECK_EQ(r.reply.layout.class_id, 1);
    uint64_t before = r.reply.result.ino;
    CHECK_RC(set_class(&r, a, 3), EINVAL);
    CHECK_OK(set_class(&r, a, 2));
    CHECK_EQ(class_of(&r, a), 2);
    CHECK_EQ(class_of(&r, old), 0);
    CHECK_OK(make(&r, a, "new", PROTO_INODE_DIRECTORY, 0));
    uint64_t new = r.reply.result.ino;
    CHECK_EQ(class_of(&r, new), 2);
    CHECK_OK(make(&r, new, "file", PROTO_INODE_FILE, 0));
    CHECK_TRUE(r.reply.layout.class_id == 2 && r.reply.layout.chunk_size == 65536);
    CHECK_OK(make(&r, old, "file", PROTO_INODE_FILE, 0));
    CHECK_EQ(r.reply.layout.class_id, 1);
    CHECK_OK(make(&r, new, "other", PROTO_INODE_FILE, 1)); /* it says so itself */
    CHECK_EQ(r.reply.layout.class_id, 1);
    CHECK_RC(make(&r, new, "none", PROTO_INODE_FILE, 3), EINVAL);
    CHECK_RC(make(&r, new, "none", PROTO_INODE_DIRECTORY, 3), EINVAL);
    /* What moves keeps its own. */
    CHECK_OK(RIG_OP(&r, rename, .parent = a, .name = rig_text("new"), .new_parent = 1,
                    .new_name = rig_text("new")));
    CHECK_EQ(class_of(&r, new), 2);
    CHECK_RC(set_class(&r, before, 2), EBUSY); /* its data are where its layout says */
    CHECK_OK(make(&r, a, "link", PROTO_INODE_SYMLINK, 0));
    CHECK_RC(set_class(&r, r.reply.result.ino, 2), EINVAL);
    CHECK_OK(set_class(&r, new, 0));
    CHECK_OK(make(&r, new, "last", PROTO_INODE_FILE, 0));
    CHECK_EQ(r.reply.layout.class_id, 1);
    r.op.cred = rig_cred(&r, r.op.session, 1000, 100, 0);
    CHECK_RC(set_class(&r, new, 2), EPERM);
    rig_close(&r);
}
