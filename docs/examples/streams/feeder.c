/* Frames from a program in C: a producer of a stream whose consumers are ranks in Python (fed.py beside this file).

       mpicc -O2 -o feeder feeder.c
       mpiexec -n 2 ./feeder frames 3 100 : -n 3 python -m mpi4py fed.py frames 2 100

   feeder STREAM CONSUMERS FRAMES: the last CONSUMERS ranks of the job take FRAMES frames of each feeder, dealt to them in
   turn. The bytes are those of docs/explanations/streams.md. It needs a C compiler and a computer that is little-endian,
   as the wire is. */

#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS = 256, COLUMNS = 320, PIXELS = ROWS * COLUMNS };
enum { HEAD = 0, PIXEL = 1, DOWN = 2, UP = 3 };                /* a stream's tags */
enum { MESSAGES = 2, BEAT = 3, CREDIT = 4, ABORTED = 5 };      /* kinds of notes */
enum { END = 1, MAGIC = 0x4532534C, WHOLE = 0xFFFF, KEYS = 1 << 22, INLINE = 16384, MAX_TEXT = 1000 };
static const double BEAT_S = 0.25, SILENCE_S = 10.0;

/* An element's header with the columns of one frame: index and time; 128 bytes, where its pixels begin. */
typedef struct {
    uint32_t magic, flags;
    uint64_t identity, sequence, payload;
    int64_t local;
    uint32_t frames, part, channels, rows, columns;
    char pixel[4];
    int64_t index;
    double time;
    char rest[48];
} Head;
enum { HEADER_BYTES = 64 };

typedef struct {
    uint64_t identity;
    uint32_t kind, length;
    int64_t first, second;
    char text[MAX_TEXT];
} Note;
enum { NOTE_BYTES = 32 };

/* The way to one consumer. */
typedef struct {
    MPI_Comm comm;
    int partner, tag;
    uint64_t identity, sent;
    int64_t granted;
    double heard, told;
} Link;

static void fail(const char *what, int rank)
{
    fprintf(stderr, "feeder: %s (consumer on rank %d)\n", what, rank);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

/* The first 8 bytes of BLAKE2b of a name of up to 128 bytes: one block of RFC 7693, section 3.2. */
static uint64_t rotated(uint64_t word, int by) { return word >> by | word << (64 - by); }

static void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y)
{
    v[a] += v[b] + x, v[d] = rotated(v[d] ^ v[a], 32);
    v[c] += v[d], v[b] = rotated(v[b] ^ v[c], 24);
    v[a] += v[b] + y, v[d] = rotated(v[d] ^ v[a], 16);
    v[c] += v[d], v[b] = rotated(v[b] ^ v[c], 63);
}

static uint64_t identity_of(const char *name)
{
    static const uint64_t start[8] = {
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179};
    static const uint8_t order[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    uint64_t m[16] = {0}, v[16], first = start[0] ^ 0x01010008; /* no key, 8 bytes wanted */
    size_t length = strlen(name);
    if (length > sizeof m)
        fail("the name of a stream has 128 bytes at most here", -1);
    memcpy(m, name, length);
    memcpy(v, start, sizeof start), memcpy(v + 8, start, sizeof start);
    v[0] = first, v[12] ^= length, v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = order[round % 10];
        for (int i = 0; i < 4; i++)
            mix(v, i, 4 + i, 8 + i, 12 + i, m[s[2 * i]], m[s[2 * i + 1]]);
        for (int i = 0; i < 4; i++)
            mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
    }
    return first ^ v[0] ^ v[8];
}

/* Every rank of the job makes the same calls, in this order: see "Other languages" in streams.md. */
static MPI_Comm joined(void)
{
    MPI_Comm messages, streams, host;
    MPI_Comm_dup(MPI_COMM_WORLD, &messages);
    int size, rank, sharers;
    MPI_Comm_size(messages, &size), MPI_Comm_rank(messages, &rank);
    char *none = calloc(2, (size_t)size);
    for (int i = 0; i < 64; i++)
        MPI_Alltoall(none, 1, MPI_BYTE, none + size, 1, MPI_BYTE, messages);
    free(none);
    MPI_Comm_dup(MPI_COMM_WORLD, &streams);
    MPI_Comm_split_type(streams, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    MPI_Comm_size(host, &sharers);
    int64_t least = INT64_MAX, own = rank; /* we want no memory in common, and leave the others theirs */
    MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_INT64_T, MPI_MIN, host);
    if (least >= 16 << 20 && sharers > 1 && least < INT64_MAX) {
        MPI_Win window;
        void *memory;
        int64_t *ranks = malloc(sizeof *ranks * (size_t)sharers);
        MPI_Win_allocate_shared(0, 1, MPI_INFO_NULL, host, &memory, &window);
        MPI_Win_lock_all(0, window);
        MPI_Allgather(&own, 1, MPI_INT64_T, ranks, 1, MPI_INT64_T, host);
        free(ranks);
    }
    return streams;
}

