/* How much memory this process may use, and uses. A figure that cannot be read is 0, and asks for
 * nothing: a broken monitor must not shut the service. Blocks no longer than procfs does. */
#pragma once

#include <stdint.h>

/* The least of what the memory cgroups above this process (v1 or v2) and the machine have; bytes.
 * @root is put before /proc and /sys ("" but in tests). */
uint64_t memory_limit(const char *root);

/* Opens what memory_used() reads; -errno. The caller closes it. */
int memory_open(void);

/* Resident bytes of this process. */
uint64_t memory_used(int fd);
