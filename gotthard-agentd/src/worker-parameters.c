/* SPDX-License-Identifier: ISC */
/*
 * The encoding of worker parameters: a magic, the fields of the table, the services, the
 * permitted targets. Both ends are
 * the same program (the worker is /proc/self/exe), so there is one version, and nothing is skipped.
 */
#include "worker-parameters.h"

#include "gotthard/base/fields.h"

#define MAGIC 0x47544832u /* "GTH2" */

static const struct gt_field fields[] = {
    GT_FIELD_BYTES(struct worker_parameters, keys.session, GT_KEY_SIZE),
    GT_FIELD_BYTES(struct worker_parameters, keys.rid, GT_RID_SIZE),
    GT_FIELD_BYTES(struct worker_parameters, client_key, GT_KEY_SIZE),
    GT_FIELD_STRING(struct worker_parameters, device),
    GT_FIELD_STRING(struct worker_parameters, operator_),
    GT_FIELD_STRING(struct worker_parameters, relay.name),
    GT_FIELD_STRING(struct worker_parameters, relay.address.host),
    GT_FIELD_U16(struct worker_parameters, relay.address.port),
    GT_FIELD_OF_SIZE(INTEGER, struct worker_parameters, proxy.kind, sizeof(enum gt_proxy_kind)),
    GT_FIELD_STRING(struct worker_parameters, proxy.host),
    GT_FIELD_U16(struct worker_parameters, proxy.port),
    GT_FIELD_STRING(struct worker_parameters, proxy.user),
    GT_FIELD_STRING(struct worker_parameters, proxy.password),
    GT_FIELD_BOOL(struct worker_parameters, is_single_port),
    GT_FIELD_U8(struct worker_parameters, log_level),
    GT_FIELD_U32(struct worker_parameters, lifetime_s),
    GT_FIELD_U32(struct worker_parameters, peer_timeout_ms),
    GT_FIELD_U32(struct worker_parameters, resume_window_ms),
    GT_FIELD_U32(struct worker_parameters, dial_timeout_ms),
    GT_FIELD_U32(struct worker_parameters, vanished_ms),
    GT_FIELD_U32(struct worker_parameters, linger_ms),
    GT_FIELD_U32(struct worker_parameters, ring_size),
    GT_FIELD_U16(struct worker_parameters, max_streams),
    GT_FIELD_U16(struct worker_parameters, suite),
};

static const struct gt_field last_field[] = {GT_FIELD_STRING(struct worker_parameters, permit)};

int worker_parameters_encode(const struct worker_parameters *worker_parameters,
                             uint8_t ret[static WORKER_PARAMETERS_MAX], size_t *ret_n)
{
    struct gt_writer w = gt_writer(ret, WORKER_PARAMETERS_MAX);

    gt_write_u32(&w, MAGIC);
    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), worker_parameters);
    targets_encode(&worker_parameters->services, &w);
    gt_fields_write(&w, last_field, GT_ARRAY_SIZE(last_field), worker_parameters);
    if (w.failed)
        return WORKER_PARAMETERS_E_BAD;
    *ret_n = w.n;
    return 0;
}

int worker_parameters_decode(struct gt_span bytes, struct worker_parameters *ret)
{
    struct gt_reader reader = gt_reader(bytes.data, bytes.n);
    struct worker_parameters worker_parameters = {0};

    bool has_magic = gt_read_u32(&reader) == MAGIC;
    gt_fields_read(&reader, fields, GT_ARRAY_SIZE(fields), &worker_parameters);
    int r = targets_decode(&reader, &worker_parameters.services);
    gt_fields_read(&reader, last_field, GT_ARRAY_SIZE(last_field), &worker_parameters);
    if (r == 0 && (!has_magic || !gt_reader_is_done(&reader)))
        r = WORKER_PARAMETERS_E_BAD;
    if (r)
        worker_parameters_deinit(&worker_parameters);
    else
        *ret = worker_parameters;
    gt_wipe(&worker_parameters, sizeof(worker_parameters));
    return r;
}

void worker_parameters_deinit(struct worker_parameters *worker_parameters)
{
    targets_deinit(&worker_parameters->services);
    gt_wipe(worker_parameters, sizeof(*worker_parameters));
}

int worker_parameters_send(const struct worker_parameters *worker_parameters, int fd)
{
    uint8_t bytes[WORKER_PARAMETERS_MAX];
    size_t n;

    int r = worker_parameters_encode(worker_parameters, bytes, &n);
    if (r > 0)
        r = -EMSGSIZE;
    if (r == 0) {
        ssize_t written = write(fd, bytes, n);

        r = written < 0 ? -errno : (size_t)written == n ? 0 : -EMSGSIZE;
    }
    gt_wipe(bytes, sizeof(bytes));
    return r;
}

int worker_parameters_receive(int fd, struct worker_parameters *ret)
{
    uint8_t bytes[WORKER_PARAMETERS_MAX];
    size_t n = 0;
    ssize_t got = 1;

    while (got != 0 && n < sizeof(bytes)) {
        got = read(fd, bytes + n, sizeof(bytes) - n);
        if (got < 0 && errno != EINTR)
            return -errno;
        n += got > 0 ? (size_t)got : 0;
    }
    int r = worker_parameters_decode(gt_span(bytes, n), ret);
    gt_wipe(bytes, sizeof(bytes));
    return r;
}
