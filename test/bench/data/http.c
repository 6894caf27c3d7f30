/* bench/data/http.c -- GET of the same objects as files, as a way of flow.h; see chunk.h. */
#include "chunk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_way {
    struct flow_way way;
    struct chunk_set set;
    char address[64];
    bool ranges; /* pieces of objects */
    struct chunk_piece asked[FLOW_CONNECTIONS_MAX];
};

static bool http_ask(struct flow_way *w, unsigned connection, unsigned slot,
                     struct wire_writer *out)
{
    struct http_way *x = container_of(w, struct http_way, way);
    struct chunk_piece *p = &x->asked[connection];
    char text[256], range[80] = "";
    CHECK(slot == 0);
    if (!chunk_set_next(&x->set, connection, p)) {
        return false;
    }
    if (x->ranges) {
        (void)snprintf(range, sizeof range, "Range: bytes=%llu-%llu\r\n",
                       (unsigned long long)p->offset, (unsigned long long)(p->offset + p->len - 1));
    } else {
        x->set.cursor[connection].offset = x->set.bytes;
    }
    int len = snprintf(text, sizeof text, "GET /o/%llu HTTP/1.1\r\nHost: bench\r\n%s\r\n",
                       (unsigned long long)p->object, range);
    CHECK(len > 0 && (size_t)len < sizeof text);
    wire_write_bytes(out, text, (size_t)len);
    return true;
}

/* The number behind `name` in the head. */
static uint64_t http_field(const char *head, const char *name)
{
    const char *at = strstr(head, name);
    if (at == NULL) {
        data_die("HTTP: the answer lacks", name);
    }
    return strtoull(at + strlen(name), NULL, 10);
}

static size_t http_answer(struct flow_way *w, unsigned connection, const uint8_t *at, size_t len,
                          struct flow_answer *ret)
{
    struct http_way *x = container_of(w, struct http_way, way);
    const struct chunk_piece *p = &x->asked[connection];
    const uint8_t *end = memmem(at, len, "\r\n\r\n", 4);
    char head[1024];
    if (end == NULL) {
        return 0;
    }
    size_t head_len = (size_t)(end - at) + 4;
    (void)snprintf(head, sizeof head, "%.*s", (int)base_min(head_len, sizeof head - 1),
                   (const char *)at);
    uint64_t status = http_field(head, "HTTP/1.1 ");
    uint64_t body_len = http_field(head, "Content-Length: ");
    uint64_t wanted = x->ranges ? p->len : x->set.bytes;
    if ((status != 200 && status != 206) || body_len != wanted) {
        data_die("HTTP", head);
    }
    ret->slot = 0;
    ret->bytes = body_len;
    if (!x->set.check) {
        ret->skip = body_len;
        return head_len;
    }
    if (len < head_len + body_len) {
        ret->slot = FLOW_NONE;
        return 0;
    }
    if (!data_same(p->object, p->offset, at + head_len, body_len)) {
        data_die("HTTP", "other bytes than were stored");
    }
    return head_len + body_len;
}

static int http_connect(struct flow_way *w)
{
    return flow_connect(container_of(w, struct http_way, way)->address);
}

static void http_free(struct flow_way *w)
{
    free(container_of(w, struct http_way, way));
}

static const struct flow_way_ops http_ops = {
    .connect = http_connect, .ask = http_ask, .answer = http_answer, .free = http_free};

struct flow_way *http_way_new(const struct data_args *a)
{
    struct http_way *x = calloc(1, sizeof *x);
    if (x == NULL) {
        data_die("http", "no memory");
    }
    x->way.ops = &http_ops;
    chunk_set_init(&x->set, a);
    x->ranges = x->set.check || data_text(a, "piece", "")[0] != '\0';
    (void)snprintf(x->address, sizeof x->address, "127.0.0.1:%llu",
                   (unsigned long long)data_number(a, "port", 80));
    return &x->way;
}
