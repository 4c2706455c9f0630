/* SPDX-License-Identifier: ISC */
/*
 * The operator's identity and trust: the fleet key or the operator's own one, the certificate that
 * signs requests, and the pins of devices. Loaded once for a command, and wiped at its end.
 */
#pragma once

#include "failure.h"
#include "gotthard/signaling/trust.h"
#include "gotthard/tls/verification.h"
#include "gotthard/trust/device-keys.h"
#include "operator-access.h"
#include "print.h"
#include "settings.h"

/* A file that is read once: TLS and signatures use the same bytes. */
struct identity_file {
    char *text; /* owned; NULL: no certificate is configured */
    size_t n;
};

struct identity {
    struct gt_key key, previous;
    bool has_previous;
    struct gt_device_keys devices, previous_devices; /* of keys that are for some devices only */
    struct identity_file certificate, private_key;   /* PEM */
    struct gt_own_certificate own;                   /* of the certificate */
    struct gt_signer *signer;                        /* owned; of the same pair, or NULL */
    char unsigned_why[GT_TRUST_WHY];                 /* why its key cannot sign, or empty */
    struct gt_trust trust;
    struct operator_access *access; /* owned; policy list, else NULL */
    char *pins_path;                /* owned; of the pin file, even if it does not exist */
    bool has_no_pins;               /* trust.policy is auto, and there is no pin file: policy psk */
};

/* Each returns 0, or 1 with @ret_failure. */
/* Loads the keys only. Warns of the fleet key and of a passphrase. */
#define IDENTITY_FLEET_KEY \
    "crypt.key is the fleet key, which gives this operator more rights than it needs"
int identity_load_key(const struct settings *settings, struct print *print, struct identity *ret,
                      struct failure *ret_failure) GT_MUST_CHECK;
/* Loads crypt.key to derive other keys from: any other key than the fleet key is a failure. The
 * caller wipes @ret. */
int identity_load_fleet_key(const struct settings *settings, struct print *print,
                            struct gt_key *ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Loads the certificate only: ->signer stays NULL if none is configured. */
int identity_load_signer(const struct settings *settings, struct identity *ret,
                         struct failure *ret_failure) GT_MUST_CHECK;
/* Loads the pins only, or the stored access list, as trust.policy demands. */
int identity_load_trust(const struct gt_config *config, struct identity *ret,
                        struct failure *ret_failure) GT_MUST_CHECK;
int identity_load(const struct gt_config *config, struct print *print, struct identity *ret,
                  struct failure *ret_failure) GT_MUST_CHECK;
/* Hashes the files that decide whom a session trusts and who it is: cert.pem, the device keys, and
 * the pin file with its path and the number of pins that have expired, unless trust.policy is psk.
 * Reads no private key. A file that is absent or cannot be read changes the hash as well. Returns 0
 * or a negative errno. */
int identity_digest_files(const struct gt_config *config,
                          uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Returns true if the certificate is for another name than client.name: neither NAME nor "operator
 * NAME". Brokers that take names from certificates refuse the messages then. False without a
 * certificate, with a user name, and for the certificates that AWS IoT Core makes. */
bool identity_has_other_name(const struct identity *identity, const struct settings *settings);
/* Warns if only the key authenticates @device, and trust.policy does not demand that. */
#define IDENTITY_UNPINNED "any holder of the fleet key can impersonate "
void identity_warn_unpinned(const struct identity *identity, const char *device,
                            struct print *print);
/* Wipes the keys. The signer and the pins stay. */
void identity_forget_keys(struct identity *identity);
/* Wipes it. Takes a zeroed struct, and may be called twice. */
void identity_deinit(struct identity *identity);

/* K_dev of one device. */
struct device_keys {
    uint8_t present[GT_KEY_SIZE], previous[GT_KEY_SIZE];
    bool has_previous; /* the key before a rotation is configured and has this device */
};

/* Derives or finds the keys of @device. The caller wipes them. Returns 0, or 1 with @ret_failure,
 * for example if the key is for other devices. */
int identity_device_key(const struct identity *identity, const char *device,
                        struct device_keys *ret, struct failure *ret_failure) GT_MUST_CHECK;
void device_keys_wipe(struct device_keys *keys);
/* Returns true if the present key is for this device. */
bool identity_holds_device(const struct identity *identity, const char *device);
/* The same as a failure for the user. Returns 0, or 1 with @ret_failure. */
int identity_check_device(const struct identity *identity, const char *device,
                          struct failure *ret_failure) GT_MUST_CHECK;
