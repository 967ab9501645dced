"""Workload traces: read them, write them, generate them, describe them."""

from sojourn.trace.describe import describe_trace, hit_blocks
from sojourn.trace.formats import READERS
from sojourn.trace.generate import generate_trace
from sojourn.trace.model import UNNAMED, Trace, build_trace
from sojourn.trace.read import SAMPLE, detect_format, read_trace
from sojourn.trace.session_prefixes import with_session_prefixes
from sojourn.trace.spec import GenerateSpec, ServegenSpec, SessionSpec, TenantSpec, load_spec
from sojourn.trace.write import WRITERS, convert_trace, table_of, write_trace

__all__ = [
    "READERS",
    "SAMPLE",
    "UNNAMED",
    "WRITERS",
    "GenerateSpec",
    "ServegenSpec",
    "SessionSpec",
    "TenantSpec",
    "Trace",
    "build_trace",
    "convert_trace",
    "describe_trace",
    "detect_format",
    "generate_trace",
    "hit_blocks",
    "load_spec",
    "read_trace",
    "table_of",
    "with_session_prefixes",
    "write_trace",
]
