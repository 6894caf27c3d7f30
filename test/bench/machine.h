/*
 * bench/machine.h -- what the machine does by itself, to judge figures by, and what the processes
 * of a local cluster use of it. Everything blocks; 0 or a negative errno.
 */
#pragma once

#include "bench.h"

#define MACHINE_FILE_BYTES (UINT64_C(2) << 30)

double machine_now(void); /* seconds of a steady clock */
/* CPU seconds so far of the processes of the cluster in `directory` whose names begin so: "node."
 * (masters), "target." (workers), "meta."; "": all. */
double machine_cluster_cpu(const char *directory, const char *names);
/* Writes MACHINE_FILE_BYTES to each of two files in `directory`, by turns, and syncs both at the
 * end; removes them. The least that two copies on one disk can cost. */
int machine_files(const char *directory, double *ret_seconds);
/* Sends a cached file of MACHINE_FILE_BYTES by sendfile through a loopback TCP connection to a
 * thread that throws it away. The least that a read through the network can cost. */
int machine_socket(const char *directory, double *ret_seconds);
