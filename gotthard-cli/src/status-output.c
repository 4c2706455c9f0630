/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "status-output.h"

#include <stdio.h>

#include "device-output.h"

static const char *const session_states[] = {
    [GT_STATUS_JOINING] = "joining",
    [GT_STATUS_UP] = "up",
    [GT_STATUS_ALONE] = "operator lost",
};

static const char *const relay_states[] = {
    [GT_STATUS_RELAY_UNKNOWN] = "unknown",
    [GT_STATUS_RELAY_REACHED] = "reached",
    [GT_STATUS_RELAY_FAILED] = "failed",
};

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *json_of_session(const struct gt_status_session *session)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:I}", "operator", session->operator_, "service",
                               session->service, "state", session_states[session->state], "age_s",
                               (json_int_t)session->age_s);

    if (session->has_usage) {
        json_object_set_new(object, "streams", json_integer(session->n_streams));
        json_object_set_new(object, "up", json_integer((json_int_t)session->n_up));
        json_object_set_new(object, "down", json_integer((json_int_t)session->n_down));
    }
    return object;
}

static json_t *json_of_relay(const struct gt_status_relay *relay)
{
    json_t *object = json_pack("{s:s, s:s, s:s}", "name", relay->name, "address", relay->address,
                               "state", relay_states[relay->state]);

    if (relay->state != GT_STATUS_RELAY_UNKNOWN)
        json_object_set_new(object, "age_s", json_integer(relay->age_s));
    if (relay->state == GT_STATUS_RELAY_FAILED)
        json_object_set_new(object, "reason", json_string(relay->why));
    return object;
}

static void add_answer(json_t *object, const struct status_answer *answer)
{
    const struct gt_device_status *status = &answer->status;
    json_t *sessions = json_array(), *relays = json_array();
    char time[40];

    device_output_time(status->time, true, time, sizeof(time));
    for (size_t i = 0; i < status->n_listed; i++)
        json_array_append_new(sessions, json_of_session(&status->sessions[i]));
    for (size_t i = 0; i < status->n_relays; i++)
        json_array_append_new(relays, json_of_relay(&status->relays[i]));
    json_object_set_new(object, "sessions", json_integer(status->n_sessions));
    json_object_update_missing_new(
        object, json_pack("{s:f, s:s, s:I, s:i, s:o, s:o}", "round_trip_s", answer->round_trip_s,
                          "clock", time, "uptime_s", (json_int_t)status->uptime_s, "other_sessions",
                          (int)status->n_others, "session_list", sessions, "relays", relays));
    if (*answer->fault)
        json_object_set_new(object, "fault", json_string(answer->fault));
}

/* --- text ------------------------------------------------------------------------------------- */

static const char *format_bytes(uint64_t n, char *ret, size_t cap)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)n;
    size_t unit = 0;

    for (; value >= 1024 && unit + 1 < GT_ARRAY_SIZE(units); unit++)
        value /= 1024;
    snprintf(ret, cap, unit > 0 && value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return ret;
}

static void print_session(struct print *print, const struct gt_status_session *session)
{
    char age[32], up[32], down[32], usage[112] = "";

    if (session->has_usage)
        snprintf(usage, sizeof(usage), ", %u stream%s, up %s, down %s",
                 (unsigned)session->n_streams, session->n_streams == 1 ? "" : "s",
                 format_bytes(session->n_up, up, sizeof(up)),
                 format_bytes(session->n_down, down, sizeof(down)));
    print_data(print, "    %s, %s, %s for %s%s\n", session->operator_,
               *session->service ? session->service : "unknown service",
               session_states[session->state],
               gt_text_ago(session->age_s * UINT64_C(1000), age, sizeof(age)), usage);
}

static void print_relay(struct print *print, const struct gt_status_relay *relay)
{
    char age[32];

    gt_text_ago(relay->age_s * UINT64_C(1000), age, sizeof(age));
    if (relay->state == GT_STATUS_RELAY_UNKNOWN)
        print_data(print, "  %-9s %s %s: not used since the agent's start\n", "relay", relay->name,
                   relay->address);
    else
        print_data(print, "  %-9s %s %s: %s %s ago%s%s\n", "relay", relay->name, relay->address,
                   relay_states[relay->state], age, *relay->why ? ": " : "", relay->why);
}

static void print_answer(struct print *print, const struct status_answer *answer)
{
    const struct gt_device_status *status = &answer->status;
    double round_trip_s = answer->round_trip_s;
    unsigned n_more = (unsigned)status->n_sessions - status->n_others;
    char uptime[32];

    n_more -= GT_MIN(n_more, (unsigned)status->n_listed);
    for (size_t i = 0; i < status->n_listed; i++)
        print_session(print, &status->sessions[i]);
    if (n_more > 0)
        print_data(print, "    %u more\n", n_more);
    if (status->n_others > 0)
        print_data(print, "    %u of other operators\n", (unsigned)status->n_others);
    for (size_t i = 0; i < status->n_relays; i++)
        print_relay(print, &status->relays[i]);
    print_data(print, "  %-9s running for %s\n", "agent",
               gt_text_ago(status->uptime_s * UINT64_C(1000), uptime, sizeof(uptime)));
    if (round_trip_s < 1)
        print_data(print, "  %-9s in %.0f ms\n", "answered", 1000 * round_trip_s);
    else
        print_data(print, "  %-9s in %.1f s\n", "answered", round_trip_s);
    if (*answer->fault)
        print_data(print, "  %-9s it does not use its present configuration: %s\n", "warning",
                   answer->fault);
}

void status_output(struct print *print, const struct device_row *row,
                   const struct status_answer *answer)
{
    struct device_row current = *row;

    if (answer)
        current.n_sessions = answer->status.n_sessions;
    if (print->is_json) {
        json_t *object = device_output_json(&current);

        json_object_set_new(object, "answered", json_boolean(answer != NULL));
        if (answer)
            add_answer(object, answer);
        print_json(print, object);
        return;
    }
    device_output_one(print, &current);
    if (answer)
        print_answer(print, answer);
}
