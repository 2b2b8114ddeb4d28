# distutils: language = c++
"""Request bytes -> typed arrays, and back, with no Python object per candidate.

What is accepted is exactly the schema (json_rank.pxd, json_events.pxd) over strict JSON
(json_scan.hpp); everything else raises `CodecError` from one place, `refuse`. Nothing of a refused
body is kept. The GIL is given up only for bodies long enough for another thread to profit.
"""

import difflib
import re

import numpy as np

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.string cimport string
from libcpp.vector cimport vector

from json_events cimport Attribute, Event, EventFields, EventSchema, scan_events_body
from json_rank cimport Columns, RankFields, scan_rank
from json_scan cimport (
    Candidates, Id, Names, Place, Scanner, Span, Text, TextReader, Twins, Unknown, sip_key,
    text_of, write_string,
)


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef enum:
    # About 30 us of scanning; below, taking the GIL back can cost more than it gives others.
    GIL_FREE_FROM = 32768


class CodecError(ValueError):
    """`field`: JSON path such as "items[3].id" ("" for the body); `reason`: what is wrong."""

    def __init__(self, field, reason):
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def __reduce__(self):
        return CodecError, (self.field, self.reason)


cdef str text_object(const Text* text):
    return PyUnicode_DecodeUTF8(text.data, <Py_ssize_t>text.size, NULL)


cdef object id_object(const char* body, const Id* value):
    cdef TextReader reader
    cdef Text text
    if not value.is_string:
        return value.number
    text = text_of(body, value.token, &reader)
    return text_object(&text)


cdef str path_of(const Place* place):
    path = place.member.decode() if place.member != NULL else ""
    if place.index >= 0:
        path += f"[{place.index}]"
    if place.leaf != NULL:
        path += f".{place.leaf.decode()}"
    if place.name.data != NULL and place.unknown != Unknown.kType:
        path += f".{text_object(&place.name)}" if path else text_object(&place.name)
    return path


cdef list names_of(const Names* names):
    return [names.names[i].decode() for i in range(names.count)]


def _hint(name, known):
    # Long names are not worth the search, which is quadratic in their length.
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) if len(name) <= 64 else []
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"


def _seen(bytes body, size_t at):
    """What stands at an offset, in a few words."""
    kinds = {b"{": "an object", b"[": "an array"}
    first = body[at:at + 1]
    if first in kinds:
        return kinds[first]
    token = re.match(rb'"[^"]*"?|[^\s,\]}]*', body[at:at + 40])
    return token.group().decode("utf-8", "backslashreplace")


cdef object refuse(bytes body, Scanner* scan, Place* place, columns, types):
    """Raises what the scanner and the place remember. The only place that does."""
    reason = scan.reason().decode()
    if place.unknown != Unknown.kNothing:
        name = text_object(&place.name)
        known = list(columns if place.unknown == Unknown.kColumn else types)
        if place.unknown == Unknown.kMember:
            known = names_of(place.known)
        shown = f" {name!r}" if place.unknown == Unknown.kType else ""
        raise CodecError(path_of(place), f"{reason}{shown}; {_hint(name, known)}")
    if reason.startswith("malformed"):
        reason = f"{reason} (at byte {scan.at()})"
    elif reason.startswith(("must be a ", "must be an ", "must be true", "must not be", "larger",
                            "too large")):
        reason = f"{reason}, got {_seen(body, scan.at())}"
    raise CodecError(path_of(place), reason)


cdef vector[Text] texts_of(names) except *:
    # Points into the names' own UTF-8, which lives as long as they do.
    cdef vector[Text] texts
    cdef Text text
    cdef Py_ssize_t size = 0
    for name in names:
        text.data = PyUnicode_AsUTF8AndSize(name, &size)
        text.size = <size_t>size
        texts.push_back(text)
    return texts


cdef size_t checked_size(bytes body) except 0:
    if len(body) == 0:
        raise CodecError("", "the body is empty; a JSON object is needed")
    if len(body) > 0x7FFFFFFF:
        raise CodecError("", "the body is longer than 2 GiB")
    return <size_t>len(body)


