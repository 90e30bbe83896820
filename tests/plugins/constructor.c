/* A library whose constructor faults: for the fault dlopen_bad. */
__attribute__((constructor)) static void fail(void) {
    *(volatile char *)0 = 1;
}
