/* bench/data/chunk.c -- pieces of objects, and their frames; see chunk.h. */
#include "chunk.h"

#include "base/crc32c.h"
#include "wire/frame.h"

#include <stdlib.h>
#include <string.h>

/* --- Which piece is next ---------------------------------------------------------------------- */

void chunk_set_init(struct chunk_set *s, const struct data_args *a)
{
    *s = (struct chunk_set){.base = data_number(a, "base", 0),
                            .objects = data_number(a, "objects", 1),
                            .bytes = data_number(a, "bytes", CHUNK_BYTES),
                            .piece = (uint32_t)data_number(a, "piece", CHUNK_BYTES),
                            .random = strcmp(data_text(a, "order", "sequence"), "random") == 0,
                            .check = data_number(a, "check", 0) != 0};
    if (s->objects == 0 || s->bytes == 0 || s->piece == 0 || s->piece > CHUNK_BYTES ||
        s->bytes % PROTO_CELL_BYTES != 0 || s->piece % PROTO_CELL_BYTES != 0) {
        data_die("objects, bytes or piece", "not whole cells of 4 KiB");
    }
    rand_seed(&s->rand, 1);
    for (unsigned i = 0; i < FLOW_CONNECTIONS_MAX; i++) {
        s->cursor[i].offset = s->bytes; /* at the end of nothing */
    }
}

bool chunk_set_next(struct chunk_set *s, unsigned connection, struct chunk_piece *ret)
{
    struct chunk_cursor *c = &s->cursor[connection];
    if (c->offset == s->bytes) {
        bool once = s->check || !s->random;
        if (once && s->next == s->objects) {
            return false;
        }
        c->object = s->base + (once ? s->next++ : rand_below(&s->rand, s->objects));
        c->offset = 0;
    }
    uint64_t len =
        base_min(base_min(s->piece, s->bytes - c->offset), CHUNK_BYTES - c->offset % CHUNK_BYTES);
    *ret = (struct chunk_piece){.object = c->object, .offset = c->offset, .len = (uint32_t)len};
    c->offset += len;
    return true;
}

/* --- Requests --------------------------------------------------------------------------------- */

static struct proto_route chunk_route(const struct link_cluster *c, const struct chunk_piece *p)
{
    uint64_t number = p->object + p->offset / CHUNK_BYTES;
    const struct link_chain *chain = &c->chain[number % c->chains];
    return (struct proto_route){.chain = chain->id, .epoch = chain->epoch};
}

static struct proto_chunk chunk_name(const struct chunk_piece *p)
{
    return (struct proto_chunk){.data_id = LINK_BASE + p->object,
                                .index = (uint32_t)(p->offset / CHUNK_BYTES)};
}

static void chunk_ask_read(struct chunk_way *x, const struct chunk_piece *p, struct wire_frame *f,
                           struct wire_writer *out)
{
    struct proto_read_request m = {.route = chunk_route(&x->cluster, p),
                                   .capability = x->cluster.capability,
                                   .chunk = chunk_name(p),
                                   .offset = (uint32_t)(p->offset % CHUNK_BYTES),
                                   .length = p->len,
                                   .flags = x->read_flags};
    m.capability.mac = proto_bytes_of(x->cluster.mac, sizeof x->cluster.mac);
    f->opcode = PROTO_OP_read;
    (void)link_frame(out, f, &proto_read_request_type, &m);
}

static void chunk_ask_write(struct chunk_way *x, const struct chunk_piece *p, struct wire_frame *f,
                            struct wire_writer *out)
{
    uint32_t crc[PROTO_CELLS_MAX];
    size_t cells = p->len / PROTO_CELL_BYTES;
    data_fill(p->object, p->offset, x->data, p->len);
    for (size_t i = 0; i < cells; i++) {
        crc[i] = crc32c(0, x->data + i * PROTO_CELL_BYTES, PROTO_CELL_BYTES);
    }
    struct proto_write_request m = {.route = chunk_route(&x->cluster, p),
                                    .capability = x->cluster.capability,
                                    .chunk = chunk_name(p),
                                    .client = x->cluster.capability.session,
                                    .seq = 1 + p->offset % CHUNK_BYTES,
                                    .retry = p->again,
                                    .kind = PROTO_WRITE_AT,
                                    .offset = (uint32_t)(p->offset % CHUNK_BYTES),
                                    .length = p->len,
                                    .sync = x->sync,
                                    .crcs = {.at = crc, .count = cells}};
    m.capability.mac = proto_bytes_of(x->cluster.mac, sizeof x->cluster.mac);
    f->opcode = PROTO_OP_write;
    f->data_len = p->len;
    uint8_t *to = link_frame(out, f, &proto_write_request_type, &m);
    if (to != NULL) {
        memcpy(to, x->data, p->len);
    }
}