@cython.final
cdef class RankBody:
    """A decoded body of POST /v1/rank; members as in the stub file."""

    cdef readonly object user
    cdef readonly str ranker
    cdef readonly object item_hashes
    cdef readonly object item_features
    cdef bytes _body
    cdef RankFields _fields
    cdef Candidates _items

    def __init__(self):
        raise TypeError("made by decode_rank only")

    @property
    def top_k(self):
        return self._fields.top_k

    @property
    def timeout_ms(self):
        return self._fields.timeout_ms

    @property
    def explain(self):
        return self._fields.explain

    @property
    def count(self):
        return self._items.size()

    @property
    def items_are_strings(self):
        return self._fields.strings

    def pair_keys(self, bytes key not None):
        """[n, 2] keys of (user, item): (user, item) for integers; else SipHash-128 under `key`."""
        cdef uint64_t[:, ::1] keys = np.empty((self._items.size(), 2), dtype=np.uint64)
        cdef const char* body = PyBytes_AS_STRING(self._body)
        cdef const uint64_t* number = NULL
        cdef TextReader reader
        cdef Text text
        if len(key) != 16:
            raise ValueError(f"key must be 16 bytes, got {len(key)}")
        if self._fields.user.is_string:
            text = text_of(body, self._fields.user.token, &reader)
        else:
            number = &self._fields.user.number
        self._items.pair_keys(body, self._fields.strings, number, text.data, text.size,
                              sip_key(PyBytes_AS_STRING(key)), &keys[0, 0])
        return keys.base

    def encode_reply(self, str ranker not None, const int64_t[::1] order,
                     const float[::1] scores, bytes tail not None):
        """{"ranker":..., "items":[...],<tail>}; ValueError where order or scores are no reply."""
        cdef string out
        cdef Py_ssize_t size = 0
        cdef const char* name = PyUnicode_AsUTF8AndSize(ranker, &size)
        cdef size_t count = <size_t>order.shape[0]
        cdef bint good = True
        if <size_t>scores.shape[0] != self._items.size():
            raise ValueError(f"{scores.shape[0]} scores for {self._items.size()} candidates")
        out.append(b'{"ranker":')
        write_string(name, <size_t>size, &out)
        out.append(b',"items":[')
        if count != 0:
            good = self._items.write(PyBytes_AS_STRING(self._body), &order[0], count, &scores[0],
                                     &out)
        if not good:
            raise ValueError("order has a position out of range, or a score is not finite")
        out.append(b"],")
        out.append(PyBytes_AS_STRING(tail), <size_t>PyBytes_GET_SIZE(tail))
        if PyBytes_GET_SIZE(tail) == 0:
            out.pop_back()
        out.push_back(c"}")
        return PyBytes_FromStringAndSize(out.data(), <Py_ssize_t>out.size())


cdef bint fill_rank(RankBody made, bytes body, Scanner* scan, Columns* columns, Place* place,
                    size_t limit) except -1:
    cdef const char* text = PyBytes_AS_STRING(body)
    cdef RankFields* fields = &made._fields
    cdef Candidates* items = &made._items
    cdef bint good
    if PyBytes_GET_SIZE(body) < GIL_FREE_FROM:
        return scan_rank(text, scan, fields, columns, place, items, limit)
    with nogil:
        good = scan_rank(text, scan, fields, columns, place, items, limit)
    return good


cdef int publish_rank(RankBody made, bytes body, size_t width) except -1:
    # Turns what was scanned into the Python attributes.
    cdef const char* text = PyBytes_AS_STRING(body)
    cdef size_t count = made._items.size()
    cdef Id ranker
    cdef uint64_t[::1] hashes = np.empty(count, dtype=np.uint64)
    cdef float[:, ::1] features = np.empty((count, width), dtype=np.float32)
    memcpy(&hashes[0], made._items.hashes(), count * sizeof(uint64_t))
    if width != 0:
        memcpy(&features[0, 0], made._items.features(), count * width * sizeof(float))
    made._body = body
    made.user = id_object(text, &made._fields.user)
    ranker.is_string = True
    ranker.token = made._fields.ranker
    made.ranker = id_object(text, &ranker) if ranker.token.end != 0 else ""
    made.item_hashes = hashes.base
    made.item_features = features.base
    return 0


cdef int refuse_twins(RankBody made, bytes body) except -1:
    cdef Twins twins = made._items.twins(PyBytes_AS_STRING(body), made._fields.strings)
    if twins.first != twins.second:
        raise CodecError(f"items[{twins.second}]", f"the same item as items[{twins.first}]")
    return 0


