/* SPDX-License-Identifier: ISC */
/* See the header. The agent has the same for a device in enrolment-files.c. */
#include "join-files.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/config/protected-file.h"
#include "gotthard/state/install.h"
#include "gotthard/trust/access-signature.h"
#include "settings.h"
#include "state-folder.h"

#define TEXT_MAX (16 * 1024)

const char *const join_settings[] = {
    "client.name",   "server.host",    "server.port",     "crypt.key",
    "mqtt.endpoint", "mqtt.cert_path", "trust.authority",
};
const size_t n_join_settings = GT_ARRAY_SIZE(join_settings);

/* --- texts ------------------------------------------------------------------------------------ */

static void write_text(struct gt_writer *w, const char *fmt, ...) GT_PRINTF(2, 3);

static void write_text(struct gt_writer *w, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    int n = vsnprintf((char *)w->data + w->n, w->cap - w->n, fmt, arguments);
    va_end(arguments);
    if (n < 0 || !gt_write_room(w, (size_t)n))
        w->failed = true;
}

/* Every value was checked by gt_bundle_check(): none has a quote or a backslash. */
static void write_configuration(const struct gt_bundle *bundle, const char *folder,
                                struct gt_writer *w)
{
    char name[GT_NAME_MAX + 1] = "", relay[GT_HOST_MAX + 9] = "", host[GT_HOST_MAX + 1] = "";
    char broker[GT_HOST_MAX + 64] = "", authority[GT_AUTHORITY_TEXT_MAX];
    uint16_t port = 0;

    if (!gt_bundle_text(bundle, GT_BUNDLE_NAME, name, sizeof(name)) ||
        !gt_bundle_text(bundle, GT_BUNDLE_RELAY, relay, sizeof(relay)) ||
        !gt_bundle_text(bundle, GT_BUNDLE_BROKER, broker, sizeof(broker)) ||
        gt_text_host_port(relay, 0, host, &port) != 0)
        w->failed = true;
    write_text(w, "# Written by gotthard-cli join. Settings of your own belong into another file "
                  "of this folder.\n");
    write_text(w, "client = { name = \"%s\"; };\n", name);
    write_text(w, "server = { host = \"%s\"; port = %u; };\n", host, port);
    write_text(w, "crypt  = { key_file = \"%s/operator.key\"; };\n", folder);
    write_text(w, "mqtt   = { endpoint = \"%s\"; cert_path = \"%s\"; };\n", broker, folder);
    if (gt_bundle_text(bundle, GT_BUNDLE_AUTHORITY, authority, sizeof(authority)))
        write_text(w, "trust  = { authority = \"%s\"; };\n", authority);
}

/* --- installation ----------------------------------------------------------------------------- */

static int add_files(struct gt_install *install, const struct gt_bundle *bundle,
                     struct gt_span private_key, char *ret_why)
{
    const struct {
        const char *name;
        struct gt_span text;
    } files[] = {
        {"operator.key", bundle->entries[GT_BUNDLE_KEY]},
        {"private.key", private_key},
        {"cert.pem", bundle->entries[GT_BUNDLE_CERTIFICATE]},
        {"ca.crt", bundle->entries[GT_BUNDLE_AUTHORITIES]},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < GT_ARRAY_SIZE(files); i++)
        r = gt_install_add(install, files[i].name, files[i].text, ret_why);
    return r;
}

/* The fleet's settings of an earlier enrolment must not stay. */
static int add_configurations(struct gt_install *install, const struct gt_place *place,
                              const struct gt_bundle *bundle, char *ret_why)
{
    static const char none[] = "# The fleet has no further settings.\n";
    gt_cleanup(gt_free) char *text = malloc(TEXT_MAX);
    struct gt_span fleet = bundle->entries[GT_BUNDLE_CONFIGURATION];
    int r = 0;

    if (!text)
        return -ENOMEM;
    struct gt_writer w = gt_writer(text, TEXT_MAX);
    write_configuration(bundle, install->folder, &w);
    if (w.failed)
        return -EOVERFLOW;
    if (fleet.n || !gt_protectedfile_is_absent(place->fleet))
        r = gt_install_add_configuration(install, place->fleet,
                                         fleet.n ? fleet : gt_span_text(none), ret_why);
    return r ? r
             : gt_install_add_configuration(install, place->configuration, gt_span(text, w.n),
                                            ret_why);
}

/* Loads the new configuration as the next command will. */
static int check_result(const struct gt_install *install, char *ret_why)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct gt_config *config = NULL;
    int r = gt_config_load(settings_program(), NULL, &config, error);

    if (r != 0) {
        snprintf(ret_why, GT_INSTALL_WHY, "%.390s", error);
        return r < 0 ? r : GT_INSTALL_E_FILE;
    }
    const struct settings *settings = gt_config_settings(config);
    const char *folder = settings->mqtt_cert_path;
    if (!folder || strcmp(folder, install->folder) != 0) {
        snprintf(ret_why, GT_INSTALL_WHY,
                 "another file of the configuration overrides mqtt.cert_path");
        r = GT_INSTALL_E_FILE;
    }
    gt_config_free(config);
    return r;
}

int join_files_install(const struct gt_place *place, const struct gt_bundle *bundle,
                       struct gt_span private_key, struct failure *ret_failure)
{
    char why[GT_INSTALL_WHY] = "";
    struct gt_install install;

    state_folder_make(place->configuration);
    int r = gt_install_init(&install, place->folder, (gid_t)-1, why);

    if (r == 0) {
        r = add_files(&install, bundle, private_key, why);
        if (r == 0)
            r = add_configurations(&install, place, bundle, why);
        if (r == 0)
            r = gt_install_commit(&install, why);
        if (r == 0)
            r = check_result(&install, why);
        if (r == 0)
            gt_install_finish(&install);
        else
            gt_install_deinit(&install);
    }
    if (r == 0)
        return 0;
    return failure_set(ret_failure, r < 0 ? FAILURE_INTERNAL : FAILURE_CONFIG, NULL, "%s",
                       r < 0 ? strerror(-r) : why);
}
