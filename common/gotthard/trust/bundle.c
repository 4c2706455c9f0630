/* SPDX-License-Identifier: ISC */
/* Bundles, by one table of entries; see the header. */
#include "gotthard/trust/bundle.h"

#include <stdarg.h>
#include <stdio.h>

#include "gotthard/trust/access-signature.h"
#include "gotthard/trust/device-keys.h"

#define MAGIC        "GTB1"
#define HEAD_SIZE    (4 + 1)
#define ENTRY_HEAD   (1 + 4)
#define SKIPPED_FROM 0x80 /* types of a later version, without which this one is correct */

#define PEM_MAX           (64 * 1024)
#define CONFIGURATION_MAX (64 * 1024)
#define ACCESS_LIST_MAX   (1024 * 1024) /* GT_ACCESS_TEXT_MAX */
#define DEVICE_KEYS_MAX   (1024 * 1024)
#define BROKER_MAX        300

#define OF(kind) (1u << GT_TOKEN_##kind)

static const struct {
    const char *name;
    size_t max;             /* bytes */
    unsigned needed, known; /* by kinds */
} rows[GT_BUNDLE_N] = {
    [GT_BUNDLE_NAME] = {"name", GT_NAME_MAX, OF(DEVICE) | OF(OPERATOR), OF(RELAY)},
    [GT_BUNDLE_KEY] = {"key", GT_KEY_TEXT_MAX - 1, OF(DEVICE) | OF(OPERATOR) | OF(RELAY), 0},
    [GT_BUNDLE_CERTIFICATE] = {"certificate", PEM_MAX, OF(DEVICE) | OF(OPERATOR), 0},
    [GT_BUNDLE_AUTHORITIES] = {"certificate authorities", PEM_MAX, OF(DEVICE) | OF(OPERATOR), 0},
    [GT_BUNDLE_PRIVATE_KEY] = {"private key", PEM_MAX, 0, OF(DEVICE) | OF(OPERATOR)},
    [GT_BUNDLE_RELAY] = {"relay", GT_HOST_MAX + 8, OF(DEVICE) | OF(OPERATOR), 0},
    [GT_BUNDLE_BROKER] = {"broker", BROKER_MAX, OF(DEVICE) | OF(OPERATOR), 0},
    [GT_BUNDLE_AUTHORITY] = {"authority of the access list", GT_AUTHORITY_TEXT_MAX - 1, 0,
                             OF(DEVICE) | OF(OPERATOR) | OF(RELAY)},
    [GT_BUNDLE_ACCESS_LIST] = {"access list", ACCESS_LIST_MAX, 0, OF(DEVICE) | OF(OPERATOR)},
    [GT_BUNDLE_CONFIGURATION] = {"configuration", CONFIGURATION_MAX, 0,
                                 OF(DEVICE) | OF(OPERATOR) | OF(RELAY)},
    [GT_BUNDLE_DEVICE_KEYS] = {"device keys", DEVICE_KEYS_MAX, 0, OF(OPERATOR)},
};

static GT_PRINTF(2, 3) int bad(char *ret_why, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(ret_why, GT_BUNDLE_WHY, fmt, arguments);
    va_end(arguments);
    return GT_BUNDLE_E_BAD;
}

static bool has(const struct gt_bundle *bundle, enum gt_bundle_entry entry)
{
    return bundle->entries[entry].n > 0;
}

static bool is_known(size_t type)
{
    return type < GT_BUNDLE_N && rows[type].name;
}

const char *gt_bundle_entry_text(enum gt_bundle_entry entry)
{
    return is_known(entry) ? rows[entry].name : "unknown entry";
}

bool gt_bundle_text(const struct gt_bundle *bundle, enum gt_bundle_entry entry, char *ret,
                    size_t cap)
{
    struct gt_span text = bundle->entries[entry];

    if (!text.n || text.n >= cap)
        return false;
    memcpy(ret, text.data, text.n);
    ret[text.n] = 0;
    return true;
}

/* --- bytes ------------------------------------------------------------------------------------ */

size_t gt_bundle_size(const struct gt_bundle *bundle)
{
    size_t n = HEAD_SIZE;

    for (size_t i = 0; i < GT_BUNDLE_N; i++)
        if (bundle->entries[i].n)
            n += ENTRY_HEAD + bundle->entries[i].n;
    return n;
}

