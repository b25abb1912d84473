/*
 * Intel's ipsec-mb as a contestant, in a process of its own. It is told by its standard input what to do, and ends with it.
 *
 *   struct request, what = SET    keys: 32 bytes each; packets: struct packet and its text
 *                                 answers with what each packet is when it is sealed, and its tag; then a byte: 1 if all
 *                                 of them opened to their texts
 *   struct request, what = TIME   answers with a double: nanoseconds a packet, the least of all sweeps within the time
 *
 * All numbers as the machine has them. AES-GCM by the direct functions, ChaCha20-Poly1305 by bursts of jobs (1.3 or later).
 */
#include <intel-ipsec-mb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SET, TIME };
enum { CHACHA, AES128, AES256 };
enum { SEAL, OPEN };
enum { TAG = 16, NONCE = 12, MOST = 64, RUNS = 3 };

struct request {
    uint32_t what, algorithm, way, burst, count, keys, stride, reserved;
    uint64_t nanoseconds;
};

struct packet {
    uint32_t len, key;
    uint8_t nonce[NONCE];
};

struct key {
    struct gcm_key_data gcm;
    uint8_t bytes[32];
};

static IMB_MGR *mgr;
static struct request set;
static struct key *keys;
static struct packet packets[MOST];
/* Frames, and what they begin with: texts, and texts sealed. */
static uint8_t *frames, *begin[2];