static void tell(Link *link, uint32_t kind)
{
    Note note = {.identity = link->identity, .kind = kind};
    MPI_Send(&note, NOTE_BYTES, MPI_BYTE, link->partner, link->tag + DOWN, link->comm); /* small: it does not wait */
    link->told = MPI_Wtime();
}

/* Take in what the consumer says, and say that this rank lives. */
static void tend(Link *link)
{
    int there;
    MPI_Status status;
    while (MPI_Iprobe(link->partner, link->tag + UP, link->comm, &there, &status), there) {
        Note note = {0};
        MPI_Recv(&note, sizeof note, MPI_BYTE, link->partner, link->tag + UP, link->comm, MPI_STATUS_IGNORE);
        link->heard = MPI_Wtime();
        if (note.identity != link->identity)
            fail("a note of another stream came", link->partner);
        if (note.kind == CREDIT && note.first > link->granted)
            link->granted = note.first;
        if (note.kind == ABORTED)
            fail(note.text, link->partner);
    }
    if (MPI_Wtime() - link->told > BEAT_S)
        tell(link, BEAT);
    if (MPI_Wtime() - link->heard > SILENCE_S)
        fail("no sign of life for 10 s", link->partner);
}

static void nap(void) { nanosleep(&(struct timespec){0, 100000}, NULL); }

/* Wait until the consumer has the message, as long as it lives. */
static void send_all(Link *link, const void *data, int bytes, int tag)
{
    MPI_Request request;
    int done;
    MPI_Isend(data, bytes, MPI_BYTE, link->partner, link->tag + tag, link->comm, &request);
    while (MPI_Test(&request, &done, MPI_STATUS_IGNORE), !done)
        tend(link), nap();
}

static void send_frame(Link *link, int64_t index, const uint16_t *pixels)
{
    struct timespec now;
    while (tend(link), (int64_t)link->sent >= link->granted) /* a credit for each element */
        nap();
    clock_gettime(CLOCK_REALTIME, &now);
    Head head = {
        MAGIC, 0, link->identity, link->sent++, PIXELS * sizeof *pixels, 0, 1, WHOLE, 1, ROWS, COLUMNS, "<u2",
        index, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, ""};
    send_all(link, &head, sizeof head, HEAD);
    send_all(link, pixels, (int)head.payload, PIXEL);
}

/* The end needs no credit, and says how many elements there were. */
static void send_end(Link *link)
{
    Head head = {MAGIC, END, link->identity, link->sent, 0, 0, 0, WHOLE, 1, 1, 1, "|u1", 0, 0.0, ""};
    send_all(link, &head, HEADER_BYTES, HEAD);
}

int main(int count, char **words)
{
    _Static_assert(sizeof(Head) == 128 && PIXELS * 2 > INLINE, "fewer pixels would have to go with their head");
    MPI_Init(&count, &words);
    if (count != 4)
        fail("usage: feeder STREAM CONSUMERS FRAMES", -1);
    MPI_Comm comm = joined();
    int rank, size, consumers = atoi(words[2]), frames = atoi(words[3]);
    MPI_Comm_rank(comm, &rank), MPI_Comm_size(comm, &size);
    uint64_t identity = identity_of(words[1]);
    Link *links = calloc((size_t)consumers, sizeof *links);
    uint16_t *pixels = malloc(PIXELS * sizeof *pixels);
    for (int i = 0; i < consumers; i++) {
        links[i] = (Link){comm, size - consumers + i, (int)(identity % KEYS) * 4, identity, 0, 0, MPI_Wtime(), 0.0};
        tell(&links[i], MESSAGES);
    }
    for (int64_t index = 0; index < frames; index++) {
        for (int i = 0; i < PIXELS; i++)
            pixels[i] = (uint16_t)(i + 257 * index + 1031 * rank);
        send_frame(&links[index % consumers], index, pixels);
        for (int i = 0; i < consumers; i++)
            tend(&links[i]);
    }
    for (int i = 0; i < consumers; i++)
        send_end(&links[i]);
    free(pixels), free(links);
    MPI_Finalize();
    return 0;
}
