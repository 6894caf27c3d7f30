#include "client/op_priv.h"
#include "opendfs/where.h"

#include <string.h>

/* All names of an inode, page by page. */

static const char *names_text(char **at, struct proto_bytes from)
{
    char *text = *at;
    if (from.len > 0) {
        memcpy(text, from.at, from.len);
    }
    text[from.len] = '\0';
    *at += from.len + 1;
    return text;
}

/* One block: the page, the names, the texts. */
static int names_take(struct client_task *t, const struct proto_names_reply *m)
{
    struct opendfs_names *cursor = client_op_of(t->op)->out;
    size_t count = m->names.count;
    size_t bytes = sizeof(struct opendfs_names_page) + count * sizeof(struct opendfs_name);
    for (size_t i = 0; i < count; i++) {
        bytes += m->names.at[i].path.len + m->names.at[i].name.len + 2;
    }
    struct opendfs_names_page *page = mem_zalloc(bytes);
    if (page == NULL) {
        return -ENOMEM;
    }
    struct opendfs_name *names = (struct opendfs_name *)(page + 1);
    char *text = (char *)(names + count);
    *page = (struct opendfs_names_page){.names = names, .count = count, .at_end = !m->more};
    for (size_t i = 0; i < count; i++) {
        const struct proto_inode_name *n = &m->names.at[i];
        names[i].parent_ino = n->parent;
        names[i].directory = names_text(&text, n->path);
        names[i].name = names_text(&text, n->name);
    }
    if (count > 0) {
        const struct proto_inode_name *last = &m->names.at[count - 1];
        cursor->after_parent = last->parent;
        proto_bytes_to_c(last->name, cursor->after_name, sizeof cursor->after_name);
    }
    t->op->data = page;
    t->op->data_len = bytes;
    client_op_hold(t->op, page, client_op_free_held);
    return 0;
}

static void names_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
    } else {
        client_task_finish(t, names_take(t, r->body));
    }
}

static void names_run(struct opendfs_op *op)
{
    const struct opendfs_names *cursor = client_op_of(op)->out;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.names =
            (struct proto_names_request){.ino = cursor->ino,
                                         .after_parent = cursor->after_parent,
                                         .after_name = proto_bytes_text(cursor->after_name)};
        client_task_query(t, PROTO_OP_names, names_done);
    }
}

void opendfs_async_names_next(struct opendfs *fs, struct opendfs_op *op,
                              struct opendfs_names *names)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->out = names;
    client_op_start(fs, op, names_run);
}
