/* Every key there is: name, reader, member, default, range. */
#include "config/schema.h"

#include "base/clock.h"
#include "config/balance.h"
#include "config/certificates.h"
#include "config/checks.h"
#include "config/lists.h"
#include "config/match.h"
#include "config/plugins.h"
#include "config/processes.h"
#include "config/rewrites.h"
#include "config/values.h"

#define SECONDS(n) ((n)*NS_PER_S)
#define HOURS(n) SECONDS((n)*3600)
#define MILLION 1000000
#define KIB(n) ((n) << 10)
#define MIB(n) ((n) << 20)
#define KEYS(list) .keys = (list), .count = sizeof(list) / sizeof((list)[0])

static const struct choice levels[] = {
    {"error", CONFIG_LOG_ERROR},
    {"warn", CONFIG_LOG_WARN},
    {"info", CONFIG_LOG_INFO},
    {"debug", CONFIG_LOG_DEBUG},
    {0},
};

static const struct choice listener_protocols[] = {
    {"http1", PROTOCOL_HTTP1},
    {"http2", PROTOCOL_HTTP2},
    {"auto", PROTOCOL_AUTO},
    {0},
};

static const struct choice pipeline_protocols[] = {
    {"http1", PROTOCOL_HTTP1},
    {"http2", PROTOCOL_HTTP2},
    {"exec", PROTOCOL_EXEC},
    {"mcp-stdio", PROTOCOL_MCP_STDIO},
    {0},
};

static const struct choice mcp_asks[] = {
    {"caller", MCP_ASK_CALLER},
    {"able", MCP_ASK_ABLE},
    {0},
};

static const struct choice client_auths[] = {
    {"required", CLIENT_AUTH_REQUIRED},
    {"optional", CLIENT_AUTH_OPTIONAL},
    {0},
};

static const struct choice tls_versions[] = {
    {"1.2", TLS_1_2},
    {"1.3", TLS_1_3},
    {0},
};

static const struct choice priorities[] = {
    {"critical", PRIORITY_CRITICAL},
    {"default", PRIORITY_DEFAULT},
    {"background", PRIORITY_BACKGROUND},
    {0},
};

static const struct choice isolations[] = {
    {"thread", ISOLATION_THREAD},
    {"process", ISOLATION_PROCESS},
    {0},
};

static const struct choice quarantines[] = {
    {"refuse", QUARANTINE_REFUSE},
    {"bypass", QUARANTINE_BYPASS},
    {0},
};

static const struct choice retry_reasons[] = {
    {"connect", RETRY_ON_CONNECT}, {"refused", RETRY_ON_REFUSED},
    {"reset", RETRY_ON_RESET},     {"timeout", RETRY_ON_TIMEOUT},
    {"502", RETRY_ON_502},         {"503", RETRY_ON_503},
    {"504", RETRY_ON_504},         {0},
};

static const struct choice balances[] = {
    {"least", BALANCE_LEAST},
    {"hash", BALANCE_HASH},
    {0},
};

static const struct choice lessons[] = {
    {"response", LEARN_RESPONSE},
    {0},
};

static const struct choice breaker_reasons[] = {
    {"connect", BREAKER_ON_CONNECT}, {"reset", BREAKER_ON_RESET},
    {"timeout", BREAKER_ON_TIMEOUT}, {"500", BREAKER_ON_500},
    {"502", BREAKER_ON_502},         {"503", BREAKER_ON_503},
    {"504", BREAKER_ON_504},         {0},
};

static const struct choice health_initials[] = {
    {"healthy", INITIAL_HEALTHY},
    {"unhealthy", INITIAL_UNHEALTHY},
    {0},
};

#define AT(member) offsetof(struct config_server, member)
static const struct schema_key server_keys[] = {
    {"threads", value_count, AT(threads), "\"auto\"", 1, 64, .may_be_auto = true},
    {"handler_threads", value_count, AT(handler_threads), "\"auto\"", 1, 64, .may_be_auto = true},
    {"handler_memory", value_size, AT(handler_memory), "\"64MiB\"", MIB(1), INT64_MAX},
    {"handler_loss", value_size, AT(handler_loss), "\"64MiB\"", MIB(1), INT64_MAX},
    {"drain.shutdown", value_duration, AT(drain_shutdown_ns), "\"30s\"", NS_PER_MS, HOURS(24)},
    {"drain.reload", value_duration, AT(drain_reload_ns), "\"10m\"", NS_PER_MS, HOURS(168)},
    {"resolver", value_resolver, AT(resolver)},
    {"resolve_interval", value_duration, AT(resolve_interval_ns), "\"30s\"", SECONDS(1) / 10,
     HOURS(24), .is_never_off = true},
    {"wedge_after", value_duration, AT(wedge_after_ns), "\"10s\"", SECONDS(2), HOURS(1)},
    {"user", value_name, AT(user)},
    {"state_file", value_state_file, AT(state_file)},
};
#undef AT