int gt_bundle_encode(const struct gt_bundle *bundle, uint8_t *ret, size_t cap, size_t *ret_n,
                     char ret_why[static GT_BUNDLE_WHY])
{
    struct gt_writer w = gt_writer(ret, GT_MIN(cap, (size_t)GT_BUNDLE_MAX));

    gt_write_bytes(&w, MAGIC, strlen(MAGIC));
    gt_write_u8(&w, (uint8_t)bundle->kind);
    for (size_t i = 0; i < GT_BUNDLE_N; i++) {
        struct gt_span entry = bundle->entries[i];

        if (!entry.n)
            continue;
        if (!is_known(i) || entry.n > rows[i].max)
            return bad(ret_why, "%s: more than %zu bytes",
                       gt_bundle_entry_text((enum gt_bundle_entry)i),
                       is_known(i) ? rows[i].max : 0);
        gt_write_u8(&w, (uint8_t)i);
        gt_write_u32(&w, (uint32_t)entry.n);
        gt_write_span(&w, entry);
    }
    if (w.failed)
        return bad(ret_why, "more than %d bytes together", GT_BUNDLE_MAX);
    *ret_n = w.n;
    return 0;
}

static int decode_entry(struct gt_reader *r, struct gt_bundle *bundle, char *ret_why)
{
    uint8_t type = gt_read_u8(r);
    struct gt_span bytes = gt_read_bytes(r, gt_read_u32(r));

    if (r->failed)
        return bad(ret_why, "the bundle is cut off");
    if (type >= SKIPPED_FROM)
        return 0;
    if (!is_known(type))
        return bad(ret_why, "entry of the unknown type %u", type);
    if (has(bundle, (enum gt_bundle_entry)type))
        return bad(ret_why, "%s: occurs twice", rows[type].name);
    if (!bytes.n || bytes.n > rows[type].max)
        return bad(ret_why, "%s: %zu bytes, must have 1 to %zu", rows[type].name, bytes.n,
                   rows[type].max);
    if (memchr(bytes.data, 0, bytes.n))
        return bad(ret_why, "%s: not a text", rows[type].name);
    bundle->entries[type] = bytes;
    return 0;
}

int gt_bundle_decode(struct gt_span bytes, struct gt_bundle *ret,
                     char ret_why[static GT_BUNDLE_WHY])
{
    struct gt_reader r = gt_reader(bytes.data, bytes.n);
    struct gt_bundle bundle = {0};

    if (bytes.n > GT_BUNDLE_MAX)
        return bad(ret_why, "more than %d bytes", GT_BUNDLE_MAX);
    struct gt_span magic = gt_read_bytes(&r, strlen(MAGIC));
    uint8_t kind = gt_read_u8(&r);
    if (r.failed || !gt_span_equals(magic, gt_span_text(MAGIC)))
        return bad(ret_why, "not a bundle");
    if (!gt_token_is_kind(kind))
        return bad(ret_why, "a bundle of the unknown kind %u", kind);
    bundle.kind = (enum gt_token_kind)kind;
    while (r.left > 0) {
        int r_entry = decode_entry(&r, &bundle, ret_why);
        if (r_entry)
            return r_entry;
    }
    *ret = bundle;
    return 0;
}

/* --- contents --------------------------------------------------------------------------------- */

static int check_presence(const struct gt_bundle *bundle, char *ret_why)
{
    unsigned of = 1u << bundle->kind;

    for (size_t i = 0; i < GT_BUNDLE_N; i++) {
        bool is_there = bundle->entries[i].n > 0;

        if (is_there && !((rows[i].needed | rows[i].known) & of))
            return bad(ret_why, "%s: not for a new %s", rows[i].name,
                       gt_token_kind_text(bundle->kind));
        if (!is_there && (rows[i].needed & of))
            return bad(ret_why, "%s: missing", rows[i].name);
    }
    return 0;
}

static int check_name(const struct gt_bundle *bundle, char *ret_why)
{
    char name[GT_NAME_MAX + 1];

    if (!gt_bundle_text(bundle, GT_BUNDLE_NAME, name, sizeof(name)))
        return 0;
    if (!gt_text_is_device_name(bundle->entries[GT_BUNDLE_NAME]))
        return bad(ret_why, "name: not a valid name");
    return 0;
}

