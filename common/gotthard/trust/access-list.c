/* SPDX-License-Identifier: ISC */
/*
 * Parser of access lists, and the look-up of entries in an index that is sorted by name and key: a
 * list has thousands of entries, and a device judges each of its sessions by it.
 */
#include "gotthard/trust/access-list.h"

#include <stdio.h>

#include "gotthard/trust/lines.h"

#define SIGNATURE_WORD "signature "
#define ENROLMENTS     GT_TEXT_RESERVED "*" /* the only pattern that may be revoked */
/* of the word, the signature in base64, and the newline */
#define SIGNATURE_LINE (sizeof(SIGNATURE_WORD) - 1 + 88 + 1)

struct revoked {
    bool is_operator;
    char name[GT_NAME_MAX + 1];
};

struct gt_access_list {
    uint64_t serial;
    time_t issued;
    struct gt_pin *pins; /* owned, in the order of the text */
    size_t n_pins, cap_pins;
    const struct gt_pin **index; /* owned; into ->pins */
    struct revoked *revoked;     /* owned, sorted */
    size_t n_revoked, cap_revoked;
    bool revokes_enrolments; /* d:enroll-* */
};

/* --- the order of the index ------------------------------------------------------------------- */

/* Devices, then operators; by name, then by key. */
static int pin_compare_key(const struct gt_pin *a, const struct gt_pin *b)
{
    int order = (a->role != GT_PIN_DEVICE) - (b->role != GT_PIN_DEVICE);

    if (!order)
        order = strcmp(a->name, b->name);
    return order ? order : memcmp(a->fingerprint, b->fingerprint, GT_KEY_SIZE);
}

static int index_compare(const void *a, const void *b)
{
    const struct gt_pin *const *left = a, *const *right = b;
    int order = pin_compare_key(*left, *right);

    return order ? order : (*left > *right) - (*left < *right); /* the order of the text */
}

static int revoked_compare(const void *a, const void *b)
{
    const struct revoked *left = a, *right = b;
    int order = left->is_operator - right->is_operator;

    return order ? order : strcmp(left->name, right->name);
}

static bool has_same_devices(const struct gt_pin *a, const struct gt_pin *b)
{
    if (a->is_any_device != b->is_any_device || a->n_devices != b->n_devices)
        return false;
    for (size_t i = 0; i < a->n_devices; i++)
        if (strcmp(a->devices[i], b->devices[i]) != 0)
            return false;
    return true;
}

