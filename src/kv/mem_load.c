#include "kv/mem_load_priv.h"

#include "base/mem.h"
#include "kv/image_file.h"
#include "kv/mem_build_priv.h"

static int load_records(struct kv_image_file *f, struct kv_mem_build *b, struct err *e)
{
    struct kv_slice key, value;
    int rc = kv_image_file_next(f, &key, &value, e);
    while (rc == 1) {
        rc = kv_mem_build_add(b, key, value);
        rc = rc < 0 ? rc : kv_image_file_next(f, &key, &value, e);
    }
    return rc;
}

int kv_mem_load(struct disk *d, const char *path, struct kv_mem_tree *tree,
                struct kv_image_info *ret, struct err *e)
{
    struct kv_image_file f;
    CLEANUP(mem_freep) struct kv_mem_build *b = mem_alloc(sizeof *b);
    int rc = b == NULL ? -ENOMEM : kv_image_file_open(d, path, &f, e);
    if (rc < 0) {
        return rc;
    }
    kv_mem_build_init(b, tree->pool);
    rc = load_records(&f, b, e);
    rc = rc < 0 ? rc : kv_mem_build_finish(b, tree);
    if (rc == 0) {
        *ret = f.reader.info;
    }
    kv_mem_build_fini(b);
    kv_image_file_close(&f);
    return rc;
}
