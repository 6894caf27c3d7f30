/*
 * metanode/once_test.c -- exactly once: a script of every kind of mutation, run again and again. In
 * each run one thing goes wrong with each request: its first, second, third ... arrival breaks the
 * connection (requests and answers get lost), or the server's process is killed, or its machine
 * loses power, after one, two, three ... steps (before the log is written, after that, after it was
 * applied, before the answer has left). And old copies come late, or twice. Every time the client
 * must be told what it is told when nothing goes wrong, and in the end all records must be the
 * same, but for times and versions.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_audit_priv.h"
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

#define OPS_MAX 96u
#define TEXT_BYTES (2u << 20)
#define ANSWER_BYTES 1500u

enum once_fault { FAULT_NONE, FAULT_BREAK, FAULT_KILL, FAULT_POWER, FAULT_COPIES };
struct answer {
    uint16_t opcode;
    int rc;
    char text[ANSWER_BYTES];
};
struct once {
    struct rig rig;
    struct rig_client *c;
    enum once_fault fault;
    unsigned nth;  /* arrival, or step */
    unsigned hits; /* requests that met the fault */
    bool truth;    /* this run says what the answers are */
    size_t count;
    struct answer answer[OPS_MAX];
    struct text text;
    char *bytes;          /* all records at the end */
    uint64_t made, epoch; /* by the newest create; of the newest authority to write */
    uint64_t turn;        /* the newest to append */
};

/* ---- One request ---- */

static void strike(struct once *o)
{
    struct rig *r = &o->rig;
    for (unsigned i = 0; i < o->nth && !o->c->done; i++) {
        CHECK_TRUE(loop_sim_step(r->sim));
    }
    if (o->c->done) {
        return;
    }
    if (o->fault == FAULT_KILL) {
        rig_kill(r);
    } else {
        rig_power(r);
    }
    o->hits++;
    CHECK_OK(rig_start(r));
}

static void take_ids(struct once *o, uint16_t opcode)
{
    if (opcode == PROTO_OP_create) {
        const struct proto_create_reply *m = o->c->reply;
        o->made = m->attr.ino;
        o->epoch = m->cap_epoch;
    } else if (opcode == PROTO_OP_wopen) {
        o->epoch = ((const struct proto_wopen_reply *)o->c->reply)->cap_epoch;
    } else if (opcode == PROTO_OP_append_turn) {
        o->turn = ((const struct proto_append_turn_reply *)o->c->reply)->turn;
    }
}

static void take_answer(struct once *o, struct answer *a)
{
    const struct proto_message *m = proto_message_find(a->opcode);
    char text[4096];
    struct text t;
    text_init(&t, text, sizeof text);
    if (a->rc == 0) {
        proto_to_text(m->reply, o->c->reply, &t);
        take_ids(o, a->opcode);
    }
    char *changes = strstr(text, " changes=[");
    if (changes != NULL) { /* a repeated answer has the attributes of now, if there still are any */
        *changes = 0;
    }
    struct text out;
    text_init(&out, a->text, sizeof a->text);
    rig_audit_filter(text, &out);
    CHECK_TRUE(!out.cut);
}

/* A start costs some milliseconds: every third request, others with each step and each seed. */
static bool is_struck(const struct once *o)
{
    bool ends = o->fault == FAULT_KILL || o->fault == FAULT_POWER;
    return ends && (o->count + o->nth + testing_seed()) % 3 == 0;
}

static int ask(struct once *o, uint16_t opcode, const void *request)
{
    o->c->flags = PEER_CALL_AGAIN;
    o->c->timeout_ms = 600000;
    rig_begin(o->c, opcode, request);
    if (o->fault == FAULT_BREAK) {
        (void)net_sim_break(o->rig.net, o->nth);
    } else if (is_struck(o)) {
        strike(o);
    }
    int rc = rig_end(o->c);
    if (o->fault == FAULT_BREAK) {
        o->hits += net_sim_break(o->rig.net, 0) ? 0 : 1;
    }
    return rc;
}

/* The same bytes again, after the answer: the same answer. An older copy of the slot: refused. */
static void ask_again(struct once *o, uint16_t opcode, void *request, const struct answer *first)
{
    struct proto_op *op = request; /* the first field of every mutation */
    struct answer again = {.opcode = opcode};
    again.rc = rig_call(o->c, opcode, request);
    take_answer(o, &again);
    CHECK_EQ(again.rc, first->rc);
    CHECK_TEXT(again.text, first->text);
    uint64_t sequence = op->sequence;
    op->sequence--;
    CHECK_RC(rig_call(o->c, opcode, request), ERR_bad_sequence);
    op->sequence = sequence;
    o->hits++;
}

