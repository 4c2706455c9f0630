/* SPDX-License-Identifier: ISC */
/* The resume policy; see the header. */
#include "gotthard/proto/resume.h"

bool gt_resume_must_wait(const struct gt_resume *resume)
{
    return resume->sent > 0 || resume->is_end_sent;
}

int gt_resume_evaluate(const struct gt_resume *resume, uint64_t offset, struct gt_resume_ack *ret)
{
    bool is_end_outstanding = resume->is_end_sent && resume->sent == resume->read;

    if (offset < resume->acked + resume->is_end_acked)
        return GT_RESUME_E_LOST;
    if (offset > resume->sent + is_end_outstanding)
        return GT_RESUME_E_UNSENT;
    uint64_t end = GT_MIN(offset, resume->read);
    *ret = (struct gt_resume_ack){
        .n_released = (size_t)(end - resume->acked),
        .is_end_acked = offset > end,
        .send_from = end,
    };
    return 0;
}
