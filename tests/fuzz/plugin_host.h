/* A host for fuzzing one plugin that is linked in: edits are checked and forgotten. */
#pragma once

#include <weir/handler.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_MAX 256 /* of one call */

struct weir_call {
    void *blocks[BLOCKS_MAX];
    unsigned block_count;
    size_t bytes;
    bool is_answered, is_verified;
};

/* As the plugin defines it. */
extern const struct weir_plugin weir_plugin;

static struct weir_text file_content; /* of the one watched file */
static uint64_t file_version;

static void *host_alloc(struct weir_call *call, size_t bytes) {
    if (call->block_count == BLOCKS_MAX || bytes > 1024 * 1024 - call->bytes)
        return NULL;
    call->bytes += bytes;
    return call->blocks[call->block_count++] = malloc(bytes ? bytes : 1);
}

static void host_log(struct weir_call *call, enum weir_log_level level, struct weir_text text) {
    assert(text.len < 1024);
}

static void host_count(struct weir_call *call, unsigned event, uint64_t n) {
    assert(event < 8);
}

static int64_t host_time(void) {
    return INT64_C(1800000000) * 1000000000;
}

static bool is_line(struct weir_text text) {
    return !memchr(text.base, '\r', text.len) && !memchr(text.base, '\n', text.len) &&
           !memchr(text.base, '\0', text.len);
}

static bool host_edit(struct weir_call *call, struct weir_text name, struct weir_text value) {
    assert(name.len > 0 && is_line(name) && is_line(value));
    return true;
}

static bool host_remove(struct weir_call *call, struct weir_text name) {
    assert(name.len > 0 && is_line(name));
    return true;
}

static bool host_set_path(struct weir_call *call, struct weir_text path) {
    return path.len > 0 && path.base[0] == '/';
}

static bool host_set_variable(struct weir_call *call, struct weir_text name,
                              struct weir_text value) {
    return value.len <= 256;
}

static struct weir_text host_variable(struct weir_call *call, struct weir_text name) {
    return (struct weir_text){"", 0};
}

static bool host_respond(struct weir_call *call, unsigned status, struct weir_text content) {
    assert(status >= 200 && status < 600);
    call->is_answered = true;
    return content.len <= 1024 * 1024;
}

static bool host_refuse(struct weir_call *call, unsigned status, struct weir_text title,
                        struct weir_text remedy) {
    assert(title.len > 0 && remedy.len > 0);
    return host_respond(call, status, title);
}

static struct weir_file *host_watch(const struct weir_host *host, struct weir_text path) {
    return (struct weir_file *)(void *)&file_content;
}

static struct weir_text host_content(struct weir_file *file, uint64_t *version) {
    *version = file_version;
    return file_content;
}

/* There is nothing to go back to. */
static void host_reject(struct weir_file *file, uint64_t version) {
    assert(version == file_version);
}

/* A signature that begins with the kind of the key is good: the fuzzer can find that. */
static struct weir_call *under_way;

static bool host_verify(enum weir_signature kind, struct weir_text key, struct weir_text data,
                        struct weir_text signature) {
    assert(kind >= WEIR_HS256 && kind <= WEIR_ES256 && key.len > 0 && key.len <= 4096);
    assert(kind == WEIR_HS256 || key.base[0] == 0x30); /* DER begins with a SEQUENCE */
    if (signature.len == 0 || signature.base[0] != (char)kind)
        return false;
    under_way->is_verified = true;
    return true;
}

static const struct weir_host fuzz_host = {
    .size = sizeof fuzz_host,
    .alloc = host_alloc,
    .log = host_log,
    .count = host_count,
    .now_ns = host_time,
    .unix_ns = host_time,
    .set_field = host_edit,
    .add_field = host_edit,
    .remove_field = host_remove,
    .set_path = host_set_path,
    .set_variable = host_set_variable,
    .variable = host_variable,
    .respond = host_respond,
    .respond_field = host_edit,
    .refuse = host_refuse,
    .watch = host_watch,
    .content = host_content,
    .verify = host_verify,
    .reject = host_reject,
};

/* The linked plugin's instance with @config, which must do. */
static void *fuzz_instance(const char *config) {
    char why[512] = "";
    void *state;

    if (weir_plugin.init(&fuzz_host, (struct weir_text){config, strlen(config)}, &state, why,
                         sizeof why) == 0)
        return state;
    fprintf(stderr, "%s\n", why);
    abort();
}

/* Runs @request; @call is what it left. */
static enum weir_verdict fuzz_run(void *state, const struct weir_request *request,
                                  struct weir_call *call) {
    enum weir_verdict verdict;

    *call = (struct weir_call){.block_count = 0};
    under_way = call;
    verdict = weir_plugin.request(state, call, request);
    assert(verdict == WEIR_CONTINUE || (verdict == WEIR_RESPOND && call->is_answered));
    while (call->block_count > 0)
        free(call->blocks[--call->block_count]);
    return verdict;
}
