/* metanode/share_priv.h -- share.c: write authority on its way from W to S (coherence.md 6.3). */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "loop/loop.h"

struct metanode;

struct metanode_shares {
    struct dict by_ino;
    struct list all;
    struct loop_timer timer;
    size_t count;
};
void metanode_shares_init(struct metanode *m);
void metanode_shares_fini(struct metanode *m);
/* A writer of this file is told to wait for `shared_now`: it will get that push. */
void metanode_share_wait(struct metanode *m, uint64_t ino, uint64_t session);
/* It is read when nobody writes it alone any more: `go`, once. False: too many wait. */
struct metanode_share_reader {
    void (*go)(struct metanode_share_reader *r);
    struct list node;
};
bool metanode_share_read(struct metanode *m, uint64_t ino, struct metanode_share_reader *r);
/* Somebody has it open to read: who writes alone is asked to share, though nobody waits for that.
 */
void metanode_share_press(struct metanode *m, uint64_t ino);
/* Something was applied that others may have waited for: a writer's last word on a file, or the
 * trim of one; or (ino 0) the end of a session. */
void metanode_share_moved(struct metanode *m, uint64_t ino, uint64_t session);
