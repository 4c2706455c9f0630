/* SPDX-License-Identifier: ISC */
/*
 * The grant of a worker, and its replacement; see the header.
 */
#include "worker-grant.h"

#include "gotthard/base/log.h"
#include "session-file.h"
#include "worker-streams.h"

static int parse_permit(const char *text, struct permit *ret)
{
    char why[160];
    int r = permit_parse(text, ret, why, sizeof(why));

    if (r > 0)
        gt_error("permit is not valid reason=\"%s\"", why);
    return r;
}

int worker_grant_init(struct worker_grant *grant, const struct worker_parameters *parameters)
{
    int r = targets_add_all(&grant->services, &parameters->services);

    return r ? r : parse_permit(parameters->permit, &grant->permit);
}

void worker_grant_deinit(struct worker_grant *grant)
{
    targets_deinit(&grant->services);
    targets_deinit(&grant->withdrawn);
    permit_deinit(&grant->permit);
}

/* A service that was granted before stays in the list if it returns: the present ones come first.
 */
static int remember_services(struct worker_grant *grant)
{
    int r = 0;

    for (size_t i = 0; i < grant->services.n && r == 0; i++) {
        const struct target *service = &grant->services.all[i];

        if (!targets_find(&grant->withdrawn, service->name))
            r = targets_add(&grant->withdrawn, service);
    }
    return r;
}

/* Takes the services of @info. */
static int take_grant(struct worker_grant *grant, struct session_info *info)
{
    struct permit permit = {0};

    int r = parse_permit(info->permit, &permit);
    if (r == 0)
        r = remember_services(grant);
    if (r) {
        permit_deinit(&permit);
        return r;
    }
    targets_deinit(&grant->services);
    permit_deinit(&grant->permit);
    grant->services = info->services;
    grant->permit = permit;
    info->services = (struct targets){0};
    return 0;
}

void worker_grant_apply(struct worker_grant *grant, struct worker_streams *streams)
{
    struct session_info info;

    if (session_file_read(SESSION_FILE_FD, &info) != 0)
        return;
    if (info.applied != info.grant && take_grant(grant, &info) == 0) {
        worker_streams_recheck(streams);
        session_file_acknowledge(SESSION_FILE_FD, info.grant);
    }
    session_info_deinit(&info);
}

bool worker_grant_has_service(const struct worker_grant *grant, const struct target *service)
{
    const struct target *now = targets_find(&grant->services, service->name);

    return now && target_equals(now, service);
}

bool worker_grant_has_target(const struct worker_grant *grant, const struct permit_target *target,
                             const struct gt_addr *addr)
{
    const struct permit *permit = &grant->permit;

    if (!permit_may_allow(permit, target))
        return false;
    return !addr ||
           permit_allows_address(permit, addr, target->is_udp, permit_allows_name(permit, target));
}
