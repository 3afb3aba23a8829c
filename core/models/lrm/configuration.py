# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading TripoSR's `config.yaml` and OpenLRM's `config.json` without a YAML library.

TripoSR's file uses little of YAML: keys with values, one level of nesting, comments, and `${section.key}` of OmegaConf.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ...errors import InputError

_LINE = re.compile(r"^(?P<indent>\s*)(?P<key>[A-Za-z_][\w.]*)\s*:\s*(?P<value>.*)$")
_REFERENCE = re.compile(r"^\$\{(\w+)\.(\w+)\}$")


def read_configuration(text: str) -> dict[str, Any]:
    """Text of a configuration file, JSON or the YAML described above -> nested dictionary.

    Raises:
        InputError: CONFIG_UNREADABLE with the line that is not understood.
    """
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise _unreadable(str(error)) from error
    out: dict[str, Any] = {}
    section: dict[str, Any] = out
    for line in text.splitlines():
        content = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if not content:
            continue
        match = _LINE.match(content)
        if match is None:
            raise _unreadable(line.strip())
        target = section if match["indent"] else out
        if match["value"]:
            target[match["key"]] = _scalar(match["value"])
        else:
            section = target[match["key"]] = {}
    for values in [v for v in out.values() if isinstance(v, dict)]:
        for key, value in values.items():
            reference = _REFERENCE.match(value) if isinstance(value, str) else None
            if reference:
                try:
                    values[key] = out[reference[1]][reference[2]]
                except (KeyError, TypeError) as error:
                    raise _unreadable(f"{key}: {value}") from error
    return out


def _scalar(text: str) -> Any:
    if text[0] in "\"'":
        return text.strip(text[0])
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("null", "~"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unreadable(what: str) -> InputError:
    return InputError(
        "CONFIG_UNREADABLE", f"The model's configuration cannot be read: {what}.", "Download the file again."
    )
