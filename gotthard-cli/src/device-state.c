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
    struct device_keys keys;
    struct failure ignored;

    if (identity_device_key(identity, device, &keys, &ignored) != 0)
        return false;
    bool is_decoded =
        decode_with(keys.present, topic, payload, ret, buffer) ||
        (keys.has_previous && decode_with(keys.previous, topic, payload, ret, buffer));
    device_keys_wipe(&keys);
    return is_decoded;
}
