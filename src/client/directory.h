/*
 * client/directory.h -- a cluster named by its directory: the configuration file in it, and where
 * its metadata servers listen. Blocks: start-up and tools only.
 */
#pragma once

#include "cluster/settings.h"
#include "net/stream.h"

struct disk;

/* DIRECTORY/cluster.ini. `e` names file, line and key. */
NODISCARD int client_directory_load(struct disk *d, const char *directory,
                                    struct cluster_settings **ret, struct err *e);
/* The same by the path of the file. */
NODISCARD int client_directory_load_file(struct disk *d, const char *path,
                                         struct cluster_settings **ret, struct err *e);
/* Addresses of the metadata servers, s->meta_count of them, freed by mem_free(); those with port 0
 * from run/NAME.address, where the server published its own. -ENOENT: it has not been started. */
NODISCARD int client_directory_addresses(struct disk *d, const struct cluster_settings *s,
                                         struct net_address **ret, struct err *e);
bool client_directory_port_is_free_choice(const char *address); /* port 0 */
/* A small text file without its line end. */
NODISCARD int client_directory_line(struct disk *d, const char *path, char *out, size_t size);
