/* Writers, restarts, garbage and bent commands: only the records must agree. */
#include "base/rand.h"
#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"
#include "namespace/rig_rights_priv.h"

#define NAMES 8u
#define STORM_KINDS 10u

static struct proto_bytes name_of(size_t i)
{
    static const char *const names[NAMES] = {"a", "b", "b!", "c", "cc", "\xc3\xa4", "z", "Z"};
    return proto_bytes_text(names[i]);
}

/* Which it was, when it succeeded; else STORM_KINDS. */
static uint64_t storm_file(struct rig *r, struct rand *rand, uint64_t ino, uint64_t epoch)
{
    struct namespace_keep keep = {.session = 1 + rand_below(rand, 5), .maybe = true};
    r->keeps = (struct namespace_keep_list){.at = &keep, .count = rand_below(rand, 2)};
    uint64_t size = rand_below(rand, 9000);
    struct proto_bytes name = name_of((size_t)rand_below(rand, NAMES));
    uint64_t kind = rand_below(rand, STORM_KINDS);
    int rc = 0;
    switch (kind) {
    case 0:
    case 1:
        rc = RIG_OP(r, create, .parent = 1, .name = name, .type = PROTO_INODE_FILE, .mode = 0644,
                    .flags = (uint32_t)rand_below(rand, 16), .data = rig_text("data"));
        break;
    case 2:
        rc = RIG_OP(r, wopen, .ino = ino, .try_only = rand_chance(rand, 1, 3));
        break;
    case 3:
        rc = RIG_OP(r, commit, .ino = ino, .cap_epoch = epoch, .size = size,
                    .data = rig_text("some"), .flags = (uint32_t)rand_below(rand, 16),
                    .allocated = rand_below(rand, 2));
        break;
    case 4:
        rc = RIG_OP(r, unlink, .parent = 1, .name = name, .is_open = rand_chance(rand, 1, 2));
        break;
    case 5:
        rc = RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_SIZE, .size = size,
                    .cap_epoch = rand_chance(rand, 1, 2) ? epoch : 0);
        break;
    case 6:
        rc = RIG_OP(r, lease_return, .ino = ino, .has_final = true, .cap_epoch = epoch,
                    .size = size, .keep = {.at = &ino, .count = rand_below(rand, 2)});
        break;
    case 7:
        rc = -EEXIST; /* most names are taken: else it would hardly ever be done */
        for (size_t i = 0; i < NAMES && rc == -EEXIST; i++) {
            rc = RIG_OP(r, trash_restore, .ino = ino, .parent = 1, .name = name_of(i));
        }
        break;
    case 8:
        rc = RIG_OP(r, trash_purge, .inos = {.at = &ino, .count = 1});
        break;
    default:
        rc = RIG_OP(r, link, .ino = ino, .parent = 1, .name = name);
        break;
    }
    r->keeps.count = 0;
    return rc == 0 ? kind : STORM_KINDS;
}

/* Whose mutation the command is, and which; all zero when it is none. */
static struct proto_op storm_op(struct rig *r)
{
    struct proto_op op = {0};
    struct namespace_command c;
    size_t len = 0;
    if (PROTO_DECODE(namespace_command, r->command, r->command_len, &r->arena, &c) == 0) {
        struct wire_reader body = wire_reader_over(c.body.at, c.body.len);
        const uint8_t *at = wire_read_counted(&body, c.body.len, &len);
        if (at == NULL || PROTO_DECODE(proto_op, at, len, &r->arena, &op) < 0) {
            op = (struct proto_op){0};
        }
    }
    mem_arena_reset(&r->arena);
    return op;
}

/*
 * What was not kept in its slot might run when it is bent, and nobody here would know; nor would
 * anyone when it became one that a session has not sent yet.
 */
static void storm_bend(struct rig *r, struct rand *rand)
{
    struct proto_op was = storm_op(r);
    if (r->reply.rc < 0 && (err_is(r->reply.rc, EAGAIN) || err_is(r->reply.rc, EPROTO))) {
        return;
    }
    size_t flips = 1 + (size_t)rand_below(rand, 4);
    for (size_t i = 0; i < flips && r->command_len > 4; i++) {
        size_t at = 4 + (size_t)rand_below(rand, r->command_len - 4); /* its version stays */
        r->command[at] = (uint8_t)rand_u64(rand);
    }
    struct proto_op is = storm_op(r);
    if (is.session != was.session || is.sequence != was.sequence) {
        return;
    }
    (void)rig_apply_bytes(r, r->command, r->command_len);
}

