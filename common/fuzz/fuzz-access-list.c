/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as an access list, without and with a signature. A rejection has a reason. An accepted
 * list can be signed and opened, and every lookup ends.
 */
#include "gotthard/trust/access-list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void look_up(const struct gt_access_list *list, struct gt_span text)
{
    uint8_t fingerprint[GT_KEY_SIZE] = {0};
    char name[GT_NAME_MAX + 2] = "";

    memcpy(name, text.data, GT_MIN(text.n, sizeof(name) - 1));
    must(gt_access_list_serial(list) >= 1 && gt_access_list_serial(list) <= GT_ACCESS_SERIAL_MAX);
    must(!gt_access_list_operator(list, name, fingerprint, name, 0) ||
         !gt_access_list_is_revoked(list, true, name));
    must(!gt_access_list_device(list, name, fingerprint, 0) ||
         !gt_access_list_is_revoked(list, false, name));
}

static void sign_and_open(struct gt_span text)
{
    static const uint8_t key[GT_KEY_SIZE] = "fuzz";
    uint8_t authority[GT_KEY_SIZE];
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY] = "", *whole = NULL;
    size_t n = 0;

    must(gt_ed25519_public(key, authority) == 0);
    must(gt_access_list_sign(text, key, &whole, &n, why) == 0);
    must(gt_access_list_open(gt_span(whole, n), authority, &list, why) == 0);
    gt_access_list_free(list);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t authority[GT_KEY_SIZE] = {1};
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY] = "";
    struct gt_span text = gt_span(data, n);

    must(gt_access_list_open(text, authority, &list, why) > 0 && *why);
    *why = 0;
    int r = gt_access_list_parse(text, &list, why);
    must(r == 0 || (r == GT_ACCESS_E_SYNTAX && *why));
    if (r)
        return 0;
    look_up(list, text);
    if (data[n - 1] == '\n')
        sign_and_open(text);
    gt_access_list_free(list);
    return 0;
}
