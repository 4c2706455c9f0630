/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as a pin file. A rejection has a line and a reason. In an accepted file each pin has a
 * valid name, and each line is acceptable alone.
 */
#include "gotthard/trust/pins.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_pin(const struct gt_pin *pin)
{
    must(gt_text_is_name(gt_span_text(pin->name)));
    must(pin->is_any_service || (pin->n_services && pin->n_services <= GT_PIN_SERVICES_MAX));
    must(pin->is_any_service || !gt_pin_allows_service(pin, ""));
    for (size_t i = 0; i < pin->n_services; i++)
        must(gt_pin_allows_service(pin, pin->services[i]));
    must(pin->until >= 0);
}

static void check_line(const uint8_t *line, size_t n)
{
    struct gt_pin *pins = NULL;
    size_t n_pins = 0, at;
    const char *why;

    must(gt_pins_parse(gt_span(line, n), &pins, &n_pins, &at, &why) == 0 && n_pins <= 1);
    gt_pins_free(pins, n_pins);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_pin *pins = NULL;
    size_t n_pins = 0, line = 0;
    const char *why = NULL;
    int r = gt_pins_parse(gt_span(data, n), &pins, &n_pins, &line, &why);

    must(r >= 0);
    if (r) {
        must(line > 0 && why);
        return 0;
    }
    for (size_t i = 0; i < n_pins; i++)
        check_pin(&pins[i]);
    gt_pins_free(pins, n_pins);
    for (size_t at = 0, end; at < n; at = end + 1) {
        for (end = at; end < n && data[end] != '\n';)
            end++;
        check_line(data + at, end - at);
    }
    return 0;
}
