/* SPDX-License-Identifier: ISC */
/*
 * Parser of pin files. The file decides about access, so the parser must not guess: a line that
 * does not have exactly the documented form rejects the whole file, with line and reason. A typing
 * error must never silently grant or deny access.
 */
#include "gotthard/signaling/pins.h"

#include <strings.h>

#define PIN_LINE_MAX 4096
#define BOM          "\xef\xbb\xbf"

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* Removes the next word from @line and returns it; empty if there is none. */
static struct gt_span take_word(struct gt_span *line)
{
    while (line->n && is_blank(*line->data))
        *line = gt_span(line->data + 1, line->n - 1);
    size_t n = 0;
    while (n < line->n && !is_blank(line->data[n]))
        n++;
    struct gt_span word = gt_span(line->data, n);
    *line = gt_span(line->data + n, line->n - n);
    return word;
}

/* Removes the text up to and with @separator from @text; returns it without the separator. */
static struct gt_span take_until(struct gt_span *text, char separator)
{
    const uint8_t *at = text->n ? memchr(text->data, separator, text->n) : NULL;
    size_t n = at ? (size_t)(at - text->data) : text->n;
    struct gt_span taken = gt_span(text->data, n);

    *text = at ? gt_span(at + 1, text->n - n - 1) : gt_span(text->data + n, 0);
    return taken;
}

static bool is_printable(struct gt_span line)
{
    for (size_t i = 0; i < line.n; i++)
        if ((line.data[i] < 0x20 && line.data[i] != '\t') || line.data[i] > 0x7e)
            return false;
    return true;
}

/* Removes "SHA256:" of either case, as tools print it before a hash. */
static struct gt_span skip_algorithm(struct gt_span word)
{
    static const char name[] = "sha256:";
    size_t n = strlen(name);

    if (word.n > n && strncasecmp((const char *)word.data, name, n) == 0)
        return gt_span(word.data + n, word.n - n);
    return word;
}

/* Copies the hex digits, with a colon after each pair or without any. Returns their number, or 0.
 */
static size_t copy_digits(struct gt_span word, char ret[static 2 * GT_KEY_SIZE + 1])
{
    bool has_colons = word.n == 3 * GT_KEY_SIZE - 1;
    size_t n = 0;

    if (!has_colons && word.n != 2 * GT_KEY_SIZE)
        return 0;
    for (size_t i = 0; i < word.n; i++) {
        if (has_colons && i % 3 == 2 && word.data[i] != ':')
            return 0;
        if (!has_colons || i % 3 != 2)
            ret[n++] = (char)word.data[i];
    }
    ret[n] = 0;
    return n;
}

static bool parse_fingerprint(struct gt_span word, uint8_t ret[static GT_KEY_SIZE])
{
    char text[2 * GT_KEY_SIZE + 1];
    size_t n = 0;

    word = skip_algorithm(word);
    if (copy_digits(word, text) > 0)
        return gt_text_unhex(text, ret, GT_KEY_SIZE) == 0;
    return gt_text_unbase64(word, ret, GT_KEY_SIZE, &n) == 0 && n == GT_KEY_SIZE;
}

static const char *parse_role(struct gt_span value, struct gt_pin *pin)
{
    if (gt_span_equals(value, gt_span_text("operator")))
        pin->role = GT_PIN_OPERATOR;
    else if (gt_span_equals(value, gt_span_text("admin")))
        pin->role = GT_PIN_ADMIN;
    else if (gt_span_equals(value, gt_span_text("device")))
        pin->role = GT_PIN_DEVICE;
    else
        return "role must be operator, admin or device";
    return NULL;
}

/* A failed strndup() leaves NULL in the list, which pin_is_complete() detects. */
static const char *parse_services(struct gt_span value, struct gt_pin *pin)
{
    pin->is_any_service = gt_span_equals(value, gt_span_text("*"));
    if (pin->is_any_service)
        return NULL;
    pin->services = calloc(GT_PIN_SERVICES_MAX, sizeof(*pin->services));
    bool is_more = true;
    while (pin->services && is_more) {
        size_t n_before = value.n;
        struct gt_span service = take_until(&value, ',');

        is_more = service.n < n_before;
        if (!service.n || service.n > GT_SERVICE_MAX || memchr(service.data, '*', service.n))
            return "services must be a list of names separated by commas, or *";
        if (pin->n_services == GT_PIN_SERVICES_MAX)
            return "too many services";
        pin->services[pin->n_services++] = strndup((const char *)service.data, service.n);
    }
    return NULL;
}

static bool parse_date(struct gt_span value, struct tm *ret)
{
    char text[sizeof("YYYY-MM-DD")];
    uint64_t year, month, day;

    if (value.n != sizeof(text) - 1 || value.data[4] != '-' || value.data[7] != '-')
        return false;
    for (size_t i = 0; i < value.n; i++)
        if (i != 4 && i != 7 && (value.data[i] < '0' || value.data[i] > '9'))
            return false;
    memcpy(text, value.data, value.n);
    text[value.n] = 0;
    year = strtoul(text, NULL, 10);
    month = strtoul(text + 5, NULL, 10);
    day = strtoul(text + 8, NULL, 10);
    *ret = (struct tm){.tm_year = (int)year - 1900, .tm_mon = (int)month - 1, .tm_mday = (int)day};
    struct tm same = *ret;
    /* timegm() turns 31 April into 1 May: such a date is invalid */
    return year >= 2000 && timegm(&same) >= 0 && same.tm_mon == ret->tm_mon &&
           same.tm_mday == ret->tm_mday;
}

static const char *parse_until(struct gt_span value, struct gt_pin *pin)
{
    struct tm day;

    if (!parse_date(value, &day))
        return "until must be a date of the form YYYY-MM-DD";
    day.tm_mday++;
    pin->until = timegm(&day);
    return NULL;
}