static enum gt_key_kind key_kind_of(enum gt_token_kind kind)
{
    switch (kind) {
    case GT_TOKEN_DEVICE: return GT_KEY_DEVICE;
    case GT_TOKEN_OPERATOR: return GT_KEY_OPERATOR;
    case GT_TOKEN_RELAY: return GT_KEY_RELAY;
    }
    return GT_KEY_MASTER;
}

/* A fleet key is none: it is never sent to a newcomer. */
static int check_key(const struct gt_bundle *bundle, char *ret_why)
{
    char text[GT_KEY_TEXT_MAX] = "", name[GT_NAME_MAX + 1] = "";
    struct gt_key key = {0};

    (void)gt_bundle_text(bundle, GT_BUNDLE_KEY, text, sizeof(text));
    (void)gt_bundle_text(bundle, GT_BUNDLE_NAME, name, sizeof(name));
    bool is_good = strncmp(text, "gk1", 3) == 0 && gt_key_parse(text, NULL, &key) == 0 &&
                   key.kind == key_kind_of(bundle->kind) &&
                   (bundle->kind == GT_TOKEN_RELAY || strcmp(key.name, name) == 0);
    gt_key_wipe(&key);
    gt_wipe(text, sizeof(text));
    return is_good ? 0
                   : bad(ret_why, "key: not the key of this %s", gt_token_kind_text(bundle->kind));
}

static int check_private_key(const struct gt_bundle *bundle, bool is_file, char *ret_why)
{
    bool is_there = has(bundle, GT_BUNDLE_PRIVATE_KEY);

    if (is_there && !is_file)
        return bad(ret_why, "private key: in an answer; the newcomer has its own");
    if (!is_there && is_file && has(bundle, GT_BUNDLE_CERTIFICATE))
        return bad(ret_why, "private key: missing");
    return 0;
}

static int check_addresses(const struct gt_bundle *bundle, char *ret_why)
{
    char relay[GT_HOST_MAX + 9], host[GT_HOST_MAX + 1];
    struct gt_span broker = bundle->entries[GT_BUNDLE_BROKER];
    uint16_t port;

    if (gt_bundle_text(bundle, GT_BUNDLE_RELAY, relay, sizeof(relay)) &&
        gt_text_host_port(relay, 0, host, &port) != 0)
        return bad(ret_why, "relay: must be HOST:PORT");
    if (broker.n && (!gt_text_is_ascii(broker) || memchr(broker.data, '"', broker.n) ||
                     memchr(broker.data, '\\', broker.n)))
        return bad(ret_why, "broker: not an address");
    return 0;
}

static int check_authority(const struct gt_bundle *bundle, char *ret_why)
{
    char text[GT_AUTHORITY_TEXT_MAX];
    uint8_t key[GT_KEY_SIZE];
    const char *why;

    if (!gt_bundle_text(bundle, GT_BUNDLE_AUTHORITY, text, sizeof(text)))
        return has(bundle, GT_BUNDLE_ACCESS_LIST)
                   ? bad(ret_why, "access list: without the authority that signs it")
                   : 0;
    return gt_authority_parse_public(text, key, &why) == 0
               ? 0
               : bad(ret_why, "authority of the access list: %s", why);
}

static int check_device_keys(const struct gt_bundle *bundle, char *ret_why)
{
    struct gt_device_keys keys = {0};
    const char *why = "out of memory";
    size_t line = 0;

    if (!has(bundle, GT_BUNDLE_DEVICE_KEYS))
        return 0;
    int r = gt_device_keys_parse(bundle->entries[GT_BUNDLE_DEVICE_KEYS], &keys, &line, &why);
    gt_device_keys_deinit(&keys);
    return r == 0 ? 0 : bad(ret_why, "device keys: line %zu: %s", line, why);
}

int gt_bundle_check(const struct gt_bundle *bundle, bool is_file,
                    char ret_why[static GT_BUNDLE_WHY])
{
    int r = check_presence(bundle, ret_why);

    if (r == 0)
        r = check_name(bundle, ret_why);
    if (r == 0)
        r = check_key(bundle, ret_why);
    if (r == 0)
        r = check_private_key(bundle, is_file, ret_why);
    if (r == 0)
        r = check_addresses(bundle, ret_why);
    if (r == 0)
        r = check_authority(bundle, ret_why);
    return r ? r : check_device_keys(bundle, ret_why);
}
