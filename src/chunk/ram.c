/* chunk/ram.c -- memory of the `ram` engine: blocks are numbers of pages, shared by all chunks. */
#include "chunk/parts_priv.h"

/* Block n is page n - 1: 0 means a hole everywhere. */
int chunk_ram_take(struct chunk_store *s, uint32_t *ret)
{
    if (s->free_count > 0) {
        *ret = s->free_page[--s->free_count];
        return 0;
    }
    uint64_t limit = base_min(s->opt.ram_bytes / CHUNK_BLOCK, CHUNK_BLOCK_LIMIT);
    if (s->page_count >= limit) {
        return -ENOSPC;
    }
    /* Room to give it back is made now, so that giving cannot fail. */
    int rc = mem_grow(&s->page, &s->page_capacity, s->page_count + 1, sizeof(uint8_t *));
    if (rc == 0) {
        rc = mem_grow(&s->free_page, &s->free_capacity, s->page_count + 1, sizeof(uint32_t));
    }
    uint8_t *page = rc < 0 ? NULL : mem_alloc(CHUNK_BLOCK);
    if (page == NULL) {
        return -ENOMEM;
    }
    s->page[s->page_count++] = page;
    *ret = (uint32_t)s->page_count;
    return 0;
}

void chunk_ram_give(struct chunk_store *s, uint32_t block)
{
    CHECK(block > 0);
    CHECK(s->free_count < s->page_count);
    s->free_page[s->free_count++] = block;
}

void chunk_ram_fini(struct chunk_store *s)
{
    for (size_t i = 0; i < s->page_count; i++) {
        mem_free(s->page[i]);
    }
    mem_free(s->page);
    mem_free(s->free_page);
}
