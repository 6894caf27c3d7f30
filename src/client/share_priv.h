/* client/share_priv.h -- share.c: files that other clients write, too (coherence.md 6.3). Owner:
 * the client's loop. */
#pragma once

#include "client/inode_priv.h"

/* What the server says, unless this client knows better because it writes. */
void client_inode_take(struct client_inode *i, const struct proto_attr *a,
                       const struct proto_layout *layout);
/* Of a file that others write: theirs, or more that was stored from here and is not committed. */
void client_inode_take_size(struct client_inode *i, uint64_t size);
void client_inode_take_mode(struct client_inode *i, const struct proto_wopen_reply *m);
/* Must what reads or writes wait? Then it is woken. */
bool client_share_waits(struct client_inode *i);
void client_share_step(struct client_inode *i);
void client_share_unpark(struct client_inode *i); /* who has parked it writes on */
/* Small contents that another one has changed are fetched; reads wait. */
void client_share_reread(struct client_inode *i);
void client_share_returned(struct client_inode *i); /* W went back, the file stays open */
void client_share_pushed(struct opendfs *fs, uint64_t ino);
