/*
 * bench/data/flow.h -- requests over kept connections, one thread: what every reader and writer of
 * this benchmark does with its sockets, whatever it speaks. Each connection has `depth` requests
 * under way; bytes of answers are thrown away in the kernel as far as nobody looks at them.
 */
#pragma once

#include "data.h"
#include "wire/wire.h"

#define FLOW_DEPTH_MAX 64u
#define FLOW_CONNECTIONS_MAX 256u
#define FLOW_NONE UINT32_MAX

struct flow_answer {
    unsigned slot;  /* which request; FLOW_NONE: of none */
    uint64_t bytes; /* data that came with it, as the user counts */
    uint64_t skip;  /* bytes behind it that belong to it and that nobody looks at */
    bool busy;      /* to be asked again later: the connection rests, `ask` gives it once more */
};
struct flow_way {
    const struct flow_way_ops *ops;
};
struct flow_way_ops {
    int (*connect)(struct flow_way *w); /* a connected descriptor */
    /* Appends the next request of a connection; false: nothing is left to ask. */
    bool (*ask)(struct flow_way *w, unsigned connection, unsigned slot, struct wire_writer *out);
    /* How many of these bytes are the next answer, without what is skipped; 0: more are needed. */
    size_t (*answer)(struct flow_way *w, unsigned connection, const uint8_t *at, size_t len,
                     struct flow_answer *ret);
    void (*free)(struct flow_way *w);
};
struct flow_options {
    struct flow_way *way;
    unsigned connections, depth;
    double seconds; /* then nothing more is asked; what is under way is waited for */
    size_t ask_bytes, answer_bytes; /* most of one request; of one answer that is looked at */
    const char *command, *servers;  /* for the line */
};
/* Runs, and prints the line. */
void flow_run(const struct flow_options *opt);

/* A descriptor connected to "address:port", numbers only, that sends small packets at once. */
int flow_connect(const char *address);
