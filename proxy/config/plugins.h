/* What is particular of [[handler]]: where its plugin is, and its own table. */
#pragma once

#include "config/reader.h"

#define PLUGINS_CONFIG_DEPTH_MAX 32 /* tables and lists inside each other */

read_fn plugins_find;       /* char *: a path, or the name of a built-in, made a path that exists */
read_fn plugins_config;     /* char *: any table, made JSON text */
read_fn plugins_references; /* struct config_route: as many handlers as names; check.c finds them */

/* The folder that relative paths in the file @name begin at. The caller frees. */
char *plugins_folder(const char *name);

/* The folder of built-in plugins: beside the program where it was built, else where they are
 * installed. The caller frees. */
char *plugins_built_in_folder(void);

void plugins_free(struct config_handler *handler);
