/* chunk/look.h -- a data directory as it lies there, for who does not know it. Blocks. */
#pragma once

#include "chunk/store.h"

/* What a directory says about itself. -ERR_corrupt class: it is none of a store. */
struct chunk_looked {
    enum chunk_engine engine;
    struct uuid target, cluster;
    uint64_t incarnation;
    bool lossy, clean;
};
NODISCARD int chunk_store_look(struct disk *d, const char *directory, struct chunk_looked *ret,
                               struct err *e);
