/* SPDX-License-Identifier: ISC */
/*
 * A table by the relay's code, also of the two that end a tunnel of a side that it no longer
 * admits. The lifetime alone may be a limit of each of the three programs: the shortest one ends
 * the tunnel. Where the relay has sent the limit's value, the text of the connection to it has the
 * value, and is used.
 */
#include "limit-diagnosis.h"

#include <string.h>

#define LATE_S 2. /* the three programs count from slightly different moments */

static const struct limit {
    enum gt_code code;
    enum failure_id id;
    const char *before, *after; /* the device's name */
    const char *hint;
} limits[] = {
    {GT_CODE_IDLE, FAILURE_TUNNEL_IDLE, "the relay closed the tunnel to ",
     ": no connection for longer than its timeouts.idle",
     "connect again; timeouts.idle in the relay's settings is the limit, 0 is none"},
    {GT_CODE_PAIRING, FAILURE_DEVICE_LOST, "",
     " did not connect to the relay within timeouts.pairing of the relay",
     "check that the device can reach the relay"},
    {GT_CODE_GRACE, FAILURE_DEVICE_LOST, "",
     " is lost: it did not return within timeouts.session_grace of the relay",
     "show whether it is online: gotthard-cli status {device}"},
    {GT_CODE_SESSIONS, FAILURE_RELAY_LIMIT, "the relay has no room for a tunnel to ",
     ": it has as many sessions as its limits.sessions permits",
     "try again later, or raise limits.sessions in the relay's settings"},
    {GT_CODE_IDENTITY, FAILURE_RELAY_LIMIT, "the relay has no room for a tunnel to ",
     ": this operator or the device is over its limits.sessions_per_identity",
     "close another tunnel, or raise limits.sessions_per_identity in the relay's settings"},
    {GT_CODE_LIMIT, FAILURE_RELAY_LIMIT, "the relay has no room for a tunnel to ",
     ": it is short of descriptors (limits.descriptors)",
     "try again later, or raise limits.descriptors of the relay"},
    {GT_CODE_OLD_KEY, FAILURE_RELAY_REFUSED, "the relay closed the tunnel to ",
     ": it no longer accepts the key that a side used",
     "use the fleet's present key on all sides, and connect again"},
    {GT_CODE_REFUSED, FAILURE_RELAY_REFUSED, "the relay closed the tunnel to ",
     ": it refuses the operator or the device",
     "the access list revokes it, or the file of relay.refused in the relay's settings lists it"},
};

static void describe_lifetime(const struct tunnel_end *end, struct failure *ret)
{
    const char *whose = "of this command", *hint = "connect again, or raise {timeouts.lifetime}";

    if (end->age_s + LATE_S < end->granted_s) {
        whose = "of the relay";
        hint = "connect again, or raise timeouts.lifetime in the relay's settings";
    } else if (end->granted_s < end->requested_s) {
        whose = "of the device";
        hint = "connect again, or raise timeouts.lifetime in the device's settings";
    }
    failure_set_of(ret, end->device, FAILURE_TUNNEL_EXPIRED, hint,
                   "the lifetime of the tunnel to %s has expired (timeouts.lifetime %s)",
                   end->device, whose);
}

static void describe_limit(const struct limit *limit, const char *device, const char *whose,
                           const char *why, struct failure *ret)
{
    bool has_value = strstr(why, ": limits.") != NULL; /* gt_code_limit_text */

    if (!has_value)
        failure_set_of(ret, device, limit->id, limit->hint, "%s%s%s", limit->before, device,
                       limit->after);
    else if (limit->code == GT_CODE_IDENTITY)
        failure_set_of(ret, device, limit->id, limit->hint, "%s%s: %s (%s has as many)",
                       limit->before, device, why, whose);
    else
        failure_set_of(ret, device, limit->id, limit->hint, "%s%s: %s", limit->before, device, why);
}

/* @whose: the side that received @code. */
static bool describe_code(const char *device, enum gt_code code, const char *whose, const char *why,
                          struct failure *ret)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(limits); i++)
        if (limits[i].code == code) {
            describe_limit(&limits[i], device, whose, why, ret);
            return true;
        }
    return false;
}

bool limit_diagnosis_of_report(const char *device, enum gt_code code, const char *why,
                               struct failure *ret)
{
    return describe_code(device, code, device, why, ret);
}

bool limit_diagnosis(const struct tunnel_end *end, struct failure *ret)
{
    if (end->cause == GT_END_EXPIRED) {
        describe_lifetime(end, ret);
        return true;
    }
    if (end->code == GT_CODE_PAIRING && end->report) /* the device reported more than that */
        return false;
    return describe_code(end->device, end->code, "this operator", end->why, ret);
}
