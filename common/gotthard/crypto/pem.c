/* SPDX-License-Identifier: ISC */
/*
 * Blocks are found here and decoded by OpenSSL one at a time: its own readers skip damaged blocks
 * and read a file that was cut off as one that ends earlier. See the header.
 */
#include "gotthard/crypto/pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/crypto/crypto-start.h"

#define LABEL_MAX 40

struct scan {
    struct gt_span left;
    unsigned line; /* number of the last one */
    char *why;
    char other[LABEL_MAX + 1]; /* label of the first block of another kind, or empty */
    unsigned displaced;        /* number of a line with a BEGIN behind other text, or 0 */
};

struct block {
    struct gt_span text; /* with its first and last line */
    unsigned line;
    char label[LABEL_MAX + 1]; /* "CERTIFICATE" */
};

enum { SCAN_END = 2 }; /* no more blocks */

static GT_PRINTF(2, 3) int scan_fail(const struct scan *scan, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(scan->why, GT_PEM_WHY, fmt, arguments);
    va_end(arguments);
    return GT_PEM_E_BAD;
}

/* --- lines and blocks ------------------------------------------------------------------------- */

static bool starts_with(struct gt_span text, const char *start)
{
    size_t n = strlen(start);

    return text.n >= n && memcmp(text.data, start, n) == 0;
}

/* Returns the next line without its end and trailing blanks. */
static struct gt_span scan_line(struct scan *scan)
{
    const uint8_t *end = memchr(scan->left.data, '\n', scan->left.n);
    size_t n = end ? (size_t)(end - scan->left.data) : scan->left.n;
    struct gt_span line = gt_span(scan->left.data, n);

    n += end != NULL;
    scan->left = gt_span(scan->left.data + n, scan->left.n - n);
    scan->line++;
    while (line.n > 0 && strchr(" \t\r", line.data[line.n - 1]))
        line.n--;
    return line;
}

