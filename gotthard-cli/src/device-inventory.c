/* SPDX-License-Identifier: ISC */
/* See the header, and Ansible's "Developing dynamic inventory". */
#include "device-inventory.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "device-output.h"

#define GROUP_SIZE (GT_TAG_KEY_MAX + GT_TAG_VALUE_MAX + 2)

const char *device_inventory_group(struct gt_span key, struct gt_span value, char *ret, size_t cap)
{
    snprintf(ret, cap, "%.*s_%.*s", (int)key.n, (const char *)key.data, (int)value.n,
             (const char *)value.data);
    for (char *c = ret; *c; c++)
        if (!isalnum((unsigned char)*c))
            *c = '_';
    return ret;
}

static void add_host(json_t *inventory, const char *group, const char *host)
{
    json_t *hosts = json_object_get(json_object_get(inventory, group), "hosts");

    if (!hosts) {
        hosts = json_array();
        json_object_set_new(inventory, group, json_pack("{s:o}", "hosts", hosts));
    }
    json_array_append_new(hosts, json_string(host));
}

/* Returns false if the device has no tags. */
static bool add_to_groups(json_t *inventory, const struct device_row *row)
{
    bool has_tags = false;

    for (const char *at = row->tags; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        struct gt_span key, value;
        char group[GROUP_SIZE];

        if (gt_tag_split(gt_span(at, n), &key, &value)) {
            add_host(inventory, device_inventory_group(key, value, group, sizeof(group)),
                     row->name);
            has_tags = true;
        }
        at += n;
    }
    return has_tags;
}

/* The name that ssh_config(5) of this package knows, and the state for conditions of a playbook. */
static json_t *variables_of(const struct device_row *row)
{
    json_t *device = device_output_json(row);
    char host[GT_NAME_MAX + sizeof(".gotthard")];

    snprintf(host, sizeof(host), "%s.gotthard", row->name);
    json_object_del(device, "device");
    return json_pack("{s:s, s:o}", "ansible_host", host, "gotthard", device);
}

/* "all" has every group as a child, as the output of `ansible-inventory --list`. */
static json_t *children_of(json_t *inventory)
{
    json_t *children = json_array(), *group;
    const char *name;

    json_object_foreach(inventory, name, group) json_array_append_new(children, json_string(name));
    return children;
}

json_t *device_inventory_json(const struct device_table *table, const struct selection *selection)
{
    json_t *inventory = json_object(), *variables = json_object();

    for (const struct device_row *row = table->rows; row; row = row->hh.next) {
        if (row->knowledge != DEVICE_AUTHENTIC || !selection_accepts(selection, row))
            continue;
        json_object_set_new(variables, row->name, variables_of(row));
        add_host(inventory, row->is_online ? "gotthard_online" : "gotthard_offline", row->name);
        if (!add_to_groups(inventory, row))
            add_host(inventory, "ungrouped", row->name);
    }
    json_object_set_new(inventory, "all", json_pack("{s:o}", "children", children_of(inventory)));
    json_object_set_new(inventory, "_meta", json_pack("{s:o}", "hostvars", variables));
    return inventory;
}
