/* SPDX-License-Identifier: ISC */
/*
 * Encoding and assembly of the parts of an access list. Cheap checks come first, and a signature is
 * verified before a part changes anything: any client may send parts.
 */
#include "gotthard/trust/access-parts.h"

#include "gotthard/base/fields.h"

#define MAGIC "GTM1\x06"

static const struct gt_field fields[] = {
    GT_FIELD_U64(struct gt_access_part, serial),
    GT_FIELD_U32(struct gt_access_part, size),
    GT_FIELD_U16(struct gt_access_part, part),
    GT_FIELD_ORDINAL16(struct gt_access_part, parts),
    GT_FIELD_BYTES(struct gt_access_part, hash, GT_KEY_SIZE),
    GT_FIELD_SPAN(struct gt_access_part, piece),
};

/* Returns the place of a part in the text; of the one after the last: the size. */
static size_t part_place(size_t size, size_t part, size_t parts)
{
    return (size_t)((uint64_t)size * part / parts);
}

size_t gt_access_parts_count(size_t size, size_t piece_max)
{
    return (size + piece_max - 1) / piece_max;
}

static bool is_possible(uint64_t serial, size_t size, size_t part, size_t parts)
{
    return serial >= 1 && serial <= GT_ACCESS_SERIAL_MAX && size >= 1 &&
           size <= GT_ACCESS_TEXT_MAX && part < parts && parts <= GT_ACCESS_PARTS_MAX &&
           parts <= size;
}

int gt_access_part_encode(const uint8_t key[static GT_KEY_SIZE], struct gt_span text,
                          uint64_t serial, size_t part, size_t parts, uint8_t *ret, size_t *ret_n)
{
    struct gt_writer w = gt_writer(ret, GT_ACCESS_PART_MAX - GT_ED25519_SIGNATURE_SIZE);

    if (!is_possible(serial, text.n, part, parts))
        return GT_ACCESS_PART_E_BAD;
    size_t from = part_place(text.n, part, parts), to = part_place(text.n, part + 1, parts);
    struct gt_access_part record = {
        .serial = serial,
        .size = (uint32_t)text.n,
        .part = (uint16_t)part,
        .parts = (uint16_t)parts,
        .piece = gt_span(text.data + from, to - from),
    };
    int r = gt_sha256(&text, 1, record.hash);
    if (r)
        return r;
    gt_write_bytes(&w, MAGIC, sizeof(MAGIC) - 1);
    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), &record);
    if (w.failed)
        return GT_ACCESS_PART_E_BAD;
    r = gt_access_sign(key, GT_ACCESS_CONTEXT_PART, gt_span(ret, w.n), ret + w.n);
    if (r == 0)
        *ret_n = w.n + GT_ED25519_SIGNATURE_SIZE;
    return r;
}

int gt_access_part_decode(struct gt_span payload, struct gt_access_part *ret)
{
    struct gt_reader r = gt_reader(payload.data, payload.n);
    struct gt_span magic = gt_read_bytes(&r, sizeof(MAGIC) - 1);
    struct gt_access_part part = {0};

    if (payload.n > GT_ACCESS_PART_MAX || !gt_span_equals(magic, gt_span(MAGIC, sizeof(MAGIC) - 1)))
        return GT_ACCESS_PART_E_BAD;
    gt_fields_read(&r, fields, GT_ARRAY_SIZE(fields), &part);
    part.body = gt_span(payload.data, payload.n - r.left);
    gt_read_into(&r, part.signature, sizeof(part.signature));
    if (!gt_reader_is_done(&r) || !is_possible(part.serial, part.size, part.part, part.parts) ||
        part.piece.n != part_place(part.size, part.part + 1U, part.parts) -
                            part_place(part.size, part.part, part.parts))
        return GT_ACCESS_PART_E_BAD;
    *ret = part;
    return 0;
}

/* --- assembly --------------------------------------------------------------------------------- */

void gt_access_assembly_init(struct gt_access_assembly *assembly)
{
    *assembly = (struct gt_access_assembly){0};
}

void gt_access_assembly_deinit(struct gt_access_assembly *assembly)
{
    free(assembly->text);
    free(assembly->has);
    *assembly = (struct gt_access_assembly){0};
}

/* Returns true if @part belongs to the text that is being received. */
static bool assembly_has_text(const struct gt_access_assembly *assembly,
                              const struct gt_access_part *part)
{
    return assembly->serial == part->serial && assembly->size == part->size &&
           assembly->parts == part->parts && memcmp(assembly->hash, part->hash, GT_KEY_SIZE) == 0;
}

static int assembly_start(struct gt_access_assembly *assembly, const struct gt_access_part *part)
{
    struct gt_access_assembly new = {
        .serial = part->serial,
        .size = part->size,
        .parts = part->parts,
        .n_missing = part->parts,
        .text = malloc(part->size),
        .has = calloc(part->parts, sizeof(*new.has)),
    };

    if (!new.text || !new.has) {
        gt_access_assembly_deinit(&new);
        return -ENOMEM;
    }
    memcpy(new.hash, part->hash, sizeof(new.hash));
    gt_access_assembly_deinit(assembly);
    *assembly = new;
    return 0;
}

/* Returns 0 with the whole text, or E_BAD if it is not what the authority signed: a fault of its
 * program, since each part was signed. */
static int assembly_finish(struct gt_access_assembly *assembly, uint8_t **ret_text, size_t *ret_n)
{
    struct gt_span text = gt_span(assembly->text, assembly->size);
    uint8_t hash[GT_KEY_SIZE];
    int r = gt_sha256(&text, 1, hash);

    if (r == 0 && memcmp(hash, assembly->hash, sizeof(hash)) != 0)
        r = GT_ACCESS_PART_E_BAD;
    if (r == 0) {
        *ret_text = gt_steal(&assembly->text);
        *ret_n = text.n;
    }
    gt_access_assembly_deinit(assembly);
    return r;
}

/* Returns 0 if a part with a valid signature is needed. */
static int assembly_judge(const struct gt_access_assembly *assembly,
                          const struct gt_access_part *part, uint64_t in_force)
{
    if (part->serial <= in_force || part->serial < assembly->serial)
        return GT_ACCESS_PART_E_OLD;
    if (assembly_has_text(assembly, part) && assembly->has[part->part])
        return GT_ACCESS_PART_E_TWICE;
    return 0;
}

int gt_access_assembly_add(struct gt_access_assembly *assembly, struct gt_span payload,
                           const uint8_t authority[static GT_KEY_SIZE], uint64_t in_force,
                           uint8_t **ret_text, size_t *ret_n)
{
    struct gt_access_part part;
    int r = gt_access_part_decode(payload, &part);

    if (r == 0)
        r = assembly_judge(assembly, &part, in_force);
    if (r)
        return r;
    r = gt_access_verify(authority, GT_ACCESS_CONTEXT_PART, part.body, part.signature);
    if (r == 0 && !assembly_has_text(assembly, &part))
        r = assembly_start(assembly, &part);
    if (r)
        return r < 0 ? r : GT_ACCESS_PART_E_BAD;
    memcpy(assembly->text + part_place(part.size, part.part, part.parts), part.piece.data,
           part.piece.n);
    assembly->has[part.part] = true;
    return --assembly->n_missing > 0 ? GT_ACCESS_PART_E_MORE
                                     : assembly_finish(assembly, ret_text, ret_n);
}