/* Sorts; a duplicate is probably one line too many after a change of the other. */
static int list_index(struct gt_access_list *list, const char **ret_why)
{
    list->index = calloc(list->n_pins + 1, sizeof(*list->index));
    if (!list->index)
        return -ENOMEM;
    for (size_t i = 0; i < list->n_pins; i++)
        list->index[i] = &list->pins[i];
    qsort(list->index, list->n_pins, sizeof(*list->index), index_compare);
    if (list->n_revoked)
        qsort(list->revoked, list->n_revoked, sizeof(*list->revoked), revoked_compare);
    for (size_t i = 1; i < list->n_pins; i++)
        if (pin_compare_key(list->index[i - 1], list->index[i]) == 0 &&
            has_same_devices(list->index[i - 1], list->index[i])) {
            *ret_why = "two entries have the same name, key and devices";
            return GT_ACCESS_E_SYNTAX;
        }
    return 0;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Returns an array with room for one more, or NULL; @all then stays valid. */
static void *grown(void *all, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return all;
    void *more = reallocarray(all, *cap ? 2 * *cap : 8, size);
    if (more)
        *cap = *cap ? 2 * *cap : 8;
    return more;
}

static bool list_is_full(const struct gt_access_list *list)
{
    return list->n_pins + list->n_revoked >= GT_ACCESS_ENTRIES_MAX;
}

static int add_pin(struct gt_access_list *list, struct gt_span line, bool is_operator,
                   const char **ret_why)
{
    static const struct gt_pin_form forms[] = {
        {.is_device = true, .unknown_why = "unknown word after the hash; use until="},
        {.has_role = true,
         .has_services = true,
         .has_devices = true,
         .unknown_why = "unknown word after the hash; use role=, services=, devices= or until="},
    };
    struct gt_pin *pins = grown(list->pins, list->n_pins, &list->cap_pins, sizeof(*pins));

    if (!pins)
        return -ENOMEM;
    list->pins = pins;
    int r = gt_pin_parse(line, &forms[is_operator], &pins[list->n_pins], ret_why);
    if (r)
        return r < 0 ? r : GT_ACCESS_E_SYNTAX;
    if (!is_operator)
        pins[list->n_pins].role = GT_PIN_DEVICE;
    list->n_pins++;
    return 0;
}

static int add_operator(struct gt_access_list *list, struct gt_span line, const char **ret_why)
{
    return add_pin(list, line, true, ret_why);
}

static int add_device(struct gt_access_list *list, struct gt_span line, const char **ret_why)
{
    return add_pin(list, line, false, ret_why);
}

static bool is_last_word(struct gt_span line)
{
    struct gt_span word = gt_line_word(&line);

    return !word.n || *word.data == '#';
}

static int add_revoked(struct gt_access_list *list, struct gt_span line, const char **ret_why)
{
    struct revoked *revoked =
        grown(list->revoked, list->n_revoked, &list->cap_revoked, sizeof(*revoked));
    struct gt_span name = gt_line_word(&line), kind = gt_line_until(&name, ':');

    if (!revoked)
        return -ENOMEM;
    list->revoked = revoked;
    revoked += list->n_revoked;
    *revoked = (struct revoked){.is_operator = gt_span_equals(kind, gt_span_text("o"))};
    bool is_pattern = !revoked->is_operator && gt_span_equals(name, gt_span_text(ENROLMENTS));
    if ((!revoked->is_operator && !gt_span_equals(kind, gt_span_text("d"))) ||
        (!is_pattern && !gt_text_is_name(name)) || !is_last_word(line)) {
        *ret_why =
            "revoked must be followed by o:NAME, d:NAME or d:" ENROLMENTS ", and nothing else";
        return GT_ACCESS_E_SYNTAX;
    }
    list->revokes_enrolments |= is_pattern;
    memcpy(revoked->name, name.data, name.n);
    list->n_revoked++;
    return 0;
}

static int parse_entry(struct gt_access_list *list, struct gt_span line, const char **ret_why)
{
    static const struct {
        const char *word;
        int (*add)(struct gt_access_list *list, struct gt_span line, const char **ret_why);
    } kinds[] = {{"operator", add_operator}, {"device", add_device}, {"revoked", add_revoked}};
    struct gt_span word = gt_line_word(&line);

    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        if (!gt_span_equals(word, gt_span_text(kinds[i].word)))
            continue;
        if (!list_is_full(list))
            return kinds[i].add(list, line, ret_why);
        *ret_why = "too many entries";
        return GT_ACCESS_E_SYNTAX;
    }
    *ret_why = "a line must begin with operator, device or revoked";
    return GT_ACCESS_E_SYNTAX;
}

/* --- the head --------------------------------------------------------------------------------- */

/* Copies the only word after @word to @ret. */
static bool head_value(struct gt_span line, const char *word, char *ret, size_t cap)
{
    if (!gt_span_equals(gt_line_word(&line), gt_span_text(word)))
        return false;
    struct gt_span value = gt_line_word(&line);
    if (value.n >= cap || !is_last_word(line))
        return false;
    memcpy(ret, value.data, value.n);
    ret[value.n] = 0;
    return true;
}

static int parse_serial(struct gt_access_list *list, struct gt_span line, const char **ret_why)
{
    char text[24];

    if (head_value(line, "serial", text, sizeof(text)) &&
        gt_text_number(text, 1, GT_ACCESS_SERIAL_MAX, &list->serial) == 0)
        return 0;
    *ret_why = "the first line must be serial and a number of at most 15 digits";
    return GT_ACCESS_E_SYNTAX;
}

/* Exactly YYYY-MM-DDTHH:MM:SSZ. */
static bool parse_time(const char *text, time_t *ret)
{
    struct tm tm = {0};
    char again[sizeof("YYYY-MM-DDTHH:MM:SSZ")];
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (!end || *end || tm.tm_year < 100 || tm.tm_year > 8099)
        return false;
    time_t time = timegm(&tm);
    if (!gmtime_r(&time, &tm) || !strftime(again, sizeof(again), "%Y-%m-%dT%H:%M:%SZ", &tm) ||
        strcmp(again, text) != 0)
        return false;
    *ret = time;
    return true;
}

