/* jwt: tokens and key sets. Input: a byte; if it is odd, a JWK Set that the file becomes; otherwise
 * a token. Invariants: who passes has a signature that was verified; a set that is not used leaves
 * the keys as they were; nothing is edited that could not be. */
#include "plugin_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SET                                                                               \
    "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}," \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e\","                                    \
    "\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","                              \
    "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}"

static void *state;

static void use_file(const void *base, size_t len) {
    file_content = (struct weir_text){base, len};
    file_version++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct weir_field field = {.name = WEIR_TEXT("authorization")};
    struct weir_request request = {.size = sizeof request,
                                   .method = WEIR_TEXT("GET"),
                                   .path = WEIR_TEXT("/"),
                                   .fields = &field,
                                   .field_count = 1};
    struct weir_call call;
    char *value;

    if (size == 0)
        return 0;
    if (!state) {
        use_file(SET, sizeof SET - 1);
        state = fuzz_instance("{\"jwks\":\"f\",\"query\":\"t\",\"audiences\":[\"*\"],"
                              "\"fields\":{\"x-user\":\"sub\",\"x-org\":\"org\"},"
                              "\"variables\":{\"user\":\"sub\"}}");
    }
    if (data[0] & 1) {
        field.value = WEIR_TEXT("Bearer a.b.c");
        use_file(data + 1, size - 1);
        assert(fuzz_run(state, &request, &call) == WEIR_RESPOND);
        use_file(SET, sizeof SET - 1);
        fuzz_run(state, &request, &call);
        return 0;
    }
    value = malloc(size + 7);
    memcpy(value, "Bearer ", 7);
    memcpy(value + 7, data + 1, size - 1);
    field.value = (struct weir_text){value, size + 6};
    if (fuzz_run(state, &request, &call) == WEIR_CONTINUE)
        assert(call.is_verified);
    memcpy(value, "/?a&t=", 6);
    memmove(value + 6, value + 7, size - 1);
    request.path = (struct weir_text){value, size + 5};
    request.field_count = 0;
    if (fuzz_run(state, &request, &call) == WEIR_CONTINUE)
        assert(call.is_verified);
    free(value);
    return 0;
}
