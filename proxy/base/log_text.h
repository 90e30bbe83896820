/* What a log line looks like: "2026-01-31T12:00:00.000Z error cannot open 'x': no such file".
 * Everything but printable ASCII is written as \xNN, so that no request can forge a line or steer a
 * terminal; what is longer than LOG_LINE_MAX is cut and ends in "...". */
#pragma once

#include "base/log.h"

#include <stdarg.h>

/* Writes the line without its newline to @to (LOG_LINE_MAX bytes, not terminated) and returns
 * its length. Any thread. */
size_t log_text_format(char *to, enum log_level level, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* Writes one line straight to standard error. Any thread; may wait for its reader. */
void log_text_to_stderr(struct slice line);
