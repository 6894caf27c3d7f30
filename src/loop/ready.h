/*
 * loop/ready.h -- a process that goes on in the background tells who started it that it is ready.
 * Real backends only.
 */
#pragma once

#include "loop/loop.h"

struct loop_ready {
    int read_fd, write_fd; /* the child gets the second; -1: none */
};
NODISCARD int loop_ready_init(struct loop_ready *r);
void loop_ready_fini(struct loop_ready *r);
/* Runs the loop until the child has said it (1), or is gone without a word (0); -errno. Lets go of
 * write_fd first. */
NODISCARD int loop_ready_wait(struct loop *l, struct loop_ready *r);
/* In the child: says it, and closes the descriptor. */
void loop_ready_say(int fd);
