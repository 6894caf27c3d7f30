#include "client/io_priv.h"
#include "client/share_priv.h"

/*
 * What a mutation that was given up has got all the same goes back: the authority over a file that
 * nobody here has open, or a turn to append. Else others would wait for it until the session ends.
 */

#define UNDO_ARENA_BYTES (64u << 10)

struct undo_turn {
    struct client_call call;
    struct proto_append_done_request request;
};

static void turn_undone(struct client_call *c, const struct peer_reply *r)
{
    (void)r; /* it has gone back, or with the session */
    mem_free(container_of(c, struct undo_turn, call));
}

static void undo_turn(struct opendfs *fs, const struct proto_append_turn_reply *m)
{
    const struct client_inode *i = client_inode_find(fs, m->attr.ino);
    bool open =
        i != NULL && i->mode != PROTO_OPEN_NONE && i->dead == 0; /* else it went with that */
    struct undo_turn *u = open ? mem_zalloc(sizeof *u) : NULL;
    if (u == NULL) {
        return;
    }
    u->call.done = turn_undone;
    u->request = (struct proto_append_done_request){
        .ino = i->ino, .cap_epoch = i->cap_epoch, .turn = m->turn};
    client_mutate(fs, &u->call, PROTO_OP_append_done, &u->request);
}

static void undo_writer(struct opendfs *fs, const struct proto_attr *attr,
                        const struct proto_layout *layout, uint8_t mode, uint64_t cap_epoch)
{
    struct client_inode *i;
    bool writer = mode == PROTO_OPEN_W || mode == PROTO_OPEN_S;
    if (!writer || client_inode_get(fs, attr->ino, &i) < 0) {
        return;
    }
    if (i->mode == PROTO_OPEN_NONE && i->writers == 0 && i->opening == 0) { /* else it is theirs */
        client_inode_take(i, attr, layout);
        i->mode = (enum proto_open_mode)mode;
        i->cap_epoch = cap_epoch;
        i->session_number = fs->session.number;
        i->dead = 0;
        client_inode_recall(fs, attr->ino);
    }
    client_inode_put(i);
}

void client_undo(struct opendfs *fs, const struct proto_slot_cancel_reply *m)
{
    union {
        struct proto_wopen_reply wopen;
        struct proto_create_reply create;
        struct proto_append_turn_reply turn;
    } was;
    struct mem_arena arena;
    if (!m->was_done || m->rc < 0) {
        return;
    }
    mem_arena_init(&arena, UNDO_ARENA_BYTES);
    if (m->opcode == PROTO_OP_wopen &&
        PROTO_DECODE(proto_wopen_reply, m->body.at, m->body.len, &arena, &was.wopen) == 0) {
        undo_writer(fs, &was.wopen.attr, &was.wopen.layout, was.wopen.mode, was.wopen.cap_epoch);
    } else if (m->opcode == PROTO_OP_create &&
               PROTO_DECODE(proto_create_reply, m->body.at, m->body.len, &arena, &was.create) ==
                   0) {
        undo_writer(fs, &was.create.attr, &was.create.layout, was.create.mode,
                    was.create.cap_epoch);
    } else if (m->opcode == PROTO_OP_append_turn &&
               PROTO_DECODE(proto_append_turn_reply, m->body.at, m->body.len, &arena, &was.turn) ==
                   0) {
        undo_turn(fs, &was.turn);
    }
    mem_arena_fini(&arena);
}
