/* SPDX-License-Identifier: ISC */
/*
 * Writes and reads records by their layout; see the header. Descriptors are u32, -1 as its two's
 * complement, so that a record has only one encoding.
 */
#include "snapshot/saved-layout.h"

#define FIRST_FD 3 /* after the standard streams */

static int fd_of(const struct saved_fd *row, const void *record)
{
    int fd;

    memcpy(&fd, (const char *)record + row->offset, sizeof(fd));
    return fd;
}

void saved_layout_write(const struct saved_layout *layout, struct gt_writer *writer,
                        const void *record)
{
    gt_write_u8(writer, (uint8_t)layout->kind);
    gt_fields_write(writer, layout->fields, layout->n_fields, record);
    for (size_t i = 0; i < layout->n_fds; i++)
        gt_write_u32(writer, (uint32_t)fd_of(&layout->fds[i], record));
}

static void read_fd(const struct saved_fd *row, struct gt_reader *reader, void *ret_record)
{
    int fd = (int)gt_read_u32(reader);

    if ((fd < FIRST_FD || fd >= SAVED_FD_MAX) && !(fd == -1 && row->is_optional))
        reader->failed = true;
    if (reader->failed)
        fd = -1;
    memcpy((char *)ret_record + row->offset, &fd, sizeof(fd));
}

void saved_layout_read(const struct saved_layout *layout, struct gt_reader *reader,
                       void *ret_record)
{
    gt_fields_read(reader, layout->fields, layout->n_fields, ret_record);
    for (size_t i = 0; i < layout->n_fds; i++)
        read_fd(&layout->fds[i], reader, ret_record);
    if (!reader->failed && layout->is_valid && !layout->is_valid(ret_record))
        reader->failed = true;
}

int saved_layout_each_fd(const struct saved_layout *layout, const void *record, saved_fd_fn on_fd,
                         void *userdata)
{
    for (size_t i = 0; i < layout->n_fds; i++) {
        int fd = fd_of(&layout->fds[i], record);
        int r = fd < 0 ? 0 : on_fd(userdata, fd, layout->fds[i].type);

        if (r)
            return r;
    }
    return 0;
}
