/* SPDX-License-Identifier: MIT
 *
 * gcm_siv.c - AES-128-GCM-SIV: known answers, alone, in place and in batches;
 * messages that differ in any one bit from the sealed one; messages that are refused.
 */
#include "../aes_gcm_siv.h"
#include "check.h"

#define MAX 160
#define LANES 9 /* more than any backend does in step */

struct vector {
    char const *key, *nonce, *ad, *text, *sealed; /* in hexadecimal */
};

#define KEY_1 "01000000000000000000000000000000"
#define NONCE_1 "030000000000000000000000"
#define KEY_2 "00112233445566778899aabbccddeeff"

static struct vector const vectors[] = {
    /* RFC 8452 appendix C.1 */
    {KEY_1, NONCE_1, "", "", "dc20e2d83f25705bb49e439eca56de25"},
    {KEY_1, NONCE_1, "", "0100000000000000", "b5d839330ac7b786578782fff6013b815b287c22493a364c"},
    {KEY_1, NONCE_1, "", "010000000000000000000000", "7323ea61d05932260047d942a4978db357391a0bc4fdec8b0d106639"},
    {KEY_1, NONCE_1, "", "01000000000000000000000000000000",
     "743f7c8077ab25f8624e2e948579cf77303aaf90f6fe21199c6068577437a0c4"},
    {KEY_1, NONCE_1, "", "0100000000000000000000000000000002000000000000000000000000000000",
     "84e07e62ba83a6585417245d7ec413a9fe427d6315c09b57ce45f2e3936a94451a8e45dcd4578c667cd86847bf6155ff"},
    {KEY_1, NONCE_1, "",
     "010000000000000000000000000000000200000000000000000000000000000003000000000000000000000000000000",
     "3fd24ce1f5a67b75bf2351f181a475c7b800a5b4d3dcf70106b1eea82fa1d64df42bf7226122fa92e17a40eeaac1201b"
     "5e6e311dbf395d35b0fe39c2714388f8"},
    {KEY_1, NONCE_1, "",
     "010000000000000000000000000000000200000000000000000000000000000003000000000000000000000000000000"
     "04000000000000000000000000000000",
     "2433668f1058190f6d43e360f4f35cd8e475127cfca7028ea8ab5c20f7ab2af02516a2bdcbc08d521be37ff28c152bba"
     "36697f25b4cd169c6590d1dd39566d3f8a263dd317aa88d56bdf3936dba75bb8"},
    {KEY_1, NONCE_1, "01", "0200000000000000", "1e6daba35669f4273b0a1a2560969cdf790d99759abd1508"},
    {KEY_1, NONCE_1, "01", "020000000000000000000000", "296c7889fd99f41917f4462008299c5102745aaa3a0c469fad9e075a"},
    {KEY_1, NONCE_1, "01", "02000000000000000000000000000000",
     "e2b0c5da79a901c1745f700525cb335b8f8936ec039e4e4bb97ebd8c4457441f"},
    {KEY_1, NONCE_1, "01", "0200000000000000000000000000000003000000000000000000000000000000",
     "620048ef3c1e73e57e02bb8562c416a319e73e4caac8e96a1ecb2933145a1d71e6af6a7f87287da059a71684ed3498e1"},
    {KEY_1, NONCE_1, "01",
     "020000000000000000000000000000000300000000000000000000000000000004000000000000000000000000000000",
     "50c8303ea93925d64090d07bd109dfd9515a5a33431019c17d93465999a8b0053201d723120a8562b838cdff25bf9d1e"
     "6a8cc3865f76897c2e4b245cf31c51f2"},
    {KEY_1, NONCE_1, "01",
     "020000000000000000000000000000000300000000000000000000000000000004000000000000000000000000000000"
     "05000000000000000000000000000000",
     "2f5c64059db55ee0fb847ed513003746aca4e61c711b5de2e7a77ffd02da42feec601910d3467bb8b36ebbaebce5fba3"
     "0d36c95f48a3e7980f0e7ac299332a80cdc46ae475563de037001ef84ae21744"},
    {KEY_1, NONCE_1, "010000000000000000000000", "02000000", "a8fe3e8707eb1f84fb28f8cb73de8e99e2f48a14"},
    {KEY_1, NONCE_1, "010000000000000000000000000000000200", "0300000000000000000000000000000004000000",
     "6bb0fecf5ded9b77f902c7d5da236a4391dd029724afc9805e976f451e6d87f6fe106514"},
    {KEY_1, NONCE_1, "0100000000000000000000000000000002000000", "030000000000000000000000000000000400",
     "44d0aaf6fb2f1f34add5e8064e83e12a2adabff9b2ef00fb47920cc72a0c0f13b9fd"},
    {"e66021d5eb8e4f4066d4adb9c33560e4", "f46e44bb3da0015c94f70887", "", "", "a4194b79071b01a87d65f706e3949578"},
    {"36864200e0eaf5284d884a0e77d31646", "bae8e37fc83441b16034566b", "46bb91c3c5", "7a806c",
     "af60eb711bd85bc1e4d3e0a462e074eea428a8"},
    {"aedb64a6c590bc84d1a5e269e4b47801", "afc0577e34699b9e671fdd4f", "fc880c94a95198874296", "bdc66f146545",
     "bb93a3e34d3cd6a9c45545cfc11f03ad743dba20f966"},
    {"d5cc1fd161320b6920ce07787f86743b", "275d1ab32f6d1f0434d8848c", "046787f3ea22c127aaf195d1894728",
     "1177441f195495860f", "4f37281f7ad12949d01d02fd0cd174c84fc5dae2f60f52fd2b"},
    {"b3fed1473c528b8426a582995929a149", "9e9ad8780c8d63d0ab4149c0",
     "c9882e5386fd9f92ec489c8fde2be2cf97e74e93",
     "9f572c614b4745914474e7c7", "f54673c5ddf710c745641c8bc1dc2f871fb7561da1286e655e24b7b0"},
    {"2d4ed87da44102952ef94b02b805249b", "ac80e6f61455bfac8308a2d4",
     "2950a70d5a1db2316fd568378da107b52b0da55210cc1c1b0a",
     "0d8c8451178082355c9e940fea2f58", "c9ff545e07b88a015f05b274540aa183b3449b9f39552de99dc214a1190b0b"},
    {"bde3b2f204d1e9f8b06bc47f9745b3d1", "ae06556fb6aa7890bebc18fe",
     "1860f762ebfbd08284e421702de0de18baa9c9596291b08466f37de21c7f",
     "6b3db4da3d57aa94842b9803a96e07fb6de7", "6298b296e24e8cc35dce0bed484b7f30d5803e377094f04709f64d7b985310a4db84"},
    {"f901cfe8a69615a93fdf7a98cad48179", "6245709fb18853f68d833640",
     "7576f7028ec6eb5ea7e298342a94d4b202b370ef9768ec6561c4fe6b7e7296fa859c21",
     "e42a3c02c25b64869e146d7b233987bddfc240871d",
     "391cc328d484a4f46406181bcd62efd9b3ee197d052d15506c84a9edd65e13e9d24a2a6e70"},
    /* Wycheproof's tests 63 to 67: the counter starts so high that it wraps, or would carry */
    {KEY_2, "010101010101010101010101", "395f4091b410c373073bcdc79e02d3af",
     "43488548d88e6f774bcd2d52c18fbcc933a4e9a9613ff3edbe959ec59522adc098b3133b8d17b9e9dad631ad33752c95",
     "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000"},
    {KEY_2, "000000000000000000000000", "616b2dff4d665e5f7ab890723dd981b1",
     "f012c6a7eb0e8af5bc45e015e7680a693dc709b95383f6a94babec1bc36e4be3cf4f55a31a94f11c6c3f90eed99682bc",
     "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "ffffffffffffffffffffffffffffffff"},
    {KEY_2, "030303030303030303030303", "387a8997605fd04ae8951c4759087864",
     "71ceee58179d6fb968521e9594dbf98cc0040f6aa38fe873c32a9b122d6cbfd51aa4778b3f4f37be7348690d97e2468b",
     "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "fefffffffefffffffefffffffeffffff"},
    {KEY_2, "060606060606060606060606", "6783b0d5e9d8a2a7274065797097d1ae",
     "2e14f9e9a09ea204557367898a80dcad117af3666bea25762b70633a9f3614fbe631ba617c371fd5566d5e613496e69f",
     "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "ffffff7f00112233445566778899aabb"},
    {KEY_2, "010101010101010101010101", "2933810c146f4f7dd146dd43f35199c6",
     "27fac75879c9d87cd52a0793137ba792f6f145148158eb538f2081e09cd0315986a7025045ecbb2ca1bb18a17bfcd567",
     "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "ffffffffffffff7f0011223344556677"},
};

static uint8_t key[16], nonce[12], ad[MAX], text[MAX], sealed[MAX + 16];
static size_t ad_len, len;

/* ---- Known answers ------------------------------------------------------------------------------------- */

static void alone(void)
{
    uint8_t out[MAX + 17];

    memset(out, 0xa5, sizeof out);
    CHECK(AES_GCM_SIV_Seal(out, key, nonce, text, len, ad, ad_len) == 1);
    CHECK(memcmp(out, sealed, len + 16) == 0 && out[len + 16] == 0xa5);
    CHECK(AES_GCM_SIV_Open(out, key, nonce, out, len + 16, ad, ad_len) == 1);
    CHECK(memcmp(out, text, len) == 0);
    CHECK(AES_GCM_SIV_Seal(out, key, nonce, out, len, ad, ad_len) == 1);
    CHECK(memcmp(out, sealed, len + 16) == 0);
    memset(out, 0xa5, sizeof out);
    CHECK(AES_GCM_SIV_Open(out, key, nonce, sealed, len + 16, ad, ad_len) == 1);
    CHECK(memcmp(out, text, len) == 0 && check_all(out + len, 0xa5, sizeof out - len));
}

static void together(void)
{
    static uint8_t out[LANES][MAX + 16];
    AES_SIV_MSG msgs[LANES];

    for (size_t n = 1; n <= LANES; n++) {
        for (size_t i = 0; i < n; i++)
            msgs[i] = (AES_SIV_MSG){.raw_key = key, .raw_key_len = 16, .nonce = nonce, .nonce_len = 12, .ad = ad,
                                    .ad_len = ad_len, .in = text, .in_len = len, .out = out[i]};
        CHECK(AES_GCM_SIV_SealBatch(msgs, n) == 1);
        for (size_t i = 0; i < n; i++) {
            CHECK(msgs[i].ok == 1 && memcmp(out[i], sealed, len + 16) == 0);
            msgs[i].in = sealed;
            msgs[i].in_len = len + 16;
        }
        CHECK(AES_GCM_SIV_OpenBatch(msgs, n) == 1);
        for (size_t i = 0; i < n; i++)
            CHECK(msgs[i].ok == 1 && memcmp(out[i], text, len) == 0);
    }
}

static void known_answers(void)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct vector const *const v = &vectors[i];
        unsigned long const failures = check_failures;

        CHECK(check_unhex(key, v->key) == sizeof key && check_unhex(nonce, v->nonce) == sizeof nonce);
        ad_len = check_unhex(ad, v->ad);
        len = check_unhex(text, v->text);
        CHECK(check_unhex(sealed, v->sealed) == len + 16);
        alone();
        together();
        if (check_failures != failures)
            fprintf(stderr, "in vector %zu\n", i);
    }
}

/* ---- Forgeries ----------------------------------------------------------------------------------------- */

/* Tries to open the current contents of `sealed`, in a batch beside itself. */
static int open_now(void)
{
    static uint8_t out[2][MAX + 1];
    AES_SIV_MSG msgs[2];
    int ok;

    memset(out, 0xa5, sizeof out);
    for (size_t i = 0; i < 2; i++)
        msgs[i] = (AES_SIV_MSG){.raw_key = key, .raw_key_len = 16, .nonce = nonce, .nonce_len = 12, .ad = ad,
                                .ad_len = ad_len, .in = sealed, .in_len = len + 16, .out = out[i]};
    ok = AES_GCM_SIV_OpenBatch(msgs, 2);
    for (size_t i = 0; i < 2; i++) {
        CHECK(msgs[i].ok == ok);
        CHECK(ok ? memcmp(out[i], text, len) == 0 : check_all(out[i], 0, len));
        CHECK(check_all(out[i] + len, 0xa5, sizeof out[i] - len));
    }
    memset(out, 0xa5, sizeof out);
    CHECK(AES_GCM_SIV_Open(out[0], key, nonce, sealed, len + 16, ad, ad_len) == ok);
    CHECK(ok || check_all(out[0], 0, len));
    return ok;
}

static void flip(uint8_t *p, size_t p_len)
{
    for (size_t bit = 0; bit < 8 * p_len; bit++) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(open_now() == 0);
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK(open_now() == 1);
}

static void forgeries(void)
{
    static size_t const lens[] = {0, 1, 15, 16, 17, 72, 144};

    ad_len = 40;
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        len = lens[i];
        check_fill(key, sizeof key);
        check_fill(nonce, sizeof nonce);
        check_fill(ad, sizeof ad);
        check_fill(text, sizeof text);
        CHECK(AES_GCM_SIV_Seal(sealed, key, nonce, text, len, ad, ad_len) == 1);
        flip(sealed, len + 16);
        flip(key, sizeof key);
        flip(nonce, sizeof nonce);
        flip(ad, ad_len);
        ad_len--;
        CHECK(open_now() == 0);
        ad_len++;
        /* A tag of zeros, and one of nothing but ones. */
        memset(sealed + len, 0, 16);
        CHECK(open_now() == 0);
        memset(sealed + len, 0xff, 16);
        CHECK(open_now() == 0);
    }
}

/* ---- Misuse -------------------------------------------------------------------------------------------- */

static AES_SIV_KEY *scheduled;

/* Makes one kind of mistake. Returns 0 when there is none with this number. */
static int spoil(AES_SIV_MSG *m, int number, int seal)
{
    switch (number) {
    case 0:
        m->raw_key = NULL;
        return 1;
    case 1:
        m->raw_key_len = 32;
        return 1;
    case 2:
        m->raw_key_len = 15;
        return 1;
    case 3:
        m->key = scheduled;
        return 1;
    case 4:
        m->nonce = NULL;
        return 1;
    case 5:
        m->nonce_len = 16;
        return 1;
    case 6:
        m->nonce_len = 0;
        return 1;
    case 7:
        m->ad = NULL;
        return 1;
    case 8:
        m->in = NULL;
        return 1;
    case 9:
        m->ad_len = (size_t)((uint64_t)1 << 36);
        return sizeof(size_t) > 4;
    case 10:
        m->in_len = seal ? (size_t)((uint64_t)1 << 36) : 15;
        return sizeof(size_t) > 4;
    default:
        return 0;
    }
}

/* Spoils one of the messages of a batch; the others are not affected. */
static void misuse_in_batch(size_t at, int number, int seal)
{
    static uint8_t out[LANES][MAX + 16];
    AES_SIV_MSG msgs[LANES];

    memset(out, 0xa5, sizeof out);
    for (size_t i = 0; i < LANES; i++)
        msgs[i] = (AES_SIV_MSG){.raw_key = key, .raw_key_len = 16, .nonce = nonce, .nonce_len = 12, .ad = ad,
                                .ad_len = ad_len, .in = seal ? text : sealed, .in_len = len + (seal ? 0 : 16),
                                .out = out[i], .ok = -1};
    spoil(&msgs[at], number, seal);
    CHECK((seal ? AES_GCM_SIV_SealBatch : AES_GCM_SIV_OpenBatch)(msgs, LANES) == 0);
    for (size_t i = 0; i < LANES; i++) {
        CHECK(msgs[i].ok == (i != at));
        if (i != at)
            CHECK(memcmp(out[i], seal ? sealed : text, len) == 0);
        else
            CHECK(check_all(out[i], seal || msgs[i].in_len < 16 ? 0xa5 : 0, len) && check_all(out[i] + len, 0xa5, 16));
    }
}

static void misuse(void)
{
    uint8_t out[32];

    ad_len = 20;
    len = 40;
    scheduled = AES_SIV_KEY_new(text, 32);
    CHECK(scheduled != NULL && AES_GCM_SIV_Seal(sealed, key, nonce, text, len, ad, ad_len) == 1);
    for (int number = 0; spoil(&(AES_SIV_MSG){0}, number, 1); number++) {
        for (size_t at = 0; at < LANES; at++) {
            misuse_in_batch(at, number, 0);
            misuse_in_batch(at, number, 1);
        }
    }
    AES_SIV_KEY_free(scheduled);
    for (size_t n = 0; n < 16; n++) {
        memset(out, 0xa5, sizeof out);
        CHECK(AES_GCM_SIV_Open(out, key, nonce, sealed, n, ad, ad_len) == 0);
        CHECK(check_all(out, 0xa5, sizeof out));
    }
    CHECK(AES_GCM_SIV_Seal(NULL, key, nonce, text, len, ad, ad_len) == 0);
    CHECK(AES_GCM_SIV_Open(NULL, key, nonce, sealed, len + 16, ad, ad_len) == 0);
    /* Empty strings may be NULL. */
    CHECK(AES_GCM_SIV_Seal(out, key, nonce, NULL, 0, NULL, 0) == 1);
    CHECK(AES_GCM_SIV_Open(NULL, key, nonce, out, 16, NULL, 0) == 1);
}

int main(void)
{
    char const *const backend = check_backend();

    known_answers();
    forgeries();
    misuse();
    return check_report("gcm_siv", backend);
}
