"""What weir's own answers must look like: one place for what every failure has in common."""

import json
import re

# RFC 9209 section 2.3.
PROXY_ERRORS = {
    "dns_timeout", "dns_error", "destination_not_found", "destination_unavailable",
    "destination_ip_prohibited", "destination_ip_unroutable", "connection_refused",
    "connection_terminated", "connection_timeout", "connection_read_timeout",
    "connection_write_timeout", "connection_limit_reached", "tls_protocol_error",
    "tls_certificate_error", "tls_alert_received", "http_request_error", "http_request_denied",
    "http_response_incomplete", "http_response_header_section_size", "http_response_header_size",
    "http_response_body_size", "http_response_trailer_section_size", "http_response_trailer_size",
    "http_response_transfer_coding", "http_response_content_coding", "http_response_timeout",
    "http_upgrade_failed", "http_protocol_error", "proxy_internal_response", "proxy_internal_error",
    "proxy_configuration_error", "proxy_loop_detected",
}  # fmt: skip


def proxy_error(response):
    """The error that Proxy-Status names, checked against the registry."""
    value = response.fields.get("proxy-status")
    assert value, f"{response.status} without Proxy-Status: {response!r}"
    member = value.split(",")[-1].strip()
    assert re.match(r'weir(;|$)|"weir"(;|$)', member), f"Proxy-Status: {value}"
    match = re.search(r";\s*error=([a-z_]+)", member)
    assert match, f"Proxy-Status without error=: {value}"
    assert match[1] in PROXY_ERRORS, f"not an RFC 9209 error: {match[1]}"
    return match[1]


def expect_problem(response, *statuses, pipeline=None, errors=None):
    """A failure told in weir's own words. Returns the problem."""
    assert response.status in statuses, f"expected {statuses}, got {response!r}"
    kind = response.fields.get("content-type", "")
    assert kind.split(";")[0] == "application/problem+json", f"Content-Type: {kind}; {response!r}"
    problem = json.loads(response.body)
    assert problem["status"] == response.status, problem
    assert isinstance(problem["title"], str) and problem["title"], problem
    assert isinstance(problem["type"], str) and problem["type"], problem
    assert isinstance(problem["detail"], str) and problem["detail"], problem
    assert problem.get("request_id"), problem
    if pipeline:
        assert problem.get("pipeline") == pipeline, problem
    error = proxy_error(response)
    if errors:
        assert error in errors, f"Proxy-Status error {error}, expected one of {sorted(errors)}"
    if response.status == 503:
        assert re.fullmatch(r"[0-9]+", response.fields.get("retry-after", "")), "503 without Retry-After"
    assert "date" in response.fields, "a response of one's own carries a Date (RFC 9110 6.6.1)"
    return problem


def expect_refused(client, *statuses, errors=None):
    """A request whose framing is lost: an explained answer, then an orderly end. Returns the
    response."""
    response = client.read_response()
    expect_problem(response, *statuses, errors=errors)
    assert "close" in [m.lower() for m in response.fields.list("connection")], response
    client.expect_end()
    return response


def reason_of(response):
    """The row of fail.def behind a failure told in weir's own words."""
    expect_problem(response, response.status)
    return re.search(r';\s*details="([a-z_]+)"', response.fields.get("proxy-status"))[1]