/* Attributes and lists, good and bad ones, which go with the file. */
static bool storm_rights(struct rights *t, struct rand *rand, uint64_t ino)
{
    static const char *const names[] = {"user.a", "user.b", "security.capability", "trusted.x",
                                        "other.z"};
    struct rig *r = &t->r;
    struct proto_bytes name = rig_text(names[rand_below(rand, ARRAY_COUNT(names))]);
    uint8_t perm = (uint8_t)rand_below(rand, 8);
    switch (rand_below(rand, 4)) {
    case 0:
        return RIG_OP(r, setxattr, .ino = ino, .name = name, .value = rig_text("value"),
                      .flags = (uint32_t)rand_below(rand, 4)) == 0;
    case 1:
        return RIG_OP(r, removexattr, .ino = ino, .name = name) == 0;
    case 2:
        return rights_acl(t, rand_chance(rand, 1, 8) ? 1 : ino, rand_chance(rand, 1, 4),
                          .owner = perm, .group = 5, .other = perm, .mask = 7,
                          RIGHTS_NAMED({false, 1000, perm}, {true, 7, 5})) == 0;
    default:
        return rights_acl(t, rand_chance(rand, 1, 8) ? 1 : ino, rand_chance(rand, 1, 4),
                          .owner = perm, .group = perm, .other = perm) == 0;
    }
}

/* The leader sees to fences, then to trims. */
static void storm_finish(struct rig *r)
{
    struct namespace_fences f;
    struct namespace_trims t;
    CHECK_OK(RIG_VIEW(r, namespace_fences(&r->view, 0, 1, &f)));
    if (f.count > 0) {
        CHECK_OK(RIG_DO(r, NAMESPACE_FENCE_DONE, namespace_fence_done, .session = f.ids[0],
                        .cap_epoch = f.at[0].cap_epoch));
        return;
    }
    CHECK_OK(RIG_VIEW(r, namespace_trims(&r->view, 0, 1, &t)));
    if (t.count > 0) {
        CHECK_OK(RIG_DO(r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = t.ids[0],
                        .tgen = t.at[0].tgen));
    }
}

/* A retention comes and goes; the leader needs the space, or time has passed. */
static void storm_trash(struct rig *r, struct rand *rand)
{
    CHECK_OK(RIG_OP(r, setattr, .ino = PROTO_ROOT_INO, .mask = PROTO_SET_RETENTION,
                    .retention_s = rand_chance(rand, 3, 4) ? 3600 : 0));
    CHECK_OK(RIG_DO(r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = 2,
                    .early = rand_chance(rand, 1, 2)));
}

/* What servers do on their own, and hands that bend records. */
static void storm_others(struct rig *r, struct rand *rand)
{
    if (rand_chance(rand, 1, 5)) {
        storm_finish(r);
    }
    if (rand_chance(rand, 1, 20)) {
        storm_trash(r, rand);
    }
    if (rand_chance(rand, 1, 4)) {
        storm_bend(r, rand);
    }
    uint64_t id = 1 + rand_below(rand, 30);
    (void)RIG_DO(r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done,
                 .chain = 1 + (uint32_t)rand_below(rand, 4), .data_ids = {.at = &id, .count = 1});
}

TEST(all_records_agree_after_a_storm)
{
    struct rights t = {.cred = {0}};
    struct rand rand;
    struct proto_op ops[3] = {{0}};
    uint64_t done[STORM_KINDS + 1] = {0}, epochs[3] = {0}, wrote[3] = {0}, trashed = 0;
    struct rig *r = &t.r;
    uint64_t rights = 0;
    rig_open(r);
    rig_make_class(r, 4);
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < 3000; i++) {
        size_t s = (size_t)rand_below(&rand, 3);
        if (ops[s].session == 0 || rand_chance(&rand, 1, 80)) {
            (void)RIG_DO(r, NAMESPACE_EXPIRE, namespace_expire, .session = ops[s].session);
            ops[s] = rig_machine(r, (uint8_t)(10 + s), rand_u64(&rand));
        }
        r->op = ops[s];
        bool again = wrote[s] != 0 && rand_chance(&rand, 1, 2);
        uint64_t ino = again ? wrote[s] : 2 + rand_below(&rand, 40);
        ino = trashed != 0 && rand_chance(&rand, 1, 3) ? trashed : ino;
        done[storm_file(r, &rand, ino, epochs[s])]++;
        ops[s] = r->op;
        trashed = r->reply.trash_expiry_ns != 0 ? r->reply.result.ino : trashed;
        if (r->reply.result.cap_epoch != 0) {
            epochs[s] = r->reply.result.cap_epoch;
            wrote[s] = r->reply.result.ino;
        }
        if (rand_chance(&rand, 1, 3)) {
            rights += storm_rights(&t, &rand, 2 + rand_below(&rand, 40)) ? 1 : 0;
            ops[s] = r->op;
        }
        storm_others(r, &rand);
        ops[s] = r->op;
        if (i % 300 == 299) {
            fsck(r);
        }
    }
    fsck(r);
    for (size_t i = 0; i < STORM_KINDS; i++) {
        CHECK_TRUE(done[i] > 5);
    }
    CHECK_TRUE(rights > 10);
    rig_close(r);
}
