/* prog/opendfs.c -- the one executable: the commands of cli/ and the servers. */
#include "cli/cli.h"
#include "cluster/settings.h"
#include "servers.h"

#include <stdio.h>
#include <string.h>

#define CONFIG                                                                     \
    {                                                                              \
        "config", 'c', "FILE", "configuration of the cluster; default cluster.ini" \
    }
#define LOG                                                                            \
    {                                                                                  \
        "log", 0, "FILE", "where the log goes, at the end; default: to standard error" \
    }
#define END                 \
    {                       \
        NULL, 0, NULL, NULL \
    }

static const struct cli_option meta_options[] = {
    CONFIG, {"name", 'n', "NAME", "which [meta.N], if there are several"}, LOG, END};
static const struct cli_option mount_options[] = {
    {"options", 'o', "LIST", "options of mount(8), separated by commas"},
    {"status", 0, NULL,
     "show what is mounted, and what those mounts do; DIRECTORY alone: that one"},
    {"foreground", 'f', NULL, "stay in the foreground, until SIGINT, SIGTERM or unmounted"},
    END};
static const struct cli_option config_options[] = {CONFIG, END};
static const struct cli_option data_options[] = {
    CONFIG,
    {"node", 'n', "NAME", "which [node.N], if there are several"},
    LOG,
    {"check", 0, NULL, "only say whether it could be started with this configuration"},
    END};
static const struct cli_option worker_options[] = {
    CONFIG, {"target", 't', "NAME", "which [target.N]"}, LOG, END};

#define OLDER                                                                    \
    {                                                                            \
        "older", 0, NULL, "the older of the two checkpoints that the file holds" \
    }
static const struct cli_option tree_verify_options[] = {
    {"level", 'l', "1|2|3|4",
     "how much: tables, nodes, partitions, order between levels (default)"},
    OLDER,
    {"notes", 0, NULL, "also what is as it may be"},
    END};
static const struct cli_option tree_dump_options[] = {
    {"block", 'b', "N", "one node: header, slots, partitions"},
    {"segments", 0, NULL, "the memtable segments with their blocks"},
    {"keys", 'k', NULL, "records and messages: of the node, the segments, or everything"},
    {"values", 0, NULL, "with their values"},
    {"from", 0, "KEY", "only keys from here on; \\xNN is a byte"},
    {"to", 0, "KEY", "only keys before this one"},
    OLDER,
    END};
static const struct cli_option older_options[] = {OLDER, END};
static const struct cli_option chunk_walk_options[] = {
    {"data", 0, "ID", "only chunks of this data id"}, END};
static const struct cli_option chunk_rebuild_options[] = {
    {"without-journal", 0, NULL, "do not look at the journal: what only it has is lost"}, END};
static const struct cli_option chunk_format_options[] = {
    {"force", 0, NULL, "also when there is something on it, which is lost then"}, END};
static const struct cli_option tree_rebuild_options[] = {
    {"out", 'o', "FILE", "the new file; must not be there"},
    OLDER,
    {"index", 0, "N", "applied index, when no superblock says it"},
    {"term", 0, "N", "and the term"},
    {"owner", 0, "ID", "id of the cluster, when no superblock says it"},
    END};

