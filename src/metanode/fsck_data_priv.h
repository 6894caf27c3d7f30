/* metanode/fsck_data_priv.h -- the part of the check of fsck.c that is about data nodes. */
#pragma once

#include "metanode/compare_priv.h"
#include "metanode/report_priv.h"

#define METANODE_FSCK_IDS (METANODE_DAMAGES_MAX + METANODE_DIFFERENCES_MAX)

struct metanode;
struct metanode_fsck_data {
    uint64_t id[METANODE_FSCK_IDS]; /* data ids with chunks that are not well, ascending */
    bool found[METANODE_FSCK_IDS];  /* a file has it */
    size_t count;
};
/* What is known now. */
void metanode_fsck_data_begin(struct metanode *m, struct metanode_fsck_data *d);
/* Says what is wrong with this data id, into `text`; it belongs to a file (or to none). Returns
 * the code for programs. */
const char *metanode_fsck_data_of(struct metanode *m, uint64_t data_id, struct text *text);

/* What is no file's, chains, disks, garbage: in the order of `told`, one more each time. False:
 * that was all. */
struct metanode_fsck_more {
    const char *code;
    char text[256];
    size_t stage, place; /* private; zero at first */
};
bool metanode_fsck_data_more(struct metanode *m, const struct metanode_fsck_data *d,
                             uint64_t garbage, struct metanode_fsck_more *more);
