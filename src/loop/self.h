/*
 * loop/self.h -- what a real process can do with itself: its executable, its log, whom it belongs
 * to, and how it becomes another program. Nothing here knows simulation; blocks for the moment that
 * opening a file takes.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

/* Where the executable lies that was started; there may be a newer one by now. -errno. */
NODISCARD int loop_self_path(char *out, size_t size);

/* A path that means the same in every working directory; mem_free(). NULL: no memory, or there is
 * no such directory any more. */
NODISCARD char *loop_self_absolute(const char *path);
/* What serves for long is in no directory of anybody: the file system that this is on could not be
 * unmounted. For good: paths are absolute from now on. */
NODISCARD int loop_self_leave(void);

/* Standard error goes to the end of this file from now on, which is made if it is not there: at the
 * start, and again when it was renamed. An error changes nothing. */
NODISCARD int loop_self_log(const char *path, struct err *e);

bool loop_self_is_root(void);
/* The log at `path` belongs to that user from now on, so that it can be opened anew by who is not
 * root any more. A link, or what is not root's own plain file, stays as it is. */
NODISCARD int loop_self_give_log(const char *path, const char *user, struct err *e);
/* Gives up being root for good: the user's ids and groups, no way to more rights by any program
 * (no_new_privs). All threads. Fine for who is that user already. -ENOENT: nobody has this name;
 * -EPERM: somebody else, and not root. */
NODISCARD int loop_self_become(const char *user, struct err *e);

/* Becomes another program: same process id, same children (see loop_child_adopt()); of the
 * descriptors only standard ones and `fds` stay open, under their numbers. `value` is what it finds
 * in the environment as `name`. Returns only when that fails, and then everything is as before. */
struct loop_self_program {
    const char *path;
    const char *const *argv; /* NULL-terminated */
    const int *fds;
    size_t fd_count;
    const char *name, *value;
};
NODISCARD int loop_self_exec(const struct loop_self_program *p, struct err *e);
/* In that other program, before it starts children, while no other thread looks at the environment:
 * the text, once, so that no child gets it; nor do they get the descriptors. NULL: there is none.
 * mem_free(). */
char *loop_self_take(const char *name);