#define AT(member) offsetof(struct config_admission, member)
static const struct schema_key admission_keys[] = {
    {"max_connections", value_count, AT(max_connections), "\"auto\"", 1, 10 * MILLION,
     .may_be_auto = true},
    {"max_handshakes", value_count, AT(max_handshakes), "256", 1, MILLION},
    {"fd_reserve", value_count, AT(fd_reserve), "\"auto\"", 1, MILLION, .may_be_auto = true},
    {"max_connections_per_address", value_count, AT(max_connections_per_address), "0", 0,
     10 * MILLION},
    {"memory", value_size, AT(memory), "\"auto\"", MIB(16), INT64_MAX, .may_be_auto = true},
    {"shed_at.fds", value_share, AT(shed_at_fds), "0.95", 10, 100},
    {"shed_at.memory", value_share, AT(shed_at_memory), "0.95", 10, 100},
    {"shed_at.loop_lag", value_duration, AT(shed_at_lag_ns), "\"250ms\"", 10 * NS_PER_MS,
     SECONDS(60)},
};
#undef AT

static const struct schema_key admin_keys[] = {
    {"listen", value_admin, 0, "\"127.0.0.1:9901\""},
    {"token", value_token, offsetof(struct config_admin, token)},
};

#define AT(member) offsetof(struct config_log, member)
static const struct schema_key log_keys[] = {
    {"level", value_choice, AT(level), "\"info\"", .choices = levels},
    {"file", value_log_file, AT(file), "\"stderr\""},
    {"access", value_log_access, AT(access), "\"stderr\""},
};
#undef AT

#define AT(member) offsetof(struct config_listener, member)
static const struct schema_key listener_keys[] = {
    {"name", value_name, AT(name), .is_required = true},
    {"listen", value_listen, AT(listen), .is_required = true},
    {"protocol", value_choice, AT(protocol), "\"http1\"", .choices = listener_protocols},
    {"tls.cert", value_file, AT(tls.own.cert)},
    {"tls.key", value_file, AT(tls.own.key)},
    {"tls.certificates", certificates_list, 0},
    {"tls.client_ca", value_file, AT(tls.client_ca)},
    {"tls.client_auth", value_choice, AT(tls.client_auth), "\"required\"", .choices = client_auths},
    {"tls.min_version", value_choice, AT(tls.min_version), "\"1.2\"", .choices = tls_versions},
    {"timeouts.handshake", value_duration, AT(handshake_timeout_ns), "\"10s\"", NS_PER_MS,
     HOURS(24), .is_never_off = true},
    {"timeouts.header", value_duration, AT(header_timeout_ns), "\"10s\"", NS_PER_MS, HOURS(24)},
    {"timeouts.body", value_duration, AT(body_timeout_ns), "\"60s\"", NS_PER_MS, HOURS(24)},
    {"timeouts.idle", value_duration, AT(idle_timeout_ns), "\"60s\"", NS_PER_MS, HOURS(24)},
    {"timeouts.stream_idle", value_duration, AT(stream_idle_timeout_ns), "\"5m\"", NS_PER_MS,
     HOURS(24)},
    {"limits.head", value_size, AT(max_head_bytes), "\"64KiB\"", KIB(1), MIB(16)},
    {"limits.target", value_size, AT(max_target_bytes), "\"16KiB\"", 64, MIB(1)},
    {"limits.fields", value_count, AT(max_fields), "100", 1, 1024},
    {"limits.requests", value_count, AT(max_requests), "0", 0, 1000 * MILLION},
    {"half_close", value_boolean, AT(half_close), "false"},
    {"health_service", value_boolean, AT(health_service), "false"},
    {"http2.max_concurrent_streams", value_count, AT(http2.max_concurrent_streams), "100", 1,
     10000},
    {"http2.header_table", value_size, AT(http2.header_table_bytes), "\"4KiB\"", 0, MIB(1)},
    {"http2.continuations", value_count, AT(http2.continuations), "8", 0, 1000},
    /* Ten seconds' worth at once: a thousand answers may wait. */
    {"http2.pings", value_count, AT(http2.pings), "10", 1, 100},
    {"http2.settings", value_count, AT(http2.settings), "10", 1, 100},
    {"http2.priorities", value_count, AT(http2.priorities), "20", 1, MILLION},
    {"http2.window_updates", value_count, AT(http2.window_updates), "100", 1, MILLION},
    {"http2.empty_data", value_count, AT(http2.empty_data), "10", 1, MILLION},
    {"http2.resets", value_count, AT(http2.resets), "100", 1, MILLION},
    {"http2.stream_errors", value_count, AT(http2.stream_errors), "20", 1, MILLION},
    {"http2.early_percent", value_count, AT(http2.early_percent), "90", 1, 100},
    {"trust", list_trust, 0, "[\"127.0.0.1/32\", \"::1\"]"},
};
#undef AT

