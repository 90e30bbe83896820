/* Memory that cannot fail: out of memory ends the process (the supervisor restarts it), because a
 * proxy that limps on without memory serves nobody. Budgets are not memory: they refuse politely.
 */
#pragma once

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len);
/* As asprintf; the caller frees. */
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
