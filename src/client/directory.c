/* client/directory.c -- see directory.h. */
#include "client/directory.h"

#include "base/mem.h"
#include "disk/disk.h"

#include <string.h>

int client_directory_load_file(struct disk *d, const char *path, struct cluster_settings **ret,
                               struct err *e)
{
    CLEANUP(mem_freep) void *text = NULL;
    size_t len = 0;
    int rc = disk_load(d, path, CLUSTER_SETTINGS_MAX, &text, &len);
    if (rc < 0) {
        return err_set(e, rc, "configuration '%s'", path);
    }
    return cluster_settings_parse(text, len, path, ret, e);
}

int client_directory_load(struct disk *d, const char *directory, struct cluster_settings **ret,
                          struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", directory, CLUSTER_LOCAL_FILE);
    return path == NULL ? -ENOMEM : client_directory_load_file(d, path, ret, e);
}

int client_directory_line(struct disk *d, const char *path, char *out, size_t size)
{
    CLEANUP(mem_freep) void *text = NULL;
    size_t len = 0;
    int rc = disk_load(d, path, size - 1, &text, &len);
    if (rc < 0) {
        return rc;
    }
    memcpy(out, text, len);
    out[len] = 0;
    out[strcspn(out, " \t\r\n")] = 0;
    return 0;
}

bool client_directory_port_is_free_choice(const char *address)
{
    size_t len = strlen(address);
    return len > 2 && strcmp(address + len - 2, ":0") == 0;
}

static int published(struct disk *d, const struct cluster_settings *s, const char *name, char *out,
                     size_t size, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s.address", s->run_directory, name);
    int rc = path == NULL ? -ENOMEM : client_directory_line(d, path, out, size);
    return rc < 0 ? err_set(e, rc, "%s does not run ('%s')", name, path == NULL ? "" : path) : 0;
}

int client_directory_addresses(struct disk *d, const struct cluster_settings *s,
                               struct net_address **ret, struct err *e)
{
    CLEANUP(mem_freep) struct net_address *list = mem_calloc(s->meta_count, sizeof *list);
    if (list == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < s->meta_count; i++) {
        char line[NET_ADDRESS_SIZE];
        const char *text = s->metas[i].address;
        int rc = 0;
        if (client_directory_port_is_free_choice(text)) {
            rc = published(d, s, s->metas[i].name, line, sizeof line, e);
            text = line;
        }
        rc = rc < 0 ? rc : net_address_parse(text, CLUSTER_PORT_META, &list[i], e);
        if (rc < 0) {
            return rc;
        }
    }
    *ret = list;
    list = NULL;
    return 0;
}
