/*
 * client/choose_priv.h -- which member of a chain a read is sent to, when another one is asked as
 * well, and how often that may be (chain.md section 7.4).
 *
 * Pure: no clock, no loop, no memory, no randomness; time is told. What is known of a target is
 * what this client has seen of it: requests under way, and how long answers took. Answers of
 * different lengths are kept apart, because a large one that is fast takes longer than a small one
 * that is slow.
 */
#pragma once

#include "base/base.h"

#define CLIENT_SIZES 3u       /* up to 64 KiB, up to 1 MiB, larger */
#define CLIENT_TIME_STEPS 80u /* four per power of two, from 64 us to 67 s */
#define CLIENT_TIMES_MAX 1024u

/* The newest answers of one length: about the last CLIENT_TIMES_MAX of them. */
struct client_times {
    uint64_t mean_ns, at_ns; /* moving; of its newest sample. at_ns 0: none yet */
    uint32_t count;          /* in all steps */
    uint16_t step[CLIENT_TIME_STEPS];
};
struct client_load {
    uint32_t in_flight;
    struct client_times times[CLIENT_SIZES];
};
void client_load_begin(struct client_load *l);
/* One that was under way has its answer, or is not waited for any more and would have taken longer.
 */
void client_load_end(struct client_load *l, size_t bytes, uint64_t now_ns, uint64_t took_ns);
/* One that was under way is over and tells nothing about how long answers take. */
void client_load_drop(struct client_load *l);
/* It did not do what was asked: for some time others are preferred. */
void client_load_fail(struct client_load *l, uint64_t now_ns, uint64_t took_ns);
/* How long an answer may be expected to take. 0: not known, or nobody has asked for long. */
uint64_t client_load_expect_ns(const struct client_load *l, size_t bytes, uint64_t now_ns);
/* The time within which 95 of 100 answers came; 0: there were too few to tell. */
uint64_t client_load_late_ns(const struct client_load *l, size_t bytes);

/* How far a target is. */
enum client_distance { CLIENT_SAME_HOST, CLIENT_SAME_RACK, CLIENT_ELSEWHERE };
/* By labels; an empty one is like no other. */
enum client_distance client_distance_of(const char *own_host, const char *own_rack,
                                        const char *host, const char *rack);

struct client_choice {
    const struct client_load *load;
    enum client_distance distance;
    bool allowed;
};
struct client_choice_of {
    const struct client_choice *member;
    size_t count, bytes;
    uint64_t spread; /* equal for what should come from the same member, if all are alike */
    uint64_t now_ns;
};
/*
 * The member from which an answer is expected first, by requests under way and moving times; twice
 * as long counts for each step of distance. Of those that are nearest one is the home of these
 * bytes, so that not every member keeps all of them in its memory: it is chosen unless another one
 * is clearly better. `count`: none is allowed.
 */
size_t client_choose(const struct client_choice_of *c);

/* How many more requests may be sent while others are under way for the same bytes: one for every
 * CLIENT_HEDGE_SHARE, and never more than CLIENT_HEDGE_BURST at once from what was saved. */
#define CLIENT_HEDGE_SHARE 32u
#define CLIENT_HEDGE_BURST 8u
struct client_budget {
    uint32_t credit; /* in shares */
};
void client_budget_init(struct client_budget *b); /* one */
void client_budget_earn(struct client_budget *b); /* by each first request */
bool client_budget_take(struct client_budget *b);
