/* What the configuration tests share: parse text, expect settings or exactly these errors. */
#pragma once

#include "config/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The sections that must be there; the text of a test stands in front of them. */
#define LISTENER "[[listener]]\nname = 'l'\nlisten = ':80'\n"
#define PIPELINE "[[pipeline]]\nname = 'p'\nendpoints = ['127.0.0.1:90']\n"
#define ROUTE "[[route]]\npipeline = 'p'\n"
#define REST "\n" LISTENER PIPELINE ROUTE

static const struct config_options options_2_cores = {.fd_limit = 1024, .cores = 2};

static inline struct config *parse_with(const char *text, const struct config_options *options) {
    struct config *config = NULL;
    struct config_errors errors = {0};

    if (config_parse(&config, "t", text, strlen(text), options, &errors))
        fail_msg("%s", errors.text);
    assert_non_null(config);
    assert_null(errors.text);
    assert_int_equal(errors.count, 0);
    return config;
}

static inline struct config *parse(const char *text) {
    return parse_with(text, &options_2_cores);
}

static inline void expect_errors_with(const char *text, const struct config_options *options,
                                      const char *expected) {
    struct config *config = NULL;
    struct config_errors errors = {0};
    size_t lines = 0;

    assert_int_equal(config_parse(&config, "t", text, strlen(text), options, &errors), -EINVAL);
    assert_null(config);
    assert_non_null(errors.text);
    assert_string_equal(errors.text, expected);
    for (const char *at = expected; *at; at++)
        lines += *at == '\n';
    assert_int_equal(errors.count, lines);
    config_errors_deinit(&errors);
    assert_null(errors.text);
}

/* @expected has one line for each error. */
static inline void expect_errors(const char *text, const char *expected) {
    expect_errors_with(text, &options_2_cores, expected);
}
