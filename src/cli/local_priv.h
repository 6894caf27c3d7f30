/* cli/local_priv.h -- a cluster on this machine, in one directory: its files and its processes. */
#pragma once

#include "cli/cli_priv.h"
#include "cluster/settings.h"
#include "disk/disk.h"

#define LOCAL_NEW_MARK "opendfs-new" /* in a directory that a server may make its own */

/* What the commands on a local cluster work with. */
struct local {
    struct cli *c;
    struct disk *disk;
    const char *directory;
    char *config_path;
    struct cluster_settings *settings;
    struct disk_file *lock; /* run/up.lock: one up or down at a time */
};
/* 0, or an exit status after having said why. */
NODISCARD int cli_local_open(struct local *l, struct cli *c, const char *directory);
/* Without a configuration: for init. */
NODISCARD int cli_local_begin(struct local *l, struct cli *c, const char *directory);
void cli_local_close(struct local *l);
NODISCARD int cli_local_lock(struct local *l);
NODISCARD int cli_local_write(struct local *l, const char *name, const char *text);

enum local_state { LOCAL_STOPPED, LOCAL_RUNNING };
/* Does the server hold its pid file? Its pid then. */
enum local_state cli_local_server(struct local *l, const char *name, int64_t *ret_pid);
/* run/NAME.SUFFIX; NULL: no memory. */
char *cli_local_run_path(const struct local *l, const char *name, const char *suffix);
/* Lets `ms` pass; the main loop runs meanwhile. */
void cli_local_wait_ms(struct local *l, uint64_t ms);

/* status.c: what the metadata leader says about the cluster. */
struct cluster_health {
    bool good; /* all chains have all their copies */
    size_t targets_up;
    char words[200];
};
NODISCARD int cli_status_ask(struct cli *c, struct cluster_health *ret);
/* All of it; 0 or an exit status. *ret is freed by cJSON_Delete(). */
NODISCARD int cli_status_json(struct cli *c, struct cJSON **ret);
/* Members of an object: "?" and 0 when it has none. */
const char *cli_json_text(const struct cJSON *o, const char *name);
uint64_t cli_json_number(const struct cJSON *o, const char *name);

/* targets.c: of the whole answer; nothing, when nothing is moved. */
void cli_print_moves(const struct cJSON *status);
/* The number of the target that a word names; 0: said why there is none. */
uint32_t cli_target_find(struct cli *c, const struct cJSON *status, const char *word);

/* chain.c: what the status says of a chain that nobody serves, and what could be done; NULL: it is
 * none. Lent. */
const struct cJSON *cli_dark_find(const struct cJSON *status, uint32_t chain);
void cli_dark_print(const struct cJSON *o);

int cli_run_up(struct cli *c);
int cli_run_down(struct cli *c);
int cli_run_status(struct cli *c);