static int parse_issued(struct gt_access_list *list, struct gt_span line, const char **ret_why)
{
    char text[24];

    if (head_value(line, "issued", text, sizeof(text)) && parse_time(text, &list->issued))
        return 0;
    *ret_why = "the second line must be issued and a time of the form YYYY-MM-DDTHH:MM:SSZ";
    return GT_ACCESS_E_SYNTAX;
}

/* --- the list --------------------------------------------------------------------------------- */

static int list_parse(struct gt_access_list *list, struct gt_lines *lines, const char **ret_why)
{
    int (*parse[])(struct gt_access_list *, struct gt_span,
                   const char **) = {parse_serial, parse_issued, parse_entry};
    size_t n = 0;
    struct gt_span line;
    int r;

    while ((r = gt_lines_next(lines, &line, ret_why)) == 0) {
        r = parse[n](list, line, ret_why);
        if (r)
            return r;
        n += n < 2;
    }
    if (r != GT_LINES_E_END)
        return GT_ACCESS_E_SYNTAX;
    if (n == 2)
        return list_index(list, ret_why);
    *ret_why = "the first lines must be serial and issued";
    return GT_ACCESS_E_SYNTAX;
}

int gt_access_list_parse(struct gt_span text, struct gt_access_list **ret,
                         char ret_why[static GT_ACCESS_WHY])
{
    struct gt_access_list *list = calloc(1, sizeof(*list));
    const char *why = "";
    struct gt_lines lines;

    if (!list)
        return -ENOMEM;
    gt_lines_init(&lines, text);
    int r = list_parse(list, &lines, &why);
    if (r == 0 && text.n > GT_ACCESS_TEXT_MAX - SIGNATURE_LINE) {
        why = "the list is larger than 1 MiB";
        r = GT_ACCESS_E_SYNTAX;
    }
    if (r > 0)
        snprintf(ret_why, GT_ACCESS_WHY, "line %zu: %s", lines.n, why);
    if (r)
        gt_access_list_free(list);
    else
        *ret = list;
    return r;
}

/* Splits off the last line. Returns false unless it has the exact form of a signature. */
static bool split_signature(struct gt_span text, struct gt_span *ret_signed, uint8_t *ret)
{
    size_t n_word = strlen(SIGNATURE_WORD), n = 0;

    if (text.n < SIGNATURE_LINE || text.data[text.n - 1] != '\n')
        return false;
    struct gt_span body = gt_span(text.data, text.n - SIGNATURE_LINE);
    struct gt_span line = gt_span(text.data + body.n, SIGNATURE_LINE - 1);
    struct gt_span base64 = gt_span(line.data + n_word, line.n - n_word);
    if ((body.n > 0 && body.data[body.n - 1] != '\n') ||
        memcmp(line.data, SIGNATURE_WORD, n_word) != 0 ||
        gt_text_unbase64(base64, ret, GT_ED25519_SIGNATURE_SIZE, &n) != 0 ||
        n != GT_ED25519_SIGNATURE_SIZE)
        return false;
    *ret_signed = body;
    return true;
}

int gt_access_list_open(struct gt_span text, const uint8_t authority[static GT_KEY_SIZE],
                        struct gt_access_list **ret, char ret_why[static GT_ACCESS_WHY])
{
    uint8_t signature[GT_ED25519_SIGNATURE_SIZE];
    struct gt_span body;

    if (text.n > GT_ACCESS_TEXT_MAX || !split_signature(text, &body, signature)) {
        snprintf(ret_why, GT_ACCESS_WHY, "%s",
                 text.n > GT_ACCESS_TEXT_MAX ? "larger than 1 MiB"
                                             : "the last line is no signature");
        return GT_ACCESS_E_SIGNATURE;
    }
    int r = gt_access_verify(authority, GT_ACCESS_CONTEXT_LIST, body, signature);
    if (r > 0) {
        snprintf(ret_why, GT_ACCESS_WHY,
                 "not signed by the configured authority, or changed since");
        return GT_ACCESS_E_SIGNATURE;
    }
    return r ? r : gt_access_list_parse(body, ret, ret_why);
}

