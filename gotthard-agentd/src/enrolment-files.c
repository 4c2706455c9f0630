/* SPDX-License-Identifier: ISC */
/*
 * The files of an enrolled device: a folder with its keys and certificates, the configuration that
 * names them, and the access list in the state folder; see the header.
 */
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "enrolment.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/state/access-store.h"
#include "gotthard/state/install.h"
#include "setup.h"

#define USER         "gotthard-agentd" /* and group: those of the service */
#define STATE_FOLDER "/var/lib/gotthard-agentd"
#define TEXT_MAX     (16 * 1024)

static GT_PRINTF(2, 3) int refuse(char *ret_why, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(ret_why, GT_PLACE_WHY, fmt, arguments);
    va_end(arguments);
    return ENROLMENT_E_REFUSED;
}

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
    write_text(
        w, "# Written by the enrolment of this device. Settings of your own belong into another "
           "file of this folder.\n");
    write_text(w, "device = { name = \"%s\"; };\n", name);
    write_text(w, "server = { host = \"%s\"; port = %u; };\n", host, port);
    write_text(w, "crypt  = { key_file = \"%s/device.key\"; };\n", folder);
    write_text(w, "mqtt   = { endpoint = \"%s\"; cert_path = \"%s\"; };\n", broker, folder);
    if (gt_bundle_text(bundle, GT_BUNDLE_AUTHORITY, authority, sizeof(authority)))
        write_text(w, "trust  = { authority = \"%s\"; };\n", authority);
}

/* --- the access list -------------------------------------------------------------------------- */

static bool read_authority(const struct gt_bundle *bundle, uint8_t *ret)
{
    char text[GT_AUTHORITY_TEXT_MAX];
    const char *why;

    return gt_bundle_text(bundle, GT_BUNDLE_AUTHORITY, text, sizeof(text)) &&
           gt_authority_parse_public(text, ret, &why) == 0;
}

/* A damaged store, or one of another fleet, is no obstacle: the list is newer, or is not taken. */
static int store_list(const struct gt_bundle *bundle, const char *folder, char *ret_why)
{
    struct gt_access_store store;
    uint8_t authority[GT_KEY_SIZE];
    char why[GT_ACCESS_STORE_WHY] = "";

    if (!read_authority(bundle, authority))
        return 0;
    int r = gt_access_store_init(&store, folder, authority, why);
    if (r < 0)
        return r;
    r = gt_access_store_take(&store, bundle->entries[GT_BUNDLE_ACCESS_LIST], why);
    if (r == 0)
        r = gt_access_store_save(&store, why);
    gt_access_store_deinit(&store);
    if (r < 0 || r == GT_ACCESS_STORE_E_OLD)
        return GT_MIN(r, 0);
    return r ? refuse(ret_why, "access list: %s", why) : 0;
}

/* Returns the folder in which the service will find its state, or NULL. */
static const char *find_state_folder(const struct gt_place *place)
{
    const char *given = getenv("STATE_DIRECTORY");

    if (given && *given == '/')
        return given;
    return place->is_default && geteuid() == 0 ? STATE_FOLDER : NULL;
}

/* systemd makes the folder at the first start of the service, in the same way. */
static int make_state_folder(const char *folder)
{
    const struct passwd *user = getpwnam(USER);

    if (mkdir(folder, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    if (geteuid() == 0 && user && chown(folder, user->pw_uid, user->pw_gid) < 0)
        return -errno;
    return 0;
}

/* The service replaces these files later, as the owner of the folder. */
static void give_to_owner(const char *folder)
{
    static const char *const names[] = {"access.list", "access.serial"};
    gt_cleanup(gt_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || geteuid() != 0)
        return;
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++)
        (void)!fchownat(fd, names[i], st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
}

/* The list of the bundle is the least that this device accepts, so that no broker can give it an
 * older one. */
static int keep_list(const struct gt_place *place, const struct gt_bundle *bundle, char *ret_why)
{
    const char *folder = find_state_folder(place);

    if (!bundle->entries[GT_BUNDLE_ACCESS_LIST].n || !folder)
        return 0;
    int r = make_state_folder(folder);
    if (r)
        return refuse(ret_why, "%s: %s", folder, strerror(-r));
    r = store_list(bundle, folder, ret_why);
    give_to_owner(folder);
    return r;
}

/* --- installation ----------------------------------------------------------------------------- */

static int add_files(struct gt_install *install, const struct gt_bundle *bundle,
                     struct gt_span private_key, char *ret_why)
{
    const struct {
        const char *name;
        struct gt_span text;
    } files[] = {
        {"device.key", bundle->entries[GT_BUNDLE_KEY]},
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
    static const char none[] = "# The operator gave no further settings.\n";
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

/* Loads the new configuration as the agent will, without its variables. */
static int check_result(const struct gt_install *install, char *ret_why)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct setup *setup = NULL;

    int r = setup_new(NULL, &setup, error);
    if (r)
        return r < 0 ? r : refuse(ret_why, "%s", error);
    const char *folder = setup->settings->mqtt_cert_path;
    r = folder && strcmp(folder, install->folder) == 0
            ? 0
            : refuse(ret_why, "another file of the configuration overrides mqtt.cert_path");
    setup_free(setup);
    return r;
}

static int install_files(struct gt_install *install, const struct gt_place *place,
                         const struct gt_bundle *bundle, struct gt_span private_key, char *ret_why)
{
    int r = add_files(install, bundle, private_key, ret_why);

    if (r == 0)
        r = add_configurations(install, place, bundle, ret_why);
    if (r == 0)
        r = gt_install_commit(install, ret_why);
    if (r)
        return r;
    r = check_result(install, ret_why);
    if (r == 0)
        r = keep_list(place, bundle, ret_why);
    return r;
}

int enrolment_install(const struct gt_place *place, const struct gt_bundle *bundle,
                      struct gt_span private_key, char ret_why[static GT_PLACE_WHY])
{
    struct gt_install install;
    int r = bundle->entries[GT_BUNDLE_ACCESS_LIST].n ? store_list(bundle, NULL, ret_why) : 0;

    if (r)
        return r;
    r = gt_install_init(&install, place->folder, place->group, ret_why);
    if (r)
        return r;
    r = install_files(&install, place, bundle, private_key, ret_why);
    if (r)
        gt_install_deinit(&install);
    else
        gt_install_finish(&install);
    return r;
}
