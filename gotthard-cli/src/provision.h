/* SPDX-License-Identifier: ISC */
/*
 * What makes a newcomer a member of the fleet, on the machine with the fleet key: its certificate,
 * its entry in the access list, and the bundle with all that it needs (trust/bundle.h). Name and
 * kind are those of the command line, whatever the newcomer claims.
 */
#pragma once

#include "ca.h"
#include "commands.h"
#include "gotthard/crypto/key.h"
#include "gotthard/net/host-port.h"
#include "gotthard/trust/bundle.h"
#include "identity.h"

struct provision {
    struct context *context;
    enum gt_token_kind kind; /* a relay has neither a certificate nor an entry in the list */
    const char *name;
    const char *rights; /* of the entry, "services=ssh"; may be empty; kept */
    bool is_replacing;  /* an entry of the name is replaced */
    struct gt_key key;  /* the fleet's */
    struct gt_host_port relay;
    struct identity_file authorities;      /* of the broker */
    struct ca ca;                          /* unless enroll.sign_command is set */
    char authority[GT_AUTHORITY_TEXT_MAX]; /* public, of the access list; empty: none */
    bool has_list;                         /* this machine signs the list */
    char *certificate;                     /* owned; once it is signed */
    char *list;                            /* owned; the whole list that has the entry */
    size_t n_list;
    bool lacks_this_operator; /* the list has no entry of the operator who enrols */
};

/* Each returns 0, 1 with @ret_failure, or PROVISION_E_INTERRUPTED by Ctrl+C. */
enum { PROVISION_E_INTERRUPTED = 2 };
/* Checks everything that can be checked before there is a newcomer: keys, settings, whether the
 * name is free. The caller calls provision_end() in any case. */
int provision_begin(struct context *context, enum gt_token_kind kind, const char *name,
                    const char *rights, bool is_replacing, struct provision *ret,
                    struct failure *ret_failure) GT_MUST_CHECK;
/* Signs the certificate, by the fleet's own authority or the operator's command, for the key of
 * @request (DER), whose fingerprint is @fingerprint. */
int provision_sign(struct provision *provision, struct gt_span request,
                   const uint8_t fingerprint[static GT_KEY_SIZE],
                   struct failure *ret_failure) GT_MUST_CHECK;
/* Adds the key to the access list and publishes it, if this machine signs one. */
int provision_list(struct provision *provision, const uint8_t fingerprint[static GT_KEY_SIZE],
                   struct failure *ret_failure) GT_MUST_CHECK;
/* Encodes the bundle. @private_key: PEM; empty in an answer. The caller wipes and frees *ret. */
int provision_bundle(const struct provision *provision, struct gt_span private_key, uint8_t **ret,
                     size_t *ret_n, struct failure *ret_failure) GT_MUST_CHECK;
/* Prints what the operator has to do besides: pins, or rights at the broker. */
void provision_print_next(const struct provision *provision,
                          const uint8_t fingerprint[static GT_KEY_SIZE]);
void provision_end(struct provision *provision);