def decode_rank(bytes body not None, feature_names, size_t max_items):
    """CodecError on anything that is not valid: malformed JSON, wrong types, unknown members (with
    the nearest known), no or more than `max_items` items, duplicate items, ids out of range,
    mixed id kinds, features that are unknown or not finite."""
    cdef size_t size = checked_size(body)
    cdef RankBody made = RankBody.__new__(RankBody)
    cdef Scanner scan
    cdef Place place
    cdef vector[Text] names = texts_of(feature_names)
    cdef vector[uint32_t] stamps = vector[uint32_t](names.size(), 0)
    cdef Columns columns = Columns(names.data(), names.size(), stamps.data())
    scan.start(PyBytes_AS_STRING(body), size)
    made._items.start(names.size())
    if not fill_rank(made, body, &scan, &columns, &place, max_items):
        if <bytes>scan.reason() == b"too many items":
            raise CodecError("items", f"more than {max_items} items (http.items_limit)")
        refuse(body, &scan, &place, feature_names, ())
    refuse_twins(made, body)
    publish_rank(made, body, names.size())
    return made


@cython.final
cdef class EventsBody:
    """A decoded body of POST /v1/events: columns of n events in the order sent."""

    cdef readonly Py_ssize_t count
    cdef readonly list users
    cdef readonly object items
    cdef readonly object t_ms
    cdef readonly object types
    cdef readonly list attributes

    def __init__(self):
        raise TypeError("made by decode_events only")


cdef EventsBody publish_events(bytes body, EventFields* fields, attribute_names):
    cdef EventsBody made = EventsBody.__new__(EventsBody)
    cdef const char* text = PyBytes_AS_STRING(body)
    cdef size_t count = fields.events.size()
    cdef size_t i
    cdef uint64_t[::1] items = np.empty(count, dtype=np.uint64)
    cdef int64_t[::1] t_ms = np.empty(count, dtype=np.int64)
    cdef uint16_t[::1] types = np.empty(count, dtype=np.uint16)
    for i in range(count):
        items[i] = fields.events[i].item.number
        t_ms[i] = fields.events[i].t_ms
        types[i] = fields.events[i].types
    made.count = <Py_ssize_t>count
    made.items = items.base
    made.t_ms = t_ms.base
    made.types = types.base
    made.users = [id_object(text, &fields.events[i].user) for i in range(count)]
    made.attributes = attributes_of(text, fields, attribute_names)
    return made


cdef list attributes_of(const char* body, EventFields* fields, names):
    cdef size_t i
    cdef Attribute attribute
    known = {}
    found = []
    for i in range(fields.users.size()):
        user = id_object(body, &fields.users[i])
        if user in known:
            raise CodecError(f"users[{i}]", f"the same user as users[{known[user]}]")
        known[user] = i
        found.append((user, {}))
    for attribute in fields.attributes:
        found[attribute.user][1][names[attribute.column]] = attribute.value
    return found


def decode_events(bytes body not None, type_names, attribute_names, size_t max_events):
    """{"events": [{"user", "item", "type" | "types": [...], "t_ms"?}, ...],
    "users"?: [{"id", "attributes": {name: number}}]}; CodecError as `decode_rank`."""
    cdef size_t size = checked_size(body)
    cdef Scanner scan
    cdef Place place
    cdef EventFields fields
    cdef EventSchema schema
    cdef vector[Text] types = texts_of(type_names)
    cdef vector[Text] names = texts_of(attribute_names)
    cdef vector[uint32_t] stamps = vector[uint32_t](names.size(), 0)
    if types.size() > 16:
        raise ValueError(f"at most 16 event types have a bit, got {types.size()}")
    schema.types = Columns(types.data(), types.size(), NULL)
    schema.attributes = Columns(names.data(), names.size(), stamps.data())
    schema.limit = max_events
    fields.seen = 0
    scan.start(PyBytes_AS_STRING(body), size)
    if not scan_events_body(&scan, &schema, &place, &fields):
        if (<bytes>scan.reason()).startswith(b"too many"):
            raise CodecError(place.member.decode(), f"more than {max_events} (http.events_limit)")
        refuse(body, &scan, &place, attribute_names, type_names)
    return publish_events(body, &fields, attribute_names)


def concat(hashes, features):
    """Jagged batch of several requests' candidates: (hashes [R], features [R, F], offsets)."""
    if len(hashes) != len(features) or not hashes:
        raise ValueError(f"need as many hashes as features, got {len(hashes)} and {len(features)}")
    offsets = np.zeros(len(hashes) + 1, dtype=np.int64)
    for i, (ids, rows) in enumerate(zip(hashes, features)):
        if len(ids) != len(rows):
            raise ValueError(f"request {i}: {len(ids)} hashes, {len(rows)} rows of features")
        offsets[i + 1] = offsets[i] + len(ids)
    if len(hashes) == 1:
        return hashes[0], features[0], offsets
    return np.concatenate(hashes), np.concatenate(features), offsets
