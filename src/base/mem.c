/*
 * base/mem.c -- allocation, domains and torture.
 *
 * In test builds every allocation carries a hidden header in front of what the caller sees: the
 * links of its domain's list, the domain and the size. That costs 48 bytes and gives three things:
 * a domain can be dropped as a whole, its bytes are known, and a stray pointer fails the check of
 * the header's magic number. Other builds call the C library directly.
 */
#include "base/mem.h"

#include "base/fault.h"
#include "base/list.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MEM_MAX_SIZE ((size_t)PTRDIFF_MAX / 2) /* leaves room for headers and alignment */

#define MEM_PAGE_BYTES ((size_t)4096)

#ifdef ODFS_FAULTS

#define MEM_MAGIC 0x6d656d21u
#define MEM_MAGIC_FREED 0x66726565u

struct mem_domain {
    struct list blocks; /* mem_header.link */
    size_t used_bytes;
    struct fault *fault; /* may be NULL */
};

struct mem_header {
    struct list link;          /* in domain->blocks; unused without a domain */
    struct mem_domain *domain; /* may be NULL */
    size_t size;
    uint32_t magic;
    uint32_t front; /* bytes from the start of the C library's block to the caller's */
};
_Static_assert(sizeof(struct mem_header) <= 48, "three units of 16");
#define MEM_FRONT 48u

/*
 * The one exception to "no file-scope state", in test builds only: an allocation has no parameter
 * that could say for which simulated process it is or whether a torture run wants it to fail. Per
 * thread, so that neither needs a lock and a count does not depend on other threads.
 */
static _Thread_local struct {
    struct mem_domain *domain;
    uint64_t count;   /* allocations tried so far */
    uint64_t fail_at; /* the one that fails; 0: none */
} mem_thread;

/* True when this allocation must fail. */
static bool mem_torture(void)
{
    mem_thread.count++;
    if (mem_thread.count == mem_thread.fail_at) {
        return true;
    }
    return mem_thread.domain != NULL && FAULT(mem_thread.domain->fault, "mem.alloc");
}

static struct mem_header *mem_header_of(void *p)
{
    struct mem_header *h = (void *)((uint8_t *)p - sizeof(struct mem_header));
    CHECK(h->magic == MEM_MAGIC); /* not ours, overwritten, or freed before */
    return h;
}

static void *mem_new(struct mem_domain *d, size_t alignment, size_t size)
{
    size_t front = alignment > MEM_FRONT ? alignment : MEM_FRONT;
    if (size > MEM_MAX_SIZE || front > UINT32_MAX || mem_torture()) {
        return NULL;
    }
    /* 16 is what malloc promises, and its redzones are tighter than those behind rounded-up sizes.
     */
    uint8_t *block = alignment <= 16
                         ? malloc(front + size)
                         : aligned_alloc(alignment, base_align_up(front + size, alignment));
    if (block == NULL) {
        return NULL;
    }
    struct mem_header *h = (void *)(block + front - sizeof *h);
    *h = (struct mem_header){
        .domain = d, .size = size, .magic = MEM_MAGIC, .front = (uint32_t)front};
    if (d != NULL) {
        list_push_back(&d->blocks, &h->link);
        d->used_bytes += size;
    }
    return block + front;
}

static void mem_release(struct mem_header *h)
{
    h->magic = MEM_MAGIC_FREED;
    free((uint8_t *)h + sizeof *h - h->front);
}

void *mem_alloc(size_t size)
{
    return mem_new(mem_thread.domain, 16, size);
}

void *mem_zalloc(size_t size)
{
    void *p = mem_alloc(size);
    if (p != NULL) {
        memset(p, 0, size);
    }
    return p;
}

void *mem_aligned(size_t alignment, size_t size)
{
    CHECK(alignment != 0 && (alignment & (alignment - 1)) == 0);
    /* A smaller front would break alignments between 16 and 64; mem_new makes it a multiple. */
    return mem_new(mem_thread.domain, alignment < 64 && alignment > 16 ? 64 : alignment, size);
}

/* Always moves, which finds those who keep the old pointer. The new block stays in the domain of
 * the old one. */
void *mem_realloc(void *p, size_t size)
{
    if (p == NULL) {
        return mem_alloc(size);
    }
    struct mem_header *h = mem_header_of(p);
    void *grown = mem_new(h->domain, 16, size);
    if (grown != NULL) {
        memcpy(grown, p, h->size < size ? h->size : size);
        mem_free(p);
    }
    return grown;
}

void mem_free(void *p)
{
    if (p == NULL) {
        return;
    }
    struct mem_header *h = mem_header_of(p);
    if (h->domain != NULL) { /* its own, whichever is entered now */
        list_remove(&h->link);
        h->domain->used_bytes -= h->size;
    }
    mem_release(h);
}

