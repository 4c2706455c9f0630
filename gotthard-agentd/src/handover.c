/* SPDX-License-Identifier: ISC */
/*
 * The hand-over's bytes: a magic, then the fields in order, as bytes.h writes them. Both ends are
 * the same program (the worker is /proc/self/exe), so there is one version and no skipping.
 */
#include "handover.h"

#define MAGIC 0x47544831u /* "GTH1" */

int handover_encode(const struct handover *handover, uint8_t ret[static HANDOVER_MAX],
                    size_t *ret_n)
{
    struct gt_writer w = gt_writer(ret, HANDOVER_MAX);

    gt_write_u32(&w, MAGIC);
    gt_write_bytes(&w, handover->keys.session, GT_KEY_SIZE);
    gt_write_bytes(&w, handover->keys.rid, GT_RID_SIZE);
    gt_write_bytes(&w, handover->client_key, GT_KEY_SIZE);
    gt_write_string(&w, handover->device);
    gt_write_string(&w, handover->operator_);
    target_encode(&handover->relay, &w);
    gt_write_u8(&w, handover->is_single_port);
    gt_write_u8(&w, handover->log_level);
    gt_write_u32(&w, handover->lifetime_s);
    gt_write_u32(&w, handover->peer_timeout_ms);
    gt_write_u32(&w, handover->resume_window_ms);
    gt_write_u32(&w, handover->dial_timeout_ms);
    gt_write_u32(&w, handover->ring_size);
    gt_write_u16(&w, handover->max_streams);
    targets_encode(&handover->services, &w);
    if (w.failed)
        return HANDOVER_E_BAD;
    *ret_n = w.n;
    return 0;
}

int handover_decode(struct gt_span bytes, struct handover *ret)
{
    struct gt_reader r = gt_reader(bytes.data, bytes.n);
    struct handover handover = {0};

    bool is_ours = gt_read_u32(&r) == MAGIC;
    gt_read_into(&r, handover.keys.session, GT_KEY_SIZE);
    gt_read_into(&r, handover.keys.rid, GT_RID_SIZE);
    gt_read_into(&r, handover.client_key, GT_KEY_SIZE);
    gt_read_string(&r, handover.device, sizeof(handover.device));
    gt_read_string(&r, handover.operator_, sizeof(handover.operator_));
    target_decode(&r, &handover.relay);
    handover.is_single_port = gt_read_u8(&r);
    handover.log_level = gt_read_u8(&r);
    handover.lifetime_s = gt_read_u32(&r);
    handover.peer_timeout_ms = gt_read_u32(&r);
    handover.resume_window_ms = gt_read_u32(&r);
    handover.dial_timeout_ms = gt_read_u32(&r);
    handover.ring_size = gt_read_u32(&r);
    handover.max_streams = gt_read_u16(&r);
    int err = targets_decode(&r, &handover.services);
    if (!err && (!is_ours || !gt_reader_is_done(&r)))
        err = HANDOVER_E_BAD;
    if (err)
        handover_deinit(&handover);
    else
        *ret = handover;
    gt_wipe(&handover, sizeof(handover));
    return err;
}

void handover_deinit(struct handover *handover)
{
    targets_deinit(&handover->services);
    gt_wipe(handover, sizeof(*handover));
}

int handover_send(const struct handover *handover, int fd)
{
    uint8_t bytes[HANDOVER_MAX];
    size_t n;

    int err = handover_encode(handover, bytes, &n);
    if (err > 0)
        err = -EMSGSIZE;
    if (!err) {
        ssize_t written = write(fd, bytes, n);
        err = written < 0 ? -errno : (size_t)written == n ? 0 : -EMSGSIZE;
    }
    gt_wipe(bytes, sizeof(bytes));
    return err;
}

int handover_receive(int fd, struct handover *ret)
{
    uint8_t bytes[HANDOVER_MAX];
    size_t n = 0;
    ssize_t got = 1;

    while (got != 0 && n < sizeof(bytes)) {
        got = read(fd, bytes + n, sizeof(bytes) - n);
        if (got < 0 && errno != EINTR)
            return -errno;
        n += got > 0 ? (size_t)got : 0;
    }
    int err = handover_decode(gt_span(bytes, n), ret);
    gt_wipe(bytes, sizeof(bytes));
    return err;
}
