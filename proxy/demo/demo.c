#include "demo/demo.h"
int demo_open(struct demo *demo, int argc, char **argv) {
    return 2;
}
void demo_greet(const struct demo *demo) {
}
void demo_close(struct demo *demo) {
}
