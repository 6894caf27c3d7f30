/* tree/copy.c -- see copy.h. */
#include "tree/copy.h"

#include "base/mem.h"
#include "tree/look.h"
#include "tree/stream_receive.h"
#include "tree/stream_send.h"

#include <string.h>

struct copy {
    struct tree_look look;
    struct tree_send *send;
    struct tree_receive *receive;
    uint8_t *buf;
};

static int copy_read(const void *from, uint64_t offset, void *buf, size_t len)
{
    struct tree_look *look = NULL;
    memcpy(&look, &from, sizeof look); /* it counts what it reads */
    return tree_look_read(look, offset, buf, len);
}

static int copy_open(struct copy *c, const struct tree_copy_options *opt,
                     struct tree_copy_result *ret, struct err *e)
{
    const struct tree_super *super = NULL;
    int rc = tree_look_open(opt->disk, opt->path, &c->look, e);
    rc = rc < 0 ? rc : tree_look_choose(&c->look, opt->older, &super, e);
    if (rc < 0) {
        return rc;
    }
    struct tree_send_options send = {.read = copy_read, .from = &c->look, .super = super};
    struct tree_receive_options receive = {.disk = opt->disk, .path = opt->out};
    ret->checkpoint = super->checkpoint;
    ret->applied_index = super->applied_index;
    ret->before_bytes = c->look.size_bytes;
    c->buf = mem_alloc(KV_FRAME_MAX);
    rc = c->buf == NULL ? -ENOMEM : tree_send_new(&send, &c->send);
    return rc < 0 ? rc : tree_receive_new(&receive, &c->receive, e);
}

/* What an earlier copy has left may be of another checkpoint. */
static int copy_begin(struct copy *c, const struct tree_copy_options *opt, struct err *e)
{
    struct tree_receive_options receive = {.disk = opt->disk, .path = opt->out, .again = true};
    const struct kv_cursor *at = tree_receive_next(c->receive);
    if (at->stream == 0 || tree_send_is(c->send, at->stream)) {
        return 0;
    }
    c->receive = tree_receive_free(c->receive);
    return tree_receive_new(&receive, &c->receive, e);
}

static int copy_run(struct copy *c, struct tree_copy_result *ret, struct err *e)
{
    struct kv_frame frame;
    size_t len = 0;
    bool whole = false;
    int rc = 0;
    while (rc == 0 && !whole) {
        rc = tree_send_frame(c->send, tree_receive_next(c->receive), c->buf, &frame, &len, e);
        rc = rc < 0 ? rc : tree_receive_put(c->receive, c->buf, len, &whole, e);
        ret->frames++;
    }
    ret->bytes = tree_receive_stored(c->receive);
    return rc;
}

int tree_copy(const struct tree_copy_options *opt, struct tree_copy_result *ret, struct err *e)
{
    struct copy c = {.buf = NULL};
    struct tree_copy_result result = {0};
    int rc = copy_open(&c, opt, &result, e);
    rc = rc < 0 ? rc : copy_begin(&c, opt, e);
    rc = rc < 0 ? rc : copy_run(&c, &result, e);
    if (rc == 0 && tree_look_changed(&c.look)) {
        rc = err_set(e, -ERR_in_use, "somebody writes '%s'", opt->path);
    }
    if (rc == 0) {
        *ret = result;
    }
    tree_send_free(c.send);
    tree_receive_free(c.receive);
    tree_look_close(&c.look);
    mem_free(c.buf);
    return rc;
}
