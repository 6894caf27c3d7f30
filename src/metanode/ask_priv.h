/* metanode/ask_priv.h -- ask.c: sizes and times that only a writer knows. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "metanode/read.h"
#include "peer/link.h"

struct metanode;
struct metanode_session;

#define METANODE_ASK_WRITERS 16u
#define METANODE_WRITERS_MAX 65536u

/* Files that some session writes: what is too much is found when somebody asks. What may be
 * missing, because a session of before has not resumed yet or memory was short, is looked up each
 * time. */
struct metanode_writers {
    struct dict by_ino;
    struct list all;       /* oldest first */
    size_t count, unheard; /* sessions of before this leader; see struct metanode_session */
    bool lost;             /* some file is missing, until the next leader */
};
void metanode_writers_init(struct metanode *m);
void metanode_writers_fini(struct metanode *m);
void metanode_writer_add(struct metanode *m, uint64_t ino, uint64_t session);
void metanode_writer_gone(struct metanode *m, uint64_t ino, uint64_t session);
/* Does a session other than this one write it, or might it? */
bool metanode_writer_elsewhere(struct metanode *m, uint64_t ino, uint64_t session);
/* The session goes on with this leader: what it writes is looked up. */
void metanode_writers_resumed(struct metanode *m, uint64_t session);
/* The session is known (again), or has ended: nothing of it is missing any more. */
void metanode_writers_heard(struct metanode *m, struct metanode_session *s);

/* One question to all who write a file. Caller-owned; `done` once, maybe from inside. */
struct metanode_ask {
    void (*done)(struct metanode_ask *a, int rc);
    struct proto_attr *attr; /* size and times go here */
    bool stale;              /* one has let go meanwhile: what was read before is old */
    /* private */
    struct metanode *m;
    uint64_t ino, session, until_ns;
    uint64_t writer[METANODE_ASK_WRITERS];
    size_t count, at;
    bool alone; /* the only one writes alone: it knows best */
    struct metanode_read read;
    struct peer_call call;
    struct proto_query_request request;
    struct loop_timer again;
};
void metanode_ask(struct metanode *m, struct metanode_ask *a, uint64_t ino, uint64_t session);