int gt_access_list_sign(struct gt_span text, const uint8_t key[static GT_KEY_SIZE], char **ret,
                        size_t *ret_n, char ret_why[static GT_ACCESS_WHY])
{
    uint8_t signature[GT_ED25519_SIGNATURE_SIZE];
    char base64[2 * GT_ED25519_SIGNATURE_SIZE], *whole = NULL;
    struct gt_access_list *list = NULL;
    int r = gt_access_list_parse(text, &list, ret_why);

    gt_access_list_free(list);
    if (r == 0 && text.data[text.n - 1] != '\n') {
        snprintf(ret_why, GT_ACCESS_WHY, "the last line does not end with a newline");
        return GT_ACCESS_E_SYNTAX;
    }
    if (r == 0)
        r = gt_access_sign(key, GT_ACCESS_CONTEXT_LIST, text, signature);
    if (r)
        return r;
    if (gt_text_base64(signature, sizeof(signature), false, base64, sizeof(base64)) != 0)
        return -EIO;
    int n = asprintf(&whole, "%.*s" SIGNATURE_WORD "%s\n", (int)text.n, (const char *)text.data,
                     base64);
    if (n < 0)
        return -ENOMEM;
    *ret = whole;
    *ret_n = (size_t)n;
    return 0;
}

struct gt_access_list *gt_access_list_free(struct gt_access_list *list)
{
    if (!list)
        return NULL;
    for (size_t i = 0; i < list->n_pins; i++)
        gt_pin_deinit(&list->pins[i]);
    free(list->pins);
    free(list->index);
    free(list->revoked);
    free(list);
    return NULL;
}

uint64_t gt_access_list_serial(const struct gt_access_list *list)
{
    return list->serial;
}

time_t gt_access_list_issued(const struct gt_access_list *list)
{
    return list->issued;
}

size_t gt_access_list_count(const struct gt_access_list *list)
{
    return list->n_pins + list->n_revoked;
}

/* --- look-up ---------------------------------------------------------------------------------- */

/* Returns the place of the first entry of the index that is not before @wanted. */
static size_t index_place(const struct gt_access_list *list, const struct gt_pin *wanted)
{
    size_t from = 0, to = list->n_pins;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (pin_compare_key(list->index[middle], wanted) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* @device NULL: any. */
static const struct gt_pin *list_find(const struct gt_access_list *list, bool is_operator,
                                      const char *name, const uint8_t *fingerprint,
                                      const char *device, time_t now)
{
    struct gt_pin wanted = {.role = is_operator ? GT_PIN_OPERATOR : GT_PIN_DEVICE};

    if (!gt_text_is_name(gt_span_text(name)) || gt_access_list_is_revoked(list, is_operator, name))
        return NULL;
    memcpy(wanted.name, name, strlen(name));
    memcpy(wanted.fingerprint, fingerprint, GT_KEY_SIZE);
    now = GT_MAX(now, list->issued);
    for (size_t i = index_place(list, &wanted);
         i < list->n_pins && pin_compare_key(list->index[i], &wanted) == 0; i++)
        if (gt_pin_is_valid(list->index[i], now) &&
            (!device || gt_pin_allows_device(list->index[i], device)))
            return list->index[i];
    return NULL;
}

const struct gt_pin *gt_access_list_operator(const struct gt_access_list *list, const char *name,
                                             const uint8_t fingerprint[static GT_KEY_SIZE],
                                             const char *device, time_t now)
{
    return list_find(list, true, name, fingerprint, device, now);
}

const struct gt_pin *gt_access_list_device(const struct gt_access_list *list, const char *name,
                                           const uint8_t fingerprint[static GT_KEY_SIZE],
                                           time_t now)
{
    return list_find(list, false, name, fingerprint, NULL, now);
}

bool gt_access_list_is_revoked(const struct gt_access_list *list, bool is_operator,
                               const char *name)
{
    struct revoked wanted = {.is_operator = is_operator};

    if (!gt_text_is_name(gt_span_text(name)) || !list->n_revoked)
        return false;
    if (!is_operator && list->revokes_enrolments && !gt_text_is_device_name(gt_span_text(name)))
        return true;
    memcpy(wanted.name, name, strlen(name));
    return bsearch(&wanted, list->revoked, list->n_revoked, sizeof(wanted), revoked_compare);
}

bool gt_access_list_is_too_old(const struct gt_access_list *list, time_t now, uint64_t max_age_s)
{
    return max_age_s && now > list->issued && (uint64_t)(now - list->issued) > max_age_s;
}
