/* metanode/ask_priv.h -- ask.c: sizes and times that only a writer knows. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "metanode/read.h"
#include "peer/link.h"

struct metanode;

#define METANODE_ASK_WRITERS 16u

/* Files that some session writes, about: what is missing here is found when its session resumes,
 * what is too much when somebody asks. */
struct metanode_writers {
    struct dict by_ino;
    struct list all; /* oldest first */
    size_t count;
};
void metanode_writers_init(struct metanode *m);
void metanode_writers_fini(struct metanode *m);
void metanode_writer_add(struct metanode *m, uint64_t ino, uint64_t session);
void metanode_writer_gone(struct metanode *m, uint64_t ino, uint64_t session);
/* Does a session other than this one write it? */
bool metanode_writer_elsewhere(struct metanode *m, uint64_t ino, uint64_t session);
/* The session goes on with this leader: what it writes is looked up. */
void metanode_writers_resumed(struct metanode *m, uint64_t session);

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
