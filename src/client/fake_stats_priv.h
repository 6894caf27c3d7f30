/* client/fake_stats_priv.h -- for tests only: what the servers of fake_priv.h say of themselves. */
#pragma once

#include "client/fake_priv.h"

#include <stdio.h>

static inline void fake_stats(struct peer_user *u, struct peer_request *r)
{
    const struct proto_stats_request *q = r->body;
    const struct proto_stats_reply m = {.format = q->format,
                                        .body = proto_bytes_text("opendfs_x 1\n")};
    (void)u;
    if (q->format == PROTO_FORMAT_PROMETHEUS) {
        peer_request_answer(r, &m, NULL);
    } else {
        peer_request_fail(r, -EINVAL, NULL);
    }
}
/* One name a page: the inode's own, then "again" twice. */
static inline void fake_names(struct peer_user *u, struct peer_request *r)
{
    const struct proto_names_request *q = r->body;
    const struct fake_inode *n =
        fake_find(container_of(u, struct fake_node, user)->cluster, q->ino);
    bool first = q->after_parent == 0;
    struct proto_inode_name name = {.parent = first ? 1 : q->after_parent + 1,
                                    .name =
                                        proto_bytes_text(first && n != NULL ? n->name : "again"),
                                    .path = proto_bytes_text(first ? "/" : "/d/e")};
    const struct proto_names_reply m = {.names = {&name, 1}, .more = q->after_parent < 2};
    if (n == NULL) {
        peer_request_fail(r, -ENOENT, NULL);
    } else {
        peer_request_answer(r, &m, NULL);
    }
}
/* "opendfs_target N" */
static inline void fake_data_stats(struct peer_user *u, struct peer_request *r)
{
    char text[64];
    snprintf(text, sizeof text, "opendfs_target %u\n",
             container_of(u, struct fake_node, user)->target);
    const struct proto_stats_reply m = {.format = PROTO_FORMAT_PROMETHEUS,
                                        .body = proto_bytes_text(text)};
    peer_request_answer(r, &m, NULL);
}
