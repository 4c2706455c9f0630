/* SPDX-License-Identifier: ISC */
/* A binder is looked up only after it was verified, so that no peer without a key learns which ones
 * were seen. */
#include "control/proof.h"

/* Tries the relay's key @which. */
static bool proof_try(const struct admission *admission, size_t which,
                      const struct gt_client_hello *hello, struct proof *ret)
{
    bool is_known = hello->identity.n <= GT_IDENTITY_MAX &&
                    admission_find_psk(admission, which, hello->identity, ret->psk, ret->key_id);

    if (!is_known)
        memset(ret->psk, 0, GT_KEY_SIZE);
    return gt_client_hello_proves(hello, ret->psk) && is_known;
}

int proof_check(const struct admission *admission, struct seen_binders *seen,
                const struct gt_client_hello *hello, struct proof *ret)
{
    struct proof proof = {.identity = ""};
    bool is_proved = false;
    int r = 0;

    for (size_t which = 0; which < admission->n_keys && !is_proved; which++)
        is_proved = proof_try(admission, which, hello, &proof);
    if (!is_proved)
        r = PROOF_E_WRONG_KEY;
    else if (!seen_binders_add(seen, hello->binder.data))
        r = PROOF_E_REPLAYED;
    if (!r) {
        memcpy(proof.identity, hello->identity.data, hello->identity.n);
        *ret = proof;
    }
    gt_wipe(&proof, sizeof(proof));
    return r;
}
