/* prog/servers.h -- the commands that are servers. */
#pragma once

#include "cli/cli.h"
#include "cluster/settings.h"
#include "metanode/metanode.h"
#include "tree/line.h"

int server_meta(struct cli *c);        /* opendfs meta */
int server_meta_backup(struct cli *c); /* opendfs meta backup, and so on */
int server_meta_verify(struct cli *c);
int server_meta_restore(struct cli *c);
int server_tree_verify(struct cli *c); /* opendfs tree verify, and so on */
int server_tree_dump(struct cli *c);
int server_tree_stats(struct cli *c);
int server_tree_copy(struct cli *c);
int server_tree_rebuild(struct cli *c);
int server_chunk_stats(struct cli *c); /* opendfs chunk stats, and so on */
int server_chunk_dump(struct cli *c);
int server_chunk_verify(struct cli *c);
int server_chunk_format(struct cli *c);
int server_chunk_rebuild(struct cli *c);
int server_mount(struct cli *c);  /* opendfs mount */
int server_data(struct cli *c);   /* opendfs data: the master */
int server_worker(struct cli *c); /* started by the master */

/* --config, or the file in the working directory. */
const char *server_config(const struct cli *c);

/* Lines of a tool go to standard output, as --json says. */
struct tree_lines server_lines(const struct cli *c);

/* What the configuration calls it. */
enum metanode_engine_kind server_meta_engine(const struct cluster_settings_meta *m);

#define SERVER_STOP_MS 10000u