/* Parses the words after name and hash. Each may occur once. */
static const char *parse_options(struct gt_span line, struct gt_pin *pin)
{
    static const struct {
        const char *name;
        const char *(*parse)(struct gt_span value, struct gt_pin *pin);
    } options[] = {{"role", parse_role}, {"services", parse_services}, {"until", parse_until}};
    bool is_seen[GT_ARRAY_SIZE(options)] = {false};
    pin->is_any_service = true;
    for (struct gt_span word; (word = take_word(&line)).n && *word.data != '#';) {
        struct gt_span name = take_until(&word, '=');
        size_t i = 0;

        while (i < GT_ARRAY_SIZE(options) && !gt_span_equals(name, gt_span_text(options[i].name)))
            i++;
        if (i == GT_ARRAY_SIZE(options))
            return "unknown word after the hash; use role=, services= or until=";
        if (is_seen[i])
            return "duplicate word";
        is_seen[i] = true;
        const char *why = options[i].parse(word, pin);
        if (why)
            return why;
    }
    return NULL;
}

static const char *parse_pin(struct gt_span line, struct gt_pin *pin)
{
    struct gt_span name = take_word(&line);

    if (!gt_text_is_name(name))
        return "invalid name";
    memcpy(pin->name, name.data, name.n);
    if (!parse_fingerprint(take_word(&line), pin->fingerprint))
        return "the second word must be the SHA-256 of a key (64 hex digits, with or without colons, or "
               "base64)";
    return parse_options(line, pin);
}

static void pin_deinit(struct gt_pin *pin)
{
    for (size_t i = 0; i < pin->n_services; i++)
        free(pin->services[i]);
    free(pin->services);
}

void gt_pins_free(struct gt_pin *pins, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pin_deinit(&pins[i]);
    free(pins);
}

struct pin_list {
    struct gt_pin *pins;
    size_t n, cap;
};

static bool list_has(const struct pin_list *list, const struct gt_pin *pin)
{
    for (size_t i = 0; i < list->n; i++)
        if (memcmp(list->pins[i].fingerprint, pin->fingerprint, GT_KEY_SIZE) == 0 &&
            strcmp(list->pins[i].name, pin->name) == 0)
            return true;
    return false;
}

static bool list_grow(struct pin_list *list)
{
    size_t cap = list->cap ? 2 * list->cap : 8;
    struct gt_pin *pins = reallocarray(list->pins, cap, sizeof(*pins));

    if (!pins)
        return false;
    list->pins = pins;
    list->cap = cap;
    return true;
}

static bool pin_is_complete(const struct gt_pin *pin)
{
    for (size_t i = 0; i < pin->n_services; i++)
        if (!pin->services[i])
            return false;
    return pin->is_any_service || pin->services;
}

/* Returns 0, -ENOMEM, or E_SYNTAX with *ret_why. */
static int list_add(struct pin_list *list, struct gt_span line, const char **ret_why)
{
    if (list->n == list->cap && !list_grow(list))
        return -ENOMEM;
    struct gt_pin *pin = &list->pins[list->n];
    *pin = (struct gt_pin){0};
    const char *why = parse_pin(line, pin);
    if (!why && list_has(list, pin))
        why = "duplicate pin: this name already has this key";
    if (!why && list->n == GT_PINS_MAX)
        why = "too many pins";
    bool is_complete = pin_is_complete(pin);
    if (!why && is_complete) {
        list->n++;
        return 0;
    }
    pin_deinit(pin);
    if (!why)
        return -ENOMEM;
    *ret_why = why;
    return GT_PINS_E_SYNTAX;
}

/* Removes the CR of a line that ends with CRLF. */
static struct gt_span without_cr(struct gt_span line)
{
    return gt_span(line.data, line.n - (line.n > 0 && line.data[line.n - 1] == '\r'));
}

static struct gt_span without_mark(struct gt_span text)
{
    size_t n = strlen(BOM);

    return text.n >= n && memcmp(text.data, BOM, n) == 0 ? gt_span(text.data + n, text.n - n)
                                                         : text;
}

static int list_add_line(struct pin_list *list, struct gt_span line, const char **ret_why)
{
    line = without_cr(line);
    struct gt_span remaining = line;

    *ret_why = line.n > PIN_LINE_MAX ? "line too long"
               : !is_printable(line) ? "control character or non-ASCII character"
                                     : NULL;
    if (*ret_why)
        return GT_PINS_E_SYNTAX;
    struct gt_span first = take_word(&remaining);
    return !first.n || *first.data == '#' ? 0 : list_add(list, line, ret_why);
}

int gt_pins_parse(struct gt_span text, struct gt_pin **ret_pins, size_t *ret_n, size_t *ret_line,
                  const char **ret_why)
{
    struct pin_list list = {0};
    const char *why = NULL;
    size_t n_lines = 0;
    int r = 0;

    text = without_mark(text);
    while (r == 0 && text.n) {
        n_lines++;
        r = list_add_line(&list, take_until(&text, '\n'), &why);
    }
    if (r) {
        gt_pins_free(list.pins, list.n);
        *ret_line = n_lines;
        *ret_why = why ? why : "out of memory";
        return r;
    }
    *ret_pins = list.pins;
    *ret_n = list.n;
    return 0;
}

bool gt_pin_allows_service(const struct gt_pin *pin, const char *service)
{
    if (!pin || pin->is_any_service)
        return true;
    for (size_t i = 0; i < pin->n_services; i++)
        if (strcmp(pin->services[i], service) == 0)
            return true;
    return false;
}

bool gt_pin_is_admin(const struct gt_pin *pin)
{
    return !pin || pin->role == GT_PIN_ADMIN;
}
