/* Edit distance (optimal string alignment: a swap of neighbours is one change), case ignored. Near
 * is what differs in at most a third of the letters, or goes on where the other ends. */
#include "config/suggest.h"

#include <ctype.h>

static bool is_start(struct slice a, struct slice b);
static unsigned distance(struct slice a, struct slice b);
static unsigned least(unsigned a, unsigned b, unsigned c);
static bool is_same(char a, char b);

void suggest_offer(struct suggest *suggest, struct slice candidate) {
    size_t longer = suggest->word.len > candidate.len ? suggest->word.len : candidate.len;
    unsigned change;

    if (longer > SUGGEST_LENGTH_MAX || suggest->word.len == 0)
        return;
    change = distance(suggest->word, candidate);
    if ((change > (longer + 1) / 3 && !is_start(suggest->word, candidate)) ||
        (suggest->best.len > 0 && change >= suggest->best_change))
        return;
    suggest->best = candidate;
    suggest->best_change = change;
}

/* Is one the start of the other, and more than a letter or two? */
static bool is_start(struct slice a, struct slice b) {
    size_t len = a.len < b.len ? a.len : b.len;

    return len >= 3 && strncasecmp(a.base, b.base, len) == 0;
}

static unsigned distance(struct slice a, struct slice b) {
    unsigned rows[3][SUGGEST_LENGTH_MAX + 1];

    for (unsigned j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i - 1) % 3];
        const unsigned *two_above = rows[(i + 1) % 3];

        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned change = !is_same(a.base[i - 1], b.base[j - 1]);

            row[j] = least(above[j] + 1, row[j - 1] + 1, above[j - 1] + change);
            if (i > 1 && j > 1 && is_same(a.base[i - 1], b.base[j - 2]) &&
                is_same(a.base[i - 2], b.base[j - 1]))
                row[j] = least(row[j], two_above[j - 2] + 1, row[j]);
        }
    }
    return rows[a.len % 3][b.len];
}

static unsigned least(unsigned a, unsigned b, unsigned c) {
    unsigned ab = a < b ? a : b;

    return ab < c ? ab : c;
}

static bool is_same(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}
