/* Watched files (weir_host.watch): files of the configuration that plugins read, such as keys, and
 * that may change while weir runs.
 *
 * One process, the gateway, reads them: at once when they are asked for, and again, on a thread of
 * its own that may wait for a disk, when they have changed and stayed the same for a second. A file
 * that cannot be read any more, or is too large, keeps its last content, and the log says so.
 *
 * What was read lies in memory that the processes of workers inherit by fork, in two halves, of
 * which the one not in use is written; each process makes itself a copy of a new version, counted
 * by those who look at it. So a worker that is started later has what the gateway has, even of a
 * file that has gone, and whoever finds a version to be of no use can go back to the one before,
 * for all. */
#pragma once

#include "base/slice.h"

#include <weir/handler.h>

#define WATCHED_FILES_MAX 32            /* of one gateway */
#define WATCHED_BYTES_MAX (1024 * 1024) /* of one file */
#define WATCHED_PATH_MAX 1023           /* bytes of an absolute path */
#define WATCHED_EVERY_MS 1000

struct watched_files;

/* Relative paths begin at @folder (copied). Before worker processes are forked. -errno. */
int watched_open(struct watched_files **out, const char *folder);
/* Starts the thread. -errno. */
int watched_start(struct watched_files *files);
/* Ends it. All views are closed by then. Accepts NULL. */
void watched_close(struct watched_files *files);

/* Looks at all files once; what the thread does every second. */
void watched_look(struct watched_files *files);

/* A view of a file, for one instance of a plugin; watched_view_close() ends it, in any process that
 * inherited it. A file that is new is read now, which only the process that opened @files can do.
 * -errno; *why is then what is wrong with the file, as a phrase (the caller frees). Any thread. */
int watched_view_open(struct weir_file **out, struct watched_files *files, struct slice path,
                      char **why);
/* Accepts NULL. */
void watched_view_close(struct weir_file *view);

/* What the file holds, the same for as long as @call, the number of the call under way, is the
 * same; valid until then. Home of a view: the worker of its instance. */
struct weir_text watched_view_content(struct weir_file *view, uint64_t call, uint64_t *version);
/* What @version holds is of no use: the content before it becomes the next version, unless there
 * was none, or this is one that was gone back to already. */
void watched_view_reject(struct weir_file *view, uint64_t version);
