/* The sections of weir.toml and their keys. */
#pragma once

#include "config/reader.h"

extern const struct schema schema_server;    /* struct config_server */
extern const struct schema schema_admission; /* struct config_admission */
extern const struct schema schema_admin;     /* struct config_admin */
extern const struct schema schema_log;       /* struct config_log */
extern const struct schema schema_listener;  /* struct config_listener */
extern const struct schema schema_pipeline;  /* struct config_pipeline */
extern const struct schema schema_handler;   /* struct config_handler */
extern const struct schema schema_route;     /* struct config_route */

/* All of them, in the order in which people write them; NULL ends the list. */
extern const struct schema *const schema_all[];
