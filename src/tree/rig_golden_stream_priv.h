/*
 * tree/rig_golden_stream_priv.h -- for tests only: the golden stream, and a process that receives
 * it.
 */
#pragma once

#include "tree/rig_golden_priv.h"
#include "tree/rig_stream_priv.h"

struct rig_golden_stream {
    struct rig_life life;
    struct rig_image_file file;
    struct rig_stream stream;
    struct rig_frames frames;
};

static inline void rig_golden_stream_save(const struct rig_frames *f)
{
    CLEANUP(mem_freep) char *path = rig_golden_path(RIG_GOLDEN_STREAM);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL);
    for (size_t i = 0; i < f->count; i++) {
        uint8_t head[4];
        wire_store_u32(head, (uint32_t)f->len[i]);
        CHECK(fwrite(head, 1, 4, out) == 4 && fwrite(f->frame[i], 1, f->len[i], out) == f->len[i]);
    }
    CHECK(fclose(out) == 0);
}

static inline void rig_golden_stream_load(struct rig_frames *f)
{
    CLEANUP(mem_freep) char *path = rig_golden_path(RIG_GOLDEN_STREAM);
    FILE *in = fopen(path, "rb");
    struct kv_cursor at = {0};
    uint8_t head[4];
    CHECK_TRUE(in != NULL);
    for (f->count = 0; fread(head, 1, 4, in) == 4; f->count++) {
        struct kv_frame frame;
        size_t i = f->count, len = wire_load_u32(head);
        CHECK_TRUE(i < RIG_FRAMES_MAX && len <= KV_FRAME_MAX);
        f->at[i] = at;
        f->len[i] = len;
        f->frame[i] = mem_alloc(len);
        CHECK(f->frame[i] != NULL);
        CHECK_TRUE(fread(f->frame[i], 1, len, in) == len);
        CHECK_OK(kv_frame_open(&at, f->frame[i], len, &frame, NULL));
        at = frame.next;
    }
    (void)fclose(in);
}

/* Nobody receives yet. */
static inline void rig_golden_stream_begin(struct rig_golden_stream *s)
{
    rig_golden_begin(&s->life, &s->file, rig_golden_find(RIG_GOLDEN_STREAM_OF));
    rig_stream_init(&s->stream, &s->life);
    s->frames.count = 0;
}

static inline void rig_golden_stream_end(struct rig_golden_stream *s)
{
    rig_frames_fini(&s->frames);
    rig_stream_fini(&s->stream);
    rig_golden_end(&s->life, &s->file);
}

/* The frames that today's sender makes of the file. */
static inline void rig_golden_stream_make(struct rig_golden_stream *s)
{
    rig_golden_load(rig_golden_find(RIG_GOLDEN_STREAM_OF), &s->file);
    CHECK_OK(rig_life_open(&s->life));
    CHECK_OK(rig_stream_pin(&s->stream));
    rig_stream_read_all(&s->stream, &s->frames);
    rig_stream_unpin(&s->stream);
    rig_life_kill(&s->life, false);
    rig_stream_killed(&s->stream);
}

/* A receiver in a process of its own. */
static inline void rig_golden_stream_open(struct rig_golden_stream *s)
{
    rig_tree_start(&s->life.rig);
    CHECK_OK(rig_stream_open(&s->stream));
}

static inline void rig_golden_stream_put(struct rig_golden_stream *s, size_t i)
{
    if (rig_stream_put(&s->stream, s->frames.frame[i], s->frames.len[i]) < 0) {
        fprintf(stderr, "frame %zu: %s\n", i, s->stream.put.err.text);
    }
    CHECK_OK(s->stream.rc);
    CHECK_EQ(s->stream.put.whole, i + 1 == s->frames.count);
}

/* What was received is the state of the checkpoint. */
static inline void rig_golden_stream_check(struct rig_golden_stream *s)
{
    struct rig_life *l = &s->life;
    struct rig_state is;
    rig_stream_close(&s->stream);
    rig_life_kill(l, true);
    rig_stream_killed(&s->stream);
    l->rig.opt.path = RIG_COPY;
    CHECK_OK(rig_life_open(l));
    CHECK_OK(rig_state_read(l, &is));
    CHECK_TRUE(rig_state_same(&is, &rig_golden_find(RIG_GOLDEN_STREAM_OF)->newest));
    rig_life_stop(l);
}
