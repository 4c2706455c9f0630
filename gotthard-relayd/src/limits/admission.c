/* SPDX-License-Identifier: ISC */
/*
 * A connection is bound to its key by the key's id, so that it survives every change of settings
 * that keeps the key, in whichever of the two places.
 */
#include "limits/admission.h"

#include <time.h>

#include "gotthard/base/log.h"

int admission_add_key(struct admission *admission, const struct gt_key *key)
{
    struct admission_key *added = &admission->keys[admission->n_keys];
    int r = gt_key_relay_id(key, added->id);

    if (r)
        return r > 0 ? -EINVAL : r;
    added->key = *key;
    admission->n_keys++;
    return 0;
}

void admission_move(struct admission *from, struct admission *to)
{
    *to = *from;
    from->refused = (struct refused){0};
    admission_deinit(from);
}

void admission_deinit(struct admission *admission)
{
    refused_deinit(&admission->refused);
    gt_wipe(admission, sizeof(*admission));
}

/* The identity is well-formed, and may be forged: the binder has not been checked. */
static void log_refused(const char *identity, const char *why)
{
    static struct gt_log_rate rate;
    unsigned n_suppressed;

    if (gt_log_is_allowed(&rate, 1, &n_suppressed))
        gt_info("client=%s refused suppressed=%u reason=\"%s\"", identity, n_suppressed, why);
}

bool admission_is_token(enum gt_role role, const char *name)
{
    struct gt_span text = gt_span_text(name);

    return role == GT_ROLE_DEVICE && gt_text_is_name(text) && !gt_text_is_device_name(text);
}

uint64_t admission_token_left_ms(const char *name)
{
    uint32_t expires_at = 0;
    time_t now = time(NULL);

    if (gt_token_parse_name(name, &expires_at) != 0 || now >= (time_t)expires_at)
        return 0;
    return (uint64_t)((time_t)expires_at - now) * 1000;
}

/* Returns why a well-formed identity is refused, or NULL. An identity that the access list does not
 * mention may use the relay: rights are judged by the devices. */
static const char *why_refused(const struct admission *admission, const char *identity,
                               enum gt_role role, const char *name)
{
    if (refused_has(&admission->refused, identity))
        return "listed in relay.refused";
    if (admission->access &&
        gt_access_list_is_revoked(admission->access, role == GT_ROLE_OPERATOR, name))
        return "revoked by the access list";
    if (admission_is_token(role, name) && admission_token_left_ms(name) == 0)
        return "its token has expired";
    return NULL;
}

bool admission_find_psk(const struct admission *admission, size_t which, struct gt_span identity,
                        uint8_t ret_psk[static GT_KEY_SIZE],
                        uint8_t ret_key_id[static GT_KEY_ID_SIZE])
{
    char text[GT_IDENTITY_MAX + 1], name[GT_NAME_MAX + 1];
    enum gt_role role;

    if (which >= admission->n_keys || !gt_key_parse_identity(identity, &role, name))
        return false;
    gt_key_identity(role, name, text);
    const char *why = why_refused(admission, text, role, name);
    if (why) {
        if (which == ADMISSION_CURRENT) /* once for each handshake */
            log_refused(text, why);
        return false;
    }
    const struct admission_key *key = &admission->keys[which];
    if (gt_key_client(&key->key, role, name, ret_psk))
        return false;
    memcpy(ret_key_id, key->id, GT_KEY_ID_SIZE);
    return true;
}

enum gt_code admission_check(const struct admission *admission, const char *identity,
                             const uint8_t key_id[static GT_KEY_ID_SIZE])
{
    char name[GT_NAME_MAX + 1];
    enum gt_role role;

    if (!gt_key_parse_identity(gt_span_text(identity), &role, name) ||
        why_refused(admission, identity, role, name))
        return GT_CODE_REFUSED;
    for (size_t i = 0; i < admission->n_keys; i++)
        if (memcmp(admission->keys[i].id, key_id, GT_KEY_ID_SIZE) == 0)
            return GT_CODE_NONE;
    return GT_CODE_OLD_KEY;
}