/* A step of the script. `ino` of the answer, where it has one. */
static int step(struct once *o, uint16_t opcode, void *request)
{
    struct answer a = {.opcode = opcode};
    CHECK_TRUE(o->count < OPS_MAX);
    a.rc = ask(o, opcode, request);
    take_answer(o, &a);
    struct answer *known = &o->answer[o->count++];
    if (o->truth) {
        *known = a;
    }
    CHECK_EQ(a.opcode, known->opcode);
    CHECK_EQ(a.rc, known->rc);
    CHECK_TEXT(a.text, known->text);
    if (o->fault == FAULT_COPIES) {
        ask_again(o, opcode, request, known);
    }
    return a.rc;
}

/* ---- The script ---- */

#define OP(o, name, slot, ...)                            \
    ({                                                    \
        struct proto_##name##_request q_ = {__VA_ARGS__}; \
        q_.op = rig_op((o)->c, (slot));                   \
        step((o), PROTO_OP_##name, &q_);                  \
    })
#define NAME(text) .name = proto_bytes_text(text)

static uint64_t make(struct once *o, uint64_t parent, const char *name, uint8_t type,
                     uint32_t flags)
{
    bool data = (flags & PROTO_CREATE_HAS_DATA) != 0;
    const char *target = type == PROTO_INODE_SYMLINK ? "somewhere" : "";
    CHECK_OK(OP(o, create, 0, .parent = parent, NAME(name), .type = type, .mode = 0640,
                .flags = flags | PROTO_CREATE_EXCLUSIVE, .target = proto_bytes_text(target),
                .data = proto_bytes_text(data ? "contents" : "")));
    return o->made;
}
static uint64_t make_file(struct once *o, const char *name)
{
    return make(o, PROTO_ROOT_INO, name, PROTO_INODE_FILE, PROTO_CREATE_HAS_DATA);
}

static void script_names(struct once *o)
{
    uint64_t root = PROTO_ROOT_INO;
    uint64_t d = make(o, root, "d", PROTO_INODE_DIRECTORY, 0);
    uint64_t f = make_file(o, "f");
    (void)make_file(o, "g");
    (void)make(o, root, "l", PROTO_INODE_SYMLINK, 0);
    (void)make(o, root, "p", PROTO_INODE_FIFO, 0);
    CHECK_RC(OP(o, create, 1, .parent = root, NAME("f"), .type = PROTO_INODE_FILE,
                .flags = PROTO_CREATE_EXCLUSIVE),
             EEXIST);
    CHECK_OK(OP(o, link, 2, .ino = f, .parent = d, NAME("h")));
    CHECK_OK(OP(o, rename, 1, .parent = root, NAME("g"), .new_parent = d,
                .new_name = proto_bytes_text("g")));
    CHECK_OK(OP(o, rename, 1, .parent = d, NAME("g"), .new_parent = d,
                .new_name = proto_bytes_text("h"), .flags = PROTO_RENAME_EXCHANGE));
    CHECK_RC(OP(o, rename, 1, .parent = d, NAME("g"), .new_parent = d,
                .new_name = proto_bytes_text("h"), .flags = PROTO_RENAME_NOREPLACE),
             EEXIST);
    CHECK_OK(OP(o, rename, 2, .parent = d, NAME("g"), .new_parent = d,
                .new_name = proto_bytes_text("h")));
    CHECK_RC(OP(o, rmdir, 3, .parent = root, NAME("d")), ENOTEMPTY);
    CHECK_OK(OP(o, unlink, 3, .parent = d, NAME("h")));
    CHECK_RC(OP(o, unlink, 3, .parent = d, NAME("h")), ENOENT);
    CHECK_OK(OP(o, rmdir, 3, .parent = root, NAME("d")));
}

static void script_attributes(struct once *o)
{
    uint64_t f = rig_lookup(o->c, "f").ino;
    CHECK_OK(OP(o, setattr, 0, .ino = f, .mask = PROTO_SET_MODE | PROTO_SET_UID, .mode = 0600,
                .uid = 7));
    CHECK_OK(OP(o, setattr, 0, .ino = f, .mask = PROTO_SET_SIZE, .size = 3));
    CHECK_OK(OP(o, setxattr, 4, .ino = f, NAME("user.a"), .value = proto_bytes_text("1"),
                .flags = PROTO_XATTR_CREATE));
    CHECK_RC(OP(o, setxattr, 4, .ino = f, NAME("user.a"), .value = proto_bytes_text("2"),
                .flags = PROTO_XATTR_CREATE),
             EEXIST);
    CHECK_OK(OP(o, setxattr, 4, .ino = f, NAME("user.b"), .value = proto_bytes_text("3")));
    CHECK_OK(OP(o, removexattr, 4, .ino = f, NAME("user.a")));
    CHECK_RC(OP(o, removexattr, 4, .ino = f, NAME("user.a")), ENODATA);
}

/* Write authority, its last word, files without a name. */
static void script_writing(struct once *o)
{
    uint64_t root = PROTO_ROOT_INO;
    uint64_t w = make(o, root, "w", PROTO_INODE_FILE, PROTO_CREATE_WOPEN);
    uint64_t epoch = o->epoch;
    CHECK_OK(OP(o, commit, 5, .ino = w, .cap_epoch = epoch, .size = 4,
                .data = proto_bytes_text("data"), .flags = PROTO_COMMIT_HAS_DATA));
    CHECK_OK(
        OP(o, commit, 5, .ino = w, .cap_epoch = epoch, .size = 4, .flags = PROTO_COMMIT_RELEASE));
    CHECK_OK(OP(o, wopen, 5, .ino = w));
    CHECK_RC(OP(o, commit, 5, .ino = w, .cap_epoch = epoch, .size = 9), ESTALE);
    CHECK_OK(OP(o, unlink, 5, .parent = root, NAME("w"), .is_open = true));
    CHECK_OK(OP(o, lease_return, 6, .has_final = true, .ino = w, .cap_epoch = o->epoch, .size = 4));
    CHECK_OK(OP(o, release, 6, .ino = w));
}

/* Somebody else writes the file, too: then they append in turns. */
static void script_appending(struct once *o)
{
    struct rig_client *other = &o->rig.client[1];
    uint64_t a = make(o, PROTO_ROOT_INO, "a", PROTO_INODE_FILE, PROTO_CREATE_WOPEN);
    struct proto_wopen_request w = {.ino = a, .op = rig_op(other, 0)};
    CHECK_OK(rig_call(other, PROTO_OP_wopen, &w));
    uint64_t epoch = ((const struct proto_wopen_reply *)other->reply)->cap_epoch;
    CHECK_OK(OP(o, lease_return, 7, .has_final = true, .ino = a, .cap_epoch = o->epoch));
    CHECK_OK(OP(o, wopen, 7, .ino = a));
    CHECK_OK(OP(o, append_turn, 7, .ino = a, .cap_epoch = o->epoch, .wanted = 10));
    CHECK_RC(OP(o, append_done, 7, .ino = a, .cap_epoch = o->epoch, .turn = o->turn + 1), ESTALE);
    CHECK_OK(OP(o, append_done, 7, .ino = a, .cap_epoch = o->epoch, .turn = o->turn));
    CHECK_RC(OP(o, append_done, 7, .ino = a, .cap_epoch = o->epoch, .turn = o->turn), ESTALE);
    CHECK_OK(OP(o, lease_return, 7, .has_final = true, .ino = a, .cap_epoch = o->epoch));
    struct proto_lease_return_request end = {
        .op = rig_op(other, 0), .has_final = true, .ino = a, .cap_epoch = epoch};
    CHECK_OK(rig_call(other, PROTO_OP_lease_return, &end));
    CHECK_OK(OP(o, unlink, 7, .parent = PROTO_ROOT_INO, NAME("a")));
}

static void script_limits(struct once *o)
{
    uint64_t root = PROTO_ROOT_INO;
    CHECK_OK(OP(o, set_quota, 2, .ino = root, .mask = PROTO_QUOTA_FILES, .files_hard = 50));
    CHECK_OK(OP(o, set_quota, 2, .ino = root, .mask = PROTO_QUOTA_CLEAR));
    CHECK_OK(OP(o, setattr, 2, .ino = root, .mask = PROTO_SET_RETENTION, .retention_s = 3600));
    uint64_t t = make_file(o, "t");
    struct proto_u64s inos = {.at = &t, .count = 1};
    CHECK_OK(OP(o, unlink, 2, .parent = root, NAME("t")));
    CHECK_OK(OP(o, trash_restore, 3, .ino = t, .parent = root, NAME("u")));
    CHECK_RC(OP(o, trash_restore, 3, .ino = t, .parent = root, NAME("v")), ENOENT);
    CHECK_OK(OP(o, unlink, 2, .parent = root, NAME("u")));
    CHECK_OK(OP(o, trash_purge, 3, .inos = inos));
    CHECK_OK(OP(o, setattr, 2, .ino = root, .mask = PROTO_SET_RETENTION));
}

static void script(struct once *o)
{
    script_names(o);
    script_attributes(o);
    script_writing(o);
    script_appending(o);
    script_limits(o);
    CHECK_OK(OP(o, unlink, 7, .parent = PROTO_ROOT_INO, NAME("f")));
}

static bool is_in_script(const struct once *o, uint16_t opcode)
{
    for (size_t k = 0; k < o->count; k++) {
        if (o->answer[k].opcode == opcode && o->answer[k].rc == 0) {
            return true;
        }
    }
    return false;
}

/* ---- Runs ---- */

static void run(struct once *o, enum once_fault fault, unsigned nth, const char *expected)
{
    o->fault = fault;
    o->nth = nth;
    o->hits = 0;
    o->count = 0;
    o->truth = expected == NULL;
    rig_new(&o->rig, testing_seed());
    o->rig.opt.need_permille = 50;
    o->rig.opt.checkpoint_bytes = nth % 2 == 0 ? 0 : 1500; /* 0: the log is all there is */
    rig_serve(&o->rig);
    rig_client_ready(&o->rig, 0);
    rig_client_ready(&o->rig, 1);
    o->c = &o->rig.client[0];
    o->c->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP; /* whatever it is asked about */
    script(o);
    text_init(&o->text, o->bytes, TEXT_BYTES);
    struct rig_audit a = {.m = o->rig.m, .text = &o->text};
    CHECK_TRUE(rig_until(&o->rig, rig_is_serving, &o->rig));
    rig_audit(o->rig.sim, o->rig.loop, &a);
    CHECK_TRUE(!o->text.cut && o->text.len > 1000);
    if (expected != NULL) {
        CHECK_TEXT(o->bytes, expected);
    }
    rig_over(&o->rig);
}

static struct once *once_new(char **ret_expected)
{
    struct once *o = mem_zalloc(sizeof *o);
    CHECK_TRUE(o != NULL);
    o->bytes = mem_alloc(TEXT_BYTES);
    *ret_expected = mem_alloc(TEXT_BYTES);
    CHECK_TRUE(o->bytes != NULL && *ret_expected != NULL);
    run(o, FAULT_NONE, 0, NULL);
    memcpy(*ret_expected, o->bytes, o->text.len + 1);
    return o;
}

static void once_free(struct once *o, char *expected)
{
    mem_free(expected);
    mem_free(o->bytes);
    mem_free(o);
}

/* How many requests met the fault, until none did. */
static unsigned each_nth(enum once_fault fault)
{
    char *expected;
    struct once *o = once_new(&expected);
    unsigned nth = 1, hits = 0, runs = 0;
    do {
        run(o, fault, nth, expected);
        hits += o->hits;
        nth++;
        runs++;
    } while (o->hits > 0 && runs < 400);
    CHECK_EQ(o->hits, 0);
    once_free(o, expected);
    return hits;
}

TEST(once_whatever_is_lost)
{
    CHECK_TRUE(each_nth(FAULT_BREAK) > 50);
}
TEST(once_wherever_the_process_is_killed)
{
    CHECK_TRUE(each_nth(FAULT_KILL) > 50);
}
TEST(once_wherever_power_is_cut)
{
    CHECK_TRUE(each_nth(FAULT_POWER) > 50);
}
TEST(once_however_many_copies_arrive)
{
    char *expected;
    struct once *o = once_new(&expected);
    run(o, FAULT_COPIES, 0, expected);
    CHECK_TRUE(o->hits == o->count);
    once_free(o, expected);
}

/* Those that the script lacks are named, and counted as skipped. */
TEST(every_kind_of_mutation_is_in_the_script)
{
    char *expected, names[400];
    struct text missing;
    struct once *o = once_new(&expected);
    size_t count, found = 0;
    const struct proto_message *m = proto_messages(&count);
    text_init(&missing, names, sizeof names);
    for (size_t i = 0; i < count; i++) {
        bool mutates = m[i].reply != NULL && m[i].request->field_count > 0 &&
                       m[i].request->fields[0].type == &proto_op_type;
        bool is_in = mutates && is_in_script(o, m[i].opcode);
        found += is_in ? 1 : 0;
        if (mutates && !is_in) {
            text_add(&missing, "%s%s", missing.len > 0 ? ", " : "no step of the script is a ",
                     m[i].name);
        }
    }
    once_free(o, expected);
    CHECK_TRUE(found >= 12);
    if (missing.len > 0) {
        testing_skip(names);
    }
}
