/* SPDX-License-Identifier: ISC */
/* Two keys at most; see the header. */
#include "device-state.h"

static bool decode_with(const uint8_t of_device[static GT_KEY_SIZE], const char *topic,
                        struct gt_span payload, struct gt_state *ret, uint8_t *buffer)
{
    struct gt_message_keys keys;
    size_t n;
    bool is_open =
        gt_key_messages(of_device, &keys) == 0 &&
        gt_message_open(keys.presence, GT_MESSAGE_STATE, topic, payload, buffer, &n) == 0;

    gt_wipe(&keys, sizeof(keys));
    return is_open && gt_state_decode(gt_span(buffer, n), ret) == 0;
}

bool device_state_decode(const struct identity *identity, const char *device, const char *topic,
                         struct gt_span payload, struct gt_state *ret, uint8_t *buffer)
{
    uint8_t keys[2][GT_KEY_SIZE];
    struct failure ignored;
    bool is_decoded = false;

    if (identity_device_key(identity, device, keys[0], keys[1], &ignored) != 0)
        return false;
    for (size_t i = 0; i < (identity->has_previous ? 2u : 1u) && !is_decoded; i++)
        is_decoded = decode_with(keys[i], topic, payload, ret, buffer);
    gt_wipe(keys, sizeof(keys));
    return is_decoded;
}
