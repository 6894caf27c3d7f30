/*
 * disk/sim_cache.c -- which pages of simulated files the page cache has. It never decides what is
 * read, only whether a read is said to wait for the medium.
 */
#include "disk/sim_cache_priv.h"

#include <string.h>

#define BITS 64u

static uint64_t bit_of(uint64_t page)
{
    return UINT64_C(1) << (page % BITS);
}

static uint64_t *word_of(struct sim_leaf *leaf, uint64_t page)
{
    return &leaf->cached[page % SIM_LEAF_PAGES / BITS];
}

void disk_sim_cache_add(struct sim_node *n, uint64_t offset, uint64_t len)
{
    if (n->machine->cache != DISK_SIM_CACHE_EXACT || len == 0) {
        return;
    }
    for (uint64_t page = offset / SIM_PAGE; page <= (offset + len - 1) / SIM_PAGE; page++) {
        struct sim_leaf *leaf = disk_sim_leaf(n, page);
        if (leaf != NULL) { /* of a hole nothing is kept */
            *word_of(leaf, page) |= bit_of(page);
        }
    }
}

bool disk_sim_cache_has(struct sim_node *n, uint64_t offset, uint64_t len)
{
    for (uint64_t page = offset / SIM_PAGE; len > 0 && page <= (offset + len - 1) / SIM_PAGE;
         page++) {
        struct sim_leaf *leaf = disk_sim_leaf(n, page);
        if (leaf == NULL || (*word_of(leaf, page) & bit_of(page)) == 0) {
            return false;
        }
    }
    return true;
}

void disk_sim_cache_forget(struct sim_node *n)
{
    for (size_t i = 0; i < n->file.leaf_count; i++) {
        memset(n->file.leaf[i]->cached, 0, sizeof n->file.leaf[i]->cached);
    }
}

void disk_sim_cache_mode(struct disk_sim *m, enum disk_sim_cache_mode mode)
{
    m->cache = mode;
    disk_sim_cache_empty(m);
}

void disk_sim_cache_empty(struct disk_sim *m)
{
    LIST_FOR_EACH(at, &m->nodes)
    {
        disk_sim_cache_forget(LIST_ENTRY(at, struct sim_node, node));
    }
}

static unsigned bits_set(uint64_t word)
{
    return (unsigned)__builtin_popcountll(word);
}

uint64_t disk_sim_cached_bytes(const struct disk_sim *m)
{
    uint64_t pages = 0;
    LIST_FOR_EACH(at, &m->nodes)
    {
        const struct sim_node *n = LIST_ENTRY(at, struct sim_node, node);
        for (size_t i = 0; i < n->file.leaf_count; i++) {
            for (size_t k = 0; k < SIM_LEAF_PAGES / BITS; k++) {
                pages += bits_set(n->file.leaf[i]->cached[k]);
            }
        }
    }
    return pages * SIM_PAGE;
}

void disk_sim_no_direct(struct disk_sim *m, bool on)
{
    m->no_direct = on;
}
