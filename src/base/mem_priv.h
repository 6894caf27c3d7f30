/* base/mem_priv.h -- tells AddressSanitizer which bytes of a slab or arena nobody may touch now.
 * Nothing is compiled in elsewhere. */
#pragma once

#include "base/base.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define mem_poison(at, size) __asan_poison_memory_region((at), (size))
#define mem_unpoison(at, size) __asan_unpoison_memory_region((at), (size))
#else
#define mem_poison(at, size) ((void)(at), (void)(size))
#define mem_unpoison(at, size) ((void)(at), (void)(size))
#endif
