/* tree/rig_fetch_tap_priv.h -- for tests: a disk that counts reads and spoils what they bring. */
#pragma once

#include "tree/file_priv.h"
#include "tree/rig_tap_priv.h"

#define LOG_MAX 512u
#define READS_MAX 32u /* as many as there are by default */

struct tap;
struct tap_req {
    struct disk_req req, *about; /* NULL: free */
    struct tap *tap;
    bool fail;
};

struct tap {
    struct rig_tap tap;
    struct tap_req pool[READS_MAX];
    uint64_t flip_at;  /* byte of the file that is wrong; 0: none */
    uint64_t fail_nth; /* read; as often as it is tried again: */
    uint64_t fail_at;
    unsigned fail_again;
    int fail_rc; /* 0: -EIO */
    size_t in_flight, in_flight_max, reads;
    unsigned idle; /* times that a fetcher said so */
    struct {
        uint64_t offset, len;
    } log[LOG_MAX];
};

static inline void tap_idle(void *arg)
{
    ((struct tap *)arg)->idle++;
}

static inline void tap_read(struct disk_req *req, int64_t rc)
{
    struct tap_req *q = container_of(req, struct tap_req, req);
    struct tap *t = q->tap;
    struct disk_req *about = q->about;
    if (rc > 0 && t->flip_at >= req->offset && t->flip_at - req->offset < (uint64_t)rc) {
        ((uint8_t *)req->buf)[t->flip_at - req->offset] ^= 0x10;
    }
    t->in_flight--;
    rc = !q->fail ? rc : t->fail_rc < 0 ? t->fail_rc : -EIO;
    q->about = NULL;
    about->done(about, rc);
}

static inline struct disk_req *tap_seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    struct tap *t = container_of(tap, struct tap, tap);
    if (now || req->op != DISK_READ) {
        return req;
    }
    size_t free = 0;
    while (free < READS_MAX && t->pool[free].about != NULL) {
        free++;
    }
    CHECK(free < READS_MAX && t->reads < LOG_MAX);
    struct tap_req *q = &t->pool[free];
    *q = (struct tap_req){.req = *req, .about = req, .tap = t};
    q->req.done = tap_read;
    t->in_flight++;
    if (t->fail_again > 0 && req->offset == t->fail_at) {
        t->fail_again--;
        q->fail = true;
        return &q->req;
    }
    q->fail = t->fail_nth > 0 && --t->fail_nth == 0;
    t->fail_at = q->fail ? req->offset : t->fail_at;
    t->fail_again = q->fail && t->fail_rc == 0 ? FILE_READ_TRIES - 1 : t->fail_again;
    t->log[t->reads].offset = req->offset;
    t->log[t->reads++].len = req->len;
    t->in_flight_max = base_max(t->in_flight_max, t->in_flight);
    return &q->req;
}
