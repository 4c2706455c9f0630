/* SPDX-License-Identifier: ISC */
/*
 * The agent's setup: everything that follows from its configuration and the files that this names,
 * i.e. keys, certificates, pins, services, relays. A setup is created completely or not at all, and
 * never changed, except for renewed certificates and the access list in force. A reload creates a
 * new one, and keeps the old one on failure.
 */
#pragma once

#include "credentials.h"
#include "gotthard/config/mqtt-url.h"
#include "hostkeys.h"
#include "policy.h"
#include "settings.h"
#include "tags.h"

struct setup {
    struct gt_config *config;        /* owned */
    const struct settings *settings; /* config's */
    struct gt_key key, previous_key; /* as configured; previous_key: before a rotation */
    uint8_t of_device[GT_KEY_SIZE];  /* K_dev */
    uint8_t previous[GT_KEY_SIZE];   /* K_dev before a rotation */
    bool has_previous;
    struct gt_mqtt_url broker;
    struct credentials *credentials; /* owned reference */
    struct gt_trust trust;
    uint8_t authority[GT_KEY_SIZE]; /* under policy list */
    char *pins_path;                /* owned; the file need not exist */
    struct policy policy;
    struct hostkeys host_keys;
    struct tags tags;
    bool is_last_good; /* the present files are not usable */
};

/* The reason and the place of the setting were written to @ret_error. E_FILE: a file that the
 * configuration names is missing or not usable, now. E_BAD: the configuration itself. */
enum { SETUP_E_BAD = GT_CONFIG_E_BAD, SETUP_E_FILE = GT_CONFIG_E_FILE };

/* E_BAD, E_FILE, or a negative errno. @ret_error is written in the first two cases only. */
int setup_new(const struct gt_config_args *args, struct setup **ret,
              char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
/* For a start: as setup_new(), and if that fails because of the configuration, with the last good
 * one (last-good.h). With that one ->is_last_good is set, and @ret_error is the reason. E_FILE: the
 * files of one of the two may become usable. */
int setup_new_or_last_good(const struct gt_config_args *args, struct setup **ret,
                           char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
struct setup *setup_free(struct setup *setup);
void setup_apply_log_level(const struct setup *setup);
/* Logs a warning for each valid setting that weakens security. */
void setup_warn(const struct setup *setup);
/* Logs a warning if the device's certificate has expired or will within 30 days. */
void setup_warn_expiry(const struct setup *setup);
/* Loads the certificates again if their files have changed. *ret_is_renewed: their contents have.
 * Returns as setup_new(); on failure the certificates in use stay. */
int setup_renew_credentials(struct setup *setup, bool *ret_is_renewed,
                            char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
/* Writes the ids of the keys under which sessions of @device are agreed: the present one and the
 * one before a rotation, and of a fleet key also those of version 0.2. @device: may be an earlier
 * name of this device. Returns their number. */
#define SETUP_KEY_IDS_MAX 4
size_t setup_key_ids(const struct setup *setup, const char *device,
                     uint8_t ret[static SETUP_KEY_IDS_MAX][GT_KEY_ID_SIZE]);
/* Derives K_rc of @device. GT_KEY_E_NOT_HELD: it is another name, and the key is one device's. Or a
 * negative errno. */
int setup_client_key(const struct setup *setup, const char *device,
                     uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Returns 0; or E_FILE or E_BAD with a reason in @ret_error if @new lowers a protection of @old
 * only because a file or a setting is absent: pins, services, authorities, a certificate. */
int setup_check_reload(const struct setup *old, const struct setup *new,
                       char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
/* Remembers for the next start whether operators are pinned, and the configuration as the last good
 * one. For a setup that is in use. */
void setup_remember(const struct setup *setup);
/* Returns true if both connect to the same broker in the same way, and with the same tags, which
 * the last will of a connection has. */
bool setup_has_same_broker(const struct setup *a, const struct setup *b);
/* Returns true if both have the same names and keys. */
bool setup_has_same_identity(const struct setup *a, const struct setup *b);
