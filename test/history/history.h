/*
 * history/history.h -- what the clients of one file system asked, and what they were told, in the
 * order in which it happened. As text: doc/testing.md, "Histories".
 *
 * A process does one thing after the other. An operation whose outcome nobody knows (its client was
 * killed, or gave up) is never answered, and its process does nothing any more.
 *
 * Thread: the caller's. Memory: history_fini() frees all. Bounded by HISTORY_OPS and what else is
 * named here; more is -E2BIG.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#include <stdio.h>

#define HISTORY_NAMES 8u /* different names of one history */
#define HISTORY_NAME_SIZE 16u
#define HISTORY_DEPTH 4u
#define HISTORY_OPS (1u << 20)
#define HISTORY_PROCESSES (1u << 16)
#define HISTORY_LINE_MAX 1024u

/* X(upper, name) */
#define HISTORY_KINDS(X)                                                                       \
    X(CREATE, create)     /* path, mode, data: a file with these contents; exclusive -> ino */ \
    X(MKDIR, mkdir)       /* path, mode -> ino */                                              \
    X(SYMLINK, symlink)   /* path, data: to where nothing ever is -> ino */                    \
    X(UNLINK, unlink)     /* path */                                                           \
    X(RMDIR, rmdir)       /* path */                                                           \
    X(RENAME, rename)     /* path, to, flags */                                                \
    X(LINK, link)         /* path, to -> ino */                                                \
    X(CHMOD, chmod)       /* path, mode -> ino */                                              \
    X(WRITE, write)       /* path, data: the whole contents of an existing file */             \
    X(STAT, stat)         /* path -> ino, kind, mode, nlink */                                 \
    X(LIST, list)         /* path -> entries */                                                \
    X(READLINK, readlink) /* path -> data */                                                   \
    X(READ, read)         /* path -> data */

enum history_kind {
#define HISTORY_ENUM(upper, name) HISTORY_##upper,
    HISTORY_KINDS(HISTORY_ENUM)
#undef HISTORY_ENUM
        HISTORY_KIND_COUNT
};
enum history_type { HISTORY_NOTHING, HISTORY_FILE, HISTORY_DIRECTORY, HISTORY_LINK_TO };
enum history_outcome { HISTORY_OPEN, HISTORY_OK, HISTORY_FAILED };
#define HISTORY_NOREPLACE 1u
#define HISTORY_EXCHANGE 2u

struct history_path {
    uint8_t depth; /* 0: the root */
    uint8_t name[HISTORY_DEPTH];
};
struct history_entry {
    uint8_t name;
    enum history_type type;
    uint32_t ino;
};
struct history_op {
    enum history_kind kind;
    uint32_t process;
    struct history_path path, to;
    uint32_t mode, flags, data; /* asked for */
    uint64_t begin_ns, end_ns;
    /* The answer. */
    enum history_outcome outcome;
    int error; /* positive errno; of HISTORY_FAILED */
    enum history_type type;
    uint32_t ino; /* 0: was not told */
    uint32_t got_mode, nlink, got;
    struct history_entry entry[HISTORY_NAMES]; /* in order of their numbers, without repeats */
    unsigned entry_count;
};
struct history_event {
    uint32_t op;
    bool end;
};
struct history {
    char name[HISTORY_NAMES][HISTORY_NAME_SIZE];
    unsigned name_count;
    struct history_op *op;
    size_t op_count, op_capacity;
    struct history_event *event;
    size_t event_count, event_capacity;
};

void history_init(struct history *h);
void history_fini(struct history *h);
/* The number of a name, found or new; -E2BIG, -EINVAL. */
NODISCARD int history_name(struct history *h, const char *at, size_t len);
NODISCARD int history_path(struct history *h, const char *text, struct history_path *ret);
/* An operation begins: kind, process, what was asked for, begin_ns. */
NODISCARD int history_begin(struct history *h, const struct history_op *op, size_t *ret);
/* It was answered: h->op[op] has the answer and end_ns. */
NODISCARD int history_end(struct history *h, size_t op);

bool history_is_question(enum history_kind kind); /* changes nothing */
const char *history_kind_name(enum history_kind kind);
const char *history_type_name(enum history_type type);
struct text;
void history_path_to_text(const struct history *h, const struct history_path *p, struct text *t);
void history_op_to_text(const struct history *h, const struct history_op *op, struct text *t);

/* Text. -EIO: the file could not be written. */
NODISCARD int history_write(const struct history *h, FILE *to);
/* Into a history that was initialised. -EINVAL: `e` names the line; `h` has what came before. */
NODISCARD int history_read(const char *text, size_t len, struct history *h, struct err *e);
