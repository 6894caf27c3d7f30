#include "consensus/begin.h"

#include "base/env.h"
#include "base/mem.h"
#include "consensus/heap.h"
#include "consensus/record.h"
#include "disk/disk.h"

#include <raft.h>
#include <string.h>

static int begin_store(const struct consensus_begin *b, const char *name, const void *bytes,
                       size_t len, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", b->directory, name);
    struct disk_req look = {.op = DISK_STAT, .path = path};
    if (path == NULL) {
        return -ENOMEM;
    }
    int rc = (int)disk_now(b->env->disk, &look);
    if (rc != -ENOENT) {
        return err_set(e, rc < 0 ? rc : -EEXIST, "begin a log: '%s'", path);
    }
    rc = disk_store(b->env->disk, path, bytes, len);
    return rc < 0 ? err_set(e, rc, "write '%s'", path) : 0;
}

/* The journal is empty: opening it finds that, and begins behind the index. */
static int begin_snapshot(const struct consensus_begin *b, struct err *e)
{
    struct raft_configuration conf;
    struct raft_buffer encoded = {0};
    raft_configuration_init(&conf);
    int bad = raft_configuration_add(&conf, b->id, "", RAFT_VOTER);
    bad = bad != 0 ? bad : raft_configuration_encode(&conf, &encoded);
    raft_configuration_close(&conf);
    if (bad != 0) {
        return err_set(e, -EINVAL, "voter of '%s'", b->directory);
    }
    struct consensus_snapshot s = {.index = b->reference->index,
                                   .term = b->reference->term,
                                   .log_begin = b->reference->index + 1,
                                   .configuration_index = 1,
                                   .configuration = encoded.base,
                                   .configuration_len = encoded.len,
                                   .reference = b->reference->bytes,
                                   .reference_len = b->reference->len};
    memcpy(s.cluster, b->cluster, sizeof s.cluster);
    size_t len = consensus_snapshot_size(&s);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len);
    int rc = -ENOMEM;
    if (bytes != NULL) {
        consensus_snapshot_encode(&s, bytes);
        rc = begin_store(b, "snapshot", bytes, len, e);
    }
    raft_free(encoded.base);
    return rc;
}

int consensus_begin(const struct consensus_begin *b, struct err *e)
{
    struct consensus_term t = {.id = b->id, .term = b->reference->term};
    uint8_t bytes[CONSENSUS_TERM_BYTES];
    consensus_heap_use();
    memcpy(t.cluster, b->cluster, sizeof t.cluster);
    consensus_term_encode(&t, bytes);
    int rc = begin_snapshot(b, e); /* without a term file it is no log yet */
    return rc < 0 ? rc : begin_store(b, "term", bytes, sizeof bytes, e);
}
