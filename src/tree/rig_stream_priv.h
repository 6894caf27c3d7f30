/* tree/rig_stream_priv.h -- for tests only: a pinned checkpoint that is read frame by frame, and a
 * receiver that is given frames, in the process of a struct rig_life. */
#pragma once

#include "kv/stream.h"
#include "tree/receiver.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"
#include "tree/stream_format.h"

#define RIG_COPY "/copy"
#define RIG_FRAMES_MAX 2000u

struct rig_frames { /* a whole stream */
    uint8_t *frame[RIG_FRAMES_MAX];
    size_t len[RIG_FRAMES_MAX];
    struct kv_cursor at[RIG_FRAMES_MAX];
    size_t count;
};

struct rig_stream {
    struct rig_life *life;
    struct kv_pin *pin;
    struct kv_pin_read read;
    bool reading;
    struct kv_receiver *receiver;
    struct kv_receive put;
    bool putting;
    struct tree_receiver_options opt;
    uint8_t *buf; /* KV_FRAME_MAX */
    int rc;
    struct err err;
};

static inline void rig_stream_init(struct rig_stream *s, struct rig_life *l)
{
    *s = (struct rig_stream){.life = l, .buf = mem_alloc(KV_FRAME_MAX)};
    s->opt = (struct tree_receiver_options){
        .path = RIG_COPY, .owner = RIG_OWNER, .sync_bytes = 16u << 10};
    CHECK(s->buf != NULL);
}
static inline void rig_stream_fini(struct rig_stream *s)
{
    mem_free(s->buf);
}
/* Its process has died. */
static inline void rig_stream_killed(struct rig_stream *s)
{
    s->pin = NULL;
    s->receiver = NULL;
    s->reading = s->putting = false;
}

/* ---- the sender ---- */

static inline void rig_stream_pin_in(void *ctx)
{
    struct rig_stream *s = ctx;
    s->rc = kv_pin_new(s->life->rig.kv, &s->pin);
}
static inline int rig_stream_pin(struct rig_stream *s)
{
    loop_sim_enter(s->life->rig.machine.loop, rig_stream_pin_in, s);
    return s->rc;
}
static inline void rig_stream_unpin_in(void *ctx)
{
    struct rig_stream *s = ctx;
    s->pin = kv_pin_free(s->pin);
}
static inline void rig_stream_unpin(struct rig_stream *s)
{
    loop_sim_enter(s->life->rig.machine.loop, rig_stream_unpin_in, s);
}
static inline void rig_stream_was_read(struct kv_pin_read *r, int rc)
{
    struct rig_stream *s = container_of(r, struct rig_stream, read);
    CHECK_TRUE(s->reading);
    s->reading = false;
    s->rc = rc;
}
static inline void rig_stream_read_in(void *ctx)
{
    struct rig_stream *s = ctx;
    s->reading = true;
    kv_pin_read(s->pin, &s->read);
    CHECK_TRUE(s->reading);
}
static inline void rig_stream_ask(struct rig_stream *s, const struct kv_cursor *from)
{
    s->read = (struct kv_pin_read){.done = rig_stream_was_read, .from = *from, .buf = s->buf};
    loop_sim_enter(s->life->rig.machine.loop, rig_stream_read_in, s);
}
static inline bool rig_stream_not_reading(void *ctx)
{
    return !((struct rig_stream *)ctx)->reading;
}
static inline int rig_stream_read(struct rig_stream *s, const struct kv_cursor *from)
{
    rig_stream_ask(s, from);
    CHECK_TRUE(testing_machine_until(&s->life->rig.machine, rig_stream_not_reading, s, 60000));
    return s->rc;
}

/* All of it; each frame is the one that a receiver waits for. */
static inline void rig_stream_read_all(struct rig_stream *s, struct rig_frames *f)
{
    struct kv_cursor at = {0};
    struct kv_frame frame;
    bool last = false;
    f->count = 0;
    while (!last) {
        CHECK_TRUE(f->count < RIG_FRAMES_MAX);
        CHECK_OK(rig_stream_read(s, &at));
        CHECK_OK(kv_frame_open(&at, s->buf, s->read.len, &frame, &s->err));
        f->at[f->count] = at;
        f->len[f->count] = s->read.len;
        f->frame[f->count] = mem_dup(s->buf, s->read.len);
        CHECK(f->frame[f->count] != NULL);
        f->count++;
        CHECK_EQ(frame.next.chain, s->read.next.chain);
        CHECK_EQ(frame.next.number, f->count);
        at = s->read.next;
        last = s->read.last;
    }
}
static inline void rig_frames_fini(struct rig_frames *f)
{
    for (size_t i = 0; i < f->count; i++) {
        mem_free(f->frame[i]);
    }
    f->count = 0;
}

/* ---- the receiver ---- */

static inline void rig_stream_open_in(void *ctx)
{
    struct rig_stream *s = ctx;
    s->opt.env = &s->life->rig.env;
    s->err = (struct err){0};
    s->rc = tree_receiver_open(&s->opt, &s->receiver, &s->err);
}
static inline int rig_stream_open(struct rig_stream *s)
{
    loop_sim_enter(s->life->rig.machine.loop, rig_stream_open_in, s);
    return s->rc;
}
static inline void rig_stream_close_in(void *ctx)
{
    struct rig_stream *s = ctx;
    s->receiver = kv_receiver_free(s->receiver);
}
static inline void rig_stream_close(struct rig_stream *s)
{
    loop_sim_enter(s->life->rig.machine.loop, rig_stream_close_in, s);
}
static inline void rig_stream_was_put(struct kv_receive *r, int rc)
{
    struct rig_stream *s = container_of(r, struct rig_stream, put);
    CHECK_TRUE(s->putting);
    s->putting = false;
    s->rc = rc;
}
static inline void rig_stream_put_in(void *ctx)
{
    struct rig_stream *s = ctx;
    s->putting = true;
    kv_receiver_put(s->receiver, &s->put);
    CHECK_TRUE(s->putting);
}
static inline bool rig_stream_not_putting(void *ctx)
{
    return !((struct rig_stream *)ctx)->putting;
}
static inline int rig_stream_put(struct rig_stream *s, const uint8_t *bytes, size_t len)
{
    s->put = (struct kv_receive){.done = rig_stream_was_put, .bytes = bytes, .len = len};
    loop_sim_enter(s->life->rig.machine.loop, rig_stream_put_in, s);
    CHECK_TRUE(testing_machine_until(&s->life->rig.machine, rig_stream_not_putting, s, 60000));
    return s->rc;
}
