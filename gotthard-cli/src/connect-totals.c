/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "connect-totals.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/text.h"

/* The sums of one moment: with the open streams, and all services together. */
struct moment {
    struct connect_total services[CONNECT_TOTALS_MAX];
    size_t n_services;
    struct connect_total all;
    double seconds;            /* since the tunnel was up */
    double up_rate, down_rate; /* bytes a second */
};

void connect_totals_init(struct connect_totals *totals, struct print *print, const char *device)
{
    *totals = (struct connect_totals){.print = print, .device = device};
}

void connect_totals_up(struct connect_totals *totals)
{
    totals->up_at = totals->reported_at = gt_clock();
}

void connect_totals_lost(struct connect_totals *totals)
{
    totals->n_losses++;
}

/* The last place is for all services that have no place. */
static struct connect_total *find_service(struct connect_total *services, size_t *n,
                                          const char *service)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(services[i].service, service) == 0)
            return &services[i];
    bool is_last = *n >= CONNECT_TOTALS_MAX - 1;
    if (*n < CONNECT_TOTALS_MAX)
        snprintf(services[(*n)++].service, sizeof(services[0].service), "%s",
                 is_last ? "others" : service);
    return &services[*n - 1];
}

void connect_totals_ended(struct connect_totals *totals, const char *service, uint64_t n_up,
                          uint64_t n_down)
{
    struct connect_total *total = find_service(totals->ended, &totals->n_services, service);

    total->n_streams++;
    total->n_up += n_up;
    total->n_down += n_down;
}

static void add_open(void *userdata, const char *service, uint64_t n_up, uint64_t n_down)
{
    struct moment *moment = userdata;
    struct connect_total *total = find_service(moment->services, &moment->n_services, service);

    total->n_streams++;
    total->n_open++;
    total->n_up += n_up;
    total->n_down += n_down;
}

static void take_moment(const struct connect_totals *totals, const struct session *session,
                        struct moment *ret)
{
    double now = gt_clock();

    memset(ret, 0, sizeof(*ret));
    memcpy(ret->services, totals->ended, sizeof(ret->services));
    ret->n_services = totals->n_services;
    session_each_stream(session, add_open, ret);
    for (size_t i = 0; i < ret->n_services; i++) {
        ret->all.n_streams += ret->services[i].n_streams;
        ret->all.n_open += ret->services[i].n_open;
        ret->all.n_up += ret->services[i].n_up;
        ret->all.n_down += ret->services[i].n_down;
    }
    ret->seconds = totals->up_at > 0 ? now - totals->up_at : 0;
    double interval = totals->up_at > 0 ? now - totals->reported_at : 0;
    if (interval < 1e-3)
        return;
    ret->up_rate = (double)(ret->all.n_up - totals->reported_up) / interval;
    ret->down_rate = (double)(ret->all.n_down - totals->reported_down) / interval;
}

/* --- output */

/* Writes an amount with three digits at least. Returns @ret. */
static const char *format_bytes(double n, char ret[static 16])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;

    while (n >= 1000 && unit + 1 < GT_ARRAY_SIZE(units)) {
        n /= 1000;
        unit++;
    }
    snprintf(ret, 16, unit == 0 || n >= 100 ? "%.0f %s" : "%.1f %s", n, units[unit]);
    return ret;
}

static json_t *json_of_total(const struct connect_total *total)
{
    return json_pack("{s:i, s:i, s:I, s:I}", "connections", (int)total->n_streams, "open",
                     (int)total->n_open, "up", (json_int_t)total->n_up, "down",
                     (json_int_t)total->n_down);
}

static void print_totals_event(struct connect_totals *totals, const struct moment *moment)
{
    json_t *services = json_object();

    for (size_t i = 0; i < moment->n_services; i++)
        json_object_set_new(services, moment->services[i].service,
                            json_of_total(&moment->services[i]));
    print_event(totals->print, "totals", "{s:s, s:f, s:i, s:i, s:i, s:I, s:I, s:f, s:f, s:O}",
                "device", totals->device, "seconds", moment->seconds, "losses",
                (int)totals->n_losses, "connections", (int)moment->all.n_streams, "open",
                (int)moment->all.n_open, "up", (json_int_t)moment->all.n_up, "down",
                (json_int_t)moment->all.n_down, "up_rate", moment->up_rate, "down_rate",
                moment->down_rate, "services", services);
    json_decref(services);
}

static void print_total(struct connect_totals *totals, const struct connect_total *total)
{
    char up[16], down[16];

    print_note(totals->print, "  %s: %u connection%s (%u open), %s up, %s down", total->service,
               total->n_streams, total->n_streams == 1 ? "" : "s", total->n_open,
               format_bytes((double)total->n_up, up), format_bytes((double)total->n_down, down));
}

static void print_sum(struct connect_totals *totals, const char *intro, const struct moment *moment)
{
    char up[16], down[16], up_rate[16], down_rate[16], took[32];

    print_note(totals->print,
               "%s%s: %u connection%s, %s up, %s down in %s (%s/s up, %s/s down), %u loss%s of the "
               "relay or the device",
               intro, totals->device, moment->all.n_streams, moment->all.n_streams == 1 ? "" : "s",
               format_bytes((double)moment->all.n_up, up),
               format_bytes((double)moment->all.n_down, down),
               gt_text_ago((uint64_t)(moment->seconds * 1000), took, sizeof(took)),
               format_bytes(moment->up_rate, up_rate), format_bytes(moment->down_rate, down_rate),
               totals->n_losses, totals->n_losses == 1 ? "" : "es");
}

void connect_totals_report(struct connect_totals *totals, const struct session *session)
{
    struct moment moment;

    take_moment(totals, session, &moment);
    print_totals_event(totals, &moment);
    print_sum(totals, "", &moment);
    for (size_t i = 0; i < moment.n_services; i++)
        print_total(totals, &moment.services[i]);
    totals->reported_at = gt_clock();
    totals->reported_up = moment.all.n_up;
    totals->reported_down = moment.all.n_down;
}

void connect_totals_close(struct connect_totals *totals, const struct session *session)
{
    struct moment moment;

    if (totals->up_at <= 0)
        return;
    totals->reported_at = totals->up_at;
    totals->reported_up = totals->reported_down = 0;
    take_moment(totals, session, &moment);
    print_totals_event(totals, &moment);
    print_sum(totals, "total of ", &moment);
}