#define AT(member) offsetof(struct config_pipeline, member)
static const struct schema_key pipeline_keys[] = {
    {"name", value_name, AT(name), .is_required = true},
    {"endpoints", list_endpoints, 0}, /* processes.c says when it is required */
    {"process", processes_read, 0},
    {"protocol", value_choice, AT(protocol), "\"http1\"", .choices = pipeline_protocols},
    {"mcp.sessions", value_count, AT(mcp.sessions), "1000", 1, 100000},
    {"mcp.calls", value_count, AT(mcp.calls), "1000", 1, 100000},
    {"mcp.calls_per_session", value_count, AT(mcp.calls_per_session), "32", 1, 100000},
    {"mcp.queue", value_count, AT(mcp.queue), "256", 1, 100000},
    {"mcp.depth", value_count, AT(mcp.depth), "64", 4, CONFIG_MCP_DEPTH_MAX},
    {"mcp.message", value_size, AT(mcp.message_bytes), "\"4MiB\"", KIB(1), MIB(1024)},
    {"mcp.ask", value_choice, AT(mcp.ask), "\"caller\"", .choices = mcp_asks},
    {"mcp.ping", value_duration, AT(mcp.ping_ns), "\"1m\"", SECONDS(1), HOURS(24)},
    {"mcp.idle", value_duration, AT(mcp.idle_ns), "\"30m\"", SECONDS(1), HOURS(24),
     .is_never_off = true},
    {"tls.ca", value_file, AT(tls.ca)},
    {"tls.verify", value_boolean, AT(tls.verify), "true"},
    {"tls.server_name", value_server_name, AT(tls.server_name)},
    {"tls.cert", value_file, AT(tls.own.cert)},
    {"tls.key", value_file, AT(tls.own.key)},
    {"tls.min_version", value_choice, AT(tls.min_version), "\"1.2\"", .choices = tls_versions},
    {"host", value_host, AT(host)},
    {"deadline", value_duration, AT(deadline_ns), "\"30s\"", NS_PER_MS, HOURS(24)},
    {"hold", value_duration, AT(hold_ns), "\"5s\"", NS_PER_MS, HOURS(1)},
    {"timeouts.dial", value_duration, AT(dial_timeout_ns), "\"3s\"", NS_PER_MS, HOURS(24)},
    {"timeouts.idle", value_duration, AT(idle_timeout_ns), "\"60s\"", NS_PER_MS, HOURS(24)},
    {"timeouts.ping", value_duration, AT(ping_ns), "\"20s\"", NS_PER_MS, HOURS(24)},
    {"timeouts.pong", value_duration, AT(pong_timeout_ns), "\"10s\"", NS_PER_MS, HOURS(1),
     .is_never_off = true},
    /* Without one: the server's. */
    {"resolve_interval", value_duration, AT(resolve_interval_ns), NULL, SECONDS(1) / 10, HOURS(24),
     .is_never_off = true},
    {"limits.concurrency", value_count, AT(limits.concurrency), "64", 1, MILLION,
     .may_be_auto = true},
    {"limits.concurrency_min", value_count, AT(limits.concurrency_min), "4", 1, MILLION},
    {"limits.concurrency_max", value_count, AT(limits.concurrency_max), "1000", 1, MILLION},
    {"limits.connections", value_count, AT(limits.connections), "\"auto\"", 1, MILLION,
     .may_be_auto = true},
    {"limits.streams", value_count, AT(limits.streams), "1000", 1, MILLION},
    {"limits.streams_per_connection", value_count, AT(limits.streams_per_connection), "100", 1,
     MILLION},
    {"limits.dials", value_count, AT(limits.dials), "16", 1, 10000},
    {"limits.head", value_size, AT(max_head_bytes), "\"64KiB\"", KIB(1), MIB(16)},
    {"limits.fields", value_count, AT(max_fields), "100", 1, 1024},
    {"limits.informational", value_count, AT(max_informational), "10", 0, 1000},
    {"queue.size", value_count, AT(queue.size), "256", 0, MILLION},
    {"queue.max_wait", value_duration, AT(queue.max_wait_ns), "\"2s\"", NS_PER_MS, HOURS(24)},
    /* Without one: CONFIG_TARGET_SHARE of max_wait. */
    {"queue.target", value_duration, AT(queue.target_ns), NULL, NS_PER_MS, SECONDS(60)},
    {"queue.fair_by", match_fair, 0, "\"client\""},
    {"queue.priority_field", match_field, AT(queue.priority_field)},
    {"breaker.consecutive_failures", value_count, AT(breaker.in_a_row), "5", 0, 1000},
    {"breaker.on", list_bits, AT(breaker.on),
     "[\"connect\", \"reset\", \"timeout\", \"502\", \"503\", \"504\"]",
     .choices = breaker_reasons},
    {"breaker.open_for", value_duration, AT(breaker.open_for_ns), "\"10s\"", 100 * NS_PER_MS,
     HOURS(1), .is_never_off = true},
    {"breaker.open_max", value_duration, AT(breaker.open_max_ns), "\"5m\"", 100 * NS_PER_MS,
     HOURS(24), .is_never_off = true},
    {"breaker.failure_share", value_share, AT(breaker.share), "0.3", 1, 100},
    {"breaker.min_calls", value_count, AT(breaker.calls_min), "20", 5, MILLION},
    {"breaker.window", value_duration, AT(breaker.window_ns), "\"10s\"", SECONDS(1), SECONDS(10),
     .is_never_off = true},
    {"breaker.stalled_after", value_duration, AT(breaker.stall_ns), "\"1s\"", 10 * NS_PER_MS,
     HOURS(1)},
    {"breaker.eject_max", value_share, AT(breaker.eject_max), "0.5", 1, 100},
    {"slow_start", value_duration, AT(slow_start_ns), NULL, 100 * NS_PER_MS, HOURS(1)},
    {"health.path", checks_path, AT(health.path)},
    {"health.grpc_service", checks_service, AT(health.grpc_service)},
    {"health.connect", value_boolean, AT(health.is_connect), "false"},
    {"health.host", value_host, AT(health.host)},
    {"health.status", checks_status, 0, "\"200-399\""},
    {"health.interval", value_duration, AT(health.interval_ns), "\"5s\"", 50 * NS_PER_MS, HOURS(1),
     .is_never_off = true},
    {"health.timeout", value_duration, AT(health.timeout_ns), "\"2s\"", 10 * NS_PER_MS, HOURS(1),
     .is_never_off = true},
    {"health.unhealthy_after", value_count, AT(health.unhealthy_after), "3", 1, 100},
    {"health.healthy_after", value_count, AT(health.healthy_after), "2", 1, 100},
    {"health.initial", value_choice, AT(health.initial), "\"healthy\"", .choices = health_initials},
    {"health.panic", value_share, AT(health.panic), "0.5", 1, 100},
    {"balance.by", value_choice, AT(balance.by), "\"least\"", .choices = balances},
    {"balance.hash", balance_hash, AT(balance.hash), "\"client\""},
    {"retry.attempts", value_count, AT(retry.attempts), "2", 1, 10},
    {"retry.budget", value_share, AT(retry.budget), "0.2", 1, 100},
    {"retry.timeout", value_duration, AT(retry.timeout_ns), "\"0s\"", NS_PER_MS, HOURS(1)},
    {"retry.on", list_bits, AT(retry.on), "[\"connect\", \"refused\"]", .choices = retry_reasons},
};
#undef AT