static void need(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static void take(void *to, size_t len)
{
    need(fread(to, 1, len, stdin) == len, "a request ends before its end");
}

static uint8_t *at(uint8_t *memory, unsigned n)
{
    return memory + (size_t)n * set.stride;
}

static void *room(size_t len, size_t align)
{
    void *memory = aligned_alloc(align, (len + align - 1) / align * align);
    need(memory != NULL, "no memory");
    memset(memory, 0, len);
    return memory;
}

/* One packet by the direct functions; whether its tag is right. */
static int gcm(unsigned n, int way)
{
    struct gcm_context_data context;
    const struct packet *packet = &packets[n];
    const struct gcm_key_data *key = &keys[packet->key].gcm;
    uint8_t *data = at(frames, n), tag[TAG];

    if (way == SEAL) {
        uint8_t *to = data + packet->len;
        if (set.algorithm == AES128)
            IMB_AES128_GCM_ENC(mgr, key, &context, data, data, packet->len, packet->nonce, NULL, 0, to, TAG);
        else
            IMB_AES256_GCM_ENC(mgr, key, &context, data, data, packet->len, packet->nonce, NULL, 0, to, TAG);
        return 1;
    }
    if (set.algorithm == AES128)
        IMB_AES128_GCM_DEC(mgr, key, &context, data, data, packet->len, packet->nonce, NULL, 0, tag, TAG);
    else
        IMB_AES256_GCM_DEC(mgr, key, &context, data, data, packet->len, packet->nonce, NULL, 0, tag, TAG);
    return memcmp(tag, data + packet->len, TAG) == 0;
}

/* Packets from `first` on as one burst of jobs; how many tags are right. */
static unsigned chacha(unsigned first, unsigned count, int way)
{
    static uint8_t tags[MOST][TAG];
    IMB_JOB *jobs[IMB_MAX_BURST_SIZE];
    unsigned right = 0;

    while (IMB_GET_NEXT_BURST(mgr, count, jobs) < count)
        IMB_FLUSH_BURST(mgr, count, jobs);
    for (unsigned i = 0; i < count; i++) {
        const struct packet *packet = &packets[first + i];
        uint8_t *data = at(frames, first + i);
        IMB_JOB *job = jobs[i];
        job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
        job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
        job->cipher_direction = way == SEAL ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
        job->chain_order = way == SEAL ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
        job->enc_keys = job->dec_keys = keys[packet->key].bytes;
        job->key_len_in_bytes = 32;
        job->src = job->dst = data;
        job->cipher_start_src_offset_in_bytes = 0;
        job->hash_start_src_offset_in_bytes = 0;
        job->msg_len_to_cipher_in_bytes = packet->len;
        job->msg_len_to_hash_in_bytes = packet->len;
        job->iv = packet->nonce;
        job->iv_len_in_bytes = NONCE;
        job->auth_tag_output = way == SEAL ? data + packet->len : tags[first + i];
        job->auth_tag_output_len_in_bytes = TAG;
        job->u.CHACHA20_POLY1305.aad = NULL;
        job->u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
    }
    unsigned done = IMB_SUBMIT_BURST_NOCHECK(mgr, count, jobs);
    while (done < count) {
        unsigned more = IMB_FLUSH_BURST(mgr, count - done, jobs);
        need(more > 0, "a burst of jobs does not end");
        done += more;
    }
    if (way == SEAL)
        return count;
    for (unsigned i = 0; i < count; i++)
        right += memcmp(tags[first + i], at(frames, first + i) + packets[first + i].len, TAG) == 0;
    return right;
}

/* All packets up to `count`, once; how many are right. */
static unsigned sweep(unsigned count, unsigned burst, int way)
{
    unsigned right = 0;

    for (unsigned first = 0; first < count; first += burst) {
        unsigned some = count - first < burst ? count - first : burst;
        if (set.algorithm == CHACHA)
            right += chacha(first, some, way);
        else
            for (unsigned i = 0; i < some; i++)
                right += gcm(first + i, way);
    }
    return right;
}

static void restore(unsigned count, int way)
{
    for (unsigned n = 0; n < count; n++)
        memcpy(at(frames, n), at(begin[way], n), packets[n].len + TAG);
}

static void make_set(const struct request *request)
{
    need(request->count <= MOST && request->keys > 0, "too many packets, or no key");
    set = *request;
    free(keys);
    free(frames);
    free(begin[SEAL]);
    free(begin[OPEN]);
    keys = room(sizeof(*keys) * set.keys, 64);
    size_t len = (size_t)set.stride * set.count;
    frames = room(len, 64);
    begin[SEAL] = room(len, 64);
    begin[OPEN] = room(len, 64);
    for (unsigned n = 0; n < set.keys; n++) {
        take(keys[n].bytes, 32);
        if (set.algorithm == AES128)
            IMB_AES128_GCM_PRE(mgr, keys[n].bytes, &keys[n].gcm);
        if (set.algorithm == AES256)
            IMB_AES256_GCM_PRE(mgr, keys[n].bytes, &keys[n].gcm);
    }
    for (unsigned n = 0; n < set.count; n++) {
        take(&packets[n], sizeof(packets[n]));
        need(packets[n].len + TAG <= set.stride && packets[n].key < set.keys, "a packet does not fit");
        take(at(begin[SEAL], n), packets[n].len);
    }
    restore(set.count, SEAL);
    sweep(set.count, MOST, SEAL);
    memcpy(begin[OPEN], frames, len);
    for (unsigned n = 0; n < set.count; n++)
        fwrite(at(frames, n), 1, packets[n].len + TAG, stdout);
    char right = sweep(set.count, MOST, OPEN) == set.count;
    for (unsigned n = 0; n < set.count; n++)
        right &= memcmp(at(frames, n), at(begin[SEAL], n), packets[n].len) == 0;
    fwrite(&right, 1, 1, stdout);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void measure(const struct request *request)
{
    uint64_t start = now(), least = UINT64_MAX, nothing = UINT64_MAX;

    need(request->count > 0 && request->count <= set.count && request->burst > 0, "nothing to time");
    for (unsigned run = 0; run < RUNS || now() - start < request->nanoseconds; run++) {
        restore(request->count, request->way);
        uint64_t before = now();
        unsigned right = sweep(request->count, request->burst, request->way);
        uint64_t after = now(), end = now();
        need(right == request->count, "a packet was not opened");
        least = after - before < least ? after - before : least;
        nothing = end - after < nothing ? end - after : nothing;
    }
    double each = (double)(least > nothing ? least - nothing : 0) / request->count;
    fwrite(&each, sizeof(each), 1, stdout);
}

int main(void)
{
    static const char *const names[] = { "none", "no AES-NI", "SSE", "AVX", "AVX2", "AVX-512" };
    IMB_ARCH arch;
    struct request request;

    mgr = alloc_mb_mgr(0);
    need(mgr != NULL, "no manager");
    init_mb_mgr_auto(mgr, &arch);
    need(imb_get_errno(mgr) == 0, imb_get_strerror(imb_get_errno(mgr)));
    printf("%s, %s\n", imb_get_version_str(), (unsigned)arch < 6 ? names[arch] : "unknown");
    fflush(stdout);
    while (fread(&request, sizeof(request), 1, stdin) == 1) {
        if (request.what == SET)
            make_set(&request);
        else
            measure(&request);
        fflush(stdout);
    }
    return 0;
}
