/* datanode/way.c -- see way.h. */
#include "datanode/way.h"

#include <limits.h>

_Static_assert(CHUNK_LENGTH_MAX / DATANODE_STREAM_PART <= DATANODE_STREAM_PARTS,
               "the parts hold a whole chunk");
_Static_assert(DATANODE_STREAM_PART % CHUNK_CELL == 0, "a part begins with a cell");

enum datanode_way datanode_way_choose(const struct datanode_way_view *v)
{
    bool possible = v->able && v->reads > 0 && v->reads <= DATANODE_STREAM_READS;
    if (v->resident) {
        return DATANODE_WAY_CACHED;
    }
    return v->stream && possible && v->length > DATANODE_SMALL_BYTES ? DATANODE_WAY_STREAMED
                                                                     : DATANODE_WAY_FETCHED;
}

unsigned datanode_way_reads(const struct chunk_piece *piece, unsigned count)
{
    uint64_t at = 0;
    uint64_t reads = 0;
    for (unsigned i = 0; i < count; i++) {
        bool aligned = at % CHUNK_CELL == 0 && piece[i].offset % CHUNK_CELL == 0;
        if (piece[i].len == 0 || (piece[i].file != NULL && !aligned)) {
            return 0;
        }
        uint64_t last = at + piece[i].len - 1;
        reads +=
            piece[i].file == NULL ? 0 : last / DATANODE_STREAM_PART - at / DATANODE_STREAM_PART + 1;
        at += piece[i].len;
    }
    return (unsigned)base_min(reads, UINT_MAX);
}
