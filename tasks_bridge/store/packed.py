"""
A record as few bytes as possible, because a million of them may wait: deflated against what records look like. Pure.

A packed record is one byte that names the packing, and a raw deflate stream (RFC 1951) whose preset dictionary is the
job's id and the text below. Names of fields and usual values then cost two or three bytes each. What begins with a
brace is a record of version 1: plain JSON.
"""

from __future__ import annotations

import zlib
from typing import Final

from tasks_bridge.record import RECORD_VERSION

_PACKING: Final = b"z"
_JSON: Final = b"{"

# Part of the format: with one character changed, it is another packing. What is likeliest stands last.
_TEXT: Final = (
    b'"exchange":"routing_key":"expires":"reply_to":"","shadow":"stamped_headers":["headers":{"chord_size":null'
    b'"subtask_type":"group","chain":[{"chord":{"task":"celery.accumulate","group_id":"","group_index":0'
    b'"link_error":[{"task":"","args":[],"kwargs":{"user_id":},"options":{"task_id":"","queue":"celery"}'
    b',"subtask_type":null,"immutable":false,"priority":0,"ignore_result":true,"root_id":"","parent_id":"'
    b'"has_callback":true,"is_booked":true,"is_unconfirmed":true,"attempts":1,"attempted_at":179'
    b'"refusal":{"name":"error":{"name":"JobFailed","args":["failures":1,"unsent":1,"ending_at":179'
    b'"status":"completed","credits_used":1.0,"output":[{"type":"image","url":"https://cdn.bytespike.ai/multimodal/'
    b'"type":"video","url":"https://","duration_seconds":8,"width":1920,"height":1080}]'
    b'"status":"failed","error_code":"content_policy_violation","error_message":"'
    b'{"version":2,"model":"seedream-v4","model":"sora-2-pro","key":"default","digest":"","created_at":179'
    b',"delay_s":0.0,"submit_by":179,"deadline_s":3600.0,"label":"","max_credits":1.0'
    b',"options":{"link":[{"task":"","args":[],"kwargs":{},"options":{"task_id":""},"subtask_type":null,'
    b'"immutable":false}]},"remote":{"task_id":"task_01","out_task_id":"","status":"pending","status":"running",'
    b'"estimated_credits":1.5,"estimated_seconds":30.0},"estimated_s":30.0,"submitted_at":179,"polled_at":179'
    b',"left_s":20.1,"progress":0.4,"polls":1}'
)


def pack(json: str, job_id: str) -> bytes:
    """The stored form of a record that is *json*."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS, memLevel=4, zdict=job_id.encode() + _TEXT)
    return _PACKING + deflate.compress(json.encode()) + deflate.flush()


def unpack(stored: bytes, job_id: str) -> bytes:
    """The JSON of a stored record. Of a packing that only a newer version knows, that there is such a record."""
    if stored.startswith(_PACKING):
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=job_id.encode() + _TEXT).decompress(stored[1:])
    return stored if stored.startswith(_JSON) else b'{"version":%d}' % (RECORD_VERSION + 1)
