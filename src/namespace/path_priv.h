/* namespace/path_priv.h -- a path that is found out from its end. No allocation. */
#pragma once

#include "proto/proto.h"

#include <string.h>

struct namespace_path {
    char *text; /* the caller's */
    size_t size, at;
    bool cut; /* it begins with "...": there was no room, or a name is not known */
};
static inline struct namespace_path namespace_path_over(char *text, size_t size)
{
    return (struct namespace_path){.text = text, .size = size, .at = size};
}
/* The directory's name, which stands before what is there. */
static inline void namespace_path_front(struct namespace_path *p, struct proto_bytes name)
{
    p->cut = p->cut || name.len == 0 || name.len + 1 > p->at - 3;
    if (!p->cut) {
        p->at -= name.len;
        memcpy(p->text + p->at, name.at, name.len);
        p->text[--p->at] = '/';
    }
}
/* All of it; lies in the caller's text. */
static inline struct proto_bytes namespace_path_end(struct namespace_path *p)
{
    if (p->cut) {
        p->at -= 3;
        memcpy(p->text + p->at, "...", 3);
    } else if (p->at == p->size) {
        p->text[--p->at] = '/';
    }
    return proto_bytes_of(p->text + p->at, p->size - p->at);
}
