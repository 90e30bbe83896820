/* UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include "base/slice.h"

bool utf8_is_valid(struct slice text);
