/* Reads the messages that a running nestling gives out packed ([output] postcard): postcard SOCKET [COUNT].
 * cc -O2 -o postcard postcard.c
 *
 * A frame is a length (32 bits, little-endian, of what follows), a byte of version, and the message in postcard: numbers as
 * varints, lists and texts after their length. docs/bus.md has the bytes. The machine is taken to be little-endian. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { VERSION = 1, MOST_FRAME = 1 << 20 };

/* What is left of a message; `at` is NULL once it was shorter than it says. */
struct bytes {
    const uint8_t *at, *end;
};

static const uint8_t *take(struct bytes *b, uint64_t count) {
    const uint8_t *from = b->at;
    if (!from || count > (uint64_t)(b->end - from)) {
        b->at = NULL;
        return NULL;
    }
    b->at = from + count;
    return from;
}

static uint64_t varint(struct bytes *b) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t *byte = take(b, 1);
        if (!byte)
            return 0;
        value |= (uint64_t)(*byte & 0x7F) << shift;
        if (*byte < 0x80)
            return value;
    }
    b->at = NULL;
    return 0;
}

/* Whether a value that may be absent is there. */
static int there(struct bytes *b) {
    const uint8_t *byte = take(b, 1);
    return byte && *byte;
}

static float real32(struct bytes *b) {
    float value = 0;
    const uint8_t *from = take(b, sizeof value);
    if (from)
        memcpy(&value, from, sizeof value);
    return value;
}

static double real64(struct bytes *b) {
    double value = 0;
    const uint8_t *from = take(b, sizeof value);
    if (from)
        memcpy(&value, from, sizeof value);
    return value;
}

/* A text that is printed after `before`. */
static void print_text(struct bytes *b, const char *before) {
    uint64_t length = varint(b);
    const uint8_t *text = take(b, length);
    if (text)
        printf("%s%.*s", before, (int)length, (const char *)text);
}

static void print_feature(struct bytes *b) {
    uint64_t time = varint(b), age = varint(b), encoder = varint(b);
    float novelty = there(b) ? real32(b) : -1, health = there(b) ? real32(b) : -1;
    for (uint64_t blocks = varint(b); blocks > 0 && b->at; blocks--) {
        varint(b); /* values of the block */
        varint(b); /* exponent: value * 2^exponent */
    }
    uint64_t count = varint(b);
    const int8_t *values = (const int8_t *)take(b, count);
    long sum = 0;
    for (uint64_t i = 0; values && i < count; i++)
        sum += values[i];
    (void)age, (void)novelty, (void)health;
    printf("%llu encoder %llu values %llu sum %ld\n", (unsigned long long)time, (unsigned long long)encoder,
           (unsigned long long)count, sum);
}

static void print_decision(struct bytes *b) {
    print_text(b, "");
    printf(" at %llu:", (unsigned long long)varint(b));
    varint(b); /* age */
    for (uint64_t count = varint(b); count > 0 && b->at; count--)
        printf(" %.4f", real64(b));
    printf(" confidence %.3f", real32(b));
    if (there(b))
        print_text(b, " label ");
    if (there(b))
        printf(" alarm %d", there(b));
    if (there(b))
        print_text(b, " safe: ");
    printf("\n");
}

int main(int argc, char **argv) {
    static uint8_t frame[MOST_FRAME];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "postcard SOCKET [COUNT]\n");
        return 2;
    }
    long left = argc > 2 ? atol(argv[2]) : -1;
    strcpy(address.sun_path, argv[1]);
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) < 0) {
        perror(argv[1]);
        return 1;
    }
    FILE *stream = fdopen(connection, "r");
    uint32_t length;
    while (left != 0 && stream && fread(&length, sizeof length, 1, stream) == 1) {
        if (length < 2 || length > MOST_FRAME || fread(frame, length, 1, stream) != 1)
            return fprintf(stderr, "%s: no frame of nestling\n", argv[1]), 1;
        if (frame[0] != VERSION)
            return fprintf(stderr, "%s: frames of version %d, and this reader knows %d\n", argv[1], frame[0], VERSION), 1;
        struct bytes b = {frame + 1, frame + length};
        uint64_t kind = varint(&b);
        if (kind == 0) {
            print_feature(&b);
            left -= left > 0;
        } else if (kind == 1)
            print_decision(&b);
        else if (kind == 2)
            printf("stale for %llu us\n", (unsigned long long)varint(&b));
        if (!b.at)
            return fprintf(stderr, "%s: a message is shorter than it says\n", argv[1]), 1;
        fflush(stdout);
    }
    return 0;
}
