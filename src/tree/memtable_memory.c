#include "tree/memtable_priv.h"

#include <string.h>

/* ---- memory ---- */

#define BLOCK_BYTES (256u << 10)
#define BLOCK_HEADER ((size_t)base_align_up(sizeof(struct memtable_block), 16))

bool tree_memtable_charge(struct mem_budget *b, bool force, size_t size)
{
    if (b != NULL && force) {
        mem_budget_force(b, size);
        return true;
    }
    return b == NULL || mem_budget_take(b, size);
}

static struct memtable_block *block_new(struct tree_memtable *m, size_t size)
{
    if (!tree_memtable_charge(m->budget, m->force, size)) {
        return NULL;
    }
    struct memtable_block *b = m->slab != NULL ? mem_slab_get(m->slab, size) : mem_alloc(size);
    if (b == NULL) {
        if (m->budget != NULL) {
            mem_budget_give(m->budget, size);
        }
        return NULL;
    }
    b->size = size;
    b->next = m->blocks;
    m->blocks = b;
    m->bytes += size;
    return b;
}

void *tree_memtable_take(struct tree_memtable *m, size_t size)
{
    size = (size_t)base_align_up(size, 8);
    if (size <= m->left) {
        uint8_t *p = m->at;
        m->at += size;
        m->left -= size;
        return p;
    }
    size_t whole = (m->block_bytes == 0 ? BLOCK_BYTES : m->block_bytes) - BLOCK_HEADER;
    bool alone = size > whole / 4; /* what is left of the present block stays in use */
    struct memtable_block *b = block_new(m, BLOCK_HEADER + (alone ? size : whole));
    if (b == NULL) {
        return NULL;
    }
    uint8_t *p = (uint8_t *)b + BLOCK_HEADER;
    if (!alone) {
        m->at = p + size;
        m->left = whole - size;
    }
    return p;
}

/* ---- versions ---- */

static unsigned class_of(size_t size)
{
    if (size <= 512) {
        return (unsigned)((size + 7) / 8);
    }
    unsigned top = 63U - (unsigned)__builtin_clzll(size - 1); /* 9: 513 .. 1024 */
    unsigned quarter = (unsigned)((size - 1) >> (top - 2) & 3U);
    return 65 + (top - 9) * 4 + quarter;
}

static size_t class_size(unsigned c)
{
    if (c <= 64) {
        return (size_t)c * 8U;
    }
    unsigned top = 9 + (c - 65) / 4;
    return ((size_t)1 << top) + (((size_t)(c - 65) % 4 + 1) << (top - 2));
}

struct tree_memtable_version *tree_memtable_version_new(struct tree_memtable *m, size_t len)
{
    unsigned c = class_of(sizeof(struct tree_memtable_version) + len);
    CHECK(c < MEMTABLE_CLASSES);
    struct tree_memtable_version *v = m->spare[c];
    if (v != NULL) {
        m->spare[c] = v->rest;
    } else {
        v = tree_memtable_take(m, class_size(c));
    }
    if (v != NULL) {
        v->size_class = (uint8_t)c;
        v->held = false;
        v->rest = NULL;
        v->len = (uint32_t)len;
    }
    return v;
}

size_t tree_memtable_version_size(const struct tree_memtable_version *v)
{
    return class_size(v->size_class);
}

void tree_memtable_version_put(struct tree_memtable *m, struct tree_memtable_version *v)
{
    CHECK(!v->held);
    v->rest = m->spare[v->size_class];
    m->spare[v->size_class] = v;
}
