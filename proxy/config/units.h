/* Durations and sizes as text: "250ms", "10s", "5m", "1h"; "512", "64KiB", "1MiB", "2GiB". One
 * integer, one unit, nothing else: no sign, no fraction, no blank, no sum. */
#pragma once

#include "base/buffer.h"
#include "base/slice.h"

#include <stdint.h>

/* Nanoseconds; "0" needs no unit. 0, or -EINVAL (no duration), or -ERANGE (more than fits). */
int units_parse_duration(struct slice text, int64_t *ns);

/* Bytes; no unit means bytes. As above. */
int units_parse_size(struct slice text, int64_t *bytes);

/* In the largest unit that is exact; 0 as "off". */
void units_append_duration(struct buffer *to, int64_t ns);
void units_append_size(struct buffer *to, int64_t bytes);

/* What @text may have been meant as, "30 sec" -> "30s", "64k" -> "64KiB". False: no idea. */
bool units_guess_duration(struct slice text, struct buffer *to);
bool units_guess_size(struct slice text, struct buffer *to);