static const struct cli_command servers[] = {
    {.name = "meta",
     .arguments = "",
     .summary = "run a metadata server in the foreground",
     .details = "SIGTERM ends it in good order, SIGHUP reads the log level anew and opens the log "
                "anew, SIGUSR1 only\nopens the log anew. Started as root, it becomes `user` of "
                "[cluster] before it opens its directory.",
     .options = meta_options,
     .run = server_meta},
    {.name = "meta backup",
     .arguments = "FILE",
     .summary = "write all metadata, as of one moment, to a file",
     .details = "The server goes on meanwhile. The file is FILE.partial until it was read back and "
                "is sound.\nContents of files are not in it, but for small ones: see `get`.",
     .options = config_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_meta_backup},
    {.name = "meta verify",
     .arguments = "FILE",
     .summary = "check every byte of a backup",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_meta_verify},
    {.name = "meta restore",
     .arguments = "FILE DIR",
     .summary = "make a metadata directory from a backup",
     .details =
         "DIR must be empty or not there. Stop the metadata server before, and wait a minute: "
         "what clients may\nstill write ends by then. Clients of that time are told that their "
         "sessions are over. Files that were\nremoved or changed since may lack contents. DIR is "
         "for "
         "the engine of the [meta.N] that has it as\ndirectory, or of the first: that is how "
         "records "
         "move from one engine to another.",
     .options = config_options,
     .min_arguments = 2,
     .max_arguments = 2,
     .run = server_meta_restore},
    {.name = "tree verify",
     .arguments = "FILE",
     .summary = "check a file of the tree engine",
     .details =
         "For a file that no server has open. Changes nothing. Each finding says what is wrong "
         "and where, which keys\nand about how many records are affected, and what to do. The "
         "exit status is 1 when there are any.\nLevel 1 reads superblocks and tables, 2 also "
         "the header of every node, 3 every byte, 4 also compares\nmessages of a key with those "
         "below.",
     .options = tree_verify_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_tree_verify},
    {.name = "tree dump",
     .arguments = "FILE",
     .summary = "show what is in a file of the tree engine",
     .details = "Without options superblocks, the table of blocks and memtable segments. What is "
                "damaged becomes a line\n`damage`, and the exit status is 1.",
     .options = tree_dump_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_tree_dump},
    {.name = "tree stats",
     .arguments = "FILE",
     .summary = "sizes in a file of the tree engine: levels, free space, memtables",
     .details = "Reads headers only.",
     .options = older_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_tree_stats},
    {.name = "tree copy",
     .arguments = "FILE NEW",
     .summary = "make a compact copy of a file of the tree engine",
     .details = "For a file that no server has open, which is only read. The newest checkpoint is "
                "copied, without free space;\neach part is verified, and NEW is NEW.partial until "
                "it is whole and checked. A copy that was interrupted\ngoes on with what is there. "
                "Damage ends it and is named: see `tree rebuild`.",
     .options = older_options,
     .min_arguments = 2,
     .max_arguments = 2,
     .run = server_tree_copy},
    {.name = "tree rebuild",
     .arguments = "FILE",
     .summary = "save what can be saved of a damaged file of the tree engine",
     .details =
         "For a file that no server has open, which is only read. All of it is scanned for nodes; "
         "what is sound goes to\nthe new file, and each line says what is lost: which keys, and "
         "about how many records. The new file is\nverified before it gets its name. The exit "
         "status is 1 when something is lost.\nWithout any superblock nobody knows up to where "
         "the file has the log (applied index), and whose it is; no server\nopens a new file "
         "without its owner. Give --index and --owner only if you know them: a server that is "
         "told a wrong\nindex misses changes, or makes them twice.",
     .options = tree_rebuild_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_tree_rebuild},
    {.name = "chunk stats",
     .arguments = "DIR",
     .summary = "figures of the data directory of a target",
     .details = "For a directory that no server has open. It is started as a server would: what "
                "its journal has is done\nagain, and then it is marked as clean.",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_chunk_stats},
    {.name = "chunk dump",
     .arguments = "DIR",
     .summary = "list the chunks of a data directory",
     .details = "As `chunk stats`, behind a line for each chunk: file data id and index, chain, "
                "identity, length, digest.",
     .options = chunk_walk_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_chunk_dump},
    {.name = "chunk verify",
     .arguments = "DIR",
     .summary = "read all chunks of a data directory and compare their checksums",
     .details = "As `chunk stats`; all contents are read from the medium. A line says which chunk "
                "is damaged, and the exit\nstatus is 1 then. The server repairs it from another "
                "copy when it runs. Where there is an index, all of it is\nread and compared with "
                "itself; contradictions are counted, and the exit status is 1, too.",
     .options = chunk_walk_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_chunk_verify},
    {.name = "chunk rebuild",
     .arguments = "DIR",
     .summary = "save a data directory whose index or journal is damaged",
     .details =
         "For a directory that no server has open, and that none can start. What is left of the "
         "index and of the\njournal is read, all contents are read from the medium and compared "
         "with their checksums, and what is\ngood goes into a new index, which takes the place of "
         "the old one. A line says of each chunk that is lost.\nThe target then asks the others of "
         "its chains for what it lacks before it serves. Nothing goes back:\ncopy the directory "
         "before if in doubt. The exit status is 1 when anything was lost.",
     .options = chunk_rebuild_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_chunk_rebuild},
    {.name = "chunk format",
     .arguments = "DEVICE",
     .summary = "make a raw block device ready for a target",
     .details = "Writes a header to it, which the first target takes that has it as `device` in "
                "its [target.N]. A device\nwith anything on it is refused, and so is one that is "
                "mounted or that a server has.",
     .options = chunk_format_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = server_chunk_format},
    {.name = "mount",
     .arguments = "[CLUSTER:]/PATH DIRECTORY",
     .summary = "mount a directory of the tree on one of this machine",
     .details =
         "Goes to the background when it is mounted; `umount DIRECTORY` ends it (fusermount3 -u "
         "for "
         "users). CLUSTER is a\ndirectory made by `opendfs init`, or HOST:PORT,... with "
         "secret=FILE. Options are those of other file systems (ro,\nnosuid, nodev, noexec, sync, "
         "noatime, allow_other, ...) and\n\n"
         "  cluster=CLUSTER  as above\n  secret=FILE      client secret, with addresses\n"
         "  soft             calls fail after timeout=SECONDS (60) without servers; else they "
         "wait\n  cache=SIZE       memory for data in flight and read ahead (256M)\n"
         "  readahead=SIZE   how far the kernel reads ahead of who reads in order (1M), for root\n"
         "  log=FILE         where messages go after the start; default: nowhere, --foreground: "
         "standard error\n\nRoot's mounts are open to all users, and set-id bits and devices "
         "count, as elsewhere. In /etc/fstab:\n\n"
         "  10.0.0.1:9400,10.0.0.2:9400:/  /data  opendfs  _netdev,secret=/etc/opendfs/client.key"
         "  0 0\n\nneeds a link /sbin/mount.opendfs to this program. With systemd: "
         "Type=notify and --foreground.",
     .options = mount_options,
     .min_arguments = 0,
     .max_arguments = 2,
     .run = server_mount},
    {.name = "data",
     .arguments = "",
     .summary = "run a data node in the foreground",
     .details =
         "A master process that runs one worker process for each target of the node and "
         "starts it again\nwhen it ends or hangs. SIGTERM ends all in good order. SIGHUP reads "
         "the configuration and opens the log\nanew: targets are added and removed, and those "
         "with other settings restarted; all others notice nothing.\nSIGUSR1 only opens the "
         "log anew. SIGUSR2 upgrades to the executable that lies there now: the process "
         "stays,\nand with it all sockets; one worker after the other is restarted. Started "
         "as root, it becomes `user` of\n[cluster] before it starts workers.",
     .options = data_options,
     .run = server_data},
    {.name = "data-worker",
     .arguments = "",
     .summary = "serve one target; started by the master",
     .options = worker_options,
     .hidden = true,
     .run = server_worker},
};