void mem_fail_at(uint64_t nth)
{
    mem_thread.fail_at = nth == 0 ? 0 : mem_thread.count + nth;
}

uint64_t mem_count(void)
{
    return mem_thread.count;
}

/* Of the C library: a domain belongs to the simulator, which is not what a torture run tortures. */
struct mem_domain *mem_domain_new(void)
{
    struct mem_domain *d = calloc(1, sizeof *d);
    if (d != NULL) {
        list_init(&d->blocks);
    }
    return d;
}

void mem_domain_drop(struct mem_domain *d)
{
    if (d == NULL) {
        return;
    }
    CHECK(mem_thread.domain != d); /* who runs in it would return into freed memory */
    LIST_FOR_EACH_SAFE(node, &d->blocks)
    {
        mem_release(LIST_ENTRY(node, struct mem_header, link));
    }
    free(d);
}

struct mem_domain *mem_domain_enter(struct mem_domain *d)
{
    struct mem_domain *previous = mem_thread.domain;
    mem_thread.domain = d;
    return previous;
}

size_t mem_domain_bytes(const struct mem_domain *d)
{
    return d != NULL ? d->used_bytes : 0;
}

void mem_domain_set_fault(struct mem_domain *d, struct fault *f)
{
    if (d != NULL) {
        d->fault = f;
    }
}

void *mem_pages(size_t size) /* as tight as others: whoever writes past its end shall be seen */
{
    return mem_aligned(MEM_PAGE_BYTES, size);
}

#else /* !ODFS_FAULTS */

void *mem_alloc(size_t size)
{
    return size <= MEM_MAX_SIZE ? malloc(size) : NULL;
}

void *mem_zalloc(size_t size)
{
    return size <= MEM_MAX_SIZE ? calloc(1, size) : NULL;
}

void *mem_aligned(size_t alignment, size_t size)
{
    CHECK(alignment != 0 && (alignment & (alignment - 1)) == 0);
    if (size > MEM_MAX_SIZE || alignment > MEM_MAX_SIZE) {
        return NULL;
    }
    return aligned_alloc(alignment, base_align_up(size, alignment));
}

void *mem_pages(size_t size)
{
    bool huge = size >= MEM_HUGE_BYTES;
    void *p = mem_aligned(huge ? MEM_HUGE_BYTES : MEM_PAGE_BYTES, size);
    if (p != NULL && huge) {
        (void)madvise(p, size, MADV_HUGEPAGE); /* small ones do as well */
    }
    return p;
}

void *mem_realloc(void *p, size_t size)
{
    return size <= MEM_MAX_SIZE ? realloc(p, size != 0 ? size : 1) : NULL; /* 0 would free p */
}

void mem_free(void *p)
{
    free(p);
}

void mem_fail_at(uint64_t nth)
{
    (void)nth;
}

uint64_t mem_count(void)
{
    return 0;
}

struct mem_domain *mem_domain_new(void)
{
    return NULL;
}

void mem_domain_drop(struct mem_domain *d)
{
    (void)d;
}

struct mem_domain *mem_domain_enter(struct mem_domain *d)
{
    return d;
}

size_t mem_domain_bytes(const struct mem_domain *d)
{
    (void)d;
    return 0;
}

void mem_domain_set_fault(struct mem_domain *d, struct fault *f)
{
    (void)d;
    (void)f;
}

#endif

void *mem_calloc(size_t count, size_t size)
{
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : mem_zalloc(total);
}

void *mem_dup(const void *from, size_t size)
{
    void *p = mem_alloc(size);
    if (p != NULL && size > 0) {
        memcpy(p, from, size);
    }
    return p;
}

char *mem_strdup(const char *text)
{
    return mem_dup(text, strlen(text) + 1);
}

char *mem_printf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = len < 0 ? NULL : mem_alloc((size_t)len + 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)len + 1, fmt, again);
    }
    va_end(again);
    return text;
}

int mem_grow(void *array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) {
        return 0;
    }
    size_t doubled = *capacity > SIZE_MAX / 2 ? SIZE_MAX : *capacity * 2;
    size_t wanted = need > doubled ? need : doubled;
    size_t total;
    if (__builtin_mul_overflow(wanted, size, &total)) {
        return -ENOMEM;
    }
    void *old;
    memcpy(&old, array, sizeof old); /* any type of pointer stands there */
    void *grown = mem_realloc(old, total);
    if (grown == NULL) {
        return -ENOMEM;
    }
    memcpy(array, &grown, sizeof grown);
    *capacity = wanted;
    return 0;
}
