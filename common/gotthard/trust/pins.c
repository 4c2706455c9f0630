/* SPDX-License-Identifier: ISC */
/* Parser of pin files; see the header. */
#include "gotthard/trust/pins.h"

#include "gotthard/trust/lines.h"

static const struct gt_pin_form form = {
    .has_role = true,
    .has_device_role = true,
    .has_services = true,
    .unknown_why = "unknown word after the hash; use role=, services= or until=",
};

void gt_pins_free(struct gt_pin *pins, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gt_pin_deinit(&pins[i]);
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

/* Returns 0, -ENOMEM, or E_SYNTAX with *ret_why. */
static int list_add(struct pin_list *list, struct gt_span line, const char **ret_why)
{
    struct gt_pin pin;

    if (list->n == list->cap && !list_grow(list))
        return -ENOMEM;
    int r = gt_pin_parse(line, &form, &pin, ret_why);
    if (r)
        return r < 0 ? r : GT_PINS_E_SYNTAX;
    *ret_why = list_has(list, &pin)     ? "duplicate pin: this name already has this key"
               : list->n == GT_PINS_MAX ? "too many pins"
                                        : NULL;
    if (*ret_why) {
        gt_pin_deinit(&pin);
        return GT_PINS_E_SYNTAX;
    }
    list->pins[list->n++] = pin;
    return 0;
}

int gt_pins_parse(struct gt_span text, struct gt_pin **ret_pins, size_t *ret_n, size_t *ret_line,
                  const char **ret_why)
{
    struct pin_list list = {0};
    struct gt_lines lines;
    struct gt_span line;
    const char *why = "out of memory";
    int r;

    gt_lines_init(&lines, text);
    while ((r = gt_lines_next(&lines, &line, &why)) == 0 && (r = list_add(&list, line, &why)) == 0)
        ;
    if (r != GT_LINES_E_END) {
        gt_pins_free(list.pins, list.n);
        *ret_line = lines.n;
        *ret_why = why;
        return r < 0 ? r : GT_PINS_E_SYNTAX;
    }
    *ret_pins = list.pins;
    *ret_n = list.n;
    return 0;
}
