/* SPDX-License-Identifier: MIT
 *
 * driver.c - runs a fuzzer without libFuzzer, so that any compiler will do:
 *
 *   fuzz_... [-n MUTATIONS] [-s SEED] FILE_OR_FOLDER ...
 *
 * Runs every file, then random mutations of them, which SEED determines. Saves an input that breaks something, or that
 * a sanitizer objects to, as ./crash-input.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LEN 8192
#define MAX_SEEDS 4096
#define MAX_PATH_LEN 4096

struct seed {
    uint8_t *data;
    size_t len;
};

static struct seed seeds[MAX_SEEDS];
static size_t seed_count;
static uint8_t input[MAX_LEN];
static size_t input_len;
static uint64_t state;

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);
char const *__asan_default_options(void);
char const *__ubsan_default_options(void);

/* Makes sanitizers abort, so that keep_input() runs for their findings too. */
char const *__asan_default_options(void)
{
    return "abort_on_error=1";
}

char const *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static void keep_input(int number)
{
    FILE *const f = fopen("crash-input", "wb"); /* not async-signal-safe, but good enough for a dying process */

    if (f != NULL) {
        fwrite(input, 1, input_len, f);
        fclose(f);
        fputs("the input is in ./crash-input\n", stderr);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
}

static size_t below(size_t n)
{
    return (size_t)(draw() % n);
}

static int read_file(char const *path)
{
    FILE *const f = fopen(path, "rb");
    struct seed *const s = &seeds[seed_count];

    if (f == NULL || seed_count == MAX_SEEDS || (s->data = malloc(MAX_LEN)) == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        if (f != NULL)
            fclose(f);
        return 0;
    }
    s->len = fread(s->data, 1, MAX_LEN, f);
    seed_count++;
    fclose(f);
    return 1;
}

static int by_name(struct dirent const **a, struct dirent const **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_path(char const *path)
{
    struct stat status;
    struct dirent **entries;
    int n, ok = 1;

    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return read_file(path);
    n = scandir(path, &entries, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char inner[MAX_PATH_LEN];

        if (entries[i]->d_name[0] != '.' &&
            snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name) < (int)sizeof inner)
            ok &= read_file(inner);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return ok && n >= 0;
}

static void insert(size_t at, uint8_t const *data, size_t len)
{
    if (len > MAX_LEN - input_len)
        len = MAX_LEN - input_len;
    memmove(input + at + len, input + at, input_len - at);
    memcpy(input + at, data, len);
    input_len += len;
}

static void mutate_once(void)
{
    static uint8_t const lengths[] = {0, 4, 16, 24, 28, 32, 36, 40, 44, 104, 136, 168, 255};
    size_t const at = below(input_len + 1);
    uint8_t noise[16];

    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)draw();
    switch (below(7)) {
    case 0:
    case 1:
        if (at < input_len)
            input[at] ^= (uint8_t)(1u << below(8));
        break;
    case 2:
        if (at < input_len)
            input[at] = lengths[below(sizeof lengths)];
        break;
    case 3:
        insert(at, noise, 1 + below(sizeof noise));
        break;
    case 4: {
        size_t const gone = input_len - at < 8 ? input_len - at : 1 + below(8);

        memmove(input + at, input + at + gone, input_len - at - gone);
        input_len -= gone;
        break;
    }
    case 5: { /* part of another seed */
        struct seed const *const other = &seeds[below(seed_count)];
        size_t const from = below(other->len + 1);

        insert(at, other->data + from, below(other->len - from + 1));
        break;
    }
    default: /* fixes and knobs of the first packet */
        if (input_len >= 2) {
            input[0] = (uint8_t)draw();
            input[1] = (uint8_t)draw();
        }
    }
}

/* Copies the input into memory of exactly its size, so that sanitizers see reads beyond it. */
static void run(void)
{
    uint8_t *const copy = malloc(input_len == 0 ? 1 : input_len);

    if (copy == NULL)
        abort();
    memcpy(copy, input, input_len);
    LLVMFuzzerTestOneInput(copy, input_len);
    free(copy);
}

int main(int argc, char **argv)
{
    unsigned long mutations = 20000;
    unsigned long long seed = 1;
    int option;

    while ((option = getopt(argc, argv, "n:s:")) != -1) {
        if (option == 'n')
            mutations = strtoul(optarg, NULL, 10);
        else if (option == 's')
            seed = strtoull(optarg, NULL, 10);
        else
            return EXIT_FAILURE;
    }
    for (int i = optind; i < argc; i++)
        if (!read_path(argv[i]))
            return EXIT_FAILURE;
    if (seed_count == 0) {
        fprintf(stderr, "%s: no inputs\n", argv[0]);
        return EXIT_FAILURE;
    }
    signal(SIGABRT, keep_input);
    state = seed * 0x9e3779b97f4a7c15 + 88172645463325252u;
    for (unsigned long i = 0; i < seed_count + mutations; i++) {
        struct seed const *const from = &seeds[i < seed_count ? i : below(seed_count)];

        memcpy(input, from->data, from->len);
        input_len = from->len;
        if (i >= seed_count)
            for (size_t n = (size_t)1 << below(5); n != 0; n--)
                mutate_once();
        run();
    }
    printf("%s: %zu inputs and %lu mutations (seed %llu), nothing found\n", argv[0], seed_count, mutations, seed);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].data);
    return EXIT_SUCCESS;
}