#define AT(member) offsetof(struct config_handler, member)
static const struct schema_key handler_keys[] = {
    {"name", value_name, AT(name), .is_required = true},
    {"plugin", plugins_find, AT(plugin), .is_required = true},
    {"timeout", value_duration, AT(timeout_ns), "\"250ms\"", NS_PER_MS, SECONDS(60),
     .is_never_off = true},
    {"isolation", value_choice, AT(isolation), "\"thread\"", .choices = isolations},
    {"fault.quarantine_share", value_share, AT(fault.quarantine_share), "0.5", 1, 100},
    {"fault.min_calls", value_count, AT(fault.min_calls), "20", 1, MILLION},
    {"fault.window", value_duration, AT(fault.window_ns), "\"60s\"", SECONDS(1), HOURS(1),
     .is_never_off = true},
    {"fault.demote", value_boolean, AT(fault.demote), "true"},
    {"process.memory", value_size, AT(process.memory), "\"512MiB\"", MIB(8), INT64_MAX},
    {"process.cpu", value_duration, AT(process.cpu_ns), "\"1s\"", 10 * NS_PER_MS, SECONDS(60)},
    {"on_quarantine", value_choice, AT(on_quarantine), "\"refuse\"", .choices = quarantines},
    {"hold", value_duration, AT(hold_ns), "\"30s\"", NS_PER_MS, HOURS(24), .is_never_off = true},
    {"queue", value_count, AT(queue), "256", 1, 100000},
    {"body_max", value_size, AT(body_max), "\"1MiB\"", 1, MIB(16)},
    {"config", plugins_config, AT(config), "{}"},
};
#undef AT