const char *server_config(const struct cli *c)
{
    const char *config = cli_value(c, "config");
    return config == NULL ? CLUSTER_LOCAL_FILE : config;
}

/* As mount(8) calls its helpers: mount.opendfs SOURCE DIRECTORY [-sfnvrw] [-o LIST] [-t TYPE]. */
static int mount_helper(struct cli_options *o, int argc, char **argv)
{
    enum { WORDS = 8 };
    char *words[WORDS] = {argv[0], "mount"}, list[8192] = "";
    int count = 2;
    for (int i = 1; i < argc; i++) {
        bool flag = argv[i][0] == '-' && argv[i][1] != '\0';
        const char *more = NULL;
        if (flag && strchr(argv[i], 'f') != NULL) {
            return 0; /* only as if */
        }
        if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) {
            more = argv[++i];
        } else if ((strcmp(argv[i], "-t") == 0 || strcmp(argv[i], "-N") == 0) && i + 1 < argc) {
            i++;
        } else if (flag) {
            more = strchr(argv[i], 'r') != NULL ? "ro" : NULL;
        } else if (count < 4) {
            words[count++] = argv[i];
        }
        size_t len = strlen(list);
        if (more != NULL && strlen(more) + len + 2 > sizeof list) {
            fprintf(stderr, "mount.opendfs: options of more than %zu bytes\n", sizeof list);
            return 1;
        }
        if (more != NULL) {
            snprintf(list + len, sizeof list - len, "%s%s", len > 0 ? "," : "", more);
        }
    }
    words[count++] = "-o";
    words[count++] = list;
    return cli_main(o, count, words);
}

static bool is_helper(const char *name)
{
    const char *slash = strrchr(name, '/');
    return strcmp(slash == NULL ? name : slash + 1, "mount.opendfs") == 0;
}

int main(int argc, char **argv)
{
    setvbuf(stderr, NULL, _IOLBF, 8192); /* a message is one write */
    struct cli_options o = {.commands = servers, .command_count = sizeof servers / sizeof *servers};
    return argc > 0 && is_helper(argv[0]) ? mount_helper(&o, argc, argv) : cli_main(&o, argc, argv);
}