/* Returns true for "-----BEGIN <label>-----", or the same with END. */
static bool parse_boundary(struct gt_span line, const char *start, char ret_label[LABEL_MAX + 1])
{
    size_t n_start = strlen(start);

    if (!starts_with(line, start) || line.n < n_start + 6 || line.n - n_start - 5 > LABEL_MAX ||
        memcmp(line.data + line.n - 5, "-----", 5) != 0)
        return false;
    size_t n = line.n - n_start - 5;
    memcpy(ret_label, line.data + n_start, n);
    ret_label[n] = 0;
    return strspn(ret_label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ") == n;
}

/* The last line of a file that was cut off may be "-----BEG". */
static bool is_part_of_boundary(struct gt_span line, bool is_last)
{
    static const char begin[] = "-----BEGIN ";

    return starts_with(line, begin) || starts_with(line, "-----END ") ||
           (is_last && line.n > 0 && line.n < strlen(begin) &&
            memcmp(line.data, begin, line.n) == 0);
}

static int scan_find_end(struct scan *scan, struct block *block)
{
    char label[LABEL_MAX + 1];

    while (scan->left.n > 0) {
        struct gt_span line = scan_line(scan);

        if (parse_boundary(line, "-----END ", label) && strcmp(label, block->label) == 0) {
            block->text.n = (size_t)(line.data + line.n - block->text.data);
            return 0;
        }
        if (starts_with(line, "-----"))
            break;
    }
    return scan_fail(scan, "line %u: the block %s is cut off (no END line)", block->line,
                     block->label);
}

static int scan_block(struct scan *scan, struct block *ret)
{
    while (scan->left.n > 0) {
        struct gt_span line = scan_line(scan);

        if (parse_boundary(line, "-----BEGIN ", ret->label)) {
            ret->line = scan->line;
            ret->text = line;
            return scan_find_end(scan, ret);
        }
        if (is_part_of_boundary(line, scan->left.n == 0))
            return scan_fail(scan, "line %u: a damaged or incomplete BEGIN or END line",
                             scan->line);
        if (memmem(line.data, line.n, "-----BEGIN ", strlen("-----BEGIN ")))
            scan->displaced = scan->line;
    }
    return SCAN_END;
}

/* --- files that are no PEM --------------------------------------------------------------- */

static bool is_der(struct gt_span text)
{
    return text.n > 3 && text.data[0] == 0x30 && (text.data[1] & 0x80);
}

static struct gt_span skip_blanks(struct gt_span text)
{
    while (text.n > 0 && strchr(" \t\r\n", text.data[0]) && text.data[0])
        text = gt_span(text.data + 1, text.n - 1);
    return text;
}

/* Also sets the scan to the text behind a byte order mark. */
static int scan_start(struct scan *scan, struct gt_span text, char *ret_why)
{
    *scan = (struct scan){.left = text, .why = ret_why};
    if (starts_with(text, "\xef\xbb\xbf"))
        scan->left = gt_span(text.data + 3, text.n - 3);
    struct gt_span visible = skip_blanks(scan->left);
    if (visible.n == 0)
        return scan_fail(scan, "the file is empty");
    if (is_der(text))
        return scan_fail(scan,
                         "the file is in DER form, not PEM (convert: openssl ... -inform DER)");
    if (starts_with(text, "\xff\xfe") || starts_with(text, "\xfe\xff"))
        return scan_fail(scan, "the file is UTF-16 text, not PEM");
    if (memchr(text.data, 0, text.n))
        return scan_fail(scan, "the file is binary, not PEM");
    if (visible.data[0] == '<')
        return scan_fail(scan, "the file is a web page (HTML or XML), not PEM");
    if (memchr(text.data, '\r', text.n) && !memchr(text.data, '\n', text.n))
        return scan_fail(scan, "its lines end with CR alone; write LF or CRLF");
    return 0;
}

static int scan_fail_missing(const struct scan *scan, const char *wanted)
{
    if (*scan->other)
        return scan_fail(scan, "contains %s, expected %s", scan->other, wanted);
    if (scan->displaced)
        return scan_fail(scan, "line %u: text or blanks before -----BEGIN; remove them",
                         scan->displaced);
    return scan_fail(scan, "contains no %s (-----BEGIN ...)", wanted);
}

/* --- decoding ---------------------------------------------------------------------------- */

/* Without this callback libcrypto prompts on the terminal. */
static int no_passphrase(char *buf, int size, int is_writing, void *data)
{
    return -1;
}

static X509 *decode_certificate(const struct block *block)
{
    BIO *bio = BIO_new_mem_buf(block->text.data, (int)block->text.n);
    X509 *certificate = NULL;
    unsigned char *der = NULL;
    char *name = NULL, *header = NULL;
    long n = 0;

    if (bio && PEM_read_bio(bio, &name, &header, &der, &n) == 1) {
        const unsigned char *at = der;

        certificate = strcmp(name, PEM_STRING_X509_TRUSTED) == 0 ? d2i_X509_AUX(NULL, &at, n)
                                                                 : d2i_X509(NULL, &at, n);
        if (certificate && (at != der + n || !X509_get0_pubkey(certificate))) {
            X509_free(certificate);
            certificate = NULL;
        }
    }
    OPENSSL_free(der);
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return certificate;
}

static int scan_add_certificate(struct scan *scan, const struct block *block,
                                struct stack_st_X509 *certificates)
{
    X509 *certificate = decode_certificate(block);

    if (!certificate)
        return scan_fail(scan, "line %u: the certificate is damaged", block->line);
    if (sk_X509_push(certificates, certificate) > 0)
        return 0;
    X509_free(certificate);
    return -ENOMEM;
}

static bool is_certificate(const struct block *block)
{
    return strcmp(block->label, PEM_STRING_X509) == 0 ||
           strcmp(block->label, PEM_STRING_X509_OLD) == 0 ||
           strcmp(block->label, PEM_STRING_X509_TRUSTED) == 0;
}

static void scan_note_other(struct scan *scan, const struct block *block)
{
    if (!*scan->other && strcmp(block->label, "EC PARAMETERS") != 0)
        memcpy(scan->other, block->label, sizeof(scan->other));
}

static int read_certificates(struct gt_span text, struct stack_st_X509 *certificates, char *ret_why)
{
    struct block block;
    struct scan scan;

    int r = scan_start(&scan, text, ret_why);
    while (r == 0 && (r = scan_block(&scan, &block)) == 0) {
        if (is_certificate(&block))
            r = scan_add_certificate(&scan, &block, certificates);
        else
            scan_note_other(&scan, &block);
    }
    if (r == SCAN_END)
        r = sk_X509_num(certificates) > 0 ? 0 : scan_fail_missing(&scan, "CERTIFICATE");
    return r;
}

int gt_pem_certificates(struct gt_span text, struct stack_st_X509 **ret,
                        char ret_why[static GT_PEM_WHY])
{
    struct stack_st_X509 *certificates = sk_X509_new_null();

    if (!certificates)
        return -ENOMEM;
    unsigned before = gt_crypto_n_failed_allocations();
    int r = read_certificates(text, certificates, ret_why);
    if (before != gt_crypto_n_failed_allocations())
        r = -ENOMEM;
    ERR_clear_error();
    if (r)
        gt_pem_certificates_free(certificates);
    else
        *ret = certificates;
    return r;
}

struct stack_st_X509 *gt_pem_certificates_free(struct stack_st_X509 *certificates)
{
    sk_X509_pop_free(certificates, X509_free);
    return NULL;
}

static bool is_encrypted(const struct block *block)
{
    return strcmp(block->label, PEM_STRING_PKCS8) == 0 ||
           memmem(block->text.data, block->text.n, "ENCRYPTED", strlen("ENCRYPTED"));
}

static int scan_decode_key(const struct scan *scan, const struct block *block, EVP_PKEY **ret)
{
    if (is_encrypted(block))
        return scan_fail(scan,
                         "line %u: the key is encrypted; remove its passphrase with "
                         "`openssl pkey -in OLD -out NEW`",
                         block->line);
    if (strcmp(block->label, "OPENSSH PRIVATE KEY") == 0)
        return scan_fail(scan,
                         "line %u: a key in the format of OpenSSH; convert a copy with "
                         "`ssh-keygen -p -m PEM`",
                         block->line);
    BIO *bio = BIO_new_mem_buf(block->text.data, (int)block->text.n);
    *ret = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return *ret ? 0 : scan_fail(scan, "line %u: the private key is damaged", block->line);
}

static bool is_private_key(const struct block *block)
{
    const char *key = strstr(block->label, "PRIVATE KEY");

    return key && strcmp(key, "PRIVATE KEY") == 0;
}

/* Skips to the next private key. Returns as scan_block(). */
static int scan_key(struct scan *scan, struct block *ret)
{
    int r;

    while ((r = scan_block(scan, ret)) == 0 && !is_private_key(ret))
        scan_note_other(scan, ret);
    return r;
}

/* A second key makes the file ambiguous: the certificate belongs to one of them. */
static int read_key(struct scan *scan, EVP_PKEY **ret)
{
    struct block first, second;
    int r = scan_key(scan, &first);

    if (r == SCAN_END)
        return scan_fail_missing(scan, "PRIVATE KEY");
    if (r)
        return r;
    r = scan_key(scan, &second);
    if (r == 0)
        return scan_fail(scan, "line %u: a second private key, expected one", second.line);
    return r == SCAN_END ? scan_decode_key(scan, &first, ret) : r;
}

int gt_pem_key(struct gt_span text, EVP_PKEY **ret, char ret_why[static GT_PEM_WHY])
{
    EVP_PKEY *key = NULL;
    struct scan scan;

    unsigned before = gt_crypto_n_failed_allocations();
    int r = scan_start(&scan, text, ret_why);
    if (r == 0)
        r = read_key(&scan, &key);
    if (before != gt_crypto_n_failed_allocations())
        r = -ENOMEM;
    ERR_clear_error();
    if (r)
        EVP_PKEY_free(key);
    else
        *ret = key;
    return r;
}

int gt_pem_format_key(EVP_PKEY *key, char **ret, size_t *ret_n)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL, *copy = NULL;
    long n = 0;

    if (bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1)
        n = BIO_get_mem_data(bio, &text);
    if (n > 0)
        copy = strndup(text, (size_t)n);
    BIO_free(bio); /* wipes it */
    ERR_clear_error();
    if (!copy)
        return n > 0 ? -ENOMEM : -EIO;
    *ret = copy;
    *ret_n = (size_t)n;
    return 0;
}

int gt_pem_format(const char *label, struct gt_span der, char **ret)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL, *copy = NULL;
    long n = 0;

    if (bio && PEM_write_bio(bio, label, "", der.data, (long)der.n) > 0)
        n = BIO_get_mem_data(bio, &text);
    if (n > 0)
        copy = strndup(text, (size_t)n);
    BIO_free(bio);
    ERR_clear_error();
    if (!copy)
        return n > 0 ? -ENOMEM : -EIO;
    *ret = copy;
    return 0;
}
