/* cli/copy_priv.h -- what put, get and cp share: totals, progress, the end of a copy in words. */
#pragma once

#include "cli/cli_priv.h"

#define COPY_PARALLEL 128u          /* names under way */
#define COPY_PIECE_BYTES (4u << 20) /* of large files: whole chunks */
#define COPY_PIECES_PER_FILE 8u
#define COPY_BUFFERED_BYTES (96u << 20) /* of all files together */
#define COPY_NAME_SIZE 48u

struct copy {
    struct cli *c;
    const char *what; /* "put" */
    int status;
    bool owner; /* user and group ids are copied too */
    uint64_t start_ns;
    uint64_t files, directories, links, others, bytes, failed;
    uint64_t bytes_total, files_total; /* 0: not known */
    struct loop_timer draw;
};
void cli_copy_begin(struct copy *p, struct cli *c, const char *what);
/* Summary for people or --json; the exit status. */
int cli_copy_end(struct copy *p);
void cli_copy_progress(struct copy *p, bool at_once);
/* Counts and says it. `path` is inside the cluster. */
void cli_copy_fail(struct copy *p, const char *path, int64_t rc);
void cli_copy_fail_op(struct copy *p, const char *path, const struct opendfs_op *op);
/* A name for what is not complete yet. */
void cli_copy_temporary_name(struct copy *p, char out[COPY_NAME_SIZE]);
/* The part behind the last slash; "" for "/", ".", ".." and what ends in them. */
const char *cli_copy_base_name(const char *path);

/* Where put and cp put things. */
struct copy_destination {
    char *path; /* of a directory */
    char *name; /* NULL: into it, under the sources' own names */
    uint64_t ino;
};
/* From the last argument: the directory that things go into, and the name when it is none. 0 or an
 * exit status; cli_copy_destination_fini() in any case. */
int cli_copy_find_destination(struct cli *c, bool many, struct copy_destination *ret);
void cli_copy_destination_fini(struct copy_destination *d);

int cli_run_put(struct cli *c);
int cli_run_get(struct cli *c);
int cli_run_cat(struct cli *c);
int cli_run_cp(struct cli *c);
