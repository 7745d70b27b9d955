/* Reads the features that a running nestling gives out on its socket ([output] socket): features SOCKET [COUNT].
 * cc -O2 -o features features.c
 *
 * A line is one JSON object whose keys come in the order t_us, age_us, encoder, novelty, health, blocks, feature; all numbers
 * are plain. That is little enough to read without a library; other lines (decisions, staleness) are printed as they are. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { MOST_VALUES = 1 << 16, MOST_LINE = 1 << 19 };

/* The number after "key":, or -1. */
static long long number(const char *line, const char *key) {
    const char *at = strstr(line, key);
    return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}

/* Reads the feature of a line into `values`; its length, or -1 where the line has none. */
static long feature(const char *line, signed char *values) {
    const char *at = strstr(line, "\"feature\":[");
    long count = 0;
    if (!at)
        return -1;
    at += strlen("\"feature\":[");
    while (*at != ']' && *at != '\0' && count < MOST_VALUES) {
        char *end;
        values[count++] = (signed char)strtol(at, &end, 10);
        if (end == at)
            return -1;
        at = *end == ',' ? end + 1 : end;
    }
    return count;
}

int main(int argc, char **argv) {
    static char line[MOST_LINE];
    static signed char values[MOST_VALUES];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "features SOCKET [COUNT]\n");
        return 2;
    }
    long left = argc > 2 ? atol(argv[2]) : -1;
    strcpy(address.sun_path, argv[1]);
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) < 0) {
        perror(argv[1]);
        return 1;
    }
    FILE *lines = fdopen(connection, "r");
    while (left != 0 && lines && fgets(line, sizeof line, lines)) {
        long count = feature(line, values), sum = 0;
        if (count < 0) {
            fputs(line, stdout);
            continue;
        }
        for (long i = 0; i < count; i++)
            sum += values[i];
        printf("%lld encoder %lld values %ld sum %ld\n", number(line, "\"t_us\":"), number(line, "\"encoder\":"), count, sum);
        fflush(stdout);
        if (left > 0)
            left--;
    }
    return 0;
}
