/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as a configuration file: the scan, libconfig, the comparison with the table and each
 * type of value. An accepted text must give the same settings twice, with each number in its range.
 */
#include "gotthard/config/config-file.h"
#include "gotthard/config/config-scan.h"
#include "gotthard/config/config-value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct settings {
    char *host, *name, *text, *path, *key, *choice;
    uint64_t port, window, buffer;
    bool is_on;
    struct gt_config_map services;
};

#define AT(field) .offset = offsetof(struct settings, field)
static const struct gt_config_item items[] = {
    {.path = "server.host", .type = GT_CONFIG_HOST, AT(host)},
    {.path = "server.port", .type = GT_CONFIG_NUMBER, AT(port), .min = 1, .max = 65535},
    {.path = "server.single_port", .type = GT_CONFIG_BOOL, AT(is_on)},
    {.path = "crypt.key", .type = GT_CONFIG_SECRET, AT(key)},
    {.path = "device.name", .type = GT_CONFIG_NAME, AT(name)},
    {.path = "mqtt.username", .type = GT_CONFIG_STRING, AT(text)},
    {.path = "mqtt.cert_path", .type = GT_CONFIG_PATH, AT(path)},
    {.path = "trust.policy", .type = GT_CONFIG_CHOICE, AT(choice), .choices = "auto psk pin"},
    {.path = "window", .type = GT_CONFIG_DURATION, AT(window), .min = 1000, .max = 3600000},
    {.path = "buffer", .type = GT_CONFIG_SIZE, AT(buffer), .min = 65536, .max = 1 << 26},
    {.path = "services", .type = GT_CONFIG_MAP, AT(services)},
};
static const struct gt_config_program program = {
    .name = "fuzz",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
};

static void check(bool condition)
{
    if (!condition)
        abort();
}

static int on_setting(void *userdata, const struct gt_config_item *item, bool is_file,
                      const char *text, const char *origin, char *ret_error)
{
    check(!is_file || item->type == GT_CONFIG_SECRET);
    return is_file ? 0 : gt_configvalue_set(item, userdata, text, origin, ret_error);
}

static int parse(struct gt_span text, struct settings *ret)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct gt_config_file file = {&program, "fuzz.conf", false, on_setting, ret};
    int r = gt_config_file_parse(&file, text, error);

    check(r == 0 || r == GT_CONFIG_E_BAD);
    check((r == 0) == (error[0] == 0));
    return r;
}

static void settings_free(struct settings *settings)
{
    for (size_t i = 0; i < program.n_items; i++)
        gt_configvalue_unset(&items[i], settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct settings first = {.port = 1, .window = 1000, .buffer = 65536}, second = first;
    unsigned line = 0;
    const char *why = NULL;

    if (n > GT_CONFIG_FILE_MAX)
        return 0;
    bool is_scanned = gt_config_scan(gt_span(data, n), &line, &why) == 0;
    check(is_scanned || (line > 0 && why));
    int r = parse(gt_span(data, n), &first);
    check(is_scanned || r != 0);
    check(parse(gt_span(data, n), &second) == r);

    check(first.port >= 1 && first.port <= 65535 && first.port == second.port);
    check(first.window >= 1000 && first.window <= 3600000 && first.window == second.window);
    check(first.buffer >= 65536 && first.buffer <= 1 << 26 && first.buffer == second.buffer);
    check(!first.name || gt_text_is_name(gt_span_text(first.name)));
    check(!first.host || gt_text_is_host(first.host));
    check(first.services.n_pairs == second.services.n_pairs);
    settings_free(&first);
    settings_free(&second);
    return 0;
}
