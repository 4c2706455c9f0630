/* SPDX-License-Identifier: ISC */
/*
 * Parser of pins. A pin decides about access, so the parser must not guess: a line that does not
 * have exactly the documented form is rejected with a reason. A typing error must never silently
 * grant or deny access.
 */
#include "gotthard/trust/pin.h"

#include <strings.h>

#include "gotthard/trust/lines.h"

static const char no_memory[] = "out of memory"; /* recognized by its address */

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

static const char *parse_role(struct gt_span value, const struct gt_pin_form *form,
                              struct gt_pin *pin)
{
    if (gt_span_equals(value, gt_span_text("operator")))
        pin->role = GT_PIN_OPERATOR;
    else if (gt_span_equals(value, gt_span_text("admin")))
        pin->role = GT_PIN_ADMIN;
    else if (form->has_device_role && gt_span_equals(value, gt_span_text("device")))
        pin->role = GT_PIN_DEVICE;
    else
        return form->has_device_role ? "role must be operator, admin or device"
                                     : "role must be operator or admin";
    return NULL;
}

/* A list of texts that is being parsed. */
struct names {
    char **all; /* owned */
    size_t n;
};

static void names_free(char **all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(all[i]);
    free(all);
}

static const char *names_add(struct names *names, struct gt_span name)
{
    char **all = reallocarray(names->all, names->n + 1, sizeof(*all));

    if (all)
        names->all = all;
    if (!all || !(all[names->n] = strndup((const char *)name.data, name.n)))
        return no_memory;
    names->n++;
    return NULL;
}

/* Parses "a,b". @is_name judges an item; @why is the answer to one that it rejects. */
static const char *parse_names(struct gt_span value, bool (*is_name)(struct gt_span name),
                               size_t max, const char *why, const char *why_many, struct names *ret)
{
    const char *error = NULL;
    bool is_more = true;

    while (!error && is_more) {
        size_t n_before = value.n;
        struct gt_span name = gt_line_until(&value, ',');

        is_more = name.n < n_before;
        error = !is_name(name) ? why : ret->n == max ? why_many : names_add(ret, name);
    }
    return error;
}

static bool is_service(struct gt_span name)
{
    return name.n > 0 && name.n <= GT_SERVICE_MAX && !memchr(name.data, '*', name.n);
}

static const char *parse_services(struct gt_span value, const struct gt_pin_form *form,
                                  struct gt_pin *pin)
{
    struct names names = {0};

    pin->is_any_service = gt_span_equals(value, gt_span_text("*"));
    if (pin->is_any_service)
        return NULL;
    const char *why = parse_names(value, is_service, GT_PIN_SERVICES_MAX,
                                  "services must be a list of names separated by commas, or *",
                                  "too many services", &names);
    pin->services = names.all;
    pin->n_services = names.n;
    return why;
}

/* A name in which any characters may be *. */
static bool is_pattern(struct gt_span pattern)
{
    char name[GT_NAME_MAX];

    if (!pattern.n || pattern.n > sizeof(name))
        return false;
    for (size_t i = 0; i < pattern.n; i++)
        name[i] = pattern.data[i] == '*' ? 'x' : (char)pattern.data[i];
    return gt_text_is_name(gt_span(name, pattern.n));
}

static const char *parse_devices(struct gt_span value, const struct gt_pin_form *form,
                                 struct gt_pin *pin)
{
    struct names names = {0};

    pin->is_any_device = gt_span_equals(value, gt_span_text("*"));
    if (pin->is_any_device)
        return NULL;
    const char *why = parse_names(
        value, is_pattern, GT_PIN_DEVICES_MAX,
        "devices must be a list of names separated by commas, in which * stands for any characters",
        "too many devices", &names);
    pin->devices = names.all;
    pin->n_devices = names.n;
    return why;
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

static const char *parse_until(struct gt_span value, const struct gt_pin_form *form,
                               struct gt_pin *pin)
{
    struct tm day;

    if (!parse_date(value, &day))
        return "until must be a date of the form YYYY-MM-DD";
    day.tm_mday++;
    pin->until = timegm(&day);
    return NULL;
}

/* Parses the words after name and hash. Each may occur once. */
static const char *parse_options(struct gt_span line, const struct gt_pin_form *form,
                                 struct gt_pin *pin)
{
    const struct {
        const char *name;
        bool is_allowed;
        const char *(*parse)(struct gt_span value, const struct gt_pin_form *form,
                             struct gt_pin *pin);
    } options[] = {
        {"role", form->has_role, parse_role},
        {"services", form->has_services, parse_services},
        {"devices", form->has_devices, parse_devices},
        {"until", true, parse_until},
    };
    bool is_seen[GT_ARRAY_SIZE(options)] = {false};

    for (struct gt_span word; (word = gt_line_word(&line)).n && *word.data != '#';) {
        struct gt_span name = gt_line_until(&word, '=');
        size_t i = 0;

        while (i < GT_ARRAY_SIZE(options) && !gt_span_equals(name, gt_span_text(options[i].name)))
            i++;
        if (i == GT_ARRAY_SIZE(options) || !options[i].is_allowed)
            return form->unknown_why;
        if (is_seen[i])
            return "duplicate word";
        is_seen[i] = true;
        const char *why = options[i].parse(word, form, pin);
        if (why)
            return why;
    }
    return NULL;
}

static const char *parse_pin(struct gt_span line, const struct gt_pin_form *form,
                             struct gt_pin *pin)
{
    struct gt_span name = gt_line_word(&line);

    if (!gt_text_is_name(name))
        return "invalid name";
    memcpy(pin->name, name.data, name.n);
    if (!parse_fingerprint(gt_line_word(&line), pin->fingerprint))
        return "the word after the name must be the SHA-256 of a key (64 hex digits, with or "
               "without colons, or base64)";
    const char *why = parse_options(line, form, pin);
    bool is_device = form->is_device || pin->role == GT_PIN_DEVICE;
    if (!why && is_device && !gt_text_is_device_name(name))
        why = "no device may have a name that begins with " GT_TEXT_RESERVED;
    return why;
}

int gt_pin_parse(struct gt_span line, const struct gt_pin_form *form, struct gt_pin *ret,
                 const char **ret_why)
{
    struct gt_pin pin = {.is_any_service = true, .is_any_device = true};
    const char *why = parse_pin(line, form, &pin);

    if (why) {
        gt_pin_deinit(&pin);
        *ret_why = why;
        return why == no_memory ? -ENOMEM : GT_PIN_E_SYNTAX;
    }
    *ret = pin;
    return 0;
}

void gt_pin_deinit(struct gt_pin *pin)
{
    names_free(pin->services, pin->n_services);
    names_free(pin->devices, pin->n_devices);
    *pin = (struct gt_pin){0};
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

/* Returns to the last * after a mismatch, and has it stand for one more character. */
bool gt_pin_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *left = NULL;

    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            left = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++left;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

bool gt_pin_allows_device(const struct gt_pin *pin, const char *device)
{
    if (pin->is_any_device)
        return true;
    for (size_t i = 0; i < pin->n_devices; i++)
        if (gt_pin_matches(pin->devices[i], device))
            return true;
    return false;
}

bool gt_pin_is_admin(const struct gt_pin *pin)
{
    return !pin || pin->role == GT_PIN_ADMIN;
}

bool gt_pin_is_valid(const struct gt_pin *pin, time_t now)
{
    return !pin->until || now < pin->until;
}
