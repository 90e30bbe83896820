/* Formats and escapes log lines. */
#include "base/log_text.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

static bool has_no_time; /* home: main, before other threads are there */

static size_t write_stamp(char *to, enum log_level level);
static size_t escape(char *to, size_t room, struct slice from);

size_t log_text_format(char *to, enum log_level level, const char *format, va_list args) {
    char text[LOG_LINE_MAX + 1];
    size_t len = write_stamp(to, level);
    int made = vsnprintf(text, sizeof text, format, args);
    size_t text_len = made < 0 ? 0 : (size_t)made < sizeof text ? (size_t)made : sizeof text;

    return len + escape(to + len, LOG_LINE_MAX - len, slice_of(text, text_len));
}

void log_leave_out_time(void) {
    has_no_time = true;
}

void log_text_to_stderr(struct slice line) {
    struct iovec iov[2] = {{(void *)line.base, line.len}, {(void *)"\n", 1}};
    ssize_t n;

    do
        n = writev(STDERR_FILENO, iov, 2);
    while (n < 0 && errno == EINTR);
}

static size_t write_stamp(char *to, enum log_level level) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    int64_t now_ns = clock_wall_ns();
    time_t now_s = (time_t)(now_ns / NS_PER_S);
    struct tm tm;

    if (has_no_time)
        return (size_t)snprintf(to, 64, "%s ", names[level]);
    gmtime_r(&now_s, &tm);
    return (size_t)snprintf(to, 64, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s ", tm.tm_year + 1900,
                            tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                            (int)(now_ns / NS_PER_MS % 1000), names[level]);
}

/* Cuts where the next character and "..." would not fit together. */
static size_t escape(char *to, size_t room, struct slice from) {
    static const char hex[] = "0123456789abcdef";
    size_t len = 0, cut = 0;

    for (size_t i = 0; i < from.len; i++) {
        unsigned char c = (unsigned char)from.base[i];
        bool is_plain = c >= 0x20 && c < 0x7f;
        size_t need = is_plain ? 1 : 4;

        if (len + need > room) {
            memcpy(to + cut, "...", 3);
            return cut + 3;
        }
        if (is_plain) {
            to[len] = (char)c;
        } else {
            to[len] = '\\';
            to[len + 1] = 'x';
            to[len + 2] = hex[c >> 4];
            to[len + 3] = hex[c & 15];
        }
        len += need;
        if (len + 3 <= room)
            cut = len;
    }
    return len;
}