static bool chunk_ask(struct flow_way *w, unsigned connection, unsigned slot,
                      struct wire_writer *out)
{
    struct chunk_way *x = container_of(w, struct chunk_way, way);
    struct chunk_piece *p = &x->asked[connection][slot];
    struct wire_frame f = {.id = slot + 1};
    if (x->again_count[connection] > 0) {
        *p = x->again[connection][--x->again_count[connection]];
    } else if (!chunk_set_next(&x->set, connection, p)) {
        return false;
    }
    if (x->writes) {
        chunk_ask_write(x, p, &f, out);
    } else {
        chunk_ask_read(x, p, &f, out);
    }
    return true;
}

/* --- Answers ---------------------------------------------------------------------------------- */

/* Every checksum and every byte. */
static void chunk_look(const struct chunk_piece *p, const struct wire_frame *f, const uint8_t *body)
{
    struct mem_arena arena;
    struct proto_read_reply m;
    mem_arena_init(&arena, (size_t)1 << 20);
    if (PROTO_DECODE(proto_read_reply, body, f->body_len, &arena, &m) < 0 ||
        m.crcs.count != p->len / PROTO_CELL_BYTES) {
        data_die("READ", "the answer does not decode");
    }
    const uint8_t *data = body + f->body_len;
    for (size_t i = 0; i < m.crcs.count; i++) {
        if (crc32c(0, data + i * PROTO_CELL_BYTES, PROTO_CELL_BYTES) != m.crcs.at[i]) {
            data_die("READ", "a checksum does not fit");
        }
    }
    if (!data_same(p->object, p->offset, data, p->len)) {
        data_die("READ", "other bytes than were stored");
    }
    mem_arena_fini(&arena);
}

static size_t chunk_answer(struct flow_way *w, unsigned connection, const uint8_t *at, size_t len,
                           struct flow_answer *ret)
{
    struct chunk_way *x = container_of(w, struct chunk_way, way);
    struct wire_frame f;
    if (len < FRAME_BYTES) {
        return 0;
    }
    if (wire_frame_decode(at, &f) < 0) {
        data_die("answer", "no frame");
    }
    size_t whole = (size_t)FRAME_BYTES + f.body_len + f.data_len;
    bool kept = f.kind == FRAME_RESPONSE && x->set.check;
    if ((kept || f.status != 0) && len < whole) {
        return 0;
    }
    if (f.kind != FRAME_RESPONSE) { /* the server asks whether we live: the next request says so */
        ret->skip = whole - FRAME_BYTES;
        return FRAME_BYTES;
    }
    if (f.id == 0 || f.id > FLOW_DEPTH_MAX) {
        data_die("answer", "to no request");
    }
    ret->slot = f.id - 1;
    struct chunk_piece *p = &x->asked[connection][ret->slot];
    if (f.status == -ERR_busy) {
        p->again = true;
        CHECK(x->again_count[connection] < FLOW_DEPTH_MAX);
        x->again[connection][x->again_count[connection]++] = *p;
        ret->busy = true;
        return whole;
    }
    link_check(&f, at + FRAME_BYTES);
    ret->bytes = p->len;
    if (!x->writes && f.data_len != p->len) {
        data_die("READ", "fewer bytes than were stored");
    }
    if (kept && !x->writes) {
        chunk_look(p, &f, at + FRAME_BYTES);
    }
    ret->skip = kept ? 0 : whole - FRAME_BYTES;
    return kept ? whole : FRAME_BYTES;
}

static int chunk_connect(struct flow_way *w)
{
    return link_open(&container_of(w, struct chunk_way, way)->cluster);
}

static void chunk_free(struct flow_way *w)
{
    struct chunk_way *x = container_of(w, struct chunk_way, way);
    free(x->cluster.chain);
    free(x->data);
    free(x);
}

static const struct flow_way_ops chunk_ops = {
    .connect = chunk_connect, .ask = chunk_ask, .answer = chunk_answer, .free = chunk_free};

struct chunk_way *chunk_way_new(const struct data_args *a, bool writes)
{
    struct chunk_way *x = calloc(1, sizeof *x);
    uint8_t *data = malloc(CHUNK_BYTES);
    if (x == NULL || data == NULL) {
        data_die("chunks", "no memory");
    }
    x->way.ops = &chunk_ops;
    x->data = data;
    x->writes = writes;
    x->sync = data_number(a, "sync", 0) != 0;
    x->read_flags = data_number(a, "stream", 0) != 0 ? PROTO_READ_STREAM : 0;
    chunk_set_init(&x->set, a);
    link_find(data_text(a, "cluster", NULL), &x->cluster);
    return x;
}
