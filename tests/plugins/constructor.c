/* A library whose constructor faults: for the fault dlopen_bad. */
static volatile char *volatile nowhere;

__attribute__((constructor)) static void fail(void) {
    *nowhere = 1;
}
