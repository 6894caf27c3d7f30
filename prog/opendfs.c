/* prog/opendfs.c -- the one executable: the commands of cli/ and the servers. */
#include "cli/cli.h"
#include "cluster/settings.h"
#include "servers.h"

#include <stdio.h>

#define CONFIG                                                                     \
    {                                                                              \
        "config", 'c', "FILE", "configuration of the cluster; default cluster.ini" \
    }
#define END                 \
    {                       \
        NULL, 0, NULL, NULL \
    }

static const struct cli_option meta_options[] = {
    CONFIG, {"name", 'n', "NAME", "which [meta.N], if there are several"}, END};
static const struct cli_option config_options[] = {CONFIG, END};
static const struct cli_option data_options[] = {
    CONFIG, {"node", 'n', "NAME", "which [node.N], if there are several"}, END};
static const struct cli_option worker_options[] = {
    CONFIG, {"target", 't', "NAME", "which [target.N]"}, END};

static const struct cli_command servers[] = {
    {.name = "meta",
     .arguments = "",
     .summary = "run a metadata server in the foreground",
     .details = "SIGTERM ends it in good order, SIGHUP reads the log level anew. The log goes to "
                "standard error.",
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
    {.name = "data",
     .arguments = "",
     .summary = "run a data node in the foreground",
     .details = "A master process that runs one worker process for each target of the node and "
                "starts it again\nwhen it ends. SIGTERM ends all in good order.",
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

int main(int argc, char **argv)
{
    setvbuf(stderr, NULL, _IOLBF, 8192); /* a message is one write */
    struct cli_options o = {.commands = servers, .command_count = sizeof servers / sizeof *servers};
    return cli_main(&o, argc, argv);
}
