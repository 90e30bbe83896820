/* A look at the text before toml++ gets it. */
#pragma once

#include "tomlc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Refuses what toml++ has no limit or no good position for: too much text, bytes that are no UTF-8,
 * NUL, and keys of very many parts (each is a table inside another, and freeing them recurses). 0,
 * or -EINVAL with *@error filled in. */
int tomlc_scan(const char *text, size_t len, struct tomlc_error *error);

/* Moves *@at from a value that repeats a key to that key. */
void tomlc_scan_back_to_key(const char *text, size_t len, struct tomlc_position *at);

#ifdef __cplusplus
}
#endif
