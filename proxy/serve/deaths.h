/* The section "deaths" of the state file: when gateways died lately. The supervisor, which counts
 * them, neither reads nor writes files: it tells them to the gateway that keeps the file, and one
 * that knows of none is told what the file had. Home: main thread, until the keeper starts; then
 * nobody changes it. */
#pragma once

#include "state/keeper.h"
#include "supervisor/crashes.h"

/* For keeper_add(). @crashes outlives the keeper. */
struct keeper_section deaths_section(struct crashes *crashes);
