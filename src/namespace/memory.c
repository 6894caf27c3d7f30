#include "namespace/memory_priv.h"

#include <string.h>

static size_t namespace_memory_slot_place(uint64_t session, uint32_t slot)
{
    return (size_t)((session * UINT64_C(31) + slot) % NAMESPACE_MEMORY_SLOTS);
}

void namespace_memory_clear(struct namespace_memory *m)
{
    namespace_known_clear(&m->callers);
    memset(m->slot, 0, sizeof m->slot);
    namespace_memory_drop_dirs(m);
}

bool namespace_memory_is_newest(const struct namespace_memory *m, uint64_t session, uint32_t slot,
                                uint64_t sequence)
{
    const struct namespace_memory_slot *s = &m->slot[namespace_memory_slot_place(session, slot)];
    return s->session == session && s->slot == slot && s->sequence == sequence && session != 0;
}

void namespace_memory_put_slot(struct namespace_memory *m, uint64_t session, uint32_t slot,
                               uint64_t sequence)
{
    m->slot[namespace_memory_slot_place(session, slot)] =
        (struct namespace_memory_slot){.session = session, .slot = slot, .sequence = sequence};
}

bool namespace_memory_parent(const struct namespace_memory *m, uint64_t ino, uint64_t *ret)
{
    const struct namespace_memory_dir *d = &m->dir[ino % NAMESPACE_MEMORY_DIRS];
    if (d->ino != ino || ino == 0 || d->age != m->age) {
        return false;
    }
    *ret = d->parent;
    return true;
}

void namespace_memory_put_dir(struct namespace_memory *m, uint64_t ino, uint64_t parent)
{
    m->dir[ino % NAMESPACE_MEMORY_DIRS] =
        (struct namespace_memory_dir){.ino = ino, .parent = parent, .age = m->age};
}

void namespace_memory_drop_dir(struct namespace_memory *m, uint64_t ino)
{
    struct namespace_memory_dir *d = &m->dir[ino % NAMESPACE_MEMORY_DIRS];
    if (d->ino == ino) {
        *d = (struct namespace_memory_dir){0};
    }
}

void namespace_memory_drop_dirs(struct namespace_memory *m)
{
    m->age++;
}