#define AT(member) offsetof(struct config_route, member)
static const struct schema_key route_keys[] = {
    {"name", value_name, AT(name)},
    {"listener", value_reference, 0},
    {"match.host", match_host, AT(host)},
    {"match.path", match_path, AT(path)},
    {"match.exact", match_path, AT(exact)},
    {"match.grpc", match_grpc, 0},
    {"match.method", list_methods, 0},
    {"match.header", list_fields, 0},
    {"handlers", plugins_references, 0},
    {"pipeline", value_reference, 0, .is_required = true},
    /* Without one: the pipeline's. */
    {"deadline", value_duration, AT(deadline_ns), NULL, NS_PER_MS, HOURS(24)},
    {"stream", value_boolean, AT(is_stream), "false"},
    {"grpc_web", value_boolean, AT(is_grpc_web), "false"},
    {"rewrite_urls", rewrites_read, 0},
    {"priority", value_choice, AT(priority), "\"default\"", .choices = priorities},
    {"idempotent", value_boolean, AT(is_idempotent), "false"},
    {"affinity.header", balance_header, AT(affinity.header)},
    {"affinity.learn", value_choice, AT(affinity.learn), .choices = lessons},
    {"affinity.cookie", balance_cookie, AT(affinity.cookie)},
    {"affinity.strict", value_boolean, AT(affinity.is_strict), "false"},
};
#undef AT

const struct schema schema_server = {"server", KEYS(server_keys)};
const struct schema schema_admission = {"admission", KEYS(admission_keys)};
const struct schema schema_admin = {"admin", KEYS(admin_keys)};
const struct schema schema_log = {"log", KEYS(log_keys)};
const struct schema schema_listener = {"listener", KEYS(listener_keys), .array_max = 64};
static const struct config_pipeline pipeline_start = {.queue = {.target_ns = -1}};
const struct schema schema_pipeline = {"pipeline", KEYS(pipeline_keys), .array_max = 1024,
                                       .start = &pipeline_start};
const struct schema schema_handler = {"handler", KEYS(handler_keys),
                                      .array_max = CONFIG_HANDLERS_MAX, .is_optional = true};
static const struct config_route route_start = {.listener = CONFIG_ANY_LISTENER, .deadline_ns = -1};
const struct schema schema_route = {"route", KEYS(route_keys), .array_max = 4096,
                                    .start = &route_start};

const struct schema *const schema_all[] = {
    &schema_server,   &schema_admission, &schema_admin, &schema_log, &schema_listener,
    &schema_pipeline, &schema_handler,   &schema_route, NULL,
};
