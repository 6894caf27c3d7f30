/* consensus/heap.h -- libraft allocates by mem_*; process-wide, once. Guard G1: out of memory
 * aborts, because libraft's own unwinding is not sound. */
#pragma once

void consensus_heap_use(void);
