/* What every row of proxy/exchange/fail.def promises to replies, logs and metrics. */
#include "exchange/fail.h"

#include "support/unit.h"

#include <string.h>

/* RFC 9209 section 2.3, in its order. */
static const char *const proxy_errors[] = {
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
};

#define EACH(id) for (enum fail id = FAIL_NONE + 1; id < FAILS; id++)

static void every_row_has_texts(void **state) {
    EACH(fail) {
        const struct fail_row *row = fail_row(fail);

        assert_non_null(row->reason);
        assert_non_null(row->error);
        assert_non_null(row->title);
        assert_non_null(row->remedy);
        assert_true(strlen(row->reason) > 0 && strlen(row->title) > 0 && strlen(row->remedy) > 0);
    }
}

static void no_text_breaks_a_field_or_a_json_string(void **state) {
    EACH(fail) {
        const struct fail_row *row = fail_row(fail);
        const char *const texts[] = {row->reason, row->error, row->title, row->remedy};

        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            for (const char *at = texts[i]; *at; at++)
                assert_true(*at >= ' ' && *at <= '~' && *at != '"' && *at != '\\');
    }
}

static void a_reason_is_a_metric_label_of_its_own(void **state) {
    EACH(fail) {
        const char *reason = fail_row(fail)->reason;

        assert_int_equal(strspn(reason, "abcdefghijklmnopqrstuvwxyz_"), strlen(reason));
        EACH(other)
        if (other != fail)
            assert_string_not_equal(reason, fail_row(other)->reason);
    }
}

static void the_proxy_status_error_is_one_of_rfc_9209(void **state) {
    EACH(fail) {
        bool is_known = false;

        for (size_t i = 0; i < sizeof proxy_errors / sizeof *proxy_errors; i++)
            is_known |= strcmp(fail_row(fail)->error, proxy_errors[i]) == 0;
        if (!is_known)
            fail_msg("%s: no error type: %s", fail_row(fail)->reason, fail_row(fail)->error);
    }
}

static void status_codes_are_errors(void **state) {
    EACH(fail) {
        assert_in_range(fail_row(fail)->http, 400, 599);
        assert_in_range(fail_row(fail)->grpc, 1, 16); /* 0 is OK, which no failure is */
    }
}

/* A request that cannot be had again must not be sent again: what came from the client is for it
 * to correct. */
static void what_the_client_did_is_never_retried(void **state) {
    EACH(fail)
    if (fail_row(fail)->http < 500)
        assert_int_equal(fail_row(fail)->retry, FAIL_RETRY_NEVER);
}

/* Only the dial and what comes before it leaves nothing of the request with the upstream. */
static void what_reached_the_upstream_is_not_called_unsent(void **state) {
    assert_int_equal(fail_row(FAIL_CONNECT_REFUSED)->retry, FAIL_RETRY_UNSENT);
    assert_int_equal(fail_row(FAIL_CONNECT_TIMEOUT)->retry, FAIL_RETRY_UNSENT);
    assert_int_equal(fail_row(FAIL_ENDPOINT_NONE)->retry, FAIL_RETRY_UNSENT);
    assert_int_equal(fail_row(FAIL_UPSTREAM_STALE)->retry, FAIL_RETRY_IDEMPOTENT);
    assert_int_equal(fail_row(FAIL_UPSTREAM_RESET)->retry, FAIL_RETRY_IDEMPOTENT);
    assert_int_equal(fail_row(FAIL_UPSTREAM_INCOMPLETE)->retry, FAIL_RETRY_NEVER);
    assert_int_equal(fail_row(FAIL_DEADLINE)->retry, FAIL_RETRY_NEVER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_texts),
        cmocka_unit_test(no_text_breaks_a_field_or_a_json_string),
        cmocka_unit_test(a_reason_is_a_metric_label_of_its_own),
        cmocka_unit_test(the_proxy_status_error_is_one_of_rfc_9209),
        cmocka_unit_test(status_codes_are_errors),
        cmocka_unit_test(what_the_client_did_is_never_retried),
        cmocka_unit_test(what_reached_the_upstream_is_not_called_unsent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
