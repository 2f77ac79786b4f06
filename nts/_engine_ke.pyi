# The binding that _engine_build.py builds. cffi's objects have no static types.
from typing import Any

ffi: Any
lib: Any
