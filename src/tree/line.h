/*
 * tree/line.h -- one line of what a tool says: "file: height 3, bytes 4096" for a person ("block 7,
 * level 1" when the first field has the name of the whole), or the same fields as a JSON object.
 * Names have underscores; people see spaces.
 *
 * Bytes are printable ASCII as it is and \xNN for the rest and for backslashes, so nothing is lost.
 * A number above 2^53 is a text in JSON. Owner: the caller; one thread. Memory is kept from line to
 * line; when it is out the line is short and tree_line_end() says so.
 */
#pragma once

#include "base/err.h"
#include "kv/batch.h"

struct tree_line {
    bool json;
    const char *what; /* until the first field is there */
    int rc;
    char *at; /* owned */
    size_t len, capacity;
};
struct tree_lines { /* where they go */
    bool json;
    void (*line)(void *arg, const char *text, size_t len);
    void *arg;
};

void tree_line_begin(struct tree_line *l, const struct tree_lines *to, const char *what);
void tree_line_number(struct tree_line *l, const char *name, uint64_t v);
void tree_line_hex(struct tree_line *l, const char *name, const void *bytes, size_t len);
void tree_line_text(struct tree_line *l, const char *name, const char *text);
void tree_line_bytes(struct tree_line *l, const char *name, struct kv_slice bytes);
/* Free text for people; nothing of it goes into JSON. */
void tree_line_say(struct tree_line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
void tree_line_say_bytes(struct tree_line *l, struct kv_slice bytes);
/* Hands it over. 0, -ENOMEM. */
NODISCARD int tree_line_end(struct tree_line *l, const struct tree_lines *to);
void tree_line_fini(struct tree_line *l); /* all zero is fine */
