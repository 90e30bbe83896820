/* The file of server.state_file:
 *
 *     { "weir_state": 1, "sections": { "endpoints": { ... }, ... } }
 *
 * It is replaced as a whole: whatever happens while it is written, what stands there is the old one
 * or the new one. A reader believes nothing: what is damaged, too large or not of this version is
 * set aside as PATH.bad (in place of one that was set aside before), so that it can be looked at
 * and is in nobody's way. Any thread that may wait for a disk. */
#pragma once

#include "base/clock.h"

#include <jansson.h>
#include <stdatomic.h>

#define STATE_FILE_VERSION 1
#define STATE_FILE_MAX (1 << 20)          /* bytes, read or written */
#define STATE_FILE_BUSY_NS (5 * NS_PER_S) /* another process, writing it, is waited for */

/* A new object, the sections; NULL: there are none to be had, and unless that is because there is
 * no such file, the log says why. */
json_t *state_file_read(const char *path);

/* Writes PATH.new, syncs it and puts it in place of PATH, unless *@is_over says by then that it is
 * no longer ours to write. -errno: nothing has changed at PATH; -EBUSY: another process has been
 * writing it for STATE_FILE_BUSY_NS; -EFBIG: beyond STATE_FILE_MAX, too; -ECANCELED: *@is_over. */
int state_file_write(const char *path, const json_t *sections, const atomic_bool *is_over);
